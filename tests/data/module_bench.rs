//! A made-up device for the tests of Update Modules: a module, which is a shell script, a tree, payload files.
#![allow(dead_code)]

use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use thimble::artifact::{self, Header, Options};
use thimble::error::{Error, Result};
use thimble::install::module::{Current, Module};
use thimble::ports::PayloadFiles;
use thimble_testkit::artifact::ArtifactSpec;
use thimble_testkit::tempdir::TempDir;

pub struct Bench {
    dir: TempDir,
    kind: String,
}

impl Bench {
    /// With the module `test`, a shell script.
    pub fn new(script: &str) -> Bench {
        Bench::of("test", script)
    }

    /// With a module of that name.
    pub fn of(kind: &str, script: &str) -> Bench {
        let bench = Bench { dir: TempDir::new("module"), kind: kind.to_owned() };
        fs::create_dir_all(bench.dir().join("modules/v3")).expect("creates");
        let text =
            if script.starts_with("#!") { script.to_owned() } else { format!("#!/bin/sh\n{script}\n") };
        fs::write(bench.program(), text).expect("writes");
        fs::set_permissions(bench.program(), fs::Permissions::from_mode(0o755)).expect("mode");
        bench
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn program(&self) -> PathBuf {
        self.dir().join("modules/v3").join(&self.kind)
    }

    pub fn tree(&self) -> PathBuf {
        self.dir().join("data/modules/v3/payloads/0000/tree")
    }

    pub fn in_tree(&self, name: &str) -> PathBuf {
        self.tree().join(name)
    }

    /// The handler; no tree yet.
    pub fn module(&self) -> Module {
        Module::new(&self.kind, self.dir(), &self.dir().join("data"), Duration::from_secs(30))
            .expect("a good name")
    }

    /// The handler, with the tree of an Artifact that says little.
    pub fn prepared(&self) -> Module {
        let module = self.module();
        // One file: a root file system has that (AF-35), and to a module it does not matter.
        let spec = ArtifactSpec::module(&self.kind, "new-name").file("image", b"content".to_vec());
        module.prepare(&header(&spec), &current()).expect("prepares");
        module
    }

    /// As [`Bench::prepared`], with a time limit and a time of grace in seconds.
    pub fn prepared_with(&self, timeout: f64, grace: f64) -> Module {
        self.prepared();
        let timeout = Duration::from_secs_f64(timeout);
        let module =
            Module::new(&self.kind, self.dir(), &self.dir().join("data"), timeout).expect("a good name");
        module.with_grace(Duration::from_secs_f64(grace))
    }
}

/// What is installed on the device.
pub fn current() -> Current {
    Current { name: "old-name".into(), group: None, device_type: "test-type".into() }
}

/// The header of that Artifact.
pub fn header(spec: &ArtifactSpec) -> Header {
    let options = Options::default();
    artifact::open(spec.bytes().as_slice(), &options).expect("a good Artifact").header
}

/// Payload files as they might arrive.
#[derive(Default)]
pub struct Fake {
    pub files: VecDeque<(String, Vec<u8>)>,
    pub current: Vec<u8>,
    /// What comes instead of the rest of a file that is shorter than it says.
    pub broken: Option<(usize, Error)>,
    /// What comes instead of the end.
    pub bad_end: Option<Error>,
    /// Before each piece.
    pub delay: Duration,
    pub taken: u64,
    pub ended: bool,
}

impl Fake {
    pub fn of(files: &[(&str, &[u8])]) -> Fake {
        let files = files.iter().map(|(name, content)| ((*name).to_owned(), content.to_vec())).collect();
        Fake { files, ..Fake::default() }
    }

    pub fn none() -> Fake {
        Fake::of(&[])
    }
}

impl PayloadFiles for Fake {
    fn next_file(&mut self) -> Result<Option<(String, u64)>> {
        let Some((name, content)) = self.files.pop_front() else {
            self.ended = true;
            return self.bad_end.clone().map_or(Ok(None), Err);
        };
        let size = content.len() as u64;
        self.current = content;
        Ok(Some((name, size)))
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        std::thread::sleep(self.delay);
        if let Some((after, error)) = &self.broken
            && self.taken >= *after as u64
        {
            return Err(error.clone());
        }
        let n = self.current.len().min(buffer.len());
        buffer[..n].copy_from_slice(&self.current[..n]);
        self.current.drain(..n);
        self.taken += n as u64;
        Ok(n)
    }
}

/// Content in which every place is different from the next.
pub fn content(size: usize) -> Vec<u8> {
    (0..size as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

pub fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().map(str::to_owned).collect()
}

/// Names in a directory of the tree, sorted.
pub fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("lists");
    let mut names: Vec<String> =
        entries.map(|e| e.expect("entry").file_name().into_string().expect("a name")).collect();
    names.sort();
    names
}

/// Whether a process runs (and is no zombie).
pub fn alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z")
}

/// Ends a process that a test has left running.
pub fn end(pid: &str) {
    let _ = std::process::Command::new("kill").arg(pid).status();
}

/// Whether it becomes true in time.
pub fn wait_for(limit: Duration, mut what: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + limit;
    loop {
        if what() {
            return true;
        }
        if Instant::now() > until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
