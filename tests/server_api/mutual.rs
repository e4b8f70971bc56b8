//! Client certificates (SA-93): every form of key, whole chains, and what a refusal says.

use crate::mock::{Device, Server, accepting, reply};
use crate::tls::{ADDRESS, issued, openssl, self_signed, serve};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use thimble::server::{Client, Fault, Kind, Settings};

/// A server that wants a certificate that `ca` has issued.
fn strict(device: &Device) -> Server {
    let ca = self_signed(&device.dir, "ca", "-days 30");
    issued(&device.dir, "good", "ca", ADDRESS);
    serve(&device.dir, "good", Some(&ca), &Arc::default())
}

fn settings(device: &Device, server: &Server, certificate: &str, key: &str) -> Settings {
    let mut settings = device.settings(&[format!("https://127.0.0.1:{}", server.port)]);
    settings.server_certificate = Some(device.dir.join("ca.pem"));
    settings.client_certificate = Some(device.dir.join(certificate));
    settings.client_key = Some(device.dir.join(key));
    settings
}

fn ask(settings: Settings) -> Result<(), Fault> {
    Client::new(settings).expect("good").report("d-1", "success")
}

fn begins(dir: &Path, file: &str, label: &str) {
    let text = fs::read_to_string(dir.join(file)).expect("reads");
    assert!(text.starts_with(&format!("-----BEGIN {label}-----")), "{file}: {text}");
}

#[test]
fn keys_of_every_form_are_taken() {
    let device = Device::new();
    let (dir, server) = (&device.dir, strict(&device));
    for (name, make, label) in [
        ("rsa8", "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa8.key", "PRIVATE KEY"),
        ("rsa1", "rsa -in rsa8.key -traditional -out rsa1.key", "RSA PRIVATE KEY"),
        ("ec8", "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ec8.key", "PRIVATE KEY"),
        ("ec1", "ecparam -name prime256v1 -genkey -out ec1.key", "EC PARAMETERS"),
        ("ec384", "ecparam -name secp384r1 -genkey -noout -out ec384.key", "EC PRIVATE KEY"),
        ("ed", "genpkey -algorithm ED25519 -out ed.key", "PRIVATE KEY"),
    ] {
        openssl(dir, make);
        begins(dir, &format!("{name}.key"), label);
        openssl(
            dir,
            &format!(
                "req -x509 -new -key {name}.key -subj /CN={name} -out {name}.pem -CA ca.pem -CAkey ca.key \
                 -addext basicConstraints=critical,CA:FALSE"
            ),
        );
        let (certificate, key) = (format!("{name}.pem"), format!("{name}.key"));
        assert_eq!(ask(settings(&device, &server, &certificate, &key)), Ok(()), "{name}");
        // Both in one file, as many tools write it.
        let both = fs::read_to_string(dir.join(&key)).expect("reads")
            + &fs::read_to_string(dir.join(&certificate)).expect("reads");
        fs::write(dir.join("both.pem"), both).expect("writes");
        assert_eq!(ask(settings(&device, &server, "both.pem", "both.pem")), Ok(()), "{name}");
    }
}

#[test]
fn the_whole_chain_in_the_file_is_sent() {
    let device = Device::new();
    let (dir, server) = (&device.dir, strict(&device));
    openssl(
        dir,
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=middle -keyout middle.key \
         -out middle.pem -CA ca.pem -CAkey ca.key -addext basicConstraints=critical,CA:TRUE",
    );
    issued(dir, "client", "middle", "-addext extendedKeyUsage=clientAuth");
    let leaf = ask(settings(&device, &server, "client.pem", "client.key"))
        .expect_err("the server knows only the root");
    assert_eq!((leaf.kind, leaf.error.code), (Kind::Transport, "TLS-REFUSED"), "{leaf}");
    let chain =
        ["client.pem", "middle.pem"].map(|f| fs::read_to_string(dir.join(f)).expect("reads")).concat();
    fs::write(dir.join("chain.pem"), chain).expect("writes");
    assert_eq!(ask(settings(&device, &server, "chain.pem", "client.key")), Ok(()));
}

#[test]
fn files_that_do_not_fit_are_named() {
    let device = Device::new();
    let (dir, server) = (&device.dir, strict(&device));
    issued(dir, "client", "ca", "-days 5");
    issued(dir, "other", "ca", "-days 5");
    openssl(dir, "pkcs8 -topk8 -in client.key -passout pass:x -out locked.key");
    fs::write(dir.join("empty"), "").expect("writes");
    for (certificate, key, parts) in [
        ("client.pem", "other.key", ["client.pem", "other.key"]),
        ("client.pem", "locked.key", ["locked.key", "unencrypted"]),
        ("client.pem", "empty", ["client key", "empty"]),
        ("empty", "client.key", ["client certificate", "no certificate in PEM"]),
        ("missing", "client.key", ["client certificate", "missing"]),
    ] {
        let fault = ask(settings(&device, &server, certificate, key)).expect_err(key);
        assert_eq!((fault.kind, fault.error.code), (Kind::Transport, "TLS-CLIENT"), "{fault}");
        assert!(parts.iter().all(|p| fault.error.text.contains(p)), "{parts:?}: {fault}");
    }
    assert!(server.seen().is_empty());
}

#[test]
fn a_certificate_of_an_unknown_ca_is_refused_by_the_server_and_the_error_says_which_one_to_look_at() {
    let device = Device::new();
    let server = strict(&device);
    self_signed(&device.dir, "stranger", "-days 30");
    issued(&device.dir, "client", "stranger", "-days 5");
    let fault = ask(settings(&device, &server, "client.pem", "client.key")).expect_err("refused");
    assert_eq!((fault.kind, fault.error.code), (Kind::Transport, "TLS-REFUSED"));
    assert!(fault.error.text.contains("HttpsClient"), "{fault}");
}

#[test]
fn the_client_certificate_is_shown_to_the_storage_too_and_never_to_a_plain_server() {
    let device = Device::new();
    let server = strict(&device);
    issued(&device.dir, "client", "ca", "-days 5");
    let settings = settings(&device, &server, "client.pem", "client.key");
    let uri = format!("https://127.0.0.1:{}/a", server.port);
    // The mock answers 204 to everything but authentication, which no file has; but it answers.
    let client = Client::new(settings).expect("good");
    assert_eq!(client.download(&uri).expect_err("204").kind, Kind::Refused(204));
    let plain = Server::start(accepting(|_, _| reply(200, &[], b"x")));
    client.download(&plain.url()).expect("needs no certificate");
}

#[test]
fn the_next_server_is_tried_when_tls_with_the_first_fails() {
    let device = Device::new();
    self_signed(&device.dir, "unknown", ADDRESS);
    let first = serve(&device.dir, "unknown", None, &Arc::default());
    let second = Server::start(accepting(|_, _| reply(204, &[], b"")));
    let mut settings = device.settings(&[format!("https://127.0.0.1:{}", first.port), second.url()]);
    settings.server_certificate = Some(self_signed(&device.dir, "ca", "-days 30"));
    assert_eq!(ask(settings), Ok(()));
    assert!(first.seen().is_empty());
}
