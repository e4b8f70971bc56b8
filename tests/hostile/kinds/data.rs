//! The payload: names and types of files, sizes, containers.

use super::*;

/// An extension record of any type.
pub fn extension(kind: u8, content: &[u8]) -> Vec<u8> {
    typed("PaxHeaders.0/x", kind, content)
}

/// PAX records.
pub fn pax(records: &str) -> Vec<u8> {
    extension(b'x', records.as_bytes())
}

/// A GNU long name.
pub fn long(name: &str) -> Vec<u8> {
    extension(b'L', name.as_bytes())
}

pub fn kinds() -> Vec<Kind> {
    let mut all = files();
    all.extend(sizes());
    all.extend(containers());
    all
}

const CODE: &str = "ARTIFACT-PAYLOAD";
const TAR: &str = "ARTIFACT-TAR";
const LIMIT: &str = "ARTIFACT-LIMIT";

/// Too large for the partition, which is known before the first byte is written.
fn large(kind: Kind) -> Kind {
    on_device("ROOTFS-SIZE", "has room for", kind)
}

fn late(kind: Kind) -> Kind {
    Kind { payload: true, ..kind }
}

fn files() -> Vec<Kind> {
    let good = || entry("rootfs.ext4", &image());
    let with = |entries: &[Vec<u8>]| base().with_data(entries);
    let named = |name, code, says, file: &str| kind(name, code, says, with(&[entry(file, b"x")]));
    let of_type = |name, says, byte: u8| kind(name, TAR, says, with(&[typed("rootfs.ext4", byte, b"")]));
    let mut foreign = entry("a", b"1");
    foreign[..512].copy_from_slice(&block(b"a\xff", b"00000000001\0", b'0', |_| ()));
    vec![
        named("file-not-listed", CODE, "not listed", "other"),
        named("file-dot-dot", CODE, "not a file name", ".."),
        named("file-dot", CODE, "not a file name", "."),
        named("file-traversal", CODE, "may contain only", "../../etc/passwd"),
        named("file-absolute", CODE, "may contain only", "/etc/passwd"),
        named("file-in-a-folder", CODE, "may contain only", "a/rootfs.ext4"),
        named("file-with-blank", CODE, "may contain only", "root fs"),
        named("file-with-terminal-codes", CODE, "\\u{1b}", "\u{1b}[2Jx"),
        named("file-without-name", TAR, "empty", ""),
        kind(
            "file-of-300-bytes",
            LIMIT,
            "a name of 300 bytes",
            with(&[long(&"n".repeat(300)), entry("n", b"")]),
        ),
        kind("file-not-utf8", TAR, "not UTF-8", with(&[foreign])),
        of_type("file-hard-link", "hard link", b'1'),
        of_type("file-symbolic-link", "symbolic link", b'2'),
        of_type("file-character-device", "a device", b'3'),
        of_type("file-block-device", "a device", b'4'),
        of_type("file-pipe", "a pipe", b'6'),
        of_type("file-sparse", "sparse", b'S'),
        kind("file-directory", CODE, "a directory", with(&[typed("rootfs.ext4", b'5', b"")])),
        late(kind("file-twice", CODE, "twice", with(&[good(), good()]))),
        late(kind("file-behind-a-good-one", CODE, "not listed", with(&[good(), entry("more", b"1")]))),
        kind("file-missing", CODE, "not there", with(&[])),
        kind(
            "module-file-missing",
            CODE,
            "not there",
            module(&[("a", b"1"), ("b", b"2")], &[entry("a", b"1")]),
        ),
        kind("module-file-not-listed", CODE, "not listed", {
            module(&[("a", b"1")], &[entry("a", b"1"), entry("b", b"2")])
        }),
        kind(
            "module-file-twice",
            CODE,
            "twice",
            module(&[("a", b"1")], &[entry("a", b"1"), entry("a", b"1")]),
        ),
        kind(
            "module-file-changed",
            "ARTIFACT-CHECKSUM",
            "data/0000/a",
            module(&[("a", b"1")], &[entry("a", b"2")]),
        ),
        kind("module-file-leads-out", CODE, "may contain only", {
            module(&[("a", b"1")], &[entry("../../../../../../var/lib/mender/x", b"1")])
        }),
        kind("module-symbolic-link", TAR, "symbolic link", module(&[("a", b"")], &[typed("a", b'2', b"")])),
        kind("file-with-nul-in-pax-path", TAR, "NUL", with(&[pax("12 path=a\0b\n"), good()])),
        kind("file-with-nul-in-gnu-name", TAR, "NUL", with(&[long("a\0b"), good()])),
        kind("file-with-empty-gnu-name", TAR, "empty", with(&[long("\0"), good()])),
        kind("file-with-pax-path-elsewhere", CODE, "may contain only", {
            with(&[pax("15 path=../etc\n"), good()])
        }),
    ]
}

