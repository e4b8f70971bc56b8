//! `thimble control`: what each command does to the maps, what it says, and who may not disturb whom.
#![allow(clippy::expect_used, clippy::panic)] // These are tests.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use thimble::json;
use thimble::sys::file::{self, Lock};
use thimble_testkit::{ID, Ran, Scene, What};

const THIMBLE: &str = env!("CARGO_BIN_EXE_thimble");
/// Whose word `control pause` is.
const OURS: &str = "7468696d-626c-8065-8000-000000000000";
const OTHER: &str = "00000000-0000-4000-8000-00000000000a";

fn scene(name: &str) -> Scene {
    Scene::configured(name, THIMBLE, &[("UpdateControlMapExpirationTimeSeconds", "600")])
}

/// Runs `thimble control` beside whatever else runs on the device.
fn control_with(scene: &Scene, args: &[&str], input: &str, change: impl FnOnce(&mut Command)) -> Ran {
    let mut command = Command::new(THIMBLE);
    command.arg("--root").arg(scene.device.root()).arg("control").args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    change(&mut command);
    let mut child = command.spawn().expect("it starts");
    // It may end without reading.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    let Output { status, stdout, stderr } = child.wait_with_output().expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    let ran = Ran { code: status.code(), signal: None, stdout: text(stdout), stderr: text(stderr) };
    assert!(!ran.stderr.contains("panicked at"), "{ran:#?}");
    ran
}

fn control(scene: &Scene, args: &[&str]) -> Ran {
    control_with(scene, args, "", |_| {})
}

fn set(scene: &Scene, map: &str) -> Ran {
    control_with(scene, &["set", "-"], map, |_| {})
}

fn map(id: &str, priority: i64, rules: &str) -> String {
    format!(r#"{{"id":"{id}","priority":{priority},"states":{{{rules}}}}}"#)
}

/// What `show --json` says, times left out.
fn shown(scene: &Scene) -> json::Value {
    let ran = control(scene, &["show", "--json"]);
    ran.expect(0);
    json::parse(&ran.stdout).expect("JSON")
}

fn at<'a>(value: &'a json::Value, path: &[&str]) -> &'a json::Value {
    path.iter().fold(value, |value, key| json::get(value, key).unwrap_or_else(|| panic!("no {key}")))
}

/// (id, priority, states) of every map.
fn maps(scene: &Scene) -> Vec<(String, i64, String)> {
    let shown = shown(scene);
    let json::Value::Array(maps) = at(&shown, &["maps"]) else { panic!("maps is no list") };
    maps.iter()
        .map(|map| {
            let id = json::string(at(map, &["id"])).expect("an ID").to_owned();
            (id, json::integer(at(map, &["priority"])).expect("a number"), json::write(at(map, &["states"])))
        })
        .collect()
}

fn rule(point: &str, action: &str, then: &str, afterwards: &str) -> String {
    let point = match point {
        "install" => "ArtifactInstall_Enter",
        "reboot" => "ArtifactReboot_Enter",
        "commit" => "ArtifactCommit_Enter",
        other => panic!("{other}"),
    };
    format!(
        r#""{point}":{{"action":"{action}","on_action_executed":"{afterwards}","on_map_expire":"{then}"}}"#
    )
}

/// The verdict at each point.
fn verdicts(scene: &Scene) -> [String; 3] {
    let shown = shown(scene);
    ["ArtifactInstall_Enter", "ArtifactReboot_Enter", "ArtifactCommit_Enter"]
        .map(|point| json::string(at(&shown, &["points", point, "verdict"])).expect("a word").to_owned())
}

