//! Every place that an update can be in, with what is true there.

use super::provides::Provides;
use std::collections::BTreeMap;

/// How often one update may be recorded before it counts as a loop (decision 11, U57).
pub const SAVE_LIMIT: u8 = 28;

/// What a payload wants after its installation, as Update Modules answer NeedsArtifactReboot (update-modules 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reboot {
    /// Nothing.
    No,
    /// The handler's own ArtifactReboot does it.
    Yes,
    /// The agent restarts the machine.
    Automatic,
}

/// What an idle agent has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Errand {
    /// Send the inventory.
    Inventory,
    /// Ask for a deployment.
    Deployment,
}

/// A deployment as the server offers it; nothing about its Artifact is believed yet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Offer {
    /// The deployment's ID, opaque (U70).
    pub id: String,
    /// Where the Artifact is.
    pub uri: String,
}

/// Who asked for the update.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The server: this is the deployment's ID. Statuses are reported to it.
    Deployment(String),
    /// A person or a script, by `thimble install`. Nothing is reported, nothing restarts the machine.
    Standalone,
}

/// What is known of an Artifact once its header was verified.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Artifact {
    /// Its name, the future `artifact_name`.
    pub name: String,
    /// The group that it puts the device into.
    pub group: Option<String>,
    /// What it provides (type-info).
    pub provides: Provides,
    /// Which provides of the device it clears; `None` clears all (AF-53).
    pub clears: Option<Vec<String>>,
    /// Its payload's type; `None` is an empty payload (AF-40).
    pub payload: Option<String>,
}

/// An update whose Artifact is known.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Update {
    /// Who asked for it.
    pub origin: Origin,
    /// What is installed.
    pub artifact: Artifact,
    /// Whether it can be taken back. Asked once, before anything is installed (decision 2); false until then.
    pub rollback: bool,
    /// Whether the machine must restart. Asked after ArtifactInstall_Leave (decision 2); `No` until then.
    pub reboot: Reboot,
    /// How often it has been recorded.
    pub saves: u8,
}

/// At which step an update went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// While it was fetched, checked or stored: the system is untouched.
    Download,
    /// The server has aborted the deployment.
    Aborted,
    /// An update control map said so, or it could not be learned what the maps say.
    Control,
    /// Around ArtifactInstall.
    Install,
    /// Around ArtifactReboot.
    Reboot,
    /// Around ArtifactCommit.
    Commit,
    /// Power was cut, or the agent was killed.
    Interrupted,
    /// A person asked for the rollback.
    Asked,
    /// It was recorded more often than [`SAVE_LIMIT`] allows.
    Loop,
}

/// An update that is being taken back, or has failed without a way back.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Undo {
    /// What is taken back.
    pub update: Update,
    /// Everything on the way back has gone well so far. False also if there is no way back (U54).
    pub sound: bool,
    /// Why.
    pub cause: Cause,
}

/// What is installed after an update has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The new software, committed.
    Success,
    /// What was installed before: nothing was changed, or all of it was taken back.
    Unchanged,
    /// Nobody knows: the name gets the suffix `_INCONSISTENT`.
    Inconsistent,
    /// The new software, committed, but ArtifactCommit_Leave failed: suffix, new provides (decision 4).
    CommittedInconsistent,
    /// The loop guard ended it: suffix, new provides (Mender 5.1).
    Looped,
}

/// An update that is over but for the tidying up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct End {
    /// Who asked for it.
    pub origin: Origin,
    /// Its Artifact, if it came that far.
    pub artifact: Option<Artifact>,
    /// What is installed now.
    pub verdict: Verdict,
    /// What went wrong, if something did.
    pub cause: Option<Cause>,
    /// Whether it could have been taken back.
    pub rollback: bool,
    /// Whether the machine must restart.
    pub reboot: Reboot,
    /// Whether what is installed was stored, and Cleanup went well: if not, the report is `failure`, the name stays as
    /// it is (decision 19).
    pub clean: bool,
    /// How often it has been recorded.
    pub saves: u8,
}

