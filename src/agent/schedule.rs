//! Polling and back-off as arithmetic on the boot-time clock.

use super::state::Errand;
use std::time::Duration;

/// Smallest back-off interval (update-process.md 1.1).
const UNIT: Duration = Duration::from_secs(60);
/// Longest wait that a server may ask for by Retry-After (SA-51).
pub const RETRY_AFTER_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// How often things are done and tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intervals {
    /// Between checks for a deployment.
    pub update: Duration,
    /// Between inventories.
    pub inventory: Duration,
    /// Between refreshes of an update control map in a pause.
    pub control: Duration,
    /// Longest back-off.
    pub retry: Duration,
    /// Tries before giving up; 0 is by the series.
    pub retry_count: u32,
}

/// Wait before the next try after `tries` (at least one) have failed; `None`: give up (update-process.md 1.1).
///
/// Each interval is used three times, then doubled, up to `max`. With `count` 0 it ends after `max` was used three
/// times; else after `count` waits (SA-50).
pub fn back_off(tries: u32, max: Duration, count: u32) -> Option<Duration> {
    let max = max.max(UNIT);
    let doubled =
        |step: u32| UNIT.checked_mul(1u32.checked_shl(step).unwrap_or(u32::MAX)).unwrap_or(max).min(max);
    let step = tries.saturating_sub(1) / 3;
    if count > 0 {
        return (tries <= count).then(|| doubled(step.min(31)));
    }
    // The step at which the cap is reached for the first time is the last one.
    let last = (0..32).find(|s| doubled(*s) >= max).unwrap_or(31);
    (step <= last).then(|| doubled(step))
}

/// As [`back_off`], for polls and inventories: a cap below one minute is used as it is (U15).
pub fn poll_back_off(tries: u32, max: Duration, count: u32) -> Option<Duration> {
    if max >= UNIT {
        return back_off(tries, max, count);
    }
    (tries <= if count > 0 { count } else { 3 }).then_some(max)
}

/// Adds up to 10 %, so that a fleet does not come back in step after an outage (decision 13). `random` is any number.
pub fn with_jitter(wait: Duration, random: u64) -> Duration {
    wait + wait.mul_f64((random % 1001) as f64 / 10_000.0)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Timer {
    due: Duration,
    failures: u32,
}

/// When the next errands are due. Times are since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    intervals: Intervals,
    inventory: Timer,
    deployment: Timer,
    /// What was begun last.
    last: Errand,
}

impl Schedule {
    /// At the start both are due at once, the inventory first (U1).
    pub fn new(intervals: Intervals, now: Duration) -> Schedule {
        let timer = Timer { due: now, failures: 0 };
        Schedule { intervals, inventory: timer, deployment: timer, last: Errand::Deployment }
    }

    fn timer(&mut self, errand: Errand) -> (&mut Timer, Duration) {
        match errand {
            Errand::Inventory => (&mut self.inventory, self.intervals.inventory),
            Errand::Deployment => (&mut self.deployment, self.intervals.update),
        }
    }

    /// What is due now; the inventory before the deployment (U1), but never twice before it: where an inventory takes
    /// longer than its interval the server is still asked for deployments.
    pub fn due(&self, now: Duration) -> Option<Errand> {
        match (self.inventory.due <= now, self.deployment.due <= now) {
            (true, true) if self.last == Errand::Inventory => Some(Errand::Deployment),
            (true, _) => Some(Errand::Inventory),
            (false, true) => Some(Errand::Deployment),
            (false, false) => None,
        }
    }

    /// When the next errand is due.
    pub fn next(&self) -> Duration {
        self.inventory.due.min(self.deployment.due)
    }

    /// An errand begins: the next one counts from now, not from its end (U3).
    pub fn begun(&mut self, errand: Errand, now: Duration) {
        let (timer, interval) = self.timer(errand);
        timer.due = now.saturating_add(interval);
        self.last = errand;
    }

    /// It went well.
    pub fn went_well(&mut self, errand: Errand) {
        self.timer(errand).0.failures = 0;
    }

    /// It failed: the back-off takes the place of the interval (U15), or what the server asked for (U16). When the
    /// back-off is used up, the interval counts again. `time_scale` shortens the back-off, in tests.
    pub fn failed(
        &mut self,
        errand: Errand,
        now: Duration,
        retry_after: Option<Duration>,
        random: u64,
        time_scale: f64,
    ) {
        let Intervals { retry, retry_count, .. } = self.intervals;
        let (timer, _) = self.timer(errand);
        if let Some(wait) = retry_after {
            timer.due = now.saturating_add(wait.min(RETRY_AFTER_LIMIT));
            return;
        }
        timer.failures = timer.failures.saturating_add(1);
        match poll_back_off(timer.failures, retry, retry_count) {
            Some(wait) => timer.due = now.saturating_add(with_jitter(wait, random).mul_f64(time_scale)),
            None => timer.failures = 0,
        }
    }

