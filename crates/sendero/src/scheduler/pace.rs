//! Who goes next on a channel: its limits and lanes, and whom it keeps back.

use super::accounts::Account;
use super::senders;
use super::suspicion::{Blame, Others, Suspicion};
use super::verdict::Refusal;
use mail::channel::Kept;
use mail::classify::{Class, Fault};
use mail::limits::{Limit, Unit};
use mail::pace::{BOOKED, Choice, FromId, Head, Ledger, Lessons, Terms, Turn, Units, Wait, Why};
use mail::{Channel, ChannelState, Diagnostic, EventKind, Lane, MessageId, PersonId, Stage, Timestamp};
use smtp::ReversePath;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use store::{Lease, Skip};

/// So many equal refusals in a row of different messages say something about the person they are of, or the channel.
const EQUAL_REFUSALS: usize = 5;
/// About the channel they say something when they are of so many people,
const PEOPLE: usize = 2;
/// and to so many domains.
const DOMAINS: usize = 3;
/// Of more equal refusals the oldest are forgotten.
const REMEMBERED: usize = 32;
/// So many refused recipients in a row of one person say something about their list.
const RECIPIENTS_IN_A_ROW: u32 = 20;
/// Of one message so many count.
const OF_ONE_MESSAGE: u32 = 5;
/// When one message is tried after a stop that says no time: the last one repeats.
pub(super) const PROBES: [Duration; 3] = [Duration::from_secs(15 * 60), Duration::from_secs(30 * 60), Duration::from_secs(60 * 60)];

/// How long until the next probe, after so many before it.
pub(super) fn probe_after(probes: u32) -> Duration {
    PROBES[PROBES.len().min(probes as usize + 1) - 1]
}

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
    /// People whose next message of a lane waits long for its bytes, so that others' smaller ones go meanwhile.
    large: BTreeMap<(Lane, PersonId), Large>,
    /// Whom it keeps back, and since when it has not worked.
    pub(super) kept: Kept,
    /// That has to be made durable.
    pub(super) unsaved: bool,
    /// What is to be told of it.
    told: Vec<Told>,
    /// When one message of theirs is tried, and how often one was.
    probes: Probes,
    /// Refused recipients in a row, by message.
    refused: HashMap<PersonId, BTreeMap<MessageId, u32>>,
    alike: Option<Alike>,
    suspicion: Suspicion,
    meter: Meter,
}

/// When one message of a person who is kept back is tried, and how often one was.
type Probes = BTreeMap<PersonId, (Timestamp, u32)>;

/// A message that waits for its bytes.
struct Large {
    message: MessageId,
    size_bytes: u64,
    /// Bytes that went before it meanwhile. Once they are as many as its own it books what is free: it does not starve.
    overtaken: u64,
    /// When it is looked at again.
    until: Timestamp,
}

impl Large {
    fn is_passed(&self, now: Timestamp) -> bool {
        self.until > now && self.overtaken < self.size_bytes
    }
}

/// What became of somebody's mail.
pub(super) struct Told {
    pub(super) kind: EventKind,
    pub(super) whom: Whom,
    pub(super) why: String,
}

/// Whose mail is kept back, or goes on.
pub(super) enum Whom {
    Person(PersonId),
    /// The address that the provider refuses.
    Sender(String),
}

/// Refusals in a row in the same words.
struct Alike {
    said: String,
    refused: VecDeque<(MessageId, PersonId, String)>,
}

impl Alike {
    fn count(&mut self, message: MessageId, person: PersonId, domain: &str) {
        if self.refused.iter().any(|(known, _, to)| *known == message && to == domain) {
            return;
        }
        self.refused.push_back((message, person, domain.to_owned()));
        if self.refused.len() > REMEMBERED {
            self.refused.pop_front();
        }
    }

    fn messages(&self, of: Option<PersonId>) -> usize {
        let all = self.refused.iter().filter(|(_, person, _)| of.is_none_or(|one| one == *person));
        all.map(|(message, ..)| message).collect::<BTreeSet<_>>().len()
    }

