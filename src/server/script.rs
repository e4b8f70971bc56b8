//! Runs an identity or inventory script and reads its `key=value` lines (identity-inventory 1), within limits.

use crate::error::{Error, Result};
use crate::sys::file::set_nonblocking;
use crate::sys::process::{Ended, Invocation, Running};
use crate::sys::signal::{self, For};
use std::io::{self, PipeReader, Read};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// Time for one script (II-10).
const TIME: Duration = Duration::from_secs(60);
/// Limits of the output (II-6).
const OUTPUT: usize = 1024 * 1024;
const LINE: usize = 64 * 1024;
const KEY: usize = 1024;
const KEYS: usize = 1000;

/// Keys in order of first appearance, each with its values in order (II-5).
pub(super) type Pairs = Vec<(String, Vec<String>)>;

/// Runs the script and reads its output; a failure names it and says why.
pub(super) fn run(path: &Path, code: &'static str) -> Result<Pairs> {
    run_within(path, code, TIME)
}

fn run_within(path: &Path, code: &'static str, time: Duration) -> Result<Pairs> {
    let failed = |why: String| Error::new(code, format!("{}: {why}", path.display()));
    let output = capture(path, time).map_err(|e| failed(format!("cannot be run: {e}")))?;
    match output.ended {
        Ended::Exit(0) => {}
        Ended::Exit(status) => return Err(failed(format!("exit status {status}"))),
        Ended::Signal(signal) => return Err(failed(format!("killed by signal {signal}"))),
        Ended::TimedOut => return Err(failed(format!("not finished after {} s", time.as_secs()))),
        Ended::Interrupted => return Err(super::wire::interrupted()),
    }
    if output.too_much {
        return Err(failed(format!("more than {OUTPUT} bytes of output")));
    }
    parse(&output.stdout, path).map_err(failed)
}

struct Output {
    ended: Ended,
    stdout: Vec<u8>,
    too_much: bool,
}

/// Like `sys::process::run`, but the whole output is wanted, not its two ends.
fn capture(path: &Path, time: Duration) -> io::Result<Output> {
    let (mut pipe, writer) = io::pipe()?;
    set_nonblocking(pipe.as_raw_fd())?;
    let mut running = Running::start_into(&Invocation::new(path, time), writer)?;
    let (mut stdout, mut too_much, mut open) = (Vec::new(), false, true);
    loop {
        open = open && pump(&mut pipe, &mut stdout, &mut too_much)?;
        running.drain();
        let left = running.deadline().saturating_duration_since(Instant::now());
        if running.ended()?.is_some() || left.is_zero() || signal::terminate() {
            break;
        }
        let [out, err, input, end] = running.wanted();
        let ours = (if open { pipe.as_raw_fd() } else { -1 }, For::Reading);
        signal::poll(&[out, err, input, end, ours], Some(left))?;
    }
    let finished = running.finish()?;
    if open {
        pump(&mut pipe, &mut stdout, &mut too_much)?;
    }
    for line in finished.stderr.lines() {
        log::info!("{}: {line}", path.display());
    }
    Ok(Output { ended: finished.ended, stdout, too_much })
}

