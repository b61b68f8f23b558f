//! What goes next, and what waits for what.

use super::super::lines::Lines;
use super::rows::{is_due, take};
use super::{OpenSet, Standing, Taken, Wakeup};
use crate::api::{Head, PutOff, Skip};
use mail::pace::Ahead;
use mail::{ChannelId, Lane, MessageId, RecipientState, Timestamp};

impl OpenSet {
    /// The messages that would be leased next.
    pub(crate) fn heads(&mut self, channel: ChannelId, now: Timestamp, skip: &Skip) -> [Option<Head>; 3] {
        let ahead_ms = self.ahead_ms;
        let Some(lines) = self.lines.get_mut(&channel) else { return [None; 3] };
        let slots = Lane::ALL.map(|lane| lines.first(lane, now, skip));
        let now = lines.reached();
        slots.map(|slot| {
            let standing = self.slots.standing(slot?)?;
            let Standing { id, person, from, .. } = standing;
            let open = self.slots.get(slot?)?;
            let is_time = standing.scheduled(ahead_ms) <= now;
            let due = open.rows.get().iter().filter(|row| is_time && is_due(row, now)).count();
            Some(Head { message: id, from, person, recipients: due as u32, size_bytes: self.size(open) })
        })
    }

    /// Takes the head of a lane, and of it at most so many recipients.
    pub(crate) fn lease(&mut self, channel: ChannelId, lane: Lane, now: Timestamp, most: u32, skip: &Skip) -> Option<Taken> {
        let lines = self.lines.get_mut(&channel)?;
        let slot = lines.first(lane, now, skip)?;
        // Whoever looked a moment later may have brought it to the lane already: it is due for everybody.
        let now = lines.reached();
        let standing = self.slots.standing(slot)?;
        let fresh = self.cache.get(slot).cloned();
        let open = self.slots.get_mut(slot);
        let recipients = take(open.rows.get_mut(), most, |row| is_due(row, now));
        let count = recipients.len() as u64;
        self.count_lease(count);
        self.requeue(slot);
        let size_bytes = self.size_at(standing.id, standing.place);
        self.lines.entry(channel).or_default().served(standing.stand(), count, size_bytes);
        Some(Taken { message: standing.id, channel, place: standing.place, size_bytes, recipients, fresh })
    }

    /// Takes every queued recipient of the message whose time was over first.
    pub(crate) fn lease_expired(&mut self, wall: Timestamp) -> Option<Taken> {
        let ((expires_at, _), slot) = self.expiring.first_key_value().map(|(key, slot)| (*key, *slot))?;
        if expires_at > wall {
            return None;
        }
        let standing = self.slots.standing(slot)?;
        let fresh = self.cache.get(slot).cloned();
        let open = self.slots.get_mut(slot);
        let Standing { id, channel, place, .. } = standing;
        let recipients = take(open.rows.get_mut(), u32::MAX, |row| row.state == RecipientState::Queued);
        self.count_lease(recipients.len() as u64);
        self.requeue(slot);
        let size_bytes = self.size_at(standing.id, standing.place);
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
        let slots: Vec<u32> = self.slots.scheduled().collect();
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
        for lane in Lane::ALL {
            let of_lane = messages.iter().filter_map(|id| {
                let slot = self.slots.find(*id)?;
                self.slots.standing(slot).filter(|standing| standing.channel == channel && standing.lane == lane)?;
                let open = self.slots.get(slot)?;
                Some(((open.queued_at()?, open.order), *id))
            });
            let mut wanted: Vec<_> = of_lane.collect();
            if wanted.is_empty() {
                continue;
            }
            wanted.sort_unstable();
            // What goes before the first of them, between it and the second, and so on: of the lane, and of more urgent ones.
            let mut between = vec![[Ahead::default(); 2]; wanted.len()];
            let urgent = Lane::ALL.into_iter().filter(|other| *other < lane).flat_map(|other| lines.all(other));
            let before =
                urgent.map(|((due, _), slot)| (wanted.partition_point(|((wanted, _), _)| (*wanted).max(now) < due), slot, 1));
            let own = lines.all(lane).map(|(key, slot)| (wanted.partition_point(|(wanted, _)| *wanted < key), slot, 0));
            for (behind, slot, kind) in own.chain(before) {
                let (Some(sums), Some(open)) = (between.get_mut(behind), self.slots.get(slot)) else { continue };
                let count = open.rows.get().iter().filter(|row| row.state == RecipientState::Queued).count();
                sums[kind].add(count as u64, self.size(open));
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
        let all = Lane::ALL.iter().flat_map(|lane| lines.all(*lane)).filter(|((due, _), _)| *due < before);
        let mut found: Vec<_> = all.filter_map(|(_, slot)| self.slots.get(slot)).map(|open| open.id).collect();
        found.sort_unstable();
        found.truncate(limit);
        found
    }

    /// Adds the messages of the slots from `from` on that could have left a channel before a moment; true when there are
    /// more slots.
    pub(crate) fn add_waiting_since(
        &self,
        from: usize,
        count: usize,
        (channel, before): (ChannelId, Timestamp),
        found: &mut Vec<MessageId>,
    ) -> bool {
        for (standing, open) in self.slots.from(from).take(count).flatten() {
            let is_late = standing.channel == channel && standing.since.max(standing.scheduled(self.ahead_ms)) < before;
            if is_late && open.rows.get().iter().any(|row| row.state == RecipientState::Queued) {
                found.push(standing.id);
            }
        }
        from + count < self.slots.len()
    }

    fn count_lease(&mut self, count: u64) {
        self.totals.by_state[0] -= count;
        self.totals.by_state[1] += count;
    }

    /// Gives leased recipients back that never had an intent.
    pub(crate) fn give_back(&mut self, message: MessageId, recipients: &[u32]) -> Option<Wakeup> {
        let slot = self.slots.find(message)?;
        let open = self.slots.get_mut(slot);
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
        let standing = self.slots.standing(slot)?;
        let size_bytes = self.size_at(standing.id, standing.place);
        self.lines.entry(standing.channel).or_default().given_back(standing.stand(), count, size_bytes);
        self.requeue(slot)
    }

    /// A queued recipient that is due when it was put off to is due at `due`, if that is sooner.
    pub(crate) fn bring_forward(&mut self, put_off: &PutOff, due: Timestamp) -> Option<Wakeup> {
        let slot = self.slots.find(put_off.message)?;
        let row = self.slots.get_mut(slot).rows.get_mut().get_mut(put_off.recipient as usize)?;
        if row.state != RecipientState::Queued || row.due != put_off.until {
            return None;
        }
        row.due = row.due.min(due);
        self.requeue(slot)
    }

    pub(crate) fn next_due(&self, channel: ChannelId) -> Option<Timestamp> {
        let lines = self.lines.get(&channel)?;
        Lane::ALL.iter().filter_map(|lane| lines.next_due(*lane)).min()
    }

    pub(crate) fn next_due_after(&self, channel: ChannelId, now: Timestamp) -> Option<Timestamp> {
        let lines = self.lines.get(&channel)?;
        Lane::ALL.iter().filter_map(|lane| lines.next_later(*lane, now)).min()
    }

    /// When the first message of each channel and lane is due.
    pub(crate) fn all_due(&self) -> Vec<Wakeup> {
        let of_channel =
            |(channel, lines): (&ChannelId, &Lines)| Lane::ALL.map(|lane| lines.next_due(lane).map(|due| (*channel, lane, due)));
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
        let slot = self.slots.find(message)?;
        self.slots.get_mut(slot).reserved = reserved;
        self.requeue(slot)
    }
}
