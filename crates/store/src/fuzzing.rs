//! What the fuzz targets call; the same functions run in the tests over a kept corpus.
//!
//! Each takes any bytes, must not panic, and asserts what must hold for all of them.

pub use crate::embedded::log_record;
