//! Hands the payload files to the Download call of an Update Module, through named pipes (update-modules 4).
//!
//! One thread does it all: the module may write to its output, read from a pipe, end or hang at any moment. So no pipe
//! is ever opened or written to in a way that waits; between two tries [`signal::poll`] waits for whatever comes
//! first: room in the pipe, output, the end of the module, the agent's own end, the time limit.
//!
//! Only "somebody opens the pipe for reading" cannot be waited for: the kernel tells nobody. So that is looked at
//! again after 1, 2, 4 … 20 ms.
//!
//! Reading the Artifact does wait, for the network. Meanwhile the module's output stays in its pipe and its time runs
//! on (M34); both are looked at after each piece.

use super::tree::Tree;
use crate::error::{Context, Error, Result};
use crate::ports::PayloadFiles;
use crate::sys::file;
use crate::sys::process::{AGENT_ENDS, Ended, Finished, Invocation, Kill, Running};
use crate::sys::signal::{self, For};
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// How much of a file is read at once: half of what a pipe holds.
pub(super) const PIECE: usize = 32 * 1024;

/// Longest time between two looks whether a pipe was opened.
const LOOK: Duration = Duration::from_millis(20);

/// A module that closes a stream is most often about to end, and how it ends says more.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What became of the files.
pub(super) enum Fed {
    /// The module took them all, and ended well.
    All,
    /// It ended well without having looked at `stream-next` (M26). Here is the first file again.
    Nothing(Option<(String, u64)>),
}

/// Why feeding stopped before its end.
enum Halt {
    /// The module has ended.
    Ended,
    /// It exceeded its time.
    TimedOut,
    /// The agent was told to end.
    Interrupted,
    /// Reading the Artifact failed, or a pipe.
    Failed(Error),
    /// The module does not read on.
    Closed(Error),
}

impl From<Error> for Halt {
    fn from(e: Error) -> Halt {
        Halt::Failed(e)
    }
}

struct Feeder<'a> {
    tree: &'a Tree,
    sizes: bool,
    child: Running,
    /// `stream-next` was opened by the module at least once.
    taken: bool,
    /// The file that was gone on to.
    file: Option<(String, u64)>,
    /// Kept open when something fails, see [`Running::end`].
    pipe: Option<File>,
}

/// Runs the call and feeds it. `sizes`: lines in `stream-next` carry the size of the file. `first` is the file that was
/// gone on to already.
///
/// Returns what the module has printed and how it ended, which is for the caller to judge; and what became of the
/// files, which counts only if it ended well. The error is that it could not be run.
pub(super) fn feed(
    call: &Invocation,
    tree: &Tree,
    sizes: bool,
    first: Option<(String, u64)>,
    files: &mut dyn PayloadFiles,
) -> Result<(Finished, Result<Fed>)> {
    let failed = || format!("cannot run the Update Module {}", call.program.display());
    let child = Running::start(call).context("MODULE-START", failed)?;
    let mut feeder = Feeder { tree, sizes, child, taken: false, file: first, pipe: None };
    let halt = feeder.all(files).err();
    feeder.close(halt, call.kill).context("MODULE-START", failed)
}

