//! The writer as a state machine: operations in, one batch on the disk, answers out.
//!
//! A thread steps it in production; a test steps it by hand.

use super::head;
use super::index::{self, Entry, KnownKey};
use super::keys::hidden;
use super::log::{AppendError, Batch, Log, Position};
use super::open_set::{Effects, Fresh, OpenSet, Place, Shared, Wakeup};
use super::record::{Base, Carried, CarriedKey, Forgotten, Intend, Meta, Record, Settle, SettledRow};
use crate::api::{
    AcceptError, Accepted, AttemptRecord, NewMessage, Party, Settled, Settlement, Spending, Steer, StoreError, Totals,
};
use crate::body::{Body, FileId};
use crate::caps::{Claim, MailCaps, Tally};
use crate::disk::Disk;
use bytes::Bytes;
use mail::channel::{ChannelState, Kept};
use mail::pace::Lessons;
use mail::steady::{Credit, Heartbeat};
use mail::{ChannelId, EventKind, MessageId, PersonId, RecipientState, Timestamp};
use rusqlite::Connection;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// A message's body may have this many bytes; the doors have lower limits.
const MAX_BODY: usize = 128 << 20;
/// Keys kept in memory before those that the index has are dropped.
const MANY_KEYS: usize = 10_000;

/// Something to write, and whom to answer.
pub(crate) enum Op {
    Accept(Vec<NewMessage>, oneshot::Sender<Result<Vec<Accepted>, AcceptError>>),
    Attempt(AttemptRecord, oneshot::Sender<Result<(), StoreError>>),
    Steer(Steer, oneshot::Sender<Result<Vec<u32>, StoreError>>),
    Channel(ChannelId, ChannelState, Timestamp, oneshot::Sender<Result<(), StoreError>>),
    Lessons(ChannelId, Lessons, Timestamp, oneshot::Sender<Result<(), StoreError>>),
    Kept(ChannelId, Kept, Vec<(EventKind, String)>, Timestamp, oneshot::Sender<Result<(), StoreError>>),
    Beat(Heartbeat, Option<Credit>, oneshot::Sender<Result<(), StoreError>>),
    Unsuppress(Unsuppress, oneshot::Sender<Result<bool, StoreError>>),
    /// Open messages of a segment, to be written again.
    Move(u32, Vec<Moved>, oneshot::Sender<Result<u64, StoreError>>),
    /// What ended mail leaves behind, to be written again.
    Carry(Box<Carried>, oneshot::Sender<Result<u64, StoreError>>),
    /// An address is forgotten in mail that has ended; what it says of segments is set here.
    Forget(Box<Forgotten>, Closing, oneshot::Sender<Result<u64, StoreError>>),
    /// Segments before this one are not needed any more.
    Base(u32, oneshot::Sender<Result<u64, StoreError>>),
}

/// When the segments that have what is forgotten are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    /// The record begins a new segment, so that the ones before it can go.
    Now,
    /// A record behind it does so.
    Later,
}

/// An open message as its record has it, and the last words about its recipients.
pub(crate) struct Moved {
    pub meta: Meta,
    pub body: Bytes,
    pub words: Vec<Words>,
}

/// The last words about a recipient.
pub(crate) struct Words {
    pub since: Timestamp,
    pub said: String,
    pub relay: String,
}

/// An address to be taken off a list.
pub(crate) struct Unsuppress {
    pub party: Party,
    pub address: String,
    pub by: String,
    pub at: Timestamp,
}

