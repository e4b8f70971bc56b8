//! Payload files on their way to an Update Module: streams, or plain files; and every way in which a module may leave
//! us standing there. Modules are shell scripts.
#![allow(clippy::expect_used, clippy::panic)]

#[path = "data/module_bench.rs"]
mod bench;

use bench::{Bench, Fake, alive, content, lines, names};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};
use thimble::error::Error;
use thimble::ports::Payload;

/// What a module does that takes its streams: `streams/x` goes to `got/x`, the lines to `lines`.
const TAKE_ALL: &str = r#"
    mkdir -p got
    while :; do
        line=$(cat stream-next)
        echo "$line" >> lines
        [ -n "$line" ] || break
        name=${line%% *}
        cat "$name" > "got/${name#streams/}"
    done
"#;

/// A module that does this in Download, and nothing else.
fn download(script: &str) -> Bench {
    Bench::new(&format!("echo $1 >> calls\n[ $1 = Download ] || exit 0\n{script}"))
}

/// A module that asks for sizes.
fn with_sizes(answer: &str, script: &str) -> Bench {
    Bench::new(&format!(
        "echo $1 >> calls\n[ $1 = ProvidePayloadFileSizes ] && {{ {answer}; exit; }}\n{script}"
    ))
}

fn quickly(what: impl FnOnce()) {
    let begin = Instant::now();
    what();
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
}

#[test]
fn streams_come_one_after_the_other_and_the_end_is_an_empty_read() {
    let bench = download(TAKE_ALL);
    let big = content(3_000_000);
    let mut files = Fake::of(&[("a", b"abc"), ("big", &big), ("c.d,e-f_G", b"hello")]);
    bench.prepared().store(&mut files).expect("stores");
    assert_eq!(lines(&bench.in_tree("calls")), ["ProvidePayloadFileSizes", "Download"]);
    assert_eq!(lines(&bench.in_tree("lines")), ["streams/a", "streams/big", "streams/c.d,e-f_G", ""]);
    assert_eq!(fs::read(bench.in_tree("got/a")).expect("there"), b"abc");
    assert!(fs::read(bench.in_tree("got/big")).expect("there") == big);
    assert_eq!(fs::read(bench.in_tree("got/c.d,e-f_G")).expect("there"), b"hello");
    assert!(files.ended);
    for gone in ["files", "streams", "stream-next"] {
        assert!(!bench.in_tree(gone).exists(), "{gone}");
    }
}

#[test]
fn a_module_that_wants_sizes_gets_them_and_no_download_call() {
    let bench = with_sizes("echo Yes", TAKE_ALL);
    bench.prepared().store(&mut Fake::of(&[("a", b"abc"), ("b", b"hello"), ("e", b"")])).expect("stores");
    assert_eq!(lines(&bench.in_tree("calls")), ["ProvidePayloadFileSizes", "DownloadWithFileSizes"]);
    assert_eq!(lines(&bench.in_tree("lines")), ["streams/a 3", "streams/b 5", "streams/e 0", ""]);
}

#[test]
fn a_module_that_declines_sizes_gets_none() {
    let bench = with_sizes("echo No", TAKE_ALL);
    bench.prepared().store(&mut Fake::of(&[("a", b"abc")])).expect("stores");
    assert_eq!(lines(&bench.in_tree("calls")), ["ProvidePayloadFileSizes", "Download"]);
    assert_eq!(lines(&bench.in_tree("lines")), ["streams/a", ""]);
}

#[test]
fn an_unusable_answer_about_sizes_is_a_failure_before_any_download() {
    for (answer, code) in [
        ("echo yes", "MODULE-ANSWER"),
        ("echo Automatic", "MODULE-ANSWER"),
        ("exit 1", "MODULE-FAILED"),
        ("echo Yes; exit 1", "MODULE-FAILED"),
    ] {
        let bench = with_sizes(answer, TAKE_ALL);
        let mut files = Fake::of(&[("a", b"abc")]);
        assert_eq!(bench.prepared().store(&mut files).expect_err(answer).code, code);
        assert_eq!(lines(&bench.in_tree("calls")), ["ProvidePayloadFileSizes"]);
        assert_eq!(files.taken, 0);
    }
}

