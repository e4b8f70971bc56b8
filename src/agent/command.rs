//! What a person's command makes of a stored standalone update (standalone.md 3.1).

use super::state::{Cause, State, Undo, Update};

/// `commit`, `rollback`, `resume`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Make it permanent.
    Commit,
    /// Take it back.
    Rollback,
    /// Go on after an interruption or a stop.
    Resume,
}

/// Why a command cannot be carried out; the record stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The update is at a point where this command makes no sense.
    WrongState,
    /// The payload's handler cannot roll back (ST19).
    NoRollback,
    /// The update belongs to a deployment of the server.
    Managed,
}

/// A place to stop at, by `--stop-before` (CL-8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopPoint {
    /// Stored, not installed.
    ArtifactInstallEnter,
    /// Installed, not committed.
    ArtifactCommitEnter,
    /// Committed.
    ArtifactCommitLeave,
    /// About to go back.
    ArtifactRollbackEnter,
    /// About to run the failure steps.
    ArtifactFailureEnter,
    /// About to tidy up.
    Cleanup,
}

impl StopPoint {
    /// All of them, in order.
    pub const ALL: [StopPoint; 6] = [
        StopPoint::ArtifactInstallEnter,
        StopPoint::ArtifactCommitEnter,
        StopPoint::ArtifactCommitLeave,
        StopPoint::ArtifactRollbackEnter,
        StopPoint::ArtifactFailureEnter,
        StopPoint::Cleanup,
    ];

    /// The word on the command line.
    pub fn word(self) -> &'static str {
        match self {
            StopPoint::ArtifactInstallEnter => "ArtifactInstall_Enter",
            StopPoint::ArtifactCommitEnter => "ArtifactCommit_Enter",
            StopPoint::ArtifactCommitLeave => "ArtifactCommit_Leave",
            StopPoint::ArtifactRollbackEnter => "ArtifactRollback_Enter",
            StopPoint::ArtifactFailureEnter => "ArtifactFailure_Enter",
            StopPoint::Cleanup => "Cleanup",
        }
    }

    /// The stop point of that word.
    pub fn from_word(word: &str) -> Option<StopPoint> {
        StopPoint::ALL.into_iter().find(|p| p.word() == word)
    }
}

/// The states that no record of a standalone update names: a pattern, so that the matches below stay complete.
macro_rules! never_stored {
    () => {
        State::IdleEnter
            | State::Idle
            | State::IdleLeave(_)
            | State::SyncEnter(_)
            | State::Inventory
            | State::Poll
            | State::SyncLeave
            | State::SyncLeaveWith(_)
            | State::SyncError
            | State::Stop
            | State::SendDownloading(_)
            | State::DownloadEnter(_)
            | State::Fetch(_)
            | State::Open(_)
            | State::DownloadEnterKnown(_)
            | State::Store(_)
            | State::DownloadLeave(_)
            | State::DownloadError(_)
            | State::AskRollback(_)
            | State::DecideInstall(_)
            | State::SendPauseInstall(_)
            | State::PauseInstall(_)
            | State::DecideReboot(_)
            | State::SendPauseReboot(_)
            | State::PauseReboot(_)
            | State::DecideCommit(_)
            | State::SendPauseCommit(_)
            | State::PauseCommit(_)
            | State::SendInstalling(_)
            | State::Install(_)
            | State::InstallLeave(_)
            | State::InstallError(_)
            | State::AskReboot(_)
            | State::SendRebooting(_)
            | State::RebootEnter(_)
            | State::Reboot(_)
            | State::VerifyReboot(_)
            | State::RebootLeave(_)
            | State::RebootError(_)
            | State::BeforeCommit(_)
            | State::SendCommit(_)
            | State::Commit(_)
            | State::CommitError(_)
            | State::CommitLeaveError(_)
            | State::Rollback(_)
            | State::RollbackLeave(_)
            | State::RollbackLeaveFailed(_)
            | State::AskRollbackReboot(_)
            | State::RollbackRebootEnter(_)
            | State::RollbackReboot(_)
            | State::VerifyRollbackReboot(_)
            | State::RollbackRebootLeave(_)
            | State::RollbackRebootError(_)
            | State::FailureLeave(_)
            | State::StateLoop(_)
            | State::SendFinal(_)
            | State::Clear(_)
            | State::Finish(_)
    };
}

