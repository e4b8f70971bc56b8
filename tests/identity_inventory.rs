//! Who the device says it is and what it tells about itself, by the real program: what arrives at the server.
#![allow(clippy::expect_used, clippy::panic)] // These are tests.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use thimble_testkit::{Act, ArtifactSpec, DeviceOptions, Options, Rule, Scene, What};

const THIMBLE: &str = env!("CARGO_BIN_EXE_thimble");
const IDENTITY: &str = "usr/share/mender/identity/mender-device-identity";
const INVENTORY: &str = "usr/share/mender/inventory/mender-inventory-";

/// The identities that the server got, as they were signed.
fn identities(scene: &Scene) -> Vec<String> {
    let requests = scene.server.requests_of(What::Auth);
    requests.iter().map(|request| identity(&request.text())).collect()
}

/// The member `id_data` of a request, unescaped. It is a string in a JSON object, so quotes in it are escaped.
fn identity(body: &str) -> String {
    let (_, rest) = body.split_once("\"id_data\":\"").expect("id_data");
    let (mut text, mut chars) = (String::new(), rest.chars());
    loop {
        match chars.next().expect("the end of the string") {
            '"' => return text,
            '\\' => match chars.next().expect("an escape") {
                'u' => {
                    let code: String = chars.by_ref().take(4).collect();
                    let code = u32::from_str_radix(&code, 16).expect("a number");
                    text.push(char::from_u32(code).expect("a character"));
                }
                'n' => text.push('\n'),
                't' => text.push('\t'),
                'r' => text.push('\r'),
                other => text.push(other),
            },
            other => text.push(other),
        }
    }
}

fn interface(scene: &Scene, name: &str, files: &[(&str, &str)]) {
    for (file, text) in files {
        scene.device.write(&format!("sys/class/net/{name}/{file}"), &format!("{text}\n"));
    }
}

/// An Ethernet interface.
fn ethernet(scene: &Scene, name: &str, index: u32, address: &str) {
    interface(scene, name, &[("type", "1"), ("ifindex", &index.to_string()), ("address", address)]);
}

fn without_script(name: &str) -> Scene {
    let scene = Scene::new(name, THIMBLE);
    fs::remove_file(scene.device.root().join(IDENTITY)).expect("remove the script");
    scene
}

fn inventory_of(scene: &Scene) -> BTreeMap<String, String> {
    scene.run(&["send-inventory"]).expect(0);
    assert_eq!(scene.server.violations(), Vec::<String>::new());
    scene.server.inventory()
}

