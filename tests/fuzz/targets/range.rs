//! A download over a connection that breaks: what arrives is a piece of one file from its beginning, and no byte of it is
//! skipped or repeated, whatever the storage says about ranges, lengths and versions.
//!
//! The first byte is the length of the file (times 5), the second the size of reads, the third that of packets. Then each
//! line is the answer to one request, its fields divided by `|`:
//!
//! status `|` Content-Range `|` ETag `|` Content-Length, or `*` for the right one `|` bytes of the body before the
//! connection breaks, or nothing for all `|` more of the head, `^` between its lines
//!
//! The storage is confused, but no forger: what it calls the bytes from S on are the bytes from S on, of the version
//! that its strong ETag names. (Without one nobody but the checksums of the Artifact can tell versions apart.)
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(missing_docs, clippy::missing_panics_doc, reason = "see the list in tests/fuzz/targets/mod.rs")]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Read};
use std::time::Duration;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

use super::{Downloader, Http, content_range};
use crate::fuzz::input;
use crate::server::wire::BUFFER;

/// Most answers that count; more than a download makes requests.
const ANSWERS: usize = 32;

const CHUNKED: &[u8] = b"Transfer-Encoding: chunked";

thread_local! {
    static WORLD: RefCell<World> = RefCell::default();
    static HTTP: Http = Http::over(Wire, Nowhere).expect("nothing is set that could be wrong");
}

#[derive(Default)]
struct World {
    /// What is left of the input.
    answers: VecDeque<Vec<u8>>,
    /// Of the file, in bytes.
    length: usize,
    version: Version,
    packet: usize,
    /// Bytes that the download has delivered.
    delivered: usize,
    /// What a request asked for that is not what is missing.
    wrong: Option<String>,
}

pub fn run(data: &[u8]) {
    let (length, rest) = input::byte(data);
    let (size, rest) = input::byte(rest);
    let (packet, rest) = input::byte(rest);
    WORLD.set(World {
        answers: rest.split(|b| *b == b'\n').take(ANSWERS).map(<[u8]>::to_vec).collect(),
        length: usize::from(length) * 5,
        packet: 1 + usize::from(packet) * 9,
        ..World::default()
    });
    let downloader =
        Downloader { http: HTTP.with(Http::clone), retries: 10, interval: Duration::ZERO, scale: 0.0 };
    let Ok(mut download) = downloader.open("http://storage.example/file?secret", None) else { return };
    let promised = download.content_length();
    let (mut all, mut buffer) = (Vec::new(), vec![0; 1 + usize::from(size) * 7]);
    let whole = loop {
        match download.read(&mut buffer) {
            Ok(0) => break true,
            Ok(n) => {
                all.extend_from_slice(&buffer[..n]);
                WORLD.with_borrow_mut(|world| world.delivered = all.len());
            }
            Err(e) => {
                assert!(!e.to_string().contains("secret"), "{e}");
                break false;
            }
        }
    };
    assert_eq!(download.read(&mut buffer).ok(), Some(0), "after the end, and after an error, nothing comes");
    WORLD.with_borrow(|world| assert_eq!(world.wrong, None));
    assert_eq!(download.content_length(), promised, "what was promised stays");
    if let Some(promised) = promised {
        assert!(all.len() as u64 <= promised, "more than the whole");
        assert!(!whole || all.len() as u64 == promised, "the end came too early");
    }
    if let Some(first) = all.first() {
        let version = (0..=255).find(|v| byte(*v, 0) == *first).expect("each version begins differently");
        let at = all.iter().enumerate().position(|(at, b)| *b != byte(version, at));
        assert_eq!(at, None, "a byte of {} in the wrong place", all.len());
    }
}

/// A byte of the file. Of each version every byte differs from those around it and from the same one of the others.
fn byte(version: u8, at: usize) -> u8 {
    (at as u8).wrapping_mul(7) ^ ((at >> 8) as u8).wrapping_mul(31) ^ version.wrapping_mul(101)
}

/// Which version of the file the storage has, and what it is called.
#[derive(Default)]
struct Version {
    number: u8,
    name: Option<u8>,
}

impl Version {
    /// An answer comes with this ETag; `whole` if it is not a part.
    fn named(&mut self, etag: &[u8], whole: bool) {
        let text =
            std::str::from_utf8(etag).ok().filter(|text| text.bytes().all(|b| (b' '..0x7f).contains(&b)));
        let name = text.and_then(|text| text.trim().strip_prefix('"')?.bytes().next());
        match (name, self.name) {
            (Some(name), Some(other)) if name != other => (self.number, self.name) = (name, Some(name)),
            (Some(name), _) => self.name = Some(name),
            (None, _) if whole => self.name = None,
            (None, _) => {}
        }
    }
}

