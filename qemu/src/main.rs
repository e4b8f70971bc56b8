//! `thimble-qemu`: boards in QEMU, from the first power-on to the verdict on an update. `qemu/README.md` says how.

mod board;
mod card;
mod cuts;
mod disk;
mod kernel;
mod machine;
mod play;
mod qmp;
mod release;
mod rootfs;
mod scenario;
mod tool;
mod vm;
mod writes;

use board::Board;
use machine::Bench;
use release::Releases;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tool::Result;

const USAGE: &str = "\
usage: thimble-qemu run BOARD [SCENARIO]...    plays scenarios (names, or groups a to h); all without any
       thimble-qemu list                       the boards and the scenarios
       thimble-qemu image BOARD                makes the card's image only
       thimble-qemu shell BOARD                a console; Ctrl-A X ends QEMU

THIMBLE=FILE            another program than target/dist/thimble-VERSION-ARCH
THIMBLE_QEMU_PATIENCE=N seconds without any progress after which a machine hangs (default 180)
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["run", board, ref scenarios @ ..] => run(board, scenarios),
        ["list"] => {
            list();
            Ok(true)
        }
        ["image", board] => image(board),
        ["shell", board] => shell(board),
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

fn bench(name: &str) -> Result<Bench> {
    let patience = match std::env::var("THIMBLE_QEMU_PATIENCE") {
        Ok(text) => text.parse().map_err(|e| format!("THIMBLE_QEMU_PATIENCE={text:?}: {e}"))?,
        Err(_) => 180,
    };
    Bench::new(Board::load(name)?, Duration::from_secs(patience))
}

fn image(name: &str) -> Result<bool> {
    let bench = bench(name)?;
    Releases::new(&bench.board)?;
    println!("{}", machine::images(&bench.board).join("card.img").display());
    Ok(true)
}

fn run(name: &str, wanted: &[&str]) -> Result<bool> {
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
    let bench = bench(name)?;
    let releases = Releases::new(&bench.board)?;
    let mut good = true;
    for scenario in scenarios {
        if scenario.logs_writes() && !bench.board.redundant() {
            println!(
                "EXEMPT {name} {}: the environment is a single copy (boards/{name}/fw_env.config)",
                scenario.name
            );
            continue;
        }
        let begin = Instant::now();
        let ended = play::Play::new(&bench, &releases, scenario).and_then(play::Play::run);
        let seconds = begin.elapsed().as_secs();
        match ended {
            Ok(boots) => println!("PASS   {name} {}: {seconds} s, {boots} boots", scenario.name),
            Err(error) => {
                good = false;
                println!(
                    "FAIL   {name} {}: {seconds} s: {error}; console: {}",
                    scenario.name,
                    play::log_of(&bench, scenario.name).display()
                );
            }
        }
    }
    Ok(good)
}

/// A console on a card of its own, with an update server if one is wanted: none here.
fn shell(name: &str) -> Result<bool> {
    let bench = bench(name)?;
    Releases::new(&bench.board)?;
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
