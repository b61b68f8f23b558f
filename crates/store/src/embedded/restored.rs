//! A queue that was restored from a backup, or copied by hand: another gateway may have sent what is open in it.
//!
//! A file beside the segments says so until every open message is held by a record of the log. Nothing is leased
//! before that. A second file stands there while a restore is filling the folder: such a queue does not open.

use super::core::{Core, Owed, lock};
use super::folder::{give, lock_to_read, read_format};
use super::index::{Entry, Index};
use super::{Embedded, Follower, OpenError, Options, REPLY_MAY_TAKE, guard};
use crate::api::{AttemptRecord, Settled, Settlement, Spend, Spending, Steer, StoreError};
use crate::disk::{Disk, RealDisk};
use mail::pace::Spent;
use mail::{Move, Timestamp};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;

/// Says that what is open must be held, and why.
const MARK: &str = "restored";
/// Says that not everything is there yet.
const FILLING: &str = "restoring";
/// Messages that are held in one batch.
const HOLD_AT_ONCE: usize = 4096;
/// Bytes of a mark, at most.
const LONG_MARK: usize = 200;

/// How the last words about a recipient begin that was held because its queue was restored.
pub const RESTORED: &str = "held by the gateway, because it was restored";

/// Where a queue comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A backup that was taken then.
    Backup(Timestamp),
    /// A folder that was copied by hand and adopted then.
    Copy(Timestamp),
    /// As the mark has it; empty when that was lost.
    Said(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Backup(at) => write!(f, "restored from the backup of {at}"),
            Self::Copy(at) => write!(f, "restored by a copy of its folder, adopted {at}"),
            Self::Said(words) if words.starts_with("restored") => f.write_str(words),
            Self::Said(_) => f.write_str("restored"),
        }
    }
}

/// Marks the queue of a folder whose gateway is stopped: at its next start every open message is held.
///
/// Doing it again changes nothing.
///
/// # Errors
/// In use, no queue, made by another version, or the disk.
pub fn adopt(folder: &Path, now: Timestamp) -> Result<(), OpenError> {
    let io = |error| OpenError::Io { path: folder.to_owned(), error };
    std::fs::metadata(folder.join("log")).map_err(io)?;
    let _lock = lock_to_read(folder)?;
    read_format(folder)?;
    let log = RealDisk::open(&folder.join("log")).map_err(io)?;
    if found(&log, folder)?.is_none() {
        mark(&log, &Origin::Copy(now)).map_err(io)?;
        give(&folder.join("log").join(MARK), &folder.join("log"));
    }
    Ok(())
}

/// True for the folder of a queue into which a restore did not finish.
#[must_use]
pub fn is_unfinished(folder: &Path) -> bool {
    folder.join("log").join(FILLING).exists()
}

/// Fills a new log: whatever happens meanwhile, it does not open, or everything in it is held.
///
/// # Errors
/// Those of `copy`, and the disk's as `told` has them.
pub(crate) fn fill<D: Disk, E>(
    log: &D,
    origin: &Origin,
    told: impl Fn(io::Error) -> E,
    copy: impl FnOnce() -> Result<(), E>,
) -> Result<(), E> {
    log.create(FILLING).and_then(|()| log.sync_folder()).and_then(|()| mark(log, origin)).map_err(&told)?;
    copy()?;
    log.sync_folder().and_then(|()| log.remove(FILLING)).and_then(|()| log.sync_folder()).map_err(&told)
}

