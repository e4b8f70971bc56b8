//! Scenarios of boards, several machines at a time, as often in a row as wanted; a line of verdict for each.

use crate::machine::Bench;
use crate::play::{Play, Taken, log_of};
use crate::release::Releases;
use crate::scenario::Scenario;
use crate::tool::{Result, target};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

/// A board that is ready to play.
pub struct Ready {
    /// The board, and how it is switched on.
    pub bench: Bench,
    /// What is installed on it.
    pub releases: Releases,
}

/// How it is played.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// So many times in a row. A run begins when the one before it is over.
    pub runs: usize,
    /// So many machines at a time.
    pub machines: usize,
}

/// One board plays one scenario.
struct Job<'a> {
    ready: &'a Ready,
    scenario: &'static Scenario,
}

/// What a board did in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sum {
    passed: usize,
    failed: usize,
    exempt: usize,
    cpu: f64,
}

/// Plays them all, in the order given; whether all passed. Slow boards should come first: then no machine is alone in the end.
pub fn play(boards: &[Ready], scenarios: &[&'static Scenario], plan: Plan) -> bool {
    let mut good = true;
    for run in 1..=plan.runs {
        let begin = Instant::now();
        let sums = once(boards, scenarios, plan, run);
        for (ready, sum) in boards.iter().zip(&sums) {
            let Sum { passed, failed, exempt, cpu } = sum;
            let name = &ready.bench.board.name;
            println!("       {name}: {passed} passed, {failed} failed, {exempt} exempt; {cpu:.0} s of CPU");
        }
        let bad: usize = sums.iter().map(|sum| sum.failed).sum();
        let verdict = if bad == 0 { "all good".to_owned() } else { format!("{bad} FAILED") };
        println!("       run {run} of {}: {verdict}, {} s", plan.runs, begin.elapsed().as_secs());
        good &= bad == 0;
    }
    good
}

fn once(boards: &[Ready], scenarios: &[&'static Scenario], plan: Plan, run: usize) -> Vec<Sum> {
    let mut sums = vec![Sum::default(); boards.len()];
    let mut jobs = Vec::new();
    for (number, ready) in boards.iter().enumerate() {
        for &scenario in scenarios {
            let board = &ready.bench.board;
            if scenario.cuts_environment() && !board.redundant() {
                let (board, name) = (&board.name, scenario.name);
                println!(
                    "EXEMPT {board} {name}: the environment is a single copy (boards/{board}/fw_env.config)"
                );
                sums[number].exempt += 1;
            } else {
                jobs.push((number, Job { ready, scenario }));
            }
        }
    }
    let sums = Mutex::new(sums);
    let next = AtomicUsize::new(0);
    // A machine ends with the thread that switched it on (`sys::ends_with_us`): these live as long as there is work.
    thread::scope(|scope| {
        for _ in 0..plan.machines.min(jobs.len()) {
            scope.spawn(|| {
                while let Some((number, job)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let cpu = job.run(plan, run);
                    let mut sums = sums.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                    let sum = &mut sums[*number];
                    match cpu {
                        Some(cpu) => (sum.passed, sum.cpu) = (sum.passed + 1, sum.cpu + cpu),
                        None => sum.failed += 1,
                    }
                }
            });
        }
    });
    sums.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Job<'_> {
    /// Plays it and says how it ended; the seconds of CPU of its machine if it passed.
    fn run(&self, plan: Plan, run: usize) -> Option<f64> {
        let Job { ready, scenario } = self;
        let Ready { bench, releases } = ready;
        let log = if plan.runs == 1 {
            log_of(bench, scenario.name)
        } else {
            // A failure in one run is still to be read after the next.
            log_of(bench, &format!("{}.{run}", scenario.name))
        };
        let begin = Instant::now();
        let work = work(bench, scenario);
        let ended = Play::new(bench, releases, scenario, &work, log.clone()).and_then(Play::run);
        if ended.is_ok() {
            // A hundred megabytes each. What failed stays, to be looked at.
            let _ = fs::remove_dir_all(&work);
        }
        tell(bench, scenario.name, begin, &log, &ended);
        ended.ok().map(|taken| taken.cpu)
    }
}

/// Where the card is while a scenario is played.
fn work(bench: &Bench, scenario: &Scenario) -> PathBuf {
    target().join("run").join(&bench.board.name).join(scenario.name)
}

/// The line of a verdict; whether it is a good one.
pub fn tell(bench: &Bench, what: &str, begin: Instant, log: &Path, ended: &Result<Taken>) -> bool {
    let (name, seconds) = (&bench.board.name, begin.elapsed().as_secs());
    match ended {
        Ok(Taken { boots, cpu }) => {
            println!("PASS   {name} {what}: {seconds} s, {cpu:.0} s of CPU, {boots} boots");
            true
        }
        Err(error) => {
            println!("FAIL   {name} {what}: {seconds} s: {error}; console: {}", log.display());
            false
        }
    }
}
