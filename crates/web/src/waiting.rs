//! Why an open message waits: the reason in words, what ends it, and when it is tried.
//!
//! From values only. What the mail of a channel waits for comes as an [`Outlook`], where a message stands in its
//! lane as a [`Place`].

use crate::clocks::Clocks;
use crate::gateway::{LaneWait, Outlook, RefusedSender};
use mail::limits::{Limit, LimitScope};
use mail::pace::{Ahead, FromId, Why};
use mail::{ChannelState, Lane, PersonId, RecipientState, Timestamp, WaitingKind, WaitingOn};
use smtp::Mailbox;
use std::collections::HashSet;
use store::RecipientView;

/// A channel, to somebody who asks why its mail waits.
#[derive(Clone, Debug)]
pub struct Way {
    /// Its name.
    pub name: String,
    /// What its mail waits for.
    pub outlook: Outlook,
    /// The clocks at that moment.
    pub clocks: Clocks,
    /// The one who asks may read what the next hop said about the channel.
    pub words: bool,
}

/// The message of a recipient.
#[derive(Clone, Copy, Debug)]
pub struct Mail<'a> {
    /// Whose.
    pub person: PersonId,
    /// Its first author, as [`smtp::Mailbox::key`] writes it.
    pub author: &'a str,
    /// Its reverse-path as it was submitted, without brackets; empty for `<>`.
    pub reverse_path: &'a str,
    /// How urgent.
    pub lane: Lane,
    /// Where it stands, while it is queued.
    pub place: Option<Place>,
    /// Not before this time of the wall clock.
    pub scheduled_at: Option<Timestamp>,
    /// Not after this time of the wall clock.
    pub expires_at: Option<Timestamp>,
}

/// Where a message stands in its lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// What leaves before it, and itself.
    pub ahead: Ahead,
    /// When it would start, by the steady clock, as things stand; `None` where nobody can say.
    pub starts: Option<Timestamp>,
}

/// Why one recipient waits; `None` when nothing will change any more.
#[must_use]
pub fn of_recipient(recipient: &RecipientView, mail: &Mail<'_>, way: &Way) -> Option<WaitingOn> {
    match recipient.state {
        RecipientState::Queued => Some(of_queued(recipient, mail, way)),
        RecipientState::Leased => Some(waiting(
            WaitingKind::Delivery,
            format!("being handed over by channel '{}'", way.name),
            "the next hop's reply",
            Some(way.clocks.wall),
        )),
        RecipientState::Held => Some(of_held(recipient, mail, way)),
        RecipientState::Sent
        | RecipientState::Failed
        | RecipientState::Expired
        | RecipientState::Cancelled
        | RecipientState::Suppressed
        | RecipientState::Captured => None,
    }
}

/// Why a message waits: the reason of the recipient that will be tried first.
#[must_use]
pub fn of_message<'a>(reasons: impl Iterator<Item = &'a WaitingOn>) -> Option<WaitingOn> {
    reasons.min_by_key(|reason| (reason.kind != WaitingKind::Delivery, reason.next_try.is_none(), reason.next_try)).cloned()
}

fn of_held(recipient: &RecipientView, mail: &Mail<'_>, way: &Way) -> WaitingOn {
    let (reason, ends) = if let Some(RefusedSender { address, .. }) = refused_sender(mail, &way.outlook.refused_senders) {
        let reason = format!("held for a person: the provider of channel '{}' does not let it send as {address}", way.name);
        (reason, "the address is allowed at the provider, and somebody releases the message; or somebody cancels it")
    } else {
        ("held for a person".to_owned(), "somebody releases or cancels it")
    };
    waiting(WaitingKind::Person, with_words(&reason, &recipient.said), ends, None)
}

/// The refusal that is about the sender of this message.
fn refused_sender<'a>(mail: &Mail<'_>, refused: &'a [RefusedSender]) -> Option<&'a RefusedSender> {
    let mut of_its_person = refused.iter().filter(|one| one.person == mail.person).peekable();
    of_its_person.peek()?;
    let reverse_path = Mailbox::parse(mail.reverse_path).map(|mailbox| mailbox.key()).ok();
    of_its_person.find(|one| one.address == mail.author || Some(&one.address) == reverse_path.as_ref())
}

