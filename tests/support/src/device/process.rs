//! Starting the agent, waiting for its end with a limit, and ending what it leaves behind.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Waits for the end of a child; one that takes longer is killed, and that is a panic.
pub(super) fn wait(mut child: Child, limit: Duration, what: &str) -> ExitStatus {
    let id = child.id();
    let (sender, ended) = mpsc::channel();
    let waiter = thread::spawn(move || {
        let status = child.wait();
        // Nobody listens any more when the limit has passed.
        let _ = sender.send(());
        status
    });
    let late = ended.recv_timeout(limit).is_err();
    if late {
        // Still our child and not waited for, so the number is still its own.
        kill(&[id]);
    }
    let status = waiter.join().expect("the waiting thread").expect("wait for the agent");
    assert!(!late, "{what} did not end within {} s", limit.as_secs());
    status
}

/// Kills every process of a session; whether none is left. On a loaded machine it takes a while until those that were
/// killed come to know it.
pub(super) fn kill_session(session: u32) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(30) {
        let members = members(session);
        if members.is_empty() {
            return true;
        }
        kill(&members);
    }
    false
}

fn kill(processes: &[u32]) {
    let numbers: Vec<String> = processes.iter().map(u32::to_string).collect();
    // A process that has ended meanwhile is none of our business: errors are expected.
    let mut command = Command::new("sh");
    command.args(["-c", "kill -9 \"$@\"", "sh"]).args(numbers).stderr(Stdio::null());
    let _ = command.status().expect("run sh (Debian package dash)");
}

/// The living processes of a session, from /proc.
fn members(session: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc is mounted").flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // pid (name) state parent group session …; the name may contain anything.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((_, rest)) = stat.rsplit_once(')') else { continue };
        let mut words = rest.split_whitespace();
        let state = words.next();
        if words.nth(2) == Some(&session.to_string()) && !matches!(state, Some("Z" | "X")) {
            found.push(process);
        }
    }
    found
}

/// `program args` in a session of its own whose leader's number is written to `pid_file`; `exec` keeps it.
pub(super) fn in_own_session(pid_file: &Path, program: &Path) -> Command {
    let mut command = Command::new("setsid");
    command.args(["sh", "-c", "echo $$ > \"$0\"; exec \"$@\""]).arg(pid_file).arg(program);
    command
}
