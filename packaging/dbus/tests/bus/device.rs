//! A device of its own for each test: a root directory, a system bus with our policy files, thimble-dbus.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use thimble_testkit::tempdir::TempDir;
use thimble_testkit::tool::TOOL_PATH;

/// Both names, with their objects and interfaces.
pub const UPDATE: [&str; 3] = ["io.mender.UpdateManager", "/io/mender/UpdateManager", "io.mender.Update1"];
pub const AUTHENTICATION: [&str; 3] =
    ["io.mender.AuthenticationManager", "/io/mender/AuthenticationManager", "io.mender.Authentication1"];

/// The rules of the system bus, as D-Bus itself ships them.
const RULES: &str = r#"
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Introspectable"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Properties"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Debug.Stats"/>
  </policy>"#;

/// A child that does not outlive its test.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    pub fn signal(&self, name: &str) {
        good(run(Command::new("kill").args(["-s", name, &self.0.id().to_string()]), "procps"));
    }

    /// Its exit code, within a few seconds.
    pub fn exit_code(&mut self) -> Option<i32> {
        wait_for("the end of a process", || self.0.try_wait().expect("can be asked")).code()
    }
}

pub struct Device {
    pub dir: TempDir,
    root: PathBuf,
    pub address: String,
    count: Cell<u32>,
    bus: Process,
}

/// Starts a program; a missing one is an error that names its Debian package.
fn start(command: &mut Command, package: &str) -> Child {
    command.env("PATH", TOOL_PATH).env("LC_ALL", "C").stdin(Stdio::null());
    command.spawn().unwrap_or_else(|e| match e.kind() {
        ErrorKind::NotFound => {
            panic!("the tool {:?} is missing: install the Debian package {package}", command.get_program())
        }
        _ => panic!("cannot run {command:?}: {e}"),
    })
}

pub fn run(command: &mut Command, package: &str) -> Output {
    let child = start(command.stdout(Stdio::piped()).stderr(Stdio::piped()), package);
    child.wait_with_output().expect("ends")
}

/// Standard output of a program that must have succeeded.
pub fn good(output: Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    String::from_utf8(output.stdout).expect("text")
}

/// Standard error of a program that must have failed.
pub fn bad(output: Output) -> String {
    assert!(!output.status.success(), "it worked: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).expect("text")
}

pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn is_root() -> bool {
    fs::metadata("/proc/self").expect("/proc").uid() == 0
}

impl Device {
    /// With a bus and a configuration; thimble-dbus is not running yet.
    pub fn new(config: &str) -> Device {
        let dir = TempDir::new("dbus");
        let root = dir.path().join("root");
        for name in ["etc/mender", "var/lib/mender", "run"] {
            fs::create_dir_all(root.join(name)).expect("makes");
        }
        fs::write(root.join("etc/mender/mender.conf"), config).expect("writes");
        Device::with(dir, root)
    }

    /// The bus for a device that is there already.
    pub fn around(root: &Path) -> Device {
        Device::with(TempDir::new("dbus"), root.to_owned())
    }

    fn with(dir: TempDir, root: PathBuf) -> Device {
        fs::create_dir(dir.path().join("policy")).expect("makes");
        let (address, bus) = start_bus(dir.path());
        Device { dir, root, address, count: Cell::new(0), bus }
    }

    /// Without a bus from now on.
    pub fn stop_bus(&mut self) {
        self.bus.signal("KILL");
        self.bus.exit_code();
    }

    pub fn root(&self) -> PathBuf {
        self.root.clone()
    }

    pub fn control_d(&self) -> PathBuf {
        self.root().join("var/lib/mender/control.d")
    }

    /// What waits for the agent: names and contents.
    pub fn dropped(&self) -> Vec<(String, String)> {
        let entries = fs::read_dir(self.control_d()).into_iter().flatten().flatten();
        let mut files: Vec<_> = entries
            // The name under which a map is written is gone when the map is there.
            .filter_map(|e| match fs::read_to_string(e.path()) {
                Ok(text) => Some((e.file_name().into_string().expect("text"), text)),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
                Err(e) => panic!("cannot read a map: {e}"),
            })
            .collect();
        files.sort();
        files
    }

    /// thimble-dbus, not yet ready.
    pub fn start(&self, extra: &[&str]) -> (Process, PathBuf) {
        self.count.set(self.count.get() + 1);
        let log = self.dir.path().join(format!("log{}", self.count.get()));
        let mut command = Command::new(env!("CARGO_BIN_EXE_thimble-dbus"));
        command.arg("--root").arg(self.root()).args(extra);
        command.env("DBUS_SYSTEM_BUS_ADDRESS", &self.address).stderr(File::create(&log).expect("makes"));
        (Process(start(&mut command, "none: it is our own")), log)
    }

    /// thimble-dbus, ready to be called.
    pub fn serve(&self, extra: &[&str]) -> (Process, PathBuf) {
        let (process, log) = self.start(extra);
        wait_for("thimble-dbus", || {
            let said = fs::read_to_string(&log).expect("text");
            assert!(!said.contains("DBUS-"), "{said}");
            said.contains("serving").then_some(())
        });
        (process, log)
    }

    pub fn client(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("DBUS_SYSTEM_BUS_ADDRESS", &self.address);
        command
    }

    /// A call with gdbus, which asks for the types of the arguments first.
    pub fn gdbus(&self, [name, path, interface]: [&str; 3], method: &str, arguments: &[&str]) -> Output {
        let mut command = self.client("gdbus");
        command.args(["call", "--system", "--dest", name, "--object-path", path, "--method"]);
        run(command.arg(format!("{interface}.{method}")).args(arguments), "libglib2.0-bin")
    }

    pub fn set(&self, map: &str) -> Output {
        self.gdbus(UPDATE, "SetUpdateControlMap", &[map])
    }

    /// What GetJwtToken says, as gdbus prints it.
    pub fn token(&self) -> String {
        good(self.gdbus(AUTHENTICATION, "GetJwtToken", &[])).trim_end().to_owned()
    }

    /// A program for Debian's Python, which has python3-dbus.
    pub fn python(&self, program: &str) -> Output {
        let output = run(self.client("/usr/bin/python3").args(["-c", program]), "python3");
        let said = String::from_utf8_lossy(&output.stderr);
        let missing = said.contains("No module named 'dbus'");
        assert!(!missing, "Python's dbus is missing: install the Debian package python3-dbus");
        output
    }

    pub fn token_file(&self) -> PathBuf {
        self.root().join("run/thimble-token")
    }

    /// As the agent does it.
    pub fn put_token(&self, token: &str, server: &str) {
        write_token(&self.token_file(), &format!("thimble token 1\nprint\n{server}\n{token}\n"), 0o600);
    }

    /// Whatever is announced from now on.
    pub fn monitor(&self) -> Monitor {
        self.listen(&mut self.client("gdbus"))
    }

    /// The same with another gdbus.
    pub fn listen(&self, gdbus: &mut Command) -> Monitor {
        let mut monitor = Monitor::start(gdbus);
        let owner = loop {
            let line = monitor.line();
            if let Some((_, owner)) = line.split_once("is owned by ") {
                break owner.to_owned();
            }
        };
        // Only then it asks the bus for the signals, and does not say when that is done: the bus does.
        wait_for("the monitor", || {
            let bus = ["org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus.Debug.Stats"];
            let rules = good(self.gdbus(bus, "GetAllMatchRules", &[]));
            rules.contains(&format!("sender='{owner}'")).then_some(())
        });
        monitor
    }
}

pub fn write_token(path: &Path, text: &str, mode: u32) {
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new).expect("makes");
    file.write_all(text.as_bytes()).expect("writes");
    fs::set_permissions(&new, fs::Permissions::from_mode(mode)).expect("sets");
    fs::rename(new, path).expect("renames");
}

