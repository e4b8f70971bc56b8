//! A tar archive as a stream of entries, for the outer archive and the two inside it. Never looks back,
//! never recurses, keeps nothing of an entry's content.

use std::io::{self, Read};

use super::block::{self, BLOCK, Pax};
use super::fault::{carry, lift, shown};
use super::limits;
use crate::error::{Error, Result};

/// What stands before an entry's content.
#[derive(Debug)]
pub(super) struct Entry {
    /// The whole name, UTF-8, at most 255 bytes, as stored.
    pub(super) name: String,
    /// Bytes of content.
    pub(super) size: u64,
    /// A directory; anything else is a regular file. Other types never get here.
    pub(super) directory: bool,
}

/// The archive. As a `Read` it gives the content of the current entry, and 0 at its end.
#[derive(Debug)]
pub(super) struct Tar<R> {
    source: R,
    /// Names the archive in errors.
    label: &'static str,
    left: u64,
    padding: u64,
    ended: bool,
}

impl<R> Tar<R> {
    pub(super) fn new(source: R, label: &'static str) -> Tar<R> {
        Tar { source, label, left: 0, padding: 0, ended: false }
    }

    pub(super) fn into_inner(self) -> R {
        self.source
    }

    /// Bytes of the current entry that were not read yet.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    fn wrong(&self, text: impl std::fmt::Display) -> Error {
        Error::new("ARTIFACT-TAR", format!("{}: {text}", self.label))
    }

    fn truncated(&self) -> Error {
        let label = self.label;
        Error::new("ARTIFACT-TRUNCATED", format!("{label} ends too early; is the download or copy complete?"))
    }

    fn start(&mut self, size: u64) {
        const UNIT: u64 = BLOCK as u64;
        self.left = size;
        self.padding = (UNIT - size % UNIT) % UNIT;
    }
}

impl<R: Read> Tar<R> {
    /// Goes on to the next entry, skipping what is left of the current one. `None` after the two zero blocks
    /// that end an archive; both are required, so that a cut is never taken for the end.
    ///
    /// Errors: ARTIFACT-TAR, ARTIFACT-TRUNCATED, ARTIFACT-LIMIT, and those of the source.
    pub(super) fn next_entry(&mut self) -> Result<Option<Entry>> {
        let (mut pax, mut long): (Option<Pax>, Option<Vec<u8>>) = (None, None);
        if self.ended {
            return Ok(None);
        }
        // At most three rounds: each extension is accepted once.
        loop {
            self.skip()?;
            let block = self.block()?;
            if is_zero(&block) {
                if pax.is_some() || long.is_some() {
                    return Err(self.wrong("the archive ends after an extension record"));
                }
                if !is_zero(&self.block()?) {
                    return Err(self.wrong("one zero block is followed by something else"));
                }
                self.ended = true;
                return Ok(None);
            }
            let fields = block::fields(&block).map_err(|e| e.during(self.label))?;
            match fields.kind {
                b'x' if pax.is_none() => {
                    let content = self.extension(fields.size)?;
                    pax = Some(block::pax(&content).map_err(|e| e.during(self.label))?);
                }
                b'L' if long.is_none() => {
                    let mut name = self.extension(fields.size)?;
                    // GNU tar counts the final NUL.
                    name.pop_if(|last| *last == 0);
                    long = Some(name);
                }
                b'x' | b'L' => return Err(self.wrong("an entry has two extension records of one kind")),
                b'0' | 0 | b'5' => {
                    let pax = pax.unwrap_or_default();
                    let name = match (pax.path, long) {
                        (Some(_), Some(_)) => return Err(self.wrong("an entry has two long names")),
                        (Some(name), None) | (None, Some(name)) => name,
                        (None, None) => fields.name,
                    };
                    let size = block::agreed_size(fields.size, pax.size).map_err(|e| e.during(self.label))?;
                    return self.entry(name, size, fields.kind == b'5').map(Some);
                }
                kind => {
                    let name = shown(&String::from_utf8_lossy(&fields.name));
                    return Err(self.wrong(format_args!("{name} is {}", kind_name(kind))));
                }
            }
        }
    }

