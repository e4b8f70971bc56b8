//! Stands in for `control` in a build without the feature of that name: nothing holds an update up. Where maps are known
//! to be set nevertheless (by another build, an application, the server) the update fails: whoever set them relies on it.

use super::{Driver, Performed};
use crate::agent::control::Point;
use crate::agent::{Outcome, State, Wait};
use crate::ports::Next;

impl Driver<'_> {
    /// Goes on, unless there are maps. (The waits of another build are over.)
    pub(super) fn decide(&mut self, _: &State, _: Point, _: Option<Wait>) -> Performed {
        let none = self.world.controls.pool().map(|_| Outcome::Done);
        self.judged("the update is given up", none)
    }

    /// Another build has begun to wait here.
    pub(super) fn await_verdict(&mut self, state: &State, point: Point, wait: Option<Wait>) -> Performed {
        self.decide(state, point, wait)
    }

    /// Nothing is held up.
    pub(super) fn hold(&mut self, _: &State, _: Point) {}

    /// Does not begin a deployment that the server holds a map over, though nobody has asked for maps.
    pub(super) fn offered(&mut self, next: Next) -> Outcome {
        match next.control_map {
            Ok(None) => Outcome::Offered(next.offer),
            Ok(Some(_)) => Outcome::Unusable(next.offer),
            Err(e) => {
                log::error!("{e}");
                log::error!("the deployment is not begun");
                Outcome::Unusable(next.offer)
            }
        }
    }

    /// There are none.
    pub(super) fn forget_maps(&mut self, _: &State) {}

    /// Nothing is in progress: what another build has left is dropped.
    pub(super) fn idle_maps(&mut self) {
        if let Err(e) = self.world.controls.idle() {
            log::warn!("{e}");
        }
    }
}
