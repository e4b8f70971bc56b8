//! Update control: asks the maps at each control point, waits while they say so, refreshes the server's.

use super::{Driver, Exit, Mode, Performed, Performed::Leave, millis};
use crate::agent::control::{Point, Pool, Verdict, Wake, spoken};
use crate::agent::schedule::{RETRY_AFTER_LIMIT, back_off, with_jitter};
use crate::agent::{Offer, Outcome, State, Wait, WaitFor};
use crate::error::{Error, Result};
use crate::ports::{Fault, Next, Woke};
use std::time::Duration;

/// What is done next at a control point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// The server is asked for its map, then the maps decide.
    Refresh {
        /// How often it was asked in vain.
        tries: u32,
    },
    /// The maps decide.
    Decide,
}

/// When that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    until: Duration,
    /// The maps when this was found out. In a pause, others are a reason to decide at once.
    changes: u64,
    then: Then,
    /// It is in the journal already.
    recorded: bool,
}

impl Due {
    fn from(wait: &Wait) -> Option<Due> {
        let WaitFor::Control { changes, refresh, tries } = wait.what else { return None };
        let then = if refresh { Then::Refresh { tries } } else { Then::Decide };
        Some(Due { until: Duration::from_millis(wait.until_ms), changes, then, recorded: true })
    }

    fn wait(&self) -> Wait {
        let (refresh, tries) = match self.then {
            Then::Refresh { tries } => (true, tries),
            Then::Decide => (false, 0),
        };
        let what = WaitFor::Control { changes: self.changes, refresh, tries };
        Wait { until_ms: millis(self.until), what }
    }
}

/// How a wait ended.
enum Awaited {
    Due,
    Changed,
    Leave(Exit),
}

/// What came of asking the server.
enum Refreshed {
    /// The maps are as they should be.
    Done,
    /// Again at that time.
    Again(Duration, Then),
    /// That is the outcome.
    End(Performed),
}

