//! From arguments to a place to work in: directories, configuration, lock, what is installed.

use super::args::Global;
use crate::cli::journal::JournalFile;
use std::path::{Path, PathBuf};
use thimble::artifact::{self, Options};
use thimble::board::{self, Identity, Plan};
use thimble::config::{self, Config, Directories, Files};
use thimble::error::{Error, Result};
use thimble::store::{self, Installed, InstalledStore, UNKNOWN};
use thimble::sys::file::Lock;

/// Where everything is.
#[derive(Debug)]
pub struct Place {
    /// `--root`, or `/`.
    pub root: PathBuf,
    /// Configuration, data, data store.
    pub dirs: Directories,
    /// The configuration.
    pub config: Config,
    /// Factor on waits between tries; 1 except in tests.
    pub time_scale: f64,
    /// Sentences about the configuration, not yet logged.
    pub warnings: Vec<String>,
}

impl Place {
    /// Reads the configuration.
    ///
    /// # Errors
    /// What is wrong with it, or with `--root`.
    pub fn new(global: &Global) -> Result<Place> {
        let root = match &global.root {
            None => PathBuf::from("/"),
            Some(root) => std::path::absolute(root)
                .map_err(|e| Error::new("ARGUMENT-ROOT", format!("--root {}: {e}", root.display())))?,
        };
        if !root.is_dir() {
            return Err(Error::new("ARGUMENT-ROOT", format!("--root {} is not a directory", root.display())));
        }
        let mut dirs = Directories::new(&root, |name| std::env::var_os(name));
        if let Some(datastore) = &global.datastore {
            dirs.datastore = std::path::absolute(datastore).unwrap_or_else(|_| datastore.clone());
        }
        let files = Files {
            main: global.config.clone().unwrap_or_else(|| dirs.conf.join("mender.conf")),
            main_explicit: global.config.is_some(),
            fallback: global.fallback.clone().unwrap_or_else(|| dirs.datastore.join("mender.conf")),
            fallback_explicit: global.fallback.is_some(),
        };
        let (mut config, mut warnings) = config::load(&files)?;
        config.skip_verify |= global.skip_verify;
        if let Some(certificates) = &global.trusted_certs {
            config.server_certificate = Some(certificates.clone());
        }
        let time_scale = time_scale(&mut warnings);
        Ok(Place { root, dirs, config, time_scale, warnings })
    }

    /// Logs what there is to say about the configuration.
    pub fn log_warnings(&mut self) {
        for warning in self.warnings.drain(..) {
            log::warn!("{warning}");
        }
        if self.dirs.datastore.join("mender-store").exists()
            && !self.dirs.datastore.join("thimble-artifact.a").exists()
        {
            log::warn!(
                "{} was written by the Mender client and is not read by thimble: the artifact name starts as \
                 '{UNKNOWN}' (or from bootstrap.mender) until the first update",
                self.dirs.datastore.join("mender-store").display()
            );
        }
    }

    /// Which board this is.
    pub fn identity(&self) -> Identity {
        board::identify(&self.config, &self.root)
    }

    /// The configuration, completed by the board.
    pub fn plan(&self, identity: &Identity) -> Plan {
        board::plan(&self.config, identity.board, &self.root)
    }

    /// Where the device's type is.
    pub fn device_type_file(&self) -> PathBuf {
        let configured = self.config.device_type_file.clone();
        configured.unwrap_or_else(|| self.dirs.datastore.join("device_type"))
    }

    /// The device's type (CF-19).
    pub fn device_type(&self) -> Result<String> {
        store::device_type(&self.device_type_file())
    }

    /// Where deployment logs are.
    pub fn log_dir(&self) -> PathBuf {
        self.config.update_log_path.clone().unwrap_or_else(|| self.dirs.datastore.clone())
    }

    /// Where the Artifact's scripts are while its update is in progress.
    pub fn artifact_scripts(&self) -> PathBuf {
        self.dirs.datastore.join("scripts")
    }

    /// Creates the data store if it is missing, and takes its lock.
    ///
    /// # Errors
    /// `STORE-BUSY` names who has it.
    pub fn lock(&self, what: &str) -> Result<Lock> {
        store::create_directory(&self.dirs.datastore)?;
        store::lock(&self.dirs.datastore, what)
    }

    /// The journal, and what is in it.
    pub fn journal(&self) -> JournalFile {
        JournalFile::new(&self.dirs.datastore)
    }

