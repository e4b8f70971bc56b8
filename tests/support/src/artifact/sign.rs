//! Signatures of Artifacts: over the manifest, in the forms that `mender-artifact` writes.

use crate::base64;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use std::sync::Arc;

/// A private key that signs Artifacts.
#[derive(Clone, Debug)]
pub struct SigningKey(Arc<Kind>);

#[derive(Debug)]
enum Kind {
    P256(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

/// What stands before the 65 byte point in a SubjectPublicKeyInfo of P-256.
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// AlgorithmIdentifier of RSA.
const RSA_ALGORITHM: [u8; 15] =
    [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

impl SigningKey {
    /// A new ECDSA P-256 key.
    pub fn generate() -> SigningKey {
        let random = SystemRandom::new();
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("make a key");
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random);
        SigningKey(Arc::new(Kind::P256(pair.expect("use the new key"))))
    }

    /// An RSA key in PEM, label `PRIVATE KEY` (as `openssl genpkey -algorithm RSA` writes it).
    pub fn rsa_from_pem(pem: &str) -> SigningKey {
        let der = pem_body(pem, "PRIVATE KEY").expect("a PEM file with the label PRIVATE KEY");
        SigningKey(Arc::new(Kind::Rsa(
            RsaKeyPair::from_pkcs8(&der).expect("an RSA key of 2048 bits or more"),
        )))
    }

    /// The public half for `ArtifactVerifyKey`.
    pub fn public_pem(&self) -> String {
        let der = match &*self.0 {
            Kind::P256(pair) => [&P256_PREFIX[..], pair.public_key().as_ref()].concat(),
            Kind::Rsa(pair) => {
                let key = [&[0], pair.public_key().as_ref()].concat();
                sequence(0x30, &[&RSA_ALGORITHM[..], &sequence(0x03, &key)].concat())
            }
        };
        let text = base64::encode(&der);
        let lines: Vec<&str> = text
            .as_bytes()
            .chunks(64)
            .map(|line| std::str::from_utf8(line).expect("base64 is ASCII"))
            .collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }

    /// The text of `manifest.sig`.
    pub(crate) fn sign(&self, manifest: &[u8]) -> String {
        let random = SystemRandom::new();
        match &*self.0 {
            Kind::P256(pair) => base64::encode(pair.sign(&random, manifest).expect("sign").as_ref()),
            Kind::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, manifest, &mut signature).expect("sign");
                base64::encode(&signature)
            }
        }
    }
}

/// A DER element with its length in the shortest form.
fn sequence(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![tag];
    if length < 0x80 {
        out.push(length as u8);
    } else {
        let bytes: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|&byte| byte == 0).collect();
        out.push(0x80 | bytes.len() as u8);
        out.extend(bytes);
    }
    out.extend_from_slice(content);
    out
}

/// The DER inside the first PEM block with that label.
pub(crate) fn pem_body(pem: &str, label: &str) -> Option<Vec<u8>> {
    let (_, rest) = pem.split_once(&format!("-----BEGIN {label}-----"))?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    base64::decode(&body.split_ascii_whitespace().collect::<String>())
}
