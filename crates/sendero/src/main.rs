//! The program's entrance; everything else is in the library beside it.

use clap::Parser;
use sendero::cli::Cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    sendero::commands::main(Cli::parse())
}
