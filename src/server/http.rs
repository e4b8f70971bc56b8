//! One HTTP request and its answer, within limits of time and memory; every error gets its words here.

use super::deployments::LogBody;
use super::floor::Floor;
use super::proxy::{Proxies, Proxy};
use super::tls::Trust;
use super::wire::{self, BUFFER, Dial, Dialer, Lookup};
use super::{Fault, Kind, url};
use crate::error::Error;
use crate::json;
use crate::sys::clock;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;
use ureq::http::{HeaderMap, HeaderValue, Request as HttpRequest, Response};
use ureq::{Agent, Body, SendBody};

/// Longest time that `Retry-After` is believed (SA-51).
const RETRY_AFTER_MOST: Duration = Duration::from_secs(24 * 3600);

/// How much of the body of a refusal is read.
const ERROR_BODY: u64 = 4 * 1024;

/// Time limits (SA-73).
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// TCP, and again TLS.
    pub connect: Duration,
    /// For the proxy's answer to CONNECT (SA-96).
    pub proxy: Duration,
    /// From the end of the request to the end of the head of the answer; also for sending the head.
    pub header: Duration,
    /// Between two pieces of a body, either way.
    pub idle: Duration,
    /// For the whole body of an API answer; downloads have no such limit.
    pub body: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        let seconds = Duration::from_secs;
        Limits {
            connect: seconds(30),
            proxy: seconds(60),
            header: seconds(60),
            idle: seconds(300),
            body: seconds(300),
        }
    }
}

/// What is sent.
pub(super) enum Payload<'a, 'b> {
    None,
    Json(&'a [u8]),
    Log(&'a mut LogBody<'b>),
}

impl<'b> Payload<'_, 'b> {
    /// The same, to be sent (again).
    pub(super) fn again(&mut self) -> Payload<'_, 'b> {
        match self {
            Payload::None => Payload::None,
            Payload::Json(bytes) => Payload::Json(bytes),
            Payload::Log(log) => Payload::Log(log),
        }
    }
}

/// An API request.
pub(super) struct Request<'a, 'b> {
    pub method: &'static str,
    pub url: &'a str,
    pub headers: &'a [(&'static str, &'a str)],
    pub body: Payload<'a, 'b>,
    pub limit: usize,
}

/// The answer to an API request.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
    retry_after: Option<Duration>,
    request_id: String,
}

impl Answer {
    /// This status is not what was hoped for.
    pub(super) fn refused(&self, what: &str) -> Fault {
        let (kind, code) = match self.status {
            401 => (Kind::Unauthorized, "SERVER-UNAUTHORIZED"),
            404 => (Kind::NotFound, "SERVER-NOT-FOUND"),
            409 => (Kind::Conflict, "SERVER-ABORTED"),
            413 => (Kind::TooLarge, "SERVER-TOO-LARGE"),
            429 | 503 => (Kind::Busy(self.retry_after), "SERVER-BUSY"),
            status => (Kind::Refused(status), "SERVER-REFUSED"),
        };
        let mut text = format!("{what}: the server answered {}", self.status);
        if let Some(said) = self.said() {
            text.push_str(&format!(": {said}"));
        }
        if let Kind::Busy(Some(wait)) = kind {
            text.push_str(&format!(" (try again in {} s)", wait.as_secs()));
        }
        if !self.request_id.is_empty() {
            text.push_str(&format!(" (request {})", self.request_id));
        }
        Fault::new(kind, code, text)
    }

    /// The server's own words: member `error` of a JSON body, else the text (SA-26).
    fn said(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.body);
        let parsed = json::parse(&text).ok();
        let error = parsed.as_ref().and_then(|v| json::get(v, "error")).and_then(json::string);
        let said = harmless(error.unwrap_or(&text).trim(), 300);
        (!said.is_empty()).then_some(said)
    }
}

/// Text from outside for a message: one line, no control characters, not too long.
pub(super) fn harmless(text: &str, most: usize) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(most).collect()
}

/// Sends requests.
#[derive(Clone)]
pub(super) struct Http {
    agent: Agent,
    dial: Arc<Dial>,
    proxies: Arc<Proxies>,
    limits: Limits,
    floor: Floor,
}

impl Http {
    pub(super) fn new(trust: Trust, proxies: Proxies, limits: Limits, floor: Floor) -> Http {
        let proxies = Arc::new(proxies);
        let dial = Arc::new(Dial::new(trust, proxies.clone(), limits));
        let agent = Agent::with_parts(Http::config(limits), Dialer(dial.clone()), Lookup(proxies.clone()));
        Http { agent, dial, proxies, limits, floor }
    }

