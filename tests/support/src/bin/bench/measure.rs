//! Runs programs and says what they took.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;
use thimble_testkit::Device;

pub fn run_once(device: &Device, thimble: &Path, args: &[&str]) -> Result<Option<i32>, String> {
    let mut child = start(device, thimble, args)?;
    child.wait().map(|status| status.code()).map_err(|error| error.to_string())
}

/// Peak memory in KiB.
#[derive(Default)]
pub struct Peak {
    all: u64,
    anonymous: u64,
}

impl Peak {
    pub fn add(&mut self, other: Peak) {
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
pub fn watch(device: &Device, thimble: &Path, args: &[&str]) -> Result<Peak, String> {
    let mut child = start(device, thimble, args)?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak = Peak::default();
    loop {
        // Before that name it is still the shell that starts it.
        if let Ok(text) = fs::read_to_string(&status)
            && text.starts_with("Name:\tthimble")
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

/// Seconds of CPU, of programs and of the kernel for them, that all ended children have used.
pub fn cpu_of_children() -> f64 {
    // SAFETY: rusage is plain data; the call fills it in.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

fn start(device: &Device, thimble: &Path, args: &[&str]) -> Result<Child, String> {
    let log = File::create(device.dir().join("bench.log")).map_err(|error| error.to_string())?;
    let mut command = device.command(thimble, args);
    command.stdout(Stdio::null()).stderr(log);
    command.spawn().map_err(|error| format!("cannot start {}: {error}", thimble.display()))
}

pub fn expect(wanted: i32, code: Option<i32>) -> Result<(), String> {
    if code == Some(wanted) {
        return Ok(());
    }
    Err(format!("thimble ended with {code:?}; THIMBLE_KEEP=1 keeps its directory with bench.log"))
}

/// The middle one; sorts.
pub fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

pub fn mib_of(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
