//! Root file systems: the tree of a release, and ext4 images of trees, the same bytes each time.

use crate::board::Board;
use crate::kernel::{Kernel, busybox, guest};
use crate::machine::images;
use crate::tool::{EPOCH, Result, fresh, read, read_bytes, root, run, sha256, text, write};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// What is wrong with a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Nothing.
    None,
    /// The kernel's file holds something else: the boot loader refuses it.
    Kernel,
    /// `/sbin/init` is missing: the kernel panics.
    Init,
    /// It panics while it comes up.
    Panic,
}

/// State scripts in every Artifact, by which the harness stops an update.
pub const HOLDS: [&str; 5] = [
    "ArtifactInstall_Leave",
    "ArtifactReboot_Enter",
    "ArtifactCommit_Enter",
    "ArtifactCommit_Leave",
    "ArtifactRollback_Enter",
];

/// What goes into every release of a board; read once.
pub struct Parts {
    board: Board,
    busybox: Vec<u8>,
    kernel: Vec<u8>,
    initrd: Vec<u8>,
    dtb: Option<Vec<u8>>,
    modules: Vec<(String, Vec<u8>)>,
    thimble: Vec<u8>,
}

impl Parts {
    /// Reads the board's kernel, modules, busybox and thimble.
    pub fn collect(board: &Board) -> Result<Parts> {
        let kernel = Kernel::open(board)?;
        Ok(Parts {
            board: board.clone(),
            busybox: busybox(board)?,
            kernel: kernel.image(board)?,
            initrd: kernel.initrd(board)?,
            dtb: board.dtb.as_ref().map(|file| read_bytes(&kernel.dtb(file)?)).transpose()?,
            modules: kernel.modules(&board.late)?,
            thimble: read_bytes(&thimble(board)?)?,
        })
    }

    /// SHA-256 of all of it.
    pub fn sum(&self) -> String {
        let mut all = [&self.busybox[..], &self.kernel, &self.initrd, &self.thimble].map(sha256).concat();
        all += &self.dtb.as_deref().map(sha256).unwrap_or_default();
        for (name, module) in &self.modules {
            all += &format!("{name} {}", sha256(module));
        }
        sha256(all.as_bytes())
    }

    /// Where the image of a release is.
    pub fn image_path(&self, version: &str, fault: Fault) -> PathBuf {
        let name = match fault {
            Fault::None => version.to_owned(),
            fault => format!("{version}-{fault:?}"),
        };
        images(&self.board).join(format!("{name}.ext4"))
    }

    /// Makes the image of a release.
    pub fn image(&self, version: &str, fault: Fault) -> Result<()> {
        let image = self.image_path(version, fault);
        let tree = image.with_extension("tree");
        self.tree(&tree, version, fault)?;
        ext4(&tree, &image, self.board.parts[1].size, "root", false)?;
        fs::remove_dir_all(&tree).map_err(|e| format!("{}: {e}", tree.display()))
    }

    fn tree(&self, dir: &Path, version: &str, fault: Fault) -> Result<()> {
        fresh(dir)?;
        let board = &self.board;
        for empty in ["boot/firmware", "data", "dev", "proc", "root", "run", "sys", "tmp", "usr/sbin", "var"]
        {
            fs::create_dir_all(dir.join(empty)).map_err(|e| format!("{empty}: {e}"))?;
        }
        let put = |path: &str, mode: u32, bytes: &[u8]| {
            let path = dir.join(path);
            write(&path, bytes)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))
                .map_err(|e| format!("{}: {e}", path.display()))
        };
        put("bin/busybox", 0o755, &self.busybox)?;
        for applet in APPLETS.split_whitespace() {
            link("/bin/busybox", &dir.join("bin").join(applet))?;
        }
        if fault != Fault::Init {
            fs::create_dir_all(dir.join("sbin")).map_err(|e| format!("sbin: {e}"))?;
            link("/bin/busybox", &dir.join("sbin/init"))?;
        }
        for script in ["rcS", "network", "thimble"] {
            put(&format!("etc/init.d/{script}"), 0o755, &guest(script)?)?;
        }
        put("etc/inittab", 0o644, &guest("inittab")?)?;
        put("etc/profile", 0o644, &guest("profile")?)?;
        put("etc/udhcpc", 0o755, &guest("udhcpc")?)?;
        put("etc/crontabs/root", 0o600, &guest("crontab")?)?;
        put("etc/passwd", 0o644, b"root::0:0:root:/root:/bin/sh\n")?;
        put("etc/version", 0o644, format!("{version}\n").as_bytes())?;
        if board.has_fw_env {
            put("etc/fw_env.config", 0o644, board.fw_env.as_bytes())?;
        }
        let firmware = board.firmware.as_deref().unwrap_or("");
        let about = format!("PARTITION={}\nFIRMWARE={firmware}\n", board.partition);
        put("etc/board", 0o644, about.as_bytes())?;
        if fault == Fault::Panic {
            put("etc/init.d/fault", 0o755, b"#!/bin/sh\necho c >/proc/sysrq-trigger\n")?;
        }
        put("usr/bin/thimble", 0o755, &self.thimble)?;
        put("etc/mender/mender.conf", 0o644, CONFIG.as_bytes())?;
        fs::create_dir_all(dir.join("var/lib")).map_err(|e| format!("var/lib: {e}"))?;
        link("/data/mender", &dir.join("var/lib/mender"))?;
        link("/run/lock", &dir.join("var/lock"))?;
        let garbage: &[u8] = b"This is no kernel.\n";
        put(
            &format!("boot/{}", board.kernel_file),
            0o644,
            if fault == Fault::Kernel { garbage } else { &self.kernel },
        )?;
        put("boot/initrd.gz", 0o644, &self.initrd)?;
        if let Some(dtb) = &self.dtb {
            put("boot/board.dtb", 0o644, dtb)?;
        }
        for (name, module) in &self.modules {
            put(&format!("lib/mods/{name}"), 0o644, module)?;
        }
        Ok(())
    }
}

