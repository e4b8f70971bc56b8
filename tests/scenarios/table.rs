//! Reads the tables of scenarios beside this file (`*.txt`; README.md there explains them). Runs nothing.
#![allow(dead_code)] // Each runner needs a part of it.

use std::fmt::Write as _;

/// The tables, with the list of the reference that each is about.
const TABLES: [(&str, &str); 4] = [
    ("update-process", include_str!("update-process.txt")),
    ("state-scripts", include_str!("state-scripts.txt")),
    ("update-modules", include_str!("update-modules.txt")),
    ("standalone", include_str!("standalone.txt")),
];

/// A script is called by its set if it is the only one of it; a module call by its command.
pub type Event = String;

/// Which times of something are meant, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    pub first: usize,
    pub last: usize,
}

impl Times {
    pub const fn contains(self, time: usize) -> bool {
        self.first <= time && time <= self.last
    }
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum When {
    /// A script or a call ends with this exit code.
    Exits(Event, i32, Times),
    /// The agent is killed while it waits for it.
    Killed(Event, Times),
    /// What a module answers to a question.
    Prints(Event, String),
    /// The server answers a request with this status: `downloading`, `installing`, `rebooting`, `pre-commit`, `final`,
    /// `log`.
    Says(String, u16, Times),
    /// Records of this state cannot be written.
    Unrecorded(String, Times),
    /// From then on the scripts in that place (`rootfs` or `artifact`) have an unknown version.
    Version(&'static str, Event),
    /// The Artifact depends on something that is not there.
    Unfit,
    /// There is no Update Module of its type.
    NoModule,
}

/// What the Artifact contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    Empty,
    /// For an Update Module with these answers to NeedsArtifactReboot and SupportsRollback; `-` says nothing.
    Module {
        reboot: String,
        rollback: String,
    },
}

/// A part of the expected chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    One(Event),
    /// All of these in this order, so often.
    Repeat(usize, usize, Vec<Event>),
}

/// The name of what is installed in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    Old,
    New,
    Inconsistent,
}

/// A command of a person, and what comes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Without the Artifact's name.
    pub args: Vec<String>,
    /// `None`: it is killed.
    pub code: Option<i32>,
    pub says: String,
}

/// One scenario.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub name: String,
    /// E.g. `update-process 7`.
    pub cases: Vec<String>,
    pub payload: Payload,
    pub whens: Vec<When>,
    /// Scripts besides the usual ones, or in place of the usual one of their set.
    pub scripts: Vec<String>,
    /// Idle and Sync have scripts, too.
    pub sync: bool,
    /// How often `check` is run.
    pub checks: usize,
    /// RetryPollIntervalSeconds and RetryPollCount.
    pub retry: (u64, u32),
    pub chain: Vec<Item>,
    /// Repeated ones once.
    pub statuses: Vec<String>,
    pub after: After,
    pub new_provides: bool,
    /// How often the final report and the log are sent; `None`: once, and the log only after `failure`.
    pub sends: Option<(usize, usize)>,
    /// A person's commands; none: the server's deployment.
    pub steps: Vec<Step>,
    /// The one runner that can do it, and why.
    pub only: Option<(String, String)>,
    /// Also by the real daemon.
    pub daemon: bool,
}

/// All of them.
pub fn all() -> Vec<Scenario> {
    TABLES.into_iter().flat_map(|(list, text)| read(list, text)).collect()
}

/// One of them.
pub fn named(name: &str) -> Scenario {
    all().into_iter().find(|s| s.name == name).unwrap_or_else(|| panic!("no scenario is called {name}"))
}

/// Panics unless these lists of names are those of the tables.
pub fn assert_complete(runner: &str, both: &[&str], machine: &[&str], binary: &[&str]) {
    let expected = |s: &Scenario| match s.only.as_ref().map(|(only, _)| only.as_str()) {
        None => both.contains(&&*s.name),
        Some("machine") => machine.contains(&&*s.name),
        Some("binary") => binary.contains(&&*s.name),
        Some(other) => panic!("{}: only {other}?", s.name),
    };
    let missing: Vec<String> = all().iter().filter(|s| !expected(s)).map(|s| s.name.clone()).collect();
    assert!(missing.is_empty(), "{runner}: in a table, but not in names.rs (in this group): {missing:#?}");
    assert_eq!(all().len(), both.len() + machine.len() + binary.len(), "names.rs names one that is nowhere");
}

fn read(list: &str, text: &str) -> Vec<Scenario> {
    let mut found: Vec<Scenario> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim_end();
        if line.is_empty() {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            found.push(Scenario::new(name));
            continue;
        }
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        let scenario = found.last_mut().unwrap_or_else(|| panic!("{list}.txt begins without a name"));
        let known = scenario.set(list, key, value.trim());
        assert!(known.is_some(), "{list}.txt, line {}: {line:?}", number + 1);
    }
    found
}

