//! State scripts: which run, when, how long, and what becomes of their output.
#![allow(clippy::expect_used, clippy::panic)] // These are tests.

use std::fs;
use thimble_testkit::{DeviceOptions, ID, Options, Scene, What};

const THIMBLE: &str = env!("CARGO_BIN_EXE_thimble");

/// A script that asks to be run again until it was run so often.
fn later(scene: &Scene, runs: usize) -> String {
    let count = scene.path().join("count");
    let count = count.display();
    format!("echo x >> '{count}'; [ $(wc -l < '{count}') -ge {runs} ] || exit 21")
}

/// No scaled time: waits are as configured.
fn unscaled(config: &[(&str, &str)]) -> DeviceOptions {
    let config = config.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    let agent_env = vec![("THIMBLE_TIME_SCALE".to_owned(), "1".to_owned())];
    DeviceOptions { config, agent_env, ..DeviceOptions::default() }
}

fn count(scene: &Scene) -> usize {
    fs::read_to_string(scene.path().join("count")).unwrap_or_default().lines().count()
}

#[test]
fn scripts_run_in_the_order_of_their_names_and_strangers_are_skipped_with_a_warning() {
    let mut scene = Scene::new("order", THIMBLE);
    for name in ["Sync_Enter_09", "Sync_Enter_08_testing", "Sync_Enter_08", "Sync_Enter_100", "Sync_Enter_1"]
    {
        scene.rootfs_script(name, "");
    }
    scene.device.write("etc/mender/scripts/Sync_Enter_07_not_executable", "#!/bin/sh\nexit 1\n");
    fs::create_dir(scene.device.root().join("etc/mender/scripts/Sync_Enter_06_directory")).expect("make it");
    // Artifact scripts count only in the Artifact's own place, and the other way round.
    scene.rootfs_script("ArtifactInstall_Enter_00", "exit 1");
    let mut spec = Scene::release();
    for name in ["ArtifactInstall_Enter_10", "ArtifactInstall_Enter_02_b", "ArtifactInstall_Leave_05_Enter"] {
        spec = spec.script(name, &scene.script(name, ""));
    }
    scene.offer(&spec);
    let ending = scene.update();
    assert_eq!(ending.code, 0, "{}", ending.output);
    let ran = scene.scripts_ran();
    assert_eq!(ran[..3], ["Sync_Enter_08", "Sync_Enter_08_testing", "Sync_Enter_09"]);
    let artifact: Vec<_> = ran.iter().filter(|name| name.starts_with("Artifact")).collect();
    assert_eq!(
        artifact,
        ["ArtifactInstall_Enter_02_b", "ArtifactInstall_Enter_10", "ArtifactInstall_Leave_05_Enter"]
    );
    for skipped in
        ["Sync_Enter_100", "Sync_Enter_1 ", "Sync_Enter_07_not_executable", "Sync_Enter_06_directory"]
    {
        let warned = ending.output.lines().any(|line| line.contains("WARN") && line.contains(skipped));
        assert!(warned, "{skipped}: {}", ending.output);
    }
    scene.assert_new();
}

#[test]
fn a_script_has_no_arguments_no_input_and_the_agents_environment() {
    let mut scene = Scene::new("environment", THIMBLE);
    let body = "echo \"args=$# pwd=$(pwd) input=$(cat | wc -c)\"; env | cut -d= -f1 | sort | tr '\\n' ' '";
    scene.rootfs_script("Download_Enter_00", body);
    scene.rootfs_script("Download_Leave_00", "exit 1");
    scene.offer(&Scene::release());
    scene.update();
    let log = scene.assert_failure_reported().join("\n");
    let dir = scene.device.dir().display();
    assert!(log.contains(&format!("args=0 pwd={dir} input=0")), "{log}");
    assert!(log.contains("THIMBLE_TIME_SCALE"), "{log}");
    assert!(!log.contains("MENDER_"), "{log}");
}