fn of_queued(recipient: &RecipientView, mail: &Mail<'_>, way: &Way) -> WaitingOn {
    let (now, state) = (way.clocks.steady, &way.outlook.state);
    let due = recipient.due.unwrap_or(now);
    let starts = mail.place.and_then(|place| place.starts);
    // Nothing leaves before it is due, and nothing before its turn.
    let tried = |at: Timestamp| Some(way.clocks.shown(at.max(due).max(now).max(starts.unwrap_or(now))));
    if let Some(expires_at) = mail.expires_at.filter(|at| *at <= way.clocks.wall) {
        let text = format!("its time was over at {expires_at}, or so the clock says");
        let ends = "it expires now; if the clock of this machine was set, when the clock is known to be right";
        return waiting(WaitingKind::Schedule, text, ends, None);
    }
    if let Some(scheduled_at) = mail.scheduled_at.filter(|at| *at > way.clocks.wall) {
        let text = format!("scheduled: it is not sent before {scheduled_at}");
        return waiting(WaitingKind::Schedule, text, "that moment", Some(scheduled_at));
    }
    let opens = match state.open_at(now) {
        Ok(()) => now,
        Err(Some(until)) => until,
        Err(None) => return waiting(WaitingKind::Channel, channel_reason(way), channel_end(state), None),
    };
    if let Some((_, tried_at, reason)) = way.outlook.paused_people.iter().find(|(person, ..)| *person == mail.person) {
        let text = with_words(&format!("mail of its sender is kept back on channel '{}'", way.name), reason);
        let ends = "one of its sender's messages is tried then, and when it is accepted all go on; or somebody in charge of the \
                    channel resumes it, or releases a message there";
        return waiting(WaitingKind::Person, text, ends, tried(opens.max(*tried_at)));
    }
    // Of two times the later one is what it waits for.
    if due > opens {
        return put_off(recipient, tried(due));
    }
    if opens > now {
        return waiting(WaitingKind::Channel, channel_reason(way), channel_end(state), tried(opens));
    }
    if is_tried_again(state) {
        return waiting(WaitingKind::Channel, channel_reason(way), "the try that is due now", tried(now));
    }
    let from = FromId::of(mail.author);
    let full = way.outlook.full_froms.iter().find(|full| full.from == from);
    let of_from = full.map(|full| LaneWait { until: full.until, why: Why::Limit(full.limit) });
    match of_from.as_ref().or(way.outlook.lanes[mail.lane as usize].as_ref()) {
        Some(wait) => of_pace(wait, mail, way, tried(wait.until.unwrap_or(now))),
        None => {
            let text = format!("next in line on channel '{}'{}", way.name, behind(mail.place));
            waiting(WaitingKind::Turn, text, "its turn on a free connection; the time is about right, by estimate", tried(now))
        }
    }
}

/// What of a [`Way`] says for what kind of thing a recipient waits: asked of everything that is open, it answers quickly.
pub(crate) struct Signs {
    clocks: Clocks,
    state: ChannelState,
    paused_people: HashSet<PersonId>,
    full_froms: HashSet<FromId>,
    /// Lanes that wait as a whole.
    full_lanes: [bool; 3],
}

impl Signs {
    pub(crate) fn of(way: &Way) -> Self {
        let Outlook { state, paused_people, full_froms, lanes, .. } = &way.outlook;
        Self {
            clocks: way.clocks,
            state: state.clone(),
            paused_people: paused_people.iter().map(|(person, ..)| *person).collect(),
            full_froms: full_froms.iter().map(|full| full.from).collect(),
            full_lanes: std::array::from_fn(|lane| lanes[lane].is_some()),
        }
    }

    /// The kind of [`of_recipient`]'s answer.
    #[must_use]
    pub(crate) fn kind(&self, one: &store::Waiting) -> WaitingKind {
        match one.state {
            RecipientState::Leased => return WaitingKind::Delivery,
            RecipientState::Held => return WaitingKind::Person,
            _ => {}
        }
        let (now, wall) = (self.clocks.steady, self.clocks.wall);
        if one.expires_at.is_some_and(|at| at <= wall) || one.scheduled_at.is_some_and(|at| at > wall) {
            return WaitingKind::Schedule;
        }
        let opens = match self.state.open_at(now) {
            Ok(()) => now,
            Err(Some(until)) => until,
            Err(None) => return WaitingKind::Channel,
        };
        if self.paused_people.contains(&one.person) {
            return WaitingKind::Person;
        }
        if one.due > opens {
            return if one.doubts > 0 { WaitingKind::Uncertain } else { WaitingKind::Retry };
        }
        if opens > now || is_tried_again(&self.state) {
            return WaitingKind::Channel;
        }
        let is_full = self.full_lanes[one.lane as usize] || self.full_froms.contains(&one.from);
        if is_full { WaitingKind::Pace } else { WaitingKind::Turn }
    }
}

fn put_off(recipient: &RecipientView, next_try: Option<Timestamp>) -> WaitingOn {
    if recipient.doubts > 0 {
        let text = with_words("the reply to the last hand-over was lost, so the next hop may have it", &recipient.said);
        return waiting(WaitingKind::Uncertain, text, "one more try", next_try);
    }
    waiting(WaitingKind::Retry, with_words("the last attempt was put off", &recipient.said), "the next attempt", next_try)
}

