//! What one-shot runs remember of each other: when the server was last asked, which inventory it has.
//!
//! Kept in /run, so that it costs no flash; in the data store where there is no /run. Losing it costs one request.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thimble::json;
use thimble::sys::{clock, file};

/// Times since boot, valid in one boot only.
#[derive(Debug)]
pub struct Times {
    path: PathBuf,
    boot_id: String,
    check_ms: Option<u64>,
    inventory_ms: Option<u64>,
    inventory_digest: u64,
    interval: Duration,
    /// Only the first inventory of a run may be left out: the next one follows a deployment (U5).
    first: bool,
}

impl Times {
    /// Reads them. `interval` is that of the inventory.
    pub fn load(root: &Path, datastore: &Path, interval: Duration) -> Times {
        let run = file::below(root, "/run");
        let dir = if run.is_dir() { run } else { datastore.to_owned() };
        let mut times = Times {
            path: dir.join("thimble-times"),
            boot_id: clock::boot_id(root),
            check_ms: None,
            inventory_ms: None,
            inventory_digest: 0,
            interval,
            first: true,
        };
        let text = file::read_limited(&times.path, 4096).unwrap_or_default();
        let Ok(value) = json::parse(&String::from_utf8_lossy(&text)) else { return times };
        if json::get(&value, "boot_id").and_then(json::string) == Some(&times.boot_id)
            && !times.boot_id.is_empty()
        {
            let number =
                |key| json::get(&value, key).and_then(json::integer).and_then(|n| u64::try_from(n).ok());
            times.check_ms = number("check_ms");
            times.inventory_ms = number("inventory_ms");
            let digest = json::get(&value, "inventory_digest").and_then(json::string);
            times.inventory_digest = digest.and_then(|d| u64::from_str_radix(d, 16).ok()).unwrap_or(0);
        }
        times
    }

    /// A fingerprint of an inventory (FNV-1a).
    pub fn digest(attributes: &BTreeMap<String, Vec<String>>) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        let words = attributes.iter().flat_map(|(k, v)| std::iter::once(k).chain(v));
        for byte in words.flat_map(|w| w.bytes().chain([0xff])) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        hash
    }

    /// Whether this inventory need not be sent: the server has it, and its interval has not passed.
    pub fn inventory_is_known(&mut self, digest: u64) -> bool {
        let first = std::mem::replace(&mut self.first, false);
        let sent = self.inventory_ms.map(Duration::from_millis);
        let fresh = sent.is_some_and(|at| clock::since_boot() < at.saturating_add(self.interval));
        first && fresh && digest == self.inventory_digest
    }

    /// It was sent.
    pub fn inventory_was_sent(&mut self, digest: u64) {
        self.inventory_ms = Some(now_ms());
        self.inventory_digest = digest;
        self.save();
    }

    /// The server was asked for a deployment.
    pub fn checked(&mut self) {
        self.check_ms = Some(now_ms());
        self.save();
    }

    /// How long ago the server was asked.
    pub fn since_check(&self) -> Option<Duration> {
        self.check_ms.map(|at| clock::since_boot().saturating_sub(Duration::from_millis(at)))
    }

    fn save(&self) {
        let mut text = String::from("{\"boot_id\":");
        json::quote(&mut text, &self.boot_id);
        for (key, value) in [("check_ms", self.check_ms), ("inventory_ms", self.inventory_ms)] {
            if let Some(ms) = value {
                text.push_str(&format!(",\"{key}\":{ms}"));
            }
        }
        text.push_str(&format!(",\"inventory_digest\":\"{:x}\"}}\n", self.inventory_digest));
        if let Err(e) = file::replace(&self.path, text.as_bytes(), 0o600) {
            thimble::debug!("cannot write {}: {e}", self.path.display());
        }
    }
}

fn now_ms() -> u64 {
    u64::try_from(clock::since_boot().as_millis()).unwrap_or(u64::MAX)
}
