//! Links that expire in the middle of a download (SA-71).

use crate::mock::{AUTH, Device, NEXT2, Reply, Seen, Server, accepting, reply};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Read;
use std::rc::Rc;
use thimble::server::{Client, Kind, Refresh};

const FILE: &[u8] = b"0123456789abcdefghij";

fn provides() -> BTreeMap<String, String> {
    BTreeMap::from([("artifact_name".to_owned(), "r1".to_owned())])
}

fn offer(id: &str, name: &str, uri: &str) -> Reply {
    let body = format!(
        r#"{{"id":"{id}","artifact":{{"artifact_name":"{name}","device_types_compatible":["dt"],
            "source":{{"uri":"{uri}"}}}}}}"#
    );
    reply(200, &[], body.as_bytes())
}

/// The file from where the request wants it, cut after 8 bytes if it wants all of it.
fn part(seen: &Seen, etag: &str) -> Reply {
    let length = FILE.len().to_string();
    let Some(range) = seen.header("Range") else {
        return reply(200, &[("Content-Length", &length), ("ETag", etag)], &FILE[..8]);
    };
    let start: usize =
        range.strip_prefix("bytes=").and_then(|r| r.strip_suffix('-')).expect(range).parse().expect("number");
    if seen.header("If-Range").is_some_and(|tag| tag != etag) {
        return reply(200, &[("ETag", etag)], FILE);
    }
    let range = format!("bytes {start}-{}/{length}", FILE.len() - 1);
    reply(206, &[("Content-Range", &range), ("ETag", etag)], &FILE[start..])
}

/// As the agent does it: asks for a deployment, downloads it, and asks again when the link expires.
fn run(device: &Device, server: &Server, storage: &Server) -> Result<Vec<u8>, (Kind, String)> {
    let client = Rc::new(RefCell::new(device.client(&[server])));
    let offer = client.borrow_mut().next_deployment(&provides(), "dt").expect("asks").expect("a deployment");
    let uri = offer.uri.replace("http://STORAGE", &storage.url());
    let (again, url) = (client.clone(), storage.url());
    let refresh: Refresh = Box::new(move || {
        let uri = again.borrow_mut().fresh_link(&offer.id, &provides(), "dt")?;
        Ok(uri.map(|u| u.replace("http://STORAGE", &url)))
    });
    let downloader = client.borrow().downloader();
    let mut download = downloader.open(&uri, Some(refresh)).map_err(|f| (f.kind, f.to_string()))?;
    let mut bytes = Vec::new();
    download.read_to_end(&mut bytes).map_err(|e| (Kind::Protocol, e.to_string()))?;
    Ok(bytes)
}

/// Offers the links `/0`, `/1`, … one after the other.
fn offers() -> Server {
    Server::start(accepting(|_, number| offer("d-1", "r2", &format!("http://STORAGE/{}", number - 1))))
}

#[test]
fn a_download_goes_on_at_the_same_byte_with_a_fresh_link() {
    for status in [401, 403, 404, 410] {
        let device = Device::new();
        let storage = Server::start(move |seen, number| match (seen.target.as_str(), number) {
            ("/0", 0) => part(seen, "\"v1\""),
            ("/0", _) => reply(status, &[], b"expired"),
            _ => part(seen, "\"v1\""),
        });
        let server = offers();
        assert_eq!(run(&device, &server, &storage).as_deref(), Ok(FILE), "{status}");
        assert_eq!(storage.lines(), ["GET /0", "GET /0", "GET /1"]);
        let last = &storage.seen()[2];
        assert_eq!((last.header("Range"), last.header("If-Range")), (Some("bytes=8-"), Some("\"v1\"")));
        assert_eq!(last.header("Authorization"), None);
        assert_eq!(server.lines(), [AUTH, NEXT2, NEXT2]);
        assert_eq!(server.seen()[1].body, server.seen()[2].body, "the same provides (SA-43)");
    }
}

#[test]
fn a_link_that_has_expired_before_the_first_byte_is_replaced_too() {
    let device = Device::new();
    let storage = Server::start(|seen, _| match seen.target.as_str() {
        "/0" => reply(403, &[], b""),
        _ => reply(200, &[], FILE),
    });
    let server = offers();
    assert_eq!(run(&device, &server, &storage).as_deref(), Ok(FILE));
    assert_eq!(storage.lines(), ["GET /0", "GET /1"]);
}

