//! The journal on disk: the policy's record in a durable file.

use std::path::{Path, PathBuf};
use thimble::agent::Record;
use thimble::error::Result;
use thimble::ports::Journal;
use thimble::store::{Durable, Loaded};
use thimble::sys::file;

/// The record of the update in progress, in the data store.
#[derive(Debug)]
pub struct JournalFile {
    record: Durable,
    unreadable: PathBuf,
}

impl JournalFile {
    /// In this data store.
    pub fn new(datastore: &Path) -> JournalFile {
        JournalFile {
            record: Durable::new(datastore, "thimble-journal", *b"THJ1"),
            unreadable: datastore.join("thimble-journal.unreadable"),
        }
    }

    /// The update in progress, for commands that only look: changes nothing.
    ///
    /// # Errors
    /// When it cannot be read.
    #[cfg(feature = "control")]
    pub fn look(&self) -> Result<Option<Record>> {
        match self.record.look()? {
            Loaded::Content(content) if !content.is_empty() => {
                let record = Record::decode(&content);
                record.map(Some).map_err(|why| thimble::error::Error::new("JOURNAL-RECORD", why.0))
            }
            Loaded::Content(_) | Loaded::Nothing => Ok(None),
            Loaded::Damaged(what) => Err(thimble::error::Error::new("STORE-DAMAGED", what)),
        }
    }

    /// The update in progress, if there is one. A record that cannot be read is set aside and reported; the agent
    /// starts from idle (U62 PICK).
    ///
    /// # Errors
    /// When the files cannot be read at all.
    pub fn load(&mut self) -> Result<Option<Record>> {
        let content = match self.record.load()? {
            Loaded::Content(content) if !content.is_empty() => content,
            // Damaged: set aside and said by the store.
            Loaded::Content(_) | Loaded::Nothing | Loaded::Damaged(_) => return Ok(None),
        };
        match Record::decode(&content) {
            Ok(record) => Ok(Some(record)),
            Err(why) => {
                log::error!(
                    "JOURNAL-RECORD: the record of the update in progress cannot be read: {}; it is kept in {}. \
                     If the new system should not stay, roll back by hand",
                    why.0,
                    self.unreadable.display()
                );
                if let Err(e) = file::replace(&self.unreadable, &content, 0o600) {
                    log::warn!("cannot write {}: {e}", self.unreadable.display());
                }
                self.clear()?;
                Ok(None)
            }
        }
    }
}

impl Journal for JournalFile {
    fn save(&mut self, record: &Record) -> Result<()> {
        self.record.save(&record.encode())
    }

    fn clear(&mut self) -> Result<()> {
        self.record.save(b"")
    }
}
