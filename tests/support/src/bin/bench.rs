//! `bench PATH/TO/thimble [--mib N] [--runs N]`: what an installation and an idle check cost, in MB/s, ms and KiB.
//!
//! Everything happens in a temporary directory (TMPDIR chooses the file system) and on the loopback interface.
//! Peak memory is the kernel's VmHWM (program text included) and, of it, RssAnon (what only this program has), watched
//! in runs of their own so that watching does not slow the timed ones. CPU time hardly depends on what else runs.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode, Stdio};
use std::time::{Duration, Instant};
use thimble_testkit::{
    ArtifactSpec, Content, Device, DeviceOptions, Options, Server, TempDir, What, make_certificates,
};

const DEVICE_TYPE: &str = "bench-board";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mut thimble, mut mib, mut runs) = (None, 256, 5usize);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|text| text.parse::<u64>().ok());
        match argument.as_str() {
            "--mib" => mib = number().unwrap_or(0),
            "--runs" => runs = number().unwrap_or(0) as usize,
            _ => thimble = Some(PathBuf::from(argument)),
        }
    }
    let (Some(thimble), true) = (thimble, mib > 0 && runs > 0) else {
        eprintln!("usage: bench PATH/TO/thimble [--mib N] [--runs N]");
        return ExitCode::from(2);
    };
    match install(&thimble, mib, runs).and_then(|()| checks(&thimble, runs)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("bench: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// Installs an Artifact from a file to a slot that is a regular file, with and without reading back.
fn install(thimble: &Path, mib: u64, runs: usize) -> Result<(), String> {
    let dir = TempDir::new("bench");
    let image = dir.path().join("image");
    make_image(&image, mib).map_err(|error| format!("{}: {error}", image.display()))?;
    let artifact = dir.path().join("release-2.mender");
    let spec = ArtifactSpec::rootfs("release-2", Content::File(image.clone())).device_types(&[DEVICE_TYPE]);
    spec.write(&artifact).map_err(|error| format!("{}: {error}", artifact.display()))?;
    let packed = artifact.metadata().map_or(0, |data| data.len());
    println!("thimble --root DIR install FILE");
    println!(
        "  rootfs-image, gzip, {mib} MiB unpacked, {:.0} MiB as an Artifact, slot: a file below",
        mib_of(packed)
    );
    println!("  {}", dir.path().display());
    let name = artifact.to_string_lossy();
    for (verify, what) in
        [("true", "written, then read back and compared (the default)"), ("false", "only written")]
    {
        let options = DeviceOptions {
            device_type: DEVICE_TYPE.to_owned(),
            slot_size: mib << 20,
            config: vec![("RootfsImage".to_owned(), format!("{{ \"VerifyWrites\": {verify} }}"))],
            ..DeviceOptions::default()
        };
        let device = Device::new(&dir.path().join(verify), options);
        let (mut seconds, mut peak, mut cpu) = (Vec::new(), Peak::default(), 0.0);
        // One run more than are counted: the first one allocates the slot's blocks.
        for run in 0..=runs {
            let (begin, used) = (Instant::now(), cpu_of_children()?);
            expect(0, run_once(&device, thimble, &["install", &name])?)?;
            if run > 0 {
                seconds.push(begin.elapsed().as_secs_f64());
                cpu += cpu_of_children()? - used;
            }
            if !device.slot_holds(3, &Content::File(image.clone())) {
                return Err("the slot does not hold the image".to_owned());
            }
            expect(0, run_once(&device, thimble, &["rollback"])?)?;
        }
        for _ in 0..2 {
            peak.add(watch(&device, thimble, &["install", &name])?);
            expect(0, run_once(&device, thimble, &["rollback"])?)?;
        }
        let bytes = (mib << 20) as f64 / 1e6;
        println!("  {what}:");
        println!(
            "    {:.0} MB/s of image (median of {runs}; slowest {:.0}, fastest {:.0})",
            bytes / median(&mut seconds),
            bytes / seconds[seconds.len() - 1],
            bytes / seconds[0]
        );
        println!(
            "    {:.2} s of CPU, {:.0} MB per second of CPU",
            cpu / runs as f64,
            bytes * runs as f64 / cpu
        );
        println!("    {peak}");
    }
    Ok(())
}

/// An idle check: the server has no deployment, the inventory is not due, the token is still good.
fn checks(thimble: &Path, runs: usize) -> Result<(), String> {
    println!("thimble --root DIR check, nothing to do");
    for secure in [false, true] {
        let dir = TempDir::new("bench");
        let mut config = vec![("InventoryPollIntervalSeconds".to_owned(), "28800".to_owned())];
        let mut options = Options::default();
        if secure {
            let certificates = make_certificates(dir.path())?;
            config.push(("ServerCertificate".to_owned(), format!("\"{}\"", certificates.ca.display())));
            options.tls = Some(certificates.tls());
        }
        let server = Server::start(options);
        let device = Device::new(
            &dir.path().join("device"),
            DeviceOptions {
                device_type: DEVICE_TYPE.to_owned(),
                server_url: server.url(),
                config,
                ..DeviceOptions::default()
            },
        );
        let begin = Instant::now();
        expect(0, run_once(&device, thimble, &["check"])?)?;
        let first = begin.elapsed().as_secs_f64() * 1e3;
        let mut times = Vec::new();
        let (before, used) = (server.requests().len(), cpu_of_children()?);
        for _ in 0..runs * 4 {
            let begin = Instant::now();
            expect(0, run_once(&device, thimble, &["check"])?)?;
            times.push(begin.elapsed().as_secs_f64() * 1e3);
        }
        let cpu = (cpu_of_children()? - used) * 1e3 / times.len() as f64;
        let requests = (server.requests().len() - before) as f64 / times.len() as f64;
        let polls = server.requests_of(What::Next).len();
        let mut peak = Peak::default();
        for _ in 0..10 {
            peak.add(watch(&device, thimble, &["check"])?);
        }
        let violations = server.violations();
        if polls == 0 || !violations.is_empty() {
            return Err(format!("{polls} polls; {}", violations.join("; ")));
        }
        println!("  {}:", if secure { "https (TLS 1.3, own CA)" } else { "http" });
        println!(
            "    {:.1} ms (median of {}; slowest {:.1}), {cpu:.1} ms of CPU with the scripts, {requests:.1} requests",
            median(&mut times),
            times.len(),
            times[times.len() - 1]
        );
        println!("    {peak}");
        println!(
            "    the first one, which makes the key, authenticates and sends the inventory: {first:.1} ms"
        );
    }
    Ok(())
}

/// An image of which about half can be compressed away, as with a real root file system: in each block of 4 KiB, half
/// is noise and half repeats.
fn make_image(path: &Path, mib: u64) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let (mut state, mut block) = (0x9e37_79b9_7f4a_7c15u64, [0u8; 4096]);
    for number in 0..mib * 256 {
        for piece in block[..2048].chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            piece.copy_from_slice(&state.to_le_bytes());
        }
        for (index, byte) in block[2048..].iter_mut().enumerate() {
            *byte = (index as u64 % 61 + number % 31) as u8;
        }
        out.write_all(&block)?;
    }
    out.into_inner()?.sync_all()
}

