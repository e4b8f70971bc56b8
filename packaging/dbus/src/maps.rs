//! Update control maps on their way to the agent: checked here, by the agent's own code, then dropped into its directory
//! (`control.d` in the data store), where it takes them in.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use thimble::agent::control::{ControlMap, MAP_LIMIT};
use thimble::{json, store, sys::file};

/// Hands a map to the agent. Nothing is written if it is not valid. It is on stable storage when this returns.
///
/// # Errors
/// Why not, for the log.
pub fn set(datastore: &Path, text: &str) -> Result<(), String> {
    let map = read(text)?;
    let directory = datastore.join("control.d");
    prepare(datastore, &directory)?;
    // One file for one identity (K9): the later of two maps of the same identity is the one that the agent finds.
    let path = directory.join(format!("dbus-{}-{}.json", map.id(), map.priority()));
    if !path.exists() && waiting(&directory) >= MAP_LIMIT {
        return Err(format!("{MAP_LIMIT} maps wait in {} already; is thimble running?", directory.display()));
    }
    let content = json::write(&map.to_value());
    file::replace(&path, content.as_bytes(), 0o600)
        .map_err(|e| format!("cannot write {}: {e}", path.display()))
}

fn read(text: &str) -> Result<ControlMap, String> {
    let value = json::parse(first_value(text))
        .map_err(|m| format!("update control map, line {}, column {}: {}", m.line, m.column, m.what))?;
    let map = ControlMap::parse(&value).map_err(|e| e.to_string())?;
    map.ok_or_else(|| "update control map: null is none".to_owned())
}

/// The first JSON value of a text, where that is an object: what follows it is of no account (D1). Whether it is well
/// formed is for the parser to say.
fn first_value(text: &str) -> &str {
    let (mut depth, mut inside, mut escaped) = (0usize, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if inside => escaped = true,
            b'"' => inside = !inside,
            b'{' | b'[' if !inside => depth += 1,
            b'}' | b']' if !inside => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return &text[..=at];
                }
            }
            b' ' | b'\t' | b'\r' | b'\n' => {}
            _ if depth == 0 => return text, // no object
            _ => {}
        }
    }
    text
}

/// Makes the directory if it is missing. One that the agent would not trust is an error: maps in it would have no
/// effect.
fn prepare(datastore: &Path, directory: &Path) -> Result<(), String> {
    store::create_directory(datastore).map_err(|e| e.to_string())?;
    let wrong = |what: String| Err(format!("{}: {what}", directory.display()));
    match DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => {
            if let Err(e) = file::sync_parent(directory) {
                return wrong(e.to_string());
            }
        }
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(e) => return wrong(format!("cannot be made: {e}")),
    }
    match fs::symlink_metadata(directory) {
        Err(e) => wrong(e.to_string()),
        Ok(meta) if !meta.is_dir() => wrong("is no directory".into()),
        Ok(meta) if meta.uid() != 0 && meta.uid() != thimble::sys::file::own_uid() => {
            wrong(format!("belongs to user {}, not to root", meta.uid()))
        }
        Ok(meta) if meta.mode() & 0o022 != 0 => {
            wrong(format!("others may write to it (mode {:04o})", meta.mode() & 0o7777))
        }
        Ok(_) => Ok(()),
    }
}

fn waiting(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(".json")).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_value_counts() {
        for (text, first) in [
            (r#"{"a":1} trailing"#, r#"{"a":1}"#),
            (r#"{"a":"}"}{"#, r#"{"a":"}"}"#),
            (r#"{"a":"\"}"}}"#, r#"{"a":"\"}"}"#),
            (r#"{"a":[{}]}]"#, r#"{"a":[{}]}"#),
            ("\n {} x", "\n {}"),
            (r#"{"a":"#, r#"{"a":"#),
            ("null x", "null x"),
            ("", ""),
            ("}", "}"),
            ("\"{}\"", "\"{}\""),
        ] {
            assert_eq!(first_value(text), first, "{text}");
        }
    }
}
