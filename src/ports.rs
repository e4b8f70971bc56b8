//! The traits through which an effect reaches the world. Small, and in the words of the domain.

use crate::agent::Reboot;
use crate::error::Result;

/// The payload files of an Artifact, one after the other, as they arrive.
pub trait PayloadFiles {
    /// Goes on to the next file: its name and size in bytes. `None` after the last, when everything that the
    /// manifest lists has been seen and verified. A file that was not read to its end is skipped (and verified).
    fn next_file(&mut self) -> Result<Option<(String, u64)>>;

    /// Reads from the current file; 0 at its end, after its checksum was found right.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize>;
}

/// A payload handler: the built-in rootfs-image, or an Update Module. One method per call of the Update Module
/// protocol, version 3 (update-modules 3). Every call may be repeated after a power cut (M41).
pub trait Payload {
    /// Takes in the payload files (Download). Nothing may be activated.
    fn store(&mut self, files: &mut dyn PayloadFiles) -> Result<()>;
    /// Activates what was stored (ArtifactInstall).
    fn install(&mut self) -> Result<()>;
    /// Whether the machine must restart (NeedsArtifactReboot).
    fn needs_reboot(&mut self) -> Result<Reboot>;
    /// Whether an installation can be taken back (SupportsRollback).
    fn supports_rollback(&mut self) -> Result<bool>;
    /// Restarts what has to be restarted (ArtifactReboot); only if the answer was [`Reboot::Yes`].
    fn reboot(&mut self) -> Result<()>;
    /// After the restart: is the new software what runs now? (ArtifactVerifyReboot)
    fn verify_reboot(&mut self) -> Result<()>;
    /// Makes the update permanent (ArtifactCommit).
    fn commit(&mut self) -> Result<()>;
    /// Takes the installation back (ArtifactRollback).
    fn rollback(&mut self) -> Result<()>;
    /// As [`Payload::reboot`], back to the old software (ArtifactRollbackReboot).
    fn rollback_reboot(&mut self) -> Result<()>;
    /// After that: is the old software what runs now? (ArtifactVerifyRollbackReboot)
    fn verify_rollback_reboot(&mut self) -> Result<()>;
    /// The update has failed, at whatever point (ArtifactFailure).
    fn failure(&mut self) -> Result<()>;
    /// Removes what is left (Cleanup).
    fn cleanup(&mut self) -> Result<()>;
}
