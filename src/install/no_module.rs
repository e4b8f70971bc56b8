//! Stands in for `module` in a build without the feature `modules`: a payload that an Update Module would handle is
//! refused by name.

use crate::agent::Reboot;
use crate::artifact::Header;
use crate::error::{Error, Result};
use crate::ports::{Payload, PayloadFiles};
use std::path::Path;
use std::time::Duration;

/// What the module would find in its tree about the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Current {
    /// Name of the installed Artifact.
    pub name: String,
    /// Its group, if it has one.
    pub group: Option<String>,
    /// The device's type.
    pub device_type: String,
}

/// The handler of one payload type: there is none in this build.
#[derive(Debug, Clone)]
pub struct Module(Never);

#[derive(Debug, Clone)]
enum Never {}

impl Module {
    /// Refuses payloads of type `kind`.
    ///
    /// # Errors
    /// Always `MODULE-MISSING`.
    pub fn new(kind: &str, _: &Path, _: &Path, _: Duration) -> Result<Module> {
        let text = format!(
            "no Update Module for payloads of type {kind:?}: this thimble was built without Update Modules (feature \
             `modules`)"
        );
        Err(Error::new("MODULE-MISSING", text))
    }

    /// Of none.
    pub fn taking_over(self, _: Current) -> Module {
        match self.0 {}
    }

    /// Of none.
    ///
    /// # Errors
    /// None.
    pub fn check(&self) -> Result<()> {
        match self.0 {}
    }

    /// Of none.
    ///
    /// # Errors
    /// None.
    pub fn prepare(&self, _: &Header, _: &Current) -> Result<()> {
        match self.0 {}
    }
}

impl Payload for Module {
    fn store(&mut self, _: &mut dyn PayloadFiles) -> Result<()> {
        match self.0 {}
    }
    fn install(&mut self) -> Result<()> {
        match self.0 {}
    }
    fn needs_reboot(&mut self) -> Result<Reboot> {
        match self.0 {}
    }
    fn supports_rollback(&mut self) -> Result<bool> {
        match self.0 {}
    }
    fn reboot(&mut self) -> Result<()> {
        match self.0 {}
    }
    fn verify_reboot(&mut self) -> Result<()> {
        match self.0 {}
    }
    fn commit(&mut self) -> Result<()> {
        match self.0 {}
    }
    fn rollback(&mut self) -> Result<()> {
        match self.0 {}
    }
    fn rollback_reboot(&mut self) -> Result<()> {
        match self.0 {}
    }
    fn verify_rollback_reboot(&mut self) -> Result<()> {
        match self.0 {}
    }
    fn failure(&mut self) -> Result<()> {
        match self.0 {}
    }
    fn cleanup(&mut self) -> Result<()> {
        match self.0 {}
    }
}