impl Op {
    /// Bytes it will take, about.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Accept(messages, _) => messages.iter().map(|message| message.body.head().len() + 512).sum(),
            Self::Attempt(record, _) => 256 + record.reports.iter().map(|report| report.body.head().len() + 512).sum::<usize>(),
            Self::Kept(_, kept, ..) => 512 + 256 * (kept.people.len() + kept.senders.len()),
            Self::Move(_, moved, _) => moved.iter().map(|moved| moved.body.len() + 512).sum(),
            Self::Carry(carried, _) => 128 * (carried.keys.len() + carried.spent.len() + carried.suppressed.len()),
            Self::Forget(forgotten, ..) => 256 + 48 * forgotten.messages.len(),
            Self::Steer(..) | Self::Channel(..) | Self::Lessons(..) | Self::Beat(..) | Self::Unsuppress(..) | Self::Base(..) => 256,
        }
    }

    /// Answers that nothing will be written any more.
    pub(crate) fn close(self, why: &str) {
        let closed = || StoreError::Closed(why.to_owned());
        match self {
            Self::Accept(_, answer) => drop(answer.send(Err(AcceptError::Closed(why.to_owned())))),
            Self::Attempt(_, answer)
            | Self::Channel(.., answer)
            | Self::Lessons(.., answer)
            | Self::Kept(.., answer)
            | Self::Beat(.., answer) => {
                drop(answer.send(Err(closed())));
            }
            Self::Unsuppress(_, answer) => drop(answer.send(Err(closed()))),
            Self::Steer(_, answer) => drop(answer.send(Err(closed()))),
            Self::Move(.., answer) | Self::Carry(_, answer) | Self::Base(_, answer) | Self::Forget(.., answer) => {
                drop(answer.send(Err(closed())))
            }
        }
    }

    /// Says again what was said before: it stands in front of everything else of its batch, so that what it says of
    /// the state is what the log says at that place.
    fn repeats(&self) -> bool {
        matches!(self, Self::Move(..) | Self::Carry(..) | Self::Base(..))
    }
}

/// What waits for the sync.
enum Staged {
    Accepted(Vec<Accepted>, oneshot::Sender<Result<Vec<Accepted>, AcceptError>>),
    Done(oneshot::Sender<Result<(), StoreError>>),
    Unsuppressed(oneshot::Sender<Result<bool, StoreError>>),
    Steered(MessageId, Vec<u32>, oneshot::Sender<Result<Vec<u32>, StoreError>>),
    Repeated(u64, oneshot::Sender<Result<u64, StoreError>>),
}

struct Written {
    record: Record,
    start: usize,
    body: Option<(usize, Body)>,
    sequence: u64,
}

/// What a step did.
#[derive(Default)]
pub(crate) struct Step {
    /// What the index has to learn.
    pub entries: Vec<Entry>,
    /// Files of bodies that nobody will ask for any more.
    pub spare: Vec<FileId>,
    /// Channels with mail that became due.
    pub wakes: Vec<Wakeup>,
    /// The disk had no room for it.
    pub no_space: bool,
    /// Nothing may be written any more, and why.
    pub failed: Option<String>,
    /// Operations that wait for the next step.
    pub later: Vec<Op>,
    staged: Vec<Staged>,
    result: Option<Failure>,
}

impl Step {
    /// Answers everybody, once the index has been given what it has to learn.
    pub(crate) fn answer(self) {
        answer(self.staged, self.result);
    }
}

/// The writer.
pub(crate) struct Core<D> {
    pub(crate) log: Log<D>,
    pub(crate) open: Arc<Mutex<OpenSet>>,
    batch: Batch,
    /// What must be written before anything else: the end of what the last process left open.
    pub(crate) owed: Vec<Owed>,
    /// What the batch changed of the keys, to be undone when it is not written.
    keys_before: Vec<KeyBefore>,
    /// Messages that ended, with the record that did it, until the index knows.
    ended: VecDeque<(u64, MessageId)>,
    keys: HashMap<(PersonId, String), KnownKey>,
    keys_since: HashMap<(PersonId, String), u64>,
    reader: Connection,
    room: Room,
    /// What may be open at once.
    pub(crate) caps: MailCaps,
    /// Messages of the batch, which are open once it is durable.
    staged_mail: Tally,
    /// Messages that are forgotten in the batch.
    forgetting: HashSet<MessageId>,
    /// When the index knows this record, no key is kept here that has what was forgotten in it.
    keys_until: Option<u64>,
}

/// The room that submissions leave to others, and to what must be written in any case.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Submissions are refused below so many free bytes.
    pub min_free: u64,
    /// Bytes set aside for what must be written when the disk is full: outcomes, reports, snapshots.
    pub reserve: u64,
    /// They are set aside now.
    pub is_reserved: bool,
}

