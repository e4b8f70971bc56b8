//! State scripts: finds them, runs them one after the other, puts what they print into the log.

use crate::agent::scripts::{After, Place, Ran, ScriptSet, after, parse, select, version_ok};
use crate::error::{Context, Error, Result};
use crate::ports::{Cursor, Scripts, ScriptsEnd};
use crate::sys::process::{self, Captured, Ended, Invocation};
use crate::sys::stamp::Kept;
use crate::sys::{clock, file};
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Most names that are remembered as warned about.
const WARNED: usize = 64;

/// Where the scripts are and how long they may take.
#[derive(Debug)]
pub struct StateScripts {
    rootfs: PathBuf,
    artifact: PathBuf,
    timeout: Duration,
    retry_interval: Duration,
    retry_limit: Duration,
    time_scale: f64,
    warned: BTreeSet<PathBuf>,
    /// Names in the two directories that are those of state scripts, in no order.
    names: [Kept<Vec<String>, 2>; 2],
}

impl StateScripts {
    /// `rootfs` holds the Idle, Sync and Download scripts, `artifact` those of the Artifact in hand (S3). Times as in
    /// S32. `time_scale` shortens the wait between tries, not the limits.
    pub fn new(
        rootfs: PathBuf,
        artifact: PathBuf,
        [timeout, retry_interval, retry_limit]: [Duration; 3],
        time_scale: f64,
    ) -> StateScripts {
        let (warned, names) = Default::default();
        StateScripts { rootfs, artifact, timeout, retry_interval, retry_limit, time_scale, warned, names }
    }

    fn directory(&self, place: Place) -> &Path {
        match place {
            Place::Rootfs => &self.rootfs,
            Place::Artifact => &self.artifact,
        }
    }

    /// The scripts of a set, in order. A missing directory has none (S9). Directory and version are looked at each
    /// time (S13) and read when they have changed.
    fn list(&mut self, set: ScriptSet) -> Result<Vec<PathBuf>> {
        let place = set.step.place();
        let dir = self.directory(place).to_owned();
        let known = match place {
            Place::Rootfs => 0,
            Place::Artifact => 1,
        };
        let mut kept = std::mem::take(&mut self.names[known]);
        let names = kept.get([&dir, &dir.join("version")], || self.read_names(&dir));
        self.names[known] = kept;
        let names = names?;
        let mut list = Vec::new();
        for path in select(names, set).into_iter().map(|n| dir.join(n)) {
            match std::fs::metadata(&path) {
                Ok(meta) if !meta.is_file() => self.warn(path, "is not a file and will not be run"),
                Ok(meta) if meta.permissions().mode() & 0o111 == 0 => {
                    self.warn(path, "is not executable and will not be run");
                }
                Ok(_) => list.push(path),
                Err(e) => self.warn(path, &format!("cannot be looked at ({e}) and will not be run")),
            }
        }
        Ok(list)
    }

    fn read_names(&mut self, dir: &Path) -> Result<Vec<String>> {
        let mut names = Vec::new();
        if !dir.exists() {
            return Ok(names);
        }
        check_version(dir)?;
        let unreadable = || format!("cannot list the state scripts in {}", dir.display());
        for entry in std::fs::read_dir(dir).context("SCRIPTS-LIST", unreadable)? {
            let name = entry.context("SCRIPTS-LIST", unreadable)?.file_name();
            match name.into_string() {
                Ok(name) if parse(&name).is_some() => names.push(name),
                Ok(name) if name == "version" => {}
                Ok(name) => self.warn(dir.join(name), "is not named like a state script and will not be run"),
                Err(name) => {
                    self.warn(dir.join(name), "is not named like a state script and will not be run")
                }
            }
        }
        Ok(names)
    }

    /// Says it once: the daemon looks at the same directory all the time.
    fn warn(&mut self, path: PathBuf, what: &str) {
        if self.warned.len() < WARNED && !self.warned.contains(&path) {
            log::warn!("{} {what}", path.display());
            self.warned.insert(path);
        }
    }

    /// Runs one script once. `None`: the agent was told to end.
    fn run_one(&self, path: &Path) -> Option<Ran> {
        log::info!("Running State Script: {}", path.display());
        let done = match process::run(&Invocation::new(path, self.timeout)) {
            Ok(done) => done,
            Err(e) => {
                log::error!("cannot start {}: {e}", path.display());
                return Some(Ran::Broken);
            }
        };
        log_output("stdout", &done.stdout);
        log_output("stderr", &done.stderr);
        match done.ended {
            Ended::Exit(code) => Some(Ran::Exit(code)),
            Ended::Signal(signal) => {
                log::error!("{} was killed by signal {signal}", path.display());
                Some(Ran::Broken)
            }
            Ended::TimedOut => {
                let limit = self.timeout.as_secs();
                log::error!(
                    "{} did not end within {limit} s (StateScriptTimeoutSeconds) and was killed",
                    path.display()
                );
                Some(Ran::Broken)
            }
            Ended::Interrupted => None,
        }
    }
}

