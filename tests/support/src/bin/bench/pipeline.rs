//! thimble against the pipeline with the reference libraries (`benches/reference.c`), on the same data, in turns.

use crate::Plan;
use crate::images::{self, CONTAINERS, DEVICE_TYPE, Packed};
use crate::measure::{cpu_of_children, expect, median, mib_of, run_once};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use thimble_testkit::{Content, Device, DeviceOptions, TempDir};

/// A device with slots of this size.
pub fn device(dir: &Path, slot_size: u64, verify: bool) -> Device {
    let options = DeviceOptions {
        device_type: DEVICE_TYPE.to_owned(),
        slot_size,
        config: vec![("RootfsImage".to_owned(), format!("{{ \"VerifyWrites\": {verify} }}"))],
        ..DeviceOptions::default()
    };
    Device::new(dir, options)
}

/// Fills a slot with something that no image has, has it stored, and the cache emptied of it: nothing of this is for the
/// program that is measured next, and its slot is as cold as a partition that nobody uses.
pub fn other_content(slot: &Path, size: u64) -> Result<(), String> {
    let fill = || {
        let mut file = OpenOptions::new().write(true).open(slot)?;
        let block = vec![0xa5; 1 << 20];
        (0..size >> 20).try_for_each(|_| file.write_all(&block))
    };
    fill().map_err(|error| format!("{}: {error}", slot.display()))?;
    cool(slot)
}

/// Has the content of a file stored, and drops it from the cache.
fn cool(slot: &Path) -> Result<(), String> {
    let status = Command::new("dd")
        .args([
            "if=/dev/null",
            &format!("of={}", slot.display()),
            "oflag=nocache",
            "conv=notrunc,fdatasync",
            "count=0",
        ])
        .stderr(Stdio::null())
        .status()
        .map_err(|error| format!("dd (Debian package coreutils): {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("dd: {status}")) }
}

/// The line `NAME VALUE` of .ci/budgets.
fn bound(name: &str) -> Result<f64, String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.ci/budgets");
    let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let mut lines = text.lines().map(str::split_whitespace);
    let value = lines.find_map(|mut words| if words.next() == Some(name) { words.next() } else { None });
    value.and_then(|value| value.parse().ok()).ok_or(format!("{path} has no line {name}"))
}

fn verdict(good: bool) -> &'static str {
    if good { "ok" } else { "TOO MUCH" }
}

/// Every container, with an image that is made and one of real files. False if one is above its bound.
pub fn compare(plan: &Plan, kept: &Path, made: &Path) -> Result<bool, String> {
    println!(
        "CPU of `thimble install FILE` (VerifyWrites: false) and of the reference pipeline, user and system, in"
    );
    println!(
        "seconds: medians of {} runs in turns; ratio: median of the pairs (lowest to highest)",
        plan.runs
    );
    println!("  image  container  packed MiB  thimble  reference  ratio                bound");
    let real = kept.join(format!("usr-lib-{}", plan.mib));
    if !real.exists() {
        images::collect(&real, plan.mib).map_err(|error| format!("{}: {error}", real.display()))?;
    }
    let mut good = true;
    for (kind, image) in [("made", made), ("real", &real)] {
        for (container, ..) in CONTAINERS {
            if plan.container.as_deref().is_some_and(|only| only != container) {
                continue;
            }
            let packed = images::pack(kept, image, container)?;
            let (mut ours, mut theirs) = turns(plan, image, container, &packed)?;
            let mut ratios: Vec<f64> = ours.iter().zip(&theirs).map(|(a, b)| a / b).collect();
            let (ratio, bound) = (median(&mut ratios), bound(&format!("cpu-{container}"))?);
            good &= ratio <= bound;
            println!(
                "  {kind:5}  {container:9}  {:10.1}  {:7.3}  {:9.3}  {ratio:.3} ({:.3} to {:.3})  {bound:.2}  {}",
                mib_of(packed.data.metadata().map_or(0, |data| data.len())),
                median(&mut ours),
                median(&mut theirs),
                ratios[0],
                ratios[ratios.len() - 1],
                verdict(ratio <= bound)
            );
        }
    }
    Ok(good)
}

