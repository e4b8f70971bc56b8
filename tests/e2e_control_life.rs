//! How long a map lives, by the real program: expiry counts on over one-shot runs and restarts of the daemon, a restart of
//! the machine gives the boot lifetime (decision 23); and what a pause costs and how fast it ends.
#![allow(clippy::expect_used, clippy::panic)] // These are tests.

use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use thimble::json::{self, Value};
use thimble_testkit::{Daemon, ID, Ran, Scene, Watch, What};

const THIMBLE: &str = env!("CARGO_BIN_EXE_thimble");
const POINTS: [&str; 3] = ["install", "reboot", "commit"];

/// A device on which maps live that many seconds, and after a restart of the machine that many; an update is offered.
fn scene(name: &str, life: u32, boot_life: u32) -> Scene {
    let (life, boot_life) = (life.to_string(), boot_life.to_string());
    let config = [
        ("UpdateControlMapExpirationTimeSeconds", life.as_str()),
        ("UpdateControlMapBootExpirationTimeSeconds", boot_life.as_str()),
    ];
    let scene = Scene::configured(name, THIMBLE, &config);
    scene.offer(&scene.scripted(Scene::release(), &[]));
    scene
}

/// Runs `thimble control` beside whatever else runs on the device; what it prints.
fn control(scene: &Scene, args: &[&str]) -> String {
    let mut command = Command::new(THIMBLE);
    command.arg("--root").arg(scene.device.root()).arg("control").args(args).stdin(Stdio::null());
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Seconds that the only map still lives.
fn left(scene: &Scene) -> i64 {
    let shown = json::parse(&control(scene, &["show", "--json"])).expect("JSON");
    let Some(Value::Array(maps)) = json::get(&shown, "maps") else { panic!("no list of maps") };
    assert_eq!(maps.len(), 1);
    maps.first().and_then(|map| json::integer(json::get(map, "expires_in")?)).expect("a number")
}

fn status_of(point: &str) -> &'static str {
    match point {
        "install" => "pause_before_installing",
        "reboot" => "pause_before_rebooting",
        _ => "pause_before_committing",
    }
}

fn check(scene: &Scene) -> Ran {
    scene.run(&["check", "--max-wait", "0"])
}

/// Runs `check` until it pauses; boots in between.
#[track_caller]
fn until_paused(scene: &mut Scene, point: &str) {
    while check(scene).code != Some(6) {
        assert!(scene.device.boots() < 3, "no pause\n{}", scene.device.log());
        scene.device.boot();
    }
    assert_eq!(scene.statuses().last().map(String::as_str), Some(status_of(point)));
}

#[track_caller]
fn wait_for(scene: &Scene, status: &str) {
    scene.wait_until(|server| server.statuses(ID).last().is_some_and(|last| last == status));
}

/// A daemon that has found the update in the pause.
#[track_caller]
fn paused_daemon(scene: &Scene, point: &str) -> Daemon {
    let reports = scene.server.requests_of(What::Status).len();
    let daemon = scene.daemon();
    scene.wait_until(|server| {
        server.requests_of(What::Status).len() > reports
            && server.statuses(ID).last().is_some_and(|last| last == status_of(point))
    });
    daemon
}

#[track_caller]
fn soon(what: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !what() {
        assert!(Instant::now() < end, "it never came true");
        sleep(Duration::from_millis(20));
    }
}

fn seconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64()
}

#[test]
fn expiry_counts_on_over_one_shot_runs() {
    for point in ["install", "reboot"] {
        let mut scene = scene("oneshot", 8, 600);
        let set = Instant::now();
        control(&scene, &["pause", point]);
        until_paused(&mut scene, point);
        while seconds(set) < 7.0 {
            let before = seconds(set);
            check(&scene).expect(6);
            assert!(left(&scene) <= 8 - before as i64, "looking does not renew it");
            sleep(Duration::from_millis(500));
        }
        sleep(Duration::from_secs_f64((8.05 - seconds(set)).max(0.0)));
        let ending = scene.update();
        assert_eq!(ending.code, 5, "{point}: {}", ending.output);
        let log = scene.assert_failure_reported();
        assert!(log.iter().any(|line| line.contains("has expired, and so says fail")), "{log:#?}");
        scene.assert_old();
    }
}

#[test]
fn the_boot_lifetime_begins_once_and_counts_on_over_one_shot_runs() {
    let mut scene = scene("boot", 600, 7);
    control(&scene, &["pause", "commit"]);
    assert_eq!(check(&scene).code, None, "the reboot");
    scene.device.boot();
    // Nobody has looked yet: it has not begun.
    sleep(Duration::from_secs(1));
    let begin = Instant::now();
    check(&scene).expect(6);
    let seen = Instant::now();
    while seconds(begin) < 6.0 {
        let before = seconds(seen);
        check(&scene).expect(6);
        assert!(left(&scene) <= 7 - before as i64, "looking does not renew it");
        sleep(Duration::from_millis(500));
    }
    sleep(Duration::from_secs_f64((7.05 - seconds(seen)).max(0.0)));
    assert_eq!(scene.update().code, 5);
    scene.assert_failure_reported();
    scene.assert_old();
}

#[test]
fn expiry_counts_on_over_restarts_of_the_daemon() {
    let scene = scene("restarts", 600, 600);
    let set = Instant::now();
    control(&scene, &["pause", "install"]);
    for _ in 0..2 {
        let mut daemon = paused_daemon(&scene, "install");
        daemon.signal(libc::SIGKILL);
        daemon.wait();
        sleep(Duration::from_millis(1100));
    }
    let _daemon = paused_daemon(&scene, "install");
    let gone = set.elapsed().as_secs() as i64;
    assert!(gone >= 2 && left(&scene) <= 600 - gone, "{} s left after {gone} s", left(&scene));
}

