//! A channel: a way out, with its owner, its endpoint, who may use it, and its state.

use crate::id::{ChannelId, PersonId, TeamId};
use crate::limits::{Caps, Limit};
use crate::pace::Reserve;
use crate::time::Timestamp;
use smtp::Mailbox;
use std::collections::BTreeMap;

/// A way out. The credential itself is not here: the directory keeps it sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Its row.
    pub id: ChannelId,
    /// Its name, unique in the installation.
    pub name: String,
    /// Who owns it.
    pub owner: Owner,
    /// Where mail goes.
    pub transport: Transport,
    /// What one credential stands for.
    pub scope: Scope,
    /// The connected address, for address scope; the owner's own channel for a From is found by it.
    pub address: Option<Mailbox>,
    /// Domains whose From it may carry.
    pub domains: Vec<DomainPattern>,
    /// The owner's default.
    pub default: bool,
    /// Switched off in the directory.
    pub disabled: bool,
    /// Caps on connections and messages.
    pub caps: Caps,
    /// What its provider allows in sliding windows.
    pub limits: Vec<Limit>,
    /// The share of each window that bulk leaves to people.
    pub reserve: Reserve,
    /// The provider does not count what it refuses before the data.
    pub refusals_free: bool,
    /// What follows a final dot without reply.
    pub on_uncertain: OnUncertain,
    /// Which reverse-path the next hop sees.
    pub return_path: ReturnPath,
    /// Whose replies the next hop speaks, as [`crate::classify::Rules`] knows them.
    pub provider: Option<String>,
    /// Goes up with each change of the row, the credential included: connections are not reused over it.
    pub revision: u64,
}

impl Channel {
    /// The provider and login behind it: what is spent belongs to it, whichever channel spent it.
    ///
    /// A login is one account on all ports of its host; without a login the host and port are the account.
    #[must_use]
    pub fn account(&self) -> String {
        match &self.transport {
            Transport::Smtp(Smarthost { host, username: Some(username), .. }) => {
                format!("{} at {}", username.to_lowercase(), host.to_lowercase())
            }
            Transport::Smtp(Smarthost { host, port, username: None, .. }) => format!("{}:{port}", host.to_lowercase()),
            Transport::Capture => format!("capture {}", self.id),
        }
    }
}

/// Whose a channel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// One person's.
    Person(PersonId),
    /// A team's.
    Team(TeamId),
    /// The operator's shared pool.
    Instance,
}

/// How mail leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// SMTP to a smarthost.
    Smtp(Smarthost),
    /// Kept here, and shown.
    Capture,
}

impl Transport {
    /// The word used in directory files and answers.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Smtp(_) => "smtp",
            Self::Capture => "capture",
        }
    }
}

/// A next hop we are given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smarthost {
    /// Name or address literal, as given.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: TlsMode,
    /// How it signs in.
    pub auth: AuthMode,
    /// The login, when it signs in.
    pub username: Option<String>,
}

/// How a connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TlsMode {
    /// TLS before the greeting (RFC 8314).
    Implicit,
    /// STARTTLS, required (RFC 3207).
    Starttls,
    /// Clear text, only to hosts the operator named.
    None,
}

/// How a channel signs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthMode {
    /// The best mechanism both sides know.
    Auto,
    /// PLAIN (RFC 4616).
    Plain,
    /// LOGIN.
    Login,
    /// No login.
    None,
}

/// What one credential stands for; decides who may share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Exactly the connected address.
    Address,
    /// The domains on the channel's list.
    Domain,
    /// One account at a service; the domains on the channel's list.
    Account,
}

/// A domain a channel or a grant covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DomainPattern {
    /// `*`: any From of the owner or team, domains confirmed as another team's excepted.
    Any,
    /// One domain, lower case A-labels.
    Domain(String),
}

/// What follows a final dot without reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnUncertain {
    /// One more try after a delay; a second uncertain one holds.
    #[default]
    Retry,
    /// Held for a person at once.
    Ask,
}

/// Which reverse-path the next hop sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReturnPath {
    /// What the submitter gave.
    #[default]
    Submitted,
    /// The author's address (the first From mailbox); `<>` stays `<>`.
    From,
}

