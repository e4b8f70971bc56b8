//! Whether an Artifact suits this device (AF-46 to AF-50), and the patterns of `clears_artifact_provides`.

use std::collections::BTreeMap;

use super::fault::shown;
use super::header::Header;
use crate::error::{Error, Result};

impl Header {
    /// Checks what the Artifact depends on. `device_type` is the device's own, empty if it is unknown, which never
    /// suits (AF-46). `provides` is what the device provides now, with `artifact_name`, and `artifact_group` if
    /// it is in a group (AF-49). A key that the device lacks is not satisfied (AF-48). Comparison is exact.
    ///
    /// # Errors
    /// ARTIFACT-DEPENDS: says which key, what is wanted and what the device has.
    pub fn check_depends(&self, device_type: &str, provides: &BTreeMap<String, String>) -> Result<()> {
        let device_type = Some(device_type).filter(|t| !t.is_empty());
        one_of("device_type", &self.depends.device_types, device_type)?;
        for (key, wanted) in
            [("artifact_name", &self.depends.names), ("artifact_group", &self.depends.groups)]
        {
            // Here an empty list is how writers say "none" (AF-18 ff.: optional).
            if !wanted.is_empty() {
                one_of(key, wanted, provides.get(key).map(String::as_str))?;
            }
        }
        for (key, wanted) in &self.depends.others {
            one_of(key, wanted, provides.get(key).map(String::as_str))?;
        }
        Ok(())
    }
}

fn one_of(key: &str, wanted: &[String], has: Option<&str>) -> Result<()> {
    if has.is_some_and(|has| wanted.iter().any(|w| w == has)) {
        return Ok(());
    }
    const NAMED: usize = 8;
    let mut names: Vec<String> = wanted.iter().take(NAMED).map(|w| shown(w)).collect();
    if wanted.len() > NAMED {
        names.push(format!("{} others", wanted.len() - NAMED));
    }
    let wanted = if names.is_empty() { "a value that no device can have".into() } else { names.join(" or ") };
    let has = has.map_or("has none".into(), |has| format!("has {}", shown(has)));
    let key = shown(key);
    Err(Error::new(
        "ARTIFACT-DEPENDS",
        format!("the Artifact is not for this device: it needs {key} to be {wanted}, the device {has}"),
    ))
}
