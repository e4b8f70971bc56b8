//! Pauses by the real program: they outlast restarts, kills and power cuts, end when an application on the device says
//! so, and expire. Replaces cases 28 to 30 of update-control.md (decision 9).
#![allow(clippy::expect_used, clippy::panic)] // These are tests.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};
use thimble_testkit::{Act, ID, Rule, Scene, What};

const THIMBLE: &str = env!("CARGO_BIN_EXE_thimble");
/// Of a map that an application has set.
const LOCAL: &str = "00000000-0000-4000-8000-0000000000aa";
const POINTS: [&str; 3] = ["Install", "Reboot", "Commit"];

fn scene(name: &str, lifetime: u32) -> Scene {
    let lifetime = lifetime.to_string();
    let config = [
        ("UpdateControlMapExpirationTimeSeconds", lifetime.as_str()),
        ("UpdateControlMapBootExpirationTimeSeconds", lifetime.as_str()),
        ("UpdateControlMapPollIntervalSeconds", "1000"),
    ];
    let scene = Scene::configured(name, THIMBLE, &config);
    scene.offer(&scene.scripted(Scene::release(), &[]));
    scene
}

/// The directory in which applications drop maps.
fn drop_ins(scene: &Scene) -> PathBuf {
    let dir = scene.device.root().join("var/lib/mender/control.d");
    fs::create_dir_all(&dir).expect("control.d");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("its mode");
    dir
}

/// What an application does.
fn set(scene: &Scene, priority: i8, point: &str, rule: &str) {
    let dir = drop_ins(scene);
    let states =
        if point.is_empty() { String::new() } else { format!("\"Artifact{point}_Enter\":{{{rule}}}") };
    let text = format!("{{\"id\":\"{LOCAL}\",\"priority\":{priority},\"states\":{{{states}}}}}");
    let temporary = dir.join(".app.json.tmp");
    fs::write(&temporary, text).expect("writes");
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o600)).expect("its mode");
    fs::rename(temporary, dir.join("app.json")).expect("renames");
}

fn pause(scene: &Scene, point: &str) {
    set(scene, 0, point, "\"action\":\"pause\"");
}

fn status_of(point: &str) -> &'static str {
    match point {
        "Install" => "pause_before_installing",
        "Reboot" => "pause_before_rebooting",
        _ => "pause_before_committing",
    }
}

/// Runs `check` until it pauses; boots in between.
#[track_caller]
fn until_paused(scene: &mut Scene, point: &str) {
    for _ in 0..3 {
        if scene.run(&["check", "--max-wait", "0"]).code == Some(6) {
            assert_eq!(scene.statuses().last().map(String::as_str), Some(status_of(point)));
            // After the last script of one step, before the first of the next.
            let last = match point {
                "Install" => "Download_Leave_00",
                "Reboot" => "ArtifactInstall_Leave_00",
                _ => "ArtifactReboot_Leave_00",
            };
            assert_eq!(scene.scripts_ran().last().map(String::as_str), Some(last));
            return;
        }
        scene.device.boot();
    }
    panic!("no pause\n{}", scene.device.log());
}

#[track_caller]
fn assert_whole(scene: &mut Scene, what: &str) {
    assert_eq!(scene.finals(), ["success"], "{what}\n{}", scene.device.log());
    assert_eq!(scene.server.requests_of(What::Artifact).len(), 1, "{what}: nothing is downloaded again");
    let mut ran = scene.scripts_ran();
    assert!(!ran.iter().any(|n| n.contains("_Error") || n.contains("Rollback")), "{what}: {ran:?}");
    let count = ran.len();
    ran.sort();
    ran.dedup();
    assert_eq!(ran.len(), count, "{what}: no script runs twice");
    scene.assert_new();
}

#[test]
fn check_leaves_in_a_pause_and_goes_on_when_the_application_says_so() {
    for point in POINTS {
        let mut scene = scene("check", 600);
        pause(&scene, point);
        until_paused(&mut scene, point);
        let journal = || fs::read(scene.device.root().join("var/lib/mender/thimble-journal.a"));
        let before = journal().expect("the journal");
        for _ in 0..3 {
            scene.run(&["check", "--max-wait", "0"]).expect(6).complains("an update waits");
        }
        assert_eq!(journal().expect("the journal"), before, "looking writes nothing");
        set(&scene, 0, "", "");
        assert_eq!(scene.update().code, 0, "{}", scene.device.log());
        let told = scene.server.statuses(ID).iter().filter(|status| *status == status_of(point)).count();
        assert_eq!(told, 1, "the pause is told once");
        assert!(scene.server.requests_of(What::ControlMap).is_empty(), "it is not the server's map");
        assert_whole(&mut scene, point);
    }
}

