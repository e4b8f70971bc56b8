//! The shape of the program: which module may know which, and what none of them may do.
//!
//! The table in `src/lib.rs` is the rule; here it is read and held against the code. That every public item is
//! documented is the compiler's to check (`missing_docs`).
#![allow(clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// One file below `src/`, without its tests.
struct Source {
    /// `agent/next.rs`.
    name: String,
    /// With comments.
    lines: Vec<String>,
}

impl Source {
    /// Numbered lines without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let code = |line: &'_ String| line.find("//").filter(|at| !line[..*at].contains('"'));
        self.lines.iter().enumerate().map(move |(n, l)| (n + 1, code(l).map_or(l.as_str(), |at| &l[..at])))
    }

    /// The module of the table that it belongs to; `None` for the map itself and for the program, which knows all.
    fn module(&self) -> Option<&str> {
        let first = self.name.split('/').next().unwrap_or_default();
        let module = first.strip_suffix(".rs").unwrap_or(first);
        (!["lib", "main", "cli"].contains(&module)).then_some(module)
    }

    /// All its code in one piece, without blanks and line ends.
    fn packed(&self) -> String {
        self.code().flat_map(|(_, line)| line.chars()).filter(|c| !c.is_whitespace()).collect()
    }
}

/// Every file of the program. Tests stand at the end of a file, or in a file of their own.
fn sources() -> Vec<Source> {
    let (mut dirs, mut files) = (vec![root().join("src")], Vec::new());
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).expect("readable") {
            let path: PathBuf = entry.expect("readable").path();
            if path.is_dir() && path.ends_with("tests") {
                continue; // unit tests in files of their own
            } else if path.is_dir() {
                dirs.push(path);
            } else if !path.to_string_lossy().ends_with("tests.rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    let read = |path: &PathBuf| {
        let name = path.strip_prefix(root().join("src")).expect("below").display().to_string();
        let text = fs::read_to_string(path).expect("text");
        let is_tests = |at: &usize| {
            let mut behind = text[*at..].lines().skip(1).skip_while(|l| l.starts_with("#["));
            behind.next().is_some_and(|l| l.starts_with("mod "))
        };
        let end = text.match_indices("#[cfg(test)]").map(|(at, _)| at).find(is_tests).unwrap_or(text.len());
        let (code, tests) = text.split_at(end);
        assert!(!tests.trim_end().contains("\n}\n"), "{name}: something stands behind the tests");
        Source { name, lines: code.lines().map(str::to_owned).collect() }
    };
    files.iter().map(read).collect()
}

/// Fails with all that was found.
fn none(found: Vec<String>, rule: &str) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

/// Lines of these files that contain one of the words.
fn lines_with(words: &[&str], of: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources().iter().filter(|s| of(&s.name)) {
        for (n, line) in source.code().filter(|(_, line)| words.iter().any(|w| has_word(line, w))) {
            found.push(format!("src/{}:{n}: {}", source.name, line.trim()));
        }
    }
    found
}

/// Whether the text has this word, not a part of a longer one.
fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let (before, behind) = (&text[..at], &text[at + word.len()..]);
        let inside = word.starts_with(part) && before.ends_with(part);
        let goes_on = word.ends_with(part) && behind.starts_with(part);
        !inside && !goes_on
    })
}

/// The table of `src/lib.rs`: module -> what it may use.
fn table() -> BTreeMap<String, BTreeSet<String>> {
    let text = fs::read_to_string(root().join("src/lib.rs")).expect("text");
    let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<_>>();
    let mut table = BTreeMap::new();
    for row in text.lines().filter_map(|line| line.strip_prefix("//! | [`")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [name, _, uses, ..] = cells[..] else { panic!("a row without three columns: {row}") };
        table.insert(name.trim_end_matches(['`', ']']).to_owned(), quoted(uses));
    }
    table
}

/// The modules of ours that code names by `crate::` or by leaving its own module.
fn used(source: &Source) -> BTreeSet<String> {
    let packed = source.packed();
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let ups = "super::".repeat(source.name.matches('/').count() + 1);
    let mut used = BTreeSet::new();
    for start in ["crate::", ups.as_str()] {
        for (at, _) in packed.match_indices(start) {
            let rest = &packed[at + start.len()..];
            let Some(group) = rest.strip_prefix('{') else {
                used.insert(word(rest));
                continue;
            };
            let mut depth = 0;
            let items = group.split_inclusive(['{', '}', ',']).take_while(|item| {
                let top = depth;
                depth += item.matches('{').count() as i32 - item.matches('}').count() as i32;
                top >= 0
            });
            // Deeper names of a group are taken for modules, too, if they are called like one: rather too strict.
            used.extend(items.map(word));
        }
    }
    used
}

