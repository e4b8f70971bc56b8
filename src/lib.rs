//! thimble: an over-the-air update agent for small Linux boards, a drop-in for the Mender client.
//!
//! The map, in dependency order. A module may use what stands above it in this list, and nothing else of
//! ours; `tests/architecture.rs` checks that.
//!
//! | module | what it is | may use |
//! | --- | --- | --- |
//! | [`error`] | one error: a stable code and a text for the console | nothing |
//! | [`crc`] | CRC-32 of records and of the boot environment | nothing |
//! | [`json`] | the JSON subset, with line and column in its errors | `error` |
//! | [`sys`] | the only `unsafe`: processes, signals, clocks, locks, block devices | `error` |
//! | [`agent`] | POLICY: states, transitions, effects as values; no I/O | nothing |
//! | [`artifact`] | FORMAT: a reader in, verified parts out | `error`, `json` |
//! | [`boot`] | boot environment codec and access, slots | `crc`, `error`, `sys` |
//! | [`config`] | mender.conf: two files merged, every mistake named | `error`, `json` |
//! | [`store`] | what survives a power cut: journal, provides, control maps, deployment logs | `crc`, `error`, `json`, `sys`, `agent` |
//! | [`board`] | which board this is, and what it supplies where the configuration is silent | `error`, `sys`, `boot`, `config` |
//! | [`ports`] | the traits through which an effect reaches the world | `error`, `agent` |
//! | [`install`] | payload handlers: rootfs-image, Update Modules | `error`, `json`, `sys`, `boot`, `artifact`, `config`, `ports`, `agent` |
//! | [`server`] | the Mender device API over HTTP(S) | `error`, `json`, `sys`, `agent`, `config` |
//! | [`scripts`] | state scripts: finds, runs, logs them | `error`, `sys`, `agent`, `ports` |
//! | [`run`] | the driver: record the state, perform its effect, compute the next | `error`, `agent`, `ports` |
//!
//! What is known about each board is no code: the crate `thimble-boards`, in `boards/`, one folder each. Only `config`
//! (names) and `board` use it.
//!
//! `main.rs` and what it includes are the only ones that know every adapter.

/// Logs at level debug, as `log::debug!` does. That is compiled out of release builds, with all that the crates below us
/// would say at that level: ours stays.
#[macro_export]
macro_rules! debug {
    ($($words:tt)+) => {
        if ::log::max_level() >= ::log::LevelFilter::Debug {
            $crate::log_debug(module_path!(), format_args!($($words)+));
        }
    };
}

/// What [`debug!`] calls.
pub fn log_debug(target: &'static str, words: std::fmt::Arguments<'_>) {
    let level = log::Level::Debug;
    log::logger().log(&log::Record::builder().level(level).target(target).args(words).build());
}

pub mod agent;
pub mod artifact;
pub mod board;
pub mod boot;
pub mod config;
pub mod crc;
pub mod error;
pub mod install;
pub mod json;
pub mod ports;
pub mod run;
pub mod scripts;
pub mod server;
pub mod store;
pub mod sys;

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
#[path = "../tests/fuzz/targets/mod.rs"]
pub mod fuzz;
