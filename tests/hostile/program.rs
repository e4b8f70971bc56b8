//! Each kind through `thimble install` on a simulated device: what it says, what it costs, what it leaves behind.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use thimble_testkit::{Device, DeviceOptions, TempDir};

use super::kinds::{self, Kind};
use super::{corpus, file_of};

/// Most memory that the whole program may ever have had, in KiB.
const MEMORY: u64 = 16 * 1024;
/// Most that it may have had more than for an Artifact of no bytes, in KiB. An unoptimised program has more and larger
/// code, and so more memory from the start; what it allocates is the same.
const GROWTH: u64 = 12 * 1024;
/// Most processor time that it may take, in seconds. On the clock it takes what the machine has left.
const TIME: f64 = 1.0;

/// The program: `HOSTILE_BIN` names another one, e.g. the release build, which must keep to [`MEMORY`]. (`THIMBLE_BIN`
/// would take the place of the one that measures.)
fn thimble() -> PathBuf {
    std::env::var_os("HOSTILE_BIN").map_or_else(|| env!("CARGO_BIN_EXE_thimble").into(), PathBuf::from)
}

/// Starts the program through `time`, which writes what it took: memory in KiB, seconds in user and system mode.
/// (GNU time, Debian package `time`: a parent that is small, so that its own memory does not count.)
fn measured(dir: &Path) -> (PathBuf, PathBuf) {
    let (program, taken) = (dir.join("measured"), dir.join("taken"));
    let text = format!(
        "#!/bin/sh\nexec /usr/bin/time -q -o '{}' -f '%M %U %S' '{}' \"$@\"\n",
        taken.display(),
        thimble().display()
    );
    std::fs::write(&program, text).unwrap();
    make_executable(&program);
    (program, taken)
}

fn make_executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Two devices: one takes everything, the other has a verification key.
struct Stand {
    dir: TempDir,
    devices: [Device; 2],
    program: PathBuf,
    taken: PathBuf,
    good: PathBuf,
    /// Memory for the first kind, which is an Artifact of no bytes, in KiB.
    idle: Option<u64>,
    wrong: Vec<String>,
}

/// All that counts on a device: boot environment, slots, and every file of the data store.
#[derive(PartialEq)]
struct Everything {
    env: Vec<u8>,
    running: Vec<u8>,
    other: Vec<u8>,
    /// The journal: what was in progress last.
    journal: BTreeMap<PathBuf, Vec<u8>>,
    store: BTreeMap<PathBuf, Vec<u8>>,
}

impl Everything {
    fn of(device: &Device) -> Everything {
        let mut store = BTreeMap::new();
        collect(&device.root().join("var/lib/mender"), &mut store);
        let journal = |path: &Path| path.to_string_lossy().contains("/thimble-journal.");
        let (journal, store) = store.into_iter().partition(|(path, _)| journal(path));
        Everything {
            env: std::fs::read(device.dir().join("dev/ubootenv")).unwrap(),
            running: device.slot_bytes(device.running_slot()),
            other: device.slot_bytes(device.other_slot()),
            journal,
            store,
        }
    }
}

