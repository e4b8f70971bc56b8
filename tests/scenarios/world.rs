//! A world in memory for the driver: no file, no process, no time. It notes what is asked of it and fails as the
//! scenario says.

use super::table::{Event, Payload as Content, Scenario, When};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;
use thimble::agent::control::{ControlMap, Point, Pool, Refused};
use thimble::agent::schedule::Intervals;
use thimble::agent::scripts::{ScriptSet, select};
use thimble::agent::{
    Artifact, Command, Facts, Installed, Offer, Reboot, Record, State, Status, StopPoint, Trial, command,
    resume,
};
use thimble::error::{Error, Result};
use thimble::ports::{
    Controls, Cursor, Decision, Depot, Fault, Host, Journal, Next, Payload, PayloadFiles, Scripts,
    ScriptsEnd, Server, Software, Woke,
};
use thimble::run::{Driver, INTERRUPTED, Mode, World as Ports};

/// More starts than any scenario needs.
const MANY_STARTS: usize = 60;
/// No retry waits as long; no poll comes sooner.
const DAY: Duration = Duration::from_secs(86_400);

pub struct World {
    scenario: Scenario,
    scripts: HashMap<String, Event>,
    pub chain: Vec<Event>,
    counts: HashMap<String, usize>,
    pub statuses: Vec<&'static str>,
    pub final_reports: usize,
    pub logs: usize,
    record: Option<Vec<u8>>,
    pub installed: Installed,
    token_dropped: bool,
    closed: bool,
    /// Killed, or the machine restarts: nothing works any more.
    down: bool,
    boot: usize,
    now: Duration,
}

#[derive(Clone)]
struct Port(Rc<RefCell<World>>);

/// Plays the scenario; as the daemon does it, or as `check` does.
pub fn play(scenario: &Scenario, daemon: bool) -> World {
    let provides = [("before", "kept"), ("payload.version", "release-1")];
    let world = World {
        scenario: scenario.clone(),
        scripts: scenario.all_scripts().into_iter().collect(),
        chain: Vec::new(),
        counts: HashMap::new(),
        statuses: Vec::new(),
        final_reports: 0,
        logs: 0,
        record: None,
        installed: Installed {
            name: "release-1".into(),
            group: None,
            provides: provides.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        },
        token_dropped: false,
        closed: false,
        down: false,
        boot: 1,
        now: Duration::ZERO,
    };
    let port = Port(Rc::new(RefCell::new(world)));
    if scenario.steps.is_empty() {
        for _ in 0..scenario.checks {
            port.until_idle(daemon);
        }
    } else {
        for step in &scenario.steps {
            port.step(&step.args);
        }
    }
    let Port(world) = port;
    Rc::try_unwrap(world).ok().expect("nobody else has it").into_inner()
}

impl World {
    /// Notes an event. How it ends; `None`: the agent does not live to see it.
    fn event(&mut self, event: &str) -> Option<i32> {
        if self.down {
            return None;
        }
        self.chain.push(event.to_owned());
        let count = self.counts.entry(event.to_owned()).or_default();
        *count += 1;
        let mut code = 0;
        for when in &self.scenario.whens {
            match when {
                When::Exits(at, exit, times) if at == event && times.contains(*count) => code = *exit,
                When::Killed(at, times) if at == event && times.contains(*count) => self.down = true,
                _ => {}
            }
        }
        (!self.down).then_some(code)
    }

    fn call(&mut self, call: &str) -> Result<()> {
        match self.event(call) {
            None => interrupted(),
            Some(0) => Ok(()),
            Some(code) => failed(&format!("{call}: {code}")),
        }
    }

    fn ask(&mut self, call: &str, usual: &str) -> Result<String> {
        self.call(call)?;
        let prints = |w: &When| match w {
            When::Prints(at, text) if at == call => Some(text.clone()),
            _ => None,
        };
        Ok(self.scenario.whens.iter().find_map(prints).unwrap_or_else(|| usual.to_owned()))
    }

    /// Scripts in that place cannot be run: an event that makes them so has happened.
    fn unknown_version(&self, place: &str) -> bool {
        self.scenario.whens.iter().any(
            |w| matches!(w, When::Version(p, event) if *p == place && self.counts.contains_key(event.as_str())),
        )
    }

