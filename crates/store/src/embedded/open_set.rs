//! Every open message, compactly, in memory; and what a record does to it.
//!
//! One function applies a record, live and in replay. What it returns is all that the index learns.

use super::bodies::Bodies;
use super::lines::{LANES, Lines, Stand};
use super::log::Position;
use super::record::{Base, CarriedKey, Intend, Meta, Record, Settle, Snapshot, StoodRow};
use crate::api::{ChannelQueue, Head, KeptBack, LaneQueue, LeasedRecipient, Party, Skip, Spend, Suppression, Totals};
use crate::body::{Body, FileId};
use mail::channel::{ChannelState, Kept};
use mail::pace::{Ahead, FromId, Lessons, Spent, Units};
use mail::steady::{Credit, Heartbeat};
use mail::{ChannelId, Envelope, EventKind, Lane, MessageId, Move, PersonId, RecipientState, TeamId, Timestamp};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

/// So many entries of messages that have left the cache are not worth a sweep.
const SPARE_ORDER: usize = 64;
/// Slots that are looked at without letting others in between.
const SLOTS_AT_ONCE: usize = 16_384;

/// What the message is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub position: Position,
    pub payload_length: u32,
    pub body_at: u32,
}

/// One recipient of an open message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub state: RecipientState,
    /// A durable intent stands behind the lease.
    pub intended: bool,
    pub doubts: u8,
    pub attempts: u16,
    pub due: Timestamp,
    pub first_attempt: Timestamp,
}

enum Rows {
    One(Row),
    Many(Box<[Row]>),
}

impl Rows {
    fn get(&self) -> &[Row] {
        match self {
            Self::One(row) => std::slice::from_ref(row),
            Self::Many(rows) => rows,
        }
    }

    fn get_mut(&mut self) -> &mut [Row] {
        match self {
            Self::One(row) => std::slice::from_mut(row),
            Self::Many(rows) => rows,
        }
    }
}

/// A message that is open, but for its recipients.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub id: MessageId,
    pub place: Place,
    /// The sequence under which it was accepted: first come, first served.
    pub order: u64,
    pub channel: ChannelId,
    pub accepted_at: Timestamp,
    pub lane: Lane,
    pub team: Option<TeamId>,
    pub person: PersonId,
    pub from: FromId,
    /// When it was accepted, by the steady clock.
    pub since: Timestamp,
    /// Not before this time of the wall clock; [`UNSCHEDULED`] without one.
    pub scheduled_at: Timestamp,
    /// Not after this time of the wall clock; [`UNENDING`] without one.
    pub expires_at: Timestamp,
}

/// No time that it is scheduled for.
pub(crate) const UNSCHEDULED: Timestamp = Timestamp(i64::MIN);
/// No time at which it expires.
pub(crate) const UNENDING: Timestamp = Timestamp(i64::MAX);

impl Standing {
    /// Its key among those that expire; `None` when it does not.
    fn expiry(&self) -> Option<Expiry> {
        (self.expires_at != UNENDING).then_some((self.expires_at, self.order))
    }

    /// When it may leave at the earliest, by a steady clock that the wall clock is so far ahead of.
    fn scheduled(&self, ahead_ms: i64) -> Timestamp {
        if self.scheduled_at == UNSCHEDULED {
            return UNSCHEDULED;
        }
        Timestamp(self.scheduled_at.0.saturating_sub(ahead_ms))
    }

    fn stand(&self) -> Stand {
        Stand { lane: self.lane, team: self.team, person: self.person, from: self.from }
    }
}

struct Open {
    standing: Standing,
    rows: Rows,
    /// Its place in the channel's queue, when it has one.
    queued_at: Option<Timestamp>,
    /// A write about it is on its way: leases pass it by.
    reserved: bool,
}

/// By the time, then in the order of acceptance.
type Expiry = (Timestamp, u64);

/// What is kept of a fresh message, so that handing it over needs no disk.
#[derive(Clone)]
pub(crate) struct Fresh {
    pub meta: Arc<Shared>,
    pub body: Body,
}

impl Fresh {
    /// Bytes of memory, about.
    fn weight(&self) -> usize {
        self.body.head().len() + 768
    }
}

/// What a lease needs of a message.
pub(crate) struct Shared {
    pub person: PersonId,
    pub team: Option<TeamId>,
    pub token: Option<mail::TokenId>,
    pub surface: mail::Surface,
    pub lane: Lane,
    pub at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub author: Arc<str>,
    pub envelope: Arc<Envelope>,
}

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
    /// With the sequence of the record that said it first.
    pub carried_spent: Vec<(u64, Spent)>,
    pub accepted: u64,
    /// The message of which nothing is open any more.
    pub ended: Option<MessageId>,
    /// The segment that had it, and when it ended, by the last heartbeat.
    pub ended_in: Option<(u32, Timestamp)>,
    /// From state, to state, as the log knows them.
    pub moved: Vec<(RecipientState, RecipientState)>,
    pub wakes: Vec<Wakeup>,
}

/// Mail of a lane that is due then.
pub(crate) type Wakeup = (ChannelId, Lane, Timestamp);

/// A message taken for delivery.
pub(crate) struct Taken {
    pub message: MessageId,
    pub channel: ChannelId,
    pub place: Place,
    pub size_bytes: u64,
    pub recipients: Vec<LeasedRecipient>,
    pub fresh: Option<Fresh>,
}

/// A message with recipients whose intent was durable when the process ended.
pub(crate) struct Interrupted {
    pub message: MessageId,
    pub channel: ChannelId,
    /// Places in the envelope, with the doubts so far.
    pub rows: Vec<(u32, u8)>,
    /// What its transactions spend.
    pub spend: Option<Spend>,
}

/// What a segment of the log is still needed for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SegmentUse {
    /// Open messages whose record it has.
    pub open: u32,
    /// Bytes of their records.
    pub live_bytes: u64,
    /// When the first and the last message of it ended, by the heartbeat before.
    pub ended: Option<(Timestamp, Timestamp)>,
}

impl SegmentUse {
    fn end(&mut self, at: Timestamp) {
        let (first, last) = self.ended.unwrap_or((at, at));
        self.ended = Some((first.min(at), last.max(at)));
    }
}

