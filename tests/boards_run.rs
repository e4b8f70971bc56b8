//! The real program on simulated roots, one for each board: a device tree, slots and environment where the board has
//! them, and **no** configuration of either.
#![allow(clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use thimble_boards::{ALL, Board, EnvAt, by_name};
use thimble_testkit::{ArtifactSpec, Content, TempDir};

const THIMBLE: &str = env!("CARGO_BIN_EXE_thimble");
const SLOT: u64 = 1 << 20;
const VARIABLES: [&str; 5] =
    ["bootcount=0", "bootlimit=1", "mender_boot_part=2", "other=kept as it is", "upgrade_available=0"];

/// `compatible` as Linux has it on these boards, and `uname -m`; for others what could be.
fn tree(board: &Board) -> (Vec<&'static str>, &'static str) {
    match board.name {
        "beaglebone" => (vec!["ti,am335x-bone-black", "ti,am335x-bone", "ti,am33xx"], "armv7l"),
        "orangepi-pc" => (vec!["xunlong,orangepi-pc", "allwinner,sun8i-h3"], "armv7l"),
        "raspberrypi3" => (vec!["raspberrypi,3-model-b", "brcm,bcm2837"], "aarch64"),
        "verdin-imx8mm" => (
            vec![
                "toradex,verdin-imx8mm-wifi-dev",
                "toradex,verdin-imx8mm-wifi",
                "toradex,verdin-imx8mm",
                "fsl,imx8mm",
            ],
            "aarch64",
        ),
        _ => (vec![board.compatible[0], "acme,chip"], board.machine.unwrap_or("armv7l")),
    }
}

/// Where the copies of the environment are: file below the root, offset, size.
fn copies(board: &Board) -> Vec<(&'static str, i64, usize)> {
    match board.env {
        EnvAt::Raw { device, offset, redundant, size } => {
            let offsets = [Some(offset), redundant].into_iter().flatten();
            offsets.map(|at| (device, at, size as usize)).collect()
        }
        EnvAt::File { path, redundant, size, .. } => {
            let paths = [Some(path), redundant].into_iter().flatten();
            paths.map(|path| (path, 0, size as usize)).collect()
        }
        EnvAt::FwSetenv | EnvAt::Grub => Vec::new(),
    }
}

fn image(flag: Option<u8>, variables: &[&str], size: usize) -> Vec<u8> {
    let mut data = variables.join("\0").into_bytes();
    data.resize(size - if flag.is_some() { 5 } else { 4 }, 0);
    let mut crc = flate2::Crc::new();
    crc.update(&data);
    [&crc.sum().to_le_bytes()[..], flag.as_slice(), &data].concat()
}

/// A directory that stands for a board.
struct Sim {
    dir: TempDir,
    board: &'static Board,
}

/// What a run of the program left.
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    /// The lines `key: value (source)` by their keys; notes and problems are lists.
    fn lines(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut lines: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for line in self.out.lines() {
            let (key, rest) = line.split_once(": ").unwrap_or_else(|| panic!("no key: {line}"));
            if !["note", "problem"].contains(&key) {
                assert!(rest.contains(" (") && rest.ends_with(')'), "no source: {line}");
            }
            lines.entry(key).or_default().push(rest);
        }
        lines
    }

    fn value(&self, key: &str) -> &str {
        let lines = self.lines();
        let Some([line]) = lines.get(key).map(Vec::as_slice) else { panic!("{key} in {}", self.out) };
        line
    }

    fn all(&self, key: &str) -> String {
        self.lines().remove(key).unwrap_or_default().join("\n")
    }
}

