//! A daemon at rest costs nothing: one thread, no wake-ups but those that are due, no descriptor and no memory that
//! adds up.
#![allow(clippy::expect_used, clippy::panic)] // These are tests.

use std::time::Duration;
use thimble_testkit::{Act, ArtifactSpec, Content, DeviceOptions, ID, Options, Rule, Scene, Watch, What};

const THIMBLE: &str = env!("CARGO_BIN_EXE_thimble");

/// How long nothing is due.
const WINDOW: Duration = Duration::from_secs(2);

/// A wake-up may still be on its way when the window begins; a clock tick is the measure's own grain.
const WAKES: u64 = 1;
const TICKS: u64 = 1;

fn scene(name: &str, scale: &str, interval: &str) -> Scene {
    let config = [
        ("UpdatePollIntervalSeconds", interval),
        ("InventoryPollIntervalSeconds", interval),
        ("RetryPollIntervalSeconds", "300"),
    ];
    let config = config.map(|(a, b)| (a.to_owned(), b.to_owned())).to_vec();
    let agent_env = vec![("THIMBLE_TIME_SCALE".to_owned(), scale.to_owned())];
    Scene::with(
        name,
        THIMBLE,
        Options::default(),
        DeviceOptions { config, agent_env, ..DeviceOptions::default() },
    )
}

#[track_caller]
fn assert_rests(watch: Watch, where_: &str) {
    watch.settle();
    let (wakes, ticks) = watch.unrest(WINDOW);
    assert!(wakes <= WAKES && ticks <= TICKS, "{where_}: {wakes} wake-ups, {ticks} ticks in {WINDOW:?}");
    assert_eq!(watch.threads(), 1, "{where_}");
}