#[test]
fn a_restart_of_the_machine_gives_an_applications_map_the_boot_lifetime() {
    for with_daemon in [true, false] {
        let mut scene = scene("boots", 5000, 700);
        control(&scene, &["pause", "commit"]);
        if with_daemon {
            assert_eq!(scene.daemon().wait(), None, "the reboot");
            scene.device.boot();
            let _daemon = paused_daemon(&scene, "commit");
            assert!((600..=700).contains(&left(&scene)), "{}", left(&scene));
        } else {
            until_paused(&mut scene, "commit");
            assert!((600..=700).contains(&left(&scene)), "{}", left(&scene));
        }
        // Set again, it has its usual life.
        control(&scene, &["pause", "commit"]);
        assert!(left(&scene) > 4000);
    }
}

#[test]
fn a_restart_of_the_machine_leads_to_a_refresh_which_gives_the_servers_map_its_usual_life() {
    let mut scene = scene("server", 5000, 700);
    let map = format!("{{\"id\":\"{ID}\",\"states\":{{\"ArtifactCommit_Enter\":{{\"action\":\"pause\"}}}}}}");
    scene.server.control_map(ID, Some(&map));
    assert_eq!(check(&scene).code, None, "the reboot");
    let before = scene.server.requests_of(What::ControlMap).len();
    scene.device.boot();
    check(&scene).expect(6);
    assert_eq!(scene.server.requests_of(What::ControlMap).len(), before + 1);
    assert!(left(&scene) > 4000, "{}", left(&scene));
}

#[test]
fn a_pause_outlasts_restarts_of_the_machine_under_a_daemon() {
    for point in POINTS {
        let mut scene = scene("machine", 600, 600);
        control(&scene, &["pause", point]);
        if point == "commit" {
            assert_eq!(scene.daemon().wait(), None, "the reboot");
            scene.device.boot();
        }
        let mut daemon = paused_daemon(&scene, point);
        for _ in 0..2 {
            daemon.signal(libc::SIGKILL);
            daemon.wait();
            scene.device.boot();
            if point == "reboot" {
                // The new system came up: that was the restart.
                break;
            }
            daemon = paused_daemon(&scene, point);
        }
        if point != "reboot" {
            control(&scene, &["continue", point]);
        }
        if point == "install" {
            assert_eq!(daemon.wait(), None, "the reboot");
            scene.device.boot();
        }
        if point != "commit" {
            daemon = scene.daemon();
        }
        wait_for(&scene, "success");
        assert_eq!(daemon.stop(), Some(0), "{}", scene.daemon_log());
        assert_eq!(scene.server.requests_of(What::Artifact).len(), 1, "nothing is downloaded again");
        let mut ran = scene.scripts_ran();
        let count = ran.len();
        ran.sort();
        ran.dedup();
        assert_eq!(ran.len(), count, "{point}: no script runs twice: {ran:?}");
        scene.assert_new();
    }
}

#[test]
fn every_run_that_finds_an_update_in_a_pause_says_why_it_is_in_one() {
    let mut scene = scene("why", 5000, 5000);
    control(&scene, &["pause", "install", "--priority", "5"]);
    until_paused(&mut scene, "install");
    let why =
        "ArtifactInstall_Enter: pause: map 7468696d-626c-8065-8000-000000000000, priority 5; expires in 1 h ";
    for _ in 0..2 {
        check(&scene).expect(6).complains(why).complains("an update waits");
    }
    let mut daemon = scene.daemon();
    soon(|| scene.daemon_log().contains(why));
    daemon.stop();
    // A pause of one decision has been said already.
    control(&scene, &["pause", "install", "--priority", "5", "--once"]);
    check(&scene).expect(6).complains("priority 5; once, then continue; expires in 1 h ");
    check(&scene)
        .expect(6)
        .complains("ArtifactInstall_Enter: pause: until the maps are asked again in 41 min ");
    let shown = control(&scene, &["show"]);
    assert!(shown.contains("is paused before install, until the maps are asked again\n"), "{shown}");
}

#[test]
fn a_daemon_in_a_pause_wakes_up_for_its_maps_and_for_nothing_else() {
    let scene = scene("rest", 600, 600);
    control(&scene, &["pause", "install"]);
    let daemon = paused_daemon(&scene, "install");
    let watch = Watch::new(daemon.pid());
    watch.settle();
    let (wakes, ticks) = watch.unrest(Duration::from_secs(3));
    assert!(wakes <= 1 && ticks <= 1, "{wakes} wake-ups and {ticks} ticks in 3 s");
    assert_eq!(watch.threads(), 1);
    // Looking at the maps does not wake it either.
    let before = watch.waits();
    for _ in 0..5 {
        control(&scene, &["show"]);
    }
    sleep(Duration::from_millis(300));
    assert!(watch.waits() - before <= 1, "{} wake-ups", watch.waits() - before);
    // A map that is set again does; how often depends on how many changes of the directory it finds at once.
    let before = watch.waits();
    control(&scene, &["pause", "install"]);
    soon(|| watch.waits() > before);
}

#[test]
fn a_daemon_in_a_pause_reacts_within_a_second() {
    let scene = scene("fast", 600, 600);
    control(&scene, &["pause", "install"]);
    let _daemon = paused_daemon(&scene, "install");
    sleep(Duration::from_millis(300));
    let said = Instant::now();
    control(&scene, &["continue", "install"]);
    wait_for(&scene, "installing");
    let arrived = scene.server.requests_of(What::Status).last().expect("a report").arrived;
    assert!(arrived - said < Duration::from_secs(1), "{:?}", arrived - said);
}
