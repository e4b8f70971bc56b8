//! The bus: the only module that knows rustbus.
//!
//! What rustbus 0.19 does not do well is made good here: answers that are errors get the type of errors, a bus that
//! hangs up during the greeting ends the program instead of keeping it busy, and no write is waited for for ever.

use nix::sys::socket::UnixAddr;
use rustbus::connection::ll_conn::DuplexConn;
use rustbus::connection::{Error as Fault, Timeout};
use rustbus::message_builder::{HeaderFlags, MarshalledMessage};
use rustbus::{MessageBuilder, MessageType, standard_messages};
use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;
use thimble::error::{Error, Result};

/// For a greeting, a reply of the bus itself, or the writing of one message.
const LIMIT: Duration = Duration::from_secs(10);

/// Where the system bus is where nothing else is said.
const USUAL: [&str; 2] = ["/run/dbus/system_bus_socket", "/var/run/dbus/system_bus_socket"];

/// A connection to the bus.
pub struct Bus {
    connection: DuplexConn,
    /// Came while the answer to something else was awaited.
    pending: VecDeque<MarshalledMessage>,
}

/// Something came.
pub enum Event {
    /// A call of a method.
    Call(Box<Call>),
    /// We own a name.
    Acquired(String),
    /// Somebody else owns it now.
    Lost(String),
}

/// A call of a method.
pub struct Call {
    message: MarshalledMessage,
    /// The arguments that are texts, up to the first that is none.
    pub texts: Vec<String>,
}

/// What is sent back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Nothing but that it is done.
    Done,
    /// `s`
    Text(String),
    /// `ss`
    Texts(String, String),
    /// `i`
    Number(i32),
    /// `b`
    Truth(bool),
    /// `a{sv}` with nothing in it.
    NoProperties,
    /// An error: its name and text.
    Error(&'static str, String),
}

impl Call {
    /// The object.
    pub fn path(&self) -> &str {
        self.message.dynheader.object.as_deref().unwrap_or_default()
    }

    /// The interface, if the caller names one.
    pub fn interface(&self) -> Option<&str> {
        self.message.dynheader.interface.as_deref()
    }

    /// The method.
    pub fn member(&self) -> &str {
        self.message.dynheader.member.as_deref().unwrap_or_default()
    }

    /// The types of its arguments.
    pub fn signature(&self) -> &str {
        self.message.get_sig()
    }
}

fn lost(doing: &str, fault: &Fault) -> Error {
    Error::new("DBUS-LOST", format!("{doing}: {fault}"))
}

