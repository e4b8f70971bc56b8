//! What an Artifact says about itself: `header-info`, `type-info` and `meta-data` (AF-18 to AF-28), and `files` in
//! version 2 (AF-24, AF-26, AF-29).

use std::collections::BTreeMap;

use super::fault::shown;
use super::{manifest, values};
use crate::error::{Error, Result};
use crate::json::{self, Value};

const CODE: &str = "ARTIFACT-HEADER";
const INFO: &str = "header-info";
const TYPE: &str = "type-info";
const FILES: &str = "files";
/// The payload type of a root file system.
pub(super) const ROOTFS_IMAGE: &str = "rootfs-image";

/// The header of an Artifact whose checksums, and signature if a key was given, were found right.
#[derive(Debug, Clone)]
pub struct Header {
    /// Version of the Artifact format: 3, or 2. Scripts are stored with it (AF-31).
    pub format: u8,
    /// `artifact_name`, never empty.
    pub name: String,
    /// `artifact_group` that the device joins; never empty.
    pub group: Option<String>,
    /// What the device must be and provide.
    pub depends: Depends,
    /// `artifact_provides` of type-info; without `artifact_name` and `artifact_group` (AF-27). Empty in version 2.
    pub provides: BTreeMap<String, String>,
    /// `clears_artifact_provides`. `None` if absent: everything is cleared (AF-53). So it is in version 2 (AF-57).
    pub clears: Option<Vec<String>>,
    /// What handles the payload; fit to be a file name. `None`: an empty payload (AF-40).
    pub payload_type: Option<String>,
    /// `header-info` as a whole, unknown members included.
    pub header_info: Value,
    /// `type-info` as a whole, unknown members included.
    pub type_info: Value,
    /// `meta-data`, an object. `None` if the Artifact has none, or an empty one (AF-28).
    pub meta_data: Option<Value>,
    /// Whether there is a signature. It was verified if, and only if, a key was given to
    /// [`open`](super::open) (AF-62).
    pub signed: bool,
}

/// What an Artifact depends on; see [`Header::check_depends`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Depends {
    /// `device_type`: the device's must be one of these. Never empty.
    pub device_types: Vec<String>,
    /// `artifact_name`: if not empty, the installed one must be one of these.
    pub names: Vec<String>,
    /// `artifact_group`: if not empty, the device's must be one of these.
    pub groups: Vec<String>,
    /// From type-info: the device must provide each key with one of the values.
    pub others: BTreeMap<String, Vec<String>>,
}

/// The members of a header as they stand in it.
pub(super) struct Texts<'a> {
    pub(super) info: &'a [u8],
    /// Version 2 only.
    pub(super) files: Option<&'a [u8]>,
    pub(super) kind: &'a [u8],
    pub(super) meta: Option<&'a [u8]>,
}

fn wrong(text: impl Into<String>) -> Error {
    Error::new(CODE, text)
}

