//! What the index has, and how one of an earlier version becomes one of this.

use super::columns::turned;
use crate::api::StoreError;
use crate::disk::is_no_space;
use rusqlite::{Connection, params};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;

const FORMAT: i64 = 5;

/// What format 4 added: the times of a message, and when it was accepted by the steady clock.
const FROM_3_TO_4: &str = "
ALTER TABLE messages ADD COLUMN since INTEGER NOT NULL DEFAULT 0;
ALTER TABLE messages ADD COLUMN scheduled_at INTEGER;
ALTER TABLE messages ADD COLUMN expires_at INTEGER;
UPDATE messages SET since = at;
";

/// What format 5 changed: addresses stand with their domain in front, and other indexes serve the lists.
const FROM_4_TO_5: &str = "
DROP INDEX IF EXISTS messages_person;
DROP INDEX IF EXISTS messages_channel;
DROP INDEX IF EXISTS messages_open;
DROP INDEX IF EXISTS recipients_address;
UPDATE recipients SET address = substr(address, instr(address, '@') + 1) || '@' || substr(address, 1, instr(address, '@') - 1)
  WHERE instr(address, '@') > 0 AND length(address) - length(replace(address, '@', '')) = 1;
";

/// Recipients by whose mail of which channel it is, and by state: what format 5 keeps from then on.
const COUNT: &str = "
INSERT INTO counts SELECT m.person, COALESCE(m.team, -1), m.channel, r.state, COUNT(*)
  FROM messages m JOIN recipients r ON r.message = m.id GROUP BY 1, 2, 3, 4;
