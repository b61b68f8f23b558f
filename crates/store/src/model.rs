//! The queue in memory: as simple as its promises allow, and what the durable one is compared with.

use crate::api::*;
use crate::body::{Body, Spool};
use crate::caps::{Claim, Holder, MailCaps, OpenMail};
use mail::channel::{ChannelState, Kept};
use mail::pace::{Ahead, FromId, Lessons, Spent, Units};
use mail::steady::{Credit, Heartbeat};
use mail::{
    Cause, ChannelId, Diagnostic, Envelope, Event, EventKind, Lane, MessageId, Move, PersonId, RecipientState, TeamId, Timestamp,
};
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[derive(Clone)]
struct Row {
    state: RecipientState,
    intended: bool,
    first_attempt: Option<Timestamp>,
    view: RecipientView,
}

struct Stored {
    new: NewMessage,
    order: u64,
    channel: ChannelId,
    rows: Vec<Row>,
}

struct Key {
    fingerprint: [u8; 32],
    parts: bool,
    first: MessageId,
    recipients: Vec<String>,
}

#[derive(Default)]
struct State {
    messages: BTreeMap<MessageId, Stored>,
    keys: BTreeMap<(PersonId, String), Key>,
    events: Vec<Event>,
    channels: BTreeMap<ChannelId, ChannelState>,
    lessons: BTreeMap<ChannelId, Lessons>,
    kept: BTreeMap<ChannelId, Kept>,
    served: BTreeMap<(ChannelId, Lane), Served>,
    bytes_as_one: BTreeMap<ChannelId, Option<NonZeroU64>>,
    spending: BTreeMap<MessageId, Spend>,
    spent: Vec<Spent>,
    heartbeat: Option<Heartbeat>,
    suppressed: BTreeMap<(String, Party), Suppression>,
    waker: Option<Arc<dyn Wake>>,
    /// How far the wall clock is ahead of the steady one, in milliseconds.
    ahead_ms: i64,
    /// Some message expires; where none does nobody looks for it.
    any_expires: bool,
    closed: bool,
    caps: MailCaps,
    /// The disk has no room for outcomes.
    full: bool,
}

/// Recipients handed over in a lane: of each team, of each person of a team, and where the last one began.
#[derive(Default)]
struct Served {
    teams: Marks<Option<TeamId>>,
    people: BTreeMap<Option<TeamId>, Marks<PersonId>>,
}

struct Marks<K> {
    clock: u64,
    marks: BTreeMap<K, u64>,
}

impl<K> Default for Marks<K> {
    fn default() -> Self {
        Self { clock: 0, marks: BTreeMap::new() }
    }
}

impl<K: Ord + Copy> Marks<K> {
    fn of(&self, who: K) -> (u64, K) {
        (self.marks.get(&who).copied().unwrap_or(0).max(self.clock), who)
    }

    fn serve(&mut self, who: K, recipients: u64) {
        let (begun, _) = self.of(who);
        self.marks.insert(who, begun + recipients);
        self.clock = begun;
    }

    fn give_back(&mut self, who: K, recipients: u64) {
        if let Some(mark) = self.marks.get_mut(&who) {
            *mark = mark.saturating_sub(recipients).max(self.clock);
        }
    }
}

/// A queue in memory. Nothing survives it, except what [`Model::restart`] says a crash would leave.
#[derive(Default)]
pub struct Model(Mutex<State>);

impl Model {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A queue with these caps of open mail.
    #[must_use]
    pub fn capped(caps: MailCaps) -> Self {
        Self(Mutex::new(State { caps, ..State::default() }))
    }

    /// Whether the disk has room for outcomes: while it has none they are refused with [`StoreError::NoSpace`].
    pub fn set_full(&self, full: bool) {
        self.lock().full = full;
    }

    /// What a crash and a start at `now` make of the queue: leases are given back, and recipients with
    /// an open intent are due again after `retry`, or held when it is their second doubt.
    pub fn restart(&self, now: Timestamp, retry: Duration) {
        let mut state = self.lock();
        state.served.clear();
        state.bytes_as_one.clear();
        state.ahead_ms = 0;
        let spending = std::mem::take(&mut state.spending);
        let mut doubtful = Vec::new();
        for (id, stored) in &mut state.messages {
            for row in stored.rows.iter_mut().filter(|row| row.state == RecipientState::Leased && !row.intended) {
                row.state = RecipientState::Queued;
            }
            let rows: Vec<Settled> = stored.rows.iter().filter(|row| row.intended).map(|row| doubt(row, now.plus(retry))).collect();
            if !rows.is_empty() {
                doubtful.push(Settlement {
                    message: *id,
                    channel: stored.channel,
                    at: now,
                    relay: String::new(),
                    spending: spending.get(id).map_or(Spending::Uncounted, |spend| {
                        let Spend { account, from, units } = spend.clone();
                        Spending::Spent(Spent { account, from, units, age_from: now.plus(Duration::from_secs(600)) })
                    }),
                    recipients: rows,
                });
            }
        }
        for settle in doubtful {
            state.settle(&settle);
        }
    }
}

fn doubt(row: &Row, due: Timestamp) -> Settled {
    let to = if row.view.doubts > 0 { Move::Hold } else { Move::Doubt };
    let said = Diagnostic::own(None, Cause::Interrupted.to_string());
    Settled { index: row.view.index, to, due, counts: true, said, cause: Some(Cause::Interrupted), suppress: None }
}

