//! The same promises on real block devices. Needs root and losetup (Debian package mount), so it runs only when
//! asked for: `cargo test --test boot_block -- --ignored`.
#![allow(clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::process::Command;
use thimble::boot::Environment;
use thimble::boot::native::Native;
use thimble::error::Result;
use thimble::install::rootfs::{RootfsImage, RootfsOptions};
use thimble::ports::{Payload, PayloadFiles};

/// A file attached to a loop device; detached with the test.
struct Loop {
    file: PathBuf,
    device: String,
}

impl Loop {
    fn new(name: &str, content: &[u8]) -> Loop {
        let file = std::env::temp_dir().join(format!("thimble-block-{}-{name}", std::process::id()));
        fs::write(&file, content).expect("file");
        let done = Command::new("losetup").args(["-f", "--show"]).arg(&file).output();
        let done = done.expect("losetup: install the Debian package mount");
        assert!(done.status.success(), "losetup: {}", String::from_utf8_lossy(&done.stderr));
        Loop { file, device: String::from_utf8_lossy(&done.stdout).trim().to_owned() }
    }

    fn content(&self) -> Vec<u8> {
        let mut content = Vec::new();
        let mut device = fs::File::open(&self.device).expect("device");
        device.seek(SeekFrom::Start(0)).expect("seeks");
        device.read_to_end(&mut content).expect("reads");
        content
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.device]).status();
        let _ = fs::remove_file(&self.file);
    }
}

fn image(flag: u8, entries: &str, size: usize) -> Vec<u8> {
    let mut data = entries.as_bytes().to_vec();
    data.resize(size - 5, 0);
    let mut crc = flate2::Crc::new();
    crc.update(&data);
    [&crc.sum().to_le_bytes()[..], &[flag], &data].concat()
}

struct One(Option<Vec<u8>>, Vec<u8>);

impl PayloadFiles for One {
    fn next_file(&mut self) -> Result<Option<(String, u64)>> {
        let Some(file) = self.0.take() else { return Ok(None) };
        self.1 = file;
        Ok(Some(("image".to_owned(), self.1.len() as u64)))
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let n = self.1.len().min(buffer.len());
        buffer[..n].copy_from_slice(&self.1[..n]);
        self.1.drain(..n);
        Ok(n)
    }
}

#[test]
#[ignore = "needs root and loop devices"]
fn an_environment_that_is_not_aligned_to_sectors_leaves_its_neighbours_alone() {
    const SIZE: usize = 0x3f0;
    let mut content = vec![0x5a; 1 << 20];
    content[0x123..0x123 + SIZE].copy_from_slice(&image(255, "a=1\0b=2\0", SIZE));
    let second = content.len() - 0x777;
    content[second..second + SIZE].copy_from_slice(&image(254, "a=0\0", SIZE));
    let device = Loop::new("env", &content);
    let root = std::env::temp_dir().join(format!("thimble-block-{}-root", std::process::id()));
    fs::create_dir_all(&root).expect("directory");
    let config = root.join("fw_env.config");
    let text = format!("{d} 0x123 {SIZE:x}\n{d} -0x777 {SIZE:x}\n", d = device.device);
    fs::write(&config, text).expect("config");
    let mut native = Native::new(config, root.clone(), true);
    native.write(&[("a", "7")]).expect("writes");
    let values = native.read(&["a", "b"]).expect("reads");
    assert_eq!((values["a"].as_str(), values["b"].as_str()), ("7", "2"));
    let after = device.content();
    assert_eq!(after[second + 4], 0, "the counter has wrapped");
    assert!(after[..second] == content[..second] && after[second + SIZE..] == content[second + SIZE..]);
    fs::remove_dir_all(root).expect("removed");
}

#[test]
#[ignore = "needs root and loop devices"]
fn a_block_device_is_written_read_back_and_not_taken_from_others() {
    const SIZE: usize = 1 << 20;
    let (a, b) = (Loop::new("a", &vec![1; SIZE]), Loop::new("b", &vec![2; SIZE]));
    let root = std::env::temp_dir().join(format!("thimble-block-{}-slots", std::process::id()));
    fs::create_dir_all(root.join("proc/self")).expect("directory");
    let line = format!("22 1 179:2 / / rw - ext4 {} rw\n", a.device);
    fs::write(root.join("proc/self/mountinfo"), line).expect("file");
    let number = a.device.trim_start_matches("/dev/loop").to_owned();
    let env = root.join("env");
    fs::write(&env, image(1, &format!("mender_boot_part={number}\0"), 0x400)).expect("env");
    let redundant = [fs::read(&env).expect("env"), image(0, "", 0x400)].concat();
    fs::write(&env, redundant).expect("env");
    let config = root.join("fw_env.config");
    fs::write(&config, format!("{e} 0 400\n{e} 0x400 400\n", e = env.display())).expect("config");
    let options = RootfsOptions::new(root.clone(), Some(a.device.clone()), Some(b.device.clone()));
    let mut handler = RootfsImage::new(options, Box::new(Native::new(config, root.clone(), true)));

    const O_EXCL: i32 = 0o200;
    let holder = fs::OpenOptions::new().read(true).custom_flags(O_EXCL).open(&b.device).expect("opens");
    let error = handler.store(&mut One(Some(vec![9; 1000]), vec![])).expect_err("in use");
    assert_eq!(error.code, "ROOTFS-DEVICE", "{error}");
    drop(holder);

    let image: Vec<u8> = (0..700_001u32).map(|n| (n % 251) as u8).collect();
    handler.store(&mut One(Some(image.clone()), vec![])).expect("stores");
    let content = b.content();
    assert!(content[..image.len()] == image[..] && content[image.len()..].iter().all(|x| *x == 2));
    assert_eq!(content.len(), SIZE);
    let error = handler.store(&mut One(Some(vec![9; SIZE + 1]), vec![])).expect_err("too large");
    assert_eq!(error.code, "ROOTFS-SIZE");
    let mut first = [0; 8];
    fs::File::open(&a.device).expect("opens").read_exact_at(&mut first, 0).expect("reads");
    assert_eq!(first, [1; 8]);
    fs::remove_dir_all(root).expect("removed");
}
