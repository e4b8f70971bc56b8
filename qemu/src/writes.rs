//! The log of everything that was written to a card, and cards made from the first part of it.
//!
//! QEMU's `blklogwrites` writes the format of Linux's dm-log-writes: a super block, then for each request a header of
//! one sector, followed by the data. All numbers are little-endian.

use crate::disk;
use crate::tool::Result;
use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const MAGIC: u64 = 0x006a_7366_7773_6872;
const DISCARD: u64 = 4;

/// One write request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write {
    /// First byte on the card.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    /// Where the data are in the log; `None` for a discard, which writes zeros.
    data: Option<u64>,
}

/// Where the power goes: so many whole writes, then a part of the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Writes that are there in full.
    pub whole: usize,
    /// Bytes of the next one that are there too: whole sectors.
    pub torn: u64,
}

/// A log.
pub struct Writes {
    path: PathBuf,
    sector: u64,
    /// The requests, in their order.
    pub list: Vec<Write>,
}

impl Writes {
    /// Reads a log's headers. The super block's count may be older than the last requests (QEMU was killed): all whole
    /// requests count.
    pub fn open(path: &Path) -> Result<Writes> {
        let say = |what: &str| format!("{}: {what}", path.display());
        let file = File::open(path).map_err(|e| say(&e.to_string()))?;
        let length = file.metadata().map_err(|e| say(&e.to_string()))?.len();
        let number = |at: u64| {
            let mut bytes = [0; 8];
            file.read_exact_at(&mut bytes, at)
                .map(|()| u64::from_le_bytes(bytes))
                .map_err(|e| say(&e.to_string()))
        };
        if number(0)? != MAGIC || number(8)? != 1 {
            return Err(say("not a log of dm-log-writes, version 1"));
        }
        let sector = number(24)? & 0xffff_ffff;
        if !(512..=65536).contains(&sector) || !sector.is_power_of_two() {
            return Err(say(&format!("sectors of {sector} bytes")));
        }
        let mut list = Vec::new();
        let mut at = sector;
        while at + sector <= length {
            let (first, count, flags) = (number(at)?, number(at + 8)?, number(at + 16)?);
            at += sector;
            let (Some(offset), Some(size)) = (first.checked_mul(sector), count.checked_mul(sector)) else {
                break;
            };
            let stored = if flags & DISCARD == 0 { size } else { 0 };
            if at + stored > length {
                break;
            }
            if size > 0 {
                list.push(Write { offset, size, data: (flags & DISCARD == 0).then_some(at) });
            }
            at += stored;
        }
        Ok(Writes { path: path.to_owned(), sector, list })
    }

    /// All places where the power may go: before each write, after its first sector, and in its middle.
    pub fn cuts(&self) -> Vec<Cut> {
        let mut cuts = Vec::new();
        for (whole, write) in self.list.iter().enumerate() {
            let sectors = write.size / self.sector;
            cuts.push(Cut { whole, torn: 0 });
            for torn in [1, sectors / 2] {
                if torn < sectors && cuts.last().is_some_and(|last: &Cut| last.torn < torn * self.sector) {
                    cuts.push(Cut { whole, torn: torn * self.sector });
                }
            }
        }
        cuts.push(Cut { whole: self.list.len(), torn: 0 });
        cuts
    }

    /// The cut after the first sector of what was written last to one of these ranges: of several requests in a row,
    /// the first one.
    pub fn last_in(&self, ranges: &[Range<u64>]) -> Result<Cut> {
        let range_of =
            |write: &Write| ranges.iter().position(|r| r.start <= write.offset && write.offset < r.end);
        let last = self
            .list
            .iter()
            .rposition(|write| range_of(write).is_some())
            .ok_or("nothing was written there")?;
        let same =
            |at: &usize| self.list.get(*at).and_then(range_of) == self.list.get(last).and_then(range_of);
        let whole = (0..=last).rev().take_while(same).last().unwrap_or(last);
        Ok(Cut { whole, torn: self.sector })
    }

    /// Makes the card as the cut leaves it: a copy of `before` with the writes that were done.
    pub fn apply(&self, before: &Path, card: &Path, cut: Cut) -> Result<()> {
        disk::copy(before, card)?;
        self.add(card, 0, cut)
    }

