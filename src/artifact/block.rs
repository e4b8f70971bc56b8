//! One tar block: header fields, PAX records, long names. Bytes in, values out; no I/O.
//!
//! | offset | size | field |
//! | --- | --- | --- |
//! | 0 | 100 | name |
//! | 124 | 12 | size: octal, or base-256 if the first bit is set |
//! | 148 | 8 | checksum: sum of all bytes, this field taken as blanks |
//! | 156 | 1 | type |
//! | 257 | 8 | `ustar\0` + 2 bytes (POSIX) or `ustar  \0` (GNU) |
//! | 345 | 155 | prefix of the name (POSIX only) |
//!
//! Everything else (mode, owner, times, link name) is ignored: it is covered by no checksum (AF-6, AF-64).

use super::fault::shown;
use crate::error::{Error, Result};

/// Size of a tar block.
pub(super) const BLOCK: usize = 512;

/// From this size on the octal field is too small, and writers put 0 or all sevens into it.
const OCTAL_END: u64 = 1 << 33;

/// The fields of a header block that matter.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fields {
    /// As it stands in the block; PAX and GNU records replace it.
    pub(super) name: Vec<u8>,
    /// As it stands in the block, below 2^63.
    pub(super) size: u64,
    /// The type byte.
    pub(super) kind: u8,
}

/// What a PAX record says about the entry after it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pax {
    /// Replaces the name.
    pub(super) path: Option<Vec<u8>>,
    /// Replaces the size.
    pub(super) size: Option<u64>,
}

fn wrong(text: impl Into<String>) -> Error {
    Error::new("ARTIFACT-TAR", text)
}

/// Reads a header block that is not all zero.
pub(super) fn fields(block: &[u8; BLOCK]) -> Result<Fields> {
    let told = octal(&block[148..156])
        .ok_or_else(|| wrong("a header block has no readable checksum: damaged, or not a tar archive"))?;
    let sum: u64 = block.iter().enumerate().map(|(i, b)| sum_byte(i, *b)).sum();
    if sum != told {
        return Err(wrong(format!("a header block's checksum is {sum}, the block says {told}: damaged")));
    }
    let posix = &block[257..263] == b"ustar\0";
    if !posix && &block[257..265] != b"ustar  \0" {
        return Err(wrong("a header block is neither POSIX (ustar, pax) nor GNU tar"));
    }
    let mut name = Vec::new();
    let prefix = until_nul(&block[345..500]);
    if posix && !prefix.is_empty() {
        name.extend_from_slice(prefix);
        name.push(b'/');
    }
    name.extend_from_slice(until_nul(&block[..100]));
    let size = size(&block[124..136]).ok_or_else(|| {
        let name = String::from_utf8_lossy(&name);
        wrong(format!("the size of {} is not a number from 0 to 2^63", shown(&name)))
    })?;
    Ok(Fields { name, size, kind: block[156] })
}

fn sum_byte(index: usize, byte: u8) -> u64 {
    u64::from(if (148..156).contains(&index) { b' ' } else { byte })
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|b| *b == 0).next().unwrap_or(field)
}

/// Blanks, octal digits, then only blanks and NULs.
fn octal(field: &[u8]) -> Option<u64> {
    let start = field.iter().position(|b| *b != b' ')?;
    let field = &field[start..];
    let end = field.iter().position(|b| !(b'0'..=b'7').contains(b)).unwrap_or(field.len());
    let (digits, rest) = field.split_at(end);
    if digits.is_empty() || rest.iter().any(|b| *b != 0 && *b != b' ') {
        return None;
    }
    // At most twelve digits of three bits: no overflow.
    Some(digits.iter().fold(0, |n, d| n * 8 + u64::from(d - b'0')))
}

fn size(field: &[u8]) -> Option<u64> {
    match field.split_first() {
        // Base-256, big-endian; the second bit is the sign.
        Some((first, rest)) if first & 0x80 != 0 => {
            if first & 0x7f != 0 {
                return None;
            }
            let (high, low) = rest.split_at(rest.len().checked_sub(8)?);
            let low = u64::from_be_bytes(low.try_into().ok()?);
            (high.iter().all(|b| *b == 0) && low <= i64::MAX as u64).then_some(low)
        }
        _ => octal(field),
    }
}

/// Reads a PAX record set. `path` and `size` count; other keys are ignored, except those that change what the
/// content means (`GNU.sparse.*`).
pub(super) fn pax(mut rest: &[u8]) -> Result<Pax> {
    let mut found = Pax::default();
    while !rest.is_empty() {
        let (key, value, after) = record(rest).ok_or_else(|| wrong("a PAX record is malformed"))?;
        rest = after;
        match key {
            b"path" if found.path.is_none() && !value.is_empty() => found.path = Some(value.to_vec()),
            b"size" if found.size.is_none() => {
                let size = decimal(value).filter(|n| *n <= i64::MAX as u64);
                found.size = Some(size.ok_or_else(|| wrong("a PAX size is not a number from 0 to 2^63"))?);
            }
            b"path" | b"size" => return Err(wrong("a PAX record is empty or given twice")),
            _ if key.starts_with(b"GNU.sparse.") => return Err(wrong("sparse files are not supported")),
            _ => {}
        }
    }
    Ok(found)
}

