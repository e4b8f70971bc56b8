//! A board belongs to one process at a time: its images, cards and logs lie in one place.

use crate::sys::try_lock;
use crate::tool::Result;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Held as long as this lives; the end of the process, whatever ended it, gives it free.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "locked as long as it is open")] File);

impl Lock {
    /// Takes the lock of `what`. An error that names the process, if another one has it.
    pub fn take(path: &Path, what: &str) -> Result<Lock> {
        let failed = |e: io::Error| format!("{}: {e}", path.display());
        path.parent().map_or(Ok(()), fs::create_dir_all).map_err(failed)?;
        let opened = OpenOptions::new().create(true).append(true).open(path);
        let mut file = opened.map_err(failed)?;
        if !try_lock(&file).map_err(failed)? {
            let holder = fs::read_to_string(path).unwrap_or_default();
            return Err(format!("{what}: process {} plays it; wait for that, or end it", holder.trim()));
        }
        file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed)?;
        Ok(Lock(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use thimble_testkit::TempDir;

    #[test]
    fn a_board_that_is_played_names_the_process_and_is_free_when_that_has_ended() {
        let dir = TempDir::new("lock");
        let path = dir.path().join("lock/board");
        let first = Lock::take(&path, "board").unwrap();
        let error = Lock::take(&path, "board").unwrap_err();
        assert_eq!(
            error,
            format!("board: process {} plays it; wait for that, or end it", std::process::id())
        );
        drop(first);
        Lock::take(&path, "board").unwrap();
    }
}
