//! The same promises on real block devices. Needs root and losetup (Debian package mount), so it runs only when
//! asked for: `cargo test --test boot_block -- --ignored`.
#![allow(clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::process::Command;
use thimble::boot::Environment;
use thimble::boot::fw_config::Area;
use thimble::boot::native::{Native, Supplied};
use thimble::error::Result;
use thimble::install::rootfs::{RootfsImage, RootfsOptions};
use thimble::ports::{Payload, PayloadFiles};

/// A file attached to a loop device; detached with the test.
struct Loop {
    file: PathBuf,
    device: String,
}

impl Loop {
    fn new(name: &str, content: &[u8]) -> Loop {
        let file = std::env::temp_dir().join(format!("thimble-block-{}-{name}", std::process::id()));
        fs::write(&file, content).expect("file");
        let done = Command::new("losetup").args(["-f", "--show"]).arg(&file).output();
        let done = done.expect("losetup: install the Debian package mount");
        assert!(done.status.success(), "losetup: {}", String::from_utf8_lossy(&done.stderr));
        Loop { file, device: String::from_utf8_lossy(&done.stdout).trim().to_owned() }
    }

    fn content(&self) -> Vec<u8> {
        let mut content = Vec::new();
        let mut device = fs::File::open(&self.device).expect("device");
        device.seek(SeekFrom::Start(0)).expect("seeks");
        device.read_to_end(&mut content).expect("reads");
        content
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.device]).status();
        let _ = fs::remove_file(&self.file);
    }
}

fn image(flag: u8, entries: &str, size: usize) -> Vec<u8> {
    let mut data = entries.as_bytes().to_vec();
    data.resize(size - 5, 0);
    let mut crc = flate2::Crc::new();
    crc.update(&data);
    [&crc.sum().to_le_bytes()[..], &[flag], &data].concat()
}

struct One(Option<Vec<u8>>, Vec<u8>);

impl PayloadFiles for One {
    fn next_file(&mut self) -> Result<Option<(String, u64)>> {
        let Some(file) = self.0.take() else { return Ok(None) };
        self.1 = file;
        Ok(Some(("image".to_owned(), self.1.len() as u64)))
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let n = self.1.len().min(buffer.len());
        buffer[..n].copy_from_slice(&self.1[..n]);
        self.1.drain(..n);
        Ok(n)
    }
}

#[test]
#[ignore = "needs root and loop devices"]
fn an_environment_that_is_not_aligned_to_sectors_leaves_its_neighbours_alone() {
    const SIZE: usize = 0x3f0;
    let mut content = vec![0x5a; 1 << 20];
    content[0x123..0x123 + SIZE].copy_from_slice(&image(255, "a=1\0b=2\0", SIZE));
    let second = content.len() - 0x777;
    content[second..second + SIZE].copy_from_slice(&image(254, "a=0\0", SIZE));
    let device = Loop::new("env", &content);
    let root = std::env::temp_dir().join(format!("thimble-block-{}-root", std::process::id()));
    fs::create_dir_all(&root).expect("directory");
    let config = root.join("fw_env.config");
    let text = format!("{d} 0x123 {SIZE:x}\n{d} -0x777 {SIZE:x}\n", d = device.device);
    fs::write(&config, text).expect("config");
    let mut native = Native::new(config, root.clone(), true);
    native.write(&[("a", "7")]).expect("writes");
    let values = native.read(&["a", "b"]).expect("reads");
    assert_eq!((values["a"].as_str(), values["b"].as_str()), ("7", "2"));
    let after = device.content();
    assert_eq!(after[second + 4], 0, "the counter has wrapped");
    assert!(after[..second] == content[..second] && after[second + SIZE..] == content[second + SIZE..]);
    fs::remove_dir_all(root).expect("removed");
}

