//! SIGTERM to the daemon wherever it may be: it ends soon, with 0, nothing of it is left, and the next start makes good.
#![allow(clippy::expect_used, clippy::panic)] // These are tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};
use thimble_testkit::{Act, ArtifactSpec, Daemon, DeviceOptions, Options, Rule, Scene, What};

const THIMBLE: &str = env!("CARGO_BIN_EXE_thimble");

/// Long enough for a busy machine, far less than any of the waits that are interrupted here.
const SOON: Duration = Duration::from_secs(5);

/// Waits of a real length, and nothing that comes again by itself.
fn scene(name: &str) -> Scene {
    let config = [
        ("UpdatePollIntervalSeconds", "80000"),
        ("InventoryPollIntervalSeconds", "80000"),
        ("RetryPollIntervalSeconds", "300"),
    ];
    let config = config.map(|(a, b)| (a.to_owned(), b.to_owned())).to_vec();
    let agent_env = vec![("THIMBLE_TIME_SCALE".to_owned(), "1".to_owned())];
    Scene::with(
        name,
        THIMBLE,
        Options::default(),
        DeviceOptions { config, agent_env, ..DeviceOptions::default() },
    )
}

#[track_caller]
fn stops(scene: &Scene, daemon: &mut Daemon) {
    let begin = Instant::now();
    assert_eq!(daemon.stop(), Some(0), "{}", scene.daemon_log());
    assert!(begin.elapsed() < SOON, "{:?}\n{}", begin.elapsed(), scene.daemon_log());
    assert!(scene.daemon_log().contains("thimble ends"), "{}", scene.daemon_log());
}

#[track_caller]
fn wait_for(path: &Path) {
    let begin = Instant::now();
    while !path.exists() {
        assert!(begin.elapsed() < Duration::from_secs(20), "{} never came", path.display());
        thread::sleep(Duration::from_millis(10));
    }
}

/// A script's text that says that it runs, with the number of its process, and then stays; and where it says so.
fn stuck(scene: &Scene) -> (String, PathBuf) {
    let marker = scene.path().join("stuck");
    (format!("echo $$ > '{0}.new'; mv '{0}.new' '{0}'; exec sleep 600", marker.display()), marker)
}

/// The process that said so in this file is gone.
#[track_caller]
fn is_gone(marker: &Path) {
    let pid = fs::read_to_string(marker).expect("the marker");
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    let dead = stat.is_empty() || stat.contains(") Z ");
    assert!(dead, "the script lives on: {stat}");
}

#[test]
fn in_idle() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT] {
        let scene = scene("idle");
        let mut daemon = scene.daemon();
        scene.wait_until(|server| server.requests_of(What::Next).len() == 1);
        daemon.signal(signal);
        let begin = Instant::now();
        assert_eq!(daemon.wait(), Some(0), "signal {signal}");
        assert!(begin.elapsed() < SOON);
        // Nothing holds the lock any more.
        scene.run(&["check"]).expect(0);
    }
}

#[test]
fn while_the_server_does_not_answer_an_errand() {
    for what in [What::Auth, What::Inventory, What::Next] {
        let scene = scene("noanswer");
        scene.server.rule(Rule { on: what, skip: 0, times: 1, act: Act::Hang });
        let mut daemon = scene.daemon();
        scene.wait_until(|server| !server.requests_of(what).is_empty());
        stops(&scene, &mut daemon);
    }
}

#[test]
fn in_the_back_off_of_an_errand() {
    let scene = scene("backoff");
    scene.server.rule(Rule { on: What::Any, skip: 0, times: usize::MAX, act: Act::DropConnection });
    let mut daemon = scene.daemon();
    scene.wait_until(|server| server.requests().len() >= 2);
    thread::sleep(Duration::from_millis(300));
    stops(&scene, &mut daemon);
}

#[test]
fn in_scripts_of_the_device() {
    for path in [
        "usr/share/mender/identity/mender-device-identity",
        "usr/share/mender/inventory/mender-inventory-stuck",
        "etc/mender/scripts/Idle_Enter_00",
        "etc/mender/scripts/Idle_Leave_00",
        "etc/mender/scripts/Sync_Enter_00",
    ] {
        let scene = scene("script");
        let (body, marker) = stuck(&scene);
        scene.device.write_script(path, &format!("#!/bin/sh\n{body}\n"));
        let mut daemon = scene.daemon();
        wait_for(&marker);
        stops(&scene, &mut daemon);
        is_gone(&marker);
        assert_eq!(scene.server.requests_of(What::Inventory).len(), 0, "{path}: half an inventory was sent");
        // What was interrupted comes again.
        scene.device.write_script(path, "#!/bin/sh\necho mac=00:11:22:33:44:55\n");
        scene.run(&["check"]).expect(0);
    }
}

