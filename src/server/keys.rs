//! The device's private key: reading every form that Mender clients leave behind, making one, signing.

use super::der::{self, BIT_STRING, Der, INTEGER, OBJECT, OCTET_STRING, SEQUENCE};
use crate::error::{Error, Result};
use crate::sys::file;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use rustls_pki_types::pem::{PemObject, SectionKind};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

// Object identifiers, as DER content.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// An RSA key of 4096 bits in PEM has 3.3 kB.
const LARGEST: u64 = 64 * 1024;

/// A key that can sign.
#[derive(Debug)]
pub(super) enum Key {
    Rsa(Box<RsaKeyPair>),
    P256(Box<EcdsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
}

/// Why a key file cannot be used.
#[derive(Debug, PartialEq, Eq)]
enum Trouble {
    /// The file makes no sense: whoever lost it lost it already.
    Damaged(String),
    /// A key, but not one for us. Replacing it would throw a good identity away.
    Unsupported(String),
}

impl Key {
    /// The key in `path`. If it is missing or damaged, and ours to manage, a new one is made (SA-18); what was
    /// there is kept beside it.
    pub(super) fn open(path: &Path, is_static: bool) -> Result<Key> {
        let shown = path.display();
        let damage = match file::read_limited(path, LARGEST) {
            Ok(content) => match Key::parse(&content) {
                Ok(key) => {
                    tighten(path);
                    return Ok(key);
                }
                Err(Trouble::Unsupported(why)) => {
                    return Err(Error::new("KEY-UNSUPPORTED", format!("the device key {shown} {why}")));
                }
                Err(Trouble::Damaged(why)) => why,
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                if is_static {
                    let text = format!("the configured device key {shown} does not exist");
                    return Err(Error::new("KEY-MISSING", text));
                }
                return Key::generate(path);
            }
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                return Err(Error::new("KEY-READ", format!("cannot read the device key {shown}: {e}")));
            }
            Err(e) => format!("cannot be read: {e}"),
        };
        if is_static {
            let text = format!("the configured device key {shown} {damage}; it is not replaced");
            return Err(Error::new("KEY-DAMAGED", text));
        }
        let mut aside = path.as_os_str().to_owned();
        aside.push(".broken");
        log::warn!(
            "the device key {shown} {damage}. It is kept as {} and a new key is made: the server will see this \
             device as pending until the new key is accepted",
            Path::new(&aside).display()
        );
        fs::rename(path, &aside).map_err(|e| {
            Error::new("KEY-DAMAGED", format!("cannot set the device key {shown} aside: {e}"))
        })?;
        Key::generate(path)
    }

    /// The key in `path` as it is; nothing is made, replaced or tightened.
    pub(super) fn existing(path: &Path) -> io::Result<Key> {
        let content = file::read_limited(path, LARGEST)?;
        Key::parse(&content).map_err(|_| io::Error::other("the device key cannot be used"))
    }

    /// Makes an ECDSA P-256 key (decision 15), readable only by us; it is on stable storage before it is used.
    fn generate(path: &Path) -> Result<Key> {
        let failed = |why: String| {
            Error::new("KEY-WRITE", format!("cannot make the device key {}: {why}", path.display()))
        };
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
            .map_err(|_| failed("no random numbers".into()))?;
        let pem = der::pem("PRIVATE KEY", pkcs8.as_ref());
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(|e| failed(e.to_string()))?;
        }
        file::replace(path, pem.as_bytes(), 0o600).map_err(|e| failed(e.to_string()))?;
        log::info!("new device key {}", path.display());
        Key::parse(pem.as_bytes()).map_err(|e| failed(format!("{e:?}")))
    }

    fn parse(content: &[u8]) -> std::result::Result<Key, Trouble> {
        let damaged = |why: &str| Trouble::Damaged(why.to_owned());
        if contains(content, b"BEGIN ENCRYPTED PRIVATE KEY") || contains(content, b"4,ENCRYPTED") {
            return Err(Trouble::Unsupported(
                "is encrypted: there is nobody to ask for its pass phrase; store it unencrypted".into(),
            ));
        }
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(content) {
            let (kind, der) = section.map_err(|e| Trouble::Damaged(format!("is damaged: {e}")))?;
            match kind {
                SectionKind::RsaPrivateKey => return rsa(RsaKeyPair::from_der(&der)),
                SectionKind::EcPrivateKey => return ec(&der, None),
                SectionKind::PrivateKey => return pkcs8(&der),
                _ => {} // `EC PARAMETERS`, a certificate, a public key
            }
        }
        Err(damaged("has no private key in PEM"))
    }

    /// `X-MEN-Signature` over exactly these bytes (SA-12, SA-19).
    pub(super) fn sign(&self, message: &[u8]) -> Result<String> {
        let random = SystemRandom::new();
        let failed = |_| Error::new("KEY-SIGN", "the device key cannot sign");
        let signature = match self {
            Key::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).map_err(failed)?;
                signature
            }
            Key::P256(key) => key.sign(&random, message).map_err(failed)?.as_ref().to_vec(),
            Key::Ed25519(key) => key.sign(message).as_ref().to_vec(),
        };
        Ok(der::base64(&signature))
    }

    /// The public key as the server wants it (SA-16).
    pub(super) fn public_pem(&self) -> String {
        let object = |id: &[u8]| der::element(OBJECT, &[id]);
        let (algorithm, bits) = match self {
            Key::Rsa(key) => ([object(RSA), vec![0x05, 0x00]].concat(), key.public_key().as_ref()),
            Key::P256(key) => ([object(EC), object(P256)].concat(), key.public_key().as_ref()),
            Key::Ed25519(key) => (object(ED25519), key.public_key().as_ref()),
        };
        let algorithm = der::element(SEQUENCE, &[&algorithm]);
        let bits = der::element(BIT_STRING, &[&[0], bits]);
        der::pem("PUBLIC KEY", &der::element(SEQUENCE, &[&algorithm, &bits]))
    }
}