fn sizes() -> Vec<Kind> {
    let sized = |size: &[u8]| {
        let mut data = entry("rootfs.ext4", &image());
        data[..512].copy_from_slice(&block(b"rootfs.ext4", size, b'0', |_| ()));
        base().with_data(&[data])
    };
    let content = |bytes: &[u8]| base().with_data(&[entry("rootfs.ext4", bytes)]);
    let mut changed = image();
    changed[2999] ^= 1;
    const SUM: &str = "ARTIFACT-CHECKSUM";
    vec![
        late(kind("file-last-bit", SUM, "data/0000/rootfs.ext4", content(&changed))),
        late(kind("file-shorter", SUM, "data/0000/rootfs.ext4", content(&image()[..2999]))),
        late(kind("file-longer", SUM, "data/0000/rootfs.ext4", content(&[image(), vec![0]].concat()))),
        late(kind("file-emptied", SUM, "data/0000/rootfs.ext4", content(b""))),
        large(kind(
            "file-of-100-gib",
            "ARTIFACT-TRUNCATED",
            "ends too early",
            sized(&binary_size(100 << 30)),
        )),
        large(kind(
            "file-of-2-to-the-63-less-1",
            "ARTIFACT-TRUNCATED",
            "too early",
            sized(&binary_size(i64::MAX)),
        )),
        large(kind("file-of-8-gib-in-pax", "ARTIFACT-TRUNCATED", "too early", {
            let mut data = entry("rootfs.ext4", &image());
            data[..512].copy_from_slice(&block(b"rootfs.ext4", b"00000000000\0", b'0', |_| ()));
            base().with_data(&[pax("19 size=8589934592\n"), data])
        })),
        large(kind("payload-bomb-larger-than-the-slot", SUM, "rootfs.ext4", content(&vec![0; 8 << 20]))),
        late(kind("payload-bomb-that-fits-the-slot", SUM, "rootfs.ext4", content(&vec![0; 60 << 10]))),
        kind("file-of-negative-size", TAR, "not a number", sized(&binary_size(-512))),
        kind("file-with-pax-size-elsewhere", TAR, "a PAX record says", {
            base().with_data(&[pax("10 size=1\n"), entry("rootfs.ext4", &image())])
        }),
    ]
}

