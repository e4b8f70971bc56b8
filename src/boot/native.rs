//! The boot environment, read and written by ourselves at the places that fw_env.config names.

use super::area::Place;
use super::copies::{self, Scheme, Write};
use super::env::{self, Image, Layout};
use super::fw_config::{self, Area, CONFIG_LIMIT};
use super::{Environment, Variables};
use crate::error::{Context, Error, Result};
use crate::sys::file::{self, Lock};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Others hold the lock for one read or write.
const LOCK_LIMIT: Duration = Duration::from_secs(60);
/// Block devices and regular files count up (BE-70); raw flash is refused.
const SCHEME: Scheme = Scheme::Incremental;

/// Access without tools: block devices and regular files, one copy or two.
#[derive(Debug)]
pub struct Native {
    fw_env_config: PathBuf,
    supplied: Option<Supplied>,
    root: PathBuf,
    require_redundant: bool,
    warned: bool,
}

/// Where the environment is if there is no fw_env.config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supplied {
    /// Who says so, for errors: `board orangepi-pc`.
    pub by: String,
    /// One copy or two.
    pub areas: Vec<Area>,
    /// Files: the partition that must be mounted where they are. Elsewhere the boot loader would not look.
    pub partition: Option<PathBuf>,
}

/// What is known about the copies, good or not.
#[derive(Debug)]
pub struct Inspection {
    /// The file, or whoever supplied the places.
    pub by: String,
    /// As fw_env.config names them.
    pub copies: Vec<Inspected>,
    /// The copy that counts; `None`: no copy is good.
    pub in_use: Option<usize>,
}

/// One copy of the environment.
#[derive(Debug)]
pub struct Inspected {
    /// Where it is.
    pub area: Area,
    /// Its flag byte (0 for an only copy), or why it cannot be used.
    pub flag: Result<u8>,
}

/// All copies as they are.
struct Copies {
    by: String,
    areas: Vec<Area>,
    places: Vec<Place>,
    images: Vec<Result<Image>>,
    chosen: Option<usize>,
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
        Native { fw_env_config, supplied: None, root, require_redundant, warned: false }
    }

    /// The same, with places that are used as long as there is no fw_env.config. One that is there is never passed
    /// over, be it a link that leads nowhere or a file that cannot be read.
    pub fn or_supplied(self, supplied: Option<Supplied>) -> Native {
        Native { supplied, ..self }
    }

    /// Looks at all copies. Writes nothing.
    ///
    /// # Errors
    /// `BOOT-ENV-...` when it is not known where they are.
    pub fn inspect(&self) -> Result<Inspection> {
        let _locks = self.lock()?;
        let Copies { by, areas, images, chosen, .. } = self.copies()?;
        let both = areas.into_iter().zip(images);
        let copies = both.map(|(area, image)| Inspected { area, flag: image.map(|i| i.flag) }).collect();
        Ok(Inspection { by, copies, in_use: chosen })
    }

    /// The copies' places as they are named, and by whom.
    fn areas(&self) -> Result<(String, Vec<Area>)> {
        let path = self.fw_env_config.display().to_string();
        let text = match file::read_limited(&self.fw_env_config, CONFIG_LIMIT) {
            Ok(text) => text,
            Err(e) => {
                let absent =
                    self.fw_env_config.symlink_metadata().is_err_and(|e| e.kind() == ErrorKind::NotFound);
                return match &self.supplied {
                    Some(supplied) if absent => Ok((supplied.by.clone(), supplied.areas.clone())),
                    Some(_) | None => Err(e).context("BOOT-ENV-CONFIG", || {
                        format!(
                            "cannot read {path}, which says where the boot environment is (DEVICE OFFSET SIZE, a line for each copy)"
                        )
                    }),
                };
            }
        };
        let areas = fw_config::parse(&String::from_utf8_lossy(&text)).map_err(|e| e.during(&path))?;
        Ok((path, areas))
    }

    fn places(&self, by: &str, areas: &[Area]) -> Result<Vec<Place>> {
        let supplied = self.supplied.as_ref().filter(|s| s.by == by);
        let partition = supplied.and_then(|s| s.partition.as_deref());
        let located = |area: &Area| {
            let place = Place::locate(area)?;
            if let Some(partition) = partition {
                place.must_be_on(partition)?;
            }
            Ok(place)
        };
        let places: Result<Vec<Place>> = areas.iter().map(located).collect();
        let places = places.map_err(|e| match partition {
            Some(p) => {
                e.during(format!("{by} (the file is on {}, which must be mounted there)", p.display()))
            }
            None => e.during(by),
        })?;
        match places.as_slice() {
            [_] if self.require_redundant => Err(Error::new(
                "BOOT-ENV-SINGLE",
                format!("{by} names one copy of the environment, and RequireRedundant asks for two"),
            )),
            [first, second] if first.overlaps(second) => Err(Error::new(
                "BOOT-ENV-CONFIG",
                format!("{by}: both lines lead to the same place: one write would destroy both copies"),
            )),
            _ => Ok(places),
        }
    }

    fn copies(&self) -> Result<Copies> {
        let (by, areas) = self.areas()?;
        let places = self.places(&by, &areas)?;
        let layout = if places.len() == 1 { Layout::Single } else { Layout::Redundant };
        let images: Vec<Result<Image>> =
            places.iter().map(|p| p.read().and_then(|bytes| Image::decode(&bytes, layout))).collect();
        let flag = |n: usize| images.get(n).and_then(|i| i.as_ref().ok()).map(|i| i.flag);
        let chosen = copies::newest(SCHEME, [flag(0), flag(1)]);
        Ok(Copies { by, areas, places, images, chosen })
    }

    fn load(&self) -> Result<Found> {
        let Copies { by, places, mut images, chosen, .. } = self.copies()?;
        let good: Vec<bool> = images.iter().map(Result::is_ok).collect();
        if let Some(chosen) = chosen
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
            "no copy of the boot environment is good, so none is touched. {}. Does {by} match the boot loader's \
             settings? If so, `saveenv` at its prompt makes a new one",
            reasons.join("; ")
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
                Err(e) if e.kind() == ErrorKind::ReadOnlyFilesystem => {}
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
