//! The durable queue without threads: whoever holds it says when a batch is written and when the index follows.
//!
//! Everything else is the queue of production: the same writer, log, open set and index. The disk is
//! the one in memory, the index a database in memory that outlives the queue, so that a history can
//! end a process at any step and begin the next one from what its disk has.

use super::core::{self, Core, lock};
use super::head::{Keeper, Next};
use super::index::{Entry, Index};
use super::{Embedded, Findings, Options, guard, log, take_batch};
use crate::api::*;
use crate::body::{Body, Spool};
use crate::caps::{Holder, MailCaps, OpenMail};
use crate::disk::fake::FakeDisk;
use mail::channel::{ChannelState, Kept};
use mail::pace::{Ahead, Lessons, Spent};
use mail::steady::{Credit, Heartbeat};
use mail::{ChannelId, Envelope, Event, EventKind, Lane, MessageId, PersonId, RecipientState, TeamId, Timestamp};
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

/// An index in memory. It is there as long as this is, whoever opens and closes it.
pub struct MemoryIndex {
    name: String,
    keep: Connection,
}

impl Default for MemoryIndex {
    /// An index that knows nothing.
    ///
    /// # Panics
    /// There is no memory left.
    fn default() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("file:index-{}?mode=memory&cache=shared", NUMBER.fetch_add(1, Ordering::Relaxed));
        let keep = Connection::open(&name).expect("a database in memory opens");
        Self { name, keep }
    }
}

impl MemoryIndex {
    /// The index as it is now, apart.
    ///
    /// # Errors
    /// SQLite's.
    pub fn copy(&self) -> Result<Self, StoreError> {
        let copy = Self::default();
        self.keep.execute("VACUUM INTO ?1", [&copy.name])?;
        Ok(copy)
    }
}

/// Something that a batch made durable, in the order of its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Durable {
    /// A message is queued.
    Accepted {
        /// Which.
        message: MessageId,
        /// How many recipients it has.
        recipients: u32,
    },
    /// A recipient is now like this.
    Recipient {
        /// Of which message.
        message: MessageId,
        /// Its place in the envelope.
        index: u32,
        /// How it is.
        standing: Standing,
    },
}

/// What the log knows of a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its state; a lease without intent is in memory only, and `Queued` here.
    pub state: RecipientState,
    /// A durable intent stands behind its lease.
    pub intended: bool,
    /// Own attempts so far.
    pub attempts: u32,
    /// Uncertain outcomes so far.
    pub doubts: u32,
}

/// A batch that is on the disk, and of which nobody knows yet. Dropped, it stays unknown: the process ended there.
pub struct Batch {
    /// What is durable with it; nothing when the disk refused it.
    pub durable: Vec<Durable>,
    /// How many things had been done to the disk before it and after each of its own.
    pub disk_steps: RangeInclusive<usize>,
    /// The disk failed for good, so what was to be durable may be there or not.
    pub failed: bool,
    step: core::Step,
}

/// Mail that might be leased: one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// In which lane.
    pub lane: Lane,
    /// Through which team.
    pub team: Option<TeamId>,
    /// Whose.
    pub person: PersonId,
    /// Its recipients that are due.
    pub recipients: u32,
}

/// Who is served, as it happens.
pub enum Served<'a> {
    /// A message, or a part of it, is handed over.
    Leased {
        /// What.
        lease: &'a Lease,
        /// What might have been handed over in its place, and itself.
        waiting: &'a [Waiting],
        /// What it counts in the shares of its lane, and in which unit: see [`Skip::bytes_as_one`].
        share: (u64, Option<NonZeroU64>),
        /// A bulk message of the channel is in the hands of a worker already.
        bulk_is_open: bool,
    },
    /// Recipients of a message were not tried, and wait again: so many.
    GivenBack(MessageId, u32),
}

