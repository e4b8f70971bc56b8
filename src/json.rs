//! The JSON subset that the agent speaks: strict, bounded in depth, with line and column in every error.
//!
//! miniserde does the parsing but its errors carry nothing. So the text is first walked by a scanner that is
//! at least as strict (RFC 8259, nesting limit, no trailing bytes) and knows where it is.

use crate::error::{Error, Result};
pub use miniserde::json::{Array, Number, Object, Value};

/// Deepest nesting that is accepted (AF-65).
pub const MAX_DEPTH: usize = 32;

/// Where and why a text is not the JSON that was expected. Lines and columns count from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What was expected or found.
    pub what: String,
}

impl Mistake {
    /// As an error about `file`.
    pub fn into_error(self, code: &'static str, file: impl std::fmt::Display) -> Error {
        Error::new(code, format!("{file}, line {}, column {}: {}", self.line, self.column, self.what))
    }
}

/// Parses a whole text. Duplicate members: the last one wins (AF-66). Trailing bytes are refused.
pub fn parse(text: &str) -> std::result::Result<Value, Mistake> {
    let mut scan = Scan { text, at: 0, wanted: None, found: None };
    scan.document()?;
    miniserde::json::from_str(text).map_err(|_| Mistake {
        line: 1,
        column: 1,
        what: "a number is out of range".into(),
    })
}

/// Parses bytes that came from outside; `what` names them in the error.
pub fn parse_bytes(bytes: &[u8], code: &'static str, what: &str) -> Result<Value> {
    let text = std::str::from_utf8(bytes)
        .map_err(|e| Error::new(code, format!("{what} is not UTF-8 (byte {})", e.valid_up_to())))?;
    parse(text).map_err(|m| m.into_error(code, what))
}

/// Line and column of the value at `path` (member names and array indexes in decimal), for error messages.
pub fn position(text: &str, path: &[&str]) -> Option<(usize, usize)> {
    let mut scan = Scan { text, at: 0, wanted: Some(path), found: None };
    scan.document().ok()?;
    scan.found.map(|at| line_column(text, at))
}

/// The member `key` of an object.
pub fn get<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match value {
        Value::Object(members) => members.get(key),
        _ => None,
    }
}

/// The text of a string value.
pub fn string(value: &Value) -> Option<&str> {
    match value {
        Value::String(s) => Some(s),
        _ => None,
    }
}

/// A list of strings; `None` if it is anything else.
pub fn strings(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Array(items) => items.iter().map(|v| string(v).map(str::to_owned)).collect(),
        _ => None,
    }
}

/// A whole number that fits, `None` if it is anything else.
pub fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(Number::I64(n)) => Some(*n),
        Value::Number(Number::U64(n)) => i64::try_from(*n).ok(),
        _ => None,
    }
}

/// What kind of value this is, in words for an error message.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Serialises a value, without white space, members sorted bytewise.
pub fn write(value: &Value) -> String {
    miniserde::json::to_string(value)
}

/// Appends `text` as a JSON string with its quotes; every control character is escaped.
pub fn quote(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                out.push_str("\\u00");
                for nibble in [c as u32 >> 4, c as u32 & 15] {
                    out.push(char::from_digit(nibble, 16).unwrap_or('0'));
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

fn line_column(text: &str, at: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..at.min(text.len())];
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let start = before.iter().rposition(|b| *b == b'\n').map_or(0, |p| p + 1);
    // Continuation bytes are not columns.
    (line, before[start..].iter().filter(|b| **b & 0xc0 != 0x80).count() + 1)
}

/// Walks the text; recursion is bounded by [`MAX_DEPTH`].
struct Scan<'a> {
    text: &'a str,
    at: usize,
    wanted: Option<&'a [&'a str]>,
    found: Option<usize>,
}

type Walk = std::result::Result<(), Mistake>;

