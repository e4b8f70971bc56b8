//! "We just started": what to do about the record that was found. The only answer to that question.

use super::persist::Record;
use super::state::{Cause, Origin, State, Update, Verdict};

/// What is true at the start and not in the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The machine has not restarted since the record was written.
    pub same_boot: bool,
    /// What has become of a root file system that is being tried.
    pub trial: Trial,
}

/// A root file system that an update has made the next one to be booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trial {
    /// The payload is no root file system, or it cannot be found out.
    NotKnown,
    /// It was not booted yet.
    Waiting,
    /// It runs.
    Running,
    /// It is not tried any more: the boot loader went back.
    Over,
}

/// Where to go on (update-process.md 4.2 with its PICKs, decision 9).
///
/// A record that was left on purpose (a wait, in one-shot use) goes on where it was if the machine has not restarted
/// since. Everything else was cut, and loading it counts like one more recording (U57).
pub fn resume(record: Record, facts: Facts) -> State {
    use State as S;
    if record.wait.is_some() && facts.same_boot {
        return record.state;
    }
    match record.state.counted() {
        S::IdleEnter
        | S::Idle
        | S::IdleLeave(_)
        | S::SyncEnter(_)
        | S::Inventory
        | S::Poll
        | S::SyncLeave
        | S::SyncLeaveWith(_)
        | S::SyncError
        | S::Stop => S::IdleEnter,

        // Nothing is installed yet: tidy up and report the failure; the Artifact's scripts do not run (S22).
        S::SendDownloading(offer) | S::DownloadEnter(offer) | S::Fetch(offer) | S::Open(offer) => {
            S::Cleanup(offer.end(Cause::Interrupted))
        }
        S::DownloadEnterKnown(update)
        | S::Store(update)
        | S::DownloadLeave(update)
        | S::AskRollback(update)
        | S::SendInstalling(update) => S::Cleanup(update.end(Verdict::Unchanged, Some(Cause::Interrupted))),
        S::DownloadError(end) => S::Cleanup(end),

        // A person decides (see `command`); the record stays as it is.
        S::BeforeInstall(update) => S::BeforeInstall(update),
        S::Installed(update) => S::Installed(update),
        S::BeforeCommitLeave(update) => S::BeforeCommitLeave(update),

        // A pause is a durable state of its own (decision 9). What it waits for is found out anew.
        S::DecideInstall(update) => S::DecideInstall(update),
        S::SendPauseInstall(update) => S::SendPauseInstall(update),
        S::PauseInstall(update) => S::PauseInstall(update),
        S::DecideReboot(update) => before_reboot(update, facts, S::DecideReboot),
        S::SendPauseReboot(update) => before_reboot(update, facts, S::SendPauseReboot),
        S::PauseReboot(update) => before_reboot(update, facts, S::PauseReboot),
        S::DecideCommit(update) => before_commit(update, facts, S::DecideCommit),
        S::SendPauseCommit(update) => before_commit(update, facts, S::SendPauseCommit),
        S::PauseCommit(update) => before_commit(update, facts, S::PauseCommit),

        // Half installed: back, without Error scripts (S26).
        S::InstallEnter(update)
        | S::Install(update)
        | S::InstallLeave(update)
        | S::InstallError(update)
        | S::AskReboot(update)
        | S::SendRebooting(update) => update.undo(Cause::Interrupted),

        // The interruption took the place of the planned restart (U64).
        S::RebootEnter(update) | S::Reboot(update) => S::VerifyReboot(update),

        // A second restart during the verification or before the commit: the new system is not to be trusted.
        S::VerifyReboot(update)
        | S::RebootLeave(update)
        | S::RebootError(update)
        | S::BeforeCommit(update)
        | S::SendCommit(update)
        | S::CommitEnter(update)
        | S::Commit(update)
        | S::CommitError(update) => update.undo(Cause::Interrupted),

        // Committed: there is no way back, and no need of one.
        S::CommitLeave(update) => S::CommitLeave(update),
        S::CommitLeaveError(update) => {
            S::SaveProvides(update.end(Verdict::CommittedInconsistent, Some(Cause::Commit)))
        }

        // On the way back: the step again, from its Enter scripts.
        S::RollbackEnter(undo)
        | S::Rollback(undo)
        | S::RollbackLeave(undo)
        | S::RollbackLeaveFailed(undo)
        | S::AskRollbackReboot(undo) => S::RollbackEnter(undo),
        S::RollbackRebootEnter(undo)
        | S::RollbackReboot(undo)
        | S::VerifyRollbackReboot(undo)
        | S::RollbackRebootLeave(undo) => S::VerifyRollbackReboot(undo),
        S::RollbackRebootError(undo) => S::FailureEnter(undo.unsound()),
        S::FailureEnter(undo) | S::Failure(undo) | S::FailureLeave(undo) => S::FailureEnter(undo),

        // The verdict is in the record: the report tells the true result (decision 9, not U65).
        S::StateLoop(end) => S::StateLoop(end),
        S::SaveProvides(end) => S::SaveProvides(end),
        S::Cleanup(end) => S::Cleanup(end),
        S::SendFinal(end) => S::SendFinal(end),
        S::Clear(end) => S::Clear(end),
        S::Finish(end) => match end.origin {
            Origin::Deployment(_) => S::Clear(end),
            Origin::Standalone => S::Stop,
        },
    }
}

/// Paused before the planned restart: if the new system runs, that was the restart.
fn before_reboot(update: Update, facts: Facts, paused: fn(Update) -> State) -> State {
    match (facts.same_boot, facts.trial) {
        (true, Trial::NotKnown | Trial::Waiting | Trial::Running | Trial::Over)
        | (false, Trial::NotKnown | Trial::Waiting) => paused(update),
        (false, Trial::Running) => State::VerifyReboot(update),
        (false, Trial::Over) => update.undo(Cause::Reboot),
    }
}

/// Paused before the commit: if the new system is not the one that runs, there is nothing to commit.
fn before_commit(update: Update, facts: Facts, paused: fn(Update) -> State) -> State {
    match (facts.same_boot, facts.trial) {
        (true, Trial::NotKnown | Trial::Waiting | Trial::Running | Trial::Over)
        | (false, Trial::NotKnown | Trial::Running) => paused(update),
        (false, Trial::Waiting | Trial::Over) => update.undo(Cause::Interrupted),
    }
}
