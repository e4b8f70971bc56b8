//! The hostile corpus: Artifacts that somebody made wrong, by accident or on purpose, each refused with its code and
//! its words, in little memory and little time, and without anything to boot from.
//!
//! The corpus is made here, by [`kinds::all`]: every kind differs from a good Artifact in the one thing that its name
//! says, and all checksums fit unless they are what is wrong. To get the files, for other programs:
//! `HOSTILE_DIR=/some/where cargo test --test hostile write_the_corpus -- --ignored`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../data/artifact_writer.rs"]
mod artifact_writer;
mod kinds;
mod program;
mod server;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use artifact_writer::{NO_KEYS, read};
use kinds::Kind;
use thimble::artifact::{self, Options, VerifyKey};
use thimble::error::{Error, Result};

/// The corpus, made once: some kinds take a compressor its time.
fn corpus() -> &'static [Kind] {
    static CORPUS: OnceLock<Vec<Kind>> = OnceLock::new();
    CORPUS.get_or_init(kinds::all)
}

fn file_of(dir: &Path, kind: &Kind) -> PathBuf {
    let path = dir.join(format!("{}.mender", kind.name));
    std::fs::write(&path, &kind.bytes).unwrap();
    path
}

#[test]
fn there_are_many_kinds_and_each_has_its_own_name() {
    let all = corpus();
    let names: BTreeSet<&str> = all.iter().map(|kind| kind.name).collect();
    assert_eq!(names.len(), all.len());
    assert!(all.len() >= 250, "{}", all.len());
    let docs = std::fs::read_to_string("docs/artifacts.md").unwrap();
    assert!(docs.contains(&format!("each of {} hostile Artifacts", all.len())), "docs: {}", all.len());
}

#[test]
fn what_the_kinds_are_made_from_is_good() {
    for bytes in kinds::good() {
        let seen = read(&bytes).unwrap();
        assert_eq!(seen.files.len(), 1);
    }
}

#[test]
fn every_kind_is_refused_by_the_reader_with_its_code_and_words() {
    let keys = [VerifyKey::from_pem(kinds::KEY, "k.pem").unwrap()];
    let locked = Options { keys: &keys, signature_required: true, ..NO_KEYS };
    let mut wrong = Vec::new();
    for kind in corpus() {
        let result = consume(&kind.bytes[..], if kind.key { &locked } else { &NO_KEYS });
        let (code, text) = result.map_or_else(|e| (e.code, e.text), |()| ("ACCEPTED", String::new()));
        if code != kind.code || !text.contains(kind.says) {
            wrong.push(format!("{}: {code}: {text}; wanted {}: {}", kind.name, kind.code, kind.says));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Reads an Artifact as an update does, and keeps nothing.
fn consume(source: impl std::io::Read, options: &Options) -> Result<()> {
    let mut opened = artifact::open(source, options)?;
    opened.scripts.extract(&mut |_, content| {
        std::io::copy(content, &mut std::io::sink()).map(drop).map_err(|e| Error::new("TEST", e.to_string()))
    })?;
    let mut buffer = [0; 32 << 10];
    while opened.payload.next_file()?.is_some() {
        while opened.payload.read(&mut buffer)? > 0 {}
    }
    Ok(())
}

#[test]
#[ignore = "writes the corpus for use elsewhere"]
fn write_the_corpus() {
    let dir = PathBuf::from(std::env::var_os("HOSTILE_DIR").expect("HOSTILE_DIR says where"));
    std::fs::create_dir_all(&dir).unwrap();
    for kind in corpus() {
        file_of(&dir, kind);
        println!("{}\t{}\t{}", kind.name, kind.code, kind.says);
    }
}

/// A download can end anywhere, most likely where a packet ends.
#[test]
fn truncation_at_every_block_and_beside_it_is_an_error() {
    for whole in kinds::good() {
        for block in (0..=whole.len()).step_by(512) {
            for end in [block.saturating_sub(1), block, block + 1] {
                if end < whole.len() {
                    let error = read(&whole[..end]).expect_err("cut");
                    assert_eq!(error.code, "ARTIFACT-TRUNCATED", "at {end}: {}", error.text);
                }
            }
        }
    }
}