#[test]
fn in_idle_and_after_signals() {
    let scene = scene("idle", "1", "80000");
    let mut daemon = scene.daemon();
    let watch = Watch::new(daemon.pid());
    scene.wait_until(|server| server.requests_of(What::Next).len() == 1);
    assert_rests(watch, "idle");
    daemon.signal(libc::SIGUSR1);
    scene.wait_until(|server| server.requests_of(What::Next).len() == 2);
    assert_rests(watch, "after SIGUSR1");
    assert_eq!(scene.server.requests().len(), 4, "authentication, inventory, two checks");
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn in_idle_when_the_server_hangs_up() {
    let scene = scene("gone", "1", "80000");
    let mut daemon = scene.daemon();
    let watch = Watch::new(daemon.pid());
    scene.wait_until(|server| server.requests_of(What::Next).len() == 1);
    watch.settle();
    // The server closes the connection that the daemon may keep: nothing to wake up for.
    scene.server.hang_up();
    assert_rests(watch, "closed connection");
    daemon.signal(libc::SIGUSR2);
    scene.wait_until(|server| {
        server.requests_of(What::Inventory).iter().filter(|r| r.status == 200).count() == 2
    });
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn while_a_download_stands_still() {
    let scene = scene("stall", "1", "80000");
    scene.offer(&Scene::release());
    scene.server.rule(Rule { on: What::Artifact, skip: 0, times: 1, act: Act::HangAfter { bytes: 1500 } });
    let mut daemon = scene.daemon();
    scene.wait_until(|server| server.requests_of(What::Artifact).last().is_some_and(|get| get.sent >= 1500));
    assert_rests(Watch::new(daemon.pid()), "a download that stands still");
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn while_a_download_comes_there_is_one_thread() {
    let scene = scene("threads", "1", "80000");
    let blocks = (0..30).map(|seed| Content::Pattern { size: 4096, seed });
    let image = Content::Bytes(blocks.flat_map(|block| block.bytes()).collect());
    scene.offer(&ArtifactSpec::rootfs("release-2", image));
    let act = Act::Slow { bytes_per_second: 100_000 };
    scene.server.rule(Rule { on: What::Artifact, skip: 0, times: 1, act });
    let mut daemon = scene.daemon();
    let watch = Watch::new(daemon.pid());
    for part in [1, 30_000, 60_000, 90_000] {
        scene.wait_until(|server| {
            server.requests_of(What::Artifact).last().is_some_and(|get| get.sent >= part)
        });
        assert_eq!(watch.threads(), 1);
    }
    assert_eq!(daemon.wait(), None, "the reboot");
}

#[test]
fn while_a_script_or_a_back_off_takes_its_time() {
    for (place, body) in [("Sync_Enter_00", "exec sleep 600"), ("Sync_Enter_00", "exit 21")] {
        let scene = scene("script", "1", "80000");
        let marker = scene.path().join("runs");
        scene.rootfs_script(place, &format!("touch '{}'; {body}", marker.display()));
        let mut daemon = scene.daemon();
        while !marker.exists() {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_rests(Watch::new(daemon.pid()), body);
        assert_eq!(daemon.stop(), Some(0));
    }
    let scene = scene("backoff", "1", "80000");
    scene.server.rule(Rule { on: What::Any, skip: 0, times: usize::MAX, act: Act::error(503) });
    let mut daemon = scene.daemon();
    scene.wait_until(|server| server.requests().len() >= 2);
    assert_rests(Watch::new(daemon.pid()), "back-off");
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn it_wakes_up_only_when_something_is_due() {
    // Every half second; no script of the device runs for a check.
    let scene = scene("due", "0.01", "50");
    let mut daemon = scene.daemon();
    let watch = Watch::new(daemon.pid());
    let checks = || scene.server.requests_of(What::Next).len() as u64;
    scene.wait_until(|server| server.requests_of(What::Next).len() == 2);
    let before = (watch.waits(), checks());
    scene.wait_until(|server| server.requests_of(What::Next).len() == 8);
    let (waits, checks) = (watch.waits() - before.0, checks() - before.1);
    // A round is a check and an inventory with its script: some waits for answers and for the script's output.
    assert!(waits <= 60 * checks, "{waits} waits for {checks} rounds");
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn neither_descriptors_nor_memory_add_up_over_a_hundred_polls() {
    for keep_alive in [true, false] {
        let config = [("UpdatePollIntervalSeconds", "5"), ("InventoryPollIntervalSeconds", "5")];
        let config = config.map(|(a, b)| (a.to_owned(), b.to_owned())).to_vec();
        let options = DeviceOptions { config, ..DeviceOptions::default() };
        let server = Options { keep_alive, ..Options::default() };
        let scene = Scene::with("adds", THIMBLE, server, options);
        let mut daemon = scene.daemon();
        let watch = Watch::new(daemon.pid());
        // At the same place of a round: an answer to a check has just been given.
        let polls = |count| scene.wait_until(|server| server.requests_of(What::Next).len() >= count);
        polls(50);
        let first = (watch.descriptors(), watch.number("VmHWM"));
        polls(150);
        let last = (watch.descriptors(), watch.number("VmHWM"));
        // A script and a connection may or may not be there at that moment.
        assert!(last.0.len() <= first.0.len() + 8 && last.0.len() < 16, "{:?}\n{:?}", first.0, last.0);
        assert!(last.1 <= first.1 + 64, "peak memory grew from {} to {} kB", first.1, last.1);
        assert_eq!(watch.threads(), 1);
        assert_eq!(daemon.stop(), Some(0));
        assert_eq!(scene.server.violations(), Vec::<String>::new());
    }
}

#[test]
fn neither_failures_nor_updates_add_up() {
    let scene = scene("updates", "0.001", "5");
    let good = scene.artifact(&ArtifactSpec::empty("release-2"));
    let bad = scene.artifact(&ArtifactSpec::empty("release-3").device_types(&["other"]));
    let id = |n: usize| format!("00000000-0000-4000-8000-{n:012}");
    for n in 0..30 {
        let (file, name) = if n % 2 == 0 { (&good, "release-2") } else { (&bad, "release-3") };
        scene.offer_file(&id(n), file, name);
    }
    let mut daemon = scene.daemon();
    let watch = Watch::new(daemon.pid());
    let ended = |server: &thimble_testkit::Server, n: usize| {
        server.statuses(&id(n)).last().is_some_and(|last| last == "success" || last == "failure")
    };
    scene.wait_until(|server| ended(server, 5));
    let first = watch.number("VmHWM");
    scene.wait_until(|server| ended(server, 29));
    let last = watch.number("VmHWM");
    assert!(last <= first + 128, "peak memory grew from {first} to {last} kB");
    assert!(watch.descriptors().len() < 16, "{:?}", watch.descriptors());
    assert_eq!(daemon.stop(), Some(0));
    assert_eq!(scene.server.statuses(ID), ["downloading", "failure"], "the second of them");
}

#[test]
fn without_a_server_or_a_configuration_it_runs_warns_and_rests() {
    for whole in [true, false] {
        let scene = scene("nothing", "1", "80000");
        let config = scene.device.root().join("etc/mender/mender.conf");
        if whole {
            std::fs::remove_file(config).expect("remove it");
        } else {
            std::fs::write(config, "{\"RetryPollIntervalSeconds\": 300}").expect("write it");
        }
        let mut daemon = scene.daemon();
        assert_rests(Watch::new(daemon.pid()), "no server");
        assert_eq!(daemon.stop(), Some(0), "{}", scene.daemon_log());
        assert!(scene.daemon_log().contains("no server is configured"), "{}", scene.daemon_log());
    }
}
