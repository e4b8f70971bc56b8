//! Update control maps that applications drop into the directory `control.d`: files `NAME.json`, put there by renaming
//! them. Taken into the pool by whoever looks next, and removed. What cannot be used is renamed to `NAME.json.refused`.
//!
//! A file is first renamed to `.NAME.json.N.taken`: whatever an application puts under its name meanwhile is another
//! one. After a power cut it is found under that name, and taken in again.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::control_pool::Moment;
use crate::agent::control::{Change, ControlMap, Pool};
use crate::json;
use crate::sys::file;

/// The directory in the data store in which applications drop update control maps.
pub const CONTROL_DROP_INS: &str = "control.d";

/// Largest file that is read.
const LARGEST: u64 = 16 << 10;
/// Most files that are taken in one go.
const MOST: usize = 256;

/// The directory.
#[derive(Debug)]
pub(super) struct DropIns {
    directory: PathBuf,
    /// What was complained about already and is still there: names with change times.
    said: BTreeSet<(PathBuf, i64, i64)>,
    /// Why nothing in the directory is used, if that was said.
    distrusted: Option<String>,
}

impl DropIns {
    pub(super) fn new(datastore: &Path) -> DropIns {
        DropIns { directory: datastore.join(CONTROL_DROP_INS), said: BTreeSet::new(), distrusted: None }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Why nothing in the directory is used; `None`: it is trusted, or missing.
    pub(super) fn trouble(&self) -> Option<String> {
        let there = fs::symlink_metadata(&self.directory).is_ok();
        check_directory(&self.directory).err().filter(|_| there)
    }

    /// There is something to take in.
    pub(super) fn waiting(&self) -> bool {
        !self.files().is_empty()
    }

    /// Sets the maps in the pool, in the order of the files' names; returns the files that are to be removed once the
    /// pool is on stable storage.
    pub(super) fn take(&mut self, pool: &mut Pool, moment: Moment) -> Vec<PathBuf> {
        let files = self.files();
        if files.is_empty() {
            return Vec::new();
        }
        // Once for all of its files: whoever may write to it must not fill the log.
        let distrusted = self.trouble();
        if let Some(why) = &distrusted {
            if self.distrusted != distrusted {
                log::error!("CONTROL-REFUSED: {}: nothing in it is used: {why}", self.directory.display());
            }
            self.distrusted = distrusted;
            return Vec::new();
        }
        self.distrusted = None;
        let mut taken = Vec::new();
        for path in files {
            let (name, mine) = match claim(&path) {
                Ok(found) => found,
                Err(e) => {
                    // Left where it is it would be taken in again and again, and never expire.
                    self.say_once(&path, &format!("it is not used, because it cannot be renamed: {e}"));
                    continue;
                }
            };
            match read(&mine).and_then(|map| set(pool, map, moment)) {
                Ok(said) => {
                    log::info!("{}: {said}", self.directory.join(name).display());
                    taken.push(mine);
                }
                Err(why) => self.refuse(&mine, &self.directory.join(name), &why),
            }
        }
        taken
    }

    /// Removes files that were taken in.
    pub(super) fn remove(&mut self, files: Vec<PathBuf>) {
        for path in files {
            if let Err(e) = fs::remove_file(&path) {
                self.say_once(&path, &format!("it cannot be removed and is left alone from now on: {e}"));
            }
        }
    }

    /// Those that a power cut has left first, then the others, by name.
    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> = entries
            .filter(|entry| given_name(entry.file_name().as_bytes()).is_some())
            .map(|entry| entry.path())
            .filter(|path| !self.said.contains(&identity(path)))
            .take(MOST)
            .collect();
        files.sort_by_cached_key(|path| {
            let name = path.file_name().unwrap_or_default().as_bytes().to_owned();
            (!name.starts_with(b"."), name)
        });
        files
    }

    fn refuse(&mut self, mine: &Path, given: &Path, why: &str) {
        let mut aside = given.as_os_str().to_owned();
        aside.push(".refused");
        match fs::rename(mine, &aside) {
            Ok(()) => {
                log::error!("CONTROL-REFUSED: {}: {why}; it is now {}", given.display(), aside.display())
            }
            Err(e) => self.say_once(mine, &format!("{why}; it cannot be renamed: {e}")),
        }
    }

