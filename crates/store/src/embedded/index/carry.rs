//! What the log says again of ended mail, and the words of what is written again.

use super::super::record::{CarriedKey, StoodRow, addresses_from, party_numbers};
use super::columns::id_at;
use super::read::{addresses, spent_at, suppression_at};
use crate::api::{Party, StoreError, Suppression};
use mail::pace::Spent;
use mail::{MessageId, PersonId, Timestamp};
use rusqlite::{Connection, params};

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
