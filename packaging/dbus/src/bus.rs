//! A connection to the bus, by libdbus through the crate `dbus`; nothing of it is seen elsewhere. No wait here is
//! without a limit.

use crate::interface::{Answer, Call};
use dbus::arg::{ArgType, PropMap};
use dbus::channel::{BusType, Channel};
use dbus::strings::ErrorName;
use dbus::{Message, MessageType};
use std::ffi::CString;
use std::os::fd::RawFd;
use std::time::Duration;
use thimble::error::{Error, Result};
use thimble::sys::signal::For;

/// For an answer of the bus itself. Its greeting libdbus gives 25 s.
const LIMIT: Duration = Duration::from_secs(10);

/// The bus itself: name and interface, path.
const BUS: (&str, &str) = ("org.freedesktop.DBus", "/org/freedesktop/DBus");

/// RequestName: let others take the name from us, and take it from whoever lets us.
const ALLOW_AND_REPLACE: u32 = 3;
/// Its answer when somebody does not let us: it is ours when they leave.
const IN_QUEUE: u32 = 2;

/// Most arguments of a call that are looked at: one more than any method here takes.
const ARGUMENTS: usize = 4;

/// A connection to the bus.
pub struct Bus(Channel);

/// Something came.
pub enum Event {
    /// A call of a method, and what to answer to.
    Call(Call, Caller),
    /// We own a name.
    Acquired(String),
    /// Somebody else owns it now.
    Lost(String),
}

/// Who has called, and in which message.
pub struct Caller(Message);

fn lost(what: &str) -> Error {
    Error::new("DBUS-LOST", what)
}

/// Name and text of an error: libdbus gives both, but either may be missing.
fn said(e: &dbus::Error) -> String {
    e.message().or(e.name()).unwrap_or("no reason given").to_owned()
}

impl Bus {
    /// Connects to the system bus: that of `DBUS_SYSTEM_BUS_ADDRESS`, else the usual one.
    ///
    /// # Errors
    /// `DBUS-CONNECT`.
    pub fn connect() -> Result<Bus> {
        let mut channel = Channel::get_private(BusType::System).map_err(|e| {
            Error::new("DBUS-CONNECT", format!("the system bus cannot be reached: {}", said(&e)))
        })?;
        channel.set_watch_enabled(true);
        Ok(Bus(channel))
    }

    /// Becomes the owner of a name, taking it from an owner that lets us, and letting others take it from us; in the
    /// queue where the owner does not let us. Says whether it is ours now.
    ///
    /// # Errors
    /// `DBUS-NAME`: the bus does not let us.
    pub fn own(&self, name: &str) -> Result<bool> {
        let (bus, path) = BUS;
        let call = Message::call_with_args(bus, path, bus, "RequestName", (name, ALLOW_AND_REPLACE));
        let answer = self.0.send_with_reply_and_block(call, LIMIT).map_err(|e| {
            let what =
                format!("the bus does not let us own {name}: {}; is its policy file installed?", said(&e));
            Error::new("DBUS-NAME", what)
        })?;
        Ok(answer.get1::<u32>() != Some(IN_QUEUE))
    }

    /// To wait for with others. One is ready: something has come, or what is still to be written can be.
    pub fn descriptors(&self) -> [(RawFd, For); 2] {
        let watch = self.0.watch();
        // A negative one is left out.
        let only = |wanted| if wanted { watch.fd } else { -1 };
        [(only(watch.read), For::Reading), (only(watch.write), For::Writing)]
    }

    /// What has come, if anything, after writing what is still to be written; does not wait.
    ///
    /// # Errors
    /// `DBUS-LOST`.
    pub fn next(&self) -> Result<Option<Event>> {
        loop {
            let connected = self.0.read_write(Some(Duration::ZERO)).is_ok();
            match self.0.pop_message() {
                Some(message) => {
                    if let Some(event) = event(message) {
                        return Ok(Some(event));
                    }
                }
                None if connected => return Ok(None),
                None => return Err(lost("the bus has hung up")),
            }
        }
    }

    /// Answers a call, unless its caller does not want to know.
    ///
    /// # Errors
    /// `DBUS-LOST`.
    pub fn answer(&self, caller: &Caller, answer: Answer) -> Result<()> {
        let Caller(call) = caller;
        if call.get_no_reply() {
            return Ok(());
        }
        let good = || call.method_return();
        self.send(match answer {
            Answer::Nothing => good(),
            Answer::Number(number) => good().append1(number),
            Answer::Truth(truth) => good().append1(truth),
            Answer::Text(text) => good().append1(text),
            Answer::Texts(one, two) => good().append2(one, two),
            Answer::NoProperties => good().append1(PropMap::new()),
            Answer::Error(name, text) => {
                // Text of D-Bus has no NUL in it; were there one, the name says enough.
                call.error(&ErrorName::from(name), &CString::new(text).unwrap_or_default())
            }
        })
    }

    /// Sends a signal with two texts to everybody.
    ///
    /// # Errors
    /// `DBUS-LOST`.
    pub fn signal(&self, path: &str, interface: &str, member: &str, one: &str, two: &str) -> Result<()> {
        self.send(Message::signal(&path.into(), &interface.into(), &member.into()).append2(one, two))
    }

    /// At once, or with the next reading where the bus is slow to read.
    fn send(&self, message: Message) -> Result<()> {
        self.0.send(message).map(|_| ()).map_err(|()| lost("no memory for a message"))
    }
}

fn event(message: Message) -> Option<Event> {
    // No other types come: the bus lets none through.
    match message.msg_type() {
        MessageType::MethodCall => Some(Event::Call(call(&message), Caller(message))),
        MessageType::Signal if message.sender().is_some_and(|sender| *sender == *BUS.0) => {
            let name: String = message.get1().filter(|name: &String| !name.starts_with(':'))?;
            match &*message.member()? {
                "NameAcquired" => Some(Event::Acquired(name)),
                "NameLost" => Some(Event::Lost(name)),
                _ => None,
            }
        }
        MessageType::Signal | MessageType::MethodReturn | MessageType::Error => None,
    }
}

/// The words of a call.
fn call(message: &Message) -> Call {
    let mut call = Call {
        path: message.path().map_or_else(String::new, |path| path.to_string()),
        interface: message.interface().map(|interface| interface.to_string()),
        member: message.member().map_or_else(String::new, |member| member.to_string()),
        ..Call::default()
    };
    let mut arguments = message.iter_init();
    for _ in 0..ARGUMENTS {
        match arguments.arg_type() {
            ArgType::Invalid => break,
            ArgType::String => call.texts.extend(arguments.get::<String>()),
            _ => {}
        }
        call.signature += &arguments.signature();
        arguments.next();
    }
    call
}
