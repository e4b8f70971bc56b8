//! Which containers the header and the payload come in, and how each is unpacked (AF-7).
//!
//! The choice is made here only. Every codec streams, reads several gzip members, xz streams or zstd frames as one,
//! and takes memory as the data need it, never because an Artifact announces much.

#![cfg_attr(
    not(all(feature = "gzip", feature = "xz", feature = "zstd")),
    allow(dead_code, unused_variables, reason = "limits and words for codecs that are left out")
)]

use std::io::{self, BufReader, Read};

#[cfg(feature = "gzip")]
use flate2::bufread::MultiGzDecoder;

use super::fault::carry;
use super::limits;
#[cfg(feature = "xz")]
use super::xz::Unxz;
#[cfg(feature = "zstd")]
use super::zstd::Unzstd;
use crate::error::{Error, Result};

/// Compressed bytes that are taken from the source at a time.
const INPUT: usize = 64 * 1024;

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

/// How much memory a stream may ask for, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caps {
    pub(super) xz_dictionary: u64,
    pub(super) zstd_window: u64,
}

/// How large a header may be, in bytes (AF-65).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HeaderLimits {
    /// As it stands in the Artifact.
    pub(super) stored: u64,
    /// Unpacked.
    pub(super) unpacked: u64,
}

impl Container {
    /// What a header may take that is packed so: less where a window comes on top in memory.
    pub(super) fn header_limits(self) -> HeaderLimits {
        let (stored, unpacked) = match self {
            Container::Plain | Container::Gzip => (limits::HEADER_STORED, limits::HEADER_UNPACKED),
            Container::Xz | Container::Zstd => (limits::HEADER_STORED_WINDOW, limits::HEADER_UNPACKED_WINDOW),
        };
        HeaderLimits { stored, unpacked }
    }

    fn name(self) -> &'static str {
        match self {
            Container::Plain => "none",
            Container::Gzip => "gzip",
            Container::Xz => "xz",
            Container::Zstd => "zstd",
        }
    }

    /// A reader of the unpacked bytes. `label` names the container in errors.
    ///
    /// Errors: ARTIFACT-COMPRESSION if this build cannot unpack it.
    pub(super) fn decoder<R: Read>(self, source: R, caps: Caps, label: &'static str) -> Result<Decoder<R>> {
        let input = |source: R| BufReader::with_capacity(INPUT, source);
        let codec = match self {
            Container::Plain => Codec::Plain(source),
            #[cfg(feature = "gzip")]
            Container::Gzip => Codec::Gzip(Box::new(MultiGzDecoder::new(input(source)))),
            #[cfg(feature = "xz")]
            Container::Xz => Codec::Xz(Box::new(Unxz::new(input(source), caps.xz_dictionary))),
            #[cfg(feature = "zstd")]
            Container::Zstd => Codec::Zstd(Box::new(Unzstd::new(input(source), caps.zstd_window))),
            #[cfg(not(all(feature = "gzip", feature = "xz", feature = "zstd")))]
            _ => return Err(missing(label, self)),
        };
        Ok(Decoder { codec, name: self.name(), label })
    }
}

#[cfg(not(all(feature = "gzip", feature = "xz", feature = "zstd")))]
fn missing(label: &str, container: Container) -> Error {
    let known = [(cfg!(feature = "gzip"), "gzip"), (cfg!(feature = "xz"), "lzma"), (true, "none")];
    let known: Vec<&str> = known.iter().filter(|(there, _)| *there).map(|(_, name)| *name).collect();
    let text = format!(
        "{label} is compressed with {}, which this build cannot unpack; write the Artifact with --compression {}",
        container.name(),
        known.join(" or ")
    );
    Error::new("ARTIFACT-COMPRESSION", text)
}

/// The unpacked bytes of a container.
pub(super) struct Decoder<R: Read> {
    codec: Codec<R>,
    name: &'static str,
    label: &'static str,
}

