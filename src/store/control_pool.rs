//! The update control maps in force, in a durable record that several processes change: the daemon, `check`, and
//! whoever sets a map. Every change is made under a lock of its own, held for a moment only.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::drop_ins::DropIns;
use super::durable::{Durable, Loaded};
use crate::agent::control::{Lifetimes, Pool};
use crate::error::{Context, Error, Result};
use crate::json;
use crate::sys::clock;
use crate::sys::file::{self, Lock};

/// How long others may hold the lock.
const LOCK_LIMIT: Duration = Duration::from_secs(10);

/// Name and kind of the record of update control maps in the data store.
pub const CONTROL_RECORD: (&str, [u8; 4]) = ("thimble-control", *b"THC1");

/// When, and how long maps live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Time since boot.
    pub now: Duration,
    /// How long maps live.
    pub lives: Lifetimes,
}

/// Where the [`Pool`] is kept: the record `thimble-control` in the data store; and the directory `control.d` there,
/// in which applications drop maps.
#[derive(Debug)]
pub struct PoolStore {
    datastore: PathBuf,
    boot_id: String,
    lives: Lifetimes,
    drop_ins: DropIns,
    /// It was said that maps expire at once.
    warned: bool,
}

impl PoolStore {
    /// In the data store `datastore`, in the boot with this ID. Touches nothing yet.
    pub fn open(datastore: &Path, boot_id: &str, lives: Lifetimes) -> PoolStore {
        // Were it empty, every reading would take place in another boot, and no map would ever expire.
        let boot_id = match boot_id {
            "" => format!("unknown-{}", std::process::id()),
            known => known.to_owned(),
        };
        PoolStore {
            datastore: datastore.to_owned(),
            boot_id,
            lives,
            drop_ins: DropIns::new(datastore),
            warned: false,
        }
    }

    /// The maps in force, for commands that only look: changes nothing on disk, takes no lock, and leaves alone what
    /// applications have dropped.
    ///
    /// # Errors
    /// `CONTROL-DAMAGED` if the record is or was damaged; `STORE-READ`.
    pub fn read(&self) -> Result<Pool> {
        self.refuse_damaged()?;
        match self.record().look()? {
            Loaded::Nothing => Ok(Pool::default()),
            Loaded::Content(content) => self.decode(&content),
            Loaded::Damaged(what) => Err(Error::new("CONTROL-DAMAGED", what)),
        }
    }

    /// Takes in what applications have dropped, then changes the maps. The result is on stable storage when this
    /// returns; nothing is written if nothing has changed. Where nobody has ever set a map nothing is touched at all,
    /// as long as `change` sets none; if it does, it is called a second time, under the lock.
    ///
    /// # Errors
    /// `CONTROL-DAMAGED`: the record was damaged; it is set aside, and this stays so until [`PoolStore::start_anew`].
    /// `CONTROL-BUSY` if another process holds the lock for ten seconds. `STORE-READ`, `STORE-WRITE`.
    pub fn modify<T>(&mut self, mut change: impl FnMut(&mut Pool, Moment) -> T) -> Result<T> {
        self.refuse_damaged()?;
        if !self.exists() && !self.drop_ins.waiting() {
            let mut pool = Pool::default();
            let result = change(&mut pool, self.moment());
            if pool == Pool::default() {
                return Ok(result);
            }
        }
        self.locked(|this| {
            let (mut pool, bytes) = this.load()?;
            let before = pool.clone();
            let taken = this.drop_ins.take(&mut pool, this.moment());
            let result = change(&mut pool, this.moment());
            if pool.changes() != before.changes() {
                this.warn_of_lifetimes();
            }
            // A new boot alone is no reason to write an empty pool.
            if !(pool.is_empty() && pool == before) {
                let new = pool.encode(&this.boot_id, clock::since_boot());
                if new != bytes {
                    this.record().save(&new)?;
                }
            }
            this.drop_ins.remove(taken);
            Ok(result)
        })
    }

