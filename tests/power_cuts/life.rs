//! From power-on until nothing is left to do: boots, starts of the agent, and what must be true at the end.

use super::cut::{Cut, Ends, Tears};
use super::machine::{Bench, Down, Machine, Shared, Software};
use super::ports::{Port, SimDepot};
use super::scenario::{Fails, Kind, NewSystem, Scenario};
use std::rc::Rc;
use std::time::Duration;
use thimble::agent::schedule::Intervals;
use thimble::agent::{Facts, Record, State, Status, Trial, Wait, resume};
use thimble::ports::Host;
use thimble::run::{Driver, Exit, Mode, World};

/// Starts of the agent that no update needs.
const MANY_STARTS: usize = 120;

/// Runs a scenario with these cuts. If a promise is broken, the whole story.
pub fn live(scenario: &Rc<Scenario>, bench: &Rc<Bench>, cuts: &[Cut]) -> Result<Machine, String> {
    let shared = Machine::new(scenario, bench, cuts);
    until_idle(&shared);
    shared.borrow_mut().trail.push("-- idle; two more restarts".into());
    let at_the_end = End::of(&shared.borrow());
    if shared.borrow().story.violations.is_empty() {
        check(&mut shared.borrow_mut(), &at_the_end);
        for _ in 0..2 {
            shared.borrow_mut().boot();
        }
        let after = End::of(&shared.borrow());
        let rootfs = scenario.kind == Kind::Rootfs && !may_stay_pending(&shared.borrow());
        if rootfs && after.software != at_the_end.software {
            shared.borrow_mut().violation("another system runs after a restart");
        }
    }
    let machine = Rc::try_unwrap(shared).ok().expect("nobody else has it").into_inner();
    if machine.story.violations.is_empty() {
        return Ok(machine);
    }
    Err(format!(
        "broken: {}\nscenario: {scenario}\ncuts: {cuts:?}\ntrail:\n  {}\n",
        machine.story.violations.join("; "),
        machine.trail.join("\n  ")
    ))
}

fn until_idle(shared: &Shared) {
    shared.borrow_mut().boot();
    for _ in 0..MANY_STARTS {
        if !shared.borrow().story.violations.is_empty() {
            return;
        }
        let exit = start(shared);
        let mut m = shared.borrow_mut();
        match (m.down.take(), exit) {
            (Some(Down::Cut(Ends::Power) | Down::Restart), _) => m.boot(),
            (Some(Down::Cut(Ends::Agent)), _) => m.trail.push("-- the agent is started again".into()),
            // The record could not be removed: the next run of the agent does it.
            (None, Exit::Idle { .. }) if !m.journal.load().is_empty() && fails(&m, &["journal: cleared"]) => {
            }
            (None, Exit::Idle { .. }) => return,
            (None, Exit::Waiting { left }) => {
                m.trail.push("-- the agent left, to be started later".into());
                let waited = m.act("time between two runs", Tears::Never, |m, _| {
                    m.now += left;
                    Ok(())
                });
                if waited.is_err() && m.down.take() == Some(Down::Cut(Ends::Power)) {
                    m.boot();
                }
            }
            (None, exit) => return m.violation(format!("the agent left with {exit:?}")),
        }
    }
    shared.borrow_mut().violation("the agent is started for ever");
}

/// One process, as `cli/managed.rs` begins it.
fn start(shared: &Shared) -> Exit {
    let (state, wait) = begin(shared);
    {
        let story = &mut shared.borrow_mut().story;
        story.failed = false;
        if wait.is_none() {
            (story.token_dropped, story.heard_before_commit) = (false, false);
        }
    }
    let port = Port(shared.clone());
    let [mut journal, mut scripts, mut server, mut software, mut host, mut controls] =
        [(); 6].map(|()| port.clone());
    let mut depot = SimDepot::new(shared);
    let world = World {
        journal: &mut journal,
        scripts: &mut scripts,
        server: &mut server,
        depot: &mut depot,
        software: &mut software,
        controls: &mut controls,
        host: &mut host,
    };
    let max_wait =
        if shared.borrow().scenario.patient { Duration::from_secs(1 << 30) } else { Duration::ZERO };
    let day = Duration::from_secs(86_400);
    let retry = Duration::from_secs(60);
    let intervals = Intervals { update: day, inventory: day, control: day, retry, retry_count: 2 };
    Driver::new(world, Mode::OneShot { max_wait }, intervals, 1.0).run(state, wait)
}

fn begin(shared: &Shared) -> (State, Option<Wait>) {
    let content = shared.borrow().journal.load();
    if content.is_empty() {
        return (State::IdleEnter, None);
    }
    let record = Record::decode(&content).expect("what was written can be read");
    let same_boot = record.boot_id == Port(shared.clone()).boot_id();
    let looks = record.state.is_control() && !same_boot;
    let trial = if looks { SimDepot::new(shared).trial() } else { Trial::NotKnown };
    let facts = Facts { same_boot, trial };
    let wait = record.wait.clone().filter(|_| facts.same_boot);
    let was = record.state.name();
    let state = resume(record, facts);
    shared.borrow_mut().trail.push(format!("-- {was} is resumed with {}", state.name()));
    (state, wait)
}

