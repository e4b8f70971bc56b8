//! Authentication: the signed request, the token, and the list of servers.

use super::http::{Payload, Request};
use super::keys::Key;
use super::{Client, Fault, Kind, Settings, identity, url};
use crate::error::Result;
use crate::json;
use std::fmt;

const PATH: &str = "/api/devices/v1/authentication/auth_requests";

/// The longest token that is believed (SA-22).
const LONGEST: usize = 16 * 1024;

/// An opaque secret; never shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Token(String);

impl Token {
    /// Takes the body of the answer as it is, but for a line end, if it can be put into a header (SA-22).
    pub(super) fn new(body: Vec<u8>) -> std::result::Result<Token, &'static str> {
        let mut text = String::from_utf8(body).map_err(|_| "is not text")?;
        text.truncate(text.trim_end_matches(['\r', '\n']).len());
        if text.is_empty() {
            return Err("is empty");
        }
        if text.len() > LONGEST || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("cannot be a token");
        }
        Ok(Token(text))
    }

    /// For the header, and for nothing else.
    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// A token and the server that issued it; all calls go there (SA-30).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Session {
    pub server: String,
    pub token: Token,
}

impl Client {
    /// Authenticates: servers in order, one pass (SA-32). Called by every API call that finds no token.
    pub fn authorize(&mut self) -> std::result::Result<(), Fault> {
        self.open_session().map(|_| ())
    }

    pub(super) fn open_session(&mut self) -> std::result::Result<Session, Fault> {
        self.session = None;
        // Identity and key are read every time: either may have changed (SA-25).
        let (body, signature) = request(&self.settings).map_err(Fault::local)?;
        let mut faults: Vec<Fault> = Vec::new();
        for server in &self.servers {
            match self.ask(server, &body, &signature) {
                Ok(token) => {
                    log::info!("authenticated with {server}");
                    let session = Session { server: server.clone(), token };
                    self.session = Some(session.clone());
                    self.save_token();
                    return Ok(session);
                }
                Err(fault) if fault.kind == Kind::Interrupted => return Err(fault),
                Err(fault) => {
                    if self.servers.len() > 1 {
                        log::warn!("{fault}");
                    }
                    faults.push(fault);
                }
            }
        }
        let fault = worst(faults);
        if fault.kind == Kind::Unauthorized {
            self.forget_token();
        }
        Err(fault)
    }

    fn ask(&self, server: &str, body: &str, signature: &str) -> std::result::Result<Token, Fault> {
        let address = url::join(server, PATH);
        let answer = self.http.send(Request {
            method: "POST",
            url: &address,
            // The literal is what Mender 5 sends; the server looks at the signature only (SA-20).
            headers: &[("Authorization", "API_KEY"), ("X-MEN-Signature", signature)],
            body: Payload::Json(body.as_bytes()),
            limit: LONGEST,
        })?;
        match answer.status {
            200 => Token::new(answer.body).map_err(|why| {
                let text = format!("{server} accepted this device but the token in its answer {why}");
                Fault::new(Kind::Protocol, "SERVER-ANSWER", text)
            }),
            401 => {
                let mut fault = answer.refused("authentication");
                fault.error.code = "AUTH-REFUSED";
                fault.error.text.push_str(&format!(" (has the device been accepted on {server}?)"));
                Err(fault)
            }
            _ => Err(answer.refused(&format!("authentication with {server}"))),
        }
    }
}

/// The fault to report when all servers failed: an answer says more than a silence; all texts are kept.
fn worst(mut faults: Vec<Fault>) -> Fault {
    let texts: Vec<String> = faults.iter().map(|f| f.error.text.clone()).collect();
    let main = faults.iter().position(|f| f.kind != Kind::Transport).unwrap_or(0);
    if faults.is_empty() {
        return Fault::new(
            Kind::Transport,
            "SERVER-NONE",
            "no server is configured: set ServerURL (or Servers) in mender.conf",
        );
    }
    let mut fault = faults.swap_remove(main);
    fault.error.text = texts.join("; ");
    fault
}

/// Body and signature of the authentication request; the signature is over exactly these bytes (SA-10, SA-12).
fn request(settings: &Settings) -> Result<(String, String)> {
    let id_data = identity::data(&settings.identity_script, &settings.root)?;
    let key = Key::open(&settings.key, settings.key_is_static)?;
    let mut members = vec![("id_data", id_data), ("pubkey", key.public_pem())];
    let tenant = settings.tenant_token.trim();
    if !tenant.is_empty() {
        members.push(("tenant_token", tenant.to_owned()));
    }
    if let Some(tier) = &settings.device_tier {
        members.push(("tier", tier.clone()));
    }
    let mut body = String::new();
    for (name, value) in members {
        body.push(if body.is_empty() { '{' } else { ',' });
        json::quote(&mut body, name);
        body.push(':');
        json::quote(&mut body, &value);
    }
    body.push('}');
    let signature = key.sign(body.as_bytes())?;
    Ok((body, signature))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_taken_as_it_is_but_for_its_line_end() {
        assert_eq!(Token::new(b"a.b-c_d\r\n".to_vec()).expect("good").text(), "a.b-c_d");
        for bad in [&b""[..], b"\r\n", b"a b", b"a\r\nX: y", b"a\0", b"\xff", "ä".as_bytes()] {
            assert!(Token::new(bad.to_vec()).is_err(), "{bad:?}");
        }
        assert!(Token::new(vec![b'a'; LONGEST]).is_ok());
        assert!(Token::new(vec![b'a'; LONGEST + 1]).is_err());
        assert!(!format!("{:?}", Token::new(b"secret".to_vec())).contains("secret"));
    }

    #[test]
    fn the_fault_of_a_server_that_answered_counts_more_than_silence() {
        let silent = Fault::new(Kind::Transport, "NET-CONNECT", "a");
        let refused = Fault::new(Kind::Unauthorized, "AUTH-REFUSED", "b");
        let both = worst(vec![silent.clone(), refused.clone()]);
        assert_eq!((both.kind, both.error.text.as_str()), (Kind::Unauthorized, "a; b"));
        assert_eq!(worst(vec![silent.clone(), silent]).kind, Kind::Transport);
    }
}
