//! The log of one deployment: a file of JSON lines, or the last lines in memory where no file can be written.
//! Never fails an update (LG-12), and never logs: it may be what the program's log is written to.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::log_files::{self, FREE, FreeSpace};
use super::upload::LogUpload;
use crate::error::{Error, Result};
use crate::json;
use crate::sys::{clock, file};

/// Longest message, in bytes; the rest is cut off (LG-16).
const LONGEST: usize = 16 << 10;

/// Longest message with its escapes, in bytes: a line must stay readable at upload (64 KiB).
const LONGEST_ESCAPED: usize = 48 << 10;

/// Bytes of the last lines that are kept in memory when there is no file.
const MEMORY: usize = 16 << 10;

/// The space is looked at again after this many bytes: a chatty script must not fill the data store.
const CHECK_EVERY: u64 = 32 << 10;

/// The log of one deployment, open for appending.
#[derive(Debug)]
pub struct DeploymentLog {
    dir: PathBuf,
    id: String,
    file: Option<File>,
    /// Why there is no file (any more).
    trouble: Option<String>,
    /// The lines that are not in the file, newest last.
    memory: VecDeque<String>,
    memory_bytes: usize,
    /// Lines that memory had no room for.
    forgotten: u64,
    unchecked: u64,
    free: FreeSpace,
}

impl DeploymentLog {
    /// Opens the log of deployment `id` in `dir`: the one that exists is continued, wherever it stands in the
    /// rotation; else a new one begins and the oldest of five goes. No space (less than 100 KiB), no
    /// permission: works on without a file and keeps the last 16 KiB of lines in memory; the caller should warn
    /// with the text of [`DeploymentLog::trouble`].
    ///
    /// # Errors
    /// `STORE-LOG-ID` if `id` is not made of letters, digits and `-` (SA-5).
    pub fn open(dir: &Path, id: &str) -> Result<DeploymentLog> {
        DeploymentLog::open_with(dir, id, file::free_space)
    }

    fn open_with(dir: &Path, id: &str, free: FreeSpace) -> Result<DeploymentLog> {
        if !log_files::is_id(id) {
            let shown: String = id.chars().take(40).flat_map(char::escape_debug).collect();
            let what =
                format!("'{shown}' cannot be the id of a deployment; expected letters, digits and '-'");
            return Err(Error::new("STORE-LOG-ID", what));
        }
        let mut log = DeploymentLog {
            dir: dir.to_owned(),
            id: id.to_owned(),
            file: None,
            trouble: None,
            memory: VecDeque::new(),
            memory_bytes: 0,
            forgotten: 0,
            unchecked: 0,
            free,
        };
        match log.open_file() {
            Ok(file) => log.file = Some(file),
            Err(why) => log.without_file(&why),
        }
        Ok(log)
    }

    fn open_file(&self) -> std::result::Result<File, String> {
        super::create_directory(&self.dir).map_err(|e| e.text)?;
        let path = log_files::rotate(&self.dir, &self.id, self.free)
            .map_err(|e| format!("the logs in {} cannot be rotated: {e}", self.dir.display()))?;
        self.enough_space()?;
        let in_the_way = fs::symlink_metadata(&path).is_ok_and(|meta| !meta.is_file());
        if in_the_way {
            return Err(format!("{} is not a regular file", path.display()));
        }
        open_for_append(&path).map_err(|e| format!("{} cannot be opened: {e}", path.display()))
    }

    fn enough_space(&self) -> std::result::Result<(), String> {
        match (self.free)(&self.dir) {
            Ok(bytes) if bytes < FREE => {
                let (dir, have, need) = (self.dir.display(), bytes >> 10, FREE >> 10);
                Err(format!("only {have} KiB are free in {dir}, {need} KiB are needed"))
            }
            _ => Ok(()), // a system that cannot tell is no reason to log nothing
        }
    }

    /// Appends one line with the present time, in UTC. Empty messages are left out (SA-62), long ones cut at
    /// 16 KiB. Never fails: what cannot be written is kept in memory while there is room.
    pub fn append(&mut self, level: &str, message: &str) {
        if message.is_empty() {
            return;
        }
        let mut line = format_line(&clock::rfc3339(clock::wall()), &level.to_ascii_lowercase(), message);
        if self.file.is_some() {
            line.push('\n');
            match self.write(&line) {
                Ok(()) => return,
                Err(why) => self.without_file(&why),
            }
            line.pop();
        }
        self.remember(line);
    }

    /// Puts what was appended on stable storage: before a reboot.
    pub fn sync(&mut self) {
        if let Some(file) = &self.file {
            let _ = file.sync_data(); // a log is no reason not to reboot
        }
    }

    /// Why there is no file, or not all of the log in it.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// The body of the log upload: the file, and the lines that are only in memory.
    pub fn upload(&self) -> LogUpload {
        let why = self.trouble.as_ref().map(|why| match self.forgotten {
            0 => format!("(the log file was not written: {why})"),
            n => format!("(the log file was not written: {why}; {n} earlier lines are lost)"),
        });
        LogUpload::new(&self.dir, &self.id, why, self.memory.iter().cloned().collect())
    }

