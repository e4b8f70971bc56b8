//! Keys as openssl makes them, verified by ring.

use super::*;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ED25519 as ED25519_VERIFY, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
    VerificationAlgorithm,
};
use std::path::PathBuf;
use std::process::Command;

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let dir = std::env::temp_dir().join(format!("thimble-keys-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("makes a directory");
        Dir(dir)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs openssl with these words; `OUT` is the file to be made.
fn openssl(out: &Path, words: &str) {
    let words = words.split(' ').map(|w| if w == "OUT" { out.as_os_str().to_owned() } else { w.into() });
    let done = Command::new("openssl").args(words).output().expect("openssl: install the package `openssl`");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// The public key as openssl sees it.
fn openssl_public(key: &Path) -> String {
    let mut command = Command::new("openssl");
    let done = command.args(["pkey", "-pubout", "-in"]).arg(key).output().expect("runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).expect("text")
}

fn unbase64(text: &str) -> Vec<u8> {
    let pem = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
    <(SectionKind, Vec<u8>)>::from_pem_slice(pem.as_bytes()).expect("base64").1
}

fn verify(key: &Key) {
    let body = b"{\"id_data\":\"{}\"}\n";
    let signature = unbase64(&key.sign(body).expect("signs"));
    let (alg, public): (&dyn VerificationAlgorithm, &[u8]) = match key {
        Key::Rsa(k) => (&RSA_PKCS1_2048_8192_SHA256, k.public_key().as_ref()),
        Key::P256(k) => (&ECDSA_P256_SHA256_ASN1, k.public_key().as_ref()),
        Key::Ed25519(k) => (&ED25519_VERIFY, k.public_key().as_ref()),
    };
    UnparsedPublicKey::new(alg, public).verify(body, &signature).expect("verifies");
    assert!(UnparsedPublicKey::new(alg, public).verify(b"other", &signature).is_err());
}

#[test]
fn every_kind_of_key_signs_and_shows_the_public_key_that_openssl_shows() {
    let dir = Dir::new("kinds");
    for (name, words) in [
        ("rsa-pkcs1", "genrsa -traditional -out OUT 2048"),
        ("rsa-pkcs8", "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072 -out OUT"),
        ("ec-sec1", "ecparam -name prime256v1 -genkey -out OUT"),
        ("ec-sec1-bare", "ecparam -name prime256v1 -genkey -noout -out OUT"),
        ("ec-pkcs8", "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out OUT"),
        ("ed25519", "genpkey -algorithm ED25519 -out OUT"),
    ] {
        let path = dir.file(name);
        openssl(&path, words);
        let key = Key::open(&path, true).expect(name);
        verify(&key);
        assert_eq!(key.public_pem(), openssl_public(&path), "{name}");
    }
}

#[test]
fn a_new_key_is_p256_private_and_the_same_next_time() {
    let dir = Dir::new("new");
    let path = dir.file("data/mender-agent.pem");
    let key = Key::open(&path, false).expect("makes");
    assert!(matches!(key, Key::P256(_)));
    verify(&key);
    assert_eq!(fs::metadata(&path).expect("is there").permissions().mode() & 0o777, 0o600);
    assert_eq!(key.public_pem(), openssl_public(&path));
    assert_eq!(key.public_pem(), Key::open(&path, false).expect("reads").public_pem());
}

#[test]
fn a_damaged_key_is_set_aside_and_replaced() {
    let dir = Dir::new("damaged");
    let path = dir.file("key.pem");
    let good = dir.file("good.pem");
    openssl(&good, "genpkey -algorithm ED25519 -out OUT");
    let text = fs::read_to_string(&good).expect("reads");
    let lines: Vec<&str> = text.lines().collect();
    for damaged in [
        String::new(),
        "garbage".into(),
        text[..text.len() / 2].to_owned(),
        text.replace(lines[1], "MC4CAQAwBQYDK2Vw"),
        text.replace("PRIVATE", "PUBLIC"),
        "\0".repeat(100_000),
    ] {
        fs::write(&path, &damaged).expect("writes");
        let e = Key::open(&path, true).expect_err("static");
        assert_eq!(e.code, "KEY-DAMAGED", "{e}");
        assert_eq!(fs::read_to_string(&path).expect("still there"), damaged);
        verify(&Key::open(&path, false).expect("replaces"));
        assert_eq!(fs::read_to_string(dir.file("key.pem.broken")).expect("kept"), damaged);
        fs::remove_file(&path).expect("removes");
    }
}

#[test]
fn a_good_key_that_we_cannot_use_is_never_replaced() {
    let dir = Dir::new("unsupported");
    for (name, words, reason) in [
        ("rsa1024", "genrsa -traditional -out OUT 1024", "size"),
        ("p384", "ecparam -name secp384r1 -genkey -noout -out OUT", "P-256"),
        ("p521", "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521 -out OUT", "P-256"),
        ("ed448", "genpkey -algorithm ED448 -out OUT", "kind"),
        ("enc8", "genpkey -algorithm ED25519 -aes-128-cbc -pass pass:x -out OUT", "encrypted"),
        ("enc1", "genrsa -traditional -aes128 -passout pass:x -out OUT 2048", "encrypted"),
    ] {
        let path = dir.file(name);
        openssl(&path, words);
        let before = fs::read(&path).expect("reads");
        let e = Key::open(&path, false).expect_err(name);
        assert!(e.code == "KEY-UNSUPPORTED" && e.text.contains(reason), "{e}");
        assert_eq!(fs::read(&path).expect("still there"), before);
    }
}

#[test]
fn ec_keys_in_odd_forms_are_understood_or_explained() {
    let dir = Dir::new("ec");
    let path = dir.file("key.pem");
    openssl(&path, "ecparam -name prime256v1 -genkey -noout -out OUT");
    let compressed = dir.file("compressed.pem");
    let convert = format!("ec -in {} -conv_form compressed -out OUT", path.display());
    openssl(&compressed, &convert);
    let bare = dir.file("bare.pem");
    openssl(&bare, &format!("ec -in {} -no_public -out OUT", path.display()));
    for (file, reason) in [(compressed, "compressed"), (bare, "public half")] {
        let e = Key::open(&file, false).expect_err("explains");
        assert!(e.code == "KEY-UNSUPPORTED" && e.text.contains(reason), "{e}");
    }
}

#[test]
fn a_key_that_others_can_read_is_made_private() {
    let dir = Dir::new("mode");
    let path = dir.file("key.pem");
    openssl(&path, "genpkey -algorithm ED25519 -out OUT");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("chmod");
    Key::open(&path, true).expect("reads");
    assert_eq!(fs::metadata(&path).expect("is there").permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_missing_static_key_is_an_error() {
    let dir = Dir::new("missing");
    let e = Key::open(&dir.file("none.pem"), true).expect_err("missing");
    assert!(e.code == "KEY-MISSING" && !dir.file("none.pem").exists());
}

#[test]
fn no_damage_to_a_key_makes_us_panic() {
    let dir = Dir::new("fuzz");
    for words in ["genpkey -algorithm ED25519 -out OUT", "ecparam -name prime256v1 -genkey -noout -out OUT"] {
        let path = dir.file("key.pem");
        openssl(&path, words);
        let (kind, der) = <(SectionKind, Vec<u8>)>::from_pem_file(&path).expect("PEM");
        let label = if kind == SectionKind::EcPrivateKey { "EC PRIVATE KEY" } else { "PRIVATE KEY" };
        for at in 0..der.len() {
            let _ = Key::parse(der::pem(label, &der[..at]).as_bytes());
            for value in [0, 1, 0x7f, 0x80, 0xff, der[at] ^ 0x20] {
                let mut other = der.clone();
                other[at] = value;
                let _ = Key::parse(der::pem(label, &other).as_bytes());
            }
        }
    }
}
