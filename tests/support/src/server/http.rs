//! HTTP/1.1 as a server speaks it: one request in, one answer out, over any stream.

use std::io::{self, BufRead, BufReader, Read, Write};

/// Both directions of a connection, plain or TLS.
pub(super) trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

/// Bodies above this are not read (real servers stop at 1 MiB; then they answer 413).
const MOST_BODY: u64 = 64 << 20;
const MOST_HEAD: u64 = 64 << 10;
const CHUNK: u64 = 64 << 10;

/// One request as it came.
#[derive(Clone, Debug)]
pub(super) struct Incoming {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Incoming {
    /// A header's value by its lower-case name.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// An answer before any fault is applied to it.
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Box<dyn Read>,
    pub(super) length: u64,
}

impl Response {
    pub(super) fn new(status: u16, kind: &str, body: Vec<u8>) -> Response {
        let headers = if kind.is_empty() { Vec::new() } else { vec![("Content-Type".into(), kind.into())] };
        Response { status, headers, length: body.len() as u64, body: Box::new(io::Cursor::new(body)) }
    }

    pub(super) fn empty(status: u16) -> Response {
        Response::new(status, "", Vec::new())
    }
}

/// How an answer's body is sent.
#[derive(Default)]
pub(super) struct Manner {
    pub(super) stop_after: Option<u64>,
    pub(super) corrupt_at: Option<u64>,
    pub(super) bytes_per_second: Option<u64>,
    pub(super) chunked: bool,
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// One line without its end; an error if the head grows too large.
fn line(wire: &mut BufReader<Box<dyn Wire + '_>>, left: &mut u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    let count = wire.by_ref().take(*left).read_until(b'\n', &mut bytes)? as u64;
    *left -= count;
    if bytes.pop() != Some(b'\n') {
        return Err(if *left == 0 {
            invalid("request head too large")
        } else {
            io::ErrorKind::UnexpectedEof.into()
        });
    }
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    String::from_utf8(bytes).map_err(|_| invalid("request head is not UTF-8"))
}

/// Reads a request; `None` when the peer closed the connection between requests.
pub(super) fn read_request(wire: &mut BufReader<Box<dyn Wire + '_>>) -> io::Result<Option<Incoming>> {
    if wire.fill_buf()?.is_empty() {
        return Ok(None);
    }
    let mut left = MOST_HEAD;
    let first = line(wire, &mut left)?;
    let mut words = first.split(' ');
    let (Some(method), Some(target), Some("HTTP/1.1"), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(invalid(&format!("request line {first:?}")));
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut headers = Vec::new();
    loop {
        let text = line(wire, &mut left)?;
        if text.is_empty() {
            break;
        }
        let (name, value) = text.split_once(':').ok_or_else(|| invalid(&format!("header line {text:?}")))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let (method, path, query) = (method.to_owned(), path.to_owned(), query.to_owned());
    let mut request = Incoming { method, path, query, headers, body: Vec::new() };
    if request.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
        wire.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        wire.get_mut().flush()?;
    }
    request.body = read_body(wire, &request)?;
    Ok(Some(request))
}

fn read_body(wire: &mut BufReader<Box<dyn Wire + '_>>, request: &Incoming) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if request.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        loop {
            let size = line(wire, &mut 1024)?;
            let size = size.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(|_| invalid("chunk size"))?;
            if body.len() as u64 + size > MOST_BODY {
                return Err(invalid("body too large"));
            }
            if size == 0 {
                while !line(wire, &mut 1024)?.is_empty() {}
                return Ok(body);
            }
            read_exactly(wire, size, &mut body)?;
            line(wire, &mut 1024)?;
        }
    }
    if let Some(length) = request.header("content-length") {
        let length = length.parse().map_err(|_| invalid("Content-Length"))?;
        if length > MOST_BODY {
            return Err(invalid("body too large"));
        }
        read_exactly(wire, length, &mut body)?;
    }
    Ok(body)
}

fn read_exactly(wire: &mut impl Read, size: u64, body: &mut Vec<u8>) -> io::Result<()> {
    match wire.take(size).read_to_end(body)? as u64 {
        count if count == size => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Sends an answer. `progress` hears of every piece of the body once it is sent, and of how long the next one
/// must wait (in seconds; slow bodies only); it ends the sending by an error. Returns whether all was sent.
pub(super) fn send(
    wire: &mut dyn Wire,
    response: Response,
    manner: &Manner,
    with_body: bool,
    mut progress: impl FnMut(u64, f64) -> io::Result<()>,
) -> io::Result<bool> {
    let mut head = format!("HTTP/1.1 {} {}\r\n", response.status, reason(response.status));
    for (name, value) in &response.headers {
        head += &format!("{name}: {value}\r\n");
    }
    if response.status != 204 {
        head += &match manner.chunked {
            true => "Transfer-Encoding: chunked\r\n".to_owned(),
            false => format!("Content-Length: {}\r\n", response.length),
        };
    }
    wire.write_all((head + "\r\n").as_bytes())?;
    if response.status == 204 || !with_body {
        wire.flush()?;
        return Ok(true);
    }
    let last = manner.stop_after.unwrap_or(u64::MAX).min(response.length);
    let piece = manner.bytes_per_second.map_or(CHUNK, |rate| (rate / 20).clamp(1, CHUNK));
    let mut body = response.body;
    let mut buffer = vec![0; piece as usize];
    let mut sent = 0;
    while sent < last {
        let bytes = &mut buffer[..piece.min(last - sent) as usize];
        body.read_exact(bytes)?;
        if let Some(at) = manner.corrupt_at
            && (sent..sent + bytes.len() as u64).contains(&at)
        {
            bytes[(at - sent) as usize] ^= 0x20;
        }
        if manner.chunked {
            wire.write_all(format!("{:x}\r\n", bytes.len()).as_bytes())?;
        }
        wire.write_all(bytes)?;
        if manner.chunked {
            wire.write_all(b"\r\n")?;
        }
        wire.flush()?;
        sent += bytes.len() as u64;
        let pause = manner.bytes_per_second.map_or(0.0, |rate| bytes.len() as f64 / rate.max(1) as f64);
        progress(sent, pause)?;
    }
    if manner.stop_after.is_some() {
        wire.flush()?;
        return Ok(false);
    }
    if manner.chunked {
        wire.write_all(b"0\r\n\r\n")?;
    }
    wire.flush()?;
    Ok(true)
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        413 => "Content Too Large",
        416 => "Range Not Satisfiable",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Status",
    }
}
