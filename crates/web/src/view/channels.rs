//! Channels, in answers.

use super::Event;
use mail::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
    /// Senders that the provider refuses, and its words: their mail is held.
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
