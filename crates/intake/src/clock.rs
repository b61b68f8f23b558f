//! The edge where the time of day and random bytes come from.

use mail::{MessageId, Timestamp};

/// What the doors ask of the world: the time of day, and ids unlike all others.
pub trait Clock: Send + Sync {
    /// Now, by the wall clock.
    fn now(&self) -> Timestamp;

    /// An id for a message accepted at `at`. Nobody can guess it.
    fn message_id(&self, at: Timestamp) -> MessageId;
}

/// The clock of this machine, and its cryptographic random numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp(jiff::Timestamp::now().as_millisecond())
    }

    fn message_id(&self, at: Timestamp) -> MessageId {
        let mut random = [0; 10];
        aws_lc_rs::rand::fill(&mut random).expect("the generator has no state in which it refuses");
        MessageId::new(at, random)
    }
}
