//! A next hop that says anything, in any pieces.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| smtp::fuzzing::client_session(data));
