//! `bench PATH/TO/thimble [OPTIONS]`: what an installation and an idle check cost, in seconds of CPU, MB/s, ms and KiB.
//!
//! | option | |
//! | --- | --- |
//! | `--mib N` | size of the image, 256 |
//! | `--runs N` | how often each thing is measured, 5 |
//! | `--only WHAT` | `cpu` (against the reference pipeline), `blocks`, `install` or `check` |
//! | `--container NAME` | with `cpu`: this one only |
//! | `--reference PROGRAM` | built from `benches/reference.c`, target/bench/reference |
//! | `--keep DIR` | keeps images and Artifacts there, and takes what is there from the last time |
//! | `--check` | exit 1 if something is above its bound in `.ci/budgets` |
//!
//! Everything happens in a temporary directory (TMPDIR chooses the file system) and on the loopback interface.
//! Peak memory is the kernel's VmHWM (program text included) and, of it, RssAnon (what only this program has), watched
//! in runs of their own so that watching does not slow the timed ones. CPU time hardly depends on what else runs.

mod images;
mod measure;
mod pipeline;

use measure::{Peak, cpu_of_children, expect, median, mib_of, run_once, watch};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use thimble_testkit::{Content, Device, DeviceOptions, Options, Server, TempDir, What, make_certificates};

/// What was asked for.
pub struct Plan {
    thimble: PathBuf,
    reference: PathBuf,
    mib: u64,
    runs: usize,
    only: Option<String>,
    container: Option<String>,
    keep: Option<PathBuf>,
    check: bool,
}

fn plan() -> Option<Plan> {
    let mut arguments = std::env::args().skip(1);
    let mut plan = Plan {
        thimble: PathBuf::new(),
        reference: "target/bench/reference".into(),
        mib: 256,
        runs: 5,
        only: None,
        container: None,
        keep: None,
        check: false,
    };
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--mib" => plan.mib = arguments.next()?.parse().ok()?,
            "--runs" => plan.runs = arguments.next()?.parse().ok()?,
            "--only" => plan.only = Some(arguments.next()?),
            "--container" => plan.container = Some(arguments.next()?),
            "--reference" => plan.reference = arguments.next()?.into(),
            "--keep" => plan.keep = Some(arguments.next()?.into()),
            "--check" => plan.check = true,
            other if other.starts_with("--") => return None,
            _ => plan.thimble = argument.into(),
        }
    }
    let something = !plan.thimble.as_os_str().is_empty() && plan.mib > 0 && plan.runs > 0;
    something.then_some(plan)
}

fn main() -> ExitCode {
    let Some(plan) = plan() else {
        eprintln!(
            "usage: bench PATH/TO/thimble [--mib N] [--runs N] [--only cpu|blocks|install|check] [--container NAME]\n\
             \x20            [--reference PROGRAM] [--keep DIR] [--check]"
        );
        return ExitCode::from(2);
    };
    match measure(&plan) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(u8::from(plan.check)),
        Err(reason) => {
            eprintln!("bench: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything was within its bounds.
fn measure(plan: &Plan) -> Result<bool, String> {
    let temporary = TempDir::new("bench");
    let dir = plan.keep.as_deref().unwrap_or(temporary.path());
    std::fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let image = dir.join(format!("made-{}", plan.mib));
    if !image.exists() {
        images::make(&image, plan.mib).map_err(|error| format!("{}: {error}", image.display()))?;
    }
    let wanted = |what: &str| plan.only.as_deref().is_none_or(|only| only == what);
    let mut good = true;
    if wanted("cpu") {
        good &= pipeline::compare(plan, dir, &image)?;
    }
    if wanted("blocks") {
        good &= pipeline::blocks(plan, dir, &image)?;
    }
    if wanted("install") {
        install(plan, dir, &image)?;
    }
    if wanted("check") {
        checks(&plan.thimble, plan.runs)?;
    }
    Ok(good)
}

/// Installs an Artifact from a file to a slot that is a regular file and holds something else, with and without reading
/// back.
fn install(plan: &Plan, kept: &Path, image: &Path) -> Result<(), String> {
    let (thimble, runs, mib) = (&plan.thimble, plan.runs, plan.mib);
    let artifact = images::pack(kept, image, "gzip")?.artifact;
    let dir = TempDir::new("bench");
    let packed = artifact.metadata().map_or(0, |data| data.len());
    println!("thimble --root DIR install FILE");
    println!(
        "  rootfs-image, gzip, {mib} MiB unpacked, {:.0} MiB as an Artifact, slot: a file below",
        mib_of(packed)
    );
    println!("  {}", dir.path().display());
    let artifact = artifact.canonicalize().map_err(|error| error.to_string())?;
    let name = artifact.to_string_lossy();
    for (verify, what) in
        [(true, "written, then read back and compared (the default)"), (false, "only written")]
    {
        let device = pipeline::device(&dir.path().join(verify.to_string()), mib << 20, verify);
        let (mut seconds, mut peak, mut cpu) = (Vec::new(), Peak::default(), 0.0);
        for _ in 0..runs {
            pipeline::other_content(&device.slot_path(3), mib << 20)?;
            let (begin, used) = (Instant::now(), cpu_of_children());
            expect(0, run_once(&device, thimble, &["install", &name])?)?;
            seconds.push(begin.elapsed().as_secs_f64());
            cpu += cpu_of_children() - used;
            if !device.slot_holds(3, &Content::File(image.to_owned())) {
                return Err("the slot does not hold the image".to_owned());
            }
            expect(0, run_once(&device, thimble, &["rollback"])?)?;
        }
        for _ in 0..2 {
            pipeline::other_content(&device.slot_path(3), mib << 20)?;
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
                device_type: images::DEVICE_TYPE.to_owned(),
                server_url: server.url(),
                config,
                ..DeviceOptions::default()
            },
        );
        let begin = Instant::now();
        expect(0, run_once(&device, thimble, &["check"])?)?;
        let first = begin.elapsed().as_secs_f64() * 1e3;
        let mut times = Vec::new();
        let (before, used) = (server.requests().len(), cpu_of_children());
        for _ in 0..runs * 4 {
            let begin = Instant::now();
            expect(0, run_once(&device, thimble, &["check"])?)?;
            times.push(begin.elapsed().as_secs_f64() * 1e3);
        }
        let cpu = (cpu_of_children() - used) * 1e3 / times.len() as f64;
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
