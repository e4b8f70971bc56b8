//! FORMAT: a Mender Artifact as a stream. A `Read` in, verified parts out; installs nothing, knows no device.
//!
//! ```text
//! version           JSON, read first: format 3, or 2 for rootfs-image
//! manifest          a checksum for everything below
//! manifest.sig      optional; verified over the raw manifest before the manifest is parsed
//! header.tar[.gz|.xz|.zst]   read whole (at most 2 MiB), verified, then parsed
//!     header-info
//!     scripts/Artifact…_…_NN…           any number
//!     headers/0000/files                format 2 only
//!     headers/0000/type-info
//!     headers/0000/meta-data            optional
//! data/0000.tar[.gz|.xz|.zst]  streamed; each file verified at its end
//! ```
//!
//! Statement numbers (AF-n) are those of the Artifact format reference. Where the official readers are lax, this one
//! refuses: names and order are exact, nothing unknown is skipped, every size is bounded, and no buffer grows with
//! the Artifact. What no checksum covers (tar owner, mode and times; the padding of blocks; bytes after the last
//! file inside the data container) is ignored. After the end of the outer archive at most 1 MiB of zero bytes may
//! follow (tar pads), and nothing else.

#[cfg(feature = "signatures")]
mod base64;
mod block;
mod codec;
mod depends;
mod fault;
mod header;
mod limits;
mod manifest;
mod members;
mod payload;
mod scripts;
#[cfg(feature = "signatures")]
mod signature;
#[cfg(not(feature = "signatures"))]
#[path = "no_signature.rs"]
mod signature;
mod source;
mod tar;
mod values;
#[cfg(feature = "xz")]
mod xz;
#[cfg(feature = "zstd")]
mod zstd;

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
#[path = "../../tests/fuzz/targets/artifact.rs"]
pub mod fuzz;

use std::fmt;
use std::io::Read;

pub use header::{Depends, Header};
pub use payload::Payload;
pub use scripts::Scripts;
pub use signature::VerifyKey;

use crate::error::{Error, Result};
use codec::{Caps, HEADER};
use fault::shown;
use header::ROOTFS_IMAGE;
use manifest::Manifest;
use source::Source;
use tar::{Entry, Tar};

/// What the caller demands of an Artifact.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// If there is any, the Artifact must be signed with one of them (AF-62).
    pub keys: &'a [VerifyKey],
    /// Whether an unsigned Artifact is refused even without a key: true as soon as a key is configured, so that a
    /// key that could not be read does not open the door (AF-63). Without any usable key all are refused then.
    pub signature_required: bool,
    /// Largest dictionary that an xz stream may declare, in bytes. Memory is taken as the data need it (AF-8).
    pub xz_memory_limit: u64,
    /// Largest window that a zstd stream may declare, in bytes.
    pub zstd_window_limit: u64,
}

impl Default for Options<'_> {
    /// No keys, and the limits that a configuration has if it does not say anything else.
    fn default() -> Self {
        Options {
            keys: &[],
            signature_required: false,
            xz_memory_limit: 64 * 1024 * 1024,
            zstd_window_limit: 8 * 1024 * 1024,
        }
    }
}

/// An Artifact that is good up to its payload.
pub struct Opened<R: Read> {
    /// What it says about itself.
    pub header: Header,
    /// Its state scripts.
    pub scripts: Scripts,
    /// Its payload files, not read yet.
    pub payload: Payload<R>,
}

/// For `unwrap_err` in tests and the like; the source need not be `Debug`.
impl<R: Read> fmt::Debug for Opened<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened")
            .field("header", &self.header)
            .field("payload", &self.payload)
            .finish_non_exhaustive()
    }
}