/// The health of a channel. It parks the channel as a whole; its messages are not touched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ChannelState {
    /// Never yet seen to work; mail goes.
    #[default]
    Unverified,
    /// Works.
    Active,
    /// Stopped by a person.
    Paused {
        /// Who.
        by: String,
    },
    /// Stopped until a time because of a limit.
    Throttled {
        /// When it goes on.
        until: Timestamp,
        /// In words, with the provider's text.
        reason: String,
        /// How many limit replies in a row: one message is tried when the time has come.
        replies: u32,
    },
    /// The next hop could not be reached or spoken to; backing off.
    Unreachable {
        /// When it is tried again.
        until: Timestamp,
        /// How many tries in a row failed.
        failures: u32,
        /// In words.
        reason: String,
    },
    /// A login was refused once; one confirming try follows.
    LoginRefused {
        /// When it is tried again.
        until: Timestamp,
        /// The provider's words.
        reason: String,
    },
    /// A person must act; no further logins until then.
    NeedsAttention {
        /// What is wrong, with the provider's text.
        reason: String,
        /// The channel's revision that failed: a newer one clears the state.
        revision: u64,
    },
    /// Switched off.
    Disabled,
}

/// What can happen to a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelMove {
    /// A session was opened: greeted, protected, signed in.
    Opened,
    /// A session could not be opened, for a reason that is no login refusal.
    OpenFailed {
        /// When to try again.
        until: Timestamp,
        /// In words.
        reason: String,
    },
    /// The login was refused for good (5xx at AUTH).
    LoginRefused {
        /// When a confirming try may follow.
        confirm_at: Timestamp,
        /// The provider's words.
        reason: String,
        /// The revision whose credential was refused.
        revision: u64,
    },
    /// A reply said that a limit is reached: nothing leaves until then, and then one message.
    Throttled {
        /// When one message is tried.
        until: Timestamp,
        /// The provider's words.
        reason: String,
    },
    /// A reply said that a person must act.
    Attention {
        /// The provider's words.
        reason: String,
        /// The revision that was refused.
        revision: u64,
    },
    /// The next hop took a message.
    Accepted,
    /// The directory row changed: another host, another credential.
    Changed {
        /// It is another account now: what a limit reply said was about the old one.
        other_account: bool,
    },
    /// A person pauses it.
    Pause {
        /// Who.
        by: String,
    },
    /// A person resumes it, or asks for another try.
    Resume,
    /// The directory switches it off.
    Disable,
    /// The directory switches it on again.
    Enable,
}

impl ChannelState {
    /// The state after `what`, exhaustively. `None` means that nothing changes.
    #[must_use]
    pub fn after(&self, what: ChannelMove) -> Option<Self> {
        match what {
            ChannelMove::Opened => self.after_opened(),
            ChannelMove::OpenFailed { until, reason } => self.after_failure(until, reason),
            ChannelMove::LoginRefused { confirm_at, reason, revision } => self.after_login_refused(confirm_at, reason, revision),
            ChannelMove::Throttled { until, reason } => self.after_limit(until, reason),
            ChannelMove::Attention { reason, revision } => match self {
                Self::Unverified | Self::Active | Self::Throttled { .. } | Self::Unreachable { .. } | Self::LoginRefused { .. } => {
                    Some(Self::NeedsAttention { reason, revision })
                }
                Self::Paused { .. } | Self::NeedsAttention { .. } | Self::Disabled => None,
            },
            ChannelMove::Accepted => match self {
                Self::Unverified | Self::Throttled { .. } | Self::Unreachable { .. } => Some(Self::Active),
                // A session that was open before the refusal proves nothing about the next login.
                Self::LoginRefused { .. } => None,
                Self::Active | Self::Paused { .. } | Self::NeedsAttention { .. } | Self::Disabled => None,
            },
            ChannelMove::Changed { other_account } => match self {
                Self::Throttled { .. } if !other_account => None,
                Self::Throttled { .. } => Some(Self::Unverified),
                Self::Unreachable { .. } | Self::LoginRefused { .. } | Self::NeedsAttention { .. } => Some(Self::Unverified),
                Self::Active => Some(Self::Unverified),
                Self::Unverified | Self::Paused { .. } | Self::Disabled => None,
            },
            ChannelMove::Pause { by } => match self {
                Self::Disabled => None,
                Self::Paused { .. }
                | Self::Unverified
                | Self::Active
                | Self::Throttled { .. }
                | Self::Unreachable { .. }
                | Self::LoginRefused { .. }
                | Self::NeedsAttention { .. } => Some(Self::Paused { by }),
            },
            ChannelMove::Resume => match self {
                Self::Active | Self::Unverified | Self::Disabled => None,
                Self::Paused { .. }
                | Self::Throttled { .. }
                | Self::Unreachable { .. }
                | Self::LoginRefused { .. }
                | Self::NeedsAttention { .. } => Some(Self::Unverified),
            },
            ChannelMove::Disable => match self {
                Self::Disabled => None,
                Self::Unverified
                | Self::Active
                | Self::Paused { .. }
                | Self::Throttled { .. }
                | Self::Unreachable { .. }
                | Self::LoginRefused { .. }
                | Self::NeedsAttention { .. } => Some(Self::Disabled),
            },
            ChannelMove::Enable => match self {
                Self::Disabled => Some(Self::Unverified),
                Self::Unverified
                | Self::Active
                | Self::Paused { .. }
                | Self::Throttled { .. }
                | Self::Unreachable { .. }
                | Self::LoginRefused { .. }
                | Self::NeedsAttention { .. } => None,
            },
        }
    }

