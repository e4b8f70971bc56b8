//! Whole updates of an A/B device by the real program: what the user sees when all goes well, and at every step that
//! can go wrong.
#![allow(clippy::expect_used, clippy::panic)] // These are tests.

use thimble_testkit::{ArtifactSpec, Content, ID, Scene, What};

const THIMBLE: &str = env!("CARGO_BIN_EXE_thimble");
const ALL_WELL: [&str; 5] = ["downloading", "installing", "rebooting", "installing", "success"];
const BACK: [&str; 5] = ["downloading", "installing", "rebooting", "installing", "failure"];

#[test]
fn check_brings_the_new_system_and_keeps_it() {
    let mut scene = Scene::new("update", THIMBLE);
    let spec = scene.scripted(Scene::release(), &[]);
    scene.offer(&spec);
    let ending = scene.update();
    assert_eq!((ending.code, ending.boots), (0, 1), "{}", ending.output);
    assert_eq!(scene.statuses(), ALL_WELL);
    assert_eq!(
        scene.scripts_ran(),
        [
            "Download_Enter_00",
            "Download_Leave_00",
            "ArtifactInstall_Enter_00",
            "ArtifactInstall_Leave_00",
            "ArtifactReboot_Enter_00",
            "ArtifactReboot_Leave_00",
            "ArtifactCommit_Enter_00",
            "ArtifactCommit_Leave_00",
        ]
    );
    assert_eq!(scene.server.requests_of(What::Artifact).len(), 1);
    assert_eq!(
        scene.server.inventory()["artifact_name"],
        "release-2",
        "the inventory is sent after an update"
    );
    scene.assert_success_reported();
    let provides = scene.provides();
    assert!(provides.contains("rootfs-image.version=release-2\n"), "{provides}");
    scene.assert_new();
    // The server has nothing more: the next check changes nothing.
    scene.run(&["check"]).expect(0);
    scene.assert_new();
}

#[test]
fn two_updates_in_a_row_go_back_and_forth_between_the_slots() {
    let mut scene = Scene::new("twice", THIMBLE);
    scene.offer(&Scene::release());
    scene.update();
    scene.assert_new();
    let image = Content::Pattern { size: 1 << 20, seed: 3 };
    let third = scene.artifact(&ArtifactSpec::rootfs("release-3", image.clone()));
    let id = "00000000-0000-4000-8000-000000000003";
    scene.offer_file(id, &third, "release-3");
    assert_eq!(scene.update().code, 0);
    scene.assert_settled(2);
    assert!(scene.device.slot_holds(2, &image) && scene.device.slot_holds(3, &Scene::image()));
    assert_eq!(scene.artifact_name(), "release-3");
}

#[test]
fn the_daemon_does_the_same_and_ends_at_sigterm() {
    let mut scene = Scene::new("daemon", THIMBLE);
    scene.offer(&Scene::release());
    let mut first = scene.daemon();
    assert_eq!(first.wait(), None, "the reboot kills it\n{}", scene.daemon_log());
    scene.device.boot();
    let mut second = scene.daemon();
    scene.wait_until(|server| server.statuses(ID).last().is_some_and(|last| last == "success"));
    // It goes on asking.
    let asked = scene.server.requests_of(What::Next).len();
    scene.wait_until(|server| server.requests_of(What::Next).len() > asked + 2);
    assert_eq!(second.stop(), Some(0), "{}", scene.daemon_log());
    assert_eq!(scene.statuses(), ALL_WELL);
    scene.assert_new();
}

#[test]
fn an_artifact_without_payload_changes_only_the_name() {
    let mut scene = Scene::new("empty", THIMBLE);
    scene.offer(&ArtifactSpec::empty("release-1-renamed"));
    let ending = scene.update();
    assert_eq!((ending.code, ending.boots), (0, 0), "{}", ending.output);
    assert_eq!(scene.statuses(), ["downloading", "success"]);
    scene.assert_settled(2);
    assert_eq!(scene.artifact_name(), "release-1-renamed");
}

