//! The persisted form of a state: the value is the record. JSON text; the journal adds sequence, length and CRC.
//!
//! The words in it are promises: a record written by one version is read by the next (update-process.md 4).

use super::state::{Artifact, Cause, End, Offer, Origin, Reboot, SAVE_LIMIT, State, Undo, Update, Verdict};
use miniserde::{Deserialize, Serialize, json};
use std::collections::BTreeMap;

/// Version of the form below. An unknown one is refused, never guessed.
const VERSION: u32 = 1;

/// What a wait is for, and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitFor {
    /// A state script said "later" (exit 21): its file name, and when it was first started.
    Script {
        /// File name of the script.
        name: String,
        /// When it was first started, milliseconds since boot.
        first_start_ms: u64,
        /// A script of the set before it has failed already.
        failed: bool,
    },
    /// The update control maps hold the update up, or that of the server could not be refreshed yet.
    Control {
        /// [`super::control::Pool::changes`] when it was decided; another number ends the wait.
        changes: u64,
        /// At its end the server is asked for its map, then the maps decide.
        refresh: bool,
        /// How often the server was asked in vain.
        tries: u32,
    },
    /// A report that the server has not heard yet.
    Report {
        /// How often it was tried.
        tries: u32,
    },
}

/// A wait that outlasts the program, in one-shot use (decision 22).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// When it is over, milliseconds since boot (decision 23).
    pub until_ms: u64,
    /// What for.
    pub what: WaitFor,
}

/// What the journal holds while an update is in progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where the update is.
    pub state: State,
    /// Set if the agent left on purpose, to be started again: it was not cut.
    pub wait: Option<Wait>,
    /// The boot in which the record was written.
    pub boot_id: String,
}

/// Why a record cannot be read, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable(pub String);

#[derive(Serialize, Deserialize)]
struct Form {
    version: u32,
    state: String,
    boot_id: String,
    deployment: Option<String>,
    uri: Option<String>,
    artifact: Option<ArtifactForm>,
    rollback: bool,
    reboot: String,
    saves: u8,
    sound: bool,
    cause: Option<String>,
    verdict: Option<String>,
    clean: bool,
    wait: Option<WaitForm>,
}

#[derive(Serialize, Deserialize)]
struct ArtifactForm {
    name: String,
    group: Option<String>,
    provides: BTreeMap<String, String>,
    clears: Option<Vec<String>>,
    payload: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct WaitForm {
    until_ms: u64,
    script: Option<String>,
    first_start_ms: u64,
    failed: bool,
    tries: u32,
    control: Option<ControlForm>,
}

#[derive(Serialize, Deserialize)]
struct ControlForm {
    changes: u64,
    refresh: bool,
}

/// Two-way tables between values and their words.
macro_rules! words {
    ($to:ident, $from:ident, $type:ty, $($value:path = $word:literal),+ $(,)?) => {
        fn $to(value: $type) -> &'static str {
            match value { $($value => $word),+ }
        }
        fn $from(word: &str) -> Option<$type> {
            [$($value),+].into_iter().find(|v| $to(*v) == word)
        }
    };
}

words!(
    reboot_word,
    reboot_from,
    Reboot,
    Reboot::No = "No",
    Reboot::Yes = "Yes",
    Reboot::Automatic = "Automatic"
);
words!(
    cause_word,
    cause_from,
    Cause,
    Cause::Download = "download",
    Cause::Aborted = "aborted",
    Cause::Control = "control",
    Cause::Install = "install",
    Cause::Reboot = "reboot",
    Cause::Commit = "commit",
    Cause::Interrupted = "interrupted",
    Cause::Asked = "asked",
    Cause::Loop = "loop",
);
words!(
    verdict_word,
    verdict_from,
    Verdict,
    Verdict::Success = "success",
    Verdict::Unchanged = "unchanged",
    Verdict::Inconsistent = "inconsistent",
    Verdict::CommittedInconsistent = "committed-inconsistent",
    Verdict::Looped = "looped",
);

