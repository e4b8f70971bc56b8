//! Damaged, cut and malicious Artifacts are refused with a clean error, and never change what is handed out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "data/artifact_writer.rs"]
mod artifact_writer;

use artifact_writer::*;

/// Everything that an Artifact can have, in a few KiB.
fn full(pack: Pack) -> Recipe {
    let scripts = vec![("ArtifactInstall_Enter_00_x".to_owned(), b"#!/bin/sh\n".to_vec())];
    Recipe { pack, scripts, ..Recipe::default() }
}

fn with_signature(recipe: &Recipe) -> Vec<u8> {
    let mut parts = recipe.parts();
    parts.insert(2, ("manifest.sig".into(), base64(&[1; 64]).into_bytes()));
    join(&parts)
}

fn plain(files: &[(&str, &[u8])]) -> Recipe {
    let files = files.iter().map(|(n, c)| (n.to_string(), c.to_vec())).collect();
    Recipe { pack: Pack::Plain, files, ..Recipe::default() }
}

#[test]
fn the_writer_of_these_tests_makes_good_artifacts() {
    for pack in PACKS {
        let seen = read(&with_signature(&full(pack))).unwrap();
        assert_eq!(seen.files, full(pack).files);
        assert_eq!(seen.scripts, full(pack).scripts);
        assert!(seen.header.signed);
    }
}

#[test]
fn truncation_at_every_byte_is_an_error() {
    for pack in PACKS {
        let whole = with_signature(&full(pack));
        for end in 0..whole.len() {
            let error = read(&whole[..end]).expect_err("cut");
            assert_eq!(error.code, "ARTIFACT-TRUNCATED", "at {end}: {}", error.text);
        }
    }
}

#[test]
fn truncation_of_a_container_is_an_error_though_the_outer_archive_is_whole() {
    for pack in PACKS {
        let recipe = full(pack);
        let parts = recipe.parts();
        for end in 0..parts[2].1.len() {
            let cut = parts[2].1[..end].to_vec();
            let error = read(&join(&recipe.parts_with(cut, parts[3].1.clone()))).expect_err("cut header");
            assert!(["ARTIFACT-TRUNCATED", "ARTIFACT-COMPRESSION"].contains(&error.code), "{error}");
        }
        for end in 0..parts[3].1.len() {
            let cut = parts[3].1[..end].to_vec();
            let error = read(&join(&recipe.parts_with(parts[2].1.clone(), cut))).expect_err("cut data");
            assert!(["ARTIFACT-TRUNCATED", "ARTIFACT-COMPRESSION"].contains(&error.code), "{error}");
        }
    }
}

#[test]
fn a_flipped_bit_in_version_manifest_header_or_payload_is_refused() {
    for pack in PACKS {
        let parts = full(pack).parts();
        for (part, (name, content)) in parts.iter().enumerate() {
            // The data container itself has no checksum: only its files, from block 1 on.
            let covered = match name.as_str() {
                "data/0000.tar" => 512..517,
                _ if name.starts_with("data/") => continue,
                _ => 0..content.len(),
            };
            for at in covered {
                // One bit suffices where a checksum was compared first; the manifest is text that is parsed.
                for bit in if name == "manifest" { 0..8 } else { at % 8..at % 8 + 1 } {
                    let mut bad = parts.clone();
                    bad[part].1[at] ^= 1 << bit;
                    read(&join(&bad)).expect_err(name);
                }
            }
        }
    }
}

/// Whoever makes the Artifact can make checksums that fit: then the parsers are all there is.
#[test]
fn a_damaged_header_or_container_whose_checksum_fits_never_panics() {
    for (pack, step) in [(Pack::Gzip, 1), (Pack::Plain, 3), (Pack::Xz, 1), (Pack::Zstd, 1)] {
        let recipe = full(pack);
        let parts = recipe.parts();
        for part in [2, 3] {
            for at in (0..parts[part].1.len()).step_by(step) {
                let mut containers = [parts[2].1.clone(), parts[3].1.clone()];
                containers[part - 2][at] ^= 1 << (at % 8);
                let [header, data] = containers;
                if let Ok(seen) = read(&join(&recipe.parts_with(header, data))) {
                    assert_eq!(seen.files, recipe.files);
                }
            }
        }
    }
}

