//! What outlives a power cut in the simulated machine, but for the root partitions: records in two copies, and the
//! boot environment in its real format.

use super::cut::Tear;
use thimble::boot::copies::{self, Scheme, Write};
use thimble::boot::env::{Image, Layout};
use thimble::error::{Error, Result};

/// Two copies that take turns, as `store::Durable` keeps them (`tests/store_records.rs` cuts that at every byte).
#[derive(Debug, Clone)]
pub struct Twin<T> {
    /// Sequence number; content, or `None` if it is damaged.
    copies: [(u64, Option<T>); 2],
}

impl<T: Clone> Twin<T> {
    pub fn new(first: T) -> Twin<T> {
        Twin { copies: [(1, Some(first)), (0, None)] }
    }

    fn newest(&self) -> usize {
        let sequence = |n: usize| if self.copies[n].1.is_some() { self.copies[n].0 } else { 0 };
        usize::from(sequence(1) > sequence(0))
    }

    /// Replaces the copy that does not count; torn, that copy is damaged.
    pub fn save(&mut self, content: T, torn: bool) {
        let newest = self.newest();
        let sequence = self.copies[newest].0 + 1;
        self.copies[1 - newest] = (sequence, (!torn).then_some(content));
    }

    pub fn load(&self) -> T {
        self.copies[self.newest()].1.clone().expect("one copy is always good")
    }
}

/// Bytes of one copy of the environment: enough for our variables.
const SIZE: usize = 160;

/// A redundant U-Boot environment.
#[derive(Debug, Clone)]
pub struct BootEnv {
    images: [Vec<u8>; 2],
}

impl BootEnv {
    /// As a board comes from the factory: partition 2, a count left by an earlier update.
    pub fn new() -> BootEnv {
        let mut crc = flate2::Crc::new();
        crc.update(&[0; SIZE - 5]);
        let mut empty = crc.sum().to_le_bytes().to_vec();
        empty.resize(SIZE, 0);
        let mut env = BootEnv { images: [empty.clone(), empty] };
        let first = [("mender_boot_part", "2"), ("upgrade_available", "0"), ("bootcount", "5")];
        for write in env.plan(&first, false).expect("fits") {
            env.apply(&write, None);
        }
        env
    }

    fn load(&self) -> Result<(usize, Image)> {
        let images = [0, 1].map(|n| Image::decode(&self.images[n], Layout::Redundant).ok());
        let flags = [0, 1].map(|n| images[n].as_ref().map(|i| i.flag));
        match copies::newest(Scheme::Incremental, flags) {
            Some(n) => Ok((n, images[n].clone().expect("it counts, so it is good"))),
            None => Err(Error::new("BOOT-ENV-CORRUPT", "no copy of the environment is good")),
        }
    }

    /// A variable; empty if it is absent.
    pub fn get(&self, name: &str) -> Result<String> {
        let (_, image) = self.load()?;
        Ok(String::from_utf8_lossy(image.env.get(name).unwrap_or_default()).into_owned())
    }

    /// The writes that make these changes; none if nothing changes and both copies are good (BE-82), unless it is
    /// the boot loader's `saveenv`.
    pub fn plan(&self, changes: &[(&str, &str)], saveenv: bool) -> Result<Vec<Write>> {
        let (chosen, mut image) = self.load()?;
        let mut changed = saveenv;
        for (name, value) in changes {
            changed |= image.env.set(name, value)?;
        }
        let good = self.images.iter().all(|i| Image::decode(i, Layout::Redundant).is_ok());
        if !changed && good {
            Ok(Vec::new())
        } else {
            copies::plan(Scheme::Incremental, chosen, &image, SIZE)
        }
    }

    /// One write, or the part of it that arrives: of the bytes that it changes the first, half, or all but the last.
    pub fn apply(&mut self, write: &Write, torn: Option<Tear>) {
        let old = &mut self.images[write.copy][write.at..write.at + write.bytes.len()];
        let changed: Vec<usize> = (0..old.len()).filter(|n| old[*n] != write.bytes[*n]).collect();
        let arrived = torn.map_or(changed.len(), |t| t.of(changed.len()));
        for n in &changed[..arrived] {
            old[*n] = write.bytes[*n];
        }
    }
}
