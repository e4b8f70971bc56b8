//! `install`, `commit`, `rollback`, `resume`: texts and exit codes that scripts rely on, and what they leave behind.
#![allow(clippy::expect_used, clippy::panic)] // These are tests.

use std::fs::{self, File};
use thimble_testkit::{Act, Content, ID, Rule, Scene, What};

const THIMBLE: &str = env!("CARGO_BIN_EXE_thimble");

const WAITING: &str = "Installing artifact...\nInstalled, but not committed.\n\
                       Use 'commit' to update, or 'rollback' to roll back the update. \
                       At least one payload requested a reboot of the device it updated.\n";

/// A scene, and the usual Artifact in a file, with noting scripts.
fn scene(special: &[(&str, &str)]) -> (Scene, String) {
    let scene = Scene::new("standalone", THIMBLE);
    let spec = scene.scripted(Scene::release(), special);
    let artifact = scene.artifact(&spec).display().to_string();
    (scene, artifact)
}

#[track_caller]
fn assert_ran(scene: &Scene, names: &[&str]) {
    let ran = scene.scripts_ran();
    let ran: Vec<_> = ran.iter().map(|name| name.trim_end_matches("_00")).collect();
    assert_eq!(ran, names);
}

const INSTALL: [&str; 4] =
    ["Download_Enter", "Download_Leave", "ArtifactInstall_Enter", "ArtifactInstall_Leave"];
const BACK: [&str; 4] =
    ["ArtifactRollback_Enter", "ArtifactRollback_Leave", "ArtifactFailure_Enter", "ArtifactFailure_Leave"];

#[test]
fn install_reboot_commit() {
    let (mut scene, artifact) = scene(&[]);
    scene.run(&["install", &artifact]).expect(0).says(WAITING);
    assert_eq!(scene.artifact_name(), "release-1", "not committed yet");
    assert_eq!(scene.device.running_slot(), 2, "nothing restarts the machine under a person's hands");
    assert_eq!(scene.device.reboots_asked(), 0);
    assert_ran(&scene, &INSTALL);
    scene.device.boot();
    assert_eq!(scene.device.running_slot(), 3);
    scene.run(&["commit"]).expect(0).says("Committed.\n");
    assert_ran(&scene, &[&INSTALL[..], &["ArtifactCommit_Enter", "ArtifactCommit_Leave"]].concat());
    assert_eq!(scene.server.requests().len(), 0, "the server has no part in it");
    scene.assert_new();
    scene.run(&["commit"]).expect(2).says("No update in progress.\n");
    scene.run(&["rollback"]).expect(2).says("No update in progress.\n");
    scene.run(&["resume"]).expect(2).says("No update in progress.\n");
}

#[test]
fn install_reboot_rollback() {
    let (mut scene, artifact) = scene(&[]);
    scene.run(&["install", &artifact]).expect(0);
    scene.device.boot();
    scene.run(&["rollback"]).expect(0).says("Rolled back.\n");
    assert_ran(&scene, &[&INSTALL[..], &BACK[..]].concat());
    scene.device.boot();
    scene.assert_old();
}

#[test]
fn rollback_without_a_reboot_in_between() {
    let (mut scene, artifact) = scene(&[]);
    scene.run(&["install", &artifact]).expect(0);
    scene.run(&["rollback"]).expect(0).says("Rolled back.\n");
    scene.device.boot();
    scene.assert_old();
}

#[test]
fn reboot_exit_code_tells_that_a_restart_is_due() {
    let (mut scene, artifact) = scene(&[]);
    scene.run(&["install", "--reboot-exit-code", &artifact]).expect(4).says(WAITING);
    scene.device.boot();
    scene.run(&["resume", "--reboot-exit-code"]).expect(0).says("Committed.\n");
    scene.assert_new();
}

#[test]
fn a_commit_in_the_old_system_is_refused_and_the_update_taken_back() {
    let (mut scene, artifact) = scene(&[]);
    scene.run(&["install", &artifact]).expect(0);
    // Not rebooted: the running system is not the one that would be committed.
    let ran = scene.run(&["commit"]);
    ran.expect(1).says("Committing failed. Rolled back.\n");
    scene.device.boot();
    scene.assert_old();
}