pub(crate) fn lock(open: &Mutex<OpenSet>) -> MutexGuard<'_, OpenSet> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<D: Disk> Core<D> {
    pub(crate) fn new(log: Log<D>, open: Arc<Mutex<OpenSet>>, reader: Connection, room: Room) -> Self {
        Self {
            log,
            open,
            batch: Batch::default(),
            owed: Vec::new(),
            keys_before: Vec::new(),
            ended: VecDeque::new(),
            keys: HashMap::new(),
            keys_since: HashMap::new(),
            reader,
            room,
            caps: MailCaps::default(),
            staged_mail: Tally::default(),
            forgetting: HashSet::new(),
            keys_until: None,
        }
    }

    /// Writes everything in `ops` as one batch, makes it durable, applies it, and answers.
    pub(crate) fn step(&mut self, ops: Vec<Op>, index: Follower) -> Step {
        let mut step = Step::default();
        let mut staged = Vec::with_capacity(ops.len());
        let mut written = Vec::with_capacity(ops.len());
        let mut touched = HashSet::new();
        let room = self.room(&ops, index);
        self.forget_old_keys(index.sequence);
        self.keys_before.clear();
        self.staged_mail.clear();
        self.forgetting = forgotten_in(&ops);
        while self.ended.front().is_some_and(|(sequence, _)| *sequence <= index.sequence) {
            self.ended.pop_front();
        }
        let (repeated, ops): (Vec<Op>, Vec<Op>) = ops.into_iter().partition(Op::repeats);
        for op in repeated {
            self.stage(op, &room, &mut staged, &mut written);
        }
        for owed in self.owed.clone() {
            self.stage(owed.into(), &room, &mut staged, &mut written);
        }
        for op in ops {
            // Two about one message are taken one after the other.
            let known = subjects(&op).into_iter().flatten().filter(|message| !touched.insert(*message)).count();
            if known == 0 {
                self.stage(op, &room, &mut staged, &mut written);
            } else {
                step.later.push(op);
            }
        }
        if written.is_empty() {
            step.staged = staged;
            return step;
        }
        let appended = self.log.append(&mut self.batch);
        match self.append_with_reserve(appended) {
            Ok(at) => {
                self.owed.clear();
                self.apply(at, written, &mut step);
            }
            Err(AppendError::NoSpace(error)) => {
                self.undo(&staged, &written, &mut step);
                step.no_space = true;
                step.result = Some(Failure::NoSpace(error.to_string()));
            }
            Err(AppendError::Fatal(error)) => {
                let why = format!("writing the log failed: {error}");
                tracing::error!(%error, "writing the log failed; nothing more is written");
                step.result = Some(Failure::Closed(why.clone()));
                step.failed = Some(why);
            }
        }
        self.batch.clear();
        step.staged = staged;
        step
    }

    /// A batch that found the disk full is written with the room that was set aside.
    fn append_with_reserve(&mut self, appended: Result<Position, AppendError>) -> Result<Position, AppendError> {
        match appended {
            Err(AppendError::NoSpace(error)) if self.room.is_reserved => {
                tracing::warn!(%error, bytes = self.room.reserve, "the disk is full: the reserve is given to what must be written");
                self.room.is_reserved = false;
                self.log.disk.release().map_err(AppendError::NoSpace)?;
                self.log.append(&mut self.batch)
            }
            other => other,
        }
    }

    /// Sets the reserve aside, if it is not.
    pub(crate) fn set_reserve_aside(&mut self) -> Result<(), String> {
        if !self.room.is_reserved && self.room.reserve > 0 {
            let kept = self.log.disk.reserve(self.room.reserve);
            kept.map_err(|error| format!("there is no room for the reserve of {} bytes: {error}", self.room.reserve))?;
            self.room.is_reserved = true;
        }
        Ok(())
    }

    /// Whether there is room for submissions.
    fn room(&mut self, ops: &[Op], index: Follower) -> Result<(), String> {
        if index.no_space {
            return Err("the disk is full for the index".into());
        }
        if !ops.iter().any(|op| matches!(op, Op::Accept(..))) {
            return Ok(());
        }
        room(&*self.log.disk, self.room.min_free)?;
        self.set_reserve_aside()
    }

    fn stage(&mut self, op: Op, room: &Result<(), String>, staged: &mut Vec<Staged>, written: &mut Vec<Written>) {
        match op {
            Op::Accept(messages, answer) => {
                match room.clone().map_err(AcceptError::NoSpace).and_then(|()| self.stage_accept(messages, written)) {
                    Ok(accepted) => staged.push(Staged::Accepted(accepted, answer)),
                    Err(error) => drop(answer.send(Err(error))),
                }
            }
            Op::Attempt(mut record, answer) => match self.check_attempt(&record) {
                Ok(()) => {
                    let reports = std::mem::take(&mut record.reports);
                    let party = record.settle.as_ref().and_then(|settle| lock(&self.open).party(settle.message));
                    self.write(attempt(record, party), None, written);
                    for report in reports {
                        self.write_message(report, written);
                    }
                    staged.push(Staged::Done(answer));
                }
                Err(error) => drop(answer.send(Err(error))),
            },
            Op::Steer(order, answer) => {
                if (order.to == mail::Move::Reroute) != order.channel.is_some() {
                    drop(answer.send(Err(StoreError::Illegal("a channel is named by a reroute, and by nothing else".into()))));
                    return;
                }
                let movable = self.take_movable(&order);
                if movable.is_empty() {
                    let known = lock(&self.open).rows(order.message).is_some();
                    // A message that is done is known, and cannot be moved.
                    let known = known || self.ended.iter().any(|(_, message)| *message == order.message);
                    let known = known || index::place(&self.reader, order.message).is_ok_and(|place| place.is_some());
                    drop(answer.send(if known { Ok(Vec::new()) } else { Err(StoreError::Unknown(order.message)) }));
                    return;
                }
                let record = Record::Steer {
                    message: order.message,
                    recipients: movable.clone(),
                    to: order.to,
                    channel: order.channel,
                    by: order.by,
                    at: order.at,
                };
                self.write(record, None, written);
                staged.push(Staged::Steered(order.message, movable, answer));
            }
            Op::Channel(channel, state, at, answer) => {
                self.write(Record::Channel { channel, state, at }, None, written);
                staged.push(Staged::Done(answer));
            }
            Op::Lessons(channel, lessons, at, answer) => {
                self.write(Record::Lessons { channel, lessons, at }, None, written);
                staged.push(Staged::Done(answer));
            }
            Op::Kept(channel, kept, told, at, answer) => {
                self.write(Record::Kept { channel, kept, told, at }, None, written);
                staged.push(Staged::Done(answer));
            }
            Op::Move(head, moved, answer) => {
                for one in moved {
                    if let Some((snapshot, body)) = head::snapshot(&self.open, head, one) {
                        self.write(Record::Snapshot(Box::new(snapshot)), Some(Body::Inline(body)), written);
                    }
                }
                staged.push(Staged::Repeated(self.log.next_sequence - 1, answer));
            }
            Op::Carry(mut carried, answer) => {
                {
                    let open = lock(&self.open);
                    // It was read from the index, which may not have known yet.
                    let is_forgotten = |id: &MessageId| open.forgotten.contains(id) || self.forgetting.contains(id);
                    carried.keys.iter_mut().filter(|one| is_forgotten(&one.message)).for_each(CarriedKey::hide);
                    carried.suppressed.retain(|one| open.suppressed.contains(&(one.party, one.address.clone())));
                }
                self.write(Record::Carried(carried), None, written);
                staged.push(Staged::Repeated(self.log.next_sequence - 1, answer));
            }
            Op::Forget(mut forgotten, closing, answer) => {
                if closing == Closing::Now {
                    let end = self.log.end();
                    self.log.closed = end.segment;
                    forgotten.below = if end.offset > 0 { end.segment } else { end.segment.saturating_sub(1) };
                }
                self.keys_until = Some(self.log.next_sequence);
                self.write(Record::Forget(forgotten), None, written);
                staged.push(Staged::Repeated(self.log.next_sequence - 1, answer));
            }
            Op::Base(below, answer) => {
                let base = self.base(below);
                self.write(Record::Base(Box::new(base)), None, written);
                staged.push(Staged::Repeated(self.log.next_sequence - 1, answer));
            }
            Op::Beat(heartbeat, credit, answer) => {
                self.write(Record::Beat { heartbeat, credit }, None, written);
                staged.push(Staged::Done(answer));
            }
            Op::Unsuppress(Unsuppress { party, address, by, at }, answer) => {
                if !lock(&self.open).suppressed.contains(&(party, address.clone())) {
                    drop(answer.send(Ok(false)));
                    return;
                }
                self.write(Record::Unsuppress { party, address, by, at }, None, written);
                staged.push(Staged::Unsuppressed(answer));
            }
        }
    }

    fn write_message(&mut self, message: NewMessage, written: &mut Vec<Written>) {
        let body = message.body.clone();
        self.staged_mail.add((message.token, message.person, message.team), body.len());
        // From the write on the record may be on the disk, whatever comes of it.
        body.set_kept(true);
        self.write(Record::Accept(Box::new(Meta::from(message))), Some(body), written);
    }

    /// The state beside messages, as the log has it up to here.
    fn base(&self, below: u32) -> Base {
        let open = lock(&self.open);
        Base {
            below,
            totals: Totals { accepted: open.totals.accepted, by_state: open.recorded, ..Totals::default() },
            states: open.states.clone(),
            lessons: open.lessons.clone(),
            kept: open.kept.clone(),
            heartbeat: open.heartbeat,
        }
    }

    fn write(&mut self, record: Record, body: Option<Body>, written: &mut Vec<Written>) {
        let sequence = self.log.next_sequence;
        self.log.next_sequence += 1;
        let mut body_at = 0;
        let start = self.batch.frame(sequence, |out| {
            let payload = out.len();
            record.encode(out);
            body_at = out.len() - payload;
            if let Some(body) = &body {
                out.extend_from_slice(body.head());
            }
        });
        written.push(Written { record, start, body: body.map(|body| (body_at, body)), sequence });
    }

    fn stage_accept(&mut self, messages: Vec<NewMessage>, written: &mut Vec<Written>) -> Result<Vec<Accepted>, AcceptError> {
        let mut plans = Vec::with_capacity(messages.len());
        let mut fresh_keys: Vec<((PersonId, String), KnownKey)> = Vec::new();
        for message in messages {
            let plan = self.plan(message, &mut fresh_keys)?;
            plans.push(plan);
        }
        self.fits(&plans)?;
        for (key, known) in fresh_keys {
            let before =
                KeyBefore { key: key.clone(), known: self.keys.get(&key).cloned(), since: self.keys_since.get(&key).copied() };
            self.keys_before.push(before);
            self.keys_since.insert(key.clone(), self.log.next_sequence + plans.len() as u64);
            self.keys.insert(key, known);
        }
        let mut accepted = Vec::with_capacity(plans.len());
        for plan in plans {
            match plan {
                Plan::Replay(id) => accepted.push(Accepted { id, replayed: true }),
                Plan::Store(message) => {
                    accepted.push(Accepted { id: message.id, replayed: false });
                    self.write_message(*message, written);
                }
            }
        }
        Ok(accepted)
    }

    /// Whether what is to be stored goes over no cap, beside what is open and what stands before it in the log.
    fn fits(&self, plans: &[Plan]) -> Result<(), AcceptError> {
        if self.caps.are_open() {
            return Ok(());
        }
        let open = lock(&self.open);
        let mut before = Tally::default();
        for plan in plans {
            let Plan::Store(message) = plan else { continue };
            if let Some(claim) = Claim::of(message) {
                let held = |holder| open.tally.with(&self.staged_mail, holder).plus(before.of(holder));
                self.caps.judge(&claim, held).map_err(AcceptError::OverCap)?;
            }
            before.add((message.token, message.person, message.team), message.body.len());
        }
        Ok(())
    }

    /// What a message's key means for it.
    fn plan(&self, mut message: NewMessage, fresh: &mut Vec<((PersonId, String), KnownKey)>) -> Result<Plan, AcceptError> {
        if message.body.head().len() > MAX_BODY {
            return Err(AcceptError::NoSpace(format!("{} bytes are more than the log takes", message.body.head().len())));
        }
        let Some(given) = message.idempotency.clone() else {
            return Ok(Plan::Store(Box::new(message)));
        };
        let slot = (message.person, given.key.clone());
        let known = fresh.iter().rev().find(|(key, _)| *key == slot).map(|(_, known)| known.clone());
        let known = known.or_else(|| self.keys.get(&slot).cloned());
        let known = match known {
            Some(known) => Some(known),
            None => index::key(&self.reader, message.person, &given.key).map_err(|error| AcceptError::Closed(error.to_string()))?,
        };
        let address = |recipient: &mail::Recipient| recipient.path.to_string().to_lowercase();
        let Some(mut known) = known else {
            let recipients = message.envelope.recipients.iter().map(address).collect();
            let entry = KnownKey { fingerprint: given.fingerprint, parts: given.parts, first: message.id, recipients };
            fresh.push((slot, entry));
            return Ok(Plan::Store(Box::new(message)));
        };
        if known.parts != given.parts || known.fingerprint != given.fingerprint {
            return Err(AcceptError::KeyReused { key: given.key, id: known.first });
        }
        let is_known = |address: String| {
            known.recipients.contains(&address) || known.recipients.contains(&hidden(&known.fingerprint, &address))
        };
        message.retain_recipients(|recipient| !is_known(address(recipient)));
        if message.envelope.recipients.is_empty() {
            return Ok(Plan::Replay(known.first));
        }
        if !given.parts {
            return Err(AcceptError::KeyReused { key: given.key, id: known.first });
        }
        known.recipients.extend(message.envelope.recipients.iter().map(address));
        fresh.push((slot, known));
        Ok(Plan::Store(Box::new(message)))
    }

    /// The index knows what it has applied: those keys need not be kept here.
    fn forget_old_keys(&mut self, indexed: u64) {
        if self.keys.len() < MANY_KEYS && self.keys_until.is_none_or(|until| until > indexed) {
            return;
        }
        self.keys_until = self.keys_until.filter(|until| *until > indexed);
        self.keys_since.retain(|_, since| *since > indexed);
        let since = &self.keys_since;
        self.keys.retain(|key, _| since.contains_key(key));
    }

    fn check_attempt(&self, record: &AttemptRecord) -> Result<(), StoreError> {
        let open = lock(&self.open);
        let leased = |message: MessageId, mut indices: Box<dyn Iterator<Item = u32> + '_>| {
            let rows = open.rows(message).ok_or(StoreError::Unknown(message))?;
            let is_leased = |index: u32| rows.get(index as usize).is_some_and(|row| row.state == RecipientState::Leased);
            match indices.find(|index| !is_leased(*index)) {
                None => Ok(()),
                Some(index) => Err(StoreError::Illegal(format!("recipient {index} of {message} is not leased"))),
            }
        };
        if let Some(settle) = &record.settle {
            leased(settle.message, Box::new(settle.recipients.iter().map(|row| row.index)))?;
            once(settle.message, settle.recipients.iter().map(|row| row.index).collect())?;
            if let Some(row) = settle.recipients.iter().find(|row| RecipientState::Leased.after(row.to).is_none()) {
                return Err(StoreError::Illegal(format!("{:?} is no way out of leased", row.to)));
            }
        }
        match &record.intend {
            None => Ok(()),
            Some(intend) => {
                let settled = record.settle.iter().filter(|settle| settle.message == intend.message);
                let settled = settled.flat_map(|settle| settle.recipients.iter().map(|row| row.index));
                once(intend.message, intend.recipients.iter().copied().chain(settled).collect())?;
                leased(intend.message, Box::new(intend.recipients.iter().copied()))
            }
        }
    }

    /// The recipients that an order moves; if there are any, leases pass the message by from here on.
    fn take_movable(&self, order: &Steer) -> Vec<u32> {
        let mut open = lock(&self.open);
        let Some(rows) = open.rows(order.message) else { return Vec::new() };
        let wanted = |index: u32| order.recipients.is_empty() || order.recipients.contains(&index);
        let by_person = matches!(
            order.to,
            mail::Move::Cancel | mail::Move::Hold | mail::Move::Release | mail::Move::Reroute | mail::Move::Suppress
        );
        let legal =
            |row: &super::open_set::Row| by_person && row.state != RecipientState::Leased && row.state.after(order.to).is_some();
        let rows = rows.iter().enumerate().filter(|(index, row)| wanted(*index as u32) && legal(row));
        let movable: Vec<u32> = rows.map(|(index, _)| index as u32).collect();
        if !movable.is_empty() {
            open.reserve(order.message, true);
        }
        movable
    }

    fn apply(&mut self, at: Position, written: Vec<Written>, step: &mut Step) {
        let (end, batch) = (self.log.end(), self.log.last_batch());
        let mut open = lock(&self.open);
        let count = written.len();
        for (number, one) in written.into_iter().enumerate() {
            let place = one.body.as_ref().map(|(body_at, _)| Place {
                position: Position { segment: at.segment, offset: at.offset + one.start as u32 },
                payload_length: self.batch.payload_length(one.start),
                body_at: *body_at as u32,
            });
            let fresh = match (&one.record, one.body) {
                (Record::Accept(meta), Some((_, body))) => Some((meta.id, Fresh { meta: Arc::new(shared(meta)), body })),
                _ => None,
            };
            let mut effects: Effects = open.apply(one.record, one.sequence, place);
            if let Some((id, fresh)) = fresh {
                open.keep_accepted(id, fresh);
            }
            step.wakes.append(&mut effects.wakes);
            step.spare.extend(effects.spare);
            step.spare.extend(effects.forgotten.iter().flat_map(|gone| gone.messages.iter().filter_map(|message| message.file)));
            self.ended.extend(effects.ended.map(|message| (one.sequence, message)));
            let last = number + 1 == count;
            step.entries.push(Entry { sequence: one.sequence, batch, end, ends_batch: last, effects });
        }
    }

    fn undo(&mut self, staged: &[Staged], written: &[Written], step: &mut Step) {
        let mut open = lock(&self.open);
        for one in staged {
            if let Staged::Steered(message, ..) = one {
                step.wakes.extend(open.reserve(*message, false));
            }
        }
        for before in self.keys_before.drain(..).rev() {
            put_back(&mut self.keys, &before.key, before.known);
            put_back(&mut self.keys_since, &before.key, before.since);
        }
        for (_, body) in written.iter().filter_map(|one| one.body.as_ref()) {
            body.set_kept(false);
        }
        self.log.next_sequence -= written.len() as u64;
    }
}

