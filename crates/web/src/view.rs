//! What the API answers, as values: written by the gateway, read by its command line.
//!
//! Fields are only ever added. Times are RFC 3339 with offset.

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
    /// Newest first.
    pub data: Vec<T>,
    /// There are more beyond the last.
    pub has_more: bool,
    /// For `after`: the page behind this one.
    pub next: Option<String>,
    /// For `before`: the page in front of this one.
    pub prev: Option<String>,
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

/// The answer to cancel, hold and release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Steered {
    /// The message.
    pub id: String,
    /// Recipients that were moved.
    pub moved: Vec<String>,
    /// Recipients left alone, with the state they are in.
    pub left: BTreeMap<String, RecipientState>,
}

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
    /// When the next one is due.
    pub next_due: Option<Timestamp>,
    /// Acceptance of the oldest.
    pub oldest: Option<Timestamp>,
    /// Why the channel's mail waits, when it is the channel.
    pub reason: String,
    /// What waits in each lane that has mail, `now` first.
    #[serde(default)]
    pub lanes: Vec<QueueLane>,
    /// What the open mail waits for, summed.
    #[serde(default)]
    pub causes: Vec<QueueCause>,
    /// When the last message would start, by estimate; `None` where nobody can say.
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
    /// When the next one may start; `None` while a person, or the end of a transaction, is waited for.
    pub next_slot: Option<Timestamp>,
    /// When the last one would start, by estimate; `None` where nobody can say.
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

/// One channel. Its credential is shown nowhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// Its name.
    pub name: String,
    /// `person:ADDRESS`, `team:NAME` or `instance`.
    pub owner: String,
    /// `smtp` or `capture`.
    pub transport: String,
    /// Host and port, for SMTP.
    pub next_hop: Option<String>,
    /// `implicit`, `starttls` or `none`, for SMTP.
    pub tls: Option<mail::channel::TlsMode>,
    /// The login's user name, for SMTP.
    pub username: Option<String>,
    /// What one credential stands for.
    pub scope: mail::channel::Scope,
    /// The connected address.
    pub address: Option<String>,
    /// Domains it may carry.
    pub domains: Vec<String>,
    /// The owner's default.
    pub default: bool,
    /// Most connections at once.
    pub connections: u32,
    /// Most messages on one connection.
    pub messages_per_connection: Option<u32>,
    /// Whose replies its next hop speaks.
    pub provider: Option<String>,
    /// Its state.
    pub state: String,
    /// Why, in words.
    pub reason: String,
    /// When it is tried again, for a state that ends by itself.
    pub next_try: Option<Timestamp>,
}

/// One channel, with what it is held to and what happened to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelDetail {
    /// The channel.
    #[serde(flatten)]
    pub channel: Channel,
    /// Connections allowed at this moment, after what replies taught.
    #[serde(default)]
    pub connections_now: u32,
    /// Its limits and their use.
    #[serde(default)]
    pub limits: Vec<LimitView>,
    /// What replies taught, and the replies.
    #[serde(default)]
    pub learned: Vec<LearnedView>,
    /// People whose mail is kept back, by address, and why.
    #[serde(default)]
    pub people_kept_back: BTreeMap<String, String>,
    /// From addresses that the provider refuses, and its words: their mail is held.
    #[serde(default)]
    pub refused_froms: BTreeMap<String, String>,
    /// The latest of its history, newest first.
    #[serde(default)]
    pub history: Vec<Event>,
}

/// A limit of a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitView {
    /// As it is written in a directory file.
    pub limit: String,
    /// Units in its window, open transactions included.
    pub used: u64,
    /// Units it allows.
    pub count: u64,
    /// When one more message fits; `None` when it does now, or when an open transaction must end first.
    pub frees_at: Option<Timestamp>,
    /// It was learned from a reply.
    pub learned: bool,
}

/// A limit that a reply taught.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LearnedView {
    /// What holds now.
    pub now: String,
    /// What held before, and will again.
    pub before: String,
    /// When the last reply came.
    pub taught_at: Timestamp,
    /// The reply; empty for those who have no charge of the channel.
    pub said: String,
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

/// How a channel did in a test.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestReport {
    /// True when every step went well.
    pub ok: bool,
    /// Each step tried.
    pub steps: Vec<TestStep>,
}

/// One step of a channel test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestStep {
    /// What was done.
    pub step: String,
    /// It went well.
    pub ok: bool,
    /// How long it took.
    pub elapsed_ms: u64,
    /// What was found, or what is wrong.
    pub detail: String,
    /// What to do about it; empty when it went well.
    pub fix: String,
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
