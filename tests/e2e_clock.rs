//! Boards without a clock: certificates are judged by the newest of clock, build and last server time (ClockFloor).
//!
//! Debian's libfaketime sets the clock that the agent sees; the test server's certificates are made for other years.
#![allow(clippy::expect_used, clippy::panic)] // These are tests.

use std::path::{Path, PathBuf};
use thimble_testkit::{Act, DeviceOptions, Options, Ran, Rule, Scene, TempDir, What, make_certificates_from};

const THIMBLE: &str = env!("CARGO_BIN_EXE_thimble");

/// A server with certificates from this date on, for ten years, and a device that trusts them.
fn scene(dir: &TempDir, from: &str, config: &[(&str, &str)]) -> Scene {
    let certificates = make_certificates_from(dir.path(), from).expect("certificates");
    let mut all = vec![("ServerCertificate".to_owned(), format!("\"{}\"", certificates.ca.display()))];
    all.extend(config.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let server = Options { tls: Some(certificates.tls()), ..Options::default() };
    Scene::with("clock", THIMBLE, server, DeviceOptions { config: all, ..DeviceOptions::default() })
}

/// From now on the server says that it is this time.
fn says(scene: &Scene, date: &str) {
    scene.server.clear_rules();
    let headers = vec![("Date".to_owned(), date.to_owned())];
    let act = Act::Respond { status: 204, headers, body: Vec::new() };
    scene.server.rule(Rule { on: What::Next, skip: 0, times: usize::MAX, act });
}

/// A check while the device's clock says this.
fn check(scene: &Scene, clock: &str) -> Ran {
    let library = std::fs::read_dir("/usr/lib").expect("/usr/lib").flatten();
    let library =
        library.map(|entry| entry.path().join("faketime/libfaketime.so.1")).find(|path| path.exists());
    let library = library.expect("libfaketime.so.1 (Debian package faketime)");
    scene.run_with(&["--log-level", "debug", "check"], |command| {
        let time = [("FAKETIME", format!("@{clock}").as_str()), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")]
            .map(|(name, value)| (name, value.to_owned()));
        command.env("LD_PRELOAD", library).env("NO_FAKE_STAT", "1").envs(time);
    })
}

fn copies(scene: &Scene) -> [PathBuf; 2] {
    ["a", "b"].map(|copy| scene.device.root().join(format!("var/lib/mender/thimble-clock.{copy}")))
}

fn kept(path: &Path) -> String {
    let bytes = std::fs::read(path).expect("a record");
    String::from_utf8_lossy(&bytes[24..]).into_owned()
}

const START: &str = "1970-01-01 00:00:20";

#[test]
fn with_its_clock_at_1970_a_board_judges_by_the_time_of_the_build() {
    let dir = TempDir::new("build");
    let scene = scene(&dir, "2026-01-02", &[]);
    check(&scene, START).expect(0).complains("this clock says 1970-01-01").complains("judged by 20");
    assert_eq!(copies(&scene).map(|path| path.exists()), [false; 2], "nothing to keep");
}

#[test]
fn the_floor_can_be_switched_off_and_the_message_names_clock_floor_and_certificate() {
    let dir = TempDir::new("off");
    let scene = scene(&dir, "2026-01-02", &[("ClockFloor", "false")]);
    let ran = check(&scene, START);
    ran.expect(1)
        .complains("TLS-CLOCK")
        .complains("starts 2026-01-02")
        .complains("this clock says 1970-01-01");
    ran.complains("(ClockFloor is off)").complains("is the clock set (RTC, NTP)?");
    says(&scene, "Fri, 01 Feb 2030 00:00:00 GMT");
    check(&scene, "2030-02-01 00:00:00").expect(0);
    assert_eq!(copies(&scene).map(|path| path.exists()), [false; 2]);
}

#[test]
fn the_last_time_of_the_server_is_kept_for_the_next_start_and_written_once_a_day() {
    let dir = TempDir::new("kept");
    let scene = scene(&dir, "2030-01-01", &[]);
    let ran = check(&scene, START);
    ran.expect(1).complains("TLS-CLOCK").complains("starts 2030-01-01").complains("(ClockFloor is 202");
    says(&scene, "Fri, 01 Feb 2030 00:00:00 GMT");
    check(&scene, "2030-02-01 00:00:00").expect(0);
    let [first, second] = copies(&scene);
    assert_eq!(kept(&first), "1896134400");
    check(&scene, START).expect(0).complains("judged by 2030-02-01");
    says(&scene, "Fri, 01 Feb 2030 23:00:00 GMT");
    check(&scene, START).expect(0);
    assert!(!second.exists(), "written twice in a day");
    says(&scene, "Sat, 02 Feb 2030 01:00:00 GMT");
    check(&scene, START).expect(0);
    assert_eq!(kept(&second), "1896224400");
    // Never back.
    says(&scene, "Tue, 01 Jan 2030 01:00:00 GMT");
    check(&scene, START).expect(0).complains("judged by 2030-02-02");
}

#[test]
fn no_server_can_put_the_floor_behind_the_end_of_its_own_certificates() {
    let dir = TempDir::new("far");
    let scene = scene(&dir, "2030-01-01", &[]);
    for date in ["Fri, 01 Jan 2100 00:00:00 GMT", "Tue, 01 Jan 2041 00:00:00 GMT", "soon", ""] {
        says(&scene, date);
        check(&scene, "2030-02-01 00:00:00").expect(0);
        assert_eq!(copies(&scene).map(|path| path.exists()), [false; 2], "{date:?}");
    }
    check(&scene, START).expect(1).complains("TLS-CLOCK");
}

#[test]
fn who_is_not_verified_is_not_believed() {
    let dir = TempDir::new("skip");
    let skipping = scene(&dir, "2030-01-01", &[("SkipVerify", "true")]);
    says(&skipping, "Fri, 01 Feb 2030 00:00:00 GMT");
    check(&skipping, START).expect(0);
    let plain = Scene::new("plain", THIMBLE);
    says(&plain, "Fri, 01 Feb 2030 00:00:00 GMT");
    check(&plain, START).expect(0);
    for scene in [skipping, plain] {
        assert_eq!(copies(&scene).map(|path| path.exists()), [false; 2]);
    }
}

#[test]
fn a_floor_that_is_too_high_is_named_with_the_way_out() {
    let dir = TempDir::new("high");
    let scene = scene(&dir, "2026-01-02", &[]);
    let later = TempDir::new("later");
    let far = self::scene(&later, "2040-01-01", &[]);
    says(&far, "Wed, 01 Feb 2040 00:00:00 GMT");
    check(&far, "2040-02-01 00:00:00").expect(0);
    std::fs::create_dir_all(scene.device.root().join("var/lib/mender")).expect("the data store");
    std::fs::copy(&copies(&far)[0], &copies(&scene)[0]).expect("a floor from elsewhere");
    let ran = check(&scene, "2027-01-01 00:00:00");
    ran.expect(1).complains("TLS-EXPIRED").complains("this clock says 2027-01-01 (ClockFloor is 2040-02-01)");
    ran.complains("remove thimble-clock.a and .b");
    std::fs::remove_file(&copies(&scene)[0]).expect("as the message says");
    check(&scene, "2027-01-01 00:00:00").expect(0);
}
