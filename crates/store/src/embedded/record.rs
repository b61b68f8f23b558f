//! The log's records as bytes, and back. Reading is total: bytes that are no record give `None`.
//!
//! The first byte says what a record is; its meaning never changes.

use self::carried::{put_base, put_carried, put_snapshot, take_base, take_carried, take_snapshot};
use self::forgotten::{put_forgotten, take_forgotten};
use super::wire::{Input, put_bytes, put_number, put_option, put_text};
use crate::api::{Idempotency, NewMessage, Party, Spend};
use crate::body::FileName;
use mail::channel::{ChannelState, Kept, Sender, SenderRefused};
use mail::envelope::{BodyType, Notify, Recipient, Ret};
use mail::pace::{LearnedCap, LearnedPace, Lessons, Spent, Units};
use mail::steady::{Credit, Heartbeat, Owed, Reading};
use mail::{ChannelId, Envelope, EventKind, Lane, MessageId, Move, PersonId, Surface, TeamId, Timestamp, TokenId};
use smtp::{ForwardPath, Mailbox, ReversePath};
use std::time::Duration;

mod carried;
mod forgotten;

pub(crate) use self::carried::{Base, Carried, CarriedKey, Snapshot, StoodRow, addresses_bytes, addresses_from};
pub(crate) use self::forgotten::{Forgotten, ForgottenMessage};

const ACCEPT: u8 = 1;
const ATTEMPT: u8 = 2;
const STEER: u8 = 3;
const CHANNEL: u8 = 4;
const LESSONS: u8 = 5;
const BEAT: u8 = 6;
const UNSUPPRESS: u8 = 7;
const ACCEPT_SPOOLED: u8 = 8;
const KEPT: u8 = 9;
const FORGET: u8 = 10;
const SNAPSHOT: u8 = 20;
const BASE: u8 = 21;
const CARRIED: u8 = 22;

/// A record without the body of a message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Record {
    /// A message became ours.
    Accept(Box<Meta>),
    /// How a transaction ended, and which one starts next.
    Attempt { settle: Option<Settle>, intend: Option<Intend> },
    /// A person moved recipients.
    Steer { message: MessageId, recipients: Vec<u32>, to: Move, channel: Option<ChannelId>, by: String, at: Timestamp },
    /// A channel changed its state.
    Channel { channel: ChannelId, state: ChannelState, at: Timestamp },
    /// What was learned about a channel.
    Lessons { channel: ChannelId, lessons: Lessons, at: Timestamp },
    /// What a channel keeps back, and the events that it is.
    Kept { channel: ChannelId, kept: Kept, told: Vec<(EventKind, String)>, at: Timestamp },
    /// The clocks, and what passed while the machine was off.
    Beat { heartbeat: Heartbeat, credit: Option<Credit> },
    /// A person took an address off the list of those that must not be written to.
    Unsuppress { party: Party, address: String, by: String, at: Timestamp },
    /// An open message, written again because the segment that has it is to go. Its body follows.
    Snapshot(Box<Snapshot>),
    /// Older segments are not needed any more.
    Base(Box<Base>),
    /// What ended mail leaves behind, written again.
    Carried(Box<Carried>),
    /// An address is forgotten in mail that has ended.
    Forget(Box<Forgotten>),
}

