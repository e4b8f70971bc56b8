//! A program of its own, because being told to end is for the whole process.
#![allow(clippy::expect_used, clippy::panic)]

#[path = "data/module_bench.rs"]
mod bench;

use bench::{Bench, Fake, alive, content, lines};
use std::time::{Duration, Instant};
use thimble::ports::Payload;
use thimble::sys::signal;

#[test]
fn when_the_agent_is_told_to_end_the_module_is_ended_first_and_its_tree_stays() {
    signal::install();
    let bench = Bench::new(
        "echo $1 >> calls\n[ $1 = Download ] || exit 0\necho $$ > pid\ncat $(cat stream-next) > got\nkill -TERM $PPID\n\
         sleep 60 & wait; sleep 60",
    );
    let begin = Instant::now();
    let mut module = bench.prepared();
    let error = module.store(&mut Fake::of(&[("a", &content(100_000))])).expect_err("told to end");
    assert_eq!(error.code, "INTERRUPTED");
    assert!(signal::terminate());
    assert!(!alive(&lines(&bench.in_tree("pid"))[0]));
    // No more calls are made, and nothing is thrown away.
    assert_eq!(module.install().expect_err("told to end").code, "INTERRUPTED");
    assert_eq!(module.cleanup().expect_err("told to end").code, "INTERRUPTED");
    assert_eq!(lines(&bench.in_tree("calls")), ["ProvidePayloadFileSizes", "Download"]);
    assert!(begin.elapsed() < Duration::from_secs(8));
}
