//! Notices that a file has changed, without looking at it again and again.

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::ffi::OsString;
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often to look where the kernel does not tell.
const PERIOD: Duration = Duration::from_secs(5);

/// Watches the directory of the file: it is replaced by renaming, removed, and may be missing.
pub struct Watch {
    inotify: Option<Inotify>,
    directory: PathBuf,
    name: OsString,
    works: bool,
}

impl Watch {
    /// Starts watching.
    pub fn new(file: &Path) -> Watch {
        let mut watch = Watch {
            inotify: Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok(),
            directory: file.parent().unwrap_or(Path::new("/")).to_owned(),
            name: file.file_name().unwrap_or_default().to_owned(),
            works: false,
        };
        watch.renew();
        watch
    }

    /// Readable when something has happened; negative: it never is.
    pub fn descriptor(&self) -> RawFd {
        self.inotify.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }

    /// Look at the latest after this time; `None`: the descriptor tells.
    pub fn period(&self) -> Option<Duration> {
        (!self.works).then_some(PERIOD)
    }

    /// Whether the file may have changed.
    pub fn changed(&mut self) -> bool {
        if !self.works {
            self.renew();
            return true;
        }
        let mut changed = false;
        while let Some(inotify) = &self.inotify {
            match inotify.read_events() {
                Ok(events) => {
                    for event in events {
                        let gone = AddWatchFlags::IN_IGNORED | AddWatchFlags::IN_MOVE_SELF;
                        if event.mask.intersects(gone) {
                            self.works = false;
                        }
                        // Without a name it is about the directory, or events were dropped.
                        changed |= event.name.is_none_or(|name| name == self.name);
                    }
                }
                Err(Errno::EAGAIN) => break,
                Err(_) => {
                    self.inotify = None;
                    self.works = false;
                    changed = true;
                }
            }
        }
        changed
    }

    fn renew(&mut self) {
        let what = AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        let added = self.inotify.as_ref().is_some_and(|i| i.add_watch(&self.directory, what).is_ok());
        self.works = added;
    }
}
