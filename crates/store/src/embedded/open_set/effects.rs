//! Everything that a record does to the open set, as the index and those who wait learn it.

use super::super::record::{Base, CarriedKey, Forgotten, Meta};
use super::Place;
use crate::api::{Party, Spend, Suppression};
use crate::body::FileId;
use mail::channel::{ChannelState, Kept};
use mail::pace::{Lessons, Spent};
use mail::steady::{Credit, Heartbeat};
use mail::{ChannelId, EventKind, Lane, MessageId, Move, PersonId, RecipientState, TeamId, Timestamp};

/// The new values of one recipient.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub message: MessageId,
    pub index: u32,
    pub state: RecipientState,
    pub intended: bool,
    pub since: Timestamp,
    pub attempts: u16,
    pub doubts: u8,
    pub due: Timestamp,
    pub first_attempt: Timestamp,
    /// `None`: the words said before stay.
    pub said: Option<String>,
    pub relay: Option<String>,
}

/// A fact, before it has its place in the journal.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    pub kind: EventKind,
    pub at: Timestamp,
    pub message: Option<MessageId>,
    pub recipient: Option<u32>,
    pub channel: Option<ChannelId>,
    pub detail: String,
}

/// Whose mail of which channel recipients are counted under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Group {
    pub person: PersonId,
    pub team: Option<TeamId>,
    pub channel: ChannelId,
}

/// Everything a record did.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub new: Option<(Box<Meta>, Place)>,
    pub changes: Vec<Change>,
    pub facts: Vec<Fact>,
    pub channel: Option<(ChannelId, ChannelState)>,
    pub lessons: Option<(ChannelId, Lessons)>,
    pub kept: Option<(ChannelId, Kept)>,
    pub heartbeat: Option<Heartbeat>,
    pub credit: Option<Credit>,
    /// What the open transactions of a message spend from now on; nothing when none is left.
    pub spending: Option<(MessageId, Option<Spend>)>,
    /// The file of a body whose message ended, when it is kept for a while.
    pub resting: Option<(FileId, Timestamp)>,
    /// The file of a body that nobody will ask for any more.
    pub spare: Option<FileId>,
    pub spent: Option<Spent>,
    pub suppressed: Vec<Suppression>,
    pub unsuppressed: Option<(Party, String)>,
    pub rerouted: Option<(MessageId, ChannelId)>,
    /// Where a message that is known stands from now on.
    pub relocated: Option<(MessageId, Place)>,
    /// The sequence under which the new message was accepted.
    pub order: u64,
    /// The state beside messages, as a whole.
    pub base: Option<Box<Base>>,
    pub keys: Vec<CarriedKey>,
    /// What is forgotten of ended mail.
    pub forgotten: Option<Box<Forgotten>>,
    /// With the sequence of the record that said it first.
    pub carried_spent: Vec<(u64, Spent)>,
    pub accepted: u64,
    /// The message of which nothing is open any more.
    pub ended: Option<MessageId>,
    /// The segment that had it, and when it ended, by the last heartbeat.
    pub ended_in: Option<(u32, Timestamp)>,
    /// From state, to state, as the log knows them, of each change.
    pub moved: Vec<(RecipientState, RecipientState)>,
    /// Where known messages were counted before.
    pub counted: [Option<(MessageId, Group)>; 2],
    /// For a message that changes its channel: the states of its recipients before.
    pub before: Vec<RecipientState>,
    pub wakes: Vec<Wakeup>,
}

/// Mail of a lane that is due then.
pub(crate) type Wakeup = (ChannelId, Lane, Timestamp);

/// The replies that taught something new.
pub(super) fn taught(before: &Lessons, after: &Lessons) -> Vec<String> {
    let pace = after.pace.as_ref().filter(|pace| before.pace.as_ref().is_none_or(|known| known.taught_at != pace.taught_at));
    let pace = pace.map(|pace| format!("{} messages a minute: {}", pace.per_minute, pace.said));
    let cap = after.cap.as_ref().filter(|cap| before.cap.as_ref().is_none_or(|known| known.taught_at != cap.taught_at));
    let cap = cap.map(|cap| format!("{} connections: {}", cap.connections, cap.said));
    pace.into_iter().chain(cap).collect()
}

/// The event that a move is, if it is one.
pub(super) fn kind_of(what: Move) -> Option<EventKind> {
    match what {
        Move::Lease => None,
        Move::GiveBack => Some(EventKind::MessageKept),
        Move::Send => Some(EventKind::MessageSent),
        Move::Capture => Some(EventKind::MessageCaptured),
        Move::Defer => Some(EventKind::MessageDeferred),
        Move::Doubt => Some(EventKind::MessageUncertain),
        Move::Fail => Some(EventKind::MessageFailed),
        Move::Expire => Some(EventKind::MessageExpired),
        Move::Hold => Some(EventKind::MessageHeld),
        Move::Release => Some(EventKind::MessageReleased),
        Move::Cancel => Some(EventKind::MessageCancelled),
        Move::Suppress => Some(EventKind::MessageSuppressed),
        Move::Reroute => Some(EventKind::MessageMoved),
    }
}

pub(super) fn word(what: Move) -> &'static str {
    match what {
        Move::Hold => "held",
        Move::Release => "released",
        Move::Cancel => "cancelled",
        Move::Suppress => "suppressed",
        Move::Reroute => "moved",
        _ => "changed",
    }
}

pub(super) fn channel_kind(before: &ChannelState, after: &ChannelState) -> Option<EventKind> {
    if before.name() == after.name() {
        return None;
    }
    match after {
        ChannelState::Active => Some(EventKind::ChannelConnected),
        ChannelState::Unverified => Some(EventKind::ChannelResumed),
        ChannelState::Paused { .. } => Some(EventKind::ChannelPaused),
        ChannelState::Throttled { .. } => Some(EventKind::ChannelThrottled),
        ChannelState::Unreachable { .. } | ChannelState::LoginRefused { .. } => Some(EventKind::ChannelUnreachable),
        ChannelState::NeedsAttention { .. } => Some(EventKind::ChannelNeedsAttention),
        ChannelState::Disabled => Some(EventKind::ChannelDisabled),
    }
}
