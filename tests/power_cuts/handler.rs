//! Payload handlers: the real one for root file systems, with a simulated boot environment, and a simulated Update
//! Module.

use super::cut::{Tear, Tears};
use super::machine::{Gate, Module, NEW, Shared, Software, interrupted};
use super::scenario::{Fails, Kind, NewSystem};
use thimble::agent::{Reboot, Trial};
use thimble::boot::{Environment, Variables};
use thimble::error::{Error, Result};
use thimble::install::rootfs::{RootfsImage, RootfsOptions};
use thimble::ports::{Payload, PayloadFiles};

/// The boot environment of the machine.
struct SimEnv(Shared);

impl Environment for SimEnv {
    fn read(&mut self, names: &[&str]) -> Result<Variables> {
        let machine = self.0.borrow();
        if machine.down.is_some() {
            return interrupted();
        }
        let mut values = Variables::new();
        for name in names {
            let value = machine.env.get(name)?;
            if !value.is_empty() {
                values.insert((*name).to_owned(), value);
            }
        }
        Ok(values)
    }

    fn write(&mut self, changes: &[(&str, &str)]) -> Result<()> {
        self.0.borrow_mut().write_env(changes, false)
    }
}

/// The handler of the scenario's payload.
pub struct Handler {
    machine: Shared,
    rootfs: RootfsImage,
    kind: Kind,
}

pub fn failed<T>() -> Result<T> {
    Err(Error::new("TEST", "fails as told"))
}

impl Handler {
    pub fn new(machine: &Shared) -> Handler {
        let m = machine.borrow();
        let lost =
            m.scenario.system == NewSystem::HasNoConfiguration && m.content(m.running) == Software::New;
        let part = |n: u32| (!lost).then(|| m.bench.part(n).to_string_lossy().into_owned());
        let mut options = RootfsOptions::new(m.bench.root(m.running), part(2), part(3));
        options.memory = Some(m.bench.memory());
        let rootfs = RootfsImage::new(options, Box::new(SimEnv(machine.clone())));
        Handler { machine: machine.clone(), rootfs, kind: m.scenario.kind }
    }

    /// One call: may fail, may be cut before, inside and after.
    fn call<T>(
        &mut self,
        what: &'static str,
        rootfs: impl FnOnce(&mut RootfsImage) -> Result<T>,
        module: impl FnOnce(&mut Module, Option<Tear>) -> Result<T>,
    ) -> Result<T> {
        let simulated = self.kind != Kind::Rootfs;
        let tears = if simulated { Tears::Half } else { Tears::Never };
        let (gate, fails) = {
            let mut m = self.machine.borrow_mut();
            let gate = m.gate(what, tears);
            let fails = if m.down.is_none() { m.fault(what) } else { None };
            (gate, fails)
        };
        let result = match gate {
            Gate::Nothing => return interrupted(),
            Gate::Torn(tear) => {
                let _ = module(&mut self.machine.borrow_mut().module, Some(tear));
                return interrupted();
            }
            Gate::Whole(_) if fails == Some(Fails::Early) => failed(),
            Gate::Whole(_) if simulated => module(&mut self.machine.borrow_mut().module, None),
            Gate::Whole(_) => rootfs(&mut self.rootfs),
        };
        let mut m = self.machine.borrow_mut();
        if let Gate::Whole(ends) = gate {
            m.end(ends)?;
        }
        if let Err(e) = &result {
            m.trail.push(format!("  {what}: {e}"));
            m.story.failed = true;
        }
        if fails == Some(Fails::Late) { result.and_then(|_| failed()) } else { result }
    }
}

impl Handler {
    /// What has become of the new root file system.
    pub fn trial(&mut self) -> Trial {
        match self.rootfs.facts() {
            _ if self.kind != Kind::Rootfs => Trial::NotKnown,
            Ok(facts) if !facts.pending => Trial::Over,
            Ok(facts) if facts.running == facts.boot_part => Trial::Running,
            Ok(_) => Trial::Waiting,
            Err(_) => Trial::NotKnown,
        }
    }
}

impl Payload for Handler {
    fn store(&mut self, _: &mut dyn PayloadFiles) -> Result<()> {
        let mut files = Files { machine: self.machine.clone(), given: 0 };
        let store = |handler: &mut RootfsImage| handler.store(&mut files);
        self.call("Download", store, |_, _| Ok(()))
    }

