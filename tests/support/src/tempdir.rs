//! A directory of its own for each test, removed at its end.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A new empty directory, removed with everything in it on drop unless `THIMBLE_KEEP` is set.
#[derive(Debug)]
pub struct TempDir {
    path: PathBuf,
}

impl TempDir {
    /// Makes the directory; `name` only helps to recognise it.
    pub fn new(name: &str) -> TempDir {
        let base = std::env::temp_dir();
        let base = base.canonicalize().unwrap_or(base);
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = base.join(format!("thimble-{name}-{}-{count}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => return TempDir { path },
                // Left by an earlier process of the same number.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => panic!("cannot make {}: {error}", path.display()),
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if std::env::var_os("THIMBLE_KEEP").is_some() {
            eprintln!("kept: {}", self.path.display());
        } else {
            // What cannot be removed is no reason to fail a test that passed.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_new_and_goes_away() {
        let (one, two) = (TempDir::new("same"), TempDir::new("same"));
        assert_ne!(one.path(), two.path());
        fs::write(one.path().join("file"), "x").unwrap();
        let path = one.path().to_owned();
        drop(one);
        assert!(!path.exists() || std::env::var_os("THIMBLE_KEEP").is_some());
    }
}