fn address(recipient: &mail::Recipient) -> String {
    recipient.path.to_string().to_lowercase()
}

impl Stored {
    fn new(new: NewMessage, order: u64) -> Self {
        let due = new.due;
        let row = |(index, recipient): (usize, &mail::Recipient)| Row {
            state: RecipientState::Queued,
            intended: false,
            first_attempt: None,
            view: RecipientView {
                index: index as u32,
                address: address(recipient),
                state: RecipientState::Queued,
                since: new.at,
                attempts: 0,
                doubts: 0,
                due: Some(due),
                said: String::new(),
                relay: String::new(),
            },
        };
        let rows = new.envelope.recipients.iter().enumerate().map(row).collect();
        Self { channel: new.channel, new, order, rows }
    }

    fn is_open(&self) -> bool {
        self.rows.iter().any(|row| !row.state.is_final())
    }

    fn sender(&self) -> FromId {
        FromId::of(&self.new.author)
    }

    fn earliest(&self, ahead_ms: i64) -> Option<Timestamp> {
        let due = self.rows.iter().filter(|row| row.state == RecipientState::Queued).filter_map(|row| row.view.due).min();
        due.map(|due| due.max(self.scheduled(ahead_ms)))
    }

    fn scheduled(&self, ahead_ms: i64) -> Timestamp {
        self.new.scheduled_at.map_or(Timestamp(i64::MIN), |at| Timestamp(at.0.saturating_sub(ahead_ms)))
    }

    /// Leases at most so many of the recipients that are wanted.
    fn lease(&mut self, most: u32, wanted: impl Fn(&Row) -> bool) -> Lease {
        let mut recipients = Vec::new();
        for row in self.rows.iter_mut().filter(|row| wanted(row)).take(most as usize) {
            row.state = RecipientState::Leased;
            recipients.push(LeasedRecipient {
                index: row.view.index,
                attempts: row.view.attempts,
                doubts: row.view.doubts,
                first_attempt: row.first_attempt,
            });
        }
        let new = &self.new;
        Lease {
            message: new.id,
            channel: self.channel,
            person: new.person,
            team: new.team,
            token: new.token,
            surface: new.surface,
            accepted_at: new.at,
            lane: new.lane,
            expires_at: new.expires_at,
            envelope: Arc::new(new.envelope.clone()),
            author: new.author.as_str().into(),
            recipients,
            size_bytes: new.body.len(),
        }
    }

    fn view(&self) -> MessageView {
        let new = &self.new;
        MessageView {
            id: new.id,
            accepted_at: new.at,
            person: new.person,
            team: new.team,
            token: new.token,
            surface: new.surface,
            channel: self.channel,
            lane: new.lane,
            lane_reason: new.lane_reason.clone(),
            retry_of: new.retry_of,
            reverse_path: new.envelope.reverse_path.to_string(),
            author: new.author.clone(),
            from: new.from.clone(),
            subject: new.subject.clone(),
            message_id: new.message_id.clone(),
            tags: new.tags.clone(),
            scheduled_at: new.scheduled_at,
            expires_at: new.expires_at,
            size_bytes: new.body.len(),
            recipients: self.rows.iter().map(Row::shown).collect(),
        }
    }

    fn matches(&self, filter: &Filter) -> bool {
        let to = |address: &str| match filter.recipient.as_ref().map(|wanted| wanted.to_lowercase()) {
            None => true,
            Some(wanted) if wanted.starts_with('@') => address.ends_with(&wanted),
            Some(wanted) => address == wanted,
        };
        let of_recipient =
            |row: &Row| (filter.states.is_empty() || filter.states.contains(&row.shown().state)) && to(&row.view.address);
        self.rows.iter().any(of_recipient)
            && filter.channel.is_none_or(|channel| channel == self.channel)
            && filter.person.is_none_or(|person| person == self.new.person)
            && filter.team.is_none_or(|team| self.new.team == Some(team))
            && filter.lane.is_none_or(|lane| lane == self.new.lane)
            && filter.tags.iter().all(|tag| self.new.tags.contains(tag))
            && filter.author.as_ref().is_none_or(|author| *author == self.new.author)
            && filter.subject.as_ref().is_none_or(|part| has_part(&self.new.subject, &part.to_lowercase()))
            && filter.after.is_none_or(|after| self.new.at >= after)
            && filter.before.is_none_or(|before| self.new.at < before)
            && filter.waits.as_ref().is_none_or(|waits| self.rows.iter().any(|row| self.waits(row, waits)))
    }

    fn waits(&self, row: &Row, waits: &Waits) -> bool {
        let view = row.shown();
        let waiting = Waiting {
            channel: self.channel,
            person: self.new.person,
            lane: self.new.lane,
            from: self.sender(),
            scheduled_at: self.new.scheduled_at,
            expires_at: self.new.expires_at,
            state: view.state,
            due: row.view.due.unwrap_or_default(),
            doubts: view.doubts,
        };
        !view.state.is_final() && waits.are_meant(&waiting)
    }
}

impl Row {
    /// A lease without intent is no durable state, so nobody is shown it.
    fn shown(&self) -> RecipientView {
        let state = if self.state == RecipientState::Leased && !self.intended { RecipientState::Queued } else { self.state };
        let due = self.view.due.filter(|_| state == RecipientState::Queued);
        RecipientView { state, due, ..self.view.clone() }
    }
}

