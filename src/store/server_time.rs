//! The last time that a server told: a record of its own, written at most once a day.

use std::path::Path;

use super::durable::{Durable, Loaded};
use crate::error::Result;

/// The year 10000: what is later was not written by us.
const NEVER: u64 = 253_402_300_800;

fn record(datastore: &Path) -> Durable {
    Durable::new(datastore, "thimble-clock", *b"THC1")
}

/// Seconds since 1970; 0 if nothing usable is there. Losing it is harmless, so nothing is set aside.
pub fn server_time(datastore: &Path) -> u64 {
    let Ok(Loaded::Content(content)) = record(datastore).look() else { return 0 };
    let seconds = std::str::from_utf8(&content).ok().and_then(|text| text.parse().ok());
    seconds.filter(|seconds| *seconds < NEVER).unwrap_or(0)
}

/// Records it, with one file write.
///
/// # Errors
/// `STORE-WRITE`, see [`Durable::save`].
pub fn save_server_time(datastore: &Path, seconds: u64) -> Result<()> {
    record(datastore).save(seconds.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_survives_and_damage_is_no_time() {
        let dir = std::env::temp_dir().join(format!("thimble-time-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        assert_eq!(server_time(&dir), 0);
        for seconds in [5, 1_795_564_800, NEVER] {
            save_server_time(&dir, seconds).expect("saves");
            assert_eq!(server_time(&dir), if seconds == NEVER { 0 } else { seconds });
        }
        for copy in ["thimble-clock.a", "thimble-clock.b"] {
            std::fs::write(dir.join(copy), "rubbish").expect("writes");
        }
        assert_eq!(server_time(&dir), 0);
        save_server_time(&dir, 7).expect("saves over damage");
        assert_eq!(server_time(&dir), 7);
        std::fs::remove_dir_all(&dir).expect("removes");
    }
}
