//! The device API: each operation checks its request as a real server does and changes the state.

use super::http::{Incoming, Response};
use super::rules::What;
use super::state::{Progress, Shared, State};
use super::{download, verify};
use miniserde::json::{self, Object, Value};
use std::collections::BTreeSet;

const AUTH: &str = "/api/devices/v1/authentication/auth_requests";
const INVENTORY: &str = "/api/devices/v1/inventory/device/attributes";
const V1: &str = "/api/devices/v1/deployments/device/deployments/";
const V2: &str = "/api/devices/v2/deployments/device/deployments/";
const STATUSES: [&str; 9] = [
    "downloading",
    "installing",
    "rebooting",
    "success",
    "failure",
    "already-installed",
    "pause_before_installing",
    "pause_before_rebooting",
    "pause_before_committing",
];
/// Real servers refuse larger bodies.
const MOST_BODY: usize = 1 << 20;

/// A refusal: the status, and a text that becomes a violation and the answer's `error`.
struct Refusal(u16, String);

fn refuse<T>(status: u16, text: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal(status, text.into()))
}

/// Which operation a path names; `Any` for none.
pub(super) fn what(path: &str) -> What {
    match path {
        AUTH => What::Auth,
        INVENTORY => What::Inventory,
        _ if path.starts_with("/artifact/") => What::Artifact,
        _ => match path.strip_prefix(V1).or(path.strip_prefix(V2)).and_then(|rest| rest.rsplit_once('/')) {
            Some((_, "status")) => What::Status,
            Some((_, "log")) => What::Log,
            Some((_, "update_control_map")) => What::ControlMap,
            _ if path.ends_with("/deployments/next") => What::Next,
            _ => What::Any,
        },
    }
}

/// The status that a report carries.
pub(super) fn status_in(body: &[u8]) -> Option<String> {
    match object(body).ok()?.get("status")? {
        Value::String(status) => Some(status.clone()),
        _ => None,
    }
}

