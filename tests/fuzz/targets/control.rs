//! Update control maps and their pool. Each line of the input is one step: a letter, then what it needs.
//!
//! | letter | step |
//! | --- | --- |
//! | `+` | a map, as JSON, is set locally |
//! | `s` | a map, as JSON, comes from the server |
//! | `p` | a stored pool, as JSON, takes the place of this one |
//! | `v` | a decision, at the point of the digit that follows |
//! | `t` | so many milliseconds go by |
//! | `r`, `b` | stored and read back, in the same boot or another one |
//! | `x` | idle: expired maps are dropped |

use std::time::Duration;

use crate::agent::control::{Action, ControlMap, Lifetimes, MAP_LIMIT, Point, Pool, Verdict, Wake};
use crate::json;

const SERVER: &str = "01234567-89ab-cdef-0123-456789abcdef";

struct World {
    pool: Pool,
    now: Duration,
    lives: Lifetimes,
    boot: String,
}

pub(crate) fn run(data: &[u8]) {
    let lives = Lifetimes::new(Some(Duration::from_secs(60)), Some(Duration::from_secs(30)), None);
    let mut world =
        World { pool: Pool::default(), now: Duration::from_secs(5), lives, boot: "boot-1".to_owned() };
    for line in data.split(|b| *b == b'\n') {
        let Some((step, text)) = line.split_first() else { continue };
        world.step(*step, text);
        world.look();
    }
    world.store();
}

impl World {
    fn step(&mut self, step: u8, text: &[u8]) {
        match step {
            b'+' | b's' => {
                let Ok(value) = json::parse_bytes(text, "X", "x") else { return };
                let map = match ControlMap::parse(&value) {
                    Ok(Some(map)) => map,
                    Ok(None) => return,
                    Err(e) => return assert!(e.to_string().len() < 2000, "a refusal is bounded"),
                };
                check_map(&map);
                let (before, had) = (self.pool.clone(), self.pool.maps(self.now).count());
                if step == b's' {
                    let id = if text.len().is_multiple_of(7) { SERVER } else { map.id() }.to_owned();
                    match self.pool.replace_from_server(&id, map, self.now, &self.lives) {
                        Ok(()) => assert!(self.pool.has_map_of(&id)),
                        Err(_) => assert_eq!(self.pool, before),
                    }
                } else {
                    let (empty, same) = (map.is_empty(), map.clone());
                    match self.pool.insert(map, self.now, &self.lives) {
                        Ok(_) => {
                            let there = self.pool.maps(self.now).any(|l| l.map.same_as(&same));
                            assert_eq!(there, !empty);
                        }
                        Err(_) => assert!(self.pool == before && had == MAP_LIMIT),
                    }
                }
            }
            b'p' => {
                let Ok(value) = json::parse_bytes(text, "X", "x") else { return };
                if let Ok(pool) = Pool::decode(&value, &self.boot, self.now, &self.lives) {
                    self.pool = pool;
                }
            }
            b'v' => {
                let point = Point::ALL[usize::from(text.first().copied().unwrap_or(0)) % 3];
                let told = self.pool.explain(point, self.now);
                let ids = |pool: &Pool| -> Vec<(String, i8)> {
                    pool.maps(Duration::ZERO).map(|l| (l.map.id().to_owned(), l.map.priority())).collect()
                };
                let (before, changes) = (ids(&self.pool), self.pool.changes());
                assert_eq!(
                    self.pool.verdict(point, self.now),
                    told.verdict,
                    "explain says what verdict does"
                );
                assert_eq!((ids(&self.pool), self.pool.changes()), (before, changes));
            }
            b't' => {
                let text = String::from_utf8_lossy(text);
                let millis = text.trim().parse().unwrap_or(1000u64);
                self.now = self.now.saturating_add(Duration::from_millis(millis));
            }
            b'r' => self.store(),
            b'b' => {
                self.boot.push('+');
                self.boot.truncate(20);
                let value = json::parse_bytes(&self.pool.encode("another", self.now), "X", "x").unwrap();
                self.pool = Pool::decode(&value, &self.boot, self.now, &self.lives).unwrap();
            }
            b'x' => {
                self.pool.drop_expired(self.now);
                assert!(self.pool.maps(self.now).all(|l| l.expires_in.is_some()));
            }
            _ => {}
        }
    }

    /// What is written is read back the same, and no map lives longer than a lifetime from now.
    fn store(&mut self) {
        let bytes = self.pool.encode(&self.boot, self.now);
        let value = json::parse_bytes(&bytes, "X", "x").unwrap();
        let back = Pool::decode(&value, &self.boot, self.now, &self.lives).unwrap();
        assert_eq!(back.encode(&self.boot, self.now), bytes, "encoding is stable");
        let shown = |pool: &Pool| -> Vec<(ControlMap, Option<Duration>)> {
            pool.maps(self.now).map(|l| (l.map.clone(), l.expires_in)).collect()
        };
        for ((a, life), (b, read)) in shown(&self.pool).into_iter().zip(shown(&back)) {
            assert_eq!((a, life.map(|l| l.as_millis())), (b, read.map(|l| l.as_millis())));
        }
        self.pool = back;
    }

    /// What must be true at any time.
    fn look(&mut self) {
        let count = self.pool.maps(self.now).count();
        assert!(count <= MAP_LIMIT + 64, "{count} maps");
        assert_eq!(self.pool.is_empty(), count == 0);
        let longest = self.lives.normal.max(self.lives.boot);
        let order: Vec<(i8, &str)> =
            self.pool.maps(self.now).map(|l| (-l.map.priority(), l.map.id())).collect();
        assert!(order.windows(2).all(|w| w[0] < w[1]), "ordered, no identity twice: {order:?}");
        assert!(self.pool.maps(self.now).all(|l| l.expires_in.is_none_or(|left| left <= longest)));
        let deployment = order.first().map_or(SERVER.to_owned(), |(_, id)| (*id).to_owned());
        for point in Point::ALL {
            let told = self.pool.explain(point, self.now);
            assert!(!told.to_string().is_empty());
            match (told.verdict, &told.voice) {
                (Verdict::Continue, None) => {}
                (Verdict::Continue, Some(v)) => assert_eq!(v.says, Action::ForceContinue),
                (Verdict::Pause, Some(v)) => {
                    assert!(v.says == Action::Pause && v.expires_in.is_some(), "a dead map never pauses");
                }
                (Verdict::Fail, Some(v)) => assert_eq!(v.says, Action::Fail),
                (Verdict::Pause | Verdict::Fail, None) => panic!("nobody said so"),
            }
            if told.verdict == Verdict::Pause {
                match self.pool.next_wake(&deployment, Duration::ZERO, self.now) {
                    Wake::AtOnce => panic!("a pause that spins"),
                    Wake::Refresh(at) | Wake::Decide(at) => {
                        assert!(at > self.now && at <= self.now.saturating_add(longest), "{at:?}");
                    }
                }
            }
        }
    }
}

fn check_map(map: &ControlMap) {
    assert!(map.id().len() == 36 && (-10..=10).contains(&map.priority()));
    let text = json::write(&map.to_value());
    let again = ControlMap::parse(&json::parse(&text).unwrap()).unwrap().unwrap();
    assert_eq!(&again, map, "{text}");
}
