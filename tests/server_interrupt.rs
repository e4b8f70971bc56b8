//! SIGTERM ends every wait at once, and no call starts a thread.
//!
//! A signal that came is remembered for the life of a process, so each case runs in a process of its own: this
//! program again, with the name of the case in its environment.

#![allow(clippy::expect_used, clippy::panic)] // These are tests.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::thread::JoinHandleExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use thimble::server::{Client, Proxies, Settings};

const CASE: &str = "THIMBLE_TEST_CASE";

fn run_case(case: &str) {
    let exe = std::env::current_exe().expect("our own path");
    let done = Command::new(exe)
        .args(["--exact", "one_case", "--ignored", "--test-threads=1", "--nocapture"])
        .env(CASE, case)
        .output()
        .expect("runs");
    let text = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && text.contains("1 passed"), "{case}: {text}");
}

#[test]
fn sigterm_ends_the_wait_for_an_answer() {
    run_case("answer");
}

#[test]
fn sigterm_ends_the_wait_for_a_proxy() {
    run_case("tunnel");
}

#[test]
fn sigterm_ends_the_wait_for_more_of_a_file() {
    run_case("body");
}

#[test]
fn sigterm_ends_the_wait_between_two_tries() {
    run_case("pause");
}

#[test]
fn sigterm_is_noticed_while_data_never_stops_coming() {
    run_case("flood");
}

#[test]
fn a_request_starts_no_thread() {
    run_case("threads");
}

/// Serves connections for ever; each in this one thread.
fn server(case: String) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = serve(stream, &case);
        }
    });
    port
}

fn serve(mut stream: TcpStream, case: &str) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    match case {
        "answer" | "tunnel" => std::thread::sleep(Duration::from_secs(30)),
        "body" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello")?;
            std::thread::sleep(Duration::from_secs(30));
        }
        "flood" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")?;
            loop {
                stream.write_all(&[0; 65536])?;
            }
        }
        "threads" => {
            let count = std::fs::read_dir("/proc/self/task")?.count();
            let text = count.to_string();
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len())?;
        }
        _ => {}
    }
    Ok(())
}

#[test]
#[ignore = "started by the other tests, in a process of its own"]
fn one_case() {
    let case = std::env::var(CASE).expect("a case");
    let port = server(case.clone());
    let uri = match case.as_str() {
        "tunnel" => "https://server.example/a".to_owned(),
        _ => format!("http://localhost:{port}/a"),
    };
    let settings = Settings {
        servers: vec![uri.clone()],
        server_certificate: None,
        skip_verify: true,
        client_certificate: None,
        client_key: None,
        tenant_token: String::new(),
        proxies: Proxies::read(|name| (name == "https_proxy").then(|| format!("localhost:{port}"))),
        device_tier: None,
        root: PathBuf::from("/"),
        key: PathBuf::from("/nonexistent/key"),
        key_is_static: true,
        identity_script: PathBuf::from("/nonexistent/identity"),
        download_retries: 10,
        download_interval: Duration::from_secs(60),
        time_scale: 1.0,
        last_time: None,
    };
    let client = Client::new(settings).expect("good");
    if case == "threads" {
        let before = std::fs::read_dir("/proc/self/task").expect("tasks").count();
        let mut text = String::new();
        client.download(&uri).expect("starts").read_to_string(&mut text).expect("reads");
        assert_eq!(text, before.to_string());
        return;
    }
    let worker = std::thread::spawn(move || {
        let mut download = client.download(&uri).map_err(|f| f.to_string())?;
        std::io::copy(&mut download, &mut std::io::sink()).map_err(|e| e.to_string())
    });
    std::thread::sleep(Duration::from_millis(300));
    let begin = Instant::now();
    // SAFETY: the thread has not been joined, so its handle is valid.
    let status = unsafe { libc::pthread_kill(worker.as_pthread_t() as libc::pthread_t, libc::SIGTERM) };
    assert_eq!(status, 0);
    let e = worker.join().expect("no panic").expect_err("interrupted");
    assert!(e.starts_with("INTERRUPTED"), "{e}");
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
}