/// All open messages.
#[derive(Default)]
pub(crate) struct OpenSet {
    slots: Vec<Option<Open>>,
    free: Vec<u32>,
    by_id: HashMap<MessageId, u32>,
    lines: HashMap<ChannelId, Lines>,
    /// Open messages with a queued recipient that expire.
    expiring: BTreeMap<Expiry, u32>,
    /// Open messages that are scheduled.
    scheduled: BTreeSet<u32>,
    /// How far the wall clock is ahead of the steady one, in milliseconds.
    ahead_ms: i64,
    pub(crate) states: BTreeMap<ChannelId, ChannelState>,
    pub(crate) lessons: BTreeMap<ChannelId, Lessons>,
    pub(crate) kept: BTreeMap<ChannelId, Kept>,
    pub(crate) heartbeat: Option<Heartbeat>,
    /// What open transactions spend.
    pub(crate) spending: HashMap<MessageId, Spend>,
    pub(crate) suppressed: BTreeSet<(Party, String)>,
    pub(crate) totals: Totals,
    /// The files of large bodies.
    pub(crate) bodies: Bodies,
    /// Recipients by state, as the log knows them: a lease alone is not in it.
    pub(crate) recorded: [u64; 9],
    pub(crate) segments: BTreeMap<u32, SegmentUse>,
    /// The latest time that a record named, for a queue without heartbeats.
    latest: Timestamp,
    cache: HashMap<u32, Fresh>,
    cache_order: VecDeque<(u32, MessageId)>,
    cache_bytes: usize,
    cache_limit: usize,
}

impl OpenSet {
    pub(crate) fn new(cache_limit: usize) -> Self {
        Self { cache_limit, ..Self::default() }
    }

    /// Puts a message back that the index knows as open.
    pub(crate) fn restore(&mut self, standing: Standing, rows: Vec<Row>) {
        self.insert(standing, rows);
    }

