//! The tar reader alone. The first byte says how to read: bit 0 mends the checksums of blocks before, the rest is the
//! size of reads.

use std::io::Read;

use super::super::tar::{Entry, Tar};
use crate::error::Result;
use crate::fuzz::input::{self, Pieces};

/// An archive as it was read: names, sizes, contents.
type Seen = Vec<(String, bool, Vec<u8>)>;

pub fn run(data: &[u8]) {
    let (how, archive) = input::byte(data);
    let mut archive = archive.to_vec();
    if how & 1 == 0 {
        input::seal_all(&mut archive);
    }
    let whole = read(&archive, usize::MAX, archive.len());
    let pieces = read(&archive, 1 + usize::from(how >> 1), 1 + usize::from(how >> 4));
    assert_eq!(whole, pieces, "the size of reads must not matter");
    if let (_, None) = &whole {
        assert_eq!(again(&whole.0), whole.0, "what was read can be written and is read the same");
    }
    skip(&archive, &whole.0);
}

/// Every entry up to the end or the first error, read from pieces of at most `most` bytes into `buffer` bytes.
fn read(archive: &[u8], most: usize, buffer: usize) -> (Seen, Option<&'static str>) {
    let mut tar = Tar::new(Pieces { left: archive, most }, "the archive");
    let mut seen = Seen::new();
    let mut buffer = vec![0; buffer.max(1)];
    loop {
        let entry = match tar.next_entry() {
            Ok(Some(entry)) => entry,
            Ok(None) => {
                assert!(matches!(tar.next_entry(), Ok(None)), "the end stays the end");
                return (seen, None);
            }
            Err(e) => return (seen, Some(e.code)),
        };
        check(&entry);
        assert!(seen.len() < archive.len() / 512, "an entry without a block");
        let mut content = Vec::new();
        loop {
            match tar.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => content.extend_from_slice(&buffer[..n]),
                Err(e) => return (seen, Some(super::super::fault::lift(e).code)),
            }
        }
        assert_eq!(content.len() as u64, entry.size, "a content is whole or an error");
        assert_eq!(tar.left(), 0);
        seen.push((entry.name, entry.directory, content));
    }
}

/// The same names when contents are skipped, or fetched within a limit.
fn skip(archive: &[u8], seen: &Seen) {
    let mut tar = Tar::new(Pieces { left: archive, most: usize::MAX }, "the archive");
    for (n, (name, directory, content)) in seen.iter().enumerate() {
        let entry = tar.next_entry().unwrap().unwrap();
        assert_eq!((&entry.name, entry.directory, entry.size), (name, *directory, content.len() as u64));
        let short: Result<Vec<u8>> = match n % 3 {
            0 => continue,
            1 => tar.content(&entry, entry.size),
            _ => tar.content(&entry, entry.size.saturating_sub(1)),
        };
        match short {
            Ok(fetched) => assert_eq!(&fetched, content),
            Err(e) => assert_eq!(e.code, "ARTIFACT-LIMIT"),
        }
    }
}

fn check(entry: &Entry) {
    assert!((1..=255).contains(&entry.name.len()) && !entry.name.contains('\0'), "{entry:?}");
    assert!(entry.size <= i64::MAX as u64 && !(entry.directory && entry.size > 0), "{entry:?}");
}

fn again(seen: &Seen) -> Seen {
    let mut archive = Vec::new();
    for (name, directory, content) in seen {
        if *directory {
            archive.extend_from_slice(&input::block(name.as_bytes(), 0, b'5'));
            if name.len() > 100 {
                return seen.clone();
            }
        } else {
            input::entry(&mut archive, name.as_bytes(), content);
        }
    }
    archive.extend_from_slice(&[0; 1024]);
    let (seen, error) = read(&archive, usize::MAX, 4096);
    assert_eq!(error, None);
    seen
}
