//! The Mender device API over HTTP(S): authentication, deployments, inventory, download. Blocking, one thread.
//!
//! | file | its one job |
//! | --- | --- |
//! | `mod` | the client, and what every API call shares: token, re-authorisation, fail-over |
//! | `auth`, `cache` | the authentication request and the token; a token kept for the next run |
//! | `deployments` | next deployment, status report, log upload |
//! | `download`, `link` | an Artifact as a reader that survives broken connections and expired links |
//! | `inventory`, `identity` | what scripts say about the device |
//! | `script` | runs such a script and reads its `key=value` lines |
//! | `keys`, `der` | the device's key file, signatures, the few DER structures that they need |
//! | `http` | one request and its bounded answer; every error gets its words here |
//! | `wire`, `tls` | the connection below it: sockets, waiting, SIGTERM; certificates (`no_tls`: a build without) |
//! | `floor` | the earliest time that it can be |
//! | `proxy`, `tunnel` | which requests take a way through a proxy, and how |
//! | `url` | server addresses, joining, redirects |

mod auth;
mod cache;
mod deployments;
mod der;
mod download;
mod floor;
mod http;
pub mod identity;
pub mod inventory;
mod keys;
mod link;
mod proxy;
mod script;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "no_tls.rs"]
mod tls;
mod tunnel;
mod url;
mod wire;

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
#[path = "../../tests/fuzz/targets/url.rs"]
pub mod fuzz;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub use download::fuzz as fuzz_range;

pub use deployments::{LogBody, Offer};
pub use download::{Download, Downloader};
pub use floor::LastTime;
pub use link::Refresh;
pub use proxy::Proxies;

use crate::error::{Error, Result};
use crate::sys::signal;
use http::{Answer, Http, Payload, Request};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the client needs to know; made from mender.conf and the command line.
#[derive(Clone)]
#[cfg_attr(any(test, fuzzing), derive(Default))]
pub struct Settings {
    /// Server URLs in the order in which they are tried (SA-32).
    pub servers: Vec<String>,
    /// Certificates in PEM that are trusted besides those of the system (SA-91).
    pub server_certificate: Option<PathBuf>,
    /// Do not verify the server's certificate.
    pub skip_verify: bool,
    /// Client certificate chain in PEM; used only together with `client_key` (SA-93).
    pub client_certificate: Option<PathBuf>,
    /// Its key in PEM.
    pub client_key: Option<PathBuf>,
    /// Names the tenant at a server that has several; white space around it is dropped, empty is none (SA-10).
    pub tenant_token: String,
    /// Which requests go through a proxy (SA-96).
    pub proxies: Proxies,
    /// Sent as `tier` if there is one (SA-10).
    pub device_tier: Option<String>,
    /// Paths of the system are looked up below this directory first.
    pub root: PathBuf,
    /// The device's private key (SA-18).
    pub key: PathBuf,
    /// The key was chosen by the user: it is never generated nor replaced (SA-18).
    pub key_is_static: bool,
    /// The identity script (II-11).
    pub identity_script: PathBuf,
    /// How often a broken download is tried again (SA-70).
    pub download_retries: u32,
    /// Wait before each of these tries (SA-70).
    pub download_interval: Duration,
    /// Factor on the waits between tries, never on time limits; for tests.
    pub time_scale: f64,
    /// Where the last time of a server is kept; `None`: no clock floor.
    pub last_time: Option<Arc<dyn LastTime>>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The tenant token stays out of logs.
        f.debug_struct("Settings")
            .field("servers", &self.servers)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// What a failure means for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No answer: name, route, connection, TLS, time limit.
    Transport,
    /// 401: the device is not accepted (any more).
    Unauthorized,
    /// 409: the deployment was aborted (SA-57).
    Conflict,
    /// 404.
    NotFound,
    /// 413: sending the same again is useless (SA-65).
    TooLarge,
    /// 429 or 503, with `Retry-After` if the server named a time (SA-51), at most 24 hours.
    Busy(Option<Duration>),
    /// Any other unwanted status.
    Refused(u16),
    /// The answer makes no sense.
    Protocol,
    /// SIGTERM came while waiting.
    Interrupted,
}

