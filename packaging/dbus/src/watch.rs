//! Notices that a file may have changed, without looking at it again and again.

use crate::kernel::Inotify;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often to look where the kernel does not tell.
const PERIOD: Duration = Duration::from_secs(5);

/// Watches the directory of the file: it is replaced by renaming, removed, and may be missing; so may be its directory.
pub struct Watch {
    inotify: Option<Inotify>,
    directory: PathBuf,
    works: bool,
}

impl Watch {
    /// Starts watching.
    pub fn new(file: &Path) -> Watch {
        let directory = file.parent().unwrap_or(Path::new("/")).to_owned();
        let mut watch = Watch { inotify: Inotify::new().ok(), directory, works: false };
        watch.renew();
        watch
    }

    /// Readable when something has happened; negative: it never is.
    pub fn descriptor(&self) -> RawFd {
        self.inotify.as_ref().map_or(-1, Inotify::descriptor)
    }

    /// Look at the latest after this time; `None`: the descriptor tells.
    pub fn period(&self) -> Option<Duration> {
        (!self.works).then_some(PERIOD)
    }

    /// Whether the file may have changed.
    pub fn changed(&mut self) -> bool {
        let (any, end) = self.inotify.as_ref().map_or((false, false), Inotify::drain);
        if any && !end && self.works {
            return true;
        }
        let blind = !self.works || end;
        if blind {
            self.renew();
        }
        blind
    }

    fn renew(&mut self) {
        self.works = self.inotify.as_ref().is_some_and(|i| i.add(&self.directory).is_ok());
    }
}