    /// Adds to a card that has the first `from` writes those up to the cut.
    pub fn add(&self, card: &Path, from: usize, cut: Cut) -> Result<()> {
        let log = File::open(&self.path).map_err(|e| format!("{}: {e}", self.path.display()))?;
        let opened = OpenOptions::new().write(true).open(card);
        let to = opened.map_err(|e| format!("{}: {e}", card.display()))?;
        let torn = self.list.get(cut.whole).map(|write| Write { size: cut.torn.min(write.size), ..*write });
        for write in self.list[..cut.whole].iter().skip(from).copied().chain(torn) {
            let mut bytes = vec![0; write.size as usize];
            let done = match write.data {
                Some(at) => log.read_exact_at(&mut bytes, at),
                None => Ok(()),
            };
            done.and_then(|()| to.write_all_at(&bytes, write.offset))
                .map_err(|e| format!("{}: {e}", card.display()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use thimble_testkit::TempDir;

    /// A log with these writes: first sector, data.
    fn log(dir: &Path, writes: &[(u64, &[u8])]) -> Writes {
        let mut bytes = Vec::new();
        let mut sector = |fields: &[u64]| {
            let mut block: Vec<u8> = fields.iter().flat_map(|field| field.to_le_bytes()).collect();
            block.resize(512, 0);
            bytes.extend_from_slice(&block);
        };
        // The count is that of an older time.
        sector(&[MAGIC, 1, 0, 512]);
        let mut bytes = bytes.clone();
        for (first, data) in writes {
            let mut block: Vec<u8> =
                [*first, data.len() as u64 / 512, 0, 0].iter().flat_map(|f| f.to_le_bytes()).collect();
            block.resize(512, 0);
            bytes.extend_from_slice(&block);
            bytes.extend_from_slice(data);
        }
        let path = dir.join("log");
        std::fs::write(&path, bytes).unwrap();
        Writes::open(&path).unwrap()
    }

    #[test]
    fn a_cut_leaves_whole_writes_and_the_first_sectors_of_the_next() {
        let dir = TempDir::new("writes");
        let (one, two) = ([1; 512], [2; 2048]);
        let writes = log(dir.path(), &[(1, &one), (4, &two)]);
        assert_eq!(writes.list.len(), 2);
        let expected = [(0, 0), (1, 0), (1, 512), (1, 1024), (2, 0)].map(|(whole, torn)| Cut { whole, torn });
        assert_eq!(writes.cuts(), expected);
        let (before, card) = (dir.path().join("before"), dir.path().join("card"));
        std::fs::write(&before, [0; 8192]).unwrap();
        writes.apply(&before, &card, Cut { whole: 1, torn: 1024 }).unwrap();
        let found = std::fs::read(&card).unwrap();
        let mut wanted = vec![0; 8192];
        wanted[512..1024].fill(1);
        wanted[2048..3072].fill(2);
        assert!(found == wanted);
        // In steps it comes to the same.
        writes.apply(&before, &card, Cut { whole: 1, torn: 0 }).unwrap();
        writes.add(&card, 1, Cut { whole: 1, torn: 1024 }).unwrap();
        assert!(std::fs::read(&card).unwrap() == wanted);
    }

    #[test]
    fn what_was_written_last_to_a_range_is_torn_behind_its_first_sector() {
        let dir = TempDir::new("writes");
        let data = [3; 2048];
        // Twice to the range, the second time in two requests.
        let writes = log(dir.path(), &[(2, &data), (100, &data), (2, &data), (6, &data), (200, &data)]);
        assert_eq!(writes.last_in(&[1024..5120, 0..0]).unwrap(), Cut { whole: 2, torn: 512 });
        assert!(writes.last_in(&[1 << 30..1 << 31, 0..0]).is_err());
    }

    #[test]
    fn something_else_is_no_log() {
        let dir = TempDir::new("writes");
        let path = dir.path().join("log");
        std::fs::write(&path, [7; 4096]).unwrap();
        assert!(Writes::open(&path).is_err());
    }
}