/// Signals of the authentication interface, as gdbus prints them.
pub struct Monitor {
    _process: Process,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Monitor {
    fn start(command: &mut Command) -> Monitor {
        command.args(["monitor", "--system", "--dest", AUTHENTICATION[0]]).stdout(Stdio::piped());
        let mut child = start(command, "libglib2.0-bin");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok());
        });
        Monitor { _process: Process(child), lines }
    }

    fn line(&mut self) -> String {
        self.lines.recv_timeout(Duration::from_secs(20)).expect("a line in time")
    }

    /// The next announcement: `('token', 'server')`.
    pub fn next(&mut self) -> String {
        loop {
            let line = self.line();
            if let Some(said) = line.strip_prefix(
                "/io/mender/AuthenticationManager: io.mender.Authentication1.JwtTokenStateChange ",
            ) {
                return said.to_owned();
            }
        }
    }

    /// Nothing is announced for so long.
    pub fn quiet(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while let Ok(line) = self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            assert!(!line.contains("JwtTokenStateChange"), "{line}");
        }
    }
}

fn start_bus(dir: &Path) -> (String, Process) {
    // Our policy files as they are, except that tests of an ordinary user have no root.
    let uid = fs::metadata(dir).expect("is there").uid().to_string();
    let user = if is_root() { "root" } else { uid.as_str() };
    for name in [UPDATE[0], AUTHENTICATION[0]] {
        let file = format!("{name}.conf");
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&file)).expect("text");
        let text = text.replace("user=\"root\"", &format!("user=\"{user}\""));
        fs::write(dir.join("policy").join(file), text).expect("writes");
    }
    let (socket, policy, config) = (dir.join("bus"), dir.join("policy"), dir.join("bus.conf"));
    let (socket, policy) = (socket.display(), policy.display());
    let text = format!(
        "<busconfig>\n  <type>system</type>\n  <listen>unix:path={socket}</listen>\n  <auth>EXTERNAL</auth>{RULES}\n  \
         <includedir>{policy}</includedir>\n</busconfig>\n"
    );
    fs::write(&config, text).expect("writes");
    let mut command = Command::new("dbus-daemon");
    command.arg(format!("--config-file={}", config.display())).args(["--nofork", "--print-address"]);
    command.stdout(Stdio::piped()).stderr(File::create(dir.join("bus.log")).expect("makes"));
    let mut child = start(&mut command, "dbus");
    let mut address = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut address).expect("text");
    (address.trim().to_owned(), Process(child))
}
