//! The durable queue, its history, and the directory of people and channels.
//!
//! [`api`] is what the rest of Sendero sees, in domain words. `embedded` keeps it in an append-only
//! log with an SQLite index; `model` keeps it in memory and is what `embedded` is compared with.
//! SQL stays in this crate.

pub mod api;
pub mod backup;
mod body;
pub mod caps;
pub mod conformance;
pub mod directory;
pub mod disk;
pub mod embedded;
#[doc(hidden)]
pub mod fuzzing;
pub mod model;
pub mod seal;

pub use api::*;
pub use body::{Body, BodyFile, FileId, Pieces, Rest, Spool, WHOLE_UP_TO};
pub use caps::{CapUnit, Claim, Holder, MailCaps, OpenMail, OverCap};
