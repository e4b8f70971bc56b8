//! The examples of docs/update-control.md, run as they are written there.
#![allow(clippy::expect_used, clippy::panic)] // These are tests.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use thimble_testkit::{Daemon, Scene};

const THIMBLE: &str = env!("CARGO_BIN_EXE_thimble");

/// The shell snippets below a heading of the document, in order.
fn examples<const N: usize>(heading: &str) -> [String; N] {
    blocks(&format!("### {heading}"), "sh")
}

/// The blocks of a kind in a section of the document, in order.
fn blocks<const N: usize>(heading: &str, kind: &str) -> [String; N] {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/update-control.md");
    let text = fs::read_to_string(path).expect("the document");
    let (_, rest) = text.split_once(&format!("\n{heading}\n")).expect("the heading");
    let section = rest.split("\n##").next().expect("a section");
    // Before, between and behind the fences in turn: whatever stands at an odd place is a block, its kind in front.
    let blocks = section.split("\n```").skip(1).step_by(2);
    let blocks = blocks.filter_map(|block| block.strip_prefix(kind)?.strip_prefix('\n'));
    let blocks: Vec<String> = blocks.map(str::to_owned).collect();
    blocks.try_into().unwrap_or_else(|found| panic!("{heading}: {found:?}"))
}

/// A device on which the snippets run.
struct Board {
    scene: Scene,
    bin: PathBuf,
    /// Where the snippets' own files are.
    run: PathBuf,
}

impl Board {
    /// Maps live that many seconds.
    fn new(name: &str, lifetime: &str) -> Board {
        let scene = Scene::configured(name, THIMBLE, &[("UpdateControlMapExpirationTimeSeconds", lifetime)]);
        let (bin, run) = (scene.path().join("tools"), scene.path().join("run"));
        fs::create_dir(&bin).and_then(|()| fs::create_dir(&run)).expect("directories");
        let board = Board { scene, bin, run };
        let root = board.scene.device.root();
        board.tool("thimble", &format!("exec '{THIMBLE}' --root '{}' \"$@\"", root.display()));
        board.scene.offer(&Scene::release());
        board
    }

    /// Puts a program in the way.
    fn tool(&self, name: &str, text: &str) {
        let path = self.bin.join(name);
        let text = if text.starts_with("#!") { text.to_owned() } else { format!("#!/bin/sh\n{text}\n") };
        fs::write(&path, text).expect("write it");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
    }

    /// A program that prints what a file says.
    fn tells(&self, name: &str, text: &str) {
        let file = self.run.join(format!("{name}.says"));
        fs::write(&file, text).expect("write it");
        self.tool(name, &format!("cat '{}'", file.display()));
    }

