//! How errors of this module pass through `std::io::Read`, and how foreign text is shown in them.

use std::io;

use crate::error::Error;

/// Packs an error so that it survives the decoders between us and the source.
pub(super) fn carry(error: Error) -> io::Error {
    io::Error::other(error)
}

/// The reverse of [`carry`]. Every reader of this module carries; the fallback is for completeness.
pub(super) fn lift(error: io::Error) -> Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(ours) => ours.clone(),
        None => Error::new("ARTIFACT-READ", format!("cannot read the Artifact: {error}")),
    }
}

/// Foreign text for a message: quoted, control characters escaped, never longer than a line.
pub(super) fn shown(text: &str) -> String {
    const LONGEST: usize = 80;
    match text.char_indices().nth(LONGEST) {
        Some((cut, _)) => format!("{:?}…", &text[..cut]),
        None => format!("{text:?}"),
    }
}
