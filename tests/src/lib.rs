//! The parts of a whole-gateway scenario: the real program in a folder of its own, a next hop that
//! shows what reaches it, clients, and a real Postfix.
//!
//! Nothing here shares code with the gateway. What the scenarios compare, bytes and counts, is made by
//! other hands than those that are tested, and everything stays on loopback addresses.
//!
//! A scenario that cannot go on panics with what it saw; where the gateway is concerned, with the end
//! of its log.

pub mod gateway;
pub mod load;
pub mod message;
pub mod next_hop;
pub mod postfix;
pub mod random;
pub mod submitter;
pub mod tools;

pub use gateway::{Gateway, Plan};
pub use load::Load;
pub use next_hop::{Manner, NextHop, Taken};
pub use postfix::Postfix;
pub use random::Random;
pub use submitter::{Answer, Submitter};
