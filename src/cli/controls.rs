//! The update control maps behind the port, and who waits for a change of them.

use super::setup::Place;
use std::path::PathBuf;
use thimble::agent::control::{ControlMap, Lifetimes, Point, Pool, Refused};
use thimble::error::Result;
use thimble::ports::{Controls, Decision};
use thimble::store::PoolStore;
use thimble::sys::clock;

/// How long maps live, by the configuration (K19, K20).
pub fn lives(place: &Place) -> Lifetimes {
    let config = &place.config;
    Lifetimes::new(
        config.control_map_expiration,
        config.control_map_boot_expiration,
        config.update_poll_configured,
    )
}

/// The maps of this device.
pub fn pool_store(place: &Place) -> PoolStore {
    PoolStore::open(&place.dirs.datastore, &clock::boot_id(&place.root), lives(place))
}

/// Directories in which something happens when the maps change.
pub fn directories(place: &Place) -> [PathBuf; 2] {
    pool_store(place).directories()
}

/// The maps, for the driver.
pub struct ControlMaps {
    store: PoolStore,
}

impl ControlMaps {
    /// Those of this device.
    pub fn new(place: &Place) -> ControlMaps {
        ControlMaps { store: pool_store(place) }
    }
}

impl Controls for ControlMaps {
    fn pool(&mut self) -> Result<Pool> {
        self.store.modify(|pool, _| pool.clone())
    }

    fn decide(&mut self, point: Point) -> Result<Decision> {
        self.store.modify(|pool, at| {
            let explanation = pool.explain(point, at.now);
            pool.verdict(point, at.now);
            Decision { explanation, pool: pool.clone(), at: at.now }
        })
    }

    fn replace(&mut self, deployment: &str, map: &ControlMap) -> Result<std::result::Result<(), Refused>> {
        self.store.modify(|pool, at| pool.replace_from_server(deployment, map.clone(), at.now, &at.lives))
    }

    fn remove(&mut self, deployment: &str) -> Result<()> {
        self.store.modify(|pool, _| pool.remove_deployment(deployment)).map(|_| ())
    }

    fn idle(&mut self) -> Result<()> {
        match self.store.modify(|pool, at| pool.drop_expired(at.now)) {
            Err(e) if e.code == "CONTROL-DAMAGED" => {
                log::error!("{e}");
                self.store.start_anew()
            }
            other => other.map(|_| ()),
        }
    }
}