#[test]
fn a_fresh_link_that_is_refused_as_well_ends_it() {
    let device = Device::new();
    let storage = Server::start(|_, _| reply(403, &[], b""));
    let server = offers();
    assert_eq!(run(&device, &server, &storage).expect_err("refused").0, Kind::Refused(403));
    assert_eq!(storage.lines(), ["GET /0", "GET /1"]);
    assert_eq!(server.lines(), [AUTH, NEXT2, NEXT2]);
}

#[test]
fn another_file_behind_the_fresh_link_is_never_spliced_in() {
    let device = Device::new();
    let storage = Server::start(|seen, number| match (seen.target.as_str(), number) {
        ("/0", 0) => part(seen, "\"v1\""),
        ("/0", _) => reply(403, &[], b""),
        _ => part(seen, "\"v2\""),
    });
    let server = offers();
    let (_, text) = run(&device, &server, &storage).expect_err("another file");
    assert!(text.starts_with("DOWNLOAD-LOST"), "{text}");
    assert_eq!(server.lines(), [AUTH, NEXT2, NEXT2]);
}

#[test]
fn another_deployment_another_artifact_or_none_is_no_fresh_link() {
    for answer in
        [offer("d-2", "r2", "http://STORAGE/1"), offer("d-1", "r3", "http://STORAGE/1"), reply(204, &[], b"")]
    {
        let device = Device::new();
        let storage = Server::start(|_, _| reply(403, &[], b""));
        let server = Server::start(accepting(move |_, number| {
            if number == 1 { offer("d-1", "r2", "http://STORAGE/0") } else { answer.clone() }
        }));
        let (kind, text) = run(&device, &server, &storage).expect_err("no link");
        assert_eq!(kind, Kind::Refused(403));
        assert!(text.starts_with("DOWNLOAD-EXPIRED"), "{text}");
        assert_eq!(storage.lines(), ["GET /0"]);
    }
}

#[test]
fn a_server_that_cannot_be_asked_does_not_end_the_download() {
    let device = Device::new();
    // The link works again at the second try after that.
    let storage = Server::start(|seen, number| match number {
        0 => part(seen, "\"v1\""),
        1 | 2 => reply(403, &[], b""),
        _ => part(seen, "\"v1\""),
    });
    let server = Server::start(accepting(|_, number| {
        if number == 1 { offer("d-1", "r2", "http://STORAGE/0") } else { reply(500, &[], b"") }
    }));
    assert_eq!(run(&device, &server, &storage).as_deref(), Ok(FILE));
    assert_eq!(server.lines(), [AUTH, NEXT2, NEXT2], "not asked again within five tries");
    assert_eq!(storage.seen().len(), 4);
}

#[test]
fn a_deployment_that_was_aborted_meanwhile_ends_the_download() {
    let device = Device::new();
    let storage =
        Server::start(|seen, number| if number == 0 { part(seen, "\"v1\"") } else { reply(403, &[], b"") });
    let server = Server::start(accepting(|_, number| {
        if number == 1 { offer("d-1", "r2", "http://STORAGE/0") } else { reply(409, &[], b"") }
    }));
    let (_, text) = run(&device, &server, &storage).expect_err("aborted");
    assert!(text.starts_with("SERVER-ABORTED"), "{text}");
}

#[test]
fn a_link_of_no_deployment_is_never_asked_for_again() {
    let device = Device::new();
    let storage = Server::start(|_, _| reply(403, &[], b""));
    let server = offers();
    let client = Client::new(device.settings(&[server.url()])).expect("good");
    let fault = client.download(&format!("{}/a", storage.url())).expect_err("403");
    assert_eq!(fault.kind, Kind::Refused(403));
    assert!(server.seen().is_empty());
}

#[test]
fn the_program_asks_for_a_fresh_link() {
    let device = Device::new();
    let storage = Server::start(|_, _| reply(403, &[], b""));
    let url = storage.url();
    let server = Server::start(accepting(move |seen, number| {
        if seen.line() == NEXT2 {
            offer("d-1", "r2", &format!("{url}/{number}"))
        } else {
            reply(204, &[], b"")
        }
    }));
    let done = device.run(&server.url(), "check", &[]);
    let asked = server.lines().iter().filter(|l| *l == NEXT2).count();
    assert_eq!((storage.seen().len(), asked), (2, 2), "{:?} {done:?}", server.lines());
    assert_ne!(storage.lines()[0], storage.lines()[1]);
}
