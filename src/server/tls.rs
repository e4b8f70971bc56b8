//! Whom we trust: the rustls configuration, the pinned server certificate, and readable words for what TLS refuses.

use super::Settings;
use super::floor::Floor;
use crate::error::{Error, Result};
use crate::sys::{clock, file};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::ring::{self, cipher_suite as suite};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::time_provider::TimeProvider;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore,
    SignatureScheme, Stream,
};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Where systems keep the certificates that they trust.
const BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Sessions to resume: one per server and one for the storage is all that there is.
const SESSIONS: usize = 4;

/// What all connections have in common.
#[derive(Debug)]
pub(super) struct Config {
    rustls: Arc<ClientConfig>,
    verifier: Arc<Verifier>,
    floor: Floor,
}

impl Config {
    /// Whether the certificates that this host has proved itself by would be good at that time, too.
    pub(super) fn would_trust(&self, host: &str, seconds: u64) -> bool {
        self.verifier.would_trust(host, UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

/// What the configuration says about trust; turned into a rustls configuration when it is first needed.
#[derive(Debug)]
pub(super) struct Trust {
    root: PathBuf,
    server_certificate: Option<PathBuf>,
    skip_verify: bool,
    client: Option<(PathBuf, PathBuf)>,
    floor: Floor,
}

impl Trust {
    /// Refuses what cannot work (SA-94); reads no file.
    pub(super) fn new(settings: &Settings, floor: Floor) -> Result<Trust> {
        let files = [&settings.server_certificate, &settings.client_certificate, &settings.client_key];
        for path in files.into_iter().flatten() {
            if path.to_string_lossy().starts_with("pkcs11:") {
                let text =
                    format!("`{}`: keys in a PKCS#11 token are not supported; name a file", path.display());
                return Err(Error::new("TLS-ENGINE", text));
            }
        }
        let client = match (&settings.client_certificate, &settings.client_key) {
            (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
            (None, None) => None,
            _ => {
                log::error!(
                    "HttpsClient needs both Certificate and Key; going on without a client certificate"
                );
                None
            }
        };
        if settings.skip_verify {
            log::warn!("SkipVerify is set: anybody on the way can pretend to be the server");
        }
        let (root, skip_verify) = (settings.root.clone(), settings.skip_verify);
        let server_certificate = settings.server_certificate.clone();
        Ok(Trust { root, server_certificate, skip_verify, client, floor })
    }

    /// Reads the certificates and builds the configuration.
    pub(super) fn config(&self) -> Result<Config> {
        let provider = Arc::new(provider());
        let verifier = Arc::new(self.verifier(&provider)?);
        let builder = ClientConfig::builder_with_details(provider, Arc::new(Clock(self.floor.clone())))
            .with_safe_default_protocol_versions()
            .map_err(|e| Error::new("TLS-SETUP", e.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone());
        let mut config = match &self.client {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let (chain, key_der) = (read_chain(certificate)?, read_key(key)?);
                builder.with_client_auth_cert(chain, key_der).map_err(|e| {
                    let text = format!(
                        "client certificate {} with key {}: {e}",
                        certificate.display(),
                        key.display()
                    );
                    Error::new("TLS-CLIENT", text)
                })?
            }
        };
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        Ok(Config { rustls: Arc::new(config), verifier, floor: self.floor.clone() })
    }

    fn verifier(&self, provider: &Arc<CryptoProvider>) -> Result<Verifier> {
        let provider = provider.clone();
        if self.skip_verify {
            return Ok(Verifier { inner: None, pinned: Vec::new(), provider, seen: Mutex::default() });
        }
        let mut roots = RootCertStore::empty();
        let pinned = self.pinned(&mut roots);
        self.bundle(&mut roots);
        if roots.is_empty() {
            return Err(Error::new(
                "TLS-TRUST",
                format!(
                    "no certificate authority to trust: {}, and no CA bundle where systems have it ({}). Install \
                     ca-certificates, or name the server's CA in ServerCertificate",
                    match &self.server_certificate {
                        Some(path) => format!("ServerCertificate {} has none", path.display()),
                        None => "no ServerCertificate is configured".to_owned(),
                    },
                    BUNDLES.join(", ")
                ),
            ));
        }
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map_err(|e| Error::new("TLS-SETUP", e.to_string()))?;
        Ok(Verifier { inner: Some(inner), pinned, provider, seen: Mutex::default() })
    }

    /// `ServerCertificate`: added to the system's, not instead; a missing or broken file only warns (SA-91).
    fn pinned(&self, roots: &mut RootCertStore) -> Vec<CertificateDer<'static>> {
        let Some(path) = &self.server_certificate else { return Vec::new() };
        let mut pinned = Vec::new();
        match CertificateDer::pem_file_iter(path) {
            Ok(certificates) => {
                for certificate in certificates {
                    match certificate {
                        Ok(der) => {
                            if let Err(e) = roots.add(der.clone()) {
                                log::warn!("ServerCertificate {}: {e}", path.display());
                            }
                            pinned.push(der);
                        }
                        Err(e) => log::warn!("ServerCertificate {}: {e}", path.display()),
                    }
                }
                if pinned.is_empty() {
                    log::warn!("ServerCertificate {} has no certificate in PEM", path.display());
                }
            }
            Err(e) => log::warn!("cannot read ServerCertificate {}: {e}", path.display()),
        }
        pinned
    }

    /// The system's certificates: the first bundle below the root, else `SSL_CERT_FILE`, else the first bundle.
    fn bundle(&self, roots: &mut RootCertStore) {
        let below = BUNDLES.map(|b| file::below(&self.root, b));
        if self.root != Path::new("/") && below.iter().any(|path| add_bundle(path, roots)) {
            return;
        }
        if let Some(path) = std::env::var_os("SSL_CERT_FILE").filter(|p| !p.is_empty()) {
            // Whoever sets it means to restrict trust: no falling back to more.
            if !add_bundle(Path::new(&path), roots) {
                log::warn!("SSL_CERT_FILE {} has no usable certificate", Path::new(&path).display());
            }
            return;
        }
        let _ = BUNDLES.iter().any(|path| add_bundle(Path::new(path), roots));
    }
}

fn add_bundle(path: &Path, roots: &mut RootCertStore) -> bool {
    let before = roots.len();
    // One certificate at a time: only name and key of each stay in memory.
    if let Ok(certificates) = CertificateDer::pem_file_iter(path) {
        for certificate in certificates.map_while(std::result::Result::ok) {
            let _ = roots.add(certificate); // An oddity in a bundle of many must not spoil the rest.
        }
    }
    let added = roots.len() - before;
    crate::debug!("{added} certificates from {}", path.display());
    added > 0
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let wrong =
        |why: String| Error::new("TLS-CLIENT", format!("client certificate {}: {why}", path.display()));
    let chain: std::result::Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|e| wrong(e.to_string()))?.collect();
    let chain = chain.map_err(|e| wrong(e.to_string()))?;
    if chain.is_empty() { Err(wrong("no certificate in PEM".into())) } else { Ok(chain) }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(path).map_err(|e| {
        let text = format!("client key {}: {e} (an unencrypted key in PEM is needed)", path.display());
        Error::new("TLS-CLIENT", text)
    })
}

/// One TLS connection, without the socket below it.
pub(super) struct Session(Box<ClientConnection>, Floor);

impl Session {
    /// Shakes hands over the socket.
    pub(super) fn open(config: &Config, host: &str, socket: &mut (impl Read + Write)) -> io::Result<Session> {
        let name = ServerName::try_from(host.to_owned()).map_err(|e| {
            let text = format!("`{host}` cannot be the name in a certificate: {e}");
            io::Error::other(Error::new("TLS-NAME", text))
        })?;
        let mut tls = ClientConnection::new(config.rustls.clone(), name)
            .map_err(|e| io::Error::other(explain(&e, host, &config.floor)))?;
        while tls.is_handshaking() {
            let moved = if tls.wants_write() {
                tls.write_tls(socket)
            } else {
                tls.read_tls(socket).and_then(|count| match tls.process_new_packets() {
                    Ok(_) => Ok(count),
                    Err(e) => {
                        // It should hear why. If it does not, that changes nothing.
                        let _ = tls.write_tls(socket);
                        Err(io::Error::other(e))
                    }
                })
            };
            if moved.map_err(|e| explain_io(e, host, &config.floor))? == 0 {
                let text = format!(
                    "`{host}` closed the connection in the middle of the TLS handshake: is it https://, is the port right?"
                );
                return Err(io::Error::other(Error::new("TLS-HANDSHAKE", text)));
            }
        }
        // The last message of TLS 1.3's handshake is ours: it goes out together with the request.
        Ok(Session(Box::new(tls), config.floor.clone()))
    }

    /// Sends all of both parts, in one write if the socket takes them.
    pub(super) fn write_all(
        &mut self,
        socket: &mut (impl Read + Write),
        parts: [&[u8]; 2],
        host: &str,
    ) -> io::Result<()> {
        let tls = &mut *self.0;
        let [first, second] = parts;
        let buffered = tls.writer().write_all(first).and_then(|()| tls.writer().write_all(second));
        buffered.map_err(|e| explain_io(e, host, &self.1))?;
        while tls.wants_write() {
            tls.write_tls(socket).map_err(|e| explain_io(e, host, &self.1))?;
        }
        Ok(())
    }

    /// Reads what there is; waits for at least one byte.
    pub(super) fn read(
        &mut self,
        socket: &mut (impl Read + Write),
        buffer: &mut [u8],
        host: &str,
    ) -> io::Result<usize> {
        Stream::new(&mut *self.0, socket).read(buffer).map_err(|e| explain_io(e, host, &self.1))
    }
}

/// The time that certificates are judged by.
#[derive(Debug)]
struct Clock(Floor);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.now())))
    }
}

