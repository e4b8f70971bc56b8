//! The server behind the port: fills in what requests need, translates what comes back.

use super::logger;
use super::setup::{self, Place};
use super::times::Times;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use thimble::agent::control::ControlMap;
use thimble::agent::{self, Offer, Status};
use thimble::error::Result;
use thimble::ports::{self, Server};
use thimble::server::{Client, Kind, LastTime, LogBody, Proxies, Refresh, Settings, inventory};
use thimble::store::{self, InstalledStore};
use thimble::sys::file;
use thimble::sys::stamp::Kept;

/// The server, for this device.
pub struct DeviceApi {
    place: Rc<Place>,
    client: Rc<RefCell<Client>>,
    /// One-shot use: what earlier runs have sent, and when. The first inventory of a run is left out if nothing has
    /// changed and its interval has not passed (decision 22).
    pub times: Option<Times>,
    /// What every question for a deployment holds.
    installed: Kept<agent::Installed, 2>,
    device_type: Kept<String, 1>,
}

/// The client's settings out of the configuration.
///
/// # Errors
/// See [`Client::new`].
pub fn client(place: &Place) -> Result<Client> {
    let config = &place.config;
    let key = match &config.auth_private_key {
        // Relative names are below the data store, as in Mender 3.
        Some(path) => place.dirs.datastore.join(path),
        None => place.dirs.datastore.join("mender-agent.pem"),
    };
    Client::new(Settings {
        servers: config.servers.clone(),
        server_certificate: config.server_certificate.clone(),
        skip_verify: config.skip_verify,
        client_certificate: config.https_client_certificate.clone(),
        client_key: config.https_client_key.clone().map(Into::into),
        tenant_token: config.tenant_token.clone(),
        proxies: Proxies::from_environment(),
        device_tier: config.device_tier.clone(),
        root: place.root.clone(),
        key,
        key_is_static: config.auth_private_key.is_some(),
        identity_script: place.dirs.data.join("identity/mender-device-identity"),
        download_retries: config.retry_download_count,
        download_interval: config.retry_download_interval,
        time_scale: place.time_scale,
        last_time: place.config.clock_floor.then(|| Arc::new(StoredTime(place.dirs.datastore.clone())) as _),
    })
}

impl DeviceApi {
    /// For this place.
    pub fn new(place: Rc<Place>, client: Rc<RefCell<Client>>) -> DeviceApi {
        let (installed, device_type) = Default::default();
        DeviceApi { place, client, times: None, installed, device_type }
    }

    /// One-shot use: goes on with the token of an earlier run (decision 22).
    pub fn load_token(&self) {
        self.client.borrow_mut().load_token(&token_file(&self.place));
    }

    /// Keeps the tokens of this run for others: one-shot runs, applications (decision 22).
    pub fn keep_token(&self) {
        self.client.borrow_mut().keep_token(&token_file(&self.place));
    }

    fn installed(&mut self) -> Result<agent::Installed> {
        let store = InstalledStore::new(&self.place.dirs.datastore);
        let [one, other] = store.files();
        self.installed.get([one, other], || installed(&self.place))
    }

    fn device_type(&mut self) -> Result<String> {
        self.device_type.get([&self.place.device_type_file()], || self.place.device_type())
    }

    /// Scripts and built-ins (II-22): a script's value wins, except for what only we can know.
    fn attributes(&mut self) -> Result<BTreeMap<String, Vec<String>>> {
        let mut all = inventory::collect(&self.place.dirs.data.join("inventory"));
        let installed = self.installed()?;
        all.entry("rootfs_type".into()).or_insert_with(|| vec![rootfs_type(&self.place)]);
        all.entry("mender_bootloader_integration".into())
            .or_insert_with(|| vec![boot_integration(&self.place).to_owned()]);
        for (key, value) in installed.all() {
            if key == "artifact_name" {
                continue;
            }
            all.entry(key).or_insert_with(|| vec![value]);
        }
        all.insert("artifact_name".into(), vec![installed.name]);
        all.insert("device_type".into(), vec![self.device_type()?]);
        all.insert("mender_client_version".into(), vec![format!("thimble {}", env!("CARGO_PKG_VERSION"))]);
        Ok(all)
    }
}

/// The last time of a server, in the data store.
struct StoredTime(PathBuf);

impl LastTime for StoredTime {
    fn load(&self) -> u64 {
        store::server_time(&self.0)
    }

    fn save(&self, seconds: u64) {
        if let Err(e) = store::save_server_time(&self.0, seconds) {
            log::warn!("{e}; the last time of the server is not kept (ClockFloor)");
        }
    }
}

/// Where the token is kept.
pub fn token_file(place: &Place) -> PathBuf {
    file::below(&place.root, "/run/thimble-token")
}

fn installed(place: &Place) -> Result<agent::Installed> {
    let installed = InstalledStore::new(&place.dirs.datastore).look()?;
    let name = setup::name(&installed).to_owned();
    Ok(agent::Installed { name, group: installed.group, provides: installed.provides })
}