#[test]
fn the_map_names_every_module() {
    let listed: BTreeSet<String> = table().into_keys().collect();
    let there: BTreeSet<String> = sources().iter().filter_map(Source::module).map(str::to_owned).collect();
    assert_eq!(listed, there, "the table in src/lib.rs");
}

#[test]
fn the_map_has_no_circles() {
    let table = table();
    let mut known: BTreeSet<&str> = BTreeSet::new();
    while known.len() < table.len() {
        let next = table.iter().find(|(name, uses)| {
            !known.contains(name.as_str()) && uses.iter().all(|u| known.contains(u.as_str()))
        });
        known.insert(next.expect("a module whose uses are all known").0);
    }
}

#[test]
fn a_module_uses_only_what_the_map_allows() {
    let table = table();
    let mut found = Vec::new();
    for source in sources() {
        let Some(module) = source.module() else { continue };
        for name in used(&source).into_iter().filter(|name| table.contains_key(name) && name != module) {
            if !table.get(module).is_some_and(|uses| uses.contains(&name)) {
                found.push(format!("src/{}: {module} uses {name}", source.name));
            }
        }
        if source.packed().contains("thimble::") {
            found.push(format!("src/{}: names its own crate", source.name));
        }
    }
    none(found, "not allowed by the table in src/lib.rs");
}

#[test]
fn only_configuration_and_board_know_boards() {
    let known = |name: &str| name.starts_with("config/") || name == "board.rs";
    none(
        lines_with(&["thimble_boards"], |name| !known(name)),
        "the crate thimble-boards, elsewhere than the map says",
    );
}

#[test]
fn only_sys_talks_to_the_kernel() {
    none(lines_with(&["libc"], |name| !name.starts_with("sys/")), "libc outside of src/sys");
    none(lines_with(&["unsafe"], |name| !name.starts_with("sys/")), "unsafe outside of src/sys");
}

#[test]
fn every_unsafe_says_why_it_is_safe() {
    let mut found = Vec::new();
    for source in sources() {
        for (n, line) in source.code().filter(|(_, line)| has_word(line, "unsafe")) {
            // The comment right above, over as many lines as it has; attributes may stand between.
            let above = source.lines[..n - 1].iter().rev().map(|l| l.trim());
            let mut comment = above.take_while(|l| l.starts_with("//") || l.starts_with("#["));
            if !comment.any(|l| l.starts_with("// SAFETY: ")) {
                found.push(format!("src/{}:{n}: {}", source.name, line.trim()));
            }
        }
    }
    none(found, "unsafe without a SAFETY comment");
}

#[test]
fn there_are_no_threads() {
    let mut found = lines_with(&["thread"], |_| true);
    found.retain(|line| !line.contains("std::thread::sleep("));
    none(found, "one thread is enough");
}

#[test]
fn the_policy_knows_every_state_by_name() {
    let policy = ["next", "resume", "effect", "command"].map(|name| format!("agent/{name}.rs"));
    let wild = |line: &str| has_word(line, "_ =>") || has_word(line, "_ if ");
    let sources = sources();
    for name in policy {
        let source = sources.iter().find(|s| s.name == name).expect("is there");
        let found = source.code().filter(|(_, l)| wild(l)).map(|(n, l)| format!("src/{name}:{n}: {l}"));
        none(found.collect(), "an arm for everything else would hide a new state");
    }
}

#[test]
fn the_policy_does_nothing() {
    let io =
        ["std::fs", "std::io", "std::env", "std::process", "std::net", "std::time::Instant", "SystemTime"];
    none(lines_with(&io, |name| name.starts_with("agent/")), "I/O or a clock in the policy");
    none(lines_with(&["log::"], |name| name.starts_with("agent/")), "a log line in the policy");
}

#[test]
fn nothing_panics_on_purpose() {
    let words = [".unwrap()", ".expect(", "panic!", "todo!", "unimplemented!", "unreachable!"];
    none(lines_with(&words, |_| true), "an error must be handled");
}

