//! The real program is killed in every state script and every module call of an update by a module, on the way forth and
//! on every way back, and started again. What follows is written here as a table of its own, after the resume table of
//! update-process.md 4.2 (with decision 9); the agent's `resume` has no part in it.
#![allow(clippy::expect_used, clippy::panic)] // These are tests.

#[path = "scenarios/stage.rs"]
mod stage;
#[path = "scenarios/table.rs"]
mod table;

use stage::Stage;
use std::fmt::Write as _;
use table::{Times, When};
use thimble_testkit::cut::{self, CutEnd, Tally};
use thimble_testkit::{Act, Rule, What};

const THIMBLE: &str = env!("CARGO_BIN_EXE_thimble");

/// What the journal holds while something happens: the rows of the resume table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stored {
    Nothing,
    /// update-store, but nothing is known of the Artifact yet.
    UpdateFetch,
    UpdateStore,
    UpdateInstall,
    Reboot,
    AfterReboot,
    UpdateCommit,
    UpdateAfterCommit,
    Rollback,
    RollbackReboot,
    AfterRollbackReboot,
    UpdateError,
    Cleanup,
    /// The same, but Cleanup is done: without its tree the module is not called again (M40).
    CleanedUp,
}
use Stored::*;

/// An update: the module's answers, and which call fails, if one does.
#[derive(Debug, Clone, Copy)]
struct Case {
    rollback: bool,
    reboot: &'static str,
    fails: Option<&'static str>,
}

/// How it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    New,
    Old,
    Unknown,
}

