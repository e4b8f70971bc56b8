//! `control`: update control maps, set and shown by a person or an application on the device.
//!
//! None of it takes the lock of the data store: a daemon may be at work, and wakes by itself when maps change.

mod show;

use super::args::{Control, Who};
use super::controls::{lives, pool_store};
use super::setup::Place;
use super::{complain, say};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::process::ExitCode;
use thimble::agent::control::{
    Action, Change, ControlMap, ExpireAction, Lifetimes, MapError, Point, Pool, Refused, spoken,
};
use thimble::error::{Context, Error, Result};
use thimble::json::{self, Number, Object, Value};
use thimble::store::Moment;
use thimble::sys::{clock, file};

/// Longest map that is read: that of a dropped-in one.
const LARGEST: u64 = 16 << 10;

/// Does what is asked for.
///
/// # Errors
/// `CONTROL-MAP`: the map is not valid. `CONTROL-PERMISSION`. `CONTROL-LIFETIME`: a pause would not last. And those of
/// [`thimble::store::PoolStore::modify`].
pub fn run(place: &Place, what: Control) -> Result<ExitCode> {
    match what {
        Control::Show { json } => {
            let pool = pool_store(place).read().map_err(|e| hinted(place, e))?;
            show::show(place, &pool, lives(place), json);
        }
        Control::Set { source } => {
            let map = read(&source)?;
            change(place, |_| Ok(map.clone()))?;
        }
        Control::Say { who, action, points, then, once } => {
            let blank = blank(&who)?;
            if action == Action::Pause && lives(place).normal.is_zero() {
                return Err(Error::new(
                    "CONTROL-LIFETIME",
                    format!("not set, it could not pause: {AT_ONCE}"),
                ));
            }
            let word = Word { action, then, once };
            change(place, |pool| merged(pool, &blank, &points, &word))?;
        }
        Control::Delete(who) => {
            let blank = blank(&who)?;
            change(place, |_| Ok(blank.clone()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

const AT_ONCE: &str = "update control maps expire at once on this device; give UpdateControlMapExpirationTimeSeconds (or \
                       UpdatePollIntervalSeconds, they live twice that) in mender.conf";

/// Sets the map that `make` makes of the pool; says what came of it: for people on standard error, the seconds until it
/// should be set again on standard output (K21).
fn change(place: &Place, make: impl Fn(&Pool) -> Result<ControlMap>) -> Result<()> {
    let set = |pool: &mut Pool, at: Moment| -> Result<(ControlMap, Change, Vec<i8>)> {
        let map = make(pool)?;
        let change = pool.insert(map.clone(), at.now, &at.lives).map_err(full)?;
        let namesakes = pool.maps(at.now).map(|listed| listed.map);
        let others = namesakes.filter(|other| other.id() == map.id() && !other.same_as(&map));
        let others = others.map(ControlMap::priority).collect();
        Ok((map, change, others))
    };
    let (map, change, others) = pool_store(place).modify(set).map_err(|e| hinted(place, e))??;
    let lives = lives(place);
    complain(&told(&map, change, &others, lives));
    say(&lives.refresh_timeout_s().to_string());
    Ok(())
}

fn full(e: Refused) -> Error {
    Error::new("CONTROL-FULL", format!("{e} (thimble control show lists them)"))
}

fn told(map: &ControlMap, change: Change, others: &[i8], lives: Lifetimes) -> String {
    let name = format!("update control map {} (priority {})", map.id(), map.priority());
    match change {
        Change::Added | Change::Replaced => {
            let rules = map.rules().map(|(point, rule)| format!("\n  {}", show::rule(point, rule)));
            let (half, life) = (spoken(lives.normal / 2), spoken(lives.normal));
            let rules = rules.collect::<String>();
            format!("{name} is set\n  lives {life}; to keep it, set it again within {half}{rules}")
        }
        Change::Deleted => format!("{name} is deleted{}", stay(others)),
        Change::Nothing => format!("{name}: there is none, nothing has changed{}", stay(others)),
    }
}

/// Whoever takes back what was said should know what else the same voice says.
fn stay(others: &[i8]) -> String {
    if others.is_empty() {
        return String::new();
    }
    let priorities: Vec<String> = others.iter().map(i8::to_string).collect();
    format!("\n  the maps of the same ID with these priorities stay: {}", priorities.join(", "))
}

/// A map that says nothing.
fn blank(who: &Who) -> Result<ControlMap> {
    let mut members = Object::new();
    members.insert("id".into(), Value::String(who.id.clone()));
    members.insert("priority".into(), Value::Number(Number::I64(who.priority)));
    parsed(&Value::Object(members)).map_err(|e| Error::new("CONTROL-MAP", format!("option --{}", text(&e))))
}

fn parsed(value: &Value) -> std::result::Result<ControlMap, MapError> {
    let nothing =
        || MapError { path: Vec::new(), found: "null".into(), allowed: "an object of id, priority, states" };
    ControlMap::parse(value)?.ok_or_else(nothing)
}

/// Without the words that every such error begins with.
fn text(e: &MapError) -> String {
    let text = e.to_string();
    text.strip_prefix("update control map: ").unwrap_or(&text).to_owned()
}

/// What it says at a point.
struct Word {
    action: Action,
    then: Option<ExpireAction>,
    once: bool,
}

impl Word {
    fn to_value(&self) -> Value {
        let mut rule = Object::new();
        let mut say = |member: &str, word: &str| rule.insert(member.into(), Value::String(word.into()));
        say("action", self.action.word());
        if self.once {
            say("on_action_executed", Action::Continue.word());
        }
        // A pause that ends by itself allows the update; that nobody came to use it must not forbid the next one.
        if let Some(then) = self.then.or_else(|| self.once.then_some(ExpireAction::Continue)) {
            say("on_map_expire", then.word());
        }
        Value::Object(rule)
    }
}

/// The map that is there, saying something else at some points.
fn merged(pool: &Pool, blank: &ControlMap, points: &[Point], word: &Word) -> Result<ControlMap> {
    let old = pool.maps(clock::since_boot()).find(|listed| listed.map.same_as(blank));
    let mut value = old.map_or(blank, |listed| listed.map).to_value();
    if let Value::Object(members) = &mut value
        && let Some(Value::Object(states)) = members.get_mut("states")
    {
        states.extend(points.iter().map(|point| (point.word().to_owned(), word.to_value())));
    }
    parsed(&value).map_err(|e| Error::new("CONTROL-MAP", text(&e)))
}

/// Reads a map from a file or standard input.
fn read(source: &str) -> Result<ControlMap> {
    let what = if source == "-" { "standard input" } else { source };
    let content = content(source).context("CONTROL-MAP", || format!("cannot read {what}"))?;
    if content.len() as u64 > LARGEST {
        return Err(Error::new("CONTROL-MAP", format!("{what} is longer than {LARGEST} bytes: not a map")));
    }
    let value = json::parse_bytes(&content, "CONTROL-MAP", what)?;
    parsed(&value).map_err(|e| {
        let path: Vec<&str> = e.path.iter().map(String::as_str).collect();
        let place = json::position(&String::from_utf8_lossy(&content), &path)
            .map_or(String::new(), |(line, column)| format!(", line {line}, column {column}"));
        Error::new("CONTROL-MAP", format!("{what}{place}: {}", text(&e)))
    })
}

/// One byte more than is allowed, at most.
fn content(source: &str) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    if source == "-" {
        io::stdin().lock().take(LARGEST + 1).read_to_end(&mut content)?;
    } else {
        File::open(source)?.take(LARGEST + 1).read_to_end(&mut content)?;
    }
    Ok(content)
}

/// The same error with what to do about it.
fn hinted(place: &Place, e: Error) -> Error {
    let store = &place.dirs.datastore;
    if e.code == "CONTROL-DAMAGED" {
        let next = "`thimble check`, or the daemon once it is idle, starts anew; an update in progress fails";
        return Error::new(e.code, format!("{} ({next})", e.text));
    }
    // Whatever refused: the lock, the record, its directory.
    let denied = [EACCES, EPERM, EROFS].iter().any(|n| e.text.contains(&format!("(os error {n})")));
    if !denied {
        return e;
    }
    let owner = std::fs::metadata(store).map(|meta| format!(", the property of user {}", meta.uid()));
    let next = format!(
        "update control needs permission to read and write the data store {}{}, and this is user {}",
        store.display(),
        owner.unwrap_or_default(),
        file::own_uid()
    );
    Error::new("CONTROL-PERMISSION", format!("{}; {next}", e.text))
}

const EPERM: i32 = 1;
const EACCES: i32 = 13;
const EROFS: i32 = 30;