/// All of an accepted message but its body.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Meta {
    pub id: MessageId,
    pub at: Timestamp,
    pub due: Timestamp,
    pub person: PersonId,
    pub team: Option<TeamId>,
    pub token: Option<TokenId>,
    pub surface: Surface,
    pub channel: ChannelId,
    pub lane: Lane,
    pub lane_reason: String,
    pub retry_of: Option<MessageId>,
    pub envelope: Envelope,
    pub suppressed: Vec<u32>,
    pub author: String,
    pub from: String,
    pub subject: String,
    pub message_id: String,
    pub tags: Vec<(String, String)>,
    pub idempotency: Option<Idempotency>,
    pub scheduled_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    /// The file with what follows the header section; the record has that alone then.
    pub rest: Option<FileName>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settle {
    pub message: MessageId,
    pub channel: ChannelId,
    pub at: Timestamp,
    pub relay: String,
    pub spent: Option<Spent>,
    pub refunded: Option<Units>,
    pub recipients: Vec<SettledRow>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SettledRow {
    pub index: u32,
    pub to: Move,
    pub due: Timestamp,
    pub counts: bool,
    pub said: String,
    /// The address that goes on the list, lower case, and whose list; older records do not say the latter.
    pub suppress: Option<(Option<Party>, String)>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Intend {
    pub message: MessageId,
    pub channel: ChannelId,
    pub at: Timestamp,
    pub recipients: Vec<u32>,
    pub spend: Option<Spend>,
}

impl From<NewMessage> for Meta {
    fn from(message: NewMessage) -> Self {
        Self {
            id: message.id,
            at: message.at,
            due: message.due,
            person: message.person,
            team: message.team,
            token: message.token,
            surface: message.surface,
            channel: message.channel,
            lane: message.lane,
            lane_reason: message.lane_reason,
            retry_of: message.retry_of,
            envelope: message.envelope,
            suppressed: message.suppressed,
            author: message.author,
            from: message.from,
            subject: message.subject,
            message_id: message.message_id,
            tags: message.tags,
            idempotency: message.idempotency,
            scheduled_at: message.scheduled_at,
            expires_at: message.expires_at,
            rest: message.body.named(),
        }
    }
}

impl Record {
    /// Appends the record; for an accepted message and a snapshot the body follows, appended by the caller.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Accept(meta) => {
                out.push(if meta.rest.is_some() { ACCEPT_SPOOLED } else { ACCEPT });
                put_before_body(out, |out| {
                    put_meta(out, meta);
                    meta.rest.iter().for_each(|rest| put_file_name(out, rest));
                });
            }
            Self::Snapshot(snapshot) => {
                out.push(SNAPSHOT);
                put_before_body(out, |out| put_snapshot(out, snapshot));
            }
            Self::Base(base) => {
                out.push(BASE);
                put_base(out, base);
            }
            Self::Carried(carried) => {
                out.push(CARRIED);
                put_carried(out, carried);
            }
            Self::Forget(forgotten) => {
                out.push(FORGET);
                put_forgotten(out, forgotten);
            }
            Self::Attempt { settle, intend } => {
                out.push(ATTEMPT);
                put_option(out, settle.as_ref(), put_settle);
                put_option(out, intend.as_ref(), |out, intend| {
                    out.extend_from_slice(&intend.message.0);
                    put_number(out, u64::from(intend.channel.0));
                    put_time(out, intend.at);
                    put_indices(out, &intend.recipients);
                    put_option(out, intend.spend.as_ref(), put_spend);
                });
            }
            Self::Steer { message, recipients, to, channel, by, at } => {
                out.push(STEER);
                out.extend_from_slice(&message.0);
                put_indices(out, recipients);
                out.push(move_code(*to));
                put_option(out, *channel, |out, channel| put_number(out, u64::from(channel.0)));
                put_text(out, by);
                put_time(out, *at);
            }
            Self::Channel { channel, state, at } => {
                out.push(CHANNEL);
                put_number(out, u64::from(channel.0));
                put_channel_state(out, state);
                put_time(out, *at);
            }
            Self::Lessons { channel, lessons, at } => {
                out.push(LESSONS);
                put_number(out, u64::from(channel.0));
                put_lessons(out, lessons);
                put_time(out, *at);
            }
            Self::Kept { channel, kept, told, at } => {
                out.push(KEPT);
                put_number(out, u64::from(channel.0));
                put_kept(out, kept);
                put_number(out, told.len() as u64);
                for (kind, detail) in told {
                    out.push(kind.code());
                    put_text(out, detail);
                }
                put_time(out, *at);
            }
            Self::Beat { heartbeat, credit } => {
                out.push(BEAT);
                put_heartbeat(out, heartbeat);
                put_option(out, *credit, |out, Credit { before, by }| {
                    put_time(out, before);
                    put_number(out, by.as_millis() as u64);
                });
            }
            Self::Unsuppress { party, address, by, at } => {
                out.push(UNSUPPRESS);
                put_party(out, *party);
                put_text(out, address);
                put_text(out, by);
                put_time(out, *at);
            }
        }
    }

    /// Reads a record; for an accepted message and a snapshot also where in `payload` the body begins.
    pub(crate) fn decode(payload: &[u8]) -> Option<(Self, usize)> {
        let mut input = Input(payload);
        let record = match input.byte()? {
            kind @ (ACCEPT | ACCEPT_SPOOLED) => {
                let take = |input: &mut Input<'_>| {
                    let mut meta = take_meta(input)?;
                    if kind == ACCEPT_SPOOLED {
                        meta.rest = Some(take_file_name(input)?);
                    }
                    Some(meta)
                };
                let (meta, body_at) = take_before_body(&mut input, take)?;
                return Some((Self::Accept(Box::new(meta)), body_at));
            }
            SNAPSHOT => {
                let (snapshot, body_at) = take_before_body(&mut input, take_snapshot)?;
                return Some((Self::Snapshot(Box::new(snapshot)), body_at));
            }
            BASE => Self::Base(Box::new(take_base(&mut input)?)),
            CARRIED => Self::Carried(Box::new(take_carried(&mut input)?)),
            FORGET => Self::Forget(Box::new(take_forgotten(&mut input)?)),
            ATTEMPT => Self::Attempt { settle: input.option(take_settle)?, intend: input.option(take_intend)? },
            STEER => Self::Steer {
                message: take_id(&mut input)?,
                recipients: take_indices(&mut input)?,
                to: move_of(input.byte()?)?,
                channel: input.option(|input| input.small().map(ChannelId))?,
                by: input.text()?.to_owned(),
                at: take_time(&mut input)?,
            },
            CHANNEL => Self::Channel {
                channel: ChannelId(input.small()?),
                state: take_channel_state(&mut input)?,
                at: take_time(&mut input)?,
            },
            LESSONS => {
                Self::Lessons { channel: ChannelId(input.small()?), lessons: take_lessons(&mut input)?, at: take_time(&mut input)? }
            }
            KEPT => Self::Kept {
                channel: ChannelId(input.small()?),
                kept: take_kept(&mut input)?,
                told: take_told(&mut input)?,
                at: take_time(&mut input)?,
            },
            BEAT => Self::Beat {
                heartbeat: take_heartbeat(&mut input)?,
                credit: input
                    .option(|input| Some(Credit { before: take_time(input)?, by: Duration::from_millis(input.number()?) }))?,
            },
            UNSUPPRESS => Self::Unsuppress {
                party: take_party(&mut input)?,
                address: input.text()?.to_owned(),
                by: input.text()?.to_owned(),
                at: take_time(&mut input)?,
            },
            _ => return None,
        };
        input.end()?;
        Some((record, payload.len()))
    }
}

