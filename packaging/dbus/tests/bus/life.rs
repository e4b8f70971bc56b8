//! Start, end, and everything between in which nothing happens.

use crate::device::{AUTHENTICATION, Device, UPDATE, bad, good, run, wait_for};
use std::fs;
use std::time::Duration;

/// Process ID behind a name.
fn owner(device: &Device, name: &str) -> Option<u32> {
    let bus = ["org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus"];
    let output = device.gdbus(bus, "GetConnectionUnixProcessID", &[name]);
    let said = String::from_utf8(output.stdout).expect("text");
    said.trim().strip_prefix("(uint32 ")?.strip_suffix(",)")?.parse().ok()
}

#[test]
fn it_ends_when_it_is_told_to() {
    let device = Device::new("{}");
    for signal in ["TERM", "INT"] {
        let (mut process, _) = device.serve(&[]);
        assert_eq!(owner(&device, UPDATE[0]), Some(process.0.id()));
        process.signal(signal);
        assert_eq!(process.exit_code(), Some(0), "{signal}");
        assert_eq!(owner(&device, UPDATE[0]), None);
    }
}

#[test]
fn the_newest_has_the_names_until_it_ends() {
    let device = Device::new("{}");
    let (older, log) = device.serve(&[]);
    let (mut newer, _) = device.serve(&[]);
    for name in [UPDATE[0], AUTHENTICATION[0]] {
        assert_eq!(owner(&device, name), Some(newer.0.id()), "{name}");
    }
    newer.signal("TERM");
    newer.exit_code();
    for name in [UPDATE[0], AUTHENTICATION[0]] {
        wait_for("the older one", || (owner(&device, name) == Some(older.0.id())).then_some(()));
        let said = fs::read_to_string(&log).expect("text");
        assert!(said.contains(&format!("{name} was taken over")), "{said}");
    }
    assert_eq!(device.token(), "('', '')");
}

#[test]
fn without_a_bus_it_ends_with_an_error() {
    let mut device = Device::new("{}");
    let (mut process, log) = device.serve(&[]);
    device.stop_bus();
    assert_eq!(process.exit_code(), Some(1));
    assert!(fs::read_to_string(log).expect("text").contains("DBUS-LOST"));
    // The next start finds none.
    for address in [device.address.as_str(), "tcp:host=localhost", "nonsense"] {
        let mut command = device.client(env!("CARGO_BIN_EXE_thimble-dbus"));
        command.env("DBUS_SYSTEM_BUS_ADDRESS", address).arg("--root").arg(device.root());
        let said = bad(run(&mut command, "none: it is our own"));
        assert!(said.starts_with("thimble-dbus: DBUS-"), "{address}: {said}");
    }
}

/// A bus that takes the connection and hangs up, or says nothing at all.
#[test]
fn a_bus_without_manners_does_not_keep_it_busy() {
    let device = Device::new("{}");
    let path = device.dir.path().join("rude");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("binds");
    let mut command = device.client(env!("CARGO_BIN_EXE_thimble-dbus"));
    command.env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={}", path.display()));
    command.arg("--root").arg(device.root());
    let hang_up = std::thread::spawn(move || drop(listener.accept()));
    let begin = std::time::Instant::now();
    bad(run(&mut command, "none: it is our own"));
    assert!(begin.elapsed() < Duration::from_secs(15));
    hang_up.join().expect("ends");
}

#[test]
fn nothing_to_do_costs_nothing() {
    let device = Device::new("{}");
    let (process, _) = device.serve(&[]);
    device.put_token("t", "https://x");
    assert_eq!(device.token(), "('t', 'https://x')");
    let wakings = || {
        let status = fs::read_to_string(format!("/proc/{}/status", process.0.id())).expect("text");
        let mut lines = status.lines().filter(|line| line.contains("ctxt_switches"));
        let first = lines.next().expect("a line").to_owned();
        first + lines.next().expect("another")
    };
    std::thread::sleep(Duration::from_millis(500));
    let before = wakings();
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(wakings(), before, "it woke up");
}

#[test]
fn switched_off_in_the_configuration_it_takes_no_name_and_says_so() {
    let device = Device::new(r#"{"DBus":{"Enabled":false}}"#);
    let (mut process, log) = device.start(&[]);
    assert_eq!(process.exit_code(), Some(2), "an init system can tell");
    assert_eq!(
        fs::read_to_string(log).expect("text"),
        "thimble-dbus: switched off: DBus.Enabled is false in mender.conf\n"
    );
    assert_eq!(owner(&device, UPDATE[0]), None);
    let device = Device::new(r#"{"DBus":{"Enabled":true}}"#);
    let (process, _) = device.serve(&[]);
    assert_eq!(owner(&device, AUTHENTICATION[0]), Some(process.0.id()));
}

#[test]
fn a_broken_configuration_is_an_error() {
    let device = Device::new("{");
    let (mut process, log) = device.start(&[]);
    assert_eq!(process.exit_code(), Some(1));
    assert!(fs::read_to_string(log).expect("text").contains("CONFIG-SYNTAX"));
    let other = device.dir.path().join("other.conf");
    fs::write(&other, r#"{"UpdateControlMapExpirationTimeSeconds": 40}"#).expect("writes");
    let _running = device.serve(&["--config", &other.display().to_string()]);
    assert_eq!(good(device.set(r#"{"id":"12345678-90ab-cdef-1234-567890abcdef"}"#)), "(20,)\n");
}
