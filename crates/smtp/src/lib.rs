//! The SMTP wire as values: addresses, commands, replies, and both sides of a session.
//!
//! Bytes and values go in, values come out. Sockets, clocks and random numbers belong to the
//! callers; nothing here knows what Sendero does with a message.

pub mod address;
pub mod client;
pub mod command;
pub mod data;
#[doc(hidden)]
pub mod fuzzing;
pub mod reply;
pub mod sasl;
pub mod server;

pub use address::{Domain, ForwardPath, LocalPart, Mailbox, ReversePath, is_unseen};
pub use reply::{EnhancedCode, Reply};