#[test]
fn a_pause_outlasts_the_death_of_the_daemon() {
    for point in POINTS {
        let mut scene = scene("killed", 600);
        pause(&scene, point);
        if point == "Commit" {
            let mut first = scene.daemon();
            assert_eq!(first.wait(), None, "the reboot");
            scene.device.boot();
        }
        for signal in [9, 15, 9] {
            let mut daemon = scene.daemon();
            let count = scene.server.requests_of(What::Status).len();
            scene.wait_until(|server| {
                server.requests_of(What::Status).len() > count
                    && server.statuses(ID).last().is_some_and(|last| last == status_of(point))
            });
            daemon.signal(signal);
            daemon.wait();
        }
        let mut daemon = scene.daemon();
        sleep(Duration::from_millis(300));
        set(&scene, 0, point, "\"action\":\"force_continue\"");
        if point == "Commit" {
            // Not before it has the answer: stopped while it waits for that, it must report once more.
            scene.wait_until(|_| scene.daemon_log().contains("finished with status: Success"));
            assert_eq!(daemon.stop(), Some(0));
        } else {
            assert_eq!(daemon.wait(), None, "the reboot");
            scene.device.boot();
        }
        scene.update();
        assert_whole(&mut scene, point);
    }
}

#[test]
fn a_pause_outlasts_power_cuts() {
    for point in ["Install", "Commit"] {
        let mut scene = scene("cut", 600);
        pause(&scene, point);
        until_paused(&mut scene, point);
        let slot = scene.device.running_slot();
        for _ in 0..3 {
            scene.device.boot();
            assert_eq!(scene.device.running_slot(), slot, "the boot loader goes on trying");
            scene.run(&["check", "--max-wait", "0"]).expect(6);
        }
        set(&scene, 0, "", "");
        assert_eq!(scene.update().code, 0, "{}", scene.device.log());
        assert_whole(&mut scene, point);
    }
}

#[test]
fn a_restart_in_the_pause_before_the_restart_takes_its_place() {
    let mut scene = scene("restarted", 600);
    pause(&scene, "Reboot");
    until_paused(&mut scene, "Reboot");
    scene.device.boot();
    assert_eq!(scene.device.running_slot(), 3);
    assert_eq!(scene.update().code, 0, "{}", scene.device.log());
    assert!(!scene.statuses().contains(&"rebooting".to_owned()));
    assert!(!scene.scripts_ran().contains(&"ArtifactReboot_Enter_00".to_owned()));
    assert!(scene.scripts_ran().contains(&"ArtifactReboot_Leave_00".to_owned()));
    assert_whole(&mut scene, "restart");
}

#[test]
fn a_new_system_that_is_left_in_a_pause_is_a_failure() {
    for point in ["Reboot", "Commit"] {
        let mut scene = scene("left", 600);
        pause(&scene, point);
        until_paused(&mut scene, point);
        if point == "Reboot" {
            scene.device.break_slot(3);
        }
        // The agent of the new system never runs again.
        while scene.device.running_slot() != 2 || scene.device.env()["upgrade_available"] != "0" {
            scene.device.boot();
        }
        assert_eq!(scene.update().code, 5, "{}", scene.device.log());
        assert!(!scene.scripts_ran().iter().any(|n| n.contains("_Error")), "{:?}", scene.scripts_ran());
        scene.assert_failure_reported();
        scene.assert_old();
    }
}

#[test]
fn an_application_wakes_a_waiting_daemon_at_once_and_signals_do_not() {
    let mut scene = scene("wakes", 600);
    pause(&scene, "Install");
    let mut daemon = scene.daemon();
    scene.wait_until(|server| {
        server.statuses(ID).last().is_some_and(|last| last == "pause_before_installing")
    });
    daemon.signal(libc::SIGUSR1);
    daemon.signal(libc::SIGUSR2);
    sleep(Duration::from_millis(500));
    assert_eq!(scene.statuses().last().map(String::as_str), Some("pause_before_installing"));
    let begin = Instant::now();
    set(&scene, 5, "Install", "\"action\":\"force_continue\"");
    scene.wait_until(|server| server.statuses(ID).last().is_some_and(|last| last == "rebooting"));
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    assert_eq!(daemon.wait(), None);
    scene.device.boot();
    scene.update();
    assert_whole(&mut scene, "woken");
}

