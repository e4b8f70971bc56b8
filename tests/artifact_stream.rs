//! How payload files are handed out, whatever the source does: short reads, interruptions, failures, gigabytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "data/artifact_writer.rs"]
mod artifact_writer;

use std::io::{self, ErrorKind, Read};

use artifact_writer::*;
use thimble::artifact::{self, Opened};

/// Gives one byte at a time, and is interrupted before each.
struct Trickle<'a>(&'a [u8], bool);

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1 = !self.1;
        if self.1 {
            return Err(ErrorKind::Interrupted.into());
        }
        let n = buffer.len().min(1);
        self.0.read(&mut buffer[..n])
    }
}

/// Fails after so many bytes, as a network does.
struct Failing<'a>(&'a [u8]);

impl Read for Failing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::Error::new(ErrorKind::ConnectionReset, "peer 192.0.2.1 went away")),
            n => Ok(n),
        }
    }
}

fn sample(pack: Pack) -> Recipe {
    let scripts = vec![("ArtifactCommit_Leave_99".to_owned(), b"exit 0".to_vec())];
    Recipe { pack, scripts, ..Recipe::default() }
}

fn open(bytes: &[u8]) -> Opened<&[u8]> {
    artifact::open(bytes, &NO_KEYS).unwrap()
}

#[test]
fn short_reads_and_interruptions_change_nothing() {
    for pack in PACKS {
        let bytes = sample(pack).build();
        let seen = read_with(Trickle(&bytes, false), &NO_KEYS).unwrap();
        assert_eq!((seen.files, seen.scripts), (sample(pack).files, sample(pack).scripts));
    }
}

#[test]
fn a_failing_source_is_reported_as_such_with_its_own_words_at_every_byte() {
    for pack in PACKS {
        let bytes = sample(pack).build();
        for end in (0..bytes.len()).step_by(7) {
            let error = read_with(Failing(&bytes[..end]), &NO_KEYS).unwrap_err();
            assert_eq!(error.code, "ARTIFACT-READ", "at {end}: {}", error.text);
            assert!(error.text.contains("peer 192.0.2.1 went away"), "{}", error.text);
            assert!(error.text.contains(&format!("byte {end}")), "{}", error.text);
        }
    }
}

#[test]
fn a_source_that_counts_wrongly_cannot_do_harm() {
    struct Liar;
    impl Read for Liar {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            Ok(buffer.len() + 1)
        }
    }
    assert_eq!(read_with(Liar, &NO_KEYS).unwrap_err().code, "ARTIFACT-READ");
}

#[test]
fn a_file_that_is_not_read_to_its_end_is_verified_all_the_same() {
    let recipe = sample(Pack::Gzip);
    let good = recipe.build();
    for read_before in [0, 1, 4, 5] {
        let mut payload = open(&good).payload;
        assert_eq!(payload.next_file().unwrap(), Some(("a.txt".into(), 5)));
        let mut buffer = vec![0; read_before];
        let n = payload.read(&mut buffer).unwrap();
        assert_eq!(&buffer[..n], &b"hello"[..n]);
        assert_eq!(payload.next_file().unwrap(), Some(("b.bin".into(), 700)));
        assert_eq!(payload.next_file().unwrap(), None);
    }
    let bad = recipe.with_data(&[entry("a.txt", b"hellO"), entry("b.bin", &[7; 700])]);
    let mut payload = open(&bad).payload;
    payload.next_file().unwrap();
    assert_eq!(payload.next_file().unwrap_err().code, "ARTIFACT-CHECKSUM");
}

#[test]
fn the_last_bytes_of_a_wrong_file_are_never_handed_out() {
    let recipe = sample(Pack::Gzip);
    let bad = recipe.with_data(&[entry("a.txt", b"hellO"), entry("b.bin", &[7; 700])]);
    for size in 1..10 {
        let mut payload = open(&bad).payload;
        payload.next_file().unwrap();
        let (mut buffer, mut got) = (vec![0; size], 0);
        let error = loop {
            match payload.read(&mut buffer) {
                Ok(0) => panic!("taken for the end"),
                Ok(n) => got += n,
                Err(error) => break error,
            }
        };
        assert_eq!(error.code, "ARTIFACT-CHECKSUM");
        assert!(error.text.contains("data/0000/a.txt"), "{}", error.text);
        assert!(got < 5, "{got} bytes");
    }
}

#[test]
fn after_an_error_every_call_repeats_it() {
    let recipe = sample(Pack::Plain);
    let bad = recipe.with_data(&[entry("a.txt", b"hellO"), entry("b.bin", &[7; 700])]);
    let mut payload = open(&bad).payload;
    payload.next_file().unwrap();
    let error = payload.read(&mut [0; 99]).unwrap_err();
    for _ in 0..3 {
        assert_eq!(payload.next_file().unwrap_err(), error);
        assert_eq!(payload.read(&mut [0; 9]).unwrap_err(), error);
    }
}

#[test]
fn reading_without_a_current_file_gives_nothing() {
    let bytes = sample(Pack::Gzip).build();
    let mut payload = open(&bytes).payload;
    assert_eq!(payload.read(&mut [0; 9]).unwrap(), 0);
    payload.next_file().unwrap();
    assert_eq!(payload.read(&mut []).unwrap(), 0, "no room");
    assert_eq!(payload.read(&mut [0; 9]).unwrap(), 5);
    assert_eq!(payload.read(&mut [0; 9]).unwrap(), 0);
    while payload.next_file().unwrap().is_some() {}
    assert_eq!(payload.read(&mut [0; 9]).unwrap(), 0);
}

