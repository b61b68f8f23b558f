//! From the store's values to what the API answers.

use crate::gateway::Gateway;
use crate::view::{self, QueueLine, Trouble};
use crate::waiting;
use mail::channel::{DomainPattern, Owner, Transport};
use mail::{Channel, ChannelId, ChannelState, Directory, PersonId, RecipientState, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What names and states were at one moment.
pub(crate) struct Glance<'a> {
    gateway: &'a dyn Gateway,
    directory: Arc<Directory>,
    now: Timestamp,
}

impl<'a> Glance<'a> {
    pub(crate) fn new(gateway: &'a dyn Gateway) -> Self {
        Self { gateway, directory: gateway.directory(), now: gateway.now() }
    }

    pub(crate) fn channel_name(&self, id: ChannelId) -> String {
        self.directory.channel(id).map_or_else(|| id.to_string(), |channel| channel.name.clone())
    }

    fn person_name(&self, id: PersonId) -> String {
        self.directory.person(id).map_or_else(|| id.to_string(), |person| person.email.to_string())
    }

    pub(crate) fn message(&self, message: store::MessageView) -> view::Message {
        let channel = self.channel_name(message.channel);
        let state = self.gateway.channel_state(message.channel);
        let recipients: Vec<view::Recipient> =
            message.recipients.into_iter().map(|recipient| self.recipient(recipient, &channel, &state)).collect();
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
            team: message.team.map(|id| self.directory.team(id).map_or_else(|| id.to_string(), |team| team.name.clone())),
            token: message.token.map(|id| self.directory.token(id).map_or_else(|| id.to_string(), |token| token.name.clone())),
            surface: message.surface,
            channel,
            lane: message.lane,
            reverse_path: message.reverse_path,
            from: message.from,
            subject: message.subject,
            message_id: message.message_id,
            tags: message.tags.into_iter().collect(),
            size: message.size_bytes,
            waiting_on: waiting::of_message(recipients.iter().filter_map(|recipient| recipient.waiting_on.as_ref())),
            recipients,
        }
    }

    fn recipient(&self, recipient: store::RecipientView, channel: &str, state: &ChannelState) -> view::Recipient {
        view::Recipient {
            waiting_on: waiting::of_recipient(&recipient, channel, state, self.now),
            address: recipient.address,
            state: recipient.state,
            since: recipient.since,
            attempts: recipient.attempts,
            due: recipient.due.filter(|_| recipient.state == RecipientState::Queued),
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

    pub(crate) fn queue_line(&self, line: store::ChannelQueue) -> QueueLine {
        let state = self.gateway.channel_state(line.channel);
        QueueLine {
            channel: self.channel_name(line.channel),
            state: state.name().to_owned(),
            queued: line.queued,
            leased: line.leased,
            held: line.held,
            bytes: line.bytes,
            next_due: line.next_due,
            oldest: line.oldest,
            reason: state.reason().to_owned(),
        }
    }

    pub(crate) fn channel(&self, channel: &Channel) -> view::Channel {
        let state = self.state_of(channel);
        let smarthost = match &channel.transport {
            Transport::Smtp(smarthost) => Some(smarthost),
            Transport::Capture => None,
        };
        view::Channel {
            name: channel.name.clone(),
            owner: match channel.owner {
                Owner::Person(id) => format!("person:{}", self.person_name(id)),
                Owner::Team(id) => {
                    format!("team:{}", self.directory.team(id).map_or_else(|| id.to_string(), |team| team.name.clone()))
                }
                Owner::Instance => "instance".to_owned(),
            },
            transport: channel.transport.name().to_owned(),
            next_hop: smarthost.map(|hop| format!("{}:{}", hop.host, hop.port)),
            tls: smarthost.map(|hop| hop.tls),
            username: smarthost.and_then(|hop| hop.username.clone()),
            scope: channel.scope,
            address: channel.address.as_ref().map(ToString::to_string),
            domains: channel.domains.iter().map(domain).collect(),
            default: channel.default,
            connections: channel.caps.connections,
            messages_per_connection: channel.caps.messages_per_connection,
            provider: channel.provider.clone(),
            state: state.name().to_owned(),
            reason: state.reason().to_owned(),
            next_try: state.open_at(self.now).err().flatten(),
        }
    }

    /// The channels, by name.
    pub(crate) fn channels(&self) -> Vec<view::Channel> {
        let mut channels: Vec<view::Channel> = self.directory.channels().map(|channel| self.channel(channel)).collect();
        channels.sort_by(|one, other| one.name.cmp(&other.name));
        channels
    }

    /// The channels that do not work and were not switched off on purpose.
    pub(crate) fn troubles(&self) -> Vec<Trouble> {
        let working = ["active", "unverified", "disabled"];
        let broken = self.channels().into_iter().filter(|channel| !working.contains(&channel.state.as_str()));
        broken
            .map(|channel| Trouble {
                channel: channel.name,
                state: channel.state,
                reason: channel.reason,
                next_try: channel.next_try,
            })
            .collect()
    }

    fn state_of(&self, channel: &Channel) -> ChannelState {
        if channel.disabled { ChannelState::Disabled } else { self.gateway.channel_state(channel.id) }
    }
}

fn domain(pattern: &DomainPattern) -> String {
    match pattern {
        DomainPattern::Any => "*".to_owned(),
        DomainPattern::Domain(domain) => domain.clone(),
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
