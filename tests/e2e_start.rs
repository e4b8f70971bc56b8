//! What it takes from the start of `thimble check` to the first byte that it sends: processor time, with a key present,
//! against the budget in `.ci/budgets`.
//!
//! A listener accepts, waits for one byte, asks the kernel what the process has used so far (/proc/PID/schedstat), and
//! hangs up. Over https that byte is the first one of TLS; over http, of the request for a token, which is signed.
#![allow(clippy::expect_used, clippy::panic)] // These are tests.

use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use thimble_testkit::{Scene, TempDir, Watch, budget, make_certificates, measured};

const THIMBLE: &str = env!("CARGO_BIN_EXE_thimble");

/// Starts; the median counts.
const STARTS: usize = 21;

/// Milliseconds of processor time until the first byte.
fn start(program: &Path, root: &Path, scheme: &str, ca: &Path) -> f64 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("its number").port();
    let config = format!(
        "{{\"ServerURL\": \"{scheme}://127.0.0.1:{port}\", \"ServerCertificate\": \"{}\"}}",
        ca.display()
    );
    std::fs::write(root.join("etc/mender/mender.conf"), config).expect("write the configuration");
    // Directly, so that nothing else has used time under this number before.
    let mut child = Command::new(program)
        .arg("--root")
        .arg(root)
        .arg("check")
        .env_remove("THIMBLE_TIME_SCALE")
        .env("SSL_CERT_FILE", ca)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program");
    let (mut stream, _) = listener.accept().expect("it connects");
    stream.read_exact(&mut [0]).expect("it sends");
    let used = Watch::new(child.id()).cpu();
    drop((stream, listener));
    child.wait().expect("it ends");
    used.as_secs_f64() * 1e3
}

#[test]
fn the_first_byte_comes_soon() {
    let (program, judged) = measured(THIMBLE);
    let dir = TempDir::new("start");
    let ca = make_certificates(dir.path()).expect("certificates").ca;
    let scene = Scene::new("start", &program.to_string_lossy());
    scene.run(&["check"]).expect(0); // makes the key
    for scheme in ["https", "http"] {
        let mut times: Vec<f64> =
            (0..STARTS).map(|_| start(&program, &scene.device.root(), scheme, &ca)).collect();
        times.sort_by(f64::total_cmp);
        let median = times[STARTS / 2];
        eprintln!(
            "from start to the first byte over {scheme}: {median:.2} ms of CPU ({:.2} to {:.2})",
            times[0],
            times[STARTS - 1]
        );
        if judged {
            assert!(median <= budget("start-cpu"), "{scheme}: {median} ms");
        }
    }
}
