//! The agent is asked for a new token. What comes of it is seen in its token file.

use crate::setup::Place;
use std::ffi::OsString;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use thimble::store;
use thimble::sys::process;

/// A daemon does not say when it is done: applications are told after this time what there is.
const DAEMON_LIMIT: Duration = Duration::from_secs(5);

/// `thimble bootstrap` has time limits of its own; this one is for what was not thought of.
const AGENT_LIMIT: Duration = Duration::from_secs(300);

/// At most one attempt at a time: who asks meanwhile gets the result of that (D6).
#[derive(Default)]
pub struct Fetch(Option<Attempt>);

struct Attempt {
    /// `None`: the daemon has been woken.
    agent: Option<Child>,
    end: Instant,
}

impl Fetch {
    /// Starts an attempt unless there is one; false if that cannot be.
    pub fn start(&mut self, place: &Place) -> Result<(), String> {
        if self.0.is_some() {
            return Ok(());
        }
        let now = Instant::now();
        self.0 = Some(match store::holder(&place.datastore) {
            // Inventory, not a check: no deployment starts because an application asks for a token.
            Some((pid, what)) if what == "daemon" => {
                process::notify(pid, true)
                    .map_err(|e| format!("cannot signal the daemon, process {pid}: {e}"))?;
                Attempt { agent: None, end: now + DAEMON_LIMIT }
            }
            Some(_) | None => Attempt { agent: Some(bootstrap(place)?), end: now + AGENT_LIMIT },
        });
        Ok(())
    }

    /// The attempt is over, since the last call.
    pub fn over(&mut self, token_changed: bool) -> bool {
        let Some(attempt) = &mut self.0 else { return false };
        let late = Instant::now() >= attempt.end;
        let over = match &mut attempt.agent {
            None => late || token_changed,
            Some(agent) => match agent.try_wait() {
                Ok(None) if late => {
                    let _ = agent.kill();
                    let _ = agent.wait();
                    true
                }
                Ok(None) => false,
                Ok(Some(_)) | Err(_) => true,
            },
        };
        if over {
            self.0 = None;
        }
        over
    }

    /// How long it may still take.
    pub fn left(&self) -> Option<Duration> {
        self.0.as_ref().map(|attempt| attempt.end.saturating_duration_since(Instant::now()))
    }
}

/// Without a daemon: one authorisation, by a thimble of its own.
fn bootstrap(place: &Place) -> Result<Child, String> {
    let options = place.options.iter().flat_map(|(option, value)| [OsString::from(option), value.into()]);
    let mut command = Command::new(&place.agent);
    command.args(options).arg("bootstrap").stdin(Stdio::null()).stdout(Stdio::null());
    command.spawn().map_err(|e| format!("cannot start {}: {e}", place.agent.display()))
}
