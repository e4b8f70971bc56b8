//! Files that nobody but us may have written or may read.

use super::file;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Whether the directory of `path` exists, is one (not a link to one) and is ours.
pub fn has_own_directory(path: &Path) -> bool {
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::symlink_metadata(directory).is_ok_and(|meta| meta.is_dir() && meta.uid() == us())
}

/// Reads at most `limit` bytes of text from a file that is ours and closed to others; anything else, a link too, is
/// an error.
pub fn read(path: &Path, limit: u64) -> io::Result<String> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() || meta.uid() != us() || meta.mode() & 0o077 != 0 {
        return Err(io::Error::other("it is not a file of ours that is closed to others"));
    }
    let mut text = String::new();
    file.take(limit).read_to_string(&mut text)?;
    Ok(text)
}

/// Replaces such a file.
pub fn write(path: &Path, text: &str) -> io::Result<()> {
    file::replace(path, text.as_bytes(), 0o600)
}

fn us() -> u32 {
    // SAFETY: a plain system call without arguments, which cannot fail.
    unsafe { libc::geteuid() }
}
