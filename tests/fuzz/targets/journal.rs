//! The journal: two copies of a record on disk, and the record in them. Also the record of what is installed.
//!
//! The first byte: bit 0 leaves length and CRC of the copies as they are, bits 1 and 2 say who is there. Then the
//! sequence number of the second copy relative to the first, the format version, and the contents, divided at the first
//! NUL.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(missing_docs, clippy::missing_panics_doc, reason = "see the list in tests/fuzz/targets/mod.rs")]

use std::path::PathBuf;

use super::super::installed;
use super::{Copy, HEADER, Loaded, decode, encode, judge, newest, plan};
use crate::agent::{Facts, Record, Trial, resume};
use crate::fuzz::input;

const MAGIC: [u8; 4] = *b"THJ1";

pub fn run(data: &[u8]) {
    let (how, rest) = input::byte(data);
    let (ahead, rest) = input::byte(rest);
    let (version, rest) = input::byte(rest);
    let cut = rest.iter().position(|b| *b == 0);
    let (first, second) = rest.split_at(cut.unwrap_or(rest.len()));
    let second = second.get(1..).unwrap_or_default();
    if how & 1 == 1 {
        [first, second].iter().for_each(|copy| copies([decode(MAGIC, copy), Copy::Missing]));
        return;
    }
    let here = |there: u8, sequence: u64, content: &[u8]| match how & there {
        0 => decode(MAGIC, &sealed(sequence, u16::from(version), content)),
        _ => Copy::Missing,
    };
    copies([here(2, 128, first), here(4, u64::from(ahead), second)]);
    [first, second].iter().for_each(|content| record(content));
    if let Some(installed) = installed::decode(second) {
        let text = installed::encode(&installed);
        assert_eq!(installed::decode(text.as_bytes()), Some(installed), "{text}");
    }
}

/// A copy whose checksum is right, of a format version counted from the known one.
fn sealed(sequence: u64, version: u16, content: &[u8]) -> Vec<u8> {
    let mut copy = encode(MAGIC, sequence, content);
    let known = u16::from_le_bytes([copy[4], copy[5]]);
    if version != 0 {
        copy[4..6].copy_from_slice(&known.wrapping_add(version).to_le_bytes());
        let crc = super::crc32(&[&copy[..HEADER - 4], content]);
        copy[HEADER - 4..HEADER].copy_from_slice(&crc.to_le_bytes());
    }
    copy
}

/// The newest good one counts, and the next save replaces the other one.
fn copies(copies: [Copy; 2]) {
    let paths = ["a", "b"].map(PathBuf::from);
    let seen = plan(&copies);
    for copy in &copies {
        if let Copy::Valid(sequence, content) = copy {
            assert!(*sequence <= seen.highest, "a save must be newer than all");
            let again = encode(MAGIC, *sequence, content);
            assert!(matches!(decode(MAGIC, &again), Copy::Valid(s, c) if s == *sequence && &c == content));
            // Any bit of it that falls over is noticed.
            let mut bad = again;
            let at = content.len() % bad.len();
            bad[at] ^= 1;
            assert!(matches!(decode(MAGIC, &bad), Copy::Bad(_)), "byte {at}");
        }
    }
    match judge(&copies, &paths) {
        Loaded::Content(content) => {
            let at = newest(&copies);
            assert!(matches!(&copies[at], Copy::Valid(_, c) if *c == content));
            assert_eq!(seen.next, 1 - at, "what counts would be overwritten");
        }
        Loaded::Damaged(text) => assert!(!text.is_empty()),
        Loaded::Nothing => assert!(copies.iter().all(|c| matches!(c, Copy::Missing))),
    }
}

/// A record that is accepted means the same when it is written again, and a start from it ends in a state that can be
/// recorded.
fn record(content: &[u8]) {
    let Ok(record) = Record::decode(content) else { return };
    let text = record.encode();
    assert_eq!(Record::decode(&text).as_ref(), Ok(&record), "{}", String::from_utf8_lossy(&text));
    for same_boot in [true, false] {
        for trial in [Trial::NotKnown, Trial::Waiting, Trial::Running, Trial::Over] {
            let state = resume(record.clone(), Facts { same_boot, trial });
            let now = Record { state, wait: None, boot_id: "boot".into() };
            if let Ok(back) = Record::decode(&now.encode()) {
                assert_eq!(back, now);
            }
            // However often the power goes: it comes to an end.
            let mut state = now.state;
            for _ in 0..40 {
                state = resume(
                    Record { state, wait: None, boot_id: "boot".into() },
                    Facts { same_boot: false, trial },
                );
            }
            assert!(!state.name().is_empty());
        }
    }
}
