//! Checks on what a device sends: signatures of authentication requests, time stamps.

use crate::artifact::pem_body;
use crate::base64;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA256_ASN1, ED25519, RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
    UnparsedPublicKey, VerificationAlgorithm,
};

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const EDWARDS: &[u8] = &[0x2b, 0x65, 0x70];

/// Whether `signature` (base64) is the one over exactly `body` by the key in `pem`.
pub(super) fn signature(pem: &str, body: &[u8], signature: &str) -> Result<(), String> {
    let key = pem_body(pem, "PUBLIC KEY").ok_or("pubkey is not PEM with the label PUBLIC KEY")?;
    let (algorithm, key) = public_key(&key).ok_or("pubkey is not an RSA, ECDSA or Ed25519 key")?;
    let signature = base64::decode(signature).ok_or("X-MEN-Signature is not base64 on one line")?;
    UnparsedPublicKey::new(algorithm, key)
        .verify(body, &signature)
        .map_err(|_| "X-MEN-Signature does not verify over the body".to_owned())
}

/// Algorithm and bare key from a SubjectPublicKeyInfo.
fn public_key(der: &[u8]) -> Option<(&'static dyn VerificationAlgorithm, &[u8])> {
    let (info, rest) = element(0x30, der)?;
    let (algorithm, info) = element(0x30, info)?;
    let (bits, after) = element(0x03, info)?;
    let (&0, key) = bits.split_first()? else { return None };
    if !rest.is_empty() || !after.is_empty() {
        return None;
    }
    let (id, parameters) = element(0x06, algorithm)?;
    let algorithm: &'static dyn VerificationAlgorithm = match id {
        RSA => &RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
        EDWARDS => &ED25519,
        EC => match element(0x06, parameters)?.0 {
            P256 => &ECDSA_P256_SHA256_ASN1,
            P384 => &ECDSA_P384_SHA256_ASN1,
            _ => return None,
        },
        _ => return None,
    };
    Some((algorithm, key))
}

/// The content of a DER element with that tag, and what follows it.
fn element(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&[found, first], mut rest) = der.split_first_chunk()?;
    let mut length = usize::from(first);
    if first >= 0x80 {
        let (bytes, after) = rest.split_at_checked(usize::from(first & 0x7f).min(4))?;
        length = bytes.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
        rest = after;
    }
    (found == tag).then(|| rest.split_at_checked(length))?
}

/// RFC 3339, as precisely as a server parses it: `2026-01-31T23:59:59.123Z` or with an offset.
pub(super) fn is_time(text: &str) -> bool {
    let shape: String = text.chars().map(|sign| if sign.is_ascii_digit() { '0' } else { sign }).collect();
    let Some(zone) = shape.strip_prefix("0000-00-00T00:00:00") else { return false };
    let zone = match zone.strip_prefix('.') {
        Some(fraction) if fraction.starts_with('0') => fraction.trim_start_matches('0'),
        Some(_) => return false,
        None => zone,
    };
    let field = |from: usize| text[from..from + 2].parse::<u32>().unwrap_or(99);
    matches!(zone, "Z" | "+00:00" | "-00:00")
        && (1..=12).contains(&field(5))
        && (1..=31).contains(&field(8))
        && field(11) < 24
        && field(14) < 60
        && field(17) < 61
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TempDir, tool};

    #[test]
    fn signatures_made_by_openssl_verify() {
        let dir = TempDir::new("verify");
        let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let openssl = |args: &[&str]| tool::run("openssl", "openssl", args).unwrap();
        let (body, out, private) = (file("body"), file("out"), file("private.pem"));
        std::fs::write(&body, br#"{"id_data":"{}"}"#).unwrap();
        for (options, raw) in [
            (&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"][..], false),
            (&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"], false),
            (&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"], false),
            (&["-algorithm", "ED25519"], true),
        ] {
            openssl(&[&["genpkey", "-out", &private], options].concat());
            let pem = String::from_utf8(openssl(&["pkey", "-in", &private, "-pubout"])).unwrap();
            if raw {
                openssl(&["pkeyutl", "-sign", "-rawin", "-inkey", &private, "-in", &body, "-out", &out]);
            } else {
                openssl(&["dgst", "-sha256", "-sign", &private, "-out", &out, &body]);
            }
            let signed = base64::encode(&std::fs::read(&out).unwrap());
            let text = std::fs::read(&body).unwrap();
            signature(&pem, &text, &signed).unwrap();
            let other = [&text[..], b"\n"].concat();
            assert!(signature(&pem, &other, &signed).unwrap_err().contains("does not verify"));
            assert!(signature(&pem.replace("PUBLIC", "RSA PUBLIC"), &text, &signed).is_err());
        }
    }

    #[test]
    fn times() {
        for good in ["2026-01-31T23:59:59Z", "1970-01-01T00:00:00.000000001Z", "2026-12-01T00:00:00+02:00"] {
            assert!(is_time(good), "{good}");
        }
        for bad in
            ["", "2026-01-31", "2026-13-01T00:00:00Z", "2026-01-31 00:00:00Z", "2026-01-31T00:00:00", "é"]
        {
            assert!(!is_time(bad), "{bad}");
        }
    }
}
