//! The head of the log: when its oldest segment may go, and what is written again at the tail before it does.
//!
//! A segment is not needed any more when the bodies of ended mail in it were kept for their time, its open mail stands
//! in a later segment as a snapshot, and a base record behind that says what else must be known. So the log alone
//! says what is open, who spent what, and which keys are known, from whatever segment it begins with, and how long
//! it is follows from what is open.

use super::Shared;
use super::core::{Moved, Op, Words, lock};
use super::index;
use super::log;
use super::open_set::{OpenSet, SegmentUse};
use super::record::{self, Carried, Meta, StoodRow};
use crate::api::{Commit, Party, Steer, StoreError};
use crate::disk::Disk;
use bytes::Bytes;
use mail::{MessageId, Move, PersonId, RecipientState, Timestamp};
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::oneshot;

/// Messages and bytes that are written again in one batch.
const MOVE_AT_ONCE: usize = 64;
const MOVE_BYTES: usize = 4 << 20;
/// Facts of ended mail in one record.
const CARRY_AT_ONCE: usize = 2_000;
/// Where bodies are kept this long, open mail is written again once in that time at most, whatever it costs.
const LONG: Duration = Duration::from_secs(3600);
/// A segment with ended mail is closed after an eighth of the time for which bodies are kept, within these bounds.
const CLOSE_AFTER: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(24 * 3600));

/// What decides when a segment may go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    /// Bodies of ended mail are kept so long.
    pub keep_bodies: Duration,
    /// Open mail is written again for ended mail of more than so many bytes,
    pub slack: u64,
    /// and of more than one byte for so many of open mail.
    pub share: u64,
}

/// The log as it stands at a moment.
pub(crate) struct Standing<'a> {
    /// Length of every segment, the newest included.
    pub lengths: &'a BTreeMap<u32, u64>,
    pub uses: &'a BTreeMap<u32, SegmentUse>,
    pub today: Timestamp,
    /// Segments up to this one say something that was forgotten.
    pub purged: u32,
    /// There is little room on the disk: ended mail goes before its time.
    pub short: bool,
}

impl Standing<'_> {
    fn used(&self, segment: u32) -> SegmentUse {
        self.uses.get(&segment).copied().unwrap_or_default()
    }

    /// True while a body of ended mail in the segment is to be kept.
    fn keeps(&self, segment: u32, policy: Policy) -> bool {
        let last = self.used(segment).ended.map(|(_, last)| last);
        !self.short && last.is_some_and(|last| self.today.since(last) < policy.keep_bodies)
    }

    /// The oldest segment, when it is to go now.
    pub(crate) fn goes(&self, policy: Policy) -> Option<u32> {
        let (head, newest) = (*self.lengths.first_key_value()?.0, *self.lengths.last_key_value()?.0);
        if head == newest {
            return None;
        }
        if head <= self.purged {
            // Whatever else is in it, and whatever it costs.
            return Some(head);
        }
        if self.keeps(head, policy) {
            return None;
        }
        if self.used(head).open == 0 {
            return Some(head);
        }
        let closed = || self.lengths.range(..newest);
        let freed = closed().any(|(segment, _)| self.used(*segment).ended.is_some() && !self.keeps(*segment, policy));
        let live: u64 = closed().map(|(segment, _)| self.used(*segment).live_bytes).sum();
        let dead = closed().map(|(_, length)| *length).sum::<u64>().saturating_sub(live);
        let worth = policy.keep_bodies >= LONG || dead > live / policy.share + policy.slack;
        (freed && worth).then_some(head)
    }

    /// True when the newest segment has had ended mail for so long that it is closed, to go in its time.
    pub(crate) fn closes(&self, policy: Policy) -> bool {
        let first = self.lengths.last_key_value().and_then(|(newest, _)| self.used(*newest).ended).map(|(first, _)| first);
        let after = (policy.keep_bodies / 8).clamp(CLOSE_AFTER.0, CLOSE_AFTER.1);
        first.is_some_and(|first| self.today.since(first) >= after)
    }
}

/// How far the oldest segment is on its way out.
#[derive(Debug, Default)]
pub(crate) enum Truncation {
    /// None is.
    #[default]
    Idle,
    /// The index learns what was written before: from there it is known what ended mail leaves behind.
    Following(u32, u64),
    /// Its open mail is written again, from this slot of the open set on.
    Moving(u32, usize),
    /// What ended mail leaves behind is written again, from here on.
    Carrying(u32, Cursor),
    /// The base record is next.
    Basing(u32),
    /// The base record is being written.
    Writing(u32),
    /// It goes when the index is durable up to this sequence.
    Based(u32, u64),
}

/// How far the facts of ended mail were written again.
#[derive(Clone, Debug)]
pub(crate) enum Cursor {
    Keys(PersonId, String, MessageId),
    Spent(u64),
    Suppressed(Option<(String, Party)>),
}

/// What follows a step.
pub(crate) enum Next {
    /// No further step until something has changed.
    Rest,
    /// Another step at once.
    Again,
    /// Another step when this has been written.
    Wait(Commit<Result<u64, StoreError>>),
}