    /// How long until an errand is due.
    pub fn due_in(&self, errand: Errand, now: Duration) -> Duration {
        match errand {
            Errand::Inventory => self.inventory.due.saturating_sub(now),
            Errand::Deployment => self.deployment.due.saturating_sub(now),
        }
    }

    /// Makes an errand due at once (U5, U6).
    pub fn at_once(&mut self, errand: Errand, now: Duration) {
        self.timer(errand).0.due = now;
    }

    /// Makes an errand due at that time.
    pub fn due_at(&mut self, errand: Errand, when: Duration) {
        self.timer(errand).0.due = when;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(max: u64, count: u32) -> Vec<u64> {
        (1..100).map_while(|n| back_off(n, Duration::from_secs(max), count)).map(|d| d.as_secs()).collect()
    }

    #[test]
    fn back_off_is_the_series_of_the_official_clients() {
        assert_eq!(series(300, 0), [60, 60, 60, 120, 120, 120, 240, 240, 240, 300, 300, 300]);
        assert_eq!(series(60, 0), [60, 60, 60]);
        assert_eq!(series(120, 0), [60, 60, 60, 120, 120, 120]);
        assert_eq!(series(1800, 0).len(), 18);
        assert_eq!(series(1, 0), [60, 60, 60], "a cap below a minute is a minute");
        assert_eq!(series(300, 2), [60, 60], "a count is that many waits");
        assert_eq!(series(300, 14).len(), 14, "and sticks at the cap");
    }

    #[test]
    fn polls_use_a_short_cap_as_it_is() {
        let s = Duration::from_secs;
        assert_eq!(poll_back_off(1, s(30), 0), Some(s(30)));
        assert_eq!(poll_back_off(3, s(30), 0), Some(s(30)));
        assert_eq!(poll_back_off(4, s(30), 0), None);
        assert_eq!(poll_back_off(10, s(1), 10), Some(s(1)));
        assert_eq!(poll_back_off(11, s(1), 10), None);
    }

    #[test]
    fn jitter_adds_at_most_a_tenth() {
        for random in [0, 1, 999, 1000, 1001, u64::MAX] {
            let d = with_jitter(Duration::from_secs(100), random).as_secs_f64();
            assert!((100.0..=110.0).contains(&d), "{d}");
        }
    }

    #[test]
    fn an_inventory_that_takes_longer_than_its_interval_does_not_keep_deployments_from_being_asked_for() {
        let s = Duration::from_secs;
        let intervals =
            Intervals { update: s(30), inventory: s(5), control: s(30), retry: s(300), retry_count: 0 };
        let mut schedule = Schedule::new(intervals, s(0));
        let (mut now, mut done) = (s(0), Vec::new());
        while done.len() < 4 {
            let errand = schedule.due(now).expect("the inventory is always due again when it ends");
            schedule.begun(errand, now);
            done.push(errand);
            now += s(40);
        }
        use Errand::{Deployment, Inventory};
        assert_eq!(done, [Inventory, Deployment, Inventory, Deployment]);
    }

    #[test]
    fn the_interval_counts_from_the_start_of_an_errand() {
        let s = Duration::from_secs;
        let intervals = Intervals {
            update: s(1800),
            inventory: s(28800),
            control: s(1800),
            retry: s(300),
            retry_count: 0,
        };
        let mut schedule = Schedule::new(intervals, s(10));
        assert_eq!(schedule.due(s(10)), Some(Errand::Inventory), "the inventory comes first");
        schedule.begun(Errand::Inventory, s(10));
        schedule.went_well(Errand::Inventory);
        assert_eq!(schedule.due(s(11)), Some(Errand::Deployment));
        schedule.begun(Errand::Deployment, s(11));
        assert_eq!(schedule.due(s(1810)), None);
        assert_eq!(schedule.next(), s(1811));
        assert_eq!(schedule.due(s(1811)), Some(Errand::Deployment));
        schedule.begun(Errand::Deployment, s(1811));
        schedule.failed(Errand::Deployment, s(1812), None, 0, 1.0);
        assert_eq!(schedule.next(), s(1872), "back-off takes the place of the interval");
        schedule.failed(Errand::Deployment, s(1872), Some(s(7)), 0, 1.0);
        assert_eq!(schedule.next(), s(1879), "Retry-After is honoured");
        schedule.failed(Errand::Deployment, s(1879), Some(Duration::MAX), 0, 1.0);
        assert_eq!(schedule.next(), s(1879) + RETRY_AFTER_LIMIT.min(s(28800 - 1869)), "and capped");
    }
}
