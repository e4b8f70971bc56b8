//! Streams an image onto a partition: only blocks that differ are written, storing goes on all the time with a bounded
//! amount of unstored data, and everything is read back at the end. Knows no device: that is [`Disk`].

use super::compare::{Interest, Look, differing, same};
use crate::error::{Context, Error, Result};
use crate::ports::PayloadFiles;
use crate::sys::signal;
use sha2::{Digest, Sha256};
use std::io;
use std::ops::Range;

/// Bytes that are written at once, at most. The kernel keeps what comes in such pieces in larger pages, where it can: with
/// 256 KiB writing costs a third more (docs/footprint.md). With a buffer for a [`PIECE`], all the memory that is used.
pub const CHUNK: usize = 1 << 20;
/// Bytes that are compared at once: a multiple of every sector size.
pub const PIECE: usize = 256 << 10;
/// What is compared and written at least: the page of most systems, the block of most file systems.
pub const BLOCK: usize = 4096;
/// When so many bytes have passed, storing them begins, and that of those before them is waited for. So at most two windows
/// wait for a slow card at any time: neither does the end take minutes, nor does the board stall on the way.
pub const WINDOW: u64 = 4 << 20;

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
    /// Has the system begin to store these bytes, and does not wait. Not durable: that is [`Disk::sync`].
    fn begin_storing(&mut self, bytes: Range<u64>) -> io::Result<()> {
        let _ = bytes;
        Ok(())
    }
    /// Waits until these bytes have left the memory, and lets go of it.
    fn finish_storing(&mut self, bytes: Range<u64>) -> io::Result<()> {
        let _ = bytes;
        Ok(())
    }
    /// Whether old content can be read and compared, so that equal blocks are left alone (not on UBI volumes,
    /// which are written from beginning to end).
    fn keeps_old_content(&self) -> bool {
        true
    }
    /// Size of the sectors in bytes. Nothing smaller is written, except at the end of the image.
    fn sector(&self) -> usize {
        512
    }
}

/// What a transfer did, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Were written.
    pub written: u64,
    /// Were the same already.
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
    let mut writer = Writer::new(disk, name);
    let (mut at, mut tenth) = (0u64, 0u64);
    // Reading a payload compares its checksum anyway: no need to compute it twice where it is known.
    let wanted = files.checksum();
    let mut sum = (verify && wanted.is_none()).then(Sha256::new);
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
        if let Some(sum) = &mut sum {
            sum.update(chunk);
        }
        writer.put(chunk, at)?;
        at += n as u64;
        report(at, size, &mut tenth, name);
    }
    if at != size {
        let text = format!("the image ended after {at} of {size} bytes");
        return Err(Error::new("ROOTFS-SIZE", text));
    }
    let counters = writer.finish()?;
    let Counters { written, skipped } = counters;
    log::info!("{name}: {size} bytes; {written} of them written, {skipped} were the same");
    if verify {
        let wanted = wanted.or_else(|| sum.map(|sum| sum.finalize().into()));
        read_back(disk, size, &mut new, wanted, name)?;
    }
    Ok(counters)
}

/// Puts one chunk after the other onto the disk.
struct Writer<'a> {
    disk: &'a mut dyn Disk,
    name: &'a str,
    /// Old content. Empty: nothing is compared.
    old: Vec<u8>,
    unit: usize,
    interest: Interest,
    counters: Counters,
    /// What passed since storing was last begun.
    window: Range<u64>,
    /// What is being stored.
    before: Range<u64>,
}