/// Reads an Artifact up to its payload. Everything that is returned was verified: the signature if `options` has
/// keys, and every checksum.
///
/// # Errors
/// | code | what is wrong |
/// | --- | --- |
/// | ARTIFACT-READ | the source failed; the text is the source's |
/// | ARTIFACT-TRUNCATED | it ends too early |
/// | ARTIFACT-TAR | not a tar archive, a damaged block, or a type of entry that is never accepted |
/// | ARTIFACT-ORDER | an entry is missing, unknown or in the wrong place |
/// | ARTIFACT-FORMAT | neither format version 3 nor a rootfs-image of version 2, or augmented |
/// | ARTIFACT-SIGNATURE | unsigned though a signature is required, or the signature is wrong; any Artifact, if this build cannot verify signatures and a key is configured |
/// | ARTIFACT-MANIFEST | the manifest is not canonical, or incomplete |
/// | ARTIFACT-CHECKSUM | a part is not what the manifest says |
/// | ARTIFACT-COMPRESSION | a container is damaged, or packed in a way that is not supported |
/// | ARTIFACT-HEADER | the header's content is wrong |
/// | ARTIFACT-LIMIT | a part is larger than accepted (AF-65), or asks for more memory to be unpacked |
pub fn open<R: Read>(source: R, options: &Options) -> Result<Opened<R>> {
    let must_verify = options.signature_required || !options.keys.is_empty();
    if must_verify {
        signature::available()?;
    }
    let mut outer = Tar::new(Source::new(source), "the Artifact");

    let version = required(&mut outer, "version", limits::VERSION)?;
    let format = manifest::check_format(&version)?;
    let raw = required(&mut outer, "manifest", limits::MANIFEST)?;

    let mut entry = next(&mut outer, "header.tar")?;
    let signed = !entry.directory && entry.name == "manifest.sig";
    if signed {
        let signature = outer.content(&entry, limits::SIGNATURE)?;
        if must_verify {
            signature::verify(&raw, &signature, options.keys)?;
        }
        entry = next(&mut outer, "header.tar")?;
    } else if must_verify {
        let text = "the Artifact is not signed, but this device has a verification key and accepts only signed \
                    ones; sign it (mender-artifact sign)";
        return Err(Error::new("ARTIFACT-SIGNATURE", text));
    }

    let manifest = Manifest::parse(&raw)?;
    drop(raw);
    manifest.check_version(&version)?;

    let (label, container) = match codec::find(&HEADER, &entry.name) {
        Some(found) if !entry.directory => found,
        _ if entry.name == "manifest-augment" => {
            let text =
                "augmented Artifacts (manifest-augment) are not supported; write it without augmentation";
            return Err(Error::new("ARTIFACT-FORMAT", text));
        }
        _ => return Err(misplaced("header.tar", &entry.name)),
    };
    let stored = outer.content(&entry, container.header_limits().stored)?;
    manifest.check_header(label, &stored)?;

    let caps = Caps { xz_dictionary: options.xz_memory_limit, zstd_window: options.zstd_window_limit };
    let (mut header, scripts) = members::read(stored, format, container, caps, label)?;
    header.signed = signed;
    // AF-35. Here, before a handler has written the first of two.
    if header.payload_type.as_deref() == Some(ROOTFS_IMAGE) && manifest.files.len() != 1 {
        let text =
            format!("the manifest lists {} payload files, a {ROOTFS_IMAGE} has one", manifest.files.len());
        return Err(Error::new("ARTIFACT-MANIFEST", text));
    }
    if header.payload_type.is_none() && !manifest.files.is_empty() {
        let text = "the manifest lists payload files, but header-info says that the payload is empty";
        return Err(Error::new("ARTIFACT-MANIFEST", text));
    }
    Ok(Opened { header, scripts, payload: Payload::new(outer, manifest.files, caps) })
}

fn required<R: Read>(outer: &mut Tar<R>, name: &str, limit: u64) -> Result<Vec<u8>> {
    let entry = next(outer, name)?;
    if entry.directory || entry.name != name {
        return Err(misplaced(name, &entry.name));
    }
    outer.content(&entry, limit)
}

fn next<R: Read>(outer: &mut Tar<R>, wanted: &str) -> Result<Entry> {
    outer
        .next_entry()?
        .ok_or_else(|| Error::new("ARTIFACT-ORDER", format!("the Artifact ends where {wanted} was expected")))
}

fn misplaced(wanted: &str, found: &str) -> Error {
    let text = format!("expected {wanted}, found {}; is this a Mender Artifact?", shown(found));
    Error::new("ARTIFACT-ORDER", text)
}