/// Removes the marks of a restore that did not end, of a log in which nothing else is.
///
/// # Errors
/// The disk's.
pub(crate) fn take_back_marks(log: &Path) -> io::Result<()> {
    for name in [MARK, FILLING] {
        match std::fs::remove_file(log.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn mark<D: Disk>(log: &D, origin: &Origin) -> io::Result<()> {
    match log.create(MARK) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    log.write_at(MARK, 0, origin.to_string().as_bytes())?;
    log.sync(MARK)?;
    log.sync_folder()
}

/// Whether the queue is to be held, and why.
///
/// # Errors
/// Not everything is there, or the disk.
pub(crate) fn found<D: Disk>(log: &D, folder: &Path) -> Result<Option<Origin>, OpenError> {
    let io = |error| OpenError::Io { path: folder.join("log"), error };
    let names = log.list().map_err(io)?;
    let has = |name: &str| names.iter().any(|one| one == name);
    if has(FILLING) {
        return Err(OpenError::Unfinished(folder.to_owned()));
    }
    if !has(MARK) {
        return Ok(None);
    }
    let bytes = log.read_at(MARK, 0, LONG_MARK).map_err(io)?;
    Ok(Some(Origin::Said(String::from_utf8_lossy(&bytes).trim_matches(['\0', '\n', ' ']).to_owned())))
}

impl<D: Disk> Embedded<D> {
    /// Holds everything that is open, durably, and then forgets that the queue was restored.
    pub(super) fn hold_restored(
        &self,
        core: &mut Core<D>,
        index: &mut Index,
        options: &Options,
        origin: &Origin,
    ) -> io::Result<()> {
        let (count, orders) = restored(core, options, origin);
        tracing::warn!(orders = count, "held: everything that is open, because the queue was {origin}");
        self.write_owed(core, index, orders)?;
        if !core.owed.is_empty() {
            // It must not begin before: mail would leave that was perhaps sent.
            return Err(io::Error::new(io::ErrorKind::StorageFull, "the disk has no room to hold what was restored"));
        }
        self.shared.disk.remove(MARK)?;
        self.shared.disk.sync_folder()
    }

    /// Writes orders that nobody gave, before the threads run. They are made piece by piece, and the index learns each
    /// piece before the next, so that a million of them need no more memory than a few. Without room the rest stays owed.
    pub(super) fn write_owed(
        &self,
        core: &mut Core<D>,
        index: &mut Index,
        orders: impl IntoIterator<Item = Owed>,
    ) -> io::Result<()> {
        let mut orders = orders.into_iter();
        loop {
            core.owed = orders.by_ref().take(HOLD_AT_ONCE).collect();
            if core.owed.is_empty() {
                return Ok(());
            }
            let step = core.step(Vec::new(), Follower { sequence: index.progress().known.sequence, no_space: false });
            if let Some(why) = step.failed {
                return Err(io::Error::other(why));
            }
            self.teach(index, step.entries)?;
            if !core.owed.is_empty() {
                core.owed.extend(orders);
                return Ok(());
            }
        }
    }

    /// Lets the index learn at once; where it has no room, its thread will try again.
    fn teach(&self, index: &mut Index, entries: Vec<Entry>) -> io::Result<()> {
        let mut outbox = guard(&self.shared.outbox);
        if outbox.entries.is_empty() {
            match index.apply(&entries) {
                Err(StoreError::NoSpace(why)) => tracing::warn!(%why, "the index waits for room on the disk"),
                applied => {
                    self.shared.indexed.store(index.progress().known.sequence, Ordering::Relaxed);
                    return applied.map_err(io::Error::other);
                }
            }
        }
        outbox.taken += entries.len() as u64;
        outbox.entries.extend(entries);
        Ok(())
    }
}

/// The orders that hold everything that is open: first what was being handed over, then what waited.
fn restored<D: Disk>(core: &Core<D>, options: &Options, origin: &Origin) -> (usize, impl Iterator<Item = Owed> + use<D>) {
    let (interrupted, queued, steady) = {
        let open = lock(&core.open);
        (open.interrupted(), open.queued_before(u64::MAX), (options.steady)(open.heartbeat.as_ref()))
    };
    let (count, now) = (interrupted.len() + queued.len(), options.now);
    let by = format!("the gateway, because it was {origin}; perhaps it was sent since");
    let said = format!("held by the gateway, because it was {origin} while it was being handed over: perhaps it was sent");
    let handed = interrupted.into_iter().map(move |one| {
        let spending = one.spend.map_or(Spending::Uncounted, |Spend { account, from, units }| {
            Spending::Spent(Spent { account, from, units, age_from: steady.plus(REPLY_MAY_TAKE) })
        });
        let recipients = one.rows.iter().map(|(index, _)| Settled {
            index: *index,
            to: Move::Hold,
            due: steady,
            counts: true,
            said: mail::Diagnostic::own(None, said.clone()),
            cause: Some(mail::Cause::Interrupted),
            suppress: None,
        });
        let settle = Settlement {
            message: one.message,
            channel: one.channel,
            at: now,
            relay: String::new(),
            spending,
            recipients: recipients.collect(),
        };
        Owed::Attempt(AttemptRecord { settle: Some(settle), ..AttemptRecord::default() })
    });
    let waited = queued.into_iter().map(move |message| {
        Owed::Steer(Steer { message, recipients: Vec::new(), to: Move::Hold, channel: None, by: by.clone(), at: now })
    });
    (count, handed.chain(waited))
}

#[cfg(test)]
pub(super) fn mark_for_tests<D: Disk>(log: &D, origin: &Origin) {
    mark(log, origin).expect("the disk of a test");
}
