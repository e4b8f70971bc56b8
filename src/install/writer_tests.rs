//! Promises of the transfer, on disks that fail on demand.

use super::*;
use std::collections::{BTreeSet, VecDeque};

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
    /// Bytes that were read while the image was written.
    read: u64,
    synced: usize,
    /// Written, and neither stored nor being stored.
    dirty: BTreeSet<u64>,
    /// Being stored.
    storing: BTreeSet<u64>,
    /// Most blocks that were ever in those two.
    most_unstored: usize,
    /// This write fails.
    fail_write: Option<usize>,
    /// Syncing fails from this one on.
    fail_sync: Option<usize>,
    /// Once the cache is dropped after writing, this byte turns out to be another.
    rot: Option<usize>,
    /// The cache shows this at this place, the storage has something else.
    cached: Option<(usize, Vec<u8>)>,
    cannot_drop: bool,
    /// Beginning to store, or waiting for it, fails from this byte on.
    fail_storing: Option<u64>,
    /// Reads at this place fail.
    bad_sector: Option<u64>,
    sequential: bool,
    /// 0: 512.
    sector: usize,
}

impl Disk for Fake {
    fn read_at(&mut self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        if self.bad_sector.is_some_and(|b| (at..at + buffer.len() as u64).contains(&b)) {
            return Err(io::Error::other("bad sector"));
        }
        if self.synced == 0 {
            self.read += buffer.len() as u64;
        }
        let at = at as usize;
        buffer.copy_from_slice(&self.bytes[at..at + buffer.len()]);
        if let Some((place, shown)) = &self.cached
            && (at..at + buffer.len()).contains(place)
        {
            buffer[place - at..][..shown.len()].copy_from_slice(shown);
        }
        Ok(())
    }

    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        if self.fail_write == Some(self.writes.len()) {
            return Err(io::Error::other("input/output error"));
        }
        self.writes.push((at, bytes.len()));
        self.bytes[at as usize..][..bytes.len()].copy_from_slice(bytes);
        self.dirty.extend(blocks(at..at + bytes.len() as u64));
        self.most_unstored = self.most_unstored.max(self.dirty.union(&self.storing).count());
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
        if self.cannot_drop {
            return Err(io::Error::other("not permitted"));
        }
        self.cached = None;
        if let Some(at) = self.rot.filter(|_| self.synced > 0) {
            self.bytes[at] ^= 4;
        }
        Ok(())
    }

    fn begin_storing(&mut self, bytes: Range<u64>) -> io::Result<()> {
        if self.fail_storing.is_some_and(|at| bytes.contains(&at)) {
            return Err(io::Error::other("input/output error"));
        }
        for block in blocks(bytes).filter(|block| self.dirty.contains(block)) {
            self.storing.insert(block);
        }
        self.dirty.retain(|block| !self.storing.contains(block));
        Ok(())
    }

    fn finish_storing(&mut self, bytes: Range<u64>) -> io::Result<()> {
        self.begin_storing(bytes.clone())?;
        self.storing.retain(|block| !bytes.contains(&(block * BLOCK as u64)));
        Ok(())
    }

    fn keeps_old_content(&self) -> bool {
        !self.sequential
    }

    fn sector(&self) -> usize {
        self.sector.max(512)
    }
}

/// Numbers of the blocks of 4 KiB in which these bytes are.
fn blocks(bytes: Range<u64>) -> Range<u64> {
    bytes.start / BLOCK as u64..bytes.end.div_ceil(BLOCK as u64)
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
        assert_eq!(counters, Counters { written: SIZE as u64, skipped: 0 });
        assert!(disk.bytes[..SIZE] == image() && disk.bytes[SIZE..].iter().all(|b| *b == 0xee));
        let at = |n: usize| ((n * CHUNK) as u64, CHUNK);
        assert_eq!(disk.writes, [at(0), at(1), at(2), (3 * CHUNK as u64, 1000)]);
        assert_eq!(disk.synced, 1);
    }
}

#[test]
fn only_blocks_that_differ_are_written_and_neighbours_go_out_as_one() {
    let mut disk = disk();
    disk.bytes[..SIZE].copy_from_slice(&image());
    let size = SIZE as u64;
    assert_eq!(put(&mut disk, &image(), CHUNK), Ok(Counters { written: 0, skipped: size }));
    assert_eq!((disk.writes.len(), disk.synced), (0, 1), "still made durable");
    for at in [CHUNK + 5, CHUNK + BLOCK, CHUNK + 5 * BLOCK - 1, SIZE - 1] {
        disk.bytes[at] ^= 1;
    }
    disk.synced = 0;
    let written = 3 * BLOCK as u64 + 1000;
    assert_eq!(put(&mut disk, &image(), CHUNK), Ok(Counters { written, skipped: size - written }));
    let at = |n: usize| (CHUNK + n * BLOCK) as u64;
    assert_eq!(disk.writes, [(at(0), 2 * BLOCK), (at(4), BLOCK), (3 * CHUNK as u64, 1000)]);
}

