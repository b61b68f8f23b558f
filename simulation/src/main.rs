//! `simulate`: runs histories, and says which one must not have happened.

use anyhow::{Context, Result, bail};
use simulation::{Failure, Report};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

const HELP: &str = "\
simulate --seeds N [--from S]   runs the histories of N seeds, the first of which is S (1)
simulate --seed S [--trace]     runs one history, and shows what happens in it
";

/// A long run says where it is after so many histories.
const TOLD_EACH: u64 = 5000;

#[derive(Default)]
struct Wanted {
    seeds: u64,
    from: u64,
    seed: Option<u64>,
    trace: bool,
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(2)
        }
    }
}

/// True when nothing happened that must not.
fn run() -> Result<bool> {
    let Some(wanted) = wanted(std::env::args().skip(1))? else {
        print!("{HELP}");
        return Ok(true);
    };
    Ok(match wanted.seed {
        Some(seed) => one(seed, wanted.trace),
        None => many(wanted.from, wanted.seeds),
    })
}

fn wanted(mut arguments: impl Iterator<Item = String>) -> Result<Option<Wanted>> {
    let mut wanted = Wanted { from: 1, ..Wanted::default() };
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let text = arguments.next().with_context(|| format!("{argument} needs a number"))?;
            text.parse::<u64>().with_context(|| format!("{argument}: '{text}' is no number"))
        };
        match argument.as_str() {
            "--seeds" => wanted.seeds = number()?,
            "--from" => wanted.from = number()?,
            "--seed" => wanted.seed = Some(number()?),
            "--trace" => wanted.trace = true,
            "--help" | "-h" => return Ok(None),
            other => bail!("there is no argument '{other}'\n\n{HELP}"),
        }
    }
    Ok((wanted.seeds > 0 || wanted.seed.is_some()).then_some(wanted))
}

fn one(seed: u64, trace: bool) -> bool {
    let result = simulation::run(seed, trace);
    match &result {
        Ok(report) => println!("{report:?}"),
        Err(failure) if trace => println!("seed {}: {}", failure.seed, failure.why),
        Err(failure) => println!("{failure}"),
    }
    result.is_ok()
}

fn many(from: u64, seeds: u64) -> bool {
    let (next, done) = (AtomicU64::new(from), AtomicU64::new(0));
    let (reports, failures): (Mutex<Vec<Report>>, Mutex<Vec<Failure>>) = Default::default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + seeds {
                        return;
                    }
                    match simulation::run(seed, false) {
                        Ok(report) => reports.lock().unwrap_or_else(PoisonError::into_inner).push(report),
                        Err(failure) => {
                            eprintln!("seed {}: {}", failure.seed, failure.why);
                            failures.lock().unwrap_or_else(PoisonError::into_inner).push(failure);
                        }
                    }
                    let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                    if done % TOLD_EACH == 0 {
                        eprintln!("{done} of {seeds} histories");
                    }
                }
            });
        }
    });
    let reports = reports.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    failures.sort_by_key(|failure| failure.seed);
    let sum = |what: fn(&Report) -> u64| reports.iter().map(what).sum::<u64>();
    println!(
        "SENDERO-FIGURE simulated_histories={seeds} lost={} simulated_days={} simulated_restarts={} simulated_recipients={} simulated_doubles={}",
        failures.len(),
        sum(|report| report.lasted) / 86_400_000,
        sum(|report| report.lives - 1),
        sum(|report| report.accepted),
        sum(|report| report.doubles),
    );
    if let Some(first) = failures.first() {
        println!("{first}\n");
    }
    for failure in &failures {
        println!("seed {}: {}", failure.seed, failure.why);
    }
    failures.is_empty()
}
