//! The folders below `boards/`: each is in the list, has the files that it must have, and does not contradict itself.
#![allow(clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use thimble::boot::fw_config;
use thimble_boards::{ALL, Board, EnvAt, LONGEST, by_name, entries, find};

/// What `qemu/` needs to make an image for a board and start it.
const FOR_QEMU: [&str; 4] = ["boot.cmd", "env.txt", "layout", "qemu.conf"];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("boards").join(name)
}

fn text(board: &Board, file: &str) -> String {
    let path = folder(board.name).join(file);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn every_folder_is_a_board_of_the_list_and_the_reverse() {
    let entries = fs::read_dir(folder("")).expect("boards/").map(|e| e.expect("entry"));
    let dirs = entries.filter(|e| e.path().is_dir()).map(|e| e.file_name().into_string().expect("a name"));
    let folders: BTreeSet<String> = dirs.filter(|name| name != "target").collect();
    let listed: Vec<String> = ALL.iter().map(|b| b.name.to_owned()).collect();
    assert_eq!(
        folders.into_iter().collect::<Vec<_>>(),
        listed,
        "folders, and boards in the list by the alphabet"
    );
}

#[test]
fn every_folder_has_the_files_of_the_contract() {
    for board in ALL {
        let has = |file: &str| folder(board.name).join(file).is_file();
        for file in ["board.rs", "README.md", "fw_env.config"] {
            assert!(has(file), "boards/{}/{file}", board.name);
        }
        for file in FOR_QEMU {
            assert_eq!(
                has(file),
                board.emulated,
                "boards/{}/{file} is there if the board is emulated",
                board.name
            );
        }
        let readme = text(board, "README.md");
        assert!(readme.starts_with(&format!("# {}\n", board.name)), "{}", board.name);
        assert_eq!(readme.contains("Never tried"), !board.emulated, "{}: README.md says so", board.name);
        for said in board.compatible.iter().chain([&board.device_type, &board.rootfs_a, &board.rootfs_b]) {
            assert!(readme.contains(&format!("`{said}`")), "{}: README.md does not say {said}", board.name);
        }
    }
}

#[test]
fn fw_env_config_says_the_same_as_the_board() {
    for board in ALL {
        let areas = fw_config::parse(&text(board, "fw_env.config")).expect(board.name);
        let said: Vec<_> = areas.iter().map(|a| (a.device.as_str(), a.offset, a.size as u32)).collect();
        let known: Vec<(&str, i64, u32)> = match board.env {
            EnvAt::Raw { device, offset, redundant, size } => {
                [Some(offset), redundant].into_iter().flatten().map(|at| (device, at, size)).collect()
            }
            EnvAt::File { path, redundant, size, .. } => {
                [Some(path), redundant].into_iter().flatten().map(|path| (path, 0, size)).collect()
            }
            EnvAt::FwSetenv => said.clone(),
            EnvAt::Grub => Vec::new(),
        };
        assert_eq!(said, known, "{}", board.name);
    }
}

#[test]
fn no_board_contradicts_itself_or_another() {
    for board in ALL {
        let name = board.name;
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'), "{name}");
        assert_ne!(name, "none", "that turns boards off");
        assert_eq!(by_name(ALL, name), Some(*board));
        assert!(!board.compatible.is_empty() && !board.device_type.is_empty(), "{name}");
        assert_ne!(board.rootfs_a, board.rootfs_b, "{name}");
        for path in [board.rootfs_a, board.rootfs_b] {
            assert!(
                path.starts_with("/dev/") && path.ends_with(|c: char| c.is_ascii_digit()),
                "{name}: {path}"
            );
        }
        for entry in board.compatible {
            // VENDOR,DEVICE as the device tree specification has it; also what keeps `entry` in one piece.
            let (vendor, device) = entry.split_once(',').expect("VENDOR,DEVICE");
            assert!(
                !vendor.is_empty() && !device.is_empty() && !entry.contains(['\0', ' ']),
                "{name}: {entry}"
            );
            for other in ALL.iter().filter(|o| o.name != name && o.compatible.contains(entry)) {
                let apart = match (board.machine, other.machine) {
                    (Some(a), Some(b)) => !a.starts_with(b) && !b.starts_with(a),
                    _ => false,
                };
                assert!(apart, "{name} and {} are both {entry}: nothing tells them apart", other.name);
            }
        }
        if let EnvAt::Raw { offset, redundant: Some(second), size, .. } = board.env {
            assert!(offset.abs_diff(second) >= size.into(), "{name}: the copies overlap");
        }
    }
}

/// A machine on which that board's kernel could run.
fn machine(board: &Board) -> &'static str {
    board.machine.unwrap_or("armv7l")
}

