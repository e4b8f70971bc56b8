//! The payload files, streamed and compared with the manifest (AF-33 to AF-40).

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;

use sha2::{Digest as _, Sha256};

use super::codec::{self, Caps, DATA, Decoder};
use super::fault::{lift, shown};
use super::manifest::{self, Digest};
use super::source::Source;
use super::tar::Tar;
use crate::error::{Error, Result};

type Outer<R> = Tar<Source<R>>;
type Inner<R> = Tar<Decoder<Outer<R>>>;

/// The rest of an opened Artifact: its payload files in the order of the Artifact.
///
/// Uses a fixed amount of memory whatever the size of the files: the decoder's window and some buffers. After an error every further call gives the
/// same error: nothing can be accepted by going on.
pub struct Payload<R: Read> {
    stage: Stage<R>,
    caps: Caps,
    /// Bare name to checksum, and whether the file was met.
    files: BTreeMap<String, (Digest, bool)>,
    current: Option<Current>,
}

enum Stage<R: Read> {
    /// The header was read; the data entry may follow.
    Before(Outer<R>),
    /// Inside the data entry.
    Inside(Box<Inner<R>>),
    /// Everything was read, and found right.
    Finished,
    Failed(Error),
}

struct Current {
    name: String,
    wanted: Digest,
    hash: Sha256,
}

/// Short, and whatever the source is: what is left to read is not for a log.
impl<R: Read> fmt::Debug for Payload<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let current = self.current.as_ref().map(|c| c.name.as_str());
        f.debug_struct("Payload")
            .field("files", &self.files.len())
            .field("current", &current)
            .finish_non_exhaustive()
    }
}

impl<R: Read> Payload<R> {
    pub(super) fn new(outer: Outer<R>, files: BTreeMap<String, Digest>, caps: Caps) -> Payload<R> {
        let files = files.into_iter().map(|(name, digest)| (name, (digest, false))).collect();
        Payload { stage: Stage::Before(outer), caps, files, current: None }
    }

    /// Goes on to the next file: its name and size in bytes. A file that was not read to its end is read to its
    /// end and verified. `None` after the last one, when the end of the Artifact was reached, every file of the
    /// manifest was met and verified, and nothing but zero bytes followed (AF-15). Works for an Artifact without
    /// payload too: `None` at once, after the same checks.
    ///
    /// The name is safe to use as a file name (AF-34) and never comes twice.
    ///
    /// # Errors
    /// ARTIFACT-CHECKSUM, ARTIFACT-PAYLOAD (a file that should not be there, or is missing), ARTIFACT-ORDER,
    /// ARTIFACT-TAR, ARTIFACT-COMPRESSION, ARTIFACT-TRUNCATED, ARTIFACT-LIMIT, ARTIFACT-READ.
    pub fn next_file(&mut self) -> Result<Option<(String, u64)>> {
        let result = self.advance();
        self.remember(result)
    }

