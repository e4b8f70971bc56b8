//! `check`: what is due, then the end; and the table of exit codes in README.md.
#![allow(clippy::expect_used, clippy::panic)] // These are tests.

use std::collections::BTreeSet;
use std::fs;
use thimble_testkit::{Act, ArtifactSpec, DeviceOptions, ID, Options, Rule, Scene, What};

const THIMBLE: &str = env!("CARGO_BIN_EXE_thimble");

fn hourly(name: &str, scale: &str) -> Scene {
    let config = [("UpdatePollIntervalSeconds", "3600"), ("InventoryPollIntervalSeconds", "3600")];
    let config = config.map(|(a, b)| (a.to_owned(), b.to_owned())).to_vec();
    let agent_env = vec![("THIMBLE_TIME_SCALE".to_owned(), scale.to_owned())];
    let options = DeviceOptions { config, agent_env, ..DeviceOptions::default() };
    Scene::with(name, THIMBLE, Options::default(), options)
}

#[test]
fn with_if_due_it_runs_nothing_and_asks_nobody_before_its_time() {
    let mut scene = hourly("notdue", "1");
    scene.run(&["check", "--if-due"]).expect(0);
    let requests = scene.server.requests().len();
    // From here on each script and each request would show.
    scene.rootfs_script("Sync_Enter_00", "");
    scene.device.write_script(
        "usr/share/mender/inventory/mender-inventory-testkit",
        &scene.script("inventory", "echo kernel=other"),
    );
    scene.offer(&ArtifactSpec::empty("release-2"));
    for _ in 0..3 {
        scene.run(&["check", "--if-due"]).expect(0);
    }
    assert_eq!(scene.server.requests().len(), requests);
    assert_eq!(scene.scripts_ran(), Vec::<String>::new());
    // A restart of the machine makes it due again.
    scene.device.boot();
    scene.run(&["check", "--if-due"]).expect(0);
    assert_eq!(scene.artifact_name(), "release-2");
}

#[test]
fn with_if_due_a_check_that_failed_is_due_again() {
    let scene = hourly("failed", "1");
    scene.server.rule(Rule { on: What::Next, skip: 0, times: 1, act: Act::error(500) });
    scene.run(&["check", "--if-due"]).expect(1);
    scene.run(&["check", "--if-due"]).expect(0);
    assert_eq!(scene.server.requests_of(What::Next).len(), 2);
    scene.run(&["check", "--if-due"]).expect(0);
    assert_eq!(scene.server.requests_of(What::Next).len(), 2);
}

#[test]
fn with_if_due_an_update_in_progress_goes_on_at_once() {
    let mut scene = hourly("progress", "0.001");
    scene.offer(&Scene::release());
    let ran = scene.run(&["check", "--if-due"]);
    assert_eq!((ran.code, scene.device.reboots_asked()), (None, 1), "{ran:#?}");
    scene.device.boot();
    scene.run(&["check", "--if-due"]).expect(0);
    scene.assert_success_reported();
    scene.assert_new();

    // One that waits, too, though the server was asked a moment ago.
    let scene = hourly("waits", "1");
    let marker = scene.path().join("later");
    let body = format!("[ -e '{0}' ] || {{ touch '{0}'; exit 21; }}", marker.display());
    scene.rootfs_script("Download_Leave_00", &body);
    scene.offer(&ArtifactSpec::empty("release-2"));
    scene.run(&["check", "--if-due", "--max-wait", "0"]).expect(6);
    scene.run(&["check", "--if-due", "--max-wait", "0"]).expect(6).complains("again");
    assert_eq!(scene.scripts_ran(), ["Download_Leave_00"], "not before its time");
}

#[test]
fn a_check_carries_on_where_one_of_the_same_boot_left_waiting() {
    let scene = hourly("carry", "0.01");
    let marker = scene.path().join("later");
    let body = format!("[ -e '{0}' ] || {{ touch '{0}'; exit 21; }}", marker.display());
    scene.rootfs_script("Download_Leave_00", &body);
    scene.offer(&ArtifactSpec::empty("release-2"));
    // 60 s until the next try of a script are 0.6 s here.
    scene.run(&["check", "--max-wait", "0"]).expect(6);
    scene.run(&["check", "--max-wait", "30"]).expect(0);
    assert_eq!(scene.scripts_ran(), ["Download_Leave_00", "Download_Leave_00"]);
    assert_eq!(scene.server.requests_of(What::Artifact).len(), 1, "it is not downloaded again");
    assert_eq!(scene.finals(), ["success"]);
    assert_eq!(scene.artifact_name(), "release-2");
}

