//! Block devices and UBI volumes: size, sector size, cache, exclusive use, device numbers.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

// From linux/fs.h; libc does not have them for every target. The request type differs (int with musl).
const BLKGETSIZE64: u32 = if size_of::<usize>() == 8 { 0x8008_1272 } else { 0x8004_1272 };
const BLKSSZGET: u32 = 0x1268;
const BLKFLSBUF: u32 = 0x1261;
// From mtd/ubi-user.h.
const UBI_IOCVOLUP: u32 = 0x4008_4f00;

/// Size in bytes of an open block device.
pub fn size(device: &File) -> io::Result<u64> {
    let mut bytes = 0u64;
    // SAFETY: BLKGETSIZE64 writes a u64 to the address that it is given.
    check(unsafe { libc::ioctl(device.as_raw_fd(), BLKGETSIZE64 as _, &mut bytes) })?;
    Ok(bytes)
}

/// Logical sector size in bytes of an open block device.
pub fn sector_size(device: &File) -> io::Result<u32> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: BLKSSZGET writes an int to the address that it is given.
    check(unsafe { libc::ioctl(device.as_raw_fd(), BLKSSZGET as _, &mut bytes) })?;
    u32::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}

/// Writes back and drops what the kernel caches of a block device, so that reading shows what is stored.
pub fn drop_cache(device: &File) -> io::Result<()> {
    // SAFETY: BLKFLSBUF takes no argument.
    check(unsafe { libc::ioctl(device.as_raw_fd(), BLKFLSBUF as _, 0) })
}

/// Opens a block device for reading and writing, and fails with `ResourceBusy` while a file system of it is
/// mounted, or it is swapped to, or part of another device. It is never created.
pub fn open_exclusive(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_EXCL | libc::O_CLOEXEC).open(path)
}

/// Size in bytes of the UBI volume of this name (`/dev/ubi0_1`), from /sys below `root`.
pub fn volume_size(path: &Path, root: &Path) -> io::Result<u64> {
    let name = path.file_name().unwrap_or_default();
    let dir = root.join("sys/class/ubi").join(name);
    let value = |file: &str| -> io::Result<u64> {
        let text = std::fs::read_to_string(dir.join(file))?;
        text.trim().parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
    };
    value("reserved_ebs")?
        .checked_mul(value("usable_eb_size")?)
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// Begins the update of an open UBI volume with that many bytes. What it held is lost; it is whole again when
/// exactly as many bytes have been written.
pub fn start_volume_update(volume: &File, bytes: u64) -> io::Result<()> {
    let bytes = i64::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: UBI_IOCVOLUP reads an i64 from the address that it is given.
    check(unsafe { libc::ioctl(volume.as_raw_fd(), UBI_IOCVOLUP as _, &bytes) })
}

/// Asks the kernel to forget the clean cached pages of this part (`0..0`: of all); for a regular file the best that can be done.
/// Advice only: nothing depends on it.
pub fn forget_pages(file: &File, bytes: Range<u64>) {
    let (Ok(at), Ok(length)) = (bytes.start.try_into(), (bytes.end - bytes.start).try_into()) else { return };
    // SAFETY: a plain system call on an open descriptor; advice only.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), at, length, libc::POSIX_FADV_DONTNEED) };
}

/// Has the kernel begin to write these bytes from its cache to the storage, and does not wait. They are not durable
/// after it: that takes an fsync. A kernel or a file system without this stores them here and now.
pub fn begin_storing(file: &File, bytes: Range<u64>) -> io::Result<()> {
    sync_range(file, bytes, libc::SYNC_FILE_RANGE_WRITE)
}

/// Waits until the kernel has written these bytes from its cache to the storage; an error of the storage, of now or
/// before, comes out here and is not told again. As [`begin_storing`] for what is not durable.
pub fn finish_storing(file: &File, bytes: Range<u64>) -> io::Result<()> {
    let all =
        libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    sync_range(file, bytes, all)
}

fn sync_range(file: &File, bytes: Range<u64>, flags: libc::c_uint) -> io::Result<()> {
    let too_large = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let at = bytes.start.try_into().map_err(too_large)?;
    let length = (bytes.end - bytes.start).try_into().map_err(too_large)?;
    loop {
        // SAFETY: a plain system call on an open descriptor.
        let result = check(unsafe { libc::sync_file_range(file.as_raw_fd(), at, length, flags) });
        match result.as_ref().map_err(io::Error::raw_os_error) {
            Err(Some(libc::EINTR)) => {}
            Err(Some(libc::ENOSYS | libc::EINVAL | libc::EOPNOTSUPP | libc::ESPIPE)) => {
                return file.sync_data();
            }
            _ => return result,
        }
    }
}

fn check(status: libc::c_int) -> io::Result<()> {
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What kind of node a path leads to, links followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// A block device with this device number.
    Block(u64),
    /// A character device (UBI volume) with this device number.
    Character(u64),
    /// A regular file of this size in bytes.
    Regular(u64),
    /// Anything else.
    Other,
}

/// Looks at a path, links followed.
pub fn node(path: &Path) -> io::Result<Node> {
    let meta = std::fs::metadata(path)?;
    let kind = meta.file_type();
    Ok(if kind.is_block_device() {
        Node::Block(meta.rdev())
    } else if kind.is_char_device() {
        Node::Character(meta.rdev())
    } else if kind.is_file() {
        Node::Regular(meta.len())
    } else {
        Node::Other
    })
}

/// Number of the device that the file system of `path` is on.
pub fn device_of(path: &Path) -> io::Result<u64> {
    Ok(std::fs::metadata(path)?.dev())
}

/// Major and minor number of a device number.
pub fn major_minor(device: u64) -> (u32, u32) {
    (libc::major(device as libc::dev_t) as u32, libc::minor(device as libc::dev_t) as u32)
}

/// A device number from its major and minor number.
pub fn device_number(major: u32, minor: u32) -> u64 {
    #[allow(clippy::unnecessary_cast)] // dev_t is 32 bits wide on some targets
    {
        libc::makedev(major, minor) as u64
    }
}