#[test]
fn a_module_that_does_not_look_at_streams_finds_files() {
    for bench in [Bench::new("exit 0"), with_sizes("echo Yes", "exit 0")] {
        let big = content(200_000);
        bench.prepared().store(&mut Fake::of(&[("a", &big), ("b", b""), ("c", b"hello")])).expect("stores");
        assert_eq!(names(&bench.in_tree("files")), ["a", "b", "c"]);
        assert!(fs::read(bench.in_tree("files/a")).expect("there") == big);
        assert_eq!(fs::read(bench.in_tree("files/b")).expect("there"), b"");
        assert_eq!(fs::read(bench.in_tree("files/c")).expect("there"), b"hello");
        let mode =
            |name: &str| fs::metadata(bench.in_tree(name)).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode("files"), mode("files/a")), (0o700, 0o600));
        assert!(!bench.in_tree("streams").exists() && !bench.in_tree("stream-next").exists());
    }
}

#[test]
fn a_file_that_the_module_has_put_in_the_way_is_not_written_over() {
    let bench = download("mkdir files; echo mine > files/a");
    let error = bench.prepared().store(&mut Fake::of(&[("a", b"abc")])).expect_err("in the way");
    assert_eq!(error.code, "MODULE-TREE");
    assert_eq!(fs::read(bench.in_tree("files/a")).expect("there"), b"mine\n");
}

#[test]
fn a_module_may_store_its_streams_in_files_itself() {
    let bench = download(&format!("mkdir files; ln -s files got\n{TAKE_ALL}"));
    bench.prepared().store(&mut Fake::of(&[("a", b"abc")])).expect("stores");
    assert_eq!(fs::read(bench.in_tree("files/a")).expect("there"), b"abc");
}

#[test]
fn an_empty_file_is_a_stream_that_ends_at_once() {
    let bench = download(TAKE_ALL);
    bench.prepared().store(&mut Fake::of(&[("a", b""), ("b", b"x"), ("c", b"")])).expect("stores");
    assert_eq!(lines(&bench.in_tree("lines")), ["streams/a", "streams/b", "streams/c", ""]);
    assert_eq!(fs::read(bench.in_tree("got/c")).expect("there"), b"");
}

#[test]
fn no_files_are_an_empty_read_at_once() {
    let bench = download(TAKE_ALL);
    bench.prepared().store(&mut Fake::none()).expect("stores");
    assert_eq!(lines(&bench.in_tree("lines")), [""]);
    let bench = download("exit 0");
    bench.prepared().store(&mut Fake::none()).expect("stores");
}

#[test]
fn many_small_streams_arrive_in_order() {
    let bench = download(TAKE_ALL);
    let all: Vec<(String, Vec<u8>)> = (0..100).map(|n| (format!("f{n}"), content(n))).collect();
    let list: Vec<(&str, &[u8])> = all.iter().map(|(n, c)| (n.as_str(), c.as_slice())).collect();
    bench.prepared().store(&mut Fake::of(&list)).expect("stores");
    for (name, content) in &all {
        assert_eq!(&fs::read(bench.in_tree("got").join(name)).expect("there"), content);
    }
}

#[test]
fn a_module_may_take_its_time_before_it_opens_stream_next() {
    let bench = download(&format!("sleep 1.2\n{TAKE_ALL}"));
    bench.prepared().store(&mut Fake::of(&[("a", b"abc")])).expect("stores");
    assert_eq!(fs::read(bench.in_tree("got/a")).expect("there"), b"abc");
}

#[test]
fn a_module_may_take_its_time_before_it_opens_and_reads_a_stream() {
    let bench = download(
        "cat stream-next > lines; sleep 0.3; exec 3< streams/a; sleep 0.3; cat <&3 > got; exec 3<&-; \
         sleep 0.3; cat stream-next >> lines; sleep 0.3",
    );
    let big = content(500_000);
    bench.prepared().store(&mut Fake::of(&[("a", &big)])).expect("stores");
    assert!(fs::read(bench.in_tree("got")).expect("there") == big);
    assert_eq!(lines(&bench.in_tree("lines")), ["streams/a"]);
}

#[test]
fn a_slow_source_is_a_slow_stream() {
    let bench = download(TAKE_ALL);
    let big = content(200_000);
    let mut files = Fake { delay: Duration::from_millis(50), ..Fake::of(&[("a", &big)]) };
    bench.prepared().store(&mut files).expect("stores");
    assert!(fs::read(bench.in_tree("got/a")).expect("there") == big);
}

