//! Artifacts on their way from a file, a URL or standard input to the handler of their payload.

use super::server;
use super::setup::{self, Place};
use std::cell::RefCell;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;
use thimble::agent::{self, Offer, Trial};
use thimble::artifact::{self, Options, VerifyKey};
use thimble::board::Sourced;
use thimble::error::{Context, Error, Result};
use thimble::install::module::{Current, Module};
use thimble::install::rootfs::{RootfsImage, RootfsOptions};
use thimble::ports::{Depot, Payload, PayloadFiles};
use thimble::scripts;
use thimble::server::Client;
use thimble::store::InstalledStore;
use thimble::sys::{file, signal};

/// The payload type that is built in (decision 16).
const ROOTFS_IMAGE: &str = "rootfs-image";

/// Opens Artifacts and knows the handlers.
pub struct ArtifactDepot {
    place: Rc<Place>,
    client: Rc<RefCell<Client>>,
    payload: Option<artifact::Payload<Box<dyn Read>>>,
    rootfs: RootfsImage,
    /// The one that was asked for last; knows nothing that is not on the disk.
    module: Option<Module>,
    /// Tell a person at the command line that it has begun.
    announce: bool,
}

impl ArtifactDepot {
    /// For this place. `client` fetches.
    pub fn new(place: Rc<Place>, client: Rc<RefCell<Client>>, announce: bool) -> ArtifactDepot {
        let rootfs = rootfs_image(&place);
        ArtifactDepot { place, client, payload: None, rootfs, module: None, announce }
    }

    fn source(&self, offer: &Offer) -> Result<Box<dyn Read>> {
        let uri = offer.uri.as_str();
        if uri.starts_with("http://") || uri.starts_with("https://") {
            // The client must be free when the link has to be refreshed.
            let downloader = self.client.borrow().downloader();
            let refresh = server::refresh(&self.place, &self.client, &offer.id);
            return Ok(Box::new(downloader.open(uri, refresh).map_err(|fault| fault.error)?));
        }
        if uri == "-" {
            return Ok(Box::new(std::io::stdin().lock()));
        }
        let opened =
            File::open(uri).context("ARTIFACT-OPEN", || format!("cannot open the Artifact {uri}"))?;
        if opened.metadata().is_ok_and(|m| m.is_dir()) {
            return Err(Error::new("ARTIFACT-OPEN", format!("{uri} is a directory, not an Artifact")));
        }
        Ok(Box::new(opened))
    }

    fn open_source(&mut self, offer: &Offer) -> Result<agent::Artifact> {
        self.payload = None;
        let keys = verify_keys(&self.place.config.artifact_verify_keys);
        let signature_required = !self.place.config.artifact_verify_keys.is_empty();
        let source = self.source(offer)?;
        let options = Options {
            keys: &keys,
            signature_required,
            xz_memory_limit: self.place.config.xz_memory_limit,
            zstd_window_limit: self.place.config.zstd_window_limit,
        };
        let opened = artifact::open(source, &options).map_err(|e| match offer.id.as_str() {
            "" => e.during(&offer.uri), // a person asks which file; a deployment has one, and its link is a secret
            _ => e,
        })?;
        let header = opened.header;
        if header.signed && !signature_required {
            log::warn!("the Artifact is signed, but no ArtifactVerifyKey is configured: not verified");
        }
        let empty = header.payload_type.is_none();
        // AF-46, AF-48. That holds without payload too: Mender 5 does not look at it when such an Artifact is installed
        // by hand (ST35).
        let installed = InstalledStore::new(&self.place.dirs.datastore).look()?;
        let provides = agent::Installed {
            name: setup::name(&installed).to_owned(),
            group: installed.group,
            provides: installed.provides,
        };
        let device_type = self.place.device_type()?;
        header.check_depends(&device_type, &provides.all())?;
        let module = match header.payload_type.as_deref().filter(|kind| self.runs_module(kind)) {
            Some(kind) => Some(self.module_for(kind)?),
            None => None,
        };
        if let Some(module) = &module {
            module.check()?;
        }
        scripts::put_in_place(&self.place.artifact_scripts(), header.format, opened.scripts.len(), |each| {
            opened.scripts.extract(each)
        })?;
        if let Some(module) = &module {
            let current = Current { name: provides.name, group: provides.group, device_type };
            module.prepare(&header, &current)?;
        }
        log::info!("Artifact {} is verified as far as its header and fits this device", header.name);
        if self.announce && !empty {
            super::say("Installing artifact...");
        }
        self.payload = Some(opened.payload);
        Ok(agent::Artifact {
            name: header.name,
            group: header.group,
            provides: header.provides,
            clears: header.clears,
            payload: header.payload_type,
        })
    }

