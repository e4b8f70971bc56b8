//! Promises of what a board supplies, for boards that are in no list.

use super::*;
use crate::config::{self, Files};
use std::fs;

const RAW: Board = Board {
    name: "raw",
    device_type: "raw",
    compatible: &["acme,raw"],
    machine: None,
    rootfs_a: "/dev/disk2",
    rootfs_b: "/dev/disk3",
    env: EnvAt::Raw { device: "/dev/disk", offset: 0x1000, redundant: Some(-0x1000), size: 0x800 },
    quirks: Quirks { write_protected: &["disk"] },
    emulated: false,
};
const FILE: Board = Board {
    name: "file",
    env: EnvAt::File {
        path: "/boot/a.env",
        redundant: Some("/boot/b.env"),
        size: 0x800,
        partition: "/dev/disk1",
    },
    ..RAW
};
const FLASH: Board = Board { name: "flash", env: EnvAt::FwSetenv, ..RAW };
const GRUB: Board = Board { name: "grub", env: EnvAt::Grub, ..RAW };

/// A directory that goes away.
struct Root(PathBuf);

impl Root {
    fn new(name: &str) -> Root {
        let dir = std::env::temp_dir().join(format!("thimble-plan-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("etc")).expect("directory");
        Root(dir)
    }

    fn config(&self, text: &str) -> Config {
        let main = self.0.join("mender.conf");
        fs::write(&main, text).expect("file");
        let fallback = self.0.join("none");
        config::load(&Files { main, main_explicit: true, fallback, fallback_explicit: false })
            .expect("valid")
            .0
    }

    fn at(&self, path: &str) -> String {
        file::below(&self.0, path).display().to_string()
    }

    fn access(&self, text: &str, board: &'static Board) -> (Access, Origin) {
        let Sourced { value, origin } = plan(&self.config(text), Some(board), &self.0).access;
        (value, origin)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn slots_are_supplied_both_or_not_at_all() {
    let root = Root::new("slots");
    let parts = |text: &str, board| {
        let plan = plan(&root.config(text), board, &root.0);
        [plan.part_a, plan.part_b].map(|part| part.map(|p| (p.value, p.origin)))
    };
    let by_board = |path| Some((root.at(path), Origin::Board("raw")));
    assert_eq!(parts("{}", Some(&RAW)), [by_board("/dev/disk2"), by_board("/dev/disk3")]);
    assert_eq!(parts("{}", None), [None, None]);
    let [a, b] = parts("{\"RootfsPartA\": \"/dev/x1\"}", Some(&RAW));
    assert_eq!((a.expect("configured").0.as_str(), b), ("/dev/x1", None));
    assert_eq!(
        parts("{\"RootfsPartA\": \"\"}", Some(&RAW)),
        [by_board("/dev/disk2"), by_board("/dev/disk3")]
    );
}

#[test]
fn the_environment_is_where_the_board_has_it_below_the_root() {
    let root = Root::new("where");
    let places = |board| match root.access("{}", board) {
        (Access::Native(Some(supplied)), Origin::Default) => supplied,
        other => panic!("{other:?}"),
    };
    let areas = |supplied: &Supplied| -> Vec<(String, i64, usize)> {
        supplied.areas.iter().map(|a| (a.device.clone(), a.offset, a.size)).collect()
    };
    let raw = places(&RAW);
    let disk = root.at("/dev/disk");
    assert_eq!(areas(&raw), [(disk.clone(), 0x1000, 0x800), (disk, -0x1000, 0x800)]);
    assert_eq!((raw.by.as_str(), raw.partition), ("board raw", None));
    let files = places(&FILE);
    assert_eq!(areas(&files), [(root.at("/boot/a.env"), 0, 0x800), (root.at("/boot/b.env"), 0, 0x800)]);
    assert_eq!(files.partition, Some(root.at("/dev/disk1").into()));
    let none = plan(&root.config("{}"), None, &root.0);
    assert_eq!((none.access.value, none.quirks), (Access::Native(None), Quirks::NONE));
}

#[test]
fn tools_are_used_where_the_board_needs_them_and_nothing_else_is_said() {
    let root = Root::new("tools");
    assert_eq!(root.access("{}", &FLASH), (Access::FwSetenv, Origin::Board("flash")));
    assert_eq!(root.access("{}", &GRUB), (Access::Grub, Origin::Board("grub")));
    for (text, access, key) in [
        ("{\"BootEnvironment\": {\"Adapter\": \"native\"}}", Access::Native(None), "BootEnvironment.Adapter"),
        ("{\"BootEnvironment\": {\"Adapter\": \"grub\"}}", Access::Grub, "BootEnvironment.Adapter"),
        ("{\"BootEnvironment\": {\"Adapter\": \"fw_setenv\"}}", Access::FwSetenv, "BootEnvironment.Adapter"),
        (
            "{\"BootUtilitiesSetActivePart\": \"set x\"}",
            Access::Commands("fw_printenv".into(), "set x".into()),
            "BootUtilitiesSetActivePart",
        ),
        (
            "{\"BootUtilitiesGetNextActivePart\": \"get\"}",
            Access::Commands("get".into(), "fw_setenv".into()),
            "BootUtilitiesGetNextActivePart",
        ),
    ] {
        let (value, origin) = root.access(text, &FLASH);
        assert_eq!(value, access, "{text}");
        assert!(
            matches!(origin, Origin::Config(k, at) if k == key && at.contains("mender.conf, line 1")),
            "{text}"
        );
    }
    // Whoever wrote it has said where the environment is.
    fs::write(root.0.join("etc/fw_env.config"), "").expect("file");
    assert_eq!(root.access("{}", &GRUB), (Access::Native(None), Origin::Default));
    assert!(plan(&root.config("{}"), Some(&GRUB), &root.0).native(false).is_some());
}
