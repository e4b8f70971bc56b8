//! Update Modules and the program as a whole, at the command line: which module runs, in which order, with what end.
#![allow(clippy::expect_used, clippy::panic)]

#[path = "data/module_bench.rs"]
mod bench;

use bench::{content, lines};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use thimble_testkit::artifact::ArtifactSpec;
use thimble_testkit::tempdir::TempDir;

struct Device {
    root: TempDir,
}

const ANSWERS: &str = "case $1 in SupportsRollback) echo Yes ;; esac";

impl Device {
    fn new(config: &str) -> Device {
        let device = Device { root: TempDir::new("cli") };
        for dir in ["etc/mender", "var/lib/mender", "usr/share/mender/modules/v3"] {
            fs::create_dir_all(device.path(dir)).expect("creates");
        }
        fs::write(device.path("etc/mender/mender.conf"), config).expect("writes");
        fs::write(device.path("var/lib/mender/device_type"), "device_type=test-type\n").expect("writes");
        device
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn tree(&self) -> PathBuf {
        self.path("var/lib/mender/modules/v3/payloads/0000/tree")
    }

    /// Every call is noted in `calls`.
    fn module(&self, kind: &str, script: &str) {
        let path = self.path("usr/share/mender/modules/v3").join(kind);
        let calls = self.path("calls");
        let text = format!("#!/bin/sh\necho $1 >> {}\n{script}\n", calls.display());
        fs::write(&path, text).expect("writes");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("mode");
    }

    fn calls(&self) -> Vec<String> {
        let path = self.path("calls");
        if path.exists() { lines(&path) } else { Vec::new() }
    }

    fn thimble(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_thimble"))
            .arg("--root")
            .arg(self.root.path())
            .args(args)
            .output()
            .expect("starts")
    }

    fn install(&self, artifact: &[u8]) -> Output {
        let path = self.path("artifact.mender");
        fs::write(&path, artifact).expect("writes");
        self.thimble(&["install", path.to_str().expect("a plain path")])
    }

    fn name(&self) -> String {
        String::from_utf8(self.thimble(&["show-artifact"]).stdout).expect("text").trim().to_owned()
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn artifact(kind: &str) -> ArtifactSpec {
    ArtifactSpec::module(kind, "new-name").file("a", content(100_000)).uncompressed()
}

#[test]
fn an_update_is_installed_and_committed_and_its_tree_is_gone() {
    let device = Device::new("{}");
    device.module("test", ANSWERS);
    assert!(device.install(&artifact("test").bytes()).status.success());
    assert!(device.tree().join("files/a").exists(), "the tree stays until the end");
    assert!(device.thimble(&["commit"]).status.success());
    let steps = ["Download", "ArtifactInstall", "ArtifactCommit", "Cleanup"];
    let calls: Vec<String> =
        device.calls().into_iter().filter(|call| steps.contains(&call.as_str())).collect();
    assert_eq!(calls, steps);
    assert_eq!(device.name(), "new-name");
    assert!(!device.tree().exists());
}

#[test]
fn the_tree_of_an_artifact_shows_the_device_as_it_was_before() {
    let device = Device::new("{}");
    device.module("test", &format!("{ANSWERS}\n[ $1 = ArtifactCommit ] && cp -r $2 $2/../seen; exit 0"));
    assert!(device.install(&artifact("test").bytes()).status.success());
    assert!(device.thimble(&["commit"]).status.success());
    let mut second = artifact("test");
    second.name = "newer-name".into();
    assert!(device.install(&second.bytes()).status.success());
    let read = |name: &str| fs::read_to_string(device.tree().join(name)).expect("there");
    assert_eq!(read("current_artifact_name"), "new-name\n");
    assert_eq!(read("current_device_type"), "test-type\n");
    assert_eq!(read("header/artifact_name"), "newer-name");
    let seen = device.tree().join("../seen/current_artifact_name");
    assert_eq!(lines(&seen), ["unknown"]);
}

#[test]
fn a_payload_that_is_not_what_the_manifest_says_is_never_installed() {
    let device = Device::new("{}");
    device.module("test", ANSWERS);
    let mut bytes = artifact("test").bytes();
    let payload = content(100_000);
    let at = bytes.windows(64).position(|window| window == &payload[50_000..50_064]).expect("uncompressed");
    bytes[at] ^= 1;
    let output = device.install(&bytes);
    assert!(!output.status.success());
    assert!(stderr(&output).contains("ARTIFACT-CHECKSUM"), "{}", stderr(&output));
    assert_eq!(device.calls(), ["ProvidePayloadFileSizes", "Download", "Cleanup"]);
    assert_eq!(device.name(), "unknown");
    assert!(!device.tree().exists());
}

#[test]
fn a_missing_module_is_found_before_anything_is_downloaded() {
    let device = Device::new("{}");
    let output = device.install(&artifact("test").bytes());
    assert!(!output.status.success());
    let path = device.path("usr/share/mender/modules/v3/test");
    assert!(stderr(&output).contains("MODULE-MISSING"), "{}", stderr(&output));
    assert!(stderr(&output).contains(&path.display().to_string()), "{}", stderr(&output));
    assert!(!device.tree().exists());
    assert_eq!(device.name(), "unknown");
}

#[test]
fn a_module_called_rootfs_image_is_used_only_if_the_configuration_says_so() {
    let device = Device::new("{}");
    device.module("rootfs-image", ANSWERS);
    let bytes = ArtifactSpec::rootfs("new-name", content(10_000)).bytes();
    assert!(!device.install(&bytes).status.success(), "no partitions are configured");
    assert!(device.calls().is_empty());

    let config = r#"{"RootfsImage":{"UseModule":true}}"#;
    fs::write(device.path("etc/mender/mender.conf"), config).expect("writes");
    let output = device.install(&bytes);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(device.thimble(&["commit"]).status.success());
    assert!(device.calls().contains(&"ArtifactCommit".to_owned()));
    assert_eq!(device.name(), "new-name");

    fs::remove_file(device.path("usr/share/mender/modules/v3/rootfs-image")).expect("removes");
    let output = device.install(&bytes);
    assert!(stderr(&output).contains("MODULE-MISSING"), "not the built-in one instead: {}", stderr(&output));
}

#[test]
fn a_module_removed_during_the_update_fails_it_and_keeps_the_tree() {
    let device = Device::new("{}");
    device.module("test", ANSWERS);
    assert!(device.install(&artifact("test").bytes()).status.success());
    fs::remove_file(device.path("usr/share/mender/modules/v3/test")).expect("removes");
    let output = device.thimble(&["commit"]);
    assert!(!output.status.success());
    assert!(stderr(&output).contains("MODULE-MISSING"), "{}", stderr(&output));
    assert_eq!(device.name(), "new-name_INCONSISTENT");
    assert!(device.tree().exists());
}

#[test]
fn a_tree_left_by_an_aborted_update_is_wiped_before_the_next_download() {
    let device = Device::new("{}");
    device.module(
        "test",
        &format!("{ANSWERS}\n[ $1 = ProvidePayloadFileSizes ] && ls $2 > $2/../seen; exit 0"),
    );
    fs::create_dir_all(device.tree().join("files")).expect("creates");
    fs::write(device.tree().join("files/stale"), "x").expect("writes");
    assert!(device.install(&artifact("test").bytes()).status.success());
    assert!(!lines(&device.tree().join("../seen")).contains(&"files".to_owned()));
    assert!(!Path::new(&device.tree().join("files/stale")).exists());
}

#[test]
fn a_terminated_agent_ends_its_module_and_leaves_nothing_half_done() {
    let device = Device::new("{}");
    // What init does to both when the machine goes down.
    device.module(
        "test",
        "[ $1 = Download ] || exit 0\ncat $(cat stream-next) > /dev/null\nkill -TERM $PPID\nsleep 60",
    );
    let output = device.install(&artifact("test").bytes());
    assert!(!output.status.success());
    assert_eq!(device.calls(), ["ProvidePayloadFileSizes", "Download"]);
    assert_eq!(device.name(), "unknown");
    device.module("test", ANSWERS);
    assert!(
        device.install(&artifact("test").bytes()).status.success(),
        "nothing is in the way of the next one"
    );
}
