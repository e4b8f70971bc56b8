//! Whether an Artifact suits this device (AF-46 to AF-50), and the patterns of `clears_artifact_provides`.

use std::collections::BTreeMap;

use super::fault::shown;
use super::header::Header;
use crate::error::{Error, Result};

impl Header {
    /// Checks what the Artifact depends on. `device_type` is the device's own, empty if it is unknown, which never
    /// suits (AF-46). `provides` is what the device provides now, with `artifact_name`, and `artifact_group` if
    /// it is in a group (AF-49). A key that the device lacks is not satisfied (AF-48). Comparison is exact.
    ///
    /// # Errors
    /// ARTIFACT-DEPENDS: says which key, what is wanted and what the device has.
    pub fn check_depends(&self, device_type: &str, provides: &BTreeMap<String, String>) -> Result<()> {
        let device_type = Some(device_type).filter(|t| !t.is_empty());
        one_of("device_type", &self.depends.device_types, device_type)?;
        for (key, wanted) in
            [("artifact_name", &self.depends.names), ("artifact_group", &self.depends.groups)]
        {
            // Here an empty list is how writers say "none" (AF-18 ff.: optional).
            if !wanted.is_empty() {
                one_of(key, wanted, provides.get(key).map(String::as_str))?;
            }
        }
        for (key, wanted) in &self.depends.others {
            one_of(key, wanted, provides.get(key).map(String::as_str))?;
        }
        Ok(())
    }
}

fn one_of(key: &str, wanted: &[String], has: Option<&str>) -> Result<()> {
    if has.is_some_and(|has| wanted.iter().any(|w| w == has)) {
        return Ok(());
    }
    const NAMED: usize = 8;
    let mut names: Vec<String> = wanted.iter().take(NAMED).map(|w| shown(w)).collect();
    if wanted.len() > NAMED {
        names.push(format!("{} others", wanted.len() - NAMED));
    }
    let wanted = if names.is_empty() { "a value that no device can have".into() } else { names.join(" or ") };
    let has = has.map_or("has none".into(), |has| format!("has {}", shown(has)));
    let key = shown(key);
    Err(Error::new(
        "ARTIFACT-DEPENDS",
        format!("the Artifact is not for this device: it needs {key} to be {wanted}, the device {has}"),
    ))
}

/// Whether a pattern of `clears_artifact_provides` matches `key` as a whole (AF-55): `*` is any run of
/// characters, none included; everything else stands for itself.
pub fn glob_matches(pattern: &str, key: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == key };
    let Some(mut key) = key.strip_prefix(head) else { return false };
    let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
    // Leftmost is right for the parts in the middle: it leaves most for those after it.
    for part in middle.split('*') {
        match key.find(part) {
            Some(at) => key = &key[at + part.len()..],
            None => return false,
        }
    }
    key.ends_with(tail)
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
