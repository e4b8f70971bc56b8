//! `version` and `manifest`.

use super::*;

pub fn kinds() -> Vec<Kind> {
    let mut all = versions();
    all.extend(manifests());
    all
}

fn versions() -> Vec<Kind> {
    let with = |version: &str| Recipe { version: version.into(), ..base() }.build();
    const CODE: &str = "ARTIFACT-FORMAT";
    let text = |name, says, version| kind(name, CODE, says, with(version));
    let mut unlisted = base().parts();
    unlisted[0].1.push(b'\n');
    vec![
        text("version-1", "format version 1", r#"{"format":"mender","version":1}"#),
        text("version-4", "format version 4", r#"{"format":"mender","version":4}"#),
        text("version-given-twice", "format version 4", r#"{"format":"mender","version":3,"version":4}"#),
        text("version-as-text", "whole number", r#"{"format":"mender","version":"3"}"#),
        text("version-2-to-the-63", "whole number", r#"{"format":"mender","version":9223372036854775808}"#),
        text("version-out-of-range", "version", r#"{"format":"mender","version":1e999}"#),
        text("version-of-another-format", "rauc", r#"{"format":"rauc","version":3}"#),
        text("version-not-json", "line 1, column 2", "{"),
        text("version-a-number", "found nothing", "3"),
        text("version-empty", "line 1, column 1", ""),
        text("version-with-more-behind", "column 33", r#"{"format":"mender","version":3} {}"#),
        kind("version-without-end", "ARTIFACT-LIMIT", "the limit is 1024", with(&" ".repeat(1025))),
        kind("version-changed", "ARTIFACT-CHECKSUM", "version has the SHA-256", join(&unlisted)),
    ]
}

fn manifests() -> Vec<Kind> {
    let parts = base().parts();
    let good = String::from_utf8(parts[1].1.clone()).unwrap();
    let raw = |bytes: Vec<u8>| {
        let mut parts = parts.clone();
        parts[1].1 = bytes;
        join(&parts)
    };
    const CODE: &str = "ARTIFACT-MANIFEST";
    let text = |name, says, manifest: String| kind(name, CODE, says, raw(manifest.into_bytes()));
    let sum = sha256(b"");
    let more = |line: &str| format!("{good}{sum}  {line}\n");
    let without =
        |word: &str| good.split_inclusive('\n').filter(|line| !line.contains(word)).collect::<String>();
    let changed = |word: &str| {
        let line = good.lines().find(|line| line.ends_with(word)).unwrap();
        good.replace(&line[..64], &sum)
    };
    vec![
        text("manifest-empty", "no checksum for version", String::new()),
        text("manifest-without-final-newline", "no newline at the end", good.trim_end().into()),
        text("manifest-with-carriage-returns", "may contain only", good.replace('\n', "\r\n")),
        text("manifest-in-capitals", "line 1", good.to_uppercase()),
        text("manifest-with-empty-line", "line 4", format!("{good}\n")),
        text("manifest-with-one-blank", "line 1", good.replace("  ", " ")),
        text("manifest-with-short-hash", "line 1", good[1..].into()),
        text("manifest-names-a-file-twice", "twice", more("data/0000/rootfs.ext4")),
        text("manifest-names-version-twice", "twice", more("version")),
        text("manifest-names-two-headers", "twice", more("header.tar")),
        text("manifest-without-version", "no checksum for version", without("version")),
        text("manifest-without-header", "no checksum for the header", without("header")),
        text("manifest-names-itself", "cannot be part", more("manifest")),
        text("manifest-names-an-augment", "cannot be part", more("header-augment.tar.gz")),
        text("manifest-names-second-payload", "cannot be part", more("data/0001/x")),
        text("manifest-traversal", "data/0000/..", more("data/0000/../../etc/passwd")),
        text("manifest-dot-dot", "not a file name", more("data/0000/..")),
        text("manifest-absolute", "cannot be part", more("/etc/passwd")),
        text(
            "manifest-name-of-300-bytes",
            "longer than 255",
            more(&format!("data/0000/{}", "n".repeat(300))),
        ),
        text("manifest-name-with-nul", "may contain only", more("data/0000/a\0b")),
        kind(
            "manifest-not-utf8",
            CODE,
            "not UTF-8",
            raw([good.as_bytes(), sum.as_bytes(), b"  \xff\n"].concat()),
        ),
        kind("manifest-lacks-the-file", CODE, "0 payload files", raw(without("data/").into_bytes())),
        text("manifest-of-two-images", "2 payload files", more("data/0000/x")),
        text("manifest-of-5000-files", "5001 payload files", {
            (0..5000).fold(good.clone(), |all, n| {
                format!(
                    "{all}{sum}  data/0000/{n}
"
                )
            })
        }),
        kind("header-changed", "ARTIFACT-CHECKSUM", "header.tar.gz", raw(changed("header.tar.gz").into())),
        Kind {
            payload: true,
            ..kind("payload-changed", "ARTIFACT-CHECKSUM", "rootfs.ext4", raw(changed("rootfs.ext4").into()))
        },
    ]
}