#[test]
fn what_only_the_cache_has_is_written() {
    // An update before this one failed to store a block, and the cache still shows it.
    let mut disk = disk();
    disk.bytes[..SIZE].copy_from_slice(&image());
    disk.bytes[CHUNK..CHUNK + BLOCK].fill(0);
    disk.cached = Some((CHUNK, image()[CHUNK..CHUNK + BLOCK].to_vec()));
    let counters = transfer(&mut File::new(&image(), CHUNK), SIZE as u64, &mut disk, false, "disk");
    assert_eq!(counters.map(|c| c.written), Ok(BLOCK as u64));
    assert!(disk.bytes[..SIZE] == image());
    // Where the cache cannot be dropped nothing is believed.
    disk.cannot_drop = true;
    let counters = transfer(&mut File::new(&image(), CHUNK), SIZE as u64, &mut disk, false, "disk");
    assert_eq!(counters, Ok(Counters { written: SIZE as u64, skipped: 0 }));
}

#[test]
fn nothing_smaller_than_a_sector_is_written_except_at_the_end() {
    for (sector, unit) in [(512, BLOCK), (4096, BLOCK), (16384, 16384), (65536, 65536)] {
        let mut disk = Fake { sector, ..disk() };
        disk.bytes[..SIZE].copy_from_slice(&image());
        for at in [0, 70_000, PIECE + 3 * BLOCK, SIZE - 1] {
            disk.bytes[at] ^= 1;
        }
        put(&mut disk, &image(), CHUNK).expect("transfers");
        let aligned = |(at, length): &(u64, usize)| {
            at % unit as u64 == 0 && (length % unit == 0 || at + *length as u64 == SIZE as u64)
        };
        assert!(disk.writes.iter().all(aligned), "{sector}: {:?}", disk.writes);
        assert!(disk.writes.iter().any(|(_, length)| *length == unit), "{sector}: {:?}", disk.writes);
    }
}

#[test]
fn a_disk_that_cannot_be_compared_is_written_from_beginning_to_end() {
    let mut disk = Fake { sequential: true, ..disk() };
    disk.bytes[..SIZE].copy_from_slice(&image());
    assert_eq!(put(&mut disk, &image(), CHUNK).expect("transfers").written, SIZE as u64);
    assert!(disk.writes.windows(2).all(|w| w[0].0 + w[0].1 as u64 == w[1].0), "in sequence");
    let mut disk = Fake { bad_sector: Some(CHUNK as u64), ..disk };
    disk.sequential = false;
    let counters = transfer(&mut File::new(&image(), CHUNK), SIZE as u64, &mut disk, false, "disk");
    let written = PIECE as u64;
    assert_eq!(
        counters,
        Ok(Counters { written, skipped: SIZE as u64 - written }),
        "what cannot be read is written"
    );
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
fn there_is_one_flush_and_storing_goes_on_all_the_time() {
    let size = 8 * WINDOW + 12345;
    let mut disk = Fake { bytes: vec![0; size as usize], ..Fake::default() };
    transfer(&mut File::new(&vec![1; size as usize], CHUNK), size, &mut disk, false, "disk")
        .expect("transfers");
    assert_eq!(disk.synced, 1);
    assert_eq!(disk.most_unstored, 2 * WINDOW as usize / BLOCK, "at most two windows wait for the card");
    assert!(
        disk.dirty.len() as u64 <= blocks(0..WINDOW).end
            && disk.storing.len() as u64 <= blocks(0..WINDOW).end
    );
}

#[test]
fn an_error_while_storing_on_the_way_ends_the_transfer() {
    let size = 3 * WINDOW;
    for at in [0, WINDOW + 1] {
        let mut disk = Fake { bytes: vec![0; size as usize], fail_storing: Some(at), ..Fake::default() };
        let image = vec![1; size as usize];
        let error =
            transfer(&mut File::new(&image, CHUNK), size, &mut disk, false, "disk").expect_err("fails");
        assert_eq!(error.code, "ROOTFS-WRITE");
        assert!(error.text.contains("before byte"), "{error}");
        assert_eq!(disk.synced, 0);
    }
}

/// Numbers that look like chance.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % sides
    }

    fn noise(&mut self, size: usize) -> Vec<u8> {
        let words = (0..size / 8 + 1).flat_map(|_| (self.roll(usize::MAX) as u64).to_le_bytes());
        words.take(size).collect()
    }
}

