//! What `--help`, the manual page and README.md say about commands, options and exit codes is the same.
#![allow(clippy::expect_used, clippy::panic)] // These are tests.

use std::collections::BTreeSet;
use std::process::Command;

const THIMBLE: &str = env!("CARGO_BIN_EXE_thimble");
const README: &str = include_str!("../README.md");

/// Options that `--help` leaves out: they are there for units and scripts written for Mender.
const FOR_MENDER: [&str; 4] = ["-F", "--forcebootstrap", "--no-syslog", "--passphrase-file"];

/// The page as text: requests, font changes and escapes taken out.
fn page() -> String {
    let mut text = include_str!("../packaging/man/thimble.8").replace("\\-", "-").replace('"', " ");
    for font in ["\\fI", "\\fB", "\\fP", "\\fR"] {
        text = text.replace(font, " ");
    }
    text
}

/// The lines of a section.
fn section(page: &str, name: &str) -> String {
    let (_, rest) =
        page.split_once(&format!("\n.SH {name}\n")).unwrap_or_else(|| panic!("no section {name}"));
    rest.split("\n.SH ").next().unwrap_or_default().to_owned()
}

fn help() -> String {
    let output = Command::new(THIMBLE).arg("--help").output().expect("it starts");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Everything that looks like an option.
fn options(text: &str) -> BTreeSet<String> {
    let is_option = |word: &&str| {
        let name = word.trim_start_matches('-');
        let dashes = word.len() - name.len();
        let letters = !name.is_empty() && name.chars().all(|c| c == '-' || c.is_ascii_lowercase());
        (dashes == 2 && letters && name.len() > 1) || (dashes == 1 && name.len() == 1 && name != "-")
    };
    let split = |c: char| c.is_whitespace() || ",;|[]().=`".contains(c);
    text.split(split).filter(is_option).map(str::to_owned).collect()
}

/// The first words of the lines of the list of commands.
fn commands_of_help() -> BTreeSet<String> {
    let help = help();
    let list = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    list.take_while(|line| !line.is_empty())
        .map(|line| line.split_whitespace().next().expect("a command").to_owned())
        .collect()
}

#[test]
fn the_manual_page_has_the_options_of_help_and_no_others() {
    let mut known = options(&help());
    assert!(known.len() > 15 && known.contains("--max-wait") && known.contains("-E"), "{known:?}");
    known.extend(FOR_MENDER.map(str::to_owned));
    let page = page();
    assert_eq!(options(&page), known);
    // Each has an entry of its own, not only a mention.
    let entries = section(&page, "OPTIONS");
    let tagged: Vec<&str> =
        entries.split("\n.TP\n").skip(1).filter_map(|entry| entry.lines().next()).collect();
    assert_eq!(options(&tagged.join(" ")), known);
}

#[test]
fn options_for_mender_are_accepted_or_refused_as_the_page_says() {
    for (args, code, says) in [
        (&["--no-syslog", "--version"][..], 0, ""),
        (&["-F", "--version"], 0, ""),
        (&["--forcebootstrap", "--version"], 0, ""),
        (&["--passphrase-file", "x", "bootstrap"], 1, "encrypted"),
    ] {
        let output = Command::new(THIMBLE).args(args).output().expect("it starts");
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(says), "{args:?}");
    }
}

#[test]
fn the_manual_page_has_the_commands_of_help() {
    let page = page();
    let entries = section(&page, "COMMANDS");
    let tagged = entries.split(".TP\n").skip(1).filter_map(|entry| entry.split_whitespace().nth(1));
    let tagged: BTreeSet<String> = tagged.map(str::to_owned).collect();
    assert_eq!(tagged, commands_of_help());
    let synopsis = section(&page, "SYNOPSIS");
    for command in commands_of_help() {
        assert!(synopsis.contains(&command), "{command} is not in the synopsis");
    }
}

#[test]
fn the_manual_page_help_and_readme_have_the_same_exit_codes() {
    let page = page();
    let status = section(&page, "EXIT STATUS");
    let page: BTreeSet<u8> =
        status.lines().filter_map(|line| line.strip_prefix(".B ")?.trim().parse().ok()).collect();
    let (_, table) = README.split_once("## Exit codes").expect("the section");
    let readme: BTreeSet<u8> = table
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .filter_map(|line| line.split('|').nth(1)?.trim().parse().ok())
        .collect();
    let help = help();
    let (_, codes) = help.split_once("Exit codes:").expect("the paragraph");
    let help: BTreeSet<u8> =
        codes.split(|c: char| c.is_whitespace() || c == ',').filter_map(|word| word.parse().ok()).collect();
    assert_eq!(page, (0..=6).collect());
    assert_eq!((&readme, &help), (&page, &page));
}
