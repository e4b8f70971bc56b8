//! A device, a server and the real program for the scenarios of the tables: Update Module and state scripts are shell
//! scripts that note each event and then do as the plan says.
#![allow(dead_code)] // Each test needs a part of it.

use super::table::{Event, Payload, Scenario, Times, When};
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use thimble_testkit::{
    Act, ArtifactSpec, Deployment, DeviceOptions, ID, Options, Ran, Request, Rule, Scene, What,
};

const THIMBLE: &str = env!("CARGO_BIN_EXE_thimble");
/// The module that notes its calls.
const KIND: &str = "recorder";
/// No poll comes by itself.
const NEVER: &str = "100000000";

pub struct Stage {
    pub scene: Scene,
}

/// What became of a scenario.
pub struct Played {
    pub chain: Vec<Event>,
    pub statuses: Vec<String>,
    /// Final reports and logs that were sent.
    pub sends: (usize, usize),
    pub name: String,
    pub provides: String,
    /// Exit code of the last run of `check`.
    pub code: Option<i32>,
    pub story: String,
}

impl Stage {
    /// With these members of `mender.conf` besides the usual.
    pub fn new(name: &str, config: &[(&str, &str)]) -> Stage {
        let mut all = vec![("UpdatePollIntervalSeconds", NEVER), ("InventoryPollIntervalSeconds", NEVER)];
        all.extend(config);
        let config = all.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let device = DeviceOptions { config, ..DeviceOptions::default() };
        let stage = Stage { scene: Scene::with(name, THIMBLE, Options::default(), device) };
        let reboot = stage.scene.device.dir().join("bin/reboot");
        let usual = fs::read_to_string(&reboot).expect("the device's reboot");
        let noting = usual.replacen("#!/bin/sh\n", &format!("#!/bin/sh\n{}", stage.note("reboot")), 1);
        fs::write(&reboot, noting).expect("replace reboot");
        stage.plan(&[]);
        stage
    }

    /// For a scenario of the tables.
    pub fn of(scenario: &Scenario) -> Stage {
        let (interval, count) = (scenario.retry.0.to_string(), scenario.retry.1.to_string());
        let config = [("RetryPollIntervalSeconds", &*interval), ("RetryPollCount", &*count)];
        let stage = Stage::new("scenario", &config);
        stage.plan(&scenario.whens);
        for when in &scenario.whens {
            stage.tell_server(when);
        }
        if let Payload::Module { reboot, rollback } = &scenario.payload
            && !scenario.whens.contains(&When::NoModule)
        {
            stage.module(reboot, rollback, &scenario.whens);
        }
        for (file, event) in scenario.all_scripts().iter().filter(|(f, _)| !f.starts_with("Artifact")) {
            stage.rootfs_script(file, event);
        }
        stage
    }

    /// Puts a noting script of the root file system in place.
    pub fn rootfs_script(&self, file: &str, event: &str) {
        let path = format!("etc/mender/scripts/{file}");
        self.scene.device.write_script(&path, &format!("#!/bin/sh\n{}", self.note(event)));
    }

    fn file(&self, name: &str) -> PathBuf {
        self.scene.path().join(name)
    }

    /// Shell text that notes an event and does what is planned for it.
    pub fn note(&self, event: &str) -> String {
        format!("event={event}\n. '{}'\n", self.file("plan").display())
    }