impl Scenario {
    fn new(name: &str) -> Scenario {
        Scenario {
            name: name.to_owned(),
            cases: Vec::new(),
            payload: Payload::Empty,
            whens: Vec::new(),
            scripts: Vec::new(),
            sync: false,
            checks: 1,
            retry: (1, 5),
            chain: Vec::new(),
            statuses: Vec::new(),
            after: After::Old,
            new_provides: false,
            sends: None,
            steps: Vec::new(),
            only: None,
            daemon: false,
        }
    }

    fn set(&mut self, list: &str, key: &str, value: &str) -> Option<()> {
        let words: Vec<&str> = value.split_whitespace().collect();
        match key {
            "case" => self.cases.extend(words.iter().map(|n| format!("{list} {n}"))),
            "empty" => self.payload = Payload::Empty,
            "module" => {
                let [reboot, rollback] = words[..] else { return None };
                self.payload = Payload::Module { reboot: reboot.to_owned(), rollback: rollback.to_owned() };
            }
            "when" => self.whens.push(when(&words)?),
            "scripts" => self.scripts.extend(words.iter().map(|&s| s.to_owned())),
            "sync" => self.sync = true,
            "daemon" => self.daemon = true,
            "checks" => self.checks = value.parse().ok()?,
            "retry" => self.retry = (words.first()?.parse().ok()?, words.get(1)?.parse().ok()?),
            "chain" => {
                let items = self.chain_of(&words)?;
                self.chain.extend(items);
            }
            "status" => self.statuses = words.iter().map(|&s| s.to_owned()).collect(),
            "name" => {
                self.after = match value {
                    "old" => After::Old,
                    "new" => After::New,
                    "inconsistent" => After::Inconsistent,
                    _ => return None,
                };
                self.new_provides = value == "new";
            }
            "provides" => self.new_provides = value == "new",
            "sends" => self.sends = Some((words.first()?.parse().ok()?, words.get(1)?.parse().ok()?)),
            "run" => {
                let (command, end) = value.split_once(" => ")?;
                let (code, says) = end.split_once(':').unwrap_or((end, ""));
                let lines = says.split(" / ").map(str::trim).filter(|l| !l.is_empty());
                self.steps.push(Step {
                    args: command.split_whitespace().map(str::to_owned).collect(),
                    code: if code == "killed" { None } else { Some(code.parse().ok()?) },
                    says: lines.fold(String::new(), |mut text, line| {
                        let _ = writeln!(text, "{line}");
                        text
                    }),
                });
            }
            "only" => {
                let (runner, reason) = value.split_once(": ")?;
                self.only = Some((runner.to_owned(), reason.to_owned()));
            }
            _ => return None,
        }
        Some(())
    }

    /// Whether the machine restarts by the agent's `reboot`.
    pub fn automatic(&self) -> bool {
        matches!(&self.payload, Payload::Module { reboot, .. } if reboot == "Automatic")
    }

    /// The abbreviations of the reference's list, written out.
    fn chain_of(&self, words: &[&str]) -> Option<Vec<Item>> {
        let restart = |call| if self.automatic() { "reboot" } else { call };
        let mut items = Vec::new();
        let mut words = words.iter();
        while let Some(&word) = words.next() {
            let part: Vec<&str> = match word {
                "DL" => vec!["Download_Enter", "Download", "Download_Leave"],
                "IN" => vec!["ArtifactInstall_Enter", "ArtifactInstall", "ArtifactInstall_Leave"],
                "RE" => vec![
                    "ArtifactReboot_Enter",
                    restart("ArtifactReboot"),
                    "ArtifactVerifyReboot",
                    "ArtifactReboot_Leave",
                ],
                "CO" => vec!["ArtifactCommit_Enter", "ArtifactCommit", "ArtifactCommit_Leave"],
                "RB" => vec!["ArtifactRollback_Enter", "ArtifactRollback", "ArtifactRollback_Leave"],
                "RR" => vec![
                    "ArtifactRollbackReboot_Enter",
                    restart("ArtifactRollbackReboot"),
                    "ArtifactVerifyRollbackReboot",
                    "ArtifactRollbackReboot_Leave",
                ],
                "FA" => vec!["ArtifactFailure_Enter", "ArtifactFailure", "ArtifactFailure_Leave"],
                "CL" => vec!["Cleanup"],
                "SY" => vec!["Idle_Leave", "Sync_Enter", "Sync_Leave", "Idle_Enter"],
                _ if word.ends_with("x[") => {
                    let (least, most) = word.trim_end_matches("x[").split_once('-')?;
                    let of = words.by_ref().take_while(|w| **w != "]").map(|w| (*w).to_owned()).collect();
                    items.push(Item::Repeat(least.parse().ok()?, most.parse().ok()?, of));
                    continue;
                }
                _ => vec![word],
            };
            items.extend(part.into_iter().map(|event| Item::One(event.to_owned())));
        }
        Some(items)
    }