/// What a record that has a message says of it; `None` for any other.
pub(crate) fn message_in(payload: &[u8]) -> Option<Meta> {
    match Record::decode(payload)?.0 {
        Record::Accept(meta) => Some(*meta),
        Record::Snapshot(snapshot) => Some(snapshot.meta),
        _ => None,
    }
}

/// The file that the record of a message names.
///
/// # Errors
/// It is none.
pub(crate) fn rest_of(payload: &[u8]) -> Result<Option<FileName>, ()> {
    match payload.first() {
        // The usual one needs no reading.
        Some(&ACCEPT) => Ok(None),
        _ => message_in(payload).map(|meta| meta.rest).ok_or(()),
    }
}

/// What stands before a body says how long it is.
fn put_before_body(out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) {
    let length_at = out.len();
    out.extend_from_slice(&[0; 4]);
    put(out);
    let length = (out.len() - length_at - 4) as u32;
    out[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
}

fn take_before_body<T>(input: &mut Input<'_>, take: impl FnOnce(&mut Input<'_>) -> Option<T>) -> Option<(T, usize)> {
    let length = u32::from_le_bytes(input.fixed(4)?.try_into().ok()?) as usize;
    let mut before = Input(input.fixed(length)?);
    let taken = take(&mut before)?;
    before.end()?;
    Some((taken, 5 + length))
}

