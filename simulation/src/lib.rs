//! The whole gateway behind its doors, on a simulated clock, disk and network.
//!
//! One seed is one history: a few channels, some people, a good many messages over minutes or days, and
//! everything that goes wrong with processes, disks, next hops and people. The parts are those of
//! production: the log's writer and its index, the scheduler, the directory, the states of channels. They run in
//! one thread on a clock that jumps from event to event; the disk loses, tears and reorders what was not
//! synced, and the next hops follow their script at the trait `delivery::Transport`.
//!
//! [`run`] runs a history; [`book::Book`] is what must be true after each of its steps.

mod account;
pub mod book;
mod clock;
mod fairness;
mod history;
mod life;
mod limits;
mod line;
mod office;
pub mod plan;
mod provider;
pub mod random;
mod texts;
mod trace;
mod world;

pub use history::{Failure, Report, run};
