//! The two root partitions: which one runs, and which one takes the update.

use super::mounts::Mount;
use super::running::{self, System};
use crate::error::{Error, Result};
use crate::sys::block::{self, Node};
use crate::sys::file;
use std::path::{Path, PathBuf};

/// One root partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Its node, with the links of BE-18 resolved. It need not exist.
    pub path: PathBuf,
    /// The number that `mender_boot_part` has for it: the digits at the end of the path (BE-19).
    pub number: u32,
    /// Device number, if it is a block or character device.
    pub device: Option<u64>,
}

/// Both root partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slots {
    /// The one that this system runs from.
    pub active: Slot,
    /// The other one.
    pub inactive: Slot,
    /// How the active one was found.
    pub evidence: Evidence,
}

/// How the running root partition was found, the most reliable first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// It is what is mounted as `/`.
    Mounted,
    /// The kernel was started with it as `root=`.
    CommandLine,
    /// Nothing of the above can tell (a root of btrfs, say): `mender_boot_part` (BE-26).
    Environment,
}

/// Finds out which of the two runs (BE-17..28). Below `root` (`--root`) /proc, /sys and /dev are looked at; the
/// paths of the partitions are used as they are.
///
/// `boot_part` is the value of `mender_boot_part`. It is asked only when neither the mounts nor the kernel's
/// command line can tell: whether it agrees with what runs is for the caller to judge ([`boot_part`]).
///
/// # Errors
/// `BOOT-SLOTS-CONFIG` for partitions that cannot be a pair; `BOOT-SLOTS-ROOT` when the running root is neither
/// of them, or cannot be found out.
pub fn detect(root: &Path, part_a: &str, part_b: &str, boot_part: &str) -> Result<Slots> {
    let a = Slot::new(root, "RootfsPartA", part_a)?;
    let b = Slot::new(root, "RootfsPartB", part_b)?;
    if a.path == b.path || (a.device.is_some() && a.device == b.device) {
        return Err(config(format!(
            "RootfsPartA and RootfsPartB are the same partition, {}",
            a.path.display()
        )));
    }
    if a.number == b.number {
        return Err(config(format!(
            "RootfsPartA {} and RootfsPartB {} have the same number, so mender_boot_part cannot tell them apart",
            a.path.display(),
            b.path.display()
        )));
    }
    let (a_runs, evidence) = running::find(&System::read(root), &a, &b, boot_part)?;
    let (active, inactive) = if a_runs { (a, b) } else { (b, a) };
    Ok(Slots { active, inactive, evidence })
}

/// The number in `mender_boot_part`: decimal, without leading zeros, as the boot loader puts it into `root=`.
///
/// # Errors
/// `BOOT-SLOTS-VARIABLE` when it is absent, or anything else.
pub fn boot_part(value: Option<&str>) -> Result<u32> {
    let wrong = |text: String| Error::new("BOOT-SLOTS-VARIABLE", text);
    let Some(text) = value.filter(|v| !v.is_empty()) else {
        return Err(wrong("boot environment has no mender_boot_part".to_owned()));
    };
    match text.parse::<u32>() {
        Ok(number) if number.to_string() == text => Ok(number),
        _ => Err(wrong(format!(
            "mender_boot_part in the boot environment is '{text}', not the number of a partition. Set it to that of \
             the running root"
        ))),
    }
}

impl Slot {
    fn new(root: &Path, key: &str, text: &str) -> Result<Slot> {
        let path = resolve(root, text, Given::InConfiguration).ok_or_else(|| {
            config(format!(
                "{key} '{text}' is not an absolute path of a partition, or a link that leads nowhere"
            ))
        })?;
        let number = number(&path).ok_or_else(|| {
            config(format!(
                "{key} '{text}' leads to {}, which has no partition number at its end",
                path.display()
            ))
        })?;
        let device = device(&path);
        Ok(Slot { path, number, device })
    }

    /// Where this partition is mounted, the root included; the latest first.
    pub fn mounted_on(&self, root: &Path) -> Vec<String> {
        let is_ours = |m: &Mount| {
            (self.device.is_some() && self.device == m.device)
                || resolve(root, &m.source, Given::BySystem).is_some_and(|p| {
                    p == self.path
                        || file::below(root, &p.to_string_lossy()) == self.path
                        || (self.device.is_some() && device(&p) == self.device)
                })
        };
        running::read_mounts(root).into_iter().rev().filter(is_ours).map(|m| m.point).collect()
    }
}

/// Where a path comes from: with `--root`, those of the configuration are used as they are, those that the
/// system names are looked for below the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Given {
    InConfiguration,
    BySystem,
}

/// Follows the few kinds of links that Mender follows (BE-18), and puts `/dev/` before UBI names (BE-20).
/// Others are kept: their own name may carry the number (`/dev/mapper/root-2`).
pub(super) fn resolve(root: &Path, text: &str, given: Given) -> Option<PathBuf> {
    let text = match text.strip_prefix("ubi") {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_digit()) && !rest.contains(':') => {
            format!("/dev/{text}")
        }
        _ => text.to_owned(),
    };
    if !text.starts_with('/') {
        return None;
    }
    let is_link = ["/dev/root", "/dev/disk/by-partuuid/", "/dev/disk/by-partlabel/"]
        .iter()
        .any(|p| if p.ends_with('/') { text.starts_with(p) } else { text == *p });
    let path = PathBuf::from(&text);
    if !is_link {
        return Some(path);
    }
    let below = if given == Given::BySystem { file::below(root, &text) } else { path };
    let target = std::fs::canonicalize(&below).ok()?;
    // What was found below the root is named as the system there names it.
    match (given, target.strip_prefix(root)) {
        (Given::BySystem, Ok(inside)) => Some(Path::new("/").join(inside)),
        _ => Some(target),
    }
}

/// The device number of a node that exists.
pub(super) fn device(path: &Path) -> Option<u64> {
    match block::node(path) {
        Ok(Node::Block(number) | Node::Character(number)) => Some(number),
        _ => None,
    }
}

/// The digits at the end of the name (BE-19). Whole disks whose names end with digits have no partition number.
fn number(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?;
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = &name[stem.len()..];
    let is_disk = match stem {
        "mmcblk" | "nbd" => true,
        _ if stem.starts_with("mmcblk") && stem.ends_with("boot") => true,
        _ if stem.starts_with("nvme") && stem.ends_with('n') => true,
        _ => false,
    };
    if is_disk { None } else { digits.parse().ok() }
}

fn config(text: String) -> Error {
    Error::new("BOOT-SLOTS-CONFIG", format!("{text}. Correct the configuration (RootfsPartA, RootfsPartB)"))
}

#[cfg(test)]
#[path = "slots_tests.rs"]
mod tests;
