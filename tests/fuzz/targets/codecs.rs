//! The decompressors. The first byte chooses gzip, xz or zstd (and, bit 2, smaller limits), the second the size of reads.

use std::io::Read;

use super::super::codec::{Caps, Container};
use crate::fuzz::input::{self, Pieces};

/// Output beyond this is not asked for: a bomb only costs time here.
const MOST: usize = 256 << 10;

pub fn run(data: &[u8]) {
    let (how, rest) = input::byte(data);
    let (size, packed) = input::byte(rest);
    let container = [Container::Gzip, Container::Xz, Container::Zstd, Container::Plain][usize::from(how & 3)];
    let limit = if how & 4 == 0 { 1 << 20 } else { 64 << 10 };
    let caps = Caps { xz_dictionary: limit, zstd_window: limit };
    let whole = unpack(container, caps, packed, usize::MAX, 64 << 10);
    let pieces = unpack(container, caps, packed, 1 + usize::from(size), 1 + usize::from(size) * 5);
    // How much comes out before an error is the decoder's affair, not what.
    let common = whole.0.len().min(pieces.0.len());
    assert!(whole.0[..common] == pieces.0[..common], "the size of reads must not matter");
    if whole.1 != End::Enough && pieces.1 != End::Enough {
        assert_eq!(whole.1, pieces.1, "the size of reads must not decide what is accepted");
        assert!(whole.1 != End::Whole || whole.0.len() == pieces.0.len());
    }
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    Whole,
    /// [`MOST`] was reached.
    Enough,
    Error(&'static str),
}

/// What comes out, at most [`MOST`] bytes, and the error.
fn unpack(container: Container, caps: Caps, packed: &[u8], most: usize, buffer: usize) -> (Vec<u8>, End) {
    let mut decoder = container.decoder(Pieces { left: packed, most }, caps, "data/0000.tar").unwrap();
    let (mut all, mut buffer) = (Vec::new(), vec![0; buffer]);
    loop {
        match decoder.read(&mut buffer) {
            Ok(0) => {
                assert_eq!(decoder.read(&mut buffer).ok(), Some(0), "the end stays the end");
                assert!(decoder.into_inner().left.is_empty(), "the end was not reached");
                return (all, End::Whole);
            }
            Ok(n) => all.extend_from_slice(&buffer[..n]),
            Err(e) => return (all, End::Error(super::super::fault::lift(e).code)),
        }
        if all.len() >= MOST {
            all.truncate(MOST);
            return (all, End::Enough);
        }
    }
}