/// Seconds of CPU of thimble and of the reference, run by run.
fn turns(
    plan: &Plan,
    image: &Path,
    container: &str,
    packed: &Packed,
) -> Result<(Vec<f64>, Vec<f64>), String> {
    let size = image.metadata().map_err(|error| error.to_string())?.len();
    // The reference writes the whole container, so a little more than the image.
    let room = (size + (1 << 20)).next_multiple_of(1 << 20);
    let dir = TempDir::new("bench");
    let device = device(dir.path(), room, false);
    let artifact = packed.artifact.canonicalize().map_err(|error| error.to_string())?;
    let slot = device.slot_path(3);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    // One pair more than are counted: the first reads the Artifacts into the cache.
    for run in 0..=plan.runs {
        other_content(&slot, room)?;
        let used = cpu_of_children();
        let done = Command::new(&plan.reference).arg(container).arg(&packed.data).arg(&slot).output();
        let cpu = cpu_of_children() - used;
        let done =
            done.map_err(|error| format!("{}: {error}; make bench builds it", plan.reference.display()))?;
        if !done.status.success() {
            return Err(format!("the reference pipeline: {}", String::from_utf8_lossy(&done.stderr)));
        }
        if run > 0 {
            theirs.push(cpu);
        }
        other_content(&slot, room)?;
        let used = cpu_of_children();
        expect(0, run_once(&device, &plan.thimble, &["install", &artifact.to_string_lossy()])?)?;
        if run > 0 {
            ours.push(cpu_of_children() - used);
        }
        if !device.slot_holds(3, &Content::File(image.to_owned())) {
            return Err("the slot does not hold the image".to_owned());
        }
        expect(0, run_once(&device, &plan.thimble, &["rollback"])?)?;
    }
    Ok((ours, theirs))
}

/// What is written when the slot holds the image already, or most of it. False if it is more than the bound.
pub fn blocks(plan: &Plan, kept: &Path, image: &Path) -> Result<bool, String> {
    println!("bytes written to a slot that holds (nearly) the image already, and CPU in seconds");
    let changed = kept.join(format!("changed-{}", plan.mib));
    let differ =
        images::change(image, &changed).map_err(|error| format!("{}: {error}", changed.display()))?;
    let artifact = images::pack(kept, image, "none")?.artifact;
    let artifact = artifact.canonicalize().map_err(|error| error.to_string())?;
    let dir = TempDir::new("bench");
    let device = device(dir.path(), plan.mib << 20, false);
    let mut good = true;
    for (what, old, differ, bound) in [
        ("the same image", image, 0, 0.0),
        ("one block of 4 KiB in twenty is another", &changed, differ, bound("written-scattered")?),
    ] {
        device.fill_slot(3, old);
        cool(&device.slot_path(3))?;
        let used = cpu_of_children();
        let arguments = ["--log-level", "info", "install", &artifact.to_string_lossy()];
        expect(0, run_once(&device, &plan.thimble, &arguments)?)?;
        let cpu = cpu_of_children() - used;
        let log = fs::read_to_string(device.dir().join("bench.log")).map_err(|error| error.to_string())?;
        // "NAME: SIZE bytes; N of them written, M were the same"
        let front = log.split(" of them written").next().unwrap_or_default();
        let written = front.rsplit(' ').next().and_then(|number| number.parse::<u64>().ok());
        let written = written.ok_or("bench.log does not say how many bytes were written")?;
        expect(0, run_once(&device, &plan.thimble, &["rollback"])?)?;
        let right = written as f64 <= differ as f64 * bound;
        good &= right;
        println!(
            "  {what}: {differ} bytes differ, {written} written, {cpu:.3} s; bound {bound:.2}  {}",
            verdict(right)
        );
    }
    Ok(good)
}
