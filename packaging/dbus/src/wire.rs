//! Messages of D-Bus as bytes, as far as it is needed here: headers, and bodies of texts, numbers and truths. Pure.
//!
//! After the D-Bus specification 0.41, sections "Type System" and "Message Protocol". Written by hand, because no crate
//! would do: `docs/dependencies.md`.

/// A message that calls a method.
pub const CALL: u8 = 1;
/// A good answer.
pub const REPLY: u8 = 2;
/// An answer that is an error.
pub const ERROR: u8 = 3;
/// A message to whoever listens.
pub const SIGNAL: u8 = 4;

/// The caller does not want an answer.
pub const NO_REPLY: u8 = 1;

/// Longest message (specification: 128 MiB).
const LONGEST: usize = 128 << 20;

/// A message without its body: what is empty or 0 is not there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// [`CALL`], [`REPLY`], [`ERROR`] or [`SIGNAL`]; others are to be ignored.
    pub kind: u8,
    /// [`NO_REPLY`] and others.
    pub flags: u8,
    /// Number of the message, never 0.
    pub serial: u32,
    /// Field 1.
    pub path: String,
    /// Field 2.
    pub interface: String,
    /// Field 3.
    pub member: String,
    /// Field 4.
    pub error: String,
    /// Field 5: the serial of the call that this answers.
    pub answers: u32,
    /// Field 6.
    pub destination: String,
    /// Field 7; the bus fills it in.
    pub sender: String,
    /// The values in it.
    pub body: Body,
}

/// Values, with their types.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Body {
    /// Their types.
    pub signature: String,
    bytes: Vec<u8>,
    big_endian: bool,
}

/// Why bytes are no message. The connection is of no use then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl Body {
    /// Appends an `s`. Zero bytes, which D-Bus does not have, are left out.
    pub fn text(mut self, text: &str) -> Body {
        self.signature.push('s');
        put_text(&mut self.bytes, text);
        self
    }

    /// Appends an `i`.
    pub fn number(mut self, number: i32) -> Body {
        self.signature.push('i');
        pad(&mut self.bytes, 4);
        self.bytes.extend(number.to_le_bytes());
        self
    }

    /// Appends a `u`.
    pub fn natural(mut self, number: u32) -> Body {
        self.signature.push('u');
        pad(&mut self.bytes, 4);
        self.bytes.extend(number.to_le_bytes());
        self
    }

    /// Appends a `b`.
    pub fn truth(mut self, truth: bool) -> Body {
        self.signature.push('b');
        pad(&mut self.bytes, 4);
        self.bytes.extend(u32::from(truth).to_le_bytes());
        self
    }

    /// Appends an `a{sv}` with nothing in it.
    pub fn no_properties(mut self) -> Body {
        self.signature.push_str("a{sv}");
        pad(&mut self.bytes, 4);
        self.bytes.extend(0u32.to_le_bytes());
        pad(&mut self.bytes, 8);
        self
    }

    /// The texts that it begins with.
    pub fn texts(&self) -> Vec<String> {
        let mut read = Read { bytes: &self.bytes, at: 0, big_endian: self.big_endian };
        let count = self.signature.bytes().take_while(|kind| *kind == b's').count();
        (0..count).map_while(|_| read.text().map(str::to_owned)).collect()
    }

    /// The `u` that it begins with.
    pub fn first_natural(&self) -> Option<u32> {
        let mut read = Read { bytes: &self.bytes, at: 0, big_endian: self.big_endian };
        self.signature.starts_with('u').then(|| read.number())?
    }
}

