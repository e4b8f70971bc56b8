//! Which of two partitions the running root file system is on: from the mounts, else from the kernel's command
//! line, else from the boot environment (BE-21..28).

use super::mounts::{self, Mount};
use super::slots::{Evidence, Given, Slot, boot_part, device, resolve};
use crate::error::{Error, Result};
use crate::sys::block;
use crate::sys::file;
use std::path::{Path, PathBuf};

/// The files of /proc are short; a longer one is read no further.
const LIMIT: u64 = 1 << 20;
/// How many device-mapper devices may lie on top of each other.
const DEPTH: usize = 4;

/// What the system says about its root.
pub(super) struct System {
    root: PathBuf,
    mounts: Vec<Mount>,
    cmdline: String,
    /// Device of `/`; only without `--root`.
    own: Option<u64>,
}

impl System {
    /// Looks below `root`.
    pub fn read(root: &Path) -> System {
        let own = if root == Path::new("/") { block::device_of(root).ok() } else { None };
        let cmdline = text(root, "/proc/cmdline").unwrap_or_default();
        System { root: root.to_owned(), mounts: read_mounts(root), cmdline, own }
    }
}

/// Everything that is mounted, as far as it can be found out.
pub(super) fn read_mounts(root: &Path) -> Vec<Mount> {
    let first = text(root, "/proc/self/mountinfo").map(|t| mounts::mountinfo(&t)).filter(|m| !m.is_empty());
    first.or_else(|| text(root, "/proc/mounts").map(|t| mounts::mounts(&t))).unwrap_or_default()
}

fn text(root: &Path, path: &str) -> Option<String> {
    let bytes = file::read_limited(&file::below(root, path), LIMIT).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// What one source of knowledge says.
enum Answer {
    A,
    B,
    /// It is a certain other device.
    Neither(String),
    Unknown,
}

/// Whether A (true) or B runs.
pub(super) fn find(system: &System, a: &Slot, b: &Slot, variable: &str) -> Result<(bool, Evidence)> {
    let pair = Pair { system, a, b };
    let neither = |what: String| {
        let text = format!(
            "the running root file system is on {what}, which is neither RootfsPartA ({}) nor RootfsPartB ({}); a \
             root file system can be updated only from one of them",
            a.path.display(),
            b.path.display()
        );
        Err(Error::new("BOOT-SLOTS-ROOT", text))
    };
    match pair.ask_mounts() {
        Answer::A => return Ok((true, Evidence::Mounted)),
        Answer::B => return Ok((false, Evidence::Mounted)),
        Answer::Neither(what) => return neither(what),
        Answer::Unknown => {}
    }
    let argument = mounts::root_argument(&system.cmdline);
    match argument.map_or(Answer::Unknown, |argument| pair.ask_argument(argument)) {
        Answer::A => return Ok((true, Evidence::CommandLine)),
        Answer::B => return Ok((false, Evidence::CommandLine)),
        Answer::Neither(what) => return neither(what),
        Answer::Unknown => {}
    }
    let kind = pair.top().map_or("nothing known", |m| m.kind.as_str());
    if !["overlay", "btrfs", "zfs", "bcachefs", "ubifs"].contains(&kind) {
        // Nothing says that there is a partition below it at all (BE-28).
        let text = format!(
            "cannot find out which partition the running root file system ({kind}) is on: neither the mounts nor \
             root={} of the kernel's command line tell",
            argument.unwrap_or("")
        );
        return Err(Error::new("BOOT-SLOTS-ROOT", text));
    }
    let number = boot_part(Some(variable))?;
    log::warn!("the running root partition is taken from mender_boot_part: {kind} does not tell where it is");
    match number {
        n if n == a.number => Ok((true, Evidence::Environment)),
        n if n == b.number => Ok((false, Evidence::Environment)),
        n => neither(format!("partition {n} (mender_boot_part)")),
    }
}

struct Pair<'a> {
    system: &'a System,
    a: &'a Slot,
    b: &'a Slot,
}

