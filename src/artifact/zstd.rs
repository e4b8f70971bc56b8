//! zstd: one frame after the other, with a limit on the window that a frame may declare. Skippable frames are
//! skipped; checksums are compared; dictionaries do not exist for Artifacts.

use std::io::{self, BufRead, BufReader, Read};

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::codec::Fault;

/// Unpacks zstd.
pub(super) struct Unzstd<R> {
    source: BufReader<R>,
    frame: FrameDecoder,
    limit: u64,
    /// Inside a frame, or in front of one.
    inside: bool,
    /// A stream without a single frame is damaged.
    begun: bool,
}

impl<R: Read> Unzstd<R> {
    /// `limit` is the largest window, in bytes.
    pub(super) fn new(source: BufReader<R>, limit: u64) -> Unzstd<R> {
        // The decoder cannot allocate more than half of the address space, and must not try.
        let limit = limit.min(isize::MAX as u64 / 2);
        let mut frame = FrameDecoder::new();
        frame.set_max_window_size(limit);
        Unzstd { source, frame, limit, inside: false, begun: false }
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
            } else if self.frame.can_collect() > 0 {
                return self.frame.read(buffer).map_err(Fault::Io);
            } else if self.frame.is_finished() {
                self.end()?;
            } else {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                self.with_source(|frame, source| frame.decode_blocks(source, one).map(|_| ()))?;
            }
        }
    }

    /// Reads the header of a frame, or skips a skippable one.
    fn begin(&mut self) -> Result<(), Fault> {
        self.begun = true;
        let mut skip = None;
        self.with_source(|frame, source| match frame.reset(source) {
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length, ..
            })) => {
                skip = Some(u64::from(length));
                Ok(())
            }
            other => other,
        })?;
        let Some(length) = skip else {
            self.inside = true;
            return Ok(());
        };
        let skipped = io::copy(&mut (&mut self.source).take(length), &mut io::sink()).map_err(Fault::Io)?;
        if skipped < length { Err(Fault::Io(io::ErrorKind::UnexpectedEof.into())) } else { Ok(()) }
    }

    /// All of a frame was handed out.
    fn end(&mut self) -> Result<(), Fault> {
        self.inside = false;
        let stored = self.frame.get_checksum_from_data();
        if stored.is_some() && stored != self.frame.get_calculated_checksum() {
            return Err(Fault::Io(io::Error::new(io::ErrorKind::InvalidData, "the checksum is wrong")));
        }
        Ok(())
    }

    /// Lets the decoder read. Its errors wrap those of the source, which must come out as they are.
    fn with_source(
        &mut self,
        work: impl FnOnce(&mut FrameDecoder, &mut Watched<R>) -> Result<(), FrameDecoderError>,
    ) -> Result<(), Fault> {
        let mut watched = Watched { source: &mut self.source, failed: None };
        let result = work(&mut self.frame, &mut watched);
        if let Some(error) = watched.failed {
            return Err(Fault::Io(error));
        }
        result.map_err(|error| match error {
            FrameDecoderError::WindowSizeTooBig { requested, .. } => Fault::Memory {
                wanted: Some(requested),
                what: "window",
                limit: self.limit,
                key: "Artifact.ZstdWindowLimitMiB",
            },
            other => Fault::Io(io::Error::other(other)),
        })
    }
}

/// Keeps the error of the source.
struct Watched<'a, R> {
    source: &'a mut BufReader<R>,
    failed: Option<io::Error>,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.source.read(buffer).map_err(|error| {
            let kind = error.kind();
            self.failed = Some(error);
            kind.into()
        })
    }
}
