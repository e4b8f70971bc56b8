//! The smallest writer of Artifacts that can also write wrong ones. Shared by the tests of the reader.
#![allow(dead_code)]

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};
use thimble::artifact::{self, Header, Options};
use thimble::error::{Error, Result};

/// How containers are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pack {
    Plain,
    Gzip,
    Xz,
    Zstd,
}

pub const PACKS: [Pack; 4] = [Pack::Plain, Pack::Gzip, Pack::Xz, Pack::Zstd];

impl Pack {
    pub fn suffix(self) -> &'static str {
        match self {
            Pack::Plain => "",
            Pack::Gzip => ".gz",
            Pack::Xz => ".xz",
            Pack::Zstd => ".zst",
        }
    }

    pub fn pack(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Pack::Plain => bytes.to_vec(),
            Pack::Gzip => gzip(bytes),
            Pack::Xz => xz(bytes, &["-6"]),
            Pack::Zstd => zstd(bytes, &["-3"]),
        }
    }
}

/// Compresses into one gzip member.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

/// Compresses into one xz stream.
pub fn xz(bytes: &[u8], options: &[&str]) -> Vec<u8> {
    through("xz", "xz-utils", options, bytes)
}

/// Compresses into one zstd frame.
pub fn zstd(bytes: &[u8], options: &[&str]) -> Vec<u8> {
    through("zstd", "zstd", options, bytes)
}

/// The same, but the one block declares another dictionary: 22 is 8 MiB, 28 is 64 MiB, 40 is 4 GiB.
pub fn xz_declaring(bytes: &[u8], dictionary: u8) -> Vec<u8> {
    let mut packed = xz(bytes, &["-T1"]);
    // Behind the stream header: size, flags, filter LZMA2 with one byte, that byte, padding, CRC.
    let block = &mut packed[12..24];
    assert_eq!(block[..4], [2, 0, 0x21, 1], "one filter and no sizes");
    block[4] = dictionary;
    let mut crc = flate2::Crc::new();
    crc.update(&block[..8]);
    block[8..].copy_from_slice(&crc.sum().to_le_bytes());
    packed
}

/// The same, but the frame declares another window: 0x68 is 8 MiB, 8 more is twice as much.
pub fn zstd_declaring(bytes: &[u8], window: u8) -> Vec<u8> {
    let mut packed = zstd(bytes, &[]);
    assert_eq!(packed[4] & 0x20, 0, "a frame with a window of its own");
    packed[5] = window;
    packed
}

/// What a compressor makes of these bytes. A missing one fails the test that needs it.
fn through(program: &str, package: &str, options: &[&str], bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(["-c", "-q"])
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| {
            panic!("cannot run {program}: {e}. This test needs it: apt-get install {package}")
        });
    let mut input = child.stdin.take().unwrap();
    let mut packed = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(bytes).unwrap());
        child.stdout.take().unwrap().read_to_end(&mut packed).unwrap();
    });
    assert!(child.wait().unwrap().success(), "{program} {options:?}");
    packed
}

/// A tar block with its checksum; `size` is the raw field.
pub fn block(name: &[u8], size: &[u8], kind: u8, change: impl FnOnce(&mut [u8; 512])) -> [u8; 512] {
    let mut block = [0u8; 512];
    block[..name.len()].copy_from_slice(name);
    block[100..108].copy_from_slice(b"0000600\0");
    block[108..116].copy_from_slice(b"0000000\0");
    block[116..124].copy_from_slice(b"0000000\0");
    block[124..124 + size.len()].copy_from_slice(size);
    block[136..148].copy_from_slice(b"00000000000\0");
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    change(&mut block);
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// An entry of any type: block, content, padding.
pub fn typed(name: &str, kind: u8, content: &[u8]) -> Vec<u8> {
    let mut out =
        block(name.as_bytes(), format!("{:011o}\0", content.len()).as_bytes(), kind, |_| ()).to_vec();
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

/// A regular file.
pub fn entry(name: &str, content: &[u8]) -> Vec<u8> {
    typed(name, b'0', content)
}

/// Entries, then the two blocks at the end.
pub fn tar(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut out = entries.concat();
    out.extend_from_slice(&[0; 1024]);
    out
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - group.len()));
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i)) as usize & 63] as char;
            out.push(if i <= group.len() { digit } else { '=' });
        }
    }
    out
}

/// What goes into an Artifact. Change a field, then [`Recipe::build`].
#[derive(Clone)]
pub struct Recipe {
    pub version: String,
    pub info: String,
    pub kind: String,
    pub meta: Option<Vec<u8>>,
    pub scripts: Vec<(String, Vec<u8>)>,
    pub files: Vec<(String, Vec<u8>)>,
    pub pack: Pack,
}

