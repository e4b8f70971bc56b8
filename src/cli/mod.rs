//! What the program does for each command: builds the real world out of the adapters and hands it to the driver.

pub mod args;
mod board;
#[cfg(feature = "control")]
mod control;
#[cfg(feature = "control")]
mod controls;
#[cfg(not(feature = "control"))]
#[path = "no_controls.rs"]
mod controls;
mod depot;
mod host;
mod journal;
mod logger;
mod managed;
mod server;
mod setup;
mod standalone;
mod times;

use args::{Command, Global};
use log::LevelFilter;
use setup::Place;
use std::cell::RefCell;
use std::io::Write;
use std::process::ExitCode;
use std::rc::Rc;
use thimble::agent::schedule::Intervals;
use thimble::agent::{State, Wait};
use thimble::error::{Error, Result};
use thimble::run::{Driver, Exit, Mode, World};
use thimble::scripts::StateScripts;
use thimble::server::Client;
use thimble::store::{self, InstalledStore};
use thimble::sys::{process, signal};

/// Prints a line on standard output. Nobody to tell if that is closed.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(line.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
}

/// Prints a line on standard error.
pub fn complain(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Runs a command; returns its exit code.
pub fn run(global: &Global, command: Command) -> ExitCode {
    match &command {
        Command::Help => {
            say(args::HELP.concat().trim_end());
            return ExitCode::SUCCESS;
        }
        Command::Version => {
            say(env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    signal::install();
    // The other commands keep Mender's exit codes (decision 21).
    let busy = if matches!(command, Command::Check { .. }) { managed::BUSY } else { 1 };
    match with_place(global, command) {
        Ok(code) => code,
        Err(e) => {
            complain(&format!("Could not fulfill request: {e}"));
            ExitCode::from(if e.code == "STORE-BUSY" { busy } else { 1 })
        }
    }
}

fn with_place(global: &Global, command: Command) -> Result<ExitCode> {
    let mut place = Place::new(global)?;
    let resident = matches!(command, Command::Daemon | Command::Check { .. });
    let configured = place.config.daemon_log_level.as_deref().filter(|_| resident).and_then(args::level);
    if let (Some(word), None) = (&place.config.daemon_log_level, configured)
        && resident
    {
        place.warnings.push(format!("DaemonLogLevel {word:?} is not known; using info"));
    }
    let usual = match command {
        Command::Check { .. } | Command::Daemon => LevelFilter::Info,
        // Scripts read what these print (ST46).
        Command::ShowArtifact | Command::ShowProvides => LevelFilter::Error,
        _ => LevelFilter::Warn,
    };
    logger::init(global.log_level.or(configured).unwrap_or(usual), global.log_file.as_deref())?;
    place.log_warnings();
    match command {
        Command::Check { max_wait, if_due } => managed::check(place, max_wait, if_due),
        Command::Daemon => managed::daemon(place),
        Command::Install { source, standalone } => standalone::install(place, source, &standalone),
        Command::Commit(options) => standalone::go_on(place, thimble::agent::Command::Commit, &options),
        Command::Rollback(options) => standalone::go_on(place, thimble::agent::Command::Rollback, &options),
        Command::Resume(options) => standalone::go_on(place, thimble::agent::Command::Resume, &options),
        Command::ShowArtifact => {
            say(setup::name(&place.look_installed()?));
            Ok(ExitCode::SUCCESS)
        }
        Command::ShowProvides => {
            let installed = place.look_installed()?;
            let name = setup::name(&installed).to_owned();
            let all =
                thimble::agent::Installed { name, group: installed.group, provides: installed.provides }
                    .all();
            for (key, value) in all {
                say(&format!("{key}={value}"));
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Board => Ok(board::show(&place)),
        Command::SendInventory => send_inventory(place),
        Command::CheckUpdate => match store::holder(&place.dirs.datastore) {
            Some((pid, what)) if what == managed::DAEMON => wake(pid, false),
            Some(_) | None => Err(Error::new(
                "NO-DAEMON",
                "no thimble daemon works on this data store; `thimble check` asks for a deployment by itself",
            )),
        },
        #[cfg(feature = "control")]
        Command::Control(what) => control::run(&place, what),
        Command::Bootstrap => bootstrap(place, global.force_bootstrap),
        Command::Help | Command::Version => Ok(ExitCode::SUCCESS),
    }
}

fn wake(pid: i32, inventory: bool) -> Result<ExitCode> {
    match process::notify(pid, inventory) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(e) => Err(Error::new("NO-DAEMON", format!("cannot signal the daemon, process {pid}: {e}"))),
    }
}

fn send_inventory(place: Place) -> Result<ExitCode> {
    if let Some((pid, what)) = store::holder(&place.dirs.datastore)
        && what == managed::DAEMON
    {
        return wake(pid, true);
    }
    let _lock = place.lock("send-inventory")?;
    place.bootstrap()?;
    let place = Rc::new(place);
    let client = Rc::new(RefCell::new(server::client(&place)?));
    let mut api = server::DeviceApi::new(place, client);
    match thimble::ports::Server::send_inventory(&mut api) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(fault) => Err(text(fault)),
    }
}

fn text(fault: thimble::ports::Fault) -> Error {
    use thimble::ports::Fault;
    match fault {
        Fault::TooLarge(e) | Fault::Later(_, e) | Fault::Other(e) => e,
        Fault::Aborted => Error::new("SERVER-CONFLICT", "the server answered 409"),
        Fault::Interrupted => Error::new(thimble::run::INTERRUPTED, "told to end"),
    }
}

fn bootstrap(place: Place, force: bool) -> Result<ExitCode> {
    let _lock = place.lock("bootstrap")?;
    place.bootstrap()?;
    let key = place.dirs.datastore.join("mender-agent.pem");
    if force && place.config.auth_private_key.is_none() {
        thimble::sys::file::remove(&key)
            .map_err(|e| Error::new("KEY", format!("cannot remove the device key {}: {e}", key.display())))?;
    }
    let mut client = server::client(&place)?;
    client.keep_token(&server::token_file(&place));
    client.authorize().map_err(|fault| fault.error)?;
    Ok(ExitCode::SUCCESS)
}

/// Everything that the driver needs, alive as long as it runs.
struct Adapters {
    place: Rc<Place>,
    journal: journal::JournalFile,
    scripts: StateScripts,
    server: server::DeviceApi,
    depot: depot::ArtifactDepot,
    software: host::SoftwareStore,
    controls: controls::ControlMaps,
    machine: host::Machine,
}

impl Adapters {
    fn new(place: Place, journal: journal::JournalFile, announce: bool) -> Result<Adapters> {
        let place = Rc::new(place);
        let client: Rc<RefCell<Client>> = Rc::new(RefCell::new(server::client(&place)?));
        let config = &place.config;
        let times = [config.script_timeout, config.script_retry_interval, config.script_retry_timeout];
        let rootfs_scripts = place.dirs.conf.join("scripts");
        Ok(Adapters {
            journal,
            scripts: StateScripts::new(rootfs_scripts, place.artifact_scripts(), times, place.time_scale),
            server: server::DeviceApi::new(place.clone(), client.clone()),
            depot: depot::ArtifactDepot::new(place.clone(), client, announce),
            software: host::SoftwareStore(InstalledStore::new(&place.dirs.datastore)),
            controls: controls::ControlMaps::new(&place),
            machine: host::Machine::new(&place),
            place,
        })
    }

    fn drive(
        &mut self,
        mode: Mode,
        prepare: impl FnOnce(&mut Driver),
        state: State,
        wait: Option<Wait>,
    ) -> Exit {
        let config = &self.place.config;
        let intervals = Intervals {
            update: config.update_poll_interval,
            inventory: config.inventory_poll_interval,
            control: config.control_map_poll_interval,
            retry: config.retry_poll_interval,
            retry_count: config.retry_poll_count,
        };
        let time_scale = self.place.time_scale;
        let world = World {
            journal: &mut self.journal,
            scripts: &mut self.scripts,
            server: &mut self.server,
            depot: &mut self.depot,
            software: &mut self.software,
            controls: &mut self.controls,
            host: &mut self.machine,
        };
        let mut driver = Driver::new(world, mode, intervals, time_scale);
        prepare(&mut driver);
        driver.run(state, wait)
    }
}
