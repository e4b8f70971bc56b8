//! The built-in handler of rootfs-image: the image goes to the inactive root partition, and the boot environment
//! decides which of the two is booted.

use super::disk::Target;
use super::origin::{Memory, Origin};
use super::writer::{self, Counters};
use crate::agent::Reboot;
use crate::boot::slots::{self, Slot, Slots};
use crate::boot::{Environment, check_canary};
use crate::error::{Context, Error, Result};
use crate::ports::{Payload, PayloadFiles};
use crate::sys::mount;
use std::path::{Path, PathBuf};

const PART: &str = "mender_boot_part";
const PART_HEX: &str = "mender_boot_part_hex";
const AVAILABLE: &str = "upgrade_available";
const COUNT: &str = "bootcount";

/// What the handler has to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootfsOptions {
    /// `/`, or the directory of `--root`: /proc, /sys and /dev are looked at below it, and only below another one
    /// than `/` may a partition be a regular file.
    pub root: PathBuf,
    /// `RootfsPartA` of the configuration.
    pub part_a: Option<String>,
    /// `RootfsPartB` of the configuration.
    pub part_b: Option<String>,
    /// Whether the whole image is read back from the storage after it was written (BE-117).
    pub verify: bool,
    /// The file in which the handler remembers, from ArtifactInstall to Cleanup, which partition it came from. Only
    /// with it an update can be taken back after the commit: that is what a power cut between the commit and the
    /// record of it asks for.
    pub memory: Option<PathBuf>,
}

impl RootfsOptions {
    /// Reads back what was written; below `root`; remembers nothing.
    pub fn new(root: PathBuf, part_a: Option<String>, part_b: Option<String>) -> RootfsOptions {
        RootfsOptions { root, part_a, part_b, verify: true, memory: None }
    }
}

/// Which partition runs, and what the boot environment says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Number of the partition that runs.
    pub running: u32,
    /// Number of the partition that the boot loader starts (`mender_boot_part`).
    pub boot_part: u32,
    /// An update is being tried (`upgrade_available` is 1): neither committed, nor gone back from.
    pub pending: bool,
}

/// The handler.
pub struct RootfsImage {
    options: RootfsOptions,
    memory: Memory,
    env: Box<dyn Environment>,
    counters: Counters,
}

/// What the boot environment and the system say.
struct Status {
    slots: Slots,
    /// An update is being tried and not committed yet.
    pending: bool,
    /// `mender_boot_part`.
    boot_part: u32,
}

impl Status {
    fn runs_what_boots(&self) -> bool {
        self.slots.active.number == self.boot_part
    }

    /// Refuses if another partition runs than the boot environment says.
    fn check_running(&self) -> Result<()> {
        if self.runs_what_boots() {
            return Ok(());
        }
        let text = format!(
            "the running root is {}, but the boot environment says partition {} (mender_boot_part)",
            self.slots.active.path.display(),
            self.boot_part
        );
        Err(Error::new("ROOTFS-MISMATCH", text))
    }
}

impl RootfsImage {
    /// A handler that uses this boot environment. Nothing is read yet.
    pub fn new(options: RootfsOptions, env: Box<dyn Environment>) -> RootfsImage {
        let memory = Memory(options.memory.clone());
        RootfsImage { options, memory, env, counters: Counters::default() }
    }

    /// What the last [`Payload::store`] did.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Writes `bootcount=0` if an update is being tried and it is not 0 already, so that a restart during a pause does not use up its
    /// tries (design, decision 9); otherwise nothing.
    ///
    /// # Errors
    /// As those of the boot environment.
    pub fn keep_trying(&mut self) -> Result<()> {
        let values = self.env.read(&[AVAILABLE, COUNT])?;
        let is = |name, wanted| values.get(name).is_some_and(|v| v == wanted);
        if is(AVAILABLE, "1") && !is(COUNT, "0") { self.env.write(&[(COUNT, "0")]) } else { Ok(()) }
    }

    /// What the system and the boot environment say now: what resuming after a restart has to know.
    ///
    /// # Errors
    /// `ROOTFS-NOT-CONFIGURED`, `BOOT-…`.
    pub fn facts(&mut self) -> Result<Facts> {
        let Status { slots, pending, boot_part } = self.status()?;
        Ok(Facts { running: slots.active.number, boot_part, pending })
    }

