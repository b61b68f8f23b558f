//! `cargo xtask fuzz`: libFuzzer over each target, with the kept corpus; executions are added up in a kept file.

use crate::shell::{self, has, root};
use anyhow::{Context, Result, bail};
use std::fs;
use std::process::{Command, Stdio};

/// Runs each target (or the one named) for a number of seconds.
pub fn run_fuzz(seconds: u64, wanted: Option<&str>) -> Result<()> {
    if !has("cargo-fuzz") {
        shell::run("cargo fuzz", Command::new("cargo").args(["install", "--locked", "cargo-fuzz"]))?;
    }
    let targets: Vec<String> = targets()?.into_iter().filter(|target| wanted.is_none_or(|name| name == target)).collect();
    if targets.is_empty() {
        bail!("there is no fuzz target '{}'", wanted.unwrap_or_default());
    }
    for target in targets {
        let executed = one(&target, seconds)?;
        let total = add_up(&target, executed)?;
        println!("{target}: {executed} executions now, {total} in all, no crash");
    }
    Ok(())
}

/// The command.
pub fn run(arguments: &[String]) -> Result<()> {
    let mut seconds = 60;
    let mut wanted = None;
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        if word == "--seconds" {
            let value = words.next().context("--seconds needs a number")?;
            seconds = value.parse().with_context(|| format!("--seconds {value}: not a number"))?;
        } else {
            wanted = Some(word.as_str());
        }
    }
    run_fuzz(seconds, wanted)
}

fn targets() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root().join("fuzz/fuzz_targets")).context("the folder fuzz/fuzz_targets")? {
        let path = entry?.path();
        names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

/// New inputs go to a folder that is not kept; the corpus itself changes by hand only.
fn one(target: &str, seconds: u64) -> Result<u64> {
    let found = root().join("fuzz/target/found").join(target);
    fs::create_dir_all(&found)?;
    let output = Command::new("cargo")
        // No sanitizer: the crates forbid unsafe code, and without one it is several times as fast.
        .args(["+nightly", "fuzz", "run", "--sanitizer", "none", target])
        .arg(&found)
        .arg(root().join("fuzz/corpus").join(target))
        .args(["--", "-max_len=8192", "-timeout=5", "-print_final_stats=1"])
        .arg(format!("-max_total_time={seconds}"))
        .stderr(Stdio::piped())
        .output()
        .context("cargo +nightly fuzz")?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{target} failed:\n{text}");
    }
    let count = text.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    count.and_then(|count| count.trim().parse().ok()).with_context(|| format!("{target}: no count of executions in\n{text}"))
}

/// Adds to the kept sum, one line for each target.
fn add_up(target: &str, executed: u64) -> Result<u64> {
    let file = root().join("fuzz/executions.txt");
    let mut lines: Vec<(String, u64)> = fs::read_to_string(&file)
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(name, sum)| Some((name.to_owned(), sum.trim().parse().ok()?)))
        .collect();
    let at = lines.iter().position(|(name, _)| name == target).unwrap_or_else(|| {
        lines.push((target.to_owned(), 0));
        lines.len() - 1
    });
    lines[at].1 += executed;
    let total = lines[at].1;
    lines.sort();
    let text: String = lines.iter().map(|(name, sum)| format!("{name} {sum}\n")).collect();
    fs::write(file, text)?;
    Ok(total)
}
