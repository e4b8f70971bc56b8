//! Ends the agent right before the n-th change that it makes to a file: a power cut at every place there is, without
//! any help of the agent. Follows its system calls with ptrace.
//!
//! What counts: write, pwrite64, ftruncate, fsync, fdatasync, rename, unlink and mkdir below the device's directory,
//! but not logs and what is in /run.

use crate::Device;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// How often the agent may still change something, over several runs, and what it has changed.
#[derive(Debug, Default)]
pub struct Tally {
    /// Cut before the change after so many; `None`: never.
    pub left: Option<usize>,
    /// Cut before the change after the n-th one that begins with this text.
    pub stop_after: Option<(&'static str, usize)>,
    /// The changes, e.g. `fsync thimble-journal.a`.
    pub changes: Vec<String>,
}

impl Tally {
    fn stops(&self) -> bool {
        let Some((text, times)) = self.stop_after else { return false };
        self.changes.iter().filter(|change| change.starts_with(text)).count() >= times
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutEnd {
    /// By itself, with this exit code.
    Exit(i32),
    /// It was killed by somebody else, as a reboot does.
    Killed,
    /// It was cut.
    Cut,
}

/// Runs the agent until it ends, or until the tally is used up.
pub fn run(device: &Device, thimble: &Path, args: &[&str], tally: &mut Tally) -> CutEnd {
    let thimble = thimble.canonicalize().expect("the agent's file");
    let mut command = device.command(&thimble, args);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: ptrace(TRACEME) is a plain system call without memory; it is allowed between fork and exec.
    unsafe {
        command.pre_exec(|| match libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        });
    }
    // Waited for by its number, in `Tracee::wait`.
    #[allow(clippy::zombie_processes)]
    let child = command.spawn().expect("start setsid under ptrace");
    let tracee = Tracee { pid: child.id() as libc::pid_t, dir: device.dir().to_owned() };
    tracee.follow(&thimble, tally)
}

struct Tracee {
    pid: libc::pid_t,
    dir: PathBuf,
}

impl Tracee {
    fn follow(&self, thimble: &Path, tally: &mut Tally) -> CutEnd {
        let mut is_agent = false;
        let mut signal;
        let mut set_up = false;
        loop {
            let status = self.wait();
            if libc::WIFEXITED(status) {
                return CutEnd::Exit(libc::WEXITSTATUS(status));
            }
            if libc::WIFSIGNALED(status) {
                return CutEnd::Killed;
            }
            if !set_up {
                let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL;
                self.request(libc::PTRACE_SETOPTIONS, options as usize);
                set_up = true;
            }
            match libc::WSTOPSIG(status) {
                stop if stop == libc::SIGTRAP | 0x80 => {
                    signal = 0;
                    if let Some(change) = self.change() {
                        if tally.left == Some(0) || tally.stops() {
                            tally.changes.push(format!("CUT before {change}"));
                            return self.kill();
                        }
                        tally.left = tally.left.map(|left| left - 1);
                        tally.changes.push(change);
                    }
                }
                // After an exec.
                libc::SIGTRAP => {
                    is_agent = fs::read_link(self.proc("exe")).is_ok_and(|exe| exe == thimble);
                    signal = 0;
                }
                other => signal = other,
            }
            let how = if is_agent { libc::PTRACE_SYSCALL } else { libc::PTRACE_CONT };
            self.request(how, signal as usize);
        }
    }

    fn kill(&self) -> CutEnd {
        // SAFETY: no memory is involved; our child, not waited for.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
        while !libc::WIFSIGNALED(self.wait()) {}
        CutEnd::Cut
    }

    fn wait(&self) -> libc::c_int {
        let mut status = 0;
        // SAFETY: `status` is ours and alive.
        let pid = unsafe { libc::waitpid(self.pid, &raw mut status, 0) };
        assert_eq!(pid, self.pid, "waitpid: {}", io::Error::last_os_error());
        status
    }

    /// A process that was killed meanwhile takes no requests: the next wait tells.
    fn request(&self, request: libc::c_uint, data: usize) {
        // SAFETY: these requests take numbers, no memory of ours.
        unsafe { libc::ptrace(request, self.pid, 0, data) };
    }

    fn proc(&self, name: &str) -> String {
        format!("/proc/{}/{name}", self.pid)
    }

    /// What the system call that is about to begin will change.
    fn change(&self) -> Option<String> {
        // struct ptrace_syscall_info: op in the first byte, the call's number at 24, its arguments from 32.
        let mut info = [0u64; 11];
        let size = std::mem::size_of_val(&info);
        // SAFETY: the kernel writes at most `size` bytes into `info`.
        let got = unsafe { libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, self.pid, size, info.as_mut_ptr()) };
        let is_entry = info[0] & 0xff == 1;
        if got < 0 || !is_entry {
            return None;
        }
        let [number, args @ ..] = &info[3..] else { return None };
        let (name, path) = match *number as libc::c_long {
            libc::SYS_write => ("write", self.file(args[0])?),
            libc::SYS_pwrite64 => ("write", self.file(args[0])?),
            libc::SYS_ftruncate => ("truncate", self.file(args[0])?),
            libc::SYS_fsync | libc::SYS_fdatasync => ("sync", self.file(args[0])?),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_rename => ("rename to", self.text(args[1])?),
            libc::SYS_renameat | libc::SYS_renameat2 => ("rename to", self.text(args[3])?),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_unlink | libc::SYS_rmdir => ("remove", self.text(args[0])?),
            libc::SYS_unlinkat => ("remove", self.text(args[1])?),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_mkdir => ("make", self.text(args[0])?),
            libc::SYS_mkdirat => ("make", self.text(args[1])?),
            _ => return None,
        };
        // A name without a directory is one of an open directory that is emptied.
        let inside = path.starts_with(&self.dir) || path.is_relative();
        let name_of = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let uncounted = name_of.ends_with(".log") || path.starts_with(self.dir.join("root/run"));
        (inside && !uncounted).then(|| format!("{name} {name_of}"))
    }

    fn file(&self, descriptor: u64) -> Option<PathBuf> {
        let path = fs::read_link(self.proc(&format!("fd/{descriptor}"))).ok()?;
        path.is_absolute().then_some(path)
    }

    /// Text in the agent's memory.
    fn text(&self, address: u64) -> Option<PathBuf> {
        let mut memory = fs::File::open(self.proc("mem")).ok()?;
        memory.seek(SeekFrom::Start(address)).ok()?;
        let mut bytes = Vec::new();
        // It may stand right before a hole.
        let _ = memory.take(4096).read_to_end(&mut bytes);
        let end = bytes.iter().position(|&byte| byte == 0)?;
        Some(String::from_utf8_lossy(&bytes[..end]).into_owned().into())
    }
}
