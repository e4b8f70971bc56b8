//! The lowest reader: the caller's `Read` with its interruptions hidden and its errors kept readable.

use std::io::{self, Read};

use super::fault::carry;
use crate::error::Error;

/// Counts what was read, so that an error can say where.
#[derive(Debug)]
pub(super) struct Source<R> {
    inner: R,
    at: u64,
}

impl<R> Source<R> {
    pub(super) fn new(inner: R) -> Source<R> {
        Source { inner, at: 0 }
    }
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.inner.read(buffer) {
                // A reader that counts wrongly must not make us slice out of bounds.
                Ok(n) if n > buffer.len() => {
                    let text = "the reader returned more bytes than there was room for";
                    return Err(carry(Error::new("ARTIFACT-READ", text)));
                }
                Ok(n) => {
                    self.at = self.at.saturating_add(n as u64);
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // The text is kept: a network error is not a damaged Artifact.
                Err(e) => {
                    let text = format!("cannot read the Artifact at byte {}: {e}", self.at);
                    return Err(carry(Error::new("ARTIFACT-READ", text)));
                }
            }
        }
    }
}

/// Lets at most `left` bytes through; the next one is an error that names the limit.
#[derive(Debug)]
pub(super) struct Limited<R> {
    inner: R,
    left: u64,
    limit: u64,
    label: &'static str,
}

impl<R> Limited<R> {
    pub(super) fn new(inner: R, limit: u64, label: &'static str) -> Limited<R> {
        Limited { inner, left: limit, limit, label }
    }
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // One byte too many is enough to know: no decoder shall work, and take memory, for more.
        let most = usize::try_from(self.left.saturating_add(1)).unwrap_or(usize::MAX).min(buffer.len());
        let n = self.inner.read(&mut buffer[..most])?;
        match self.left.checked_sub(n as u64) {
            Some(left) => {
                self.left = left;
                Ok(n)
            }
            None => {
                let text = format!("{} unpacks to more than the limit of {} bytes", self.label, self.limit);
                Err(carry(Error::new("ARTIFACT-LIMIT", text)))
            }
        }
    }
}
