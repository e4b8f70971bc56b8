//! The device type file: one line `device_type=NAME` (CF-19 to CF-22). Never written by us.

use std::path::Path;

use crate::error::{Context, Error, Result};
use crate::sys::file;

/// Longest file, in bytes.
const LIMIT: u64 = 64 << 10;

/// Longest device type, in characters (SA-42).
const LONGEST: usize = 4096;

/// The device type in the file `path`; empty if it names none (CF-20). Comments (`#`), other keys and blanks
/// around key and value are accepted, as are empty lines at the end.
///
/// # Errors
/// `STORE-DEVICE-TYPE`: no such file, not text, longer than 64 KiB, a line without `=`, two device types, a
/// control character, more than 4096 characters.
pub fn device_type(path: &Path) -> Result<String> {
    let wrong = |what: String| Error::new("STORE-DEVICE-TYPE", format!("{}{what}", path.display()));
    let bytes = file::read_limited(path, LIMIT).context("STORE-DEVICE-TYPE", || {
        format!("cannot read {}, which should hold 'device_type=NAME'", path.display())
    })?;
    let text = String::from_utf8(bytes).map_err(|_| wrong(" is not UTF-8 text".into()))?;
    let mut found = None;
    for (number, line) in text.trim_end().lines().enumerate() {
        let at = |what: &str| wrong(format!(", line {}: {what}", number + 1));
        let line = line.trim();
        if line.starts_with('#') {
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            return Err(at("expected 'device_type=NAME'"));
        };
        if key.trim() != "device_type" {
            continue;
        }
        let value = value.trim();
        if value.chars().any(char::is_control) {
            return Err(at("a control character in the device type"));
        }
        if value.chars().count() > LONGEST {
            return Err(at("the device type is longer than 4096 characters"));
        }
        if found.replace(value.to_owned()).is_some() {
            return Err(at("a second device_type; expected one"));
        }
    }
    Ok(found.unwrap_or_default())
}
