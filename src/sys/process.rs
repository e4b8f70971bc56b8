//! Runs one child process to its end: own process group, bounded output, time limit, no thread.

use super::signal::{self, For};
use super::spawn::{self, Child, Program};
use std::cell::OnceCell;
use std::ffi::OsString;
use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What is kept of each output stream: the first and the last so many bytes (design, decision 6).
pub const KEEP: usize = 10 * 1024;

/// How a child that exceeds its time is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kill {
    /// SIGKILL to the process group at once (state scripts, S36).
    AtOnce,
    /// SIGTERM to the group, SIGKILL after this time (Update Modules, M36).
    After(Duration),
}

/// A command as a value: compared in tests, printed in logs, run by [`run`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// Path, or a name that is looked up in PATH.
    pub program: PathBuf,
    /// Arguments, without the program's name.
    pub args: Vec<OsString>,
    /// Working directory; `None` is ours.
    pub dir: Option<PathBuf>,
    /// Limit from start to end.
    pub timeout: Duration,
    /// What happens at the limit.
    pub kill: Kill,
    /// Given on standard input; empty is /dev/null.
    pub input: Vec<u8>,
}

impl Invocation {
    /// A command without arguments that is killed at once after `timeout`.
    pub fn new(program: impl Into<PathBuf>, timeout: Duration) -> Invocation {
        let (args, input) = (Vec::new(), Vec::new());
        Invocation { program: program.into(), args, dir: None, timeout, kill: Kill::AtOnce, input }
    }

    /// One more argument.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Invocation {
        self.args.push(arg.into());
        self
    }
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this status.
    Exit(i32),
    /// It was killed by this signal.
    Signal(i32),
    /// It exceeded its time and was killed.
    TimedOut,
    /// The agent itself was told to end (SIGTERM); the child was ended first.
    Interrupted,
}

/// The beginning and the end of an output stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Captured {
    /// The first [`KEEP`] bytes.
    pub head: Vec<u8>,
    /// The last [`KEEP`] bytes of what came after the head.
    pub tail: std::collections::VecDeque<u8>,
    /// How many bytes between them were dropped.
    pub dropped: u64,
}

impl Captured {
    fn add(&mut self, bytes: &[u8]) {
        let room = KEEP - self.head.len();
        let (now, rest) = bytes.split_at(bytes.len().min(room));
        self.head.extend_from_slice(now);
        self.tail.extend(rest);
        let over = self.tail.len().saturating_sub(KEEP);
        self.tail.drain(..over);
        self.dropped += over as u64;
    }

    /// The lines for a log, with one that says what was left out; invalid UTF-8 is replaced.
    pub fn lines(&self) -> Vec<String> {
        let split = |bytes: &[u8]| -> Vec<String> {
            let text = String::from_utf8_lossy(bytes);
            text.lines().map(str::to_owned).filter(|l| !l.is_empty()).collect()
        };
        let tail: Vec<u8> = self.tail.iter().copied().collect();
        if self.dropped == 0 {
            return split(&[self.head.as_slice(), &tail].concat());
        }
        let mut out = split(&self.head);
        out.push(format!("[{} bytes of output left out here]", self.dropped));
        out.extend(split(&tail));
        out
    }

    /// The whole output, if nothing was dropped.
    pub fn whole(&self) -> Option<Vec<u8>> {
        (self.dropped == 0).then(|| self.head.iter().chain(&self.tail).copied().collect())
    }
}

/// What came of a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// How it ended.
    pub ended: Ended,
    /// Standard output.
    pub stdout: Captured,
    /// Standard error.
    pub stderr: Captured,
}

/// How long output is still awaited after the child itself has ended but something that it started holds its
/// output open: a daemonising script must close them, but must not cost us its whole time limit.
const LINGER: Duration = Duration::from_millis(200);

/// How a child is ended when the agent itself is told to end: whoever told it waits only so long (M38).
pub const AGENT_ENDS: Kill = Kill::After(Duration::from_secs(10));

/// Runs the command to its end.
///
/// # Errors
/// When it cannot be started; the error is that of the system.
pub fn run(what: &Invocation) -> io::Result<Finished> {
    Running::start(what)?.finish()
}

