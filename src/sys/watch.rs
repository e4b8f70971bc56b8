//! Watches two directories: wakes whoever waits when a file appears there (inotify).

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A directory, and one in it that may be missing.
#[derive(Debug)]
pub struct Watch {
    fd: OwnedFd,
    directories: [(PathBuf, u32); 2],
}

impl Watch {
    /// Something happens in the first directory when a file or directory is made in it or renamed into it; in the
    /// second when a file is renamed into it, or closed after it was written.
    pub fn new(first: PathBuf, second: PathBuf) -> io::Result<Watch> {
        // SAFETY: a plain system call; the descriptor it returns belongs to nobody else.
        let fd = unsafe {
            let fd = libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        let directories = [
            (first, libc::IN_MOVED_TO | libc::IN_CREATE),
            (second, libc::IN_MOVED_TO | libc::IN_CLOSE_WRITE),
        ];
        let watch = Watch { fd, directories };
        watch.add(0)?;
        // It may come later.
        let _ = watch.add(1);
        Ok(watch)
    }

    /// To be polled for reading.
    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Whether something has happened since the last call.
    pub fn happened(&self) -> bool {
        let mut happened = false;
        let mut buffer = [0u8; 4096];
        loop {
            // SAFETY: the buffer is valid for its length, the descriptor is open.
            let n = unsafe { libc::read(self.fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
            if n <= 0 {
                break;
            }
            happened = true;
        }
        if happened {
            // Directories may have been made anew. Watching one that is watched already changes nothing.
            let _ = self.add(0);
            let _ = self.add(1);
        }
        happened
    }

    fn add(&self, n: usize) -> io::Result<()> {
        let (path, events): &(PathBuf, u32) = &self.directories[n];
        add(self.fd(), path, *events | libc::IN_ONLYDIR)
    }
}

fn add(fd: RawFd, path: &Path, events: u32) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: `path` is a valid C string that outlives the call.
    if unsafe { libc::inotify_add_watch(fd, path.as_ptr(), events) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn files_that_appear_are_noticed_and_looking_is_not() {
        let dir = std::env::temp_dir().join(format!("thimble-watch-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).expect("makes");
        let inner = dir.join("inner");
        let watch = Watch::new(dir.clone(), inner.clone()).expect("inotify");
        assert!(!watch.happened());
        fs::write(dir.join("lock"), "").expect("writes");
        assert!(watch.happened());
        fs::write(dir.join("lock"), "again").expect("writes");
        fs::read(dir.join("lock")).expect("reads");
        assert!(!watch.happened(), "only names count in the first directory");
        fs::create_dir(&inner).expect("makes");
        assert!(watch.happened());
        fs::write(inner.join("x.json"), "{}").expect("writes");
        assert!(watch.happened(), "the second one was found when it came");
        fs::read(inner.join("x.json")).expect("reads");
        fs::remove_file(inner.join("x.json")).expect("removes");
        assert!(!watch.happened());
        fs::remove_dir_all(&dir).expect("removes");
    }
}
