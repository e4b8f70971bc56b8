//! With a key, nothing unsigned or wrongly signed gets in; without one, a signature is only remarked.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "data/artifact_writer.rs"]
mod artifact_writer;

use artifact_writer::*;
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair};
use thimble::artifact::{Options, VerifyKey};
use thimble::error::Result;

/// Signs with one P-256 key, raw (as the official writer) or DER.
struct Signer {
    raw: EcdsaKeyPair,
    der: EcdsaKeyPair,
    random: SystemRandom,
}

impl Signer {
    fn new() -> Signer {
        let random = SystemRandom::new();
        let load = |algorithm: &'static EcdsaSigningAlgorithm, key: &[u8]| {
            EcdsaKeyPair::from_pkcs8(algorithm, key, &random).unwrap()
        };
        let key = EcdsaKeyPair::generate_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        Signer {
            raw: load(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, key.as_ref()),
            der: load(&signature::ECDSA_P256_SHA256_ASN1_SIGNING, key.as_ref()),
            random,
        }
    }

    fn pem(&self) -> String {
        let mut info = vec![0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
        info.extend([0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00]);
        info.extend(self.raw.public_key().as_ref());
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", base64(&info))
    }

    fn key(&self, name: &str) -> VerifyKey {
        VerifyKey::from_pem(&self.pem(), name).unwrap()
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.raw.sign(&self.random, message).unwrap().as_ref().to_vec()
    }
}

fn signed(parts: &[(String, Vec<u8>)], text: impl Into<Vec<u8>>) -> Vec<u8> {
    let mut parts = parts.to_vec();
    parts.insert(2, ("manifest.sig".into(), text.into()));
    join(&parts)
}

fn with_keys(bytes: &[u8], keys: &[VerifyKey]) -> Result<Seen> {
    read_with(bytes, &Options { keys, signature_required: !keys.is_empty(), ..NO_KEYS })
}

#[track_caller]
fn rejected(bytes: &[u8], options: &Options) -> String {
    let error = read_with(bytes, options).expect_err("must be refused");
    assert_eq!(error.code, "ARTIFACT-SIGNATURE", "{}", error.text);
    error.text
}

#[test]
fn raw_and_der_signatures_verify_with_any_of_the_keys() {
    let (signer, other) = (Signer::new(), Signer::new());
    let parts = Recipe::default().parts();
    let raw = signer.sign(&parts[1].1);
    let der = signer.der.sign(&signer.random, &parts[1].1).unwrap();
    for signature in [&raw[..], der.as_ref()] {
        let bytes = signed(&parts, base64(signature));
        for keys in [
            vec![signer.key("a")],
            vec![other.key("b"), signer.key("a")],
            vec![signer.key("a"), other.key("b")],
        ] {
            assert!(with_keys(&bytes, &keys).unwrap().header.signed);
        }
        let text =
            rejected(&bytes, &Options { keys: &[other.key("b.pem")], signature_required: true, ..NO_KEYS });
        assert!(text.contains("b.pem"), "{text}");
        assert!(with_keys(&bytes, &[]).unwrap().header.signed);
    }
}

#[test]
fn r_and_s_with_leading_zero_bytes_verify() {
    let signer = Signer::new();
    let parts = Recipe::default().parts();
    let (mut r_zero, mut s_zero) = (0, 0);
    // One signature in 256 has a zero there.
    for _ in 0..20_000 {
        let signature = signer.sign(&parts[1].1);
        let (r, s) = (signature[0] == 0, signature[32] == 0);
        if r || s {
            r_zero += u32::from(r);
            s_zero += u32::from(s);
            with_keys(&signed(&parts, base64(&signature)), &[signer.key("k")]).unwrap();
        }
        if r_zero > 0 && s_zero > 0 {
            return;
        }
    }
    panic!("no such signature was made: {r_zero} {s_zero}");
}

#[test]
fn an_unsigned_artifact_is_refused_as_soon_as_a_key_is_configured() {
    let unsigned = Recipe::default().build();
    let keys = [Signer::new().key("k")];
    for options in [
        Options { keys: &keys, signature_required: true, ..NO_KEYS },
        Options { keys: &keys, signature_required: false, ..NO_KEYS },
        Options { keys: &[], signature_required: true, ..NO_KEYS },
    ] {
        rejected(&unsigned, &options);
    }
    assert!(!read(&unsigned).unwrap().header.signed);
}

#[test]
fn a_signed_artifact_is_refused_if_a_signature_is_required_but_no_key_is_usable() {
    let signer = Signer::new();
    let parts = Recipe::default().parts();
    let bytes = signed(&parts, base64(&signer.sign(&parts[1].1)));
    rejected(&bytes, &Options { keys: &[], signature_required: true, ..NO_KEYS });
}

