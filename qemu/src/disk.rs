//! The card of a board: boot loader, partition table, boot partition, environment, two slots, data.

use crate::board::{Board, UBoot};
use crate::rootfs::ext4;
use crate::tool::{Result, fresh, read_bytes, root, run, target, text};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The boot loader's file; fetched or built if it is not there.
pub fn u_boot(board: &Board) -> Result<PathBuf> {
    match &board.u_boot {
        UBoot::Debian { package, file } => {
            run("bash", &[&text(&root().join("qemu/fetch")), &board.debian, package], "")?;
            Ok(target().join("deb").join(&board.debian).join(package).join(file))
        }
        UBoot::Build { defconfig, file } => {
            let prefix = if board.arch == "armv7" { "arm-linux-gnueabihf-" } else { "aarch64-linux-gnu-" };
            let fragment = format!("boards/{}/u-boot.config", board.name);
            let script = text(&root().join("qemu/u-boot/build"));
            run("bash", &[&script, &board.name, defconfig, prefix, &fragment, file], "")?;
            Ok(target().join("u-boot").join(&board.name).join(file))
        }
    }
}

/// Writes the card: `root_a` in slot A, slot B empty, no data yet.
pub fn build(board: &Board, image: &Path, root_a: &Path) -> Result<()> {
    let work = image.with_extension("work");
    fresh(&work)?;
    let path = |name: &str| text(&work.join(name));
    // Not over an old one: what it held would stay.
    let _ = fs::remove_file(image);
    let disk = File::create(image).map_err(|e| format!("{}: {e}", image.display()))?;
    disk.set_len(board.disk).map_err(|e| format!("{}: {e}", image.display()))?;
    drop(disk);
    run("sfdisk", &["-q", &text(image)], &board.layout)?;

    let script = text(&board.dir.join("boot.cmd"));
    let mkimage = ["-A", "arm", "-O", "linux", "-T", "script", "-C", "none", "-n", "thimble", "-d"];
    run("mkimage", &[&mkimage[..], &[&script, &path("boot.scr")]].concat(), "")?;
    let env = environment(board, &work)?;

    let fat = path("boot.vfat");
    let made = File::create(&fat).and_then(|file| file.set_len(board.parts[0].size));
    made.map_err(|e| format!("{fat}: {e}"))?;
    run("mformat", &["-i", &fat, "-v", "BOOT", "-N", "7468696d", "::"], "")?;
    run("mcopy", &["-i", &fat, &path("boot.scr"), "::boot.scr"], "")?;
    for area in &board.env {
        match raw_offset(board, area)? {
            Some(offset) => put(image, offset, &env)?,
            None => {
                let name = area.device.rsplit('/').next().unwrap_or(&area.device);
                run("mcopy", &["-i", &fat, &path("env.bin"), &format!("::{name}")], "")?;
            }
        }
    }
    put(image, board.parts[0].start, &read_bytes(Path::new(&fat))?)?;
    put(image, board.parts[1].start, &read_bytes(root_a)?)?;
    if let Some(offset) = board.u_boot_at {
        put(image, offset, &read_bytes(&u_boot(board)?)?)?;
    }
    fs::remove_dir_all(&work).map_err(|e| format!("{}: {e}", work.display()))
}

/// The data partition with the files of `tree`.
pub fn put_data(board: &Board, image: &Path, tree: &Path) -> Result<()> {
    let part = image.with_extension("data");
    ext4(tree, &part, board.parts[3].size, "data", true)?;
    put(image, board.parts[3].start, &read_bytes(&part)?)?;
    fs::remove_file(&part).map_err(|e| format!("{}: {e}", part.display()))
}

/// Where on the card an environment copy is; `None` for a file on the boot partition.
pub fn raw_offset(board: &Board, area: &thimble::boot::fw_config::Area) -> Result<Option<u64>> {
    let disk = board.partition.trim_end_matches('p');
    if area.device == disk {
        let offset = u64::try_from(area.offset).map_err(|_| "a negative offset".to_owned())?;
        return Ok(Some(offset));
    }
    match &board.firmware {
        Some(dir) if area.device.starts_with(dir.as_str()) => Ok(None),
        _ => Err(format!("fw_env.config: {} is neither {disk} nor on the boot partition", area.device)),
    }
}

/// The environment made of `env.txt` by U-Boot's own tool.
fn environment(board: &Board, work: &Path) -> Result<Vec<u8>> {
    let (from, to) = (text(&board.dir.join("env.txt")), work.join("env.bin"));
    let size = board.env.first().map_or(0, |area| area.size).to_string();
    let to_text = text(&to);
    let mut args = vec!["-s", &size, "-o", &to_text];
    if board.redundant() {
        args.insert(0, "-r");
    }
    args.push(&from);
    run("mkenvimage", &args, "")?;
    read_bytes(&to)
}

/// Writes into a file; blocks of zeros stay holes.
pub fn put(image: &Path, offset: u64, bytes: &[u8]) -> Result<()> {
    let file = OpenOptions::new().write(true).open(image).map_err(|e| format!("{}: {e}", image.display()))?;
    // Compared as a whole: byte by byte takes a second for a partition, without optimisation.
    let zeros = [0; 1 << 16];
    for (number, block) in bytes.chunks(zeros.len()).enumerate() {
        if *block != zeros[..block.len()] {
            let at = offset + ((number as u64) << 16);
            file.write_all_at(block, at).map_err(|e| format!("{}: {e}", image.display()))?;
        }
    }
    Ok(())
}

/// Reads from a file.
pub fn get(image: &Path, offset: u64, size: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; size as usize];
    let file = File::open(image).map_err(|e| format!("{}: {e}", image.display()))?;
    file.read_exact_at(&mut bytes, offset).map_err(|e| format!("{}: {e}", image.display()))?;
    Ok(bytes)
}

/// A copy that keeps holes.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    run("cp", &["--sparse=always", &text(from), &text(to)], "").map(drop)
}