/// Whether a disk has room for submissions.
pub(crate) fn room<D: Disk>(disk: &D, min_free: u64) -> Result<(), String> {
    if min_free == 0 {
        return Ok(());
    }
    match disk.free_bytes() {
        Ok(free) if free >= min_free => Ok(()),
        Ok(free) => Err(format!("{free} bytes are free on the disk, below the floor of {min_free} (queue.min_free)")),
        Err(error) => Err(error.to_string()),
    }
}

/// What a lease needs of a message.
pub(crate) fn shared(meta: &Meta) -> Shared {
    Shared {
        person: meta.person,
        team: meta.team,
        token: meta.token,
        surface: meta.surface,
        lane: meta.lane,
        at: meta.at,
        expires_at: meta.expires_at,
        author: meta.author.as_str().into(),
        envelope: Arc::new(meta.envelope.clone()),
    }
}

enum Plan {
    Store(Box<NewMessage>),
    Replay(MessageId),
}

enum Failure {
    NoSpace(String),
    Closed(String),
}

impl From<&Failure> for AcceptError {
    fn from(failure: &Failure) -> Self {
        match failure {
            Failure::NoSpace(why) => Self::NoSpace(why.clone()),
            Failure::Closed(why) => Self::Closed(why.clone()),
        }
    }
}

