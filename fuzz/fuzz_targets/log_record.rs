//! The log: its records, its segments after crash and damage, and what they do to the open messages.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| store::fuzzing::log_record(data));