/// Every place that the agent can be in. States marked CHECKPOINT are recorded before their effect.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Runs the Idle_Enter scripts.
    IdleEnter,
    /// Waits until something is due.
    Idle,
    /// Runs the Idle_Leave scripts before an errand.
    IdleLeave(Errand),
    /// Runs the Sync_Enter scripts before an errand.
    SyncEnter(Errand),
    /// Sends the inventory.
    Inventory,
    /// Asks for a deployment.
    Poll,
    /// Runs the Sync_Leave scripts; no deployment in hand.
    SyncLeave,
    /// Runs the Sync_Leave scripts with a deployment in hand.
    SyncLeaveWith(Offer),
    /// Runs the Sync_Error scripts; a deployment in hand is dropped, the server offers it again.
    SyncError,
    /// The end of the program: nothing (more) is due.
    Stop,

    /// Reports `downloading`.
    SendDownloading(Offer),
    /// CHECKPOINT. Runs the Download_Enter scripts.
    DownloadEnter(Offer),
    /// Fetches the Artifact as far as its header; verifies that; puts its scripts in place; checks what it depends on.
    Fetch(Offer),
    /// The same for `thimble install`, where it comes before the Download_Enter scripts (standalone 3).
    Open(Offer),
    /// Runs the Download_Enter scripts (standalone, header known).
    DownloadEnterKnown(Update),
    /// CHECKPOINT (managed). Streams the payload to its handler.
    Store(Update),
    /// Runs the Download_Leave scripts.
    DownloadLeave(Update),
    /// Runs the Download_Error scripts.
    DownloadError(End),

    /// Asks the handler whether it can roll back.
    AskRollback(Update),
    /// Asks the update control maps before ArtifactInstall.
    DecideInstall(Update),
    /// CHECKPOINT, not counted. Reports `pause_before_installing`.
    SendPauseInstall(Update),
    /// Waits until the update control maps let it go on.
    PauseInstall(Update),
    /// CHECKPOINT (standalone). The payload is stored; the place for `--stop-before ArtifactInstall_Enter`.
    BeforeInstall(Update),
    /// Reports `installing`.
    SendInstalling(Update),
    /// CHECKPOINT. Runs the ArtifactInstall_Enter scripts.
    InstallEnter(Update),
    /// ArtifactInstall.
    Install(Update),
    /// Runs the ArtifactInstall_Leave scripts.
    InstallLeave(Update),
    /// Runs the ArtifactInstall_Error scripts.
    InstallError(Update),
    /// Asks the handler whether the machine must restart.
    AskReboot(Update),

    /// Asks the update control maps before ArtifactReboot.
    DecideReboot(Update),
    /// CHECKPOINT, not counted. Reports `pause_before_rebooting`.
    SendPauseReboot(Update),
    /// Waits until the update control maps let it go on.
    PauseReboot(Update),
    /// Reports `rebooting`.
    SendRebooting(Update),
    /// CHECKPOINT. Runs the ArtifactReboot_Enter scripts.
    RebootEnter(Update),
    /// Restarts: ArtifactReboot, or the machine's `reboot`.
    Reboot(Update),
    /// CHECKPOINT. ArtifactVerifyReboot.
    VerifyReboot(Update),
    /// Runs the ArtifactReboot_Leave scripts.
    RebootLeave(Update),
    /// Runs the ArtifactReboot_Error scripts.
    RebootError(Update),

    /// CHECKPOINT (standalone). Installed; waits for `commit` or `rollback`, if it can be rolled back.
    Installed(Update),
    /// Asks the update control maps before ArtifactCommit.
    DecideCommit(Update),
    /// CHECKPOINT, not counted. Reports `pause_before_committing`.
    SendPauseCommit(Update),
    /// Waits until the update control maps let it go on.
    PauseCommit(Update),
    /// Drops the token, so that the next report proves that the new system can authenticate (U31).
    BeforeCommit(Update),
    /// Reports `installing` until the server has heard it.
    SendCommit(Update),
    /// CHECKPOINT. Runs the ArtifactCommit_Enter scripts.
    CommitEnter(Update),
    /// ArtifactCommit.
    Commit(Update),
    /// CHECKPOINT (standalone). Committed; the place for `--stop-before ArtifactCommit_Leave`.
    BeforeCommitLeave(Update),
    /// CHECKPOINT. Runs the ArtifactCommit_Leave scripts.
    CommitLeave(Update),
    /// Runs the ArtifactCommit_Error scripts; then back.
    CommitError(Update),
    /// Runs the ArtifactCommit_Error scripts after a failed ArtifactCommit_Leave; there is no way back.
    CommitLeaveError(Update),

    /// CHECKPOINT. Runs the ArtifactRollback_Enter scripts.
    RollbackEnter(Undo),
    /// ArtifactRollback.
    Rollback(Undo),
    /// Runs the ArtifactRollback_Leave scripts.
    RollbackLeave(Undo),
    /// The same after a failed ArtifactRollback: all scripts run, and nothing restarts.
    RollbackLeaveFailed(Undo),
    /// Asks the handler whether the way back needs a restart.
    AskRollbackReboot(Undo),
    /// CHECKPOINT. Runs the ArtifactRollbackReboot_Enter scripts.
    RollbackRebootEnter(Undo),
    /// Restarts: ArtifactRollbackReboot, or the machine's `reboot`.
    RollbackReboot(Undo),
    /// CHECKPOINT. ArtifactVerifyRollbackReboot.
    VerifyRollbackReboot(Undo),
    /// Runs the ArtifactRollbackReboot_Leave scripts.
    RollbackRebootLeave(Undo),
    /// Runs the ArtifactRollbackReboot_Error scripts.
    RollbackRebootError(Undo),

    /// CHECKPOINT. Runs the ArtifactFailure_Enter scripts.
    FailureEnter(Undo),
    /// CHECKPOINT. ArtifactFailure.
    Failure(Undo),
    /// Runs the ArtifactFailure_Leave scripts.
    FailureLeave(Undo),

    /// The loop guard has struck: stores what is installed, without Cleanup (U57).
    StateLoop(End),
    /// CHECKPOINT, with the verdict. Stores what is installed now.
    SaveProvides(End),
    /// CHECKPOINT, with the verdict. Cleanup.
    Cleanup(End),
    /// Reports `success` or `failure` (then the log) until the server has heard it. CHECKPOINT after a failed Cleanup.
    SendFinal(End),
    /// Removes the record.
    Clear(End),
    /// Says how it ended, closes its log.
    Finish(End),
}

