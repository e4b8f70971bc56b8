//! The header: its archive put together here, read by the real reader of headers.
//!
//! The first byte is the format version (`2`, else 3). Then, divided by NULs: header-info, type-info, meta-data (absent
//! if empty), names of scripts. In version 2 the second is `files`, then type-info and meta-data.

use std::collections::BTreeMap;

use super::super::codec::{Caps, Container};
use super::super::header::Header;
use super::super::{limits, members};
use crate::fuzz::input;
use crate::json;

const CAPS: Caps = Caps { xz_dictionary: 1 << 20, zstd_window: 1 << 20 };

pub fn run(data: &[u8]) {
    let (format, rest) = input::byte(data);
    let format = if format == b'2' { 2 } else { 3 };
    let mut pieces = rest.split(|b| *b == 0);
    let mut piece = || pieces.next().unwrap_or_default();
    let info = piece();
    let files = if format == 2 { Some(piece()) } else { None };
    let (kind, meta) = (piece(), piece());
    let mut archive = Vec::new();
    input::entry(&mut archive, b"header-info", info);
    for name in pieces {
        input::entry(&mut archive, &[b"scripts/", name].concat(), name);
    }
    if let Some(files) = files {
        input::entry(&mut archive, b"headers/0000/files", files);
    }
    input::entry(&mut archive, b"headers/0000/type-info", kind);
    if !meta.is_empty() {
        input::entry(&mut archive, b"headers/0000/meta-data", meta);
    }
    archive.extend_from_slice(&[0; 1024]);
    read(&archive, format);
}

/// Reads a header archive; asserts what must hold of one that is accepted.
pub(super) fn read(archive: &[u8], format: u8) {
    let result = members::read(archive.to_vec(), format, Container::Plain, CAPS, "header.tar");
    let Ok((header, scripts)) = result else { return };
    check(&header);
    assert!(scripts.len() <= limits::SCRIPTS);
    let mut names = Vec::new();
    let extracted = scripts.extract(&mut |name, _| {
        names.push(name.to_owned());
        Ok(())
    });
    assert_eq!(extracted, Ok(()), "it was read once already");
    assert_eq!(names, scripts.names());
    names.sort();
    assert!(names.windows(2).all(|w| w[0] != w[1]), "a script twice");
    for name in &names {
        assert!(name.starts_with("Artifact") && !name.contains(['/', '\0']), "{name:?}");
    }
}

/// What holds of every header that is accepted.
pub(super) fn check(header: &Header) {
    assert!(!header.name.is_empty() && header.group.as_deref() != Some(""));
    if let Some(kind) = &header.payload_type {
        assert!(!kind.is_empty() && kind != "." && kind != ".." && !kind.contains(['/', '\0']), "{kind:?}");
    }
    assert!(!["artifact_name", "artifact_group"].iter().any(|key| header.provides.contains_key(*key)));
    assert!(!header.depends.device_types.is_empty());
    depends(header);
    // Written again, it says the same.
    let mut archive = Vec::new();
    let [info, kind] = [&header.header_info, &header.type_info].map(json::write);
    input::entry(&mut archive, b"header-info", info.as_bytes());
    if header.format == 2 {
        input::entry(&mut archive, b"headers/0000/files", br#"{"files":["x"]}"#);
    }
    input::entry(&mut archive, b"headers/0000/type-info", kind.as_bytes());
    if let Some(meta) = &header.meta_data {
        input::entry(&mut archive, b"headers/0000/meta-data", json::write(meta).as_bytes());
    }
    archive.extend_from_slice(&[0; 1024]);
    let largest = info.len().max(kind.len()) as u64;
    if largest > limits::TYPE_INFO {
        return; // escapes may make it longer
    }
    let again = members::read(archive, header.format, Container::Plain, CAPS, "header.tar");
    let again = Header { signed: header.signed, ..again.unwrap().0 };
    assert_eq!(format!("{again:?}"), format!("{header:?}"));
}

/// A device that has all it asks for takes it, and none that lacks a thing.
fn depends(header: &Header) {
    let (depends, mut provides) = (&header.depends, BTreeMap::new());
    for (key, values) in [("artifact_name", &depends.names), ("artifact_group", &depends.groups)]
        .into_iter()
        .chain(depends.others.iter().map(|(key, values)| (key.as_str(), values)))
    {
        if let Some(value) = values.first() {
            provides.insert(key.to_owned(), value.clone());
        }
    }
    let device = &depends.device_types[0];
    let satisfiable = !device.is_empty() && depends.others.values().all(|values| !values.is_empty());
    assert_eq!(header.check_depends(device, &provides).is_ok(), satisfiable);
    assert!(header.check_depends("", &provides).is_err(), "a device without a type");
    for key in depends.others.keys() {
        let mut less = provides.clone();
        less.remove(key);
        assert!(header.check_depends(device, &less).is_err(), "{key} is not provided");
    }
}