impl State {
    fn event(&mut self, kind: EventKind, at: Timestamp, message: Option<MessageId>, recipient: Option<u32>) -> &mut Event {
        let sequence = self.events.len() as u64 + 1;
        self.events.push(Event { sequence, at, kind, message, recipient, channel: None, detail: String::new() });
        self.events.last_mut().expect("one was pushed")
    }

    fn wake(&self, message: MessageId) {
        let stored = &self.messages[&message];
        if let (Some(waker), Some(due)) = (&self.waker, stored.earliest(self.ahead_ms)) {
            waker.due(stored.channel, stored.new.lane, due);
        }
    }

    fn accept(&mut self, batch: Vec<NewMessage>) -> Result<Vec<Accepted>, AcceptError> {
        let mut stored: Vec<NewMessage> = Vec::new();
        let mut accepted = Vec::new();
        for mut message in batch {
            let id = match self.replay(&mut message, &stored)? {
                Some(first) => first,
                None => {
                    let id = message.id;
                    stored.push(message);
                    accepted.push(Accepted { id, replayed: false });
                    continue;
                }
            };
            accepted.push(Accepted { id, replayed: true });
        }
        for (place, message) in stored.iter().enumerate() {
            if let Some(claim) = Claim::of(message) {
                let open = |holder| self.open_mail(holder, &stored[..place]);
                self.caps.judge(&claim, open).map_err(AcceptError::OverCap)?;
            }
        }
        for message in stored {
            self.store(message);
        }
        Ok(accepted)
    }

    /// What somebody has that is open, with these messages, counted one by one.
    fn open_mail(&self, holder: Holder, more: &[NewMessage]) -> OpenMail {
        let open = self.messages.values().filter(|stored| stored.is_open()).map(|stored| &stored.new);
        let of = |message: &&NewMessage| match holder {
            Holder::Token(token) => message.token == Some(token),
            Holder::Person(person) => message.person == person,
            Holder::Team(team) => message.team == Some(team),
            Holder::Member(team, person) => message.team == Some(team) && message.person == person,
        };
        open.chain(more).filter(of).fold(OpenMail::default(), |all, message| OpenMail {
            messages: all.messages + 1,
            bytes: all.bytes + message.body.len(),
        })
    }

    /// The message that was accepted under the key, when every recipient was. Takes recipients away
    /// that were. What is in the same batch counts as accepted.
    fn replay(&self, message: &mut NewMessage, batch: &[NewMessage]) -> Result<Option<MessageId>, AcceptError> {
        let Some(given) = &message.idempotency else { return Ok(None) };
        let same = |other: &&NewMessage| {
            other.person == message.person && other.idempotency.as_ref().is_some_and(|other| other.key == given.key)
        };
        let known = self.keys.get(&(message.person, given.key.clone()));
        let earlier: Vec<&NewMessage> = batch.iter().filter(same).collect();
        let first = known.map(|key| (key.first, key.fingerprint, key.parts));
        let first = first.or_else(|| {
            let other = earlier.first()?;
            other.idempotency.as_ref().map(|key| (other.id, key.fingerprint, key.parts))
        });
        let Some((id, fingerprint, parts)) = first else { return Ok(None) };
        let reused = || AcceptError::KeyReused { key: given.key.clone(), id };
        if parts != given.parts || fingerprint != given.fingerprint {
            return Err(reused());
        }
        let has = |recipient: &mail::Recipient| {
            known.is_some_and(|key| key.recipients.contains(&address(recipient)))
                || earlier.iter().any(|other| other.envelope.recipients.iter().any(|one| address(one) == address(recipient)))
        };
        let left: Vec<mail::Recipient> = message.envelope.recipients.iter().filter(|one| !has(one)).cloned().collect();
        if left.is_empty() {
            return Ok(Some(id));
        }
        if !given.parts {
            return Err(reused());
        }
        message.retain_recipients(|recipient| left.contains(recipient));
        Ok(None)
    }

    fn store(&mut self, message: NewMessage) {
        self.any_expires |= message.expires_at.is_some();
        let (id, at, channel) = (message.id, message.at, message.channel);
        if let Some(given) = &message.idempotency {
            let empty = Key { fingerprint: given.fingerprint, parts: given.parts, first: id, recipients: Vec::new() };
            let key = self.keys.entry((message.person, given.key.clone())).or_insert(empty);
            key.recipients.extend(message.envelope.recipients.iter().map(address));
        }
        let order = self.messages.len() as u64;
        let (suppressed, retry_of) = (message.suppressed.clone(), message.retry_of);
        let mut stored = Stored::new(message, order);
        let said = "on the list of addresses that must not be written to";
        for index in &suppressed {
            let row = &mut stored.rows[*index as usize];
            row.state = RecipientState::Suppressed;
            (row.view.state, row.view.said) = (RecipientState::Suppressed, said.into());
        }
        self.messages.insert(id, stored);
        self.event(EventKind::MessageQueued, at, Some(id), None).channel = Some(channel);
        if let Some(origin) = retry_of {
            let event = self.event(EventKind::MessageRetried, at, Some(origin), None);
            (event.channel, event.detail) = (Some(channel), format!("as {id}"));
        }
        for index in suppressed {
            let event = self.event(EventKind::MessageSuppressed, at, Some(id), Some(index));
            (event.channel, event.detail) = (Some(channel), said.into());
        }
        self.wake(id);
    }

