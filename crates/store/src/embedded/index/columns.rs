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

/// An address as it stands in the index, its domain in front: so those of a domain stand together.
pub(crate) fn turned(address: &str) -> String {
    address.rsplit_once('@').map_or_else(|| address.to_owned(), |(local, domain)| format!("{domain}@{local}"))
}

/// And back: a domain has no `@`.
pub(crate) fn turned_back(text: &str) -> String {
    text.split_once('@').map_or_else(|| text.to_owned(), |(domain, local)| format!("{local}@{domain}"))
}

#[cfg(test)]
mod tests {
    use super::{turned, turned_back};

    #[test]
    fn a_turned_address_turns_back() {
        for address in ["eva@example.org", "\"a@b\"@example.org", "\"@\"@[ipv6:2001:db8::1]", "postmaster", "\"\"@example.org"] {
            assert_eq!(turned_back(&turned(address)), address);
        }
        assert_eq!(turned("\"a@b\"@example.org"), "example.org@\"a@b\"");
    }
}
