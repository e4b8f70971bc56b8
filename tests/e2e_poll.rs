//! What an idle poll costs: processor, system calls, bytes on the wire, against the budgets in `.ci/budgets`.
//!
//! The agent polls over https with a token of 800 bytes. `THIMBLE_BIN` names the program to measure, the release build
//! say; without it the test's own is measured, whose processor time says nothing and is not judged.
#![allow(clippy::expect_used, clippy::panic)] // These are tests.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;
use thimble_testkit::{
    DeviceOptions, Options, Scene, Server, TempDir, Trace, Traffic, Watch, What, budget, make_certificates,
    measured,
};

const THIMBLE: &str = env!("CARGO_BIN_EXE_thimble");

/// How many polls are measured. An interval more or less at the edges is then one in a hundred.
const POLLS: usize = 100;

fn scene(dir: &TempDir, config: &[(&str, &str)]) -> Scene {
    let certificates = make_certificates(dir.path()).expect("certificates");
    let server = Options { tls: Some(certificates.tls()), token: "t".repeat(800), ..Options::default() };
    let mut all = vec![("ServerCertificate".to_owned(), format!("\"{}\"", certificates.ca.display()))];
    // One poll after the other, no inventory. Apart, what the machine takes to wake up and to fill its caches again is
    // counted too: as much again on virtual machines, and never twice the same.
    all.push(("UpdatePollIntervalSeconds".to_owned(), "1".to_owned()));
    all.push(("InventoryPollIntervalSeconds".to_owned(), "2000000".to_owned()));
    all.extend(config.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let bundle = "SSL_CERT_FILE".to_owned();
    let device = DeviceOptions {
        config: all,
        agent_env: vec![(bundle, certificates.ca.display().to_string())],
        ..DeviceOptions::default()
    };
    Scene::with("poll", &measured(THIMBLE).0.to_string_lossy(), server, device)
}

fn polls(server: &Server) -> usize {
    // Counted, not copied: what the test does on the other half of a core, the daemon is charged for.
    server.count_of(What::Next)
}

/// The system calls of a daemon from one poll to another, [`POLLS`] later.
fn calls(scene: &Scene, pid: u32) -> Vec<String> {
    let trace = Trace::begin(pid, &scene.path().join("trace"));
    let before = polls(&scene.server);
    scene.wait_until(|server| polls(server) >= before + POLLS + 3);
    let all = trace.end();
    // What a poll does last is to say that there is nothing to do.
    let ends: Vec<usize> = (0..all.len()).filter(|&n| ends_poll(&all[n])).collect();
    assert!(ends.len() > POLLS, "only {} polls in the trace", ends.len());
    all[ends[0] + 1..=ends[POLLS]].to_vec()
}

fn ends_poll(line: &str) -> bool {
    line.contains("write(2, ") && line.contains("no deployment")
}

/// How often processor time is measured: the least counts, as what else the machine does only ever adds to it. A busy
/// machine may need many rounds for one that is its own.
const ROUNDS: std::ops::RangeInclusive<usize> = 10..=100;

/// What [`POLLS`] polls cost.
struct Cost {
    /// The least and the most of [`ROUNDS`], and how many these were.
    cpu_ms: (f64, f64, usize),
    calls: f64,
    traffic: Traffic,
}

fn measure(scene: &Scene, enough_ms: f64) -> Cost {
    let mut daemon = scene.daemon();
    let watch = Watch::new(daemon.pid());
    // The first ones make the key, authenticate, read the certificates; and files that were written in the last 3 s are
    // read again each time.
    scene.wait_until(|server| polls(server) >= 2000);
    let mut cpu_ms = (f64::INFINITY, 0.0_f64, 0);
    let (from, before) = (polls(&scene.server), scene.server.traffic());
    while cpu_ms.2 < *ROUNDS.start() || (cpu_ms.0 > enough_ms && cpu_ms.2 < *ROUNDS.end()) {
        let round = cpu_ms.2 + 1;
        let used = watch.cpu();
        scene.wait_until(|server| polls(server) >= from + round * POLLS);
        let used = (watch.cpu() - used).as_secs_f64() * 1e3;
        cpu_ms = (cpu_ms.0.min(used), cpu_ms.1.max(used), round);
    }
    let after = scene.server.traffic();
    let polls = (cpu_ms.2 * POLLS) as u64;
    let traffic = Traffic {
        received: (after.received - before.received) / polls,
        sent: (after.sent - before.sent) / polls,
        connections: after.connections - before.connections,
    };
    let calls = calls(scene, daemon.pid());
    assert_eq!(watch.threads(), 1);
    assert_eq!(daemon.stop(), Some(0), "{}", scene.daemon_log());
    assert_eq!(scene.server.violations(), Vec::<String>::new());
    if let Ok(path) = std::env::var("THIMBLE_TRACE") {
        // For whoever wants to know which calls.
        fs::write(path, calls.join("\n") + "\n").expect("THIMBLE_TRACE can be written");
    }
    Cost { cpu_ms, calls: calls.len() as f64 / POLLS as f64, traffic }
}

/// Milliseconds of CPU that the kernel alone takes for [`POLLS`] connections with as many bytes, back and forth twice:
/// no TLS, no HTTP, no files.
fn bare_connections() -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let used = || {
        let text = fs::read_to_string("/proc/thread-self/schedstat").expect("schedstat");
        text.split_whitespace().next().and_then(|n| n.parse::<f64>().ok()).expect("nanoseconds") / 1e6
    };
    let talk = |stream: &mut TcpStream, first: bool| {
        for step in [true, false, true, false] {
            let mut bytes = [0; 400];
            if step == first { stream.write_all(&bytes) } else { stream.read_exact(&mut bytes) }
                .expect("a friend");
        }
    };
    std::thread::scope(|threads| {
        threads.spawn(|| {
            for stream in listener.incoming().take(POLLS) {
                talk(&mut stream.expect("a connection"), false);
            }
        });
        let before = used();
        for _ in 0..POLLS {
            talk(&mut TcpStream::connect(address).expect("a connection"), true);
        }
        used() - before
    })
}

