//! The bodies of the fuzz targets: each takes any bytes, and panics when the code under it breaks a promise.
//!
//! They are compiled into the library for its unit tests, which replay the corpus and the regressions, and for cargo-fuzz
//! (`--cfg fuzzing`); never into a program. So both run the very same function, and reach what is private. What each
//! feeds and asserts: `docs/fuzzing.md`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::missing_panics_doc, reason = "to panic is what they are for")]

mod bootenv;
mod control;
pub(crate) mod input;
#[cfg(test)]
mod replay;

use crate::{artifact, config, server, store};

/// A target's name and its body.
pub type Target = (&'static str, fn(&[u8]));

/// Every target by its name: its program in `bins/`, its folder in `corpus/` and `regressions/`.
pub const ALL: [Target; 12] = [
    ("artifact", artifact::fuzz::stream::run),
    ("bootenv", bootenv::run),
    ("codecs", artifact::fuzz::codecs::run),
    ("config", config::fuzz::run),
    ("control", control::run),
    ("header", artifact::fuzz::header::run),
    ("journal", store::fuzz::run),
    ("manifest", artifact::fuzz::manifest::run),
    ("range", server::fuzz_range::run),
    ("signature", artifact::fuzz::signature::run),
    ("tar", artifact::fuzz::tar::run),
    ("url", server::fuzz::run),
];

/// Runs one target on one input.
pub fn run(name: &str, data: &[u8]) {
    let (_, target) = ALL.into_iter().find(|(known, _)| *known == name).expect("a target of that name");
    target(data);
}
