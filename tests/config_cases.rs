//! mender.conf as people write it: what is accepted, and the exact words for what is not.
#![allow(clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thimble::config::{Adapter, Config, Directories, Files, load};

/// A directory with a main and a fallback file, removed at the end.
struct Device(PathBuf);

impl Device {
    fn new(name: &str) -> Device {
        let dir = std::env::temp_dir().join(format!("thimble-config-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("creates");
        Device(dir)
    }

    fn files(&self) -> Files {
        Files {
            main: self.0.join("main.conf"),
            main_explicit: false,
            fallback: self.0.join("fallback.conf"),
            fallback_explicit: false,
        }
    }

    fn main(self, text: impl AsRef<[u8]>) -> Device {
        self.write("main.conf", text.as_ref());
        self
    }

    fn fallback(self, text: &str) -> Device {
        self.write("fallback.conf", text.as_bytes());
        self
    }

    fn write(&self, name: &str, text: &[u8]) {
        let path = self.0.join(name);
        fs::write(&path, text).expect("writes");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("sets the mode");
    }

    fn load(&self) -> (Config, Vec<String>) {
        let (config, warnings) = load(&self.files()).unwrap_or_else(|e| panic!("{e}"));
        (config, warnings.into_iter().map(|w| self.short(&w)).collect())
    }

    /// The error, with the directory left out.
    fn error(&self) -> String {
        match load(&self.files()) {
            Ok(_) => panic!("accepted"),
            Err(e) => self.short(&e.to_string()),
        }
    }

    fn short(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.0.display()), "")
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const URL: &str = r#""ServerURL":"https://h""#;

fn error_of(main: &str) -> String {
    Device::new("error").main(main).error()
}

/// Each main file gives the error beside it.
fn each<T: AsRef<str>>(name: &str, cases: &[(T, &str)]) {
    for (i, (main, expected)) in cases.iter().enumerate() {
        let got = Device::new(&format!("{name}{i}")).main(main.as_ref()).error();
        assert_eq!(got, *expected, "{}", main.as_ref());
    }
}

#[test]
fn without_any_file_the_documented_defaults_apply() {
    let (config, warnings) = Device::new("none").load();
    assert!(config == Config::default());
    assert!(warnings.is_empty(), "{warnings:?}");
    let seconds = |d: Duration| d.as_secs();
    assert_eq!(seconds(config.update_poll_interval), 1800);
    assert_eq!(seconds(config.inventory_poll_interval), 28800);
    assert_eq!(seconds(config.retry_poll_interval), 300);
    assert_eq!((config.retry_poll_count, config.retry_download_count), (0, 10));
    assert_eq!(seconds(config.retry_download_interval), 60);
    assert_eq!(seconds(config.script_timeout), 3600);
    assert_eq!(seconds(config.script_retry_timeout), 1800);
    assert_eq!(seconds(config.script_retry_interval), 60);
    assert_eq!(seconds(config.module_timeout), 14400);
    assert_eq!((config.control_map_expiration, config.control_map_boot_expiration), (None, None));
    assert_eq!((config.xz_memory_limit, config.zstd_window_limit), (64 << 20, 8 << 20));
    assert!(config.rootfs_verify_writes && !config.rootfs_use_module && !config.skip_verify);
    assert!(config.dbus_enabled);
    assert!(!config.boot_env_require_redundant && config.boot_env_adapter == Adapter::Native);
    assert!(config.servers.is_empty() && config.tenant_token.is_empty() && config.device_tier.is_none());
}

#[test]
fn every_member_reaches_its_setting() {
    let main = r#"{"ServerURL":"https://h/","ServerCertificate":"/c","SkipVerify":true,"TenantToken":"t",
        "DeviceTier":"system","HttpsClient":{"Certificate":"/hc","Key":"/hk"},"Security":{"AuthPrivateKey":"/k"},
        "ArtifactVerifyKeys":["/1","/2"],"RootfsPartA":"/a","RootfsPartB":"/b",
        "BootUtilitiesSetActivePart":"set","BootUtilitiesGetNextActivePart":"get","DeviceTypeFile":"/d",
        "UpdatePollIntervalSeconds":1,"InventoryPollIntervalSeconds":2,"RetryPollIntervalSeconds":3,
        "RetryPollCount":4,"RetryDownloadCount":5,"RetryDownloadIntervalSeconds":6,"StateScriptTimeoutSeconds":7,
        "StateScriptRetryTimeoutSeconds":8,"StateScriptRetryIntervalSeconds":9,"ModuleTimeoutSeconds":10,
        "UpdateLogPath":"/l","DaemonLogLevel":"DEBUG","DBus":{"Enabled":false},
        "BootEnvironment":{"RequireRedundant":true,"Adapter":"fw_setenv"},
        "RootfsImage":{"VerifyWrites":false,"UseModule":true},
        "Artifact":{"XzMemoryLimitMiB":1,"ZstdWindowLimitMiB":2}}"#;
    let (config, warnings) = Device::new("every").main(main).load();
    assert_eq!(warnings, [""; 0]);
    let path =
        |p: &Option<PathBuf>| p.as_deref().and_then(Path::to_str).map(str::to_owned).unwrap_or_default();
    assert_eq!(config.servers, ["https://h"]);
    assert!(!config.dbus_enabled);
    assert_eq!(path(&config.server_certificate), "/c");
    assert!(config.skip_verify);
    assert_eq!(config.tenant_token, "t");
    assert_eq!(config.device_tier.as_deref(), Some("system"));
    assert_eq!(path(&config.https_client_certificate), "/hc");
    assert_eq!(config.https_client_key.as_deref(), Some("/hk"));
    assert_eq!(config.auth_private_key.as_deref(), Some("/k"));
    assert_eq!(config.artifact_verify_keys, [Path::new("/1"), Path::new("/2")]);
    assert_eq!(config.rootfs_parts(), Ok(("/a", "/b")));
    assert_eq!(config.boot_utilities_set.as_deref(), Some("set"));
    assert_eq!(config.boot_utilities_get.as_deref(), Some("get"));
    assert_eq!(path(&config.device_type_file), "/d");
    let seconds = [
        config.update_poll_interval,
        config.inventory_poll_interval,
        config.retry_poll_interval,
        Duration::from_secs(config.retry_poll_count.into()),
        Duration::from_secs(config.retry_download_count.into()),
        config.retry_download_interval,
        config.script_timeout,
        config.script_retry_timeout,
        config.script_retry_interval,
        config.module_timeout,
    ];
    assert_eq!(seconds.map(|d| d.as_secs()), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    assert_eq!(path(&config.update_log_path), "/l");
    assert_eq!(config.daemon_log_level.as_deref(), Some("debug"));
    assert!(config.boot_env_require_redundant && config.boot_env_adapter == Adapter::FwSetenv);
    assert!(!config.rootfs_verify_writes && config.rootfs_use_module);
    assert_eq!((config.xz_memory_limit, config.zstd_window_limit), (1 << 20, 2 << 20));
}

#[test]
fn the_main_file_wins_member_by_member_and_objects_merge() {
    let device = Device::new("merge")
        .fallback(
            r#"{"RootfsPartA":"/a","RootfsPartB":"/b","UpdatePollIntervalSeconds":7,"TenantToken":"f",
            "HttpsClient":{"Certificate":"/fc","Key":"/fk"},"ArtifactVerifyKeys":["/1","/2"]}"#,
        )
        .main(format!(
            r#"{{{URL},"TenantToken":"m","UpdatePollIntervalSeconds":null,"HttpsClient":{{"Key":"/mk"}},
            "ArtifactVerifyKeys":["/3"]}}"#
        ));
    let (config, warnings) = device.load();
    assert_eq!(warnings, [""; 0]);
    assert_eq!(config.rootfs_parts(), Ok(("/a", "/b")));
    assert_eq!(config.tenant_token, "m");
    assert_eq!(config.update_poll_interval.as_secs(), 7, "null says nothing");
    assert_eq!(config.https_client_certificate.as_deref(), Some(Path::new("/fc")));
    assert_eq!(config.https_client_key.as_deref(), Some("/mk"));
    assert_eq!(config.artifact_verify_keys, [Path::new("/3")], "lists are replaced as a whole");
}

