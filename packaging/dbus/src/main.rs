//! thimble-dbus: the D-Bus interfaces of the Mender client 3 for applications that were written for it.
//!
//! A program of its own, so that the agent needs no bus. It keeps no state: update control maps are handed to the agent
//! through its directory, the token is read from the file that the agent keeps. `docs/dbus.md` says what differs.

mod bus;
mod fetch;
mod interface;
mod kernel;
mod maps;
mod setup;
mod token;
mod watch;

use bus::{Bus, Event};
use fetch::Fetch;
use interface::Service;
use setup::{Place, Task};
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;
use thimble::error::{Error, Result};
use thimble::sys::signal::{self, For};
use token::Session;
use watch::Watch;

/// Exit code: not wanted (D8). One of its own, so that the init system need not start it again and again.
const SWITCHED_OFF: u8 = 2;

fn main() -> ExitCode {
    match setup::parse(std::env::args_os().skip(1)) {
        Ok(Task::Help) => say(setup::HELP.trim_end()),
        Ok(Task::Version) => say(env!("CARGO_PKG_VERSION")),
        Ok(Task::Serve(options)) => match Place::new(options) {
            Ok(place) if !place.enabled => {
                complain("switched off: DBus.Enabled is false in mender.conf");
                return ExitCode::from(SWITCHED_OFF);
            }
            Ok(place) => {
                if let Err(e) = serve(place) {
                    complain(&e.to_string());
                    return ExitCode::FAILURE;
                }
            }
            Err(e) => {
                complain(&e.to_string());
                return ExitCode::FAILURE;
            }
        },
        Err(why) => {
            complain(&why);
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Nobody to tell if standard output is closed.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

fn complain(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "thimble-dbus: {line}");
}

/// What stands behind the interfaces.
struct Behind {
    place: Place,
    fetch: Fetch,
}

impl Service for Behind {
    fn set_map(&mut self, text: &str) -> std::result::Result<i32, String> {
        maps::set(&self.place.datastore, text)?;
        Ok(self.place.refresh_timeout)
    }

    fn token(&mut self) -> (String, String) {
        let Session { token, server } = token::read(&self.place.token);
        (token, server)
    }

    fn fetch_token(&mut self) -> std::result::Result<(), String> {
        self.fetch.start(&self.place)
    }

    fn log(&mut self, text: &str) {
        complain(text);
    }
}

/// Most messages that are answered in one go.
const BATCH: usize = 64;

/// Until SIGTERM.
fn serve(place: Place) -> Result<()> {
    signal::install();
    let bus = Bus::connect()?;
    let mut watch = Watch::new(&place.token);
    let mut behind = Behind { place, fetch: Fetch::default() };
    for name in interface::NAMES {
        if !bus.own(name)? {
            complain(&format!("{name} belongs to another program; waiting for it"));
        }
    }
    complain(&format!("serving {}", interface::NAMES.join(", ")));
    let mut announced = Session::default();
    let mut look = true;
    while !signal::terminate() {
        let mut quiet = false;
        // Whoever calls without end must not keep us from ending.
        for _ in 0..BATCH {
            let Some(event) = bus.next()? else {
                quiet = true;
                break;
            };
            match event {
                Event::Call(call, caller) => {
                    let answer = interface::answer(&call, &mut behind);
                    bus.answer(&caller, answer)?;
                }
                Event::Acquired(name) => complain(&format!("{name} is ours")),
                Event::Lost(name) => complain(&format!("{name} was taken over by another program")),
            }
        }
        let now = if look { token::read(&behind.place.token) } else { announced.clone() };
        let changed = now != announced;
        // After every attempt, whatever came of it (D7).
        if behind.fetch.over(changed) || changed {
            announced = if look { now } else { token::read(&behind.place.token) };
            let (path, name) = (interface::AUTHENTICATION_PATH, interface::AUTHENTICATION);
            bus.signal(path, name, interface::TOKEN_STATE, &announced.token, &announced.server)?;
        }
        let more = (!quiet).then_some(Duration::ZERO);
        let limit: Option<Duration> = behind.fetch.left().into_iter().chain(watch.period()).chain(more).min();
        let [reading, writing] = bus.descriptors();
        let fds = [reading, writing, (watch.descriptor(), For::Reading)];
        signal::poll(&fds, limit).map_err(|e| Error::new("DBUS-POLL", format!("cannot wait: {e}")))?;
        look = watch.changed();
    }
    Ok(())
}