    fn head(&self, channel: ChannelId, lane: Lane, now: Timestamp, skip: &Skip) -> Option<MessageId> {
        let nobody = Served::default();
        let served = self.served.get(&(channel, lane)).unwrap_or(&nobody);
        let all = self.messages.iter().filter(|(_, stored)| stored.channel == channel && stored.new.lane == lane);
        let passed = |stored: &Stored| skip.passes(lane, stored.new.person) || skip.froms.contains(&stored.sender());
        let ready = all.filter_map(|(id, stored)| {
            let due = stored.earliest(self.ahead_ms).filter(|due| *due <= now && !passed(stored))?;
            let (team, person) = (stored.new.team, stored.new.person);
            let within = served.people.get(&team).map_or((0, person), |people| people.of(person));
            Some((served.teams.of(team), within, due, stored.order, *id))
        });
        ready.min().map(|(.., id)| id)
    }

    fn heads(&self, channel: ChannelId, now: Timestamp, skip: &Skip) -> [Option<Head>; 3] {
        Lane::ALL.map(|lane| {
            let id = self.head(channel, lane, now, skip)?;
            let stored = self.messages.get(&id)?;
            let is_due = |row: &&Row| row.state == RecipientState::Queued && row.view.due.is_some_and(|due| due <= now);
            Some(Head {
                message: id,
                from: stored.sender(),
                person: stored.new.person,
                recipients: stored.rows.iter().filter(is_due).count() as u32,
                size_bytes: stored.new.body.len(),
            })
        })
    }

    /// Where shares are counted otherwise than before, all begin anew.
    fn count_by(&mut self, channel: ChannelId, skip: &Skip) {
        if self.bytes_as_one.insert(channel, skip.bytes_as_one).flatten() != skip.bytes_as_one {
            self.served.retain(|(of, _), _| *of != channel);
        }
    }

    fn lease(&mut self, channel: ChannelId, lane: Lane, now: Timestamp, most: u32, skip: &Skip) -> Option<Lease> {
        self.count_by(channel, skip);
        let id = self.head(channel, lane, now, skip)?;
        let stored = self.messages.get_mut(&id)?;
        let is_due = |row: &Row| row.state == RecipientState::Queued && row.view.due.is_some_and(|due| due <= now);
        let lease = stored.lease(most, is_due);
        let served = self.served.entry((channel, lane)).or_default();
        let share = share(lease.recipients.len() as u64, lease.size_bytes, skip.bytes_as_one);
        served.teams.serve(lease.team, share);
        served.people.entry(lease.team).or_default().serve(lease.person, share);
        Some(lease)
    }

    /// Messages with a queued recipient that expire, the earliest first.
    fn expiring(&self) -> Option<(Timestamp, MessageId)> {
        if !self.any_expires {
            return None;
        }
        let queued = |stored: &Stored| stored.rows.iter().any(|row| row.state == RecipientState::Queued);
        let expiring = self.messages.iter().filter(|(_, stored)| queued(stored));
        let keys = expiring.filter_map(|(id, stored)| Some((stored.new.expires_at?, stored.order, *id)));
        keys.min().map(|(at, _, id)| (at, id))
    }

    fn check(&self, record: &AttemptRecord) -> Result<(), StoreError> {
        if let Some(settle) = &record.settle {
            self.all_leased(settle.message, settle.recipients.iter().map(|row| row.index).collect())?;
            if let Some(row) = settle.recipients.iter().find(|row| RecipientState::Leased.after(row.to).is_none()) {
                return Err(StoreError::Illegal(format!("{:?}", row.to)));
            }
        }
        let Some(intend) = &record.intend else { return Ok(()) };
        let same = record.settle.iter().filter(|settle| settle.message == intend.message);
        let settled = same.flat_map(|settle| settle.recipients.iter().map(|row| row.index));
        self.all_leased(intend.message, intend.recipients.iter().copied().chain(settled).collect())
    }

    fn all_leased(&self, message: MessageId, mut indices: Vec<u32>) -> Result<(), StoreError> {
        let stored = self.messages.get(&message).filter(|stored| stored.is_open()).ok_or(StoreError::Unknown(message))?;
        let leased = |index: &u32| stored.rows.get(*index as usize).is_some_and(|row| row.state == RecipientState::Leased);
        let (all, count) = (indices.iter().all(leased), indices.len());
        indices.sort_unstable();
        indices.dedup();
        if all && indices.len() == count { Ok(()) } else { Err(StoreError::Illegal("not leased, or twice".into())) }
    }

    fn settle(&mut self, settle: &Settlement) {
        let mut facts = Vec::new();
        self.unspend(settle);
        let Some(stored) = self.messages.get_mut(&settle.message) else { return };
        let party = Party::of(stored.new.team, stored.new.person);
        for settled in &settle.recipients {
            let Some(row) = stored.rows.get_mut(settled.index as usize) else { continue };
            let Some(after) = row.state.after(settled.to) else { continue };
            row.state = after;
            row.intended = false;
            row.view.state = after;
            row.view.since = settle.at;
            row.view.due = Some(settled.due);
            row.view.said = settled.said.to_string();
            row.view.relay.clone_from(&settle.relay);
            if settled.counts {
                row.view.attempts += 1;
                row.first_attempt = row.first_attempt.or(Some(settle.at));
            }
            row.view.doubts += u32::from(settled.to == Move::Doubt || (settled.to == Move::Hold && settled.counts));
            facts.extend(kind_of(settled.to).map(|kind| (kind, settled.index, row.view.said.clone())));
            if let Some(address) = settled.suppress.clone() {
                let (reason, origin) = (row.view.said.clone(), settle.message);
                let entry = Suppression { party, address: address.clone(), reason, origin, at: settle.at };
                self.suppressed.entry((address, party)).or_insert(entry);
            }
        }
        for (kind, index, said) in facts {
            let event = self.event(kind, settle.at, Some(settle.message), Some(index));
            event.channel = Some(settle.channel);
            event.detail = said;
        }
        self.wake(settle.message);
    }

