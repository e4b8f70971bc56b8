//! Runs tools of the host. A missing tool is an error that names its Debian package, never a silent skip.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::process::{Command, Stdio};

/// Directories of tools; the ones for administrators are not in every user's PATH.
pub const TOOL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs `program` to its end and returns its standard output, or a text that says what went wrong.
pub fn run<A: AsRef<OsStr>>(program: &str, package: &str, args: &[A]) -> Result<Vec<u8>, String> {
    let output = Command::new(program)
        .args(args)
        .env("PATH", TOOL_PATH)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                format!("the tool `{program}` is missing: install the Debian package {package}")
            }
            _ => format!("cannot run {program}: {error}"),
        })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said =
        String::from_utf8_lossy(if output.stderr.is_empty() { &output.stdout } else { &output.stderr });
    Err(format!("{program}: {}: {}", output.status, said.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_is_named_with_its_package() {
        let error = run("no-such-tool-here", "some-package", &["x"]).unwrap_err();
        assert!(
            error.contains("no-such-tool-here") && error.contains("Debian package some-package"),
            "{error}"
        );
    }

    #[test]
    fn a_failing_tool_is_quoted() {
        let error = run("sh", "dash", &["-c", "echo broken >&2; exit 3"]).unwrap_err();
        assert!(error.contains("broken") && error.contains('3'), "{error}");
        assert_eq!(run("sh", "dash", &["-c", "echo fine"]).unwrap(), b"fine\n");
    }
}
