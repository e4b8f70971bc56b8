//! Memory: an update of a gibibyte takes no more of it than one of 64 MiB, and that is little; so does a daemon at rest.
//! All over https.
//!
//! Peak memory is VmHWM, which counts the pages of the program that were touched. During an update it is read by a state
//! script, from /proc/PID/status of the agent, after the download and before the reboot. `THIMBLE_BIN` names another
//! program to measure: a static one is held to the budgets `memory-static-*`, any other to `memory-*`.
#![allow(clippy::expect_used, clippy::panic)] // These are tests.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use thimble_testkit::{
    ArtifactSpec, Certificates, Content, DeviceOptions, Options, Scene, TempDir, Watch, What, budget,
    make_certificates, measured, tool,
};

const THIMBLE: &str = env!("CARGO_BIN_EXE_thimble");

/// How many certificates the system's bundle has; Debian's has about as many.
const AUTHORITIES: usize = 140;

/// Panics if this is more than the budget. An unoptimised program has more and larger code, so it may have three times
/// as much.
#[track_caller]
fn judge(what: &str, name: &str, kib: u64, more: u64) {
    let (program, judged) = measured(THIMBLE);
    let interpreter = b"/ld-linux";
    let bytes = fs::read(&program).expect("the program");
    let fixed = !bytes.windows(interpreter.len()).any(|part| part == interpreter);
    let name = if fixed { format!("memory-static-{name}") } else { format!("memory-{name}") };
    let most = budget(&name) + more as f64;
    eprintln!("{what}: {kib} KiB ({name}: {most} KiB)");
    assert!(
        kib as f64 <= if judged { most } else { 3.0 * most },
        "{what}: {kib} KiB, the most is {most} KiB"
    );
}

/// Certificates of authorities as systems have them: keys of 2048 and 4096 bits, long names. Made once: it takes long.
fn authorities(dir: &Path) -> &'static [u8] {
    static MADE: OnceLock<Vec<u8>> = OnceLock::new();
    MADE.get_or_init(|| {
        let path = |name: &str| dir.join(name).display().to_string();
        for bits in ["2048", "4096"] {
            tool::run("openssl", "openssl", &["genrsa", "-out", &path(bits), bits]).expect("a key");
        }
        let mut all = Vec::new();
        for n in 0..AUTHORITIES - 1 {
            let key = path(["2048", "4096"][n % 2]);
            let name =
                format!("/C=NN/O=Organisation number {n} of this test/OU=Certification services/CN=Root {n}");
            let new = ["req", "-x509", "-new", "-days", "3650", "-sha256", "-key", &key, "-subj", &name];
            all.extend(tool::run("openssl", "openssl", &new).expect("a certificate"));
        }
        all
    })
}

/// A bundle of them; the last one is the authority of our server.
fn bundle(dir: &Path, certificates: &Certificates) -> PathBuf {
    let ours = fs::read(&certificates.ca).expect("our authority");
    let path = dir.join("ca-certificates.crt");
    fs::write(&path, [authorities(dir), &ours].concat()).expect("write the bundle");
    path
}

/// Trusts the bundle only, as a device whose server has a certificate of a public authority.
fn scene(name: &str, dir: &TempDir, slot_size: u64, config: &[(&str, &str)]) -> Scene {
    let certificates = make_certificates(dir.path()).expect("certificates");
    let bundle = bundle(dir.path(), &certificates);
    let config = config.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let device = DeviceOptions {
        slot_size,
        config: config.collect(),
        agent_env: vec![("SSL_CERT_FILE".to_owned(), bundle.display().to_string())],
        time_limit: std::time::Duration::from_secs(300),
        ..DeviceOptions::default()
    };
    let server = Options { tls: Some(certificates.tls()), token: "t".repeat(800), ..Options::default() };
    Scene::with(name, &measured(THIMBLE).0.to_string_lossy(), server, device)
}

/// Installs an image of this size; returns the agent's peak memory in KiB.
fn peak(size: u64, pack_with: Option<(&'static str, &'static [&'static str])>) -> u64 {
    let dir = TempDir::new("memory");
    let mut scene = scene("memory", &dir, size, &[]);
    // Mostly a hole, as file systems are; something in each MiB.
    let image = scene.path().join("image");
    let mut file = fs::File::create(&image).expect("make the image");
    for place in (0..size).step_by(1 << 20) {
        file.seek(SeekFrom::Start(place)).expect("seek");
        file.write_all(format!("this is at {place}").as_bytes()).expect("write");
    }
    file.set_len(size).expect("its size");
    let status = scene.path().join("status");
    let body = format!("cat /proc/$PPID/status > '{}'", status.display());
    let name = "ArtifactInstall_Leave_00";
    let image = Content::File(image);
    let mut spec = ArtifactSpec::rootfs("release-2", image.clone()).script(name, &scene.script(name, &body));
    spec.pack_with = pack_with;
    scene.offer(&spec);
    let ending = scene.update();
    assert_eq!(ending.code, 0, "{}", ending.output);
    assert!(scene.device.slot_holds(3, &image));
    let status = fs::read_to_string(status).expect("the script ran");
    let number = |key: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("a line of it");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    };
    assert_eq!(number("Threads:"), 1);
    number("VmHWM:")
}

#[test]
fn an_update_takes_little_memory_whatever_its_size() {
    let (small, large) = (peak(64 << 20, None), peak(1 << 30, None));
    judge("gzip, 64 MiB", "install", small, 0);
    judge("gzip, 1 GiB", "install", large, 0);
    assert!(large.abs_diff(small) < 512, "64 MiB: {small} KiB, 1 GiB: {large} KiB");
}

#[test]
fn with_xz_and_zstd_their_dictionary_comes_on_top() {
    // 8 MiB, as `xz -6` has it, and as much as zstd may have by default.
    let xz = peak(64 << 20, Some((".xz", &["xz", "-6", "-T1"])));
    judge("xz, dictionary of 8 MiB", "install", xz, 8 << 10);
    let zstd = peak(64 << 20, Some((".zst", &["zstd", "-q", "--zstd=wlog=23"])));
    judge("zstd, window of 8 MiB", "install", zstd, 8 << 10);
}

#[test]
fn a_daemon_that_has_polled_a_hundred_times_takes_little_memory() {
    let dir = TempDir::new("idle");
    // A poll every 20 ms, and no inventory after the first.
    let config = [("UpdatePollIntervalSeconds", "20"), ("InventoryPollIntervalSeconds", "2000000")];
    let scene = scene("idle", &dir, 1 << 20, &config);
    let mut daemon = scene.daemon();
    scene.wait_until(|server| server.requests_of(What::Next).len() > 100);
    let watch = Watch::new(daemon.pid());
    let (peak, threads) = (watch.number("VmHWM"), watch.threads());
    assert_eq!(daemon.stop(), Some(0), "{}", scene.daemon_log());
    judge("a daemon after 100 polls", "idle", peak, 0);
    assert_eq!(threads, 1);
}