#[test]
fn a_version_of_scripts_that_is_not_known_fails_and_a_missing_one_is_fine() {
    for (version, good) in [("1000", false), ("2", true), (" 3\n", true), ("", false)] {
        let scene = Scene::new("version", THIMBLE);
        scene.device.write("etc/mender/scripts/version", version);
        let ran = scene.run(&["check"]);
        assert_eq!(ran.code, Some(if good { 0 } else { 1 }), "{version:?} {ran:?}");
        if !good {
            ran.complains("etc/mender/scripts/version");
        }
    }
    let scene = Scene::new("noversion", THIMBLE);
    fs::remove_file(scene.device.root().join("etc/mender/scripts/version")).expect("remove it");
    scene.run(&["check"]).expect(0);
}

#[test]
fn a_new_system_whose_scripts_this_agent_cannot_run_is_not_committed() {
    let mut scene = Scene::new("commitversion", THIMBLE);
    let version = "echo 1000 > \"$device/root/etc/mender/scripts/version\"";
    let spec = scene.scripted(Scene::release(), &[("ArtifactReboot_Leave", version)]);
    scene.offer(&spec);
    let ending = scene.update();
    // The stand-in has one root file system for both slots, so the next poll fails as well.
    assert!([1, 5].contains(&ending.code), "{}", ending.output);
    assert!(scene.scripts_ran().contains(&"ArtifactCommit_Error_00".to_owned()));
    scene.assert_failure_reported();
    scene.assert_old();
}

#[test]
fn exit_21_runs_the_script_again_until_it_is_content() {
    let mut scene = Scene::new("later", THIMBLE);
    let body = later(&scene, 4);
    let spec = scene.scripted(Scene::release(), &[("ArtifactInstall_Leave", &body)]);
    scene.offer(&spec);
    let ending = scene.update();
    assert_eq!(ending.code, 0, "{}", ending.output);
    assert_eq!(count(&scene), 4);
    let enters = scene.scripts_ran().iter().filter(|name| *name == "ArtifactInstall_Enter_00").count();
    assert_eq!(enters, 1, "scripts before it do not run again");
    scene.assert_new();
}

#[test]
fn exit_21_has_a_limit_after_which_it_is_an_error() {
    let config = [("StateScriptRetryIntervalSeconds", "1"), ("StateScriptRetryTimeoutSeconds", "2")];
    let mut scene = Scene::with("limit", THIMBLE, Options::default(), unscaled(&config));
    let body = later(&scene, 1000);
    let spec = scene.scripted(Scene::release(), &[("ArtifactInstall_Enter", &body)]);
    scene.offer(&spec);
    let ending = scene.update();
    assert_eq!(ending.code, 5, "{}", ending.output);
    assert!((2..=3).contains(&count(&scene)), "at 0, 1 and perhaps 2 seconds: {}", count(&scene));
    let log = scene.assert_failure_reported().join("\n");
    assert!(log.contains("StateScriptRetryTimeoutSeconds"), "{log}");
    assert!(scene.scripts_ran().contains(&"ArtifactInstall_Error_00".to_owned()));
    scene.assert_old();
}