fn put_settle(out: &mut Vec<u8>, settle: &Settle) {
    out.extend_from_slice(&settle.message.0);
    put_number(out, u64::from(settle.channel.0));
    put_time(out, settle.at);
    put_text(out, &settle.relay);
    put_option(out, settle.spent.as_ref(), put_spent);
    put_option(out, settle.refunded, put_units);
    put_number(out, settle.recipients.len() as u64);
    for row in &settle.recipients {
        put_number(out, u64::from(row.index));
        out.push(move_code(row.to));
        put_time(out, row.due);
        out.push(u8::from(row.counts));
        put_text(out, &row.said);
        put_suppress(out, row.suppress.as_ref());
    }
}

fn take_settle(input: &mut Input<'_>) -> Option<Settle> {
    let message = take_id(input)?;
    let channel = ChannelId(input.small()?);
    let at = take_time(input)?;
    let relay = input.text()?.to_owned();
    let spent = input.option(take_spent)?;
    let refunded = input.option(take_units)?;
    let count = input.count()?;
    let mut recipients = Vec::with_capacity(count.min(1024));
    for _ in 0..count {
        recipients.push(SettledRow {
            index: input.small()?,
            to: move_of(input.byte()?)?,
            due: take_time(input)?,
            counts: input.byte()? == 1,
            said: input.text()?.to_owned(),
            suppress: take_suppress(input)?,
        });
    }
    Some(Settle { message, channel, at, relay, spent, refunded, recipients })
}

fn put_suppress(out: &mut Vec<u8>, suppress: Option<&(Option<Party>, String)>) {
    match suppress {
        None => out.push(0),
        Some((None, address)) => {
            out.push(1);
            put_text(out, address);
        }
        Some((Some(party), address)) => {
            out.push(2);
            put_text(out, address);
            put_party(out, *party);
        }
    }
}

fn take_suppress(input: &mut Input<'_>) -> Option<Option<(Option<Party>, String)>> {
    Some(match input.byte()? {
        0 => None,
        1 => Some((None, input.text()?.to_owned())),
        2 => {
            let address = input.text()?.to_owned();
            Some((Some(take_party(input)?), address))
        }
        _ => return None,
    })
}

fn take_intend(input: &mut Input<'_>) -> Option<Intend> {
    Some(Intend {
        message: take_id(input)?,
        channel: ChannelId(input.small()?),
        at: take_time(input)?,
        recipients: take_indices(input)?,
        spend: input.option(take_spend)?,
    })
}

fn put_units(out: &mut Vec<u8>, units: Units) {
    put_number(out, u64::from(units.messages));
    put_number(out, u64::from(units.recipients));
    put_number(out, units.bytes);
}

fn take_units(input: &mut Input<'_>) -> Option<Units> {
    Some(Units { messages: input.small()?, recipients: input.small()?, bytes: input.number()? })
}

fn put_spend(out: &mut Vec<u8>, spend: &Spend) {
    put_text(out, &spend.account);
    put_text(out, &spend.from);
    put_units(out, spend.units);
}

fn take_spend(input: &mut Input<'_>) -> Option<Spend> {
    Some(Spend { account: input.text()?.into(), from: input.text()?.into(), units: take_units(input)? })
}

fn put_spent(out: &mut Vec<u8>, spent: &Spent) {
    put_text(out, &spent.account);
    put_text(out, &spent.from);
    put_units(out, spent.units);
    put_time(out, spent.age_from);
}

fn take_spent(input: &mut Input<'_>) -> Option<Spent> {
    let Spend { account, from, units } = take_spend(input)?;
    Some(Spent { account, from, units, age_from: take_time(input)? })
}

fn put_lessons(out: &mut Vec<u8>, lessons: &Lessons) {
    put_option(out, lessons.pace.as_ref(), |out, pace| {
        put_number(out, u64::from(pace.per_minute));
        put_number(out, u64::from(pace.before));
        put_time(out, pace.taught_at);
        put_time(out, pace.step_at);
        put_text(out, &pace.said);
    });
    put_option(out, lessons.cap.as_ref(), |out, cap| {
        put_number(out, u64::from(cap.connections));
        put_number(out, u64::from(cap.before));
        put_time(out, cap.taught_at);
        put_time(out, cap.step_at);
        put_text(out, &cap.said);
    });
}