#[test]
fn what_is_said_at_expiry_is_done_then() {
    for (at_expiry, end) in [("", "failure"), (",\"on_map_expire\":\"continue\"", "success")] {
        for daemon in [true, false] {
            let mut scene = scene("expires", 2);
            set(&scene, 0, "Install", &format!("\"action\":\"pause\"{at_expiry}"));
            let begin = Instant::now();
            if daemon {
                let mut daemon = scene.daemon();
                scene.wait_until(|server| {
                    server.statuses(ID).last().is_some_and(|last| last == "pause_before_installing")
                });
                assert_eq!(daemon.wait(), None, "a reboot, there or back");
                scene.device.boot();
            }
            scene.update();
            assert!(begin.elapsed() >= Duration::from_secs(2), "{:?}", begin.elapsed());
            assert_eq!(scene.finals(), [end], "{}", scene.device.log());
            assert_eq!(scene.statuses()[1], "pause_before_installing");
        }
    }
}

#[test]
fn a_map_that_is_set_again_in_time_does_not_expire() {
    let mut scene = scene("again", 2);
    pause(&scene, "Install");
    until_paused(&mut scene, "Install");
    for _ in 0..6 {
        sleep(Duration::from_millis(600));
        pause(&scene, "Install");
        scene.run(&["check", "--max-wait", "0"]).expect(6);
    }
    set(&scene, 0, "", "");
    assert_eq!(scene.update().code, 0);
    let sent = scene.server.requests_of(What::Status);
    assert_eq!(sent.iter().filter(|r| r.text().contains("pause_before")).count(), 1, "it is reported once");
    assert_whole(&mut scene, "again");
}

#[test]
fn looking_does_not_use_up_what_is_said_once() {
    let mut scene = scene("once", 6);
    set(&scene, 0, "Install", "\"action\":\"pause\",\"on_action_executed\":\"continue\"");
    until_paused(&mut scene, "Install");
    let paused = Instant::now();
    for _ in 0..4 {
        scene.run(&["check", "--max-wait", "0"]).expect(6);
    }
    assert!(paused.elapsed() < Duration::from_secs(3), "this machine is too slow for the test");
    // Half its life is a reason to decide again (K32).
    assert_eq!(scene.update().code, 0);
    assert!(paused.elapsed() >= Duration::from_secs(2), "{:?}", paused.elapsed());
    assert_whole(&mut scene, "once");
}

#[test]
fn maps_of_several_owners_are_merged() {
    // Of the server and of an application; the higher priority is asked first.
    for (server, priority, local, end) in [
        ("pause", 1, "force_continue", Some("success")),
        ("pause", 1, "continue", None),
        ("continue", -1, "pause", None),
        ("force_continue", -1, "pause", Some("success")),
        ("fail", 1, "pause", None),
        ("pause", 0, "fail", Some("failure")),
        ("force_continue", 0, "pause", None),
    ] {
        let what = format!("{server}, {local} with {priority}");
        let mut scene = scene("merged", 600);
        let map = format!(
            "{{\"id\":\"{ID}\",\"states\":{{\"ArtifactInstall_Enter\":{{\"action\":\"{server}\"}}}}}}"
        );
        scene.server.control_map(ID, Some(&map));
        set(&scene, priority, "Install", &format!("\"action\":\"{local}\""));
        match end {
            Some(end) => {
                scene.update();
                assert_eq!(scene.finals(), [end], "{what}");
            }
            None => until_paused(&mut scene, "Install"),
        }
    }
}

#[test]
fn an_answer_without_a_map_removes_those_of_the_deployment() {
    let mut scene = scene("removed", 600);
    pause(&scene, "Install");
    let file = drop_ins(&scene).join("app.json");
    let text = fs::read_to_string(&file).expect("the map").replace(LOCAL, ID);
    fs::write(&file, text).expect("writes");
    assert_eq!(scene.update().code, 0);
    assert!(!scene.statuses().contains(&"pause_before_installing".to_owned()));
    assert_whole(&mut scene, "removed");
}

