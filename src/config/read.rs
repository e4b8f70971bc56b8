//! One configuration file in, checked settings out, each with the place where it stands. Decides no defaults.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::NO_BOARD;
use super::keys::{self, EITHER_OR, KEYS, Kind, MAX_SECONDS};
use crate::error::{Context, Error, Result};
use crate::json::{self, Number, Object, Value};
use thimble_boards::{ALL, by_name};

/// Longest configuration file, in bytes.
const LIMIT: u64 = 1 << 20;

/// Unknown members that are named one by one; the rest are only counted.
const UNKNOWN_NAMED: usize = 20;

/// A checked value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Given {
    Text(String),
    Number(u64),
    Switch(bool),
    Texts(Vec<String>),
}

impl Given {
    /// Says the same as leaving the member out.
    pub(super) fn is_neutral(&self) -> bool {
        match self {
            Given::Text(text) => text.is_empty(),
            Given::Number(number) => *number == 0,
            Given::Switch(on) => !on,
            Given::Texts(list) => list.is_empty(),
        }
    }
}

/// A value and where it stands: `/etc/mender/mender.conf, line 7, column 3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) value: Given,
    pub(super) at: String,
}

/// Settings by the names of [`KEYS`].
pub(super) type Settings = BTreeMap<&'static str, Setting>;

/// Reads one file; `None` if it does not exist.
pub(super) fn read(path: &Path, warnings: &mut Vec<String>) -> Result<Option<Settings>> {
    let file = path.display().to_string();
    // Asked before opening: opening a named pipe would wait for ever.
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::new("CONFIG-READ", format!("cannot read {file}: {e}"))),
    };
    if !meta.is_file() {
        let what = if meta.is_dir() { "is a directory" } else { "is not a regular file" };
        return Err(Error::new("CONFIG-READ", format!("{file} {what}; expected a JSON file")));
    }
    parse(&file, &content(path, &file)?, meta.mode(), warnings).map(Some)
}

/// Takes in the text of a file; its name and mode are for messages.
pub(super) fn parse(file: &str, text: &str, mode: u32, warnings: &mut Vec<String>) -> Result<Settings> {
    let value = json::parse(text).map_err(|m| m.into_error("CONFIG-SYNTAX", file))?;
    let Value::Object(members) = &value else {
        let what = format!("{file}: expected an object ('{{') at the top, found {}", json::kind(&value));
        return Err(Error::new("CONFIG-SYNTAX", what));
    };
    let mut reader = Reader { file, text, settings: Settings::new(), warnings, unknown: 0 };
    reader.object(members, "", &[])?;
    reader.finish(mode)
}

fn content(path: &Path, file: &str) -> Result<String> {
    let mut bytes = Vec::new();
    let opened = File::open(path).context("CONFIG-READ", || format!("cannot read {file}"))?;
    opened
        .take(LIMIT + 1)
        .read_to_end(&mut bytes)
        .context("CONFIG-READ", || format!("cannot read {file}"))?;
    if bytes.len() as u64 > LIMIT {
        return Err(Error::new(
            "CONFIG-READ",
            format!("{file} is longer than {LIMIT} bytes; is it a mender.conf?"),
        ));
    }
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Error::new(
            "CONFIG-SYNTAX",
            format!("{file} is not UTF-8 (byte {at}); save it as UTF-8 without a byte order mark"),
        )
    })
}

struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    settings: Settings,
    warnings: &'a mut Vec<String>,
    unknown: usize,
}