fn store(scene: &Scene) -> PathBuf {
    scene.device.root().join("var/lib/mender")
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory").flatten();
    let mut names: Vec<_> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[track_caller]
fn soon(what: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !what() {
        assert!(Instant::now() < end, "it never came true");
        std::thread::sleep(Duration::from_millis(20));
    }
}

// ---- What the commands do.

#[test]
fn help_names_every_command_and_option_of_control_in_lines_of_bounded_length() {
    let output = Command::new(THIMBLE).arg("--help").output().expect("it starts");
    let help = String::from_utf8(output.stdout).expect("UTF-8");
    for words in [
        "control show",
        "control pause|continue|force-continue|fail POINT",
        "control delete",
        "control set FILE|-",
        "--then",
        "--once",
        "--id UUID",
        "--priority N",
        "--json",
    ] {
        assert!(help.contains(words), "{words}");
    }
    assert!(help.lines().all(|line| line.len() <= 112), "{help}");
}

#[test]
fn on_a_device_without_maps_looking_and_taking_back_leave_no_trace() {
    let scene = scene("empty");
    let before = names(&store(&scene));
    control(&scene, &["show"]).expect(0).says(
        "update: none in progress\n\
         points, and what an update would do there now:\n  \
         install  continue: no map objects\n  \
         reboot   continue: no map objects\n  \
         commit   continue: no map objects\n\
         maps: none\n\
         a map lives 10 min, after a restart of the machine 10 min\n",
    );
    assert_eq!(maps(&scene), []);
    control(&scene, &["delete"]).expect(0).says("300\n").complains("there is none");
    control(&scene, &["continue", "install", "commit"]).expect(0).says("300\n").complains("there is none");
    set(&scene, &map(OTHER, 1, "")).expect(0).says("300\n").complains("there is none");
    assert_eq!(names(&store(&scene)), before);
}

#[test]
fn show_says_what_would_happen_at_each_point_and_why() {
    // Two days, so that what is left is the same text for an hour.
    let scene = Scene::configured("why", THIMBLE, &[("UpdateControlMapExpirationTimeSeconds", "172800")]);
    set(&scene, &map(OTHER, 5, &rule("install", "pause", "continue", "pause"))).expect(0);
    control(&scene, &["fail", "install", "commit"]).expect(0);
    control(&scene, &["force-continue", "reboot", "--priority", "-3"]).expect(0);
    control(&scene, &["pause", "reboot", "--once", "--priority=7"]).expect(0);
    let ran = control(&scene, &["show"]);
    let told: Vec<&str> = ran.expect(0).stdout.lines().collect();
    let expected = [
        "update: none in progress",
        "points, and what an update would do there now:",
        &format!("  install  pause: map {OTHER}, priority 5;"),
        "           expires in 1 d 23 h, then continue",
        &format!("  reboot   pause: map {OURS}, priority 7;"),
        "           once, then continue; expires in 1 d 23 h, then continue",
        &format!("  commit   fail: map {OURS}, priority 0;"),
        "           expires in 1 d 23 h, then fail",
        "maps, the highest priority first:",
        &format!("  {OURS}, priority 7 (thimble control)"),
        "    expires in 1 d 23 h",
        "    reboot: pause once, then continue; continue once expired",
        &format!("  {OTHER}, priority 5"),
        "    expires in 1 d 23 h",
        "    install: pause; continue once expired",
        &format!("  {OURS}, priority 0 (thimble control)"),
        "    expires in 1 d 23 h",
        "    install: fail",
        "    commit: fail",
        &format!("  {OURS}, priority -3 (thimble control)"),
        "    expires in 1 d 23 h",
        "    reboot: force-continue",
        "a map lives 2 d, after a restart of the machine 10 min",
    ];
    assert_eq!(told, expected);
    assert!(ran.stdout.lines().all(|line| line.len() <= 80 && line.is_ascii()), "{}", ran.stdout);
    assert_eq!(verdicts(&scene), ["pause", "pause", "fail"]);
    assert_eq!(verdicts(&scene), ["pause", "pause", "fail"], "looking uses nothing up");
}

#[test]
fn set_prints_half_of_the_lifetime_as_the_d_bus_method_did() {
    for (lifetime, half) in [("600", "300\n"), ("5", "2\n"), ("1", "0\n")] {
        let scene =
            Scene::configured("half", THIMBLE, &[("UpdateControlMapExpirationTimeSeconds", lifetime)]);
        set(&scene, &map(OTHER, 0, &rule("commit", "pause", "fail", "pause"))).expect(0).says(half);
        set(&scene, &map(OTHER, 0, "")).expect(0).says(half).complains("is deleted");
    }
    let file = scene("file");
    let path = file.path().join("map.json");
    fs::write(&path, map(OTHER, -10, &rule("commit", "pause", "fail", "pause"))).expect("write it");
    control(&file, &["set", &path.display().to_string()]).expect(0).says("300\n").complains("commit: pause");
    assert_eq!(
        maps(&file),
        [(OTHER.to_owned(), -10, format!("{{{}}}", rule("commit", "pause", "fail", "pause")))]
    );
}

#[test]
fn set_replaces_a_map_of_the_same_identity_and_one_that_says_nothing_deletes_it() {
    let scene = scene("replace");
    let pause = rule("install", "pause", "fail", "pause");
    for (id, priority) in [(OTHER, 0), (OTHER, 1), (OURS, 0)] {
        set(&scene, &map(id, priority, &pause)).expect(0);
    }
    let fail = rule("commit", "fail", "fail", "fail");
    set(&scene, &map(OTHER, 1, &fail)).expect(0);
    let all = |rules: &str| format!("{{{rules}}}");
    assert_eq!(
        maps(&scene),
        [(OTHER.into(), 1, all(&fail)), (OTHER.into(), 0, all(&pause)), (OURS.into(), 0, all(&pause))]
    );
    let nothing = rule("reboot", "continue", "continue", "continue");
    set(&scene, &map(OTHER, 1, &nothing)).expect(0).complains("is deleted");
    // Members in any case, empty strings: as the official client reads them.
    set(&scene, &format!(r#"{{"ID":"{OTHER}","States":{{"ArtifactInstall_Enter":{{"Action":""}}}}}}"#))
        .expect(0)
        .complains("is deleted");
    assert_eq!(maps(&scene), [(OURS.into(), 0, all(&pause))]);
}

#[test]
fn words_change_their_own_points_of_the_map_and_leave_the_others() {
    let scene = scene("merge");
    control(&scene, &["pause", "install", "ArtifactReboot_Enter"]).expect(0).says("300\n");
    control(&scene, &["fail", "commit"]).expect(0);
    control(&scene, &["force-continue", "install"]).expect(0);
    let expected = [
        rule("commit", "fail", "fail", "fail"),
        rule("install", "force_continue", "force_continue", "force_continue"),
        rule("reboot", "pause", "fail", "pause"),
    ];
    assert_eq!(maps(&scene), [(OURS.into(), 0, format!("{{{}}}", expected.join(",")))]);
    control(&scene, &["continue", "install", "reboot"]).expect(0);
    assert_eq!(maps(&scene), [(OURS.into(), 0, format!("{{{}}}", expected[0]))]);
    // Another identity is another map.
    control(&scene, &["pause", "commit", "--id", OTHER, "--priority", "10"]).expect(0);
    control(&scene, &["continue", "commit"]).expect(0).complains("is deleted");
    assert_eq!(verdicts(&scene), ["continue", "continue", "pause"]);
    control(&scene, &["fail", "commit", "--id", OTHER, "--priority=-2"]).expect(0);
    control(&scene, &["delete", "--id", OTHER]).expect(0).complains(
        "there is none, nothing has changed\n  the maps of the same ID with these priorities stay: 10, -2\n",
    );
    control(&scene, &["delete", "--priority", "10", "--id", OTHER])
        .expect(0)
        .complains("priorities stay: -2\n");
    control(&scene, &["delete", "--priority=-2", "--id", OTHER])
        .expect(0)
        .complains("(priority -2) is deleted\n");
    assert_eq!(maps(&scene), []);
}

#[test]
fn then_and_once_say_what_comes_after_the_pause() {
    for (options, then, afterwards) in [
        (&[][..], "fail", "pause"),
        (&["--then", "continue"], "continue", "pause"),
        (&["--then=force-continue"], "force_continue", "pause"),
        (&["--once"], "continue", "continue"),
        (&["--once", "--then", "fail"], "fail", "continue"),
    ] {
        let scene = scene("then");
        control(&scene, &[&["pause", "reboot"], options].concat()).expect(0);
        let expected = format!("{{{}}}", rule("reboot", "pause", then, afterwards));
        assert_eq!(maps(&scene), [(OURS.into(), 0, expected)], "{options:?}");
    }
}

#[test]
fn a_map_that_has_expired_is_shown_as_such_and_another_word_renews_it() {
    let scene = Scene::configured("expired", THIMBLE, &[("UpdateControlMapExpirationTimeSeconds", "1")]);
    control(&scene, &["pause", "install"]).expect(0).says("0\n");
    soon(|| verdicts(&scene)[0] == "fail");
    let told = control(&scene, &["show"]).stdout;
    for line in ["has expired, and so says fail", "has expired, and goes when no update is in progress"] {
        assert!(told.contains(line), "{told}");
    }
    // All of it is in force again.
    control(&scene, &["pause", "commit"]).expect(0);
    assert_eq!(maps(&scene).len(), 1);
    assert_eq!(verdicts(&scene)[0], "pause");
}

#[test]
fn an_expired_map_goes_when_nothing_is_in_progress() {
    let scene = Scene::configured("gone", THIMBLE, &[("UpdateControlMapExpirationTimeSeconds", "1")]);
    control(&scene, &["pause", "install"]).expect(0);
    soon(|| verdicts(&scene)[0] == "fail");
    assert_eq!(maps(&scene).len(), 1, "it is kept: an update would still fail because of it");
    scene.run(&["check"]).expect(0);
    assert_eq!(maps(&scene), []);
    assert_eq!(verdicts(&scene)[0], "continue");
}

#[test]
fn where_maps_expire_at_once_a_pause_is_refused_and_a_map_comes_with_a_warning() {
    let scene = Scene::configured("zero", THIMBLE, &[("UpdatePollIntervalSeconds", "null")]);
    let ran = control(&scene, &["pause", "install"]);
    ran.expect(1).says("").complains("CONTROL-LIFETIME").complains("UpdateControlMapExpirationTimeSeconds");
    assert_eq!(maps(&scene), []);
    let ran = set(&scene, &map(OTHER, 0, &rule("commit", "pause", "fail", "pause")));
    ran.expect(0).says("0\n").complains("update control maps expire at once");
    assert_eq!(verdicts(&scene)[2], "fail");
    control(&scene, &["delete", "--id", OTHER]).expect(0).says("0\n");
    // Twice the poll interval where only that is given.
    let scene = Scene::configured("poll", THIMBLE, &[("UpdatePollIntervalSeconds", "500")]);
    control(&scene, &["pause", "install"]).expect(0).says("500\n");
}

// ---- Mistakes.

#[test]
fn mistakes_in_a_map_are_named_with_line_and_column_and_change_nothing() {
    let scene = scene("mistakes");
    control(&scene, &["pause", "install"]).expect(0);
    let before = maps(&scene);
    let with = |rest: &str| format!("{{\n  \"id\": \"{OTHER}\",\n  {rest}\n}}");
    for (text, named) in [
        ("".to_owned(), "standard input, line 1, column 1"),
        ("{\n  \"id\": ?\n}".into(), "standard input, line 2, column 9"),
        (format!("{} {{}}", map(OTHER, 1, "")), "standard input, line 1, column 72"),
        ("null".into(), "null"),
        ("[]".into(), "a list"),
        ("{}".into(), "id is missing"),
        (r#"{"id": "x"}"#.into(), "line 1, column 8: id is \"x\""),
        (
            with(r#""priority": 11"#),
            "line 3, column 15: priority is 11; allowed: a whole number from -10 to 10",
        ),
        (with(r#""priority": 1.5"#), "priority is 1.5"),
        (with(r#""colour": 1"#), "line 3, column 13: colour is an unknown member"),
        (with(r#""states": {"Idle_Enter": {}}"#), "states.Idle_Enter is an unknown control point"),
        (with(r#""states": {"ArtifactInstall_Enter": {"action": "stop"}}"#), "line 3, column 50"),
        (
            with(r#""states": {"ArtifactInstall_Enter": {"on_map_expire": "pause"}}"#),
            "continue, force_continue, fail",
        ),
        (with(r#""states": {"ArtifactInstall_Enter": {"actoin": "pause"}}"#), "actoin is an unknown member"),
        (format!("{}{}", map(OTHER, 1, ""), " ".repeat(20 << 10)), "longer than 16384 bytes"),
        ("[".repeat(10_000), "nest"),
    ] {
        let ran = set(&scene, &text);
        ran.expect(1).says("").complains("CONTROL-MAP").complains(named);
    }
    let file = scene.path().join("bytes.json");
    fs::write(&file, b"{\"id\": \"\xff\"}").expect("write it");
    let file = file.display().to_string();
    control(&scene, &["set", &file]).expect(1).complains(&file).complains("UTF-8");
    control(&scene, &["set", "/no/such/file"]).expect(1).complains("/no/such/file");
    let directory = scene.path().display().to_string();
    control(&scene, &["set", &directory]).expect(1).complains(&directory);
    assert_eq!(maps(&scene), before);
}

#[test]
fn mistakes_on_the_command_line_are_named_and_change_nothing() {
    let scene = scene("options");
    for (args, named) in [
        (&["pause", "install", "--id", "me"][..], "--id is \"me\"; allowed: a UUID"),
        (
            &["pause", "install", "--priority", "11"],
            "--priority is 11; allowed: a whole number from -10 to 10",
        ),
        (&["delete", "--priority", "-11"], "--priority is -11"),
        (&["delete", "--id", ""], "--id is \"\""),
        (&["pause", "download"], "'download'"),
        (&["hold", "install"], "'hold'"),
        (&[], "expected set, show, pause"),
    ] {
        control(&scene, args).expect(1).says("").complains(named);
    }
    assert_eq!(maps(&scene), []);
}

#[test]
fn the_sixty_fifth_map_is_refused() {
    let scene = scene("full");
    for number in 0..64 {
        let id = format!("00000000-0000-4000-8000-{number:012}");
        set(&scene, &map(&id, 0, &rule("commit", "pause", "fail", "pause"))).expect(0);
    }
    control(&scene, &["pause", "install"])
        .expect(1)
        .says("")
        .complains("CONTROL-FULL")
        .complains("control show");
    assert_eq!(maps(&scene).len(), 64);
}

#[test]
fn maps_that_were_lost_are_an_error_with_a_way_out() {
    let scene = scene("damaged");
    control(&scene, &["pause", "install"]).expect(0);
    fs::write(store(&scene).join("thimble-control.a"), "garbage").expect("write it");
    for args in [&["show"][..], &["pause", "commit"], &["delete"], &["show", "--json"]] {
        control(&scene, args).expect(1).says("").complains("CONTROL-DAMAGED").complains("thimble check");
    }
}

// ---- Who may, and when.

#[test]
fn show_waits_for_nobody() {
    let scene = scene("lock");
    control(&scene, &["pause", "install"]).expect(0);
    let lock = Lock::wait_for(&store(&scene).join("thimble-control.lock"), 0o600, Duration::from_secs(1));
    let begun = Instant::now();
    assert_eq!(verdicts(&scene)[0], "pause");
    assert!(begun.elapsed() < Duration::from_secs(5));
    drop(lock.expect("the lock"));
}

#[test]
fn many_at_once_lose_nothing() {
    let scene = scene("many");
    let children: Vec<_> = (-10..=9)
        .map(|priority: i64| {
            let mut command = Command::new(THIMBLE);
            command.arg("--root").arg(scene.device.root());
            command.args(["control", "pause", "commit", &format!("--priority={priority}")]);
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts")
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(maps(&scene).len(), 20);
}

/// Runs as somebody who is not root; only root can make a test of it.
#[test]
fn whoever_may_not_write_to_the_data_store_is_told_so() {
    if file::own_uid() != 0 {
        eprintln!("left out: this test needs root");
        return;
    }
    let scene = scene("nobody");
    let binary = scene.path().join("thimble");
    fs::copy(THIMBLE, &binary).expect("a copy that everybody can run");
    fs::set_permissions(store(&scene), fs::Permissions::from_mode(0o755)).expect("its mode");
    control(&scene, &["pause", "install"]).expect(0);
    for args in [&["pause", "commit"][..], &["continue", "install"], &["delete"], &["show"]] {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&binary);
        command.arg("--root").arg(scene.device.root()).arg("control").args(args);
        let output = command.output().expect("setpriv (Debian package util-linux)");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        for word in ["CONTROL-PERMISSION", "property of user 0", "this is user 65534"] {
            assert!(said.contains(word), "{args:?}: {said}");
        }
    }
    assert_eq!(verdicts(&scene), ["pause", "continue", "continue"]);
}

#[test]
fn all_commands_work_while_a_daemon_runs() {
    let scene = scene("daemon");
    let mut daemon = scene.daemon();
    scene.wait_until(|server| !server.requests_of(What::Next).is_empty());
    control(&scene, &["show"]).expect(0);
    set(&scene, &map(OTHER, 0, &rule("commit", "pause", "fail", "pause"))).expect(0).says("300\n");
    control(&scene, &["pause", "install", "--once"]).expect(0).says("300\n");
    control(&scene, &["force-continue", "install"]).expect(0);
    control(&scene, &["fail", "reboot"]).expect(0);
    let asked = scene.server.requests_of(What::Next).len();
    scene.wait_until(|server| server.requests_of(What::Next).len() > asked + 1);
    assert_eq!(verdicts(&scene), ["continue", "fail", "pause"], "a daemon without an update uses nothing up");
    control(&scene, &["continue", "install", "reboot"]).expect(0).complains("is deleted");
    control(&scene, &["delete", "--id", OTHER]).expect(0).complains("is deleted");
    assert_eq!(maps(&scene), []);
    assert_eq!(daemon.stop(), Some(0), "{}", scene.daemon_log());
}

#[test]
fn all_commands_work_between_one_shot_runs() {
    let scene = scene("oneshot");
    scene.run(&["check"]).expect(0);
    set(&scene, &map(OTHER, 0, &rule("commit", "pause", "fail", "pause"))).expect(0);
    control(&scene, &["pause", "install"]).expect(0);
    scene.run(&["check"]).expect(0);
    assert_eq!(verdicts(&scene), ["pause", "continue", "pause"]);
    control(&scene, &["continue", "install"]).expect(0);
    control(&scene, &["delete", "--id", OTHER]).expect(0);
    scene.run(&["check"]).expect(0);
    assert_eq!(maps(&scene), []);
}

// ---- Dropped-in files.

/// Makes a file of the directory for dropped-in maps.
fn drop_in(scene: &Scene, name: &str, content: &str) -> PathBuf {
    let directory = store(scene).join("control.d");
    fs::create_dir_all(&directory).expect("make the directory");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).expect("its mode");
    let (path, temporary) = (directory.join(name), directory.join(format!(".{name}.tmp")));
    fs::write(&temporary, content).expect("write it");
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o644)).expect("its mode");
    fs::rename(&temporary, &path).expect("rename it");
    path
}

/// All that an application, or somebody who would like to be one, can do wrong: name and reason.
fn hostile(scene: &Scene) -> Vec<(&'static str, &'static str)> {
    let fail = map(OTHER, 10, &rule("install", "fail", "fail", "fail"));
    let target = drop_in(scene, "target", &fail);
    drop_in(scene, "a-text.json", "{");
    drop_in(scene, "b-member.json", &fail.replace("\"priority\"", "\"prority\""));
    drop_in(scene, "c-long.json", &format!("{fail}{}", " ".repeat(20 << 10)));
    let open = drop_in(scene, "d-group.json", &fail);
    fs::set_permissions(&open, fs::Permissions::from_mode(0o664)).expect("its mode");
    symlink(&target, target.with_file_name("e-link.json")).expect("a link");
    fs::hard_link(&target, target.with_file_name("f-hard.json")).expect("a link");
    fs::create_dir(target.with_file_name("g-directory.json")).expect("a directory");
    file::make_fifo(&target.with_file_name("h-pipe.json"), 0o600).expect("a pipe");
    symlink("/dev/zero", target.with_file_name("i-zero.json")).expect("a link");
    drop_in(scene, "j-id.json", &map("x", 0, ""));
    drop_in(scene, "k-null.json", "null");
    let mut all = vec![
        ("a-text.json", "line 1, column 2"),
        ("b-member.json", "prority is an unknown member"),
        ("c-long.json", "longer than 16384 bytes"),
        ("d-group.json", "others may write to it (mode 0664)"),
        ("e-link.json", "it is a symbolic link"),
        ("f-hard.json", "hard link"),
        ("g-directory.json", "not a regular file"),
        ("h-pipe.json", "not a regular file"),
        ("i-zero.json", "it is a symbolic link"),
        ("j-id.json", "id is \"x\""),
        ("k-null.json", "no map"),
    ];
    if file::own_uid() == 0 {
        chown(drop_in(scene, "l-owner.json", &fail), Some(65534), None).expect("another owner");
        all.push(("l-owner.json", "belongs to user 65534"));
    }
    drop_in(scene, "z-good.json", &map(OTHER, 0, &rule("commit", "pause", "fail", "pause")));
    all
}

/// Every hostile file was refused with its reason, the good one was taken in.
#[track_caller]
fn assert_refused(scene: &Scene, expected: &[(&str, &str)], log: &str) {
    for (name, reason) in expected {
        let told = log.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{name}: {log}"));
        assert!(told.contains("CONTROL-REFUSED") && told.contains(reason), "{told}");
    }
    let mut left: Vec<String> = expected.iter().map(|(name, _)| format!("{name}.refused")).collect();
    left.push("target".into());
    assert_eq!(names(&store(scene).join("control.d")), left);
    assert_eq!(verdicts(scene), ["continue", "continue", "pause"]);
    let shown = control(scene, &["show"]).stdout;
    assert!(
        shown.contains("files that were refused") && shown.contains("  e-link.json.refused\n"),
        "{shown}"
    );
}

#[test]
fn files_wait_until_somebody_works_and_show_says_so() {
    let scene = scene("waiting");
    drop_in(&scene, "app.json", &map(OTHER, 0, &rule("commit", "pause", "fail", "pause")));
    let told = control(&scene, &["show"]);
    told.expect(0);
    assert!(told.stdout.contains("takes in:\n  app.json\n"), "{}", told.stdout);
    assert_eq!(maps(&scene), [], "looking takes nothing in");
    control(&scene, &["pause", "install"]).expect(0);
    assert_eq!(verdicts(&scene), ["pause", "continue", "pause"]);
    assert_eq!(names(&store(&scene).join("control.d")), [""; 0]);
}

#[test]
fn files_in_a_directory_to_which_others_may_write_are_not_used_and_that_is_said_once() {
    let scene = scene("everybody");
    let fail = map(OTHER, 0, &rule("commit", "fail", "fail", "fail"));
    let directory = drop_in(&scene, "0.json", &fail).parent().expect("control.d").to_owned();
    for number in 1..50 {
        drop_in(&scene, &format!("{number}.json"), &fail);
    }
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).expect("its mode");
    let ran = control(&scene, &["pause", "install"]);
    let why = "others may write to it (mode 0777)";
    ran.expect(0)
        .complains(&format!("CONTROL-REFUSED: {}: nothing in it is used: {why}", directory.display()));
    assert_eq!(ran.stderr.matches("REFUSED").count(), 1, "{}", ran.stderr);
    assert_eq!(verdicts(&scene), ["pause", "continue", "continue"]);
    let shown = control(&scene, &["show"]).stdout;
    assert!(
        shown.contains(&format!("files that are not used because of their directory: {why}:\n  0.json\n")),
        "{shown}"
    );
    scene.run(&["check"]).expect(0).complains(why);
    assert_eq!(names(&directory).len(), 50, "they are left alone");
}

#[test]
fn hostile_files_are_refused_by_the_next_command_with_reasons_and_block_nothing() {
    let scene = scene("hostile");
    let expected = hostile(&scene);
    let ran = control(&scene, &["delete"]);
    assert_refused(&scene, &expected, &ran.expect(0).stderr);
    // Once each.
    assert!(!control(&scene, &["delete"]).stderr.contains("REFUSED"));
}

#[test]
fn hostile_files_are_refused_by_a_check_and_do_not_keep_it_from_its_work() {
    let scene = scene("hostilecheck");
    let expected = hostile(&scene);
    let ran = scene.run(&["check"]);
    assert_refused(&scene, &expected, &ran.expect(0).stderr);
    assert_eq!(scene.server.requests_of(What::Next).len(), 1);
}

#[test]
fn hostile_files_are_refused_by_an_idle_daemon_soon_after_they_come() {
    let config = [("UpdateControlMapExpirationTimeSeconds", "600"), ("UpdatePollIntervalSeconds", "80000")];
    let scene = Scene::configured("hostiledaemon", THIMBLE, &config);
    let mut daemon = scene.daemon();
    scene.wait_until(|server| !server.requests_of(What::Next).is_empty());
    let expected = hostile(&scene);
    let directory = store(&scene).join("control.d");
    soon(|| names(&directory).iter().all(|name| name.ends_with(".refused") || name == "target"));
    assert_eq!(daemon.stop(), Some(0), "{}", scene.daemon_log());
    assert_refused(&scene, &expected, &scene.daemon_log());
}

// ---- With an update in progress.

/// The update of the usual scene, paused before its commit after its reboot, by a map that is there beforehand.
fn paused_before_commit(name: &str) -> Scene {
    let mut scene = scene(name);
    scene.offer(&Scene::release());
    control(&scene, &["pause", "commit"]).expect(0);
    assert_eq!(scene.run(&["check", "--max-wait", "0"]).code, None, "the reboot ends it");
    scene.device.boot();
    scene.run(&["check", "--max-wait", "0"]).expect(6);
    assert_eq!(scene.statuses().last().map(String::as_str), Some("pause_before_committing"));
    scene
}

#[test]
fn show_says_that_an_update_is_paused_and_where() {
    let mut scene = paused_before_commit("paused");
    let told = control(&scene, &["show"]);
    let expected = format!("update: deployment {ID}\n  is paused before commit\n");
    assert!(told.expect(0).stdout.starts_with(&expected), "{}", told.stdout);
    let shown = shown(&scene);
    assert_eq!(json::string(at(&shown, &["update", "deployment"])), Some(ID));
    assert_eq!(json::string(at(&shown, &["update", "paused_before"])), Some("ArtifactCommit_Enter"));
    // Said once more by each run that finds it so; not to the server.
    scene.run(&["check", "--max-wait", "0"]).expect(6);
    control(&scene, &["continue", "commit"]).expect(0);
    scene.run(&["check"]).expect(0);
    let told = control(&scene, &["show"]).stdout;
    assert!(told.starts_with("update: none in progress\n"), "{told}");
    scene.assert_new();
}

#[test]
fn fail_takes_a_paused_update_back() {
    let mut scene = paused_before_commit("fail");
    control(&scene, &["fail", "commit"]).expect(0);
    let ending = scene.update();
    assert_eq!(ending.code, 5, "{}", ending.output);
    control(&scene, &["delete"]).expect(0);
    scene.assert_old();
    scene.assert_failure_reported();
}

#[test]
fn every_command_wakes_a_daemon_that_waits_in_a_pause() {
    let wakers: [(&[&str], &str); 4] = [
        (&["continue", "commit"], "success"),
        (&["force-continue", "commit", "--priority", "1"], "success"),
        (&["delete"], "success"),
        (&["fail", "commit", "--priority", "-1", "--id", OTHER], "pause_before_committing"),
    ];
    for (args, last) in wakers {
        let scene = paused_before_commit("wake");
        let mut daemon = scene.daemon();
        soon(|| scene.daemon_log().contains("it goes on with PauseCommit"));
        let looked = scene.daemon_log().len();
        control(&scene, args).expect(0);
        match last {
            "success" => scene.wait_until(|server| server.statuses(ID).last().is_some_and(|l| l == last)),
            _ => soon(|| scene.daemon_log()[looked..].contains("ArtifactCommit_Enter: pause")),
        }
        assert_eq!(scene.statuses().last().map(String::as_str), Some(last), "{args:?}");
        assert_eq!(daemon.stop(), Some(0), "{}", scene.daemon_log());
    }
}

#[test]
fn a_dropped_in_file_wakes_a_daemon_that_waits_in_a_pause() {
    let scene = paused_before_commit("dropwake");
    let mut daemon = scene.daemon();
    soon(|| scene.daemon_log().contains("it goes on with PauseCommit"));
    drop_in(&scene, "app.json", &map(OURS, 0, ""));
    scene.wait_until(|server| server.statuses(ID).last().is_some_and(|last| last == "success"));
    assert_eq!(daemon.stop(), Some(0), "{}", scene.daemon_log());
}

#[test]
fn a_pause_for_once_ends_by_itself_when_half_its_life_has_passed() {
    let mut scene = Scene::configured("once", THIMBLE, &[("UpdateControlMapExpirationTimeSeconds", "6")]);
    scene.offer(&Scene::release());
    control(&scene, &["pause", "install", "--once"]).expect(0);
    let begun = Instant::now();
    let ending = scene.update();
    assert_eq!(ending.code, 0, "{}", ending.output);
    assert!(begun.elapsed() > Duration::from_secs(2), "it did not wait");
    assert_eq!(scene.statuses()[..3], ["downloading", "pause_before_installing", "installing"]);
    scene.assert_new();
}

#[test]
fn an_installation_by_hand_asks_no_maps() {
    let mut scene = scene("byhand");
    control(&scene, &["fail", "install", "reboot", "commit"]).expect(0);
    let artifact = scene.artifact(&Scene::release()).display().to_string();
    scene.run(&["install", &artifact]).expect(0);
    assert!(control(&scene, &["show"]).stdout.starts_with("update: one by hand is in progress"));
    scene.device.boot();
    scene.run(&["commit"]).expect(0);
    control(&scene, &["delete"]).expect(0);
    scene.assert_new();
}
