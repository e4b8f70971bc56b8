//! Artifacts made by Debian's mender-artifact, signed with keys made by openssl, are read as their maker meant them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "data/artifact_writer.rs"]
mod artifact_writer;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use artifact_writer::{NO_KEYS, Seen, read, read_with};
use thimble::artifact::{Options, VerifyKey};
use thimble::json;

/// A folder of its own for each test, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("thimble-artifact-{test}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        fs::write(self.0.join(name), content).unwrap();
        name.to_owned()
    }

    fn run(&self, package: &str, program: &str, arguments: &[&str]) {
        let output =
            Command::new(program).args(arguments).current_dir(&self.0).output().unwrap_or_else(|e| {
                panic!("cannot run {program}: {e}. This test needs it: apt-get install {package}")
            });
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Runs `mender-artifact write` with these words.
    fn write(&self, arguments: &str) -> Vec<u8> {
        let mut all = vec!["write"];
        all.extend(arguments.split_whitespace());
        all.extend(["-o", "out.mender"]);
        self.run("mender-artifact", "mender-artifact", &all);
        fs::read(self.0.join("out.mender")).unwrap()
    }

    /// Makes a key pair; the private part is `key.pem`.
    fn key(&self, arguments: &[&str]) -> String {
        let mut all = vec!["genpkey", "-out", "key.pem"];
        all.extend(arguments);
        self.run("openssl", "openssl", &all);
        self.run("openssl", "openssl", &["pkey", "-in", "key.pem", "-pubout", "-out", "public.pem"]);
        fs::read_to_string(self.0.join("public.pem")).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const RSA_2048: &[&str] = &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
const P256: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

fn names(seen: &Seen) -> Vec<&str> {
    seen.files.iter().map(|(name, _)| name.as_str()).collect()
}

#[test]
fn a_rootfs_image_is_read_whatever_the_compression() {
    let folder = Folder::new("rootfs");
    let image: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
    folder.file("rootfs.ext4", &image);
    for compression in ["gzip", "none", "lzma"] {
        let bytes = folder.write(&format!(
            "rootfs-image -f rootfs.ext4 -t qemux86-64 -n release-1 --compression {compression} --no-progress"
        ));
        let seen = read(&bytes).unwrap();
        let h = &seen.header;
        assert_eq!((h.format, h.name.as_str(), &h.group), (3, "release-1", &None));
        assert_eq!(h.payload_type.as_deref(), Some("rootfs-image"));
        assert_eq!(h.depends.device_types, ["qemux86-64"]);
        assert_eq!(h.provides["rootfs-image.version"], "release-1");
        assert_eq!(h.provides["rootfs-image.checksum"], artifact_writer::sha256(&image));
        let clears = h.clears.as_ref().unwrap();
        assert_eq!(clears, &["artifact_group", "rootfs_image_checksum", "rootfs-image.*"]);
        assert!(h.meta_data.is_none() && !h.signed);
        assert_eq!(seen.files, [("rootfs.ext4".to_owned(), image.clone())], "{compression}");
        h.check_depends("qemux86-64", &BTreeMap::new()).unwrap();
    }
}

#[test]
fn the_dictionary_of_the_official_writer_is_refused_below_64_mib_and_named() {
    let folder = Folder::new("xz");
    folder.file("f", "x");
    let bytes = folder.write("rootfs-image -f f -t t -n n --compression lzma --no-progress");
    let with = |mib: u64| read_with(&bytes[..], &Options { xz_memory_limit: mib << 20, ..NO_KEYS });
    with(64).unwrap();
    for mib in [0, 63] {
        let error = with(mib).unwrap_err();
        assert_eq!(error.code, "ARTIFACT-LIMIT");
        for word in ["header.tar.xz", "64 MiB", &format!("is {mib} MiB"), "Artifact.XzMemoryLimitMiB"] {
            assert!(error.text.contains(word), "{word}: {}", error.text);
        }
    }
}

#[test]
fn format_version_2_is_read_as_a_rootfs_image() {
    let folder = Folder::new("v2");
    folder.file("rootfs.ext4", "image");
    folder.file("ArtifactInstall_Enter_00", "#!/bin/sh\n");
    for compression in ["gzip", "none", "lzma"] {
        let bytes = folder.write(&format!(
            "rootfs-image -v 2 -f rootfs.ext4 -t devA -t devB -n v2-rel -s ArtifactInstall_Enter_00 --no-progress \
             --compression {compression}"
        ));
        let seen = read(&bytes).unwrap();
        let h = &seen.header;
        assert_eq!((h.format, h.name.as_str(), &h.group), (2, "v2-rel", &None));
        assert_eq!(h.payload_type.as_deref(), Some("rootfs-image"));
        assert_eq!(h.depends.device_types, ["devA", "devB"]);
        assert_eq!((h.depends.names.len(), h.depends.groups.len(), h.depends.others.len()), (0, 0, 0));
        assert!(h.provides.is_empty() && h.clears.is_none(), "provides become empty, the group goes");
        assert_eq!(seen.files, [("rootfs.ext4".to_owned(), b"image".to_vec())]);
        assert_eq!(seen.scripts[0].0, "ArtifactInstall_Enter_00");
        h.check_depends("devB", &BTreeMap::new()).unwrap();
        h.check_depends("devC", &BTreeMap::new()).unwrap_err();
    }
    let pem = folder.key(P256);
    folder.run("openssl", "openssl", &["pkey", "-in", "key.pem", "-traditional", "-out", "sign.pem"]);
    let signed = folder.write("rootfs-image -v 2 -f rootfs.ext4 -t t -n n -k sign.pem --no-progress");
    let keys = [VerifyKey::from_pem(&pem, "public.pem").unwrap()];
    let options = Options { keys: &keys, signature_required: true, ..NO_KEYS };
    assert!(read_with(&signed[..], &options).unwrap().header.signed);
}

#[test]
fn a_module_artifact_has_files_and_meta_data() {
    let folder = Folder::new("module");
    folder.file("file.txt", "hello, world!\n");
    folder.file("other.bin", [0, 1, 2, 255]);
    folder.file("empty", "");
    folder.file("meta.json", r#"{"dest":"/tmp/x","n":3,"l":["a",1]}"#);
    let bytes = folder.write(
        "module-image -T single-file -t devA -t devB -n mod-1 -f file.txt -f other.bin -f empty -m meta.json",
    );
    let seen = read(&bytes).unwrap();
    assert_eq!(seen.header.payload_type.as_deref(), Some("single-file"));
    assert_eq!(seen.header.depends.device_types, ["devA", "devB"]);
    assert_eq!(
        json::write(seen.header.meta_data.as_ref().unwrap()),
        r#"{"dest":"/tmp/x","l":["a",1],"n":3}"#
    );
    let mut files = seen.files.clone();
    files.sort();
    let wanted: [(&str, &[u8]); 3] =
        [("empty", b""), ("file.txt", b"hello, world!\n"), ("other.bin", &[0, 1, 2, 255])];
    assert_eq!(files, wanted.map(|(n, c)| (n.to_owned(), c.to_vec())));
    seen.header.check_depends("devB", &BTreeMap::new()).unwrap();
    let error = seen.header.check_depends("devC", &BTreeMap::new()).unwrap_err();
    assert!(error.text.contains("devA") && error.text.contains("devC"), "{}", error.text);
}

#[test]
fn the_long_file_names_of_the_official_writer_are_read() {
    let folder = Folder::new("long");
    let name = "n".repeat(200);
    folder.file(&name, "x");
    let seen = read(&folder.write(&format!("module-image -T script -t dev -n n -f {name}"))).unwrap();
    assert_eq!(names(&seen), [name]);
}

#[test]
fn a_module_artifact_may_have_no_file_at_all() {
    let folder = Folder::new("nofile");
    let seen = read(&folder.write("module-image -T script -t dev -n mod-2")).unwrap();
    assert!(seen.files.is_empty() && seen.header.meta_data.is_none());
}

#[test]
fn state_scripts_are_handed_out_with_their_names_and_content() {
    let folder = Folder::new("scripts");
    folder.file("f", "x");
    let mut wanted = Vec::new();
    let mut words = String::from("rootfs-image -f f -t t -n n --no-progress");
    for name in
        ["ArtifactInstall_Enter_00_first", "ArtifactInstall_Leave_05", "ArtifactCommit_Enter_10_check"]
    {
        let content = format!("#!/bin/sh\n# {name}\n");
        folder.file(name, &content);
        words.push_str(&format!(" -s {name}"));
        wanted.push((name.to_owned(), content.into_bytes()));
    }
    let mut seen = read(&folder.write(&words)).unwrap();
    wanted.sort();
    seen.scripts.sort();
    assert_eq!(seen.scripts, wanted);
}

#[test]
fn depends_and_provides_decide_which_device_takes_it() {
    let folder = Folder::new("depends");
    let words = "module-image -T script -t devA -n dep-1 -N release-0 -N release-1 -G grpA -G grpB -g grpC \
                 -p my.key:val -d other.key:v1 -d rootfs-image.checksum:abc --clears-provides my.* \
                 --software-name swname --software-filesystem data-partition --software-version 7";
    let header = read(&folder.write(words)).unwrap().header;
    assert_eq!((header.name.as_str(), header.group.as_deref()), ("dep-1", Some("grpC")));
    assert_eq!(header.depends.names, ["release-0", "release-1"]);
    assert_eq!(header.depends.groups, ["grpA", "grpB"]);
    assert_eq!(header.depends.others["other.key"], ["v1"]);
    assert_eq!(header.provides, map(&[("data-partition.swname.version", "7"), ("my.key", "val")]));
    assert!(header.clears.as_ref().unwrap().iter().any(|c| c == "my.*"));

    let suits = [
        ("artifact_name", "release-1"),
        ("artifact_group", "grpB"),
        ("other.key", "v1"),
        ("rootfs-image.checksum", "abc"),
    ];
    header.check_depends("devA", &map(&suits)).unwrap();
    for lacking in 0..suits.len() {
        let mut has = map(&suits);
        let key = suits[lacking].0;
        has.remove(key);
        let error = header.check_depends("devA", &has).unwrap_err();
        assert_eq!(error.code, "ARTIFACT-DEPENDS");
        assert!(error.text.contains(key) && error.text.contains("has none"), "{}", error.text);
        has.insert(key.into(), "else".into());
        let error = header.check_depends("devA", &has).unwrap_err();
        assert!(error.text.contains("else"), "{}", error.text);
    }
    header.check_depends("", &map(&suits)).expect_err("unknown device type");
    header.check_depends("deva", &map(&suits)).expect_err("case matters");
}

#[test]
fn a_bootstrap_artifact_has_an_empty_payload() {
    let folder = Folder::new("bootstrap");
    for compression in ["gzip", "none", "lzma"] {
        let seen = read(&folder.write(&format!(
            "bootstrap-artifact -t devA -n boot-1 -g grp0 -p rootfs-image.version:1 --no-progress \
             --compression {compression}"
        )))
        .unwrap();
        assert_eq!(seen.header.payload_type, None);
        assert_eq!(seen.header.group.as_deref(), Some("grp0"));
        assert_eq!(seen.header.provides, map(&[("rootfs-image.version", "1")]));
        assert!(seen.files.is_empty());
    }
}

#[test]
fn an_augmented_artifact_is_refused_with_the_reason() {
    let folder = Folder::new("augment");
    folder.file("file.txt", "a");
    folder.file("other.bin", "b");
    let bytes = folder.write(
        "module-image -T type -t dev -n n -f file.txt --augment-type type --augment-file other.bin \
         --augment-provides a:b",
    );
    let error = read(&bytes).unwrap_err();
    assert_eq!(error.code, "ARTIFACT-FORMAT");
    assert!(error.text.contains("augment"), "{}", error.text);
}

#[test]
fn signatures_of_every_kind_of_key_verify_and_others_do_not() {
    let folder = Folder::new("signed");
    folder.file("f", "x");
    let stranger = VerifyKey::from_pem(&folder.key(P256), "stranger.pem").unwrap();
    let rsa_4096: &[&str] = &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:4096"];
    let rsa_1024: &[&str] = &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"];
    for kind in [RSA_2048, rsa_4096, rsa_1024, P256] {
        let pem = folder.key(kind);
        // The writer knows EC keys in the traditional form only.
        folder.run("openssl", "openssl", &["pkey", "-in", "key.pem", "-traditional", "-out", "sign.pem"]);
        let bytes = folder.write("rootfs-image -f f -t t -n n -k sign.pem --no-progress");
        let key = VerifyKey::from_pem(&pem, "public.pem").unwrap();

        let keys = [stranger.clone(), key];
        let seen =
            read_with(&bytes[..], &Options { keys: &keys, signature_required: true, ..NO_KEYS }).unwrap();
        assert!(seen.header.signed, "{kind:?}");
        assert_eq!(names(&seen), ["f"]);
        assert!(read_with(&bytes[..], &NO_KEYS).unwrap().header.signed, "accepted unverified without a key");

        let wrong = read_with(&bytes[..], &Options { keys: &keys[..1], signature_required: true, ..NO_KEYS });
        let error = wrong.unwrap_err();
        assert_eq!(error.code, "ARTIFACT-SIGNATURE");
        assert!(error.text.contains("stranger.pem"), "{}", error.text);
    }
}

/// The official writer cannot use such keys; signing services and openssl can.
#[test]
fn p384_signatures_verify_in_der_and_raw() {
    let folder = Folder::new("p384");
    let pem = folder.key(&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]);
    let keys = [VerifyKey::from_pem(&pem, "public.pem").unwrap()];
    let options = Options { keys: &keys, signature_required: true, ..NO_KEYS };
    let parts = artifact_writer::Recipe::default().parts();
    folder.file("manifest", &parts[1].1);
    let mut padded = 0;
    for _ in 0..40 {
        folder.run("openssl", "openssl", &["dgst", "-sha256", "-sign", "key.pem", "-out", "der", "manifest"]);
        let der = fs::read(folder.0.join("der")).unwrap();
        // SEQUENCE { INTEGER r, INTEGER s }, all lengths in one byte.
        let (r, s) = der[4..].split_at(usize::from(der[3]));
        let raw: Vec<u8> = [r, &s[2..]]
            .into_iter()
            .flat_map(|number| {
                let number = &number[number.len().saturating_sub(48)..];
                [vec![0; 48 - number.len()], number.to_vec()].concat()
            })
            .collect();
        padded += usize::from(raw[0] < 0x80 || raw[48] < 0x80);
        let try_with = |signature: &[u8]| {
            let mut parts = parts.clone();
            parts.insert(2, ("manifest.sig".into(), artifact_writer::base64(signature).into_bytes()));
            read_with(&artifact_writer::join(&parts)[..], &options)
        };
        assert!(try_with(&der).unwrap().header.signed);
        assert!(try_with(&raw).unwrap().header.signed);
        for bad in [&raw[..95], &[0; 96], &[&raw[..], &[0]].concat(), &[&raw[48..], &raw[..48]].concat()] {
            assert_eq!(try_with(bad).unwrap_err().code, "ARTIFACT-SIGNATURE");
        }
        if padded > 2 {
            return;
        }
    }
    panic!("no number without its first bit");
}

#[test]
fn keys_of_other_kinds_are_refused_by_name() {
    let folder = Folder::new("keys");
    for (arguments, word) in [
        (&["-algorithm", "ED25519"][..], "Ed25519"),
        (&["-algorithm", "ED448"], "Ed448"),
        (&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"], "another curve"),
        (&["-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"], "RSA-PSS"),
        (&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:768"], "768 bits"),
        (&["-algorithm", "X25519"], "unknown kind"),
    ] {
        let pem = folder.key(arguments);
        let error = VerifyKey::from_pem(&pem, "k.pem").unwrap_err();
        assert_eq!(error.code, "ARTIFACT-KEY");
        assert!(error.text.contains(word) && error.text.contains("k.pem"), "{}", error.text);
    }
    folder.key(RSA_2048);
    let private = fs::read_to_string(folder.0.join("key.pem")).unwrap();
    let error = VerifyKey::from_pem(&private, "k.pem").unwrap_err();
    assert!(error.text.contains("PRIVATE KEY") && error.text.contains("-pubout"), "{}", error.text);
}