    /// The state after `what`, told about something that began before this state was entered. `None`: nothing changes.
    ///
    /// Several transactions that hit one limit are told so one after the other: the first reply leads here, and the
    /// others say no more than it did. They can put the next try off, but they are not counted as a further refusal,
    /// and what was accepted of such a burst does not end the wait.
    #[must_use]
    pub fn after_echo(&self, what: ChannelMove) -> Option<Self> {
        match (self, &what) {
            (Self::Throttled { .. }, ChannelMove::Throttled { until, .. } | ChannelMove::OpenFailed { until, .. })
            | (Self::Unreachable { .. }, ChannelMove::OpenFailed { until, .. })
            | (Self::LoginRefused { .. }, ChannelMove::OpenFailed { until, .. })
            | (Self::LoginRefused { .. }, ChannelMove::LoginRefused { confirm_at: until, .. }) => self.put_off(*until),
            (Self::LoginRefused { .. }, ChannelMove::Opened)
            | (Self::Throttled { .. } | Self::Unreachable { .. }, ChannelMove::Accepted) => None,
            _ => self.after(what),
        }
    }

    fn put_off(&self, later: Timestamp) -> Option<Self> {
        let mut after = self.clone();
        match &mut after {
            Self::Throttled { until, .. } | Self::Unreachable { until, .. } | Self::LoginRefused { until, .. }
                if *until < later =>
            {
                *until = later;
                Some(after)
            }
            _ => None,
        }
    }

    fn after_opened(&self) -> Option<Self> {
        match self {
            Self::Unverified | Self::Unreachable { .. } | Self::LoginRefused { .. } => Some(Self::Active),
            Self::Active | Self::Paused { .. } | Self::Throttled { .. } | Self::NeedsAttention { .. } | Self::Disabled => None,
        }
    }

    fn after_failure(&self, until: Timestamp, reason: String) -> Option<Self> {
        match self {
            Self::Unverified | Self::Active => Some(Self::Unreachable { until, failures: 1, reason }),
            Self::Unreachable { failures, .. } => Some(Self::Unreachable { until, failures: failures.saturating_add(1), reason }),
            // The refusal is remembered: the confirming try is still owed.
            Self::LoginRefused { reason: refused, .. } => Some(Self::LoginRefused { until, reason: refused.clone() }),
            // The limit is remembered: one message is still owed as a probe.
            Self::Throttled { reason: limit, replies, .. } => {
                Some(Self::Throttled { until, reason: limit.clone(), replies: *replies })
            }
            Self::Paused { .. } | Self::NeedsAttention { .. } | Self::Disabled => None,
        }
    }

    fn after_limit(&self, until: Timestamp, reason: String) -> Option<Self> {
        match self {
            Self::Unverified | Self::Active | Self::Unreachable { .. } => Some(Self::Throttled { until, reason, replies: 1 }),
            // The refusal is remembered: the confirming try is still owed, and no sooner than the limit allows.
            Self::LoginRefused { until: confirm_at, reason } => {
                Some(Self::LoginRefused { until: until.max(*confirm_at), reason: reason.clone() })
            }
            Self::Throttled { replies, .. } => Some(Self::Throttled { until, reason, replies: replies.saturating_add(1) }),
            Self::Paused { .. } | Self::NeedsAttention { .. } | Self::Disabled => None,
        }
    }

