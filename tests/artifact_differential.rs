//! thimble and Debian's mender-artifact about the same Artifacts, good and bad: both take one, or both refuse it. Where
//! they differ, a row of the table in docs/artifacts.md says why, and every row must still be true.
//!
//! Artifacts: what the official writer makes of its options; simple changes of those; the hostile corpus.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "data/artifact_writer.rs"]
mod artifact_writer;
#[path = "hostile/kinds/mod.rs"]
#[allow(dead_code)]
mod kinds;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use artifact_writer::{NO_KEYS, Seen, read_with, sha256};
use thimble::artifact::{Options, VerifyKey};
use thimble::error::Result;
use thimble_testkit::TempDir;

/// One Artifact, and the key that the reader is given.
struct Case {
    name: String,
    bytes: Vec<u8>,
    key: Option<String>,
}

/// Options of `mender-artifact write`, without name and output; `KEY` is signed with that kind of key.
const WRITTEN: [(&str, &str); 45] = [
    ("rootfs-gzip", "rootfs-image -f image -t dev --compression gzip"),
    ("rootfs-none", "rootfs-image -f image -t dev --compression none"),
    ("rootfs-lzma", "rootfs-image -f image -t dev --compression lzma"),
    ("rootfs-empty-image", "rootfs-image -f empty -t dev"),
    ("rootfs-of-noise", "rootfs-image -f noise -t dev"),
    ("rootfs-of-noise-lzma", "rootfs-image -f noise -t dev --compression lzma"),
    ("rootfs-two-devices", "rootfs-image -f image -t devA -t devB"),
    (
        "rootfs-scripts",
        "rootfs-image -f image -t dev -s ArtifactInstall_Enter_00 -s ArtifactCommit_Leave_99_x",
    ),
    ("rootfs-scripts-lzma", "rootfs-image -f image -t dev -s ArtifactInstall_Enter_00 --compression lzma"),
    ("rootfs-provides", "rootfs-image -f image -t dev -p a:b -p c:d"),
    ("rootfs-depends", "rootfs-image -f image -t dev -d a:b -d rootfs-image.version:1"),
    ("rootfs-depends-name", "rootfs-image -f image -t dev -N one -N two"),
    ("rootfs-depends-group", "rootfs-image -f image -t dev -G one -G two"),
    ("rootfs-group", "rootfs-image -f image -t dev -g one"),
    ("rootfs-clears", "rootfs-image -f image -t dev --clears-provides a.* --clears-provides b"),
    ("rootfs-clears-nothing", "rootfs-image -f image -t dev --no-default-clears-provides"),
    ("rootfs-no-version", "rootfs-image -f image -t dev --no-default-software-version"),
    ("rootfs-no-checksum", "rootfs-image -f image -t dev --no-checksum-provide"),
    (
        "rootfs-bare",
        "rootfs-image -f image -t dev --no-checksum-provide --no-default-software-version \
         --no-default-clears-provides",
    ),
    ("rootfs-legacy-checksum", "rootfs-image -f image -t dev --legacy-rootfs-image-checksum"),
    (
        "rootfs-software",
        "rootfs-image -f image -t dev --software-name n --software-filesystem f --software-version 7",
    ),
    ("version-2-gzip", "rootfs-image -v 2 -f image -t dev --compression gzip"),
    ("version-2-none", "rootfs-image -v 2 -f image -t dev --compression none"),
    ("version-2-lzma", "rootfs-image -v 2 -f image -t dev --compression lzma"),
    ("version-2-scripts", "rootfs-image -v 2 -f image -t dev -s ArtifactInstall_Enter_00"),
    ("module-gzip", "module-image -T type -f image -t dev --compression gzip"),
    ("module-none", "module-image -T type -f image -t dev --compression none"),
    ("module-lzma", "module-image -T type -f image -t dev --compression lzma"),
    ("module-no-file", "module-image -T type -t dev"),
    ("module-three-files", "module-image -T type -t dev -f image -f empty -f noise"),
    ("module-long-name", "module-image -T type -t dev -f LONG"),
    ("module-meta-data", "module-image -T type -t dev -f image -m meta.json"),
    ("module-meta-data-lzma", "module-image -T type -t dev -f image -m meta.json --compression lzma"),
    (
        "module-all",
        "module-image -T type -t dev -f image -m meta.json -N a -G b -g c -p my.key:v -d other.key:w \
         --clears-provides my.* -s ArtifactFailure_Error_05 --software-name n",
    ),
    ("module-augmented", "module-image -T type -t dev -f image --augment-type type --augment-file noise"),
    ("bootstrap-gzip", "bootstrap-artifact -t dev -p a:b --compression gzip"),
    ("bootstrap-none", "bootstrap-artifact -t dev -g g --compression none"),
    ("bootstrap-lzma", "bootstrap-artifact -t dev --compression lzma"),
    ("signed-p256", "rootfs-image -f image -t dev -k p256"),
    ("signed-rsa-2048", "rootfs-image -f image -t dev -k rsa2048"),
    ("signed-rsa-3072", "rootfs-image -f image -t dev -k rsa3072"),
    ("signed-rsa-4096", "rootfs-image -f image -t dev -k rsa4096"),
    ("signed-module", "module-image -T type -t dev -f image -m meta.json -k p256"),
    ("signed-version-2", "rootfs-image -v 2 -f image -t dev -k rsa2048"),
    ("signed-lzma", "rootfs-image -f image -t dev -k p256 --compression lzma"),
];

