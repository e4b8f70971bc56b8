//! Which board this is, and what it supplies where the configuration is silent. What is configured always wins; on a
//! board that is not known nothing is supplied.

use crate::boot::Environment;
use crate::boot::fw_config::Area;
use crate::boot::native::{Native, Supplied};
use crate::boot::tools::Tools;
use crate::config::{Adapter, Config, NO_BOARD};
use crate::sys::{file, mount};
use std::fmt;
use std::path::{Path, PathBuf};
use thimble_boards::{ALL, Board, EnvAt, LONGEST, Quirks};

/// Where the kernel shows the device tree's `compatible`: the first that is there counts.
const TREES: [&str; 2] = ["/sys/firmware/devicetree/base/compatible", "/proc/device-tree/compatible"];

/// Longest name of a machine, in bytes.
const MACHINE_LIMIT: u64 = 64;

/// Which board this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The board, if it is known.
    pub board: Option<&'static Board>,
    /// How it was found, or why it was not.
    pub found: Found,
    /// The entries of `compatible`; only looked for if `Board` does not say.
    pub compatible: Vec<String>,
}

/// How a board was found, or why it was not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// `Board` says so, at this place of the configuration; perhaps that none is wanted.
    Configured(String),
    /// By this entry of `compatible`.
    ByEntry(&'static str),
    /// There is a device tree, in this file, but none of the boards is in it.
    Unknown(&'static str),
    /// There is a device tree, but it cannot be used.
    Unusable(String),
    /// This machine has no device tree.
    NoTree,
}

/// Finds out which board this is: `Board` of the configuration, else the device tree below `root`.
pub fn identify(config: &Config, root: &Path) -> Identity {
    let unknown = |found, compatible| Identity { board: None, found, compatible };
    if let Some(name) = &config.board {
        let at = config.origin("Board").unwrap_or_default().to_owned();
        let board = if name == NO_BOARD { None } else { thimble_boards::by_name(ALL, name) };
        return Identity { board, found: Found::Configured(at), compatible: Vec::new() };
    }
    // What is no regular file is not opened: it could wait for ever.
    let Some(tree) = TREES.into_iter().find(|t| file::below(root, t).is_file()) else {
        return unknown(Found::NoTree, Vec::new());
    };
    let bytes = match file::read_limited(&file::below(root, tree), LONGEST as u64) {
        Ok(bytes) => bytes,
        Err(e) => return unknown(Found::Unusable(format!("{tree}: {e}")), Vec::new()),
    };
    let shown = |e: &[u8]| String::from_utf8_lossy(e).chars().flat_map(char::escape_debug).collect();
    let compatible: Vec<String> = thimble_boards::entries(&bytes).map(shown).collect();
    match thimble_boards::find(ALL, &bytes, &machine(root)) {
        Some(found) => {
            Identity { board: Some(found.board), found: Found::ByEntry(found.compatible), compatible }
        }
        None => unknown(Found::Unknown(tree), compatible),
    }
}

/// What `uname -m` says, or below another root than `/` would say there.
fn machine(root: &Path) -> String {
    let there = file::below(root, "/proc/sys/kernel/arch");
    let simulated = root != Path::new("/") && there.is_file();
    match file::read_limited(&there, MACHINE_LIMIT) {
        Ok(bytes) if simulated => String::from_utf8_lossy(&bytes).trim().to_owned(),
        Ok(_) | Err(_) => mount::machine(),
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A member of the configuration, and its file, line and column.
    Config(&'static str, String),
    /// The board of this name.
    Board(&'static str),
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Config(key, at) if at.is_empty() => f.write_str(key),
            Origin::Config(key, at) => write!(f, "{key} in {at}"),
            Origin::Board(name) => write!(f, "board {name}"),
            Origin::Default => f.write_str("default"),
        }
    }
}

/// A value and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// Where it comes from.
    pub origin: Origin,
}

/// How the boot environment is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// By ourselves: where fw_env.config says, else where the board says.
    Native(Option<Supplied>),
    /// Through `fw_printenv` and `fw_setenv`.
    FwSetenv,
    /// Through GRUB's tools.
    Grub,
    /// Through these commands: print, set.
    Commands(String, String),
}

/// What an update of the root file system works with: the configuration, completed by the board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Root file system A.
    pub part_a: Option<Sourced<String>>,
    /// Root file system B.
    pub part_b: Option<Sourced<String>>,
    /// The boot environment.
    pub access: Sourced<Access>,
    fw_env_config: PathBuf,
    quirks: Quirks,
    root: PathBuf,
}

