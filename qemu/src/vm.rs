//! A virtual machine: its console, its power switch, and what waiting for it means.
//!
//! Waiting is for conditions. The one limit of time is that nothing happens for so long that the machine must hang;
//! then it is reset, as a watchdog would, and the wait fails.

use crate::qmp::Qmp;
use crate::sys::ends_with_us;
use crate::tool::Result;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

/// How often a condition is looked at that rings no bell of the console.
const TICK: Duration = Duration::from_millis(100);

/// What has come from the console.
#[derive(Default)]
struct Heard {
    text: String,
    ended: bool,
}

/// The console's text so far, and the bell that rings with each piece.
#[derive(Default)]
struct Ear {
    heard: Mutex<Heard>,
    bell: Condvar,
}

impl Ear {
    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A machine that is on.
pub struct Vm {
    child: Child,
    stdin: ChildStdin,
    ear: Arc<Ear>,
    qmp: Qmp,
    socket: PathBuf,
    /// How far the console was read by waiting.
    seen: usize,
    /// Nothing on the console for so long: it hangs.
    patience: Duration,
    commands: u32,
}

impl Vm {
    /// Power on. `args` starts with the program; the console is added to `log`.
    pub fn start(args: &[String], log: &Path, patience: Duration) -> Result<Vm> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let name = (std::process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
        let socket = std::env::temp_dir().join(format!("thimble-qemu-{}-{}.sock", name.0, name.1));
        let _ = fs::remove_file(&socket);
        if let Some(dir) = log.parent() {
            fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        }
        let opened = OpenOptions::new().create(true).append(true).open(log);
        let mut log = opened.map_err(|e| format!("{}: {e}", log.display()))?;
        let _ = writeln!(log, "\n##### power on: {}", args.join(" "));
        let mut command = Command::new(&args[0]);
        command.args(&args[1..]).args(["-display", "none", "-monitor", "none", "-serial", "stdio", "-qmp"]);
        command.arg(format!("unix:{},server=on,wait=off", socket.display()));
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log.try_clone().map_or(Stdio::null(), Stdio::from));
        ends_with_us(&mut command);
        let mut child =
            command.spawn().map_err(|e| format!("cannot start {}: {e}; `bash .ci/setup qemu`", args[0]))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("no console".to_owned());
        };
        let ear = Arc::new(Ear::default());
        let listener = ear.clone();
        thread::spawn(move || listen(stdout, &listener, log));
        let qmp = match Qmp::connect(&socket, &mut child) {
            Ok(qmp) => qmp,
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("QEMU did not start: {error}; see the log"));
            }
        };
        Ok(Vm { child, stdin, ear, qmp, socket, seen: 0, patience, commands: 0 })
    }

    /// Waits until the text stands on the console, behind what was waited for before; the rest of its line.
    pub fn wait_for(&mut self, text: &str) -> Result<String> {
        self.wait_until(&format!("{text:?} on the console"), |console, _| {
            let behind = console.find(text)? + text.len();
            let end = behind + console[behind..].find('\n')?;
            Some((end, console[behind..end].trim_end().to_owned()))
        })
    }

    /// The same for a text that may end without a line end: a prompt.
    pub fn wait_for_text(&mut self, text: &str) -> Result<()> {
        self.wait_until(&format!("{text:?} on the console"), |console, _| {
            console.find(text).map(|at| (at + text.len(), ()))
        })
    }

    /// Waits for anything. `look` gets the console's text since the last wait; it answers how much of it is done
    /// with. Progress is a change of the console or of `progress` (the second argument counts looks).
    pub fn wait_until<T>(
        &mut self,
        what: &str,
        mut look: impl FnMut(&str, &Progress) -> Option<(usize, T)>,
    ) -> Result<T> {
        let mut length = 0;
        let mut moved = Instant::now();
        let progress = Progress::default();
        let mut noted = 0;
        let ear = self.ear.clone();
        let mut heard = ear.lock();
        loop {
            if let Some((done, value)) = look(&heard.text[self.seen..], &progress) {
                self.seen += done;
                return Ok(value);
            }
            if heard.ended {
                drop(heard);
                return Err(format!("QEMU ended while waiting for {what}"));
            }
            if heard.text.len() != length || progress.count.get() != noted {
                length = heard.text.len();
                noted = progress.count.get();
                moved = Instant::now();
            }
            if moved.elapsed() > self.patience {
                let (seconds, before) = (self.patience.as_secs(), heard.text.len());
                drop(heard);
                // What a watchdog does; the log then shows whether the machine still starts.
                self.qmp.execute("system_reset", "")?;
                let starts = self.starts_again(before);
                let after = if starts { "its boot loader started" } else { "and nothing came" };
                return Err(format!("no progress for {seconds} s while waiting for {what}: reset, {after}"));
            }
            let (guard, _) =
                ear.bell.wait_timeout(heard, TICK).unwrap_or_else(|poisoned| poisoned.into_inner());
            heard = guard;
        }
    }

    /// Whether a boot loader speaks behind this much of the console's text.
    fn starts_again(&self, before: usize) -> bool {
        let begin = Instant::now();
        let mut heard = self.ear.lock();
        while !heard.ended && begin.elapsed() < self.patience {
            if heard.text[before..].contains("U-Boot") {
                return true;
            }
            let waited = self.ear.bell.wait_timeout(heard, TICK);
            heard = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
        false
    }

    /// Types text on the console.
    pub fn send(&mut self, text: &str) -> Result<()> {
        self.stdin
            .write_all(text.as_bytes())
            .and_then(|()| self.stdin.flush())
            .map_err(|e| format!("console: {e}"))
    }

    /// Runs a command in the console's shell; its exit code. The mark is typed in two parts, so that an echo of the
    /// command is not taken for the answer.
    pub fn shell(&mut self, command: &str) -> Result<i32> {
        self.commands += 1;
        let mark = format!("{}-{}", std::process::id(), self.commands);
        self.send(&format!("{command}; echo \"@@\"\"{mark}:$?@@\"\n"))?;
        let rest = self.wait_for(&format!("@@{mark}:"))?;
        let code = rest.split('@').next().unwrap_or("");
        code.parse().map_err(|_| format!("{command}: no exit code in {rest:?}"))
    }

    /// The network cable: plugged in or not.
    pub fn network(&mut self, on: bool) -> Result<()> {
        self.qmp.execute("set_link", &format!(r#"{{"name":"n0","up":{on}}}"#))
    }

    /// Cuts the power: QEMU is killed. What the guest wrote to the card is kept, what it had in memory is not. The CPU
    /// time that QEMU took, in seconds.
    pub fn cut(mut self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        // Behind the name, which may have blanks: state is field 3; user and system time are 14 and 15, in ticks of 10 ms.
        let fields = stat.rsplit(')').next().unwrap_or("").split_whitespace();
        let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        self.kill();
        ticks as f64 / 100.0
    }

    fn kill(&mut self) {
        // Ended already: fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.socket);
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.kill();
    }
}

/// By this a condition says that something moves that the console does not show: a download.
#[derive(Default)]
pub struct Progress {
    count: std::cell::Cell<u64>,
}

impl Progress {
    /// A number that changes as long as something moves.
    pub fn note(&self, number: u64) {
        self.count.set(number);
    }
}

/// Reads the console to its end; in the log each line begins with its time.
fn listen(mut from: impl Read, ear: &Ear, mut log: File) {
    let start = Instant::now();
    let mut buffer = [0; 4096];
    let mut fresh = true;
    loop {
        let count = from.read(&mut buffer).unwrap_or(0);
        let text = String::from_utf8_lossy(&buffer[..count]);
        let mut lines = String::new();
        for piece in text.split_inclusive('\n') {
            if fresh {
                lines += &format!("[{:8.2}] ", start.elapsed().as_secs_f64());
            }
            lines += piece;
            fresh = piece.ends_with('\n');
        }
        // A full disk must not end the test.
        let _ = log.write_all(lines.as_bytes());
        let mut heard = ear.lock();
        heard.text += &text;
        heard.ended = count == 0;
        ear.bell.notify_all();
        if count == 0 {
            return;
        }
    }
}
