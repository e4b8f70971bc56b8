//! Time: the wall clock for people and certificates, the boot-time clock for waits.

use std::path::Path;
use std::time::Duration;

/// Time since the machine started, suspended time included (CLOCK_BOOTTIME): unlike the wall clock it never
/// jumps when a board without battery gets its time from the network.
pub fn since_boot() -> Duration {
    read(libc::CLOCK_BOOTTIME)
}

/// Wall clock, seconds since 1970. Boards boot in 1970: never use it for waits.
pub fn wall() -> u64 {
    read(libc::CLOCK_REALTIME).as_secs()
}

fn read(clock: libc::clockid_t) -> Duration {
    // SAFETY: plain data; zeroed because it has private padding on 32-bit musl.
    let mut t: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: `t` is a valid timespec for the call to fill in.
    if unsafe { libc::clock_gettime(clock, &mut t) } != 0 {
        return Duration::ZERO;
    }
    Duration::new(u64::try_from(t.tv_sec).unwrap_or(0), u32::try_from(t.tv_nsec).unwrap_or(0))
}

/// Identifies this boot; changes with every start of the kernel. Read below `root` if it has one (tests and
/// simulated devices), else from the system. Empty if the kernel offers none.
pub fn boot_id(root: &Path) -> String {
    let below = root.join("proc/sys/kernel/random/boot_id");
    let text = std::fs::read_to_string(below)
        .or_else(|_| std::fs::read_to_string("/proc/sys/kernel/random/boot_id"))
        .unwrap_or_default();
    text.trim().chars().filter(|c| c.is_ascii_hexdigit() || *c == '-').take(64).collect()
}

/// `2024-01-02T15:04:05Z` for seconds since 1970 (LG-16).
pub fn rfc3339(seconds: u64) -> String {
    let (days, rest) = (seconds / 86400, seconds % 86400);
    let (y, m, d) = civil(days);
    format!("{y:04}-{m:02}-{d:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

/// Seconds since 1970 of an HTTP date, `Sun, 06 Nov 1994 08:49:37 GMT` (SA-51); `None` if it is not one.
pub fn http_date(text: &str) -> Option<u64> {
    let (_, rest) = text.trim().split_once(", ")?;
    let rest = rest.strip_suffix(" GMT")?;
    let mut parts = rest.split(' ');
    let day: u64 = parts.next()?.parse().ok()?;
    let names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let name = parts.next()?;
    let month = names.iter().position(|n| *n == name)? as u64 + 1;
    let year: u64 = parts.next()?.parse().ok()?;
    let mut time = parts.next()?.split(':');
    let (h, m, s): (u64, u64, u64) =
        (time.next()?.parse().ok()?, time.next()?.parse().ok()?, time.next()?.parse().ok()?);
    if parts.next().is_some() || time.next().is_some() || !(1970..=9999).contains(&year) {
        return None;
    }
    if !(1..=31).contains(&day) || h > 23 || m > 59 || s > 60 {
        return None;
    }
    Some(days(year, month, day) * 86400 + h * 3600 + m * 60 + s)
}

/// Days since 1970 to year, month, day (the proleptic Gregorian calendar, years from March).
fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let era = z / 146_097;
    let doe = z % 146_097;
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + u64::from(month <= 2), month, day)
}

fn days(year: u64, month: u64, day: u64) -> u64 {
    let y = if month <= 2 { year - 1 } else { year };
    let (era, yoe) = (y / 400, y % 400);
    let mp = if month > 2 { month - 3 } else { month + 9 };
    let doy = (153 * mp + 2) / 5 + day - 1;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    era * 146_097 + doe - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_both_ways_until_2200() {
        for day in 0..84_000 {
            let (y, m, d) = civil(day);
            assert_eq!(days(y, m, d), day);
        }
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(784_111_777), "1994-11-06T08:49:37Z");
        assert_eq!(rfc3339(4_102_444_800), "2100-01-01T00:00:00Z");
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        for bad in
            ["", "7", "Sun, 06 Nov 1994", "Sun, 06 Foo 1994 08:49:37 GMT", "Sun, 99 Nov 1994 08:49:37 GMT"]
        {
            assert_eq!(http_date(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_boot_clock_runs() {
        assert!(since_boot() > Duration::ZERO);
        assert!(wall() > 1_600_000_000);
    }
}
