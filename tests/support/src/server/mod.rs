//! A Mender server's device API for tests: it checks what a device sends as a real server does, and it
//! misbehaves when told to.
//!
//! Everything wrong that it sees is kept in [`Server::violations`]; a good test ends by asking for them.

mod api;
mod connection;
mod download;
mod http;
mod rules;
mod state;
#[cfg(test)]
mod tests;
mod tls;
mod verify;

pub use rules::{Act, RangeFault, Rule, What};
pub use tls::{Certificates, make_certificates, make_certificates_from};

use state::{Progress, Shared};
use std::collections::BTreeMap;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How the server is from its start.
#[derive(Clone, Debug)]
pub struct Options {
    /// Speak TLS with this certificate.
    pub tls: Option<Tls>,
    /// Whether devices are accepted; otherwise authentication answers 401.
    pub accept_device: bool,
    /// The token that authentication hands out; after [`Server::expire_tokens`] a number is added.
    pub token: String,
    /// Tenant token that devices must present, if any.
    pub tenant_token: Option<String>,
    /// Knows version 2 of "next deployment" and control maps; otherwise 404, as the open source server.
    pub v2: bool,
    /// Keeps connections open for further requests.
    pub keep_alive: bool,
    /// The name under which devices reach it: 127.0.0.1, but not from a virtual machine.
    pub host: String,
    /// The port; 0 for any that is free.
    pub port: u16,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            tls: None,
            accept_device: true,
            token: "header.payload.signature".to_owned(),
            tenant_token: None,
            v2: true,
            keep_alive: true,
            host: "127.0.0.1".to_owned(),
            port: 0,
        }
    }
}

/// A server certificate with its key.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Certificate, chain included, in PEM.
    pub cert_pem: String,
    /// Private key in PEM.
    pub key_pem: String,
}

/// What the device is to install. It is offered until its final status arrives.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// A UUID.
    pub id: String,
    /// The file that `/artifact/<id>` serves.
    pub artifact: PathBuf,
    /// Name in the offer; normally the Artifact's own.
    pub artifact_name: String,
    /// Device types in the offer; normally the Artifact's own.
    pub device_types: Vec<String>,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Request {
    /// What it was about; `What::Any` when the path is unknown.
    pub what: What,
    /// HTTP method.
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// What followed `?`, as it was.
    pub query: String,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body, out of its chunks.
    pub body: Vec<u8>,
    /// When it arrived.
    pub arrived: Instant,
    /// Status of the answer; 0 when there was none (yet).
    pub status: u16,
    /// Bytes of the answer's body handed to the network so far.
    pub sent: u64,
}

impl Request {
    /// A header's value by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What went over the network so far, as TCP's payload: with TLS's own bytes, without headers of packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes from devices.
    pub received: u64,
    /// Bytes to devices.
    pub sent: u64,
    /// Connections that were made.
    pub connections: u64,
}

/// The running server; it ends when dropped.
pub struct Server {
    shared: Arc<Shared>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    port: u16,
}

