//! The token that one-shot runs leave for each other (decision 22).

use crate::mock::{AUTH, Device, NEXT2, Server, accepting, reply};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use thimble::server::{Client, Settings};

const STATUS: &str = "PUT /api/devices/v1/deployments/device/deployments/d-1/status";

fn server() -> Server {
    Server::start(accepting(|_, _| reply(204, &[], b"")))
}

fn place(device: &Device) -> PathBuf {
    let run = device.dir.join("run");
    fs::create_dir_all(&run).expect("makes");
    run.join("thimble-token")
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("is there").permissions().mode() & 0o7777
}

/// What a run does.
fn run(settings: Settings, path: &Path) {
    let mut client = Client::new(settings).expect("good");
    client.load_token(path);
    client.report("d-1", "installing").expect("works");
}

#[test]
fn the_next_run_goes_on_with_the_token() {
    let device = Device::new();
    let (server, path) = (server(), place(&device));
    run(device.settings(&[server.url()]), &path);
    assert_eq!(mode(&path), 0o600);
    let written = fs::metadata(&path).expect("is there").modified().expect("time");
    // Not even the identity is read.
    device.identity("exit 1");
    run(device.settings(&[server.url()]), &path);
    assert_eq!(server.lines(), [AUTH, STATUS, STATUS]);
    assert_eq!(server.seen()[2].header("Authorization"), Some("Bearer t0"));
    assert_eq!(fs::metadata(&path).expect("is there").modified().expect("time"), written, "nothing to write");
}

#[test]
fn a_new_token_is_kept_at_once_and_an_old_one_not_taken_up_unless_asked_for() {
    let device = Device::new();
    let (server, path) = (server(), place(&device));
    run(device.settings(&[server.url()]), &path);
    let text = || fs::read_to_string(&path).expect("a token");
    assert!(text().ends_with("\nt0\n"));
    let mut client = device.client(&[&server]);
    client.keep_token(&path);
    client.authorize().expect("accepted");
    assert!(text().ends_with("\nt2\n"), "whoever reads the file has the latest");
    assert_eq!(mode(&path), 0o600);
    client.report("d-1", "installing").expect("works");
    assert_eq!(server.lines(), [AUTH, STATUS, AUTH, STATUS]);
}

