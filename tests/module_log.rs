//! A program of its own, because there is one log for the whole process.
#![allow(clippy::expect_used, clippy::panic)]

#[path = "data/module_bench.rs"]
mod bench;

use bench::{Bench, Fake};
use std::sync::Mutex;
use thimble::ports::Payload;

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Lines;

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata) -> bool {
        true
    }

    fn log(&self, record: &log::Record) {
        LINES.lock().expect("lock").push(format!("{} {}", record.level(), record.args()));
    }

    fn flush(&self) {}
}

fn taken() -> Vec<String> {
    std::mem::take(&mut *LINES.lock().expect("lock"))
}

#[test]
fn output_goes_to_the_log_line_by_line_and_a_flood_is_cut_in_the_middle() {
    log::set_logger(&Lines).expect("the first");
    log::set_max_level(log::LevelFilter::Info);

    let bench = Bench::new("echo one; echo; printf 'two\\nthree'; printf '\\377x\\n' >&2");
    let mut module = bench.prepared();
    let running =
        |command: &str| format!("INFO Running Update Module: {} {command}", bench.program().display());
    module.install().expect("installs");
    let out = |line: &str| format!("INFO Update Module output (stdout): {line}");
    let err = |line: &str| format!("INFO Update Module output (stderr): {line}");
    assert_eq!(taken(), [running("ArtifactInstall"), out("one"), out("two"), out("three"), err("\u{fffd}x")]);

    // Of a question only what is no answer.
    let _ = module.supports_rollback();
    assert_eq!(taken(), [running("SupportsRollback"), err("\u{fffd}x")]);

    // Also what a call says that fails, in either way to store.
    let bench =
        Bench::new("[ $1 = Download ] || exit 0; echo before; cat stream-next; echo after >&2; exit 1");
    bench.prepared().store(&mut Fake::of(&[("a", b"abc")])).expect_err("exit 1");
    let found = taken();
    assert_eq!(found[2..], [out("before"), out("streams/a"), err("after")]);

    let bench = Bench::new("echo BEGIN; yes 12345678 | head -n 100000; echo END");
    bench.prepared().install().expect("installs");
    let found = taken();
    assert_eq!((found[1].as_str(), found.last()), (out("BEGIN").as_str(), Some(&out("END"))));
    assert!(found.iter().any(|line| line.contains("left out here")));
    assert!(found.iter().map(String::len).sum::<usize>() < 200_000);
}