#[test]
fn a_flood_of_output_during_the_download_blocks_nobody() {
    let bench = download(&format!(
        "(head -c 2000000 /dev/zero | tr '\\0' x) & (head -c 2000000 /dev/zero >&2) & wait\n{TAKE_ALL}\n\
         head -c 2000000 /dev/zero"
    ));
    let big = content(300_000);
    bench.prepared().store(&mut Fake::of(&[("a", &big)])).expect("stores");
    assert!(fs::read(bench.in_tree("got/a")).expect("there") == big);
}

#[test]
fn a_module_that_fails_at_once_is_a_failure_at_once() {
    let bench = download("exit 1");
    quickly(|| {
        let error = bench.prepared().store(&mut Fake::of(&[("a", b"abc")])).expect_err("exit 1");
        assert_eq!(error.code, "MODULE-FAILED");
        assert!(error.text.contains("Download: exit status 1"), "{error}");
    });
    assert!(!bench.in_tree("files").exists());
}

#[test]
fn a_module_that_is_killed_is_a_failure_at_once() {
    for script in ["kill -9 $$", "cat stream-next; kill -9 $$"] {
        let bench = download(script);
        quickly(|| {
            let error = bench.prepared().store(&mut Fake::of(&[("a", b"abc")])).expect_err("killed");
            assert!(error.text.contains("killed by signal 9"), "{error}");
        });
    }
}

#[test]
fn a_module_that_reads_everything_and_then_fails_has_failed() {
    let bench = download(&format!("{TAKE_ALL}\nexit 5"));
    let error = bench.prepared().store(&mut Fake::of(&[("a", b"abc")])).expect_err("exit 5");
    assert!(error.text.contains("exit status 5"), "{error}");
}

#[test]
fn a_module_that_ends_well_before_the_empty_read_has_failed() {
    for script in [
        "cat stream-next",
        "cat $(cat stream-next)",
        "cat $(cat stream-next); cat stream-next",
        "cat $(cat stream-next); cat $(cat stream-next)",
    ] {
        let bench = download(script);
        quickly(|| {
            let mut files = Fake::of(&[("a", b"abc"), ("b", b"hello")]);
            let error = bench.prepared().store(&mut files).expect_err(script);
            assert_eq!(error.code, "MODULE-STREAM", "{script}");
            assert!(error.text.contains("empty read"), "{error}");
        });
        assert!(!bench.in_tree("files").exists(), "{script}");
    }
}

#[test]
fn a_module_that_closes_a_stream_early_has_failed_whatever_it_does_then() {
    let early = "head -c 1 $(cat stream-next)";
    for (after, text) in [
        ("exit 0", "empty read"),
        ("exit 7", "exit status 7"),
        ("cat stream-next", "before its end"),
        ("sleep 20", "before its end"),
    ] {
        let bench = download(&format!("{early} > got\n{after}"));
        quickly(|| {
            let error =
                bench.prepared().store(&mut Fake::of(&[("a", &content(1_000_000))])).expect_err(after);
            assert!(error.text.contains(text), "{after}: {error}");
        });
    }
}

#[test]
fn an_artifact_that_turns_out_wrong_ends_the_module_before_it_sees_an_end_of_the_stream() {
    let bench = download(&format!("trap 'echo told > told; exit 0' TERM\n{TAKE_ALL}\necho whole > whole"));
    let wrong = Error::new("ARTIFACT-CHECKSUM", "data/0000/a: wrong");
    let mut files = Fake { broken: Some((100_000, wrong.clone())), ..Fake::of(&[("a", &content(200_000))]) };
    quickly(|| assert_eq!(bench.prepared().store(&mut files), Err(wrong)));
    assert!(bench.in_tree("told").exists() && !bench.in_tree("whole").exists());
}

#[test]
fn an_artifact_that_turns_out_wrong_after_its_last_file_is_no_end_for_the_module() {
    let bench = download(&format!("{TAKE_ALL}\necho whole > whole"));
    let wrong = Error::new("ARTIFACT-TRUNCATED", "it ends too early");
    let mut files = Fake { bad_end: Some(wrong.clone()), ..Fake::of(&[("a", b"abc")]) };
    quickly(|| assert_eq!(bench.prepared().store(&mut files), Err(wrong)));
    assert!(!bench.in_tree("whole").exists());
}

#[test]
fn a_payload_that_does_not_even_begin_is_no_call_at_all() {
    let bench = download(TAKE_ALL);
    let wrong = Error::new("ARTIFACT-TRUNCATED", "it ends too early");
    let mut files = Fake { bad_end: Some(wrong.clone()), ..Fake::none() };
    assert_eq!(bench.prepared().store(&mut files), Err(wrong));
    assert!(!bench.in_tree("calls").exists());
}

