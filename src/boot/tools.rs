//! The boot environment through the boot loader's own tools: fw_printenv and fw_setenv, or the GRUB pair.

use super::fw_config::{self, CONFIG_LIMIT};
use super::protection::Unprotected;
use super::{Environment, Variables, env};
use crate::error::{Context, Error, Result};
use crate::sys::process::{Captured, Ended, Finished, Invocation, Kill, Running};
use crate::sys::{file, signal};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Raw flash takes seconds to erase; a tool that needs longer than this hangs.
const LIMIT: Duration = Duration::from_secs(120);
/// What a tool gets to end by itself after that.
const GRACE: Duration = Duration::from_secs(10);
/// libubootenv cuts longer lines (BE-43).
const LONGEST_LINE: usize = 2047;

/// A pair of tools: one prints variables, one sets them from a script on standard input (BE-40..46).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tools {
    print: String,
    set: String,
    protected: Option<Protected>,
}

/// Devices that the kernel may protect from writing. U-Boot's fw_setenv does not lift that, libubootenv's does (BE-9).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Protected {
    root: PathBuf,
    fw_env_config: PathBuf,
    /// Known without that file, by their names in /dev.
    devices: &'static [&'static str],
}

impl Protected {
    fn lift(&self) -> Result<Unprotected> {
        // The tool says what is wrong with the file.
        let text = file::read_limited(&self.fw_env_config, CONFIG_LIMIT).unwrap_or_default();
        let areas = fw_config::parse(&String::from_utf8_lossy(&text)).unwrap_or_default();
        let named = areas.iter().filter_map(|a| Path::new(&a.device).file_name()?.to_str());
        Unprotected::lift(named.chain(self.devices.iter().copied()), &self.root)
    }
}

impl Tools {
    /// `fw_printenv` and `fw_setenv`, looked up in PATH.
    pub fn uboot() -> Tools {
        Tools::new("fw_printenv".to_owned(), "fw_setenv".to_owned())
    }

    /// Other tools with the same way of being called, such as `grub-mender-grubenv-print` and
    /// `grub-mender-grubenv-set`: paths, or names that are looked up in PATH. Arguments may follow, separated by
    /// blanks.
    pub fn new(print: String, set: String) -> Tools {
        Tools { print, set, protected: None }
    }

    /// The same for devices with write protection: it is lifted around each write for those of `fw_env_config` and
    /// for `devices` (names in /dev). Below `root` /sys is looked at.
    pub fn unprotecting(
        self,
        root: PathBuf,
        fw_env_config: PathBuf,
        devices: &'static [&'static str],
    ) -> Tools {
        Tools { protected: Some(Protected { root, fw_env_config, devices }), ..self }
    }

    fn print(&self, names: &[&str]) -> Result<(Finished, Option<Variables>)> {
        let done = run(invocation(&self.print, names)?)?;
        let stderr = done.stderr.lines().join("; ");
        // Both tools fall back to values that are compiled in or installed, and would later write them (BE-70).
        if ["Bad CRC", "using default", "Using default"].iter().any(|s| stderr.contains(s)) {
            let text = format!(
                "'{}' found no good copy of the boot environment and shows defaults ({stderr}); nothing is written",
                self.print
            );
            return Err(Error::new("BOOT-ENV-CORRUPT", text));
        }
        let values = match done.ended {
            Ended::Exit(0) => Some(parse(&done.stdout, names)),
            _ => None,
        };
        Ok((done, values))
    }

    /// One variable. fw_printenv of U-Boot fails for one that is absent, libubootenv's prints it empty (BE-44).
    fn print_one(&self, name: &str) -> Result<Variables> {
        match self.print(&[name])? {
            (_, Some(values)) => Ok(values),
            (done, None) => {
                let stderr = done.stderr.lines().join("; ");
                if matches!(done.ended, Ended::Exit(_)) && stderr.contains("not defined") {
                    return Ok(Variables::new());
                }
                Err(failed(&self.print, &done))
            }
        }
    }
}

