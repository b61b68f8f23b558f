//! The program: settings, wiring, scheduler loop, metrics, command line.

mod backups;
pub mod cli;
pub mod client;
pub mod commands;
pub mod compose;
pub mod directory_file;
pub mod directory_wire;
mod forget;
pub mod gateway;
pub mod logging;
pub mod metrics;
pub mod scheduler;
pub mod settings;
mod show;
pub mod steady;
pub mod tour;

#[doc(hidden)]
pub use settings::fuzzing;
