//! Whom we trust, and how a refusal reads (case 22).

use crate::mock::{Device, Server, Stream, Wrap, accepting, reply};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use thimble::server::{Client, Fault, Kind};

struct Tls {
    config: Arc<ServerConfig>,
    resumed: Arc<AtomicUsize>,
}

impl Wrap for Tls {
    fn wrap(&self, mut stream: TcpStream) -> std::io::Result<Box<dyn Stream>> {
        let mut connection = ServerConnection::new(self.config.clone()).map_err(std::io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        if connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed) {
            self.resumed.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Box::new(StreamOwned::new(connection, stream)))
    }
}

pub fn openssl(dir: &Path, words: &str) {
    let done = Command::new("openssl")
        .args(words.split(' '))
        .current_dir(dir)
        .output()
        .expect("openssl: install the package `openssl`");
    assert!(done.status.success(), "{words}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A self-signed certificate for 127.0.0.1 as people make it: NAME.pem and NAME.key.
pub fn self_signed(dir: &Path, name: &str, more: &str) -> PathBuf {
    openssl(
        dir,
        &format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} \
             -keyout {name}.key -out {name}.pem {more}"
        ),
    );
    dir.join(format!("{name}.pem"))
}

pub const ADDRESS: &str = "-addext subjectAltName=IP:127.0.0.1,DNS:localhost";

/// The same with times of our choice, for which older versions of openssl need their `ca` command.
fn self_signed_between(dir: &Path, name: &str, start: &str, end: &str) -> PathBuf {
    std::fs::write(dir.join("index"), "").expect("writes");
    let config = "[ca]\ndefault_ca=x\n[x]\ndatabase=index\nnew_certs_dir=.\nrand_serial=yes\ndefault_md=sha256\n\
                  policy=p\nx509_extensions=e\n[p]\ncommonName=supplied\n[e]\nsubjectAltName=IP:127.0.0.1\n";
    std::fs::write(dir.join("ca.cnf"), config).expect("writes");
    openssl(
        dir,
        &format!(
            "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout {name}.key \
             -out {name}.csr"
        ),
    );
    openssl(
        dir,
        &format!(
            "ca -batch -notext -config ca.cnf -selfsign -keyfile {name}.key -in {name}.csr -out {name}.pem \
             -startdate {start} -enddate {end}"
        ),
    );
    dir.join(format!("{name}.pem"))
}

/// A certificate that `ca` has issued.
pub fn issued(dir: &Path, name: &str, ca: &str, more: &str) {
    openssl(
        dir,
        &format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout {name}.key \
             -out {name}.pem -CA {ca}.pem -CAkey {ca}.key -addext basicConstraints=critical,CA:FALSE {more}"
        ),
    );
}

pub fn serve(dir: &Path, name: &str, client_ca: Option<&Path>, resumed: &Arc<AtomicUsize>) -> Server {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certificate = CertificateDer::from_pem_file(dir.join(format!("{name}.pem"))).expect("certificate");
    let key = PrivateKeyDer::from_pem_file(dir.join(format!("{name}.key"))).expect("key");
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("versions");
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(path).expect("CA")).expect("good");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().expect("verifier"))
        }
    };
    let config = Arc::new(builder.with_single_cert(vec![certificate], key).expect("good"));
    Server::start_with(Tls { config, resumed: resumed.clone() }, accepting(|_, _| reply(204, &[], b"")))
}

fn server(dir: &Path, name: &str) -> Server {
    serve(dir, name, None, &Arc::default())
}

fn ask(device: &Device, host: &str, port: u16, trusted: Option<PathBuf>) -> Result<(), Fault> {
    let mut settings = device.settings(&[format!("https://{host}:{port}")]);
    settings.server_certificate = trusted;
    Client::new(settings).expect("good").report("d-1", "success")
}

fn refused(result: Result<(), Fault>, code: &str, part: &str) {
    let fault = result.expect_err(code);
    assert_eq!((fault.kind, fault.error.code), (Kind::Transport, code), "{fault}");
    assert!(fault.error.text.contains(part), "{part}: {fault}");
}

