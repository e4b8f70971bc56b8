//! A whole Artifact, as an update reads it.
//!
//! The first byte says how: bit 0 leaves all checksums as they are (else those of tar blocks and of the manifest are
//! mended, so that mutations get past them), bits 1 and 2 pack the nested archives (none, gzip, gzip in two members,
//! none), bit 3 asks for a signature. The second byte is the size of reads.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use sha2::{Digest as _, Sha256};

use super::super::{Options, open};
use super::header;
use crate::error::{Error, Result};
use crate::fuzz::input::{self, Pieces};

/// Scripts and payload files, with their contents.
type Files = Vec<(String, Vec<u8>)>;

/// How much of the source is read at most beyond what the caller asked for: one buffer of the decompressor.
const AHEAD: usize = 16 << 10;

pub fn run(data: &[u8]) {
    let (how, rest) = input::byte(data);
    let (size, rest) = input::byte(rest);
    let artifact = if how & 1 == 0 { mended(rest, how >> 1 & 3) } else { rest.to_vec() };
    let options = Options {
        signature_required: how & 8 != 0,
        xz_memory_limit: 1 << 20,
        zstd_window_limit: 1 << 20,
        ..Options::default()
    };
    let whole = read(&artifact, usize::MAX, 64 << 10, &options);
    if options.signature_required {
        let code = whole.as_ref().expect_err("accepted without a signature that fits").code;
        assert!(code.starts_with("ARTIFACT-"), "{code}");
        return;
    }
    let pieces = read(&artifact, 1 + usize::from(size), 1 + usize::from(size >> 3), &options);
    assert_eq!(whole, pieces, "the size of reads must not matter");
    if whole.is_ok() && artifact.len() > 1024 {
        // What ends early is never taken for whole, however near to the end.
        let end = artifact.iter().rposition(|b| *b != 0).map_or(0, |at| at.next_multiple_of(512));
        let cut = [end, end.saturating_sub(1), usize::from(size) * 256][usize::from(size) % 3].min(end);
        let code = read(&artifact[..cut], usize::MAX, 64 << 10, &options).expect_err("cut").code;
        assert_eq!(code, "ARTIFACT-TRUNCATED", "cut at {cut}");
    }
}

/// Everything that is handed out, and the error.
fn read(artifact: &[u8], most: usize, buffer: usize, options: &Options) -> Result<Files> {
    let mut opened = open(Pieces { left: artifact, most }, options)?;
    header::check(&opened.header);
    let mut files = Files::new();
    opened.scripts.extract(&mut |name, content| {
        let mut all = Vec::new();
        content.read_to_end(&mut all).map_err(|e| Error::new("SCRIPT", e.to_string()))?;
        assert!(all.len() <= artifact.len() * 1100 + AHEAD);
        files.push((name.to_owned(), all));
        Ok(())
    })?;
    let mut buffer = vec![0; buffer];
    let after = |payload: &mut super::super::Payload<Pieces>, e: Error| {
        assert_eq!(payload.next_file(), Err(e.clone()), "an error stays");
        e
    };
    loop {
        let next = opened.payload.next_file();
        let Some((name, size)) = next.map_err(|e| after(&mut opened.payload, e))? else { break };
        assert!(!name.contains('/') && name != ".." && name != "." && !name.is_empty());
        let mut all = Vec::new();
        loop {
            match opened.payload.read(&mut buffer).map_err(|e| after(&mut opened.payload, e))? {
                0 => break,
                n => all.extend_from_slice(&buffer[..n]),
            }
        }
        assert_eq!(all.len() as u64, size);
        assert!(!files.iter().any(|(other, _)| *other == format!("data/{name}")), "a file twice");
        files.push((format!("data/{name}"), all));
    }
    assert_eq!(opened.payload.next_file(), Ok(None), "the end stays the end");
    Ok(files)
}

