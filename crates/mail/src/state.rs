//! The states of a recipient and of a channel, and every legal move between them.

/// Where one recipient of a message is. Exactly one of these at every moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecipientState {
    /// Stored; may go when its time and its channel allow.
    Queued,
    /// In the hands of a delivery.
    Leased,
    /// Waits for a person.
    Held,
    /// The next hop took it.
    Sent,
    /// Given up, with the reason.
    Failed,
    /// Its lifetime is over.
    Expired,
    /// A person took it back.
    Cancelled,
    /// Must not be written to.
    Suppressed,
    /// Kept by a capture channel.
    Captured,
}

/// What can happen to a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Move {
    /// A delivery takes it.
    Lease,
    /// The delivery gives it back untried.
    GiveBack,
    /// The next hop took it.
    Send,
    /// A capture channel kept it.
    Capture,
    /// The attempt did not send; again later.
    Defer,
    /// No reply after the final dot; again later, once.
    Doubt,
    /// The attempt did not send, for good.
    Fail,
    /// Its lifetime is over.
    Expire,
    /// It waits for a person from here on.
    Hold,
    /// A person lets it go on.
    Release,
    /// A person takes it back.
    Cancel,
    /// It is on a suppression list.
    Suppress,
    /// It goes to another channel.
    Reroute,
}

impl RecipientState {
    /// All states, in the order of their codes.
    pub const ALL: [Self; 9] = [
        Self::Queued,
        Self::Leased,
        Self::Held,
        Self::Sent,
        Self::Failed,
        Self::Expired,
        Self::Cancelled,
        Self::Suppressed,
        Self::Captured,
    ];

    /// The state after `what`, or `None` where that is not a legal move.
    #[must_use]
    pub fn after(self, what: Move) -> Option<Self> {
        match self {
            Self::Queued => Self::from_queued(what),
            Self::Leased => Self::from_leased(what),
            Self::Held => Self::from_held(what),
            // Final: a retry by a person makes a new recipient.
            Self::Sent | Self::Failed | Self::Expired | Self::Cancelled | Self::Suppressed | Self::Captured => None,
        }
    }

    fn from_queued(what: Move) -> Option<Self> {
        match what {
            Move::Lease => Some(Self::Leased),
            Move::Expire => Some(Self::Expired),
            Move::Hold => Some(Self::Held),
            Move::Cancel => Some(Self::Cancelled),
            Move::Suppress => Some(Self::Suppressed),
            Move::Reroute => Some(Self::Queued),
            Move::GiveBack | Move::Send | Move::Capture | Move::Defer | Move::Doubt | Move::Fail | Move::Release => None,
        }
    }

    fn from_leased(what: Move) -> Option<Self> {
        match what {
            Move::GiveBack | Move::Defer | Move::Doubt => Some(Self::Queued),
            Move::Send => Some(Self::Sent),
            Move::Capture => Some(Self::Captured),
            Move::Fail => Some(Self::Failed),
            Move::Expire => Some(Self::Expired),
            Move::Hold => Some(Self::Held),
            Move::Lease | Move::Release | Move::Cancel | Move::Suppress | Move::Reroute => None,
        }
    }

    fn from_held(what: Move) -> Option<Self> {
        match what {
            Move::Release => Some(Self::Queued),
            Move::Cancel => Some(Self::Cancelled),
            Move::Reroute => Some(Self::Held),
            Move::Lease
            | Move::GiveBack
            | Move::Send
            | Move::Capture
            | Move::Defer
            | Move::Doubt
            | Move::Fail
            | Move::Expire
            | Move::Hold
            | Move::Suppress => None,
        }
    }

    /// True when nothing will change any more.
    #[must_use]
    pub fn is_final(self) -> bool {
        match self {
            Self::Queued | Self::Leased | Self::Held => false,
            Self::Sent | Self::Failed | Self::Expired | Self::Cancelled | Self::Suppressed | Self::Captured => true,
        }
    }

