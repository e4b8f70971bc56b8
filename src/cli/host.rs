//! The machine: clocks, waits, restart, deployment logs; and what is installed.

use super::controls;
use super::logger;
use super::setup::Place;
use std::path::PathBuf;
use std::time::Duration;
use thimble::agent::{self, Errand};
use thimble::error::{Error, Result};
use thimble::ports::{Host, Software, Woke};
use thimble::run::INTERRUPTED;
use thimble::store::{self, DeploymentLog, InstalledStore};
use thimble::sys::process::{Ended, Invocation};
use thimble::sys::signal::For;
use thimble::sys::watch::Watch;
use thimble::sys::{clock, process, signal};

/// How long a restart may take until it counts as failed (M37).
const RESTART: Duration = Duration::from_secs(600);

/// How long a machine may take to go down after `reboot` said that it cannot.
const RESTART_DESPITE_ERROR: Duration = Duration::from_secs(10);

/// How often the update control maps are looked at where the kernel cannot tell when they change.
const LOOK: Duration = Duration::from_secs(1);

/// The machine that we run on.
#[derive(Debug)]
pub struct Machine {
    root: PathBuf,
    log_dir: PathBuf,
    /// Where the update control maps are.
    controls: [PathBuf; 2],
    /// Tells when they change; `None`: nobody has waited for that yet.
    watch: Option<std::io::Result<Watch>>,
}

/// What ends every wait.
fn called() -> Option<Woke> {
    if signal::terminate() {
        return Some(Woke::Terminate);
    }
    if signal::take_check() {
        return Some(Woke::Errand(Errand::Deployment));
    }
    signal::take_inventory().then_some(Woke::Errand(Errand::Inventory))
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
            if let Some(woke) = called() {
                return woke;
            }
            let left = until.saturating_sub(clock::since_boot());
            if left.is_zero() || signal::poll(&[], Some(left)).is_err() {
                return Woke::Time;
            }
        }
    }

    fn wait_or_controls(&mut self, until: Duration) -> Woke {
        if cfg!(not(feature = "control")) {
            return self.wait(until);
        }
        let Some(watch) = &mut self.watch else {
            let [store, drop_ins] = self.controls.clone();
            let watch = Watch::new(store, drop_ins);
            if let Err(e) = &watch {
                log::warn!("changes of update control maps are looked for every second: no inotify: {e}");
            }
            self.watch = Some(watch);
            // They may have changed before anybody watched.
            return Woke::Controls;
        };
        loop {
            if let Some(woke) = called() {
                return woke;
            }
            let left = until.saturating_sub(clock::since_boot());
            if left.is_zero() {
                return Woke::Time;
            }
            let waited = match watch {
                Ok(watch) => match signal::poll(&[(watch.fd(), For::Reading)], Some(left)) {
                    Ok([true]) if watch.happened() => return called().unwrap_or(Woke::Controls),
                    waited => waited.map(|_| ()),
                },
                Err(_) if left > LOOK => match signal::poll(&[], Some(LOOK)) {
                    Ok(_) => return called().unwrap_or(Woke::Controls),
                    Err(e) => Err(e),
                },
                Err(_) => signal::poll(&[], Some(left)).map(|_| ()),
            };
            if waited.is_err() {
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
            Woke::Time | Woke::Errand(_) | Woke::Controls => Err(failed(why)),
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
    /// The one of this place.
    pub fn new(place: &Place) -> Machine {
        let controls = controls::directories(place);
        Machine { root: place.root.clone(), log_dir: place.log_dir(), controls, watch: None }
    }

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
