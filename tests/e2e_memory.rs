//! Memory: an update of a gibibyte takes no more of it than one of 64 MiB, and that is little.
//!
//! Measured by a state script that copies /proc/PID/status of the agent, so after the download and before the reboot.
//! `THIMBLE_BIN` names another program to measure, e.g. the release build.
#![allow(clippy::expect_used, clippy::panic)] // These are tests.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use thimble_testkit::{ArtifactSpec, Content, DeviceOptions, Options, Scene};

const THIMBLE: &str = env!("CARGO_BIN_EXE_thimble");
const MOST_KIB: u64 = 6 * 1024;
const MOST_DIFFERENCE_KIB: u64 = 512;

/// Installs an image of this size; returns the agent's peak memory in KiB.
fn peak(size: u64) -> u64 {
    let thimble = std::env::var("THIMBLE_BIN").unwrap_or_else(|_| THIMBLE.to_owned());
    let options = DeviceOptions {
        slot_size: size,
        time_limit: std::time::Duration::from_secs(300),
        ..DeviceOptions::default()
    };
    let mut scene = Scene::with("memory", &thimble, Options::default(), options);
    // Mostly a hole, as file systems are; something in each MiB.
    let image = scene.path().join("image");
    let mut file = fs::File::create(&image).expect("make the image");
    for place in (0..size).step_by(1 << 20) {
        file.seek(SeekFrom::Start(place)).expect("seek");
        file.write_all(format!("this is at {place}").as_bytes()).expect("write");
    }
    file.set_len(size).expect("its size");
    let status = scene.path().join("status");
    let body = format!("cat /proc/$PPID/status > '{}'", status.display());
    let name = "ArtifactInstall_Leave_00";
    let image = Content::File(image);
    let spec = ArtifactSpec::rootfs("release-2", image.clone()).script(name, &scene.script(name, &body));
    scene.offer(&spec);
    let ending = scene.update();
    assert_eq!(ending.code, 0, "{}", ending.output);
    assert!(scene.device.slot_holds(3, &image));
    let status = fs::read_to_string(status).expect("the script ran");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn peak_memory_is_small_and_does_not_depend_on_the_size() {
    let (small, large) = (peak(64 << 20), peak(1 << 30));
    eprintln!("64 MiB: {small} KiB, 1 GiB: {large} KiB");
    // An unoptimised program has more and larger code; what it allocates is the same.
    assert!(large.abs_diff(small) < MOST_DIFFERENCE_KIB, "64 MiB: {small} KiB, 1 GiB: {large} KiB");
    let most = if std::env::var_os("THIMBLE_BIN").is_some() || !cfg!(debug_assertions) {
        MOST_KIB
    } else {
        3 * MOST_KIB
    };
    assert!(large <= most && small <= most, "64 MiB: {small} KiB, 1 GiB: {large} KiB");
}