/// Where nobody mounted the boot partition, its mount point may hold a file of the same name, left by whoever made the
/// image. The boot loader would never see what is written there.
#[test]
#[ignore = "needs root and loop devices"]
fn a_file_on_another_partition_than_the_board_says_is_not_taken_for_the_environment() {
    let partition = Loop::new("fat", &vec![0; 1 << 20]);
    let file = std::env::temp_dir().join(format!("thimble-block-{}-uboot.env", std::process::id()));
    let mut content = image(0, "a=1\0", 0x400);
    content.remove(4); // one copy has no flag
    content.push(0);
    fs::write(&file, content).expect("env");
    let root = PathBuf::from("/");
    let area = Area {
        device: file.display().to_string(),
        offset: 0,
        size: 0x400,
        sector_size: None,
        sectors: None,
        line: None,
    };
    let supplied = |partition: &str| {
        let partition = Some(PathBuf::from(partition));
        let supplied = Supplied { by: "board x".to_owned(), areas: vec![area.clone()], partition };
        Native::new("/no/such/fw_env.config".into(), root.clone(), false).or_supplied(Some(supplied))
    };
    let error = supplied(&partition.device).read(&["a"]).expect_err("elsewhere");
    assert_eq!(error.code, "BOOT-ENV-DEVICE");
    assert!(error.text.contains("must be mounted there"), "{error}");
    fs::remove_file(file).expect("removed");
}

#[test]
#[ignore = "needs root and loop devices"]
fn a_block_device_is_written_read_back_and_not_taken_from_others() {
    const SIZE: usize = 1 << 20;
    let (a, b) = (Loop::new("a", &vec![1; SIZE]), Loop::new("b", &vec![2; SIZE]));
    let root = std::env::temp_dir().join(format!("thimble-block-{}-slots", std::process::id()));
    fs::create_dir_all(root.join("proc/self")).expect("directory");
    let line = format!("22 1 179:2 / / rw - ext4 {} rw\n", a.device);
    fs::write(root.join("proc/self/mountinfo"), line).expect("file");
    let number = a.device.trim_start_matches("/dev/loop").to_owned();
    let env = root.join("env");
    fs::write(&env, image(1, &format!("mender_boot_part={number}\0"), 0x400)).expect("env");
    let redundant = [fs::read(&env).expect("env"), image(0, "", 0x400)].concat();
    fs::write(&env, redundant).expect("env");
    let config = root.join("fw_env.config");
    fs::write(&config, format!("{e} 0 400\n{e} 0x400 400\n", e = env.display())).expect("config");
    let options = RootfsOptions::new(root.clone(), Some(a.device.clone()), Some(b.device.clone()));
    let mut handler = RootfsImage::new(options, Box::new(Native::new(config, root.clone(), true)));

    const O_EXCL: i32 = 0o200;
    let holder = fs::OpenOptions::new().read(true).custom_flags(O_EXCL).open(&b.device).expect("opens");
    let error = handler.store(&mut One(Some(vec![9; 1000]), vec![])).expect_err("in use");
    assert_eq!(error.code, "ROOTFS-DEVICE", "{error}");
    drop(holder);

    let image: Vec<u8> = (0..700_001u32).map(|n| (n % 251) as u8).collect();
    handler.store(&mut One(Some(image.clone()), vec![])).expect("stores");
    let content = b.content();
    assert!(content[..image.len()] == image[..] && content[image.len()..].iter().all(|x| *x == 2));
    assert_eq!(content.len(), SIZE);
    let error = handler.store(&mut One(Some(vec![9; SIZE + 1]), vec![])).expect_err("too large");
    assert_eq!(error.code, "ROOTFS-SIZE");
    let mut first = [0; 8];
    fs::File::open(&a.device).expect("opens").read_exact_at(&mut first, 0).expect("reads");
    assert_eq!(first, [1; 8]);
    fs::remove_dir_all(root).expect("removed");
}