    fn parts(&self) -> Result<(&str, &str)> {
        match (self.options.part_a.as_deref(), self.options.part_b.as_deref()) {
            (Some(a), Some(b)) if !a.is_empty() && !b.is_empty() && a != b => Ok((a, b)),
            (Some(a), Some(b)) if !a.is_empty() && a == b => {
                Err(not_configured("RootfsPartA and RootfsPartB are the same"))
            }
            _ => Err(not_configured("RootfsPartA and RootfsPartB are not both set")),
        }
    }

    fn status(&mut self) -> Result<Status> {
        self.parts()?;
        check_canary(self.env.as_mut())?;
        let values = self.env.read(&[AVAILABLE, PART])?;
        let pending = values.get(AVAILABLE).is_some_and(|v| v == "1");
        let variable = values.get(PART).map(String::as_str);
        let boot_part = slots::boot_part(variable)?;
        let (a, b) = self.parts()?;
        let slots = slots::detect(&self.options.root, a, b, variable.unwrap_or(""))?;
        Ok(Status { slots, pending, boot_part })
    }

    /// The partition that may be overwritten.
    fn free_slot(&mut self) -> Result<Slot> {
        let status = self.status()?;
        if status.pending {
            let text = "an update waits for commit or rollback (upgrade_available is 1 in the boot environment); \
                        finish it first";
            return Err(Error::new("ROOTFS-PENDING", text));
        }
        status.check_running()?;
        let slot = status.slots.inactive;
        free(&slot, &self.options.root)?;
        Ok(slot)
    }

    fn write_boot_part(&mut self, number: u32, pending: bool) -> Result<()> {
        let (part, hex) = (number.to_string(), format!("{number:x}"));
        let mut changes = vec![(AVAILABLE, if pending { "1" } else { "0" })];
        changes.extend([(PART, part.as_str()), (PART_HEX, hex.as_str())]);
        if pending {
            // In the same write: a count left by an earlier update would make the first boot the last (BE-11).
            changes.push((COUNT, "0"));
        }
        self.env.write(&changes)
    }

    /// The partition to go back to; `None` if there is nothing to take back.
    fn rollback_target(&mut self) -> Result<Option<Slot>> {
        self.parts()?;
        let values = self.env.read(&[AVAILABLE, PART])?;
        let pending = values.get(AVAILABLE).is_some_and(|v| v == "1");
        if !pending && self.memory.0.is_none() {
            return Ok(None);
        }
        let variable = values.get(PART).map(String::as_str);
        let boot_part = slots::boot_part(variable);
        let (a, b) = self.parts()?;
        let slots = slots::detect(&self.options.root, a, b, variable.unwrap_or(""))?;
        if pending {
            let not_restarted = boot_part != Ok(slots.active.number);
            return Ok(Some(if not_restarted { slots.active } else { slots.inactive }));
        }
        // The boot loader went back already, or the update was committed: only the file can tell.
        match self.memory.read(slots.active.number, slots.inactive.number) {
            Some(Origin { from, to }) if boot_part == Ok(to) => {
                Ok(Some(if from == slots.active.number { slots.active } else { slots.inactive }))
            }
            Some(_) | None => Ok(None),
        }
    }

    /// Whether the new root file system is being tried right now.
    fn check_being_tried(&mut self) -> Result<()> {
        let status = self.status()?;
        if !status.pending {
            let text = format!(
                "no update is being tried (upgrade_available is not 1): the boot loader went back to {}, or it was \
                 committed before",
                status.slots.active.path.display()
            );
            return Err(Error::new("ROOTFS-FELL-BACK", text));
        }
        status.check_running()
    }
}

impl Payload for RootfsImage {
    fn store(&mut self, files: &mut dyn PayloadFiles) -> Result<()> {
        self.counters = Counters::default();
        let slot = self.free_slot()?;
        // Left by an update that was not tidied up: what it would go back to is about to be overwritten.
        self.memory.remove()?;
        let Some((file, size)) = files.next_file()? else {
            return Err(Error::new("ROOTFS-FILES", "the Artifact has no image file"));
        };
        let name = slot.path.display().to_string();
        let mut target = Target::open(&slot.path, &self.options.root)?;
        check_size(&file, size, target.size, &slot.path)?;
        log::info!("writing '{file}' of {size} bytes to {name}");
        target.begin(size)?;
        self.counters = writer::transfer(files, size, &mut target, self.options.verify, &name)?;
        match files.next_file()? {
            None => Ok(()),
            Some((second, _)) => {
                let text =
                    format!("the Artifact has '{second}' besides '{file}'; a rootfs-image has one file");
                Err(Error::new("ROOTFS-FILES", text))
            }
        }
    }