fn take_lessons(input: &mut Input<'_>) -> Option<Lessons> {
    let pace = input.option(|input| {
        Some(LearnedPace {
            per_minute: input.small()?,
            before: input.small()?,
            taught_at: take_time(input)?,
            step_at: take_time(input)?,
            said: input.text()?.to_owned(),
        })
    })?;
    let cap = input.option(|input| {
        Some(LearnedCap {
            connections: input.small()?,
            before: input.small()?,
            taught_at: take_time(input)?,
            step_at: take_time(input)?,
            said: input.text()?.to_owned(),
        })
    })?;
    Some(Lessons { pace, cap })
}

fn put_kept(out: &mut Vec<u8>, kept: &Kept) {
    put_number(out, kept.revision);
    put_number(out, kept.people.len() as u64);
    for (person, why) in &kept.people {
        put_number(out, u64::from(person.0));
        put_text(out, why);
    }
    put_number(out, kept.senders.len() as u64);
    for (Sender { person, author, path }, SenderRefused { address, said }) in &kept.senders {
        put_number(out, u64::from(person.0));
        put_text(out, author);
        put_option(out, path.as_deref(), put_text);
        put_text(out, address);
        put_text(out, said);
    }
    put_option(out, kept.down_since, put_time);
}

fn take_kept(input: &mut Input<'_>) -> Option<Kept> {
    let revision = input.number()?;
    let count = input.count()?;
    let people = (0..count).map(|_| Some((PersonId(input.small()?), input.text()?.to_owned()))).collect::<Option<_>>()?;
    let count = input.count()?;
    let senders = (0..count).map(|_| take_sender(input)).collect::<Option<_>>()?;
    Some(Kept { revision, people, senders, down_since: input.option(take_time)? })
}

fn take_sender(input: &mut Input<'_>) -> Option<(Sender, SenderRefused)> {
    let person = PersonId(input.small()?);
    let (author, path) = (input.text()?.to_owned(), input.option(Input::text)?.map(str::to_owned));
    let refused = SenderRefused { address: input.text()?.to_owned(), said: input.text()?.to_owned() };
    Some((Sender { person, author, path }, refused))
}

fn take_told(input: &mut Input<'_>) -> Option<Vec<(EventKind, String)>> {
    let count = input.count()?;
    (0..count).map(|_| Some((EventKind::from_code(input.byte()?)?, input.text()?.to_owned()))).collect()
}

/// What a channel keeps back as bytes, for the index.
pub(crate) fn kept_bytes(kept: &Kept) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_kept(&mut bytes, kept);
    bytes
}

/// And back.
pub(crate) fn kept_from(bytes: &[u8]) -> Option<Kept> {
    take_kept(&mut Input(bytes))
}

/// Lessons as bytes, for the index.
pub(crate) fn lessons_bytes(lessons: &Lessons) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_lessons(&mut bytes, lessons);
    bytes
}

/// And back.
pub(crate) fn lessons_from(bytes: &[u8]) -> Option<Lessons> {
    take_lessons(&mut Input(bytes))
}

fn put_heartbeat(out: &mut Vec<u8>, heartbeat: &Heartbeat) {
    let Heartbeat { reading, steady, owed, doubted } = heartbeat;
    out.extend_from_slice(&reading.boot);
    put_number(out, reading.since_boot.as_millis() as u64);
    put_time(out, reading.wall);
    out.push(u8::from(reading.proved) | u8::from(*doubted) << 1);
    put_time(out, *steady);
    put_option(out, *owed, |out, Owed { wall, steady }| {
        put_time(out, wall);
        put_time(out, steady);
    });
}

fn take_heartbeat(input: &mut Input<'_>) -> Option<Heartbeat> {
    let boot = input.fixed(16)?.try_into().ok()?;
    let since_boot = Duration::from_millis(input.number()?);
    let wall = take_time(input)?;
    let bits = input.byte()?;
    let reading = Reading { boot, since_boot, wall, proved: bits & 1 != 0 };
    let steady = take_time(input)?;
    let owed = input.option(|input| Some(Owed { wall: take_time(input)?, steady: take_time(input)? }))?;
    Some(Heartbeat { reading, steady, owed, doubted: bits & 2 != 0 })
}

