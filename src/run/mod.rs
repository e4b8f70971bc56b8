//! The driver: record the state, perform its effect, compute the next. Nothing else writes the journal.
//!
//! | file | its one job |
//! | --- | --- |
//! | `mod` | the loop, and what is quickly done |
//! | `waits` | waits between tries, waited out or recorded |
//! | `errands` | what the server is asked and told |
//! | `control` | update control maps: decisions and pauses (`no_control`: a build without) |

#[cfg(feature = "control")]
mod control;
#[cfg(not(feature = "control"))]
#[path = "no_control.rs"]
mod control;
mod errands;
mod waits;

use crate::agent::schedule::{Intervals, Schedule};
use crate::agent::scripts::{Action, ScriptSet, Step};
use crate::agent::{
    self, Artifact, Effect, End, Errand, Outcome, Reboot, Record, State, Status, StopPoint, Wait, WaitFor,
};
use crate::error::Result;
use crate::ports::{Controls, Cursor, Depot, Host, Journal, Payload, Scripts, ScriptsEnd, Server, Software};
use std::time::Duration;

/// The code of an error that means: the agent was told to end, nothing is wrong.
pub const INTERRUPTED: &str = "INTERRUPTED";

/// Everything that the driver reaches.
pub struct World<'a> {
    /// The record of the update in progress.
    pub journal: &'a mut dyn Journal,
    /// State scripts.
    pub scripts: &'a mut dyn Scripts,
    /// The server.
    pub server: &'a mut dyn Server,
    /// Artifacts and payload handlers.
    pub depot: &'a mut dyn Depot,
    /// What is installed.
    pub software: &'a mut dyn Software,
    /// Update control maps.
    pub controls: &'a mut dyn Controls,
    /// The machine.
    pub host: &'a mut dyn Host,
}

/// How the agent is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// For ever.
    Daemon,
    /// All that is due, then the end. Waits up to this much in all are waited out, longer ones are recorded
    /// (decision 22).
    OneShot {
        /// How long to wait in all.
        max_wait: Duration,
    },
    /// A person's command about one Artifact; stops before these points.
    Standalone {
        /// `--stop-before`.
        stop_before: Vec<StopPoint>,
    },
}

/// Why the driver returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// Nothing (more) is due. Says how the last deployment of this run ended, if there was one, and whether an errand
    /// failed.
    Idle {
        /// `Some(true)`: a deployment succeeded.
        deployment: Option<bool>,
        /// The server could not be asked, or the inventory not sent.
        failed: bool,
    },
    /// An update waits longer than this run may; it is recorded and goes on with the next run.
    Waiting {
        /// How much longer.
        left: Duration,
    },
    /// The agent was told to end.
    Terminated,
    /// A standalone update waits for a person's command.
    AwaitsCommand(Box<State>),
    /// A standalone update was stopped as asked.
    Stopped(StopPoint, Box<State>),
    /// A standalone update has ended.
    Ended(Box<End>),
}

/// The driver.
pub struct Driver<'a> {
    world: World<'a>,
    mode: Mode,
    intervals: Intervals,
    time_scale: f64,
    schedule: Schedule,
    /// A standalone update waits for a person's command: no deployment is begun meanwhile.
    pub hold_deployments: bool,
    waited: Duration,
    deployment: Option<bool>,
    failed: bool,
    /// A pause begins: when its next decision is due.
    #[cfg(feature = "control")]
    paused: Option<control::Due>,
}

/// What came of an effect.
enum Performed {
    Outcome(Outcome),
    Leave(Exit),
}

use Performed::Leave;

impl From<Outcome> for Performed {
    fn from(outcome: Outcome) -> Performed {
        Performed::Outcome(outcome)
    }
}

