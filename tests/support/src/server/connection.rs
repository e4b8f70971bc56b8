//! One connection: reads requests, asks the rules, has them answered, sends the answers as the rules want.

use super::http::{self, Incoming, Manner, Response, Wire};
use super::rules::{Act, What};
use super::state::Shared;
use super::{Request, api, download};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A connection whose bytes are counted, TLS and all.
struct Counted<'a> {
    stream: TcpStream,
    shared: &'a Shared,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.shared.received.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.stream.write(bytes)?;
        self.shared.sent.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Serves one connection to its end.
pub(super) fn serve(shared: &Shared, stream: TcpStream, tls: Option<Arc<ServerConfig>>) {
    let _ = stream.set_nodelay(true);
    let Ok(handle) = stream.try_clone() else { return };
    shared.connections.fetch_add(1, Ordering::Relaxed);
    let stream = Counted { stream, shared };
    let wire: Box<dyn Wire + '_> = match tls {
        None => Box::new(stream),
        Some(config) => {
            let session = ServerConnection::new(config).expect("a TLS session");
            Box::new(StreamOwned::new(session, stream))
        }
    };
    let mut wire = BufReader::new(wire);
    loop {
        match http::read_request(&mut wire) {
            Ok(Some(request)) => match answer(shared, &request, wire.get_mut()) {
                Ok(true) if shared.options.keep_alive && request.header("connection") != Some("close") => {}
                _ => break,
            },
            Ok(None) => break,
            Err(error) => {
                // A device that is killed in the middle of a request does nothing forbidden.
                // One that refuses our certificate neither.
                let tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
                if error.kind() == io::ErrorKind::InvalidData && !tls {
                    shared.change(|state| state.violations.push(format!("not HTTP: {error}")));
                }
                break;
            }
        }
    }
    let _ = handle.shutdown(Shutdown::Both);
}

/// Whether the connection may go on after this request.
fn answer(shared: &Shared, request: &Incoming, wire: &mut dyn Wire) -> io::Result<bool> {
    let what = api::what(&request.path);
    let status = (what == What::Status).then(|| api::status_in(&request.body)).flatten();
    let (number, act) = shared.change(|state| {
        state.requests.push(record(what, request));
        (state.requests.len() - 1, state.rules.choose(what, status.as_deref()))
    });

    let mut manner = Manner::default();
    let mut hang = false;
    match &act {
        Some(Act::DropConnection) => return Ok(false),
        Some(Act::Hang) => return Ok(!shared.pause(None)),
        Some(Act::DropAfter { bytes }) => manner.stop_after = Some(*bytes),
        Some(Act::HangAfter { bytes }) => (manner.stop_after, hang) = (Some(*bytes), true),
        Some(Act::Slow { bytes_per_second }) => manner.bytes_per_second = Some(*bytes_per_second),
        Some(Act::Corrupt { at }) => manner.corrupt_at = Some(*at),
        Some(Act::NoLength) => manner.chunked = true,
        _ => {}
    }
    let mut response = match &act {
        Some(Act::Respond { status, headers, body }) => {
            let mut response = Response::new(*status, "", body.clone());
            response.headers.clone_from(headers);
            response
        }
        Some(Act::Redirect(to)) => {
            let mut response = Response::empty(302);
            response.headers.push(("Location".to_owned(), to.replace("{url}", &shared.url)));
            response
        }
        _ if what == What::Artifact => download::answer(shared, request, act.as_ref()),
        _ => api::answer(shared, what, request),
    };
    if act == Some(Act::LoseResponse) {
        return Ok(false);
    }
    if !shared.options.keep_alive {
        response.headers.push(("Connection".to_owned(), "close".to_owned()));
    }
    shared.change(|state| state.requests[number].status = response.status);
    let whole = http::send(wire, response, &manner, request.method != "HEAD", |sent, pause| {
        shared.change(|state| state.requests[number].sent = sent);
        if pause > 0.0 && shared.pause(Some(Duration::from_secs_f64(pause))) {
            return Err(io::Error::other("the server stops"));
        }
        Ok(())
    })?;
    if hang {
        shared.pause(None);
    }
    Ok(whole)
}

fn record(what: What, request: &Incoming) -> Request {
    let Incoming { method, path, query, headers, body } = request.clone();
    Request { what, method, path, query, headers, body, arrived: Instant::now(), status: 0, sent: 0 }
}