/// A heartbeat as bytes, for the index.
pub(crate) fn heartbeat_bytes(heartbeat: &Heartbeat) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_heartbeat(&mut bytes, heartbeat);
    bytes
}

/// And back.
pub(crate) fn heartbeat_from(bytes: &[u8]) -> Option<Heartbeat> {
    take_heartbeat(&mut Input(bytes))
}

fn put_party(out: &mut Vec<u8>, party: Party) {
    let (kind, id) = party_numbers(party);
    out.push(kind);
    put_number(out, u64::from(id));
}

fn take_party(input: &mut Input<'_>) -> Option<Party> {
    let kind = input.byte()?;
    party_of(kind, input.small()?)
}

/// A party as two numbers, in log and index.
pub(crate) fn party_numbers(party: Party) -> (u8, u32) {
    match party {
        Party::Team(team) => (0, team.0),
        Party::Person(person) => (1, person.0),
    }
}

/// And back.
pub(crate) fn party_of(kind: u8, id: u32) -> Option<Party> {
    match kind {
        0 => Some(Party::Team(TeamId(id))),
        1 => Some(Party::Person(PersonId(id))),
        _ => None,
    }
}

fn put_meta(out: &mut Vec<u8>, meta: &Meta) {
    out.extend_from_slice(&meta.id.0);
    put_time(out, meta.at);
    put_time(out, meta.due);
    put_number(out, u64::from(meta.person.0));
    put_option(out, meta.team, |out, team| put_number(out, u64::from(team.0)));
    put_option(out, meta.token, |out, token| put_number(out, u64::from(token.0)));
    out.push(surface_code(meta.surface));
    put_number(out, u64::from(meta.channel.0));
    out.push(lane_code(meta.lane));
    put_text(out, &meta.lane_reason);
    put_option(out, meta.retry_of, |out, id| out.extend_from_slice(&id.0));
    put_envelope(out, &meta.envelope);
    put_indices(out, &meta.suppressed);
    put_text(out, &meta.author);
    put_text(out, &meta.from);
    put_text(out, &meta.subject);
    put_text(out, &meta.message_id);
    put_number(out, meta.tags.len() as u64);
    for (name, value) in &meta.tags {
        put_text(out, name);
        put_text(out, value);
    }
    put_option(out, meta.idempotency.as_ref(), |out, key| {
        put_text(out, &key.key);
        out.extend_from_slice(&key.fingerprint);
        out.push(u8::from(key.parts));
    });
    put_option(out, meta.scheduled_at, put_time);
    put_option(out, meta.expires_at, put_time);
}

fn take_meta(input: &mut Input<'_>) -> Option<Meta> {
    Some(Meta {
        id: take_id(input)?,
        at: take_time(input)?,
        due: take_time(input)?,
        person: PersonId(input.small()?),
        team: input.option(|input| input.small().map(TeamId))?,
        token: input.option(|input| input.small().map(TokenId))?,
        surface: surface_of(input.byte()?)?,
        channel: ChannelId(input.small()?),
        lane: lane_of(input.byte()?)?,
        lane_reason: input.text()?.to_owned(),
        retry_of: input.option(take_id)?,
        envelope: take_envelope(input)?,
        suppressed: take_indices(input)?,
        author: input.text()?.to_owned(),
        from: input.text()?.to_owned(),
        subject: input.text()?.to_owned(),
        message_id: input.text()?.to_owned(),
        tags: take_tags(input)?,
        idempotency: input.option(|input| {
            let key = input.text()?.to_owned();
            let fingerprint = input.fixed(32)?.try_into().ok()?;
            Some(Idempotency { key, fingerprint, parts: input.byte()? == 1 })
        })?,
        scheduled_at: input.option(take_time)?,
        expires_at: input.option(take_time)?,
        rest: None,
    })
}

fn put_file_name(out: &mut Vec<u8>, name: &FileName) {
    out.extend_from_slice(&name.id);
    put_number(out, name.length);
    out.extend_from_slice(&name.checksum.to_le_bytes());
    out.push(u8::from(name.eight_bit));
}

