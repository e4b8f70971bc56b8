//! The simulated machine: storage, root partitions, boot loader, and the counter of operations that cuts refer to.

use super::cut::{Cut, Ends, How, Tear, Tears};
use super::scenario::{Fails, Kind, NewSystem, Scenario};
use super::storage::{BootEnv, Twin};
use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;
use thimble::agent::{Installed, Status};
use thimble::error::{Error, Result};
use thimble::run::INTERRUPTED;

pub const OLD: &[u8] = b"the old system..";
pub const NEW: &[u8] = b"the new system!!";
/// More starts of the machine than any update can need.
const MANY_BOOTS: u32 = 80;

/// What runs, or is there to be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Software {
    Old,
    Half,
    New,
}

/// Why nothing works any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Down {
    Cut(Ends),
    /// The agent has asked for it.
    Restart,
}

/// What an Update Module has done. It keeps what it needs to go back until Cleanup, as the Mender modules do.
#[derive(Debug, Clone, Copy)]
pub struct Module {
    pub there: Software,
    pub runs: Software,
    pub backup: bool,
}

/// The server's side of the story, and what the agent's process has seen of the world.
#[derive(Debug, Default)]
pub struct Story {
    /// The server does not offer the deployment again.
    pub closed: bool,
    /// Final statuses that it has heard.
    pub finals: Vec<Status>,
    /// Since the token was dropped, in this process or before a wait: nothing is committed without this.
    pub token_dropped: bool,
    pub heard_before_commit: bool,
    /// Something has failed since the agent was started: only then Error scripts may run.
    pub failed: bool,
    /// Whose Artifact scripts are in place.
    pub scripts_of: &'static str,
    /// Records written; the loop guard struck or came near.
    pub journal_writes: usize,
    pub looped: bool,
    pub violations: Vec<String>,
}

/// Files that the real code wants to see: two partitions, and a root directory for each of them running.
pub struct Bench {
    dir: PathBuf,
}

