//! What records do to messages and their recipients.

use super::super::open_set::{Change, Effects, Place};
use super::super::record::{Meta, lane_code, surface_code, tags_bytes};
use super::Entry;
use super::beside::{write_base, write_rest, write_state};
use super::columns::turned;
use super::counts::Counts;
use crate::api::{StoreError, Totals};
use mail::{ChannelId, MessageId, Timestamp};
use rusqlite::{Transaction, params};
use std::collections::{BTreeMap, HashMap};

/// A message of this transaction, written once, in its last state.
struct Fresh<'a> {
    meta: &'a Meta,
    arrival: u64,
    place: Place,
    changes: HashMap<u32, Latest<'a>>,
    channel: ChannelId,
}

/// What became of a recipient in this transaction, with the last words that were said.
#[derive(Clone, Copy)]
struct Latest<'a> {
    change: &'a Change,
    said: Option<&'a str>,
    relay: Option<&'a str>,
}

impl<'a> Latest<'a> {
    fn of(change: &'a Change, before: Option<&Self>) -> Self {
        let said = change.said.as_deref().or(before.and_then(|before| before.said));
        let relay = change.relay.as_deref().or(before.and_then(|before| before.relay));
        Self { change, said, relay }
    }
}

pub(super) fn write_entries(transaction: &Transaction<'_>, entries: &[Entry], totals: &mut Totals) -> Result<(), StoreError> {
    let mut fresh: HashMap<MessageId, Fresh<'_>> = HashMap::new();
    let mut order = Vec::new();
    // Recipients of messages that are known, and messages of which nothing is open any more: each is written once.
    let mut touched: BTreeMap<(MessageId, u32), Latest<'_>> = BTreeMap::new();
    let mut closed = Vec::new();
    let mut counts = Counts::default();
    // Many messages of one segment end in a transaction: each segment is written once.
    let mut ended: BTreeMap<u32, (Timestamp, Timestamp)> = BTreeMap::new();
    for entry in entries {
        if let Some((segment, at)) = entry.effects.ended_in {
            let (first, last) = ended.entry(segment).or_insert((at, at));
            (*first, *last) = ((*first).min(at), (*last).max(at));
        }
        let Effects { new, changes, facts, channel, rerouted, accepted, moved, .. } = &entry.effects;
        write_rest(transaction, entry)?;
        counts.learn(&entry.effects);
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
                Some(message) => {
                    let latest = Latest::of(change, message.changes.get(&change.index));
                    message.changes.insert(change.index, latest);
                }
                None => {
                    let place = (change.message, change.index);
                    touched.insert(place, Latest::of(change, touched.get(&place)));
                }
            }
        }
        closed.extend(entry.effects.ended.filter(|id| !fresh.contains_key(id)));
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
    for latest in touched.values() {
        update_recipient(transaction, latest)?;
    }
    for id in closed {
        transaction.prepare_cached("UPDATE messages SET open = 0 WHERE id = ?1")?.execute([id.0])?;
    }
    counts.write(transaction)?;
    // Last: what was accepted in this transaction may have ended in it, too.
    for forgotten in entries.iter().filter_map(|entry| entry.effects.forgotten.as_deref()) {
        super::super::forget::write(transaction, forgotten)?;
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

fn insert_message(transaction: &Transaction<'_>, message: &Fresh<'_>) -> Result<(), StoreError> {
    let meta = message.meta;
    let count = meta.envelope.recipients.len();
    let closed = message.changes.len() == count && message.changes.values().all(|latest| latest.change.state.is_final());
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
        let address = turned(&recipient.path.to_string().to_lowercase());
        let mut insert = transaction
            .prepare_cached("INSERT OR REPLACE INTO recipients VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)")?;
        match message.changes.get(&(index as u32)) {
            Some(Latest { change, said, relay }) => insert.execute(params![
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
                said.unwrap_or_default(),
                relay.unwrap_or_default()
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

fn update_recipient(transaction: &Transaction<'_>, latest: &Latest<'_>) -> Result<(), StoreError> {
    let Latest { change, said, relay } = latest;
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
            said,
            relay
        ])?;
    Ok(())
}
