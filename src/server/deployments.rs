//! The deployments API: what to install next, how it goes, and the log of a failure.

use super::http::Payload;
use super::{Call, Client, Fault, Kind, url};
use crate::agent::control::ControlMap;
use crate::error::{Error, Result};
use crate::json::{self, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};

const V1: &str = "/api/devices/v1/deployments/device/deployments";
const V2: &str = "/api/devices/v2/deployments/device/deployments";

/// Largest answer to the question for the next deployment.
const OFFER: usize = 1024 * 1024;

/// Largest answer to the question for an update control map.
const CONTROL_MAP: usize = 64 * 1024;

/// A deployment for this device; only these members are read (SA-44, SA-45).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Safe in a path and in a file name (SA-5).
    pub id: String,
    /// Where the Artifact is; to be used byte for byte (SA-66).
    pub uri: String,
    /// The name that the server believes the Artifact to have.
    pub artifact_name: Option<String>,
    /// The device types that the server believes it to fit.
    pub device_types: Vec<String>,
    /// The update control map of the deployment, if it has one; an error says what is wrong with it (SA-46).
    pub control_map: Result<Option<ControlMap>>,
}

type Open<'a> = Box<dyn FnMut() -> io::Result<Box<dyn Read + 'a>> + 'a>;

/// A deployment log to upload: streamed, and opened anew if the request must be repeated.
pub struct LogBody<'a> {
    length: u64,
    open: Open<'a>,
}

impl fmt::Debug for LogBody<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogBody of {} bytes", self.length)
    }
}

impl<'a> LogBody<'a> {
    /// `open` gives a reader from the beginning of `{"messages":[…]}`, which has `length` bytes.
    pub fn new(length: u64, open: impl FnMut() -> io::Result<Box<dyn Read + 'a>> + 'a) -> LogBody<'a> {
        LogBody { length, open: Box::new(open) }
    }

    /// A body that is in memory already.
    pub fn from_text(text: &'a str) -> LogBody<'a> {
        LogBody::new(text.len() as u64, move || Ok(Box::new(text.as_bytes())))
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn open(&mut self) -> io::Result<Exactly<'a>> {
        Ok(Exactly { inner: (self.open)()?, left: self.length })
    }
}

/// Gives as many bytes as were announced, or an error: a body that ends early would never be finished.
pub(super) struct Exactly<'a> {
    inner: Box<dyn Read + 'a>,
    left: u64,
}

impl Read for Exactly<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        match self.inner.read(&mut buffer[..most])? {
            0 => Err(io::Error::other("the deployment log is shorter than announced")),
            n => {
                self.left -= n as u64;
                Ok(n)
            }
        }
    }
}

impl Client {
    /// Asks for the next deployment: v2, and where the server does not know that, v1 (SA-35, decision 12).
    /// `provides` holds `artifact_name` and all other provides; `device_type` is put in (SA-38).
    pub fn next_deployment(
        &mut self,
        provides: &BTreeMap<String, String>,
        device_type: &str,
    ) -> std::result::Result<Option<Offer>, Fault> {
        let offer = self.ask_next(provides, device_type)?;
        self.offered = offer.as_ref().map(|o| (o.id.clone(), o.artifact_name.clone()));
        Ok(offer)
    }

    /// A fresh link for a deployment that [`Client::next_deployment`] has offered (SA-71); `None` if the server
    /// offers another deployment now, or another Artifact. `provides` must be what it was then (SA-43).
    pub fn fresh_link(
        &mut self,
        id: &str,
        provides: &BTreeMap<String, String>,
        device_type: &str,
    ) -> std::result::Result<Option<String>, Fault> {
        let Some(offer) = self.ask_next(provides, device_type)? else {
            log::warn!("the server does not offer deployment {id} any more");
            return Ok(None);
        };
        let name = self.offered.as_ref().filter(|(of, _)| of == id).map(|(_, name)| name);
        if offer.id != id || name.is_some_and(|name| *name != offer.artifact_name) {
            log::warn!(
                "the server now offers {} with the Artifact {:?}, not deployment {id} as before",
                offer.id,
                offer.artifact_name
            );
            return Ok(None);
        }
        Ok(Some(offer.uri))
    }

    fn ask_next(
        &mut self,
        provides: &BTreeMap<String, String>,
        device_type: &str,
    ) -> std::result::Result<Option<Offer>, Fault> {
        if self.without_v2.is_none() || self.without_v2 != self.session.as_ref().map(|s| s.server.clone()) {
            let body = question(provides, device_type);
            let payload = Payload::Json(body.as_bytes());
            let path = format!("{V2}/next");
            let answer = self.call(Call { method: "POST", path: &path, body: payload, limit: OFFER })?;
            match answer.status {
                404 => crate::debug!("the server has no v2 deployments API; trying v1"),
                200 => return offer(&answer.body).map(Some),
                204 => return Ok(None),
                _ => return Err(answer.refused("asking for the next deployment")),
            }
        }
        let name = provides.get("artifact_name").map_or("", String::as_str);
        let query = format!("artifact_name={}&device_type={}", url::encode(name), url::encode(device_type));
        let path = format!("{V1}/next?{query}");
        let answer = self.call(Call { method: "GET", path: &path, body: Payload::None, limit: OFFER })?;
        if matches!(answer.status, 200 | 204) {
            self.without_v2 = self.session.as_ref().map(|s| s.server.clone());
        }
        match answer.status {
            200 => offer(&answer.body).map(Some),
            204 => Ok(None),
            _ => Err(answer.refused("asking for the next deployment")),
        }
    }