impl Environment for Tools {
    fn read(&mut self, names: &[&str]) -> Result<Variables> {
        if let (_, Some(values)) = self.print(names)? {
            return Ok(values);
        }
        let mut values = Variables::new();
        for name in names {
            values.append(&mut self.print_one(name)?);
        }
        Ok(values)
    }

    fn write(&mut self, changes: &[(&str, &str)]) -> Result<()> {
        let mut script = String::new();
        for (name, value) in changes {
            env::check(name, value)?;
            let line = format!("{name}={value}\n");
            if line.len() > LONGEST_LINE || name.starts_with('#') || name.contains([' ', '\t']) {
                let text = format!("'{}' cannot set variable {name:?}", self.set);
                return Err(Error::new("BOOT-ENV-NAME", text));
            }
            script.push_str(&line);
        }
        let mut what = invocation(&self.set, &["-s", "-"])?;
        what.input = script.into_bytes();
        let unprotected = self.protected.as_ref().map(Protected::lift).transpose()?;
        let done = run(what)?;
        drop(unprotected);
        if done.ended != Ended::Exit(0) {
            return Err(failed(&self.set, &done));
        }
        self.check_written(changes)
    }
}

impl Tools {
    /// A tool may ignore lines that it does not understand and still exit with 0 (BE-43).
    fn check_written(&mut self, changes: &[(&str, &str)]) -> Result<()> {
        let names: Vec<&str> = changes.iter().map(|(n, _)| *n).collect();
        let now = self.read(&names)?;
        for (name, value) in changes {
            let is = now.get(*name).map_or("", String::as_str);
            if is != *value {
                let text = format!(
                    "'{}' was told to set {name} to '{value}' and reported success, but '{}' shows '{is}'. Tools \
                     from before 2019 do not understand 'name=value' lines",
                    self.set, self.print
                );
                return Err(Error::new("BOOT-ENV-VERIFY", text));
            }
        }
        Ok(())
    }
}

/// Picks the named variables from `name=value` lines; whatever else is printed is not ours. Empty = absent.
fn parse(stdout: &Captured, names: &[&str]) -> Variables {
    let lines = stdout.lines();
    let pairs = lines.iter().filter_map(|l| l.split_once('='));
    let wanted = pairs.filter(|(name, value)| names.contains(name) && !value.is_empty());
    wanted.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn invocation(tool: &str, args: &[&str]) -> Result<Invocation> {
    let mut words = tool.split_ascii_whitespace();
    let Some(program) = words.next() else {
        return Err(Error::new("BOOT-ENV-TOOL", "the name of a boot environment tool is empty"));
    };
    let mut what = Invocation::new(program, LIMIT);
    what.kill = Kill::After(GRACE);
    Ok(words.chain(args.iter().copied()).fold(what, |what, arg| what.arg(arg)))
}

/// Runs a tool to its end even if the agent has been told to end meanwhile: killed in the middle of its write,
/// it would leave a damaged environment.
fn run(what: Invocation) -> Result<Finished> {
    let name = what.program.display().to_string();
    let about =
        || format!("cannot run '{name}'. Is it installed? (libubootenv-tool has fw_printenv and fw_setenv)");
    let mut child = Running::start(&what).context("BOOT-ENV-TOOL", about)?;
    while child.ended().context("BOOT-ENV-TOOL", about)?.is_none() {
        child.drain();
        let left = child.deadline().saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        signal::poll(&child.wanted(), Some(left)).context("BOOT-ENV-TOOL", about)?;
    }
    child.finish().context("BOOT-ENV-TOOL", about)
}

fn failed(tool: &str, done: &Finished) -> Error {
    let how = match done.ended {
        Ended::Exit(code) => format!("ended with status {code}"),
        Ended::Signal(signal) => format!("was killed by signal {signal}"),
        Ended::TimedOut => format!("did not end within {} s", LIMIT.as_secs()),
        Ended::Interrupted => "was interrupted".to_owned(),
    };
    let said = [done.stderr.lines(), done.stdout.lines()].concat().join("; ");
    Error::new("BOOT-ENV-TOOL", format!("'{tool}' {how}: {said} (it requires root privileges)"))
}