impl Reader<'_> {
    /// Takes in the members of one object; `path` is how the file spells the way to it.
    fn object(&mut self, members: &Object, section: &str, path: &[&str]) -> Result<()> {
        let known = keys::names(section);
        let mut spellings: BTreeMap<&'static str, Vec<&str>> = BTreeMap::new();
        for name in members.keys() {
            match known.iter().find(|k| k.eq_ignore_ascii_case(name)) {
                Some(k) => spellings.entry(k).or_default().push(name),
                None => self.unknown(name, &known, path),
            }
        }
        for (name, written) in spellings {
            let chosen = self.choose(name, &written, path);
            let Some(value) = members.get(chosen).filter(|v| !matches!(v, Value::Null)) else { continue };
            let way: Vec<&str> = path.iter().copied().chain([chosen]).collect();
            let full = if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
            match KEYS.iter().find(|(key, _)| *key == full) {
                Some((key, kind)) => {
                    let value = self.value(key, *kind, value, &way)?;
                    self.settings.insert(key, Setting { value, at: self.place(&way) });
                }
                None => match value {
                    Value::Object(inner) => self.object(inner, name, &way)?,
                    other => return Err(self.wrong(name, "an object", other, &way)),
                },
            }
        }
        Ok(())
    }

    /// Of several spellings of one name: the exact one, else the last in the file (CF-8).
    fn choose<'n>(&mut self, name: &str, written: &[&'n str], path: &[&str]) -> &'n str {
        let place = |spelling: &&'n str| {
            let way: Vec<&str> = path.iter().copied().chain([*spelling]).collect();
            json::position(self.text, &way)
        };
        let exact = written.iter().find(|w| **w == name);
        let chosen = match exact {
            Some(exact) => *exact,
            None if written.len() == 1 => written[0],
            None => written.iter().copied().max_by_key(place).unwrap_or_default(),
        };
        if written.len() > 1 {
            let way: Vec<&str> = path.iter().copied().chain([chosen]).collect();
            self.warnings.push(format!(
                "{}: {name} is given in {} spellings; this one ('{chosen}', {}) is used.",
                self.place(&way),
                written.len(),
                if exact.is_some() { "the exact one" } else { "the last one" },
            ));
        }
        chosen
    }

    fn unknown(&mut self, name: &str, known: &[&'static str], path: &[&str]) {
        self.unknown += 1;
        if self.unknown > UNKNOWN_NAMED {
            return;
        }
        let way: Vec<&str> = path.iter().copied().chain([name]).collect();
        let shown: String = name.chars().take(60).flat_map(char::escape_debug).collect();
        let guess = match keys::closest(name, known) {
            Some(guess) => format!("did you mean {guess}?"),
            None => "it is ignored.".to_owned(),
        };
        self.warnings.push(format!("{}: '{shown}' is not a known member; {guess}", self.place(&way)));
    }

    fn value(&mut self, key: &str, kind: Kind, value: &Value, way: &[&str]) -> Result<Given> {
        match kind {
            Kind::Text => match value {
                Value::String(text) => Ok(Given::Text(self.clean(key, text, way)?)),
                other => Err(self.wrong(key, "a string", other, way)),
            },
            Kind::Url => match value {
                Value::String(text) => Ok(Given::Text(self.url(key, text, way)?)),
                other => Err(self.wrong(key, "a URL as a string", other, way)),
            },
            Kind::Switch => match value {
                Value::Bool(on) => Ok(Given::Switch(*on)),
                other => Err(self.wrong(key, "true or false", other, way)),
            },
            Kind::Seconds => {
                let what = format!("a whole number of seconds from 0 to {MAX_SECONDS} (0 = default)");
                self.number(key, value, (0, MAX_SECONDS), &what, way)
            }
            Kind::Count(from, to) => {
                self.number(key, value, (from, to), &format!("a whole number from {from} to {to}"), way)
            }
            Kind::OneOf(allowed) => match value {
                Value::String(text) if text.is_empty() || allowed.contains(&text.as_str()) => {
                    Ok(Given::Text(text.clone()))
                }
                other => Err(self.wrong(key, &format!("one of {}", allowed.join(", ")), other, way)),
            },
            Kind::Board => match value {
                Value::String(text)
                    if text.is_empty() || text == NO_BOARD || by_name(ALL, text).is_some() =>
                {
                    Ok(Given::Text(text.clone()))
                }
                other => {
                    let names: Vec<&str> = ALL.iter().map(|b| b.name).chain([NO_BOARD]).collect();
                    Err(self.wrong(key, &format!("one of {}", names.join(", ")), other, way))
                }
            },
            Kind::Texts => self.texts(key, value, way),
            Kind::Servers => self.servers(key, value, way),
        }
    }

    fn number(&self, key: &str, value: &Value, range: (u64, u64), what: &str, way: &[&str]) -> Result<Given> {
        match json::integer(value).and_then(|n| u64::try_from(n).ok()) {
            Some(n) if (range.0..=range.1).contains(&n) => Ok(Given::Number(n)),
            _ => Err(self.wrong(key, what, value, way)),
        }
    }

    fn texts(&self, key: &str, value: &Value, way: &[&str]) -> Result<Given> {
        let Value::Array(items) = value else { return Err(self.wrong(key, "a list of strings", value, way)) };
        let mut texts = Vec::new();
        for (i, item) in items.iter().enumerate() {
            let index = i.to_string();
            let way: Vec<&str> = way.iter().copied().chain([index.as_str()]).collect();
            match item {
                Value::String(text) if !text.is_empty() => texts.push(self.clean(key, text, &way)?),
                other => return Err(self.wrong(key, "strings that are not empty", other, &way)),
            }
        }
        Ok(Given::Texts(texts))
    }

    fn servers(&mut self, key: &str, value: &Value, way: &[&str]) -> Result<Given> {
        let what = "a list of {\"ServerURL\": \"https://…\"}";
        let Value::Array(items) = value else { return Err(self.wrong(key, what, value, way)) };
        let mut urls: Vec<String> = Vec::new();
        for (i, item) in items.iter().enumerate() {
            let index = i.to_string();
            let mut way: Vec<&str> = way.iter().copied().chain([index.as_str()]).collect();
            let Value::Object(members) = item else { return Err(self.wrong(key, what, item, &way)) };
            let mut written = Vec::new();
            for name in members.keys() {
                if name.eq_ignore_ascii_case("ServerURL") {
                    written.push(name.as_str());
                } else {
                    self.unknown(name, &["ServerURL"], &way);
                }
            }
            let chosen =
                if written.is_empty() { "ServerURL" } else { self.choose("ServerURL", &written, &way) };
            let url = match members.get(chosen) {
                None | Some(Value::Null) => String::new(),
                Some(Value::String(text)) => {
                    way.push(chosen);
                    self.url("Servers.ServerURL", text, &way)?
                }
                Some(other) => {
                    way.push(chosen);
                    return Err(self.wrong("Servers.ServerURL", "a URL as a string", other, &way));
                }
            };
            if url.is_empty() {
                self.warnings.push(format!(
                    "{}: this entry of Servers has no ServerURL; it is skipped.",
                    self.place(&way)
                ));
            } else if !urls.contains(&url) {
                urls.push(url);
            }
        }
        Ok(Given::Texts(urls))
    }

    /// A text that may be printed and handed to the system.
    fn clean(&self, key: &str, text: &str, way: &[&str]) -> Result<String> {
        if text.chars().any(char::is_control) {
            let what = format!("{}: {key} contains a control character (a line end?)", self.place(way));
            return Err(Error::new("CONFIG-VALUE", what));
        }
        Ok(text.to_owned())
    }

    fn url(&self, key: &str, text: &str, way: &[&str]) -> Result<String> {
        // The value is not shown: it may hold a password.
        check_url(text).map_err(|why| Error::new("CONFIG-URL", format!("{}: {key} {why}", self.place(way))))
    }

    fn place(&self, way: &[&str]) -> String {
        match json::position(self.text, way) {
            Some((line, column)) => format!("{}, line {line}, column {column}", self.file),
            None => self.file.to_owned(), // a name written with escapes
        }
    }

    fn wrong(&self, key: &str, expected: &str, found: &Value, way: &[&str]) -> Error {
        let found = match found {
            Value::Number(Number::F64(f)) if f.fract() != 0.0 || f.abs() < MAX_SECONDS as f64 => {
                "a number with a fraction or an exponent".to_owned()
            }
            Value::Number(_) => json::write(found),
            Value::String(text) if text.is_empty() => "an empty string".to_owned(),
            // Elsewhere a string is not shown: it may be a secret under the wrong name.
            Value::String(text) if ["Board", "DeviceTier", "BootEnvironment.Adapter"].contains(&key) => {
                format!("'{}'", text.chars().take(40).flat_map(char::escape_debug).collect::<String>())
            }
            other => json::kind(other).to_owned(),
        };
        Error::new("CONFIG-VALUE", format!("{}: {key} expects {expected}, found {found}", self.place(way)))
    }

    /// Checks that span members, and what is left to say about the file.
    fn finish(mut self, mode: u32) -> Result<Settings> {
        if self.unknown > UNKNOWN_NAMED {
            let more = self.unknown - UNKNOWN_NAMED;
            self.warnings
                .push(format!("{}: {more} more members are not known; they are ignored.", self.file));
        }
        for (one, many) in EITHER_OR {
            // An empty single form says nothing: it must not take away what the other file says.
            if self.settings.get(one).is_some_and(|s| s.value.is_neutral()) {
                self.settings.remove(one);
            }
            if let (Some(a), Some(b)) = (self.settings.get(one), self.settings.get(many)) {
                let what = format!("{}: {one} is given, and {many} too ({}); keep one of them", a.at, b.at);
                return Err(Error::new("CONFIG-CONFLICT", what));
            }
        }
        if mode & 0o004 != 0 && self.settings.get("TenantToken").is_some_and(|s| !s.value.is_neutral()) {
            self.warnings.push(format!(
                "{}: everyone may read this file (mode {:04o}), and it holds TenantToken; chmod 0600 it.",
                self.file,
                mode & 0o7777
            ));
        }
        Ok(self.settings)
    }
}

