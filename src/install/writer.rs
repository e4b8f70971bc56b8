//! Streams an image onto a partition: only what differs is written, and everything is read back at the end.
//! Knows no device: that is [`Disk`].

use crate::error::{Context, Error, Result};
use crate::ports::PayloadFiles;
use crate::sys::signal;
use sha2::{Digest, Sha256};
use std::io;

/// Bytes per step: a multiple of every sector size. Two such buffers are all the memory that is used.
pub const CHUNK: usize = 256 * 1024;
/// After so many written bytes the device is told to store them: a stick with 1 GB of unwritten pages would
/// stall the board for minutes at the end.
const SYNC_EVERY: u64 = 4 << 20;

/// Where an image goes. What is written is on stable storage only after [`Disk::sync`].
pub trait Disk {
    /// Fills the buffer from `at` bytes from the beginning.
    fn read_at(&mut self, buffer: &mut [u8], at: u64) -> io::Result<()>;
    /// Writes all bytes at `at` bytes from the beginning.
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Makes what was written durable.
    fn sync(&mut self) -> io::Result<()>;
    /// Sees to it that reading shows what is stored, not what is cached.
    fn drop_cache(&mut self) -> io::Result<()>;
    /// Whether old content can be read and compared, so that equal chunks are left alone (not on UBI volumes,
    /// which are written from beginning to end).
    fn keeps_old_content(&self) -> bool {
        true
    }
}

/// What a transfer did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Chunks that were written.
    pub written: u64,
    /// Chunks that were the same already.
    pub skipped: u64,
}

/// Copies the current payload file, of `size` bytes, onto the disk; bytes behind it stay. With `verify`,
/// everything is read back and compared by checksum. `name` is for errors and the log.
///
/// # Errors
/// `INTERRUPTED` when the agent is told to end; `ROOTFS-WRITE`, `ROOTFS-VERIFY`, `ROOTFS-SIZE`; what reading the
/// payload gives.
pub fn transfer(
    files: &mut dyn PayloadFiles,
    size: u64,
    disk: &mut dyn Disk,
    verify: bool,
    name: &str,
) -> Result<Counters> {
    let mut new = vec![0u8; CHUNK];
    let mut old = vec![0u8; CHUNK];
    let (mut at, mut unsynced, mut tenth) = (0u64, 0u64, 0u64);
    let mut counters = Counters::default();
    let mut sum = Sha256::new();
    loop {
        stop_if_told()?;
        let n = fill(files, &mut new)?;
        let chunk = &new[..n];
        if n as u64 > size - at {
            let text = format!("the image has more than the {size} bytes that the Artifact says");
            return Err(Error::new("ROOTFS-SIZE", text)); // BE-113
        }
        if n == 0 {
            break;
        }
        sum.update(chunk);
        let there = &mut old[..n];
        // What cannot be read may still be written: flash with a bad sector, a volume never written.
        let same = disk.keeps_old_content() && disk.read_at(there, at).is_ok() && there == chunk;
        if same {
            counters.skipped += 1;
        } else {
            disk.write_at(chunk, at)
                .context("ROOTFS-WRITE", || format!("cannot write {name} at byte {at}"))?;
            counters.written += 1;
            unsynced += n as u64;
        }
        if unsynced >= SYNC_EVERY {
            disk.sync().context("ROOTFS-WRITE", || format!("cannot write {name} before byte {at}"))?;
            unsynced = 0;
        }
        at += n as u64;
        report(at, size, &mut tenth, name);
    }
    if at != size {
        let text = format!("the image ended after {at} of {size} bytes");
        return Err(Error::new("ROOTFS-SIZE", text));
    }
    disk.sync().context("ROOTFS-WRITE", || format!("cannot store what was written to {name}"))?;
    log::info!(
        "{name}: {size} bytes; {} chunks written, {} were the same",
        counters.written,
        counters.skipped
    );
    if verify {
        read_back(disk, size, &mut new, sum, name)?;
    }
    Ok(counters)
}

/// Fills the buffer, except at the end of the file.
fn fill(files: &mut dyn PayloadFiles, buffer: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match files.read(&mut buffer[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

fn read_back(disk: &mut dyn Disk, size: u64, buffer: &mut [u8], expected: Sha256, name: &str) -> Result<()> {
    if let Err(e) = disk.drop_cache() {
        log::warn!("{name}: cannot drop the cache, what is read back may not be what is stored: {e}");
    }
    let (mut at, mut sum) = (0u64, Sha256::new());
    while at < size {
        stop_if_told()?;
        let n = usize::try_from(size - at).unwrap_or(usize::MAX).min(buffer.len());
        let chunk = &mut buffer[..n];
        disk.read_at(chunk, at)
            .context("ROOTFS-VERIFY", || format!("cannot read {name} back at byte {at}"))?;
        sum.update(&chunk);
        at += n as u64;
    }
    if sum.finalize() != expected.finalize() {
        let text = format!(
            "{name} does not hold the image that was written to it: the storage is failing, or something else \
             writes to it"
        );
        return Err(Error::new("ROOTFS-VERIFY", text));
    }
    log::info!("{name}: read back, it holds the image");
    Ok(())
}

fn stop_if_told() -> Result<()> {
    if signal::terminate() {
        return Err(Error::new("INTERRUPTED", "told to end while writing the root file system image"));
    }
    Ok(())
}

/// One line for every tenth.
fn report(at: u64, size: u64, tenth: &mut u64, name: &str) {
    let now = u64::try_from(u128::from(at) * 10 / u128::from(size.max(1))).unwrap_or(10);
    if now > *tenth {
        *tenth = now;
        log::info!("{name}: {} % of {size} bytes", now * 10);
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
