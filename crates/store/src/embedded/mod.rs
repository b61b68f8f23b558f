//! The durable queue in one folder: a log that is the truth, and an SQLite index that follows it.

mod backup;
mod bodies;
mod check;
mod core;
mod folder;
mod forget;
mod fuzz;
mod head;
mod held;
mod index;
mod keys;
mod lines;
mod log;
mod open_set;
mod record;
mod restored;
mod run;
#[cfg(feature = "simulation")]
pub mod stepped;
mod wire;

#[cfg(test)]
mod backup_tests;
#[cfg(test)]
mod body_tests;
#[cfg(test)]
mod cap_tests;
#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod forget_tests;
#[cfg(test)]
mod head_tests;
#[cfg(test)]
mod restored_tests;
#[cfg(test)]
mod tests;

pub use self::check::{Report, check};
pub use self::forget::{ForgetAddress, ForgetError, Forgot};
#[doc(hidden)]
pub use self::fuzz::log_record;
pub use self::held::{HeldRestored, held_restored};
pub use self::log::Findings;
pub use self::restored::{RESTORED, adopt, is_unfinished};

pub(crate) use self::backup::{Caught, Source, copy_database};
pub(crate) use self::folder::{FORMAT, lock_folder};
pub(crate) use self::log::Position;
pub(crate) use self::restored::{Origin, fill, take_back_marks};

use self::backup::HeldBack;
use self::core::{Core, Follower, Op, Owed, Unsuppress, lock};
use self::folder::check_format;
use self::head::{Keeper, Next, Policy};
use self::index::{Before, Index};
use self::log::Frame;
use self::open_set::OpenSet;
use self::record::Record;
use crate::api::*;
use crate::body::{Body, FileId, Gauge, Spool};
use crate::caps::{Holder, MailCaps, OpenMail};
use crate::disk::{Disk, RealDisk};
use bytes::Bytes;
use mail::channel::{ChannelState, Kept};
use mail::pace::{Ahead, Lessons, Spent};
use mail::steady::{Credit, Heartbeat};
use mail::{ChannelId, Envelope, Event, EventKind, Lane, MessageId, Move, PersonId, RecipientState, Timestamp};
use rusqlite::Connection;
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Bytes of one batch, at most about.
const BATCH_BYTES: usize = 8 << 20;
/// Records the index may be behind before acceptance waits for it.
const MAX_LAG: usize = 50_000;
/// Records for which the index does not wait for more.
const APPLY_SOON: usize = 4_000;
/// How long the index waits for more.
const LINGER: Duration = Duration::from_millis(200);
/// Records of one transaction of the index.
const APPLY_AT_ONCE: usize = 10_000;
/// The index is checkpointed this often while there is something new.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(5);
/// Keys are known for this long, or for the message's open life.
const KEEP_KEYS: Duration = Duration::from_secs(72 * 3600);
/// Old keys are forgotten this often.
const FORGET_KEYS_EVERY: Duration = Duration::from_secs(600);

/// The final reply of an interrupted transaction may have come so long after the process had ended.
const REPLY_MAY_TAKE: Duration = Duration::from_secs(600);

/// After this time a full disk is tried again where nobody asks.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// The room on the disk is looked at this often at most.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Pages of the index's journal beyond which it is begun anew.
const LONG_JOURNAL: i64 = 16_384;
/// Pieces of old mail that are forgotten before the index looks for what is new.
const FORGET_PIECES: usize = 50;
/// Connections that read are kept, up to so many.
const MOST_READERS: usize = 8;
/// Messages that are counted without letting others in between.
const COUNT_AT_ONCE: usize = 4096;

/// Lets the steady clock go on from the last heartbeat, and reads it.
pub type Resume = Box<dyn Fn(Option<&Heartbeat>) -> Timestamp + Send>;

/// How to open a queue.
pub struct Options {
    /// Its folder; made when missing.
    pub folder: PathBuf,
    /// Submissions are refused below this many free bytes.
    pub min_free: u64,
    /// Bytes set aside on the disk for what must be written when it is full: outcomes, reports, snapshots.
    pub reserve: u64,
    /// A segment is closed when it has this many bytes.
    pub segment_size: u32,
    /// Fresh bodies kept in memory, in bytes.
    pub cache_bytes: usize,
    /// Bodies of ended mail are kept so long by the steady clock, as long as there is room; at most a day or, where that
    /// is less, an eighth of it longer.
    pub keep_bodies: Duration,
    /// Ended mail is known so long.
    pub keep_history: Duration,
    /// The caps of open mail, when so many bytes are free or open at the start.
    pub caps: Box<dyn FnOnce(u64) -> MailCaps + Send>,
    /// Now: what was open when the process ended is dated with it.
    pub now: Timestamp,
    /// The steady clock at this moment, which goes on from the last heartbeat.
    pub steady: Resume,
    /// When an interrupted transaction is tried again.
    pub uncertain_retry: Duration,
    /// True for channels whose interrupted transactions wait for a person at once.
    pub ask: Box<dyn Fn(ChannelId) -> bool + Send>,
    /// Called once when nothing can be written any more.
    pub on_failure: Box<dyn Fn(&str) + Send + Sync>,
}

impl Options {
    /// The defaults.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>, now: Timestamp) -> Self {
        Self {
            folder: folder.into(),
            min_free: 512 << 20,
            reserve: 16 << 20,
            segment_size: 64 << 20,
            cache_bytes: 64 << 20,
            keep_bodies: Duration::from_secs(7 * 24 * 3600),
            keep_history: Duration::from_secs(90 * 24 * 3600),
            caps: Box::new(|_| MailCaps::default()),
            now,
            steady: Box::new(move |_| now),
            uncertain_retry: Duration::from_secs(60),
            ask: Box::new(|_| false),
            on_failure: Box::new(|_| {}),
        }
    }
}

/// Why a queue does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{0} is in use by another process; stop that one first, or choose another data_dir")]
    Locked(PathBuf),
    /// Made by another version.
    #[error("{folder} has the format '{found}', and this version knows '{known}'; use the program that made it")]
    Format {
        /// The folder.
        folder: PathBuf,
        /// What it says.
        found: String,
        /// What we know.
        known: &'static str,
    },
    /// A restore into it was interrupted.
    #[error("a restore into {0} did not finish; empty the data folder, and run 'sendero restore' again")]
    Unfinished(PathBuf),
    /// The disk.
    #[error("{path}: {error}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What.
        error: std::io::Error,
    },
    /// The index.
    #[error(transparent)]
    Index(#[from] StoreError),
}

/// What the writer thread is given.
#[derive(Default)]
struct Inbox {
    ops: VecDeque<Op>,
    closing: bool,
    failed: Option<String>,
}