/// Takes what is in the pipe; what is beyond the limit is thrown away. False at its end.
fn pump(pipe: &mut PipeReader, to: &mut Vec<u8>, too_much: &mut bool) -> io::Result<bool> {
    let mut buffer = [0u8; 4096];
    // An endless writer must not keep us here: the time limit is looked at between turns.
    for _ in 0..64 {
        match pipe.read(&mut buffer) {
            Ok(0) => return Ok(false),
            Ok(n) => {
                let room = OUTPUT - to.len();
                to.extend_from_slice(&buffer[..n.min(room)]);
                *too_much |= n > room;
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(true)
}

/// `key=value` lines (II-1..II-7). Nothing is trimmed; empty lines are skipped, an empty key is dropped with a
/// warning, any other line spoils the whole output.
fn parse(output: &[u8], path: &Path) -> std::result::Result<Pairs, String> {
    let mut pairs: Pairs = Vec::new();
    for (number, line) in output.split(|b| *b == b'\n').enumerate() {
        let number = number + 1;
        if line.is_empty() {
            continue;
        }
        if line.len() > LINE {
            return Err(format!("output line {number} is longer than {LINE} bytes"));
        }
        let line = String::from_utf8_lossy(line);
        let Some((key, value)) = line.split_once('=') else {
            return Err(format!("output line {number} is not `key=value`"));
        };
        if key.is_empty() {
            log::warn!("{}: output line {number} has no key", path.display());
            continue;
        }
        if key.len() > KEY {
            return Err(format!("output line {number} has a key longer than {KEY} bytes"));
        }
        match pairs.iter().position(|(k, _)| k == key) {
            Some(known) => pairs[known].1.push(value.to_owned()),
            None if pairs.len() >= KEYS => return Err(format!("more than {KEYS} keys")),
            None => pairs.push((key.to_owned(), vec![value.to_owned()])),
        }
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn pairs(text: &[u8]) -> std::result::Result<Pairs, String> {
        parse(text, Path::new("script"))
    }

    fn script(name: &str, body: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("thimble-script-{name}-{}", std::process::id()));
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("writes");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        path
    }

    #[test]
    fn values_of_a_repeated_key_are_kept_in_order() {
        let got = pairs(b"a=1\nb=2=3\na=4\na=4\n").expect("good");
        let want = [("a", vec!["1", "4", "4"]), ("b", vec!["2=3"])];
        let want: Pairs =
            want.into_iter().map(|(k, v)| (k.into(), v.into_iter().map(str::to_owned).collect())).collect();
        assert_eq!(got, want);
    }

    #[test]
    fn nothing_is_trimmed_and_empty_values_count() {
        let got = pairs(b"\n a = b \n\nk=\nlast=\xff").expect("good");
        let keys: Vec<(&str, &str)> = got.iter().map(|(k, v)| (k.as_str(), v[0].as_str())).collect();
        assert_eq!(keys, [(" a ", " b "), ("k", ""), ("last", "\u{fffd}")]);
        assert_eq!(pairs(b"=v\nk=v\n").expect("good").len(), 1);
    }

    #[test]
    fn a_line_that_is_no_pair_spoils_the_output() {
        assert!(pairs(b"a=1\nbogus\nb=2\n").expect_err("bad").contains("line 2"));
    }

    #[test]
    fn limits_hold() {
        assert!(pairs(&[b"k=".to_vec(), vec![b'x'; LINE]].concat()).is_err());
        assert!(pairs(&[vec![b'k'; KEY + 1], b"=x".to_vec()].concat()).is_err());
        let many: String = (0..=KEYS).map(|i| format!("k{i}=v\n")).collect();
        assert!(pairs(many.as_bytes()).is_err());
    }

    #[test]
    fn output_larger_than_a_pipe_arrives_whole() {
        let path =
            script("large", "i=0; while [ $i -lt 20000 ]; do echo \"k=value number $i\"; i=$((i+1)); done");
        let got = run(&path, "T").expect("runs");
        assert_eq!(got[0].1.len(), 20000);
        assert_eq!(got[0].1[19999], "value number 19999");
        let _ = std::fs::remove_file(path);
    }

    #[test]
    fn endless_output_and_endless_sleep_end_within_the_limit() {
        for (name, body) in [("flood", "exec yes a=1"), ("sleep", "echo a=1; sleep 60 & exec sleep 60")] {
            let path = script(name, body);
            let begin = Instant::now();
            let e = run_within(&path, "T", Duration::from_millis(500)).expect_err("fails");
            assert!(e.text.contains("not finished"), "{e}");
            assert!(begin.elapsed() < Duration::from_secs(10));
            let _ = std::fs::remove_file(path);
        }
    }

    #[test]
    fn a_failing_script_is_an_error_with_its_name() {
        let path = script("fails", "echo a=1; exit 3");
        let e = run(&path, "T").expect_err("fails");
        assert!(e.text.contains("exit status 3") && e.text.contains("thimble-script-fails"), "{e}");
        let _ = std::fs::remove_file(path);
        assert!(run(Path::new("/no/such/script"), "T").is_err());
    }

    #[test]
    fn a_background_child_that_keeps_the_pipe_does_not_hold_us_up() {
        let path = script("daemon", "sleep 30 & echo a=1");
        let begin = Instant::now();
        assert_eq!(run(&path, "T").expect("runs").len(), 1);
        assert!(begin.elapsed() < Duration::from_secs(10));
        let _ = std::fs::remove_file(path);
    }
}
