//! State scripts as arithmetic: names, order, exit codes, retry-later. Running them is for the adapter.

use std::time::Duration;

/// The step that scripts belong to: the first part of their names (S2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Waiting for something to be due.
    Idle,
    /// Talking to the server.
    Sync,
    /// Fetching and storing.
    Download,
    /// Installing.
    ArtifactInstall,
    /// Restarting.
    ArtifactReboot,
    /// Committing.
    ArtifactCommit,
    /// Taking back.
    ArtifactRollback,
    /// Restarting back.
    ArtifactRollbackReboot,
    /// Failing.
    ArtifactFailure,
}

/// The second part of a script's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Before the step.
    Enter,
    /// After it.
    Leave,
    /// When it has failed.
    Error,
}

/// Where scripts are found (S3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the root file system, `<conf>/scripts`.
    Rootfs,
    /// Out of the Artifact, `<datastore>/scripts`.
    Artifact,
}

/// The scripts that run at one point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScriptSet {
    /// The step.
    pub step: Step,
    /// Before, after, or on failure.
    pub action: Action,
    /// A failing script does not keep the rest from running (S24); the set has failed all the same.
    pub run_all: bool,
}

impl Step {
    const ALL: [Step; 9] = [
        Step::Idle,
        Step::Sync,
        Step::Download,
        Step::ArtifactInstall,
        Step::ArtifactReboot,
        Step::ArtifactCommit,
        Step::ArtifactRollback,
        Step::ArtifactRollbackReboot,
        Step::ArtifactFailure,
    ];

    /// The word in file names.
    pub fn word(self) -> &'static str {
        match self {
            Step::Idle => "Idle",
            Step::Sync => "Sync",
            Step::Download => "Download",
            Step::ArtifactInstall => "ArtifactInstall",
            Step::ArtifactReboot => "ArtifactReboot",
            Step::ArtifactCommit => "ArtifactCommit",
            Step::ArtifactRollback => "ArtifactRollback",
            Step::ArtifactRollbackReboot => "ArtifactRollbackReboot",
            Step::ArtifactFailure => "ArtifactFailure",
        }
    }

    /// Where its scripts are.
    pub fn place(self) -> Place {
        match self {
            Step::Idle | Step::Sync | Step::Download => Place::Rootfs,
            Step::ArtifactInstall
            | Step::ArtifactReboot
            | Step::ArtifactCommit
            | Step::ArtifactRollback
            | Step::ArtifactRollbackReboot
            | Step::ArtifactFailure => Place::Artifact,
        }
    }
}

impl Action {
    const ALL: [Action; 3] = [Action::Enter, Action::Leave, Action::Error];

    /// The word in file names.
    pub fn word(self) -> &'static str {
        match self {
            Action::Enter => "Enter",
            Action::Leave => "Leave",
            Action::Error => "Error",
        }
    }
}

/// Which point a file name belongs to: `<Step>_<Action>_NN[_text]`, exactly so (S1, S4 PICK). `None`: it is not the
/// name of a state script.
pub fn parse(name: &str) -> Option<(Step, Action)> {
    let (step, rest) = name.split_once('_')?;
    let step = Step::ALL.into_iter().find(|s| s.word() == step)?;
    let (action, rest) = rest.split_once('_')?;
    let action = Action::ALL.into_iter().find(|a| a.word() == action)?;
    let (number, text) = rest.split_at_checked(2)?;
    let well_formed = number.bytes().all(|b| b.is_ascii_digit())
        && (text.is_empty()
            || (text.len() > 1 && text.starts_with('_') && !text.contains(char::is_whitespace)));
    well_formed.then_some((step, action))
}

/// Puts the names of one set in the order in which they run: byte order of the whole name (S6).
pub fn select(names: impl IntoIterator<Item = String>, set: ScriptSet) -> Vec<String> {
    let mut list: Vec<String> =
        names.into_iter().filter(|name| parse(name) == Some((set.step, set.action))).collect();
    list.sort_unstable();
    list
}

/// How one run of a script ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ran {
    /// With this exit status.
    Exit(i32),
    /// Killed, timed out, or never started.
    Broken,
}

/// What follows from a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// The next script.
    Ok,
    /// The same script again after this time.
    Again(Duration),
    /// It asks for more time than it has: an error.
    TooLate,
    /// An error.
    Failed,
}

/// What follows from a run that began its series `since_first` ago (S31, S33 PICK): after exit 21 the script runs again
/// after `interval`, unless that would be later than `limit` after its first start.
pub fn after(ran: Ran, since_first: Duration, interval: Duration, limit: Duration) -> After {
    match ran {
        Ran::Exit(0) => After::Ok,
        Ran::Exit(21) if since_first.saturating_add(interval) <= limit => After::Again(interval),
        Ran::Exit(21) => After::TooLate,
        Ran::Exit(_) | Ran::Broken => After::Failed,
    }
}

/// Whether the content of a `version` file is one that we can run: one integer, 2 or 3 (S12).
pub fn version_ok(content: &str) -> bool {
    matches!(content.trim(), "2" | "3")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_matched_exactly() {
        use Action::*;
        use Step::*;
        for (name, is) in [
            ("Idle_Enter_00", Some((Idle, Enter))),
            ("ArtifactInstall_Leave_05_Enter", Some((ArtifactInstall, Leave))),
            ("ArtifactRollbackReboot_Error_99_x-y.z", Some((ArtifactRollbackReboot, Error))),
            ("Idle_Enter_100", None),
            ("Idle_Enter_1", None),
            ("Idle_Enter_0a", None),
            ("Idle_Enter_00_", None),
            ("Idle_Enter_00x", None),
            ("Idle_Enter_00_a b", None),
            ("idle_Enter_00", None),
            ("Idle_enter_00", None),
            ("Enter_00", None),
            ("Idle_Enter_0é", None),
            ("version", None),
            ("", None),
        ] {
            assert_eq!(parse(name), is, "{name}");
        }
    }

    #[test]
    fn scripts_run_in_byte_order_of_their_names() {
        let set = ScriptSet { step: Step::Idle, action: Action::Enter, run_all: true };
        let names =
            ["Idle_Enter_09", "Idle_Enter_08_testing", "Idle_Enter_100", "Idle_Enter_08", "Idle_Leave_00"];
        let got = select(names.map(String::from), set);
        assert_eq!(got, ["Idle_Enter_08", "Idle_Enter_08_testing", "Idle_Enter_09"]);
    }

    #[test]
    fn no_run_starts_after_the_retry_limit() {
        let s = Duration::from_secs;
        assert_eq!(after(Ran::Exit(21), s(0), s(60), s(1800)), After::Again(s(60)));
        assert_eq!(after(Ran::Exit(21), s(1740), s(60), s(1800)), After::Again(s(60)));
        assert_eq!(after(Ran::Exit(21), s(1741), s(60), s(1800)), After::TooLate);
        assert_eq!(after(Ran::Exit(21), Duration::MAX, s(60), s(1800)), After::TooLate);
        assert_eq!(after(Ran::Exit(0), s(9999), s(60), s(1800)), After::Ok);
        for ran in [Ran::Exit(1), Ran::Exit(126), Ran::Exit(-1), Ran::Broken] {
            assert_eq!(after(ran, s(0), s(60), s(1800)), After::Failed);
        }
    }

    #[test]
    fn versions_two_and_three_are_known() {
        for good in ["2", "3", " 3\n", "3\n"] {
            assert!(version_ok(good), "{good:?}");
        }
        for bad in ["", "1", "4", "1000", "03", "3 3", "three"] {
            assert!(!version_ok(bad), "{bad:?}");
        }
    }
}
