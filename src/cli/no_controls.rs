//! Stands in for `controls` in a build without the feature `control`: there are no update control maps. What another
//! build or an application has left is not passed over while an update is in progress.

use super::setup::Place;
use std::path::{Path, PathBuf};
use thimble::agent::control::{ControlMap, Point, Pool, Refused};
use thimble::error::{Context, Error, Result};
use thimble::json::{self, Value};
use thimble::ports::{Controls, Decision};
use thimble::store::{CONTROL_DROP_INS, CONTROL_RECORD, Durable, Loaded};
use thimble::sys::file;

/// Directories in which something happens when the maps change: nobody waits for that.
pub fn directories(place: &Place) -> [PathBuf; 2] {
    [place.dirs.datastore.clone(), place.dirs.datastore.join(CONTROL_DROP_INS)]
}

/// None.
pub struct ControlMaps {
    datastore: PathBuf,
}

impl ControlMaps {
    /// Those of this device.
    pub fn new(place: &Place) -> ControlMaps {
        ControlMaps { datastore: place.dirs.datastore.clone() }
    }

    /// Whether another build has left maps in force, as far as can be told.
    fn recorded(&self) -> Result<bool> {
        let (name, magic) = CONTROL_RECORD;
        Ok(match Durable::new(&self.datastore, name, magic).look()? {
            Loaded::Nothing => false,
            Loaded::Damaged(_) => true,
            Loaded::Content(content) => {
                let value =
                    json::parse_bytes(&content, "CONTROL-MISSING", "the record of update control maps")?;
                !matches!(json::get(&value, "maps"), Some(Value::Array(maps)) if maps.is_empty())
            }
        })
    }

    /// Whether an application has dropped maps.
    fn dropped(&self) -> bool {
        let entries =
            std::fs::read_dir(self.datastore.join(CONTROL_DROP_INS)).into_iter().flatten().flatten();
        let mut names = entries.map(|entry| entry.file_name());
        names.any(|name| Path::new(&name).extension().is_some_and(|e| e == "json" || e == "taken"))
    }
}

fn missing(what: &str) -> Error {
    let text = format!("{what}, and this thimble was built without update control (feature `control`)");
    Error::new("CONTROL-MISSING", text)
}

impl Controls for ControlMaps {
    fn pool(&mut self) -> Result<Pool> {
        if self.recorded()? {
            return Err(missing("update control maps are in force"));
        }
        if self.dropped() {
            let directory = self.datastore.join(CONTROL_DROP_INS);
            return Err(missing(&format!("an update control map lies in {}", directory.display())));
        }
        Ok(Pool::default())
    }

    fn decide(&mut self, _: Point) -> Result<Decision> {
        Err(missing("a decision is asked for"))
    }

    fn replace(&mut self, _: &str, _: &ControlMap) -> Result<std::result::Result<(), Refused>> {
        Err(missing("the server holds an update control map over the deployment"))
    }

    fn remove(&mut self, _: &str) -> Result<()> {
        Ok(())
    }

    /// As the Mender client without maps does (U66).
    fn idle(&mut self) -> Result<()> {
        let (name, _) = CONTROL_RECORD;
        if self.recorded().unwrap_or(true) {
            log::warn!("{}: they are dropped", missing("update control maps are in force"));
        }
        for end in [".a", ".b", ".damaged"] {
            let path = self.datastore.join(format!("{name}{end}"));
            if std::fs::symlink_metadata(&path).is_ok() {
                file::remove(&path).context("STORE-WRITE", || format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(())
    }
}