fn tree(entries: &[&str]) -> Vec<u8> {
    entries.iter().flat_map(|e| e.bytes().chain([0])).collect()
}

#[test]
fn every_entry_of_every_board_finds_it_wherever_it_stands() {
    for board in ALL {
        for entry in board.compatible {
            for before in [&[][..], &["acme,first"], &["acme,first", "acme,second"]] {
                for behind in [&[][..], &["acme,family"], &["acme,family", "acme,chip"]] {
                    let all = tree(&[before, &[entry], behind].concat());
                    let found = find(ALL, &all, machine(board)).expect(entry);
                    assert_eq!((found.board.name, found.compatible), (board.name, *entry));
                    // The kernel ends each string with NUL; a tree without the last one is no reason to fail.
                    assert_eq!(find(ALL, &all[..all.len() - 1], machine(board)), Some(found));
                }
            }
        }
    }
}

#[test]
fn of_two_boards_that_match_the_first_entry_decides_whatever_the_order_of_the_list() {
    let mut reversed = ALL.to_vec();
    reversed.reverse();
    for first in ALL {
        for second in ALL.iter().filter(|b| b.name != first.name) {
            let all = tree(&[first.compatible[0], second.compatible[0]]);
            for list in [ALL, &reversed] {
                let found = find(list, &all, machine(first)).expect("both would do");
                assert_eq!(found.board.name, first.name, "{} and {}", first.name, second.name);
            }
        }
    }
}

#[test]
fn the_machine_must_fit_where_a_board_asks_for_one() {
    for board in ALL {
        let all = tree(board.compatible);
        for machine in ["aarch64", "armv7l", "armv6l", "x86_64", "riscv64", ""] {
            let fits = board.machine.is_none_or(|m| machine.starts_with(m));
            let found = find(ALL, &all, machine).map(|f| f.board.name);
            assert_eq!(found == Some(board.name), fits, "{} on {machine}: {found:?}", board.name);
        }
    }
}

#[test]
fn only_a_whole_entry_counts() {
    for board in ALL {
        for entry in board.compatible {
            let others = [
                entry.to_uppercase(),
                format!("{entry}x"),
                format!("x{entry}"),
                format!(" {entry}"),
                format!("{entry}\n"),
                entry[..entry.len() - 1].to_owned(),
                entry.replace(',', "\0"),
            ];
            for other in others {
                let found = find(ALL, &tree(&[&other]), machine(board));
                assert_eq!(
                    found.filter(|f| f.board.name == board.name && f.compatible == *entry),
                    None,
                    "{other:?}"
                );
            }
        }
    }
}

#[test]
fn rubbish_finds_nothing_and_does_no_harm() {
    let long = |length: usize| {
        let mut all = tree(&["xunlong,orangepi-pc"]);
        all.resize(length, b'x');
        all
    };
    for rubbish in [&b""[..], b"\0", b"\0\0\0\0", b",", b"\xff\xfe\0\x80", b"\n\0 \0", &[b'a'; 4096]] {
        assert_eq!(find(ALL, rubbish, "armv7l"), None);
    }
    assert!(find(ALL, &long(LONGEST), "armv7l").is_some());
    assert_eq!(find(ALL, &long(LONGEST + 1), "armv7l"), None);
    assert!(find(ALL, &[&b"\0\xff\0"[..], &tree(&["xunlong,orangepi-pc"])].concat(), "armv7l").is_some());
    assert_eq!(entries(b"\0a\0\0b").collect::<Vec<_>>(), [b"a", b"b"]);
    assert_eq!(by_name(ALL, ""), None);
    assert_eq!(find(&[], &tree(&["xunlong,orangepi-pc"]), "armv7l"), None);
}
