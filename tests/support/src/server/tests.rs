//! The server as a device on a bare socket sees it.

use super::*;
use crate::{Content, TempDir, base64};
use ring::signature::{Ed25519KeyPair, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use std::io::{Read, Write};

const ID: &str = "00000000-0000-4000-8000-000000000001";
const AUTH: &str = "/api/devices/v1/authentication/auth_requests";
const V2_NEXT: &str = "/api/devices/v2/deployments/device/deployments/next";
const INVENTORY: &str = "/api/devices/v1/inventory/device/attributes";
const JSON: (&str, &str) = ("Content-Type", "application/json");
const TOKEN: (&str, &str) = ("Authorization", "Bearer header.payload.signature");
const PROVIDES: &str = r#"{"device_provides":{"artifact_name":"release-1","device_type":"test-type"}}"#;
const SOON: Duration = Duration::from_secs(20);

/// Status, head and body of an answer; status 0 when the connection ended without one.
fn send(
    server: &Server,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> (u16, String, Vec<u8>) {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    exchange(&mut stream, method, path, headers, body)
}

fn exchange(
    stream: &mut (impl Read + Write),
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> (u16, String, Vec<u8>) {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("Content-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        return (0, String::new(), answer);
    };
    let body = answer.split_off(end + 4);
    let head = String::from_utf8(answer).unwrap();
    (head[9..12].parse().unwrap(), head, body)
}

/// An authentication request and its signature.
fn auth_request(id_data: &str) -> (String, String) {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let prefix = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    let der = base64::encode(&[&prefix[..], pair.public_key().as_ref()].concat());
    let id_data = miniserde::json::to_string(id_data);
    let pem = format!(r"-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n");
    let body = format!(r#"{{"id_data":{id_data},"pubkey":"{pem}"}}"#);
    let signature = base64::encode(pair.sign(body.as_bytes()).as_ref());
    (body, signature)
}

fn authenticate(server: &Server) -> (u16, String) {
    let (body, signature) = auth_request(r#"{"mac":"1"}"#);
    let headers = [JSON, ("X-MEN-Signature", &*signature)];
    let (status, _, body) = send(server, "POST", AUTH, &headers, body.as_bytes());
    (status, String::from_utf8(body).unwrap())
}

fn put(server: &Server, what: &str, body: &str) -> u16 {
    let path = format!("/api/devices/v1/deployments/device/deployments/{ID}/{what}");
    send(server, "PUT", &path, &[JSON, TOKEN], body.as_bytes()).0
}

/// A server that has accepted the device and offers one deployment of 100 000 bytes.
fn with_deployment(options: Options) -> (TempDir, Server, Vec<u8>) {
    let dir = TempDir::new("server");
    let content = Content::Pattern { size: 100_000, seed: 1 }.bytes();
    let artifact = dir.path().join("artifact");
    std::fs::write(&artifact, &content).unwrap();
    let server = Server::start(options);
    let (artifact_name, device_types) = ("release-2".to_owned(), vec!["test-type".to_owned()]);
    server.deploy(Deployment { id: ID.to_owned(), artifact, artifact_name, device_types });
    assert_eq!(authenticate(&server), (200, "header.payload.signature".to_owned()));
    (dir, server, content)
}

fn artifact_path() -> String {
    download::link("", ID)
}

fn act(server: &Server, on: What, act: Act) {
    server.rule(Rule { on, skip: 0, times: 1, act });
}

#[test]
fn a_whole_deployment_without_violations() {
    let (_dir, server, content) = with_deployment(Options::default());
    let (status, _, offer) = send(&server, "POST", V2_NEXT, &[JSON, TOKEN], PROVIDES.as_bytes());
    let offer = String::from_utf8(offer).unwrap();
    assert_eq!(status, 200);
    assert!(offer.contains(&format!("{}{}", server.url(), artifact_path())), "{offer}");
    let v1 =
        "/api/devices/v1/deployments/device/deployments/next?artifact_name=release%2D1&device_type=test-type";
    assert_eq!(send(&server, "GET", v1, &[TOKEN], b"").0, 200, "offered until its final status");
    let (status, head, body) = send(&server, "GET", &artifact_path(), &[], b"");
    assert!(status == 200 && body == content && head.contains("Content-Length: 100000"), "{head}");
    for status in ["downloading", "installing", "failure", "failure"] {
        assert_eq!(put(&server, "status", &format!(r#"{{"status":"{status}"}}"#)), 204);
    }
    let log = r#"{"messages":[{"timestamp":"2026-01-01T00:00:00Z","level":"error","message":"it broke"}]}"#;
    assert_eq!(put(&server, "log", log), 204);
    let attributes = br#"[{"name":"a","value":"1"},{"name":"b","value":["x","y"]}]"#;
    assert_eq!(send(&server, "PUT", INVENTORY, &[JSON, TOKEN], attributes).0, 200);
    assert_eq!(send(&server, "POST", V2_NEXT, &[JSON, TOKEN], PROVIDES.as_bytes()).0, 204);

    assert_eq!(server.statuses(ID), ["downloading", "installing", "failure", "failure"]);
    assert_eq!(server.logs(ID), ["it broke"]);
    let inventory = server.inventory();
    assert_eq!((&*inventory["a"], &*inventory["b"]), ("1", r#"["x","y"]"#));
    assert_eq!(server.violations(), [""; 0]);
    assert_eq!(server.requests_of(What::Next).len(), 3);
}

#[test]
fn what_a_device_must_not_send_is_refused_and_remembered() {
    let (_dir, server, _) = with_deployment(Options::default());
    let check = |expected: u16, status: u16, text: &str| {
        let last = server.violations().pop().unwrap_or_default();
        assert!(status == expected && last.contains(text), "{status} {last:?} is not {expected} {text:?}");
    };
    let (body, signature) = auth_request(r#"{"mac":"1"}"#);
    let auth = |headers: &[(&str, &str)], body: &str| send(&server, "POST", AUTH, headers, body.as_bytes()).0;
    check(401, auth(&[JSON, ("X-MEN-Signature", &signature)], &format!("{body}\n")), "does not verify");
    check(400, auth(&[JSON], &body), "no X-MEN-Signature");
    check(400, auth(&[("X-MEN-Signature", &signature)], &body), "Content-Type");
    let (body, signature) = auth_request("[1]");
    check(400, auth(&[JSON, ("X-MEN-Signature", &signature)], &body), "id_data");

    let next =
        |headers: &[(&str, &str)], body: &str| send(&server, "POST", V2_NEXT, headers, body.as_bytes()).0;
    check(401, next(&[JSON], PROVIDES), "no bearer token");
    check(401, next(&[JSON, ("Authorization", "Bearer other")], PROVIDES), "never handed out");
    check(400, next(&[JSON, TOKEN], r#"{"device_provides":{"device_type":"x"}}"#), "artifact_name");
    check(400, put(&server, "status", r#"{"status":"done"}"#), "unknown status");
    check(400, put(&server, "status", r#"{"status":"installing","substate":1}"#), "substate");
    check(400, put(&server, "log", r#"{"messages":[]}"#), "empty list");
    let log = r#"{"messages":[{"timestamp":"2026-01-01T00:00:00Z","level":"info","message":""}]}"#;
    check(400, put(&server, "log", log), "message");
    check(
        400,
        put(&server, "log", &log.replace("2026-01-01T", "today ").replace("\"\"", "\"x\"")),
        "timestamp",
    );
    check(413, put(&server, "log", &" ".repeat((1 << 20) + 1)), "1048577");
    let inventory = |body: &str| send(&server, "PUT", INVENTORY, &[JSON, TOKEN], body.as_bytes()).0;
    check(400, inventory(r#"[{"name":"a","value":{}}]"#), "attribute a");
    check(400, inventory(r#"[{"name":"a","value":"1"},{"name":"a","value":"1"}]"#), "twice");
    check(200, send(&server, "GET", &artifact_path(), &[TOKEN], b"").0, "must not get the device's token");
    check(403, send(&server, "GET", &artifact_path().replace("%2F", "/"), &[], b"").0, "query was changed");
    check(404, send(&server, "GET", "/api/other", &[], b"").0, "unknown path");
    put(&server, "status", r#"{"status":"success"}"#);
    check(204, put(&server, "status", r#"{"status":"failure"}"#), "after the final status");
}

#[test]
fn tokens_expire_and_devices_are_rejected() {
    let (_dir, server, _) = with_deployment(Options::default());
    server.expire_tokens();
    assert_eq!(send(&server, "POST", V2_NEXT, &[JSON, TOKEN], PROVIDES.as_bytes()).0, 401);
    assert_eq!(authenticate(&server), (200, "header.payload.signature1".to_owned()));
    server.accept(false);
    assert_eq!(authenticate(&server).0, 401);
    assert_eq!(server.violations(), [""; 0], "none of this is the device's fault");
}

#[test]
fn an_aborted_deployment_is_a_conflict() {
    let (_dir, server, _) = with_deployment(Options::default());
    server.control_map(ID, Some(r#"{"id":"{id}"}"#));
    let map = format!("/api/devices/v2/deployments/device/deployments/{ID}/update_control_map");
    let (status, _, body) = send(&server, "GET", &map, &[TOKEN], b"");
    assert_eq!((status, body), (200, format!(r#"{{"update_control_map":{{"id":"{ID}"}}}}"#).into_bytes()));
    server.abort(ID);
    assert_eq!(put(&server, "status", r#"{"status":"installing"}"#), 409);
    assert_eq!(send(&server, "GET", &map, &[TOKEN], b"").0, 404);
    assert_eq!(send(&server, "POST", V2_NEXT, &[JSON, TOKEN], PROVIDES.as_bytes()).0, 204);
    assert_eq!((server.statuses(ID), server.violations()), (vec![], vec![]));
}

#[test]
fn other_provides_for_the_same_deployment_are_a_conflict() {
    let (_dir, server, _) = with_deployment(Options::default());
    let next = |body: &str| send(&server, "POST", V2_NEXT, &[JSON, TOKEN], body.as_bytes()).0;
    assert_eq!(
        [next(PROVIDES), next(&PROVIDES.replace("release-1", "release-2")), next(PROVIDES)],
        [200, 409, 204]
    );
}

#[test]
fn an_old_server_knows_only_version_1() {
    let (_dir, server, _) = with_deployment(Options { v2: false, ..Options::default() });
    assert_eq!(send(&server, "POST", V2_NEXT, &[JSON, TOKEN], PROVIDES.as_bytes()).0, 404);
    let v1 = V2_NEXT.replace("/v2/", "/v1/");
    let body = br#"{"artifact_name":"release-1","device_type":"test-type"}"#;
    assert_eq!(send(&server, "POST", &v1, &[JSON, TOKEN], body).0, 200);
}

#[test]
fn downloads_in_ranges_right_and_wrong() {
    let (_dir, server, content) = with_deployment(Options::default());
    let get = |headers: &[(&str, &str)]| send(&server, "GET", &artifact_path(), headers, b"");
    let range = ("Range", "bytes=99990-");
    let (status, head, body) = get(&[range]);
    assert!(
        head.contains("Content-Range: bytes 99990-99999/100000\r\n") && head.contains("ETag: \""),
        "{head}"
    );
    assert_eq!((status, &*body), (206, &content[99_990..]));
    assert_eq!(get(&[range, ("If-Range", "\"old\"")]).0, 200);
    assert_eq!(get(&[("Range", "bytes=100000-")]).0, 416);

    act(&server, What::Artifact, Act::IgnoreRange);
    assert_eq!(get(&[range]).0, 200);
    for (fault, wanted) in [
        (RangeFault::Shifted(-10), "Content-Range: bytes 99980-99999/100000"),
        (RangeFault::Shifted(5), "Content-Range: bytes 99995-99999/100000"),
        (RangeFault::Total(5), "99990-99999/5\r\n"),
        (RangeFault::UnknownTotal, "99990-99999/*\r\n"),
        (RangeFault::OtherEtag, "ETag: \"another\""),
    ] {
        act(&server, What::Artifact, Act::WrongRange(fault));
        let (status, head, _) = get(&[range]);
        assert!(status == 206 && head.contains(wanted), "{fault:?}: {head}");
    }
    act(&server, What::Artifact, Act::WrongRange(RangeFault::NoHeader));
    assert!(!get(&[range]).1.contains("Content-Range"));
}

#[test]
fn every_way_to_misbehave() {
    let (_dir, server, content) = with_deployment(Options::default());
    let get = || send(&server, "GET", &artifact_path(), &[], b"");
    act(&server, What::Artifact, Act::error(503));
    assert_eq!(get().0, 503);
    act(&server, What::Artifact, Act::DropConnection);
    assert_eq!(get(), (0, String::new(), vec![]));
    act(&server, What::Artifact, Act::DropAfter { bytes: 1000 });
    assert_eq!(get().2, content[..1000]);
    act(&server, What::Artifact, Act::Corrupt { at: 70_000 });
    let body = get().2;
    assert_eq!((0..content.len()).filter(|&at| body[at] != content[at]).collect::<Vec<_>>(), [70_000]);
    act(&server, What::Artifact, Act::NoLength);
    let (_, head, body) = get();
    assert!(head.contains("chunked") && !head.contains("Content-Length") && body.ends_with(b"\r\n0\r\n\r\n"));
    act(&server, What::Artifact, Act::Redirect("{url}/elsewhere".to_owned()));
    let (status, head, _) = get();
    assert!(status == 302 && head.contains(&format!("Location: {}/elsewhere\r\n", server.url())), "{head}");
    act(&server, What::Artifact, Act::Slow { bytes_per_second: 1_000_000 });
    let start = std::time::Instant::now();
    assert_eq!(get().2, content);
    assert!(start.elapsed() >= Duration::from_millis(95));

    act(&server, What::StatusOf("installing"), Act::LoseResponse);
    let status = |text: &str| put(&server, "status", &format!(r#"{{"status":"{text}"}}"#));
    assert_eq!((status("downloading"), status("installing"), status("installing")), (204, 0, 204));
    assert_eq!(server.statuses(ID), ["downloading", "installing", "installing"]);
    assert_eq!(server.violations(), [""; 0]);
}

#[test]
fn a_hanging_download_is_seen_and_ends_with_the_server() {
    let (_dir, server, content) = with_deployment(Options::default());
    act(&server, What::Artifact, Act::HangAfter { bytes: 5000 });
    act(&server, What::Inventory, Act::Hang);
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    let mut other = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    let client = thread::spawn(move || exchange(&mut stream, "GET", &artifact_path(), &[], b""));
    let silent = thread::spawn(move || exchange(&mut other, "PUT", INVENTORY, &[JSON, TOKEN], b"[]"));
    assert!(
        server.wait_until(|server| server.requests_of(What::Artifact).iter().any(|r| r.sent == 5000), SOON)
    );
    assert!(server.wait_until(|server| !server.requests_of(What::Inventory).is_empty(), SOON));
    assert!(!server.wait_until(|server| !server.inventory().is_empty(), Duration::from_millis(20)));
    drop(server);
    assert_eq!(client.join().unwrap().2, content[..5000]);
    assert_eq!(silent.join().unwrap().0, 0);
}

#[test]
fn connections_stay_open_for_several_requests() {
    let (_dir, server, _) = with_deployment(Options::default());
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    let chunked = format!(
        "POST {V2_NEXT} HTTP/1.1\r\ncontent-type: application/json\r\nauthorization: {}\r\n\
         transfer-encoding: chunked\r\n\r\n{:x};x=y\r\n{PROVIDES}\r\n0\r\n\r\n",
        TOKEN.1,
        PROVIDES.len()
    );
    stream.write_all(chunked.as_bytes()).unwrap();
    assert!(
        server
            .wait_until(|server| server.requests().last().is_some_and(|request| request.status == 200), SOON)
    );
    let (_, _, rest) = exchange(&mut stream, "POST", V2_NEXT, &[JSON, TOKEN], PROVIDES.as_bytes());
    assert!(
        String::from_utf8(rest).unwrap().contains("HTTP/1.1 200 OK"),
        "the second answer follows the first"
    );
    assert_eq!(server.violations(), [""; 0]);
}

#[test]
fn tls_with_certificates_of_its_own() {
    let dir = TempDir::new("tls");
    let certificates = make_certificates(dir.path()).unwrap();
    let others = make_certificates(&dir.path().join("others")).unwrap();
    let server = Server::start(Options { tls: Some(certificates.tls()), ..Options::default() });
    assert!(server.url().starts_with("https://127.0.0.1:"));
    let connect = |ca: &std::path::Path| {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let session = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        rustls::StreamOwned::new(session, stream)
    };
    let refused = connect(&others.ca).write_all(b"GET").unwrap_err();
    assert!(refused.to_string().contains("certificate"), "{refused}");
    let (body, signature) = auth_request(r#"{"mac":"1"}"#);
    let headers = [JSON, ("X-MEN-Signature", &*signature)];
    assert_eq!(exchange(&mut connect(&certificates.ca), "POST", AUTH, &headers, body.as_bytes()).0, 200);
    assert_eq!(server.violations(), [""; 0], "not to trust the server is no violation");
}
