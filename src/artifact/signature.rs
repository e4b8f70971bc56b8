//! Verification keys and the signature over the manifest (AF-58 to AF-63).
//!
//! | key | signature |
//! | --- | --- |
//! | RSA, 1024 to 8192 bits | PKCS#1 v1.5 with SHA-256 |
//! | EC P-256 | ECDSA with SHA-256: r and s raw, 32 bytes each, or DER |
//! | EC P-384 | ECDSA with SHA-256: r and s raw, 48 bytes each, or DER |
//!
//! P-384 is for signatures made by other tools than the official writer, which knows P-256 only.

use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};

use super::base64;
use super::fault::shown;
use crate::error::{Error, Result};

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const RSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
const ED448: &[u8] = &[0x2b, 0x65, 0x71];

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BITS: u8 = 0x03;
const OID: u8 = 0x06;

/// A public key that Artifacts may be signed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyKey {
    name: String,
    key: Key,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Key {
    /// RSAPublicKey, DER.
    Rsa(Vec<u8>),
    /// The uncompressed point.
    P256(Vec<u8>),
    /// The uncompressed point.
    P384(Vec<u8>),
}

impl VerifyKey {
    /// Reads the first PEM block of `pem`, which must be a SubjectPublicKeyInfo (`PUBLIC KEY`) with an RSA key of
    /// 1024 to 8192 bits or an EC key on P-256 or P-384 (AF-60, AF-61). `name` (its file) is for messages.
    ///
    /// # Errors
    /// ARTIFACT-KEY. The caller must not go on without the key: a configured key makes signatures mandatory
    /// (AF-63).
    pub fn from_pem(pem: &str, name: &str) -> Result<VerifyKey> {
        let key = first_block(pem)
            .and_then(|der| public_key(&der))
            .map_err(|why| Error::new("ARTIFACT-KEY", format!("the verification key {name}: {why}")))?;
        Ok(VerifyKey { name: name.to_owned(), key })
    }

    /// The name that was given to [`VerifyKey::from_pem`].
    pub fn name(&self) -> &str {
        &self.name
    }

    fn accepts(&self, message: &[u8], signature: &[u8]) -> bool {
        let by = |algorithm: &'static dyn VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
        };
        match &self.key {
            // "Legacy" is ring's word for keys below 2048 bits; the owner of the device chose the key.
            Key::Rsa(key) => by(&signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, key),
            // The writer's form first. A DER signature may happen to be 64 bytes long, so both are tried.
            Key::P256(key) => {
                by(&signature::ECDSA_P256_SHA256_FIXED, key) || by(&signature::ECDSA_P256_SHA256_ASN1, key)
            }
            Key::P384(key) => {
                let fits = |signature: &[u8]| {
                    let algorithm = &signature::ECDSA_P384_SHA256_ASN1;
                    UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
                };
                fits(signature) || raw_to_der(signature).is_some_and(|der| fits(&der))
            }
        }
    }
}

/// r and s of 48 bytes each, as the DER that the library wants for P-384.
pub(super) fn raw_to_der(raw: &[u8]) -> Option<Vec<u8>> {
    let (r, s) = raw.split_at_checked(48).filter(|(_, s)| s.len() == 48)?;
    let mut numbers = Vec::new();
    for number in [r, s] {
        let digits = &number[number.iter().position(|b| *b != 0)?..];
        // A first bit that is set would mean a negative number.
        let sign = usize::from(digits[0] >> 7);
        numbers.extend([INTEGER, (sign + digits.len()) as u8]);
        numbers.extend(std::iter::repeat_n(0, sign));
        numbers.extend_from_slice(digits);
    }
    // At most 102 bytes: lengths of one byte throughout.
    let mut der = vec![SEQUENCE, numbers.len() as u8];
    der.append(&mut numbers);
    Some(der)
}

/// Whether this build verifies signatures at all: yes. See `no_signature`.
pub(super) fn available() -> Result<()> {
    Ok(())
}

/// Checks `manifest.sig` over the raw manifest. One fitting key is enough.
///
/// Errors: ARTIFACT-SIGNATURE.
pub(super) fn verify(manifest: &[u8], signature: &[u8], keys: &[VerifyKey]) -> Result<()> {
    let wrong = |text: String| Err(Error::new("ARTIFACT-SIGNATURE", text));
    if keys.is_empty() {
        return wrong("the Artifact is signed, but there is no usable key to verify it with".into());
    }
    // AF-59: one line; a final CR or LF is harmless.
    let end = signature.iter().rposition(|b| !b"\r\n".contains(b)).map_or(0, |last| last + 1);
    let Some(signature) = base64::decode(&signature[..end]) else {
        return wrong("manifest.sig is not base64 on one line".into());
    };
    if keys.iter().any(|key| key.accepts(manifest, &signature)) {
        return Ok(());
    }
    let names: Vec<&str> = keys.iter().map(VerifyKey::name).collect();
    wrong(format!(
        "the signature of the manifest fits none of the configured keys ({}); the Artifact was changed, \
         or signed with another key",
        names.join(", ")
    ))
}

