//! A program of its own, because being told to end is for the whole process.
#![allow(clippy::expect_used)]

use std::io;
use std::time::Duration;
use thimble::error::Result;
use thimble::install::writer::{CHUNK, Disk, transfer};
use thimble::ports::PayloadFiles;
use thimble::sys::signal;

struct Zeros(usize);

impl PayloadFiles for Zeros {
    fn next_file(&mut self) -> Result<Option<(String, u64)>> {
        Ok(None)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let n = self.0.min(buffer.len());
        buffer[..n].fill(0);
        self.0 -= n;
        Ok(n)
    }
}

/// A disk during whose second write the agent is told to end.
struct Told(usize);

impl Disk for Told {
    fn read_at(&mut self, _: &mut [u8], _: u64) -> io::Result<()> {
        Err(io::Error::other("nothing there"))
    }

    fn write_at(&mut self, _: &[u8], _: u64) -> io::Result<()> {
        self.0 += 1;
        if self.0 == 2 {
            let pid = std::process::id().to_string();
            std::process::Command::new("kill").args(["-TERM", &pid]).status()?;
            while !signal::terminate() {
                signal::poll(&[], Some(Duration::from_millis(10)))?;
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn drop_cache(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_transfer_ends_after_the_chunk_in_which_the_agent_is_told_to_end() {
    signal::install();
    let (size, mut disk) = (5 * CHUNK, Told(0));
    let error = transfer(&mut Zeros(size), size as u64, &mut disk, true, "disk").expect_err("interrupted");
    assert_eq!((error.code, disk.0), ("INTERRUPTED", 2));
}