/// How a download gets a fresh link when that of its deployment has expired; without a deployment there is none.
pub fn refresh(place: &Rc<Place>, client: &Rc<RefCell<Client>>, deployment: &str) -> Option<Refresh> {
    if deployment.is_empty() {
        return None;
    }
    let (place, client, id) = (place.clone(), client.clone(), deployment.to_owned());
    let local = |error| thimble::server::Fault { kind: Kind::Protocol, error };
    Some(Box::new(move || {
        let provides = installed(&place).map_err(local)?.all();
        let device_type = place.device_type().map_err(local)?;
        client.borrow_mut().fresh_link(&id, &provides, &device_type)
    }))
}

/// File system type of the root (II-22).
fn rootfs_type(place: &Place) -> String {
    let mounts = file::read_limited(&file::below(&place.root, "/proc/mounts"), 1 << 20).unwrap_or_default();
    let mounts = String::from_utf8_lossy(&mounts);
    // The last mount on / hides the others.
    let mut types = mounts.lines().rev().filter_map(|line| {
        let mut fields = line.split(' ');
        let (_, target, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (target == "/" && kind != "rootfs").then(|| kind.to_owned())
    });
    types.next().unwrap_or_else(|| "Unknown".into())
}

/// What the boot loader's side looks like (II-22), as far as it can be seen without a shell.
fn boot_integration(place: &Place) -> &'static str {
    let there = |path: &str| file::below(&place.root, path).exists();
    if there("/boot/efi/grub-mender-grubenv") || there("/boot/efi/EFI/BOOT/mender_grubenv1") {
        if cfg!(any(target_arch = "arm", target_arch = "aarch64")) { "uboot_uefi_grub" } else { "uefi_grub" }
    } else if there("/boot/grub/grub-mender-grubenv") || there("/boot/grub/mender_grubenv1") {
        if cfg!(target_arch = "x86_64") { "bios_grub" } else { "unknown_grub" }
    } else if there("/etc/fw_env.config") {
        "uboot"
    } else {
        "unknown"
    }
}

fn fault(fault: thimble::server::Fault) -> ports::Fault {
    let error = fault.error;
    match fault.kind {
        Kind::Conflict => ports::Fault::Aborted,
        Kind::TooLarge => ports::Fault::TooLarge(error),
        Kind::Busy(Some(wait)) => ports::Fault::Later(wait, error),
        Kind::Interrupted => ports::Fault::Interrupted,
        Kind::Transport
        | Kind::Unauthorized
        | Kind::NotFound
        | Kind::Busy(None)
        | Kind::Refused(_)
        | Kind::Protocol => ports::Fault::Other(error),
    }
}

impl Server for DeviceApi {
    fn send_inventory(&mut self) -> std::result::Result<(), ports::Fault> {
        let attributes = self.attributes().map_err(ports::Fault::Other)?;
        let digest = Times::digest(&attributes);
        if let Some(times) = &mut self.times
            && times.inventory_is_known(digest)
        {
            thimble::debug!("the inventory has not changed and is not due");
            return Ok(());
        }
        self.client.borrow_mut().send_inventory(&attributes).map_err(fault)?;
        log::info!("inventory sent ({} attributes)", attributes.len());
        if let Some(times) = &mut self.times {
            times.inventory_was_sent(digest);
        }
        Ok(())
    }

    fn next_deployment(&mut self) -> std::result::Result<Option<ports::Next>, ports::Fault> {
        let provides = self.installed().map_err(ports::Fault::Other)?.all();
        let device_type = self.device_type().map_err(ports::Fault::Other)?;
        let offer = self.client.borrow_mut().next_deployment(&provides, &device_type).map_err(fault)?;
        if let Some(times) = &mut self.times {
            times.checked();
        }
        Ok(offer.map(|offer| {
            if !offer.device_types.is_empty() && !offer.device_types.contains(&device_type) {
                log::warn!(
                    "the server offers an Artifact for {}, this device is {device_type}",
                    offer.device_types.join(", ")
                );
            }
            let control_map = offer.control_map;
            ports::Next { offer: Offer { id: offer.id, uri: offer.uri }, control_map }
        }))
    }

    fn control_map(&mut self, deployment: &str) -> std::result::Result<ControlMap, ports::Fault> {
        self.client.borrow_mut().control_map(deployment).map_err(|e| match e.kind {
            Kind::NotFound => ports::Fault::Aborted,
            Kind::Transport
            | Kind::Unauthorized
            | Kind::Conflict
            | Kind::TooLarge
            | Kind::Busy(_)
            | Kind::Refused(_)
            | Kind::Protocol
            | Kind::Interrupted => fault(e),
        })
    }

    fn report(&mut self, deployment: &str, status: Status) -> std::result::Result<(), ports::Fault> {
        self.client.borrow_mut().report(deployment, status.word()).map_err(fault)?;
        log::info!("status {} reported", status.word());
        Ok(())
    }

    fn upload_log(&mut self, deployment: &str) -> std::result::Result<(), ports::Fault> {
        let from_file = || store::upload(&self.place.log_dir(), deployment);
        // Where no file could be written the log is in memory.
        let upload = || logger::with_deployment(|log| log.upload()).unwrap_or_else(from_file);
        let length = upload().len();
        let body = LogBody::new(length, || Ok(Box::new(upload())));
        self.client.borrow_mut().upload_log(deployment, body).map_err(fault)?;
        log::info!("log of the deployment sent");
        Ok(())
    }

    fn forget_token(&mut self) {
        self.client.borrow_mut().forget_token();
    }
}
