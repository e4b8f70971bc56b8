//! From the device tree's `compatible` to a board. No I/O.

use crate::Board;

/// A longer `compatible` is not believed, in bytes. Real ones have some 20 to 200.
pub const LONGEST: usize = 4096;

/// A board, and the entry of `compatible` that it was found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The board.
    pub board: &'static Board,
    /// The entry.
    pub compatible: &'static str,
}

/// The board of this name.
pub fn by_name(boards: &[&'static Board], name: &str) -> Option<&'static Board> {
    boards.iter().copied().find(|b| b.name == name)
}

/// The entries of `compatible`, as the kernel shows it: strings, each ended by NUL, the most specific one first.
pub fn entries(compatible: &[u8]) -> impl Iterator<Item = &[u8]> {
    compatible.split(|byte| *byte == 0).filter(|entry| !entry.is_empty())
}

/// The board of a device tree: the first entry that any board names decides, whatever the list's order.
///
/// `machine` is the kernel's name for the machine (`uname -m`). Entries are compared byte by byte; nothing in them can do
/// harm, and a property longer than [`LONGEST`] finds nothing.
///
/// ```
/// use thimble_boards::{ALL, find};
/// let found = find(ALL, b"xunlong,orangepi-pc\0allwinner,sun8i-h3\0", "armv7l").unwrap();
/// assert_eq!((found.board.name, found.compatible), ("orangepi-pc", "xunlong,orangepi-pc"));
/// assert_eq!(find(ALL, b"acme,toaster\0allwinner,sun8i-h3\0", "armv7l"), None);
/// ```
pub fn find(boards: &[&'static Board], compatible: &[u8], machine: &str) -> Option<Found> {
    if compatible.len() > LONGEST {
        return None;
    }
    entries(compatible).find_map(|entry| {
        boards.iter().find_map(|board| {
            let named = board.compatible.iter().find(|c| c.as_bytes() == entry)?;
            let fits = board.machine.is_none_or(|beginning| machine.starts_with(beginning));
            fits.then_some(Found { board, compatible: named })
        })
    })
}
