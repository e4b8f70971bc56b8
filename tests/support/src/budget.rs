//! What the program is held to, and which program: `.ci/budgets`, `THIMBLE_BIN`.

use std::fs;
use std::path::{Path, PathBuf};

/// A line of `.ci/budgets`.
///
/// # Panics
/// When there is none of that name.
pub fn budget(name: &str) -> f64 {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.ci/budgets");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let line = text.lines().map(str::split_whitespace).find_map(|mut words| {
        (words.next() == Some(name)).then(|| words.next().and_then(|number| number.parse().ok())).flatten()
    });
    line.unwrap_or_else(|| panic!("no {name} in .ci/budgets"))
}

/// The program to measure: what `THIMBLE_BIN` names, else the test's own. And whether it is held to what only an
/// optimised program can do.
pub fn measured(own: &str) -> (PathBuf, bool) {
    match std::env::var_os("THIMBLE_BIN") {
        Some(program) => (program.into(), true),
        None => (own.into(), !cfg!(debug_assertions)),
    }
}
