//! Programs of the host, files, and the error of everything here: a text for whoever reads the console.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A text that says who could not do what, and why.
pub type Result<T> = std::result::Result<T, String>;

/// Time of all files in images: the same inputs give the same bytes.
pub const EPOCH: &str = "1700000000";

/// The repository.
pub fn root() -> PathBuf {
    // Where it was built; the package is `qemu` in it.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// Where everything that is made goes.
pub fn target() -> PathBuf {
    root().join("target/qemu")
}

/// Runs a program to its end; its output. With `input` on standard input.
pub fn run(program: &str, args: &[&str], input: &str) -> Result<String> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // sbin: mke2fs, debugfs, sfdisk, depmod are not in every user's PATH.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    command
        .env("PATH", &path)
        .env("SOURCE_DATE_EPOCH", EPOCH)
        .env("E2FSPROGS_FAKE_TIME", EPOCH)
        .env("LC_ALL", "C");
    // Two machines in two places make the same image.
    command.env("TZ", "UTC").env("MTOOLS_SKIP_CHECK", "1");
    let shown = || format!("{program} {}", args.join(" "));
    let mut child =
        command.spawn().map_err(|e| format!("cannot start {program}: {e}; `bash .ci/setup qemu`"))?;
    let mut stdin = child.stdin.take();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            if let Some(stdin) = &mut stdin {
                // It may end without reading all; what matters is how it ends.
                let _ = stdin.write_all(input.as_bytes());
            }
        });
        child.wait_with_output()
    });
    let output = output.map_err(|e| format!("{}: {e}", shown()))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if !output.status.success() {
        return Err(format!(
            "{}: {}\n{}{}",
            shown(),
            output.status,
            text(&output.stdout),
            text(&output.stderr)
        ));
    }
    Ok(text(&output.stdout))
}

/// The text of a file.
pub fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

/// The bytes of a file.
pub fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|e| format!("{}: {e}", path.display()))
}

/// Writes a file, and its directories first.
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    let parent = path.parent().map_or(Ok(()), fs::create_dir_all);
    parent.and_then(|()| fs::write(path, bytes)).map_err(|e| format!("{}: {e}", path.display()))
}

/// An empty directory.
pub fn fresh(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    }
    fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))
}

/// The path as text.
pub fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// SHA-256 in hex.
pub fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
