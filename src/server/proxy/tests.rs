//! The variables and what they mean (case 24).

use super::*;

fn proxies(environment: &[(&str, &str)]) -> Proxies {
    Proxies::read(|name| environment.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
}

/// The proxy for an address, as it is shown; "" for none.
fn route(proxies: &Proxies, address: &str) -> String {
    let uri = url::check(address).expect(address);
    match proxies.route(&uri) {
        Ok(None) => String::new(),
        Ok(Some(proxy)) => proxy.shown.clone(),
        Err(e) => e.to_string(),
    }
}

fn is_direct(no_proxy: &str, address: &str) -> bool {
    let proxies = proxies(&[("http_proxy", "p"), ("https_proxy", "p"), ("no_proxy", no_proxy)]);
    route(&proxies, address).is_empty()
}

#[test]
fn each_scheme_has_its_variable_in_both_spellings() {
    for (http, https) in [("http_proxy", "https_proxy"), ("HTTP_PROXY", "HTTPS_PROXY")] {
        let both = proxies(&[(http, "http://a:1"), (https, "http://b:2/")]);
        assert_eq!(route(&both, "http://h/"), "http://a:1");
        assert_eq!(route(&both, "https://h/"), "http://b:2");
        assert_eq!(route(&proxies(&[(http, "http://a:1")]), "https://h/"), "");
        assert_eq!(route(&proxies(&[(https, "http://a:1")]), "http://h/"), "");
    }
    assert_eq!(route(&proxies(&[]), "https://h/"), "");
    assert_eq!(route(&Proxies::default(), "https://h/"), "");
}

#[test]
fn upper_case_wins_and_an_empty_value_is_none() {
    let both = proxies(&[("https_proxy", "small"), ("HTTPS_PROXY", "BIG:1")]);
    assert_eq!(route(&both, "https://h/"), "http://BIG:1");
    let empty = proxies(&[("https_proxy", "small"), ("HTTPS_PROXY", " ")]);
    assert_eq!(route(&empty, "https://h/"), "http://small");
    let lists = proxies(&[("http_proxy", "p"), ("no_proxy", "a"), ("NO_PROXY", "b")]);
    assert_eq!((route(&lists, "http://a/").as_str(), route(&lists, "http://b/").as_str()), ("http://p", ""));
}

#[test]
fn under_cgi_only_the_lower_case_http_proxy_counts() {
    let cgi = ("REQUEST_METHOD", "GET");
    let evil = ("HTTP_PROXY", "http://evil");
    assert_eq!(route(&proxies(&[cgi, evil]), "http://h/"), "");
    assert_eq!(route(&proxies(&[cgi, evil, ("http_proxy", "good")]), "http://h/"), "http://good");
    assert_eq!(route(&proxies(&[cgi, ("HTTPS_PROXY", "good")]), "https://h/"), "http://good");
}

#[test]
fn commas_and_blanks_separate_the_words_of_no_proxy() {
    for list in ["a.b,c.d", "a.b c.d", " a.b , c.d ", "a.b,\tc.d,,"] {
        assert!(is_direct(list, "https://a.b/") && is_direct(list, "http://c.d:8/"), "{list}");
        assert!(!is_direct(list, "https://e.f/"), "{list}");
    }
}

#[test]
fn no_proxy_names_hosts_domains_ports_and_networks() {
    for (word, direct, proxied) in [
        (
            "h.example",
            &["h.example", "H.Example", "h.example.", "x.h.example", "h.example:81"][..],
            &["xh.example", "example"][..],
        ),
        (".h.example", &["x.h.example", "y.x.h.example"], &["h.example", "xh.example"]),
        ("*.h.example", &["x.h.example"], &["h.example"]),
        ("H.EXAMPLE.", &["h.example"], &["example"]),
        ("h.example:81", &["h.example:81", "x.h.example:81"], &["h.example", "h.example:82"]),
        ("*", &["h", "10.1.2.3", "[2001:db8::1]:5"], &[]),
        ("*:81", &["h:81"], &["h"]),
        ("10.1.2.3", &["10.1.2.3", "10.1.2.3:81"], &["10.1.2.4", "110.1.2.3", "h"]),
        ("10.1.2.3:81", &["10.1.2.3:81"], &["10.1.2.3"]),
        (
            "10.0.0.0/8",
            &["10.0.0.0", "10.255.255.255"],
            &["11.0.0.0", "9.255.255.255", "[::a00:1]", "10.example"],
        ),
        ("10.1.2.3/31", &["10.1.2.2", "10.1.2.3"], &["10.1.2.4"]),
        ("0.0.0.0/0", &["8.8.8.8"], &["h", "[2001:db8::1]"]),
        ("2001:db8::/32", &["[2001:db8::1]", "[2001:db8:ffff::1]:8"], &["[2001:db9::1]", "32.1.13.184"]),
        ("2001:db8::1", &["[2001:db8::1]:8"], &["[2001:db8::2]"]),
        ("[2001:db8::1]", &["[2001:db8::1]:8"], &["[2001:db8::2]"]),
        ("[2001:db8::1]:8", &["[2001:db8::1]:8"], &["[2001:db8::1]:9"]),
        // What makes no sense is ignored.
        ("10.0.0.0/33", &[], &["10.0.0.0"]),
        ("a/b", &[], &["a"]),
        ("h:x", &[], &["h"]),
        (".", &[], &["h"]),
        ("*.*.h", &[], &["a.b.h"]),
    ] {
        for host in direct {
            assert!(is_direct(word, &format!("http://{host}/x")), "{word}: {host}");
        }
        for host in proxied {
            assert!(!is_direct(word, &format!("http://{host}/x")), "{word}: {host}");
        }
    }
}

#[test]
fn this_machine_is_never_reached_through_a_proxy() {
    for host in ["localhost", "LOCALHOST:80", "127.0.0.1", "127.9.9.9:81", "[::1]:8", "[::ffff:127.0.0.1]"] {
        assert!(is_direct("", &format!("https://{host}/")), "{host}");
    }
    for host in ["localhost.example", "128.0.0.1", "[::2]"] {
        assert!(!is_direct("", &format!("https://{host}/")), "{host}");
    }
}

#[test]
fn a_proxy_address_is_understood_with_and_without_scheme_user_and_port() {
    for (value, host, port, credentials) in [
        ("proxy", "proxy", 80, None),
        ("proxy:3128", "proxy", 3128, None),
        ("HTTP://proxy:3128/", "proxy", 3128, None),
        ("http://[::1]:3128", "::1", 3128, None),
        ("[2001:db8::1]", "2001:db8::1", 80, None),
        ("http://u:p@proxy", "proxy", 80, Some("u:p")),
        ("u@proxy", "proxy", 80, Some("u:")),
        ("http://@proxy", "proxy", 80, None),
        ("http://u%40x:a%3Ab%25%2f@[::1]:1/", "::1", 1, Some("u@x:a:b%/")),
        ("http://u:a@b@proxy", "proxy", 80, Some("u:a@b")),
    ] {
        let proxy = Proxy::parse("http_proxy", value).expect(value);
        assert_eq!((proxy.host.as_str(), proxy.port), (host, port), "{value}");
        let want = credentials.map(|c| format!("Basic {}", der::base64(c.as_bytes())));
        assert_eq!(proxy.credentials, want, "{value}");
        assert!(!proxy.shown.contains('@'), "{}", proxy.shown);
    }
}

#[test]
fn an_unusable_proxy_refuses_its_requests_and_never_shows_a_password() {
    for (value, reason) in [
        ("socks5://u:secret@h:1080", "`socks5`"),
        ("https://u:secret@h", "`https`"),
        ("http://u:secret@", "not a valid URL"),
        ("http://u:secret@h:99999", "port"),
        ("http://u:secret@h:0", "port"),
        ("http://u:sec/ret@h", "%2F"),
        ("http://u:secret%zz@h", "%25"),
        ("http://u:secret@a b", "not a valid URL"),
        ("http://u:secret@h\r\nX: y", "a control character"),
    ] {
        let broken = proxies(&[("https_proxy", value), ("no_proxy", "direct.example")]);
        let e = route(&broken, "https://h/");
        assert!(e.starts_with("PROXY-SETTING: https_proxy") && e.contains(reason), "{value}: {e}");
        assert!(!e.contains("secret") && !format!("{broken:?}").contains("secret"), "{e}");
        // What needs no proxy works.
        assert_eq!(route(&broken, "https://direct.example/"), "");
        assert_eq!(route(&broken, "http://h/"), "");
    }
}