impl From<&Failure> for StoreError {
    fn from(failure: &Failure) -> Self {
        match failure {
            Failure::NoSpace(why) => Self::NoSpace(why.clone()),
            Failure::Closed(why) => Self::Closed(why.clone()),
        }
    }
}

/// Whoever no longer listens has given up waiting; what was written stays written.
fn answer(staged: Vec<Staged>, failure: Option<Failure>) {
    let result = failure.map_or(Ok(()), Err);
    for one in staged {
        match one {
            Staged::Accepted(accepted, answer) => drop(answer.send(result.as_ref().map(|()| accepted).map_err(AcceptError::from))),
            Staged::Done(answer) => drop(answer.send(result.as_ref().map_err(StoreError::from).copied())),
            Staged::Repeated(sequence, answer) => drop(answer.send(result.as_ref().map(|()| sequence).map_err(StoreError::from))),
            Staged::Unsuppressed(answer) => drop(answer.send(result.as_ref().map(|()| true).map_err(StoreError::from))),
            Staged::Steered(_, moved, answer) => drop(answer.send(result.as_ref().map(|()| moved).map_err(StoreError::from))),
        }
    }
}

/// The messages that must be known as they are before the operation is judged.
fn subjects(op: &Op) -> [Option<MessageId>; 2] {
    match op {
        Op::Steer(order, _) => [Some(order.message), None],
        Op::Attempt(record, _) => {
            let settled = record.settle.as_ref().map(|settle| settle.message);
            [settled, record.intend.as_ref().map(|intend| intend.message).filter(|message| settled != Some(*message))]
        }
        Op::Accept(..)
        | Op::Channel(..)
        | Op::Lessons(..)
        | Op::Kept(..)
        | Op::Beat(..)
        | Op::Unsuppress(..)
        | Op::Move(..)
        | Op::Carry(..)
        | Op::Forget(..)
        | Op::Base(..) => [None, None],
    }
}

