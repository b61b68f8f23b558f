//! What an account has spent.

use crate::limits::{Limit, LimitScope, Unit};
use crate::steady::Credit;
use crate::time::Timestamp;
use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

/// Entries of one book that are kept exactly; beyond, those of the longer windows are put together.
const EXACT: usize = 20_000;
/// A window is cut into so many parts when entries are put together: each rounds towards safety by that share.
const PARTS: u32 = 1_000;

/// What one transaction costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Units {
    /// Transactions.
    pub messages: u32,
    /// Their recipients.
    pub recipients: u32,
    /// Their bytes.
    pub bytes: u64,
}

impl Units {
    /// One transaction.
    #[must_use]
    pub fn transaction(recipients: u32, bytes: u64) -> Self {
        Self { messages: 1, recipients, bytes }
    }

    /// So many of one unit.
    #[must_use]
    pub fn of(self, unit: Unit) -> u64 {
        match unit {
            Unit::Messages => u64::from(self.messages),
            Unit::Recipients => u64::from(self.recipients),
            Unit::Bytes => self.bytes,
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            messages: self.messages.saturating_add(other.messages),
            recipients: self.recipients.saturating_add(other.recipients),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    /// What is left without `other`.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self {
            messages: self.messages.saturating_sub(other.messages),
            recipients: self.recipients.saturating_sub(other.recipients),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

/// What a transaction spent, as it is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spent {
    /// The provider and login: see [`crate::Channel::account`].
    pub account: Arc<str>,
    /// The From it is counted under where a limit counts per From; else empty.
    pub from: Arc<str>,
    /// How much.
    pub units: Units,
    /// From when on it grows old, by the steady clock.
    pub age_from: Timestamp,
}

/// A From address, as limits that count per From tell them apart. Not to be written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FromId(pub u64);

impl FromId {
    /// That of an address, ASCII case ignored.
    #[must_use]
    pub fn of(address: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        address.to_ascii_lowercase().hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// When something may be spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Free {
    /// At once.
    Now,
    /// When enough has grown old.
    At(Timestamp),
    /// Not before open transactions have ended.
    WhenSettled,
}

/// A window of the provider as we keep it: a thousandth longer, against clocks that drift.
#[must_use]
pub fn stretched(window: Duration) -> Duration {
    window + window / 1000
}

/// What an account has spent, in every window that somebody is held to.
///
/// A unit is spent when its transaction starts and grows old from the moment its final reply came in. The
/// provider counts somewhere in between, so its own window never holds more than the limit.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    account: Book,
    froms: BTreeMap<FromId, Book>,
    windows: Vec<Duration>,
}

impl Ledger {
    /// A ledger that keeps what these windows need.
    #[must_use]
    pub fn new(windows: impl IntoIterator<Item = Duration>) -> Self {
        let mut ledger = Self::default();
        ledger.set_windows(windows);
        ledger
    }

    /// Keeps what these windows need from now on. What was spent before is counted in a new window as
    /// far as a longer one had kept it.
    pub fn set_windows(&mut self, windows: impl IntoIterator<Item = Duration>) {
        let mut wanted: Vec<Duration> = windows.into_iter().collect();
        wanted.sort_unstable();
        wanted.dedup();
        if wanted == self.windows {
            return;
        }
        self.account.set_windows(&wanted);
        self.froms.values_mut().for_each(|book| book.set_windows(&wanted));
        self.windows = wanted;
    }

    /// Keeps what these windows need, where they reach further back than those before: `spent`, in order of age, is what
    /// was written down of the account, and what the windows before had let go is counted again.
    pub fn reach_back(&mut self, windows: impl IntoIterator<Item = Duration>, spent: &[Spent], now: Timestamp) {
        let kept = stretched(self.longest());
        // What it still holds is in no way counted twice.
        std::iter::once(&mut self.account).chain(self.froms.values_mut()).for_each(|book| book.expire(now));
        self.set_windows(windows);
        spent.iter().filter(|one| one.age_from.plus(kept) <= now).for_each(|one| self.restore(one));
    }

    /// The longest window kept; zero without any.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.windows.last().copied().unwrap_or_default()
    }

    /// Counts a transaction that starts now; `from` only where a limit counts per From.
    pub fn spend(&mut self, from: Option<FromId>, units: Units) {
        self.each(from, |book| book.open = book.open.plus(units));
    }

    /// The final reply came in; from `age_from` on the units grow old.
    pub fn settle(&mut self, from: Option<FromId>, units: Units, age_from: Timestamp) {
        self.each(from, |book| {
            book.open = book.open.minus(units);
            book.add(Entry { at: age_from, units });
        });
    }

    /// The transaction never started, or the provider does not count it.
    pub fn refund(&mut self, from: Option<FromId>, units: Units) {
        self.each(from, |book| book.open = book.open.minus(units));
    }

    /// Counts everything open as ended at `age_from`: for looking ahead in a copy.
    pub fn settle_open(&mut self, age_from: Timestamp) {
        for book in std::iter::once(&mut self.account).chain(self.froms.values_mut()) {
            let units = std::mem::take(&mut book.open);
            if units != Units::default() {
                book.add(Entry { at: age_from, units });
            }
        }
    }

    /// Counts what was written down before a restart.
    pub fn restore(&mut self, spent: &Spent) {
        let from = (!spent.from.is_empty()).then(|| FromId::of(&spent.from));
        self.each(from, |book| book.add(Entry { at: spent.age_from, units: spent.units }));
    }

    fn each(&mut self, from: Option<FromId>, mut what: impl FnMut(&mut Book)) {
        what(&mut self.account);
        if let Some(from) = from {
            let windows = &self.windows;
            what(self.froms.entry(from).or_insert_with(|| Book::new(windows)));
        }
    }

    fn book(&mut self, limit: &Limit, from: Option<FromId>) -> Option<&mut Book> {
        match limit.scope {
            LimitScope::Account => Some(&mut self.account),
            LimitScope::From => self.froms.get_mut(&from?),
        }
    }

    /// How much of a limit is in use, open transactions included.
    pub fn used(&mut self, limit: &Limit, from: Option<FromId>, now: Timestamp) -> u64 {
        self.book(limit, from).map_or(0, |book| book.used(limit.window, now).of(limit.unit))
    }

    /// When `cost` fits under the limit less `kept_free`. What fits no empty window never does, and under a limit whose
    /// window is not kept nothing does: nobody knows what was spent in it.
    pub fn free(&mut self, limit: &Limit, from: Option<FromId>, cost: Units, kept_free: u64, now: Timestamp) -> Free {
        if !self.windows.contains(&limit.window) {
            return Free::WhenSettled;
        }
        let room = limit.count.saturating_sub(kept_free);
        let cost = cost.of(limit.unit);
        match self.book(limit, from) {
            None => {
                if cost <= room {
                    Free::Now
                } else {
                    Free::WhenSettled
                }
            }
            Some(book) => book.free(limit, cost, room, now),
        }
    }

    /// What was spent before a moment is older than it was thought: the machine was off meanwhile.
    pub fn credit(&mut self, credit: &Credit) {
        for book in std::iter::once(&mut self.account).chain(self.froms.values_mut()) {
            for entry in book.entries.iter_mut().take_while(|entry| entry.at < credit.before) {
                entry.at = Timestamp(entry.at.0.saturating_sub(i64::try_from(credit.by.as_millis()).unwrap_or(i64::MAX)));
            }
        }
    }

    /// Forgets the Froms of which nothing counts any more.
    pub fn tidy(&mut self, now: Timestamp) {
        let longest = self.longest();
        self.froms.retain(|_, book| {
            book.expire(now);
            book.open != Units::default() || book.entries.back().is_some_and(|entry| entry.ends(longest) > now)
        });
    }

    /// Entries kept, for those who watch memory.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.account.entries.len() + self.froms.values().map(|book| book.entries.len()).sum::<usize>()
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    at: Timestamp,
    units: Units,
}

impl Entry {
    fn ends(&self, window: Duration) -> Timestamp {
        self.at.plus(stretched(window))
    }
}

/// Entries by time, and for each window where it begins and what it holds.
#[derive(Clone, Debug, Default)]
struct Book {
    entries: VecDeque<Entry>,
    open: Units,
    windows: Vec<Sliding>,
    /// Length at which entries are put together again.
    compact_at: usize,
}

#[derive(Clone, Debug)]
struct Sliding {
    window: Duration,
    /// The first entry inside.
    head: usize,
    sum: Units,
}

impl Book {
    fn new(windows: &[Duration]) -> Self {
        let mut book = Self::default();
        book.set_windows(windows);
        book
    }

