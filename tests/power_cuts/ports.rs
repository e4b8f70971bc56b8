//! The ports of the driver, over the simulated machine.

use super::cut::Tears;
use super::handler::{Handler, failed};
use super::machine::{Down, Shared, interrupted};
use super::scenario::{Fails, Kind};
use std::time::Duration;
use thimble::agent::control::{ControlMap, Explanation, Point, Pool, Refused, Verdict};
use thimble::agent::scripts::{Action, ScriptSet, Step};
use thimble::agent::{Artifact, Installed, Offer, Record, SAVE_LIMIT, Status, Trial};
use thimble::error::{Error, Result};
use thimble::ports::{
    Controls, Cursor, Decision, Depot, Fault, Host, Journal, Next, Payload, PayloadFiles, Scripts,
    ScriptsEnd, Server, Software, Woke,
};

/// Every port but the depot.
#[derive(Clone)]
pub struct Port(pub Shared);

impl Journal for Port {
    fn save(&mut self, record: &Record) -> Result<()> {
        let mut m = self.0.borrow_mut();
        let bytes = record.encode();
        let waits = if record.wait.is_some() { ", waits" } else { "" };
        let what = format!("journal: {}", record.state.name());
        m.act(&format!("{what}{waits}"), Tears::Half, |m, torn| {
            if torn.is_none() && m.fault(&what).is_some() {
                return failed();
            }
            m.story.journal_writes += 1;
            // One more, perhaps by a load, and the loop guard strikes.
            let text = String::from_utf8_lossy(&bytes);
            m.story.looped |=
                [SAVE_LIMIT - 1, SAVE_LIMIT].iter().any(|n| text.contains(&format!("\"saves\":{n},")));
            m.journal.save(bytes, torn.is_some());
            Ok(())
        })
    }

    fn clear(&mut self) -> Result<()> {
        self.0.borrow_mut().act("journal: cleared", Tears::Half, |m, torn| {
            if torn.is_none() && m.fault("journal: cleared").is_some() {
                return failed();
            }
            m.story.journal_writes += 1;
            m.journal.save(Vec::new(), torn.is_some());
            Ok(())
        })
    }
}

impl Scripts for Port {
    fn run(&mut self, set: ScriptSet, from: Option<Cursor>) -> ScriptsEnd {
        let mut m = self.0.borrow_mut();
        let what = format!("{}_{}", set.step.word(), set.action.word());
        let of_update = !matches!(set.step, Step::Idle | Step::Sync);
        let of_artifact = of_update && set.step != Step::Download;
        if m.down.is_none() && of_artifact && m.story.scripts_of != "d1" {
            let text = format!("{what} runs scripts of {}", m.story.scripts_of);
            m.violation(text);
        }
        if m.down.is_none() && of_update && set.action == Action::Error && !m.story.failed {
            m.violation(format!("{what} runs after a cut"));
        }
        let ran = m.act(&what, Tears::Half, |m, torn| Ok(if torn.is_none() { m.fault(&what) } else { None }));
        match ran {
            Err(_) => ScriptsEnd::Interrupted,
            Ok(None) => ScriptsEnd::Done,
            Ok(Some(Fails::Again)) => {
                let first_start = from.map_or(m.now, |c| c.first_start);
                let cursor = Cursor { name: format!("{what}_00"), first_start, failed: false };
                ScriptsEnd::Later(cursor, Duration::from_secs(60))
            }
            Ok(Some(Fails::Early | Fails::Late | Fails::Aborted)) => ScriptsEnd::Failed,
        }
    }

    fn check_rootfs_version(&mut self) -> Result<()> {
        let mut m = self.0.borrow_mut();
        m.act("scripts version", Tears::Never, |m, _| match m.fault("scripts version") {
            Some(_) => failed(),
            None => Ok(()),
        })
    }
}

impl Port {
    /// A request: `heard` is what the server does about it.
    fn request<T>(
        &mut self,
        what: &str,
        heard: impl FnOnce(&mut super::machine::Machine) -> T,
    ) -> std::result::Result<T, Fault> {
        let mut m = self.0.borrow_mut();
        let answer = m.act(what, Tears::Never, |m, _| {
            let fails = m.fault(what);
            Ok(match fails {
                Some(Fails::Early | Fails::Again) => Err(Fault::Other(Error::new("NET", "not reached"))),
                Some(Fails::Late) => {
                    heard(m);
                    Err(Fault::Other(Error::new("NET", "the answer was lost")))
                }
                Some(Fails::Aborted) => {
                    m.story.closed = true;
                    Err(Fault::Aborted)
                }
                None => Ok(heard(m)),
            })
        });
        answer.unwrap_or(Err(Fault::Interrupted))
    }
}

impl Server for Port {
    fn send_inventory(&mut self) -> std::result::Result<(), Fault> {
        self.request("inventory", |_| ())
    }

    fn next_deployment(&mut self) -> std::result::Result<Option<Next>, Fault> {
        let offer = Offer { id: "d1".into(), uri: "http://s/d1".into() };
        self.request("poll", |m| (!m.story.closed).then_some(Next { offer, control_map: Ok(None) }))
    }

    fn control_map(&mut self, _: &str) -> std::result::Result<ControlMap, Fault> {
        Err(Fault::Other(Error::new("NET", "nobody asks where there are no maps")))
    }

