//! A program of its own, because it counts what the whole process has.
#![allow(clippy::expect_used, clippy::panic)]

#[path = "data/module_bench.rs"]
mod bench;

use bench::{Bench, Fake, content};
use std::fs;
use thimble::error::Error;
use thimble::ports::Payload;

fn count(what: &str) -> usize {
    fs::read_dir(format!("/proc/self/{what}")).expect("lists").count()
}

#[test]
fn no_way_for_a_download_to_end_leaves_a_descriptor_a_thread_or_a_zombie() {
    let wrong = Error::new("ARTIFACT-READ", "the connection broke");
    let mut before = None;
    for round in 0..3 {
        for script in [
            "exit 0",
            "exit 1",
            "kill -9 $$",
            "cat stream-next",
            "head -c 1 $(cat stream-next)",
            "exec 3< stream-next; sleep 60",
            "cat $(cat stream-next) > got; sleep 60",
            "while l=$(cat stream-next); [ -n \"$l\" ]; do cat $l > got; done",
        ] {
            let bench = Bench::new(&format!("[ $1 = Download ] || exit 0\n{script}"));
            let big = content(150_000);
            let mut module = bench.prepared_with(0.3, 5.0);
            let _ = module.store(&mut Fake::of(&[("a", &big)]));
            let _ =
                module.store(&mut Fake { broken: Some((90_000, wrong.clone())), ..Fake::of(&[("a", &big)]) });
            let _ = module.cleanup();
        }
        let children = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
        assert_eq!(children, "");
        let now = (count("fd"), count("task"));
        assert_eq!(*before.get_or_insert(now), now, "round {round}");
    }
}