/// The usual verification, plus: a certificate that stands in `ServerCertificate` itself is good if its time and
/// name are (SA-92), even if it is a CA or its issuer is unknown. Without `inner` nothing is verified.
#[derive(Debug)]
struct Verifier {
    inner: Option<Arc<WebPkiServerVerifier>>,
    pinned: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
    /// Who was verified last, newest first: a server and a storage, say.
    seen: Mutex<Vec<Seen>>,
}

/// A host, and the certificates by which it has proved itself.
#[derive(Debug)]
struct Seen {
    host: ServerName<'static>,
    end_entity: CertificateDer<'static>,
    intermediates: Vec<CertificateDer<'static>>,
}

/// How many hosts are remembered.
const HOSTS: usize = 2;

impl Verifier {
    fn would_trust(&self, host: &str, at: UnixTime) -> bool {
        let Ok(name) = ServerName::try_from(host) else { return false };
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // Without verification nobody has proved anything, and nobody is here.
        let known = seen.iter().find(|known| known.host == name);
        known.is_some_and(|s| self.verify(&s.end_entity, &s.intermediates, &s.host, &[], at).is_ok())
    }

    fn remember(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
    ) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let host = host.to_owned();
        seen.retain(|known| known.host != host);
        seen.truncate(HOSTS - 1);
        let intermediates = intermediates.iter().map(|der| der.clone().into_owned()).collect();
        seen.insert(0, Seen { host, end_entity: end_entity.clone().into_owned(), intermediates });
    }

    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        let Some(inner) = &self.inner else { return Ok(ServerCertVerified::assertion()) };
        let verdict = inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verdict {
            // The time is checked before what these errors are about, so it is good here.
            Err(rustls::Error::InvalidCertificate(e))
                if (e == CertificateError::UnknownIssuer || is_ca(&e))
                    && self.pinned.iter().any(|p| p == end_entity) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        let verified = self.verify(end_entity, intermediates, server_name, ocsp_response, now)?;
        if self.inner.is_some() {
            self.remember(end_entity, intermediates, server_name);
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A self-signed certificate as `openssl req -x509` makes it says that it is a CA; webpki's error for that has no
/// name of its own in rustls.
fn is_ca(e: &CertificateError) -> bool {
    matches!(e, CertificateError::Other(_)) && format!("{e:?}").contains("CaUsedAsEndEntity")
}

/// As [`explain`], for an I/O error that may hold a TLS error; other errors stay as they are.
fn explain_io(e: io::Error, host: &str, floor: &Floor) -> io::Error {
    match e.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(tls) => io::Error::other(explain(tls, host, floor)),
        None => e,
    }
}

/// What TLS refused, in words that say what to do.
fn explain(e: &rustls::Error, host: &str, floor: &Floor) -> Error {
    use rustls::Error as Tls;
    let date = |t: &UnixTime| clock::rfc3339(t.as_secs()).chars().take(10).collect::<String>();
    let (code, text) = match e {
        Tls::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. }) => (
            "TLS-CLOCK",
            format!(
                "the certificate of `{host}` starts {}, {}: is the clock set (RTC, NTP)? It is tried again",
                date(not_before),
                floor.told()
            ),
        ),
        Tls::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. }) => {
            let hint = match clock::wall() < not_after.as_secs() {
                true => {
                    ". If the clock is right, the floor is wrong: remove thimble-clock.a and .b from the data store"
                }
                false => "",
            };
            let text =
                format!("the certificate of `{host}` ended {}, {}{hint}", date(not_after), floor.told());
            ("TLS-EXPIRED", text)
        }
        Tls::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. }) => {
            ("TLS-NAME", format!("the certificate is not for `{host}` but for: {}", names(presented)))
        }
        Tls::InvalidCertificate(CertificateError::UnknownIssuer) => (
            "TLS-TRUST",
            format!(
                "nobody whom we trust has issued the certificate of `{host}` (UnknownIssuer): is the CA in \
                 ServerCertificate or the system's bundle?"
            ),
        ),
        Tls::InvalidCertificate(e) if is_ca(e) => (
            "TLS-TRUST",
            format!(
                "the certificate of `{host}` is that of a CA and not the one in ServerCertificate: a self-signed \
                 certificate must stand there itself"
            ),
        ),
        Tls::InvalidCertificate(e) => ("TLS-TRUST", format!("the certificate of `{host}` is refused: {e}")),
        Tls::AlertReceived(alert) => ("TLS-REFUSED", refused(*alert, host)),
        Tls::InvalidMessage(_) => (
            "TLS-HANDSHAKE",
            format!("`{host}` does not speak TLS on this port ({e}): is it https://, is the port right?"),
        ),
        e => ("TLS-HANDSHAKE", format!("TLS with `{host}` failed: {e}")),
    };
    Error::new(code, text)
}