impl Driver<'_> {
    /// Decides on arriving at a control point.
    pub(super) fn decide(&mut self, state: &State, point: Point, wait: Option<Wait>) -> Performed {
        let due = wait.as_ref().and_then(Due::from);
        self.until_decided(state, point, due, false)
    }

    /// Waits in a pause until the maps say something else.
    pub(super) fn await_verdict(&mut self, state: &State, point: Point, wait: Option<Wait>) -> Performed {
        let due = match wait.as_ref().and_then(Due::from) {
            Some(due) => Some(due),
            None => self.paused.take(),
        };
        if due.is_none() {
            // After a restart: the maps may have changed, their times have, and nobody knows when to ask.
            self.hold(state, point);
        }
        self.until_decided(state, point, due, true)
    }

    fn until_decided(
        &mut self,
        state: &State,
        point: Point,
        mut due: Option<Due>,
        paused: bool,
    ) -> Performed {
        let id = state.deployment().unwrap_or_default();
        let mut then = Then::Refresh { tries: 0 };
        loop {
            if let Some(due) = due.take() {
                then = match self.until_due(state, point, due, paused) {
                    Ok(Awaited::Due) => due.then,
                    Ok(Awaited::Changed) => Then::Decide,
                    Ok(Awaited::Leave(exit)) => return Leave(exit),
                    Err(e) => return self.judged(GIVEN_UP, Err(e)),
                };
            }
            if let Then::Refresh { tries } = then {
                match self.refresh(id, tries) {
                    Refreshed::Done => {}
                    Refreshed::End(performed) => return performed,
                    Refreshed::Again(until, then) => {
                        self.hold(state, point);
                        match self.world.controls.pool() {
                            Ok(pool) => {
                                due = Some(Due { until, changes: pool.changes(), then, recorded: false });
                            }
                            Err(e) => return self.judged(GIVEN_UP, Err(e)),
                        }
                        continue;
                    }
                }
            }
            let decision = match self.world.controls.decide(point) {
                Ok(decision) => decision,
                Err(e) => return self.judged(GIVEN_UP, Err(e)),
            };
            if !decision.pool.is_empty() {
                log::info!("{}", decision.explanation);
            }
            match decision.explanation.verdict {
                Verdict::Continue => return Outcome::Done.into(),
                Verdict::Fail => {
                    log::error!("update control: {GIVEN_UP}");
                    return Outcome::Failed.into();
                }
                Verdict::Pause => {}
            }
            let poll = self.intervals.control.mul_f64(self.time_scale);
            let (until, then) = match decision.pool.next_wake(id, poll, decision.at) {
                Wake::Refresh(at) => (at, Then::Refresh { tries: 0 }),
                Wake::Decide(at) => (at, Then::Decide),
                // Cannot follow a pause; were it to, it should not spin.
                Wake::AtOnce => (decision.at + Duration::from_secs(1), Then::Decide),
            };
            let next = Due { until, changes: decision.pool.changes(), then, recorded: false };
            if !paused {
                self.paused = Some(next);
                return Outcome::Paused.into();
            }
            due = Some(next);
        }
    }

    /// Waits until it is due, or, in a pause, until the maps have changed.
    fn until_due(&mut self, state: &State, point: Point, due: Due, paused: bool) -> Result<Awaited> {
        let start = self.world.host.now();
        let left = due.until.saturating_sub(start);
        if paused {
            let pool = self.world.controls.pool()?;
            if pool.changes() != due.changes {
                return Ok(Awaited::Changed);
            }
            if due.recorded {
                log::info!("{}", still_paused(&pool, point, start, left));
            }
        }
        if let Mode::OneShot { max_wait } = self.mode
            && left > max_wait.saturating_sub(self.waited)
        {
            if !due.recorded {
                self.record(state, Some(due.wait()));
            }
            return Ok(Awaited::Leave(Exit::Waiting { left }));
        }
        let awaited = loop {
            let woke = match paused {
                true => self.world.host.wait_or_controls(due.until),
                false => self.world.host.wait(due.until),
            };
            match woke {
                Woke::Time => break Awaited::Due,
                Woke::Controls => {
                    if paused && self.world.controls.pool()?.changes() != due.changes {
                        log::info!("the update control maps have changed");
                        break Awaited::Changed;
                    }
                }
                // Comes after the update; a pause does not end for it (K36).
                Woke::Errand(errand) => self.schedule.at_once(errand, self.world.host.now()),
                Woke::Terminate => return Ok(Awaited::Leave(Exit::Terminated)),
            }
        };
        self.waited += self.world.host.now().saturating_sub(start);
        Ok(awaited)
    }

    /// Asks the server for its map, if there is one of this deployment (K27).
    fn refresh(&mut self, id: &str, tries: u32) -> Refreshed {
        match self.world.controls.pool() {
            Ok(pool) if pool.has_map_of(id) => {}
            Ok(_) => return Refreshed::Done,
            Err(e) => return Refreshed::End(self.judged(GIVEN_UP, Err(e))),
        }
        let answer = self.world.server.control_map(id).and_then(|map| {
            let replaced = self.world.controls.replace(id, &map).map_err(Fault::Other)?;
            replaced.map_err(|refused| Fault::Other(Error::new("CONTROL-MAP", refused.to_string())))
        });
        let (pause, tries, error) = match answer {
            Ok(()) => return Refreshed::Done,
            Err(Fault::Interrupted) => return Refreshed::End(Leave(Exit::Terminated)),
            Err(Fault::Aborted) => {
                log::error!("the server has aborted the deployment");
                return Refreshed::End(Outcome::Aborted.into());
            }
            // What the server asks for does not use up a try (U16).
            Err(Fault::Later(wait, e)) => (Some(wait.min(RETRY_AFTER_LIMIT)), tries, e),
            Err(Fault::TooLarge(e) | Fault::Other(e)) => {
                let random = self.world.host.random();
                let pause = back_off(tries + 1, self.intervals.update, self.intervals.retry_count);
                (pause.map(|p| with_jitter(p, random)), tries + 1, e)
            }
        };
        log::warn!("{error}");
        let Some(pause) = pause else {
            log::error!("the update control map could not be refreshed in {tries} tries; {GIVEN_UP}");
            return Refreshed::End(Outcome::Failed.into());
        };
        let pause = pause.mul_f64(self.time_scale);
        log::warn!("the server is asked for its update control map again in {}", spoken(pause));
        Refreshed::Again(self.world.host.now() + pause, Then::Refresh { tries })
    }

    /// The update is held up before the commit: a restart meanwhile must not make the boot loader go back.
    pub(super) fn hold(&mut self, state: &State, point: Point) {
        let payload = state.artifact().and_then(|a| a.payload.as_deref());
        let (Point::Commit, Some(payload)) = (point, payload) else { return };
        if let Err(e) = self.world.depot.handler(payload).and_then(|handler| handler.keep_trying()) {
            log::warn!("{e}; after a restart the boot loader may go back to the old system");
        }
    }

    /// Takes in what the server says about its new deployment (K11-K13).
    pub(super) fn offered(&mut self, next: Next) -> Outcome {
        let Next { offer, control_map } = next;
        let Offer { id, .. } = &offer;
        let stored = control_map.and_then(|map| match map {
            Some(map) => match self.world.controls.replace(id, &map)? {
                Ok(()) => {
                    log::info!("the server holds an update control map over the deployment");
                    Ok(())
                }
                Err(refused) => Err(Error::new("CONTROL-MAP", refused.to_string())),
            },
            None => self.world.controls.remove(id),
        });
        match stored {
            Ok(()) => Outcome::Offered(offer),
            Err(e) => {
                log::error!("{e}");
                log::error!("the deployment is not begun");
                Outcome::Unusable(offer)
            }
        }
    }

    /// A deployment has ended: so have its maps (K14).
    pub(super) fn forget_maps(&mut self, state: &State) {
        let Some(id) = state.deployment().filter(|id| !id.is_empty()) else { return };
        self.paused = None;
        if let Err(e) = self.world.controls.remove(id) {
            log::warn!("{e}");
        }
    }

    /// Nothing is in progress: takes in what applications set (its life begins now, not at the next update), drops what
    /// has expired.
    pub(super) fn idle_maps(&mut self) {
        if let Err(e) = self.world.controls.idle() {
            log::warn!("{e}");
        }
    }
}

/// What the log of a run says that finds an update in a pause, and decides nothing: the reason, as in the first run.
fn still_paused(pool: &Pool, point: Point, now: Duration, left: Duration) -> String {
    let explanation = pool.explain(point, now);
    match explanation.verdict {
        Verdict::Pause => explanation.to_string(),
        // Said once, and that was the decision that holds.
        Verdict::Continue | Verdict::Fail => {
            format!("{}: pause: until the maps are asked again in {}", point.word(), spoken(left))
        }
    }
}

const GIVEN_UP: &str = "the update is given up";
