//! What the API answers, as values: written by the gateway, read by its command line.
//!
//! Fields are only ever added. Times are RFC 3339 with offset.

mod backup;
mod channels;
mod forget;
mod queue;
mod wishes;

pub use backup::*;
pub use channels::*;
pub use forget::*;
pub use queue::*;
pub use wishes::*;

use mail::{Lane, RecipientState, Surface, Timestamp, WaitingOn};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The answer to a submission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    /// The message's id.
    pub id: String,
    /// The channel it leaves by.
    pub channel: String,
    /// How urgent.
    pub lane: Lane,
    /// Bytes kept.
    pub size: u64,
    /// Why it waits; `None` when it has left already.
    pub waiting_on: Option<WaitingOn>,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Its id.
    pub id: String,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// The state that matters most among its recipients': open ones first, then trouble, then success.
    pub status: RecipientState,
    /// Recipients by state.
    pub states: BTreeMap<String, u32>,
    /// Whose, by address.
    pub person: String,
    /// The team, by name.
    pub team: Option<String>,
    /// The token it was signed in with, by name.
    pub token: Option<String>,
    /// The door it came in by.
    pub surface: Surface,
    /// The channel it leaves by, by name.
    pub channel: String,
    /// How urgent.
    pub lane: Lane,
    /// Why it is in that lane, in words.
    #[serde(default)]
    pub lane_reason: String,
    /// The message whose recipients it tries again.
    #[serde(default)]
    pub retry_of: Option<String>,
    /// MAIL FROM without brackets; empty for `<>`.
    pub reverse_path: String,
    /// The From field.
    pub from: String,
    /// The Subject field.
    pub subject: String,
    /// The Message-ID field without brackets.
    pub message_id: String,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// Not before this time.
    #[serde(default)]
    pub scheduled_at: Option<Timestamp>,
    /// Not after this time.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
    /// Bytes kept.
    pub size: u64,
    /// Each recipient.
    pub recipients: Vec<Recipient>,
    /// Why it waits, while a recipient is open.
    pub waiting_on: Option<WaitingOn>,
}

/// One recipient of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// The address.
    pub address: String,
    /// Where it is.
    pub state: RecipientState,
    /// Since when.
    pub since: Timestamp,
    /// Own attempts so far.
    pub attempts: u32,
    /// When it is due, while queued.
    pub due: Option<Timestamp>,
    /// The last words about it: the next hop's reply, or a reason.
    pub said: String,
    /// Whom the last attempt spoke to.
    pub relay: String,
    /// Why it waits, while open.
    pub waiting_on: Option<WaitingOn>,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    /// Newest first; addresses in their order, and what happened to a message oldest first.
    pub data: Vec<T>,
    /// There are more beyond the last.
    pub has_more: bool,
    /// For `after`: the page behind this one.
    pub next: Option<String>,
    /// For `before`: the page in front of this one.
    pub prev: Option<String>,
    /// Where no index leads to what was asked for: how far the search has come, by the time of acceptance. It goes on
    /// from there with `next`, or with `prev` where `before` was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looked_until: Option<Timestamp>,
}

/// How many recipients there are in the lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// By state.
    pub recipients: BTreeMap<String, u64>,
    /// In all.
    pub total: u64,
}

/// A fact about a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its place in the journal.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// What, as `message.sent`.
    pub kind: String,
    /// The recipient concerned.
    pub recipient: Option<String>,
    /// The channel concerned.
    pub channel: Option<String>,
    /// The reason or the reply.
    pub detail: String,
}

/// What `apply` did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Nothing was written.
    pub dry_run: bool,
    /// Each entry that changes.
    pub changes: Vec<Change>,
    /// Entries that stay as they are.
    pub unchanged: u64,
    /// Secrets made for new tokens: shown here and never again.
    pub made_tokens: Vec<MadeToken>,
}

/// One change of the directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// `team`, `person`, `channel` or `token`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// `added`, `changed` or `disabled`.
    pub action: String,
    /// The fields that change.
    pub fields: Vec<String>,
}

/// A secret that was made.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeToken {
    /// The person who signs in with it.
    pub person: String,
    /// The token's name.
    pub name: String,
    /// The secret.
    pub secret: String,
}

impl std::fmt::Debug for MadeToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MadeToken {{ person: {:?}, name: {:?}, secret: *** }}", self.person, self.name)
    }
}

/// How the gateway is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// The name in EHLO.
    pub hostname: String,
    /// The data folder.
    pub data_dir: String,
    /// Since when it runs.
    pub started_at: Timestamp,
    /// Its clock at the time of the answer.
    pub now: Timestamp,
    /// Why it takes no mail; `None` while it does.
    pub refusing: Option<String>,
    /// Where it listens.
    pub listeners: Vec<ListenerView>,
    /// How reports and notices leave, for people; `None` while they are only shown.
    #[serde(default)]
    pub notices: Option<String>,
    /// Why no report or notice leaves although that is set up.
    #[serde(default)]
    pub notices_trouble: Option<String>,
    /// Recipients accepted since the folder began.
    pub accepted: u64,
    /// The same by state; adds up to `accepted`.
    pub recipients: BTreeMap<String, u64>,
    /// Messages with an open recipient.
    pub open_messages: u64,
    /// Bytes of their bodies.
    pub open_bytes: u64,
    /// Channels that do not work at this moment.
    pub channels_in_trouble: Vec<Trouble>,
}

/// One address the gateway listens on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerView {
    /// `submission`, `http` or `socket`.
    pub service: String,
    /// Address and port, or `unix:/path`.
    pub address: String,
    /// `starttls`, `implicit` or `none`.
    pub tls: String,
}

/// A channel that does not work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// Its name.
    pub channel: String,
    /// Its state.
    pub state: String,
    /// Why.
    pub reason: String,
    /// When it is tried again; `None` when a person must act.
    pub next_try: Option<Timestamp>,
}

/// An error, as RFC 9457 has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemBody {
    /// A page about the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The status.
    pub status: u16,
    /// What happened, why, and what to do.
    pub detail: String,
    /// The path of the request.
    pub instance: String,
    /// For programs; never changes its meaning.
    pub code: String,
    /// For the log.
    pub request_id: String,
    /// Who found it: `gateway` or `provider`.
    pub source: String,
    /// Each single problem.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// Seconds after which a repetition may help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u32>,
}

/// One problem of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldError {
    /// Where, as a JSON Pointer; query parameters stand under `/query`, header fields under `/header`.
    pub pointer: String,
    /// For programs.
    pub code: String,
    /// In words.
    pub detail: String,
}
