//! How long a map is in force, as arithmetic on the boot-time clock.

use std::time::Duration;

/// How long maps live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// From the moment they were set (K19).
    pub normal: Duration,
    /// From the moment they were read back in another boot (K20).
    pub boot: Duration,
}

impl Lifetimes {
    /// From the configuration, `None` being absent. Zero counts as absent; with the update poll interval absent, too,
    /// maps expire at once (K19, K20).
    pub fn new(
        expiration: Option<Duration>,
        boot_expiration: Option<Duration>,
        update_poll: Option<Duration>,
    ) -> Lifetimes {
        let given = |d: Option<Duration>| d.filter(|d| !d.is_zero());
        Lifetimes {
            normal: given(expiration).unwrap_or_else(|| update_poll.unwrap_or_default().saturating_mul(2)),
            boot: given(boot_expiration).unwrap_or(Duration::from_secs(600)),
        }
    }

    /// Seconds within which the owner of a map should set it again: half its life, rounded down; the answer to
    /// whoever sets or deletes one (K21).
    pub fn refresh_timeout_s(&self) -> u64 {
        self.normal.as_secs() / 2
    }
}

/// How long a map is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// Until `expires`; it should be set again by `half` (K21).
    Until { half: Duration, expires: Duration },
    /// It has expired (K22).
    Over,
}

impl Life {
    /// A life of that length from now on.
    pub(super) fn from(now: Duration, length: Duration) -> Life {
        Life::Until { half: now.saturating_add(length / 2), expires: now.saturating_add(length) }
    }

    /// When it should be refreshed and when it ends; `None` once it is over.
    pub(super) fn at(self, now: Duration) -> Option<(Duration, Duration)> {
        match self {
            Life::Until { half, expires } => (now < expires).then_some((half, expires)),
            Life::Over => None,
        }
    }
}
