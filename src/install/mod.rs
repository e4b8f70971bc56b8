//! Payload handlers: what becomes of the files of an Artifact.

mod compare;
mod disk;
#[cfg(feature = "modules")]
pub mod module;
#[cfg(not(feature = "modules"))]
#[path = "no_module.rs"]
pub mod module;
mod origin;
pub mod rootfs;
pub mod writer;