#[test]
fn a_commit_after_the_boot_loader_fell_back_fails_and_says_so() {
    let (mut scene, artifact) = scene(&[]);
    scene.run(&["install", &artifact]).expect(0);
    scene.device.break_slot(3);
    scene.device.boot();
    assert_eq!(scene.device.running_slot(), 2);
    let ran = scene.run(&["commit"]);
    ran.expect(1).says("Committing failed. Rolled back.\n").complains("ROOTFS-FELL-BACK");
    scene.assert_old();
}

#[test]
fn an_artifact_comes_from_a_url_with_all_that_can_happen_on_the_way() {
    let (mut scene, _) = scene(&[]);
    scene.offer(&Scene::release());
    let url = format!("{}/artifact/{ID}?X-Signature=a%2Fb%2bc%20d&expires=9&x=~", scene.server.url());
    scene.server.rule(Rule { on: What::Artifact, skip: 0, times: 2, act: Act::DropAfter { bytes: 1500 } });
    scene.run(&["install", &url]).expect(0).says(WAITING);
    assert_eq!(scene.server.requests_of(What::Artifact).len(), 3);
    scene.device.boot();
    scene.run(&["commit"]).expect(0);
    scene.assert_new();
    let nowhere = scene.run(&["install", &url.replace(ID, "no-such-artifact")]);
    nowhere.expect(1).says("Streaming failed. System not modified.\n").complains("404");
}

#[test]
fn an_artifact_comes_from_standard_input() {
    let (mut scene, artifact) = scene(&[]);
    let ran = scene.run_with(&["install", "-"], |command| {
        command.stdin(File::open(&artifact).expect("the Artifact"));
    });
    ran.expect(0).says(WAITING);
    scene.device.boot();
    scene.run(&["commit"]).expect(0);
    scene.assert_new();
    // Nothing on standard input.
    scene.run(&["install", "-"]).expect(1).says("Streaming failed. System not modified.\n");
}

#[test]
fn what_cannot_be_read_is_named_and_changes_nothing() {
    let (mut scene, _) = scene(&[]);
    let empty = scene.path().join("empty.mender");
    fs::write(&empty, "").expect("write it");
    let text = scene.path().join("text.mender");
    fs::write(&text, "not an Artifact\n".repeat(100)).expect("write it");
    let slots = [scene.device.slot_bytes(2), scene.device.slot_bytes(3)];
    for (source, named) in [
        ("/no/such/file.mender", "/no/such/file.mender"),
        ("/tmp", "/tmp"),
        (empty.to_str().expect("UTF-8"), "ARTIFACT"),
        (text.to_str().expect("UTF-8"), "ARTIFACT"),
        ("http://127.0.0.1:1/x", "127.0.0.1:1"),
    ] {
        let ran = scene.run(&["install", source]);
        ran.expect(1).says("Streaming failed. System not modified.\n").complains(named);
    }
    assert_ran(&scene, &[]);
    assert_eq!([scene.device.slot_bytes(2), scene.device.slot_bytes(3)], slots);
    scene.assert_old();
}

#[test]
fn a_second_install_is_refused_and_the_first_stays_committable() {
    let (mut scene, artifact) = scene(&[]);
    scene.run(&["install", &artifact]).expect(0);
    let second = scene.run(&["install", &artifact]);
    second.expect(1).says("System not modified.\n");
    second.complains("Update already in progress. Please commit or roll back first");
    // Nor does a deployment begin.
    scene.offer(&Scene::release());
    scene.run(&["check"]).expect(0).complains("thimble commit");
    assert_eq!(scene.server.statuses(ID), Vec::<String>::new());
    scene.device.boot();
    scene.run(&["commit"]).expect(0);
    scene.assert_new();
}

#[test]
fn a_deployment_of_the_server_is_not_for_these_commands() {
    let (mut scene, artifact) = scene(&[]);
    let spec = scene.scripted(Scene::release(), &[("ArtifactInstall_Enter", "exit 21")]);
    scene.offer(&spec);
    // A thousandth of a minute is too long for no wait at all.
    scene.run(&["check", "--max-wait", "0"]).expect(6);
    scene.run(&["commit"]).expect(2).complains(ID);
    scene.run(&["rollback"]).expect(2).complains(ID);
    scene.run(&["resume"]).expect(2).complains(ID);
    scene.run(&["install", &artifact]).expect(1).complains(ID);
    scene.device.boot();
    assert_eq!(scene.update().code, 5);
    scene.assert_old();
}