/// The cells of the table of exit codes that say something: code and column.
fn promised() -> BTreeSet<(i32, usize)> {
    let readme = include_str!("../README.md");
    let (_, section) = readme.split_once("## Exit codes").expect("the section");
    let mut cells = BTreeSet::new();
    for line in
        section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'))
    {
        let fields: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let Ok(code) = fields[0].parse() else { continue };
        cells.extend((1..fields.len()).filter(|i| !fields[*i].is_empty()).map(|i| (code, i)));
    }
    cells
}

const CHECK: usize = 1;
const STANDALONE: usize = 2;
const OTHERS: usize = 3;

#[test]
fn the_exit_codes_are_those_of_the_readme() {
    let mut kept = BTreeSet::new();
    let mut keeps = |code: i32, column: usize| {
        kept.insert((code, column));
        code
    };

    let scene = Scene::new("codes", THIMBLE);
    scene.run(&["check"]).expect(keeps(0, CHECK));
    for args in
        [&["show-artifact"][..], &["show-provides"], &["send-inventory"], &["bootstrap"], &["--version"]]
    {
        scene.run(args).expect(keeps(0, OTHERS));
    }
    scene.run(&["check-update"]).expect(keeps(1, OTHERS));
    for args in ["commit", "rollback", "resume"] {
        scene.run(&[args]).expect(keeps(2, STANDALONE));
    }
    scene.run(&["install", "/no/such/file"]).expect(keeps(1, STANDALONE));
    let other = scene.artifact(&Scene::release().device_types(&["other"])).display().to_string();
    scene.run(&["install", &other]).expect(1);
    let artifact = scene.artifact(&Scene::release()).display().to_string();
    scene.run(&["install", "--reboot-exit-code", &artifact]).expect(keeps(4, STANDALONE));
    scene.run(&["rollback"]).expect(keeps(0, STANDALONE));
    scene.run(&["install", "--stop-before", "ArtifactInstall_Enter", &artifact]).expect(0);
    scene.run(&["resume", "--reboot-exit-code"]).expect(4);
    scene.run(&["rollback"]).expect(0);
    scene.run(&["install", &artifact]).expect(0);

    // A server that is down, a broken configuration.
    let down = Scene::configured("down", THIMBLE, &[("ServerURL", "\"http://127.0.0.1:1\"")]);
    down.run(&["check"]).expect(keeps(1, CHECK));
    down.run(&["send-inventory"]).expect(1);
    down.device.write("etc/mender/mender.conf", "{");
    for args in ["check", "daemon", "show-artifact", "commit"] {
        down.run(&[args]).expect(1);
    }

    let busy = Scene::new("busy", THIMBLE);
    busy.server.rule(Rule { on: What::Inventory, skip: 0, times: 1, act: Act::Hang });
    let mut daemon = busy.daemon();
    busy.wait_until(|server| !server.requests_of(What::Inventory).is_empty());
    busy.run(&["check"]).expect(keeps(3, CHECK));
    busy.run(&["daemon"]).expect(1);
    busy.run(&["commit"]).expect(1);
    assert_eq!(daemon.stop(), Some(0), "`daemon` ends with 0 when it is told to");

    let failed = Scene::new("failed", THIMBLE);
    failed.offer(&Scene::release().device_types(&["other"]));
    failed.run(&["check"]).expect(keeps(5, CHECK));
    failed.run(&["check"]).expect(0);

    let waits = Scene::new("waits", THIMBLE);
    waits.rootfs_script("Download_Enter_00", "exit 21");
    waits.offer(&ArtifactSpec::empty("release-2"));
    waits.run(&["check", "--max-wait", "0"]).expect(keeps(6, CHECK));

    assert_eq!(kept, promised(), "the table in README.md");
}

#[test]
fn a_restart_in_the_middle_ends_thimble_and_the_next_check_finishes() {
    let mut scene = Scene::new("restart", THIMBLE);
    scene.offer(&Scene::release());
    let ran = scene.run(&["check"]);
    assert_eq!((ran.code, ran.signal), (None, Some(9)), "{ran:#?}");
    scene.device.boot();
    scene.run(&["check"]).expect(0);
    assert_eq!(scene.server.statuses(ID).last().map(String::as_str), Some("success"));
    scene.assert_new();
}

#[test]
fn one_shot_runs_leave_nothing_behind_but_their_files_in_run() {
    let scene = Scene::new("leave", THIMBLE);
    scene.run(&["check"]).expect(0);
    let names = |path: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(scene.device.root().join(path)).expect("the directory");
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    let store = names("var/lib/mender");
    let run = names("run");
    for _ in 0..3 {
        scene.run(&["check"]).expect(0);
    }
    assert_eq!((names("var/lib/mender"), names("run")), (store, run.clone()));
    assert_eq!(run, ["thimble-times", "thimble-token"].map(str::to_owned).into());
}
