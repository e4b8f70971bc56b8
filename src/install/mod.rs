//! Payload handlers: what becomes of the files of an Artifact.

mod disk;
mod origin;
pub mod rootfs;
pub mod writer;
