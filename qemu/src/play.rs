//! Plays a scenario on a board, from the first power-on to the verdict.

use crate::card::Card;
use crate::disk;
use crate::machine::{Bench, images};
use crate::release::Releases;
use crate::scenario::{End, Release, Scenario, Start, Step};
use crate::tool::{Result, fresh, target, write};
use crate::vm::Vm;
use crate::writes::Writes;
use std::fs;
use std::path::{Path, PathBuf};
use thimble_testkit::{Act, ArtifactSpec, Deployment, Options, Rule, Server, What};

/// What the last line of a release that came up begins with (`qemu/guest/rcS`).
const UP: &str = "THIMBLE-UP ";
const FINALS: [&str; 3] = ["success", "failure", "already-installed"];

/// A scenario being played.
pub struct Play<'a> {
    bench: &'a Bench,
    releases: &'a Releases,
    scenario: &'a Scenario,
    server: Server,
    vm: Option<Vm>,
    card: PathBuf,
    /// The card before the first power-on, and what was written since, if that is logged.
    before: PathBuf,
    writes: PathBuf,
    log: PathBuf,
    /// After so many bytes a download stops.
    half: u64,
    /// The card comes from elsewhere: an update may be in progress on it.
    found: bool,
    /// And that update was over, with success, when the power was cut.
    over: bool,
    offered: u32,
    boots: u32,
    /// Seconds of CPU that QEMU took.
    cpu: f64,
}

/// What a scenario that passed took.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// Boots, as the boot scripts say.
    pub boots: usize,
    /// Seconds of CPU of QEMU.
    pub cpu: f64,
}

