//! `manifest` and `version`.

use super::super::manifest::{Manifest, check_file_name, check_format};

pub fn run(data: &[u8]) {
    if let Ok(format) = check_format(data) {
        assert!(matches!(format, 2 | 3));
    }
    let Ok(manifest) = Manifest::parse(data) else { return };
    // One spelling only: put together again, it has the same lines.
    let mut lines = vec![line(&manifest.version, "version"), line(&manifest.header.1, manifest.header.0)];
    for (name, digest) in &manifest.files {
        assert_eq!(check_file_name(name), Ok(()));
        assert!(!name.contains('/') && name != "." && name != "..", "{name:?} leads out of its folder");
        lines.push(line(digest, &format!("data/0000/{name}")));
    }
    lines.sort();
    let mut given: Vec<&[u8]> = data.split_inclusive(|b| *b == b'\n').collect();
    given.sort();
    assert!(lines.iter().map(String::as_bytes).eq(given), "another spelling was accepted");
    assert!(manifest.check_version(b"not it").is_err());
    let other = if manifest.header.0 == "header.tar" { "header.tar.gz" } else { "header.tar" };
    assert!(manifest.check_header(other, b"").is_err(), "listed under another name");
}

fn line(digest: &[u8; 32], name: &str) -> String {
    let hex: String = digest.iter().map(|b| format!("{b:02x}")).collect();
    format!("{hex}  {name}\n")
}
