//! The SQLite index: history, search, and where to begin after a start. It only ever learns what the
//! log already has, in the log's order, and remembers how far it came in the same transaction.

use super::log::{Known, Position};
use super::open_set::{Change, Effects, Place, Row, SegmentUse, Standing, UNENDING, UNSCHEDULED};
use super::record::{
    Base, CarriedKey, Meta, StoodRow, addresses_bytes, addresses_from, channel_state_bytes, channel_state_from, heartbeat_bytes,
    heartbeat_from, kept_bytes, kept_from, lane_code, lane_of, lessons_bytes, lessons_from, party_numbers, party_of, surface_code,
    surface_of, tags_bytes, tags_from,
};
use crate::api::{Filter, Listing, MessageView, Page, Party, RecipientView, Spend, StoreError, Suppression, Totals};
use crate::body::FileId;
use mail::channel::{ChannelState, Kept};
use mail::pace::{FromId, Lessons, Spent, Units};
use mail::steady::{Credit, Heartbeat};
use mail::{ChannelId, Event, EventKind, MessageId, PersonId, RecipientState, TeamId, Timestamp, TokenId};
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row as SqlRow, Transaction, params, params_from_iter};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

const FORMAT: i64 = 4;

/// What format 4 added: the times of a message, and when it was accepted by the steady clock.
const FROM_3_TO_4: &str = "
ALTER TABLE messages ADD COLUMN since INTEGER NOT NULL DEFAULT 0;
ALTER TABLE messages ADD COLUMN scheduled_at INTEGER;
ALTER TABLE messages ADD COLUMN expires_at INTEGER;
UPDATE messages SET since = at;
";

