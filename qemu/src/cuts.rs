//! Power cuts at the block layer: cards as they are after any number of writes of one update.

use crate::board::Board;
use crate::disk;
use crate::tool::Result;
use std::ops::Range;

/// Where the copies of the environment are on the card.
pub fn environment_ranges(board: &Board) -> Result<Vec<Range<u64>>> {
    let mut ranges = Vec::new();
    for area in &board.env {
        if let Some(offset) = disk::raw_offset(board, area)? {
            ranges.push(offset..offset + area.size as u64);
        }
    }
    if ranges.is_empty() { Err("the environment is a file".to_owned()) } else { Ok(ranges) }
}
