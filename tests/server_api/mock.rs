//! A scripted server: one function from request to answer; a device made of a few files.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use thimble::server::{Client, Proxies, Settings};

/// A request as it arrived.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }

    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }
}

/// Bytes to send, raw; then the connection is closed.
pub type Reply = Vec<u8>;

/// An answer with its length.
pub fn reply(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    let mut head = format!("HTTP/1.1 {status} X\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if status != 204 && !headers.iter().any(|(n, _)| *n == "Content-Length" || *n == "Transfer-Encoding") {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    [head.as_bytes(), b"\r\n", body].concat()
}

/// What a connection speaks below HTTP.
pub trait Wrap: Send + Sync {
    fn wrap(&self, stream: TcpStream) -> std::io::Result<Box<dyn Stream>>;
}

pub trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

struct Plain;
impl Wrap for Plain {
    fn wrap(&self, stream: TcpStream) -> std::io::Result<Box<dyn Stream>> {
        Ok(Box::new(stream))
    }
}

/// Runs until it is dropped.
pub struct Server {
    pub port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// `answer` gets the request and its number, from 0.
    pub fn start(answer: impl Fn(&Seen, usize) -> Reply + Send + 'static) -> Server {
        Server::start_with(Plain, answer)
    }

    pub fn start_with(
        wrap: impl Wrap + 'static,
        answer: impl Fn(&Seen, usize) -> Reply + Send + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("address").port();
        let (seen, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (list, end) = (seen.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if end.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
                let Ok(mut stream) = wrap.wrap(stream) else { continue };
                let Some(request) = read_request(&mut stream) else { continue };
                let number = {
                    let mut list = list.lock().expect("lock");
                    list.push(request.clone());
                    list.len() - 1
                };
                let bytes = answer(&request, number);
                let _ = stream.write_all(&bytes).and_then(|()| stream.flush());
            }
        });
        Server { port, seen, stop, thread: Some(thread) }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("lock").clone()
    }

    /// Method and path of each request.
    pub fn lines(&self) -> Vec<String> {
        self.seen().iter().map(Seen::line).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read_request(stream: &mut dyn Stream) -> Option<Seen> {
    let mut reader = BufReader::with_capacity(1, stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let mut seen = Seen { method: words.next()?.into(), target: words.next()?.into(), ..Seen::default() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        seen.headers.push((name.into(), value.into()));
    }
    assert_eq!(seen.header("Transfer-Encoding"), None, "always Content-Length (SA-5a)");
    assert_eq!(seen.header("Accept-Encoding"), None, "never (SA-6)");
    assert_eq!(seen.header("User-Agent"), Some(concat!("thimble/", env!("CARGO_PKG_VERSION"))));
    let length = seen.header("Content-Length").map_or(0, |l| l.parse().expect("a number"));
    if length > 0 {
        assert_eq!(seen.header("Content-Type"), Some("application/json"));
    }
    seen.body = vec![0; length];
    reader.read_exact(&mut seen.body).ok()?;
    Some(seen)
}

pub const AUTH: &str = "POST /api/devices/v1/authentication/auth_requests";
pub const NEXT2: &str = "POST /api/devices/v2/deployments/device/deployments/next";
pub const NEXT1: &str = "GET /api/devices/v1/deployments/device/deployments/next";

/// Answers authentication with the token `t<number>`, everything else by `rest`.
pub fn accepting(
    rest: impl Fn(&Seen, usize) -> Reply + Send + 'static,
) -> impl Fn(&Seen, usize) -> Reply + Send {
    move |seen, number| {
        if seen.line() == AUTH {
            reply(200, &[("Content-Type", "application/jwt")], format!("t{number}").as_bytes())
        } else {
            rest(seen, number)
        }
    }
}

/// A device made of files; removed when dropped.
pub struct Device {
    pub dir: PathBuf,
}

static NUMBER: AtomicUsize = AtomicUsize::new(0);

impl Device {
    pub fn new() -> Device {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("thimble-server-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("makes");
        let device = Device { dir };
        device.identity("echo mac=de:ad:be:ef:00:01");
        device
    }

    pub fn identity(&self, body: &str) {
        let path = self.dir.join("mender-device-identity");
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("writes");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    }

    pub fn settings(&self, servers: &[String]) -> Settings {
        Settings {
            servers: servers.to_vec(),
            server_certificate: None,
            skip_verify: false,
            client_certificate: None,
            client_key: None,
            tenant_token: String::new(),
            proxies: Proxies::default(),
            device_tier: None,
            root: self.dir.clone(),
            key: self.dir.join("mender-agent.pem"),
            key_is_static: false,
            identity_script: self.dir.join("mender-device-identity"),
            download_retries: 3,
            download_interval: Duration::from_secs(1),
            time_scale: 0.01,
            last_time: None,
        }
    }

    /// Runs the program on this device as a whole, with this server.
    pub fn run(&self, server: &str, command: &str, environment: &[(&str, &str)]) -> std::process::Output {
        let (config, scripts) = (self.dir.join("etc/mender"), self.dir.join("usr/share/mender/identity"));
        let store = self.dir.join("var/lib/mender");
        for dir in [&config, &scripts, &store] {
            std::fs::create_dir_all(dir).expect("makes");
        }
        let script = "mender-device-identity";
        std::fs::copy(self.dir.join(script), scripts.join(script)).expect("copies");
        std::fs::write(config.join("mender.conf"), format!("{{\"ServerURL\":\"{server}\"}}"))
            .expect("writes");
        std::fs::write(store.join("device_type"), "device_type=dt\n").expect("writes");
        std::process::Command::new(env!("CARGO_BIN_EXE_thimble"))
            .args(["--root", self.dir.to_str().expect("text"), command])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .envs(environment.iter().copied())
            .output()
            .expect("runs")
    }

    pub fn client(&self, servers: &[&Server]) -> Client {
        let urls: Vec<String> = servers.iter().map(|s| s.url()).collect();
        Client::new(self.settings(&urls)).expect("settings are good")
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