#[test]
fn a_server_with_a_certificate_of_a_known_ca_is_trusted() {
    let device = Device::new();
    let ca = self_signed(&device.dir, "ca", "-days 30");
    issued(&device.dir, "good", "ca", ADDRESS);
    let server = server(&device.dir, "good");
    assert_eq!(ask(&device, "127.0.0.1", server.port, Some(ca.clone())), Ok(()));
    assert_eq!(ask(&device, "localhost", server.port, Some(ca)), Ok(()));
}

#[test]
fn the_ca_bundle_below_the_root_is_used() {
    let device = Device::new();
    let ca = self_signed(&device.dir, "ca", "-days 30");
    issued(&device.dir, "good", "ca", ADDRESS);
    let server = server(&device.dir, "good");
    let bundle = device.dir.join("etc/ssl/certs");
    std::fs::create_dir_all(&bundle).expect("makes");
    std::fs::copy(ca, bundle.join("ca-certificates.crt")).expect("copies");
    assert_eq!(ask(&device, "127.0.0.1", server.port, None), Ok(()));
    // A ServerCertificate that is missing or broken only warns.
    assert_eq!(ask(&device, "127.0.0.1", server.port, Some("/no/such/file".into())), Ok(()));
    assert_eq!(ask(&device, "127.0.0.1", server.port, Some(device.dir.join("good.key"))), Ok(()));
}

#[test]
fn an_unknown_issuer_is_refused_and_the_error_says_where_to_put_the_ca() {
    let device = Device::new();
    self_signed(&device.dir, "ca", "-days 30");
    let other = self_signed(&device.dir, "other", "-days 30");
    issued(&device.dir, "good", "ca", ADDRESS);
    let server = server(&device.dir, "good");
    refused(ask(&device, "127.0.0.1", server.port, Some(other)), "TLS-TRUST", "UnknownIssuer");
    assert!(server.seen().is_empty());
}

#[test]
fn a_self_signed_certificate_is_accepted_only_if_it_is_the_one_in_server_certificate() {
    for kind in ["", "-addext basicConstraints=critical,CA:FALSE"] {
        let device = Device::new();
        let own = self_signed(&device.dir, "own", format!("{ADDRESS} {kind}").trim());
        let twin = self_signed(&device.dir, "twin", ADDRESS);
        let server = server(&device.dir, "own");
        assert_eq!(ask(&device, "127.0.0.1", server.port, Some(own.clone())), Ok(()), "{kind}");
        refused(ask(&device, "127.0.0.1", server.port, Some(twin)), "TLS-TRUST", "ServerCertificate");
    }
}

#[test]
fn a_pinned_certificate_whose_issuer_is_unknown_is_accepted() {
    let device = Device::new();
    self_signed(&device.dir, "ca", "-days 30");
    issued(&device.dir, "leaf", "ca", ADDRESS);
    let server = server(&device.dir, "leaf");
    assert_eq!(ask(&device, "127.0.0.1", server.port, Some(device.dir.join("leaf.pem"))), Ok(()));
}

#[test]
fn a_wrong_name_is_refused_even_if_pinned() {
    let device = Device::new();
    let wrong = self_signed(&device.dir, "wrong", "-addext subjectAltName=DNS:other.example");
    let server1 = server(&device.dir, "wrong");
    refused(ask(&device, "127.0.0.1", server1.port, Some(wrong)), "TLS-NAME", "other.example");
    let ca = self_signed(&device.dir, "ca", "-days 30");
    issued(&device.dir, "nameless", "ca", "-days 5");
    let server2 = server(&device.dir, "nameless");
    refused(ask(&device, "127.0.0.1", server2.port, Some(ca)), "TLS-NAME", "subjectAltName");
}

#[test]
fn times_are_judged_by_the_clock_and_the_error_shows_both() {
    let device = Device::new();
    for (name, start, end, code, date) in [
        ("past", "20200101000000Z", "20210101000000Z", "TLS-EXPIRED", "2021-01-01"),
        ("future", "20900101000000Z", "20950101000000Z", "TLS-CLOCK", "2090-01-01"),
    ] {
        let path = self_signed_between(&device.dir, name, start, end);
        let server = server(&device.dir, name);
        refused(ask(&device, "127.0.0.1", server.port, Some(path)), code, date);
    }
}

