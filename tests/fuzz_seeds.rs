//! What fuzzing begins with: inputs made by the writers that the other tests use. `make fuzz` writes them into its
//! working corpus; the committed corpus (`tests/fuzz/corpus`) is what grew out of them.
//!
//! `FUZZ_SEEDS=/some/where cargo test --test fuzz_seeds write -- --ignored`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "data/artifact_writer.rs"]
mod artifact_writer;
#[path = "hostile/kinds/mod.rs"]
#[allow(dead_code, reason = "for the hostile corpus")]
mod kinds;

use std::collections::BTreeMap;
use std::path::PathBuf;

use artifact_writer::*;
use thimble::agent::{Artifact, Cause, End, Offer, Origin, Reboot, Record, State, Undo, Update, Verdict};
use thimble::agent::{Wait, WaitFor};

/// Target, and an input for it.
type Seed = (&'static str, Vec<u8>);

/// Larger ones make every run slower, and say no more.
const LARGEST: usize = 16 << 10;

fn all() -> Vec<Seed> {
    let mut all = Vec::new();
    artifacts(&mut all);
    headers(&mut all);
    codecs(&mut all);
    signatures(&mut all);
    boot(&mut all);
    journal(&mut all);
    control(&mut all);
    texts(&mut all);
    all.retain(|(_, seed)| seed.len() <= LARGEST);
    all
}

fn recipes() -> Vec<Recipe> {
    let small = |files: &[(&str, usize)]| Recipe {
        files: files.iter().map(|(name, size)| ((*name).to_owned(), vec![7; *size])).collect(),
        pack: Pack::Plain,
        ..Recipe::default()
    };
    let script = ("ArtifactInstall_Enter_00".to_owned(), b"#!/bin/sh\n".to_vec());
    vec![
        small(&[("a", 3)]),
        small(&[("a", 600), ("b.bin", 0)]),
        Recipe { scripts: vec![script], meta: None, ..small(&[("rootfs.img", 512)]) },
        Recipe {
            info: info_with(r#"[{"type":null}]"#, r#"{"device_type":["dev"]}"#),
            kind: r#"{"type":null,"artifact_provides":{"rootfs-image.version":"1"},"clears_artifact_provides":["rootfs-image.*"]}"#.into(),
            meta: None,
            ..small(&[])
        },
    ]
}

fn artifacts(all: &mut Vec<Seed>) {
    // How the target reads: checksums mended or not, containers packed, a key asked for; and the size of reads.
    let how = |how: u8, bytes: &[u8]| [&[how, 40], bytes].concat();
    for recipe in recipes() {
        let whole = recipe.build();
        all.push(("manifest", recipe.parts()[1].1.clone()));
        all.extend([0, 1, 2, 4, 8].map(|mode| ("artifact", how(mode, &whole))));
        all.push(("tar", [&[0], &whole[..]].concat()));
        all.push(("tar", [&[0x31], &tar(&recipe.header_entries())[..]].concat()));
        all.push(("tar", [&[0x20], &tar(&recipe.data_entries())[..]].concat()));
    }
    for kind in kinds::all() {
        all.push(("artifact", how(1, &kind.bytes)));
        all.push(("tar", [&[0], &kind.bytes[..]].concat()));
    }
    let signed = Recipe { pack: Pack::Gzip, ..recipes().remove(0) };
    let mut parts = signed.parts();
    parts.insert(2, ("manifest.sig".into(), b"AAAA".to_vec()));
    all.push(("artifact", how(9, &join(&parts))));
    let long = "n".repeat(120);
    let pax = |text: &str| typed("pax", b'x', format!("{} {text}\n", text.len() + 4).as_bytes());
    for archive in [
        tar(&[typed("././@LongLink", b'L', format!("{long}\0").as_bytes()), entry("short", b"x")]),
        tar(&[pax(&format!("path={}", &long[..90])), entry("short", b"x")]),
        tar(&[pax("size=0000000003"), entry("short", b"abc")]),
        tar(&[pax("mtime=1234567.8"), typed("folder/", b'5', b"")]),
        tar(&[block(b"big", &[0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0], b'0', |_| ()).to_vec()]),
    ] {
        all.push(("tar", [&[0], &archive[..]].concat()));
    }
    for name in ["version", "header.tar.gz", "header.tar", "data/0000/a", "data/0000/..", "data/0001/a"] {
        let sum = sha256(name.as_bytes());
        all.push(("manifest", format!("{sum}  version\n{sum}  header.tar.xz\n{sum}  {name}\n").into_bytes()));
    }
    for version in [r#"{"format":"mender","version":2}"#, r#"{"format":"mender","version":3}"#] {
        all.push(("manifest", version.into()));
    }
}

fn headers(all: &mut Vec<Seed>) {
    let full = r#"{"payloads":[{"type":"script"}],"artifact_provides":{"artifact_name":"rel","artifact_group":"g"},"artifact_depends":{"device_type":["dev","b"],"artifact_name":["old"],"artifact_group":["g"]}}"#;
    let kind = r#"{"type":"script","artifact_provides":{"a":"1"},"artifact_depends":{"x":["1","2"],"y":"z"},"clears_artifact_provides":["a*","b"]}"#;
    let scripts = "ArtifactInstall_Enter_00\0ArtifactRollbackReboot_Error_99_a.b";
    let two =
        r#"{"updates":[{"type":"rootfs-image"}],"device_types_compatible":["dev"],"artifact_name":"rel"}"#;
    for text in [
        format!("3{full}\0{kind}\0{{\"a\":[1,2.5e3,null,true]}}\0{scripts}"),
        format!("3{full}\0{{\"type\":\"script\"}}\0"),
        format!("3{}\0{{\"type\":null}}\0", info_with(r#"[{"type":null}]"#, r#"{"device_type":["d"]}"#)),
        format!("3{}\0{{\"type\":\"\"}}\0", info("rootfs-image")),
        format!("2{two}\0{{\"files\":[\"a.img\"]}}\0{{\"type\":\"rootfs-image\"}}\0{{}}"),
        "3{\"\\u00e9\\n\":\"\\ud83d\\ude00\"}\0[-0.5e-3,1E9,18446744073709551615,-9223372036854775808]\0"
            .into(),
    ] {
        all.push(("header", text.into_bytes()));
    }
}

fn codecs(all: &mut Vec<Seed>) {
    let texts: [Vec<u8>; 4] =
        [Vec::new(), b"hello".to_vec(), vec![0; 3000], (0..900u32).map(|n| ((n * n) >> 3) as u8).collect()];
    for text in &texts {
        let (gzip, zstd) = (gzip(text), zstd(text, &["-3"]));
        for (codec, packed) in [
            (0, [&gzip[..], &gzip].concat()),
            (0, gzip),
            (1, xz(text, &["-0"])),
            (1, xz(text, &["--check=sha256", "--block-size=1000", "-T1"])),
            (1, xz(text, &["--check=none", "--x86", "--lzma2=dict=4KiB"])),
            (2, [&zstd[..], &zstd].concat()),
            (2, zstd),
            (2, self::zstd(text, &["-19", "--no-check"])),
        ] {
            all.push(("codecs", [&[codec, 9], &packed[..]].concat()));
            all.push(("codecs", [&[codec | 4, 0], &packed[..]].concat()));
        }
    }
    all.push(("codecs", [&[1, 9], &xz_declaring(b"hello", 22)[..]].concat()));
    all.push(("codecs", [&[2, 9], &zstd_declaring(&texts[2], 0x68)[..]].concat()));
}

fn signatures(all: &mut Vec<Seed>) {
    // Of the manifest in the target, by its keys.
    let good = [SIGNED_RSA, SIGNED_P256, SIGNED_P384];
    for (which, text) in good.into_iter().enumerate() {
        all.push(("signature", [&[2, which as u8], text.as_bytes(), b"\n"].concat()));
        all.push(("signature", [&[3, which as u8], &unbase64(text)[..]].concat()));
    }
    // The same as two plain numbers.
    for (which, text, size) in [(1, SIGNED_P256, 32), (2, SIGNED_P384, 48)] {
        all.push(("signature", [&[3, which], &plain_numbers(&unbase64(text), size)[..]].concat()));
    }
    for pem in KEYS.split_inclusive("-----END PUBLIC KEY-----\n") {
        all.push(("signature", [&[0, 0], pem.as_bytes()].concat()));
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        all.push(("signature", [&[1, 0], &unbase64(&body)[..]].concat()));
    }
}

fn plain_numbers(der: &[u8], size: usize) -> Vec<u8> {
    let mut rest = &der[2..];
    let mut out = Vec::new();
    while let [2, length, tail @ ..] = rest {
        let (number, after) = tail.split_at(usize::from(*length));
        let padded = [&vec![0; size][..], number].concat();
        out.extend_from_slice(&padded[padded.len() - size..]);
        rest = after;
    }
    out
}

fn unbase64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits: Vec<u8> =
        text.bytes().filter_map(|b| DIGITS.iter().position(|d| *d == b)).map(|n| n as u8).collect();
    let group = |group: &[u8]| {
        let bits = group.iter().fold(0u32, |n, d| n << 6 | u32::from(*d)) << (6 * (4 - group.len()));
        bits.to_be_bytes()[1..group.len()].to_vec()
    };
    digits.chunks(4).flat_map(group).collect()
}

fn boot(all: &mut Vec<Seed>) {
    let list =
        b"bootcount=0\0upgrade_available=1\0mender_boot_part=2\0.flags=ethaddr:mo,serial:sr\0serial=x\0\0";
    let filled = |fill: u8| [&list[..], &[fill; 30]].concat();
    for (mode, flags, data) in [
        (1, [0, 0], filled(0)),
        (1, [0, 0], filled(0xff)),
        (2, [1, 2], [filled(0), filled(0)].concat()),
        (2, [255, 0], [filled(0xff), filled(0)].concat()),
        (3, [1, 0], filled(0)),
        (3, [0xff, 1], filled(0)),
    ] {
        all.push(("bootenv", [&[mode, 0, flags[0], flags[1]], &data[..]].concat()));
    }
    let mut crc = flate2::Crc::new();
    crc.update(&filled(0));
    all.push(("bootenv", [&[1, 1, 0, 0], &crc.sum().to_le_bytes()[..], &filled(0)].concat()));
    for text in [
        "/dev/mmcblk0 0x800000 0x20000\n/dev/mmcblk0 0x1000000 0x20000\n",
        "# comment\n/dev/mtd1\t-0x4000 4000 200 20 1 more\r\n\n",
        "/f 020 4000\n/g -16384 4000 0\n/third 0 1\n",
        "size : 0x4000\n",
    ] {
        all.push(("bootenv", [&[0], text.as_bytes()].concat()));
    }
}

fn journal(all: &mut Vec<Seed>) {
    let artifact = Artifact {
        name: "release-2".into(),
        group: Some("g".into()),
        provides: BTreeMap::from([("rootfs-image.version".into(), "2".into())]),
        clears: Some(vec!["rootfs-image.*".into()]),
        payload: Some("rootfs-image".into()),
    };
    let update = Update {
        origin: Origin::Deployment("d1".into()),
        artifact: artifact.clone(),
        rollback: true,
        reboot: Reboot::Automatic,
        saves: 3,
    };
    let end = End {
        verdict: Verdict::Unchanged,
        artifact: Some(artifact),
        origin: Origin::Standalone,
        cause: Some(Cause::Download),
        rollback: false,
        reboot: Reboot::No,
        clean: true,
        saves: 1,
    };
    let states = [
        State::Fetch(Offer { id: "d1".into(), uri: "https://h/x".into() }),
        State::Install(update.clone()),
        State::PauseReboot(update.clone()),
        State::PauseCommit(update.clone()),
        State::RollbackReboot(Undo { update, sound: true, cause: Cause::Commit }),
        State::Cleanup(end.clone()),
        State::SendFinal(end),
    ];
    let waits = [
        None,
        Some(WaitFor::Report { tries: 2 }),
        Some(WaitFor::Control { changes: 7, refresh: true, tries: 1 }),
        Some(WaitFor::Script { name: "Idle_Enter_00".into(), first_start_ms: 9, failed: false }),
    ];
    for (n, state) in states.into_iter().enumerate() {
        let wait = waits[n % 4].clone().map(|what| Wait { until_ms: 60_000, what });
        let text = Record { state, wait, boot_id: "boot-1".into() }.encode();
        for (how, ahead, version) in [(0, 127, 0), (4, 128, 0), (0, 129, 1)] {
            all.push(("journal", [&[how, ahead, version], &text[..], b"\0", &text].concat()));
        }
    }
    let installed = br#"{"name":"rel","group":"g","provides":{"a":"1"}}"#;
    all.push(("journal", [&[0, 129, 0], &b"{}"[..], b"\0", installed].concat()));
    all.push(("journal", [&[1, 0, 0], &b"THJ1\x01\0\0\0"[..]].concat()));
}

fn control(all: &mut Vec<Seed>) {
    const A: &str = "01234567-89ab-cdef-0123-456789abcdef";
    const B: &str = "fedcba98-7654-3210-fedc-ba9876543210";
    let pause = r#"{"ArtifactInstall_Enter":{"action":"pause","on_map_expire":"force_continue","on_action_executed":"continue"}}"#;
    let mixed =
        r#"{"ArtifactReboot_Enter":{"action":"force_continue"},"ArtifactCommit_Enter":{"action":"fail"}}"#;
    for text in [
        format!("+{{\"id\":\"{A}\",\"priority\":1,\"states\":{pause}}}\nv0\nt31000\nr\nv0\nt60000\nv0\nx"),
        format!(
            "+{{\"id\":\"{A}\",\"states\":{mixed}}}\n+{{\"ID\":\"{B}\",\"Priority\":-10,\"States\":{pause}}}\nv0\nv1\nv2\nb\nt29000\nr"
        ),
        format!(
            "s{{\"id\":\"{A}\",\"states\":{{}}}}\ns{{\"id\":\"{A}\",\"priority\":10,\"states\":{pause}}}\nv0\n+{{\"id\":\"{A}\",\"priority\":10}}"
        ),
        format!(
            "p{{\"version\":1,\"boot_id\":\"boot-1\",\"changes\":7,\"maps\":[{{\"map\":{{\"id\":\"{A}\",\"states\":{pause}}},\"half_ms\":20000,\"expires_ms\":40000}},{{\"map\":{{\"id\":\"{B}\"}}}}]}}\nv0\nr\nt50000"
        ),
        format!(
            "p{{\"active\":[{{\"id\":\"{A}\",\"priority\":2,\"states\":{mixed}}}],\"expired\":null}}\nv1\nx"
        ),
        "+null\nt18446744073709551615\nt1\nr".to_owned(),
    ] {
        all.push(("control", text.into_bytes()));
    }
}

fn texts(all: &mut Vec<Seed>) {
    for text in [
        "{\"ServerURL\":\"https://h:8443/x/\",\"TenantToken\":\"t\",\"RootfsPartA\":\"/dev/a\",\"RootfsPartB\":\"/dev/b\"}",
        "{\"Servers\":[{\"ServerURL\":\"http://[::1]:80\"},{\"serverurl\":\"https://b\"},{}],\"RetryDownloadCount\":3}",
        "{\"HttpsClient\":{\"Certificate\":\"/c\",\"Key\":\"/k\"},\"BootEnvironment\":{\"Adapter\":\"grub\",\"RequireRedundant\":true}}",
        "{\"ArtifactVerifyKeys\":[\"/a\",\"/b\"]}\0{\"ArtifactVerifyKey\":\"/c\",\"UpdatePollIntervalSeconds\":5}",
        "{\"updatepollintervalseconds\":1,\"UPDATEPOLLINTERVALSECONDS\":2,\"Unknown\":[{}],\"DaemonLogLevel\":\"Warn\"}",
        "{\"Artifact\":{\"XzMemoryLimitMiB\":4095,\"ZstdWindowLimitMiB\":128},\"RootfsImage\":{\"VerifyWrites\":false},\"SkipVerify\":null}",
        "{\n  \"DeviceTier\": \"micro\", \"Board\": \"none\",\n  \"Security\": {\"AuthPrivateKey\": \"pkcs11:x\"}\n}",
    ] {
        all.push(("config", text.into()));
    }
    for text in [
        "200||\"a\"|*|\n",
        "200||\"a\"|*|100|\n206|bytes 100-499/500|\"a\"|*|200|\n206|bytes 300-499/500||*||",
        "200|||*|100|\n503||||0|Retry-After: 1\n206|bytes 50-499/500||*||\n",
        "200|||500|5|\n206|bytes 5-499/500|||200|Transfer-Encoding: chunked\n206|bytes 100-499/500||*||",
        "302||||0|Location: /other^Content-Length: 0\n200||W/\"a\"|*||",
        "200||\"a\"|*|100|\n206|bytes 100-499/500|\"b\"|*||\n200||\"b\"|*||\n",
        "200||||300|\n",
        "500|||0||\n404|||0||\n",
    ] {
        all.push(("range", [&[100, 20, 30], text.as_bytes()].concat()));
    }
    for text in [
        "shttps://h:8443/base//\0/api/x",
        "shttp://[::1]:80\0x",
        "shttps://user:pw@h/?q#f\0",
        "rhttps://h:8/a/b/c?q=1\0../x?a=../b#f",
        "rhttp://h/a\0//other/x",
        "rhttp://h\0https://s/./x",
        "ea b/\u{fc}~\0%41%ff%zz",
        "t120",
        "tSun, 06 Nov 1994 08:49:37 GMT",
        "phttp://u:p%40@proxy:3128\0.local,10.0.0.0/8,[::1]:80,h:8080\0http://a.local:81/",
        "pproxy\0*\0https://h/",
    ] {
        all.push(("url", text.into()));
    }
}

const KEYS: &str = "\
-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAn7GDH/snzI5lEDCD62Nc
p/kSHqKMgL1X5UrqL5jzmQooc+snLJAmtczCKYAZ0o7RhIc7ZXEDokLYXYpT25DK
yvBXbRhkuV6ZfZE5FU6GLu6C+xJIqFlJJAsm9LCPQgxXd+faU3u0/r1Yo03XIrAb
N0TfdjFj4YiqhcqNPb5fpwrmpIDd4ScWXBUevr1uGJDNNzwkruU6NxcEzSbyRrb8
Koc89nUo9UCR3gDseeRczP++xiFYMZNpcGJHzAWgYLER1S9pOCFYSpX2sH8LfHj5
zEAQ8kMp5gMBwMpjE4j3uj8aoFba9Hrsi+1C33bmabCVTV74s93ewsQ2Sb8SrI75
8QIDAQAB
-----END PUBLIC KEY-----
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEIJ1HRIjpLsC/qyfwWoz4Nbf89rcF
wlmzLitoYZyKbaeyaLnlJtSN5znjYpHc3d7cM8Ck7VlAhHFJM9S04Uy9jQ==
-----END PUBLIC KEY-----
-----BEGIN PUBLIC KEY-----
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAE7n5Dt/sHEnxCR5ORieENBMhVdctCNL9h
dICVKnD0rvbTNB5Sw4Sy7l6Ftrl4SchGPNkRc03J2NxQXiCDClnyzSlQRNB/Hwy/
jukF2vyKIZwXDqciKrBoBKtN22SQGZpo
-----END PUBLIC KEY-----
";
const SIGNED_RSA: &str = "\
    D2VUS6j9UPqzbzqfezkI9TJHRxJSZXCINST54+I2D/M/i6FriLEHZM53zjPleoVYCweovg8Te9SRU017Tjwxrhj1vXLAaFvKdVM6\
    Sg+4SU2YEI/T5zwueJU87+/oapac47SubQBv8AcBTn7repfRSXb5YWIisWPvew2NLj4UyIH94NGrxp7K2sY0EJblmAcu3whvzQxc\
    hE+8VOSDIb/cG++wMhtNCWY39XH21Bn94sdiMD1WSzbqzWXTjpa+fkGg1/9MqNeYDRe61qz8fif/C0H7bf5gWMCSbklLAi9c+trx\
    LZEMxLpPOPxd+/ghI+90smKAlYxGfb2diM1wZbH+Cw==";
const SIGNED_P256: &str = "\
    MEQCIErXlOQ7QijBoHqrX04xlDR27dByfWoSGenArLOYS4pBAiBg1pWbvhHQ+Hjtke/v53EGhnFd6jxXU/Q99CxrxqIecw==";
const SIGNED_P384: &str = "\
    MGUCMG9mbQEsfqfEISpG5A6Qva9zM3u9Co1Srm/nzRuLDUwIgX+fyjOSZsi8UY+FYPc9RQIxAKr/n/HFE71/bBfehkHRVwPwmypV\
    nV1KcGWUctwkY1/DI4LJKB33RnbWubMObGE3MQ==";

#[test]
fn every_target_has_seeds_of_its_own() {
    let all = all();
    let targets = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/bins")).unwrap();
    for target in targets.map(|entry| entry.unwrap().path()) {
        let name = target.file_stem().unwrap().to_str().unwrap();
        let count = all.iter().filter(|(target, _)| *target == name).count();
        assert!(count >= 4, "{name}: {count} seeds");
    }
}

#[test]
#[ignore = "writes the seeds for `make fuzz`"]
fn write() {
    let dir = PathBuf::from(std::env::var_os("FUZZ_SEEDS").expect("FUZZ_SEEDS says where"));
    for (n, (target, seed)) in all().into_iter().enumerate() {
        std::fs::create_dir_all(dir.join(target)).unwrap();
        std::fs::write(dir.join(target).join(format!("seed-{n:03}")), seed).unwrap();
    }
}
