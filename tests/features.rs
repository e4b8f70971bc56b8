//! What a build without a feature does with what it cannot do: it says so by name, and never does half of it. Runs in any
//! build (`make features`): with the feature, the same things work.
#![allow(clippy::expect_used, clippy::panic)] // These are tests.

use std::fs;
use thimble_testkit::{ArtifactSpec, ID, Scene, SigningKey, TempDir};

const THIMBLE: &str = env!("CARGO_BIN_EXE_thimble");

/// One that every build can unpack.
fn release() -> ArtifactSpec {
    Scene::release().uncompressed()
}

/// The update fails before anything was written, and the log at the server has all these words.
#[track_caller]
fn assert_refused(mut scene: Scene, words: &[&str]) {
    let before = scene.device.slot_bytes(3);
    let ending = scene.update();
    assert_eq!((ending.code, ending.boots), (5, 0), "{}", ending.output);
    let log = scene.assert_failure_reported();
    let named = log.iter().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(named, "{words:?} are not in {log:#?}");
    assert_old(&mut scene);
    assert_eq!(scene.device.slot_bytes(3), before, "the other slot was written to");
}

/// What runs is what ran before. (Its name is in an Artifact, too, which not every build can unpack.)
#[track_caller]
fn assert_old(scene: &mut Scene) {
    scene.assert_settled(2);
    assert_ne!(scene.artifact_name(), "release-2");
}

#[track_caller]
fn assert_updated(mut scene: Scene) {
    let ending = scene.update();
    assert_eq!(ending.code, 0, "{}", ending.output);
    scene.assert_success_reported();
}

#[test]
fn a_whole_update_over_http_needs_no_feature() {
    let scene = Scene::new("plain", THIMBLE);
    scene.offer(&release());
    assert_updated(scene);
}

#[test]
fn https_is_a_mistake_in_the_configuration_of_a_build_without_tls() {
    let scene = Scene::configured("https", THIMBLE, &[("ServerURL", "\"https://localhost:1\"")]);
    let ran = scene.run(&["check"]);
    if cfg!(feature = "tls") {
        ran.expect(1).complains("localhost:1").complains("NET-CONNECT");
    } else {
        ran.expect(1).complains("ServerURL").complains("without it (feature `tls`)").complains("mender.conf");
    }
}

#[test]
fn an_artifact_behind_https_is_not_fetched_by_a_build_without_tls() {
    let scene = Scene::new("link", THIMBLE);
    let ran = scene.run(&["install", "https://localhost:1/release.mender"]);
    ran.expect(1).complains(if cfg!(feature = "tls") { "NET-CONNECT" } else { "feature `tls`" });
}

#[test]
fn gzip_is_refused_by_name_where_it_cannot_be_unpacked() {
    let scene = Scene::new("gzip", THIMBLE);
    scene.offer(&Scene::release());
    if cfg!(feature = "gzip") {
        assert_updated(scene);
    } else {
        assert_refused(scene, &["ARTIFACT-COMPRESSION", "gzip", "--compression none"]);
    }
}

#[test]
fn a_payload_for_an_update_module_is_refused_by_name_where_there_are_none() {
    let scene = Scene::new("module", THIMBLE);
    let module = "#!/bin/sh\n[ $1 = NeedsArtifactReboot ] && echo No\nexit 0\n";
    scene.device.write_script("usr/share/mender/modules/v3/single-file", module);
    scene.offer(&ArtifactSpec::module("single-file", "release-2").file("a", "text").uncompressed());
    if cfg!(feature = "modules") {
        assert_updated(scene);
    } else {
        assert_refused(scene, &["MODULE-MISSING", "single-file", "feature `modules`"]);
    }
}

/// Fails closed: neither what nobody signed nor what the right key has signed is let through.
#[test]
fn with_a_verification_key_a_build_that_cannot_verify_takes_no_artifact() {
    let keys = TempDir::new("keys");
    let key = SigningKey::generate();
    let public = keys.path().join("key.pub");
    fs::write(&public, key.public_pem()).expect("write the public key");
    let path = format!("\"{}\"", public.display());
    let scene = |spec: &ArtifactSpec| {
        let scene = Scene::configured("signatures", THIMBLE, &[("ArtifactVerifyKey", path.as_str())]);
        scene.offer(spec);
        scene
    };
    let (signed, unsigned) = (scene(&release().sign(&key)), scene(&release()));
    if cfg!(feature = "signatures") {
        assert_updated(signed);
        assert_refused(unsigned, &["ARTIFACT-SIGNATURE", "not signed"]);
    } else {
        for scene in [signed, unsigned] {
            assert_refused(scene, &["ARTIFACT-SIGNATURE", "feature `signatures`", "ArtifactVerifyKey"]);
        }
    }
}

const MAP: &str =
    r#"{"id":"{id}","priority":1,"states":{"ArtifactInstall_Enter":{"action":"force_continue"}}}"#;

#[test]
fn the_command_control_is_there_or_says_why_not() {
    let scene = Scene::new("control", THIMBLE);
    let help = scene.run(&["--help"]).stdout;
    assert_eq!(help.contains("control"), cfg!(feature = "control"), "{help}");
    let ran = scene.run(&["control", "show"]);
    if cfg!(feature = "control") {
        ran.expect(0);
    } else {
        ran.expect(1).complains("built without update control (feature `control`)");
    }
}

/// It is told not to send any. One that does nevertheless means it.
#[test]
fn a_map_of_the_server_is_obeyed_or_the_deployment_is_not_begun() {
    let scene = Scene::new("map", THIMBLE);
    scene.offer(&release());
    scene.server.control_map(ID, Some(MAP));
    if cfg!(feature = "control") {
        assert_updated(scene);
    } else {
        let asked = |scene: &Scene| {
            let requests = scene.server.requests();
            requests.iter().any(|r| String::from_utf8_lossy(&r.body).contains("control_map"))
        };
        assert_eq!(scene.run(&["check"]).code, Some(5));
        assert!(!asked(&scene), "a build without maps asks for them");
        let log = scene.assert_failure_reported().join("\n");
        assert!(log.contains("CONTROL-MISSING") && log.contains("feature `control`"), "{log}");
    }
}

/// An application holds the update up with a map that it has dropped, and relies on it.
#[test]
fn a_map_of_an_application_is_obeyed_or_the_update_fails() {
    let scene = Scene::new("dropped", THIMBLE);
    scene.offer(&release());
    let map = MAP.replace("{id}", "01234567-89ab-4def-8123-456789abcdef").replace("force_continue", "fail");
    scene.device.write("var/lib/mender/control.d/app.json", &map);
    let mut scene = scene;
    let ending = scene.update();
    assert_eq!(ending.code, 5, "{}", ending.output);
    let log = scene.assert_failure_reported().join("\n");
    assert!(log.contains(if cfg!(feature = "control") { "control" } else { "CONTROL-MISSING" }), "{log}");
    scene.device.boot();
    assert_old(&mut scene);
}
