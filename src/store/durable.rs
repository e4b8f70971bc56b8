//! A small record that survives power cuts: two copies, the newest valid one counts. Knows no contents.
//!
//! The bytes of a copy (little-endian; the first 24 keep their places in every later version, so that an older
//! program can tell which copy is newer even if it cannot read it):
//!
//! | offset | size | what |
//! | --- | --- | --- |
//! | 0 | 4 | magic: what kind of record |
//! | 4 | 2 | format version, 1 |
//! | 6 | 2 | 0 |
//! | 8 | 8 | sequence number; each save uses the highest seen plus one |
//! | 16 | 4 | length of the content |
//! | 20 | 4 | CRC-32 of bytes 0 to 19 and the content |
//! | 24 | length | content; the file ends here |

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::crc::crc32;
use crate::error::{Context, Error, Result};
use crate::sys::file;

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
#[path = "../../tests/fuzz/targets/journal.rs"]
pub mod fuzz;

/// Largest content of a record, in bytes.
pub const MAX_CONTENT: usize = 256 << 10;

const HEADER: usize = 24;
const VERSION: u16 = 1;

/// What [`Durable::load`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loaded {
    /// Nothing was ever saved.
    Nothing,
    /// The newest valid content.
    Content(Vec<u8>),
    /// Nothing usable: what was found, and where it was set aside.
    Damaged(String),
}

/// One record in the data store, in the files `NAME.a` and `NAME.b`.
#[derive(Debug)]
pub struct Durable {
    copies: [PathBuf; 2],
    magic: [u8; 4],
    /// What is on disk; `None`: not known (not read yet, or a save failed half-way).
    seen: Option<Seen>,
    writes: u64,
}

/// The state of both copies.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// Highest sequence number on disk.
    highest: u64,
    /// The copy that the next save replaces.
    next: usize,
    /// Which copies are damaged: such a file is kept under another name before it is replaced.
    damaged: [bool; 2],
}

/// One copy as found.
enum Copy {
    Missing,
    Valid(u64, Vec<u8>),
    /// Whole, but of a format version that this program does not know.
    Foreign(u64, u16),
    Bad(String),
}

impl Copy {
    /// Missing and damaged copies count as the oldest.
    fn sequence(&self) -> Option<u64> {
        match self {
            Copy::Valid(sequence, _) | Copy::Foreign(sequence, _) => Some(*sequence),
            Copy::Missing | Copy::Bad(_) => None,
        }
    }
}

impl Durable {
    /// The record `name` in the directory `dir`. `magic` says what kind it is. Touches nothing yet.
    pub fn new(dir: &Path, name: &str, magic: [u8; 4]) -> Durable {
        let copies = [dir.join(format!("{name}.a")), dir.join(format!("{name}.b"))];
        Durable { copies, magic, seen: None, writes: 0 }
    }

    /// The files of its two copies.
    pub fn files(&self) -> &[PathBuf; 2] {
        &self.copies
    }

    /// The newest valid content. One damaged copy: the other one is used, with a warning in the log. Nothing
    /// usable: the files are renamed to `*.broken` (replacing older ones) and reported.
    ///
    /// # Errors
    /// `STORE-READ` if a copy cannot be read for a reason that is not damage (no permission, no memory).
    pub fn load(&mut self) -> Result<Loaded> {
        match self.examine()? {
            (Loaded::Damaged(what), copies) => {
                let aside = self.set_aside(&copies);
                let text = format!("{what}; {aside}");
                log::error!("STORE-DAMAGED: {text}");
                // Sequence numbers go on from what was seen, in case setting aside failed.
                self.seen = self.examine().ok().map(|(_, now)| plan(&now));
                let before = plan(&copies).highest;
                if let Some(seen) = &mut self.seen {
                    seen.highest = seen.highest.max(before);
                }
                Ok(Loaded::Damaged(text))
            }
            (loaded, copies) => {
                self.seen = Some(plan(&copies));
                Ok(loaded)
            }
        }
    }

