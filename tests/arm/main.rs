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