fn run_once(device: &Device, thimble: &Path, args: &[&str]) -> Result<Option<i32>, String> {
    let mut child = start(device, thimble, args)?;
    child.wait().map(|status| status.code()).map_err(|error| error.to_string())
}

/// Peak memory in KiB.
#[derive(Default)]
struct Peak {
    all: u64,
    anonymous: u64,
}

impl Peak {
    fn add(&mut self, other: Peak) {
        self.all = self.all.max(other.all);
        self.anonymous = self.anonymous.max(other.anonymous);
    }
}

impl std::fmt::Display for Peak {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "peak memory {} KiB, of it anonymous {} KiB", self.all, self.anonymous)
    }
}

/// Runs it and looks at its memory all the time, or every millisecond of a long run. VmHWM only grows while a program
/// runs, so the last number seen counts; of RssAnon the largest.
fn watch(device: &Device, thimble: &Path, args: &[&str]) -> Result<Peak, String> {
    let mut child = start(device, thimble, args)?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak = Peak::default();
    loop {
        // Before that name it is still the shell that starts it.
        if let Ok(text) = fs::read_to_string(&status)
            && text.starts_with("Name:\tthimble\n")
        {
            let number = |name: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(name));
                line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
            };
            peak.add(Peak { all: number("VmHWM:"), anonymous: number("RssAnon:") });
        }
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            expect(0, status.code())?;
            return if peak.all > 0 { Ok(peak) } else { Err("it was too fast to be watched".to_owned()) };
        }
        if peak.all > 0 && args[0] == "install" {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Seconds of CPU that all ended children have used, from /proc/self/stat, which counts hundredths.
fn cpu_of_children() -> Result<f64, String> {
    let stat = fs::read_to_string("/proc/self/stat").map_err(|error| error.to_string())?;
    // Behind the name the third field is first; cutime and cstime are the 16th and 17th.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(13).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    Ok(ticks as f64 / 100.0)
}

fn start(device: &Device, thimble: &Path, args: &[&str]) -> Result<Child, String> {
    let log = File::create(device.dir().join("bench.log")).map_err(|error| error.to_string())?;
    let mut command = device.command(thimble, args);
    command.stdout(Stdio::null()).stderr(log);
    command.spawn().map_err(|error| format!("cannot start {}: {error}", thimble.display()))
}

fn expect(wanted: i32, code: Option<i32>) -> Result<(), String> {
    if code == Some(wanted) {
        return Ok(());
    }
    Err(format!("thimble ended with {code:?}; THIMBLE_KEEP=1 keeps its directory with bench.log"))
}

/// The middle one; sorts.
fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

fn mib_of(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