fn of_pace(wait: &LaneWait, mail: &Mail<'_>, way: &Way, next_try: Option<Timestamp>) -> WaitingOn {
    let (reason, ends) = match wait.why {
        Why::Limit(limit) => (limit_reason(limit, mail.lane, way), "room under the limit, at about that time by estimate"),
        Why::Spread => (
            format!("bulk mail is spread evenly over the limits of channel '{}'", way.name),
            "its turn, at about that time by estimate",
        ),
        Why::Connection => (
            format!("the last connection of channel '{}' is kept for mail that is not bulk", way.name),
            "the end of a transaction, at about that time by estimate",
        ),
    };
    waiting(WaitingKind::Pace, format!("{reason}{}", behind(mail.place)), ends, next_try)
}

fn limit_reason(limit: Limit, lane: Lane, way: &Way) -> String {
    let name = &way.name;
    let known = way.outlook.limits.iter().find(|one| one.limit == limit);
    // What one From used is not what stands there.
    let counted = known.filter(|_| limit.scope == LimitScope::Account);
    let count = counted.map(|one| format!(" ({} of {} used)", one.used, limit.count)).unwrap_or_default();
    if known.is_some_and(|one| one.learned) {
        let reason = format!("channel '{name}' goes slower since its next hop asked for it: {limit}{count}");
        let said = way.outlook.lessons.pace.as_ref().filter(|_| way.words).map_or("", |pace| &pace.said);
        return with_words(&reason, said);
    }
    match counted {
        Some(one) if one.used < limit.count && lane == Lane::Bulk => {
            format!("what the limit of channel '{name}' leaves to bulk mail is used up: {limit}{count}")
        }
        Some(one) if one.used < limit.count => format!("the limit of channel '{name}' has too little room for it: {limit}{count}"),
        _ => format!("the limit of channel '{name}' is used up: {limit}{count}"),
    }
}

/// How many stand in front of it.
fn behind(place: Option<Place>) -> String {
    match place.map_or(0, |place| place.ahead.transactions) {
        0 | 1 => String::new(),
        2 => "; one message goes before it".to_owned(),
        more => format!("; {} messages go before it", more - 1),
    }
}

/// The time for the channel's next try has come, and it has not gone through yet.
fn is_tried_again(state: &ChannelState) -> bool {
    match state {
        ChannelState::Throttled { .. } | ChannelState::Unreachable { .. } | ChannelState::LoginRefused { .. } => true,
        ChannelState::Unverified
        | ChannelState::Active
        | ChannelState::Paused { .. }
        | ChannelState::NeedsAttention { .. }
        | ChannelState::Disabled => false,
    }
}

fn channel_reason(way: &Way) -> String {
    let (name, state) = (&way.name, &way.outlook.state);
    let reason = match state {
        ChannelState::Paused { by } if by.is_empty() => return format!("channel '{name}' is paused"),
        ChannelState::Paused { by } => return format!("channel '{name}' was paused by {by}"),
        ChannelState::Disabled => return format!("channel '{name}' is disabled"),
        ChannelState::Unverified | ChannelState::Active => return format!("channel '{name}' is about to go on"),
        ChannelState::Throttled { .. } => format!("channel '{name}' is at a limit of its provider"),
        ChannelState::Unreachable { .. } => format!("channel '{name}' cannot be reached"),
        ChannelState::LoginRefused { .. } => format!("channel '{name}' had its login refused once"),
        ChannelState::NeedsAttention { .. } => format!("channel '{name}' needs attention"),
    };
    with_words(&reason, if way.words { state.reason() } else { "" })
}

fn channel_end(state: &ChannelState) -> &'static str {
    match state {
        ChannelState::Paused { .. } => "somebody resumes the channel",
        ChannelState::Disabled => "somebody enables the channel",
        ChannelState::NeedsAttention { .. } => "somebody mends the channel, or resumes it",
        ChannelState::LoginRefused { .. } => "the login is tried once more",
        ChannelState::Throttled { .. } => "one message is tried then, and the others follow when it is taken",
        ChannelState::Unreachable { .. } | ChannelState::Unverified | ChannelState::Active => "the channel is tried again",
    }
}

fn with_words(reason: &str, words: &str) -> String {
    if words.is_empty() { reason.to_owned() } else { format!("{reason}: {words}") }
}

fn waiting(kind: WaitingKind, text: String, ends: &str, next_try: Option<Timestamp>) -> WaitingOn {
    WaitingOn { kind, text, ends: ends.to_owned(), next_try }
}

#[cfg(test)]
mod tests;