impl Bench {
    /// In memory where there is such a place: nothing here has to survive.
    pub fn new(name: &str) -> Bench {
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let dir = base.join(format!("thimble-cuts-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        let bench = Bench { dir };
        for n in [2, 3] {
            let proc = bench.root(n).join("proc/self");
            fs::create_dir_all(&proc).expect("directory");
            let line = format!("22 1 179:{n} / / rw - ext4 {} rw\n", bench.part(n).display());
            fs::write(proc.join("mountinfo"), line).expect("mountinfo");
        }
        bench
    }

    /// The root directory of the system that runs from that partition.
    pub fn root(&self, running: u32) -> PathBuf {
        self.dir.join(format!("root{running}"))
    }

    pub fn part(&self, number: u32) -> PathBuf {
        self.dir.join(format!("mmcblk0p{number}"))
    }

    /// Where the handler of root file systems remembers where it came from.
    pub fn memory(&self) -> PathBuf {
        self.dir.join("thimble-rootfs-image")
    }

    fn reset(&self) {
        fs::write(self.part(2), OLD).expect("partition");
        fs::write(self.part(3), b"an older system.").expect("partition");
        let _ = fs::remove_file(self.memory());
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// The world of one run.
pub struct Machine {
    pub scenario: Rc<Scenario>,
    pub bench: Rc<Bench>,
    pub cuts: Vec<Cut>,
    /// Every operation so far: how it can be cut, and whether the agent does it (else the boot loader).
    pub ops: Vec<(Tears, bool)>,
    pub trail: Vec<String>,
    pub down: Option<Down>,
    pub env: BootEnv,
    pub running: u32,
    pub boots: u32,
    pub now: Duration,
    pub journal: Twin<Vec<u8>>,
    pub installed: Twin<Installed>,
    pub module: Module,
    pub story: Story,
    fired: Vec<bool>,
}

pub type Shared = Rc<RefCell<Machine>>;

/// What becomes of an operation.
pub enum Gate {
    /// It is done; then this ends, if anything.
    Whole(Option<Ends>),
    Torn(Tear),
    Nothing,
}

pub fn interrupted<T>() -> Result<T> {
    Err(Error::new(INTERRUPTED, "cut"))
}

impl Machine {
    pub fn new(scenario: &Rc<Scenario>, bench: &Rc<Bench>, cuts: &[Cut]) -> Shared {
        bench.reset();
        let old = Installed { name: "release-1".into(), ..Installed::default() };
        let module = Module { there: Software::Old, runs: Software::Old, backup: false };
        let story = Story { scripts_of: "another deployment", ..Story::default() };
        Rc::new(RefCell::new(Machine {
            scenario: scenario.clone(),
            bench: bench.clone(),
            cuts: cuts.to_vec(),
            ops: Vec::new(),
            trail: Vec::new(),
            down: None,
            env: BootEnv::new(),
            running: 2,
            boots: 0,
            now: Duration::ZERO,
            journal: Twin::new(Vec::new()),
            installed: Twin::new(old),
            module,
            story,
            fired: vec![false; scenario.faults.len()],
        }))
    }

    /// Says what the world is about to do, counts it, and whether it is cut.
    pub fn gate(&mut self, what: &str, tears: Tears) -> Gate {
        self.counted(what, tears, true)
    }

    fn counted(&mut self, what: &str, tears: Tears, by_agent: bool) -> Gate {
        if self.down.is_some() {
            return Gate::Nothing;
        }
        let op = self.ops.len();
        self.ops.push((tears, by_agent));
        let cut = self.cuts.iter().find(|c| c.op == op && (by_agent || c.ends == Ends::Power)).copied();
        let Some(Cut { how, ends, .. }) = cut else {
            self.trail.push(format!("{op} {what}"));
            return Gate::Whole(None);
        };
        self.trail.push(format!("{op} {what} <== {how:?}, {ends:?}"));
        match how {
            How::After => Gate::Whole(Some(ends)),
            How::Before => {
                self.down = Some(Down::Cut(ends));
                Gate::Nothing
            }
            How::Torn(tear) => {
                self.down = Some(Down::Cut(ends));
                Gate::Torn(tear)
            }
        }
    }

    /// An operation that is a change of this world: `change` makes it, or half of it.
    pub fn act<T>(
        &mut self,
        what: &str,
        tears: Tears,
        change: impl FnOnce(&mut Machine, Option<Tear>) -> Result<T>,
    ) -> Result<T> {
        match self.gate(what, tears) {
            Gate::Nothing => interrupted(),
            Gate::Torn(tear) => {
                let _ = change(self, Some(tear));
                interrupted()
            }
            Gate::Whole(ends) => {
                let result = change(self, None);
                self.end(ends).and(result)
            }
        }
    }

    /// What was not cut before ends now, perhaps.
    pub fn end(&mut self, ends: Option<Ends>) -> Result<()> {
        match ends {
            Some(ends) => {
                self.down.get_or_insert(Down::Cut(ends));
                interrupted()
            }
            None => Ok(()),
        }
    }

    /// How this fails now, if it does.
    pub fn fault(&mut self, at: &str) -> Option<Fails> {
        let n = (0..self.fired.len()).find(|n| {
            let fault = &self.scenario.faults[*n];
            fault.at == at && (fault.always || !self.fired[*n])
        })?;
        self.fired[n] = true;
        self.trail.push(format!("  {at} fails"));
        self.story.failed |= self.scenario.faults[n].fails != Fails::Again;
        Some(self.scenario.faults[n].fails)
    }

    pub fn violation(&mut self, text: impl Into<String>) {
        self.story.violations.push(text.into());
    }

    /// Writes the environment, once per planned write.
    pub fn write_env(&mut self, changes: &[(&str, &str)], loader: bool) -> Result<()> {
        let what = format!("{}environment {changes:?}", if loader { "boot loader: " } else { "" });
        for write in self.env.plan(changes, loader)? {
            match self.counted(&what, Tears::Bytes, !loader) {
                Gate::Nothing => return interrupted(),
                Gate::Torn(tear) => {
                    self.env.apply(&write, Some(tear));
                    return interrupted();
                }
                Gate::Whole(ends) => {
                    self.env.apply(&write, None);
                    self.end(ends)?;
                }
            }
        }
        Ok(())
    }

    pub fn content(&self, part: u32) -> Software {
        match fs::read(self.bench.part(part)).expect("partition").as_slice() {
            OLD => Software::Old,
            NEW => Software::New,
            _ => Software::Half,
        }
    }

    /// What runs: of a root file system, or of what the module looks after.
    pub fn software(&self) -> Software {
        if self.scenario.kind == Kind::Rootfs { self.content(self.running) } else { self.module.runs }
    }

    /// Power on, or restart, until a system runs or nothing will ever.
    pub fn boot(&mut self) {
        loop {
            self.down = None;
            self.boots += 1;
            if self.boots > MANY_BOOTS {
                return self.violation("the machine restarts for ever");
            }
            self.trail.push(format!("-- boot {}", self.boots));
            (self.now, self.module.runs) = (Duration::ZERO, self.module.there);
            match self.boot_loader() {
                Ok(true) => return,
                Ok(false) => {} // Reset, or cut.
                Err(e) => return self.violation(format!("the boot loader is stuck: {e}")),
            }
        }
    }

    /// BE-3 to BE-7. Whether a system was started.
    fn boot_loader(&mut self) -> Result<bool> {
        let trying = !matches!(self.env.get("upgrade_available")?.as_str(), "" | "0");
        if trying {
            let count = self.env.get("bootcount")?.parse().unwrap_or(0) + 1;
            if self.write_env(&[("bootcount", &count.to_string())], true).is_err() {
                return Ok(false);
            }
            if count > 1 {
                let other = if self.env.get("mender_boot_part")? == "2" { "3" } else { "2" };
                let back = [
                    ("mender_boot_part", other),
                    ("mender_boot_part_hex", other),
                    ("upgrade_available", "0"),
                ];
                if self.write_env(&back, true).is_err() {
                    return Ok(false);
                }
            }
        }
        self.running = self.env.get("mender_boot_part")?.parse().unwrap_or(0);
        let content =
            if [2, 3].contains(&self.running) { self.content(self.running) } else { Software::Half };
        self.trail.push(format!("-- runs from {}: {content:?}", self.running));
        match content {
            Software::Half => Err(Error::new("BRICK", "the system is not complete")),
            Software::New if self.scenario.system == NewSystem::DoesNotStart => {
                if self.env.get("upgrade_available")? == "1" {
                    return Ok(false); // mender_try_to_recover
                }
                Err(Error::new("BRICK", "the system does not start, and nothing goes back"))
            }
            Software::Old | Software::New => Ok(true),
        }
    }
}
