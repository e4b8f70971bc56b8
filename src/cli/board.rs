//! `board`: which board this is, what updates of the root file system work with and from where, and what is wrong. Every
//! line is `key: value (source)`, for people and for scripts; `note` and `problem` are sentences. Changes nothing.

use super::say;
use super::setup::Place;
use std::fmt::Display;
use std::fs::File;
use std::path::Path;
use std::process::ExitCode;
use thimble::board::{Access, Found, Identity, Plan};
use thimble::boot::native::Inspection;
use thimble::boot::slots::{self, Evidence, Slot};
use thimble::boot::{Variables, check_canary, is_protected};
use thimble::sys::block::{self, Node};

const PART: &str = "mender_boot_part";
const AVAILABLE: &str = "upgrade_available";
const VARIABLES: [&str; 5] = [PART, AVAILABLE, "bootcount", "bootlimit", "altbootcmd"];

/// Prints everything. Exit code 1 if there is a problem.
pub fn show(place: &Place) -> ExitCode {
    let identity = place.identity();
    let plan = place.plan(&identity);
    let mut report = Report { place, plan: &plan, notes: Vec::new(), problems: Vec::new() };
    report.board(&identity);
    report.device_type(&identity);
    let known = report.parts();
    if let Some(variables) = report.environment()
        && known
    {
        report.slots(&variables);
    }
    for (key, sentences) in [("note", &report.notes), ("problem", &report.problems)] {
        sentences.iter().for_each(|sentence| say(&format!("{key}: {sentence}")));
    }
    ExitCode::from(u8::from(!report.problems.is_empty()))
}

/// What is printed as it is found, and what is kept for the end.
struct Report<'a> {
    place: &'a Place,
    plan: &'a Plan,
    notes: Vec<String>,
    problems: Vec<String>,
}

fn line(key: &str, value: &dyn Display, source: &dyn Display) {
    say(&format!("{key}: {value} ({source})"));
}

fn yes_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