impl Default for Recipe {
    /// A module Artifact with two files and no script.
    fn default() -> Recipe {
        Recipe {
            version: r#"{"format":"mender","version":3}"#.into(),
            info: info("script"),
            kind: r#"{"type":"script"}"#.into(),
            meta: Some(br#"{"a":1}"#.to_vec()),
            scripts: Vec::new(),
            files: vec![("a.txt".into(), b"hello".to_vec()), ("b.bin".into(), vec![7; 700])],
            pack: Pack::Gzip,
        }
    }
}

/// header-info of an Artifact for device type `dev`.
pub fn info(kind: &str) -> String {
    info_with(&format!(r#"[{{"type":"{kind}"}}]"#), r#"{"device_type":["dev"]}"#)
}

pub fn info_with(payloads: &str, depends: &str) -> String {
    format!(
        r#"{{"payloads":{payloads},"artifact_provides":{{"artifact_name":"rel"}},"artifact_depends":{depends}}}"#
    )
}

impl Recipe {
    pub fn header_entries(&self) -> Vec<Vec<u8>> {
        let mut all = vec![entry("header-info", self.info.as_bytes())];
        all.extend(self.scripts.iter().map(|(name, content)| entry(&format!("scripts/{name}"), content)));
        all.push(entry("headers/0000/type-info", self.kind.as_bytes()));
        all.extend(self.meta.as_ref().map(|meta| entry("headers/0000/meta-data", meta)));
        all
    }

    pub fn data_entries(&self) -> Vec<Vec<u8>> {
        self.files.iter().map(|(name, content)| entry(name, content)).collect()
    }

    /// The outer entries, name and content; the manifest fits the rest.
    pub fn parts(&self) -> Vec<(String, Vec<u8>)> {
        self.parts_with(
            self.pack.pack(&tar(&self.header_entries())),
            self.pack.pack(&tar(&self.data_entries())),
        )
    }

    /// The same with other containers, as they are to be stored.
    pub fn parts_with(&self, header: Vec<u8>, data: Vec<u8>) -> Vec<(String, Vec<u8>)> {
        let suffix = self.pack.suffix();
        let mut manifest = String::new();
        for (name, content) in &self.files {
            manifest.push_str(&format!("{}  data/0000/{name}\n", sha256(content)));
        }
        manifest.push_str(&format!("{}  header.tar{suffix}\n", sha256(&header)));
        manifest.push_str(&format!("{}  version\n", sha256(self.version.as_bytes())));
        vec![
            ("version".into(), self.version.clone().into_bytes()),
            ("manifest".into(), manifest.into_bytes()),
            (format!("header.tar{suffix}"), header),
            (format!("data/0000.tar{suffix}"), data),
        ]
    }

    pub fn build(&self) -> Vec<u8> {
        join(&self.parts())
    }

    /// With these members of the header instead.
    pub fn with_header(&self, entries: &[Vec<u8>]) -> Vec<u8> {
        join(&self.parts_with(self.pack.pack(&tar(entries)), self.pack.pack(&tar(&self.data_entries()))))
    }

    /// With these entries in the data container instead.
    pub fn with_data(&self, entries: &[Vec<u8>]) -> Vec<u8> {
        join(&self.parts_with(self.pack.pack(&tar(&self.header_entries())), self.pack.pack(&tar(entries))))
    }
}

/// Outer entries to an Artifact.
pub fn join(parts: &[(String, Vec<u8>)]) -> Vec<u8> {
    tar(&parts.iter().map(|(name, content)| entry(name, content)).collect::<Vec<_>>())
}

/// Everything that a reader hands out.
#[derive(Debug, Clone)]
pub struct Seen {
    pub header: Header,
    pub scripts: Vec<(String, Vec<u8>)>,
    pub files: Vec<(String, Vec<u8>)>,
}

pub const NO_KEYS: Options<'static> =
    Options { keys: &[], signature_required: false, xz_memory_limit: 64 << 20, zstd_window_limit: 8 << 20 };

/// Reads a whole Artifact.
pub fn read_with<R: Read>(source: R, options: &Options) -> Result<Seen> {
    let mut opened = artifact::open(source, options)?;
    let mut scripts = Vec::new();
    opened.scripts.extract(&mut |name, content| {
        let mut all = Vec::new();
        content.read_to_end(&mut all).map_err(|e| Error::new("TEST", e.to_string()))?;
        scripts.push((name.to_owned(), all));
        Ok(())
    })?;
    assert_eq!(scripts.len(), opened.scripts.len());
    let mut files = Vec::new();
    while let Some((name, size)) = opened.payload.next_file()? {
        let (mut all, mut buffer) = (Vec::new(), [0; 1000]);
        loop {
            match opened.payload.read(&mut buffer)? {
                0 => break,
                n => all.extend_from_slice(&buffer[..n]),
            }
        }
        assert_eq!(all.len() as u64, size);
        files.push((name, all));
    }
    assert_eq!(opened.payload.next_file()?, None, "the end stays the end");
    Ok(Seen { header: opened.header, scripts, files })
}

pub fn read(bytes: &[u8]) -> Result<Seen> {
    read_with(bytes, &NO_KEYS)
}

/// Asserts that an Artifact is refused with this code, and returns the text.
#[track_caller]
pub fn refused(bytes: &[u8], code: &str) -> String {
    let error = read(bytes).expect_err("must be refused");
    assert_eq!(error.code, code, "{}", error.text);
    error.text
}
