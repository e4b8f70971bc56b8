//! A sample of the kinds, one for each code and each way to be large, from a server: the device reports the failure
//! with its reason, and takes the next deployment.

use thimble_testkit::{Deployment, DeviceOptions, Options, Scene};

use super::{corpus, file_of, kinds};

const SAMPLE: [&str; 19] = [
    "nothing",
    "web-page",
    "manifest-first",
    "version-4",
    "augmented",
    "manifest-names-a-file-twice",
    "header-changed",
    "size-100-gib",
    "header-gzip-cut",
    "header-large-and-a-bomb-xz",
    "header-xz-dictionary-4-gib",
    "meta-data-of-many-lists",
    "type-traversal",
    "script-of-1-gib",
    "file-traversal",
    "file-last-bit",
    "file-of-100-gib",
    "data-bomb-behind-gzip",
    "cut-in-the-payload",
];

#[test]
fn what_a_server_sends_is_refused_the_same_and_reported_as_a_failure() {
    let options = DeviceOptions { device_type: "dev".to_owned(), ..DeviceOptions::default() };
    let mut scene = Scene::with("hostile-server", env!("CARGO_BIN_EXE_thimble"), Options::default(), options);
    let deployment = |number: usize| format!("00000000-0000-4000-8000-{number:012}");
    let offer = |scene: &Scene, number: usize, file: &std::path::Path| {
        scene.server.deploy(Deployment {
            id: deployment(number),
            artifact: file.to_owned(),
            artifact_name: "rel".to_owned(),
            device_types: vec!["dev".to_owned()],
        });
    };
    let env = std::fs::read(scene.device.dir().join("dev/ubootenv")).unwrap();
    let running = scene.device.slot_bytes(2);
    let mut codes = std::collections::BTreeSet::new();
    for (number, name) in SAMPLE.iter().enumerate() {
        let kind = corpus().iter().find(|kind| kind.name == *name).unwrap();
        assert!(!kind.key, "{name} is for a device with a key");
        let other = scene.device.slot_bytes(3);
        let file = file_of(scene.path(), kind);
        offer(&scene, number, &file);
        let ending = scene.update();
        assert_eq!((ending.code, ending.boots), (5, 0), "{name}: {}", ending.output);
        let statuses = scene.server.statuses(&deployment(number));
        assert_eq!(statuses.first().map(String::as_str), Some("downloading"), "{name}: {statuses:?}");
        assert_eq!(statuses.last().map(String::as_str), Some("failure"), "{name}: {statuses:?}");
        let (code, says) = kind.device.unwrap_or((kind.code, kind.says));
        let log = scene.server.logs(&deployment(number));
        let told = log.iter().any(|line| line.contains(code) && line.contains(says));
        assert!(told, "{name}: {code} {says}: {log:#?}");
        assert!(std::fs::read(scene.device.dir().join("dev/ubootenv")).unwrap() == env, "{name}");
        assert!(scene.device.slot_bytes(2) == running, "{name}");
        assert!(kind.payload || scene.device.slot_bytes(3) == other, "{name}: the other slot");
        codes.insert(code);
    }
    assert!(codes.len() >= 11, "{codes:?}");

    let good = scene.path().join("good.mender");
    std::fs::write(&good, &kinds::good()[0]).unwrap();
    offer(&scene, SAMPLE.len(), &good);
    let ending = scene.update();
    assert_eq!((ending.code, ending.boots), (0, 1), "{}", ending.output);
    assert_eq!(scene.artifact_name(), "rel");
    assert!(scene.device.slot_bytes(3).starts_with(&kinds::image()));
}