    /// The number that stands for it in the log.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Queued => 0,
            Self::Leased => 1,
            Self::Held => 2,
            Self::Sent => 3,
            Self::Failed => 4,
            Self::Expired => 5,
            Self::Cancelled => 6,
            Self::Suppressed => 7,
            Self::Captured => 8,
        }
    }

    /// The state of a code.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// The word used in answers and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Leased => "leased",
            Self::Held => "held",
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Suppressed => "suppressed",
            Self::Captured => "captured",
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MOVES: [Move; 13] = [
        Move::Lease,
        Move::GiveBack,
        Move::Send,
        Move::Capture,
        Move::Defer,
        Move::Doubt,
        Move::Fail,
        Move::Expire,
        Move::Hold,
        Move::Release,
        Move::Cancel,
        Move::Suppress,
        Move::Reroute,
    ];

    /// Every legal move; what is not here is none.
    const TABLE: &[(RecipientState, &[(Move, RecipientState)])] = {
        use RecipientState::{Cancelled, Captured, Expired, Failed, Held, Leased, Queued, Sent, Suppressed};
        &[
            (
                Queued,
                &[
                    (Move::Lease, Leased),
                    (Move::Expire, Expired),
                    (Move::Hold, Held),
                    (Move::Cancel, Cancelled),
                    (Move::Suppress, Suppressed),
                    (Move::Reroute, Queued),
                ],
            ),
            (
                Leased,
                &[
                    (Move::GiveBack, Queued),
                    (Move::Defer, Queued),
                    (Move::Doubt, Queued),
                    (Move::Send, Sent),
                    (Move::Capture, Captured),
                    (Move::Fail, Failed),
                    (Move::Expire, Expired),
                    (Move::Hold, Held),
                ],
            ),
            (Held, &[(Move::Release, Queued), (Move::Cancel, Cancelled), (Move::Reroute, Held)]),
            (Sent, &[]),
            (Failed, &[]),
            (Expired, &[]),
            (Cancelled, &[]),
            (Suppressed, &[]),
            (Captured, &[]),
        ]
    };

    /// Pain 19: one move alone leads to `sent`, from `leased` alone.
    #[test]
    fn the_moves_are_those_of_the_table_and_no_others() {
        assert_eq!(TABLE.len(), RecipientState::ALL.len());
        for (from, legal) in TABLE {
            for what in MOVES {
                let expected = legal.iter().find(|(one, _)| *one == what).map(|(_, to)| *to);
                assert_eq!(from.after(what), expected, "{from:?} {what:?}");
            }
        }
    }

    #[test]
    fn a_final_state_has_no_moves_and_an_open_one_has_some() {
        for state in RecipientState::ALL {
            assert_eq!(MOVES.iter().all(|what| state.after(*what).is_none()), state.is_final(), "{state:?}");
        }
    }

    #[test]
    fn every_open_state_has_a_way_to_each_final_one() {
        for from in RecipientState::ALL.into_iter().filter(|state| !state.is_final()) {
            let mut reached = vec![from];
            let mut at = 0;
            while at < reached.len() {
                let state = reached[at];
                at += 1;
                for next in MOVES.iter().filter_map(|what| state.after(*what)) {
                    if !reached.contains(&next) {
                        reached.push(next);
                    }
                }
            }
            assert_eq!(reached.len(), RecipientState::ALL.len(), "{from:?} reaches only {reached:?}");
        }
    }

    /// Pain 19: nothing else leads to `sent`.
    #[test]
    fn only_a_leased_recipient_is_sent_or_fails() {
        for state in RecipientState::ALL.into_iter().filter(|state| *state != RecipientState::Leased) {
            for what in [Move::Send, Move::Capture, Move::Fail, Move::Defer, Move::Doubt] {
                assert_eq!(state.after(what), None, "{state:?} {what:?}");
            }
        }
        assert_eq!(RecipientState::Leased.after(Move::Cancel), None);
    }

    #[test]
    fn a_code_reads_back_as_its_state() {
        for state in RecipientState::ALL {
            assert_eq!(RecipientState::from_code(state.code()), Some(state));
            assert_eq!(by_name(state.name()), Ok(state), "it is written as it is called");
        }
        assert_eq!(RecipientState::from_code(9), None);
    }

    fn by_name(name: &'static str) -> Result<RecipientState, serde::de::value::Error> {
        serde::Deserialize::deserialize(serde::de::IntoDeserializer::into_deserializer(name))
    }
}
