//! The fuzz targets over the kept corpus, on stable: every kept input as it is, then seeded mutations.
//!
//! The functions are those that libFuzzer calls. A failure prints the input; kept under
//! `fuzz/corpus/TARGET`, it is tried first ever after. `SENDERO_SEED` starts the mutations elsewhere.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Inputs for a target.
const INPUTS: u64 = 20_000;
/// Inputs where each takes a millisecond without optimisation.
const SLOW_INPUTS: u64 = 5_000;
/// Longest input, in bytes.
const MAX: usize = 8192;

#[test]
fn arbitrary_addresses_break_nothing() {
    check("address", INPUTS, smtp::fuzzing::address);
}

#[test]
fn arbitrary_commands_break_nothing() {
    check("command", INPUTS, smtp::fuzzing::command);
}

#[test]
fn arbitrary_replies_break_nothing() {
    check("reply", INPUTS, smtp::fuzzing::reply);
}

#[test]
fn arbitrary_bytes_after_data_break_nothing() {
    check("data", INPUTS, smtp::fuzzing::data);
}

#[test]
fn arbitrary_clients_break_no_session() {
    check("server_session", INPUTS, smtp::fuzzing::server_session);
}

#[test]
fn arbitrary_next_hops_break_no_session() {
    check("client_session", INPUTS, smtp::fuzzing::client_session);
}

#[test]
fn arbitrary_headers_break_nothing() {
    check("header", INPUTS, mail::fuzzing::header);
}

#[test]
fn arbitrary_logs_break_nothing() {
    check("log_record", INPUTS, store::fuzzing::log_record);
}

#[test]
fn arbitrary_settings_break_nothing() {
    check("settings", SLOW_INPUTS, sendero::fuzzing::settings);
}

#[test]
fn every_fuzz_target_has_its_test_here_and_a_corpus() {
    let here = include_str!("corpus.rs");
    for entry in fs::read_dir(fuzz().join("fuzz_targets")).unwrap() {
        let target = entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned();
        assert!(here.contains(&format!("check(\"{target}\", ")), "no test runs the target {target}");
        let kept = seeds(&target).len();
        assert!((10..=40).contains(&kept), "{target} has {kept} kept inputs");
    }
}

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

/// The kept inputs of a target, in the order of their names.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = fuzz().join("corpus").join(target);
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

fn check(target: &str, inputs: u64, run: fn(&[u8])) {
    let seeds = seeds(target);
    let seed = std::env::var("SENDERO_SEED").map_or(1, |text| text.parse().unwrap());
    let mut random = Random(seed);
    for input in &seeds {
        attempt(target, seed, run, input);
    }
    for _ in seeds.len() as u64..inputs {
        attempt(target, seed, run, &mutated(&seeds, &mut random));
    }
    println!("SENDERO-FIGURE fuzz_inputs={inputs} lost=0");
}

fn attempt(target: &str, seed: u64, run: fn(&[u8]), input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| run(input))).is_err() {
        panic!("{target} (seed {seed}) does not hold for the input b\"{}\"", input.escape_ascii());
    }
}

/// A kept input with a few changes.
fn mutated(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = random.of(seeds).clone();
    for _ in 0..=random.below(6) {
        change(&mut input, seeds, random);
    }
    input.truncate(MAX);
    input
}

fn change(input: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    let (from, to) = random.range(input.len());
    match random.below(9) {
        0 if from < input.len() => input[from] ^= 1 << random.below(8),
        1 if from < input.len() => input[from] = *random.of(INTERESTING),
        2 => input.insert(from, *random.of(INTERESTING)),
        3 => drop(input.splice(from..from, random.of(TEXTS).bytes())),
        4 => drop(input.drain(from..to)),
        5 => input.truncate(to),
        6 => {
            let part = input[from..to].to_vec();
            drop(input.splice(to..to, part));
        }
        7 => {
            let other = random.of(seeds);
            let (start, _) = random.range(other.len());
            drop(input.splice(from.., other[start..].iter().copied()));
        }
        _ => {
            let other = random.of(seeds);
            let (start, end) = random.range(other.len());
            drop(input.splice(from..to, other[start..end].iter().copied()));
        }
    }
}

/// What ends lines, texts and numbers.
const INTERESTING: &[u8] = b"\r\n.\0 \t<>@:;,\"\\()=-+0149A\x7f\x80\xc3\xff";
/// What ends more than that.
const TEXTS: &[&str] =
    &["\r\n", "\r\n.\r\n", "\r\n.\n", "\n.\r\n", "\r\n\r\n", "\r\n ", "250 ", "250-", "From: ", "RSET\r\n", "SND1"];

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// A part of something of this length, mostly short.
    fn range(&mut self, length: usize) -> (usize, usize) {
        let from = self.below(length + 1);
        let most = if self.below(3) == 0 { length - from } else { (length - from).min(16) };
        (from, from + self.below(most + 1))
    }
}
