//! fw_env.config: where the boot environment is stored. Text in, areas out. No I/O.

use super::env::{MAX_SIZE, MIN_SIZE};
use crate::error::{Error, Result};

/// A fw_env.config longer than this is not one, in bytes.
pub(super) const CONFIG_LIMIT: u64 = 64 * 1024;

/// One copy of the environment, as one line of fw_env.config names it (BE-50).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Area {
    /// Device or file, as written.
    pub device: String,
    /// Bytes from the beginning; negative = from the end (BE-52).
    pub offset: i64,
    /// Bytes.
    pub size: usize,
    /// Erase block or sector in bytes, where given.
    pub sector_size: Option<u64>,
    /// Number of sectors, where given.
    pub sectors: Option<u64>,
    /// Line of the file, from 1; `None`: it does not come from a file.
    pub line: Option<usize>,
}

/// Parses the file: one area, or two for a redundant environment. Further lines are ignored, as the boot loader's
/// own tools do (BE-51).
///
/// # Errors
/// `BOOT-ENV-CONFIG` with the line. A line that cannot be understood is never skipped: a redundant environment
/// taken for a single one would be destroyed by the first write.
pub fn parse(text: &str) -> Result<Vec<Area>> {
    let mut areas: Vec<Area> = Vec::new();
    let line = |area: &Area| area.line.unwrap_or_default();
    for (index, text) in text.lines().enumerate() {
        if let Some(area) = parse_line(text, index + 1)? {
            areas.push(area);
        }
        if areas.len() == 2 {
            break;
        }
    }
    match areas.as_slice() {
        [] => Err(wrong("no line names a device, offset and size".to_owned())),
        [first, second] if first.size != second.size => Err(wrong(format!(
            "lines {} and {} have different sizes, {:#x} and {:#x}; both copies must be of one size",
            line(first),
            line(second),
            first.size,
            second.size
        ))),
        [first, second] if overlap(first, second) => Err(wrong(format!(
            "lines {} and {} overlap: one write would destroy both copies",
            line(first),
            line(second)
        ))),
        _ => Ok(areas),
    }
}

fn parse_line(line: &str, number: usize) -> Result<Option<Area>> {
    let line = line.trim();
    if line.starts_with('#') {
        return Ok(None);
    }
    let mut fields = line.split_ascii_whitespace();
    let (first, second) = (fields.next().unwrap_or(""), fields.next().unwrap_or(""));
    if first.ends_with(':') || first == "-" || second.starts_with(':') {
        let text = format!(
            "line {number}: the YAML form is not supported; use lines of the form: DEVICE OFFSET SIZE [SECTORSIZE \
             [SECTORS]]"
        );
        return Err(wrong(text)); // BE-55
    }
    let Some(third) = fields.next() else { return Ok(None) }; // BE-51: fewer than three fields
    let bad = |what: &str, field: &str| wrong(format!("line {number}: {what} '{field}' is not a number"));
    let offset = offset(second).ok_or_else(|| bad("offset", second))?;
    let size = hex(third).ok_or_else(|| bad("size", third))?;
    if !(MIN_SIZE as u64..=MAX_SIZE as u64).contains(&size) {
        let text = format!(
            "line {number}: size {size:#x} is not between {MIN_SIZE:#x} and {MAX_SIZE:#x} bytes (sizes are always \
             hexadecimal)"
        );
        return Err(wrong(text));
    }
    // The rest is optional, and a comment may follow: the first field that is no number ends it.
    let sector_size = fields.next().and_then(hex).filter(|n| *n != 0);
    let sectors = sector_size.and_then(|_| fields.next()).and_then(hex).filter(|n| *n != 0);
    let (device, size) = (first.to_owned(), size as usize);
    Ok(Some(Area { device, offset, size, sector_size, sectors, line: Some(number) }))
}

fn overlap(a: &Area, b: &Area) -> bool {
    a.device == b.device
        && (a.offset < 0) == (b.offset < 0)
        && a.offset.abs_diff(b.offset) < a.size.max(b.size) as u64
}

