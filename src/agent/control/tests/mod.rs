//! What update-control.md promises, one statement after the other.

use super::*;
use miniserde::json::{self, Value};

mod map;

const ID: &str = "01234567-89ab-cdef-0123-456789abcdef";
const OTHER: &str = "11111111-2222-3333-4444-555555555555";

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

fn refusal(text: &str) -> String {
    parse(text).expect_err(text).to_string()
}

fn install_rule(text: &str) -> Option<StateRule> {
    map(ID, 0, &format!(r#""ArtifactInstall_Enter":{text}"#)).rule(Point::Install)
}
