//! A connection to the bus. Nothing here waits for ever.

use crate::kernel;
use crate::wire::{Body, CALL, ERROR, Message, NO_REPLY, REPLY, SIGNAL};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::{Duration, Instant};
use thimble::error::{Error, Result};
use thimble::sys::signal::{self, For};

/// For the greeting, a reply of the bus itself, or the writing of one message.
const LIMIT: Duration = Duration::from_secs(10);

/// Where the system bus is if nothing else is said.
const USUAL: &str = "unix:path=/run/dbus/system_bus_socket;unix:path=/var/run/dbus/system_bus_socket";

/// The bus itself.
const BUS: (&str, &str) = ("org.freedesktop.DBus", "/org/freedesktop/DBus");

/// RequestName: let others take the name from us, and take it from whoever lets us.
const ALLOW_AND_REPLACE: u32 = 3;
/// Its answer when somebody does not let us: it is ours when they leave.
const IN_QUEUE: u32 = 2;

/// A connection to the bus.
pub struct Bus {
    stream: UnixStream,
    /// Came, and is no whole message yet.
    bytes: Vec<u8>,
    /// Came while the answer to something else was awaited.
    pending: VecDeque<Message>,
    serial: u32,
}

/// Something came.
pub enum Event {
    /// A call of a method.
    Call(Box<Message>),
    /// We own a name.
    Acquired(String),
    /// Somebody else owns it now.
    Lost(String),
}

/// What is sent back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// That it is done, and values.
    Good(Body),
    /// An error: its name and text.
    Error(&'static str, String),
}

fn lost(doing: &str, why: impl std::fmt::Display) -> Error {
    Error::new("DBUS-LOST", format!("{doing}: {why}"))
}

impl Bus {
    /// Connects to the system bus: that of the address, which is that of `DBUS_SYSTEM_BUS_ADDRESS`, else the usual one.
    ///
    /// # Errors
    /// `DBUS-ADDRESS`, `DBUS-CONNECT`, `DBUS-LOST`.
    pub fn connect(address: Option<&str>) -> Result<Bus> {
        let text = address.filter(|a| !a.is_empty()).unwrap_or(USUAL);
        let mut why = String::new();
        for address in addresses(text)? {
            match open(&address).and_then(greet) {
                Ok(stream) => {
                    let mut bus = Bus { stream, bytes: Vec::new(), pending: VecDeque::new(), serial: 0 };
                    bus.ask("Hello", Body::default())?;
                    return Ok(bus);
                }
                Err(e) => why += &format!("; {address:?}: {e}"),
            }
        }
        Err(Error::new("DBUS-CONNECT", format!("no system bus can be reached{why}")))
    }

    /// Becomes the owner of a name, taking it from an owner that lets us, and letting others take it from us; in the
    /// queue where the owner does not let us. Says whether it is ours now.
    ///
    /// # Errors
    /// `DBUS-NAME`: the bus does not let us. `DBUS-LOST`.
    pub fn own(&mut self, name: &str) -> Result<bool> {
        let answer = self.ask("RequestName", Body::default().text(name).natural(ALLOW_AND_REPLACE))?;
        if answer.kind == ERROR {
            let text = answer.body.texts().into_iter().next().unwrap_or(answer.error);
            let what = format!("the bus does not let us own {name}: {text}; is its policy file installed?");
            return Err(Error::new("DBUS-NAME", what));
        }
        Ok(answer.body.first_natural() != Some(IN_QUEUE))
    }

    /// To wait for with others: readable when something has come.
    pub fn descriptor(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    /// What has come, if anything; does not wait.
    ///
    /// # Errors
    /// `DBUS-LOST`.
    pub fn next(&mut self) -> Result<Option<Event>> {
        loop {
            let message = match self.pending.pop_front() {
                Some(message) => message,
                None => match self.receive()? {
                    Some(message) => message,
                    None => return Ok(None),
                },
            };
            if let Some(event) = event(message) {
                return Ok(Some(event));
            }
        }
    }

    /// Answers a call, unless its caller does not want to know.
    ///
    /// # Errors
    /// `DBUS-LOST`.
    pub fn answer(&mut self, call: &Message, answer: Answer) -> Result<()> {
        if call.flags & NO_REPLY != 0 {
            return Ok(());
        }
        let (kind, error, body) = match answer {
            Answer::Good(body) => (REPLY, "", body),
            Answer::Error(name, text) => (ERROR, name, Body::default().text(&text)),
        };
        let (answers, destination) = (call.serial, call.sender.clone());
        let message = Message { kind, error: error.into(), body, answers, destination, ..Message::default() };
        self.send(message).map(|_| ())
    }

    /// Sends a signal to everybody.
    ///
    /// # Errors
    /// `DBUS-LOST`.
    pub fn signal(&mut self, path: &str, interface: &str, member: &str, body: Body) -> Result<()> {
        let (path, interface, member) = (path.into(), interface.into(), member.into());
        self.send(Message { kind: SIGNAL, path, interface, member, body, ..Message::default() }).map(|_| ())
    }

    /// Asks the bus itself, and waits for the answer.
    fn ask(&mut self, member: &str, body: Body) -> Result<Message> {
        let (name, path) = BUS;
        let call = Message {
            kind: CALL,
            path: path.into(),
            interface: name.into(),
            member: member.into(),
            destination: name.into(),
            body,
            ..Message::default()
        };
        let serial = self.send(call)?;
        let end = Instant::now() + LIMIT;
        loop {
            match self.receive()? {
                Some(message) if message.answers == serial && [REPLY, ERROR].contains(&message.kind) => {
                    return Ok(message);
                }
                Some(message) => self.pending.push_back(message),
                None => wait(&self.stream, For::Reading, end).map_err(|e| lost("waiting for the bus", e))?,
            }
        }
    }

    fn receive(&mut self) -> Result<Option<Message>> {
        let mut buffer = [0; 16 << 10];
        loop {
            match Message::take(&mut self.bytes) {
                Ok(None) => {}
                Ok(message) => return Ok(message),
                Err(_) => return Err(lost("reading from the bus", "what came is no message")),
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(lost("reading from the bus", "it has hung up")),
                Ok(n) => self.bytes.extend(&buffer[..n]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(e) => return Err(lost("reading from the bus", e)),
            }
        }
    }

    fn send(&mut self, mut message: Message) -> Result<u32> {
        self.serial = self.serial.checked_add(1).unwrap_or(1);
        message.serial = self.serial;
        let end = Instant::now() + LIMIT;
        write(&self.stream, &message.encode(), end).map_err(|e| lost("writing to the bus", e))?;
        Ok(self.serial)
    }
}

/// Waits until the stream is ready; being told to end is an error, too.
fn wait(stream: &UnixStream, what: For, end: Instant) -> io::Result<()> {
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(ErrorKind::TimedOut, "it does not answer"));
        }
        if signal::terminate() {
            return Err(io::Error::new(ErrorKind::Interrupted, "told to end"));
        }
        if signal::poll(&[(stream.as_raw_fd(), what)], Some(left))?.contains(&true) {
            return Ok(());
        }
    }
}