/// One answer, whole, as it goes over the wire.
fn answer(line: &[u8], length: usize, version: &mut Version) -> Vec<u8> {
    let mut fields = line.split(|b| *b == b'|');
    let mut field = || fields.next().unwrap_or_default();
    let (status, range, etag, said, cut, more) = (field(), field(), field(), field(), field(), field());
    let text = String::from_utf8_lossy(range).into_owned();
    let start = if status.starts_with(b"206") { first_number(&text) } else { Some(0) };
    if let Some((start, total)) = content_range(&text) {
        assert!(start < total && text.trim().starts_with("bytes "));
        assert_eq!(Some(start), first_number(&text), "{text}");
    }
    version.named(etag, !status.starts_with(b"206"));
    let from = usize::try_from(start.unwrap_or(0)).unwrap_or(usize::MAX).min(length);
    let body: Vec<u8> = (from..length).map(|at| byte(version.number, at)).collect();
    let mut head = [b"HTTP/1.1 ", status, b" X\r\n"].concat();
    let right = body.len().to_string();
    for (name, value) in [
        ("Content-Range", range),
        ("ETag", etag),
        ("Content-Length", if said == b"*" { right.as_bytes() } else { said }),
    ] {
        if !value.is_empty() {
            head.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
    }
    let mut chunked = false;
    for line in more.split(|b| *b == b'^').filter(|line| !line.is_empty()) {
        let is = |name: &[u8]| line.len() >= name.len() && line[..name.len()].eq_ignore_ascii_case(name);
        if is(b"content-range") || is(b"etag") || (is(b"transfer-encoding") && line != CHUNKED) {
            continue; // said above; another framing is a lie about the bytes
        }
        chunked |= line == CHUNKED;
        head.extend_from_slice(&[line, b"\r\n"].concat());
    }
    head.extend_from_slice(b"\r\n");
    let cut = std::str::from_utf8(cut).ok().and_then(|n| n.parse().ok()).unwrap_or(usize::MAX);
    if chunked {
        let mut chunked = Vec::new();
        for chunk in body.chunks(100) {
            chunked.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            chunked.extend_from_slice(&[chunk, b"\r\n"].concat());
        }
        chunked.extend_from_slice(b"0\r\n\r\n");
        head.extend_from_slice(&chunked[..cut.min(chunked.len())]);
    } else {
        head.extend_from_slice(&body[..cut.min(body.len())]);
    }
    head
}

/// Where the bytes begin that a Content-Range names: its first number, however it is spelled.
fn first_number(text: &str) -> Option<u64> {
    let start = text.find(|c: char| c.is_ascii_digit())?;
    let digits: String = text[start..].chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[derive(Debug)]
struct Nowhere;

impl Resolver for Nowhere {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut addresses = self.empty();
        addresses.push(([127, 0, 0, 1], 1).into());
        Ok(addresses)
    }
}

/// Connections to the storage; when it has no answer left they are refused.
#[derive(Debug)]
struct Wire;

impl Connector for Wire {
    type Out = Line;

    fn connect(&self, _: &ConnectionDetails<'_>, _: Option<()>) -> Result<Option<Line>, ureq::Error> {
        WORLD.with_borrow_mut(|world| {
            let line = world.answers.pop_front();
            let line = line.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionRefused))?;
            let answer = answer(&line, world.length, &mut world.version);
            Ok(Some(Line { answer, at: 0, request: Vec::new(), buffers: LazyBuffers::new(BUFFER, BUFFER) }))
        })
    }
}

struct Line {
    answer: Vec<u8>,
    at: usize,
    request: Vec<u8>,
    buffers: LazyBuffers,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Line")
    }
}

impl Transport for Line {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), ureq::Error> {
        self.request.extend_from_slice(&self.buffers.output()[..amount]);
        Ok(())
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, ureq::Error> {
        WORLD.with_borrow_mut(|world| {
            if self.at == 0 {
                let request = String::from_utf8_lossy(&self.request).to_ascii_lowercase();
                let asked = request.lines().find_map(|line| line.strip_prefix("range: "));
                let wanted = Some(format!("bytes={}-", world.delivered)).filter(|_| world.delivered > 0);
                if asked != wanted.as_deref() {
                    world.wrong = Some(format!("{asked:?} instead of {wanted:?}"));
                }
            }
            let input = self.buffers.input_append_buf();
            let count = input.len().min(world.packet).min(self.answer.len() - self.at);
            input[..count].copy_from_slice(&self.answer[self.at..self.at + count]);
            self.at += count;
            self.buffers.input_appended(count);
            Ok(count > 0)
        })
    }

    fn is_open(&mut self) -> bool {
        false
    }
}
