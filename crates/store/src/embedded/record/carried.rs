//! What the head of the log still owes when it goes: open mail as it stands, and what else must be known
//! when the index is lost.

use super::super::wire::{Input, put_bytes, put_number, put_option, put_text};
use super::{
    Meta, put_channel_state, put_file_name, put_heartbeat, put_id, put_kept, put_lessons, put_meta, put_party, put_spend,
    put_spent, put_time, take_channel_state, take_file_name, take_heartbeat, take_id, take_kept, take_lessons, take_meta,
    take_party, take_spend, take_spent, take_time,
};
use crate::api::{Spend, Suppression, Totals};
use mail::channel::{ChannelState, Kept};
use mail::pace::{Lessons, Spent};
use mail::steady::Heartbeat;
use mail::{ChannelId, MessageId, PersonId, RecipientState, Timestamp};
use std::collections::BTreeMap;

/// No count of recipients is larger.
const MOST: u64 = 1 << 56;

/// An open message as it stands, with its body: it replaces the record that accepted it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Snapshot {
    /// As accepted, but for the channel, which is the one it has now.
    pub meta: Meta,
    /// The sequence under which it was accepted: its place among others.
    pub order: u64,
    /// Its recipients, in the order of the envelope.
    pub rows: Vec<StoodRow>,
    /// What its open transactions spend.
    pub spending: Option<Spend>,
}

/// A recipient as it stands in the log, and the last words about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoodRow {
    pub state: RecipientState,
    pub intended: bool,
    pub doubts: u8,
    pub attempts: u16,
    pub due: Timestamp,
    pub first_attempt: Timestamp,
    pub since: Timestamp,
    pub said: String,
    pub relay: String,
}

/// The state beside messages at one moment: from here on the segments before `below` are not needed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Base {
    pub below: u32,
    /// Recipients by state, as the log knows them.
    pub totals: Totals,
    pub states: BTreeMap<ChannelId, ChannelState>,
    pub lessons: BTreeMap<ChannelId, Lessons>,
    pub heartbeat: Option<Heartbeat>,
    pub kept: BTreeMap<ChannelId, Kept>,
}

/// Facts of ended mail that are still needed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Carried {
    pub keys: Vec<CarriedKey>,
    /// With the sequence of the record that said it first.
    pub spent: Vec<(u64, Spent)>,
    pub suppressed: Vec<Suppression>,
}

impl Carried {
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.spent.is_empty() && self.suppressed.is_empty()
    }
}

/// An idempotency key whose message has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CarriedKey {
    pub person: PersonId,
    pub key: String,
    pub message: MessageId,
    pub fingerprint: [u8; 32],
    pub parts: bool,
    pub at: Timestamp,
    /// Addresses accepted under it, lower case.
    pub recipients: Vec<String>,
}

pub(super) fn put_snapshot(out: &mut Vec<u8>, snapshot: &Snapshot) {
    put_meta(out, &snapshot.meta);
    put_option(out, snapshot.meta.rest.as_ref(), put_file_name);
    put_number(out, snapshot.order);
    put_number(out, snapshot.rows.len() as u64);
    for row in &snapshot.rows {
        out.push(row.state.code());
        out.push(u8::from(row.intended));
        out.push(row.doubts);
        put_number(out, u64::from(row.attempts));
        put_time(out, row.due);
        put_time(out, row.first_attempt);
        put_time(out, row.since);
        put_text(out, &row.said);
        put_text(out, &row.relay);
    }
    put_option(out, snapshot.spending.as_ref(), put_spend);
}

pub(super) fn take_snapshot(input: &mut Input<'_>) -> Option<Snapshot> {
    let mut meta = take_meta(input)?;
    meta.rest = input.option(take_file_name)?;
    let (order, count) = (input.number()?, input.count()?);
    // A message without its recipients, or with others, is none.
    if count != meta.envelope.recipients.len() {
        return None;
    }
    let row = |_| {
        Some(StoodRow {
            state: RecipientState::from_code(input.byte()?)?,
            intended: input.byte()? == 1,
            doubts: input.byte()?,
            attempts: u16::try_from(input.number()?).ok()?,
            due: take_time(input)?,
            first_attempt: take_time(input)?,
            since: take_time(input)?,
            said: input.text()?.to_owned(),
            relay: input.text()?.to_owned(),
        })
    };
    let rows = (0..count).map(row).collect::<Option<_>>()?;
    Some(Snapshot { meta, order, rows, spending: input.option(take_spend)? })
}

