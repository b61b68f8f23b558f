//! Moves of a channel: made durable, then obeyed, and told in the log.

use super::Shared;
use super::pace::{Breaker, Whom, probe_after};
use super::suspicion::Others;
use super::verdict::{Verdict, of_opening};
use super::way::{Era, Subject, Way};
use delivery::{OpenError, Outgoing};
use mail::channel::ChannelMove;
use mail::classify::{ForChannel, react};
use mail::{Channel, ChannelState, Diagnostic, MessageId, Timestamp};
use std::sync::Arc;
use std::time::Duration;
use store::{Lease, Skip, StoreError};

/// How long until a state is offered again that the disk had no room for.
const NO_SPACE_PAUSE: Duration = Duration::from_secs(1);
/// How long a channel is left alone where attempts prolong the block and nothing says for how long it is.
const WITHOUT_PROBES: Duration = Duration::from_secs(24 * 3600);
/// The pause after a reply that asks for a lower pace, when it says none.
const AFTER_SLOW: Duration = Duration::from_secs(60);
/// Replies that come within this time are about one burst.
const ONE_BURST: Duration = Duration::from_secs(10);

impl Shared {
    /// Applies a move and makes the new state durable before anybody acts on it again.
    pub(super) async fn move_channel(self: &Arc<Self>, way: &Arc<Way>, what: ChannelMove) {
        self.move_since(way, what, None).await;
    }

    /// The same, where the move was told about something that began then.
    pub(super) async fn move_since(self: &Arc<Self>, way: &Arc<Way>, what: ChannelMove, began: Option<Era>) {
        let store = |state: &ChannelState| self.parts.queue.set_channel_state(way.channel, state.clone(), self.wall());
        let Some((before, after, stored)) = way.apply(what, began, self.steady(), store) else {
            return;
        };
        let name = self.channel_name(way);
        match &after {
            _ if after == before => {}
            ChannelState::NeedsAttention { .. } => {
                tracing::error!(channel.name = name, channel.state = after.name(), reason = after.reason(), "channel state");
            }
            ChannelState::Unreachable { .. } | ChannelState::LoginRefused { .. } if after.reason() != before.reason() => {
                tracing::warn!(channel.name = name, channel.state = after.name(), reason = after.reason(), "channel state");
            }
            _ if after.name() == before.name() => {}
            _ => tracing::info!(channel.name = name, channel.state = after.name(), reason = after.reason(), "channel state"),
        }
        if let Err(problem) = stored.await {
            tracing::error!(channel.name = name, %problem, "channel state not stored");
            if let StoreError::NoSpace(_) = problem {
                self.store_state_later(way);
            }
        }
        self.store_kept(way).await;
        match after.open_at(self.steady()) {
            Ok(()) => {}
            // Nothing else may happen until then: its own timer ends it.
            Err(Some(_)) => self.kick(way, None, Timestamp(0)),
            Err(None) => way.wake_all(),
        }
    }

    /// What a channel keeps back goes on, by a person's wish.
    pub(super) async fn let_go(&self, way: &Way, forgives: bool, why: &str) {
        {
            let mut pace = way.pace();
            if forgives {
                pace.forgive(why);
            }
            pace.be_patient(self.steady());
        }
        self.store_kept(way).await;
    }

    /// Makes durable what a channel keeps back, where it has changed. What the disk had no room for is offered again.
    pub(super) async fn store_kept(&self, way: &Way) {
        if !way.pace().unsaved {
            return;
        }
        let _one_after_the_other = way.keeping.lock().await;
        let Some((kept, told)) = way.pace().take_unsaved() else { return };
        let directory = self.parts.directory.directory();
        let whom = |whom: &Whom| match whom {
            Whom::Person(id) => directory.person(*id).map_or_else(|| id.to_string(), |person| person.email.to_string()),
            Whom::Sender(address) => address.clone(),
        };
        let facts = told.iter().map(|one| (one.kind, format!("{}: {}", whom(&one.whom), one.why))).collect();
        if let Err(problem) = self.parts.queue.set_kept(way.channel, kept, facts, self.wall()).await {
            tracing::error!(channel.name = self.channel_name(way), %problem, "what the channel keeps back is not stored");
            if let StoreError::NoSpace(_) = problem {
                way.pace().not_saved(told);
            }
        }
    }

