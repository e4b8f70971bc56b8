//! The policy, walked: every state that can be reached, every outcome that its effect can have.
//!
//! Prints `docs/state-machine.md` and `docs/state-machine.dot`; both are committed, and this test fails when they are
//! stale. `UPDATE_DOCS=1 cargo test --test state_machine` writes them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::path::Path;
use thimble::agent::scripts::{Action, Step};
use thimble::agent::{
    Artifact, Cause, Effect, Errand, Facts, Installed, Offer, Origin, Outcome, Reboot, Record, SAVE_LIMIT,
    State, Trial, Update, Verdict, Wait, WaitFor, effect, installed_after, next, resume,
};

fn artifact(payload: bool) -> Artifact {
    Artifact::new("release-2", payload.then_some("rootfs-image"))
}

/// Every outcome that the world can give for an effect.
fn outcomes(effect: &Effect) -> Vec<Outcome> {
    use Outcome as O;
    match effect {
        Effect::Nothing | Effect::ForgetToken => vec![O::Done],
        Effect::Exit => vec![],
        Effect::AwaitCommand => vec![],
        Effect::AwaitErrand => vec![O::Due(Errand::Inventory), O::Due(Errand::Deployment), O::Quiet],
        Effect::Poll => {
            let offer = Offer { id: "d1".into(), uri: "http://s/a".into() };
            vec![O::Offered(offer.clone()), O::Unusable(offer), O::Done, O::Failed]
        }
        Effect::Decide(_) => vec![O::Done, O::Paused, O::Failed, O::Aborted],
        Effect::AwaitVerdict(_) => vec![O::Done, O::Failed, O::Aborted],
        Effect::Report(_) | Effect::ReportUntilHeard(_) | Effect::ReportEnd { .. } => {
            vec![O::Done, O::Failed, O::Aborted]
        }
        Effect::OpenArtifact(_) => vec![O::Header(artifact(true)), O::Header(artifact(false)), O::Failed],
        Effect::AskRollback => vec![O::RollsBack(true), O::RollsBack(false), O::Failed],
        Effect::AskReboot => vec![
            O::NeedsReboot(Reboot::No),
            O::NeedsReboot(Reboot::Yes),
            O::NeedsReboot(Reboot::Automatic),
            O::Failed,
        ],
        Effect::Scripts(_)
        | Effect::SendInventory
        | Effect::StorePayload
        | Effect::Install
        | Effect::Reboot(_)
        | Effect::VerifyReboot
        | Effect::Commit { .. }
        | Effect::Rollback
        | Effect::RollbackReboot(_)
        | Effect::VerifyRollbackReboot
        | Effect::PayloadFailure
        | Effect::SaveInstalled
        | Effect::Cleanup
        | Effect::ClearRecord
        | Effect::Finish => vec![O::Done, O::Failed],
    }
}

fn word(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done => "done".into(),
        Outcome::Failed => "failed".into(),
        Outcome::Aborted => "aborted (409, 404)".into(),
        Outcome::Due(errand) => format!("due: {errand:?}").to_lowercase(),
        Outcome::Quiet => "nothing due".into(),
        Outcome::Offered(_) => "a deployment".into(),
        Outcome::Unusable(_) => "its control map is wrong".into(),
        Outcome::Paused => "pause".into(),
        Outcome::Header(a) if a.payload.is_some() => "header fits".into(),
        Outcome::Header(_) => "header fits, no payload".into(),
        Outcome::NeedsReboot(answer) => format!("answer {answer:?}"),
        Outcome::RollsBack(answer) => format!("answer {}", if *answer { "Yes" } else { "No" }),
    }
}

fn ends(effect: &Effect) -> bool {
    matches!(effect, Effect::Exit | Effect::AwaitCommand)
}

/// The counter is left out of what makes a state different: it only matters to the loop guard, which has its own test.
fn uncounted(state: State) -> State {
    match state {
        State::SaveProvides(mut e) => {
            e.saves = e.saves.min(1);
            State::SaveProvides(e)
        }
        other => other,
    }
}

fn starts() -> Vec<State> {
    let standalone = Offer { id: String::new(), uri: "file.mender".into() };
    let mut list = vec![State::IdleEnter, State::Open(standalone)];
    // What a person's commands make of a standalone update that waits.
    for rollback in [true, false] {
        for reboot in [Reboot::No, Reboot::Automatic] {
            let update = Update { rollback, reboot, ..Update::new(Origin::Standalone, artifact(true), 1) };
            list.push(State::CommitEnter(update.clone()));
            list.push(State::RollbackEnter(thimble::agent::Undo {
                update,
                sound: true,
                cause: Cause::Asked,
            }));
        }
    }
    list
}

