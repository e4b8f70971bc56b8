//! What happens to an update, as a table: the payload, what goes wrong, and what the new system is like.

use thimble::agent::Reboot;

/// What is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The built-in handler.
    Rootfs,
    /// An Update Module with these answers.
    Module { reboot: Reboot, rollback: bool },
    /// An Artifact without payload.
    Empty,
}

impl Kind {
    pub fn reboot(self) -> Reboot {
        match self {
            Kind::Rootfs => Reboot::Automatic,
            Kind::Module { reboot, .. } => reboot,
            Kind::Empty => Reboot::No,
        }
    }

    pub fn rollback(self) -> bool {
        match self {
            Kind::Rootfs => true,
            Kind::Module { rollback, .. } => rollback,
            Kind::Empty => false,
        }
    }
}

/// How something fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fails {
    /// Nothing was done.
    Early,
    /// It was done all the same.
    Late,
    /// The server says 409.
    Aborted,
    /// The script asks to be run again later (exit 21).
    Again,
}

/// One thing that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The operation, by the name that it has in the trail.
    pub at: &'static str,
    pub fails: Fails,
    /// Each time, not only the first.
    pub always: bool,
}

/// What the new root file system is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewSystem {
    Good,
    /// Its kernel does not start.
    DoesNotStart,
    /// Its configuration names no partitions (decision 10).
    HasNoConfiguration,
}

/// One update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    pub kind: Kind,
    pub faults: Vec<Fault>,
    pub system: NewSystem,
    /// Waits are waited out; otherwise they are recorded and the agent is started again (`check --max-wait 0`).
    pub patient: bool,
}

impl std::fmt::Display for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.kind)?;
        for Fault { at, fails, always } in &self.faults {
            write!(f, ", {at} fails {fails:?} {}", if *always { "always" } else { "once" })?;
        }
        if self.system != NewSystem::Good {
            write!(f, ", new system: {:?}", self.system)?;
        }
        f.write_str(if self.patient { "" } else { ", impatient" })
    }
}

const fn once(at: &'static str) -> Fault {
    Fault { at, fails: Fails::Early, always: false }
}

const fn late(at: &'static str) -> Fault {
    Fault { at, fails: Fails::Late, always: false }
}

const fn always(at: &'static str) -> Fault {
    Fault { at, fails: Fails::Early, always: true }
}

const fn aborted(at: &'static str) -> Fault {
    Fault { at, fails: Fails::Aborted, always: true }
}

const fn again(at: &'static str) -> Fault {
    Fault { at, fails: Fails::Again, always: false }
}

/// What ends an update, or delays it.
const FAULTS: [Fault; 55] = [
    always("Download_Enter"),
    always("Download_Leave"),
    once("ArtifactInstall_Enter"),
    once("ArtifactInstall_Leave"),
    once("ArtifactReboot_Enter"),
    once("ArtifactReboot_Leave"),
    once("ArtifactCommit_Enter"),
    once("ArtifactCommit_Leave"),
    always("ArtifactCommit_Leave"),
    again("Download_Enter"),
    again("ArtifactInstall_Enter"),
    again("ArtifactInstall_Leave"),
    again("ArtifactReboot_Enter"),
    again("ArtifactReboot_Leave"),
    again("ArtifactCommit_Enter"),
    again("ArtifactCommit_Leave"),
    once("open"),
    once("Download"),
    once("SupportsRollback"),
    once("ArtifactInstall"),
    late("ArtifactInstall"),
    once("NeedsArtifactReboot"),
    always("NeedsArtifactReboot"),
    once("ArtifactReboot"),
    late("ArtifactReboot"),
    once("restart"),
    always("restart"),
    once("ArtifactVerifyReboot"),
    once("scripts version"),
    once("ArtifactCommit"),
    late("ArtifactCommit"),
    once("Cleanup"),
    always("Cleanup"),
    once("report downloading"),
    aborted("report downloading"),
    once("report installing"),
    aborted("report installing"),
    once("report rebooting"),
    aborted("report rebooting"),
    once("report pre-commit"),
    always("report pre-commit"),
    aborted("report pre-commit"),
    once("report final"),
    late("report final"),
    always("report final"),
    aborted("report final"),
    late("report downloading"),
    late("report pre-commit"),
    late("report rebooting"),
    again("control ArtifactInstall_Enter"),
    again("control ArtifactReboot_Enter"),
    again("control ArtifactCommit_Enter"),
    once("control ArtifactInstall_Enter"),
    once("control ArtifactReboot_Enter"),
    once("control ArtifactCommit_Enter"),
];