/// What there is when nothing is left to do.
struct End {
    software: Software,
    name: String,
    journal_empty: bool,
    pending: bool,
    remembered: bool,
}

impl End {
    fn of(m: &Machine) -> End {
        End {
            software: m.software(),
            name: m.installed.load().name,
            journal_empty: m.journal.load().is_empty(),
            pending: m.env.get("upgrade_available").as_deref() != Ok("0"),
            remembered: m.bench.memory().exists(),
        }
    }
}

fn fails(m: &Machine, at: &[&str]) -> bool {
    m.scenario.faults.iter().any(|f| f.fails != Fails::Again && at.contains(&f.at))
}

/// ArtifactRollback itself has failed, or the loop guard has ended it: the boot loader is left to go back by itself.
fn may_stay_pending(m: &Machine) -> bool {
    m.story.looped || fails(m, &["ArtifactRollback"])
}

/// Where a name with `_INCONSISTENT` is right (U54, decision 3): there is no way back, or a part of it has failed, or
/// ArtifactCommit_Leave has, or the loop guard struck. Never because of a cut alone.
fn may_be_inconsistent(m: &Machine) -> bool {
    let way_back = [
        "ArtifactRollback_Enter",
        "ArtifactRollback",
        "ArtifactRollback_Leave",
        "ArtifactRollbackReboot_Enter",
        "ArtifactRollbackReboot_Leave",
        "ArtifactFailure_Enter",
        "ArtifactFailure",
        "ArtifactFailure_Leave",
        "NeedsArtifactReboot", // Asked again on the way back.
        "SupportsRollback",
        "ArtifactCommit_Leave",
        "journal: CommitLeave", // As if the scripts had failed: it is committed and cannot go on.
    ];
    !m.scenario.kind.rollback() || m.story.looped || fails(m, &way_back)
}

fn check(m: &mut Machine, end: &End) {
    let mut broken = Vec::new();
    let mut must = |good: bool, text: String| {
        if !good {
            broken.push(text);
        }
    };
    must(end.journal_empty, "the journal is not empty".into());
    // Only what fails for ever, or many cuts, may look like a loop.
    let loops = ["ArtifactVerifyRollbackReboot", "restart"];
    let for_ever = m.scenario.faults.iter().any(|f| f.always && loops.contains(&f.at));
    must(!m.story.looped || for_ever || m.cuts.len() > 2, "the loop guard struck".into());
    must(!end.pending || may_stay_pending(m), "upgrade_available is not 0".into());
    let untidy = m.story.looped || fails(m, &["Cleanup"]);
    must(!end.remembered || untidy, "the handler still remembers where it came from".into());

    // The store is full: nothing can change the name, but the server hears of it.
    let nameless = fails(m, &["installed: release-2", "installed: release-2_INCONSISTENT"]);
    let runs = end.software;
    let there = if m.scenario.kind == Kind::Rootfs { runs } else { m.module.there };
    match end.name.as_str() {
        _ if m.scenario.kind == Kind::Empty => must(end.name.starts_with("release-"), end.name.clone()),
        "release-1" => must(
            (runs, there) == (Software::Old, Software::Old) || nameless,
            format!("the old name, but {runs:?} runs and {there:?} is installed"),
        ),
        "release-2" => must(
            (runs, there) == (Software::New, Software::New),
            format!("the new name, but {runs:?} runs and {there:?} is installed"),
        ),
        "release-2_INCONSISTENT" => must(may_be_inconsistent(m), "the name is inconsistent".into()),
        other => must(false, format!("the name is {other}")),
    }

    let finals = &m.story.finals;
    must(finals.windows(2).all(|w| w[0] == w[1]), format!("the server heard {finals:?}"));
    let new = end.name == "release-2";
    for status in finals {
        let true_result = new == (*status == Status::Success);
        // A failed Cleanup fails the report, not the name (decision 19); so does the loop guard there.
        let untidy =
            new && *status == Status::Failure && (fails(m, &["Cleanup"]) || m.story.looped || nameless);
        must(true_result || untidy, format!("the server heard {status:?}, the name is {}", end.name));
    }
    // Not heard: it was refused, or the agent gave up, or its process did.
    must(!finals.is_empty() || m.story.closed, "the deployment was never ended".into());
    let good = m.scenario.faults.is_empty() && m.scenario.system == NewSystem::Good;
    must(
        !good || m.story.finals.len() < 2 || m.trail.iter().any(|t| t.contains("<==")),
        "reported twice".into(),
    );
    m.story.violations.extend(broken);
}
