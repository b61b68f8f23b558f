//! Where the open messages are kept: densely, and found by id or by slot.

use super::super::lines::Stand;
use super::rows::Rows;
use super::{Place, Standing, UNENDING, UNSCHEDULED};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use mail::{ChannelId, MessageId, Timestamp, TokenId};
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};

/// Slots that are kept although nothing is open.
const SPARE: usize = 1024;

/// An open message, in about a hundred bytes: what it has in common with others stands elsewhere once.
pub(super) struct Open {
    pub(super) id: MessageId,
    pub(super) place: Place,
    pub(super) order: u64,
    pub(super) accepted_at: Timestamp,
    pub(super) since: Timestamp,
    queued_at: Timestamp,
    lot: u32,
    /// A write about it is on its way: leases pass it by.
    pub(super) reserved: bool,
    pub(super) rows: Rows,
}

/// It has no place in its channel's queue.
const NOT_QUEUED: Timestamp = Timestamp(i64::MAX);

impl Open {
    /// Its place in the channel's queue, when it has one.
    pub(super) fn queued_at(&self) -> Option<Timestamp> {
        (self.queued_at != NOT_QUEUED).then_some(self.queued_at)
    }

    /// Gives it another place; returns the one before.
    pub(super) fn queue_at(&mut self, at: Option<Timestamp>) -> Option<Timestamp> {
        let before = self.queued_at();
        self.queued_at = at.unwrap_or(NOT_QUEUED);
        before
    }
}

/// On which channel, where in it, and with which token it came in.
type Lot = (ChannelId, Stand, Option<TokenId>);

/// What many messages have in common, with how many have it.
#[derive(Default)]
struct Lots {
    numbers: HashMap<Lot, u32>,
    lots: Vec<(Lot, u32)>,
    free: Vec<u32>,
}

impl Lots {
    fn take(&mut self, lot: Lot) -> u32 {
        if let Some(number) = self.numbers.get(&lot) {
            self.lots[*number as usize].1 += 1;
            return *number;
        }
        let number = match self.free.pop() {
            Some(number) => {
                self.lots[number as usize] = (lot, 1);
                number
            }
            None => {
                self.lots.push((lot, 1));
                (self.lots.len() - 1) as u32
            }
        };
        self.numbers.insert(lot, number);
        number
    }

    fn give_back(&mut self, number: u32) {
        let (lot, count) = &mut self.lots[number as usize];
        *count -= 1;
        if *count == 0 {
            self.numbers.remove(lot);
            self.free.push(number);
        }
    }
}

/// All open messages.
#[derive(Default)]
pub(super) struct Slots {
    slots: Vec<Option<Open>>,
    free: Vec<u32>,
    by_id: HashTable<u32>,
    hasher: RandomState,
    lots: Lots,
    /// When those may leave at the earliest and at the latest that say so.
    times: BTreeMap<u32, (Timestamp, Timestamp)>,
}

impl Slots {
    /// Puts a message that is not there yet into a slot.
    pub(super) fn insert(&mut self, standing: Standing, rows: Rows) -> u32 {
        let Standing { id, place, order, accepted_at, since, scheduled_at, expires_at, channel, .. } = standing;
        let lot = self.lots.take((channel, standing.stand(), standing.token));
        let open = Open { id, place, order, accepted_at, since, queued_at: NOT_QUEUED, lot, reserved: false, rows };
        let slot = self.free.pop().unwrap_or(self.slots.len() as u32);
        match self.slots.get_mut(slot as usize) {
            Some(free) => *free = Some(open),
            None => self.slots.push(Some(open)),
        }
        if (scheduled_at, expires_at) != (UNSCHEDULED, UNENDING) {
            self.times.insert(slot, (scheduled_at, expires_at));
        }
        let (slots, hasher) = (&self.slots, &self.hasher);
        let id_of = |slot: &u32| slots[*slot as usize].as_ref().expect("a slot in use").id;
        match self.by_id.entry(hasher.hash_one(id), |known| id_of(known) == id, |known| hasher.hash_one(id_of(known))) {
            Entry::Occupied(mut known) => *known.get_mut() = slot,
            Entry::Vacant(vacant) => drop(vacant.insert(slot)),
        }
        slot
    }

    /// Takes a message out.
    pub(super) fn remove(&mut self, slot: u32) {
        let Some(open) = self.slots.get_mut(slot as usize).and_then(Option::take) else { return };
        // Its slot is empty by now: found by number.
        if let Ok(found) = self.by_id.find_entry(self.hasher.hash_one(open.id), |known| *known == slot) {
            found.remove();
        }
        self.lots.give_back(open.lot);
        self.times.remove(&slot);
        self.free.push(slot);
        if self.by_id.is_empty() && self.slots.len() > SPARE {
            *self = Self { hasher: self.hasher.clone(), ..Self::default() };
        }
    }

    /// The slot of a message.
    pub(super) fn find(&self, id: MessageId) -> Option<u32> {
        let is_it = |slot: &u32| self.slots[*slot as usize].as_ref().is_some_and(|open| open.id == id);
        self.by_id.find(self.hasher.hash_one(id), is_it).copied()
    }

