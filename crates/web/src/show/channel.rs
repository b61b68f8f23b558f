//! Channels, as the API shows them.

use super::Glance;
use crate::view::{self, ChannelDetail, LearnedView, LimitView, Trouble};
use crate::waiting::Way;
use mail::channel::{DomainPattern, Owner, Transport};
use mail::pace::Lessons;
use mail::{Channel, ChannelState, Timestamp};

impl Glance<'_> {
    pub(crate) fn channel(&self, channel: &Channel) -> view::Channel {
        self.with_way(channel, &self.way(channel.id))
    }

    fn with_way(&self, channel: &Channel, way: &Way) -> view::Channel {
        let smarthost = match &channel.transport {
            Transport::Smtp(smarthost) => Some(smarthost),
            Transport::Capture => None,
        };
        let state = &way.outlook.state;
        view::Channel {
            name: channel.name.clone(),
            owner: match channel.owner {
                Owner::Person(id) => format!("person:{}", self.person_name(id)),
                Owner::Team(id) => format!("team:{}", self.team_name(id)),
                Owner::Instance => "instance".to_owned(),
            },
            transport: channel.transport.name().to_owned(),
            next_hop: smarthost.map(|hop| format!("{}:{}", hop.host, hop.port)),
            tls: smarthost.map(|hop| hop.tls),
            username: smarthost.filter(|_| way.words).and_then(|hop| hop.username.clone()),
            scope: channel.scope,
            address: channel.address.as_ref().map(ToString::to_string),
            domains: channel.domains.iter().map(domain).collect(),
            default: channel.default,
            connections: channel.caps.connections,
            messages_per_connection: channel.caps.messages_per_connection,
            provider: channel.provider.clone(),
            state: state.name().to_owned(),
            reason: self.reason(way),
            next_try: state.open_at(self.clocks.steady).err().flatten().map(|at| self.clocks.shown(at)),
        }
    }

    /// A channel with its limits, what was learned, whom it keeps back, and the latest of its history, newest first.
    pub(crate) fn channel_detail(&self, channel: &Channel, history: Vec<mail::Event>) -> ChannelDetail {
        let way = self.way(channel.id);
        let outlook = &way.outlook;
        let shown = |at| self.clocks.shown(at);
        let words = |said: &str| if way.words { said.to_owned() } else { String::new() };
        let limits = outlook.limits.iter().map(|one| LimitView {
            limit: one.limit.to_string(),
            used: one.used,
            count: one.limit.count,
            frees_at: one.frees_at.map(shown),
            learned: one.learned,
        });
        let learned = learned(&outlook.lessons).into_iter().map(|one| LearnedView {
            taught_at: shown(one.taught_at),
            said: words(&one.said),
            ..one
        });
        let paused = outlook.paused_people.iter().filter(|_| way.words);
        let refused = outlook.refused_senders.iter().filter(|_| way.words);
        let history = history.into_iter().map(|event| {
            let event = self.event(event, &[]);
            view::Event { detail: words(&event.detail), ..event }
        });
        ChannelDetail {
            channel: self.with_way(channel, &way),
            connections_now: outlook.connections,
            limits: limits.collect(),
            learned: learned.collect(),
            people_kept_back: paused.map(|(person, _, why)| (self.person_name(*person), why.clone())).collect(),
            refused_froms: refused.map(|one| (one.address.clone(), one.said.clone())).collect(),
            history: history.collect(),
        }
    }

    /// The channels that the viewer may know of, by name.
    pub(crate) fn channels(&self) -> Vec<view::Channel> {
        let known = self.directory.channels().filter(|channel| self.viewer.knows(&self.directory, channel));
        let mut channels: Vec<view::Channel> = known.map(|channel| self.channel(channel)).collect();
        channels.sort_by(|one, other| one.name.cmp(&other.name));
        channels
    }

    /// The channels that do not work and were not switched off on purpose, and whose mail is kept back on any.
    pub(crate) fn troubles(&self) -> Vec<Trouble> {
        let mut ways: Vec<Way> = self.directory.channels().map(|channel| self.way(channel.id)).collect();
        ways.sort_by(|one, other| one.name.cmp(&other.name));
        ways.iter().flat_map(|way| self.troubles_of(way)).collect()
    }

    fn troubles_of(&self, way: &Way) -> Vec<Trouble> {
        let state = &way.outlook.state;
        let trouble = |reason, next_try| Trouble { channel: way.name.clone(), state: state.name().to_owned(), reason, next_try };
        let next_try = || state.open_at(self.clocks.steady).err().flatten().map(|at| self.clocks.shown(at));
        let broken = match state {
            ChannelState::Active | ChannelState::Unverified | ChannelState::Disabled => None,
            ChannelState::Paused { .. }
            | ChannelState::Throttled { .. }
            | ChannelState::Unreachable { .. }
            | ChannelState::LoginRefused { .. }
            | ChannelState::NeedsAttention { .. } => Some(trouble(state.reason().to_owned(), next_try())),
        };
        broken.into_iter().chain(self.kept_back(way).into_iter().map(|(reason, tried_at)| trouble(reason, tried_at))).collect()
    }

    /// Why a channel's mail waits: the channel's own reason, or whose mail it keeps back.
    pub(super) fn reason(&self, way: &Way) -> String {
        match way.outlook.state.reason() {
            _ if !way.words => String::new(),
            "" => self.kept_back(way).into_iter().map(|(reason, _)| reason).collect::<Vec<_>>().join("; "),
            words => words.to_owned(),
        }
    }

    /// Whose mail waits for a person on this channel, why, and when one message of it is tried without a person.
    fn kept_back(&self, way: &Way) -> Vec<(String, Option<Timestamp>)> {
        let people = way.outlook.paused_people.iter().map(|(person, tried_at, why)| {
            let reason = format!("mail of {} is kept back: {why}", self.person_name(*person));
            (reason, Some(self.clocks.shown((*tried_at).max(self.clocks.steady))))
        });
        let senders = way.outlook.refused_senders.iter().map(|one| {
            let reason = format!("mail of {} as {} is held: {}", self.person_name(one.person), one.address, one.said);
            (reason, None)
        });
        people.chain(senders).collect()
    }

    /// The channel of that name, if the viewer may know of it.
    pub(crate) fn known_channel(&self, name: &str) -> Option<&Channel> {
        self.directory.channel_named(name).filter(|channel| self.viewer.knows(&self.directory, channel))
    }
}

/// What replies taught; times are of the steady clock.
fn learned(lessons: &Lessons) -> Vec<LearnedView> {
    let pace = lessons.pace.as_ref().map(|pace| LearnedView {
        now: format!("{} messages / 1 minute", pace.per_minute),
        before: format!("{} messages / 1 minute", pace.before),
        taught_at: pace.taught_at,
        said: pace.said.clone(),
    });
    let cap = lessons.cap.as_ref().map(|cap| LearnedView {
        now: format!("{} connections", cap.connections),
        before: format!("{} connections", cap.before),
        taught_at: cap.taught_at,
        said: cap.said.clone(),
    });
    pace.into_iter().chain(cap).collect()
}

fn domain(pattern: &DomainPattern) -> String {
    match pattern {
        DomainPattern::Any => "*".to_owned(),
        DomainPattern::Domain(domain) => domain.clone(),
    }
}