/// The static program for the board: `THIMBLE`, or what `make armv7` or `make aarch64` left.
fn thimble(board: &Board) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("THIMBLE") {
        return Ok(path.into());
    }
    let manifest = read(&root().join("Cargo.toml"))?;
    let version =
        manifest.lines().find_map(|line| line.strip_prefix("version = ")).unwrap_or("").trim_matches('"');
    let path = root().join(format!("target/dist/thimble-{version}-{}", board.arch));
    if path.is_file() { Ok(path) } else { Err(format!("{} is missing: make {}", path.display(), board.arch)) }
}

/// `/etc/mender/mender.conf` of the root file systems: slots and, where `qemu.conf` says so, the environment are what
/// thimble knows of the board; the server's address is on the data partition.
const CONFIG: &str = r#"{
  "UpdatePollIntervalSeconds": 20,
  "InventoryPollIntervalSeconds": 3600,
  "RetryPollIntervalSeconds": 60,
  "RetryPollCount": 4,
  "UpdateControlMapExpirationTimeSeconds": 3600,
  "UpdateControlMapBootExpirationTimeSeconds": 3600
}
"#;

fn link(to: &str, at: &Path) -> Result<()> {
    symlink(to, at).map_err(|e| format!("{}: {e}", at.display()))
}

/// An ext4 file system of `size` bytes with the files of `tree`, all of root, all of the same time.
/// One that is written to has a journal.
pub fn ext4(tree: &Path, image: &Path, size: u64, label: &str, written: bool) -> Result<()> {
    // Not over an old one: it may be larger.
    let _ = fs::remove_file(image);
    let uuid = "74686d62-6c65-4000-8000-000000000001";
    let extended = format!("root_owner=0:0,hash_seed={uuid}");
    let blocks = format!("{}k", size >> 10);
    let mut args = vec!["-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-U", uuid, "-L", label];
    let features = "^metadata_csum,^64bit,^orphan_file";
    let features = if written { features.to_owned() } else { format!("{features},^has_journal") };
    args.extend(["-O", &features, "-m", "0", "-E", &extended]);
    if written {
        // Small cards.
        args.extend(["-J", "size=4"]);
    }
    let (tree, image) = (text(tree), text(image));
    args.extend(["-d", &tree, &image, &blocks]);
    run("mke2fs", &args, "")?;
    // Owner and times come from the tree; a change time cannot be given to a file, so it is set here.
    let listed = run("dumpe2fs", &["-h", &image], "")?;
    let count = |key: &str| {
        let value = listed.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        value.and_then(|v| v.parse::<u64>().ok()).ok_or_else(|| format!("dumpe2fs {image}: no {key:?}"))
    };
    let used = count("Inode count:")? - count("Free inodes:")?;
    let mut script = String::new();
    for inode in [2].into_iter().chain(11..=used) {
        for field in ["atime", "ctime", "mtime", "crtime"] {
            script += &format!("set_inode_field <{inode}> {field} @{EPOCH}\n");
        }
        for field in ["atime_extra", "ctime_extra", "mtime_extra", "crtime_extra", "uid", "gid"] {
            script += &format!("set_inode_field <{inode}> {field} 0\n");
        }
    }
    run("debugfs", &["-w", "-f", "-", &image], &script).map(drop)
}

/// What the guest's scripts and people at its console use.
const APPLETS: &str = "[ ash awk basename cat chmod chown cmp cp crond cut date dd df dirname dmesg du echo egrep \
    env expr false find free fsync grep gunzip gzip halt head hexdump hostname id ifconfig insmod ip kill ln ls lsmod \
    mkdir mknod mount mv od ping poweroff printf ps pwd readlink reboot rm rmdir rmmod route sed seq sh sha256sum sleep \
    sort stat stty sync tail tar tee test top touch tr true udhcpc umount uname uniq uptime usleep vi wc wget which \
    xargs zcat";

#[cfg(test)]
mod tests {
    use super::*;
    use thimble_testkit::TempDir;

    #[test]
    fn the_same_files_give_the_same_image_whenever_and_in_whatever_order_they_were_made() {
        let dir = TempDir::new("ext4");
        let mut names = ["b/two", "a", "c", "b/one"];
        let images = ["first", "second"].map(|name| {
            let tree = dir.path().join(name);
            for file in names {
                write(&tree.join(file), format!("content of {file}\n")).unwrap();
            }
            link("/a", &tree.join("d")).unwrap();
            // Other times, and another order in the directories.
            names.reverse();
            let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
            let file = fs::File::options().write(true).open(tree.join("c")).unwrap();
            file.set_modified(if name == "first" { old } else { std::time::SystemTime::now() }).unwrap();
            let image = dir.path().join(format!("{name}.ext4"));
            ext4(&tree, &image, 4 << 20, "root", name == "none").unwrap();
            fs::read(&image).unwrap()
        });
        assert!(images[0] == images[1], "the images differ");
    }
}