    fn set_windows(&mut self, windows: &[Duration]) {
        self.windows = windows.iter().map(|window| Sliding { window: *window, head: 0, sum: Units::default() }).collect();
        self.recount();
    }

    fn recount(&mut self) {
        let total = self.entries.iter().fold(Units::default(), |sum, entry| sum.plus(entry.units));
        for sliding in &mut self.windows {
            (sliding.head, sliding.sum) = (0, total);
        }
    }

    fn add(&mut self, entry: Entry) {
        if self.windows.is_empty() {
            return;
        }
        let place = self.entries.iter().rposition(|known| known.at <= entry.at).map_or(0, |last| last + 1);
        self.entries.insert(place, entry);
        for sliding in &mut self.windows {
            if place < sliding.head {
                sliding.head += 1;
            } else {
                sliding.sum = sliding.sum.plus(entry.units);
            }
        }
        if self.entries.len() > self.compact_at.max(EXACT) {
            self.compact();
        }
    }

    /// Moves the windows on, and drops what none of them holds.
    fn expire(&mut self, now: Timestamp) {
        for sliding in &mut self.windows {
            while let Some(entry) = self.entries.get(sliding.head).filter(|entry| entry.ends(sliding.window) <= now) {
                sliding.sum = sliding.sum.minus(entry.units);
                sliding.head += 1;
            }
        }
        let gone = self.windows.iter().map(|sliding| sliding.head).min().unwrap_or(0);
        if gone > 0 {
            self.entries.drain(..gone);
            self.windows.iter_mut().for_each(|sliding| sliding.head -= gone);
        }
    }

