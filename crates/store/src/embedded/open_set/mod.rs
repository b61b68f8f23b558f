//! Every open message, compactly, in memory; and what a record does to it.
//!
//! One function applies a record, live and in replay. What it returns is all that the index learns.

mod cache;
mod effects;
mod leases;
mod records;
mod rows;
mod segments;
mod slots;

pub(crate) use self::cache::{Fresh, Shared};
pub(crate) use self::effects::{Change, Effects, Group, Wakeup};
pub(crate) use self::rows::Row;
pub(crate) use self::segments::SegmentUse;

use self::cache::Cache;
use self::rows::{Rows, earliest};
use self::slots::{Open, Slots};
use super::bodies::Bodies;
use super::lines::{Lines, Stand};
use super::log::Position;
use super::record::Meta;
use crate::api::{ChannelQueue, Filter, KeptBack, LaneQueue, LeasedRecipient, Party, Spend, Totals, Waiting};
use crate::caps::Tally;
use mail::channel::{ChannelState, Kept};
use mail::pace::{FromId, Lessons};
use mail::steady::Heartbeat;
use mail::{ChannelId, Lane, MessageId, PersonId, RecipientState, TeamId, Timestamp, TokenId};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// What the message is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub position: Position,
    pub payload_length: u32,
    pub body_at: u32,
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
    pub token: Option<TokenId>,
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

/// By the time, then in the order of acceptance.
type Expiry = (Timestamp, u64);

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

/// All open messages.
#[derive(Default)]
pub(crate) struct OpenSet {
    slots: Slots,
    lines: HashMap<ChannelId, Lines>,
    /// Open messages with a queued recipient that expire.
    expiring: BTreeMap<Expiry, u32>,
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
    /// Open mail by whose it is.
    pub(crate) tally: Tally,
    /// The files of large bodies.
    pub(crate) bodies: Bodies,
    /// Recipients by state, as the log knows them: a lease alone is not in it.
    pub(crate) recorded: [u64; 9],
    pub(crate) segments: BTreeMap<u32, SegmentUse>,
    /// Segments up to this one say something that was forgotten; they go whatever else is in them. 0 when none does.
    pub(crate) purged: u32,
    /// Ended mail in which an address was forgotten since the start.
    pub(crate) forgotten: HashSet<MessageId>,
    /// The latest time that a record named, for a queue without heartbeats.
    latest: Timestamp,
    cache: Cache,
}

impl OpenSet {
    pub(crate) fn new(cache_limit: usize) -> Self {
        Self { cache: Cache::new(cache_limit), ..Self::default() }
    }

    /// Puts a message back that the index knows as open.
    pub(crate) fn restore(&mut self, standing: Standing, rows: Vec<Row>) {
        self.insert(standing, rows);
    }

    fn insert(&mut self, standing: Standing, rows: Vec<Row>) -> u32 {
        let place = standing.place;
        let slot = self.slots.insert(standing, Rows::from(rows));
        self.occupy(place);
        self.totals.open_messages += 1;
        let bytes = self.size_at(standing.id, standing.place);
        self.totals.open_bytes += bytes;
        self.tally.add((standing.token, standing.person, standing.team), bytes);
        self.requeue(slot);
        slot
    }

    /// Length of a message in bytes.
    fn size(&self, open: &Open) -> u64 {
        self.size_at(open.id, open.place)
    }

    fn size_at(&self, id: MessageId, place: Place) -> u64 {
        u64::from(place.payload_length - place.body_at) + self.bodies.length(id)
    }

    /// The time by which bodies are kept: that of the last heartbeat.
    pub(crate) fn today(&self) -> Timestamp {
        self.heartbeat.map_or(self.latest, |heartbeat| heartbeat.steady)
    }

    fn open(&self, id: MessageId) -> Option<&Open> {
        self.slots.get(self.slots.find(id)?)
    }

    /// Where an open message stands.
    fn standing(&self, id: MessageId) -> Option<Standing> {
        self.slots.standing(self.slots.find(id)?)
    }

    /// The rows of an open message.
    pub(crate) fn rows(&self, id: MessageId) -> Option<&[Row]> {
        self.open(id).map(|open| open.rows.get())
    }

    /// Where an open message stands in the log.
    pub(crate) fn place(&self, id: MessageId) -> Option<Place> {
        self.open(id).map(|open| open.place)
    }

