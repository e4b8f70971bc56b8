//! The boot environment, read and written by ourselves at the places that fw_env.config names.

use super::area::Place;
use super::copies::{self, Scheme, Write};
use super::env::{self, Image, Layout};
use super::fw_config;
use super::{Environment, Variables};
use crate::error::{Context, Error, Result};
use crate::sys::file::{self, Lock};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A fw_env.config longer than this is not one.
const CONFIG_LIMIT: u64 = 64 * 1024;
/// Others hold the lock for one read or write.
const LOCK_LIMIT: Duration = Duration::from_secs(60);
/// Block devices and regular files count up (BE-70); raw flash is refused.
const SCHEME: Scheme = Scheme::Incremental;

/// Access without tools: block devices and regular files, one copy or two.
#[derive(Debug)]
pub struct Native {
    fw_env_config: PathBuf,
    root: PathBuf,
    require_redundant: bool,
    warned: bool,
}

/// What was found on the devices.
struct Found {
    places: Vec<Place>,
    /// Whether each copy is good.
    good: Vec<bool>,
    /// The copy that counts, and its number.
    chosen: usize,
    image: Image,
}

impl Native {
    /// `fw_env_config` is read at each call. Below `root` (`/` if there is no `--root`) the locks are looked for,
    /// and /sys. With `require_redundant` an environment with one copy is refused (BE-10).
    pub fn new(fw_env_config: PathBuf, root: PathBuf, require_redundant: bool) -> Native {
        Native { fw_env_config, root, require_redundant, warned: false }
    }

    fn places(&self) -> Result<Vec<Place>> {
        let path = self.fw_env_config.display().to_string();
        let text = file::read_limited(&self.fw_env_config, CONFIG_LIMIT)
            .context("BOOT-ENV-CONFIG", || {
                format!("cannot read {path}, which says where the boot environment is")
            })?;
        let areas = fw_config::parse(&String::from_utf8_lossy(&text)).map_err(|e| e.during(&path))?;
        let places: Result<Vec<Place>> = areas.iter().map(Place::locate).collect();
        let places = places.map_err(|e| e.during(&path))?;
        match places.as_slice() {
            [_] if self.require_redundant => Err(Error::new(
                "BOOT-ENV-SINGLE",
                format!("{path} names one copy of the environment, and RequireRedundant asks for two"),
            )),
            [first, second] if first.overlaps(second) => Err(Error::new(
                "BOOT-ENV-CONFIG",
                format!("{path}: both lines lead to the same place: one write would destroy both copies"),
            )),
            _ => Ok(places),
        }
    }

    fn load(&self) -> Result<Found> {
        let places = self.places()?;
        let layout = if places.len() == 1 { Layout::Single } else { Layout::Redundant };
        let mut images: Vec<Result<Image>> =
            places.iter().map(|p| p.read().and_then(|bytes| Image::decode(&bytes, layout))).collect();
        let good: Vec<bool> = images.iter().map(Result::is_ok).collect();
        let flag = |n: usize| images.get(n).and_then(|i| i.as_ref().ok()).map(|i| i.flag);
        if let Some(chosen) = copies::newest(SCHEME, [flag(0), flag(1)])
            && let Ok(image) = images.swap_remove(chosen)
        {
            return Ok(Found { places, good, chosen, image });
        }
        let reasons: Vec<String> = places
            .iter()
            .zip(&images)
            .filter_map(|(p, i)| i.as_ref().err().map(|e| format!("{}: {}", p.describe(), e.text)))
            .collect();
        let text = format!(
            "no copy of the boot environment is good, so none is touched. {}. Does {} match the boot loader's \
             settings? If so, `saveenv` at its prompt makes a new one",
            reasons.join("; "),
            self.fw_env_config.display()
        );
        Err(Error::new("BOOT-ENV-CORRUPT", text))
    }

    /// Takes the locks of all generations of the tools, where their directory exists (BE-57).
    fn lock(&self) -> Result<Vec<Lock>> {
        let mut held = Vec::new();
        let mut seen: Vec<PathBuf> = Vec::new();
        for dir in ["/run", "/var/lock"] {
            let Ok(dir) = std::fs::canonicalize(file::below(&self.root, dir)) else { continue };
            if !dir.is_dir() || seen.contains(&dir) {
                continue; // The same file locked twice would wait for itself.
            }
            let path = dir.join("fw_printenv.lock");
            match Lock::wait_for(&path, 0o666, LOCK_LIMIT) {
                Ok(lock) => held.push(lock),
                // Nobody else can take it either.
                Err(e) if e.kind() == std::io::ErrorKind::ReadOnlyFilesystem => {}
                Err(e) => {
                    let text = format!("cannot lock {}: {e}. Does fw_setenv hang?", path.display());
                    return Err(Error::new("BOOT-ENV-LOCK", text));
                }
            }
            seen.push(dir);
        }
        Ok(held)
    }

    fn warn_single(&mut self, place: &Place) {
        if !std::mem::replace(&mut self.warned, true) {
            log::warn!(
                "the boot environment has one copy only ({}): losing power during a write can leave the board \
                 unbootable. Configure a redundant environment",
                place.describe()
            );
        }
    }
}

impl Environment for Native {
    fn read(&mut self, names: &[&str]) -> Result<Variables> {
        let _locks = self.lock()?;
        let found = self.load()?;
        let value = |name: &str| found.image.env.get(name).filter(|v| !v.is_empty());
        let text = |v: &[u8]| String::from_utf8_lossy(v).into_owned();
        Ok(names.iter().filter_map(|n| Some(((*n).to_owned(), text(value(n)?)))).collect())
    }

    fn write(&mut self, changes: &[(&str, &str)]) -> Result<()> {
        for (name, value) in changes {
            env::check(name, value)?;
        }
        let _locks = self.lock()?;
        let Found { places, good, chosen, mut image } = self.load()?;
        let mut changed = false;
        for (name, value) in changes {
            changed |= image.env.set(name, value)?;
        }
        if !changed && good.iter().all(|g| *g) {
            return Ok(()); // Flash wears out (BE-82).
        }
        if let [only] = places.as_slice() {
            let bytes = image.encode(Layout::Single, only.size())?;
            self.warn_single(only);
            return only.write_only_copy(&bytes, &self.root);
        }
        write_plan(&places, chosen, &image, &self.root)
    }
}

fn write_plan(places: &[Place], chosen: usize, image: &Image, root: &Path) -> Result<()> {
    let size = places.first().map_or(0, Place::size);
    for Write { copy, at, bytes } in copies::plan(SCHEME, chosen, image, size)? {
        if let Some(place) = places.get(copy) {
            place.write(at, &bytes, root)?;
        }
    }
    Ok(())
}
