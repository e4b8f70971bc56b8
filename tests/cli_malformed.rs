//! Garbage wherever the agent reads: never a panic, always an error that names the thing, and the system as it was.
#![allow(clippy::expect_used, clippy::panic)] // These are tests.

use std::fs;
use thimble_testkit::{Act, ID, Rule, Scene, What};

const THIMBLE: &str = env!("CARGO_BIN_EXE_thimble");

/// Things that have broken parsers before.
fn garbage() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = [
        "",
        "\0",
        "{",
        "}",
        "[",
        "null",
        "true",
        "42",
        "\"",
        "\"text\"",
        "[]",
        "{}",
        "{\"a\":}",
        "{,}",
        "\u{feff}{}",
        "{\"id\":1}",
        "[[[[[[[[",
        "=",
        "==\n==\n",
        "\n\n\n",
        "THJ1",
        "%s%s%n",
        "../../../etc/passwd",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec();
    all.push(vec![0xff; 100]);
    all.push((0..=255).collect());
    all.push(b"[".repeat(100_000));
    all.push(b"{\"a\":".repeat(50_000));
    all.push(vec![b'a'; 2_000_000]);
    all
}

#[test]
fn a_broken_configuration_is_named_with_line_and_column() {
    for (text, place) in [
        ("{\n  \"ServerURL\": \"http://a\",\n  \"RetryPollCount\": }\n", "line 3"),
        ("{\n  \"ServerURL\": \"http://a\"\n  \"RetryPollCount\": 1\n}\n", "line 3"),
        ("{\n  \"UpdatePollIntervalSeconds\": \"often\"\n}\n", "UpdatePollIntervalSeconds"),
        ("[]", "found a list"),
        ("", "line 1"),
        ("{\n\"Servers\": {}\n}", "Servers"),
    ] {
        let scene = Scene::new("config", THIMBLE);
        scene.device.write("etc/mender/mender.conf", text);
        let ran = scene.run(&["check"]);
        ran.expect(1).complains("etc/mender/mender.conf").complains(place);
        assert_eq!(scene.server.requests().len(), 0, "{text}");
    }
}

#[test]
fn garbage_as_configuration_or_device_type_is_an_error_that_names_the_file() {
    let scene = Scene::new("files", THIMBLE);
    let conf = scene.device.root().join("etc/mender/mender.conf");
    let good = fs::read(&conf).expect("the configuration");
    for bytes in garbage() {
        fs::write(&conf, &bytes).expect("write it");
        let ran = scene.run(&["check"]);
        // `{}` and the like are configurations without a server.
        ran.expect(1);
        assert!(
            ran.stderr.contains("mender.conf") || ran.stderr.contains("ServerURL"),
            "{bytes:.40?}: {ran:?}"
        );
        fs::write(&conf, &good).expect("write it back");
        let device_type = scene.device.root().join("var/lib/mender/device_type");
        fs::write(&device_type, &bytes).expect("write it");
        scene.run(&["check"]).expect(1).complains("device_type");
        fs::write(&device_type, "device_type=test-type\n").expect("write it back");
    }
    scene.run(&["check"]).expect(0);
}

#[test]
fn a_damaged_journal_is_set_aside_and_the_device_goes_on() {
    for bytes in garbage() {
        let mut scene = Scene::new("journal", THIMBLE);
        scene.run(&["check"]).expect(0);
        for copy in ["a", "b"] {
            let path = scene.device.root().join(format!("var/lib/mender/thimble-journal.{copy}"));
            fs::write(path, &bytes).expect("write it");
        }
        let ran = scene.run(&["check"]);
        ran.expect(0);
        if !bytes.is_empty() {
            ran.complains("thimble-journal");
        }
        scene.run(&["commit"]).expect(2);
        scene.offer(&Scene::release());
        assert_eq!(scene.update().code, 0);
        scene.assert_new();
    }
}