    fn is(&self, when: &When) -> bool {
        self.scenario.whens.contains(when)
    }

    /// A request to the server: `Err` with the status that is not the usual one.
    fn request(&mut self, request: &str) -> std::result::Result<(), Fault> {
        if self.down {
            return Err(Fault::Interrupted);
        }
        let count = self.counts.entry(format!("server {request}")).or_default();
        *count += 1;
        let says = |w: &When| match w {
            When::Says(to, status, times) if to == request && times.contains(*count) => Some(*status),
            _ => None,
        };
        match self.scenario.whens.iter().find_map(says) {
            None => Ok(()),
            Some(409) => Err(Fault::Aborted),
            Some(status) => Err(Fault::Other(Error::new("HTTP", status.to_string()))),
        }
    }
}

impl Port {
    /// As often as it takes until nothing is due.
    fn until_idle(&self, daemon: bool) {
        for _ in 0..MANY_STARTS {
            let mode = if daemon { Mode::Daemon } else { Mode::OneShot { max_wait: DAY } };
            let (state, wait) = self.begin();
            assert_eq!(wait, None, "waits are waited out");
            self.drive(mode, state);
            if !self.restarted() {
                return;
            }
        }
        panic!("it starts again and again: {:?}", self.0.borrow().chain);
    }

    /// A person's command.
    fn step(&self, args: &[String]) {
        let (first, options) = args.split_first().expect("a command");
        let stops = options.iter().filter_map(|o| StopPoint::from_word(o)).collect();
        let state = if first == "install" {
            Some(State::Open(Offer { id: String::new(), uri: "a file".into() }))
        } else {
            let words =
                [("commit", Command::Commit), ("rollback", Command::Rollback), ("resume", Command::Resume)];
            let (_, what) = words.into_iter().find(|(word, _)| word == first).expect("a command");
            // Refused: nothing happens.
            self.record().and_then(|record| command(record.state, what).ok())
        };
        if let Some(state) = state {
            self.drive(Mode::Standalone { stop_before: stops }, state);
        }
        self.restarted();
    }

    fn record(&self) -> Option<Record> {
        let bytes = self.0.borrow().record.clone()?;
        Some(Record::decode(&bytes).expect("what was written can be read"))
    }

    fn begin(&self) -> (State, Option<thimble::agent::Wait>) {
        let Some(record) = self.record() else { return (State::IdleEnter, None) };
        let facts = Facts { same_boot: record.boot_id == self.boot_id(), trial: Trial::NotKnown };
        (resume(record, facts), None)
    }

    fn drive(&self, mode: Mode, state: State) {
        let [mut journal, mut scripts, mut server, mut controls, mut software, mut host] =
            [(); 6].map(|()| self.clone());
        let mut depot = Store { port: self.clone(), handler: self.clone() };
        let world = Ports {
            journal: &mut journal,
            scripts: &mut scripts,
            server: &mut server,
            controls: &mut controls,
            depot: &mut depot,
            software: &mut software,
            host: &mut host,
        };
        let (retry, retry_count) = self.0.borrow().scenario.retry;
        let retry = Duration::from_secs(retry);
        let intervals = Intervals { update: DAY, inventory: DAY, retry, retry_count, control: DAY };
        Driver::new(world, mode, intervals, 1.0).run(state, None);
    }

    /// Whether it was down; now it is up again.
    fn restarted(&self) -> bool {
        let mut world = self.0.borrow_mut();
        if world.down {
            (world.down, world.boot, world.now) = (false, world.boot + 1, Duration::ZERO);
            return true;
        }
        false
    }

    fn call(&self, call: &str) -> Result<()> {
        self.0.borrow_mut().call(call)
    }
}

impl Journal for Port {
    fn save(&mut self, record: &Record) -> Result<()> {
        let mut world = self.0.borrow_mut();
        if world.down {
            return interrupted();
        }
        let name = record.state.name();
        let count = world.counts.entry(format!("record {name}")).or_default();
        *count += 1;
        let count = *count;
        let refused =
            |w: &When| matches!(w, When::Unrecorded(state, times) if *state == name && times.contains(count));
        if world.scenario.whens.iter().any(refused) {
            return failed("read-only");
        }
        world.record = Some(record.encode());
        Ok(())
    }