/// The stop point that a standalone update is at when it is about to enter this state.
pub fn stop_point(state: &State) -> Option<StopPoint> {
    let (update, point) = match state {
        State::BeforeInstall(update) => (update, StopPoint::ArtifactInstallEnter),
        State::Installed(update) => (update, StopPoint::ArtifactCommitEnter),
        State::BeforeCommitLeave(update) => (update, StopPoint::ArtifactCommitLeave),
        State::RollbackEnter(undo) => (&undo.update, StopPoint::ArtifactRollbackEnter),
        State::FailureEnter(undo) => (&undo.update, StopPoint::ArtifactFailureEnter),
        // The artifact data are stored together with the tidying up (standalone 3, Cleanup).
        State::SaveProvides(end) => {
            return (end.origin == super::Origin::Standalone && end.saves > 0).then_some(StopPoint::Cleanup);
        }
        State::InstallEnter(_)
        | State::CommitEnter(_)
        | State::CommitLeave(_)
        | State::Failure(_)
        | State::Cleanup(_)
        | never_stored!() => return None,
    };
    update.standalone().then_some(point)
}

/// Where the command goes on from the stored state.
///
/// # Errors
/// [`Refusal`]; nothing is changed then.
pub fn command(stored: State, command: Command) -> Result<State, Refusal> {
    use Command as C;
    use State as S;
    if stored.deployment() != Some("") {
        return Err(Refusal::Managed);
    }
    let back = |update: Update, cause| S::RollbackEnter(Undo { update, sound: true, cause });
    let asked = |update: Update| match update.rollback {
        true => Ok(back(update, Cause::Asked)),
        false => Err(Refusal::NoRollback),
    };
    match stored {
        S::BeforeInstall(u) => match command {
            C::Resume => Ok(S::InstallEnter(u)),
            C::Rollback => asked(u),
            C::Commit => Err(Refusal::WrongState),
        },
        S::InstallEnter(u) => match command {
            // Killed inside: back, without asking whether that is supported (ST16, ST20).
            C::Resume => Ok(back(u, Cause::Interrupted)),
            C::Rollback => asked(u),
            C::Commit => Err(Refusal::WrongState),
        },
        S::Installed(u) => match command {
            C::Commit | C::Resume => Ok(S::CommitEnter(u)),
            C::Rollback => asked(u),
        },
        S::CommitEnter(u) => match command {
            C::Commit | C::Resume => Ok(back(u, Cause::Interrupted)),
            C::Rollback => asked(u),
        },
        S::BeforeCommitLeave(u) => match command {
            C::Resume => Ok(S::CommitLeave(u)),
            C::Rollback => asked(u),
            C::Commit => Err(Refusal::WrongState),
        },
        S::CommitLeave(u) => match command {
            C::Resume => Ok(S::CommitLeave(u)),
            C::Rollback | C::Commit => Err(Refusal::WrongState),
        },
        S::RollbackEnter(undo) => match command {
            C::Resume | C::Rollback => Ok(S::RollbackEnter(undo)),
            C::Commit => Err(Refusal::WrongState),
        },
        S::FailureEnter(undo) | S::Failure(undo) => match command {
            C::Resume => Ok(S::FailureEnter(undo)),
            C::Rollback | C::Commit => Err(Refusal::WrongState),
        },
        S::SaveProvides(_) | S::Cleanup(_) => match command {
            C::Resume => Ok(stored),
            C::Rollback | C::Commit => Err(Refusal::WrongState),
        },
        never_stored!() => Err(Refusal::WrongState),
    }
}
