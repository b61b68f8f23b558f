//! Addresses: what is read prints as it was.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| smtp::fuzzing::address(data));
