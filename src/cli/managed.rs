//! `check` and `daemon`: updates that the server asks for.

use super::setup::Place;
use super::times::Times;
use super::{Adapters, complain};
use std::process::ExitCode;
use std::time::Duration;
use thimble::agent::{Facts, Record, State, Trial, Wait, resume};
use thimble::error::Result;
use thimble::ports::Host;
use thimble::run::{Exit, Mode};

/// What the lock says when the daemon has it.
pub const DAEMON: &str = "daemon";

/// Exit code: another thimble works on the data store.
pub const BUSY: u8 = 3;
/// Exit code of `check`: a deployment has failed; the server knows.
const DEPLOYMENT_FAILED: u8 = 5;
/// Exit code of `check`: an update waits; run `check` again.
const WAITING: u8 = 6;

/// All that is due, once.
///
/// # Errors
/// When the work cannot be begun.
pub fn check(place: Place, max_wait: Duration, if_due: bool) -> Result<ExitCode> {
    let interval = place.config.update_poll_interval;
    let times = Times::load(&place.root, &place.dirs.datastore, place.config.inventory_poll_interval);
    let lock = place.lock("check")?;
    let (mut adapters, start) = begin(place)?;
    if if_due && start.fresh() && times.since_check().is_some_and(|ago| ago < interval) {
        log::info!("not due: the server was asked less than {} s ago", interval.as_secs());
        return Ok(ExitCode::SUCCESS);
    }
    adapters.server.times = Some(times);
    adapters.server.load_token();
    let exit = start.drive(&mut adapters, Mode::OneShot { max_wait });
    drop(lock);
    Ok(match exit {
        Exit::Idle { deployment: Some(false), .. } => {
            complain("a deployment failed; the server has its log");
            ExitCode::from(DEPLOYMENT_FAILED)
        }
        Exit::Idle { failed: true, .. } => ExitCode::FAILURE,
        Exit::Waiting { left } => {
            complain(&format!(
                "an update waits for {} s more; run `thimble check` again then",
                left.as_secs()
            ));
            ExitCode::from(WAITING)
        }
        Exit::Terminated => ExitCode::FAILURE,
        Exit::Idle { failed: false, .. } | Exit::AwaitsCommand(_) | Exit::Stopped(..) | Exit::Ended(_) => {
            ExitCode::SUCCESS
        }
    })
}

/// For ever, until SIGTERM.
///
/// # Errors
/// When the work cannot be begun.
pub fn daemon(place: Place) -> Result<ExitCode> {
    let lock = place.lock(DAEMON)?;
    if place.config.servers.is_empty() {
        log::warn!("no server is configured (ServerURL, Servers): only local updates will work");
    }
    log::info!("thimble {} starts", env!("CARGO_PKG_VERSION"));
    let (mut adapters, start) = begin(place)?;
    adapters.server.keep_token();
    let exit = start.drive(&mut adapters, Mode::Daemon);
    drop(lock);
    log::info!("thimble ends");
    Ok(match exit {
        Exit::Terminated => ExitCode::SUCCESS,
        Exit::Idle { .. }
        | Exit::Waiting { .. }
        | Exit::AwaitsCommand(_)
        | Exit::Stopped(..)
        | Exit::Ended(_) => ExitCode::FAILURE,
    })
}

/// Where a run starts.
struct Start {
    state: State,
    wait: Option<Wait>,
    standalone_pending: bool,
}

impl Start {
    /// Nothing is in progress.
    fn fresh(&self) -> bool {
        self.state == State::IdleEnter
    }

    fn drive(self, adapters: &mut Adapters, mode: Mode) -> Exit {
        let hold = self.standalone_pending;
        adapters.drive(mode, |driver| driver.hold_deployments = hold, self.state, self.wait)
    }
}

fn begin(place: Place) -> Result<(Adapters, Start)> {
    place.bootstrap()?;
    let mut journal = place.journal();
    let record = journal.load()?;
    let mut adapters = Adapters::new(place, journal, false)?;
    let start = match record {
        None => Start { state: State::IdleEnter, wait: None, standalone_pending: false },
        Some(record) if record.state.deployment() == Some("") => {
            Start { state: State::IdleEnter, wait: None, standalone_pending: true }
        }
        Some(record) => go_on(&mut adapters, record),
    };
    Ok((adapters, start))
}

/// An update was in progress: its log goes on before anything else happens (U67).
fn go_on(adapters: &mut Adapters, record: Record) -> Start {
    let boot_id = adapters.machine.boot_id();
    let same_boot = !boot_id.is_empty() && record.boot_id == boot_id;
    if let Some(id) = record.state.deployment() {
        adapters.machine.begin_log(id);
    }
    // Only a pause survives a restart of the machine in which the boot loader may have done something of its own.
    let payload = record.state.artifact().and_then(|a| a.payload.as_deref());
    let trial = match payload.filter(|_| !same_boot && record.state.is_control()) {
        Some(payload) => adapters.depot.trial(payload),
        None => Trial::NotKnown,
    };
    let facts = Facts { same_boot, trial };
    let (was, wait) = (record.state.name(), record.wait.clone().filter(|_| facts.same_boot));
    let state = resume(record, facts);
    log::info!(
        "Running thimble {}: the update was {} in {was}; it goes on with {}",
        env!("CARGO_PKG_VERSION"),
        if wait.is_some() { "left waiting" } else { "interrupted" },
        state.name()
    );
    Start { state, wait, standalone_pending: false }
}