#[test]
fn skip_verify_trusts_anybody() {
    let device = Device::new();
    self_signed(&device.dir, "own", "-addext subjectAltName=DNS:other.example");
    let server = server(&device.dir, "own");
    let mut settings = device.settings(&[format!("https://127.0.0.1:{}", server.port)]);
    settings.skip_verify = true;
    assert_eq!(Client::new(settings).expect("good").report("d-1", "success"), Ok(()));
}

#[test]
fn a_client_certificate_is_presented_when_both_files_are_set() {
    let device = Device::new();
    let ca = self_signed(&device.dir, "ca", "-days 30");
    issued(&device.dir, "good", "ca", ADDRESS);
    issued(&device.dir, "client", "ca", "-addext extendedKeyUsage=clientAuth");
    let server = serve(&device.dir, "good", Some(&ca), &Arc::default());
    let mut settings = device.settings(&[format!("https://127.0.0.1:{}", server.port)]);
    settings.server_certificate = Some(ca);
    settings.client_certificate = Some(device.dir.join("client.pem"));
    let without = Client::new(settings.clone()).expect("good").report("d-1", "success");
    refused(without, "TLS-REFUSED", "HttpsClient");
    settings.client_key = Some(device.dir.join("client.key"));
    assert_eq!(Client::new(settings.clone()).expect("good").report("d-1", "success"), Ok(()));
    settings.client_key = Some("/no/such/key".into());
    let broken = Client::new(settings.clone()).expect("good").report("d-1", "success");
    refused(broken, "TLS-CLIENT", "/no/such/key");
    settings.client_key = Some("pkcs11:token=x".into());
    assert_eq!(Client::new(settings).expect_err("refused").code, "TLS-ENGINE");
}

#[test]
fn a_second_connection_resumes_the_session() {
    let device = Device::new();
    let own = self_signed(&device.dir, "own", ADDRESS);
    let resumed = Arc::default();
    let server = serve(&device.dir, "own", None, &resumed);
    let mut settings = device.settings(&[format!("https://127.0.0.1:{}", server.port)]);
    settings.server_certificate = Some(own);
    let mut client = Client::new(settings).expect("good");
    for _ in 0..3 {
        client.report("d-1", "installing").expect("works");
    }
    assert_eq!(server.seen().len(), 4);
    assert_eq!(resumed.load(Ordering::Relaxed), 3);
}

#[test]
fn a_server_that_speaks_no_tls_is_recognised() {
    let device = Device::new();
    let own = self_signed(&device.dir, "own", ADDRESS);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("address").port();
    let thread = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = listener.accept().expect("a connection");
        let _ = stream.read(&mut [0; 1000]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    refused(ask(&device, "127.0.0.1", port, Some(own)), "TLS-HANDSHAKE", "is it https://");
    thread.join().expect("ends");
}

#[test]
fn a_redirect_from_https_to_http_is_refused() {
    let device = Device::new();
    let own = self_signed(&device.dir, "own", ADDRESS);
    let plain = Server::start(|_, _| reply(200, &[], b"x"));
    let target = plain.url();
    let certificate = CertificateDer::from_pem_file(&own).expect("certificate");
    let key = PrivateKeyDer::from_pem_file(device.dir.join("own.key")).expect("key");
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("good");
    let tls = Tls { config: Arc::new(config), resumed: Arc::default() };
    let server = Server::start_with(tls, move |_, _| reply(302, &[("Location", &target)], b""));
    let mut settings = device.settings(&[format!("https://127.0.0.1:{}", server.port)]);
    settings.server_certificate = Some(own);
    let uri = format!("https://127.0.0.1:{}/a", server.port);
    let fault = Client::new(settings).expect("good").download(&uri).expect_err("refused");
    assert!(fault.error.text.contains("https to http"), "{fault}");
    assert!(plain.seen().is_empty() && server.seen().len() == 1);
}
