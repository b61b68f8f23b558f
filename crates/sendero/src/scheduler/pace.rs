//! Who goes next on a channel: its limits and lanes, and whom it keeps back.

use super::accounts::Account;
use super::senders::RefusedSenders;
use mail::classify::Class;
use mail::limits::{Limit, Unit};
use mail::pace::{Choice, FromId, Head, Ledger, Lessons, Terms, Turn, Units, Wait};
use mail::{Channel, Diagnostic, Lane, MessageId, PersonId, Timestamp};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use store::{Lease, Skip};

/// So many equal refusals in a row of different messages say something about the channel.
const EQUAL_REFUSALS: usize = 5;
/// So many unknown recipients in a row of one person say something about their list.
const UNKNOWN_IN_A_ROW: u32 = 20;

/// What a channel is held to, and whose turn it is.
#[derive(Default)]
pub(super) struct Pace {
    /// The directory row's revision that the terms were made from.
    revision: Option<u64>,
    /// What the row holds it to.
    set: Terms,
    /// The same after its lessons.
    pub(super) terms: Terms,
    pub(super) account: Option<Arc<Account>>,
    pub(super) lessons: Lessons,
    turn: Turn,
    /// Froms that are at a limit of their own, until then.
    full_froms: BTreeMap<FromId, (Timestamp, Limit)>,
    /// Senders that the provider refuses.
    pub(super) refused_senders: RefusedSenders,
    /// People whose mail is kept back, and why.
    pub(super) paused_people: BTreeMap<PersonId, String>,
    /// Unknown recipients in a row.
    unknown: HashMap<PersonId, u32>,
    alike: Option<Alike>,
    meter: Meter,
}

struct Alike {
    said: String,
    messages: Vec<MessageId>,
}

/// Messages that left in about the last minute.
#[derive(Default)]
struct Meter {
    minute: i64,
    current: u32,
    before: u32,
}

impl Meter {
    fn count(&mut self, now: Timestamp) {
        self.reach(now);
        self.current += 1;
    }

    fn reach(&mut self, now: Timestamp) {
        let minute = now.0 / 60_000;
        if minute != self.minute {
            self.before = if minute == self.minute + 1 { self.current } else { 0 };
            (self.minute, self.current) = (minute, 0);
        }
    }

    fn last_minute(&mut self, now: Timestamp) -> u32 {
        self.reach(now);
        let left = 60_000 - now.0.rem_euclid(60_000);
        self.current + (f64::from(self.before) * left as f64 / 60_000.0) as u32
    }
}

/// A place in the pace, from the choice of a message to the end of its transaction.
#[derive(Clone)]
#[must_use = "a place that is not given back stays taken"]
pub(super) struct Ticket {
    pub(super) lane: Lane,
    pub(super) cost: Units,
    pub(super) from: Option<FromId>,
    /// The account that counts it; it stays that one, whatever becomes of the channel's row meanwhile.
    pub(super) account: Option<Arc<Account>>,
}

/// How a ticket ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Its units grow old from then.
    Spent(Timestamp),
    /// Its units are free again.
    Refunded,
}

impl Pace {
    /// The pace of a channel about which this was learned.
    pub(super) fn new(lessons: Lessons) -> Self {
        Self { lessons, ..Self::default() }
    }

    /// Follows the directory row; `account` finds its ledger. A row from before the one followed changes nothing.
    pub(super) fn follow(&mut self, row: &Channel, account: impl FnOnce() -> Arc<Account>) {
        if self.revision.is_some_and(|known| known >= row.revision) {
            return;
        }
        if self.revision.is_some() {
            self.forgive();
        }
        self.revision = Some(row.revision);
        self.account = Some(account());
        self.set = Terms::new(row, &Lessons::default());
        self.terms = self.set.clone().after(&self.lessons);
    }

    /// Something is learned, or unlearned: on top of what was learned until now, and for the row as it is followed.
    pub(super) fn learn(&mut self, lesson: impl FnOnce(&mut Lessons)) {
        lesson(&mut self.lessons);
        self.terms = self.set.clone().after(&self.lessons);
    }

