//! `control show`: the maps, and what would happen at each point of an update now. For a person on a serial console:
//! ASCII, 80 columns where IDs let it. With `--json` for programs.

use super::super::args::OUR_ID;
use super::super::controls::pool_store;
use super::super::say;
use super::super::setup::Place;
use std::time::Duration;
use thimble::agent::control::{
    Action, Explanation, Lifetimes, Listed, Point, Pool, StateRule, Verdict, spoken,
};
use thimble::agent::{Record, State};
use thimble::json::{self, Array, Number, Value};
use thimble::sys::clock;

/// Most files of a kind that are listed.
const MOST_FILES: usize = 20;

/// Prints everything.
pub fn show(place: &Place, pool: &Pool, lives: Lifetimes, as_json: bool) {
    let now = clock::since_boot();
    let seen = Seen {
        lives,
        maps: pool.maps(now).collect(),
        points: Point::ALL.map(|point| pool.explain(point, now)),
        update: place.journal().look().map_err(|e| e.to_string()),
        files: Files::find(place),
    };
    if as_json {
        say(&json::write(&seen.to_value()));
    } else {
        seen.lines().iter().for_each(|line| say(line));
    }
}

/// All that is shown.
struct Seen<'a> {
    lives: Lifetimes,
    maps: Vec<Listed<'a>>,
    points: [Explanation; 3],
    update: std::result::Result<Option<Record>, String>,
    files: Files,
}

impl Seen<'_> {
    fn lines(&self) -> Vec<String> {
        let mut lines = vec![match &self.update {
            Err(e) => format!("update: not known ({e})"),
            Ok(None) => "update: none in progress".to_owned(),
            Ok(Some(record)) if record.state.deployment() == Some("") => {
                "update: one by hand is in progress; it asks no maps".to_owned()
            }
            Ok(Some(record)) => {
                let id = record.state.deployment().unwrap_or_default();
                match paused(record) {
                    Some(point) => {
                        let mut line =
                            format!("update: deployment {id}\n  is paused before {}", point.spoken());
                        // A pause of one decision holds until the next.
                        if self.points.iter().any(|e| e.point == point && e.verdict != Verdict::Pause) {
                            line.push_str(", until the maps are asked again");
                        }
                        line
                    }
                    None => format!("update: deployment {id}\n  is in progress ({})", record.state.name()),
                }
            }
        }];
        lines.push("points, and what an update would do there now:".to_owned());
        lines.extend(self.points.iter().map(explained));
        match self.maps.is_empty() {
            true => lines.push("maps: none".to_owned()),
            false => lines.push("maps, the highest priority first:".to_owned()),
        }
        for listed in &self.maps {
            let map = listed.map;
            let whose = if map.id() == OUR_ID { " (thimble control)" } else { "" };
            lines.push(format!("  {}, priority {}{whose}", map.id(), map.priority()));
            lines.push(match listed.expires_in {
                Some(left) => format!("    expires in {}", spoken(left)),
                None => "    has expired, and goes when no update is in progress".to_owned(),
            });
            lines.extend(map.rules().map(|(point, what)| format!("    {}", rule(point, what))));
        }
        let waiting = match &self.files.trouble {
            None => "files that the next thimble at work takes in".to_owned(),
            Some(why) => format!("files that are not used because of their directory: {why}"),
        };
        for (files, what) in [
            (&self.files.waiting, waiting.as_str()),
            (&self.files.refused, "files that were refused; the log has the reasons"),
        ] {
            if !files.is_empty() {
                lines.push(format!("{what}:"));
                lines.extend(files.iter().map(|file| format!("  {file}")));
            }
        }
        let [normal, boot] = [self.lives.normal, self.lives.boot].map(spoken);
        lines.push(format!("a map lives {normal}, after a restart of the machine {boot}"));
        lines
    }

    fn to_value(&self) -> Value {
        let maps = self.maps.iter().map(|listed| {
            let mut value = listed.map.to_value();
            if let Value::Object(members) = &mut value {
                members.insert("expires_in".into(), seconds(listed.expires_in));
            }
            value
        });
        let points = self.points.iter().map(|explanation| {
            let by = explanation.voice.as_ref().map_or(Value::Null, |voice| {
                object([
                    ("id", text(&voice.id)),
                    ("priority", Value::Number(Number::I64(voice.priority.into()))),
                    ("action", text(voice.says.word())),
                    ("on_map_expire", text(voice.at_expiry.word())),
                    ("on_action_executed", text(voice.afterwards.word())),
                    ("expires_in", seconds(voice.expires_in)),
                ])
            });
            let members = [("verdict", text(explanation.verdict.word())), ("by", by)];
            (explanation.point.word().to_owned(), object(members))
        });
        let update = match &self.update {
            Err(e) => object([("error", text(e))]),
            Ok(None) => Value::Null,
            Ok(Some(record)) => object([
                ("deployment", text(record.state.deployment().unwrap_or_default())),
                ("state", text(record.state.name())),
                ("paused_before", paused(record).map_or(Value::Null, |point| text(point.word()))),
            ]),
        };
        let files = |files: &[String]| Value::Array(files.iter().map(|file| text(file)).collect::<Array>());
        object([
            ("maps", Value::Array(maps.collect::<Array>())),
            ("points", Value::Object(points.collect())),
            ("update", update),
            ("files_waiting", files(&self.files.waiting)),
            ("files_refused", files(&self.files.refused)),
            ("lifetime", seconds(Some(self.lives.normal))),
            ("boot_lifetime", seconds(Some(self.lives.boot))),
            ("refresh_timeout", Value::Number(Number::U64(self.lives.refresh_timeout_s()))),
        ])
    }
}