    /// The disk had no room for the state: it is offered again until there is, so that a restart does not forget it.
    fn store_state_later(self: &Arc<Self>, way: &Arc<Way>) {
        if !way.begin_storing() {
            return;
        }
        let (shared, way) = (Arc::clone(self), Arc::clone(way));
        self.runtime.spawn(async move {
            loop {
                tokio::time::sleep(NO_SPACE_PAUSE).await;
                way.end_storing();
                let store = |state: &ChannelState| shared.parts.queue.set_channel_state(way.channel, state.clone(), shared.wall());
                let stored = way.store(store);
                if !matches!(stored.await, Err(StoreError::NoSpace(_))) || !way.begin_storing() {
                    return;
                }
            }
        });
    }

    /// A session could not be opened, which began then: what that means for the channel.
    pub(super) async fn open_failed(self: &Arc<Self>, way: &Arc<Way>, row: &Channel, error: &OpenError, began: Era) {
        let now = self.steady();
        let reaction = match error {
            OpenError::Login(reply) | OpenError::LoginLater(reply) | OpenError::Refused(_, reply) => {
                let said = Diagnostic::from(reply);
                react(&of_opening(&self.parts.rules, row, error.stage(), &said)).channel
            }
            _ => None,
        };
        let reason = error.to_string();
        let is_login_refusal = error.is_login_refusal();
        match reaction {
            Some(ForChannel::NeedsAttention) => {
                self.move_channel(way, ChannelMove::Attention { reason, revision: row.revision }).await;
            }
            Some(ForChannel::Throttle { after, told, probes }) => self.throttle(way, (after, told, probes), reason, began).await,
            Some(ForChannel::LoginRefused) if is_login_refusal => self.login_refused(way, row, reason, began).await,
            Some(ForChannel::FewerConnections { after }) => {
                self.fewer_connections(way, row, &reason).await;
                self.not_reached(way, after, reason, began).await;
            }
            Some(ForChannel::Slow { after } | ForChannel::Reconnect { after }) => {
                self.not_reached(way, after, reason, began).await;
            }
            Some(ForChannel::LoginRefused) | None if is_login_refusal => self.login_refused(way, row, reason, began).await,
            Some(ForChannel::LoginRefused) | None => self.not_reached(way, None, reason, began).await,
        }
        self.kick(way, None, now);
    }

    async fn login_refused(self: &Arc<Self>, way: &Arc<Way>, row: &Channel, reason: String, began: Era) {
        let pause = self.parts.confirm_login_after.mul_f64(1.5 + (self.parts.jitter)() / 2.0);
        let confirm_at = self.steady().plus(pause);
        let refused = ChannelMove::LoginRefused { confirm_at, reason, revision: row.revision };
        self.move_since(way, refused, Some(began)).await;
    }

    /// Backs off, by the schedule and no sooner than `after`; beside open sessions it is no verdict on the channel.
    async fn not_reached(self: &Arc<Self>, way: &Arc<Way>, after: Option<Duration>, reason: String, began: Era) {
        let failures = match way.health_since(began) {
            (ChannelState::Unreachable { failures, .. }, is_echo) => failures.saturating_sub(u32::from(is_echo)),
            _ => 0,
        };
        // A session that opens and is then told to go is a failure too: the next wait is longer.
        let failures = failures.max(way.setbacks());
        let delay = self.parts.schedule.delay(failures + 1, (self.parts.jitter)());
        let until = self.steady().plus(after.map_or(delay, |after| after.max(delay)));
        if way.crowded(until) {
            tracing::info!(channel.name = self.channel_name(way), reason, "no further connection beside the open ones");
        } else {
            self.move_since(way, ChannelMove::OpenFailed { until, reason }, Some(began)).await;
        }
    }

    /// A limit reply parks the channel: as long as the reply says, else until the next probe.
    async fn throttle(
        self: &Arc<Self>,
        way: &Arc<Way>,
        (after, told, probes): (Option<Duration>, bool, bool),
        reason: String,
        began: Era,
    ) {
        let replies = match way.health_since(began) {
            (ChannelState::Throttled { replies, .. }, is_echo) => replies.saturating_sub(u32::from(is_echo)),
            _ => 0,
        };
        let probe = probe_after(replies);
        let pause = match after {
            Some(after) if told || !probes => after,
            Some(after) => after.min(probe),
            None if probes => probe,
            None => WITHOUT_PROBES,
        };
        let until = self.steady().plus(pause);
        self.move_since(way, ChannelMove::Throttled { until, reason }, Some(began)).await;
    }

