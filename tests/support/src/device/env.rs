//! The U-Boot environment in a file, written apart from thimble's own codec so that one checks the other.
//!
//! | offset | single copy | redundant |
//! | --- | --- | --- |
//! | 0 | CRC-32 of the data, little-endian | same |
//! | 4 | data | flag, counts up with each write |
//! | 5 | | data |
//!
//! Data: `name=value\0` each, one more `\0`, filler up to the size of the copy.

use flate2::Crc;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Where the first copy starts; the second follows the first.
pub(super) const OFFSET: u64 = 0x1000;
/// Bytes of one copy.
pub(super) const SIZE: usize = 0x4000;

/// Variables by name.
pub(super) type Variables = BTreeMap<String, String>;

/// An environment of one or two copies in a file.
#[derive(Clone, Debug)]
pub(super) struct Environment {
    pub(super) path: PathBuf,
    pub(super) redundant: bool,
}

impl Environment {
    /// Makes the file. Both copies of a redundant environment are valid, the first is the newer one.
    pub(super) fn create(path: &Path, redundant: bool, variables: &Variables) -> Environment {
        let environment = Environment { path: path.to_owned(), redundant };
        let bytes = vec![0xff; OFFSET as usize + SIZE * environment.copies()];
        std::fs::write(path, bytes).expect("make the environment's file");
        for copy in 0..environment.copies() {
            environment.put(copy, variables, 1 - copy as u8);
        }
        environment
    }

    /// Text for `fw_env.config`.
    pub(super) fn config(&self) -> String {
        let line = |copy: usize| {
            let offset = OFFSET + (copy * SIZE) as u64;
            format!("{} {offset:#x} {SIZE:#x}\n", self.path.display())
        };
        format!("# device offset size\n{}", (0..self.copies()).map(line).collect::<String>())
    }

    /// What the boot loader would read; `None` when no copy is valid.
    pub(super) fn read(&self) -> Option<Variables> {
        self.newest().map(|(_, _, variables)| variables)
    }

    /// Changes variables as the boot loader's `saveenv` does.
    pub(super) fn change(&self, changes: &[(&str, String)]) {
        let (copy, flag, mut variables) = self.newest().expect("a valid copy of the boot environment");
        for (name, value) in changes {
            variables.insert((*name).to_owned(), value.clone());
        }
        self.put((copy + 1) % self.copies(), &variables, flag.wrapping_add(1));
    }

    /// Damages one copy, as a power cut in the middle of its write would.
    pub(super) fn damage(&self, copy: usize) {
        self.write_at(OFFSET + (copy * SIZE) as u64 + 64, &[0xaa, 0x55, 0xaa, 0x55]);
    }

    fn copies(&self) -> usize {
        if self.redundant { 2 } else { 1 }
    }

    fn newest(&self) -> Option<(usize, u8, Variables)> {
        let mut valid = (0..self.copies()).filter_map(|copy| {
            let (flag, variables) = self.get(copy)?;
            Some((copy, flag, variables))
        });
        match (valid.next(), valid.next()) {
            (Some(first), Some(second)) => {
                let second_is_newer = match (first.1, second.1) {
                    (255, 0) => true,
                    (0, 255) => false,
                    (first, second) => second > first,
                };
                Some(if second_is_newer { second } else { first })
            }
            (only, _) => only,
        }
    }

    fn get(&self, copy: usize) -> Option<(u8, Variables)> {
        let mut bytes = vec![0; SIZE];
        let mut file = File::open(&self.path).ok()?;
        file.seek(SeekFrom::Start(OFFSET + (copy * SIZE) as u64)).ok()?;
        file.read_exact(&mut bytes).ok()?;
        let (head, data) = bytes.split_at(if self.redundant { 5 } else { 4 });
        if head[..4] != crc(data).to_le_bytes() {
            return None;
        }
        let flag = if self.redundant { head[4] } else { 0 };
        let mut variables = Variables::new();
        for entry in data.split(|&byte| byte == 0).take_while(|entry| !entry.is_empty()) {
            let entry = String::from_utf8_lossy(entry);
            if let Some((name, value)) = entry.split_once('=') {
                variables.insert(name.to_owned(), value.to_owned());
            }
        }
        Some((flag, variables))
    }

    fn put(&self, copy: usize, variables: &Variables, flag: u8) {
        let head = if self.redundant { 5 } else { 4 };
        let mut data = Vec::new();
        for (name, value) in variables {
            data.extend_from_slice(format!("{name}={value}\0").as_bytes());
        }
        data.push(0);
        assert!(data.len() + head <= SIZE, "the variables fit into the environment");
        data.resize(SIZE - head, 0xff);
        let mut bytes = crc(&data).to_le_bytes().to_vec();
        if self.redundant {
            bytes.push(flag);
        }
        bytes.extend(data);
        self.write_at(OFFSET + (copy * SIZE) as u64, &bytes);
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) {
        let written = OpenOptions::new().write(true).open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(offset))?;
            file.write_all(bytes)
        });
        written.unwrap_or_else(|error| panic!("{}: {error}", self.path.display()));
    }
}

fn crc(data: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(data);
    crc.sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TempDir, tool};

    fn some() -> Variables {
        [("bootcount", "0"), ("mender_boot_part", "2"), ("odd", "a=b c")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn writes_alternate_and_survive_the_wrap_of_the_counter() {
        let dir = TempDir::new("env");
        let environment = Environment::create(&dir.path().join("env"), true, &some());
        assert_eq!(environment.read(), Some(some()));
        for round in 0..300 {
            environment.change(&[("round", round.to_string())]);
            assert_eq!(environment.read().unwrap()["round"], round.to_string());
        }
        let newest = environment.newest().unwrap().0;
        environment.damage(newest);
        assert_eq!(environment.read().unwrap()["round"], "298");
        environment.damage(1 - newest);
        assert_eq!(environment.read(), None);
    }

    #[test]
    fn the_tool_fw_printenv_reads_the_same() {
        let dir = TempDir::new("env");
        for redundant in [false, true] {
            let environment = Environment::create(&dir.path().join("env"), redundant, &some());
            environment.change(&[("bootcount", "7".to_owned())]);
            let config = dir.path().join("fw_env.config");
            std::fs::write(&config, environment.config()).unwrap();
            let config = config.to_str().unwrap();
            let out = tool::run("fw_printenv", "libubootenv-tool", &["-c", config]).unwrap();
            let mut lines: Vec<_> = std::str::from_utf8(&out).unwrap().lines().collect();
            lines.sort();
            assert_eq!(lines, ["bootcount=7", "mender_boot_part=2", "odd=a=b c"]);
            let set = ["-c", config, "mender_boot_part", "3"];
            tool::run("fw_setenv", "libubootenv-tool", &set).unwrap();
            assert_eq!(environment.read().unwrap()["mender_boot_part"], "3");
        }
    }
}
