//! What records do beside messages: channels, clocks, what is spent, keys that are carried, suppressions.

use super::super::open_set::Effects;
use super::super::record::{
    Base, CarriedKey, addresses_bytes, channel_state_bytes, heartbeat_bytes, kept_bytes, lessons_bytes, party_numbers,
};
use super::Entry;
use crate::api::{Spend, StoreError, Suppression};
use mail::ChannelId;
use mail::channel::{ChannelState, Kept};
use mail::pace::{Lessons, Spent};
use mail::steady::{Credit, Heartbeat};
use rusqlite::{Transaction, params};

pub(super) fn write_state(transaction: &Transaction<'_>, channel: ChannelId, state: &ChannelState) -> Result<(), StoreError> {
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

pub(super) fn write_base(transaction: &Transaction<'_>, base: &Base) -> Result<(), StoreError> {
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
pub(super) fn write_rest(transaction: &Transaction<'_>, entry: &Entry) -> Result<(), StoreError> {
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