#[test]
fn a_check_that_may_not_wait_stores_the_wait_and_the_next_one_carries_on() {
    let config = [("StateScriptRetryIntervalSeconds", "1"), ("StateScriptRetryTimeoutSeconds", "600")];
    let mut scene = Scene::with("nowait", THIMBLE, Options::default(), unscaled(&config));
    let body = later(&scene, 3);
    let spec = Scene::release();
    let spec = spec.script("ArtifactInstall_Enter_00", &scene.script("ArtifactInstall_Enter_00", ""));
    let spec = spec.script("ArtifactInstall_Enter_01", &scene.script("ArtifactInstall_Enter_01", &body));
    let spec = spec.script("ArtifactInstall_Enter_02", &scene.script("ArtifactInstall_Enter_02", ""));
    scene.offer(&spec);
    scene.run(&["check", "--max-wait", "0"]).expect(6).complains("waits");
    assert_eq!(count(&scene), 1);
    // Too early: nothing runs, it still waits. (The interval may be over already on a slow machine.)
    let again = scene.run(&["check", "--max-wait", "0"]);
    again.expect(6);
    assert!(count(&scene) <= 2);
    let mut code = Some(6);
    for _ in 0..5 {
        code = scene.run(&["check", "--max-wait", "5"]).code;
        if code != Some(6) {
            break;
        }
    }
    assert_eq!(code, None, "the reboot");
    scene.device.boot();
    assert_eq!(scene.update().code, 0);
    assert_eq!(count(&scene), 3);
    let ran = scene.scripts_ran();
    let enter = |name: &str| ran.iter().filter(|ran| *ran == name).count();
    assert_eq!((enter("ArtifactInstall_Enter_00"), enter("ArtifactInstall_Enter_02")), (1, 1), "{ran:?}");
    assert_eq!(scene.server.requests_of(What::Artifact).len(), 1, "nothing is downloaded again");
    assert_eq!(scene.statuses(), ["downloading", "installing", "rebooting", "installing", "success"]);
    scene.assert_new();
}

#[test]
fn a_stored_wait_that_is_interrupted_by_a_reboot_is_a_power_cut() {
    let config = [("StateScriptRetryIntervalSeconds", "60")];
    let mut scene = Scene::with("waitcut", THIMBLE, Options::default(), unscaled(&config));
    let spec = scene.scripted(Scene::release(), &[("ArtifactInstall_Enter", "exit 21")]);
    scene.offer(&spec);
    scene.run(&["check", "--max-wait", "0"]).expect(6);
    scene.device.boot();
    assert_eq!(scene.update().code, 5);
    scene.assert_failure_reported();
    scene.assert_old();
}

#[test]
fn a_script_that_takes_too_long_is_killed_with_all_its_children() {
    let config = [("StateScriptTimeoutSeconds", "1")];
    let mut scene = Scene::with("timeout", THIMBLE, Options::default(), unscaled(&config));
    let pids = scene.path().join("pids");
    let body = format!("sleep 600 & echo $! > '{0}'; echo $$ >> '{0}'; sleep 600", pids.display());
    let spec = scene.scripted(Scene::release(), &[("ArtifactInstall_Enter", &body)]);
    scene.offer(&spec);
    let ending = scene.update();
    assert_eq!(ending.code, 5, "{}", ending.output);
    let log = scene.assert_failure_reported().join("\n");
    assert!(log.contains("StateScriptTimeoutSeconds"), "{log}");
    for pid in fs::read_to_string(pids).expect("it ran").lines() {
        // A child of a dead parent may still wait for init to take note of its end.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(stat.is_empty() || stat.contains(") Z "), "{pid} is alive: {stat}");
    }
    scene.assert_old();
}

#[test]
fn ways_to_fail_are_told_apart_in_the_log() {
    for (body, text) in [
        ("exit 2", "exit status 2"),
        ("kill -SEGV $$", "signal 11"),
        ("exec /no/such/program", "exit status 12"),
    ] {
        let mut scene = Scene::new("ways", THIMBLE);
        let spec = scene.scripted(Scene::release(), &[("ArtifactInstall_Enter", body)]);
        scene.offer(&spec);
        assert_eq!(scene.update().code, 5);
        let log = scene.assert_failure_reported().join("\n");
        assert!(log.contains(text), "{text}: {log}");
        scene.assert_old();
    }
    let mut scene = Scene::new("interpreter", THIMBLE);
    scene.offer(&Scene::release().script("ArtifactInstall_Enter_00", "#!/no/such/interpreter\n"));
    assert_eq!(scene.update().code, 5);
    let log = scene.assert_failure_reported().join("\n");
    assert!(log.contains("cannot start") && log.contains("ArtifactInstall_Enter_00"), "{log}");
    scene.assert_old();
}