impl Message {
    /// Its bytes; the body must be one that was made here.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![b'l', self.kind, self.flags, 1];
        out.extend(u32::try_from(self.body.bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend(self.serial.to_le_bytes());
        out.extend([0; 4]); // length of the fields, below
        for (code, kind, text) in [
            (1, b'o', &self.path),
            (2, b's', &self.interface),
            (3, b's', &self.member),
            (4, b's', &self.error),
            (6, b's', &self.destination),
            (8, b'g', &self.body.signature),
        ] {
            if text.is_empty() {
                continue;
            }
            pad(&mut out, 8);
            out.extend([code, 1, kind, 0]);
            if kind == b'g' {
                out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
                out.extend(text.bytes().chain([0]));
            } else {
                put_text(&mut out, text);
            }
        }
        if self.answers != 0 {
            pad(&mut out, 8);
            out.extend([5, 1, b'u', 0]);
            out.extend(self.answers.to_le_bytes());
        }
        let fields = u32::try_from(out.len() - 16).unwrap_or(u32::MAX);
        out[12..16].copy_from_slice(&fields.to_le_bytes());
        pad(&mut out, 8);
        out.extend(&self.body.bytes);
        out
    }

    /// Takes the first message off the bytes that have come; `None`: it is not whole yet.
    ///
    /// # Errors
    /// What has come is no message.
    pub fn take(bytes: &mut Vec<u8>) -> Result<Option<Message>, Malformed> {
        let Some((body_at, end)) = lengths(bytes)? else { return Ok(None) };
        if bytes.len() < end {
            return Ok(None);
        }
        let message = decode(&bytes[..body_at], &bytes[body_at..end]);
        bytes.drain(..end);
        message.map(Some).ok_or(Malformed)
    }
}

/// Where the body begins and where it ends.
fn lengths(bytes: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    let Some(head) = bytes.get(..16) else { return Ok(None) };
    if !b"lB".contains(&head[0]) || head[3] != 1 {
        return Err(Malformed);
    }
    let mut read = Read { bytes: head, at: 4, big_endian: head[0] == b'B' };
    let mut length =
        || read.number().and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= LONGEST).ok_or(Malformed);
    let (body, _serial, fields) = (length()?, length(), length()?);
    let body_at = (16 + fields).next_multiple_of(8);
    if body_at + body > LONGEST {
        return Err(Malformed);
    }
    Ok(Some((body_at, body_at + body)))
}

fn decode(head: &[u8], body: &[u8]) -> Option<Message> {
    let big_endian = head[0] == b'B';
    let mut read = Read { bytes: head, at: 8, big_endian };
    let mut message = Message { kind: head[1], flags: head[2], ..Message::default() };
    message.serial = read.number()?;
    let end = 16 + usize::try_from(read.number()?).ok()?;
    while read.at < end {
        read.align(8)?;
        let code = read.byte()?;
        let kind = (read.byte()?, read.byte()?, read.byte()?);
        if (kind.0, kind.2) != (1, 0) {
            return None; // None of the fields that there are has more than one value.
        }
        let text = match kind.1 {
            b's' | b'o' => read.text()?.to_owned(),
            b'g' => read.signature()?.to_owned(),
            b'u' | b'i' | b'b' | b'h' => {
                let number = read.number()?;
                if (code, kind.1) == (5, b'u') {
                    message.answers = number;
                }
                continue;
            }
            _ => return None,
        };
        match code {
            1 => message.path = text,
            2 => message.interface = text,
            3 => message.member = text,
            4 => message.error = text,
            6 => message.destination = text,
            7 => message.sender = text,
            8 => message.body.signature = text,
            _ => {} // to be ignored
        }
    }
    message.body.bytes = body.to_vec();
    message.body.big_endian = big_endian;
    Some(message)
}

/// Values one after the other; `None` is the end, or what is not allowed there.
struct Read<'a> {
    bytes: &'a [u8],
    at: usize,
    big_endian: bool,
}

impl<'a> Read<'a> {
    fn align(&mut self, to: usize) -> Option<()> {
        self.at = self.at.next_multiple_of(to);
        (self.at <= self.bytes.len()).then_some(())
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let found = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(found)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|byte| byte[0])
    }

    fn number(&mut self) -> Option<u32> {
        self.align(4)?;
        let bytes = self.take(4)?.try_into().ok()?;
        Some(if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.number()?).ok()?;
        self.ended(length)
    }

    fn signature(&mut self) -> Option<&'a str> {
        let length = self.byte()?;
        self.ended(length.into())
    }

    fn ended(&mut self, length: usize) -> Option<&'a str> {
        let text = std::str::from_utf8(self.take(length)?).ok()?;
        (self.byte()? == 0).then_some(text)
    }
}

