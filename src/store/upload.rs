//! The body of a log upload, `{"messages":[…]}`: its length known in advance, streamed from the file, never held
//! in memory and never copied (SA-61 to SA-64, LG-19).
//!
//! The file is walked twice, three times if it is too long: once for the length, once to send. What another
//! process appends meanwhile is not sent; what disappears is filled up with blanks behind the end, so that the
//! announced length is true in any case.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use super::deployment_log::format_line;
use super::log_files;
use crate::json::{self, Value};
use crate::sys::clock;

/// The body stays below this many bytes (SA-64).
const LIMIT: u64 = 1_000_000 - 256;

/// Longest line of a log that is looked at, in bytes; longer ones are replaced.
const LONGEST_LINE: usize = 64 << 10;

/// Of a longer file only so much of its end is looked at.
const TAIL: u64 = 4 << 20;

const OPEN: &[u8] = b"{\"messages\":[";
const CLOSE: &[u8] = b"]}";

const INVALID: &str = "(THE ORIGINAL LOGS CONTAINED INVALID ENTRIES)";
const TOO_BIG: &str =
    "(THE ORIGINAL LOGS WERE TOO BIG, THIS LOG IS TRUNCATED. The full log can be found on the device)";
const CORRUPTED: &str = "(CORRUPTED LOG DATA)";

/// A request body with a known length.
#[derive(Debug)]
pub struct LogUpload {
    length: u64,
    sent: u64,
    parts: Parts,
    /// What is being sent, and how much of it already was.
    current: Vec<u8>,
    at: usize,
    /// An element was sent: the next one needs a comma.
    some: bool,
    closed: bool,
}

/// The elements in their order.
#[derive(Debug)]
struct Parts {
    before: VecDeque<String>,
    lines: Option<Lines>,
    after: VecDeque<String>,
}

/// The body for the log of deployment `id` in `dir`. A log that is missing, unreadable or empty becomes one
/// line that says so, because the server refuses an empty list (SA-62).
pub fn upload(dir: &Path, id: &str) -> LogUpload {
    LogUpload::new(dir, id, None, VecDeque::new())
}

impl LogUpload {
    /// `note` explains why `after`, the lines that follow those of the file, are not in the file.
    pub(super) fn new(dir: &Path, id: &str, note: Option<String>, mut after: VecDeque<String>) -> LogUpload {
        let now = clock::rfc3339(clock::wall());
        let warning = |text: &str| format_line(&now, "WARNING", text);
        if let Some(note) = note {
            after.push_front(warning(&note));
        }
        let mut before = VecDeque::new();
        let lines = match open(dir, id) {
            Ok(file) => survey(file, weight(&after), &mut before, &now),
            Err(why) if after.is_empty() => {
                before.push_back(warning(&format!("(there is no deployment log: {why})")));
                None
            }
            Err(_) => None,
        };
        if before.is_empty() && lines.is_none() && after.is_empty() {
            before.push_back(warning("(the deployment log is empty)"));
        }
        let elements = weight(&before) + weight(&after) + lines.as_ref().map_or(0, |lines| lines.weight);
        // Every element was counted with a comma; the last has none.
        let length = (OPEN.len() + CLOSE.len()) as u64 + elements.saturating_sub(1);
        let parts = Parts { before, lines, after };
        LogUpload { length, sent: 0, parts, current: OPEN.to_vec(), at: 0, some: false, closed: false }
    }

    /// Length of the body in bytes.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Never: there is always an element.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Puts the next piece into `current`.
    fn advance(&mut self) {
        self.current.clear();
        self.at = 0;
        let left = self.length - self.sent;
        if !self.closed {
            if let Some(element) = self.parts.next() {
                let size = element.len() + usize::from(self.some);
                // The file has changed since it was measured: keep to what was announced.
                if (size + CLOSE.len()) as u64 <= left {
                    if self.some {
                        self.current.push(b',');
                    }
                    self.current.extend_from_slice(element.as_bytes());
                    self.some = true;
                    return;
                }
            }
            self.closed = true;
            self.current.extend_from_slice(CLOSE);
            return;
        }
        self.current.resize(left.min(1024) as usize, b' ');
    }
}

