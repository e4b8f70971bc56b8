//! What a card holds when the power is off: environment, slots, journal, as the next boot will find them.

use crate::board::Board;
use crate::disk;
use crate::tool::{Result, fresh, run, sha256, text};
use std::fs;
use std::path::{Path, PathBuf};
use thimble::agent::Record;
use thimble::boot::copies::{Scheme, newest};
use thimble::boot::env::{Image, Layout};
use thimble::store::{Durable, Loaded};

/// A card's image file.
pub struct Card<'a> {
    board: &'a Board,
    image: PathBuf,
}

/// The environment that the boot loader will use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// `mender_boot_part`.
    pub part: u32,
    /// `upgrade_available` is 1.
    pub trying: bool,
    /// Which copies are good.
    pub good: Vec<bool>,
}

impl<'a> Card<'a> {
    /// The board's card in this file.
    pub fn new(board: &'a Board, image: &Path) -> Card<'a> {
        Card { board, image: image.to_owned() }
    }

    /// Reads the environment. An error if no copy of it is good: then the board no longer boots.
    pub fn environment(&self) -> Result<Environment> {
        let layout = if self.board.redundant() { Layout::Redundant } else { Layout::Single };
        let mut images = Vec::new();
        for area in &self.board.env {
            let bytes = match disk::raw_offset(self.board, area)? {
                Some(offset) => disk::get(&self.image, offset, area.size as u64)?,
                None => self.fat_file(&area.device)?,
            };
            images.push(Image::decode(&bytes, layout).ok());
        }
        let good = images.iter().map(Option::is_some).collect();
        let flag = |which: usize| images.get(which).and_then(|i| i.as_ref()).map(|i| i.flag);
        let chosen =
            newest(Scheme::Incremental, [flag(0), flag(1)]).ok_or("no copy of the environment is good")?;
        let env = &images[chosen].as_ref().ok_or("no environment")?.env;
        let value = |name: &str| String::from_utf8_lossy(env.get(name).unwrap_or_default()).into_owned();
        let part = value("mender_boot_part");
        let part = part.parse().map_err(|_| format!("mender_boot_part is {part:?}"))?;
        Ok(Environment { part, trying: value("upgrade_available") == "1", good })
    }

    /// SHA-256 of partition 2 or 3.
    pub fn slot(&self, number: u32) -> Result<String> {
        let part =
            self.board.parts.get(number as usize - 1).ok_or_else(|| format!("there is no slot {number}"))?;
        Ok(sha256(&disk::get(&self.image, part.start, part.size)?))
    }

    /// thimble's record of the update in progress, after the file system's own journal was played. `None`: there is no
    /// update in progress. An error if the record cannot be read.
    pub fn journal(&self) -> Result<Option<Record>> {
        let part = self.board.parts[3];
        let data = self.image.with_extension("data");
        // Not over an old one: holes.
        let _ = fs::remove_file(&data);
        disk::put(&make(&data, part.size)?, 0, &disk::get(&self.image, part.start, part.size)?)?;
        // What mounting does. 1: something was corrected, as it should be.
        run("sh", &["-c", "e2fsck -fy \"$0\" || [ $? -le 1 ]", &text(&data)], "")?;
        let dir = self.image.with_extension("journal");
        fresh(&dir)?;
        for copy in ["a", "b"] {
            let name = format!("thimble-journal.{copy}");
            let to = text(&dir.join(&name));
            run("debugfs", &["-R", &format!("dump mender/{name} {to}"), &text(&data)], "")?;
        }
        let record = Durable::new(&dir, "thimble-journal", *b"THJ1");
        let loaded = record.look().map_err(|e| e.to_string())?;
        fs::remove_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        fs::remove_file(&data).map_err(|e| format!("{}: {e}", data.display()))?;
        match loaded {
            Loaded::Content(content) if content.is_empty() => Ok(None),
            Loaded::Content(content) => {
                Record::decode(&content).map(Some).map_err(|why| format!("the journal: {why:?}"))
            }
            Loaded::Nothing => Ok(None),
            other => Err(format!("the journal: {other:?}")),
        }
    }

    /// A file of the boot partition.
    fn fat_file(&self, path: &str) -> Result<Vec<u8>> {
        let name = path.rsplit('/').next().unwrap_or(path);
        let from = format!("{}@@{}", text(&self.image), self.board.parts[0].start);
        let to = self.image.with_extension("env");
        let _ = fs::remove_file(&to);
        run("mcopy", &["-n", "-o", "-i", &from, &format!("::{name}"), &text(&to)], "")?;
        let bytes = fs::read(&to).map_err(|e| format!("{}: {e}", to.display()));
        let _ = fs::remove_file(&to);
        bytes
    }
}

/// A file of zeros.
fn make(path: &Path, size: u64) -> Result<PathBuf> {
    let made = fs::File::create(path).and_then(|file| file.set_len(size));
    made.map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(path.to_owned())
}