fn take_file_name(input: &mut Input<'_>) -> Option<FileName> {
    Some(FileName {
        id: input.fixed(16)?.try_into().ok()?,
        length: input.number()?,
        checksum: u32::from_le_bytes(input.fixed(4)?.try_into().ok()?),
        eight_bit: input.byte()? == 1,
    })
}

fn take_tags(input: &mut Input<'_>) -> Option<Vec<(String, String)>> {
    let count = input.count()?;
    (0..count).map(|_| Some((input.text()?.to_owned(), input.text()?.to_owned()))).collect()
}

fn put_envelope(out: &mut Vec<u8>, envelope: &Envelope) {
    put_option(out, envelope.reverse_path.mailbox(), |out, mailbox| put_text(out, &mailbox.to_string()));
    out.push(match envelope.body {
        BodyType::SevenBit => 0,
        BodyType::EightBitMime => 1,
    });
    out.push(u8::from(envelope.smtputf8));
    put_option(out, envelope.ret, |out, ret| out.push(u8::from(ret == Ret::Full)));
    put_option(out, envelope.envid.as_deref(), put_text);
    put_number(out, envelope.recipients.len() as u64);
    for recipient in &envelope.recipients {
        put_text(out, &recipient.path.to_string());
        put_option(out, recipient.notify, |out, notify| {
            out.push(u8::from(notify.success) | u8::from(notify.failure) << 1 | u8::from(notify.delay) << 2);
        });
        put_option(out, recipient.orcpt.as_deref(), put_text);
    }
}

fn take_envelope(input: &mut Input<'_>) -> Option<Envelope> {
    let reverse_path = match input.option(Input::text)? {
        None => ReversePath::Null,
        Some(text) => ReversePath::Mailbox(Mailbox::parse(text).ok()?),
    };
    let body = match input.byte()? {
        0 => BodyType::SevenBit,
        1 => BodyType::EightBitMime,
        _ => return None,
    };
    let smtputf8 = input.byte()? == 1;
    let ret = input.option(Input::byte)?.map(|full| if full == 1 { Ret::Full } else { Ret::Headers });
    let envid = input.option(Input::text)?.map(str::to_owned);
    let count = input.count()?;
    let mut recipients = Vec::with_capacity(count.min(1024));
    for _ in 0..count {
        let path = ForwardPath::from(Mailbox::parse(input.text()?).ok()?);
        let bits = input.option(Input::byte)?;
        let notify = bits.map(|bits| Notify { success: bits & 1 != 0, failure: bits & 2 != 0, delay: bits & 4 != 0 });
        let orcpt = input.option(Input::text)?.map(str::to_owned);
        recipients.push(Recipient { path, notify, orcpt });
    }
    Some(Envelope { reverse_path, recipients, body, smtputf8, ret, envid })
}

fn put_channel_state(out: &mut Vec<u8>, state: &ChannelState) {
    match state {
        ChannelState::Unverified => out.push(0),
        ChannelState::Active => out.push(1),
        ChannelState::Paused { by } => {
            out.push(2);
            put_text(out, by);
        }
        ChannelState::Throttled { until, reason, replies } => {
            out.push(3);
            put_time(out, *until);
            put_text(out, reason);
            put_number(out, u64::from(*replies));
        }
        ChannelState::Unreachable { until, failures, reason } => {
            out.push(4);
            put_time(out, *until);
            put_number(out, u64::from(*failures));
            put_text(out, reason);
        }
        ChannelState::LoginRefused { until, reason } => {
            out.push(5);
            put_time(out, *until);
            put_text(out, reason);
        }
        ChannelState::NeedsAttention { reason, revision } => {
            out.push(6);
            put_text(out, reason);
            put_number(out, *revision);
        }
        ChannelState::Disabled => out.push(7),
    }
}

