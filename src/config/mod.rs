//! mender.conf: two files merged, every mistake named with file, line, column and key. Reads, never writes.
//!
//! What every key means and where it differs from the Mender clients: `docs/configuration.md`.

mod keys;
mod read;

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
#[path = "../../tests/fuzz/targets/config.rs"]
pub mod fuzz;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};
use read::{Given, Setting, Settings};

/// How the boot loader's variables are reached (`BootEnvironment.Adapter`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Adapter {
    /// The agent reads and writes the U-Boot environment itself.
    #[default]
    Native,
    /// Through `fw_printenv` and `fw_setenv`.
    FwSetenv,
    /// Through `grub-mender-grubenv-print` and `grub-mender-grubenv-set`.
    Grub,
}

/// The settings after merging, every default filled in.
#[derive(Clone, PartialEq, Eq)]
pub struct Config {
    /// Servers in order of preference, one trailing `/` removed (SA-2). Empty: network commands fail.
    pub servers: Vec<String>,
    /// PEM bundle that is trusted besides the system's.
    pub server_certificate: Option<PathBuf>,
    /// The server's certificate is not checked.
    pub skip_verify: bool,
    /// Sent with authentication requests; may be empty. A secret.
    pub tenant_token: String,
    /// `standard`, `system` or `micro`.
    pub device_tier: Option<String>,
    /// TLS client certificate; always together with its key.
    pub https_client_certificate: Option<PathBuf>,
    /// Path of the TLS client key.
    pub https_client_key: Option<String>,
    /// Path of a static identity key; relative ones are below the data store.
    pub auth_private_key: Option<String>,
    /// Public keys for Artifact signatures. Not empty: unsigned Artifacts are refused (AF-62).
    pub artifact_verify_keys: Vec<PathBuf>,
    /// The board that supplies what is not configured, or [`NO_BOARD`]; `None`: the device tree says which (ours).
    pub board: Option<String>,
    /// First root file system slot, as written. See [`Config::rootfs_parts`].
    pub rootfs_part_a: Option<String>,
    /// Second root file system slot, as written.
    pub rootfs_part_b: Option<String>,
    /// Command that sets boot variables, instead of the known ones (BE-40).
    pub boot_utilities_set: Option<String>,
    /// Command that prints boot variables, instead of the known ones.
    pub boot_utilities_get: Option<String>,
    /// The device type file; `None`: `device_type` in the data store.
    pub device_type_file: Option<PathBuf>,
    /// Between two questions for a deployment.
    pub update_poll_interval: Duration,
    /// Between two inventory reports.
    pub inventory_poll_interval: Duration,
    /// Longest wait of the back-off (SA-50).
    pub retry_poll_interval: Duration,
    /// Tries of the back-off; 0: as many as the series has.
    pub retry_poll_count: u32,
    /// Tries to carry on a broken download, 1 to 10000.
    pub retry_download_count: u32,
    /// Wait between these tries.
    pub retry_download_interval: Duration,
    /// A state script that runs longer is killed.
    pub script_timeout: Duration,
    /// No try of a state script that asks for a retry starts after this time.
    pub script_retry_timeout: Duration,
    /// Wait before a state script is tried again.
    pub script_retry_interval: Duration,
    /// An Update Module call that runs longer is killed.
    pub module_timeout: Duration,
    /// Directory of the deployment logs; `None`: the data store.
    pub update_log_path: Option<PathBuf>,
    /// Log level of the daemon, lower case (LG-6).
    pub daemon_log_level: Option<String>,
    /// The D-Bus interfaces of Mender 3 are wanted; for the separate program that has them, thimble has none.
    pub dbus_enabled: bool,
    /// The update poll interval if the configuration has one (SA-78).
    pub update_poll_configured: Option<Duration>,
    /// Life of an update control map (SA-78); `None`: twice the update poll interval as configured.
    pub control_map_expiration: Option<Duration>,
    /// Life of an update control map after a restart of the machine; `None`: 600 s.
    pub control_map_boot_expiration: Option<Duration>,
    /// Between refreshes of an update control map in a pause.
    pub control_map_poll_interval: Duration,
    /// A boot environment with a single copy is refused (ours).
    pub boot_env_require_redundant: bool,
    /// How boot variables are reached (ours).
    pub boot_env_adapter: Adapter,
    /// Certificates are judged by the newest of clock, build and last server time (ours).
    pub clock_floor: bool,
    /// Root file systems are read back and compared after writing (ours).
    pub rootfs_verify_writes: bool,
    /// An Update Module called rootfs-image wins over the built-in one (ours).
    pub rootfs_use_module: bool,
    /// Largest dictionary of an xz stream, in bytes (ours).
    pub xz_memory_limit: u64,
    /// Largest window of a zstd stream, in bytes (ours).
    pub zstd_window_limit: u64,
    /// Where members that a board could supply are set.
    origins: Vec<(&'static str, String)>,
}

/// The value of `Board` with which no board supplies anything.
pub const NO_BOARD: &str = "none";

impl Default for Config {
    fn default() -> Config {
        build(&Settings::new())
    }
}

/// Only what is no secret.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("servers", &self.servers).finish_non_exhaustive()
    }
}

