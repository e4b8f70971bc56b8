//! The maps in force: what they say together, why, and when to ask again. Pure; `now` is the time since boot.

use super::explain::{Explanation, Voice};
use super::life::{Life, Lifetimes};
use super::map::{Action, ControlMap, Point};
use std::cmp::Reverse;
use std::fmt;
use std::time::Duration;

/// Most maps that a pool holds.
pub const MAP_LIMIT: usize = 64;
/// Wait between two decisions when a half life has passed without a refresh (K32; the official client spins).
pub const NAP: Duration = Duration::from_secs(30);
/// A shorter update poll interval counts as this much, so that a pause never spins (K31).
pub const SHORTEST_POLL: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub map: ControlMap,
    pub life: Life,
}

impl Entry {
    fn order(&self) -> (Reverse<i8>, &str) {
        (Reverse(self.map.priority()), self.map.id())
    }

    /// What it says there, and whether because it has expired (K22).
    fn says(&self, point: Point, now: Duration) -> Option<Action> {
        let rule = self.map.rule(point)?;
        Some(if self.life.at(now).is_some() { rule.action } else { rule.on_map_expire.into() })
    }
}

/// What the maps say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Enter the step.
    Continue,
    /// Wait until [`Pool::next_wake`], then ask again.
    Pause,
    /// Give the update up: the way back of the step that was about to begin, without Error scripts (K34).
    Fail,
}

impl Verdict {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Continue => "continue",
            Verdict::Pause => "pause",
            Verdict::Fail => "fail",
        }
    }
}

/// When a pause is looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// At that time the server is asked for its map again; then the maps decide (K31).
    Refresh(Duration),
    /// At that time the maps decide (K32).
    Decide(Duration),
    /// No map is alive: the maps decide at once. Never follows a pause at the same time (K32).
    AtOnce,
}

/// What came of setting a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Added,
    /// It took the place of another one.
    Replaced,
    /// It said nothing, and so deleted another one (K10).
    Deleted,
    /// It said nothing, and there was no other one.
    Nothing,
}

/// Why a map was not taken; the pool is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// There are [`MAP_LIMIT`] maps already.
    Full,
    /// The ID of a map of the server is not that of the deployment (K13).
    OtherDeployment,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Full => write!(f, "there are {MAP_LIMIT} update control maps already; delete one first"),
            Refused::OtherDeployment => {
                f.write_str("the ID of the server's update control map is not that of the deployment")
            }
        }
    }
}

impl std::error::Error for Refused {}

/// A map of the pool, to be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed<'a> {
    /// The map; its actions are those of the next decision (K24).
    pub map: &'a ControlMap,
    /// How long it lives; `None`: it has expired.
    pub expires_in: Option<Duration>,
}

/// The maps in force. All of them count at every point, whatever their ID (K25).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pool {
    /// By priority, high first, then by ID; no identity twice.
    pub(super) entries: Vec<Entry>,
    pub(super) changes: u64,
}

impl Pool {
    /// Sets a map locally: takes the place of the one with its identity; deletes that if it says nothing (K10).
    ///
    /// # Errors
    /// [`Refused::Full`].
    pub fn insert(&mut self, map: ControlMap, now: Duration, lives: &Lifetimes) -> Result<Change, Refused> {
        let known = self.entries.iter().position(|e| e.map.same_as(&map));
        let change = match (known, map.is_empty()) {
            (Some(_), true) => Change::Deleted,
            (Some(_), false) => Change::Replaced,
            (None, true) => return Ok(Change::Nothing),
            (None, false) if self.entries.len() >= MAP_LIMIT => return Err(Refused::Full),
            (None, false) => Change::Added,
        };
        if let Some(at) = known {
            self.entries.remove(at);
        }
        if !map.is_empty() {
            self.put(Entry { map, life: Life::from(now, lives.normal) });
        }
        self.changed();
        Ok(change)
    }

    /// The server's map takes the place of all with its ID, of every priority, also those that were set locally
    /// (K11). It is kept even if it says nothing, so that it is refreshed (K27).
    ///
    /// # Errors
    /// [`Refused`].
    pub fn replace_from_server(
        &mut self,
        deployment: &str,
        map: ControlMap,
        now: Duration,
        lives: &Lifetimes,
    ) -> Result<(), Refused> {
        if map.id() != deployment {
            return Err(Refused::OtherDeployment);
        }
        if self.entries.iter().filter(|e| e.map.id() != deployment).count() >= MAP_LIMIT {
            return Err(Refused::Full);
        }
        self.entries.retain(|e| e.map.id() != deployment);
        self.put(Entry { map, life: Life::from(now, lives.normal) });
        self.changed();
        Ok(())
    }

    /// Removes all maps of a deployment: its end (K14), or the server has none for it any more (K12). Says whether
    /// there were any.
    pub fn remove_deployment(&mut self, deployment: &str) -> bool {
        self.retain(|entry| entry.map.id() != deployment)
    }

    /// Drops the expired maps, on entering Idle and only there: until then their on_map_expire counts (K15). Says
    /// whether there were any.
    pub fn drop_expired(&mut self, now: Duration) -> bool {
        self.retain(|entry| entry.life.at(now).is_some())
    }