    /// The same over connections that somebody else makes.
    #[cfg(any(test, fuzzing))]
    pub(super) fn over(
        connector: impl ureq::unversioned::transport::Connector,
        resolver: impl ureq::unversioned::resolver::Resolver,
    ) -> crate::error::Result<Http> {
        let (limits, floor, proxies) = (Limits::default(), Floor::new(None), Proxies::read(|_| None));
        let trust = Trust::new(&super::Settings::default(), floor.clone())?;
        let agent = Agent::with_parts(Http::config(limits), connector, resolver);
        Ok(Http { agent, ..Http::new(trust, proxies, limits, floor) })
    }

    fn config(limits: Limits) -> ureq::config::Config {
        Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .user_agent(concat!("thimble/", env!("CARGO_PKG_VERSION")))
            .accept("")
            .accept_encoding("") // A compressed download could not be resumed (SA-6).
            .max_response_header_size(BUFFER - 1024)
            .input_buffer_size(BUFFER)
            .output_buffer_size(BUFFER)
            .max_idle_connections(0)
            .max_idle_connections_per_host(0)
            .timeout_send_request(Some(limits.header))
            .timeout_recv_response(Some(limits.header))
            .timeout_per_read(Some(limits.idle))
            .timeout_per_write(Some(limits.idle))
            .build()
    }

    /// The proxy that a request to this address goes through.
    fn proxy(&self, address: &str) -> Option<&Proxy> {
        let uri = address.parse().ok()?;
        self.proxies.route(&uri).ok()?.map(|proxy| &**proxy)
    }

    /// What is being done, for messages.
    fn what(&self, method: &str, address: &str) -> String {
        let through = self.proxy(address).map_or(String::new(), |p| format!(" (through {})", p.shown));
        format!("{method} {}{through}", url::shown(address))
    }

    /// 407 to a plain request is the answer of the proxy; in a tunnel it would be that of the server.
    fn passed(&self, response: Response<Body>, address: &str, what: &str) -> Result<Response<Body>, Fault> {
        match self.proxy(address) {
            Some(proxy) if response.status() == 407 && address.starts_with("http://") => {
                Err(Fault { kind: Kind::Transport, error: proxy.wants_authentication().during(what) })
            }
            _ => Ok(response),
        }
    }

    /// An API request and its answer. `limit` bounds the body of a 2xx answer; more is an error.
    pub(super) fn send(&self, request: Request<'_, '_>) -> Result<Answer, Fault> {
        let what = self.what(request.method, request.url);
        let mut builder = HttpRequest::builder()
            .method(request.method)
            .uri(request.url)
            .header("Accept", "application/json")
            .header("Connection", "close");
        for (name, value) in request.headers {
            builder = builder.header(*name, secret(value, &what)?);
        }
        if !matches!(request.body, Payload::None) {
            builder = builder.header("Content-Type", "application/json");
        }
        let invalid =
            |e: ureq::http::Error| Fault::new(Kind::Protocol, "HTTP-REQUEST", format!("{what}: {e}"));
        let body_limit = Some(self.limits.body);
        let response = match request.body {
            Payload::None => {
                let request = builder.body(()).map_err(invalid)?;
                self.agent.run(self.agent.configure_request(request).timeout_recv_body(body_limit).build())
            }
            Payload::Json(bytes) => {
                let request = builder.body(bytes).map_err(invalid)?;
                self.agent.run(self.agent.configure_request(request).timeout_recv_body(body_limit).build())
            }
            Payload::Log(log) => {
                let mut reader = log.open().map_err(|e| {
                    Fault::new(Kind::Protocol, "LOG-READ", format!("{what}: cannot read the log: {e}"))
                })?;
                let builder = builder.header("Content-Length", log.length());
                let request = builder.body(SendBody::from_reader(&mut reader)).map_err(invalid)?;
                self.agent.run(self.agent.configure_request(request).timeout_recv_body(body_limit).build())
            }
        };
        let response = response.map_err(|e| fault(&e, &what))?;
        let response = self.passed(response, request.url, &what)?;
        self.note_time(&response, request.url);
        answer(response, request.limit, &what, self.now())
    }

    /// The time that dates of servers are judged by.
    pub(super) fn now(&self) -> u64 {
        self.floor.now()
    }

    /// The time in the answer of a server whom we trust may raise the clock floor.
    fn note_time(&self, response: &Response<Body>, address: &str) {
        let Some(date) = header(response.headers(), "date").filter(|_| address.starts_with("https://"))
        else {
            return;
        };
        let Ok(uri) = url::check(address) else { return };
        if let Some(date) = clock::http_date(date) {
            self.floor.heard(date, || self.dial.would_trust(&url::host_port(&uri).0, date));
        }
    }

