//! Payload handlers: what becomes of the files of an Artifact.

mod disk;
pub mod rootfs;
pub mod writer;
