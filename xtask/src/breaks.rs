//! `cargo xtask breaks`: the tests can fail.
//!
//! Each file in `breaks/` is a patch that breaks one promise, with two lines in front of it:
//! `Promise: P1 ...` and `Test: PACKAGE TARGET NAME` (TARGET is `lib` or an integration test's name).
//! The patch is applied to a copy of the tracked files; the named test must pass before and fail after.

use crate::shell::{self, cargo, root};
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

struct Break {
    name: String,
    patch: PathBuf,
    promise: String,
    test: Vec<String>,
}

/// Applies the patches one by one (or the one whose name contains the argument).
pub fn run_breaks(wanted: Option<&str>) -> Result<()> {
    let breaks: Vec<Break> = load()?.into_iter().filter(|one| wanted.is_none_or(|part| one.name.contains(part))).collect();
    if breaks.is_empty() {
        bail!("no patch in breaks/ has '{}' in its name", wanted.unwrap_or_default());
    }
    let copy = root().join("target/breaks/source");
    let mut rows = Vec::new();
    for one in &breaks {
        println!("==> {} ({})", one.name, one.promise);
        refresh(&copy)?;
        if !passes(&copy, &one.test)? {
            bail!("{}: the test fails even before the code is broken", one.name);
        }
        shell::run("apply", Command::new("git").current_dir(&copy).arg("apply").arg(&one.patch))?;
        let caught = !passes(&copy, &one.test)?;
        rows.push((one, caught));
    }
    println!("\npromise  patch                                     test that must fail");
    for (one, caught) in &rows {
        let promise = one.promise.split_whitespace().next().unwrap_or_default();
        println!(
            "{promise:<8} {:<41} {} {}",
            one.name,
            one.test.last().map_or("", String::as_str),
            if *caught { "failed, as it must" } else { "PASSED: it proves nothing" }
        );
    }
    let blind = rows.iter().filter(|(_, caught)| !caught).count();
    if blind > 0 {
        bail!("{blind} of {} patches were not noticed", rows.len());
    }
    println!("\n{} passed, 0 failed", rows.len());
    Ok(())
}

/// The command.
pub fn run(arguments: &[String]) -> Result<()> {
    run_breaks(arguments.first().map(String::as_str))
}

fn load() -> Result<Vec<Break>> {
    let mut breaks = Vec::new();
    for entry in fs::read_dir(root().join("breaks")).context("the folder breaks/")? {
        let patch = entry?.path();
        if patch.extension().is_some_and(|extension| extension == "patch") {
            breaks.push(read(patch)?);
        }
    }
    breaks.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(breaks)
}

fn read(patch: PathBuf) -> Result<Break> {
    let text = fs::read_to_string(&patch)?;
    let line = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(|value| value.trim().to_owned());
    let name = patch.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let promise = line("Promise:").with_context(|| format!("{name}: no line 'Promise:'"))?;
    let test = line("Test:").with_context(|| format!("{name}: no line 'Test:'"))?;
    let test: Vec<String> = test.split_whitespace().map(str::to_owned).collect();
    if test.len() != 3 {
        bail!("{name}: 'Test:' takes a package, a target and a name");
    }
    Ok(Break { name, patch, promise, test })
}

/// Lays the tracked files as they are now into the copy, and nothing else but its target folder.
fn refresh(copy: &Path) -> Result<()> {
    fs::create_dir_all(copy)?;
    let listed = Command::new("git").current_dir(root()).args(["ls-files", "-z"]).output().context("git ls-files")?;
    let names = listed.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let names: BTreeSet<PathBuf> = names.map(|name| PathBuf::from(String::from_utf8_lossy(name).into_owned())).collect();
    remove_others(copy, copy, &names)?;
    for name in &names {
        let (from, to) = (root().join(name), copy.join(name));
        let Ok(bytes) = fs::read(&from) else { continue };
        // A file that is already there keeps its time, so that only what changed is built again.
        if fs::read(&to).is_ok_and(|there| there == bytes) {
            continue;
        }
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&to, bytes)?;
    }
    if !copy.join(".git").exists() {
        shell::run("a repository for the copy", Command::new("git").current_dir(copy).args(["init", "-q"]))?;
    }
    Ok(())
}

/// What an earlier run laid there and is tracked no more.
fn remove_others(folder: &Path, copy: &Path, names: &BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.strip_prefix(copy)?;
        if name == Path::new(".git") || name == Path::new("target") {
            continue;
        }
        if path.is_dir() {
            remove_others(&path, copy, names)?;
        } else if !names.contains(name) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn passes(copy: &Path, test: &[String]) -> Result<bool> {
    let [package, target, name] = test else { bail!("three words name a test") };
    let build = || {
        let mut command = cargo();
        command.current_dir(copy).env("CARGO_TARGET_DIR", root().join("target/breaks/target"));
        command
    };
    if target != "lib" {
        shell::run("program", build().args(["build", "--locked", "--quiet", "--package", "sendero"]))?;
    }
    let mut command = build();
    command.args(["test", "--locked", "--quiet", "--package", package]);
    match target.as_str() {
        "lib" => command.arg("--lib"),
        other => command.args(["--test", other]),
    };
    shell::run("the test still builds", command.arg("--no-run"))?;
    let mut command = build();
    command.args(["test", "--locked", "--quiet", "--package", package]);
    match target.as_str() {
        "lib" => command.arg("--lib"),
        other => command.args(["--test", other]),
    };
    let output = command.arg(name).output().context("cargo test")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if text.contains("running 0 tests") && !text.contains("running 1 test") {
        bail!("there is no test '{name}' in {package} {target}");
    }
    Ok(output.status.success())
}
