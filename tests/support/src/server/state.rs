//! What the server remembers, shared by its threads.

use super::rules::Rules;
use super::{Deployment, Options, Request};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// One deployment and how far the device has come with it.
pub(super) struct Progress {
    pub(super) deployment: Deployment,
    pub(super) control_map: Option<String>,
    pub(super) aborted: bool,
    pub(super) finished: bool,
    /// Artifact name and device type with which it was first asked for.
    pub(super) asked_with: Option<(String, String)>,
    pub(super) statuses: Vec<String>,
    pub(super) log: Vec<String>,
}

/// Everything behind the lock.
pub(super) struct State {
    pub(super) accept_device: bool,
    pub(super) tokens_issued: Vec<String>,
    /// The token that is valid now; `None` before the first and after an expiry.
    pub(super) token: Option<String>,
    pub(super) deployments: Vec<Progress>,
    pub(super) requests: Vec<Request>,
    pub(super) inventory: BTreeMap<String, String>,
    pub(super) violations: Vec<String>,
    pub(super) rules: Rules,
    pub(super) stopped: bool,
    /// Grows with every change, so that a waiter misses none.
    changes: u64,
}

impl State {
    pub(super) fn progress(&self, id: &str) -> Option<&Progress> {
        self.deployments.iter().find(|progress| progress.deployment.id == id)
    }

    pub(super) fn find(&mut self, id: &str) -> Option<&mut Progress> {
        self.deployments.iter_mut().find(|progress| progress.deployment.id == id)
    }
}

/// The state, its lock, and the bell that rings at each change.
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) url: String,
    /// Bytes that came and went over TCP, and in how many connections.
    pub(super) received: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) connections: AtomicU64,
    state: Mutex<State>,
    bell: Condvar,
}

impl Shared {
    pub(super) fn new(options: Options, url: String) -> Shared {
        let state = State {
            accept_device: options.accept_device,
            tokens_issued: Vec::new(),
            token: None,
            deployments: Vec::new(),
            requests: Vec::new(),
            inventory: BTreeMap::new(),
            violations: Vec::new(),
            rules: Rules::default(),
            stopped: false,
            changes: 0,
        };
        let [received, sent, connections] = Default::default();
        let (state, bell) = (Mutex::new(state), Condvar::new());
        Shared { options, url, received, sent, connections, state, bell }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("a thread of the test server panicked; its message is above")
    }

    /// Looks without changing.
    pub(super) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.lock())
    }

    /// Changes something and wakes everyone who waits for a change.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state);
        state.changes += 1;
        drop(state);
        self.bell.notify_all();
        result
    }

    /// Whether `what` came true in time; asked again after each change. `what` may lock.
    pub(super) fn wait_until(&self, what: impl Fn() -> bool, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        loop {
            let seen = self.lock().changes;
            if what() {
                return true;
            }
            let mut state = self.lock();
            while state.changes == seen {
                let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
                else {
                    return false;
                };
                state = self.bell.wait_timeout(state, left).expect("no panic in the test server").0;
            }
        }
    }

    /// Waits so long, or until the server stops; returns whether it stopped.
    pub(super) fn pause(&self, time: Option<Duration>) -> bool {
        let end = time.map(|time| Instant::now() + time);
        let mut state = self.lock();
        loop {
            if state.stopped {
                return true;
            }
            let left = match end {
                None => Duration::from_secs(3600),
                Some(end) => match end.checked_duration_since(Instant::now()) {
                    Some(left) if !left.is_zero() => left,
                    _ => return false,
                },
            };
            state = self.bell.wait_timeout(state, left).expect("no panic in the test server").0;
        }
    }
}
