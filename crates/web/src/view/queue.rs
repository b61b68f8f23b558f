//! What waits and until when, in answers.

use mail::{Lane, Timestamp};
use serde::{Deserialize, Serialize};

/// Open mail of one channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueLine {
    /// The channel.
    pub channel: String,
    /// Its state.
    pub state: String,
    /// Recipients queued.
    pub queued: u64,
    /// Recipients in the hands of a delivery.
    pub leased: u64,
    /// Recipients that wait for a person.
    pub held: u64,
    /// Bytes of bodies.
    pub bytes: u64,
    /// When the next one may start; `None` while a person, or the end of a transaction, is waited for.
    pub next_due: Option<Timestamp>,
    /// Acceptance of the oldest.
    pub oldest: Option<Timestamp>,
    /// Why the channel's mail waits, when it is the channel; or whose mail it keeps back.
    pub reason: String,
    /// What waits in each lane that has mail, `now` first.
    #[serde(default)]
    pub lanes: Vec<QueueLane>,
    /// What the open mail waits for, summed.
    #[serde(default)]
    pub causes: Vec<QueueCause>,
    /// When the last message that waits for no person would start, by estimate; `None` where nobody can say.
    #[serde(default)]
    pub finishes_at: Option<Timestamp>,
}

/// What waits in one lane of a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueLane {
    /// The lane.
    pub lane: Lane,
    /// Messages with a recipient that is queued.
    pub messages: u64,
    /// Their queued recipients.
    pub recipients: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// Messages among these that are not due yet.
    pub later: u64,
    /// Messages among those that wait for the time they are scheduled for.
    #[serde(default)]
    pub scheduled: u64,
    /// Messages among these that wait for a person, since the channel keeps their sender's mail back.
    #[serde(default)]
    pub kept_back: u64,
    /// When the next one may start; `None` while a person, or the end of a transaction, is waited for.
    pub next_slot: Option<Timestamp>,
    /// When the last one that waits for no person would start, by estimate; `None` where nobody can say.
    pub finishes_at: Option<Timestamp>,
}

/// How much of a channel's open mail waits for one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueCause {
    /// What for.
    pub kind: mail::WaitingKind,
    /// Messages that are queued; recipients for `delivery` and `person`.
    pub count: u64,
}

/// What an estimate is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EstimateRequest {
    /// On this channel,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// or on the one by which mail from this address leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// In this lane; `normal` when left out.
    #[serde(default)]
    pub lane: Lane,
    /// So many messages, at least one.
    pub messages: u64,
    /// Recipients of each; one when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipients: Option<u64>,
    /// Bytes of each; 10,000 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// When mail that is not sent yet would be through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estimate {
    /// The channel.
    pub channel: String,
    /// The lane.
    pub lane: Lane,
    /// Messages asked about.
    pub messages: u64,
    /// Transactions they need.
    pub transactions: u64,
    /// Messages of this and more urgent lanes that go before them.
    pub ahead: u64,
    /// When the first would start; `None` while the channel waits for a person.
    pub starts_at: Option<Timestamp>,
    /// When the last would start; `None` while the channel waits for a person.
    pub finishes_at: Option<Timestamp>,
    /// The same in words.
    pub text: String,
}
