//! Header sections: authors read strictly, and no byte changed that must stay.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mail::fuzzing::header(data));