impl Read for LogUpload {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.current.len() && self.sent < self.length {
            self.advance();
        }
        let rest = self.current.get(self.at..).unwrap_or_default();
        let n = rest.len().min(buffer.len());
        buffer[..n].copy_from_slice(&rest[..n]);
        self.at += n;
        self.sent += n as u64;
        Ok(n)
    }
}

impl Parts {
    fn next(&mut self) -> Option<String> {
        if let Some(element) = self.before.pop_front() {
            return Some(element);
        }
        if let Some(lines) = &mut self.lines {
            if let Some(element) = lines.next() {
                return Some(element);
            }
            self.lines = None;
        }
        self.after.pop_front()
    }
}

/// Bytes of these elements, each with a comma.
fn weight(elements: &VecDeque<String>) -> u64 {
    elements.iter().map(|element| element.len() as u64 + 1).sum()
}

fn open(dir: &Path, id: &str) -> std::result::Result<File, String> {
    if !log_files::is_id(id) {
        return Err("the deployment id cannot be a file name".to_owned());
    }
    let path = log_files::find(dir, id).ok_or_else(|| format!("no file for it in {}", dir.display()))?;
    File::open(&path).map_err(|e| format!("{} cannot be read: {e}", path.display()))
}

/// Measures the log and decides where to begin, so that the newest lines fit. Puts notes into `before`.
fn survey(file: File, others: u64, before: &mut VecDeque<String>, now: &str) -> Option<Lines> {
    let invalid = format_line(now, "ERROR", INVALID);
    let too_big = format_line(now, "WARNING", TOO_BIG);
    let notes = (invalid.len() + too_big.len() + 2) as u64;
    let budget = LIMIT.saturating_sub((OPEN.len() + CLOSE.len()) as u64 + notes + others + 1);

    let mut lines = Lines::new(file)?;
    let mut dropped = lines.start.offset > 0;
    let mut total = 0u64;
    while let Some(element) = lines.next() {
        total += element.len() as u64 + 1;
    }
    let any_invalid = lines.invalid;
    let mut start = lines.start.clone();
    lines.rewind(&start);
    while total > budget {
        dropped = true;
        let Some(element) = lines.next() else { break };
        total = total.saturating_sub(element.len() as u64 + 1);
        start = lines.now.clone();
    }
    lines.rewind(&start);
    lines.weight = total;
    if dropped {
        before.push_back(too_big);
    }
    if any_invalid {
        before.push_back(invalid);
    }
    (total > 0).then_some(lines)
}

/// A place in the log, with what is known there.
#[derive(Debug, Clone)]
struct Place {
    offset: u64,
    /// Of the last valid line, for invalid ones that follow.
    timestamp: String,
}

/// The lines of a log as elements that the server accepts.
#[derive(Debug)]
struct Lines {
    reader: BufReader<io::Take<File>>,
    /// The end of the file when it was opened.
    end: u64,
    start: Place,
    now: Place,
    /// An invalid line was met.
    invalid: bool,
    /// Bytes of the elements from where sending begins, each with a comma.
    weight: u64,
    line: Vec<u8>,
}

impl Lines {
    fn new(file: File) -> Option<Lines> {
        let end = file.metadata().ok().filter(std::fs::Metadata::is_file)?.len();
        let start = Place { offset: end.saturating_sub(TAIL), timestamp: clock::rfc3339(0) };
        let reader = BufReader::with_capacity(8 << 10, file.take(0));
        let now = start.clone();
        let mut lines = Lines { reader, end, start, now, invalid: false, weight: 0, line: Vec::new() };
        lines.rewind(&lines.start.clone());
        if lines.start.offset > 0 {
            lines.raw(); // most likely the middle of a line
            lines.start = lines.now.clone();
        }
        Some(lines)
    }

    fn rewind(&mut self, place: &Place) {
        self.now = place.clone();
        let at = self.reader.seek_file(place.offset).unwrap_or(self.end);
        self.reader.get_mut().set_limit(self.end.saturating_sub(at));
    }