#[test]
fn an_empty_file_is_verified_too() {
    let files = vec![("empty".to_owned(), Vec::new())];
    let seen = read(&Recipe { files, ..sample(Pack::Gzip) }.build()).unwrap();
    assert_eq!(seen.files, [("empty".to_owned(), Vec::new())]);
    let wrong = sample(Pack::Gzip).with_data(&[entry("a.txt", b"")]);
    assert_eq!(open(&wrong).payload.next_file().unwrap_err().code, "ARTIFACT-CHECKSUM");
}

#[test]
fn scripts_can_be_extracted_again_partly_or_given_up() {
    let scripts: Vec<_> =
        (0..3).map(|n| (format!("ArtifactInstall_Enter_0{n}"), vec![n as u8; 2000])).collect();
    let bytes = Recipe { scripts, ..Recipe::default() }.build();
    let opened = open(&bytes);
    for _ in 0..2 {
        let mut names = Vec::new();
        opened
            .scripts
            .extract(&mut |name, content| {
                names.push(name.to_owned());
                content.read_exact(&mut [0; 10]).unwrap();
                Ok(())
            })
            .unwrap();
        assert_eq!(names, opened.scripts.names());
    }
    let mut calls = 0;
    let stop = thimble::error::Error::new("DISK-FULL", "no space");
    let result = opened.scripts.extract(&mut |_, _| {
        calls += 1;
        Err(stop.clone())
    });
    assert_eq!((result, calls), (Err(stop), 1));
}

/// Beyond what an octal field can say, and what a 32-bit machine can count in its own words.
#[test]
fn sizes_of_many_gigabytes_are_read_from_pax_and_from_base_256() {
    let recipe = sample(Pack::Plain);
    for size in [(1u64 << 33) - 1, 1 << 33, (1 << 33) + 1, 100 << 30, 1 << 45] {
        let mut binary = [0; 12];
        binary[0] = 0x80;
        binary[4..].copy_from_slice(&size.to_be_bytes());
        let record = format!("size={size}\n");
        let record = format!("{} {record}", record.len() + 3);
        let pax = [
            typed("PaxHeaders.0/a.txt", b'x', record.as_bytes()),
            block(b"a.txt", if size >> 33 == 0 { b"77777777777\0" } else { b"00000000000\0" }, b'0', |_| ())
                .to_vec(),
        ];
        for data in [pax.concat(), block(b"a.txt", &binary, b'0', |_| ()).to_vec()] {
            let bytes = recipe.with_data(&[data, vec![7; 4096]]);
            let mut opened = open(&bytes);
            assert_eq!(opened.payload.next_file().unwrap(), Some(("a.txt".into(), size)));
            let mut buffer = [0; 2048];
            assert_eq!(opened.payload.read(&mut buffer).unwrap(), 2048);
            // The rest is not there, and that is noticed.
            assert_eq!(opened.payload.next_file().unwrap_err().code, "ARTIFACT-TRUNCATED");
        }
    }
}

/// More than a machine of 32 bits can count in its own words, more than an octal field holds: to its last byte.
#[test]
fn a_file_of_more_than_8_gib_is_handed_out_and_verified_whole() {
    const SIZE: u64 = (8 << 30) + 4097;
    // head -c 8589938689 /dev/zero | sha256sum
    const SUM: &str = "61b36852f86d0b37c6c0ec1f4b573decfce2facc1d018a8daba3c903fd5cb0ef";
    let recipe = Recipe { pack: Pack::Plain, files: Vec::new(), ..Recipe::default() };
    let mut parts = recipe.parts();
    parts.pop();
    parts[1].1 = [format!("{SUM}  data/0000/a\n").into_bytes(), parts[1].1.clone()].concat();
    let mut front = join(&parts);
    front.truncate(front.len() - 1024);
    // The entry of the container says its size in base-256, that of the file in a PAX record.
    let pax = typed("PaxHeaders.0/a", b'x', format!("19 size={SIZE}\n").as_bytes());
    let head = [pax, block(b"a", b"00000000000\0", b'0', |_| ()).to_vec()].concat();
    let data = head.len() as u64 + SIZE.next_multiple_of(512) + 1024;
    let mut field = [0; 12];
    field[0] = 0x80;
    field[4..].copy_from_slice(&data.to_be_bytes());
    front.extend(block(b"data/0000.tar", &field, b'0', |_| ()));
    front.extend(head);
    let rest = SIZE.next_multiple_of(512) + 1024 + 1024;
    let whole = |rest: u64| io::Cursor::new(front.clone()).chain(Zeros(rest));

    let mut payload = artifact::open(whole(rest), &NO_KEYS).unwrap().payload;
    assert_eq!(payload.next_file().unwrap(), Some(("a".to_owned(), SIZE)));
    let (mut buffer, mut total) = (vec![0; 1 << 20], 0);
    loop {
        match payload.read(&mut buffer).unwrap() {
            0 => break,
            n => total += n as u64,
        }
    }
    assert_eq!(total, SIZE);
    assert_eq!(payload.next_file().unwrap(), None);
}

/// So many zero bytes, at no cost but that of setting them.
struct Zeros(u64);

impl Read for Zeros {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = usize::try_from(self.0).unwrap_or(usize::MAX).min(buffer.len());
        buffer[..n].fill(0);
        self.0 -= n as u64;
        Ok(n)
    }
}
