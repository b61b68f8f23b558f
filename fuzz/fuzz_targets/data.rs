//! The bytes of a message on the wire: one end, and nothing odd passes.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| smtp::fuzzing::data(data));