impl<'a> Play<'a> {
    /// Makes the card in `work`: release-1, and what the scenario wants on the data partition.
    pub fn new(
        bench: &'a Bench,
        releases: &'a Releases,
        scenario: &'a Scenario,
        work: &Path,
        log: PathBuf,
    ) -> Result<Play<'a>> {
        fresh(work)?;
        let _ = fs::remove_file(&log);
        let play = Play::on(bench, releases, scenario, work, log, 0);
        disk::copy(&images(&bench.board).join("card.img"), &play.card)?;
        play.fill_data(&work.join("data"))?;
        if scenario.logs_writes() {
            disk::copy(&play.card, &play.before)?;
        }
        Ok(play)
    }

    /// On the card `card.img` that is in `work` already; it looks for its server at this port.
    pub fn found(
        bench: &'a Bench,
        releases: &'a Releases,
        scenario: &'a Scenario,
        work: &Path,
        log: PathBuf,
        port: u16,
    ) -> Play<'a> {
        Play { found: true, ..Play::on(bench, releases, scenario, work, log, port) }
    }

    fn on(
        bench: &'a Bench,
        releases: &'a Releases,
        scenario: &'a Scenario,
        work: &Path,
        log: PathBuf,
        port: u16,
    ) -> Play<'a> {
        // The guest reaches 127.0.0.1 of this machine at this address.
        let server = Server::start(Options { host: "10.0.2.2".to_owned(), port, ..Options::default() });
        Play {
            bench,
            releases,
            scenario,
            server,
            vm: None,
            card: work.join("card.img"),
            before: work.join("before.img"),
            writes: work.join("writes.log"),
            log,
            half: 0,
            found: false,
            over: false,
            offered: 0,
            boots: 0,
            cpu: 0.0,
        }
    }

    /// The port of its server.
    pub fn port(&self) -> u16 {
        self.server.url().rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or(0)
    }

    /// Plays it.
    pub fn run(mut self) -> Result<Taken> {
        if self.found {
            let card = Card::new(&self.bench.board, &self.card);
            let over = card.environment()?.part == 3 && card.journal()?.is_none();
            // The server knows what it offered before the power was cut, unless that is done with.
            for step in self.scenario.steps.iter().filter(|step| !over && matches!(step, Step::Offer(_))) {
                self.step(step)?;
            }
            self.over = over;
        }
        self.power_on()?;
        if self.over {
            self.up("release-2")?;
        } else if !self.found {
            self.up("release-1")?;
        }
        let (found, over) = (self.found, self.over);
        let done = |step: &Step| over || found && matches!(step, Step::Offer(_));
        for step in self.scenario.steps.iter().filter(|step| !done(step)) {
            self.step(step).map_err(|error| format!("{step:?}: {error}"))?;
        }
        self.settle()?;
        self.verdict()?;
        let boots = crate::tool::read(&self.log)?.matches("== boot part=").count();
        Ok(Taken { boots, cpu: self.cpu })
    }

    fn fill_data(&self, tree: &Path) -> Result<()> {
        fresh(tree)?;
        let board = &self.bench.board;
        let start = match self.scenario.start {
            Start::Daemon => "daemon",
            Start::Cron => "cron",
            Start::Nothing => "nothing",
        };
        write(&tree.join("start"), format!("{start}\n"))?;
        let data = tree.join("mender");
        write(&data.join("device_type"), format!("device_type={}\n", board.name))?;
        if self.scenario.start != Start::Nothing {
            write(&data.join("mender.conf"), format!("{{\"ServerURL\": \"{}\"}}\n", self.server.url()))?;
        }
        let first = ArtifactSpec::empty("release-1").device_types(&[&board.name]);
        write(&data.join("bootstrap.mender"), first.bytes())?;
        for state in self.scenario.holds() {
            write(&tree.join("hold").join(state), "")?;
        }
        for step in self.scenario.steps {
            if let Step::Local(release) = step {
                let to = tree.join(format!("{}.mender", release.version));
                fs::copy(self.releases.artifact(release)?, &to)
                    .map_err(|e| format!("{}: {e}", to.display()))?;
            }
        }
        disk::put_data(board, &self.card, tree)
    }

    fn power_on(&mut self) -> Result<()> {
        // Only the first run is of interest: what was written before the cut.
        let writes =
            (self.scenario.logs_writes() && !self.found && self.boots == 0).then_some(self.writes.as_path());
        self.vm = Some(self.bench.start(&self.card, writes, &self.log)?);
        self.boots += 1;
        Ok(())
    }

    fn vm(&mut self) -> Result<&mut Vm> {
        self.vm.as_mut().ok_or_else(|| "the power is off".to_owned())
    }

    /// Waits until a release has come up and its console has a shell.
    fn up(&mut self, version: &str) -> Result<()> {
        let wanted = format!("version={version} ");
        loop {
            let about = self.vm()?.wait_for(UP)?;
            if about.contains(&wanted) {
                return Ok(());
            }
            // Another release on the way there is what rolled back; a wrong one at the end shows in the verdict.
            self.boots += 1;
            if self.boots > 12 {
                return Err(format!("{version} does not come up: twelve boots, the last was {about}"));
            }
        }
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Offer(release) => self.offer(release),
            Step::OfferHalf(release) => {
                self.half = self.releases.artifact(release)?.metadata().map_or(0, |data| data.len()) / 2;
                let act = Act::HangAfter { bytes: self.half };
                self.server.rule(Rule { on: What::Artifact, skip: 0, times: usize::MAX, act });
                self.offer(release)
            }
            Step::Local(_) => Ok(()),
            Step::Up(version) => self.up(version),
            Step::Console(text) => self.vm()?.wait_for(text).map(drop),
            Step::Status(status) => self.wait_server(status, |server, id| {
                server.statuses(id).iter().any(|heard| heard == status).then_some(())
            }),
            Step::Half => {
                let half = self.half;
                self.wait_server("half of the download", |server, _| {
                    server
                        .requests_of(What::Artifact)
                        .iter()
                        .any(|request| request.sent >= half)
                        .then_some(())
                })
            }
            Step::Whole => {
                self.server.clear_rules();
                Ok(())
            }
            Step::Hold(state) => self.vm()?.wait_for(&format!("HOLD {state}")).map(drop),
            Step::Shell(command, code) => {
                let ended = self.vm()?.shell(command)?;
                if ended == *code { Ok(()) } else { Err(format!("exit code {ended}, not {code}")) }
            }
            Step::Type(command) => self.vm()?.send(&format!("{command}\n")),
            Step::Network(on) => self.vm()?.network(*on),
            Step::Cut => {
                self.cut()?;
                self.power_on()
            }
            Step::CutInEnvironment => {
                self.cut()?;
                let writes = Writes::open(&self.writes)?;
                let cut = writes.last_in(&crate::cuts::environment_ranges(&self.bench.board)?)?;
                writes.apply(&self.before, &self.card, cut)?;
                let env = Card::new(&self.bench.board, &self.card).environment()?;
                if env.good.iter().filter(|good| **good).count() != 1 {
                    return Err(format!("{cut:?} does not leave one good copy: {env:?}"));
                }
                self.power_on()
            }
            Step::Final(wanted) => {
                let status = self.final_status()?;
                if wanted.is_some_and(|wanted| wanted != status) {
                    return Err(format!("the server heard {status}; its log:\n{}", self.deployment_log()));
                }
                if status == "failure" {
                    // It comes behind the report.
                    self.wait_server("the deployment's log", |server, id| {
                        (!server.logs(id).is_empty()).then_some(())
                    })?;
                }
                Ok(())
            }
        }
    }

    fn cut(&mut self) -> Result<()> {
        self.server.hang_up();
        self.cpu += self.vm.take().ok_or_else(|| "the power is off".to_owned())?.cut();
        Ok(())
    }

    fn offer(&mut self, release: &Release) -> Result<()> {
        let artifact = self.releases.artifact(release)?;
        self.offered += 1;
        self.server.deploy(Deployment {
            id: id(self.offered),
            artifact,
            artifact_name: release.version.to_owned(),
            device_types: vec![self.bench.board.name.clone()],
        });
        Ok(())
    }

    /// Waits for something that the server sees of the current deployment.
    fn wait_server<T>(&mut self, what: &str, look: impl Fn(&Server, &str) -> Option<T>) -> Result<T> {
        let id = id(self.offered);
        let server = &self.server;
        let vm = self.vm.as_mut().ok_or_else(|| "the power is off".to_owned())?;
        vm.wait_until(&format!("{what} at the server"), |_, progress| {
            // A slow download moves, though the console is silent.
            progress.note(server.requests_of(What::Artifact).iter().map(|request| request.sent).sum());
            look(server, &id).map(|value| (0, value))
        })
    }

    /// The final status of the current deployment.
    fn final_status(&mut self) -> Result<String> {
        self.wait_server("the final report", |server, id| {
            server.statuses(id).into_iter().find(|status| FINALS.contains(&status.as_str()))
        })
    }

    fn deployment_log(&self) -> String {
        self.server.logs(&id(self.offered)).join("\n")
    }

    /// Waits until nothing is in progress any more, and everything is on the card.
    fn settle(&mut self) -> Result<()> {
        if self.offered > 0 || self.over {
            let before = self.server.requests_of(What::Next).len();
            // The next question comes when the update is behind it.
            self.wait_server("the next question", |server, _| {
                (server.requests_of(What::Next).len() > before).then_some(())
            })?;
        }
        let (name, _) = self.expected()?;
        let vm = self.vm()?;
        for command in [
            format!("test \"$(cat /etc/version)\" = {name}"),
            format!("test \"$(thimble show-artifact)\" = {name}"),
            "sync".to_owned(),
        ] {
            let code = vm.shell(&command)?;
            if code != 0 {
                return Err(format!("in the end: {command}: exit code {code}"));
            }
        }
        self.cut()
    }

    /// The release that should run now, and from which slot.
    fn expected(&self) -> Result<(&'static str, u32)> {
        match self.scenario.end {
            End::Is(version, slot) => Ok((version, 2 + slot)),
            End::AsReported if self.over => Ok(("release-2", 3)),
            End::AsReported => {
                let finals: Vec<String> = self.finals();
                match finals.first().map(String::as_str) {
                    Some("success") => Ok(("release-2", 3)),
                    Some("failure") => Ok(("release-1", 2)),
                    _ => Err(format!("reported in the end: {finals:?}")),
                }
            }
        }
    }

    fn finals(&self) -> Vec<String> {
        let statuses = self.server.statuses(&id(self.offered)).into_iter();
        statuses.filter(|status| FINALS.contains(&status.as_str())).collect()
    }

    /// The power is off: what the card holds, and what the server heard.
    fn verdict(&self) -> Result<()> {
        let (version, slot) = self.expected()?;
        let card = Card::new(&self.bench.board, &self.card);
        let env = card.environment()?;
        if env.part != slot || env.trying {
            return Err(format!(
                "the environment in the end: {env:?}; {version} should run from p{slot} for good"
            ));
        }
        let image = self.releases.sum(version)?;
        let found = card.slot(slot)?;
        if found != image {
            return Err(format!("p{slot} does not hold {version} byte for byte"));
        }
        if let Some(record) = card.journal()? {
            return Err(format!("an update is still in progress: {record:?}"));
        }
        let violations = self.server.violations();
        if !violations.is_empty() {
            return Err(format!("what a server refuses: {violations:?}"));
        }
        if self.offered > 0 && self.finals().len() != 1 {
            return Err(format!("reported in the end: {:?}", self.finals()));
        }
        Ok(())
    }
}

/// Where the console of a scenario is kept.
pub fn log_of(bench: &Bench, name: &str) -> PathBuf {
    target().join("logs").join(&bench.board.name).join(format!("{name}.log"))
}

/// The ID of the n-th deployment.
fn id(number: u32) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}
