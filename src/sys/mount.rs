//! Taking down mounted file systems, and what the kernel calls this machine.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Unmounts what is mounted on `point`: the topmost one, as a whole. `EBUSY` while something uses it. A link is not
/// followed. What was not written yet is on its device when this returns.
pub fn unmount(point: &Path) -> io::Result<()> {
    let point = CString::new(point.as_os_str().as_bytes())?;
    // SAFETY: `point` is a valid C string that outlives the call.
    if unsafe { libc::umount2(point.as_ptr(), libc::UMOUNT_NOFOLLOW) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `uname -m`: `armv7l`, `aarch64`, `x86_64`; empty if the kernel does not say.
pub fn machine() -> String {
    // SAFETY: all bytes zero are a valid utsname.
    let mut names: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: uname writes to the structure that it is given.
    if unsafe { libc::uname(&mut names) } != 0 {
        return String::new();
    }
    let bytes = names.machine.iter().map(|c| *c as u8).take_while(|b| *b != 0);
    String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_a_name() {
        assert!(
            machine().starts_with(std::env::consts::ARCH) || cfg!(not(target_arch = "x86_64")),
            "{}",
            machine()
        );
        assert!(!machine().is_empty());
    }

    #[test]
    fn what_is_not_mounted_cannot_be_unmounted() {
        assert!(unmount(Path::new("/proc/self/nothing/there")).is_err());
        assert!(unmount(Path::new("a\0b")).is_err());
    }
}