    /// What was kept back for its own sake is tried again.
    pub(super) fn forgive(&mut self) {
        self.pass_nobody_by();
        self.refused_senders = RefusedSenders::default();
        self.paused_people.clear();
        self.unknown.clear();
        self.alike = None;
    }

    /// Froms at a limit of their own are looked at again: the limit, or what was spent of it, is another one.
    pub(super) fn pass_nobody_by(&mut self) {
        self.full_froms.clear();
    }

    /// Whom the next lease passes by.
    pub(super) fn skip(&mut self, now: Timestamp) -> Skip {
        self.full_froms.retain(|_, (until, _)| *until > now);
        Skip { froms: self.full_froms.keys().copied().collect(), people: self.paused_people.keys().copied().collect() }
    }

    /// When a From that is passed by is free again.
    pub(super) fn skips_until(&self) -> Option<Timestamp> {
        self.full_froms.values().map(|(until, _)| *until).min().filter(|until| until.0 < i64::MAX)
    }

    /// Froms that are passed by, each with its limit and the moment it is free, if that is known.
    pub(super) fn full_froms(&self) -> impl Iterator<Item = (FromId, Option<Timestamp>, Limit)> {
        let known = |until: Timestamp| Some(until).filter(|until| until.0 < i64::MAX);
        self.full_froms.iter().map(move |(from, (until, limit))| (*from, known(*until), *limit))
    }

    pub(super) fn head(&self, head: &store::Head, lane: Lane) -> Head {
        let recipients = head.recipients.min(self.terms.most_recipients(lane));
        let counts_froms = self.account.as_ref().is_some_and(|account| account.counts_froms());
        Head { cost: Units::transaction(recipients, head.size_bytes), from: counts_froms.then_some(head.from) }
    }

    /// The account, where what leaves is counted: another channel on it may be held to limits too.
    fn counted(&self) -> Option<&Arc<Account>> {
        self.account.as_ref().filter(|account| !self.terms.is_unlimited() || account.is_limited())
    }

    /// Looks at the heads, without taking anything.
    pub(super) fn look(&self, heads: &[Option<Head>; 3], now: Timestamp) -> Choice {
        match self.counted() {
            Some(account) => self.turn.choose(heads, &self.terms, &mut account.ledger(), now),
            None => self.turn.choose(heads, &self.terms, &mut Ledger::default(), now),
        }
    }

    /// Chooses a lane and takes a place in it, as one step.
    pub(super) fn take(&mut self, heads: &[Option<Head>; 3], now: Timestamp) -> Result<Ticket, Choice> {
        let counted = self.counted().cloned();
        let mut uncounted = Ledger::default();
        let mut ledger = counted.as_ref().map(|account| account.ledger());
        let choice = self.turn.choose(heads, &self.terms, ledger.as_deref_mut().unwrap_or(&mut uncounted), now);
        let Choice::Go(lane) = choice else {
            if let Choice::PassFrom { from, until, limit, .. } = choice {
                self.full_froms.insert(from, (until.unwrap_or(Timestamp(i64::MAX)), limit));
            }
            return Err(choice);
        };
        let Some(head) = &heads[lane as usize] else { return Err(Choice::Idle) };
        let bulk = heads[Lane::Bulk as usize].as_ref().map(|head| head.cost);
        self.turn.started(lane, head.cost, bulk, &self.terms, now);
        if let Some(ledger) = ledger.as_mut() {
            ledger.spend(head.from, head.cost);
        }
        drop(ledger);
        Ok(Ticket { lane, cost: head.cost, from: head.from, account: counted })
    }

    /// When each lane may be looked at again, so that mail which cannot go yet wakes nobody.
    ///
    /// It is when the smallest message could go: what comes later may be smaller than what waits, or come before it.
    pub(super) fn gates(&self, wait: &Wait, now: Timestamp) -> [Timestamp; 3] {
        [Lane::Now, Lane::Normal, Lane::Bulk].map(|lane| {
            if lane < wait.lane {
                return Timestamp(0);
            }
            let mut heads = [None, None, None];
            heads[lane as usize] = Some(Head { cost: Units::transaction(1, 0), from: None });
            match self.look(&heads, now) {
                Choice::Wait(smallest) => smallest.until.unwrap_or(Timestamp(i64::MAX)),
                Choice::Go(_) | Choice::PassFrom { .. } | Choice::Idle => Timestamp(0),
            }
        })
    }

