//! What differs between architectures and C libraries. True everywhere; of interest for 32-bit ARM with musl
//! (`make test-armv7`).

use std::fs::File;
use std::time::{Duration, SystemTime};
use thimble::sys::clock;

/// 2040-01-01T00:00:00Z, which 32 bits do not hold.
const LATE: u64 = 2_208_988_800;

#[test]
fn seconds_have_64_bits() {
    assert_eq!(size_of::<libc::time_t>(), 8);
    assert_eq!(size_of::<libc::off_t>(), 8);
    assert_eq!(clock::rfc3339(LATE), "2040-01-01T00:00:00Z");
}

#[test]
fn the_standard_library_knows_times_after_2038() {
    let path = std::env::temp_dir().join(format!("thimble-late-{}", std::process::id()));
    let late = SystemTime::UNIX_EPOCH + Duration::from_secs(LATE);
    let file = File::create(&path).unwrap();
    file.set_modified(late).unwrap();
    let read = file.metadata().unwrap().modified().unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(read, late);
}

#[test]
fn dates_of_the_server_after_2038_are_read() {
    assert_eq!(clock::http_date("Sun, 01 Jan 2040 00:00:00 GMT"), Some(LATE));
}

/// A clock that stands beyond 2038 goes through the kernel's interface and back.
#[test]
fn times_of_files_after_2038_are_set_and_compared_by_the_c_library_too() {
    let path = std::env::temp_dir().join(format!("thimble-later-{}", std::process::id()));
    let file = File::create(&path).unwrap();
    let times =
        [SystemTime::UNIX_EPOCH + Duration::from_secs(LATE), SystemTime::UNIX_EPOCH + Duration::from_secs(1)];
    let read = times.map(|time| {
        file.set_modified(time).unwrap();
        std::os::unix::fs::MetadataExt::mtime(&std::fs::metadata(&path).unwrap())
    });
    std::fs::remove_file(&path).unwrap();
    assert_eq!(read, [LATE as i64, 1]);
}