    /// From now on this happens.
    pub fn plan(&self, whens: &[When]) {
        let (chain, device) = (self.file("chain"), self.scene.device.dir());
        let mut text = format!(
            "echo $event >> '{chain}'\nn=0\nwhile read -r line; do [ $line != $event ] || n=$((n+1)); done < '{chain}'\n",
            chain = chain.display()
        );
        for when in whens {
            let (event, times, action) = match when {
                When::Exits(event, code, times) => (event, *times, format!("exit {code}")),
                When::Killed(event, times) => {
                    (event, *times, format!("kill -9 $(cat '{}/agent.pid'); sleep 600", device.display()))
                }
                When::Version(place, event) => {
                    let below = match *place {
                        "rootfs" => "etc/mender",
                        _ => "var/lib/mender",
                    };
                    let file = format!("{}/root/{below}/scripts/version", device.display());
                    (event, Times { first: 1, last: 1 }, format!("echo 1000 > '{file}'"))
                }
                _ => continue,
            };
            let Times { first, last } = times;
            let last = last.min(1_000_000);
            let _ = writeln!(
                text,
                "if [ $event = {event} ] && [ $n -ge {first} ] && [ $n -le {last} ]; then {action}; fi"
            );
        }
        fs::write(self.file("plan"), text).expect("write the plan");
    }

    /// Puts the Update Module in place.
    pub fn module(&self, reboot: &str, rollback: &str, whens: &[When]) {
        let answer = |question: &str, usual: &str| {
            let prints = |w: &When| match w {
                When::Prints(at, text) if at == question => Some(text.clone()),
                _ => None,
            };
            let text = whens.iter().find_map(prints).unwrap_or_else(|| usual.to_owned());
            let say = if text == "-" { ":".to_owned() } else { format!("echo {text}") };
            format!("{question}) {say} ;;\n")
        };
        let text = format!(
            "#!/bin/sh\n{}case $1 in\n{}{}{}esac\n",
            self.note("$1"),
            answer("NeedsArtifactReboot", reboot),
            answer("SupportsRollback", rollback),
            answer("ProvidePayloadFileSizes", "-"),
        );
        self.scene.device.write_script(&format!("usr/share/mender/modules/v3/{KIND}"), &text);
    }

    /// The Artifact of that name, with its scripts.
    pub fn spec(&self, name: &str, empty: bool, scripts: &[(String, Event)]) -> ArtifactSpec {
        let mut spec = match empty {
            true => ArtifactSpec::empty(name),
            false => ArtifactSpec::module(KIND, name).file("a-file", "its content"),
        };
        for (file, event) in scripts.iter().filter(|(file, _)| file.starts_with("Artifact")) {
            spec = spec.script(file, &format!("#!/bin/sh\n{}", self.note(event)));
        }
        spec
    }

    /// Offers an Artifact as a deployment.
    pub fn offer(&self, id: &str, spec: &ArtifactSpec) {
        self.scene.server.deploy(Deployment {
            id: id.to_owned(),
            artifact: self.scene.artifact(spec),
            artifact_name: spec.name.clone(),
            device_types: vec!["test-type".to_owned()],
        });
    }

    fn tell_server(&self, when: &When) {
        let When::Says(request, status, Times { first, last }) = when else { return };
        let hit = |on, skip| {
            let times = if *last == usize::MAX { usize::MAX } else { last - first + 1 };
            let rule = Rule { on, skip: skip + first - 1, times, act: Act::error(*status) };
            self.scene.server.rule(rule);
        };
        match request.as_str() {
            "downloading" => hit(What::StatusOf("downloading"), 0),
            "installing" => hit(What::StatusOf("installing"), 0),
            "rebooting" => hit(What::StatusOf("rebooting"), 0),
            "pre-commit" => hit(What::StatusOf("installing"), 1),
            "log" => hit(What::Log, 0),
            "final" => {
                hit(What::StatusOf("success"), 0);
                hit(What::StatusOf("failure"), 0);
            }
            other => panic!("the server has no {other}"),
        }
    }

