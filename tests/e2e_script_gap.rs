//! How long it takes from the end of one state script to the start of the next, against the budget in `.ci/budgets`.
//!
//! The scripts are programs of a few instructions, made with the C compiler: each notes when it starts and when it is
//! about to end. The gap has in it the end of one process and the start of another; what thimble does is the rest.
//! `THIMBLE_BIN` names the program to measure; without it the test's own is measured, and only that it runs them.
#![allow(clippy::expect_used, clippy::panic)] // These are tests.

use std::fs;
use std::path::Path;
use std::process::Command;
use thimble_testkit::{Scene, budget, measured};

const THIMBLE: &str = env!("CARGO_BIN_EXE_thimble");

/// Scripts of one state.
const SCRIPTS: usize = 41;

/// Installations; the best one counts, as anything else on the machine only makes it slower.
const INSTALLATIONS: usize = 7;

/// Notes two times of the monotonic clock in a file, as it was started with: two numbers of 8 bytes. Without libc,
/// whose start takes longer than everything else here.
const PROGRAM: &str = r#"
#include <fcntl.h>
#include <sys/syscall.h>
#include <time.h>
static long call(long number, long a, long b, long c, long d) {
#if defined(__x86_64__)
    long result;
    register long r10 __asm__("r10") = d;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
    return result;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
    return x0;
#else
#error "no system calls for this machine here"
#endif
}
void _start(void) {
    struct timespec begin, end;
    call(SYS_clock_gettime, CLOCK_MONOTONIC, (long)&begin, 0, 0);
    long file = call(SYS_openat, AT_FDCWD, (long)NOTES, O_WRONLY | O_APPEND | O_CREAT, 0644);
    call(SYS_clock_gettime, CLOCK_MONOTONIC, (long)&end, 0, 0);
    long long times[2] = { begin.tv_sec * 1000000000LL + begin.tv_nsec, end.tv_sec * 1000000000LL + end.tv_nsec };
    call(SYS_exit_group, call(SYS_write, file, (long)times, sizeof times, 0) != sizeof times, 0, 0, 0);
}
"#;

fn compile(dir: &Path, notes: &Path) -> Vec<u8> {
    let (source, program) = (dir.join("script.c"), dir.join("script"));
    fs::write(&source, PROGRAM).expect("write the source");
    let made = Command::new("cc")
        .args(["-O2", "-static", "-nostdlib", "-fno-stack-protector", "-s"])
        .arg(format!("-DNOTES=\"{}\"", notes.display()))
        .arg("-o")
        .args([&program, &source])
        .status()
        .expect("cc (Debian packages gcc, libc6-dev)");
    assert!(made.success(), "cc");
    fs::read(program).expect("the program")
}

/// Milliseconds from each script's end to the next one's start.
fn gaps(scene: &Scene, notes: &Path, artifact: &str) -> Vec<f64> {
    let _ = fs::remove_file(notes);
    scene.run(&["install", artifact]).expect(0);
    scene.run(&["rollback"]).expect(0);
    let bytes = fs::read(notes).expect("the scripts ran");
    let times: Vec<i64> =
        bytes.chunks_exact(8).map(|n| i64::from_ne_bytes(n.try_into().expect("8 bytes"))).collect();
    assert_eq!(times.len(), 2 * SCRIPTS, "each script notes two times");
    times[1..times.len() - 1].chunks_exact(2).map(|pair| (pair[1] - pair[0]) as f64 / 1e6).collect()
}

fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

#[test]
fn the_next_state_script_starts_at_once() {
    let (thimble, judged) = measured(THIMBLE);
    let scene = Scene::new("gap", &thimble.to_string_lossy());
    let notes = scene.path().join("notes");
    let script = compile(scene.path(), &notes);
    let mut spec = Scene::release();
    spec.scripts.extend((0..SCRIPTS).map(|n| (format!("ArtifactInstall_Enter_{n:02}"), script.clone())));
    let artifact = scene.artifact(&spec).display().to_string();
    let mut medians: Vec<_> =
        (0..INSTALLATIONS).map(|_| median(&mut gaps(&scene, &notes, &artifact))).collect();
    let (middle, best) = (median(&mut medians), medians[0]);
    eprintln!(
        "from script to script, median of {SCRIPTS} in each of {INSTALLATIONS} installations: {medians:.3?} ms"
    );
    if judged {
        let most = budget("script-gap");
        assert!(best <= most, "{best} ms in the best installation, {middle} ms in the middle one");
    }
}
