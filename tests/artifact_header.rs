//! What header-info, type-info, meta-data and the scripts folder may say, and what an Artifact is refused for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "data/artifact_writer.rs"]
mod artifact_writer;

use std::collections::BTreeMap;

use artifact_writer::*;

fn with_info(info: &str) -> Vec<u8> {
    Recipe { info: info.into(), ..plain() }.build()
}

fn with_kind(kind: &str) -> Vec<u8> {
    Recipe { kind: kind.into(), ..plain() }.build()
}

fn plain() -> Recipe {
    Recipe { pack: Pack::Plain, ..Recipe::default() }
}

fn rootfs(kind: &str) -> Vec<u8> {
    let files = vec![("rootfs.ext4".into(), b"image".to_vec())];
    Recipe { info: info("rootfs-image"), kind: kind.into(), files, ..plain() }.build()
}

fn empty_payload() -> Recipe {
    let info = info_with(r#"[{"type":null}]"#, r#"{"device_type":["dev"]}"#);
    Recipe { info, kind: r#"{"type":null}"#.into(), meta: None, files: Vec::new(), ..plain() }
}

#[test]
fn exactly_one_payload_with_a_usable_type() {
    let payloads = |payloads: &str| with_info(&info_with(payloads, r#"{"device_type":["dev"]}"#));
    read(&payloads(r#"[{"type":"script"}]"#)).unwrap();
    read(&payloads(r#"[{"type":"script","new":1}]"#)).expect("unknown members are ignored");
    for bad in [
        "[]",
        r#"[{"type":"script"},{"type":"script"}]"#,
        r#"[{"type":""}]"#,
        r#"[{"type":1}]"#,
        r#"[{"type":["script"]}]"#,
        r#"[{"type":"other"}]"#,
        r#"[{"type":"Script"}]"#,
        r#"[{"type":"../script"}]"#,
        r#"[{"type":".."}]"#,
        r#"[{"type":"a b"}]"#,
        r#"[{"type":"a\u0000"}]"#,
        r#"[{}]"#,
        r#"["script"]"#,
        r#"{"type":"script"}"#,
        "null",
    ] {
        refused(&payloads(bad), "ARTIFACT-HEADER");
    }
}

#[test]
fn an_empty_type_in_type_info_is_forgiven_for_rootfs_image_only() {
    assert_eq!(read(&rootfs(r#"{"type":""}"#)).unwrap().header.payload_type.as_deref(), Some("rootfs-image"));
    read(&rootfs(r#"{"type":"rootfs-image"}"#)).unwrap();
    refused(&rootfs(r#"{"type":"script"}"#), "ARTIFACT-HEADER");
    refused(&rootfs(r#"{"type":null}"#), "ARTIFACT-HEADER");
    refused(&rootfs("{}"), "ARTIFACT-HEADER");
    refused(&with_kind(r#"{"type":""}"#), "ARTIFACT-HEADER");
    refused(&with_kind(r#"{"type":"rootfs-image"}"#), "ARTIFACT-HEADER");
}

/// AF-35: before a handler has written the first of two, or waits for one that does not come.
#[test]
fn a_rootfs_image_has_exactly_one_file_and_that_is_known_with_the_header() {
    let image = |n: usize| {
        let files = (0..n).map(|i| (format!("image-{i}"), b"x".to_vec())).collect();
        Recipe { info: info("rootfs-image"), kind: r#"{"type":"rootfs-image"}"#.into(), files, ..plain() }
    };
    read(&image(1).build()).unwrap();
    for n in [0, 2, 3] {
        let error = thimble::artifact::open(&image(n).build()[..], &NO_KEYS).unwrap_err();
        assert_eq!(error.code, "ARTIFACT-MANIFEST");
        assert!(error.text.contains(&format!("{n} payload files")), "{error}");
    }
}

#[test]
fn name_and_device_types_are_required() {
    let good = info("script");
    for (from, to) in [
        (r#""artifact_name":"rel""#, r#""artifact_name":"""#),
        (r#""artifact_name":"rel""#, r#""artifact_name":7"#),
        (r#""artifact_name":"rel""#, r#""artifact_name":null"#),
        (r#""artifact_name":"rel""#, ""),
        (r#""artifact_provides":{"artifact_name":"rel"},"#, ""),
        (r#"["dev"]"#, "[]"),
        (r#"["dev"]"#, r#""dev""#),
        (r#"["dev"]"#, "[1]"),
        (r#"["dev"]"#, "null"),
        (r#"{"device_type":["dev"]}"#, "{}"),
        (r#"{"device_type":["dev"]}"#, "[]"),
        ("artifact_depends", "Artifact_Depends"),
    ] {
        assert!(good.contains(from));
        refused(&with_info(&good.replace(from, to)), "ARTIFACT-HEADER");
    }
    let h = read(&with_info(&good.replace(r#""rel""#, r#""rel","artifact_group":"g""#))).unwrap().header;
    assert_eq!(h.group.as_deref(), Some("g"));
}

/// They come back in the log, in files for modules and scripts, and in the lines of `show-provides`.
#[test]
fn names_groups_and_keys_have_no_control_characters() {
    let good = info("script");
    for name in ["rel\\nartifact_name=other", "rel\\u001b[2J", "rel\\u007f", "\\trel", "rel\\u0085"] {
        let text = refused(&with_info(&good.replace("rel", name)), "ARTIFACT-HEADER");
        assert!(text.contains("artifact_name") && !text.contains(char::is_control), "{text:?}");
        let group = good.replace(r#""rel""#, &format!(r#""rel","artifact_group":"{name}""#));
        assert!(refused(&with_info(&group), "ARTIFACT-HEADER").contains("artifact_group"));
        let kind = format!(r#"{{"type":"script","artifact_provides":{{"{name}":"1"}}}}"#);
        assert!(refused(&with_kind(&kind), "ARTIFACT-HEADER").contains("artifact_provides"));
        let two = version_2(&INFO_2.replace("rel", name), FILES_2, TYPE_2);
        assert!(refused(&two, "ARTIFACT-HEADER").contains("artifact_name"));
    }
    // Everything else is fine, and a value may be any text.
    let kind = r#"{"type":"script","artifact_provides":{"a key é":"two\nlines"}}"#;
    assert_eq!(read(&with_kind(kind)).unwrap().header.provides["a key é"], "two\nlines");
    assert_eq!(read(&with_info(&good.replace("rel", "a release é"))).unwrap().header.name, "a release é");
}

#[test]
fn json_is_read_strictly() {
    let good = info("script");
    for bad in [
        String::new(),
        "[]".into(),
        format!("{good}x"),
        format!("{good}{good}"),
        format!("\u{feff}{good}"),
        good.replace('"', "'"),
        good[..good.len() - 1].into(),
        format!("{}{}", "[".repeat(40), "]".repeat(40)),
        "{\"a\":".repeat(3_000),
    ] {
        refused(&with_info(&bad), "ARTIFACT-HEADER");
        refused(&with_kind(&bad), "ARTIFACT-HEADER");
    }
    read(&with_info(&format!(" {good}\n"))).expect("white space around is fine");
    let mut header = plain().header_entries();
    header[0] = entry("header-info", b"{\"a\":\"\xff\"}");
    refused(&plain().with_header(&header), "ARTIFACT-HEADER");
}

#[test]
fn meta_data_is_empty_or_an_object() {
    let meta = |meta: Option<&[u8]>| Recipe { meta: meta.map(<[u8]>::to_vec), ..plain() }.build();
    for none in [None, Some(&b""[..])] {
        assert!(read(&meta(none)).unwrap().header.meta_data.is_none());
    }
    assert!(read(&meta(Some(b"{}"))).unwrap().header.meta_data.is_some());
    let deep = "[".repeat(3_000);
    for bad in ["[]", "1", "null", "\"x\"", " ", "{} {}", &deep] {
        refused(&meta(Some(bad.as_bytes())), "ARTIFACT-HEADER");
    }
}

#[test]
fn type_info_provides_depends_and_clears_have_their_types() {
    let kind = |rest: &str| with_kind(&format!(r#"{{"type":"script",{rest}}}"#));
    let h = read(&kind(r#""artifact_provides":{"a":"1"},"artifact_depends":{"b":"2","c":["3","4"],"d":[]}"#));
    let h = h.unwrap().header;
    assert_eq!(h.provides["a"], "1");
    assert_eq!(h.depends.others["b"], ["2"]);
    assert_eq!(h.depends.others["c"], ["3", "4"]);
    assert_eq!(h.clears, None, "absent");
    let clears =
        |list: &str| read(&kind(&format!(r#""clears_artifact_provides":{list}"#))).unwrap().header.clears;
    assert_eq!(clears("[]"), Some(vec![]), "empty is not absent");
    assert_eq!(clears(r#"["a.*"]"#), Some(vec!["a.*".to_owned()]));
    assert_eq!(clears("null"), None);
    for bad in [
        r#""artifact_provides":{"a":1}"#,
        r#""artifact_provides":{"a":["1"]}"#,
        r#""artifact_provides":["a"]"#,
        r#""artifact_depends":{"a":1}"#,
        r#""artifact_depends":{"a":[1]}"#,
        r#""artifact_depends":[]"#,
        r#""clears_artifact_provides":"a""#,
        r#""clears_artifact_provides":[1]"#,
        r#""clears_artifact_provides":{}"#,
    ] {
        refused(&kind(bad), "ARTIFACT-HEADER");
    }
}

#[test]
fn keys_in_both_places_conflict() {
    let depends = r#"{"device_type":["dev"],"artifact_name":["a"]}"#;
    let build = |kind: &str| {
        let info = info_with(r#"[{"type":"script"}]"#, depends);
        Recipe { info, kind: format!(r#"{{"type":"script",{kind}}}"#), ..plain() }.build()
    };
    for bad in [
        r#""artifact_provides":{"artifact_name":"x"}"#,
        r#""artifact_provides":{"artifact_group":"x"}"#,
        r#""artifact_depends":{"device_type":"dev"}"#,
        r#""artifact_depends":{"artifact_name":"a"}"#,
    ] {
        refused(&build(bad), "ARTIFACT-HEADER");
    }
    // Only header-info or only type-info: then it is clear which holds.
    let h = read(&build(r#""artifact_depends":{"artifact_group":["g"]}"#)).unwrap().header;
    let mut has: BTreeMap<String, String> = [("artifact_name".to_owned(), "a".to_owned())].into();
    h.check_depends("dev", &has).expect_err("no group");
    has.insert("artifact_group".into(), "g".into());
    h.check_depends("dev", &has).unwrap();
}

#[test]
fn a_broken_update_does_not_satisfy_a_dependency_on_its_name() {
    let info = info_with(r#"[{"type":"script"}]"#, r#"{"device_type":["dev"],"artifact_name":["rel-0"]}"#);
    let header = read(&with_info(&info)).unwrap().header;
    let has = |name: &str| BTreeMap::from([("artifact_name".to_owned(), name.to_owned())]);
    header.check_depends("dev", &has("rel-0")).unwrap();
    let error = header.check_depends("dev", &has("rel-0_INCONSISTENT")).unwrap_err();
    assert!(error.text.contains("artifact_name") && error.text.contains("rel-0_INCONSISTENT"), "{error}");
    let empty = with_kind(r#"{"type":"script","artifact_depends":{"k":[]}}"#);
    read(&empty).unwrap().header.check_depends("dev", &has("rel-0")).expect_err("nothing satisfies no value");
}

#[test]
fn only_scripts_of_artifact_states_are_accepted_and_each_once() {
    let with = |names: &[&str]| {
        let mut header = plain().header_entries();
        for name in names {
            header.insert(1, entry(name, b"x"));
        }
        plain().with_header(&header)
    };
    assert_eq!(read(&with(&["scripts/ArtifactInstall_Enter_00"])).unwrap().scripts.len(), 1);
    for bad in [
        "scripts/Download_Enter_00",
        "scripts/Idle_Enter_00",
        "scripts/../x",
        "scripts/a/ArtifactInstall_Enter_00",
        "scripts/",
        "scripts/version",
        "scripts",
        "./scripts/ArtifactInstall_Enter_00",
    ] {
        refused(&with(&[bad]), "ARTIFACT-HEADER");
    }
    refused(&with(&["scripts/ArtifactInstall_Enter_00"; 2]), "ARTIFACT-HEADER");
}

#[test]
fn the_members_of_the_header_have_their_order() {
    let [info, kind, meta] = plain().header_entries().try_into().unwrap();
    let script = entry("scripts/ArtifactInstall_Enter_00", b"x");
    let folders = [typed("headers/", b'5', b""), typed("headers/0000", b'5', b"")].concat();
    let build =
        |members: &[&Vec<u8>]| plain().with_header(&members.iter().map(|m| (*m).clone()).collect::<Vec<_>>());
    read(&build(&[&info, &script, &folders, &kind, &meta])).unwrap();
    read(&build(&[&info, &kind])).unwrap();
    let files = entry("headers/0000/files", br#"{"files":["a"]}"#);
    let second = entry("headers/0001/type-info", br#"{"type":"script"}"#);
    let folder = typed("scripts/", b'5', b"");
    for order in [
        &[&kind, &info, &meta][..],
        &[&info, &kind, &script],
        &[&script, &info, &kind],
        &[&info, &meta, &kind],
        &[&info, &kind, &meta, &meta],
        &[&info, &kind, &kind],
        &[&info, &info, &kind],
        &[&info, &files, &kind],
        &[&info, &kind, &meta, &second],
        &[&info, &folder, &kind],
        &[&info],
        &[],
    ] {
        refused(&build(order), "ARTIFACT-HEADER");
    }
}

#[test]
fn an_empty_payload_has_neither_files_nor_meta_data() {
    let seen = read(&empty_payload().build()).unwrap();
    assert_eq!((seen.header.payload_type, seen.files.len()), (None, 0));
    let mut parts = empty_payload().parts();
    parts.pop();
    read(&join(&parts)).expect("the data container may be missing");
    refused(&Recipe { meta: Some(b"{}".to_vec()), ..empty_payload() }.build(), "ARTIFACT-HEADER");
    read(&Recipe { meta: Some(Vec::new()), ..empty_payload() }.build()).unwrap();
    let files = vec![("a".to_owned(), b"1".to_vec())];
    refused(&Recipe { files, ..empty_payload() }.build(), "ARTIFACT-MANIFEST");
    refused(&empty_payload().with_data(&[entry("a", b"1")]), "ARTIFACT-PAYLOAD");
    refused(&Recipe { kind: r#"{"type":"script"}"#.into(), ..empty_payload() }.build(), "ARTIFACT-HEADER");
}

#[test]
fn a_module_artifact_may_lack_the_data_container() {
    let recipe = Recipe { files: Vec::new(), ..plain() };
    let mut parts = recipe.parts();
    parts.pop();
    assert!(read(&join(&parts)).unwrap().files.is_empty());
}

/// Version 2, as the writer makes it; see the example in the format reference.
fn version_2(info: &str, files: &str, kind: &str) -> Vec<u8> {
    let recipe = Recipe {
        version: r#"{"format":"mender","version":2}"#.into(),
        files: vec![("rootfs.ext4".into(), b"image".to_vec())],
        ..plain()
    };
    recipe.with_header(&[
        entry("header-info", info.as_bytes()),
        entry("scripts/ArtifactInstall_Enter_00", b"#!/bin/sh\n"),
        entry("headers/0000/files", files.as_bytes()),
        entry("headers/0000/type-info", kind.as_bytes()),
        entry("headers/0000/meta-data", b""),
    ])
}

const INFO_2: &str =
    r#"{"artifact_name":"rel","updates":[{"type":"rootfs-image"}],"device_types_compatible":["dev"]}"#;
const FILES_2: &str = r#"{"files":["rootfs.ext4"]}"#;
const TYPE_2: &str = r#"{"type":"rootfs-image"}"#;

#[test]
fn version_2_is_a_rootfs_image_that_clears_all_provides() {
    let seen = read(&version_2(INFO_2, FILES_2, TYPE_2)).unwrap();
    let h = seen.header;
    assert_eq!((h.format, h.name.as_str(), h.payload_type.as_deref()), (2, "rel", Some("rootfs-image")));
    assert_eq!((h.clears, h.provides.len(), h.group), (None, 0, None));
    assert_eq!((seen.files.len(), seen.scripts.len()), (1, 1));
    for info in [
        INFO_2.replace("rootfs-image", ""),
        INFO_2.replace("updates", "payloads"),
        INFO_2.replace("rel", ""),
        INFO_2.replace(r#"["dev"]"#, "[]"),
        INFO_2.replace(r#"["dev"]"#, r#""dev""#),
        INFO_2.replace(r#"[{"type":"rootfs-image"}]"#, "[]"),
        info("rootfs-image"),
    ] {
        refused(&version_2(&info, FILES_2, TYPE_2), "ARTIFACT-HEADER");
    }
    for files in ["{}", "[]", r#"{"files":[]}"#, r#"{"files":["a","b"]}"#, r#"{"files":["../a"]}"#, ""] {
        refused(&version_2(INFO_2, files, TYPE_2), "ARTIFACT-HEADER");
    }
    let script = [INFO_2, TYPE_2].map(|text| text.replace("rootfs-image", "script"));
    let text = refused(&version_2(&script[0], FILES_2, &script[1]), "ARTIFACT-FORMAT");
    assert!(text.contains("version 2") && text.contains("script"), "{text}");
    let none = INFO_2.replace(r#""rootfs-image""#, "null");
    refused(&version_2(&none, FILES_2, r#"{"type":null}"#), "ARTIFACT-FORMAT");
}

#[test]
fn the_two_versions_do_not_mix() {
    let three = plain();
    let two = Recipe { version: r#"{"format":"mender","version":2}"#.into(), ..plain() };
    // A header of version 3 in version 2, and the other way round.
    refused(&two.build(), "ARTIFACT-HEADER");
    let header = [
        entry("header-info", INFO_2.as_bytes()),
        entry("headers/0000/files", FILES_2.as_bytes()),
        entry("headers/0000/type-info", TYPE_2.as_bytes()),
    ];
    refused(&three.with_header(&header), "ARTIFACT-HEADER");
    // Two files are no rootfs-image.
    let text = refused(&two.with_header(&header), "ARTIFACT-MANIFEST");
    assert!(text.contains("2 payload files"), "{text}");
}

#[test]
fn the_number_of_json_values_is_limited_because_each_takes_memory() {
    let meta = |n: usize| {
        let list = vec!["{\"\":0}"; n].join(",");
        Recipe { meta: Some(format!("{{\"a\":[{list}]}}").into_bytes()), ..plain() }.build()
    };
    read(&meta(2000)).unwrap();
    let text = refused(&meta(100_000), "ARTIFACT-LIMIT");
    assert!(text.contains("JSON") && text.contains("8192"), "{text}");
}

/// AF-65: 4 MiB as it is stored and 16 MiB unpacked; half of that where a decoder's window is in memory too.
#[test]
fn a_header_may_be_as_large_as_its_limits_and_no_larger() {
    // What no codec packs smaller, and what every codec does.
    let noise = |length: usize| -> Vec<u8> {
        let mut state = 1u32;
        let next = |_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as u8
        };
        (0..length).map(next).collect()
    };
    let script = |content: Vec<u8>, pack| {
        let scripts = vec![("ArtifactInstall_Enter_00".to_owned(), content)];
        read(&Recipe { pack, scripts, ..Recipe::default() }.build())
    };
    const KIB: usize = 1024;
    for (pack, stored, unpacked) in [
        (Pack::Plain, 4096, 4096),
        (Pack::Gzip, 4096, 16384),
        (Pack::Xz, 2048, 8128),
        (Pack::Zstd, 2048, 8128),
    ] {
        for size in [(stored - 32) * KIB, (stored + 32) * KIB] {
            let seen = script(noise(size), pack);
            assert_eq!(seen.is_ok(), size < stored * KIB, "{pack:?}, {size} bytes stored");
            assert!(seen.map_or_else(|e| e.code == "ARTIFACT-LIMIT", |_| true), "{pack:?}");
        }
        if pack == Pack::Plain {
            continue;
        }
        for size in [(unpacked - 32) * KIB, (unpacked + 32) * KIB] {
            let seen = script(vec![b'x'; size], pack);
            assert_eq!(seen.is_ok(), size < unpacked * KIB, "{pack:?}, {size} bytes unpacked");
            assert!(seen.map_or_else(|e| e.code == "ARTIFACT-LIMIT", |_| true), "{pack:?}");
        }
    }
}