    fn unspend(&mut self, settle: &Settlement) {
        let units = match &settle.spending {
            Spending::Uncounted => return,
            Spending::Spent(spent) => {
                self.spent.push(spent.clone());
                spent.units
            }
            Spending::Refunded(units) => *units,
        };
        if let Some(open) = self.spending.get_mut(&settle.message) {
            open.units = open.units.minus(units);
            if open.units.messages == 0 {
                self.spending.remove(&settle.message);
            }
        }
    }

    fn intend(&mut self, intend: &Intent) {
        if let Some(spend) = &intend.spend {
            let nothing = || Spend { units: Units::default(), ..spend.clone() };
            let open = self.spending.entry(intend.message).or_insert_with(nothing);
            open.units = open.units.plus(spend.units);
        }
        let Some(stored) = self.messages.get_mut(&intend.message) else { return };
        for index in &intend.recipients {
            let row = &mut stored.rows[*index as usize];
            row.intended = true;
            row.view.since = intend.at;
        }
    }

    fn steer(&mut self, order: &Steer) -> Result<Vec<u32>, StoreError> {
        if (order.to == Move::Reroute) != order.channel.is_some() {
            return Err(StoreError::Illegal("a channel is named by a reroute alone".into()));
        }
        let stored = self.messages.get_mut(&order.message).ok_or(StoreError::Unknown(order.message))?;
        let by_person = matches!(order.to, Move::Cancel | Move::Hold | Move::Release | Move::Reroute | Move::Suppress);
        let mut moved = Vec::new();
        for row in stored.rows.iter_mut().filter(|_| by_person) {
            let wanted = order.recipients.is_empty() || order.recipients.contains(&row.view.index);
            let Some(after) = row.state.after(order.to).filter(|_| wanted && row.state != RecipientState::Leased) else { continue };
            row.state = after;
            row.view.since = order.at;
            row.view.said = format!("{} by {}", word(order.to), order.by);
            if order.to == Move::Release {
                row.view.due = Some(Timestamp(0));
            }
            moved.push((row.view.index, row.view.said.clone()));
        }
        if let Some(channel) = order.channel.filter(|_| !moved.is_empty()) {
            stored.channel = channel;
        }
        for (index, said) in &moved {
            if let Some(kind) = kind_of(order.to) {
                let event = self.event(kind, order.at, Some(order.message), Some(*index));
                event.channel = order.channel;
                event.detail.clone_from(said);
            }
        }
        if !moved.is_empty() {
            self.wake(order.message);
        }
        Ok(moved.into_iter().map(|(index, _)| index).collect())
    }

    fn set_channel(&mut self, channel: ChannelId, state: ChannelState, at: Timestamp) {
        let before = self.channels.insert(channel, state.clone()).unwrap_or_default();
        if before.name() == state.name() {
            return;
        }
        let kind = match state {
            ChannelState::Active => EventKind::ChannelConnected,
            ChannelState::Unverified => EventKind::ChannelResumed,
            ChannelState::Paused { .. } => EventKind::ChannelPaused,
            ChannelState::Throttled { .. } => EventKind::ChannelThrottled,
            ChannelState::Unreachable { .. } | ChannelState::LoginRefused { .. } => EventKind::ChannelUnreachable,
            ChannelState::NeedsAttention { .. } => EventKind::ChannelNeedsAttention,
            ChannelState::Disabled => EventKind::ChannelDisabled,
        };
        let event = self.event(kind, at, None, None);
        event.channel = Some(channel);
        event.detail = state.reason().to_owned();
    }

    fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for stored in self.messages.values() {
            for row in &stored.rows {
                totals.accepted += 1;
                totals.by_state[usize::from(row.state.code())] += 1;
            }
            totals.open_messages += u64::from(stored.is_open());
            totals.open_bytes += if stored.is_open() { stored.new.body.len() } else { 0 };
        }
        totals
    }

    fn queue(&self, now: Timestamp, kept_back: &KeptBack) -> Vec<ChannelQueue> {
        let mut queues: BTreeMap<ChannelId, ChannelQueue> = BTreeMap::new();
        for stored in self.messages.values().filter(|stored| stored.is_open()) {
            let empty = ChannelQueue {
                channel: stored.channel,
                queued: 0,
                leased: 0,
                held: 0,
                bytes: 0,
                oldest: None,
                lanes: [LaneQueue::default(); 3],
            };
            let queue = queues.entry(stored.channel).or_insert(empty);
            let count = |state: RecipientState| stored.rows.iter().filter(|row| row.state == state).count() as u64;
            let dues =
                stored.rows.iter().filter(|row| row.state == RecipientState::Queued).map(|row| row.view.due.unwrap_or_default());
            let is_kept_back = kept_back.contains(&(stored.channel, stored.new.person));
            queue.lanes[stored.new.lane as usize].add(
                dues,
                stored.scheduled(self.ahead_ms),
                stored.new.body.len(),
                is_kept_back,
                now,
            );
            queue.queued += count(RecipientState::Queued);
            queue.leased += count(RecipientState::Leased);
            queue.held += count(RecipientState::Held);
            queue.bytes += stored.new.body.len();
            queue.oldest = queue.oldest.into_iter().chain([stored.new.at]).min();
        }
        queues.into_values().collect()
    }

    fn counts(&self, of: &Counted) -> [u64; 9] {
        let mut by_state = [0; 9];
        let whose = Filter { person: of.person, team: of.team, channel: of.channel, ..Filter::default() };
        for row in self.messages.values().filter(|stored| stored.matches(&whose)).flat_map(|stored| &stored.rows) {
            by_state[usize::from(row.shown().state.code())] += 1;
        }
        by_state
    }

    fn list(&self, filter: &Filter, page: &Page) -> Listing {
        let limit = page.limit.clamp(1, 1000);
        let in_page = |id: &MessageId| page.after.is_none_or(|after| *id < after) && page.before.is_none_or(|before| *id > before);
        let mut found: Vec<&Stored> =
            self.messages.iter().filter(|(id, stored)| in_page(id) && stored.matches(filter)).map(|(_, stored)| stored).collect();
        if page.before.is_none() {
            found.reverse();
        }
        let has_more = found.len() > limit;
        found.truncate(limit);
        if page.before.is_some() {
            found.reverse();
        }
        Listing { messages: found.into_iter().map(Stored::view).collect(), has_more, stopped: None }
    }
}

fn kind_of(what: Move) -> Option<EventKind> {
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

fn word(what: Move) -> &'static str {
    match what {
        Move::Hold => "held",
        Move::Release => "released",
        Move::Cancel => "cancelled",
        Move::Suppress => "suppressed",
        _ => "moved",
    }
}

const CLOSED: &str = "the gateway is stopping";

impl Queue for Model {
    fn accept(&self, batch: Vec<NewMessage>) -> Commit<Result<Vec<Accepted>, AcceptError>> {
        let mut state = self.lock();
        if state.closed {
            return Commit::done(Err(AcceptError::Closed(CLOSED.into())));
        }
        Commit::done(state.accept(batch))
    }

    fn heads(&self, channel: ChannelId, now: Timestamp, skip: &Skip) -> [Option<Head>; 3] {
        let mut state = self.lock();
        state.count_by(channel, skip);
        state.heads(channel, now, skip)
    }

    fn lease(&self, channel: ChannelId, lane: Lane, now: Timestamp, most: u32, skip: &Skip) -> Option<Lease> {
        self.lock().lease(channel, lane, now, most, skip)
    }

    fn lease_expired(&self, wall: Timestamp) -> Option<Lease> {
        let mut state = self.lock();
        let (_, id) = state.expiring().filter(|(at, _)| *at <= wall)?;
        state.messages.get_mut(&id).map(|stored| stored.lease(u32::MAX, |row| row.state == RecipientState::Queued))
    }

    fn next_expiry(&self) -> Option<Timestamp> {
        self.lock().expiring().map(|(at, _)| at)
    }

    fn follow_wall(&self, ahead_ms: i64) {
        let mut state = self.lock();
        state.ahead_ms = ahead_ms;
        let scheduled = state.messages.values().filter(|stored| stored.new.scheduled_at.is_some());
        scheduled.for_each(|stored| state.wake(stored.new.id));
    }

    fn ahead(&self, channel: ChannelId, messages: &[MessageId], now: Timestamp) -> Vec<(MessageId, Lane, Ahead)> {
        let state = self.lock();
        let queued = |stored: &Stored| stored.rows.iter().filter(|row| row.state == RecipientState::Queued).count() as u64;
        let key = |stored: &Stored| stored.earliest(state.ahead_ms).map(|due| (stored.new.lane, due, stored.order));
        let on: Vec<&Stored> =
            state.messages.values().filter(|stored| stored.channel == channel && key(stored).is_some()).collect();
        let mut found: Vec<_> = on.iter().filter(|stored| messages.contains(&stored.new.id)).collect();
        found.sort_by_key(|stored| key(stored));
        let ahead = |stored: &&&Stored| {
            let mut ahead = Ahead::default();
            for other in on.iter().filter(|other| other.new.lane == stored.new.lane && key(other) <= key(stored)) {
                ahead.add(queued(other), other.new.body.len());
            }
            let mut urgent = Ahead::default();
            let goes = |other: &&&Stored| {
                let due = stored.earliest(state.ahead_ms).into_iter().chain([now]).max();
                other.new.lane < stored.new.lane && other.earliest(state.ahead_ms) <= due
            };
            for other in on.iter().filter(goes) {
                urgent.add(queued(other), other.new.body.len());
            }
            (stored.new.id, stored.new.lane, ahead.behind(urgent, stored.new.lane))
        };
        found.iter().map(ahead).collect()
    }

    fn overdue(&self, channel: ChannelId, before: Timestamp, limit: usize) -> Vec<MessageId> {
        let state = self.lock();
        let due = |stored: &Stored| stored.earliest(state.ahead_ms).is_some_and(|due| due < before);
        let late = |stored: &&Stored| stored.channel == channel && due(stored);
        state.messages.values().filter(late).take(limit).map(|stored| stored.new.id).collect()
    }

