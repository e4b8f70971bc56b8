//! What is installed: name, group and provides of the running software (AF-51), as JSON in a durable record.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::durable::{Durable, Loaded};
use crate::error::Result;
use crate::json::{self, Object, Value};

/// The name of software about which nothing is known (SA-41).
pub const UNKNOWN: &str = "unknown";

/// What is installed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Installed {
    /// The Artifact name; `None` if nothing was ever recorded.
    pub name: Option<String>,
    /// The Artifact group.
    pub group: Option<String>,
    /// What its payloads provide, name and group not among them.
    pub provides: BTreeMap<String, String>,
}

/// Where [`Installed`] is kept: the record `thimble-artifact` in the data store.
#[derive(Debug)]
pub struct InstalledStore {
    record: Durable,
}

impl InstalledStore {
    /// In the data store `datastore`. Touches nothing yet.
    pub fn new(datastore: &Path) -> InstalledStore {
        InstalledStore { record: Durable::new(datastore, "thimble-artifact", *b"THA1") }
    }

    /// The files that it is in.
    pub fn files(&self) -> &[PathBuf; 2] {
        self.record.files()
    }

    /// What is installed. A damaged record is set aside and logged; the name is then [`UNKNOWN`], and stays so
    /// after a restart.
    ///
    /// # Errors
    /// `STORE-READ`, see [`Durable::load`].
    pub fn load(&mut self) -> Result<Installed> {
        let loaded = self.record.load()?;
        let damaged = matches!(loaded, Loaded::Damaged(_));
        let installed = interpret(loaded);
        if damaged && let Err(e) = self.save(&installed) {
            log::warn!("{e}");
        }
        Ok(installed)
    }

    /// As [`InstalledStore::load`], but changes nothing on disk: for commands that run beside the daemon.
    ///
    /// # Errors
    /// `STORE-READ`, see [`Durable::load`].
    pub fn look(&self) -> Result<Installed> {
        Ok(interpret(self.record.look()?))
    }

    /// Records what is installed, with one file write.
    ///
    /// # Errors
    /// `STORE-WRITE`, `STORE-TOO-BIG`, see [`Durable::save`].
    pub fn save(&mut self, installed: &Installed) -> Result<()> {
        self.record.save(encode(installed).as_bytes())
    }

    /// File writes so far.
    pub fn writes(&self) -> u64 {
        self.record.writes()
    }
}

fn interpret(loaded: Loaded) -> Installed {
    let unknown = || Installed { name: Some(UNKNOWN.to_owned()), ..Installed::default() };
    match loaded {
        Loaded::Nothing => Installed::default(),
        Loaded::Damaged(_) => unknown(), // said by the record
        Loaded::Content(content) => decode(&content).unwrap_or_else(|| {
            // The checksum is right, so a program wrote this; the next save replaces it.
            log::error!(
                "STORE-DAMAGED: the record of what is installed is not understood; the name is '{UNKNOWN}'"
            );
            unknown()
        }),
    }
}

pub(super) fn encode(installed: &Installed) -> String {
    let text = |s: &String| Value::String(s.clone());
    let mut object = Object::new();
    if let Some(name) = &installed.name {
        object.insert("name".into(), text(name));
    }
    if let Some(group) = &installed.group {
        object.insert("group".into(), text(group));
    }
    let provides: Object = installed.provides.iter().map(|(k, v)| (k.clone(), text(v))).collect();
    object.insert("provides".into(), Value::Object(provides));
    json::write(&Value::Object(object))
}

pub(super) fn decode(content: &[u8]) -> Option<Installed> {
    let value = json::parse_bytes(content, "STORE-DAMAGED", "thimble-artifact").ok()?;
    let Value::Object(members) = &value else { return None };
    let text = |key: &str| match members.get(key) {
        None => Some(None),
        Some(value) => json::string(value).map(|s| Some(s.to_owned())),
    };
    let provides = match members.get("provides")? {
        Value::Object(pairs) => {
            let pairs = pairs.iter().map(|(k, v)| Some((k.clone(), json::string(v)?.to_owned())));
            pairs.collect::<Option<BTreeMap<_, _>>>()?
        }
        _ => return None,
    };
    Some(Installed { name: text("name")?, group: text("group")?, provides })
}