    fn say_once(&mut self, path: &Path, what: &str) {
        if self.said.insert(identity(path)) {
            log::error!("CONTROL-REFUSED: {}: {what}", path.display());
        }
    }
}

/// The name that an application gave: `NAME.json`; `None`: not a file of ours.
fn given_name(name: &[u8]) -> Option<&OsStr> {
    let plain = match name.strip_prefix(b".") {
        None => name,
        Some(rest) => {
            let rest = rest.strip_suffix(b".taken")?;
            &rest[..rest.iter().rposition(|byte| *byte == b'.')?]
        }
    };
    (plain.ends_with(b".json") && !plain.starts_with(b".")).then(|| OsStr::from_bytes(plain))
}

/// Makes a file ours: the name that it was given, and where it is now.
fn claim(path: &Path) -> io::Result<(OsString, PathBuf)> {
    let name = path.file_name().unwrap_or_default();
    let Some(given) = given_name(name.as_bytes()) else { return Err(ErrorKind::InvalidInput.into()) };
    if name != given {
        return Ok((given.to_owned(), path.to_owned()));
    }
    let free = (0..MOST).map(|n| {
        let mut mine = OsString::from(".");
        mine.push(given);
        mine.push(format!(".{n}.taken"));
        path.with_file_name(mine)
    });
    // Only those who hold the lock make such names: a free one stays free.
    let mine = free.into_iter().find(|mine| fs::symlink_metadata(mine).is_err());
    let mine = mine.ok_or_else(|| io::Error::from(ErrorKind::AlreadyExists))?;
    fs::rename(path, &mine)?;
    Ok((given.to_owned(), mine))
}

/// A file that is replaced is another one.
fn identity(path: &Path) -> (PathBuf, i64, i64) {
    let times = fs::symlink_metadata(path).map(|meta| (meta.ctime(), meta.ctime_nsec()));
    let (seconds, nanoseconds) = times.unwrap_or_default();
    (path.to_owned(), seconds, nanoseconds)
}

/// Nobody but root and ourselves may put anything there.
fn check_directory(directory: &Path) -> Result<(), String> {
    let meta = fs::symlink_metadata(directory).map_err(|e| e.to_string())?;
    if !meta.is_dir() {
        return Err("it is a link, not a directory".into());
    }
    check_owner(meta.uid(), meta.mode())
}

fn check_owner(uid: u32, mode: u32) -> Result<(), String> {
    if uid != 0 && uid != file::own_uid() {
        return Err(format!("it belongs to user {uid}, not to root"));
    }
    if mode & 0o022 != 0 {
        return Err(format!("others may write to it (mode {:04o})", mode & 0o7777));
    }
    Ok(())
}

fn read(path: &Path) -> Result<ControlMap, String> {
    let file = open(path).map_err(|e| match e.raw_os_error() {
        Some(ELOOP) => "it is a symbolic link".to_owned(),
        Some(_) | None => format!("it cannot be opened: {e}"),
    })?;
    let meta = file.metadata().map_err(|e| e.to_string())?;
    if !meta.is_file() {
        return Err("it is not a regular file".into());
    }
    if meta.nlink() != 1 {
        return Err("it has a second name (hard link)".into());
    }
    check_owner(meta.uid(), meta.mode())?;
    let mut content = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut content).map_err(|e| format!("it cannot be read: {e}"))?;
    if content.len() as u64 > LARGEST {
        return Err(format!("it is longer than {LARGEST} bytes"));
    }
    let value = json::parse_bytes(&content, "CONTROL", "it").map_err(|e| e.text)?;
    ControlMap::parse(&value).map_err(|e| e.to_string())?.ok_or_else(|| "it holds no map".into())
}

const ELOOP: i32 = 40;

/// Follows no link, and waits for nobody at the other end of a named pipe.
fn open(path: &Path) -> io::Result<File> {
    match file::open_plainly(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Err(io::Error::new(e.kind(), "it has gone")),
        other => other,
    }
}

fn set(pool: &mut Pool, map: ControlMap, moment: Moment) -> Result<String, String> {
    let name = format!("update control map {} (priority {})", map.id(), map.priority());
    Ok(match pool.insert(map, moment.now, &moment.lives).map_err(|e| e.to_string())? {
        Change::Added | Change::Replaced => format!("{name} is set"),
        Change::Deleted => format!("{name} is deleted"),
        Change::Nothing => format!("{name} says nothing, and there was none"),
    })
}
