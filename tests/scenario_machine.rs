//! The tables of scenarios, played by the pure machine: driver and policy over ports in memory.
//! `scenario_binary.rs` plays the same with the real program.
#![allow(clippy::expect_used, clippy::panic)] // These are tests.

#[path = "scenarios/table.rs"]
mod table;
#[path = "scenarios/world.rs"]
mod world;

use table::Scenario;

#[track_caller]
fn assert_played(scenario: &Scenario, daemon: bool) {
    let world = world::play(scenario, daemon);
    let how = if daemon { "daemon" } else { "check" };
    let story = format!("{} ({how}): {:#?}", scenario.name, world.chain);
    assert_eq!(scenario.judge(&world.chain, daemon), None, "{story}");
    assert_eq!(world.statuses, scenario.statuses, "{story}");
    assert_eq!((world.final_reports, world.logs), scenario.expected_sends(), "{story}");
    assert_eq!(world.installed.name, scenario.name_after(), "{story}");
    let version = if scenario.new_provides { "release-2" } else { "release-1" };
    assert_eq!(world.installed.provides["payload.version"], version, "{story}");
    assert_eq!(world.installed.provides["before"], "kept", "{story}");
}

fn play(name: &str) {
    let scenario = table::named(name);
    assert_played(&scenario, false);
    // One more poll is another day for the daemon.
    if scenario.steps.is_empty() && scenario.checks == 1 {
        assert_played(&scenario, true);
    }
}

macro_rules! both { ($($name:ident)*) => {
    $(#[test] fn $name() { play(stringify!($name)); })*
    const BOTH: &[&str] = &[$(stringify!($name)),*];
} }
macro_rules! only_machine { ($($name:ident)*) => {
    $(#[test] fn $name() { play(stringify!($name)); })*
    const MACHINE: &[&str] = &[$(stringify!($name)),*];
} }
macro_rules! only_binary { ($($name:ident)*) => {
    const BINARY: &[&str] = &[$(stringify!($name)),*];
} }
include!("scenarios/names.rs");

#[test]
fn every_scenario_of_the_tables_has_its_test() {
    table::assert_complete("scenario_machine.rs", BOTH, MACHINE, BINARY);
}