/// Whoever is told of it.
type Watcher = Box<dyn Fn(&Served<'_>) + Send + Sync>;

/// Steps of the keeper without letting others in between.
const STEPS_AT_ONCE: usize = 100;

/// The keeper, and what it waits for.
struct StepKeeper {
    keeper: Keeper,
    waits: Option<Commit<Result<u64, StoreError>>>,
}

/// The queue, stepped by hand.
pub struct Stepped {
    queue: Embedded<FakeDisk>,
    core: Mutex<Core<FakeDisk>>,
    index: Mutex<Index>,
    keeper: Mutex<StepKeeper>,
    submitted: tokio::sync::Notify,
    watcher: OnceLock<Watcher>,
}

impl Stepped {
    /// Opens the queue of a disk, as [`Embedded::on_disk`] does.
    ///
    /// # Errors
    /// The disk, or an index that does not belong to it.
    pub fn open(disk: FakeDisk, index: &MemoryIndex, options: Options) -> Result<Self, super::OpenError> {
        let path = PathBuf::from(&index.name);
        let (queue, core, follower) = {
            let disk = Arc::new(disk);
            Embedded::prepare(Arc::clone(&disk), disk, path.clone(), options)?
        };
        let keeper = StepKeeper { keeper: queue.shared.keeper(queue.shared.policy)?, waits: None };
        Ok(Self {
            queue,
            core: Mutex::new(core),
            index: Mutex::new(follower),
            keeper: Mutex::new(keeper),
            submitted: tokio::sync::Notify::new(),
            watcher: OnceLock::new(),
        })
    }

    /// Tells `watcher` of everything that is handed over from now on, at that moment. The first one is told.
    pub fn watch(&self, watcher: impl Fn(&Served<'_>) + Send + Sync + 'static) {
        let _ = self.watcher.set(Box::new(watcher));
    }

    /// What recovery found beside whole records.
    pub fn findings(&self) -> &Findings {
        self.queue.findings()
    }

    /// Resolves when something waits to be written.
    pub async fn submitted(&self) {
        loop {
            if !guard(&self.queue.shared.inbox).ops.is_empty() {
                return;
            }
            self.submitted.notified().await;
        }
    }

    /// True while something must be written that nobody asked for: it is tried again while the disk is full.
    pub fn owes(&self) -> bool {
        !guard(&self.core).owed.is_empty()
    }

    /// Writes what waits as one batch and makes it durable; `None` when nothing waits.
    pub fn step(&self) -> Option<Batch> {
        let mut core = guard(&self.core);
        let ops = {
            let mut inbox = guard(&self.queue.shared.inbox);
            if inbox.failed.is_some() || inbox.ops.is_empty() && core.owed.is_empty() {
                return None;
            }
            take_batch(&mut inbox)
        };
        let disk = Arc::clone(&self.queue.shared.disk);
        let before = disk.steps();
        let step = self.queue.shared.step(&mut core, ops);
        let durable = step.entries.iter().flat_map(durable).collect();
        Some(Batch { durable, disk_steps: before..=disk.steps(), failed: step.failed.is_some(), step })
    }

    /// Tells everybody of a batch. False when writing has failed for good: the process is to end.
    pub fn answer(&self, batch: Batch) -> bool {
        self.queue.shared.conclude(batch.step)
    }

    /// Lets the index learn everything that was answered.
    ///
    /// # Errors
    /// SQLite's.
    pub fn follow(&self) -> Result<(), StoreError> {
        let (entries, forget) = {
            let mut outbox = guard(&self.queue.shared.outbox);
            (std::mem::take(&mut outbox.entries), std::mem::take(&mut outbox.forget))
        };
        let mut index = guard(&self.index);
        index.apply(&entries)?;
        for what in &forget {
            super::forget_in(&index, what)?;
        }
        if let Some(last) = entries.last() {
            self.queue.shared.indexed.store(last.sequence, Ordering::Relaxed);
        }
        guard(&self.queue.shared.outbox).has_learned((entries.len() + forget.len()) as u64);
        Ok(())
    }

    /// Goes on with letting the oldest segment go, as far as it can without something being written meanwhile; true
    /// when one was removed.
    pub fn tidy(&self) -> bool {
        let shared = &self.queue.shared;
        shared.remove_bodies_that_rested();
        let first = || log::segments(&*shared.disk).ok().and_then(|segments| segments.first().copied());
        let before = first();
        let mut keeper = guard(&self.keeper);
        for _ in 0..STEPS_AT_ONCE {
            if guard(&shared.inbox).failed.is_some() {
                break;
            }
            if let Some(mut commit) = keeper.waits.take() {
                match commit.try_take() {
                    Some(result) => keeper.keeper.written(result),
                    None => {
                        keeper.waits = Some(commit);
                        break;
                    }
                }
            }
            let durable = if guard(&shared.outbox).entries.is_empty() { shared.checkpoint(&keeper.keeper) } else { None };
            match keeper.keeper.step(shared, durable.unwrap_or(0)) {
                Next::Again => {}
                Next::Wait(commit) => {
                    keeper.waits = Some(commit);
                    self.submitted.notify_one();
                }
                Next::Rest => break,
            }
        }
        first() != before
    }

    /// Forgets whom it would have woken, so that nothing holds what its process held.
    pub fn abandon(&self) {
        *guard(&self.queue.shared.waker) = None;
        guard(&self.queue.shared.inbox).ops.clear();
    }

    /// What memory has of every open recipient, leases without intent included.
    pub fn open_recipients(&self) -> Vec<(MessageId, Vec<RecipientState>)> {
        lock(&self.queue.shared.open).states_of_all()
    }
}

fn durable(entry: &Entry) -> Vec<Durable> {
    let effects = &entry.effects;
    let accepted = effects
        .new
        .iter()
        .map(|(meta, _)| Durable::Accepted { message: meta.id, recipients: meta.envelope.recipients.len() as u32 });
    let changed = effects.changes.iter().map(|change| Durable::Recipient {
        message: change.message,
        index: change.index,
        standing: Standing {
            state: change.state,
            intended: change.intended,
            attempts: u32::from(change.attempts),
            doubts: u32::from(change.doubts),
        },
    });
    accepted.chain(changed).collect()
}

impl Stepped {
    /// Something may wait to be written now.
    fn told<T>(&self, answer: T) -> T {
        self.submitted.notify_one();
        answer
    }

    /// The queue, with an index that knows everything that was answered.
    fn read(&self) -> Result<&Embedded<FakeDisk>, StoreError> {
        self.follow()?;
        Ok(&self.queue)
    }
}

impl Queue for Stepped {
    fn accept(&self, batch: Vec<NewMessage>) -> Commit<Result<Vec<Accepted>, AcceptError>> {
        self.told(self.queue.accept(batch))
    }

    fn spool(&self) -> Result<Spool, AcceptError> {
        self.queue.spool()
    }

    fn heads(&self, channel: ChannelId, now: Timestamp, skip: &Skip) -> [Option<Head>; 3] {
        self.queue.heads(channel, now, skip)
    }

    fn lease(&self, channel: ChannelId, lane: Lane, now: Timestamp, most: u32, skip: &Skip) -> Option<Lease> {
        // Looking at everything that waits takes time, so it is done where somebody watches alone.
        let Some(watcher) = self.watcher.get() else {
            return self.told(self.queue.lease(channel, lane, now, most, skip));
        };
        let (waiting, bulk_is_open) = {
            let open = lock(&self.queue.shared.open);
            (open.waiting(channel, now, skip), open.is_leased(channel, Lane::Bulk))
        };
        let lease = self.told(self.queue.lease(channel, lane, now, most, skip))?;
        let share = (share(lease.recipients.len() as u64, lease.size_bytes, skip.bytes_as_one), skip.bytes_as_one);
        watcher(&Served::Leased { lease: &lease, waiting: &waiting, share, bulk_is_open });
        Some(lease)
    }

    fn lease_expired(&self, wall: Timestamp) -> Option<Lease> {
        self.told(self.queue.lease_expired(wall))
    }

    fn next_expiry(&self) -> Option<Timestamp> {
        self.queue.next_expiry()
    }

    fn follow_wall(&self, ahead_ms: i64) {
        self.queue.follow_wall(ahead_ms);
    }

    fn ahead(&self, channel: ChannelId, messages: &[MessageId], now: Timestamp) -> Vec<(MessageId, Lane, Ahead)> {
        self.queue.ahead(channel, messages, now)
    }

    fn overdue(&self, channel: ChannelId, before: Timestamp, limit: usize) -> Vec<MessageId> {
        self.queue.overdue(channel, before, limit)
    }

    fn waiting_since(&self, channel: ChannelId, before: Timestamp, limit: usize) -> Vec<MessageId> {
        self.queue.waiting_since(channel, before, limit)
    }

    fn next_due_after(&self, channel: ChannelId, now: Timestamp) -> Option<Timestamp> {
        self.queue.next_due_after(channel, now)
    }

    fn next_due(&self, channel: ChannelId) -> Option<Timestamp> {
        self.queue.next_due(channel)
    }

    fn body(&self, message: MessageId) -> Result<Body, StoreError> {
        self.queue.body(message)
    }

    fn record(&self, attempt: AttemptRecord) -> Commit<Result<(), StoreError>> {
        self.told(self.queue.record(attempt))
    }

    fn give_back(&self, message: MessageId, recipients: &[u32]) {
        let count = {
            let open = lock(&self.queue.shared.open);
            let rows = open.rows(message).unwrap_or_default();
            let given = recipients.iter().filter_map(|index| rows.get(*index as usize));
            given.filter(|row| row.state == RecipientState::Leased && !row.intended).count()
        };
        self.queue.give_back(message, recipients);
        if let Some(watcher) = self.watcher.get() {
            watcher(&Served::GivenBack(message, count as u32));
        }
    }

    fn bring_forward(&self, put_off: &[PutOff], due: Timestamp) {
        self.queue.bring_forward(put_off, due);
    }

    fn steer(&self, order: Steer) -> Commit<Result<Vec<u32>, StoreError>> {
        self.told(self.queue.steer(order))
    }

    fn set_channel_state(&self, channel: ChannelId, state: ChannelState, at: Timestamp) -> Commit<Result<(), StoreError>> {
        self.told(self.queue.set_channel_state(channel, state, at))
    }

    fn channel_states(&self) -> BTreeMap<ChannelId, ChannelState> {
        self.queue.channel_states()
    }

    fn set_lessons(&self, channel: ChannelId, lessons: Lessons, at: Timestamp) -> Commit<Result<(), StoreError>> {
        self.told(self.queue.set_lessons(channel, lessons, at))
    }

    fn lessons(&self) -> BTreeMap<ChannelId, Lessons> {
        self.queue.lessons()
    }

    fn set_kept(
        &self,
        channel: ChannelId,
        kept: Kept,
        told: Vec<(EventKind, String)>,
        at: Timestamp,
    ) -> Commit<Result<(), StoreError>> {
        self.told(self.queue.set_kept(channel, kept, told, at))
    }

    fn kept(&self) -> BTreeMap<ChannelId, Kept> {
        self.queue.kept()
    }

    fn beat(&self, heartbeat: Heartbeat, credit: Option<Credit>) -> Commit<Result<(), StoreError>> {
        self.told(self.queue.beat(heartbeat, credit))
    }

    fn is_suppressed(&self, party: Party, address: &str) -> bool {
        self.queue.is_suppressed(party, address)
    }

    fn unsuppress(&self, party: Party, address: &str, by: &str, at: Timestamp) -> Commit<Result<bool, StoreError>> {
        self.told(self.queue.unsuppress(party, address, by, at))
    }

    fn set_waker(&self, waker: Arc<dyn Wake>) {
        self.queue.set_waker(waker);
    }

    fn totals(&self) -> Totals {
        self.queue.totals()
    }

    fn caps(&self) -> MailCaps {
        self.queue.caps()
    }

    fn open_mail(&self, holder: Holder) -> OpenMail {
        self.queue.open_mail(holder)
    }

    fn arriving_bytes(&self) -> u64 {
        self.queue.arriving_bytes()
    }

    fn knows_keys(&self, person: PersonId, key: Option<&str>) -> Result<bool, StoreError> {
        self.queue.knows_keys(person, key)
    }

    fn accepting(&self) -> Result<(), AcceptError> {
        self.queue.accepting()
    }

    fn message(&self, id: MessageId) -> Result<Option<MessageView>, StoreError> {
        self.read()?.message(id)
    }

    fn raw(&self, id: MessageId) -> Result<Option<Body>, StoreError> {
        self.read()?.raw(id)
    }

    fn envelope(&self, id: MessageId) -> Result<Option<Envelope>, StoreError> {
        self.read()?.envelope(id)
    }

    fn list(&self, filter: &Filter, page: &Page) -> Result<Listing, StoreError> {
        self.read()?.list(filter, page)
    }

    fn counts(&self, of: &Counted) -> Result<[u64; 9], StoreError> {
        self.read()?.counts(of)
    }

    fn queue(&self, now: Timestamp, kept_back: &KeptBack) -> Result<Vec<ChannelQueue>, StoreError> {
        self.queue.queue(now, kept_back)
    }

    fn events(&self, after: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        self.read()?.events(after, limit)
    }

    fn events_of(&self, id: MessageId, after: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        self.read()?.events_of(id, after, limit)
    }

    fn events_of_channel(&self, channel: ChannelId, limit: usize) -> Result<Vec<Event>, StoreError> {
        self.read()?.events_of_channel(channel, limit)
    }

    fn suppressions(&self, parties: &[Party], after: Option<&str>, limit: usize) -> Result<Vec<Suppression>, StoreError> {
        self.read()?.suppressions(parties, after, limit)
    }

    fn spent(&self) -> Result<Vec<Spent>, StoreError> {
        self.read()?.spent()
    }

    fn forget_spent(&self, account: &str, before: Timestamp) -> Result<(), StoreError> {
        self.queue.forget_spent(account, before)
    }

    fn close(&self) {
        guard(&self.queue.shared.inbox).closing = true;
    }
}