impl Header {
    /// Reads the members of a verified header.
    ///
    /// Errors: ARTIFACT-HEADER, with the member that is wrong; ARTIFACT-LIMIT; ARTIFACT-FORMAT.
    pub(super) fn parse(format: u8, texts: &Texts) -> Result<Header> {
        values::check([Some(texts.info), texts.files, Some(texts.kind), texts.meta].into_iter().flatten())?;
        let header_info = json::parse_bytes(texts.info, CODE, INFO)?;
        let type_info = json::parse_bytes(texts.kind, CODE, TYPE)?;
        let payload_type = payload_type(&header_info, if format == 2 { "updates" } else { "payloads" })?;
        check_type(&type_info, payload_type.as_deref())?;
        let meta_data = match texts.meta {
            None | Some([]) => None,
            Some(meta) => match json::parse_bytes(meta, CODE, "meta-data")? {
                _ if payload_type.is_none() => return Err(wrong("meta-data: an empty payload has none")),
                object @ Value::Object(_) => Some(object),
                other => {
                    return Err(wrong(format!("meta-data must be an object, found {}", json::kind(&other))));
                }
            },
        };
        if let Some(files) = texts.files {
            check_files(files)?;
            return Header::version_2(payload_type, header_info, type_info, meta_data);
        }
        let own = object(&header_info, "artifact_provides", INFO)?;
        let own = own.ok_or_else(|| wrong("header-info: artifact_provides is missing"))?;
        let name = text(own, "artifact_name", INFO)?.filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| wrong("header-info: artifact_name is missing or empty"))?;
        let group = text(own, "artifact_group", INFO)?.filter(|group| !group.is_empty());
        one_line("artifact_name", &name)?;
        one_line("artifact_group", group.as_deref().unwrap_or_default())?;
        Ok(Header {
            format,
            depends: depends(&header_info, &type_info)?,
            provides: provides(&type_info, &name, group.as_deref())?,
            name,
            group,
            clears: list(&type_info, "clears_artifact_provides", TYPE)?,
            payload_type,
            meta_data,
            header_info,
            type_info,
            signed: false,
        })
    }

    /// AF-24: what version 2 can say is what the name is and which devices it is for.
    fn version_2(
        payload_type: Option<String>,
        header_info: Value,
        type_info: Value,
        meta_data: Option<Value>,
    ) -> Result<Header> {
        if payload_type.as_deref() != Some(ROOTFS_IMAGE) {
            let found = payload_type.map_or("none".into(), |t| shown(&t));
            let text = format!(
                "the Artifact has format version 2 and a payload of type {found}; version 2 is supported for \
                 {ROOTFS_IMAGE} only. Write it again with --version 3"
            );
            return Err(Error::new("ARTIFACT-FORMAT", text));
        }
        let name = text(&header_info, "artifact_name", INFO)?.filter(|name| !name.is_empty());
        one_line("artifact_name", name.as_deref().unwrap_or_default())?;
        let types = list(&header_info, "device_types_compatible", INFO)?.filter(|types| !types.is_empty());
        Ok(Header {
            format: 2,
            name: name.ok_or_else(|| wrong("header-info: artifact_name is missing or empty"))?,
            group: None,
            depends: Depends {
                device_types: types
                    .ok_or_else(|| wrong("header-info: device_types_compatible is missing or empty"))?,
                ..Depends::default()
            },
            provides: BTreeMap::new(),
            clears: None,
            payload_type,
            header_info,
            type_info,
            meta_data,
            signed: false,
        })
    }
}

/// What the device tells about itself later, line by line: in its log, to modules and scripts, as `key=value`. A line end
/// in it would be another line that nobody wrote, and a terminal obeys other control characters.
fn one_line(what: &str, text: &str) -> Result<()> {
    if text.contains(char::is_control) {
        return Err(wrong(format!("{what} {} contains a control character", shown(text))));
    }
    Ok(())
}

/// AF-29: one file. Which one says the manifest.
fn check_files(files: &[u8]) -> Result<()> {
    let files = json::parse_bytes(files, CODE, FILES)?;
    match list(&files, FILES, FILES)?.as_deref() {
        Some([name]) => {
            manifest::check_file_name(name).map_err(|why| wrong(format!("files: {}: {why}", shown(name))))
        }
        Some(other) => Err(wrong(format!("files: {} files, a {ROOTFS_IMAGE} has one", other.len()))),
        None => Err(wrong("files: the list is missing")),
    }
}

/// AF-23: exactly one payload, in the list `key`. Null is the empty payload.
fn payload_type(info: &Value, key: &str) -> Result<Option<String>> {
    let payload = match json::get(info, key) {
        Some(Value::Array(payloads)) => match payloads.as_slice() {
            [payload] => payload,
            other => {
                let text = format!("header-info: {} {key}, exactly one is supported", other.len());
                return Err(wrong(text));
            }
        },
        _ => return Err(wrong(format!("header-info: {key} is missing or not a list"))),
    };
    match json::get(payload, "type") {
        Some(Value::Null) => Ok(None),
        Some(Value::String(name)) if is_type_name(name) => Ok(Some(name.clone())),
        Some(Value::String(name)) => {
            Err(wrong(format!("header-info: {} cannot be a payload type", shown(name))))
        }
        Some(other) => {
            let kind = json::kind(other);
            Err(wrong(format!("header-info: the payload's type must be a string or null, found {kind}")))
        }
        None => Err(wrong("header-info: the payload has no type")),
    }
}

/// A type is the file name of an Update Module: it must not lead out of the folder of modules.
fn is_type_name(name: &str) -> bool {
    let bad = |c: char| c == '/' || c.is_control() || c.is_whitespace();
    !matches!(name, "" | "." | "..") && name.len() <= 255 && !name.contains(bad)
}

