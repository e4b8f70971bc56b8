//! The connection below HTTP: name look-up, TCP, TLS records. Every wait ends when SIGTERM comes. No thread.
//!
//! ureq calls this through its transport traits. Its own resolver starts a thread, and its own sockets cannot
//! see a signal; so both are replaced.

use super::http::Limits;
use super::proxy::{Proxies, Proxy};
use super::tls::{self, Session, Trust};
use super::{tunnel, url};
use crate::error::Error;
use crate::sys::net;
use crate::sys::signal::{self, For};
use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::AsRawFd;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

/// The code of an error that only says that SIGTERM came.
pub(super) const INTERRUPTED: &str = "INTERRUPTED";

/// Size of the input and of the output buffer; also the largest head of an answer.
pub(super) const BUFFER: usize = 16 * 1024;

/// How much of a request waits for the rest of it.
const HELD: usize = 4 * 1024;

pub(super) fn interrupted() -> Error {
    Error::new(INTERRUPTED, "told to end while talking to the server")
}

/// Looks names up by the plain blocking call. What goes through a proxy is looked up by that.
#[derive(Debug)]
pub(super) struct Lookup(pub Arc<Proxies>);

impl Resolver for Lookup {
    fn resolve(
        &self,
        uri: &Uri,
        _: &Config,
        _: NextTimeout,
    ) -> std::result::Result<ResolvedSocketAddrs, ureq::Error> {
        let (host, port, what) = match self.0.route(uri).map_err(io::Error::other)? {
            Some(proxy) => (proxy.host.clone(), proxy.port, "the proxy "),
            None => {
                let (host, port) = url::host_port(uri);
                (host, port, "")
            }
        };
        let found = (host.as_str(), port).to_socket_addrs().map_err(|e| {
            let text = format!("cannot find the address of {what}`{host}`: {e}. {}", dns());
            io::Error::other(Error::new("NET-NAME", text))
        })?;
        let mut addresses = self.empty();
        for address in found.take(16) {
            addresses.push(address);
        }
        if addresses.is_empty() { Err(ureq::Error::HostNotFound) } else { Ok(addresses) }
    }
}

/// What to do about a name that is not found. The resolver of libc reads that file itself, without a word if it is not
/// there.
fn dns() -> &'static str {
    match std::fs::read("/etc/resolv.conf") {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            "There is no /etc/resolv.conf: name a DNS server there (`nameserver ADDRESS`), or this host in /etc/hosts"
        }
        Ok(text)
            if !text
                .split(|b| *b == b'\n')
                .any(|line| line.trim_ascii_start().starts_with(b"nameserver")) =>
        {
            "/etc/resolv.conf names no DNS server: add `nameserver ADDRESS`, or this host to /etc/hosts"
        }
        _ => "Is the network up, does the DNS server in /etc/resolv.conf answer?",
    }
}

/// Makes connections: TCP, through a proxy if need be, and TLS on top for https.
pub(super) struct Dial {
    trust: Trust,
    proxies: Arc<Proxies>,
    tls: OnceLock<Arc<tls::Config>>,
    limits: Limits,
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dial")
    }
}

impl Dial {
    pub(super) fn new(trust: Trust, proxies: Arc<Proxies>, limits: Limits) -> Dial {
        Dial { trust, proxies, tls: OnceLock::new(), limits }
    }

    /// The CA bundle is read only when the first https connection is made.
    fn tls(&self) -> io::Result<Arc<tls::Config>> {
        if let Some(config) = self.tls.get() {
            return Ok(config.clone());
        }
        let config = Arc::new(self.trust.config().map_err(io::Error::other)?);
        Ok(self.tls.get_or_init(|| config).clone())
    }

    /// Whether the certificates that this host has proved itself by would be good at that time, too.
    pub(super) fn would_trust(&self, host: &str, seconds: u64) -> bool {
        self.tls.get().is_some_and(|config| config.would_trust(host, seconds))
    }

    fn tcp(&self, what: &str, addresses: &[SocketAddr]) -> io::Result<Socket> {
        let end = Instant::now() + self.limits.connect;
        let mut story = Vec::new();
        for (i, address) in addresses.iter().enumerate() {
            // Each address gets its share of what is left, so that a dead IPv6 route does not use up everything.
            let left = end.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(addresses.len() - i).unwrap_or(1);
            match Socket::open(address, share) {
                Ok(socket) => return Ok(socket),
                Err(e) if is_interrupted(&e) => return Err(e),
                Err(e) => story.push(format!("{address}: {}", plain(&e))),
            }
        }
        let text = format!("cannot connect to {what} ({})", story.join("; "));
        Err(io::Error::other(Error::new("NET-CONNECT", text)))
    }
}

/// The same, for ureq to own.
#[derive(Debug)]
pub(super) struct Dialer(pub Arc<Dial>);

impl Connector for Dialer {
    type Out = Line;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> std::result::Result<Option<Line>, ureq::Error> {
        let (host, port) = url::host_port(details.uri);
        let Dialer(dial) = self;
        let proxy = dial.proxies.route(details.uri).map_err(io::Error::other)?;
        let config = if details.needs_tls() { Some(dial.tls()?) } else { None };
        let what = match proxy {
            Some(proxy) => format!("the proxy {}", proxy.shown),
            None => format!("`{host}`"),
        };
        let mut socket = dial.tcp(&what, &details.addrs)?;
        let mut plain_proxy = None;
        let tls = match config {
            None => {
                let origin = details.uri.authority().map_or(host.as_str(), |a| a.as_str());
                plain_proxy = proxy.map(|p| (p.clone(), origin.to_owned()));
                None
            }
            Some(config) => {
                if let Some(proxy) = proxy {
                    socket.limit(Some(dial.limits.proxy), ureq::Timeout::Connect);
                    tunnel::open(&mut socket, proxy, &host, port)?;
                }
                socket.limit(Some(dial.limits.connect), ureq::Timeout::Connect);
                Some(Session::open(&config, &host, &mut socket)?)
            }
        };
        let way = Way { socket, tls, plain_proxy, host, held: Vec::new() };
        Ok(Some(Line { way, buffers: LazyBuffers::new(BUFFER, BUFFER) }))
    }
}

