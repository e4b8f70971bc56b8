//! Verification keys and `manifest.sig`. The first byte is the mode, the second chooses one of the keys below:
//!
//! | mode | the rest is |
//! | --- | --- |
//! | 0 | a key file |
//! | 1 | a key's DER, put between PEM lines here |
//! | 2 | `manifest.sig`, as it is |
//! | 3 | a signature, put in base64 here |

use super::super::base64;
use super::super::signature::{VerifyKey, raw_to_der, verify};
use crate::fuzz::input;

/// Keys for these tests only: nothing else was ever signed with them.
const KEYS: [&str; 3] = [
    "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAn7GDH/snzI5lEDCD62Nc
p/kSHqKMgL1X5UrqL5jzmQooc+snLJAmtczCKYAZ0o7RhIc7ZXEDokLYXYpT25DK
yvBXbRhkuV6ZfZE5FU6GLu6C+xJIqFlJJAsm9LCPQgxXd+faU3u0/r1Yo03XIrAb
N0TfdjFj4YiqhcqNPb5fpwrmpIDd4ScWXBUevr1uGJDNNzwkruU6NxcEzSbyRrb8
Koc89nUo9UCR3gDseeRczP++xiFYMZNpcGJHzAWgYLER1S9pOCFYSpX2sH8LfHj5
zEAQ8kMp5gMBwMpjE4j3uj8aoFba9Hrsi+1C33bmabCVTV74s93ewsQ2Sb8SrI75
8QIDAQAB
-----END PUBLIC KEY-----
",
    "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEIJ1HRIjpLsC/qyfwWoz4Nbf89rcF
wlmzLitoYZyKbaeyaLnlJtSN5znjYpHc3d7cM8Ck7VlAhHFJM9S04Uy9jQ==
-----END PUBLIC KEY-----
",
    "-----BEGIN PUBLIC KEY-----
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAE7n5Dt/sHEnxCR5ORieENBMhVdctCNL9h
dICVKnD0rvbTNB5Sw4Sy7l6Ftrl4SchGPNkRc03J2NxQXiCDClnyzSlQRNB/Hwy/
jukF2vyKIZwXDqciKrBoBKtN22SQGZpo
-----END PUBLIC KEY-----
",
];

/// What the signatures among the seeds are for.
const MANIFEST: &str = "\
96bcd965947569404798bcbdb614f103db5a004eb6e364cfc162c146890ea35b  header.tar
96bcd965947569404798bcbdb614f103db5a004eb6e364cfc162c146890ea35b  version
";

pub fn run(data: &[u8]) {
    let (mode, rest) = input::byte(data);
    let (which, rest) = input::byte(rest);
    match mode & 3 {
        0 => {
            if let Ok(text) = std::str::from_utf8(rest) {
                key(text);
            }
        }
        1 => {
            let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", armour(rest));
            key(&pem);
        }
        2 => {
            let line = rest.strip_suffix(b"\n").unwrap_or(rest);
            if let Some(bytes) = base64::decode(line) {
                assert_eq!(armour(&bytes).as_bytes(), line, "another spelling was accepted");
            }
            signature(which, rest);
        }
        _ => {
            if let Some(der) = raw_to_der(rest) {
                numbers(rest, &der);
            }
            let text = armour(rest);
            assert_eq!(base64::decode(text.as_bytes()).as_deref(), Some(rest));
            signature(which, text.as_bytes());
        }
    }
}

fn key(pem: &str) {
    match VerifyKey::from_pem(pem, "k.pem") {
        Ok(key) => {
            assert_eq!(key.name(), "k.pem");
            assert!(pem.contains("-----BEGIN PUBLIC KEY-----") && pem.contains("-----END PUBLIC KEY-----"));
            // A key whose point or modulus is nonsense fits nothing.
            for signature in [&[1; 64][..], &[1; 96], &[0x30, 6, 2, 1, 1, 2, 1, 1]] {
                let result =
                    verify(MANIFEST.as_bytes(), armour(signature).as_bytes(), std::slice::from_ref(&key));
                assert_eq!(result.expect_err("accepted").code, "ARTIFACT-SIGNATURE");
            }
        }
        Err(e) => {
            assert_eq!(e.code, "ARTIFACT-KEY");
            assert!(e.text.len() < 1000, "a refusal is bounded");
        }
    }
}

fn signature(which: u8, text: &[u8]) {
    let key = VerifyKey::from_pem(KEYS[usize::from(which) % 3], "k.pem").expect("a good key");
    let keys = [key];
    if verify(MANIFEST.as_bytes(), text, &keys).is_err() {
        return;
    }
    // It fits this manifest: then no other one, and no other key.
    let mut other = MANIFEST.as_bytes().to_vec();
    let at = usize::from(which) % other.len();
    other[at] ^= 1;
    assert!(verify(&other, text, &keys).is_err(), "it fits every manifest");
    assert!(verify(&other[..0], text, &keys).is_err());
    let stranger = VerifyKey::from_pem(KEYS[(usize::from(which) + 1) % 3], "s.pem").expect("a good key");
    assert!(verify(MANIFEST.as_bytes(), text, std::slice::from_ref(&stranger)).is_err(), "it fits every key");
    assert!(verify(MANIFEST.as_bytes(), text, &[]).is_err(), "no key, no signature");
    let [key] = keys;
    assert!(verify(MANIFEST.as_bytes(), text, &[stranger, key]).is_ok(), "any of several keys may fit");
}

/// The two numbers of a raw P-384 signature are those of its DER form.
fn numbers(raw: &[u8], der: &[u8]) {
    assert!(raw.len() == 96 && der[0] == 0x30 && usize::from(der[1]) == der.len() - 2);
    let mut rest = &der[2..];
    for number in raw.chunks(48) {
        let (head, tail) = rest.split_at(2);
        let (digits, after) = tail.split_at(usize::from(head[1]));
        let padded = [&[0; 48][..], digits].concat();
        assert!(head[0] == 2 && digits[0] < 0x80 && padded.ends_with(number));
        assert!(digits.len() == 1 || digits[0] != 0 || digits[1] >= 0x80, "not the shortest form");
        rest = after;
    }
    assert!(rest.is_empty());
}

fn armour(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - group.len()));
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i)) as usize & 63] as char;
            out.push(if i <= group.len() { digit } else { '=' });
        }
    }
    out
}