impl Config {
    /// File, line and column of a member that a board could supply; `None`: it is not set.
    pub fn origin(&self, key: &str) -> Option<&str> {
        self.origins.iter().find(|(k, _)| *k == key).map(|(_, at)| at.as_str())
    }

    /// Both root file system slots.
    ///
    /// # Errors
    /// `CONFIG-ROOTFS` if one or both are missing, or if they are the same (BE-17): no rootfs-image updates.
    pub fn rootfs_parts(&self) -> Result<(&str, &str)> {
        let why = match (&self.rootfs_part_a, &self.rootfs_part_b) {
            (Some(a), Some(b)) if a == b => format!("RootfsPartA and RootfsPartB are both {a}"),
            (Some(a), Some(b)) => return Ok((a, b)),
            (Some(_), None) => "RootfsPartA is set but RootfsPartB is not".to_owned(),
            (None, Some(_)) => "RootfsPartB is set but RootfsPartA is not".to_owned(),
            (None, None) => "RootfsPartA and RootfsPartB are not set".to_owned(),
        };
        Err(Error::new(
            "CONFIG-ROOTFS",
            format!("{why}; rootfs-image updates need two different slots in mender.conf"),
        ))
    }
}

/// Which files to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The main file; wins.
    pub main: PathBuf,
    /// It was named on the command line: it must exist.
    pub main_explicit: bool,
    /// The fallback file.
    pub fallback: PathBuf,
    /// It was named on the command line: it must exist.
    pub fallback_explicit: bool,
}

/// The three directories that everything else is found in (CF section 1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directories {
    /// `/etc/mender`, or `MENDER_CONF_DIR`.
    pub conf: PathBuf,
    /// `/usr/share/mender`, or `MENDER_DATA_DIR`.
    pub data: PathBuf,
    /// `/var/lib/mender`, or `MENDER_DATASTORE_DIR`.
    pub datastore: PathBuf,
}

impl Directories {
    /// The defaults are below `root`; what the environment says is used as it is. A variable set to the empty
    /// string counts as not set (CF-1).
    pub fn new(root: &Path, variable: impl Fn(&str) -> Option<OsString>) -> Directories {
        let one = |name: &str, default: &str| match variable(name).filter(|value| !value.is_empty()) {
            Some(value) => PathBuf::from(value),
            None => root.join(default),
        };
        Directories {
            conf: one("MENDER_CONF_DIR", "etc/mender"),
            data: one("MENDER_DATA_DIR", "usr/share/mender"),
            datastore: one("MENDER_DATASTORE_DIR", "var/lib/mender"),
        }
    }
}

