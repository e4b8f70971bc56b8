//! thimble-dbus on a real bus, with clients written to the published interface: gdbus, dbus-send, python3-dbus.
#![allow(clippy::expect_used, clippy::panic)]

mod authentication;
mod device;
mod life;
mod standard;
mod update;
mod whole;
