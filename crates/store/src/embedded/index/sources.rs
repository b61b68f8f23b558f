//! Where the messages of a list come from: the narrowest set that an index leads to, in order, a piece at a time.

use super::super::record::lane_code;
use super::columns::turned;
use super::counts::{Line, lines};
use crate::api::{Counted, Filter, StoreError};
use mail::{ChannelId, MessageId, PersonId, RecipientState, TeamId};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use std::collections::{BTreeSet, BinaryHeap, VecDeque};

/// Rows that are counted, or put in order, at once.
const AT_ONCE: usize = 200_000;
/// So many rows are counted to see which way is shorter.
const LOOK_AHEAD: usize = if cfg!(test) { 50 } else { 20_000 };
/// More streams than these are not merged.
const MANY: usize = 5_000;
/// Ids of one piece of a stream, at most.
const PIECE: usize = 1_000;

/// Which part of all messages, and from which end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// Not before this id.
    pub from: MessageId,
    /// Before this one.
    pub to: MessageId,
    pub oldest_first: bool,
}

impl Span {
    /// What comes sooner is greater.
    fn key(&self, id: MessageId) -> [u8; 16] {
        if self.oldest_first { id.0.map(|byte| !byte) } else { id.0 }
    }

    /// What is left behind an id.
    fn behind(&self, id: MessageId) -> Self {
        if self.oldest_first { Self { from: after(id), ..*self } } else { Self { to: id, ..*self } }
    }
}

/// The next id there can be.
pub(super) fn after(id: MessageId) -> MessageId {
    MessageId(u128::from_be_bytes(id.0).saturating_add(1).to_be_bytes())
}

/// A set of messages that an index has in the order of ids: the rows of a table for which a condition holds.
struct Stream {
    table: &'static str,
    condition: &'static str,
    values: Vec<Value>,
    piece: usize,
    ready: VecDeque<MessageId>,
    left: Option<Span>,
}

impl Stream {
    fn new(table: &'static str, condition: &'static str, values: Vec<Value>) -> Self {
        Self { table, condition, values, piece: 0, ready: VecDeque::new(), left: None }
    }

    fn number(table: &'static str, condition: &'static str, values: &[i64]) -> Self {
        Self::new(table, condition, values.iter().map(|value| Value::Integer(*value)).collect())
    }

    /// The next id. Reads a piece, so that no statement stays open: a list never keeps the journal from being begun anew.
    fn next(&mut self, connection: &Connection) -> Result<Option<MessageId>, StoreError> {
        if self.ready.is_empty()
            && let Some(span) = self.left
        {
            let column = if self.table == "recipients" { "message" } else { "id" };
            let (order, at) = (if span.oldest_first { "ASC" } else { "DESC" }, self.values.len());
            let sql = format!(
                "SELECT {column} FROM {} WHERE {} AND {column} >= ?{} AND {column} < ?{} ORDER BY {column} {order} LIMIT ?{}",
                self.table,
                self.condition,
                at + 1,
                at + 2,
                at + 3
            );
            let [from, to] = [span.from, span.to].map(|id| Value::Blob(id.0.to_vec()));
            let bounds = [from, to, Value::Integer(self.piece as i64)];
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map(params_from_iter(self.values.iter().cloned().chain(bounds)), |row| row.get(0))?;
            for row in rows {
                self.ready.push_back(MessageId(row?));
            }
            self.left = self.ready.back().filter(|_| self.ready.len() == self.piece).map(|last| span.behind(*last));
            self.piece = (self.piece * 4).min(PIECE);
        }
        Ok(self.ready.pop_front())
    }
}

/// Streams, merged.
pub(super) struct Source {
    span: Span,
    streams: Vec<Stream>,
    next: BinaryHeap<([u8; 16], usize)>,
    started: bool,
    last: Option<MessageId>,
}

impl Source {
    /// Of these messages, in any order.
    pub(super) fn of(ids: Vec<MessageId>, span: Span) -> Self {
        Self::merged(Vec::new(), ids, span)
    }

