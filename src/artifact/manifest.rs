//! `version` and `manifest`: what the Artifact claims to contain, in its one canonical form.
//!
//! Each line of the manifest is `<64 lower-case hex digits><two blanks><name>\n` (AF-11). Any other spelling is
//! refused, because the signature covers these bytes and every reader must see the same list in them (AF-58).

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use super::codec::{self, HEADER};
use super::fault::shown;
use super::limits;
use crate::error::{Error, Result};
use crate::json;

/// A SHA-256.
pub(super) type Digest = [u8; 32];

/// The checksums of everything in the Artifact.
#[derive(Debug)]
pub(super) struct Manifest {
    pub(super) version: Digest,
    pub(super) header: (&'static str, Digest),
    /// Payload files: bare name to checksum.
    pub(super) files: BTreeMap<String, Digest>,
}

/// Refuses every `version` but formats 2 and 3 (AF-9). This is read before the manifest, therefore unverified: it can
/// only lead to a refusal. Its checksum is compared later ([`Manifest::check_version`]).
pub(super) fn check_format(version: &[u8]) -> Result<u8> {
    const CODE: &str = "ARTIFACT-FORMAT";
    let value = json::parse_bytes(version, CODE, "version")?;
    match json::get(&value, "format").and_then(json::string) {
        Some("mender") => {}
        other => {
            let found = other.map_or("nothing".into(), shown);
            return Err(Error::new(CODE, format!("version: \"format\" must be \"mender\", found {found}")));
        }
    }
    match json::get(&value, "version").and_then(json::integer) {
        Some(2) => Ok(2),
        Some(3) => Ok(3),
        Some(1) => {
            let text = "the Artifact has format version 1; versions 2 and 3 are supported. \
                        Write it again with mender-artifact 3 (--version 3)";
            Err(Error::new(CODE, text))
        }
        Some(n) => {
            let text =
                format!("the Artifact has format version {n}, unknown here; update this program first");
            Err(Error::new(CODE, text))
        }
        None => Err(Error::new(CODE, "version: \"version\" must be a whole number")),
    }
}

impl Manifest {
    /// Reads the raw manifest. The order of lines does not matter (AF-12); duplicates, unknown names and the
    /// lack of `version` or of the header are refused (AF-13 to AF-17).
    ///
    /// Errors: ARTIFACT-MANIFEST with the line.
    pub(super) fn parse(raw: &[u8]) -> Result<Manifest> {
        let (mut version, mut header, mut files) = (None, None, BTreeMap::new());
        let mut rest = raw;
        let mut number = 0;
        while !rest.is_empty() {
            number += 1;
            let wrong =
                |text: &str| Error::new("ARTIFACT-MANIFEST", format!("manifest, line {number}: {text}"));
            let end = rest.iter().position(|b| *b == b'\n').ok_or_else(|| wrong("no newline at the end"))?;
            let (digest, name) = line(&rest[..end]).map_err(wrong)?;
            rest = &rest[end + 1..];
            let twice = if name == "version" {
                version.replace(digest).is_some()
            } else if let Some((name, _)) = codec::find(&HEADER, name) {
                header.replace((name, digest)).is_some()
            } else if let Some(file) = name.strip_prefix("data/0000/") {
                check_file_name(file).map_err(|why| wrong(&format!("{}: {why}", shown(name))))?;
                files.insert(file.to_owned(), digest).is_some()
            } else {
                return Err(wrong(&format!("{} cannot be part of an Artifact", shown(name))));
            };
            if twice {
                return Err(wrong(&format!("{} is listed twice", shown(name))));
            }
        }
        let missing = |what| Error::new("ARTIFACT-MANIFEST", format!("manifest: no checksum for {what}"));
        Ok(Manifest {
            version: version.ok_or_else(|| missing("version"))?,
            header: header.ok_or_else(|| missing("the header"))?,
            files,
        })
    }

    /// AF-10. Errors: ARTIFACT-CHECKSUM.
    pub(super) fn check_version(&self, content: &[u8]) -> Result<()> {
        compare("version", &self.version, &Sha256::digest(content).into())
    }

