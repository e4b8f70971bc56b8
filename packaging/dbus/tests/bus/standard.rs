//! What D-Bus expects of every object, and what callers get who ask for what is not there.

use crate::device::{AUTHENTICATION, Device, UPDATE, bad, good, run};

#[test]
fn the_interfaces_describe_themselves() {
    let device = Device::new("{}");
    let _running = device.serve(&[]);
    let introspect = |[name, path, _]: [&str; 3]| {
        let mut command = device.client("gdbus");
        command.args(["introspect", "--system", "--dest", name, "--object-path", path]);
        good(run(&mut command, "libglib2.0-bin"))
    };
    let update = introspect(UPDATE);
    let method =
        "SetUpdateControlMap(in  s update_control_map,\n                          out i refresh_timeout);";
    assert!(update.contains(method), "{update}");
    let authentication = introspect(AUTHENTICATION);
    for part in [
        "GetJwtToken(out s token,\n                  out s server_url);",
        "FetchJwtToken(out b success);",
        "JwtTokenStateChange(s token,\n                          s server_url);",
    ] {
        assert!(authentication.contains(part), "{authentication}");
    }
    // Nothing else of ours (D9).
    assert_eq!(update.matches("interface io.mender").count(), 1, "{update}");
    assert_eq!(authentication.matches("interface io.mender").count(), 1, "{authentication}");
    // From the root of the tree.
    let mut command = device.client("gdbus");
    command.args(["introspect", "--system", "--recurse", "--dest", UPDATE[0], "--object-path", "/"]);
    let tree = good(run(&mut command, "libglib2.0-bin"));
    assert!(tree.contains("node /io/mender/UpdateManager {"), "{tree}");
    assert!(tree.contains("node /io/mender/AuthenticationManager {"), "{tree}");
}

#[test]
fn busctl_works() {
    let device = Device::new(r#"{"UpdateControlMapExpirationTimeSeconds": 600}"#);
    let _running = device.serve(&[]);
    let busctl = |arguments: &[&str]| {
        let mut command = device.client("busctl");
        command.args(["--no-pager", &format!("--address={}", device.address)]);
        run(command.args(arguments), "systemd")
    };
    let [name, path, interface] = UPDATE;
    let table = good(busctl(&["introspect", name, path, interface]));
    let row: Vec<&str> = table.lines().nth(1).expect("a row").split_whitespace().collect();
    assert_eq!(row, [".SetUpdateControlMap", "method", "s", "i", "-"]);
    let map = r#"{"id":"12345678-90ab-cdef-1234-567890abcdef"}"#;
    assert_eq!(good(busctl(&["call", name, path, interface, "SetUpdateControlMap", "s", map])), "i 300\n");
    let [name, path, interface] = AUTHENTICATION;
    assert_eq!(good(busctl(&["call", name, path, interface, "GetJwtToken"])), "ss \"\" \"\"\n");
    let tree = good(busctl(&["tree", "--list", name]));
    assert!(tree.contains("/io/mender/AuthenticationManager"), "{tree}");
}

#[test]
fn peers_are_answered() {
    let device = Device::new("{}");
    let _running = device.serve(&[]);
    let [name, path, _] = UPDATE;
    for object in [path, "/"] {
        assert_eq!(good(device.gdbus([name, object, "org.freedesktop.DBus.Peer"], "Ping", &[])), "()\n");
    }
    let properties = [name, path, "org.freedesktop.DBus.Properties"];
    assert_eq!(good(device.gdbus(properties, "GetAll", &["io.mender.Update1"])), "(@a{sv} {},)\n");
}

#[test]
fn what_is_not_there_is_an_error_of_the_usual_name() {
    let device = Device::new("{}");
    let _running = device.serve(&[]);
    let [name, path, interface] = UPDATE;
    let [_, other, authentication] = AUTHENTICATION;
    for (call, method, argument, error) in [
        ([name, path, interface], "Bogus", None, "UnknownMethod"),
        ([name, path, "io.mender.Update2"], "SetUpdateControlMap", Some("string:{}"), "UnknownMethod"),
        ([name, other, interface], "SetUpdateControlMap", Some("string:{}"), "UnknownMethod"),
        ([name, "/bogus", interface], "SetUpdateControlMap", Some("string:{}"), "UnknownMethod"),
        ([name, path, interface], "SetUpdateControlMap", None, "InvalidArgs"),
        ([name, path, interface], "SetUpdateControlMap", Some("int32:1"), "InvalidArgs"),
        ([name, path, interface], "SetUpdateControlMap", Some("array:string:a,b"), "InvalidArgs"),
        ([name, other, authentication], "GetJwtToken", Some("boolean:true"), "InvalidArgs"),
    ] {
        let [name, path, interface] = call;
        let mut command = device.client("dbus-send");
        command.args(["--system", "--print-reply", &format!("--dest={name}"), path]);
        command.arg(format!("{interface}.{method}")).args(argument);
        let said = bad(run(&mut command, "dbus-bin"));
        assert!(said.contains(&format!("Error org.freedesktop.DBus.Error.{error}:")), "{method}: {said}");
    }
    assert_eq!(device.dropped(), []);
}
