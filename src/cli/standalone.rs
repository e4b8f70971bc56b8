//! `install`, `commit`, `rollback`, `resume`: updates that a person asks for, with Mender's texts and exit codes.

use super::args::Standalone;
use super::setup::Place;
use super::{Adapters, complain, say};
use std::process::ExitCode;
use thimble::agent::{
    self, Cause, Command, End, Offer, Reboot, Refusal, State, StopPoint, Undo, Update, Verdict,
};
use thimble::error::{Error, Result};
use thimble::run::{Exit, Mode};

/// Nothing to commit, to roll back or to go on with.
const NO_UPDATE: u8 = 2;
/// With `--reboot-exit-code`: all went well, the machine must restart.
const REBOOT_NEEDED: u8 = 4;

const HINT: &str = "Use 'commit' to update, or 'rollback' to roll back the update.";
const REBOOT_LINE: &str = "At least one payload requested a reboot of the device it updated.";

/// Installs an Artifact.
///
/// # Errors
/// When it cannot even be begun.
pub fn install(place: Place, source: String, options: &Standalone) -> Result<ExitCode> {
    let _lock = place.lock("install").inspect_err(|_| say("System not modified."))?;
    place.bootstrap()?;
    let mut journal = place.journal();
    if let Some(record) = journal.load()? {
        say("System not modified.");
        return Err(Error::new(
            "UPDATE-IN-PROGRESS",
            match record.state.deployment() {
                Some("") | None => "Update already in progress. Please commit or roll back first".to_owned(),
                Some(id) => format!(
                    "Update already in progress: deployment {id} of the server. `thimble check` or the daemon ends it"
                ),
            },
        ));
    }
    let mut adapters = Adapters::new(place, journal, true)?;
    let start = State::Open(Offer { id: String::new(), uri: source });
    let mode = Mode::Standalone { stop_before: options.stop_before.clone() };
    let exit = adapters.drive(mode, |_| {}, start, None);
    Ok(tell(exit, &Story { command: None, was_on_the_way_back: false, was_tidying_up: false }, options))
}

/// Commits, rolls back or goes on.
///
/// # Errors
/// When the command does not fit; the update stays as it is.
pub fn go_on(place: Place, command: Command, options: &Standalone) -> Result<ExitCode> {
    let _lock = place.lock(match command {
        Command::Commit => "commit",
        Command::Rollback => "rollback",
        Command::Resume => "resume",
    })?;
    let mut journal = place.journal();
    let Some(record) = journal.load()? else { return Ok(nothing()) };
    let stored = record.state;
    let story = Story {
        command: Some(command),
        was_on_the_way_back: matches!(
            stored,
            State::RollbackEnter(_) | State::FailureEnter(_) | State::Failure(_)
        ),
        was_tidying_up: matches!(stored, State::SaveProvides(_) | State::Cleanup(_)),
    };
    let (name, id) = (stored.name(), stored.deployment().unwrap_or_default().to_owned());
    // The stop point at which it stands already comes before the command changes anything (ST24).
    if let Some(point) = agent::stop_point(&stored)
        && options.stop_before.contains(&point)
        && command == Command::Resume
    {
        return Ok(stopped(point, &stored, &story, options));
    }
    let state = match agent::command(stored, command) {
        Ok(state) => state,
        Err(Refusal::Managed) => {
            complain(&format!(
                "deployment {id} of the server is in progress; `thimble check` or the daemon ends it"
            ));
            return Ok(nothing());
        }
        Err(Refusal::NoRollback) => {
            say("Update Module does not support rollback. System may be in an inconsistent state.");
            return Ok(ExitCode::FAILURE);
        }
        Err(Refusal::WrongState) => {
            return Err(Error::new(
                "WRONG-STATE",
                match command {
                    Command::Commit => {
                        format!("Cannot commit from this state ({name}); use `thimble resume`")
                    }
                    Command::Rollback => {
                        format!("Cannot roll back from this state ({name}); use `thimble resume`")
                    }
                    Command::Resume => format!("Cannot resume from this state ({name})"),
                },
            ));
        }
    };
    let mut adapters = Adapters::new(place, journal, false)?;
    let mode = Mode::Standalone { stop_before: options.stop_before.clone() };
    let exit = adapters.drive(mode, |_| {}, state, None);
    Ok(tell(exit, &story, options))
}

fn nothing() -> ExitCode {
    say("No update in progress.");
    ExitCode::from(NO_UPDATE)
}

/// What led here: decides the words and the exit code of what came of it.
struct Story {
    /// `None` is `install`.
    command: Option<Command>,
    was_on_the_way_back: bool,
    was_tidying_up: bool,
}

fn tell(exit: Exit, story: &Story, options: &Standalone) -> ExitCode {
    match exit {
        Exit::AwaitsCommand(state) => waiting(&state, options),
        Exit::Stopped(point, state) => stopped(point, &state, story, options),
        Exit::Ended(end) => ended(&end, story, options),
        Exit::Terminated => {
            complain("interrupted; `thimble resume` goes on, if the installation had begun");
            ExitCode::FAILURE
        }
        // Not ways for a standalone update to end.
        Exit::Idle { .. } | Exit::Waiting { .. } => ExitCode::FAILURE,
    }
}

