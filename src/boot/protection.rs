//! The write protection of an eMMC's hardware boot partitions, lifted for as long as a write takes (BE-9).

use crate::error::{Context, Result};
use crate::sys::file;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Devices whose protection is lifted as long as this lives. The kernel protects them again at each start, so that a
/// power cut meanwhile leaves nothing behind.
#[must_use]
pub(super) struct Unprotected {
    switches: Vec<PathBuf>,
}

impl Unprotected {
    /// Lifts the protection of those of the devices (names in /dev) that have one which is on. Below `root` /sys is
    /// looked at.
    pub fn lift<'a>(devices: impl IntoIterator<Item = &'a str>, root: &Path) -> Result<Unprotected> {
        let mut lifted = Unprotected { switches: Vec::new() };
        for name in devices {
            let switch = switch(name, root);
            if is_on(&switch) {
                set(&switch, "0").context("BOOT-ENV-WRITE", || {
                    format!("cannot lift write protection: {}", switch.display())
                })?;
                lifted.switches.push(switch);
            }
        }
        Ok(lifted)
    }
}

impl Drop for Unprotected {
    fn drop(&mut self) {
        for switch in &self.switches {
            if let Err(e) = set(switch, "1") {
                log::warn!("cannot restore write protection: {}: {e}", switch.display());
            }
        }
    }
}

/// Whether the kernel protects a device (its name in /dev) from writing; `None`: it cannot.
pub fn is_protected(name: &str, root: &Path) -> Option<bool> {
    let switch = switch(name, root);
    switch.exists().then(|| is_on(&switch))
}

fn switch(name: &str, root: &Path) -> PathBuf {
    file::below(root, &format!("/sys/class/block/{name}/force_ro"))
}

fn is_on(switch: &Path) -> bool {
    fs::read_to_string(switch).is_ok_and(|text| text.trim() == "1")
}

/// As `echo VALUE > SWITCH`, but without creating a file.
fn set(switch: &Path, value: &str) -> std::io::Result<()> {
    OpenOptions::new().write(true).open(switch)?.write_all(value.as_bytes())
}
