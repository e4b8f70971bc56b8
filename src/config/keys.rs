//! Every member of mender.conf that is known, with its type; and the guess for one that is not. No file access.

/// What a member must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A string; empty = not set.
    Text,
    /// A server address.
    Url,
    /// Whole seconds from 0; 0 = default.
    Seconds,
    /// A whole number from `.0` to `.1`.
    Count(u64, u64),
    /// `true` or `false`.
    Switch,
    /// A list of strings, none of them empty.
    Texts,
    /// A list of `{"ServerURL": "…"}`.
    Servers,
    /// One of these strings; empty = not set.
    OneOf(&'static [&'static str]),
    /// The name of a board that is known, or `none`; empty = not set.
    Board,
}

/// Largest number of seconds: what fits the official clients' integers on 32-bit boards.
pub(super) const MAX_SECONDS: u64 = i32::MAX as u64;

/// The values of `DeviceTier`.
pub(super) const TIERS: &[&str] = &["standard", "system", "micro"];

/// The values of `BootEnvironment.Adapter`.
pub(super) const ADAPTERS: &[&str] = &["native", "fw_setenv", "grub"];

/// Every known member. A name with a dot is a member of the object in front of the dot.
pub(super) const KEYS: &[(&str, Kind)] = &[
    ("ServerURL", Kind::Url),
    ("Servers", Kind::Servers),
    ("ServerCertificate", Kind::Text),
    ("SkipVerify", Kind::Switch),
    ("ClockFloor", Kind::Switch),
    ("TenantToken", Kind::Text),
    ("DeviceTier", Kind::OneOf(TIERS)),
    ("HttpsClient.Certificate", Kind::Text),
    ("HttpsClient.Key", Kind::Text),
    ("HttpsClient.SSLEngine", Kind::Text),
    ("Security.AuthPrivateKey", Kind::Text),
    ("Security.SSLEngine", Kind::Text),
    ("Connectivity.DisableKeepAlive", Kind::Switch),
    ("Connectivity.IdleConnTimeoutSeconds", Kind::Seconds),
    ("ArtifactVerifyKey", Kind::Text),
    ("ArtifactVerifyKeys", Kind::Texts),
    ("RootfsPartA", Kind::Text),
    ("RootfsPartB", Kind::Text),
    ("BootUtilitiesSetActivePart", Kind::Text),
    ("BootUtilitiesGetNextActivePart", Kind::Text),
    ("DeviceTypeFile", Kind::Text),
    ("DBus.Enabled", Kind::Switch),
    ("UpdateControlMapExpirationTimeSeconds", Kind::Seconds),
    ("UpdateControlMapBootExpirationTimeSeconds", Kind::Seconds),
    ("UpdateControlMapPollIntervalSeconds", Kind::Seconds),
    ("UpdatePollIntervalSeconds", Kind::Seconds),
    ("InventoryPollIntervalSeconds", Kind::Seconds),
    ("RetryPollIntervalSeconds", Kind::Seconds),
    ("RetryPollCount", Kind::Count(0, MAX_SECONDS)),
    ("RetryDownloadCount", Kind::Count(1, 10_000)),
    ("RetryDownloadIntervalSeconds", Kind::Seconds),
    ("StateScriptTimeoutSeconds", Kind::Seconds),
    ("StateScriptRetryTimeoutSeconds", Kind::Seconds),
    ("StateScriptRetryIntervalSeconds", Kind::Seconds),
    ("ModuleTimeoutSeconds", Kind::Seconds),
    ("UpdateLogPath", Kind::Text),
    ("DaemonLogLevel", Kind::Text),
    ("Board", Kind::Board),
    ("BootEnvironment.RequireRedundant", Kind::Switch),
    ("BootEnvironment.Adapter", Kind::OneOf(ADAPTERS)),
    ("RootfsImage.VerifyWrites", Kind::Switch),
    ("RootfsImage.UseModule", Kind::Switch),
    ("Artifact.XzMemoryLimitMiB", Kind::Count(0, 4095)),
    ("Artifact.ZstdWindowLimitMiB", Kind::Count(0, 2048)),
];

