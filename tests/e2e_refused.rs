//! Artifacts and devices that do not fit: refused before the system is touched, with a reason in the server's log.
#![allow(clippy::expect_used, clippy::panic)] // These are tests.

use std::fs;
use thimble_testkit::{Act, ArtifactSpec, Content, DeviceOptions, Options, Rule, Scene, SigningKey, What};

const THIMBLE: &str = env!("CARGO_BIN_EXE_thimble");

/// Runs the update to its failure. The old system is untouched, nothing restarted, no script of the Artifact ran, and
/// the log at the server has `reason`.
#[track_caller]
fn assert_refused(mut scene: Scene, reason: &str) -> Scene {
    let before = scene.device.slot_bytes(2);
    let ending = scene.update();
    assert_eq!((ending.code, ending.boots), (5, 0), "{}", ending.output);
    assert_eq!(scene.statuses(), ["downloading", "failure"], "{}", ending.output);
    let log = scene.assert_failure_reported();
    assert!(log.iter().any(|line| line.contains(reason)), "{reason:?} is not in {log:#?}");
    let ran = scene.scripts_ran();
    assert!(!ran.iter().any(|name| name.starts_with("Artifact")), "{ran:?}");
    scene.assert_old();
    assert_eq!(scene.device.slot_bytes(2), before, "the running system was written to");
    scene
}

/// As [`assert_refused`]; also the other slot is as it was.
#[track_caller]
fn assert_refused_before_writing(scene: Scene, reason: &str) {
    let before = scene.device.slot_bytes(3);
    let scene = assert_refused(scene, reason);
    assert_eq!(scene.device.slot_bytes(3), before, "the other slot was written to");
}

fn scene_with(spec: ArtifactSpec) -> Scene {
    let scene = Scene::new("refused", THIMBLE);
    let spec = scene.scripted(spec, &[]);
    scene.offer(&spec);
    scene
}

#[test]
fn an_image_larger_than_the_slot_is_refused_before_the_first_byte() {
    let spec = ArtifactSpec::rootfs("release-2", Content::Pattern { size: (1 << 20) + 1, seed: 2 });
    assert_refused_before_writing(scene_with(spec), "ROOTFS-SIZE");
}

#[test]
fn an_artifact_for_another_device_type_is_refused() {
    assert_refused_before_writing(scene_with(Scene::release().device_types(&["other-board"])), "other-board");
}

#[test]
fn an_artifact_that_depends_on_something_else_is_refused() {
    let group = |spec: ArtifactSpec| ArtifactSpec { depends_group: vec!["beta".to_owned()], ..spec };
    let name = |spec: ArtifactSpec| ArtifactSpec { depends_name: vec!["release-0".to_owned()], ..spec };
    assert_refused_before_writing(scene_with(group(Scene::release())), "artifact_group");
    assert_refused_before_writing(scene_with(name(Scene::release())), "release-0");
    let version = Scene::release().depend("rootfs-image.version", &["release-0", "release-00"]);
    assert_refused_before_writing(scene_with(version), "rootfs-image.version");
}

#[test]
fn an_artifact_that_depends_on_what_is_there_is_installed() {
    let mut scene = Scene::new("depends", THIMBLE);
    let spec = Scene::release().depend("rootfs-image.version", &["release-0", "release-1"]);
    scene.offer(&ArtifactSpec { depends_name: vec!["release-1".to_owned()], ..spec });
    assert_eq!(scene.update().code, 0);
    scene.assert_new();
}

#[test]
fn a_payload_type_without_a_handler_is_refused_by_name() {
    let spec = ArtifactSpec::module("no-such-module", "release-2").file("a", "text");
    assert_refused_before_writing(scene_with(spec), "no-such-module");
}

/// One byte changed on the way: the checksums notice. (Padding between the parts of the archive has none.)
#[test]
fn a_damaged_artifact_is_refused_wherever_the_damage_is() {
    // Compressed or not; the place: a byte, or per mille of the whole.
    let (version, manifest) = (515, 2 * 512 + 512 + 10);
    for (gzip, byte, per_mille) in [
        (true, version, 0),
        (true, manifest, 0),
        (true, 0, 300),
        (true, 0, 900),
        (false, 0, 20),
        (false, 0, 500),
        (false, 0, 960),
    ] {
        let scene = Scene::new("damaged", THIMBLE);
        let spec = ArtifactSpec { gzip, ..scene.scripted(Scene::release(), &[]) };
        let artifact = scene.artifact(&spec);
        let size = fs::metadata(&artifact).expect("its size").len();
        scene.offer_file(thimble_testkit::ID, &artifact, "release-2");
        let act = Act::Corrupt { at: byte + size * per_mille / 1000 };
        scene.server.rule(Rule { on: What::Artifact, skip: 0, times: usize::MAX, act });
        assert_refused(scene, "ARTIFACT");
    }
}

