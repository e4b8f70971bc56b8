//! An Artifact as a reader: when the connection breaks, or the link expires, it goes on where it was (SA-66..SA-72,
//! decision 14).

use super::http::{self, Http};
use super::link::{Link, Patience, Refresh, Renewal};
use super::{Client, Fault, Kind, url};
use std::fmt;
use std::io::{self, Read};
use std::time::Duration;
use ureq::http::{HeaderMap, Response};
use ureq::{Body, BodyReader};

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
#[path = "../../tests/fuzz/targets/range.rs"]
pub mod fuzz;

/// How many redirects are followed for one request (SA-68).
const REDIRECTS: usize = 10;

/// Begins downloads. Apart from the [`Client`], which [`Refresh`] may want to use meanwhile.
#[derive(Clone)]
pub struct Downloader {
    http: Http,
    retries: u32,
    interval: Duration,
    scale: f64,
}

impl fmt::Debug for Downloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Downloader with {} tries", self.retries)
    }
}

/// The bytes of an Artifact. Errors of [`Read`] tell the whole story; after one, nothing more comes.
pub struct Download {
    http: Http,
    link: Link,
    patience: Patience,
    body: Option<BodyReader<'static>>,
    /// Bytes delivered so far.
    offset: u64,
    /// Length of the whole file, if the server said.
    length: Option<u64>,
    /// The first strong `ETag`: the file must not change under our hands (SA-72).
    etag: Option<String>,
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Download of {} at {} of {:?}", url::shown(&self.link.uri), self.offset, self.length)
    }
}

impl Client {
    /// Begins to download what has no other link: see [`Downloader::open`].
    pub fn download(&self, uri: &str) -> Result<Download, Fault> {
        self.downloader().open(uri, None)
    }

    /// Begins downloads without needing the client any more.
    pub fn downloader(&self) -> Downloader {
        Downloader {
            http: self.http.clone(),
            retries: self.settings.download_retries,
            interval: self.settings.download_interval,
            scale: self.settings.time_scale,
        }
    }
}

impl Downloader {
    /// Begins to download; no token goes to the storage (SA-66). A first request that fails is tried again like a
    /// connection that breaks, unless the storage clearly says no (4xx) and `refresh` has no other link.
    pub fn open(&self, uri: &str, refresh: Option<Refresh>) -> Result<Download, Fault> {
        let mut download = Download {
            http: self.http.clone(),
            link: Link::new(uri, refresh)?,
            patience: Patience::new(self.retries, self.interval, self.scale),
            body: None,
            offset: 0,
            length: None,
            etag: None,
        };
        loop {
            let fault = match download.again() {
                Ok(body) => {
                    download.body = Some(body);
                    return Ok(download);
                }
                Err(fault) => fault,
            };
            match download.renew(&fault)? {
                Renewal::Fresh => {}
                Renewal::Useless if is_final(fault.kind) => return Err(fault),
                Renewal::Useless | Renewal::Later => download.patience.next(fault)?,
            }
        }
    }
}

/// Whether asking the same again is pointless for a first request.
fn is_final(kind: Kind) -> bool {
    match kind {
        Kind::Refused(status) => status < 500 && !matches!(status, 408 | 425),
        Kind::Unauthorized | Kind::Conflict | Kind::NotFound | Kind::TooLarge => true,
        Kind::Protocol | Kind::Interrupted => true,
        Kind::Transport | Kind::Busy(_) => false,
    }
}