    /// A request for a file: the head of the answer, and its body to be read.
    pub(super) fn get(
        &self,
        address: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Response<Body>, Fault> {
        let what = self.what("GET", address);
        let mut builder = HttpRequest::builder().method("GET").uri(address).header("Connection", "close");
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let request = builder
            .body(())
            .map_err(|e| Fault::new(Kind::Protocol, "HTTP-REQUEST", format!("{what}: {e}")))?;
        let response = self.agent.run(request).map_err(|e| fault(&e, &what))?;
        self.passed(response, address, &what)
    }
}

fn secret(value: &str, what: &str) -> Result<HeaderValue, Fault> {
    let mut value = HeaderValue::from_str(value)
        .map_err(|_| Fault::new(Kind::Protocol, "HTTP-REQUEST", format!("{what}: bad header value")))?;
    value.set_sensitive(true);
    Ok(value)
}

fn answer(response: Response<Body>, limit: usize, what: &str, now: u64) -> Result<Answer, Fault> {
    let status = response.status().as_u16();
    let retry_after = retry_after(response.headers(), now);
    let request_id =
        header(response.headers(), "x-men-requestid").map_or(String::new(), |id| harmless(id, 64));
    let mut body = Vec::new();
    let mut reader = response.into_body().into_reader();
    if !(200..300).contains(&status) {
        // Only for the message; what cannot be read is left out.
        let _ = reader.take(ERROR_BODY).read_to_end(&mut body);
    } else if limit > 0 && status != 204 {
        (&mut reader).take(limit as u64 + 1).read_to_end(&mut body).map_err(|e| io_fault(&e, what))?;
        if body.len() > limit {
            let text = format!("{what}: the answer is longer than {limit} bytes");
            return Err(Fault::new(Kind::Protocol, "SERVER-ANSWER", text));
        }
    }
    Ok(Answer { status, body, retry_after, request_id })
}

/// A header as text, if it is there and text.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|v| v.to_str().ok()).map(str::trim)
}

/// `Retry-After`: seconds, or a date; anything else is as if it were not there (SA-51).
pub(super) fn retry_after(headers: &HeaderMap, now: u64) -> Option<Duration> {
    let text = header(headers, "retry-after")?;
    let seconds = if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        text.parse().unwrap_or(u64::MAX)
    } else {
        clock::http_date(text)?.saturating_sub(now)
    };
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MOST))
}

/// What went wrong below or in HTTP.
pub(super) fn fault(e: &ureq::Error, what: &str) -> Fault {
    use ureq::Timeout;
    let transport =
        |code: &'static str, text: &str| Fault::new(Kind::Transport, code, format!("{what}: {text}"));
    match e {
        ureq::Error::Io(e) => io_fault(e, what),
        ureq::Error::Timeout(Timeout::Connect) => {
            transport("NET-TIMEOUT", "no connection within the time limit")
        }
        ureq::Error::Timeout(Timeout::RecvResponse) => {
            transport("NET-TIMEOUT", "no answer within the time limit")
        }
        ureq::Error::Timeout(Timeout::PerRead | Timeout::PerWrite) => {
            transport("NET-TIMEOUT", "the connection has gone silent")
        }
        ureq::Error::Timeout(_) => transport("NET-TIMEOUT", "the answer takes too long"),
        ureq::Error::HostNotFound => transport("NET-NAME", "the host name has no address"),
        ureq::Error::ConnectionFailed | ureq::Error::TlsRequired | ureq::Error::BodyStalled => {
            transport("NET-IO", &e.to_string())
        }
        ureq::Error::LargeResponseHeader(..) => {
            Fault::new(Kind::Protocol, "SERVER-ANSWER", format!("{what}: the head of the answer is too long"))
        }
        e => {
            Fault::new(Kind::Protocol, "SERVER-ANSWER", format!("{what}: {}", harmless(&e.to_string(), 300)))
        }
    }
}

/// The same for an error that came out of a reader.
pub(super) fn io_fault(e: &io::Error, what: &str) -> Fault {
    if let Some(own) = wire::own(e) {
        let kind = if own.code == wire::INTERRUPTED { Kind::Interrupted } else { Kind::Transport };
        let error: Error = own.clone();
        return Fault { kind, error: if kind == Kind::Interrupted { error } else { error.during(what) } };
    }
    if let Some(inner) = e.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>()) {
        return fault(inner, what);
    }
    let text = match e.kind() {
        io::ErrorKind::UnexpectedEof => "the server closed the connection too early".to_owned(),
        _ => format!("the connection broke: {e}"),
    };
    Fault::new(Kind::Transport, "NET-IO", format!("{what}: {text}"))
}

#[cfg(test)]
mod tests;
