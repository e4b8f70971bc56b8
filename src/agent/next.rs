//! What happens next: the whole behaviour in one function. Reads nothing, changes nothing.

use super::state::{Artifact, Cause, End, Errand, Offer, Origin, Reboot, State, Undo, Update, Verdict};

/// What came of a state's effect.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It went well.
    Done,
    /// It did not. Also: the record of the state could not be written (U60).
    Failed,
    /// The server answered a report with 409: the deployment is aborted.
    Aborted,
    /// Something is due.
    Due(Errand),
    /// Nothing is due, and nobody waits for it (one-shot use).
    Quiet,
    /// The server has a deployment for us.
    Offered(Offer),
    /// It has one whose update control map cannot be used (K13).
    Unusable(Offer),
    /// The update control maps hold it up here.
    Paused,
    /// The Artifact's header is verified and fits this device.
    Header(Artifact),
    /// The handler's answer to NeedsArtifactReboot.
    NeedsReboot(Reboot),
    /// The handler's answer to SupportsRollback.
    RollsBack(bool),
}

/// An outcome reduced to good or bad. What does not belong to the effect counts as bad: fail, never guess.
enum Plain {
    Done,
    Failed,
}

/// An outcome of a status report.
enum Heard {
    Yes,
    No,
    Aborted,
}

/// An outcome of a poll.
enum Offered {
    Good(Offer),
    Unusable(Offer),
    Nothing,
    NoAnswer,
}

/// What the update control maps say.
enum Decided {
    GoOn,
    Pause,
    GiveUp(Cause),
}

impl Outcome {
    fn plain(&self) -> Plain {
        match self {
            Outcome::Done => Plain::Done,
            Outcome::Failed
            | Outcome::Aborted
            | Outcome::Due(_)
            | Outcome::Quiet
            | Outcome::Offered(_)
            | Outcome::Unusable(_)
            | Outcome::Paused
            | Outcome::Header(_)
            | Outcome::NeedsReboot(_)
            | Outcome::RollsBack(_) => Plain::Failed,
        }
    }

    fn heard(&self) -> Heard {
        if *self == Outcome::Aborted {
            return Heard::Aborted;
        }
        match self.plain() {
            Plain::Done => Heard::Yes,
            Plain::Failed => Heard::No,
        }
    }

    fn errand(self) -> Option<Errand> {
        if let Outcome::Due(errand) = self { Some(errand) } else { None }
    }

    fn header(self) -> Option<Artifact> {
        if let Outcome::Header(artifact) = self { Some(artifact) } else { None }
    }

    fn reboot(self) -> Option<Reboot> {
        if let Outcome::NeedsReboot(answer) = self { Some(answer) } else { None }
    }

    fn offered(self) -> Offered {
        if let Outcome::Offered(offer) = self {
            return Offered::Good(offer);
        }
        if let Outcome::Unusable(offer) = self {
            return Offered::Unusable(offer);
        }
        match self.plain() {
            Plain::Done => Offered::Nothing,
            Plain::Failed => Offered::NoAnswer,
        }
    }

    fn decided(&self) -> Decided {
        if *self == Outcome::Paused {
            return Decided::Pause;
        }
        match self.heard() {
            Heard::Yes => Decided::GoOn,
            Heard::No => Decided::GiveUp(Cause::Control),
            Heard::Aborted => Decided::GiveUp(Cause::Aborted),
        }
    }
}