#[test]
fn the_maps_of_a_deployment_end_with_it_and_others_stay() {
    let mut scene = scene("ends", 600);
    scene.server.control_map(ID, Some(&format!("{{\"id\":\"{ID}\",\"priority\":3}}")));
    set(&scene, 0, "Install", "\"action\":\"force_continue\"");
    assert_eq!(scene.update().code, 0);
    let store = scene.device.root().join("var/lib/mender");
    let newest = ["a", "b"].map(|copy| {
        let bytes = fs::read(store.join(format!("thimble-control.{copy}"))).unwrap_or_default();
        (
            bytes.get(8..16).map(|b| b.to_vec()).unwrap_or_default().into_iter().rev().collect::<Vec<_>>(),
            bytes,
        )
    });
    let text = String::from_utf8_lossy(&newest.iter().max().expect("two").1).into_owned();
    assert!(text.contains(LOCAL) && !text.contains(ID), "{text}");
    assert_whole(&mut scene, "ends");
}

#[test]
fn lost_maps_fail_the_update_at_its_next_point() {
    for paused in [true, false] {
        let mut scene = scene("damaged", 600);
        let point = if paused { "Install" } else { "Commit" };
        pause(&scene, point);
        if paused {
            until_paused(&mut scene, point);
        } else {
            assert_eq!(scene.run(&["check"]).code, None, "the reboot");
            scene.device.boot();
        }
        for copy in ["a", "b"] {
            let path = scene.device.root().join(format!("var/lib/mender/thimble-control.{copy}"));
            if path.exists() {
                fs::write(path, "damaged").expect("writes");
            }
        }
        assert_eq!(scene.update().code, 5, "{}", scene.device.log());
        let log = scene.assert_failure_reported();
        assert!(log.iter().any(|line| line.contains("CONTROL-DAMAGED")), "{log:#?}");
        scene.assert_old();
        // The next one begins with no maps.
        let id = "00000000-0000-4000-8000-000000000002";
        scene.offer_file(id, &scene.artifact(&Scene::release()), "release-2");
        scene.update();
        assert_eq!(scene.server.statuses(id).last().map(String::as_str), Some("success"));
    }
}

#[test]
fn a_drop_in_that_is_refused_blocks_nothing() {
    let mut scene = scene("refused", 600);
    let dir = drop_ins(&scene);
    fs::write(dir.join("bad.json"), "{\"id\":7}").expect("writes");
    assert_eq!(scene.update().code, 0);
    assert!(dir.join("bad.json.refused").exists());
    assert_whole(&mut scene, "refused");
}

#[test]
fn a_map_that_comes_while_nothing_is_in_progress_waits_for_the_next_update() {
    let scene = Scene::configured("idle", THIMBLE, &[("UpdateControlMapExpirationTimeSeconds", "600")]);
    let mut daemon = scene.daemon();
    scene.wait_until(|server| !server.requests_of(What::Next).is_empty());
    pause(&scene, "Install");
    let file = drop_ins(&scene).join("app.json");
    let begin = Instant::now();
    while file.exists() {
        assert!(begin.elapsed() < Duration::from_secs(10), "{}", scene.daemon_log());
        sleep(Duration::from_millis(20));
    }
    scene.offer(&Scene::release());
    scene.wait_until(|server| {
        server.statuses(ID).last().is_some_and(|last| last == "pause_before_installing")
    });
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn maps_that_expire_at_once_are_warned_of() {
    let scene = Scene::configured("zero", THIMBLE, &[("UpdatePollIntervalSeconds", "0")]);
    scene.offer(&Scene::release());
    pause(&scene, "Install");
    // It has no effect.
    let ran = scene.run(&["check"]);
    assert_eq!(ran.code, None, "the reboot");
    ran.complains("update control maps expire at once");
}

#[test]
fn a_server_that_is_not_reached_in_a_pause_does_not_keep_an_application_waiting() {
    let mut scene = scene("lonely", 600);
    let map =
        format!("{{\"id\":\"{ID}\",\"states\":{{\"ArtifactInstall_Enter\":{{\"action\":\"pause\"}}}}}}");
    scene.server.control_map(ID, Some(&map));
    until_paused(&mut scene, "Install");
    scene.server.rule(Rule { on: What::ControlMap, skip: 0, times: 2, act: Act::error(500) });
    sleep(Duration::from_millis(1100));
    scene.run(&["check", "--max-wait", "0"]).expect(6).complains("again in");
    set(&scene, 5, "Install", "\"action\":\"force_continue\"");
    assert_eq!(scene.update().code, 0, "{}", scene.device.log());
    assert_whole(&mut scene, "lonely");
}
