//! What is read beside lists: one message, its key, and what happened.

use super::super::open_set::Place;
use super::super::record::{addresses_from, lane_of, party_of, surface_of, tags_from};
use super::KnownKey;
use super::columns::{id_at, place_at, state_at, time_at, turned_back, units_at};
use crate::api::{MessageView, Party, RecipientView, StoreError, Suppression};
use mail::pace::Spent;
use mail::{ChannelId, Event, EventKind, MessageId, PersonId, RecipientState, TeamId, Timestamp, TokenId};
use rusqlite::{Connection, OptionalExtension, Row, params};

/// Whether a person has any key that is known.
pub(crate) fn has_keys(connection: &Connection, person: PersonId) -> Result<bool, StoreError> {
    let mut statement = connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM keys WHERE person = ?1)")?;
    Ok(statement.query_row([person.0], |row| row.get(0))?)
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

/// The recipients of a message.
pub(crate) fn addresses(connection: &Connection, message: MessageId) -> Result<Vec<String>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT address FROM recipients WHERE message = ?1")?;
    let rows = statement.query_map([message.0], |row| Ok(turned_back(row.get_ref(0)?.as_str()?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

const MESSAGE: &str = "id, at, person, team, token, surface, channel, lane, reverse_path, sender, subject, message_id, tags, length - body_at + COALESCE((SELECT b.length FROM bodies b WHERE b.message = messages.id), 0), lane_reason, retry_of, author, scheduled_at, expires_at";

fn message_from(row: &Row<'_>) -> rusqlite::Result<MessageView> {
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
            address: turned_back(row.get_ref(1)?.as_str()?),
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

fn event_from(row: &Row<'_>) -> rusqlite::Result<Option<Event>> {
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

pub(super) fn suppression_at(row: &Row<'_>) -> rusqlite::Result<Option<Suppression>> {
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

pub(super) fn spent_at(row: &Row<'_>) -> rusqlite::Result<Spent> {
    Ok(Spent {
        account: row.get::<_, String>(0)?.into(),
        age_from: Timestamp(row.get(1)?),
        from: row.get::<_, String>(2)?.into(),
        units: units_at(row, 3)?,
    })
}