#[test]
fn a_signature_over_something_else_is_refused() {
    let signer = Signer::new();
    let options = Options { keys: &[signer.key("k")], signature_required: true, ..NO_KEYS };
    let parts = Recipe::default().parts();
    let good = signer.sign(&parts[1].1);
    for message in [&b""[..], &parts[0].1, &parts[1].1[1..], &parts[1].1[..parts[1].1.len() - 1]] {
        rejected(&signed(&parts, base64(&signer.sign(message))), &options);
    }
    let mut changed = parts.clone();
    changed[1].1[0] ^= 1;
    rejected(&signed(&changed, base64(&good)), &options);
    for bad in
        [[0; 64].to_vec(), [0xff; 64].to_vec(), good[..63].to_vec(), [&good[..], &[0]].concat(), vec![]]
    {
        rejected(&signed(&parts, base64(&bad)), &options);
    }
    for at in 0..64 {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        rejected(&signed(&parts, base64(&bad)), &options);
    }
}

#[test]
fn the_signature_is_one_line_of_base64_with_a_harmless_line_end() {
    let signer = Signer::new();
    let options = Options { keys: &[signer.key("k")], signature_required: true, ..NO_KEYS };
    let parts = Recipe::default().parts();
    let good = base64(&signer.sign(&parts[1].1));
    for end in ["", "\n", "\r\n", "\n\n"] {
        read_with(&signed(&parts, format!("{good}{end}"))[..], &options).unwrap();
    }
    for bad in [
        format!(" {good}"),
        format!("{good} "),
        format!("\n{good}"),
        format!("{}\n{}", &good[..44], &good[44..]),
        good.trim_end_matches('=').to_owned(),
        format!("{good}===="),
        String::new(),
        "\n".into(),
        "-----BEGIN SIGNATURE-----".into(),
    ] {
        rejected(&signed(&parts, bad), &options);
    }
}

/// The signature is looked at before anything that it covers: an unsigned or badly signed Artifact gives the
/// signature error whatever else is wrong with it.
#[test]
fn nothing_is_acted_on_before_the_signature() {
    let signer = Signer::new();
    let options = Options { keys: &[signer.key("k")], signature_required: true, ..NO_KEYS };
    let mut parts = Recipe::default().parts();
    parts[1].1 = b"garbage".to_vec();
    parts[2].1 = b"garbage".to_vec();
    rejected(&join(&parts), &options);
    rejected(&signed(&parts, base64(&[1; 64])), &options);
    let bytes = signed(&parts, base64(&signer.sign(b"garbage")));
    assert_eq!(read_with(&bytes[..], &options).unwrap_err().code, "ARTIFACT-MANIFEST");
}

#[test]
fn damaged_key_files_are_refused_with_the_file_and_the_reason() {
    let pem = Signer::new().pem();
    let body = pem.lines().nth(1).unwrap().to_owned();
    VerifyKey::from_pem(&format!("a comment\n\n{}", pem.replace('\n', "\r\n")), "k").unwrap();
    VerifyKey::from_pem(&format!("{pem}garbage"), "k").expect("only the first block counts");
    let wrapped = format!("{}\n{}", &body[..64], &body[64..]);
    VerifyKey::from_pem(&pem.replace(&body, &wrapped), "k").unwrap();
    for (bad, word) in [
        (String::new(), "no PEM block"),
        (body.clone(), "no PEM block"),
        (pem.replace("PUBLIC KEY", "CERTIFICATE"), "CERTIFICATE"),
        (pem.replace("PUBLIC KEY", "RSA PUBLIC KEY"), "RSA PUBLIC KEY"),
        (pem.replace("PUBLIC KEY", "PRIVATE KEY"), "-pubout"),
        (pem.replace("-----END", "-----XND"), "no end line"),
        (pem.replace(&body, &body[1..]), "base64"),
        (pem.replace(&body, ""), "SubjectPublicKeyInfo"),
        (pem.replace(&body, &body[..40]), "SubjectPublicKeyInfo"),
        (pem.replace(&body, &format!("{body}AAAA")), "base64"),
        (pem.replace(&body, &body.replace("==", "AA")), "SubjectPublicKeyInfo"),
    ] {
        let error = VerifyKey::from_pem(&bad, "/etc/key.pem").unwrap_err();
        assert_eq!(error.code, "ARTIFACT-KEY");
        assert!(error.text.contains(word) && error.text.contains("/etc/key.pem"), "{}", error.text);
    }
    // No byte of a key may make the reader panic.
    let der: Vec<u8> = (0..=255).collect();
    for first in 0..=255u8 {
        for length in [0, 1, 0x80, 0x81, 0x82, 0x83, 0xff] {
            let bytes = [&[first, length][..], &der[..13]].concat();
            let text = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----", base64(&bytes));
            VerifyKey::from_pem(&text, "k").unwrap_err();
        }
    }
}
