//! The traits through which an effect reaches the world. Small, and in the words of the domain.

use crate::agent::control::{ControlMap, Explanation, Point, Pool, Refused};
use crate::agent::scripts::ScriptSet;
use crate::agent::{Artifact, Errand, Installed, Offer, Reboot, Record, Status};
use crate::error::{Error, Result};
use std::time::Duration;

/// The payload files of an Artifact, one after the other, as they arrive.
pub trait PayloadFiles {
    /// Goes on to the next file: its name and size in bytes. `None` after the last, when everything that the
    /// manifest lists has been seen and verified. A file that was not read to its end is skipped (and verified).
    fn next_file(&mut self) -> Result<Option<(String, u64)>>;

    /// Reads from the current file; 0 at its end, after its checksum was found right.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize>;

    /// SHA-256 of the current file: what the manifest says and [`PayloadFiles::read`] holds it to. `None`: whoever needs
    /// it has to compute it.
    fn checksum(&self) -> Option<[u8; 32]> {
        None
    }
}

/// A payload handler: the built-in rootfs-image, or an Update Module. One method per call of the Update Module
/// protocol, version 3 (update-modules 3). Every call may be repeated after a power cut (M41).
pub trait Payload {
    /// Takes in the payload files (Download). Nothing may be activated.
    fn store(&mut self, files: &mut dyn PayloadFiles) -> Result<()>;
    /// Activates what was stored (ArtifactInstall).
    fn install(&mut self) -> Result<()>;
    /// Whether the machine must restart (NeedsArtifactReboot).
    fn needs_reboot(&mut self) -> Result<Reboot>;
    /// Whether an installation can be taken back (SupportsRollback).
    fn supports_rollback(&mut self) -> Result<bool>;
    /// Restarts what has to be restarted (ArtifactReboot); only if the answer was [`Reboot::Yes`].
    fn reboot(&mut self) -> Result<()>;
    /// After the restart: is the new software what runs now? (ArtifactVerifyReboot)
    fn verify_reboot(&mut self) -> Result<()>;
    /// The commit is held up, and the machine may restart meanwhile: sees to it that the boot loader goes on trying the
    /// new software (decision 9). No call of the Update Module protocol.
    fn keep_trying(&mut self) -> Result<()> {
        Ok(())
    }
    /// Makes the update permanent (ArtifactCommit).
    fn commit(&mut self) -> Result<()>;
    /// Takes the installation back (ArtifactRollback).
    fn rollback(&mut self) -> Result<()>;
    /// As [`Payload::reboot`], back to the old software (ArtifactRollbackReboot).
    fn rollback_reboot(&mut self) -> Result<()>;
    /// After that: is the old software what runs now? (ArtifactVerifyRollbackReboot)
    fn verify_rollback_reboot(&mut self) -> Result<()>;
    /// The update has failed, at whatever point (ArtifactFailure).
    fn failure(&mut self) -> Result<()>;
    /// Removes what is left (Cleanup).
    fn cleanup(&mut self) -> Result<()>;
}

/// The journal: the one record of an update in progress.
pub trait Journal {
    /// Replaces the record; it is on stable storage when this returns.
    fn save(&mut self, record: &Record) -> Result<()>;
    /// Removes the record.
    fn clear(&mut self) -> Result<()>;
}

/// Where a set of scripts is to go on after a "later".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// File name of the script that runs next.
    pub name: String,
    /// When it was first started, since boot.
    pub first_start: Duration,
    /// A script of the set before it has failed.
    pub failed: bool,
}

/// How a set of scripts ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScriptsEnd {
    /// All went well, or there were none.
    Done,
    /// One has failed.
    Failed,
    /// One asks to be run again after this time (exit 21).
    Later(Cursor, Duration),
    /// The agent was told to end.
    Interrupted,
}

/// State scripts.
pub trait Scripts {
    /// Runs a set, in order, from the cursor or from the beginning.
    fn run(&mut self, set: ScriptSet, from: Option<Cursor>) -> ScriptsEnd;
    /// Whether this agent can run the scripts of the (new) root file system (S16).
    fn check_rootfs_version(&mut self) -> Result<()>;
}