/// About these mender-artifact changes its mind from run to run: two threads of it read the same entry, and which of them
/// gets the bytes after the end of the archive decides whether the checksum fits.
const UNSTEADY: [&str; 1] = ["header-incompressible"];

fn run(dir: &Path, program: &str, package: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).current_dir(dir).output().unwrap_or_else(|e| {
        panic!("cannot run {program}: {e}. This test needs it: apt-get install {package}")
    })
}

#[track_caller]
fn well(dir: &Path, program: &str, package: &str, arguments: &str) {
    let words: Vec<&str> = arguments.split_whitespace().collect();
    let output = run(dir, program, package, &words);
    assert!(output.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What the writer makes, each read without a key, with its own, and with another one.
fn written(dir: &Path) -> Vec<Case> {
    let file = |name: &str, content: &[u8]| std::fs::write(dir.join(name), content).unwrap();
    let long = "n".repeat(200);
    file("image", b"an image\n");
    file("empty", b"");
    file("noise", &kinds::noise(30_000));
    file(&long, b"x");
    file("meta.json", br#"{"dest":"/tmp/x","n":3,"l":["a",1,null,{"b":true}]}"#);
    for script in ["ArtifactInstall_Enter_00", "ArtifactCommit_Leave_99_x", "ArtifactFailure_Error_05"] {
        file(script, b"#!/bin/sh\n");
    }
    well(dir, "openssl", "openssl", "ecparam -name prime256v1 -genkey -noout -out p256");
    well(dir, "openssl", "openssl", "ec -in p256 -pubout -out p256.pub");
    well(dir, "openssl", "openssl", "ecparam -name prime256v1 -genkey -noout -out stranger");
    well(dir, "openssl", "openssl", "ec -in stranger -pubout -out stranger.pub");
    for bits in [2048, 3072, 4096] {
        well(dir, "openssl", "openssl", &format!("genrsa -traditional -out rsa{bits} {bits}"));
        well(dir, "openssl", "openssl", &format!("rsa -in rsa{bits} -pubout -out rsa{bits}.pub"));
    }
    let pem = |name: &str| Some(std::fs::read_to_string(dir.join(format!("{name}.pub"))).unwrap());
    let mut cases = Vec::new();
    for (name, options) in WRITTEN {
        let options = options.replace("LONG", &long);
        // `module-image` knows no --no-progress.
        well(dir, "mender-artifact", "mender-artifact", &format!("write {options} -n release -o out"));
        let bytes = std::fs::read(dir.join("out")).unwrap();
        let mut case = |name: String, key| cases.push(Case { name, bytes: bytes.clone(), key });
        if let Some((_, key)) = options.split_once("-k ") {
            let key = key.split_whitespace().next().unwrap();
            case(name.to_owned(), pem(key));
            case(format!("{name}-read-without-key"), None);
            case(format!("{name}-read-with-another-key"), pem("stranger"));
        } else {
            case(name.to_owned(), None);
        }
    }
    let unsigned = cases.iter().find(|case| case.name == "rootfs-gzip").unwrap().bytes.clone();
    cases.push(Case { name: "unsigned-read-with-key".into(), bytes: unsigned, key: pem("p256") });
    cases
}

/// The outer entries, block and content, and the end.
fn split(archive: &[u8]) -> Vec<Vec<u8>> {
    let (mut all, mut at) = (Vec::new(), 0);
    while archive[at] != 0 {
        let size = std::str::from_utf8(&archive[at + 124..at + 135]).unwrap();
        let end = at + 512 + usize::from_str_radix(size, 8).unwrap().next_multiple_of(512);
        all.push(archive[at..end].to_vec());
        at = end;
    }
    all
}

/// Simple changes of an Artifact of the writer: what a bad copy or a bad tool does.
fn changed(case: &Case) -> Vec<Case> {
    let entries = split(&case.bytes);
    let mut cases = Vec::new();
    let mut add = |what: String, bytes: Vec<u8>| {
        cases.push(Case { name: format!("{}-{what}", case.name), bytes, key: case.key.clone() });
    };
    let join = |entries: &[Vec<u8>]| artifact_writer::tar(entries);
    assert!(join(&entries) == case.bytes, "{}", case.name);
    for n in 0..entries.len() {
        let mut without = entries.clone();
        without.remove(n);
        add(format!("without-entry-{n}"), join(&without));
        let mut twice = entries.clone();
        twice.insert(n, entries[n].clone());
        add(format!("with-entry-{n}-twice"), join(&twice));
        if n > 0 {
            let mut swapped = entries.clone();
            swapped.swap(n - 1, n);
            add(format!("with-entry-{n}-too-early"), join(&swapped));
        }
        let mut flipped = entries.clone();
        let middle = 512 + (entries[n].len() - 512) / 4;
        flipped[n][middle] ^= 0x20;
        add(format!("with-a-bit-flipped-in-entry-{n}"), join(&flipped));
        let mut renamed = entries[n].clone();
        // The same sum: two letters change places.
        renamed.swap(0, 1);
        let mut all = entries.clone();
        all[n] = renamed;
        add(format!("with-entry-{n}-renamed"), join(&all));
        let start: usize = entries[..n].iter().map(Vec::len).sum();
        add(format!("cut-in-the-block-of-entry-{n}"), case.bytes[..start + 100].to_vec());
        add(format!("cut-in-entry-{n}"), case.bytes[..start + 520].to_vec());
    }
    cases
}

fn all_cases(dir: &Path) -> Vec<Case> {
    let mut cases = written(dir);
    assert!(cases.len() >= 40);
    for name in ["rootfs-none", "version-2-lzma", "module-all", "signed-p256", "bootstrap-gzip"] {
        let case = cases.iter().find(|case| case.name == name).unwrap();
        let more = changed(case);
        cases.extend(more);
    }
    for (name, bytes) in ["gzip", "none", "gzip-again", "xz", "zstd"].into_iter().zip(kinds::good()) {
        cases.push(Case { name: format!("ours-{name}"), bytes, key: None });
    }
    let steady = kinds::all().into_iter().filter(|kind| !UNSTEADY.contains(&kind.name));
    cases.extend(steady.map(|kind| Case {
        name: kind.name.to_owned(),
        bytes: kind.bytes,
        key: kind.key.then(|| kinds::KEY.to_owned()),
    }));
    cases
}

/// The verdict of thimble.
fn ours(case: &Case) -> Result<Seen> {
    let keys: Vec<VerifyKey> = case.key.iter().map(|pem| VerifyKey::from_pem(pem, "key").unwrap()).collect();
    read_with(&case.bytes[..], &Options { keys: &keys, signature_required: !keys.is_empty(), ..NO_KEYS })
}

/// The verdict of `mender-artifact COMMAND`, and what it prints.
fn theirs(dir: &Path, command: &str, case: &Case) -> (bool, String) {
    std::fs::write(dir.join("case.mender"), &case.bytes).unwrap();
    let mut arguments = vec![command];
    if let Some(pem) = &case.key {
        std::fs::write(dir.join("key.pub"), pem).unwrap();
        arguments.extend(["-k", "key.pub"]);
    }
    arguments.push("case.mender");
    let output = run(dir, "mender-artifact", "mender-artifact", &arguments);
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// What they take and we do not, by names of cases, and the other way round: the rows of the table.
fn explained() -> BTreeMap<String, bool> {
    let text = std::fs::read_to_string("docs/artifacts.md").expect("docs/artifacts.md");
    let (_, section) =
        text.split_once("\n## Where mender-artifact and thimble differ\n").expect("the section");
    let section = section.split("\n## ").next().unwrap();
    let mut all = BTreeMap::new();
    for line in section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.split(" | ").map(|cell| cell.trim_matches(['|', ' '])).collect();
        let [names, theirs, ours, why] = cells[..] else { panic!("four columns: {line}") };
        let takes = ours.starts_with("accepted");
        assert!(takes || ours.starts_with("refused"), "{line}");
        assert!(theirs.contains(if takes { "refuse" } else { "accept" }), "{line}");
        assert!(why.len() > 10, "a reason: {line}");
        for name in names.split(", ") {
            let name = name
                .strip_prefix('`')
                .and_then(|name| name.strip_suffix('`'))
                .unwrap_or_else(|| panic!("{name}"));
            assert!(all.insert(name.to_owned(), takes).is_none(), "{name} has two rows");
        }
    }
    all
}

#[test]
fn both_take_an_artifact_or_both_refuse_it_or_the_table_says_why() {
    let dir = TempDir::new("differential");
    let dir = dir.path();
    let cases = all_cases(dir);
    let mut explained = explained();
    let (mut wrong, mut both, mut neither, mut different) = (Vec::new(), 0, 0, 0);
    for case in &cases {
        let ours = ours(case);
        let (validated, said) = theirs(dir, "validate", case);
        if validated == ours.is_ok() {
            *(if validated { &mut both } else { &mut neither }) += 1;
        } else {
            different += 1;
        }
        match (explained.remove(&case.name), validated == ours.is_ok()) {
            (None, true) => {}
            (Some(takes), false) if takes == ours.is_ok() => {}
            (Some(_), _) => {
                wrong.push(format!("{}: the table is wrong: thimble {ours:?}; {said}", case.name))
            }
            (None, false) => {
                let ours = ours.as_ref().map_or_else(|e| e.to_string(), |_| "accepted".to_owned());
                wrong.push(format!("{}: not explained: thimble: {ours}; mender-artifact: {said}", case.name));
            }
        }
        // `read` tells what it read: that must be what we read.
        let Ok(seen) = ours else { continue };
        let (read, told) = theirs(dir, "read", case);
        if !read && !validated {
            continue; // In the table.
        }
        if !read {
            wrong.push(format!("{}: read refuses it: {told}", case.name));
        }
        let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
        let name = format!("Name: {}", seen.header.name);
        let provides = seen.header.provides.iter().map(|(key, value)| format!("{key}: {value}"));
        let sums = seen.files.iter().map(|(_, content)| format!("checksum: {}", sha256(content)));
        let names = seen.files.iter().map(|(name, _)| format!("name: {name}"));
        for word in sums.chain(names).chain(provides).chain([name]).chain(seen.header.depends.device_types) {
            if !told.contains(&word) {
                wrong.push(format!("{}: {word} is not in {told}", case.name));
            }
        }
    }
    for name in explained.keys() {
        wrong.push(format!("{name}: the table explains what is no case"));
    }
    let docs = std::fs::read_to_string("docs/artifacts.md").unwrap();
    for words in [
        format!("gives {} Artifacts", cases.len()),
        format!("Both take {both}, both refuse {neither}. About these {different} they"),
    ] {
        assert!(docs.contains(&words), "docs/artifacts.md should say: {words}");
    }
    println!("{} Artifacts: both take {both}, both refuse {neither}, {different} differ", cases.len());
    assert!(wrong.is_empty(), "{}\n(Debian's mender-artifact, 3.9.0, is meant.)", wrong.join("\n"));
}