    /// As [`Durable::load`], but changes nothing on disk: for commands that run beside the daemon.
    ///
    /// # Errors
    /// As [`Durable::load`].
    pub fn look(&self) -> Result<Loaded> {
        self.examine().map(|(loaded, _)| loaded)
    }

    /// Replaces the older (or damaged, or missing) copy; on stable storage when this returns. After a power
    /// cut at any moment either the previous or this content is loaded. Exactly one file is written.
    ///
    /// # Errors
    /// `STORE-TOO-BIG` above [`MAX_CONTENT`]. `STORE-WRITE` (no space, read-only): what was saved before is
    /// still there.
    pub fn save(&mut self, content: &[u8]) -> Result<()> {
        let seen = match self.seen {
            Some(seen) => seen,
            None => plan(&self.examine()?.1),
        };
        let path = &self.copies[seen.next];
        if content.len() > MAX_CONTENT {
            let what =
                format!("{} would hold {} bytes, the limit is {MAX_CONTENT}", path.display(), content.len());
            return Err(Error::new("STORE-TOO-BIG", what));
        }
        if let Some(dir) = path.parent() {
            super::create_directory(dir)?;
        }
        if seen.damaged[seen.next] {
            let _ = fs::rename(path, broken(path)); // evidence only; replace() would remove it
        }
        let sequence = seen.highest.saturating_add(1);
        let record = encode(self.magic, sequence, content);
        self.seen = None; // after a failure only the disk knows
        if let Err(e) = file::replace(path, &record, 0o600) {
            let _ = fs::remove_file(temporary(path)); // its space is needed
            let what = format!(
                "cannot write {} ({} bytes): {e}; is the data store full or read-only?",
                path.display(),
                record.len()
            );
            return Err(Error::new("STORE-WRITE", what));
        }
        self.writes += 1;
        let mut damaged = seen.damaged;
        damaged[seen.next] = false;
        self.seen = Some(Seen { highest: sequence, next: 1 - seen.next, damaged });
        Ok(())
    }

    /// How many files this object has written: one per successful save (flash wear).
    pub fn writes(&self) -> u64 {
        self.writes
    }

    fn examine(&self) -> Result<(Loaded, [Copy; 2])> {
        let copies = [read(&self.copies[0], self.magic)?, read(&self.copies[1], self.magic)?];
        let loaded = judge(&copies, &self.copies);
        Ok((loaded, copies))
    }

    /// Renames what is there; says what became of it.
    fn set_aside(&self, copies: &[Copy; 2]) -> String {
        let mut said = Vec::new();
        for (path, _) in self.copies.iter().zip(copies).filter(|(_, c)| !matches!(c, Copy::Missing)) {
            let to = broken(path);
            match fs::rename(path, &to) {
                Ok(()) => said.push(format!("set aside as {}", to.display())),
                Err(e) => said.push(format!("cannot be set aside as {}: {e}", to.display())),
            }
        }
        if let Err(e) = file::sync_parent(&self.copies[0]) {
            said.push(format!("the directory cannot be synchronised: {e}"));
        }
        said.join(", ")
    }
}

/// Which copy counts, if any.
fn judge(copies: &[Copy; 2], paths: &[PathBuf; 2]) -> Loaded {
    let newest = newest(copies);
    let said = |i: usize| match &copies[i] {
        Copy::Bad(what) => Some(format!("{}: {what}", paths[i].display())),
        Copy::Foreign(_, version) => Some(format!(
            "{}: format version {version}, this program knows {VERSION}; was a newer one installed here?",
            paths[i].display()
        )),
        Copy::Missing | Copy::Valid(..) => None,
    };
    match &copies[newest] {
        Copy::Valid(_, content) => {
            if let Some(what) = said(1 - newest) {
                log::warn!("STORE-COPY: {what}; the other copy is used");
            }
            Loaded::Content(content.clone())
        }
        // The older copy, even if valid, is not what was saved last: using it would be a guess.
        _ => match [said(0), said(1)].into_iter().flatten().collect::<Vec<_>>() {
            said if said.is_empty() => Loaded::Nothing,
            said => Loaded::Damaged(said.join("; ")),
        },
    }
}

