//! The file tree through which an Update Module sees the Artifact and the device (update-modules 2).
//!
//! ```text
//! version  current_artifact_name  current_artifact_group  current_device_type     one line each
//! header/  artifact_name  artifact_group  payload_type                            no end of line
//!          header-info  type-info  meta-data                                      JSON
//! tmp/                                    the module's own, until Cleanup
//! stream-next  streams/NAME               named pipes, while the payload is downloaded
//! files/NAME                              the payload, if the module does not want streams
//! ```

use crate::artifact::Header;
use crate::error::{Context, Error, Result};
use crate::json::{self, Value};
use crate::sys::file;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const CODE: &str = "MODULE-TREE";

/// What is installed at the moment, and on what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Current {
    /// Name of the installed Artifact; empty if there is none.
    pub name: String,
    /// Its group.
    pub group: Option<String>,
    /// The device's type.
    pub device_type: String,
}

/// The tree of the one payload.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    path: PathBuf,
}

impl Tree {
    pub(super) fn new(path: PathBuf) -> Tree {
        Tree { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// Whether it was made for a payload of this type.
    pub(super) fn is_for(&self, kind: &str) -> bool {
        let found = file::read_limited(&self.path.join("header/payload_type"), 256);
        found.is_ok_and(|found| found == kind.as_bytes())
    }

    /// Puts a new tree in place of any other; it is on stable storage when this returns.
    pub(super) fn create(&self, header: &Header, current: &Current) -> Result<()> {
        self.remove()?;
        self.write_device(current)?;
        let head = self.path.join("header");
        directory(&head)?;
        let (kind, group) = (header.payload_type.as_deref(), header.group.as_deref());
        let meta_data = header.meta_data.as_ref().unwrap_or(&Value::Null);
        for (name, content) in [
            ("artifact_name", header.name.clone()),
            ("artifact_group", group.unwrap_or_default().to_owned()),
            ("payload_type", kind.unwrap_or_default().to_owned()),
            ("header-info", indented(&header.header_info)),
            ("type-info", indented(&header.type_info)),
            ("meta-data", indented(meta_data)),
        ] {
            write(&head.join(name), &content)?;
        }
        sync(&head)?;
        self.sync_up()
    }

    /// The part about the device alone: what a module finds that goes on with an update which the built-in handler
    /// has begun (M13).
    pub(super) fn create_for_device(&self, current: &Current) -> Result<()> {
        self.write_device(current)?;
        self.sync_up()
    }

    fn write_device(&self, current: &Current) -> Result<()> {
        directory(&self.path)?;
        let line = |text: &str| if text.is_empty() { String::new() } else { format!("{text}\n") };
        for (name, content) in [
            ("version", line("3")),
            ("current_artifact_name", line(&current.name)),
            ("current_artifact_group", line(current.group.as_deref().unwrap_or_default())),
            ("current_device_type", line(&current.device_type)),
        ] {
            write(&self.path.join(name), &content)?;
        }
        directory(&self.path.join("tmp"))
    }

    /// The tree, and the directories that lead to it (four of them may be new: `modules/v3/payloads/0000`).
    fn sync_up(&self) -> Result<()> {
        self.path.ancestors().take(6).try_for_each(sync)
    }

    pub(super) fn stream_next(&self) -> PathBuf {
        self.path.join("stream-next")
    }

    /// For the Download call.
    pub(super) fn open_streams(&self) -> Result<()> {
        self.close_streams()?; // Left by a Download that was cut.
        directory(&self.path.join("streams"))?;
        pipe(&self.stream_next())
    }

    /// The pipe for this payload file.
    pub(super) fn stream(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join("streams").join(plain(name)?);
        pipe(&path)?;
        Ok(path)
    }

    pub(super) fn close_streams(&self) -> Result<()> {
        remove(&self.stream_next())?;
        remove(&self.path.join("streams"))
    }

    /// Where payload files go that the module does not want as streams (M26).
    pub(super) fn open_files(&self) -> Result<()> {
        directory(&self.path.join("files"))
    }

    /// A new payload file.
    pub(super) fn file(&self, name: &str) -> Result<(PathBuf, File)> {
        let path = self.path.join("files").join(plain(name)?);
        let mut options = OpenOptions::new();
        let out = options.write(true).create_new(true).mode(0o600).open(&path);
        let out = out.context(CODE, || format!("cannot create {}", path.display()))?;
        Ok((path, out))
    }

    /// After the last one.
    pub(super) fn close_files(&self) -> Result<()> {
        sync(&self.path.join("files"))?;
        sync(&self.path)
    }

    /// Removes the tree; the removal is on stable storage when this returns.
    pub(super) fn remove(&self) -> Result<()> {
        remove(&self.path)?;
        match file::sync_parent(&self.path) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            done => done.context(CODE, || format!("cannot sync the directory of {}", self.path.display())),
        }
    }
}

/// The name of a payload file leads nowhere else (M31). The Artifact reader has seen to that; a pipe in a wrong place
/// would be bad enough to look twice.
fn plain(name: &str) -> Result<&str> {
    let bad = |c: char| c == '/' || c.is_control();
    if matches!(name, "" | "." | "..") || name.contains(bad) {
        return Err(Error::new("MODULE-FILE", format!("{name:?} cannot be the name of a payload file")));
    }
    Ok(name)
}

fn pipe(path: &Path) -> Result<()> {
    file::make_fifo(path, 0o600).context(CODE, || format!("cannot create the named pipe {}", path.display()))
}

fn directory(path: &Path) -> Result<()> {
    let mut builder = DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o700)
        .create(path)
        .context(CODE, || format!("cannot create {}", path.display()))
}