impl Pair<'_> {
    fn by_number(&self, number: u64) -> Answer {
        if self.a.device == Some(number) {
            Answer::A
        } else if self.b.device == Some(number) {
            Answer::B
        } else {
            Answer::Unknown
        }
    }

    /// By the name, then by the number of the node.
    fn by_path(&self, text: &str) -> Answer {
        let Some(path) = resolve(&self.system.root, text, Given::BySystem) else { return Answer::Unknown };
        // The system's own name of it, or where it is for us: slots that a board supplies are below the root.
        let here = file::below(&self.system.root, &path.to_string_lossy());
        let is = |slot: &Slot| path == slot.path || here == slot.path;
        if is(self.a) {
            return Answer::A;
        }
        if is(self.b) {
            return Answer::B;
        }
        match device(&here).map(|n| (n, self.by_number_or_below(n, 0))) {
            Some((_, answer @ (Answer::A | Answer::B))) => answer,
            _ if text == "/dev/root" || unclear(&path) => Answer::Unknown,
            _ => Answer::Neither(path.display().to_string()),
        }
    }

    /// By device number, else by what lies below a device-mapper device (dm-verity, say).
    fn by_number_or_below(&self, number: u64, depth: usize) -> Answer {
        match self.by_number(number) {
            Answer::Unknown if depth < DEPTH => {}
            answer => return answer,
        }
        let (major, minor) = block::major_minor(number);
        let dir = file::below(&self.system.root, &format!("/sys/dev/block/{major}:{minor}/slaves"));
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let number = std::fs::read_to_string(entry.path().join("dev")).ok();
            if let Some(number) = number.and_then(|t| mounts::number(&t))
                && let answer @ (Answer::A | Answer::B) = self.by_number_or_below(number, depth + 1)
            {
                return answer;
            }
        }
        Answer::Unknown
    }

    /// Whether a device number is that of a disk or partition that stands for itself, so that it would have to be
    /// one of the two if they are such devices: not anonymous (major 0), loop (7), RAID (9), device-mapper, UBI.
    fn is_plain_device(&self, number: u64) -> bool {
        let (major, minor) = block::major_minor(number);
        let dir = file::below(&self.system.root, &format!("/sys/dev/block/{major}:{minor}"));
        let is_flash =
            |slot: &Slot| slot.path.starts_with("/dev") && slot.path.to_string_lossy().contains("ubi");
        ![0, 7, 9].contains(&major)
            && self.a.device.is_some()
            && self.b.device.is_some()
            && !is_flash(self.a)
            && !is_flash(self.b)
            && dir.exists()
            && !dir.join("dm").exists()
    }

    /// What is mounted as `/` and visible: the last one of them.
    fn top(&self) -> Option<&Mount> {
        self.system.mounts.iter().rev().find(|m| m.point == "/")
    }

    fn ask_mounts(&self) -> Answer {
        if let Some(own) = self.system.own {
            match self.by_number_or_below(own, 0) {
                Answer::Unknown if !self.is_plain_device(own) => {}
                Answer::Unknown => {
                    let (major, minor) = block::major_minor(own);
                    return Answer::Neither(format!("device {major}:{minor}"));
                }
                answer => return answer,
            }
        }
        match self.top() {
            Some(top) if top.kind == "overlay" => self.ask_overlay(top),
            Some(top) => self.ask_mount(top),
            None => Answer::Unknown,
        }
    }

    fn ask_mount(&self, mount: &Mount) -> Answer {
        if let Some(number) = mount.device
            && let answer @ (Answer::A | Answer::B) = self.by_number_or_below(number, 0)
        {
            return answer;
        }
        if mount.source.starts_with('/') || mount.source.starts_with("ubi") {
            return self.by_device_name(&mount.source);
        }
        match mount.kind.as_str() {
            "nfs" | "nfs4" | "cifs" | "9p" | "virtiofs" => Answer::Neither(mount.kind.clone()),
            _ => Answer::Unknown,
        }
    }

    /// The lowest layer of an overlay that lies on one of the partitions; failing that, what OpenWrt mounts as
    /// /rom (BE-26).
    fn ask_overlay(&self, overlay: &Mount) -> Answer {
        let lower = overlay.options.split(',').filter_map(|o| o.split_once('='));
        let lower = lower.filter(|(name, _)| *name == "lowerdir" || *name == "lowerdir+");
        let mut dirs: Vec<&str> = lower.flat_map(|(_, dirs)| dirs.split(':')).collect();
        dirs.reverse();
        dirs.push("/rom");
        for dir in dirs {
            let holds = |m: &&Mount| m.kind != "overlay" && Path::new(dir).starts_with(&m.point);
            // The longest path; of equal ones the last, which hides the others.
            let mount = self.system.mounts.iter().filter(holds).max_by_key(|m| m.point.len());
            if let Some(answer @ (Answer::A | Answer::B)) = mount.map(|m| self.ask_mount(m)) {
                return answer;
            }
        }
        Answer::Unknown
    }

    /// `root=` in all its forms (BE-27).
    fn ask_argument(&self, argument: &str) -> Answer {
        for (prefix, folder, key) in [
            ("PARTUUID=", "by-partuuid", "PARTUUID="),
            ("PARTLABEL=", "by-partlabel", "PARTNAME="),
            ("UUID=", "by-uuid", ""),
            ("LABEL=", "by-label", ""),
        ] {
            if let Some(value) = argument.strip_prefix(prefix) {
                return self.by_tag(folder, key, value);
            }
        }
        if argument == "/dev/nfs" {
            return Answer::Neither("NFS".to_owned());
        }
        if argument.starts_with('/') || argument.starts_with("ubi") {
            return self.by_device_name(argument);
        }
        let hex = || u64::from_str_radix(argument, 16).ok();
        let old_form = || hex().map(|n| block::device_number((n >> 8) as u32 & 0xfff, (n & 0xff) as u32));
        match mounts::number(argument).or_else(old_form) {
            Some(number) => self.by_number_or_below(number, 0),
            None => Answer::Unknown,
        }
    }

    /// A path, or one of the names that only the kernel knows: `ubi0:name`, `/dev/ubiblock0_1`.
    fn by_device_name(&self, name: &str) -> Answer {
        let bare = name.strip_prefix("/dev/").unwrap_or(name);
        if let Some(volume) = bare.strip_prefix("ubiblock") {
            return self.by_path(&format!("/dev/ubi{volume}"));
        }
        match bare.strip_prefix("ubi").and_then(|r| r.split_once(':')) {
            Some((device, volume)) => {
                self.by_volume_name(if device.is_empty() { "0" } else { device }, volume)
            }
            None => self.by_path(name),
        }
    }

    /// UBI volumes have their names in /sys (BE-94).
    fn by_volume_name(&self, device: &str, volume: &str) -> Answer {
        let dir = file::below(&self.system.root, "/sys/class/ubi");
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let node = entry.file_name().to_string_lossy().into_owned();
            let is_it = node.starts_with(&format!("ubi{device}_"))
                && std::fs::read_to_string(entry.path().join("name")).is_ok_and(|n| n.trim() == volume);
            if is_it {
                return self.by_path(&format!("/dev/{node}"));
            }
        }
        Answer::Unknown
    }

    /// A link below /dev/disk, else the `uevent` of each block device (newer kernels have the key there).
    fn by_tag(&self, folder: &str, key: &str, value: &str) -> Answer {
        let value = value.trim_matches('"');
        for entry in read_names(&self.system.root, &format!("/dev/disk/{folder}")) {
            if entry.eq_ignore_ascii_case(value)
                && let Ok(target) = std::fs::canonicalize(file::below(
                    &self.system.root,
                    &format!("/dev/disk/{folder}/{entry}"),
                ))
            {
                let inside = target.strip_prefix(&self.system.root).map(|p| Path::new("/").join(p));
                return self.by_path(&inside.unwrap_or(target).to_string_lossy());
            }
        }
        if key.is_empty() {
            return Answer::Unknown;
        }
        for name in read_names(&self.system.root, "/sys/class/block") {
            let uevent =
                text(&self.system.root, &format!("/sys/class/block/{name}/uevent")).unwrap_or_default();
            let found =
                uevent.lines().filter_map(|l| l.strip_prefix(key)).any(|v| v.eq_ignore_ascii_case(value));
            if found {
                return self.by_path(&format!("/dev/{name}"));
            }
        }
        Answer::Unknown
    }
}

fn read_names(root: &Path, dir: &str) -> Vec<String> {
    let entries = std::fs::read_dir(file::below(root, dir)).into_iter().flatten().flatten();
    entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}

/// Devices that stand for others: what lies below them decides, and when that is not known nothing is.
fn unclear(path: &Path) -> bool {
    let text = path.to_string_lossy();
    ["/dev/dm-", "/dev/mapper/", "/dev/loop", "/dev/md"].iter().any(|p| text.starts_with(p))
}

#[cfg(test)]
#[path = "running_tests.rs"]
mod tests;