#[test]
fn failing_scripts_and_what_is_said_of_them() {
    for (place, says, back) in [
        ("Download_Enter", "Installing artifact...\nStreaming failed. System not modified.\n", false),
        ("Download_Leave", "Installing artifact...\nStreaming failed. System not modified.\n", false),
        ("ArtifactInstall_Enter", "Installing artifact...\nInstallation failed. Rolled back.\n", true),
        ("ArtifactInstall_Leave", "Installing artifact...\nInstallation failed. Rolled back.\n", true),
    ] {
        let (mut scene, artifact) = scene(&[(place, "exit 1")]);
        scene.run(&["install", &artifact]).expect(1).says(says);
        let ran = scene.scripts_ran();
        assert_eq!(ran.iter().any(|name| name.starts_with("ArtifactRollback_")), back, "{place}: {ran:?}");
        scene.device.boot();
        scene.assert_old();
    }
    let (mut scene, artifact) = scene(&[("ArtifactCommit_Enter", "exit 1")]);
    scene.run(&["install", &artifact]).expect(0);
    scene.device.boot();
    scene.run(&["commit"]).expect(1).says("Committing failed. Rolled back.\n");
    scene.device.boot();
    scene.assert_old();
}

#[test]
fn a_failing_script_after_the_commit_is_told_and_the_new_system_stays() {
    let (mut scene, artifact) = scene(&[("ArtifactCommit_Leave", "exit 1")]);
    scene.run(&["install", &artifact]).expect(0);
    scene.device.boot();
    scene.run(&["commit"]).expect(1).says("Committed. One or more post-commit steps failed.\n");
    scene.assert_settled(3);
    assert_eq!(scene.artifact_name(), "release-2_INCONSISTENT");
}

#[test]
fn a_failing_rollback_script_is_told_and_marks_the_name() {
    let (mut scene, artifact) =
        scene(&[("ArtifactInstall_Leave", "exit 1"), ("ArtifactRollback_Enter", "exit 1")]);
    let says = "Installing artifact...\nInstallation failed. Rollback failed. System may be in an inconsistent state.\n";
    scene.run(&["install", &artifact]).expect(1).says(says);
    scene.device.boot();
    scene.assert_settled(2);
    assert_eq!(scene.artifact_name(), "release-2_INCONSISTENT");
}

#[test]
fn an_update_that_is_stopped_at_each_place_goes_on_from_there() {
    let (mut scene, artifact) = scene(&[]);
    let stop = |place: &'static str| ["--stop-before", place];
    let args = [
        &["install"],
        &stop("ArtifactInstall_Enter")[..],
        &["--stop-before=ArtifactCommit_Leave", &artifact],
    ];
    let ran = scene.run(&args.concat());
    ran.expect(0).says("Installing artifact...\nStreamed to storage, but not installed/enabled.\n");
    assert_eq!(scene.device.env()["upgrade_available"], "0");
    scene.run(&["commit"]).expect(1).complains("WRONG-STATE");
    // The same again changes nothing.
    let args = [&["resume"], &stop("ArtifactInstall_Enter")[..]].concat();
    scene.run(&args).expect(0).says("Streamed to storage, but not installed/enabled.\n");
    scene.run(&[&["resume"], &stop("ArtifactCommit_Enter")[..]].concat()).expect(0);
    assert_eq!(scene.device.env()["upgrade_available"], "1");
    scene.device.boot();
    assert_eq!(scene.device.running_slot(), 3);
    let args = [&["commit"], &stop("ArtifactCommit_Leave")[..]].concat();
    scene.run(&args).expect(0);
    assert_eq!(scene.device.env()["upgrade_available"], "0");
    assert_eq!(scene.artifact_name(), "release-1");
    let args = [&["resume"], &stop("Cleanup")[..]].concat();
    scene.run(&args).expect(0);
    scene.run(&["resume"]).expect(0).says("Cleaned up.\n");
    assert_ran(&scene, &[&INSTALL[..], &["ArtifactCommit_Enter", "ArtifactCommit_Leave"]].concat());
    scene.assert_new();
}