/// Checks and answers everything but downloads.
pub(super) fn answer(shared: &Shared, what: What, request: &Incoming) -> Response {
    let result = shared.change(|state| {
        let result = common(state, what, request).and_then(|()| match what {
            What::Auth => authenticate(shared, state, request),
            What::Next => next(shared, state, request),
            What::Status => status(state, request),
            What::Log => log(state, request),
            What::Inventory => inventory(state, request),
            What::ControlMap => control_map(shared, state, request),
            _ => refuse(404, "unknown path"),
        });
        if let Err(Refusal(_, text)) = &result
            && !text.is_empty()
        {
            state.violations.push(format!("{} {}: {text}", request.method, request.path));
        }
        result
    });
    result.unwrap_or_else(|Refusal(status, text)| {
        let text = if text.is_empty() { "refused" } else { &text };
        let body = format!(r#"{{"error":{},"request_id":"0"}}"#, json::to_string(text));
        Response::new(status, "application/json", body.into_bytes())
    })
}

/// What holds for every operation: body size, media type, token.
fn common(state: &mut State, what: What, request: &Incoming) -> Result<(), Refusal> {
    if request.body.len() > MOST_BODY {
        return refuse(413, format!("a body of {} bytes", request.body.len()));
    }
    let media = request.header("content-type").unwrap_or_default();
    if !request.body.is_empty() && media.split(';').next().map(str::trim) != Some("application/json") {
        return refuse(400, format!("Content-Type {media:?}"));
    }
    if matches!(what, What::Auth | What::Any) {
        return Ok(());
    }
    let Some(token) = request.header("authorization").and_then(|value| value.strip_prefix("Bearer ")) else {
        return refuse(401, "no bearer token");
    };
    if state.token.as_deref() == Some(token) {
        return Ok(());
    }
    if state.tokens_issued.iter().any(|issued| issued == token) {
        // An expired token is nothing that a device could know.
        return refuse(401, "");
    }
    refuse(401, format!("a token that was never handed out: {token:?}"))
}

fn authenticate(shared: &Shared, state: &mut State, request: &Incoming) -> Result<Response, Refusal> {
    method(request, "POST")?;
    let members = object(&request.body)?;
    let known = ["id_data", "pubkey", "tenant_token", "tier"];
    if let Some(name) = members.keys().find(|name| !known.contains(&name.as_str())) {
        return refuse(400, format!("unknown member {name}"));
    }
    let identity = text(&members, "id_data")?;
    let Ok(Value::Object(identity)) = json::from_str::<Value>(identity) else {
        return refuse(400, format!("id_data is no JSON object: {identity:?}"));
    };
    if identity.is_empty() {
        return refuse(400, "id_data is empty");
    }
    let Some(signature) = request.header("x-men-signature") else {
        return refuse(400, "no X-MEN-Signature");
    };
    verify::signature(text(&members, "pubkey")?, &request.body, signature)
        .or_else(|text| refuse(401, text))?;
    if let Some(tenant) = &shared.options.tenant_token
        && text(&members, "tenant_token")? != tenant
    {
        return refuse(401, "another tenant token");
    }
    if !state.accept_device {
        return refuse(401, "");
    }
    let token = state.token.clone().unwrap_or_else(|| match state.tokens_issued.len() {
        0 => shared.options.token.clone(),
        count => format!("{}{count}", shared.options.token),
    });
    if !state.tokens_issued.contains(&token) {
        state.tokens_issued.push(token.clone());
    }
    state.token = Some(token.clone());
    Ok(Response::new(200, "application/jwt", token.into_bytes()))
}

fn next(shared: &Shared, state: &mut State, request: &Incoming) -> Result<Response, Refusal> {
    let v2 = request.path.starts_with(V2);
    if v2 && !shared.options.v2 {
        return refuse(404, "");
    }
    let provides = match (request.method.as_str(), v2) {
        ("POST", true) => {
            let members = object(&request.body)?;
            let known = |name: &&String| !["device_provides", "update_control_map"].contains(&name.as_str());
            if let Some(name) = members.keys().find(known) {
                return refuse(400, format!("unknown member {name}"));
            }
            match members.get("device_provides") {
                Some(Value::Object(provides)) => provides.clone(),
                _ => return refuse(400, "no object device_provides"),
            }
        }
        ("POST", false) => object(&request.body)?,
        ("GET", false) => request.query.split('&').filter_map(pair).collect(),
        _ => return refuse(405, "wrong method"),
    };
    if let Some((name, value)) = provides.iter().find(|(_, value)| !matches!(value, Value::String(_))) {
        return refuse(400, format!("provides {name} is not text: {value:?}"));
    }
    let asked_with =
        (text(&provides, "artifact_name")?.to_owned(), text(&provides, "device_type")?.to_owned());
    let Some(progress) =
        state.deployments.iter_mut().find(|progress| !progress.aborted && !progress.finished)
    else {
        return Ok(Response::empty(204));
    };
    if progress.asked_with.get_or_insert_with(|| asked_with.clone()) != &asked_with {
        // A real server then marks the deployment as failed by itself.
        progress.finished = true;
        return refuse(409, "");
    }
    Ok(Response::new(200, "application/json", offer(&shared.url, progress).into_bytes()))
}

fn offer(url: &str, progress: &Progress) -> String {
    let deployment = &progress.deployment;
    let types: Vec<String> = deployment.device_types.iter().map(json::to_string).collect();
    let map = progress.control_map.as_ref().map(|map| format!(r#","update_control_map":{map}"#));
    format!(
        r#"{{"id":{id},"artifact":{{"id":{id},"artifact_name":{name},"source":{{"uri":{uri},"expire":"2100-01-01T00:00:00Z"}},"device_types_compatible":[{types}]}}{map}}}"#,
        id = json::to_string(&deployment.id),
        name = json::to_string(&deployment.artifact_name),
        uri = json::to_string(&download::link(url, &deployment.id)),
        types = types.join(","),
        map = map.unwrap_or_default(),
    )
}

fn status(state: &mut State, request: &Incoming) -> Result<Response, Refusal> {
    method(request, "PUT")?;
    let members = object(&request.body)?;
    let status = text(&members, "status")?.to_owned();
    if !STATUSES.contains(&status.as_str()) {
        return refuse(400, format!("unknown status {status:?}"));
    }
    for (name, value) in members.iter() {
        match (name.as_str(), value) {
            ("status", _) => {}
            ("substate", Value::String(text)) if text.chars().count() <= 200 => {}
            _ => return refuse(400, format!("member {name}: {value:?}")),
        }
    }
    let progress = own(state, request)?;
    progress.statuses.push(status.clone());
    if progress.finished && progress.statuses.iter().rev().nth(1) != Some(&status) {
        return refuse(204, format!("{status} after the final status"));
    }
    progress.finished |= ["success", "failure", "already-installed"].contains(&status.as_str());
    Ok(Response::empty(204))
}

fn log(state: &mut State, request: &Incoming) -> Result<Response, Refusal> {
    method(request, "PUT")?;
    let members = object(&request.body)?;
    let Some(Value::Array(entries)) = members.get("messages") else {
        return refuse(400, "no list of messages");
    };
    if entries.is_empty() {
        return refuse(400, "an empty list of messages");
    }
    let mut messages = Vec::new();
    for entry in entries.iter() {
        let Value::Object(entry) = entry else {
            return refuse(400, format!("a message that is no object: {entry:?}"));
        };
        text(entry, "level")?;
        if !verify::is_time(text(entry, "timestamp")?) {
            return refuse(400, format!("a message's timestamp: {entry:?}"));
        }
        messages.push(text(entry, "message")?.to_owned());
    }
    own(state, request)?.log = messages;
    Ok(Response::empty(204))
}

fn inventory(state: &mut State, request: &Incoming) -> Result<Response, Refusal> {
    if !["PUT", "PATCH"].contains(&request.method.as_str()) {
        return refuse(405, "wrong method");
    }
    let Ok(Value::Array(attributes)) = json_value(&request.body) else {
        return refuse(400, "inventory is a JSON list");
    };
    let mut found = Vec::new();
    let mut names = BTreeSet::new();
    for attribute in attributes.iter() {
        let Value::Object(attribute) = attribute else {
            return refuse(400, format!("an attribute that is no object: {attribute:?}"));
        };
        let name = text(attribute, "name")?.to_owned();
        let value = match attribute.get("value") {
            Some(Value::String(text)) => text.clone(),
            Some(value @ Value::Number(_)) => json::to_string(value),
            Some(value @ Value::Array(list))
                if list.iter().all(|item| matches!(item, Value::String(_) | Value::Number(_))) =>
            {
                json::to_string(value)
            }
            value => return refuse(400, format!("attribute {name}: {value:?}")),
        };
        if name.chars().count() > 1024 || !names.insert(name.clone()) {
            return refuse(400, format!("attribute {name} twice or too long"));
        }
        found.push((name, value));
    }
    if request.method == "PUT" {
        state.inventory.clear();
    }
    state.inventory.extend(found);
    Ok(Response::empty(200))
}

fn control_map(shared: &Shared, state: &mut State, request: &Incoming) -> Result<Response, Refusal> {
    method(request, "GET")?;
    if !shared.options.v2 || !request.path.starts_with(V2) {
        return refuse(404, "");
    }
    let progress = match own(state, request) {
        Ok(progress) if !progress.finished => progress,
        _ => return refuse(404, ""),
    };
    let map = progress.control_map.as_ref().map(|map| format!(r#"{{"update_control_map":{map}}}"#));
    Ok(Response::new(200, "application/json", map.unwrap_or("{}".to_owned()).into_bytes()))
}

/// The deployment in the request's path.
fn own<'a>(state: &'a mut State, request: &Incoming) -> Result<&'a mut Progress, Refusal> {
    let id = request.path.rsplit('/').nth(1).unwrap_or_default();
    match state.find(id) {
        None => refuse(404, "unknown deployment"),
        Some(progress) if progress.aborted => refuse(409, ""),
        Some(progress) => Ok(progress),
    }
}

fn method(request: &Incoming, wanted: &str) -> Result<(), Refusal> {
    if request.method == wanted { Ok(()) } else { refuse(405, format!("not a {wanted}")) }
}

fn json_value(body: &[u8]) -> Result<Value, Refusal> {
    let text = std::str::from_utf8(body).or_else(|_| refuse(400, "the body is not UTF-8"))?;
    json::from_str(text).or_else(|_| refuse(400, format!("the body is not JSON: {text:.200}")))
}

fn object(body: &[u8]) -> Result<Object, Refusal> {
    match json_value(body)? {
        Value::Object(members) => Ok(members),
        _ => refuse(400, "the body is no JSON object"),
    }
}

/// A member that must be text of at least one character.
fn text<'a>(members: &'a Object, name: &str) -> Result<&'a str, Refusal> {
    match members.get(name) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text),
        other => refuse(400, format!("{name}: {other:?}")),
    }
}

/// One `name=value` of a query.
fn pair(text: &str) -> Option<(String, Value)> {
    let (name, value) = text.split_once('=')?;
    Some((percent_decode(name), Value::String(percent_decode(value))))
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|code| std::str::from_utf8(code).ok());
        match (first, code.and_then(|code| u8::from_str_radix(code, 16).ok())) {
            (b'%', Some(byte)) => (bytes.push(byte), rest = &after[2..]).0,
            (b'+', _) => (bytes.push(b' '), rest = after).0,
            _ => (bytes.push(first), rest = after).0,
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
