//! What every queue must do: any history of calls, compared with the model's after each call.
//!
//! A history is a list of four bytes a call, so that whoever makes them up (a property test, a fuzz
//! target) needs to know nothing about calls, and can shorten a failing one.

use crate::api::*;
use crate::caps::{Holder, MailCaps};
use crate::model::Model;
use mail::channel::{ChannelState, Kept, Sender, SenderRefused};
use mail::pace::{FromId, LearnedCap, LearnedPace, Lessons, Spent, Units};
use mail::steady::{Credit, Heartbeat, Owed, Reading};
use mail::{
    BodyType, ChannelId, Diagnostic, Envelope, Lane, MessageId, Move, PersonId, Recipient, RecipientState, Surface, TeamId,
    Timestamp, TokenId,
};
use smtp::{ForwardPath, ReversePath};
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// After this time an interrupted transaction must be due again.
pub const UNCERTAIN_RETRY: Duration = Duration::from_secs(60);

/// A queue under test.
pub trait Bed {
    /// It.
    fn queue(&self) -> &dyn Queue;
    /// Its caps of open mail.
    fn caps(&self) -> MailCaps {
        MailCaps::default()
    }
    /// Ends it without warning, and starts it again at `now`.
    fn restart(&mut self, now: Timestamp);
}

const CHANNELS: [ChannelId; 3] = [ChannelId(1), ChannelId(2), ChannelId(3)];
const PEOPLE: [&str; 4] = ["luis@example.org", "Eva@example.org", "ana@example.org", "mia@example.net"];
const WAYS_OUT: [Move; 10] = [
    Move::Send,
    Move::Defer,
    Move::Doubt,
    Move::Fail,
    Move::Hold,
    Move::GiveBack,
    Move::Expire,
    Move::Capture,
    // Not legal from leased: must be refused.
    Move::Cancel,
    Move::Reroute,
];
const HOLDERS: [Holder; 7] = [
    Holder::Token(TokenId(2)),
    Holder::Person(PersonId(0)),
    Holder::Person(PersonId(1)),
    Holder::Team(TeamId(0)),
    Holder::Team(TeamId(1)),
    Holder::Member(TeamId(0), PersonId(0)),
    Holder::Member(TeamId(1), PersonId(1)),
];
const AUTHORS: [&str; 3] = ["ana@example.com", "ana@example.com", "sales@example.com"];
const WISHES: [Move; 6] = [Move::Cancel, Move::Hold, Move::Release, Move::Reroute, Move::Suppress, Move::Send];

/// Runs a history on the model and on the queue under test.
///
/// # Errors
/// The first difference, in words.
pub fn run(history: &[[u8; 4]], bed: &mut dyn Bed) -> Result<(), String> {
    let mut run = Run { model: Model::capped(bed.caps()), now: Timestamp(1_795_593_600_000), number: 0, leases: Vec::new() };
    let mut listener = listen(bed);
    for (step, call) in history.iter().enumerate() {
        let due_before = CHANNELS.map(|channel| bed.queue().next_due(channel));
        let restarted = run.call(*call, bed).map_err(|why| format!("call {step} {call:?}: {why}"))?;
        if restarted {
            listener = listen(bed);
        }
        run.compare(bed.queue()).map_err(|why| format!("after call {step} {call:?}: {why}"))?;
        let told = std::mem::take(&mut *listener.0.lock().unwrap_or_else(PoisonError::into_inner));
        for (channel, before) in CHANNELS.into_iter().zip(due_before) {
            let after = bed.queue().next_due(channel);
            let sooner = after.is_some_and(|after| before.is_none_or(|before| after < before));
            if sooner && !told.iter().any(|(woken, due)| *woken == channel && Some(*due) <= after) {
                return Err(format!("after call {step} {call:?}: nobody was told that {channel} has mail due at {after:?}"));
            }
        }
    }
    Ok(())
}

#[derive(Default)]
struct Listener(Mutex<Vec<(ChannelId, Timestamp)>>);

impl Wake for Listener {
    fn due(&self, channel: ChannelId, _: Lane, due: Timestamp) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((channel, due));
    }
}

fn listen(bed: &dyn Bed) -> Arc<Listener> {
    let listener = Arc::new(Listener::default());
    bed.queue().set_waker(Arc::clone(&listener) as Arc<dyn Wake>);
    listener
}