    fn used(&mut self, window: Duration, now: Timestamp) -> Units {
        self.expire(now);
        let held = self.windows.iter().find(|sliding| sliding.window == window).map_or_else(Units::default, |sliding| sliding.sum);
        held.plus(self.open)
    }

    fn free(&mut self, limit: &Limit, cost: u64, room: u64, now: Timestamp) -> Free {
        let used = self.used(limit.window, now).of(limit.unit);
        let Some(mut excess) = used.saturating_add(cost).checked_sub(room).filter(|excess| *excess > 0) else {
            return Free::Now;
        };
        let Some(sliding) = self.windows.iter().find(|sliding| sliding.window == limit.window) else {
            return Free::WhenSettled;
        };
        for entry in self.entries.range(sliding.head..) {
            excess = excess.saturating_sub(entry.units.of(limit.unit));
            if excess == 0 {
                return Free::At(entry.ends(limit.window));
            }
        }
        Free::WhenSettled
    }

    /// Puts neighbours together that only a longer window still holds: the later time stands for both.
    fn compact(&mut self) {
        let Some(newest) = self.entries.back().map(|entry| entry.at) else { return };
        let mut kept: VecDeque<Entry> = VecDeque::with_capacity(self.entries.len() / 2);
        for entry in self.entries.drain(..) {
            let age = newest.since(entry.at);
            // The shortest window that holds it sets how exact it has to be.
            let window = self.windows.iter().map(|sliding| sliding.window).find(|window| stretched(*window) > age);
            let part = window.unwrap_or_default() / PARTS;
            match kept.back_mut().filter(|_| kept_is_old(&self.windows, age)) {
                // Cells of a fixed grid: what was put together once does not grow.
                Some(last) if cell(entry.at, part) == cell(last.at, part) => {
                    *last = Entry { at: entry.at, units: last.units.plus(entry.units) };
                }
                _ => kept.push_back(entry),
            }
        }
        self.entries = kept;
        self.compact_at = self.entries.len() * 2;
        // Entries that a window had let go may have been joined to one that it holds: that one counts.
        self.recount();
    }
}

fn cell(at: Timestamp, part: Duration) -> u128 {
    at.since(Timestamp(0)).as_millis() / part.as_millis().max(1)
}

/// Beyond the shortest window, or the only one is long: then a thousandth of it matters to nobody.
fn kept_is_old(windows: &[Sliding], age: Duration) -> bool {
    windows.first().is_some_and(|shortest| windows.len() == 1 || age > stretched(shortest.window))
}
