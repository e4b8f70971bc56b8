//! One thimble at a time: the lock on the data store, and who holds it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Context, Error, Result};
use crate::sys::file::{Lock, Taken};

/// A question by [`holder`] holds the lock for a moment; so a taken lock is tried again this often.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(20);

/// Takes the lock of the data store, which is created if need be. `what` says for others what this process
/// does: `daemon`, `install x.mender`. The lock ends with the returned value, or with the process.
///
/// # Errors
/// `STORE-BUSY` if another process holds it: the text names it. `STORE-LOCK` if the file cannot be used.
pub fn lock(datastore: &Path, what: &str) -> Result<Lock> {
    super::create_directory(datastore)?;
    let path = path(datastore);
    let what: String = what.chars().filter(|c| !c.is_control()).take(100).collect();
    let who = format!("pid {} ({what})\n", std::process::id());
    let mut left = TRIES;
    loop {
        let taken =
            Lock::take(&path, &who).context("STORE-LOCK", || format!("cannot lock {}", path.display()))?;
        match taken {
            Taken::Ours(lock) => return Ok(lock),
            Taken::Theirs(who) if left <= 1 => {
                let who = if who.is_empty() { "another process".to_owned() } else { who };
                let what =
                    format!("{who} is at work and holds {}; wait until it ends, or stop it", path.display());
                return Err(Error::new("STORE-BUSY", what));
            }
            Taken::Theirs(_) => {
                left -= 1;
                pause();
            }
        }
    }
}

fn pause() {
    // A signal ends it early, which does no harm; and without poll there is no pause.
    let _ = crate::sys::signal::poll(&[], Some(PAUSE));
}

/// Who holds the lock right now: process id and what it does. `None` if nobody does, whatever an old file says,
/// or if we may not ask.
pub fn holder(datastore: &Path) -> Option<(i32, String)> {
    let path = path(datastore);
    for _ in 0..TRIES {
        if !path.exists() {
            return None; // asking would create it
        }
        match Lock::take(&path, "") {
            Ok(Taken::Theirs(who)) => match parse(&who) {
                Some(found) => return Some(found),
                // Taken a moment ago and not labelled yet, or somebody else is asking.
                None => pause(),
            },
            Ok(Taken::Ours(_)) | Err(_) => return None,
        }
    }
    None
}

fn path(datastore: &Path) -> PathBuf {
    datastore.join("thimble.lock")
}

/// `pid 123 (daemon)`.
fn parse(who: &str) -> Option<(i32, String)> {
    let (pid, what) = who.strip_prefix("pid ")?.strip_suffix(')')?.split_once(" (")?;
    let pid: i32 = pid.parse().ok().filter(|pid| *pid > 0)?;
    Some((pid, what.to_owned()))
}