/// Every reachable state with the transitions out of it.
fn walk() -> BTreeMap<State, Vec<(Outcome, State)>> {
    let mut seen: BTreeMap<State, Vec<(Outcome, State)>> = BTreeMap::new();
    let mut queue: VecDeque<State> = starts().into();
    while let Some(state) = queue.pop_front() {
        if seen.contains_key(&state) {
            continue;
        }
        let mut out = Vec::new();
        let mut possible = outcomes(&effect(&state));
        // A record that cannot be written fails the state (U60).
        if state.needs_its_record() && !possible.contains(&Outcome::Failed) {
            possible.push(Outcome::Failed);
        }
        for outcome in possible {
            let to = uncounted(next(state.clone(), outcome.clone()));
            queue.push_back(to.clone());
            out.push((outcome, to));
        }
        // The loop guard can strike at every checkpoint of a deployment.
        let mut worn = state.clone();
        for _ in 0..=SAVE_LIMIT {
            worn = worn.counted();
        }
        if state.is_checkpoint() && worn.name() != state.name() {
            queue.push_back(uncounted(worn));
        }
        seen.insert(state, out);
    }
    seen
}

fn effect_word(effect: &Effect) -> String {
    match effect {
        Effect::Scripts(set) => {
            let all = if set.run_all { ", all run" } else { "" };
            format!("scripts {}_{}{all}", set.step.word(), set.action.word())
        }
        Effect::OpenArtifact(_) => "open the Artifact, verify its header".into(),
        Effect::Report(status) => format!("report `{}`", status.word()),
        Effect::ReportUntilHeard(status) => format!("report `{}` until heard", status.word()),
        Effect::ReportEnd { success: true } => "report `success` until heard".into(),
        Effect::ReportEnd { success: false } => "report `failure` and the log until heard".into(),
        Effect::Decide(_) => "refresh the server's update control map, ask all maps once".into(),
        Effect::AwaitVerdict(_) => "wait for another word of the update control maps".into(),
        Effect::Reboot(kind) | Effect::RollbackReboot(kind) => format!("restart ({kind:?})"),
        Effect::Commit { check_scripts } => {
            format!("ArtifactCommit{}", if *check_scripts { ", after the scripts' version" } else { "" })
        }
        other => format!("{other:?}"),
    }
}