fn first_block(pem: &str) -> std::result::Result<Vec<u8>, String> {
    let mut lines = pem.lines().map(str::trim).skip_while(|line| !line.starts_with("-----BEGIN "));
    let begin = lines.next().ok_or("no PEM block (-----BEGIN PUBLIC KEY-----) in it")?;
    let label = begin.trim_start_matches("-----BEGIN ").trim_end_matches('-');
    if label != "PUBLIC KEY" {
        return Err(format!(
            "the first PEM block is {}, a PUBLIC KEY is needed; `openssl pkey -pubout` makes one from a \
             private key",
            shown(label)
        ));
    }
    let mut text = String::new();
    for line in lines {
        if line == "-----END PUBLIC KEY-----" {
            return base64::decode(text.as_bytes()).ok_or_else(|| "the PEM block is not base64".into());
        }
        text.push_str(line);
    }
    Err("the PEM block has no end line".into())
}

/// SubjectPublicKeyInfo: SEQUENCE { SEQUENCE { algorithm OID, parameters }, BIT STRING }.
fn public_key(der: &[u8]) -> std::result::Result<Key, String> {
    const SHAPE: &str = "not a DER SubjectPublicKeyInfo";
    let (info, rest) = element(der, SEQUENCE).ok_or(SHAPE)?;
    let (algorithm, after) = element(info, SEQUENCE).ok_or(SHAPE)?;
    let (bits, end) = element(after, BITS).ok_or(SHAPE)?;
    let (oid, parameters) = element(algorithm, OID).ok_or(SHAPE)?;
    // The first byte of a bit string counts its unused bits.
    let key = bits.strip_prefix(&[0]).ok_or(SHAPE)?;
    if !rest.is_empty() || !end.is_empty() {
        return Err(SHAPE.into());
    }
    let only = "; keys for Artifacts are RSA, EC P-256 or EC P-384";
    match oid {
        RSA => rsa(key),
        EC => match element(parameters, OID) {
            Some((P256, [])) if key.len() == 65 && key[0] == 4 => Ok(Key::P256(key.to_vec())),
            Some((P384, [])) if key.len() == 97 && key[0] == 4 => Ok(Key::P384(key.to_vec())),
            Some((P256 | P384, [])) => Err("the point of the EC key is not in uncompressed form".into()),
            _ => Err(format!("an EC key on another curve than P-256 (prime256v1) and P-384{only}")),
        },
        ED25519 | ED448 => Err(format!("Ed25519 and Ed448 are not supported for Artifacts{only}")),
        RSA_PSS => Err(format!("the key is for RSA-PSS only{only} (PKCS#1 v1.5)")),
        _ => Err(format!("an unknown kind of key{only}")),
    }
}

/// RSAPublicKey: SEQUENCE { INTEGER modulus, INTEGER exponent }.
fn rsa(key: &[u8]) -> std::result::Result<Key, String> {
    const SHAPE: &str = "not a DER RSA public key";
    let (numbers, rest) = element(key, SEQUENCE).ok_or(SHAPE)?;
    let (modulus, after) = element(numbers, INTEGER).ok_or(SHAPE)?;
    let (_, end) = element(after, INTEGER).ok_or(SHAPE)?;
    if !rest.is_empty() || !end.is_empty() {
        return Err(SHAPE.into());
    }
    let modulus = modulus.strip_prefix(&[0]).unwrap_or(modulus);
    let first = modulus.first().ok_or(SHAPE)?;
    let bits = modulus.len() * 8 - first.leading_zeros() as usize;
    if !(1024..=8192).contains(&bits) {
        return Err(format!("an RSA key of {bits} bits; 1024 to 8192 are supported"));
    }
    Ok(Key::Rsa(key.to_vec()))
}

/// Splits off one DER element with this tag: its content, and what follows.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (first, rest) = bytes.split_first()?;
    if *first != tag {
        return None;
    }
    let (length, rest) = match rest.split_first()? {
        (short @ 0..=0x7f, rest) => (usize::from(*short), rest),
        (0x81, rest) => {
            let (length, rest) = rest.split_first()?;
            (usize::from(*length), rest)
        }
        (0x82, rest) => {
            let (length, rest) = rest.split_at_checked(2)?;
            (usize::from(length[0]) << 8 | usize::from(length[1]), rest)
        }
        // No key that is accepted here needs more than two bytes.
        _ => return None,
    };
    rest.split_at_checked(length)
}
