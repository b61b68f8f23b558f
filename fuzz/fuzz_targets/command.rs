//! Command lines: read, or refused with a permanent reply.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| smtp::fuzzing::command(data));