    /// Reads from the current file; 0 at its end (and if there is no current file, or `buffer` is empty). The
    /// checksum is compared by the read that reaches the file's end: on a mismatch that read fails, so the last
    /// bytes of a wrong file are never handed out (AF-37).
    ///
    /// # Errors
    /// ARTIFACT-CHECKSUM, ARTIFACT-COMPRESSION, ARTIFACT-TRUNCATED, ARTIFACT-TAR, ARTIFACT-READ.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let result = self.read_current(buffer);
        self.remember(result)
    }

    /// SHA-256 of the current file, as the manifest says; `None` at its end, and if there is no current file.
    pub fn checksum(&self) -> Option<[u8; 32]> {
        self.current.as_ref().map(|current| current.wanted)
    }

    fn remember<T>(&mut self, result: Result<T>) -> Result<T> {
        if let Err(error) = &result {
            self.stage = Stage::Failed(error.clone());
            self.current = None;
        }
        result
    }

    fn read_current(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let tar = match &mut self.stage {
            Stage::Failed(error) => return Err(error.clone()),
            Stage::Inside(tar) => tar,
            Stage::Before(_) | Stage::Finished => return Ok(0),
        };
        let Some(current) = &mut self.current else { return Ok(0) };
        let n = tar.read(buffer).map_err(lift)?;
        current.hash.update(&buffer[..n]);
        if tar.left() == 0 {
            self.verify_current()?;
        }
        Ok(n)
    }

    fn verify_current(&mut self) -> Result<()> {
        let Some(current) = self.current.take() else { return Ok(()) };
        manifest::compare(
            &format!("data/0000/{}", current.name),
            &current.wanted,
            &current.hash.finalize().into(),
        )
    }

    fn advance(&mut self) -> Result<Option<(String, u64)>> {
        let mut scratch = [0; 4096];
        while self.current.is_some() {
            self.read_current(&mut scratch)?;
        }
        // The stage is rebuilt below; if that fails, `remember` replaces this.
        match std::mem::replace(&mut self.stage, Stage::Finished) {
            Stage::Failed(error) => Err(error),
            Stage::Finished => Ok(None),
            Stage::Before(outer) => self.enter(outer),
            Stage::Inside(tar) => self.within(tar),
        }
    }

    /// Between the header and the data entry, which may be missing (AF-4).
    fn enter(&mut self, mut outer: Outer<R>) -> Result<Option<(String, u64)>> {
        let Some(entry) = outer.next_entry()? else { return self.finish(outer) };
        match codec::find(&DATA, &entry.name) {
            Some((label, container)) if !entry.directory => {
                let tar = Tar::new(container.decoder(outer, self.caps, label)?, label);
                self.within(Box::new(tar))
            }
            _ => Err(unexpected(&entry.name, "after the header")),
        }
    }

    fn within(&mut self, mut tar: Box<Inner<R>>) -> Result<Option<(String, u64)>> {
        let Some(entry) = tar.next_entry()? else { return self.leave(*tar) };
        let name = entry.name;
        let wrong =
            |why: &str| Error::new("ARTIFACT-PAYLOAD", format!("payload file {}: {why}", shown(&name)));
        if entry.directory {
            return Err(wrong("a directory; only regular files are accepted"));
        }
        manifest::check_file_name(&name).map_err(wrong)?;
        let wanted = match self.files.get_mut(&name) {
            None => return Err(wrong("not listed in the manifest")),
            Some((_, true)) => return Err(wrong("it is there twice")),
            Some((digest, met)) => {
                *met = true;
                *digest
            }
        };
        self.stage = Stage::Inside(tar);
        self.current = Some(Current { name: name.clone(), wanted, hash: Sha256::new() });
        if entry.size == 0 {
            self.verify_current()?;
        }
        Ok(Some((name, entry.size)))
    }

    /// After the last file. What else the container holds is unprotected and ignored, but bounded, and its stream
    /// must be sound to the end (AF-33).
    fn leave(&mut self, mut tar: Inner<R>) -> Result<Option<(String, u64)>> {
        tar.after_end(false)?;
        let mut outer = tar.into_inner().into_inner();
        match outer.next_entry()? {
            None => self.finish(outer),
            Some(entry) => Err(unexpected(&entry.name, "after the payload")),
        }
    }

    /// At the end of the outer archive: nothing but zero bytes may follow, the same for a file and the network.
    fn finish(&mut self, mut outer: Outer<R>) -> Result<Option<(String, u64)>> {
        outer.after_end(true)?;
        let missing = self.files.iter().find(|(_, (_, met))| !met);
        if let Some((name, _)) = missing {
            let text = format!("payload file {}: listed in the manifest, but not there", shown(name));
            return Err(Error::new("ARTIFACT-PAYLOAD", text));
        }
        Ok(None)
    }
}

fn unexpected(name: &str, place: &str) -> Error {
    let shown = shown(name);
    if name.starts_with("data/") {
        return Error::new("ARTIFACT-PAYLOAD", format!("{shown} {place}: only data/0000.tar is supported"));
    }
    Error::new("ARTIFACT-ORDER", format!("unexpected entry {shown} {place}"))
}
