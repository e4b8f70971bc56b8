//! The folders below `boards/`: each is in the list, has the files that it must have, and does not contradict itself.
#![allow(clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use thimble_boards::{ALL, Board};

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
        for file in ["board.rs", "README.md"] {
            assert!(has(file), "boards/{}/{file}", board.name);
        }
        let readme = text(board, "README.md");
        assert!(readme.starts_with(&format!("# {}\n", board.name)), "{}", board.name);
        assert_eq!(readme.contains("Never tried"), !board.emulated, "{}: README.md says so", board.name);
        for said in board.compatible.iter().chain([&board.device_type, &board.rootfs_a, &board.rootfs_b]) {
            assert!(readme.contains(&format!("`{said}`")), "{}: README.md does not say {said}", board.name);
        }
    }
}