/// Of one kind of state: its effects, whether it is recorded, and what follows from which outcome.
type Row = (BTreeSet<String>, bool, BTreeMap<String, BTreeSet<&'static str>>);

fn markdown(walk: &BTreeMap<State, Vec<(Outcome, State)>>) -> String {
    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    for (state, out) in walk {
        let row = rows.entry(state.name()).or_default();
        row.0.insert(effect_word(&effect(state)));
        row.1 |= state.is_checkpoint();
        for (outcome, to) in out {
            row.2.entry(word(outcome)).or_default().insert(to.name());
        }
    }
    let transitions: usize = walk.values().map(Vec::len).sum();
    let mut text = String::from(
        "# The state machine\n\nPrinted by `tests/state_machine.rs` from the code; do not edit. The picture is \
         `state-machine.svg`.\n\nA state with several targets for one outcome decides by what it carries: who asked \
         for the update, whether it can be rolled back, which kind of restart it needs.\n\n",
    );
    let _ = writeln!(
        text,
        "{} kinds of state, {} states with what they carry, {transitions} transitions.\n",
        rows.len(),
        walk.len()
    );
    text.push_str("| State | Recorded | Effect | Outcome -> next |\n| --- | --- | --- | --- |\n");
    for (name, (effects, checkpoint, out)) in &rows {
        let out: Vec<String> = out
            .iter()
            .map(|(outcome, to)| {
                format!("{outcome} -> {}", to.iter().copied().collect::<Vec<_>>().join(" or "))
            })
            .collect();
        let effects: Vec<String> = effects.iter().cloned().collect();
        let checkpoint = if *checkpoint { "yes" } else { "" };
        let _ = writeln!(text, "| {name} | {checkpoint} | {} | {} |", effects.join("; "), out.join("<br>"));
    }
    text.push_str("\n## After a restart\n\nWhat `resume` makes of a record that was cut there. A record that was left on \
        purpose (a wait, in one-shot use) goes on where it was, if the machine has not restarted since. A pause goes on \
        in any case; only the boot loader may have ended it: see the third table.\n\n| Record | First state |\n| --- | --- |\n");
    let mut resumed: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for state in walk.keys().filter(|s| s.is_checkpoint()) {
        resumed.entry(state.name()).or_default().insert(resume_cut(state).name());
    }
    for (name, to) in resumed {
        let _ = writeln!(text, "| {name} | {} |", to.into_iter().collect::<Vec<_>>().join(" or "));
    }
    text.push_str("\n## A pause after a restart of the machine\n\nWhat the boot loader did meanwhile with the new root file \
        system.\n\n| Record | unknown, or not a root file system | not booted yet | runs | gone back from |\n\
        | --- | --- | --- | --- | --- |\n");
    let paused: BTreeSet<&str> = walk.keys().filter(|s| s.is_control()).map(State::name).collect();
    for name in paused {
        let _ = write!(text, "| {name} |");
        for trial in TRIALS {
            let to: BTreeSet<String> = walk
                .keys()
                .filter(|s| s.name() == name)
                .map(|s| resume_after(s, trial).name().to_owned())
                .collect();
            let _ = write!(text, " {} |", to.into_iter().collect::<Vec<_>>().join(" or "));
        }
        text.push('\n');
    }
    text
}

fn dot(walk: &BTreeMap<State, Vec<(Outcome, State)>>) -> String {
    let mut edges: BTreeMap<(&str, &str), BTreeSet<String>> = BTreeMap::new();
    let mut nodes: BTreeMap<&str, bool> = BTreeMap::new();
    for (state, out) in walk {
        *nodes.entry(state.name()).or_default() |= state.is_checkpoint();
        for (outcome, to) in out {
            edges.entry((state.name(), to.name())).or_default().insert(word(outcome));
        }
    }
    let mut text = String::from(
        "// Printed by tests/state_machine.rs from the code; do not edit. Thick: recorded before its effect.\n\
         digraph thimble {\n  rankdir=TB; nodesep=0.25; ranksep=0.35;\n  node [shape=box, style=rounded, \
         fontname=\"Helvetica\", fontsize=11];\n  edge [fontname=\"Helvetica\", fontsize=8, color=\"#555555\"];\n",
    );
    for (name, checkpoint) in nodes {
        let style = if checkpoint { " [penwidth=2.5]" } else { "" };
        let _ = writeln!(text, "  {name}{style};");
    }
    for ((from, to), labels) in edges {
        let red = if labels.iter().all(|l| {
            l != "done"
                && !l.starts_with("answer")
                && !l.starts_with("header")
                && !l.starts_with("due")
                && !l.starts_with("a dep")
        }) {
            ", color=\"#c03020\""
        } else {
            ""
        };
        let label: Vec<String> = labels.into_iter().collect();
        let _ = writeln!(text, "  {from} -> {to} [label=\"{}\"{red}];", label.join("\\n"));
    }
    text.push_str("}\n");
    text
}

#[test]
fn the_documents_show_the_machine_as_it_is() {
    let walk = walk();
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    for (file, text) in [("state-machine.md", markdown(&walk)), ("state-machine.dot", dot(&walk))] {
        let path = docs.join(file);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, &text).expect("docs/ is writable");
        }
        let there = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            there == text,
            "docs/{file} is stale: UPDATE_DOCS=1 cargo test --test state_machine; make docs"
        );
    }
}

const TRIALS: [Trial; 4] = [Trial::NotKnown, Trial::Waiting, Trial::Running, Trial::Over];

fn resume_cut(state: &State) -> State {
    resume_after(state, Trial::NotKnown)
}

fn resume_after(state: &State, trial: Trial) -> State {
    let record = Record { state: state.clone(), wait: None, boot_id: "a".into() };
    resume(record, Facts { same_boot: false, trial })
}

#[test]
fn a_pause_survives_every_cut_but_one_that_the_boot_loader_has_ended() {
    let walk = walk();
    let paused: Vec<&State> = walk.keys().filter(|s| s.is_control()).collect();
    assert!(paused.len() >= 9);
    for state in paused {
        // In the same boot nothing is looked up, and nothing can have happened.
        let record = Record { state: state.clone(), wait: None, boot_id: "a".into() };
        assert_eq!(&resume(record, Facts { same_boot: true, trial: Trial::Over }), state);
        let to = TRIALS.map(|trial| resume_after(state, trial).name());
        let (name, back) = (state.name(), ["RollbackEnter", "FailureEnter"]);
        assert_eq!(to[0], name);
        if name.ends_with("Install") {
            assert_eq!(to, [name; 4]);
        } else if name.ends_with("Reboot") {
            assert_eq!(to[..3], [name, name, "VerifyReboot"]);
            assert!(back.contains(&to[3]), "{to:?}");
        } else {
            assert_eq!(to[2], name);
            assert!(back.contains(&to[1]) && back.contains(&to[3]), "{to:?}");
        }
    }
}