    /// What has become of a root file system that is being tried.
    pub fn trial(&mut self, payload: &str) -> Trial {
        if self.runs_module(payload) {
            return Trial::NotKnown;
        }
        match self.rootfs.facts() {
            Ok(facts) if !facts.pending => Trial::Over,
            Ok(facts) if facts.running == facts.boot_part => Trial::Running,
            Ok(_) => Trial::Waiting,
            Err(e) => {
                log::warn!("{e}");
                Trial::NotKnown
            }
        }
    }

    /// Whether payloads of this type are for an Update Module (decision 16).
    fn runs_module(&self, payload: &str) -> bool {
        payload != ROOTFS_IMAGE || self.place.config.rootfs_use_module
    }

    fn module_for(&self, payload: &str) -> Result<Module> {
        let Place { dirs, config, .. } = &*self.place;
        let module = Module::new(payload, &dirs.data, &dirs.datastore, config.module_timeout)?;
        if payload != ROOTFS_IMAGE {
            return Ok(module);
        }
        // The system before this one may have installed it with what is built in. A part that is not known then is
        // empty, as it is for every module.
        let installed = InstalledStore::new(&dirs.datastore).look().unwrap_or_default();
        Ok(module.taking_over(Current {
            name: setup::name(&installed).to_owned(),
            group: installed.group,
            device_type: self.place.device_type().unwrap_or_default(),
        }))
    }
}

fn rootfs_image(place: &Place) -> RootfsImage {
    let config = &place.config;
    let plan = place.plan(&place.identity());
    let part = |part: &Option<Sourced<String>>| part.as_ref().map(|p| p.value.clone());
    let mut options = RootfsOptions::new(place.root.clone(), part(&plan.part_a), part(&plan.part_b));
    options.verify = config.rootfs_verify_writes;
    options.memory = Some(place.dirs.datastore.join("thimble-rootfs-image"));
    RootfsImage::new(options, plan.environment(config.boot_env_require_redundant))
}

/// The keys that Artifacts must be signed with. A key that cannot be read counts: then nothing is accepted that the
/// others do not verify (AF-63).
fn verify_keys(paths: &[std::path::PathBuf]) -> Vec<VerifyKey> {
    let read = |path: &Path| -> Result<VerifyKey> {
        let pem = file::read_limited(path, 64 << 10)
            .context("ARTIFACT-KEY", || format!("cannot read the verification key {}", path.display()))?;
        VerifyKey::from_pem(&String::from_utf8_lossy(&pem), &path.display().to_string())
    };
    let mut keys = Vec::new();
    for path in paths {
        match read(path) {
            Ok(key) => keys.push(key),
            Err(e) => log::error!("{e}; Artifacts must be signed with another configured key"),
        }
    }
    keys
}

/// Whatever broke when the agent was told to end is not the Artifact's fault.
fn or_interrupted(e: Error) -> Error {
    if signal::terminate() { Error::new(thimble::run::INTERRUPTED, e.to_string()) } else { e }
}

impl Depot for ArtifactDepot {
    fn open(&mut self, offer: &Offer) -> Result<agent::Artifact> {
        self.open_source(offer).map_err(or_interrupted)
    }

    fn store(&mut self, artifact: &agent::Artifact) -> Result<()> {
        let payload = self.payload.take();
        let payload = payload.ok_or_else(|| Error::new("PAYLOAD", "the Artifact is not open any more"))?;
        let mut files = Files { payload };
        let Some(kind) = &artifact.payload else {
            return match files.next_file()? {
                None => Ok(()),
                Some((name, _)) => Err(Error::new(
                    "PAYLOAD",
                    format!("an Artifact without payload contains the file {name:?}"),
                )),
            };
        };
        self.handler(kind)?.store(&mut files).map_err(or_interrupted)
    }

    fn handler(&mut self, payload: &str) -> Result<&mut dyn Payload> {
        if self.runs_module(payload) {
            let module = self.module_for(payload)?;
            return Ok(self.module.insert(module));
        }
        Ok(&mut self.rootfs)
    }
}

/// The Artifact reader behind the port; looks up now and then whether the agent should end.
struct Files {
    payload: artifact::Payload<Box<dyn Read>>,
}

impl PayloadFiles for Files {
    fn next_file(&mut self) -> Result<Option<(String, u64)>> {
        self.payload.next_file()
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        // Signals are let through only in there, and a local file never has to be waited for.
        let _ = signal::poll(&[], Some(Duration::ZERO));
        if signal::terminate() {
            return Err(Error::new(thimble::run::INTERRUPTED, "told to end while an Artifact is read"));
        }
        self.payload.read(buffer)
    }

    fn checksum(&self) -> Option<[u8; 32]> {
        self.payload.checksum()
    }
}
