//! The SQLite index: history, search, and where to begin after a start. It only ever learns what the
//! log already has, in the log's order, and remembers how far it came in the same transaction.

mod beside;
mod carry;
mod columns;
mod counts;
mod list;
mod messages;
mod read;
mod retention;
mod schema;
mod sources;
mod start;

pub(crate) use self::carry::{add_words, ended_keys, spent_after, suppressions_after};
pub(crate) use self::columns::{turned, turned_back};
pub(crate) use self::counts::counts;
pub(crate) use self::list::list;
pub(crate) use self::read::{addresses, events, events_of, events_of_channel, has_keys, key, message, place, spent, suppressions};
pub(crate) use self::schema::Before;
pub(crate) use self::start::Learned;

use super::log::{Known, Position};
use super::open_set::Effects;
use crate::api::{StoreError, Totals};
use mail::MessageId;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use std::path::Path;
use std::time::Duration;

/// How long a connection waits for others.
const BUSY: Duration = Duration::from_secs(20);

/// What to do about an index that is damaged.
const WITHOUT_INDEX: &str = "move index.sqlite and the files beside it that begin with its name away and start again: it is made \
                             anew from the log, which has all that is open; older history is in the last backup";

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull | rusqlite::ErrorCode::ReadOnly) => Self::NoSpace(format!("index: {error}")),
            Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                Self::Io(format!("index: {error}; {WITHOUT_INDEX}"))
            }
            _ => Self::Io(format!("index: {error}")),
        }
    }
}

/// How far the index came.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    pub known: Known,
    pub totals: Totals,
}

/// What one record did, and where the log goes on behind it.
pub(crate) struct Entry {
    pub sequence: u64,
    pub batch: u64,
    pub end: Position,
    /// Only behind a whole batch may the log be read again from `end`.
    pub ends_batch: bool,
    pub effects: Effects,
}

/// What is known of an idempotency key.
#[derive(Clone, Debug)]
pub(crate) struct KnownKey {
    pub fingerprint: [u8; 32],
    pub parts: bool,
    pub first: MessageId,
    pub recipients: Vec<String>,
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "cache_size", -8192)?;
    // What is written over is gone, so that what is forgotten is.
    connection.query_row("PRAGMA secure_delete = FAST", [], |_| Ok(()))?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// The one connection that writes.
pub(crate) struct Index {
    connection: Connection,
    progress: Progress,
}

impl Index {
    /// Opens an index, or begins one. One of an earlier version is kept beside it, or not, and becomes one of this.
    pub(crate) fn open(path: &Path, before: Before) -> Result<Self, StoreError> {
        let connection = Connection::open(path)?;
        configure(&connection)?;
        schema::prepare(&connection, before)?;
        let progress = progress(&connection)?;
        Ok(Self { connection, progress })
    }

    pub(crate) fn progress(&self) -> Progress {
        self.progress
    }

    /// Learns records, all in one transaction.
    ///
    /// # Errors
    /// Nothing was learned then; `NoSpace` when trying again may help.
    pub(crate) fn apply(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        let Some(last) = entries.last() else { return Ok(()) };
        let known = Known { position: last.end, sequence: last.sequence, batch: last.batch };
        let mut progress = Progress { known, totals: self.progress.totals };
        let transaction = self.connection.transaction()?;
        messages::write_entries(&transaction, entries, &mut progress.totals)?;
        transaction.prepare_cached("INSERT OR REPLACE INTO progress VALUES (1, ?1, ?2, ?3, ?4, ?5)")?.execute(params![
            known.position.segment,
            known.position.offset,
            known.sequence as i64,
            known.batch as i64,
            totals_bytes(&progress.totals)
        ])?;
        transaction.commit()?;
        self.progress = progress;
        Ok(())
    }
}

/// A connection that only reads.
pub(crate) fn reader(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(path, flags)?;
    configure(&connection)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

/// Empties the journal, so that nothing is left in it of what was written over; false while somebody reads. Nothing is
/// written meanwhile, for as long as `patience` at most.
pub(crate) fn empty_journal(connection: &Connection, patience: Duration) -> Result<bool, StoreError> {
    // Most of it goes while others write.
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
    connection.busy_timeout(patience)?;
    let busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
    connection.busy_timeout(BUSY)?;
    Ok(busy? == 0)
}

/// How far the index of a connection came, as of now: place and sequence.
pub(crate) fn durable(connection: &Connection) -> Result<Known, StoreError> {
    progress(connection).map(|progress| progress.known)
}

fn progress(connection: &Connection) -> Result<Progress, StoreError> {
    let found = connection
        .query_row("SELECT segment, offset, sequence, batch, totals FROM progress", [], |row| {
            let position = Position { segment: row.get(0)?, offset: row.get(1)? };
            let known = Known { position, sequence: row.get::<_, i64>(2)? as u64, batch: row.get::<_, i64>(3)? as u64 };
            Ok(Progress { known, totals: totals_from(&row.get::<_, Vec<u8>>(4)?) })
        })
        .optional()?;
    Ok(found.unwrap_or_default())
}

fn totals_bytes(totals: &Totals) -> Vec<u8> {
    std::iter::once(totals.accepted).chain(totals.by_state).flat_map(u64::to_le_bytes).collect()
}

fn totals_from(bytes: &[u8]) -> Totals {
    let mut numbers = bytes.chunks_exact(8).map(|eight| u64::from_le_bytes(eight.try_into().expect("eight bytes")));
    let accepted = numbers.next().unwrap_or(0);
    let mut by_state = [0; 9];
    by_state.iter_mut().for_each(|count| *count = numbers.next().unwrap_or(0));
    Totals { accepted, by_state, open_messages: 0, open_bytes: 0 }
}
