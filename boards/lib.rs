//! What thimble knows about boards: one folder each, data only. No I/O, no allocation, no dependency.
//!
//! A [`Board`] supplies defaults for what the device's configuration leaves open, never more: what is configured wins.
//! How to add one: `docs/boards.md`. The one list of them is `list.rs`.

#![no_std]

mod list;
mod select;

pub use list::ALL;
pub use select::{Found, LONGEST, by_name, entries, find};

/// One kind of board with one layout of its storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Board {
    /// Name of its folder, and of `Board` in mender.conf.
    pub name: &'static str,
    /// What images of this project call it in the file device_type. Only shown: the file decides (AF-46).
    pub device_type: &'static str,
    /// Entries of `compatible` at the root of the device tree that mean this board. Never that of a whole family of chips:
    /// boards with the same chip keep their root file systems elsewhere.
    pub compatible: &'static [&'static str],
    /// The beginning of the kernel's name for the machine (`uname -m`), where `compatible` alone does not tell.
    pub machine: Option<&'static str>,
    /// Root file system A, as in `RootfsPartA`.
    pub rootfs_a: &'static str,
    /// Root file system B.
    pub rootfs_b: &'static str,
    /// Where the boot loader keeps its variables.
    pub env: EnvAt,
    /// What is odd about it.
    pub quirks: Quirks,
    /// Whether `qemu/` starts it. If not, its numbers come from public sources and were never tried by this project.
    pub emulated: bool,
}

/// Where a boot environment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnvAt {
    /// On a block device, outside of all partitions, or on a partition of its own.
    Raw {
        /// The block device.
        device: &'static str,
        /// Bytes from its beginning; negative = from its end.
        offset: i64,
        /// Where the second copy is; `None`: there is one copy only.
        redundant: Option<i64>,
        /// Bytes of each copy (`CONFIG_ENV_SIZE`).
        size: u32,
    },
    /// In files of a mounted file system, usually the FAT that the boot loader reads.
    File {
        /// The file, when the file system is mounted.
        path: &'static str,
        /// The second copy; `None`: there is one copy only.
        redundant: Option<&'static str>,
        /// Bytes of each copy (`CONFIG_ENV_SIZE`).
        size: u32,
        /// The partition that must be mounted for it.
        partition: &'static str,
    },
    /// On raw flash: `fw_setenv` and its fw_env.config reach it.
    FwSetenv,
    /// In GRUB's environment blocks: `grub-mender-grubenv-print` and `-set` reach it.
    Grub,
}

impl EnvAt {
    /// Whether losing power during a write always leaves a good copy. `None`: the tools know.
    pub const fn is_redundant(&self) -> Option<bool> {
        match self {
            EnvAt::Raw { redundant, .. } => Some(redundant.is_some()),
            EnvAt::File { redundant, .. } => Some(redundant.is_some()),
            EnvAt::FwSetenv | EnvAt::Grub => None,
        }
    }
}

/// What is odd about a board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quirks {
    /// Block devices that the kernel protects from writing (`force_ro` in /sys, as for the hardware boot partitions of an
    /// eMMC), by their names in /dev, and that hold the environment: the protection is lifted around each write (BE-9).
    pub write_protected: &'static [&'static str],
}

impl Quirks {
    /// Nothing is odd.
    pub const NONE: Quirks = Quirks { write_protected: &[] };
}
