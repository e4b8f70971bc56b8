//! POLICY: what the agent does, as values. No I/O, no clock, no log.
//!
//! A [`State`] is a place that an update can be in, with what is true there. [`effect`] names the one thing that a
//! state asks of the world, [`next`] says what follows from its outcome, [`resume`] what to do about a record that
//! was found at start, [`command`] what a person's command makes of it. The driver (`run.rs`) does the rest.
//!
//! The transition table and its graph are in `docs/state-machine.md`, printed by `tests/state_machine.rs`.

mod command;
pub mod control;
mod effect;
mod next;
mod persist;
mod provides;
mod resume;
pub mod schedule;
pub mod scripts;
mod state;
mod status;

pub use command::{Command, Refusal, StopPoint, command, stop_point};
pub use effect::{Effect, effect};
pub use next::{Outcome, next};
pub use persist::{Record, Unreadable, Wait, WaitFor};
pub use provides::{INCONSISTENT, Installed, installed_after};
pub use resume::{Facts, Trial, resume};
pub use state::{
    Artifact, Cause, End, Errand, Offer, Origin, Reboot, SAVE_LIMIT, State, Undo, Update, Verdict,
};
pub use status::Status;