";

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS progress (one INTEGER PRIMARY KEY CHECK (one = 1), segment INTEGER NOT NULL, offset INTEGER NOT NULL,
  sequence INTEGER NOT NULL, batch INTEGER NOT NULL, totals BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS messages (id BLOB PRIMARY KEY, open INTEGER NOT NULL, at INTEGER NOT NULL, person INTEGER NOT NULL, team INTEGER,
  token INTEGER, surface INTEGER NOT NULL, channel INTEGER NOT NULL, lane INTEGER NOT NULL, lane_reason TEXT NOT NULL, retry_of BLOB,
  reverse_path TEXT NOT NULL, author TEXT NOT NULL,
  sender TEXT NOT NULL, subject TEXT NOT NULL, message_id TEXT NOT NULL, tags BLOB NOT NULL, segment INTEGER NOT NULL,
  offset INTEGER NOT NULL, length INTEGER NOT NULL, body_at INTEGER NOT NULL, arrival INTEGER NOT NULL,
  since INTEGER NOT NULL DEFAULT 0, scheduled_at INTEGER, expires_at INTEGER) WITHOUT ROWID;
DROP INDEX IF EXISTS messages_owner;
CREATE INDEX IF NOT EXISTS messages_person ON messages (person);
CREATE INDEX IF NOT EXISTS messages_team ON messages (team) WHERE team IS NOT NULL;
CREATE INDEX IF NOT EXISTS messages_author ON messages (author);
CREATE INDEX IF NOT EXISTS messages_way ON messages (channel, lane, open);
CREATE TABLE IF NOT EXISTS recipients (message BLOB NOT NULL, place INTEGER NOT NULL, address TEXT NOT NULL, state INTEGER NOT NULL,
  intended INTEGER NOT NULL, since INTEGER NOT NULL, attempts INTEGER NOT NULL, doubts INTEGER NOT NULL, due INTEGER NOT NULL,
  first_attempt INTEGER NOT NULL, said TEXT NOT NULL, relay TEXT NOT NULL, PRIMARY KEY (message, place)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS recipients_address ON recipients (address, message);
CREATE TABLE IF NOT EXISTS segments (segment INTEGER PRIMARY KEY, first_ended INTEGER NOT NULL, last_ended INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS recipients_ended ON recipients (state, message) WHERE state > 3 AND state < 8;
CREATE TABLE IF NOT EXISTS counts (person INTEGER NOT NULL, team INTEGER NOT NULL, channel INTEGER NOT NULL, state INTEGER NOT NULL,
  recipients INTEGER NOT NULL, PRIMARY KEY (person, team, channel, state)) WITHOUT ROWID;
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

/// What becomes of an index of an earlier version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    /// A copy of it is kept beside it.
    Kept,
    /// It is changed in place: it is a copy itself.
    Replaced,
}

/// Makes of a new file, or of an index of an earlier version, one of this version.
///
/// # Errors
/// It is of a later version, or the disk.
pub(super) fn prepare(connection: &Connection, before: Before) -> Result<(), StoreError> {
    let format: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if format > FORMAT {
        return Err(StoreError::Io(format!("the index has format {format}; this version knows {FORMAT}: use the newer program")));
    }
    if (3..FORMAT).contains(&format) && before == Before::Kept {
        keep_copy(connection, format)?;
    }
    let transaction = connection.unchecked_transaction()?;
    if format == 3 {
        transaction.execute_batch(FROM_3_TO_4)?;
    }
    if (3..5).contains(&format) {
        tracing::info!("the index of an earlier version is made anew in part: with much history this takes a while");
        transaction.execute_batch(FROM_4_TO_5)?;
        turn_quoted(&transaction)?;
    }
    transaction.execute_batch(SCHEMA)?;
    transaction.execute_batch(super::super::forget::SCHEMA)?;
    if (3..5).contains(&format) {
        transaction.execute_batch(COUNT)?;
    }
    transaction.pragma_update(None, "user_version", FORMAT)?;
    transaction.commit()?;
    Ok(())
}

/// Keeps the index as it was before it is changed, beside it, under its name and format.
fn keep_copy(connection: &Connection, format: i64) -> Result<(), StoreError> {
    let Some(path) = connection.path().filter(|path| !path.is_empty()) else { return Ok(()) };
    let copy = format!("{path}.format-{format}");
    let told = |error: StoreError| match error {
        StoreError::NoSpace(why) => {
            StoreError::NoSpace(format!("{why}: there is no room for a copy before it is changed ({copy})"))
        }
        other => other,
    };
    // What an earlier try left behind is not whole.
    let removed = std::fs::remove_file(&copy);
    removed.or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) }).map_err(io)?;
    // It has everything that the index has: nobody else reads it either.
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&copy);
    made.map_err(|error| if is_no_space(&error) { told(StoreError::NoSpace(error.to_string())) } else { io(error) })?;
    connection.execute("VACUUM INTO ?1", [&copy]).map_err(|error| told(error.into()))?;
    std::fs::File::open(&copy).and_then(|file| file.sync_all()).map_err(io)?;
    // With its name, or a power loss behind the change would leave none.
    let folder = std::path::Path::new(path).parent().filter(|folder| !folder.as_os_str().is_empty());
    std::fs::File::open(folder.unwrap_or(std::path::Path::new("."))).and_then(|folder| folder.sync_all()).map_err(io)?;
    tracing::info!(%copy, "a copy of the index is kept as it was; remove it once the new version has proved itself");
    Ok(())
}

fn io(error: std::io::Error) -> StoreError {
    StoreError::Io(format!("index: {error}"))
}

/// Addresses with an `@` in their local part, which SQL alone cannot turn.
fn turn_quoted(connection: &Connection) -> rusqlite::Result<()> {
    let mut statement = connection
        .prepare("SELECT message, place, address FROM recipients WHERE length(address) - length(replace(address, '@', '')) > 1")?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, [u8; 16]>(0)?, row.get::<_, u32>(1)?, row.get::<_, String>(2)?)))?;
    for (message, place, address) in rows.collect::<Result<Vec<_>, _>>()? {
        connection.prepare_cached("UPDATE recipients SET address = ?3 WHERE message = ?1 AND place = ?2")?.execute(params![
            message,
            place,
            turned(&address)
        ])?;
    }
    Ok(())
}
