//! Promises of access through the boot loader's tools, with scripts in their place.
#![allow(clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use thimble::boot::Environment;
use thimble::boot::tools::Tools;

struct Pair {
    dir: PathBuf,
}

impl Pair {
    fn new(name: &str, print: &str, set: &str) -> Pair {
        let dir = std::env::temp_dir().join(format!("thimble-tools-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("directory");
        for (tool, body) in [("print", print), ("set", set)] {
            let text = format!("#!/bin/sh\ncd '{}'\n{body}\n", dir.display());
            fs::write(dir.join(tool), text).expect("script");
            fs::set_permissions(dir.join(tool), fs::Permissions::from_mode(0o755)).expect("mode");
        }
        Pair { dir }
    }

    fn tools(&self) -> Tools {
        let path = |tool: &str| self.dir.join(tool).to_string_lossy().into_owned();
        Tools::new(path("print"), path("set"))
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// As fw_printenv of U-Boot: an absent variable is an error, after the others were printed.
const STRICT: &str = r###"s=0
for n in "$@"; do
    grep "^$n=" env || { echo "## Error: \"$n\" not defined" >&2; s=1; }
done
exit $s"###;

#[test]
fn variables_are_split_at_the_first_equals_sign_and_chatter_is_ignored() {
    let p = Pair::new("split", "echo 'Warning: a warning on stdout'; echo x=1; echo a=b=c; echo empty=", "");
    let values = p.tools().read(&["a", "empty", "missing"]).expect("reads");
    assert_eq!(values.into_iter().collect::<Vec<_>>(), [("a".to_owned(), "b=c".to_owned())]);
}

#[test]
fn an_absent_variable_is_no_error_with_a_tool_that_makes_it_one() {
    let p = Pair::new("absent", STRICT, "");
    fs::write(p.dir.join("env"), "a=1\nb=2\n").expect("env");
    let values = p.tools().read(&["a", "missing", "b"]).expect("reads");
    assert_eq!(values.len(), 2);
}

#[test]
fn a_failing_tool_is_quoted_in_the_error() {
    let p = Pair::new("fails", "echo 'Cannot access MTD device' >&2; exit 1", "exit 3");
    let error = p.tools().read(&["a"]).expect_err("fails");
    assert_eq!(error.code, "BOOT-ENV-TOOL");
    assert!(error.text.contains("Cannot access MTD device") && error.text.contains("status 1"), "{error}");
    assert_eq!(p.tools().write(&[("a", "1")]).expect_err("fails").code, "BOOT-ENV-TOOL");
    let missing = Tools::new("/nonexistent/print".to_owned(), "/nonexistent/set".to_owned()).read(&["a"]);
    assert!(missing.expect_err("fails").text.contains("/nonexistent/print"));
    assert!(Tools::new(String::new(), String::new()).read(&["a"]).is_err());
}

#[test]
fn defaults_that_a_tool_shows_instead_of_a_bad_environment_are_refused() {
    for text in ["Warning: Bad CRC, using default environment", "Cannot read environment, using default"] {
        let p = Pair::new("default", &format!("echo '{text}' >&2; echo a=1"), "");
        assert_eq!(p.tools().read(&["a"]).expect_err("refused").code, "BOOT-ENV-CORRUPT");
    }
}

#[test]
fn a_change_is_one_script_and_is_read_back() {
    let p = Pair::new("script", STRICT, "[ \"$*\" = '-s -' ] && cat > env");
    p.tools().write(&[("upgrade_available", "1"), ("mender_boot_part", "3"), ("gone", "")]).expect("writes");
    let script = fs::read_to_string(p.dir.join("env")).expect("env");
    assert_eq!(script, "upgrade_available=1\nmender_boot_part=3\ngone=\n");
}

#[test]
fn a_tool_that_ignores_the_change_is_found_out() {
    let p = Pair::new("ignores", STRICT, "cat > /dev/null");
    fs::write(p.dir.join("env"), "a=0\n").expect("env");
    let error = p.tools().write(&[("a", "1")]).expect_err("found out");
    assert_eq!(error.code, "BOOT-ENV-VERIFY");
}

#[test]
fn what_a_script_line_cannot_hold_is_refused_before_the_tool_runs() {
    let p = Pair::new("refuses", STRICT, "touch ran");
    let long = "x".repeat(3000);
    for (name, value) in [("a b", "1"), ("#a", "1"), ("a", "1\nb=2"), ("", "1"), ("a", long.as_str())] {
        assert_eq!(p.tools().write(&[(name, value)]).expect_err("refused").code, "BOOT-ENV-NAME");
    }
    assert!(!p.dir.join("ran").exists());
}

#[test]
fn write_protection_is_lifted_around_a_write_and_set_again_also_after_an_error() {
    for (set, good) in [("sed 's/ *$//' > env", true), ("exit 1", false)] {
        let keep =
            "cat sys/class/block/mmcblk0boot0/force_ro sys/class/block/mmcblk0boot1/force_ro >> seen\n";
        let p =
            Pair::new("protected", STRICT, &format!("{keep}cat sys/class/block/sda/force_ro >> seen\n{set}"));
        for (name, state) in [("mmcblk0boot0", "1\n"), ("mmcblk0boot1", "1\n"), ("sda", "0\n")] {
            let dir = p.dir.join("sys/class/block").join(name);
            fs::create_dir_all(&dir).expect("directory");
            fs::write(dir.join("force_ro"), state).expect("switch");
        }
        // One named by fw_env.config, one known of the board, one that nobody protects.
        let config = p.dir.join("fw_env.config");
        fs::write(&config, "/dev/mmcblk0boot0 -0x2200 0x2000\n/dev/sda 0 0x2000\n").expect("config");
        let mut tools = p.tools().unprotecting(p.dir.clone(), config, &["mmcblk0boot1", "mmcblk9boot0"]);
        fs::write(p.dir.join("env"), "").expect("env");
        assert_eq!(tools.write(&[("a", "1")]).is_ok(), good);
        assert_eq!(fs::read_to_string(p.dir.join("seen")).expect("seen").replace('\n', ""), "000");
        let state =
            |name: &str| fs::read_to_string(p.dir.join("sys/class/block").join(name).join("force_ro"));
        assert_eq!(state("mmcblk0boot0").expect("switch").trim(), "1");
        assert_eq!(state("mmcblk0boot1").expect("switch").trim(), "1");
        assert_eq!(state("sda").expect("switch").trim(), "0", "what was not protected is not protected now");
        // Reading needs no lifting.
        fs::remove_file(p.dir.join("seen")).expect("removed");
        tools.read(&["a"]).expect("reads");
        assert!(!p.dir.join("seen").exists());
    }
}
