//! io.mender.Authentication1.

use crate::device::{AUTHENTICATION, Device, Process, bad, good, is_root, run, wait_for, write_token};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};
use thimble::server::{Client, Proxies, Settings};
use thimble_testkit::server::{Options, Server};

const SERVER: &str = "https://updates.example.com";
const NONE: &str = "('', '')";

fn is(token: &str) -> String {
    format!("('{token}', '{SERVER}')")
}

fn fetch(device: &Device) -> String {
    good(device.gdbus(AUTHENTICATION, "FetchJwtToken", &[])).trim_end().to_owned()
}

/// An agent for `--agent`: a script.
fn agent(device: &Device, script: &str) -> PathBuf {
    let path = device.dir.path().join("agent");
    let (dir, token) = (device.dir.path().display(), device.token_file());
    let text = format!("#!/bin/sh\necho \"$@\" >>{dir}/calls\ntoken={}\n{script}\n", token.display());
    fs::write(&path, text).expect("writes");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("sets");
    path
}

fn calls(device: &Device) -> Vec<String> {
    let text = fs::read_to_string(device.dir.path().join("calls")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn the_token_is_that_of_the_agent() {
    let device = Device::new("{}");
    let _running = device.serve(&[]);
    assert_eq!(device.token(), NONE, "before the first authorisation");
    device.put_token("one.two.three", SERVER);
    assert_eq!(device.token(), is("one.two.three"));
    device.put_token("four", SERVER);
    assert_eq!(device.token(), is("four"));
    fs::remove_file(device.token_file()).expect("removes");
    assert_eq!(device.token(), NONE);
}

/// With the agent's own code at the other end of the file, and a server at the other end of the agent.
#[test]
fn what_the_agent_keeps_is_served_and_what_it_forgets_is_not() {
    let device = Device::new("{}");
    let server = Server::start(Options::default());
    let script = device.dir.path().join("identity");
    fs::write(&script, "#!/bin/sh\necho mac=00:11\n").expect("writes");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("sets");
    let mut client = Client::new(Settings {
        servers: vec![server.url()],
        server_certificate: None,
        skip_verify: false,
        client_certificate: None,
        client_key: None,
        tenant_token: String::new(),
        proxies: Proxies::default(),
        device_tier: None,
        root: device.root(),
        key: device.root().join("var/lib/mender/mender-agent.pem"),
        key_is_static: false,
        identity_script: script,
        download_retries: 1,
        download_interval: Duration::from_secs(1),
        time_scale: 0.01,
        last_time: None,
    })
    .expect("good settings");
    let _running = device.serve(&[]);
    let mut monitor = device.monitor();
    client.load_token(&device.token_file());
    client.authorize().expect("is let in");
    let announced = monitor.next();
    assert!(announced.ends_with(&format!("', '{}')", server.url())) && !announced.starts_with("('',"));
    assert_eq!(device.token(), announced);
    // It is the one that the agent itself uses.
    let [_, token, ..] = announced.split('\'').collect::<Vec<_>>()[..] else { panic!("{announced}") };
    client.send_inventory(&Default::default()).expect("is let in");
    let used =
        server.requests().iter().any(|r| r.header("authorization") == Some(&format!("Bearer {token}")));
    assert!(used, "it is the agent's own");
    client.forget_token();
    assert_eq!(monitor.next(), NONE);
}

#[test]
fn a_file_that_is_not_ours_alone_is_no_token() {
    let device = Device::new("{}");
    let _running = device.serve(&[]);
    let (file, whole) = (device.token_file(), format!("thimble token 1\nprint\n{SERVER}\nstolen\n"));
    for mode in [0o644, 0o620, 0o604] {
        write_token(&file, &whole, mode);
        assert_eq!(device.token(), NONE, "mode {mode:o}");
    }
    for text in ["", "thimble token 1\n", "thimble token 2\nprint\nhttps://x\nt\n", whole.trim_end()] {
        write_token(&file, text, 0o600);
        assert_eq!(device.token(), NONE, "{text}");
    }
    let other = device.root().join("other");
    write_token(&other, &whole, 0o600);
    fs::remove_file(&file).expect("removes");
    symlink(&other, &file).expect("links");
    assert_eq!(device.token(), NONE, "a link");
    fs::rename(other, &file).expect("renames");
    assert_eq!(device.token(), is("stolen"), "or else this test proves nothing");
}

#[test]
fn changes_are_announced() {
    let device = Device::new("{}");
    device.put_token("first", SERVER);
    let _running = device.serve(&[]);
    let mut monitor = device.monitor();
    device.put_token("second", SERVER);
    assert_eq!(monitor.next(), is("second"));
    fs::remove_file(device.token_file()).expect("removes");
    assert_eq!(monitor.next(), NONE);
    device.put_token("third", SERVER);
    assert_eq!(monitor.next(), is("third"));
    // The same again, and other files there.
    device.put_token("third", SERVER);
    fs::write(device.root().join("run/other"), "x").expect("writes");
    monitor.quiet(Duration::from_millis(300));
    fs::set_permissions(device.token_file(), fs::Permissions::from_mode(0o644)).expect("sets");
    assert_eq!(monitor.next(), NONE, "readable for everybody");
}

#[test]
fn a_directory_that_comes_later_is_seen() {
    let device = Device::new("{}");
    fs::remove_dir(device.root().join("run")).expect("removes");
    let _running = device.serve(&[]);
    let mut monitor = device.monitor();
    for token in ["one", "two"] {
        fs::create_dir(device.root().join("run")).expect("makes");
        device.put_token(token, SERVER);
        assert_eq!(monitor.next(), is(token));
        fs::remove_dir_all(device.root().join("run")).expect("removes");
        assert_eq!(monitor.next(), NONE);
    }
}

#[test]
fn without_a_daemon_the_agent_is_started() {
    let device = Device::new("{}");
    let script = format!(
        "umask 077\nprintf 'thimble token 1\\nprint\\n{SERVER}\\nfresh\\n' >$token.new && mv $token.new $token"
    );
    let agent = agent(&device, &script).display().to_string();
    let datastore = device.root().join("var/lib/mender").display().to_string();
    let _running = device.serve(&["--agent", &agent, "-d", &datastore]);
    let mut monitor = device.monitor();
    assert_eq!(fetch(&device), "(true,)");
    assert_eq!(monitor.next(), is("fresh"));
    let root = device.root();
    assert_eq!(
        calls(&device),
        [format!("--root {} --datastore {datastore} bootstrap", root.display())],
        "with the options that we were given"
    );
    assert_eq!(device.token(), is("fresh"));
}

#[test]
fn every_attempt_is_announced_also_in_vain() {
    let device = Device::new("{}");
    device.put_token("old", SERVER);
    let agent = agent(&device, "exit 1").display().to_string();
    let _running = device.serve(&["--agent", &agent]);
    let mut monitor = device.monitor();
    for _ in 0..2 {
        assert_eq!(fetch(&device), "(true,)", "accepted, not done (D6)");
        assert_eq!(monitor.next(), is("old"));
    }
    fs::remove_file(device.token_file()).expect("removes");
    assert_eq!(monitor.next(), NONE);
    assert_eq!(fetch(&device), "(true,)");
    assert_eq!(monitor.next(), NONE);
    assert_eq!(calls(&device).len(), 3);
}

#[test]
fn one_attempt_at_a_time() {
    let device = Device::new("{}");
    let agent = agent(&device, &format!("sleep 1; echo done >{}/done", device.dir.path().display()));
    let _running = device.serve(&["--agent", &agent.display().to_string()]);
    let mut monitor = device.monitor();
    for _ in 0..3 {
        assert_eq!(fetch(&device), "(true,)");
    }
    // Others are served meanwhile.
    assert_eq!(device.token(), NONE);
    assert!(!device.dir.path().join("done").exists());
    assert_eq!(monitor.next(), NONE);
    monitor.quiet(Duration::from_millis(300));
    assert_eq!(calls(&device).len(), 1);
    assert_eq!(fetch(&device), "(true,)");
    assert_eq!(monitor.next(), NONE);
    assert_eq!(calls(&device).len(), 2);
}

#[test]
fn an_agent_that_cannot_be_started_is_said_to_the_caller() {
    let device = Device::new("{}");
    let (_running, log) = device.serve(&["--agent", "/nonexistent/thimble"]);
    assert_eq!(fetch(&device), "(false,)");
    let said = fs::read_to_string(log).expect("text");
    assert!(said.contains("FetchJwtToken: cannot start /nonexistent/thimble"), "{said}");
}

/// Holds the lock of the data store as the daemon does; writes down which signals it gets. With `answer` it leaves a
/// new token then.
fn daemon(device: &Device, answer: bool) -> Process {
    let program = r#"
import fcntl, os, signal, sys
store, token, seen, answer = sys.argv[1:]
def come(number, frame):
    if answer == "true":
        descriptor = os.open(token + ".new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(descriptor, b"thimble token 1\nprint\nhttps://updates.example.com\nnew\n")
        os.rename(token + ".new", token)
    open(seen, "a").write("%d\n" % number)
for number in (signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, come)
lock = open(store + "/thimble.lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX)
lock.write("pid %d (daemon)" % os.getpid())
lock.flush()
open(seen, "w").write("")
while True:
    signal.pause()
"#;
    let seen = device.dir.path().join("seen");
    let mut command = device.client("/usr/bin/python3");
    command.args(["-c", program]).arg(device.root().join("var/lib/mender")).arg(device.token_file());
    let child = command.arg(&seen).arg(answer.to_string()).spawn().expect("the Debian package python3");
    wait_for("the daemon", || seen.exists().then_some(()));
    Process(child)
}

#[test]
fn a_daemon_is_woken() {
    let device = Device::new("{}");
    let _daemon = daemon(&device, true);
    let agent = agent(&device, "").display().to_string();
    let _running = device.serve(&["--agent", &agent]);
    let mut monitor = device.monitor();
    let begin = Instant::now();
    assert_eq!(fetch(&device), "(true,)");
    assert_eq!(monitor.next(), is("new"));
    assert!(begin.elapsed() < Duration::from_secs(4), "told when it is there");
    let seen = || fs::read_to_string(device.dir.path().join("seen")).expect("text");
    wait_for("the signal", || (!seen().is_empty()).then_some(()));
    assert_eq!(seen(), "12\n", "SIGUSR2: no deployment starts because of this");
    monitor.quiet(Duration::from_millis(300));
    assert_eq!(calls(&device), [""; 0], "no second thimble");
}

#[test]
fn a_daemon_that_keeps_its_token_is_announced_after_a_while() {
    let device = Device::new("{}");
    let _daemon = daemon(&device, false);
    device.put_token("kept", SERVER);
    let _running = device.serve(&[]);
    let mut monitor = device.monitor();
    assert_eq!(fetch(&device), "(true,)");
    let begin = Instant::now();
    assert_eq!(monitor.next(), is("kept"));
    assert!(begin.elapsed() > Duration::from_secs(3));
    monitor.quiet(Duration::from_millis(300));
}

#[test]
fn python_works() {
    let device = Device::new("{}");
    let agent = agent(&device, "").display().to_string();
    let _running = device.serve(&["--agent", &agent]);
    device.put_token("abc", SERVER);
    let program = r#"
import dbus
proxy = dbus.SystemBus().get_object("io.mender.AuthenticationManager", "/io/mender/AuthenticationManager")
authentication = dbus.Interface(proxy, "io.mender.Authentication1")
token, server = authentication.GetJwtToken()
assert (token, server) == ("abc", "https://updates.example.com"), (token, server)
assert isinstance(token, dbus.String) and isinstance(server, dbus.String)
fetched = authentication.FetchJwtToken()
assert fetched == True and isinstance(fetched, dbus.Boolean), repr(fetched)
assert dict(proxy.GetAll("io.mender.Authentication1", dbus_interface="org.freedesktop.DBus.Properties")) == {}
"#;
    good(device.python(program));
}

/// Whoever has the token speaks for the device.
#[test]
fn only_root_gets_the_token() {
    let device = Device::new("{}");
    let nobody = |program: &str| {
        let mut command = device.client("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", program]);
        command
    };
    if !is_root() {
        // The tests' own user takes the part of root, and there is nobody to take that of another.
        return;
    }
    let _running = device.serve(&[]);
    device.put_token("secret", SERVER);
    for (what, method) in [
        (AUTHENTICATION, "GetJwtToken"),
        (AUTHENTICATION, "FetchJwtToken"),
        (crate::device::UPDATE, "SetUpdateControlMap"),
    ] {
        let [name, path, interface] = what;
        let mut command = nobody("dbus-send");
        command.args(["--system", "--print-reply", &format!("--dest={name}"), path]);
        command.arg(format!("{interface}.{method}"));
        if method == "SetUpdateControlMap" {
            command.arg("string:{}");
        }
        let said = bad(run(&mut command, "dbus-bin"));
        assert!(said.contains("org.freedesktop.DBus.Error.AccessDenied"), "{method}: {said}");
    }
    // Nor by listening.
    let mut outsider = device.listen(&mut nobody("gdbus"));
    let mut monitor = device.monitor();
    device.put_token("newer", SERVER);
    assert_eq!(monitor.next(), is("newer"));
    outsider.quiet(Duration::from_millis(300));
    // Nor by taking the names.
    let mut command = nobody(env!("CARGO_BIN_EXE_thimble-dbus"));
    command.arg("--root").arg(device.root()).stdout(Stdio::null());
    let said = bad(run(&mut command, "util-linux"));
    assert!(said.contains("DBUS-NAME") && said.contains("policy file"), "{said}");
}