    /// An update in progress has failed because of the damage, or there is none: the maps are those that are set from
    /// now on.
    ///
    /// # Errors
    /// `STORE-WRITE`.
    pub fn start_anew(&mut self) -> Result<()> {
        let mark = self.mark();
        file::remove(&mark).context("STORE-WRITE", || format!("cannot remove {}", mark.display()))
    }

    /// Directories in which something happens when the maps change, those that may be missing last.
    pub fn directories(&self) -> [PathBuf; 2] {
        [self.datastore.clone(), self.drop_ins.directory().to_owned()]
    }

    /// Why files in the directory for dropped-in maps are not used; `None`: they are.
    pub fn drop_in_trouble(&self) -> Option<String> {
        self.drop_ins.trouble()
    }

    fn warn_of_lifetimes(&mut self) {
        if self.lives.normal.is_zero() && !std::mem::replace(&mut self.warned, true) {
            log::warn!(
                "update control maps expire at once: set UpdateControlMapExpirationTimeSeconds (or \
                 UpdatePollIntervalSeconds) in the configuration"
            );
        }
    }

    fn record(&self) -> Durable {
        Durable::new(&self.datastore, CONTROL_RECORD.0, CONTROL_RECORD.1)
    }

    /// Somebody has saved something, sometime.
    fn exists(&self) -> bool {
        ["thimble-control.a", "thimble-control.b"]
            .iter()
            .any(|name| fs::symlink_metadata(self.datastore.join(name)).is_ok())
    }

    fn moment(&self) -> Moment {
        Moment { now: clock::since_boot(), lives: self.lives }
    }

    fn locked<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        super::create_directory(&self.datastore)?;
        let path = self.datastore.join("thimble-control.lock");
        let lock = Lock::wait_for(&path, 0o600, LOCK_LIMIT)
            .context("CONTROL-BUSY", || format!("cannot lock {}", path.display()))?;
        let result = work(self);
        drop(lock);
        result
    }

    /// The pool, and its bytes on disk.
    fn load(&mut self) -> Result<(Pool, Vec<u8>)> {
        let mut record = self.record();
        match record.look()? {
            Loaded::Nothing => Ok((Pool::default(), Vec::new())),
            Loaded::Content(content) => match self.decode(&content) {
                Ok(pool) => Ok((pool, content)),
                Err(e) => {
                    // The checksum is right, so a program wrote this, perhaps a newer one.
                    self.leave_mark()?;
                    let aside = self.datastore.join("thimble-control.unreadable");
                    if let Err(e) = file::replace(&aside, &content, 0o600) {
                        log::warn!("cannot write {}: {e}", aside.display());
                    }
                    record.save(&Pool::default().encode(&self.boot_id, clock::since_boot()))?;
                    Err(e)
                }
            },
            Loaded::Damaged(what) => {
                self.leave_mark()?;
                record.load()?; // Sets it aside, and says so.
                Err(Error::new("CONTROL-DAMAGED", what))
            }
        }
    }

    fn decode(&self, content: &[u8]) -> Result<Pool> {
        let what = "the record of update control maps";
        let value = json::parse_bytes(content, "CONTROL-DAMAGED", what)?;
        Pool::decode(&value, &self.boot_id, clock::since_boot(), &self.lives)
            .map_err(|why| Error::new("CONTROL-DAMAGED", format!("{what} is not understood: {}", why.0)))
    }

    /// The file that says that maps were lost.
    fn mark(&self) -> PathBuf {
        self.datastore.join("thimble-control.damaged")
    }

    fn leave_mark(&self) -> Result<()> {
        let mark = self.mark();
        file::replace(&mark, b"", 0o600).context("STORE-WRITE", || format!("cannot write {}", mark.display()))
    }

    fn refuse_damaged(&self) -> Result<()> {
        if fs::symlink_metadata(self.mark()).is_err() {
            return Ok(());
        }
        let what = "the record of update control maps was damaged, and what it said is not known; set the maps again \
                    when no update is in progress";
        Err(Error::new("CONTROL-DAMAGED", what))
    }
}
