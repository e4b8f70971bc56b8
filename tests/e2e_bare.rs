//! A root file system with nothing but busybox: no resolv.conf, no CA bundle, no mtab, no passwd, no /proc. What is
//! missed is said, with what to do about it; the rest works.
//!
//! In a chroot, as root or in a user namespace. `THIMBLE_BIN` names the program; a dynamic one brings its libraries.
#![allow(clippy::expect_used, clippy::panic)] // These are tests.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use thimble_testkit::{Options, Server, TempDir, make_certificates, measured, tool};

const THIMBLE: &str = env!("CARGO_BIN_EXE_thimble");

struct Bare {
    root: PathBuf,
    server: Server,
    dir: TempDir,
}

impl Bare {
    fn new(name: &str) -> Bare {
        let dir = TempDir::new(name);
        let certificates = make_certificates(&dir.path().join("made")).expect("certificates");
        let server = Server::start(Options { tls: Some(certificates.tls()), ..Options::default() });
        let bare = Bare { root: dir.path().join("root"), server, dir };
        bare.install(Path::new("/bin/busybox"), "bin/busybox");
        symlink("busybox", bare.root.join("bin/sh")).expect("a link");
        let thimble = measured(THIMBLE).0;
        bare.install(&thimble, "usr/bin/thimble");
        // What a dynamic program needs; `ldd` fails for a static one.
        let libraries = tool::run("ldd", "libc-bin", &[&thimble]).unwrap_or_default();
        for word in
            String::from_utf8_lossy(&libraries).split_whitespace().filter(|word| word.starts_with('/'))
        {
            bare.install(Path::new(word), &word[1..]);
        }
        bare.write("var/lib/mender/device_type", "device_type=bare\n");
        let identity =
            bare.write("usr/share/mender/identity/mender-device-identity", "#!/bin/sh\necho id=1\n");
        fs::set_permissions(identity, fs::Permissions::from_mode(0o755)).expect("executable");
        bare.write("dev/null", "");
        bare
    }

    fn install(&self, from: &Path, to: &str) {
        let to = self.root.join(to);
        fs::create_dir_all(to.parent().expect("a directory")).expect("makes it");
        fs::copy(from, to)
            .unwrap_or_else(|e| panic!("{}: {e} (Debian package busybox-static)", from.display()));
    }

    fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("makes it");
        fs::write(&path, text).expect("writes");
        path
    }

    fn check(&self, config: &str) -> (Option<i32>, String) {
        self.write("etc/mender/mender.conf", config);
        let root = tool::run("id", "coreutils", &["-u"]).expect("id") == b"0\n";
        let mut command = Command::new(if root { "chroot" } else { "unshare" });
        if !root {
            command.args(["--user", "--map-root-user", "chroot"]);
        }
        let Output { status, stderr, .. } = command
            .arg(&self.root)
            .args(["/usr/bin/thimble", "check"])
            .env_clear()
            .env("PATH", tool::TOOL_PATH)
            .output()
            .expect("chroot (coreutils), unshare (util-linux)");
        (status.code(), String::from_utf8_lossy(&stderr).into_owned())
    }
}

#[test]
fn without_resolv_conf_the_message_says_so() {
    let bare = Bare::new("dns");
    let config = r#"{"ServerURL": "https://no-such-host.invalid"}"#;
    let (code, said) = bare.check(config);
    assert_eq!(code, Some(1), "{said}");
    for part in ["NET-NAME", "`no-such-host.invalid`", "There is no /etc/resolv.conf", "nameserver ADDRESS"] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    bare.write("etc/resolv.conf", "# nothing\n");
    let (_, said) = bare.check(config);
    assert!(said.contains("/etc/resolv.conf names no DNS server"), "{said}");
}

#[test]
fn without_certificates_the_message_says_where_they_should_be() {
    let bare = Bare::new("ca");
    let (code, said) = bare.check(&format!("{{\"ServerURL\": \"{}\"}}", bare.server.url()));
    assert_eq!(code, Some(1), "{said}");
    for part in
        ["TLS-TRUST", "/etc/ssl/certs/ca-certificates.crt", "Install ca-certificates", "ServerCertificate"]
    {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
}

#[test]
fn with_the_servers_certificate_a_check_needs_nothing_else() {
    let bare = Bare::new("works");
    let ca = fs::read_to_string(bare.dir.path().join("made/ca.pem")).expect("the CA");
    bare.write("etc/mender/server.crt", &ca);
    let url = bare.server.url();
    let config = format!("{{\"ServerURL\": \"{url}\", \"ServerCertificate\": \"/etc/mender/server.crt\"}}");
    let (code, said) = bare.check(&config);
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("ERROR"), "{said}");
    assert_eq!(bare.server.violations(), Vec::<String>::new());
    assert_eq!(bare.server.inventory().get("device_type").map(String::as_str), Some("bare"));
}