impl Report<'_> {
    fn note(&mut self, sentence: String) {
        self.notes.push(sentence);
    }

    fn problem(&mut self, sentence: String) {
        self.problems.push(sentence);
    }

    fn board(&mut self, identity: &Identity) {
        let source = match &identity.found {
            Found::Configured(at) => format!("Board in {at}"),
            Found::ByEntry(entry) => format!("device tree, {entry}"),
            Found::Unknown(tree) => format!("not known: {tree}"),
            Found::Unusable(why) => {
                self.problem(format!("the device tree is of no use: {why}. Set Board in mender.conf"));
                "device tree".to_owned()
            }
            Found::NoTree => "no device tree".to_owned(),
        };
        line("board", &identity.board.map_or("none", |b| b.name), &source);
        if !identity.compatible.is_empty() {
            line("device_tree", &identity.compatible.join(" "), &"compatible");
        }
        if let Some(board) = identity.board.filter(|b| !b.emulated) {
            self.note(format!(
                "what is known about {} was never tried: compare it with your boot loader's settings",
                board.name
            ));
        }
    }

    fn device_type(&mut self, identity: &Identity) {
        let file = self.place.device_type_file();
        let name = identity.board.map_or("NAME", |b| b.device_type);
        let file = file.display();
        let problem = match self.place.device_type() {
            Ok(kind) if !kind.is_empty() => return line("device_type", &kind, &file),
            Ok(_) => format!("{file} has no device type"),
            Err(e) => e.to_string(),
        };
        line("device_type", &"none", &file);
        self.problem(format!(
            "{problem}. Write the line device_type={name} to it, as Artifacts call the device"
        ));
    }

    /// Whether both are known.
    fn parts(&mut self) -> bool {
        let plan = self.plan;
        for (key, part) in [("slot_a", &plan.part_a), ("slot_b", &plan.part_b)] {
            match part {
                None => line(key, &"none", &"default"),
                Some(part) => {
                    line(key, &part.value, &part.origin);
                    match bytes(Path::new(&part.value), &self.place.root) {
                        Ok(bytes) => line(&format!("{key}_bytes"), &bytes, &"device"),
                        Err(e) => self.problem(format!("{key} {}: {e}", part.value)),
                    }
                }
            }
        }
        if plan.part_a.is_some() && plan.part_b.is_some() {
            return true;
        }
        if let Err(e) = self.place.config.rootfs_parts() {
            self.problem(format!(
                "{}: rootfs-image Artifacts are refused. Or set Board, if yours is known",
                e.text
            ));
        }
        false
    }

    /// What the environment says, if it can be read.
    fn environment(&mut self) -> Option<Variables> {
        let plan = self.plan;
        let (name, detail) = match &plan.access.value {
            Access::Native(_) => ("native", String::new()),
            Access::FwSetenv => ("fw_setenv", String::new()),
            Access::Grub => ("grub", String::new()),
            Access::Commands(get, set) => ("commands", format!("{get}; {set}; ")),
        };
        line("environment", &name, &format!("{detail}{}", plan.access.origin));
        let require = self.place.config.boot_env_require_redundant;
        let mut protected: Vec<String> = plan.write_protected().iter().map(|d| (*d).to_owned()).collect();
        if let Some(native) = plan.native(require) {
            match native.inspect() {
                Ok(found) => self.copies(&found, &mut protected),
                Err(e) => {
                    self.problem(e.to_string());
                    return None;
                }
            }
        }
        self.protection(&protected);
        let mut environment = plan.environment(require);
        let variables = match environment.read(&VARIABLES) {
            Ok(variables) => variables,
            Err(e) => {
                self.problem(e.to_string());
                return None;
            }
        };
        for name in VARIABLES {
            line(name, &variables.get(name).map_or("none", String::as_str), &"environment");
        }
        if let Err(e) = check_canary(environment.as_mut()) {
            self.problem(e.to_string());
        }
        Some(variables)
    }

    fn copies(&mut self, found: &Inspection, protected: &mut Vec<String>) {
        for (copy, number) in found.copies.iter().zip(1..) {
            let area = &copy.area;
            let source = match area.line {
                Some(line) => format!("{}, line {line}", found.by),
                None => found.by.clone(),
            };
            let sign = if area.offset < 0 { "-" } else { "" };
            let at = format!("{} {sign}{:#x} {:#x}", area.device, area.offset.unsigned_abs(), area.size);
            line(&format!("environment_{number}"), &at, &source);
            let key = format!("environment_{number}_state");
            match &copy.flag {
                Ok(flag) => line(&key, &"good", &format!("flag {flag}")),
                Err(e) => {
                    line(&key, &"bad", &e.text);
                    if found.in_use.is_some() {
                        self.note(format!(
                            "copy {number} of the environment is bad: the next write makes it good again; until \
                             then the other is the only one"
                        ));
                    }
                }
            }
            if let Some(name) = Path::new(&area.device).file_name().and_then(|n| n.to_str())
                && !protected.iter().any(|p| p == name)
                && is_protected(name, &self.place.root).is_some()
            {
                protected.push(name.to_owned());
            }
        }
        if let Some(number) = found.in_use {
            line("environment_in_use", &(number + 1), &"CRC and flag");
        }
        line("environment_redundant", &yes_no(found.copies.len() > 1), &found.by);
        if found.copies.len() == 1 {
            self.note(
                "the environment has one copy: power that is lost while it is written can leave a board that does \
                 not boot. BootEnvironment.RequireRedundant refuses that"
                    .to_owned(),
            );
        }
    }

    fn protection(&mut self, devices: &[String]) {
        for name in devices {
            let state = match is_protected(name, &self.place.root) {
                Some(true) => "on",
                Some(false) => "off",
                None => "none",
            };
            line("write_protection", &state, &format!("{name}, lifted for each write"));
        }
    }

    fn slots(&mut self, variables: &Variables) {
        let (Some(a), Some(b)) = (&self.plan.part_a, &self.plan.part_b) else { return };
        let root = &self.place.root;
        let variable = variables.get(PART).map(String::as_str);
        let slots = match slots::detect(root, &a.value, &b.value, variable.unwrap_or("")) {
            Ok(slots) => slots,
            Err(e) => return self.problem(e.to_string()),
        };
        let how = match slots.evidence {
            Evidence::Mounted => "mounted as /",
            Evidence::CommandLine => "root= of the kernel",
            Evidence::Environment => PART,
        };
        line("running", &slots.active.path.display(), &how);
        line("other", &slots.inactive.path.display(), &"the one that does not run");
        let points = slots.inactive.mounted_on(root);
        let mounted = if points.is_empty() { "no".to_owned() } else { points.join(" ") };
        line("other_mounted", &mounted, &"mounts");
        if !points.is_empty() {
            self.note("the other slot is mounted: an update unmounts it, or fails".to_owned());
        }
        if let (Ok(running), Ok(other)) = (bytes(&slots.active.path, root), bytes(&slots.inactive.path, root))
            && running != other
        {
            self.note("the slots differ in size: an image may fit one and not the other".to_owned());
        }
        self.agreement(&slots.active, &slots.inactive, variables);
    }

    /// What runs, and what the boot loader starts.
    fn agreement(&mut self, running: &Slot, other: &Slot, variables: &Variables) {
        let pending = variables.get(AVAILABLE).is_some_and(|v| v == "1");
        match slots::boot_part(variables.get(PART).map(String::as_str)) {
            Err(e) => self.problem(e.to_string()),
            Ok(part) if part == running.number && pending => {
                self.note("an update is being tried: commit it or roll back".to_owned());
            }
            Ok(part) if part == running.number => {}
            Ok(part) if part == other.number && pending => {
                self.note("an update is installed: it starts with the next restart".to_owned());
            }
            Ok(part) => self.problem(format!(
                "{} runs, but the boot loader starts partition {part} ({PART}): updates are refused. Restart; if that \
                 does not help, the boot loader does not read this environment, or ignores {PART}",
                running.path.display()
            )),
        }
    }
}

/// Bytes of a slot.
fn bytes(path: &Path, root: &Path) -> std::io::Result<u64> {
    match block::node(path)? {
        Node::Block(_) => block::size(&File::open(path)?),
        Node::Character(_) => block::volume_size(path, root),
        Node::Regular(bytes) if root != Path::new("/") => Ok(bytes),
        Node::Regular(_) | Node::Other => Err(std::io::Error::other("it is not a block device")),
    }
}
