//! The one thing that each state asks of the world.

use super::control::Point;
use super::scripts::ScriptSet;
use super::scripts::{Action as A, Step as T};
use super::state::{Offer, Origin, Reboot, State, Update};
use super::status::Status;

/// What is to be done. The driver does it through the ports and turns what comes of it into an outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    Nothing,
    /// End the program.
    Exit,
    /// Stop here until a person decides.
    AwaitCommand,
    /// Wait until something is due.
    AwaitErrand,
    /// Run state scripts.
    Scripts(ScriptSet),
    /// Send the inventory.
    SendInventory,
    /// Ask for a deployment.
    Poll,
    /// Report a status once; only 409 matters.
    Report(Status),
    /// Refresh the server's update control map, if there is one, with back-off; then ask what the maps say, once.
    Decide(Point),
    /// Wait until the maps say something else than `pause`; meanwhile refresh that of the server.
    AwaitVerdict(Point),
    /// Report a status until the server has heard it, with back-off.
    ReportUntilHeard(Status),
    /// Report the end of the deployment until the server has heard it; after `failure` also its log.
    ReportEnd {
        /// `success`, not `failure`.
        success: bool,
    },
    /// Open the source, verify the header, put the Artifact's scripts in place, check what it depends on.
    OpenArtifact(Offer),
    /// Stream the payload to its handler.
    StorePayload,
    /// SupportsRollback.
    AskRollback,
    /// NeedsArtifactReboot.
    AskReboot,
    /// ArtifactInstall.
    Install,
    /// Restart as the handler asked.
    Reboot(Reboot),
    /// ArtifactVerifyReboot.
    VerifyReboot,
    /// Drop the token.
    ForgetToken,
    /// ArtifactCommit; in a managed update the version of the root file system's scripts is checked first (S16).
    Commit {
        /// Check that version.
        check_scripts: bool,
    },
    /// ArtifactRollback.
    Rollback,
    /// Restart back as the handler asked.
    RollbackReboot(Reboot),
    /// ArtifactVerifyRollbackReboot.
    VerifyRollbackReboot,
    /// ArtifactFailure.
    PayloadFailure,
    /// Store what is installed now.
    SaveInstalled,
    /// Cleanup.
    Cleanup,
    /// Remove the record.
    ClearRecord,
    /// Say how the update ended and close its log.
    Finish,
}

