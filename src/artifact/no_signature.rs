//! Stands in for `signature` in a build without the feature `signatures`: no key can be read, and where one is asked for
//! no Artifact is accepted (AF-63). Unsigned and signed ones are taken where no key is configured, as always.

use crate::error::{Error, Result};

const MISSING: &str = "this thimble was built without verification of signatures (feature `signatures`)";

/// A public key that Artifacts may be signed with: there is none in this build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerifyKey {}

impl VerifyKey {
    /// Reads no key.
    ///
    /// # Errors
    /// Always ARTIFACT-KEY. The caller must not go on without the key: a configured key makes signatures mandatory
    /// (AF-63).
    pub fn from_pem(_: &str, name: &str) -> Result<VerifyKey> {
        Err(Error::new("ARTIFACT-KEY", format!("the verification key {name}: {MISSING}")))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        match *self {}
    }
}

/// Whether this build verifies signatures at all: no.
pub(super) fn available() -> Result<()> {
    let text = format!(
        "{MISSING}, but a verification key is configured (ArtifactVerifyKey): every Artifact is refused. Use a build \
         with signatures, or, if Artifacts may come unverified, take the key from mender.conf"
    );
    Err(Error::new("ARTIFACT-SIGNATURE", text))
}

/// Accepts nothing.
pub(super) fn verify(_: &[u8], _: &[u8], _: &[VerifyKey]) -> Result<()> {
    available()
}