    fn install(&mut self) -> Result<()> {
        let kind = self.kind;
        self.call("ArtifactInstall", RootfsImage::install, |module, torn| {
            module.backup |= kind.rollback();
            module.there = if torn.is_some() { Software::Half } else { Software::New };
            if kind.reboot() == Reboot::No {
                module.runs = module.there;
            }
            Ok(())
        })
    }

    fn needs_reboot(&mut self) -> Result<Reboot> {
        let kind = self.kind;
        self.call("NeedsArtifactReboot", RootfsImage::needs_reboot, |_, _| Ok(kind.reboot()))
    }

    fn supports_rollback(&mut self) -> Result<bool> {
        let kind = self.kind;
        self.call("SupportsRollback", RootfsImage::supports_rollback, |_, _| Ok(kind.rollback()))
    }

    fn reboot(&mut self) -> Result<()> {
        self.call("ArtifactReboot", RootfsImage::reboot, restart)
    }

    fn verify_reboot(&mut self) -> Result<()> {
        self.call("ArtifactVerifyReboot", RootfsImage::verify_reboot, |module, _| {
            if module.runs == Software::New { Ok(()) } else { failed() }
        })
    }

    fn keep_trying(&mut self) -> Result<()> {
        if self.kind == Kind::Rootfs { self.rootfs.keep_trying() } else { Ok(()) }
    }

    fn commit(&mut self) -> Result<()> {
        {
            let mut m = self.machine.borrow_mut();
            if m.down.is_none() && !m.story.heard_before_commit {
                m.violation("a commit without a report that the server has heard");
            }
        }
        self.call("ArtifactCommit", RootfsImage::commit, |_, _| Ok(()))
    }

    fn rollback(&mut self) -> Result<()> {
        let at_once = self.kind.reboot() == Reboot::No;
        self.call("ArtifactRollback", RootfsImage::rollback, |module, torn| {
            if module.backup {
                module.there = if torn.is_some() { Software::Half } else { Software::Old };
                if at_once {
                    module.runs = module.there;
                }
            }
            if module.there == Software::Old { Ok(()) } else { failed() }
        })
    }

    fn rollback_reboot(&mut self) -> Result<()> {
        self.call("ArtifactRollbackReboot", RootfsImage::rollback_reboot, restart)
    }

    fn verify_rollback_reboot(&mut self) -> Result<()> {
        self.call("ArtifactVerifyRollbackReboot", RootfsImage::verify_rollback_reboot, |module, _| {
            if module.runs == Software::Old { Ok(()) } else { failed() }
        })
    }

    fn failure(&mut self) -> Result<()> {
        self.call("ArtifactFailure", RootfsImage::failure, |_, _| Ok(()))
    }

    fn cleanup(&mut self) -> Result<()> {
        self.call("Cleanup", RootfsImage::cleanup, |module, _| {
            module.backup = false;
            Ok(())
        })
    }
}

/// A module that answers Yes restarts something beside the machine, and comes back.
fn restart(module: &mut Module, torn: Option<Tear>) -> Result<()> {
    if torn.is_none() {
        module.runs = module.there;
    }
    Ok(())
}

/// One image file. Writing it is the handler's; when that is cut, what has arrived of it is ours to say.
struct Files {
    machine: Shared,
    given: usize,
}

impl PayloadFiles for Files {
    fn next_file(&mut self) -> Result<Option<(String, u64)>> {
        self.given += 1;
        if self.given > 1 {
            return Ok(None);
        }
        self.machine.borrow_mut().act("image", Tears::Bytes, |m, torn| {
            if let Some(tear) = torn {
                let free = 5 - m.running;
                let mut content = std::fs::read(m.bench.part(free)).expect("partition");
                let n = tear.of(NEW.len());
                content[..n].copy_from_slice(&NEW[..n]);
                std::fs::write(m.bench.part(free), content).expect("partition");
            }
            Ok(())
        })?;
        Ok(Some(("rootfs.ext4".into(), NEW.len() as u64)))
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.given += 1;
        let n = if self.given == 2 { NEW.len() } else { 0 };
        buffer[..n].copy_from_slice(&NEW[..n]);
        Ok(n)
    }
}