/// What a state carries.
#[derive(Debug)]
enum Cargo<'a> {
    Nothing,
    Offer(&'a Offer),
    Update(&'a Update),
    Undo(&'a Undo),
    End(&'a End),
}

/// Every state with its stable name, by what it carries.
macro_rules! states {
    (plain: $($plain:ident)*; offer: $($offer:ident)*; update: $($update:ident)*; undo: $($undo:ident)*; end: $($end:ident)*;) => {
        impl State {
            /// The state's name: in records, logs and documentation.
            pub fn name(&self) -> &'static str {
                match self {
                    $(State::$plain => stringify!($plain),)*
                    State::IdleLeave(_) => "IdleLeave",
                    State::SyncEnter(_) => "SyncEnter",
                    $(State::$offer(_) => stringify!($offer),)*
                    $(State::$update(_) => stringify!($update),)*
                    $(State::$undo(_) => stringify!($undo),)*
                    $(State::$end(_) => stringify!($end),)*
                }
            }

            fn cargo(&self) -> Cargo<'_> {
                match self {
                    $(State::$plain)|* | State::IdleLeave(_) | State::SyncEnter(_) => Cargo::Nothing,
                    $(State::$offer(x))|* => Cargo::Offer(x),
                    $(State::$update(x))|* => Cargo::Update(x),
                    $(State::$undo(x))|* => Cargo::Undo(x),
                    $(State::$end(x))|* => Cargo::End(x),
                }
            }

            /// One more recording (or loading) of a managed update, pauses excepted. Beyond the limit it counts as a
            /// loop (U57).
            pub fn counted(mut self) -> State {
                if self.is_control() {
                    return self;
                }
                let (origin, saves) = match &mut self {
                    $(State::$plain)|* | State::IdleLeave(_) | State::SyncEnter(_) $(| State::$offer(_))* => return self,
                    $(State::$update(u))|* => (&u.origin, &mut u.saves),
                    $(State::$undo(u))|* => (&u.update.origin, &mut u.update.saves),
                    $(State::$end(e))|* => (&e.origin, &mut e.saves),
                };
                if *saves < SAVE_LIMIT || *origin == Origin::Standalone {
                    *saves = saves.saturating_add(1);
                    return self;
                }
                let looped = |update: Update| State::StateLoop(update.end(Verdict::Looped, Some(Cause::Loop)));
                match self {
                    // What is installed has been stored: the verdict stands, only the tidying up is given up.
                    State::Cleanup(end) => State::SendFinal(End { clean: false, ..end }),
                    State::SaveProvides(end) => {
                        State::StateLoop(End { verdict: Verdict::Looped, cause: Some(Cause::Loop), ..end })
                    }
                    $(State::$update(u) => looped(u),)*
                    $(State::$undo(u) => looped(u.update),)*
                    other => other,
                }
            }

            fn rebuild(name: &str, form: Form) -> Result<State, Unreadable> {
                match name {
                    $(stringify!($offer) => form.offer().map(State::$offer),)*
                    $(stringify!($update) => form.update().map(State::$update),)*
                    $(stringify!($undo) => form.undo().map(State::$undo),)*
                    $(stringify!($end) => form.end().map(State::$end),)*
                    _ => Err(Unreadable(format!("unknown state {name:?}"))),
                }
            }
        }
    };
}

states! {
    plain: IdleEnter Idle Inventory Poll SyncLeave SyncError Stop;
    offer: SyncLeaveWith SendDownloading DownloadEnter Fetch Open;
    update: DownloadEnterKnown Store DownloadLeave AskRollback BeforeInstall DecideInstall SendPauseInstall
        PauseInstall SendInstalling InstallEnter Install InstallLeave InstallError AskReboot DecideReboot
        SendPauseReboot PauseReboot SendRebooting RebootEnter Reboot VerifyReboot RebootLeave RebootError
        Installed DecideCommit SendPauseCommit PauseCommit BeforeCommit SendCommit CommitEnter Commit BeforeCommitLeave CommitLeave CommitError
        CommitLeaveError;
    undo: RollbackEnter Rollback RollbackLeave RollbackLeaveFailed AskRollbackReboot RollbackRebootEnter
        RollbackReboot VerifyRollbackReboot RollbackRebootLeave RollbackRebootError FailureEnter Failure
        FailureLeave;
    end: DownloadError StateLoop SaveProvides Cleanup SendFinal Clear Finish;
}

impl State {
    /// The update or the offer that the state is about, for logs: its deployment ID, empty at the command line.
    pub fn deployment(&self) -> Option<&str> {
        let origin = match self.cargo() {
            Cargo::Nothing => return None,
            Cargo::Offer(offer) => return Some(&offer.id),
            Cargo::Update(update) => &update.origin,
            Cargo::Undo(undo) => &undo.update.origin,
            Cargo::End(end) => &end.origin,
        };
        match origin {
            Origin::Deployment(id) => Some(id),
            Origin::Standalone => Some(""),
        }
    }

    /// The Artifact in hand, if its header is known.
    pub fn artifact(&self) -> Option<&Artifact> {
        match self.cargo() {
            Cargo::Nothing | Cargo::Offer(_) => None,
            Cargo::Update(update) => Some(&update.artifact),
            Cargo::Undo(undo) => Some(&undo.update.artifact),
            Cargo::End(end) => end.artifact.as_ref(),
        }
    }
}

impl Record {
    /// The text for the journal.
    pub fn encode(&self) -> Vec<u8> {
        let mut form = Form {
            version: VERSION,
            state: self.state.name().into(),
            boot_id: self.boot_id.clone(),
            deployment: None,
            uri: None,
            artifact: None,
            rollback: false,
            reboot: "No".into(),
            saves: 0,
            sound: true,
            cause: None,
            verdict: None,
            clean: true,
            wait: self.wait.as_ref().map(WaitForm::from),
        };
        match self.state.cargo() {
            Cargo::Nothing => {}
            Cargo::Offer(offer) => {
                form.deployment = Some(offer.id.clone());
                form.uri = Some(offer.uri.clone());
            }
            Cargo::Update(update) => form.put(update),
            Cargo::Undo(undo) => {
                form.put(&undo.update);
                form.sound = undo.sound;
                form.cause = Some(cause_word(undo.cause).into());
            }
            Cargo::End(end) => {
                form.put_origin(&end.origin);
                form.artifact = end.artifact.as_ref().map(ArtifactForm::from);
                (form.rollback, form.clean, form.saves) = (end.rollback, end.clean, end.saves);
                form.reboot = reboot_word(end.reboot).into();
                form.cause = end.cause.map(|c| cause_word(c).into());
                form.verdict = Some(verdict_word(end.verdict).into());
            }
        }
        json::to_string(&form).into_bytes()
    }

    /// Reads such a text back.
    ///
    /// # Errors
    /// Says what is wrong with it; nothing is guessed.
    pub fn decode(bytes: &[u8]) -> Result<Record, Unreadable> {
        let text = std::str::from_utf8(bytes).map_err(|_| Unreadable("not UTF-8".into()))?;
        let mut form: Form =
            json::from_str(text).map_err(|_| Unreadable("not a record of this program".into()))?;
        if form.version != VERSION {
            return Err(Unreadable(format!("version {} of the record is not known here", form.version)));
        }
        let wait = form.wait.take().map(Wait::from);
        let (name, boot_id) = (std::mem::take(&mut form.state), std::mem::take(&mut form.boot_id));
        Ok(Record { state: State::rebuild(&name, form)?, wait, boot_id })
    }
}

impl Form {
    fn put_origin(&mut self, origin: &Origin) {
        self.deployment = match origin {
            Origin::Deployment(id) => Some(id.clone()),
            Origin::Standalone => None,
        };
    }

    fn put(&mut self, update: &Update) {
        self.put_origin(&update.origin);
        self.artifact = Some(ArtifactForm::from(&update.artifact));
        (self.rollback, self.saves) = (update.rollback, update.saves);
        self.reboot = reboot_word(update.reboot).into();
    }

    fn origin(&self) -> Origin {
        match &self.deployment {
            Some(id) if !id.is_empty() => Origin::Deployment(id.clone()),
            Some(_) | None => Origin::Standalone,
        }
    }

    fn offer(self) -> Result<Offer, Unreadable> {
        Ok(Offer { id: self.deployment.unwrap_or_default(), uri: self.uri.unwrap_or_default() })
    }

    fn reboot(&self) -> Result<Reboot, Unreadable> {
        reboot_from(&self.reboot).ok_or_else(|| Unreadable(format!("unknown reboot kind {:?}", self.reboot)))
    }

    fn cause(&self) -> Result<Option<Cause>, Unreadable> {
        let Some(word) = &self.cause else { return Ok(None) };
        cause_from(word).map(Some).ok_or_else(|| Unreadable(format!("unknown cause {word:?}")))
    }

    fn update(mut self) -> Result<Update, Unreadable> {
        let artifact = self.artifact.take().ok_or_else(|| Unreadable("the Artifact is missing".into()))?;
        Ok(Update {
            origin: self.origin(),
            artifact: artifact.into(),
            rollback: self.rollback,
            reboot: self.reboot()?,
            saves: self.saves,
        })
    }

    fn undo(self) -> Result<Undo, Unreadable> {
        let (sound, cause) = (self.sound, self.cause()?.unwrap_or(Cause::Interrupted));
        Ok(Undo { update: self.update()?, sound, cause })
    }

    fn end(mut self) -> Result<End, Unreadable> {
        let verdict = self.verdict.as_deref().and_then(verdict_from);
        Ok(End {
            verdict: verdict.ok_or_else(|| Unreadable(format!("unknown verdict {:?}", self.verdict)))?,
            artifact: self.artifact.take().map(Artifact::from),
            origin: self.origin(),
            cause: self.cause()?,
            rollback: self.rollback,
            reboot: self.reboot()?,
            clean: self.clean,
            saves: self.saves,
        })
    }
}

impl From<&Artifact> for ArtifactForm {
    fn from(a: &Artifact) -> ArtifactForm {
        let Artifact { name, group, provides, clears, payload } = a.clone();
        ArtifactForm { name, group, provides, clears, payload }
    }
}

impl From<ArtifactForm> for Artifact {
    fn from(a: ArtifactForm) -> Artifact {
        let ArtifactForm { name, group, provides, clears, payload } = a;
        Artifact { name, group, provides, clears, payload }
    }
}

impl From<&Wait> for WaitForm {
    fn from(wait: &Wait) -> WaitForm {
        let mut form = WaitForm {
            until_ms: wait.until_ms,
            script: None,
            first_start_ms: 0,
            failed: false,
            tries: 0,
            control: None,
        };
        match &wait.what {
            WaitFor::Script { name, first_start_ms, failed } => {
                form.script = Some(name.clone());
                (form.first_start_ms, form.failed) = (*first_start_ms, *failed);
            }
            WaitFor::Control { changes, refresh, tries } => {
                form.control = Some(ControlForm { changes: *changes, refresh: *refresh });
                form.tries = *tries;
            }
            WaitFor::Report { tries } => form.tries = *tries,
        }
        form
    }
}

impl From<WaitForm> for Wait {
    fn from(form: WaitForm) -> Wait {
        let WaitForm { until_ms, script, first_start_ms, failed, tries, control } = form;
        let what = match (script, control) {
            (Some(name), Some(_) | None) => WaitFor::Script { name, first_start_ms, failed },
            (None, Some(ControlForm { changes, refresh })) => WaitFor::Control { changes, refresh, tries },
            (None, None) => WaitFor::Report { tries },
        };
        Wait { until_ms, what }
    }
}