#[test]
fn the_log_has_beginning_and_end_of_what_a_script_says_and_how_much_is_missing() {
    let mut scene = Scene::new("output", THIMBLE);
    let body =
        "echo FIRST; yes 'some more text' | head -c 200000; echo; echo LAST; printf 'no newline' >&2; exit 1";
    let spec = scene.scripted(Scene::release(), &[("ArtifactInstall_Enter", body)]);
    scene.offer(&spec);
    assert_eq!(scene.update().code, 5);
    let log = scene.assert_failure_reported();
    let has = |text: &str| log.iter().any(|line| line.ends_with(text));
    assert!(has("FIRST") && has("LAST") && has("no newline"), "{log:#?}");
    assert!(log.iter().any(|line| line.contains("left out")), "{log:#?}");
    let bytes: usize = log.iter().map(String::len).sum();
    assert!(bytes < 200_000, "{bytes}");
    scene.assert_old();
}

#[test]
fn a_script_in_the_background_does_not_hold_the_update_up() {
    let mut scene = Scene::new("background", THIMBLE);
    scene.rootfs_script("Download_Enter_00", "sleep 500 &");
    scene.offer(&Scene::release());
    let begin = std::time::Instant::now();
    assert_eq!(scene.update().code, 0);
    assert!(begin.elapsed().as_secs() < 30);
    scene.assert_new();
}

#[test]
fn scripts_of_another_artifact_never_run() {
    let mut scene = Scene::new("others", THIMBLE);
    let first = scene.scripted(Scene::release(), &[("ArtifactInstall_Enter", "exit 1")]);
    scene.offer(&first);
    assert_eq!(scene.update().code, 5);
    scene.forget_scripts();
    let id = "00000000-0000-4000-8000-000000000002";
    scene.offer_file(id, &scene.artifact(&Scene::release()), "release-2");
    assert_eq!(scene.update().code, 0);
    let ran = scene.scripts_ran();
    assert!(!ran.iter().any(|name| name.starts_with("Artifact")), "{ran:?}");
    scene.assert_new();
}

#[test]
fn a_failing_sync_script_puts_the_deployment_off_and_tells_the_server_nothing() {
    let mut scene = Scene::new("sync", THIMBLE);
    scene.rootfs_script("Sync_Leave_00", "[ -e \"$device/fine\" ]");
    scene.rootfs_script("Sync_Error_15", "exit 1");
    scene.rootfs_script("Sync_Error_16", "");
    scene.offer(&Scene::release());
    scene.run(&["check"]).expect(1);
    assert_eq!(scene.server.statuses(ID), Vec::<String>::new());
    let ran = scene.scripts_ran();
    assert!(
        ran.ends_with(&["Sync_Leave_00", "Sync_Error_15", "Sync_Error_16"].map(str::to_owned)),
        "{ran:?}"
    );
    fs::write(scene.device.dir().join("fine"), "").expect("write it");
    assert_eq!(scene.update().code, 0);
    scene.assert_new();
}

#[test]
fn idle_scripts_belong_to_the_daemon_and_stop_nothing() {
    let scene = Scene::new("idle", THIMBLE);
    for name in ["Idle_Enter_00", "Idle_Leave_00"] {
        scene.rootfs_script(name, "exit 1");
    }
    scene.rootfs_script("Idle_Error_00", "");
    scene.run(&["check"]).expect(0);
    assert!(scene.scripts_ran().is_empty());
    let mut daemon = scene.daemon();
    scene.wait_until(|server| server.requests_of(What::Next).len() > 2);
    assert_eq!(daemon.stop(), Some(0));
    let ran = scene.scripts_ran();
    assert_eq!(ran[..2], ["Idle_Enter_00", "Idle_Leave_00"]);
    assert!(!ran.contains(&"Idle_Error_00".to_owned()));
}
