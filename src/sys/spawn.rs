//! Starts a program. What is between two state scripts is mostly this: no memory is copied, nothing is opened that can
//! be kept open, and the child does only what it must.

use super::signal;
use std::ffi::{CString, c_char, c_int, c_void};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::OnceLock;

/// What is to be started.
pub(super) struct Program<'a> {
    /// Path, or a name that is looked up in PATH.
    pub path: &'a Path,
    /// Arguments, without the program's name.
    pub args: &'a [std::ffi::OsString],
    /// Working directory; `None` is ours.
    pub dir: Option<&'a Path>,
    /// Standard input, output and error of the child.
    pub streams: [RawFd; 3],
}

/// A child; who does not [`wait`](Child::wait) for it leaves a zombie.
#[derive(Debug)]
pub(super) struct Child {
    pid: libc::pid_t,
    status: Option<c_int>,
}

impl Child {
    /// Its number, which is also that of its process group.
    pub fn pid(&self) -> libc::pid_t {
        self.pid
    }

    /// Its status as `waitpid` gives it, if it has ended.
    pub fn try_wait(&mut self) -> io::Result<Option<c_int>> {
        self.reap(libc::WNOHANG)
    }

    /// Waits until it has ended.
    pub fn wait(&mut self) -> io::Result<()> {
        self.reap(0).map(drop)
    }

    fn reap(&mut self, options: c_int) -> io::Result<Option<c_int>> {
        while self.status.is_none() {
            let mut status = 0;
            // SAFETY: `status` is alive; the child is not reaped yet, so the number is still its own.
            match unsafe { libc::waitpid(self.pid, &mut status, options) } {
                0 => break,
                pid if pid == self.pid => self.status = Some(status),
                _ => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        }
        Ok(self.status)
    }
}

/// /dev/null for reading, opened once: that takes as long as a tenth of a script's start.
pub(super) fn nothing() -> io::Result<&'static OwnedFd> {
    static NULL: OnceLock<OwnedFd> = OnceLock::new();
    match NULL.get() {
        Some(null) => Ok(null),
        None => {
            let null = File::open("/dev/null")?;
            Ok(NULL.get_or_init(|| null.into()))
        }
    }
}

/// For the child: everything made before it is started, as it must not allocate.
struct Plan {
    path: *const c_char,
    args: *const *const c_char,
    dir: *const c_char,
    streams: [RawFd; 3],
    /// The child has this memory, not a copy.
    shared: bool,
    /// Its own error, of the system; 0 if the program was started.
    error: c_int,
}

/// Room for the child's calls. The largest is `execvp`, which puts together a path of at most PATH_MAX there.
const STACK: usize = 16 * 1024;

#[repr(align(16))]
struct Stack([MaybeUninit<u8>; STACK]);

/// Starts the program as the leader of a process group of its own, with no signal blocked.
///
/// # Errors
/// What the system says. (Emulators of user mode copy the memory that is to be shared: there, a program that is not there
/// or not executable is an error too, but one that cannot be started for another reason ends with status 127.)
pub(super) fn start(what: &Program) -> io::Result<Child> {
    let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let path = text(what.path.as_os_str().as_bytes())?;
    let dir = what.dir.map(|dir| text(dir.as_os_str().as_bytes())).transpose()?;
    let args: Vec<CString> = what.args.iter().map(|arg| text(arg.as_bytes())).collect::<io::Result<_>>()?;
    let list: Vec<*const c_char> =
        [&path].into_iter().chain(&args).map(|arg| arg.as_ptr()).chain([ptr::null()]).collect();
    let mut plan = Plan {
        path: path.as_ptr(),
        args: list.as_ptr(),
        dir: dir.as_ref().map_or(ptr::null(), |dir| dir.as_ptr()),
        streams: what.streams,
        shared: false,
        error: 0,
    };
    let mut stack = Stack([MaybeUninit::uninit(); STACK]);
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // No handler of ours may run in the child, whose memory is ours.
    let pid = signal::all_blocked(|| {
        let top: *mut c_void = stack.0.as_mut_ptr_range().end.cast();
        // SAFETY: until the child has its own memory (execve) or has ended, the kernel keeps this thread waiting
        // (CLONE_VFORK), so that `plan`, `stack` and all that they point to stay alive and have one user at a time. The
        // stack is aligned and grows down from its end on all machines that there are builds for.
        unsafe { libc::clone(child, top, flags, ptr::from_mut(&mut plan).cast()) }
    });
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut child = Child { pid, status: None };
    if plan.error != 0 {
        child.wait()?;
        return Err(io::Error::from_raw_os_error(plan.error));
    }
    if !plan.shared && what.path.is_absolute() {
        // What the child met stayed in its copy: ask again.
        // SAFETY: `path` is a C string and alive.
        if unsafe { libc::access(path.as_ptr(), libc::X_OK) } != 0 {
            let error = io::Error::last_os_error();
            child.wait()?;
            return Err(error);
        }
    }
    Ok(child)
}

/// Runs in the child, in our memory: system calls only. Returns only if the program could not be started.
extern "C" fn child(plan: *mut c_void) -> c_int {
    // SAFETY: `start` passes its plan, which nobody else uses meanwhile.
    let plan = unsafe { &mut *plan.cast::<Plan>() };
    plan.shared = true;
    plan.error = begin(plan).raw_os_error().unwrap_or(libc::EINVAL);
    127
}

fn begin(plan: &Plan) -> io::Error {
    let failed = io::Error::last_os_error;
    // SAFETY: system calls with numbers and with pointers to what `start` keeps alive; `execvp` besides reads PATH.
    // None allocates, and none changes what is ours: descriptors, signals and directory are the child's own.
    unsafe {
        if libc::setpgid(0, 0) != 0 {
            return failed();
        }
        for (to, from) in plan.streams.iter().enumerate() {
            if libc::dup2(*from, to as c_int) < 0 {
                return failed();
            }
        }
        if !plan.dir.is_null() && libc::chdir(plan.dir) != 0 {
            return failed();
        }
        signal::all_default();
        // A path is taken as it is: `execvp` of some libraries would give what is no program to a shell.
        let mut slash = plan.path;
        while *slash != 0 && *slash != b'/' as c_char {
            slash = slash.add(1);
        }
        if *slash != 0 {
            libc::execv(plan.path, plan.args)
        } else {
            libc::execvp(plan.path, plan.args)
        };
        failed()
    }
}
