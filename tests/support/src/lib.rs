//! Test server, Artifact writer and simulated device: for tests and the demo, never shipped.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`artifact`] | writes Artifacts of any size without holding them |
//! | [`tempdir`] | a directory that goes away with its test |
//! | [`tool`] | runs tools of the host; a missing one is named with its Debian package |
//!
//! Everything here panics with a message instead of returning errors where a test could not go on anyway.

pub mod artifact;
mod base64;
pub mod tempdir;
pub mod tool;

pub use artifact::{ArtifactSpec, Content, SigningKey};
pub use tempdir::TempDir;