#[test]
fn a_pause_is_not_counted_and_never_a_loop() {
    for state in walk().keys().filter(|s| s.is_control()) {
        let mut worn = state.clone();
        for _ in 0..100 {
            worn = worn.counted();
            worn = resume_after(&worn, Trial::NotKnown);
        }
        assert_eq!(&worn, state);
    }
}

#[test]
fn maps_are_asked_once_in_front_of_each_step_and_never_on_the_way_back_nor_by_hand() {
    for (state, out) in walk() {
        let control = state.is_control();
        for (outcome, to) in &out {
            let steps = [
                ("SendInstalling", "DecideInstall", "PauseInstall"),
                ("SendRebooting", "DecideReboot", "PauseReboot"),
                ("BeforeCommit", "DecideCommit", "PauseCommit"),
            ];
            for (step, decide, pause) in steps {
                if to.name() == step {
                    let from = state.name();
                    assert!([decide, pause].contains(&from) && *outcome == Outcome::Done, "{from}");
                }
            }
            if control && !to.is_control() && *outcome != Outcome::Done {
                let name = to.name();
                assert!(["RollbackEnter", "FailureEnter"].contains(&name), "K34: no Error scripts: {name}");
            }
            if to.is_control() && !control {
                let name = to.name();
                assert!(name.starts_with("Decide"), "{name}");
                assert!(["AskRollback", "AskReboot", "RebootLeave"].contains(&state.name()), "{name}");
            }
        }
        assert!(!control || state.deployment().is_some_and(|id| !id.is_empty()), "standalone");
    }
}

#[test]
fn every_outcome_of_every_state_leads_to_an_end() {
    // From each reachable state some way leads to Idle or Stop: nothing is a dead end.
    let walk = walk();
    let mut good: BTreeSet<&State> =
        walk.keys().filter(|s| ends(&effect(s)) || matches!(s, State::IdleEnter)).collect();
    loop {
        let before = good.len();
        for (state, out) in &walk {
            if out.iter().any(|(_, to)| good.contains(to)) {
                good.insert(state);
            }
        }
        if good.len() == before {
            break;
        }
    }
    let dead: Vec<_> = walk.keys().filter(|s| !good.contains(s)).collect();
    assert!(dead.is_empty(), "no way out of {dead:?}");
}

#[test]
fn an_outcome_that_does_not_belong_to_a_state_is_never_taken_for_success() {
    for state in walk().keys() {
        let strange = [
            Outcome::Quiet,
            Outcome::Due(Errand::Inventory),
            Outcome::NeedsReboot(Reboot::No),
            Outcome::RollsBack(true),
            Outcome::Header(artifact(true)),
            Outcome::Offered(Offer { id: "x".into(), uri: "y".into() }),
            Outcome::Unusable(Offer { id: "x".into(), uri: "y".into() }),
        ];
        let belongs = outcomes(&effect(state));
        for outcome in strange {
            if belongs.contains(&outcome) || belongs.iter().any(|b| word(b) == word(&outcome)) {
                continue;
            }
            let to = next(state.clone(), outcome.clone());
            assert_eq!(to, next(state.clone(), Outcome::Failed), "{} and {outcome:?}", state.name());
        }
    }
}

#[test]
fn success_is_only_reported_after_a_commit() {
    // Follow every path: a Success verdict exists only behind CommitLeave, or for an Artifact without payload.
    for (state, out) in walk() {
        for (outcome, to) in out {
            if let State::SaveProvides(end) = &to
                && end.verdict == Verdict::Success
            {
                let committed = state.name() == "CommitLeave" && outcome == Outcome::Done;
                let empty = end.artifact.as_ref().is_some_and(|a| a.payload.is_none());
                assert!(committed || empty, "{} + {outcome:?}", state.name());
            }
        }
    }
}

#[test]
fn nothing_is_rolled_back_that_cannot_be() {
    for (state, out) in walk() {
        for (_, to) in out {
            if let State::RollbackEnter(undo) = to {
                assert!(undo.update.rollback, "from {}", state.name());
            }
        }
    }
}