/// What the index thread is given.
#[derive(Default)]
struct Outbox {
    /// Somebody waits to read what was written.
    wanted: bool,
    entries: Vec<index::Entry>,
    /// What is forgotten behind the next entries.
    forget: Vec<Forget>,
    /// Keys that messages were accepted under and that the index may not know yet, with the count that tells: see `taken`.
    keys: BTreeMap<(PersonId, String), u64>,
    /// Why the index waits, when it does.
    stalled: Option<String>,
    taken: u64,
    applied: u64,
    closing: bool,
    failed: Option<String>,
}

impl Outbox {
    /// These are to be learned.
    fn take(&mut self, entries: Vec<index::Entry>) {
        self.taken += entries.len() as u64;
        for (meta, _) in entries.iter().filter_map(|entry| entry.effects.new.as_ref()) {
            if let Some(given) = &meta.idempotency {
                self.keys.insert((meta.person, given.key.clone()), self.taken);
            }
        }
        self.entries.extend(entries);
    }

    /// So many have been learned.
    fn has_learned(&mut self, count: u64) {
        self.applied += count;
        let applied = self.applied;
        self.keys.retain(|_, taken| *taken > applied);
    }

    /// Whether a key of this person, or this one of theirs, is to be learned.
    fn has_key(&self, person: PersonId, key: Option<&str>) -> bool {
        match key {
            Some(key) => self.keys.contains_key(&(person, key.to_owned())),
            None => self.keys.range((person, String::new())..).next().is_some_and(|((of, _), _)| *of == person),
        }
    }
}

/// Something that the index need not know any more.
enum Forget {
    /// What an account spent before.
    Spent(String, Timestamp),
    /// Segments before this one.
    Segments(u32),
    /// Mail that ended before.
    History(Timestamp),
}

/// Whether there was room when somebody looked last.
struct Room {
    until: Instant,
    found: Result<(), String>,
}

struct Shared<D> {
    disk: Arc<D>,
    /// Where the files of large bodies are.
    bodies: Arc<D>,
    /// Files to be removed.
    spare: Mutex<Vec<FileId>>,
    /// Files of what was forgotten, until they are seen gone.
    forgotten_files: Mutex<Vec<FileId>>,
    /// The journal of the index may have what was forgotten.
    journal_holds: AtomicBool,
    /// A backup is being taken: no segment and no file of a body is removed.
    held_back: Mutex<HeldBack>,
    /// Where the log ends durably.
    end: Mutex<Position>,
    open: Arc<Mutex<OpenSet>>,
    caps: MailCaps,
    /// Bytes of files that are part of no message yet.
    arriving: Gauge,
    inbox: Mutex<Inbox>,
    inbox_changed: Condvar,
    outbox: Mutex<Outbox>,
    outbox_changed: Condvar,
    waker: Mutex<Option<Arc<dyn Wake>>>,
    readers: Mutex<Vec<Connection>>,
    /// Held by whoever searches for long: all of them together keep one processor busy at most.
    search: Mutex<()>,
    index_path: PathBuf,
    min_free: u64,
    policy: Policy,
    keep_history: Duration,
    room: Mutex<Option<Room>>,
    index_full: AtomicBool,
    /// The segment that takes no more.
    closed_segment: AtomicU32,
    syncs: AtomicU64,
    indexed: AtomicU64,
    on_failure: Box<dyn Fn(&str) + Send + Sync>,
    #[cfg(test)]
    index_fault: AtomicBool,
}

/// The queue in a folder.
pub struct Embedded<D: Disk = RealDisk> {
    shared: Arc<Shared<D>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    findings: Findings,
    /// Held as long as the queue is open.
    _lock: Option<File>,
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Embedded<RealDisk> {
    /// Opens the queue of a folder, and repeats what the index does not know yet.
    ///
    /// # Errors
    /// In use, made by another version, or the disk.
    pub fn open(options: Options) -> Result<Self, OpenError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |error| OpenError::Io { path, error }
        };
        std::fs::create_dir_all(&options.folder).map_err(io(&options.folder))?;
        let lock = lock_folder(&options.folder)?;
        check_format(&options.folder)?;
        let open = |name: &str| RealDisk::open(&options.folder.join(name)).map(Arc::new).map_err(io(&options.folder));
        let (log, bodies) = (open("log")?, open("bodies")?);
        let index = options.folder.join("index.sqlite");
        let mut queue = Self::on_disks(log, bodies, index, options)?;
        queue._lock = Some(lock);
        Ok(queue)
    }
}

impl<D: Disk> Embedded<D> {
    /// Opens a queue whose log and large bodies lie on `disk`.
    ///
    /// # Errors
    /// As [`Embedded::open`].
    pub fn on_disk(disk: Arc<D>, index_path: PathBuf, options: Options) -> Result<Self, OpenError> {
        Self::on_disks(Arc::clone(&disk), disk, index_path, options)
    }

    fn on_disks(disk: Arc<D>, bodies: Arc<D>, index_path: PathBuf, options: Options) -> Result<Self, OpenError> {
        let log = options.folder.join("log");
        let (queue, core, index) = Self::prepare(disk, bodies, index_path, options)?;
        queue.start(core, index).map_err(|error| OpenError::Io { path: log, error })?;
        Ok(queue)
    }

    /// A queue that nobody steps yet, with its writer and its index.
    fn prepare(
        disk: Arc<D>,
        bodies: Arc<D>,
        index_path: PathBuf,
        mut options: Options,
    ) -> Result<(Self, Core<D>, Index), OpenError> {
        let restored = restored::found(&*disk, &options.folder)?;
        let mut index = Index::open(&index_path, Before::Kept)?;
        let (mut core, findings) = recover(Arc::clone(&disk), &mut index, &index_path, &options)?;
        let damaged = !findings.damaged.is_empty() || findings.missing_segments > 0;
        bodies::sweep(&*bodies, &mut lock(&core.open).bodies, &index, damaged)?;
        let progress = index.progress();
        let open = Arc::clone(&core.open);
        let room = disk.free_bytes().unwrap_or(u64::MAX).saturating_add(lock(&open).totals.open_bytes);
        core.caps = std::mem::replace(&mut options.caps, Box::new(|_| MailCaps::default()))(room);
        let purged = lock(&open).purged;
        let shared = Arc::new(Shared {
            disk,
            bodies,
            spare: Mutex::default(),
            forgotten_files: Mutex::default(),
            // A process that was killed leaves it as it was.
            journal_holds: AtomicBool::new(purged > 0),
            held_back: Mutex::default(),
            end: Mutex::default(),
            open,
            caps: core.caps,
            arriving: Gauge::default(),
            inbox: Mutex::default(),
            inbox_changed: Condvar::new(),
            outbox: Mutex::default(),
            outbox_changed: Condvar::new(),
            waker: Mutex::default(),
            readers: Mutex::default(),
            search: Mutex::default(),
            index_path,
            min_free: options.min_free,
            policy: Policy { keep_bodies: options.keep_bodies, slack: u64::from(options.segment_size), share: 2 },
            keep_history: options.keep_history,
            room: Mutex::default(),
            index_full: AtomicBool::new(false),
            closed_segment: AtomicU32::new(0),
            syncs: AtomicU64::new(0),
            indexed: AtomicU64::new(progress.known.sequence),
            on_failure: std::mem::replace(&mut options.on_failure, Box::new(|_| {})),
            #[cfg(test)]
            index_fault: AtomicBool::new(false),
        });
        let queue = Self { shared, threads: Mutex::default(), findings, _lock: None };
        let log = options.folder.join("log");
        let settled = match &restored {
            Some(origin) => queue.hold_restored(&mut core, &mut index, &options, origin),
            None => queue.settle_interrupted(&mut core, &mut index, &options),
        };
        settled.map_err(|error| OpenError::Io { path: log, error })?;
        *guard(&queue.shared.end) = core.log.end();
        Ok((queue, core, index))
    }

