//! What survives a power cut: records, the lock, update control maps, the device type, deployment logs. No policy.
//!
//! Files, byte tables and the number of writes: `docs/store.md`.

mod control_pool;
mod deployment_log;
mod device_type;
mod drop_ins;
mod durable;
mod installed;
mod lock;
mod log_files;
mod server_time;
mod upload;

use std::borrow::Cow;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

pub use control_pool::{CONTROL_RECORD, Moment, PoolStore};
pub use deployment_log::DeploymentLog;
pub use device_type::device_type;
pub use drop_ins::CONTROL_DROP_INS;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub use durable::fuzz;
pub use durable::{Durable, Loaded, MAX_CONTENT};
pub use installed::{Installed, InstalledStore, UNKNOWN};
pub use lock::{holder, lock};
pub use server_time::{save_server_time, server_time};
pub use upload::{LogUpload, upload};

use crate::error::{Context, Result};
use crate::sys::file;

/// Creates a directory of the data store with mode 0700 where it is missing, durably.
///
/// # Errors
/// `STORE-WRITE` if it cannot be created.
pub fn create_directory(dir: &Path) -> Result<()> {
    if dir.is_dir() || dir.as_os_str().is_empty() {
        return Ok(());
    }
    let created = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    created
        .and_then(|()| file::sync_parent(dir))
        .context("STORE-WRITE", || format!("cannot create the directory {}", dir.display()))
}

/// `text` with every occurrence of the secrets replaced by `***` (LG-5). Secrets shorter than 6 bytes are left:
/// they would make logs unreadable and protect nothing.
pub fn mask<'a>(text: &'a str, secrets: &[&str]) -> Cow<'a, str> {
    let mut text = Cow::Borrowed(text);
    for secret in secrets.iter().filter(|s| s.len() >= 6) {
        if text.contains(secret) {
            text = Cow::Owned(text.replace(secret, "***"));
        }
    }
    text
}
