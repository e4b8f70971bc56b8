//! `thimble-qemu`: boards in QEMU, from the first power-on to the verdict on an update. `qemu/README.md` says how.

mod board;
mod card;
mod cuts;
mod disk;
mod kernel;
mod lock;
mod machine;
mod own;
mod play;
mod qmp;
mod release;
mod rootfs;
mod scenario;
mod session;
mod sys;
mod tool;
mod vm;
mod writes;

use board::Board;
use cuts::Recording;
use machine::Bench;
use release::Releases;
use session::{Plan, Ready, tell};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};
use tool::Result;

const USAGE: &str = "\
usage: thimble-qemu run BOARD[,BOARD]... [SCENARIO]...
                                               plays scenarios (names, or groups a to h); all without any
       thimble-qemu cuts BOARD [POINTS [BOOTS]]
                                               one update recorded write by write: cards after cuts at POINTS places
                                               (200) are looked at, BOOTS of them (20) booted
       thimble-qemu cut BOARD N                boots the card after cut N of the last recording
       thimble-qemu list                       the boards and the scenarios
       thimble-qemu image BOARD                makes the card's image only
       thimble-qemu twice BOARD                makes it twice and compares
       thimble-qemu shell BOARD                a console; Ctrl-A X ends QEMU
       thimble-qemu own BOARD CARD MARKER [ARTIFACT PORT [DEVICE_TYPE]]
                                               another card image: comes up (MARKER on the console), again after a
                                               power cut, installs ARTIFACT from a server at 10.0.2.2:PORT

THIMBLE=FILE            another program than target/dist/thimble-VERSION-ARCH
THIMBLE_QEMU_RUNS=N     so many runs in a row (default 1)
THIMBLE_QEMU_MACHINES=N so many machines at a time (default: one more than there are processors, as each waits now and then)
THIMBLE_QEMU_PATIENCE=N seconds without any progress after which a machine hangs (default 180)
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["run", boards, ref scenarios @ ..] => run(boards, scenarios),
        ["list"] => {
            list();
            Ok(true)
        }
        ["image", board] => image(board),
        ["twice", board] => twice(board),
        ["cuts", board, ref numbers @ ..] if numbers.len() <= 2 => cuts(board, numbers),
        ["cut", board, number] => cut(board, number),
        ["shell", board] => shell(board),
        ["own", board, card, marker, ref update @ ..] => own(board, card, marker, update),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("thimble-qemu: {error}");
            ExitCode::FAILURE
        }
    }
}

fn list() {
    println!("boards: {}", board::all().join(" "));
    for scenario in scenario::ALL {
        println!("{}  {}", scenario.group, scenario.name);
    }
}

/// A number from the environment, or `default` if it is not there.
fn setting(name: &str, default: usize) -> Result<usize> {
    match std::env::var(name) {
        Ok(text) => match text.parse() {
            Ok(0) | Err(_) => Err(format!("{name}={text:?}: not a number above 0")),
            Ok(number) => Ok(number),
        },
        Err(_) => Ok(default),
    }
}

fn bench(board: Board) -> Result<Bench> {
    let patience = setting("THIMBLE_QEMU_PATIENCE", 180)?;
    Bench::new(board, Duration::from_secs(patience as u64))
}

/// The board with all that it needs to be switched on.
fn ready(board: Board) -> Result<Ready> {
    eprintln!("       {}: kernel, boot loader, card", board.name);
    let bench = bench(board)?;
    let releases = Releases::new(&bench.board)?;
    Ok(Ready { bench, releases })
}

fn image(name: &str) -> Result<bool> {
    let bench = ready(Board::load(name)?)?.bench;
    println!("{}", machine::images(&bench.board).join("card.img").display());
    Ok(true)
}

fn run(names: &str, wanted: &[&str]) -> Result<bool> {
    let mut scenarios: Vec<&scenario::Scenario> = scenario::ALL.iter().collect();
    if !wanted.is_empty() {
        scenarios = Vec::new();
        for word in wanted {
            match scenario::named(word) {
                found if found.is_empty() => {
                    return Err(format!("no scenario {word:?}; `thimble-qemu list`"));
                }
                found => scenarios.extend(found),
            }
        }
    }
    // One that is named twice, by itself and in its group, is played once: it has one card.
    let mut seen = std::collections::BTreeSet::new();
    scenarios.retain(|scenario| seen.insert(scenario.name));
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let plan = Plan {
        runs: setting("THIMBLE_QEMU_RUNS", 1)?,
        machines: setting("THIMBLE_QEMU_MACHINES", processors + 1)?,
    };
    // Before anything is fetched or built.
    let boards: Vec<Board> = names.split(',').map(Board::load).collect::<Result<_>>()?;
    if std::env::var_os("THIMBLE").is_some() && boards.iter().any(|board| board.arch != boards[0].arch) {
        return Err("THIMBLE names one program, but these boards have different processors".to_owned());
    }
    let boards: Vec<Ready> = boards.into_iter().map(ready).collect::<Result<_>>()?;
    Ok(session::play(&boards, &scenarios, plan))
}

