//! A server and a device together, and what a test asks of them: the stage of all tests of the whole agent.

use crate::{ArtifactSpec, Content, Deployment, Device, DeviceOptions, Ending, Options, Server, TempDir};
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The deployment's ID, unless a test makes another one.
pub const ID: &str = "00000000-0000-4000-8000-000000000001";

/// How long a test waits for something that should happen soon.
const SOON: Duration = Duration::from_secs(30);

/// One run of the agent.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Exit code; `None` when it was killed.
    pub code: Option<i32>,
    /// The signal that killed it.
    pub signal: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ran {
    /// Panics, showing everything, unless it ended with this exit code.
    #[track_caller]
    pub fn expect(&self, code: i32) -> &Ran {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// Panics unless standard error contains this.
    #[track_caller]
    pub fn complains(&self, what: &str) -> &Ran {
        assert!(self.stderr.contains(what), "{what:?} is not in {self:#?}");
        self
    }

    /// Panics unless standard output is this.
    #[track_caller]
    pub fn says(&self, what: &str) -> &Ran {
        assert_eq!(self.stdout, what, "{self:#?}");
        self
    }
}

/// A server, a device, the agent, in a directory that goes away.
pub struct Scene {
    /// The server.
    pub server: Server,
    /// The device.
    pub device: Device,
    thimble: PathBuf,
    count: AtomicU32,
    // Last: the others work in it until they are dropped.
    dir: TempDir,
}

impl Scene {
    /// The usual ones. Waits between tries are shortened to a thousandth.
    pub fn new(name: &str, thimble: &str) -> Scene {
        Scene::with(name, thimble, Options::default(), DeviceOptions::default())
    }

    /// With more members of `mender.conf`: name and JSON text.
    pub fn configured(name: &str, thimble: &str, config: &[(&str, &str)]) -> Scene {
        let config = config.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        Scene::with(name, thimble, Options::default(), DeviceOptions { config, ..DeviceOptions::default() })
    }

    /// With options; an empty server address becomes the server's.
    pub fn with(name: &str, thimble: &str, server: Options, mut device: DeviceOptions) -> Scene {
        let dir = TempDir::new(name);
        let server = Server::start(server);
        if device.server_url.is_empty() {
            device.server_url = server.url();
        }
        let scale = "THIMBLE_TIME_SCALE".to_owned();
        if device.agent_env.iter().all(|(name, _)| *name != scale) {
            device.agent_env.push((scale, "0.001".to_owned()));
        }
        let device = Device::new(&dir.path().join("device"), device);
        Scene { server, device, thimble: thimble.into(), count: AtomicU32::new(0), dir }
    }

    /// The scene's directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The agent.
    pub fn thimble(&self) -> &Path {
        &self.thimble
    }

    /// The usual image of the update: not a multiple of any block size.
    pub fn image() -> Content {
        Content::Pattern { size: 300_001, seed: 2 }
    }

    /// The usual update, `release-2`, without scripts.
    pub fn release() -> ArtifactSpec {
        ArtifactSpec::rootfs("release-2", Scene::image())
    }

    /// A state script that notes its name, then does as told. `$device` is the device's directory.
    pub fn script(&self, name: &str, body: &str) -> String {
        let (dir, device) = (self.dir.path().display(), self.device.dir().display());
        format!("#!/bin/sh\ndevice='{device}'\necho {name} >> '{dir}/ran'\n{body}\n")
    }

    /// Puts a state script of the root file system in place.
    pub fn rootfs_script(&self, name: &str, body: &str) {
        self.device.write_script(&format!("etc/mender/scripts/{name}"), &self.script(name, body));
    }

    /// Adds to the Artifact a noting script for every place of an update that has them.
    pub fn scripted(&self, spec: ArtifactSpec, special: &[(&str, &str)]) -> ArtifactSpec {
        let mut spec = spec;
        for step in ["Install", "Reboot", "Commit", "Rollback", "RollbackReboot", "Failure"] {
            for action in ["Enter", "Leave", "Error"] {
                let place = format!("Artifact{step}_{action}");
                let body =
                    special.iter().find(|(name, _)| *name == place).map(|(_, body)| *body).unwrap_or("");
                let name = format!("{place}_00");
                spec = spec.script(&name, &self.script(&name, body));
            }
        }
        for action in ["Enter", "Leave", "Error"] {
            let place = format!("Download_{action}");
            let body = special.iter().find(|(name, _)| *name == place).map(|(_, body)| *body).unwrap_or("");
            self.rootfs_script(&format!("{place}_00"), body);
        }
        spec
    }

    /// The shell text that cuts the power, the first time that it is reached.
    pub fn cut(&self) -> String {
        let marker = self.dir.path().join("cut");
        let marker = marker.display();
        format!(
            "if [ ! -e '{marker}' ]; then touch '{marker}'; kill -9 \"$(cat \"$device/agent.pid\")\"; sleep 600; fi"
        )
    }

    /// Writes an Artifact to a file.
    pub fn artifact(&self, spec: &ArtifactSpec) -> PathBuf {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.path().join(format!("{number}-{}.mender", spec.name));
        spec.write(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }

    /// Offers an Artifact as deployment [`ID`].
    pub fn offer(&self, spec: &ArtifactSpec) {
        self.offer_file(ID, &self.artifact(spec), &spec.name);
    }

    /// Offers a file, whatever is in it.
    pub fn offer_file(&self, id: &str, artifact: &Path, name: &str) {
        self.server.deploy(Deployment {
            id: id.to_owned(),
            artifact: artifact.to_owned(),
            artifact_name: name.to_owned(),
            device_types: vec!["test-type".to_owned()],
        });
    }

    /// Runs the agent once; output is caught, and repeated in the device's log.
    pub fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, |_| {})
    }

    /// As [`run`](Self::run), after the test has changed the command.
    pub fn run_with(&self, args: &[&str], change: impl FnOnce(&mut Command)) -> Ran {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let path = |what: &str| self.dir.path().join(format!("{number}.{what}"));
        let make = |what: &str| File::create(path(what)).expect("a file for output");
        let mut command = self.device.command(&self.thimble, args);
        command.stdout(make("out")).stderr(make("err"));
        change(&mut command);
        let status = self.device.run_command(command, &format!("thimble {}", args.join(" ")));
        let read =
            |what: &str| String::from_utf8_lossy(&fs::read(path(what)).expect("the output")).into_owned();
        let ran =
            Ran { code: status.code(), signal: status.signal(), stdout: read("out"), stderr: read("err") };
        self.device.note(args, &format!("{}{}", ran.stdout, ran.stderr));
        assert!(!ran.stderr.contains("panicked at"), "{ran:#?}");
        assert!([None, Some(9)].contains(&ran.signal), "{ran:#?}");
        ran
    }

    /// `check`, as often as it takes: at each reboot the device boots. At most six boots.
    pub fn update(&mut self) -> Ending {
        let ending = self.device.run_to_end(&self.thimble, 6);
        assert!(!ending.output.contains("panicked at"), "{}", ending.output);
        ending
    }

    /// Starts the daemon.
    pub fn daemon(&self) -> Daemon {
        let log = File::create(self.dir.path().join("daemon.log")).expect("a file for the log");
        let mut command = self.device.command(&self.thimble, &["daemon"]);
        command.stdout(Stdio::null()).stderr(log);
        Daemon { child: command.spawn().expect("setsid (Debian package util-linux)") }
    }

    /// What the daemon has written.
    pub fn daemon_log(&self) -> String {
        fs::read_to_string(self.dir.path().join("daemon.log")).unwrap_or_default()
    }

    /// Waits until something about the server is true.
    #[track_caller]
    pub fn wait_until(&self, what: impl Fn(&Server) -> bool) {
        let came = self.server.wait_until(what, SOON);
        assert!(came, "it never came true\n{}\n{}", self.device.log(), self.daemon_log());
    }

    /// Names of the noting scripts that ran, in order.
    pub fn scripts_ran(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.path().join("ran")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Forgets which scripts ran.
    pub fn forget_scripts(&self) {
        // None ran.
        let _ = fs::remove_file(self.dir.path().join("ran"));
    }

    /// The statuses that the server accepted, repeated ones once.
    pub fn statuses(&self) -> Vec<String> {
        let mut statuses = self.server.statuses(ID);
        statuses.dedup();
        statuses
    }

    /// What `show-artifact` says.
    pub fn artifact_name(&self) -> String {
        self.device.output(&self.thimble, &["show-artifact"]).trim_end().to_owned()
    }

    /// What `show-provides` says.
    pub fn provides(&self) -> String {
        self.device.output(&self.thimble, &["show-provides"])
    }

    /// Panics unless the device runs from this slot for good and nothing is in progress any more.
    #[track_caller]
    pub fn assert_settled(&mut self, slot: u32) {
        let log = self.device.log();
        let env = self.device.env();
        let is = |name: &str| env.get(name).cloned().unwrap_or_default();
        assert_eq!(self.device.running_slot(), slot, "the running slot\n{log}");
        assert_eq!(is("upgrade_available"), "0", "an update is still being tried\n{log}");
        assert_eq!(is("mender_boot_part"), slot.to_string(), "{log}");
        assert_eq!(is("mender_boot_part_hex"), slot.to_string(), "{log}");
        assert_eq!(is("other_variable"), "kept as it is", "{log}");
        assert_eq!(self.server.violations(), Vec::<String>::new(), "{log}");
        // Stays so whatever happens next.
        self.device.boot();
        assert_eq!(self.device.running_slot(), slot, "after one more boot\n{log}");
        self.run(&["commit"]).expect(2);
    }

    /// Panics unless the update is there in full: image, slot, environment, name.
    #[track_caller]
    pub fn assert_new(&mut self) {
        self.assert_settled(3);
        assert!(self.device.slot_holds(3, &Scene::image()), "slot 3 is not the image");
        assert_eq!(self.artifact_name(), "release-2");
    }

    /// Panics unless everything is as before the update.
    #[track_caller]
    pub fn assert_old(&mut self) {
        self.assert_settled(2);
        assert_eq!(self.artifact_name(), "release-1");
        assert!(self.device.slot_bytes(2).starts_with(b"first content of slot 2\n"), "slot 2 was written to");
    }

    /// Panics unless the server heard of a failure, once, and got the log of it. Returns that.
    #[track_caller]
    pub fn assert_failure_reported(&self) -> Vec<String> {
        assert_eq!(self.finals(), ["failure"], "{}", self.device.log());
        let log = self.server.logs(ID);
        assert!(!log.is_empty(), "no log of the deployment\n{}", self.device.log());
        log
    }

    /// Panics unless the server heard of a success, once.
    #[track_caller]
    pub fn assert_success_reported(&self) {
        assert_eq!(self.finals(), ["success"], "{}", self.device.log());
    }

    /// The final statuses that the server accepted.
    pub fn finals(&self) -> Vec<String> {
        let last = ["success", "failure", "already-installed"];
        self.server.statuses(ID).into_iter().filter(|status| last.contains(&&**status)).collect()
    }
}

/// A daemon at work; killed if the test ends first.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
}

impl Daemon {
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: no memory is involved; the number is that of our child, which was not waited for.
        let sent = unsafe { libc::kill(self.child.id() as libc::pid_t, signal) };
        assert_eq!(sent, 0, "signal the daemon");
    }

    /// Waits for its end: the exit code, `None` when it was killed.
    pub fn wait(&mut self) -> Option<i32> {
        self.child.wait().expect("wait for the daemon").code()
    }

    /// Ends it with SIGTERM.
    pub fn stop(&mut self) -> Option<i32> {
        self.signal(libc::SIGTERM);
        self.wait()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Ended already: fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