#[test]
fn entries_out_of_order_missing_twice_or_unknown_are_refused() {
    let all = {
        let mut parts = full(Pack::Gzip).parts();
        parts.insert(2, ("manifest.sig".into(), b"AAAA".to_vec()));
        parts
    };
    let named = |order: &[usize]| join(&order.iter().map(|i| all[*i].clone()).collect::<Vec<_>>());
    read(&named(&[0, 1, 2, 3, 4])).unwrap();
    read(&named(&[0, 1, 3, 4])).unwrap();
    for order in [
        &[1, 0, 2, 3, 4][..],
        &[0, 2, 1, 3, 4],
        &[0, 3, 1, 4],
        &[0, 1, 3, 2, 4],
        &[0, 1, 4, 3],
        &[0, 1, 3, 4, 2],
        &[0, 0, 1, 3, 4],
        &[0, 1, 1, 3, 4],
        &[0, 1, 2, 2, 3, 4],
        &[0, 1, 3, 3, 4],
        &[0, 1, 4],
        &[0, 3, 4],
        &[1, 3, 4],
        &[0, 1],
        &[0],
        &[],
    ] {
        refused(&named(order), "ARTIFACT-ORDER");
    }
    refused(&named(&[0, 1, 3, 4, 4]), "ARTIFACT-PAYLOAD");
    refused(&named(&[0, 1, 3]), "ARTIFACT-PAYLOAD");
    for name in
        ["extra", "data/0000.tar.gz2", "data/0001.tar.gz", "./data/0000.tar.gz", "header-augment.tar.gz"]
    {
        let mut parts = full(Pack::Gzip).parts();
        parts.push((name.into(), Vec::new()));
        read(&join(&parts)).expect_err(name);
    }
    for (part, name) in
        [(0, "./version"), (0, "Version"), (2, "header.tarX"), (2, "header.tar.gz/"), (2, "header")]
    {
        let mut parts = full(Pack::Gzip).parts();
        parts[part].0 = name.into();
        refused(&join(&parts), "ARTIFACT-ORDER");
    }
    let mut parts = full(Pack::Gzip).parts();
    parts[2].0 = "header.tar".into();
    refused(&join(&parts), "ARTIFACT-MANIFEST");
}

#[test]
fn nothing_but_zero_bytes_may_follow_the_archive_and_not_many() {
    let whole = full(Pack::Gzip).build();
    let then = |n: usize, last: u8| {
        let mut bytes = whole.clone();
        bytes.resize(whole.len() + n, 0);
        bytes.push(last);
        bytes
    };
    read(&then(10_240, 0)).unwrap();
    refused(&then(10_240, 1), "ARTIFACT-TAR");
    refused(&then(0, 1), "ARTIFACT-TAR");
    refused(&then(1 << 20, 0), "ARTIFACT-LIMIT");
}

#[test]
fn what_follows_the_last_file_inside_the_data_container_is_ignored_but_bounded() {
    let recipe = full(Pack::Gzip);
    let header = recipe.parts()[2].1.clone();
    let with = |more: usize| {
        let mut data = tar(&recipe.data_entries());
        data.resize(data.len() + more, 0xaa);
        join(&recipe.parts_with(header.clone(), gzip(&data)))
    };
    assert_eq!(read(&with(1 << 20)).unwrap().files, recipe.files);
    refused(&with((1 << 20) + 1), "ARTIFACT-LIMIT");
}

