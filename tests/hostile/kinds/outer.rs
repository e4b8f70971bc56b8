//! The outer archive: order, names, types, sizes, ends.

use super::*;

pub fn kinds() -> Vec<Kind> {
    let mut all = shapeless();
    all.extend(order());
    all.extend(blocks());
    all.extend(ends());
    all
}

fn shapeless() -> Vec<Kind> {
    let mut zip = b"PK\x03\x04".to_vec();
    zip.resize(2048, 0x20);
    let mut packed = gzip(&base().build());
    packed.resize(4096, 0);
    vec![
        kind("nothing", "ARTIFACT-TRUNCATED", "ends too early", Vec::new()),
        kind("one-byte", "ARTIFACT-TRUNCATED", "ends too early", vec![b'x']),
        kind("zeros", "ARTIFACT-ORDER", "where version was expected", vec![0; 4096]),
        kind("noise", "ARTIFACT-TAR", "checksum", vec![0xff; 4096]),
        kind("web-page", "ARTIFACT-TAR", "checksum", b"<html>not found</html>\n".repeat(100)),
        kind("zip", "ARTIFACT-TAR", "checksum", zip),
        kind("packed-as-a-whole", "ARTIFACT-TAR", "checksum", packed),
    ]
}

/// The parts of a good one in another order, or other parts.
fn order() -> Vec<Kind> {
    let parts = base().parts();
    let pick = |order: &[usize]| join(&order.iter().map(|i| parts[*i].clone()).collect::<Vec<_>>());
    let with = |at: usize, name: &str, content: &[u8]| {
        let mut parts = parts.clone();
        parts.insert(at, (name.into(), content.to_vec()));
        join(&parts)
    };
    let named = |part: usize, name: &str| {
        let mut parts = parts.clone();
        parts[part].0 = name.into();
        join(&parts)
    };
    let late = |kind: Kind| Kind { payload: true, ..kind };
    const ORDER: &str = "ARTIFACT-ORDER";
    vec![
        kind("manifest-first", ORDER, "expected version", pick(&[1, 0, 2, 3])),
        kind("header-before-manifest", ORDER, "expected manifest", pick(&[0, 2, 1, 3])),
        kind("data-before-header", ORDER, "expected header.tar", pick(&[0, 1, 3, 2])),
        kind("version-twice", ORDER, "expected manifest", pick(&[0, 0, 1, 2, 3])),
        kind("manifest-twice", ORDER, "expected header.tar", pick(&[0, 1, 1, 2, 3])),
        kind("header-twice", ORDER, "after the header", pick(&[0, 1, 2, 2, 3])),
        late(kind("data-twice", "ARTIFACT-PAYLOAD", "after the payload", pick(&[0, 1, 2, 3, 3]))),
        kind("no-version", ORDER, "expected version", pick(&[1, 2, 3])),
        kind("no-manifest", ORDER, "expected manifest", pick(&[0, 2, 3])),
        kind("no-header", ORDER, "expected header.tar", pick(&[0, 1, 3])),
        kind("no-data", "ARTIFACT-PAYLOAD", "not there", pick(&[0, 1, 2])),
        kind("version-only", ORDER, "where manifest was expected", pick(&[0])),
        kind("signature-after-header", ORDER, "after the header", with(3, "manifest.sig", b"AAAA")),
        kind("signature-twice", ORDER, "expected header.tar", {
            let mut parts = parts.clone();
            parts.insert(2, ("manifest.sig".into(), b"AAAA".to_vec()));
            parts.insert(2, ("manifest.sig".into(), b"AAAA".to_vec()));
            join(&parts)
        }),
        kind("augmented", "ARTIFACT-FORMAT", "augment", with(2, "manifest-augment", b"")),
        kind("header-augment-alone", ORDER, "after the header", with(3, "header-augment.tar.gz", b"")),
        kind("unknown-entry-first", ORDER, "expected version", with(0, "README", b"hi")),
        late(kind("unknown-entry-last", ORDER, "after the payload", with(4, "README", b"hi"))),
        late(kind("second-payload", "ARTIFACT-PAYLOAD", "only data/0000", with(4, "data/0001.tar.gz", b""))),
        kind("dot-slash-version", ORDER, "./version", named(0, "./version")),
        kind("absolute-version", ORDER, "/version", named(0, "/version")),
        kind("version-in-capitals", ORDER, "VERSION", named(0, "VERSION")),
        kind("traversal-instead-of-header", ORDER, "../../etc/passwd", named(2, "../../etc/passwd")),
        kind("header-with-unknown-suffix", ORDER, "header.tar.bz2", named(2, "header.tar.bz2")),
        kind(
            "header-with-another-suffix",
            "ARTIFACT-MANIFEST",
            "contains header.tar",
            named(2, "header.tar"),
        ),
        kind(
            "data-with-unknown-suffix",
            "ARTIFACT-PAYLOAD",
            "data/0000.tar.bz2",
            named(3, "data/0000.tar.bz2"),
        ),
        kind("data-with-another-suffix", "ARTIFACT-COMPRESSION", "zstd", named(3, "data/0000.tar.zst")),
        kind("data-outside", "ARTIFACT-PAYLOAD", "data/../data", named(3, "data/../data/0000.tar")),
    ]
}