fn collect(dir: &Path, into: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        // The lock names the last process that held it.
        if path.ends_with("thimble.lock") {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            into.insert(path.clone(), Vec::new());
            collect(&path, into);
        } else {
            into.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
}

impl Stand {
    fn new() -> Stand {
        let dir = TempDir::new("hostile-device");
        let devices = [false, true].map(|key| {
            let home = dir.path().join(if key { "locked" } else { "open" });
            let pem = home.join("key.pem");
            let mut options = DeviceOptions {
                device_type: "dev".to_owned(),
                slot_size: 64 << 10,
                ..DeviceOptions::default()
            };
            if key {
                let key = format!("{:?}", pem.display().to_string());
                options.config.push(("ArtifactVerifyKey".to_owned(), key));
            }
            let device = Device::new(&home, options);
            std::fs::write(&pem, kinds::KEY).unwrap();
            // Takes every file, as a module does that only looks at what it gets.
            let module = "#!/bin/sh\n[ \"$1\" != NeedsArtifactReboot ] || echo No\n";
            device.write_script("usr/share/mender/modules/v3/script", module);
            // The first Artifact, whatever it is, has the name of what is installed recorded; the first for a module
            // makes the directories of modules.
            let first = corpus().iter().find(|kind| kind.name == "module-file-missing").unwrap();
            let file = file_of(&home, first);
            assert_eq!(device.run(&thimble(), &["install", file.to_str().unwrap()]), Some(1));
            device
        });
        let good = dir.path().join("good.mender");
        std::fs::write(&good, &kinds::good()[0]).unwrap();
        let (program, taken) = measured(dir.path());
        Stand { dir, devices, program, taken, good, idle: None, wrong: Vec::new() }
    }

    fn note(&mut self, kind: &Kind, what: impl std::fmt::Display) {
        self.wrong.push(format!("{}: {what}", kind.name));
    }

    /// Installs the kind; returns the peak of memory, and whether anything at all was begun.
    fn refuse(&mut self, kind: &Kind) -> (u64, bool) {
        let file = file_of(self.dir.path(), kind);
        let device = &self.devices[usize::from(kind.key)];
        let before = (Everything::of(device), device.log().len());
        let code = device.run(&self.program, &["install", file.to_str().unwrap()]);
        let (after, log) = (Everything::of(device), device.log().split_off(before.1));
        let before = before.0;
        std::fs::remove_file(file).unwrap();

        if code != Some(1) || !log.contains("System not modified.") || log.contains("panicked") {
            self.note(kind, format_args!("exit code {code:?}: {log}"));
        }
        let (code, says) = kind.device.unwrap_or((kind.code, kind.says));
        if !log.lines().any(|line| line.contains(&format!("ERROR {code}: ")) && line.contains(says)) {
            self.note(kind, format_args!("wanted {code}: {says}, got {log}"));
        }
        for (same, what) in [
            (after.env == before.env, "the boot environment"),
            (after.running == before.running, "the running slot"),
            (after.other == before.other || kind.payload, "the other slot"),
            (after.store == before.store, "the data store"),
        ] {
            if !same {
                self.note(kind, format_args!("{what} is not as it was"));
            }
        }
        let taken = std::fs::read_to_string(&self.taken).unwrap();
        let taken: Vec<f64> = taken.split_whitespace().map(|n| n.parse().unwrap()).collect();
        let [memory, user, system] = taken[..] else { panic!("{taken:?}") };
        let memory = memory as u64;
        let idle = *self.idle.get_or_insert(memory);
        let strict = std::env::var_os("HOSTILE_BIN").is_some() || !cfg!(debug_assertions);
        if memory > idle + GROWTH || strict && memory > MEMORY || user + system > TIME {
            self.note(kind, format_args!("{memory} KiB ({idle} for nothing), {:.2} s", user + system));
        }
        (memory, after.journal != before.journal)
    }

    /// The device is as good as new: a good Artifact is installed, and taken back.
    fn install_and_take_back(&mut self, kind: &Kind) {
        let device = &self.devices[0];
        let thimble = &thimble();
        let before = device.log().len();
        let image = kinds::image();
        let installed = device.run(thimble, &["install", self.good.to_str().unwrap()]);
        let there = device.slot_bytes(device.other_slot()).starts_with(&image);
        let tried = device.env()["upgrade_available"] == "1";
        let back = device.run(thimble, &["rollback"]);
        let settled = device.env()["upgrade_available"] == "0" && device.env()["mender_boot_part"] == "2";
        // What the next kind may not write to is known to be something else than a good image.
        std::fs::write(device.slot_path(device.other_slot()), vec![0xee; 64 << 10]).unwrap();
        if (installed, there, tried, back, settled) != (Some(0), true, true, Some(0), true) {
            let log = device.log().split_off(before);
            self.note(kind, format!("afterwards {installed:?} {there} {tried} {back:?} {settled}: {log}"));
        }
    }
}

/// What runs is never touched, the other slot only by a payload that was begun, the boot environment and the data
/// store never, to the byte: so there is nothing new to boot, and the next Artifact meets the device that the first
/// one met. Only the journal may differ, by an update that was begun and is over: after each such kind a good Artifact
/// is installed.
#[test]
fn the_program_refuses_every_kind_cheaply_and_leaves_nothing_behind() {
    assert!(Path::new("/usr/bin/time").exists(), "this test needs GNU time: apt-get install time");
    let mut stand = Stand::new();
    let mut most = (0, "");
    for kind in corpus() {
        let (memory, begun) = stand.refuse(kind);
        most = most.max((memory, kind.name));
        if begun || kind.payload {
            stand.install_and_take_back(kind);
        }
    }
    stand.install_and_take_back(&corpus()[0]);
    assert_eq!(corpus()[0].name, "nothing");
    println!("{} kinds, most memory: {} KiB for {}", corpus().len(), most.0, most.1);
    assert!(stand.wrong.is_empty(), "{}", stand.wrong.join("\n"));
}
