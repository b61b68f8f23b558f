//! `cargo xtask simulate`: many histories of the whole gateway, as fast as this machine runs them.

use crate::shell::{self, cargo};
use anyhow::Result;
use std::process::Command;

/// Runs the histories that the arguments name.
pub fn run(arguments: &[String]) -> Result<()> {
    let mut command = program();
    if arguments.is_empty() {
        command.args(["--seeds", "10000"])
    } else {
        command.args(arguments)
    };
    shell::run("simulate", &mut command)
}

/// The histories that are run with every test.
pub fn tests() -> Command {
    let mut command = program();
    command.args(["--seeds", "10000"]);
    command
}

/// Optimised, in a profile of its own that keeps the checks of a debug build.
fn program() -> Command {
    let mut command = cargo();
    command.args(["run", "--locked", "--quiet", "--profile", "simulation", "--package", "simulation", "--bin", "simulate", "--"]);
    command
}
