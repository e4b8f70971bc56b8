//! What is installed: images, and Artifacts with them in every container.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use thimble_testkit::{ArtifactSpec, Content};

/// For whom the Artifacts are.
pub const DEVICE_TYPE: &str = "bench-board";

/// Names of the containers, and the tool that packs each: its Debian package, and options.
pub const CONTAINERS: [(&str, &str, &str, &[&str]); 4] = [
    ("none", "", "", &[]),
    ("gzip", ".gz", "gzip", &["-6"]),
    ("xz", ".xz", "xz-utils", &["-3", "-T0"]),
    ("zstd", ".zst", "zstd", &["-q", "-3", "-T0"]),
];

/// An Artifact, and its data container alone.
pub struct Packed {
    pub artifact: PathBuf,
    pub data: PathBuf,
}

/// Packs an image; what is there from a run before is taken as it is.
pub fn pack(dir: &Path, image: &Path, container: &str) -> Result<Packed, String> {
    let (name, suffix, package, options) =
        *CONTAINERS.iter().find(|c| c.0 == container).ok_or("no such container")?;
    let base = image.file_name().unwrap_or_default().to_string_lossy();
    let packed = Packed {
        artifact: dir.join(format!("{base}-{name}.mender")),
        data: dir.join(format!("{base}-{name}.tar{suffix}")),
    };
    if packed.artifact.exists() {
        return Ok(packed);
    }
    let says = |path: &Path| {
        let path = path.display().to_string();
        move |error: io::Error| format!("{path}: {error}")
    };
    let spec =
        ArtifactSpec::rootfs("release-2", Content::File(image.to_owned())).device_types(&[DEVICE_TYPE]);
    if !packed.data.exists() {
        let (plain, half) = (dir.join("plain.tar"), dir.join("half.tar"));
        spec.write_data(&plain).map_err(says(&plain))?;
        if suffix.is_empty() {
            fs::rename(&plain, &half).map_err(says(&plain))?;
        } else {
            let status = Command::new(name)
                .args(options)
                .arg("-c")
                .stdin(File::open(&plain).map_err(says(&plain))?)
                .stdout(File::create(&half).map_err(says(&half))?)
                .status()
                .map_err(|error| format!("{name} (Debian package {package}): {error}"))?;
            if !status.success() {
                return Err(format!("{name}: {status}"));
            }
            fs::remove_file(&plain).map_err(says(&plain))?;
        }
        fs::rename(&half, &packed.data).map_err(says(&half))?;
    }
    let half = dir.join("half.mender");
    spec.with_data(suffix, &packed.data).write(&half).map_err(says(&half))?;
    fs::rename(&half, &packed.artifact).map_err(says(&half))?;
    Ok(packed)
}

/// An image of which about half can be compressed away, as with a real root file system: in each block of 4 KiB, half
/// is noise and half repeats.
pub fn make(path: &Path, mib: u64) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let (mut state, mut block) = (0x9e37_79b9_7f4a_7c15u64, [0u8; 4096]);
    for number in 0..mib * 256 {
        for piece in block[..2048].chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            piece.copy_from_slice(&state.to_le_bytes());
        }
        for (index, byte) in block[2048..].iter_mut().enumerate() {
            *byte = (index as u64 % 61 + number % 31) as u8;
        }
        out.write_all(&block)?;
    }
    out.into_inner()?.sync_all()
}

/// An image of what is on this machine: the files below /usr/lib, one after the other. The last one is cut off, and where
/// there is less than that the image is smaller.
pub fn collect(path: &Path, mib: u64) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let (mut left, mut dirs) = (mib << 20, vec![PathBuf::from("/usr/lib")]);
    while let Some(dir) = dirs.pop() {
        let mut entries = fs::read_dir(dir)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let kind = entry.file_type()?;
            if kind.is_dir() {
                dirs.push(entry.path());
            } else if kind.is_file()
                && let Ok(file) = File::open(entry.path())
            {
                left -= io::copy(&mut file.take(left), &mut out)?;
            }
        }
    }
    out.into_inner()?.sync_all()
}

/// A copy of an image in which one block of 4 KiB in twenty is another. Returns the bytes that differ.
pub fn change(image: &Path, path: &Path) -> io::Result<u64> {
    let (mut image, mut out) = (File::open(image)?, BufWriter::with_capacity(1 << 20, File::create(path)?));
    let (mut block, mut differ) = ([0u8; 4096], 0);
    let mut state = 88_172_645_463_325_252u64;
    while image.read(&mut block[..1])? == 1 {
        image.read_exact(&mut block[1..])?;
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if (state >> 20).is_multiple_of(20) {
            block[(state >> 40) as usize % 4096] ^= 1;
            differ += 4096;
        }
        out.write_all(&block)?;
    }
    out.into_inner()?.sync_all()?;
    Ok(differ)
}
