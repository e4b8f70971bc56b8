//! Promises of the detection of slots, on made-up systems below a directory.

use super::*;
use std::fs;

struct Device(PathBuf);

impl Device {
    fn new(name: &str) -> Device {
        let dir = std::env::temp_dir().join(format!("thimble-slots-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("directory");
        Device(fs::canonicalize(dir).expect("exists"))
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.0.join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().expect("parent")).expect("directory");
        fs::write(path, text).expect("file");
    }

    fn link(&self, path: &str, to: &str) {
        let path = self.0.join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().expect("parent")).expect("directory");
        std::os::unix::fs::symlink(to, path).expect("link");
    }

    fn root_is(&self, number: &str, kind: &str, source: &str, cmdline: &str) {
        self.file("/proc/self/mountinfo", &format!("22 1 {number} / / rw - {kind} {source} rw\n"));
        self.file("/proc/cmdline", cmdline);
    }

    fn active(&self, a: &str, b: &str, part: &str) -> Result<(u32, Evidence)> {
        detect(&self.0, a, b, part).map(|s| (s.active.number, s.evidence))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const A: &str = "/dev/thimble0p2";
const B: &str = "/dev/thimble0p3";

#[test]
fn the_partition_number_is_the_digits_at_the_end() {
    for (path, expected) in [
        ("/dev/mmcblk0p2", Some(2)),
        ("/dev/mmcblk0p12", Some(12)),
        ("/dev/sda10", Some(10)),
        ("/dev/ubi0_1", Some(1)),
        ("/dev/ubi0_0", Some(0)),
        ("/dev/nvme0n1p3", Some(3)),
        ("/dev/mapper/root-2", Some(2)),
        ("/dev/nvme0n1", None),
        ("/dev/mmcblk0", None),
        ("/dev/mmcblk0boot0", None),
        ("/dev/sda", None),
        ("/dev/sda99999999999", None),
        ("/", None),
    ] {
        assert_eq!(number(Path::new(path)), expected, "{path}");
    }
}

#[test]
fn mender_boot_part_is_a_decimal_number_without_leading_zeros() {
    for (text, expected) in [("2", 2), ("3", 3), ("10", 10), ("0", 0)] {
        assert_eq!(boot_part(Some(text)), Ok(expected));
    }
    for text in ["0xA", "A", "2 ", " 2", "02", "-1", "+1", "99999999999", "2\n"] {
        let error = boot_part(Some(text)).expect_err(text);
        assert_eq!(error.code, "BOOT-SLOTS-VARIABLE");
    }
    for missing in [None, Some("")] {
        assert_eq!(boot_part(missing).expect_err("missing").text, "boot environment has no mender_boot_part");
    }
}

#[test]
fn the_mounted_root_decides_and_the_variable_does_not() {
    let d = Device::new("mounted");
    d.root_is("179:2", "ext4", A, "root=/dev/thimble0p3");
    assert_eq!(d.active(A, B, "3"), Ok((2, Evidence::Mounted)));
    d.root_is("179:3", "ext4", B, "");
    assert_eq!(d.active(A, B, "2"), Ok((3, Evidence::Mounted)));
    assert_eq!(d.active(B, A, ""), Ok((3, Evidence::Mounted)));
    // Without mountinfo; the last line for / is the visible one.
    fs::remove_file(d.0.join("proc/self/mountinfo")).expect("removed");
    d.file(
        "/proc/mounts",
        "rootfs / rootfs rw 0 0\n/dev/thimble0p2 / ext4 rw 0 0\ntmpfs /run tmpfs rw 0 0\n",
    );
    assert_eq!(d.active(A, B, "3"), Ok((2, Evidence::Mounted)));
}

#[test]
fn partition_2_is_not_confused_with_partition_12() {
    let d = Device::new("twelve");
    let twelve = "/dev/thimble0p12";
    d.root_is("0:30", "btrfs", "whatever", "quiet");
    assert_eq!(d.active(A, twelve, "2"), Ok((2, Evidence::Environment)));
    assert_eq!(d.active(twelve, A, "2"), Ok((2, Evidence::Environment)));
    assert_eq!(d.active(twelve, A, "12"), Ok((12, Evidence::Environment)));
    d.root_is("179:12", "ext4", twelve, "");
    assert_eq!(d.active(A, twelve, "2"), Ok((12, Evidence::Mounted)));
}

#[test]
fn every_form_of_the_kernels_root_argument_is_understood() {
    let d = Device::new("cmdline");
    d.file("/dev/thimble0p3", "");
    d.link("/dev/disk/by-partuuid/4f68bce3-02", "../../thimble0p3");
    d.link("/dev/disk/by-partlabel/rootfsB", "../../thimble0p3");
    d.link("/dev/disk/by-label/other", "../../thimble0p3");
    d.link("/dev/root", "thimble0p3");
    d.file(
        "/sys/class/block/thimble0p3/uevent",
        "DEVNAME=thimble0p3\nPARTN=3\nPARTUUID=aaaa-03\nPARTNAME=b\n",
    );
    for form in [
        "/dev/thimble0p3",
        "PARTUUID=4F68BCE3-02",
        "PARTUUID=AAAA-03",
        "PARTLABEL=rootfsB",
        "PARTLABEL=b",
        "LABEL=other",
    ] {
        d.root_is("0:1", "tmpfs", "none", &format!("console=ttyS0 root={form} rootwait\n"));
        assert_eq!(d.active(A, B, "2"), Ok((3, Evidence::CommandLine)), "{form}");
    }
    d.root_is("179:3", "ext4", "/dev/root", "");
    assert_eq!(d.active(A, B, "2"), Ok((3, Evidence::Mounted)), "link /dev/root");
}

#[test]
fn configured_links_by_partuuid_and_partlabel_are_followed_and_others_are_not() {
    let d = Device::new("links");
    let at = |p: &str| d.0.join(p.trim_start_matches('/')).to_string_lossy().into_owned();
    d.file("/dev/thimble0p2", "");
    d.file("/dev/thimble0p3", "");
    d.root_is("0:1", "ext4", &at("/dev/thimble0p2"), "");
    assert_eq!(d.active(&at("/dev/thimble0p2"), &at("/dev/thimble0p3"), "2"), Ok((2, Evidence::Mounted)));
    let error = d.active("/dev/disk/by-partuuid/no-such-02", B, "2").expect_err("dangling");
    assert_eq!(error.code, "BOOT-SLOTS-CONFIG");
    assert_eq!(resolve(&d.0, "/dev/mapper/x-2", Given::InConfiguration), Some("/dev/mapper/x-2".into()));
}

#[test]
fn ubi_volumes_are_found_by_number_name_and_block_device() {
    let d = Device::new("ubi");
    d.file("/sys/class/ubi/ubi0_0/name", "rootfsa\n");
    d.file("/sys/class/ubi/ubi0_1/name", "rootfsb\n");
    for source in ["ubi0_1", "ubi0:rootfsb", "ubi:rootfsb", "/dev/ubi0_1", "/dev/ubiblock0_1"] {
        d.root_is("0:13", "ubifs", source, "");
        for (a, b) in [("ubi0_0", "ubi0_1"), ("/dev/ubi0_0", "/dev/ubi0_1")] {
            assert_eq!(d.active(a, b, "0"), Ok((1, Evidence::Mounted)), "{source}");
        }
    }
    d.root_is("0:13", "ubifs", "ubi0:elsewhere", "root=ubi0:rootfsa");
    assert_eq!(d.active("ubi0_0", "ubi0_1", "1"), Ok((0, Evidence::CommandLine)));
}

#[test]
fn below_an_overlay_the_lowest_layer_on_a_partition_decides() {
    let d = Device::new("overlay");
    let overlay = |lower: &str| {
        format!(
            "20 1 179:3 / /media/ro ro - ext4 {B} ro\n21 1 0:20 / /media/rw rw - tmpfs tmpfs rw\n\
             22 1 0:21 / / rw - overlay overlay rw,lowerdir={lower},upperdir=/media/rw/u\n"
        )
    };
    d.file("/proc/self/mountinfo", &overlay("/media/ro"));
    assert_eq!(d.active(A, B, "2"), Ok((3, Evidence::Mounted)));
    d.file("/proc/self/mountinfo", &overlay("/media/rw/l:/media/ro/sub"));
    assert_eq!(d.active(A, B, "2"), Ok((3, Evidence::Mounted)));
    d.file("/proc/self/mountinfo", &overlay("/gone").replace("/media/ro ", "/rom "));
    assert_eq!(d.active(A, B, "2"), Ok((3, Evidence::Mounted)), "OpenWrt");
    d.file("/proc/self/mountinfo", &overlay("/gone"));
    d.file("/proc/cmdline", "root=/dev/thimble0p2");
    assert_eq!(d.active(A, B, "3"), Ok((2, Evidence::CommandLine)));
    d.file("/proc/cmdline", "");
    assert_eq!(d.active(A, B, "3"), Ok((3, Evidence::Environment)));
    assert_eq!(d.active(A, B, "02").expect_err("rubbish").code, "BOOT-SLOTS-VARIABLE");
    assert_eq!(d.active(A, B, "4").expect_err("neither").code, "BOOT-SLOTS-ROOT");
}

#[test]
fn a_root_that_is_on_neither_partition_is_refused() {
    let d = Device::new("neither");
    for (kind, source, cmdline) in [
        ("ext4", "/dev/sdb1", "root=/dev/thimble0p2"),
        ("ext4", "/dev/root", "root=/dev/sdb1"),
        ("nfs", "10.0.0.1:/export", "root=/dev/thimble0p2"),
        ("rootfs", "rootfs", ""),
        ("tmpfs", "none", "root=/dev/nfs"),
        ("ext4", "/dev/loop0", "root=PARTUUID=unknown"),
    ] {
        d.root_is("8:17", kind, source, cmdline);
        let error = d.active(A, B, "2").expect_err(source);
        assert_eq!(error.code, "BOOT-SLOTS-ROOT", "{source}: {error}");
    }
    fs::remove_dir_all(d.0.join("proc")).expect("removed");
    assert_eq!(d.active(A, B, "2").expect_err("nothing known").code, "BOOT-SLOTS-ROOT");
}

#[test]
fn partitions_that_are_no_pair_are_refused() {
    let d = Device::new("pair");
    d.root_is("179:2", "ext4", A, "");
    for (a, b) in [(A, A), (A, "/dev/sdb2"), (A, "/dev/sda"), ("thimble0p2", B), ("", B), ("ubi0:name", B)] {
        assert_eq!(d.active(a, b, "2").expect_err(b).code, "BOOT-SLOTS-CONFIG", "{a} {b}");
    }
}

#[test]
fn a_mounted_partition_says_where() {
    let d = Device::new("where");
    d.root_is("179:2", "ext4", A, "");
    let slots = detect(&d.0, A, B, "2").expect("detects");
    assert_eq!(slots.active.mounted_on(&d.0), ["/"]);
    assert!(slots.inactive.mounted_on(&d.0).is_empty());
    d.file(
        "/proc/self/mountinfo",
        &format!("1 1 1:2 / / rw - ext4 {A} rw\n2 1 1:3 / /mnt rw - ext4 {B} rw\n3 1 1:3 / /mnt/b rw - ext4 {B} rw\n"),
    );
    assert_eq!(slots.inactive.mounted_on(&d.0), ["/mnt/b", "/mnt"]);
}