    async fn fewer_connections(self: &Arc<Self>, way: &Arc<Way>, row: &Channel, said: &str) {
        let now = self.steady();
        // The one that was refused is not among the open ones.
        way.pace().learn(|lessons| lessons.fewer(way.sessions() + 1, said, now));
        self.store_lessons(way, row).await;
    }

    /// What was learned is obeyed already, and made durable here.
    async fn store_lessons(self: &Arc<Self>, way: &Arc<Way>, row: &Channel) {
        way.open_gates();
        loop {
            let lessons = way.pace().lessons.clone();
            if let Err(problem) = self.parts.queue.set_lessons(way.channel, lessons.clone(), self.wall()).await {
                tracing::error!(channel.name = row.name, %problem, "what was learned is not stored");
                return;
            }
            // Two lessons at the same moment may be stored in either order: the last word is what holds.
            if way.pace().lessons == lessons {
                return;
            }
        }
    }

    /// Relaxes what has not been taught again for a while.
    pub(super) fn relax(self: &Arc<Self>, way: &Arc<Way>, row: &Channel) {
        let lessons = {
            let mut pace = way.pace();
            let now = self.steady();
            if pace.lessons.relaxes_at().is_none_or(|at| at > now) {
                return;
            }
            pace.learn(|lessons| {
                lessons.relax(now);
            });
            pace.lessons.clone()
        };
        tracing::info!(channel.name = row.name, pace = ?lessons.limit().map(|limit| limit.count), "a learned limit was relaxed");
        // Where it is lost, the stricter one holds after a restart.
        drop(self.parts.queue.set_lessons(way.channel, lessons, self.wall()));
    }

    /// Does to the channel what the replies of a transaction say about it, which began then.
    pub(super) async fn heed(self: &Arc<Self>, way: &Arc<Way>, row: &Channel, outgoing: &Outgoing, verdict: &Verdict, began: Era) {
        let Outgoing { lease, reverse_path, .. } = outgoing;
        let (now, (_, is_echo)) = (self.steady(), way.health_since(began));
        if verdict.channel.is_none() {
            way.went_well();
        }
        let mut breaker = None;
        {
            let mut pace = way.pace();
            if verdict.accepted {
                pace.accepted(lease.message, lease.person, is_echo, now);
            } else {
                let refusals = verdict.refusals.iter();
                breaker = refusals.filter_map(|refusal| pace.refused(lease.message, lease.person, refusal, now)).last();
            }
            if let Some((stage, said)) = &verdict.refuses_from {
                pace.refuse_sender(lease, reverse_path, *stage, said.to_string());
            }
        }
        self.store_kept(way).await;
        match breaker {
            // No reply asked for a person: one message is tried from time to time.
            Some(Breaker::Channel(reason)) => {
                self.throttle(way, (None, false, true), with_message(&reason, lease.message), began).await;
            }
            Some(Breaker::Person(reason)) => {
                tracing::warn!(channel.name = row.name, person.id = %lease.person, reason, "mail of this person is kept back");
            }
            None => {}
        }
        match &verdict.channel {
            None if verdict.accepted => self.move_since(way, ChannelMove::Accepted, Some(began)).await,
            None => {}
            Some((_, said)) if verdict.may_mean_message && !self.is_believed(way, row, lease, said) => {}
            Some((reaction, said)) => {
                let reason = match reaction {
                    ForChannel::NeedsAttention => with_message(&said.to_string(), lease.message),
                    _ => said.to_string(),
                };
                self.react(way, row, *reaction, reason, began).await;
            }
        }
        self.store_kept(way).await;
    }

