//! Deployment logs: files, rotation, and the upload that the server must accept whatever is in them.
#![allow(clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use thimble::json::{self, Value};
use thimble::store::{DeploymentLog, LogUpload, upload};

const LIMIT: u64 = 1_000_000 - 256;
const CORRUPTED: &str = "(CORRUPTED LOG DATA)";

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let dir = std::env::temp_dir().join(format!("thimble-logs-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("creates");
        Dir(dir)
    }

    fn log(&self, id: &str) -> DeploymentLog {
        DeploymentLog::open(&self.0, id).unwrap_or_else(|e| panic!("{e}"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(&self.0)
            .expect("lists")
            .map(|e| e.expect("entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// The upload of a log with these bytes.
    fn body(&self, bytes: impl AsRef<[u8]>) -> Vec<Line> {
        fs::write(self.file("deployments.0000.id.log"), bytes.as_ref()).expect("writes");
        accepted(upload(&self.0, "id"))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    timestamp: String,
    level: String,
    message: String,
}

fn line(level: &str, message: &str) -> (String, String) {
    (level.to_owned(), message.to_owned())
}

fn pairs(lines: &[Line]) -> Vec<(String, String)> {
    lines.iter().map(|l| (l.level.clone(), l.message.clone())).collect()
}

/// What the server checks (SA-9, SA-62); and that the announced length is true.
fn accepted(mut body: LogUpload) -> Vec<Line> {
    let mut bytes = Vec::new();
    let announced = body.len();
    body.read_to_end(&mut bytes).expect("reads");
    assert_eq!(bytes.len() as u64, announced, "announced length");
    assert!(announced < LIMIT, "{announced} bytes");
    let value = json::parse_bytes(&bytes, "TEST", "body").unwrap_or_else(|e| panic!("{e}"));
    let Value::Object(members) = &value else { panic!("no object") };
    assert_eq!(members.len(), 1);
    let Some(Value::Array(messages)) = members.get("messages") else { panic!("no list") };
    assert!(!messages.is_empty(), "an empty list is refused");
    let one = |message: &Value| {
        let text = |key| {
            let text = json::get(message, key).and_then(json::string).expect("a string").to_owned();
            assert!(!text.is_empty(), "empty {key}");
            text
        };
        Line { timestamp: text("timestamp"), level: text("level"), message: text("message") }
    };
    messages.iter().map(one).collect()
}

fn valid(message: &str) -> String {
    let mut line = String::from("{\"timestamp\":\"2024-01-02T15:04:05.5Z\",\"level\":\"info\",\"message\":");
    json::quote(&mut line, message);
    line + "}\n"
}

#[test]
fn six_deployments_leave_five_files_the_newest_with_the_lowest_number() {
    let dir = Dir::new("six");
    for i in 1..=6 {
        dir.log(&format!("id-{i}")).append("info", &format!("message of {i}"));
    }
    let expected: Vec<String> =
        [6, 5, 4, 3, 2].iter().enumerate().map(|(n, i)| format!("deployments.{n:04}.id-{i}.log")).collect();
    assert_eq!(dir.names(), expected);
    for (name, i) in expected.iter().zip([6, 5, 4, 3, 2]) {
        assert!(fs::read_to_string(dir.file(name)).expect("reads").contains(&format!("message of {i}\"")));
    }
    let mode = fs::metadata(dir.file(&expected[0])).expect("stat").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn the_same_deployment_continues_its_file_wherever_it_stands() {
    let dir = Dir::new("same");
    dir.log("a").append("info", "first");
    dir.log("a").append("info", "second");
    assert_eq!(dir.names(), ["deployments.0000.a.log"]);
    dir.log("b").append("info", "other");
    dir.log("a").append("info", "third");
    assert_eq!(dir.names(), ["deployments.0000.a.log", "deployments.0001.b.log"]);
    let lines = accepted(upload(&dir.0, "a"));
    assert_eq!(pairs(&lines), [line("info", "first"), line("info", "second"), line("info", "third")]);
    // As Mender 3.5 numbers them, in the middle of a deployment at the change to thimble.
    let go = Dir::new("same2");
    fs::write(go.file("deployments.0001.a.log"), valid("by the old client")).expect("writes");
    go.log("a").append("info", "by us");
    assert_eq!(go.names(), ["deployments.0000.a.log"]);
    assert_eq!(accepted(upload(&go.0, "a")).len(), 2);
}

#[test]
fn gaps_and_several_logs_of_one_deployment_lose_nothing() {
    let dir = Dir::new("gaps");
    for (name, text) in [("0002.x", "2x"), ("0003.x", "3x"), ("0003.y", "3y"), ("0009.z", "9z")] {
        fs::write(dir.file(&format!("deployments.{name}.log")), text).expect("writes");
    }
    dir.log("new").append("info", "m");
    let expected = [("0001.x", "2x"), ("0002.x", "3x"), ("0003.y", "3y"), ("0004.z", "9z")]
        .map(|(n, t)| (n, t.to_owned()));
    for (name, text) in expected {
        assert_eq!(fs::read_to_string(dir.file(&format!("deployments.{name}.log"))).expect("reads"), text);
    }
    assert_eq!(dir.names().len(), 5);
    let dir = Dir::new("gaps2");
    for name in ["0000.x", "0001.x", "0002.x"] {
        fs::write(dir.file(&format!("deployments.{name}.log")), name).expect("writes");
    }
    dir.log("new").append("info", "m");
    for (name, text) in [("0001.x", "0000.x"), ("0002.x", "0001.x"), ("0003.x", "0002.x")] {
        assert_eq!(fs::read_to_string(dir.file(&format!("deployments.{name}.log"))).expect("reads"), text);
    }
}

#[test]
fn files_with_other_names_are_left_alone() {
    let dir = Dir::new("foreign");
    let names = [
        "deployments.log",
        "deployments.x.y.log",
        "deployments.0001.a.b.log",
        "deployments.1.a.log",
        "deployments.00001.a.log",
        "deployments.+001.a.log",
        "deployments.0001..log",
        "deployments.0001.a.log.gz",
        "Deployments.0001.a.log",
    ];
    for name in names {
        fs::write(dir.file(name), name).expect("writes");
    }
    for i in 0..9 {
        fs::create_dir(dir.file(&format!("deployments.000{i}.dir.log"))).expect("creates");
    }
    for i in 0..7 {
        dir.log(&format!("n{i}")).append("info", "m");
    }
    for name in names {
        assert_eq!(fs::read_to_string(dir.file(name)).expect("still there"), name);
    }
    assert_eq!(dir.names().len(), names.len() + 9 + 5);
}

#[test]
fn a_hostile_id_makes_no_file() {
    let dir = Dir::new("hostile");
    for id in ["", "a.b", "../x", "a/b", "a b", "é", "a\0b", &"x".repeat(300)] {
        assert_eq!(
            DeploymentLog::open(&dir.file("logs"), id).expect_err("refused").code,
            "STORE-LOG-ID",
            "{id}"
        );
        assert_eq!(accepted(upload(&dir.0, id)).len(), 1);
    }
    assert_eq!(dir.names(), [""; 0]);
}

#[test]
fn without_a_place_for_the_file_the_last_lines_and_the_reason_are_uploaded() {
    let dir = Dir::new("noplace");
    fs::write(dir.file("file"), "").expect("writes");
    let mut log = DeploymentLog::open(&dir.file("file"), "id").expect("goes on");
    log.append("info", "one");
    log.append("ERROR", "two");
    let lines = accepted(log.upload());
    assert!(lines[0].message.starts_with("(the log file was not written: "), "{lines:?}");
    assert_eq!(pairs(&lines[1..]), [line("info", "one"), line("error", "two")]);
    for i in 0..1000 {
        log.append("info", &format!("number {i}, {}", "x".repeat(100)));
    }
    let lines = accepted(log.upload());
    assert!(lines[0].message.ends_with("earlier lines are lost)"), "{}", lines[0].message);
    assert!(lines.last().expect("lines").message.starts_with("number 999"));
    let bytes: usize = lines[1..].iter().map(|l| l.message.len()).sum();
    assert!((8 << 10..16 << 10).contains(&bytes), "{bytes} bytes");
}

#[test]
fn a_link_or_directory_in_place_of_the_log_is_not_written_through() {
    let dir = Dir::new("link");
    fs::write(dir.file("victim"), "precious").expect("writes");
    std::os::unix::fs::symlink(dir.file("victim"), dir.file("deployments.0000.a.log")).expect("links");
    fs::create_dir(dir.file("deployments.0000.b.log")).expect("creates");
    for id in ["a", "b"] {
        let mut log = dir.log(id);
        log.append("info", "m");
        assert!(log.trouble().expect("said").ends_with("is not a regular file"));
        assert_eq!(accepted(log.upload()).len(), 2);
    }
    assert_eq!(fs::read(dir.file("victim")).expect("reads"), b"precious");
}

#[test]
fn every_message_becomes_one_valid_line() {
    let dir = Dir::new("lines");
    let mut log = dir.log("id");
    let all: String = (0..0x300u32).filter_map(char::from_u32).collect();
    let long = "é".repeat(1 << 19);
    let escapes = "\u{1}".repeat(1 << 20);
    for message in [
        "quote \" and \\",
        "two\nlines",
        "nul \0 esc \u{1b}[1m",
        all.as_str(),
        long.as_str(),
        escapes.as_str(),
    ] {
        log.append("Warning", message);
    }
    log.append("info", &String::from_utf8_lossy(b"bad \xff bytes"));
    log.append("", "without a level");
    log.append("info", "");
    let text = fs::read_to_string(dir.file("deployments.0000.id.log")).expect("reads");
    assert_eq!(text.lines().count(), 8);
    assert!(text.lines().all(|l| l.len() < 64 << 10 && json::parse(l).is_ok()));
    assert!(
        text.starts_with("{\"timestamp\":\"")
            && text.contains("Z\",\"level\":\"warning\",\"message\":\"quote \\\"")
    );
    let lines = accepted(log.upload());
    assert_eq!(lines.len(), 8);
    assert_eq!(lines[3].message, all);
    assert!(lines[4].message.ends_with("… (cut, 1048576 bytes in all)") && lines[4].message.len() < 17 << 10);
    assert!(lines[5].message.ends_with("… (cut, 1048576 bytes in all)"));
    assert_eq!(lines[6].message, "bad \u{fffd} bytes");
    assert_eq!((lines[7].level.as_str(), lines[7].message.as_str()), ("info", "without a level"));
}

#[test]
fn a_line_torn_by_power_loss_is_replaced_and_the_rest_is_sent() {
    let dir = Dir::new("torn");
    let whole = valid("before") + &valid("torn");
    let first = valid("before").len();
    for cut in first..=whole.len() {
        let lines = dir.body(&whole[..cut]);
        let expected = match cut {
            _ if cut == first => vec![line("info", "before")],
            // The line itself was complete, only its end is missing.
            _ if cut >= whole.len() - 1 => vec![line("info", "before"), line("info", "torn")],
            _ => vec![
                line("ERROR", "(THE ORIGINAL LOGS CONTAINED INVALID ENTRIES)"),
                line("info", "before"),
                line("ERROR", CORRUPTED),
            ],
        };
        assert_eq!(pairs(&lines), expected, "cut at {cut}");
        // After the restart the next line begins on a line of its own.
        dir.log("id").append("info", "after");
        let lines = accepted(upload(&dir.0, "id"));
        assert_eq!(pairs(&lines)[..expected.len()], expected, "cut at {cut}");
        assert_eq!(lines.last().expect("lines").message, "after", "cut at {cut}");
    }
}

#[test]
fn invalid_lines_are_replaced_and_empty_ones_left_out() {
    let dir = Dir::new("invalid");
    let time = "\"timestamp\":\"2024-01-02T15:04:05Z\"";
    for bad in [
        "rubbish",
        "[]",
        "\"text\"",
        "{}",
        "\0\0\0\0",
        "{\"level\":\"info\",\"message\":\"m\"}",
        "{\"timestamp\":\"\",\"level\":\"info\",\"message\":\"m\"}",
        "{\"timestamp\":\"yesterday\",\"level\":\"info\",\"message\":\"m\"}",
        "{\"timestamp\":\"2024-02-30T15:04:05Z\",\"level\":\"info\",\"message\":\"m\"}",
        "{\"timestamp\":\"2024-01-02T24:04:05Z\",\"level\":\"info\",\"message\":\"m\"}",
        "{\"timestamp\":\"2024-01-02T15:04:05\",\"level\":\"info\",\"message\":\"m\"}",
        "{\"timestamp\":\"2024-01-02T15:04:05.Z\",\"level\":\"info\",\"message\":\"m\"}",
        "{\"timestamp\":\"2024-01-02T15:04:05+1:00\",\"level\":\"info\",\"message\":\"m\"}",
        "{\"timestamp\":\"éééééééééé\",\"level\":\"info\",\"message\":\"m\"}",
        &format!("{{{time},\"level\":\"\",\"message\":\"m\"}}"),
        &format!("{{{time},\"level\":\"info\",\"message\":5}}"),
        &format!("{{{time},\"level\":\"info\",\"message\":null}}"),
        &format!("{{{time},\"level\":\"info\",\"message\":\"a\u{1b}b\"}}"),
        &format!("{{{time},\"level\":\"info\",\"message\":\"m\"}} x"),
        &"x".repeat(70_000),
    ] {
        let lines = dir.body(format!("{}{bad}\n{}", valid("a"), valid("b")));
        assert_eq!(lines.len(), 4, "{bad}");
        assert_eq!(lines[2].message, CORRUPTED, "{bad}");
        assert_eq!(lines[2].timestamp, "2024-01-02T15:04:05.5Z", "the last known time");
        assert_eq!((lines[1].message.as_str(), lines[3].message.as_str()), ("a", "b"), "{bad}");
    }
    let go = "{\"level\":\"info\",\"message\":\"go\",\"timestamp\":\"2024-01-02T15:04:05+01:00\"}\n";
    let empty = format!("{{{time},\"level\":\"info\",\"message\":\"\"}}\n");
    assert_eq!(pairs(&dir.body(format!("\n{empty}{go}\r\n  \n{empty}"))), [line("info", "go")]);
    let first = dir.body(b"\xff\xfe\n");
    assert_eq!((first[1].message.as_str(), first[1].timestamp.as_str()), (CORRUPTED, "1970-01-01T00:00:00Z"));
}

#[test]
fn a_log_of_5_megabytes_is_cut_at_the_front_with_a_note() {
    let dir = Dir::new("big");
    let mut text = String::new();
    let mut last = 0;
    while text.len() < 5_000_000 {
        last += 1;
        text.push_str(&valid(&format!("number {last}, {}", "x".repeat(last % 300))));
    }
    let lines = dir.body(&text);
    assert_eq!(lines[0].level, "WARNING");
    assert!(lines[0].message.starts_with("(THE ORIGINAL LOGS WERE TOO BIG, THIS LOG IS TRUNCATED."));
    let number =
        |l: &Line| l.message[7..].split(',').next().expect("a number").parse::<usize>().expect("digits");
    assert_eq!(number(lines.last().expect("lines")), last);
    assert_eq!(number(&lines[1]), last + 2 - lines.len(), "no gap");
    let sent: usize = lines.iter().map(|l| l.message.len()).sum();
    assert!(sent > 600_000, "{sent} of the newest bytes are sent");
    // Just below and just above the limit.
    let unit = valid(&"y".repeat(930)).len();
    for count in (LIMIT as usize / unit - 1)..(LIMIT as usize / unit + 2) {
        let lines = dir.body(valid(&"y".repeat(930)).repeat(count));
        assert!(lines.len() == count || lines[0].level == "WARNING");
        assert!(lines.len() + 2 >= count);
    }
}

#[test]
fn a_long_log_that_begins_to_be_sent_at_an_invalid_line_keeps_its_length() {
    let dir = Dir::new("phase");
    // Valid and invalid lines take turns; with 20 shifts the cut falls on both kinds.
    let text = (valid(&"x".repeat(900)) + "rubbish\nrubbish\n").repeat(1000);
    for shift in 0..20 {
        let lines = dir.body(text.clone() + &valid(&"y".repeat(shift * 50 + 1)));
        assert_eq!((lines[0].level.as_str(), lines[1].level.as_str()), ("WARNING", "ERROR"));
        assert!(lines[2..].iter().all(|l| l.timestamp == "2024-01-02T15:04:05.5Z"), "shift {shift}");
    }
}

#[test]
fn a_big_log_of_rubbish_stays_below_the_limit() {
    let dir = Dir::new("rubbish");
    assert!(dir.body("x\n".repeat(100_000)).len() > 5000);
    // One line longer than what is looked at: only the note is left.
    assert_eq!(dir.body(vec![0u8; 8 << 20])[0].level, "WARNING");
    assert_eq!(dir.body("\n".repeat(1 << 20)).len(), 1);
}

#[test]
fn a_missing_or_empty_log_becomes_one_line_that_says_so() {
    let dir = Dir::new("missing");
    let lines = accepted(upload(&dir.0, "id"));
    assert_eq!(
        lines[0].message,
        format!("(there is no deployment log: no file for it in {})", dir.0.display())
    );
    assert_eq!((lines.len(), lines[0].level.as_str()), (1, "WARNING"));
    assert_eq!(accepted(upload(Path::new("/nonexistent"), "id")).len(), 1);
    assert_eq!(pairs(&dir.body("")), [line("WARNING", "(the deployment log is empty)")]);
    assert_eq!(accepted(dir.log("other").upload()).len(), 1);
}

#[test]
fn the_announced_length_is_true_even_if_the_file_changes_while_it_is_sent() {
    let dir = Dir::new("changes");
    let path = dir.file("deployments.0000.id.log");
    let text: String = (0..2000).map(|i| valid(&format!("number {i}"))).collect();
    for change in 0..4 {
        fs::write(&path, &text).expect("writes");
        let mut body = upload(&dir.0, "id");
        let mut start = vec![0; 10_000];
        body.read_exact(&mut start).expect("reads");
        match change {
            0 => fs::OpenOptions::new()
                .append(true)
                .open(&path)
                .and_then(|mut f| f.write_all(valid("appended").as_bytes()))
                .expect("appends"),
            1 => fs::File::options().write(true).open(&path).and_then(|f| f.set_len(50_000)).expect("cuts"),
            2 => fs::write(&path, "x\n".repeat(100_000)).expect("overwrites"),
            _ => fs::remove_file(&path).expect("removes"),
        }
        let (mut rest, length) = (Vec::new(), body.len());
        body.read_to_end(&mut rest).expect("reads");
        start.extend_from_slice(&rest);
        assert_eq!(start.len() as u64, length, "change {change}");
        let value = json::parse_bytes(&start, "TEST", "body").unwrap_or_else(|e| panic!("{change}: {e}"));
        let Some(Value::Array(messages)) = json::get(&value, "messages") else { panic!("no list") };
        if change == 0 || change == 3 {
            assert_eq!(messages.len(), 2000, "what was there is sent, no more");
        }
    }
}

#[test]
fn the_body_is_the_same_in_pieces_of_any_size() {
    let dir = Dir::new("pieces");
    fs::write(dir.file("deployments.0000.id.log"), valid("a") + "rubbish\n" + &valid("b")).expect("writes");
    let mut whole = Vec::new();
    upload(&dir.0, "id").read_to_end(&mut whole).expect("reads");
    for size in [1, 2, 3, 7, 64] {
        let (mut body, mut got, mut piece) = (upload(&dir.0, "id"), Vec::new(), vec![0; size]);
        loop {
            match body.read(&mut piece).expect("reads") {
                0 => break,
                n => got.extend_from_slice(&piece[..n]),
            }
        }
        assert_eq!(got.len(), whole.len());
        // The note carries the time of the upload; what comes from the file is equal.
        assert_eq!(got[got.len() - 200..], whole[whole.len() - 200..], "pieces of {size}");
    }
}

#[test]
fn timestamps_are_true_utc() {
    let dir = Dir::new("utc");
    let before = thimble::sys::clock::wall();
    dir.log("id").append("info", "m");
    let after = thimble::sys::clock::wall();
    let stamp = &accepted(upload(&dir.0, "id"))[0].timestamp;
    assert!((before..=after).any(|t| *stamp == thimble::sys::clock::rfc3339(t)), "{stamp}");
}