fn log_output(stream: &str, captured: &Captured) {
    for line in captured.lines() {
        log::info!("Collected output ({stream}) while running script: {line}");
    }
}

fn check_version(dir: &Path) -> Result<()> {
    let path = dir.join("version");
    match file::read_limited(&path, 64) {
        Ok(content) if version_ok(&String::from_utf8_lossy(&content)) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()), // S14 PICK
        Ok(content) => Err(Error::new(
            "SCRIPTS-VERSION",
            format!(
                "{} says {:?}; this agent runs state scripts of versions 2 and 3",
                path.display(),
                String::from_utf8_lossy(&content).trim()
            ),
        )),
        Err(e) => Err(Error::new("SCRIPTS-VERSION", format!("cannot read {}: {e}", path.display()))),
    }
}

impl Scripts for StateScripts {
    fn run(&mut self, set: ScriptSet, from: Option<Cursor>) -> ScriptsEnd {
        let list = match self.list(set) {
            Ok(list) => list,
            Err(e) => {
                log::error!("{e}");
                return ScriptsEnd::Failed;
            }
        };
        let mut failed = from.as_ref().is_some_and(|c| c.failed);
        for path in list {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let mut first_start = clock::since_boot();
            if let Some(cursor) = &from {
                if name < cursor.name {
                    continue; // Ran before the wait.
                }
                if name == cursor.name {
                    first_start = cursor.first_start;
                }
            }
            let Some(ran) = self.run_one(&path) else { return ScriptsEnd::Interrupted };
            let since_first = clock::since_boot().saturating_sub(first_start);
            let pause = self.retry_interval.mul_f64(self.time_scale);
            match after(ran, since_first, pause, self.retry_limit) {
                After::Ok => continue,
                After::Again(_) => {
                    log::info!("{name} asks to be run again later (exit 21)");
                    return ScriptsEnd::Later(Cursor { name, first_start, failed }, self.retry_interval);
                }
                After::TooLate => log::error!(
                    "{name} asks to be run later still, but its time of {} s is over \
                     (StateScriptRetryTimeoutSeconds)",
                    self.retry_limit.as_secs()
                ),
                After::Failed => log::error!("{name} failed: {}", describe(ran)),
            }
            failed = true;
            if !set.run_all {
                break;
            }
        }
        if failed { ScriptsEnd::Failed } else { ScriptsEnd::Done }
    }

    fn check_rootfs_version(&mut self) -> Result<()> {
        check_version(&self.rootfs)
    }
}

fn describe(ran: Ran) -> String {
    match ran {
        Ran::Exit(code) => format!("exit status {code}"),
        Ran::Broken => "it did not end by itself".into(),
    }
}

/// Puts the scripts of an Artifact in place of those of any other (S18): the directory is emptied first, so that no
/// script of another deployment is left, and everything is on stable storage when this returns (S19). `format` is that
/// of the Artifact; the scripts speak the version of that number (AF-31).
pub fn put_in_place(
    dir: &Path,
    format: u8,
    count: usize,
    extract: impl FnOnce(&mut dyn FnMut(&str, &mut dyn std::io::Read) -> Result<()>) -> Result<()>,
) -> Result<()> {
    let code = "SCRIPTS-STORE";
    if dir.parent().is_none() || !dir.is_absolute() {
        return Err(Error::new(
            code,
            format!("{} cannot be the directory of Artifact scripts", dir.display()),
        ));
    }
    match std::fs::symlink_metadata(dir) {
        Ok(meta) if meta.is_dir() => {
            std::fs::remove_dir_all(dir).context(code, || format!("cannot empty {}", dir.display()))?;
        }
        Ok(_) => std::fs::remove_file(dir).context(code, || format!("cannot remove {}", dir.display()))?,
        Err(_) => {}
    }
    if count == 0 {
        return file::sync_parent(dir).context(code, || format!("cannot sync {}", dir.display()));
    }
    std::fs::create_dir_all(dir).context(code, || format!("cannot create {}", dir.display()))?;
    let mut write = |name: &str, content: &mut dyn std::io::Read| -> Result<()> {
        use std::os::unix::fs::OpenOptionsExt;
        let path = dir.join(name);
        let failed = || format!("cannot store the state script {}", path.display());
        let mut options = std::fs::OpenOptions::new();
        let mut out = options.write(true).create_new(true).mode(0o755).open(&path).context(code, failed)?;
        std::io::copy(content, &mut out).context(code, failed)?;
        out.sync_all().context(code, failed)
    };
    extract(&mut write)?;
    write("version", &mut format!("{format}\n").as_bytes())?;
    file::sync_dir(dir).context(code, || format!("cannot sync {}", dir.display()))?;
    file::sync_parent(dir).context(code, || format!("cannot sync {}", dir.display()))
}
