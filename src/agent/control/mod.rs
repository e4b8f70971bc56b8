//! Update control maps: who may hold up, let through or stop an update, and where. Values only; the clock is an
//! argument, a time is that since boot (decision 23).
//!
//! A [`ControlMap`] says for each control [`Point`] what to do there. The [`Pool`] holds those that are in force, answers
//! what they say together ([`Pool::verdict`]), why ([`Pool::explain`]) and when to ask again ([`Pool::next_wake`]).
//! The K numbers are those of update-control.md, the behaviour is that of the Mender client 3.5.

mod explain;
mod life;
mod map;
mod pool;
mod stored;
#[cfg(test)]
mod tests;

pub use explain::{Explanation, Voice, spoken};
pub use life::Lifetimes;
pub use map::{Action, ControlMap, ExpireAction, MapError, Point, StateRule};
pub use pool::{Change, Listed, MAP_LIMIT, NAP, Pool, Refused, SHORTEST_POLL, Verdict, Wake};