    /// The next line into `line`, without its end, at most [`LONGEST_LINE`] bytes of it. `None` at the end, else
    /// whether it was all there. An unreadable file ends here.
    fn raw(&mut self) -> Option<bool> {
        self.line.clear();
        let mut whole = true;
        let mut any = false;
        loop {
            let chunk = match self.reader.fill_buf() {
                Ok(chunk) => chunk,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return None,
            };
            if chunk.is_empty() {
                return any.then_some(whole);
            }
            any = true;
            let line_end = chunk.iter().position(|b| *b == b'\n');
            let part = &chunk[..line_end.unwrap_or(chunk.len())];
            let room = LONGEST_LINE - self.line.len();
            whole &= part.len() <= room;
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            let used = part.len() + usize::from(line_end.is_some());
            self.reader.consume(used);
            self.now.offset += used as u64;
            if line_end.is_some() {
                return Some(whole);
            }
        }
    }

    /// The next element. Empty lines and empty messages are left out, invalid lines replaced (SA-63).
    fn next(&mut self) -> Option<String> {
        loop {
            let whole = self.raw()?;
            let text = if whole { std::str::from_utf8(&self.line).ok() } else { None };
            match text.map(|text| examine(text.trim())) {
                Some(Line::Nothing) => {}
                Some(Line::Good(element, timestamp)) => {
                    self.now.timestamp = timestamp;
                    return Some(element);
                }
                Some(Line::Bad) | None => {
                    self.invalid = true;
                    return Some(format_line(&self.now.timestamp, "ERROR", CORRUPTED));
                }
            }
        }
    }
}

/// Seeking below the limit of `Take`.
trait SeekFile {
    fn seek_file(&mut self, offset: u64) -> io::Result<u64>;
}

impl SeekFile for BufReader<io::Take<File>> {
    fn seek_file(&mut self, offset: u64) -> io::Result<u64> {
        let buffered = self.buffer().len();
        self.consume(buffered);
        self.get_mut().get_mut().seek(SeekFrom::Start(offset))
    }
}

enum Line {
    Nothing,
    /// The element and its timestamp.
    Good(String, String),
    Bad,
}

/// What the server would say to this line (SA-62).
fn examine(text: &str) -> Line {
    if text.is_empty() {
        return Line::Nothing;
    }
    let Ok(Value::Object(members)) = json::parse(text) else { return Line::Bad };
    let member = |key: &str| members.get(key).and_then(json::string);
    match (member("timestamp"), member("level"), member("message")) {
        (Some(_), Some(_), Some("")) => Line::Nothing,
        (Some(time), Some(level), Some(_)) if !level.is_empty() && is_rfc3339(time) => {
            Line::Good(text.to_owned(), time.to_owned())
        }
        _ => Line::Bad,
    }
}

/// `2024-01-02T15:04:05`, a fraction or none, `Z` or an offset (LG-14).
fn is_rfc3339(text: &str) -> bool {
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let Some((stamp, rest)) = text.split_at_checked(19) else { return false };
    let shape = stamp.bytes().zip("0000-00-00T00:00:00".bytes());
    if !shape.clone().all(|(b, s)| if s == b'0' { b.is_ascii_digit() } else { b == s }) {
        return false;
    }
    let field = |from: usize| stamp.get(from..from + 2).and_then(|s| s.parse::<u32>().ok()).unwrap_or(99);
    let year = stamp.get(..4).and_then(|s| s.parse::<u32>().ok()).unwrap_or(0);
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match field(5) {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    if !(1..=days).contains(&field(8)) {
        return false;
    }
    if field(11) > 23 || field(14) > 59 || field(17) > 59 {
        return false;
    }
    let zone = match rest.strip_prefix('.') {
        Some(fraction) => {
            let zone = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
            if zone.len() == fraction.len() {
                return false;
            }
            zone
        }
        None => rest,
    };
    let offset = zone.strip_prefix(['+', '-']).and_then(|offset| offset.split_once(':'));
    let two = |s: &str, below: u32| s.len() == 2 && digits(s) && s.parse::<u32>().is_ok_and(|n| n < below);
    zone == "Z" || offset.is_some_and(|(hours, minutes)| two(hours, 24) && two(minutes, 60))
}