#[test]
fn an_artifact_that_turns_out_wrong_is_a_failure_for_plain_files_too() {
    let bench = download("exit 0");
    let wrong = Error::new("ARTIFACT-CHECKSUM", "data/0000/a: wrong");
    let mut files = Fake { broken: Some((2, wrong.clone())), ..Fake::of(&[("a", &content(100_000))]) };
    assert_eq!(bench.prepared().store(&mut files), Err(wrong));
}

#[test]
fn a_module_that_ignores_sigterm_does_not_outlive_the_grace_time() {
    let bench = download("trap '' TERM\necho $$ > pid\ncat $(cat stream-next)\nsleep 60");
    let wrong = Error::new("ARTIFACT-READ", "the connection broke");
    let mut files = Fake { broken: Some((100_000, wrong.clone())), ..Fake::of(&[("a", &content(200_000))]) };
    quickly(|| assert_eq!(bench.prepared_with(30.0, 0.3).store(&mut files), Err(wrong)));
    assert!(!alive(&lines(&bench.in_tree("pid"))[0]));
}

#[test]
fn a_download_that_hangs_anywhere_exceeds_its_time() {
    for script in [
        "sleep 60",
        "cat stream-next; sleep 60",
        "exec 3< stream-next; sleep 60",
        "x=$(cat stream-next); exec 3< $x; sleep 60",
        "cat $(cat stream-next) > got; sleep 60",
        "cat $(cat stream-next) > got; cat stream-next; sleep 60",
        "mkfifo other; cat other",
        "exec > /dev/null 2> /dev/null; sleep 60",
    ] {
        let bench = download(&format!("echo $$ > pid\n{script}"));
        quickly(|| {
            let mut files = Fake::of(&[("a", &content(200_000))]);
            let error = bench.prepared_with(0.4, 20.0).store(&mut files).expect_err(script);
            assert_eq!(error.code, "MODULE-TIMEOUT", "{script}");
        });
        assert!(!alive(&lines(&bench.in_tree("pid"))[0]), "{script}");
    }
}

#[test]
fn the_time_of_a_module_runs_on_while_the_source_is_slow() {
    let bench = download(TAKE_ALL);
    let mut files = Fake { delay: Duration::from_millis(200), ..Fake::of(&[("a", &content(2_000_000))]) };
    let error = bench.prepared_with(0.5, 20.0).store(&mut files).expect_err("too slow");
    assert_eq!(error.code, "MODULE-TIMEOUT");
}

#[test]
fn the_limit_is_for_a_call_not_for_storing_plain_files() {
    let bench = download("exit 0");
    let mut files = Fake { delay: Duration::from_millis(200), ..Fake::of(&[("a", &content(200_000))]) };
    bench.prepared_with(0.8, 20.0).store(&mut files).expect("stores");
}

#[test]
fn a_module_that_removes_its_pipes_is_a_failure() {
    for script in ["rm stream-next; sleep 60", "cat stream-next; rm -r streams; sleep 60"] {
        let bench = download(script);
        quickly(|| {
            let error =
                bench.prepared_with(30.0, 5.0).store(&mut Fake::of(&[("a", b"abc")])).expect_err(script);
            assert!(matches!(error.code, "MODULE-STREAM" | "MODULE-TREE"), "{error}");
        });
    }
}

#[test]
fn a_download_can_be_done_again_after_one_that_was_cut() {
    let bench = download(TAKE_ALL);
    let mut module = bench.prepared();
    fs::create_dir(bench.in_tree("streams")).expect("creates");
    fs::write(bench.in_tree("streams/a"), "left").expect("writes");
    fs::write(bench.in_tree("stream-next"), "left").expect("writes");
    module.store(&mut Fake::of(&[("a", b"abc")])).expect("stores");
    assert_eq!(fs::read(bench.in_tree("got/a")).expect("there"), b"abc");
}

#[test]
fn a_file_name_that_leads_elsewhere_is_refused() {
    for script in [TAKE_ALL, "exit 0"] {
        let bench = download(script);
        let error = bench.prepared().store(&mut Fake::of(&[("../x", b"abc")])).expect_err("leads elsewhere");
        assert_eq!(error.code, "MODULE-FILE");
        assert!(!bench.in_tree("x").exists());
    }
}