/// A sequence of events, each with what is stored meanwhile; and how it ends.
#[derive(Debug, Clone)]
struct Story {
    events: Vec<(Stored, &'static str)>,
    end: End,
}

impl Story {
    fn of(events: &[(Stored, &'static str)], then: Story) -> Story {
        Story { events: [events, &then.events].concat(), end: then.end }
    }

    fn names(&self) -> Vec<&'static str> {
        self.events.iter().map(|(_, name)| *name).collect()
    }
}

impl Case {
    /// The first place on: everything up to and including this call, if it fails.
    fn cut_off(
        self,
        mut events: Vec<(Stored, &'static str)>,
        error: &'static str,
        then: impl FnOnce() -> Story,
    ) -> Story {
        let at = events.iter().position(|(_, name)| Some(*name) == self.fails);
        match at {
            None => Story::of(&events, then()),
            Some(at) => {
                events.truncate(at + 1);
                let stored = events[at].0;
                events.push((stored, error));
                Story::of(&events, self.back())
            }
        }
    }

    /// An update from its beginning.
    fn forth(self) -> Story {
        let download = [
            (UpdateFetch, "Download_Enter"),
            (UpdateStore, "ProvidePayloadFileSizes"),
            (UpdateStore, "Download"),
            (UpdateStore, "Download_Leave"),
            (UpdateStore, "SupportsRollback"),
        ];
        let install = vec![
            (UpdateInstall, "ArtifactInstall_Enter"),
            (UpdateInstall, "ArtifactInstall"),
            (UpdateInstall, "ArtifactInstall_Leave"),
            (UpdateInstall, "NeedsArtifactReboot"),
        ];
        let rest = self.cut_off(install, "ArtifactInstall_Error", || match self.reboot {
            "No" => self.commit(),
            "Yes" => self.restart("ArtifactReboot"),
            _ => self.restart("reboot"),
        });
        Story::of(&download, rest)
    }

    fn restart(self, call: &'static str) -> Story {
        let restart = vec![(Reboot, "ArtifactReboot_Enter"), (Reboot, call)];
        self.cut_off(restart, "ArtifactReboot_Error", || self.after_reboot())
    }

    fn after_reboot(self) -> Story {
        let verify = vec![(AfterReboot, "ArtifactVerifyReboot"), (AfterReboot, "ArtifactReboot_Leave")];
        self.cut_off(verify, "ArtifactReboot_Error", || self.commit())
    }

    fn commit(self) -> Story {
        let commit = vec![(UpdateCommit, "ArtifactCommit_Enter"), (UpdateCommit, "ArtifactCommit")];
        self.cut_off(commit, "ArtifactCommit_Error", || self.committed())
    }

    fn committed(self) -> Story {
        Story::of(&[(UpdateAfterCommit, "ArtifactCommit_Leave")], tidy_up(End::New))
    }

    fn back(self) -> Story {
        if self.rollback { self.rolled_back() } else { failure(End::Unknown) }
    }

    fn rolled_back(self) -> Story {
        let rollback = [
            (Rollback, "ArtifactRollback_Enter"),
            (Rollback, "ArtifactRollback"),
            (Rollback, "ArtifactRollback_Leave"),
            (Rollback, "NeedsArtifactReboot"),
        ];
        let restart = match self.reboot {
            "No" => return Story::of(&rollback, failure(End::Old)),
            "Yes" => "ArtifactRollbackReboot",
            _ => "reboot",
        };
        let restart = [(RollbackReboot, "ArtifactRollbackReboot_Enter"), (RollbackReboot, restart)];
        Story::of(&[&rollback[..], &restart].concat(), after_rollback_reboot())
    }

    /// The resume table: what follows a cut while this was stored.
    fn after_a_cut(self, stored: Stored, end: End) -> Story {
        match stored {
            Nothing => self.forth(),
            UpdateFetch => Story { events: Vec::new(), end: End::Old },
            UpdateStore => tidy_up(End::Old),
            UpdateInstall | AfterReboot | UpdateCommit => self.back(),
            Reboot => self.after_reboot(),
            UpdateAfterCommit => self.committed(),
            Rollback => self.rolled_back(),
            RollbackReboot | AfterRollbackReboot => after_rollback_reboot(),
            UpdateError => failure(end),
            Cleanup => tidy_up(end),
            CleanedUp => Story { events: Vec::new(), end },
        }
    }
}

fn after_rollback_reboot() -> Story {
    let verify = [
        (AfterRollbackReboot, "ArtifactVerifyRollbackReboot"),
        (AfterRollbackReboot, "ArtifactRollbackReboot_Leave"),
    ];
    Story::of(&verify, failure(End::Old))
}

fn failure(end: End) -> Story {
    let failure = [
        (UpdateError, "ArtifactFailure_Enter"),
        (UpdateError, "ArtifactFailure"),
        (UpdateError, "ArtifactFailure_Leave"),
    ];
    Story::of(&failure, tidy_up(end))
}

fn tidy_up(end: End) -> Story {
    Story { events: vec![(Cleanup, "Cleanup")], end }
}

/// A device on which many updates of one case are cut, one after the other.
struct Bench {
    stage: Stage,
    case: Case,
    count: usize,
    /// Name and provides of what is installed.
    installed: (String, String),
    failures: String,
}

impl Bench {
    fn new(case: Case) -> Bench {
        let stage = Stage::new("kill", &[]);
        stage.module(case.reboot, if case.rollback { "Yes" } else { "No" }, &[]);
        for set in ["Download_Enter", "Download_Leave", "Download_Error"] {
            stage.rootfs_script(&format!("{set}_00"), set);
        }
        let installed = ("release-1".to_owned(), stage.scene.provides());
        Bench { stage, case, count: 0, installed, failures: String::new() }
    }

