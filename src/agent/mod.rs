//! POLICY: what the agent does, as values. No I/O, no clock, no log.

/// What a payload wants after its installation, as Update Modules answer NeedsArtifactReboot (update-modules 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reboot {
    /// Nothing.
    No,
    /// The handler's own ArtifactReboot does it.
    Yes,
    /// The agent restarts the machine.
    Automatic,
}
