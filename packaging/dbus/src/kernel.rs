//! The only module with `unsafe`: what neither the standard library nor `thimble::sys` has.

use std::ffi::{CString, c_int};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A queue of what happens in one directory.
pub struct Inotify(OwnedFd);

impl Inotify {
    /// An empty one.
    pub fn new() -> io::Result<Inotify> {
        // SAFETY: a plain system call.
        let fd = checked(unsafe { libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC) })?;
        // SAFETY: the descriptor is open and belongs to nobody else.
        Ok(Inotify(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// To be polled for reading.
    pub fn descriptor(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Watches whatever happens to the names in a directory and to their files, and to the directory itself. Once more
    /// for the same directory it changes nothing.
    pub fn add(&self, directory: &Path) -> io::Result<()> {
        let path = CString::new(directory.as_os_str().as_bytes())?;
        let names = libc::IN_MOVED_TO | libc::IN_MOVED_FROM | libc::IN_DELETE;
        let what = names | libc::IN_CLOSE_WRITE | libc::IN_ATTRIB | libc::IN_MOVE_SELF | libc::IN_ONLYDIR;
        // SAFETY: `path` is a C string that outlives the call.
        checked(unsafe { libc::inotify_add_watch(self.descriptor(), path.as_ptr(), what) }).map(|_| ())
    }

    /// Empties the queue. Whether there was anything in it, and whether that was the end of the watch (the directory
    /// has gone).
    pub fn drain(&self) -> (bool, bool) {
        let (mut any, mut end) = (false, false);
        let mut buffer = [0u8; 4096];
        loop {
            // SAFETY: the buffer is valid for its length.
            let n = unsafe { libc::read(self.descriptor(), buffer.as_mut_ptr().cast(), buffer.len()) };
            let Some(mut events) = usize::try_from(n).ok().filter(|n| *n > 0).and_then(|n| buffer.get(..n))
            else {
                return (any, end);
            };
            any = true;
            // Watch, mask, cookie, length of the name: four bytes each; the name.
            while let [_, _, _, _, m0, m1, m2, m3, _, _, _, _, n0, n1, n2, n3, rest @ ..] = events {
                let mask = u32::from_ne_bytes([*m0, *m1, *m2, *m3]);
                end |= mask & (libc::IN_IGNORED | libc::IN_MOVE_SELF) != 0;
                events = rest.get(u32::from_ne_bytes([*n0, *n1, *n2, *n3]) as usize..).unwrap_or_default();
            }
        }
    }
}

fn checked(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