    /// What was open at the end of the last process becomes uncertain.
    fn settle_interrupted(&self, core: &mut Core<D>, index: &mut Index, options: &Options) -> std::io::Result<()> {
        let interrupted = lock(&core.open).interrupted();
        let steady = (options.steady)(lock(&core.open).heartbeat.as_ref());
        let settled = interrupted.into_iter().map(|open_set::Interrupted { message, channel, rows, spend }| {
            tracing::warn!(queue.id = %message, recipients = rows.len(), "the process ended while this was being handed over");
            let spending = spend.map_or(Spending::Uncounted, |Spend { account, from, units }| {
                Spending::Spent(Spent { account, from, units, age_from: steady.plus(REPLY_MAY_TAKE) })
            });
            let recipients = doubts(&rows, (options.ask)(channel), steady.plus(options.uncertain_retry));
            let settle = Settlement { message, channel, at: options.now, relay: String::new(), spending, recipients };
            Owed::Attempt(AttemptRecord { settle: Some(settle), ..AttemptRecord::default() })
        });
        let held = if self.findings.missing_segments > 0 {
            Some((u64::MAX, "part of its log is missing"))
        } else {
            self.findings.damaged_before.map(|sequence| (sequence, "a record of its log is damaged"))
        };
        let held = held.map(|(sequence, why)| held_before(core, options.now, sequence, why));
        // Without room they stay owed, and the writer tries again.
        self.write_owed(core, index, settled.chain(held.into_iter().flatten()))
    }

    /// Starts the threads.
    fn start(&self, core: Core<D>, index: Index) -> std::io::Result<()> {
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| std::thread::Builder::new().name(name.to_owned()).spawn(run);
        let (writer, indexer, keeper) = (Arc::clone(&self.shared), Arc::clone(&self.shared), Arc::clone(&self.shared));
        let mut threads = guard(&self.threads);
        threads.push(spawn("queue-writer", Box::new(move || writer.write(core)))?);
        threads.push(spawn("queue-index", Box::new(move || indexer.index(index)))?);
        threads.push(spawn("queue-keeper", Box::new(move || keeper.keep()))?);
        Ok(())
    }

    /// What recovery found beside whole records.
    pub fn findings(&self) -> &Findings {
        &self.findings
    }

    /// How many batches were made durable since the start.
    pub fn syncs(&self) -> u64 {
        self.shared.syncs.load(Ordering::Relaxed)
    }

    fn submit<T: Send + 'static>(
        &self,
        make: impl FnOnce(oneshot::Sender<T>) -> Op,
        lost: impl FnOnce() -> T + Send + 'static,
    ) -> Commit<T> {
        let (answer, answered) = oneshot::channel();
        self.shared.push(make(answer));
        Commit::pending(answered, lost)
    }

    /// Reads after the index has learned everything that is durable now.
    fn read<T>(&self, query: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.shared.wait_for_index()?;
        self.read_now(query)
    }

    /// Reads what the index knows now: what it has to learn yet is not among it, and nobody waits for it.
    fn read_now<T>(&self, query: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let pooled = guard(&self.shared.readers).pop();
        let connection = match pooled {
            Some(connection) => connection,
            None => index::reader(&self.shared.index_path)?,
        };
        let result = query(&connection);
        let mut readers = guard(&self.shared.readers);
        if readers.len() < MOST_READERS {
            readers.push(connection);
        }
        result
    }

    /// Open messages, as far as the filter means them, with a recipient of whom this is true.
    fn waiting(&self, filter: &Filter, is_true: impl Fn(&Waiting) -> bool) -> Vec<MessageId> {
        let (mut found, mut copied, mut from) = (Vec::new(), Vec::new(), Some(0));
        while let Some(at) = from {
            copied.clear();
            from = lock(&self.shared.open).copy_waiting(at, COUNT_AT_ONCE, filter, &mut copied);
            // The recipients of a message stand together.
            for (id, _) in copied.iter().filter(|(_, one)| is_true(one)) {
                if found.last() != Some(id) {
                    found.push(*id);
                }
            }
            std::thread::yield_now();
        }
        found
    }

    /// The first of what is taken that can be read; what cannot is held.
    fn first_readable(&self, take: impl Fn() -> Option<open_set::Taken>) -> Option<Lease> {
        loop {
            let one = take()?;
            let meta = match &one.fresh {
                Some(fresh) => Ok(Arc::clone(&fresh.meta)),
                None => self.lease_from_disk(&one),
            };
            match meta {
                Ok(meta) => return Some(lease(one, &meta)),
                Err(error) => self.hold_damaged(&one, &error),
            }
        }
    }

    fn lease_from_disk(&self, taken: &open_set::Taken) -> Result<Arc<open_set::Shared>, StoreError> {
        let (payload, place) = self.read_record(taken.message, taken.place)?;
        let meta = record::message_in(&payload)
            .ok_or_else(|| StoreError::Damaged(format!("the record of {} is no message", taken.message)))?;
        let body = self.shared.body_of(meta.rest, Bytes::from(payload).slice(place.body_at as usize..));
        let meta = Arc::new(core::shared(&meta));
        // Its body is asked for next.
        lock(&self.shared.open).keep_leased(taken.message, open_set::Fresh { meta: Arc::clone(&meta), body });
        Ok(meta)
    }

    /// Where a message stands in the log, while its segment is there.
    fn kept_place(&self, id: MessageId) -> Result<Option<open_set::Place>, StoreError> {
        let Some(place) = self.read(|connection| index::place(connection, id))? else { return Ok(None) };
        match self.shared.disk.length(&log::name_of(place.position.segment)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            _ => Ok(Some(place)),
        }
    }

    fn read_body(&self, message: MessageId, place: open_set::Place) -> Result<Body, StoreError> {
        let (payload, place) = self.read_record(message, place)?;
        let named = record::rest_of(&payload).map_err(|()| StoreError::Damaged("its record cannot be understood".into()))?;
        Ok(self.shared.body_of(named, Bytes::from(payload).slice(place.body_at as usize..)))
    }

    /// The record that has an open message, where it stands now: meanwhile it may have been written again elsewhere.
    fn read_record(&self, message: MessageId, mut place: open_set::Place) -> Result<(Vec<u8>, open_set::Place), StoreError> {
        loop {
            match log::read_frame(&*self.shared.disk, place.position, place.payload_length) {
                Ok(payload) => return Ok((payload, place)),
                Err(error) => match lock(&self.shared.open).place(message).filter(|now| *now != place) {
                    Some(now) => place = now,
                    None => return Err(StoreError::Damaged(error.to_string())),
                },
            }
        }
    }
}

