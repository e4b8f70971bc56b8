//! What is on a device at its beginning.

use super::{Device, SLOTS};
use crate::ArtifactSpec;
use miniserde::json;
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::time::Duration;

/// What a device is at its beginning.
#[derive(Clone, Debug)]
pub struct DeviceOptions {
    /// Its type.
    pub device_type: String,
    /// Where its server is.
    pub server_url: String,
    /// Name of the Artifact on it, by a bootstrap Artifact; `None` for no such file.
    pub first_artifact: Option<String>,
    /// Two copies of the boot environment, or one.
    pub redundant_env: bool,
    /// Bytes of each slot.
    pub slot_size: u64,
    /// More members of `mender.conf`: name and JSON text. They replace the usual ones; `null` removes.
    pub config: Vec<(String, String)>,
    /// More variables of the boot environment. They replace the usual ones.
    pub variables: Vec<(String, String)>,
    /// How long one run of the agent may take.
    pub time_limit: Duration,
    /// More variables of the agent's own environment.
    pub agent_env: Vec<(String, String)>,
}

impl Default for DeviceOptions {
    fn default() -> DeviceOptions {
        DeviceOptions {
            device_type: "test-type".to_owned(),
            server_url: String::new(),
            first_artifact: Some("release-1".to_owned()),
            redundant_env: true,
            slot_size: 1 << 20,
            config: Vec::new(),
            variables: Vec::new(),
            time_limit: Duration::from_secs(60),
            agent_env: Vec::new(),
        }
    }
}

impl Device {
    /// Writes slots, configuration and scripts.
    pub(super) fn lay_out(&self, options: &DeviceOptions) {
        for slot in SLOTS {
            let mut bytes = format!("first content of slot {slot}\n").into_bytes();
            bytes.resize(bytes.len().max(512), 0xee);
            fs::write(self.slot_path(slot), bytes).expect("make a slot");
            let file = OpenOptions::new().write(true).open(self.slot_path(slot)).expect("open a slot");
            file.set_len(options.slot_size).expect("set a slot's size");
        }
        self.write("etc/fw_env.config", &self.environment.config());
        self.write("etc/mender/mender.conf", &self.config(options));
        self.write("etc/mender/scripts/version", "3");
        self.write("var/lib/mender/device_type", &format!("device_type={}\n", options.device_type));
        if let Some(name) = &options.first_artifact {
            let artifact = ArtifactSpec::empty(name).device_types(&[&options.device_type]);
            artifact
                .write(&self.root().join("var/lib/mender/bootstrap.mender"))
                .expect("write the bootstrap Artifact");
        }
        let identity = "#!/bin/sh\necho mac=00:11:22:33:44:55\n";
        self.write_script("usr/share/mender/identity/mender-device-identity", identity);
        let inventory = "#!/bin/sh\necho kernel=simulated\n";
        self.write_script("usr/share/mender/inventory/mender-inventory-testkit", inventory);
        let reboot = "#!/bin/sh\ndevice=${0%/bin/*}\necho reboot >> \"$device/reboots\"\n\
                      kill -9 \"$(cat \"$device/agent.pid\")\"\n";
        self.write_mode("bin/reboot", reboot, 0o755);
    }

    fn config(&self, options: &DeviceOptions) -> String {
        let mut members: BTreeMap<&str, String> = BTreeMap::from([
            ("ServerURL", json::to_string(&options.server_url)),
            ("UpdatePollIntervalSeconds", "5".to_owned()),
            ("InventoryPollIntervalSeconds", "5".to_owned()),
            ("RetryPollIntervalSeconds", "1".to_owned()),
            ("RetryPollCount", "5".to_owned()),
        ]);
        for (name, slot) in ["RootfsPartA", "RootfsPartB"].into_iter().zip(SLOTS) {
            members.insert(name, json::to_string(&*self.slot_path(slot).to_string_lossy()));
        }
        for (name, value) in &options.config {
            members.insert(name, value.clone());
        }
        members.retain(|_, value| value != "null");
        let lines: Vec<_> = members.iter().map(|(name, value)| format!("  \"{name}\": {value}")).collect();
        format!("{{\n{}\n}}\n", lines.join(",\n"))
    }
}
