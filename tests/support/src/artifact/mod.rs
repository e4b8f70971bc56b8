//! Writes Artifacts (format 3): a tar of version, manifest, signature, header and data.

mod content;
mod sign;
mod tar;
#[cfg(test)]
mod tests;

pub use content::Content;
pub use sign::SigningKey;
pub(crate) use sign::pem_body;

use content::sha256_hex;
use flate2::Compression;
use flate2::write::GzEncoder;
use miniserde::json;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Cursor, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::thread;
use tar::TarWriter;

const VERSION: &str = r#"{"format":"mender","version":3}"#;

/// What an Artifact is to contain. Start from [`rootfs`](Self::rootfs), [`module`](Self::module) or
/// [`empty`](Self::empty), change any field, then [`write`](Self::write) it.
#[derive(Clone, Debug)]
pub struct ArtifactSpec {
    /// Its name, the device's `artifact_name` afterwards.
    pub name: String,
    /// Devices it is for.
    pub device_types: Vec<String>,
    /// `rootfs-image`, the name of an Update Module, or none for an empty payload.
    pub payload_type: Option<String>,
    /// Payload files in this order.
    pub files: Vec<(String, Content)>,
    /// State scripts by name, e.g. `ArtifactInstall_Enter_00_stop`.
    pub scripts: Vec<(String, Vec<u8>)>,
    /// Provides of the payload, besides name and group.
    pub provides: BTreeMap<String, String>,
    /// Depends of the payload; more than one value is written as a list.
    pub depends: BTreeMap<String, Vec<String>>,
    /// Names of installed Artifacts it may be installed over; empty for any.
    pub depends_name: Vec<String>,
    /// Groups it may be installed over; empty for any.
    pub depends_group: Vec<String>,
    /// Patterns of provides that it removes; `None` leaves the member out.
    pub clears: Option<Vec<String>>,
    /// Its group.
    pub group: Option<String>,
    /// Text of `meta-data`; `None` leaves the entry out (a rootfs-image gets an empty one).
    pub meta_data: Option<String>,
    /// Compress header and data with gzip.
    pub gzip: bool,
    /// The data container as it is to stand in the Artifact, and the suffix of its name (`.xz`); `None`: made from the
    /// files.
    pub data_file: Option<(String, PathBuf)>,
    /// Compress them with this tool instead: what it adds to their names, and the command, whose output is taken.
    pub pack_with: Option<(&'static str, &'static [&'static str])>,
    /// Sign it with this key.
    pub sign_with: Option<SigningKey>,
}

impl Default for ArtifactSpec {
    /// An empty payload named `release-1` for `test-type`, gzip.
    fn default() -> ArtifactSpec {
        ArtifactSpec {
            name: "release-1".to_owned(),
            device_types: vec!["test-type".to_owned()],
            payload_type: None,
            files: Vec::new(),
            scripts: Vec::new(),
            provides: BTreeMap::new(),
            depends: BTreeMap::new(),
            depends_name: Vec::new(),
            depends_group: Vec::new(),
            clears: None,
            group: None,
            meta_data: None,
            gzip: true,
            data_file: None,
            pack_with: None,
            sign_with: None,
        }
    }
}

impl ArtifactSpec {
    /// A root file system image, with the provides and clears that `mender-artifact` gives it.
    pub fn rootfs(name: &str, image: impl Into<Content>) -> ArtifactSpec {
        let image = image.into();
        let checksum = image.sha256().expect("read the image");
        let clears = ["artifact_group", "rootfs_image_checksum", "rootfs-image.*"].map(str::to_owned);
        let spec = ArtifactSpec {
            name: name.to_owned(),
            payload_type: Some("rootfs-image".to_owned()),
            clears: Some(clears.to_vec()),
            ..ArtifactSpec::default()
        };
        spec.file("rootfs.ext4", image)
            .provide("rootfs-image.checksum", &checksum)
            .provide("rootfs-image.version", name)
    }

    /// No payload: changes name and provides only. As `bootstrap.mender` it names the first system.
    pub fn empty(name: &str) -> ArtifactSpec {
        ArtifactSpec { name: name.to_owned(), ..ArtifactSpec::default() }
            .provide("rootfs-image.version", name)
    }

    /// A payload for the Update Module `kind`, without files as yet.
    pub fn module(kind: &str, name: &str) -> ArtifactSpec {
        let spec = ArtifactSpec {
            name: name.to_owned(),
            payload_type: Some(kind.to_owned()),
            clears: Some(vec![format!("rootfs-image.{kind}.*")]),
            ..ArtifactSpec::default()
        };
        spec.provide(&format!("rootfs-image.{kind}.version"), name)
    }

    /// Adds a payload file.
    pub fn file(mut self, name: &str, content: impl Into<Content>) -> ArtifactSpec {
        self.files.push((name.to_owned(), content.into()));
        self
    }

    /// Adds a state script.
    pub fn script(mut self, name: &str, text: &str) -> ArtifactSpec {
        self.scripts.push((name.to_owned(), text.as_bytes().to_vec()));
        self
    }

    /// Adds one of the payload's provides.
    pub fn provide(mut self, key: &str, value: &str) -> ArtifactSpec {
        self.provides.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Adds one of the payload's depends.
    pub fn depend(mut self, key: &str, values: &[&str]) -> ArtifactSpec {
        self.depends.insert(key.to_owned(), owned(values));
        self
    }

    /// Replaces the device types.
    pub fn device_types(mut self, types: &[&str]) -> ArtifactSpec {
        self.device_types = owned(types);
        self
    }

    /// Signs it.
    pub fn sign(mut self, key: &SigningKey) -> ArtifactSpec {
        self.sign_with = Some(key.clone());
        self
    }

    /// Leaves header and data uncompressed.
    pub fn uncompressed(mut self) -> ArtifactSpec {
        self.gzip = false;
        self
    }

    /// Takes the data container from a file: what [`write_data`](Self::write_data) wrote, packed by any tool.
    pub fn with_data(mut self, suffix: &str, file: &Path) -> ArtifactSpec {
        self.data_file = Some((suffix.to_owned(), file.to_owned()));
        self
    }

    /// Writes the data container alone to a file, not packed.
    pub fn write_data(&self, path: &Path) -> io::Result<()> {
        let mut out = BufWriter::new(File::create(path)?);
        self.data(&mut out)?;
        out.flush()
    }

    /// Writes the Artifact to a file; memory does not grow with the payload.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        self.write_to(BufWriter::new(File::create(path)?))?.flush()
    }

    /// The Artifact in memory; for small ones.
    pub fn bytes(&self) -> Vec<u8> {
        self.write_to(Cursor::new(Vec::new())).expect("write into memory").into_inner()
    }

    fn write_to<W: Write + Seek>(&self, out: W) -> io::Result<W> {
        let suffix = match self.pack_with {
            Some((suffix, _)) => suffix,
            None if self.gzip => ".gz",
            None => "",
        };
        let header_name = format!("header.tar{suffix}");
        let header = self.header()?;
        let mut manifest = String::new();
        for (name, content) in &self.files {
            manifest += &format!("{}  data/0000/{name}\n", content.sha256()?);
        }
        manifest += &format!("{}  {header_name}\n", sha256_hex(&header));
        manifest += &format!("{}  version\n", sha256_hex(VERSION.as_bytes()));

        let mut tar = TarWriter::new(out);
        let mut small = |name: &str, data: &[u8]| tar.append(name, 0o600, data.len() as u64, data);
        small("version", VERSION.as_bytes())?;
        small("manifest", manifest.as_bytes())?;
        if let Some(key) = &self.sign_with {
            small("manifest.sig", key.sign(manifest.as_bytes()).as_bytes())?;
        }
        small(&header_name, &header)?;
        if let Some((suffix, path)) = &self.data_file {
            let file = File::open(path)?;
            tar.append(&format!("data/0000.tar{suffix}"), 0o600, file.metadata()?.len(), file)?;
            return tar.finish();
        }
        tar.append_unsized(&format!("data/0000.tar{suffix}"), 0o600, |out| {
            if let Some((_, command)) = self.pack_with {
                pack(command, out, |input| self.data(input))
            } else if self.gzip {
                let mut gzip = GzEncoder::new(out, Compression::fast());
                self.data(&mut gzip)?;
                gzip.finish().map(drop)
            } else {
                self.data(out)
            }
        })?;
        tar.finish()
    }

    /// The payload's own tar.
    fn data(&self, out: &mut impl Write) -> io::Result<()> {
        let mut tar = TarWriter::new(out);
        for (name, content) in &self.files {
            tar.append(name, 0o644, content.size()?, content.open()?)?;
        }
        tar.finish().map(drop)
    }

    /// The header's tar, compressed if so wanted.
    fn header(&self) -> io::Result<Vec<u8>> {
        let mut tar = TarWriter::new(Vec::new());
        let mut small = |name: &str, mode, data: &[u8]| tar.append(name, mode, data.len() as u64, data);
        small("header-info", 0o600, self.header_info().as_bytes())?;
        for (name, text) in &self.scripts {
            small(&format!("scripts/{name}"), 0o755, text)?;
        }
        small("headers/0000/type-info", 0o600, self.type_info().as_bytes())?;
        match (&self.meta_data, self.payload_type.as_deref()) {
            (Some(text), _) => small("headers/0000/meta-data", 0o600, text.as_bytes())?,
            (None, Some("rootfs-image")) => small("headers/0000/meta-data", 0o600, b"")?,
            (None, _) => {}
        }
        let plain = tar.finish()?;
        if let Some((_, command)) = self.pack_with {
            let mut packed = Vec::new();
            pack(command, &mut packed, |input| input.write_all(&plain))?;
            return Ok(packed);
        }
        if !self.gzip {
            return Ok(plain);
        }
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&plain)?;
        gzip.finish()
    }

    fn header_info(&self) -> String {
        let mut provides = format!(r#""artifact_name":{}"#, quote(&self.name));
        if let Some(group) = &self.group {
            provides += &format!(r#","artifact_group":{}"#, quote(group));
        }
        let mut depends = format!(r#""device_type":{}"#, list(&self.device_types));
        if !self.depends_name.is_empty() {
            depends += &format!(r#","artifact_name":{}"#, list(&self.depends_name));
        }
        if !self.depends_group.is_empty() {
            depends += &format!(r#","artifact_group":{}"#, list(&self.depends_group));
        }
        let kind = self.kind();
        format!(
            r#"{{"payloads":[{{"type":{kind}}}],"artifact_provides":{{{provides}}},"artifact_depends":{{{depends}}}}}"#
        )
    }

    fn type_info(&self) -> String {
        let mut text = format!(r#"{{"type":{}"#, self.kind());
        if !self.depends.is_empty() {
            let members = self.depends.iter().map(|(key, values)| match values.as_slice() {
                [value] => format!("{}:{}", quote(key), quote(value)),
                values => format!("{}:{}", quote(key), list(values)),
            });
            text += &format!(r#","artifact_depends":{{{}}}"#, members.collect::<Vec<_>>().join(","));
        }
        if !self.provides.is_empty() {
            text += &format!(r#","artifact_provides":{}"#, json::to_string(&self.provides));
        }
        if let Some(clears) = &self.clears {
            text += &format!(r#","clears_artifact_provides":{}"#, list(clears));
        }
        text + "}"
    }

    fn kind(&self) -> String {
        self.payload_type.as_deref().map_or("null".to_owned(), quote)
    }
}

/// Sends what `fill` writes through a tool, and its output to `out`.
fn pack(
    command: &[&str],
    out: &mut impl Write,
    fill: impl FnOnce(&mut BufWriter<ChildStdin>) -> io::Result<()> + Send,
) -> io::Result<()> {
    let mut child = Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| io::Error::other(format!("{}: {error}", command[0])))?;
    let (input, output) = (child.stdin.take(), child.stdout.take());
    let (input, mut output) = (input.expect("piped"), output.expect("piped"));
    // Both ends at once: neither pipe holds much.
    let filled = thread::scope(|scope| {
        let filler = scope.spawn(move || {
            let mut input = BufWriter::with_capacity(1 << 16, input);
            fill(&mut input).and_then(|()| input.flush())
        });
        let copied = io::copy(&mut output, out);
        filler.join().expect("no panic while packing").and(copied)
    });
    let status = child.wait()?;
    filled?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("{}: {status}", command[0]))) }
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

fn quote(text: &str) -> String {
    json::to_string(text)
}

fn list(texts: &[String]) -> String {
    format!("[{}]", texts.iter().map(|text| quote(text)).collect::<Vec<_>>().join(","))
}