/// The one thing that a state asks of the world.
pub fn effect(state: &State) -> Effect {
    use Effect as E;
    use State as S;
    // Every script of these sets runs whatever the others return (S24); elsewhere the first failure ends the set.
    let all = |step, action| E::Scripts(ScriptSet { step, action, run_all: true });
    let set = |step, action| E::Scripts(ScriptSet { step, action, run_all: false });
    // At the command line also these (S24).
    let calm =
        |step, action, update: &Update| E::Scripts(ScriptSet { step, action, run_all: update.standalone() });
    match state {
        S::IdleEnter => all(T::Idle, A::Enter),
        S::Idle => E::AwaitErrand,
        S::IdleLeave(_) => all(T::Idle, A::Leave),
        S::SyncEnter(_) => set(T::Sync, A::Enter),
        S::Inventory => E::SendInventory,
        S::Poll => E::Poll,
        S::SyncLeave | S::SyncLeaveWith(_) => set(T::Sync, A::Leave),
        S::SyncError => all(T::Sync, A::Error),
        S::Stop => E::Exit,

        S::SendDownloading(_) => E::Report(Status::Downloading),
        S::DownloadEnter(_) | S::DownloadEnterKnown(_) => set(T::Download, A::Enter),
        S::Fetch(offer) | S::Open(offer) => E::OpenArtifact(offer.clone()),
        S::Store(_) => E::StorePayload,
        S::DownloadLeave(_) => set(T::Download, A::Leave),
        S::DownloadError(_) => all(T::Download, A::Error),

        S::AskRollback(_) => E::AskRollback,
        S::DecideInstall(_) => E::Decide(Point::Install),
        S::SendPauseInstall(_) => E::Report(Status::PauseBefore(Point::Install)),
        S::PauseInstall(_) => E::AwaitVerdict(Point::Install),
        S::BeforeInstall(_) | S::BeforeCommitLeave(_) => E::Nothing,
        S::SendInstalling(_) => E::Report(Status::Installing),
        S::InstallEnter(_) => set(T::ArtifactInstall, A::Enter),
        S::Install(_) => E::Install,
        S::InstallLeave(_) => set(T::ArtifactInstall, A::Leave),
        S::InstallError(_) => all(T::ArtifactInstall, A::Error),
        S::AskReboot(_) | S::AskRollbackReboot(_) => E::AskReboot,

        S::DecideReboot(_) => E::Decide(Point::Reboot),
        S::SendPauseReboot(_) => E::Report(Status::PauseBefore(Point::Reboot)),
        S::PauseReboot(_) => E::AwaitVerdict(Point::Reboot),
        S::SendRebooting(_) => E::Report(Status::Rebooting),
        S::RebootEnter(_) => set(T::ArtifactReboot, A::Enter),
        S::Reboot(update) => E::Reboot(update.reboot),
        S::VerifyReboot(_) => E::VerifyReboot,
        S::RebootLeave(_) => set(T::ArtifactReboot, A::Leave),
        S::RebootError(_) => all(T::ArtifactReboot, A::Error),

        S::Installed(update) if update.rollback => E::AwaitCommand,
        S::Installed(_) => E::Nothing,
        S::DecideCommit(_) => E::Decide(Point::Commit),
        S::SendPauseCommit(_) => E::Report(Status::PauseBefore(Point::Commit)),
        S::PauseCommit(_) => E::AwaitVerdict(Point::Commit),
        S::BeforeCommit(_) => E::ForgetToken,
        S::SendCommit(_) => E::ReportUntilHeard(Status::Installing),
        S::CommitEnter(_) => set(T::ArtifactCommit, A::Enter),
        S::Commit(update) => E::Commit { check_scripts: !update.standalone() },
        S::CommitLeave(update) => calm(T::ArtifactCommit, A::Leave, update),
        S::CommitError(_) | S::CommitLeaveError(_) => all(T::ArtifactCommit, A::Error),

        S::RollbackEnter(undo) => calm(T::ArtifactRollback, A::Enter, &undo.update),
        S::Rollback(_) => E::Rollback,
        S::RollbackLeave(undo) => calm(T::ArtifactRollback, A::Leave, &undo.update),
        S::RollbackLeaveFailed(_) => all(T::ArtifactRollback, A::Leave),
        S::RollbackRebootEnter(_) => set(T::ArtifactRollbackReboot, A::Enter),
        S::RollbackReboot(undo) => E::RollbackReboot(undo.update.reboot),
        S::VerifyRollbackReboot(_) => E::VerifyRollbackReboot,
        S::RollbackRebootLeave(_) => set(T::ArtifactRollbackReboot, A::Leave),
        S::RollbackRebootError(_) => all(T::ArtifactRollbackReboot, A::Error),

        S::FailureEnter(undo) => calm(T::ArtifactFailure, A::Enter, &undo.update),
        S::Failure(_) => E::PayloadFailure,
        S::FailureLeave(undo) => calm(T::ArtifactFailure, A::Leave, &undo.update),

        S::StateLoop(_) | S::SaveProvides(_) => E::SaveInstalled,
        S::Cleanup(_) => E::Cleanup,
        S::SendFinal(end) => E::ReportEnd { success: end.succeeded() },
        S::Clear(_) => E::ClearRecord,
        S::Finish(_) => E::Finish,
    }
}

