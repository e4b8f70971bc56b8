//! What there is in the corpus.

mod data;
mod header;
mod manifest;
mod outer;
mod signature;

use crate::artifact_writer::*;

/// One Artifact of the corpus.
pub struct Kind {
    /// What is wrong with it; also its file name.
    pub name: &'static str,
    /// The code of the refusal.
    pub code: &'static str,
    /// Words that the refusal contains.
    pub says: &'static str,
    /// The same on a device, if something that the device knows is noticed first, or more of it.
    pub device: Option<(&'static str, &'static str)>,
    /// The device has a verification key.
    pub key: bool,
    /// It is good up to its payload: that may have been written when the error is found.
    pub payload: bool,
    /// The Artifact.
    pub bytes: Vec<u8>,
}

/// A public key that nothing in the corpus is signed with.
pub const KEY: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE+Gk6m0C+u5SAgI9ACSNAQI1kD1QR
3SCkyIk8BW6HlIDMqpZVAX6be9hvs18aWXjLUSQs6xq95l3QBebT2FifHQ==
-----END PUBLIC KEY-----
";

/// All kinds.
pub fn all() -> Vec<Kind> {
    [outer::kinds(), manifest::kinds(), header::kinds(), data::kinds(), signature::kinds()]
        .into_iter()
        .flatten()
        .collect()
}

/// Good ones: what the kinds differ from, in every container.
pub fn good() -> Vec<Vec<u8>> {
    let mut all = vec![base().build()];
    all.extend(PACKS.map(|pack| Recipe { pack, ..base() }.build()));
    all
}

/// A good rootfs-image for the device type `dev`.
fn base() -> Recipe {
    Recipe {
        info: info("rootfs-image"),
        kind: r#"{"type":"rootfs-image"}"#.into(),
        meta: Some(Vec::new()),
        files: vec![("rootfs.ext4".into(), image())],
        pack: Pack::Gzip,
        ..Recipe::default()
    }
}

/// The image of the good ones.
pub fn image() -> Vec<u8> {
    (0..3000u32).map(|n| ((n * n) >> 5) as u8).collect()
}

/// Refused before the payload begins.
fn kind(name: &'static str, code: &'static str, says: &'static str, bytes: Vec<u8>) -> Kind {
    Kind { name, code, says, device: None, key: false, payload: false, bytes }
}

/// A module Artifact with these files, and what its data container is to have instead.
fn module(files: &[(&str, &[u8])], data: &[Vec<u8>]) -> Vec<u8> {
    let files = files.iter().map(|(name, content)| (name.to_string(), content.to_vec())).collect();
    Recipe { files, ..Recipe::default() }.with_data(data)
}

/// The same, but a device notices something else first, or more of it.
fn on_device(code: &'static str, says: &'static str, kind: Kind) -> Kind {
    Kind { device: Some((code, says)), ..kind }
}

/// What no compressor makes smaller.
pub fn noise(size: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..size).map(|_| next()).collect()
}

/// The size field of a tar block, base-256.
fn binary_size(size: i64) -> [u8; 12] {
    let mut field = [if size < 0 { 0xff } else { 0 }; 12];
    field[4..].copy_from_slice(&size.to_be_bytes());
    field[0] |= 0x80;
    field
}
