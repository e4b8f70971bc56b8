//! The boot loader's environment: its codec, access to it, and which partition runs.
//!
//! [`mod@env`], [`copies`] and [`fw_config`] are formats and do no I/O. [`native`] reads and writes the environment
//! itself; [`tools`] asks the boot loader's own tools. [`slots`] finds the running root partition and the other.

use crate::error::{Error, Result};
use std::collections::BTreeMap;

mod area;
pub mod copies;
pub mod env;
pub mod fw_config;
mod mounts;
pub mod native;
mod protection;
mod running;
pub mod slots;
pub mod tools;

pub use protection::is_protected;

/// Variables and their values. Bytes that are not UTF-8 are replaced.
pub type Variables = BTreeMap<String, String>;

/// A boot environment. It outlives a power cut, and the boot loader reads it.
pub trait Environment {
    /// The values of the named variables; absent ones (and, as for the tools, empty ones) are left out.
    ///
    /// # Errors
    /// `BOOT-ENV-…` when the environment cannot be read, or no copy of it is good.
    fn read(&mut self, names: &[&str]) -> Result<Variables>;

    /// Sets all of them in one atomic write that is durable when this returns (BE-10). An empty value removes.
    ///
    /// # Errors
    /// `BOOT-ENV-…`. Nothing is written when both copies are bad, or when the variables do not fit.
    fn write(&mut self, changes: &[(&str, &str)]) -> Result<()>;
}

const CHECK: &str = "mender_check_saveenv_canary";
const CANARY: &str = "mender_saveenv_canary";

/// Refuses an environment that the boot loader has not written once itself, if it asks for that check: what we
/// write might be at a place where it never looks (BE-46).
///
/// # Errors
/// `BOOT-ENV-CANARY`, or what reading gives.
pub fn check_canary(env: &mut dyn Environment) -> Result<()> {
    let values = env.read(&[CHECK, CANARY])?;
    let is_one = |name: &str| values.get(name).is_some_and(|v| v == "1");
    if is_one(CHECK) && !is_one(CANARY) {
        let text = format!(
            "the boot environment has {CHECK}=1 but not {CANARY}=1: the boot loader does not save where this \
             system reads. Compare fw_env.config with the boot loader's CONFIG_ENV_OFFSET and CONFIG_ENV_SIZE"
        );
        return Err(Error::new("BOOT-ENV-CANARY", text));
    }
    Ok(())
}