    /// Names of the scripts: file name, and the event that it is.
    pub fn all_scripts(&self) -> Vec<(String, Event)> {
        let mut list: Vec<(String, Event)> = Vec::new();
        let more: &[&str] = if self.sync { &["Idle", "Sync"] } else { &[] };
        for step in STEPS.iter().chain(more) {
            for action in ["Enter", "Leave", "Error"] {
                let set = format!("{step}_{action}");
                let replaced = self.scripts.iter().any(|s| s.starts_with(&format!("{set}_")));
                if !replaced {
                    list.push((format!("{set}_00"), set));
                }
            }
        }
        list.extend(self.scripts.iter().map(|name| (name.clone(), name.clone())));
        list
    }

    /// What is wrong with this chain of events, if something is.
    pub fn judge(&self, chain: &[Event], idle: bool) -> Option<String> {
        let seen: Vec<&Event> = chain.iter().filter(|e| !QUESTIONS.contains(&e.as_str())).collect();
        let mut rest = &seen[..];
        for item in &self.chain {
            match item {
                Item::One(event) if !idle && event.starts_with("Idle_") => {}
                Item::One(event) => {
                    if rest.first() != Some(&event) {
                        return Some(format!("{event} was expected, then came {rest:?}"));
                    }
                    rest = &rest[1..];
                }
                Item::Repeat(least, most, of) => {
                    let mut count = 0;
                    while rest.len() >= of.len() && rest.iter().zip(of).all(|(a, b)| *a == b) {
                        (rest, count) = (&rest[of.len()..], count + 1);
                    }
                    if count < *least || count > *most {
                        return Some(format!("{of:?} {count} times, then {rest:?}"));
                    }
                }
            }
        }
        (!rest.is_empty()).then(|| format!("more than expected: {rest:?}"))
    }

    /// How many Idle and Sync scripts the expected chain ends with.
    pub fn tail(&self) -> usize {
        let around =
            |i: &&Item| matches!(i, Item::One(e) if e.starts_with("Idle_") || e.starts_with("Sync_"));
        self.chain.iter().rev().take_while(around).count()
    }

    /// The name of what is installed in the end.
    pub fn name_after(&self) -> &'static str {
        match self.after {
            After::Old => "release-1",
            After::New => "release-2",
            After::Inconsistent => "release-2_INCONSISTENT",
        }
    }

    /// How often the final report and the log are sent.
    pub fn expected_sends(&self) -> (usize, usize) {
        let failed = self.statuses.iter().any(|s| s == "failure");
        let ended = failed || self.statuses.iter().any(|s| s == "success");
        self.sends.unwrap_or((usize::from(ended), usize::from(failed)))
    }
}

/// Steps that have scripts in every scenario.
const STEPS: [&str; 7] = [
    "Download",
    "ArtifactInstall",
    "ArtifactReboot",
    "ArtifactCommit",
    "ArtifactRollback",
    "ArtifactRollbackReboot",
    "ArtifactFailure",
];

/// Calls that only ask: left out of chains, as in the reference.
pub const QUESTIONS: [&str; 3] = ["ProvidePayloadFileSizes", "SupportsRollback", "NeedsArtifactReboot"];

fn when(words: &[&str]) -> Option<When> {
    Some(match words {
        ["killed", "in", event, times @ ..] => When::Killed((*event).to_owned(), self::times(times)?),
        ["record", state, "unwritable", times @ ..] => {
            When::Unrecorded((*state).to_owned(), self::times(times)?)
        }
        ["unknown", "version", "in", "rootfs", "since", event] => {
            When::Version("rootfs", (*event).to_owned())
        }
        ["unknown", "version", "in", "artifact", "since", event] => {
            When::Version("artifact", (*event).to_owned())
        }
        ["artifact", "unfit"] => When::Unfit,
        ["module", "missing"] => When::NoModule,
        ["server", request, "says", code, times @ ..] => {
            When::Says((*request).to_owned(), code.parse().ok()?, self::times(times)?)
        }
        [event, "fails", times @ ..] => When::Exits((*event).to_owned(), 1, self::times(times)?),
        [event, "exits", code, times @ ..] => {
            When::Exits((*event).to_owned(), code.parse().ok()?, self::times(times)?)
        }
        [event, "prints", text] => When::Prints((*event).to_owned(), (*text).to_owned()),
        _ => return None,
    })
}

fn times(words: &[&str]) -> Option<Times> {
    Some(match words {
        [] => Times { first: 1, last: 1 },
        ["always"] => Times { first: 1, last: usize::MAX },
        [n, "times"] => Times { first: 1, last: n.parse().ok()? },
        ["the", "2nd", "time"] => Times { first: 2, last: 2 },
        _ => return None,
    })
}