    /// There is a map of the deployment, alive or expired: it is to be refreshed before each decision (K27).
    pub fn has_map_of(&self, deployment: &str) -> bool {
        self.entries.iter().any(|e| e.map.id() == deployment)
    }

    /// All maps in the order in which they are asked.
    pub fn maps(&self, now: Duration) -> impl Iterator<Item = Listed<'_>> {
        self.entries.iter().map(move |Entry { map, life }| Listed {
            map,
            expires_in: life.at(now).map(|(_, expires)| expires.saturating_sub(now)),
        })
    }

    /// There is no map.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Grows with every map that is set or removed, is persisted, and so tells a paused update that something has
    /// changed, also from one process to another (K16). Decisions and expiry do not count.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Decides at a point, and puts the on_action_executed of every map that was asked in the place of its action,
    /// also of those that did not win; priorities below the deciding one are not asked (section 4, K23, K24).
    ///
    /// To be called once on arriving at a point, and once for each wake-up; never for a look ([`Pool::explain`]), nor
    /// a second time because the way into a step has several states (K33). The pool is to be persisted afterwards,
    /// if its encoded form has changed.
    pub fn verdict(&mut self, point: Point, now: Duration) -> Verdict {
        let Decision { verdict, by: _, lowest } = self.decide(point, now);
        for entry in &mut self.entries {
            if entry.map.priority() >= lowest {
                entry.map.executed(point);
            }
        }
        verdict
    }

    /// What [`Pool::verdict`] would say now, and why. Changes nothing.
    pub fn explain(&self, point: Point, now: Duration) -> Explanation {
        let Decision { verdict, by, lowest: _ } = self.decide(point, now);
        let voice = by.and_then(|entry| {
            let rule = entry.map.rule(point)?;
            Some(Voice {
                id: entry.map.id().to_owned(),
                priority: entry.map.priority(),
                says: entry.says(point, now)?,
                expires_in: entry.life.at(now).map(|(_, expires)| expires.saturating_sub(now)),
                at_expiry: rule.on_map_expire,
                afterwards: rule.on_action_executed,
            })
        });
        Explanation { point, verdict, voice }
    }

    /// When a paused update is looked at again, if no map is set before (K31, K32). `poll` is the update poll
    /// interval. Also wakes for the expiry of every map (K16). Always after `now`, but for [`Wake::AtOnce`].
    pub fn next_wake(&self, deployment: &str, poll: Duration, now: Duration) -> Wake {
        let Some(expiry) = self.live(now).map(|(_, _, expires)| expires).min() else { return Wake::AtOnce };
        let due = |half: Duration| if half > now { half } else { now.saturating_add(NAP) };
        let of_deployment = self.live(now).filter(|(map, ..)| map.id() == deployment);
        match of_deployment.map(|(_, half, _)| due(half)).min() {
            Some(half) => {
                let at = half.min(now.saturating_add(poll.max(SHORTEST_POLL)));
                if at <= expiry { Wake::Refresh(at) } else { Wake::Decide(expiry) }
            }
            None => Wake::Decide(self.live(now).map(|(_, half, _)| due(half)).fold(expiry, Duration::min)),
        }
    }

    /// The maps that are alive, their half lives and their ends.
    fn live(&self, now: Duration) -> impl Iterator<Item = (&ControlMap, Duration, Duration)> {
        self.entries.iter().filter_map(move |Entry { map, life }| {
            let (half, expires) = life.at(now)?;
            Some((map, half, expires))
        })
    }

    fn decide(&self, point: Point, now: Duration) -> Decision<'_> {
        for level in self.entries.chunk_by(|a, b| a.map.priority() == b.map.priority()) {
            let strongest = level
                .iter()
                .filter_map(|entry| Some((entry.says(point, now)?, entry)))
                // `min_by_key` keeps the first of equals.
                .min_by_key(|(says, _)| Reverse(*says));
            let Some((says, by)) = strongest else { continue };
            let verdict = match says {
                Action::Fail => Verdict::Fail,
                Action::Pause => Verdict::Pause,
                Action::ForceContinue => Verdict::Continue,
                Action::Continue => continue,
            };
            return Decision { verdict, by: Some(by), lowest: by.map.priority() };
        }
        Decision { verdict: Verdict::Continue, by: None, lowest: i8::MIN }
    }

    /// Keeps the order.
    pub(super) fn put(&mut self, entry: Entry) {
        let at = self.entries.partition_point(|e| e.order() < entry.order());
        self.entries.insert(at, entry);
    }

    fn retain(&mut self, keep: impl Fn(&Entry) -> bool) -> bool {
        let before = self.entries.len();
        self.entries.retain(keep);
        let removed = self.entries.len() < before;
        if removed {
            self.changed();
        }
        removed
    }

    fn changed(&mut self) {
        self.changes = self.changes.wrapping_add(1);
    }
}

struct Decision<'a> {
    verdict: Verdict,
    /// The map that decides.
    by: Option<&'a Entry>,
    /// Maps below this priority were not asked.
    lowest: i8,
}