    fn start(&self, snippet: &str) -> Child {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("sh");
        command.args(["-eu", "-c", snippet]).env("PATH", format!("{}:{path}", self.bin.display()));
        command.env("XDG_RUNTIME_DIR", &self.run).current_dir(&self.run).stdin(Stdio::null());
        command.env("MENDER_DATASTORE_DIR", self.scene.device.root().join("var/lib/mender"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("sh")
    }

    /// Runs a snippet; what it prints.
    #[track_caller]
    fn shell(&self, snippet: &str) -> String {
        let Output { status, stdout, stderr } = self.start(snippet).wait_with_output().expect("it ends");
        let text = String::from_utf8_lossy(&stdout).into_owned();
        assert!(status.success(), "{snippet}\n{text}{}", String::from_utf8_lossy(&stderr));
        text
    }

    #[track_caller]
    fn wait_for(&self, status: &str) {
        self.scene.wait_until(|_| self.scene.statuses().last().is_some_and(|last| last == status));
    }

    /// The restart that the daemon has asked for, and another daemon.
    fn restart(&mut self, mut daemon: Daemon) -> Daemon {
        daemon.wait();
        self.scene.device.boot();
        self.scene.daemon()
    }

    /// The update has ended well.
    #[track_caller]
    fn assert_new(&mut self, mut daemon: Daemon) {
        self.wait_for("success");
        assert_eq!(daemon.stop(), Some(0), "{}", self.scene.daemon_log());
        self.scene.assert_success_reported();
        self.scene.assert_new();
    }
}

const LONG: Duration = Duration::from_secs(7);

/// The text with T for each length of time, of one unit or of two.
fn timeless(text: &str) -> String {
    let mut words: Vec<&str> = text.split(' ').collect();
    for n in 1..words.len() {
        let unit = words[n].split([',', '\n']).next().unwrap_or_default();
        if ["s", "min", "h", "d"].contains(&unit) {
            words[n - 1] = "T";
        }
    }
    words.join(" ").replace("T min T s", "T").replace("T min", "T").replace("T s", "T")
}

#[test]
fn at_the_console_a_pause_is_set_shown_and_taken_back_as_the_document_says() {
    let [commands] = blocks("## At the console", "sh");
    let [shown] = blocks("## What is going on", "");
    let (prompt, shown) = shown.split_once('\n').expect("a command and what it prints");
    let [pause, show, go_on] = commands.lines().collect::<Vec<_>>()[..] else { panic!("{commands}") };
    assert_eq!(prompt.trim_start_matches("# "), show.split('#').next().expect("text").trim_end());
    let mut board = Board::new("console", "3600");
    board.shell(pause);
    assert_eq!(board.scene.run(&["check"]).code, None, "the restart");
    board.scene.device.boot();
    board.scene.run(&["check", "--max-wait", "0"]).expect(6);
    assert_eq!(timeless(board.shell(show).trim_end()), timeless(shown));
    board.shell(go_on);
    board.scene.run(&["check"]).expect(0);
    board.scene.assert_success_reported();
    board.scene.assert_new();
}

#[test]
fn the_user_presses_start_update() {
    let [application, ready] = examples("The user presses \"Start update\"");
    let mut board = Board::new("user", "6");
    let running = board.start(&application);
    let begun = Instant::now();
    while !board.shell("thimble control show").contains("install  pause") {
        assert!(begun.elapsed() < Duration::from_secs(20), "the application does not say pause");
    }
    assert_eq!(board.shell(&ready), "");
    let daemon = board.scene.daemon();
    board.wait_for("pause_before_installing");
    assert_eq!(board.shell(&ready), "An update is ready. Start it now?\n");
    // Longer than a map lives.
    std::thread::sleep(LONG);
    assert_eq!(board.scene.statuses(), ["downloading", "pause_before_installing"]);
    fs::write(board.run.join("start-update"), "").expect("press the button");
    board.wait_for("rebooting");
    let ended = running.wait_with_output().expect("the application ends");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let daemon = board.restart(daemon);
    board.assert_new(daemon);
}

#[test]
fn the_device_is_in_use_and_nothing_starts() {
    let [script, begin, end, _] = examples("The device is in use, nothing starts");
    let mut board = Board::new("inuse", "600");
    board.tool("in-use", &script);
    board.shell(&begin);
    let daemon = board.scene.daemon();
    board.wait_for("pause_before_installing");
    board.shell(&begin);
    let reason = "pause: map 5a0d3c1e-64f2-4b8b-9a57-2f1f0c6f7d11, priority 5";
    assert!(board.shell("thimble control show").contains(reason));
    assert_eq!(board.scene.statuses(), ["downloading", "pause_before_installing"]);
    board.shell(&end);
    board.wait_for("rebooting");
    let daemon = board.restart(daemon);
    board.assert_new(daemon);
    assert!(board.shell("thimble control show").contains("maps: none"));
}

#[test]
fn a_technician_lets_the_update_through_although_the_device_is_in_use() {
    let [script, begin, _, force] = examples("The device is in use, nothing starts");
    let board = Board::new("technician", "600");
    board.tool("in-use", &script);
    board.shell(&begin);
    let _daemon = board.scene.daemon();
    board.wait_for("pause_before_installing");
    board.shell(&force);
    board.wait_for("rebooting");
}

/// The example about QA, until all is installed and restarted and no verdict is known.
fn until_commit(name: &str) -> (Board, String) {
    let [gate] = examples("The fleet waits to commit until QA says so");
    let mut board = Board::new(name, "600");
    board.tool("curl", "exit 22");
    board.shell(&gate);
    assert_eq!(board.scene.run(&["check"]).code, None, "the restart ends it");
    board.scene.device.boot();
    board.scene.run(&["check", "--max-wait", "0"]).expect(6);
    board.tells("curl", "not yet");
    board.shell(&gate);
    board.scene.run(&["check", "--max-wait", "0"]).expect(6);
    // Cut off, it stays on the new system and waits.
    board.scene.device.boot();
    board.shell(&gate);
    board.scene.run(&["check", "--max-wait", "0"]).expect(6);
    assert_eq!(board.scene.statuses().last().map(String::as_str), Some("pause_before_committing"));
    assert_eq!(board.scene.device.running_slot(), 3);
    (board, gate)
}

#[test]
fn the_fleet_commits_when_qa_says_so() {
    let (mut board, gate) = until_commit("good");
    board.tells("curl", "good");
    board.shell(&gate);
    board.scene.run(&["check"]).expect(0);
    board.scene.assert_success_reported();
    board.scene.assert_new();
}

#[test]
fn the_fleet_goes_back_when_qa_says_no() {
    let (mut board, gate) = until_commit("bad");
    board.tells("curl", "bad");
    board.shell(&gate);
    let ending = board.scene.update();
    assert_eq!(ending.code, 5, "{}", ending.output);
    board.scene.assert_failure_reported();
    board.scene.assert_old();
}

#[test]
fn all_restart_together_in_the_window() {
    let [window] = examples("All restart together, in a window");
    let mut boards = ["one", "two"].map(|name| Board::new(name, "600"));
    let mut daemons = Vec::new();
    for board in &boards {
        board.tells("date", "02:59");
        board.shell(&window);
        daemons.push(board.scene.daemon());
        board.wait_for("pause_before_rebooting");
    }
    for board in &boards {
        board.shell(&window);
        assert_eq!(board.scene.device.reboots_asked(), 0);
    }
    for board in &boards {
        board.tells("date", "03:04");
        board.shell(&window);
    }
    for board in &boards {
        board.wait_for("rebooting");
    }
    for (board, daemon) in boards.iter_mut().zip(daemons) {
        let daemon = board.restart(daemon);
        board.assert_new(daemon);
        assert_eq!(board.scene.device.reboots_asked(), 1);
    }
}