impl<'a> Driver<'a> {
    /// A driver for this world. `time_scale` shortens waits between tries, in tests.
    pub fn new(world: World<'a>, mode: Mode, intervals: Intervals, time_scale: f64) -> Driver<'a> {
        // A one-shot run does what is due once. Were it to look at the clock again, it would never end where an
        // errand takes longer than its interval.
        let scale = |d: Duration| if mode == Mode::Daemon { d.mul_f64(time_scale) } else { Duration::MAX };
        let scaled =
            Intervals { update: scale(intervals.update), inventory: scale(intervals.inventory), ..intervals };
        let schedule = Schedule::new(scaled, world.host.now());
        Driver {
            world,
            mode,
            intervals,
            time_scale,
            schedule,
            hold_deployments: false,
            waited: Duration::ZERO,
            deployment: None,
            failed: false,
            #[cfg(feature = "control")]
            paused: None,
        }
    }

    /// When the errands are due, for callers that know more (times remembered over one-shot runs).
    pub fn schedule(&mut self) -> &mut Schedule {
        &mut self.schedule
    }

    /// Runs from a state to an exit. `wait` is that of the record, if the state was left on purpose.
    pub fn run(&mut self, mut state: State, mut wait: Option<Wait>) -> Exit {
        loop {
            if let Mode::Standalone { stop_before } = &self.mode
                && let Some(point) = agent::stop_point(&state)
                && stop_before.contains(&point)
            {
                self.record(&state, None);
                return Exit::Stopped(point, Box::new(state));
            }
            if state.is_checkpoint() && wait.is_none() {
                state = state.counted();
                if state.is_checkpoint() && !self.record(&state, None) && state.needs_its_record() {
                    log::error!("{} cannot be recorded, so it is not done", state.name());
                    state = agent::next(state, Outcome::Failed);
                    continue;
                }
            }
            let outcome = match self.perform(&state, wait.take()) {
                Performed::Outcome(outcome) => outcome,
                Leave(exit) => return exit,
            };
            let from = state.name();
            state = agent::next(state, outcome);
            crate::debug!("{from} -> {}", state.name());
        }
    }

    fn record(&mut self, state: &State, wait: Option<Wait>) -> bool {
        let record = Record { state: state.clone(), wait, boot_id: self.world.host.boot_id() };
        match self.world.journal.save(&record) {
            Ok(()) => true,
            Err(e) => {
                log::error!("{e}");
                false
            }
        }
    }

    fn perform(&mut self, state: &State, wait: Option<Wait>) -> Performed {
        match agent::effect(state) {
            Effect::Nothing => Outcome::Done.into(),
            Effect::Exit => Leave(Exit::Idle { deployment: self.deployment, failed: self.failed }),
            Effect::AwaitCommand => match self.mode {
                Mode::Standalone { .. } => Leave(Exit::AwaitsCommand(Box::new(state.clone()))),
                // Cannot happen: only the command line reaches this state.
                Mode::Daemon | Mode::OneShot { .. } => Outcome::Failed.into(),
            },
            Effect::AwaitErrand => self.await_errand(),
            Effect::Scripts(set) => self.scripts(state, set, wait),
            Effect::SendInventory => {
                let sent = self.world.server.send_inventory();
                self.errand_done(Errand::Inventory, sent.map(|()| Outcome::Done))
            }
            Effect::Poll => self.poll(),
            Effect::Decide(point) => self.decide(state, point, wait),
            Effect::AwaitVerdict(point) => self.await_verdict(state, point, wait),
            Effect::Report(status) => {
                if let Status::PauseBefore(point) = status {
                    self.hold(state, point);
                }
                self.report(state, status)
            }
            Effect::ReportUntilHeard(status) => self.until_heard(state, wait, |driver| {
                driver.world.server.report(state.deployment().unwrap_or_default(), status)
            }),
            Effect::ReportEnd { success } => {
                self.until_heard(state, wait, |driver| driver.report_end(state, success))
            }
            Effect::OpenArtifact(offer) => {
                let opened = self.world.depot.open(&offer);
                self.judged("the Artifact cannot be used", opened.map(Outcome::Header))
            }
            Effect::StorePayload => {
                let stored = match state.artifact() {
                    Some(artifact) => self.world.depot.store(artifact),
                    None => Ok(()),
                };
                self.judged("the payload cannot be stored", stored.map(|()| Outcome::Done))
            }
            Effect::AskRollback => {
                self.ask(state, "SupportsRollback", |h| h.supports_rollback().map(Outcome::RollsBack))
            }
            Effect::AskReboot => {
                self.ask(state, "NeedsArtifactReboot", |h| h.needs_reboot().map(Outcome::NeedsReboot))
            }
            Effect::Install => self.call(state, "ArtifactInstall", |h| h.install()),
            Effect::Reboot(Reboot::Yes) => self.call(state, "ArtifactReboot", |h| h.reboot()),
            Effect::RollbackReboot(Reboot::Yes) => {
                self.call(state, "ArtifactRollbackReboot", |h| h.rollback_reboot())
            }
            Effect::Reboot(Reboot::Automatic) | Effect::RollbackReboot(Reboot::Automatic) => {
                let restarted = self.world.host.reboot();
                self.judged("the machine does not restart", restarted.map(|()| Outcome::Done))
            }
            Effect::Reboot(Reboot::No) | Effect::RollbackReboot(Reboot::No) => Outcome::Done.into(),
            Effect::VerifyReboot => self.call(state, "ArtifactVerifyReboot", |h| h.verify_reboot()),
            Effect::ForgetToken => {
                self.world.server.forget_token();
                Outcome::Done.into()
            }
            Effect::Commit { check_scripts } => {
                if check_scripts && let Err(e) = self.world.scripts.check_rootfs_version() {
                    return self.judged("the new system is not committed", Err(e));
                }
                self.call(state, "ArtifactCommit", |h| h.commit())
            }
            Effect::Rollback => self.call(state, "ArtifactRollback", |h| h.rollback()),
            Effect::VerifyRollbackReboot => {
                self.call(state, "ArtifactVerifyRollbackReboot", |h| h.verify_rollback_reboot())
            }
            Effect::PayloadFailure => self.call(state, "ArtifactFailure", |h| h.failure()),
            Effect::SaveInstalled => self.save_installed(state),
            Effect::Cleanup => {
                self.forget_maps(state);
                self.call(state, "Cleanup", |h| h.cleanup())
            }
            Effect::ClearRecord => {
                let cleared = self.world.journal.clear();
                self.judged(
                    "the record of the update stays and is tidied up at the next start",
                    cleared.map(|()| Outcome::Done),
                )
            }
            Effect::Finish => self.finish(state),
        }
    }

    /// Turns a result into an outcome; a failure is logged with what it means.
    fn judged(&mut self, meaning: &str, result: Result<Outcome>) -> Performed {
        match result {
            Ok(outcome) => outcome.into(),
            Err(e) if e.code == INTERRUPTED => Leave(Exit::Terminated),
            Err(e) => {
                log::error!("{e}");
                log::error!("{meaning}");
                Outcome::Failed.into()
            }
        }
    }

    fn ask(
        &mut self,
        state: &State,
        call: &str,
        ask: impl FnOnce(&mut dyn Payload) -> Result<Outcome>,
    ) -> Performed {
        let Some(payload) = state.artifact().and_then(|a: &Artifact| a.payload.as_deref()) else {
            return Outcome::Done.into(); // An empty payload has nothing to do anywhere (AF-40).
        };
        crate::debug!("{call}");
        let answer = self.world.depot.handler(payload).and_then(ask);
        self.judged(&format!("{call} failed"), answer)
    }

    fn call(
        &mut self,
        state: &State,
        call: &str,
        make: impl FnOnce(&mut dyn Payload) -> Result<()>,
    ) -> Performed {
        self.ask(state, call, |handler| make(handler).map(|()| Outcome::Done))
    }

    fn scripts(&mut self, state: &State, set: ScriptSet, wait: Option<Wait>) -> Performed {
        if set.step == Step::Idle && set.action == Action::Enter {
            self.idle_maps();
        }
        if set.step == Step::Idle && self.mode != Mode::Daemon {
            return Outcome::Done.into(); // Decision 22: a one-shot run is never idle.
        }
        let mut cursor = None;
        if let Some(Wait { until_ms, what: WaitFor::Script { name, first_start_ms, failed } }) = wait {
            let what = WaitFor::Script { name: name.clone(), first_start_ms, failed };
            if let Some(exit) = self.wait_on(state, Wait { until_ms, what }) {
                return Leave(exit);
            }
            cursor = Some(Cursor { name, first_start: Duration::from_millis(first_start_ms), failed });
        }
        loop {
            match self.world.scripts.run(set, cursor.take()) {
                ScriptsEnd::Done => return Outcome::Done.into(),
                ScriptsEnd::Failed => {
                    // Its errand was not done, or a deployment was dropped: not a run that went well.
                    self.failed |= set.step == Step::Sync;
                    return Outcome::Failed.into();
                }
                ScriptsEnd::Interrupted => return Leave(Exit::Terminated),
                ScriptsEnd::Later(at, after) => {
                    let until = self.world.host.now() + after.mul_f64(self.time_scale);
                    let first_start_ms = millis(at.first_start);
                    let what = WaitFor::Script { name: at.name.clone(), first_start_ms, failed: at.failed };
                    if let Some(exit) = self.wait(state, Wait { until_ms: millis(until), what }) {
                        return Leave(exit);
                    }
                    cursor = Some(at);
                }
            }
        }
    }

    fn save_installed(&mut self, state: &State) -> Performed {
        let (State::SaveProvides(end) | State::StateLoop(end)) = state else { return Outcome::Failed.into() };
        let saved = self.world.software.load().and_then(|old| match agent::installed_after(&old, end) {
            Some(new) if new != old => self.world.software.save(&new),
            Some(_) | None => Ok(()),
        });
        self.judged("what is installed is not recorded", saved.map(|()| Outcome::Done))
    }

    fn finish(&mut self, state: &State) -> Performed {
        let State::Finish(end) = state else { return Outcome::Failed.into() };
        if let Mode::Standalone { .. } = self.mode {
            return Leave(Exit::Ended(Box::new(end.clone())));
        }
        let success = end.succeeded();
        let word = if success { "Success" } else { "Failure" };
        log::info!(
            "Deployment with ID {} finished with status: {word}",
            state.deployment().unwrap_or_default()
        );
        self.forget_maps(state);
        self.world.host.end_log();
        self.deployment = Some(success);
        // What is installed may have changed (U5).
        self.schedule.at_once(Errand::Inventory, self.world.host.now());
        Outcome::Done.into()
    }
}

/// Whole seconds, for messages. By hand: what formats floating-point numbers has 7 KiB.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_millis() >= 500)
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}