    fn waiting_since(&self, channel: ChannelId, before: Timestamp, limit: usize) -> Vec<MessageId> {
        let state = self.lock();
        let queued = |stored: &Stored| stored.earliest(state.ahead_ms).is_some();
        let since = |stored: &Stored| stored.new.due.max(stored.scheduled(state.ahead_ms));
        let late = |stored: &&Stored| stored.channel == channel && queued(stored) && since(stored) < before;
        state.messages.values().filter(late).take(limit).map(|stored| stored.new.id).collect()
    }

    fn next_due_after(&self, channel: ChannelId, now: Timestamp) -> Option<Timestamp> {
        let state = self.lock();
        let on = state.messages.values().filter(|stored| stored.channel == channel);
        on.filter_map(|stored| stored.earliest(state.ahead_ms)).filter(|due| *due > now).min()
    }

    fn next_due(&self, channel: ChannelId) -> Option<Timestamp> {
        let state = self.lock();
        state
            .messages
            .values()
            .filter(|stored| stored.channel == channel)
            .filter_map(|stored| stored.earliest(state.ahead_ms))
            .min()
    }

    fn spool(&self) -> Result<Spool, AcceptError> {
        Ok(Spool::in_memory())
    }

    fn body(&self, message: MessageId) -> Result<Body, StoreError> {
        let state = self.lock();
        let stored = state.messages.get(&message).filter(|stored| stored.is_open());
        stored.map(|stored| stored.new.body.clone()).ok_or(StoreError::Unknown(message))
    }

    fn record(&self, attempt: AttemptRecord) -> Commit<Result<(), StoreError>> {
        let mut state = self.lock();
        if state.closed {
            return Commit::done(Err(StoreError::Closed(CLOSED.into())));
        }
        if state.full {
            return Commit::done(Err(StoreError::NoSpace("no space left on device".into())));
        }
        let checked = state.check(&attempt);
        if checked.is_ok() {
            attempt.settle.iter().for_each(|settle| state.settle(settle));
            attempt.intend.iter().for_each(|intend| state.intend(intend));
            attempt.reports.into_iter().for_each(|report| state.store(report));
        }
        Commit::done(checked)
    }

    fn give_back(&self, message: MessageId, recipients: &[u32]) {
        let mut state = self.lock();
        let Some(stored) = state.messages.get_mut(&message) else { return };
        let mut count = 0;
        for row in stored.rows.iter_mut().filter(|row| recipients.contains(&row.view.index)) {
            if row.state == RecipientState::Leased && !row.intended {
                row.state = RecipientState::Queued;
                count += 1;
            }
        }
        let (line, team, person) = ((stored.channel, stored.new.lane), stored.new.team, stored.new.person);
        let size_bytes = stored.new.body.len();
        let share = share(count, size_bytes, state.bytes_as_one.get(&line.0).copied().flatten());
        if let Some(served) = state.served.get_mut(&line) {
            served.teams.give_back(team, share);
            served.people.entry(team).or_default().give_back(person, share);
        }
        state.wake(message);
    }

    fn bring_forward(&self, put_off: &[PutOff], due: Timestamp) {
        let mut state = self.lock();
        for PutOff { message, recipient, until } in put_off {
            let row = state.messages.get_mut(message).and_then(|stored| stored.rows.get_mut(*recipient as usize));
            let stands = |row: &&mut Row| row.state == RecipientState::Queued && row.view.due == Some(*until);
            if let Some(row) = row.filter(stands) {
                row.view.due = Some(due.min(*until));
                state.wake(*message);
            }
        }
    }

    fn steer(&self, order: Steer) -> Commit<Result<Vec<u32>, StoreError>> {
        let mut state = self.lock();
        if state.closed {
            return Commit::done(Err(StoreError::Closed(CLOSED.into())));
        }
        Commit::done(state.steer(&order))
    }

    fn set_channel_state(&self, channel: ChannelId, new: ChannelState, at: Timestamp) -> Commit<Result<(), StoreError>> {
        let mut state = self.lock();
        if state.closed {
            return Commit::done(Err(StoreError::Closed(CLOSED.into())));
        }
        state.set_channel(channel, new, at);
        Commit::done(Ok(()))
    }

    fn channel_states(&self) -> BTreeMap<ChannelId, ChannelState> {
        self.lock().channels.clone()
    }

    fn set_lessons(&self, channel: ChannelId, lessons: Lessons, at: Timestamp) -> Commit<Result<(), StoreError>> {
        let mut state = self.lock();
        if state.closed {
            return Commit::done(Err(StoreError::Closed(CLOSED.into())));
        }
        let before = state.lessons.insert(channel, lessons.clone()).unwrap_or_default();
        let mut taught = Vec::new();
        if let Some(pace) = lessons.pace.filter(|pace| before.pace.is_none_or(|known| known.taught_at != pace.taught_at)) {
            taught.push(format!("{} messages a minute: {}", pace.per_minute, pace.said));
        }
        if let Some(cap) = lessons.cap.filter(|cap| before.cap.is_none_or(|known| known.taught_at != cap.taught_at)) {
            taught.push(format!("{} connections: {}", cap.connections, cap.said));
        }
        for detail in taught {
            let event = state.event(EventKind::ChannelLimitLearned, at, None, None);
            (event.channel, event.detail) = (Some(channel), detail);
        }
        Commit::done(Ok(()))
    }

    fn lessons(&self) -> BTreeMap<ChannelId, Lessons> {
        self.lock().lessons.clone()
    }