    fn entry(&mut self, name: Vec<u8>, size: u64, directory: bool) -> Result<Entry> {
        if name.len() > limits::NAME {
            let text =
                format!("{}: a name of {} bytes, the limit is {}", self.label, name.len(), limits::NAME);
            return Err(Error::new("ARTIFACT-LIMIT", text));
        }
        let name = String::from_utf8(name).map_err(|e| {
            let lossy = shown(&String::from_utf8_lossy(e.as_bytes()));
            self.wrong(format_args!("the name {lossy} is not UTF-8"))
        })?;
        if name.is_empty() || name.contains('\0') {
            return Err(self.wrong(format_args!("the name {} is empty or contains NUL", shown(&name))));
        }
        if directory && size != 0 {
            return Err(self.wrong(format_args!("the directory {} has content", shown(&name))));
        }
        self.start(size);
        Ok(Entry { name, size, directory })
    }

    /// The content of the current entry, which must not exceed `limit`.
    pub(super) fn content(&mut self, entry: &Entry, limit: u64) -> Result<Vec<u8>> {
        self.whole(entry.size, limit, &entry.name)
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>> {
        self.start(size);
        self.whole(size, limits::EXTENSION, "an extension record")
    }

    fn whole(&mut self, size: u64, limit: u64, what: &str) -> Result<Vec<u8>> {
        let over = |why: &str| {
            let text = format!("{}: {what} has {size} bytes, {why}", self.label);
            Error::new("ARTIFACT-LIMIT", text)
        };
        if size > limit {
            return Err(over(&format!("the limit is {limit}")));
        }
        let length = usize::try_from(size).map_err(|_| over("too many for this machine"))?;
        let mut content = Vec::new();
        content.try_reserve_exact(length).map_err(|_| over("there is not enough memory"))?;
        content.resize(length, 0);
        let mut at = 0;
        while at < length {
            // 0 is impossible here: `read` reports an early end itself.
            at += self.read(&mut content[at..]).map_err(lift)?.max(1);
        }
        Ok(content)
    }

    /// Reads what is left of the current entry, and its padding.
    fn skip(&mut self) -> Result<()> {
        let mut scratch = [0; 4096];
        while self.left > 0 {
            self.read(&mut scratch).map_err(lift)?;
        }
        let padding = usize::try_from(self.padding).unwrap_or(0);
        self.padding = 0;
        self.fill(&mut scratch[..padding])
    }

    /// Reads on to the end of the source after the archive's end. With `zero` every byte must be zero.
    ///
    /// Errors: ARTIFACT-LIMIT after 1 MiB, ARTIFACT-TAR for a byte that is not zero.
    pub(super) fn after_end(&mut self, zero: bool) -> Result<()> {
        let mut scratch = [0; 4096];
        let mut seen = 0;
        loop {
            let n = self.source.read(&mut scratch).map_err(lift)?;
            if n == 0 {
                return Ok(());
            }
            if zero && !is_zero(&scratch[..n]) {
                return Err(self.wrong("there is something after the end of the archive"));
            }
            seen += n as u64;
            if seen > limits::AFTER_END {
                let text =
                    format!("{}: more than {} bytes after the archive's end", self.label, limits::AFTER_END);
                return Err(Error::new("ARTIFACT-LIMIT", text));
            }
        }
    }

    fn block(&mut self) -> Result<[u8; BLOCK]> {
        let mut block = [0; BLOCK];
        self.fill(&mut block)?;
        Ok(block)
    }

    fn fill(&mut self, mut buffer: &mut [u8]) -> Result<()> {
        while !buffer.is_empty() {
            match self.source.read(buffer).map_err(lift)? {
                0 => return Err(self.truncated()),
                n => buffer = &mut buffer[n..],
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for Tar<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Compared in 64 bits: an entry may be larger than the address space.
        let room = (buffer.len() as u64).min(self.left) as usize;
        if room == 0 {
            return Ok(0);
        }
        match self.source.read(&mut buffer[..room])? {
            0 => Err(carry(self.truncated())),
            n => {
                self.left -= n as u64;
                Ok(n)
            }
        }
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|b| *b == 0)
}

fn kind_name(kind: u8) -> String {
    let name = match kind {
        b'1' => "a hard link",
        b'2' => "a symbolic link",
        b'3' | b'4' => "a device",
        b'6' => "a pipe",
        b'S' => "a sparse file",
        b'g' => "a global PAX record",
        b'K' => "a long link name",
        _ => return format!("of the unknown type {:?}", char::from(kind)),
    };
    format!("{name}; only regular files are accepted")
}
