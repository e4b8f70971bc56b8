//! The clock floor: the earliest time that it can be, for boards whose clock starts in 1970.
//!
//! Certificates are judged by the newest of: the clock, the time of this build, the last time that a server told us.
//! Such a time is believed only if the certificates by which the server proved who it is would be good at that time,
//! too. So no server, however wrong, can put the floor behind the end of its own certificates: they stay good, and so
//! do all that will replace them. It is written at most once a day, that is, when it has grown by a day.

use crate::sys::clock;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// The earliest build of this version: seconds since 1970 of its last change. Raised with each release.
const RELEASED: u64 = 1_795_564_800; // 2026-11-25

/// When this program was built: `SOURCE_DATE_EPOCH` of the build if it was set, so that builds can be repeated.
pub const BUILT: u64 = newest(RELEASED, number(option_env!("SOURCE_DATE_EPOCH")));

/// The floor is written when it has grown by so much, in seconds.
const STEP: u64 = 24 * 3600;

/// Where the last time of a server is kept.
pub trait LastTime: Send + Sync {
    /// Seconds since 1970; 0 if there is none.
    fn load(&self) -> u64;
    /// Keeps it, durably.
    fn save(&self, seconds: u64);
}

/// The floor. Without a place for it, it is switched off.
#[derive(Clone)]
pub(super) struct Floor(Arc<Inner>);

struct Inner {
    kept: Option<Arc<dyn LastTime>>,
    read: OnceLock<()>,
    at: AtomicU64,
}

impl fmt::Debug for Floor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Floor({:?})", self.at())
    }
}

impl Floor {
    pub(super) fn new(kept: Option<Arc<dyn LastTime>>) -> Floor {
        Floor(Arc::new(Inner { kept, read: OnceLock::new(), at: AtomicU64::new(BUILT) }))
    }

    /// Seconds since 1970; `None`: switched off. What is kept is read the first time.
    pub(super) fn at(&self) -> Option<u64> {
        let kept = self.0.kept.as_ref()?;
        self.0.read.get_or_init(|| {
            self.0.at.fetch_max(kept.load(), Ordering::Relaxed);
            let (at, now) = (self.0.at.load(Ordering::Relaxed), clock::wall());
            if now < at {
                let [now, at] = [now, at].map(clock::rfc3339);
                log::info!("this clock says {now}: certificates are judged by {at} (ClockFloor)");
            }
        });
        Some(self.0.at.load(Ordering::Relaxed))
    }

    /// The time that certificates and dates of the server are judged by.
    pub(super) fn now(&self) -> u64 {
        clock::wall().max(self.at().unwrap_or(0))
    }

    /// A server says that it is `date`. `proven`: whether it could still prove who it is at that time.
    pub(super) fn heard(&self, date: u64, proven: impl FnOnce() -> bool) {
        let (Some(kept), Some(at)) = (&self.0.kept, self.at()) else { return };
        if date < at.saturating_add(STEP) {
            return;
        }
        if !proven() {
            log::debug!("the server's time {} is not believed", clock::rfc3339(date));
            return;
        }
        self.0.at.store(date, Ordering::Relaxed);
        log::debug!("ClockFloor is now {}", clock::rfc3339(date));
        kept.save(date);
    }

    #[cfg(feature = "tls")]
    /// For messages: what the clock says, and the floor if there is one.
    pub(super) fn told(&self) -> String {
        let day = |seconds| clock::rfc3339(seconds).chars().take(10).collect::<String>();
        let floor = self.at().map_or("off".into(), day);
        format!("this clock says {} (ClockFloor is {floor})", day(clock::wall()))
    }
}

const fn newest(a: u64, b: u64) -> u64 {
    if a > b { a } else { b }
}

/// The number in a text; 0 if it is not one.
const fn number(text: Option<&str>) -> u64 {
    let Some(text) = text else { return 0 };
    let (bytes, mut n, mut i) = (text.as_bytes(), 0u64, 0);
    // What has more digits is no time.
    if bytes.len() > 12 {
        return 0;
    }
    while i < bytes.len() {
        if !bytes[i].is_ascii_digit() {
            return 0;
        }
        n = n * 10 + (bytes[i] - b'0') as u64;
        i += 1;
    }
    n
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Far in the future of every clock that runs these tests.
    const FAR: u64 = 4_000_000_000;

    #[derive(Default)]
    struct Kept(Mutex<Vec<u64>>);

    impl LastTime for Kept {
        fn load(&self) -> u64 {
            self.0.lock().expect("no panic").last().copied().unwrap_or(0)
        }

        fn save(&self, seconds: u64) {
            self.0.lock().expect("no panic").push(seconds);
        }
    }

    #[test]
    fn the_newest_of_clock_build_and_last_server_time_counts() {
        let kept = Arc::new(Kept::default());
        assert_eq!(Floor::new(Some(kept.clone())).at(), Some(BUILT));
        kept.save(FAR);
        let floor = Floor::new(Some(kept.clone()));
        assert_eq!((floor.at(), floor.now()), (Some(FAR), FAR));
        kept.save(1);
        let floor = Floor::new(Some(kept));
        assert_eq!(floor.at(), Some(BUILT));
        assert!(floor.now() >= BUILT.max(clock::wall() - 1));
    }

    #[test]
    fn it_is_written_once_a_day_and_never_goes_back() {
        let kept = Arc::new(Kept::default());
        let floor = Floor::new(Some(kept.clone()));
        for date in [FAR, FAR + 1, FAR + STEP - 1, FAR - STEP, 0, FAR + STEP, FAR + STEP + 5] {
            floor.heard(date, || true);
        }
        assert_eq!(*kept.0.lock().expect("no panic"), [FAR, FAR + STEP]);
        assert_eq!(floor.now(), FAR + STEP);
    }

    #[test]
    #[cfg(feature = "tls")]
    fn messages_name_the_clock_and_the_floor() {
        assert!(Floor::new(None).told().contains("(ClockFloor is off)"));
        let floor = Floor::new(Some(Arc::new(Kept::default()))).told();
        assert!(floor.starts_with("this clock says 20") && floor.contains("(ClockFloor is 20"), "{floor}");
    }

    #[test]
    fn a_time_at_which_the_server_could_not_prove_itself_is_not_believed() {
        let kept = Arc::new(Kept::default());
        let floor = Floor::new(Some(kept.clone()));
        floor.heard(FAR, || false);
        assert_eq!((floor.at(), kept.load()), (Some(BUILT), 0));
        floor.heard(BUILT + 1, || unreachable!("nothing to gain"));
        let off = Floor::new(None);
        off.heard(FAR, || unreachable!("switched off"));
        assert_eq!(off.at(), None);
        assert!(off.now() < FAR);
    }

    #[test]
    fn the_time_of_the_build_is_a_number_of_its_environment() {
        assert_eq!([number(None), number(Some("")), number(Some("12a")), number(Some("-1"))], [0; 4]);
        assert_eq!(number(Some("1795564800")), 1_795_564_800);
        assert_eq!(number(Some("9999999999999")), 0);
        assert!((RELEASED..FAR).contains(&std::hint::black_box(BUILT)));
    }
}