fn pad(out: &mut Vec<u8>, to: usize) {
    out.resize(out.len().next_multiple_of(to), 0);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    pad(out, 4);
    let length = text.bytes().filter(|byte| *byte != 0).count();
    out.extend(u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    out.extend(text.bytes().filter(|byte| *byte != 0).chain([0]));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Message {
        Message {
            kind: CALL,
            flags: 2,
            serial: 0x0102_0304,
            path: "/a/b".into(),
            interface: "a.b".into(),
            member: "Do".into(),
            error: "a.b.Bad".into(),
            answers: 77,
            destination: ":1.5".into(),
            sender: String::new(),
            body: Body::default().text("first").text("").number(-5).truth(true).natural(9).text("zero\0byte"),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for message in [full(), Message { kind: SIGNAL, serial: 1, ..Message::default() }] {
            let mut bytes = message.encode();
            bytes.extend(b"next");
            assert_eq!(Message::take(&mut bytes), Ok(Some(message)));
            assert_eq!(bytes, b"next");
        }
        assert_eq!(full().body.texts(), ["first", ""]);
        assert_eq!(Body::default().text("zero\0byte").texts(), ["zerobyte"]);
        assert_eq!(Body::default().natural(7).first_natural(), Some(7));
        assert_eq!(Body::default().text("7").first_natural(), None);
    }

    #[test]
    fn half_a_message_is_none_yet() {
        let whole = full().encode();
        for length in 0..whole.len() {
            assert_eq!(Message::take(&mut whole[..length].to_vec()), Ok(None), "{length} bytes");
        }
    }

    /// `Hello` as in every first message on a bus, and the same as a machine of the other byte order writes it.
    #[test]
    fn the_bytes_are_those_of_the_specification() {
        let little = b"l\x01\0\x01\0\0\0\0\x01\0\0\0\x1b\0\0\0\x01\x01o\0\x02\0\0\0/x\0\0\0\0\0\0\x03\x01s\0\x02\0\0\0Hi\0\0\0\0\0\0";
        let message =
            Message { kind: CALL, serial: 1, path: "/x".into(), member: "Hi".into(), ..Message::default() };
        assert_eq!(message.encode(), little);
        let big = b"B\x01\0\x01\0\0\0\x07\0\0\0\x01\0\0\0\x25\x01\x01o\0\0\0\0\x02/x\0\0\0\0\0\0\x03\x01s\0\0\0\0\x02Hi\0\0\0\0\0\0\x08\x01g\0\x01s\0\0\0\0\0\x02ab\0";
        let message = Message::take(&mut big.to_vec()).expect("well formed").expect("whole");
        assert_eq!((message.path.as_str(), message.member.as_str()), ("/x", "Hi"));
        assert_eq!(message.body.texts(), ["ab"]);
    }

    #[test]
    fn an_empty_dictionary_is_padded() {
        let body = Body::default().no_properties();
        assert_eq!((body.signature.as_str(), body.bytes.len()), ("a{sv}", 8));
    }

    #[test]
    fn damage_is_never_a_panic() {
        let whole = full().encode();
        let mut seed = 1u32;
        let mut random = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as usize
        };
        for _ in 0..20_000 {
            let mut bytes = whole.clone();
            for _ in 0..=random() % 3 {
                let at = random() % bytes.len();
                bytes[at] = random() as u8;
            }
            if let Ok(Some(message)) = Message::take(&mut bytes) {
                message.body.texts();
                message.body.first_natural();
            }
        }
        for head in ["x\u{1}\0\u{1}", "l\u{1}\0\u{2}"] {
            assert_eq!(Message::take(&mut format!("{head}{}", "\0".repeat(12)).into_bytes()), Err(Malformed));
        }
        let mut long = whole[..16].to_vec();
        long[12..16].fill(0xff);
        assert_eq!(Message::take(&mut long), Err(Malformed));
    }
}
