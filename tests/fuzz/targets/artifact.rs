//! The targets of the Artifact reader.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(missing_docs, clippy::missing_panics_doc, reason = "see the list in tests/fuzz/targets/mod.rs")]

#[path = "codecs.rs"]
pub mod codecs;
#[path = "header.rs"]
pub mod header;
#[path = "manifest.rs"]
pub mod manifest;
#[path = "signature.rs"]
pub mod signature;
#[path = "stream.rs"]
pub mod stream;
#[path = "tar.rs"]
pub mod tar;
