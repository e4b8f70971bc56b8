//! The token, kept for the next one-shot run (decision 22) and for applications that ask for it (`docs/dbus.md`).
//!
//! It is kept in a file in `/run`, which is in memory: never where it would outlive a boot or cost flash. Whoever
//! can read the file can speak for this device, so it must be ours alone, and so must its directory.
//!
//! A kept token is used only with the device key, tenant and list of servers that it was issued for. The identity
//! is left out: to know it, its script would have to run each time, and that is what a kept token saves. A changed
//! identity is noticed when the token ends or is forgotten, as in a daemon.

use super::auth::{Session, Token};
use super::keys::Key;
use super::{Client, der};
use crate::sys::private;
use sha2::{Digest, Sha256};
use std::fs;
use std::io;
use std::path::Path;

/// First line of the file.
const FORMAT: &str = "thimble token 1";

/// A token, a fingerprint and an address.
const LONGEST: u64 = 32 * 1024;

impl Client {
    /// From now on the token is in `path`: each new one is put there, and is removed when it is given up.
    pub fn keep_token(&mut self, path: &Path) {
        match private::has_own_directory(path) {
            true => self.token_file = Some(path.to_owned()),
            false => crate::debug!("no token is kept: the directory of {} is not ours", path.display()),
        }
    }

    /// The same, and takes up the token that an earlier run has left there, if it is still fit for use.
    pub fn load_token(&mut self, path: &Path) {
        self.keep_token(path);
        if self.token_file.is_none() {
            return;
        }
        match self.kept(path) {
            Ok(session) => {
                crate::debug!("using the token that an earlier run got from {}", session.server);
                self.session = Some(session);
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => {
                crate::debug!("no token from {}: {e}", path.display());
                self.remove_token_file();
            }
        }
    }

    /// Puts the token where it is kept, if it is.
    pub(super) fn save_token(&self) {
        let (Some(session), Some(path)) = (&self.session, &self.token_file) else { return };
        if self.kept(path).is_ok_and(|kept| kept == *session) {
            return;
        }
        let saved = self.fingerprint().and_then(|print| {
            let (server, token) = (&session.server, session.token.text());
            private::write(path, &format!("{FORMAT}\n{print}\n{server}\n{token}\n"))
        });
        if let Err(e) = saved {
            crate::debug!("the token is not kept in {}: {e}", path.display());
        }
    }

    pub(super) fn remove_token_file(&self) {
        // A removal that fails must not go unnoticed: a given up token would be used again.
        if let Some(path) = &self.token_file
            && let Err(e) = fs::remove_file(path)
            && e.kind() != io::ErrorKind::NotFound
        {
            log::warn!("cannot remove the kept token {}: {e}", path.display());
        }
    }

    fn kept(&self, path: &Path) -> io::Result<Session> {
        let unfit = |why: &str| io::Error::other(why.to_owned());
        let text = private::read(path, LONGEST)?;
        let mut lines = text.lines();
        let mut line = || lines.next().ok_or_else(|| unfit("it is not whole"));
        if line()? != FORMAT {
            return Err(unfit("it has another format"));
        }
        if line()? != self.fingerprint()? {
            return Err(unfit("it is for another key, tenant or list of servers"));
        }
        let server = line()?.to_owned();
        let token = Token::new(line()?.as_bytes().to_vec()).map_err(unfit)?;
        if !self.servers.contains(&server) || !text.ends_with('\n') {
            return Err(unfit("it is damaged"));
        }
        Ok(Session { server, token })
    }

    /// What a token is issued for. No key, no fingerprint: a key is not made for this.
    fn fingerprint(&self) -> io::Result<String> {
        let key = Key::existing(&self.settings.key)?;
        let mut hash = Sha256::new();
        let (key, tenant) = (key.public_pem(), self.settings.tenant_token.trim());
        for part in [key.as_str(), tenant].into_iter().chain(self.servers.iter().map(String::as_str)) {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Ok(der::base64(&hash.finalize()))
    }
}