/// What happens next (update-process.md 3). Total: every state answers every outcome.
pub fn next(state: State, outcome: Outcome) -> State {
    use State as S;
    match state {
        // ---- Idle and Sync: nothing in hand. Idle scripts cannot stop anything (state-scripts 2).
        S::IdleEnter => S::Idle,
        S::Idle => match outcome.errand() {
            Some(errand) => S::IdleLeave(errand),
            None => S::Stop,
        },
        S::IdleLeave(errand) => S::SyncEnter(errand),
        S::SyncEnter(errand) => match (outcome.plain(), errand) {
            (Plain::Done, Errand::Inventory) => S::Inventory,
            (Plain::Done, Errand::Deployment) => S::Poll,
            (Plain::Failed, Errand::Inventory | Errand::Deployment) => S::SyncError,
        },
        S::Inventory | S::SyncLeave => match (outcome.plain(), state == S::Inventory) {
            (Plain::Done, true) => S::SyncLeave,
            (Plain::Done, false) => S::IdleEnter,
            (Plain::Failed, true | false) => S::SyncError,
        },
        S::Poll => match outcome.offered() {
            Offered::Good(offer) => S::SyncLeaveWith(offer),
            // Reported with its log; no script and no handler is called (K13).
            Offered::Unusable(offer) => S::SendFinal(offer.end(Cause::Control)),
            Offered::Nothing => S::SyncLeave,
            Offered::NoAnswer => S::SyncError,
        },
        S::SyncLeaveWith(offer) => match outcome.plain() {
            Plain::Done => S::SendDownloading(offer),
            Plain::Failed => S::SyncError,
        },
        S::SyncError => S::IdleEnter,
        S::Stop => S::Stop,

        // ---- Download: the system is not touched yet, so every failure ends with what was installed before.
        S::SendDownloading(offer) => match outcome.heard() {
            // No network is needed to go on; the server may miss a status (U30).
            Heard::Yes | Heard::No => S::DownloadEnter(offer),
            Heard::Aborted => S::Cleanup(offer.end(Cause::Aborted)),
        },
        S::DownloadEnter(offer) => match outcome.plain() {
            Plain::Done => S::Fetch(offer),
            Plain::Failed => S::DownloadError(offer.end(Cause::Download)),
        },
        S::Fetch(offer) => match outcome.header() {
            // Recorded once already, before the Download_Enter scripts.
            Some(artifact) => S::Store(Update::new(offer.origin(), artifact, 1)),
            None => S::DownloadError(offer.end(Cause::Download)),
        },
        S::Open(offer) => match outcome.header() {
            // ST35: an Artifact without payload only changes what the device provides.
            Some(artifact) if artifact.payload.is_none() => {
                S::SaveProvides(Update::new(offer.origin(), artifact, 0).end(Verdict::Success, None))
            }
            Some(artifact) => S::DownloadEnterKnown(Update::new(offer.origin(), artifact, 0)),
            // Nothing was begun: no scripts, no Cleanup (standalone 3, Prepare).
            None => S::Finish(offer.end(Cause::Download)),
        },
        S::DownloadEnterKnown(update) => match outcome.plain() {
            Plain::Done => S::Store(update),
            Plain::Failed => S::DownloadError(update.end(Verdict::Unchanged, Some(Cause::Download))),
        },
        S::Store(update) => match outcome.plain() {
            Plain::Done => S::DownloadLeave(update),
            Plain::Failed => S::DownloadError(update.end(Verdict::Unchanged, Some(Cause::Download))),
        },
        S::DownloadLeave(update) => match outcome.plain() {
            Plain::Done if update.artifact.payload.is_none() => {
                S::SaveProvides(update.end(Verdict::Success, None))
            }
            Plain::Done => S::AskRollback(update),
            Plain::Failed => S::DownloadError(update.end(Verdict::Unchanged, Some(Cause::Download))),
        },
        S::DownloadError(end) => S::Cleanup(end),

        // ---- Install.
        S::AskRollback(update) => {
            // A handler that cannot answer has no way back; the update itself may still go well.
            let update = Update { rollback: outcome == Outcome::RollsBack(true), ..update };
            if update.standalone() { S::BeforeInstall(update) } else { S::DecideInstall(update) }
        }
        // Where the maps fail an update no Error scripts run (K34), and nothing asks whether something was installed.
        S::DecideInstall(update) | S::PauseInstall(update) => match outcome.decided() {
            Decided::GoOn => S::SendInstalling(update),
            Decided::Pause => S::SendPauseInstall(update),
            Decided::GiveUp(cause) => update.undo(cause),
        },
        S::SendPauseInstall(update) => match outcome.heard() {
            Heard::Yes | Heard::No => S::PauseInstall(update),
            Heard::Aborted => update.undo(Cause::Aborted),
        },
        S::BeforeInstall(update) => match outcome.plain() {
            Plain::Done => S::InstallEnter(update),
            // The record could not be written: nothing is installed without one.
            Plain::Failed => S::Cleanup(update.end(Verdict::Unchanged, Some(Cause::Download))),
        },
        S::SendInstalling(update) => match outcome.heard() {
            Heard::Yes | Heard::No => S::InstallEnter(update),
            Heard::Aborted => S::Cleanup(update.end(Verdict::Unchanged, Some(Cause::Aborted))),
        },
        S::InstallEnter(update) => match outcome.plain() {
            Plain::Done => S::Install(update),
            Plain::Failed => S::InstallError(update),
        },
        S::Install(update) => match outcome.plain() {
            Plain::Done => S::InstallLeave(update),
            Plain::Failed => S::InstallError(update),
        },
        S::InstallLeave(update) => match outcome.plain() {
            Plain::Done => S::AskReboot(update),
            Plain::Failed => S::InstallError(update),
        },
        // An Error script cannot save the update: its own result is only logged.
        S::InstallError(update) => update.undo(Cause::Install),
        S::AskReboot(update) => match (outcome.reboot(), update.standalone()) {
            (Some(reboot), true) => S::Installed(Update { reboot, ..update }),
            (Some(reboot @ (Reboot::Yes | Reboot::Automatic)), false) => {
                S::DecideReboot(Update { reboot, ..update })
            }
            (Some(Reboot::No), false) => S::DecideCommit(update),
            // No Error scripts here (U44).
            (None, true | false) => update.undo(Cause::Install),
        },

        // ---- Reboot.
        S::DecideReboot(update) | S::PauseReboot(update) => match outcome.decided() {
            Decided::GoOn => S::SendRebooting(update),
            Decided::Pause => S::SendPauseReboot(update),
            Decided::GiveUp(cause) => update.undo(cause),
        },
        S::SendPauseReboot(update) => match outcome.heard() {
            Heard::Yes | Heard::No => S::PauseReboot(update),
            Heard::Aborted => update.undo(Cause::Aborted),
        },
        S::SendRebooting(update) => match outcome.heard() {
            Heard::Yes | Heard::No => S::RebootEnter(update),
            Heard::Aborted => update.undo(Cause::Aborted),
        },
        S::RebootEnter(update) => match outcome.plain() {
            Plain::Done => S::Reboot(update),
            Plain::Failed => S::RebootError(update),
        },
        S::Reboot(update) => match outcome.plain() {
            Plain::Done => S::VerifyReboot(update),
            Plain::Failed => S::RebootError(update),
        },
        S::VerifyReboot(update) => match outcome.plain() {
            Plain::Done => S::RebootLeave(update),
            Plain::Failed => S::RebootError(update),
        },
        S::RebootLeave(update) => match outcome.plain() {
            Plain::Done => S::DecideCommit(update),
            Plain::Failed => S::RebootError(update),
        },
        S::RebootError(update) => update.undo(Cause::Reboot),

        // ---- Commit.
        S::Installed(update) => match outcome.plain() {
            Plain::Done => S::CommitEnter(update),
            Plain::Failed => update.undo(Cause::Install),
        },
        S::DecideCommit(update) | S::PauseCommit(update) => match outcome.decided() {
            Decided::GoOn => S::BeforeCommit(update),
            Decided::Pause => S::SendPauseCommit(update),
            Decided::GiveUp(cause) => update.undo(cause),
        },
        S::SendPauseCommit(update) => match outcome.heard() {
            Heard::Yes | Heard::No => S::PauseCommit(update),
            Heard::Aborted => update.undo(Cause::Aborted),
        },
        S::BeforeCommit(update) => S::SendCommit(update),
        S::SendCommit(update) => match outcome.heard() {
            Heard::Yes => S::CommitEnter(update),
            // A system that cannot reach its server is not committed (U31). No Error scripts: Enter has not run (U32).
            Heard::No => update.undo(Cause::Commit),
            Heard::Aborted => update.undo(Cause::Aborted),
        },
        S::CommitEnter(update) => match outcome.plain() {
            Plain::Done => S::Commit(update),
            Plain::Failed => S::CommitError(update),
        },
        S::Commit(update) => match (outcome.plain(), update.standalone()) {
            (Plain::Done, true) => S::BeforeCommitLeave(update),
            (Plain::Done, false) => S::CommitLeave(update),
            (Plain::Failed, true | false) => S::CommitError(update),
        },
        S::BeforeCommitLeave(update) => match outcome.plain() {
            Plain::Done => S::CommitLeave(update),
            Plain::Failed => S::CommitLeaveError(update),
        },
        S::CommitLeave(update) => match outcome.plain() {
            Plain::Done => S::SaveProvides(update.end(Verdict::Success, None)),
            Plain::Failed => S::CommitLeaveError(update),
        },
        S::CommitError(update) => update.undo(Cause::Commit),
        S::CommitLeaveError(update) => {
            S::SaveProvides(update.end(Verdict::CommittedInconsistent, Some(Cause::Commit)))
        }

        // ---- Rollback: nothing stops it; whatever fails on the way makes the result inconsistent (decision 3).
        S::RollbackEnter(undo) => S::Rollback(judged(undo, &outcome)),
        S::Rollback(undo) => match outcome.plain() {
            Plain::Done => S::RollbackLeave(undo),
            Plain::Failed => S::RollbackLeaveFailed(undo.unsound()),
        },
        S::RollbackLeave(undo) => {
            let undo = judged(undo, &outcome);
            // Nothing restarts the machine under a person's hands (ST12).
            if undo.update.standalone() { S::FailureEnter(undo) } else { S::AskRollbackReboot(undo) }
        }
        S::RollbackLeaveFailed(undo) => S::FailureEnter(undo),
        S::AskRollbackReboot(undo) => match outcome.reboot() {
            Some(reboot @ (Reboot::Yes | Reboot::Automatic)) => {
                let update = Update { reboot, ..undo.update };
                S::RollbackRebootEnter(Undo { update, ..undo })
            }
            Some(Reboot::No) => S::FailureEnter(undo),
            None => S::FailureEnter(undo.unsound()),
        },
        S::RollbackRebootEnter(undo) => S::RollbackReboot(judged(undo, &outcome)),
        // Whether it worked is for the verification to say.
        S::RollbackReboot(undo) => S::VerifyRollbackReboot(undo),
        S::VerifyRollbackReboot(undo) => match outcome.plain() {
            Plain::Done => S::RollbackRebootLeave(undo),
            // Again, without scripts, until the loop guard ends it (U58).
            Plain::Failed => S::RollbackReboot(undo),
        },
        S::RollbackRebootLeave(undo) => match outcome.plain() {
            Plain::Done => S::FailureEnter(undo),
            Plain::Failed => S::RollbackRebootError(undo.unsound()),
        },
        S::RollbackRebootError(undo) => S::FailureEnter(undo),

        // ---- Failure.
        S::FailureEnter(undo) => S::Failure(judged(undo, &outcome)),
        S::Failure(undo) => S::FailureLeave(judged(undo, &outcome)),
        S::FailureLeave(undo) => S::SaveProvides(judged(undo, &outcome).end()),

        // ---- The end: carries on whatever happens (U60).
        S::StateLoop(end) => S::SendFinal(end),
        // With a name that is not that of what runs, the update is no success.
        S::SaveProvides(end) => S::Cleanup(tidied(end, &outcome)),
        S::Cleanup(end) => {
            let end = tidied(end, &outcome);
            if end.origin == Origin::Standalone { S::Clear(end) } else { S::SendFinal(end) }
        }
        // Heard, aborted, or nobody listens any more: in each case it is over.
        S::SendFinal(end) => S::Clear(end),
        S::Clear(end) => S::Finish(end),
        S::Finish(end) => match end.origin {
            Origin::Deployment(_) => S::IdleEnter,
            Origin::Standalone => S::Stop,
        },
    }
}

fn tidied(end: End, outcome: &Outcome) -> End {
    match outcome.plain() {
        Plain::Done => end,
        Plain::Failed => End { clean: false, ..end },
    }
}

fn judged(undo: Undo, outcome: &Outcome) -> Undo {
    match outcome.plain() {
        Plain::Done => undo,
        Plain::Failed => undo.unsound(),
    }
}
