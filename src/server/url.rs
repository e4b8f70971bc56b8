//! Server addresses: what is accepted, joining, redirect targets, what may be shown. No I/O.

use crate::error::{Error, Result};
use ureq::http::Uri;

/// Why https cannot be spoken, where it cannot.
pub(super) const NO_TLS: &str = "needs TLS, and this thimble was built without it (feature `tls`)";

/// Checks a server URL of the configuration (SA-2..4) and removes the slashes at its end.
pub(super) fn server(text: &str) -> Result<String> {
    let wrong = |why: &str| {
        // What stands before `@` may be a password.
        let start = text.find("://").map_or(0, |p| p + 3);
        let shown = text[start..]
            .rfind('@')
            .map_or(text.to_owned(), |at| format!("{}…{}", &text[..start], &text[start + at..]));
        let shown: String = shown.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect();
        Error::new("SERVER-URL", format!("server URL `{shown}` {why}"))
    };
    check(text).map_err(|why| wrong(&why))?;
    if text.contains(['?', '#']) {
        return Err(wrong("must not have a query or a fragment: https://host[:port][/path]"));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// Whether this is an address that we may send a request to; if not, why (SA-3, SA-4).
pub(super) fn check(text: &str) -> std::result::Result<Uri, String> {
    if !text.starts_with("http://") && !text.starts_with("https://") {
        return Err("does not begin with https:// or http://".into());
    }
    if cfg!(not(feature = "tls")) && text.starts_with("https://") {
        return Err(NO_TLS.into());
    }
    // `Uri` takes any byte from 80 on, and addresses are shown on consoles, which obey U+009B.
    if text.chars().any(char::is_control) {
        return Err("contains a control character".into());
    }
    let uri: Uri = text.parse().map_err(|e| format!("is not a valid URL ({e})"))?;
    let Some(authority) = uri.authority() else {
        return Err("has no host name".into());
    };
    if authority.as_str().contains('@') {
        return Err("contains a user name, which is not supported".into());
    }
    if authority.host().is_empty() || authority.host() == "[]" {
        return Err("has no host name".into());
    }
    // `Uri` lets a port pass that is not a number, or too large.
    let rest = &authority.as_str()[authority.host().len()..];
    if !rest.is_empty() && authority.port_u16().is_none_or(|p| p == 0) {
        return Err("has a port that is not a number from 1 to 65535".into());
    }
    Ok(uri)
}

/// Server URL and path with one slash between them (SA-2).
pub(super) fn join(server: &str, path: &str) -> String {
    format!("{}/{}", server.trim_end_matches('/'), path.trim_start_matches('/'))
}

/// Host name (without the brackets of an IPv6 address) and port.
pub(super) fn host_port(uri: &Uri) -> (String, u16) {
    let host = uri.host().unwrap_or_default();
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    (bare.to_owned(), uri.port_u16().unwrap_or(default))
}

/// An address for messages: a pre-signed link carries its secret in the query.
pub(super) fn shown(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or(url)
}

/// Where a redirect from `base` leads. Bytes are kept as they are; only a relative path is resolved (RFC 3986, 5.2).
pub(super) fn resolve(base: &str, location: &str) -> std::result::Result<String, String> {
    let location = location.split('#').next().unwrap_or_default();
    let base = base.split('#').next().unwrap_or_default();
    let (scheme, rest) = base.split_once("://").ok_or("the address has no scheme")?;
    let authority = &rest[..rest.find(['/', '?']).unwrap_or(rest.len())];
    let path_query = &rest[authority.len()..];
    let path = path_query.split('?').next().unwrap_or_default();
    let target = if location.is_empty() {
        return Err("the redirect names no address".into());
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location.starts_with('?') {
        format!("{scheme}://{authority}{path}{location}")
    } else if has_scheme(location) {
        location.to_owned()
    } else {
        let directory = &path[..path.rfind('/').map_or(0, |p| p + 1)];
        let (relative, query) = location.split_at(location.find('?').unwrap_or(location.len()));
        format!("{scheme}://{authority}{}{query}", without_dots(&format!("/{directory}{relative}")))
    };
    let uri = check(&target).map_err(|why| format!("the redirect target {why}"))?;
    if scheme == "https" && uri.scheme_str() != Some("https") {
        return Err("the redirect leads from https to http, which is refused".into());
    }
    Ok(target)
}

fn has_scheme(text: &str) -> bool {
    let end = text.find([':', '/', '?']).unwrap_or(text.len());
    text[end..].starts_with(':') && text.starts_with(|c: char| c.is_ascii_alphabetic())
}

fn without_dots(path: &str) -> String {
    let mut out: Vec<&str> = Vec::new();
    let path = path.trim_start_matches('/');
    let segments: Vec<&str> = path.split('/').collect();
    for (i, segment) in segments.iter().enumerate() {
        let last = i + 1 == segments.len();
        match *segment {
            "." | ".." => {
                if *segment == ".." {
                    out.pop();
                }
                if last {
                    out.push("");
                }
            }
            other => out.push(other),
        }
    }
    format!("/{}", out.join("/"))
}

/// Percent-encodes everything but unreserved characters (SA-40).
pub(super) fn encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Undoes percent-encoding; `None` if a `%` is not followed by two hex digits.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut parts = text.split('%');
    let mut out = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let hex = part.get(..2).filter(|h| h.bytes().all(|b| b.is_ascii_hexdigit()))?;
        out.push(u8::from_str_radix(hex, 16).ok()?);
        out.extend_from_slice(&part.as_bytes()[2..]);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_between_server_and_path_become_one() {
        for server_url in ["https://h/base", "https://h/base/", "https://h/base///"] {
            let server = server(server_url).expect("valid");
            assert_eq!(join(&server, "/api/x"), "https://h/base/api/x");
            assert_eq!(join(&server, "api/x"), "https://h/base/api/x");
        }
        assert_eq!(join("http://h:8080", "//api"), "http://h:8080/api");
    }

    #[test]
    fn server_urls_that_cannot_work_are_refused_with_the_reason() {
        for (text, reason) in [
            ("", "begin with"),
            ("host.example", "begin with"),
            ("ftp://h", "begin with"),
            ("https://", "not a valid URL"),
            ("https:///path", "not a valid URL"),
            ("https://user:secret@h", "user name"),
            ("https://h:99999", "port"),
            ("https://h:0", "port"),
            ("https://h:x", "port"),
            ("https://h/?a=1", "query"),
            ("https://h/#a", "fragment"),
            ("https://a b", "not a valid URL"),
            ("https://h\r\nX: y", "control character"),
            ("https://h/\u{9b}31m", "control character"),
            ("https://h/\u{7f}", "control character"),
        ] {
            let e = server(text).expect_err(text);
            assert!(e.code == "SERVER-URL" && e.text.contains(reason), "{text}: {e}");
            assert!(!e.text.contains('\n') && !e.text.contains("secret"), "{e}");
        }
    }

    #[test]
    fn ipv6_addresses_and_ports_are_understood() {
        for (text, host, port) in [
            ("https://[::1]:8443/x", "::1", 8443),
            ("https://[::1]", "::1", 443),
            ("http://h", "h", 80),
            ("http://1.2.3.4:81/", "1.2.3.4", 81),
        ] {
            assert_eq!(host_port(&check(text).expect(text)), (host.to_owned(), port), "{text}");
        }
    }

    #[test]
    fn redirects_are_resolved_against_the_address_that_answered() {
        let base = "http://h:8/a/b/c?q=1";
        for (location, target) in [
            ("/x?y=%2F%20", "http://h:8/x?y=%2F%20"),
            ("x", "http://h:8/a/b/x"),
            ("../x?a=../b", "http://h:8/a/x?a=../b"),
            ("../../../../x", "http://h:8/x"),
            ("./", "http://h:8/a/b/"),
            ("?z", "http://h:8/a/b/c?z"),
            ("//other/x", "http://other/x"),
            ("https://s/x#frag", "https://s/x"),
            ("x:y/../z", ""),
        ] {
            match resolve(base, location) {
                Ok(got) => assert_eq!(got, target, "{location}"),
                Err(_) => assert!(target.is_empty(), "{location}"),
            }
        }
        assert!(resolve("https://h/a", "http://h/a").expect_err("downgrade").contains("refused"));
        assert!(resolve("https://h/a", "").is_err());
        assert!(resolve("https://h/a", "ftp://h/a").is_err());
        assert_eq!(resolve("https://h", "x").expect("ok"), "https://h/x");
    }

    #[test]
    fn percent_signs_are_decoded_once_and_only_with_two_hex_digits() {
        assert_eq!(decode("a%20b%2f%25%41").as_deref(), Some(&b"a b/%A"[..]));
        assert_eq!(decode("%ff").as_deref(), Some(&b"\xff"[..]));
        for bad in ["%", "a%2", "%zz", "%+1", "%2%41", "%\u{e4}"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn queries_are_encoded_with_upper_case_hex() {
        assert_eq!(encode("a b/ü~-_.Z9"), "a%20b%2F%C3%BC~-_.Z9");
    }
}