impl<'a> Writer<'a> {
    fn new(disk: &'a mut dyn Disk, name: &'a str) -> Writer<'a> {
        // What counts is what the storage has. The cache may have something else: after a write that failed.
        let compare = disk.keeps_old_content()
            && disk
                .drop_cache()
                .inspect_err(|e| log::warn!("{name}: cannot drop the cache, so all of it is written: {e}"))
                .is_ok();
        let old = if compare { vec![0; PIECE] } else { Vec::new() };
        let unit = disk.sector().next_power_of_two().clamp(BLOCK, PIECE);
        let counters = Counters::default();
        Writer { disk, name, old, unit, interest: Interest::new(), counters, window: 0..0, before: 0..0 }
    }

    /// `at` is where the chunk before it ended. Only the last one may be short.
    fn put(&mut self, chunk: &[u8], at: u64) -> Result<()> {
        let mut old = std::mem::take(&mut self.old);
        let result = self.put_pieces(chunk, &mut old, at);
        self.old = old;
        result?;
        self.window.end = at + chunk.len() as u64;
        if self.window.end - self.window.start >= WINDOW { self.next_window() } else { Ok(()) }
    }

    /// Neighbours that are to be written go out as one.
    fn put_pieces(&mut self, chunk: &[u8], old: &mut [u8], at: u64) -> Result<()> {
        let mut pending = 0..0;
        let mut start = 0;
        for piece in chunk.chunks(PIECE) {
            let mut put = |writer: &mut Self, stretch: Range<usize>| {
                let stretch = start + stretch.start..start + stretch.end;
                if stretch.start == pending.end {
                    pending.end = stretch.end;
                    return Ok(());
                }
                let before = std::mem::replace(&mut pending, stretch);
                writer.write(&chunk[before.clone()], at + before.start as u64)
            };
            let old = &mut old[..];
            if self.reads_old(piece, old, at + start as u64) {
                let old = &old[..piece.len()];
                let mut equal = piece.len();
                for stretch in differing(piece, old, self.unit) {
                    equal -= stretch.len();
                    put(self, stretch)?;
                }
                self.interest.compared(equal > 0);
                self.counters.skipped += equal as u64;
            } else {
                put(self, 0..piece.len())?;
            }
            start += piece.len();
        }
        self.write(&chunk[pending.clone()], at + pending.start as u64)
    }

    /// Whether the piece is to be compared with what is there; reads that into `old`.
    fn reads_old(&mut self, piece: &[u8], old: &mut [u8], at: u64) -> bool {
        if old.is_empty() {
            return false;
        }
        match self.interest.next() {
            Look::Everything => {}
            Look::Nothing => return false,
            Look::Sample => {
                let index = self.interest.sample_of(piece.len().div_ceil(self.unit)) * self.unit;
                let new = &piece[index..][..self.unit.min(piece.len() - index)];
                let old = &mut old[..new.len()];
                if self.disk.read_at(old, at + index as u64).is_err() || !same(new, old) {
                    self.interest.sampled_in_vain();
                    return false;
                }
            }
        }
        // What cannot be read may still be written: flash with a bad sector, a volume never written.
        let there = self.disk.read_at(&mut old[..piece.len()], at).is_ok();
        if !there {
            self.interest.compared(false);
        }
        there
    }

    fn write(&mut self, bytes: &[u8], at: u64) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let name = self.name;
        self.disk
            .write_at(bytes, at)
            .context("ROOTFS-WRITE", || format!("cannot write {name} at byte {at}"))?;
        self.counters.written += bytes.len() as u64;
        Ok(())
    }

    /// Storing is always under way, and never of more than two windows.
    fn next_window(&mut self) -> Result<()> {
        let (name, end) = (self.name, self.window.end);
        let begun = self.disk.begin_storing(self.window.clone());
        let done = begun.and_then(|()| match self.before.is_empty() {
            true => Ok(()),
            false => self.disk.finish_storing(self.before.clone()),
        });
        self.before = std::mem::replace(&mut self.window, end..end);
        done.context("ROOTFS-WRITE", || format!("cannot store what was written to {name} before byte {end}"))
    }

    /// Even if nothing was written: what an update that was cut off has written may not be stored yet.
    fn finish(self) -> Result<Counters> {
        let name = self.name;
        self.disk.sync().context("ROOTFS-WRITE", || format!("cannot store what was written to {name}"))?;
        Ok(self.counters)
    }
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

fn read_back(
    disk: &mut dyn Disk,
    size: u64,
    buffer: &mut [u8],
    wanted: Option<[u8; 32]>,
    name: &str,
) -> Result<()> {
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
    if Some(sum.finalize().into()) != wanted {
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
