//! Records, the lock and the device type: what a power cut, a flipped bit or another process can do to them.
#![allow(clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use thimble::store::{
    Durable, Installed, InstalledStore, Loaded, MAX_CONTENT, create_directory, device_type, holder, lock,
    mask,
};

/// A data store, removed at the end.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let dir = std::env::temp_dir().join(format!("thimble-store-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("creates");
        Dir(dir)
    }

    fn record(&self) -> Durable {
        Durable::new(&self.0, "r", *b"TEST")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(&self.0)
            .expect("lists")
            .map(|e| e.expect("entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// Back to these files, and no others.
    fn restore(&self, files: &[(&str, Vec<u8>)]) {
        for name in self.names() {
            fs::remove_file(self.file(&name)).expect("removes");
        }
        for (name, content) in files {
            fs::write(self.file(name), content).expect("writes");
        }
    }

    fn snapshot(&self) -> Vec<(String, Vec<u8>)> {
        self.names().into_iter().map(|n| (n.clone(), fs::read(self.file(&n)).expect("reads"))).collect()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn content(text: &str) -> Loaded {
    Loaded::Content(text.as_bytes().to_vec())
}

/// A record with a right checksum, whatever is in it.
fn forge(magic: &[u8; 4], version: u16, sequence: u64, content: &[u8]) -> Vec<u8> {
    let mut bytes = magic.to_vec();
    bytes.extend_from_slice(&version.to_le_bytes());
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(&sequence.to_le_bytes());
    bytes.extend_from_slice(&(content.len() as u32).to_le_bytes());
    let mut crc = !0u32;
    for byte in bytes.iter().chain(content) {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
        }
    }
    bytes.extend_from_slice(&(!crc).to_le_bytes());
    bytes.extend_from_slice(content);
    bytes
}

#[test]
fn the_bytes_on_disk_are_those_of_the_documentation() {
    let dir = Dir::new("bytes");
    let mut record = dir.record();
    record.save(b"one").expect("saves");
    record.save(b"two!").expect("saves");
    assert_eq!(fs::read(dir.file("r.a")).expect("reads"), forge(b"TEST", 1, 1, b"one"));
    assert_eq!(fs::read(dir.file("r.b")).expect("reads"), forge(b"TEST", 1, 2, b"two!"));
    assert_eq!(dir.names(), ["r.a", "r.b"]);
    assert_eq!(fs::metadata(dir.file("r.a")).expect("stat").permissions().mode() & 0o777, 0o600);
}

#[test]
fn nothing_saved_is_nothing_loaded_even_without_a_directory() {
    let dir = Dir::new("nothing");
    assert_eq!(dir.record().load(), Ok(Loaded::Nothing));
    let mut record = Durable::new(&dir.file("a/b"), "r", *b"TEST");
    assert_eq!(record.load(), Ok(Loaded::Nothing));
    record.save(b"").expect("creates the directory");
    assert_eq!(record.load(), Ok(content("")));
    assert_eq!(fs::metadata(dir.file("a/b")).expect("stat").permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_cut_at_any_byte_of_any_write_leaves_the_old_or_the_new_content() {
    let dir = Dir::new("cut");
    for saves in 0..4u64 {
        dir.restore(&[]);
        let mut record = dir.record();
        for i in 0..saves {
            record.save(format!("content {i}").as_bytes()).expect("saves");
        }
        let old = if saves == 0 { Loaded::Nothing } else { content(&format!("content {}", saves - 1)) };
        let before = dir.snapshot();
        record.save(b"the next one").expect("saves");
        let after = dir.snapshot();
        let (name, written) = after.iter().find(|f| !before.contains(f)).expect("one file changed").clone();
        let files: Vec<(&str, Vec<u8>)> = before.iter().map(|(n, c)| (n.as_str(), c.clone())).collect();

        let go_on = |expected: &Loaded, cut: &str| {
            let mut record = dir.record();
            assert_eq!(record.load().as_ref(), Ok(expected), "saves {saves}, {cut}");
            record.save(b"afterwards").unwrap_or_else(|e| panic!("saves {saves}, {cut}: {e}"));
            assert_eq!(dir.record().load(), Ok(content("afterwards")), "saves {saves}, {cut}");
            assert!(!dir.names().iter().any(|n| n.ends_with(".new")), "saves {saves}, {cut}");
        };
        for length in 0..=written.len() {
            // Before the rename: a part of the temporary file.
            dir.restore(&files);
            fs::write(dir.file(&format!("{name}.new")), &written[..length]).expect("writes");
            go_on(&old, &format!("temporary file of {length} bytes"));
            // A file system that renames before the data are there (we synchronise; others may lie).
            dir.restore(&files);
            fs::write(dir.file(&name), &written[..length]).expect("writes");
            let expected = match (length == written.len(), saves) {
                (true, _) => content("the next one"),
                (false, 0) => continue, // nothing valid at all: see the test of damage
                (false, _) => old.clone(),
            };
            go_on(&expected, &format!("torn copy of {length} bytes"));
            // The same, with the lost part as zeros.
            dir.restore(&files);
            let mut zeros = written[..length].to_vec();
            zeros.resize(written.len(), 0);
            fs::write(dir.file(&name), &zeros).expect("writes");
            go_on(&expected, &format!("zeros from byte {length}"));
        }
    }
}

#[test]
fn a_flipped_bit_anywhere_in_either_copy_leaves_the_other() {
    let dir = Dir::new("flip");
    let copies = [forge(b"TEST", 1, 7, b"older"), forge(b"TEST", 1, 8, b"newer")];
    for damaged in 0..2 {
        for bit in 0..copies[damaged].len() * 8 {
            let mut bad = copies.clone();
            bad[damaged][bit / 8] ^= 1 << (bit % 8);
            let [a, b] = bad;
            dir.restore(&[("r.a", a), ("r.b", b)]);
            let expected = content(if damaged == 0 { "newer" } else { "older" });
            assert_eq!(dir.record().look().as_ref(), Ok(&expected), "copy {damaged}, bit {bit}");
            let mut record = dir.record();
            assert_eq!(record.load().as_ref(), Ok(&expected), "copy {damaged}, bit {bit}");
            record.save(b"next").expect("saves");
            let good = if damaged == 0 { "r.b" } else { "r.a" };
            assert_eq!(fs::read(dir.file(good)).expect("reads"), copies[1 - damaged], "the good copy stays");
            assert_eq!(dir.record().load(), Ok(content("next")));
        }
    }
    assert!(dir.names().contains(&"r.b.broken".to_owned()), "the damaged copy is kept for examination");
}

#[test]
fn the_evidence_of_damage_survives_later_saves() {
    let dir = Dir::new("evidence");
    dir.restore(&[("r.a", forge(b"TEST", 1, 7, b"good")), ("r.b", b"damaged".to_vec())]);
    let mut record = dir.record();
    assert_eq!(record.load(), Ok(content("good")));
    for text in ["1", "2", "3", "4"] {
        record.save(text.as_bytes()).expect("saves");
    }
    assert_eq!(dir.names(), ["r.a", "r.b", "r.b.broken"]);
    assert_eq!(fs::read(dir.file("r.b.broken")).expect("reads"), b"damaged");
}

#[test]
fn two_bad_copies_are_set_aside_reported_and_the_record_works_again() {
    let dir = Dir::new("both");
    for (a, b) in [
        (Some(&b"rubbish"[..]), Some(&b""[..])),
        (Some(b"rubbish"), None),
        (None, Some(b"TEST")),
        (Some(&[0; 64]), Some(&[0xff; 64])),
    ] {
        dir.restore(&[("r.a.broken", b"older evidence".to_vec())]);
        for (name, bytes) in [("r.a", a), ("r.b", b)] {
            if let Some(bytes) = bytes {
                fs::write(dir.file(name), bytes).expect("writes");
            }
        }
        let mut record = dir.record();
        let Loaded::Damaged(text) = record.load().expect("no error") else { panic!("not noticed") };
        for (name, bytes) in [("r.a", a), ("r.b", b)] {
            let aside = dir.file(&format!("{name}.broken"));
            assert!(!dir.file(name).exists());
            if let Some(bytes) = bytes {
                assert_eq!(fs::read(&aside).expect("set aside"), bytes);
                assert!(text.contains(&format!("set aside as {}", aside.display())), "{text}");
            }
        }
        assert_eq!(record.load(), Ok(Loaded::Nothing), "reported once");
        record.save(b"again").expect("saves");
        assert_eq!(dir.record().load(), Ok(content("again")));
    }
    dir.restore(&[("r.a", b"rubbish".to_vec())]);
    let before = dir.snapshot();
    assert!(matches!(dir.record().look(), Ok(Loaded::Damaged(_))));
    assert_eq!(dir.snapshot(), before, "a look changes nothing");
}

#[test]
fn the_text_of_damage_says_what_was_found() {
    let dir = Dir::new("text");
    let mut wrong = forge(b"TEST", 1, 1, b"abc");
    wrong[25] ^= 1;
    dir.restore(&[("r.a", wrong), ("r.b", forge(b"ELSE", 1, 2, b"x"))]);
    let Ok(Loaded::Damaged(text)) = dir.record().load() else { panic!("not noticed") };
    let text = text.replace(&format!("{}/", dir.0.display()), "");
    assert_eq!(
        text,
        "r.a: wrong checksum; r.b: wrong magic, not a record of this kind; \
         set aside as r.a.broken, set aside as r.b.broken"
    );
    dir.restore(&[("r.a", b"abc".to_vec()), ("r.b", forge(b"TEST", 1, 2, b"x")[..24].to_vec())]);
    let Ok(Loaded::Damaged(text)) = dir.record().load() else { panic!("not noticed") };
    assert!(text.contains("3 bytes, too short for a record"), "{text}");
    assert!(text.contains("0 bytes of content instead of 1"), "{text}");
}

#[test]
fn a_newer_format_is_refused_and_its_older_neighbour_is_no_substitute() {
    let dir = Dir::new("version");
    dir.restore(&[
        ("r.a", forge(b"TEST", 1, 5, b"stale")),
        ("r.b", forge(b"TEST", 2, 6, b"from the future")),
    ]);
    let mut record = dir.record();
    let Ok(Loaded::Damaged(text)) = record.load() else { panic!("guessed") };
    assert!(text.contains("format version 2, this program knows 1"), "{text}");
    assert_eq!(dir.names(), ["r.a.broken", "r.b.broken"]);
    record.save(b"ours").expect("saves");
    assert_eq!(record.load(), Ok(content("ours")));
    // The other way round the newest is ours, and nothing has to be guessed.
    dir.restore(&[("r.a", forge(b"TEST", 1, 7, b"newest")), ("r.b", forge(b"TEST", 2, 6, b"older"))]);
    assert_eq!(dir.record().load(), Ok(content("newest")));
}

#[test]
fn the_higher_sequence_number_wins_wherever_it_stands() {
    let dir = Dir::new("sequence");
    for (a, b, expected) in [
        (1, 2, "b"),
        (2, 1, "a"),
        (u64::MAX - 1, 255, "a"),
        (255, 256, "b"),
        (1 << 32, u64::from(u32::MAX), "a"),
        (3, 3, "a"),
    ] {
        dir.restore(&[("r.a", forge(b"TEST", 1, a, b"a")), ("r.b", forge(b"TEST", 1, b, b"b"))]);
        let mut record = dir.record();
        assert_eq!(record.load(), Ok(content(expected)), "{a} {b}");
        record.save(b"next").expect("saves");
        assert_eq!(record.load(), Ok(content("next")), "{a} {b}");
        let kept = fs::read(dir.file(&format!("r.{expected}"))).expect("reads");
        assert_eq!(kept.last(), expected.as_bytes().last(), "the newest was not overwritten");
    }
}

#[test]
fn each_save_writes_one_file_and_never_the_newest() {
    let dir = Dir::new("wear");
    let mut record = dir.record();
    let inodes = || {
        dir.names()
            .iter()
            .map(|n| (n.clone(), fs::metadata(dir.file(n)).expect("stat").ino()))
            .collect::<BTreeMap<_, _>>()
    };
    for i in 0..20u64 {
        let before = dir.snapshot();
        let inodes_before = inodes();
        if i % 3 == 0 {
            record = dir.record(); // a new process that does not load first
        }
        let writes = record.writes();
        record.save(format!("{i}").as_bytes()).expect("saves");
        assert_eq!(record.writes(), writes + 1);
        let changed = inodes().into_iter().filter(|(n, ino)| inodes_before.get(n) != Some(ino)).count();
        assert!(changed <= 1, "save {i}");
        let after = dir.snapshot();
        assert_eq!(after.iter().filter(|f| !before.contains(f)).count(), 1, "save {i}");
        if i > 0 {
            let newest = forge(b"TEST", 1, i, format!("{}", i - 1).as_bytes());
            assert!(after.iter().any(|(_, c)| *c == newest), "save {i} kept the previous content");
        }
    }
}

#[test]
fn a_record_too_long_is_refused_and_the_longest_is_not() {
    let dir = Dir::new("long");
    let mut record = dir.record();
    record.save(b"before").expect("saves");
    assert_eq!(record.save(&vec![7; MAX_CONTENT + 1]).expect_err("too long").code, "STORE-TOO-BIG");
    assert_eq!(record.load(), Ok(content("before")));
    record.save(&vec![7; MAX_CONTENT]).expect("saves");
    assert_eq!(dir.record().load(), Ok(Loaded::Content(vec![7; MAX_CONTENT])));
    // A huge file in its place is not read into memory.
    let file = fs::File::create(dir.file("r.b")).expect("creates");
    file.set_len(1 << 40).expect("grows");
    assert_eq!(dir.record().load(), Ok(content("before")));
}

#[test]
fn a_save_that_fails_leaves_the_previous_content_and_the_next_one_works() {
    let dir = Dir::new("fail");
    let mut record = dir.record();
    record.save(b"1").expect("saves");
    record.save(b"2").expect("saves");
    // A directory where the temporary file would be: as good as a full disk, also for root.
    fs::create_dir_all(dir.file("r.a.new/x")).expect("creates");
    let error = record.save(b"3").expect_err("fails");
    assert_eq!(error.code, "STORE-WRITE");
    assert!(error.text.contains("r.a"), "{error}");
    assert_eq!((record.writes(), record.load()), (2, Ok(content("2"))));
    fs::remove_dir_all(dir.file("r.a.new")).expect("removes");
    record.save(b"4").expect("saves");
    assert_eq!(dir.record().load(), Ok(content("4")));
}

#[test]
fn a_directory_in_place_of_a_copy_is_moved_out_of_the_way() {
    let dir = Dir::new("dir");
    fs::create_dir_all(dir.file("r.a/x")).expect("creates");
    let mut record = dir.record();
    assert!(matches!(record.load(), Ok(Loaded::Damaged(_))));
    record.save(b"1").expect("saves");
    assert_eq!(record.load(), Ok(content("1")));
}

#[test]
fn what_is_installed_is_remembered() {
    let dir = Dir::new("installed");
    let mut store = InstalledStore::new(&dir.0);
    assert_eq!(store.load(), Ok(Installed::default()));
    let provides = [("rootfs-image.version", "v1 \"x\"\n"), ("é", "")];
    let full = Installed {
        name: Some("release-1".into()),
        group: Some("g".into()),
        provides: provides.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
    };
    for installed in
        [full, Installed { name: Some("n".into()), ..Installed::default() }, Installed::default()]
    {
        store.save(&installed).expect("saves");
        assert_eq!(InstalledStore::new(&dir.0).load().as_ref(), Ok(&installed));
        assert_eq!(InstalledStore::new(&dir.0).look().as_ref(), Ok(&installed));
    }
    assert_eq!(store.writes(), 3);
    assert_eq!(dir.names(), ["thimble-artifact.a", "thimble-artifact.b"]);
}

#[test]
fn after_damage_the_name_of_what_is_installed_is_unknown() {
    let dir = Dir::new("damaged");
    let unknown = Installed { name: Some("unknown".into()), ..Installed::default() };
    fs::write(dir.file("thimble-artifact.a"), b"rubbish").expect("writes");
    let mut store = InstalledStore::new(&dir.0);
    assert_eq!(store.load().as_ref(), Ok(&unknown));
    assert_eq!(dir.names(), ["thimble-artifact.a", "thimble-artifact.a.broken"]);
    assert_eq!(InstalledStore::new(&dir.0).load().as_ref(), Ok(&unknown), "after a restart too");
    for rubbish in ["", "[]", "{}", r#"{"name":1,"provides":{}}"#, r#"{"provides":{"a":1}}"#] {
        Durable::new(&dir.0, "thimble-artifact", *b"THA1").save(rubbish.as_bytes()).expect("saves");
        assert_eq!(InstalledStore::new(&dir.0).load().as_ref(), Ok(&unknown), "{rubbish}");
    }
}

#[test]
fn the_lock_has_one_holder_and_names_it() {
    let dir = Dir::new("lock");
    let datastore = dir.file("new");
    assert_eq!(holder(&datastore), None);
    assert!(!datastore.exists(), "asking creates nothing");
    let held = lock(&datastore, "install x\n.mender").expect("takes");
    let pid = std::process::id();
    assert_eq!(holder(&datastore), Some((i32::try_from(pid).expect("fits"), "install x.mender".into())));
    let error = lock(&datastore, "daemon").expect_err("busy");
    assert_eq!(error.code, "STORE-BUSY");
    assert_eq!(
        error.text.replace(&format!("{}/", datastore.display()), ""),
        format!(
            "pid {pid} (install x.mender) is at work and holds thimble.lock; wait until it ends, or stop it"
        )
    );
    drop(held);
    assert_eq!(holder(&datastore), None, "what an old file says does not count");
    let again = lock(&datastore, "daemon").expect("free");
    assert_eq!(holder(&datastore).expect("held").1, "daemon");
    drop(again);
    fs::write(datastore.join("thimble.lock"), "pid 1 (daemon)\n").expect("writes");
    assert_eq!(holder(&datastore), None);
}

#[test]
fn a_lock_is_not_followed_through_a_link() {
    let dir = Dir::new("link");
    fs::write(dir.file("victim"), "precious").expect("writes");
    std::os::unix::fs::symlink(dir.file("victim"), dir.file("thimble.lock")).expect("links");
    assert_eq!(lock(&dir.0, "daemon").expect_err("link").code, "STORE-LOCK");
    assert_eq!(holder(&dir.0), None);
    assert_eq!(fs::read(dir.file("victim")).expect("reads"), b"precious");
}

#[test]
fn the_device_type_is_read_as_the_official_clients_read_it() {
    let dir = Dir::new("type");
    let path = dir.file("device_type");
    for (text, expected) in [
        ("device_type=qemu\n", "qemu"),
        ("device_type=qemu", "qemu"),
        ("device_type=qemu\r\n", "qemu"),
        ("# comment\n  device_type =  my board  \n\n\n", "my board"),
        ("other=1\ndevice_type=x=y\n", "x=y"),
        ("device_type=\n", ""),
        ("other=1\n", ""),
        ("", ""),
    ] {
        fs::write(&path, text).expect("writes");
        assert_eq!(device_type(&path).as_deref(), Ok(expected), "{text:?}");
    }
    let long = format!("device_type={}", "x".repeat(4097));
    for (text, why) in [
        ("device_type=a\ndevice_type=b\n", ", line 2: a second device_type; expected one"),
        ("device_type=a\ndevice_type=a\n", ", line 2: a second device_type; expected one"),
        ("device_type\n", ", line 1: expected 'device_type=NAME'"),
        ("device_type=a\n\nb=c\n", ", line 2: expected 'device_type=NAME'"),
        ("device_type=a\u{1b}b\n", ", line 1: a control character in the device type"),
        ("device_type=a\rdevice_type=b\n", ", line 1: a control character in the device type"),
        (long.as_str(), ", line 1: the device type is longer than 4096 characters"),
    ] {
        fs::write(&path, text).expect("writes");
        let error = device_type(&path).expect_err(text);
        assert_eq!((error.code, error.text), ("STORE-DEVICE-TYPE", format!("{}{why}", path.display())));
    }
    fs::write(&path, [b"device_type=", &[0xff][..]].concat()).expect("writes");
    assert!(device_type(&path).expect_err("not text").text.ends_with(" is not UTF-8 text"));
    fs::write(&path, "x".repeat(1 << 20)).expect("writes");
    assert!(device_type(&path).expect_err("long").text.ends_with("longer than 65536 bytes"));
    let missing = device_type(Path::new("/nonexistent/device_type")).expect_err("missing").text;
    assert_eq!(
        missing,
        "cannot read /nonexistent/device_type, which should hold 'device_type=NAME': No such file or directory (os error 2)"
    );
}

#[test]
fn secrets_are_masked() {
    assert_eq!(mask("token abcdef, again abcdef", &["abcdef", "x", ""]), "token ***, again ***");
    assert_eq!(mask("nothing here", &["abcdef"]), "nothing here");
}

#[test]
fn directories_are_created_for_the_owner_only() {
    let dir = Dir::new("create");
    create_directory(&dir.file("x/y")).expect("creates");
    assert_eq!(fs::metadata(dir.file("x/y")).expect("stat").permissions().mode() & 0o777, 0o700);
    fs::write(dir.file("file"), "").expect("writes");
    assert_eq!(create_directory(&dir.file("file")).expect_err("a file").code, "STORE-WRITE");
}
