//! Signatures, on a device that has a key.

use super::*;

pub fn kinds() -> Vec<Kind> {
    let signed = |name, says, signature: &[u8]| {
        let mut parts = base().parts();
        parts.insert(2, ("manifest.sig".into(), signature.to_vec()));
        Kind { key: true, ..kind(name, "ARTIFACT-SIGNATURE", says, join(&parts)) }
    };
    let fits_none = "fits none of the configured keys (";
    let mut all = vec![
        Kind { key: true, ..kind("unsigned", "ARTIFACT-SIGNATURE", "not signed", base().build()) },
        signed("signature-empty", fits_none, b""),
        signed("signature-of-zeros", fits_none, base64(&[0; 64]).as_bytes()),
        signed("signature-of-ones", fits_none, base64(&[0xff; 64]).as_bytes()),
        signed("signature-of-an-rsa-key", fits_none, base64(&[7; 256]).as_bytes()),
        signed("signature-of-one-byte", fits_none, b"AA=="),
        signed("signature-not-base64", "not base64", b"!!!!"),
        signed("signature-on-two-lines", "not base64", b"AAAA\nAAAA"),
        signed("signature-der-of-zeros", fits_none, base64(&[0x30, 6, 2, 1, 0, 2, 1, 0]).as_bytes()),
    ];
    let mut large = base().parts();
    large.insert(2, ("manifest.sig".into(), vec![b'A'; 16385]));
    all.push(Kind { key: true, ..kind("signature-too-large", "ARTIFACT-LIMIT", "16384", join(&large)) });
    all
}
