//! Downloads through broken connections, redirects and lies (cases 17 to 21).

use crate::mock::{Device, Reply, Seen, Server, reply};
use std::io::Read;
use thimble::server::{Client, Download, Fault, Kind};

fn data(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 31 + i / 251) as u8).collect()
}

fn start(server: &Server, path: &str) -> Result<Download, Fault> {
    let device = Device::new();
    Client::new(device.settings(&[server.url()])).expect("good").download(&format!("{}{path}", server.url()))
}

fn all(server: &Server) -> Result<Vec<u8>, String> {
    let mut download = start(server, "/a").map_err(|f| f.to_string())?;
    let mut bytes = Vec::new();
    download.read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    Ok(bytes)
}

/// Where a Range request wants to begin.
fn from(seen: &Seen) -> Option<usize> {
    seen.header("Range")
        .map(|r| r.strip_prefix("bytes=").and_then(|r| r.strip_suffix('-')).expect(r))
        .map(|r| r.parse().expect("a number"))
}

/// The file from `start`, cut after `most` bytes of body though the rest is announced.
fn part(file: &[u8], start: usize, most: usize) -> Reply {
    let range = format!("bytes {start}-{}/{}", file.len() - 1, file.len());
    let length = (file.len() - start).to_string();
    let headers = [("Content-Range", range.as_str()), ("Content-Length", &length), ("ETag", "\"v1\"")];
    let status = if start == 0 { 200 } else { 206 };
    let headers = if start == 0 { &headers[1..] } else { &headers[..] };
    reply(status, headers, &file[start..file.len().min(start + most)])
}

#[test]
fn a_download_carries_no_token_and_keeps_the_address_byte_for_byte() {
    let file = data(5000);
    let copy = file.clone();
    let server = Server::start(move |_, _| part(&copy, 0, 9999));
    let path = "/a%2Fb/%7e;c=d?X-Sig=a%2Bb+c%3D&e=%C3%a4&f";
    let mut download = start(&server, path).expect("starts");
    assert_eq!(download.content_length(), Some(5000));
    let mut bytes = Vec::new();
    download.read_to_end(&mut bytes).expect("reads");
    assert_eq!(bytes, file);
    let seen = server.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].target, path);
    for name in ["Authorization", "X-MEN-Signature", "Range", "Accept", "Content-Length"] {
        assert_eq!(seen[0].header(name), None);
    }
}

#[test]
fn a_connection_cut_anywhere_is_resumed_and_the_bytes_are_the_same() {
    let file = data(300);
    for cut in 0..file.len() {
        let copy = file.clone();
        let server = Server::start(move |seen, number| {
            part(&copy, from(seen).unwrap_or(0), if number == 0 { cut } else { 9999 })
        });
        assert_eq!(all(&server).as_deref(), Ok(file.as_slice()), "cut at {cut}");
        let seen = server.seen();
        assert_eq!(seen.len(), 2);
        // Before the first byte there is nothing to continue.
        assert_eq!(from(&seen[1]), (cut > 0).then_some(cut));
        assert_eq!(seen[1].header("If-Range"), (cut > 0).then_some("\"v1\""));
    }
}

#[test]
fn each_part_may_break_until_the_tries_are_used_up() {
    let file = data(100);
    for (step, good) in [(25, true), (24, false)] {
        let copy = file.clone();
        let server = Server::start(move |seen, _| part(&copy, from(seen).unwrap_or(0), step));
        let got = all(&server);
        assert_eq!(server.seen().len(), 4, "one request and three more");
        if good {
            assert_eq!(got.as_deref(), Ok(file.as_slice()));
        } else {
            let e = got.expect_err("given up");
            assert!(e.starts_with("DOWNLOAD-LOST") && e.contains("after 3 more tries"), "{e}");
        }
    }
}

#[test]
fn a_part_that_begins_earlier_is_skipped_to_the_right_byte() {
    let file = data(1000);
    for back in [1, 100, 600] {
        let copy = file.clone();
        let server = Server::start(move |seen, _| match from(seen) {
            None => part(&copy, 0, 600),
            Some(offset) if offset == back => reply(206, &[("Content-Range", "bytes 0-999/1000")], &copy),
            Some(offset) => part(&copy, offset - back, 9999),
        });
        assert_eq!(all(&server).as_deref(), Ok(file.as_slice()), "back {back}");
    }
}

#[test]
fn answers_that_do_not_fit_are_tried_again_and_never_spliced_in() {
    let file = data(1000);
    let whole: &[(&str, &str)] = &[];
    let lies: [(u16, &[(&str, &str)]); 12] = [
        (200, whole),
        (206, whole),
        (206, &[("Content-Range", "bytes 601-999/1000")]),
        (206, &[("Content-Range", "bytes 600-999/*")]),
        (206, &[("Content-Range", "bytes 600-999/1001")]),
        (206, &[("Content-Range", "bytes */1000")]),
        (206, &[("Content-Range", "nonsense")]),
        (206, &[("Content-Range", "bytes 600-999/1000"), ("ETag", "\"v2\"")]),
        (403, whole),
        (416, whole),
        (500, whole),
        (302, whole),
    ];
    for (status, headers) in lies {
        let copy = file.clone();
        let headers: Vec<(String, String)> =
            headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let server = Server::start(move |seen, number| match from(seen) {
            None => part(&copy, 0, 600),
            Some(_) if number == 1 => {
                let headers: Vec<(&str, &str)> =
                    headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
                reply(status, &headers, &[0xee; 400])
            }
            Some(offset) => part(&copy, offset, 9999),
        });
        assert_eq!(all(&server).as_deref(), Ok(file.as_slice()), "{status}");
        assert_eq!(server.seen().len(), 3);
    }
}

