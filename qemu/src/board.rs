//! A board as its folder in `boards/` describes it: what the harness reads of it.

use crate::tool::{Result, read, root};
use std::path::PathBuf;
use thimble::boot::fw_config::{self, Area};

/// Where the boot loader comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UBoot {
    /// A file of a Debian package.
    Debian {
        /// The package.
        package: String,
        /// The file in it.
        file: String,
    },
    /// Built from Debian's sources with the folder's `u-boot.config`.
    Build {
        /// The configuration it starts from.
        defconfig: String,
        /// The file that the build makes.
        file: String,
    },
}

/// A partition, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// First byte.
    pub start: u64,
    /// Length.
    pub size: u64,
}

/// What `boards/NAME` says.
#[derive(Clone, Debug)]
pub struct Board {
    /// The folder's name, also the device type.
    pub name: String,
    /// The folder.
    pub dir: PathBuf,
    /// Which static program runs on it: `armv7` or `aarch64`.
    pub arch: String,
    /// Debian's name for that.
    pub debian: String,
    /// Debian package of the kernel.
    pub kernel: String,
    /// Its file in `/boot` of a slot: `Image.gz` is compressed by us.
    pub kernel_file: String,
    /// Device tree in the kernel's package, if U-Boot does not bring it.
    pub dtb: Option<String>,
    /// The boot loader.
    pub u_boot: UBoot,
    /// Where on the card the boot loader is, if it is there, in bytes.
    pub u_boot_at: Option<u64>,
    /// Kernel modules of the initial RAM disk, without what they need.
    pub early: Vec<String>,
    /// Kernel modules of the root file system.
    pub late: Vec<String>,
    /// Device of a partition without its number.
    pub partition: String,
    /// Where partition 1 is mounted, if the environment is a file there.
    pub firmware: Option<String>,
    /// Size of the card in bytes.
    pub disk: u64,
    /// Partition table, for sfdisk.
    pub layout: String,
    /// Boot, slot A, slot B, data.
    pub parts: [Part; 4],
    /// `fw_env.config`.
    pub fw_env: String,
    /// Whether it is in the root file systems. Without it thimble must know where the environment is.
    pub has_fw_env: bool,
    /// The same, parsed.
    pub env: Vec<Area>,
    /// QEMU and its arguments, with `{…}` in them.
    pub qemu: Vec<String>,
}

impl Board {
    /// Reads the folder.
    pub fn load(name: &str) -> Result<Board> {
        let dir = root().join("boards").join(name);
        if !dir.join("qemu.conf").is_file() {
            return Err(format!(
                "no board {name}: there is no boards/{name}/qemu.conf; there are: {}",
                all().join(" ")
            ));
        }
        let text = read(&dir.join("qemu.conf"))?;
        let conf = Conf { name, text: &text };
        let mut kernel = conf.need("kernel")?.split_whitespace();
        let (Some(package), Some(file)) = (kernel.next(), kernel.next()) else {
            return Err(format!("boards/{name}/qemu.conf: kernel = PACKAGE FILE"));
        };
        let u_boot: Vec<&str> = conf.need("u-boot")?.split_whitespace().collect();
        let own = |text: &str| text.to_owned();
        let u_boot = match u_boot[..] {
            ["debian", package, file] => UBoot::Debian { package: own(package), file: own(file) },
            ["build", defconfig, file] => UBoot::Build { defconfig: own(defconfig), file: own(file) },
            _ => {
                return Err(format!(
                    "boards/{name}/qemu.conf: u-boot = debian PACKAGE FILE | build DEFCONFIG FILE"
                ));
            }
        };
        let disk = conf.need("disk-mib")?.parse::<u64>().map_err(|e| format!("disk-mib: {e}"))? << 20;
        let layout = read(&dir.join("layout"))?;
        let fw_env = read(&dir.join("fw_env.config"))?;
        let env = fw_config::parse(&fw_env).map_err(|e| format!("boards/{name}/fw_env.config: {e}"))?;
        let words = |key: &str| conf.get(key).unwrap_or("").split_whitespace().map(own).collect();
        Ok(Board {
            name: own(name),
            arch: own(conf.need("arch")?),
            debian: own(conf.need("debian")?),
            kernel: own(package),
            kernel_file: own(file),
            dtb: conf.get("dtb").map(own),
            u_boot,
            u_boot_at: conf.get("u-boot-at").map(bytes).transpose()?,
            early: words("early"),
            late: words("late"),
            partition: own(conf.need("partition")?),
            firmware: conf.get("firmware").map(own),
            parts: parts(&layout, disk).map_err(|e| format!("boards/{name}/layout: {e}"))?,
            disk,
            layout,
            has_fw_env: conf.get("fw-env-config") != Some("no"),
            fw_env,
            env,
            qemu: conf.all("qemu").flat_map(|line| line.split_whitespace().map(own)).collect(),
            dir,
        })
    }

