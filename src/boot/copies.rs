//! Two copies of the environment: which one counts, and what is written where. No I/O.

use super::env::{Image, Layout};
use crate::error::Result;

/// What the flag byte means (BE-70).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// A counter; block devices, files, NAND and UBI.
    Incremental,
    /// 1 = active, 0 = obsolete; NOR flash, where a bit can be cleared without an erase.
    Boolean,
}

/// Which of two copies counts, given the flags of those that are good. `None` if both are bad: then nothing may
/// be read and nothing written.
///
/// ```
/// use thimble::boot::copies::{Scheme, newest};
/// assert_eq!(newest(Scheme::Incremental, [Some(255), Some(0)]), Some(1));
/// assert_eq!(newest(Scheme::Incremental, [None, None]), None);
/// ```
pub fn newest(scheme: Scheme, flags: [Option<u8>; 2]) -> Option<usize> {
    let (first, second) = match flags {
        [Some(first), Some(second)] => (first, second),
        [Some(_), None] => return Some(0),
        [None, Some(_)] => return Some(1),
        [None, None] => return None,
    };
    let second_counts = match (scheme, first, second) {
        // The counter wraps: 0 follows 255 (BE-71).
        (Scheme::Incremental, 255, 0) => true,
        (Scheme::Incremental, 0, 255) => false,
        (Scheme::Incremental, first, second) => second > first,
        // FF = complete, but power went before the flag was programmed (BE-72).
        (Scheme::Boolean, 0, 1) => true,
        (Scheme::Boolean, first, 0xff) => first != 0xff,
        (Scheme::Boolean, _, _) => false,
    };
    Some(usize::from(second_counts))
}

/// One write of a plan. They are done in order, each durable before the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Which copy.
    pub copy: usize,
    /// Where in the copy, in bytes from its beginning.
    pub at: usize,
    /// What.
    pub bytes: Vec<u8>,
}

/// The writes that make `new` the environment: the whole image goes to the copy that does not count, so that
/// the old one stays intact until the new one is complete (BE-80). `chosen` is the copy that counts now and
/// `new.flag` its flag.
///
/// # Errors
/// `BOOT-ENV-FULL` when the variables do not fit.
pub fn plan(scheme: Scheme, chosen: usize, new: &Image, size: usize) -> Result<Vec<Write>> {
    let flag = match scheme {
        Scheme::Incremental => new.flag.wrapping_add(1),
        Scheme::Boolean => 1,
    };
    let bytes = Image { env: new.env.clone(), flag }.encode(Layout::Redundant, size)?;
    let mut writes = vec![Write { copy: 1 - chosen.min(1), at: 0, bytes }];
    if scheme == Scheme::Boolean {
        writes.push(Write { copy: chosen.min(1), at: 4, bytes: vec![0] });
    }
    Ok(writes)
}
