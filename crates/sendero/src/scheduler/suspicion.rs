//! A reply to one message that blames the whole channel is confirmed by another message before it is believed.
//!
//! Replies repeat what messages bring along, and a filter may say of one message what it means of that alone. So the
//! first such reply at RCPT or later only puts its message off, and the next message decides: refused likewise, the
//! channel is at fault; accepted, the first message is, and when it is blamed for again, it is held.

use mail::{MessageId, PersonId};
use std::collections::{BTreeMap, BTreeSet};

/// Of more messages than this nothing is remembered.
const MOST: usize = 1000;

/// What was said of single messages.
#[derive(Default)]
pub(super) struct Suspicion {
    /// The message that waits for another one to confirm its reply, and whose it is.
    open: Option<(MessageId, PersonId)>,
    /// Blamed the channel since it last took anything, and whose they are.
    blaming: BTreeMap<MessageId, PersonId>,
    /// Blamed the channel, which has taken others since.
    doubtful: BTreeSet<MessageId>,
    /// Blamed the channel, which took the next message.
    refuted: BTreeSet<MessageId>,
}

/// Whose mail could be tried instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Others {
    /// Nobody's.
    None,
    /// More of the same person's.
    OfThePerson,
    /// That of other people.
    OfPeople,
}

/// Who is at fault, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blame {
    /// Not known before another message was tried.
    Open,
    /// This person's mail: that of others decides about the channel.
    Person,
    /// The channel; what was kept back of this person's mail for it goes on.
    Channel(Option<PersonId>),
}

impl Suspicion {
    /// The reply to a message blames the channel, which `is_stopped` by such a reply already, or not.
    pub(super) fn blamed(&mut self, message: MessageId, person: PersonId, is_stopped: bool, others: Others) -> Blame {
        let is_fresh = self.blaming.len() >= MOST || self.blaming.insert(message, person).is_none();
        let is_confirmed = is_stopped && (is_fresh || self.others_blame(message, person, others));
        match self.open {
            // The next message of somebody else decides.
            None if others == Others::None && self.doubtful.contains(&message) => {
                self.open = Some((message, person));
                return Blame::Person;
            }
            None if others != Others::None && !is_confirmed => {
                self.open = Some((message, person));
                return Blame::Open;
            }
            Some((_, first)) if first == person && others == Others::OfPeople => return Blame::Person,
            None | Some(_) => {}
        }
        // Whether messages were blamed for a limit that has been reached since, nobody can tell any more.
        self.refuted.clear();
        Blame::Channel(self.open.take().map(|(_, first)| first))
    }

    /// Another message has blamed the channel, too: of somebody else, where others have mail.
    fn others_blame(&self, message: MessageId, person: PersonId, others: Others) -> bool {
        self.blaming.iter().any(|(other, whose)| *other != message && (others != Others::OfPeople || *whose != person))
    }

    /// The next hop took a message; `is_echo`: it began before the channel came into its present state, and says nothing
    /// of others.
    pub(super) fn accepted(&mut self, message: MessageId, is_echo: bool) {
        self.blaming.remove(&message);
        self.doubtful.remove(&message);
        self.refuted.remove(&message);
        if is_echo {
            return;
        }
        self.doubtful.extend(std::mem::take(&mut self.blaming).into_keys());
        while self.doubtful.len() > MOST {
            self.doubtful.pop_first();
        }
        if let Some((first, _)) = self.open.take()
            && first != message
            && self.refuted.len() < MOST
        {
            self.refuted.insert(first);
        }
    }

    /// True for a message that blamed the channel, which took the next one.
    pub(super) fn is_refuted(&self, message: MessageId) -> bool {
        self.refuted.contains(&message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANA: PersonId = PersonId(1);
    const LUIS: PersonId = PersonId(2);

    fn id(number: u8) -> MessageId {
        MessageId([number; 16])
    }

    #[test]
    fn another_message_confirms_what_was_said_of_the_channel() {
        let mut suspicion = Suspicion::default();
        assert_eq!(suspicion.blamed(id(1), ANA, false, Others::OfPeople), Blame::Open);
        assert_eq!(suspicion.blamed(id(2), LUIS, false, Others::OfPeople), Blame::Channel(Some(ANA)));
        assert!(!suspicion.is_refuted(id(1)));
    }

    #[test]
    fn a_message_that_others_refute_is_known_from_then_on() {
        let mut suspicion = Suspicion::default();
        assert_eq!(suspicion.blamed(id(1), ANA, false, Others::OfThePerson), Blame::Open);
        suspicion.accepted(id(2), false);
        assert!(suspicion.is_refuted(id(1)) && !suspicion.is_refuted(id(2)));
        suspicion.accepted(id(1), false);
        assert!(!suspicion.is_refuted(id(1)), "it was taken after all");
    }

    #[test]
    fn messages_of_one_person_say_nothing_of_the_channel_while_others_have_mail() {
        let mut suspicion = Suspicion::default();
        assert_eq!(suspicion.blamed(id(1), ANA, false, Others::OfPeople), Blame::Open);
        assert_eq!(suspicion.blamed(id(2), ANA, false, Others::OfPeople), Blame::Person);
        assert_eq!(suspicion.blamed(id(3), ANA, false, Others::OfThePerson), Blame::Channel(Some(ANA)));
    }

    #[test]
    fn where_there_is_no_other_message_the_only_one_is_believed() {
        let mut suspicion = Suspicion::default();
        assert_eq!(suspicion.blamed(id(1), ANA, false, Others::None), Blame::Channel(None));
        suspicion.accepted(id(2), false);
        assert_eq!(suspicion.blamed(id(1), ANA, false, Others::None), Blame::Person, "the channel has taken others since");
        suspicion.accepted(id(3), false);
        assert!(suspicion.is_refuted(id(1)));
    }

    #[test]
    fn a_probe_of_a_throttled_channel_is_believed_unless_it_is_the_same_message_again() {
        let mut suspicion = Suspicion::default();
        assert_eq!(suspicion.blamed(id(1), ANA, false, Others::None), Blame::Channel(None));
        assert_eq!(suspicion.blamed(id(1), ANA, true, Others::OfPeople), Blame::Open);
        assert_eq!(suspicion.blamed(id(2), LUIS, true, Others::OfPeople), Blame::Channel(Some(ANA)));
        assert_eq!(suspicion.blamed(id(3), LUIS, true, Others::OfPeople), Blame::Channel(None));
        assert_eq!(suspicion.blamed(id(3), LUIS, true, Others::OfPeople), Blame::Channel(None), "others have blamed it too");
    }

    #[test]
    fn what_was_on_its_way_when_the_channel_was_stopped_refutes_nothing() {
        let mut suspicion = Suspicion::default();
        assert_eq!(suspicion.blamed(id(1), ANA, false, Others::None), Blame::Channel(None));
        suspicion.accepted(id(2), true);
        assert_eq!(suspicion.blamed(id(1), ANA, true, Others::None), Blame::Channel(None));
        suspicion.accepted(id(3), false);
        assert_eq!(suspicion.blamed(id(1), ANA, true, Others::None), Blame::Person);
    }
}
