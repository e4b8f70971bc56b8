//! What the server is told (update-process.md 2).

use super::control::Point;

/// A deployment's status, in the server's words (SA-54).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// The Artifact is being fetched and stored.
    Downloading,
    /// It is being installed; also sent before the commit (U24).
    Installing,
    /// The machine restarts.
    Rebooting,
    /// An update control map holds it up there.
    PauseBefore(Point),
    /// The end: the new software is committed.
    Success,
    /// The end: it is not.
    Failure,
}

impl Status {
    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Status::Downloading => "downloading",
            Status::Installing => "installing",
            Status::Rebooting => "rebooting",
            Status::PauseBefore(point) => point.pause_status(),
            Status::Success => "success",
            Status::Failure => "failure",
        }
    }
}
