//! What a reply means: a pure function over data, never over the first digit alone.
//!
//! A refusal of a login, a quota or a whole network arrives under the same codes as an unknown recipient.
//! Text, phase and provider together tell them apart; what is known of them stands in `replies.toml`, one row
//! for each reply, with its source. [`Rules::classify`] finds the row, [`react`] says what it means for the
//! recipient and for the channel. A reply that no row knows is judged by its phase and codes.
//!
//! Waiting, counting and parking are the caller's.

mod echo;
mod fallback;
mod layer;
mod reaction;
mod row;
mod rules;
mod wait;
mod words;

pub use echo::Brought;
pub use reaction::{ForChannel, ForRecipient, Reaction, react};
pub use rules::{RuleError, Rules};
pub use words::{Action, Certainty, Class, Fault, Permanence, Phase};

use std::sync::Arc;
use std::time::Duration;

/// What one reply means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// What kind of refusal it is.
    pub class: Class,
    /// What is at fault.
    pub scope: Fault,
    /// How long it will be so.
    pub permanence: Permanence,
    /// What to do.
    pub action: Action,
    /// How long to wait before the next try; `None` where nothing is known, or nothing is tried by itself.
    /// A time in the reply's text wins over the rule's.
    pub retry_after: Option<Duration>,
    /// True when `retry_after` stood in the reply's text.
    pub told: bool,
    /// The rule that decided; `None` where the codes alone did.
    pub rule: Option<RuleInfo>,
}

/// Where a judgement comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleInfo {
    /// The provider whose rule it is; `*` for one that holds everywhere.
    pub provider: Arc<str>,
    /// Where it is written, or who saw it.
    pub source: Arc<str>,
    /// How sure it is.
    pub certainty: Certainty,
    /// What a person should know about it; may be empty.
    pub note: Arc<str>,
    /// Its number among the rules of its file; the first is 1.
    pub row: usize,
    /// True for a rule of the operator's, false for a built-in one.
    pub operator: bool,
    /// False where attempts prolong the block.
    pub probe: bool,
}

#[cfg(test)]
mod tests;
