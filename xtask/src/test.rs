//! `cargo xtask test`: everything that must hold before a change lands.

use crate::figures::Figures;
use crate::packages;
use crate::shell::{self, cargo};
use crate::simulate;
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// Libraries that must not be linked: one crypto library is enough.
const UNWANTED: [&str; 2] = ["ring", "openssl-sys"];

/// Runs all checks and tests, and prints what they counted.
pub fn run(arguments: &[String]) -> Result<()> {
    if let Some(unknown) = arguments.first() {
        bail!("cargo xtask test takes no argument; got '{unknown}'");
    }
    packages::install()?;
    shell::run("format", cargo().args(["fmt", "--all", "--check"]))?;
    shell::run("lints", cargo().args(["clippy", "--locked", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]))?;
    // As it is shipped: what only tests and the simulation use is not in it.
    shell::run(
        "lints of the program",
        cargo().args(["clippy", "--locked", "--package", "sendero", "--quiet", "--", "-D", "warnings"]),
    )?;
    for name in UNWANTED {
        refuse_dependency(name)?;
    }
    shell::run("program", cargo().args(["build", "--locked", "--quiet", "--package", "sendero"]))?;
    let mut figures = Figures::default();
    counted("histories of the simulated gateway", &mut simulate::tests(), &mut figures)?;
    counted(
        "tests",
        cargo().args(["test", "--locked", "--workspace", "--all-targets", "--no-fail-fast", "--", "--nocapture"]),
        &mut figures,
    )?;
    counted("documentation tests", cargo().args(["test", "--locked", "--workspace", "--doc"]), &mut figures)?;
    shell::run(
        "documentation",
        cargo().env("RUSTDOCFLAGS", "-D warnings").args(["doc", "--locked", "--workspace", "--no-deps", "--quiet"]),
    )?;
    print!("{}", figures.table());
    if figures.lost() > 0 {
        bail!("something was lost: see the table");
    }
    Ok(())
}

fn refuse_dependency(name: &str) -> Result<()> {
    let tree =
        cargo().args(["tree", "--locked", "--workspace", "--target", "all", "--invert", name]).output().context("cargo tree")?;
    if tree.status.success() && !tree.stdout.is_empty() {
        bail!("{name} must not be linked:\n{}", String::from_utf8_lossy(&tree.stdout));
    }
    Ok(())
}

/// Runs a test command, passes its lines on, and reads its figures.
fn counted(what: &str, command: &mut Command, figures: &mut Figures) -> Result<()> {
    println!("==> {what}");
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("{what}: cannot start"))?;
    let output = child.stdout.take().context("stdout is piped")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        figures.read(&line);
        println!("{line}");
    }
    let status = child.wait()?;
    if !status.success() {
        print!("{}", figures.table());
        bail!("{what} failed: {status}");
    }
    Ok(())
}
