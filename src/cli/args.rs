//! The command line: Mender's words, a few of our own. By hand, because Mender's options may stand anywhere.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;
use thimble::agent::StopPoint;

#[cfg(feature = "control")]
mod control;
#[cfg(feature = "control")]
pub use control::{Control, OUR_ID, Who};

/// What `--help` prints, in pieces.
pub const HELP: &[&str] = &[
    "\
thimble: over-the-air updates for small Linux boards, a drop-in for the Mender client

Usage: thimble [OPTIONS] COMMAND

Commands:
  check                  do all that is due, then exit (for cron and init)
  daemon                 the same, for ever
  install FILE|URL|-     install an Artifact; then commit or roll back
  commit                 make the installed Artifact permanent
  rollback               take the installed Artifact back
  resume                 go on after an interruption or a --stop-before
  show-artifact          the name of what is installed
  show-provides          what is installed, as key=value lines
  board                  which board this is, what updates work with and from where, and what is wrong with it
  send-inventory         send the inventory now (by the daemon, if one runs)
  check-update           make the running daemon ask for a deployment now
  bootstrap              make a device key if there is none, and authenticate once
",
    #[cfg(feature = "control")]
    "  control show           what holds updates up, and what would happen at each point of one now
  control pause|continue|force-continue|fail POINT...
                         what updates do when they get there: install, reboot or commit
  control delete         take all of that back
  control set FILE|-     set an update control map; prints the seconds until it should be set again
",
    "
Options:
  --root DIR                   put every default path below DIR
  -c, --config FILE            configuration (default /etc/mender/mender.conf)
  -b, --fallback-config FILE   fallback configuration (default /var/lib/mender/mender.conf)
  -d, --data, --datastore DIR  data store (default /var/lib/mender)
  -l, --log-level LEVEL        fatal, error, warning, info, debug or trace
  -L, --log-file FILE          log to this file and not to standard error
  -E, --trusted-certs FILE     certificates of the server, instead of ServerCertificate
  --skipverify                 do not verify the server's certificate
  -v, --version                print the version
  -h, --help                   print this

Options of commands:
  check --max-wait SECONDS     wait out waits up to this long in all (default 60), record longer ones
  check --if-due               only if UpdatePollIntervalSeconds have passed since the last check
  install|resume --reboot-exit-code
                               exit with 4 if all went well and the machine must restart
  install|resume|commit|rollback --stop-before STATE
                               stop before ArtifactInstall_Enter, ArtifactCommit_Enter, ArtifactCommit_Leave,
                               ArtifactRollback_Enter, ArtifactFailure_Enter or Cleanup (may be repeated)
",
    #[cfg(feature = "control")]
    "  control pause --then continue|force-continue|fail
                               what happens if nobody says pause again before it expires (default fail)
  control pause --once         only until somebody changes something, or half its life has passed
  control pause|continue|force-continue|fail|delete --id UUID --priority N
                               whose word it is (default: that of this command), and how it ranks, -10 to 10
                               (default 0; the highest decides)
  control show --json          the same for programs
",
    "
Exit codes: 0 well done, 1 error, 2 no update in progress (commit, rollback, resume), 4 restart needed
(--reboot-exit-code). For check also: 3 another thimble is at work, 5 a deployment failed, 6 an update waits;
see README.md.
",
    #[cfg(feature = "control")]
    "
Update control: docs/update-control.md. Its commands work at any time, also beside a daemon; who uses them needs
permission to write to the data store.
",
];

/// A command with its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `check`.
    Check {
        /// `--max-wait`.
        max_wait: Duration,
        /// `--if-due`.
        if_due: bool,
    },
    /// `daemon`.
    Daemon,
    /// `install`.
    Install {
        /// File, URL or `-`.
        source: String,
        /// Options that it shares with the other standalone commands.
        standalone: Standalone,
    },
    /// `commit`.
    Commit(Standalone),
    /// `rollback`.
    Rollback(Standalone),
    /// `resume`.
    Resume(Standalone),
    /// `show-artifact`.
    ShowArtifact,
    /// `show-provides`.
    ShowProvides,
    /// `board`.
    Board,
    /// `send-inventory`.
    SendInventory,
    /// `check-update`.
    CheckUpdate,
    /// `bootstrap`.
    Bootstrap,
    /// `control`.
    #[cfg(feature = "control")]
    Control(Control),
    /// `--version`.
    Version,
    /// `--help`, or nothing at all.
    Help,
}

