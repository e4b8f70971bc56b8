//! Which blocks of an image are on the disk already, and how much of the disk is read to find out. Values only.
//!
//! As long as blocks are found equal, all of the old content is read and compared. After [`PATIENCE`] pieces of 256 KiB in a row
//! without an equal block only samples are: one block of a piece, then of every second, fourth and eighth. A sample that
//! is equal brings the comparison back. So an image that differs everywhere costs 1 MiB of reading and 4 KiB for
//! each further 2 MiB; and where equal content begins behind content that differs, at most 2 MiB of it
//! ([`RAREST`] pieces) are written that need not have been. Stretches of less than that may not be found at all.

use std::ops::Range;

/// Pieces in a row without an equal block, after which only samples are read.
const PATIENCE: u32 = 4;
/// Samples are taken from every piece up to every so many.
const RAREST: u32 = 8;

/// What to read of the old content before a piece is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// All of it.
    Everything,
    /// One block; if that is equal, everything.
    Sample,
    /// Nothing: write.
    Nothing,
}

/// Whether comparing is worth its while, from what it brought so far.
#[derive(Debug)]
pub(super) struct Interest {
    /// Pieces since the last equal block.
    misses: u32,
    /// Pieces from one sample to the next.
    interval: u32,
    /// Pieces until the next sample.
    wait: u32,
    /// Samples taken.
    samples: usize,
}

impl Interest {
    pub(super) fn new() -> Interest {
        Interest { misses: 0, interval: 1, wait: 0, samples: 0 }
    }

    /// What to read for the next piece.
    pub(super) fn next(&mut self) -> Look {
        if self.misses < PATIENCE {
            return Look::Everything;
        }
        if self.wait > 0 {
            self.wait -= 1;
            return Look::Nothing;
        }
        Look::Sample
    }

    /// The block to be sampled, of so many: another one each time, so that a layout that repeats does not hide
    /// what is equal.
    pub(super) fn sample_of(&mut self, blocks: usize) -> usize {
        self.samples = self.samples.wrapping_add(1);
        self.samples.wrapping_mul(37) % blocks.max(1)
    }

    /// Everything was read and compared.
    pub(super) fn compared(&mut self, some_are_equal: bool) {
        self.misses = if some_are_equal { 0 } else { self.misses.saturating_add(1) };
        self.interval = 1;
        self.wait = 0;
    }

    /// A sample differed.
    pub(super) fn sampled_in_vain(&mut self) {
        self.wait = self.interval - 1;
        self.interval = (self.interval * 2).min(RAREST);
    }
}

/// The stretches of `new` that differ from `old`, which is as long, in whole blocks of `unit` bytes (the last one may
/// be shorter). Neighbours come as one.
pub(super) fn differing<'a>(
    new: &'a [u8],
    old: &'a [u8],
    unit: usize,
) -> impl Iterator<Item = Range<usize>> + 'a {
    let mut blocks = new.chunks(unit).zip(old.chunks(unit));
    let mut at = 0;
    std::iter::from_fn(move || {
        let mut stretch: Option<Range<usize>> = None;
        for (new, old) in blocks.by_ref() {
            let block = at..at + new.len();
            at = block.end;
            match (&mut stretch, same(new, old)) {
                (None, true) => {}
                (None, false) => stretch = Some(block),
                (Some(stretch), false) => stretch.end = block.end,
                (Some(_), true) => break,
            }
        }
        stretch
    })
}

/// Whether two blocks of equal length are equal. By words: musl, which the static programs have, compares bytes.
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    a.iter().zip(b).all(|(a, b)| u128::from_ne_bytes(*a) == u128::from_ne_bytes(*b)) && a_rest == b_rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_that_differ_are_one_stretch_and_the_last_block_may_be_short() {
        let old = [0; 10];
        let stretches = |changed: &[usize]| {
            let mut new = old;
            changed.iter().for_each(|at| new[*at] = 1);
            differing(&new, &old, 4).map(|s| (s.start, s.end)).collect::<Vec<_>>()
        };
        assert_eq!(stretches(&[]), []);
        assert_eq!(stretches(&[0]), [(0, 4)]);
        assert_eq!(stretches(&[3, 4]), [(0, 8)]);
        assert_eq!(stretches(&[1, 9]), [(0, 4), (8, 10)]);
        assert_eq!(stretches(&[5, 8]), [(4, 10)]);
        assert_eq!(differing(&[], &[], 4).count(), 0);
    }

    #[test]
    fn a_difference_in_any_byte_is_seen() {
        let old = [7; 100];
        for at in 0..old.len() {
            let mut new = old;
            new[at] ^= 0x80;
            assert!(!same(&new, &old), "{at}");
        }
        assert!(same(&old, &old) && same(&[], &[]));
    }

    #[test]
    fn samples_get_rarer_and_one_that_is_equal_brings_the_comparison_back() {
        let mut interest = Interest::new();
        for _ in 0..PATIENCE {
            assert_eq!(interest.next(), Look::Everything);
            interest.compared(false);
        }
        let mut gaps = Vec::new();
        for _ in 0..6 {
            let mut gap = 0;
            while interest.next() == Look::Nothing {
                gap += 1;
            }
            gaps.push(gap);
            interest.sampled_in_vain();
        }
        assert_eq!(gaps, [0, 0, 1, 3, 7, 7]);
        while interest.next() == Look::Nothing {}
        interest.compared(true);
        assert_eq!(interest.next(), Look::Everything);
        assert_eq!(interest.misses, 0);
    }

    #[test]
    fn every_block_has_its_turn_as_a_sample() {
        let mut interest = Interest::new();
        let seen: std::collections::BTreeSet<usize> = (0..64).map(|_| interest.sample_of(64)).collect();
        assert_eq!(seen.len(), 64);
        assert_eq!(interest.sample_of(0), 0);
    }
}