/// Where the entries of an archive are: name, begin and end of the content.
fn entries(archive: &[u8]) -> Vec<(Vec<u8>, usize, usize)> {
    let (mut all, mut at) = (Vec::new(), 0);
    while let Some(block) = archive.get(at..at + 512) {
        let digits = block[124..135].iter().take_while(|b| (b'0'..=b'7').contains(*b));
        let size = digits.fold(0usize, |n, b| n * 8 + usize::from(b - b'0'));
        let (begin, end) = (at + 512, at + 512 + size);
        if &block[257..262] != b"ustar" || end > archive.len() {
            break;
        }
        let name = block[..100].split(|b| *b == 0).next().unwrap_or_default();
        all.push((name.to_vec(), begin, end));
        at = end.next_multiple_of(512);
    }
    all
}

/// The same with checksums that fit: of blocks, of the payload files, of version and header in the manifest. The nested
/// archives, which are plain in the input, are packed.
fn mended(artifact: &[u8], pack: u8) -> Vec<u8> {
    let mut plain = artifact.to_vec();
    // Only blocks: contents that look like one are as good as any other.
    input::seal_all(&mut plain);
    let (mut out, mut sums) = (Vec::new(), Files::new());
    let mut packed = Vec::new();
    for (name, begin, end) in entries(&plain) {
        let content = &plain[begin..end];
        let content = match &name[..] {
            b"data/0000.tar" | b"header.tar" => {
                for (inner, from, to) in entries(content) {
                    if name[0] == b'd' {
                        let inner = format!("data/0000/{}", String::from_utf8_lossy(&inner));
                        sums.push((inner, Sha256::digest(&content[from..to]).to_vec()));
                    }
                }
                pack_with(content, pack)
            }
            _ => content.to_vec(),
        };
        packed.push((name, begin, end, content));
    }
    for (name, _, _, content) in &mut packed {
        if matches!(&name[..], b"data/0000.tar" | b"header.tar") && matches!(pack, 1 | 2) {
            name.extend_from_slice(b".gz");
        }
        sums.push((String::from_utf8_lossy(name).into_owned(), Sha256::digest(&content[..]).to_vec()));
    }
    let mut at = 0;
    for (name, begin, end, mut content) in packed {
        let mut block = [0; 512];
        block.copy_from_slice(&plain[begin - 512..begin]);
        if name == b"manifest" {
            content = manifest(&content, &sums, pack);
        }
        if content.len() != end - begin || matches!(pack, 1 | 2) {
            block[..100].fill(0);
            let length = name.len().min(100);
            block[..length].copy_from_slice(&name[..length]);
            block[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
            input::seal(&mut block);
        }
        out.extend_from_slice(&block);
        out.extend_from_slice(&content);
        out.resize(out.len().next_multiple_of(512), 0);
        at = end.next_multiple_of(512);
    }
    out.extend_from_slice(plain.get(at..).unwrap_or_default());
    out
}

fn pack_with(content: &[u8], pack: u8) -> Vec<u8> {
    let gzip = |bytes: &[u8]| {
        let mut packer = GzEncoder::new(Vec::new(), Compression::none());
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    };
    match pack {
        1 => gzip(content),
        2 => {
            let (a, b) = content.split_at(content.len() / 2);
            [gzip(a), gzip(b)].concat()
        }
        _ => content.to_vec(),
    }
}

/// Lines keep their names and everything else that may be wrong with them; their digests become right.
fn manifest(content: &[u8], sums: &Files, pack: u8) -> Vec<u8> {
    let mut out = Vec::new();
    for line in content.split_inclusive(|b| *b == b'\n') {
        let Some((_, tail)) = line.split_at_checked(66) else {
            out.extend_from_slice(line);
            continue;
        };
        let name = String::from_utf8_lossy(tail).trim_end_matches('\n').to_owned();
        let stored = if name == "header.tar" && matches!(pack, 1 | 2) { "header.tar.gz" } else { &name };
        match sums.iter().find(|(known, _)| known == stored) {
            Some((_, digest)) => {
                let hex: String = digest.iter().map(|b| format!("{b:02x}")).collect();
                out.extend_from_slice(hex.as_bytes());
                out.extend_from_slice(&line[64..66]);
                out.extend_from_slice(stored.as_bytes());
                out.extend_from_slice(&tail[name.len().min(tail.len())..]);
            }
            None => out.extend_from_slice(line),
        }
    }
    out
}
