//! What is on this device: the output of the inventory scripts, and sending it.

use super::http::Payload;
use super::{Call, Client, Fault, identity, script};
use crate::json;
use crate::sys::signal;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const PATH: &str = "/api/devices/v1/inventory/device/attributes";
const PREFIX: &str = "mender-inventory-";

/// Runs the inventory scripts of a directory in the order of their names (II-16..II-19). What a script that fails
/// said is dropped with a warning; the others count.
pub fn collect(dir: &Path) -> BTreeMap<String, Vec<String>> {
    let mut attributes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in scripts(dir) {
        if signal::terminate() {
            break;
        }
        match script::run(&path, "INVENTORY-SCRIPT") {
            Ok(pairs) => {
                for (key, values) in pairs {
                    attributes.entry(key).or_default().extend(values);
                }
            }
            Err(e) => log::warn!("{e}; its attributes are left out"),
        }
    }
    attributes
}

fn scripts(dir: &Path) -> Vec<PathBuf> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) => {
            log::info!("no inventory scripts in {}: {e}", dir.display());
            return Vec::new();
        }
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if !name.to_string_lossy().starts_with(PREFIX) {
            crate::debug!("{} is not an inventory script", path.display());
            continue;
        }
        match fs::metadata(&path) {
            Ok(m) if m.is_file() && m.permissions().mode() & 0o111 != 0 => found.push(path),
            Ok(_) => log::warn!("{} is not an executable file; left out", path.display()),
            Err(e) => log::warn!("{}: {e}; left out", path.display()),
        }
    }
    found.sort();
    found
}

impl Client {
    /// Replaces all attributes of the device by these (SA-84, SA-85); a server that does not know how gets them
    /// merged (SA-86).
    pub fn send_inventory(
        &mut self,
        attributes: &BTreeMap<String, Vec<String>>,
    ) -> std::result::Result<(), Fault> {
        let body = body(attributes);
        for method in ["PUT", "PATCH"] {
            let payload = Payload::Json(body.as_bytes());
            let answer = self.call(Call { method, path: PATH, body: payload, limit: 0 })?;
            match answer.status {
                200 => return Ok(()),
                405 if method == "PUT" => {
                    crate::debug!("the server does not know PUT of inventory; trying PATCH")
                }
                _ => return Err(answer.refused("inventory")),
            }
        }
        Ok(()) // Not reached: the second turn returns.
    }
}

fn body(attributes: &BTreeMap<String, Vec<String>>) -> String {
    let mut body = String::from("[");
    for (name, values) in attributes {
        if body.len() > 1 {
            body.push(',');
        }
        body.push_str("{\"name\":");
        json::quote(&mut body, name);
        body.push_str(",\"value\":");
        identity::value(&mut body, values);
        body.push('}');
    }
    body.push(']');
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_sorted_and_single_values_are_strings() {
        let attributes = BTreeMap::from([
            ("b".to_owned(), vec!["1".to_owned(), "2\"".to_owned()]),
            ("a".to_owned(), vec![String::new()]),
            ("c".to_owned(), vec![]),
        ]);
        let want = "[{\"name\":\"a\",\"value\":\"\"},{\"name\":\"b\",\"value\":[\"1\",\"2\\\"\"]},\
                    {\"name\":\"c\",\"value\":[]}]";
        assert_eq!(body(&attributes), want);
        assert_eq!(body(&BTreeMap::new()), "[]");
        assert!(json::parse(want).is_ok());
    }

    #[test]
    fn only_executable_files_of_the_right_name_are_run_in_order() {
        let dir = std::env::temp_dir().join(format!("thimble-inventory-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("mender-inventory-dir")).expect("makes");
        let put = |name: &str, body: &str, mode: u32| {
            fs::write(dir.join(name), format!("#!/bin/sh\n{body}\n")).expect("writes");
            fs::set_permissions(dir.join(name), fs::Permissions::from_mode(mode)).expect("chmod");
        };
        put("mender-inventory-b", "echo ip=3; echo x=1", 0o755);
        put("mender-inventory-a", "echo ip=1; echo ip=2", 0o700);
        put("mender-inventory-plain", "echo plain=1", 0o644);
        put("mender-inventory", "echo none=1", 0o755);
        put("other", "echo other=1", 0o755);
        put("mender-inventory-fails", "echo fails=1; exit 1", 0o755);
        put("mender-inventory-bogus", "echo good=1; echo bogus", 0o755);
        std::os::unix::fs::symlink("nowhere", dir.join("mender-inventory-dangling")).expect("links");
        let got = collect(&dir);
        let want = BTreeMap::from([
            ("ip".to_owned(), vec!["1".to_owned(), "2".to_owned(), "3".to_owned()]),
            ("x".to_owned(), vec!["1".to_owned()]),
        ]);
        assert_eq!(got, want);
        fs::remove_dir_all(&dir).expect("removes");
        assert!(collect(&dir).is_empty());
    }
}
