//! What `make test` does with the targets: every committed input goes through the function that libFuzzer calls.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::ALL;

/// Largest corpus, all targets together, in bytes: it is cloned by everybody.
const CORPUS: u64 = 2 << 20;
/// Most inputs that one target keeps.
const INPUTS: usize = 300;
/// Far above what any of them takes, in an unoptimised build on a busy machine.
const TIME: Duration = Duration::from_secs(10);

fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz")
}

fn inputs(kind: &str, target: &str) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = fs::read_dir(home().join(kind).join(target))
        .into_iter()
        .flatten()
        .map(|e| e.unwrap().path())
        .collect();
    all.sort();
    all
}

fn replay(kind: &str) {
    for (name, target) in ALL {
        for path in inputs(kind, name) {
            let data = fs::read(&path).unwrap();
            println!("{}", path.display()); // the last one before a panic is the culprit
            let start = Instant::now();
            target(&data);
            assert!(start.elapsed() < TIME, "{}: {:?}", path.display(), start.elapsed());
        }
    }
}

#[test]
fn every_input_of_the_corpus_keeps_the_promises() {
    replay("corpus");
}

#[test]
fn what_was_found_once_stays_mended() {
    replay("regressions");
}

#[test]
fn every_target_takes_the_empty_input_and_nonsense() {
    for (_, target) in ALL {
        for data in [&b""[..], &[0], &[0xff; 600], b"{}", &[0; 1024]] {
            target(data);
        }
    }
}

#[test]
fn the_corpus_is_small_and_of_all_targets() {
    let mut sum = 0;
    for (name, _) in ALL {
        let inputs = inputs("corpus", name);
        assert!((1..=INPUTS).contains(&inputs.len()), "{name}: {} inputs", inputs.len());
        sum += inputs.iter().map(|path| fs::metadata(path).unwrap().len()).sum::<u64>();
    }
    assert!(sum < CORPUS, "{sum} bytes; `make fuzz-minimise` takes out what adds nothing");
}

#[test]
fn every_target_has_its_program_and_nothing_else_is_there() {
    let names = |folder: &str, ending: &str| -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(home().join(folder))
            .into_iter()
            .flatten()
            .map(|e| e.unwrap().file_name().into_string().unwrap().trim_end_matches(ending).to_owned())
            .collect();
        names.sort();
        names
    };
    let targets: Vec<&str> = ALL.iter().map(|(name, _)| *name).collect();
    assert!(targets.is_sorted());
    assert_eq!(names("bins", ".rs"), targets);
    assert_eq!(names("corpus", ""), targets);
    let manifest = fs::read_to_string(home().join("Cargo.toml")).unwrap();
    let text = fs::read_to_string(home().join("../../docs/fuzzing.md")).unwrap();
    for name in targets {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} in Cargo.toml");
        assert!(text.contains(&format!("| `{name}` |")), "{name} in docs/fuzzing.md");
    }
}