    /// Puts a message where its earliest queued recipient belongs; returns when that is due.
    fn requeue(&mut self, slot: u32) -> Option<Wakeup> {
        let standing = self.slots.standing(slot)?;
        let scheduled = standing.scheduled(self.ahead_ms);
        let open = self.slots.get_mut(slot);
        let wanted = if open.reserved { None } else { earliest(open.rows.get()).map(|due| due.max(scheduled)) };
        let wakeup = wanted.map(|due| (standing.channel, standing.lane, due));
        let before = open.queue_at(wanted);
        if before == wanted {
            return wakeup;
        }
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

    /// Counts the moves, drops the message when nothing of it is open, and queues what is left.
    fn finish(&mut self, slot: u32, at: Timestamp, moved: &[(RecipientState, RecipientState)], effects: &mut Effects) {
        self.count(moved);
        self.latest = self.latest.max(at);
        if self.slots.get_mut(slot).rows.get().iter().all(|row| row.state.is_final()) {
            self.end(slot, effects);
        } else {
            effects.wakes.extend(self.requeue(slot));
        }
    }

    /// Nothing of the message is open any more.
    fn end(&mut self, slot: u32, effects: &mut Effects) {
        let open = self.slots.get_mut(slot);
        let (id, place) = (open.id, open.place);
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
        self.cache.remove(slot);
        self.unqueue(slot);
        let Some(standing) = self.slots.standing(slot) else { return };
        self.slots.remove(slot);
        self.totals.open_messages -= 1;
        let bytes = self.size_at(standing.id, standing.place);
        self.totals.open_bytes -= bytes;
        self.tally.take((standing.token, standing.person, standing.team), bytes);
        self.vacate(standing.place);
    }

    /// Recipients whose intent was durable when the process ended.
    pub(crate) fn interrupted(&self) -> Vec<Interrupted> {
        let mut found = Vec::new();
        for (Standing { id, channel, .. }, open) in self.slots.all() {
            let rows = open.rows.get().iter().enumerate();
            let doubtful: Vec<(u32, u8)> =
                rows.filter(|(_, row)| row.intended).map(|(index, row)| (index as u32, row.doubts)).collect();
            if !doubtful.is_empty() {
                found.push(Interrupted { message: id, channel, rows: doubtful, spend: self.spending.get(&id).cloned() });
            }
        }
        found.sort_by_key(|one| one.message);
        found
    }

    /// What might be leased of a channel now, found without its lines: one entry for each message.
    #[cfg(feature = "simulation")]
    pub(crate) fn waiting(&self, channel: ChannelId, now: Timestamp, skip: &crate::api::Skip) -> Vec<super::stepped::Waiting> {
        let here = self.slots.all().filter(|(standing, open)| standing.channel == channel && !open.reserved);
        let waiting = here.filter_map(|(standing, open)| {
            let Standing { lane, team, person, from, .. } = standing;
            let recipients = open.rows.get().iter().filter(|row| rows::is_due(row, now)).count() as u32;
            let is_passed = skip.passes(lane, person) || skip.froms.contains(&from);
            (recipients > 0 && !is_passed).then_some(super::stepped::Waiting { lane, team, person, recipients })
        });
        waiting.collect()
    }

    /// A message of this lane is in the hands of a worker.
    #[cfg(feature = "simulation")]
    pub(crate) fn is_leased(&self, channel: ChannelId, lane: Lane) -> bool {
        let mut here = self.slots.all().filter(|(standing, _)| standing.channel == channel && standing.lane == lane);
        here.any(|(_, open)| open.rows.get().iter().any(|row| row.state == RecipientState::Leased))
    }

    /// Every open message with the state of each recipient, in the order of ids.
    #[cfg(feature = "simulation")]
    pub(crate) fn states_of_all(&self) -> Vec<(MessageId, Vec<RecipientState>)> {
        let states = |open: &Open| open.rows.get().iter().map(|row| row.state).collect();
        let mut all: Vec<_> = self.slots.all().map(|(standing, open)| (standing.id, states(open))).collect();
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
        for (standing, open) in self.slots.from(from).take(count).flatten() {
            let Standing { channel, accepted_at, lane, person, .. } = standing;
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
            let bytes = self.size(open);
            entry.lanes[lane as usize].add(
                dues,
                standing.scheduled(self.ahead_ms),
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

    /// Copies what waits from slot `from` on, of messages that the filter may mean, until it is so many recipients; tells where it
    /// goes on. It is judged elsewhere, with nobody waiting for it.
    pub(crate) fn copy_waiting(
        &self,
        from: usize,
        most: usize,
        filter: &Filter,
        copied: &mut Vec<(MessageId, Waiting)>,
    ) -> Option<usize> {
        for (at, slot) in self.slots.from(from).take(most).enumerate() {
            let Some((standing, open)) = slot.filter(|(standing, _)| is_meant(standing, filter)) else { continue };
            let Standing { id, channel, person, lane, from: author, scheduled_at, expires_at, .. } = standing;
            let scheduled_at = (scheduled_at != UNSCHEDULED).then_some(scheduled_at);
            let expires_at = (expires_at != UNENDING).then_some(expires_at);
            copied.extend(open.rows.get().iter().map(|row| {
                let (state, due, doubts) = (rows::recorded(row), row.due, u32::from(row.doubts));
                (id, Waiting { channel, person, lane, from: author, scheduled_at, expires_at, state, due, doubts })
            }));
            if copied.len() >= most {
                return Some(from + at + 1);
            }
        }
        Some(from + most).filter(|next| *next < self.slots.len())
    }

    /// Every message with a queued recipient that was accepted before a record.
    pub(crate) fn queued_before(&self, sequence: u64) -> Vec<MessageId> {
        let queued = self.slots.all().filter(|(_, open)| open.rows.get().iter().any(|row| row.state == RecipientState::Queued));
        queued.map(|(standing, _)| standing).filter(|one| one.order < sequence).map(|one| one.id).collect()
    }
}

/// As far as where a message stands says it.
fn is_meant(standing: &Standing, filter: &Filter) -> bool {
    filter.channel.is_none_or(|channel| channel == standing.channel)
        && filter.person.is_none_or(|person| person == standing.person)
        && filter.team.is_none_or(|team| standing.team == Some(team))
        && filter.lane.is_none_or(|lane| lane == standing.lane)
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
        token: meta.token,
        from: FromId::of(&meta.author),
        since: meta.due,
        scheduled_at: meta.scheduled_at.unwrap_or(UNSCHEDULED),
        expires_at: meta.expires_at.unwrap_or(UNENDING),
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Record;
    use super::super::tests::{NOW, id, message};
    use super::*;
    use mail::Move;
    use std::sync::Arc;

    #[test]
    fn what_has_left_the_cache_does_not_pile_up_behind_a_message_that_stays() {
        let mut set = OpenSet::new(1 << 20);
        for number in 0..200 {
            let meta = Meta::from(message(number, &["ana@example.org"]));
            let fresh = Fresh { meta: Arc::new(super::super::core::shared(&meta)), body: Default::default() };
            let place = Place { position: Position { segment: 1, offset: 0 }, payload_length: 0, body_at: 0 };
            set.apply(Record::Accept(Box::new(meta)), u64::from(number), Some(place));
            set.keep_accepted(id(number), fresh);
            if number > 0 {
                let (message, recipients, to) = (id(number), vec![0], Move::Cancel);
                set.apply(Record::Steer { message, recipients, to, channel: None, by: "ana".into(), at: NOW }, 1000, None);
            }
        }
        assert_eq!(set.cache.kept(), (1, 1));
        assert!(set.cached_body(id(0)).is_some());
    }

    #[test]
    fn what_leaves_before_long_is_kept_in_memory_and_what_is_in_hand() {
        let mut set = OpenSet::new(1 << 30);
        let id = |number: u32| MessageId(u128::from(number).to_be_bytes());
        let mut accept = |number: u32, lane| {
            let meta = Meta::from(crate::api::NewMessage { id: id(number), lane, ..message(1, &["ana@example.org"]) });
            let fresh = Fresh { meta: Arc::new(super::super::core::shared(&meta)), body: Default::default() };
            let place = Place { position: Position { segment: 1, offset: 0 }, payload_length: 0, body_at: 0 };
            set.apply(Record::Accept(Box::new(meta)), u64::from(number), Some(place));
            set.keep_accepted(id(number), fresh.clone());
            (set.cached_body(id(number)).is_some(), fresh)
        };
        for number in 0..1000 {
            assert!(accept(number, Lane::Bulk).0);
        }
        let (is_kept, fresh) = accept(1000, Lane::Bulk);
        assert!(!is_kept, "a thousand go before it");
        assert!(accept(1001, Lane::Now).0, "none goes before it");
        set.keep_leased(id(1000), fresh);
        assert!(set.cached_body(id(1000)).is_some(), "its body is asked for next");
    }

    #[test]
    fn what_waits_is_copied_so_many_recipients_at_a_time_and_only_as_far_as_it_is_meant() {
        let mut set = OpenSet::new(0);
        let place = Place { position: Position { segment: 1, offset: 0 }, payload_length: 0, body_at: 0 };
        for number in 0..6 {
            let recipients: Vec<&str> = vec!["luis@example.org"; 10];
            let mut meta = Meta::from(message(number, &recipients));
            meta.person = PersonId(u32::from(number) % 2);
            set.apply(Record::Accept(Box::new(meta)), u64::from(number), Some(place));
        }
        let all = |filter: &Filter| {
            let (mut pieces, mut from) = (Vec::new(), Some(0));
            while let Some(at) = from {
                let mut copied = Vec::new();
                from = set.copy_waiting(at, 15, filter, &mut copied);
                pieces.push(copied.len());
            }
            pieces
        };
        assert_eq!(all(&Filter::default()), [20, 20, 20, 0]);
        assert_eq!(all(&Filter { person: Some(PersonId(1)), ..Filter::default() }), [20, 10]);
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