/// C rules: `0x` hexadecimal, a leading `0` octal, else decimal; may be negative (BE-52).
fn offset(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let value = if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        radix(hex, 16)?
    } else if digits.len() > 1 && digits.starts_with('0') {
        radix(digits, 8)?
    } else {
        radix(digits, 10)?
    };
    let value = i64::try_from(value).ok()?;
    Some(if negative { -value } else { value })
}

/// Always hexadecimal, `0x` or not, without sign (BE-52).
fn hex(text: &str) -> Option<u64> {
    radix(text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text), 16)
}

/// Digits only: the standard library would take a sign.
fn radix(digits: &str, radix: u32) -> Option<u64> {
    if !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

fn wrong(text: String) -> Error {
    Error::new("BOOT-ENV-CONFIG", text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn areas(text: &str) -> Vec<(String, i64, usize)> {
        parse(text).expect(text).into_iter().map(|a| (a.device, a.offset, a.size)).collect()
    }

    #[test]
    fn every_form_of_line_that_the_tools_read_is_read_alike() {
        let one = |device: &str, offset, size| vec![(device.to_owned(), offset, size)];
        for (text, expected) in [
            ("/dev/mmcblk0 0x800000 0x20000", one("/dev/mmcblk0", 0x80_0000, 0x2_0000)),
            ("/dev/mmcblk0\t8388608\t20000\n", one("/dev/mmcblk0", 0x80_0000, 0x2_0000)),
            ("/dev/mmcblk0 020 4000", one("/dev/mmcblk0", 16, 0x4000)),
            ("/dev/mmcblk0 0 0X4000", one("/dev/mmcblk0", 0, 0x4000)),
            ("/dev/mmcblk0 -0x4000 4000", one("/dev/mmcblk0", -0x4000, 0x4000)),
            ("# comment\n   # another one here\n\nx y\n/f 0 4000\r\n", one("/f", 0, 0x4000)),
            ("/f 0 0x4000 # the only copy", one("/f", 0, 0x4000)),
            ("/f 0 4000 200 20 1 whatever follows", one("/f", 0, 0x4000)),
        ] {
            assert_eq!(areas(text), expected, "{text}");
        }
        let text = "/f 0 4000 1000\r\n/f 0x4000 0x4000 0x1000 4\r\n/third 0 9000\r\n";
        assert_eq!(areas(text), [("/f".to_owned(), 0, 0x4000), ("/f".to_owned(), 0x4000, 0x4000)]);
        let second = &parse(text).expect("two")[1];
        assert_eq!((second.sector_size, second.sectors, second.line), (Some(0x1000), Some(4), Some(2)));
    }

    #[test]
    fn what_cannot_be_understood_is_an_error_that_names_the_line() {
        for (text, says) in [
            ("", "no line"),
            ("/f 0\n", "no line"),
            ("/f 0 0", "line 1: size 0x0"),
            ("/f 0 ffffffff", "line 1: size 0xffffffff"),
            ("/f 0 fffffffffffffffff", "line 1: size"),
            ("/f 0 -4000", "line 1: size"),
            ("/f 0 +4000", "line 1: size"),
            ("\n/f 0x 4000x", "line 2: "),
            ("/f 08 4000", "line 1: offset '08'"),
            ("/f 99999999999999999999 4000", "line 1: offset"),
            ("/f - 4000", "line 1: offset"),
            ("/f 0 4000\n/f 0x4000 8000", "lines 1 and 2 have different sizes"),
            ("/f 0 4000\n/f 0x2000 4000", "lines 1 and 2 overlap"),
            ("/f -0x4000 4000\n/f -0x4000 4000", "lines 1 and 2 overlap"),
            ("uboot:\n  size : 0x4000\n", "line 1: the YAML form"),
            ("size : 0x4000\n", "line 1: the YAML form"),
        ] {
            let error = parse(text).expect_err(text);
            assert_eq!(error.code, "BOOT-ENV-CONFIG");
            assert!(error.text.contains(says), "{text}: {error}");
        }
    }
}
