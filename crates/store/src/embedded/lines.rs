//! One channel's mail in memory: what is not due yet, and what is, in three lanes of fair lines.

use super::run::Run;
use crate::api::{Skip, share};
use mail::pace::FromId;
use mail::{Lane, PersonId, TeamId, Timestamp};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::num::NonZeroU64;

/// Messages that are moved to the lanes without letting others in between.
const AT_ONCE: usize = 10_000;

/// By due time, then in the order of acceptance.
pub(crate) type Key = (Timestamp, u64);

/// Where a message stands in line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Stand {
    pub lane: Lane,
    pub team: Option<TeamId>,
    pub person: PersonId,
    pub from: FromId,
}

/// One channel's mail.
#[derive(Default)]
pub(crate) struct Lines {
    lanes: [Queue; 3],
    /// Of what is due up to here, all stands in the lanes, except what `later` still holds.
    reached: Timestamp,
    /// How shares are counted at this moment.
    bytes_as_one: Option<NonZeroU64>,
}

#[derive(Default)]
struct Queue {
    later: BTreeMap<Key, (u32, Stand)>,
    teams: Fair<Option<TeamId>, Fair<PersonId, Line>>,
    ready: usize,
}

impl Lines {
    pub(crate) fn insert(&mut self, key: Key, slot: u32, stand: Stand) {
        let reached = self.reached;
        let queue = &mut self.lanes[place(stand.lane)];
        if key.0 <= reached {
            queue.make_ready(key, slot, stand);
        } else {
            queue.later.insert(key, (slot, stand));
        }
    }

    pub(crate) fn remove(&mut self, key: Key, stand: Stand) {
        let queue = &mut self.lanes[place(stand.lane)];
        if queue.later.remove(&key).is_none() {
            queue.ready -=
                usize::from(queue.teams.with(stand.team, |people| people.with(stand.person, |line| line.remove(key, stand.from))));
        }
    }

    /// How many messages wait in a lane and in those that are more urgent.
    pub(crate) fn waiting(&self, lane: Lane) -> usize {
        self.lanes[..=place(lane)].iter().map(|queue| queue.later.len() + queue.ready).sum()
    }

    /// The latest moment that anybody has looked at: what stands in the lanes was due by then.
    pub(crate) fn reached(&self) -> Timestamp {
        self.reached
    }

    /// The message that goes next in a lane.
    pub(crate) fn first(&mut self, lane: Lane, now: Timestamp, skip: &Skip) -> Option<u32> {
        self.reached = self.reached.max(now);
        if self.bytes_as_one != skip.bytes_as_one {
            // What was counted in other units says nothing now: all begin anew.
            self.bytes_as_one = skip.bytes_as_one;
            self.lanes.iter_mut().for_each(|queue| queue.teams.level(|people| people.level(|_| ())));
        }
        let queue = &mut self.lanes[place(lane)];
        queue.reach(now);
        let person = |person: &PersonId, line: &Line| if skip.passes(lane, *person) { None } else { line.first(skip) };
        queue.teams.first(|_, people| people.first(person))
    }

    /// Counts what was handed over, for fairness.
    pub(crate) fn served(&mut self, stand: Stand, recipients: u64, size_bytes: u64) {
        let share = share(recipients, size_bytes, self.bytes_as_one);
        let queue = &mut self.lanes[place(stand.lane)];
        queue.teams.served(stand.team, share);
        queue.teams.with(stand.team, |people| people.served(stand.person, share));
    }

    /// Takes back what was counted for mail that was handed over and not tried.
    pub(crate) fn given_back(&mut self, stand: Stand, recipients: u64, size_bytes: u64) {
        let share = share(recipients, size_bytes, self.bytes_as_one);
        let queue = &mut self.lanes[place(stand.lane)];
        queue.teams.given_back(stand.team, share);
        queue.teams.with(stand.team, |people| people.given_back(stand.person, share));
    }

    /// Everything of a lane, in no order.
    pub(crate) fn all(&self, lane: Lane) -> impl Iterator<Item = (Key, u32)> {
        let queue = &self.lanes[place(lane)];
        let people = queue.teams.shares.values().flat_map(|(_, people)| people.shares.values());
        let ready = people.flat_map(|(_, line)| line.froms.values()).flat_map(Run::iter);
        queue.later.iter().map(|(key, (slot, _))| (*key, *slot)).chain(ready)
    }

    /// When something that is not due yet will be.
    pub(crate) fn next_later(&self, lane: Lane, now: Timestamp) -> Option<Timestamp> {
        let after = (Timestamp(now.0.saturating_add(1)), 0);
        self.lanes[place(lane)].later.range(after..).next().map(|((due, _), _)| *due)
    }

    /// When something is due, and in which lanes: a past moment where it is ready.
    pub(crate) fn next_due(&self, lane: Lane) -> Option<Timestamp> {
        let queue = &self.lanes[place(lane)];
        let later = queue.later.first_key_value().map(|((due, _), _)| *due);
        if queue.ready > 0 { Some(later.map_or(self.reached, |due| due.min(self.reached))) } else { later }
    }
}