/// A machine whose root file system is on one loop device and whose other slot, on a second one, is mounted on /mnt.
/// Runs `script` in it (in mount and PID namespaces of its own); returns what it printed and whether it ended well.
fn machine(name: &str, script: &str) -> (bool, String, Vec<u8>) {
    let (a, b) = (
        Loop::new(&format!("{name}-a"), &vec![0; 24 << 20]),
        Loop::new(&format!("{name}-b"), &vec![0; 8 << 20]),
    );
    for device in [&a.device, &b.device] {
        let done = Command::new("mke2fs").args(["-q", "-F", "-t", "ext4", device]).output();
        let done = done.expect("mke2fs: install the Debian package e2fsprogs");
        assert!(done.status.success(), "mke2fs: {}", String::from_utf8_lossy(&done.stderr));
    }
    let dir = std::env::temp_dir().join(format!("thimble-block-{}-{name}", std::process::id()));
    fs::create_dir_all(dir.join("root")).expect("directory");
    let artifact = dir.join("a.mender");
    let content = thimble_testkit::Content::Pattern { size: 300_001, seed: 2 };
    thimble_testkit::ArtifactSpec::rootfs("release-2", content).write(&artifact).expect("written");
    let number = a.device.trim_start_matches("/dev/loop");
    fs::write(dir.join("env"), image(1, &format!("mender_boot_part={number}\0"), 0x400)).expect("env");
    fs::write(dir.join("env2"), image(0, "", 0x400)).expect("env");
    let prepare = r#"
        set -e
        cd "$DIR"
        mount -t ext4 "$A" root
        cd root
        mkdir -p proc dev etc/mender var/lib/mender run usr tmp mnt sys
        for link in bin lib lib64 sbin; do if [ -L "/$link" ]; then cp -P "/$link" .; fi; done
        cp "$DIR/a.mender" "$DIR/env" "$DIR/env2" .
        touch thimble
        mount --bind "$THIMBLE" thimble
        echo device_type=test-type > var/lib/mender/device_type
        printf '/env 0 400\n/env2 0 400\n' > etc/fw_env.config
        printf '{"RootfsPartA": "%s", "RootfsPartB": "%s"}' "$A" "$B" > etc/mender/mender.conf
        mount -t proc proc proc
        mount --rbind /dev dev
        mount --bind /usr usr
        mount -t ext4 "$B" mnt
        echo here > mnt/file
        exec chroot . /bin/sh -c "$SCRIPT"
    "#;
    let done = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--propagation", "private", "/bin/sh", "-c", prepare])
        .env("DIR", &dir)
        .env("A", &a.device)
        .env("B", &b.device)
        .env("THIMBLE", env!("CARGO_BIN_EXE_thimble"))
        .env("SCRIPT", script)
        .output();
    let done = done.expect("unshare: install the Debian package util-linux");
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    fs::remove_dir_all(dir).expect("removed");
    (done.status.success(), said, b.content())
}

#[test]
#[ignore = "needs root and loop devices"]
fn a_mounted_slot_is_unmounted_once_and_then_written() {
    let (good, said, slot) = machine(
        "unmount",
        "/thimble board && /thimble install /a.mender && ! grep ' /mnt ' /proc/self/mountinfo && ! test -e /mnt/file",
    );
    assert!(good, "{said}");
    assert!(said.contains("other_mounted: /mnt (mounts)"), "{said}");
    assert!(said.contains("is mounted on /mnt; unmounting it"), "{said}");
    let mut content = thimble_testkit::Content::Pattern { size: 300_001, seed: 2 }.open().expect("opens");
    let mut image = Vec::new();
    content.read_to_end(&mut image).expect("reads");
    assert!(slot[..image.len()] == image[..], "the image is in the slot");
}

#[test]
#[ignore = "needs root and loop devices"]
fn a_mounted_slot_that_is_in_use_is_left_alone() {
    let (good, said, slot) =
        machine("busy", "exec 3</mnt/file; /thimble install /a.mender || test -e /mnt/file");
    assert!(good, "{said}");
    assert!(said.contains("ROOTFS-MOUNTED") && said.contains("cannot be unmounted"), "{said}");
    assert_eq!(slot[0x438..0x43a], [0x53, 0xef], "its file system is still there");
}