    fn people(&self) -> usize {
        self.refused.iter().map(|(_, person, _)| person).collect::<BTreeSet<_>>().len()
    }

    fn domains(&self) -> usize {
        self.refused.iter().map(|(.., domain)| domain).collect::<BTreeSet<_>>().len()
    }
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
    pub(super) fn new(lessons: Lessons, kept: Kept) -> Self {
        Self { lessons, kept, ..Self::default() }
    }

    /// Follows the directory row; `account` finds its ledger. A row from before the one followed changes nothing.
    pub(super) fn follow(&mut self, row: &Channel, account: impl FnOnce() -> Arc<Account>) {
        if self.revision.is_some_and(|known| known >= row.revision) {
            return;
        }
        if self.revision.is_some() || self.kept.revision != row.revision {
            self.forgive("the channel has changed");
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
    pub(super) fn forgive(&mut self, why: &str) {
        self.pass_nobody_by();
        let people: Vec<PersonId> = self.kept.people.keys().copied().collect();
        let senders: Vec<String> = self.kept.senders.values().map(|one| one.address.clone()).collect();
        people.into_iter().for_each(|person| self.tell(EventKind::ChannelPersonResumed, Whom::Person(person), why));
        senders.into_iter().for_each(|address| self.tell(EventKind::ChannelSenderRestored, Whom::Sender(address), why));
        self.kept.forgive();
        self.probes.clear();
        self.refused.clear();
        self.alike = None;
    }

    /// A person has looked after the channel: the time in which it does not work begins anew.
    pub(super) fn be_patient(&mut self, now: Timestamp) {
        if self.kept.down_since.is_some() {
            self.kept.down_since = Some(now);
            self.unsaved = true;
        }
    }

    /// Follows the channel's state.
    pub(super) fn follow_state(&mut self, state: &ChannelState, now: Timestamp) {
        let before = self.kept.down_since;
        self.kept.follow(state, now);
        self.unsaved |= self.kept.down_since != before;
    }

    /// The sender of a lease was refused at this stage, in these words.
    pub(super) fn refuse_sender(&mut self, lease: &Lease, sent: &ReversePath, stage: Stage, said: String) {
        if self.kept.senders.len() >= senders::MOST {
            return;
        }
        let (sender, refused) = senders::refused(lease, sent, stage, said);
        if self.kept.senders.contains_key(&sender) {
            return;
        }
        let (address, said) = (refused.address.clone(), refused.said.clone());
        self.tell(EventKind::ChannelSenderRevoked, Whom::Sender(address), &said);
        self.kept.senders.insert(sender, refused);
    }

    fn tell(&mut self, kind: EventKind, whom: Whom, why: &str) {
        self.kept.revision = self.revision.unwrap_or(self.kept.revision);
        self.unsaved = true;
        self.told.push(Told { kind, whom, why: why.to_owned() });
    }

    /// What has to be made durable, and what is told of it.
    pub(super) fn take_unsaved(&mut self) -> Option<(Kept, Vec<Told>)> {
        std::mem::take(&mut self.unsaved).then(|| (self.kept.clone(), std::mem::take(&mut self.told)))
    }

    /// It could not be made durable.
    pub(super) fn not_saved(&mut self, told: Vec<Told>) {
        self.unsaved = true;
        self.told.splice(0..0, told);
    }

    /// Who is passed by for a limit is looked at again: the limit, or what was spent of it, is another one.
    pub(super) fn pass_nobody_by(&mut self) {
        self.full_froms.clear();
        self.large.clear();
    }

    /// Whom the next lease passes by.
    pub(super) fn skip(&mut self, now: Timestamp) -> Skip {
        self.full_froms.retain(|_, (until, _)| *until > now);
        let (kept, probes) = (&self.kept.people, &mut self.probes);
        Skip {
            froms: self.full_froms.keys().copied().collect(),
            people: kept.keys().copied().filter(|person| tried_at(probes, *person, now) > now).collect(),
            large: self.large.iter().filter(|(_, large)| large.is_passed(now)).map(|(whose, _)| *whose).collect(),
            bytes_as_one: self.set.bytes_as_one(),
        }
    }

    /// When a From, a person or a large message that is passed by is looked at again.
    pub(super) fn skips_until(&self, now: Timestamp) -> Option<Timestamp> {
        let froms = self.full_froms.values().map(|(until, _)| *until).filter(|until| until.0 < i64::MAX);
        let large = self.large.values().filter(|large| large.is_passed(now)).map(|large| large.until);
        let people = self.probes.values().map(|(tried_at, _)| *tried_at).filter(|tried_at| *tried_at > now);
        froms.chain(people).chain(large).min()
    }

    /// Whether others may go before the head that waits here: it waits for its bytes, for longer than a lane stands still,
    /// and others have not had as many before it.
    pub(super) fn pass_by(&mut self, wait: &Wait, waiting: &[Option<store::Head>; 3], now: Timestamp) -> bool {
        let Some(head) = &waiting[wait.lane as usize] else { return false };
        let mut alone = [None, None, None];
        alone[wait.lane as usize] = Some(self.head(head, wait.lane));
        let Choice::Wait(Wait { until: Some(until), why: Why::Limit(limit), .. }) = self.look(&alone, now) else { return false };
        if limit.unit != Unit::Bytes || until.since(now) <= BOOKED {
            return false;
        }
        let new = || Large { message: head.message, size_bytes: head.size_bytes, overtaken: 0, until };
        let large = self.large.entry((wait.lane, head.person)).or_insert_with(new);
        if large.message != head.message {
            *large = new();
        }
        // It may be cancelled, or what it waits for given back: so it is looked at now and then.
        large.until = now.plus(BOOKED);
        large.is_passed(now)
    }

    /// A message leaves, before those that wait for their bytes in its lane or in a more urgent one.
    fn overtakes(&mut self, ticket: &Ticket, person: PersonId) {
        self.large.remove(&(ticket.lane, person));
        for (_, large) in self.large.iter_mut().filter(|((lane, _), _)| *lane <= ticket.lane) {
            large.overtaken += ticket.cost.bytes;
        }
    }

    /// Froms that are passed by, each with its limit and the moment it is free, if that is known.
    pub(super) fn full_froms(&self) -> impl Iterator<Item = (FromId, Option<Timestamp>, Limit)> {
        let known = |until: Timestamp| Some(until).filter(|until| until.0 < i64::MAX);
        self.full_froms.iter().map(move |(from, (until, limit))| (*from, known(*until), *limit))
    }

    /// People whose mail is kept back, when a message of theirs is tried, and why it is so.
    pub(super) fn kept_back(&mut self, now: Timestamp) -> Vec<(PersonId, Timestamp, String)> {
        let probes = &mut self.probes;
        let each = self.kept.people.iter();
        each.map(|(person, reason)| (*person, tried_at(probes, *person, now), reason.clone())).collect()
    }

    /// Keeps the mail of a person back; one message is tried later, and ends it when it is accepted. Who is kept back already
    /// is so for the first reason: what the tries lead to adds nothing.
    fn keep_back(&mut self, person: PersonId, reason: String, now: Timestamp) -> Breaker {
        tried_at(&mut self.probes, person, now);
        if let Some(first) = self.kept.people.get(&person) {
            return Breaker::Person(first.clone());
        }
        self.tell(EventKind::ChannelPersonPaused, Whom::Person(person), &reason);
        self.kept.people.insert(person, reason.clone());
        Breaker::Person(reason)
    }

    fn let_person_go(&mut self, person: PersonId, why: &str) {
        self.probes.remove(&person);
        if self.kept.people.remove(&person).is_some() {
            self.tell(EventKind::ChannelPersonResumed, Whom::Person(person), why);
        }
    }

    /// A message of this person is handed over: where it is kept back, it is the one that is tried.
    pub(super) fn tries(&mut self, person: PersonId, now: Timestamp) {
        if self.kept.people.contains_key(&person)
            && let Some((tried_at, probes)) = self.probes.get_mut(&person)
        {
            *tried_at = now.plus(probe_after(*probes));
            *probes = probes.saturating_add(1);
        }
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
        self.turn.started(lane, head.cost, heads, &self.terms, now);
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
        Lane::ALL.map(|lane| {
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
    pub(super) fn fit(&mut self, ticket: &mut Ticket, lease: &Lease) -> bool {
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
        self.overtakes(ticket, lease.person);
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

    /// The next hop took something of this message; `is_echo`: it began before the channel came into its present state.
    pub(super) fn accepted(&mut self, message: MessageId, person: PersonId, is_echo: bool, now: Timestamp) {
        self.alike = None;
        self.refused.remove(&person);
        self.let_person_go(person, "a message of theirs was accepted");
        self.suspicion.accepted(message, is_echo);
        self.meter.count(now);
    }

    /// A refusal for good; the reason to park the channel, or to keep the person's mail back.
    pub(super) fn refused(&mut self, message: MessageId, person: PersonId, refusal: &Refusal, now: Timestamp) -> Option<Breaker> {
        let Refusal { class, scope, domain, said } = refusal;
        match scope {
            _ if matches!(class, Class::RecipientUnknown | Class::MailboxFull) => {}
            Fault::Recipient => {}
            Fault::Destination => return None,
            Fault::Message | Fault::Channel | Fault::Connection => return self.refused_alike(message, person, domain, said, now),
        }
        let refused = self.refused.entry(person).or_default();
        let count = |refused: &BTreeMap<MessageId, u32>| refused.values().map(|of_it| OF_ONE_MESSAGE.min(*of_it)).sum::<u32>();
        if count(refused) < RECIPIENTS_IN_A_ROW {
            *refused.entry(message).or_default() += 1;
        }
        if count(refused) < RECIPIENTS_IN_A_ROW {
            return None;
        }
        let reason = format!("{RECIPIENTS_IN_A_ROW} recipients in a row were refused; the last reply: {said}");
        Some(self.keep_back(person, reason, now))
    }

    /// The same words to several messages: to those of one person they speak of these, to those of several people for
    /// several domains of the channel.
    fn refused_alike(
        &mut self,
        message: MessageId,
        person: PersonId,
        domain: &str,
        said: &Diagnostic,
        now: Timestamp,
    ) -> Option<Breaker> {
        let words = alike(said);
        let known = self.alike.take().filter(|known| known.said == words);
        let known = self.alike.insert(known.unwrap_or(Alike { said: words, refused: VecDeque::new() }));
        known.count(message, person, domain);
        let reason = |count| format!("{count} messages in a row were refused alike: {said}");
        let count = known.messages(None);
        if count >= EQUAL_REFUSALS && known.people() >= PEOPLE && known.domains() >= DOMAINS {
            return Some(Breaker::Channel(reason(count)));
        }
        let count = known.messages(Some(person));
        (count >= EQUAL_REFUSALS).then(|| self.keep_back(person, reason(count), now))
    }

    /// A reply to this message blames the channel; what follows, where it is to be believed.
    pub(super) fn blamed(
        &mut self,
        lease: &Lease,
        is_stopped: bool,
        others: Others,
        said: &Diagnostic,
        now: Timestamp,
    ) -> Option<Breaker> {
        match self.suspicion.blamed(lease.message, lease.person, is_stopped, others) {
            Blame::Open => None,
            Blame::Person => {
                let reason = format!("the next hop blames the channel for messages of this person, and others wait: {said}");
                Some(self.keep_back(lease.person, reason, now))
            }
            Blame::Channel(first) => {
                if let Some(person) = first {
                    self.let_person_go(person, "the next hop blames the channel for messages of others, too");
                }
                Some(Breaker::Channel(said.to_string()))
            }
        }
    }

    /// True for a message that blamed the channel, which took the next one.
    pub(super) fn is_refuted(&self, message: MessageId) -> bool {
        self.suspicion.is_refuted(message)
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

/// When a message of somebody who is kept back is tried: somebody new has the first wait before them.
fn tried_at(probes: &mut Probes, person: PersonId, now: Timestamp) -> Timestamp {
    probes.entry(person).or_insert((now.plus(probe_after(0)), 1)).0
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