    fn report(&mut self, deployment: &str, status: Status) -> std::result::Result<(), Fault> {
        assert_eq!(deployment, "d1");
        let before_commit = status == Status::Installing && self.0.borrow().story.token_dropped;
        let what = match status {
            Status::Installing if before_commit => "report pre-commit".to_owned(),
            Status::Success | Status::Failure => "report final".to_owned(),
            other => format!("report {}", other.word()),
        };
        let is_final = matches!(status, Status::Success | Status::Failure);
        if is_final {
            // A server that is never reached again would offer it again: another update.
            self.0.borrow_mut().story.closed = true;
        }
        self.request(&what, |m| {
            m.trail.push(format!("  heard: {}", status.word()));
            m.story.heard_before_commit |= before_commit;
            if is_final {
                m.story.finals.push(status);
            }
        })
    }

    fn upload_log(&mut self, _: &str) -> std::result::Result<(), Fault> {
        self.request("log", |_| ())
    }

    fn forget_token(&mut self) {
        let mut m = self.0.borrow_mut();
        (m.story.token_dropped, m.story.heard_before_commit) = (true, false);
    }
}

impl Software for Port {
    fn load(&mut self) -> Result<Installed> {
        let m = self.0.borrow();
        if m.down.is_some() { interrupted() } else { Ok(m.installed.load()) }
    }

    fn save(&mut self, installed: &Installed) -> Result<()> {
        let what = format!("installed: {}", installed.name);
        self.0.borrow_mut().act(&what, Tears::Half, |m, torn| {
            if torn.is_none() && m.fault(&what).is_some() {
                return failed();
            }
            m.installed.save(installed.clone(), torn.is_some());
            Ok(())
        })
    }
}

/// What an application says: pause (once) or give it up, where the scenario has it.
impl Controls for Port {
    fn pool(&mut self) -> Result<Pool> {
        Ok(Pool::default())
    }

    fn decide(&mut self, point: Point) -> Result<Decision> {
        let what = format!("control {}", point.word());
        let mut m = self.0.borrow_mut();
        m.act(&what, Tears::Never, |m, _| {
            let verdict = match m.fault(&what) {
                Some(Fails::Again) => Verdict::Pause,
                Some(Fails::Early | Fails::Late | Fails::Aborted) => Verdict::Fail,
                None => Verdict::Continue,
            };
            let explanation = Explanation { point, verdict, voice: None };
            Ok(Decision { explanation, pool: Pool::default(), at: m.now })
        })
    }

    fn replace(&mut self, _: &str, _: &ControlMap) -> Result<std::result::Result<(), Refused>> {
        failed()
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
        format!("boot-{}", self.0.borrow().boots)
    }

    fn wait(&mut self, until: Duration) -> Woke {
        let mut m = self.0.borrow_mut();
        let waited = m.act("wait", Tears::Never, |m, _| {
            m.now = m.now.max(until);
            Ok(())
        });
        if waited.is_ok() { Woke::Time } else { Woke::Terminate }
    }

    fn wait_or_controls(&mut self, until: Duration) -> Woke {
        self.wait(until)
    }

    fn reboot(&mut self) -> Result<()> {
        self.0.borrow_mut().act("restart", Tears::Never, |m, _| {
            if m.fault("restart").is_some() {
                return failed();
            }
            m.down = Some(Down::Restart);
            interrupted()
        })
    }

    fn random(&mut self) -> u64 {
        0
    }

    fn begin_log(&mut self, _: &str) {}

    fn end_log(&mut self) {}
}

/// Where the Artifact comes from.
pub struct SimDepot {
    machine: Shared,
    handler: Handler,
    kind: Kind,
}

impl SimDepot {
    pub fn new(machine: &Shared) -> SimDepot {
        let kind = machine.borrow().scenario.kind;
        SimDepot { machine: machine.clone(), handler: Handler::new(machine), kind }
    }
}

impl SimDepot {
    /// As the real one, `cli/depot.rs`.
    pub fn trial(&mut self) -> Trial {
        self.handler.trial()
    }
}

impl Depot for SimDepot {
    fn open(&mut self, _: &Offer) -> Result<Artifact> {
        let kind = self.kind;
        self.machine.borrow_mut().act("open", Tears::Half, |m, torn| {
            if torn.is_none() && m.fault("open").is_some() {
                return failed();
            }
            m.story.scripts_of = if torn.is_some() { "nobody, half there" } else { "d1" };
            let payload = match kind {
                Kind::Rootfs => Some("rootfs-image"),
                Kind::Module { .. } => Some("a-module"),
                Kind::Empty => None,
            };
            Ok(Artifact::new("release-2", payload))
        })
    }

    fn store(&mut self, _: &Artifact) -> Result<()> {
        if self.kind == Kind::Empty { Ok(()) } else { self.handler.store(&mut NoFiles) }
    }

    fn handler(&mut self, _: &str) -> Result<&mut dyn Payload> {
        if self.machine.borrow().down.is_some() { interrupted() } else { Ok(&mut self.handler) }
    }
}

/// The handler brings its own.
struct NoFiles;

impl PayloadFiles for NoFiles {
    fn next_file(&mut self) -> Result<Option<(String, u64)>> {
        Ok(None)
    }

    fn read(&mut self, _: &mut [u8]) -> Result<usize> {
        Ok(0)
    }
}