/// A failure with its meaning and its words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What to do about it.
    pub kind: Kind,
    /// What to tell people.
    pub error: Error,
}

impl Fault {
    pub(crate) fn new(kind: Kind, code: &'static str, text: impl Into<String>) -> Fault {
        Fault { kind, error: Error::new(code, text) }
    }

    /// For what went wrong on the device itself before anything was sent.
    fn local(error: Error) -> Fault {
        let kind = if error.code == wire::INTERRUPTED { Kind::Interrupted } else { Kind::Protocol };
        Fault { kind, error }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Fault {}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Error {
        fault.error
    }
}

/// Talks to the server. Holds the token, in memory (SA-23), and if asked to in `/run`.
pub struct Client {
    settings: Settings,
    servers: Vec<String>,
    http: Http,
    session: Option<auth::Session>,
    /// Where the token is kept for others, if it is.
    token_file: Option<PathBuf>,
    /// The server that has no v2 deployments API (decision 12).
    without_v2: Option<String>,
    /// Id and Artifact name of the last deployment that was offered.
    offered: Option<(String, Option<String>)>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("servers", &self.servers).finish_non_exhaustive()
    }
}

/// One API call without what [`Client::call`] adds: server and token.
struct Call<'a, 'b> {
    method: &'static str,
    path: &'a str,
    body: Payload<'a, 'b>,
    /// Largest body of a good answer; 0 = not read at all.
    limit: usize,
}

impl Client {
    /// Checks the settings (SA-2..4); does not touch the network.
    pub fn new(settings: Settings) -> Result<Client> {
        let mut servers = Vec::new();
        for text in &settings.servers {
            let server = url::server(text)?;
            if !servers.contains(&server) {
                servers.push(server);
            }
        }
        let floor = floor::Floor::new(settings.last_time.clone());
        let trust = tls::Trust::new(&settings, floor.clone())?;
        let http = Http::new(trust, settings.proxies.clone(), http::Limits::default(), floor);
        Ok(Client {
            settings,
            servers,
            http,
            session: None,
            token_file: None,
            without_v2: None,
            offered: None,
        })
    }

    /// Forgets the token, the kept one too, so that the next call proves that the device can authenticate (SA-31).
    pub fn forget_token(&mut self) {
        self.session = None;
        self.remove_token_file();
    }

    /// Sends one API request with a token. A 401 leads to one new authentication and one repeat, whose answer is
    /// final (SA-28). Where there are several servers a lost connection does the same, so that the next one takes
    /// over.
    fn call(&mut self, mut call: Call<'_, '_>) -> std::result::Result<Answer, Fault> {
        let mut again = false;
        loop {
            let session = match &self.session {
                Some(session) => session.clone(),
                None => self.open_session()?,
            };
            let address = url::join(&session.server, call.path);
            let answer = self.http.send(Request {
                method: call.method,
                url: &address,
                headers: &[("Authorization", &format!("Bearer {}", session.token.text()))],
                body: call.body.again(),
                limit: call.limit,
            });
            match answer {
                Ok(answer) if answer.status == 401 => {
                    self.forget_token();
                    if again {
                        return Err(answer.refused(&format!("{} {address}", call.method)));
                    }
                    log::info!("the server does not accept the token any more; authenticating again");
                }
                Err(fault) if fault.kind == Kind::Transport && self.servers.len() > 1 && !again => {
                    log::warn!("{fault}; trying the list of servers again");
                    self.session = None;
                }
                other => return other,
            }
            again = true;
        }
    }
}

/// Waits; ends early, with an error, when SIGTERM comes.
fn pause(time: Duration) -> std::result::Result<(), Fault> {
    let end = Instant::now() + time;
    loop {
        if signal::terminate() {
            return Err(Fault::local(wire::interrupted()));
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        if let Err(e) = signal::poll(&[], Some(left)) {
            return Err(Fault::new(Kind::Transport, "NET-IO", format!("cannot wait: {e}")));
        }
    }
}
