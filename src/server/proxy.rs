//! Which requests go through a proxy: the variables of the environment (SA-96). No I/O.
//!
//! Official clients differ; this is what we do, and whom we follow:
//!
//! | matter | here |
//! | --- | --- |
//! | variables | `http_proxy` and `https_proxy`, `no_proxy`, in lower or upper case; empty is as if not set |
//! | both cases set and different | upper case wins, with a warning (Mender 3; an error in Mender 5) |
//! | plain http | goes through the proxy too, of the daemon as well (Mender 5) |
//! | `REQUEST_METHOD` is set | `HTTP_PROXY` may come from a request header (CGI) and is ignored |
//! | kind of proxy | `http://` only, which may be left out; port 80 if none is given |
//! | user and password | sent whenever there is a user, percent-decoded (Mender 5) |
//! | `no_proxy` | separated by commas (Mender 3) or blanks (Mender 5) |
//! | `no_proxy=x.y` | the host itself and all below it; `.x.y` and `*.x.y` only those below |
//! | `no_proxy=10.0.0.0/8` | addresses in URLs; names are not looked up for this |
//! | `no_proxy=h:81` | that port only; `*` is everything |
//! | `localhost`, 127.0.0.0/8, `::1` | never through a proxy |
//!
//! A value that cannot be used is complained about at the start and refuses the requests that would need it: they
//! never go directly instead. It does not keep `commit` or `rollback` from working.

use super::http::harmless;
use super::{der, url};
use crate::error::{Error, Result};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use ureq::http::Uri;

/// The proxies for both kinds of request, and who is reached without. Default: none.
#[derive(Clone, Default)]
pub struct Proxies {
    http: Slot,
    https: Slot,
    direct: Vec<Direct>,
}

#[derive(Clone, Default)]
enum Slot {
    #[default]
    Empty,
    Use(Arc<Proxy>),
    Unusable(Error),
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |slot: &Slot| match slot {
            Slot::Empty => "none".to_owned(),
            Slot::Use(proxy) => proxy.shown.clone(),
            Slot::Unusable(e) => e.to_string(),
        };
        write!(f, "Proxies {{ http: {}, https: {} }}", shown(&self.http), shown(&self.https))
    }
}

impl Proxies {
    /// Those of this process's environment; complains about what is unusable.
    pub fn from_environment() -> Proxies {
        Proxies::read(|name| std::env::var_os(name).map(|v| v.to_string_lossy().into_owned()))
    }

    /// Those of any environment.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Proxies {
        let get = |name: &str| variable(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
        let cgi = variable("REQUEST_METHOD").is_some();
        let either = |lower: &'static str, upper: &'static str| {
            let (small, mut big) = (get(lower), get(upper));
            if cgi && upper == "HTTP_PROXY" && big.take().is_some() {
                log::warn!(
                    "HTTP_PROXY is ignored, because REQUEST_METHOD is set: it may come from a request"
                );
            }
            if big.is_some() && small.is_some() && big != small {
                log::warn!("{upper} and {lower} are set and differ; {upper} is used");
            }
            big.map(|v| (upper, v)).or(small.map(|v| (lower, v)))
        };
        let slot = |found: Option<(&'static str, String)>| match found.map(|(n, v)| Proxy::parse(n, &v)) {
            None => Slot::Empty,
            Some(Ok(proxy)) => Slot::Use(Arc::new(proxy)),
            Some(Err(e)) => {
                log::error!("{e}");
                Slot::Unusable(e)
            }
        };
        let http = slot(either("http_proxy", "HTTP_PROXY"));
        let https = slot(either("https_proxy", "HTTPS_PROXY"));
        let words = either("no_proxy", "NO_PROXY").map(|(_, v)| v).unwrap_or_default();
        let words = words.split(|c: char| c == ',' || c.is_whitespace()).filter(|w| !w.is_empty());
        let direct = words.filter_map(|word| {
            let rule = Direct::parse(word);
            if rule.is_none() {
                log::warn!("no_proxy: `{}` is neither host nor address; ignored", harmless(word, 80));
            }
            rule
        });
        Proxies { http, https, direct: direct.collect() }
    }

    /// The proxy for a request to this address, if it needs one.
    pub(super) fn route(&self, uri: &Uri) -> Result<Option<&Arc<Proxy>>> {
        let slot = if uri.scheme_str() == Some("https") { &self.https } else { &self.http };
        let proxy = match slot {
            Slot::Empty => return Ok(None),
            Slot::Use(proxy) => Ok(Some(proxy)),
            Slot::Unusable(e) => Err(e.clone()),
        };
        let (host, port) = url::host_port(uri);
        if self.is_direct(&host, port) { Ok(None) } else { proxy }
    }

