//! The header: its members, its JSON, its scripts, its container.

use super::*;

pub fn kinds() -> Vec<Kind> {
    let mut all = members();
    all.extend(json());
    all.extend(scripts());
    all.extend(containers());
    all
}

const CODE: &str = "ARTIFACT-HEADER";
const LIMIT: &str = "ARTIFACT-LIMIT";

fn members() -> Vec<Kind> {
    let [info, kind_of, meta] = base().header_entries().try_into().unwrap();
    let with = |members: &[&Vec<u8>]| {
        base().with_header(&members.iter().map(|member| (*member).clone()).collect::<Vec<_>>())
    };
    let (other, files) =
        (entry("headers/0000/extra", b""), entry("headers/0000/files", br#"{"files":["a"]}"#));
    let second = entry("headers/0001/type-info", br#"{"type":"rootfs-image"}"#);
    let (folder, device) = (typed("scripts/", b'5', b""), typed("headers/0000/meta-data", b'4', b""));
    let huge = block(b"header-info", &binary_size(1 << 40), b'0', |_| ()).to_vec();
    vec![
        kind("header-empty", CODE, "header-info is missing", with(&[])),
        kind("header-info-last", CODE, "expected header-info", with(&[&kind_of, &meta, &info])),
        kind("header-info-twice", CODE, "expected headers/0000/type-info", with(&[&info, &info, &kind_of])),
        kind("header-without-type-info", CODE, "expected headers/0000/type-info", with(&[&info, &meta])),
        kind("header-meta-data-twice", CODE, "unexpected member", with(&[&info, &kind_of, &meta, &meta])),
        kind(
            "header-unknown-member",
            CODE,
            "expected headers/0000/meta-data",
            with(&[&info, &kind_of, &other]),
        ),
        kind("header-files-in-version-3", CODE, "headers/0000/files", with(&[&info, &files, &kind_of])),
        kind("header-of-two-payloads", CODE, "unexpected member", with(&[&info, &kind_of, &meta, &second])),
        kind("header-unknown-directory", CODE, "unexpected directory", with(&[&info, &folder, &kind_of])),
        kind("header-member-device", "ARTIFACT-TAR", "a device", with(&[&info, &kind_of, &device])),
        kind("header-info-of-1-tib", LIMIT, "the limit is 65536", with(&[&huge])),
    ]
}

fn json() -> Vec<Kind> {
    let good = info("rootfs-image");
    let with = |info: &str| Recipe { info: info.into(), ..base() }.build();
    let text = |name, says, info: String| kind(name, CODE, says, with(&info));
    let kind_of = |name, says, kind_text: &str| {
        kind(name, CODE, says, Recipe { kind: kind_text.into(), ..base() }.build())
    };
    let meta = |name, code, says, meta: Vec<u8>| {
        kind(name, code, says, Recipe { meta: Some(meta), ..base() }.build())
    };
    let payloads = |payloads: &str| info_with(payloads, r#"{"device_type":["dev"]}"#);
    let depends = |depends: &str| info_with(r#"[{"type":"rootfs-image"}]"#, depends);
    let twice = good.replace("{\"payloads\"", "{\"artifact_provides\":{},\"payloads\"");
    let twice = format!("{},\"payloads\":[]}}", &twice[..twice.len() - 1]);
    let not_utf8 = {
        let mut header = base().header_entries();
        header[0] = entry("header-info", b"{\"a\":\"\xff\"}");
        base().with_header(&header)
    };
    let none = info_with(r#"[{"type":null}]"#, r#"{"device_type":["dev"]}"#);
    let filled = Recipe { info: none, kind: r#"{"type":null}"#.into(), ..base() };
    let two = Recipe { version: r#"{"format":"mender","version":2}"#.into(), ..base() };
    let old = r#"{"artifact_name":"rel","updates":[{"type":"script"}],"device_types_compatible":["dev"]}"#;
    let module = two.with_header(&[
        entry("header-info", old.as_bytes()),
        entry("headers/0000/files", br#"{"files":["rootfs.ext4"]}"#),
        entry("headers/0000/type-info", br#"{"type":"script"}"#),
    ]);
    vec![
        text("info-empty", "header-info, line 1", String::new()),
        text("info-is-a-list", "payloads is missing", "[]".into()),
        text("info-cut", "header-info, line 1", good[..good.len() - 1].into()),
        text("info-twice", "header-info, line 1", format!("{good}{good}")),
        text("info-with-byte-order-mark", "column 1", format!("\u{feff}{good}")),
        text("info-deep", "nest", format!("{}{}", "[".repeat(4000), "]".repeat(4000))),
        text("info-unclosed-deep", "nest", "{\"a\":".repeat(4000)),
        text("info-number-out-of-range", "header-info", good.replace("[{", "[1e999,{")),
        text("info-member-given-twice", "0 payloads", twice),
        kind("info-not-utf8", CODE, "not UTF-8", not_utf8),
        kind("info-too-large", LIMIT, "the limit is 65536", with(&format!("{good}{}", " ".repeat(65536)))),
        text("no-payload", "0 payloads", payloads("[]")),
        text("two-payloads", "2 payloads", payloads(r#"[{"type":"rootfs-image"},{"type":"rootfs-image"}]"#)),
        text("type-empty", "cannot be a payload type", payloads(r#"[{"type":""}]"#)),
        text("type-traversal", "cannot be a payload type", payloads(r#"[{"type":"../../bin/sh"}]"#)),
        text("type-number", "must be a string or null", payloads(r#"[{"type":9223372036854775808}]"#)),
        text("type-differs", "type-info: the type is", payloads(r#"[{"type":"script"}]"#)),
        text(
            "type-of-300-bytes",
            "cannot be a payload type",
            payloads(&format!(r#"[{{"type":"{}"}}]"#, "t".repeat(300))),
        ),
        text("type-with-newline", "cannot be a payload type", payloads(r#"[{"type":"a\nb"}]"#)),
        text(
            "payloads-an-object",
            "payloads is missing or not a list",
            payloads(r#"{"type":"rootfs-image"}"#),
        ),
        text("info-with-a-half-surrogate", "half a character", good.replace("rel", "\\ud800")),
        text("info-with-control-character", "header-info, line 1", good.replace("rel", "\u{1}")),
        text("info-with-comment", "header-info, line 1", format!("// hello\n{good}")),
        text("info-with-a-number-of-1000-digits", "header-info", {
            good.replace("\"rel\"", &"9".repeat(1000))
        }),
        text(
            "info-depends-missing",
            "artifact_depends is missing",
            good.replace("artifact_depends", "depends"),
        ),
        text(
            "info-provides-missing",
            "artifact_provides is missing",
            good.replace("artifact_provides", "provides"),
        ),
        text("name-with-newline", "a control character", good.replace("rel", "rel\\nartifact_name=other")),
        text("group-with-terminal-codes", "a control character", {
            good.replace(r#""rel""#, r#""rel","artifact_group":"\u001b[2J""#)
        }),
        kind_of(
            "provides-key-with-newline",
            "a control character",
            r#"{"type":"rootfs-image","artifact_provides":{"a\nartifact_name":"x"}}"#,
        ),
        text("name-empty", "artifact_name", good.replace("\"rel\"", "\"\"")),
        text("name-number", "artifact_name", good.replace("\"rel\"", "1")),
        text("no-device-type", "device_type is missing or empty", depends(r#"{"device_type":[]}"#)),
        text("device-type-not-a-list", "list of strings", depends(r#"{"device_type":"dev"}"#)),
        kind_of("type-info-not-json", "type-info, line 1", "{"),
        kind_of("type-info-without-type", "the type is null", "{}"),
        kind_of("provides-a-list", "must be an object", r#"{"type":"rootfs-image","artifact_provides":[]}"#),
        kind_of(
            "provides-a-number",
            "must be a string",
            r#"{"type":"rootfs-image","artifact_provides":{"a":1}}"#,
        ),
        kind_of(
            "provides-another-name",
            "is not that of header-info",
            r#"{"type":"rootfs-image","artifact_provides":{"artifact_name":"x"}}"#,
        ),
        kind_of(
            "depends-in-both-places",
            "in both",
            r#"{"type":"rootfs-image","artifact_depends":{"device_type":"dev"}}"#,
        ),
        kind_of(
            "clears-a-text",
            "list of strings",
            r#"{"type":"rootfs-image","clears_artifact_provides":"*"}"#,
        ),
        meta("meta-data-a-list", CODE, "must be an object", b"[]".to_vec()),
        meta("meta-data-deep", CODE, "nest", [&b"{\"a\":"[..], &[b'['; 5000]].concat()),
        meta("meta-data-too-large", LIMIT, "the limit is 1048576", vec![b' '; (1 << 20) + 1]),
        meta("meta-data-of-many-values", LIMIT, "8192", {
            format!("{{\"a\":[{}{{}}]}}", "{\"\":0},".repeat(149_000)).into_bytes()
        }),
        meta(
            "meta-data-of-many-lists",
            LIMIT,
            "8192",
            format!("{{\"a\":[{}0]}}", "[],".repeat(340_000)).into(),
        ),
        kind("files-in-an-empty-payload", "ARTIFACT-MANIFEST", "payload is empty", filled.build()),
        kind("version-3-header-in-version-2", CODE, "updates is missing", {
            let mut header = base().header_entries();
            header.insert(1, entry("headers/0000/files", br#"{"files":["rootfs.ext4"]}"#));
            two.with_header(&header)
        }),
        kind("module-in-version-2", "ARTIFACT-FORMAT", "rootfs-image only", module),
    ]
}

fn scripts() -> Vec<Kind> {
    let with = |scripts: Vec<Vec<u8>>| {
        let mut header = base().header_entries();
        header.splice(1..1, scripts);
        base().with_header(&header)
    };
    let named = |name, says, script: &str| kind(name, CODE, says, with(vec![entry(script, b"x")]));
    let good = "scripts/ArtifactInstall_Enter_00";
    vec![
        named("script-traversal", "not the name of an Artifact script", "scripts/../x"),
        named(
            "script-in-a-folder",
            "not the name of an Artifact script",
            "scripts/a/ArtifactInstall_Enter_00",
        ),
        kind("script-not-utf8", "ARTIFACT-TAR", "not UTF-8", {
            let name = b"scripts/ArtifactInstall_Enter_00_\xff";
            with(vec![block(name, b"00000000000\0", b'0', |_| ()).to_vec()])
        }),
        kind("script-hard-link", "ARTIFACT-TAR", "hard link", with(vec![typed(good, b'1', b"")])),
        kind("script-pipe", "ARTIFACT-TAR", "a pipe", with(vec![typed(good, b'6', b"")])),
        kind("script-of-negative-size", "ARTIFACT-TAR", "not a number", {
            with(vec![block(good.as_bytes(), &binary_size(-1), b'0', |_| ()).to_vec()])
        }),
        named("script-with-blank", "not the name", "scripts/ArtifactInstall_Enter_00 x"),
        named("script-with-terminal-codes", "\\u{1b}", "scripts/ArtifactInstall_Enter_00_\u{1b}[2J"),
        named("script-absolute", "expected headers/0000/type-info", "/etc/init.d/x"),
        named("script-of-idle", "not the name of an Artifact script", "scripts/Idle_Enter_00"),
        named("script-of-download", "not the name of an Artifact script", "scripts/Download_Enter_00"),
        named("script-called-version", "not the name of an Artifact script", "scripts/version"),
        named("script-with-newline", "not the name", "scripts/ArtifactInstall_Enter_00_a\nb"),
        kind("script-twice", CODE, "there twice", with(vec![entry(good, b"x"), entry(good, b"y")])),
        kind("script-symbolic-link", "ARTIFACT-TAR", "symbolic link", with(vec![typed(good, b'2', b"")])),
        kind("script-of-1-gib", LIMIT, "8323072", {
            let size = format!("{:011o}\0", 1u64 << 30);
            // The content is a bomb of its own: zeros that pack well.
            let mut script = block(good.as_bytes(), size.as_bytes(), b'0', |_| ()).to_vec();
            script.extend(vec![0; 12 << 20]);
            with(vec![script])
        }),
        kind("scripts-without-number", LIMIT, "more than 256", {
            with((0..257).map(|n| entry(&format!("{good}_{n}"), b"")).collect())
        }),
    ]
}

fn containers() -> Vec<Kind> {
    let recipe = base();
    let data = recipe.parts()[3].1.clone();
    let with = |pack: Pack, header: Vec<u8>| {
        let recipe = Recipe { pack, ..base() };
        join(&recipe.parts_with(header, data.clone()))
    };
    let plain = tar(&recipe.header_entries());
    // Padding behind the archive, far above the limit on what may follow.
    let bomb = |size: usize| {
        let mut header = recipe.header_entries();
        header.insert(1, entry("scripts/ArtifactInstall_Enter_00", &vec![0; size]));
        tar(&header)
    };
    let bomb_behind_noise = || {
        let mut content = noise(2_000_000);
        content.resize(64 << 20, 0);
        let mut header = recipe.header_entries();
        header.insert(1, entry("scripts/ArtifactInstall_Enter_00", &content));
        tar(&header)
    };
    const DAMAGED: &str = "ARTIFACT-COMPRESSION";
    let half = |mut bytes: Vec<u8>| {
        bytes.truncate(bytes.len() / 2);
        bytes
    };
    vec![
        kind("header-bomb-gzip", LIMIT, "unpacks to more", with(Pack::Gzip, gzip(&bomb(64 << 20)))),
        kind("header-bomb-xz", LIMIT, "unpacks to more", with(Pack::Xz, xz(&bomb(64 << 20), &["-0"]))),
        kind("header-bomb-zstd", LIMIT, "unpacks to more", with(Pack::Zstd, zstd(&bomb(64 << 20), &[]))),
        kind("header-bomb-zstd-large-window", LIMIT, "unpacks to more", {
            with(Pack::Zstd, zstd_declaring(&bomb(64 << 20), 0x68))
        }),
        kind("header-bomb-xz-large-dictionary", LIMIT, "unpacks to more", {
            with(Pack::Xz, xz_declaring(&bomb(64 << 20), 28))
        }),
        // Everything at once: as large as may be stored, then a bomb with as large a window as may be declared.
        kind("header-large-and-a-bomb-zstd", LIMIT, "unpacks to more", {
            with(Pack::Zstd, zstd_declaring(&bomb_behind_noise(), 0x68))
        }),
        kind("header-large-and-a-bomb-xz", LIMIT, "unpacks to more", {
            with(Pack::Xz, xz(&bomb_behind_noise(), &["-0", "--lzma2=preset=0,dict=64MiB"]))
        }),
        kind("header-padded-without-end", LIMIT, "after the archive's end", {
            with(Pack::Gzip, gzip(&[&plain[..], &vec![7; 3 << 20]].concat()))
        }),
        kind("header-incompressible", LIMIT, "the limit is 4194304", {
            with(Pack::Gzip, gzip(&[&plain[..], &noise(5 << 20)].concat()))
        }),
        kind("header-xz-dictionary-4-gib", LIMIT, "Artifact.XzMemoryLimitMiB", {
            with(Pack::Xz, xz_declaring(&plain, 40))
        }),
        kind("header-zstd-window-2-tib", LIMIT, "Artifact.ZstdWindowLimitMiB", {
            with(Pack::Zstd, zstd_declaring(&plain, 0xf8))
        }),
        kind("header-gzip-cut", DAMAGED, "gzip", with(Pack::Gzip, half(gzip(&plain)))),
        kind("header-xz-cut", DAMAGED, "xz", with(Pack::Xz, half(xz(&plain, &[])))),
        kind("header-zstd-cut", DAMAGED, "zstd", with(Pack::Zstd, half(zstd(&plain, &[])))),
        kind("header-plain-cut", "ARTIFACT-TRUNCATED", "header.tar", with(Pack::Plain, half(plain.clone()))),
        kind("header-gzip-garbage-behind", DAMAGED, "gzip", {
            with(Pack::Gzip, [gzip(&plain), b"garbage".to_vec()].concat())
        }),
        kind("header-not-packed", DAMAGED, "gzip", with(Pack::Gzip, plain.clone())),
        kind("header-of-no-bytes", DAMAGED, "gzip", with(Pack::Gzip, Vec::new())),
    ]
}