#[test]
fn without_a_script_the_identity_is_the_address_of_the_first_ethernet_interface() {
    let scene = without_script("fallback");
    interface(&scene, "lo", &[("type", "772"), ("ifindex", "1"), ("address", "00:00:00:00:00:00")]);
    ethernet(&scene, "dummy0", 2, "02:00:00:00:00:02");
    interface(&scene, "can0", &[("type", "280"), ("ifindex", "3")]);
    ethernet(&scene, "wlan0", 10, "02:00:00:00:00:10");
    ethernet(&scene, "eth0", 9, "02:00:00:00:00:09");
    scene.run(&["check"]).expect(0);
    assert_eq!(identities(&scene), [r#"{"mac":"02:00:00:00:00:09"}"#]);
}

#[test]
fn that_identity_is_the_same_over_boots_and_whatever_the_order_of_names() {
    // The name sorts before or after the others, and the directory may list them in any order; the number decides.
    for (first, others) in [("eth0", ["eth1", "wlan0"]), ("zz0", ["aa0", "usb0"]), ("end0", ["br0", "eth9"])]
    {
        let mut scene = without_script("boots");
        for (number, name) in others.iter().enumerate() {
            ethernet(&scene, name, 30 + number as u32, &format!("02:00:00:00:00:3{number}"));
        }
        ethernet(&scene, first, 4, "02:00:00:00:00:04");
        scene.run(&["check"]).expect(0);
        for boot in 0..3 {
            scene.device.boot();
            // The later ones come and go, as adapters do.
            let extra = scene.device.root().join("sys/class/net").join(others[boot % 2]);
            if extra.exists() {
                fs::remove_dir_all(&extra).expect("remove it");
            } else {
                ethernet(&scene, others[boot % 2], 40, "02:00:00:00:00:40");
            }
            scene.run(&["check"]).expect(0);
        }
        let all = identities(&scene);
        assert_eq!(all, vec![r#"{"mac":"02:00:00:00:00:04"}"#; 4], "{first}");
    }
}

#[test]
fn an_address_that_the_kernel_made_up_is_used_with_a_warning() {
    for (kind, warned) in [("0", false), ("1", true), ("3", false)] {
        let scene = without_script("random");
        ethernet(&scene, "eth0", 2, "02:00:00:00:00:02");
        interface(&scene, "eth0", &[("addr_assign_type", kind)]);
        let ran = scene.run(&["bootstrap"]);
        ran.expect(0);
        assert_eq!(ran.stderr.contains("random"), warned, "{kind}: {ran:#?}");
        assert_eq!(identities(&scene), [r#"{"mac":"02:00:00:00:00:02"}"#]);
    }
}

#[test]
fn without_script_and_without_interface_nobody_is_asked_and_the_remedy_is_named() {
    let scene = without_script("none");
    interface(&scene, "lo", &[("type", "772"), ("ifindex", "1"), ("address", "00:00:00:00:00:00")]);
    scene.run(&["check"]).expect(1).complains("mender-device-identity");
    assert_eq!(scene.server.requests().len(), 0);
}

#[test]
fn a_script_that_is_there_must_work() {
    let cases: [(&str, Option<&str>, u32); 6] = [
        ("fails", Some("#!/bin/sh\necho mac=1\nexit 1\n"), 0o755),
        ("says nothing", Some("#!/bin/sh\n"), 0o755),
        ("no pairs", Some("#!/bin/sh\necho hello\n"), 0o755),
        ("not executable", Some("#!/bin/sh\necho mac=1\n"), 0o644),
        ("garbage", Some("\u{7f}ELFgarbage\n"), 0o755),
        ("dangling link", None, 0),
    ];
    for (case, text, mode) in cases {
        let scene = without_script("broken");
        // It would be taken if the script were forgotten.
        ethernet(&scene, "eth0", 2, "02:00:00:00:00:02");
        let path = scene.device.root().join(IDENTITY);
        match text {
            Some(text) => {
                use std::os::unix::fs::PermissionsExt;
                fs::write(&path, text).expect("write it");
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set its mode");
            }
            None => std::os::unix::fs::symlink("nowhere", &path).expect("link"),
        }
        scene.run(&["check"]).expect(1).complains("mender-device-identity");
        assert_eq!(scene.server.requests_of(What::Auth).len(), 0, "{case}");
    }
}

#[test]
fn a_changed_identity_is_in_the_next_authentication() {
    let scene = Scene::new("changed", THIMBLE);
    scene.run(&["bootstrap"]).expect(0);
    scene.device.write_script(IDENTITY, "#!/bin/sh\nprintf 'serial=7\\nZ=b\\nserial=8\\n'\n");
    scene.run(&["bootstrap"]).expect(0);
    let want = [r#"{"mac":"00:11:22:33:44:55"}"#, r#"{"Z":"b","serial":["7","8"]}"#];
    assert_eq!(identities(&scene), want);
}

#[test]
fn an_identity_of_any_bytes_arrives() {
    let scene = Scene::new("bytes", THIMBLE);
    scene.device.write_script(IDENTITY, "#!/bin/sh\nprintf 'a=\"\\\\\\t\\303\\251\\377\\000x\\n'\n");
    scene.run(&["bootstrap"]).expect(0);
    // As the server reads it: a JSON object in a string.
    assert_eq!(identities(&scene), ["{\"a\":\"\\\"\\\\\\té\u{fffd}\\u0000x\"}"]);
    assert_eq!(scene.server.violations(), Vec::<String>::new());
}

#[test]
fn the_inventory_without_any_script_is_what_is_built_in() {
    let scene = Scene::new("builtin", THIMBLE);
    fs::remove_dir_all(scene.device.root().join("usr/share/mender/inventory")).expect("remove it");
    let got = inventory_of(&scene);
    let version = format!("thimble {}", env!("CARGO_PKG_VERSION"));
    let want = [
        ("artifact_name", "release-1"),
        ("device_type", "test-type"),
        ("mender_bootloader_integration", "uboot"),
        ("mender_client_version", &version),
        ("rootfs-image.version", "release-1"),
        ("rootfs_type", "ext4"),
    ];
    assert_eq!(got, want.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
}

#[test]
fn a_script_wins_over_what_is_built_in_but_for_three() {
    let scene = Scene::new("wins", THIMBLE);
    let keys = [
        "artifact_name",
        "device_type",
        "mender_client_version",
        "mender_bootloader_integration",
        "rootfs_type",
        "rootfs-image.version",
    ];
    let body: String = keys.iter().map(|key| format!("echo {key}=fake\n")).collect();
    scene.device.write_script(&format!("{INVENTORY}fake"), &format!("#!/bin/sh\n{body}"));
    let got = inventory_of(&scene);
    let version = format!("thimble {}", env!("CARGO_PKG_VERSION"));
    let values: Vec<&str> = keys.iter().map(|key| &*got[*key]).collect();
    assert_eq!(values, ["release-1", "test-type", &version, "fake", "fake", "fake"]);
}

#[test]
fn before_the_first_artifact_the_name_is_unknown_and_the_inventory_is_sent() {
    let options = DeviceOptions { first_artifact: None, ..DeviceOptions::default() };
    let scene = Scene::with("unknown", THIMBLE, Options::default(), options);
    assert_eq!(inventory_of(&scene)["artifact_name"], "unknown");
}

#[test]
fn provides_of_the_installed_artifact_are_in_the_inventory_after_the_update() {
    let scene = Scene::new("provides", THIMBLE);
    let spec = ArtifactSpec { group: Some("beta".to_owned()), ..ArtifactSpec::empty("release-2") };
    scene.offer(&spec);
    scene.run(&["check"]).expect(0);
    let got = scene.server.inventory();
    for (key, value) in
        [("artifact_name", "release-2"), ("artifact_group", "beta"), ("rootfs-image.version", "release-2")]
    {
        assert_eq!(got[key], value);
    }
}

#[test]
fn scripts_run_in_order_and_their_values_add_up() {
    let scene = Scene::new("order", THIMBLE);
    let put = |name: &str, text: &str| scene.device.write_script(&format!("{INVENTORY}{name}"), text);
    put("b", "#!/bin/sh\nprintf 'ip=3\\nempty=\\n'\n");
    put("a", "#!/bin/sh\nprintf 'ip=1\\nip=2=2\\n\\n last = x '\n");
    put("same", "#!/bin/sh\nprintf 'same=1\\nsame=1\\ncr=1\\r\\n'\n");
    put("fails", "#!/bin/sh\necho fails=1; exit 1\n");
    put("bogus", "#!/bin/sh\necho good=1; echo bogus\n");
    put("key", "#!/bin/sh\necho =nokey; echo haskey=1\n");
    scene.device.write(&format!("{INVENTORY}plain"), "#!/bin/sh\necho plain=1\n");
    scene.device.write_script("usr/share/mender/inventory/other", "#!/bin/sh\necho other=1\n");
    fs::create_dir(scene.device.root().join(format!("{INVENTORY}directory"))).expect("make it");
    let dangling = scene.device.root().join(format!("{INVENTORY}dangling"));
    std::os::unix::fs::symlink("nowhere", dangling).expect("link");
    // A link to a script is one.
    let script = scene.device.root().join("usr/share/mender/linked");
    scene.device.write_script("usr/share/mender/linked", "#!/bin/sh\necho linked=1\n");
    std::os::unix::fs::symlink(script, scene.device.root().join(format!("{INVENTORY}link"))).expect("link");
    let got = inventory_of(&scene);
    for (key, value) in [
        ("ip", r#"["1","2=2","3"]"#),
        ("same", r#"["1","1"]"#),
        ("empty", ""),
        (" last ", " x "),
        ("haskey", "1"),
        ("linked", "1"),
        ("cr", "1\r"),
        ("kernel", "simulated"),
    ] {
        assert_eq!(got.get(key).map(String::as_str), Some(value), "{key} in {got:?}");
    }
    for key in ["fails", "good", "bogus", "plain", "other", ""] {
        assert!(!got.contains_key(key), "{key} in {got:?}");
    }
}

#[test]
fn a_script_gets_no_input_no_arguments_and_may_leave_children() {
    let scene = Scene::new("surroundings", THIMBLE);
    let body = "#!/bin/sh\necho args=$#\necho input=$(cat | wc -c)\nsleep 300 &\n";
    scene.device.write_script(&format!("{INVENTORY}look"), body);
    let begin = Instant::now();
    let got = inventory_of(&scene);
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    assert_eq!((&*got["args"], &*got["input"]), ("0", "0"));
}

#[test]
fn too_much_output_is_dropped_and_the_rest_arrives() {
    let scene = Scene::new("large", THIMBLE);
    let put = |name: &str, text: &str| scene.device.write_script(&format!("{INVENTORY}{name}"), text);
    put("line", "#!/bin/sh\necho first=1; printf 'line='; head -c 200000 /dev/zero | tr '\\0' x; echo\n");
    put("flood", "#!/bin/sh\necho flood=1; head -c 100000000 /dev/zero | tr '\\0' '\\n'\n");
    put("fine", "#!/bin/sh\nprintf 'fine='; head -c 60000 /dev/zero | tr '\\0' x; echo\n");
    let ran = scene.run(&["send-inventory"]);
    ran.expect(0).complains("mender-inventory-line").complains("mender-inventory-flood");
    let got = scene.server.inventory();
    assert_eq!(got["fine"].len(), 60000);
    assert!(!got.contains_key("first") && !got.contains_key("flood"), "{:?}", got.keys());
}

#[test]
fn an_old_server_gets_its_inventory_by_patch() {
    let scene = Scene::new("patch", THIMBLE);
    scene.server.rule(Rule { on: What::Inventory, skip: 0, times: 1, act: Act::error(405) });
    inventory_of(&scene);
    let methods: Vec<String> =
        scene.server.requests_of(What::Inventory).into_iter().map(|request| request.method).collect();
    assert_eq!(methods, ["PUT", "PATCH"]);
}

#[test]
fn the_file_system_type_is_that_of_the_last_mount_on_the_root() {
    let scene = Scene::new("mounts", THIMBLE);
    let device: PathBuf = scene.device.slot_path(2);
    let mounts =
        format!("rootfs / rootfs rw 0 0\n{} / squashfs ro 0 0\nnone /tmp tmpfs rw 0 0\n", device.display());
    scene.device.write("proc/mounts", &mounts);
    assert_eq!(inventory_of(&scene)["rootfs_type"], "squashfs");
    scene.device.write("proc/mounts", "rootfs / rootfs rw 0 0\n");
    assert_eq!(inventory_of(&scene)["rootfs_type"], "Unknown");
}