/// Rows that are forgotten in one transaction.
const FORGET_AT_ONCE: i64 = 500;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS progress (one INTEGER PRIMARY KEY CHECK (one = 1), segment INTEGER NOT NULL, offset INTEGER NOT NULL,
  sequence INTEGER NOT NULL, batch INTEGER NOT NULL, totals BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS messages (id BLOB PRIMARY KEY, open INTEGER NOT NULL, at INTEGER NOT NULL, person INTEGER NOT NULL, team INTEGER,
  token INTEGER, surface INTEGER NOT NULL, channel INTEGER NOT NULL, lane INTEGER NOT NULL, lane_reason TEXT NOT NULL, retry_of BLOB,
  reverse_path TEXT NOT NULL, author TEXT NOT NULL,
  sender TEXT NOT NULL, subject TEXT NOT NULL, message_id TEXT NOT NULL, tags BLOB NOT NULL, segment INTEGER NOT NULL,
  offset INTEGER NOT NULL, length INTEGER NOT NULL, body_at INTEGER NOT NULL, arrival INTEGER NOT NULL,
  since INTEGER NOT NULL DEFAULT 0, scheduled_at INTEGER, expires_at INTEGER) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS messages_open ON messages (id) WHERE open = 1;
CREATE INDEX IF NOT EXISTS messages_person ON messages (person);
CREATE INDEX IF NOT EXISTS messages_channel ON messages (channel);
CREATE TABLE IF NOT EXISTS recipients (message BLOB NOT NULL, place INTEGER NOT NULL, address TEXT NOT NULL, state INTEGER NOT NULL,
  intended INTEGER NOT NULL, since INTEGER NOT NULL, attempts INTEGER NOT NULL, doubts INTEGER NOT NULL, due INTEGER NOT NULL,
  first_attempt INTEGER NOT NULL, said TEXT NOT NULL, relay TEXT NOT NULL, PRIMARY KEY (message, place)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS recipients_address ON recipients (address, message);
CREATE TABLE IF NOT EXISTS segments (segment INTEGER PRIMARY KEY, first_ended INTEGER NOT NULL, last_ended INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS recipients_ended ON recipients (state, message) WHERE state > 3 AND state < 8;
CREATE TABLE IF NOT EXISTS events (sequence INTEGER PRIMARY KEY, at INTEGER NOT NULL, kind INTEGER NOT NULL, message BLOB, recipient INTEGER,
  channel INTEGER, detail TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS events_message ON events (message, sequence) WHERE message IS NOT NULL;
CREATE TABLE IF NOT EXISTS keys (person INTEGER NOT NULL, key TEXT NOT NULL, message BLOB NOT NULL, fingerprint BLOB NOT NULL,
  parts INTEGER NOT NULL, at INTEGER NOT NULL, addresses BLOB, PRIMARY KEY (person, key, message)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS bodies (file BLOB PRIMARY KEY, message BLOB NOT NULL, segment INTEGER NOT NULL, length INTEGER NOT NULL,
  resting INTEGER) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS bodies_message ON bodies (message);
CREATE TABLE IF NOT EXISTS channels (channel INTEGER PRIMARY KEY, state BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS events_channel ON events (channel, sequence) WHERE message IS NULL;
CREATE INDEX IF NOT EXISTS events_of_channels ON events (at) WHERE message IS NULL AND channel IS NOT NULL;
CREATE TABLE IF NOT EXISTS lessons (channel INTEGER PRIMARY KEY, lessons BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS kept (channel INTEGER PRIMARY KEY, kept BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS heartbeat (one INTEGER PRIMARY KEY CHECK (one = 1), clocks BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS spending (message BLOB PRIMARY KEY, account TEXT NOT NULL, sender TEXT NOT NULL, messages INTEGER NOT NULL,
  recipients INTEGER NOT NULL, bytes INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spent (sequence INTEGER PRIMARY KEY, account TEXT NOT NULL, age_from INTEGER NOT NULL, sender TEXT NOT NULL,
  messages INTEGER NOT NULL, recipients INTEGER NOT NULL, bytes INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS spent_account ON spent (account, age_from);
CREATE TABLE IF NOT EXISTS suppressions (address TEXT NOT NULL, kind INTEGER NOT NULL, party INTEGER NOT NULL, reason TEXT NOT NULL,
  origin BLOB NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (address, kind, party)) WITHOUT ROWID;
";

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull | rusqlite::ErrorCode::ReadOnly) => Self::NoSpace(format!("index: {error}")),
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
    connection.busy_timeout(std::time::Duration::from_secs(20))?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// The one connection that writes.
pub(crate) struct Index {
    connection: Connection,
    progress: Progress,
}

impl Index {
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let connection = Connection::open(path)?;
        configure(&connection)?;
        let format: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if format > FORMAT {
            return Err(StoreError::Io(format!(
                "the index has format {format}; this version knows {FORMAT}: use the newer program"
            )));
        }
        let transaction = connection.unchecked_transaction()?;
        if format == 3 {
            transaction.execute_batch(FROM_3_TO_4)?;
        }
        transaction.execute_batch(SCHEMA)?;
        transaction.pragma_update(None, "user_version", FORMAT)?;
        transaction.commit()?;
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
        write_entries(&transaction, entries, &mut progress.totals)?;
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

    /// Forgets keys older than `before` whose messages are done.
    pub(crate) fn forget_keys(&self, before: Timestamp) -> Result<(), StoreError> {
        self.connection.execute(
            "DELETE FROM keys WHERE at < ?1 AND NOT EXISTS (SELECT 1 FROM messages WHERE id = keys.message AND open = 1)",
            [before.0],
        )?;
        Ok(())
    }

    /// Forgets what an account spent before a moment.
    pub(crate) fn forget_spent(&self, account: &str, before: Timestamp) -> Result<(), StoreError> {
        self.connection.execute("DELETE FROM spent WHERE account = ?1 AND age_from < ?2", params![account, before.0])?;
        Ok(())
    }

    /// Gives every open message to `each`.
    pub(crate) fn load_open(&self, mut each: impl FnMut(Standing, Vec<Row>)) -> Result<(), StoreError> {
        let mut statement = self.connection.prepare(
            "SELECT m.id, m.segment, m.offset, m.length, m.body_at, m.channel, m.at, r.state, r.intended, r.attempts, r.doubts, r.due, r.first_attempt,
             m.lane, m.team, m.person, m.author, m.arrival, m.since, m.scheduled_at, m.expires_at
             FROM messages m INDEXED BY messages_open JOIN recipients r ON r.message = m.id WHERE m.open = 1 ORDER BY m.id, r.place",
        )?;
        let mut rows = statement.query([])?;
        let mut open: Option<Standing> = None;
        let mut recipients = Vec::new();
        while let Some(row) = rows.next()? {
            let id = id_at(row, 0)?;
            if let Some(done) = open.take_if(|known| known.id != id) {
                each(done, std::mem::take(&mut recipients));
            }
            if open.is_none() {
                open = Some(standing_at(row, id)?);
            }
            recipients.push(row_at(row)?);
        }
        if let Some(done) = open {
            each(done, recipients);
        }
        Ok(())
    }

    fn by_channel<T>(&self, sql: &str, decode: fn(&[u8]) -> Option<T>) -> Result<BTreeMap<ChannelId, T>, StoreError> {
        let mut statement = self.connection.prepare(sql)?;
        let rows = statement.query_map([], |row| Ok((ChannelId(row.get(0)?), row.get::<_, Vec<u8>>(1)?)))?;
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        Ok(rows.into_iter().filter_map(|(channel, bytes)| Some((channel, decode(&bytes)?))).collect())
    }

    pub(crate) fn lessons(&self) -> Result<BTreeMap<ChannelId, Lessons>, StoreError> {
        self.by_channel("SELECT channel, lessons FROM lessons", lessons_from)
    }

    pub(crate) fn kept(&self) -> Result<BTreeMap<ChannelId, Kept>, StoreError> {
        self.by_channel("SELECT channel, kept FROM kept", kept_from)
    }

    pub(crate) fn heartbeat(&self) -> Result<Option<Heartbeat>, StoreError> {
        let found = self.connection.query_row("SELECT clocks FROM heartbeat", [], |row| row.get::<_, Vec<u8>>(0)).optional()?;
        Ok(found.and_then(|bytes| heartbeat_from(&bytes)))
    }

    /// What open transactions spend.
    pub(crate) fn spending(&self) -> Result<HashMap<MessageId, Spend>, StoreError> {
        let mut statement =
            self.connection.prepare("SELECT message, account, sender, messages, recipients, bytes FROM spending")?;
        let rows = statement.query_map([], |row| {
            let units = units_at(row, 3)?;
            let spend = Spend { account: row.get::<_, String>(1)?.into(), from: row.get::<_, String>(2)?.into(), units };
            Ok((id_at(row, 0)?, spend))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Everybody's suppressed addresses.
    pub(crate) fn suppressed(&self) -> Result<std::collections::BTreeSet<(Party, String)>, StoreError> {
        let mut statement = self.connection.prepare("SELECT kind, party, address FROM suppressions")?;
        let rows = statement.query_map([], |row| Ok((party_of(row.get(0)?, row.get(1)?), row.get::<_, String>(2)?)))?;
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        Ok(rows.into_iter().filter_map(|(party, address)| party.map(|party| (party, address))).collect())
    }

    pub(crate) fn channel_states(&self) -> Result<BTreeMap<ChannelId, ChannelState>, StoreError> {
        self.by_channel("SELECT channel, state FROM channels", channel_state_from)
    }

    /// The file of a large body of each open message, with its length.
    pub(crate) fn open_bodies(&self) -> Result<HashMap<MessageId, (FileId, u64)>, StoreError> {
        let mut statement = self
            .connection
            .prepare("SELECT b.message, b.file, b.length FROM bodies b JOIN messages m ON m.id = b.message WHERE m.open = 1")?;
        let rows = statement.query_map([], |row| Ok((id_at(row, 0)?, (row.get(1)?, row.get::<_, i64>(2)?.unsigned_abs()))))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Since when the file of a body rests whose message has ended, and the segment of its record; `None` for a file
    /// that nobody will ask for.
    pub(crate) fn resting(&self, file: FileId) -> Result<Option<(Timestamp, u32)>, StoreError> {
        let mut statement =
            self.connection.prepare_cached("SELECT resting, segment FROM bodies WHERE file = ?1 AND resting IS NOT NULL")?;
        Ok(statement.query_row([file], |row| Ok((Timestamp(row.get(0)?), row.get(1)?))).optional()?)
    }

    /// When mail of each segment ended, the first and the last.
    pub(crate) fn segments(&self) -> Result<BTreeMap<u32, SegmentUse>, StoreError> {
        let mut statement = self.connection.prepare("SELECT segment, first_ended, last_ended FROM segments")?;
        let rows = statement.query_map([], |row| {
            let ended = Some((Timestamp(row.get(1)?), Timestamp(row.get(2)?)));
            Ok((row.get(0)?, SegmentUse { ended, ..SegmentUse::default() }))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Forgets segments before `below`: they are gone.
    pub(crate) fn forget_segments(&self, below: u32) -> Result<(), StoreError> {
        self.connection.execute("DELETE FROM segments WHERE segment < ?1", [below])?;
        Ok(())
    }

    /// Forgets some mail that was accepted before a moment and has ended before it, and events of that time; false when
    /// there is none left.
    pub(crate) fn forget_history(&self, before: Timestamp) -> Result<bool, StoreError> {
        let newest = MessageId::new(before, [0; 10]);
        let transaction = self.connection.unchecked_transaction()?;
        let old = {
            let mut statement = transaction.prepare_cached(
                "SELECT id FROM messages WHERE id < ?1 AND open = 0
                 AND NOT EXISTS (SELECT 1 FROM recipients WHERE message = id AND since >= ?2) LIMIT ?3",
            )?;
            let rows = statement.query_map(params![newest.0, before.0, FORGET_AT_ONCE], |row| id_at(row, 0))?;
            rows.collect::<Result<Vec<_>, _>>()?
        };
        for id in &old {
            for sql in [
                "DELETE FROM recipients WHERE message = ?1",
                "DELETE FROM events WHERE message = ?1",
                "DELETE FROM bodies WHERE message = ?1",
                "DELETE FROM messages WHERE id = ?1",
            ] {
                transaction.prepare_cached(sql)?.execute([id.0])?;
            }
        }
        let events = transaction
            .prepare_cached(
                "DELETE FROM events WHERE sequence IN (SELECT sequence FROM events WHERE message IS NULL AND channel IS NOT NULL
                 AND at < ?1 LIMIT ?2)",
            )?
            .execute(params![before.0, FORGET_AT_ONCE])?;
        transaction.commit()?;
        Ok(!old.is_empty() || events > 0)
    }
}

/// What the index says on its own, for the check.
pub(crate) struct Learned {
    /// The last record it knows.
    pub sequence: u64,
    /// Open messages, with the states of their recipients.
    pub open: Vec<(MessageId, Vec<RecipientState>)>,
}

impl Learned {
    /// Reads an index without changing it.
    pub(crate) fn read(path: &Path) -> Result<Self, StoreError> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let sequence = progress(&connection)?.known.sequence;
        let mut statement = connection.prepare(
            "SELECT m.id, r.state FROM messages m JOIN recipients r ON r.message = m.id WHERE m.open = 1 ORDER BY m.id, r.place",
        )?;
        let rows = statement.query_map([], |row| Ok((id_at(row, 0)?, state_at(row, 1)?)))?;
        let mut open: Vec<(MessageId, Vec<RecipientState>)> = Vec::new();
        for row in rows {
            let (id, state) = row?;
            match open.last_mut().filter(|(last, _)| *last == id) {
                Some((_, states)) => states.push(state),
                None => open.push((id, vec![state])),
            }
        }
        Ok(Self { sequence, open })
    }
}

/// How far the index of a connection came, as of now: place and sequence.
pub(crate) fn durable(connection: &Connection) -> Result<Known, StoreError> {
    progress(connection).map(|progress| progress.known)
}

/// Keys of ended mail behind one of them, in their order.
pub(crate) fn ended_keys(
    connection: &Connection,
    after: &(PersonId, String, MessageId),
    limit: usize,
) -> Result<Vec<CarriedKey>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT person, key, message, fingerprint, parts, at, addresses FROM keys WHERE (person, key, message) > (?1, ?2, ?3)
         AND NOT EXISTS (SELECT 1 FROM messages WHERE id = keys.message AND open = 1) ORDER BY person, key, message LIMIT ?4",
    )?;
    let (person, key, message) = after;
    let rows = statement.query_map(params![person.0, key, message.0, limit as i64], |row| {
        let addresses = row.get::<_, Option<Vec<u8>>>(6)?;
        Ok(CarriedKey {
            person: PersonId(row.get(0)?),
            key: row.get(1)?,
            message: id_at(row, 2)?,
            fingerprint: row.get(3)?,
            parts: row.get(4)?,
            at: Timestamp(row.get(5)?),
            recipients: addresses.map(|bytes| addresses_from(&bytes)).unwrap_or_default(),
        })
    })?;
    let mut keys = rows.collect::<Result<Vec<_>, _>>()?;
    for key in keys.iter_mut().filter(|key| key.recipients.is_empty()) {
        key.recipients = addresses(connection, key.message)?;
    }
    Ok(keys)
}

fn addresses(connection: &Connection, message: MessageId) -> Result<Vec<String>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT address FROM recipients WHERE message = ?1")?;
    let rows = statement.query_map([message.0], |row| row.get::<_, String>(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// What was spent, with the sequence of the record that says so, behind one of them.
pub(crate) fn spent_after(connection: &Connection, after: u64, limit: usize) -> Result<Vec<(u64, Spent)>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT account, age_from, sender, messages, recipients, bytes, sequence FROM spent WHERE sequence > ?1 ORDER BY sequence LIMIT ?2",
    )?;
    let rows = statement
        .query_map(params![after as i64, limit as i64], |row| Ok((row.get::<_, i64>(6)?.unsigned_abs(), spent_at(row)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Adds to the rows of a snapshot when they came to their state, and the last words about them.
pub(crate) fn add_words(connection: &Connection, id: MessageId, rows: &mut [StoodRow]) -> Result<(), StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT place, since, said, relay FROM recipients WHERE message = ?1 ORDER BY place")?;
    let mut found = statement.query([id.0])?;
    while let Some(row) = found.next()? {
        if let Some(stood) = rows.get_mut(row.get::<_, u32>(0)? as usize) {
            stood.since = Timestamp(row.get(1)?);
            stood.said = row.get(2)?;
            stood.relay = row.get(3)?;
        }
    }
    Ok(())
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

/// A message of this transaction, written once, in its last state.
struct Fresh<'a> {
    meta: &'a Meta,
    arrival: u64,
    place: Place,
    changes: HashMap<u32, Change>,
    channel: ChannelId,
}

fn write_entries(transaction: &Transaction<'_>, entries: &[Entry], totals: &mut Totals) -> Result<(), StoreError> {
    let mut fresh: HashMap<MessageId, Fresh<'_>> = HashMap::new();
    let mut order = Vec::new();
    let mut touched = Vec::new();
    // Many messages of one segment end in a transaction: each segment is written once.
    let mut ended: BTreeMap<u32, (Timestamp, Timestamp)> = BTreeMap::new();
    for entry in entries {
        if let Some((segment, at)) = entry.effects.ended_in {
            let (first, last) = ended.entry(segment).or_insert((at, at));
            (*first, *last) = ((*first).min(at), (*last).max(at));
        }
        let Effects { new, changes, facts, channel, rerouted, accepted, moved, .. } = &entry.effects;
        write_rest(transaction, entry)?;
        totals.accepted += *accepted;
        totals.by_state[0] += *accepted;
        for (from, to) in moved {
            totals.by_state[usize::from(from.code())] = totals.by_state[usize::from(from.code())].saturating_sub(1);
            totals.by_state[usize::from(to.code())] += 1;
        }
        if let Some((meta, place)) = new {
            order.push(meta.id);
            let (arrival, channel) = (entry.effects.order, meta.channel);
            fresh.insert(meta.id, Fresh { meta, arrival, place: *place, changes: HashMap::new(), channel });
        }
        for change in changes {
            match fresh.get_mut(&change.message) {
                Some(message) => merge(message, change.clone()),
                None => {
                    touched.push(change.message);
                    update_recipient(transaction, change)?;
                }
            }
        }
        if let Some((message, channel)) = rerouted {
            match fresh.get_mut(message) {
                Some(message) => message.channel = *channel,
                None => {
                    transaction
                        .prepare_cached("UPDATE messages SET channel = ?2 WHERE id = ?1")?
                        .execute(params![message.0, channel.0])?;
                }
            }
        }
        if let Some((message, place)) = &entry.effects.relocated {
            match fresh.get_mut(message) {
                Some(message) => message.place = *place,
                None => relocate(transaction, *message, *place)?,
            }
        }
        if let Some(base) = &entry.effects.base {
            totals.accepted = base.totals.accepted;
            totals.by_state = base.totals.by_state;
            write_base(transaction, base)?;
        }
        if let Some((channel, state)) = channel {
            write_state(transaction, *channel, state)?;
        }
        for (place, fact) in facts.iter().enumerate() {
            let sequence = (entry.sequence << 12 | place as u64) as i64;
            transaction.prepare_cached("INSERT OR REPLACE INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?.execute(params![
                sequence,
                fact.at.0,
                fact.kind.code(),
                fact.message.map(|id| id.0),
                fact.recipient,
                fact.channel.map(|channel| channel.0),
                fact.detail
            ])?;
        }
    }
    for id in order {
        if let Some(message) = fresh.remove(&id) {
            insert_message(transaction, &message)?;
        }
    }
    for (file, at) in entries.iter().filter_map(|entry| entry.effects.resting) {
        transaction.prepare_cached("UPDATE bodies SET resting = ?2 WHERE file = ?1")?.execute(params![file, at.0])?;
    }
    for (segment, (first, last)) in ended {
        transaction
            .prepare_cached(
                "INSERT INTO segments VALUES (?1, ?2, ?3) ON CONFLICT (segment)
                 DO UPDATE SET first_ended = MIN(first_ended, ?2), last_ended = MAX(last_ended, ?3)",
            )?
            .execute(params![segment, first.0, last.0])?;
    }
    touched.sort_unstable();
    touched.dedup();
    for id in touched {
        transaction
            .prepare_cached("UPDATE messages SET open = 0 WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM recipients WHERE message = ?1 AND state <= 2)")?
            .execute([id.0])?;
    }
    Ok(())
}

fn relocate(transaction: &Transaction<'_>, message: MessageId, place: Place) -> Result<(), StoreError> {
    transaction
        .prepare_cached("UPDATE messages SET segment = ?2, offset = ?3, length = ?4, body_at = ?5 WHERE id = ?1")?
        .execute(params![message.0, place.position.segment, place.position.offset, place.payload_length, place.body_at])?;
    transaction
        .prepare_cached("UPDATE bodies SET segment = ?2 WHERE message = ?1")?
        .execute(params![message.0, place.position.segment])?;
    Ok(())
}

fn write_state(transaction: &Transaction<'_>, channel: ChannelId, state: &ChannelState) -> Result<(), StoreError> {
    let mut write = transaction.prepare_cached("INSERT OR REPLACE INTO channels VALUES (?1, ?2)")?;
    write.execute(params![channel.0, channel_state_bytes(state)])?;
    Ok(())
}

fn write_lessons(transaction: &Transaction<'_>, channel: ChannelId, lessons: &Lessons) -> Result<(), StoreError> {
    let mut write = transaction.prepare_cached("INSERT OR REPLACE INTO lessons VALUES (?1, ?2)")?;
    write.execute(params![channel.0, lessons_bytes(lessons)])?;
    Ok(())
}

fn write_heartbeat(transaction: &Transaction<'_>, heartbeat: &Heartbeat) -> Result<(), StoreError> {
    transaction.prepare_cached("INSERT OR REPLACE INTO heartbeat VALUES (1, ?1)")?.execute([heartbeat_bytes(heartbeat)])?;
    Ok(())
}

fn write_kept(transaction: &Transaction<'_>, channel: ChannelId, kept: &Kept) -> Result<(), StoreError> {
    transaction.prepare_cached("INSERT OR REPLACE INTO kept VALUES (?1, ?2)")?.execute(params![channel.0, kept_bytes(kept)])?;
    Ok(())
}

fn write_base(transaction: &Transaction<'_>, base: &Base) -> Result<(), StoreError> {
    for (channel, state) in &base.states {
        write_state(transaction, *channel, state)?;
    }
    for (channel, lessons) in &base.lessons {
        write_lessons(transaction, *channel, lessons)?;
    }
    for (channel, kept) in &base.kept {
        write_kept(transaction, *channel, kept)?;
    }
    if let Some(heartbeat) = &base.heartbeat {
        write_heartbeat(transaction, heartbeat)?;
    }
    Ok(())
}

/// What is written again of ended mail: where it is known, it stays as it is.
fn write_carried(transaction: &Transaction<'_>, effects: &Effects) -> Result<(), StoreError> {
    for CarriedKey { person, key, message, fingerprint, parts, at, recipients } in &effects.keys {
        transaction.prepare_cached("INSERT OR IGNORE INTO keys VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?.execute(params![
            person.0,
            key,
            message.0,
            fingerprint,
            parts,
            at.0,
            addresses_bytes(recipients)
        ])?;
    }
    for (sequence, spent) in &effects.carried_spent {
        write_spent(transaction, "INSERT OR IGNORE", *sequence, spent)?;
    }
    Ok(())
}

fn write_spent(transaction: &Transaction<'_>, verb: &str, sequence: u64, spent: &Spent) -> Result<(), StoreError> {
    let Spent { account, from, units, age_from } = spent;
    transaction.prepare_cached(&format!("{verb} INTO spent VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"))?.execute(params![
        sequence as i64,
        account,
        age_from.0,
        from,
        units.messages,
        units.recipients,
        units.bytes as i64
    ])?;
    Ok(())
}

/// What a record did beside messages and channels.
fn write_rest(transaction: &Transaction<'_>, entry: &Entry) -> Result<(), StoreError> {
    let Effects { lessons, kept, heartbeat, credit, spending, spent, suppressed, unsuppressed, .. } = &entry.effects;
    if let Some((channel, lessons)) = lessons {
        write_lessons(transaction, *channel, lessons)?;
    }
    if let Some((channel, kept)) = kept {
        write_kept(transaction, *channel, kept)?;
    }
    if let Some(heartbeat) = heartbeat {
        write_heartbeat(transaction, heartbeat)?;
    }
    if let Some(Credit { before, by }) = credit {
        transaction
            .prepare_cached("UPDATE spent SET age_from = age_from - ?2 WHERE age_from < ?1")?
            .execute(params![before.0, by.as_millis() as i64])?;
    }
    match spending {
        None => {}
        Some((message, None)) => {
            transaction.prepare_cached("DELETE FROM spending WHERE message = ?1")?.execute([message.0])?;
        }
        Some((message, Some(Spend { account, from, units }))) => {
            transaction.prepare_cached("INSERT OR REPLACE INTO spending VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute(params![
                message.0,
                account,
                from,
                units.messages,
                units.recipients,
                units.bytes as i64
            ])?;
        }
    }
    if let Some(spent) = spent {
        write_spent(transaction, "INSERT OR REPLACE", entry.sequence, spent)?;
    }
    write_carried(transaction, &entry.effects)?;
    for Suppression { party, address, reason, origin, at } in suppressed {
        let (kind, id) = party_numbers(*party);
        transaction
            .prepare_cached("INSERT OR IGNORE INTO suppressions VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
            .execute(params![address, kind, id, reason, origin.0, at.0])?;
    }
    if let Some((party, address)) = unsuppressed {
        let (kind, id) = party_numbers(*party);
        transaction
            .prepare_cached("DELETE FROM suppressions WHERE address = ?1 AND kind = ?2 AND party = ?3")?
            .execute(params![address, kind, id])?;
    }
    Ok(())
}

fn merge(message: &mut Fresh<'_>, mut change: Change) {
    if let Some(before) = message.changes.remove(&change.index) {
        change.said = change.said.or(before.said);
        change.relay = change.relay.or(before.relay);
    }
    message.changes.insert(change.index, change);
}

fn insert_message(transaction: &Transaction<'_>, message: &Fresh<'_>) -> Result<(), StoreError> {
    let meta = message.meta;
    let count = meta.envelope.recipients.len();
    let closed = message.changes.len() == count && message.changes.values().all(|change| change.state.is_final());
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO messages VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25)",
        )?
        .execute(params![
            meta.id.0,
            !closed,
            meta.at.0,
            meta.person.0,
            meta.team.map(|team| team.0),
            meta.token.map(|token| token.0),
            surface_code(meta.surface),
            message.channel.0,
            lane_code(meta.lane),
            meta.lane_reason,
            meta.retry_of.map(|id| id.0),
            meta.envelope.reverse_path.to_string(),
            meta.author,
            meta.from,
            meta.subject,
            meta.message_id,
            tags_bytes(&meta.tags),
            message.place.position.segment,
            message.place.position.offset,
            message.place.payload_length,
            message.place.body_at,
            message.arrival as i64,
            meta.due.0,
            meta.scheduled_at.map(|at| at.0),
            meta.expires_at.map(|at| at.0)
        ])?;
    if let Some(rest) = &meta.rest {
        transaction.prepare_cached("INSERT OR REPLACE INTO bodies VALUES (?1, ?2, ?3, ?4, NULL)")?.execute(params![
            rest.id,
            meta.id.0,
            message.place.position.segment,
            rest.length as i64
        ])?;
    }
    let due = meta.due;
    for (index, recipient) in meta.envelope.recipients.iter().enumerate() {
        let address = recipient.path.to_string().to_lowercase();
        let mut insert = transaction
            .prepare_cached("INSERT OR REPLACE INTO recipients VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)")?;
        match message.changes.get(&(index as u32)) {
            Some(change) => insert.execute(params![
                meta.id.0,
                index as u32,
                address,
                change.state.code(),
                change.intended,
                change.since.0,
                change.attempts,
                change.doubts,
                change.due.0,
                change.first_attempt.0,
                change.said.as_deref().unwrap_or_default(),
                change.relay.as_deref().unwrap_or_default()
            ])?,
            None => insert.execute(params![meta.id.0, index as u32, address, 0, false, meta.at.0, 0, 0, due.0, 0, "", ""])?,
        };
    }
    if let Some(key) = &meta.idempotency {
        transaction.prepare_cached("INSERT OR REPLACE INTO keys VALUES (?1, ?2, ?3, ?4, ?5, ?6, NULL)")?.execute(params![
            meta.person.0,
            key.key,
            meta.id.0,
            key.fingerprint,
            key.parts,
            meta.at.0
        ])?;
    }
    Ok(())
}

fn update_recipient(transaction: &Transaction<'_>, change: &Change) -> Result<(), StoreError> {
    transaction
        .prepare_cached(
            "UPDATE recipients SET state = ?3, intended = ?4, since = ?5, attempts = ?6, doubts = ?7, due = ?8, first_attempt = ?9,
             said = COALESCE(?10, said), relay = COALESCE(?11, relay) WHERE message = ?1 AND place = ?2",
        )?
        .execute(params![
            change.message.0,
            change.index,
            change.state.code(),
            change.intended,
            change.since.0,
            change.attempts,
            change.doubts,
            change.due.0,
            change.first_attempt.0,
            change.said,
            change.relay
        ])?;
    Ok(())
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

fn id_at(row: &SqlRow<'_>, column: usize) -> rusqlite::Result<MessageId> {
    Ok(MessageId(row.get(column)?))
}

fn place_at(row: &SqlRow<'_>, column: usize) -> rusqlite::Result<Place> {
    Ok(Place {
        position: Position { segment: row.get(column)?, offset: row.get(column + 1)? },
        payload_length: row.get(column + 2)?,
        body_at: row.get(column + 3)?,
    })
}

fn standing_at(row: &SqlRow<'_>, id: MessageId) -> rusqlite::Result<Standing> {
    Ok(Standing {
        id,
        place: place_at(row, 1)?,
        channel: ChannelId(row.get(5)?),
        accepted_at: Timestamp(row.get(6)?),
        lane: lane_of(row.get(13)?).unwrap_or_default(),
        team: row.get::<_, Option<u32>>(14)?.map(TeamId),
        person: PersonId(row.get(15)?),
        from: FromId::of(row.get_ref(16)?.as_str()?),
        order: row.get::<_, i64>(17)?.unsigned_abs(),
        since: Timestamp(row.get(18)?),
        scheduled_at: time_at(row, 19)?.unwrap_or(UNSCHEDULED),
        expires_at: time_at(row, 20)?.unwrap_or(UNENDING),
    })
}

fn time_at(row: &SqlRow<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp))
}

fn units_at(row: &SqlRow<'_>, column: usize) -> rusqlite::Result<Units> {
    Ok(Units { messages: row.get(column)?, recipients: row.get(column + 1)?, bytes: row.get::<_, i64>(column + 2)?.unsigned_abs() })
}

fn row_at(row: &SqlRow<'_>) -> rusqlite::Result<Row> {
    Ok(Row {
        state: state_at(row, 7)?,
        intended: row.get(8)?,
        attempts: row.get(9)?,
        doubts: row.get(10)?,
        due: Timestamp(row.get(11)?),
        first_attempt: Timestamp(row.get(12)?),
    })
}

fn state_at(row: &SqlRow<'_>, column: usize) -> rusqlite::Result<RecipientState> {
    let code: u8 = row.get(column)?;
    RecipientState::from_code(code).ok_or(rusqlite::Error::IntegralValueOutOfRange(column, i64::from(code)))
}

/// A connection that only reads.
pub(crate) fn reader(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(path, flags)?;
    configure(&connection)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

/// What is known of a key.
pub(crate) fn key(connection: &Connection, person: PersonId, key: &str) -> Result<Option<KnownKey>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT message, fingerprint, parts, addresses FROM keys WHERE person = ?1 AND key = ?2 ORDER BY message",
    )?;
    let rows = statement.query_map(params![person.0, key], |row| {
        Ok((id_at(row, 0)?, row.get::<_, [u8; 32]>(1)?, row.get::<_, bool>(2)?, row.get::<_, Option<Vec<u8>>>(3)?))
    })?;
    let mut known: Option<KnownKey> = None;
    for row in rows {
        let (message, fingerprint, parts, carried) = row?;
        let entry = known.get_or_insert(KnownKey { fingerprint, parts, first: message, recipients: Vec::new() });
        entry.recipients.extend(carried.map(|bytes| addresses_from(&bytes)).unwrap_or_default());
        entry.recipients.extend(addresses(connection, message)?);
    }
    Ok(known)
}

const MESSAGE: &str = "id, at, person, team, token, surface, channel, lane, reverse_path, sender, subject, message_id, tags, length - body_at + COALESCE((SELECT b.length FROM bodies b WHERE b.message = messages.id), 0), lane_reason, retry_of, author, scheduled_at, expires_at";

fn message_from(row: &SqlRow<'_>) -> rusqlite::Result<MessageView> {
    Ok(MessageView {
        id: id_at(row, 0)?,
        accepted_at: Timestamp(row.get(1)?),
        person: PersonId(row.get(2)?),
        team: row.get::<_, Option<u32>>(3)?.map(TeamId),
        token: row.get::<_, Option<u32>>(4)?.map(TokenId),
        surface: surface_of(row.get(5)?).unwrap_or(mail::Surface::Gateway),
        channel: ChannelId(row.get(6)?),
        lane: lane_of(row.get(7)?).unwrap_or_default(),
        reverse_path: row.get(8)?,
        author: row.get(16)?,
        from: row.get(9)?,
        subject: row.get(10)?,
        message_id: row.get(11)?,
        tags: tags_from(&row.get::<_, Vec<u8>>(12)?),
        size_bytes: row.get::<_, i64>(13)? as u64,
        lane_reason: row.get(14)?,
        retry_of: row.get::<_, Option<[u8; 16]>>(15)?.map(MessageId),
        scheduled_at: time_at(row, 17)?,
        expires_at: time_at(row, 18)?,
        recipients: Vec::new(),
    })
}

fn add_recipients(connection: &Connection, message: &mut MessageView) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT place, address, state, since, attempts, doubts, due, said, relay FROM recipients WHERE message = ?1 ORDER BY place",
    )?;
    let rows = statement.query_map([message.id.0], |row| {
        let state = state_at(row, 2)?;
        Ok(RecipientView {
            index: row.get(0)?,
            address: row.get(1)?,
            state,
            since: Timestamp(row.get(3)?),
            attempts: row.get(4)?,
            doubts: row.get(5)?,
            due: (state == RecipientState::Queued).then_some(Timestamp(row.get(6)?)),
            said: row.get(7)?,
            relay: row.get(8)?,
        })
    })?;
    message.recipients = rows.collect::<Result<_, _>>()?;
    Ok(())
}

/// One message.
pub(crate) fn message(connection: &Connection, id: MessageId) -> Result<Option<MessageView>, StoreError> {
    let mut statement = connection.prepare_cached(&format!("SELECT {MESSAGE} FROM messages WHERE id = ?1"))?;
    let Some(mut found) = statement.query_row([id.0], message_from).optional()? else {
        return Ok(None);
    };
    add_recipients(connection, &mut found)?;
    Ok(Some(found))
}

/// Where a message stands in the log.
pub(crate) fn place(connection: &Connection, id: MessageId) -> Result<Option<Place>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT segment, offset, length, body_at FROM messages WHERE id = ?1")?;
    Ok(statement.query_row([id.0], |row| place_at(row, 0)).optional()?)
}

/// A page of messages, newest first.
pub(crate) fn list(connection: &Connection, filter: &Filter, page: &Page) -> Result<Listing, StoreError> {
    let limit = page.limit.clamp(1, 1000);
    let (sql, values) = select(filter, page, limit + 1);
    let mut statement = connection.prepare(&sql)?;
    let mut messages = statement.query_map(params_from_iter(values), message_from)?.collect::<Result<Vec<_>, _>>()?;
    let has_more = messages.len() > limit;
    messages.truncate(limit);
    if page.before.is_some() {
        messages.reverse();
    }
    for message in &mut messages {
        add_recipients(connection, message)?;
    }
    Ok(Listing { messages, has_more })
}

fn select(filter: &Filter, page: &Page, limit: usize) -> (String, Vec<Value>) {
    let mut sql = format!("SELECT {MESSAGE} FROM messages WHERE 1");
    let mut values: Vec<Value> = Vec::new();
    let mut also = |condition: &str, value: Value| {
        values.push(value);
        sql.push_str(&format!(" AND {}", condition.replace('?', &format!("?{}", values.len()))));
    };
    if let Some(after) = page.after {
        also("id < ?", Value::Blob(after.0.to_vec()));
    }
    if let Some(before) = page.before {
        also("id > ?", Value::Blob(before.0.to_vec()));
    }
    if let Some(address) = &filter.recipient {
        also("id IN (SELECT message FROM recipients WHERE address = ?)", Value::Text(address.to_lowercase()));
    }
    if let Some(channel) = filter.channel {
        also("channel = ?", Value::Integer(i64::from(channel.0)));
    }
    if let Some(person) = filter.person {
        also("person = ?", Value::Integer(i64::from(person.0)));
    }
    if let Some(after) = filter.after {
        also("at >= ?", Value::Integer(after.0));
    }
    if let Some(before) = filter.before {
        also("at < ?", Value::Integer(before.0));
    }
    if !filter.states.is_empty() {
        let codes: Vec<String> = filter.states.iter().map(|state| state.code().to_string()).collect();
        let (codes, rare) = (codes.join(","), filter.states.iter().all(|state| (4..8).contains(&state.code())));
        sql.push_str(&if rare {
            // Said as the partial index says it, so that it is used.
            format!(" AND id IN (SELECT message FROM recipients WHERE state IN ({codes}) AND state > 3 AND state < 8)")
        } else {
            format!(" AND EXISTS (SELECT 1 FROM recipients WHERE message = id AND state IN ({codes}))")
        });
        if filter.states.iter().all(|state| !state.is_final()) {
            sql.push_str(" AND open = 1");
        }
    }
    let order = if page.before.is_some() { "ASC" } else { "DESC" };
    sql.push_str(&format!(" ORDER BY id {order} LIMIT {limit}"));
    (sql, values)
}

fn event_from(row: &SqlRow<'_>) -> rusqlite::Result<Option<Event>> {
    let Some(kind) = EventKind::from_code(row.get(2)?) else {
        return Ok(None);
    };
    Ok(Some(Event {
        sequence: row.get::<_, i64>(0)? as u64,
        at: Timestamp(row.get(1)?),
        kind,
        message: row.get::<_, Option<[u8; 16]>>(3)?.map(MessageId),
        recipient: row.get(4)?,
        channel: row.get::<_, Option<u32>>(5)?.map(ChannelId),
        detail: row.get(6)?,
    }))
}

/// Events after a place in the journal.
pub(crate) fn events(connection: &Connection, after: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT sequence, at, kind, message, recipient, channel, detail FROM events WHERE sequence > ?1 ORDER BY sequence LIMIT ?2",
    )?;
    let rows = statement.query_map(params![after as i64, limit as i64], event_from)?;
    Ok(rows.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

/// Events of a message, oldest first.
pub(crate) fn events_of(connection: &Connection, id: MessageId, after: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT sequence, at, kind, message, recipient, channel, detail FROM events WHERE message = ?1 AND sequence > ?2
         ORDER BY sequence LIMIT ?3",
    )?;
    let rows = statement.query_map(params![id.0, after as i64, limit as i64], event_from)?;
    Ok(rows.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

/// The latest events of a channel itself, newest first.
pub(crate) fn events_of_channel(connection: &Connection, channel: ChannelId, limit: usize) -> Result<Vec<Event>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT sequence, at, kind, message, recipient, channel, detail FROM events WHERE channel = ?1 AND message IS NULL
         ORDER BY sequence DESC LIMIT ?2",
    )?;
    let rows = statement.query_map(params![channel.0, limit as i64], event_from)?;
    Ok(rows.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

/// Suppressed addresses behind one of them, on whosever list, in the order of addresses.
pub(crate) fn suppressions_after(
    connection: &Connection,
    after: Option<&(String, Party)>,
    limit: usize,
) -> Result<Vec<Suppression>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT kind, party, address, reason, origin, at FROM suppressions WHERE (address, kind, party) > (?1, ?2, ?3)
         ORDER BY address, kind, party LIMIT ?4",
    )?;
    // No address is empty.
    let (address, (kind, party)) = after.map_or(("", (0, 0)), |(address, party)| (address.as_str(), party_numbers(*party)));
    let mut rows = statement.query(params![address, kind, party, limit as i64])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.extend(suppression_at(row)?);
    }
    Ok(found)
}

fn suppression_at(row: &SqlRow<'_>) -> rusqlite::Result<Option<Suppression>> {
    let Some(party) = party_of(row.get(0)?, row.get(1)?) else { return Ok(None) };
    let (address, reason) = (row.get(2)?, row.get(3)?);
    Ok(Some(Suppression { party, address, reason, origin: id_at(row, 4)?, at: Timestamp(row.get(5)?) }))
}

/// Suppressed addresses of these parties, of all when there are none, in the order of addresses.
pub(crate) fn suppressions(
    connection: &Connection,
    parties: &[Party],
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<Suppression>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT kind, party, address, reason, origin, at FROM suppressions WHERE address > ?1 ORDER BY address, kind, party",
    )?;
    let mut rows = statement.query([after.unwrap_or_default()])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()?
        && found.len() < limit
    {
        found.extend(suppression_at(row)?.filter(|one| parties.is_empty() || parties.contains(&one.party)));
    }
    Ok(found)
}

/// What accounts have spent, by the time from which it grows old.
pub(crate) fn spent(connection: &Connection) -> Result<Vec<Spent>, StoreError> {
    let mut statement = connection
        .prepare("SELECT account, age_from, sender, messages, recipients, bytes FROM spent ORDER BY age_from, sequence")?;
    let rows = statement.query_map([], spent_at)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn spent_at(row: &SqlRow<'_>) -> rusqlite::Result<Spent> {
    Ok(Spent {
        account: row.get::<_, String>(0)?.into(),
        age_from: Timestamp(row.get(1)?),
        from: row.get::<_, String>(2)?.into(),
        units: units_at(row, 3)?,
    })
}
