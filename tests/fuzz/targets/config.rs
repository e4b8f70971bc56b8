//! mender.conf: the main file and, behind a NUL, the fallback file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(missing_docs, clippy::missing_panics_doc, reason = "see the list in tests/fuzz/targets/mod.rs")]

use super::keys::{EITHER_OR, KEYS, Kind, MAX_SECONDS};
use super::read::{Given, Settings, parse};
use super::{NO_BOARD, build, check, merge, warn};
use crate::error::Result;
use crate::json;

/// Warnings about one text: unknown members are counted after the first twenty, and no other kind repeats without end.
const WARNINGS: usize = 2000;

pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (main, fallback) = text.split_once('\0').unwrap_or((&text, "{}"));
    let (Ok(fallback), Ok(main)) = (one(fallback), one(main)) else { return };
    let mut merged = fallback.clone();
    merge(&mut merged, main.clone());
    for (key, setting) in &main {
        assert_eq!(merged.get(key), Some(setting), "main wins");
    }
    for (one, many) in EITHER_OR {
        assert!(!(merged.contains_key(one) && merged.contains_key(many)), "{one} and {many}");
    }
    let allowed = check(&merged);
    let mut warnings = Vec::new();
    warn(&merged, &mut warnings);
    let config = build(&merged);
    if allowed.is_ok() {
        assert_eq!(config.https_client_certificate.is_some(), config.https_client_key.is_some());
    }
    assert!((1..=10_000).contains(&config.retry_download_count));
    for url in &config.servers {
        let lower = url.to_ascii_lowercase();
        assert!(lower.starts_with("http://") || lower.starts_with("https://"), "{url}");
    }
    if config.rootfs_parts().is_ok() {
        assert_ne!(config.rootfs_part_a, config.rootfs_part_b);
    }
    assert!(config.xz_memory_limit <= 4095 << 20 && config.zstd_window_limit <= 2048 << 20);
}

/// Reads one text; what is accepted is within its limits, and reads the same when it is written again.
fn one(text: &str) -> Result<Settings> {
    let mut warnings = Vec::new();
    let result = parse("mender.conf", text, 0o600, &mut warnings);
    assert!(warnings.len() < WARNINGS, "{} warnings", warnings.len());
    for warning in &warnings {
        assert!(warning.starts_with("mender.conf") && warning.len() < 1000, "{warning}");
        assert!(!warning.contains(char::is_control), "{warning:?}");
    }
    let settings = result.inspect_err(|e| {
        assert!(e.code.starts_with("CONFIG-") && e.text.len() < 1000, "{e}");
        assert!(e.text.starts_with("mender.conf") && !e.text.contains(char::is_control), "{e:?}");
    })?;
    for (key, setting) in &settings {
        let (_, kind) = KEYS.iter().find(|(known, _)| known == key).expect("a known key");
        within(*kind, &setting.value);
    }
    let again = written(&settings);
    let back =
        parse("mender.conf", &again, 0o600, &mut Vec::new()).unwrap_or_else(|e| panic!("{e}: {again}"));
    let values = |settings: &Settings| -> Vec<(&'static str, Given)> {
        settings.iter().map(|(key, setting)| (*key, setting.value.clone())).collect()
    };
    assert_eq!(values(&back), values(&settings), "{again}");
    Ok(settings)
}

fn within(kind: Kind, value: &Given) {
    let plain = |text: &str| !text.contains(char::is_control);
    let fits = match (kind, value) {
        (Kind::Text | Kind::Url, Given::Text(text)) => plain(text),
        (Kind::OneOf(allowed), Given::Text(text)) => text.is_empty() || allowed.contains(&text.as_str()),
        (Kind::Board, Given::Text(text)) => {
            text.is_empty()
                || text == NO_BOARD
                || thimble_boards::by_name(thimble_boards::ALL, text).is_some()
        }
        (Kind::Seconds, Given::Number(n)) => *n <= MAX_SECONDS,
        (Kind::Count(from, to), Given::Number(n)) => (from..=to).contains(n),
        (Kind::Switch, Given::Switch(_)) => true,
        (Kind::Texts | Kind::Servers, Given::Texts(all)) => {
            all.iter().all(|text| plain(text) && !text.is_empty())
        }
        _ => false,
    };
    assert!(fits, "{kind:?} holds {value:?}");
}

/// The settings as a file, with the exact names.
fn written(settings: &Settings) -> String {
    let mut sections: Vec<(&str, Vec<String>)> = vec![("", Vec::new())];
    for (key, setting) in settings {
        let (section, name) = key.split_once('.').unwrap_or(("", key));
        let mut member = String::new();
        json::quote(&mut member, name);
        member.push(':');
        let kind = KEYS.iter().find(|(known, _)| known == key).map(|(_, kind)| *kind);
        match &setting.value {
            // Of an address one slash at the end is taken away.
            Given::Text(text) if kind == Some(Kind::Url) && !text.is_empty() => {
                json::quote(&mut member, &format!("{text}/"));
            }
            Given::Text(text) => json::quote(&mut member, text),
            Given::Number(n) => member.push_str(&n.to_string()),
            Given::Switch(on) => member.push_str(&on.to_string()),
            Given::Texts(all) => {
                let items: Vec<String> = all
                    .iter()
                    .map(|text| {
                        let mut item = String::new();
                        if kind == Some(Kind::Servers) {
                            json::quote(&mut item, &format!("{text}/"));
                            return format!("{{\"ServerURL\":{item}}}");
                        }
                        json::quote(&mut item, text);
                        item
                    })
                    .collect();
                member.push_str(&format!("[{}]", items.join(",")));
            }
        }
        match sections.iter_mut().find(|(known, _)| *known == section) {
            Some((_, members)) => members.push(member),
            None => sections.push((section, vec![member])),
        }
    }
    let (_, mut top) = sections.remove(0);
    top.extend(sections.into_iter().map(|(name, members)| format!("\"{name}\":{{{}}}", members.join(","))));
    format!("{{{}}}", top.join(","))
}
