//! State scripts of an Artifact: which names they may have, and handing them out (AF-30, AF-31).

use std::io::Read;

use super::codec::{Caps, Container};
use super::source::Limited;
use super::tar::Tar;
use crate::error::Result;

/// Where they stand in the header.
pub(super) const FOLDER: &str = "scripts/";

const STATES: [&str; 6] = ["Install", "Reboot", "Commit", "Rollback", "RollbackReboot", "Failure"];
const ACTIONS: [&str; 3] = ["Enter", "Leave", "Error"];

/// The scripts of a verified header. Their names are checked; their content stays packed until
/// [`Scripts::extract`].
#[derive(Debug)]
pub struct Scripts {
    names: Vec<String>,
    /// The verified header as it was stored; empty if there is no script.
    stored: Vec<u8>,
    container: Container,
    caps: Caps,
    label: &'static str,
}

impl Scripts {
    /// `stored` was verified, and has exactly these scripts in this order.
    pub(super) fn new(
        names: Vec<String>,
        stored: Vec<u8>,
        container: Container,
        caps: Caps,
        label: &'static str,
    ) -> Scripts {
        // Without scripts nobody needs the bytes again, and the payload is still to come.
        let stored = if names.is_empty() { Vec::new() } else { stored };
        Scripts { names, stored, container, caps, label }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Their file names, in the order of the Artifact.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Calls `each` with the file name and content of every script, in the order of the Artifact. The names are
    /// unique, as AF-30 wants them, and free of `/`. Content that `each` does not read is skipped. May be called
    /// again.
    ///
    /// # Errors
    /// The first error of `each`. An error of the content's `Read` should be passed on by `each`; it cannot come
    /// from the network or a disk, because the header is in memory and was read once already.
    pub fn extract(&self, each: &mut dyn FnMut(&str, &mut dyn Read) -> Result<()>) -> Result<()> {
        if self.names.is_empty() {
            return Ok(());
        }
        let unpacked = self.container.decoder(self.stored.as_slice(), self.caps, self.label)?;
        let mut tar =
            Tar::new(Limited::new(unpacked, self.container.header_limits().unpacked, self.label), self.label);
        while let Some(entry) = tar.next_entry()? {
            if let Some(name) = entry.name.strip_prefix(FOLDER) {
                each(name, &mut tar)?;
            }
        }
        Ok(())
    }
}

/// AF-30: `Artifact<State>_<Action>_NN`, optionally followed by `_` and text without white space. Not `/` and no
/// control characters either: the text becomes part of a file name.
pub(super) fn is_script_name(name: &str) -> bool {
    let Some((state, rest)) = name.strip_prefix("Artifact").and_then(|rest| rest.split_once('_')) else {
        return false;
    };
    let Some((action, rest)) = rest.split_once('_') else { return false };
    let (number, text) = rest.split_once('_').map_or((rest, None), |(number, text)| (number, Some(text)));
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == '/';
    STATES.contains(&state)
        && ACTIONS.contains(&action)
        && number.len() == 2
        && number.bytes().all(|b| b.is_ascii_digit())
        && text.is_none_or(|text| !text.is_empty() && !text.contains(bad))
}

#[cfg(test)]
mod tests {
    use super::is_script_name;

    #[test]
    fn script_names_are_those_of_artifact_states() {
        for good in [
            "ArtifactInstall_Enter_00",
            "ArtifactInstall_Enter_00_first",
            "ArtifactRollbackReboot_Error_99_a_b.c-d",
            "ArtifactFailure_Leave_05_ü",
        ] {
            assert!(is_script_name(good), "{good}");
        }
        for bad in [
            "",
            "Artifact",
            "Idle_Enter_00",
            "Sync_Enter_00",
            "Download_Enter_00",
            "ArtifactDownload_Enter_00",
            "artifactInstall_Enter_00",
            "ArtifactInstall_enter_00",
            "ArtifactInstall_Enter",
            "ArtifactInstall_Enter_",
            "ArtifactInstall_Enter_0",
            "ArtifactInstall_Enter_000",
            "ArtifactInstall_Enter_0a",
            "ArtifactInstall_Enter_00_",
            "ArtifactInstall_Enter_00_a b",
            "ArtifactInstall_Enter_00_a\n",
            "ArtifactInstall_Enter_00_a\0",
            "ArtifactInstall_Enter_00_/../x",
            "ArtifactInstall_Enter_00first",
            "ArtifactInstall_Enter_٣٣",
            "../ArtifactInstall_Enter_00",
            "version",
        ] {
            assert!(!is_script_name(bad), "{bad:?}");
        }
    }
}
