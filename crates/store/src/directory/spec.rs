//! A channel's settings, as the database keeps them.

use mail::channel::{AuthMode, OnUncertain, ReturnPath, Scope, TlsMode};
use mail::limits::Limit;
use serde::{Deserialize, Serialize};

/// A channel's row, but for its owner and its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ChannelSpec {
    pub transport: String,
    pub host: String,
    pub port: u16,
    pub tls: TlsMode,
    pub auth: AuthMode,
    pub username: Option<String>,
    pub scope: Scope,
    pub address: Option<String>,
    pub domains: Vec<String>,
    pub default: bool,
    pub connections: u32,
    pub messages_per_connection: Option<u32>,
    #[serde(default)]
    pub recipients_per_message: Option<u32>,
    #[serde(default)]
    pub message_size: Option<u64>,
    #[serde(default)]
    pub limits: Vec<Limit>,
    /// In thousandths.
    #[serde(default = "usual_reserve")]
    pub reserve: u16,
    #[serde(default)]
    pub refusals_free: bool,
    pub on_uncertain: OnUncertain,
    pub return_path: ReturnPath,
    #[serde(default)]
    pub provider: Option<String>,
}

fn usual_reserve() -> u16 {
    mail::pace::Reserve::default().0
}
