//! xz: one stream after the other, with a limit on the dictionary that a block may declare (AF-8).
//!
//! The official writer declares 64 MiB whatever it packs. The decoder's window grows with the data, so that only
//! data which need the memory take it; the limit is checked against the declaration, before anything is unpacked.

use std::io::{self, BufReader, Read};

use lzma_rust2::XzReader;

use super::codec::Fault;

/// What the decoder counts for itself on top of the dictionary, in KiB.
const OVERHEAD: u64 = 104;

/// Unpacks xz.
pub(super) struct Unxz<R: Read> {
    inner: XzReader<Tail<R>>,
    limit: u64,
}

impl<R: Read> Unxz<R> {
    /// `limit` is the largest dictionary, in bytes.
    pub(super) fn new(source: BufReader<R>, limit: u64) -> Unxz<R> {
        // The decoder takes u32::MAX as "no limit"; nothing above 4 GiB can be declared anyway.
        let kib = u32::try_from(limit / 1024 + OVERHEAD).unwrap_or(u32::MAX);
        let source = Tail { source, last: [0; TAIL] };
        Unxz { inner: XzReader::new_mem_limit(source, true, kib), limit }
    }

    pub(super) fn into_inner(self) -> R {
        self.inner.into_inner().source.into_inner()
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Fault> {
        self.inner.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::OutOfMemory => {
                // Too much was declared (then the header of the block is what was read last), or there is not enough.
                let wanted = declared(&self.inner.inner().last).filter(|n| *n > self.limit);
                let key = "Artifact.XzMemoryLimitMiB";
                Fault::Memory { wanted, what: "dictionary", limit: self.limit, key }
            }
            _ => Fault::Io(error),
        })
    }
}

/// The dictionary that a block header declares, given its end: its last filter is always LZMA2, whose one property
/// byte comes last, before zero padding and a CRC of 4 bytes. `None` if that is not to be seen.
fn declared(end: &[u8]) -> Option<u64> {
    let (rest, _) = end.split_last_chunk::<4>()?;
    match rest.iter().rfind(|b| **b != 0)? {
        40 => Some(u64::from(u32::MAX)),
        size @ 1..40 => Some(u64::from(2 | size & 1) << (size / 2 + 11)),
        _ => None,
    }
}

const TAIL: usize = 32;

/// Remembers what was read last.
struct Tail<R> {
    source: BufReader<R>,
    last: [u8; TAIL],
}

impl<R: Read> Read for Tail<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.source.read(buffer)?;
        let new = &buffer[n.saturating_sub(TAIL)..n];
        self.last.rotate_left(new.len());
        self.last[TAIL - new.len()..].copy_from_slice(new);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::declared;

    #[test]
    fn the_declared_dictionary_is_read_from_the_end_of_a_block_header() {
        // Filter 0x21, one property byte, two bytes of padding, CRC.
        let header = |size| [0x21, 1, size, 0, 0, 9, 9, 9, 9];
        for (size, bytes) in [(22, 8 << 20), (28, 64 << 20), (29, 96 << 20), (39, 3 << 30), (40, 0xffff_ffff)]
        {
            assert_eq!(declared(&header(size)), Some(bytes));
        }
        assert_eq!(declared(&header(41)), None);
        assert_eq!(declared(&[0; 32]), None);
        assert_eq!(declared(&[]), None);
    }
}
