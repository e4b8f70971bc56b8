//! HTTPS: whom the device believes, and what it says when it does not.
#![allow(clippy::expect_used, clippy::panic)] // These are tests.

use thimble_testkit::{Certificates, DeviceOptions, Options, Scene, TempDir, make_certificates};

const THIMBLE: &str = env!("CARGO_BIN_EXE_thimble");

/// A server with a certificate of its own authority; the device is configured with `config`.
fn scene(certificates: &Certificates, config: &[(&str, String)]) -> Scene {
    let config = config.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let server = Options { tls: Some(certificates.tls()), ..Options::default() };
    Scene::with("tls", THIMBLE, server, DeviceOptions { config, ..DeviceOptions::default() })
}

fn made(dir: &TempDir, name: &str) -> Certificates {
    make_certificates(&dir.path().join(name)).expect("make certificates")
}

#[test]
fn a_server_of_the_configured_authority_is_believed_for_everything() {
    let dir = TempDir::new("ca");
    let certificates = made(&dir, "ca");
    let ca = format!("\"{}\"", certificates.ca.display());
    let mut scene = scene(&certificates, &[("ServerCertificate", ca)]);
    scene.offer(&Scene::release());
    let ending = scene.update();
    assert_eq!(ending.code, 0, "{}", ending.output);
    scene.assert_success_reported();
    scene.assert_new();
}

#[test]
fn the_servers_own_certificate_may_be_the_configured_one() {
    let dir = TempDir::new("pinned");
    let certificates = made(&dir, "ca");
    let own = dir.path().join("own.pem");
    std::fs::write(&own, &certificates.cert_pem).expect("write it");
    let scene = scene(&certificates, &[("ServerCertificate", format!("\"{}\"", own.display()))]);
    scene.run(&["check"]).expect(0);
}

#[test]
fn a_server_of_another_authority_is_refused_and_told_nothing() {
    let dir = TempDir::new("other");
    let (certificates, other) = (made(&dir, "ca"), made(&dir, "other"));
    let ca = format!("\"{}\"", other.ca.display());
    let scene = scene(&certificates, &[("ServerCertificate", ca)]);
    let ran = scene.run(&["check"]);
    ran.expect(1).complains("TLS").complains("certificate");
    assert_eq!(scene.server.requests().len(), 0);
}

#[test]
fn without_any_certificate_an_unknown_authority_is_refused() {
    let dir = TempDir::new("unknown");
    let scene = scene(&made(&dir, "ca"), &[]);
    scene.run(&["check"]).expect(1).complains("certificate");
    assert_eq!(scene.server.requests().len(), 0);
}

#[test]
fn skipverify_believes_anybody_by_option_or_configuration() {
    let dir = TempDir::new("skip");
    let certificates = made(&dir, "ca");
    let scene_without = scene(&certificates, &[]);
    scene_without.run(&["--skipverify", "check"]).expect(0);
    let scene_with = scene(&certificates, &[("SkipVerify", "true".to_owned())]);
    scene_with.run(&["check"]).expect(0);
}

#[test]
fn the_option_trusted_certs_replaces_the_configuration() {
    let dir = TempDir::new("option");
    let (certificates, other) = (made(&dir, "ca"), made(&dir, "other"));
    let wrong = format!("\"{}\"", other.ca.display());
    let scene = scene(&certificates, &[("ServerCertificate", wrong)]);
    scene.run(&["-E", &certificates.ca.display().to_string(), "check"]).expect(0);
}

#[test]
fn a_certificate_file_that_is_missing_or_no_certificate_is_named() {
    let dir = TempDir::new("nofile");
    let certificates = made(&dir, "ca");
    let missing = dir.path().join("missing.pem");
    let one = scene(&certificates, &[("ServerCertificate", format!("\"{}\"", missing.display()))]);
    one.run(&["check"]).expect(1).complains("missing.pem");
    let garbage = dir.path().join("garbage.pem");
    std::fs::write(&garbage, "no certificate\n").expect("write it");
    let two = scene(&certificates, &[("ServerCertificate", format!("\"{}\"", garbage.display()))]);
    two.run(&["check"]).expect(1).complains("garbage.pem");
}

#[test]
fn a_plain_server_behind_an_https_address_is_a_readable_error() {
    let plain = Scene::new("plain", THIMBLE);
    let url = format!("\"{}\"", plain.server.url().replace("http:", "https:"));
    let scene = Scene::configured("tls", THIMBLE, &[("ServerURL", &url)]);
    scene
        .run(&["check"])
        .expect(1)
        .complains("closed the connection in the middle of the TLS handshake")
        .complains(&url[1..url.len() - 1]);
}