#[test]
fn in_the_download() {
    let mut scene = scene("download");
    scene.offer(&Scene::release());
    scene.server.rule(Rule { on: What::Artifact, skip: 0, times: 1, act: Act::HangAfter { bytes: 1500 } });
    let mut daemon = scene.daemon();
    scene.wait_until(|server| server.requests_of(What::Artifact).last().is_some_and(|get| get.sent >= 1500));
    stops(&scene, &mut daemon);
    // As after a power cut.
    assert_eq!(scene.update().code, 5);
    scene.assert_failure_reported();
    scene.assert_old();
}

#[test]
fn between_two_tries_of_the_download() {
    let mut scene = scene("tries");
    scene.offer(&Scene::release());
    scene.server.rule(Rule { on: What::Artifact, skip: 0, times: 1, act: Act::DropAfter { bytes: 1500 } });
    let mut daemon = scene.daemon();
    scene.wait_until(|server| server.requests_of(What::Artifact).last().is_some_and(|get| get.sent >= 1500));
    thread::sleep(Duration::from_millis(500));
    stops(&scene, &mut daemon);
    assert_eq!(scene.server.requests_of(What::Artifact).len(), 1, "it was waiting");
    assert_eq!(scene.update().code, 5);
    scene.assert_failure_reported();
    scene.assert_old();
}

#[test]
fn in_each_script_of_an_update() {
    // New: the update goes on or is repeated; old: it is taken back.
    for (place, new) in [
        ("Download_Enter", false),
        ("Download_Leave", false),
        ("ArtifactInstall_Enter", false),
        ("ArtifactInstall_Leave", false),
        ("ArtifactCommit_Leave", true),
    ] {
        let mut scene = scene("update");
        let (body, marker) = stuck(&scene);
        // Only once.
        let body = format!("[ -e '{}' ] || {{ {body}; }}", marker.display());
        let spec = scene.scripted(Scene::release(), &[(place, &body)]);
        scene.offer(&spec);
        let mut daemon = scene.daemon();
        if new {
            assert_eq!(daemon.wait(), None, "the reboot");
            scene.device.boot();
            daemon = scene.daemon();
        }
        wait_for(&marker);
        stops(&scene, &mut daemon);
        is_gone(&marker);
        let code = scene.update().code;
        assert_eq!(code, if new { 0 } else { 5 }, "{place}\n{}", scene.device.log());
        if new {
            scene.assert_success_reported();
            scene.assert_new();
        } else {
            scene.assert_failure_reported();
            assert_eq!(scene.artifact_name(), "release-1", "{place}");
        }
    }
}

#[test]
fn a_script_that_will_not_end_has_ten_seconds() {
    let scene = scene("stubborn");
    let marker = scene.path().join("stuck");
    let body = format!(
        "trap '' TERM; echo $$ > '{0}.new'; mv '{0}.new' '{0}'; while :; do sleep 1; done",
        marker.display()
    );
    scene.rootfs_script("Sync_Enter_00", &body);
    let mut daemon = scene.daemon();
    wait_for(&marker);
    let begin = Instant::now();
    assert_eq!(daemon.stop(), Some(0), "{}", scene.daemon_log());
    let took = begin.elapsed();
    assert!((Duration::from_secs(10)..Duration::from_secs(10) + SOON).contains(&took), "{took:?}");
    is_gone(&marker);
}

#[test]
fn while_a_report_waits_for_its_next_try() {
    let mut scene = scene("report");
    scene.offer(&ArtifactSpec::empty("release-2"));
    scene.server.rule(Rule { on: What::StatusOf("success"), skip: 0, times: 1, act: Act::error(500) });
    let mut daemon = scene.daemon();
    let reports = |server: &thimble_testkit::Server| {
        server.requests_of(What::Status).iter().filter(|r| r.text().contains("success")).count()
    };
    scene.wait_until(|server| reports(server) == 1);
    thread::sleep(Duration::from_millis(300));
    stops(&scene, &mut daemon);
    assert_eq!(reports(&scene.server), 1, "it was waiting a minute");
    assert_eq!(scene.update().code, 0);
    assert_eq!(scene.finals(), ["success"]);
    assert_eq!(scene.artifact_name(), "release-2");
}

