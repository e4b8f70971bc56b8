//! The persisted form of a pool, ours and Mender's. The words in it are promises: what one version writes, the next reads.
//!
//! Ours: `{"version":1,"boot_id":"…","changes":7,"maps":[{"map":{…},"half_ms":1000,"expires_ms":2000},{"map":{…}}]}`.
//! Times are milliseconds since the boot with that ID (decision 23); a map without them has expired. Mender's, of its
//! database key `update-control-maps` (K17): `{"active":[map…],"expired":[map…]}`, without times.

use super::life::{Life, Lifetimes};
use super::map::{ControlMap, describe};
use super::pool::{Entry, MAP_LIMIT, Pool};
use crate::agent::Unreadable;
use miniserde::json::{self, Number, Object, Value};
use std::time::Duration;

/// Version of our form. An unknown one is refused, never guessed.
const VERSION: u64 = 1;

impl Pool {
    /// The text for the store. A map that has expired by now is written as expired, for good (K22). An empty pool is
    /// to be stored, too: [`Pool::changes`] goes on counting.
    pub fn encode(&self, boot_id: &str, now: Duration) -> Vec<u8> {
        let maps = self.entries.iter().map(|Entry { map, life }| {
            let mut members = vec![("map", map.to_value())];
            if let Some((half, expires)) = life.at(now) {
                members.extend([("half_ms", millis(half)), ("expires_ms", millis(expires))]);
            }
            object(members)
        });
        let form = object(vec![
            ("version", number(VERSION)),
            ("boot_id", Value::String(boot_id.into())),
            ("changes", number(self.changes)),
            ("maps", Value::Array(maps.collect())),
        ]);
        json::to_string(&form).into_bytes()
    }

    /// Reads a stored text, parsed: our form or Mender's.
    ///
    /// Maps that were written in another boot, or by Mender, live the boot lifetime from now on (K18-K20); those of
    /// this boot keep their times, and live no longer than a lifetime from now. An unknown boot ID is another boot.
    ///
    /// # Errors
    /// Says what is wrong with it; nothing is guessed.
    pub fn decode(
        value: &Value,
        boot_id: &str,
        now: Duration,
        lives: &Lifetimes,
    ) -> Result<Pool, Unreadable> {
        let Value::Object(form) = value else {
            return Err(Unreadable(format!("a pool is an object, not {}", describe(value))));
        };
        if !form.contains_key("version") && (form.contains_key("active") || form.contains_key("expired")) {
            return mender(form, now, lives);
        }
        only(form, &["version", "boot_id", "changes", "maps"])?;
        let version = natural(form, "version")?;
        if version != VERSION {
            return Err(Unreadable(format!("version {version} of the pool is not known here")));
        }
        let same_boot = match form.get("boot_id") {
            Some(Value::String(id)) => !id.is_empty() && id == boot_id,
            other => return Err(unexpected("boot_id", other)),
        };
        let mut pool = Pool { entries: Vec::new(), changes: natural(form, "changes")? };
        for item in list(form, "maps")? {
            let Value::Object(item) = item else { return Err(unexpected("maps", Some(item))) };
            only(item, &["map", "half_ms", "expires_ms"])?;
            let life = match (item.contains_key("expires_ms"), same_boot) {
                (false, true | false) => Life::Over,
                (true, false) => Life::from(now, lives.boot),
                (true, true) => {
                    // A time beyond all lifetimes is damage, and must not become a pause for ever.
                    let latest = now.saturating_add(lives.normal.max(lives.boot));
                    let expires = Duration::from_millis(natural(item, "expires_ms")?).min(latest);
                    Life::Until {
                        half: Duration::from_millis(natural(item, "half_ms")?).min(expires),
                        expires,
                    }
                }
            };
            pool.read(item.get("map").unwrap_or(&Value::Null), life)?;
        }
        Ok(pool)
    }

    fn read(&mut self, value: &Value, life: Life) -> Result<(), Unreadable> {
        let map = ControlMap::parse(value).map_err(|e| Unreadable(e.to_string()))?;
        let map = map.ok_or_else(|| Unreadable("a map is missing".into()))?;
        if self.entries.iter().any(|e| e.map.same_as(&map)) {
            return Err(Unreadable(format!("map {} (priority {}) is there twice", map.id(), map.priority())));
        }
        if self.entries.len() >= MAP_LIMIT {
            return Err(Unreadable(format!("more than {MAP_LIMIT} maps")));
        }
        self.put(Entry { map, life });
        Ok(())
    }
}

fn mender(form: &Object, now: Duration, lives: &Lifetimes) -> Result<Pool, Unreadable> {
    only(form, &["active", "expired"])?;
    let mut pool = Pool::default();
    for map in list(form, "active")? {
        pool.read(map, Life::from(now, lives.boot))?;
    }
    for map in list(form, "expired")? {
        pool.read(map, Life::Over)?;
    }
    Ok(pool)
}

fn only(object: &Object, names: &[&str]) -> Result<(), Unreadable> {
    match object.keys().find(|key| !names.contains(&key.as_str())) {
        Some(key) => Err(Unreadable(format!("unknown member {}", describe(&Value::String(key.clone()))))),
        None => Ok(()),
    }
}

/// A list; Mender writes an empty one as null (K17).
fn list<'a>(object: &'a Object, name: &str) -> Result<&'a [Value], Unreadable> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(items)) => Ok(items),
        other => Err(unexpected(name, other)),
    }
}

fn natural(object: &Object, name: &str) -> Result<u64, Unreadable> {
    match object.get(name) {
        Some(Value::Number(Number::U64(n))) => Ok(*n),
        other => Err(unexpected(name, other)),
    }
}

fn unexpected(name: &str, found: Option<&Value>) -> Unreadable {
    Unreadable(format!("{name} is {}", found.map_or_else(|| "missing".into(), describe)))
}

fn object(members: Vec<(&str, Value)>) -> Value {
    Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn number(n: u64) -> Value {
    Value::Number(Number::U64(n))
}

fn millis(time: Duration) -> Value {
    number(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}
