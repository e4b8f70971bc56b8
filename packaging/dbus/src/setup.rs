//! From arguments to a place to work in: the same words, files and variables as the agent's.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use thimble::agent::control::Lifetimes;
use thimble::config::{self, Config, Directories, Files};
use thimble::error::{Error, Result};
use thimble::sys::file;

/// What `--help` prints.
pub const HELP: &str = "\
thimble-dbus: the D-Bus interfaces of the Mender client 3, in front of thimble

Usage: thimble-dbus [OPTIONS]

Serves io.mender.UpdateManager and io.mender.AuthenticationManager on the system bus until it is told to end.

Options, as given to thimble:
  --root DIR                   put every default path below DIR
  -c, --config FILE            configuration (default /etc/mender/mender.conf)
  -b, --fallback-config FILE   fallback configuration (default /var/lib/mender/mender.conf)
  -d, --data, --datastore DIR  data store (default /var/lib/mender)
Others:
  --agent FILE                 the agent (default /usr/bin/thimble)
  -v, --version                print the version
  -h, --help                   print this
";

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Task {
    /// `--help`.
    Help,
    /// `--version`.
    Version,
    /// Anything else: options by their long names.
    Serve(Vec<(&'static str, PathBuf)>),
}

/// Where everything is.
#[derive(Debug)]
pub struct Place {
    /// The data store.
    pub datastore: PathBuf,
    /// The token file.
    pub token: PathBuf,
    /// The agent's program.
    pub agent: PathBuf,
    /// The options that it is to be started with.
    pub options: Vec<(&'static str, PathBuf)>,
    /// The configuration wants the interfaces (D8).
    pub enabled: bool,
    /// Seconds until a map should be set again (K21).
    pub refresh_timeout: i32,
}

/// Reads the arguments (without the program's name).
///
/// # Errors
/// A sentence for the user.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> std::result::Result<Task, String> {
    let mut arguments = arguments.into_iter();
    let mut options = Vec::new();
    while let Some(argument) = arguments.next() {
        let text = argument.to_string_lossy().into_owned();
        let (word, mut value) = match text.split_once('=') {
            Some((word, value)) if word.starts_with("--") => (word, Some(OsString::from(value))),
            Some(_) | None => (text.as_str(), None),
        };
        let option = match word {
            "--root" => "--root",
            "-c" | "--config" => "--config",
            "-b" | "--fallback-config" => "--fallback-config",
            "-d" | "--data" | "--datastore" => "--datastore",
            "--agent" => "--agent",
            "-v" | "--version" => return Ok(Task::Version),
            "-h" | "--help" => return Ok(Task::Help),
            _ => return Err(format!("unknown argument {text}; see thimble-dbus --help")),
        };
        let value =
            value.take().or_else(|| arguments.next()).ok_or(format!("option {word} needs a value"))?;
        options.push((option, PathBuf::from(value)));
    }
    Ok(Task::Serve(options))
}

impl Place {
    /// Reads the configuration.
    ///
    /// # Errors
    /// What is wrong with it, or with `--root`.
    pub fn new(mut options: Vec<(&'static str, PathBuf)>) -> Result<Place> {
        for (option, path) in &mut options {
            if *option != "--agent" {
                *path = std::path::absolute(&path)
                    .map_err(|e| Error::new("ARGUMENT", format!("{option} {}: {e}", path.display())))?;
            }
        }
        // The last one counts.
        let given = |name: &str| {
            options.iter().rev().find(|(option, _)| *option == name).map(|(_, path)| path.clone())
        };
        let root = given("--root").unwrap_or_else(|| PathBuf::from("/"));
        if !root.is_dir() {
            return Err(Error::new("ARGUMENT-ROOT", format!("--root {} is not a directory", root.display())));
        }
        let mut dirs = Directories::new(&root, |name| std::env::var_os(name));
        if let Some(datastore) = given("--datastore") {
            dirs.datastore = datastore;
        }
        let (main, fallback) = (given("--config"), given("--fallback-config"));
        let files = Files {
            main_explicit: main.is_some(),
            main: main.unwrap_or_else(|| dirs.conf.join("mender.conf")),
            fallback_explicit: fallback.is_some(),
            fallback: fallback.unwrap_or_else(|| dirs.datastore.join("mender.conf")),
        };
        // What there is to warn about the agent says.
        let (config, _warnings) = config::load(&files)?;
        let agent = given("--agent").unwrap_or_else(|| Path::new("/usr/bin/thimble").to_owned());
        Ok(Place {
            token: file::below(&root, "/run/thimble-token"),
            datastore: dirs.datastore,
            agent,
            enabled: config.dbus_enabled,
            refresh_timeout: refresh_timeout(&config),
            options: options.into_iter().filter(|(option, _)| *option != "--agent").collect(),
        })
    }
}

/// As the agent computes it (K19, K21).
fn refresh_timeout(config: &Config) -> i32 {
    let lives = Lifetimes::new(
        config.control_map_expiration,
        config.control_map_boot_expiration,
        config.update_poll_configured,
    );
    i32::try_from(lives.refresh_timeout_s()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> std::result::Result<Task, String> {
        parse(text.split_whitespace().map(OsString::from))
    }

    #[test]
    fn the_agents_words_are_understood() {
        let options = vec![("--root", "/r".into()), ("--datastore", "/d".into()), ("--config", "c".into())];
        assert_eq!(words("--root=/r -d /d -c c"), Ok(Task::Serve(options)));
        assert_eq!(words(""), Ok(Task::Serve(Vec::new())));
        assert_eq!(words("--root / --help"), Ok(Task::Help));
        for bad in ["daemon", "--root", "--frobnicate", "-x=1"] {
            assert!(words(bad).is_err(), "{bad}");
        }
    }
}