#[test]
fn while_a_script_waits_for_its_next_run() {
    let mut scene = scene("later");
    let marker = scene.path().join("later");
    scene.rootfs_script(
        "Download_Leave_00",
        &format!("[ -e '{0}' ] || {{ touch '{0}'; exit 21; }}", marker.display()),
    );
    scene.offer(&ArtifactSpec::empty("release-2"));
    let mut daemon = scene.daemon();
    wait_for(&marker);
    thread::sleep(Duration::from_millis(500));
    stops(&scene, &mut daemon);
    assert_eq!(scene.scripts_ran(), ["Download_Leave_00"], "it was waiting");
    assert_eq!(scene.update().code, 5);
    scene.assert_failure_reported();
}

/// Replaces `reboot` by one that says that it runs and does not come back, as on a machine that is going down.
fn slow_reboot(scene: &Scene, body: &str) -> PathBuf {
    let path = scene.device.dir().join("bin/reboot");
    let marker = scene.path().join("going-down");
    let text = format!("#!/bin/sh\necho $$ > '{0}.new'; mv '{0}.new' '{0}'\n{body}\n", marker.display());
    fs::write(path, text).expect("write it");
    marker
}

#[test]
fn from_init_while_the_machine_goes_down_for_the_update() {
    // `reboot` may return at once, as systemd's, or never, as a plain one.
    for body in ["exec sleep 600", "exit 0"] {
        let mut scene = scene("goingdown");
        let usual = fs::read_to_string(scene.device.dir().join("bin/reboot")).expect("the usual reboot");
        let marker = slow_reboot(&scene, body);
        scene.offer(&Scene::release());
        let mut daemon = scene.daemon();
        wait_for(&marker);
        thread::sleep(Duration::from_millis(300));
        stops(&scene, &mut daemon);
        fs::write(scene.device.dir().join("bin/reboot"), usual).expect("write it");
        scene.device.boot();
        assert_eq!(scene.device.running_slot(), 3);
        let ending = scene.update();
        assert_eq!((ending.code, ending.boots), (0, 0), "{}", ending.output);
        scene.assert_success_reported();
        scene.assert_new();
    }
}

#[test]
fn from_a_person_while_the_machine_should_go_down_but_does_not() {
    let mut scene = scene("staysup");
    let usual = fs::read_to_string(scene.device.dir().join("bin/reboot")).expect("the usual reboot");
    let marker = slow_reboot(&scene, "exec sleep 600");
    scene.offer(&Scene::release());
    let mut daemon = scene.daemon();
    wait_for(&marker);
    stops(&scene, &mut daemon);
    fs::write(scene.device.dir().join("bin/reboot"), usual).expect("write it");
    // Started again without a restart: the new system is not what runs, so it has not proved itself.
    let ending = scene.update();
    assert_eq!(ending.code, 5, "{}", ending.output);
    scene.assert_failure_reported();
    scene.assert_old();
}

#[test]
fn while_the_new_system_cannot_report_yet() {
    let mut scene = scene("beforecommit");
    scene.offer(&Scene::release());
    let mut daemon = scene.daemon();
    assert_eq!(daemon.wait(), None, "the reboot");
    scene.device.boot();
    let reports = scene.server.requests_of(What::Status).len();
    scene.server.rule(Rule { on: What::StatusOf("installing"), skip: 0, times: 1, act: Act::error(500) });
    let mut daemon = scene.daemon();
    scene.wait_until(|server| server.requests_of(What::Status).len() == reports + 1);
    thread::sleep(Duration::from_millis(300));
    stops(&scene, &mut daemon);
    // The new system was stopped before it had proved itself: back to the old one.
    assert_eq!(scene.update().code, 5);
    scene.assert_failure_reported();
    scene.assert_old();
}

#[test]
fn check_is_told_to_end_with_1_and_goes_on_next_time() {
    let mut scene = scene("check");
    let (body, marker) = stuck(&scene);
    scene.rootfs_script("Sync_Enter_00", &body);
    let mut command = scene.device.command(THIMBLE.as_ref(), &["check"]);
    let mut child = command.spawn().expect("it starts");
    wait_for(&marker);
    // SAFETY: no memory is involved; the number is that of our child, which was not waited for.
    assert_eq!(unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGTERM) }, 0);
    let begin = Instant::now();
    assert_eq!(child.wait().expect("its end").code(), Some(1));
    assert!(begin.elapsed() < SOON);
    is_gone(&marker);
    scene.rootfs_script("Sync_Enter_00", "");
    scene.offer(&Scene::release());
    assert_eq!(scene.update().code, 0);
    scene.assert_new();
}