#[test]
fn the_fallback_alone_is_enough() {
    let (config, warnings) = Device::new("fallback").fallback(&format!("{{{URL}}}")).load();
    assert_eq!((config.servers, warnings), (vec!["https://h".to_owned()], vec![]));
}

#[test]
fn a_file_named_on_the_command_line_must_exist() {
    let device = Device::new("explicit").main("{}");
    let main = Files { main: device.0.join("other.conf"), main_explicit: true, ..device.files() };
    let error = load(&main).expect_err("missing").to_string();
    assert_eq!(
        device.short(&error),
        "CONFIG-MISSING: other.conf was named on the command line but does not exist"
    );
    let fallback = Files { fallback_explicit: true, ..device.files() };
    assert_eq!(load(&fallback).expect_err("missing").code, "CONFIG-MISSING");
}

#[test]
fn names_match_without_regard_to_case_and_the_exact_one_wins() {
    for name in ["serverurl", "SERVERURL", "ServerURL"] {
        let (config, warnings) = Device::new("case").main(format!(r#"{{"{name}":"https://h"}}"#)).load();
        assert_eq!((config.servers, warnings), (vec!["https://h".to_owned()], vec![]), "{name}");
    }
    let (config, warnings) = Device::new("case2")
        .main(r#"{"serverurl":"https://a","ServerURL":"https://b","SERVERURL":"https://c"}"#)
        .load();
    assert_eq!(config.servers, ["https://b"]);
    assert_eq!(
        warnings,
        [
            "main.conf, line 1, column 38: ServerURL is given in 3 spellings; this one ('ServerURL', the exact one) is used."
        ]
    );
    let (config, warnings) =
        Device::new("case3").main(r#"{"serverurl":"https://a","SERVERURL":"https://c"}"#).load();
    assert_eq!(config.servers, ["https://c"], "without the exact spelling the last one wins");
    assert_eq!(
        warnings,
        [
            "main.conf, line 1, column 38: ServerURL is given in 2 spellings; this one ('SERVERURL', the last one) is used."
        ]
    );
    let (config, _) = Device::new("case4").main(r#"{"httpsclient":{"KEY":"/k","certificate":"/c"}}"#).load();
    assert_eq!(config.https_client_key.as_deref(), Some("/k"));
}

#[test]
fn the_main_files_servers_replace_the_fallbacks_whatever_the_form() {
    let one = r#"{"ServerURL":"https://one"}"#;
    let many =
        r#"{"Servers":[{"ServerURL":"https://x/"},{"ServerURL":"https://y"},{"ServerURL":"https://x"}]}"#;
    let (config, _) = Device::new("s1").fallback(many).main(one).load();
    assert_eq!(config.servers, ["https://one"]);
    let (config, _) = Device::new("s2").fallback(one).main(many).load();
    assert_eq!(config.servers, ["https://x", "https://y"], "duplicates are dropped");
    let (config, _) = Device::new("s3").fallback(many).main(r#"{"ServerURL":""}"#).load();
    assert_eq!(config.servers, ["https://x", "https://y"], "an empty ServerURL says nothing");
}

#[test]
fn the_main_files_verify_keys_replace_the_fallbacks_and_cannot_be_lost_by_an_empty_one() {
    let keys = |fallback: &str, main: &str| {
        let (config, _) = Device::new("keys").fallback(fallback).main(main).load();
        config.artifact_verify_keys.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(" ")
    };
    let (one_f, one_m) = (r#"{"ArtifactVerifyKey":"/f"}"#, r#"{"ArtifactVerifyKey":"/m"}"#);
    assert_eq!(keys(one_f, one_m), "/m");
    assert_eq!(keys(one_f, r#"{"ArtifactVerifyKeys":["/1","/2"]}"#), "/1 /2");
    assert_eq!(keys(r#"{"ArtifactVerifyKeys":["/1","/2"]}"#, one_m), "/m");
    assert_eq!(keys(one_f, r#"{"ArtifactVerifyKey":""}"#), "/f");
    assert_eq!(keys(one_f, r#"{"ArtifactVerifyKeys":null}"#), "/f");
    assert_eq!(
        keys(one_f, r#"{"ArtifactVerifyKeys":[]}"#),
        "",
        "a list replaces as a whole, also an empty one"
    );
}

#[test]
fn two_forms_in_one_file_are_an_error() {
    each(
        "conflict",
        &[
            (
                r#"{"ServerURL":"https://a","Servers":[{"ServerURL":"https://b"}]}"#,
                "CONFIG-CONFLICT: main.conf, line 1, column 14: ServerURL is given, and Servers too \
                 (main.conf, line 1, column 36); keep one of them",
            ),
            (
                "{\"ArtifactVerifyKey\":\"/a\",\n\"ArtifactVerifyKeys\":[]}",
                "CONFIG-CONFLICT: main.conf, line 1, column 22: ArtifactVerifyKey is given, and \
                 ArtifactVerifyKeys too (main.conf, line 2, column 22); keep one of them",
            ),
        ],
    );
}

#[test]
fn wrong_values_are_named_with_file_line_column_and_key() {
    let seconds = "expects a whole number of seconds from 0 to 2147483647 (0 = default), found";
    let at = "CONFIG-VALUE: main.conf, line 1, column 31: UpdatePollIntervalSeconds";
    for (value, found) in [
        ("\"1800\"", "a string"),
        ("-1", "-1"),
        ("1e3", "a number with a fraction or an exponent"),
        ("1800.0", "a number with a fraction or an exponent"),
        ("99999999999", "99999999999"),
        ("2147483648", "2147483648"),
        ("true", "true or false"),
        ("[]", "a list"),
    ] {
        let text = format!(r#"{{"UpdatePollIntervalSeconds": {value}}}"#);
        assert_eq!(error_of(&text), format!("{at} {seconds} {found}"), "{text}");
    }
    each(
        "wrong",
        &[
            (
                r#"{"TenantToken": 5}"#,
                "CONFIG-VALUE: main.conf, line 1, column 17: TenantToken expects a string, found 5",
            ),
            (
                r#"{"SkipVerify": "true"}"#,
                "CONFIG-VALUE: main.conf, line 1, column 16: SkipVerify expects true or false, found a string",
            ),
            (
                "{\n  \"HttpsClient\": \"x\"\n}",
                "CONFIG-VALUE: main.conf, line 2, column 18: HttpsClient expects an object, found a string",
            ),
            (
                r#"{"HttpsClient": {"key": 1}}"#,
                "CONFIG-VALUE: main.conf, line 1, column 25: HttpsClient.Key expects a string, found 1",
            ),
            (
                r#"{"ArtifactVerifyKeys": ["/a", ""]}"#,
                "CONFIG-VALUE: main.conf, line 1, column 31: ArtifactVerifyKeys expects strings that are not \
                 empty, found an empty string",
            ),
            (
                r#"{"ArtifactVerifyKeys": "/a"}"#,
                "CONFIG-VALUE: main.conf, line 1, column 24: ArtifactVerifyKeys expects a list of strings, \
                 found a string",
            ),
            (
                r#"{"Servers": ["https://h"]}"#,
                "CONFIG-VALUE: main.conf, line 1, column 14: Servers expects a list of \
                 {\"ServerURL\": \"https://…\"}, found a string",
            ),
            (
                r#"{"Servers": [{"ServerURL": 1}]}"#,
                "CONFIG-VALUE: main.conf, line 1, column 28: Servers.ServerURL expects a URL as a string, found 1",
            ),
            (
                r#"{"TenantToken": "abc\n"}"#,
                "CONFIG-VALUE: main.conf, line 1, column 17: TenantToken contains a control character (a line end?)",
            ),
            (
                r#"{"DeviceTier": "foo"}"#,
                "CONFIG-VALUE: main.conf, line 1, column 16: DeviceTier expects one of standard, system, micro, \
                 found 'foo'",
            ),
            (
                r#"{"BootEnvironment": {"Adapter": "uboot"}}"#,
                "CONFIG-VALUE: main.conf, line 1, column 33: BootEnvironment.Adapter expects one of native, \
                 fw_setenv, grub, found 'uboot'",
            ),
        ],
    );
}

#[test]
fn null_means_not_set_for_every_member() {
    let names = [
        "ServerURL",
        "Servers",
        "ServerCertificate",
        "SkipVerify",
        "TenantToken",
        "DeviceTier",
        "HttpsClient",
        "Security",
        "Connectivity",
        "ArtifactVerifyKey",
        "ArtifactVerifyKeys",
        "RootfsPartA",
        "RootfsPartB",
        "BootUtilitiesSetActivePart",
        "BootUtilitiesGetNextActivePart",
        "DeviceTypeFile",
        "DBus",
        "UpdateControlMapExpirationTimeSeconds",
        "UpdateControlMapBootExpirationTimeSeconds",
        "UpdateControlMapPollIntervalSeconds",
        "UpdatePollIntervalSeconds",
        "InventoryPollIntervalSeconds",
        "RetryPollIntervalSeconds",
        "RetryPollCount",
        "RetryDownloadCount",
        "RetryDownloadIntervalSeconds",
        "StateScriptTimeoutSeconds",
        "StateScriptRetryTimeoutSeconds",
        "StateScriptRetryIntervalSeconds",
        "ModuleTimeoutSeconds",
        "UpdateLogPath",
        "DaemonLogLevel",
        "BootEnvironment",
        "RootfsImage",
        "Artifact",
    ];
    let members: Vec<String> = names.iter().map(|n| format!("\"{n}\":null")).collect();
    let (config, warnings) = Device::new("null").main(format!("{{{}}}", members.join(","))).load();
    assert!(config == Config::default());
    assert!(warnings.is_empty(), "{warnings:?}");
    let (config, _) =
        Device::new("null2").main(r#"{"HttpsClient":{"Key":null},"DBus":{"Enabled":null}}"#).load();
    assert!(config == Config::default());
}

#[test]
fn zero_means_the_default() {
    let (config, _) = Device::new("zero")
        .fallback(r#"{"ModuleTimeoutSeconds":5}"#)
        .main(r#"{"UpdatePollIntervalSeconds":0,"RetryPollIntervalSeconds":0,"ModuleTimeoutSeconds":0}"#)
        .load();
    assert!(config == Config::default());
}

#[test]
fn the_number_of_download_tries_has_bounds() {
    let with = |n: u32| Device::new("tries").main(format!(r#"{{"RetryDownloadCount": {n}}}"#));
    for bad in [0, 10001] {
        assert_eq!(
            with(bad).error(),
            format!(
                "CONFIG-VALUE: main.conf, line 1, column 24: RetryDownloadCount expects a whole number from 1 to \
                 10000, found {bad}"
            )
        );
    }
    for good in [1, 10000] {
        assert_eq!(with(good).load().0.retry_download_count, good);
    }
}

#[test]
fn what_is_not_json_is_refused_with_its_place() {
    let nested = "{\"a\":".repeat(100_000);
    each(
        "syntax",
        &[
            ("", "CONFIG-SYNTAX: main.conf, line 1, column 1: the text ends where a value was expected"),
            ("{\n\"a\": 1", "CONFIG-SYNTAX: main.conf, line 2, column 7: expected ',' or '}'"),
            (
                "{\"a\":1,\n}",
                "CONFIG-SYNTAX: main.conf, line 2, column 1: expected a member name in double quotes",
            ),
            (
                "// x\n{}",
                "CONFIG-SYNTAX: main.conf, line 1, column 1: expected a value; JSON has no comments",
            ),
            ("\u{feff}{}", "CONFIG-SYNTAX: main.conf, line 1, column 1: a byte order mark; JSON has none"),
            ("[]", "CONFIG-SYNTAX: main.conf: expected an object ('{') at the top, found a list"),
            (&nested, "CONFIG-SYNTAX: main.conf, line 1, column 161: nested deeper than 32 levels"),
        ],
    );
    let utf16 = Device::new("utf16").main([0xff, 0xfe, b'{', 0, b'}', 0]).error();
    assert_eq!(
        utf16,
        "CONFIG-SYNTAX: main.conf is not UTF-8 (byte 0); save it as UTF-8 without a byte order mark"
    );
    assert_eq!(
        Device::new("utf16b").main([b'{', 0, b'}', 0]).error(),
        "CONFIG-SYNTAX: main.conf, line 1, column 2: expected a member name in double quotes"
    );
    let fallback = Device::new("syntaxf").fallback("{").main("{}").error();
    assert_eq!(
        fallback,
        "CONFIG-SYNTAX: fallback.conf, line 1, column 2: expected a member name in double quotes"
    );
}

#[test]
fn what_is_not_a_readable_file_is_refused() {
    let device = Device::new("directory");
    fs::create_dir(device.0.join("main.conf")).expect("creates");
    assert_eq!(device.error(), "CONFIG-READ: main.conf is a directory; expected a JSON file");
    let device = Device::new("long").main(" ".repeat(10 << 20));
    assert_eq!(device.error(), "CONFIG-READ: main.conf is longer than 1048576 bytes; is it a mender.conf?");
    let device = Device::new("exact").main(format!("{{{URL}}}{}", " ".repeat((1 << 20) - URL.len() - 2)));
    assert_eq!(device.load().0.servers, ["https://h"]);
    let device = Device::new("unreadable").main("{}");
    fs::set_permissions(device.0.join("main.conf"), fs::Permissions::from_mode(0o000))
        .expect("sets the mode");
    if fs::read(device.0.join("main.conf")).is_err() {
        assert!(device.error().starts_with("CONFIG-READ: cannot read main.conf: Permission denied"));
    }
}

#[test]
fn unknown_members_are_named_with_the_closest_known_one_and_the_start_goes_on() {
    let main = format!(
        r#"{{{URL},"UpdatePollIntervalSecond":5,"_comment":{{"a":1}},"HttpsClient":{{"Cert":"/c"}},"Rootfspart":1}}"#
    );
    let (config, warnings) = Device::new("unknown").main(main).load();
    assert_eq!(config.update_poll_interval.as_secs(), 1800);
    assert_eq!(
        warnings,
        [
            "main.conf, line 1, column 115: 'Rootfspart' is not a known member; did you mean RootfsPartA?",
            "main.conf, line 1, column 53: 'UpdatePollIntervalSecond' is not a known member; \
             did you mean UpdatePollIntervalSeconds?",
            "main.conf, line 1, column 66: '_comment' is not a known member; it is ignored.",
            "main.conf, line 1, column 96: 'Cert' is not a known member; it is ignored.",
        ]
        .map(|w| w.to_owned())
        .to_vec()
    );
    let many: Vec<String> = (0..30).map(|i| format!("\"x{i}\":1")).collect();
    let (_, warnings) = Device::new("many").main(format!("{{{URL},{}}}", many.join(","))).load();
    assert_eq!(warnings.len(), 21);
    assert_eq!(warnings[20], "main.conf: 10 more members are not known; they are ignored.");
}

#[test]
fn server_urls_are_checked_and_lose_one_slash() {
    for (given, stored) in [
        ("https://h", "https://h"),
        ("https://h/", "https://h"),
        ("https://h//", "https://h/"),
        ("https://h/base/", "https://h/base"),
        ("HTTP://h:8080", "HTTP://h:8080"),
        ("https://[::1]:8443/x", "https://[::1]:8443/x"),
        ("https://[fe80::1]", "https://[fe80::1]"),
    ] {
        let (config, _) = Device::new("url").main(format!(r#"{{"ServerURL":"{given}"}}"#)).load();
        assert_eq!(config.servers, [stored], "{given}");
    }
    for (given, why) in [
        ("h.example", "has no scheme; expected https://HOST or http://HOST"),
        ("ftp://h", "has no scheme; expected https://HOST or http://HOST"),
        ("https://", "has no host name; expected https://HOST"),
        ("https:///x", "has no host name; expected https://HOST"),
        ("https://u:geheim@h", "contains a user name or password (user@host), which is not supported"),
        (
            "https://h:0",
            "has a wrong port; expected a number from 1 to 65535 after ':' (IPv6 addresses need brackets)",
        ),
        (
            "https://2::1",
            "has a wrong port; expected a number from 1 to 65535 after ':' (IPv6 addresses need brackets)",
        ),
        (
            "https://h:",
            "has a wrong port; expected a number from 1 to 65535 after ':' (IPv6 addresses need brackets)",
        ),
        (
            "https://[::1]x",
            "has a wrong port; expected a number from 1 to 65535 after ':' (IPv6 addresses need brackets)",
        ),
        ("https://[zz]", "has a wrong IPv6 address in brackets; expected https://[ADDRESS]:PORT"),
        ("https://[::1", "has a wrong IPv6 address in brackets; expected https://[ADDRESS]:PORT"),
        ("https://h x", "contains a blank or a control character"),
        ("https://h/?a", "has a query or a fragment; expected https://HOST[:PORT][/PATH]"),
    ] {
        let got = error_of(&format!(r#"{{"ServerURL":"{given}"}}"#));
        assert_eq!(got, format!("CONFIG-URL: main.conf, line 1, column 14: ServerURL {why}"), "{given}");
    }
    let (config, warnings) =
        Device::new("entry").main(r#"{"Servers":[{"serverurl":"https://h/"},{},{"ServerURL":""}]}"#).load();
    assert_eq!(config.servers, ["https://h"]);
    assert_eq!(
        warnings[0],
        "main.conf, line 1, column 40: this entry of Servers has no ServerURL; it is skipped."
    );
    assert_eq!(warnings.len(), 2);
}

#[test]
fn environment_variables_move_the_directories_and_empty_ones_do_not() {
    let none = Directories::new(Path::new("/"), |_| None);
    assert_eq!(none.conf, Path::new("/etc/mender"));
    assert_eq!(none.data, Path::new("/usr/share/mender"));
    assert_eq!(none.datastore, Path::new("/var/lib/mender"));
    let empty = Directories::new(Path::new("/"), |_| Some("".into()));
    assert_eq!(empty, none);
    let set = Directories::new(Path::new("/root"), |name| (name == "MENDER_DATA_DIR").then(|| "/x".into()));
    assert_eq!(set.conf, Path::new("/root/etc/mender"), "defaults are below the root");
    assert_eq!(set.data, Path::new("/x"), "what is named is used as it is");
}

#[test]
fn a_client_key_without_certificate_is_no_silent_plain_tls() {
    each(
        "client",
        &[
            (
                r#"{"HttpsClient":{"Key":"/k"}}"#,
                "CONFIG-CONFLICT: main.conf, line 1, column 23: HttpsClient.Key is set but \
                 HttpsClient.Certificate is not; set both or none",
            ),
            (
                r#"{"HttpsClient":{"Certificate":"/c","Key":""}}"#,
                "CONFIG-CONFLICT: main.conf, line 1, column 31: HttpsClient.Certificate is set but \
                 HttpsClient.Key is not; set both or none",
            ),
        ],
    );
}

#[test]
fn keys_in_security_modules_are_refused() {
    let what =
        "names an object in a security module (pkcs11:), which cannot be used; give the path of a PEM file";
    for (text, key, column) in [
        (r#"{"HttpsClient":{"Certificate":"/c","Key":"pkcs11:a"}}"#, "HttpsClient.Key", 42),
        (r#"{"Security":{"AuthPrivateKey":"PKCS11:a"}}"#, "Security.AuthPrivateKey", 31),
    ] {
        assert_eq!(
            error_of(text),
            format!("CONFIG-PKCS11: main.conf, line 1, column {column}: {key} {what}")
        );
    }
}

#[test]
fn one_slot_alone_or_twice_the_same_is_warned_about_and_refused_for_rootfs_updates() {
    for (slots, why) in [
        (r#""RootfsPartA":"/a""#, "RootfsPartA is set but RootfsPartB is not"),
        (r#""RootfsPartB":"/a""#, "RootfsPartB is set but RootfsPartA is not"),
        (r#""RootfsPartA":"/a","RootfsPartB":"/a""#, "RootfsPartA and RootfsPartB are both /a"),
    ] {
        let (config, warnings) = Device::new("slots").main(format!("{{{slots},{URL}}}")).load();
        let text = format!("{why}; rootfs-image updates need two different slots in mender.conf");
        assert_eq!(warnings, [format!("main.conf, line 1, column 16: {text}.")]);
        let error = config.rootfs_parts().expect_err("refused");
        assert_eq!((error.code, error.text), ("CONFIG-ROOTFS", text));
    }
    assert_eq!(Config::default().rootfs_parts().expect_err("none").code, "CONFIG-ROOTFS");
}

#[test]
fn a_token_that_everyone_may_read_is_warned_about() {
    let device = Device::new("mode").main(format!(r#"{{{URL},"TenantToken":"secret"}}"#));
    let path = device.0.join("main.conf");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("sets the mode");
    assert_eq!(
        device.load().1,
        ["main.conf: everyone may read this file (mode 0644), and it holds TenantToken; chmod 0600 it."]
    );
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("sets the mode");
    assert_eq!(device.load().1, [""; 0]);
    let open = Device::new("mode2").main(format!("{{{URL}}}"));
    fs::set_permissions(open.0.join("main.conf"), fs::Permissions::from_mode(0o644)).expect("sets the mode");
    assert_eq!(open.load().1, [""; 0]);
}

#[test]
fn what_has_no_effect_yet_is_said_and_what_equals_the_default_is_not() {
    let loud = format!(
        r#"{{{URL},"Security":{{"SSLEngine":"e"}},"Connectivity":{{"DisableKeepAlive":true}},
        "UpdateControlMapExpirationTimeSeconds":90}}"#
    );
    let (config, warnings) = Device::new("loud").main(loud).load();
    assert_eq!(
        warnings,
        [
            "main.conf, line 1, column 50: Security.SSLEngine has no effect yet: OpenSSL engines cannot be used, \
             keys are read from PEM files.",
            "main.conf, line 1, column 90: Connectivity.DisableKeepAlive has no effect yet: connections are kept \
             or closed as the agent sees fit.",
        ]
    );
    assert_eq!(config.control_map_expiration, Some(Duration::from_secs(90)));
    assert_eq!(config.control_map_poll_interval, config.update_poll_interval);
    let quiet =
        format!(r#"{{{URL},"Security":{{"SSLEngine":""}},"Connectivity":{{"DisableKeepAlive":false}}}}"#);
    assert_eq!(Device::new("quiet").main(quiet).load().1, [""; 0]);
}

#[test]
fn an_unknown_log_level_is_a_warning() {
    let (config, warnings) =
        Device::new("level").main(format!(r#"{{{URL},"DaemonLogLevel":"loud"}}"#)).load();
    assert_eq!(config.daemon_log_level, None);
    assert_eq!(
        warnings,
        [
            "main.conf, line 1, column 43: DaemonLogLevel is not one of panic, fatal, error, warning, info, debug, \
          trace; it is ignored."
        ]
    );
}

#[test]
fn printing_a_configuration_shows_no_secret() {
    let (config, _) = Device::new("debug").main(format!(r#"{{{URL},"TenantToken":"geheim"}}"#)).load();
    assert_eq!(format!("{config:?}"), r#"Config { servers: ["https://h"], .. }"#);
}

#[test]
fn no_prefix_and_no_flipped_byte_of_a_file_makes_it_panic() {
    let text = format!(
        r#"{{{URL},"Servers":null,"HttpsClient":{{"Key":"/k","Certificate":"/c"}},"RetryPollCount":1,"x\u00e9":[1]}}"#
    );
    let device = Device::new("hostile");
    for i in 0..text.len() {
        device.write("main.conf", &text.as_bytes()[..i]);
        assert!(load(&device.files()).is_err(), "{i}");
        for flip in [1u8, 0x20, 0x80] {
            let mut bytes = text.clone().into_bytes();
            bytes[i] ^= flip;
            device.write("main.conf", &bytes);
            let _ = load(&device.files());
        }
    }
}
