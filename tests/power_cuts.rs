//! A power cut anywhere leaves a bootable system that is what it is called, and a server that knows the truth.
//!
//! Each scenario runs once to learn how many operations it has: writes of the journal, of the boot environment (the
//! boot loader's own included), of images, and whatever else leaves a trace: scripts, calls of payload handlers,
//! requests. Then it runs again for each of them, cut before, inside and after; then with two cuts, and with many.
//! The driver, the policy, the handler of root file systems and the environment's format are the real ones.
//!
//! A failing cut prints itself as a value: add it to `regressions`.
#![allow(clippy::expect_used)]

#[path = "power_cuts/cut.rs"]
mod cut;
#[path = "power_cuts/handler.rs"]
mod handler;
#[path = "power_cuts/life.rs"]
mod life;
#[path = "power_cuts/machine.rs"]
mod machine;
#[path = "power_cuts/ports.rs"]
mod ports;
#[path = "power_cuts/scenario.rs"]
mod scenario;
#[path = "power_cuts/storage.rs"]
mod storage;

use cut::{Cut, Ends, How, Numbers};
use life::live;
use machine::{Bench, Machine};
use scenario::{Kind, Scenario, all, paused};
use std::rc::Rc;
use thimble::agent::Reboot;

/// Every way to cut an operation of a run; the boot loader is not a process that can be killed.
fn cuts_at(run: &Machine, op: usize) -> Vec<Cut> {
    let (tears, by_agent) = run.ops[op];
    let ends: &[Ends] = if by_agent { &[Ends::Power, Ends::Agent] } else { &[Ends::Power] };
    let cut = |how| ends.iter().map(move |ends| Cut { op, how, ends: *ends });
    tears.hows().into_iter().flat_map(cut).collect()
}

/// Every cut before and inside of an operation, and the one after the last.
fn every_cut(run: &Machine) -> Vec<Cut> {
    let mut all: Vec<Cut> = (0..run.ops.len()).flat_map(|op| cuts_at(run, op)).collect();
    all.push(Cut { op: run.ops.len() - 1, how: How::After, ends: Ends::Power });
    all
}

const KINDS: [Kind; 8] = [
    Kind::Rootfs,
    Kind::Module { reboot: Reboot::No, rollback: true },
    Kind::Module { reboot: Reboot::No, rollback: false },
    Kind::Module { reboot: Reboot::Yes, rollback: true },
    Kind::Module { reboot: Reboot::Yes, rollback: false },
    Kind::Module { reboot: Reboot::Automatic, rollback: true },
    Kind::Module { reboot: Reboot::Automatic, rollback: false },
    Kind::Empty,
];

/// What came of many runs.
#[derive(Default)]
struct Tally {
    scenarios: usize,
    runs: usize,
    boots: u32,
    failures: Vec<String>,
}

impl Tally {
    fn live(&mut self, scenario: &Rc<Scenario>, bench: &Rc<Bench>, cuts: &[Cut]) -> Option<Machine> {
        self.runs += 1;
        match live(scenario, bench, cuts) {
            Ok(machine) => {
                self.boots = self.boots.max(machine.boots);
                Some(machine)
            }
            Err(story) => {
                self.failures.push(story);
                None
            }
        }
    }

    /// Fails with the shortest stories.
    fn judge(mut self, what: &str) {
        println!("{what}: {} scenarios, {} runs, at most {} boots", self.scenarios, self.runs, self.boots);
        self.failures.sort_by_key(String::len);
        let (n, some) = (self.failures.len(), self.failures.iter().take(3));
        assert!(
            n == 0,
            "{n} of {} runs break a promise:\n\n{}",
            self.runs,
            some.cloned().collect::<Vec<_>>().join("\n")
        );
    }
}

/// One cut, everywhere, in every scenario of this kind.
fn cut_everywhere(kind: Kind, name: &str) {
    let (bench, mut tally) = (Rc::new(Bench::new(name)), Tally::default());
    for scenario in all(kind).into_iter().map(Rc::new) {
        tally.scenarios += 1;
        let Some(whole) = tally.live(&scenario, &bench, &[]) else { continue };
        for cut in every_cut(&whole) {
            tally.live(&scenario, &bench, &[cut]);
        }
    }
    tally.judge(name);
}

#[test]
fn a_cut_anywhere_in_a_root_file_system_update_leaves_a_true_system() {
    cut_everywhere(Kind::Rootfs, "rootfs");
}

#[test]
fn a_cut_anywhere_in_an_update_by_a_module_without_restart_leaves_a_true_system() {
    cut_everywhere(Kind::Module { reboot: Reboot::No, rollback: true }, "no-yes");
    cut_everywhere(Kind::Module { reboot: Reboot::No, rollback: false }, "no-no");
    cut_everywhere(Kind::Empty, "empty");
}