fn write(mut stream: &UnixStream, mut bytes: &[u8], end: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(e) if e.kind() == ErrorKind::WouldBlock => wait(stream, For::Writing, end)?,
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Says who we are: the kernel vouches for it (EXTERNAL).
fn greet(stream: UnixStream) -> io::Result<UnixStream> {
    stream.set_nonblocking(true)?;
    let end = Instant::now() + LIMIT;
    let user: String = kernel::user().to_string().bytes().map(|digit| format!("{digit:02x}")).collect();
    write(&stream, format!("\0AUTH EXTERNAL {user}\r\n").as_bytes(), end)?;
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        match (&stream).read(&mut byte) {
            Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "it has hung up")),
            Ok(_) if line.len() < 1024 => line.push(byte[0]),
            Ok(_) => return Err(io::Error::other("this is no bus")),
            Err(e) if e.kind() == ErrorKind::WouldBlock => wait(&stream, For::Reading, end)?,
            Err(e) => return Err(e),
        }
    }
    if !line.starts_with(b"OK ") {
        let said = String::from_utf8_lossy(&line);
        return Err(io::Error::other(format!("it does not let us in: {}", said.trim_end().escape_debug())));
    }
    write(&stream, b"BEGIN\r\n", end)?;
    Ok(stream)
}

fn event(message: Message) -> Option<Event> {
    match message.kind {
        CALL => Some(Event::Call(Box::new(message))),
        SIGNAL if message.sender == BUS.0 => {
            let name = message.body.texts().into_iter().next().filter(|name| !name.starts_with(':'))?;
            match message.member.as_str() {
                "NameAcquired" => Some(Event::Acquired(name)),
                "NameLost" => Some(Event::Lost(name)),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Where a bus listens.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    Path(String),
    Abstract(String),
}

fn open(address: &Address) -> io::Result<UnixStream> {
    match address {
        Address::Path(path) => UnixStream::connect(path),
        Address::Abstract(name) => UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?),
    }
}

/// Reads `unix:path=/run/x;unix:abstract=y,guid=…`; other transports are left out.
fn addresses(text: &str) -> Result<Vec<Address>> {
    let found: Vec<Address> = text
        .split(';')
        .filter_map(|one| {
            one.strip_prefix("unix:")?.split(',').find_map(|pair| {
                let (key, value) = pair.split_once('=')?;
                match key {
                    "path" => unescape(value).map(Address::Path),
                    "abstract" => unescape(value).map(Address::Abstract),
                    _ => None,
                }
            })
        })
        .collect();
    if found.is_empty() {
        let what = format!("{text:?} has no address of the kind unix:path= or unix:abstract=");
        return Err(Error::new("DBUS-ADDRESS", what));
    }
    Ok(found)
}

/// `%2f` is a slash.
fn unescape(value: &str) -> Option<String> {
    let mut bytes = value.bytes();
    let mut plain = Vec::new();
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(plain).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let path = |p: &str| Address::Path(p.into());
        assert_eq!(addresses("unix:path=/run/bus,guid=ab").expect("good"), [path("/run/bus")]);
        assert_eq!(addresses("tcp:host=x;unix:guid=a,path=/a%20b").expect("good"), [path("/a b")]);
        assert_eq!(addresses("unix:abstract=x").expect("good"), [Address::Abstract("x".into())]);
        for bad in ["", "tcp:host=localhost", "unix:", "unix:path=%2", "unix:path=%zz", "/run/bus"] {
            assert!(addresses(bad).is_err(), "{bad}");
        }
    }
}
