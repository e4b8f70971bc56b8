//! What the server is asked and told: errands, deployments, reports.

use super::{Driver, Exit, Mode, Performed, Performed::Leave, seconds};
use crate::agent::{Errand, Outcome, State, Status};
use crate::error::Error;
use crate::ports::{Fault, Woke};
use std::time::Duration;

impl Driver<'_> {
    pub(super) fn await_errand(&mut self) -> Performed {
        loop {
            // What was asked for before an errand begins is answered by it.
            while self.mode == Mode::Daemon {
                match self.world.host.wait(Duration::ZERO) {
                    Woke::Errand(errand) => self.schedule.at_once(errand, self.world.host.now()),
                    Woke::Terminate => return Leave(Exit::Terminated),
                    Woke::Time | Woke::Controls => break,
                }
            }
            let now = self.world.host.now();
            if let Some(errand) = self.schedule.due(now) {
                self.schedule.begun(errand, now);
                return Outcome::Due(errand).into();
            }
            if self.mode != Mode::Daemon {
                return Outcome::Quiet.into();
            }
            match self.world.host.wait_or_controls(self.schedule.next()) {
                Woke::Time => {}
                Woke::Controls => self.idle_maps(),
                Woke::Errand(errand) => self.schedule.at_once(errand, self.world.host.now()),
                Woke::Terminate => return Leave(Exit::Terminated),
            }
        }
    }

    pub(super) fn errand_done(
        &mut self,
        errand: Errand,
        result: std::result::Result<Outcome, Fault>,
    ) -> Performed {
        let (retry_after, error) = match result {
            Ok(outcome) => {
                self.schedule.went_well(errand);
                return outcome.into();
            }
            Err(Fault::Interrupted) => return Leave(Exit::Terminated),
            Err(Fault::Later(wait, e)) => (Some(wait.mul_f64(self.time_scale)), e),
            Err(Fault::TooLarge(e) | Fault::Other(e)) => (None, e),
            Err(Fault::Aborted) => (None, Error::new("SERVER-CONFLICT", "the server answered 409")),
        };
        self.failed = true;
        let now = self.world.host.now();
        let random = self.world.host.random();
        self.schedule.failed(errand, now, retry_after, random, self.time_scale);
        let what = match errand {
            Errand::Inventory => "the inventory could not be sent",
            Errand::Deployment => "the server could not be asked for a deployment",
        };
        log::error!("{error}");
        match self.mode {
            Mode::Daemon => {
                let next = seconds(self.schedule.due_in(errand, now));
                log::warn!("{what}; next try in {next} s");
            }
            Mode::OneShot { .. } | Mode::Standalone { .. } => {
                self.schedule.due_at(errand, Duration::MAX);
                log::warn!("{what}");
            }
        }
        Outcome::Failed.into()
    }

    pub(super) fn poll(&mut self) -> Performed {
        if self.hold_deployments {
            log::warn!(
                "an update made by `install` is neither committed nor rolled back: no deployment is asked for until \
                 `thimble commit` or `thimble rollback`"
            );
            return Outcome::Done.into();
        }
        let answer = self.world.server.next_deployment();
        let outcome = answer.map(|offer| match offer {
            Some(next) => {
                let id = &next.offer.id;
                self.world.host.begin_log(id);
                log::info!("Running thimble {}", env!("CARGO_PKG_VERSION"));
                log::info!("Deployment with ID {id} started");
                self.offered(next)
            }
            None => {
                log::info!("no deployment for this device");
                Outcome::Done
            }
        });
        self.errand_done(Errand::Deployment, outcome)
    }

    pub(super) fn report(&mut self, state: &State, status: Status) -> Performed {
        match self.world.server.report(state.deployment().unwrap_or_default(), status) {
            Ok(()) => Outcome::Done.into(),
            Err(Fault::Interrupted) => Leave(Exit::Terminated),
            Err(Fault::Aborted) => {
                log::error!("the server has aborted the deployment");
                Outcome::Aborted.into()
            }
            Err(Fault::TooLarge(e) | Fault::Later(_, e) | Fault::Other(e)) => {
                log::warn!("{e}");
                log::warn!("status {} was not heard; the update goes on", status.word());
                Outcome::Failed.into()
            }
        }
    }

    pub(super) fn report_end(&mut self, state: &State, success: bool) -> std::result::Result<(), Fault> {
        let id = state.deployment().unwrap_or_default();
        self.world.server.report(id, if success { Status::Success } else { Status::Failure })?;
        if success {
            return Ok(());
        }
        match self.world.server.upload_log(id) {
            Err(Fault::TooLarge(e)) => {
                log::warn!("{e}");
                log::warn!("the server does not take the log (413); it stays on the device");
                Ok(())
            }
            other => other,
        }
    }
}