/// The first block of one of the parts is replaced.
fn blocks() -> Vec<Kind> {
    let parts = base().parts();
    let with = |part: usize, block: [u8; 512]| {
        let mut all: Vec<Vec<u8>> = parts.iter().map(|(name, content)| entry(name, content)).collect();
        all[part][..512].copy_from_slice(&block);
        tar(&all)
    };
    let sized = |part: usize, size: &[u8]| with(part, block(parts[part].0.as_bytes(), size, b'0', |_| ()));
    let typed = |part: usize, kind: u8| {
        let (name, content) = &parts[part];
        with(part, block(name.as_bytes(), format!("{:011o}\0", content.len()).as_bytes(), kind, |_| ()))
    };
    let before = |extension: Vec<u8>| [extension, base().build()].concat();
    let pax = |records: &str| before(super::data::pax(records));
    let mut damaged = base().build();
    damaged[0] ^= 1;
    let size = format!("{:011o}\0", parts[0].1.len());
    let old = block(b"version", size.as_bytes(), b'0', |b| b[257..265].fill(0));
    let foreign = block(b"version\xff", size.as_bytes(), b'0', |_| ());
    let huge = format!("20011 comment={}\n", "c".repeat(19_996));
    const TAR: &str = "ARTIFACT-TAR";
    const LIMIT: &str = "ARTIFACT-LIMIT";
    vec![
        kind("damaged-block", TAR, "damaged", damaged),
        kind("old-tar", TAR, "neither POSIX", with(0, old)),
        kind("name-not-utf8", TAR, "not UTF-8", with(0, foreign)),
        kind("version-symbolic-link", TAR, "symbolic link", typed(0, b'2')),
        kind("manifest-hard-link", TAR, "hard link", typed(1, b'1')),
        kind("header-device", TAR, "a device", typed(2, b'3')),
        kind("header-directory", TAR, "has content", typed(2, b'5')),
        kind("data-pipe", TAR, "a pipe", typed(3, b'6')),
        kind("data-sparse", TAR, "sparse", typed(3, b'S')),
        kind("type-unknown", TAR, "unknown type", typed(0, b'V')),
        kind("size-100-gib", LIMIT, "the limit is 1024", sized(0, &binary_size(100 << 30))),
        kind("size-2-to-the-63", TAR, "not a number", sized(1, &binary_size(i64::MIN))),
        kind("size-negative", TAR, "not a number", sized(0, &binary_size(-1))),
        kind("size-all-ones", TAR, "not a number", sized(0, &[0xff; 12])),
        kind("size-not-octal", TAR, "not a number", sized(0, b"00000000008\0")),
        kind("size-empty", TAR, "not a number", sized(0, b"            ")),
        kind("manifest-too-large", LIMIT, "the limit is 1048576", sized(1, b"00004000001\0")),
        kind("header-too-large", LIMIT, "the limit is 4194304", sized(2, b"00020000001\0")),
        Kind {
            payload: true,
            ..kind(
                "data-larger-than-the-file",
                "ARTIFACT-COMPRESSION",
                "gzip",
                sized(3, &binary_size(1 << 50)),
            )
        },
        kind("pax-global", TAR, "global PAX", before(super::data::extension(b'g', b"10 path=a\n"))),
        kind("pax-malformed", TAR, "malformed", pax("99 path=a\n")),
        kind("pax-size-contradicts", TAR, "a PAX record says", pax("11 size=30\n")),
        kind("pax-size-negative", TAR, "PAX size", pax("11 size=-1\n")),
        kind("pax-size-2-to-the-63", TAR, "PAX size", pax("28 size=9223372036854775808\n")),
        kind("pax-path-twice", TAR, "given twice", pax("10 path=a\n10 path=b\n")),
        kind("pax-path-with-nul", TAR, "NUL", pax("12 path=a\0b\n")),
        kind("pax-too-large", LIMIT, "extension record", pax(&huge)),
        kind("pax-sparse", TAR, "sparse", pax("22 GNU.sparse.major=1\n")),
        kind("pax-after-pax", TAR, "two extension records", {
            before([super::data::pax("11 mtime=1\n"), super::data::pax("11 mtime=1\n")].concat())
        }),
        kind("long-name", LIMIT, "a name of 300 bytes", before(super::data::long(&"n".repeat(300)))),
        kind("long-name-and-pax", TAR, "two long names", {
            before([super::data::pax("10 path=a\n"), super::data::long("version")].concat())
        }),
        kind("long-link-name", TAR, "long link name", before(super::data::extension(b'K', b"x"))),
    ]
}

