//! `cargo xtask simulate`: many histories of the whole gateway, as fast as this machine runs them.

use crate::shell::{self, cargo};
use anyhow::Result;

/// Runs the histories that the arguments name.
pub fn run(arguments: &[String]) -> Result<()> {
    let mut command = cargo();
    command.args(["run", "--locked", "--quiet", "--release", "--package", "simulation", "--bin", "simulate", "--"]);
    let usual = ["--seeds".to_owned(), "10000".to_owned()];
    command.args(if arguments.is_empty() { &usual } else { arguments });
    shell::run("simulate", &mut command)
}