/// `<length> <key>=<value>\n`, the length counting the whole record. Returns key, value and what follows.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = bytes.iter().take(8).position(|b| *b == b' ')?;
    let length = usize::try_from(decimal(&bytes[..blank])?).ok()?;
    let body = bytes.get(blank + 1..length)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|b| *b == b'=')?;
    (equals > 0).then(|| (&body[..equals], &body[equals + 1..], &bytes[length..]))
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |n, d| n * 10 + u64::from(d - b'0')))
}

/// Which size holds when a PAX record and the block both speak: they must agree wherever both can.
pub(super) fn agreed_size(block: u64, pax: Option<u64>) -> Result<u64> {
    match pax {
        None => Ok(block),
        Some(size) if size == block => Ok(size),
        Some(size) if size >= OCTAL_END && (block == 0 || block == OCTAL_END - 1) => Ok(size),
        Some(size) => Err(wrong(format!("a PAX record says {size} bytes, the block after it {block}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(change: impl FnOnce(&mut [u8; BLOCK])) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        block[..4].copy_from_slice(b"name");
        block[124..136].copy_from_slice(b"00000000017\0");
        block[156] = b'0';
        block[257..265].copy_from_slice(b"ustar\x0000");
        change(&mut block);
        let sum: u64 = block.iter().enumerate().map(|(i, b)| sum_byte(i, *b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }

    fn size_of(field: &[u8; 12]) -> Option<u64> {
        fields(&block(|b| b[124..136].copy_from_slice(field))).ok().map(|f| f.size)
    }

    #[test]
    fn a_plain_block_gives_name_size_and_type() {
        let f = fields(&block(|_| ())).unwrap();
        assert_eq!(f, Fields { name: b"name".to_vec(), size: 15, kind: b'0' });
    }

    #[test]
    fn every_single_byte_change_breaks_the_checksum_of_a_block() {
        let good = block(|_| ());
        for at in (0..BLOCK).filter(|at| !(148..156).contains(at)) {
            let mut bad = good;
            bad[at] ^= 1;
            assert!(fields(&bad).is_err(), "byte {at}");
        }
    }

    #[test]
    fn the_prefix_counts_in_posix_blocks_only() {
        let f = fields(&block(|b| b[345] = b'p')).unwrap();
        assert_eq!(f.name, b"p/name");
        let gnu = |b: &mut [u8; BLOCK]| {
            b[345] = b'p';
            b[257..265].copy_from_slice(b"ustar  \0");
        };
        assert_eq!(fields(&block(gnu)).unwrap().name, b"name");
        assert!(fields(&block(|b| b[257..265].fill(0))).is_err(), "old tar has no magic");
    }

    #[test]
    fn sizes_are_octal_or_base_256_and_never_negative() {
        assert_eq!(size_of(b"77777777777\0"), Some((1 << 33) - 1));
        assert_eq!(size_of(b"777777777777"), Some((1 << 36) - 1));
        assert_eq!(size_of(b"         17 "), Some(15));
        assert_eq!(size_of(b"\x80\0\0\0\0\0\0\x02\0\0\0\0"), Some(2 << 32));
        assert_eq!(size_of(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff"), Some(i64::MAX as u64));
        for bad in [
            b"\x80\0\0\0\x80\0\0\0\0\0\0\0",
            b"\x80\0\0\x01\0\0\0\0\0\0\0\0",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x81\0\0\0\0\0\0\0\0\0\0\0",
            b"\0\0\0\0\0\0\0\0\0\0\0\0",
            b"            ",
            b"-0000000017\0",
            b"00000000018\0",
            b"0000\x0000017 \0",
        ] {
            assert_eq!(size_of(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn pax_records_are_read_by_their_length_and_must_be_exact() {
        let got = pax(b"10 path=a\n11 mtime=1\n20 size=10000000000\n").unwrap();
        assert_eq!(got, Pax { path: Some(b"a".to_vec()), size: Some(10_000_000_000) });
        assert_eq!(pax(b"10 path=\n\n").unwrap().path.as_deref(), Some(&b"\n"[..]));
        for bad in [
            &b"8 path=a\n"[..],
            b"11 path=a\n",
            b"99999999999999999999 path=a\n",
            b"0 path=a\n",
            b"3 x\n",
            b"path=a\n",
            b"5 =a\n",
            b"8 path=\n",
            b"10 path=a\n10 path=b\n",
            b"8 size=\n",
            b"11 size=-1\n",
            b"28 size=9223372036854775808\n",
            b"27 size=9223372036854775808\n",
            b"22 GNU.sparse.major=1\n",
            b"10 path=a\n\0",
            b"2 ",
            b"-1 path=a\n",
        ] {
            assert!(pax(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn a_pax_size_may_only_replace_a_field_that_cannot_hold_it() {
        assert_eq!(agreed_size(5, None), Ok(5));
        assert_eq!(agreed_size(5, Some(5)), Ok(5));
        assert_eq!(agreed_size(0, Some(1 << 33)), Ok(1 << 33));
        assert_eq!(agreed_size((1 << 33) - 1, Some(1 << 40)), Ok(1 << 40));
        assert!(agreed_size(5, Some(6)).is_err());
        assert!(agreed_size(0, Some(6)).is_err());
        assert!(agreed_size(5, Some(1 << 33)).is_err());
    }
}