fn forgotten_in(ops: &[Op]) -> HashSet<MessageId> {
    let forgotten = ops.iter().filter_map(|op| if let Op::Forget(forgotten, ..) = op { Some(&forgotten.messages) } else { None });
    forgotten.flatten().map(|message| message.id).collect()
}

fn once(message: MessageId, mut indices: Vec<u32>) -> Result<(), StoreError> {
    indices.sort_unstable();
    match indices.windows(2).find(|pair| pair[0] == pair[1]) {
        None => Ok(()),
        Some(pair) => Err(StoreError::Illegal(format!("recipient {} of {message} is named twice", pair[0]))),
    }
}

fn put_back<T>(map: &mut HashMap<(PersonId, String), T>, key: &(PersonId, String), before: Option<T>) {
    match before {
        Some(before) => drop(map.insert(key.clone(), before)),
        None => drop(map.remove(key)),
    }
}

/// How the index is doing.
#[derive(Clone, Copy, Default)]
pub(crate) struct Follower {
    /// The last record it knows.
    pub sequence: u64,
    /// It has no room to go on.
    pub no_space: bool,
}

/// Something that nobody asked for and that must be written all the same.
#[derive(Clone)]
pub(crate) enum Owed {
    Attempt(AttemptRecord),
    Steer(Steer),
}