    fn write(&mut self, line: &str) -> std::result::Result<(), String> {
        self.unchecked += line.len() as u64;
        if self.unchecked >= CHECK_EVERY {
            self.unchecked = 0;
            self.enough_space()?;
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        // One call for the whole line: lines of two processes do not mix (O_APPEND).
        file.write_all(line.as_bytes()).map_err(|e| format!("the deployment log cannot be written: {e}"))
    }

    fn without_file(&mut self, why: &str) {
        self.file = None;
        self.trouble = Some(why.to_owned());
    }

    fn remember(&mut self, line: String) {
        self.memory_bytes += line.len();
        self.memory.push_back(line);
        while self.memory_bytes > MEMORY
            && self.memory.len() > 1
            && let Some(oldest) = self.memory.pop_front()
        {
            self.memory_bytes -= oldest.len();
            self.forgotten += 1;
        }
    }
}

/// Opens for appending; a last line that a power cut left without its end gets one.
fn open_for_append(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let length = file.metadata()?.len();
    if length > 0 {
        let mut last = [0u8];
        file.seek(SeekFrom::Start(length - 1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(file)
}

/// One line without its end, members in the order of Mender 5 (LG-14, LG-16).
pub(super) fn format_line(timestamp: &str, level: &str, message: &str) -> String {
    let level = if level.is_empty() { "info" } else { level };
    let mut line = String::with_capacity(message.len().min(LONGEST) + 80);
    line.push_str("{\"timestamp\":");
    json::quote(&mut line, timestamp);
    line.push_str(",\"level\":");
    json::quote(&mut line, level);
    line.push_str(",\"message\":");
    match cut(message) {
        whole if whole.len() == message.len() => json::quote(&mut line, message),
        part => json::quote(&mut line, &format!("{part}… (cut, {} bytes in all)", message.len())),
    }
    line.push('}');
    line
}

/// As much of the beginning as both limits allow.
fn cut(message: &str) -> &str {
    let mut escaped = 0;
    for (at, c) in message.char_indices() {
        escaped += if c.is_control() { 6 } else { c.len_utf8() + usize::from(c == '"' || c == '\\') };
        if at + c.len_utf8() > LONGEST || escaped > LONGEST_ESCAPED {
            return &message[..at];
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("thimble-log-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("creates");
        dir
    }

    fn body(log: &DeploymentLog) -> String {
        let mut text = String::new();
        log.upload().read_to_string(&mut text).expect("reads");
        text
    }

    #[test]
    fn short_of_space_old_logs_go_and_the_update_goes_on_without_a_file() {
        let dir = directory("space");
        for i in 0..3 {
            DeploymentLog::open_with(&dir, &format!("old{i}"), |_| Ok(1 << 30))
                .expect("opens")
                .append("info", "m");
        }
        let mut log = DeploymentLog::open_with(&dir, "id", |_| Ok(50 << 10)).expect("goes on");
        log.append("info", "message");
        assert_eq!(fs::read_dir(&dir).expect("lists").count(), 0);
        let why = format!("only 50 KiB are free in {}, 100 KiB are needed", dir.display());
        assert_eq!(log.trouble(), Some(why.as_str()));
        let body = body(&log);
        assert!(body.contains(&why) && body.contains("\"message\":\"message\""), "{body}");
        fs::remove_dir_all(dir).expect("removes");
    }

    #[test]
    fn old_logs_go_only_until_there_is_space() {
        let dir = directory("until");
        for i in 0..4 {
            DeploymentLog::open_with(&dir, &format!("old{i}"), |_| Ok(1 << 30))
                .expect("opens")
                .append("info", "m");
        }
        // Space comes back when only two of the four are left.
        let free: FreeSpace = |dir| Ok(if fs::read_dir(dir)?.count() > 2 { 0 } else { FREE });
        let log = DeploymentLog::open_with(&dir, "id", free).expect("opens");
        assert_eq!(log.trouble(), None);
        let mut names: Vec<_> =
            fs::read_dir(&dir).expect("lists").map(|e| e.expect("entry").file_name()).collect();
        names.sort();
        assert_eq!(
            names,
            ["deployments.0000.id.log", "deployments.0001.old3.log", "deployments.0002.old2.log"]
        );
        fs::remove_dir_all(dir).expect("removes");
    }

    #[test]
    fn a_chatty_script_does_not_fill_the_data_store() {
        let dir = directory("chatty");
        let size =
            |dir: &Path| fs::metadata(dir.join("deployments.0000.id.log")).map_or(0, |meta| meta.len());
        // A file system of 300 KiB in which only this log grows.
        let free: FreeSpace = |dir| {
            let used = fs::metadata(dir.join("deployments.0000.id.log")).map_or(0, |meta| meta.len());
            Ok((300u64 << 10).saturating_sub(used))
        };
        let mut log = DeploymentLog::open_with(&dir, "id", free).expect("opens");
        for i in 0..3000 {
            log.append("info", &format!("line {i} {}", "x".repeat(200)));
        }
        assert!((160 << 10..=240 << 10).contains(&size(&dir)), "{} bytes", size(&dir));
        let body = body(&log);
        assert!(body.contains("only ") && body.contains("earlier lines are lost"), "says why");
        assert!(body.contains("line 0 ") && body.contains("line 2999 "), "the file and the last lines");
        fs::remove_dir_all(dir).expect("removes");
    }

    #[test]
    fn a_file_that_cannot_grow_hands_over_to_memory() {
        let dir = directory("full");
        let mut log = DeploymentLog::open_with(&dir, "id", |_| Ok(1 << 30)).expect("opens");
        log.append("info", "in the file");
        // /dev/full refuses every write as a full disk does.
        log.file = Some(OpenOptions::new().append(true).open("/dev/full").expect("opens"));
        log.append("info", "in memory");
        log.append("info", "and this");
        log.sync();
        let body = body(&log);
        let place = |text: &str| body.find(text).unwrap_or_else(|| panic!("{text} is missing in {body}"));
        assert!(place("in the file") < place("No space left on device"));
        assert!(
            place("No space left on device") < place("in memory") && place("in memory") < place("and this")
        );
        fs::remove_dir_all(dir).expect("removes");
    }
}