impl Bus {
    /// Connects to the system bus: that of `DBUS_SYSTEM_BUS_ADDRESS`, else the usual one.
    ///
    /// # Errors
    /// `DBUS-ADDRESS`, `DBUS-CONNECT`, `DBUS-LOST`.
    pub fn connect(address: Option<&str>) -> Result<Bus> {
        let address = match address.filter(|a| !a.is_empty()) {
            Some(text) => addresses(text)?,
            None => USUAL.map(|path| Address::Path(path.into())).into(),
        };
        let mut why = String::new();
        for one in &address {
            let opened = match one {
                Address::Path(path) => UnixAddr::new(path.as_bytes()),
                Address::Abstract(name) => UnixAddr::new_abstract(name.as_bytes()),
            };
            // A bus that hangs up in the middle of the greeting keeps rustbus busy for ever: SIGALRM would end us.
            nix::unistd::alarm::set(LIMIT.as_secs() as u32);
            let connected = opened.map_err(Fault::from).and_then(|a| DuplexConn::connect_to_bus(a, false));
            let greeted = connected.and_then(|mut connection| {
                connection.send_hello(Timeout::Duration(LIMIT))?;
                Ok(connection)
            });
            nix::unistd::alarm::cancel();
            match greeted {
                Ok(connection) => return Ok(Bus { connection, pending: VecDeque::new() }),
                Err(e) => why += &format!("; {one:?}: {e}"),
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
        let flags = standard_messages::DBUS_NAME_FLAG_ALLOW_REPLACEMENT
            | standard_messages::DBUS_NAME_FLAG_REPLACE_EXISTING;
        let serial = self.send(&standard_messages::request_name(name, flags))?;
        loop {
            let message = self.connection.recv.get_next_message(Timeout::Duration(LIMIT));
            let message = message.map_err(|e| lost("waiting for the bus", &e))?;
            if message.dynheader.response_serial != Some(serial) {
                self.pending.push_back(message);
                continue;
            }
            if message.typ == MessageType::Error {
                let text = message.body.parser().get::<String>().unwrap_or_default();
                let what =
                    format!("the bus does not let us own {name}: {text}; is its policy file installed?");
                return Err(Error::new("DBUS-NAME", what));
            }
            let code = message.body.parser().get::<u32>().unwrap_or_default();
            return Ok(code != standard_messages::DBUS_REQUEST_NAME_REPLY_IN_QUEUE);
        }
    }

    /// To wait for with others: readable when something has come.
    pub fn descriptor(&self) -> RawFd {
        self.connection.as_raw_fd()
    }

    /// What has come, if anything; does not wait.
    ///
    /// # Errors
    /// `DBUS-LOST`.
    pub fn next(&mut self) -> Result<Option<Event>> {
        loop {
            let message = match self.pending.pop_front() {
                Some(message) => message,
                None => match self.connection.recv.get_next_message(Timeout::Nonblock) {
                    Ok(message) => message,
                    Err(Fault::TimedOut) => return Ok(None),
                    Err(e) => return Err(lost("the bus is gone", &e)),
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
    pub fn answer(&mut self, call: &Call, answer: Answer) -> Result<()> {
        if call.message.flags & HeaderFlags::NoReplyExpected.into_raw() != 0 {
            return Ok(());
        }
        let header = &call.message.dynheader;
        let reply = match answer {
            Answer::Error(name, text) => {
                let mut error = header.make_error_response(name, Some(clean(text)));
                error.typ = MessageType::Error; // rustbus says that it is an ordinary answer
                Ok(error)
            }
            good => {
                let mut reply = header.make_response();
                let body = &mut reply.body;
                let pushed = match good {
                    Answer::Done | Answer::Error(..) => Ok(()),
                    Answer::Text(text) => body.push_param(clean(text)),
                    Answer::Texts(one, two) => body.push_param2(clean(one), clean(two)),
                    Answer::Number(number) => body.push_param(number),
                    Answer::Truth(truth) => body.push_param(truth),
                    Answer::NoProperties => {
                        body.push_param(HashMap::<String, rustbus::wire::ObjectPath<&str>>::new())
                    }
                };
                pushed.map(|()| reply)
            }
        };
        let reply = reply.map_err(|e| lost("making an answer", &Fault::from(e)))?;
        self.send(&reply).map(|_| ())
    }

    /// Sends a signal with two texts to everybody.
    ///
    /// # Errors
    /// `DBUS-LOST`.
    pub fn signal(&mut self, path: &str, interface: &str, member: &str, one: &str, two: &str) -> Result<()> {
        let mut signal = MessageBuilder::new().signal(interface, member, path).build();
        let pushed = signal.body.push_param2(clean(one.to_owned()), clean(two.to_owned()));
        pushed.map_err(|e| lost("making a signal", &Fault::from(e)))?;
        self.send(&signal).map(|_| ())
    }

    fn send(&mut self, message: &MarshalledMessage) -> Result<u32> {
        let context =
            self.connection.send.send_message(message).map_err(|e| lost("sending to the bus", &e))?;
        context.write(Timeout::Duration(LIMIT)).map_err(|(context, e)| {
            context.force_finish(); // or its end would be a panic
            lost("sending to the bus", &e)
        })
    }
}

/// The texts of D-Bus have no zero bytes.
fn clean(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "") } else { text }
}

fn event(message: MarshalledMessage) -> Option<Event> {
    match message.typ {
        MessageType::Call => {
            let mut parser = message.body.parser();
            let mut texts = Vec::new();
            while parser.get_next_sig() == Some("s")
                && let Ok(text) = parser.get::<String>()
            {
                texts.push(text);
            }
            Some(Event::Call(Box::new(Call { message, texts })))
        }
        MessageType::Signal if message.dynheader.sender.as_deref() == Some("org.freedesktop.DBus") => {
            let name = || message.body.parser().get::<String>().ok().filter(|name| !name.starts_with(':'));
            match message.dynheader.member.as_deref() {
                Some("NameAcquired") => name().map(Event::Acquired),
                Some("NameLost") => name().map(Event::Lost),
                _ => None,
            }
        }
        MessageType::Signal | MessageType::Reply | MessageType::Error | MessageType::Invalid => None,
    }
}

/// Where a bus listens.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    Path(String),
    Abstract(String),
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
