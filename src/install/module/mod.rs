//! Update Modules, protocol version 3: programs that know what to do with a payload, called once for each step.
//!
//! `<module> <command> <tree>`: in the tree, which tells it all there is to know (see `tree.rs`), without input, in a
//! process group of its own, within a time limit. Between two calls nothing is kept here: all that lasts is in the
//! tree, which stays until Cleanup, over restarts too. Statement numbers (M-n) are those of the Update Module
//! reference.

mod stream;
mod tree;

use crate::agent::Reboot;
use crate::artifact::Header;
use crate::error::{Context, Error, Result};
use crate::ports::{Payload, PayloadFiles};
use crate::sys::process::{self, Captured, Ended, Finished, Invocation, Kill};
use crate::sys::signal;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use stream::Fed;
use tree::Tree;

pub use tree::Current;

/// Between SIGTERM and SIGKILL (M36).
const GRACE: Duration = Duration::from_secs(60);

/// Longest answer to a question.
const ANSWER: usize = 4096;

/// The payload type for which a missing module is not the end (decision 10).
const ROOTFS_IMAGE: &str = "rootfs-image";

/// The code of the error: there is no module for the type, or it cannot be run.
pub const MISSING: &str = "MODULE-MISSING";

/// The handler of one payload type.
#[derive(Debug, Clone)]
pub struct Module {
    kind: String,
    program: PathBuf,
    tree: Tree,
    timeout: Duration,
    grace: Duration,
    current: Option<Current>,
}

impl Module {
    /// For payloads of type `kind`: the program `modules/v3/<kind>` below `data`, with its tree below `datastore`;
    /// both must be absolute. No call takes longer than `timeout` (M35). Nothing is looked at yet.
    ///
    /// # Errors
    /// `MODULE-TYPE` if `kind` is not fit to be a file name (M2).
    pub fn new(kind: &str, data: &Path, datastore: &Path, timeout: Duration) -> Result<Module> {
        if matches!(kind, "" | "." | "..") || kind.contains(['/', '\0']) {
            return Err(Error::new(
                "MODULE-TYPE",
                format!("{kind:?} cannot be the name of an Update Module"),
            ));
        }
        Ok(Module {
            kind: kind.to_owned(),
            program: data.join("modules/v3").join(kind),
            tree: Tree::new(datastore.join("modules/v3/payloads/0000/tree")),
            timeout,
            grace: GRACE,
            current: None,
        })
    }

    /// Between SIGTERM and SIGKILL, where 60 s are too long.
    pub fn with_grace(self, grace: Duration) -> Module {
        Module { grace, ..self }
    }

    /// The module may have to go on with an update that the built-in handler has begun, which has no tree: it then
    /// finds at least what is known about the device (M13).
    pub fn taking_over(self, current: Current) -> Module {
        Module { current: Some(current), ..self }
    }

    /// Whether there is a program to run.
    ///
    /// # Errors
    /// `MODULE-MISSING`, with the path and the reason.
    pub fn check(&self) -> Result<()> {
        let why = match std::fs::metadata(&self.program) {
            Ok(found) if !found.is_file() => "is not a file".to_owned(),
            Ok(found) if found.permissions().mode() & 0o111 == 0 => "is not executable".to_owned(),
            Ok(_) => return Ok(()),
            Err(e) => format!("cannot be looked at ({e})"),
        };
        let (kind, path) = (&self.kind, self.program.display());
        Err(Error::new(MISSING, format!("no Update Module for payloads of type {kind}: {path} {why}")))
    }

    /// Puts the tree for this Artifact in place of any other, once its header is verified and it fits the device.
    ///
    /// # Errors
    /// `MODULE-TREE`.
    pub fn prepare(&self, header: &Header, current: &Current) -> Result<()> {
        self.tree.create(header, current)
    }

