//! What travels and what decides: the envelope, the directory of people and channels, the resolver,
//! the states of recipients and channels, outcomes, what replies mean, retry, events.
//!
//! All of it is values. `now` comes in as an argument; nothing here opens a socket or a file, reads
//! a clock or asks for a random number.

pub mod channel;
pub mod classify;
pub mod directory;
pub mod dsn;
pub mod envelope;
pub mod event;
#[doc(hidden)]
pub mod fuzzing;
pub mod header;
pub mod id;
pub mod lane;
pub mod limits;
pub mod nearest;
pub mod outcome;
pub mod pace;
pub mod resolve;
pub mod retry;
pub mod rewrite;
pub mod state;
pub mod steady;
pub mod time;
pub mod when;

pub use channel::{Channel, ChannelState, Owner, Transport};
pub use directory::{Directory, Person, Role, Team, Token};
pub use envelope::{BodyType, Envelope, Lane, Recipient, Surface};
pub use event::{Event, EventKind, WaitingKind, WaitingOn};
pub use id::{ChannelId, MessageId, PersonId, TeamId, TokenId};
pub use lane::LaneReason;
pub use outcome::{Cause, Diagnostic, Outcome, Stage};
pub use state::{Move, RecipientState};
pub use time::Timestamp;
