//! The power is cut: at every state script, during the download. Whatever happens, the
//! device ends with the old system or the new one, whole, under its right name, and the server hears the truth once.
#![allow(clippy::expect_used, clippy::panic)] // These are tests.

use thimble_testkit::{Act, ID, Rule, Scene, What};

const THIMBLE: &str = env!("CARGO_BIN_EXE_thimble");

/// Where it ends: the rule is in update-process.md 4.2, "resume".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Old,
    New,
}

/// Panics unless the scene has ended like this. A cut between the final report and the end of the record repeats the
/// report; never is another one sent.
#[track_caller]
fn assert_end(scene: &mut Scene, end: End, code: Option<i32>, what: &str) {
    eprintln!("{what}: {end:?}");
    let mut finals = scene.finals();
    finals.dedup();
    match end {
        End::Old => {
            assert_eq!(finals, ["failure"], "{what}\n{}", scene.device.log());
            assert!(!scene.server.logs(ID).is_empty(), "{what}: no log of the deployment");
            scene.assert_old();
            assert_eq!(code.unwrap_or(5), 5, "{what}");
        }
        End::New => {
            assert_eq!(finals, ["success"], "{what}\n{}", scene.device.log());
            scene.assert_new();
            assert_eq!(code.unwrap_or(0), 0, "{what}");
        }
    }
}

#[test]
fn killed_in_a_script_of_a_good_update() {
    for (place, end) in [
        ("Download_Enter", End::Old),
        ("Download_Leave", End::Old),
        ("ArtifactInstall_Enter", End::Old),
        ("ArtifactInstall_Leave", End::Old),
        // The cut took the place of the restart.
        ("ArtifactReboot_Enter", End::New),
        ("ArtifactReboot_Leave", End::Old),
        ("ArtifactCommit_Enter", End::Old),
        ("ArtifactCommit_Leave", End::New),
    ] {
        let mut scene = Scene::new("killed", THIMBLE);
        let cut = scene.cut();
        let spec = scene.scripted(Scene::release(), &[(place, &cut)]);
        scene.offer(&spec);
        let ending = scene.update();
        let errors = scene.scripts_ran().iter().filter(|name| name.contains("_Error")).count();
        assert_eq!(errors, 0, "{place}: no Error scripts after a power cut: {:?}", scene.scripts_ran());
        assert_end(&mut scene, end, Some(ending.code), place);
    }
}

#[test]
fn killed_in_a_script_around_the_server_nothing_was_begun() {
    for place in ["Sync_Enter", "Sync_Leave"] {
        let mut scene = Scene::new("sync", THIMBLE);
        scene.rootfs_script(&format!("{place}_00"), &scene.cut());
        scene.offer(&Scene::release());
        let ending = scene.update();
        assert_end(&mut scene, End::New, Some(ending.code), place);
    }
}

#[test]
fn killed_in_a_script_on_the_way_back() {
    for place in [
        "ArtifactCommit_Error",
        "ArtifactRollback_Enter",
        "ArtifactRollback_Leave",
        "ArtifactRollbackReboot_Enter",
        "ArtifactRollbackReboot_Leave",
        "ArtifactFailure_Enter",
        "ArtifactFailure_Leave",
    ] {
        let mut scene = Scene::new("wayback", THIMBLE);
        let cut = scene.cut();
        let spec = scene.scripted(Scene::release(), &[("ArtifactCommit_Enter", "exit 1"), (place, &cut)]);
        scene.offer(&spec);
        let ending = scene.update();
        assert_end(&mut scene, End::Old, Some(ending.code), place);
        assert_eq!(
            scene.scripts_ran().last().map(String::as_str),
            Some("ArtifactFailure_Leave_00"),
            "{place}"
        );
    }
}

