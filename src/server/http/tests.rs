//! Time limits, with limits that a test can wait for.

use super::*;
use crate::server::{Proxies, Settings};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Instant;

fn settings() -> Settings {
    Settings {
        servers: Vec::new(),
        server_certificate: None,
        skip_verify: false,
        client_certificate: None,
        client_key: None,
        tenant_token: String::new(),
        proxies: Proxies::default(),
        device_tier: None,
        root: PathBuf::from("/"),
        key: PathBuf::new(),
        key_is_static: false,
        identity_script: PathBuf::new(),
        download_retries: 0,
        download_interval: Duration::ZERO,
        time_scale: 1.0,
        last_time: None,
    }
}

fn short() -> Limits {
    let time = Duration::from_millis(300);
    Limits { connect: time, proxy: time, header: time, idle: time, body: time * 3 }
}

fn off() -> Floor {
    Floor::new(None)
}

fn http() -> Http {
    Http::new(Trust::new(&settings(), off()).expect("good"), Proxies::default(), short(), off())
}

/// A server that does `serve` with its only connection.
fn server(serve: impl FnOnce(TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/x?secret", listener.local_addr().expect("address"));
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let _ = stream.read(&mut [0; 4096]);
        serve(stream);
    });
    url
}

fn ask(url: &str) -> Fault {
    let begin = Instant::now();
    let request = Request { method: "GET", url, headers: &[], body: Payload::None, limit: 100_000 };
    let fault = http().send(request).expect_err("too slow");
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert!(!fault.error.text.contains("secret"), "{fault}");
    fault
}

/// One byte at a time, each in time, for ever.
fn drip(mut stream: TcpStream) {
    while stream.write_all(b"a").is_ok() {
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    let fault = ask(&server(|stream| {
        std::thread::sleep(Duration::from_secs(5));
        drop(stream);
    }));
    assert_eq!((fault.kind, fault.error.code), (Kind::Transport, "NET-TIMEOUT"));
    assert!(fault.error.text.contains("no answer"), "{fault}");
}

#[test]
fn a_proxy_that_says_nothing_is_given_up_and_named() {
    let url = server(|stream| {
        std::thread::sleep(Duration::from_secs(5));
        drop(stream);
    });
    let proxy = url.trim_end_matches("/x?secret");
    let proxies = Proxies::read(|name| (name == "https_proxy").then(|| proxy.to_owned()));
    let mut settings = settings();
    settings.skip_verify = true;
    let http = Http::new(Trust::new(&settings, off()).expect("good"), proxies, short(), off());
    let url = "https://server.example/";
    let begin = Instant::now();
    let request = Request { method: "GET", url, headers: &[], body: Payload::None, limit: 0 };
    let fault = http.send(request).expect_err("too slow");
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    assert_eq!((fault.kind, fault.error.code), (Kind::Transport, "PROXY-TIMEOUT"));
    assert!(fault.error.text.contains(proxy), "{fault}");
}

#[test]
fn a_head_that_comes_byte_by_byte_is_given_up() {
    let fault = ask(&server(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nX-A: ");
        drip(stream);
    }));
    assert_eq!((fault.kind, fault.error.code), (Kind::Transport, "NET-TIMEOUT"));
}

#[test]
fn a_body_of_an_api_answer_that_comes_byte_by_byte_is_given_up() {
    let fault = ask(&server(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n");
        drip(stream);
    }));
    assert_eq!((fault.kind, fault.error.code), (Kind::Transport, "NET-TIMEOUT"));
    assert!(fault.error.text.contains("too long"), "{fault}");
}

#[test]
fn a_download_that_comes_slowly_goes_on_but_silence_ends_it() {
    let url = server(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n");
        for _ in 0..40 {
            let _ = stream.write_all(b"a");
            std::thread::sleep(Duration::from_millis(50));
        }
        std::thread::sleep(Duration::from_secs(3));
    });
    let mut body = Vec::new();
    let response = http().get(&url, &[]).expect("begins");
    let e = response.into_body().into_reader().read_to_end(&mut body).expect_err("silence");
    assert_eq!(body.len(), 40, "longer than any limit but the one on silence");
    let fault = io_fault(&e, "GET x");
    assert_eq!((fault.kind, fault.error.code), (Kind::Transport, "NET-TIMEOUT"));
    assert!(fault.error.text.contains("silent"), "{fault}");
}

#[test]
fn a_port_where_nobody_listens_and_a_name_that_nobody_has_are_told_apart() {
    let request =
        |url| http().send(Request { method: "GET", url, headers: &[], body: Payload::None, limit: 0 });
    let fault = request("http://127.0.0.1:9/").expect_err("closed");
    assert_eq!((fault.kind, fault.error.code), (Kind::Transport, "NET-CONNECT"));
    let fault = request("http://no-such-host.invalid/").expect_err("unknown");
    assert_eq!((fault.kind, fault.error.code), (Kind::Transport, "NET-NAME"));
    assert!(fault.error.text.contains("no-such-host.invalid"), "{fault}");
}

#[test]
fn ipv6_literals_are_connected_to() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        return; // This machine has no IPv6.
    };
    let url = format!("http://{}/", listener.local_addr().expect("address"));
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut head = vec![0; 4096];
        let count = stream.read(&mut head).expect("a request");
        let _ = stream.write_all(b"HTTP/1.1 204 X\r\n\r\n");
        String::from_utf8_lossy(&head[..count]).into_owned()
    });
    let request = Request { method: "GET", url: &url, headers: &[], body: Payload::None, limit: 0 };
    assert_eq!(http().send(request).expect("answers").status, 204);
    assert!(thread.join().expect("ends").contains("host: [::1]:"));
}

#[test]
fn what_servers_say_stays_on_one_line() {
    let say = |body: &str| {
        let (retry_after, request_id) = (None, String::new());
        Answer { status: 500, body: body.as_bytes().to_vec(), retry_after, request_id }
            .refused("GET x")
            .error
            .text
    };
    assert_eq!(say("{\"error\":\"a\\nb\"}"), "GET x: the server answered 500: a b");
    assert_eq!(say("plain\r\ntext\n"), "GET x: the server answered 500: plain  text");
    assert_eq!(say(""), "GET x: the server answered 500");
    assert!(say(&"x".repeat(9999)).len() < 400);
}
