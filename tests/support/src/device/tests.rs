//! The device with a stand-in for the agent: a shell script that uses the tools of U-Boot.

use super::*;
use crate::{Content, TempDir};
use miniserde::json;

/// First run: tries the other slot. Later: commits when told so, else does nothing.
const AGENT: &str = r#"#!/bin/sh
root=$2
set_env() { fw_setenv -c "$root/etc/fw_env.config" -s - ; }
echo "$3 $(cat "$root/proc/sys/kernel/random/boot_id")"
case $3 in
    check)
        [ -e "$root/asked" ] && exit 7
        touch "$root/asked"
        printf 'mender_boot_part=3\nmender_boot_part_hex=3\nupgrade_available=1\nbootcount=0\n' | set_env
        sleep 600 &
        reboot
        exit 99 ;;
    commit) echo upgrade_available=0 | set_env ;;
    hang) sleep 600 ;;
    show-artifact) echo name ;;
esac
"#;

fn with_agent(options: DeviceOptions) -> (TempDir, Device, PathBuf) {
    tool::run("fw_setenv", "libubootenv-tool", &["--version"]).unwrap();
    let dir = TempDir::new("device");
    let device = Device::new(&dir.path().join("device"), options);
    let agent = dir.path().join("agent");
    fs::write(&agent, AGENT).unwrap();
    fs::set_permissions(&agent, fs::Permissions::from_mode(0o755)).unwrap();
    (dir, device, agent)
}

#[test]
fn a_reboot_cuts_the_agent_off_and_the_boot_loader_tries_the_other_slot() {
    let (_dir, mut device, agent) = with_agent(DeviceOptions::default());
    assert_eq!((device.running_slot(), device.other_slot()), (2, 3));
    let ending = device.run_to_end(&agent, 3);
    assert_eq!((ending.code, ending.boots, device.reboots_asked()), (7, 1, 1), "{}", ending.output);
    assert_eq!(device.running_slot(), 3);
    assert_eq!((&*device.env()["bootcount"], &*device.env()["upgrade_available"]), ("1", "1"));
    assert_eq!(device.env()["other_variable"], "kept as it is");
    let mounts = fs::read_to_string(device.root().join("proc/mounts")).unwrap();
    assert!(mounts.starts_with(device.slot_path(3).to_str().unwrap()), "{mounts}");
    let boot_ids: BTreeSet<_> = ending.output.lines().filter(|line| line.starts_with("check")).collect();
    assert_eq!(boot_ids.len(), 2, "each boot has its id: {}", ending.output);

    // Never committed: the next boot goes back, and that is final.
    device.boot();
    assert_eq!((device.running_slot(), &*device.env()["upgrade_available"]), (2, "0"));
    device.boot();
    assert_eq!((device.running_slot(), device.boots()), (2, 3));
}

#[test]
fn a_committed_slot_stays() {
    let (_dir, mut device, agent) = with_agent(DeviceOptions { redundant_env: false, ..Default::default() });
    device.run_to_end(&agent, 1);
    assert_eq!(device.run(&agent, &["commit"]), Some(0));
    device.boot();
    assert_eq!((device.running_slot(), &*device.env()["mender_boot_part"]), (3, "3"));
    assert_eq!(device.output(&agent, &["show-artifact"]).lines().last(), Some("name"));
    assert_eq!(device.try_output(&agent, &["check"]).unwrap_err(), "`thimble check` ends with exit code 7");
}

#[test]
fn a_broken_slot_is_left_after_one_attempt() {
    let (_dir, mut device, agent) = with_agent(DeviceOptions::default());
    device.break_slot(3);
    device.run_to_end(&agent, 1);
    assert_eq!((device.running_slot(), &*device.env()["bootcount"]), (2, "2"));
    device.break_slot(2);
    assert!(device.try_boot().is_err());
}

#[test]
fn power_off_ends_the_agent_and_its_children() {
    let (_dir, mut device, agent) = with_agent(DeviceOptions::default());
    let mut child = device.command(&agent, &["hang"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    output.read_exact(&mut [0; 4]).unwrap();
    device.boot();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    // Ends only when no child holds the other side any more.
    output.read_to_end(&mut Vec::new()).unwrap();
}

#[test]
#[should_panic(expected = "did not end within 1 s")]
fn an_agent_that_hangs_is_an_error() {
    let limit = Duration::from_secs(1);
    let (_dir, device, agent) = with_agent(DeviceOptions { time_limit: limit, ..Default::default() });
    device.run(&agent, &["hang"]);
}

#[test]
fn the_configuration_and_the_slots() {
    let (dir, device, _) = with_agent(DeviceOptions {
        server_url: "http://127.0.0.1:1".to_owned(),
        slot_size: 10_000,
        config: [("RetryPollCount", "null"), ("More", "[1]")]
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .to_vec(),
        ..Default::default()
    });
    let conf = fs::read_to_string(device.root().join("etc/mender/mender.conf")).unwrap();
    let json::Value::Object(conf) = json::from_str(&conf).unwrap() else { panic!("{conf}") };
    assert!(
        conf.contains_key("More") && conf.contains_key("RootfsPartB") && !conf.contains_key("RetryPollCount")
    );
    let image = Content::Pattern { size: 9_000, seed: 3 };
    fs::write(dir.path().join("image"), image.bytes()).unwrap();
    assert!(!device.slot_holds(2, &image));
    device.fill_slot(2, &dir.path().join("image"));
    assert!(device.slot_holds(2, &image));
    assert_eq!(device.slot_bytes(2).len(), 10_000);
}
