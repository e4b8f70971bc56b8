//! Promises of the search by device number, with made-up numbers.

use super::*;
use std::fs;

fn slot(path: &str, number: u32, device: u64) -> Slot {
    Slot { path: path.into(), number, device: Some(device) }
}

fn system(root: &Path, mountinfo: &str, cmdline: &str, own: Option<u64>) -> System {
    System { root: root.to_owned(), mounts: mounts::mountinfo(mountinfo), cmdline: cmdline.to_owned(), own }
}

#[test]
fn device_numbers_decide_before_names() {
    let (a, b) = (
        slot("/dev/xx2", 2, block::device_number(179, 2)),
        slot("/dev/xx3", 3, block::device_number(179, 3)),
    );
    let nowhere = Path::new("/nonexistent-root");
    let line = "22 1 179:3 / / rw - ext4 /dev/root rw";
    let ask = |s: &System| find(s, &a, &b, "2").map(|(a_runs, _)| a_runs);
    assert_eq!(ask(&system(nowhere, line, "", None)), Ok(false));
    assert_eq!(ask(&system(nowhere, line, "", a.device)), Ok(true), "the device of / itself comes first");
    for root in ["179:3", "b303", "0b303"] {
        let s = system(nowhere, "22 1 0:1 / / rw - rootfs rootfs rw", &format!("root={root}"), None);
        assert_eq!(ask(&s), Ok(false), "{root}");
    }
}

#[test]
fn below_a_device_mapper_root_its_slaves_decide() {
    let root = std::env::temp_dir().join(format!("thimble-slaves-{}", std::process::id()));
    let slave = root.join("sys/dev/block/253:0/slaves/xx3");
    fs::create_dir_all(&slave).expect("directory");
    fs::create_dir_all(root.join("sys/dev/block/253:0/dm")).expect("directory");
    fs::write(slave.join("dev"), "179:3\n").expect("file");
    let (a, b) = (
        slot("/dev/xx2", 2, block::device_number(179, 2)),
        slot("/dev/xx3", 3, block::device_number(179, 3)),
    );
    let line = "22 1 253:0 / / ro - squashfs /dev/mapper/verity ro";
    for own in [None, Some(block::device_number(253, 0))] {
        let found = find(&system(&root, line, "", own), &a, &b, "2");
        assert_eq!(found, Ok((false, Evidence::Mounted)));
    }
    // A plain partition that is neither of the two: no other hint may overrule that.
    fs::create_dir_all(root.join("sys/dev/block/8:1")).expect("directory");
    let s = system(&root, line, "root=179:2", Some(block::device_number(8, 1)));
    let error = find(&s, &a, &b, "2").expect_err("neither");
    fs::remove_dir_all(&root).expect("removed");
    assert!(error.text.contains("device 8:1"), "{error}");
}
