//! The hostile corpus: Artifacts that somebody made wrong, by accident or on purpose, each refused with its code and
//! its words, in little memory and little time, and without anything to boot from.
//!
//! The corpus is made here, by [`kinds::all`]: every kind differs from a good Artifact in the one thing that its name
//! says, and all checksums fit unless they are what is wrong. To get the files, for other programs:
//! `HOSTILE_DIR=/some/where cargo test --test hostile write -- --ignored`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../data/artifact_writer.rs"]
mod artifact_writer;
mod kinds;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use artifact_writer::{NO_KEYS, read};
use kinds::Kind;
use thimble::artifact::{self, Options, VerifyKey};
use thimble::error::{Error, Result};
use thimble_testkit::{Device, DeviceOptions, TempDir};

/// Most memory that reading may take, program and all, in KiB.
const MEMORY: u64 = 16 * 1024;
const TIME: Duration = Duration::from_secs(1);

fn file_of(dir: &Path, kind: &Kind) -> PathBuf {
    let path = dir.join(format!("{}.mender", kind.name));
    std::fs::write(&path, &kind.bytes).unwrap();
    path
}

#[test]
fn there_are_many_kinds_and_each_has_its_own_name() {
    let all = kinds::all();
    let names: BTreeSet<&str> = all.iter().map(|kind| kind.name).collect();
    assert_eq!(names.len(), all.len());
    assert!(all.len() >= 120, "{}", all.len());
}

#[test]
fn what_the_kinds_are_made_from_is_good() {
    for bytes in kinds::good() {
        let seen = read(&bytes).unwrap();
        assert_eq!(seen.files.len(), 1);
    }
}

/// Each in a process of its own, because a process has one peak of memory.
#[test]
fn every_kind_is_refused_with_its_code_and_words_in_little_memory_and_time() {
    let dir = TempDir::new("hostile");
    let (mut most, mut wrong) = ((0, ""), Vec::new());
    let all = kinds::all();
    for kind in &all {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "read_one", "--ignored", "--nocapture"])
            .env("HOSTILE_FILE", file_of(dir.path(), kind))
            .env("HOSTILE_KEY", if kind.key { kinds::KEY } else { "" })
            .output()
            .unwrap();
        let output = String::from_utf8_lossy(&output.stdout);
        let result = output.lines().find_map(|line| line.split_once("RESULT ").map(|(_, rest)| rest));
        let Some([peak, millis, code, text]): Option<[&str; 4]> =
            result.and_then(|r| r.splitn(4, ' ').collect::<Vec<_>>().try_into().ok())
        else {
            wrong.push(format!("{}: no result: {output}", kind.name));
            continue;
        };
        let (peak, millis): (u64, u64) = (peak.parse().unwrap(), millis.parse().unwrap());
        most = most.max((peak, kind.name));
        if code != kind.code || !text.contains(kind.says) {
            wrong.push(format!("{}: {code}: {text}; wanted {}: {}", kind.name, kind.code, kind.says));
        }
        if peak > MEMORY || Duration::from_millis(millis) > TIME {
            wrong.push(format!("{}: {peak} KiB, {millis} ms", kind.name));
        }
    }
    println!("{} kinds, most memory: {} KiB for {}", all.len(), most.0, most.1);
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
#[ignore = "the other half of the test above, in its child process"]
fn read_one() {
    let Some(path) = std::env::var_os("HOSTILE_FILE") else { return };
    let keys: Vec<VerifyKey> = match std::env::var("HOSTILE_KEY").unwrap_or_default() {
        none if none.is_empty() => Vec::new(),
        pem => vec![VerifyKey::from_pem(&pem, "k.pem").unwrap()],
    };
    let options = Options { keys: &keys, signature_required: !keys.is_empty(), ..NO_KEYS };
    let start = Instant::now();
    let result = consume(std::fs::File::open(path).unwrap(), &options);
    let millis = start.elapsed().as_millis();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak = peak.split_whitespace().next().unwrap();
    let (code, text) = result.map_or_else(|e| (e.code, e.text), |()| ("ACCEPTED", String::new()));
    println!("\nRESULT {peak} {millis} {code} {text}");
}

#[test]
#[ignore = "writes the corpus for use elsewhere"]
fn write() {
    let dir = PathBuf::from(std::env::var_os("HOSTILE_DIR").expect("HOSTILE_DIR says where"));
    std::fs::create_dir_all(&dir).unwrap();
    for kind in kinds::all() {
        file_of(&dir, &kind);
        println!("{}\t{}\t{}", kind.name, kind.code, kind.says);
    }
}

/// The whole program on a made-up device. What runs is never touched, the other slot only by a payload that was
/// begun, and in no case is there anything new to boot.
#[test]
fn no_kind_makes_anything_bootable() {
    let thimble = Path::new(env!("CARGO_BIN_EXE_thimble"));
    let dir = TempDir::new("hostile-device");
    let mut devices = [false, true].map(|key| {
        let home = dir.path().join(if key { "locked" } else { "open" });
        let pem = home.join("key.pem");
        let mut options = DeviceOptions { device_type: "dev".to_owned(), ..DeviceOptions::default() };
        if key {
            options.config.push(("ArtifactVerifyKey".to_owned(), format!("{:?}", pem.display().to_string())));
        }
        let device = Device::new(&home, options);
        std::fs::write(&pem, kinds::KEY).unwrap();
        device
    });
    for kind in kinds::all() {
        let device = &devices[usize::from(kind.key)];
        let (env, running) = (device.env(), device.slot_bytes(device.running_slot()));
        let other = device.slot_bytes(device.other_slot());
        let file = file_of(dir.path(), &kind);
        let code = device.run(thimble, &["install", file.to_str().unwrap()]);
        let (name, log) = (kind.name, device.log());
        assert_eq!(code, Some(1), "{name}: {log}");
        assert_eq!(device.env(), env, "{name}: the boot environment");
        assert!(device.slot_bytes(device.running_slot()) == running, "{name}: the running slot");
        if !kind.payload {
            assert!(device.slot_bytes(device.other_slot()) == other, "{name}: the other slot");
        }
        assert!(!log.contains("panicked"), "{name}: {log}");
        assert!(!device.root().join("var/lib/mender/scripts/x").exists());
    }
    // The devices are as good as new.
    let good = dir.path().join("good.mender");
    std::fs::write(&good, &kinds::good()[0]).unwrap();
    let device = &mut devices[0];
    assert_eq!(device.run(thimble, &["install", good.to_str().unwrap()]), Some(0), "{}", device.log());
    assert_eq!(device.env()["upgrade_available"], "1");
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