fn containers() -> Vec<Kind> {
    let plain = tar(&base().data_entries());
    let with = |pack: Pack, data: Vec<u8>| {
        let recipe = Recipe { pack, ..base() };
        let header = recipe.parts()[2].1.clone();
        join(&recipe.parts_with(header, data))
    };
    const DAMAGED: &str = "ARTIFACT-COMPRESSION";
    let cut = |mut bytes: Vec<u8>| {
        bytes.truncate(bytes.len() - 5);
        bytes
    };
    let flipped = |mut bytes: Vec<u8>, from_end: usize| {
        let at = bytes.len() - from_end;
        bytes[at] ^= 0x10;
        bytes
    };
    let padded = [&plain[..], &vec![0; 64 << 20]].concat();
    let dictionary = [0x28, 0xb5, 0x2f, 0xfd, 0x01, 0x58, 0x07, 1, 0, 0];
    vec![
        late(kind("data-gzip-cut", DAMAGED, "gzip", with(Pack::Gzip, cut(gzip(&plain))))),
        late(kind("data-xz-cut", DAMAGED, "xz", with(Pack::Xz, cut(xz(&plain, &[]))))),
        late(kind("data-zstd-cut", DAMAGED, "zstd", with(Pack::Zstd, cut(zstd(&plain, &[]))))),
        late(kind("data-gzip-wrong-sum", DAMAGED, "gzip", with(Pack::Gzip, flipped(gzip(&plain), 7)))),
        late(kind("data-xz-wrong-sum", DAMAGED, "xz", with(Pack::Xz, flipped(xz(&plain, &[]), 28)))),
        late(kind("data-zstd-wrong-sum", DAMAGED, "zstd", with(Pack::Zstd, flipped(zstd(&plain, &[]), 2)))),
        late(kind("data-gzip-garbage-behind", DAMAGED, "gzip", {
            with(Pack::Gzip, [gzip(&plain), vec![1; 40]].concat())
        })),
        late(kind(
            "data-xz-garbage-behind",
            DAMAGED,
            "xz",
            with(Pack::Xz, [xz(&plain, &[]), vec![1; 40]].concat()),
        )),
        late(kind("data-zstd-garbage-behind", DAMAGED, "zstd", {
            with(Pack::Zstd, [zstd(&plain, &[]), vec![1; 40]].concat())
        })),
        late(kind("data-zstd-skippable-cut", DAMAGED, "zstd", {
            with(Pack::Zstd, [zstd(&plain, &[]), vec![0x50, 0x2a, 0x4d, 0x18, 9, 0, 0, 0, 1]].concat())
        })),
        late(kind(
            "data-bomb-behind-gzip",
            LIMIT,
            "after the archive's end",
            with(Pack::Gzip, gzip(&padded)),
        )),
        late(kind(
            "data-bomb-behind-xz",
            LIMIT,
            "after the archive's end",
            with(Pack::Xz, xz(&padded, &["-0"])),
        )),
        late(kind("data-bomb-behind-zstd", LIMIT, "after the archive's end", {
            with(Pack::Zstd, zstd(&padded, &[]))
        })),
        kind("data-xz-dictionary-128-mib", LIMIT, "a dictionary of 128 MiB", {
            with(Pack::Xz, xz_declaring(&plain, 30))
        }),
        kind("data-zstd-window-16-mib", LIMIT, "a window of 16 MiB", {
            with(Pack::Zstd, zstd_declaring(&plain, 0x70))
        }),
        kind("data-zstd-with-dictionary", DAMAGED, "zstd", with(Pack::Zstd, dictionary.to_vec())),
        kind("data-gzip-name-without-end", DAMAGED, "gzip", {
            let head = [0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3];
            with(Pack::Gzip, [&head[..], &vec![b'n'; 4 << 20]].concat())
        }),
        kind("data-of-50000-empty-members", "ARTIFACT-TRUNCATED", "data/0000.tar.gz", {
            with(Pack::Gzip, gzip(b"").repeat(50_000))
        }),
        kind("data-of-many-skippable-frames", DAMAGED, "zstd", {
            with(Pack::Zstd, [&[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0].repeat(100_000)[..], &[1]].concat())
        }),
        kind("data-skippable-frame-of-4-gib", DAMAGED, "zstd", {
            with(Pack::Zstd, [0x50, 0x2a, 0x4d, 0x18, 0xff, 0xff, 0xff, 0xff, 0].to_vec())
        }),
        kind(
            "data-zeros-without-a-file",
            LIMIT,
            "after the archive's end",
            with(Pack::Gzip, gzip(&vec![0; 64 << 20])),
        ),
        kind("data-of-no-bytes-gzip", DAMAGED, "gzip", with(Pack::Gzip, Vec::new())),
        kind("data-of-no-bytes-xz", DAMAGED, "xz", with(Pack::Xz, Vec::new())),
        kind("data-of-no-bytes-zstd", DAMAGED, "zstd", with(Pack::Zstd, Vec::new())),
        kind("data-of-no-bytes-plain", "ARTIFACT-TRUNCATED", "data/0000.tar", with(Pack::Plain, Vec::new())),
        kind("data-not-packed", DAMAGED, "xz", with(Pack::Xz, plain.clone())),
    ]
}
