//! What Debian's boot environment tools write we read, and what we write they read.
#![allow(clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use thimble::boot::Environment;
use thimble::boot::env::{Image, Layout};
use thimble::boot::native::Native;
use thimble::boot::tools::Tools;

const SIZE: usize = 0x1000;

struct Device {
    root: PathBuf,
}

impl Device {
    /// An environment of one or two copies, made by mkenvimage.
    fn new(name: &str, copies: usize) -> Device {
        let root = std::env::temp_dir().join(format!("thimble-interop-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("run")).expect("directory");
        let device = Device { root };
        let image = device.make_image(copies == 2);
        fs::write(device.root.join("env"), image.repeat(copies)).expect("env");
        let path = device.root.join("env");
        let line = |n: usize| format!("{} {:#x} {SIZE:#x}\n", path.display(), n * SIZE);
        fs::write(device.config(), (0..copies).map(line).collect::<String>()).expect("config");
        device
    }

    fn make_image(&self, redundant: bool) -> Vec<u8> {
        fs::write(self.root.join("text"), TEXT).expect("text");
        let mut command = Command::new("mkenvimage");
        command.args(redundant.then_some("-r")).arg("-s").arg(SIZE.to_string());
        command.arg("-o").arg(self.root.join("image")).arg(self.root.join("text"));
        run(&mut command, "u-boot-tools", b"");
        fs::read(self.root.join("image")).expect("image")
    }

    fn config(&self) -> PathBuf {
        self.root.join("fw_env.config")
    }

    fn native(&self) -> Native {
        Native::new(self.config(), self.root.clone(), false)
    }

    fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command.arg("-c").arg(self.config());
        command
    }

    fn print(&self, name: &str) -> String {
        let done = run(self.tool("fw_printenv").arg("-n").arg(name), "libubootenv-tool", b"");
        String::from_utf8_lossy(&done.stdout).trim_end().to_owned()
    }

    fn set(&self, script: &str) {
        run(self.tool("fw_setenv").args(["-s", "-"]), "libubootenv-tool", script.as_bytes());
    }

    fn flags(&self) -> [u8; 2] {
        let content = fs::read(self.root.join("env")).expect("env");
        [content[4], content[SIZE + 4]]
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

const TEXT: &str = "bootcount=0\nbootlimit=1\nbootcmd=run a; run b=c\nmender_boot_part=2\nmender_boot_part_hex=2\n\
                    upgrade_available=0\n";
const CHANGES: [(&str, &str); 4] = [
    ("upgrade_available", "1"),
    ("mender_boot_part", "3"),
    ("mender_boot_part_hex", "3"),
    ("bootcount", "0"),
];

fn run(command: &mut Command, package: &str, input: &[u8]) -> Output {
    let name = command.get_program().to_string_lossy().into_owned();
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|e| panic!("{name}: {e}; install the Debian package {package}"));
    child.stdin.take().expect("piped").write_all(input).expect("takes its input");
    let done = child.wait_with_output().expect("ends");
    assert!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr));
    done
}

fn value(env: &mut dyn Environment, name: &str) -> String {
    env.read(&[name]).expect("reads").remove(name).unwrap_or_default()
}

#[test]
fn an_image_of_mkenvimage_decodes_and_encodes_to_the_same_bytes() {
    let d = Device::new("image", 1);
    for (redundant, layout) in [(false, Layout::Single), (true, Layout::Redundant)] {
        let bytes = d.make_image(redundant);
        let image = Image::decode(&bytes, layout).expect("decodes");
        let variables: Vec<u8> =
            image.env.variables().flat_map(|(n, v)| [n, b"=", v, b"\n"].concat()).collect();
        assert_eq!(String::from_utf8_lossy(&variables), TEXT);
        assert_eq!(image.encode(layout, SIZE).expect("encodes"), bytes);
    }
}

#[test]
fn what_we_write_fw_printenv_reads() {
    for copies in [1, 2] {
        let d = Device::new("ours", copies);
        d.native().write(&CHANGES).expect("writes");
        for (name, expected) in CHANGES {
            assert_eq!(d.print(name), expected, "{copies} copies, {name}");
        }
        assert_eq!(d.print("bootcmd"), "run a; run b=c");
    }
}

#[test]
fn what_fw_setenv_writes_we_read() {
    for copies in [1, 2] {
        let d = Device::new("theirs", copies);
        d.set("upgrade_available=1\nmender_boot_part=10\nother=x=y\nbootlimit=\n");
        let mut native = d.native();
        assert_eq!(value(&mut native, "mender_boot_part"), "10");
        assert_eq!(value(&mut native, "upgrade_available"), "1");
        assert_eq!(value(&mut native, "other"), "x=y");
        assert_eq!(value(&mut native, "bootlimit"), "");
        assert_eq!(value(&mut native, "bootcmd"), "run a; run b=c");
    }
}

#[test]
fn both_take_turns_across_the_wrap_of_the_flag() {
    let d = Device::new("turns", 2);
    for n in 0..300u32 {
        let text = n.to_string();
        if n % 16 == 3 {
            d.set(&format!("turn={n}\n"));
            assert_eq!(value(&mut d.native(), "turn"), text);
        } else {
            d.native().write(&[("turn", &text)]).expect("writes");
        }
        if n % 16 == 2 || (253..257).contains(&n) {
            assert_eq!(d.print("turn"), text);
        }
    }
    let [first, second] = d.flags();
    assert!(first.abs_diff(second) == 1 || first.abs_diff(second) == 255, "{first} {second}");
}

#[test]
fn both_choose_the_same_copy_and_repair_the_other() {
    for damaged in [0, 1] {
        let d = Device::new("choice", 2);
        d.native().write(&[("who", "second")]).expect("writes");
        d.native().write(&[("who", "first")]).expect("writes");
        let mut content = fs::read(d.root.join("env")).expect("env");
        content[damaged * SIZE + 50] ^= 1;
        fs::write(d.root.join("env"), content).expect("env");
        let ours = value(&mut d.native(), "who");
        assert_eq!(d.print("who"), ours, "copy {damaged} damaged");
        d.native().write(&[("repaired", "1")]).expect("writes");
        assert_eq!(d.print("repaired"), "1");
        assert_eq!(d.print("who"), ours);
    }
}

#[test]
fn the_adapter_reads_and_writes_through_the_real_tools() {
    let d = Device::new("adapter", 2);
    let script = |name: &str| {
        let path = d.root.join(name);
        let text =
            format!("PATH=\"$PATH:/usr/sbin:/sbin\"; exec {name} -c '{}' \"$@\"\n", d.config().display());
        fs::write(&path, text).expect("script");
        format!("/bin/sh {}", path.display())
    };
    let mut tools = Tools::new(script("fw_printenv"), script("fw_setenv"));
    assert_eq!(value(&mut tools, "mender_boot_part"), "2");
    assert_eq!(value(&mut tools, "bootcmd"), "run a; run b=c");
    assert!(tools.read(&["missing"]).expect("reads").is_empty());
    tools.write(&CHANGES).expect("writes");
    for (name, expected) in CHANGES {
        assert_eq!(value(&mut tools, name), expected);
        assert_eq!(value(&mut d.native(), name), expected);
    }
}