    fn clear(&mut self) -> Result<()> {
        let mut world = self.0.borrow_mut();
        if world.down {
            return interrupted();
        }
        world.record = None;
        Ok(())
    }
}

impl Scripts for Port {
    fn run(&mut self, set: ScriptSet, from: Option<Cursor>) -> ScriptsEnd {
        let mut world = self.0.borrow_mut();
        let place = match set.step.place() {
            thimble::agent::scripts::Place::Rootfs => "rootfs",
            thimble::agent::scripts::Place::Artifact => "artifact",
        };
        if world.unknown_version(place) {
            return if world.down { ScriptsEnd::Interrupted } else { ScriptsEnd::Failed };
        }
        let mut failed = from.as_ref().is_some_and(|c| c.failed);
        for name in select(world.scripts.keys().cloned(), set) {
            if from.as_ref().is_some_and(|c| name < c.name) {
                continue;
            }
            let event = world.scripts[&name].clone();
            match world.event(&event) {
                None => return ScriptsEnd::Interrupted,
                Some(0) => continue,
                Some(21) => {
                    let cursor = Cursor { name, first_start: world.now, failed };
                    return ScriptsEnd::Later(cursor, Duration::from_secs(60));
                }
                Some(_) => failed = true,
            }
            if !set.run_all {
                break;
            }
        }
        if failed { ScriptsEnd::Failed } else { ScriptsEnd::Done }
    }

    fn check_rootfs_version(&mut self) -> Result<()> {
        if self.0.borrow().unknown_version("rootfs") { failed("version") } else { Ok(()) }
    }
}

impl Server for Port {
    fn send_inventory(&mut self) -> std::result::Result<(), Fault> {
        self.0.borrow_mut().request("inventory")
    }

    fn next_deployment(&mut self) -> std::result::Result<Option<Next>, Fault> {
        let mut world = self.0.borrow_mut();
        world.request("next")?;
        let offer = Offer { id: "d1".into(), uri: "http://server/d1".into() };
        Ok((!world.closed).then_some(Next { offer, control_map: Ok(None) }))
    }

    fn control_map(&mut self, _: &str) -> std::result::Result<ControlMap, Fault> {
        Err(Fault::Other(Error::new("NET", "nobody asks where there are no maps")))
    }

    fn report(&mut self, deployment: &str, status: Status) -> std::result::Result<(), Fault> {
        assert_eq!(deployment, "d1");
        let mut world = self.0.borrow_mut();
        let request = match status {
            Status::Success | Status::Failure => "final",
            Status::Installing if world.token_dropped => "pre-commit",
            other => other.word(),
        };
        if request == "final" && !world.down {
            // Offered again it would be another story.
            (world.final_reports, world.closed) = (world.final_reports + 1, true);
        }
        world.request(request)?;
        if world.statuses.last() != Some(&status.word()) {
            world.statuses.push(status.word());
        }
        Ok(())
    }

    fn upload_log(&mut self, _: &str) -> std::result::Result<(), Fault> {
        let mut world = self.0.borrow_mut();
        world.logs += usize::from(!world.down);
        world.request("log")
    }

    fn forget_token(&mut self) {
        self.0.borrow_mut().token_dropped = true;
    }
}

impl Software for Port {
    fn load(&mut self) -> Result<Installed> {
        Ok(self.0.borrow().installed.clone())
    }

    fn save(&mut self, installed: &Installed) -> Result<()> {
        let mut world = self.0.borrow_mut();
        if world.down {
            return interrupted();
        }
        world.installed = installed.clone();
        Ok(())
    }
}

/// There are no maps.
impl Controls for Port {
    fn pool(&mut self) -> Result<Pool> {
        Ok(Pool::default())
    }

    fn decide(&mut self, point: Point) -> Result<Decision> {
        let (pool, at) = (Pool::default(), self.now());
        Ok(Decision { explanation: pool.explain(point, at), pool, at })
    }

    fn replace(&mut self, _: &str, _: &ControlMap) -> Result<std::result::Result<(), Refused>> {
        failed("control map")
    }

    fn remove(&mut self, _: &str) -> Result<()> {
        Ok(())
    }