    fn insert(&mut self, standing: Standing, rows: Vec<Row>) -> u32 {
        let Standing { id, place, .. } = standing;
        let rows = match <[Row; 1]>::try_from(rows) {
            Ok([row]) => Rows::One(row),
            Err(rows) => Rows::Many(rows.into_boxed_slice()),
        };
        let open = Open { standing, rows, queued_at: None, reserved: false };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(open);
                slot
            }
            None => {
                self.slots.push(Some(open));
                (self.slots.len() - 1) as u32
            }
        };
        self.by_id.insert(id, slot);
        if standing.scheduled_at != UNSCHEDULED {
            self.scheduled.insert(slot);
        }
        self.occupy(place);
        self.totals.open_messages += 1;
        self.totals.open_bytes += self.size(&standing);
        self.requeue(slot);
        slot
    }

    /// Length of a message in bytes.
    fn size(&self, standing: &Standing) -> u64 {
        u64::from(standing.place.payload_length - standing.place.body_at) + self.bodies.length(standing.id)
    }

    fn occupy(&mut self, place: Place) {
        let used = self.segments.entry(place.position.segment).or_default();
        used.open += 1;
        used.live_bytes += u64::from(place.payload_length);
    }

    fn vacate(&mut self, place: Place) {
        let used = self.segments.entry(place.position.segment).or_default();
        used.open = used.open.saturating_sub(1);
        used.live_bytes = used.live_bytes.saturating_sub(u64::from(place.payload_length));
    }

    /// The time by which bodies are kept: that of the last heartbeat.
    pub(crate) fn today(&self) -> Timestamp {
        self.heartbeat.map_or(self.latest, |heartbeat| heartbeat.steady)
    }

    fn open(&self, id: MessageId) -> Option<&Open> {
        self.slots[*self.by_id.get(&id)? as usize].as_ref()
    }

    fn open_mut(&mut self, slot: u32) -> &mut Open {
        self.slots[slot as usize].as_mut().expect("a slot in use")
    }

    /// The rows of an open message.
    pub(crate) fn rows(&self, id: MessageId) -> Option<&[Row]> {
        self.open(id).map(|open| open.rows.get())
    }

    /// Where an open message stands in the log.
    pub(crate) fn place(&self, id: MessageId) -> Option<Place> {
        self.open(id).map(|open| open.standing.place)
    }

    /// Puts a message where its earliest queued recipient belongs; returns when that is due.
    fn requeue(&mut self, slot: u32) -> Option<Wakeup> {
        let open = self.slots[slot as usize].as_mut()?;
        let standing = open.standing;
        let scheduled = standing.scheduled(self.ahead_ms);
        let wanted = if open.reserved { None } else { earliest(open.rows.get()).map(|due| due.max(scheduled)) };
        let wakeup = wanted.map(|due| (standing.channel, standing.lane, due));
        if open.queued_at == wanted {
            return wakeup;
        }
        let before = std::mem::replace(&mut open.queued_at, wanted);
        if let Some(expiry) = standing.expiry() {
            match wanted {
                Some(_) => drop(self.expiring.insert(expiry, slot)),
                None => drop(self.expiring.remove(&expiry)),
            }
        }
        let lines = self.lines.entry(standing.channel).or_default();
        if let Some(before) = before {
            lines.remove((before, standing.order), standing.stand());
        }
        if let Some(due) = wanted {
            lines.insert((due, standing.order), slot, standing.stand());
        }
        wakeup
    }

    /// The messages that would be leased next.
    pub(crate) fn heads(&mut self, channel: ChannelId, now: Timestamp, skip: &Skip) -> [Option<Head>; 3] {
        let ahead_ms = self.ahead_ms;
        let Some(lines) = self.lines.get_mut(&channel) else { return [None; 3] };
        let slots = LANES.map(|lane| lines.first(lane, now, skip));
        let now = lines.reached();
        slots.map(|slot| {
            let open = self.slots[slot? as usize].as_ref()?;
            let Standing { id, person, from, .. } = open.standing;
            let is_time = open.standing.scheduled(ahead_ms) <= now;
            let due = open.rows.get().iter().filter(|row| is_time && is_due(row, now)).count();
            Some(Head { message: id, from, person, recipients: due as u32, size_bytes: self.size(&open.standing) })
        })
    }

    /// Takes the head of a lane, and of it at most so many recipients.
    pub(crate) fn lease(&mut self, channel: ChannelId, lane: Lane, now: Timestamp, most: u32, skip: &Skip) -> Option<Taken> {
        let lines = self.lines.get_mut(&channel)?;
        let slot = lines.first(lane, now, skip)?;
        // Whoever looked a moment later may have brought it to the lane already: it is due for everybody.
        let now = lines.reached();
        let fresh = self.cache.get(&slot).cloned();
        let open = self.open_mut(slot);
        let standing = open.standing;
        let recipients = take(open.rows.get_mut(), most, |row| is_due(row, now));
        let count = recipients.len() as u64;
        self.count_lease(count);
        self.requeue(slot);
        let size_bytes = self.size(&standing);
        self.lines.entry(channel).or_default().served(standing.stand(), count, size_bytes);
        Some(Taken { message: standing.id, channel, place: standing.place, size_bytes, recipients, fresh })
    }

    /// Takes every queued recipient of the message whose time was over first.
    pub(crate) fn lease_expired(&mut self, wall: Timestamp) -> Option<Taken> {
        let ((expires_at, _), slot) = self.expiring.first_key_value().map(|(key, slot)| (*key, *slot))?;
        if expires_at > wall {
            return None;
        }
        let fresh = self.cache.get(&slot).cloned();
        let open = self.open_mut(slot);
        let standing = open.standing;
        let Standing { id, channel, place, .. } = standing;
        let recipients = take(open.rows.get_mut(), u32::MAX, |row| row.state == RecipientState::Queued);
        self.count_lease(recipients.len() as u64);
        self.requeue(slot);
        let size_bytes = self.size(&standing);
        Some(Taken { message: id, channel, place, size_bytes, recipients, fresh })
    }

    /// When the next message with a queued recipient expires.
    pub(crate) fn next_expiry(&self) -> Option<Timestamp> {
        self.expiring.first_key_value().map(|((expires_at, _), _)| *expires_at)
    }

    /// Puts scheduled mail where it belongs by a wall clock that is so far ahead.
    pub(crate) fn follow_wall(&mut self, ahead_ms: i64) -> Vec<Wakeup> {
        if std::mem::replace(&mut self.ahead_ms, ahead_ms) == ahead_ms {
            return Vec::new();
        }
        let slots: Vec<u32> = self.scheduled.iter().copied().collect();
        let mut wakes: Vec<Wakeup> = slots.into_iter().filter_map(|slot| self.requeue(slot)).collect();
        // The lanes of a channel are told once, of what is due first.
        wakes.sort_unstable();
        wakes.dedup_by_key(|(channel, lane, _)| (*channel, *lane));
        wakes
    }

    /// What leaves before these messages, and with them.
    pub(crate) fn ahead(&self, channel: ChannelId, messages: &[MessageId], now: Timestamp) -> Vec<(MessageId, Lane, Ahead)> {
        let Some(lines) = self.lines.get(&channel) else { return Vec::new() };
        let mut found = Vec::new();
        for lane in LANES {
            let of_lane = messages.iter().filter_map(|id| {
                let open = self.open(*id).filter(|open| open.standing.channel == channel && open.standing.lane == lane)?;
                Some(((open.queued_at?, open.standing.order), *id))
            });
            let mut wanted: Vec<_> = of_lane.collect();
            if wanted.is_empty() {
                continue;
            }
            wanted.sort_unstable();
            // What goes before the first of them, between it and the second, and so on: of the lane, and of more urgent ones.
            let mut between = vec![[Ahead::default(); 2]; wanted.len()];
            let urgent = LANES.into_iter().filter(|other| *other < lane).flat_map(|other| lines.all(other));
            let before =
                urgent.map(|((due, _), slot)| (wanted.partition_point(|((wanted, _), _)| (*wanted).max(now) < due), slot, 1));
            let own = lines.all(lane).map(|(key, slot)| (wanted.partition_point(|(wanted, _)| *wanted < key), slot, 0));
            for (behind, slot, kind) in own.chain(before) {
                let (Some(sums), Some(open)) = (between.get_mut(behind), self.slots[slot as usize].as_ref()) else { continue };
                let count = open.rows.get().iter().filter(|row| row.state == RecipientState::Queued).count();
                sums[kind].add(count as u64, self.size(&open.standing));
            }
            let [mut own, mut urgent] = [Ahead::default(); 2];
            for ((_, id), [more, before]) in wanted.into_iter().zip(between) {
                (own, urgent) = (own.plus(more), urgent.plus(before));
                found.push((id, lane, own.behind(urgent, lane)));
            }
        }
        found
    }

    /// Messages that have been due since before a moment.
    pub(crate) fn overdue(&self, channel: ChannelId, before: Timestamp, limit: usize) -> Vec<MessageId> {
        let Some(lines) = self.lines.get(&channel) else { return Vec::new() };
        let all = LANES.iter().flat_map(|lane| lines.all(*lane)).filter(|((due, _), _)| *due < before);
        let mut found: Vec<_> =
            all.filter_map(|(_, slot)| self.slots[slot as usize].as_ref()).map(|open| open.standing.id).collect();
        found.sort_unstable();
        found.truncate(limit);
        found
    }

    /// Messages that could have left before a moment.
    pub(crate) fn waiting_since(&self, channel: ChannelId, before: Timestamp, limit: usize) -> Vec<MessageId> {
        let Some(lines) = self.lines.get(&channel) else { return Vec::new() };
        let all = LANES.iter().flat_map(|lane| lines.all(*lane));
        let standing = all.filter_map(|(_, slot)| self.slots[slot as usize].as_ref()).map(|open| open.standing);
        let late = |one: &Standing| one.since.max(one.scheduled(self.ahead_ms)) < before;
        let mut found: Vec<_> = standing.filter(late).map(|one| one.id).collect();
        found.sort_unstable();
        found.truncate(limit);
        found
    }

    fn count_lease(&mut self, count: u64) {
        self.totals.by_state[0] -= count;
        self.totals.by_state[1] += count;
    }

    /// Gives leased recipients back that never had an intent.
    pub(crate) fn give_back(&mut self, message: MessageId, recipients: &[u32]) -> Option<Wakeup> {
        let slot = *self.by_id.get(&message)?;
        let open = self.open_mut(slot);
        let mut count = 0;
        for index in recipients {
            if let Some(row) =
                open.rows.get_mut().get_mut(*index as usize).filter(|row| row.state == RecipientState::Leased && !row.intended)
            {
                row.state = RecipientState::Queued;
                count += 1;
            }
        }
        self.totals.by_state[0] += count;
        self.totals.by_state[1] -= count;
        let standing = self.open_mut(slot).standing;
        let size_bytes = self.size(&standing);
        self.lines.entry(standing.channel).or_default().given_back(standing.stand(), count, size_bytes);
        self.requeue(slot)
    }

    /// Queued recipients that are due later are due at `due`.
    pub(crate) fn bring_forward(&mut self, message: MessageId, recipients: &[u32], due: Timestamp) -> Option<Wakeup> {
        let slot = *self.by_id.get(&message)?;
        let rows = self.open_mut(slot).rows.get_mut();
        for index in recipients {
            if let Some(row) = rows.get_mut(*index as usize).filter(|row| row.state == RecipientState::Queued) {
                row.due = row.due.min(due);
            }
        }
        self.requeue(slot)
    }

    pub(crate) fn next_due(&self, channel: ChannelId) -> Option<Timestamp> {
        let lines = self.lines.get(&channel)?;
        LANES.iter().filter_map(|lane| lines.next_due(*lane)).min()
    }

    pub(crate) fn next_due_after(&self, channel: ChannelId, now: Timestamp) -> Option<Timestamp> {
        let lines = self.lines.get(&channel)?;
        LANES.iter().filter_map(|lane| lines.next_later(*lane, now)).min()
    }

    /// When the first message of each channel and lane is due.
    pub(crate) fn all_due(&self) -> Vec<Wakeup> {
        let of_channel =
            |(channel, lines): (&ChannelId, &Lines)| LANES.map(|lane| lines.next_due(lane).map(|due| (*channel, lane, due)));
        let mut all: Vec<Wakeup> = self.lines.iter().flat_map(of_channel).flatten().collect();
        all.sort_unstable();
        all
    }

    /// What the wall clock reads at a moment of the steady clock, as far as the last heartbeat tells.
    pub(crate) fn wall_at(&self, steady: Timestamp) -> Timestamp {
        self.heartbeat.map_or(steady, |last| last.reading.wall.plus(steady.since(last.steady)))
    }

    /// Keeps leases away from a message while a write about it is on its way.
    pub(crate) fn reserve(&mut self, message: MessageId, reserved: bool) -> Option<Wakeup> {
        let slot = *self.by_id.get(&message)?;
        self.open_mut(slot).reserved = reserved;
        self.requeue(slot)
    }

    /// Keeps a fresh message in memory, within the budget.
    pub(crate) fn cache(&mut self, id: MessageId, fresh: Fresh) {
        let Some(slot) = self.by_id.get(&id).copied() else { return };
        self.cache_bytes += fresh.weight();
        if let Some(before) = self.cache.insert(slot, fresh) {
            self.cache_bytes -= before.weight();
            return;
        }
        self.cache_order.push_back((slot, id));
        while self.cache_bytes > self.cache_limit {
            let Some((slot, id)) = self.cache_order.pop_front() else { break };
            if self.by_id.get(&id) == Some(&slot) {
                self.uncache(slot);
            }
        }
    }

    /// Keeps no fresh message any more.
    pub(crate) fn empty_cache(&mut self) {
        self.cache.clear();
        self.cache_order.clear();
        self.cache_bytes = 0;
    }

    fn uncache(&mut self, slot: u32) {
        if let Some(fresh) = self.cache.remove(&slot) {
            self.cache_bytes -= fresh.weight();
        }
        // Entries of messages that are gone pile up at the front.
        while let Some((slot, id)) = self.cache_order.front() {
            if self.by_id.get(id) == Some(slot) && self.cache.contains_key(slot) {
                break;
            }
            self.cache_order.pop_front();
        }
        // Behind a message that stays for days they would pile up without end.
        if self.cache_order.len() > 2 * self.cache.len() + SPARE_ORDER {
            let (by_id, cache) = (&self.by_id, &self.cache);
            self.cache_order.retain(|(slot, id)| by_id.get(id) == Some(slot) && cache.contains_key(slot));
        }
    }

    pub(crate) fn cached_body(&self, id: MessageId) -> Option<Body> {
        self.cache.get(self.by_id.get(&id)?).map(|fresh| fresh.body.clone())
    }

    /// Does to the set what a record says. `sequence` is the record's own, `place` where it stands if it has a body.
    pub(crate) fn apply(&mut self, record: Record, sequence: u64, place: Option<Place>) -> Effects {
        let effects = self.change(record, sequence, place);
        self.recorded[0] += effects.accepted;
        for (from, to) in &effects.moved {
            self.recorded[usize::from(from.code())] = self.recorded[usize::from(from.code())].saturating_sub(1);
            self.recorded[usize::from(to.code())] += 1;
        }
        effects
    }

    fn change(&mut self, record: Record, sequence: u64, place: Option<Place>) -> Effects {
        match record {
            Record::Accept(meta) => place.map_or_else(Effects::default, |place| self.accept(meta, sequence, place)),
            Record::Snapshot(snapshot) => place.map_or_else(Effects::default, |place| self.relocate(*snapshot, place)),
            Record::Base(base) => self.rebase(base),
            Record::Carried(carried) => {
                self.suppressed.extend(carried.suppressed.iter().map(|one| (one.party, one.address.clone())));
                Effects { keys: carried.keys, carried_spent: carried.spent, suppressed: carried.suppressed, ..Effects::default() }
            }
            Record::Attempt { settle, intend } => {
                let mut effects = settle.map_or_else(Effects::default, |settle| self.settle(settle));
                if let Some(intend) = intend {
                    self.intend(&intend, &mut effects);
                }
                effects
            }
            Record::Steer { message, recipients, to, channel, by, at } => self.steer(message, &recipients, to, channel, &by, at),
            Record::Channel { channel, state, at } => self.channel(channel, state, at),
            Record::Lessons { channel, lessons, at } => self.learn(channel, lessons, at),
            Record::Kept { channel, kept, told, at } => self.keep_back(channel, kept, told, at),
            Record::Beat { heartbeat, credit } => {
                self.heartbeat = Some(heartbeat);
                Effects { heartbeat: Some(heartbeat), credit, ..Effects::default() }
            }
            Record::Unsuppress { party, address, .. } => {
                self.suppressed.remove(&(party, address.clone()));
                Effects { unsuppressed: Some((party, address)), ..Effects::default() }
            }
        }
    }

    /// The state beside messages, as it is now. Where the log begins behind the first record, it is learned from here;
    /// what is open is known already.
    fn rebase(&mut self, base: Box<Base>) -> Effects {
        for state in RecipientState::ALL.into_iter().filter(|state| state.is_final()) {
            let at = usize::from(state.code());
            self.recorded[at] = base.totals.by_state[at];
            self.totals.by_state[at] = base.totals.by_state[at];
        }
        self.totals.accepted = self.recorded.iter().sum();
        self.states.extend(base.states.iter().map(|(channel, state)| (*channel, state.clone())));
        self.lessons.extend(base.lessons.iter().map(|(channel, lessons)| (*channel, lessons.clone())));
        self.kept.extend(base.kept.iter().map(|(channel, kept)| (*channel, kept.clone())));
        self.heartbeat = base.heartbeat.or(self.heartbeat);
        let totals = Totals { accepted: self.totals.accepted, by_state: self.recorded, ..Totals::default() };
        Effects { base: Some(Box::new(Base { totals, ..*base })), ..Effects::default() }
    }

    /// True when a base says of what is open what is known of it.
    pub(crate) fn agrees(&self, base: &Base) -> bool {
        let open = RecipientState::ALL.into_iter().filter(|state| !state.is_final()).map(|state| usize::from(state.code()));
        open.into_iter().all(|at| self.recorded[at] == base.totals.by_state[at])
    }

    /// True when a snapshot says of an open message what is known of it; `None` when it is not known as open.
    pub(crate) fn stands(&self, snapshot: &Snapshot) -> Option<bool> {
        let open = self.open(snapshot.meta.id)?;
        let same = |(row, stood): (&Row, &StoodRow)| {
            let known = (recorded(row), row.intended, row.doubts, row.attempts, row.due, row.first_attempt);
            known == (stood.state, stood.intended, stood.doubts, stood.attempts, stood.due, stood.first_attempt)
        };
        let rows = open.rows.get();
        Some(rows.len() == snapshot.rows.len() && rows.iter().zip(&snapshot.rows).all(same))
    }

    /// A snapshot of a message that is known says only where it stands from now on.
    fn relocate(&mut self, snapshot: Snapshot, place: Place) -> Effects {
        let id = snapshot.meta.id;
        let Some(slot) = self.by_id.get(&id).copied() else {
            return self.resurrect(snapshot, place);
        };
        let before = std::mem::replace(&mut self.open_mut(slot).standing.place, place);
        self.vacate(before);
        self.occupy(place);
        Effects { relocated: Some((id, place)), ..Effects::default() }
    }

    /// A message whose acceptance is not in the log any more.
    fn resurrect(&mut self, snapshot: Snapshot, place: Place) -> Effects {
        let Snapshot { meta, order, rows: stood, spending } = snapshot;
        let (id, at) = (meta.id, meta.at);
        let rows = stood.iter().map(Row::from).collect();
        self.bodies.accept(&meta);
        let slot = self.insert(Standing { order, ..standing(&meta, order, place) }, rows);
        let mut effects = Effects { accepted: stood.len() as u64, order, ..Effects::default() };
        self.totals.accepted += stood.len() as u64;
        self.totals.by_state[0] += stood.len() as u64;
        for (index, row) in stood.into_iter().enumerate() {
            effects.moved.push((RecipientState::Queued, row.state));
            let known = Row::from(&row);
            effects.changes.push(change(id, index as u32, &known, row.since, Some(row.said), Some(row.relay)));
        }
        if let Some(spend) = spending {
            effects.spending = Some((id, Some(spend.clone())));
            self.spending.insert(id, spend);
        }
        let moved = effects.moved.clone();
        effects.new = Some((Box::new(meta), place));
        self.finish(slot, at, &moved, &mut effects);
        effects
    }

    /// An open message as the log knows it, without its words; `None` when it stands elsewhere, or is open no more.
    pub(crate) fn stood(&self, id: MessageId, segment: u32) -> Option<(Standing, Vec<StoodRow>, Option<Spend>)> {
        let open = self.open(id).filter(|open| open.standing.place.position.segment == segment)?;
        let rows = open.rows.get().iter().map(|row| StoodRow {
            state: recorded(row),
            intended: row.intended,
            doubts: row.doubts,
            attempts: row.attempts,
            due: row.due,
            first_attempt: row.first_attempt,
            since: Timestamp::default(),
            said: String::new(),
            relay: String::new(),
        });
        Some((open.standing, rows.collect(), self.spending.get(&id).cloned()))
    }

    /// Up to `limit` open messages whose record a segment has, from a slot on; and the slot to go on from, if any.
    pub(crate) fn of_segment(&self, segment: u32, from: usize, limit: usize) -> (Vec<(MessageId, Place)>, Option<usize>) {
        let mut found = Vec::new();
        for (slot, open) in self.slots.iter().enumerate().skip(from).take(SLOTS_AT_ONCE) {
            let Some(open) = open.as_ref().filter(|open| open.standing.place.position.segment == segment) else { continue };
            found.push((open.standing.id, open.standing.place));
            if found.len() == limit {
                return (found, Some(slot + 1));
            }
        }
        let next = from + SLOTS_AT_ONCE;
        (found, (next < self.slots.len()).then_some(next))
    }

    fn accept(&mut self, meta: Box<Meta>, order: u64, place: Place) -> Effects {
        let row = Row {
            state: RecipientState::Queued,
            intended: false,
            doubts: 0,
            attempts: 0,
            due: meta.due,
            first_attempt: Timestamp(0),
        };
        let count = meta.envelope.recipients.len();
        self.bodies.accept(&meta);
        let slot = self.insert(standing(&meta, order, place), vec![row; count]);
        self.latest = self.latest.max(meta.at);
        self.totals.accepted += count as u64;
        self.totals.by_state[0] += count as u64;
        let (id, at, channel) = (meta.id, meta.at, meta.channel);
        let fact =
            |kind, message, recipient, detail| Fact { kind, at, message: Some(message), recipient, channel: Some(channel), detail };
        let mut facts = vec![fact(EventKind::MessageQueued, id, None, String::new())];
        facts.extend(meta.retry_of.map(|origin| fact(EventKind::MessageRetried, origin, None, format!("as {id}"))));
        let mut effects = Effects { facts, accepted: count as u64, order, ..Effects::default() };
        for index in &meta.suppressed {
            let Some(row) = self.open_mut(slot).rows.get_mut().get_mut(*index as usize) else { continue };
            row.state = RecipientState::Suppressed;
            let said = "on the list of addresses that must not be written to".to_owned();
            effects.facts.push(fact(EventKind::MessageSuppressed, id, Some(*index), said.clone()));
            effects.changes.push(change(id, *index, row, at, Some(said), None));
            effects.moved.push((RecipientState::Queued, RecipientState::Suppressed));
        }
        let moved = effects.moved.clone();
        effects.new = Some((meta, place));
        self.finish(slot, at, &moved, &mut effects);
        effects
    }

    fn settle(&mut self, settle: Settle) -> Effects {
        let mut effects = Effects::default();
        self.suppress(&settle, &mut effects);
        let Some(slot) = self.by_id.get(&settle.message).copied() else {
            // It was accepted before the log begins, and has ended; what it spent is still spent.
            effects.spent = settle.spent;
            return effects;
        };
        let mut moved = Vec::with_capacity(settle.recipients.len());
        for settled in &settle.recipients {
            let open = self.open_mut(slot);
            let Some(row) = open.rows.get_mut().get_mut(settled.index as usize) else { continue };
            // In replay the lease itself is not in the log.
            let from = row.state;
            let Some(after) = leased(from).and_then(|state| state.after(settled.to)) else { continue };
            let recorded = recorded(row);
            row.state = after;
            row.intended = false;
            row.due = settled.due;
            if settled.counts {
                row.attempts = row.attempts.saturating_add(1);
                if row.first_attempt.0 == 0 {
                    row.first_attempt = settle.at;
                }
            }
            if settled.to == Move::Doubt || (settled.to == Move::Hold && settled.counts) {
                row.doubts = row.doubts.saturating_add(1);
            }
            moved.push((from, after));
            effects.moved.push((recorded, after));
            effects.changes.push(change(
                settle.message,
                settled.index,
                row,
                settle.at,
                Some(settled.said.clone()),
                Some(settle.relay.clone()),
            ));
            if let Some(kind) = kind_of(settled.to) {
                effects.facts.push(Fact {
                    kind,
                    at: settle.at,
                    message: Some(settle.message),
                    recipient: Some(settled.index),
                    channel: Some(settle.channel),
                    detail: settled.said.clone(),
                });
            }
        }
        self.unspend(&settle, &mut effects);
        self.finish(slot, settle.at, &moved, &mut effects);
        effects
    }

    fn suppress(&mut self, settle: &Settle, effects: &mut Effects) {
        let of_message = self.party(settle.message);
        for settled in &settle.recipients {
            let Some((party, address)) = &settled.suppress else { continue };
            let Some(party) = party.or(of_message) else { continue };
            self.suppressed.insert((party, address.clone()));
            effects.suppressed.push(Suppression {
                party,
                address: address.clone(),
                reason: settled.said.clone(),
                origin: settle.message,
                at: settle.at,
            });
        }
    }

    /// Whose list counts for an open message.
    pub(crate) fn party(&self, id: MessageId) -> Option<Party> {
        self.open(id).map(|open| Party::of(open.standing.team, open.standing.person))
    }

    /// The transaction is over: what it spent is no longer open.
    fn unspend(&mut self, settle: &Settle, effects: &mut Effects) {
        let ended = settle.spent.as_ref().map(|spent| spent.units).or(settle.refunded);
        if let (Some(units), Some(open)) = (ended, self.spending.get_mut(&settle.message)) {
            open.units = open.units.minus(units);
            if open.units.messages == 0 {
                self.spending.remove(&settle.message);
            }
            effects.spending = Some((settle.message, self.spending.get(&settle.message).cloned()));
        }
        effects.spent = settle.spent.clone();
    }

    fn intend(&mut self, intend: &Intend, effects: &mut Effects) {
        let Some(slot) = self.by_id.get(&intend.message).copied() else {
            return;
        };
        let mut moved = Vec::with_capacity(intend.recipients.len());
        for index in &intend.recipients {
            let open = self.open_mut(slot);
            let Some(row) = open.rows.get_mut().get_mut(*index as usize) else { continue };
            let from = row.state;
            if leased(from).is_none() {
                continue;
            }
            effects.moved.push((recorded(row), RecipientState::Leased));
            row.state = RecipientState::Leased;
            row.intended = true;
            moved.push((from, RecipientState::Leased));
            effects.changes.push(change(intend.message, *index, row, intend.at, None, None));
        }
        if let Some(spend) = &intend.spend {
            let open = self.spending.entry(intend.message).or_insert_with(|| Spend { units: Units::default(), ..spend.clone() });
            open.units = open.units.plus(spend.units);
            effects.spending = Some((intend.message, Some(open.clone())));
        }
        self.count(&moved);
        self.requeue(slot);
    }

    fn steer(
        &mut self,
        message: MessageId,
        recipients: &[u32],
        to: Move,
        channel: Option<ChannelId>,
        by: &str,
        at: Timestamp,
    ) -> Effects {
        let mut effects = Effects::default();
        let Some(slot) = self.by_id.get(&message).copied() else {
            return effects;
        };
        self.open_mut(slot).reserved = false;
        for index in recipients {
            let open = self.open_mut(slot);
            let Some(row) = open.rows.get_mut().get_mut(*index as usize) else { continue };
            let from = row.state;
            let Some(after) = from.after(to) else { continue };
            row.state = after;
            if to == Move::Release {
                // At once: the order's time is of the wall clock, by which nothing is due.
                row.due = Timestamp(0);
            }
            effects.moved.push((from, after));
            let said = format!("{} by {by}", word(to));
            effects.changes.push(change(message, *index, row, at, Some(said.clone()), None));
            if let Some(kind) = kind_of(to) {
                effects.facts.push(Fact { kind, at, message: Some(message), recipient: Some(*index), channel, detail: said });
            }
        }
        if let Some(channel) = channel.filter(|_| to == Move::Reroute) {
            self.change_channel(slot, channel);
            effects.rerouted = Some((message, channel));
        }
        let moved = effects.moved.clone();
        let Standing { channel, lane, .. } = self.open_mut(slot).standing;
        self.finish(slot, at, &moved, &mut effects);
        // What stood behind it may go now.
        effects.wakes.extend(self.next_due(channel).map(|due| (channel, lane, due)));
        effects
    }

    fn change_channel(&mut self, slot: u32, channel: ChannelId) {
        self.unqueue(slot);
        self.open_mut(slot).standing.channel = channel;
    }

    /// Takes a message out of its line.
    fn unqueue(&mut self, slot: u32) {
        let open = self.open_mut(slot);
        let (standing, queued_at) = (open.standing, open.queued_at.take());
        if let Some(expiry) = standing.expiry() {
            self.expiring.remove(&expiry);
        }
        let Some(lines) = self.lines.get_mut(&standing.channel) else { return };
        if let Some(at) = queued_at {
            lines.remove((at, standing.order), standing.stand());
        }
    }

    fn learn(&mut self, channel: ChannelId, lessons: Lessons, at: Timestamp) -> Effects {
        let before = self.lessons.insert(channel, lessons.clone()).unwrap_or_default();
        let facts = taught(&before, &lessons).into_iter();
        let facts = facts.map(|detail| Fact {
            kind: EventKind::ChannelLimitLearned,
            at,
            message: None,
            recipient: None,
            channel: Some(channel),
            detail,
        });
        Effects { facts: facts.collect(), lessons: Some((channel, lessons)), ..Effects::default() }
    }

    fn keep_back(&mut self, channel: ChannelId, kept: Kept, told: Vec<(EventKind, String)>, at: Timestamp) -> Effects {
        self.kept.insert(channel, kept.clone());
        let fact = |(kind, detail)| Fact { kind, at, message: None, recipient: None, channel: Some(channel), detail };
        Effects { kept: Some((channel, kept)), facts: told.into_iter().map(fact).collect(), ..Effects::default() }
    }

    fn channel(&mut self, channel: ChannelId, state: ChannelState, at: Timestamp) -> Effects {
        let before = self.states.insert(channel, state.clone()).unwrap_or_default();
        let kind = channel_kind(&before, &state);
        let fact = kind.map(|kind| Fact {
            kind,
            at,
            message: None,
            recipient: None,
            channel: Some(channel),
            detail: state.reason().to_owned(),
        });
        Effects { channel: Some((channel, state)), facts: fact.into_iter().collect(), ..Effects::default() }
    }

    /// Counts the moves, drops the message when nothing of it is open, and queues what is left.
    fn finish(&mut self, slot: u32, at: Timestamp, moved: &[(RecipientState, RecipientState)], effects: &mut Effects) {
        self.count(moved);
        self.latest = self.latest.max(at);
        if self.open_mut(slot).rows.get().iter().all(|row| row.state.is_final()) {
            self.end(slot, effects);
        } else {
            effects.wakes.extend(self.requeue(slot));
        }
    }

    /// Nothing of the message is open any more.
    fn end(&mut self, slot: u32, effects: &mut Effects) {
        let open = self.open_mut(slot);
        let Standing { id, place, .. } = open.standing;
        let gone = open.rows.get().iter().all(|row| matches!(row.state, RecipientState::Sent | RecipientState::Suppressed));
        effects.ended = Some(id);
        self.remove(slot);
        let (segment, today) = (place.position.segment, self.today());
        self.segments.entry(segment).or_default().end(today);
        effects.ended_in = Some((segment, today));
        match self.bodies.end(id) {
            Some(file) if gone => effects.spare = Some(file),
            Some(file) => {
                self.bodies.keep(file, today, segment);
                effects.resting = Some((file, today));
            }
            None => {}
        }
    }

    fn count(&mut self, moved: &[(RecipientState, RecipientState)]) {
        for (from, to) in moved {
            self.totals.by_state[usize::from(from.code())] -= 1;
            self.totals.by_state[usize::from(to.code())] += 1;
        }
    }

    fn remove(&mut self, slot: u32) {
        self.uncache(slot);
        self.unqueue(slot);
        self.scheduled.remove(&slot);
        let Some(open) = self.slots[slot as usize].take() else { return };
        let Standing { id, place, .. } = open.standing;
        self.by_id.remove(&id);
        self.free.push(slot);
        self.totals.open_messages -= 1;
        self.totals.open_bytes -= self.size(&open.standing);
        self.vacate(place);
    }

    /// Recipients whose intent was durable when the process ended.
    pub(crate) fn interrupted(&self) -> Vec<Interrupted> {
        let mut found = Vec::new();
        for open in self.slots.iter().flatten() {
            let rows = open.rows.get().iter().enumerate();
            let doubtful: Vec<(u32, u8)> =
                rows.filter(|(_, row)| row.intended).map(|(index, row)| (index as u32, row.doubts)).collect();
            if !doubtful.is_empty() {
                let Standing { id, channel, .. } = open.standing;
                found.push(Interrupted { message: id, channel, rows: doubtful, spend: self.spending.get(&id).cloned() });
            }
        }
        found.sort_by_key(|one| one.message);
        found
    }

    /// What might be leased of a channel now, found without its lines: one entry for each message.
    #[cfg(feature = "simulation")]
    pub(crate) fn waiting(&self, channel: ChannelId, now: Timestamp, skip: &Skip) -> Vec<super::stepped::Waiting> {
        let here = self.slots.iter().flatten().filter(|open| open.standing.channel == channel && !open.reserved);
        let waiting = here.filter_map(|open| {
            let Standing { lane, team, person, from, .. } = open.standing;
            let recipients = open.rows.get().iter().filter(|row| is_due(row, now)).count() as u32;
            let is_passed = skip.passes(lane, person) || skip.froms.contains(&from);
            (recipients > 0 && !is_passed).then_some(super::stepped::Waiting { lane, team, person, recipients })
        });
        waiting.collect()
    }

    /// A message of this lane is in the hands of a worker.
    #[cfg(feature = "simulation")]
    pub(crate) fn is_leased(&self, channel: ChannelId, lane: Lane) -> bool {
        let mut here = self.slots.iter().flatten().filter(|open| open.standing.channel == channel && open.standing.lane == lane);
        here.any(|open| open.rows.get().iter().any(|row| row.state == RecipientState::Leased))
    }

    /// Every open message with the state of each recipient, in the order of ids.
    #[cfg(feature = "simulation")]
    pub(crate) fn states_of_all(&self) -> Vec<(MessageId, Vec<RecipientState>)> {
        let states = |open: &Open| open.rows.get().iter().map(|row| row.state).collect();
        let mut all: Vec<_> = self.slots.iter().flatten().map(|open| (open.standing.id, states(open))).collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        all
    }

    /// Adds what the slots from `from` on hold to the queues; true when there are more.
    pub(crate) fn add_queues(
        &self,
        from: usize,
        count: usize,
        now: Timestamp,
        kept_back: &KeptBack,
        queues: &mut BTreeMap<ChannelId, ChannelQueue>,
    ) -> bool {
        for open in self.slots.iter().skip(from).take(count).flatten() {
            let Standing { channel, accepted_at, lane, person, .. } = open.standing;
            let entry = queues.entry(channel).or_insert_with(|| ChannelQueue {
                channel,
                queued: 0,
                leased: 0,
                held: 0,
                bytes: 0,
                lanes: [LaneQueue::default(); 3],
                oldest: None,
            });
            let dues = open.rows.get().iter().filter(|row| row.state == RecipientState::Queued).map(|row| row.due);
            let bytes = self.size(&open.standing);
            entry.lanes[lane as usize].add(
                dues,
                open.standing.scheduled(self.ahead_ms),
                bytes,
                kept_back.contains(&(channel, person)),
                now,
            );
            for row in open.rows.get() {
                match row.state {
                    RecipientState::Queued => entry.queued += 1,
                    RecipientState::Leased => entry.leased += 1,
                    RecipientState::Held => entry.held += 1,
                    _ => {}
                }
            }
            entry.bytes += bytes;
            entry.oldest = Some(entry.oldest.map_or(accepted_at, |oldest| oldest.min(accepted_at)));
        }
        from + count < self.slots.len()
    }

    /// Every message with a queued recipient that was accepted before a record.
    pub(crate) fn queued_before(&self, sequence: u64) -> Vec<MessageId> {
        let is_queued =
            |open: &&Open| open.standing.order < sequence && open.rows.get().iter().any(|row| row.state == RecipientState::Queued);
        self.slots.iter().flatten().filter(is_queued).map(|open| open.standing.id).collect()
    }
}