impl Sim {
    fn new(board: &'static Board) -> Sim {
        let sim = Sim { dir: TempDir::new(&format!("board-{}", board.name)), board };
        let (compatible, machine) = tree(board);
        sim.tree(compatible.iter().flat_map(|c| c.bytes().chain([0])).collect::<Vec<u8>>());
        sim.write("proc/sys/kernel/arch", format!("{machine}\n"));
        sim.write("var/lib/mender/device_type", format!("device_type={}\n", board.device_type));
        fs::create_dir_all(sim.root().join("run")).expect("directory");
        for (slot, fill) in [(board.rootfs_a, 2), (board.rootfs_b, 3)] {
            sim.write(slot, vec![fill; SLOT as usize]);
        }
        let places = copies(board);
        for (number, (file, offset, size)) in places.iter().enumerate() {
            let flag = (places.len() > 1).then_some(1 - number as u8);
            sim.put(file, *offset, &image(flag, &VARIABLES, *size));
        }
        for name in board.quirks.write_protected {
            sim.write(&format!("sys/class/block/{name}/force_ro"), "1\n");
        }
        sim.boot(board.rootfs_a);
        sim
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root().join(path.trim_start_matches('/'))
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().expect("parent")).expect("directory");
        fs::write(path, content).expect("file");
    }

    fn tree(&self, compatible: impl AsRef<[u8]>) {
        self.write("sys/firmware/devicetree/base/compatible", compatible);
    }

    fn config(&self, text: &str) {
        self.write("etc/mender/mender.conf", text);
    }

    /// Writes into a device, which becomes as long as needed; a negative offset is from its end.
    fn put(&self, device: &str, offset: i64, bytes: &[u8]) {
        let path = self.at(device);
        fs::create_dir_all(path.parent().expect("parent")).expect("directory");
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path).expect("opens");
        let at = match u64::try_from(offset) {
            Ok(at) => at,
            Err(_) => (4 << 20) - offset.unsigned_abs(),
        };
        let end = if offset < 0 { 4 << 20 } else { at + bytes.len() as u64 };
        let length = file.metadata().expect("length").len().max(end);
        file.set_len(length).expect("sparse");
        file.write_all_at(bytes, at).expect("writes");
    }

    /// The variables of the copy that counts, as a boot loader would read them.
    fn variables(&self) -> Vec<String> {
        let places = copies(self.board);
        let read = |(device, offset, size): &(&str, i64, usize)| {
            let file = fs::read(self.at(device)).expect("readable");
            let at = if *offset < 0 { file.len() - offset.unsigned_abs() as usize } else { *offset as usize };
            file[at..at + size].to_vec()
        };
        let header = if places.len() > 1 { 5 } else { 4 };
        let good = places.iter().map(read).filter(|image| {
            let mut crc = flate2::Crc::new();
            crc.update(&image[header..]);
            image[..4] == crc.sum().to_le_bytes()
        });
        let image = good.max_by_key(|image| image[header - 1]).expect("a good copy");
        let text = String::from_utf8_lossy(&image[header..]).into_owned();
        text.split('\0').take_while(|v| !v.is_empty()).map(str::to_owned).collect()
    }

    fn variable(&self, name: &str) -> String {
        let all = self.variables();
        let value = all.iter().find_map(|v| v.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_default().to_owned()
    }

    /// From now on this slot runs.
    fn boot(&self, slot: &str) {
        self.write("proc/self/mountinfo", format!("22 1 179:2 / / rw - ext4 {slot} rw\n"));
        self.write("proc/cmdline", format!("root={slot} rootwait\n"));
    }

    fn run(&self, args: &[&str]) -> Ran {
        let done =
            Command::new(THIMBLE).arg("--root").arg(self.root()).args(args).stdin(Stdio::null()).output();
        let done = done.expect("it starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran { code: done.status.code(), out: text(&done.stdout), err: text(&done.stderr) }
    }

    fn show(&self, code: i32) -> Ran {
        let ran = self.run(&["board"]);
        assert_eq!(ran.code, Some(code), "{}\n{}{}", self.board.name, ran.out, ran.err);
        assert!(!ran.err.contains("panicked"), "{}", ran.err);
        ran
    }
}

fn sim(name: &str) -> Sim {
    Sim::new(by_name(ALL, name).expect("known"))
}

fn artifact(dir: &Path, device_type: &str) -> String {
    let spec = ArtifactSpec::rootfs("release-2", Content::Pattern { size: 300_001, seed: 2 });
    let path = dir.join("release-2.mender");
    spec.device_types(&[device_type]).write(&path).expect("written");
    path.to_string_lossy().into_owned()
}

#[test]
fn every_board_is_recognised_and_all_that_it_supplies_is_shown_with_its_source() {
    for board in ALL {
        let sim = Sim::new(board);
        let ran = sim.show(0);
        let by = format!("(board {})", board.name);
        let (entries, _) = tree(board);
        let found = entries.iter().find(|c| board.compatible.contains(c)).expect("an entry");
        assert_eq!(ran.value("board"), format!("{} (device tree, {found})", board.name));
        assert_eq!(ran.value("device_tree"), format!("{} (compatible)", tree(board).0.join(" ")));
        let file = sim.at("var/lib/mender/device_type");
        assert_eq!(ran.value("device_type"), format!("{} ({})", board.device_type, file.display()));
        assert_eq!(ran.value("slot_a"), format!("{} {by}", sim.at(board.rootfs_a).display()));
        assert_eq!(ran.value("slot_b"), format!("{} {by}", sim.at(board.rootfs_b).display()));
        assert_eq!(ran.value("slot_b_bytes"), format!("{SLOT} (device)"));
        assert_eq!(ran.value("running"), format!("{} (mounted as /)", sim.at(board.rootfs_a).display()));
        assert!(ran.value("other").starts_with(&sim.at(board.rootfs_b).display().to_string()));
        assert_eq!(ran.value("other_mounted"), "no (mounts)");
        let places = copies(board);
        for (number, (device, offset, size)) in places.iter().enumerate() {
            let key = format!("environment_{}", number + 1);
            let sign = if *offset < 0 { "-" } else { "" };
            let device = sim.at(device);
            let at = format!("{} {sign}{:#x} {size:#x} {by}", device.display(), offset.unsigned_abs());
            assert_eq!(ran.value(&key), at, "{}", ran.out);
            assert!(ran.value(&format!("{key}_state")).starts_with("good (flag "), "{}", ran.out);
        }
        let redundant = places.len() > 1;
        assert_eq!(
            ran.value("environment_redundant"),
            format!("{} {by}", if redundant { "yes" } else { "no" })
        );
        assert_eq!(ran.all("note").contains("one copy"), !redundant, "{}", ran.out);
        assert_eq!(ran.all("note").contains("never tried"), !board.emulated, "{}", ran.out);
        assert_eq!(ran.value("environment_in_use"), "1 (CRC and flag)");
        assert_eq!(ran.value("mender_boot_part"), "2 (environment)");
        assert_eq!(ran.value("upgrade_available"), "0 (environment)");
        assert_eq!(ran.value("bootcount"), "0 (environment)");
        assert_eq!(ran.value("altbootcmd"), "none (environment)");
    }
}

#[test]
fn every_board_is_updated_without_any_configuration_and_keeps_its_other_variables() {
    for board in ALL {
        let sim = Sim::new(board);
        let file = artifact(sim.dir.path(), board.device_type);
        let ran = sim.run(&["install", &file]);
        assert_eq!(ran.code, Some(0), "{}\n{}{}", board.name, ran.out, ran.err);
        assert_eq!([sim.variable("mender_boot_part"), sim.variable("upgrade_available")], ["3", "1"]);
        assert_eq!(sim.variable("other"), "kept as it is");
        let image = fs::read(sim.at(board.rootfs_b)).expect("slot");
        assert!(image[..300_001].iter().any(|b| *b != 3) && image[300_001..].iter().all(|b| *b == 3));
        assert_eq!(fs::read(sim.at(board.rootfs_a)).expect("slot"), vec![2; SLOT as usize]);
        for name in board.quirks.write_protected {
            let switch =
                fs::read_to_string(sim.at(&format!("sys/class/block/{name}/force_ro"))).expect("switch");
            assert_eq!(switch.trim(), "1", "{name} is protected again");
        }
        let ran = sim.show(0);
        assert!(ran.all("note").contains("it starts with the next restart"), "{}", ran.out);
        sim.boot(board.rootfs_b);
        let ran = sim.show(0);
        assert!(ran.all("note").contains("commit it or roll back"), "{}", ran.out);
        let ran = sim.run(&["commit"]);
        assert_eq!(ran.code, Some(0), "{}\n{}{}", board.name, ran.out, ran.err);
        assert_eq!([sim.variable("mender_boot_part"), sim.variable("upgrade_available")], ["3", "0"]);
        assert!(sim.show(0).value("running").starts_with(&sim.at(board.rootfs_b).display().to_string()));
    }
}

#[test]
fn what_is_configured_wins_over_the_board() {
    let sim = sim("orangepi-pc");
    let at = |path: &str| sim.at(path).display().to_string();
    for slot in ["dev/other5", "dev/other6"] {
        sim.write(slot, vec![0; 4096]);
    }
    sim.config(&format!(
        "{{\n \"RootfsPartA\": \"{}\",\n \"RootfsPartB\": \"{}\"}}",
        at("dev/other5"),
        at("dev/other6")
    ));
    sim.write("etc/fw_env.config", format!("# ours\n{} 0 4000\n", at("dev/env")));
    let mut variables = VARIABLES;
    variables[2] = "mender_boot_part=6";
    sim.put("dev/env", 0, &image(None, &variables, 0x4000));
    sim.boot("/dev/other6");
    let ran = sim.show(0);
    let conf = at("etc/mender/mender.conf");
    assert_eq!(ran.value("board"), "orangepi-pc (device tree, xunlong,orangepi-pc)");
    assert_eq!(
        ran.value("slot_a"),
        format!("{} (RootfsPartA in {conf}, line 2, column 17)", at("dev/other5"))
    );
    assert_eq!(
        ran.value("slot_b"),
        format!("{} (RootfsPartB in {conf}, line 3, column 17)", at("dev/other6"))
    );
    let fw = at("etc/fw_env.config");
    assert_eq!(ran.value("environment_1"), format!("{} 0x0 0x4000 ({fw}, line 2)", at("dev/env")));
    assert_eq!(ran.value("environment_redundant"), format!("no ({fw})"));
    assert!(ran.value("running").starts_with(&at("dev/other6")), "{}", ran.out);
}

#[test]
fn half_a_pair_of_slots_is_not_completed() {
    let sim = sim("orangepi-pc");
    sim.config("{\"RootfsPartB\": \"/dev/mmcblk0p3\"}");
    let ran = sim.show(1);
    assert_eq!(ran.value("slot_a"), "none (default)");
    assert!(ran.all("problem").contains("RootfsPartB is set but RootfsPartA is not"), "{}", ran.out);
    let file = artifact(sim.dir.path(), "orangepi-pc");
    let ran = sim.run(&["install", &file]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("ROOTFS-NOT-CONFIGURED"), "{}", ran.err);
}

#[test]
fn a_fw_env_config_that_is_there_is_never_passed_over() {
    let sim = sim("orangepi-pc");
    let path = sim.at("etc/fw_env.config");
    let damage: [&dyn Fn(); 3] = [
        &|| symlink("/data/u-boot/fw_env.config", &path).expect("a link that leads nowhere"),
        &|| fs::write(&path, "# nothing\n").expect("file"),
        &|| fs::create_dir(&path).expect("directory"),
    ];
    fs::create_dir_all(sim.at("etc")).expect("directory");
    for make in damage {
        make();
        let ran = sim.show(1);
        assert!(ran.all("problem").contains("BOOT-ENV-CONFIG"), "{}", ran.out);
        assert!(!ran.out.contains("environment_1:"), "{}", ran.out);
        if fs::symlink_metadata(&path).expect("there").is_dir() {
            fs::remove_dir(&path).expect("removed");
        } else {
            fs::remove_file(&path).expect("removed");
        }
    }
    sim.show(0);
}

#[test]
fn the_configuration_can_name_the_board_or_turn_it_off() {
    let sim = sim("orangepi-pc");
    let conf = sim.at("etc/mender/mender.conf").display().to_string();
    sim.tree("acme,toaster\0");
    sim.config("{\"Board\": \"orangepi-pc\"}");
    let ran = sim.show(0);
    assert_eq!(ran.value("board"), format!("orangepi-pc (Board in {conf}, line 1, column 11)"));
    sim.tree("xunlong,orangepi-pc\0");
    sim.config("{\"Board\": \"none\"}");
    let ran = sim.show(1);
    assert_eq!(ran.value("board"), format!("none (Board in {conf}, line 1, column 11)"));
    assert_eq!(ran.value("slot_a"), "none (default)");
    assert!(ran.all("problem").contains("BOOT-ENV-CONFIG: cannot read"), "{}", ran.out);
    sim.config("{\"Board\": \"\"}");
    assert!(sim.show(0).value("board").starts_with("orangepi-pc (device tree"));
    for wrong in ["\"orange\"", "\"OrangePi-PC\"", "7"] {
        sim.config(&format!("{{\"Board\": {wrong}}}"));
        let ran = sim.run(&["board"]);
        assert_eq!(ran.code, Some(1));
        assert!(
            ran.err.contains("CONFIG-VALUE") && ran.err.contains("beaglebone, orangepi-pc"),
            "{}",
            ran.err
        );
    }
}

#[test]
fn an_unknown_board_changes_nothing() {
    let sim = sim("orangepi-pc");
    for compatible in [&b"acme,toaster\0allwinner,sun8i-h3\0"[..], b"", b"\0\0", b"\xff\xfe\0\x1b[2J\0"] {
        sim.tree(compatible);
        let ran = sim.show(1);
        let unknown = "none (not known: /sys/firmware/devicetree/base/compatible)";
        assert_eq!(ran.value("board"), unknown);
        assert!(!ran.out.contains('\x1b'), "what the tree says is not printed raw");
        assert_eq!((ran.value("slot_a"), ran.value("slot_b")), ("none (default)", "none (default)"));
        assert!(ran.all("problem").contains("RootfsPartA and RootfsPartB are not set"), "{}", ran.out);
    }
    fs::remove_dir_all(sim.at("sys/firmware")).expect("removed");
    assert_eq!(sim.show(1).value("board"), "none (no device tree)");
    let file = artifact(sim.dir.path(), "orangepi-pc");
    let ran = sim.run(&["install", &file]);
    assert_eq!((ran.code, ran.err.contains("ROOTFS-NOT-CONFIGURED")), (Some(1), true), "{}", ran.err);
    assert_eq!(fs::read(sim.at("dev/mmcblk0p3")).expect("slot"), vec![3; SLOT as usize]);
}

#[test]
fn a_device_tree_that_is_too_long_or_no_file_is_refused_without_waiting() {
    let sim = sim("orangepi-pc");
    sim.tree([&b"xunlong,orangepi-pc\0"[..], &[b'x'; 5000]].concat());
    let ran = sim.show(1);
    assert_eq!(ran.value("board"), "none (device tree)");
    assert!(ran.all("problem").contains("longer than 4096 bytes"), "{}", ran.out);
    let path = sim.at("sys/firmware/devicetree/base/compatible");
    fs::remove_file(&path).expect("removed");
    thimble::sys::file::make_fifo(&path, 0o600).expect("a named pipe");
    assert_eq!(sim.show(1).value("board"), "none (no device tree)");
    // The older name of the same tree.
    sim.write("proc/device-tree/compatible", "xunlong,orangepi-pc\0allwinner,sun8i-h3\0");
    assert!(sim.show(0).value("board").starts_with("orangepi-pc "));
}

#[test]
fn the_two_virt_machines_are_told_apart_by_their_kernel() {
    let sim = sim("qemu-virt-armv7");
    for (machine, board) in
        [("armv7l", "qemu-virt-armv7"), ("armv8l", "qemu-virt-armv7"), ("aarch64", "qemu-virt-aarch64")]
    {
        sim.write("proc/sys/kernel/arch", machine);
        let ran = sim.run(&["board"]);
        assert_eq!(ran.value("board"), format!("{board} (device tree, linux,dummy-virt)"), "{machine}");
    }
    sim.write("proc/sys/kernel/arch", "x86_64\n");
    assert!(sim.show(1).value("board").starts_with("none (not known"));
}

/// A board that is taken for a known one, but is partitioned otherwise, must not lose data.
#[test]
fn without_an_environment_that_agrees_nothing_is_overwritten() {
    let sim = sim("orangepi-pc");
    let file = artifact(sim.dir.path(), "orangepi-pc");
    let try_it = |says: &str| {
        let ran = sim.run(&["install", &file]);
        assert_eq!((ran.code, ran.err.contains(says)), (Some(1), true), "{says}: {}", ran.err);
        assert_eq!(fs::read(sim.at("dev/mmcblk0p3")).expect("slot"), vec![3; SLOT as usize], "{says}");
        let ran = sim.show(1);
        assert!(ran.all("problem").contains(says) || says == "ROOTFS-MISMATCH", "{says}: {}", ran.out);
    };
    let fill = |variables: &[&str]| {
        for (device, offset, size) in copies(sim.board) {
            sim.put(device, offset, &image(Some(1), variables, size));
        }
    };
    fill(&["bootdelay=2"]);
    try_it("no mender_boot_part");
    fill(&["mender_boot_part=3", "upgrade_available=0"]);
    try_it("ROOTFS-MISMATCH");
    fill(&["mender_boot_part=2"]);
    sim.boot("/dev/mmcblk0p1");
    try_it("BOOT-SLOTS-ROOT");
    sim.boot("/dev/mmcblk0p2");
    for (device, offset, size) in copies(sim.board) {
        sim.put(device, offset, &vec![0xff; size]);
    }
    try_it("BOOT-ENV-CORRUPT");
}

#[test]
fn a_damaged_copy_is_shown_and_is_repaired_by_the_next_write() {
    let sim = sim("orangepi-pc");
    let (device, offset, _) = copies(sim.board)[0];
    sim.put(device, offset + 100, b"rubbish");
    let ran = sim.show(0);
    assert!(ran.value("environment_1_state").starts_with("bad (CRC is "), "{}", ran.out);
    assert_eq!(ran.value("environment_2_state"), "good (flag 0)");
    assert_eq!(ran.value("environment_in_use"), "2 (CRC and flag)");
    assert!(ran.all("note").contains("copy 1 of the environment is bad"), "{}", ran.out);
    let file = artifact(sim.dir.path(), "orangepi-pc");
    assert_eq!(sim.run(&["install", &file]).code, Some(0));
    let ran = sim.show(0);
    assert_eq!(ran.value("environment_1_state"), "good (flag 1)");
    assert_eq!(ran.value("environment_in_use"), "1 (CRC and flag)");
}

#[test]
fn a_missing_device_type_stays_an_error_and_is_explained() {
    let sim = sim("raspberrypi3");
    let file = sim.at("var/lib/mender/device_type");
    fs::remove_file(&file).expect("removed");
    let ran = sim.show(1);
    assert_eq!(ran.value("device_type"), format!("none ({})", file.display()));
    assert!(ran.all("problem").contains("Write the line device_type=raspberrypi3"), "{}", ran.out);
    let artifact = artifact(sim.dir.path(), "raspberrypi3");
    let ran = sim.run(&["install", &artifact]);
    assert_eq!((ran.code, ran.err.contains("STORE-DEVICE-TYPE")), (Some(1), true), "{}", ran.err);
}

#[test]
fn a_redundant_environment_can_be_asked_for_whatever_the_board_has() {
    let sim = sim("raspberrypi3");
    sim.config("{\"BootEnvironment\": {\"RequireRedundant\": true}}");
    let ran = sim.show(1);
    assert!(ran.all("problem").contains("BOOT-ENV-SINGLE: board raspberrypi3 names one copy"), "{}", ran.out);
}