    fn install(&mut self) -> Result<()> {
        let status = self.status()?;
        let number = status.slots.inactive.number;
        // Repeated after a power cut the variables may be there already (M41).
        if status.pending && status.boot_part != number {
            let text = "the running root file system is an update that was not committed yet";
            return Err(Error::new("ROOTFS-PENDING", text));
        }
        if !status.pending {
            status.check_running()?;
        }
        // Order matters: once the environment is written there must be a way back.
        self.memory.write(Origin { from: status.slots.active.number, to: number })?;
        self.write_boot_part(number, true)
    }

    fn needs_reboot(&mut self) -> Result<Reboot> {
        Ok(Reboot::Automatic)
    }

    fn supports_rollback(&mut self) -> Result<bool> {
        Ok(true)
    }

    /// Never asked for: the agent restarts the machine.
    fn reboot(&mut self) -> Result<()> {
        Ok(())
    }

    fn verify_reboot(&mut self) -> Result<()> {
        self.check_being_tried()
    }

    fn keep_trying(&mut self) -> Result<()> {
        RootfsImage::keep_trying(self)
    }

    fn commit(&mut self) -> Result<()> {
        self.check_being_tried()?;
        self.env.write(&[(AVAILABLE, "0")])
    }

    fn rollback(&mut self) -> Result<()> {
        let back_to = match self.rollback_target() {
            Ok(Some(slot)) => slot,
            Ok(None) => {
                log::info!("the boot loader starts the old system: nothing to take back");
                return Ok(());
            }
            Err(e) => {
                // Decision 10: a new root file system without its configuration. The host restarts, the boot
                // loader goes back by itself, and the old system verifies that.
                log::error!("the boot loader has to go back by itself: {e}");
                return Ok(());
            }
        };
        log::info!("the next start is from {}", back_to.path.display());
        self.write_boot_part(back_to.number, false)
    }

    /// Never asked for: the agent restarts the machine.
    fn rollback_reboot(&mut self) -> Result<()> {
        Ok(())
    }

    fn verify_rollback_reboot(&mut self) -> Result<()> {
        let status = self.status()?;
        if status.pending {
            let text = "the update is still being tried (upgrade_available is 1): it was not taken back";
            return Err(Error::new("ROOTFS-NOT-BACK", text));
        }
        status.check_running()?;
        let Slots { active, inactive, .. } = &status.slots;
        match self.memory.read(active.number, inactive.number) {
            Some(Origin { from, .. }) if from != active.number => {
                let text = format!(
                    "the update still runs, from {}: the way back leads to partition {from}",
                    active.path.display()
                );
                Err(Error::new("ROOTFS-NOT-BACK", text))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn failure(&mut self) -> Result<()> {
        Ok(())
    }

    fn cleanup(&mut self) -> Result<()> {
        if let Err(e) = self.memory.remove() {
            log::warn!("{e}"); // The next update removes it.
        }
        Ok(())
    }
}

/// Unmounts the inactive partition, once, as Mender does (BE-111). Below another root than `/` nothing is unmounted:
/// what is mounted there may be no concern of this system.
fn free(slot: &Slot, root: &Path) -> Result<()> {
    let name = slot.path.display();
    for point in slot.mounted_on(root) {
        if root != Path::new("/") {
            break;
        }
        log::warn!("the inactive root partition {name} is mounted on {point}; unmounting it");
        mount::unmount(Path::new(&point)).context("ROOTFS-MOUNTED", || {
            format!(
                "the inactive root partition {name} is mounted on {point} and cannot be unmounted (does something use \
                 it?)"
            )
        })?;
    }
    match slot.mounted_on(root).first() {
        None => Ok(()),
        Some(point) => {
            let text = format!(
                "the inactive root partition {name} is mounted on {point}; unmount it (and see to it that it is not \
                 mounted by itself)"
            );
            Err(Error::new("ROOTFS-MOUNTED", text))
        }
    }
}

/// Before the first byte is written (BE-110).
fn check_size(file: &str, size: u64, room: u64, path: &Path) -> Result<()> {
    if size == 0 {
        return Err(Error::new("ROOTFS-SIZE", format!("the image '{file}' is empty")));
    }
    if size > room {
        let text = format!(
            "the image '{file}' has {size} bytes, {} has room for {room}. Make the image smaller (its file system \
             too, not only its content)",
            path.display()
        );
        return Err(Error::new("ROOTFS-SIZE", text));
    }
    Ok(())
}

fn not_configured(why: &str) -> Error {
    let text = format!("{why}: root file systems cannot be updated. Set both in the configuration");
    Error::new("ROOTFS-NOT-CONFIGURED", text)
}
