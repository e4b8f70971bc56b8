//! A device with two root file system slots, made of files in a directory; needs no root.
//!
//! | below the directory | |
//! | --- | --- |
//! | `root/` | the root file system that the agent sees with `--root` |
//! | `dev/` | the two slots and the boot environment, regular files of fixed size |
//! | `bin/` | comes first in PATH: a `reboot` that records the call and cuts the agent off |
//! | `agent.pid`, `agent.log`, `reboots` | who runs, what it said, how often it asked for a reboot |
//!
//! A slot's content is never run: what "boots" is only which slot counts as the running one.

mod bootloader;
mod env;
mod layout;
mod process;
#[cfg(test)]
mod tests;

pub use layout::DeviceOptions;

use crate::tool;
use env::{Environment, Variables};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

/// Numbers of the two slots' partitions; the first runs at the beginning.
pub const SLOTS: [u32; 2] = [2, 3];

/// How [`Device::run_to_end`] ended.
#[derive(Clone, Debug)]
pub struct Ending {
    /// Exit code of the last run.
    pub code: i32,
    /// How often the device booted in between.
    pub boots: usize,
    /// What the agent wrote in all these runs.
    pub output: String,
}

/// The device.
#[derive(Debug)]
pub struct Device {
    dir: PathBuf,
    environment: Environment,
    running: u32,
    boots: usize,
    broken: BTreeSet<u32>,
    time_limit: Duration,
    agent_env: Vec<(String, String)>,
}