enum Codec<R: Read> {
    Plain(R),
    #[cfg(feature = "gzip")]
    Gzip(Box<MultiGzDecoder<BufReader<R>>>),
    #[cfg(feature = "xz")]
    Xz(Box<Unxz<R>>),
    #[cfg(feature = "zstd")]
    Zstd(Box<Unzstd<R>>),
}

/// Why a stream cannot be unpacked; [`Decoder`] puts it in words. A bare I/O error may be the source's own.
pub(super) enum Fault {
    Io(io::Error),
    /// The stream asks for this many bytes (`None`: unknown) of this, and the limit is that.
    Memory {
        wanted: Option<u64>,
        what: &'static str,
        limit: u64,
        key: &'static str,
    },
}

impl<R: Read> Decoder<R> {
    /// The source again. Read the decoder to its end first, or the source's position is undefined.
    pub(super) fn into_inner(self) -> R {
        match self.codec {
            Codec::Plain(source) => source,
            #[cfg(feature = "gzip")]
            Codec::Gzip(inner) => inner.into_inner().into_inner(),
            #[cfg(feature = "xz")]
            Codec::Xz(inner) => inner.into_inner(),
            #[cfg(feature = "zstd")]
            Codec::Zstd(inner) => inner.into_inner(),
        }
    }

    fn explain(&self, fault: Fault) -> io::Error {
        let (name, label) = (self.name, self.label);
        match fault {
            // An error of the source passes unchanged: a broken connection is not a damaged stream.
            Fault::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<Error>()) => error,
            Fault::Io(error) => {
                let text = format!("{label}: the {name} stream is damaged or incomplete: {error}");
                carry(Error::new("ARTIFACT-COMPRESSION", text))
            }
            Fault::Memory { wanted, what, limit, key } => {
                let wanted =
                    wanted.map_or("too much memory".into(), |n| format!("a {what} of {}", amount(n)));
                let text = format!(
                    "{label}: the {name} stream asks for {wanted}, the limit is {} ({key} in mender.conf); raise it if \
                     the device has the memory, or write the Artifact with a smaller {what}",
                    amount(limit)
                );
                carry(Error::new("ARTIFACT-LIMIT", text))
            }
        }
    }
}

fn amount(bytes: u64) -> String {
    match bytes % (1 << 20) {
        0 => format!("{} MiB", bytes >> 20),
        _ => format!("{bytes} bytes"),
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Some decoders take an empty buffer for the end of the data.
        if buffer.is_empty() {
            return Ok(0);
        }
        let result = match &mut self.codec {
            Codec::Plain(source) => source.read(buffer).map_err(Fault::Io),
            #[cfg(feature = "gzip")]
            Codec::Gzip(inner) => inner.read(buffer).map_err(Fault::Io),
            #[cfg(feature = "xz")]
            Codec::Xz(inner) => inner.read(buffer),
            #[cfg(feature = "zstd")]
            Codec::Zstd(inner) => inner.read(buffer),
        };
        result.map_err(|fault| self.explain(fault))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_build_cannot_unpack_is_refused_by_name_and_nothing_else_is() {
        let caps = Caps { xz_dictionary: 0, zstd_window: 0 };
        for (container, there) in [
            (Container::Plain, true),
            (Container::Gzip, cfg!(feature = "gzip")),
            (Container::Xz, cfg!(feature = "xz")),
            (Container::Zstd, cfg!(feature = "zstd")),
        ] {
            match container.decoder(&b""[..], caps, "header.tar.x") {
                Ok(_) => assert!(there, "{container:?}"),
                Err(e) => {
                    assert!(!there, "{container:?}");
                    assert_eq!(e.code, "ARTIFACT-COMPRESSION");
                    let words = ["header.tar.x", container.name(), "--compression"];
                    assert!(words.iter().all(|word| e.text.contains(word)), "{}", e.text);
                }
            }
        }
    }
}
