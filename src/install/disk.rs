//! The partition that takes an image: opened so that nothing else uses it, its size known.

use super::writer::Disk;
use crate::error::{Context, Error, Result};
use crate::sys::block::{self, Node};
use crate::sys::memory;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// An open partition, UBI volume, or (with `--root` only) regular file of fixed size.
#[derive(Debug)]
pub(super) struct Target {
    file: File,
    /// Bytes.
    pub size: u64,
    /// Bytes.
    sector: usize,
    kind: Kind,
    /// The image may stay in the cache.
    roomy: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Block,
    Volume,
    Regular,
}

impl Target {
    /// Opens what is there; nothing is ever created or shortened (BE-115). `root` is that of `--root`, `/` if
    /// there is none.
    pub fn open(path: &Path, root: &Path) -> Result<Target> {
        let about = || format!("cannot open {}, the inactive root partition", path.display());
        let node = block::node(path).context("ROOTFS-DEVICE", about)?;
        let simulated = root != Path::new("/");
        let (file, size, kind) = match node {
            Node::Block(_) => {
                // Fails for a device that is mounted, swapped to or part of another one.
                let file = block::open_exclusive(path).context("ROOTFS-DEVICE", about)?;
                let size = block::size(&file).context("ROOTFS-DEVICE", about)?;
                (file, size, Kind::Block)
            }
            Node::Character(_) => {
                let size = block::volume_size(path, root).context("ROOTFS-DEVICE", || {
                    format!("{} is a character device, but not a UBI volume", path.display())
                })?;
                let file = OpenOptions::new().read(true).write(true).open(path);
                (file.context("ROOTFS-DEVICE", about)?, size, Kind::Volume)
            }
            Node::Regular(size) if simulated => {
                let file = OpenOptions::new().read(true).write(true).open(path);
                (file.context("ROOTFS-DEVICE", about)?, size, Kind::Regular)
            }
            Node::Regular(_) | Node::Other => {
                let text = format!(
                    "{} is not a block device. Something may have written a file where the partition's node belongs; \
                     check RootfsPartA and RootfsPartB",
                    path.display()
                );
                return Err(Error::new("ROOTFS-DEVICE", text));
            }
        };
        let sector = match kind {
            Kind::Block => block::sector_size(&file).context("ROOTFS-DEVICE", about)? as usize,
            Kind::Volume | Kind::Regular => 512,
        };
        Ok(Target { file, size, sector, kind, roomy: false })
    }

    /// Announces how much will be written: a UBI volume must know before the first byte (BE-114). From here on
    /// its old content is lost.
    pub fn begin(&mut self, bytes: u64) -> Result<()> {
        self.roomy = bytes < memory::free() / 2;
        match self.kind {
            Kind::Volume => block::start_volume_update(&self.file, bytes)
                .context("ROOTFS-WRITE", || "cannot begin the update of the UBI volume".to_owned()),
            Kind::Block | Kind::Regular => Ok(()),
        }
    }
}

impl Disk for Target {
    fn read_at(&mut self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, at)
    }

    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        match self.kind {
            Kind::Volume => io::Write::write_all(&mut self.file, bytes), // in sequence only
            Kind::Block | Kind::Regular => self.file.write_all_at(bytes, at),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn drop_cache(&mut self) -> io::Result<()> {
        match self.kind {
            Kind::Block => block::drop_cache(&self.file),
            Kind::Regular => {
                block::forget_pages(&self.file, 0..0);
                Ok(())
            }
            Kind::Volume => Ok(()),
        }
    }

    // What is written to a volume is in the flash at once.
    fn begin_storing(&mut self, bytes: Range<u64>) -> io::Result<()> {
        if self.kind == Kind::Volume { Ok(()) } else { block::begin_storing(&self.file, bytes) }
    }

    /// The pages go, too: a whole image in the cache would drive out what the board needs. Where most of the memory is free
    /// it would not, and letting go costs a twentieth of the whole installation.
    fn finish_storing(&mut self, bytes: Range<u64>) -> io::Result<()> {
        if self.kind == Kind::Volume {
            return Ok(());
        }
        block::finish_storing(&self.file, bytes.clone())?;
        if !self.roomy {
            block::forget_pages(&self.file, bytes);
        }
        Ok(())
    }

    fn sector(&self) -> usize {
        self.sector
    }

    fn keeps_old_content(&self) -> bool {
        self.kind != Kind::Volume
    }
}
