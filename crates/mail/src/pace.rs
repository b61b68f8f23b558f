//! Pace: who may go when, so that no sliding window of the provider ever holds more than it allows.
//!
//! The [`Ledger`] of an account counts what was spent in every window. [`Terms`] are what a channel is held
//! to at this moment, and [`Turn`] chooses the lane that goes next. [`forecast`] runs the same rules forward.
//! All times are of the steady clock ([`crate::steady`]).

mod forecast;
mod learned;
mod ledger;
mod terms;
#[cfg(test)]
mod tests;
mod turn;

pub use forecast::{Ahead, forecast};
pub use learned::{LearnedCap, LearnedPace, Lessons};
pub use ledger::{Free, FromId, Ledger, Spent, Units, stretched};
pub use terms::{Reserve, Terms};
pub use turn::{BOOKED, Choice, Head, Turn, Wait, Why};