/// Checks a server URL (SA-2 to SA-4) and removes one `/` at its end.
fn check_url(text: &str) -> std::result::Result<String, &'static str> {
    if text.is_empty() {
        return Ok(String::new());
    }
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("contains a blank or a control character");
    }
    let lower = text.to_ascii_lowercase();
    let Some(rest) = ["https://", "http://"].iter().find_map(|s| lower.strip_prefix(s)) else {
        return Err("has no scheme; expected https://HOST or http://HOST");
    };
    if cfg!(not(feature = "tls")) && lower.starts_with("https:") {
        return Err("needs TLS, and this thimble was built without it (feature `tls`)");
    }
    if rest.contains(['?', '#']) {
        return Err("has a query or a fragment; expected https://HOST[:PORT][/PATH]");
    }
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.contains('@') {
        return Err("contains a user name or password (user@host), which is not supported");
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(v6) => match v6.split_once(']') {
            Some((host, rest)) if host.parse::<std::net::Ipv6Addr>().is_ok() => {
                (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':').unwrap_or("bad")) })
            }
            _ => return Err("has a wrong IPv6 address in brackets; expected https://[ADDRESS]:PORT"),
        },
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    if host.is_empty() {
        return Err("has no host name; expected https://HOST");
    }
    if let Some(port) = port {
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        if !digits || !port.parse::<u16>().is_ok_and(|p| p != 0) {
            return Err(
                "has a wrong port; expected a number from 1 to 65535 after ':' (IPv6 addresses need brackets)",
            );
        }
    }
    Ok(text.strip_suffix('/').unwrap_or(text).to_owned())
}
