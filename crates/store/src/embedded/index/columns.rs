//! From columns to values.

use super::super::log::Position;
use super::super::open_set::Place;
use mail::pace::Units;
use mail::{MessageId, RecipientState, Timestamp};
use rusqlite::Row;

pub(super) fn id_at(row: &Row<'_>, column: usize) -> rusqlite::Result<MessageId> {
    Ok(MessageId(row.get(column)?))
}

pub(super) fn place_at(row: &Row<'_>, column: usize) -> rusqlite::Result<Place> {
    Ok(Place {
        position: Position { segment: row.get(column)?, offset: row.get(column + 1)? },
        payload_length: row.get(column + 2)?,
        body_at: row.get(column + 3)?,
    })
}

pub(super) fn time_at(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp))
}

pub(super) fn units_at(row: &Row<'_>, column: usize) -> rusqlite::Result<Units> {
    Ok(Units { messages: row.get(column)?, recipients: row.get(column + 1)?, bytes: row.get::<_, i64>(column + 2)?.unsigned_abs() })
}

pub(super) fn state_at(row: &Row<'_>, column: usize) -> rusqlite::Result<RecipientState> {
    let code: u8 = row.get(column)?;
    RecipientState::from_code(code).ok_or(rusqlite::Error::IntegralValueOutOfRange(column, i64::from(code)))
}
