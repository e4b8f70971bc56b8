//! Parsers for /proc/self/mountinfo, /proc/mounts and /proc/cmdline. No I/O.

use crate::sys::block;

/// One mounted file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// Device number; unknown when it was read from /proc/mounts.
    pub device: Option<u64>,
    /// What it is mounted on.
    pub point: String,
    /// Type of the file system.
    pub kind: String,
    /// What was given as device: a path, a UBI name, anything.
    pub source: String,
    /// Options of the file system.
    pub options: String,
}

/// Parses /proc/self/mountinfo; lines that are not understood are left out.
pub(super) fn mountinfo(text: &str) -> Vec<Mount> {
    text.lines().filter_map(mountinfo_line).collect()
}

/// `22 1 179:2 / / rw,relatime shared:1 - ext4 /dev/root rw`
fn mountinfo_line(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(2);
    let device = number(left.next()?)?;
    let point = unescape(left.nth(1)?);
    let mut right = right.split(' ');
    let kind = right.next()?.to_owned();
    let source = unescape(right.next()?);
    let options = unescape(right.next().unwrap_or(""));
    Some(Mount { device: Some(device), point, kind, source, options })
}

/// Parses /proc/mounts, which has no device numbers.
pub(super) fn mounts(text: &str) -> Vec<Mount> {
    let line = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let source = unescape(fields.next()?);
        let point = unescape(fields.next()?);
        let kind = fields.next()?.to_owned();
        let options = unescape(fields.next().unwrap_or(""));
        Some(Mount { device: None, point, kind, source, options })
    };
    text.lines().filter_map(line).collect()
}

/// The `root=` of a kernel command line: the last one counts, and what follows `--` is not the kernel's.
pub(super) fn root_argument(cmdline: &str) -> Option<&str> {
    let words = cmdline.split_ascii_whitespace().take_while(|w| *w != "--");
    words.filter_map(|w| w.strip_prefix("root=")).last().map(|v| v.trim_matches('"'))
}

/// `MAJOR:MINOR`, decimal.
pub(super) fn number(text: &str) -> Option<u64> {
    let (major, minor) = text.trim().split_once(':')?;
    Some(block::device_number(major.parse().ok()?, minor.parse().ok()?))
}

/// The kernel writes blank, tab, newline and backslash as `\` and three octal digits.
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| *byte == b'\\').and_then(|d| std::str::from_utf8(d).ok());
        match octal.and_then(|d| u8::from_str_radix(d, 8).ok()) {
            Some(code) => {
                out.push(code);
                rest = &tail[3..];
            }
            None => {
                out.push(*byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_and_mounts_say_what_is_mounted_where() {
        let text = "22 1 179:2 / / rw,relatime shared:1 - ext4 /dev/root rw\nrubbish\n\
                    30 22 0:25 / /mnt/a\\040b rw - overlay overlay rw,lowerdir=/rom,upperdir=/o\n";
        let all = mountinfo(text);
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].device, Some(block::device_number(179, 2)));
        assert_eq!((all[0].point.as_str(), all[0].source.as_str()), ("/", "/dev/root"));
        assert_eq!((all[1].point.as_str(), all[1].kind.as_str()), ("/mnt/a b", "overlay"));
        let all = mounts("rootfs / rootfs rw 0 0\n/dev/mmcblk0p2 / ext4 rw,relatime 0 0\n");
        assert_eq!((all[1].point.as_str(), all[1].source.as_str()), ("/", "/dev/mmcblk0p2"));
    }

    #[test]
    fn the_last_root_argument_of_the_kernel_counts() {
        assert_eq!(root_argument("console=ttyS0 root=/dev/sda1 rw root=/dev/sda2\n"), Some("/dev/sda2"));
        assert_eq!(root_argument("quiet -- root=/dev/sda1"), None);
        assert_eq!(root_argument("xroot=/dev/sda1"), None);
    }
}
