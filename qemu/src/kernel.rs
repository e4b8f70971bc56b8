//! The kernel of a board, as its Debian package has it: image, device tree, modules, initial RAM disk.

use crate::board::Board;
use crate::tool::{Result, read, read_bytes, root, run, target, text, write};
use flate2::{Compression, GzBuilder};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A kernel package, unpacked.
#[derive(Debug)]
pub struct Kernel {
    dir: PathBuf,
    version: String,
    /// A module's name -> its file and what it needs, most basic last.
    modules: BTreeMap<String, (String, Vec<String>)>,
}

/// Makes sure that the Debian packages that a board needs are there.
pub fn fetch(board: &Board) -> Result<()> {
    let script = text(&root().join("qemu/fetch"));
    run("bash", &[&script, &board.debian, &board.kernel, "busybox-static"], "").map(drop)
}

/// The board's busybox.
pub fn busybox(board: &Board) -> Result<Vec<u8>> {
    read_bytes(&target().join("deb").join(&board.debian).join("busybox-static/bin/busybox"))
}

impl Kernel {
    /// The board's.
    pub fn open(board: &Board) -> Result<Kernel> {
        let dir = target().join("deb").join(&board.debian).join(&board.kernel);
        let mut versions =
            fs::read_dir(dir.join("lib/modules")).map_err(|e| format!("{}: {e}", dir.display()))?;
        let version = versions.next().and_then(|entry| entry.ok()).map(|entry| entry.file_name());
        let version = version.ok_or_else(|| format!("{}: no kernel in it", dir.display()))?;
        let version = version.to_string_lossy().into_owned();
        let list = dir.join("lib/modules").join(&version).join("modules.dep");
        if !list.exists() {
            run("depmod", &["-b", &text(&dir), &version], "")?;
        }
        let mut modules = BTreeMap::new();
        for line in read(&list)?.lines() {
            let Some((file, needs)) = line.split_once(':') else { continue };
            let entry = (file.to_owned(), needs.split_whitespace().map(str::to_owned).collect());
            modules.insert(name(file), entry);
        }
        Ok(Kernel { dir, version, modules })
    }

    /// The image as the board's boot script wants it.
    pub fn image(&self, board: &Board) -> Result<Vec<u8>> {
        let plain = read_bytes(&self.dir.join(format!("boot/vmlinuz-{}", self.version)))?;
        if !board.kernel_file.ends_with(".gz") {
            return Ok(plain);
        }
        // Compressing takes seconds, and the package never changes.
        let packed = self.dir.join("Image.gz");
        if !packed.exists() {
            // Another process may be at it for another board.
            let part = self.dir.join(format!("Image.gz.{}", std::process::id()));
            write(&part, gzip(&plain, Compression::best())?)?;
            fs::rename(&part, &packed).map_err(|e| format!("{}: {e}", packed.display()))?;
        }
        read_bytes(&packed)
    }

    /// A device tree of the package.
    pub fn dtb(&self, file: &str) -> Result<PathBuf> {
        let path = self.dir.join(format!("usr/lib/linux-image-{}", self.version)).join(file);
        if path.is_file() { Ok(path) } else { Err(format!("{}: no such device tree", path.display())) }
    }

    /// These modules and what they need, in the order in which they are loaded; built-in ones are left out.
    pub fn modules(&self, names: &[String]) -> Result<Vec<(String, Vec<u8>)>> {
        let mut files: Vec<&str> = Vec::new();
        for wanted in names {
            // Not a module in every kernel: virtio_pci, crc32c_generic.
            let Some((file, needs)) = self.modules.get(&wanted.replace('-', "_")) else { continue };
            for file in needs.iter().rev().chain([file]) {
                if !files.contains(&file.as_str()) {
                    files.push(file);
                }
            }
        }
        let base = self.dir.join("lib/modules").join(&self.version);
        let numbered = files.iter().enumerate().map(|(number, file)| {
            let short = file.rsplit('/').next().unwrap_or(file);
            Ok((format!("{number:02}-{short}"), read_bytes(&base.join(file))?))
        });
        numbered.collect()
    }

    /// The initial RAM disk: busybox and the drivers of the card.
    pub fn initrd(&self, board: &Board) -> Result<Vec<u8>> {
        let mut archive = Cpio::default();
        for dir in ["bin", "dev", "mods", "new", "proc", "sys"] {
            archive.add(dir, 0o040_755, &[]);
        }
        archive.add("bin/busybox", 0o100_755, &busybox(board)?);
        archive.add("init", 0o100_755, &guest("initrd-init")?);
        for (name, module) in self.modules(&board.early)? {
            archive.add(&format!("mods/{name}"), 0o100_644, &module);
        }
        gzip(&archive.finish(), Compression::best())
    }
}

/// A file of `qemu/guest`.
pub fn guest(name: &str) -> Result<Vec<u8>> {
    read_bytes(&root().join("qemu/guest").join(name))
}

/// gzip without name and time.
pub fn gzip(plain: &[u8], level: Compression) -> Result<Vec<u8>> {
    let mut out = GzBuilder::new().mtime(0).write(Vec::new(), level);
    out.write_all(plain).and_then(|()| out.finish()).map_err(|e| format!("gzip: {e}"))
}

/// A module's name, as the kernel spells it.
fn name(file: &str) -> String {
    let short = Path::new(file).file_name().unwrap_or_default().to_string_lossy().into_owned();
    short.split('.').next().unwrap_or("").replace('-', "_")
}

/// A cpio archive, form `newc`; everything belongs to root, all times are 0.
#[derive(Default)]
struct Cpio {
    out: Vec<u8>,
    entries: u32,
}

impl Cpio {
    fn add(&mut self, name: &str, mode: u32, data: &[u8]) {
        self.entries += 1;
        // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
        let fields =
            [self.entries, mode, 0, 0, 1, 0, data.len() as u32, 0, 0, 0, 0, name.len() as u32 + 1, 0];
        self.out.extend_from_slice(b"070701");
        for field in fields {
            self.out.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.out.extend_from_slice(name.as_bytes());
        self.out.push(0);
        self.pad();
        self.out.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.out.resize(self.out.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.entries = 0;
        self.add("TRAILER!!!", 0, &[]);
        self.out
    }
}
