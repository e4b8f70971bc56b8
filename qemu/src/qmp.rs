//! QEMU's control socket: one JSON object a line, in both directions.

use crate::tool::Result;
use miniserde::json::{self, Value};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Child;
use std::thread;
use std::time::Duration;

/// A connection, past the greeting.
pub struct Qmp {
    stream: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects to a QEMU that is just starting.
    pub fn connect(socket: &Path, child: &mut Child) -> Result<Qmp> {
        let stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                // Not yet: there is nothing that would tell when. It ends if QEMU does.
                Err(_) => thread::sleep(Duration::from_millis(10)),
            }
            if let Ok(Some(status)) = child.try_wait() {
                return Err(status.to_string());
            }
        };
        let mut qmp = Qmp { stream: BufReader::new(stream) };
        qmp.line()?;
        qmp.execute("qmp_capabilities", "")?;
        Ok(qmp)
    }

    /// Executes a command; `arguments` is a JSON object, or empty. Events are passed over.
    pub fn execute(&mut self, command: &str, arguments: &str) -> Result<()> {
        let arguments =
            if arguments.is_empty() { String::new() } else { format!(r#","arguments":{arguments}"#) };
        let line = format!("{{\"execute\":{}{arguments}}}\n", json::to_string(command));
        self.stream.get_mut().write_all(line.as_bytes()).map_err(|e| format!("QMP: {e}"))?;
        loop {
            let text = self.line()?;
            let Ok(Value::Object(answer)) = json::from_str::<Value>(&text) else {
                return Err(format!("QMP: not an object: {text:?}"));
            };
            if answer.contains_key("return") {
                return Ok(());
            }
            if answer.contains_key("error") {
                return Err(format!("QMP {command}: {text}"));
            }
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut text = String::new();
        match self.stream.read_line(&mut text) {
            Ok(0) => Err("QMP: closed".to_owned()),
            Ok(_) => Ok(text),
            Err(error) => Err(format!("QMP: {error}")),
        }
    }
}