    /// The command, if it can be run at all (M14).
    fn invocation(&self, command: &str) -> Result<Invocation> {
        if signal::terminate() {
            // To start it only to end it would be worse.
            let text = format!("told to end before Update Module {} {command}", self.program.display());
            return Err(Error::new("INTERRUPTED", text));
        }
        self.check()?;
        if let Some(current) = &self.current
            && !self.tree.is_for(&self.kind)
        {
            self.tree.create_for_device(current)?;
        }
        if !self.tree.exists() {
            let text = format!("its file tree {} is gone", self.tree.path().display());
            return Err(Error::new("MODULE-TREE", text).during(format_args!("{} {command}", self.kind)));
        }
        log::info!("Running Update Module: {} {command}", self.program.display());
        let call = Invocation::new(&self.program, self.timeout).arg(command).arg(self.tree.path());
        let dir = Some(self.tree.path().to_owned());
        Ok(Invocation { dir, kill: Kill::After(self.grace), ..call })
    }

    fn run(&self, command: &str) -> Result<Finished> {
        let call = self.invocation(command)?;
        process::run(&call).context("MODULE-START", || {
            format!("cannot start the Update Module {} for {command}", self.program.display())
        })
    }

    /// Whether it went well.
    fn judge(&self, command: &str, ended: Ended) -> Result<()> {
        let (code, how) = match ended {
            Ended::Exit(0) => return Ok(()),
            Ended::Exit(status) => ("MODULE-FAILED", format!("exit status {status}")),
            Ended::Signal(signal) => ("MODULE-FAILED", format!("killed by signal {signal}")),
            Ended::TimedOut => {
                let limit = self.timeout.as_secs();
                ("MODULE-TIMEOUT", format!("did not end within {limit} s (ModuleTimeoutSeconds), was killed"))
            }
            Ended::Interrupted => ("INTERRUPTED", "told to end during this call".to_owned()),
        };
        Err(Error::new(code, format!("Update Module {} {command}: {how}", self.program.display())))
    }

    fn call(&self, command: &str) -> Result<()> {
        let done = self.run(command)?;
        log_output("stdout", &done.stdout);
        log_output("stderr", &done.stderr);
        self.judge(command, done.ended)
    }

    /// The meaning of the answer; `empty` is that of an empty one, which a module gives to questions that it does not
    /// know (M7, M15 to M17).
    fn ask<T: Copy>(&self, command: &str, answers: &[(&str, T)], empty: T) -> Result<T> {
        let done = self.run(command)?;
        log_output("stderr", &done.stderr);
        self.judge(command, done.ended)?;
        let whole = done.stdout.whole().filter(|answer| answer.len() <= ANSWER);
        let answer = whole.as_deref().map(|answer| answer.strip_suffix(b"\n").unwrap_or(answer));
        if answer.is_some_and(<[u8]>::is_empty) {
            return Ok(empty);
        }
        let fits = |(word, _): &&(&str, T)| answer.is_some_and(|answer| answer == word.as_bytes());
        if let Some((_, meaning)) = answers.iter().find(fits) {
            return Ok(*meaning);
        }
        let words: Vec<&str> = answers.iter().map(|(word, _)| *word).collect();
        let found = match answer {
            Some(answer) if answer.len() <= 80 => format!("{:?}", String::from_utf8_lossy(answer)),
            _ => "something longer".to_owned(),
        };
        let text = format!(
            "Update Module {} {command}: the answer must be {} or nothing, found {found}",
            self.program.display(),
            words.join(", ")
        );
        Err(Error::new("MODULE-ANSWER", text))
    }

    /// The payload goes to `files/`, durably (M26).
    fn keep(&self, mut next: Option<(String, u64)>, files: &mut dyn PayloadFiles) -> Result<()> {
        self.tree.close_streams()?;
        self.tree.open_files()?;
        let mut piece = vec![0; stream::PIECE];
        while let Some((name, _)) = next {
            let (path, mut out) = self.tree.file(&name)?;
            let failed = || format!("cannot write {}", path.display());
            loop {
                let n = files.read(&mut piece)?;
                if n == 0 {
                    break;
                }
                out.write_all(&piece[..n]).context("MODULE-FILE", failed)?;
            }
            out.sync_all().context("MODULE-FILE", failed)?;
            next = files.next_file()?;
        }
        self.tree.close_files()
    }