impl Server {
    /// Starts it on 127.0.0.1.
    pub fn start(options: Options) -> Server {
        let listener = TcpListener::bind(("127.0.0.1", options.port)).expect("listen on 127.0.0.1");
        let port = listener.local_addr().expect("the address of the listener").port();
        let scheme = if options.tls.is_some() { "https" } else { "http" };
        let tls = options.tls.as_ref().map(tls::server_config);
        let url = format!("{scheme}://{}:{port}", options.host);
        let shared = Arc::new(Shared::new(options, url));
        let server = Server { shared, open: Arc::default(), port };
        let (shared, open) = (server.shared.clone(), server.open.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.look(|state| state.stopped) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                if let Ok(stream) = stream.try_clone() {
                    open.lock().expect("the list of connections").push(stream);
                }
                let (shared, tls) = (shared.clone(), tls.clone());
                thread::spawn(move || connection::serve(&shared, stream, tls));
            }
        });
        server
    }

    /// Its address, without a slash at the end.
    pub fn url(&self) -> String {
        self.shared.url.clone()
    }

    /// Offers a deployment; several are offered one after the other.
    pub fn deploy(&self, deployment: Deployment) {
        let progress = Progress {
            deployment,
            control_map: None,
            aborted: false,
            finished: false,
            asked_with: None,
            statuses: Vec::new(),
            log: Vec::new(),
        };
        self.shared.change(|state| state.deployments.push(progress));
    }

    /// Aborts a deployment: it is no longer offered, reports about it get 409.
    pub fn abort(&self, id: &str) {
        self.shared.change(|state| state.find(id).expect("a deployment of that id").aborted = true);
    }

    /// Sets a deployment's update control map (JSON, `{id}` stands for the deployment's id), or removes it.
    pub fn control_map(&self, id: &str, map: Option<&str>) {
        let map = map.map(|map| map.replace("{id}", id));
        self.shared.change(|state| state.find(id).expect("a deployment of that id").control_map = map);
    }

    /// Accepts or rejects devices from now on; tokens of rejected ones are no longer valid.
    pub fn accept(&self, accept: bool) {
        self.shared.change(|state| {
            state.accept_device = accept;
            state.token = state.token.take().filter(|_| accept);
        });
    }

    /// From now on the tokens handed out so far get 401.
    pub fn expire_tokens(&self) {
        self.shared.change(|state| state.token = None);
    }

    /// Closes all connections; new ones are welcome.
    pub fn hang_up(&self) {
        for stream in self.open.lock().expect("the list of connections").drain(..) {
            // Closed already: fine.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Adds a rule. The first rule that hits a request decides.
    pub fn rule(&self, rule: Rule) {
        self.shared.change(|state| state.rules.add(rule));
    }

    /// Forgets all rules.
    pub fn clear_rules(&self) {
        self.shared.change(|state| state.rules.clear());
    }

    /// All requests so far, in the order of their arrival.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.look(|state| state.requests.clone())
    }

    /// The requests of one kind.
    pub fn requests_of(&self, what: What) -> Vec<Request> {
        self.requests().into_iter().filter(|request| request.what == what).collect()
    }

    /// How many of these requests came so far.
    pub fn count_of(&self, what: What) -> usize {
        self.shared.look(|state| state.requests.iter().filter(|request| request.what == what).count())
    }

    /// What went over the network so far.
    pub fn traffic(&self) -> Traffic {
        let number = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Shared { received, sent, connections, .. } = &*self.shared;
        Traffic { received: number(received), sent: number(sent), connections: number(connections) }
    }

    /// Statuses that were accepted for a deployment, in order, repeated ones too.
    pub fn statuses(&self, id: &str) -> Vec<String> {
        self.shared
            .look(|state| state.progress(id).map(|progress| progress.statuses.clone()).unwrap_or_default())
    }

    /// Messages of a deployment's log; a later upload replaces an earlier one.
    pub fn logs(&self, id: &str) -> Vec<String> {
        self.shared.look(|state| state.progress(id).map(|progress| progress.log.clone()).unwrap_or_default())
    }

    /// The inventory: text as it is, lists as JSON.
    pub fn inventory(&self) -> BTreeMap<String, String> {
        self.shared.look(|state| state.inventory.clone())
    }

    /// Everything that a device should not have sent.
    pub fn violations(&self) -> Vec<String> {
        self.shared.look(|state| state.violations.clone())
    }

    /// Waits for `what` without polling; whether it came true within `limit`. It is asked again whenever a
    /// request arrives or is answered, and on each piece of a download.
    pub fn wait_until(&self, what: impl Fn(&Server) -> bool, limit: Duration) -> bool {
        self.shared.wait_until(|| what(self), limit)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.change(|state| state.stopped = true);
        self.hang_up();
        // Wakes the listener, which then sees that all is over.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}
