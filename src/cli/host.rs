//! The machine: clocks, waits, restart, deployment logs; and what is installed.

use super::logger;
use std::path::PathBuf;
use std::time::Duration;
use thimble::agent::{self, Errand};
use thimble::error::{Error, Result};
use thimble::ports::{Host, Software, Woke};
use thimble::run::INTERRUPTED;
use thimble::store::{self, DeploymentLog, InstalledStore};
use thimble::sys::process::{Ended, Invocation};
use thimble::sys::{clock, process, signal};

/// How long a restart may take until it counts as failed (M37).
const RESTART: Duration = Duration::from_secs(600);

/// How long a machine may take to go down after `reboot` said that it cannot.
const RESTART_DESPITE_ERROR: Duration = Duration::from_secs(10);

/// The machine that we run on.
#[derive(Debug)]
pub struct Machine {
    /// `--root`, or `/`.
    pub root: PathBuf,
    /// Where deployment logs are.
    pub log_dir: PathBuf,
}

impl Host for Machine {
    fn now(&self) -> Duration {
        clock::since_boot()
    }

    fn boot_id(&self) -> String {
        clock::boot_id(&self.root)
    }

    fn wait(&mut self, until: Duration) -> Woke {
        loop {
            if signal::terminate() {
                return Woke::Terminate;
            }
            if signal::take_check() {
                return Woke::Errand(Errand::Deployment);
            }
            if signal::take_inventory() {
                return Woke::Errand(Errand::Inventory);
            }
            let left = until.saturating_sub(clock::since_boot());
            if left.is_zero() || signal::poll(&[], Some(left)).is_err() {
                return Woke::Time;
            }
        }
    }

    fn reboot(&mut self) -> Result<()> {
        log::info!("restarting the machine");
        // The last lines before a restart are those that are asked for.
        logger::with_deployment(DeploymentLog::sync);
        let failed = |why: String| Error::new("REBOOT", format!("the program `reboot` {why}"));
        let done = process::run(&Invocation::new("reboot", RESTART))
            .map_err(|e| failed(format!("cannot be started: {e}")))?;
        let (limit, why) = match done.ended {
            Ended::Exit(0) => {
                (RESTART, "said that it restarts the machine, but nothing happened in 10 minutes".into())
            }
            Ended::Interrupted => {
                return Err(Error::new(INTERRUPTED, "told to end while the machine restarts"));
            }
            other => {
                let lines = [done.stderr.lines(), done.stdout.lines()].concat().join("; ");
                (RESTART_DESPITE_ERROR, format!("failed ({other:?}): {lines}"))
            }
        };
        // It is on its way down: be found waiting, not working.
        match self.wait_only(clock::since_boot() + limit) {
            Woke::Terminate => Err(Error::new(INTERRUPTED, "told to end while the machine restarts")),
            Woke::Time | Woke::Errand(_) => Err(failed(why)),
        }
    }

    fn random(&mut self) -> u64 {
        use ring::rand::SecureRandom;
        let mut bytes = [0u8; 8];
        // Without randomness there is no jitter, which is no reason to fail.
        let _ = ring::rand::SystemRandom::new().fill(&mut bytes);
        u64::from_ne_bytes(bytes)
    }

    fn begin_log(&mut self, deployment: &str) {
        match DeploymentLog::open(&self.log_dir, deployment) {
            Ok(log) => {
                if let Some(trouble) = log.trouble() {
                    log::warn!("{trouble}");
                }
                logger::begin_deployment(log);
            }
            Err(e) => log::warn!("{e}; the deployment goes on without a log"),
        }
    }

    fn end_log(&mut self) {
        logger::end_deployment();
    }
}

impl Machine {
    /// Waits until the time or the end, whatever else is asked for.
    fn wait_only(&mut self, until: Duration) -> Woke {
        loop {
            match self.wait(until) {
                Woke::Errand(_) => {}
                other => return other,
            }
        }
    }
}

/// What is installed, in the data store.
#[derive(Debug)]
pub struct SoftwareStore(pub InstalledStore);

impl Software for SoftwareStore {
    fn load(&mut self) -> Result<agent::Installed> {
        let store::Installed { name, group, provides } = self.0.load()?;
        Ok(agent::Installed { name: name.unwrap_or_else(|| store::UNKNOWN.into()), group, provides })
    }

    fn save(&mut self, installed: &agent::Installed) -> Result<()> {
        let agent::Installed { name, group, provides } = installed.clone();
        self.0.save(&store::Installed { name: Some(name), group, provides })
    }
}
