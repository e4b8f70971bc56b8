//! Which containers the header and the payload come in, and how each is unpacked (AF-7).
//!
//! The choice is made here only: a further codec is one arm in [`Container::decoder`] and in [`Decoder`].

use std::io::{self, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

use super::fault::carry;
use crate::error::{Error, Result};

/// Compressed bytes that are taken from the source at a time.
const INPUT: usize = 16 * 1024;

/// How a nested archive is packed; its name says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    Plain,
    Gzip,
    Xz,
    Zstd,
}

/// The names that the header may have (AF-1).
pub(super) const HEADER: [(&str, Container); 4] = [
    ("header.tar", Container::Plain),
    ("header.tar.gz", Container::Gzip),
    ("header.tar.xz", Container::Xz),
    ("header.tar.zst", Container::Zstd),
];

/// The names that the payload may have (AF-1).
pub(super) const DATA: [(&str, Container); 4] = [
    ("data/0000.tar", Container::Plain),
    ("data/0000.tar.gz", Container::Gzip),
    ("data/0000.tar.xz", Container::Xz),
    ("data/0000.tar.zst", Container::Zstd),
];

/// Finds `name` in one of the tables; the name comes back as a constant.
pub(super) fn find(
    table: &'static [(&'static str, Container)],
    name: &str,
) -> Option<(&'static str, Container)> {
    table.iter().find(|(known, _)| *known == name).copied()
}

impl Container {
    /// A reader of the unpacked bytes. `label` names the container in errors.
    ///
    /// Errors: ARTIFACT-COMPRESSION if this program cannot unpack it.
    pub(super) fn decoder<R: Read>(self, source: R, label: &'static str) -> Result<Decoder<R>> {
        let missing = |what: &str| {
            let text = format!(
                "{label} is compressed with {what}, which this build cannot unpack; \
                 write the Artifact with --compression gzip or none"
            );
            Err(Error::new("ARTIFACT-COMPRESSION", text))
        };
        match self {
            Container::Plain => Ok(Decoder::Plain(source)),
            Container::Gzip => {
                let inner = MultiGzDecoder::new(BufReader::with_capacity(INPUT, source));
                Ok(Decoder::Gzip(Box::new(inner), label))
            }
            Container::Xz => missing("xz"),
            Container::Zstd => missing("zstd"),
        }
    }
}

/// The unpacked bytes of a container. Several gzip members are read as one.
#[derive(Debug)]
pub(super) enum Decoder<R> {
    Plain(R),
    Gzip(Box<MultiGzDecoder<BufReader<R>>>, &'static str),
}

impl<R> Decoder<R> {
    /// The source again. Read the decoder to its end first, or the source's position is undefined.
    pub(super) fn into_inner(self) -> R {
        match self {
            Decoder::Plain(source) => source,
            Decoder::Gzip(inner, _) => inner.into_inner().into_inner(),
        }
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Decoder::Plain(source) => source.read(buffer),
            Decoder::Gzip(inner, label) => inner.read(buffer).map_err(|e| damaged(e, "gzip", label)),
        }
    }
}

/// Tells a damaged stream from an error of the source, which passes unchanged.
fn damaged(error: io::Error, codec: &str, label: &str) -> io::Error {
    if error.get_ref().is_some_and(|inner| inner.is::<Error>()) {
        return error;
    }
    let text = format!("{label}: the {codec} stream is damaged or incomplete: {error}");
    carry(Error::new("ARTIFACT-COMPRESSION", text))
}