    fn idle(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Host for Port {
    fn now(&self) -> Duration {
        self.0.borrow().now
    }

    fn boot_id(&self) -> String {
        self.0.borrow().boot.to_string()
    }

    fn wait(&mut self, until: Duration) -> Woke {
        let mut world = self.0.borrow_mut();
        // The daemon waits for the next day: that is the end of the story.
        if world.down || until.saturating_sub(world.now) > DAY / 2 {
            return Woke::Terminate;
        }
        world.now = world.now.max(until);
        Woke::Time
    }

    fn wait_or_controls(&mut self, until: Duration) -> Woke {
        self.wait(until)
    }

    fn reboot(&mut self) -> Result<()> {
        let mut world = self.0.borrow_mut();
        world.call("reboot")?;
        world.down = true;
        interrupted()
    }

    fn random(&mut self) -> u64 {
        0
    }

    fn begin_log(&mut self, _: &str) {}

    fn end_log(&mut self) {}
}

impl Payload for Port {
    fn store(&mut self, _: &mut dyn PayloadFiles) -> Result<()> {
        let call = match self.0.borrow_mut().ask("ProvidePayloadFileSizes", "")?.as_str() {
            "Yes" => "DownloadWithFileSizes",
            "No" | "" => "Download",
            _ => return failed("ProvidePayloadFileSizes"),
        };
        self.call(call)
    }

    fn install(&mut self) -> Result<()> {
        self.call("ArtifactInstall")
    }

    fn needs_reboot(&mut self) -> Result<Reboot> {
        let usual = match &self.0.borrow().scenario.payload {
            Content::Module { reboot, .. } => reboot.clone(),
            Content::Empty => String::new(),
        };
        match self.0.borrow_mut().ask("NeedsArtifactReboot", &usual)?.as_str() {
            "Yes" => Ok(Reboot::Yes),
            "Automatic" => Ok(Reboot::Automatic),
            "No" | "-" => Ok(Reboot::No),
            _ => failed("NeedsArtifactReboot"),
        }
    }

    fn supports_rollback(&mut self) -> Result<bool> {
        let usual = match &self.0.borrow().scenario.payload {
            Content::Module { rollback, .. } => rollback.clone(),
            Content::Empty => String::new(),
        };
        match self.0.borrow_mut().ask("SupportsRollback", &usual)?.as_str() {
            "Yes" => Ok(true),
            "No" | "-" => Ok(false),
            _ => failed("SupportsRollback"),
        }
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
        self.call("ArtifactRollback")
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

    fn cleanup(&mut self) -> Result<()> {
        self.call("Cleanup")
    }
}

/// Where the Artifact comes from.
struct Store {
    port: Port,
    handler: Port,
}

impl Depot for Store {
    fn open(&mut self, _: &Offer) -> Result<Artifact> {
        let world = self.port.0.borrow();
        if world.is(&When::Unfit) || world.is(&When::NoModule) {
            return failed("not for this device");
        }
        let payload = match world.scenario.payload {
            Content::Empty => None,
            Content::Module { .. } => Some("recorder"),
        };
        let mut artifact = Artifact::new("release-2", payload);
        artifact.clears = Some(vec!["payload.*".into()]);
        artifact.provides.insert("payload.version".into(), "release-2".into());
        Ok(artifact)
    }

    fn store(&mut self, artifact: &Artifact) -> Result<()> {
        match artifact.payload {
            None => Ok(()),
            Some(_) => self.handler.store(&mut NoFiles),
        }
    }

    fn handler(&mut self, _: &str) -> Result<&mut dyn Payload> {
        Ok(&mut self.handler)
    }
}

/// The handler looks at none.
struct NoFiles;

impl PayloadFiles for NoFiles {
    fn next_file(&mut self) -> Result<Option<(String, u64)>> {
        Ok(None)
    }

    fn read(&mut self, _: &mut [u8]) -> Result<usize> {
        Ok(0)
    }
}

fn interrupted<T>() -> Result<T> {
    Err(Error::new(INTERRUPTED, "killed"))
}

fn failed<T>(what: &str) -> Result<T> {
    Err(Error::new("SCENARIO", format!("{what} fails as told")))
}
