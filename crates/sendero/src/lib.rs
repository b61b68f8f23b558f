//! The program: settings, wiring, scheduler loop, metrics, command line.

pub mod gateway;
pub mod scheduler;