impl From<&StoodRow> for Row {
    fn from(row: &StoodRow) -> Self {
        Self {
            state: row.state,
            intended: row.intended,
            doubts: row.doubts,
            attempts: row.attempts,
            due: row.due,
            first_attempt: row.first_attempt,
        }
    }
}

fn standing(meta: &Meta, order: u64, place: Place) -> Standing {
    Standing {
        id: meta.id,
        place,
        order,
        channel: meta.channel,
        accepted_at: meta.at,
        lane: meta.lane,
        team: meta.team,
        person: meta.person,
        from: FromId::of(&meta.author),
        since: meta.due,
        scheduled_at: meta.scheduled_at.unwrap_or(UNSCHEDULED),
        expires_at: meta.expires_at.unwrap_or(UNENDING),
    }
}

/// Leases at most so many of the recipients that are wanted.
fn take(rows: &mut [Row], most: u32, wanted: impl Fn(&Row) -> bool) -> Vec<LeasedRecipient> {
    let mut recipients = Vec::with_capacity(1);
    let rows = rows.iter_mut().enumerate().filter(|(_, row)| wanted(row));
    for (index, row) in rows.take(most as usize) {
        row.state = RecipientState::Leased;
        recipients.push(LeasedRecipient {
            index: index as u32,
            attempts: u32::from(row.attempts),
            doubts: u32::from(row.doubts),
            first_attempt: (row.first_attempt.0 != 0).then_some(row.first_attempt),
        });
    }
    recipients
}