    fn is_direct(&self, host: &str, port: u16) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let address = host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
        if host == "localhost" || address.is_some_and(|ip| ip.is_loopback()) {
            return true;
        }
        self.direct.iter().any(|rule| rule.covers(&host, address, port))
    }
}

/// An HTTP proxy.
pub(super) struct Proxy {
    /// Without the brackets of an IPv6 address.
    pub host: String,
    pub port: u16,
    /// Value of `Proxy-Authorization`. Never shown.
    pub credentials: Option<String>,
    /// For messages: without user and password.
    pub shown: String,
    variable: &'static str,
}

impl Proxy {
    fn parse(variable: &'static str, value: &str) -> Result<Proxy> {
        // The value itself is not shown: there may be a password in it.
        let wrong = |why: &str| Error::new("PROXY-SETTING", format!("{variable} in the environment: {why}"));
        let (scheme, rest) = value.split_once("://").unwrap_or(("http", value));
        if !scheme.eq_ignore_ascii_case("http") {
            let why = format!(
                "proxies of the kind `{}` are not supported; give one as http://HOST:PORT",
                harmless(scheme, 16)
            );
            return Err(wrong(&why));
        }
        let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if rest.contains('@') {
            return Err(wrong(
                "`/`, `?` and `#` in user name or password must be written as %2F, %3F and %23",
            ));
        }
        let (user, address) = authority.rsplit_once('@').unwrap_or(("", authority));
        let uri = url::check(&format!("http://{address}"))
            .map_err(|why| wrong(&format!("the address of the proxy {why}")))?;
        let (host, port) = url::host_port(&uri);
        let credentials = if user.is_empty() {
            None
        } else {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            let decode = |text| {
                url::decode(text).ok_or_else(|| {
                    wrong("a `%` in user name or password must be followed by two hex digits; `%` itself is %25")
                })
            };
            let both = [decode(name)?, vec![b':'], decode(password)?].concat();
            Some(format!("Basic {}", der::base64(&both)))
        };
        Ok(Proxy { host, port, credentials, shown: format!("http://{address}"), variable })
    }

    /// The proxy has answered 407.
    pub(super) fn wants_authentication(&self) -> Error {
        let (shown, variable) = (&self.shown, self.variable);
        let text = match self.credentials {
            None => format!(
                "the proxy {shown} wants a user name and a password (407): put them into {variable} as \
                 http://USER:PASSWORD@HOST:PORT"
            ),
            Some(_) => {
                format!("the proxy {shown} does not accept the user name and password in {variable} (407)")
            }
        };
        Error::new("PROXY-AUTH", text)
    }
}

/// One word of `no_proxy`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Direct {
    hosts: Hosts,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    All,
    /// Begins with a dot. Hosts that end with it, and, if `.1`, the name without the dot.
    Below(String, bool),
    Network(IpAddr, u32),
}

impl Direct {
    fn parse(word: &str) -> Option<Direct> {
        if let Some((address, bits)) = word.split_once('/') {
            let address: IpAddr = address.trim_matches(['[', ']']).parse().ok()?;
            let bits = bits.parse().ok().filter(|b| *b <= width(&address))?;
            return Some(Direct { hosts: Hosts::Network(address, bits), port: None });
        }
        let single = |ip: IpAddr| Hosts::Network(ip.to_canonical(), width(&ip.to_canonical()));
        if let Ok(ip) = word.parse::<IpAddr>() {
            return Some(Direct { hosts: single(ip), port: None });
        }
        let (host, port) = match word.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().ok()?)),
            _ => (word, None),
        };
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let bare = host.trim_matches(['[', ']']);
        let hosts = if let Ok(ip) = bare.parse::<IpAddr>() {
            single(ip)
        } else if host == "*" {
            Hosts::All
        } else {
            let below = host.strip_prefix('*').unwrap_or(&host);
            let name = below.trim_start_matches('.');
            if name.is_empty() || name.contains(['*', ':', '[']) {
                return None;
            }
            Hosts::Below(format!(".{name}"), !below.starts_with('.'))
        };
        Some(Direct { hosts, port })
    }

    fn covers(&self, host: &str, address: Option<IpAddr>, port: u16) -> bool {
        self.port.is_none_or(|p| p == port)
            && match &self.hosts {
                Hosts::All => true,
                Hosts::Below(name, itself) => host.ends_with(name) || (*itself && host == &name[1..]),
                Hosts::Network(network, bits) => address.is_some_and(|a| contains(network, *bits, &a)),
            }
    }
}

fn width(address: &IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn contains(network: &IpAddr, bits: u32, address: &IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(n), IpAddr::V4(a)) => (n.to_bits() ^ a.to_bits()).leading_zeros() >= bits,
        (IpAddr::V6(n), IpAddr::V6(a)) => (n.to_bits() ^ a.to_bits()).leading_zeros() >= bits,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
