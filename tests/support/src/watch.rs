//! What the kernel tells about a running process: threads, descriptors, memory, how often it woke up.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// A process, by its number.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    pid: u32,
}

impl Watch {
    /// Watches this process.
    pub fn new(pid: u32) -> Watch {
        Watch { pid }
    }

    /// How many threads it has.
    #[track_caller]
    pub fn threads(&self) -> usize {
        self.list("task").len()
    }

    /// Its open descriptors and what they are, e.g. `pipe:[123]`. Ends of pipes and sockets bear numbers that change.
    #[track_caller]
    pub fn descriptors(&self) -> BTreeMap<String, String> {
        let name = |number: &String| {
            let target = fs::read_link(format!("/proc/{}/fd/{number}", self.pid)).unwrap_or_default();
            (number.clone(), target.to_string_lossy().into_owned())
        };
        self.list("fd").iter().map(name).collect()
    }

    /// A number of `/proc/PID/status`, e.g. `VmHWM` in kB.
    #[track_caller]
    pub fn number(&self, key: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("the process lives");
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        let line = line.unwrap_or_else(|| panic!("no {key} in {status}"));
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// How often it gave up the processor by itself, that is, waited for something.
    #[track_caller]
    pub fn waits(&self) -> u64 {
        self.number("voluntary_ctxt_switches")
    }

    /// Processor time that it has used, in clock ticks.
    #[track_caller]
    pub fn ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).expect("the process lives");
        // pid (name) state ...; utime and stime are fields 14 and 15.
        let (_, rest) = stat.rsplit_once(')').expect("a name in brackets");
        let fields: Vec<&str> = rest.split_whitespace().collect();
        fields[11..13].iter().map(|field| field.parse::<u64>().expect("a number")).sum()
    }

    /// Processor time that its one thread has used, as the scheduler counts it.
    #[track_caller]
    pub fn cpu(&self) -> Duration {
        let path = format!("/proc/{}/schedstat", self.pid);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let first = text.split_whitespace().next().and_then(|number| number.parse().ok());
        Duration::from_nanos(first.unwrap_or_else(|| panic!("{path}: {text}")))
    }

    /// Lets it come to rest: returns when it has not woken up for a third of a second.
    #[track_caller]
    pub fn settle(&self) {
        let begin = Instant::now();
        let mut before = self.waits();
        loop {
            thread::sleep(Duration::from_millis(333));
            let now = self.waits();
            if now == before {
                return;
            }
            assert!(begin.elapsed() < Duration::from_secs(20), "it does not come to rest");
            before = now;
        }
    }

    /// How often it woke up, and ticks that it used, in a time in which the test does nothing.
    #[track_caller]
    pub fn unrest(&self, time: Duration) -> (u64, u64) {
        let before = (self.waits(), self.ticks());
        thread::sleep(time);
        (self.waits() - before.0, self.ticks() - before.1)
    }

    #[track_caller]
    fn list(&self, what: &str) -> Vec<String> {
        let entries = fs::read_dir(format!("/proc/{}/{what}", self.pid)).expect("the process lives");
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }
}
