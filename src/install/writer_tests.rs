//! Promises of the transfer, on disks that fail on demand.

use super::*;
use std::collections::VecDeque;

/// One payload file that arrives in pieces.
struct File {
    pieces: VecDeque<Result<Vec<u8>>>,
}

impl File {
    fn new(image: &[u8], piece: usize) -> File {
        File { pieces: image.chunks(piece).map(|p| Ok(p.to_vec())).collect() }
    }
}

impl PayloadFiles for File {
    fn next_file(&mut self) -> Result<Option<(String, u64)>> {
        Ok(None)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let Some(piece) = self.pieces.pop_front().transpose()? else { return Ok(0) };
        let n = piece.len().min(buffer.len());
        buffer[..n].copy_from_slice(&piece[..n]);
        if n < piece.len() {
            self.pieces.push_front(Ok(piece[n..].to_vec()));
        }
        Ok(n)
    }
}

#[derive(Default)]
struct Fake {
    bytes: Vec<u8>,
    writes: Vec<(u64, usize)>,
    synced: usize,
    /// This write fails.
    fail_write: Option<usize>,
    /// Syncing fails from this one on.
    fail_sync: Option<usize>,
    /// Once the cache is dropped, this byte turns out to be another.
    rot: Option<usize>,
    /// Reads at this place fail.
    bad_sector: Option<u64>,
    sequential: bool,
}

impl Disk for Fake {
    fn read_at(&mut self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        if self.bad_sector.is_some_and(|b| (at..at + buffer.len() as u64).contains(&b)) {
            return Err(io::Error::other("bad sector"));
        }
        let at = at as usize;
        buffer.copy_from_slice(&self.bytes[at..at + buffer.len()]);
        Ok(())
    }

    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        if self.fail_write == Some(self.writes.len()) {
            return Err(io::Error::other("input/output error"));
        }
        self.writes.push((at, bytes.len()));
        self.bytes[at as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.synced += 1;
        if self.fail_sync.is_some_and(|n| self.synced >= n) {
            return Err(io::Error::other("input/output error"));
        }
        Ok(())
    }

    fn drop_cache(&mut self) -> io::Result<()> {
        if let Some(at) = self.rot {
            self.bytes[at] ^= 4;
        }
        Ok(())
    }

    fn keeps_old_content(&self) -> bool {
        !self.sequential
    }
}

const SIZE: usize = 3 * CHUNK + 1000;

fn image() -> Vec<u8> {
    (0..SIZE).map(|n| (n / 7 % 251) as u8).collect()
}

fn disk() -> Fake {
    Fake { bytes: vec![0xee; SIZE + CHUNK], ..Fake::default() }
}

fn put(disk: &mut Fake, image: &[u8], piece: usize) -> Result<Counters> {
    transfer(&mut File::new(image, piece), SIZE as u64, disk, true, "disk")
}

#[test]
fn an_image_arrives_whole_whatever_the_pieces_and_the_rest_stays() {
    for piece in [7777, CHUNK, CHUNK + 1, 10 * CHUNK] {
        let mut disk = disk();
        let counters = put(&mut disk, &image(), piece).expect("transfers");
        assert_eq!(counters, Counters { written: 4, skipped: 0 });
        assert!(disk.bytes[..SIZE] == image() && disk.bytes[SIZE..].iter().all(|b| *b == 0xee));
        let at = |n: usize| ((n * CHUNK) as u64, CHUNK);
        assert_eq!(disk.writes, [at(0), at(1), at(2), (3 * CHUNK as u64, 1000)]);
        assert_eq!(disk.synced, 1);
    }
}

#[test]
fn only_chunks_that_differ_are_written() {
    let mut disk = disk();
    disk.bytes[..SIZE].copy_from_slice(&image());
    assert_eq!(put(&mut disk, &image(), CHUNK), Ok(Counters { written: 0, skipped: 4 }));
    assert_eq!((disk.writes.len(), disk.synced), (0, 1), "still made durable");
    disk.bytes[CHUNK + 5] ^= 1;
    assert_eq!(put(&mut disk, &image(), CHUNK), Ok(Counters { written: 1, skipped: 3 }));
    assert_eq!(disk.writes, [(CHUNK as u64, CHUNK)]);
}

#[test]
fn a_disk_that_cannot_be_compared_is_written_from_beginning_to_end() {
    let mut disk = Fake { sequential: true, ..disk() };
    disk.bytes[..SIZE].copy_from_slice(&image());
    assert_eq!(put(&mut disk, &image(), CHUNK).expect("transfers").written, 4);
    let mut disk = Fake { bad_sector: Some(CHUNK as u64), ..disk };
    disk.sequential = false;
    let counters = transfer(&mut File::new(&image(), CHUNK), SIZE as u64, &mut disk, false, "disk");
    assert_eq!(counters, Ok(Counters { written: 1, skipped: 3 }), "what cannot be read is written");
}

#[test]
fn storage_that_does_not_keep_what_was_written_is_found_out() {
    for rot in [0, CHUNK, SIZE - 1] {
        let mut disk = Fake { rot: Some(rot), ..disk() };
        assert_eq!(put(&mut disk, &image(), CHUNK).expect_err("found out").code, "ROOTFS-VERIFY");
    }
    let mut behind = Fake { rot: Some(SIZE), ..disk() };
    assert!(put(&mut behind, &image(), CHUNK).is_ok(), "what is behind the image does not matter");
    let mut unread = Fake { rot: Some(0), ..disk() };
    assert!(transfer(&mut File::new(&image(), CHUNK), SIZE as u64, &mut unread, false, "disk").is_ok());
}

#[test]
fn an_error_of_the_device_ends_the_transfer() {
    let mut fails = Fake { fail_write: Some(2), ..disk() };
    let error = put(&mut fails, &image(), CHUNK).expect_err("fails");
    assert_eq!(error.code, "ROOTFS-WRITE");
    assert!(error.text.contains("input/output error") && error.text.contains("disk"), "{error}");
    let mut fails = Fake { fail_sync: Some(1), ..disk() };
    assert_eq!(put(&mut fails, &image(), CHUNK).expect_err("fails").code, "ROOTFS-WRITE");
}

#[test]
fn an_error_of_the_payload_is_passed_on() {
    let mut file = File::new(&image(), CHUNK);
    file.pieces[2] = Err(Error::new("ARTIFACT-CHECKSUM", "wrong"));
    let error = transfer(&mut file, SIZE as u64, &mut disk(), true, "disk").expect_err("fails");
    assert_eq!(error.code, "ARTIFACT-CHECKSUM");
}

#[test]
fn an_image_longer_or_shorter_than_announced_is_refused_and_nothing_is_written_behind_its_end() {
    let long = [image(), vec![1; 2 * CHUNK]].concat();
    let mut disk = disk();
    disk.bytes.resize(10 * CHUNK, 0xee);
    assert_eq!(put(&mut disk, &long, CHUNK).expect_err("long").code, "ROOTFS-SIZE");
    assert!(disk.bytes[SIZE..].iter().all(|b| *b == 0xee));
    assert_eq!(put(&mut disk, &image()[..SIZE - 1], CHUNK).expect_err("short").code, "ROOTFS-SIZE");
}

#[test]
fn much_data_is_stored_on_the_way_and_not_only_at_the_end() {
    let size = 3 * SYNC_EVERY;
    let mut disk = Fake { bytes: vec![0; size as usize], ..Fake::default() };
    let mut file = File::new(&vec![1; size as usize], CHUNK);
    transfer(&mut file, size, &mut disk, false, "disk").expect("transfers");
    assert_eq!(disk.synced, 4);
}