    /// The lease turned out cheaper than the place taken for it; false when it does not fit there.
    pub(super) fn fit(&self, ticket: &mut Ticket, lease: &Lease) -> bool {
        let cost = Units::transaction(lease.recipients.len() as u32, lease.size_bytes);
        let Some(account) = &ticket.account else {
            ticket.cost = cost;
            return true;
        };
        let counts_bytes = self.terms.limits.iter().any(|limit| limit.unit == Unit::Bytes);
        let is_other = ticket.from.is_some_and(|known| known != from_of(lease)) || cost.recipients > ticket.cost.recipients;
        if is_other || (counts_bytes && cost.bytes > ticket.cost.bytes) {
            return false;
        }
        let mut ledger = account.ledger();
        ledger.refund(ticket.from, ticket.cost);
        ledger.spend(ticket.from, cost);
        drop(ledger);
        ticket.cost = cost;
        true
    }

    /// The transaction of a ticket is over.
    pub(super) fn end(&mut self, ticket: &Ticket, ended: Ended) {
        self.turn.ended(ticket.lane);
        if let Some(account) = &ticket.account {
            let mut ledger = account.ledger();
            match ended {
                Ended::Spent(age_from) => ledger.settle(ticket.from, ticket.cost, age_from),
                Ended::Refunded => ledger.refund(ticket.from, ticket.cost),
            }
        }
        if let Some(from) = ticket.from {
            self.full_froms.remove(&from);
        }
    }

    /// A transaction on another channel of the account has ended.
    pub(super) fn account_settled(&mut self) {
        self.full_froms.retain(|_, (until, _)| until.0 < i64::MAX);
    }

    /// The next hop took something of this person.
    pub(super) fn accepted(&mut self, person: PersonId, now: Timestamp) {
        self.alike = None;
        self.unknown.remove(&person);
        self.meter.count(now);
    }

    /// A refusal for good; the reason to park the channel, or to keep the person's mail back.
    pub(super) fn refused(&mut self, message: MessageId, person: PersonId, class: Class, said: &Diagnostic) -> Option<Breaker> {
        if matches!(class, Class::RecipientUnknown | Class::MailboxFull) {
            let count = self.unknown.entry(person).or_default();
            *count += 1;
            if *count < UNKNOWN_IN_A_ROW {
                return None;
            }
            let reason = format!("{count} recipients in a row were refused; the last reply: {said}");
            self.paused_people.insert(person, reason.clone());
            return Some(Breaker::Person(reason));
        }
        let words = alike(said);
        let known = self.alike.take().filter(|known| known.said == words);
        let mut known = known.unwrap_or(Alike { said: words, messages: Vec::new() });
        if !known.messages.contains(&message) {
            known.messages.push(message);
        }
        let count = known.messages.len();
        if count < EQUAL_REFUSALS {
            self.alike = Some(known);
            return None;
        }
        Some(Breaker::Channel(format!("{count} messages in a row were refused alike: {said}")))
    }

    /// Messages that left in about the last minute.
    pub(super) fn last_minute(&mut self, now: Timestamp) -> u32 {
        self.meter.last_minute(now)
    }
}

/// What refusals in a row stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Breaker {
    /// The channel, for this reason.
    Channel(String),
    /// The person's mail on it.
    Person(String),
}

/// The From of a lease, as limits tell it apart.
fn from_of(lease: &Lease) -> FromId {
    FromId::of(&lease.author)
}

/// A reply without what differs from message to message: its numbers and ids.
fn alike(said: &Diagnostic) -> String {
    let is_word = |word: &&str| word.chars().all(|c| c.is_alphabetic() || ",.:;'\"()".contains(c));
    let words: Vec<&str> = said.text.split_whitespace().filter(is_word).collect();
    format!("{} {:?} {}", said.code, said.enhanced, words.join(" ").to_lowercase())
}