/// What is not there may have said that mail was sent which was accepted before: a person decides.
fn held_before<D: Disk>(core: &Core<D>, now: Timestamp, sequence: u64, why: &'static str) -> impl Iterator<Item = Owed> + use<D> {
    let queued = lock(&core.open).queued_before(sequence);
    tracing::error!(messages = queued.len(), why, "held: it is not known what became of them");
    queued.into_iter().map(move |message| {
        let by = format!("the gateway, because {why}");
        Owed::Steer(Steer { message, recipients: Vec::new(), to: Move::Hold, channel: None, by, at: now })
    })
}

fn lease(taken: open_set::Taken, meta: &open_set::Shared) -> Lease {
    Lease {
        message: taken.message,
        channel: taken.channel,
        person: meta.person,
        team: meta.team,
        token: meta.token,
        surface: meta.surface,
        accepted_at: meta.at,
        lane: meta.lane,
        expires_at: meta.expires_at,
        envelope: Arc::clone(&meta.envelope),
        author: Arc::clone(&meta.author),
        recipients: taken.recipients,
        size_bytes: taken.size_bytes,
    }
}

fn doubts(rows: &[(u32, u8)], ask: bool, due: Timestamp) -> Vec<Settled> {
    let doubt = |(index, doubts): &(u32, u8)| Settled {
        index: *index,
        to: if ask || *doubts > 0 { Move::Hold } else { Move::Doubt },
        due,
        counts: true,
        said: mail::Diagnostic::own(None, mail::Cause::Interrupted.to_string()),
        cause: Some(mail::Cause::Interrupted),
        suppress: None,
    };
    rows.iter().map(doubt).collect()
}

/// Loads what the index knows as open and repeats the log from there on.
fn recover<D: Disk>(
    disk: Arc<D>,
    index: &mut Index,
    index_path: &Path,
    options: &Options,
) -> Result<(Core<D>, Findings), OpenError> {
    let mut open = OpenSet::new(options.cache_bytes);
    let progress = index.progress();
    open.bodies = bodies::Bodies::new(index.open_bodies()?);
    open.states = index.channel_states()?;
    open.segments = index.segments()?;
    open.purged = forget::purged(&index::reader(index_path)?)?;
    open.lessons = index.lessons()?;
    open.kept = index.kept()?;
    open.heartbeat = index.heartbeat()?;
    open.spending = index.spending()?;
    open.suppressed = index.suppressed()?;
    open.totals.accepted = progress.totals.accepted;
    open.totals.by_state = progress.totals.by_state;
    open.recorded = progress.totals.by_state;
    index.load_open(|standing, rows| open.restore(standing, rows))?;
    let mut entries = Vec::new();
    // Segments before this one are not needed, as the log says.
    let mut below = 0;
    let mut failure = Ok(());
    let mut replay = |frame: &Frame, payload: &[u8]| {
        let end = Position { segment: frame.position.segment, offset: frame.end };
        let Some((record, body_at)) = Record::decode(payload) else {
            tracing::error!(
                segment = frame.position.segment,
                offset = frame.position.offset,
                "a record that this version does not know is set aside"
            );
            return;
        };
        let place = open_set::Place { position: frame.position, payload_length: payload.len() as u32, body_at: body_at as u32 };
        if let Record::Base(base) = &record {
            below = below.max(base.below);
        }
        let has_body = matches!(record, Record::Accept(_) | Record::Snapshot(_));
        let effects = open.apply(record, frame.sequence, has_body.then_some(place));
        entries.push(index::Entry { sequence: frame.sequence, batch: frame.batch, end, ends_batch: frame.last, effects });
        if entries.len() >= APPLY_AT_ONCE && frame.last && failure.is_ok() {
            failure = index.apply(&std::mem::take(&mut entries));
        }
    };
    let opened = log::open(disk, options.segment_size, progress.known, &mut replay);
    let (log, mut findings) = opened.map_err(|error| OpenError::Io { path: options.folder.join("log"), error })?;
    failure?;
    if progress.known.sequence == 0 && findings.first_segment > below.max(1) {
        tracing::error!(first = findings.first_segment, "the log does not begin where it says that it does, and there is no index");
        findings.missing_segments += 1;
    }
    index.apply(&entries)?;
    let reader = index::reader(index_path)?;
    let room = core::Room { min_free: options.min_free, reserve: options.reserve, is_reserved: false };
    let mut core = Core::new(log, Arc::new(Mutex::new(open)), reader, room);
    if let Err(why) = core.set_reserve_aside() {
        tracing::warn!(%why, "submissions wait for room on the disk");
    }
    Ok((core, findings))
}

impl<D: Disk> Shared<D> {
    /// Whether there is room for submissions, as of a moment ago.
    fn room(&self) -> Result<(), String> {
        if self.index_full.load(Ordering::Relaxed) {
            return Err("the disk is full for the index".into());
        }
        let mut room = guard(&self.room);
        let now = Instant::now();
        if let Some(room) = room.as_ref().filter(|room| now < room.until) {
            return room.found.clone();
        }
        let found = core::room(&*self.disk, self.min_free);
        *room = Some(Room { until: now + LOOK_AGAIN, found: found.clone() });
        found
    }

    fn push(&self, op: Op) {
        let mut inbox = guard(&self.inbox);
        if let Some(why) = &inbox.failed {
            op.close(why);
        } else if inbox.closing {
            op.close("the gateway is stopping");
        } else {
            inbox.ops.push_back(op);
            self.inbox_changed.notify_one();
        }
    }