#[test]
fn a_file_must_be_listed_and_a_listed_file_must_be_there() {
    let recipe = plain(&[("a", b"1"), ("b", b"2")]);
    let [a, b] = [entry("a", b"1"), entry("b", b"2")];
    read(&recipe.with_data(&[b.clone(), a.clone()])).expect("order does not matter");
    let text = refused(&recipe.with_data(std::slice::from_ref(&a)), "ARTIFACT-PAYLOAD");
    assert!(text.contains("\"b\""), "{text}");
    refused(&recipe.with_data(&[a.clone(), b.clone(), entry("c", b"3")]), "ARTIFACT-PAYLOAD");
    refused(&recipe.with_data(&[a.clone(), a.clone(), b.clone()]), "ARTIFACT-PAYLOAD");
    refused(&recipe.with_data(&[]), "ARTIFACT-PAYLOAD");
    refused(&recipe.with_data(&[entry("a", b"2"), b.clone()]), "ARTIFACT-CHECKSUM");
    refused(&recipe.with_data(&[entry("a", b"12"), b.clone()]), "ARTIFACT-CHECKSUM");
    refused(&recipe.with_data(&[entry("a", b""), b]), "ARTIFACT-CHECKSUM");
}

#[test]
fn payload_names_that_could_lead_astray_are_refused_even_if_listed() {
    for name in ["..", ".", "a/b", "/etc/x", "../x", "bad name", "a\u{e4}", "a\\b", "", "-\n"] {
        read(&plain(&[(name, b"1")]).build()).expect_err(name);
        read(&plain(&[("a", b"1")]).with_data(&[entry(name, b"1")])).expect_err(name);
    }
    let longest = "n".repeat(99);
    read(&plain(&[(&longest, b"1"), ("-", b""), ("..a", b"")]).build()).unwrap();
}

#[test]
fn only_regular_files_are_accepted() {
    let recipe = plain(&[("a", b"")]);
    for kind in *b"1234567SgKVMNDAX \xff" {
        for name in ["a", "a/"] {
            let error = read(&recipe.with_data(&[typed(name, kind, b"")])).expect_err("type");
            assert!(["ARTIFACT-TAR", "ARTIFACT-PAYLOAD"].contains(&error.code), "{error}");
        }
        let mut outer = typed("version", kind, b"");
        outer.extend(recipe.build());
        read(&outer).expect_err("type in the outer archive");
        let mut header = recipe.header_entries();
        header.insert(1, typed("scripts/ArtifactInstall_Enter_00", kind, b""));
        read(&recipe.with_header(&header)).expect_err("type in the header");
    }
    read(&recipe.with_data(&[typed("a", 0, b"")])).expect("old spelling of a regular file");
}

#[test]
fn sizes_that_lie_are_refused_without_using_memory() {
    let mut huge = [0; 12];
    huge[0] = 0x80;
    huge[4..].copy_from_slice(&(100u64 << 30).to_be_bytes());
    let negative = [0xff; 12];
    let recipe = plain(&[("a", b"1")]);
    for (field, code) in
        [(huge, "ARTIFACT-LIMIT"), (negative, "ARTIFACT-TAR"), (*b"77777777777\0", "ARTIFACT-LIMIT")]
    {
        for place in 0..3 {
            let parts = recipe.parts();
            let mut outer: Vec<Vec<u8>> = parts.iter().map(|(n, c)| entry(n, c)).collect();
            let name = parts[place].0.as_bytes();
            outer[place][..512].copy_from_slice(&block(name, &field, b'0', |_| ()));
            refused(&tar(&outer), code);
        }
        let mut header = recipe.header_entries();
        header[0][..512].copy_from_slice(&block(b"header-info", &field, b'0', |_| ()));
        refused(&recipe.with_header(&header), code);
    }
    let mut data = entry("a", b"1");
    data[..512].copy_from_slice(&block(b"a", &huge, b'0', |_| ()));
    refused(&recipe.with_data(&[data]), "ARTIFACT-TRUNCATED");
}