/// A script that fails: its place; boots until the end; statuses; scripts from the failing one on.
struct Failing {
    place: &'static str,
    boots: usize,
    statuses: &'static [&'static str],
    then: &'static [&'static str],
}

const INSTALL_BACK: &[&str] = &["downloading", "installing", "failure"];
const REBOOT_BACK: &[&str] = &["downloading", "installing", "rebooting", "failure"];
/// What runs on the way back of every update that wanted a reboot.
const WAY_BACK: &[&str] = &[
    "ArtifactRollback_Enter",
    "ArtifactRollback_Leave",
    "ArtifactRollbackReboot_Enter",
    "ArtifactRollbackReboot_Leave",
    "ArtifactFailure_Enter",
    "ArtifactFailure_Leave",
];

/// Every script before the commit: the update fails, the old system runs, the server knows why.
#[test]
fn a_failing_script_before_the_commit_brings_the_old_system_back() {
    let table = [
        Failing {
            place: "Download_Enter",
            boots: 0,
            statuses: &["downloading", "failure"],
            then: &["Download_Error"],
        },
        Failing {
            place: "Download_Leave",
            boots: 0,
            statuses: &["downloading", "failure"],
            then: &["Download_Error"],
        },
        Failing {
            place: "ArtifactInstall_Enter",
            boots: 1,
            statuses: INSTALL_BACK,
            then: &["ArtifactInstall_Error", ""],
        },
        Failing {
            place: "ArtifactInstall_Leave",
            boots: 1,
            statuses: INSTALL_BACK,
            then: &["ArtifactInstall_Error", ""],
        },
        Failing {
            place: "ArtifactReboot_Enter",
            boots: 1,
            statuses: REBOOT_BACK,
            then: &["ArtifactReboot_Error", ""],
        },
        Failing {
            place: "ArtifactReboot_Leave",
            boots: 2,
            statuses: REBOOT_BACK,
            then: &["ArtifactReboot_Error", ""],
        },
        Failing {
            place: "ArtifactCommit_Enter",
            boots: 2,
            statuses: &BACK,
            then: &["ArtifactCommit_Error", ""],
        },
    ];
    for Failing { place, boots, statuses, then } in table {
        let mut scene = Scene::new("failing", THIMBLE);
        let spec = scene.scripted(Scene::release(), &[(place, "echo 'what broke' >&2; exit 1")]);
        scene.offer(&spec);
        let ending = scene.update();
        assert_eq!((ending.code, ending.boots), (5, boots), "{place}\n{}", ending.output);
        assert_eq!(scene.statuses(), statuses, "{place}");
        let mut wanted: Vec<&str> = then.iter().copied().filter(|name| !name.is_empty()).collect();
        if then.contains(&"") {
            wanted.extend(WAY_BACK);
        }
        let ran = scene.scripts_ran();
        let after = ran.iter().skip_while(|name| !name.starts_with(place)).skip(1);
        let after: Vec<_> = after.map(|name| name.trim_end_matches("_00")).collect();
        assert_eq!(after, wanted, "{place}");
        let log = scene.assert_failure_reported();
        assert!(log.iter().any(|line| line.contains("what broke")), "{place}: {log:#?}");
        assert!(
            log.iter().any(|line| line.contains(&format!("{place}_00 failed: exit status 1"))),
            "{log:#?}"
        );
        scene.assert_old();
    }
}

#[test]
fn a_failing_script_after_the_commit_leaves_the_new_system_and_marks_it() {
    let mut scene = Scene::new("leave", THIMBLE);
    let spec = scene.scripted(Scene::release(), &[("ArtifactCommit_Leave", "exit 1")]);
    scene.offer(&spec);
    let ending = scene.update();
    assert_eq!((ending.code, ending.boots), (5, 1), "{}", ending.output);
    assert_eq!(scene.statuses(), BACK);
    assert_eq!(scene.scripts_ran().last().map(String::as_str), Some("ArtifactCommit_Error_00"));
    scene.assert_failure_reported();
    scene.assert_settled(3);
    assert!(scene.device.slot_holds(3, &Scene::image()));
    assert_eq!(scene.artifact_name(), "release-2_INCONSISTENT");
    assert!(scene.provides().contains("rootfs-image.version=release-2\n"), "the running system's own");
}

