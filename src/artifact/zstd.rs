//! zstd: one frame after the other, with a limit on the window that a frame may declare. Skippable frames are
//! skipped; checksums are compared; dictionaries do not exist for Artifacts.
//!
//! The C library decodes. It gets a frame only after its header was looked at here: its own limit on the window knows
//! powers of two only, and its error does not say what the frame asks for. The window is one block of memory that
//! the system fills with pages as the data reach them, so that a declaration alone costs nothing.

use std::io::{self, BufRead, BufReader, ErrorKind, Read};

use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

use super::codec::Fault;

/// What every frame begins with; the last four bits of a skippable one are free.
const MAGIC: u32 = 0xfd2f_b528;
const SKIPPABLE: u32 = 0x184d_2a50;
/// Magic, descriptor, window or not, dictionary, size of the content: the longest header.
const LONGEST: usize = 18;
/// Powers of two between which the library takes a limit on the window.
const WINDOWS: std::ops::RangeInclusive<u32> = 10..=if size_of::<usize>() < 8 { 30 } else { 31 };

/// Unpacks zstd.
pub(super) struct Unzstd<R> {
    source: BufReader<R>,
    /// `None`: there was no memory for it.
    frame: Option<DCtx<'static>>,
    limit: u64,
    /// Inside a frame, or in front of one.
    inside: bool,
    /// A stream without a single frame is damaged.
    begun: bool,
    head: Head,
}

impl<R: Read> Unzstd<R> {
    /// `limit` is the largest window, in bytes.
    pub(super) fn new(source: BufReader<R>, limit: u64) -> Unzstd<R> {
        let limit = limit.min(1 << WINDOWS.end());
        let power = limit.next_power_of_two().ilog2().max(*WINDOWS.start());
        let frame = DCtx::try_create().and_then(|mut frame| {
            frame.set_parameter(DParameter::WindowLogMax(power)).ok()?;
            Some(frame)
        });
        Unzstd { source, frame, limit, inside: false, begun: false, head: Head::default() }
    }