/// Completes the configuration. What a board supplies is a default, so it is below `root`; what is configured is used as
/// it is. Slots are supplied both or not at all: half a pair may belong to another disk.
pub fn plan(config: &Config, board: Option<&'static Board>, root: &Path) -> Plan {
    let configured =
        |key: &'static str| Origin::Config(key, config.origin(key).unwrap_or_default().to_owned());
    let given =
        |key, value: &Option<String>| value.clone().map(|value| Sourced { value, origin: configured(key) });
    let below = |path: &str| file::below(root, path).to_string_lossy().into_owned();
    let (mut part_a, mut part_b) =
        (given("RootfsPartA", &config.rootfs_part_a), given("RootfsPartB", &config.rootfs_part_b));
    if let (None, None, Some(board)) = (&part_a, &part_b, board) {
        let supplied = |path| Some(Sourced { value: below(path), origin: Origin::Board(board.name) });
        (part_a, part_b) = (supplied(board.rootfs_a), supplied(board.rootfs_b));
    }
    let fw_env_config = file::below(root, "/etc/fw_env.config");
    let supplied = || board.and_then(|board| supplied(board, root));
    let (value, origin) = match (&config.boot_utilities_get, &config.boot_utilities_set) {
        (None, None) => {
            let key = "BootEnvironment.Adapter";
            let open = config.origin(key).is_none() && fw_env_config.symlink_metadata().is_err();
            match (config.boot_env_adapter, board.map(|b| (b.name, b.env))) {
                (_, Some((name, EnvAt::FwSetenv))) if open => (Access::FwSetenv, Origin::Board(name)),
                (_, Some((name, EnvAt::Grub))) if open => (Access::Grub, Origin::Board(name)),
                (Adapter::Native, _) if config.origin(key).is_none() => {
                    (Access::Native(supplied()), Origin::Default)
                }
                (Adapter::Native, _) => (Access::Native(supplied()), configured(key)),
                (Adapter::FwSetenv, _) => (Access::FwSetenv, configured(key)),
                (Adapter::Grub, _) => (Access::Grub, configured(key)),
            }
        }
        // What the configuration names replaces everything else (BE-40).
        (get, set) => {
            let key =
                if get.is_some() { "BootUtilitiesGetNextActivePart" } else { "BootUtilitiesSetActivePart" };
            let get = get.clone().unwrap_or_else(|| "fw_printenv".into());
            (Access::Commands(get, set.clone().unwrap_or_else(|| "fw_setenv".into())), configured(key))
        }
    };
    Plan {
        part_a,
        part_b,
        access: Sourced { value, origin },
        fw_env_config,
        quirks: board.map_or(Quirks::NONE, |b| b.quirks),
        root: root.to_owned(),
    }
}

/// Where a board has its environment, if we can reach it ourselves.
fn supplied(board: &Board, root: &Path) -> Option<Supplied> {
    let by = format!("board {}", board.name);
    let area = |path: &str, offset: i64, size: u32| {
        let device = file::below(root, path).to_string_lossy().into_owned();
        Area { device, offset, size: size as usize, sector_size: None, sectors: None, line: None }
    };
    match board.env {
        EnvAt::Raw { device, offset, redundant, size } => {
            let offsets = [Some(offset), redundant].into_iter().flatten();
            Some(Supplied { by, areas: offsets.map(|at| area(device, at, size)).collect(), partition: None })
        }
        EnvAt::File { path, redundant, size, partition } => {
            let paths = [Some(path), redundant].into_iter().flatten();
            let partition = Some(file::below(root, partition));
            Some(Supplied { by, areas: paths.map(|path| area(path, 0, size)).collect(), partition })
        }
        EnvAt::FwSetenv | EnvAt::Grub => None,
    }
}

impl Plan {
    /// The boot environment. With `require_redundant` one with a single copy is refused, as far as that can be known.
    pub fn environment(&self, require_redundant: bool) -> Box<dyn Environment> {
        if let Some(native) = self.native(require_redundant) {
            return Box::new(native);
        }
        let tools = match &self.access.value {
            Access::Grub => {
                return Box::new(Tools::new(
                    "grub-mender-grubenv-print".into(),
                    "grub-mender-grubenv-set".into(),
                ));
            }
            Access::Commands(get, set) => Tools::new(get.clone(), set.clone()),
            Access::FwSetenv | Access::Native(_) => Tools::uboot(),
        };
        let (root, config) = (self.root.clone(), self.fw_env_config.clone());
        Box::new(tools.unprotecting(root, config, self.quirks.write_protected))
    }

    /// The same if we reach it ourselves.
    pub fn native(&self, require_redundant: bool) -> Option<Native> {
        let Access::Native(supplied) = &self.access.value else { return None };
        let native = Native::new(self.fw_env_config.clone(), self.root.clone(), require_redundant);
        Some(native.or_supplied(supplied.clone()))
    }

    /// Block devices (names in /dev) whose write protection is expected, as the board has it.
    pub fn write_protected(&self) -> &'static [&'static str] {
        self.quirks.write_protected
    }
}

#[cfg(test)]
#[path = "board_tests.rs"]
mod tests;
