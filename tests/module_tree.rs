//! The file tree of an Update Module: what is in it, when it is made and when it goes.
#![allow(clippy::expect_used, clippy::panic)]

#[path = "data/module_bench.rs"]
mod bench;

use bench::{Bench, Fake, current, header, lines, names};
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use thimble::install::module::Current;
use thimble::json;
use thimble::ports::Payload;
use thimble_testkit::artifact::ArtifactSpec;

fn text(bench: &Bench, name: &str) -> String {
    fs::read_to_string(bench.in_tree(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn spec() -> ArtifactSpec {
    ArtifactSpec {
        group: Some("new-group".into()),
        meta_data: Some(r#"{"nested":{"a":[1,2]},"file":"x \"y\""}"#.into()),
        ..ArtifactSpec::module("test", "new-name").depend("some.key", &["a", "b"])
    }
}

#[test]
fn a_new_tree_says_what_is_installed_and_what_comes() {
    let bench = Bench::new("exit 0");
    let installed = Current { group: Some("old-group".into()), ..current() };
    bench.module().prepare(&header(&spec()), &installed).expect("prepares");
    for (name, content) in [
        ("version", "3\n"),
        ("current_artifact_name", "old-name\n"),
        ("current_artifact_group", "old-group\n"),
        ("current_device_type", "test-type\n"),
        ("header/artifact_name", "new-name"),
        ("header/artifact_group", "new-group"),
        ("header/payload_type", "test"),
    ] {
        assert_eq!(text(&bench, name), content, "{name}");
    }
    assert_eq!(names(&bench.tree()).len(), 6, "four files, header, tmp; nothing of the streams as yet");
    assert_eq!(names(&bench.in_tree("header")).len(), 6);
    assert!(names(&bench.in_tree("tmp")).is_empty());
}

#[test]
fn a_tree_says_nothing_where_there_is_nothing_to_say() {
    let bench = Bench::new("exit 0");
    bench
        .module()
        .prepare(&header(&ArtifactSpec::module("test", "new")), &Current::default())
        .expect("prepares");
    for name in
        ["current_artifact_name", "current_artifact_group", "current_device_type", "header/artifact_group"]
    {
        assert_eq!(text(&bench, name), "", "{name}");
    }
    assert_eq!(text(&bench, "header/meta-data"), "null");
}

#[test]
fn the_json_of_the_header_is_indented_and_whole() {
    let bench = Bench::new("exit 0");
    let header = header(&spec());
    bench.module().prepare(&header, &current()).expect("prepares");
    assert_eq!(
        text(&bench, "header/meta-data"),
        "{\n  \"file\": \"x \\\"y\\\"\",\n  \"nested\": {\n    \"a\": [\n      1,\n      2\n    ]\n  }\n}"
    );
    for (name, value) in
        [("header/header-info", &header.header_info), ("header/type-info", &header.type_info)]
    {
        let found = json::parse(&text(&bench, name)).expect("valid");
        assert_eq!(json::write(&found), json::write(value), "{name}");
        assert!(text(&bench, name).starts_with("{\n  \""), "{name}");
    }
}

#[test]
fn the_tree_is_nobody_elses_business() {
    let bench = Bench::new("ls -l > /dev/null");
    bench.prepared();
    let mode = |path: &std::path::Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    for dir in ["", "header", "tmp", "..", "../..", "../../..", "../../../.."] {
        assert_eq!(mode(&bench.in_tree(dir)), 0o700, "{dir:?}");
    }
    for file in
        ["version", "current_device_type", "header/artifact_name", "header/type-info", "header/meta-data"]
    {
        assert_eq!(mode(&bench.in_tree(file)), 0o600, "{file}");
    }
}

#[test]
fn a_leftover_tree_is_wiped_whatever_it_is() {
    let bench = Bench::new("exit 0");
    let module = bench.prepared();
    for name in ["files", "streams", "tmp/deep"] {
        fs::create_dir_all(bench.in_tree(name)).expect("creates");
        fs::write(bench.in_tree(name).join("stale"), "x").expect("writes");
    }
    let elsewhere = bench.dir().join("elsewhere");
    fs::create_dir(&elsewhere).expect("creates");
    fs::write(elsewhere.join("precious"), "x").expect("writes");
    std::os::unix::fs::symlink(&elsewhere, bench.in_tree("link")).expect("links");
    module.prepare(&header(&spec()), &current()).expect("prepares");
    assert_eq!(names(&bench.tree()).len(), 6);
    assert!(elsewhere.join("precious").exists());

    for stale in ["file", "link"] {
        fs::remove_dir_all(bench.tree()).expect("removes");
        match stale {
            "file" => fs::write(bench.tree(), "x").expect("writes"),
            _ => std::os::unix::fs::symlink(&elsewhere, bench.tree()).expect("links"),
        }
        module.prepare(&header(&spec()), &current()).expect("prepares");
        assert_eq!(names(&bench.tree()).len(), 6);
        assert!(elsewhere.join("precious").exists());
    }
}

#[test]
fn streams_are_there_while_the_payload_is_downloaded() {
    let bench = Bench::new(
        r#"
        case $1 in
        ProvidePayloadFileSizes) [ ! -e stream-next ] && [ ! -e streams ] ;;
        Download)
            [ -p stream-next ] && [ -d streams ] && [ -z "$(ls streams)" ] || exit 1
            ls -l stream-next > mode
            [ "$(cat stream-next)" = streams/a ] && [ -p streams/a ] || exit 2
            [ "$(cat streams/a)" = abc ] || exit 3
            [ -z "$(cat stream-next)" ] ;;
        esac
        "#,
    );
    bench.prepared().store(&mut Fake::of(&[("a", b"abc")])).expect("stores");
    assert!(lines(&bench.in_tree("mode"))[0].starts_with("prw-------"));
}

#[test]
fn pipes_are_made_for_their_owner_only() {
    let bench =
        Bench::new("[ $1 = Download ] || exit 0; cat stream-next > line; ls -l streams > mode; kill $$");
    let mut module = bench.prepared();
    module.store(&mut Fake::of(&[("a", b"abc")])).expect_err("killed");
    assert!(lines(&bench.in_tree("mode")).iter().any(|line| line.starts_with("prw-------")));
    let next = fs::metadata(bench.in_tree("stream-next")).expect("left for Cleanup");
    assert!(next.file_type().is_fifo());
    module.cleanup().expect("cleans up, pipes too");
    assert!(!bench.tree().exists());
}

#[test]
fn what_a_module_keeps_in_its_tree_is_there_in_later_calls_and_after_a_restart_of_the_agent() {
    let bench = Bench::new(
        r#"
        case $1 in
        ArtifactInstall) echo backup > tmp/x ;;
        ArtifactRollback) [ "$(cat tmp/x)" = backup ] && [ "$(cat files/a)" = abc ] ;;
        esac
        "#,
    );
    bench.prepared().store(&mut Fake::of(&[("a", b"abc")])).expect("stores");
    bench.module().install().expect("installs");
    bench.module().rollback().expect("finds it again");
}

#[test]
fn a_tree_that_cannot_be_made_is_an_error_that_names_the_path() {
    let bench = Bench::new("exit 0");
    fs::write(bench.dir().join("data"), "a file in the way").expect("writes");
    let error = bench.module().prepare(&header(&spec()), &current()).expect_err("in the way");
    assert_eq!(error.code, "MODULE-TREE");
    assert!(error.text.contains("modules/v3/payloads/0000/tree"), "{error}");
}
