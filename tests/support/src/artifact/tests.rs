//! The writer against Debian's `mender-artifact`.

use super::*;
use crate::{TempDir, tool};

fn mender_artifact(args: &[&str]) -> Result<String, String> {
    tool::run("mender-artifact", "mender-artifact", args)
        .map(|out| String::from_utf8_lossy(&out).into_owned())
}

/// Writes it, has it validated, returns what `mender-artifact read` says.
fn read(spec: &ArtifactSpec) -> String {
    let dir = TempDir::new("artifact");
    let path = dir.path().join("test.mender");
    spec.write(&path).unwrap();
    assert_eq!(std::fs::read(&path).unwrap().len(), spec.bytes().len());
    let path = path.to_str().unwrap();
    mender_artifact(&["validate", path]).unwrap();
    mender_artifact(&["read", path]).unwrap()
}

fn assert_says(text: &str, wanted: &[&str]) {
    for wanted in wanted {
        assert!(text.contains(wanted), "{wanted:?} is not in: {text}");
    }
}

#[test]
fn rootfs_images_are_read_by_mender_artifact() {
    let image = Content::Pattern { size: 300_001, seed: 7 };
    let spec = ArtifactSpec::rootfs("release-2", image.clone())
        .device_types(&["type-a", "type-b"])
        .script("ArtifactInstall_Enter_00_first", "#!/bin/sh\nexit 0\n")
        .script("ArtifactCommit_Leave_99", "#!/bin/sh\nexit 0\n");
    for spec in [spec.clone(), spec.uncompressed()] {
        let text = read(&spec);
        assert_says(
            &text,
            &[
                "release-2",
                "type-a",
                "type-b",
                "rootfs-image",
                "rootfs.ext4",
                "300001",
                "ArtifactInstall_Enter_00_first",
                "ArtifactCommit_Leave_99",
                "rootfs-image.version: release-2",
                &image.sha256().unwrap(),
            ],
        );
    }
}

#[test]
fn module_artifacts_with_all_members() {
    let mut spec = ArtifactSpec::module("single-file", "mod \"1\"")
        .file("one", "first file")
        .file("two", Content::Bytes(Vec::new()))
        .depend("other.key", &["v1"])
        .depend("list.key", &["v1", "v2"]);
    spec.group = Some("group-c".to_owned());
    spec.depends_name = vec!["release-0".to_owned()];
    spec.depends_group = vec!["group-a".to_owned(), "group-b".to_owned()];
    spec.meta_data = Some(r#"{"dest":"/tmp/x"}"#.to_owned());
    let text = read(&spec);
    let wanted = [
        "mod \"1\"",
        "single-file",
        "one",
        "two",
        "group-c",
        "release-0",
        "group-a",
        "other.key: v1",
        "list.key",
    ];
    assert_says(&text, &wanted);
    assert_says(&text, &["/tmp/x", "rootfs-image.single-file.*"]);
}

#[test]
fn an_empty_payload_is_a_bootstrap_artifact() {
    assert_says(&read(&ArtifactSpec::empty("first")), &["first", "rootfs-image.version: first"]);
}

#[test]
fn signatures_verify_with_mender_artifact_and_only_with_the_right_key() {
    let dir = TempDir::new("sign");
    let rsa = tool::run(
        "openssl",
        "openssl",
        &["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
    );
    let rsa = SigningKey::rsa_from_pem(&String::from_utf8(rsa.unwrap()).unwrap());
    let path = dir.path().join("test.mender");
    let public = dir.path().join("public.pem");
    let (path, public) = (path.to_str().unwrap(), public.to_str().unwrap());
    for key in [SigningKey::generate(), rsa] {
        ArtifactSpec::rootfs("signed", "image").sign(&key).write(Path::new(path)).unwrap();
        std::fs::write(public, key.public_pem()).unwrap();
        mender_artifact(&["validate", "-k", public, path]).unwrap();
        std::fs::write(public, SigningKey::generate().public_pem()).unwrap();
        mender_artifact(&["validate", "-k", public, path]).unwrap_err();
    }
}

#[test]
fn bytes_are_the_same_each_time() {
    let spec = ArtifactSpec::rootfs("same", "image");
    assert_eq!(spec.bytes(), spec.bytes());
}