fn pax(records: &str) -> Vec<u8> {
    typed("PaxHeaders.0/x", b'x', records.as_bytes())
}

#[test]
fn long_names_and_sizes_come_in_pax_and_gnu_records() {
    let long = "n".repeat(200);
    let recipe = plain(&[(&long, b"1")]);
    let cut = entry(&long[..99], b"1");
    let path = format!("210 path={long}\n");
    assert_eq!(path.len(), 210);
    let sized = format!("10 size=1\n{path}30 mtime=1700000000.123456789\n");
    for before in [
        pax(&path),
        pax(&sized),
        typed("././@LongLink", b'L', format!("{long}\0").as_bytes()),
        typed("././@LongLink", b'L', long.as_bytes()),
        [pax("10 size=1\n"), typed("././@LongLink", b'L', long.as_bytes())].concat(),
    ] {
        let seen = read(&recipe.with_data(&[before, cut.clone()])).unwrap();
        assert_eq!(seen.files[0].0, long);
    }
}

#[test]
fn extension_records_that_contradict_are_refused() {
    let recipe = plain(&[("a", b"1")]);
    let a = entry("a", b"1");
    let too_long = format!("310 path={}\n", "n".repeat(300));
    let big = format!("20011 comment={}\n", "c".repeat(20_000 - 4));
    let long = |name: &str| typed("././@LongLink", b'L', name.as_bytes());
    for (before, code) in [
        (pax("10 size=2\n"), "ARTIFACT-TAR"),
        (pax("11 size=-1\n"), "ARTIFACT-TAR"),
        (pax("21 size=100000000000\n"), "ARTIFACT-TAR"),
        (pax("10 path=a\n10 path=a\n"), "ARTIFACT-TAR"),
        (pax("9 path=\0\n"), "ARTIFACT-TAR"),
        (pax("garbage"), "ARTIFACT-TAR"),
        (pax("22 GNU.sparse.major=1\n"), "ARTIFACT-TAR"),
        ([pax("10 path=a\n"), pax("10 path=a\n")].concat(), "ARTIFACT-TAR"),
        ([pax("10 path=a\n"), long("a")].concat(), "ARTIFACT-TAR"),
        ([long("a"), long("a")].concat(), "ARTIFACT-TAR"),
        (long("a\0b"), "ARTIFACT-TAR"),
        (long(""), "ARTIFACT-TAR"),
        (pax(&too_long), "ARTIFACT-LIMIT"),
        (long(&"n".repeat(300)), "ARTIFACT-LIMIT"),
        (pax(&big), "ARTIFACT-LIMIT"),
        (typed("g", b'g', b"10 path=a\n"), "ARTIFACT-TAR"),
    ] {
        refused(&recipe.with_data(&[before, a.clone()]), code);
    }
    refused(&recipe.with_data(&[a, pax("10 path=b\n")]), "ARTIFACT-TAR");
    let mut not_text = entry("a", b"1");
    not_text[..512].copy_from_slice(&block(b"a\xff", b"00000000001\0", b'0', |_| ()));
    refused(&recipe.with_data(&[not_text]), "ARTIFACT-TAR");
}

#[test]
fn one_zero_block_is_not_the_end() {
    let recipe = plain(&[("a", b"1")]);
    refused(&recipe.with_data(&[entry("a", b"1"), vec![0; 512], entry("b", b"1")]), "ARTIFACT-TAR");
}

#[test]
fn several_members_streams_or_frames_are_one_stream() {
    for pack in [Pack::Gzip, Pack::Xz, Pack::Zstd] {
        several_are_one_stream(pack);
    }
}