/// A child that has been started and must be finished. Dropping it kills its process group.
#[derive(Debug)]
pub struct Running {
    child: Child,
    deadline: Instant,
    kill: Kill,
    input: Vec<u8>,
    pipes: Pipes,
    stdout: Captured,
    stderr: Captured,
    done: bool,
    /// Readable when the child has ended (Linux 5.3); without it SIGCHLD ends the wait. Opened when it is waited for.
    pidfd: OnceCell<Option<OwnedFd>>,
}

/// Our ends of the child's streams; those that are closed are `None`.
#[derive(Debug)]
struct Pipes {
    stdin: Option<PipeWriter>,
    stdout: Option<PipeReader>,
    stderr: Option<PipeReader>,
}

/// How long the end of a child alone is waited for. Most scripts say little and end at once: that saves being woken
/// for each pipe that closes. One that fills its pipe in that time waits for the rest of it.
const AT_FIRST: Duration = Duration::from_millis(5);

impl Running {
    /// Starts the command in a process group of its own.
    pub fn start(what: &Invocation) -> io::Result<Running> {
        let (stdout, writer) = io::pipe()?;
        super::file::set_nonblocking(stdout.as_raw_fd())?;
        let mut running = Running::start_into(what, writer)?;
        running.pipes.stdout = Some(stdout);
        Ok(running)
    }

    /// As [`start`](Running::start), with an output whose other end is the caller's.
    pub fn start_into(what: &Invocation, stdout: PipeWriter) -> io::Result<Running> {
        signal::install();
        let (stderr, error) = io::pipe()?;
        super::file::set_nonblocking(stderr.as_raw_fd())?;
        let (mut stdin, mut given) = (None, None);
        if !what.input.is_empty() {
            let (reader, writer) = io::pipe()?;
            super::file::set_nonblocking(writer.as_raw_fd())?;
            (given, stdin) = (Some(reader), Some(writer));
        }
        let input =
            given.as_ref().map_or_else(|| spawn::nothing().map(AsRawFd::as_raw_fd), |r| Ok(r.as_raw_fd()))?;
        let program = Program {
            path: &what.program,
            args: &what.args,
            dir: what.dir.as_deref(),
            streams: [input, stdout.as_raw_fd(), error.as_raw_fd()],
        };
        let child = retry_busy(|| spawn::start(&program))?;
        Ok(Running {
            child,
            deadline: Instant::now() + what.timeout,
            kill: what.kill,
            input: what.input.clone(),
            pipes: Pipes { stdin, stdout: None, stderr: Some(stderr) },
            stdout: Captured::default(),
            stderr: Captured::default(),
            done: false,
            pidfd: OnceCell::new(),
        })
    }

    /// Moves output that is waiting into the captured streams, without blocking.
    pub fn drain(&mut self) {
        self.pipes.stdout.take_if(|out| pump(out, &mut self.stdout));
        self.pipes.stderr.take_if(|err| pump(err, &mut self.stderr));
        self.feed();
    }