/// AF-25: type-info repeats the type; some writers left it empty for rootfs-image.
fn check_type(type_info: &Value, wanted: Option<&str>) -> Result<()> {
    if !matches!(type_info, Value::Object(_)) {
        return Err(wrong(format!("type-info must be an object, found {}", json::kind(type_info))));
    }
    let found = text(type_info, "type", TYPE)?;
    match (found.as_deref(), wanted) {
        (Some(""), Some(ROOTFS_IMAGE)) => Ok(()),
        (found, wanted) if found == wanted => Ok(()),
        (found, wanted) => {
            let [found, wanted] = [found, wanted].map(|t| t.map_or("null".into(), shown));
            Err(wrong(format!("type-info: the type is {found}, header-info says {wanted}")))
        }
    }
}

/// AF-27: header-info provides name and group. Saying the same once more is harmless, and bootstrap Artifacts in the
/// field do (ST43); saying something else is a conflict.
fn provides(type_info: &Value, name: &str, group: Option<&str>) -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for (key, value) in members(type_info, "artifact_provides", TYPE)? {
        let above = match key.as_str() {
            "artifact_name" => Some(Some(name)),
            "artifact_group" => Some(group),
            _ => None,
        };
        if let Some(above) = above {
            if json::string(value) == above {
                continue;
            }
            return Err(wrong(format!("type-info: artifact_provides: {key} is not that of header-info")));
        }
        one_line("artifact_provides: the key", key)?;
        let value = json::string(value)
            .ok_or_else(|| wrong(format!("type-info: artifact_provides: {} must be a string", shown(key))))?;
        all.insert(key.clone(), value.to_owned());
    }
    Ok(all)
}

fn depends(info: &Value, type_info: &Value) -> Result<Depends> {
    let own = object(info, "artifact_depends", INFO)?;
    let own = own.ok_or_else(|| wrong("header-info: artifact_depends is missing"))?;
    let device_types = list(own, "device_type", INFO)?.filter(|types| !types.is_empty());
    let mut all = Depends {
        device_types: device_types
            .ok_or_else(|| wrong("header-info: artifact_depends: device_type is missing or empty"))?,
        names: list(own, "artifact_name", INFO)?.unwrap_or_default(),
        groups: list(own, "artifact_group", INFO)?.unwrap_or_default(),
        others: BTreeMap::new(),
    };
    for (key, value) in members(type_info, "artifact_depends", TYPE)? {
        let twice = match key.as_str() {
            "device_type" => true,
            "artifact_name" => !all.names.is_empty(),
            "artifact_group" => !all.groups.is_empty(),
            _ => false,
        };
        if twice {
            // AF-27: which of the two holds is not defined.
            return Err(wrong(format!("artifact_depends: {key} is in both header-info and type-info")));
        }
        let values = match value {
            Value::String(one) => Some(vec![one.clone()]),
            other => json::strings(other),
        };
        let values = values.ok_or_else(|| {
            let key = shown(key);
            wrong(format!("type-info: artifact_depends: {key} must be a string or a list of strings"))
        })?;
        all.others.insert(key.clone(), values);
    }
    Ok(all)
}

/// An optional member that must be an object; null counts as absent, here and below, as the writers' library
/// takes it.
fn object<'a>(value: &'a Value, key: &str, file: &str) -> Result<Option<&'a Value>> {
    match json::get(value, key) {
        None | Some(Value::Null) => Ok(None),
        Some(object @ Value::Object(_)) => Ok(Some(object)),
        Some(other) => Err(wrong(format!("{file}: {key} must be an object, found {}", json::kind(other)))),
    }
}

fn members<'a>(
    value: &'a Value,
    key: &str,
    file: &str,
) -> Result<impl Iterator<Item = (&'a String, &'a Value)>> {
    let members = match object(value, key, file)? {
        Some(Value::Object(members)) => Some(members.iter()),
        _ => None,
    };
    Ok(members.into_iter().flatten())
}

fn text(value: &Value, key: &str, file: &str) -> Result<Option<String>> {
    match json::get(value, key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(wrong(format!("{file}: {key} must be a string, found {}", json::kind(other)))),
    }
}

fn list(value: &Value, key: &str, file: &str) -> Result<Option<Vec<String>>> {
    match json::get(value, key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match json::strings(value) {
            Some(list) => Ok(Some(list)),
            None => Err(wrong(format!("{file}: {key} must be a list of strings"))),
        },
    }
}