#[test]
fn an_artifact_cut_short_at_the_server_is_refused() {
    let scene = Scene::new("short", THIMBLE);
    let artifact = scene.artifact(&Scene::release());
    let bytes = fs::read(&artifact).expect("read it");
    fs::write(&artifact, &bytes[..bytes.len() / 2]).expect("cut it");
    scene.offer_file(thimble_testkit::ID, &artifact, "release-2");
    assert_refused(scene, "ARTIFACT");
}

#[test]
fn a_file_that_is_no_artifact_is_refused() {
    let scene = Scene::new("none", THIMBLE);
    let file = scene.path().join("page.html");
    fs::write(&file, "<html>please log in to this hotel</html>\n".repeat(100)).expect("write it");
    scene.offer_file(thimble_testkit::ID, &file, "release-2");
    assert_refused_before_writing(scene, "ARTIFACT");
}

#[test]
fn with_a_key_configured_only_what_it_signed_is_installed() {
    let keys = thimble_testkit::TempDir::new("keys");
    let good = SigningKey::generate();
    let other = SigningKey::generate();
    let public = keys.path().join("good.pub");
    fs::write(&public, good.public_pem()).expect("write the public key");
    let config = format!("\"{}\"", public.display());
    let config = [("ArtifactVerifyKey", config.as_str())];

    let scene = Scene::configured("unsigned", THIMBLE, &config);
    scene.offer(&Scene::release());
    assert_refused_before_writing(scene, "ARTIFACT-SIGNATURE");

    let scene = Scene::configured("othersigned", THIMBLE, &config);
    scene.offer(&Scene::release().sign(&other));
    assert_refused_before_writing(scene, "ARTIFACT-SIGNATURE");

    let mut scene = Scene::configured("signed", THIMBLE, &config);
    scene.offer(&Scene::release().sign(&good));
    assert_eq!(scene.update().code, 0, "{}", scene.device.log());
    scene.assert_new();
}

/// AF-61 to AF-63: one key that fits is enough; one that cannot be read verifies nothing, and opens nothing.
#[test]
fn keys_that_cannot_be_read_never_let_anything_in() {
    let keys = thimble_testkit::TempDir::new("keys");
    let (good, other) = (SigningKey::generate(), SigningKey::generate());
    let write = |name: &str, text: &str| {
        let path = keys.path().join(name);
        fs::write(&path, text).expect("write a key");
        format!("\"{}\"", path.display())
    };
    let (good_file, other_file) =
        (write("good.pub", &good.public_pem()), write("other.pub", &other.public_pem()));
    let garbage = write("garbage.pub", "not a key\n");
    let missing = format!("\"{}\"", keys.path().join("missing.pub").display());
    for (list, signed_is_taken) in [
        (vec![&other_file, &good_file], true),
        (vec![&missing, &garbage, &good_file], true),
        (vec![&missing], false),
        (vec![&garbage, &missing], false),
        (vec![&other_file, &missing], false),
    ] {
        let list = list.into_iter().map(String::as_str).collect::<Vec<_>>().join(",");
        let list = format!("[{list}]");
        let mut scene = Scene::configured("keys", THIMBLE, &[("ArtifactVerifyKeys", &list)]);
        let release = scene.scripted(Scene::release(), &[]);
        let (env, slot) = (scene.device.env(), scene.device.slot_bytes(3));
        let refuse = |spec: &ArtifactSpec| {
            let artifact = scene.artifact(spec).display().to_string();
            scene.run(&["install", &artifact]).expect(1).complains("ARTIFACT-SIGNATURE");
            assert_eq!(scene.device.env(), env, "{list}");
            assert_eq!(scene.device.slot_bytes(3), slot, "{list}");
            assert!(!scene.scripts_ran().iter().any(|name| name.starts_with("Artifact")), "{list}");
        };
        refuse(&release);
        let signed = release.clone().sign(&good);
        if signed_is_taken {
            let artifact = scene.artifact(&signed).display().to_string();
            scene.run(&["install", &artifact]).expect(0);
        } else {
            refuse(&signed);
            scene.assert_old();
        }
    }
}