    fn feed(&mut self) {
        use io::Write;
        let Some(pipe) = &mut self.pipes.stdin else { return };
        while !self.input.is_empty() {
            match pipe.write(&self.input) {
                Ok(n) => {
                    self.input.drain(..n);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => break, // It does not want its input; its exit status says what that means.
            }
        }
        self.pipes.stdin = None;
    }

    /// The descriptors to wait for; negative ones are closed.
    pub fn wanted(&self) -> [(RawFd, For); 4] {
        let [out, err] = self.outputs();
        let end = self.pidfd.get_or_init(|| pidfd(self.child.pid()));
        [out, err, (number(self.pipes.stdin.as_ref()), For::Writing), (number(end.as_ref()), For::Reading)]
    }

    fn outputs(&self) -> [(RawFd, For); 2] {
        let Pipes { stdout, stderr, .. } = &self.pipes;
        [stdout, stderr].map(|pipe| (number(pipe.as_ref()), For::Reading))
    }

    /// How it ended, if it has; does not wait.
    pub fn ended(&mut self) -> io::Result<Option<Ended>> {
        Ok(self.child.try_wait()?.map(|status| {
            if libc::WIFEXITED(status) {
                Ended::Exit(libc::WEXITSTATUS(status))
            } else {
                Ended::Signal(libc::WTERMSIG(status))
            }
        }))
    }

    /// When its time is over.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Waits for the end, or for the time limit, or for the agent's own end.
    pub fn finish(&mut self) -> io::Result<Finished> {
        self.feed();
        if self.pipes.stdin.is_none() && self.ended()?.is_none() {
            let left = self.deadline.saturating_duration_since(Instant::now());
            signal::poll(&[], Some(left.min(AT_FIRST)))?;
        }
        loop {
            self.drain();
            if let Some(ended) = self.ended()? {
                self.linger();
                return Ok(self.finished(ended));
            }
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Finished { ended: Ended::TimedOut, ..self.end(self.kill, ())? });
            }
            if signal::terminate() {
                return Ok(Finished { ended: Ended::Interrupted, ..self.end(AGENT_ENDS, ())? });
            }
            signal::poll(&self.wanted(), Some(left))?;
        }
    }

    /// Ends the child and whatever it has started, and says how it ended. `held` is let go when the first signal has
    /// been sent: a child that waits for the end of a pipe does not take our giving up for the end of its content.
    pub fn end<T>(&mut self, how: Kill, held: T) -> io::Result<Finished> {
        if let Kill::After(grace) = how {
            kill_group(self.child.pid(), libc::SIGTERM);
            drop(held);
            let until = Instant::now() + grace;
            while self.child.try_wait()?.is_none() {
                self.drain();
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                signal::poll(&self.wanted(), Some(left))?;
            }
        }
        kill_group(self.child.pid(), libc::SIGKILL);
        self.child.wait()?;
        self.linger();
        let ended = self.ended()?.unwrap_or(Ended::Signal(libc::SIGKILL));
        Ok(self.finished(ended))
    }

    fn finished(&mut self, ended: Ended) -> Finished {
        self.done = true;
        let [stdout, stderr] = [&mut self.stdout, &mut self.stderr].map(std::mem::take);
        Finished { ended, stdout, stderr }
    }

    /// Takes what is still in the pipes; waits only shortly for whoever else holds them open.
    fn linger(&mut self) {
        let until = Instant::now() + LINGER;
        loop {
            self.drain();
            let open = self.pipes.stdout.is_some() || self.pipes.stderr.is_some();
            let left = until.saturating_duration_since(Instant::now());
            if !open || left.is_zero() {
                return;
            }
            if signal::poll(&self.outputs(), Some(left)).is_err() {
                return;
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.done {
            kill_group(self.child.pid(), libc::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

/// A script that was written a moment ago by another process can still be "busy" for the kernel; that passes.
fn retry_busy<T>(mut start: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 0..20 {
        match start() {
            Err(e) if e.kind() == io::ErrorKind::ExecutableFileBusy => {
                signal::poll(&[], Some(Duration::from_millis(10)))?;
            }
            other => return other,
        }
    }
    start()
}

/// Reads what is there; true at the end of the stream.
fn pump(from: &mut impl Read, to: &mut Captured) -> bool {
    let mut buffer = [0u8; 4096];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return true,
            Ok(n) => to.add(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return false,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return true,
        }
    }
}

/// Negative for none: it is left out of a wait.
fn number(fd: Option<&impl AsRawFd>) -> RawFd {
    fd.map_or(-1, AsRawFd::as_raw_fd)
}

fn pidfd(pid: libc::pid_t) -> Option<OwnedFd> {
    // SAFETY: a plain system call; asks for no more than a descriptor of whoever has the number.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = RawFd::try_from(fd).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: the call has just returned this descriptor, and nobody else knows it.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn kill_group(pid: libc::pid_t, signal: libc::c_int) {
    if pid > 1 {
        // SAFETY: a plain system call; the group is that of a child of ours, which leads it.
        unsafe { libc::kill(-pid, signal) };
    }
}

/// Sends SIGUSR1 (check now) or SIGUSR2 (inventory now) to a daemon (CL-21).
pub fn notify(pid: i32, inventory: bool) -> io::Result<()> {
    let signal = if inventory { libc::SIGUSR2 } else { libc::SIGUSR1 };
    if pid <= 1 {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: a plain system call without pointers.
    if unsafe { libc::kill(pid, signal) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, seconds: f64) -> Finished {
        run(&Invocation::new("/bin/sh", Duration::from_secs_f64(seconds)).arg("-c").arg(script))
            .expect("runs")
    }

    #[test]
    fn no_signal_is_blocked_in_a_child_wherever_it_works() {
        signal::block_all_of_ours();
        let status =
            Invocation::new("/bin/grep", Duration::from_secs(30)).arg("SigBlk").arg("/proc/self/status");
        for dir in [None, Some(PathBuf::from("/"))] {
            let done = run(&Invocation { dir: dir.clone(), ..status.clone() }).expect("runs");
            assert_eq!(done.stdout.lines(), ["SigBlk:\t0000000000000000"], "{dir:?}");
        }
    }

    #[test]
    fn exit_status_and_both_streams_are_captured() {
        let done = sh("echo out; echo err >&2; exit 21", 5.0);
        assert_eq!(done.ended, Ended::Exit(21));
        assert_eq!(done.stdout.lines(), ["out"]);
        assert_eq!(done.stderr.lines(), ["err"]);
    }

    #[test]
    fn head_and_tail_of_a_flood_are_kept_and_the_rest_is_counted() {
        let done = sh("echo BEGIN; head -c 1000000 /dev/zero | tr '\\0' x; echo; echo END", 20.0);
        let lines = done.stdout.lines();
        assert_eq!(lines.first().map(String::as_str), Some("BEGIN"));
        assert_eq!(lines.last().map(String::as_str), Some("END"));
        assert_eq!(done.stdout.dropped as usize, 1_000_011 - 2 * KEEP);
    }

    #[test]
    fn a_script_beyond_its_time_dies_with_its_children() {
        let begin = Instant::now();
        let done = sh("sleep 30 & echo $!; sleep 30", 0.2);
        assert_eq!(done.ended, Ended::TimedOut);
        assert!(begin.elapsed() < Duration::from_secs(5));
        // The group was killed; the kernel may take a moment to bury what is not our child.
        let child = done.stdout.lines()[0].clone();
        let gone = || {
            let state = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            state.is_empty() || state.contains(") Z")
        };
        let limit = Instant::now() + Duration::from_secs(20);
        while !gone() && Instant::now() < limit {
            signal::poll(&[], Some(Duration::from_millis(5))).expect("waits");
        }
        assert!(gone(), "the child of a killed script still runs");
    }

    #[test]
    fn a_background_child_does_not_hold_up_the_result() {
        let begin = Instant::now();
        let done = sh("sleep 3 & exit 0", 20.0);
        assert_eq!(done.ended, Ended::Exit(0));
        assert!(begin.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn sigterm_is_tried_before_sigkill_where_asked() {
        let mut what = Invocation::new("/bin/sh", Duration::from_millis(200));
        what = what.arg("-c").arg("trap 'echo bye; exit 3' TERM; while :; do sleep 0.05; done");
        what.kill = Kill::After(Duration::from_secs(10));
        let done = run(&what).expect("runs");
        assert_eq!(done.ended, Ended::TimedOut);
        assert_eq!(done.stdout.lines(), ["bye"]);
    }

    #[test]
    fn standard_input_is_given_or_empty() {
        assert_eq!(sh("cat; echo end", 5.0).stdout.lines(), ["end"]);
        let mut what = Invocation::new("/bin/cat", Duration::from_secs(5));
        what.input = b"a=1\nb=2\n".to_vec();
        assert_eq!(run(&what).expect("runs").stdout.lines(), ["a=1", "b=2"]);
    }

    #[test]
    fn what_cannot_be_started_is_an_error() {
        assert!(run(&Invocation::new("/no/such/program", Duration::from_secs(1))).is_err());
    }
}