    /// What is installed, taken from `bootstrap.mender` if nothing was ever recorded (AF-41..AF-44, ST36..ST42). The
    /// file is removed in every case.
    ///
    /// # Errors
    /// When the store cannot be read or written; a bad bootstrap file is only logged.
    pub fn bootstrap(&self) -> Result<Installed> {
        let mut installed_store = InstalledStore::new(&self.dirs.datastore);
        let mut installed = installed_store.load()?;
        let file = self.dirs.datastore.join("bootstrap.mender");
        let there = std::fs::symlink_metadata(&file).is_ok();
        if installed.name.is_none() {
            installed = Installed { name: Some(UNKNOWN.into()), ..Installed::default() };
            if there {
                match self.read_bootstrap(&file) {
                    Ok(found) => {
                        log::info!("first artifact name from {}: {}", file.display(), name(&found));
                        installed = found;
                    }
                    Err(e) => log::error!("{e}; the artifact name is '{UNKNOWN}' until the first update"),
                }
            }
            installed_store.save(&installed)?;
        } else if there {
            log::info!("{} is ignored: the device knows what is installed", file.display());
        }
        if there && let Err(e) = thimble::sys::file::remove(&file) {
            log::warn!("cannot remove {}: {e}", file.display());
        }
        Ok(installed)
    }

    fn read_bootstrap(&self, file: &Path) -> Result<Installed> {
        let refuse = |why: String| Error::new("BOOTSTRAP", format!("{} is not used: {why}", file.display()));
        let source = std::fs::File::open(file).map_err(|e| refuse(e.to_string()))?;
        let device_type = self.device_type().map_err(|e| refuse(e.to_string()))?;
        // Its signature is not asked for: whoever writes here owns the device already (AF-44, ST40).
        let options = Options {
            xz_memory_limit: self.config.xz_memory_limit,
            zstd_window_limit: self.config.zstd_window_limit,
            ..Options::default()
        };
        // As for every other Artifact: a reader of files alone would be in the program a second time.
        let source: Box<dyn std::io::Read> = Box::new(source);
        let mut opened = artifact::open(source, &options).map_err(|e| refuse(e.to_string()))?;
        let header = &opened.header;
        let depends = &header.depends;
        if header.payload_type.is_some() {
            return Err(refuse("it has a payload".into()));
        }
        if !opened.scripts.is_empty() {
            return Err(refuse("it has state scripts".into()));
        }
        if !(depends.names.is_empty() && depends.groups.is_empty() && depends.others.is_empty()) {
            return Err(refuse("it depends on something".into()));
        }
        if !depends.device_types.contains(&device_type) {
            let types = depends.device_types.join(", ");
            return Err(refuse(format!("it is for {types}, this device is {device_type}")));
        }
        if opened.payload.next_file().map_err(|e| refuse(e.to_string()))?.is_some() {
            return Err(refuse("it has files".into()));
        }
        let header = opened.header;
        let mut provides = header.provides;
        provides.remove("artifact_name");
        provides.remove("artifact_group");
        Ok(Installed { name: Some(header.name), group: header.group, provides })
    }

    /// What is installed, for commands that only look: takes in `bootstrap.mender` if nobody else is at work.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn look_installed(&self) -> Result<Installed> {
        if self.dirs.datastore.is_dir()
            && let Ok(_lock) = store::lock(&self.dirs.datastore, "looking at what is installed")
        {
            match self.bootstrap() {
                Ok(installed) => return Ok(installed),
                // A read-only data store can still be looked at.
                Err(e) => log::warn!("{e}"),
            }
        }
        InstalledStore::new(&self.dirs.datastore).look()
    }
}

/// The name of what is installed.
pub fn name(installed: &Installed) -> &str {
    installed.name.as_deref().filter(|n| !n.is_empty()).unwrap_or(UNKNOWN)
}

/// A number from 0.0001 to 1. By hand: the library's reader of floating-point numbers has 14 KiB of tables and code.
fn fraction(text: &str) -> Option<f64> {
    let (whole, digits) = text.split_once('.').unwrap_or((text, ""));
    let all = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.len() > 1 || digits.len() > 6 || !all(whole) || !all(digits) {
        return None;
    }
    let parts: u32 = format!("{whole}{digits:0<6}").parse().ok()?;
    (100..=1_000_000).contains(&parts).then(|| f64::from(parts) / 1e6)
}

fn time_scale(warnings: &mut Vec<String>) -> f64 {
    let Some(text) = std::env::var_os("THIMBLE_TIME_SCALE") else { return 1.0 };
    match text.to_str().and_then(fraction) {
        Some(factor) => {
            warnings.push(format!(
                "THIMBLE_TIME_SCALE={} shortens all waits between tries; it is for tests",
                text.display()
            ));
            factor
        }
        None => {
            warnings
                .push(format!("THIMBLE_TIME_SCALE={text:?} is ignored; expected a number from 0.0001 to 1"));
            1.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_scale_is_a_number_from_a_ten_thousandth_to_one() {
        for (text, factor) in [("1", 1.0), ("1.0", 1.0), ("0.001", 0.001), (".5", 0.5), ("0.0001", 0.0001)] {
            assert_eq!(fraction(text), Some(factor), "{text}");
        }
        for text in
            ["", ".", "0", "0.00001", "1.1", "2", "10", "+1", "+.5", "-0.5", "0.5e0", "nan", "0.1 ", "0,5"]
        {
            assert_eq!(fraction(text), None, "{text}");
        }
    }
}
