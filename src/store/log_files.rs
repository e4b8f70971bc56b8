//! The names and the rotation of deployment logs: `deployments.NNNN.ID.log`, 0000 being the newest (LG-10, LG-11).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Logs that are kept, the current one included.
const KEPT: usize = 5;

/// Bytes that must be free for a log file (LG-12).
pub(super) const FREE: u64 = 100 << 10;

/// How much space is left; a function so that tests can run out of it.
pub(super) type FreeSpace = fn(&Path) -> io::Result<u64>;

/// A deployment log in the directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    number: u32,
    id: String,
}

impl Entry {
    /// `None` for every name that is not exactly of our form: it is somebody else's file.
    fn parse(name: &str) -> Option<Entry> {
        let mut parts = name.split('.');
        let (head, number, id, tail) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let digits = number.len() == 4 && number.bytes().all(|b| b.is_ascii_digit());
        if parts.next().is_some() || head != "deployments" || tail != "log" || !digits || !is_id(id) {
            return None;
        }
        Some(Entry { number: number.parse().ok()?, id: id.to_owned() })
    }

    fn path(&self, dir: &Path) -> PathBuf {
        dir.join(format!("deployments.{:04}.{}.log", self.number, self.id))
    }
}

/// Whether this can be the id of a deployment, and so a part of a file name (SA-5).
pub(super) fn is_id(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// The log of deployment `id`, wherever it stands in the rotation.
pub(super) fn find(dir: &Path, id: &str) -> Option<PathBuf> {
    list(dir).ok()?.into_iter().find(|entry| entry.id == id).map(|entry| entry.path(dir))
}

/// Makes the log of `id` number 0000 and gives its path; it need not exist. Older logs are renumbered; those
/// above the limit go, and more if space is short.
pub(super) fn rotate(dir: &Path, id: &str, free: FreeSpace) -> io::Result<PathBuf> {
    let mut entries = list(dir)?;
    let ours = entries.iter().position(|entry| entry.id == id).map(|i| entries.remove(i));
    // Each is tried once: one that cannot be removed must not keep the loop running.
    while entries.len() >= KEPT || (!entries.is_empty() && free(dir).is_ok_and(|bytes| bytes < FREE)) {
        if let Some(oldest) = entries.pop() {
            let _ = fs::remove_file(oldest.path(dir));
        }
    }
    let wanted = |i: usize| u32::try_from(i + 1).unwrap_or(u32::MAX);
    // First those that move down, lowest first, then those that move up, highest first: two logs of one
    // deployment can then never be renamed onto each other.
    let down = (0..entries.len()).filter(|i| wanted(*i) < entries[*i].number);
    let up = (0..entries.len()).rev().filter(|i| wanted(*i) > entries[*i].number);
    for i in down.chain(up) {
        let to = Entry { number: wanted(i), id: entries[i].id.clone() };
        fs::rename(entries[i].path(dir), to.path(dir))?;
    }
    let current = Entry { number: 0, id: id.to_owned() };
    if let Some(ours) = ours.filter(|ours| *ours != current) {
        fs::rename(ours.path(dir), current.path(dir))?;
    }
    Ok(current.path(dir))
}

/// All deployment logs, newest first. Directories and links with such names are left alone.
fn list(dir: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_file()
            && let Some(found) = entry.file_name().to_str().and_then(Entry::parse)
        {
            entries.push(found);
        }
    }
    entries.sort();
    Ok(entries)
}
