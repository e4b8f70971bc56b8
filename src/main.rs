//! Arguments in, exit code out: builds the real world and hands it to the driver.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::args::parse(std::env::args_os().skip(1)) {
        Ok((global, command)) => cli::run(&global, command),
        Err(mistake) => {
            cli::complain(&format!("thimble: {mistake}"));
            cli::complain("Usage: thimble [OPTIONS] COMMAND; see thimble --help");
            ExitCode::FAILURE
        }
    }
}
