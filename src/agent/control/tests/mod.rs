//! What update-control.md promises, one statement after the other.

use super::*;
use miniserde::json::{self, Value};
use std::time::Duration;

mod map;
mod pool;
mod stored;

const ID: &str = "01234567-89ab-cdef-0123-456789abcdef";
const OTHER: &str = "11111111-2222-3333-4444-555555555555";
const LIVES: Lifetimes = Lifetimes { normal: Duration::from_secs(600), boot: Duration::from_secs(100) };
const POLL: Duration = Duration::from_secs(1800);

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn value(text: &str) -> Value {
    json::from_str(text).unwrap_or_else(|_| panic!("not JSON: {text}"))
}

fn parse(text: &str) -> Result<Option<ControlMap>, MapError> {
    ControlMap::parse(&value(text))
}

/// A map; `states` without its braces.
fn map(id: &str, priority: i64, states: &str) -> ControlMap {
    let text = format!(r#"{{"id":"{id}","priority":{priority},"states":{{{states}}}}}"#);
    parse(&text).expect("a valid map").expect("a map")
}

/// A map that says this before ArtifactInstall, with defaults.
fn says(id: &str, priority: i64, action: &str) -> ControlMap {
    map(id, priority, &format!(r#""ArtifactInstall_Enter":{{"action":"{action}"}}"#))
}

fn pool(maps: &[ControlMap]) -> Pool {
    let mut pool = Pool::default();
    for map in maps {
        assert_eq!(pool.insert(map.clone(), s(0), &LIVES), Ok(Change::Added));
    }
    pool
}

fn verdict(maps: &[ControlMap]) -> Verdict {
    pool(maps).verdict(Point::Install, s(1))
}

fn refusal(text: &str) -> String {
    parse(text).expect_err(text).to_string()
}

fn install_rule(text: &str) -> Option<StateRule> {
    map(ID, 0, &format!(r#""ArtifactInstall_Enter":{text}"#)).rule(Point::Install)
}
