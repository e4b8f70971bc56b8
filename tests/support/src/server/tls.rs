//! TLS for the test server, and certificates to go with it.

use super::Tls;
use crate::tool;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, crypto};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A certificate authority of one's own and a server certificate signed by it.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// The authority's certificate: the device's `ServerCertificate`.
    pub ca: PathBuf,
    /// The server's certificate for 127.0.0.1 and localhost, in PEM.
    pub cert_pem: String,
    /// The server's private key, in PEM.
    pub key_pem: String,
}

impl Certificates {
    /// For [`Options::tls`](super::Options::tls).
    pub fn tls(&self) -> Tls {
        Tls { cert_pem: self.cert_pem.clone(), key_pem: self.key_pem.clone() }
    }
}

/// Makes them in `dir` with the `openssl` tool, good for ten years from now.
pub fn make_certificates(dir: &Path) -> Result<Certificates, String> {
    make(dir, &["openssl"], "openssl")
}

/// The same, good for ten years from a date, e.g. `2030-01-01`.
pub fn make_certificates_from(dir: &Path, date: &str) -> Result<Certificates, String> {
    make(dir, &["faketime", date, "openssl"], "faketime, openssl")
}

fn make(dir: &Path, tool: &[&str], package: &str) -> Result<Certificates, String> {
    fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let file = |name: &str| dir.join(name).to_string_lossy().into_owned();
    let (ca, ca_key, cert, key) = (file("ca.pem"), file("ca.key"), file("cert.pem"), file("key.pem"));
    let new =
        ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3650"];
    let openssl = |more: &[&str]| tool::run(tool[0], package, &[&tool[1..], &new, more].concat());
    openssl(&["-subj", "/CN=testkit authority", "-keyout", &ca_key, "-out", &ca])?;
    openssl(&[
        "-CA",
        &ca,
        "-CAkey",
        &ca_key,
        "-subj",
        "/CN=127.0.0.1",
        "-keyout",
        &key,
        "-out",
        &cert,
        "-addext",
        "subjectAltName=IP:127.0.0.1,DNS:localhost",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
    ])?;
    let read = |path: &str| fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
    Ok(Certificates { ca: ca.into(), cert_pem: read(&cert)?, key_pem: read(&key)? })
}

/// The server's side of rustls.
pub(super) fn server_config(tls: &Tls) -> Arc<ServerConfig> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(tls.cert_pem.as_bytes()).collect();
    let key = PrivateKeyDer::from_pem_slice(tls.key_pem.as_bytes()).expect("a private key in PEM");
    let config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring knows the protocol versions")
        .with_no_client_auth()
        .with_single_cert(certificates.expect("certificates in PEM"), key);
    Arc::new(config.expect("a certificate that fits its key"))
}