/// Installs `image` over `old`: what was written and skipped, and the bytes that were read for it.
fn over(old: &[u8], image: &[u8]) -> (Counters, u64) {
    let mut disk = Fake { bytes: old.to_vec(), ..Fake::default() };
    let mut file = File::new(image, CHUNK);
    let counters = transfer(&mut file, image.len() as u64, &mut disk, true, "disk").expect("transfers");
    assert!(disk.bytes[..image.len()] == *image && disk.bytes[image.len()..] == old[image.len()..]);
    assert_eq!(counters.written, disk.writes.iter().map(|(_, n)| *n as u64).sum::<u64>());
    assert_eq!(counters.written + counters.skipped, image.len() as u64);
    (counters, disk.read)
}

const MIB: usize = 1 << 20;

#[test]
fn one_block_in_twenty_that_differs_costs_exactly_these_blocks() {
    let mut dice = Dice(1);
    let image = dice.noise(16 * MIB + 777);
    let mut old = image.clone();
    let (mut differ, count) = (0, image.len() / BLOCK);
    for block in 0..count {
        if dice.roll(20) == 0 {
            old[block * BLOCK + dice.roll(BLOCK)] ^= 1;
            differ += BLOCK as u64;
        }
    }
    assert!(differ > 0);
    let (counters, _) = over(&old, &image);
    assert_eq!(counters.written, differ);
}

#[test]
fn where_nothing_is_equal_next_to_nothing_is_read() {
    let mut dice = Dice(2);
    let (old, image) = (dice.noise(16 * MIB), dice.noise(16 * MIB));
    let (counters, read) = over(&old, &image);
    assert_eq!(counters, Counters { written: image.len() as u64, skipped: 0 });
    // 1 MiB, and then a block for every 2 MiB; the first samples are closer together.
    assert!(read <= (MIB + (8 + 3) * BLOCK) as u64, "{read}");
}

#[test]
fn what_is_equal_behind_something_else_is_found_after_two_mib_at_most() {
    let mut dice = Dice(3);
    for front in [0, 1, MIB, 3 * MIB, 7 * MIB + 12345] {
        let image = dice.noise(12 * MIB + 99);
        let mut old = image.clone();
        let noise = dice.noise(front);
        old[..front].copy_from_slice(&noise);
        let (counters, _) = over(&old, &image);
        let most = front.next_multiple_of(BLOCK) + 2 * MIB;
        assert!(counters.written as usize <= most, "{front}: {}", counters.written);
        // And back: what differs behind what is equal is written, and costs no more than that.
        let (old, front) = (image.clone(), image.len() - front);
        let image = [&image[..front], &noise].concat();
        let (counters, _) = over(&old, &image);
        assert!(counters.written as usize <= noise.len() + BLOCK, "{front}: {}", counters.written);
    }
}

#[test]
fn any_pattern_any_size_and_any_pieces_give_the_image_and_nothing_needless_while_comparing() {
    let mut dice = Dice(4);
    for round in 0..100 {
        let size = 1 + dice.roll(5 * CHUNK);
        let image = dice.noise(size);
        let mut old = image.clone();
        // Changes of any length, dense or sparse.
        for _ in 0..dice.roll(8) {
            let at = dice.roll(size);
            let longest = [8, BLOCK, 30 * BLOCK][dice.roll(3)];
            let length = dice.roll(longest).min(size - at);
            old[at..at + length].iter_mut().for_each(|byte| *byte ^= 0x55);
        }
        old.extend(dice.noise(3 * BLOCK));
        let differ: u64 = image
            .chunks(BLOCK)
            .zip(old.chunks(BLOCK))
            .filter(|(new, old)| *new != &old[..new.len()])
            .map(|(new, _)| new.len() as u64)
            .sum();
        let mut disk = Fake { bytes: old.clone(), ..Fake::default() };
        if dice.roll(3) == 0 {
            disk.bad_sector = Some(dice.roll(size) as u64);
        }
        let (bad, piece) = (disk.bad_sector, 1 + dice.roll(2 * CHUNK));
        let counters = transfer(&mut File::new(&image, piece), size as u64, &mut disk, false, "disk")
            .expect("transfers");
        assert!(disk.bytes[..size] == image && disk.bytes[size..] == old[size..], "round {round}");
        // Never four pieces in a row that differ wholly: always compared. A bad sector costs its piece.
        let most = differ + if bad.is_some() { 2 * PIECE as u64 } else { 0 };
        assert!((differ..=most).contains(&counters.written), "round {round}");
        assert_eq!(counters.written + counters.skipped, size as u64);
        let stretches: Vec<u64> = disk.writes.iter().map(|(at, _)| *at).collect();
        assert!(stretches.is_sorted() && stretches.iter().all(|at| at % BLOCK as u64 == 0), "round {round}");
    }
}
