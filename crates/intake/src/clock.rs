//! The edge where the time of day and random bytes come from.

use mail::{MessageId, Timestamp};

/// What the doors ask of the world: the time of day, and ids unlike all others.
pub trait Clock: Send + Sync {
    /// Now, by the wall clock.
    fn now(&self) -> Timestamp;

    /// Now, by the steady clock, on which waiting is counted.
    fn steady(&self) -> Timestamp;

    /// An id for a message accepted at `at`. Nobody can guess it.
    fn message_id(&self, at: Timestamp) -> MessageId;
}

/// The wall clock of this machine.
#[must_use]
pub fn wall_clock() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_millisecond())
}

/// An id of moment `at`, with this machine's cryptographic random numbers.
#[must_use]
pub fn random_message_id(at: Timestamp) -> MessageId {
    let mut random = [0; 10];
    aws_lc_rs::rand::fill(&mut random).expect("the generator has no state in which it refuses");
    MessageId::new(at, random)
}