/// Members that decide whether a board's defaults are used.
pub(super) const OF_BOARDS: &[&str] = &[
    "Board",
    "RootfsPartA",
    "RootfsPartB",
    "BootUtilitiesSetActivePart",
    "BootUtilitiesGetNextActivePart",
    "DeviceTypeFile",
    "BootEnvironment.Adapter",
];

/// Members that are read and checked but change nothing yet, and what that means. A value that equals "not
/// set" (false, 0, empty) is not worth a warning.
pub(super) const NOT_YET: &[(&str, &str)] = &[
    ("HttpsClient.SSLEngine", "OpenSSL engines cannot be used, keys are read from PEM files"),
    ("Security.SSLEngine", "OpenSSL engines cannot be used, keys are read from PEM files"),
    ("Connectivity.DisableKeepAlive", "connections are kept or closed as the agent sees fit"),
    ("Connectivity.IdleConnTimeoutSeconds", "connections are kept or closed as the agent sees fit"),
];

/// Two forms of one setting: giving both in one file is an error, and one in the main file replaces either in
/// the fallback file (CF-12, CF-13).
pub(super) const EITHER_OR: &[(&str, &str)] =
    &[("ServerURL", "Servers"), ("ArtifactVerifyKey", "ArtifactVerifyKeys")];

/// The names that may stand in the object `section` (`""`: at the top, where the objects' names count too).
pub(super) fn names(section: &str) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = Vec::new();
    for (key, _) in KEYS {
        let name = match key.split_once('.') {
            Some((object, name)) if object == section => name,
            Some((object, _)) if section.is_empty() => object,
            None if section.is_empty() => key,
            _ => continue,
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The known name nearest to `name`, if it is near enough to be a slip of the hand.
pub(super) fn closest(name: &str, known: &[&'static str]) -> Option<&'static str> {
    if name.len() > 64 {
        return None;
    }
    let lower = name.to_ascii_lowercase();
    let best =
        known.iter().map(|k| (distance(&lower, &k.to_ascii_lowercase()), *k)).min_by_key(|(d, _)| *d)?;
    let allowed = (best.1.len() / 4).clamp(1, 5);
    (best.0 <= allowed).then_some(best.1)
}

/// Insertions, deletions and replacements that make `b` of `a` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_is_that_of_levenshtein() {
        for (a, b, d) in
            [("", "", 0), ("abc", "abc", 0), ("kitten", "sitting", 3), ("", "ab", 2), ("é", "e", 1)]
        {
            assert_eq!(distance(a, b), d, "{a} {b}");
            assert_eq!(distance(b, a), d, "{b} {a}");
        }
    }

    #[test]
    fn slips_are_recognised_and_strangers_are_not() {
        let top = names("");
        assert_eq!(closest("UpdatePollIntervalSecond", &top), Some("UpdatePollIntervalSeconds"));
        assert_eq!(closest("server_url", &top), Some("ServerURL"));
        assert_eq!(closest("_comment", &top), None);
        assert_eq!(closest(&"x".repeat(100_000), &top), None);
    }

    #[test]
    fn every_table_speaks_of_known_members() {
        let known = |name: &str| KEYS.iter().any(|(key, _)| *key == name);
        assert!(NOT_YET.iter().all(|(key, _)| known(key)));
        assert!(OF_BOARDS.iter().all(|key| known(key)));
        assert!(EITHER_OR.iter().all(|(a, b)| known(a) && known(b)));
        for (i, (key, _)) in KEYS.iter().enumerate() {
            assert!(!KEYS[..i].iter().any(|(other, _)| other.eq_ignore_ascii_case(key)), "{key} twice");
        }
    }
}