    /// The writer thread: whatever waits is one batch.
    fn write(&self, mut core: Core<D>) {
        while let Some(ops) = self.next_batch(!core.owed.is_empty()) {
            let step = self.step(&mut core, ops);
            if !self.conclude(step) {
                break;
            }
        }
        // Only here: what the writer still hands on is learned.
        let mut outbox = guard(&self.outbox);
        outbox.closing = true;
        self.outbox_changed.notify_all();
    }

    /// One batch, on the disk when this returns; nobody knows of it yet.
    fn step(&self, core: &mut Core<D>, ops: Vec<Op>) -> core::Step {
        let index = Follower { sequence: self.indexed.load(Ordering::Relaxed), no_space: self.index_full.load(Ordering::Relaxed) };
        core.log.closed = self.closed_segment.load(Ordering::Relaxed);
        let step = core.step(ops, index);
        *guard(&self.end) = core.log.end();
        self.syncs.fetch_add(1, Ordering::Relaxed);
        if step.no_space {
            *guard(&self.room) = Some(Room { until: Instant::now() + TRY_AGAIN, found: Err("the disk is full".into()) });
        }
        step
    }

    /// Tells everybody of a batch: the index, the scheduler, and who waits for an answer. False when it was the last.
    fn conclude(&self, mut step: core::Step) -> bool {
        self.hand_on(std::mem::take(&mut step.entries));
        self.wake(&step.wakes);
        guard(&self.spare).append(&mut step.spare);
        let (failed, later) = (step.failed.take(), std::mem::take(&mut step.later));
        if let Some(why) = failed {
            // From here on nobody is told anything else.
            guard(&self.inbox).failed = Some(why.clone());
            step.answer();
            self.fail(&why);
            return false;
        }
        step.answer();
        let mut inbox = guard(&self.inbox);
        for op in later.into_iter().rev() {
            inbox.ops.push_front(op);
        }
        true
    }

    /// What waits; nothing when something is owed and no operation comes.
    fn next_batch(&self, owes: bool) -> Option<Vec<Op>> {
        let mut inbox = guard(&self.inbox);
        while inbox.ops.is_empty() {
            if inbox.closing {
                return None;
            }
            if owes {
                let waited = self.inbox_changed.wait_timeout(inbox, TRY_AGAIN).unwrap_or_else(PoisonError::into_inner);
                inbox = waited.0;
                break;
            }
            inbox = self.inbox_changed.wait(inbox).unwrap_or_else(PoisonError::into_inner);
        }
        Some(take_batch(&mut inbox))
    }

    /// Gives the index what it has to learn; waits when it is too far behind.
    fn hand_on(&self, entries: Vec<index::Entry>) {
        if entries.is_empty() {
            return;
        }
        let mut outbox = guard(&self.outbox);
        while outbox.entries.len() > MAX_LAG && outbox.failed.is_none() {
            outbox = self.outbox_changed.wait(outbox).unwrap_or_else(PoisonError::into_inner);
        }
        outbox.take(entries);
        self.outbox_changed.notify_all();
    }

    fn wake(&self, wakes: &[open_set::Wakeup]) {
        if wakes.is_empty() {
            return;
        }
        let waker = guard(&self.waker).clone();
        if let Some(waker) = waker {
            for (channel, lane, due) in wakes {
                waker.due(*channel, *lane, *due);
            }
        }
    }

    /// Ends all writing for good, whoever found that it must: the writer ends with the batch in its hands, then the index.
    fn fail(&self, why: &str) {
        let waiting: Vec<Op> = {
            let mut inbox = guard(&self.inbox);
            inbox.failed = Some(why.to_owned());
            inbox.closing = true;
            inbox.ops.drain(..).collect()
        };
        self.inbox_changed.notify_all();
        for op in waiting {
            op.close(why);
        }
        (self.on_failure)(why);
    }

    /// The index thread: follows the log in large transactions.
    fn index(&self, mut index: Index) {
        let mut keys_forgotten = Timestamp(0);
        loop {
            let (entries, forget) = {
                let mut outbox = guard(&self.outbox);
                while outbox.entries.is_empty() && outbox.forget.is_empty() {
                    if outbox.closing {
                        return;
                    }
                    outbox = self.outbox_changed.wait(outbox).unwrap_or_else(PoisonError::into_inner);
                }
                // Larger transactions write fewer pages: it lingers for more, unless somebody waits to read.
                let lingers = |outbox: &mut Outbox| !outbox.closing && !outbox.wanted && outbox.entries.len() < APPLY_SOON;
                let waited = self.outbox_changed.wait_timeout_while(outbox, LINGER, lingers);
                let (mut outbox, _) = waited.unwrap_or_else(PoisonError::into_inner);
                outbox.wanted = false;
                let count = outbox.entries.len().min(APPLY_AT_ONCE);
                // Only whole batches are a place to begin again from, so a cut is made behind one.
                let cut =
                    (count..=outbox.entries.len()).find(|at| is_batch_end(&outbox.entries, *at)).unwrap_or(outbox.entries.len());
                (outbox.entries.drain(..cut).collect::<Vec<_>>(), std::mem::take(&mut outbox.forget))
            };
            let count = (entries.len() + forget.len()) as u64;
            let last = entries.last().map_or_else(|| self.indexed.load(Ordering::Relaxed), |entry| entry.sequence);
            let latest = entries.iter().flat_map(|entry| &entry.effects.facts).map(|fact| fact.at).max();
            let Some(mut result) = self.learn(&mut index, &entries) else { return };
            if let Some(now) = latest.filter(|now| now.since(keys_forgotten) > FORGET_KEYS_EVERY) {
                result = result.and_then(|()| index.forget_keys(Timestamp(now.0.saturating_sub(KEEP_KEYS.as_millis() as i64))));
                keys_forgotten = now;
            }
            for what in forget {
                result = result.and_then(|()| forget_in(&index, &what));
            }
            self.indexed.store(last, Ordering::Relaxed);
            let mut outbox = guard(&self.outbox);
            outbox.has_learned(count);
            if let Err(error) = result {
                tracing::error!(%error, "the index cannot follow the log; nothing more is written");
                outbox.failed = Some(error.to_string());
                self.outbox_changed.notify_all();
                drop(outbox);
                self.fail(&format!("the index cannot follow the log: {error}"));
                return;
            }
            self.outbox_changed.notify_all();
        }
    }