fn is_due(row: &Row, now: Timestamp) -> bool {
    row.state == RecipientState::Queued && row.due <= now
}

/// The replies that taught something new.
fn taught(before: &Lessons, after: &Lessons) -> Vec<String> {
    let pace = after.pace.as_ref().filter(|pace| before.pace.as_ref().is_none_or(|known| known.taught_at != pace.taught_at));
    let pace = pace.map(|pace| format!("{} messages a minute: {}", pace.per_minute, pace.said));
    let cap = after.cap.as_ref().filter(|cap| before.cap.as_ref().is_none_or(|known| known.taught_at != cap.taught_at));
    let cap = cap.map(|cap| format!("{} connections: {}", cap.connections, cap.said));
    pace.into_iter().chain(cap).collect()
}

fn earliest(rows: &[Row]) -> Option<Timestamp> {
    rows.iter().filter(|row| row.state == RecipientState::Queued).map(|row| row.due).min()
}

fn leased(state: RecipientState) -> Option<RecipientState> {
    match state {
        RecipientState::Leased => Some(state),
        other => other.after(Move::Lease),
    }
}

/// The state that the log knows: a lease alone is not in it.
fn recorded(row: &Row) -> RecipientState {
    if row.state == RecipientState::Leased && !row.intended { RecipientState::Queued } else { row.state }
}