    fn after_login_refused(&self, confirm_at: Timestamp, reason: String, revision: u64) -> Option<Self> {
        match self {
            Self::Unverified | Self::Active | Self::Throttled { .. } | Self::Unreachable { .. } => {
                Some(Self::LoginRefused { until: confirm_at, reason })
            }
            Self::LoginRefused { .. } => Some(Self::NeedsAttention { reason, revision }),
            Self::Paused { .. } | Self::NeedsAttention { .. } | Self::Disabled => None,
        }
    }

    /// From when on mail may be tried: `Ok(())` now, `Err(Some(t))` at `t`, `Err(None)` when a person acts.
    ///
    /// # Errors
    /// As said: the channel is parked.
    pub fn open_at(&self, now: Timestamp) -> Result<(), Option<Timestamp>> {
        match self {
            Self::Unverified | Self::Active => Ok(()),
            Self::Throttled { until, .. } | Self::Unreachable { until, .. } | Self::LoginRefused { until, .. } => {
                if *until <= now {
                    Ok(())
                } else {
                    Err(Some(*until))
                }
            }
            Self::Paused { .. } | Self::NeedsAttention { .. } | Self::Disabled => Err(None),
        }
    }

    /// True while no login has succeeded since the last failure: one session at a time until one has.
    #[must_use]
    pub fn is_probing(&self) -> bool {
        match self {
            Self::Active => false,
            Self::Unverified
            | Self::Paused { .. }
            | Self::Throttled { .. }
            | Self::Unreachable { .. }
            | Self::LoginRefused { .. }
            | Self::NeedsAttention { .. }
            | Self::Disabled => true,
        }
    }

    /// The word used in answers and logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unverified => "unverified",
            Self::Active => "active",
            Self::Paused { .. } => "paused",
            Self::Throttled { .. } => "throttled",
            Self::Unreachable { .. } => "unreachable",
            Self::LoginRefused { .. } => "confirming",
            Self::NeedsAttention { .. } => "needs_attention",
            Self::Disabled => "disabled",
        }
    }

    /// Why, in words; empty for a channel that works.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Unverified | Self::Active | Self::Disabled => "",
            Self::Paused { by } => by,
            Self::Throttled { reason, .. }
            | Self::Unreachable { reason, .. }
            | Self::LoginRefused { reason, .. }
            | Self::NeedsAttention { reason, .. } => reason,
        }
    }
}

/// What a channel keeps back for its own sake, and since when it has not worked: it outlives a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The directory row's revision at which the provider said so: a changed row lets all of it go.
    pub revision: u64,
    /// People whose mail stays, and why.
    pub people: BTreeMap<PersonId, String>,
    /// Senders that the provider refuses: their mail is held.
    pub senders: BTreeMap<Sender, SenderRefused>,
    /// When it was last active, by the steady clock; `None` while it is.
    pub down_since: Option<Timestamp>,
}

/// Whose mail a provider refuses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sender {
    /// Of whom.
    pub person: PersonId,
    /// Its author, as [`Mailbox::key`] writes it.
    pub author: String,
    /// The reverse-path, written so too, where nothing else had been seen of the message; empty for `<>`.
    pub path: Option<String>,
}

/// What a provider said of a sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SenderRefused {
    /// The address that it does not let the channel send as.
    pub address: String,
    /// Its words.
    pub said: String,
}

impl Kept {
    /// Lets go what is kept back.
    pub fn forgive(&mut self) {
        self.people.clear();
        self.senders.clear();
    }

    /// Follows the channel's state: the time begins when it stops working, and ends when it is active again. A try that
    /// is about to be made is neither.
    pub fn follow(&mut self, state: &ChannelState, now: Timestamp) {
        match state {
            ChannelState::Active => self.down_since = None,
            ChannelState::Unverified => {}
            ChannelState::Paused { .. }
            | ChannelState::Throttled { .. }
            | ChannelState::Unreachable { .. }
            | ChannelState::LoginRefused { .. }
            | ChannelState::NeedsAttention { .. }
            | ChannelState::Disabled => self.down_since = self.down_since.or(Some(now)),
        }
    }
}

#[cfg(test)]
mod tests;
