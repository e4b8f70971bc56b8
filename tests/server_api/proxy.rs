//! Through proxies (cases 23 and 24). The proxies are on the loopback interface, the servers have names that only
//! the proxies know.

use crate::mock::{Device, Server, reply};
use crate::tls::{self_signed, serve};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use thimble::server::{Client, Kind, Proxies};

/// A proxy that knows CONNECT. Whatever name it is asked for, it connects to one port here.
struct Tunnel {
    address: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Tunnel {
    /// `answer` gets the head of the request; the tunnel is opened if it is a 200.
    fn start(to: u16, answer: impl Fn(&str) -> &'static str + Send + 'static) -> Tunnel {
        Tunnel::on("127.0.0.1:0", to, answer).expect("a port")
    }

    fn on(
        address: &str,
        to: u16,
        answer: impl Fn(&str) -> &'static str + Send + 'static,
    ) -> std::io::Result<Tunnel> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?.to_string();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let list = heads.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                    head.push(byte[0]);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let said = answer(&head);
                list.lock().expect("lock").push(head);
                let _ = stream.write_all(said.as_bytes());
                if said.contains(" 200 ") {
                    let server = TcpStream::connect(("127.0.0.1", to)).expect("the server is there");
                    pump(&stream, &server);
                    pump(&server, &stream);
                }
            }
        });
        Ok(Tunnel { address, heads })
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("lock").clone()
    }
}

fn pump(from: &TcpStream, to: &TcpStream) {
    let (mut from, mut to) = (from.try_clone().expect("clones"), to.try_clone().expect("clones"));
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
}

const OPEN: &str = "HTTP/1.1 200 Connection established\r\n\r\n";
const NAMED: &str = "-addext subjectAltName=DNS:server.example,IP:2001:db8::1";

fn through(variable: &str, value: &str) -> Proxies {
    Proxies::read(|name| (name == variable).then(|| value.to_owned()))
}

/// A client that trusts the certificate `own`; https goes through the proxy.
fn client(device: &Device, server: &str, proxy: &str) -> Client {
    let mut settings = device.settings(&[server.to_owned()]);
    settings.server_certificate = Some(device.dir.join("own.pem"));
    settings.proxies = through("https_proxy", proxy);
    Client::new(settings).expect("good")
}

fn provides() -> BTreeMap<String, String> {
    BTreeMap::from([("artifact_name".to_owned(), "r1".to_owned())])
}

#[test]
fn https_goes_through_a_tunnel_and_the_certificate_is_that_of_the_server() {
    let device = Device::new();
    self_signed(&device.dir, "own", NAMED);
    let server = serve(&device.dir, "own", None, &Arc::default());
    let proxy = Tunnel::start(server.port, |_| OPEN);
    for host in ["server.example", "[2001:db8::1]:8443"] {
        client(&device, &format!("https://{host}"), &proxy.address).report("d-1", "success").expect("works");
    }
    assert_eq!(server.seen().len(), 4);
    let heads = proxy.heads();
    let lines: Vec<&str> = heads.iter().filter_map(|h| h.lines().next()).collect();
    let (named, literal) = ("CONNECT server.example:443 HTTP/1.1", "CONNECT [2001:db8::1]:8443 HTTP/1.1");
    assert_eq!(lines, [named, named, literal, literal]);
    for head in heads {
        assert!(!head.contains("Proxy-Authorization") && !head.contains("Bearer"), "{head}");
    }
    // The proxy cannot pretend to be another server.
    let fault = client(&device, "https://other.example", &proxy.address).authorize().expect_err("wrong name");
    assert_eq!(fault.error.code, "TLS-NAME", "{fault}");
    assert!(fault.error.text.contains(&format!("through http://{}", proxy.address)), "{fault}");
}

#[test]
fn a_proxy_that_wants_a_password_gets_it_and_the_server_does_not() {
    let device = Device::new();
    self_signed(&device.dir, "own", NAMED);
    let server = serve(&device.dir, "own", None, &Arc::default());
    let proxy = Tunnel::start(server.port, |head| {
        let good = head.contains("\r\nProxy-Authorization: Basic dXNlcjpwQHNz\r\n"); // user:p@ss
        if good { OPEN } else { "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 2\r\n\r\nno" }
    });
    let ask = |user: &str| {
        let proxy = format!("http://{user}{}", proxy.address);
        client(&device, "https://server.example", &proxy).report("d-1", "success")
    };
    for (user, part) in [("", "wants a user name"), ("user:wrong@", "does not accept")] {
        let fault = ask(user).expect_err("407");
        assert_eq!((fault.kind, fault.error.code), (Kind::Transport, "PROXY-AUTH"), "{fault}");
        assert!(fault.error.text.contains(part) && fault.error.text.contains(&proxy.address), "{fault}");
        assert!(!fault.error.text.contains("wrong"), "{fault}");
    }
    assert!(server.seen().is_empty());
    ask("user:p%40ss@").expect("works");
    assert!(server.seen().iter().all(|s| s.header("Proxy-Authorization").is_none()));
}