#[test]
fn a_damaged_record_of_what_is_installed_makes_the_name_unknown_and_updates_work() {
    for bytes in garbage() {
        let mut scene = Scene::new("installed", THIMBLE);
        scene.run(&["check"]).expect(0);
        for copy in ["a", "b"] {
            let path = scene.device.root().join(format!("var/lib/mender/thimble-artifact.{copy}"));
            fs::write(path, &bytes).expect("write it");
        }
        scene.run(&["show-artifact"]).expect(0).says("unknown\n");
        scene.offer(&Scene::release());
        assert_eq!(scene.update().code, 0);
        scene.assert_new();
    }
}

#[test]
fn a_damaged_journal_in_the_middle_of_an_update_leaves_a_system_that_updates_again() {
    let mut scene = Scene::new("middle", THIMBLE);
    scene.offer(&Scene::release());
    assert_eq!(scene.device.run(scene.thimble(), &["check"]), None, "the reboot");
    for copy in ["a", "b"] {
        scene.device.write(&format!("var/lib/mender/thimble-journal.{copy}"), "flash memory has its limits");
    }
    scene.device.boot();
    assert_eq!(scene.device.running_slot(), 3);
    scene.run(&["check"]);
    // Nobody commits: the boot loader goes back by itself.
    scene.device.boot();
    assert_eq!(scene.device.running_slot(), 2);
    assert_eq!(scene.artifact_name(), "release-1");
    let id = "00000000-0000-4000-8000-000000000002";
    scene.server.abort(ID);
    scene.offer_file(id, &scene.artifact(&Scene::release()), "release-2");
    assert_eq!(scene.update().code, 0);
    scene.assert_new();
}

#[test]
fn a_damaged_key_is_kept_and_a_new_one_made_with_a_warning() {
    let scene = Scene::new("key", THIMBLE);
    scene.device.write("var/lib/mender/mender-agent.pem", "-----BEGIN PRIVATE KEY-----\nnonsense\n");
    scene.run(&["check"]).expect(0).complains("mender-agent.pem is damaged");
    let kept = fs::read_to_string(scene.device.root().join("var/lib/mender/mender-agent.pem.broken"));
    assert!(kept.expect("the old key").contains("nonsense"));
}

#[test]
fn garbage_for_fw_env_config_or_the_environment_fails_the_deployment_and_touches_nothing() {
    for target in ["root/etc/fw_env.config", "dev/ubootenv"] {
        for (number, bytes) in garbage().into_iter().enumerate() {
            let mut scene = Scene::new("env", THIMBLE);
            let path = scene.device.dir().join(target);
            let good = fs::read(&path).expect("read it");
            fs::write(&path, &bytes).expect("write it");
            let before = [scene.device.slot_bytes(2), scene.device.slot_bytes(3)];
            scene.offer(&Scene::release());
            let ending = scene.update();
            assert_eq!((ending.code, ending.boots), (5, 0), "{target} {number}\n{}", ending.output);
            let log = scene.assert_failure_reported().join("\n");
            assert!(log.contains("fw_env.config") || log.contains("ubootenv"), "{target} {number}: {log}");
            assert_eq!([scene.device.slot_bytes(2), scene.device.slot_bytes(3)], before);
            assert_eq!(fs::read(&path).expect("read it"), bytes, "evidence is not touched");
            fs::write(&path, good).expect("write it back");
            scene.assert_old();
        }
    }
}

