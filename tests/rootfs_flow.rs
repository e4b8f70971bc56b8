//! Whole rootfs updates on a made-up device: two partitions in files, a boot environment, a boot loader.
#![allow(clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use thimble::agent::Reboot;
use thimble::boot::Environment;
use thimble::boot::env::{Image, Layout};
use thimble::boot::native::Native;
use thimble::error::Result;
use thimble::install::rootfs::{Facts, RootfsImage, RootfsOptions};
use thimble::ports::{Payload, PayloadFiles};

const PARTITION: usize = 600 * 1024;
const ENV: usize = 0x400;

struct Device {
    root: PathBuf,
}

impl Device {
    /// Boots partition 2 of 2 and 3.
    fn new(name: &str) -> Device {
        let root = std::env::temp_dir().join(format!("thimble-rootfs-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        for dir in ["dev", "etc", "run", "proc/self"] {
            fs::create_dir_all(root.join(dir)).expect("directory");
        }
        let d = Device { root: fs::canonicalize(root).expect("exists") };
        for number in [2, 3] {
            fs::write(d.part(number), vec![number as u8; PARTITION]).expect("partition");
        }
        // A list without variables, all zero, whose CRC is computed here.
        let mut crc = flate2::Crc::new();
        crc.update(&[0; ENV - 5]);
        let mut empty = crc.sum().to_le_bytes().to_vec();
        empty.resize(ENV, 0);
        assert!(Image::decode(&empty, Layout::Redundant).is_ok());
        fs::write(d.root.join("dev/env"), empty.repeat(2)).expect("env");
        let path = d.root.join("dev/env");
        let config = format!("{p} 0 {ENV:#x}\n{p} {ENV:#x} {ENV:#x}\n", p = path.display());
        fs::write(d.root.join("etc/fw_env.config"), config).expect("config");
        d.set(&[
            ("mender_boot_part", "2"),
            ("upgrade_available", "0"),
            ("bootcount", "5"),
            ("bootlimit", "1"),
        ]);
        d.run_from(2);
        d
    }

    fn part(&self, number: u32) -> PathBuf {
        self.root.join(format!("dev/mmcblk0p{number}"))
    }

    fn native(&self) -> Native {
        Native::new(self.root.join("etc/fw_env.config"), self.root.clone(), true)
    }

    fn set(&self, changes: &[(&str, &str)]) {
        self.native().write(changes).expect("writes");
    }

    fn get(&self, name: &str) -> String {
        self.native().read(&[name]).expect("reads").remove(name).unwrap_or_default()
    }

    /// The variables of an update: part, hex, available, count.
    fn variables(&self) -> [String; 4] {
        ["mender_boot_part", "mender_boot_part_hex", "upgrade_available", "bootcount"].map(|n| self.get(n))
    }

    fn run_from(&self, number: u32) {
        let part = self.part(number);
        let line = format!("22 1 179:{number} / / rw,relatime - ext4 {} rw\n", part.display());
        fs::write(self.root.join("proc/self/mountinfo"), line).expect("mountinfo");
        fs::write(self.root.join("proc/mounts"), format!("{} / ext4 rw 0 0\n", part.display()))
            .expect("mounts");
        fs::write(self.root.join("proc/cmdline"), format!("root={} rw\n", part.display())).expect("cmdline");
    }

    /// What the boot loader does at power-on (BE-3..7). Returns what it boots.
    fn boot(&self) -> u32 {
        if self.get("upgrade_available") == "1" {
            let count = self.get("bootcount").parse::<u32>().unwrap_or(0) + 1;
            if count > 1 {
                let other = if self.get("mender_boot_part") == "2" { "3" } else { "2" };
                let changes = [
                    ("mender_boot_part", other),
                    ("mender_boot_part_hex", other),
                    ("upgrade_available", "0"),
                ];
                self.set(&changes);
            } else {
                self.set(&[("bootcount", &count.to_string())]);
            }
        }
        let number = self.get("mender_boot_part").parse().expect("number");
        self.run_from(number);
        number
    }

    fn handler(&self) -> RootfsImage {
        let part = |n: u32| Some(self.part(n).to_string_lossy().into_owned());
        self.with(part(2), part(3))
    }

    fn with(&self, a: Option<String>, b: Option<String>) -> RootfsImage {
        let mut options = RootfsOptions::new(self.root.clone(), a, b);
        options.memory = Some(self.memory());
        RootfsImage::new(options, Box::new(self.native()))
    }

    /// Where the handler remembers which partition it came from.
    fn memory(&self) -> PathBuf {
        self.root.join("origin")
    }

    fn store(&self, image: &[u8]) -> Result<()> {
        self.handler().store(&mut Files::one(image))
    }

    fn install(&self, image: &[u8]) {
        self.store(image).expect("stores");
        self.handler().install().expect("installs");
    }

    fn untouched(&self) -> bool {
        [2, 3].iter().all(|n| fs::read(self.part(*n)).expect("partition") == vec![*n as u8; PARTITION])
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

struct Files {
    left: Vec<Vec<u8>>,
    current: Vec<u8>,
}

impl Files {
    fn one(image: &[u8]) -> Files {
        Files { left: vec![image.to_vec()], current: Vec::new() }
    }
}

impl PayloadFiles for Files {
    fn next_file(&mut self) -> Result<Option<(String, u64)>> {
        if self.left.is_empty() {
            return Ok(None);
        }
        self.current = self.left.remove(0);
        Ok(Some(("rootfs.ext4".to_owned(), self.current.len() as u64)))
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let n = self.current.len().min(buffer.len()).min(50_000);
        buffer[..n].copy_from_slice(&self.current[..n]);
        self.current.drain(..n);
        Ok(n)
    }
}

fn image() -> Vec<u8> {
    (0..400_001u32).map(|n| (n % 253) as u8).collect()
}

fn code<T: std::fmt::Debug>(result: Result<T>) -> &'static str {
    result.expect_err("refused").code
}

#[test]
fn an_update_is_written_tried_and_committed() {
    let d = Device::new("commit");
    assert_eq!(d.boot(), 2);
    let mut handler = d.handler();
    handler.store(&mut Files::one(&image())).expect("stores");
    assert_eq!((handler.counters().written, handler.counters().skipped), (image().len() as u64, 0));
    assert_eq!(d.variables(), ["2", "", "0", "5"], "nothing is activated yet");
    let content = fs::read(d.part(3)).expect("partition");
    assert!(content[..400_001] == image()[..] && content[400_001..].iter().all(|b| *b == 3));
    assert_eq!(content.len(), PARTITION);
    handler.install().expect("installs");
    assert_eq!(d.variables(), ["3", "3", "1", "0"], "a stale count is cleared in the same write");
    assert_eq!(handler.needs_reboot(), Ok(Reboot::Automatic));
    assert_eq!(handler.supports_rollback(), Ok(true));
    assert_eq!(code(handler.verify_reboot()), "ROOTFS-MISMATCH", "not restarted yet");
    assert_eq!(code(handler.commit()), "ROOTFS-MISMATCH");
    assert_eq!(d.boot(), 3);
    let mut handler = d.handler();
    assert_eq!(handler.facts(), Ok(Facts { running: 3, boot_part: 3, pending: true }));
    handler.verify_reboot().expect("runs");
    handler.commit().expect("commits");
    assert_eq!(fs::read_to_string(d.memory()).expect("remembered"), "from=2\nto=3\n");
    handler.cleanup().expect("forgets");
    assert!(!d.memory().exists());
    assert_eq!(d.variables(), ["3", "3", "0", "1"]);
    assert_eq!((d.boot(), d.boot()), (3, 3));
    assert_eq!(code(d.handler().commit()), "ROOTFS-FELL-BACK");
    // The next one goes the other way.
    d.install(&image());
    assert_eq!(d.variables(), ["2", "2", "1", "0"]);
    assert_eq!(d.boot(), 2);
}

#[test]
fn without_commit_the_boot_loader_goes_back_and_the_handler_says_so() {
    let d = Device::new("fell-back");
    d.install(&image());
    assert_eq!((d.boot(), d.boot()), (3, 2));
    let mut handler = d.handler();
    assert_eq!(code(handler.verify_reboot()), "ROOTFS-FELL-BACK");
    assert_eq!(code(handler.commit()), "ROOTFS-FELL-BACK");
    let before = d.variables();
    handler.rollback().expect("nothing to do");
    assert_eq!(d.variables(), before);
    handler.verify_rollback_reboot().expect("the old one runs");
    handler.failure().expect("nothing to do");
    assert_eq!(d.boot(), 2);
}

#[test]
fn a_rollback_before_the_restart_stays_on_the_running_partition() {
    let d = Device::new("before");
    d.install(&image());
    let mut handler = d.handler();
    handler.rollback().expect("rolls back");
    handler.rollback().expect("again, after a power cut");
    assert_eq!(d.variables(), ["2", "2", "0", "0"]);
    handler.verify_rollback_reboot().expect("is back");
    assert_eq!(d.boot(), 2);
}

#[test]
fn a_rollback_after_the_restart_goes_to_the_other_partition() {
    let d = Device::new("after");
    d.install(&image());
    assert_eq!(d.boot(), 3);
    let mut handler = d.handler();
    assert_eq!(code(handler.verify_rollback_reboot()), "ROOTFS-NOT-BACK");
    handler.rollback().expect("rolls back");
    assert_eq!(d.variables(), ["2", "2", "0", "1"]);
    assert_eq!(code(handler.verify_rollback_reboot()), "ROOTFS-MISMATCH", "not restarted yet");
    assert_eq!(d.boot(), 2);
    d.handler().verify_rollback_reboot().expect("is back");
}

#[test]
fn a_rollback_after_the_commit_goes_to_the_other_partition() {
    let d = Device::new("committed");
    d.install(&image());
    assert_eq!(d.boot(), 3);
    d.handler().commit().expect("commits");
    assert_eq!(d.boot(), 3, "power was cut before the commit was recorded");
    let mut handler = d.handler();
    assert_eq!(code(handler.verify_rollback_reboot()), "ROOTFS-NOT-BACK", "the update runs");
    handler.rollback().expect("rolls back");
    handler.rollback().expect("again, after a power cut");
    assert_eq!(d.variables()[..3], ["2", "2", "0"]);
    assert_eq!(code(handler.verify_rollback_reboot()), "ROOTFS-MISMATCH", "not restarted yet");
    assert_eq!(d.boot(), 2);
    let mut handler = d.handler();
    handler.rollback().expect("again, after a power cut");
    handler.verify_rollback_reboot().expect("is back");
    handler.cleanup().expect("forgets");
    assert_eq!((d.boot(), d.memory().exists()), (2, false));
}

#[test]
fn without_a_memory_that_makes_sense_a_committed_update_stays() {
    let d = Device::new("no-memory");
    d.install(&image());
    assert_eq!(d.boot(), 3);
    d.handler().commit().expect("commits");
    // Absent: installed by a version that did not write it.
    for content in ["", "from=2\nto=", "from=2\nto=4\n", "from=3\nto=2\n", "from=3\nto=3\n", &"x".repeat(999)]
    {
        fs::write(d.memory(), content).expect("memory");
        d.handler().rollback().expect("nothing to do");
        assert_eq!(d.variables()[..3], ["3", "3", "0"], "{content:?}");
    }
    fs::remove_file(d.memory()).expect("removed");
    d.handler().rollback().expect("nothing to do");
    assert_eq!(d.variables()[..3], ["3", "3", "0"]);
    d.handler().verify_rollback_reboot().expect("as without a memory");
}

#[test]
fn what_is_remembered_of_an_earlier_update_is_forgotten_before_its_partition_is_overwritten() {
    let d = Device::new("stale");
    d.install(&image());
    assert_eq!(d.boot(), 3);
    d.handler().commit().expect("commits");
    // No Cleanup; the next update is stored and fails before its installation.
    d.store(&image()).expect("stores");
    d.handler().rollback().expect("nothing to do");
    assert_eq!(d.variables()[..3], ["3", "3", "0"]);
    assert_eq!(d.boot(), 3);
}

#[test]
fn nothing_is_activated_without_a_way_back() {
    let d = Device::new("no-way-back");
    d.store(&image()).expect("stores");
    fs::create_dir(d.root.join("origin.new")).expect("in the way");
    assert_eq!(code(d.handler().install()), "ROOTFS-ORIGIN");
    assert_eq!(d.variables(), ["2", "", "0", "5"]);
}

#[test]
fn a_pause_does_not_use_up_the_tries() {
    let d = Device::new("pause");
    d.handler().keep_trying().expect("nothing to do");
    assert_eq!(d.get("bootcount"), "5");
    d.install(&image());
    for _ in 0..3 {
        assert_eq!(d.boot(), 3);
        d.handler().keep_trying().expect("writes");
    }
    d.handler().commit().expect("commits");
}

#[test]
fn installing_again_after_a_power_cut_changes_nothing() {
    let d = Device::new("again");
    d.install(&image());
    d.handler().install().expect("again");
    assert_eq!(d.variables(), ["3", "3", "1", "0"]);
    assert_eq!(d.boot(), 3);
    assert_eq!(code(d.handler().install()), "ROOTFS-PENDING", "an update on top of one that is being tried");
}

#[test]
fn an_identical_image_writes_no_block() {
    let d = Device::new("identical");
    d.store(&image()).expect("stores");
    let mut handler = d.handler();
    handler.store(&mut Files::one(&image())).expect("stores");
    assert_eq!((handler.counters().written, handler.counters().skipped), (0, image().len() as u64));
}

#[test]
fn an_image_as_large_as_the_partition_fits_and_one_byte_more_is_refused_before_writing() {
    let d = Device::new("size");
    assert_eq!(code(d.store(&vec![9; PARTITION + 1])), "ROOTFS-SIZE");
    assert_eq!(code(d.store(&[])), "ROOTFS-SIZE");
    assert!(d.untouched());
    d.store(&vec![9; PARTITION]).expect("fits");
    assert_eq!(fs::read(d.part(3)).expect("partition"), vec![9; PARTITION]);
    assert_eq!(fs::read(d.part(2)).expect("partition"), vec![2; PARTITION]);
}

#[test]
fn an_artifact_without_a_file_or_with_two_is_refused() {
    let d = Device::new("files");
    assert_eq!(code(d.handler().store(&mut Files { left: vec![], current: vec![] })), "ROOTFS-FILES");
    let mut two = Files { left: vec![image(), image()], current: vec![] };
    assert_eq!(code(d.handler().store(&mut two)), "ROOTFS-FILES");
}

#[test]
fn nothing_is_written_while_an_update_waits_for_commit() {
    let d = Device::new("pending");
    d.set(&[("upgrade_available", "1")]);
    assert_eq!(code(d.store(&image())), "ROOTFS-PENDING");
    assert!(d.untouched());
}

#[test]
fn nothing_is_written_if_another_partition_runs_than_the_boot_loader_starts() {
    let d = Device::new("mismatch");
    d.run_from(3);
    assert_eq!(code(d.store(&image())), "ROOTFS-MISMATCH");
    assert_eq!(code(d.handler().install()), "ROOTFS-MISMATCH");
    for (value, expected) in
        [("", "BOOT-SLOTS-VARIABLE"), ("0x3", "BOOT-SLOTS-VARIABLE"), ("4", "ROOTFS-MISMATCH")]
    {
        d.set(&[("mender_boot_part", value)]);
        assert_eq!(code(d.store(&image())), expected, "{value:?}");
    }
    assert!(d.untouched());
}

#[test]
fn a_mounted_partition_is_not_overwritten() {
    let d = Device::new("mounted");
    let line = format!("30 22 179:3 / /mnt rw - ext4 {} rw\n", d.part(3).display());
    let path = d.root.join("proc/self/mountinfo");
    fs::OpenOptions::new().append(true).open(path).expect("file").write_all(line.as_bytes()).expect("line");
    let error = d.store(&image()).expect_err("refused");
    assert_eq!(error.code, "ROOTFS-MOUNTED");
    assert!(error.text.contains("/mnt"), "{error}");
    assert!(d.untouched());
}

#[test]
fn a_missing_partition_is_not_created() {
    let d = Device::new("missing");
    fs::remove_file(d.part(3)).expect("removed");
    assert_eq!(code(d.store(&image())), "ROOTFS-DEVICE");
    assert!(!d.part(3).exists());
    fs::create_dir(d.part(3)).expect("directory");
    assert_eq!(code(d.store(&image())), "ROOTFS-DEVICE");
}

#[test]
fn without_partitions_nothing_is_stored_and_a_started_update_is_left_to_the_boot_loader() {
    let d = Device::new("lost");
    let path = |n| Some(d.part(n).to_string_lossy().into_owned());
    for (a, b) in
        [(None, None), (path(2), None), (None, path(3)), (path(2), path(2)), (Some(String::new()), path(3))]
    {
        assert_eq!(code(d.with(a, b).store(&mut Files::one(&image()))), "ROOTFS-NOT-CONFIGURED");
    }
    assert!(d.untouched());
    d.install(&image());
    assert_eq!(d.boot(), 3);
    let mut lost = d.with(None, None);
    assert_eq!(code(lost.verify_reboot()), "ROOTFS-NOT-CONFIGURED");
    assert_eq!(code(lost.commit()), "ROOTFS-NOT-CONFIGURED");
    assert_eq!(lost.supports_rollback(), Ok(true));
    lost.rollback().expect("left to the boot loader");
    assert_eq!(lost.needs_reboot(), Ok(Reboot::Automatic));
    assert_eq!(code(lost.verify_rollback_reboot()), "ROOTFS-NOT-CONFIGURED");
    assert_eq!(d.boot(), 2);
    d.handler().verify_rollback_reboot().expect("is back");
}

#[test]
fn a_new_system_without_fw_env_config_is_left_to_the_boot_loader() {
    let d = Device::new("noconfig");
    d.install(&image());
    assert_eq!(d.boot(), 3);
    let config = d.root.join("etc/fw_env.config");
    fs::rename(&config, d.root.join("away")).expect("renamed");
    assert_eq!(code(d.handler().verify_reboot()), "BOOT-ENV-CONFIG");
    d.handler().rollback().expect("left to the boot loader");
    fs::rename(d.root.join("away"), &config).expect("renamed");
    assert_eq!(d.boot(), 2);
    d.handler().verify_rollback_reboot().expect("is back");
}

#[test]
fn a_missing_canary_refuses_before_anything_is_written() {
    let d = Device::new("canary");
    d.set(&[("mender_check_saveenv_canary", "1")]);
    assert_eq!(code(d.store(&image())), "BOOT-ENV-CANARY");
    assert_eq!(code(d.handler().install()), "BOOT-ENV-CANARY");
    assert!(d.untouched());
    d.set(&[("mender_saveenv_canary", "1")]);
    d.store(&image()).expect("stores");
}

#[test]
fn a_power_cut_at_every_byte_of_the_switch_boots_the_old_or_the_new_system() {
    let d = Device::new("cut");
    d.store(&image()).expect("stores");
    let env = d.root.join("dev/env");
    let before = fs::read(&env).expect("env");
    d.handler().install().expect("installs");
    let after = fs::read(&env).expect("env");
    let changed: Vec<usize> = (0..before.len()).filter(|n| before[*n] != after[*n]).collect();
    let (first, last) = (changed[0], changed[changed.len() - 1]);
    for cut in first..=last + 1 {
        let torn = [&after[..cut], &before[cut..]].concat();
        fs::write(&env, torn).expect("env");
        d.run_from(2);
        let booted = d.boot();
        let facts = d.handler().facts().expect("readable");
        assert_eq!(facts, Facts { running: booted, boot_part: booted, pending: booted == 3 }, "cut {cut}");
        assert_eq!(booted == 3, cut > last, "cut {cut}");
    }
}

#[test]
fn without_a_root_option_a_regular_file_is_no_partition() {
    let d = Device::new("regular");
    let part = |n: u32| Some(d.part(n).to_string_lossy().into_owned());
    let options = RootfsOptions::new(PathBuf::from("/"), part(2), part(3));
    let mut handler = RootfsImage::new(options, Box::new(d.native()));
    // The system that this test runs on is on neither of them.
    assert!(handler.store(&mut Files::one(&image())).is_err());
    assert!(d.untouched());
    assert!(Path::new("/").exists());
}
