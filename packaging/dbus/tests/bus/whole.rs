//! An application written for Mender 3, thimble-dbus, the agent and a server, all together.

use crate::device::{AUTHENTICATION, Device, good, wait_for};
use std::path::{Path, PathBuf};
use thimble_testkit::{ID, Scene, What};

const MAP: &str = "12345678-90ab-cdef-1234-567890abcdef";

/// The agent's program, which cargo puts beside ours.
fn agent() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_thimble-dbus")).with_file_name("thimble");
    assert!(path.exists(), "the agent is missing: cargo build --package thimble");
    path
}

fn scene(name: &str) -> Scene {
    let config = [("UpdateControlMapExpirationTimeSeconds", "600"), ("UpdatePollIntervalSeconds", "80000")];
    Scene::configured(name, &agent().display().to_string(), &config)
}

fn map(states: &str) -> String {
    format!(r#"{{"id":"{MAP}","priority":0,"states":{{{states}}}}}"#)
}

fn last_is(scene: &Scene, status: &str) {
    scene.wait_until(|server| server.statuses(ID).last().is_some_and(|last| last == status));
}

#[test]
fn an_application_holds_an_update_up_and_lets_it_go_on() {
    let mut scene = scene("whole");
    scene.offer(&Scene::release());
    let device = Device::around(&scene.device.root());
    let _running = device.serve(&[]);
    let pause = r#""ArtifactInstall_Enter":{"action":"pause"},"ArtifactCommit_Enter":{"action":"pause"}"#;
    assert_eq!(good(device.set(&map(pause))), "(300,)\n");
    let mut daemon = scene.daemon();
    last_is(&scene, "pause_before_installing");
    assert_eq!(device.dropped(), [], "the agent has taken it in");
    good(device.set(&map(r#""ArtifactCommit_Enter":{"action":"pause"}"#)));
    assert_eq!(daemon.wait(), None, "the reboot");
    scene.device.boot();
    let mut daemon = scene.daemon();
    last_is(&scene, "pause_before_committing");
    good(device.set(&map("")));
    last_is(&scene, "success");
    assert_eq!(daemon.stop(), Some(0), "{}", scene.daemon_log());
    scene.assert_new();
}

#[test]
fn an_application_gets_the_daemons_token_and_hears_of_each_new_one() {
    let scene = scene("token");
    let device = Device::around(&scene.device.root());
    let _running = device.serve(&[]);
    let mut monitor = device.monitor();
    let is = |token: &str| format!("('{token}', '{}')", scene.server.url());
    let mut daemon = scene.daemon();
    assert_eq!(monitor.next(), is("header.payload.signature"));
    assert_eq!(device.token(), is("header.payload.signature"));
    scene.wait_until(|server| !server.requests_of(What::Next).is_empty());
    // The application has found out that the token is refused.
    scene.server.expire_tokens();
    assert_eq!(good(device.gdbus(AUTHENTICATION, "FetchJwtToken", &[])), "(true,)\n");
    let mut heard = monitor.next();
    if heard == "('', '')" {
        // Given up, and not yet replaced.
        heard = monitor.next();
    }
    assert_eq!(heard, is("header.payload.signature1"));
    assert_eq!(device.token(), heard);
    assert_eq!(daemon.stop(), Some(0), "{}", scene.daemon_log());
}

#[test]
fn without_a_daemon_an_application_gets_a_token_of_its_own_accord() {
    let scene = scene("oneshot");
    let device = Device::around(&scene.device.root());
    let _running = device.serve(&["--agent", &agent().display().to_string()]);
    let mut monitor = device.monitor();
    assert_eq!(device.token(), "('', '')");
    assert_eq!(good(device.gdbus(AUTHENTICATION, "FetchJwtToken", &[])), "(true,)\n");
    let is = format!("('header.payload.signature', '{}')", scene.server.url());
    assert_eq!(monitor.next(), is);
    assert_eq!(device.token(), is);
    // The next run of the agent uses it, too.
    wait_for("the end of the agent", || {
        let lock = scene.device.root().join("var/lib/mender");
        thimble::store::holder(&lock).is_none().then_some(())
    });
    scene.run(&["check"]).expect(0);
    assert_eq!(scene.server.requests_of(What::Auth).len(), 1);
}
