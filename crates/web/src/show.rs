//! From the store's values to what the API answers.

mod channel;
mod estimate;
mod places;
mod queue;

use crate::clocks::Clocks;
use crate::gateway::Gateway;
use crate::view;
use crate::viewer::Viewer;
use crate::waiting::{self, Mail, Place, Way};
use mail::lane::LaneReason;
use mail::{ChannelId, ChannelState, Directory, MessageId, PersonId, RecipientState, TeamId, Timestamp};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use store::{KeptBack, Party, Queue};

/// What names and states were at one moment, to one who looks.
pub(crate) struct Glance<'a> {
    pub(super) gateway: &'a dyn Gateway,
    pub(super) directory: Arc<Directory>,
    pub(super) viewer: Viewer,
    pub(super) clocks: Clocks,
}

impl<'a> Glance<'a> {
    pub(crate) fn new(gateway: &'a dyn Gateway, viewer: Viewer) -> Self {
        let clocks = Clocks { wall: gateway.now(), steady: gateway.steady() };
        Self { gateway, directory: gateway.directory(), viewer, clocks }
    }

    /// The steady clock.
    pub(crate) fn steady(&self) -> Timestamp {
        self.clocks.steady
    }

    /// The queue, for reading: on a thread that may block.
    pub(crate) fn queue(&self) -> Arc<dyn Queue> {
        self.gateway.queue()
    }

    /// People whose mail channels keep back.
    pub(crate) fn kept_back_people(&self) -> KeptBack {
        self.gateway.kept_back()
    }

    pub(crate) fn channel_name(&self, id: ChannelId) -> String {
        self.directory.channel(id).map_or_else(|| id.to_string(), |channel| channel.name.clone())
    }