    /// Whether a reply to one message is about the channel, as far as other messages can tell.
    fn is_believed(&self, way: &Way, row: &Channel, lease: &Lease, said: &Diagnostic) -> bool {
        let now = self.steady();
        let is_stopped = match way.health() {
            // A probe, or what was on its way when another reply stopped the channel: one burst is about one thing.
            ChannelState::Throttled { .. } | ChannelState::LoginRefused { .. } | ChannelState::NeedsAttention { .. } => true,
            ChannelState::Unverified | ChannelState::Active | ChannelState::Unreachable { .. } => false,
            ChannelState::Paused { .. } | ChannelState::Disabled => false,
        };
        let mut skip = way.pace().skip(now);
        let due =
            |skip: &Skip| self.parts.queue.heads(way.channel, now, skip).iter().flatten().any(|head| head.message != lease.message);
        let (any, channel) = (due(&skip), &row.name);
        skip.people.insert(lease.person);
        let others = match (due(&skip), any) {
            (true, _) => Others::OfPeople,
            (false, true) => Others::OfThePerson,
            (false, false) => Others::None,
        };
        match way.pace().blamed(lease, is_stopped, others, said, now) {
            None => {
                tracing::warn!(channel.name = channel, queue.id = %lease.message, %said, "another message is asked about the channel");
                false
            }
            Some(Breaker::Person(reason)) => {
                tracing::warn!(channel.name = channel, person.id = %lease.person, reason, "mail of this person is kept back");
                false
            }
            Some(Breaker::Channel(_)) => true,
        }
    }

    async fn react(self: &Arc<Self>, way: &Arc<Way>, row: &Channel, reaction: ForChannel, reason: String, began: Era) {
        match reaction {
            ForChannel::NeedsAttention => {
                self.move_channel(way, ChannelMove::Attention { reason, revision: row.revision }).await;
            }
            // The session that confirms the login opens, and its transaction is refused again.
            ForChannel::LoginRefused if way.wants_login_again(began) => {
                self.move_channel(way, ChannelMove::Attention { reason, revision: row.revision }).await;
            }
            ForChannel::LoginRefused => self.login_refused(way, row, reason, began).await,
            ForChannel::Throttle { after, told, probes } => self.throttle(way, (after, told, probes), reason, began).await,
            ForChannel::Slow { after } => {
                {
                    let (mut pace, now) = (way.pace(), self.steady());
                    let last_minute = pace.last_minute(now);
                    pace.learn(|lessons| {
                        // Of several replies about one burst the first one teaches.
                        if lessons.pace.as_ref().is_none_or(|known| now.since(known.taught_at) > ONE_BURST) {
                            lessons.slower(last_minute, &reason, now);
                        }
                    });
                }
                self.store_lessons(way, row).await;
                let until = self.steady().plus(after.unwrap_or(AFTER_SLOW));
                self.move_since(way, ChannelMove::Throttled { until, reason }, Some(began)).await;
            }
            ForChannel::FewerConnections { after } => {
                self.fewer_connections(way, row, &reason).await;
                self.not_reached(way, after, reason, began).await;
            }
            ForChannel::Reconnect { after } => self.not_reached(way, after, reason, began).await,
        }
    }

    /// Brings a channel's state in line with its directory row.
    pub(super) async fn follow_directory(self: &Arc<Self>, way: &Arc<Way>) {
        let directory = self.parts.directory.directory();
        let row = directory.channel(way.channel);
        let disabled = row.is_none_or(|row| row.disabled);
        let subject = row.map(Subject::of).unwrap_or_default();
        let revision = subject.revision;
        let change = way.follow(subject);
        if let Some(row) = row {
            way.pace().follow(row, || self.account(row));
            self.store_kept(way).await;
        }
        match way.health() {
            ChannelState::Disabled if !disabled => self.move_channel(way, ChannelMove::Enable).await,
            ChannelState::Disabled => {}
            _ if disabled => self.move_channel(way, ChannelMove::Disable).await,
            ChannelState::NeedsAttention { revision: failed, .. } if failed == revision => {}
            ChannelState::NeedsAttention { .. } => {
                self.move_channel(way, change.unwrap_or(ChannelMove::Changed { other_account: false })).await;
            }
            _ => {
                if let Some(change) = change {
                    self.move_channel(way, change).await;
                }
            }
        }
        way.open_gates();
        way.wake_all();
        self.kick(way, None, Timestamp(0));
    }

    pub(super) fn channel_name(&self, way: &Way) -> String {
        let directory = self.parts.directory.directory();
        directory.channel(way.channel).map_or_else(|| way.channel.to_string(), |row| row.name.clone())
    }
}

/// The words about a channel, with the message that got them.
fn with_message(said: &str, message: MessageId) -> String {
    format!("{said} (message {message})")
}