    /// AF-16, AF-20: `content` is the whole entry as stored. Errors: ARTIFACT-MANIFEST if it is listed under
    /// another name, ARTIFACT-CHECKSUM.
    pub(super) fn check_header(&self, name: &str, content: &[u8]) -> Result<()> {
        let (listed, digest) = &self.header;
        if *listed != name {
            let text = format!("manifest lists {listed}, but the Artifact contains {name}");
            return Err(Error::new("ARTIFACT-MANIFEST", text));
        }
        compare(name, digest, &Sha256::digest(content).into())
    }
}

/// Compares a checksum. Errors: ARTIFACT-CHECKSUM.
pub(super) fn compare(what: &str, wanted: &Digest, found: &Digest) -> Result<()> {
    if wanted == found {
        return Ok(());
    }
    let text = format!(
        "{what} has the SHA-256 {}, the manifest says {}; it was damaged or changed, fetch it again",
        hex(found),
        hex(wanted)
    );
    Err(Error::new("ARTIFACT-CHECKSUM", text))
}

fn hex(digest: &Digest) -> String {
    digest.iter().map(|b| format!("{b:02x}")).collect()
}

fn line(line: &[u8]) -> std::result::Result<(Digest, &str), &'static str> {
    const SHAPE: &str = "expected 64 lower-case hexadecimal digits, two blanks and a name";
    let (hex, rest) = line.split_at_checked(64).ok_or(SHAPE)?;
    let name = rest.strip_prefix(b"  ").ok_or(SHAPE)?;
    let name = std::str::from_utf8(name).map_err(|_| "the name is not UTF-8")?;
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = (nibble(pair[0]).ok_or(SHAPE)? << 4) | nibble(pair[1]).ok_or(SHAPE)?;
    }
    Ok((digest, name))
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// The names that a payload file may have (AF-34): they end up as file names on the device.
pub(super) fn check_file_name(name: &str) -> std::result::Result<(), &'static str> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.,-".contains(&b);
    match name {
        "" => Err("the file name is empty"),
        "." | ".." => Err("not a file name"),
        _ if name.len() > limits::NAME => Err("the file name is longer than 255 bytes"),
        _ if !name.bytes().all(allowed) => Err("a file name may contain only A-Z a-z 0-9 _ . , -"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUM: &str = "96bcd965947569404798bcbdb614f103db5a004eb6e364cfc162c146890ea35b";

    fn parse(lines: &[&str]) -> Result<Manifest> {
        Manifest::parse(lines.iter().map(|l| format!("{SUM}  {l}\n")).collect::<String>().as_bytes())
    }

    #[test]
    fn lines_may_come_in_any_order() {
        let m = parse(&["version", "data/0000/b", "header.tar.gz", "data/0000/a"]).unwrap();
        assert_eq!(m.files.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(m.header.0, "header.tar.gz");
        m.check_version(br#"{"format":"mender","version":3}"#).unwrap();
        assert_eq!(m.check_version(b"").unwrap_err().code, "ARTIFACT-CHECKSUM");
    }

    #[test]
    fn names_that_are_no_part_of_an_artifact_are_refused() {
        for name in [
            "",
            " version",
            "version ",
            "manifest",
            "header.tarX",
            "header.tar.gz.xz",
            "header-augment.tar.gz",
            "./version",
            "data/0000",
            "data/0000/",
            "data/0001/a",
            "data/000/a",
            "data/0000/a/b",
            "data/0000/..",
            "data/0000/.",
            "data/0000/bad name",
            "data/0000/a\0",
            "data/0000/ä",
            &format!("data/0000/{}", "a".repeat(256)),
        ] {
            let e = parse(&["version", "header.tar", name]).expect_err(name);
            assert_eq!(e.code, "ARTIFACT-MANIFEST", "{name}");
            assert!(e.text.contains("line 3"), "{}", e.text);
        }
        parse(&["version", "header.tar", &format!("data/0000/{}", "a".repeat(255))]).unwrap();
    }

    #[test]
    fn a_manifest_has_one_spelling_only() {
        let good = format!("{SUM}  header.tar\n{SUM}  version\n");
        Manifest::parse(good.as_bytes()).unwrap();
        for bad in [
            good.trim_end().to_owned(),
            good.replace('\n', "\r\n"),
            good.replace("96bc", "96BC"),
            good.replace("  ", " "),
            good.replace("  ", "   "),
            good.replace("  ", "\t\t"),
            format!("\n{good}"),
            format!("{good}\n"),
            format!(" {good}"),
            good.replacen('9', "", 1),
            good.replacen('9', "g", 1),
            format!("{good}{SUM}  version\n"),
            format!("{good}{SUM}  header.tar\n"),
            format!("{good}{SUM}  header.tar.gz\n"),
            format!("{SUM}  version\n"),
            format!("{SUM}  header.tar\n"),
            String::new(),
        ] {
            assert_eq!(Manifest::parse(bad.as_bytes()).expect_err(&bad).code, "ARTIFACT-MANIFEST");
        }
        assert!(Manifest::parse(b"\xff").is_err());
    }

    #[test]
    fn only_formats_2_and_3_of_mender_are_read() {
        assert_eq!(check_format(br#"{"format":"mender","version":3}"#), Ok(3));
        assert_eq!(check_format(br#"{"format":"mender","version":2}"#), Ok(2));
        for (bad, word) in [
            (r#"{"format":"mender","version":0}"#, "version 0"),
            (r#"{"format":"mender","version":1}"#, "version 1"),
            (r#"{"format":"mender","version":9223372036854775808}"#, "whole number"),
            (r#"{"format":"mender","version":-3}"#, "version -3"),
            (r#"{"format":"mender","version":4}"#, "version 4"),
            (r#"{"format":"mender","version":"3"}"#, "whole number"),
            (r#"{"format":"mender"}"#, "whole number"),
            (r#"{"format":"rauc","version":3}"#, "rauc"),
            (r#"{"version":3}"#, "nothing"),
            (r#"{"format":"mender","version":3} x"#, "column 33"),
            ("[]", "nothing"),
            ("", "line 1"),
        ] {
            let e = check_format(bad.as_bytes()).expect_err(bad);
            assert_eq!(e.code, "ARTIFACT-FORMAT");
            assert!(e.text.contains(word), "{}", e.text);
        }
    }
}