fn ends() -> Vec<Kind> {
    let whole = base().build();
    let end = whole.len();
    let cut = |at: usize| whole[..at].to_vec();
    let then = |more: &[u8]| [&whole[..], more].concat();
    let late = |name, code, says, bytes| Kind { payload: true, ..kind(name, code, says, bytes) };
    const SHORT: &str = "ARTIFACT-TRUNCATED";
    let mut gap = tar(&base().parts().iter().take(1).map(|(n, c)| entry(n, c)).collect::<Vec<_>>());
    gap.truncate(gap.len() - 512);
    gap.extend(entry("manifest", b""));
    vec![
        kind("cut-in-the-first-block", SHORT, "ends too early", cut(100)),
        kind("cut-after-the-first-block", SHORT, "ends too early", cut(512)),
        kind("cut-after-version", SHORT, "ends too early", cut(1024)),
        kind("cut-in-the-manifest", SHORT, "ends too early", cut(1600)),
        kind("cut-in-the-header", SHORT, "ends too early", cut(2700)),
        late("cut-in-the-payload", SHORT, "ends too early", cut(end - 2000)),
        late("cut-before-the-end-blocks", SHORT, "ends too early", cut(end - 1024)),
        late("cut-between-the-end-blocks", SHORT, "ends too early", cut(end - 512)),
        kind("one-zero-block-in-between", "ARTIFACT-TAR", "one zero block", gap),
        late("a-byte-after-the-end", "ARTIFACT-TAR", "after the end", then(&[1])),
        late("another-artifact-after-the-end", "ARTIFACT-TAR", "after the end", then(&whole)),
        late("zeros-without-end", "ARTIFACT-LIMIT", "after the archive's end", then(&[0; (1 << 20) + 1])),
        late("ends-after-pax", "ARTIFACT-TAR", "after an extension record", {
            let mut bytes = cut(end - 1024);
            bytes.extend(super::data::pax("11 mtime=1\n"));
            bytes.extend([0; 1024]);
            bytes
        }),
    ]
}