#[test]
fn a_cut_before_the_installation_ends_with_what_was_installed_before() {
    for state in walk().keys() {
        let early = ["DownloadEnter", "Fetch", "Store", "DownloadLeave", "SendInstalling", "AskRollback"];
        if early.contains(&state.name()) && state.deployment() != Some("") {
            let State::Cleanup(end) = resume_cut(state) else { panic!("{}", state.name()) };
            assert_eq!(end.verdict, Verdict::Unchanged);
            assert!(!end.succeeded());
        }
    }
}

#[test]
fn a_cut_during_a_planned_restart_takes_its_place() {
    for state in walk().keys() {
        match state.name() {
            "RebootEnter" | "Reboot" => assert_eq!(resume_cut(state).name(), "VerifyReboot"),
            "RollbackRebootEnter" | "RollbackReboot" => {
                assert_eq!(resume_cut(state).name(), "VerifyRollbackReboot")
            }
            _ => {}
        }
    }
}

#[test]
fn a_cut_between_restart_and_commit_goes_back_without_error_scripts() {
    for state in walk().keys() {
        if ["VerifyReboot", "RebootLeave", "CommitEnter", "Commit"].contains(&state.name()) {
            let to = resume_cut(state);
            assert!(
                ["RollbackEnter", "FailureEnter"].contains(&to.name()),
                "{} -> {}",
                state.name(),
                to.name()
            );
        }
    }
}

#[test]
fn a_cut_after_the_verdict_reports_the_true_result() {
    for state in walk().keys() {
        if let State::SaveProvides(end) | State::Cleanup(end) | State::SendFinal(end) = state {
            let (State::SaveProvides(after) | State::Cleanup(after) | State::SendFinal(after)) =
                resume_cut(state)
            else {
                panic!("{}", state.name())
            };
            assert_eq!(end.succeeded(), after.succeeded());
        }
    }
}

#[test]
fn every_state_of_an_update_survives_its_record() {
    let waits = [
        None,
        Some(Wait { until_ms: u64::MAX, what: WaitFor::Report { tries: 7 } }),
        Some(Wait {
            until_ms: 9,
            what: WaitFor::Control { changes: u64::MAX, refresh: true, tries: u32::MAX },
        }),
        Some(Wait { until_ms: 9, what: WaitFor::Control { changes: 0, refresh: false, tries: 0 } }),
        Some(Wait {
            until_ms: 5,
            what: WaitFor::Script {
                name: "ArtifactInstall_Enter_00".into(),
                first_start_ms: 3,
                failed: true,
            },
        }),
    ];
    for state in walk().keys().filter(|s| s.deployment().is_some()) {
        for wait in &waits {
            let record = Record { state: state.clone(), wait: wait.clone(), boot_id: "b-1".into() };
            assert_eq!(Record::decode(&record.encode()), Ok(record), "{}", state.name());
        }
    }
}