/// Gets a file; redirects are followed (SA-68).
fn get(http: &Http, uri: &str, headers: &[(&'static str, &str)]) -> Result<Response<Body>, Fault> {
    let mut address = uri.to_owned();
    for _ in 0..=REDIRECTS {
        let response = http.get(&address, headers)?;
        if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
            return Ok(response);
        }
        let location = http::header(response.headers(), "location").unwrap_or_default();
        address = url::resolve(&address, location).map_err(|why| {
            Fault::new(Kind::Protocol, "DOWNLOAD-REDIRECT", format!("GET {}: {why}", url::shown(&address)))
        })?;
        crate::debug!("redirected to {}", url::shown(&address));
    }
    let text = format!("GET {}: more than {REDIRECTS} redirects", url::shown(uri));
    Err(Fault::new(Kind::Protocol, "DOWNLOAD-REDIRECT", text))
}

fn unwanted(response: &Response<Body>, uri: &str, now: u64) -> Fault {
    let status = response.status().as_u16();
    let kind = match status {
        401 => Kind::Unauthorized,
        404 => Kind::NotFound,
        409 => Kind::Conflict,
        413 => Kind::TooLarge,
        429 | 503 => Kind::Busy(http::retry_after(response.headers(), now)),
        status => Kind::Refused(status),
    };
    let hint = if matches!(status, 401 | 403) { " (has the link expired?)" } else { "" };
    let text = format!("GET {}: the storage answered {status}{hint}", url::shown(uri));
    Fault::new(kind, "DOWNLOAD-REFUSED", text)
}

fn strong_etag(headers: &HeaderMap) -> Option<String> {
    http::header(headers, "etag").filter(|e| e.len() > 1 && e.starts_with('"')).map(str::to_owned)
}

impl Download {
    /// Length of the whole Artifact, if the server said.
    pub fn content_length(&self) -> Option<u64> {
        self.length
    }

    fn renew(&mut self, fault: &Fault) -> Result<Renewal, Fault> {
        self.link.renew(fault, self.patience.tries())
    }

    /// Asks for the rest until it comes or patience is exhausted.
    fn resume(&mut self, mut fault: Fault) -> Result<(), Fault> {
        if self.offset > 0 && self.length.is_none() {
            if fault.kind != Kind::Interrupted {
                fault.error.text.push_str(" (the server did not say how long the file is: cannot go on)");
            }
            return Err(fault);
        }
        loop {
            if self.renew(&fault)? != Renewal::Fresh {
                self.patience.next(fault)?;
            }
            let body = match self.length {
                Some(length) if self.offset > 0 => self.rest(length),
                _ => self.again(),
            };
            match body {
                Ok(body) => {
                    log::info!("download goes on at byte {}", self.offset);
                    self.body = Some(body);
                    return Ok(());
                }
                Err(f) => fault = f,
            }
        }
    }

    /// The whole file: nothing has been delivered yet.
    fn again(&mut self) -> Result<BodyReader<'static>, Fault> {
        let response = get(&self.http, &self.link.uri, &[])?;
        if response.status() != 200 {
            return Err(unwanted(&response, &self.link.uri, self.http.now()));
        }
        let length = response.body().content_length();
        if self.length.is_some() && length != self.length {
            // The length may have been told to the caller already.
            return Err(self.unfit("the length of the file has changed".into()));
        }
        self.length = length;
        self.etag = strong_etag(response.headers());
        Ok(response.into_body().into_reader())
    }

    fn unfit(&self, why: String) -> Fault {
        let text = format!("GET {}: {why}: the parts would not fit together", url::shown(&self.link.uri));
        Fault::new(Kind::Protocol, "DOWNLOAD-RANGE", text)
    }

    /// One request for the rest; only an answer that fits exactly is taken (SA-69, SA-72).
    fn rest(&self, length: u64) -> Result<BodyReader<'static>, Fault> {
        let range = format!("bytes={}-", self.offset);
        let mut headers = vec![("Range", range.as_str())];
        if let Some(etag) = &self.etag {
            headers.push(("If-Range", etag));
        }
        let response = get(&self.http, &self.link.uri, &headers)?;
        if response.status() != 206 {
            return Err(unwanted(&response, &self.link.uri, self.http.now()));
        }
        let said = http::header(response.headers(), "content-range").unwrap_or_default();
        let Some((start, total)) = content_range(said) else {
            return Err(self.unfit(format!("unusable Content-Range `{}`", http::harmless(said, 80))));
        };
        if total != length {
            return Err(self.unfit(format!("the file had {length} bytes and has {total} now")));
        }
        if start > self.offset {
            return Err(self.unfit(format!("asked for byte {}, got {start}", self.offset)));
        }
        if self.etag.is_some() && strong_etag(response.headers()).is_some_and(|e| Some(e) != self.etag) {
            return Err(self.unfit("the file has changed (ETag)".into()));
        }
        let mut body = response.into_body().into_reader();
        skip(&mut body, self.offset - start)
            .map_err(|e| http::io_fault(&e, &format!("GET {}", url::shown(&self.link.uri))))?;
        Ok(body)
    }
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let Some(body) = &mut self.body else { return Ok(0) };
            // Never more than the whole, whatever the framing of a later part says.
            let left = self.length.map_or(u64::MAX, |l| l.saturating_sub(self.offset));
            if left == 0 {
                self.body = None;
                return Ok(0);
            }
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let what = || format!("GET {}", url::shown(&self.link.uri));
            let fault = match body.read(&mut buffer[..most]) {
                Ok(0) if self.length.is_some_and(|l| self.offset < l) => {
                    let text = format!("{}: ended after {} bytes", what(), self.offset);
                    Fault::new(Kind::Transport, "NET-IO", text)
                }
                Ok(n) => {
                    self.offset += n as u64;
                    if n == 0 {
                        self.body = None;
                    }
                    return Ok(n);
                }
                Err(e) => http::io_fault(&e, &what()),
            };
            self.body = None;
            if let Err(fault) = self.resume(fault) {
                return Err(io::Error::other(fault.error));
            }
        }
    }
}