    fn set_kept(
        &self,
        channel: ChannelId,
        kept: Kept,
        told: Vec<(EventKind, String)>,
        at: Timestamp,
    ) -> Commit<Result<(), StoreError>> {
        let mut state = self.lock();
        if state.closed {
            return Commit::done(Err(StoreError::Closed(CLOSED.into())));
        }
        state.kept.insert(channel, kept);
        for (kind, detail) in told {
            let event = state.event(kind, at, None, None);
            (event.channel, event.detail) = (Some(channel), detail);
        }
        Commit::done(Ok(()))
    }

    fn kept(&self) -> BTreeMap<ChannelId, Kept> {
        self.lock().kept.clone()
    }

    fn beat(&self, heartbeat: Heartbeat, credit: Option<Credit>) -> Commit<Result<(), StoreError>> {
        let mut state = self.lock();
        if state.closed {
            return Commit::done(Err(StoreError::Closed(CLOSED.into())));
        }
        state.heartbeat = Some(heartbeat);
        if let Some(Credit { before, by }) = credit {
            let old = state.spent.iter_mut().filter(|one| one.age_from < before);
            old.for_each(|one| one.age_from.0 -= by.as_millis() as i64);
        }
        Commit::done(Ok(()))
    }

    fn is_suppressed(&self, party: Party, address: &str) -> bool {
        self.lock().suppressed.contains_key(&(address.to_owned(), party))
    }

    fn unsuppress(&self, party: Party, address: &str, _: &str, _: Timestamp) -> Commit<Result<bool, StoreError>> {
        let mut state = self.lock();
        if state.closed {
            return Commit::done(Err(StoreError::Closed(CLOSED.into())));
        }
        Commit::done(Ok(state.suppressed.remove(&(address.to_owned(), party)).is_some()))
    }

    fn set_waker(&self, waker: Arc<dyn Wake>) {
        let mut state = self.lock();
        state.waker = Some(waker);
        for id in state.messages.keys() {
            state.wake(*id);
        }
    }

    fn totals(&self) -> Totals {
        self.lock().totals()
    }

    fn caps(&self) -> MailCaps {
        self.lock().caps
    }

    fn open_mail(&self, holder: Holder) -> OpenMail {
        self.lock().open_mail(holder, &[])
    }

    fn arriving_bytes(&self) -> u64 {
        0
    }

    fn knows_keys(&self, person: PersonId, key: Option<&str>) -> Result<bool, StoreError> {
        Ok(self.lock().keys.keys().any(|(of, one)| *of == person && key.is_none_or(|key| key == one)))
    }

    fn accepting(&self) -> Result<(), AcceptError> {
        if self.lock().closed { Err(AcceptError::Closed(CLOSED.into())) } else { Ok(()) }
    }

    fn message(&self, id: MessageId) -> Result<Option<MessageView>, StoreError> {
        Ok(self.lock().messages.get(&id).map(Stored::view))
    }

    fn raw(&self, id: MessageId) -> Result<Option<Body>, StoreError> {
        Ok(self.lock().messages.get(&id).map(|stored| stored.new.body.clone()))
    }

    fn envelope(&self, id: MessageId) -> Result<Option<Envelope>, StoreError> {
        Ok(self.lock().messages.get(&id).map(|stored| stored.new.envelope.clone()))
    }

    fn list(&self, filter: &Filter, page: &Page) -> Result<Listing, StoreError> {
        Ok(self.lock().list(filter, page))
    }

    fn counts(&self, of: &Counted) -> Result<[u64; 9], StoreError> {
        Ok(self.lock().counts(of))
    }

    fn queue(&self, now: Timestamp, kept_back: &KeptBack) -> Result<Vec<ChannelQueue>, StoreError> {
        Ok(self.lock().queue(now, kept_back))
    }

    fn events(&self, after: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        Ok(self.lock().events.iter().filter(|event| event.sequence > after).take(limit).cloned().collect())
    }

    fn events_of(&self, id: MessageId, after: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        let of = |event: &&Event| event.message == Some(id) && event.sequence > after;
        Ok(self.lock().events.iter().filter(of).take(limit).cloned().collect())
    }

    fn events_of_channel(&self, channel: ChannelId, limit: usize) -> Result<Vec<Event>, StoreError> {
        let state = self.lock();
        let own = |event: &&Event| event.channel == Some(channel) && event.message.is_none();
        Ok(state.events.iter().rev().filter(own).take(limit).cloned().collect())
    }

    fn suppressions(&self, parties: &[Party], after: Option<&str>, limit: usize) -> Result<Vec<Suppression>, StoreError> {
        let state = self.lock();
        let wanted = |one: &&Suppression| {
            (parties.is_empty() || parties.contains(&one.party)) && after.is_none_or(|after| one.address.as_str() > after)
        };
        Ok(state.suppressed.values().filter(wanted).take(limit).cloned().collect())
    }

    fn spent(&self) -> Result<Vec<Spent>, StoreError> {
        let mut spent = self.lock().spent.clone();
        spent.sort_by_key(|one| one.age_from);
        Ok(spent)
    }

    fn forget_spent(&self, account: &str, before: Timestamp) -> Result<(), StoreError> {
        self.lock().spent.retain(|one| &*one.account != account || one.age_from >= before);
        Ok(())
    }

    fn close(&self) {
        self.lock().closed = true;
    }
}