#[test]
fn a_device_that_does_not_know_its_type_takes_nothing() {
    let mut scene = Scene::new("notype", THIMBLE);
    fs::remove_file(scene.device.root().join("var/lib/mender/device_type")).expect("remove it");
    let artifact = scene.artifact(&Scene::release()).display().to_string();
    let before = scene.device.slot_bytes(3);
    scene.run(&["install", &artifact]).expect(1).complains("device_type");
    assert_eq!(scene.device.slot_bytes(3), before);
    scene.assert_settled(2);
}

#[test]
fn a_device_without_root_partitions_in_its_configuration_refuses_and_names_the_keys() {
    let config = [("RootfsPartA", "null"), ("RootfsPartB", "null")];
    let scene = Scene::configured("noparts", THIMBLE, &config);
    scene.offer(&Scene::release());
    assert_refused_before_writing(scene, "RootfsPartA and RootfsPartB");
}

#[test]
fn a_device_whose_boot_environment_is_destroyed_refuses_and_writes_nothing() {
    let mut scene = Scene::new("noenv", THIMBLE);
    scene.device.damage_env(0);
    scene.device.damage_env(1);
    let environment = fs::read(scene.device.dir().join("dev/ubootenv")).expect("the environment");
    let slots = [scene.device.slot_bytes(2), scene.device.slot_bytes(3)];
    scene.offer(&Scene::release());
    let ending = scene.update();
    assert_eq!((ending.code, ending.boots), (5, 0), "{}", ending.output);
    let log = scene.assert_failure_reported();
    assert!(log.iter().any(|line| line.contains("fw_env.config") || line.contains("ubootenv")), "{log:#?}");
    assert_eq!([scene.device.slot_bytes(2), scene.device.slot_bytes(3)], slots);
    assert_eq!(fs::read(scene.device.dir().join("dev/ubootenv")).expect("the environment"), environment);
    assert_eq!(scene.artifact_name(), "release-1");
}

#[test]
fn one_damaged_copy_of_the_boot_environment_is_no_reason_to_fail() {
    for copy in [0, 1] {
        let mut scene = Scene::new("onecopy", THIMBLE);
        scene.device.damage_env(copy);
        scene.offer(&Scene::release());
        assert_eq!(scene.update().code, 0, "{}", scene.device.log());
        scene.assert_new();
    }
}

#[test]
fn a_single_copy_environment_works_with_a_warning_unless_the_configuration_refuses() {
    let options = DeviceOptions { redundant_env: false, ..DeviceOptions::default() };
    let mut scene = Scene::with("single", THIMBLE, Options::default(), options.clone());
    scene.offer(&Scene::release());
    let ending = scene.update();
    assert_eq!(ending.code, 0, "{}", ending.output);
    assert!(ending.output.contains("WARN"), "{}", ending.output);
    scene.assert_new();

    let config = vec![("BootEnvironment".to_owned(), r#"{"RequireRedundant": true}"#.to_owned())];
    let scene = Scene::with("refuses", THIMBLE, Options::default(), DeviceOptions { config, ..options });
    scene.offer(&Scene::release());
    assert_refused_before_writing(scene, "RequireRedundant");
}

#[test]
fn an_update_in_progress_of_somebody_else_is_not_overwritten() {
    let mut scene = Scene::new("pending", THIMBLE);
    scene.device.set_env("upgrade_available", "1");
    scene.offer(&Scene::release());
    let before = scene.device.slot_bytes(3);
    let ending = scene.update();
    assert_eq!((ending.code, ending.boots), (5, 0), "{}", ending.output);
    let log = scene.assert_failure_reported();
    assert!(log.iter().any(|line| line.contains("ROOTFS-PENDING")), "{log:#?}");
    assert_eq!(scene.device.slot_bytes(3), before);
    assert_eq!(scene.device.env()["upgrade_available"], "1", "that is for somebody else to settle");
}

#[test]
fn a_missing_canary_keeps_the_environment_untouched() {
    let variables = vec![("mender_saveenv_canary".to_owned(), "0".to_owned())];
    let options = DeviceOptions { variables, ..DeviceOptions::default() };
    let scene = Scene::with("canary", THIMBLE, Options::default(), options);
    scene.offer(&Scene::release());
    assert_refused_before_writing(scene, "canary");
}
