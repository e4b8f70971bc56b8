//! The Update Modules that most devices have: single-file, directory and script. These behave like the published
//! ones towards us (which calls they answer, what they take from the tree and leave in it), and are written anew.
#![allow(clippy::expect_used, clippy::panic)]

#[path = "data/module_bench.rs"]
mod bench;

use bench::{Bench, Fake, current, header, lines, names};
use std::fs;
use thimble::agent::Reboot;
use thimble::install::module::Module;
use thimble::ports::Payload;
use thimble_testkit::artifact::ArtifactSpec;

/// Three small files say where the fourth one goes; the old one is kept in `tmp`.
const SINGLE_FILE: &str = r#"#!/bin/sh
set -e
tree=$2
prepare() {
    dest_dir=$(cat "$tree/files/dest_dir")
    filename=$(cat "$tree/files/filename")
    target=$dest_dir/$filename
    [ -n "$dest_dir" ] && [ -n "$filename" ]
}
case $1 in
NeedsArtifactReboot) echo "No" ;;
SupportsRollback) echo "Yes" ;;
ArtifactInstall)
    prepare
    if [ -e "$target" ]; then cp -a "$target" "$tree/tmp/$filename"; fi
    mkdir -p "$dest_dir"
    cp -a "$tree/files/$filename" "$target.tmp"
    chmod "$(cat "$tree/files/permissions")" "$target.tmp"
    mv "$target.tmp" "$target"
    echo "installed $filename" ;;
ArtifactRollback)
    prepare
    if [ -e "$tree/tmp/$filename" ]; then cp -a "$tree/tmp/$filename" "$target"; else rm -f "$target"; fi ;;
esac
exit 0
"#;

/// A tar goes to a directory; a tar of the old content is kept in `tmp`.
const DIRECTORY: &str = r#"#!/bin/sh
set -e
tree=$2
case $1 in
NeedsArtifactReboot) echo "No" ;;
SupportsRollback) echo "Yes" ;;
ArtifactInstall)
    dest=$(cat "$tree/files/dest_dir")
    if [ -d "$dest" ]; then tar -cf "$tree/tmp/backup.tar" -C "$dest" . ; fi
    rm -rf "$dest"; mkdir -p "$dest"
    tar -xf "$tree/files/update.tar" -C "$dest" ;;
ArtifactRollback)
    dest=$(cat "$tree/files/dest_dir")
    [ -f "$tree/tmp/backup.tar" ] || exit 0
    rm -rf "$dest"; mkdir -p "$dest"
    tar -xf "$tree/tmp/backup.tar" -C "$dest" ;;
esac
exit 0
"#;

/// Runs each file of the payload; there is no way back.
const SCRIPT: &str = r#"#!/bin/sh
case $1 in
NeedsArtifactReboot) echo "No" ;;
SupportsRollback) echo "No" ;;
ArtifactInstall)
    for each in "$2"/files/*; do
        chmod 755 "$each" || exit 1
        "$each" || exit 1
    done ;;
esac
exit 0
"#;

/// From the tree to the answer about rollback, as the agent would.
fn store(bench: &Bench, kind: &str, files: &[(&str, &[u8])]) -> (Module, bool) {
    let mut module = bench.module();
    module.check().expect("there");
    module.prepare(&header(&ArtifactSpec::module(kind, "new")), &current()).expect("prepares");
    module.store(&mut Fake::of(files)).expect("stores");
    let rollback = module.supports_rollback().expect("answers");
    (module, rollback)
}

#[test]
fn single_file_installs_and_commits() {
    let bench = Bench::of("single-file", SINGLE_FILE);
    let target = bench.dir().join("etc/app.conf");
    let dest = format!("{}\n", bench.dir().join("etc").display());
    let (mut module, rollback) = store(
        &bench,
        "single-file",
        &[
            ("dest_dir", dest.as_bytes()),
            ("filename", b"app.conf\n"),
            ("permissions", b"640\n"),
            ("app.conf", b"new"),
        ],
    );
    assert!(rollback);
    module.install().expect("installs");
    assert_eq!(module.needs_reboot(), Ok(Reboot::No));
    module.commit().expect("commits");
    module.cleanup().expect("cleans up");
    assert_eq!(fs::read(&target).expect("there"), b"new");
    assert!(!bench.tree().exists());
}

#[test]
fn single_file_goes_back_also_when_asked_twice() {
    let bench = Bench::of("single-file", SINGLE_FILE);
    fs::create_dir(bench.dir().join("etc")).expect("creates");
    let target = bench.dir().join("etc/app.conf");
    fs::write(&target, "old").expect("writes");
    let dest = bench.dir().join("etc").display().to_string();
    let (mut module, _) = store(
        &bench,
        "single-file",
        &[
            ("dest_dir", dest.as_bytes()),
            ("filename", b"app.conf"),
            ("permissions", b"600"),
            ("app.conf", b"new"),
        ],
    );
    module.install().expect("installs");
    assert_eq!(fs::read(&target).expect("there"), b"new");
    module.rollback().expect("goes back");
    bench.module().rollback().expect("goes back again after a power cut");
    module.failure().expect("has nothing to do");
    module.cleanup().expect("cleans up");
    assert_eq!(fs::read(&target).expect("there"), b"old");
}

#[test]
fn directory_installs_and_goes_back() {
    let bench = Bench::of("directory", DIRECTORY);
    let dest = bench.dir().join("srv");
    let new = bench.dir().join("new");
    for (dir, name) in [(&dest, "old-page"), (&new, "new-page")] {
        fs::create_dir_all(dir.join("deep")).expect("creates");
        fs::write(dir.join("deep").join(name), name).expect("writes");
    }
    let tar = std::process::Command::new("tar").arg("-cf").arg("-").arg("-C").arg(&new).arg(".").output();
    let tar = tar.expect("runs").stdout;
    let path = dest.display().to_string();
    let (mut module, rollback) =
        store(&bench, "directory", &[("dest_dir", path.as_bytes()), ("update.tar", &tar)]);
    assert!(rollback);
    module.install().expect("installs");
    assert_eq!(names(&dest.join("deep")), ["new-page"]);
    module.rollback().expect("goes back");
    assert_eq!(names(&dest.join("deep")), ["old-page"]);
    module.cleanup().expect("cleans up");
}

#[test]
fn script_runs_its_files_in_order_and_has_no_way_back() {
    let bench = Bench::of("script", SCRIPT);
    let out = bench.dir().join("out");
    let write = |what: &str| format!("#!/bin/sh\necho {what} >> {}\n", out.display());
    let (mut module, rollback) = store(
        &bench,
        "script",
        &[("01-first", write("first").as_bytes()), ("02-second", write("second").as_bytes())],
    );
    assert!(!rollback);
    module.install().expect("installs");
    assert_eq!(lines(&out), ["first", "second"]);

    let (mut module, _) = store(&bench, "script", &[("bad", b"#!/bin/sh\nexit 3\n")]);
    assert_eq!(module.install().expect_err("the script fails").code, "MODULE-FAILED");
    module.failure().expect("has nothing to do");
    module.cleanup().expect("cleans up");
}
