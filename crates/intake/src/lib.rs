//! The one way to accept a message, and the submission listeners in front of it.
//!
//! [`accept`] is where every message enters, whichever door it came by: what is refused, which
//! channel it takes and when it counts as ours is decided there and nowhere else. [`listener`] is the
//! SMTP door (RFC 6409). The protocol itself lives in `smtp`, what may be sent in `mail`, and what
//! makes it durable in `store`.

pub mod accept;
mod arrival;
pub mod caps;
pub mod clock;
mod connection;
pub mod counters;
mod door;
pub mod guard;
pub mod listener;
pub mod log;
pub mod network;
mod patience;
pub mod people;
pub mod refusal;
pub mod tls;

pub use accept::{ExplicitWishes, Incoming, Intake, IntakeSettings, NextHops, Principal, Receipt, Repeat, Trace};
pub use arrival::{Arrival, Large, Submitted};
pub use clock::{Clock, random_message_id, wall_clock};
pub use counters::IntakeCounters;
pub use door::{Deadlines, Door};
pub use listener::{Bind, Bound, Listener, Login, Mode};
pub use log::Source;
pub use network::Network;
pub use people::People;
pub use refusal::{AcceptRefusal, Reached};
pub use tls::ServerTls;

#[cfg(test)]
mod tests;