    fn merged(mut streams: Vec<Stream>, mut ids: Vec<MessageId>, span: Span) -> Self {
        let piece = (PIECE / streams.len().max(1)).clamp(4, PIECE);
        for stream in &mut streams {
            (stream.piece, stream.left) = (piece, Some(span));
        }
        ids.retain(|id| *id >= span.from && *id < span.to);
        if ids.len() > AT_ONCE {
            // Nobody goes further in one page.
            ids.select_nth_unstable_by_key(AT_ONCE, |id| std::cmp::Reverse(span.key(*id)));
            ids.truncate(AT_ONCE);
        }
        ids.sort_unstable_by_key(|id| std::cmp::Reverse(span.key(*id)));
        streams.push(Stream { ready: ids.into(), ..Stream::new("", "", Vec::new()) });
        Self { span, streams, next: BinaryHeap::new(), started: false, last: None }
    }

    /// The next message, each once.
    pub(super) fn next(&mut self, connection: &Connection) -> Result<Option<MessageId>, StoreError> {
        if !std::mem::replace(&mut self.started, true) {
            for at in 0..self.streams.len() {
                self.pull(connection, at)?;
            }
        }
        while let Some((key, at)) = self.next.pop() {
            self.pull(connection, at)?;
            let id = MessageId(if self.span.oldest_first { key.map(|byte| !byte) } else { key });
            if self.last.replace(id) != Some(id) {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    fn pull(&mut self, connection: &Connection, at: usize) -> Result<(), StoreError> {
        let next = self.streams[at].next(connection)?;
        self.next.extend(next.map(|id| (self.span.key(id), at)));
        Ok(())
    }
}

/// A way to all that a filter asks for, and about how many messages lie on it.
struct Way {
    rows: u64,
    streams: Vec<Stream>,
    ids: Vec<MessageId>,
    /// Open messages with a recipient in one of these states belong to it, too.
    in_memory: Vec<RecipientState>,
}

impl Way {
    /// By these streams, where they are not too many.
    fn of(streams: Vec<Stream>, rows: u64) -> Option<Self> {
        (streams.len() <= MANY).then_some(Self { rows, streams, ids: Vec::new(), in_memory: Vec::new() })
    }
}

/// The open messages with a recipient in one of these states.
pub(crate) type OpenIn<'a> = &'a dyn Fn(&[RecipientState]) -> Vec<MessageId>;

/// The shortest way to what a filter asks for; `None` when there is nothing.
pub(super) fn shortest(
    connection: &Connection,
    filter: &Filter,
    span: Span,
    open: OpenIn<'_>,
) -> Result<Option<Source>, StoreError> {
    let counts = lines(connection, &Counted::default())?;
    if !counts.iter().any(|line| is_of(line, filter)) {
        return Ok(None);
    }
    let all =
        Way { rows: u64::MAX, streams: vec![Stream::new("messages", "1", Vec::new())], ids: Vec::new(), in_memory: Vec::new() };
    let ways = [
        by_recipient(connection, filter)?,
        by_author(connection, &counts, filter)?,
        by_state(&counts, filter),
        by_owner(connection, &counts, filter)?,
        by_channel(&counts, filter),
    ];
    let Way { streams, mut ids, in_memory, .. } = ways.into_iter().flatten().min_by_key(|way| way.rows).unwrap_or(all);
    if !in_memory.is_empty() {
        ids.extend(open(&in_memory));
    }
    Ok(Some(Source::merged(streams, ids, span)))
}

fn is_of(line: &Line, filter: &Filter) -> bool {
    filter.person.is_none_or(|person| person == line.group.person)
        && filter.channel.is_none_or(|channel| channel == line.group.channel)
        && filter.team.is_none_or(|team| line.group.team == Some(team))
        && (filter.states.is_empty() || filter.states.iter().any(|state| state.code() == line.state))
}

fn by_recipient(connection: &Connection, filter: &Filter) -> Result<Option<Way>, StoreError> {
    let Some(wanted) = &filter.recipient else { return Ok(None) };
    let Some((from, to)) = domain(wanted) else {
        let stream = Stream::new("recipients", "address = ?1", vec![Value::Text(turned(&wanted.to_lowercase()))]);
        let rows = look_ahead(connection, &stream)?;
        return Ok(Way::of(vec![stream], rows));
    };
    // Those of a domain stand together, but in the order of addresses: they are put in order where they are not too many.
    let mut statement =
        connection.prepare_cached("SELECT message FROM recipients WHERE address >= ?1 AND address < ?2 LIMIT ?3")?;
    let rows = statement.query_map((from, to, AT_ONCE as i64 + 1), |row| Ok(MessageId(row.get(0)?)))?;
    let ids = rows.collect::<Result<Vec<_>, _>>()?;
    let few = ids.len() <= AT_ONCE;
    Ok(few.then(|| Way { rows: ids.len() as u64, streams: Vec::new(), ids, in_memory: Vec::new() }))
}

/// From where to where the addresses of a domain stand, where a whole one is asked for.
pub(super) fn domain(wanted: &str) -> Option<(String, String)> {
    let domain = wanted.strip_prefix('@')?.to_lowercase();
    // Behind '@' comes 'A'.
    Some((format!("{domain}@"), format!("{domain}A")))
}

/// An author's mail: that of each person, through each team, who ever sent any.
fn by_author(connection: &Connection, counts: &[Line], filter: &Filter) -> Result<Option<Way>, StoreError> {
    let Some(author) = &filter.author else { return Ok(None) };
    let owners = owners(counts, filter);
    if owners.len() > MANY {
        return Ok(None);
    }
    let (mut streams, mut rows) = (Vec::new(), 0);
    for owner in owners {
        let stream = by_whom(owner, author);
        let known = look_ahead(connection, &stream)?;
        if known > 0 {
            rows += known;
            streams.push(stream);
        }
    }
    Ok(Way::of(streams, rows))
}

type Owner = (PersonId, Option<TeamId>);

fn by_whom((person, team): Owner, author: &str) -> Stream {
    let team = team.map_or(Value::Null, |team| Value::Integer(i64::from(team.0)));
    let values = vec![Value::Integer(i64::from(person.0)), team, Value::Text(author.to_owned())];
    Stream::new("messages", "person = ?1 AND team IS ?2 AND author = ?3", values)
}

/// Who sent, through which team, of whom the filter asks for.
fn owners(counts: &[Line], filter: &Filter) -> BTreeSet<Owner> {
    let whose = Filter { person: filter.person, team: filter.team, ..Filter::default() };
    counts.iter().filter(|line| is_of(line, &whose)).map(|line| (line.group.person, line.group.team)).collect()
}

fn look_ahead(connection: &Connection, stream: &Stream) -> Result<u64, StoreError> {
    let sql = format!("SELECT COUNT(*) FROM (SELECT 1 FROM {} WHERE {} LIMIT {LOOK_AHEAD})", stream.table, stream.condition);
    let mut statement = connection.prepare_cached(&sql)?;
    let rows: i64 = statement.query_row(params_from_iter(stream.values.iter().cloned()), |row| row.get(0))?;
    Ok(rows.unsigned_abs())
}

/// What has a recipient in one of the states: on the channels, and in the lanes, on which the filter leaves any.
fn by_state(counts: &[Line], filter: &Filter) -> Option<Way> {
    let mut states = filter.states.clone();
    states.sort_unstable_by_key(|state| state.code());
    states.dedup();
    let mut way = Way { rows: 0, streams: Vec::new(), ids: Vec::new(), in_memory: Vec::new() };
    // Where open and where ended messages are looked at: each place once, whatever states it is for.
    let mut places = BTreeSet::new();
    for state in states {
        let wanted = Filter { states: vec![state], ..filter.clone() };
        let meant = || counts.iter().filter(|line| is_of(line, &wanted));
        let count: u64 = meant().map(|line| line.recipients).sum();
        let channels: BTreeSet<_> = meant().map(|line| line.group.channel).collect();
        match state {
            _ if count == 0 => {}
            RecipientState::Queued | RecipientState::Leased | RecipientState::Held => {
                let here = |line: &&Line| channels.contains(&line.group.channel) && is_open(line.state);
                let beside: u64 = counts.iter().filter(here).map(|line| line.recipients).sum();
                let is_near = state == RecipientState::Queued && beside <= LOOK_AHEAD as u64;
                if count <= AT_ONCE as u64 && !is_near {
                    way.rows += count;
                    way.in_memory.push(state);
                } else {
                    places.extend(channels.into_iter().map(|channel| (channel, true)));
                }
            }
            RecipientState::Sent | RecipientState::Captured => {
                places.extend(channels.into_iter().map(|channel| (channel, false)));
                // Of a message with others that are open.
                way.in_memory.push(state);
            }
            RecipientState::Failed | RecipientState::Expired | RecipientState::Cancelled | RecipientState::Suppressed => {
                way.rows += counts.iter().filter(|line| line.state == state.code()).map(|line| line.recipients).sum::<u64>();
                // Said as the index says it, so that it is used.
                let condition = "state = ?1 AND state > 3 AND state < 8";
                way.streams.push(Stream::number("recipients", condition, &[i64::from(state.code())]));
            }
        }
    }
    let is_there = |line: &&Line| places.contains(&(line.group.channel, is_open(line.state)));
    way.rows += counts.iter().filter(is_there).map(|line| line.recipients).sum::<u64>();
    let lanes = lanes(filter);
    way.streams.extend(
        places.into_iter().flat_map(|(channel, open)| lanes.iter().map(move |lane| of_way(channel, *lane, i64::from(open)))),
    );
    (!filter.states.is_empty() && way.streams.len() <= MANY).then_some(way)
}

/// By its number.
fn is_open(state: u8) -> bool {
    RecipientState::from_code(state).is_some_and(|state| !state.is_final())
}

fn lanes(filter: &Filter) -> Vec<i64> {
    filter.lane.map_or(LANES.to_vec(), |lane| vec![i64::from(lane_code(lane))])
}

const LANES: [i64; 3] = [0, 1, 2];

fn of_way(channel: ChannelId, lane: i64, open: i64) -> Stream {
    Stream::number("messages", "channel = ?1 AND lane = ?2 AND open = ?3", &[i64::from(channel.0), lane, open])
}

/// Somebody's mail, or a team's: that of each person through each team, by each author.
fn by_owner(connection: &Connection, counts: &[Line], filter: &Filter) -> Result<Option<Way>, StoreError> {
    if filter.person.is_none() && filter.team.is_none() {
        return Ok(None);
    }
    let whose = Filter { person: filter.person, team: filter.team, ..Filter::default() };
    let rows = counts.iter().filter(|line| is_of(line, &whose)).map(|line| line.recipients).sum();
    let mut next =
        connection.prepare_cached("SELECT MIN(author) FROM messages WHERE person = ?1 AND team IS ?2 AND author > ?3")?;
    let mut streams = Vec::new();
    for (person, team) in owners(counts, filter) {
        let mut author = String::new();
        let first = by_whom((person, team), "");
        if look_ahead(connection, &first)? > 0 {
            streams.push(first);
        }
        while let Some(found) =
            next.query_row((person.0, team.map(|team| team.0), &author), |row| row.get::<_, Option<String>>(0))?
        {
            author = found;
            streams.push(by_whom((person, team), &author));
            if streams.len() > MANY {
                return Ok(None);
            }
        }
    }
    Ok(Way::of(streams, rows))
}

/// A channel's mail, or that of a lane: of each channel and lane.
fn by_channel(counts: &[Line], filter: &Filter) -> Option<Way> {
    if filter.channel.is_none() && filter.lane.is_none() {
        return None;
    }
    let here = || counts.iter().filter(|line| filter.channel.is_none_or(|channel| channel == line.group.channel));
    let channels: BTreeSet<_> = here().map(|line| line.group.channel).collect();
    let lanes = lanes(filter);
    let mut streams = Vec::with_capacity(channels.len() * lanes.len() * 2);
    for channel in channels {
        streams.extend(lanes.iter().flat_map(|lane| [of_way(channel, *lane, 0), of_way(channel, *lane, 1)]));
    }
    Way::of(streams, here().map(|line| line.recipients).sum())
}
