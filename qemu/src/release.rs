//! The releases of a board: images and Artifacts, made when first asked for and kept until their inputs change.

use crate::board::Board;
use crate::disk;
use crate::kernel::guest;
use crate::machine::images;
use crate::rootfs::{Fault, HOLDS, Parts};
use crate::scenario::Release;
use crate::tool::{Result, read, root, sha256, write};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use thimble_testkit::{ArtifactSpec, Content};

/// Makes them.
pub struct Releases {
    board: Board,
    parts: Parts,
    /// Of everything that goes in.
    inputs: String,
    sums: Mutex<BTreeMap<String, String>>,
    /// Held while something is made: machines of one board want the same at the same time.
    making: Mutex<()>,
}

impl Releases {
    /// The board's; also makes its card with release-1.
    pub fn new(board: &Board) -> Result<Releases> {
        let parts = Parts::collect(board)?;
        let mut inputs = parts.sum();
        for dir in [root().join("qemu/guest"), board.dir.clone(), root().join("qemu/src")] {
            let mut files: Vec<PathBuf> = fs::read_dir(&dir)
                .map_err(|e| format!("{}: {e}", dir.display()))?
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.is_file())
                // Of the sources only those that make images.
                .filter(|path| path.extension().is_none_or(|e| e != "rs") || is_maker(path))
                .collect();
            files.sort();
            for file in files {
                inputs += &sha256(&fs::read(&file).map_err(|e| format!("{}: {e}", file.display()))?);
            }
        }
        let releases = Releases {
            board: board.clone(),
            parts,
            inputs: sha256(inputs.as_bytes()),
            sums: Mutex::default(),
            making: Mutex::default(),
        };
        let card = images(board).join("card.img");
        let first = releases.image("release-1", Fault::None)?;
        releases.keep(&card, || disk::build(board, &card, &first))?;
        Ok(releases)
    }

    /// The root file system of a release.
    pub fn image(&self, version: &str, fault: Fault) -> Result<PathBuf> {
        let path = self.parts.image_path(version, fault);
        self.keep(&path, || self.parts.image(version, fault))?;
        Ok(path)
    }

    /// SHA-256 of the good image of a release.
    pub fn sum(&self, version: &str) -> Result<String> {
        let mut sums = self.sums.lock().map_err(|e| e.to_string())?;
        if let Some(sum) = sums.get(version) {
            return Ok(sum.clone());
        }
        let image = self.image(version, Fault::None)?;
        let sum = sha256(&fs::read(&image).map_err(|e| format!("{}: {e}", image.display()))?);
        sums.insert(version.to_owned(), sum.clone());
        Ok(sum)
    }

    /// The Artifact of a release.
    pub fn artifact(&self, release: &Release) -> Result<PathBuf> {
        let image = self.image(release.version, release.fault)?;
        let scripts: String =
            release.scripts.iter().map(|(name, text)| format!("{name}\0{text}\0")).collect();
        let tag =
            if scripts.is_empty() { String::new() } else { format!("-{}", &sha256(scripts.as_bytes())[..8]) };
        let path = image.with_extension("").display().to_string() + &tag + ".mender";
        let path = PathBuf::from(path);
        self.keep(&path, || {
            let mut spec =
                ArtifactSpec::rootfs(release.version, Content::File(image)).device_types(&[&self.board.name]);
            // As small as it gets: an emulated network may take 5 us of the host for each byte.
            spec.pack_with = Some((".gz", &["gzip", "-9n"]));
            // Scripts of these states come with the Artifact, never from the root file system.
            let hold = String::from_utf8_lossy(&guest("hold")?).into_owned();
            for state in HOLDS {
                spec = spec.script(&format!("{state}_00_hold"), &hold);
            }
            for (name, text) in release.scripts {
                spec = spec.script(name, &format!("#!/bin/sh\n{text}\n"));
            }
            spec.write(&path).map_err(|e| format!("{}: {e}", path.display()))
        })?;
        Ok(path)
    }

    /// Makes a file unless it is there and was made of the same.
    fn keep(&self, path: &Path, make: impl FnOnce() -> Result<()>) -> Result<()> {
        let _making = self.making.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let stamp =
            path.with_extension(format!("{}.stamp", path.extension().unwrap_or_default().to_string_lossy()));
        if path.exists() && read(&stamp).is_ok_and(|text| text == self.inputs) {
            return Ok(());
        }
        let _ = fs::remove_file(&stamp);
        make()?;
        write(&stamp, &self.inputs)
    }
}

fn is_maker(path: &Path) -> bool {
    ["disk.rs", "kernel.rs", "release.rs", "rootfs.rs"].iter().any(|name| path.ends_with(name))
}
