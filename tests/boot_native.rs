//! Promises of native access to the boot environment, on regular files below a directory.
#![allow(clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use thimble::boot::native::Native;
use thimble::boot::{Environment, check_canary};
use thimble::error::Result;

const SIZE: usize = 0x200;
const OLD: &str = "bootcount=0\0other=kept as it is\0mender_boot_part=2\0upgrade_available=0\0";
const NEW: [(&str, &str); 3] = [("upgrade_available", "1"), ("mender_boot_part", "3"), ("bootcount", "0")];

/// A directory that stands for a device; goes away with the test.
struct Device {
    root: PathBuf,
}

impl Device {
    fn new(name: &str) -> Device {
        let root = std::env::temp_dir().join(format!("thimble-native-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        for dir in ["etc", "dev", "run", "var"] {
            fs::create_dir_all(root.join(dir)).expect("directory");
        }
        symlink("../run", root.join("var/lock")).expect("link");
        Device { root: fs::canonicalize(root).expect("exists") }
    }

    fn env_file(&self) -> PathBuf {
        self.root.join("dev/env")
    }

    fn config(&self, text: &str) {
        let text = text.replace("ENV", &self.env_file().to_string_lossy());
        fs::write(self.root.join("etc/fw_env.config"), text).expect("config");
    }

    /// Two copies in one file, with space before, between and behind.
    fn redundant(name: &str, first: (u8, &str), second: (u8, &str)) -> Device {
        let device = Device::new(name);
        device.config("ENV 0x20 0x200\nENV 0x300 0x200\n");
        let mut content = vec![0x55; 0x600];
        content[0x20..0x20 + SIZE].copy_from_slice(&image(Some(first.0), first.1));
        content[0x300..0x300 + SIZE].copy_from_slice(&image(Some(second.0), second.1));
        fs::write(device.env_file(), content).expect("env");
        device
    }

    fn single(name: &str) -> Device {
        let device = Device::new(name);
        device.config("ENV 0 0x200\n");
        fs::write(device.env_file(), image(None, OLD)).expect("env");
        device
    }

    fn native(&self) -> Native {
        Native::new(self.root.join("etc/fw_env.config"), self.root.clone(), false)
    }

    fn get(&self, name: &str) -> Option<String> {
        self.native().read(&[name]).expect("reads").remove(name)
    }

    fn content(&self) -> Vec<u8> {
        fs::read(self.env_file()).expect("env")
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn image(flag: Option<u8>, entries: &str) -> Vec<u8> {
    let mut data = entries.as_bytes().to_vec();
    data.push(0);
    let header = 4 + usize::from(flag.is_some());
    data.resize(SIZE - header, 0xff);
    let mut crc = flate2::Crc::new();
    crc.update(&data);
    let mut out = crc.sum().to_le_bytes().to_vec();
    out.extend(flag);
    out.extend(data);
    out
}

fn code<T: std::fmt::Debug>(result: Result<T>) -> &'static str {
    result.expect_err("refused").code
}

#[test]
fn a_write_goes_to_the_copy_that_does_not_count_and_touches_nothing_else() {
    for (first, second, written, flag) in [
        (1u8, 1u8, 1, 2),
        (1, 2, 0, 3),
        (2, 1, 1, 3),
        (255, 0, 0, 1),
        (0, 255, 1, 1),
        (254, 255, 0, 0),
        (0, 0, 1, 1),
    ] {
        let newer = if written == 1 { (OLD, "old=1\0") } else { ("old=1\0", OLD) };
        let d = Device::redundant("which", (first, newer.0), (second, newer.1));
        let before = d.content();
        d.native().write(&NEW).expect("writes");
        let after = d.content();
        let at = [0x20, 0x300][written];
        assert_eq!(before[..at], after[..at], "{first} {second}");
        assert_eq!(before[at + SIZE..], after[at + SIZE..], "{first} {second}");
        assert_eq!(after[at + 4], flag, "{first} {second}");
        assert_eq!(d.get("mender_boot_part").as_deref(), Some("3"));
        assert_eq!(d.get("other").as_deref(), Some("kept as it is"));
        assert_eq!(d.get("absent"), None);
    }
}

#[test]
fn a_damaged_copy_is_not_read_and_the_next_write_repairs_it() {
    for (damaged, at) in [(0, 0x20usize), (1, 0x300)] {
        let d = Device::redundant("damaged", (4, OLD), (4, OLD));
        let mut content = d.content();
        content[at + 100] ^= 1;
        fs::write(d.env_file(), &content).expect("env");
        assert_eq!(d.get("mender_boot_part").as_deref(), Some("2"));
        // The write repairs it even if it changes nothing.
        d.native().write(&[("mender_boot_part", "2")]).expect("writes");
        let content = d.content();
        assert_eq!(content[at + 4], 5, "copy {damaged}");
        assert_eq!(content[at..at + 4], image(Some(0), OLD)[..4]);
    }
}

#[test]
fn two_bad_copies_are_an_error_and_never_written() {
    let d = Device::redundant("both", (1, OLD), (2, OLD));
    let mut content = d.content();
    content[0x20 + 9] ^= 1;
    content[0x300 + 9] ^= 1;
    fs::write(d.env_file(), &content).expect("env");
    let error = d.native().write(&NEW).expect_err("refused");
    assert_eq!(error.code, "BOOT-ENV-CORRUPT");
    assert!(error.text.contains("line 1") && error.text.contains("line 2"), "{error}");
    assert_eq!(code(d.native().read(&["bootcount"])), "BOOT-ENV-CORRUPT");
    assert_eq!(d.content(), content);
}

#[test]
fn a_write_that_changes_nothing_is_left_out() {
    let d = Device::redundant("nothing", (1, OLD), (0, "older=1\0"));
    let before = d.content();
    d.native().write(&[("mender_boot_part", "2"), ("absent", "")]).expect("writes");
    assert_eq!(d.content(), before);
}

#[test]
fn what_does_not_fit_is_refused_as_a_whole() {
    let d = Device::redundant("full", (1, OLD), (1, OLD));
    let before = d.content();
    let long = "x".repeat(SIZE);
    assert_eq!(code(d.native().write(&[("bootcount", "9"), ("long", &long)])), "BOOT-ENV-FULL");
    assert_eq!(code(d.native().write(&[("bootcount", "9"), ("a=b", "1")])), "BOOT-ENV-NAME");
    assert_eq!(d.content(), before);
}

#[test]
fn a_write_cut_at_every_byte_leaves_the_old_or_the_new_set_and_can_be_repeated() {
    let d = Device::redundant("cut", (7, OLD), (6, "older=1\0mender_boot_part=3\0upgrade_available=1\0"));
    let before = d.content();
    d.native().write(&NEW).expect("writes");
    let after = d.content();
    let read = || {
        let all = d.native().read(&["upgrade_available", "mender_boot_part", "other"]).expect("readable");
        all.into_values().collect::<Vec<_>>()
    };
    let (old_set, new_set) = (vec!["2", "kept as it is", "0"], vec!["3", "kept as it is", "1"]);
    for cut in 0..=SIZE {
        let mut content = before.clone();
        content[0x300..0x300 + cut].copy_from_slice(&after[0x300..0x300 + cut]);
        fs::write(d.env_file(), &content).expect("env");
        let found = read();
        assert!(found == old_set || found == new_set, "cut {cut}: {found:?}");
        assert_eq!(found == new_set, content[0x300..0x500] == after[0x300..0x500], "cut {cut}");
        d.native().write(&NEW).expect("again");
        assert_eq!(read(), new_set, "cut {cut}");
    }
}

#[test]
fn the_only_copy_in_a_file_is_replaced_with_its_mode_kept_and_links_followed() {
    let d = Device::single("single");
    let target = d.root.join("dev/target");
    fs::rename(d.env_file(), &target).expect("renamed");
    symlink("target", d.env_file()).expect("link");
    fs::set_permissions(&target, fs::Permissions::from_mode(0o640)).expect("mode");
    fs::write(d.root.join("dev/target.new"), "left by a power cut").expect("file");
    let inode = fs::metadata(&target).expect("file").ino();
    d.native().write(&NEW).expect("writes");
    assert_eq!(d.get("mender_boot_part").as_deref(), Some("3"));
    let meta = fs::metadata(&target).expect("file");
    assert_ne!(meta.ino(), inode, "replaced, not overwritten");
    assert_eq!(meta.mode() & 0o7777, 0o640);
    assert_eq!(meta.len() as usize, SIZE);
    assert!(fs::symlink_metadata(d.env_file()).expect("link").is_symlink());
    assert!(!d.root.join("dev/target.new").exists());
}

#[test]
fn a_file_that_holds_more_than_its_only_copy_keeps_the_rest() {
    let d = Device::single("rest");
    d.config("ENV -0x300 0x200\n");
    let mut content = vec![0x77; 0x1000];
    content[0xd00..0xf00].copy_from_slice(&image(None, OLD));
    fs::write(d.env_file(), &content).expect("env");
    d.native().write(&NEW).expect("writes");
    let after = d.content();
    assert_eq!((&after[..0xd00], &after[0xf00..]), (&content[..0xd00], &content[0xf00..]));
    assert_eq!(d.get("upgrade_available").as_deref(), Some("1"));
}

#[test]
fn a_single_copy_is_refused_where_two_are_required() {
    let d = Device::single("required");
    let before = d.content();
    let mut native = Native::new(d.root.join("etc/fw_env.config"), d.root.clone(), true);
    assert_eq!(code(native.read(&["bootcount"])), "BOOT-ENV-SINGLE");
    assert_eq!(code(native.write(&NEW)), "BOOT-ENV-SINGLE");
    assert_eq!(d.content(), before);
}

#[test]
fn a_configuration_that_leads_nowhere_is_named_in_the_error() {
    let d = Device::single("config");
    for (config, code, says) in [
        ("/nonexistent/device 0 0x200\n", "BOOT-ENV-DEVICE", "line 1: '/nonexistent/device'"),
        ("/ 0 0x200\n", "BOOT-ENV-DEVICE", "line 1: '/' is neither"),
        ("/dev/null 0 0x200\n", "BOOT-ENV-DEVICE", "line 1: '/dev/null' is neither"),
        ("relative 0 0x200\n", "BOOT-ENV-DEVICE", "not an absolute path"),
        ("# nothing\n", "BOOT-ENV-CONFIG", "no line"),
        ("ENV 1 0x200\n", "BOOT-ENV-DEVICE", "too short"),
        ("ENV 0 0x400\n", "BOOT-ENV-DEVICE", "too short"),
        ("ENV -0x100 0x200\n", "BOOT-ENV-DEVICE", "too short"),
        ("ENV -0x1000 0x200\n", "BOOT-ENV-DEVICE", "too short"),
        ("ENV 0x7fffffffffffffff 0x200\n", "BOOT-ENV-DEVICE", "too short"),
        ("/dev/mtd0 0 0x200\n", "BOOT-ENV-DEVICE", "fw_setenv adapter"),
        ("/dev/mtd3:env 0 0x200\n", "BOOT-ENV-DEVICE", "fw_setenv adapter"),
        ("/dev/ubi0_1 0 0x200\n", "BOOT-ENV-DEVICE", "fw_setenv adapter"),
        ("/dev/ubi0:env 0 0x200\n", "BOOT-ENV-DEVICE", "fw_setenv adapter"),
    ] {
        d.config(config);
        for error in [d.native().read(&["x"]).expect_err(config), d.native().write(&NEW).expect_err(config)] {
            assert_eq!(error.code, code, "{error}");
            assert!(error.text.contains(says) && error.text.contains("fw_env.config"), "{error}");
        }
    }
    fs::remove_file(d.root.join("etc/fw_env.config")).expect("removed");
    let error = d.native().read(&["x"]).expect_err("missing");
    assert!(error.text.contains(&*d.root.join("etc/fw_env.config").to_string_lossy()), "{error}");
}

#[test]
fn two_lines_that_lead_to_the_same_place_are_refused() {
    let d = Device::redundant("same", (1, OLD), (0, OLD));
    symlink("env", d.root.join("dev/alias")).expect("link");
    let alias = d.root.join("dev/alias");
    let before = d.content();
    d.config(&format!("ENV 0x20 0x200\n{} 0x21f 0x200\n", alias.display()));
    assert_eq!(code(d.native().write(&NEW)), "BOOT-ENV-CONFIG");
    assert_eq!(d.content(), before);
}

#[test]
fn the_write_protection_of_a_boot_partition_is_lifted_and_restored() {
    let d = Device::redundant("force_ro", (1, OLD), (0, OLD));
    let dir = d.root.join("sys/class/block/env");
    fs::create_dir_all(&dir).expect("directory");
    for (before, after) in [("1\n", "1"), ("0\n", "0\n")] {
        fs::write(dir.join("force_ro"), before).expect("file");
        d.native().write(&[("bootcount", before.trim()), ("other", before.trim())]).expect("writes");
        let is = fs::read_to_string(dir.join("force_ro")).expect("file");
        // A switch in /sys takes one value per write; this file keeps what the shorter write left.
        assert_eq!(is.trim(), after.trim());
    }
}

#[test]
fn writers_at_the_same_time_lose_nothing() {
    let d = Device::redundant("race", (1, OLD), (0, OLD));
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let mut native = d.native();
            scope.spawn(move || {
                for n in 0..10 {
                    native.write(&[(&format!("w{writer}"), &format!("{n}"))]).expect("writes");
                }
            });
        }
    });
    for writer in 0..4 {
        assert_eq!(d.get(&format!("w{writer}")).as_deref(), Some("9"));
    }
    assert!(d.root.join("run/fw_printenv.lock").exists());
}

#[test]
fn a_canary_that_is_asked_for_must_be_there() {
    for (entries, expected) in [
        ("a=1\0", None),
        ("mender_check_saveenv_canary=0\0", None),
        ("mender_check_saveenv_canary=1\0mender_saveenv_canary=1\0", None),
        ("mender_check_saveenv_canary=1\0", Some("BOOT-ENV-CANARY")),
        ("mender_check_saveenv_canary=1\0mender_saveenv_canary=0\0", Some("BOOT-ENV-CANARY")),
    ] {
        let d = Device::redundant("canary", (1, entries), (0, entries));
        assert_eq!(check_canary(&mut d.native()).err().map(|e| e.code), expected, "{entries:?}");
    }
}
