//! One copy of the environment on its device or in its file: located, read, written durably.

use super::fw_config::Area;
use super::protection::Unprotected;
use crate::error::{Context, Error, Result};
use crate::sys::block::{self, Node};
use crate::sys::file;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A file that is replaced as a whole must be held in memory; larger ones are written in place.
const REPLACE_LIMIT: u64 = super::env::MAX_SIZE as u64;

/// Where a copy is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Links resolved.
    path: PathBuf,
    /// Bytes from the beginning.
    at: u64,
    size: usize,
    is_file: bool,
    /// ` (line 2)`, or nothing.
    line: String,
}

impl Place {
    /// Looks at the device that a line of fw_env.config names.
    pub fn locate(area: &Area) -> Result<Place> {
        let name = Path::new(&area.device);
        let line = area.line.map(|n| format!("line {n}: ")).unwrap_or_default();
        let refuse = |text: String| Err(Error::new("BOOT-ENV-DEVICE", format!("{line}{text}")));
        if !name.is_absolute() {
            return refuse(format!("'{}' is not an absolute path", area.device));
        }
        refuse_flash(&area.device, &line)?;
        let path = fs::canonicalize(name).context("BOOT-ENV-DEVICE", || {
            format!("{line}'{}' (does the kernel provide it?)", area.device)
        })?;
        refuse_flash(&path.to_string_lossy(), &line)?;
        let about = || format!("{line}'{}'", path.display());
        let (end, is_file) = match block::node(&path).context("BOOT-ENV-DEVICE", about)? {
            Node::Regular(bytes) => (bytes, true),
            Node::Block(_) => {
                let size = File::open(&path).and_then(|f| block::size(&f));
                (size.context("BOOT-ENV-DEVICE", about)?, false)
            }
            _ => return refuse(format!("'{}' is neither a block device nor a file", path.display())),
        };
        let at = match u64::try_from(area.offset) {
            Ok(at) => Some(at),
            Err(_) => end.checked_sub(area.offset.unsigned_abs()),
        };
        let inside = |at: &u64| at.checked_add(area.size as u64).is_some_and(|e| e <= end);
        let Some(at) = at.filter(inside) else {
            return refuse(format!(
                "'{}' is {end} bytes long, too short for {:#x} bytes at offset {:#x}",
                path.display(),
                area.size,
                area.offset
            ));
        };
        let line = area.line.map(|n| format!(" (line {n})")).unwrap_or_default();
        Ok(Place { path, at, size: area.size, is_file, line })
    }

    /// Bytes of the copy.
    pub fn size(&self) -> usize {
        self.size
    }

    /// For errors and the log.
    pub fn describe(&self) -> String {
        format!("{} at {:#x}{}", self.path.display(), self.at, self.line)
    }

    /// Whether a write to one would touch the other.
    pub fn overlaps(&self, other: &Place) -> bool {
        let same = self.path == other.path
            || match (block::node(&self.path), block::node(&other.path)) {
                (Ok(Node::Block(a)), Ok(Node::Block(b))) => a == b,
                _ => false,
            };
        same && self.at.abs_diff(other.at) < self.size.max(other.size) as u64
    }

    /// Refuses a file on another file system than that of `partition`, if that is a block device.
    pub fn must_be_on(&self, partition: &Path) -> Result<()> {
        match (block::node(partition), block::device_of(&self.path)) {
            (Ok(Node::Block(wanted)), Ok(found)) if self.is_file && wanted != found => {
                let text = format!(
                    "'{}' is not on {}, where the boot loader looks for it",
                    self.path.display(),
                    partition.display()
                );
                Err(Error::new("BOOT-ENV-DEVICE", text))
            }
            _ => Ok(()),
        }
    }