    /// Lets the index learn, again and again while the disk is full; `None` when the queue closes meanwhile.
    fn learn(&self, index: &mut Index, entries: &[index::Entry]) -> Option<Result<(), StoreError>> {
        loop {
            let why = match self.apply(index, entries) {
                Err(StoreError::NoSpace(why)) => why,
                other => {
                    if self.index_full.swap(false, Ordering::Relaxed) {
                        guard(&self.outbox).stalled = None;
                    }
                    return Some(other);
                }
            };
            let mut outbox = guard(&self.outbox);
            if !self.index_full.swap(true, Ordering::Relaxed) {
                tracing::warn!(%why, "the index waits for room on the disk");
            }
            outbox.stalled = Some(why);
            self.outbox_changed.notify_all();
            let waited = self.outbox_changed.wait_timeout_while(outbox, TRY_AGAIN, |outbox| !outbox.closing);
            let (mut outbox, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if outbox.closing {
                // The next start repeats it from the log.
                outbox.failed = outbox.stalled.take();
                self.outbox_changed.notify_all();
                return None;
            }
        }
    }

    fn apply(&self, index: &mut Index, entries: &[index::Entry]) -> Result<(), StoreError> {
        #[cfg(test)]
        if self.index_fault.load(Ordering::Relaxed) {
            return Err(StoreError::NoSpace("index: a test says so".into()));
        }
        index.apply(entries)
    }

    #[cfg(test)]
    fn wait_until_indexed(&self) {
        let mut outbox = guard(&self.outbox);
        outbox.wanted = true;
        self.outbox_changed.notify_all();
        while outbox.applied < outbox.taken {
            outbox = self.outbox_changed.wait(outbox).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn wait_for_index(&self) -> Result<(), StoreError> {
        let mut outbox = guard(&self.outbox);
        let wanted = outbox.taken;
        if outbox.applied < wanted {
            outbox.wanted = true;
            self.outbox_changed.notify_all();
        }
        while outbox.applied < wanted {
            if let Some(why) = outbox.failed.as_ref().or(outbox.stalled.as_ref()) {
                return Err(StoreError::Io(why.clone()));
            }
            outbox = self.outbox_changed.wait(outbox).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    /// The keeper thread: checkpoints the index, and lets segments go that nobody needs any more.
    fn keep(&self) {
        let mut keeper = match self.keeper(self.policy) {
            Ok(keeper) => keeper,
            Err(error) => return tracing::error!(%error, "the index cannot be checkpointed"),
        };
        let mut checkpointed = 0;
        loop {
            let closing = {
                let outbox = guard(&self.outbox);
                let waited = self.outbox_changed.wait_timeout_while(outbox, CHECKPOINT_EVERY, |outbox| !outbox.closing);
                let (outbox, _) = waited.unwrap_or_else(PoisonError::into_inner);
                outbox.closing && outbox.applied == outbox.taken || outbox.failed.is_some()
            };
            let indexed = self.indexed.load(Ordering::Relaxed);
            if indexed != checkpointed && self.checkpoint(&keeper).is_some() {
                checkpointed = indexed;
            }
            if closing {
                return;
            }
            self.tidy(&mut keeper);
            if guard(&self.outbox).closing {
                // The index has a last transaction to make.
                std::thread::yield_now();
            }
        }
    }

    /// The one that lets segments go, with a connection of its own.
    fn keeper(&self, policy: Policy) -> Result<Keeper, StoreError> {
        let connection = index::reader(&self.index_path)?;
        connection.pragma_update(None, "query_only", false)?;
        Ok(Keeper::new(connection, policy))
    }

    /// Removes the files of bodies that nobody asks for any more.
    fn remove_bodies_that_rested(&self) {
        if guard(&self.inbox).failed.is_some() {
            return;
        }
        if let Ok(segments) = log::segments(&*self.disk) {
            self.remove_bodies(&segments.into_iter().collect());
        }
    }

    /// Checkpoints the index; the last record it has on stable storage, when everything was written back.
    fn checkpoint(&self, keeper: &Keeper) -> Option<u64> {
        checkpoint(keeper.connection()).unwrap_or_else(|error| {
            tracing::warn!(%error, "the index was not checkpointed");
            None
        })
    }

    /// Lets the segments go that nobody needs any more, and forgets old mail.
    fn tidy(&self, keeper: &mut Keeper) {
        if self.is_held_back() && !self.give_backup_up() {
            return;
        }
        // First: on a full disk it may be what lets everything else go on.
        self.remove_bodies_that_rested();
        self.empty_journal(keeper.connection());
        loop {
            // After a failure of the disk nothing is removed: who looks into it may need it.
            let (failed, closing) = {
                let inbox = guard(&self.inbox);
                (inbox.failed.is_some(), inbox.closing)
            };
            if failed || closing {
                return;
            }
            match keeper.step(self, 0) {
                Next::Again => {}
                Next::Wait(commit) => keeper.written(commit.wait()),
                Next::Rest if keeper.waits_for_index() => {
                    if self.wait_for_index().is_err() {
                        return;
                    }
                    let Some(durable) = self.checkpoint(keeper) else { return };
                    if matches!(keeper.step(self, durable), Next::Rest) {
                        break;
                    }
                }
                Next::Rest => break,
            }
        }
        self.forget_history();
    }

    fn forget_history(&self) {
        let today = lock(&self.open).today();
        let before = Timestamp(today.0.saturating_sub(self.keep_history.as_millis() as i64));
        self.forget(Forget::History(before));
    }

    fn forget(&self, what: Forget) {
        let mut outbox = guard(&self.outbox);
        if outbox.closing {
            // The next start forgets the same again.
            return;
        }
        outbox.forget.push(what);
        outbox.taken += 1;
        self.outbox_changed.notify_all();
    }

    /// Something that is written again at the tail.
    fn carry(&self, make: impl FnOnce(oneshot::Sender<Result<u64, StoreError>>) -> Op) -> Commit<Result<u64, StoreError>> {
        let (answer, answered) = oneshot::channel();
        self.push(make(answer));
        Commit::pending(answered, || Err(StoreError::Closed("the writer has ended".into())))
    }

    /// Counts what the index was given so far.
    fn taken(&self) -> u64 {
        guard(&self.outbox).taken
    }

    /// True when the index has learned so much of it.
    fn has_indexed(&self, taken: u64) -> bool {
        guard(&self.outbox).applied >= taken
    }

    /// There is little room on the disk: ended mail goes before its time.
    fn is_short(&self) -> bool {
        self.min_free > 0 && self.disk.free_bytes().is_ok_and(|free| free < self.min_free.saturating_mul(2))
    }

    /// The next batch begins a new segment.
    fn close_segment(&self, segment: u32) {
        self.closed_segment.store(segment, Ordering::Relaxed);
    }

    /// Removes a segment; false while a backup holds it back.
    fn remove_segment(&self, segment: u32) -> Result<bool, StoreError> {
        let held_back = guard(&self.held_back);
        if held_back.holds() {
            return Ok(false);
        }
        let io = |error: std::io::Error| StoreError::Io(format!("segment {segment}: {error}"));
        match self.disk.remove(&log::name_of(segment)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
            _ => self.disk.sync_folder().map_err(io)?,
        }
        lock(&self.open).segments.remove(&segment);
        self.forget(Forget::Segments(segment + 1));
        tracing::info!(segment, "the oldest segment of the log is gone");
        Ok(true)
    }
}

fn forget_in(index: &Index, what: &Forget) -> Result<(), StoreError> {
    match what {
        Forget::Spent(account, before) => index.forget_spent(account, *before),
        Forget::Segments(below) => index.forget_segments(*below),
        Forget::History(before) => {
            for _ in 0..FORGET_PIECES {
                if !index.forget_history(*before)? {
                    break;
                }
            }
            Ok(())
        }
    }
}

/// As much of what waits as one batch takes.
fn take_batch(inbox: &mut Inbox) -> Vec<Op> {
    let mut ops = Vec::with_capacity(inbox.ops.len());
    let mut bytes = 0;
    while let Some(op) = inbox.ops.pop_front() {
        bytes += op.size();
        ops.push(op);
        if bytes >= BATCH_BYTES {
            break;
        }
    }
    ops
}

/// True when the entries before `at` end with a whole batch.
fn is_batch_end(entries: &[index::Entry], at: usize) -> bool {
    at.checked_sub(1).and_then(|last| entries.get(last)).is_some_and(|last| last.ends_batch)
}

/// Makes the index durable; the last record it is then sure to have, when everything was written back.
fn checkpoint(connection: &Connection) -> Result<Option<u64>, StoreError> {
    let known = index::durable(connection)?;
    let (busy, in_log, done): (i64, i64, i64) =
        connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let whole = busy == 0 && done >= in_log;
    if whole && in_log > LONG_JOURNAL {
        // Without it the journal is only begun anew when nothing was written meanwhile.
        connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()))?;
    }
    Ok(whole.then_some(known.sequence))
}

impl<D: Disk> Queue for Embedded<D> {
    fn accept(&self, batch: Vec<NewMessage>) -> Commit<Result<Vec<Accepted>, AcceptError>> {
        self.submit(|answer| Op::Accept(batch, answer), || Err(AcceptError::Closed("the writer has ended".into())))
    }

    fn spool(&self) -> Result<Spool, AcceptError> {
        self.accepting()?;
        self.shared.spool()
    }

    fn heads(&self, channel: ChannelId, now: Timestamp, skip: &Skip) -> [Option<Head>; 3] {
        lock(&self.shared.open).heads(channel, now, skip)
    }

    fn lease(&self, channel: ChannelId, lane: Lane, now: Timestamp, most: u32, skip: &Skip) -> Option<Lease> {
        self.first_readable(|| lock(&self.shared.open).lease(channel, lane, now, most, skip))
    }

    fn lease_expired(&self, wall: Timestamp) -> Option<Lease> {
        self.first_readable(|| lock(&self.shared.open).lease_expired(wall))
    }

    fn next_expiry(&self) -> Option<Timestamp> {
        lock(&self.shared.open).next_expiry()
    }

    fn follow_wall(&self, ahead_ms: i64) {
        let wakes = lock(&self.shared.open).follow_wall(ahead_ms);
        self.shared.wake(&wakes);
    }

    fn ahead(&self, channel: ChannelId, messages: &[MessageId], now: Timestamp) -> Vec<(MessageId, Lane, Ahead)> {
        lock(&self.shared.open).ahead(channel, messages, now)
    }

    fn overdue(&self, channel: ChannelId, before: Timestamp, limit: usize) -> Vec<MessageId> {
        lock(&self.shared.open).overdue(channel, before, limit)
    }

    fn waiting_since(&self, channel: ChannelId, before: Timestamp, limit: usize) -> Vec<MessageId> {
        let (mut found, mut from) = (Vec::new(), 0);
        while lock(&self.shared.open).add_waiting_since(from, COUNT_AT_ONCE, (channel, before), &mut found) {
            from += COUNT_AT_ONCE;
            std::thread::yield_now();
        }
        found.sort_unstable();
        found.truncate(limit);
        found
    }

    fn next_due(&self, channel: ChannelId) -> Option<Timestamp> {
        lock(&self.shared.open).next_due(channel)
    }

    fn next_due_after(&self, channel: ChannelId, now: Timestamp) -> Option<Timestamp> {
        lock(&self.shared.open).next_due_after(channel, now)
    }

    fn body(&self, message: MessageId) -> Result<Body, StoreError> {
        let cached = {
            let open = lock(&self.shared.open);
            match open.cached_body(message) {
                Some(body) => Ok(body),
                None => Err(open.place(message).ok_or(StoreError::Unknown(message))?),
            }
        };
        let body = cached.or_else(|place| self.read_body(message, place))?;
        body.look()?;
        Ok(body)
    }

    fn record(&self, attempt: AttemptRecord) -> Commit<Result<(), StoreError>> {
        self.submit(|answer| Op::Attempt(attempt, answer), closed)
    }

    fn give_back(&self, message: MessageId, recipients: &[u32]) {
        let due = lock(&self.shared.open).give_back(message, recipients);
        self.shared.wake(due.as_slice());
    }

    fn bring_forward(&self, put_off: &[PutOff], due: Timestamp) {
        let wakes: Vec<open_set::Wakeup> = {
            let mut open = lock(&self.shared.open);
            put_off.iter().filter_map(|one| open.bring_forward(one, due)).collect()
        };
        self.shared.wake(&wakes);
    }

    fn steer(&self, order: Steer) -> Commit<Result<Vec<u32>, StoreError>> {
        self.submit(|answer| Op::Steer(order, answer), || Err(StoreError::Closed("the writer has ended".into())))
    }

    fn set_channel_state(&self, channel: ChannelId, state: ChannelState, at: Timestamp) -> Commit<Result<(), StoreError>> {
        self.submit(|answer| Op::Channel(channel, state, at, answer), closed)
    }

    fn channel_states(&self) -> BTreeMap<ChannelId, ChannelState> {
        lock(&self.shared.open).states.clone()
    }

    fn set_lessons(&self, channel: ChannelId, lessons: Lessons, at: Timestamp) -> Commit<Result<(), StoreError>> {
        self.submit(|answer| Op::Lessons(channel, lessons, at, answer), closed)
    }

    fn lessons(&self) -> BTreeMap<ChannelId, Lessons> {
        lock(&self.shared.open).lessons.clone()
    }

    fn set_kept(
        &self,
        channel: ChannelId,
        kept: Kept,
        told: Vec<(EventKind, String)>,
        at: Timestamp,
    ) -> Commit<Result<(), StoreError>> {
        self.submit(|answer| Op::Kept(channel, kept, told, at, answer), closed)
    }

    fn kept(&self) -> BTreeMap<ChannelId, Kept> {
        lock(&self.shared.open).kept.clone()
    }

    fn beat(&self, heartbeat: Heartbeat, credit: Option<Credit>) -> Commit<Result<(), StoreError>> {
        self.submit(|answer| Op::Beat(heartbeat, credit, answer), closed)
    }

    fn is_suppressed(&self, party: Party, address: &str) -> bool {
        let open = lock(&self.shared.open);
        !open.suppressed.is_empty() && open.suppressed.contains(&(party, address.to_owned()))
    }

    fn unsuppress(&self, party: Party, address: &str, by: &str, at: Timestamp) -> Commit<Result<bool, StoreError>> {
        let order = Unsuppress { party, address: address.to_owned(), by: by.to_owned(), at };
        self.submit(|answer| Op::Unsuppress(order, answer), || Err(StoreError::Closed("the writer has ended".into())))
    }

    fn set_waker(&self, waker: Arc<dyn Wake>) {
        *guard(&self.shared.waker) = Some(waker);
        let due = lock(&self.shared.open).all_due();
        self.shared.wake(&due);
    }

    fn totals(&self) -> Totals {
        lock(&self.shared.open).totals
    }

    fn caps(&self) -> MailCaps {
        self.shared.caps
    }

    fn open_mail(&self, holder: Holder) -> OpenMail {
        lock(&self.shared.open).tally.of(holder)
    }

    fn arriving_bytes(&self) -> u64 {
        self.shared.arriving.read()
    }

    fn knows_keys(&self, person: PersonId, key: Option<&str>) -> Result<bool, StoreError> {
        // Asked at each submission over a cap: it must not make the index hurry.
        if guard(&self.shared.outbox).has_key(person, key) {
            return Ok(true);
        }
        self.read_now(|connection| match key {
            Some(key) => Ok(index::key(connection, person, key)?.is_some()),
            None => index::has_keys(connection, person),
        })
    }

    fn accepting(&self) -> Result<(), AcceptError> {
        let inbox = guard(&self.shared.inbox);
        match &inbox.failed {
            Some(why) => Err(AcceptError::Closed(why.clone())),
            None if inbox.closing => Err(AcceptError::Closed("the gateway is stopping".into())),
            None => {
                drop(inbox);
                self.shared.room().map_err(AcceptError::NoSpace)
            }
        }
    }

    fn message(&self, id: MessageId) -> Result<Option<MessageView>, StoreError> {
        self.read(|connection| index::message(connection, id))
    }

    fn raw(&self, id: MessageId) -> Result<Option<Body>, StoreError> {
        if let Some(body) = lock(&self.shared.open).cached_body(id) {
            return Ok(Some(body));
        }
        match self.kept_place(id)? {
            Some(place) => self.read_body(id, place).map(|body| body.look().is_ok().then_some(body)),
            None => Ok(None),
        }
    }

    fn envelope(&self, id: MessageId) -> Result<Option<Envelope>, StoreError> {
        let Some(place) = self.kept_place(id)? else { return Ok(None) };
        let (payload, _) = self.read_record(id, place)?;
        match record::message_in(&payload) {
            Some(meta) => Ok(Some(meta.envelope)),
            None => Err(StoreError::Damaged(format!("the record of {id} is no message"))),
        }
    }

    fn list(&self, filter: &Filter, page: &Page) -> Result<Listing, StoreError> {
        self.read(|connection| {
            let waiting = filter
                .waits
                .as_ref()
                .map(|waits| move || self.waiting(filter, |one| !one.state.is_final() && waits.are_meant(one)));
            let in_states = |states: &[RecipientState]| self.waiting(filter, |one| states.contains(&one.state));
            let waiting = waiting.as_ref().map(|waiting| waiting as &dyn Fn() -> Vec<MessageId>);
            index::list(connection, filter, page, waiting, &in_states, &self.shared.search)
        })
    }

    fn counts(&self, of: &Counted) -> Result<[u64; 9], StoreError> {
        self.read(|connection| index::counts(connection, of))
    }

    fn queue(&self, now: Timestamp, kept_back: &KeptBack) -> Result<Vec<ChannelQueue>, StoreError> {
        let (mut queues, mut from) = (BTreeMap::new(), 0);
        while lock(&self.shared.open).add_queues(from, COUNT_AT_ONCE, now, kept_back, &mut queues) {
            from += COUNT_AT_ONCE;
        }
        Ok(queues.into_values().collect())
    }

    fn events(&self, after: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        self.read(|connection| index::events(connection, after, limit))
    }

    fn events_of(&self, id: MessageId, after: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        self.read(|connection| index::events_of(connection, id, after, limit))
    }

    fn events_of_channel(&self, channel: ChannelId, limit: usize) -> Result<Vec<Event>, StoreError> {
        self.read(|connection| index::events_of_channel(connection, channel, limit))
    }

    fn suppressions(&self, parties: &[Party], after: Option<&str>, limit: usize) -> Result<Vec<Suppression>, StoreError> {
        self.read(|connection| index::suppressions(connection, parties, after, limit))
    }

    fn spent(&self) -> Result<Vec<Spent>, StoreError> {
        self.read(index::spent)
    }

    fn forget_spent(&self, account: &str, before: Timestamp) -> Result<(), StoreError> {
        self.shared.forget(Forget::Spent(account.to_owned(), before));
        Ok(())
    }

    fn close(&self) {
        guard(&self.shared.inbox).closing = true;
        self.shared.inbox_changed.notify_all();
        let threads: Vec<JoinHandle<()>> = guard(&self.threads).drain(..).collect();
        for thread in threads {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
        // Bodies in files know the queue that they are of.
        lock(&self.shared.open).empty_cache();
    }
}

fn closed() -> Result<(), StoreError> {
    Err(StoreError::Closed("the writer has ended".into()))
}

impl<D: Disk> Embedded<D> {
    fn hold_damaged(&self, taken: &open_set::Taken, error: &StoreError) {
        tracing::error!(queue.id = %taken.message, %error, "held: its record cannot be read");
        let (today, at) = {
            let open = lock(&self.shared.open);
            (open.today(), open.wall_at(open.today()))
        };
        let recipients = taken.recipients.iter().map(|recipient| Settled {
            index: recipient.index,
            to: Move::Hold,
            due: today,
            counts: false,
            said: mail::Diagnostic::own(None, format!("its record cannot be read: {error}")),
            cause: None,
            suppress: None,
        });
        let settle = Settlement {
            message: taken.message,
            channel: taken.channel,
            at,
            relay: String::new(),
            spending: Spending::Uncounted,
            recipients: recipients.collect(),
        };
        // Nobody waits for it: the next start would find the same.
        drop(self.record(AttemptRecord { settle: Some(settle), ..AttemptRecord::default() }));
    }
}

impl<D: Disk> Drop for Embedded<D> {
    fn drop(&mut self) {
        self.close();
    }
}
