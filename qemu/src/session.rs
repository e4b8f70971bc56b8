//! Scenarios of boards, several machines at a time, as often in a row as wanted; a line of verdict for each.

use crate::machine::Bench;
use crate::play::{Play, Taken, log_of};
use crate::release::Releases;
use crate::scenario::Scenario;
use crate::tool::{Result, target};
use std::fs;
use std::panic::resume_unwind;
use std::path::Path;
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
#[derive(Clone, Copy, Debug, Default)]
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
    let ended = side_by_side(&jobs, plan.machines, |(_, job)| job.run(plan, run));
    for ((number, _), cpu) in jobs.iter().zip(ended) {
        let sum = &mut sums[*number];
        match cpu {
            Some(cpu) => (sum.passed, sum.cpu) = (sum.passed + 1, sum.cpu + cpu),
            None => sum.failed += 1,
        }
    }
    sums
}

/// Does the jobs, at most `most` at a time, begun in their order; what each gave, in their order. A machine ends with the
/// thread that switched it on (`sys::ends_with_us`), so a job is done by one thread.
fn side_by_side<J: Sync, R: Send>(jobs: &[J], most: usize, work: impl Fn(&J) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let mut ended: Vec<(usize, R)> = thread::scope(|scope| {
        let worker = || {
            let numbers = std::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)));
            let mine = numbers.map_while(|number| Some((number, work(jobs.get(number)?))));
            mine.collect::<Vec<_>>()
        };
        let workers: Vec<_> = (0..most.min(jobs.len())).map(|_| scope.spawn(worker)).collect();
        // A panic goes on here: a job without a verdict is not one that passed.
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)))
            .collect()
    });
    ended.sort_by_key(|(number, _)| *number);
    ended.into_iter().map(|(_, result)| result).collect()
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
        let work = target().join("run").join(&bench.board.name).join(scenario.name);
        let ended = Play::new(bench, releases, scenario, &work, log.clone()).and_then(Play::run);
        if ended.is_ok() {
            // A hundred megabytes each. What failed stays, to be looked at.
            let _ = fs::remove_dir_all(&work);
        }
        tell(bench, scenario.name, begin, &log, &ended);
        ended.ok().map(|taken| taken.cpu)
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[test]
    fn every_job_is_done_once_and_answers_in_its_place() {
        let jobs: Vec<usize> = (0..100).collect();
        for most in [1, 3, 200] {
            let doubled: Vec<usize> = jobs.iter().map(|job| job * 2).collect();
            assert_eq!(side_by_side(&jobs, most, |job| job * 2), doubled, "{most} at a time");
        }
        assert!(side_by_side(&[], 3, |job: &usize| *job).is_empty());
    }

    #[test]
    fn as_many_as_wanted_are_at_work_at_a_time_and_no_more() {
        // Each waits for two others: fewer at a time would never end.
        let (together, busy) = (Barrier::new(3), AtomicUsize::new(0));
        let most = side_by_side(&[(); 12], 3, |()| {
            let now = busy.fetch_add(1, Ordering::SeqCst) + 1;
            together.wait();
            busy.fetch_sub(1, Ordering::SeqCst);
            now
        });
        assert_eq!(most.into_iter().max(), Some(3));
    }

    #[test]
    #[should_panic(expected = "the third")]
    fn a_job_that_panics_is_no_job_that_passed() {
        side_by_side(&[1, 2, 3, 4], 2, |job| assert_ne!(*job, 3, "the third"));
    }
}
