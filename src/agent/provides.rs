//! What is installed after an update: name, group and provides, from what was and how it ended.

use super::state::{Artifact, End, Origin, Verdict};
use std::collections::BTreeMap;

/// Suffix of the name of an installation that nobody can vouch for (AF-56).
pub const INCONSISTENT: &str = "_INCONSISTENT";

/// Keys and values of the type-info provides.
pub type Provides = BTreeMap<String, String>;

/// What is installed on the device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Installed {
    /// The Artifact's name.
    pub name: String,
    /// The group, if the device is in one.
    pub group: Option<String>,
    /// Type-info provides; never `artifact_name` or `artifact_group`.
    pub provides: Provides,
}

impl Installed {
    /// All provides as the server and Artifacts see them (AF-49).
    pub fn all(&self) -> Provides {
        let mut all = self.provides.clone();
        all.insert("artifact_name".into(), self.name.clone());
        if let Some(group) = &self.group {
            all.insert("artifact_group".into(), group.clone());
        }
        all
    }
}

/// What is installed after an update that ended like this (update-process 3.2, decision 4). Applying it twice
/// changes nothing more, so that it may be repeated after a power cut. `None`: as before.
pub fn installed_after(old: &Installed, end: &End) -> Option<Installed> {
    let artifact = end.artifact.as_ref()?;
    match end.verdict {
        Verdict::Unchanged => None,
        Verdict::Success => Some(overlay(old, artifact, artifact.name.clone())),
        Verdict::CommittedInconsistent | Verdict::Looped => {
            Some(overlay(old, artifact, suffixed(&artifact.name)))
        }
        Verdict::Inconsistent => Some(match end.origin {
            // ST29: the command line applies the new provides; the daemon keeps the old ones (U54).
            Origin::Standalone => overlay(old, artifact, suffixed(&artifact.name)),
            Origin::Deployment(_) => Installed {
                name: suffixed(&artifact.name),
                group: artifact.group.clone().or_else(|| old.group.clone()),
                provides: old.provides.clone(),
            },
        }),
    }
}

fn suffixed(name: &str) -> String {
    if name.ends_with(INCONSISTENT) { name.to_owned() } else { format!("{name}{INCONSISTENT}") }
}

fn overlay(old: &Installed, artifact: &Artifact, name: String) -> Installed {
    let cleared = |key: &str| match &artifact.clears {
        None => true,
        Some(globs) => globs.iter().any(|glob| glob_matches(glob, key)),
    };
    let mut provides = old.provides.clone();
    provides.retain(|key, _| !cleared(key));
    provides.extend(artifact.provides.clone());
    provides.remove("artifact_name");
    provides.remove("artifact_group");
    let kept = old.group.clone().filter(|_| !cleared("artifact_group"));
    Installed { name, group: artifact.group.clone().or(kept), provides }
}

/// Whether a pattern of `clears_artifact_provides` matches the whole key: `*` is any run of characters, all else
/// is literal (AF-55). Linear in the product of the lengths, whatever the pattern.
fn glob_matches(pattern: &str, key: &str) -> bool {
    let (p, k) = (pattern.as_bytes(), key.as_bytes());
    let (mut i, mut j, mut star) = (0, 0, None);
    while j < k.len() {
        if p.get(i) == Some(&b'*') {
            star = Some((i, j));
            i += 1;
        } else if p.get(i) == Some(&k[j]) {
            i += 1;
            j += 1;
        } else if let Some((at, from)) = star {
            (i, j) = (at + 1, from + 1);
            star = Some((at, from + 1));
        } else {
            return false;
        }
    }
    p[i..].iter().all(|b| *b == b'*')
}
#[cfg(test)]
mod tests {
    use super::glob_matches;

    #[test]
    fn a_star_is_any_run_and_all_else_is_literal() {
        for (pattern, key) in [
            ("", ""),
            ("*", ""),
            ("*", "a\nb"),
            ("**", ""),
            ("a*", "a"),
            ("*a", "a"),
            ("rootfs-image.*", "rootfs-image.version"),
            ("a*b*c", "abbc"),
            ("a*b*c", "aXbXbXc"),
            ("*ab*ab*", "abab"),
            ("a*a", "aa"),
            ("\\d", "\\d"),
            ("[a]?.+", "[a]?.+"),
            ("é*é", "éüé"),
        ] {
            assert!(glob_matches(pattern, key), "{pattern} {key}");
        }
        for (pattern, key) in [
            ("", "a"),
            ("foo", "foo.foo"),
            ("foo", "foofoo"),
            ("a*a", "a"),
            ("*ab*ab*", "abb"),
            ("a*b*c", "acb"),
            ("rootfs-image.*", "rootfs-imageXversion"),
            ("A*", "a"),
            ("a?", "ab"),
            ("*a", "ab"),
        ] {
            assert!(!glob_matches(pattern, key), "{pattern} {key}");
        }
    }

    #[test]
    fn globs_agree_with_the_obvious_slow_definition() {
        fn slow(p: &[u8], k: &[u8]) -> bool {
            match p.split_first() {
                None => k.is_empty(),
                Some((b'*', rest)) => (0..=k.len()).any(|n| slow(rest, &k[n..])),
                Some((c, rest)) => k.first() == Some(c) && slow(rest, &k[1..]),
            }
        }
        let words = |letters: &str, longest: u32| -> Vec<String> {
            let n = letters.len();
            (0..=longest)
                .flat_map(|l| (0..n.pow(l)).map(move |i| (l, i)))
                .map(|(l, i)| (0..l).map(|d| letters.as_bytes()[i / n.pow(d) % n] as char).collect())
                .collect()
        };
        for pattern in words("ab*", 5) {
            for key in words("ab", 5) {
                let wanted = slow(pattern.as_bytes(), key.as_bytes());
                assert_eq!(glob_matches(&pattern, &key), wanted, "{pattern} {key}");
            }
        }
    }
}