    /// Decision 10: the new root file system lacks the module that has installed it. Only the boot loader can go back
    /// then, and it does so when the machine restarts: so these calls lead there.
    fn or_last_resort<T>(&self, result: Result<T>, instead: T) -> Result<T> {
        match result {
            Err(e) if e.code == MISSING && self.kind == ROOTFS_IMAGE => {
                log::error!("the boot loader has to go back by itself: {e}");
                Ok(instead)
            }
            result => result,
        }
    }
}

/// At info, line by line (M39).
fn log_output(stream: &str, captured: &Captured) {
    for line in captured.lines() {
        log::info!("Update Module output ({stream}): {line}");
    }
}

const YES_NO: [(&str, bool); 2] = [("Yes", true), ("No", false)];

impl Payload for Module {
    fn store(&mut self, files: &mut dyn PayloadFiles) -> Result<()> {
        // If the payload does not even begin, the module is not troubled.
        let first = files.next_file()?;
        let sizes = self.ask("ProvidePayloadFileSizes", &YES_NO, false)?;
        let command = if sizes { "DownloadWithFileSizes" } else { "Download" };
        let call = self.invocation(command)?;
        self.tree.open_streams()?;
        let (done, fed) = stream::feed(&call, &self.tree, sizes, first, files)?;
        log_output("stdout", &done.stdout);
        log_output("stderr", &done.stderr);
        let fed = match (fed, self.judge(command, done.ended)) {
            // If we had to give up, that is the cause, not what the module made of it.
            (Err(e), _) | (_, Err(e)) => return Err(e),
            (Ok(fed), Ok(())) => fed,
        };
        match fed {
            Fed::All => self.tree.close_streams(),
            Fed::Nothing(first) => self.keep(first, files),
        }
    }

    fn install(&mut self) -> Result<()> {
        self.call("ArtifactInstall")
    }

    fn needs_reboot(&mut self) -> Result<Reboot> {
        let answers = [("Yes", Reboot::Yes), ("No", Reboot::No), ("Automatic", Reboot::Automatic)];
        let answer = self.ask("NeedsArtifactReboot", &answers, Reboot::No);
        self.or_last_resort(answer, Reboot::Automatic)
    }

    fn supports_rollback(&mut self) -> Result<bool> {
        let answer = self.ask("SupportsRollback", &YES_NO, false);
        self.or_last_resort(answer, true)
    }

    fn reboot(&mut self) -> Result<()> {
        self.call("ArtifactReboot")
    }

    fn verify_reboot(&mut self) -> Result<()> {
        self.call("ArtifactVerifyReboot")
    }

    fn commit(&mut self) -> Result<()> {
        self.call("ArtifactCommit")
    }

    fn rollback(&mut self) -> Result<()> {
        let done = self.call("ArtifactRollback");
        self.or_last_resort(done, ())
    }

    fn rollback_reboot(&mut self) -> Result<()> {
        self.call("ArtifactRollbackReboot")
    }

    fn verify_rollback_reboot(&mut self) -> Result<()> {
        self.call("ArtifactVerifyRollbackReboot")
    }

    fn failure(&mut self) -> Result<()> {
        self.call("ArtifactFailure")
    }

    /// The tree goes whatever the module says; but it stays if the module could not even be asked (M40).
    fn cleanup(&mut self) -> Result<()> {
        if !self.tree.exists() {
            crate::debug!("{} has no file tree (any more): nothing to clean up", self.kind);
            return Ok(());
        }
        let called = self.call("Cleanup");
        match &called {
            Err(e) if matches!(e.code, MISSING | "MODULE-START" | "INTERRUPTED") => called,
            _ => {
                let removed = self.tree.remove();
                called.and(removed)
            }
        }
    }
}