#[test]
fn a_part_longer_than_the_file_gives_no_byte_too_many() {
    let file = data(1000);
    let copy = file.clone();
    let server = Server::start(move |seen, _| match from(seen) {
        None => part(&copy, 0, 600),
        Some(_) => {
            let body = [&copy[600..], &[7u8; 500]].concat();
            reply(206, &[("Content-Range", "bytes 600-999/1000")], &body)
        }
    });
    assert_eq!(all(&server).as_deref(), Ok(file.as_slice()));
}

#[test]
fn the_length_announced_first_is_what_counts() {
    let server = Server::start(|_, _| reply(200, &[("Content-Length", "100")], &[1; 200]));
    assert_eq!(all(&server), Ok(vec![1; 100]));
}

#[test]
fn a_file_of_unknown_length_is_read_but_not_resumed() {
    let server = Server::start(|_, _| {
        reply(200, &[("Transfer-Encoding", "chunked")], b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")
    });
    let mut download = start(&server, "/a").expect("starts");
    assert_eq!(download.content_length(), None);
    let mut text = String::new();
    download.read_to_string(&mut text).expect("reads");
    assert_eq!(text, "hello world");

    let server =
        Server::start(|_, _| reply(200, &[("Transfer-Encoding", "chunked")], b"5\r\nhello\r\n6\r\n wo"));
    let e = all(&server).expect_err("cut");
    assert!(e.contains("did not say how long"), "{e}");
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn an_empty_file_is_an_empty_file() {
    let server = Server::start(|_, _| reply(200, &[], b""));
    assert_eq!(all(&server), Ok(Vec::new()));
}

#[test]
fn redirects_are_followed_for_every_request_of_a_download() {
    let file = data(1000);
    let copy = file.clone();
    let server = Server::start(move |seen, number| {
        if seen.target == "/a" {
            return reply(302, &[("Location", "b/../c?sig=%2F")], b"moved");
        }
        assert_eq!(seen.target, "/c?sig=%2F");
        part(&copy, from(seen).unwrap_or(0), if number == 1 { 400 } else { 9999 })
    });
    assert_eq!(all(&server).as_deref(), Ok(file.as_slice()));
    assert_eq!(server.lines(), ["GET /a", "GET /c?sig=%2F", "GET /a", "GET /c?sig=%2F"]);
}

#[test]
fn ten_redirects_are_followed_and_eleven_are_not() {
    for (most, good) in [(10, true), (11, false)] {
        let server = Server::start(move |_, number| {
            if number < most {
                reply(307, &[("Location", &format!("/{number}"))], b"")
            } else {
                reply(200, &[], b"x")
            }
        });
        match all(&server) {
            Ok(bytes) => assert!(good && bytes == b"x"),
            Err(e) => assert!(!good && e.starts_with("DOWNLOAD-REDIRECT"), "{e}"),
        }
        assert_eq!(server.seen().len(), 11);
    }
}

#[test]
fn a_first_request_that_fails_is_tried_again_unless_the_storage_says_no() {
    for (status, requests) in [(500, 2), (503, 2), (429, 2), (408, 2), (403, 1), (404, 1), (206, 1), (204, 1)]
    {
        let server = Server::start(move |_, number| {
            if number == 0 { reply(status, &[("Retry-After", "1")], b"") } else { reply(200, &[], b"x") }
        });
        assert_eq!(all(&server).is_ok(), requests == 2, "{status}");
        assert_eq!(server.seen().len(), requests, "{status}");
    }
    let server = Server::start(|_, number| if number < 2 { Vec::new() } else { reply(200, &[], b"x") });
    assert_eq!(all(&server), Ok(b"x".to_vec()));
}

#[test]
fn an_expired_link_is_named_without_its_secret() {
    let server = Server::start(|_, _| reply(403, &[], b""));
    let fault = start(&server, "/a?X-Amz-Signature=secret").expect_err("403");
    assert_eq!(fault.kind, Kind::Refused(403));
    assert!(fault.error.text.contains("expired") && !fault.error.text.contains("secret"), "{fault}");
}

#[test]
fn addresses_that_are_no_web_addresses_are_refused() {
    let device = Device::new();
    let client = Client::new(device.settings(&["http://127.0.0.1:9".into()])).expect("good");
    for uri in ["", "file:///etc/passwd", "http://", "http://u:p@h/", "http://h/\r\nX: y"] {
        assert_eq!(client.download(uri).expect_err(uri).error.code, "DOWNLOAD-URL");
    }
}