    pub(super) fn into_inner(self) -> R {
        self.source.into_inner()
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Fault> {
        loop {
            if !self.inside {
                if self.begun && self.source.fill_buf().map_err(Fault::Io)?.is_empty() {
                    return Ok(0);
                }
                self.begin()?;
                continue;
            }
            let n = self.step(buffer)?;
            if n > 0 {
                return Ok(n);
            }
            if self.inside && self.source.fill_buf().map_err(Fault::Io)?.is_empty() {
                return Err(Fault::Io(ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Lets the library go on with what was read and not decoded yet.
    fn step(&mut self, buffer: &mut [u8]) -> Result<usize, Fault> {
        let memory = Fault::Memory {
            wanted: None,
            what: "window",
            limit: self.limit,
            key: "Artifact.ZstdWindowLimitMiB",
        };
        let Some(frame) = &mut self.frame else { return Err(memory) };
        let from_head = self.head.rest();
        let mut input = InBuffer::around(if from_head.is_empty() { self.source.buffer() } else { from_head });
        let mut output = OutBuffer::around(buffer);
        let result = frame.decompress_stream(&mut output, &mut input);
        let (taken, made) = (input.pos(), output.pos());
        if from_head.is_empty() {
            self.source.consume(taken);
        } else {
            self.head.at += taken;
        }
        match result {
            // The frame is complete, its checksum was right, and all of it was handed out.
            Ok(0) => self.inside = false,
            Ok(_) => {}
            Err(code) => {
                return Err(match zstd_safe::get_error_name(code) {
                    text if text.contains("not enough memory") => memory,
                    text => damaged(text),
                });
            }
        }
        Ok(made)
    }

    /// Reads the header of a frame, or skips a skippable one.
    fn begin(&mut self) -> Result<(), Fault> {
        self.begun = true;
        self.head = Head::default();
        let magic = u32::from_le_bytes(self.take::<4>()?);
        if magic & !0xf == SKIPPABLE {
            let length = u64::from(u32::from_le_bytes(self.take::<4>()?));
            let skipped =
                io::copy(&mut (&mut self.source).take(length), &mut io::sink()).map_err(Fault::Io)?;
            return if skipped < length { Err(Fault::Io(ErrorKind::UnexpectedEof.into())) } else { Ok(()) };
        }
        if magic != MAGIC {
            return Err(damaged("there is something else than a frame"));
        }
        let [descriptor] = self.take::<1>()?;
        let more = Head::bytes_after(descriptor);
        let mut rest = [0; LONGEST];
        self.source.read_exact(&mut rest[..more]).map_err(Fault::Io)?;
        self.head.push(&rest[..more]);
        let window = window(descriptor, &rest[..more]);
        if window > self.limit {
            let key = "Artifact.ZstdWindowLimitMiB";
            return Err(Fault::Memory { wanted: Some(window), what: "window", limit: self.limit, key });
        }
        self.inside = true;
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut bytes = [0; N];
        self.source.read_exact(&mut bytes).map_err(Fault::Io)?;
        self.head.push(&bytes);
        Ok(bytes)
    }
}

fn damaged(text: &'static str) -> Fault {
    Fault::Io(io::Error::new(ErrorKind::InvalidData, text))
}

/// The header of a frame, on its way through our hands.
#[derive(Default)]
struct Head {
    bytes: [u8; LONGEST],
    length: usize,
    /// What the library has of it.
    at: usize,
}

impl Head {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.length..][..bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.at..self.length]
    }

    /// How many bytes of header follow the descriptor.
    fn bytes_after(descriptor: u8) -> usize {
        let window = usize::from(!is_single_segment(descriptor));
        window + dictionary_bytes(descriptor) + size_bytes(descriptor)
    }
}

/// A single segment needs no window: all of the content is in memory. Its size is always said.
fn is_single_segment(descriptor: u8) -> bool {
    descriptor & 0x20 != 0
}

fn dictionary_bytes(descriptor: u8) -> usize {
    [0, 1, 2, 4][usize::from(descriptor & 3)]
}

fn size_bytes(descriptor: u8) -> usize {
    match descriptor >> 6 {
        0 => usize::from(is_single_segment(descriptor)),
        flag => 1 << flag,
    }
}

/// The memory that a frame asks for, in bytes. `rest` is the header behind the descriptor, whole.
fn window(descriptor: u8, rest: &[u8]) -> u64 {
    if !is_single_segment(descriptor) {
        let (exponent, eighths) = (rest[0] >> 3, u64::from(rest[0] & 7));
        let base = 1u64 << (10 + exponent);
        return base + base / 8 * eighths;
    }
    let size = &rest[dictionary_bytes(descriptor)..];
    let number = size.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte));
    // Two bytes begin where one ends.
    if size.len() == 2 { number + 256 } else { number }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_read_from_the_header() {
        let of = |bytes: &[u8]| {
            let [descriptor, rest @ ..] = bytes else { panic!("empty") };
            assert_eq!(Head::bytes_after(*descriptor), rest.len(), "{bytes:?}");
            window(*descriptor, rest)
        };
        assert_eq!(of(&[0, 0]), 1 << 10);
        assert_eq!(of(&[4, 0x88]), 128 << 20);
        assert_eq!(of(&[3, 0x69, 1, 2, 3, 4]), (8 << 20) + (1 << 20));
        assert_eq!(of(&[0xc0, 0xff, 9, 9, 9, 9, 9, 9, 9, 9]), (1 << 41) + (7 << 38));
        assert_eq!(of(&[0x20, 7]), 7);
        assert_eq!(of(&[0x61, 99, 1, 2]), 0x201 + 256);
        assert_eq!(of(&[0xa2, 99, 99, 1, 2, 0, 4]), 0x0400_0201);
        assert_eq!(of(&[0xe0, 255, 255, 255, 255, 255, 255, 255, 255]), u64::MAX);
    }

    #[test]
    fn every_way_to_cut_a_stream_into_reads_gives_the_same_and_every_prefix_is_an_error() {
        // One segment of five bytes, stored; a skippable frame; an empty frame with a window.
        let stream = [
            &[0x28, 0xb5, 0x2f, 0xfd, 0x20, 5, 0x29, 0, 0, b't', b'h', b'i', b'm', b'b'][..],
            &[0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 7, 7, 7],
            &[0x28, 0xb5, 0x2f, 0xfd, 0, 0x58, 1, 0, 0],
        ]
        .concat();
        let whole = [14, 25, 34];
        for end in 0..=stream.len() {
            for piece in [1, 3, 64] {
                let mut unpack = Unzstd::new(BufReader::with_capacity(piece, &stream[..end]), 8 << 20);
                let (mut out, mut all) = ([0; 4], Vec::new());
                let result = loop {
                    match unpack.read(&mut out) {
                        Ok(0) => break Ok(()),
                        Ok(n) => all.extend_from_slice(&out[..n]),
                        Err(fault) => break Err(fault),
                    }
                };
                match result {
                    Ok(()) => assert!(whole.contains(&end) && all == b"thimb", "{end}, {piece}"),
                    Err(Fault::Io(e)) => {
                        assert_eq!(e.kind(), ErrorKind::UnexpectedEof, "{end}, {piece}");
                        assert!(!whole.contains(&end), "{end}, {piece}");
                    }
                    Err(Fault::Memory { .. }) => panic!("{end}, {piece}"),
                }
            }
        }
    }
}
