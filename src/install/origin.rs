//! Which partition a root file system update came from: a small file that outlives power cuts, from ArtifactInstall
//! to Cleanup. The boot environment forgets it with the commit, and a rollback may be needed after that.
//!
//! Content: `from=2`, `to=3`, each on a line of its own. An absent or damaged file means: not known.

use crate::error::{Context, Result};
use crate::sys::file;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const LIMIT: u64 = 200;

/// Numbers of partitions, as in `mender_boot_part`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    /// What ran before the update.
    pub from: u32,
    /// What the update was written to.
    pub to: u32,
}

impl Origin {
    fn encode(self) -> String {
        format!("from={}\nto={}\n", self.from, self.to)
    }

    fn decode(text: &str) -> Option<Origin> {
        let (from, to) = text.strip_prefix("from=")?.strip_suffix('\n')?.split_once("\nto=")?;
        let origin = Origin { from: from.parse().ok()?, to: to.parse().ok()? };
        (origin.from != origin.to && origin.encode() == text).then_some(origin)
    }
}

/// The file. Without a path nothing is remembered.
#[derive(Debug)]
pub(super) struct Memory(pub Option<PathBuf>);

impl Memory {
    /// Remembers; on stable storage when this returns.
    pub fn write(&self, origin: Origin) -> Result<()> {
        let Some(path) = &self.0 else { return Ok(()) };
        file::replace(path, origin.encode().as_bytes(), 0o600).context("ROOTFS-ORIGIN", || {
            format!(
                "cannot write {}, which is needed to go back; is the data store full or read-only?",
                path.display()
            )
        })
    }

    /// What is remembered about these two partitions.
    pub fn read(&self, one: u32, other: u32) -> Option<Origin> {
        let path = self.0.as_deref()?;
        let text = match file::read_limited(path, LIMIT) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(e) if e.kind() == ErrorKind::NotFound => return None,
            Err(e) => return ignored(path, &e.to_string()),
        };
        match Origin::decode(&text) {
            Some(origin) if [(one, other), (other, one)].contains(&(origin.from, origin.to)) => Some(origin),
            Some(Origin { from, to }) => {
                ignored(path, &format!("it is about partitions {from} and {to}, not {one} and {other}"))
            }
            None => ignored(path, "it is damaged"),
        }
    }

    /// Forgets, durably.
    pub fn remove(&self) -> Result<()> {
        let Some(path) = &self.0 else { return Ok(()) };
        file::remove(path).context("ROOTFS-ORIGIN", || format!("cannot remove {}", path.display()))
    }
}

fn ignored(path: &Path, why: &str) -> Option<Origin> {
    log::warn!("{} is ignored: {why}; only the boot environment says where to go back to", path.display());
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_written_is_read() {
        let origin = Origin { from: 2, to: 13 };
        assert_eq!(origin.encode(), "from=2\nto=13\n");
        assert_eq!(Origin::decode("from=2\nto=13\n"), Some(origin));
        let whole = origin.encode();
        for cut in 0..whole.len() {
            assert_eq!(Origin::decode(&whole[..cut]), None, "cut at {cut}");
        }
        for bad in
            ["from=2\nto=2\n", "from=02\nto=3\n", "from=+2\nto=3\n", "from=2\r\nto=3\n", "from=2\nto=3\n\n"]
        {
            assert_eq!(Origin::decode(bad), None, "{bad:?}");
        }
    }
}