/// Reads both files and merges them member by member: fallback first, main wins (CF-4). Returns the warnings
/// too: full sentences that name file and key.
///
/// # Errors
/// `CONFIG-MISSING` a file named on the command line does not exist (as in Mender 5; CF-5). `CONFIG-READ`
/// directory, no permission, longer than 1 MiB. `CONFIG-SYNTAX` not JSON (CF-6, CF-10). `CONFIG-VALUE` wrong
/// type or range (CF-7, CF-9, CF-11). `CONFIG-URL` a server address without scheme, with a password or
/// otherwise unusable (SA-3, SA-4). `CONFIG-CONFLICT` two forms of one setting in one file (CF-12, CF-13), or a
/// TLS client key without its certificate. `CONFIG-PKCS11` a key in a security module (SA-94).
pub fn load(files: &Files) -> Result<(Config, Vec<String>)> {
    let mut warnings = Vec::new();
    let mut merged = Settings::new();
    let both = [(&files.fallback, files.fallback_explicit), (&files.main, files.main_explicit)];
    for (path, explicit) in both {
        match read::read(path, &mut warnings)? {
            Some(settings) => {
                merge(&mut merged, settings);
            }
            None if explicit => {
                let what = format!("{} was named on the command line but does not exist", path.display());
                return Err(Error::new("CONFIG-MISSING", what));
            }
            None => {}
        }
    }
    check(&merged)?;
    warn(&merged, &mut warnings);
    let config = build(&merged);
    if (config.rootfs_part_a.is_some() || config.rootfs_part_b.is_some())
        && let Err(e) = config.rootfs_parts()
    {
        let at = ["RootfsPartA", "RootfsPartB"].iter().find_map(|k| merged.get(k)).map(|s| s.at.as_str());
        warnings.push(format!("{}: {}.", at.unwrap_or_default(), e.text));
    }
    Ok((config, warnings))
}

fn merge(into: &mut Settings, from: Settings) {
    for (one, many) in keys::EITHER_OR {
        if from.contains_key(one) || from.contains_key(many) {
            into.remove(one);
            into.remove(many);
        }
    }
    into.extend(from);
}

/// A setting that says something.
fn given<'a>(settings: &'a Settings, key: &str) -> Option<&'a Setting> {
    settings.get(key).filter(|s| !s.value.is_neutral())
}

/// What can only be judged after merging.
fn check(settings: &Settings) -> Result<()> {
    let given = |key: &str| given(settings, key);
    for key in ["HttpsClient.Key", "HttpsClient.Certificate", "Security.AuthPrivateKey"] {
        if let Some(setting) = given(key)
            && matches!(&setting.value, Given::Text(t) if t.to_ascii_lowercase().starts_with("pkcs11:"))
        {
            let what = "names an object in a security module (pkcs11:), which cannot be used; \
                            give the path of a PEM file";
            return Err(Error::new("CONFIG-PKCS11", format!("{}: {key} {what}", setting.at)));
        }
    }
    let (key, certificate) = ("HttpsClient.Key", "HttpsClient.Certificate");
    for (there, missing) in [(key, certificate), (certificate, key)] {
        if let (Some(setting), None) = (given(there), given(missing)) {
            // Going on without would silently be TLS without a client certificate.
            let what = format!("{}: {there} is set but {missing} is not; set both or none", setting.at);
            return Err(Error::new("CONFIG-CONFLICT", what));
        }
    }
    Ok(())
}

fn warn(settings: &Settings, warnings: &mut Vec<String>) {
    for (key, meaning) in keys::NOT_YET {
        if let Some(setting) = settings.get(key).filter(|s| !s.value.is_neutral()) {
            warnings.push(format!("{}: {key} has no effect yet: {meaning}.", setting.at));
        }
    }
    if let Some(setting) = settings.get("DaemonLogLevel").filter(|s| !s.value.is_neutral())
        && level(settings).is_none()
    {
        warnings.push(format!(
            "{}: DaemonLogLevel is not one of panic, fatal, error, warning, info, debug, trace; \
                 it is ignored.",
            setting.at
        ));
    }
}

/// `DaemonLogLevel`, if it is a level.
fn level(settings: &Settings) -> Option<String> {
    let level = text(settings, "DaemonLogLevel")?.to_ascii_lowercase();
    let known = ["panic", "fatal", "error", "warn", "warning", "info", "debug", "trace"];
    known.contains(&level.as_str()).then_some(level)
}

fn text(settings: &Settings, key: &str) -> Option<String> {
    match settings.get(key).map(|s| &s.value) {
        Some(Given::Text(text)) if !text.is_empty() => Some(text.clone()),
        _ => None,
    }
}

