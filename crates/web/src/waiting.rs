//! Why an open message waits: the reason in words, what ends it, and when it is tried.

use mail::{ChannelState, RecipientState, Timestamp, WaitingKind, WaitingOn};
use store::RecipientView;

/// Why one recipient waits; `None` when nothing will change any more.
#[must_use]
pub fn of_recipient(recipient: &RecipientView, channel: &str, state: &ChannelState, now: Timestamp) -> Option<WaitingOn> {
    match recipient.state {
        RecipientState::Queued => Some(of_queued(recipient, channel, state, now)),
        RecipientState::Leased => Some(waiting(
            WaitingKind::Delivery,
            format!("being handed over by channel '{channel}'"),
            "the next hop's reply",
            Some(now),
        )),
        RecipientState::Held => Some(waiting(
            WaitingKind::Person,
            with_words("held for a person", &recipient.said),
            "somebody releases or cancels it",
            None,
        )),
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

fn of_queued(recipient: &RecipientView, channel: &str, state: &ChannelState, now: Timestamp) -> WaitingOn {
    let due = recipient.due.filter(|due| *due > now);
    if let Err(until) = state.open_at(now) {
        let next_try = until.map(|until| due.map_or(until, |due| due.max(until)));
        return waiting(WaitingKind::Channel, channel_reason(channel, state), channel_end(state), next_try);
    }
    match due {
        None => waiting(
            WaitingKind::Turn,
            format!("next in line on channel '{channel}'"),
            "a free connection of the channel",
            Some(now),
        ),
        Some(due) if recipient.doubts > 0 => waiting(
            WaitingKind::Uncertain,
            with_words("the reply to the last hand-over was lost, so the next hop may have it", &recipient.said),
            "one more try",
            Some(due),
        ),
        Some(due) => {
            waiting(WaitingKind::Retry, with_words("the last attempt was put off", &recipient.said), "the next attempt", Some(due))
        }
    }
}

fn channel_reason(channel: &str, state: &ChannelState) -> String {
    match state {
        ChannelState::Paused { by } if by.is_empty() => format!("channel '{channel}' is paused"),
        ChannelState::Paused { by } => format!("channel '{channel}' was paused by {by}"),
        ChannelState::Disabled => format!("channel '{channel}' is disabled"),
        ChannelState::Throttled { reason, .. } => with_words(&format!("channel '{channel}' is at a limit"), reason),
        ChannelState::Unreachable { reason, .. } => with_words(&format!("channel '{channel}' cannot be reached"), reason),
        ChannelState::LoginRefused { reason, .. } => with_words(&format!("channel '{channel}' had its login refused once"), reason),
        ChannelState::NeedsAttention { reason, .. } => with_words(&format!("channel '{channel}' needs attention"), reason),
        ChannelState::Unverified | ChannelState::Active => format!("channel '{channel}' is about to go on"),
    }
}

fn channel_end(state: &ChannelState) -> &'static str {
    match state {
        ChannelState::Paused { .. } => "somebody resumes the channel",
        ChannelState::Disabled => "somebody enables the channel",
        ChannelState::NeedsAttention { .. } => "somebody mends the channel, or resumes it",
        ChannelState::LoginRefused { .. } => "the login is tried once more",
        ChannelState::Throttled { .. } | ChannelState::Unreachable { .. } | ChannelState::Unverified | ChannelState::Active => {
            "the channel is tried again"
        }
    }
}

fn with_words(reason: &str, words: &str) -> String {
    if words.is_empty() { reason.to_owned() } else { format!("{reason}: {words}") }
}

fn waiting(kind: WaitingKind, text: String, ends: &str, next_try: Option<Timestamp>) -> WaitingOn {
    WaitingOn { kind, text, ends: ends.to_owned(), next_try }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn recipient(state: RecipientState, due: Option<i64>, doubts: u32) -> RecipientView {
        RecipientView {
            index: 0,
            address: "luis@example.org".into(),
            state,
            since: NOW,
            attempts: 1,
            doubts,
            due: due.map(Timestamp),
            said: "450 4.2.2 mailbox full".into(),
            relay: String::new(),
        }
    }

    fn unreachable(until: i64) -> ChannelState {
        ChannelState::Unreachable { until: Timestamp(until), failures: 2, reason: "connection refused".into() }
    }

    #[test]
    fn every_open_state_has_a_reason_and_no_final_one_has() {
        for state in RecipientState::ALL {
            let reason = of_recipient(&recipient(state, None, 0), "sales", &ChannelState::Active, NOW);
            assert_eq!(reason.is_none(), state.is_final(), "{state:?}");
        }
    }

    #[test]
    fn the_channel_is_named_before_the_retry_that_would_follow() {
        let waits = recipient(RecipientState::Queued, Some(2_000_000), 0);
        let reason = of_recipient(&waits, "sales", &unreachable(1_500_000), NOW).unwrap();
        assert_eq!((reason.kind, reason.next_try), (WaitingKind::Channel, Some(Timestamp(2_000_000))));
        assert!(reason.text.contains("connection refused"));
        let reason = of_recipient(&waits, "sales", &ChannelState::Active, NOW).unwrap();
        assert_eq!((reason.kind, reason.next_try), (WaitingKind::Retry, Some(Timestamp(2_000_000))));
        assert!(reason.text.contains("mailbox full"));
    }

    #[test]
    fn a_paused_channel_has_no_time_at_which_it_goes_on() {
        let paused = ChannelState::Paused { by: "ana@example.com".into() };
        let reason = of_recipient(&recipient(RecipientState::Queued, Some(2_000_000), 0), "sales", &paused, NOW).unwrap();
        assert_eq!(reason.next_try, None);
        assert!(reason.text.contains("ana@example.com"));
    }

    #[test]
    fn what_is_due_waits_for_its_turn_and_a_doubt_says_so() {
        let due = recipient(RecipientState::Queued, Some(5), 0);
        assert_eq!(of_recipient(&due, "sales", &ChannelState::Active, NOW).unwrap().kind, WaitingKind::Turn);
        let doubt = recipient(RecipientState::Queued, Some(2_000_000), 1);
        assert_eq!(of_recipient(&doubt, "sales", &ChannelState::Active, NOW).unwrap().kind, WaitingKind::Uncertain);
    }

    #[test]
    fn a_message_waits_for_what_happens_first() {
        let held = of_recipient(&recipient(RecipientState::Held, None, 0), "c", &ChannelState::Active, NOW).unwrap();
        let retry = of_recipient(&recipient(RecipientState::Queued, Some(3_000_000), 0), "c", &ChannelState::Active, NOW).unwrap();
        let leased = of_recipient(&recipient(RecipientState::Leased, None, 0), "c", &ChannelState::Active, NOW).unwrap();
        assert_eq!(of_message([&held, &retry].into_iter()), Some(retry.clone()));
        assert_eq!(of_message([&held, &retry, &leased].into_iter()), Some(leased));
        assert_eq!(of_message([].into_iter()), None);
    }
}
