//! Signals, seen only at the places that wait: no signal interrupts anything else.
//!
//! [`install`] blocks the signals that we care about; they are delivered while [`poll`] waits, and nowhere else.
//! So a wait cannot miss one, and no other system call has to cope with EINTR.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

static TERMINATE: AtomicBool = AtomicBool::new(false);
static CHECK: AtomicBool = AtomicBool::new(false);
static INVENTORY: AtomicBool = AtomicBool::new(false);
static INSTALLED: AtomicBool = AtomicBool::new(false);

extern "C" fn note(signal: libc::c_int) {
    match signal {
        libc::SIGTERM | libc::SIGINT | libc::SIGQUIT => TERMINATE.store(true, Ordering::Relaxed),
        libc::SIGUSR1 => CHECK.store(true, Ordering::Relaxed),
        libc::SIGUSR2 => INVENTORY.store(true, Ordering::Relaxed),
        _ => {} // SIGCHLD: waking up is all that it has to do.
    }
}

const OURS: [libc::c_int; 6] =
    [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2];

fn set(signals: &[libc::c_int]) -> libc::sigset_t {
    // SAFETY: sigset_t is plain data; sigemptyset makes it valid before sigaddset uses it.
    unsafe {
        let mut s: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut s);
        for n in signals {
            libc::sigaddset(&mut s, *n);
        }
        s
    }
}

/// Installs the handlers and blocks the signals outside [`poll`]. Called once, before anything waits; a second
/// call does nothing. Child processes are started without the mask.
pub fn install() {
    if INSTALLED.swap(true, Ordering::Relaxed) {
        return;
    }
    // SAFETY: plain libc calls with valid pointers; `note` only stores to atomics, which is async-signal-safe.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = note as extern "C" fn(libc::c_int) as usize;
        action.sa_mask = set(&[]);
        for n in OURS {
            libc::sigaction(n, &action, std::ptr::null_mut());
        }
    }
    block_all_of_ours();
}

/// Blocks our signals in this thread.
pub(super) fn block_all_of_ours() {
    let blocked = set(&OURS);
    // SAFETY: `blocked` is initialised and alive.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &blocked, std::ptr::null_mut()) };
}

/// Calls `start` with every signal blocked: a child that it starts in our memory cannot run a handler of ours there.
pub(super) fn all_blocked<T>(start: impl FnOnce() -> T) -> T {
    let mut all = set(&[]);
    let mut ours = set(&[]);
    // SAFETY: both sets are initialised and alive.
    unsafe {
        libc::sigfillset(&mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &all, &mut ours);
    }
    let started = start();
    // SAFETY: as above.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &ours, std::ptr::null_mut()) };
    started
}

/// For a child before its program starts: nothing handled (first, while all is blocked: a handler would run in the
/// memory of its parent), nothing ignored, nothing blocked. A module that is told to end must hear of it, and what a
/// script starts would inherit the mask for ever.
pub(super) fn all_default() {
    // SAFETY: plain system calls with live, initialised values; SIG_DFL is a valid disposition.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = libc::SIG_DFL;
        for n in OURS.into_iter().chain([libc::SIGPIPE]) {
            libc::sigaction(n, &action, std::ptr::null_mut());
        }
        libc::sigprocmask(libc::SIG_SETMASK, &set(&[]), std::ptr::null_mut());
    }
}

/// SIGTERM, SIGINT or SIGQUIT came: end as soon as that is safe (U7).
pub fn terminate() -> bool {
    TERMINATE.load(Ordering::Relaxed)
}

/// SIGUSR1 came since the last call: check for a deployment now (U6).
pub fn take_check() -> bool {
    CHECK.swap(false, Ordering::Relaxed)
}

/// SIGUSR2 came since the last call: send the inventory now (U6).
pub fn take_inventory() -> bool {
    INVENTORY.swap(false, Ordering::Relaxed)
}

/// SIGUSR1 or SIGUSR2 is waiting to be taken.
pub fn woken() -> bool {
    CHECK.load(Ordering::Relaxed) || INVENTORY.load(Ordering::Relaxed)
}

/// What a descriptor is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// Something can be read, or the other side has closed.
    Reading,
    /// Something can be written.
    Writing,
}

/// How long descriptors that are always ready may keep signals waiting, in milliseconds.
const UNSEEN: u64 = 50;

/// When signals were last let through, in milliseconds since boot.
static LOOKED: AtomicU64 = AtomicU64::new(0);

/// Waits until a descriptor is ready, a signal comes (of ours, or SIGCHLD) or the time is over. `None` waits for
/// ever. Returns which descriptors are ready: all false after a signal or when the time is over. A negative
/// descriptor is left out.
pub fn poll<const N: usize>(
    fds: &[(RawFd, For); N],
    timeout: Option<Duration>,
) -> std::io::Result<[bool; N]> {
    install();
    // Test programs have many threads, and a signal may go to another one: look again after a while.
    #[cfg(test)]
    let timeout = Some(timeout.unwrap_or(Duration::MAX).min(Duration::from_millis(50)));
    let mut list = fds.map(|(fd, what)| libc::pollfd {
        fd,
        events: match what {
            For::Reading => libc::POLLIN,
            For::Writing => libc::POLLOUT,
        },
        revents: 0,
    });
    let time = timeout.map(|t| {
        // SAFETY: timespec is plain data; zeroed first because some targets have padding members.
        let mut spec: libc::timespec = unsafe { std::mem::zeroed() };
        spec.tv_sec = t.as_secs().try_into().unwrap_or(i32::MAX.into());
        spec.tv_nsec = t.subsec_nanos() as _;
        spec
    });
    let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let mask = set(&[]);
    // SAFETY: `list` is valid for its length, `time` is null or points to a live timespec, `mask` is initialised.
    let n = unsafe { libc::ppoll(list.as_mut_ptr(), N as libc::nfds_t, time, &mask) };
    let error = (n < 0).then(std::io::Error::last_os_error);
    let now = u64::try_from(super::clock::since_boot().as_millis()).unwrap_or(u64::MAX);
    // The kernel looks at the descriptors first: where one is always ready, a signal would never come through. Looking
    // for them after each call would double the calls.
    let looked = if n > 0 { LOOKED.load(Ordering::Relaxed) } else { now };
    if now.saturating_sub(looked) > UNSEEN {
        // SAFETY: as above.
        let zero: libc::timespec = unsafe { std::mem::zeroed() };
        // SAFETY: no descriptors; both pointers are to live values.
        unsafe { libc::ppoll(std::ptr::null_mut(), 0, &zero, &mask) };
    }
    if n <= 0 || now.saturating_sub(looked) > UNSEEN {
        LOOKED.store(now, Ordering::Relaxed);
    }
    match error {
        Some(e) if e.kind() != std::io::ErrorKind::Interrupted => Err(e),
        Some(_) => Ok([false; N]),
        None => Ok(list.map(|p| p.revents != 0)),
    }
}
