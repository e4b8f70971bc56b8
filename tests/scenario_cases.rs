//! docs/cases.md names a test for every case of the reference's lists, and the tests are there.
#![allow(clippy::expect_used, clippy::panic)] // These are tests.

#[path = "scenarios/table.rs"]
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// How many cases each list has.
const LISTS: [(&str, usize); 6] = [
    ("update-process", 40),
    ("state-scripts", 36),
    ("update-modules", 38),
    ("standalone", 44),
    ("update-control", 40),
    ("artifact-format", 24),
];

/// Case, in the form `update-process 7`, and what stands in its last column.
fn cases() -> Vec<(String, String)> {
    let text = fs::read_to_string("docs/cases.md").expect("docs/cases.md");
    let (mut list, mut found) = ("", Vec::new());
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            list = name;
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let [_, number, _, tests, _] = cells[..]
            && number.parse::<usize>().is_ok()
        {
            found.push((format!("{list} {number}"), tests.to_owned()));
        }
    }
    found
}

/// The test functions of a file.
fn tests_in(path: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let mut found = BTreeSet::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if line == "#[test]" {
            // Other attributes may stand between.
            let head = lines.find(|line| line.starts_with("fn ")).unwrap_or_default();
            found.insert(head.trim_start_matches("fn ").split('(').next().unwrap_or_default().to_owned());
        }
    }
    for scenario in table::all() {
        let only = scenario.only.as_ref().map(|(only, _)| only.as_str());
        let played = match path {
            "tests/scenario_machine.rs" => only != Some("binary"),
            "tests/scenario_binary.rs" => only != Some("machine"),
            _ => false,
        };
        if played {
            found.insert(scenario.name);
        }
    }
    found
}

#[test]
fn every_case_has_its_line_once() {
    let found: Vec<String> = cases().into_iter().map(|(case, _)| case).collect();
    let expected: Vec<String> =
        LISTS.iter().flat_map(|(list, n)| (1..=*n).map(move |number| format!("{list} {number}"))).collect();
    assert_eq!(found, expected);
}

#[test]
fn every_test_that_is_named_for_a_case_exists() {
    let (mut known, mut missing): (BTreeMap<String, BTreeSet<String>>, _) = (BTreeMap::new(), Vec::new());
    for (case, tests) in cases() {
        if let Some(reason) = tests.strip_prefix("none: ") {
            assert!(reason.len() > 20, "{case} needs a reason");
            continue;
        }
        for test in tests.split(", ") {
            let (file, name) = test.split_once("::").unwrap_or_else(|| panic!("{case}: {test}"));
            let files = match file {
                "both" => vec!["tests/scenario_machine.rs", "tests/scenario_binary.rs"],
                other => vec![other],
            };
            for file in files {
                assert!(Path::new(file).is_file(), "{case}: {file}");
                let names = known.entry(file.to_owned()).or_insert_with(|| tests_in(file));
                if !names.contains(name) {
                    missing.push(format!("{case}: {file}::{name}"));
                }
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_scenario_is_named_for_its_cases() {
    let named: BTreeMap<String, String> = cases().into_iter().collect();
    for scenario in table::all() {
        assert!(!scenario.cases.is_empty(), "{} has no case", scenario.name);
        for case in &scenario.cases {
            let tests = named.get(case).unwrap_or_else(|| panic!("{}: {case}", scenario.name));
            let has = tests.split(", ").any(|t| t.ends_with(&format!("::{}", scenario.name)));
            assert!(has, "docs/cases.md does not name {} for {case}", scenario.name);
        }
    }
}
