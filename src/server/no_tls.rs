//! Stands in for `tls` in a build without the feature of that name: there is no https, and nothing is ever trusted.
//!
//! No address with https:// gets this far: `url::check` refuses it.

use super::Settings;
use super::floor::Floor;
use crate::error::{Error, Result};
use std::io;

/// There is none.
#[derive(Debug)]
pub(super) enum Config {}

impl Config {
    pub(super) fn would_trust(&self, _: &str, _: u64) -> bool {
        match *self {}
    }
}

/// Nobody.
#[derive(Debug)]
pub(super) struct Trust;

impl Trust {
    /// Says what of the settings has no effect.
    pub(super) fn new(settings: &Settings, _: Floor) -> Result<Trust> {
        let given = [
            ("ServerCertificate", settings.server_certificate.is_some()),
            ("HttpsClient", settings.client_certificate.is_some() || settings.client_key.is_some()),
            ("SkipVerify", settings.skip_verify),
        ];
        for (key, _) in given.iter().filter(|(_, given)| *given) {
            log::warn!("{key} has no effect: this build has no TLS (feature `tls`)");
        }
        Ok(Trust)
    }

    pub(super) fn config(&self) -> Result<Config> {
        Err(Error::new("TLS-SETUP", super::url::NO_TLS))
    }
}

/// There is none.
#[derive(Debug)]
pub(super) enum Session {}

impl Session {
    pub(super) fn open<S>(config: &Config, _: &str, _: &mut S) -> io::Result<Session> {
        match *config {}
    }

    pub(super) fn write_all<S>(&mut self, _: &mut S, _: [&[u8]; 2], _: &str) -> io::Result<()> {
        match *self {}
    }

    pub(super) fn read<S>(&mut self, _: &mut S, _: &mut [u8], _: &str) -> io::Result<usize> {
        match *self {}
    }
}
