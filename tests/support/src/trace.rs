//! The system calls of a running process, written down by `strace`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// A trace in progress; it ends when dropped.
#[derive(Debug)]
pub struct Trace {
    strace: Child,
    file: PathBuf,
}

impl Trace {
    /// Begins to follow a process and what it starts, into `file`. Returns once it follows.
    pub fn begin(pid: u32, file: &Path) -> Trace {
        let said = file.with_extension("strace");
        let errors = fs::File::create(&said).expect("a file for what strace says");
        let strace = Command::new("strace")
            .args(["-f", "-s", "100", "-o"])
            .arg(file)
            .args(["-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start strace (Debian package strace): {error}"));
        let mut trace = Trace { strace, file: file.to_owned() };
        while !fs::read_to_string(&said).is_ok_and(|text| text.contains("attached")) {
            let ended = trace.strace.try_wait().expect("strace is our child");
            assert!(
                ended.is_none(),
                "strace cannot follow {pid}: {}",
                fs::read_to_string(&said).unwrap_or_default()
            );
            thread::sleep(Duration::from_millis(5));
        }
        trace
    }

    /// Stops following; one line for each call: process number, name, arguments, result.
    pub fn end(mut self) -> Vec<String> {
        self.stop();
        let text = fs::read(&self.file).expect("what strace wrote");
        let text = String::from_utf8_lossy(&text);
        // A call that another process interrupts in the trace has two lines; signals are no calls.
        let calls =
            text.lines().filter(|l| !l.contains(" resumed>") && !l.contains(" --- ") && !l.contains(" +++ "));
        calls.map(str::to_owned).collect()
    }

    fn stop(&mut self) {
        // SAFETY: no memory is involved; the number is that of our child, which was not waited for.
        unsafe { libc::kill(self.strace.id() as libc::pid_t, libc::SIGINT) };
        // It lets the process go before it ends.
        let _ = self.strace.wait();
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        if let Ok(None) = self.strace.try_wait() {
            self.stop();
        }
    }
}