fn change(message: MessageId, index: u32, row: &Row, since: Timestamp, said: Option<String>, relay: Option<String>) -> Change {
    Change {
        message,
        index,
        state: row.state,
        intended: row.intended,
        since,
        attempts: row.attempts,
        doubts: row.doubts,
        due: row.due,
        first_attempt: row.first_attempt,
        said,
        relay,
    }
}

/// The event that a move is, if it is one.
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
        Move::Reroute => "moved",
        _ => "changed",
    }
}

fn channel_kind(before: &ChannelState, after: &ChannelState) -> Option<EventKind> {
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

#[cfg(test)]
mod tests {
    use super::super::tests::{NOW, id, message};
    use super::*;

    #[test]
    fn what_has_left_the_cache_does_not_pile_up_behind_a_message_that_stays() {
        let mut set = OpenSet::new(1 << 20);
        for number in 0..200 {
            let meta = Meta::from(message(number, &["ana@example.org"]));
            let fresh = Fresh { meta: Arc::new(super::super::core::shared(&meta)), body: Default::default() };
            let place = Place { position: Position { segment: 1, offset: 0 }, payload_length: 0, body_at: 0 };
            set.apply(Record::Accept(Box::new(meta)), u64::from(number), Some(place));
            set.cache(id(number), fresh);
            if number > 0 {
                let (message, recipients, to) = (id(number), vec![0], Move::Cancel);
                set.apply(Record::Steer { message, recipients, to, channel: None, by: "ana".into(), at: NOW }, 1000, None);
            }
        }
        assert_eq!(set.cache.len(), 1);
        assert!(set.cache_order.len() <= 2 + SPARE_ORDER, "{}", set.cache_order.len());
        assert!(set.cached_body(id(0)).is_some());
    }

    #[test]
    fn the_wall_clock_is_told_from_the_last_heartbeat() {
        let mut set = OpenSet::new(0);
        assert_eq!(set.wall_at(Timestamp(7)), Timestamp(7));
        let since_boot = std::time::Duration::from_secs(9);
        let reading = mail::steady::Reading { boot: [1; 16], since_boot, wall: Timestamp(90_000), proved: true };
        let heartbeat = Heartbeat { reading, steady: Timestamp(5_000), owed: None, doubted: false };
        set.apply(Record::Beat { heartbeat, credit: None }, 1, None);
        assert_eq!(set.wall_at(Timestamp(6_000)), Timestamp(91_000));
    }
}