    pub(super) fn get(&self, slot: u32) -> Option<&Open> {
        self.slots.get(slot as usize)?.as_ref()
    }

    /// The message of a slot that is in use.
    pub(super) fn get_mut(&mut self, slot: u32) -> &mut Open {
        self.slots[slot as usize].as_mut().expect("a slot in use")
    }

    /// Everything about the message of a slot, but for its recipients.
    pub(super) fn standing(&self, slot: u32) -> Option<Standing> {
        let open = self.get(slot)?;
        Some(self.standing_of(slot, open))
    }

    fn standing_of(&self, slot: u32, open: &Open) -> Standing {
        let Open { id, place, order, accepted_at, since, lot, .. } = *open;
        let (channel, Stand { lane, team, person, from }, token) = self.lots.lots[lot as usize].0;
        let (scheduled_at, expires_at) = self.times.get(&slot).copied().unwrap_or((UNSCHEDULED, UNENDING));
        Standing { id, place, order, channel, accepted_at, lane, team, person, token, from, since, scheduled_at, expires_at }
    }

    /// Gives a message to another channel.
    pub(super) fn change_channel(&mut self, slot: u32, channel: ChannelId) {
        let before = self.get_mut(slot).lot;
        let (_, stand, token) = self.lots.lots[before as usize].0;
        let lot = self.lots.take((channel, stand, token));
        self.lots.give_back(before);
        self.get_mut(slot).lot = lot;
    }

    /// The slots of messages that are scheduled.
    pub(super) fn scheduled(&self) -> impl Iterator<Item = u32> {
        self.times.iter().filter(|(_, (scheduled_at, _))| *scheduled_at != UNSCHEDULED).map(|(slot, _)| *slot)
    }

    /// So many slots, with those that are free.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The messages in the slots from one on.
    pub(super) fn from(&self, slot: usize) -> impl Iterator<Item = Option<(Standing, &Open)>> {
        let slots = self.slots.iter().enumerate().skip(slot);
        slots.map(|(slot, open)| open.as_ref().map(|open| (self.standing_of(slot as u32, open), open)))
    }

    /// Every message.
    pub(super) fn all(&self) -> impl Iterator<Item = (Standing, &Open)> {
        self.from(0).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::Row;
    use super::*;
    use mail::pace::FromId;
    use mail::{Lane, PersonId, RecipientState};

    fn id(number: u128) -> MessageId {
        MessageId(number.to_be_bytes())
    }

    fn standing(number: u128, channel: u32) -> Standing {
        let position = super::super::Position { segment: 1, offset: 0 };
        let place = Place { position, payload_length: 0, body_at: 0 };
        Standing {
            id: id(number),
            place,
            order: 1,
            channel: ChannelId(channel),
            accepted_at: Timestamp(1),
            lane: Lane::Normal,
            team: None,
            person: PersonId(1),
            token: None,
            from: FromId(1),
            since: Timestamp(1),
            scheduled_at: UNSCHEDULED,
            expires_at: UNENDING,
        }
    }

    fn rows() -> Rows {
        let (state, due) = (RecipientState::Queued, Timestamp(1));
        Rows::from(vec![Row { state, intended: false, doubts: 0, attempts: 0, due, first_attempt: Timestamp(0) }])
    }

    #[test]
    fn an_open_message_takes_about_a_hundred_bytes() {
        assert!(size_of::<Option<Open>>() <= 96, "{}", size_of::<Option<Open>>());
    }

    #[test]
    fn what_is_put_in_is_found_and_what_is_taken_out_is_not() {
        let mut slots = Slots::default();
        for round in 0..3 {
            let kept: Vec<u32> = (0..5000).map(|number| slots.insert(standing(number, number as u32 % 7), rows())).collect();
            for (number, slot) in kept.iter().enumerate() {
                assert_eq!(slots.find(id(number as u128)), Some(*slot), "round {round}");
                assert_eq!(slots.standing(*slot).unwrap().channel, ChannelId(number as u32 % 7));
            }
            slots.change_channel(kept[3], ChannelId(99));
            assert_eq!(slots.standing(kept[3]).unwrap().channel, ChannelId(99));
            for (number, slot) in kept.iter().enumerate() {
                slots.remove(*slot);
                assert_eq!(slots.find(id(number as u128)), None);
            }
            assert!(slots.len() <= SPARE, "room is given back once nothing is open");
            assert!(slots.lots.numbers.is_empty());
        }
    }

    #[test]
    fn times_that_few_have_stand_beside() {
        let mut slots = Slots::default();
        slots.insert(standing(1, 1), rows());
        let timed = slots.insert(Standing { scheduled_at: Timestamp(5), ..standing(2, 1) }, rows());
        slots.insert(Standing { expires_at: Timestamp(9), ..standing(3, 1) }, rows());
        assert_eq!(slots.scheduled().collect::<Vec<_>>(), [timed]);
        assert_eq!(slots.times.len(), 2);
        assert_eq!(slots.all().filter(|(standing, _)| standing.expires_at == Timestamp(9)).count(), 1);
    }
}