#[test]
fn a_proxy_that_refuses_is_gone_or_mute_is_named_in_the_error() {
    let device = Device::new();
    self_signed(&device.dir, "own", NAMED);
    for (answer, code) in [
        ("HTTP/1.1 403 No\r\n\r\n", "PROXY-REFUSED"),
        ("HTTP/1.1 503 No\r\n\r\n", "PROXY-REFUSED"),
        ("", "PROXY-ANSWER"),
    ] {
        let proxy = Tunnel::start(9, move |_| answer);
        let fault = client(&device, "https://server.example", &proxy.address).authorize().expect_err(code);
        assert_eq!((fault.kind, fault.error.code), (Kind::Transport, code), "{fault}");
        assert!(fault.error.text.contains(&proxy.address), "{fault}");
    }
    let gone = client(&device, "https://server.example", "127.0.0.1:9").authorize().expect_err("gone");
    assert_eq!(gone.error.code, "NET-CONNECT");
    assert!(gone.error.text.contains("cannot connect to the proxy http://127.0.0.1:9"), "{gone}");
    let lost =
        client(&device, "https://server.example", "no-such-proxy.invalid").authorize().expect_err("lost");
    assert_eq!(lost.error.code, "NET-NAME");
    assert!(lost.error.text.contains("the proxy `no-such-proxy.invalid`"), "{lost}");
    let kind = client(&device, "https://server.example", "socks5://127.0.0.1:9").authorize();
    assert_eq!(kind.expect_err("not supported").error.code, "PROXY-SETTING");
}

#[test]
fn plain_http_is_asked_for_with_the_whole_address_api_and_downloads_alike() {
    let device = Device::new();
    let proxy = Server::start(|seen, number| {
        assert_eq!(seen.header("Host"), Some("server.example:8080"), "{seen:?}");
        assert_eq!(seen.header("Proxy-Authorization"), Some("Basic dTpw"));
        match seen.target.strip_prefix("http://server.example:8080") {
            Some("/api/devices/v1/authentication/auth_requests") => reply(200, &[], b"token"),
            Some("/a?sig=%2F") => reply(302, &[("Location", "/b")], b""),
            // Cut after two bytes: the rest must come the same way.
            Some("/b") if seen.header("Range").is_none() => {
                reply(200, &[("Content-Length", "5"), ("ETag", "\"e\"")], b"he")
            }
            Some("/b") => reply(206, &[("Content-Range", "bytes 2-4/5")], b"llo"),
            _ if number == 1 => reply(204, &[], b""),
            other => panic!("{other:?}"),
        }
    });
    let mut settings = device.settings(&["http://server.example:8080".into()]);
    settings.proxies = through("HTTP_PROXY", &format!("http://u:p@127.0.0.1:{}", proxy.port));
    let mut client = Client::new(settings).expect("good");
    assert_eq!(client.next_deployment(&provides(), "dt"), Ok(None));
    let mut download = client.download("http://server.example:8080/a?sig=%2F").expect("begins");
    let mut text = String::new();
    download.read_to_string(&mut text).expect("reads");
    assert_eq!(text, "hello");
    assert_eq!(proxy.seen().len(), 6);
    assert!(proxy.seen()[2..].iter().all(|s| s.header("Authorization").is_none()));
}

#[test]
fn a_plain_407_is_the_proxys_and_names_it() {
    let device = Device::new();
    let proxy = Server::start(|_, _| reply(407, &[("Proxy-Authenticate", "Basic")], b"login please"));
    let mut settings = device.settings(&["http://server.example".into()]);
    settings.proxies = through("http_proxy", &proxy.url());
    settings.download_retries = 0;
    let mut client = Client::new(settings).expect("good");
    let fault = client.download("http://server.example/a?secret").expect_err("407");
    assert_eq!(fault.kind, Kind::Transport);
    for fault in [fault, client.authorize().expect_err("407")] {
        let text = &fault.error.text;
        assert!(
            text.contains(&proxy.url()) && text.contains("http_proxy") && !text.contains("secret"),
            "{text}"
        );
    }
}

#[test]
fn what_is_named_in_no_proxy_is_reached_directly() {
    let device = Device::new();
    for list in ["x.example 192.0.2.1", "x.example,192.0.2.1"] {
        let proxy = Server::start(|_, _| reply(200, &[], b"by proxy"));
        let mut settings = device.settings(&[]);
        let value = proxy.url();
        settings.proxies = Proxies::read(|name| match name {
            "http_proxy" => Some(value.clone()),
            "NO_PROXY" => Some(list.to_owned()),
            _ => None,
        });
        settings.download_retries = 0;
        let client = Client::new(settings).expect("good");
        let server = Server::start(|_, _| reply(200, &[], b"directly"));
        let get = |uri: &str| {
            let mut text = String::new();
            client.download(uri).map_err(|f| f.error.text)?.read_to_string(&mut text).expect("reads");
            Ok::<_, String>(text)
        };
        assert_eq!(get(&format!("{}/a", server.url())), Ok("directly".into()));
        assert_eq!(get("http://y.example/a"), Ok("by proxy".into()));
        // Looked up here, where it has no address; the proxy would have answered.
        let e = get("http://no-such-host.x.example/a").expect_err("unknown");
        assert!(e.contains("cannot find the address of `no-such-host.x.example`"), "{e}");
        assert_eq!(proxy.seen().len(), 1);
    }
}

#[test]
fn a_proxy_with_an_ipv6_address_is_reached() {
    let device = Device::new();
    self_signed(&device.dir, "own", NAMED);
    let server = serve(&device.dir, "own", None, &Arc::default());
    let Ok(proxy) = Tunnel::on("[::1]:0", server.port, |_| OPEN) else {
        return; // This machine has no IPv6.
    };
    client(&device, "https://server.example", &format!("http://{}", proxy.address))
        .report("d-1", "success")
        .expect("works");
    assert_eq!(proxy.heads().len(), 2);
}

#[test]
fn the_program_takes_the_proxy_from_its_environment() {
    let device = Device::new();
    let proxy = Server::start(|_, _| reply(401, &[], b""));
    let done = device.run("http://server.example", "bootstrap", &[("http_proxy", &proxy.url())]);
    let lines = proxy.lines();
    assert!(lines.iter().any(|l| l.starts_with("POST http://server.example/api/")), "{lines:?} {done:?}");
}
