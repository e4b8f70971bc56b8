//! `demo PATH/TO/thimble [--verbose]`: three updates of a simulated device, told step by step.
//!
//! The first is good; the second fails its own self-test and is undone; the third waits for a person before it is
//! committed. Everything happens in a temporary
//! directory, without root, against a test server in this process. Exits with 1 if anything is not as it
//! should be.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use thimble_testkit::{
    ArtifactSpec, Content, Deployment, Device, DeviceOptions, Options, Server, TempDir, What, tool,
};

const SLOT_SIZE: u64 = 8 << 20;
const DEVICE_TYPE: &str = "demo-board";
const SELF_TEST: &str = "ArtifactCommit_Enter_00_selftest";
const BROKEN: &str = "self-test: the sensor does not answer";
/// More boots than this, and something goes round in circles.
const MOST_BOOTS: usize = 4;

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let verbose = arguments.iter().any(|argument| argument == "--verbose");
    arguments.retain(|argument| argument != "--verbose");
    let [thimble] = arguments.as_slice() else {
        eprintln!("usage: demo PATH/TO/thimble [--verbose]");
        return ExitCode::from(2);
    };
    if !Path::new(thimble).is_file() {
        eprintln!("demo: there is no file {thimble}: build thimble first (cargo build)");
        return ExitCode::from(2);
    }
    let dir = TempDir::new("demo");
    let mut demo = Demo::new(dir.path(), Path::new(thimble));
    let told = demo.tell();
    let good = demo.summary(told);
    if verbose || !good {
        println!("\nThe agent's log ($DEV/agent.log):\n{}", demo.shorten(&demo.device.log()));
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Demo {
    dir: PathBuf,
    thimble: PathBuf,
    device: Device,
    server: Server,
    step: usize,
    /// The part of the story, whether it is as it should be, what is.
    checks: Vec<(String, bool, String)>,
    part: String,
}

/// One update as the demo tells it.
struct Release {
    id: &'static str,
    name: &'static str,
    self_test: &'static str,
    /// What the last `check` of it ends with: 0 for a success, 5 for a failure that the server knows of, 6 for a
    /// pause.
    code: i32,
}

impl Demo {
    fn new(dir: &Path, thimble: &Path) -> Demo {
        let server = Server::start(Options::default());
        let device = Device::new(
            &dir.join("device"),
            DeviceOptions {
                device_type: DEVICE_TYPE.to_owned(),
                server_url: server.url(),
                slot_size: SLOT_SIZE,
                time_limit: Duration::from_secs(30),
                config: vec![("UpdateControlMapExpirationTimeSeconds".to_owned(), "600".to_owned())],
                ..DeviceOptions::default()
            },
        );
        let (dir, thimble) = (dir.to_owned(), thimble.to_owned());
        Demo {
            dir,
            thimble,
            device,
            server,
            step: 0,
            checks: Vec::new(),
            part: "At the beginning".to_owned(),
        }
    }

    fn tell(&mut self) -> Result<(), String> {
        println!("thimble demo: three updates of a simulated device: one good, one that fails its own test,");
        println!("one that waits for a person.");
        println!("$DEV is {} (removed at the end; THIMBLE_KEEP=1 keeps it)", self.device.dir().display());
        self.make_device()?;

        let good = Release {
            id: "00000000-0000-4000-8000-000000000002",
            name: "release-2",
            self_test: "echo 'self-test: all is well' >&2",
            code: 0,
        };
        self.offer(&good)?;
        self.update(&good)?;
        self.after_success(&good)?;

        let bad = Release {
            id: "00000000-0000-4000-8000-000000000003",
            name: "release-3",
            self_test: "echo 'self-test: the sensor does not answer' >&2\nexit 1",
            code: 5,
        };
        self.offer(&bad)?;
        self.update(&bad)?;
        self.after_failure(&bad)?;

        let held = Release {
            id: "00000000-0000-4000-8000-000000000004",
            name: "release-4",
            self_test: "echo 'self-test: all is well' >&2",
            code: 6,
        };
        self.offer(&held)?;
        self.heading("Nothing is to be made permanent until somebody has had a look");
        self.control("pause")?;
        self.update(&held)?;
        self.heading("It runs, it waits, and it says why");
        self.while_paused(&held)?;
        self.control("continue")?;
        self.update(&Release { code: 0, ..held })?;
        self.after_pause()
    }

    /// `thimble control VERB commit`.
    fn control(&self, verb: &str) -> Result<(), String> {
        println!("   $ thimble --root $DEV/root control {verb} commit");
        let seconds = self.device.try_output(&self.thimble, &["control", verb, "commit"])?;
        if verb == "pause" {
            println!("      {}     (seconds until this should be said again)", seconds.trim());
        }
        Ok(())
    }

    fn while_paused(&mut self, release: &Release) -> Result<(), String> {
        println!("   $ thimble --root $DEV/root control show");
        let shown = self.device.try_output(&self.thimble, &["control", "show"])?;
        for line in shown.lines() {
            println!("      {line}");
        }
        let statuses = self.server.statuses(release.id);
        let paused = statuses.last().is_some_and(|last| last == "pause_before_committing");
        self.check(paused, "the server heard pause_before_committing");
        self.check(shown.contains("is paused before commit"), "control show says that it is paused, and why");
        let version = self.running_version()?;
        let tried = version == "release-4" && !self.committed(self.device.running_slot());
        self.check(tried, "release-4 runs, and nothing is for good yet");
        Ok(())
    }

    fn after_pause(&mut self) -> Result<(), String> {
        self.heading("What is left of it");
        self.show_running()?;
        let (name, version) = (self.show_artifact()?, self.running_version()?);
        self.check(
            name == "release-4" && version == "release-4",
            "release-4 runs, and show-artifact says so",
        );
        let slot = self.device.running_slot();
        self.check(self.committed(slot), &format!("the boot environment keeps slot p{slot} for good"));
        self.check_server(3);
        Ok(())
    }

    fn check_server(&mut self, updates: usize) {
        let downloads = self.server.requests_of(What::Artifact).len();
        self.check(downloads == updates, "each Artifact was downloaded once");
        let violations = self.server.violations();
        for violation in &violations {
            println!("   VIOLATION: {violation}");
        }
        self.check(
            violations.is_empty(),
            "every request was as the Mender API wants it, signatures included",
        );
    }

    fn make_device(&mut self) -> Result<(), String> {
        self.heading("A device with two root file system slots, p2 and p3");
        let image = self.image("release-1")?;
        self.device.fill_slot(2, &image);
        println!("   p2 holds an ext4 file system, made with: mke2fs -t ext4 -d tree image 8M");
        println!("   p3 holds none as yet. The boot environment of U-Boot has two copies: changes go to");
        println!("   the older one, so that a power cut in the middle leaves the other:");
        self.show_file("etc/fw_env.config");
        println!("   The agent's configuration:");
        self.show_file("etc/mender/mender.conf");
        self.show_running()?;
        let name = self.show_artifact()?;
        self.check(name == "release-1", "the bootstrap Artifact names the first system: release-1");
        let version = self.running_version()?;
        self.check(version == "release-1" && self.device.running_slot() == 2, "release-1 runs from slot p2");
        Ok(())
    }

    /// An ext4 image whose `/etc/os-release` tells its version.
    fn image(&self, version: &str) -> Result<PathBuf, String> {
        let tree = self.dir.join(format!("tree-{version}"));
        let path = self.dir.join(format!("{version}.ext4"));
        let text = format!("NAME=\"Demo Linux\"\nVERSION_ID={version}\n");
        fs::create_dir_all(tree.join("etc"))
            .and_then(|()| fs::write(tree.join("etc/os-release"), text))
            .map_err(|error| format!("{}: {error}", tree.display()))?;
        let (tree, image) = (tree.to_string_lossy().into_owned(), path.to_string_lossy().into_owned());
        let arguments = ["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d", &tree, &image, "8M"];
        tool::run("mke2fs", "e2fsprogs", &arguments)?;
        Ok(path)
    }

    fn offer(&mut self, release: &Release) -> Result<(), String> {
        self.part = format!("After the update to {}", release.name);
        self.heading(&format!("The server offers {}", release.name));
        let ran = self.dir.join("scripts-ran");
        let script =
            |name: &str, text: &str| format!("#!/bin/sh\necho {name} >> '{}'\n{text}\n", ran.display());
        let image = self.image(release.name)?;
        let spec = ArtifactSpec::rootfs(release.name, Content::File(image))
            .device_types(&[DEVICE_TYPE])
            .script("ArtifactInstall_Enter_00_prepare", &script("ArtifactInstall_Enter_00_prepare", ""))
            .script(SELF_TEST, &script(SELF_TEST, release.self_test));
        let artifact = self.dir.join(format!("{}.mender", release.name));
        spec.write(&artifact).map_err(|error| format!("{}: {error}", artifact.display()))?;
        let size = artifact.metadata().map_or(0, |data| data.len());
        println!(
            "   {}.mender: {size} bytes, an image of {SLOT_SIZE} bytes compressed with gzip,",
            release.name
        );
        println!("   and two state scripts that run on the device; the self-test runs before the commit:");
        for line in release.self_test.lines() {
            println!("      {line}");
        }
        let (artifact_name, device_types) = (release.name.to_owned(), vec![DEVICE_TYPE.to_owned()]);
        self.server.deploy(Deployment { id: release.id.to_owned(), artifact, artifact_name, device_types });
        let _ = fs::remove_file(ran);
        Ok(())
    }

    /// Runs `thimble check`, and again after each reboot, until it ends by itself.
    fn update(&mut self, release: &Release) -> Result<(), String> {
        match self.server.statuses(release.id).is_empty() {
            true => self.heading(&format!("The device updates to {}", release.name)),
            false => self.heading(&format!("The update to {} goes on", release.name)),
        }
        for _ in 0..=MOST_BOOTS {
            println!("   $ thimble --root $DEV/root check");
            let (before, reported) = (self.device.env(), self.server.statuses(release.id).len());
            let asked = self.device.reboots_asked();
            let code = self.device.run(&self.thimble, &["check"]);
            let statuses = self.server.statuses(release.id).split_off(reported);
            println!("     reports to the server: {}", arrows(&statuses));
            self.show_changes("the agent sets", &before);
            if self.device.reboots_asked() == asked {
                let Some(code) = code else {
                    return Err("the agent was killed, but not by a reboot".to_owned());
                };
                let meaning = match code {
                    0 => " (well done)",
                    5 => " (a deployment failed, the server knows)",
                    6 => " (an update waits)",
                    _ => "",
                };
                println!("     ends with exit code {code}{meaning}");
                self.check(code == release.code, &format!("the last check ended with exit code {code}"));
                return Ok(());
            }
            let (before, slot) = (self.device.env(), self.device.running_slot());
            println!("     asks for a reboot");
            self.device.try_boot()?;
            println!(
                "   The boot loader reads the environment and starts slot p{}.",
                self.device.running_slot()
            );
            self.show_changes("the boot loader sets", &before);
            if slot != self.device.running_slot() {
                println!("     the version that runs now: {}", self.running_version()?);
            }
        }
        Err(format!("{} boots and no end", MOST_BOOTS + 1))
    }

    fn after_success(&mut self, release: &Release) -> Result<(), String> {
        self.heading("What is left of it");
        self.show_running()?;
        let name = self.show_artifact()?;
        let inventory = self.server.inventory();
        println!("   The inventory at the server:");
        for (name, value) in inventory.iter().take(8) {
            println!("      {name} = {value}");
        }
        let (statuses, image) = (dedup(self.server.statuses(release.id)), self.dir.join("release-2.ext4"));
        let wanted = ["downloading", "installing", "rebooting", "installing", "success"];
        self.check(statuses == wanted, &format!("the server heard {}", arrows(&statuses)));
        let same = self.device.slot_holds(3, &Content::File(image));
        self.check(same, "slot p3 holds release-2, byte for byte");
        let version = self.running_version()?;
        self.check(version == "release-2" && self.device.running_slot() == 3, "release-2 runs from slot p3");
        self.check(name == "release-2", "show-artifact says release-2");
        self.check(self.committed(3), "the boot environment keeps slot p3 for good");
        let scripts = self.scripts_ran();
        let wanted = format!("ArtifactInstall_Enter_00_prepare {SELF_TEST}");
        self.check(scripts == wanted, "both state scripts ran, once each and in order");
        Ok(())
    }

    fn after_failure(&mut self, release: &Release) -> Result<(), String> {
        self.heading("What is left of it");
        self.show_running()?;
        let name = self.show_artifact()?;
        let logs = self.server.logs(release.id);
        let place = logs.iter().position(|line| line.contains(BROKEN));
        println!(
            "   The deployment's log at the server has {} lines; around the script's message:",
            logs.len()
        );
        if let Some(place) = place {
            for line in &logs[place.saturating_sub(3)..logs.len().min(place + 4)] {
                println!("      {}", self.shorten(line));
            }
        }
        let statuses = dedup(self.server.statuses(release.id));
        let failed = statuses.last().is_some_and(|last| last == "failure");
        let once = statuses.iter().filter(|status| *status == "failure").count() == 1;
        let in_order = statuses.starts_with(&["downloading", "installing", "rebooting"].map(str::to_owned));
        self.check(failed && once && in_order, &format!("the server heard {}", arrows(&statuses)));
        self.check(place.is_some(), "the log at the server has the failed script's own words");
        let version = self.running_version()?;
        let back = version == "release-2" && self.device.running_slot() == 3;
        self.check(back, "release-2 runs again, from slot p3");
        self.check(name == "release-2", "show-artifact says release-2");
        self.check(self.committed(3), "the boot environment keeps slot p3 for good");
        self.check(self.scripts_ran().ends_with(SELF_TEST), "the self-test ran, and failed as it should");
        self.check_server(2);
        Ok(())
    }

    /// The last words; whether all is as it should be.
    fn summary(&self, told: Result<(), String>) -> bool {
        println!("\nSummary");
        let mut last = "";
        for (part, good, text) in &self.checks {
            if part != last {
                println!(" {part}");
                last = part;
            }
            println!("   {} {text}", if *good { "ok    " } else { "FAILED" });
        }
        if let Err(error) = &told {
            println!("   FAILED {}", self.shorten(error));
        }
        told.is_ok() && self.checks.iter().all(|(_, good, _)| *good)
    }

    fn heading(&mut self, text: &str) {
        self.step += 1;
        println!("\n{}. {text}", self.step);
    }

    fn check(&mut self, good: bool, text: &str) {
        self.checks.push((self.part.clone(), good, text.to_owned()));
    }

    fn show_file(&self, name: &str) {
        let text = fs::read_to_string(self.device.root().join(name)).unwrap_or_default();
        for line in text.lines() {
            println!("      {}", self.shorten(line));
        }
    }

    fn show_running(&self) -> Result<(), String> {
        let slot = self.device.running_slot();
        println!("   $ debugfs -R 'cat /etc/os-release' $DEV/dev/mmcblk0p{slot}    # the slot that runs");
        println!("      VERSION_ID={}", self.running_version()?);
        Ok(())
    }

    fn show_artifact(&self) -> Result<String, String> {
        println!("   $ thimble --root $DEV/root show-artifact");
        let name = self.device.try_output(&self.thimble, &["show-artifact"])?.trim().to_owned();
        println!("      {name}");
        Ok(name)
    }

    /// Read from the slot itself, not from anything that the agent says.
    fn running_version(&self) -> Result<String, String> {
        let slot = self.device.slot_path(self.device.running_slot());
        let slot = slot.to_string_lossy().into_owned();
        let text = tool::run("debugfs", "e2fsprogs", &["-R", "cat /etc/os-release", &slot])?;
        let text = String::from_utf8_lossy(&text);
        let version = text.lines().find_map(|line| line.strip_prefix("VERSION_ID="));
        Ok(version.unwrap_or("(no file system)").to_owned())
    }

    fn show_changes(&self, who: &str, before: &BTreeMap<String, String>) {
        let after = self.device.env();
        for (name, value) in &after {
            let old = before.get(name).map_or("(unset)", String::as_str);
            if old != value {
                println!("     {who} {name}: {old} -> {value}");
            }
        }
        for name in before.keys().filter(|name| !after.contains_key(*name)) {
            println!("     {who} {name}: gone");
        }
    }

    fn committed(&self, slot: u32) -> bool {
        let env = self.device.env();
        let is = |name: &str, value: &str| env.get(name).is_some_and(|found| found == value);
        is("mender_boot_part", &slot.to_string())
            && is("mender_boot_part_hex", &format!("{slot:x}"))
            && is("upgrade_available", "0")
            && is("other_variable", "kept as it is")
    }

    fn scripts_ran(&self) -> String {
        let text = fs::read_to_string(self.dir.join("scripts-ran")).unwrap_or_default();
        text.lines().collect::<Vec<_>>().join(" ")
    }

    fn shorten(&self, text: &str) -> String {
        text.replace(&*self.device.dir().to_string_lossy(), "$DEV")
    }
}

fn dedup(mut statuses: Vec<String>) -> Vec<String> {
    statuses.dedup();
    statuses
}

fn arrows<T: AsRef<str>>(texts: &[T]) -> String {
    let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
    if texts.is_empty() { "nothing".to_owned() } else { texts.join(" -> ") }
}
