//! The power is cut right before every single change that the agent makes to a file. Whatever happens, the device ends
//! with the old system or the new one, whole, under its right name, and the server hears the truth.
//!
//! Changes that nobody can see yet are left out; `THIMBLE_ALL_CUTS=1` cuts there, too.
#![allow(clippy::expect_used, clippy::panic)] // These are tests.

use thimble_testkit::cut::{self, CutEnd, Tally};
use thimble_testkit::{ID, Scene};

const THIMBLE: &str = env!("CARGO_BIN_EXE_thimble");

/// Where it ends: the rule is in update-process.md 4.2, "resume".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Old,
    New,
}

/// Panics unless the scene has ended like this. A cut between the final report and the end of the record repeats the
/// report; never is another one sent.
#[track_caller]
fn assert_end(scene: &mut Scene, end: End, code: Option<i32>, what: &str) {
    eprintln!("{what}: {end:?}");
    let mut finals = scene.finals();
    finals.dedup();
    match end {
        End::Old => {
            assert_eq!(finals, ["failure"], "{what}\n{}", scene.device.log());
            assert!(!scene.server.logs(ID).is_empty(), "{what}: no log of the deployment");
            scene.assert_old();
            assert_eq!(code.unwrap_or(5), 5, "{what}");
        }
        End::New => {
            assert_eq!(finals, ["success"], "{what}\n{}", scene.device.log());
            scene.assert_new();
            assert_eq!(code.unwrap_or(0), 0, "{what}");
        }
    }
}

/// What a cut leaves running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// Nothing: the device boots.
    Power,
    /// Everything but the agent, as when memory runs out.
    Agent,
}

/// An update with a cut right before the change after `left` ones; then to its end.
fn cut_update(left: Option<usize>, cut: Cut, bad: bool) -> (Scene, Tally, Option<i32>) {
    let mut scene = Scene::new("cut", THIMBLE);
    let name = "ArtifactCommit_Enter_00";
    let body = if bad { "exit 1" } else { "" };
    scene.offer(&Scene::release().script(name, &scene.script(name, body)));
    let mut tally = Tally { left, ..Tally::default() };
    for _ in 0..6 {
        match cut::run(&scene.device, scene.thimble(), &["check"], &mut tally) {
            CutEnd::Exit(code) => return (scene, tally, Some(code)),
            CutEnd::Killed => scene.device.boot(),
            CutEnd::Cut => {
                if cut == Cut::Power {
                    scene.device.boot();
                }
                scene.update();
                // Cut after the final report, the second run has nothing to say of it.
                return (scene, tally, None);
            }
        }
    }
    panic!("no end:\n{}", scene.device.log());
}

/// The changes at which a cut matters. Nobody reads a new file before it is renamed, nor the lock: a cut there is like
/// one at the next change.
fn places(changes: &[String]) -> Vec<usize> {
    let all = std::env::var_os("THIMBLE_ALL_CUTS").is_some();
    let matters = |change: &str| all || !(change.ends_with(".new") || change.ends_with("thimble.lock"));
    (0..changes.len()).filter(|place| matters(&changes[*place])).collect()
}

/// Whether it ends in the old system or in the new one may depend on the place; a whole one it is everywhere.
fn assert_every_cut_is_survived(cut: Cut, bad: bool) {
    let (mut scene, uncut, code) = cut_update(None, cut, bad);
    assert_end(&mut scene, if bad { End::Old } else { End::New }, code, "uncut");
    let places = places(&uncut.changes);
    assert!(places.len() > 25, "{:#?}", uncut.changes);
    let mut ends = Vec::new();
    for place in places {
        let (mut scene, tally, code) = cut_update(Some(place), cut, bad);
        let what = format!("{place}: {}", tally.changes.last().map_or("", String::as_str));
        let success = scene.finals().last().is_some_and(|last| last == "success");
        let end = if success { End::New } else { End::Old };
        assert!(!bad || end == End::Old, "{what}");
        assert_end(&mut scene, end, code, &what);
        ends.push(end);
    }
    assert!(bad || ends.contains(&End::Old) && ends.contains(&End::New), "{ends:?}");
}

#[test]
fn power_cut_before_any_change_in_a_good_update() {
    assert_every_cut_is_survived(Cut::Power, false);
}

#[test]
fn power_cut_before_any_change_in_an_update_that_is_taken_back() {
    assert_every_cut_is_survived(Cut::Power, true);
}

#[test]
fn agent_killed_before_any_change_in_a_good_update() {
    assert_every_cut_is_survived(Cut::Agent, false);
}

#[test]
fn agent_killed_before_any_change_in_an_update_that_is_taken_back() {
    assert_every_cut_is_survived(Cut::Agent, true);
}

/// `install`, a boot, `commit`, with a power cut; then `resume` after each boot until there is nothing to resume.
fn cut_install(left: Option<usize>) -> (Scene, Tally) {
    let mut scene = Scene::new("install", THIMBLE);
    let artifact = scene.artifact(&Scene::release()).display().to_string();
    let mut tally = Tally { left, ..Tally::default() };
    for args in [&["install", &artifact][..], &["commit"]] {
        let end = cut::run(&scene.device, scene.thimble(), args, &mut tally);
        scene.device.boot();
        match end {
            CutEnd::Exit(code) => assert_eq!(code, 0, "{args:?}"),
            CutEnd::Killed => panic!("nobody else kills it"),
            CutEnd::Cut => break,
        }
    }
    for _ in 0..4 {
        if scene.run(&["resume"]).code == Some(2) {
            return (scene, tally);
        }
        scene.device.boot();
    }
    panic!("no end:\n{}", scene.device.log());
}

#[test]
fn power_cut_before_any_change_of_a_standalone_installation() {
    let (mut scene, uncut) = cut_install(None);
    scene.assert_new();
    for place in places(&uncut.changes) {
        let (mut scene, tally) = cut_install(Some(place));
        eprintln!("{place}: {:?}: slot {}", tally.changes.last(), scene.device.running_slot());
        match scene.device.running_slot() {
            3 => scene.assert_new(),
            _ => scene.assert_old(),
        }
    }
}
