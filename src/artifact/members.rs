//! The nested archive `header.tar*`: which members it has, in which order (AF-18, AF-19). Version 2 has one more.

use std::io::Read;

use super::codec::{Caps, Container};
use super::fault::shown;
use super::header::{Header, Texts};
use super::limits;
use super::scripts::{self, Scripts};
use super::source::Limited;
use super::tar::{Entry, Tar};
use crate::error::{Error, Result};

const FILES: &str = "headers/0000/files";
const TYPE_INFO: &str = "headers/0000/type-info";
const META_DATA: &str = "headers/0000/meta-data";

fn wrong(label: &str, text: impl std::fmt::Display) -> Error {
    Error::new("ARTIFACT-HEADER", format!("{label}: {text}"))
}

/// Takes a header apart whose checksum was compared. `stored` is the entry as it stands in the Artifact, whose
/// format version is `format`.
///
/// Errors: ARTIFACT-HEADER, ARTIFACT-FORMAT, ARTIFACT-LIMIT, ARTIFACT-TAR, ARTIFACT-COMPRESSION.
pub(super) fn read(
    stored: Vec<u8>,
    format: u8,
    container: Container,
    caps: Caps,
    label: &'static str,
) -> Result<(Header, Scripts)> {
    let unpacked = container.decoder(stored.as_slice(), caps, label)?;
    let mut tar = Tar::new(Limited::new(unpacked, container.header_limits().unpacked, label), label);

    let info = member(&mut tar, label, "header-info", limits::HEADER_INFO)?;
    let mut names: Vec<String> = Vec::new();
    let mut entry = next(&mut tar)?;
    while let Some(name) = entry.as_ref().and_then(|e| e.name.strip_prefix(scripts::FOLDER)) {
        if !scripts::is_script_name(name) {
            return Err(wrong(label, format_args!("{} is not the name of an Artifact script", shown(name))));
        }
        if names.iter().any(|other| other == name) {
            return Err(wrong(label, format_args!("the script {name} is there twice")));
        }
        if names.len() == limits::SCRIPTS {
            let text = format!("{label}: more than {} scripts", limits::SCRIPTS);
            return Err(Error::new("ARTIFACT-LIMIT", text));
        }
        names.push(name.to_owned());
        entry = next(&mut tar)?;
    }
    let mut files = None;
    if format == 2 {
        files = Some(expect(&mut tar, entry, label, FILES, limits::FILES)?);
        entry = next(&mut tar)?;
    }
    let kind = expect(&mut tar, entry, label, TYPE_INFO, limits::TYPE_INFO)?;
    let meta = match next(&mut tar)? {
        None => None,
        some => Some(expect(&mut tar, some, label, META_DATA, limits::META_DATA)?),
    };
    if let Some(entry) = next(&mut tar)? {
        return Err(wrong(label, format_args!("unexpected member {}", shown(&entry.name))));
    }
    // To the end of the container: a damaged stream must not pass because its end was not looked at.
    tar.after_end(false)?;
    // The decoder goes before anything is parsed: it may hold a large window.
    let _ = tar.into_inner();

    let texts = Texts { info: &info, files: files.as_deref(), kind: &kind, meta: meta.as_deref() };
    let header = Header::parse(format, &texts)?;
    Ok((header, Scripts::new(names, stored, container, caps, label)))
}

/// The next member that is not one of the folders that may stand in between (AF-19).
fn next<R: Read>(tar: &mut Tar<R>) -> Result<Option<Entry>> {
    // Bounded by the limit on the unpacked header.
    loop {
        match tar.next_entry()? {
            Some(e) if e.directory && is_folder(&e.name) => {}
            Some(e) if e.directory => {
                let name = shown(&e.name);
                return Err(Error::new("ARTIFACT-HEADER", format!("header: unexpected directory {name}")));
            }
            other => return Ok(other),
        }
    }
}

fn is_folder(name: &str) -> bool {
    matches!(name.strip_suffix('/').unwrap_or(name), "headers" | "headers/0000")
}

fn member<R: Read>(tar: &mut Tar<R>, label: &str, wanted: &str, limit: u64) -> Result<Vec<u8>> {
    let entry = next(tar)?;
    expect(tar, entry, label, wanted, limit)
}

fn expect<R: Read>(
    tar: &mut Tar<R>,
    entry: Option<Entry>,
    label: &str,
    wanted: &str,
    limit: u64,
) -> Result<Vec<u8>> {
    match entry {
        Some(entry) if entry.name == wanted => tar.content(&entry, limit),
        Some(entry) => Err(wrong(label, format_args!("expected {wanted}, found {}", shown(&entry.name)))),
        None => Err(wrong(label, format_args!("{wanted} is missing"))),
    }
}
