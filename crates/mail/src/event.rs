//! Facts about messages and channels, in order: what webhooks, live pages and metrics read.

use crate::id::{ChannelId, MessageId};
use crate::time::Timestamp;

/// One fact. The journal gives `sequence`; it only grows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Place in the journal.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// What happened.
    pub kind: EventKind,
    /// The message it is about.
    pub message: Option<MessageId>,
    /// The recipient's place in the envelope, where it is about one.
    pub recipient: Option<u32>,
    /// The channel concerned.
    pub channel: Option<ChannelId>,
    /// The reason or the reply, in words.
    pub detail: String,
}

/// What happened. The numbers stand in the log and never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EventKind {
    /// Accepted: durable, and ours to deliver or report.
    MessageQueued = 1,
    /// A capture channel kept it.
    MessageCaptured = 2,
    /// The final reply was lost.
    MessageUncertain = 3,
    /// Waits for a person.
    MessageHeld = 4,
    /// A person let it go on.
    MessageReleased = 5,
    /// An attempt did not send; again later.
    MessageDeferred = 6,
    /// The next hop took it.
    MessageSent = 7,
    /// Known to have arrived.
    MessageDelivered = 8,
    /// Came back after it was sent.
    MessageBounced = 9,
    /// Its reader complained.
    MessageComplained = 10,
    /// Must not be written to.
    MessageSuppressed = 11,
    /// Given up.
    MessageFailed = 12,
    /// Its lifetime is over.
    MessageExpired = 13,
    /// A person took it back.
    MessageCancelled = 14,
    /// Its reader unsubscribed.
    MessageUnsubscribed = 15,
    /// It goes by another channel.
    MessageMoved = 16,
    /// A person retries a failed recipient.
    MessageRetried = 17,
    /// The next hop's reply was about the channel, or about others: it stays queued, and no attempt is spent.
    MessageKept = 18,
    /// A session was opened after trouble, or for the first time.
    ChannelConnected = 32,
    /// Stopped by a person.
    ChannelPaused = 33,
    /// Let go on by a person, or by itself.
    ChannelResumed = 34,
    /// Near a limit.
    ChannelLimitApproaching = 35,
    /// At a limit.
    ChannelLimitReached = 36,
    /// A person must act.
    ChannelNeedsAttention = 37,
    /// The next hop cannot be reached.
    ChannelUnreachable = 38,
    /// Slowed by the provider.
    ChannelThrottled = 39,
    /// Its token runs out.
    ChannelTokenExpiring = 40,
    /// The provider no longer lets it send as an address.
    ChannelSenderRevoked = 41,
    /// Switched off.
    ChannelDisabled = 42,
    /// Its fallback was used.
    ChannelFallbackUsed = 43,
    /// A limit was learned from a reply.
    ChannelLimitLearned = 44,
    /// Mail of one person is kept back: many of their recipients in a row were refused.
    ChannelPersonPaused = 45,
    /// That mail goes on.
    ChannelPersonResumed = 46,
    /// A sender that the provider refused is tried again.
    ChannelSenderRestored = 47,
    /// A bulk send began.
    JobStarted = 64,
    /// A bulk send was paused.
    JobPaused = 65,
    /// A bulk send went on.
    JobProgress = 66,
    /// A bulk send ended.
    JobCompleted = 67,
    /// An address was forgotten in mail that had ended.
    AddressForgotten = 80,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 39] = [
        Self::MessageQueued,
        Self::MessageCaptured,
        Self::MessageUncertain,
        Self::MessageHeld,
        Self::MessageReleased,
        Self::MessageDeferred,
        Self::MessageSent,
        Self::MessageDelivered,
        Self::MessageBounced,
        Self::MessageComplained,
        Self::MessageSuppressed,
        Self::MessageFailed,
        Self::MessageExpired,
        Self::MessageCancelled,
        Self::MessageUnsubscribed,
        Self::MessageMoved,
        Self::MessageRetried,
        Self::MessageKept,
        Self::ChannelConnected,
        Self::ChannelPaused,
        Self::ChannelResumed,
        Self::ChannelLimitApproaching,
        Self::ChannelLimitReached,
        Self::ChannelNeedsAttention,
        Self::ChannelUnreachable,
        Self::ChannelThrottled,
        Self::ChannelTokenExpiring,
        Self::ChannelSenderRevoked,
        Self::ChannelDisabled,
        Self::ChannelFallbackUsed,
        Self::ChannelLimitLearned,
        Self::ChannelPersonPaused,
        Self::ChannelPersonResumed,
        Self::ChannelSenderRestored,
        Self::JobStarted,
        Self::JobPaused,
        Self::JobProgress,
        Self::JobCompleted,
        Self::AddressForgotten,
    ];

    /// The number in the log.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The kind of a number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// The name used by the API and webhooks.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MessageQueued => "message.queued",
            Self::MessageCaptured => "message.captured",
            Self::MessageUncertain => "message.uncertain",
            Self::MessageHeld => "message.held",
            Self::MessageReleased => "message.released",
            Self::MessageDeferred => "message.deferred",
            Self::MessageSent => "message.sent",
            Self::MessageDelivered => "message.delivered",
            Self::MessageBounced => "message.bounced",
            Self::MessageComplained => "message.complained",
            Self::MessageSuppressed => "message.suppressed",
            Self::MessageFailed => "message.failed",
            Self::MessageExpired => "message.expired",
            Self::MessageCancelled => "message.cancelled",
            Self::MessageUnsubscribed => "message.unsubscribed",
            Self::MessageMoved => "message.moved",
            Self::MessageRetried => "message.retried",
            Self::MessageKept => "message.kept",
            Self::ChannelConnected => "channel.connected",
            Self::ChannelPaused => "channel.paused",
            Self::ChannelResumed => "channel.resumed",
            Self::ChannelLimitApproaching => "channel.limit_approaching",
            Self::ChannelLimitReached => "channel.limit_reached",
            Self::ChannelNeedsAttention => "channel.needs_attention",
            Self::ChannelUnreachable => "channel.unreachable",
            Self::ChannelThrottled => "channel.throttled",
            Self::ChannelTokenExpiring => "channel.token_expiring",
            Self::ChannelSenderRevoked => "channel.sender_revoked",
            Self::ChannelDisabled => "channel.disabled",
            Self::ChannelFallbackUsed => "channel.fallback_used",
            Self::ChannelLimitLearned => "channel.limit_learned",
            Self::ChannelPersonPaused => "channel.person_paused",
            Self::ChannelPersonResumed => "channel.person_resumed",
            Self::ChannelSenderRestored => "channel.sender_restored",
            Self::JobStarted => "job.started",
            Self::JobPaused => "job.paused",
            Self::JobProgress => "job.progress",
            Self::JobCompleted => "job.completed",
            Self::AddressForgotten => "address.forgotten",
        }
    }
}

/// Why an open message waits: one for each, in words a person understands.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct WaitingOn {
    /// The sort of reason.
    pub kind: WaitingKind,
    /// The reason in words.
    pub text: String,
    /// What ends the wait, in words.
    pub ends: String,
    /// When it will be tried; `None` when a person must act first.
    pub next_try: Option<Timestamp>,
}

/// The sort of reason. The numbers stand in the log and never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum WaitingKind {
    /// Its turn: others go first, or a connection is being opened.
    Turn = 1,
    /// It is being handed over.
    Delivery = 2,
    /// The retry after a deferred attempt.
    Retry = 3,
    /// The channel as a whole (paused, unreachable, needs attention, ...).
    Channel = 4,
    /// A free place in a limit of its channel.
    Pace = 5,
    /// The time it was scheduled for.
    Schedule = 6,
    /// A person: it is held.
    Person = 7,
    /// The second look after an uncertain hand-over.
    Uncertain = 8,
}