#[test]
fn a_cut_anywhere_in_an_update_by_a_module_that_restarts_something_leaves_a_true_system() {
    cut_everywhere(Kind::Module { reboot: Reboot::Yes, rollback: true }, "yes-yes");
    cut_everywhere(Kind::Module { reboot: Reboot::Yes, rollback: false }, "yes-no");
}

#[test]
fn a_cut_anywhere_in_an_update_by_a_module_that_restarts_the_machine_leaves_a_true_system() {
    cut_everywhere(Kind::Module { reboot: Reboot::Automatic, rollback: true }, "auto-yes");
    cut_everywhere(Kind::Module { reboot: Reboot::Automatic, rollback: false }, "auto-no");
}

fn plain(kind: Kind) -> Scenario {
    all(kind).remove(0)
}

/// Without this an agent that always goes back would keep every other promise.
#[test]
fn an_update_without_faults_succeeds_wherever_a_cut_may_not_stop_it() {
    let (bench, mut failed) = (Rc::new(Bench::new("succeeds")), Vec::new());
    for scenario in KINDS.map(plain).map(Rc::new) {
        let whole = live(&scenario, &bench, &[]).expect("keeps its promises");
        assert_eq!(whole.installed.load().name, "release-2", "{scenario}");
        for cut in every_cut(&whole).into_iter().filter(|c| c.ends == Ends::Power) {
            let end = live(&scenario, &bench, &[cut]).expect("keeps its promises");
            let cut_at = end.trail.iter().position(|l| l.contains(" <== ")).expect("it was cut");
            let resumed =
                end.trail[cut_at..].iter().find_map(|l| l.strip_prefix("-- ")?.split_once(" is resumed"));
            let succeeds = match resumed.map(|(record, _)| record) {
                // The one start that a new root file system gets was used up: the boot loader has counted it, and the
                // agent did not come far enough.
                Some("RebootEnter") if scenario.kind == Kind::Rootfs => {
                    !end.trail[cut_at].contains("VerifyReboot <==")
                }
                // The deployment is offered again; the cut was the restart; it is committed.
                None | Some("RebootEnter" | "CommitLeave" | "SaveProvides" | "Cleanup") => true,
                Some(_) => false,
            };
            if (end.installed.load().name == "release-2") != succeeds {
                failed.push(format!("{scenario}, {cut:?}: {}", end.trail.join("\n  ")));
            }
        }
    }
    failed.sort_by_key(String::len);
    assert!(failed.is_empty(), "{} are not as they should be, among them {}", failed.len(), failed[0]);
}

/// Decision 9: a pause is a state of its own. No cut in it ends the update, nor a restart of the machine.
#[test]
fn an_update_that_is_paused_everywhere_goes_on_after_a_cut_in_a_pause() {
    let (bench, mut failed, mut survived) = (Rc::new(Bench::new("paused")), Vec::new(), 0);
    for scenario in KINDS.into_iter().filter(|k| *k != Kind::Empty).flat_map(paused).map(Rc::new) {
        let whole = live(&scenario, &bench, &[]).expect("keeps its promises");
        assert_eq!(whole.installed.load().name, "release-2", "{scenario}");
        for cut in every_cut(&whole) {
            let end = match live(&scenario, &bench, &[cut]) {
                Ok(end) => end,
                Err(story) => {
                    failed.push(story);
                    continue;
                }
            };
            let cut_at = end.trail.iter().position(|l| l.contains(" <== ")).unwrap_or_default();
            let resumed =
                end.trail[cut_at..].iter().find_map(|l| l.strip_prefix("-- ")?.split_once(" is resumed"));
            let Some((record, _)) = resumed.filter(|(record, _)| record.contains("Pause")) else { continue };
            // The boot loader counts a start between the record and the moment at which it is told to go on trying.
            let told = end.trail[..cut_at].iter().any(|l| l.contains("environment [(\"bootcount\", \"0\")]"));
            if record == "SendPauseCommit" && scenario.kind == Kind::Rootfs && !told {
                continue;
            }
            survived += 1;
            if end.installed.load().name != "release-2" {
                failed.push(format!("{scenario}, {cut:?}: {}", end.trail.join("\n  ")));
            }
        }
    }
    failed.sort_by_key(String::len);
    assert!(failed.is_empty(), "{} are not as they should be, among them {}", failed.len(), failed[0]);
    assert!(survived > 200, "{survived}");
}