/// The one that lets segments go.
pub(crate) struct Keeper {
    connection: Connection,
    policy: Policy,
    truncation: Truncation,
    /// Lengths of closed segments.
    lengths: BTreeMap<u32, u64>,
    /// Since this segment everything that ended mail leaves behind stands in the log once more.
    carried_since: Option<u32>,
    /// Open mail of the oldest segment that cannot be read: a person decides.
    stuck: Option<(u32, MessageId)>,
}

impl Keeper {
    pub(crate) fn new(connection: Connection, policy: Policy) -> Self {
        Self { connection, policy, truncation: Truncation::Idle, lengths: BTreeMap::new(), carried_since: None, stuck: None }
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// One step on the way. `durable` is the last record that the index has on stable storage.
    pub(crate) fn step<D: Disk>(&mut self, shared: &Shared<D>, durable: u64) -> Next {
        match self.try_step(shared, durable) {
            Ok(next) => next,
            Err(error) => {
                self.put_off(&error);
                Next::Rest
            }
        }
    }

    /// The next look begins from the start: what was written again already is found so.
    fn put_off(&mut self, error: &StoreError) {
        tracing::warn!(%error, "the oldest segment of the log could not go; it is tried again");
        self.truncation = Truncation::Idle;
        // Perhaps not all of it was written.
        self.carried_since = None;
    }

    /// True when only the index is behind.
    pub(crate) fn waits_for_index(&self) -> bool {
        matches!(self.truncation, Truncation::Following(..) | Truncation::Based(..))
    }

    /// What a step waited for has been written, or not.
    pub(crate) fn written(&mut self, result: Result<u64, StoreError>) {
        match (result, &self.truncation) {
            (Ok(sequence), Truncation::Writing(head)) => self.truncation = Truncation::Based(*head, sequence),
            (Ok(_), _) => {}
            (Err(error), _) => self.put_off(&error),
        }
    }

    fn try_step<D: Disk>(&mut self, shared: &Shared<D>, durable: u64) -> Result<Next, StoreError> {
        match std::mem::take(&mut self.truncation) {
            Truncation::Idle => self.begin(shared),
            Truncation::Following(head, taken) if shared.has_indexed(taken) => {
                self.truncation = Truncation::Moving(head, 0);
                Ok(Next::Again)
            }
            Truncation::Moving(head, slot) => self.carry_mail(shared, head, slot),
            Truncation::Carrying(head, cursor) => self.carry_facts(shared, head, cursor),
            Truncation::Basing(head) => {
                self.truncation = Truncation::Writing(head);
                Ok(Next::Wait(shared.carry(|answer| Op::Base(head + 1, answer))))
            }
            Truncation::Based(head, sequence) if sequence <= durable => {
                if !shared.remove_segment(head)? {
                    self.truncation = Truncation::Based(head, sequence);
                    return Ok(Next::Rest);
                }
                self.lengths.remove(&head);
                Ok(Next::Again)
            }
            waiting @ (Truncation::Following(..) | Truncation::Writing(_) | Truncation::Based(..)) => {
                self.truncation = waiting;
                Ok(Next::Rest)
            }
        }
    }

    fn begin<D: Disk>(&mut self, shared: &Shared<D>) -> Result<Next, StoreError> {
        let segments = log::segments(&*shared.disk).map_err(|error| StoreError::Io(error.to_string()))?;
        let Some(newest) = segments.last().copied() else { return Ok(Next::Rest) };
        self.lengths.retain(|segment, _| segments.binary_search(segment).is_ok());
        for segment in segments {
            if segment == newest || !self.lengths.contains_key(&segment) {
                let length = shared.disk.length(&log::name_of(segment)).map_err(|error| StoreError::Io(error.to_string()))?;
                self.lengths.insert(segment, length);
            }
        }
        let short = shared.is_short();
        let (head, closes) = {
            let open = lock(&shared.open);
            if let Some((head, id)) = self.stuck.take() {
                self.stuck = open.place(id).filter(|place| place.position.segment == head).map(|_| (head, id));
            }
            let today = open.today();
            let standing = Standing { lengths: &self.lengths, uses: &open.segments, today, purged: open.purged, short };
            (standing.goes(self.policy), standing.closes(self.policy))
        };
        if closes {
            shared.close_segment(newest);
        }
        let Some(head) = head.filter(|_| self.stuck.is_none()) else { return Ok(Next::Rest) };
        tracing::debug!(segment = head, "the oldest segment of the log is to go; what it owes is written again");
        self.truncation = Truncation::Following(head, shared.taken());
        Ok(Next::Again)
    }

    /// Writes open mail of the segment again.
    fn carry_mail<D: Disk>(&mut self, shared: &Shared<D>, head: u32, slot: usize) -> Result<Next, StoreError> {
        let (found, next) = lock(&shared.open).of_segment(head, slot, MOVE_AT_ONCE);
        let (mut moved, mut bytes) = (Vec::with_capacity(found.len()), 0);
        let mut cut = false;
        for (id, place) in found {
            if bytes > MOVE_BYTES {
                cut = true;
                break;
            }
            match read(&*shared.disk, place) {
                Ok((meta, body)) => {
                    bytes += body.len();
                    let mut rows = vec![StoodRow::blank(meta.at); meta.envelope.recipients.len()];
                    index::add_words(&self.connection, id, &mut rows)?;
                    let words = rows.into_iter().map(|row| Words { since: row.since, said: row.said, relay: row.relay }).collect();
                    moved.push(Moved { meta, body, words });
                }
                Err(error) => {
                    self.stuck = Some((head, id));
                    hold(shared, id, &error);
                    return Ok(Next::Rest);
                }
            }
        }
        self.truncation = match next {
            // The same piece again: what was moved is not of the segment any more.
            _ if cut => Truncation::Moving(head, slot),
            Some(next) => Truncation::Moving(head, next),
            None if self.carried_since.is_none_or(|since| since <= head) => {
                self.carried_since = self.lengths.last_key_value().map(|(newest, _)| *newest);
                Truncation::Carrying(head, Cursor::Keys(PersonId(0), String::new(), MessageId([0; 16])))
            }
            None => Truncation::Basing(head),
        };
        if moved.is_empty() {
            return Ok(Next::Again);
        }
        Ok(Next::Wait(shared.carry(|answer| Op::Move(head, moved, answer))))
    }

    /// Writes again what ended mail leaves behind.
    fn carry_facts<D: Disk>(&mut self, shared: &Shared<D>, head: u32, cursor: Cursor) -> Result<Next, StoreError> {
        let mut carried = Carried::default();
        let next = match cursor {
            Cursor::Keys(person, key, message) => {
                carried.keys = index::ended_keys(&self.connection, &(person, key, message), CARRY_AT_ONCE)?;
                let last = carried.keys.last().map(|last| Cursor::Keys(last.person, last.key.clone(), last.message));
                Some(last.unwrap_or(Cursor::Spent(0)))
            }
            Cursor::Spent(after) => {
                carried.spent = index::spent_after(&self.connection, after, CARRY_AT_ONCE)?;
                Some(carried.spent.last().map_or(Cursor::Suppressed(None), |(sequence, _)| Cursor::Spent(*sequence)))
            }
            Cursor::Suppressed(after) => {
                carried.suppressed = index::suppressions_after(&self.connection, after.as_ref(), CARRY_AT_ONCE)?;
                carried.suppressed.last().map(|last| Cursor::Suppressed(Some((last.address.clone(), last.party))))
            }
        };
        self.truncation = next.map_or(Truncation::Basing(head), |next| Truncation::Carrying(head, next));
        if carried.is_empty() {
            return Ok(Next::Again);
        }
        Ok(Next::Wait(shared.carry(|answer| Op::Carry(Box::new(carried), answer))))
    }
}

impl StoodRow {
    /// Of a recipient about which nobody said anything yet.
    fn blank(since: Timestamp) -> Self {
        Self {
            state: RecipientState::Queued,
            intended: false,
            doubts: 0,
            attempts: 0,
            due: since,
            first_attempt: Timestamp(0),
            since,
            said: String::new(),
            relay: String::new(),
        }
    }
}

/// What a record that has a message says of it, and its body.
fn read<D: Disk>(disk: &D, place: super::open_set::Place) -> Result<(Meta, Bytes), StoreError> {
    let damaged = |error: String| StoreError::Damaged(error);
    let payload = log::read_frame(disk, place.position, place.payload_length).map_err(|error| damaged(error.to_string()))?;
    let meta = record::message_in(&payload).ok_or_else(|| damaged("the record is no message".into()))?;
    Ok((meta, Bytes::from(payload).slice(place.body_at as usize..)))
}

/// A message that cannot be read back is held, and its segment stays until a person has cancelled it.
fn hold<D: Disk>(shared: &Shared<D>, id: MessageId, error: &StoreError) {
    tracing::error!(queue.id = %id, %error, "held: its record cannot be read");
    let at = lock(&shared.open).today();
    let by = format!("the gateway, because its record cannot be read: {error}");
    let order = Steer { message: id, recipients: Vec::new(), to: Move::Hold, channel: None, by, at };
    shared.push(Op::Steer(order, oneshot::channel().0));
}

/// Sets the snapshot's rows of a message together: states from memory, words from the index.
pub(crate) fn snapshot(open: &Mutex<OpenSet>, head: u32, moved: Moved) -> Option<(super::record::Snapshot, Bytes)> {
    let Moved { mut meta, body, words } = moved;
    let (standing, mut rows, spending) = lock(open).stood(meta.id, head)?;
    meta.channel = standing.channel;
    for (row, words) in rows.iter_mut().zip(words) {
        row.since = words.since;
        row.said = words.said;
        row.relay = words.relay;
    }
    Some((super::record::Snapshot { meta, order: standing.order, rows, spending }, body))
}
