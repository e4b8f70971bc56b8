//! Who this device is: the identity script's output, or a MAC address, as canonical JSON (SA-13, SA-14).

use super::script::{self, Pairs};
use crate::error::{Error, Result};
use crate::json;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The identity as the server compares it: one JSON object, no white space, keys sorted bytewise.
///
/// A script that is there must work (II-12); without one the MAC address of the first Ethernet interface is taken,
/// as the script that Mender ships does (II-15).
pub fn data(script: &Path, root: &Path) -> Result<String> {
    match fs::metadata(script) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !script.is_symlink() => {
            Ok(canonical(vec![("mac".to_owned(), vec![mac_address(root)?])]))
        }
        _ => {
            let pairs = script::run(script, "IDENTITY-SCRIPT")?;
            if pairs.is_empty() {
                let text = format!("{}: no output, so the device has no identity", script.display());
                return Err(Error::new("IDENTITY-SCRIPT", text));
            }
            Ok(canonical(pairs))
        }
    }
}

fn canonical(pairs: Pairs) -> String {
    let sorted: BTreeMap<String, Vec<String>> = pairs.into_iter().collect();
    let mut out = String::from("{");
    for (key, values) in &sorted {
        if out.len() > 1 {
            out.push(',');
        }
        json::quote(&mut out, key);
        out.push(':');
        value(&mut out, values);
    }
    out.push('}');
    out
}

/// One value is a string, several are a list (II-5, II-23).
pub(super) fn value(out: &mut String, values: &[String]) {
    if let [one] = values {
        return json::quote(out, one);
    }
    out.push('[');
    for (i, one) in values.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        json::quote(out, one);
    }
    out.push(']');
}

/// The address of the Ethernet interface that the kernel found first.
fn mac_address(root: &Path) -> Result<String> {
    let below = root.join("sys/class/net");
    let dir = if below.is_dir() { below } else { PathBuf::from("/sys/class/net") };
    let mut found: Option<(u64, PathBuf, String)> = None;
    for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
        let read = |name: &str| {
            fs::read_to_string(entry.path().join(name)).map(|t| t.trim().to_owned()).unwrap_or_default()
        };
        if entry.file_name().to_string_lossy().starts_with("dummy") || read("type") != "1" {
            continue;
        }
        let (Ok(index), address) = (read("ifindex").parse::<u64>(), read("address")) else { continue };
        if !address.is_empty() && found.as_ref().is_none_or(|(first, ..)| index < *first) {
            found = Some((index, entry.path(), address));
        }
    }
    let Some((_, interface, address)) = found else {
        let text = format!(
            "no Ethernet interface in {} to take an identity from: install an identity script \
             (mender-device-identity)",
            dir.display()
        );
        return Err(Error::new("IDENTITY-NONE", text));
    };
    // Many boards have no address of their own: the kernel (1) makes up a new one with each boot.
    if fs::read_to_string(interface.join("addr_assign_type")).is_ok_and(|kind| kind.trim() == "1") {
        log::warn!(
            "the address {address} of {} is a random one, so the server sees a new device after each boot: install \
             an identity script (mender-device-identity)",
            interface.display()
        );
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("thimble-identity-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("makes");
        dir
    }

    fn said(body: &str, name: &str) -> Result<String> {
        let dir = dir(name);
        let path = dir.join("mender-device-identity");
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("writes");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
        let result = data(&path, &dir);
        fs::remove_dir_all(&dir).expect("removes");
        result
    }

    #[test]
    fn identity_is_sorted_bytewise_with_lists_for_repeated_keys() {
        assert_eq!(
            said("printf 'z=1\\na=2\\nZ=3\\n\\303\\251=4\\nmac=x\\nmac=y\\nmac=x\\n'", "sorted"),
            Ok("{\"Z\":\"3\",\"a\":\"2\",\"mac\":[\"x\",\"y\",\"x\"],\"z\":\"1\",\"é\":\"4\"}".into())
        );
    }

    #[test]
    fn identity_with_any_bytes_is_valid_json() {
        let got = said("printf 'a=\"\\\\<&>\\t\\001\\377\\n'", "bytes").expect("works");
        assert_eq!(got, "{\"a\":\"\\\"\\\\<&>\\t\\u0001\u{fffd}\"}");
        let value = json::parse(&got).expect("valid");
        let text = json::get(&value, "a").and_then(json::string);
        assert_eq!(text, Some("\"\\<&>\t\u{1}\u{fffd}"));
    }

    #[test]
    fn a_script_that_does_not_work_is_an_error_that_names_it() {
        for (body, reason) in
            [("exit 1", "exit status 1"), ("true", "no output"), ("echo bogus", "key=value")]
        {
            let e = said(body, "broken").expect_err(body);
            assert!(e.text.contains(reason) && e.text.contains("mender-device-identity"), "{e}");
        }
        let dir = dir("mode");
        let path = dir.join("mender-device-identity");
        fs::write(&path, "#!/bin/sh\necho a=1\n").expect("writes");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("chmod");
        assert!(data(&path, &dir).expect_err("not executable").text.contains("cannot be run"));
        fs::remove_dir_all(&dir).expect("removes");
    }

    #[test]
    fn without_a_script_the_first_ethernet_address_is_the_identity() {
        let dir = dir("mac");
        let mut number = 0;
        for (name, kind, index, address) in [
            ("lo", "772", "1", "00:00:00:00:00:00"),
            ("dummy0", "1", "2", "aa:aa:aa:aa:aa:aa"),
            ("wlan0", "1", "10", "bb:bb:bb:bb:bb:bb"),
            ("eth0", "1", "9", "de:ad:be:ef:00:01"),
            ("can0", "280", "3", ""),
        ] {
            number += 1;
            let at = dir.join("sys/class/net").join(name);
            fs::create_dir_all(&at).expect("makes");
            for (file, text) in [("type", kind), ("ifindex", index), ("address", address)] {
                fs::write(at.join(file), format!("{text}\n")).expect("writes");
            }
        }
        assert_eq!(number, 5);
        let none = dir.join("mender-device-identity");
        assert_eq!(data(&none, &dir), Ok("{\"mac\":\"de:ad:be:ef:00:01\"}".into()));
        fs::remove_dir_all(dir.join("sys/class/net/eth0")).expect("removes");
        assert_eq!(data(&none, &dir), Ok("{\"mac\":\"bb:bb:bb:bb:bb:bb\"}".into()));
        fs::remove_dir_all(dir.join("sys/class/net/wlan0")).expect("removes");
        assert_eq!(data(&none, &dir).expect_err("none left").code, "IDENTITY-NONE");
        fs::remove_dir_all(&dir).expect("removes");
    }
}