#[test]
fn two_cuts_anywhere_in_a_paused_root_file_system_update_leave_a_true_system() {
    let (bench, mut tally) =
        (Rc::new(Bench::new("twice-paused")), Tally { scenarios: 1, ..Tally::default() });
    let [_, impatient] = paused(Kind::Rootfs).map(Rc::new);
    let Some(whole) = tally.live(&impatient, &bench, &[]) else { return tally.judge("twice, paused") };
    for first in every_cut(&whole).into_iter().filter(|c| c.ends == Ends::Power) {
        let Some(once) = tally.live(&impatient, &bench, &[first]) else { continue };
        for second in (first.op + 1..once.ops.len()).flat_map(|op| cuts_at(&once, op)) {
            if second.ends == Ends::Power && matches!(second.how, How::Before) {
                tally.live(&impatient, &bench, &[first, second]);
            }
        }
    }
    tally.judge("twice, paused");
}

#[test]
fn two_cuts_anywhere_in_a_root_file_system_update_leave_a_true_system() {
    let (bench, mut tally) = (Rc::new(Bench::new("twice")), Tally { scenarios: 1, ..Tally::default() });
    let scenario = Rc::new(plain(Kind::Rootfs));
    let Some(whole) = tally.live(&scenario, &bench, &[]) else { return tally.judge("twice") };
    for first in every_cut(&whole) {
        let Some(once) = tally.live(&scenario, &bench, &[first]) else { continue };
        for second in (first.op + 1..once.ops.len()).flat_map(|op| cuts_at(&once, op)) {
            tally.live(&scenario, &bench, &[first, second]);
        }
    }
    tally.judge("twice, root file system");
}

/// A sample of up to five cuts per run: each falls into what the ones before have led to. Always the same sample.
#[test]
fn many_cuts_anywhere_in_any_update_leave_a_true_system() {
    let (bench, mut tally, mut numbers) = (Rc::new(Bench::new("many")), Tally::default(), Numbers(1));
    for scenario in KINDS.into_iter().flat_map(all).map(Rc::new) {
        tally.scenarios += 1;
        for _ in 0..6 {
            let mut cuts: Vec<Cut> = Vec::new();
            for _ in 0..2 + numbers.below(4) {
                let Some(run) = tally.live(&scenario, &bench, &cuts) else { break };
                let begin = cuts.last().map_or(0, |c| c.op + 1);
                if begin >= run.ops.len() {
                    break;
                }
                let possible = cuts_at(&run, begin + numbers.below(run.ops.len() - begin));
                cuts.push(possible[numbers.below(possible.len())]);
            }
            tally.live(&scenario, &bench, &cuts);
        }
    }
    tally.judge("many cuts");
}

/// Flash wears out: docs/store.md says how much an update writes.
#[test]
fn an_update_writes_the_journal_as_often_as_documented() {
    let bench = Rc::new(Bench::new("writes"));
    let writes = |kind| live(&Rc::new(plain(kind)), &bench, &[]).map(|m| m.story.journal_writes);
    assert_eq!(writes(Kind::Rootfs), Ok(10));
    assert_eq!(writes(Kind::Module { reboot: Reboot::No, rollback: true }), Ok(8));
    assert_eq!(writes(Kind::Module { reboot: Reboot::Automatic, rollback: false }), Ok(10));
    assert_eq!(writes(Kind::Empty), Ok(5));
}

/// Cuts that once broke a promise: before which operation of which scenario, and what must come of it.
#[test]
fn regressions() {
    let bench = Rc::new(Bench::new("regressions"));
    let with = |at| move |s: &Scenario| s.faults.first().is_some_and(|f| f.at == at);
    let none = |s: &Scenario| s.faults.is_empty();
    let module = Kind::Module { reboot: Reboot::No, rollback: true };
    type Pick<'a> = &'a dyn Fn(&Scenario) -> bool;
    let cases: [(Kind, Pick, &str, &str); 3] = [
        // Committed, but not recorded: the old name, while the new system ran.
        (Kind::Rootfs, &none, "journal: CommitLeave", "heard: failure"),
        // `failure` was heard, and then `success`, when a Cleanup that had failed went well at last.
        (module, &with("Cleanup"), "journal: cleared", "heard: failure"),
        // `success` was reported with the old name, which could not be replaced.
        (module, &with("installed: release-2"), "poll", "heard: failure"),
    ];
    for (kind, pick, operation, expected) in cases {
        let scenario = Rc::new(all(kind).into_iter().find(pick).expect("there is one"));
        let whole = live(&scenario, &bench, &[]).expect("without a cut");
        let number = |line: &String| line.strip_suffix(operation)?.trim().parse().ok();
        let op = whole.trail.iter().find_map(number).expect("happens");
        for ends in [Ends::Power, Ends::Agent] {
            let end = live(&scenario, &bench, &[Cut { op, how: How::Before, ends }]);
            let trail = end.expect("keeps its promises").trail.join("\n");
            assert!(trail.contains(expected) && !trail.contains("heard: success"), "{scenario}: {trail}");
        }
    }
}