impl Device {
    /// Lays it out in `dir`, which is made if need be. The first slot runs.
    pub fn new(dir: &Path, options: DeviceOptions) -> Device {
        for name in [
            "root/etc/mender/scripts",
            "root/var/lib/mender",
            "root/usr/share/mender/identity",
            "root/usr/share/mender/inventory",
            "root/usr/share/mender/modules/v3",
            "root/proc/self",
            "root/proc/sys/kernel/random",
            "root/run",
            "root/tmp",
            "dev",
            "bin",
        ] {
            fs::create_dir_all(dir.join(name))
                .unwrap_or_else(|error| panic!("{}/{name}: {error}", dir.display()));
        }
        let dir = dir.canonicalize().expect("the device's directory");
        let mut variables: Variables = [
            ("bootcount", "0"),
            ("bootlimit", "1"),
            ("mender_boot_part", "2"),
            ("mender_boot_part_hex", "2"),
            ("mender_check_saveenv_canary", "1"),
            ("mender_saveenv_canary", "1"),
            ("other_variable", "kept as it is"),
            ("upgrade_available", "0"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        variables.extend(options.variables.iter().cloned());
        let environment = Environment::create(&dir.join("dev/ubootenv"), options.redundant_env, &variables);
        let mut device = Device {
            dir,
            environment,
            running: SLOTS[0],
            boots: 0,
            broken: BTreeSet::new(),
            time_limit: options.time_limit,
            agent_env: options.agent_env.clone(),
        };
        device.lay_out(&options);
        device.come_up(SLOTS[0]);
        device
    }

    /// Where everything is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What the agent gets with `--root`.
    pub fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// A slot's file.
    pub fn slot_path(&self, slot: u32) -> PathBuf {
        self.dir.join(format!("dev/mmcblk0p{slot}"))
    }

    /// A slot's bytes.
    pub fn slot_bytes(&self, slot: u32) -> Vec<u8> {
        let path = self.slot_path(slot);
        fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Whether a slot begins with exactly these bytes; holds no slot in memory.
    pub fn slot_holds(&self, slot: u32, content: &crate::Content) -> bool {
        let slot = File::open(self.slot_path(slot)).expect("open the slot");
        let mut slot = slot.take(content.size().expect("the content's size"));
        let mut content = content.open().expect("open the content");
        let (mut here, mut there) = (vec![0; 1 << 16], Vec::with_capacity(1 << 16));
        loop {
            let count = content.read(&mut here).expect("read the content");
            there.clear();
            slot.by_ref().take(count as u64).read_to_end(&mut there).expect("read the slot");
            if here[..count] != there[..] {
                return false;
            }
            if count == 0 {
                return true;
            }
        }
    }

    /// Puts a file's bytes at the beginning of a slot; the slot keeps its size.
    pub fn fill_slot(&self, slot: u32, image: &Path) {
        let copied = File::open(image).and_then(|mut image| {
            let mut slot = OpenOptions::new().write(true).open(self.slot_path(slot))?;
            io::copy(&mut image, &mut slot)
        });
        copied.unwrap_or_else(|error| panic!("copy {} to slot {slot}: {error}", image.display()));
    }

    /// The slot that runs.
    pub fn running_slot(&self) -> u32 {
        self.running
    }

    /// The other one.
    pub fn other_slot(&self) -> u32 {
        SLOTS[0] + SLOTS[1] - self.running
    }

    /// From now on this slot's kernel does not start.
    pub fn break_slot(&mut self, slot: u32) {
        self.broken.insert(slot);
    }

    /// The boot environment as the boot loader reads it; empty when no copy is valid.
    pub fn env(&self) -> BTreeMap<String, String> {
        self.environment.read().unwrap_or_default()
    }

    /// Changes a variable of the boot environment behind the agent's back.
    pub fn set_env(&self, name: &str, value: &str) {
        self.environment.change(&[(name, value.to_owned())]);
    }

    /// Damages one copy (0 or 1) of the boot environment.
    pub fn damage_env(&self, copy: usize) {
        self.environment.damage(copy);
    }

    /// How often the device has booted since it was made.
    pub fn boots(&self) -> usize {
        self.boots
    }

    /// How often the agent asked for a reboot.
    pub fn reboots_asked(&self) -> usize {
        self.read("reboots").lines().count()
    }

    /// Writes a file below the root file system.
    pub fn write(&self, path: &str, text: &str) {
        self.write_mode(&format!("root/{path}"), text, 0o644);
    }

    /// Writes an executable file below the root file system.
    pub fn write_script(&self, path: &str, text: &str) {
        self.write_mode(&format!("root/{path}"), text, 0o755);
    }

    /// What the agent has written so far in [`run`](Self::run) and [`run_to_end`](Self::run_to_end).
    pub fn log(&self) -> String {
        self.read("agent.log")
    }

    /// `thimble --root ROOT ARGS`, not yet started: in a session of its own, PATH beginning with the device's
    /// tools, little else in the environment, its number in `agent.pid`. `THIMBLE_BIN` names another program to test
    /// instead: the release build, or one for another architecture in QEMU.
    pub fn command(&self, thimble: &Path, args: &[&str]) -> Command {
        let instead = std::env::var_os("THIMBLE_BIN").map(PathBuf::from);
        let thimble = instead.as_deref().unwrap_or(thimble);
        let thimble = thimble.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", thimble.display()));
        let mut command = process::in_own_session(&self.pid_file(), &thimble);
        command.arg("--root").arg(self.root()).args(args).current_dir(&self.dir).env_clear();
        for (name, value) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            if ["LANG", "HOME", "TERM", "TZ"].contains(&&*name_text) || name_text.starts_with("THIMBLE_") {
                command.env(&name, value);
            }
        }
        command.env("PATH", format!("{}:{}", self.dir.join("bin").display(), tool::TOOL_PATH));
        command.envs(self.agent_env.iter().cloned());
        command.env("RUST_BACKTRACE", "1").stdin(Stdio::null());
        command
    }

    /// Runs the agent once to its end; its output goes to `agent.log`. Returns the exit code, `None` when it
    /// was killed, as a reboot does.
    pub fn run(&self, thimble: &Path, args: &[&str]) -> Option<i32> {
        let log = self.open_log(args);
        self.finish(thimble, args, log.try_clone().expect("agent.log twice"), log)
    }

    /// Standard output of one run, e.g. of `show-artifact`; the rest goes to `agent.log`. Panics when it fails.
    pub fn output(&self, thimble: &Path, args: &[&str]) -> String {
        self.try_output(thimble, args).unwrap_or_else(|reason| panic!("{reason}:\n{}", self.log()))
    }

    /// As [`output`](Self::output); an error when the exit code is not 0.
    pub fn try_output(&self, thimble: &Path, args: &[&str]) -> Result<String, String> {
        let output = File::create(self.dir.join("output")).expect("make the file for output");
        match self.finish(thimble, args, output, self.open_log(args)) {
            Some(0) => Ok(self.read("output")),
            Some(code) => Err(format!("`thimble {}` ends with exit code {code}", args.join(" "))),
            None => Err(format!("`thimble {}` was killed", args.join(" "))),
        }
    }

    fn open_log(&self, args: &[&str]) -> File {
        let path = self.dir.join("agent.log");
        let mut log = OpenOptions::new().create(true).append(true).open(path).expect("open agent.log");
        writeln!(log, "---- thimble {}", args.join(" ")).expect("write agent.log");
        log
    }

    /// Runs a command of [`command`](Self::command) that a test has changed, to its end or to the time limit.
    pub fn run_command(&self, mut command: Command, what: &str) -> ExitStatus {
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start setsid (Debian package util-linux): {error}"));
        process::wait(child, self.time_limit, what)
    }

    /// Appends to `agent.log` what a test got from the agent by other ways.
    pub fn note(&self, args: &[&str], text: &str) {
        // A full disk must not hide what the test has to say.
        let _ = self.open_log(args).write_all(text.as_bytes());
    }

    fn finish(&self, thimble: &Path, args: &[&str], output: File, errors: File) -> Option<i32> {
        let mut command = self.command(thimble, args);
        command.stdout(output).stderr(errors);
        let status = self.run_command(command, &format!("thimble {}", args.join(" ")));
        match (status.code(), status.signal()) {
            (None, Some(9)) => None,
            (None, signal) => panic!("thimble died of signal {signal:?}:\n{}", self.log()),
            (code, _) => code,
        }
    }

    /// Runs `check`; whenever that is cut by a reboot, boots and runs it again.
    /// Panics when it takes more than `most_boots`.
    pub fn run_to_end(&mut self, thimble: &Path, most_boots: usize) -> Ending {
        let before = (self.boots, self.log().len());
        loop {
            let asked = self.reboots_asked();
            let code = self.run(thimble, &["check"]);
            if let Some(code) = code
                && self.reboots_asked() == asked
            {
                let output = self.log().split_off(before.1);
                return Ending { code, boots: self.boots - before.0, output };
            }
            assert!(self.boots - before.0 < most_boots, "more than {most_boots} boots:\n{}", self.log());
            self.boot();
        }
    }

    /// Power on: whatever still runs is gone, the boot loader picks a slot. Panics when no slot starts.
    pub fn boot(&mut self) {
        self.try_boot().unwrap_or_else(|reason| panic!("the device is dead: {reason}\n{}", self.log()));
    }

    /// As [`boot`](Self::boot); an error when no slot starts.
    pub fn try_boot(&mut self) -> Result<u32, String> {
        self.power_off();
        let slot = bootloader::power_on(&self.environment, SLOTS, |slot| !self.broken.contains(&slot))?;
        self.boots += 1;
        self.come_up(slot);
        Ok(slot)
    }

    /// Cuts the power: kills what the last [`command`](Self::command) started, children included.
    pub fn power_off(&self) {
        assert!(self.kill_leftovers(), "processes of the agent's session survive SIGKILL");
    }

    /// Whether nothing is left of the agent's session.
    fn kill_leftovers(&self) -> bool {
        let Ok(session) = self.read("agent.pid").trim().parse() else { return true };
        let gone = process::kill_session(session);
        // So that the number is never used again; without it there is nothing to kill.
        let _ = fs::remove_file(self.pid_file());
        gone
    }

    fn pid_file(&self) -> PathBuf {
        self.dir.join("agent.pid")
    }

    /// A file's text; empty when there is none.
    fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.join(name)).unwrap_or_default()).into_owned()
    }

    fn write_mode(&self, path: &str, text: &str, mode: u32) {
        let path = self.dir.join(path);
        let written = fs::create_dir_all(path.parent().expect("a file has a directory"))
            .and_then(|()| fs::write(&path, text))
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)));
        written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// What the kernel shows once a slot runs; everything volatile is new.
    fn come_up(&mut self, slot: u32) {
        self.running = slot;
        let device = self.slot_path(slot);
        let device = device.display();
        let mounts = format!("{device} / ext4 rw,relatime 0 0\n");
        self.write("proc/mounts", &mounts);
        self.write("proc/self/mounts", &mounts);
        self.write("proc/self/mountinfo", &format!("22 1 179:{slot} / / rw,relatime - ext4 {device} rw\n"));
        self.write("proc/cmdline", &format!("root={device} rw\n"));
        let boot_id = format!("{:08x}-0000-4000-8000-{:012x}\n", std::process::id(), self.boots);
        self.write("proc/sys/kernel/random/boot_id", &boot_id);
        for name in ["run", "tmp"] {
            let path = self.root().join(name);
            let renewed = fs::remove_dir_all(&path).and_then(|()| fs::create_dir(&path));
            renewed.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // Nothing that a test left running may outlive it. A failure here would only hide the test's own.
        let _ = self.kill_leftovers();
    }
}