fn several_are_one_stream(pack: Pack) {
    let recipe = full(pack);
    let split = |bytes: &[u8]| {
        let mut out = Vec::new();
        for part in bytes.chunks(bytes.len() / 5 + 1) {
            out.extend(pack.pack(part));
            out.extend(pack.pack(b""));
        }
        out
    };
    let parts = recipe.parts_with(split(&tar(&recipe.header_entries())), split(&tar(&recipe.data_entries())));
    let seen = read(&join(&parts)).unwrap();
    assert_eq!((seen.files, seen.scripts), (recipe.files.clone(), recipe.scripts.clone()));
    // Anything else after a member is damage, even if the checksum of the header covers it.
    for part in [2, 3] {
        let mut containers = recipe.parts();
        containers[part].1.extend_from_slice(b"garbage");
        let [_, _, header, data] = &containers[..] else { unreachable!() };
        let parts = recipe.parts_with(header.1.clone(), data.1.clone());
        refused(&join(&parts), "ARTIFACT-COMPRESSION");
    }
}

#[test]
fn a_header_that_unpacks_without_end_is_refused() {
    let script = |size: usize| {
        let scripts = vec![("ArtifactInstall_Enter_00".to_owned(), vec![0; size])];
        Recipe { scripts, ..Recipe::default() }.build()
    };
    read(&script(2 << 20)).unwrap();
    let bomb = script(17 << 20);
    assert!(bomb.len() < 64 << 10, "it is small on the wire");
    let text = refused(&bomb, "ARTIFACT-LIMIT");
    assert!(text.contains("header.tar.gz") && text.contains("16777216"), "{text}");
}

#[test]
fn every_part_has_a_limit() {
    let recipe = Recipe { pack: Pack::Plain, ..Recipe::default() };
    let script = |n: usize| (format!("ArtifactInstall_Enter_00_{n}"), Vec::new());
    let scripts = |n| Recipe { scripts: (0..n).map(script).collect(), ..recipe.clone() }.build();
    read(&scripts(256)).unwrap();
    refused(&scripts(257), "ARTIFACT-LIMIT");

    let padded = |text: &str, size: usize| format!("{text}{}", " ".repeat(size - text.len()));
    let meta = |size| Recipe { meta: Some(padded("{}", size).into_bytes()), ..recipe.clone() }.build();
    read(&meta(1 << 20)).unwrap();
    refused(&meta((1 << 20) + 1), "ARTIFACT-LIMIT");
    let info = |size| Recipe { info: padded(&recipe.info, size), ..recipe.clone() }.build();
    read(&info(64 << 10)).unwrap();
    refused(&info((64 << 10) + 1), "ARTIFACT-LIMIT");
    let kind = |size| Recipe { kind: padded(&recipe.kind, size), ..recipe.clone() }.build();
    read(&kind(64 << 10)).unwrap();
    refused(&kind((64 << 10) + 1), "ARTIFACT-LIMIT");
    let version = |size| Recipe { version: padded(&recipe.version, size), ..recipe.clone() }.build();
    read(&version(1024)).unwrap();
    refused(&version(1025), "ARTIFACT-LIMIT");
    let signature = |size| {
        let mut parts = recipe.parts();
        parts.insert(2, ("manifest.sig".into(), vec![b'A'; size]));
        join(&parts)
    };
    read(&signature(16 << 10)).unwrap();
    refused(&signature((16 << 10) + 1), "ARTIFACT-LIMIT");
    let mut parts = recipe.parts();
    parts[1].1.resize((1 << 20) + 1, b'\n');
    refused(&join(&parts), "ARTIFACT-LIMIT");
    let large = Recipe { scripts: vec![("ArtifactInstall_Enter_00".into(), vec![1; 4 << 20])], ..recipe };
    refused(&large.build(), "ARTIFACT-LIMIT");
}

#[test]
fn things_that_are_no_artifact_are_refused() {
    for bytes in
        [&b""[..], b"x", b"PK\x03\x04", &[0; 511], &[0; 1024], &[0; 4096], &[0xff; 4096], &gzip(&[0; 9000])]
    {
        read(bytes).expect_err("not an Artifact");
    }
    refused(&[b'<'; 4096], "ARTIFACT-TAR");
}