#[test]
fn garbage_from_the_server_is_an_error_and_changes_nothing() {
    let respond = |body: &[u8]| Act::Respond {
        status: 200,
        headers: vec![("Content-Type".to_owned(), "application/json".to_owned())],
        body: body.to_vec(),
    };
    let mut answers = garbage();
    let uri = "http://127.0.0.1:1/x";
    for offer in [
        format!(r#"{{"id":"../../etc","artifact":{{"source":{{"uri":"{uri}"}}}}}}"#),
        format!(r#"{{"id":"a/b","artifact":{{"source":{{"uri":"{uri}"}}}}}}"#),
        format!(r#"{{"id":"","artifact":{{"source":{{"uri":"{uri}"}}}}}}"#),
        format!(r#"{{"id":7,"artifact":{{"source":{{"uri":"{uri}"}}}}}}"#),
        r#"{"id":"x","artifact":{"source":{"uri":7}}}"#.to_owned(),
        r#"{"id":"x","artifact":{"source":{}}}"#.to_owned(),
        r#"{"id":"x","artifact":[]}"#.to_owned(),
        r#"{"id":"x\u0000y","artifact":{"source":{"uri":"http://127.0.0.1:1/x"}}}"#.to_owned(),
    ] {
        answers.push(offer.into_bytes());
    }
    let mut scene = Scene::new("answers", THIMBLE);
    for body in answers {
        scene.server.clear_rules();
        scene.server.rule(Rule { on: What::Next, skip: 0, times: 1, act: respond(&body) });
        let ran = scene.run(&["check"]);
        assert_eq!(ran.code, Some(1), "{:?}: {ran:#?}", String::from_utf8_lossy(&body[..body.len().min(80)]));
        assert_eq!(scene.server.requests_of(What::Artifact).len(), 0);
    }
    for body in garbage() {
        scene.server.clear_rules();
        scene.server.expire_tokens();
        scene.server.rule(Rule { on: What::Auth, skip: 0, times: usize::MAX, act: respond(&body) });
        scene.run(&["check"]).expect(1);
    }
    scene.server.clear_rules();
    scene.run(&["check"]).expect(0);
    let violations = scene.server.violations();
    assert!(violations.iter().all(|text| text.contains("token")), "{violations:?}");
    scene.device.boot();
    assert_eq!(scene.artifact_name(), "release-1");
}

#[test]
fn an_offer_whose_source_is_no_web_address_is_not_followed() {
    for uri in
        ["file:///etc/passwd", "/etc/passwd", "-", "ftp://127.0.0.1/x", "http://", "http://[::1", "http:///x"]
    {
        let mut scene = Scene::new("source", THIMBLE);
        scene.offer(&Scene::release());
        let body = format!(r#"{{"id":"{ID}","artifact":{{"source":{{"uri":"{uri}"}}}}}}"#).into_bytes();
        let act = Act::Respond { status: 200, headers: Vec::new(), body };
        scene.server.rule(Rule { on: What::Next, skip: 0, times: 1, act });
        let ending = scene.update();
        assert!([1, 5].contains(&ending.code), "{uri}: {}", ending.output);
        assert_eq!(ending.boots, 0, "{uri}");
        assert_eq!(scene.device.running_slot(), 2);
        assert_eq!(scene.artifact_name(), "release-1");
    }
}

#[test]
fn scripts_for_identity_and_inventory_that_misbehave_are_named() {
    let scene = Scene::new("identity", THIMBLE);
    let script = "usr/share/mender/identity/mender-device-identity";
    for text in [
        "#!/bin/sh\nexit 1\n",
        "#!/bin/sh\n",
        "#!/bin/sh\nprintf '\\377\\376\\001 no pair\\n'\n",
        "#!/no/such\n",
    ] {
        scene.device.write_script(script, text);
        scene.run(&["check"]).expect(1).complains("mender-device-identity");
        assert_eq!(scene.server.requests().len(), 0, "{text}");
    }
    scene.device.write_script(script, "#!/bin/sh\necho mac=00:11:22:33:44:55\n");
    for text in ["#!/bin/sh\nexit 1\n", "#!/bin/sh\nhead -c 100000 /dev/zero\n", "#!/no/such\n"] {
        scene.device.write_script("usr/share/mender/inventory/mender-inventory-broken", text);
        // One broken script does not cost the whole inventory.
        scene.run(&["check"]).expect(0);
        assert_eq!(scene.server.inventory()["kernel"], "simulated");
    }
    assert_eq!(scene.server.violations(), Vec::<String>::new());
}