fn number(text: &str) -> Result<usize> {
    text.parse().map_err(|e| format!("{text:?}: {e}"))
}

fn cuts(name: &str, numbers: &[&str]) -> Result<bool> {
    let points = numbers.first().map_or(Ok(200), |text| number(text))?;
    let boots = numbers.get(1).map_or(Ok(20), |text| number(text))?;
    let Ready { bench, releases } = ready(Board::load(name)?)?;
    let begin = Instant::now();
    let recording = Recording::new(&bench, &releases, false)?;
    println!("       {name} recorded: {}, {} s", recording.about(), begin.elapsed().as_secs());
    let begin = Instant::now();
    let sample = recording.sample(points)?;
    let looked = recording.look(&sample)?;
    for text in &looked.wrong {
        println!("FAIL   {name} {text}");
    }
    let mut good = looked.wrong.is_empty() && looked.good.len() >= points.min(sample.len());
    println!(
        "{}   {name} cuts looked at: {} good, {} wrong, {} exempt (inside the only copy of the environment), {} s",
        if good { "PASS" } else { "FAIL" },
        looked.good.len(),
        looked.wrong.len(),
        looked.exempt,
        begin.elapsed().as_secs()
    );
    for number in Recording::some(&looked.good, boots) {
        good &= boot_cut(&bench, &recording, number);
    }
    Ok(good)
}

fn cut(name: &str, text: &str) -> Result<bool> {
    let Ready { bench, releases } = ready(Board::load(name)?)?;
    let recording = Recording::new(&bench, &releases, true)?;
    Ok(boot_cut(&bench, &recording, number(text)?))
}

fn boot_cut(bench: &Bench, recording: &Recording, number: usize) -> bool {
    let what = format!("cut-{number}");
    let (begin, log) = (Instant::now(), play::log_of(bench, &what));
    let ended = recording.boot(number, log.clone());
    tell(bench, &what, begin, &log, &ended)
}

/// Two cards made of the same are the same.
fn twice(name: &str) -> Result<bool> {
    let bench = bench(Board::load(name)?)?;
    let card = machine::images(&bench.board).join("card.img");
    let mut sums = Vec::new();
    for _ in 0..2 {
        tool::fresh(&machine::images(&bench.board))?;
        Releases::new(&bench.board)?;
        sums.push(tool::sha256(&tool::read_bytes(&card)?));
    }
    let same = sums[0] == sums[1];
    println!("{}   {name} image made twice: {} {}", if same { "PASS" } else { "FAIL" }, sums[0], sums[1]);
    Ok(same)
}

/// An integrator's image.
fn own(name: &str, card: &str, marker: &str, update: &[&str]) -> Result<bool> {
    let bench = bench(Board::load(name)?)?;
    let (update, device_type) = match *update {
        [] => (None, name),
        [artifact, port] => (Some((artifact, port)), name),
        [artifact, port, device_type] => (Some((artifact, port)), device_type),
        _ => return Err("own BOARD CARD MARKER [ARTIFACT PORT [DEVICE_TYPE]]".to_owned()),
    };
    let port = |text: &str| text.parse().map_err(|e| format!("port {text:?}: {e}"));
    let own = own::Own {
        card: card.into(),
        marker: marker.to_owned(),
        update: update
            .map(|(artifact, number)| Ok::<_, String>((artifact.into(), port(number)?)))
            .transpose()?,
        device_type: device_type.to_owned(),
    };
    let log = play::log_of(&bench, "own");
    let _ = std::fs::remove_file(&log);
    let begin = Instant::now();
    let ended = own::run(&bench, &own, &log);
    if let Ok((what, _)) = &ended {
        println!("       {what}");
    }
    Ok(tell(&bench, "own", begin, &log, &ended.map(|(_, taken)| taken)))
}

/// A console on a card of its own, with an update server if one is wanted: none here.
fn shell(name: &str) -> Result<bool> {
    let bench = ready(Board::load(name)?)?.bench;
    let dir = tool::target().join("shell").join(name);
    tool::fresh(&dir)?;
    let (card, data) = (dir.join("card.img"), dir.join("data"));
    disk::copy(&machine::images(&bench.board).join("card.img"), &card)?;
    tool::write(&data.join("start"), "nothing\n")?;
    tool::write(&data.join("mender/device_type"), format!("device_type={name}\n"))?;
    disk::put_data(&bench.board, &card, &data)?;
    let command = bench.command(&card, None)?;
    println!("{}\nCtrl-A X ends QEMU. The card: {}", command.join(" "), card.display());
    let mut shell = std::process::Command::new(&command[0]);
    shell.args(&command[1..]).args(["-display", "none", "-serial", "mon:stdio"]);
    shell.status().map(|status| status.success()).map_err(|e| format!("{}: {e}", command[0]))
}