    /// Reads the whole copy.
    pub fn read(&self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.size];
        File::open(&self.path)
            .and_then(|f| f.read_exact_at(&mut bytes, self.at))
            .context("BOOT-ENV-READ", || format!("cannot read {}", self.describe()))?;
        Ok(bytes)
    }

    /// Writes `bytes`, `at` bytes into the copy, in place; they are on stable storage and were read back right
    /// when this returns (BE-83). `root` is where /sys is looked for.
    pub fn write(&self, at: usize, bytes: &[u8], root: &Path) -> Result<()> {
        let begin = self.at + at as u64;
        let about = || format!("cannot write {}", self.describe());
        let name = self.path.file_name().and_then(|n| n.to_str());
        let _unprotected = Unprotected::lift(name, root)?;
        // Neither created nor shortened: it must be there in its full size (locate has seen to that).
        let file = OpenOptions::new().read(true).write(true).open(&self.path);
        let file = file.context("BOOT-ENV-WRITE", about)?;
        file.write_all_at(bytes, begin).context("BOOT-ENV-WRITE", about)?;
        file.sync_all().context("BOOT-ENV-WRITE", about)?;
        if self.is_file {
            block::forget_pages(&file, 0..0);
        } else if let Err(e) = block::drop_cache(&file) {
            crate::debug!("cannot drop the cache of {}: {e}", self.path.display());
        }
        let mut back = vec![0; bytes.len()];
        file.read_exact_at(&mut back, begin).context("BOOT-ENV-VERIFY", about)?;
        if back != bytes {
            let text =
                format!("{} does not hold what was written to it: the storage is failing", self.describe());
            return Err(Error::new("BOOT-ENV-VERIFY", text));
        }
        Ok(())
    }

    /// Writes the only copy. In a regular file a power cut leaves the old or the new one (BE-84); on a device it
    /// may leave neither.
    pub fn write_only_copy(&self, image: &[u8], root: &Path) -> Result<()> {
        if !self.is_file || fs::metadata(&self.path).map(|m| m.len()).unwrap_or(u64::MAX) > REPLACE_LIMIT {
            return self.write(0, image, root);
        }
        let about = || format!("cannot replace {}", self.path.display());
        self.replace(image).context("BOOT-ENV-WRITE", about)
    }

    /// Temporary file, fsync, rename, fsync of the directory; owner and mode stay.
    fn replace(&self, image: &[u8]) -> std::io::Result<()> {
        let old = fs::metadata(&self.path)?;
        let mut content = file::read_limited(&self.path, REPLACE_LIMIT)?;
        let begin = usize::try_from(self.at).unwrap_or(usize::MAX);
        let Some(area) = content.get_mut(begin..).and_then(|c| c.get_mut(..image.len())) else {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof));
        };
        area.copy_from_slice(image);
        let mut name = self.path.file_name().unwrap_or_default().to_os_string();
        name.push(".new");
        let temp = self.path.with_file_name(name);
        file::remove(&temp)?; // left by a power cut
        let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temp)?;
        let made = new.metadata()?;
        if (made.uid(), made.gid()) != (old.uid(), old.gid()) {
            std::os::unix::fs::fchown(&new, Some(old.uid()), Some(old.gid()))?;
        }
        if made.permissions() != old.permissions() {
            new.set_permissions(fs::Permissions::from_mode(old.mode() & 0o7777))?;
        }
        new.write_all(&content)?;
        new.sync_all()?;
        fs::rename(&temp, &self.path)?;
        file::sync_parent(&self.path)
    }
}

/// MTD and UBI need erase and update calls that are not built in.
fn refuse_flash(device: &str, line: &str) -> Result<()> {
    let name = device.strip_prefix("/dev/").unwrap_or("");
    let is_mtd =
        name.strip_prefix("mtd").is_some_and(|n| n.starts_with(|c: char| c.is_ascii_digit() || c == ':'));
    let is_ubi = name.strip_prefix("ubi").is_some_and(|n| n.starts_with(|c: char| c.is_ascii_digit()));
    if !is_mtd && !is_ubi {
        return Ok(());
    }
    let text = format!(
        "{line}'{device}' is raw flash ({}), which is not written natively; configure the fw_setenv adapter",
        if is_mtd { "MTD" } else { "UBI" }
    );
    Err(Error::new("BOOT-ENV-DEVICE", text))
}