    /// Tells the server how a deployment goes (SA-53, SA-54); only 204 is success (SA-59), 409 means that it was
    /// aborted ([`Kind::Conflict`]).
    pub fn report(&mut self, id: &str, status: &str) -> std::result::Result<(), Fault> {
        let path = format!("{V1}/{}/status", usable(id)?);
        let mut body = String::from("{\"status\":");
        json::quote(&mut body, status);
        body.push('}');
        let payload = Payload::Json(body.as_bytes());
        let answer = self.call(Call { method: "PUT", path: &path, body: payload, limit: 0 })?;
        match answer.status {
            204 => Ok(()),
            _ => Err(answer.refused(&format!("reporting status {status}"))),
        }
    }

    /// Asks for the update control map of a deployment again (SA-79). [`Kind::NotFound`]: there is no such deployment
    /// any more. An answer without a map is an error ([`Kind::Protocol`]).
    pub fn control_map(&mut self, id: &str) -> std::result::Result<ControlMap, Fault> {
        if cfg!(not(feature = "control")) {
            return Err(Fault { kind: Kind::Protocol, error: no_control() });
        }
        let path = format!("{V2}/{}/update_control_map", usable(id)?);
        let call = Call { method: "GET", path: &path, body: Payload::None, limit: CONTROL_MAP };
        let answer = self.call(call)?;
        if answer.status != 200 {
            return Err(answer.refused("asking for the update control map"));
        }
        let wrong = |error| Fault { kind: Kind::Protocol, error };
        let value = json::parse_bytes(&answer.body, "SERVER-ANSWER", "the server's update control map");
        let map = control_map(&value.map_err(wrong)?).map_err(wrong)?;
        map.ok_or_else(|| wrong(Error::new("SERVER-ANSWER", "the answer holds no update control map")))
    }

    /// Uploads the log of a failed deployment (SA-61, SA-65).
    pub fn upload_log(&mut self, id: &str, mut body: LogBody<'_>) -> std::result::Result<(), Fault> {
        let path = format!("{V1}/{}/log", usable(id)?);
        let payload = Payload::Log(&mut body);
        let answer = self.call(Call { method: "PUT", path: &path, body: payload, limit: 0 })?;
        match answer.status {
            204 => Ok(()),
            _ => Err(answer.refused("uploading the deployment log")),
        }
    }
}

/// An id goes into paths and file names: only what a UUID may have (SA-5).
fn usable(id: &str) -> std::result::Result<&str, Fault> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if !id.is_empty() && id.len() <= 128 && id.chars().all(good) {
        return Ok(id);
    }
    let shown: String = id.chars().flat_map(char::escape_default).take(100).collect();
    Err(Fault::new(Kind::Protocol, "SERVER-ANSWER", format!("`{shown}` cannot be the id of a deployment")))
}

/// The body of the v2 question (SA-37), members sorted.
fn question(provides: &BTreeMap<String, String>, device_type: &str) -> String {
    let mut all: BTreeMap<&str, &str> = provides.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    all.insert("device_type", device_type);
    let mut body = String::from("{\"device_provides\":{");
    for (i, (name, value)) in all.into_iter().enumerate() {
        if i > 0 {
            body.push(',');
        }
        json::quote(&mut body, name);
        body.push(':');
        json::quote(&mut body, value);
    }
    body.push('}');
    if cfg!(feature = "control") {
        // Without it the server keeps its maps to itself (K41).
        body.push_str(",\"update_control_map\":true");
    }
    body.push('}');
    body
}

fn no_control() -> Error {
    let text = "the server holds an update control map over the deployment, which nobody asked for: this thimble was \
                built without update control (feature `control`)";
    Error::new("CONTROL-MISSING", text)
}

/// The member `update_control_map` of an answer.
fn control_map(answer: &Value) -> Result<Option<ControlMap>> {
    let Some(value) = json::get(answer, "update_control_map") else { return Ok(None) };
    if cfg!(not(feature = "control")) {
        return if matches!(value, Value::Null) { Ok(None) } else { Err(no_control()) };
    }
    ControlMap::parse(value).map_err(|e| Error::new("CONTROL-MAP", format!("the server's {e}")))
}

