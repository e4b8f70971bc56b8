//! The daemon's clock: what it does first, how often, and what it does when asked in between. Judged by what arrives at
//! the server.
#![allow(clippy::expect_used, clippy::panic)] // These are tests.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};
use thimble_testkit::{Act, ArtifactSpec, Content, DeviceOptions, ID, Options, Rule, Scene, Server, What};

const THIMBLE: &str = env!("CARGO_BIN_EXE_thimble");
const NEVER: &str = "80000";

/// Intervals in configured seconds, of which each lasts a tenth of a second.
fn scene(name: &str, update: &str, inventory: &str) -> Scene {
    let config = [("UpdatePollIntervalSeconds", update), ("InventoryPollIntervalSeconds", inventory)];
    let config = config.map(|(a, b)| (a.to_owned(), b.to_owned())).to_vec();
    let agent_env = vec![("THIMBLE_TIME_SCALE".to_owned(), "0.1".to_owned())];
    Scene::with(
        name,
        THIMBLE,
        Options::default(),
        DeviceOptions { config, agent_env, ..DeviceOptions::default() },
    )
}

/// What arrived, authentication left out.
fn asked(server: &Server) -> Vec<What> {
    server.requests().iter().map(|request| request.what).filter(|what| *what != What::Auth).collect()
}

fn count(server: &Server, what: What) -> usize {
    server.requests_of(what).len()
}

