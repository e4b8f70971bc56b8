//! Payload handlers: what becomes of the files of an Artifact.

mod compare;
mod disk;
pub mod module;
mod origin;
pub mod rootfs;
pub mod writer;
