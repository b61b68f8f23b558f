//! A client that says anything, in any pieces.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| smtp::fuzzing::server_session(data));