/// One connection. Never kept for a second request: between polls nothing may cost memory, and a TLS session is
/// resumed cheaply.
pub(super) struct Line {
    way: Way,
    buffers: LazyBuffers,
}

/// How bytes get to the server.
struct Way {
    socket: Socket,
    tls: Option<Session>,
    /// A proxy that still has to be told the whole address, and the server in it.
    plain_proxy: Option<(Arc<Proxy>, String)>,
    host: String,
    /// What waits to be sent with what comes after it: head and body of a small request are one write.
    held: Vec<u8>,
}

impl Way {
    /// Sends what is held, then this.
    fn send(&mut self, output: &[u8]) -> io::Result<()> {
        let held = std::mem::take(&mut self.held);
        if let Some((proxy, origin)) = self.plain_proxy.take() {
            return self.socket.write_all(&tunnel::whole_address(
                &[&held, output].concat(),
                &origin,
                &proxy,
            )?);
        }
        let Some(tls) = &mut self.tls else {
            self.socket.write_all(&held)?;
            return self.socket.write_all(output);
        };
        tls.write_all(&mut self.socket, [&held, output], &self.host)
    }

    fn receive(&mut self, input: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.socket.read(input),
            Some(tls) => tls.read(&mut self.socket, input, &self.host),
        }
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Line to {}", self.way.host)
    }
}

impl Transport for Line {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let timeout = timeout.for_write();
        self.way.socket.limit(exact(timeout), timeout.reason);
        let output = &self.buffers.output()[..amount];
        if self.way.held.len() + output.len() <= HELD {
            self.way.held.extend_from_slice(output);
            return Ok(());
        }
        Ok(self.way.send(output)?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let timeout = timeout.for_read();
        self.way.socket.limit(exact(timeout), timeout.reason);
        if !self.way.held.is_empty() {
            self.way.send(&[])?;
        }
        let count = self.way.receive(self.buffers.input_append_buf())?;
        self.buffers.input_appended(count);
        Ok(count > 0)
    }

    fn is_open(&mut self) -> bool {
        false
    }

    fn is_tls(&self) -> bool {
        self.way.tls.is_some()
    }
}

fn exact(timeout: NextTimeout) -> Option<Duration> {
    if timeout.after.is_not_happening() { None } else { Some(*timeout.after) }
}

/// A socket that does not block, with the waiting done here.
struct Socket {
    stream: TcpStream,
    end: Option<Instant>,
    reason: ureq::Timeout,
    /// The other side takes no more. What it said before that (413, say) can still be read.
    deaf: bool,
}

impl Socket {
    fn open(address: &SocketAddr, limit: Duration) -> io::Result<Socket> {
        let stream = net::connect(address)?;
        let mut socket = Socket { stream, end: None, reason: ureq::Timeout::Connect, deaf: false };
        socket.limit(Some(limit), ureq::Timeout::Connect);
        socket.wait(For::Writing)?;
        if let Some(e) = socket.stream.take_error()? {
            return Err(e);
        }
        Ok(socket)
    }

    fn limit(&mut self, time: Option<Duration>, reason: ureq::Timeout) {
        self.end = time.and_then(|t| Instant::now().checked_add(t));
        self.reason = reason;
    }

    fn wait(&mut self, what: For) -> io::Result<()> {
        loop {
            if signal::terminate() {
                return Err(io::Error::other(interrupted()));
            }
            let left = self.end.map(|end| end.saturating_duration_since(Instant::now()));
            if left.is_some_and(|l| l.is_zero()) {
                return Err(ureq::Error::Timeout(self.reason).into_io());
            }
            if signal::poll(&[(self.stream.as_raw_fd(), what)], left)?.contains(&true) {
                return Ok(());
            }
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.wait(For::Reading)?;
            match self.stream.read(buffer) {
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                other => return other,
            }
        }
    }
}

impl Socket {
    /// Writes if there is room, else waits for it.
    fn put(
        &mut self,
        length: usize,
        mut write: impl FnMut(&mut TcpStream) -> io::Result<usize>,
    ) -> io::Result<usize> {
        while !self.deaf {
            match write(&mut self.stream) {
                Err(e) => match e.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => self.wait(For::Writing)?,
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => self.deaf = true,
                    _ => return Err(e),
                },
                done => return done,
            }
        }
        Ok(length)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.put(bytes.len(), |stream| stream.write(bytes))
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let length = parts.iter().map(|part| part.len()).sum();
        self.put(length, |stream| stream.write_vectored(parts))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Our own error inside an I/O error, if it is one.
pub(super) fn own(e: &io::Error) -> Option<&Error> {
    e.get_ref()?.downcast_ref()
}

fn is_interrupted(e: &io::Error) -> bool {
    own(e).is_some_and(|e| e.code == INTERRUPTED)
}

fn plain(e: &io::Error) -> String {
    match e.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>()) {
        Some(ureq::Error::Timeout(_)) => "no answer".into(),
        _ => e.to_string(),
    }
}