/// Writes to the data store that fail: it is full, or read-only for a while.
const STORE: [Fault; 12] = [
    once("journal: DownloadEnter"),
    once("journal: Store"),
    once("journal: InstallEnter"),
    once("journal: RebootEnter"),
    once("journal: VerifyReboot"),
    once("journal: CommitEnter"),
    once("journal: CommitLeave"),
    once("journal: SaveProvides"),
    once("journal: Cleanup"),
    once("journal: cleared"),
    once("installed: release-2"),
    always("installed: release-2"),
];

/// The same on the way back.
const STORE_ON_THE_WAY_BACK: [Fault; 10] = [
    once("journal: RollbackEnter"),
    once("journal: RollbackRebootEnter"),
    once("journal: VerifyRollbackReboot"),
    always("journal: VerifyRollbackReboot"),
    once("journal: FailureEnter"),
    once("journal: Failure"),
    once("journal: SaveProvides"),
    once("journal: Cleanup"),
    once("journal: cleared"),
    once("installed: release-2_INCONSISTENT"),
];

/// What starts the way back: before the restart, after it.
const CAUSES: [Fault; 2] = [once("ArtifactInstall_Leave"), once("ArtifactCommit_Enter")];

/// What can go wrong on it.
const ON_THE_WAY_BACK: [Fault; 22] = [
    always("ArtifactInstall_Error"),
    always("ArtifactCommit_Error"),
    again("ArtifactRollback_Enter"),
    always("ArtifactRollback_Enter"),
    always("ArtifactRollback_Leave"),
    once("ArtifactRollback"),
    always("ArtifactRollback"),
    late("ArtifactRollback"),
    always("NeedsArtifactReboot"),
    once("restart"),
    always("ArtifactRollbackReboot_Enter"),
    always("ArtifactRollbackReboot_Leave"),
    once("ArtifactRollbackReboot"),
    once("ArtifactVerifyRollbackReboot"),
    always("ArtifactVerifyRollbackReboot"),
    always("ArtifactFailure_Enter"),
    always("ArtifactFailure_Leave"),
    once("ArtifactFailure"),
    once("Cleanup"),
    once("report final"),
    once("log"),
    always("report final"),
];

/// Whether the fault can happen to such a payload at all.
fn can_happen(kind: Kind, fault: Fault) -> bool {
    let at = fault.at;
    match kind {
        _ if at.starts_with("installed") => kind != Kind::Empty && at.ends_with("2") || !kind.rollback(),
        Kind::Empty => at.starts_with("report d") || at.starts_with("report f") || at.starts_with("Download"),
        _ if kind.reboot() == Reboot::No && (at.contains("Reboot") && at != "NeedsArtifactReboot") => false,
        _ if kind.reboot() != Reboot::Yes
            && (at == "ArtifactReboot" || at == "ArtifactRollbackReboot" && fault.fails == Fails::Early) =>
        {
            false
        }
        _ if kind.reboot() != Reboot::Automatic && at == "restart" => false,
        _ if kind.reboot() == Reboot::No && at == "report rebooting" => false,
        // Its answers are constants.
        Kind::Rootfs if ["SupportsRollback", "NeedsArtifactReboot"].contains(&at) => false,
        _ => kind.rollback() || !at.contains("Rollback") || at == "SupportsRollback",
    }
}

/// A pause at every point; in the second one the agent does not wait.
pub fn paused(kind: Kind) -> [Scenario; 2] {
    let faults = FAULTS.into_iter().filter(|f| f.fails == Fails::Again && f.at.starts_with("control"));
    let faults: Vec<Fault> = faults.filter(|f| can_happen(kind, *f)).collect();
    [true, false].map(|patient| Scenario { kind, faults: faults.clone(), system: NewSystem::Good, patient })
}

/// Every scenario of a kind of payload.
pub fn all(kind: Kind) -> Vec<Scenario> {
    let of =
        |faults: &[Fault]| Scenario { kind, faults: faults.to_vec(), system: NewSystem::Good, patient: true };
    let mut list = vec![of(&[])];
    for fault in FAULTS.into_iter().chain(STORE).filter(|f| can_happen(kind, *f)) {
        list.push(of(&[fault]));
        let waits = fault.fails == Fails::Again || fault.at.starts_with("report");
        if waits && fault.fails != Fails::Aborted {
            list.push(Scenario { patient: false, ..of(&[fault]) });
        }
    }
    if kind == Kind::Empty {
        return list;
    }
    for cause in CAUSES {
        for fault in ON_THE_WAY_BACK.into_iter().chain(STORE_ON_THE_WAY_BACK).filter(|f| can_happen(kind, *f))
        {
            list.push(of(&[cause, fault]));
            if fault.fails == Fails::Again {
                list.push(Scenario { patient: false, ..of(&[cause, fault]) });
            }
        }
    }
    if kind == Kind::Rootfs {
        list.push(Scenario { system: NewSystem::DoesNotStart, ..of(&[]) });
        list.push(Scenario { system: NewSystem::HasNoConfiguration, ..of(&[]) });
    }
    list
}