    fn whens(&self, kills: &[(&'static str, usize)]) -> Vec<When> {
        let once = |n| Times { first: n, last: n };
        let kills = kills.iter().map(|(event, n)| When::Killed((*event).to_owned(), once(*n)));
        let fails = self.case.fails.map(|event| When::Exits(event.to_owned(), 1, once(1)));
        kills.chain(fails).collect()
    }

    fn offer(&mut self) -> (String, String) {
        self.count += 1;
        let id = format!("00000000-0000-4000-8000-{:012}", self.count);
        let name = format!("artifact-{}", self.count);
        let steps = ["Install", "Reboot", "Commit", "Rollback", "RollbackReboot", "Failure"];
        let sets = steps
            .iter()
            .flat_map(|step| ["Enter", "Leave", "Error"].map(|action| format!("Artifact{step}_{action}")));
        let scripts: Vec<_> = sets.map(|set| (format!("{set}_00"), set)).collect();
        self.stage.offer(&id, &self.stage.spec(&name, false, &scripts));
        self.stage.forget();
        (id, name)
    }

    /// One update with these kills; afterwards the events must be these.
    fn update(&mut self, kills: &[(&'static str, usize)], expected: &[&str], end: End) {
        let (id, name) = self.offer();
        self.stage.plan(&self.whens(kills));
        let ending = self.stage.scene.device.run_to_end(THIMBLE.as_ref(), 8);
        let what = format!("{:?}, killed in {kills:?}", self.case);
        self.judge(&what, (&id, &name), expected, end);
        let code = if end == End::New { 0 } else { 5 };
        if ending.code != code {
            let _ = writeln!(self.failures, "{what}: exit code {}, expected {code}", ending.code);
        }
    }

    fn judge(&mut self, what: &str, (id, name): (&str, &str), expected: &[&str], end: End) {
        let mut wrong = String::new();
        let chain = self.stage.chain();
        if chain != expected {
            let _ = writeln!(wrong, "  events: {chain:?}\n  expected: {expected:?}");
        }
        let last = self.stage.statuses(id).pop();
        let status = if end == End::New { "success" } else { "failure" };
        if last.as_deref() != Some(status) {
            let _ = writeln!(wrong, "  the server has heard {last:?}, expected {status}");
        }
        let log = self.stage.scene.server.logs(id);
        if (end == End::New) != log.is_empty() {
            let _ = writeln!(wrong, "  the server's log has {} lines", log.len());
        }
        let now = (self.stage.scene.artifact_name(), self.stage.scene.provides());
        let (old_name, old_provides) = std::mem::replace(&mut self.installed, now.clone());
        let without_name = |text: &str| {
            let other = text.lines().filter(|line| !line.starts_with("artifact_name="));
            other.map(str::to_owned).collect::<Vec<_>>()
        };
        let fine = match end {
            End::New => now.0 == name && now.1.contains(&format!("version={name}\n")),
            End::Old => now == (old_name, old_provides),
            End::Unknown => {
                now.0 == format!("{name}_INCONSISTENT") && without_name(&now.1) == without_name(&old_provides)
            }
        };
        if !fine {
            let _ = writeln!(wrong, "  installed is {now:?}, expected {end:?}");
        }
        let tree = self.stage.scene.device.root().join("var/lib/mender/modules/v3/payloads/0000/tree");
        if tree.exists() {
            let _ = writeln!(wrong, "  the tree is still there");
        }
        let violations = self.stage.scene.server.violations();
        if !violations.is_empty() {
            let _ = writeln!(wrong, "  the server does not like {violations:?}");
        }
        if !wrong.is_empty() {
            let _ = writeln!(self.failures, "{what}:\n{wrong}");
        }
    }

    fn finish(self) -> usize {
        assert!(self.failures.is_empty(), "{}\n{}", self.failures, self.stage.scene.device.log());
        self.count
    }
}

/// The name of the n-th event, and which time of it that is.
fn nth(names: &[&'static str], n: usize) -> (&'static str, usize) {
    (names[n], names[..=n].iter().filter(|name| **name == names[n]).count())
}

/// Kills in each event after that one, or in each at all; then also in the first event after each such kill.
fn kill_everywhere(case: Case, after: Option<&str>, twice: bool) {
    let whole = case.forth();
    let names = whole.names();
    let position = |event: &str| names.iter().position(|name| *name == event).expect("it happens");
    let mut bench = Bench::new(case);
    bench.update(&[], &names, whole.end);
    for n in after.map_or(0, |event| position(event) + 1)..names.len() {
        let (stored, killed) = whole.events[n];
        if killed == "reboot" {
            continue; // It is killed there anyway.
        }
        let rest = case.after_a_cut(stored, whole.end);
        bench.update(&[nth(&names, n)], &[&names[..=n], &rest.names()].concat(), rest.end);
        let Some((stored, next)) = rest.events.first().copied().filter(|_| twice) else { continue };
        let again = case.after_a_cut(stored, rest.end);
        let so_far = [&names[..=n], &[next]].concat();
        let kills = [nth(&names, n), nth(&so_far, n + 1)];
        bench.update(&kills, &[&so_far[..], &again.names()].concat(), again.end);
    }
    println!("{case:?} after {after:?}: {} updates", bench.finish());
}

const fn case(reboot: &'static str, rollback: bool) -> Case {
    Case { rollback, reboot, fails: None }
}

/// Every call that can begin a way back, and what follows it up to the end.
fn kill_on_every_way_back(reboot: &'static str, rollback: bool) {
    let restarts = ["ArtifactVerifyReboot", "ArtifactReboot_Enter"];
    for fails in ["ArtifactInstall", "ArtifactCommit"].into_iter().chain(restarts) {
        if reboot == "No" && restarts.contains(&fails) {
            continue;
        }
        kill_everywhere(Case { rollback, reboot, fails: Some(fails) }, Some(fails), false);
    }
}

#[test]
fn killed_anywhere_in_an_update_without_restart_it_ends_as_the_resume_table_says() {
    kill_everywhere(case("No", true), None, true);
}

#[test]
fn killed_anywhere_in_an_update_without_restart_and_without_way_back_it_ends_as_the_resume_table_says() {
    kill_everywhere(case("No", false), None, true);
}

#[test]
fn killed_anywhere_in_an_update_with_a_restart_of_its_own_it_ends_as_the_resume_table_says() {
    kill_everywhere(case("Yes", true), None, true);
}

#[test]
fn killed_anywhere_in_an_update_with_a_restart_of_its_own_and_without_way_back_it_ends_as_the_resume_table_says()
 {
    kill_everywhere(case("Yes", false), None, false);
}

#[test]
fn killed_anywhere_in_an_update_with_a_restart_by_the_agent_it_ends_as_the_resume_table_says() {
    kill_everywhere(case("Automatic", true), None, true);
}

#[test]
fn killed_anywhere_in_an_update_with_a_restart_by_the_agent_and_without_way_back_it_ends_as_the_resume_table_says()
 {
    kill_everywhere(case("Automatic", false), None, false);
}

#[test]
fn killed_anywhere_on_the_way_back_without_restart_it_ends_as_the_resume_table_says() {
    kill_on_every_way_back("No", true);
}

#[test]
fn killed_anywhere_on_the_way_back_with_a_restart_of_its_own_it_ends_as_the_resume_table_says() {
    kill_on_every_way_back("Yes", true);
}

#[test]
fn killed_anywhere_on_the_way_back_with_a_restart_by_the_agent_it_ends_as_the_resume_table_says() {
    kill_on_every_way_back("Automatic", true);
}

#[test]
fn killed_anywhere_after_a_failure_without_way_back_it_ends_as_the_resume_table_says() {
    for reboot in ["No", "Yes", "Automatic"] {
        kill_on_every_way_back(reboot, false);
    }
}

/// Right after each record has come into its place in the journal.
#[test]
fn killed_at_each_stored_state_it_ends_as_the_resume_table_says() {
    let on_the_way_forth = [
        (UpdateFetch, "Download_Enter"),
        (UpdateStore, "ProvidePayloadFileSizes"),
        (UpdateInstall, "ArtifactInstall_Enter"),
        (Reboot, "ArtifactReboot_Enter"),
        (AfterReboot, "ArtifactVerifyReboot"),
        (UpdateCommit, "ArtifactCommit_Enter"),
    ];
    let forth = [(UpdateAfterCommit, "ArtifactCommit_Leave"), (Cleanup, "Cleanup"), (Cleanup, "Cleanup")];
    let back = [
        (Rollback, "ArtifactRollback_Enter"),
        (RollbackReboot, "ArtifactRollbackReboot_Enter"),
        (AfterRollbackReboot, "ArtifactVerifyRollbackReboot"),
        (UpdateError, "ArtifactFailure_Enter"),
        (UpdateError, "ArtifactFailure"),
        (Cleanup, "Cleanup"),
        (Cleanup, "Cleanup"),
    ];
    for (fails, rest) in [(None, &forth[..]), (Some("ArtifactCommit"), &back)] {
        let case = Case { fails, ..case("Yes", true) };
        let (whole, mut bench) = (case.forth(), Bench::new(case));
        let names = whole.names();
        // Makes the key, so that all updates are alike.
        bench.update(&[], &names, whole.end);
        for (number, (stored, next)) in on_the_way_forth.iter().chain(rest).enumerate() {
            let (id, name) = bench.offer();
            bench.stage.plan(&bench.whens(&[]));
            let mut tally =
                Tally { stop_after: Some(("rename to thimble-journal", number + 1)), ..Tally::default() };
            let (device, thimble) = (&bench.stage.scene.device, THIMBLE.as_ref());
            let end = cut::run(device, thimble, &["check"], &mut tally);
            assert_eq!(end, CutEnd::Cut, "{number} {stored:?}: {:#?}", tally.changes);
            let so_far = names.iter().position(|name| name == next).expect("it happens");
            assert_eq!(bench.stage.chain(), names[..so_far], "{number} {stored:?}: {:#?}", tally.changes);
            bench.stage.scene.device.boot();
            let rest = case.after_a_cut(*stored, whole.end);
            let ending = bench.stage.scene.device.run_to_end(thimble, 3);
            let what = format!("{case:?}, killed when {stored:?} was stored ({number}), {}", ending.code);
            bench.judge(&what, (&id, &name), &[&names[..so_far], &rest.names()].concat(), rest.end);
        }
        bench.finish();
    }
}

/// The report is sent, and its answer never comes.
#[test]
fn killed_at_each_report_it_ends_as_the_resume_table_says() {
    for (reboot, status, skip, stored, next) in [
        ("Yes", "downloading", 0, Nothing, "Download_Enter"),
        ("Yes", "installing", 0, UpdateStore, "ArtifactInstall_Enter"),
        ("Yes", "rebooting", 0, UpdateInstall, "ArtifactReboot_Enter"),
        ("Yes", "installing", 1, AfterReboot, "ArtifactCommit_Enter"),
        ("No", "installing", 1, UpdateInstall, "ArtifactCommit_Enter"),
        ("No", "success", 0, CleanedUp, ""),
    ] {
        let case = case(reboot, true);
        let (whole, mut bench) = (case.forth(), Bench::new(case));
        let names = whole.names();
        let (id, name) = bench.offer();
        bench.stage.plan(&bench.whens(&[]));
        bench.stage.scene.server.rule(Rule { on: What::StatusOf(status), skip, times: 1, act: Act::Hang });
        let mut daemon = bench.stage.scene.daemon();
        bench.stage.scene.wait_until(|server| {
            let sent = server.requests_of(What::Status);
            sent.iter().filter(|r| r.text().contains(status)).count() > skip
        });
        daemon.signal(9);
        assert_eq!(daemon.wait(), None);
        bench.stage.scene.device.boot();
        bench.stage.scene.device.run_to_end(THIMBLE.as_ref(), 3);
        let so_far = names.iter().position(|name| *name == next).unwrap_or(names.len());
        let rest = case.after_a_cut(stored, whole.end);
        let what = format!("killed while it reports {status} ({skip})");
        bench.judge(&what, (&id, &name), &[&names[..so_far], &rest.names()].concat(), rest.end);
        bench.finish();
    }
}