impl Scan<'_> {
    fn document(&mut self) -> Walk {
        if self.text.starts_with('\u{feff}') {
            return self.wrong("a byte order mark; JSON has none");
        }
        let path = self.wanted;
        self.value(0, path)?;
        self.space();
        if self.at < self.text.len() { self.wrong("unexpected text after the end") } else { Ok(()) }
    }

    fn wrong<T>(&self, what: impl Into<String>) -> std::result::Result<T, Mistake> {
        let (line, column) = line_column(self.text, self.at);
        Err(Mistake { line, column, what: what.into() })
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize, path: Option<&[&str]>) -> Walk {
        self.space();
        if path.is_some_and(<[&str]>::is_empty) {
            self.found = Some(self.at);
        }
        match self.peek() {
            Some(b'{') => self.members(depth + 1, path),
            Some(b'[') => self.items(depth + 1, path),
            Some(b'"') => self.string().map(|_| ()),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            Some(b'/' | b'#') => self.wrong("expected a value; JSON has no comments"),
            Some(_) => self.wrong("expected a value"),
            None => self.wrong("the text ends where a value was expected"),
        }
    }

    fn enter(&mut self, depth: usize) -> Walk {
        if depth > MAX_DEPTH {
            return self.wrong(format!("nested deeper than {MAX_DEPTH} levels"));
        }
        self.at += 1;
        self.space();
        Ok(())
    }

    fn members(&mut self, depth: usize, path: Option<&[&str]>) -> Walk {
        self.enter(depth)?;
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return self.wrong("expected a member name in double quotes");
            }
            let (from, to) = self.string()?;
            let inner = path.and_then(|p| p.split_first());
            let name = &self.text[from..to];
            let inner = inner.filter(|(first, _)| **first == name).map(|(_, rest)| rest);
            self.space();
            if self.peek() != Some(b':') {
                return self.wrong("expected ':' after the member name");
            }
            self.at += 1;
            self.value(depth, inner)?;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.wrong("expected ',' or '}'"),
            }
        }
    }

    fn items(&mut self, depth: usize, path: Option<&[&str]>) -> Walk {
        self.enter(depth)?;
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        let mut index = 0usize;
        loop {
            let inner = path.and_then(|p| p.split_first());
            let inner = inner.filter(|(first, _)| first.parse() == Ok(index)).map(|(_, rest)| rest);
            self.value(depth, inner)?;
            index += 1;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.wrong("expected ',' or ']'"),
            }
        }
    }

    /// At the `u` of an escape with four digits: goes on behind it. Characters beyond U+FFFF come in two halves, which
    /// must be a pair.
    fn unicode(&mut self) -> Walk {
        let unit = |at: usize| self.text.get(at..at + 4).and_then(|hex| u16::from_str_radix(hex, 16).ok());
        let after = self.at + 5;
        let low = self.text.get(after..after + 2).filter(|t| *t == "\\u").and_then(|_| unit(after + 2));
        self.at = match (unit(self.at + 1), low) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => after + 6,
            (Some(0xd800..=0xdfff), _) => {
                return self.wrong("\\u stands for half a character (a surrogate without its other half)");
            }
            _ => after,
        };
        Ok(())
    }

    /// Returns the range between the quotes.
    fn string(&mut self) -> std::result::Result<(usize, usize), Mistake> {
        self.at += 1;
        let from = self.at;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok((from, self.at - 1));
                }
                Some(b'\\') => {
                    self.at += 1;
                    match self.peek() {
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
                        Some(b'u') => {
                            let hex = self.text.as_bytes().get(self.at + 1..self.at + 5);
                            if !hex.is_some_and(|h| h.iter().all(u8::is_ascii_hexdigit)) {
                                return self.wrong("\\u needs four hexadecimal digits");
                            }
                            self.unicode()?;
                        }
                        _ => return self.wrong("unknown escape in a string"),
                    }
                }
                Some(b) if b < 0x20 => return self.wrong("control character in a string"),
                Some(_) => self.at += 1,
                None => return self.wrong("the text ends inside a string"),
            }
        }
    }

    fn number(&mut self) -> Walk {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return self.wrong("expected a digit"),
        }
        if matches!(self.peek(), Some(b'0'..=b'9')) {
            return self.wrong("a number may not begin with 0");
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if !matches!(self.peek(), Some(b'0'..=b'9')) {
                return self.wrong("expected a digit after the point");
            }
            self.digits();
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if !matches!(self.peek(), Some(b'0'..=b'9')) {
                return self.wrong("expected a digit in the exponent");
            }
            self.digits();
        }
        Ok(())
    }

    fn digits(&mut self) {
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
    }

    fn word(&mut self, word: &str) -> Walk {
        if self.text[self.at..].starts_with(word) {
            self.at += word.len();
            Ok(())
        } else {
            self.wrong("expected a value")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_has_its_line_and_column() {
        for (text, line, column) in [
            ("", 1, 1),
            ("{\n \"a\": 1,\n}", 3, 1),
            ("{\"a\" 1}", 1, 6),
            ("[1 2]", 1, 4),
            ("{\"é\": tru}", 1, 7),
            ("\"a\u{1}\"", 1, 3),
            ("[01]", 1, 3),
            ("{} x", 1, 4),
            ("// no", 1, 1),
            ("\u{feff}{}", 1, 1),
        ] {
            let m = parse(text).expect_err(text);
            assert_eq!((m.line, m.column), (line, column), "{text}: {}", m.what);
        }
    }

    #[test]
    fn half_a_character_is_said_to_be_that_and_where() {
        assert_eq!(string(&parse(r#""\ud83d\ude00\u00e9""#).expect("a pair")), Some("\u{1f600}\u{e9}"));
        for text in [
            r#""\ud83d""#,
            r#""\ude00""#,
            r#""\ude00\ud83d""#,
            r#""\ud83d\ud83d\ude00""#,
            r#""\ud83dx\ude00""#,
            r#""\ud83d\n""#,
            r#""\ud83d\u""#,
        ] {
            let m = parse(text).expect_err(text);
            assert!(m.what.contains("half a character"), "{text}: {}", m.what);
            assert_eq!((m.line, m.column), (1, 3), "{text}");
        }
        assert_eq!(parse(r#""\\ud83d\ude00""#).expect_err("the first is no escape").column, 10);
    }

    #[test]
    fn nesting_is_bounded() {
        assert!(parse(&format!("{}{}", "[".repeat(32), "]".repeat(32))).is_ok());
        assert!(parse(&"[".repeat(33)).is_err());
        assert!(parse(&"{\"a\":".repeat(100_000)).is_err());
    }

    #[test]
    fn numbers_out_of_range_do_not_panic() {
        for text in ["1e999", "-1e999", "123456789012345678901234567890", "0.0000000000000000000001e-400"] {
            let _ = parse(text);
        }
        assert_eq!(integer(&parse("9223372036854775808").expect("parses")), None);
        assert_eq!(integer(&parse("-5").expect("parses")), Some(-5));
        assert_eq!(integer(&parse("5.0").expect("parses")), None);
    }

    #[test]
    fn a_value_can_be_found_again() {
        let text = "{\n  \"a\": [1, {\"b\": \"x\"}]\n}";
        assert_eq!(position(text, &["a", "1", "b"]), Some((2, 18)));
        assert_eq!(position(text, &["c"]), None);
    }

    #[test]
    fn quoting_survives_a_round_trip() {
        let text: String = (0..0x250u32).filter_map(char::from_u32).collect();
        let mut out = String::new();
        quote(&mut out, &text);
        assert_eq!(string(&parse(&out).expect("valid")), Some(text.as_str()));
    }
}