fn names(presented: &[String]) -> String {
    if presented.is_empty() {
        return "no name at all (subjectAltName is missing; the common name does not count)".into();
    }
    let shown: Vec<String> = presented
        .iter()
        .take(10)
        .map(|n| n.chars().flat_map(char::escape_default).take(80).collect())
        .collect();
    shown.join(", ")
}

fn refused(alert: AlertDescription, host: &str) -> String {
    use AlertDescription as Alert;
    let hint = match alert {
        Alert::CertificateRequired
        | Alert::BadCertificate
        | Alert::UnknownCA
        | Alert::AccessDenied
        | Alert::CertificateExpired
        | Alert::CertificateUnknown => ": is the client certificate (HttpsClient) right?",
        Alert::ProtocolVersion => ": it speaks neither TLS 1.2 nor 1.3",
        _ => "",
    };
    format!("`{host}` broke off the TLS connection ({alert:?}){hint}")
}
/// The cryptography of ring, with the cipher suites that cost least first: servers that leave the choice to the client
/// take the first. AES-256 comes with SHA-384, with which each key of a session is derived and no processor that we
/// know helps. No 32-bit ARM has instructions for AES.
fn provider() -> CryptoProvider {
    let aes_128 = [
        suite::TLS13_AES_128_GCM_SHA256,
        suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    ];
    let chacha = [
        suite::TLS13_CHACHA20_POLY1305_SHA256,
        suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ];
    let aes_256 = [
        suite::TLS13_AES_256_GCM_SHA384,
        suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    ];
    let order =
        if cfg!(target_arch = "arm") { [chacha, aes_128, aes_256] } else { [aes_128, chacha, aes_256] };
    CryptoProvider { cipher_suites: order.concat(), ..ring::default_provider() }
}