/// Why a request to the server did not do what it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// 409: the deployment is aborted.
    Aborted,
    /// 413: what was sent is too large.
    TooLarge(Error),
    /// Try again after this time (429, 503 with Retry-After).
    Later(Duration, Error),
    /// The agent was told to end.
    Interrupted,
    /// Anything else.
    Other(Error),
}

/// What the server answers to the question for a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Next {
    /// The deployment.
    pub offer: Offer,
    /// Its update control map, if it has one; an error says what is wrong with it.
    pub control_map: Result<Option<ControlMap>>,
}

/// The server.
pub trait Server {
    /// Sends the inventory.
    fn send_inventory(&mut self) -> std::result::Result<(), Fault>;
    /// Asks for a deployment.
    fn next_deployment(&mut self) -> std::result::Result<Option<Next>, Fault>;
    /// Asks for the update control map of a deployment again (K27). An answer without one is an error;
    /// [`Fault::Aborted`]: there is no such deployment any more.
    fn control_map(&mut self, deployment: &str) -> std::result::Result<ControlMap, Fault>;
    /// Reports a status.
    fn report(&mut self, deployment: &str, status: Status) -> std::result::Result<(), Fault>;
    /// Sends the log of a deployment.
    fn upload_log(&mut self, deployment: &str) -> std::result::Result<(), Fault>;
    /// The next request authenticates anew (U31).
    fn forget_token(&mut self);
}

/// Artifacts on their way from a source to the handler of their payload.
pub trait Depot {
    /// Opens the source; verifies the header; puts the Artifact's scripts in place of those of any other; checks what
    /// it depends on. The payload stays open for [`Depot::store`].
    fn open(&mut self, offer: &Offer) -> Result<Artifact>;
    /// Streams the payload to its handler.
    fn store(&mut self, artifact: &Artifact) -> Result<()>;
    /// The handler of a payload type. An error names the type and the reason.
    fn handler(&mut self, payload: &str) -> Result<&mut dyn Payload>;
}

/// What is installed: name, group, provides.
pub trait Software {
    /// What is installed now.
    fn load(&mut self) -> Result<Installed>;
    /// Replaces it, durably.
    fn save(&mut self, installed: &Installed) -> Result<()>;
}

/// What was decided about an update, with what has to be known to wait for another decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What, and why.
    pub explanation: Explanation,
    /// The maps, after it.
    pub pool: Pool,
    /// When it was decided, since boot.
    pub at: Duration,
}

/// The update control maps in force. Where there are none, nothing is written and nobody is asked.
pub trait Controls {
    /// The maps, with those that applications have dropped since.
    fn pool(&mut self) -> Result<Pool>;
    /// What the maps say at a point. Their next say there is recorded when this returns (K24).
    fn decide(&mut self, point: Point) -> Result<Decision>;
    /// The map of the server takes the place of all of its deployment.
    fn replace(&mut self, deployment: &str, map: &ControlMap) -> Result<std::result::Result<(), Refused>>;
    /// Removes the maps of a deployment: it has ended, or the server has none for it.
    fn remove(&mut self, deployment: &str) -> Result<()>;
    /// No update is in progress: drops what has expired (K15).
    fn idle(&mut self) -> Result<()>;
}

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woke {
    /// The time has come.
    Time,
    /// The update control maps may have changed.
    Controls,
    /// Somebody asks for this errand now (SIGUSR1, SIGUSR2).
    Errand(Errand),
    /// The agent was told to end.
    Terminate,
}

/// The machine.
pub trait Host {
    /// Time since boot.
    fn now(&self) -> Duration;
    /// Identifies this boot.
    fn boot_id(&self) -> String;
    /// Waits until that time since boot.
    fn wait(&mut self, until: Duration) -> Woke;
    /// As [`Host::wait`], but ends also when the update control maps may have changed; the first time at once.
    fn wait_or_controls(&mut self, until: Duration) -> Woke;
    /// Restarts the machine. Returns only if that did not happen, or the agent is told to end.
    fn reboot(&mut self) -> Result<()>;
    /// Any number, for jitter.
    fn random(&mut self) -> u64;
    /// Opens the log of a deployment; what is logged goes there, too.
    fn begin_log(&mut self, deployment: &str);
    /// Closes it.
    fn end_log(&mut self);
}