/// What the next save has to do: replace the copy that does not count.
fn plan(copies: &[Copy; 2]) -> Seen {
    let sequences = [copies[0].sequence(), copies[1].sequence()];
    let next = usize::from(sequences[0].is_some() && newest(copies) == 0);
    let highest = sequences.into_iter().flatten().max().unwrap_or(0);
    Seen { highest, next, damaged: [0, 1].map(|i| matches!(copies[i], Copy::Bad(_))) }
}

/// The copy that was saved last.
fn newest(copies: &[Copy; 2]) -> usize {
    usize::from(copies[1].sequence() > copies[0].sequence())
}

fn encode(magic: [u8; 4], sequence: u64, content: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(HEADER + content.len());
    record.extend_from_slice(&magic);
    record.extend_from_slice(&VERSION.to_le_bytes());
    record.extend_from_slice(&[0, 0]);
    record.extend_from_slice(&sequence.to_le_bytes());
    record.extend_from_slice(&(content.len() as u32).to_le_bytes());
    let crc = crc32(&[&record, content]);
    record.extend_from_slice(&crc.to_le_bytes());
    record.extend_from_slice(content);
    record
}

fn decode(magic: [u8; 4], record: &[u8]) -> Copy {
    let bad = |what: &str| Copy::Bad(what.to_owned());
    let Some((header, content)) = record.split_first_chunk::<HEADER>() else {
        return Copy::Bad(format!("{} bytes, too short for a record", record.len()));
    };
    let [m0, m1, m2, m3, v0, v1, _, _, s0, s1, s2, s3, s4, s5, s6, s7, l0, l1, l2, l3, crc @ ..] = *header;
    if [m0, m1, m2, m3] != magic {
        return bad("wrong magic, not a record of this kind");
    }
    let length = u32::from_le_bytes([l0, l1, l2, l3]);
    if length as usize != content.len() {
        return Copy::Bad(format!("{} bytes of content instead of {length}", content.len()));
    }
    if crc32(&[&header[..HEADER - 4], content]) != u32::from_le_bytes(crc) {
        return bad("wrong checksum");
    }
    let sequence = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
    match u16::from_le_bytes([v0, v1]) {
        VERSION => Copy::Valid(sequence, content.to_vec()),
        version => Copy::Foreign(sequence, version),
    }
}

fn read(path: &Path, magic: [u8; 4]) -> Result<Copy> {
    // A directory or a named pipe in its place; opening a pipe would wait for ever.
    match fs::metadata(path) {
        Ok(meta) if !meta.is_file() => return Ok(Copy::Bad("not a regular file".into())),
        _ => {}
    }
    match file::read_limited(path, (HEADER + MAX_CONTENT) as u64) {
        Ok(record) => Ok(decode(magic, &record)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Copy::Missing),
        Err(e) if is_damage(&e) => Ok(Copy::Bad(e.to_string())),
        Err(e) => Err(e).context("STORE-READ", || format!("cannot read {}", path.display())),
    }
}

/// Errors that say that the content is lost. Others (no permission, no memory) say nothing about it, and must
/// not lead to setting a good record aside.
fn is_damage(e: &io::Error) -> bool {
    const EIO: i32 = 5;
    const EBADMSG: i32 = 74; // UBIFS: uncorrectable bits
    const EUCLEAN: i32 = 117; // the file system's own structure is damaged
    e.kind() == ErrorKind::InvalidData || matches!(e.raw_os_error(), Some(EIO | EBADMSG | EUCLEAN))
}

fn broken(path: &Path) -> PathBuf {
    with_suffix(path, ".broken")
}

/// Where `file::replace` writes first.
fn temporary(path: &Path) -> PathBuf {
    with_suffix(path, ".new")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(suffix);
    path.with_file_name(name)
}
