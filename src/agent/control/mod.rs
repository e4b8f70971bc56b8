//! Update control maps: who may hold up, let through or stop an update, and where. Values only; the clock is an
//! argument, a time is that since boot (decision 23).
//!
//! A [`ControlMap`] says for each control [`Point`] what to do there.
//! The K numbers are those of update-control.md, the behaviour is that of the Mender client 3.5.

mod map;
#[cfg(test)]
mod tests;

pub use map::{Action, ControlMap, ExpireAction, MapError, Point, StateRule};