    /// Whether the environment has two copies. With a single one a power cut inside its write is not survived.
    pub fn redundant(&self) -> bool {
        self.env.len() == 2
    }
}

/// Names of the boards that QEMU can start.
pub fn all() -> Vec<String> {
    let entries = std::fs::read_dir(root().join("boards")).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| entry.path().join("qemu.conf").is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// `key = value` lines; a key may come several times.
struct Conf<'a> {
    name: &'a str,
    text: &'a str,
}

impl<'a> Conf<'a> {
    fn all(&self, key: &'a str) -> impl Iterator<Item = &'a str> {
        let lines = self.text.lines().filter(|line| !line.trim_start().starts_with('#'));
        lines.filter_map(move |line| {
            let (name, value) = line.split_once('=')?;
            (name.trim() == key).then(|| value.trim())
        })
    }

    fn get(&self, key: &'a str) -> Option<&'a str> {
        self.all(key).next()
    }

    fn need(&self, key: &'a str) -> Result<&'a str> {
        self.get(key).ok_or_else(|| format!("boards/{}/qemu.conf has no {key}", self.name))
    }
}

/// `8KiB`, `16MiB`, or plain bytes.
fn bytes(text: &str) -> Result<u64> {
    let (number, unit) = match (text.strip_suffix("MiB"), text.strip_suffix("KiB")) {
        (Some(number), _) => (number, 20),
        (_, Some(number)) => (number, 10),
        _ => (text, 0),
    };
    number.trim().parse::<u64>().map(|n| n << unit).map_err(|e| format!("{text:?}: {e}"))
}

/// The four partitions of an sfdisk script.
fn parts(layout: &str, disk: u64) -> Result<[Part; 4]> {
    let mut found = Vec::new();
    for line in layout.lines().filter(|line| line.trim_start().starts_with("start=")) {
        let field = |name: &str| {
            let fields = line.split(',').map(str::trim);
            fields.filter_map(|field| field.strip_prefix(name)?.strip_prefix('=')).next()
        };
        let start = bytes(field("start").unwrap_or(""))?;
        let size = field("size").map(bytes).transpose()?.unwrap_or(disk.saturating_sub(start));
        if start.checked_add(size).is_none_or(|end| end > disk) {
            return Err(format!("{line:?} ends behind the card's {disk} bytes"));
        }
        found.push(Part { start, size });
    }
    found.try_into().map_err(|_| "not the four partitions boot, slot A, slot B, data".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_board_with_a_qemu_conf_can_be_read() {
        let names = all();
        for name in ["orangepi-pc", "qemu-virt-aarch64", "qemu-virt-armv7", "raspberrypi3"] {
            assert!(names.iter().any(|n| n == name), "{name} is not among {names:?}");
        }
        for name in names {
            let board = Board::load(&name).unwrap();
            assert!(board.disk.is_power_of_two(), "{name}: QEMU refuses cards of other sizes");
            assert_eq!(board.parts[1].size, board.parts[2].size, "{name}: both slots take the same image");
            assert!(board.parts.windows(2).all(|w| w[0].start + w[0].size <= w[1].start), "{name}");
        }
    }

    #[test]
    fn a_board_with_a_single_copy_says_so_in_its_folder() {
        for name in all() {
            let board = Board::load(&name).unwrap();
            let says = board.fw_env.contains("single copy");
            assert_eq!(says, !board.redundant(), "boards/{name}/fw_env.config: \"single copy\"");
        }
    }

    #[test]
    fn an_armv7_and_an_aarch64_board_have_a_redundant_environment() {
        for arch in ["armv7", "aarch64"] {
            let mut boards = all().into_iter().map(|name| Board::load(&name).unwrap());
            assert!(boards.any(|board| board.arch == arch && board.redundant()), "{arch}");
        }
    }

    #[test]
    fn a_missing_board_is_named_with_those_that_there_are() {
        let error = Board::load("no-such-board").unwrap_err();
        assert!(error.contains("no-such-board") && error.contains("orangepi-pc"), "{error}");
    }

    #[test]
    fn a_layout_that_does_not_fit_is_refused() {
        assert!(parts("start=8MiB, size=16MiB\n", 1 << 27).is_err());
        let four = "start=1MiB,size=1MiB\nstart=2MiB,size=1MiB\nstart=3MiB,size=1MiB\nstart=4MiB\n";
        assert_eq!(parts(four, 8 << 20).unwrap()[3], Part { start: 4 << 20, size: 4 << 20 });
        assert!(parts(four, 3 << 20).unwrap_err().contains("behind"));
    }
}