#[test]
fn a_rollback_after_the_commit_works_while_it_is_stopped_before_the_last_scripts() {
    let (mut scene, artifact) = scene(&[]);
    scene.run(&["install", &artifact]).expect(0);
    scene.device.boot();
    scene.run(&["commit", "--stop-before", "ArtifactCommit_Leave"]).expect(0);
    scene.run(&["rollback"]).expect(0).says("Rolled back.\n");
    scene.device.boot();
    scene.assert_old();
}

#[test]
fn an_unknown_place_to_stop_at_is_refused_before_anything_happens() {
    let (mut scene, artifact) = scene(&[]);
    scene.run(&["install", "--stop-before", "Bogus", &artifact]).expect(1).complains("Bogus");
    assert_ran(&scene, &[]);
    scene.assert_old();
}

#[test]
fn what_is_interrupted_is_taken_back_or_finished_by_resume() {
    for (place, commands, code, says, new) in [
        ("Download_Leave", ["install", "resume"], 2, "No update in progress.\n", false),
        ("ArtifactInstall_Enter", ["install", "resume"], 0, "Rolled back.\n", false),
        ("ArtifactInstall_Leave", ["install", "rollback"], 0, "Rolled back.\n", false),
        ("ArtifactInstall_Leave", ["install", "commit"], 1, "", false),
        ("ArtifactCommit_Enter", ["commit", "resume"], 0, "Rolled back.\n", false),
        ("ArtifactCommit_Enter", ["commit", "commit"], 1, "Rolled back.\n", false),
        ("ArtifactCommit_Leave", ["commit", "resume"], 0, "Committed.\n", true),
    ] {
        let (mut scene, artifact) = {
            let scene = Scene::new("interrupted", THIMBLE);
            let cut = scene.cut();
            let spec = scene.scripted(Scene::release(), &[(place, &cut)]);
            let artifact = scene.artifact(&spec).display().to_string();
            (scene, artifact)
        };
        let install = scene.run(&["install", &artifact]);
        if commands[0] == "commit" {
            install.expect(0);
            scene.device.boot();
            assert_eq!(scene.run(&["commit"]).code, None, "{place}");
        } else {
            assert_eq!(install.code, None, "{place}");
        }
        scene.device.power_off();
        let ran = scene.run(&[commands[1]]);
        assert_eq!((ran.code, &*ran.stdout), (Some(code), says), "{place} {commands:?}: {ran:#?}");
        if commands == ["install", "commit"] {
            ran.complains("WRONG-STATE");
            scene.run(&["resume"]).expect(0);
        }
        scene.device.boot();
        if new {
            scene.assert_new();
        } else {
            scene.assert_old();
        }
    }
}

#[test]
fn an_empty_payload_is_committed_at_once() {
    let mut scene = Scene::new("empty", THIMBLE);
    let artifact = scene.artifact(&thimble_testkit::ArtifactSpec::empty("release-1b")).display().to_string();
    let ran = scene.run(&["install", &artifact]);
    ran.expect(0).says("Artifact with empty payload. Committing immediately.\nInstalled and committed.\n");
    scene.assert_settled(2);
    assert_eq!(scene.artifact_name(), "release-1b");
}

#[test]
fn an_artifact_that_does_not_fit_is_refused_before_any_script_runs() {
    let (mut scene, _) = scene(&[]);
    let other = scene.scripted(Scene::release().device_types(&["other-board"]), &[]);
    let artifact = scene.artifact(&other).display().to_string();
    scene.run(&["install", &artifact]).expect(1).says("Streaming failed. System not modified.\n");
    assert_ran(&scene, &[]);
    let large = thimble_testkit::ArtifactSpec::rootfs("large", Content::Pattern { size: 2 << 20, seed: 1 });
    let artifact = scene.artifact(&large).display().to_string();
    let ran = scene.run(&["install", &artifact]);
    ran.expect(1)
        .says("Installing artifact...\nStreaming failed. System not modified.\n")
        .complains("ROOTFS-SIZE");
    scene.assert_old();
}