/// PKCS#8: the algorithm, then the key in a form of its own.
fn pkcs8(bytes: &[u8]) -> std::result::Result<Key, Trouble> {
    let parts = || {
        let mut body = Der(Der(bytes).take(SEQUENCE)?);
        body.take(INTEGER)?;
        let mut algorithm = Der(body.take(SEQUENCE)?);
        let id = algorithm.take(OBJECT)?;
        let curve = algorithm.take(OBJECT);
        Some((id, curve, body.take(OCTET_STRING)?))
    };
    let Some((id, curve, inner)) = parts() else {
        return Err(Trouble::Damaged("is damaged: not a PKCS#8 structure".into()));
    };
    match id {
        RSA => rsa(RsaKeyPair::from_pkcs8(bytes)),
        EC => ec(inner, Some(curve.unwrap_or_default())),
        ED25519 => match Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes) {
            Ok(key) => Ok(Key::Ed25519(Box::new(key))),
            Err(e) => Err(Trouble::Damaged(format!("is damaged: {e}"))),
        },
        _ => Err(Trouble::Unsupported(
            "is of a kind that is not supported (RSA, ECDSA P-256, Ed25519 are)".into(),
        )),
    }
}

fn rsa(key: std::result::Result<RsaKeyPair, ring::error::KeyRejected>) -> std::result::Result<Key, Trouble> {
    key.map(|key| Key::Rsa(Box::new(key))).map_err(|e| match e.to_string().as_str() {
        "TooSmall" | "TooLarge" | "PrivateModulusLenNotMultipleOf512Bits" => {
            Trouble::Unsupported(format!("is an RSA key of unsupported size ({e}): 2048 to 4096 bits are"))
        }
        why => Trouble::Damaged(format!("is damaged: {why}")),
    })
}

/// ECPrivateKey (RFC 5915); the curve is named by the structure around it, or in it.
fn ec(bytes: &[u8], curve: Option<&[u8]>) -> std::result::Result<Key, Trouble> {
    let parts = || {
        let mut body = Der(Der(bytes).take(SEQUENCE)?);
        body.take(INTEGER)?;
        let private = body.take(OCTET_STRING)?;
        let named = body.take(0xa0).and_then(|p| Der(p).take(OBJECT));
        let public = body.take(0xa1).and_then(|p| Der(p).take(BIT_STRING));
        Some((private, named, public))
    };
    let Some((private, named, public)) = parts() else {
        return Err(Trouble::Damaged("is damaged: not an ECPrivateKey structure".into()));
    };
    if curve.or(named) != Some(P256) {
        return Err(Trouble::Unsupported(
            "is an EC key that is not on curve P-256, the only one supported".into(),
        ));
    }
    let Some((0, point)) = public.and_then(|p| p.split_first()) else {
        return Err(Trouble::Unsupported(
            "is an EC key without its public half, which is needed; `openssl ec -in KEY -out NEW` adds it"
                .into(),
        ));
    };
    // Some writers drop leading zeros of the private number, or add one.
    let digits = &private[private.iter().position(|b| *b != 0).unwrap_or(private.len())..];
    if digits.len() > 32 {
        return Err(Trouble::Damaged("is damaged: the private number is too long".into()));
    }
    let mut number = [0u8; 32];
    number[32 - digits.len()..].copy_from_slice(digits);
    let random = SystemRandom::new();
    let alg = &ECDSA_P256_SHA256_ASN1_SIGNING;
    match EcdsaKeyPair::from_private_key_and_public_key(alg, &number, point, &random) {
        Ok(key) => Ok(Key::P256(Box::new(key))),
        Err(_) if matches!(point.first(), Some(2 | 3)) => Err(Trouble::Unsupported(
            "has its public half in compressed form; `openssl ec -in KEY -conv_form uncompressed -out NEW` helps"
                .into(),
        )),
        Err(e) => Err(Trouble::Damaged(format!("is damaged: {e}"))),
    }
}

/// A key that others can read is made private (SA-18).
fn tighten(path: &Path) {
    let Ok(meta) = fs::metadata(path) else { return };
    let mode = meta.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 {
        return;
    }
    match fs::set_permissions(path, fs::Permissions::from_mode(0o600)) {
        Ok(()) => log::warn!("the device key {} had mode {mode:04o}; it is 0600 now", path.display()),
        Err(e) => log::warn!("the device key {} has mode {mode:04o}: {e}", path.display()),
    }
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|w| w == word)
}

#[cfg(test)]
mod tests;
