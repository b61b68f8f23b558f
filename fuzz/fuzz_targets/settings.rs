//! Settings and directory files.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sendero::fuzzing::settings(data));
