//! The words of `control`.

use super::Words;
use thimble::agent::control::{Action, ExpireAction, Point};

/// Whose word it is that is given by `control pause` and its kind, unless `--id` says otherwise. Spells the name of
/// the program; documented, so that others can replace or delete it.
pub const OUR_ID: &str = "7468696d-626c-8065-8000-000000000000";

/// What is done to update control maps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// `set`: a map as it is.
    Set {
        /// File or `-`.
        source: String,
    },
    /// `show`.
    Show {
        /// `--json`.
        json: bool,
    },
    /// `pause`, `continue`, `force-continue`, `fail`.
    Say {
        /// Whose word.
        who: Who,
        /// What.
        action: Action,
        /// Where; not empty.
        points: Vec<Point>,
        /// `--then`.
        then: Option<ExpireAction>,
        /// `--once`.
        once: bool,
    },
    /// `delete`.
    Delete(Who),
}

/// The identity of a map; not yet known to be valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// `--id`.
    pub id: String,
    /// `--priority`.
    pub priority: i64,
}

/// Options of `control`.
#[derive(Default)]
pub(super) struct Options {
    id: Option<String>,
    priority: Option<i64>,
    then: Option<ExpireAction>,
    once: bool,
    json: bool,
}

impl Options {
    /// Takes one of its options.
    pub(super) fn take(&mut self, option: &str, words: &mut Words) -> Result<(), String> {
        match option {
            "--id" => self.id = Some(words.value(option)?),
            "--priority" => self.priority = Some(words.number(option)?),
            "--then" => {
                let word = words.value(option)?;
                let then = ExpireAction::from_word(&dashes(&word)).ok_or_else(|| {
                    format!("--then cannot be '{word}'; expected continue, force-continue or fail")
                })?;
                self.then = Some(then);
            }
            "--once" => self.once = true,
            _ => self.json = true,
        }
        Ok(())
    }
}

const CONTROLS: &str = "set, show, pause, continue, force-continue, fail or delete";

/// Words of the command line: those of a map with dashes, or as they are there.
fn dashes(word: &str) -> String {
    word.replace('-', "_")
}

/// `install`, `reboot`, `commit`, or the name of the state.
fn point(word: &str) -> Result<Point, String> {
    let point = match word {
        "install" => Some(Point::Install),
        "reboot" => Some(Point::Reboot),
        "commit" => Some(Point::Commit),
        other => Point::from_word(other),
    };
    point.ok_or_else(|| format!("there is no control point '{word}'; expected install, reboot or commit"))
}

/// The rest of `control`, and which options it takes.
pub(super) fn parse(
    plain: &mut impl Iterator<Item = String>,
    options: Options,
) -> Result<(Control, &'static [&'static str]), String> {
    let Options { id, priority, then, once, json } = options;
    let verb = plain.next().ok_or_else(|| format!("control needs a word more; expected {CONTROLS}"))?;
    let who = Who { id: id.unwrap_or_else(|| OUR_ID.to_owned()), priority: priority.unwrap_or(0) };
    let action = match verb.as_str() {
        "set" => {
            let source = plain.next().ok_or("control set needs a file, or - for standard input")?;
            return Ok((Control::Set { source }, &[]));
        }
        "show" => return Ok((Control::Show { json }, &["--json"])),
        "delete" => return Ok((Control::Delete(who), &["--id", "--priority"])),
        other => Action::from_word(&dashes(other))
            .ok_or_else(|| format!("control does not know '{other}'; expected {CONTROLS}"))?,
    };
    let points = plain.map(|word| point(&word)).collect::<Result<Vec<Point>, String>>()?;
    if points.is_empty() {
        return Err(format!("control {verb} needs at least one of install, reboot, commit"));
    }
    let takes: &[&str] = match action {
        Action::Pause => &["--id", "--priority", "--then", "--once"],
        Action::Continue | Action::ForceContinue | Action::Fail => &["--id", "--priority"],
    };
    Ok((Control::Say { who, action, points, then, once }, takes))
}