#[test]
fn a_failing_script_on_the_way_back_marks_the_result_and_stops_nothing() {
    for place in ["ArtifactRollback_Enter", "ArtifactRollback_Leave", "ArtifactFailure_Leave"] {
        let mut scene = Scene::new("wayback", THIMBLE);
        let broken = [("ArtifactCommit_Enter", "exit 1"), (place, "exit 1")];
        let spec = scene.scripted(Scene::release(), &broken);
        scene.offer(&spec);
        let ending = scene.update();
        assert_eq!((ending.code, ending.boots), (5, 2), "{place}\n{}", ending.output);
        assert_eq!(scene.scripts_ran().iter().filter(|name| name.starts_with("ArtifactFailure")).count(), 2);
        scene.assert_failure_reported();
        scene.assert_settled(2);
        assert_eq!(scene.artifact_name(), "release-2_INCONSISTENT", "{place}");
    }
}

#[test]
fn a_new_system_that_does_not_start_is_left_by_the_boot_loader_and_reported() {
    let mut scene = Scene::new("fallback", THIMBLE);
    scene.offer(&Scene::release());
    scene.device.break_slot(3);
    let ending = scene.update();
    assert_eq!(ending.code, 5, "{}", ending.output);
    assert_eq!(scene.statuses(), REBOOT_BACK);
    let log = scene.assert_failure_reported();
    assert!(log.iter().any(|line| line.contains("ROOTFS-FELL-BACK")), "{log:#?}");
    scene.assert_old();
}

#[test]
fn a_new_system_that_loses_power_before_the_commit_is_left_and_reported() {
    let mut scene = Scene::new("lost", THIMBLE);
    scene.offer(&Scene::release());
    assert_eq!(scene.device.run(scene.thimble(), &["check"]), None);
    scene.device.boot();
    assert_eq!(scene.device.running_slot(), 3);
    // Power goes before the agent runs.
    scene.device.boot();
    assert_eq!(scene.device.running_slot(), 2);
    assert_eq!(scene.update().code, 5);
    scene.assert_failure_reported();
    scene.assert_old();
}

#[test]
fn a_reboot_command_that_fails_is_a_failure_and_brings_nothing_down() {
    let mut scene = Scene::new("noreboot", THIMBLE);
    scene.offer(&Scene::release());
    let marker = scene.path().join("failed-once");
    let real = std::fs::read_to_string(scene.device.dir().join("bin/reboot")).expect("the device's reboot");
    let script = real.replacen(
        "#!/bin/sh\n",
        &format!(
            "#!/bin/sh\nif [ ! -e '{m}' ]; then touch '{m}'; echo 'init is gone' >&2; exit 1; fi\n",
            m = marker.display()
        ),
        1,
    );
    std::fs::write(scene.device.dir().join("bin/reboot"), script).expect("replace reboot");
    let ending = scene.update();
    assert_eq!((ending.code, ending.boots), (5, 1), "{}", ending.output);
    let log = scene.assert_failure_reported();
    assert!(log.iter().any(|line| line.contains("init is gone")), "{log:#?}");
    scene.assert_old();
}

#[test]
fn a_check_asks_once_however_long_that_takes() {
    // With this scale the intervals are over in a few milliseconds, long before an errand is done.
    for broken in [false, true] {
        let scene = Scene::new("once", THIMBLE);
        scene.rootfs_script("Sync_Leave_00", if broken { "exit 1" } else { "" });
        scene.run(&["check"]).expect(i32::from(broken));
        let count = |what| scene.server.requests_of(what).len();
        assert_eq!((count(What::Inventory), count(What::Next)), (1, 1));
    }
}
