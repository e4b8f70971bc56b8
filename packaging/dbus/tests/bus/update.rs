//! io.mender.Update1.

use crate::device::{Device, UPDATE, bad, good, run};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

const ID: &str = "12345678-90ab-cdef-1234-567890abcdef";
const PAUSE: &str = r#"{"action":"pause","on_action_executed":"pause","on_map_expire":"fail"}"#;

fn device() -> Device {
    Device::new(r#"{"UpdateControlMapExpirationTimeSeconds": 600}"#)
}

fn pause(id: &str, priority: i32) -> String {
    format!(
        r#"{{"id":"{id}","priority":{priority},"states":{{"ArtifactInstall_Enter":{{"action":"pause"}}}}}}"#
    )
}

/// The file of the pause above.
fn paused(id: &str, priority: i32) -> (String, String) {
    let content =
        format!(r#"{{"id":"{id}","priority":{priority},"states":{{"ArtifactInstall_Enter":{PAUSE}}}}}"#);
    (format!("dbus-{id}-{priority}.json"), content)
}

#[test]
fn a_map_is_handed_to_the_agent() {
    let device = device();
    let _running = device.serve(&[]);
    assert_eq!(good(device.set(&pause(ID, 0))), "(300,)\n", "half the lifetime (K21, D3)");
    assert_eq!(device.dropped(), [paused(ID, 0)]);
    let mode = |path| fs::metadata(path).expect("is there").permissions().mode() & 0o777;
    assert_eq!(mode(device.control_d()), 0o700);
    assert_eq!(mode(device.control_d().join(paused(ID, 0).0)), 0o600);
}

#[test]
fn maps_replace_those_of_their_identity_only() {
    let device = device();
    let _running = device.serve(&[]);
    let other = ID.to_uppercase();
    for (id, priority) in [(ID, 0), (ID, 10), (ID, -10), (&other, 0), (ID, 0)] {
        good(device.set(&pause(id, priority)));
    }
    let force =
        format!(r#"{{"id":"{ID}","states":{{"ArtifactInstall_Enter":{{"action":"force_continue"}}}}}}"#);
    good(device.set(&force));
    let (names, contents): (Vec<_>, Vec<_>) = device.dropped().into_iter().unzip();
    let expected = [paused(&other, 0).0, paused(ID, -10).0, paused(ID, 0).0, paused(ID, 10).0]
        .map(|name| name.to_string());
    assert_eq!(names, expected);
    assert!(contents[2].contains("force_continue") && contents[3].contains("pause"), "{contents:?}");
}

#[test]
fn the_refresh_time_is_half_the_lifetime() {
    for (config, refresh) in [
        (r#"{"UpdateControlMapExpirationTimeSeconds": 5}"#, "(2,)\n"),
        (r#"{"UpdateControlMapExpirationTimeSeconds": 1}"#, "(0,)\n"),
        ("{}", "(0,)\n"),
        (r#"{"UpdatePollIntervalSeconds": 100}"#, "(100,)\n"),
        (r#"{"UpdateControlMapExpirationTimeSeconds": 0, "UpdatePollIntervalSeconds": 7}"#, "(7,)\n"),
    ] {
        let device = Device::new(config);
        let _running = device.serve(&[]);
        assert_eq!(good(device.set(&pause(ID, 0))), refresh, "{config}");
        assert_eq!(good(device.set(&format!(r#"{{"id":"{ID}"}}"#))), refresh, "deletes, too: {config}");
    }
}

#[test]
fn a_map_that_says_nothing_is_handed_on_as_a_deletion() {
    let device = device();
    let _running = device.serve(&[]);
    let all = r#"{"action":"continue","on_map_expire":"continue","on_action_executed":"continue"}"#;
    for states in [
        String::new(),
        r#","states":{}"#.to_owned(),
        r#","states":null"#.to_owned(),
        format!(r#","states":{{"ArtifactInstall_Enter":{all},"ArtifactCommit_Enter":{{}}}}"#),
    ] {
        good(device.set(&pause(ID, 3)));
        good(device.set(&format!(r#"{{"id":"{ID}","priority":3{states}}}"#)));
        let deletion = format!(r#"{{"id":"{ID}","priority":3,"states":{{}}}}"#);
        assert_eq!(device.dropped(), [(paused(ID, 3).0, deletion)], "{states}");
    }
}

#[test]
fn names_of_members_match_in_any_case() {
    let device = device();
    let _running = device.serve(&[]);
    let map =
        format!(r#"{{"ID":"{ID}","Priority":1,"States":{{"ArtifactInstall_Enter":{{"Action":"pause"}}}}}}"#);
    good(device.set(&map));
    assert_eq!(device.dropped(), [paused(ID, 1)]);
}

#[test]
fn invalid_maps_are_refused_and_nothing_is_written() {
    let device = device();
    let (_running, log) = device.serve(&[]);
    let state = |state: &str| format!(r#"{{"id":"{ID}","states":{{{state}}}}}"#);
    let maps = [
        "nonsense".to_owned(),
        "null".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        r#"{"priority":0}"#.to_owned(),
        r#"{"id":""}"#.to_owned(),
        r#"{"id":"1234"}"#.to_owned(),
        r#"{"id":"../../../../../../../../../../etc/pass"}"#.to_owned(),
        r#"{"id":"12345678x90ab-cdef-1234-567890abcdef"}"#.to_owned(),
        r#"{"id":"12345678-90ab-cdef-1234-567890abcdeg"}"#.to_owned(),
        format!(r#"{{"id":"{ID}","priority":11}}"#),
        format!(r#"{{"id":"{ID}","priority":-11}}"#),
        format!(r#"{{"id":"{ID}","priority":1.5}}"#),
        format!(r#"{{"id":"{ID}","priority":"1"}}"#),
        format!(r#"{{"id":"{ID}","bogus":1}}"#),
        format!(r#"{{"id":"{ID}","states":[]}}"#),
        format!(r#"{{"id":"{ID}""#),
        format!(r#"{{"id":"{ID}"]"#),
        state(r#""ArtifactInstall_Leave":{"action":"pause"}"#),
        state(r#""artifactinstall_enter":{"action":"pause"}"#),
        state(r#""ArtifactInstall_Enter":{"action":"stop"}"#),
        state(r#""ArtifactInstall_Enter":{"action":"Pause"}"#),
        state(r#""ArtifactInstall_Enter":{"on_map_expire":"pause"}"#),
        state(r#""ArtifactInstall_Enter":{"on_action_executed":"x"}"#),
        state(r#""ArtifactInstall_Enter":{"bogus":"pause"}"#),
    ];
    for map in &maps {
        let said = bad(device.set(map));
        let error = "GDBus.Error:io.mender.Failed: Method returned error, see Mender logs for more details\n";
        assert!(said.ends_with(error), "{map}: {said}");
    }
    assert!(!device.control_d().exists(), "{:?}", device.dropped());
    let said = fs::read_to_string(log).expect("text");
    assert_eq!(said.matches("SetUpdateControlMap: update control map").count(), maps.len(), "{said}");
}

#[test]
fn an_invalid_map_leaves_the_one_before_alone() {
    let device = device();
    let _running = device.serve(&[]);
    good(device.set(&pause(ID, 0)));
    bad(device.set(&pause(ID, 0).replace("pause", "stop")));
    assert_eq!(device.dropped(), [paused(ID, 0)]);
}

#[test]
fn text_behind_the_map_is_of_no_account() {
    let device = device();
    let _running = device.serve(&[]);
    good(device.set(&(pause(ID, 0) + " {\"id\": trailing")));
    assert_eq!(device.dropped(), [paused(ID, 0)]);
}

#[test]
fn a_directory_that_the_agent_would_not_trust_is_an_error() {
    let device = device();
    let (_running, log) = device.serve(&[]);
    let directory = device.control_d();
    fs::create_dir(&directory).expect("makes");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).expect("sets");
    assert!(bad(device.set(&pause(ID, 0))).contains("io.mender.Failed"));
    assert!(fs::read_to_string(&log).expect("text").contains("others may write to it"));
    fs::remove_dir(&directory).expect("removes");
    symlink(device.root().join("run"), &directory).expect("links");
    assert!(bad(device.set(&pause(ID, 0))).contains("io.mender.Failed"));
    assert_eq!(device.dropped(), []);
    fs::remove_file(&directory).expect("removes");
    fs::write(&directory, "").expect("writes");
    assert!(bad(device.set(&pause(ID, 0))).contains("io.mender.Failed"));
    fs::remove_file(&directory).expect("removes");
    good(device.set(&pause(ID, 0)));
    assert_eq!(device.dropped(), [paused(ID, 0)]);
}

#[test]
fn a_link_in_place_of_the_file_is_replaced_not_followed() {
    let device = device();
    let _running = device.serve(&[]);
    good(device.set(&pause(ID, 0)));
    let (file, victim) = (device.control_d().join(paused(ID, 0).0), device.root().join("victim"));
    fs::write(&victim, "mine").expect("writes");
    fs::remove_file(&file).expect("removes");
    symlink(&victim, &file).expect("links");
    good(device.set(&pause(ID, 0)));
    assert_eq!(fs::read_to_string(victim).expect("text"), "mine");
    let meta = fs::symlink_metadata(file).expect("is there");
    assert!(meta.is_file() && meta.nlink() == 1);
}

#[test]
fn waiting_maps_are_limited() {
    let device = device();
    let (_running, log) = device.serve(&[]);
    let limit = thimble::agent::control::MAP_LIMIT;
    good(device.set(&pause(ID, 0)));
    for n in 1..limit {
        fs::write(device.control_d().join(format!("other-{n}.json")), "{}").expect("writes");
    }
    good(device.set(&pause(ID, 0)));
    bad(device.set(&pause(ID, 1)));
    assert_eq!(device.dropped().len(), limit);
    assert!(fs::read_to_string(log).expect("text").contains("is thimble running?"));
}

/// As the tests of the Mender client itself do it, word for word.
#[test]
fn dbus_send_works() {
    let device = device();
    let _running = device.serve(&[]);
    let [name, path, interface] = UPDATE;
    let map = pause(ID, 0);
    let arguments = [format!("--dest={name}"), path.into(), format!("{interface}.SetUpdateControlMap")];
    let call = |print: &[&str], map: &str| {
        let mut command = device.client("dbus-send");
        run(command.arg("--system").args(print).args(&arguments).arg(format!("string:{map}")), "dbus-bin")
    };
    assert!(good(call(&["--print-reply"], &map)).contains("int32 300"));
    assert_eq!(device.dropped(), [paused(ID, 0)]);
    let said = bad(call(&["--print-reply"], "{}"));
    assert!(said.contains("Error io.mender.Failed: Method returned error"), "{said}");
    // Without an answer it is set all the same.
    good(call(&["--type=method_call"], &pause(ID, 5)));
    crate::device::wait_for("the second map", || (device.dropped().len() == 2).then_some(()));
}

#[test]
fn python_works() {
    let device = device();
    let _running = device.serve(&[]);
    let program = r#"
import dbus, json
proxy = dbus.SystemBus().get_object("io.mender.UpdateManager", "/io/mender/UpdateManager")
update = dbus.Interface(proxy, "io.mender.Update1")
map = {"id": "ID", "priority": 0, "states": {"ArtifactInstall_Enter": {"action": "pause"}}}
refresh = update.SetUpdateControlMap(json.dumps(map))
assert refresh == 300 and isinstance(refresh, dbus.Int32), repr(refresh)
# Large calls come in many pieces.
assert update.SetUpdateControlMap(json.dumps(map) + " " * 3000000 + "x") == 300
for wrong in ["{}", "x" * 1000000, "{\"id\":" * 100000]:
    try:
        update.SetUpdateControlMap(wrong)
        assert False, wrong[:100]
    except dbus.DBusException as e:
        assert e.get_dbus_name() == "io.mender.Failed", e
        assert e.get_dbus_message() == "Method returned error, see Mender logs for more details", e
"#;
    good(device.python(&program.replace("ID\"", &format!("{ID}\""))));
    assert_eq!(device.dropped(), [paused(ID, 0)]);
}
