//! The command line: what is said, the exit codes, and who may work at the same time.
#![allow(clippy::expect_used, clippy::panic)] // These are tests.

use std::fs::{self, File, OpenOptions};
use std::process::{Command, Stdio};
use thimble_testkit::{Act, ArtifactSpec, DeviceOptions, Options, Rule, Scene, What};

const THIMBLE: &str = env!("CARGO_BIN_EXE_thimble");

/// Exit code, standard output, standard error, without any device.
fn plain(args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(THIMBLE).args(args).stdin(Stdio::null()).output().expect("it starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn help_and_version_are_on_standard_output() {
    for args in [&["--help"][..], &["-h"], &["help"], &[], &["install", "--help"]] {
        let (code, out, err) = plain(args);
        assert_eq!((code, &*err), (Some(0), ""), "{args:?}");
        for word in ["check", "daemon", "install", "commit", "rollback", "--root", "Exit codes"] {
            assert!(out.contains(word), "{args:?}: {word}");
        }
    }
    for args in [&["--version"][..], &["-v"], &["daemon", "--version"]] {
        assert_eq!(
            plain(args),
            (Some(0), concat!(env!("CARGO_PKG_VERSION"), "\n").to_owned(), String::new())
        );
    }
}

#[test]
fn every_mistake_ends_with_1_and_names_itself() {
    for (args, named) in [
        (&["instal"][..], "'instal'"),
        (&["install"], "needs"),
        (&["install", "a", "b"], "'b'"),
        (&["commit", "now"], "'now'"),
        (&["--frobnicate", "check"], "--frobnicate"),
        (&["check", "--max-wait"], "--max-wait"),
        (&["check", "--max-wait", "-1"], "--max-wait"),
        (&["check", "--reboot-exit-code"], "--reboot-exit-code"),
        (&["-l", "loud", "check"], "loud"),
        (&["--root", "/no/such/directory", "check"], "/no/such/directory"),
        (&["-commit"], "thimble commit"),
    ] {
        let (code, out, err) = plain(args);
        assert_eq!((code, &*out), (Some(1), ""), "{args:?}: {err}");
        assert!(err.contains(named), "{args:?}: {err}");
    }
}

#[test]
fn a_fresh_device_shows_unknown_and_one_with_a_bootstrap_artifact_shows_that() {
    let options = DeviceOptions { first_artifact: None, ..DeviceOptions::default() };
    let fresh = Scene::with("fresh", THIMBLE, Options::default(), options);
    fresh.run(&["show-artifact"]).expect(0).says("unknown\n");
    fresh.run(&["show-provides"]).expect(0).says("artifact_name=unknown\n");

    let scene = Scene::new("bootstrap", THIMBLE);
    let file = scene.device.root().join("var/lib/mender/bootstrap.mender");
    let spec = ArtifactSpec { group: Some("beta".to_owned()), ..ArtifactSpec::empty("factory") };
    spec.write(&file).expect("write it");
    let ran = scene.run(&["show-provides"]);
    ran.expect(0).says("artifact_group=beta\nartifact_name=factory\nrootfs-image.version=factory\n");
    assert!(!file.exists(), "it is used up");
    // A later one is ignored and removed.
    ArtifactSpec::empty("other").write(&file).expect("write it");
    scene.run(&["show-artifact"]).expect(0).says("factory\n");
    assert!(!file.exists());
}

#[test]
fn a_bad_bootstrap_artifact_is_told_and_used_up() {
    let bad: [(&str, ArtifactSpec); 4] = [
        ("payload", Scene::release()),
        ("scripts", ArtifactSpec::empty("x").script("ArtifactInstall_Enter_00", "#!/bin/sh\n")),
        ("depends", ArtifactSpec { depends_name: vec!["y".to_owned()], ..ArtifactSpec::empty("x") }),
        ("other-board", ArtifactSpec::empty("x").device_types(&["other-board"])),
    ];
    for (why, spec) in bad {
        let scene = Scene::new("badbootstrap", THIMBLE);
        let file = scene.device.root().join("var/lib/mender/bootstrap.mender");
        spec.write(&file).expect("write it");
        let ran = scene.run(&["show-artifact"]);
        ran.expect(0).says("unknown\n").complains("bootstrap.mender").complains(why);
        assert!(!file.exists());
    }
    let scene = Scene::new("garbage", THIMBLE);
    scene.device.write("var/lib/mender/bootstrap.mender", "garbage");
    scene.run(&["show-artifact"]).expect(0).says("unknown\n").complains("bootstrap.mender");
}

#[test]
fn a_second_agent_is_refused_and_told_who_works() {
    let scene = Scene::new("second", THIMBLE);
    scene.server.rule(Rule { on: What::Inventory, skip: 0, times: 1, act: Act::Hang });
    let mut daemon = scene.daemon();
    scene.wait_until(|server| !server.requests_of(What::Inventory).is_empty());
    let pid = format!("pid {} (daemon)", daemon.pid());
    scene.run(&["check"]).expect(3).complains(&pid);
    let artifact = scene.artifact(&Scene::release()).display().to_string();
    for args in [&["daemon"][..], &["install", &artifact], &["commit"], &["rollback"], &["resume"]] {
        scene.run(args).expect(1).complains(&pid);
    }
    // Looking is allowed.
    scene.run(&["show-artifact"]).expect(0).says("release-1\n");
    assert_eq!(daemon.stop(), Some(0), "{}", scene.daemon_log());
    scene.run(&["check"]).expect(0);
}

#[test]
fn check_update_and_send_inventory_wake_the_daemon() {
    let config = [("UpdatePollIntervalSeconds", "80000"), ("InventoryPollIntervalSeconds", "80000")];
    let config = config.map(|(a, b)| (a.to_owned(), b.to_owned())).to_vec();
    let agent_env = vec![("THIMBLE_TIME_SCALE".to_owned(), "1".to_owned())];
    let options = DeviceOptions { config, agent_env, ..DeviceOptions::default() };
    let mut scene = Scene::with("wake", THIMBLE, Options::default(), options);
    let mut daemon = scene.daemon();
    scene.wait_until(|server| server.requests_of(What::Next).len() == 1);
    scene.run(&["send-inventory"]).expect(0);
    scene.wait_until(|server| server.requests_of(What::Inventory).len() == 2);
    scene.run(&["check-update"]).expect(0);
    scene.wait_until(|server| server.requests_of(What::Next).len() == 2);
    scene.offer(&ArtifactSpec::empty("release-2"));
    scene.run(&["check-update"]).expect(0);
    scene.wait_until(|_| scene.daemon_log().contains("finished with status: Success"));
    assert_eq!(daemon.stop(), Some(0));
    scene.assert_settled(2);
}

#[test]
fn without_a_daemon_check_update_is_an_error_and_send_inventory_sends_it() {
    let scene = Scene::new("nodaemon", THIMBLE);
    scene.run(&["check-update"]).expect(1).complains("thimble check");
    scene.run(&["send-inventory"]).expect(0).says("");
    let inventory = scene.server.inventory();
    assert_eq!((&*inventory["artifact_name"], &*inventory["kernel"]), ("release-1", "simulated"));
    scene.run(&["bootstrap"]).expect(0);
    let key = scene.device.root().join("var/lib/mender/mender-agent.pem");
    let before = fs::read(&key).expect("a key");
    scene.run(&["bootstrap", "--forcebootstrap"]).expect(0);
    assert_ne!(fs::read(&key).expect("a key"), before);
    scene.server.accept(false);
    scene.run(&["bootstrap"]).expect(1);
}

#[test]
fn a_check_that_is_not_due_does_nothing() {
    let scene = Scene::configured("due", THIMBLE, &[("UpdatePollIntervalSeconds", "80000")]);
    scene.run(&["check", "--if-due"]).expect(0);
    let requests = scene.server.requests().len();
    scene.run(&["check", "--if-due"]).expect(0);
    assert_eq!(scene.server.requests().len(), requests);
    scene.run(&["check"]).expect(0);
    assert!(scene.server.requests().len() > requests, "asked for, it always asks");
}

#[test]
fn an_inventory_that_has_not_changed_is_sent_once_per_interval() {
    let scene = Scene::configured("inventory", THIMBLE, &[("InventoryPollIntervalSeconds", "80000")]);
    for _ in 0..3 {
        scene.run(&["check"]).expect(0);
    }
    assert_eq!(scene.server.requests_of(What::Inventory).len(), 1);
    scene.device.write_script("usr/share/mender/inventory/mender-inventory-testkit", "#!/bin/sh\necho a=b\n");
    scene.run(&["check"]).expect(0);
    assert_eq!(scene.server.requests_of(What::Inventory).len(), 2);
}

/// A pipe that nobody reads.
fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

#[test]
fn nobody_listening_is_no_reason_to_fail_or_to_panic() {
    let scene = Scene::new("closed", THIMBLE);
    let artifact = scene.artifact(&Scene::release()).display().to_string();
    let full = || OpenOptions::new().write(true).open("/dev/full").expect("open /dev/full");
    for args in
        [&["show-artifact"][..], &["show-provides"], &["--help"], &["install", &artifact], &["rollback"]]
    {
        let ran = scene.run_with(args, |command| {
            command.stdout(closed_pipe());
        });
        ran.expect(0);
    }
    for closed in [false, true] {
        for args in [&["show-artifact"][..], &["check"], &["install", &artifact], &["rollback"]] {
            let ran = scene.run_with(args, |command| {
                if closed {
                    command.stdout(closed_pipe()).stderr(closed_pipe());
                } else {
                    command.stdout(full()).stderr(full());
                }
            });
            ran.expect(0);
        }
    }
    scene.run(&["--log-file", "/dev/full", "check"]).expect(0);
}

#[test]
fn a_log_file_takes_the_log_and_one_that_cannot_be_made_is_named() {
    let scene = Scene::new("logfile", THIMBLE);
    let log = scene.path().join("thimble.log");
    let ran = scene.run(&["-L", &log.display().to_string(), "-l", "DEBUG", "check"]);
    ran.expect(0);
    assert_eq!(ran.stderr, "");
    let text = fs::read_to_string(log).expect("the log");
    assert!(text.contains("inventory sent") && text.contains("DEBUG"), "{text}");
    scene.run(&["-L", "/no/such/directory/log", "check"]).expect(1).complains("/no/such/directory/log");
}

#[test]
fn directories_that_are_none_are_named() {
    let scene = Scene::new("datastore", THIMBLE);
    let new = scene.path().join("new/data");
    scene.run(&["-d", &new.display().to_string(), "show-artifact"]).expect(0).says("unknown\n");
    let file = scene.path().join("file");
    File::create(&file).expect("make it");
    let path = file.display().to_string();
    scene.run(&["-d", &path, "check"]).expect(1).complains(&path);
}
