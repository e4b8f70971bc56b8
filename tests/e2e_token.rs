//! The token in /run, for one-shot runs and for applications (`thimble-dbus` serves it): daemon, `check` and `bootstrap`
//! leave it there, and whoever loses it takes it away.
#![allow(clippy::expect_used, clippy::panic)] // These are tests.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use thimble_testkit::{ID, Scene, What};

const THIMBLE: &str = env!("CARGO_BIN_EXE_thimble");
const TOKEN: &str = "header.payload.signature";

fn file(scene: &Scene) -> PathBuf {
    scene.device.root().join("run/thimble-token")
}

/// The token in the file, which must be whole and closed to others; `None`: there is no file.
fn kept(scene: &Scene) -> Option<String> {
    let text = fs::read_to_string(file(scene)).ok()?;
    let mode = fs::metadata(file(scene)).ok()?.permissions().mode() & 0o7777;
    assert_eq!(mode, 0o600);
    let [format, _fingerprint, server, token] = text.lines().collect::<Vec<_>>()[..] else {
        panic!("{text:?}")
    };
    assert_eq!((format, server), ("thimble token 1", scene.server.url().as_str()));
    Some(token.to_owned())
}

fn authentications(scene: &Scene) -> usize {
    scene.server.requests_of(What::Auth).len()
}

#[test]
fn the_daemon_leaves_each_of_its_tokens() {
    let scene = Scene::configured("daemon", THIMBLE, &[("UpdatePollIntervalSeconds", "80000")]);
    let mut daemon = scene.daemon();
    scene.wait_until(|server| !server.requests_of(What::Next).is_empty());
    assert_eq!(kept(&scene).as_deref(), Some(TOKEN));
    scene.server.expire_tokens();
    daemon.signal(libc::SIGUSR2);
    scene.wait_until(|_| kept(&scene).is_some_and(|token| token == format!("{TOKEN}1")));
    assert_eq!(daemon.stop(), Some(0), "{}", scene.daemon_log());
    assert_eq!(authentications(&scene), 2);
    scene.run(&["check"]).expect(0);
    assert_eq!(authentications(&scene), 2, "a one-shot run goes on with it");
}

#[test]
fn a_daemon_that_is_refused_takes_its_token_away() {
    let scene = Scene::configured("refused", THIMBLE, &[("UpdatePollIntervalSeconds", "80000")]);
    let mut daemon = scene.daemon();
    scene.wait_until(|server| !server.requests_of(What::Next).is_empty());
    assert!(kept(&scene).is_some());
    scene.server.expire_tokens();
    scene.server.accept(false);
    daemon.signal(libc::SIGUSR2);
    scene.wait_until(|_| kept(&scene).is_none());
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn a_daemon_that_starts_authenticates_anew_and_replaces_the_old_token() {
    let scene = Scene::configured("anew", THIMBLE, &[("UpdatePollIntervalSeconds", "80000")]);
    scene.run(&["check"]).expect(0);
    scene.server.expire_tokens();
    let mut daemon = scene.daemon();
    scene.wait_until(|_| kept(&scene).is_some_and(|token| token == format!("{TOKEN}1")));
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn after_an_update_the_token_is_the_one_that_the_new_system_got() {
    let mut scene = Scene::new("update", THIMBLE);
    scene.offer(&Scene::release());
    let mut daemon = scene.daemon();
    assert_eq!(daemon.wait(), None, "the reboot");
    scene.device.boot();
    // /run does not outlive a boot.
    let _ = fs::remove_file(file(&scene));
    scene.server.expire_tokens();
    let mut daemon = scene.daemon();
    scene.wait_until(|server| server.statuses(ID).last().is_some_and(|last| last == "success"));
    assert_eq!(daemon.stop(), Some(0), "{}", scene.daemon_log());
    assert_eq!(kept(&scene).as_deref(), Some("header.payload.signature1"));
}

#[test]
fn bootstrap_leaves_its_token_for_applications_and_the_next_check() {
    let scene = Scene::new("bootstrap", THIMBLE);
    scene.run(&["bootstrap"]).expect(0);
    assert_eq!(kept(&scene).as_deref(), Some(TOKEN));
    scene.run(&["check"]).expect(0);
    assert_eq!(authentications(&scene), 1);
    scene.server.expire_tokens();
    scene.run(&["bootstrap"]).expect(0);
    assert_eq!(kept(&scene), Some(format!("{TOKEN}1")), "asked for a new one, it gets a new one");
}