impl Feeder<'_> {
    fn all(&mut self, files: &mut dyn PayloadFiles) -> std::result::Result<(), Halt> {
        let mut piece = vec![0; PIECE];
        loop {
            self.open(&self.tree.stream_next())?;
            self.taken = true;
            let Some((name, size)) = self.file.clone() else {
                self.pipe = None; // Opened and closed: the read of length zero that means the end.
                return Ok(());
            };
            let path = self.tree.stream(&name)?;
            let line =
                if self.sizes { format!("streams/{name} {size}\n") } else { format!("streams/{name}\n") };
            self.write(line.as_bytes(), "stream-next")?;
            self.pipe = None;
            self.open(&path)?;
            loop {
                let n = files.read(&mut piece)?;
                if n == 0 {
                    break;
                }
                self.write(&piece[..n], &format!("streams/{name}"))?;
            }
            self.pipe = None;
            self.file = files.next_file()?;
        }
    }

    /// Waits until the module opens the pipe for reading.
    fn open(&mut self, path: &Path) -> std::result::Result<(), Halt> {
        let mut pause = Duration::from_millis(1);
        loop {
            let opened = file::open_fifo(path);
            self.pipe = opened.context("MODULE-STREAM", || format!("cannot open {}", path.display()))?;
            if self.pipe.is_some() {
                return Ok(());
            }
            self.look(pause)?;
            pause = (pause * 2).min(LOOK);
        }
    }

    fn write(&mut self, mut bytes: &[u8], name: &str) -> std::result::Result<(), Halt> {
        self.look(Duration::ZERO)?;
        while let Some(pipe) = self.pipe.as_mut().filter(|_| !bytes.is_empty()) {
            match pipe.write(bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.look(Duration::MAX)?,
                Err(e) if e.kind() == ErrorKind::BrokenPipe => {
                    let text = format!("the Update Module closed {name} before its end");
                    return Err(Halt::Closed(Error::new("MODULE-STREAM", text)));
                }
                Err(e) => {
                    return Err(Halt::Failed(Error::new(
                        "MODULE-STREAM",
                        format!("cannot write to {name}: {e}"),
                    )));
                }
            }
        }
        Ok(())
    }

    /// Waits until the open pipe has room, or something else happens, or the time is over; looks after the module.
    fn look(&mut self, longest: Duration) -> std::result::Result<(), Halt> {
        let left = self.child.deadline().saturating_duration_since(Instant::now());
        let [out, err, input, end] = self.child.wanted();
        let pipe = self.pipe.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        let waited = signal::poll(&[out, err, input, end, (pipe, For::Writing)], Some(longest.min(left)));
        let unable = || "cannot wait for the Update Module".to_owned();
        waited.context("MODULE-STREAM", unable)?;
        self.child.drain();
        if self.child.ended().context("MODULE-STREAM", unable)?.is_some() {
            return Err(Halt::Ended);
        }
        if left.is_zero() {
            return Err(Halt::TimedOut);
        }
        if signal::terminate() {
            return Err(Halt::Interrupted);
        }
        Ok(())
    }

    /// Sees to it that the module has ended, and says what became of the files.
    fn close(mut self, halt: Option<Halt>, kill: Kill) -> io::Result<(Finished, Result<Fed>)> {
        let pipe = self.pipe.take();
        let killed = |done: Finished, ended: Ended| (Finished { ended, ..done }, Ok(Fed::All));
        match halt {
            None => Ok((self.child.finish()?, Ok(Fed::All))),
            Some(Halt::Ended) => self.ended_early(),
            Some(Halt::TimedOut) => Ok(killed(self.child.end(kill, pipe)?, Ended::TimedOut)),
            Some(Halt::Interrupted) => Ok(killed(self.child.end(AGENT_ENDS, pipe)?, Ended::Interrupted)),
            Some(Halt::Failed(e)) if e.code == "INTERRUPTED" => {
                Ok((self.child.end(AGENT_ENDS, pipe)?, Err(e)))
            }
            Some(Halt::Failed(e)) => Ok((self.child.end(kill, pipe)?, Err(e))),
            Some(Halt::Closed(e)) => {
                drop(pipe);
                let until = Instant::now() + LAST_WORDS;
                while Instant::now() < until {
                    match self.look(until.saturating_duration_since(Instant::now())) {
                        Ok(()) => {}
                        Err(Halt::Ended) => return self.ended_early(),
                        Err(_) => break,
                    }
                }
                Ok((self.child.end(kill, ())?, Err(e)))
            }
        }
    }

    fn ended_early(mut self) -> io::Result<(Finished, Result<Fed>)> {
        let done = self.child.finish()?;
        let fed = if done.ended != Ended::Exit(0) {
            Ok(Fed::All)
        } else if self.taken {
            let text = "the Update Module ended before it had read all of stream-next (to the empty read)";
            Err(Error::new("MODULE-STREAM", text))
        } else {
            Ok(Fed::Nothing(self.file))
        };
        Ok((done, fed))
    }
}
