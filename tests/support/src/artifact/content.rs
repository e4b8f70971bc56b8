//! Where a payload file's bytes come from.

use ring::digest;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::PathBuf;

/// The bytes of one payload file.
#[derive(Clone, Debug)]
pub enum Content {
    /// These.
    Bytes(Vec<u8>),
    /// `size` bytes made from `seed` while they are read, so that a huge file is never held.
    /// Every 4096 byte block differs from the others; all of it compresses well.
    Pattern {
        /// How many bytes.
        size: u64,
        /// Another seed gives other bytes.
        seed: u64,
    },
    /// Those of a file.
    File(PathBuf),
}

impl Content {
    /// How many bytes there are.
    pub fn size(&self) -> io::Result<u64> {
        match self {
            Content::Bytes(bytes) => Ok(bytes.len() as u64),
            Content::Pattern { size, .. } => Ok(*size),
            Content::File(path) => Ok(path.metadata()?.len()),
        }
    }

    /// Reads them from the start.
    pub fn open(&self) -> io::Result<Box<dyn Read + '_>> {
        Ok(match self {
            Content::Bytes(bytes) => Box::new(bytes.as_slice()),
            Content::Pattern { size, seed } => Box::new(Pattern::new(*seed).take(*size)),
            Content::File(path) => Box::new(File::open(path)?),
        })
    }

    /// All of them in memory; not for huge ones.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.open().and_then(|mut reader| reader.read_to_end(&mut bytes)).expect("read the content");
        bytes
    }

    /// SHA-256 as lower-case hex.
    pub fn sha256(&self) -> io::Result<String> {
        let mut context = digest::Context::new(&digest::SHA256);
        let mut reader = self.open()?;
        let mut buffer = vec![0; 1 << 16];
        loop {
            match reader.read(&mut buffer)? {
                0 => return Ok(hex(context.finish().as_ref())),
                count => context.update(&buffer[..count]),
            }
        }
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Content {
        Content::Bytes(bytes)
    }
}

impl From<&[u8]> for Content {
    fn from(bytes: &[u8]) -> Content {
        Content::Bytes(bytes.to_vec())
    }
}

impl From<&str> for Content {
    fn from(text: &str) -> Content {
        Content::Bytes(text.as_bytes().to_vec())
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// An endless stream: one block of noise, its number in its first eight bytes.
struct Pattern {
    block: Cursor<Vec<u8>>,
    number: u64,
}

const BLOCK: usize = 4096;

impl Pattern {
    fn new(seed: u64) -> Pattern {
        // splitmix64: short, and good enough for bytes that only have to differ.
        let mut state = seed;
        let mut block = Vec::with_capacity(BLOCK);
        while block.len() < BLOCK {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = state;
            mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            block.extend_from_slice(&(mixed ^ mixed >> 31).to_le_bytes());
        }
        block[..8].fill(0);
        Pattern { block: Cursor::new(block), number: 0 }
    }
}

impl Read for Pattern {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.block.position() == BLOCK as u64 {
            self.number += 1;
            self.block.get_mut()[..8].copy_from_slice(&self.number.to_le_bytes());
            self.block.set_position(0);
        }
        self.block.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_repeats_itself_exactly_and_depends_on_its_seed() {
        let one = Content::Pattern { size: 10_000, seed: 1 };
        let two = Content::Pattern { size: 10_000, seed: 2 };
        assert_eq!(one.bytes().len(), 10_000);
        assert_eq!(one.bytes(), one.bytes());
        assert_ne!(one.bytes(), two.bytes());
        assert_ne!(one.bytes()[..4096], one.bytes()[4096..8192]);
        assert_eq!(one.sha256().unwrap(), sha256_hex(&one.bytes()));
        assert_eq!(one.size().unwrap(), 10_000);
    }
}