    /// What has happened so far.
    pub fn chain(&self) -> Vec<Event> {
        let text = fs::read_to_string(self.file("chain")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Forgets what has happened.
    pub fn forget(&self) {
        // Nothing may have happened.
        let _ = fs::remove_file(self.file("chain"));
    }

    /// The statuses that the server has accepted, repeated ones once.
    pub fn statuses(&self, id: &str) -> Vec<String> {
        let mut statuses = self.scene.server.statuses(id);
        statuses.dedup();
        statuses
    }

    fn played(&self, code: Option<i32>) -> Played {
        let is_final = |r: &Request| ["success", "failure"].iter().any(|s| r.text().contains(s));
        let finals = self.scene.server.requests_of(What::Status).into_iter().filter(is_final).count();
        Played {
            chain: self.chain(),
            statuses: self.statuses(ID),
            sends: (finals, self.scene.server.requests_of(What::Log).len()),
            name: self.scene.artifact_name(),
            provides: self.scene.provides(),
            code,
            story: format!("{:#?}\n{}\n{}", self.chain(), self.scene.device.log(), self.scene.daemon_log()),
        }
    }

    /// The deployment, by `check`.
    pub fn check(mut self, scenario: &Scenario) -> Played {
        self.offer(ID, &self.spec_of(scenario));
        let mut code = None;
        for _ in 0..scenario.checks {
            let ending = self.scene.device.run_to_end(THIMBLE.as_ref(), 45);
            assert!(!ending.output.contains("panicked at"), "{}", ending.output);
            code = Some(ending.code);
        }
        self.played(code)
    }

    fn spec_of(&self, scenario: &Scenario) -> ArtifactSpec {
        let spec = self.spec("release-2", scenario.payload == Payload::Empty, &scenario.all_scripts());
        match scenario.whens.contains(&When::Unfit) {
            true => spec.depend("rootfs-image.version", &["another"]),
            false => spec,
        }
    }

    /// The deployment, by the daemon; at each reboot it is started again.
    pub fn daemon(mut self, scenario: &Scenario) -> Played {
        self.offer(ID, &self.spec_of(scenario));
        let reboots = scenario
            .chain
            .iter()
            .filter(|item| matches!(item, super::table::Item::One(event) if event == "reboot"))
            .count();
        for _ in 0..reboots {
            assert_eq!(self.scene.daemon().wait(), None, "the reboot kills it\n{}", self.scene.daemon_log());
            self.scene.device.boot();
        }
        let mut daemon = self.scene.daemon();
        // The inventory follows the end of the deployment. Then one more poll, so that all before it is over.
        let ended = |server: &thimble_testkit::Server| {
            let requests = server.requests();
            let last = requests.iter().rposition(|r| r.what == What::Inventory && r.status == 200);
            let heard = ["success", "failure"].iter().any(|s| server.statuses(ID).iter().any(|t| t == s));
            let report = requests.iter().rposition(|r| r.what == What::Status);
            heard && last > report
        };
        self.scene.wait_until(ended);
        let polls = self.scene.server.requests_of(What::Next).len();
        daemon.signal(10); // SIGUSR1: ask now.
        self.scene.wait_until(|server| server.requests_of(What::Next).len() > polls);
        assert_eq!(daemon.stop(), Some(0), "{}", self.scene.daemon_log());
        let mut played = self.played(None);
        // Of that poll nothing is left.
        let extra = played.chain.iter().rev().take_while(|e| e.contains("Idle_") || e.contains("Sync_"));
        let extra = extra.count().saturating_sub(scenario.tail());
        played.chain.truncate(played.chain.len() - extra);
        played
    }

    /// A person's commands, one after the other.
    pub fn steps(mut self, scenario: &Scenario) -> Played {
        let artifact = self.scene.artifact(&self.spec_of(scenario)).display().to_string();
        for step in &scenario.steps {
            let mut args: Vec<&str> = step.args.iter().map(String::as_str).collect();
            if args[0] == "install" {
                args.push(&artifact);
            }
            let Ran { code, stdout, .. } = self.scene.run(&args);
            let log = self.scene.device.log();
            assert_eq!((code, &*stdout), (step.code, &*step.says), "{args:?}\n{:#?}\n{log}", self.chain());
            if code.is_none() {
                self.scene.device.boot();
            }
        }
        assert_eq!(self.scene.server.requests().len(), 0, "the server has no part in it");
        self.played(None)
    }
}
