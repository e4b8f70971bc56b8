//! Addresses and headers. The first byte is what the rest, divided by a NUL, is:
//!
//! | byte | the rest is |
//! | --- | --- |
//! | `s` | a server's address, and a path |
//! | `r` | an address, and where it redirects to |
//! | `e` | a text to percent-encode, and one to decode |
//! | `t` | the value of Retry-After |
//! | `p` | `http_proxy`, `no_proxy`, and the address of a request |
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(missing_docs, clippy::missing_panics_doc, reason = "see the list in tests/fuzz/targets/mod.rs")]

use std::time::Duration;

use ureq::http::{HeaderMap, HeaderValue};

use super::{Proxies, http, url};
use crate::fuzz::input;

pub fn run(data: &[u8]) {
    let (what, rest) = input::byte(data);
    let text = String::from_utf8_lossy(rest);
    let (first, second) = text.split_once('\0').unwrap_or((&text, ""));
    match what {
        b's' => server(first, second),
        b'r' => redirect(first, second),
        b'e' => escapes(first, second),
        b't' => retry_after(rest),
        b'p' => {
            let (direct, address) = second.split_once('\0').unwrap_or((second, "http://h/"));
            proxy(first, direct, address);
        }
        _ => {}
    }
}

fn server(text: &str, path: &str) {
    match url::server(text) {
        Ok(server) => {
            assert!(!server.ends_with('/') && !server.contains(['?', '#']) && plain(&server), "{server}");
            sendable(&server);
            let joined = url::join(&server, path);
            assert!(joined.starts_with(&server) && joined[server.len()..].starts_with('/'));
        }
        Err(e) => {
            assert!(e.code == "SERVER-URL" && e.text.len() < 1500 && plain(&e.text), "{e:?}");
        }
    }
}

fn redirect(base: &str, location: &str) {
    if url::check(base).is_err() {
        return;
    }
    sendable(base);
    match url::resolve(base, location) {
        Ok(target) => {
            sendable(&target);
            assert!(!target.contains('#'), "{target}");
            assert!(!base.starts_with("https:") || target.starts_with("https:"), "a downgrade: {target}");
            assert_eq!(url::resolve(base, &target).as_ref(), Ok(&target), "an absolute address stays");
            assert!(!url::shown(&target).contains('?'), "secrets are in the query");
        }
        Err(why) => assert!(plain(&why), "{why:?}"),
    }
}

fn sendable(address: &str) {
    let uri = url::check(address).expect("was accepted");
    let (host, port) = url::host_port(&uri);
    assert!(!host.is_empty() && port > 0 && plain(&host) && !host.contains(['/', '@']), "{host}");
}

fn escapes(text: &str, encoded: &str) {
    let there = url::encode(text);
    assert!(there.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~%".contains(&b)), "{there}");
    assert_eq!(url::decode(&there).as_deref(), Some(text.as_bytes()));
    if let Some(bytes) = url::decode(encoded) {
        assert!(bytes.len() <= encoded.len());
    }
}

fn retry_after(value: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(value) else { return };
    let mut headers = HeaderMap::new();
    headers.insert("retry-after", value);
    for now in [0, 1_700_000_000, u64::MAX] {
        let wait = http::retry_after(&headers, now);
        assert!(wait.is_none_or(|wait| wait <= Duration::from_secs(24 * 3600)), "{wait:?}");
    }
}

fn proxy(proxy: &str, direct: &str, address: &str) {
    let proxies = Proxies::read(|name| match name {
        "http_proxy" | "https_proxy" => Some(proxy.to_owned()),
        "no_proxy" => Some(direct.to_owned()),
        _ => None,
    });
    let Ok(uri) = url::check(address) else { return };
    match proxies.route(&uri) {
        Ok(Some(found)) => {
            assert!(!found.host.is_empty() && found.port > 0);
            assert!(plain(&found.shown), "{}", found.shown);
        }
        Ok(None) => {}
        Err(e) => assert!(plain(&e.text) && e.text.len() < 1500, "{e:?}"),
    }
}

/// Fit for one line of a log.
fn plain(text: &str) -> bool {
    !text.contains(char::is_control)
}