fn take_channel_state(input: &mut Input<'_>) -> Option<ChannelState> {
    Some(match input.byte()? {
        0 => ChannelState::Unverified,
        1 => ChannelState::Active,
        2 => ChannelState::Paused { by: input.text()?.to_owned() },
        3 => ChannelState::Throttled { until: take_time(input)?, reason: input.text()?.to_owned(), replies: input.small()? },
        4 => ChannelState::Unreachable { until: take_time(input)?, failures: input.small()?, reason: input.text()?.to_owned() },
        5 => ChannelState::LoginRefused { until: take_time(input)?, reason: input.text()?.to_owned() },
        6 => ChannelState::NeedsAttention { reason: input.text()?.to_owned(), revision: input.number()? },
        7 => ChannelState::Disabled,
        _ => return None,
    })
}

/// A channel's state as bytes, for the index.
pub(crate) fn channel_state_bytes(state: &ChannelState) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_channel_state(&mut bytes, state);
    bytes
}

/// And back.
pub(crate) fn channel_state_from(bytes: &[u8]) -> Option<ChannelState> {
    take_channel_state(&mut Input(bytes))
}

fn put_time(out: &mut Vec<u8>, at: Timestamp) {
    out.extend_from_slice(&at.0.to_le_bytes());
}

fn take_time(input: &mut Input<'_>) -> Option<Timestamp> {
    Some(Timestamp(i64::from_le_bytes(input.fixed(8)?.try_into().ok()?)))
}

fn put_id(out: &mut Vec<u8>, id: MessageId) {
    out.extend_from_slice(&id.0);
}

fn take_id(input: &mut Input<'_>) -> Option<MessageId> {
    Some(MessageId(input.fixed(16)?.try_into().ok()?))
}

fn put_indices(out: &mut Vec<u8>, indices: &[u32]) {
    put_number(out, indices.len() as u64);
    for index in indices {
        put_number(out, u64::from(*index));
    }
}

fn take_indices(input: &mut Input<'_>) -> Option<Vec<u32>> {
    let count = input.count()?;
    (0..count).map(|_| input.small()).collect()
}

const MOVES: [Move; 13] = [
    Move::Lease,
    Move::GiveBack,
    Move::Send,
    Move::Capture,
    Move::Defer,
    Move::Doubt,
    Move::Fail,
    Move::Expire,
    Move::Hold,
    Move::Release,
    Move::Cancel,
    Move::Suppress,
    Move::Reroute,
];

fn move_code(what: Move) -> u8 {
    match what {
        Move::Lease => 0,
        Move::GiveBack => 1,
        Move::Send => 2,
        Move::Capture => 3,
        Move::Defer => 4,
        Move::Doubt => 5,
        Move::Fail => 6,
        Move::Expire => 7,
        Move::Hold => 8,
        Move::Release => 9,
        Move::Cancel => 10,
        Move::Suppress => 11,
        Move::Reroute => 12,
    }
}

fn move_of(code: u8) -> Option<Move> {
    MOVES.get(usize::from(code)).copied()
}

/// The number of a surface in log and index.
pub(crate) fn surface_code(surface: Surface) -> u8 {
    match surface {
        Surface::Smtp => 0,
        Surface::Http => 1,
        Surface::Cli => 2,
        Surface::Web => 3,
        Surface::Gateway => 4,
    }
}

/// And back.
pub(crate) fn surface_of(code: u8) -> Option<Surface> {
    [Surface::Smtp, Surface::Http, Surface::Cli, Surface::Web, Surface::Gateway].get(usize::from(code)).copied()
}

/// The number of a lane in log and index.
pub(crate) fn lane_code(lane: Lane) -> u8 {
    match lane {
        Lane::Now => 0,
        Lane::Normal => 1,
        Lane::Bulk => 2,
    }
}

/// And back.
pub(crate) fn lane_of(code: u8) -> Option<Lane> {
    Lane::ALL.get(usize::from(code)).copied()
}

/// Bytes with their length, for the index.
pub(crate) fn tags_bytes(tags: &[(String, String)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in tags {
        put_bytes(&mut bytes, name.as_bytes());
        put_bytes(&mut bytes, value.as_bytes());
    }
    bytes
}

/// And back.
pub(crate) fn tags_from(bytes: &[u8]) -> Vec<(String, String)> {
    let mut input = Input(bytes);
    let mut tags = Vec::new();
    while let (Some(name), Some(value)) = (input.text(), input.text()) {
        tags.push((name.to_owned(), value.to_owned()));
    }
    tags
}