/// Standalone 2: the parts of one message, joined by blanks.
fn message(parts: &[&str]) {
    say(&parts.iter().filter(|p| !p.is_empty()).copied().collect::<Vec<_>>().join(" "));
}

fn well(reboot: Reboot, options: &Standalone) -> ExitCode {
    if reboot != Reboot::No && options.reboot_exit_code {
        ExitCode::from(REBOOT_NEEDED)
    } else {
        ExitCode::SUCCESS
    }
}

fn reboot_line(reboot: Reboot) -> &'static str {
    if reboot == Reboot::No { "" } else { REBOOT_LINE }
}

fn waiting(state: &State, options: &Standalone) -> ExitCode {
    let reboot = if let State::Installed(Update { reboot, .. }) = state { *reboot } else { Reboot::No };
    say("Installed, but not committed.");
    message(&[HINT, reboot_line(reboot)]);
    well(reboot, options)
}

fn stopped(point: StopPoint, state: &State, story: &Story, options: &Standalone) -> ExitCode {
    match point {
        StopPoint::ArtifactInstallEnter => {
            say("Streamed to storage, but not installed/enabled.");
            ExitCode::SUCCESS
        }
        StopPoint::ArtifactCommitEnter => waiting(state, options),
        StopPoint::ArtifactCommitLeave => {
            say("Committed, but not yet finished: `thimble resume` finishes it.");
            ExitCode::SUCCESS
        }
        StopPoint::ArtifactRollbackEnter | StopPoint::ArtifactFailureEnter => {
            let cause = if let State::RollbackEnter(Undo { cause, .. })
            | State::FailureEnter(Undo { cause, .. }) = state
            {
                *cause
            } else {
                Cause::Asked
            };
            failed_now(cause, story, "Stopped as asked; `thimble resume` goes on.")
        }
        StopPoint::Cleanup => {
            let (cause, verdict) = if let State::SaveProvides(end) = state {
                (end.cause.unwrap_or(Cause::Asked), end.verdict)
            } else {
                (Cause::Asked, Verdict::Success)
            };
            if verdict == Verdict::Success || story.was_tidying_up {
                say("Done but for the tidying up: `thimble resume` does that.");
                return ExitCode::SUCCESS;
            }
            failed_now(cause, story, "Stopped before the tidying up; `thimble resume` does that.")
        }
    }
}

/// Says what failed, if it failed in this run (ST25), and what more there is to say.
fn failed_now(cause: Cause, story: &Story, more: &str) -> ExitCode {
    let what = match cause {
        Cause::Download | Cause::Aborted | Cause::Control => "Streaming failed.",
        Cause::Install | Cause::Reboot | Cause::Loop => "Installation failed.",
        Cause::Commit => "Committing failed.",
        Cause::Asked | Cause::Interrupted => "",
    };
    if what.is_empty() || story.was_on_the_way_back || story.was_tidying_up {
        say(more);
        // ST16 PICK: a commit that could not be is no success.
        let commit_failed = cause == Cause::Interrupted && story.command == Some(Command::Commit);
        return if commit_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    message(&[what, more]);
    ExitCode::FAILURE
}

fn ended(end: &End, story: &Story, options: &Standalone) -> ExitCode {
    if story.was_tidying_up {
        return tidied_up(end);
    }
    let not_clean = if end.clean { "" } else { "Cleanup failed." };
    let code = match end.verdict {
        Verdict::Success => {
            let empty = end.artifact.as_ref().is_some_and(|a| a.payload.is_none());
            if empty {
                say("Artifact with empty payload. Committing immediately.");
            } else if story.command.is_none() && !end.rollback {
                say("Update Module doesn't support rollback. Committing immediately.");
            }
            if story.command.is_none() {
                message(&["Installed and committed.", reboot_line(end.reboot), not_clean]);
                well(end.reboot, options)
            } else {
                message(&["Committed.", not_clean]);
                ExitCode::SUCCESS
            }
        }
        Verdict::CommittedInconsistent => {
            let done = if story.command.is_none() { "Installed and committed." } else { "Committed." };
            message(&[done, "One or more post-commit steps failed.", not_clean]);
            ExitCode::FAILURE
        }
        Verdict::Unchanged if end.cause == Some(Cause::Download) => {
            message(&["Streaming failed.", "System not modified.", not_clean]);
            ExitCode::FAILURE
        }
        Verdict::Unchanged => failed_now(
            end.cause.unwrap_or(Cause::Interrupted),
            story,
            if end.clean { "Rolled back." } else { "Rolled back. Cleanup failed." },
        ),
        Verdict::Inconsistent | Verdict::Looped => {
            let how = if end.rollback {
                "Rollback failed. System may be in an inconsistent state."
            } else {
                "Update Module does not support rollback. System may be in an inconsistent state."
            };
            failed_now(end.cause.unwrap_or(Cause::Interrupted), story, how);
            ExitCode::FAILURE
        }
    };
    if end.clean { code } else { ExitCode::FAILURE }
}

fn tidied_up(end: &End) -> ExitCode {
    if end.clean {
        say("Cleaned up.");
        ExitCode::SUCCESS
    } else {
        say("Cleanup failed.");
        ExitCode::FAILURE
    }
}