#[test]
fn a_token_for_another_key_tenant_or_list_of_servers_is_dropped() {
    let changes: [fn(&Device, &mut Settings); 5] = [
        |_, settings| settings.tenant_token = "other".into(),
        |_, settings| settings.servers.push("http://127.0.0.1:9".into()),
        |_, settings| {
            settings.servers.insert(0, format!("{}/", settings.servers[0].replace("127.0.0.1", "localhost")))
        },
        |_, settings| fs::remove_file(&settings.key).expect("removes"),
        |device, settings| {
            settings.key = device.dir.join("other.pem");
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let device = Device::new();
        let (server, path) = (server(), place(&device));
        run(device.settings(&[server.url()]), &path);
        let mut settings = device.settings(&[server.url()]);
        change(&device, &mut settings);
        run(settings.clone(), &path);
        assert_eq!(server.lines(), [AUTH, STATUS, AUTH, STATUS], "{number}");
        // The new one is kept in its place.
        run(settings, &path);
        assert_eq!(server.lines().len(), 5, "{number}");
    }
}

#[test]
fn the_tenant_and_the_servers_are_not_run_together() {
    let device = Device::new();
    let (server, path) = (server(), place(&device));
    let mut settings = device.settings(&[server.url()]);
    settings.tenant_token = "ab".into();
    run(settings.clone(), &path);
    settings.tenant_token = " ab\n".into(); // the same
    run(settings, &path);
    assert_eq!(server.lines(), [AUTH, STATUS, STATUS]);
}

#[test]
fn a_token_that_the_server_refuses_is_removed_and_replaced() {
    let device = Device::new();
    let path = place(&device);
    let server = Server::start(accepting(|seen, number| {
        let good = number < 2 || seen.header("Authorization") == Some("Bearer t3");
        if good { reply(204, &[], b"") } else { reply(401, &[], b"") }
    }));
    run(device.settings(&[server.url()]), &path);
    run(device.settings(&[server.url()]), &path);
    assert_eq!(server.lines(), [AUTH, STATUS, STATUS, AUTH, STATUS]);
    run(device.settings(&[server.url()]), &path);
    assert_eq!(server.seen()[5].header("Authorization"), Some("Bearer t3"));
}

#[test]
fn a_device_that_is_not_accepted_any_more_keeps_no_token() {
    let device = Device::new();
    let path = place(&device);
    let server = Server::start(|seen, number| match number {
        0 => reply(200, &[], b"t"),
        1 => reply(204, &[], b""),
        _ => reply(if seen.line() == AUTH { 401 } else { 500 }, &[], b""),
    });
    run(device.settings(&[server.url()]), &path);
    let mut client = device.client(&[&server]);
    client.load_token(&path);
    client.authorize().expect_err("rejected");
    assert!(!path.exists());
}

#[test]
fn forgetting_the_token_removes_the_kept_one_at_once() {
    let device = Device::new();
    let (server, path) = (server(), place(&device));
    run(device.settings(&[server.url()]), &path);
    let mut client = device.client(&[&server]);
    client.load_token(&path);
    client.forget_token();
    assert!(!path.exists(), "a power cut now must not bring it back");
    client.report("d-1", "success").expect("works");
    assert_eq!(server.lines(), [AUTH, STATUS, AUTH, STATUS]);
    // Without a kept token there is nothing to remove.
    device.client(&[&server]).forget_token();
}

#[test]
fn a_file_that_others_could_have_written_or_read_is_not_believed() {
    let device = Device::new();
    let (server, path) = (server(), place(&device));
    let good = device.dir.join("good");
    run(device.settings(&[server.url()]), &path);
    fs::rename(&path, &good).expect("moves");
    let text = fs::read_to_string(&good).expect("reads");
    let put = |text: &str, mode: u32| {
        let _ = fs::remove_file(&path);
        fs::write(&path, text).expect("writes");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
    };
    let used = || {
        let before = server.lines().len();
        run(device.settings(&[server.url()]), &path);
        server.lines().len() == before + 1
    };
    put(&text, 0o600);
    assert!(used());
    put(&text, 0o400);
    assert!(used());
    for mode in [0o640, 0o604, 0o620, 0o666] {
        put(&text, mode);
        assert!(!used(), "{mode:o}");
        assert_eq!(fs::read_to_string(&good).expect("reads"), text);
    }
    put(&text, 0o600);
    if chown(&path, Some(12345), None).is_ok() {
        assert!(!used(), "only root can try this");
    }
    fs::remove_file(&path).expect("removes");
    symlink(&good, &path).expect("links");
    assert!(!used());
    assert!(fs::symlink_metadata(&path).expect("is there").is_file(), "replaced, not followed");
    assert_eq!(fs::read_to_string(&good).expect("reads"), text);
    let cut = &text[..text.len() - 1];
    let lines: Vec<&str> = text.lines().collect();
    let elsewhere = text.replace(lines[2], "http://127.0.0.1:9");
    let header = text.replace(lines[3], "t0\rX-Evil: 1");
    let other = text.replace(lines[0], "thimble token 2");
    for bad in ["", "\n\n\n\n", "\u{0}", cut, &lines[..3].join("\n"), &elsewhere, &header, &other] {
        put(bad, 0o600);
        assert!(!used(), "{bad}");
    }
    fs::remove_file(&path).expect("removes");
    fs::create_dir(&path).expect("makes");
    assert!(!used());
}

#[test]
fn without_a_directory_of_ours_nothing_is_kept() {
    let device = Device::new();
    let server = server();
    let path = device.dir.join("run/thimble-token");
    run(device.settings(&[server.url()]), &path);
    assert!(!device.dir.join("run").exists());
    fs::create_dir(device.dir.join("real")).expect("makes");
    symlink(device.dir.join("real"), device.dir.join("run")).expect("links");
    run(device.settings(&[server.url()]), &path);
    assert!(!path.exists());
    assert_eq!(server.lines(), [AUTH, STATUS, AUTH, STATUS]);
}

#[test]
fn check_keeps_its_token_for_the_next_check_and_only_in_run() {
    let device = Device::new();
    let server = Server::start(accepting(|seen, _| {
        if seen.line() == NEXT2 { reply(204, &[], b"") } else { reply(200, &[], b"") }
    }));
    let path = place(&device);
    for _ in 0..2 {
        let done = device.run(&server.url(), "check", &[]);
        assert!(done.status.success(), "{done:?}");
    }
    let count = |line: &str| server.lines().iter().filter(|l| *l == line).count();
    assert_eq!((count(AUTH), count(NEXT2)), (1, 2), "{:?}", server.lines());
    assert_eq!(mode(&path), 0o600);
    fs::remove_dir_all(path.parent().expect("run")).expect("removes");
    assert!(device.run(&server.url(), "check", &[]).status.success());
    for file in fs::read_dir(device.dir.join("var/lib/mender")).expect("lists").flatten() {
        assert!(!file.file_name().to_string_lossy().contains("token"), "{file:?}");
    }
    assert_eq!(count(AUTH), 2);
}