pub(super) fn put_base(out: &mut Vec<u8>, base: &Base) {
    put_number(out, u64::from(base.below));
    put_number(out, base.totals.accepted);
    base.totals.by_state.iter().for_each(|count| put_number(out, *count));
    put_number(out, base.states.len() as u64);
    for (channel, state) in &base.states {
        put_number(out, u64::from(channel.0));
        put_channel_state(out, state);
    }
    put_number(out, base.lessons.len() as u64);
    for (channel, lessons) in &base.lessons {
        put_number(out, u64::from(channel.0));
        put_lessons(out, lessons);
    }
    put_option(out, base.heartbeat.as_ref(), put_heartbeat);
    put_number(out, base.kept.len() as u64);
    for (channel, kept) in &base.kept {
        put_number(out, u64::from(channel.0));
        put_kept(out, kept);
    }
}

pub(super) fn take_base(input: &mut Input<'_>) -> Option<Base> {
    let below = input.small()?;
    let mut totals = Totals { accepted: input.number()?, ..Totals::default() };
    for count in &mut totals.by_state {
        *count = input.number().filter(|count| *count <= MOST)?;
    }
    let states = (0..input.count()?).map(|_| Some((ChannelId(input.small()?), take_channel_state(input)?)));
    let states = states.collect::<Option<_>>()?;
    let lessons = (0..input.count()?).map(|_| Some((ChannelId(input.small()?), take_lessons(input)?)));
    let lessons = lessons.collect::<Option<_>>()?;
    let heartbeat = input.option(take_heartbeat)?;
    // Earlier ones end here.
    let count = if input.0.is_empty() { 0 } else { input.count()? };
    let kept = (0..count).map(|_| Some((ChannelId(input.small()?), take_kept(input)?))).collect::<Option<_>>()?;
    Some(Base { below, totals, states, lessons, heartbeat, kept })
}

pub(super) fn put_carried(out: &mut Vec<u8>, carried: &Carried) {
    put_number(out, carried.keys.len() as u64);
    for key in &carried.keys {
        put_number(out, u64::from(key.person.0));
        put_text(out, &key.key);
        put_id(out, key.message);
        out.extend_from_slice(&key.fingerprint);
        out.push(u8::from(key.parts));
        put_time(out, key.at);
        put_number(out, key.recipients.len() as u64);
        key.recipients.iter().for_each(|address| put_text(out, address));
    }
    put_number(out, carried.spent.len() as u64);
    for (sequence, spent) in &carried.spent {
        put_number(out, *sequence);
        put_spent(out, spent);
    }
    put_number(out, carried.suppressed.len() as u64);
    for one in &carried.suppressed {
        put_party(out, one.party);
        put_text(out, &one.address);
        put_text(out, &one.reason);
        put_id(out, one.origin);
        put_time(out, one.at);
    }
}

pub(super) fn take_carried(input: &mut Input<'_>) -> Option<Carried> {
    let keys = (0..input.count()?).map(|_| take_key(input)).collect::<Option<_>>()?;
    let spent = (0..input.count()?).map(|_| Some((input.number()?, take_spent(input)?))).collect::<Option<_>>()?;
    let suppressed = (0..input.count()?).map(|_| {
        Some(Suppression {
            party: take_party(input)?,
            address: input.text()?.to_owned(),
            reason: input.text()?.to_owned(),
            origin: take_id(input)?,
            at: take_time(input)?,
        })
    });
    Some(Carried { keys, spent, suppressed: suppressed.collect::<Option<_>>()? })
}

fn take_key(input: &mut Input<'_>) -> Option<CarriedKey> {
    Some(CarriedKey {
        person: PersonId(input.small()?),
        key: input.text()?.to_owned(),
        message: take_id(input)?,
        fingerprint: input.fixed(32)?.try_into().ok()?,
        parts: input.byte()? == 1,
        at: take_time(input)?,
        recipients: (0..input.count()?).map(|_| Some(input.text()?.to_owned())).collect::<Option<_>>()?,
    })
}

/// Addresses as bytes, for the index.
pub(crate) fn addresses_bytes(addresses: &[String]) -> Vec<u8> {
    let mut bytes = Vec::new();
    addresses.iter().for_each(|address| put_bytes(&mut bytes, address.as_bytes()));
    bytes
}

/// And back.
pub(crate) fn addresses_from(bytes: &[u8]) -> Vec<String> {
    let mut input = Input(bytes);
    std::iter::from_fn(|| input.text().map(str::to_owned)).collect()
}
