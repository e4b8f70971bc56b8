//! Every truncation and every flipped bit of small whole Artifacts, that of the official writer among them: refused, or
//! provably without any effect.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "data/artifact_writer.rs"]
mod artifact_writer;

use artifact_writer::*;
use std::ops::Range;
use thimble::artifact::{Options, VerifyKey};
use thimble::error::Result;
use thimble_testkit::TempDir;

const BLOCK: usize = 512;

/// A signed Artifact as Debian's mender-artifact writes it, with everything that a rootfs-image can have, and the key.
fn official() -> (Vec<u8>, VerifyKey) {
    let dir = TempDir::new("bits");
    let run = |program: &str, package: &str, arguments: &str| {
        let output = std::process::Command::new(program)
            .args(arguments.split_whitespace())
            .current_dir(dir.path())
            .output()
            .unwrap_or_else(|e| panic!("cannot run {program}: {e}: apt-get install {package}"));
        assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    };
    std::fs::write(dir.path().join("image"), "the image\n").unwrap();
    std::fs::write(dir.path().join("ArtifactInstall_Enter_00"), "#!/bin/sh\n").unwrap();
    run("openssl", "openssl", "ecparam -name prime256v1 -genkey -noout -out key");
    run("openssl", "openssl", "ec -in key -pubout -out public");
    run(
        "mender-artifact",
        "mender-artifact",
        "write rootfs-image -f image -t dev -n rel -s ArtifactInstall_Enter_00 -k key -o out --no-progress",
    );
    let pem = std::fs::read_to_string(dir.path().join("public")).unwrap();
    (std::fs::read(dir.path().join("out")).unwrap(), VerifyKey::from_pem(&pem, "public").unwrap())
}

/// The entries of an outer archive: name, place of the block, place of the content.
fn entries(archive: &[u8]) -> Vec<(String, usize, Range<usize>)> {
    let (mut all, mut at) = (Vec::new(), 0);
    while archive[at] != 0 {
        let name = archive[at..].iter().take_while(|b| **b != 0).map(|b| char::from(*b)).collect();
        let size = std::str::from_utf8(&archive[at + 124..at + 135]).unwrap();
        let size = usize::from_str_radix(size, 8).unwrap();
        let content = at + BLOCK..at + BLOCK + size;
        at = content.end.next_multiple_of(BLOCK);
        all.push((name, content.start - BLOCK, content));
    }
    all
}

/// The places that no checksum of the manifest covers: what fills up the last block of an entry; the spelling of the
/// checksum in a block, which must still give the same sum; the container of the data, whose files are covered, but not
/// the many ways to pack them.
fn uncovered(archive: &[u8]) -> Vec<Range<usize>> {
    let mut all = Vec::new();
    for (name, block, content) in entries(archive) {
        all.push(block + 148..block + 156);
        all.push(content.end..content.end.next_multiple_of(BLOCK));
        if name.starts_with("data/") {
            all.push(content);
        }
    }
    all
}

/// Flips each bit of these places; `read` must refuse, or see the same as before.
/// Returns the places where it saw the same.
fn flip(
    whole: &[u8],
    places: impl Iterator<Item = usize>,
    read: impl Fn(&[u8]) -> Result<Seen>,
) -> Vec<usize> {
    let wanted = format!("{:?}", read(whole).unwrap());
    let mut bad = whole.to_vec();
    let mut harmless = Vec::new();
    for at in places {
        for bit in 0..8 {
            bad[at] ^= 1 << bit;
            if let Ok(seen) = read(&bad) {
                assert_eq!(format!("{seen:?}"), wanted, "byte {at}, bit {bit}");
                harmless.push(at);
            }
            bad[at] ^= 1 << bit;
        }
    }
    harmless
}

#[test]
fn every_truncation_of_an_official_artifact_is_refused() {
    let (whole, key) = official();
    let keys = [key];
    for options in [NO_KEYS, Options { keys: &keys, signature_required: true, ..NO_KEYS }] {
        assert!(read_with(&whole[..], &options).is_ok());
        for end in 0..whole.len() {
            let error = read_with(&whole[..end], &options).expect_err("cut");
            assert_eq!(error.code, "ARTIFACT-TRUNCATED", "at {end}: {}", error.text);
        }
    }
}

#[test]
fn every_flipped_bit_of_an_official_artifact_is_refused_or_without_effect_in_a_place_that_nothing_covers() {
    let (whole, key) = official();
    let keys = [key];
    let options = Options { keys: &keys, signature_required: true, ..NO_KEYS };
    let uncovered = uncovered(&whole);
    let harmless = flip(&whole, 0..whole.len(), |bytes| read_with(bytes, &options));
    let elsewhere: Vec<_> =
        harmless.iter().filter(|at| !uncovered.iter().any(|range| range.contains(at))).collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
    println!("{} bits, {} of them harmless", whole.len() * 8, harmless.len());
}

/// What the official writer does the same way for all of them was tried above.
#[test]
fn every_flipped_bit_of_a_container_is_refused_or_without_effect_whatever_its_compression() {
    for pack in PACKS {
        let scripts = vec![("ArtifactInstall_Enter_00".to_owned(), b"#!/bin/sh\n".to_vec())];
        let files = vec![("a".to_owned(), b"hello".to_vec())];
        let recipe = Recipe { pack, scripts, files, meta: None, ..Recipe::default() };
        let whole = recipe.build();
        let all = entries(&whole);
        let [_, _, (_, _, header), (_, _, data)] = &all[..] else { panic!("{all:?}") };
        assert_eq!(
            flip(&whole, header.clone(), read),
            [],
            "{pack:?}: the manifest's checksum covers the header"
        );
        let harmless = flip(&whole, data.clone(), read);
        // Plain: what fills up the last block of a file. Packed: other spellings of the same, of which the stream's own
        // checksum is the proof.
        let most = if pack == Pack::Plain { 8 * (BLOCK + 8) } else { data.len() * 8 / 6 };
        assert!(harmless.len() <= most, "{pack:?}: {} of {} bytes", harmless.len(), data.len());
        println!("{pack:?}: {} of {} bits of the data are harmless", harmless.len(), 8 * data.len());
    }
}