impl State {
    /// Whether the state is recorded before its effect (the `save` column of update-process.md 3).
    pub fn is_checkpoint(&self) -> bool {
        use State as S;
        match self {
            S::DownloadEnter(_)
            | S::SendPauseInstall(_)
            | S::SendPauseReboot(_)
            | S::SendPauseCommit(_)
            | S::InstallEnter(_)
            | S::RebootEnter(_)
            | S::VerifyReboot(_)
            | S::CommitEnter(_)
            | S::CommitLeave(_)
            | S::RollbackEnter(_)
            | S::RollbackRebootEnter(_)
            | S::VerifyRollbackReboot(_)
            | S::FailureEnter(_)
            | S::Failure(_) => true,
            // A standalone download leaves no record: killed there, nothing is in progress (ST11).
            S::Store(update) => !update.standalone(),
            S::BeforeInstall(update) | S::Installed(update) | S::BeforeCommitLeave(update) => {
                update.standalone()
            }
            S::SaveProvides(_) => true,
            // A failed standalone download is tidied up without a record, too.
            S::Cleanup(end) => end.origin != Origin::Standalone || end.saves > 0,
            // Tidied up again after a power cut it may go well: the server must not hear `failure`, then `success`.
            S::SendFinal(end) => !end.clean,
            S::IdleEnter
            | S::Idle
            | S::IdleLeave(_)
            | S::SyncEnter(_)
            | S::Inventory
            | S::Poll
            | S::SyncLeave
            | S::SyncLeaveWith(_)
            | S::SyncError
            | S::Stop
            | S::SendDownloading(_)
            | S::Fetch(_)
            | S::Open(_)
            | S::DownloadEnterKnown(_)
            | S::DownloadLeave(_)
            | S::DownloadError(_)
            | S::AskRollback(_)
            | S::DecideInstall(_)
            | S::PauseInstall(_)
            | S::DecideReboot(_)
            | S::PauseReboot(_)
            | S::DecideCommit(_)
            | S::PauseCommit(_)
            | S::SendInstalling(_)
            | S::Install(_)
            | S::InstallLeave(_)
            | S::InstallError(_)
            | S::AskReboot(_)
            | S::SendRebooting(_)
            | S::Reboot(_)
            | S::RebootLeave(_)
            | S::RebootError(_)
            | S::BeforeCommit(_)
            | S::SendCommit(_)
            | S::Commit(_)
            | S::CommitError(_)
            | S::CommitLeaveError(_)
            | S::Rollback(_)
            | S::RollbackLeave(_)
            | S::RollbackLeaveFailed(_)
            | S::AskRollbackReboot(_)
            | S::RollbackReboot(_)
            | S::RollbackRebootLeave(_)
            | S::RollbackRebootError(_)
            | S::FailureLeave(_)
            | S::StateLoop(_)
            | S::Clear(_)
            | S::Finish(_) => false,
        }
    }

    /// Whether the update is held up here, or it is being found out whether it is. Recording and resuming these is not
    /// counted: an update may be paused for ever (K35).
    pub fn is_control(&self) -> bool {
        use State as S;
        matches!(
            self,
            S::DecideInstall(_)
                | S::SendPauseInstall(_)
                | S::PauseInstall(_)
                | S::DecideReboot(_)
                | S::SendPauseReboot(_)
                | S::PauseReboot(_)
                | S::DecideCommit(_)
                | S::SendPauseCommit(_)
                | S::PauseCommit(_)
        )
    }

    /// Whether a record that cannot be written fails the state. On the way back and at the end the agent carries on
    /// without one (U60); also in a pause, which a restart then ends as it ends what was recorded before.
    pub fn needs_its_record(&self) -> bool {
        use State as S;
        match self {
            S::RollbackEnter(_)
            | S::RollbackRebootEnter(_)
            | S::VerifyRollbackReboot(_)
            | S::FailureEnter(_)
            | S::Failure(_)
            | S::SendPauseInstall(_)
            | S::SendPauseReboot(_)
            | S::SendPauseCommit(_)
            | S::SaveProvides(_)
            | S::Cleanup(_)
            | S::SendFinal(_) => false,
            other => other.is_checkpoint(),
        }
    }
}