fn write(path: &Path, content: &str) -> Result<()> {
    let put = || -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut out = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
        out.write_all(content.as_bytes())?;
        out.sync_all()
    };
    put().context(CODE, || format!("cannot write {}", path.display()))
}

fn sync(dir: &Path) -> Result<()> {
    file::sync_dir(dir).context(CODE, || format!("cannot sync {}", dir.display()))
}

/// Whatever it is, if it is there. Links are removed, not followed.
fn remove(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    };
    removed.context(CODE, || format!("cannot remove {}", path.display()))
}

/// As the official clients write it: two blanks for each level, no end of line at the end.
fn indented(value: &Value) -> String {
    let mut out = String::new();
    write_indented(&mut out, value, 1);
    out
}

fn write_indented(out: &mut String, value: &Value, level: usize) {
    let line = |out: &mut String, level: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", level));
    };
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (n, (key, value)) in members.iter().enumerate() {
                out.push(if n == 0 { '{' } else { ',' });
                line(out, level);
                json::quote(out, key);
                out.push_str(": ");
                write_indented(out, value, level + 1);
            }
            line(out, level - 1);
            out.push('}');
        }
        Value::Array(items) if !items.is_empty() => {
            for (n, value) in items.iter().enumerate() {
                out.push(if n == 0 { '[' } else { ',' });
                line(out, level);
                write_indented(out, value, level + 1);
            }
            line(out, level - 1);
            out.push(']');
        }
        Value::String(text) => json::quote(out, text),
        Value::Object(_) | Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {
            out.push_str(&json::write(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_indented_by_two_and_says_the_same() {
        let text =
            r#"{"a":[],"b":[1,{"c":null,"d":-2.5}],"e":{},"f":"\"\n","g":true,"h":18446744073709551615}"#;
        let value = json::parse(text).expect("valid");
        let pretty = indented(&value);
        assert_eq!(
            pretty,
            "{\n  \"a\": [],\n  \"b\": [\n    1,\n    {\n      \"c\": null,\n      \"d\": -2.5\n    }\n  ],\n  \
             \"e\": {},\n  \"f\": \"\\\"\\n\",\n  \"g\": true,\n  \"h\": 18446744073709551615\n}"
        );
        assert_eq!(json::write(&json::parse(&pretty).expect("still valid")), text);
        assert_eq!(indented(&Value::Null), "null");
    }

    #[test]
    fn a_payload_file_name_leads_nowhere_else() {
        for bad in ["", ".", "..", "../x", "a/b", "/x", "a\nb", "a\0"] {
            assert!(plain(bad).is_err(), "{bad:?}");
        }
        assert_eq!(plain("a.b,c-d_E").expect("fine"), "a.b,c-d_E");
    }
}