/// What would happen at a point, and why.
fn explained(explanation: &Explanation) -> String {
    let head = format!("  {:<9}{}: ", explanation.point.spoken(), explanation.verdict.word());
    match &explanation.voice {
        Some(voice) => format!("{head}{};\n           {}", voice.name(), voice.terms()),
        None => format!("{head}no map objects"),
    }
}

/// What a map says at a point, all of it.
pub fn rule(point: Point, rule: StateRule) -> String {
    let StateRule { action, on_map_expire, on_action_executed } = rule;
    let mut text = format!("{}: {}", point.spoken(), action.spoken());
    if on_action_executed != action {
        text.push_str(&format!(" once, then {}", on_action_executed.spoken()));
    }
    let expired = Action::from(on_map_expire);
    if expired != action {
        text.push_str(&format!("; {} once expired", expired.spoken()));
    }
    text
}

/// Where the update waits, if the maps say so.
fn paused(record: &Record) -> Option<Point> {
    match record.state {
        State::SendPauseInstall(_) | State::PauseInstall(_) => Some(Point::Install),
        State::SendPauseReboot(_) | State::PauseReboot(_) => Some(Point::Reboot),
        State::SendPauseCommit(_) | State::PauseCommit(_) => Some(Point::Commit),
        _ => None,
    }
}

/// What is in the directory for dropped-in maps.
struct Files {
    /// To be taken in.
    waiting: Vec<String>,
    /// Set aside.
    refused: Vec<String>,
    /// Why the first ones will not be taken in either.
    trouble: Option<String>,
}

impl Files {
    fn find(place: &Place) -> Files {
        let store = pool_store(place);
        let [_, directory] = store.directories();
        let mut names: Vec<String> = std::fs::read_dir(directory)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().escape_debug().to_string())
            .collect();
        names.sort();
        let some = |wanted: fn(&str) -> bool| -> Vec<String> {
            names.iter().filter(|name| wanted(name)).take(MOST_FILES).cloned().collect()
        };
        Files {
            waiting: some(|name| name.ends_with(".json") && !name.starts_with('.')),
            refused: some(|name| name.ends_with(".json.refused")),
            trouble: store.drop_in_trouble(),
        }
    }
}

fn text(word: &str) -> Value {
    Value::String(word.to_owned())
}

/// Whole seconds; `null`: over.
fn seconds(length: Option<Duration>) -> Value {
    length.map_or(Value::Null, |length| Value::Number(Number::U64(length.as_secs())))
}

fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}
