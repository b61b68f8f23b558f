//! Replies of a next hop, in pieces.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| smtp::fuzzing::reply(data));