/// Reads the members of SA-44.
fn offer(body: &[u8]) -> std::result::Result<Offer, Fault> {
    let wrong = |why: String| Fault::new(Kind::Protocol, "SERVER-ANSWER", why);
    let what = "the server's deployment";
    let value = json::parse_bytes(body, "SERVER-ANSWER", what)
        .map_err(|error| Fault { kind: Kind::Protocol, error })?;
    let text = |of: &Value, name: &str| -> std::result::Result<Option<String>, Fault> {
        match json::get(of, name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(wrong(format!("{what}: `{name}` is {}, not a string", json::kind(other)))),
        }
    };
    let needed = |of: &Value, name: &str| -> std::result::Result<String, Fault> {
        text(of, name)?.filter(|t| !t.is_empty()).ok_or_else(|| wrong(format!("{what} has no `{name}`")))
    };
    let id = needed(&value, "id")?;
    usable(&id)?;
    let artifact = json::get(&value, "artifact").ok_or_else(|| wrong(format!("{what} has no `artifact`")))?;
    let source =
        json::get(artifact, "source").ok_or_else(|| wrong(format!("{what} has no `artifact.source`")))?;
    let uri = needed(source, "uri")?;
    if let Err(why) = url::check(&uri) {
        return Err(wrong(format!("{what}: the address of the Artifact {why}")));
    }
    let device_types = match json::get(artifact, "device_types_compatible") {
        None | Some(Value::Null) => Vec::new(),
        Some(list) => json::strings(list)
            .ok_or_else(|| wrong(format!("{what}: `device_types_compatible` is not a list of strings")))?,
    };
    let artifact_name = text(artifact, "artifact_name")?;
    Ok(Offer { id, uri, artifact_name, device_types, control_map: control_map(&value) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_sorted_and_has_the_device_type_from_its_file() {
        let provides = BTreeMap::from([
            ("rootfs-image.version".to_owned(), "r1".to_owned()),
            ("artifact_name".to_owned(), "r\"1".to_owned()),
            ("device_type".to_owned(), "wrong".to_owned()),
        ]);
        assert_eq!(
            question(&provides, "dt"),
            "{\"device_provides\":{\"artifact_name\":\"r\\\"1\",\"device_type\":\"dt\",\
             \"rootfs-image.version\":\"r1\"},\"update_control_map\":true}"
        );
    }

    #[test]
    fn an_answer_is_read_by_its_known_members_only() {
        let got = offer(
            br#"{"id":"d-1","PayloadTypes":["x"],"artifact":{"artifact_name":"a","extra":[1],
                "device_types_compatible":["x","y"],"source":{"uri":"https://h/a?s=%2F%2f+x","expire":"z"}}}"#,
        );
        let want = Offer {
            id: "d-1".into(),
            uri: "https://h/a?s=%2F%2f+x".into(),
            artifact_name: Some("a".into()),
            device_types: vec!["x".into(), "y".into()],
            control_map: Ok(None),
        };
        assert_eq!(got, Ok(want));
    }

    #[test]
    fn a_wrong_control_map_does_not_hide_the_deployment() {
        let answer = |map: &str| {
            let text = format!(
                r#"{{"id":"d-1","artifact":{{"source":{{"uri":"http://h/a"}}}},"update_control_map":{map}}}"#
            );
            offer(text.as_bytes()).expect("a deployment").control_map
        };
        assert_eq!(answer("null"), Ok(None));
        let good = answer(r#"{"id":"00000000-0000-4000-8000-00000000000a"}"#);
        assert!(matches!(good, Ok(Some(map)) if map.is_empty()));
        let wrong = answer(r#"{"id":"d-1"}"#).expect_err("no UUID");
        assert!(wrong.text.contains("the server's update control map: id is \"d-1\""), "{wrong}");
    }

    #[test]
    fn answers_that_make_no_sense_are_refused_with_the_reason() {
        for (body, reason) in [
            ("", "line 1"),
            ("[]", "`id`"),
            ("{}", "`id`"),
            (r#"{"id":""}"#, "`id`"),
            (r#"{"id":7}"#, "a number"),
            (r#"{"id":"../../x","artifact":{"source":{"uri":"http://h/a"}}}"#, "cannot be the id"),
            (r#"{"id":"a\n","artifact":{"source":{"uri":"http://h/a"}}}"#, "cannot be the id"),
            (r#"{"id":"a"}"#, "`artifact`"),
            (r#"{"id":"a","artifact":[]}"#, "`artifact.source`"),
            (r#"{"id":"a","artifact":{"source":{}}}"#, "`uri`"),
            (r#"{"id":"a","artifact":{"source":{"uri":null}}}"#, "`uri`"),
            (r#"{"id":"a","artifact":{"source":{"uri":"file:///etc/passwd"}}}"#, "begin with"),
            (
                r#"{"id":"a","artifact":{"device_types_compatible":"x","source":{"uri":"http://h/a"}}}"#,
                "list of strings",
            ),
            (
                r#"{"id":"a","artifact":{"artifact_name":["x"],"source":{"uri":"http://h/a"}}}"#,
                "`artifact_name` is a list",
            ),
        ] {
            let fault = offer(body.as_bytes()).expect_err(body);
            assert_eq!(fault.kind, Kind::Protocol);
            assert!(fault.error.text.contains(reason), "{body}: {fault}");
        }
        assert!(offer(&b"{\"id\":".repeat(1000)).expect_err("deep").error.text.contains("nested"));
        assert!(offer(b"\xff").is_err());
    }
}
