//! What the index does about an address that is forgotten.

use super::super::index::{addresses, turned};
use super::super::keys::hidden;
use super::super::record::{Forgotten, ForgottenMessage, addresses_bytes, addresses_from, tags_bytes};
use crate::api::StoreError;
use rusqlite::{Transaction, params};

/// Writes the pseudonym over what the index knows, and nothing of it stays in free pages.
pub(in crate::embedded) fn write(transaction: &Transaction<'_>, forgotten: &Forgotten) -> Result<(), StoreError> {
    let _: i64 = transaction.query_row("PRAGMA secure_delete = ON", [], |row| row.get(0))?;
    for message in &forgotten.messages {
        write_message(transaction, &forgotten.pseudonym, message)?;
    }
    let sql = "INSERT INTO forgotten VALUES (1, ?1) ON CONFLICT (one) DO UPDATE SET segment = MAX(segment, ?1)";
    transaction.execute(sql, [forgotten.below])?;
    let _: i64 = transaction.query_row("PRAGMA secure_delete = FAST", [], |row| row.get(0))?;
    Ok(())
}

fn write_message(transaction: &Transaction<'_>, pseudonym: &str, message: &ForgottenMessage) -> Result<(), StoreError> {
    let id = message.id.0;
    let run = |sql: &str, values: &[&dyn rusqlite::ToSql]| transaction.prepare_cached(sql)?.execute(values);
    // What it said is not looked for in its record any more, even while that is there.
    run(
        "UPDATE messages SET subject = '', message_id = '', tags = ?2, segment = 0, offset = 0, length = 0, body_at = 0 WHERE id = ?1",
        params![id, tags_bytes(&[])],
    )?;
    run("DELETE FROM bodies WHERE message = ?1", params![id])?;
    // First: it reads the addresses.
    hide_in_keys(transaction, message)?;
    if message.sender {
        run(
            "UPDATE messages SET reverse_path = CASE reverse_path WHEN '' THEN '' ELSE ?2 END, author = ?2, sender = ?2 WHERE id = ?1",
            params![id, pseudonym],
        )?;
        run("UPDATE recipients SET said = '' WHERE message = ?1", params![id])?;
        run("UPDATE events SET detail = '' WHERE message = ?1", params![id])?;
    }
    for place in &message.recipients {
        run(
            "UPDATE recipients SET address = ?3, said = '' WHERE message = ?1 AND place = ?2",
            params![id, place, turned(pseudonym)],
        )?;
    }
    run(
        "UPDATE events SET detail = '' WHERE message = ?1 AND (recipient IS NULL
         OR recipient IN (SELECT place FROM recipients WHERE message = ?1 AND address = ?2))",
        params![id, turned(pseudonym)],
    )?;
    Ok(())
}

/// Behind its key everybody of the message stands hidden, so that a repeat is known as one still.
fn hide_in_keys(transaction: &Transaction<'_>, message: &ForgottenMessage) -> Result<(), StoreError> {
    let mut statement = transaction.prepare_cached("SELECT person, key, fingerprint, addresses FROM keys WHERE message = ?1")?;
    let rows = statement.query_map([message.id.0], |row| {
        Ok((row.get::<_, u32>(0)?, row.get::<_, String>(1)?, row.get::<_, [u8; 32]>(2)?, row.get::<_, Option<Vec<u8>>>(3)?))
    })?;
    for (person, key, fingerprint, carried) in rows.collect::<Result<Vec<_>, _>>()? {
        let known = carried.map_or_else(|| addresses(transaction, message.id), |bytes| Ok(addresses_from(&bytes)))?;
        let known: Vec<String> = known.iter().map(|address| hidden(&fingerprint, address)).collect();
        transaction
            .prepare_cached("UPDATE keys SET addresses = ?4 WHERE person = ?1 AND key = ?2 AND message = ?3")?
            .execute(params![person, key, message.id.0, addresses_bytes(&known)])?;
    }
    Ok(())
}