#[test]
fn a_damaged_record_is_refused_and_never_guessed() {
    let update = Update::new(Origin::Deployment("d".into()), artifact(true), 3);
    let bytes = Record { state: State::Install(update), wait: None, boot_id: "b".into() }.encode();
    for cut in 0..bytes.len() {
        assert!(Record::decode(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    let text = String::from_utf8(bytes).expect("text");
    for (from, to) in
        [("\"version\":1", "\"version\":2"), ("\"Install\"", "\"Instal\""), ("\"No\"", "\"no\"")]
    {
        assert!(text.contains(from), "{from}");
        assert!(Record::decode(text.replacen(from, to, 1).as_bytes()).is_err(), "{to}");
    }
}

#[test]
fn a_wait_goes_on_only_in_the_same_boot() {
    let update = Update { rollback: true, ..Update::new(Origin::Deployment("d".into()), artifact(true), 3) };
    let wait = Some(Wait { until_ms: 9, what: WaitFor::Report { tries: 1 } });
    let record = Record { state: State::SendCommit(update.clone()), wait, boot_id: "b".into() };
    assert_eq!(
        resume(record.clone(), Facts { same_boot: true, trial: Trial::NotKnown }),
        State::SendCommit(update)
    );
    assert_eq!(resume(record, Facts { same_boot: false, trial: Trial::NotKnown }).name(), "RollbackEnter");
}

#[test]
fn the_loop_guard_ends_an_update_after_28_records() {
    let update = Update { rollback: true, ..Update::new(Origin::Deployment("d".into()), artifact(true), 0) };
    let undo = thimble::agent::Undo { update, sound: true, cause: Cause::Reboot };
    let mut state = State::VerifyRollbackReboot(undo);
    for n in 0..SAVE_LIMIT {
        assert_eq!(state.name(), "VerifyRollbackReboot", "after {n}");
        state = state.counted();
    }
    let State::StateLoop(end) = state.counted() else { panic!("the 29th is refused") };
    assert_eq!((end.verdict, end.cause), (Verdict::Looped, Some(Cause::Loop)));
    assert!(!end.succeeded());
    // Forever failing verifications: each round is one record.
    assert_eq!(next(State::StateLoop(end.clone()), Outcome::Done), State::SendFinal(end));
}

#[test]
fn a_loop_in_cleanup_does_not_change_what_is_installed() {
    let update = Update::new(Origin::Deployment("d".into()), artifact(true), SAVE_LIMIT);
    let to = next(State::CommitLeave(update), Outcome::Done);
    let State::SaveProvides(end) = to else { panic!() };
    assert_eq!(end.verdict, Verdict::Success);
    let State::SendFinal(end) = State::Cleanup(end).counted() else { panic!("given up") };
    assert_eq!(end.verdict, Verdict::Success);
    assert!(!end.succeeded(), "but it is not reported as a success");
}

#[test]
fn error_scripts_run_to_the_last_one_and_others_stop_at_the_first_failure() {
    for state in walk().keys() {
        if let Effect::Scripts(set) = effect(state) {
            let error = set.action == Action::Error || set.step == Step::Idle;
            let standalone = state.deployment() == Some("");
            let failed_rollback = state.name() == "RollbackLeaveFailed";
            if error || failed_rollback {
                assert!(set.run_all, "{}", state.name());
            } else if !standalone {
                assert!(!set.run_all, "{}", state.name());
            }
        }
    }
}

#[test]
fn provides_follow_the_clears_rule_and_repeating_it_changes_nothing() {
    let old = Installed {
        name: "release-1".into(),
        group: Some("beta".into()),
        provides: [("rootfs-image.version", "1"), ("data.version", "7")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into(),
    };
    let clears = |list: &[&str]| Some(list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
    /// What is cleared, which keys are left, which group.
    type Case = (Option<Vec<String>>, &'static [&'static str], Option<&'static str>);
    let cases: [Case; 5] = [
        (None, &["new"], None),
        (clears(&[]), &["data.version", "new", "rootfs-image.version"], Some("beta")),
        (clears(&["rootfs-image.*"]), &["data.version", "new"], Some("beta")),
        (clears(&["artifact_group", "data"]), &["data.version", "new", "rootfs-image.version"], None),
        (clears(&["*"]), &["new"], None),
    ];
    for (clears, keys, group) in cases {
        let provides = [("new".to_owned(), "1".to_owned())].into();
        let artifact = Artifact { clears: clears.clone(), provides, ..artifact(true) };
        let end = |verdict, origin: &Origin| thimble::agent::End {
            origin: origin.clone(),
            artifact: Some(artifact.clone()),
            verdict,
            cause: None,
            rollback: true,
            reboot: Reboot::No,
            clean: true,
            saves: 0,
        };
        let managed = Origin::Deployment("d".into());
        let new = installed_after(&old, &end(Verdict::Success, &managed)).expect("changes");
        assert_eq!(new.name, "release-2");
        assert_eq!(new.provides.keys().map(String::as_str).collect::<Vec<_>>(), keys, "{clears:?}");
        assert_eq!(new.group.as_deref(), group, "{clears:?}");
        assert_eq!(installed_after(&new, &end(Verdict::Success, &managed)).as_ref(), Some(&new), "repeated");
        assert_eq!(installed_after(&old, &end(Verdict::Unchanged, &managed)), None);

        let bad = installed_after(&old, &end(Verdict::Inconsistent, &managed)).expect("changes");
        assert_eq!((bad.name.as_str(), &bad.provides), ("release-2_INCONSISTENT", &old.provides));
        let by_hand =
            installed_after(&old, &end(Verdict::Inconsistent, &Origin::Standalone)).expect("changes");
        assert_eq!((by_hand.name.as_str(), &by_hand.provides), ("release-2_INCONSISTENT", &new.provides));
        let late = installed_after(&old, &end(Verdict::CommittedInconsistent, &managed)).expect("changes");
        assert_eq!((late.name.as_str(), &late.provides), ("release-2_INCONSISTENT", &new.provides));
    }
}
