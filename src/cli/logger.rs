//! Where log lines go: the console (or a file), and the log of the deployment in hand.

use log::{LevelFilter, Log, Metadata, Record};
use simple_logger::SimpleLogger;
use std::cell::RefCell;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use thimble::error::{Context, Result};
use thimble::store::DeploymentLog;
use thimble::sys::clock;

/// simple_logger decides what is logged. It does not write: it panics when standard error is full or gone, and a
/// log line must not end an update.
struct Logger {
    filter: SimpleLogger,
}

/// What changes while the program runs. There is one thread.
struct Sinks {
    file: Option<File>,
    deployment: Option<DeploymentLog>,
}

thread_local! {
    static SINKS: RefCell<Sinks> = const { RefCell::new(Sinks { file: None, deployment: None }) };
}

/// Starts logging; `to` takes the place of standard error (LG-3).
///
/// # Errors
/// When that file cannot be created.
pub fn init(level: LevelFilter, to: Option<&Path>) -> Result<()> {
    if let Some(path) = to {
        let file = File::create(path).context("LOG-FILE", || format!("cannot create {}", path.display()))?;
        SINKS.with_borrow_mut(|s| s.file = Some(file));
    }
    // The libraries below us have their own ideas of what is worth a line.
    let quiet = level.min(LevelFilter::Warn);
    let filter = SimpleLogger::new().with_level(quiet).with_module_level("thimble", level);
    if log::set_boxed_logger(Box::new(Logger { filter })).is_ok() {
        log::set_max_level(level);
    }
    Ok(())
}

/// From now on everything is also written to this deployment's log.
pub fn begin_deployment(log: DeploymentLog) {
    SINKS.with_borrow_mut(|s| s.deployment = Some(log));
}

/// Closes the deployment's log.
pub fn end_deployment() {
    SINKS.with_borrow_mut(|s| s.deployment = None);
}

/// Looks at the deployment's log while nothing is written to it.
pub fn with_deployment<T>(look: impl FnOnce(&mut DeploymentLog) -> T) -> Option<T> {
    SINKS.with_borrow_mut(|s| s.deployment.as_mut().map(look))
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata) -> bool {
        self.filter.enabled(metadata)
    }

    fn log(&self, record: &Record) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let message = record.args().to_string();
        let line = format!("{} {:<5} {message}\n", clock::rfc3339(clock::wall()), record.level());
        SINKS.with(|sinks| {
            // A line logged while a line is being written can only come from the log itself: leave it out.
            let Ok(mut sinks) = sinks.try_borrow_mut() else { return };
            // Nobody to tell if the console is gone.
            let _ = match &mut sinks.file {
                Some(file) => file.write_all(line.as_bytes()),
                None => std::io::stderr().write_all(line.as_bytes()),
            };
            if let Some(log) = &mut sinks.deployment {
                let level = match record.level() {
                    log::Level::Warn => "warning",
                    log::Level::Error => "error",
                    log::Level::Info => "info",
                    log::Level::Debug => "debug",
                    log::Level::Trace => "trace",
                };
                log.append(level, &message);
            }
        });
    }

    fn flush(&self) {}
}