#[test]
fn killed_in_the_error_scripts_of_the_other_steps() {
    for (failing, place) in [
        ("Download_Leave", "Download_Error"),
        ("ArtifactInstall_Leave", "ArtifactInstall_Error"),
        ("ArtifactReboot_Enter", "ArtifactReboot_Error"),
        ("ArtifactReboot_Leave", "ArtifactReboot_Error"),
    ] {
        let mut scene = Scene::new("errors", THIMBLE);
        let cut = scene.cut();
        let spec = scene.scripted(Scene::release(), &[(failing, "exit 1"), (place, &cut)]);
        scene.offer(&spec);
        let ending = scene.update();
        // Half-way to the restart the cut is taken for the restart; the failing script then fails nothing any more.
        let end = if failing == "ArtifactReboot_Enter" { End::New } else { End::Old };
        assert_end(&mut scene, end, Some(ending.code), &format!("{failing} {place}"));
    }
}

#[test]
fn killed_at_any_byte_of_the_download_the_old_system_stays_and_the_next_deployment_works() {
    let size = {
        let scene = Scene::new("size", THIMBLE);
        std::fs::metadata(scene.artifact(&Scene::release())).expect("its size").len()
    };
    for bytes in [0, 1, 600, 1500, 3000, size / 2, size - 600, size - 1] {
        let mut scene = Scene::new("download", THIMBLE);
        let spec = scene.scripted(Scene::release(), &[]);
        scene.offer(&spec);
        scene.server.rule(Rule { on: What::Artifact, skip: 0, times: 1, act: Act::HangAfter { bytes } });
        let mut daemon = scene.daemon();
        scene.wait_until(|server| {
            server.requests_of(What::Artifact).last().is_some_and(|get| get.sent >= bytes)
        });
        daemon.signal(9);
        assert_eq!(daemon.wait(), None);
        scene.device.boot();
        let ending = scene.update();
        assert!(!scene.scripts_ran().iter().any(|name| name.starts_with("Artifact")), "{bytes}");
        assert_end(&mut scene, End::Old, Some(ending.code), &format!("after {bytes} bytes"));
        let id = "00000000-0000-4000-8000-000000000002";
        scene.offer_file(id, &scene.artifact(&Scene::release()), "release-2");
        assert_eq!(scene.update().code, 0);
        assert_eq!(scene.server.statuses(id).last().map(String::as_str), Some("success"));
        scene.assert_new();
    }
}

#[test]
fn sigterm_in_the_middle_is_no_worse_than_a_power_cut() {
    let mut scene = Scene::new("sigterm", THIMBLE);
    scene.offer(&Scene::release());
    scene.server.rule(Rule { on: What::Artifact, skip: 0, times: 1, act: Act::HangAfter { bytes: 2000 } });
    let mut daemon = scene.daemon();
    scene.wait_until(|server| server.requests_of(What::Artifact).last().is_some_and(|get| get.sent >= 2000));
    assert_eq!(daemon.stop(), Some(0), "{}", scene.daemon_log());
    let ending = scene.update();
    assert_end(&mut scene, End::Old, Some(ending.code), "SIGTERM during the download");
}

#[test]
fn killed_at_the_same_script_again_and_again_the_loop_guard_ends_it() {
    for (place, boots) in [("ArtifactFailure_Enter", 40), ("ArtifactRollback_Enter", 40)] {
        let mut scene = Scene::new("forever", THIMBLE);
        let kill = "kill -9 \"$(cat \"$device/agent.pid\")\"; sleep 600";
        let spec = scene.scripted(Scene::release(), &[("ArtifactInstall_Leave", "exit 1"), (place, kill)]);
        scene.offer(&spec);
        let ending = scene.device.run_to_end(THIMBLE.as_ref(), boots);
        assert_eq!(ending.code, 5, "{place}\n{}", ending.output);
        scene.assert_failure_reported();
        assert!(scene.device.running_slot() == 2, "the boot loader went back by itself");
        assert_eq!(scene.artifact_name(), "release-2_INCONSISTENT", "{place}");
        assert!(ending.boots > 10, "{place}: {} boots", ending.boots);
        // The next update is not held up by it.
        let id = "00000000-0000-4000-8000-000000000002";
        scene.offer_file(id, &scene.artifact(&Scene::release()), "release-2");
        assert_eq!(scene.update().code, 0, "{place}");
        scene.assert_new();
    }
}