#[test]
fn a_poll_on_a_new_connection_is_within_its_budgets() {
    let dir = TempDir::new("poll");
    let scene = scene(&dir, &[]);
    let judged = measured(THIMBLE).1;
    let Cost { cpu_ms, calls, traffic } =
        measure(&scene, if judged { budget("poll-cpu") } else { f64::INFINITY });
    let (Traffic { received, sent, connections }, (least, most, rounds)) = (traffic, cpu_ms);
    eprintln!(
        "100 polls on new connections: {least:.1} to {most:.1} ms of CPU in {rounds} rounds; a poll: {calls:.1} system calls, {received} + {sent} = {} \
         bytes",
        received + sent
    );
    assert!(connections.abs_diff((rounds * POLLS) as u64) <= rounds as u64, "{connections} connections");
    assert!(calls <= budget("poll-calls"), "{calls} system calls");
    assert!((received + sent) as f64 <= budget("poll-bytes"), "{received} + {sent} bytes");
    let bare = (0..10).map(|_| bare_connections()).fold(f64::INFINITY, f64::min);
    eprintln!("100 bare connections: {bare:.1} ms of CPU");
    if judged {
        // A slow machine is judged by its own measure: where ours was written, 100 bare connections take 11 ms.
        let bound = budget("poll-cpu").max(5.5 * bare);
        assert!(least <= bound, "{least} ms of CPU at the least, may be {bound}");
    }
}

#[test]
fn between_polls_a_daemon_makes_no_system_call() {
    let dir = TempDir::new("rest");
    let scene = scene(&dir, &[("UpdatePollIntervalSeconds", "2000000")]);
    let mut daemon = scene.daemon();
    let watch = Watch::new(daemon.pid());
    scene.wait_until(|server| polls(server) == 1);
    watch.settle();
    let trace = Trace::begin(daemon.pid(), &scene.path().join("trace"));
    std::thread::sleep(Duration::from_secs(3));
    let calls = trace.end();
    // The wait that was going on when the trace began.
    assert!(calls.len() <= 1 && calls.iter().all(|call| call.contains("ppoll")), "{calls:#?}");
    assert_eq!(watch.threads(), 1);
    assert_eq!(daemon.stop(), Some(0));
}

/// One `check`, followed by strace: its own calls, without those of the identity script.
fn check(scene: &Scene) -> (usize, Traffic) {
    let trace = scene.path().join("trace");
    let before = scene.server.traffic();
    let device = scene.device.root();
    let status = Command::new("strace")
        .args(["-f", "-o"])
        .arg(&trace)
        .arg(scene.thimble())
        .arg("--root")
        .arg(&device)
        .arg("check")
        .env("SSL_CERT_FILE", "/nowhere")
        .stderr(Stdio::null())
        .status()
        .expect("strace (Debian package strace)");
    assert!(status.success(), "{status}");
    let text = fs::read_to_string(trace).expect("the trace");
    let own = text.split_whitespace().next().expect("a process number").to_owned();
    let calls = text
        .lines()
        .filter(|line| line.starts_with(&own) && !line.contains(" resumed>") && !line.contains(" --- "));
    let (calls, after) = (calls.count(), scene.server.traffic());
    let traffic = Traffic {
        received: after.received - before.received,
        sent: after.sent - before.sent,
        connections: after.connections - before.connections,
    };
    (calls, traffic)
}

#[test]
fn a_check_with_a_kept_token_costs_one_connection() {
    let dir = TempDir::new("check");
    let scene = scene(&dir, &[]);
    scene.run(&["check"]).expect(0); // makes the key, sends the inventory
    let (calls, traffic) = check(&scene);
    eprintln!("check, token kept: {calls} system calls, {traffic:?}");
    assert_eq!(traffic.connections, 1);
    fs::remove_file(scene.device.root().join("run/thimble-token")).expect("the token was kept");
    let (calls, traffic) = check(&scene);
    eprintln!("check, no token: {calls} system calls, {traffic:?}");
    assert_eq!(traffic.connections, 2);
}
