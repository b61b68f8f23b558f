//! What became of a person's wish, in answers.

use mail::{RecipientState, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The answer to cancel, hold and release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Steered {
    /// The message.
    pub id: String,
    /// Recipients that were moved, or whose mail the channel keeps back no longer.
    pub moved: Vec<String>,
    /// Recipients left alone, with the state they are in.
    pub left: BTreeMap<String, RecipientState>,
}

/// An address that is not written to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suppression {
    /// The address.
    pub address: String,
    /// Whose list: `team:NAME` or `person:ADDRESS`.
    pub owner: String,
    /// The next hop's words.
    pub reason: String,
    /// The message that was refused.
    pub origin: String,
    /// When.
    pub at: Timestamp,
}

/// The answer to the removal of a suppression.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsuppressed {
    /// The address.
    pub address: String,
    /// The lists from which it was taken, as in [`Suppression::owner`].
    pub removed_from: Vec<String>,
}

/// The answer to a retry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retried {
    /// The new message.
    pub id: String,
    /// The message whose recipients it tries again.
    pub retry_of: String,
    /// The channel it leaves by.
    pub channel: String,
    /// The recipients it tries.
    pub recipients: Vec<String>,
    /// They were tried again before, as this message: nothing new was stored.
    pub replayed: bool,
}