/// Options of the standalone commands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standalone {
    /// `--reboot-exit-code`.
    pub reboot_exit_code: bool,
    /// `--stop-before`.
    pub stop_before: Vec<StopPoint>,
}

/// Options that stand before any command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Global {
    /// `--root`.
    pub root: Option<PathBuf>,
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--fallback-config`.
    pub fallback: Option<PathBuf>,
    /// `--data`.
    pub datastore: Option<PathBuf>,
    /// `--log-level`.
    pub log_level: Option<log::LevelFilter>,
    /// `--log-file`.
    pub log_file: Option<PathBuf>,
    /// `--trusted-certs`.
    pub trusted_certs: Option<PathBuf>,
    /// `--skipverify`.
    pub skip_verify: bool,
    /// `--forcebootstrap`.
    pub force_bootstrap: bool,
}

/// Words of a level, as both official clients know them (LG-1).
pub fn level(word: &str) -> Option<log::LevelFilter> {
    match word.to_ascii_lowercase().as_str() {
        "panic" | "fatal" | "error" => Some(log::LevelFilter::Error),
        "warn" | "warning" => Some(log::LevelFilter::Warn),
        "info" => Some(log::LevelFilter::Info),
        "debug" => Some(log::LevelFilter::Debug),
        "trace" => Some(log::LevelFilter::Trace),
        _ => None,
    }
}

/// Arguments as text, split at `--option=value` (CL-7).
struct Words {
    list: std::vec::IntoIter<String>,
    /// The value of `--option=value`, until it is asked for.
    value: Option<String>,
}

impl Words {
    fn value(&mut self, option: &str) -> Result<String, String> {
        if let Some(value) = self.value.take() {
            return Ok(value);
        }
        match self.list.next() {
            Some(value) if !value.starts_with('-') || value == "-" => Ok(value),
            Some(_) | None => Err(format!("option {option} needs a value")),
        }
    }

    /// A whole number, which may be negative.
    #[cfg(feature = "control")]
    fn number(&mut self, option: &str) -> Result<i64, String> {
        let next = self.list.as_slice().first();
        if self.value.is_none() && next.is_some_and(|word| word.parse::<i64>().is_ok()) {
            self.value = self.list.next();
        }
        let word = self.value(option)?;
        word.parse().map_err(|_| format!("option {option} needs a whole number, not '{word}'"))
    }
}

/// Reads the arguments (without the program's name).
///
/// # Errors
/// A sentence for the user; the exit code is 1 then.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<(Global, Command), String> {
    let mut list = Vec::new();
    for argument in arguments {
        match argument.into_string() {
            Ok(text) => list.push(text),
            Err(other) => return Err(format!("argument {other:?} is not UTF-8")),
        }
    }
    let mut words = Words { list: list.into_iter(), value: None };
    let mut global = Global::default();
    let mut plain: Vec<String> = Vec::new();
    let mut standalone = Standalone::default();
    let (mut max_wait, mut if_due) = (None, false);
    #[cfg(feature = "control")]
    let mut of_control = control::Options::default();
    let (mut given, mut only_plain) = (Vec::new(), false);
    while let Some(word) = words.list.next() {
        if only_plain || word == "-" || !word.starts_with('-') {
            plain.push(word);
            continue;
        }
        let (option, value) = match word.split_once('=') {
            Some((option, value)) if option.starts_with("--") => (option.to_owned(), Some(value.to_owned())),
            Some(_) | None => (word, None),
        };
        words.value = value;
        match option.as_str() {
            "--" => only_plain = true,
            "--root" => global.root = Some(words.value(&option)?.into()),
            "-c" | "--config" => global.config = Some(words.value(&option)?.into()),
            "-b" | "--fallback-config" => global.fallback = Some(words.value(&option)?.into()),
            "-d" | "--data" | "--datastore" => global.datastore = Some(words.value(&option)?.into()),
            "-L" | "--log-file" => global.log_file = Some(words.value(&option)?.into()),
            "-E" | "--trusted-certs" => global.trusted_certs = Some(words.value(&option)?.into()),
            "-l" | "--log-level" => {
                let word = words.value(&option)?;
                global.log_level = Some(level(&word).ok_or_else(|| {
                    format!(
                        "unknown log level '{word}'; expected fatal, error, warning, info, debug or trace"
                    )
                })?);
            }
            "--skipverify" => global.skip_verify = true,
            "-F" | "--forcebootstrap" => global.force_bootstrap = true,
            // There is no syslog connection to switch off (LG-9); units written for Mender give the option.
            "--no-syslog" => {}
            "-v" | "--version" => return Ok((global, Command::Version)),
            "-h" | "--help" => return Ok((global, Command::Help)),
            "--reboot-exit-code" => {
                standalone.reboot_exit_code = true;
                given.push(option.clone());
            }
            "--stop-before" => {
                let word = words.value(&option)?;
                let point = StopPoint::from_word(&word).ok_or_else(|| {
                    let known: Vec<_> = StopPoint::ALL.iter().map(|p| p.word()).collect();
                    format!("cannot stop before '{word}'; expected one of {}", known.join(", "))
                })?;
                standalone.stop_before.push(point);
                given.push(option.clone());
            }
            "--max-wait" => {
                let word = words.value(&option)?;
                let seconds = word.parse::<u32>();
                let seconds = seconds.map_err(|_| format!("--max-wait needs whole seconds, not '{word}'"))?;
                max_wait = Some(Duration::from_secs(seconds.into()));
                given.push(option.clone());
            }
            "--if-due" => {
                if_due = true;
                given.push(option.clone());
            }
            #[cfg(feature = "control")]
            "--id" | "--priority" | "--then" | "--once" | "--json" => {
                of_control.take(&option, &mut words)?;
                given.push(option.clone());
            }
            "-install" | "-commit" | "-rollback" | "-daemon" | "-bootstrap" | "-check-update"
            | "-send-inventory" | "-show-artifact" | "-info" | "-debug" => {
                return Err(format!(
                    "'{option}' is the old form; write it without the dash: thimble {}",
                    &option[1..]
                ));
            }
            "--passphrase-file" => {
                return Err(
                    "encrypted device keys are not supported; store the key unencrypted, mode 0600".into()
                );
            }
            _ => return Err(format!("unknown option {option}; see thimble --help")),
        }
        if words.value.take().is_some() {
            return Err(format!("option {option} takes no value"));
        }
    }
    let mut plain = plain.into_iter();
    let Some(name) = plain.next() else { return Ok((global, Command::Help)) };
    #[cfg_attr(not(feature = "control"), allow(unused_mut, reason = "`control` has words of its own"))]
    let mut takes: &[&str] = match name.as_str() {
        "check" => &["--max-wait", "--if-due"],
        "install" | "resume" => &["--reboot-exit-code", "--stop-before"],
        "commit" | "rollback" => &["--stop-before"],
        _ => &[],
    };
    let command = match name.as_str() {
        "check" => Command::Check { max_wait: max_wait.unwrap_or(Duration::from_secs(60)), if_due },
        "daemon" => Command::Daemon,
        "install" => {
            let source = plain
                .next()
                .ok_or("install needs the file or URL of an Artifact, or - for standard input")?;
            Command::Install { source, standalone }
        }
        "commit" => Command::Commit(standalone),
        "rollback" => Command::Rollback(standalone),
        "resume" => Command::Resume(standalone),
        "show-artifact" => Command::ShowArtifact,
        "show-provides" => Command::ShowProvides,
        "board" => Command::Board,
        "send-inventory" => Command::SendInventory,
        "check-update" => Command::CheckUpdate,
        "bootstrap" => Command::Bootstrap,
        #[cfg(not(feature = "control"))]
        "control" => {
            return Err("this thimble was built without update control (feature `control`)".into());
        }
        #[cfg(feature = "control")]
        "control" => {
            let (control, options) = control::parse(&mut plain, of_control)?;
            takes = options;
            Command::Control(control)
        }
        "help" => Command::Help,
        _ => return Err(format!("unknown command '{name}'; see thimble --help")),
    };
    if let Some(extra) = plain.next() {
        return Err(format!("unexpected argument '{extra}' after {name}"));
    }
    if let Some(option) = given.iter().find(|o| !takes.contains(&o.as_str())) {
        return Err(format!("option {option} does not belong to {name}"));
    }
    Ok((global, command))
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(feature = "control")]
    use thimble::agent::control::{Action, ExpireAction, Point};

    fn words(text: &str) -> Result<(Global, Command), String> {
        parse(text.split_whitespace().map(OsString::from))
    }

    #[test]
    fn options_stand_before_or_after_the_command() {
        let (global, command) =
            words("--root /r -l WARNING install --stop-before=Cleanup a.mender -d /d").expect("ok");
        assert_eq!(global.root, Some("/r".into()));
        assert_eq!(global.datastore, Some("/d".into()));
        assert_eq!(global.log_level, Some(log::LevelFilter::Warn));
        let standalone = Standalone { reboot_exit_code: false, stop_before: vec![StopPoint::Cleanup] };
        assert_eq!(command, Command::Install { source: "a.mender".into(), standalone });
        let (_, command) = words("install -").expect("ok");
        assert!(matches!(command, Command::Install { source, .. } if source == "-"));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, says) in [
            ("instal x", "unknown command 'instal'"),
            ("install", "needs the file"),
            ("install a b", "unexpected argument 'b'"),
            ("commit --reboot-exit-code", "does not belong"),
            ("check --max-wait soon", "whole seconds"),
            ("install --stop-before Bogus x", "cannot stop before 'Bogus'"),
            ("--log-level bogus daemon", "unknown log level 'bogus'"),
            ("--root", "needs a value"),
            ("--root --version", "needs a value"),
            ("--skipverify=1 daemon", "takes no value"),
            ("-daemon", "old form"),
            ("--frobnicate daemon", "unknown option --frobnicate"),
        ] {
            let error = words(text).expect_err(text);
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[cfg(not(feature = "control"))]
    #[test]
    fn control_is_missing_by_name_where_it_was_left_out() {
        assert!(words("control show").expect_err("not there").contains("built without update control"));
        assert!(words("check --id x").expect_err("not there").contains("unknown option --id"));
        assert!(!HELP.concat().contains("control"), "{}", HELP.concat());
    }

    #[cfg(feature = "control")]
    #[test]
    fn mistakes_of_control_are_named() {
        for (text, says) in [
            ("control", "expected set, show"),
            ("control set", "needs a file"),
            ("control set a b", "unexpected argument 'b'"),
            ("control set a --json", "does not belong"),
            ("control stop install", "does not know 'stop'"),
            ("control pause", "at least one of install"),
            ("control pause artifactinstall_enter", "no control point 'artifactinstall_enter'"),
            ("control pause install --then pause", "--then cannot be 'pause'"),
            ("control pause install --priority high", "whole number, not 'high'"),
            ("control pause install --priority", "needs a value"),
            ("control fail install --once", "does not belong"),
            ("control continue install --then fail", "does not belong"),
            ("control show install", "unexpected argument 'install'"),
            ("control delete --then fail", "does not belong"),
            ("check --id x", "does not belong"),
        ] {
            let error = words(text).expect_err(text);
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[cfg(feature = "control")]
    #[test]
    fn control_takes_points_and_its_options_anywhere() {
        let (_, command) =
            words("control --priority -3 pause --once install ArtifactCommit_Enter --then=force-continue")
                .expect("ok");
        let who = Who { id: OUR_ID.into(), priority: -3 };
        let (points, then) = (vec![Point::Install, Point::Commit], Some(ExpireAction::ForceContinue));
        assert_eq!(
            command,
            Command::Control(Control::Say { who, action: Action::Pause, points, then, once: true })
        );
        let (_, command) = words("control set -").expect("ok");
        assert_eq!(command, Command::Control(Control::Set { source: "-".into() }));
        let (_, command) = words("control delete --id x --priority=10").expect("ok");
        assert_eq!(command, Command::Control(Control::Delete(Who { id: "x".into(), priority: 10 })));
    }

    #[test]
    fn nothing_at_all_is_a_call_for_help() {
        assert_eq!(words("").expect("ok").1, Command::Help);
        assert_eq!(words("install --help").expect("ok").1, Command::Help);
    }
}
