//! Waits between tries: waited out, or recorded where a one-shot run may not wait that long (decision 22).

use super::{Driver, Exit, Mode, Performed, Performed::Leave, millis, seconds};
use crate::agent::schedule::{back_off, with_jitter};
use crate::agent::{Outcome, State, Wait, WaitFor};
use crate::ports::{Fault, Woke};
use std::time::Duration;

impl Driver<'_> {
    /// Waits it out, or records it and says how to leave.
    pub(super) fn wait(&mut self, state: &State, wait: Wait) -> Option<Exit> {
        let exit = self.wait_out(Duration::from_millis(wait.until_ms));
        // Only an update in hand has a place in the journal; anything else simply comes again.
        if matches!(exit, Some(Exit::Waiting { .. })) && state.deployment().is_some() {
            self.record(state, Some(wait));
        }
        exit
    }

    /// The same for a wait that is on record already: it is not written again by every run that only looks at it.
    pub(super) fn wait_on(&mut self, state: &State, wait: Wait) -> Option<Exit> {
        let exit = self.wait_out(Duration::from_millis(wait.until_ms));
        if exit.is_none() {
            self.record(state, None); // From here on a cut is a cut.
        }
        exit
    }

    pub(super) fn wait_out(&mut self, until: Duration) -> Option<Exit> {
        let left = until.saturating_sub(self.world.host.now());
        if let Mode::OneShot { max_wait } = self.mode
            && left > max_wait.saturating_sub(self.waited)
        {
            return Some(Exit::Waiting { left });
        }
        loop {
            match self.world.host.wait(until) {
                Woke::Time => {
                    self.waited += left;
                    return None;
                }
                // Nobody asked for that here.
                Woke::Controls => {}
                // Comes after the update, which is never pre-empted (U3).
                Woke::Errand(errand) => self.schedule.at_once(errand, self.world.host.now()),
                Woke::Terminate => return Some(Exit::Terminated),
            }
        }
    }

    /// Repeats a request with back-off until the server has heard it, refuses it for good, or nobody listens any more.
    pub(super) fn until_heard(
        &mut self,
        state: &State,
        wait: Option<Wait>,
        mut request: impl FnMut(&mut Self) -> std::result::Result<(), Fault>,
    ) -> Performed {
        let mut tries = 0;
        if let Some(Wait { until_ms, what: WaitFor::Report { tries: before } }) = wait {
            tries = before;
            if let Some(exit) = self.wait_on(state, Wait { until_ms, what: WaitFor::Report { tries } }) {
                return Leave(exit);
            }
        }
        loop {
            let (pause, error) = match request(self) {
                Ok(()) => return Outcome::Done.into(),
                Err(Fault::Aborted) => {
                    log::error!("the server has aborted the deployment");
                    return Outcome::Aborted.into();
                }
                Err(Fault::Interrupted) => return Leave(Exit::Terminated),
                // What the server asks for does not use up a try (U16).
                Err(Fault::Later(wait, e)) => (Some(wait), e),
                Err(Fault::TooLarge(e) | Fault::Other(e)) => {
                    tries += 1;
                    let random = self.world.host.random();
                    let pause = back_off(tries, self.intervals.retry, self.intervals.retry_count);
                    (pause.map(|p| with_jitter(p, random)), e)
                }
            };
            log::warn!("{error}");
            let Some(pause) = pause else {
                log::error!("the server was not reached in {tries} tries; giving up");
                return Outcome::Failed.into();
            };
            let pause = pause.mul_f64(self.time_scale);
            log::warn!("the report is repeated in {} s", seconds(pause));
            let until_ms = millis(self.world.host.now() + pause);
            if let Some(exit) = self.wait(state, Wait { until_ms, what: WaitFor::Report { tries } }) {
                return Leave(exit);
            }
        }
    }
}
