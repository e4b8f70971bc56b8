//! Durable files: write temp, fsync, rename, fsync the directory. Locks and free space.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Replaces a file so that after a power cut either the old or the new content is there, whole.
///
/// The content is on stable storage when this returns. `mode` is that of the new file.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    let temp = path.with_file_name(name);
    let _ = fs::remove_file(&temp); // left by a power cut; a stale mode or link must not be inherited
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temp)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temp, path)?;
    sync_parent(path)
}

/// Removes a file if it is there; the removal is on stable storage when this returns.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync_parent(path),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

/// Makes the names in the directory of `path` durable.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    let dir = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    sync_dir(dir)
}

/// Makes the names in a directory durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Reads a file of at most `limit` bytes; a longer one is an error (`InvalidData`).
pub fn read_limited(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    // Most files fit at once: without room, the first reads would be for 32 bytes each.
    let mut content = Vec::with_capacity(usize::try_from(limit + 1).unwrap_or(4096).min(4096));
    File::open(path)?.take(limit + 1).read_to_end(&mut content)?;
    if content.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("longer than {limit} bytes")));
    }
    Ok(content)
}

/// An exclusive lock on a file, held until it is dropped (or the process dies). The file holds who has it.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

/// What [`Lock::take`] found.
#[derive(Debug)]
pub enum Taken {
    /// We have it.
    Ours(Lock),
    /// Somebody else has it; the text that they left in the file, at most 200 bytes.
    Theirs(String),
}

impl Lock {
    /// Tries to take the lock without waiting; `who` is left in the file for others to read.
    pub fn take(path: &Path, who: &str) -> io::Result<Taken> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW).open(path)?;
        if !flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB)? {
            let mut text = String::new();
            let _ = (&mut file).take(200).read_to_string(&mut text);
            return Ok(Taken::Theirs(text.trim().to_owned()));
        }
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(who.as_bytes())?;
        Ok(Taken::Ours(Lock { file }))
    }

    /// Waits for a lock that others hold only for moments. `mode` is that of the file if it is created: boot
    /// environment tools use 0666 (BE-57). `TimedOut` after `limit`.
    pub fn wait_for(path: &Path, mode: u32, limit: Duration) -> io::Result<Lock> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(mode).open(path)?;
        let deadline = Instant::now() + limit;
        while !flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB)? {
            if Instant::now() >= deadline {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "held by another process"));
            }
            super::signal::poll(&[], Some(Duration::from_millis(20)))?;
        }
        Ok(Lock { file })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = flock(self.file.as_raw_fd(), libc::LOCK_UN);
    }
}

fn flock(fd: RawFd, how: libc::c_int) -> io::Result<bool> {
    loop {
        // SAFETY: a plain system call on a descriptor that the caller holds open.
        if unsafe { libc::flock(fd, how) } == 0 {
            return Ok(true);
        }
        let e = io::Error::last_os_error();
        match e.kind() {
            io::ErrorKind::Interrupted => {}
            io::ErrorKind::WouldBlock => return Ok(false),
            _ => return Err(e),
        }
    }
}

/// Bytes that may still be written to the file system of `path` by an ordinary user.
pub fn free_space(path: &Path) -> io::Result<u64> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: statvfs is plain data; `path` is a valid C string; the call fills `s` in or fails.
    unsafe {
        let mut s: libc::statvfs = std::mem::zeroed();
        if libc::statvfs(path.as_ptr(), &mut s) != 0 {
            return Err(io::Error::last_os_error());
        }
        #[allow(clippy::unnecessary_cast)] // the members are 32 bits wide on some targets
        Ok((s.f_bavail as u64).saturating_mul(s.f_frsize as u64))
    }
}

/// Makes reads and writes on a descriptor return instead of waiting.
pub fn set_nonblocking(fd: RawFd) -> io::Result<()> {
    let mut on: libc::c_int = 1;
    // SAFETY: reads one number, which outlives the call.
    if unsafe { libc::ioctl(fd, libc::FIONBIO, &raw mut on) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Creates a named pipe.
pub fn make_fifo(path: &Path, mode: u32) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: `path` is a valid C string that outlives the call.
    if unsafe { libc::mkfifo(path.as_ptr(), mode as libc::mode_t) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Opens a named pipe for writing that does not wait. `None`: nobody has it open for reading, or waits to.
pub fn open_fifo(path: &Path) -> io::Result<Option<File>> {
    let flags = libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOFOLLOW;
    match OpenOptions::new().write(true).custom_flags(flags).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.raw_os_error() == Some(libc::ENXIO) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Opens for reading what should be a regular file: follows no link in the last place, and does not wait where it is
/// a named pipe.
pub fn open_plainly(path: &Path) -> io::Result<File> {
    let flags = libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOFOLLOW | libc::O_NOCTTY;
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// The user that we are.
pub fn own_uid() -> u32 {
    // SAFETY: takes nothing, cannot fail.
    unsafe { libc::geteuid() }
}

/// Puts `path` below `root` (`--root`): `/etc/x` becomes `ROOT/etc/x`. With root `/` nothing changes.
pub fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_taker_is_told_who_has_the_lock() {
        let path = std::env::temp_dir().join(format!("thimble-lock-{}", std::process::id()));
        let Taken::Ours(first) = Lock::take(&path, "pid 1, daemon\n").expect("takes") else { panic!("free") };
        let Taken::Theirs(who) = Lock::take(&path, "pid 2\n").expect("asks") else { panic!("held") };
        assert_eq!(who, "pid 1, daemon");
        drop(first);
        assert!(matches!(Lock::take(&path, "pid 2\n").expect("takes"), Taken::Ours(_)));
        fs::remove_file(path).expect("removes");
    }
}
