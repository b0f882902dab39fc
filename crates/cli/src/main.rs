//! `freehold`, the one binary: reads the command line, runs one subcommand, turns errors into one
//! message and one exit code.
//!
//! Nothing is opened, read or detected before the arguments are parsed, so `--help` and completions
//! answer at once. What a subcommand does stands in its own file under `commands/`.
#![forbid(unsafe_code)]

mod aliases;
mod answer;
mod chat;
mod commands;
mod context;
mod exit;
mod gate_reports;
mod interrupt;
mod kv_format;
mod ledger;
mod locate;
mod locked;
mod network;
mod numbers;
mod one_sequence;
mod progress;
mod sampling;
mod settings;
mod stdin;
mod terminal;

use std::process::ExitCode;

use clap::ArgMatches;

use crate::context::Context;
use crate::exit::Exit;

fn main() -> ExitCode {
    kernels::give_freed_memory_back();
    let matches = match commands::root().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            // Help and version arrive here too, with exit code 0; a closed pipe is no failure.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Ok.into() };
        }
    };
    let context = Context::new(&matches);
    match run(&matches, &context) {
        Ok(()) => Exit::Ok.into(),
        Err(error) => {
            exit::report(&error);
            exit::code_of(&error).into()
        }
    }
}

/// Installs what every subcommand needs and runs the one that was asked for.
fn run(matches: &ArgMatches, context: &Context) -> anyhow::Result<()> {
    terminal::start_log(context);
    store::install_tls();
    commands::dispatch(commands::ALL, matches, context)
}