/// Cargo.lock: name and version of each crate, with the names that it depends on (with their versions where there are
/// several).
fn lock() -> BTreeMap<(String, String), Vec<String>> {
    let text = fs::read_to_string(root().join("Cargo.lock")).expect("Cargo.lock");
    let mut crates = BTreeMap::new();
    for block in text.split("[[package]]").skip(1) {
        let value = |key: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \""));
            line.expect("a name and a version").trim_end_matches('"').to_owned()
        };
        let items = block.lines().skip_while(|line| *line != "dependencies = [").skip(1);
        let items = items.take_while(|line| *line != "]").map(|line| line.trim().trim_matches([',', '"']));
        crates.insert((value("name"), value("version")), items.map(str::to_owned).collect());
    }
    crates
}

/// One program of ours with all that it depends on, for whatever target and purpose: names, one for each version.
fn tree(program: &str) -> Vec<String> {
    let lock = lock();
    let mut left = vec![program.to_owned()];
    let mut seen = BTreeSet::new();
    while let Some(wanted) = left.pop() {
        let mut words = wanted.split(' ');
        let (name, version) = (words.next().expect("a name"), words.next());
        let is = |(n, v): &&(String, String)| n == name && version.is_none_or(|version| v == version);
        let found = lock.keys().find(is).expect("a crate of Cargo.lock").clone();
        if seen.insert(found.clone()) {
            left.extend(lock[&found].iter().cloned());
        }
    }
    seen.into_iter().map(|(name, _)| name).collect()
}

#[test]
fn every_crate_in_the_tree_is_known() {
    let text = tree("thimble").join("\n") + "\n";
    let path = root().join("docs/crates.txt");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &text).expect("docs/ is writable");
    }
    let listed = fs::read_to_string(&path).unwrap_or_default();
    let count = |list: &str, name: &str| list.lines().filter(|l| *l == name).count();
    let new: Vec<&str> = text.lines().filter(|n| count(&text, n) > count(&listed, n)).collect();
    let gone: Vec<&str> = listed.lines().filter(|n| count(&listed, n) > count(&text, n)).collect();
    assert!(
        new.is_empty() && gone.is_empty(),
        "the crates of thimble in Cargo.lock are not those of docs/crates.txt: new {new:?}, gone {gone:?}. Each crate is code that \
         runs as root on somebody's board: say in docs/dependencies.md why it is needed and what it costs, then \
         UPDATE_DOCS=1 cargo test --test architecture"
    );
}

/// What the companion may have that the agent has not, each with its reason in docs/dependencies.md.
const OF_THE_COMPANION: [&str; 3] = ["dbus", "libdbus-sys", "thimble-dbus"];

/// Programs beside the agent are no reason for more code in it.
#[test]
fn crates_of_the_companion_are_known_and_stay_out_of_the_agent() {
    let (agent, companion) = (tree("thimble"), tree("thimble-dbus"));
    for name in OF_THE_COMPANION {
        assert!(!agent.iter().any(|other| other == name), "the agent depends on {name}");
    }
    let own: Vec<&String> = companion.iter().filter(|name| !agent.contains(name)).collect();
    assert_eq!(own, OF_THE_COMPANION, "crates that only thimble-dbus needs");
    let programs = ["thimble-dbus", "thimble-qemu"];
    let strangers: Vec<String> = lock()
        .into_keys()
        .map(|(name, _)| name)
        .filter(|name| {
            !agent.contains(name)
                && !OF_THE_COMPANION.contains(&name.as_str())
                && !programs.contains(&name.as_str())
        })
        .collect();
    assert!(strangers.is_empty(), "crates in Cargo.lock of no program that is known here: {strangers:?}");
}

/// Whoever has no libdbus builds the agent all the same: no way to it may build the whole workspace.
#[test]
fn the_agent_is_built_without_its_companion() {
    let read = |path: &str| fs::read_to_string(root().join(path)).expect("text");
    assert!(
        read("Cargo.toml").contains("\ndefault-members = [\".\"]\n"),
        "what a plain `cargo build` builds"
    );
    for path in ["Makefile", ".ci/cross", ".ci/cross-test"] {
        for line in read(path).lines().filter(|line| line.contains(" build ")) {
            let whole = line.contains("--workspace") || line.contains("--all");
            assert!(!whole, "{path}: {line}");
        }
    }
}
