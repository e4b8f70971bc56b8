//! Whether files have changed since they were read: what is asked at each poll need not be read at each poll.

use super::clock;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// How old the last change of a file must be when it is read, in seconds, for the next change to be sure to bear
/// another time. File systems count in ticks of the clock at best, FAT in two seconds.
const SETTLED: i64 = 3;

/// Tells a file from any other state of it, without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stamp {
    Missing,
    There { file: (u64, u64), size: u64, written: (i64, i64), changed: (i64, i64) },
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Stamp> {
        match std::fs::metadata(path) {
            Ok(meta) => Ok(Stamp::There {
                file: (meta.dev(), meta.ino()),
                size: meta.size(),
                written: (meta.mtime(), meta.mtime_nsec()),
                changed: (meta.ctime(), meta.ctime_nsec()),
            }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Stamp::Missing),
            Err(e) => Err(e),
        }
    }

    fn settled(&self, now: i64) -> bool {
        match self {
            Stamp::Missing => true,
            // A time to come was written by a clock that has been set back since: it may come again.
            Stamp::There { written, changed, .. } => written.0.max(changed.0).saturating_add(SETTLED) < now,
        }
    }
}

/// What `N` files (or directories) say, read again only when one of them has changed.
#[derive(Debug, Clone)]
pub struct Kept<T, const N: usize> {
    known: Option<([Stamp; N], T)>,
}

impl<T, const N: usize> Default for Kept<T, N> {
    fn default() -> Self {
        Kept { known: None }
    }
}

impl<T: Clone, const N: usize> Kept<T, N> {
    /// What the files say: as it was read before, or by `read`, whose errors are not kept.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn get<E>(&mut self, files: [&Path; N], read: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        // Taken before reading: a change in between is seen the next time.
        let stamps = files.map(|path| Stamp::of(path).ok());
        let whole = stamps.iter().all(Option::is_some);
        let stamps = stamps.map(|stamp| stamp.unwrap_or(Stamp::Missing));
        match &self.known {
            Some((known, value)) if whole && *known == stamps => return Ok(value.clone()),
            _ => self.known = None,
        }
        let value = read()?;
        let now = i64::try_from(clock::wall()).unwrap_or(i64::MAX);
        if whole && stamps.iter().all(|stamp| stamp.settled(now)) {
            self.known = Some((stamps, value.clone()));
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::time::{Duration, SystemTime};

    fn age(path: &Path, seconds: u64) {
        let time = SystemTime::now() - Duration::from_secs(seconds);
        File::options().write(true).open(path).and_then(|f| f.set_modified(time)).expect("sets the time");
    }

    #[test]
    fn only_what_has_long_been_as_it_is_is_not_read_again() {
        let dir = std::env::temp_dir().join(format!("thimble-stamp-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).expect("makes");
        let (file, missing) = (dir.join("file"), dir.join("missing"));
        fs::write(&file, "one").expect("writes");
        let mut kept = Kept::default();
        let mut reads = 0;
        let mut get = |kept: &mut Kept<String, 2>| {
            let read = || {
                reads += 1;
                fs::read_to_string(&file)
            };
            (kept.get([&file, &missing], read).expect("reads"), reads)
        };
        // It was written just now, and could be again within the same tick.
        assert_eq!(get(&mut kept), ("one".into(), 1));
        assert_eq!(get(&mut kept), ("one".into(), 2));
        // As if it were long ago.
        age(&file, 100);
        let stamps = [&file, &missing].map(|path| Stamp::of(path).expect("looks"));
        assert!(!stamps[0].settled(clock::wall() as i64), "its inode was changed just now");
        kept.known = Some((stamps, "one".into()));
        assert_eq!(get(&mut kept), ("one".into(), 2));
        fs::write(&file, "two").expect("writes");
        assert_eq!(get(&mut kept), ("two".into(), 3));
        let stamps = [&file, &missing].map(|path| Stamp::of(path).expect("looks"));
        kept.known = Some((stamps, "two".into()));
        fs::write(&missing, "").expect("writes");
        assert_eq!(get(&mut kept), ("two".into(), 4), "a file that was not there counts too");
        assert!(stamps[0].settled(clock::wall() as i64 + 10) && !stamps[0].settled(0));
        fs::remove_dir_all(&dir).expect("removes");
    }

    #[test]
    fn what_cannot_be_read_is_asked_for_again() {
        let mut kept: Kept<u8, 1> = Kept::default();
        let nowhere = Path::new("/nowhere/at/all");
        assert_eq!(kept.get([nowhere], || Err("broken")), Err("broken"));
        assert_eq!(kept.get([nowhere], || Ok::<_, &str>(1)), Ok(1));
        assert_eq!(kept.get([nowhere], || Err("not asked")), Ok(1));
    }
}