impl Update {
    /// A fresh update.
    pub fn new(origin: Origin, artifact: Artifact, saves: u8) -> Update {
        Update { origin, artifact, rollback: false, reboot: Reboot::No, saves }
    }

    /// `thimble install` asked for it.
    pub fn standalone(&self) -> bool {
        self.origin == Origin::Standalone
    }

    /// The way back, if there is one.
    pub(super) fn undo(self, cause: Cause) -> State {
        if self.rollback {
            State::RollbackEnter(Undo { update: self, sound: true, cause })
        } else {
            // Without a way back nobody can say what is installed.
            State::FailureEnter(Undo { update: self, sound: false, cause })
        }
    }

    pub(super) fn end(self, verdict: Verdict, cause: Option<Cause>) -> End {
        End {
            origin: self.origin,
            artifact: Some(self.artifact),
            verdict,
            cause,
            rollback: self.rollback,
            reboot: self.reboot,
            clean: true,
            saves: self.saves,
        }
    }
}

impl Undo {
    pub(super) fn unsound(self) -> Undo {
        Undo { sound: false, ..self }
    }

    pub(super) fn end(self) -> End {
        let verdict = if self.sound { Verdict::Unchanged } else { Verdict::Inconsistent };
        self.update.end(verdict, Some(self.cause))
    }
}

impl Offer {
    /// Who asked: a deployment without ID is `thimble install`.
    pub(super) fn origin(&self) -> Origin {
        if self.id.is_empty() { Origin::Standalone } else { Origin::Deployment(self.id.clone()) }
    }

    /// The end of an update whose Artifact never became known.
    pub(super) fn end(self, cause: Cause) -> End {
        End {
            origin: self.origin(),
            artifact: None,
            verdict: Verdict::Unchanged,
            cause: Some(cause),
            rollback: false,
            reboot: Reboot::No,
            clean: true,
            saves: 0,
        }
    }
}

impl End {
    /// What the server is told: only a committed and tidied-up update is a success (U49, decision 19).
    pub fn succeeded(&self) -> bool {
        self.verdict == Verdict::Success && self.clean
    }
}

impl Artifact {
    /// An Artifact with a name and a payload type, without provides.
    pub fn new(name: &str, payload: Option<&str>) -> Artifact {
        let (group, provides, clears) = (None, BTreeMap::new(), None);
        Artifact { name: name.into(), group, provides, clears, payload: payload.map(Into::into) }
    }
}