impl Queue {
    fn make_ready(&mut self, key: Key, slot: u32, stand: Stand) {
        self.teams.with(stand.team, |people| people.with(stand.person, |line| line.insert(key, slot, stand.from)));
        self.ready += 1;
    }

    /// Moves what has become due to its line.
    fn reach(&mut self, now: Timestamp) {
        for _ in 0..AT_ONCE {
            let Some(first) = self.later.first_entry().filter(|first| first.key().0 <= now) else { return };
            let (key, (slot, stand)) = first.remove_entry();
            self.make_ready(key, slot, stand);
        }
    }
}

/// One person's mail of a lane, oldest first, and apart for each From so that one can be passed by.
#[derive(Default)]
struct Line {
    heads: BTreeSet<(Key, FromId)>,
    froms: HashMap<FromId, Run>,
}

impl Line {
    fn insert(&mut self, key: Key, slot: u32, from: FromId) {
        let mail = self.froms.entry(from).or_default();
        let first = mail.first().map(|(first, _)| first);
        mail.insert(key, slot);
        if first.is_none_or(|first| key < first) {
            first.map(|first| self.heads.remove(&(first, from)));
            self.heads.insert((key, from));
        }
    }

    fn remove(&mut self, key: Key, from: FromId) -> bool {
        let Some(mail) = self.froms.get_mut(&from) else { return false };
        if !mail.remove(key) {
            return false;
        }
        let first = mail.first().map(|(first, _)| (first, from));
        if first.is_none() {
            self.froms.remove(&from);
        }
        if self.heads.remove(&(key, from)) {
            self.heads.extend(first);
        }
        true
    }

    fn first(&self, skip: &Skip) -> Option<u32> {
        let (_, from) = self.heads.iter().find(|(_, from)| !skip.froms.contains(from))?;
        self.froms.get(from)?.first().map(|(_, slot)| slot)
    }
}

impl Share for Line {
    fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }
}

impl<K: Copy + Eq + Hash + Ord, V: Share> Share for Fair<K, V> {
    fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

trait Share: Default {
    /// Nothing is there to be served.
    fn is_empty(&self) -> bool;
}

/// Several who share: whoever was served least goes next.
///
/// Everybody has a mark, the shares served to them: recipients, or bytes in units of them. Who was away comes back at the mark of the one
/// served last, so that nobody saves up turns (start-time fair queueing; the share is the same as with
/// deficit round robin, without its rounds).
struct Fair<K, V> {
    clock: u64,
    shares: HashMap<K, (u64, V)>,
    /// Those with mail, by mark.
    order: BTreeSet<(u64, K)>,
}

impl<K, V> Default for Fair<K, V> {
    fn default() -> Self {
        Self { clock: 0, shares: HashMap::new(), order: BTreeSet::new() }
    }
}

impl<K: Copy + Eq + Hash + Ord, V: Share> Fair<K, V> {
    /// Changes one share, and keeps it in its place.
    fn with<T>(&mut self, who: K, change: impl FnOnce(&mut V) -> T) -> T {
        let (mark, share) = self.shares.entry(who).or_default();
        let waited = !share.is_empty();
        let result = change(share);
        if share.is_empty() {
            let mark = *mark;
            self.order.remove(&(mark, who));
            if mark <= self.clock {
                self.shares.remove(&who);
            }
        } else if !waited {
            *mark = (*mark).max(self.clock);
            self.order.insert((*mark, who));
        }
        result
    }

    fn first<T>(&self, of: impl Fn(&K, &V) -> Option<T>) -> Option<T> {
        self.order.iter().find_map(|(_, who)| of(who, &self.shares.get(who)?.1))
    }

    fn served(&mut self, who: K, units: u64) {
        let (mark, share) = self.shares.entry(who).or_default();
        let begun = (*mark).max(self.clock);
        let waits = !share.is_empty();
        self.order.remove(&(*mark, who));
        *mark = begun + units;
        if waits {
            self.order.insert((*mark, who));
        }
        self.clock = begun;
        // Who was passed by saves up nothing either.
        while let Some((_, passed)) = self.order.first().copied().filter(|(mark, _)| *mark < begun) {
            self.order.pop_first();
            self.order.insert((begun, passed));
            if let Some((mark, _)) = self.shares.get_mut(&passed) {
                *mark = begun;
            }
        }
    }

    /// Nobody was served anything yet.
    fn level(&mut self, inner: impl Fn(&mut V)) {
        self.clock = 0;
        self.shares.retain(|_, (mark, share)| {
            *mark = 0;
            inner(share);
            !share.is_empty()
        });
        self.order = self.shares.keys().map(|who| (0, *who)).collect();
    }

    /// What was not tried was not served: whoever waited for a connection in vain does not go behind everybody else.
    fn given_back(&mut self, who: K, recipients: u64) {
        let Some((mark, share)) = self.shares.get_mut(&who) else { return };
        let before = *mark;
        *mark = before.saturating_sub(recipients).max(self.clock);
        if !share.is_empty() {
            self.order.remove(&(before, who));
            self.order.insert((*mark, who));
        }
    }
}

fn place(lane: Lane) -> usize {
    match lane {
        Lane::Now => 0,
        Lane::Normal => 1,
        Lane::Bulk => 2,
    }
}
