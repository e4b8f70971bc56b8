//! A large payload passes through a small, fixed amount of memory. Alone in its file: it measures the process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "data/artifact_writer.rs"]
mod artifact_writer;

use std::io::{self, Read};

use artifact_writer::*;
use sha2::{Digest, Sha256};
use thimble::artifact;

/// Most memory that this process ever had, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// An Artifact with one file of `size` bytes, made while it is read.
fn generated(size: u64, pack: Pack) -> impl Read {
    const CHUNK: usize = 1 << 20;
    let chunk = vec![7; CHUNK];
    let mut hash = Sha256::new();
    for _ in 0..size / CHUNK as u64 {
        hash.update(&chunk);
    }
    let digest: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();

    let recipe = Recipe { pack, files: Vec::new(), ..Recipe::default() };
    let mut parts = recipe.parts();
    let (data_name, _) = parts.pop().unwrap();
    parts[1].1 = [format!("{digest}  data/0000/big\n").into_bytes(), parts[1].1.clone()].concat();
    let mut front = join(&parts);
    front.truncate(front.len() - 1024);

    let head = block(b"big", format!("{size:011o}\0").as_bytes(), b'0', |_| ()).to_vec();
    // One member, stream or frame after the other.
    let [head, unit, end] = [&head[..], &chunk, &[0; 1024]].map(|part| pack.pack(part));
    let count = size / CHUNK as u64;
    let stored = head.len() as u64 + count * unit.len() as u64 + end.len() as u64;
    front.extend(block(data_name.as_bytes(), format!("{stored:011o}\0").as_bytes(), b'0', |_| ()));
    front.extend(head);
    let padding = stored.next_multiple_of(512) - stored;
    io::Cursor::new(front)
        .chain(Repeat { unit, at: 0, left: count })
        .chain(io::Cursor::new(end))
        .chain(io::repeat(0).take(padding + 1024))
}

struct Repeat {
    unit: Vec<u8>,
    at: usize,
    left: u64,
}

impl Read for Repeat {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Ok(0);
        }
        let n = (&self.unit[self.at..]).read(buffer)?;
        self.at += n;
        if self.at == self.unit.len() {
            (self.at, self.left) = (0, self.left - 1);
        }
        Ok(n)
    }
}

fn consume(source: impl Read) -> u64 {
    let mut payload = artifact::open(source, &NO_KEYS).unwrap().payload;
    let (mut buffer, mut total) = (vec![0; 64 << 10], 0);
    while payload.next_file().unwrap().is_some() {
        loop {
            match payload.read(&mut buffer).unwrap() {
                0 => break,
                n => total += n as u64,
            }
        }
    }
    total
}

#[test]
fn memory_does_not_grow_with_the_payload() {
    // The official writer declares 64 MiB whatever it packs; the memory is taken when data need it.
    let small = Recipe { pack: Pack::Xz, ..Recipe::default() };
    let [header, data] =
        [small.header_entries(), small.data_entries()].map(|entries| xz_declaring(&tar(&entries), 28));
    let bytes = join(&small.parts_with(header, data));
    let before = peak();
    assert_eq!(consume(&bytes[..]), 705);
    let grown = peak().saturating_sub(before);
    assert!(grown < 1024, "{grown} KiB more for a dictionary that is not used");

    // Unpacking is slower in a debug build; the claim is the same.
    let sizes =
        [(Pack::Plain, 64 << 20), (Pack::Gzip, 24 << 20), (Pack::Xz, 12 << 20), (Pack::Zstd, 12 << 20)];
    for (pack, size) in sizes {
        // The first pass pays for code pages and allocator pools.
        assert_eq!(consume(generated(2 << 20, pack)), 2 << 20);
        let source = generated(size, pack);
        let before = peak();
        assert_eq!(consume(source), size);
        // The kernel counts in batches: its number may be a little less than before.
        let grown = peak().saturating_sub(before);
        assert!(grown < 1024, "{grown} KiB more for {size} bytes, {pack:?}");
    }
}
