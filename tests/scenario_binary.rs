//! The tables of scenarios, played by the real program: `check`, some also by the daemon, with an Update Module and
//! state scripts that note what happens. `scenario_machine.rs` plays the same without any I/O.
#![allow(clippy::expect_used, clippy::panic)] // These are tests.

#[path = "scenarios/stage.rs"]
mod stage;
#[path = "scenarios/table.rs"]
mod table;

use stage::{Played, Stage};
use table::Scenario;

#[track_caller]
fn assert_played(scenario: &Scenario, played: &Played, daemon: bool) {
    let story = format!("{} (daemon: {daemon}): {}", scenario.name, played.story);
    assert_eq!(scenario.judge(&played.chain, daemon), None, "{story}");
    assert_eq!(played.statuses, scenario.statuses, "{story}");
    assert_eq!(played.sends, scenario.expected_sends(), "{story}");
    assert_eq!(played.name, scenario.name_after(), "{story}");
    assert_eq!(played.provides.contains("version=release-2\n"), scenario.new_provides, "{story}");
    // `check` tells its caller what the server was told.
    match (played.code, scenario.statuses.last().map(String::as_str)) {
        (Some(code), Some("success")) => assert_eq!(code, 0, "{story}"),
        (Some(code), Some("failure")) => assert!(code == 5 || code == 1 && story.contains("1000"), "{story}"),
        _ => {}
    }
}

fn play(name: &str) {
    let scenario = table::named(name);
    if !scenario.steps.is_empty() {
        assert_played(&scenario, &Stage::of(&scenario).steps(&scenario), false);
        return;
    }
    assert_played(&scenario, &Stage::of(&scenario).check(&scenario), false);
    if scenario.daemon {
        assert_played(&scenario, &Stage::of(&scenario).daemon(&scenario), true);
    }
}

macro_rules! both { ($($name:ident)*) => {
    $(#[test] fn $name() { play(stringify!($name)); })*
    const BOTH: &[&str] = &[$(stringify!($name)),*];
} }
macro_rules! only_binary { ($($name:ident)*) => {
    $(#[test] fn $name() { play(stringify!($name)); })*
    const BINARY: &[&str] = &[$(stringify!($name)),*];
} }
macro_rules! only_machine { ($($name:ident)*) => {
    const MACHINE: &[&str] = &[$(stringify!($name)),*];
} }
include!("scenarios/names.rs");

#[test]
fn every_scenario_of_the_tables_has_its_test() {
    table::assert_complete("scenario_binary.rs", BOTH, MACHINE, BINARY);
}
