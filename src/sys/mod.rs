//! The only module with `unsafe` and the only one that knows libc: each call here has a `SAFETY:` line.

pub mod block;
pub mod clock;
pub mod file;
pub mod memory;
pub mod mount;
pub mod net;
pub mod private;
pub mod process;
pub mod signal;
mod spawn;
pub mod stamp;
pub mod watch;