    /// Who is who.
    pub(crate) fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.directory)
    }

    /// Whose list of suppressions it is: `team:NAME` or `person:ADDRESS`.
    pub(crate) fn party_name(&self, party: Party) -> String {
        match party {
            Party::Team(id) => format!("team:{}", self.team_name(id)),
            Party::Person(id) => format!("person:{}", self.person_name(id)),
        }
    }

    pub(crate) fn suppression(&self, one: store::Suppression) -> view::Suppression {
        view::Suppression {
            address: one.address,
            owner: self.party_name(one.party),
            reason: one.reason,
            origin: one.origin.to_string(),
            at: one.at,
        }
    }

    pub(super) fn person_name(&self, id: PersonId) -> String {
        self.directory.person(id).map_or_else(|| id.to_string(), |person| person.email.to_string())
    }

    pub(super) fn team_name(&self, id: TeamId) -> String {
        self.directory.team(id).map_or_else(|| id.to_string(), |team| team.name.clone())
    }

    /// A channel as its mail waits for it.
    pub(crate) fn way(&self, id: ChannelId) -> Way {
        let row = self.directory.channel(id);
        let mut outlook = self.gateway.outlook(id);
        if row.is_none_or(|row| row.disabled) {
            outlook.state = ChannelState::Disabled;
        }
        let words = match row {
            Some(row) => self.viewer.sees_words(&self.directory, row),
            None => self.viewer == Viewer::Operator,
        };
        Way { name: self.channel_name(id), outlook, clocks: self.clocks, words }
    }

    /// The messages of a page. Each channel is asked once, however many of its messages stand there.
    pub(crate) fn messages(&self, messages: Vec<store::MessageView>) -> Vec<view::Message> {
        let mut queued: BTreeMap<ChannelId, Vec<MessageId>> = BTreeMap::new();
        for message in &messages {
            let ids = queued.entry(message.channel).or_default();
            if message.recipients.iter().any(|recipient| recipient.state == RecipientState::Queued) {
                ids.push(message.id);
            }
        }
        let mut places = HashMap::new();
        let mut ways = HashMap::new();
        for (channel, ids) in queued {
            if !ids.is_empty() {
                places.extend(places::of(self.gateway, channel, &ids));
            }
            ways.insert(channel, self.way(channel));
        }
        let message = |message: store::MessageView| {
            let place = places.get(&message.id).copied();
            let way = &ways[&message.channel];
            self.on_its_way(message, place, way)
        };
        messages.into_iter().map(message).collect()
    }

    /// One message.
    pub(crate) fn message(&self, message: store::MessageView) -> Option<view::Message> {
        self.messages(vec![message]).pop()
    }

    fn on_its_way(&self, message: store::MessageView, place: Option<Place>, way: &Way) -> view::Message {
        let (person, lane) = (message.person, message.lane);
        let (author, reverse_path) = (&message.author, &message.reverse_path);
        let (scheduled_at, expires_at) = (message.scheduled_at, message.expires_at);
        let mail = Mail { person, author, reverse_path, lane, place, scheduled_at, expires_at };
        let recipients: Vec<view::Recipient> =
            message.recipients.into_iter().map(|recipient| self.recipient(recipient, &mail, way)).collect();
        let mut states = BTreeMap::new();
        for recipient in &recipients {
            *states.entry(recipient.state.name().to_owned()).or_insert(0) += 1;
        }
        view::Message {
            id: message.id.to_string(),
            created_at: message.accepted_at,
            status: overall(recipients.iter().map(|recipient| recipient.state)),
            states,
            person: self.person_name(message.person),
            team: message.team.map(|id| self.team_name(id)),
            token: message.token.map(|id| self.directory.token(id).map_or_else(|| id.to_string(), |token| token.name.clone())),
            surface: message.surface,
            channel: way.name.clone(),
            lane: message.lane,
            lane_reason: LaneReason::parse(&message.lane_reason).map_or(message.lane_reason, |reason| reason.to_text()),
            retry_of: message.retry_of.map(|id| id.to_string()),
            reverse_path: message.reverse_path,
            from: message.from,
            subject: message.subject,
            message_id: message.message_id,
            tags: message.tags.into_iter().collect(),
            scheduled_at: message.scheduled_at,
            expires_at: message.expires_at,
            size: message.size_bytes,
            waiting_on: waiting::of_message(recipients.iter().filter_map(|recipient| recipient.waiting_on.as_ref())),
            recipients,
        }
    }

    fn recipient(&self, recipient: store::RecipientView, mail: &Mail<'_>, way: &Way) -> view::Recipient {
        let due = recipient.due.filter(|_| recipient.state == RecipientState::Queued);
        // Released mail is due at once, since no moment in particular.
        let shown = due.map(|due| self.clocks.shown(if due == Timestamp(0) { self.clocks.steady } else { due }));
        view::Recipient {
            waiting_on: waiting::of_recipient(&recipient, mail, way),
            address: recipient.address,
            state: recipient.state,
            since: recipient.since,
            attempts: recipient.attempts,
            due: shown.map(|due| mail.scheduled_at.map_or(due, |scheduled| scheduled.max(due))),
            said: recipient.said,
            relay: recipient.relay,
        }
    }

    pub(crate) fn event(&self, event: mail::Event, addresses: &[String]) -> view::Event {
        let recipient = event.recipient.and_then(|index| addresses.get(index as usize));
        view::Event {
            sequence: event.sequence,
            at: event.at,
            kind: event.kind.name().to_owned(),
            recipient: recipient.cloned(),
            channel: event.channel.map(|id| self.channel_name(id)),
            detail: event.detail,
        }
    }
}

/// The state that matters most: open ones first, then trouble, then success.
pub(crate) fn overall(states: impl Iterator<Item = RecipientState>) -> RecipientState {
    states.min_by_key(|state| weight(*state)).unwrap_or(RecipientState::Queued)
}

fn weight(state: RecipientState) -> u8 {
    match state {
        RecipientState::Leased => 0,
        RecipientState::Queued => 1,
        RecipientState::Held => 2,
        RecipientState::Failed => 3,
        RecipientState::Expired => 4,
        RecipientState::Suppressed => 5,
        RecipientState::Cancelled => 6,
        RecipientState::Sent => 7,
        RecipientState::Captured => 8,
    }
}
