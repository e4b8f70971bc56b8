//! Payload handlers: what becomes of the files of an Artifact.

mod disk;
pub mod module;
pub mod rootfs;
pub mod writer;