fn build(settings: &Settings) -> Config {
    let text = |key| text(settings, key);
    let path = |key| text(key).map(PathBuf::from);
    let number = |key| match settings.get(key).map(|s| &s.value) {
        Some(Given::Number(n)) if *n != 0 => Some(*n),
        _ => None,
    };
    let seconds = |key, default| Duration::from_secs(number(key).unwrap_or(default));
    let count = |key, default| number(key).map_or(default, |n| u32::try_from(n).unwrap_or(u32::MAX));
    let switch = |key, default| match settings.get(key).map(|s| &s.value) {
        Some(Given::Switch(on)) => *on,
        _ => default,
    };
    let list = |one, many| match (settings.get(many).map(|s| &s.value), text(one)) {
        (Some(Given::Texts(list)), _) => list.clone(),
        (_, one) => Vec::from_iter(one),
    };
    Config {
        servers: list("ServerURL", "Servers"),
        server_certificate: path("ServerCertificate"),
        skip_verify: switch("SkipVerify", false),
        tenant_token: text("TenantToken").unwrap_or_default(),
        device_tier: text("DeviceTier"),
        https_client_certificate: path("HttpsClient.Certificate"),
        https_client_key: text("HttpsClient.Key"),
        auth_private_key: text("Security.AuthPrivateKey"),
        artifact_verify_keys: Vec::from_iter(
            list("ArtifactVerifyKey", "ArtifactVerifyKeys").into_iter().map(PathBuf::from),
        ),
        board: text("Board"),
        rootfs_part_a: text("RootfsPartA"),
        rootfs_part_b: text("RootfsPartB"),
        boot_utilities_set: text("BootUtilitiesSetActivePart"),
        boot_utilities_get: text("BootUtilitiesGetNextActivePart"),
        device_type_file: path("DeviceTypeFile"),
        update_poll_interval: seconds("UpdatePollIntervalSeconds", 1800),
        inventory_poll_interval: seconds("InventoryPollIntervalSeconds", 28800),
        retry_poll_interval: seconds("RetryPollIntervalSeconds", 300),
        retry_poll_count: count("RetryPollCount", 0),
        retry_download_count: count("RetryDownloadCount", 10),
        retry_download_interval: seconds("RetryDownloadIntervalSeconds", 60),
        script_timeout: seconds("StateScriptTimeoutSeconds", 3600),
        script_retry_timeout: seconds("StateScriptRetryTimeoutSeconds", 1800),
        script_retry_interval: seconds("StateScriptRetryIntervalSeconds", 60),
        module_timeout: seconds("ModuleTimeoutSeconds", 14400),
        update_log_path: path("UpdateLogPath"),
        daemon_log_level: level(settings),
        dbus_enabled: switch("DBus.Enabled", true),
        update_poll_configured: number("UpdatePollIntervalSeconds").map(Duration::from_secs),
        control_map_expiration: number("UpdateControlMapExpirationTimeSeconds").map(Duration::from_secs),
        control_map_boot_expiration: number("UpdateControlMapBootExpirationTimeSeconds")
            .map(Duration::from_secs),
        control_map_poll_interval: number("UpdateControlMapPollIntervalSeconds")
            .map_or(seconds("UpdatePollIntervalSeconds", 1800), Duration::from_secs),
        boot_env_require_redundant: switch("BootEnvironment.RequireRedundant", false),
        boot_env_adapter: match text("BootEnvironment.Adapter").as_deref() {
            Some("fw_setenv") => Adapter::FwSetenv,
            Some("grub") => Adapter::Grub,
            _ => Adapter::Native,
        },
        clock_floor: switch("ClockFloor", true),
        rootfs_verify_writes: switch("RootfsImage.VerifyWrites", true),
        rootfs_use_module: switch("RootfsImage.UseModule", false),
        xz_memory_limit: number("Artifact.XzMemoryLimitMiB").unwrap_or(64) << 20,
        zstd_window_limit: number("Artifact.ZstdWindowLimitMiB").unwrap_or(8) << 20,
        origins: keys::OF_BOARDS
            .iter()
            .filter_map(|key| Some((*key, given(settings, key)?.at.clone())))
            .collect(),
    }
}