/// Times between requests of one kind.
fn gaps(server: &Server, what: What) -> Vec<Duration> {
    let times: Vec<Instant> = server.requests_of(what).iter().map(|request| request.arrived).collect();
    times.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

/// A script that goes on when the test says so.
fn held(scene: &Scene) -> String {
    let go = scene.path().join("go");
    format!("while [ ! -e '{}' ]; do sleep 0.02; done", go.display())
}

fn let_go(scene: &Scene) {
    fs::write(scene.path().join("go"), "").expect("make the file");
}

#[test]
fn the_inventory_comes_first_each_errand_with_its_own_scripts() {
    let scene = scene("first", NEVER, NEVER);
    for step in ["Idle", "Sync"] {
        for action in ["Enter", "Leave", "Error"] {
            scene.rootfs_script(&format!("{step}_{action}_00"), "");
        }
    }
    let mut daemon = scene.daemon();
    scene.wait_until(|server| count(server, What::Next) == 1);
    let begin = Instant::now();
    while scene.scripts_ran().len() < 9 && begin.elapsed() < Duration::from_secs(20) {
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(daemon.stop(), Some(0));
    let errand = ["Idle_Enter_00", "Idle_Leave_00", "Sync_Enter_00", "Sync_Leave_00"];
    assert_eq!(scene.scripts_ran(), [&errand[..], &errand[..], &errand[..1]].concat());
    assert_eq!(asked(&scene.server), [What::Inventory, What::Next]);
}

#[test]
fn each_interval_counts_from_the_start_of_its_errand() {
    // Each errand takes half of its interval.
    let scene = scene("start", "12", NEVER);
    scene.rootfs_script("Sync_Enter_00", "sleep 0.6");
    let begin = Instant::now();
    let mut daemon = scene.daemon();
    scene.wait_until(|server| count(server, What::Next) == 4);
    assert_eq!(daemon.stop(), Some(0));
    assert_eq!(count(&scene.server, What::Inventory), 1);
    let gaps = gaps(&scene.server, What::Next);
    let whole = scene.server.requests_of(What::Next)[3].arrived - begin;
    // A request may be late on a busy machine, but not all of them; none comes ahead of its clock.
    assert!(
        gaps.iter().min().expect("some") < &Duration::from_millis(1700),
        "counted from the end: {gaps:?}"
    );
    assert!(whole >= Duration::from_millis(3 * 1200), "too soon: {whole:?}, {gaps:?}");
}

#[test]
fn both_clocks_run_side_by_side() {
    let scene = scene("both", "5", "12");
    let begin = Instant::now();
    let mut daemon = scene.daemon();
    scene.wait_until(|server| count(server, What::Inventory) == 4);
    let took = begin.elapsed();
    assert_eq!(daemon.stop(), Some(0));
    // Three intervals at least have passed, and no check came ahead of its clock.
    assert!(took >= Duration::from_millis(3 * 1200), "{took:?}");
    let checks = count(&scene.server, What::Next);
    let most = 2 + took.as_millis() / 500;
    assert!(checks >= 4 && checks as u128 <= most, "{checks} checks in {took:?}");
}

#[test]
fn a_failed_errand_is_tried_again_by_the_back_off_and_does_not_hold_up_the_other() {
    // The back-off: at least 1 s of 60 configured would be 6 s here, so a short one, used as it is (U15).
    let config = [
        ("UpdatePollIntervalSeconds", NEVER),
        ("InventoryPollIntervalSeconds", NEVER),
        ("RetryPollIntervalSeconds", "5"),
        ("RetryPollCount", "2"),
    ];
    let config = config.map(|(a, b)| (a.to_owned(), b.to_owned())).to_vec();
    let agent_env = vec![("THIMBLE_TIME_SCALE".to_owned(), "0.1".to_owned())];
    let options = DeviceOptions { config, agent_env, ..DeviceOptions::default() };
    let scene = Scene::with("failed", THIMBLE, Options::default(), options);
    scene.server.rule(Rule { on: What::Inventory, skip: 0, times: usize::MAX, act: Act::error(500) });
    let mut daemon = scene.daemon();
    scene.wait_until(|server| count(server, What::Inventory) == 3);
    // Given up after two repeats: the interval counts again.
    thread::sleep(Duration::from_millis(1500));
    assert_eq!(daemon.stop(), Some(0));
    assert_eq!(asked(&scene.server)[..2], [What::Inventory, What::Next], "the check did not wait");
    assert_eq!((count(&scene.server, What::Inventory), count(&scene.server, What::Next)), (3, 1));
    let gaps = gaps(&scene.server, What::Inventory);
    assert!(gaps.iter().all(|gap| *gap >= Duration::from_millis(490)), "{gaps:?}");
}

#[test]
fn an_outage_of_the_server_is_survived_and_ended_without_a_storm() {
    let scene = scene("outage", "5", NEVER);
    scene.server.rule(Rule { on: What::Any, skip: 3, times: 12, act: Act::DropConnection });
    let mut daemon = scene.daemon();
    // 3 served, 12 dropped, then again.
    scene.wait_until(|server| server.requests_of(What::Next).iter().filter(|r| r.status == 204).count() >= 4);
    let times: Vec<Instant> = scene.server.requests().iter().map(|request| request.arrived).collect();
    let begin = times.first().expect("some");
    let busiest = (0..times.len())
        .map(|i| times[i..].iter().take_while(|t| **t - times[i] < Duration::from_millis(90)).count())
        .max();
    assert!(busiest < Some(8), "a storm: {:?}", times.iter().map(|t| *t - *begin).collect::<Vec<_>>());
    scene.offer(&ArtifactSpec::empty("release-2"));
    scene.wait_until(|server| server.statuses(ID).last().is_some_and(|last| last == "success"));
    assert_eq!(daemon.stop(), Some(0));
    assert_eq!(scene.artifact_name(), "release-2");
}

#[test]
fn usr1_and_usr2_in_idle_are_answered_at_once() {
    let scene = scene("usr", NEVER, NEVER);
    let mut daemon = scene.daemon();
    scene.wait_until(|server| count(server, What::Next) == 1);
    for turn in 2..5 {
        daemon.signal(libc::SIGUSR2);
        scene.wait_until(|server| count(server, What::Inventory) == turn);
        daemon.signal(libc::SIGUSR1);
        scene.wait_until(|server| count(server, What::Next) == turn);
    }
    let in_turn = [What::Inventory, What::Next].repeat(4);
    assert_eq!(asked(&scene.server), in_turn, "one signal, one errand");
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn a_forced_check_starts_its_interval_anew() {
    let scene = scene("anew", "20", NEVER);
    let mut daemon = scene.daemon();
    scene.wait_until(|server| count(server, What::Next) == 1);
    thread::sleep(Duration::from_millis(1000));
    let forced = Instant::now();
    daemon.signal(libc::SIGUSR1);
    scene.wait_until(|server| count(server, What::Next) == 3);
    assert_eq!(daemon.stop(), Some(0));
    let after = scene.server.requests_of(What::Next)[2].arrived - forced;
    assert!(after >= Duration::from_secs(2), "{after:?}");
}

#[test]
fn signals_during_an_update_leave_it_alone_and_are_answered_after_it() {
    let mut scene = scene("during", NEVER, NEVER);
    scene.rootfs_script("Download_Enter_00", &held(&scene));
    scene.offer(&ArtifactSpec::empty("release-2"));
    let mut daemon = scene.daemon();
    scene.wait_until(|server| server.statuses(ID) == ["downloading"]);
    for _ in 0..20 {
        daemon.signal(libc::SIGUSR1);
        daemon.signal(libc::SIGUSR2);
    }
    scene.run(&["check-update"]).expect(0);
    scene.run(&["send-inventory"]).expect(0);
    thread::sleep(Duration::from_millis(300));
    let before = [What::Inventory, What::Next, What::Status];
    assert_eq!(asked(&scene.server), before, "it waits for the script");
    let_go(&scene);
    scene.wait_until(|server| count(server, What::Next) == 2);
    thread::sleep(Duration::from_millis(300));
    assert_eq!(daemon.stop(), Some(0));
    // An inventory follows each deployment anyway, and that is the one that was asked for.
    let after: Vec<What> = asked(&scene.server)[5..].to_vec();
    assert_eq!(after, [What::Inventory, What::Next], "forty signals are one of each");
    assert_eq!(scene.finals(), ["success"]);
    assert_eq!(scene.scripts_ran(), ["Download_Enter_00"], "once");
    scene.assert_settled(2);
}

#[test]
fn a_hail_of_signals_during_a_download_changes_nothing() {
    let mut scene = scene("hail", NEVER, NEVER);
    let blocks = (0..40).map(|seed| Content::Pattern { size: 4096, seed });
    let image = Content::Bytes(blocks.flat_map(|block| block.bytes()).collect());
    scene.offer(&ArtifactSpec::rootfs("release-2", image.clone()));
    scene.server.rule(Rule {
        on: What::Artifact,
        skip: 0,
        times: 1,
        act: Act::Slow { bytes_per_second: 150_000 },
    });
    let mut daemon = scene.daemon();
    scene.wait_until(|server| server.requests_of(What::Artifact).last().is_some_and(|get| get.sent > 0));
    while scene.statuses().last().is_some_and(|last| last == "downloading") {
        daemon.signal(libc::SIGUSR1);
        daemon.signal(libc::SIGUSR2);
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(daemon.wait(), None, "the reboot");
    assert_eq!(count(&scene.server, What::Artifact), 1, "one download");
    assert!(scene.device.slot_holds(3, &image));
    scene.device.boot();
    assert_eq!(scene.update().code, 0);
    scene.assert_settled(3);
    scene.assert_success_reported();
}

#[test]
fn a_signal_does_not_cut_short_the_wait_for_a_report() {
    let scene = scene("report", NEVER, NEVER);
    scene.offer(&ArtifactSpec::empty("release-2"));
    // 30 configured seconds are 3 s.
    let headers = vec![("Retry-After".to_owned(), "30".to_owned())];
    let act = Act::Respond { status: 429, headers, body: Vec::new() };
    scene.server.rule(Rule { on: What::StatusOf("success"), skip: 0, times: 1, act });
    let mut daemon = scene.daemon();
    let finals = |server: &Server| -> Vec<Instant> {
        let reports = server.requests_of(What::Status);
        reports.iter().filter(|r| r.text().contains("success")).map(|r| r.arrived).collect()
    };
    scene.wait_until(|server| finals(server).len() == 1);
    daemon.signal(libc::SIGUSR1);
    scene.wait_until(|server| finals(server).len() == 2);
    let times = finals(&scene.server);
    assert!(times[1] - times[0] >= Duration::from_millis(2950), "{times:?}");
    scene.wait_until(|server| count(server, What::Next) == 2);
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn after_each_deployment_the_inventory_is_sent_at_once() {
    let scene = scene("after", "3", NEVER);
    let artifact = scene.artifact(&ArtifactSpec::empty("release-2"));
    let bad = scene.artifact(&ArtifactSpec::empty("release-3").device_types(&["other"]));
    let id = |n: u32| format!("00000000-0000-4000-8000-00000000001{n}");
    scene.offer_file(&id(1), &artifact, "release-2");
    scene.offer_file(&id(2), &bad, "release-3");
    let mut daemon = scene.daemon();
    scene.wait_until(|server| count(server, What::Inventory) == 3);
    assert_eq!(daemon.stop(), Some(0));
    let last = |n: u32| scene.server.statuses(&id(n)).last().cloned();
    assert_eq!((last(1).as_deref(), last(2).as_deref()), (Some("success"), Some("failure")));
    let all = asked(&scene.server);
    let after: Vec<What> =
        (1..all.len()).filter(|i| all[*i] == What::Inventory).map(|i| all[i - 1]).collect();
    assert_eq!(after, [What::Status, What::Log], "right after the last word about the deployment: {all:?}");
    assert_eq!(scene.server.inventory()["artifact_name"], "release-2");
}

#[test]
fn usr1_ends_the_back_off() {
    let config = [
        ("UpdatePollIntervalSeconds", NEVER),
        ("InventoryPollIntervalSeconds", NEVER),
        ("RetryPollIntervalSeconds", "300"),
    ];
    let config = config.map(|(a, b)| (a.to_owned(), b.to_owned())).to_vec();
    let agent_env = vec![("THIMBLE_TIME_SCALE".to_owned(), "1".to_owned())];
    let options = DeviceOptions { config, agent_env, ..DeviceOptions::default() };
    let scene = Scene::with("ends", THIMBLE, Options::default(), options);
    scene.server.rule(Rule { on: What::Next, skip: 0, times: 2, act: Act::error(500) });
    let mut daemon = scene.daemon();
    for turn in 1..=3 {
        // A minute apart by themselves; the test's own limit is less.
        scene.wait_until(|server| count(server, What::Next) == turn);
        daemon.signal(libc::SIGUSR1);
    }
    scene.wait_until(|server| server.requests_of(What::Next).iter().any(|request| request.status == 204));
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn only_a_daemon_that_lives_is_signalled() {
    let scene = scene("lives", NEVER, NEVER);
    let mut daemon = scene.daemon();
    scene.wait_until(|server| count(server, What::Next) == 1);
    daemon.signal(libc::SIGKILL);
    assert_eq!(daemon.wait(), None);
    // The lock file still names it.
    let lock =
        fs::read_to_string(scene.device.root().join("var/lib/mender/thimble.lock")).expect("the lock file");
    assert!(lock.contains(&format!("pid {} (daemon)", daemon.pid())), "{lock}");
    scene.run(&["check-update"]).expect(1).complains("no thimble daemon");
    scene.run(&["send-inventory"]).expect(0);
    assert_eq!(count(&scene.server, What::Inventory), 2, "sent by the command itself");
    // A check at work is no daemon: it is neither signalled nor disturbed.
    scene.rootfs_script("Sync_Enter_00", &held(&scene));
    let mut command = scene.device.command(THIMBLE.as_ref(), &["check"]);
    let mut check = command.stderr(std::process::Stdio::null()).spawn().expect("it starts");
    let begin = Instant::now();
    while scene.scripts_ran().is_empty() && begin.elapsed() < Duration::from_secs(20) {
        thread::sleep(Duration::from_millis(20));
    }
    scene.run(&["check-update"]).expect(1).complains("no thimble daemon");
    scene.run(&["send-inventory"]).expect(1).complains("(check)");
    let_go(&scene);
    assert_eq!(check.wait().expect("its end").code(), Some(0));
}
