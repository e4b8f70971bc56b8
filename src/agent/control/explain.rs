//! A decision with its reason, in the words that log and console have in common. Pure.

use super::map::{Action, ExpireAction, Point};
use super::pool::Verdict;
use std::fmt;
use std::time::Duration;

/// The map that decides, and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voice {
    /// Its ID.
    pub id: String,
    /// Its priority.
    pub priority: i8,
    /// What it says now.
    pub says: Action,
    /// How long it lives; `None`: it has expired, and what it says is its on_map_expire.
    pub expires_in: Option<Duration>,
    /// What it says once it has expired.
    pub at_expiry: ExpireAction,
    /// What it says after this decision, while it lives (K24).
    pub afterwards: Action,
}

impl Voice {
    /// Which map it is: `map 0123…, priority 5`.
    pub fn name(&self) -> String {
        format!("map {}, priority {}", self.id, self.priority)
    }

    /// What it says and for how long: `expires in 8 min, then fail`.
    pub fn terms(&self) -> String {
        let Some(left) = self.expires_in else {
            return format!("has expired, and so says {}", self.says.spoken());
        };
        let mut text = format!("expires in {}, then {}", spoken(left), Action::from(self.at_expiry).spoken());
        if self.afterwards != self.says {
            text = format!("once, then {}; {text}", self.afterwards.spoken());
        }
        if self.says == Action::ForceContinue {
            // The verdict is a mere "continue".
            text = format!("force-continue; {text}");
        }
        text
    }
}

/// A decision with its reason, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Where.
    pub point: Point,
    /// The decision.
    pub verdict: Verdict,
    /// The map that decides, the first by ID of several; `None`: no map objects.
    pub voice: Option<Voice>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: ", self.point.word(), self.verdict.word())?;
        match &self.voice {
            Some(voice) => write!(f, "{}; {}", voice.name(), voice.terms()),
            None => f.write_str("no map objects"),
        }
    }
}

/// A length of time with its two largest units, rounded down.
pub fn spoken(length: Duration) -> String {
    let s = length.as_secs();
    let two = |a: u64, unit: &str, b: u64, smaller: &str| match b {
        0 => format!("{a} {unit}"),
        b => format!("{a} {unit} {b} {smaller}"),
    };
    match s {
        0..60 => format!("{s} s"),
        60..3600 => two(s / 60, "min", s % 60, "s"),
        3600..86400 => two(s / 3600, "h", s % 3600 / 60, "min"),
        _ => two(s / 86400, "d", s % 86400 / 3600, "h"),
    }
}