struct Run {
    model: Model,
    now: Timestamp,
    number: u32,
    leases: Vec<Lease>,
}

impl Run {
    /// Makes one call on both; true when the queue was started again.
    fn call(&mut self, [what, a, b, c]: [u8; 4], bed: &mut dyn Bed) -> Result<bool, String> {
        self.now = Timestamp(self.now.0 + i64::from(a % 4));
        match what % 16 {
            0..=2 => self.accept(1, a, b, c, bed.queue())?,
            3 => self.accept(1 + usize::from(a % 3), b, c, a, bed.queue())?,
            4..=6 => self.lease(a, b, bed.queue())?,
            7 | 8 => self.intend(a, b, bed.queue())?,
            9..=11 => self.settle(a, b, c, bed.queue())?,
            12 => self.give_back(a, b, bed.queue()),
            13 | 14 => self.steer(a, b, c, bed.queue())?,
            _ if a.is_multiple_of(3) && c >= 192 => self.clocks(b, bed.queue())?,
            _ if a.is_multiple_of(3) && c >= 128 => self.other(a, b, c, bed.queue())?,
            _ if a.is_multiple_of(3) => self.set_channel(b, bed.queue())?,
            _ if a % 3 == 1 => self.now = self.now.plus(Duration::from_secs(u64::from(b))),
            _ => {
                self.leases.clear();
                self.now = Timestamp(self.now.0 + 1);
                bed.restart(self.now);
                self.model.restart(self.now, UNCERTAIN_RETRY);
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn message(&mut self, a: u8, b: u8, c: u8) -> NewMessage {
        self.number += 1;
        let mut random = [0; 10];
        random[6..].copy_from_slice(&self.number.to_be_bytes());
        let at = self.now;
        let count = 1 + usize::from(a % 3);
        let recipients = (0..count).map(|place| recipient(PEOPLE[(usize::from(b) + place) % PEOPLE.len()]));
        let idempotency = c.is_multiple_of(2).then(|| Idempotency {
            key: format!("key {}", c / 2 % 3),
            fingerprint: [c / 8 % 2; 32],
            parts: !c.is_multiple_of(4),
        });
        NewMessage {
            id: MessageId::new(at, random),
            at,
            due: if a >= 200 { at.plus(Duration::from_secs(30)) } else { at },
            person: PersonId(u32::from(b % 2)),
            team: b.is_multiple_of(3).then_some(TeamId(u32::from(b % 2))),
            token: (b % 3 == 1).then_some(TokenId(2)),
            surface: Surface::Http,
            channel: CHANNELS[usize::from(b) / 4 % CHANNELS.len()],
            lane: Lane::ALL[usize::from(c) % 3],
            lane_reason: format!("because {c}"),
            retry_of: (c % 16 == 5).then(|| MessageId::new(Timestamp(1), [9; 10])),
            envelope: Envelope {
                reverse_path: ReversePath::Null,
                recipients: recipients.collect(),
                body: BodyType::SevenBit,
                smtputf8: false,
                ret: None,
                envid: None,
            },
            suppressed: if c % 16 == 3 { vec![0] } else { Vec::new() },
            author: AUTHORS[usize::from(a) % 3].into(),
            from: format!("Author {} <{}>", a % 3, AUTHORS[usize::from(a) % 3]),
            subject: format!("number {}", self.number),
            message_id: format!("{}@example.com", self.number),
            tags: vec![("n".into(), self.number.to_string())],
            idempotency,
            scheduled_at: (a % 16 == 9).then(|| at.plus(Duration::from_secs(20))),
            expires_at: (a % 8 == 5).then(|| at.plus(Duration::from_secs(40))),
            body: format!("Subject: number {}\r\n\r\n{}\r\n", self.number, "x".repeat(usize::from(c))).into_bytes().into(),
        }
    }

    fn accept(&mut self, count: usize, a: u8, b: u8, c: u8, queue: &dyn Queue) -> Result<(), String> {
        let batch: Vec<NewMessage> = (0..count as u8).map(|more| self.message(a, b.wrapping_add(more), c)).collect();
        same("accept", &self.model.accept(batch.clone()).wait(), &queue.accept(batch).wait())
    }

    fn lease(&mut self, a: u8, b: u8, queue: &dyn Queue) -> Result<(), String> {
        let channel = CHANNELS[usize::from(a) % CHANNELS.len()];
        let skip = Skip {
            froms: if b % 8 == 7 {
                AUTHORS[..1 + usize::from(b) / 8 % 2 * 2].iter().map(|author| FromId::of(author)).collect()
            } else {
                BTreeSet::new()
            },
            people: if b % 16 == 6 { BTreeSet::from([PersonId(1)]) } else { BTreeSet::new() },
            large: if b % 16 == 5 { BTreeSet::from([(Lane::Normal, PersonId(1))]) } else { BTreeSet::new() },
            // Some channels count bytes, and now and then it changes.
            bytes_as_one: NonZeroU64::new(u64::from(a) % 3 * if b < 16 { 1 } else { 100 }),
        };
        same("heads", &self.model.heads(channel, self.now, &skip), &queue.heads(channel, self.now, &skip))?;
        for lane in &Lane::ALL[..1 + usize::from(b) % 3] {
            let most = if b % 5 == 4 { 1 } else { u32::MAX };
            let expected = self.model.lease(channel, *lane, self.now, most, &skip);
            let lease = queue.lease(channel, *lane, self.now, most, &skip);
            same("lease", &expected, &lease)?;
            if let Some(lease) = lease {
                same("body", &self.model.body(lease.message), &queue.body(lease.message))?;
                self.leases.push(lease);
            }
        }
        Ok(())
    }

    /// The wall clock moves against the steady one, or time is over for some mail.
    fn clocks(&mut self, b: u8, queue: &dyn Queue) -> Result<(), String> {
        if b.is_multiple_of(2) {
            let ahead = (i64::from(b) - 128) * 500;
            self.model.follow_wall(ahead);
            queue.follow_wall(ahead);
            return Ok(());
        }
        let expected = self.model.lease_expired(self.now);
        let lease = queue.lease_expired(self.now);
        same("lease_expired", &expected, &lease)?;
        self.leases.extend(lease);
        Ok(())
    }

    fn picked(&self, a: u8) -> Option<Lease> {
        (!self.leases.is_empty()).then(|| self.leases[usize::from(a) % self.leases.len()].clone())
    }

    fn intend(&mut self, a: u8, b: u8, queue: &dyn Queue) -> Result<(), String> {
        let Some(lease) = self.picked(a) else { return Ok(()) };
        let record = AttemptRecord { intend: Some(intent(&lease, b, self.now)), ..AttemptRecord::default() };
        self.record(record, queue)
    }

    fn settle(&mut self, a: u8, b: u8, c: u8, queue: &dyn Queue) -> Result<(), String> {
        let Some(lease) = self.picked(a) else { return Ok(()) };
        let row = |recipient: &LeasedRecipient| Settled {
            index: recipient.index,
            to: WAYS_OUT[usize::from(b.wrapping_add(recipient.index as u8)) % WAYS_OUT.len()],
            due: self.now.plus(Duration::from_secs(u64::from(c % 64))),
            counts: c.is_multiple_of(2),
            said: Diagnostic::own(None, format!("said {c}")),
            cause: None,
            suppress: (c % 8 == 6).then(|| PEOPLE[usize::from(c) / 8 % 4].to_owned()),
        };
        let settle = Settlement {
            message: lease.message,
            channel: lease.channel,
            at: self.now,
            relay: "mx.example.org".into(),
            spending: spending(b, self.now),
            recipients: lease.recipients.iter().map(row).collect(),
        };
        let next = self.picked(a.wrapping_add(1)).filter(|_| c >= 128);
        let reports = if c % 32 == 1 { vec![self.message(0, a, 1)] } else { Vec::new() };
        let record = AttemptRecord { settle: Some(settle), intend: next.map(|next| intent(&next, b, self.now)), reports };
        self.record(record, queue)?;
        // Now and then one is settled again, which is refused.
        if c % 8 != 7 {
            self.leases.retain(|other| other.message != lease.message);
        }
        Ok(())
    }

    fn record(&self, record: AttemptRecord, queue: &dyn Queue) -> Result<(), String> {
        same("record", &kind(&self.model.record(record.clone()).wait()), &kind(&queue.record(record).wait()))
    }

    fn give_back(&mut self, a: u8, b: u8, queue: &dyn Queue) {
        let Some(lease) = self.picked(a) else { return };
        let indices: Vec<u32> =
            lease.recipients.iter().map(|recipient| recipient.index).filter(|index| b >> index & 1 == 0).collect();
        self.model.give_back(lease.message, &indices);
        queue.give_back(lease.message, &indices);
    }

    fn steer(&self, a: u8, b: u8, c: u8, queue: &dyn Queue) -> Result<(), String> {
        let all = self.model.list(&Filter::default(), &Page { after: None, before: None, limit: 1000 });
        let all = all.map_err(|error| error.to_string())?.messages;
        let unknown = MessageId::new(Timestamp(1), [9; 10]);
        let message = all.get(usize::from(a) % (all.len() + 1)).map_or(unknown, |view| view.id);
        let to = WISHES[usize::from(b) % WISHES.len()];
        let order = Steer {
            message,
            recipients: if c.is_multiple_of(2) { Vec::new() } else { vec![u32::from(c / 2 % 4)] },
            to,
            channel: (to == Move::Reroute && c < 250).then_some(CHANNELS[usize::from(c) / 4 % CHANNELS.len()]),
            by: "ana".into(),
            at: self.now,
        };
        same("steer", &kind(&self.model.steer(order.clone()).wait()), &kind(&queue.steer(order).wait()))
    }

    fn set_channel(&self, b: u8, queue: &dyn Queue) -> Result<(), String> {
        let channel = CHANNELS[usize::from(b) % CHANNELS.len()];
        let (until, reason) = (self.now, "421 4.7.0 slow down".to_owned());
        let state = match b / 8 % 8 {
            0 => ChannelState::Unverified,
            1 => ChannelState::Active,
            2 => ChannelState::Paused { by: "ana".into() },
            3 => ChannelState::Throttled { until, reason, replies: 2 },
            4 => ChannelState::Unreachable { until, failures: 3, reason },
            5 => ChannelState::LoginRefused { until, reason },
            6 => ChannelState::NeedsAttention { reason, revision: 2 },
            _ => ChannelState::Disabled,
        };
        let expected = self.model.set_channel_state(channel, state.clone(), self.now).wait();
        same("set_channel_state", &expected, &queue.set_channel_state(channel, state, self.now).wait())
    }

    fn other(&self, a: u8, b: u8, c: u8, queue: &dyn Queue) -> Result<(), String> {
        let channel = CHANNELS[usize::from(b) % CHANNELS.len()];
        let (now, said) = (self.now, format!("450 said {c}"));
        match a / 3 % 5 {
            4 => {
                let mut kept = Kept { revision: u64::from(c), down_since: c.is_multiple_of(3).then_some(now), ..Kept::default() };
                kept.people.extend((0..c % 3).map(|id| (PersonId(u32::from(id)), said.clone())));
                kept.senders.extend((0..b % 3).map(|id| {
                    let (author, path) = (PEOPLE[usize::from(id)].to_lowercase(), id.is_multiple_of(2).then(String::new));
                    let refused = SenderRefused { address: author.clone(), said: said.clone() };
                    (Sender { person: PersonId(u32::from(id)), author, path }, refused)
                }));
                let told = vec![(mail::EventKind::ChannelPersonPaused, said); usize::from(c % 3)];
                let expected = self.model.set_kept(channel, kept.clone(), told.clone(), now).wait();
                same("set_kept", &expected, &queue.set_kept(channel, kept, told, now).wait())
            }
            0 => {
                let pace = LearnedPace { per_minute: 7, before: 30, taught_at: now, step_at: now, said: said.clone() };
                let cap = LearnedCap { connections: 1, before: 3, taught_at: now, step_at: now, said };
                let lessons = Lessons { pace: (!c.is_multiple_of(4)).then_some(pace), cap: (!c.is_multiple_of(3)).then_some(cap) };
                let expected = self.model.set_lessons(channel, lessons.clone(), now).wait();
                same("set_lessons", &expected, &queue.set_lessons(channel, lessons, now).wait())
            }
            1 => {
                let reading = Reading { boot: [c; 16], since_boot: Duration::from_secs(9), wall: now, proved: b > 9 };
                let owed = (b % 4 > 1).then_some(Owed { wall: now, steady: now });
                let heartbeat = Heartbeat { reading, steady: now, owed, doubted: c % 3 == 1 };
                let credit =
                    b.is_multiple_of(2).then(|| Credit { before: Timestamp(now.0 - 5), by: Duration::from_secs(b.into()) });
                same("beat", &self.model.beat(heartbeat, credit).wait(), &queue.beat(heartbeat, credit).wait())
            }
            2 => {
                let before = Timestamp(now.0 - 20_000);
                same("forget_spent", &self.model.forget_spent("ana", before), &queue.forget_spent("ana", before))
            }
            _ => {
                let (party, address) = (Party::of(None, PersonId(u32::from(b % 2))), PEOPLE[usize::from(c) % 4]);
                let expected = self.model.unsuppress(party, address, "ana", now).wait();
                same("unsuppress", &expected, &queue.unsuppress(party, address, "ana", now).wait())
            }
        }
    }

    fn compare(&self, queue: &dyn Queue) -> Result<(), String> {
        let model = &self.model;
        let totals = queue.totals();
        same("totals", &model.totals(), &totals)?;
        same("one fate for each recipient", &totals.accepted, &totals.by_state.iter().sum())?;
        let kept_back = KeptBack::from([(CHANNELS[0], PersonId(1))]);
        for kept_back in [&kept_back, &KeptBack::new()] {
            same("queue", &model.queue(self.now, kept_back), &queue.queue(self.now, kept_back))?;
        }
        for holder in HOLDERS {
            same("open mail", &(holder, model.open_mail(holder)), &(holder, queue.open_mail(holder)))?;
        }
        for person in [PersonId(0), PersonId(1)] {
            for key in [None, Some("key 0"), Some("nobody's")] {
                same("knows_keys", &model.knows_keys(person, key), &queue.knows_keys(person, key))?;
            }
        }
        same("lessons", &model.lessons(), &queue.lessons())?;
        same("next_expiry", &model.next_expiry(), &queue.next_expiry())?;
        same("kept", &model.kept(), &queue.kept())?;
        same("channel_states", &model.channel_states(), &queue.channel_states())?;
        for channel in CHANNELS {
            let past = |queue: &dyn Queue| queue.next_due(channel).map(|due| due.max(self.now));
            same("next_due", &past(model), &past(queue))?;
            same("next_due_after", &model.next_due_after(channel, self.now), &queue.next_due_after(channel, self.now))?;
            let ids: Vec<MessageId> = all_ids(model).into_iter().step_by(3).collect();
            same("ahead", &model.ahead(channel, &ids, self.now), &queue.ahead(channel, &ids, self.now))?;
            let before = Timestamp(self.now.0 - 5_000);
            let waiting = model.waiting_since(channel, before, 3);
            same("waiting_since", &waiting, &queue.waiting_since(channel, before, 3))?;
            same("overdue", &model.overdue(channel, before, 3), &queue.overdue(channel, before, 3))?;
            same(
                "events_of_channel",
                &facts_back(model.events_of_channel(channel, 5)),
                &facts_back(queue.events_of_channel(channel, 5)),
            )?;
        }
        let page = Page { after: None, before: None, limit: 1000 };
        let all = model.list(&Filter::default(), &page);
        same("list", &all, &queue.list(&Filter::default(), &page))?;
        let view = all.map_err(|error| error.to_string())?.messages;
        if let Some(one) = view.get(self.number as usize % view.len().max(1)) {
            self.compare_one(one, queue)?;
        }
        let parties = [Party::Person(PersonId(1))];
        same("suppressions", &model.suppressions(&[], None, 100), &queue.suppressions(&[], None, 100))?;
        same("suppressions", &model.suppressions(&parties, Some("eva"), 2), &queue.suppressions(&parties, Some("eva"), 2))?;
        for address in PEOPLE {
            same("is_suppressed", &model.is_suppressed(parties[0], address), &queue.is_suppressed(parties[0], address))?;
        }
        same("spent", &spent(model), &spent(queue))?;
        self.compare_counts(queue)?;
        same("events", &facts(model.events(0, 10_000)), &facts(queue.events(0, 10_000)))
    }

    /// The counts that are kept are what a scan finds.
    fn compare_counts(&self, queue: &dyn Queue) -> Result<(), String> {
        let all = Counted::default();
        let (person, team, channel) = (Some(PersonId(1)), Some(TeamId(0)), Some(CHANNELS[self.number as usize % 3]));
        let some = Counted { person, team, channel };
        for of in [all, Counted { person, ..all }, Counted { team, ..all }, Counted { channel, ..all }, some] {
            same("counts", &self.model.counts(&of), &queue.counts(&of))?;
        }
        Ok(())
    }

    /// One message and what its fields find, another one after each call.
    fn compare_one(&self, view: &MessageView, queue: &dyn Queue) -> Result<(), String> {
        let model = &self.model;
        same("message", &model.message(view.id), &queue.message(view.id))?;
        same("events_of", &facts(model.events_of(view.id, 0, 1000)), &facts(queue.events_of(view.id, 0, 1000)))?;
        same("a page of events_of", &facts(model.events_of(view.id, 0, 2)), &facts(queue.events_of(view.id, 0, 2)))?;
        if view.recipients.iter().any(|recipient| !recipient.state.is_final()) {
            same("raw", &model.raw(view.id), &queue.raw(view.id))?;
            same("envelope", &model.envelope(view.id), &queue.envelope(view.id))?;
        }
        let recipient = &view.recipients[0];
        let state = [RecipientState::ALL[self.number as usize % 9], recipient.state];
        let domain = recipient.address.rsplit_once('@').map(|(_, domain)| format!("@{}", domain.to_uppercase()));
        let (channel, from, at) = (view.channel, FromId::of(&view.author), recipient.since);
        let waits = move |one: &Waiting| one.channel == channel && one.from == from && one.due >= at && one.doubts == 0;
        let filters = [
            Filter { states: vec![state[self.number as usize % 2]], ..Filter::default() },
            Filter { channel: Some(view.channel), person: Some(view.person), ..Filter::default() },
            Filter { recipient: Some(recipient.address.to_uppercase()), ..Filter::default() },
            Filter { after: Some(view.accepted_at), before: Some(self.now), ..Filter::default() },
            Filter { states: state.to_vec(), recipient: domain, ..Filter::default() },
            Filter { team: view.team, lane: Some(view.lane), ..Filter::default() },
            Filter { lane: Some(view.lane), ..Filter::default() },
            Filter { author: Some(view.author.clone()), subject: Some("NUMBER 1".into()), ..Filter::default() },
            Filter { team: Some(TeamId(1)), states: vec![RecipientState::Sent, RecipientState::Queued], ..Filter::default() },
            Filter { tags: view.tags.clone(), ..Filter::default() },
            Filter { waits: Some(Waits::new(waits)), ..Filter::default() },
            Filter { channel: Some(view.channel), recipient: Some(recipient.address.clone()), ..Filter::default() },
        ];
        let pages = [
            Page { after: Some(view.id), before: None, limit: 2 },
            Page { after: None, before: Some(view.id), limit: 2 },
            Page { after: None, before: None, limit: 3 },
        ];
        let (filter, page) = (&filters[self.number as usize / 3 % filters.len()], &pages[self.number as usize % pages.len()]);
        same("a page", &model.list(filter, page), &queue.list(filter, page))
    }
}

fn recipient(address: &str) -> Recipient {
    Recipient::new(ForwardPath::parse(&format!("<{address}>")).expect("the addresses here are addresses"))
}

/// About the lease's recipients, or one of them.
fn intent(lease: &Lease, b: u8, at: Timestamp) -> Intent {
    let count = if b.is_multiple_of(4) { 1 } else { lease.recipients.len() };
    let recipients = lease.recipients.iter().take(count).map(|recipient| recipient.index).collect();
    let spend = (b % 4 > 1).then(|| Spend { account: "ana".into(), from: "ana@example.com".into(), units: units() });
    Intent { message: lease.message, channel: lease.channel, recipients, at, spend }
}

fn all_ids(model: &Model) -> Vec<MessageId> {
    let page = Page { after: None, before: None, limit: 1000 };
    model.list(&Filter::default(), &page).map(|listing| listing.messages.iter().map(|view| view.id).collect()).unwrap_or_default()
}

fn units() -> Units {
    Units::transaction(2, 700)
}

fn spending(b: u8, now: Timestamp) -> Spending {
    match b % 4 {
        0 | 1 => Spending::Uncounted,
        2 => Spending::Refunded(units()),
        _ => Spending::Spent(Spent { account: "ana".into(), from: "".into(), units: units(), age_from: now }),
    }
}

/// What was spent; of one moment in no order.
fn spent(queue: &dyn Queue) -> Result<Vec<String>, StoreError> {
    let mut all: Vec<String> = queue.spent()?.iter().map(|one| format!("{} {one:?}", one.age_from)).collect();
    all.sort();
    Ok(all)
}

/// Errors have their own words in each queue; what they are is the same.
fn kind<T: Debug>(result: &Result<T, StoreError>) -> String {
    match result {
        Err(StoreError::Illegal(_)) => "illegal".into(),
        other => format!("{other:?}"),
    }
}

/// Events without their numbers, which only have to grow.
fn facts(events: Result<Vec<mail::Event>, StoreError>) -> Result<Vec<mail::Event>, String> {
    let mut events = events.map_err(|error| error.to_string())?;
    if events.windows(2).any(|pair| pair[0].sequence >= pair[1].sequence) {
        return Err("the numbers of events do not grow".into());
    }
    events.iter_mut().for_each(|event| event.sequence = 0);
    Ok(events)
}

/// The same, newest first.
fn facts_back(events: Result<Vec<mail::Event>, StoreError>) -> Result<Vec<mail::Event>, String> {
    facts(events.map(|mut events| {
        events.reverse();
        events
    }))
}

fn same<T: Debug>(what: &str, expected: &T, found: &T) -> Result<(), String> {
    let (expected, found) = (format!("{expected:?}"), format!("{found:?}"));
    if expected == found { Ok(()) } else { Err(format!("{what}\n  model: {expected}\n  queue: {found}")) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::caps::OpenMail;
    use crate::disk::fake::FakeDisk;
    use crate::embedded::{Embedded, Options};
    use proptest::prelude::*;

    #[derive(Default)]
    struct InMemory(Model);

    impl Bed for InMemory {
        fn queue(&self) -> &dyn Queue {
            &self.0
        }

        fn restart(&mut self, now: Timestamp) {
            self.0.restart(now, UNCERTAIN_RETRY);
        }
    }

    struct OnDisk {
        caps: MailCaps,
        disk: FakeDisk,
        folder: tempfile::TempDir,
        queue: Option<Embedded<FakeDisk>>,
    }

    impl OnDisk {
        fn new(caps: MailCaps) -> Self {
            let mut bed = Self { caps, disk: FakeDisk::default(), folder: tempfile::tempdir().unwrap(), queue: None };
            bed.restart(Timestamp(1));
            bed
        }
    }

    impl Bed for OnDisk {
        fn queue(&self) -> &dyn Queue {
            self.queue.as_ref().unwrap()
        }

        fn caps(&self) -> MailCaps {
            self.caps
        }

        fn restart(&mut self, now: Timestamp) {
            self.queue = None;
            let caps = self.caps;
            let options = Options {
                caps: Box::new(move |_| caps),
                min_free: 0,
                segment_size: 2000,
                cache_bytes: 2000,
                uncertain_retry: UNCERTAIN_RETRY,
                ..Options::new(self.folder.path(), now)
            };
            let index = self.folder.path().join("index.sqlite");
            self.queue = Some(Embedded::on_disk(Arc::new(self.disk.clone()), index, options).unwrap());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_model_agrees_with_itself(history in prop::collection::vec(any::<[u8; 4]>(), 0..60)) {
            prop_assert_eq!(run(&history, &mut InMemory::default()), Ok(()));
        }

        #[test]
        fn the_durable_queue_does_what_the_model_does(history in prop::collection::vec(any::<[u8; 4]>(), 0..60)) {
            prop_assert_eq!(run(&history, &mut OnDisk::new(MailCaps::default())), Ok(()));
        }

        #[test]
        fn caps_refuse_what_goes_over_them_by_a_count_by_hand(history in prop::collection::vec(any::<[u8; 4]>(), 0..60)) {
            let most = |messages, bytes| OpenMail { messages, bytes };
            let caps = MailCaps { token: most(3, u64::MAX), person: most(u64::MAX, 1500), team: most(4, 900) };
            prop_assert_eq!(run(&history, &mut OnDisk::new(caps)), Ok(()));
        }
    }

    #[derive(Default)]
    struct Forgetful(Model);

    impl Bed for Forgetful {
        fn queue(&self) -> &dyn Queue {
            &self.0
        }

        fn restart(&mut self, now: Timestamp) {
            self.0.restart(Timestamp(now.0 - 60_000), UNCERTAIN_RETRY);
        }
    }

    #[test]
    fn a_queue_that_dates_its_doubts_wrongly_is_noticed() {
        let history = [[0, 1, 0, 1], [4, 0, 1, 0], [7, 0, 1, 0], [15, 2, 0, 0]];
        assert_eq!(run(&history, &mut InMemory::default()), Ok(()));
        assert!(run(&history, &mut Forgetful::default()).is_err());
    }
}