impl From<Owed> for Op {
    fn from(owed: Owed) -> Self {
        match owed {
            Owed::Attempt(record) => Self::Attempt(record, oneshot::channel().0),
            Owed::Steer(order) => Self::Steer(order, oneshot::channel().0),
        }
    }
}

struct KeyBefore {
    key: (PersonId, String),
    known: Option<KnownKey>,
    since: Option<u64>,
}

fn attempt(record: AttemptRecord, party: Option<Party>) -> Record {
    let intend = record.intend.map(|intend| Intend {
        message: intend.message,
        channel: intend.channel,
        at: intend.at,
        recipients: intend.recipients,
        spend: intend.spend,
    });
    Record::Attempt { settle: record.settle.map(|settle| settlement(settle, party)), intend }
}

fn settlement(settle: Settlement, party: Option<Party>) -> Settle {
    let (spent, refunded) = match settle.spending {
        Spending::Uncounted => (None, None),
        Spending::Spent(spent) => (Some(spent), None),
        Spending::Refunded(units) => (None, Some(units)),
    };
    let row = |row: Settled| SettledRow {
        index: row.index,
        to: row.to,
        due: row.due,
        counts: row.counts,
        said: row.said.to_string(),
        suppress: row.suppress.map(|address| (party, address)),
    };
    Settle {
        message: settle.message,
        channel: settle.channel,
        at: settle.at,
        relay: settle.relay,
        spent,
        refunded,
        recipients: settle.recipients.into_iter().map(row).collect(),
    }
}