fn skip(body: &mut impl Read, count: u64) -> io::Result<()> {
    let skipped = io::copy(&mut body.take(count), &mut io::sink())?;
    if skipped < count { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

/// START and TOTAL of `bytes START-END/TOTAL`; nothing else is usable.
fn content_range(text: &str) -> Option<(u64, u64)> {
    let rest = text.trim().strip_prefix("bytes")?.strip_prefix(' ')?;
    let (range, total) = rest.split_once('/')?;
    let (start, end) = range.split_once('-')?;
    let number = |text: &str| {
        let text = text.trim();
        text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok())?
    };
    let (start, end, total) = (number(start)?, number(end)?, number(total)?);
    (start <= end && end < total).then_some((start, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_complete_content_range_is_usable() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, 10)));
        assert_eq!(content_range("bytes  5 - 9 / 10 "), Some((5, 10)));
        for bad in [
            "",
            "bytes",
            "bytes */10",
            "bytes 5-9/*",
            "bytes 5-9",
            "bytes 9-5/10",
            "bytes 5-10/10",
            "bytes -5-9/10",
            "bytes +5-9/10",
            "bytes=5-9/10",
            "items 5-9/10",
            "bytes 5-9/99999999999999999999999",
            "bytes a-b/c",
        ] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }

    #[test]
    fn weak_etags_are_not_relied_on() {
        let etag = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("etag", ureq::http::HeaderValue::from_static(text));
            strong_etag(&headers)
        };
        assert_eq!(etag("\"a\""), Some("\"a\"".into()));
        assert_eq!(etag("W/\"a\""), None);
        assert_eq!(etag("a"), None);
    }

    #[test]
    fn a_first_answer_that_says_no_is_not_asked_for_again() {
        for (kind, is) in [
            (Kind::Refused(403), true),
            (Kind::NotFound, true),
            (Kind::Protocol, true),
            (Kind::Refused(500), false),
            (Kind::Refused(408), false),
            (Kind::Busy(None), false),
            (Kind::Transport, false),
        ] {
            assert_eq!(is_final(kind), is, "{kind:?}");
        }
    }
}
