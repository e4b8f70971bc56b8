//! The whole life of an update, and every way in which it may end, as one table. All boards play it.

use crate::rootfs::Fault;

/// What the data partition tells the device to start (`qemu/guest/thimble`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// `thimble daemon`, from inittab.
    Daemon,
    /// `thimble check`, every minute, from cron.
    Cron,
    /// Nothing: by hand.
    Nothing,
}

/// A release: the root file system, and the state scripts that its Artifact brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// Name of the Artifact; `/etc/version` of the root file system.
    pub version: &'static str,
    /// What is wrong with it.
    pub fault: Fault,
    /// Names of state scripts with their shell text.
    pub scripts: &'static [(&'static str, &'static str)],
}

/// One thing to do, or to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The server offers it.
    Offer(Release),
    /// The same, but the download stops half-way.
    OfferHalf(Release),
    /// Its Artifact lies on the data partition from the beginning, as `/data/VERSION.mender`.
    Local(Release),
    /// Wait until this release has come up.
    Up(&'static str),
    /// Wait for this text on the console.
    Console(&'static str),
    /// Wait until the server has heard this status.
    Status(&'static str),
    /// Wait until the download has stopped half-way.
    Half,
    /// Let the next downloads pass.
    Whole,
    /// Wait until the state script holds the update in this state. It is told so before the first boot.
    Hold(&'static str),
    /// A command on the console, and its exit code.
    Shell(&'static str, i32),
    /// A command on the console that ends the shell.
    Type(&'static str),
    /// The network cable.
    Network(bool),
    /// The power is cut, and comes back.
    Cut,
    /// The update has come to a hold. The power was cut in the last write to the environment before that: its first
    /// sector is there, nothing that was written afterwards is, so one copy is bad. It comes back.
    CutInEnvironment,
    /// Wait for the final report, which is this, or any.
    Final(Option<&'static str>),
}

/// What the device is in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// This release, for good, from the slot that ran first (0) or the other one (1).
    Is(&'static str, u32),
    /// release-2 in the other slot and a success was reported, or release-1 in the first and a failure.
    AsReported,
}

/// One scenario.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// What it promises, as a sentence.
    pub name: &'static str,
    /// The group: a to h.
    pub group: char,
    /// How thimble is started.
    pub start: Start,
    /// What happens. Before it the device comes up with release-1.
    pub steps: &'static [Step],
    /// What there is in the end.
    pub end: End,
}

const GOOD: Release = Release { version: "release-2", fault: Fault::None, scripts: &[] };

const fn faulty(fault: Fault) -> Release {
    Release { fault, ..GOOD }
}

const fn scripted(scripts: &'static [(&'static str, &'static str)]) -> Release {
    Release { scripts, ..GOOD }
}

/// A script of an Artifact that refuses the new system.
const REFUSES: Release = scripted(&[(
    "ArtifactCommit_Enter_50_selftest",
    "echo 'self-test: the sensor does not answer' >&2; exit 1",
)]);

/// The application's data move to another form, and back.
const MIGRATES: Release = scripted(&[
    ("ArtifactCommit_Enter_10_migrate", "echo 'form 2' >/data/app/data && sync"),
    (
        "ArtifactCommit_Enter_50_selftest",
        "grep -q 'form 2' /data/app/data || exit 1; echo 'self-test: no' >&2; exit 1",
    ),
    ("ArtifactRollback_Enter_10_migrate_back", "echo 'form 1' >/data/app/data && sync"),
]);

use Step::{
    Console, Cut, CutInEnvironment, Final, Half, Hold, Local, Network, Offer, OfferHalf, Shell, Status, Type,
    Up, Whole,
};

const SUCCESS: Step = Final(Some("success"));
const FAILURE: Step = Final(Some("failure"));
const NEW: End = End::Is("release-2", 1);
const OLD: End = End::Is("release-1", 0);

const fn daemon(name: &'static str, group: char, steps: &'static [Step], end: End) -> Scenario {
    Scenario { name, group, start: Start::Daemon, steps, end }
}

const fn by_hand(name: &'static str, group: char, steps: &'static [Step], end: End) -> Scenario {
    Scenario { name, group, start: Start::Nothing, steps, end }
}

/// All of them.
pub const ALL: &[Scenario] = &[
    daemon(
        "server_update_is_kept",
        'a',
        &[Shell("thimble board", 0), Offer(GOOD), Up("release-2"), SUCCESS],
        NEW,
    ),
    Scenario {
        name: "server_update_by_cron_is_kept",
        group: 'a',
        start: Start::Cron,
        steps: &[Offer(GOOD), Up("release-2"), SUCCESS],
        end: NEW,
    },
    daemon(
        "broken_kernel_is_rolled_back",
        'b',
        &[Offer(faulty(Fault::Kernel)), Up("release-1"), FAILURE],
        OLD,
    ),
    daemon("missing_init_is_rolled_back", 'b', &[Offer(faulty(Fault::Init)), Up("release-1"), FAILURE], OLD),
    daemon("panic_is_rolled_back", 'b', &[Offer(faulty(Fault::Panic)), Up("release-1"), FAILURE], OLD),
    daemon(
        "refused_commit_is_rolled_back",
        'c',
        &[Offer(REFUSES), Up("release-2"), Up("release-1"), FAILURE],
        OLD,
    ),
    daemon(
        "unreachable_server_is_rolled_back",
        'c',
        &[Offer(GOOD), Up("release-2"), Network(false), Up("release-1"), Network(true), FAILURE],
        OLD,
    ),
    by_hand(
        "install_and_commit_by_hand",
        'd',
        &[
            Local(GOOD),
            Shell("thimble install /data/release-2.mender", 0),
            Type("reboot"),
            Up("release-2"),
            Shell("thimble commit", 0),
            Shell("thimble commit", 2),
            Type("reboot"),
            Up("release-2"),
        ],
        NEW,
    ),
    by_hand(
        "install_and_rollback_by_hand",
        'd',
        &[
            Local(GOOD),
            Shell("thimble install /data/release-2.mender", 0),
            Type("reboot"),
            Up("release-2"),
            Shell("thimble rollback", 0),
            Type("reboot"),
            Up("release-1"),
            Shell("thimble commit", 2),
        ],
        OLD,
    ),
    daemon(
        "paused_update_is_continued",
        'e',
        &[
            Shell("thimble control pause reboot commit", 0),
            Offer(GOOD),
            Status("pause_before_rebooting"),
            Shell("thimble control continue reboot", 0),
            Up("release-2"),
            // Not what the server hears: the network may come up later than the daemon, and this report is tried once (K30).
            Console("ArtifactCommit_Enter: pause"),
            Shell("thimble control continue commit", 0),
            SUCCESS,
        ],
        NEW,
    ),
    daemon(
        "three_updates_in_a_row",
        'f',
        &[
            Offer(GOOD),
            Up("release-2"),
            SUCCESS,
            Offer(Release { version: "release-3", ..GOOD }),
            Up("release-3"),
            SUCCESS,
            Offer(Release { version: "release-4", ..GOOD }),
            Up("release-4"),
            SUCCESS,
        ],
        End::Is("release-4", 1),
    ),
    daemon(
        "migrated_data_are_moved_back",
        'g',
        &[
            Shell("mkdir /data/app && echo 'form 1' >/data/app/data", 0),
            Offer(MIGRATES),
            Up("release-2"),
            Up("release-1"),
            FAILURE,
            Shell("grep 'form 1' /data/app/data", 0),
        ],
        OLD,
    ),
    daemon(
        "cut_in_the_download",
        'h',
        &[OfferHalf(GOOD), Half, Cut, Whole, Up("release-1"), Final(None)],
        End::AsReported,
    ),
    daemon(
        "cut_in_the_environment_write",
        'h',
        &[Offer(GOOD), Hold("ArtifactInstall_Leave"), CutInEnvironment, Final(None)],
        End::AsReported,
    ),
    daemon(
        "cut_between_install_and_reboot",
        'h',
        &[Offer(GOOD), Hold("ArtifactReboot_Enter"), Cut, Up("release-2"), SUCCESS],
        NEW,
    ),
    daemon(
        "cut_in_the_first_boot",
        'h',
        &[Offer(GOOD), Console("Starting kernel"), Cut, Up("release-1"), FAILURE],
        OLD,
    ),
    daemon(
        "cut_before_the_commit",
        'h',
        &[Offer(GOOD), Up("release-2"), Hold("ArtifactCommit_Enter"), Cut, Up("release-1"), FAILURE],
        OLD,
    ),
    daemon(
        "cut_after_the_commit",
        'h',
        &[Offer(GOOD), Up("release-2"), Hold("ArtifactCommit_Leave"), Cut, Up("release-2"), SUCCESS],
        NEW,
    ),
];

impl Scenario {
    /// The states in which its update is to be held.
    pub fn holds(&self) -> impl Iterator<Item = &'static str> {
        self.steps.iter().filter_map(|step| match step {
            Hold(state) => Some(*state),
            _ => None,
        })
    }

    /// Whether it cuts the power inside a write to the environment.
    pub fn cuts_environment(&self) -> bool {
        self.steps.contains(&CutInEnvironment)
    }

    /// Whether the card's writes are to be logged.
    pub fn logs_writes(&self) -> bool {
        self.cuts_environment() || self.name == RECORDED.name
    }
}

/// The update whose writes are logged, to be cut anywhere.
pub const RECORDED: Scenario = daemon("cuts_recorded", 'h', &[Offer(GOOD), Up("release-2"), SUCCESS], NEW);

/// What follows on a card that was cut somewhere in that.
pub const RESUMED: Scenario = daemon("cut", 'h', &[Offer(GOOD), Final(None)], End::AsReported);

/// The scenarios of that name, or of a group (one letter).
pub fn named(name: &str) -> Vec<&'static Scenario> {
    ALL.iter().filter(|s| s.name == name || (name.len() == 1 && name.starts_with(s.group))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_has_a_scenario_and_no_name_comes_twice() {
        for group in 'a'..='h' {
            assert!(ALL.iter().any(|s| s.group == group), "{group}");
        }
        for (at, scenario) in ALL.iter().enumerate() {
            assert!(ALL[..at].iter().all(|s| s.name != scenario.name), "{}", scenario.name);
        }
    }

    #[test]
    fn a_name_or_a_group_chooses() {
        assert_eq!(named("panic_is_rolled_back").len(), 1);
        assert_eq!(named("b").len(), 3);
        assert!(named("nothing").is_empty());
    }

    #[test]
    fn holds_are_states_that_the_artifacts_have_scripts_for() {
        for scenario in ALL {
            for state in scenario.holds() {
                assert!(crate::rootfs::HOLDS.contains(&state), "{}: {state}", scenario.name);
            }
        }
    }
}
