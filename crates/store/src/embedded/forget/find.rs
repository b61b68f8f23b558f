//! Where an address stands: an address is spelled in many ways, so everything is looked at, in pieces.

use super::super::Embedded;
use super::super::index::turned_back;
use super::super::record::{ForgottenMessage, party_of};
use crate::api::{Party, StoreError};
use crate::body::FileId;
use crate::disk::Disk;
use mail::MessageId;
use rusqlite::{Connection, Row, params};
use smtp::Mailbox;
use std::collections::BTreeMap;

/// Rows that are looked at in one transaction: no list, and no checkpoint, waits for more.
const LOOK_AT_ONCE: usize = if cfg!(test) { 2 } else { 10_000 };

/// An address, to be found in every spelling.
pub(super) struct Spelled {
    lower: String,
    key: String,
}

impl Spelled {
    pub(super) fn new(address: &Mailbox) -> Self {
        Self { lower: address.to_string().to_lowercase(), key: address.key() }
    }

    fn is(&self, text: &str) -> bool {
        let is_odd = || text.contains('"') || text.contains("xn--") || !text.is_ascii();
        text.eq_ignore_ascii_case(&self.lower)
            || text.eq_ignore_ascii_case(&self.key)
            || is_odd() && Mailbox::parse(text).is_ok_and(|mailbox| mailbox.key() == self.key)
    }
}

/// A message to or from it.
pub(super) struct Found {
    pub message: ForgottenMessage,
    pub open: bool,
}

impl Found {
    fn new(id: MessageId) -> Self {
        Self { message: ForgottenMessage { id, sender: false, recipients: Vec::new(), file: None }, open: false }
    }
}

/// Messages to or from an address, the oldest first.
pub(super) fn messages<D: Disk>(queue: &Embedded<D>, address: &Spelled) -> Result<Vec<Found>, StoreError> {
    let mut found = BTreeMap::new();
    let mut after = Some((Vec::new(), -1));
    while let Some(last) = after {
        after = queue.read(|connection| recipients(connection, address, &last, &mut found))?;
    }
    let mut after = Some(Vec::new());
    while let Some(last) = after {
        after = queue.read(|connection| senders(connection, address, &last, &mut found))?;
    }
    let mut found: Vec<Found> = found.into_values().collect();
    for piece in found.chunks_mut(LOOK_AT_ONCE) {
        queue.read(|connection| piece.iter_mut().try_for_each(|one| complete(connection, one)))?;
    }
    Ok(found)
}

fn id_at(row: &Row<'_>, column: usize) -> rusqlite::Result<MessageId> {
    row.get(column).map(MessageId)
}

type AllFound = BTreeMap<MessageId, Found>;

/// Looks at recipients behind one of them; the last that was looked at, unless there are no more.
fn recipients(
    connection: &Connection,
    address: &Spelled,
    (message, place): &(Vec<u8>, i64),
    found: &mut AllFound,
) -> Result<Option<(Vec<u8>, i64)>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT message, place, address FROM recipients WHERE (message, place) > (?1, ?2) ORDER BY message, place LIMIT ?3",
    )?;
    let mut rows = statement.query(params![message, place, LOOK_AT_ONCE as i64])?;
    let mut last = None;
    while let Some(row) = rows.next()? {
        let (id, place) = (id_at(row, 0)?, row.get::<_, u32>(1)?);
        if address.is(&turned_back(row.get_ref(2)?.as_str().unwrap_or_default())) {
            found.entry(id).or_insert_with(|| Found::new(id)).message.recipients.push(place);
        }
        last = Some((id.0.to_vec(), i64::from(place)));
    }
    Ok(last)
}

/// Looks at messages behind one of them, as `recipients` does.
fn senders(connection: &Connection, address: &Spelled, after: &[u8], found: &mut AllFound) -> Result<Option<Vec<u8>>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT id, author, reverse_path FROM messages WHERE id > ?1 ORDER BY id LIMIT ?2")?;
    let mut rows = statement.query(params![after, LOOK_AT_ONCE as i64])?;
    let mut last = None;
    while let Some(row) = rows.next()? {
        let id = id_at(row, 0)?;
        let is_from = (1..3).map(|at| row.get_ref(at)).collect::<Result<Vec<_>, _>>()?;
        if is_from.iter().any(|text| address.is(text.as_str().unwrap_or_default())) {
            found.entry(id).or_insert_with(|| Found::new(id)).message.sender = true;
        }
        last = Some(id.0.to_vec());
    }
    Ok(last)
}

fn complete(connection: &Connection, one: &mut Found) -> Result<(), StoreError> {
    let id = one.message.id.0;
    one.open = connection.prepare_cached("SELECT open FROM messages WHERE id = ?1")?.query_row([id], |row| row.get(0))?;
    let mut file = connection.prepare_cached("SELECT file FROM bodies WHERE message = ?1")?;
    one.message.file = file.query_map([id], |row| row.get::<_, FileId>(0))?.next().transpose()?;
    Ok(())
}

/// The lists of addresses not written to on which it stands, and how.
pub(super) fn parties(connection: &Connection, address: &Spelled) -> Result<Vec<(Party, String)>, StoreError> {
    let mut statement = connection.prepare("SELECT kind, party, address FROM suppressions")?;
    let rows = statement.query_map([], |row| Ok((party_of(row.get(0)?, row.get(1)?), row.get::<_, String>(2)?)))?;
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    Ok(rows.into_iter().filter_map(|(party, text)| party.filter(|_| address.is(&text)).map(|party| (party, text))).collect())
}
