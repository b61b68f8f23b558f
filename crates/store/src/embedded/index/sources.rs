//! Where the messages of a list come from: the narrowest set that an index leads to, in order, a piece at a time.

use super::super::record::lane_code;
use super::columns::turned;
use super::counts::{Line, lines};
use crate::api::{Counted, Filter, StoreError};
use mail::{ChannelId, MessageId, RecipientState};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use std::collections::{BTreeSet, BinaryHeap, VecDeque};

/// Rows that are counted, or put in order, at once. In tests this and what follows is little enough to be reached.
const AT_ONCE: usize = if cfg!(test) { 300 } else { 200_000 };
/// A way with fewer rows is taken without looking for a shorter one.
const SHORT: usize = if cfg!(test) { 50 } else { 4_000 };
/// More streams than these are not merged.
const MANY: usize = if cfg!(test) { 30 } else { 5_000 };
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

    fn everything() -> Self {
        Self::new("messages", "1", Vec::new())
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

/// How many rows lie on a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Length {
    /// About so many.
    Known(u64),
    /// More than are counted at once.
    Unknown,
}

/// A way to all that a filter asks for.
struct Way {
    length: Length,
    streams: Vec<Stream>,
    ids: Vec<MessageId>,
    /// Open messages with a recipient in one of these states belong to it, too.
    in_memory: Vec<RecipientState>,
}

impl Way {
    fn by(stream: Stream, length: Length) -> Self {
        Self { length, streams: vec![stream], ids: Vec::new(), in_memory: Vec::new() }
    }
}

/// The open messages with a recipient in one of these states.
pub(crate) type OpenIn<'a> = &'a dyn Fn(&[RecipientState]) -> Vec<MessageId>;

/// The way to what a filter asks for, where it is plain that it is short, or that there is no other: it costs next to nothing to
/// find.
pub(super) fn at_hand(connection: &Connection, filter: &Filter, span: Span) -> Result<Option<Source>, StoreError> {
    let source = |streams, ids| Ok(Some(Source::merged(streams, ids, span)));
    let Filter { states, channel, person, team, lane, tags, author, subject, recipient, .. } = filter;
    let asked = [
        !states.is_empty(),
        channel.is_some(),
        person.is_some(),
        team.is_some(),
        lane.is_some(),
        !tags.is_empty(),
        author.is_some(),
        subject.is_some(),
        recipient.is_some(),
    ];
    let asked = asked.into_iter().filter(|is_asked| *is_asked).count();
    if asked == 0 {
        return source(vec![Stream::everything()], Vec::new());
    }
    if let Some(channel) = channel.filter(|_| asked == 1) {
        return source(both_of(channel, &LANES), Vec::new());
    }
    for stream in narrow(filter) {
        if asked == 1 || count(connection, &stream, SHORT)? < SHORT {
            return source(vec![stream], Vec::new());
        }
    }
    match recipient.as_deref().and_then(domain) {
        Some(wanted) => match of_domain(connection, wanted, SHORT)? {
            Some(ids) => source(Vec::new(), ids),
            None => Ok(None),
        },
        None => Ok(None),
    }
}

/// The shortest way to what a filter asks for; `None` when there is nothing.
pub(super) fn shortest(
    connection: &Connection,
    filter: &Filter,
    span: Span,
    open: OpenIn<'_>,
) -> Result<Option<Source>, StoreError> {
    let person = filter.person.filter(|_| filter.channel.is_none());
    let counts = lines(connection, &Counted { person, channel: filter.channel, ..Counted::default() })?;
    if !counts.iter().any(|line| is_of(line, filter)) {
        return Ok(None);
    }
    let mut ways: Vec<Way> = by_state(connection, &counts, filter)?.into_iter().chain(by_channel(&counts, filter)).collect();
    for stream in narrow(filter) {
        let length = length(connection, &stream)?;
        ways.push(Way::by(stream, length));
    }
    if let Some(wanted) = filter.recipient.as_deref().and_then(domain) {
        let ids = of_domain(connection, wanted, AT_ONCE)?;
        ways.extend(ids.map(|ids| Way {
            length: Length::Known(ids.len() as u64),
            streams: Vec::new(),
            ids,
            in_memory: Vec::new(),
        }));
    }
    let all = || Way::by(Stream::everything(), Length::Unknown);
    let Way { streams, mut ids, in_memory, .. } = ways.into_iter().min_by_key(|way| way.length).unwrap_or_else(all);
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

/// What single indexes lead to.
fn narrow(filter: &Filter) -> Vec<Stream> {
    let Filter { recipient, author, person, team, .. } = filter;
    let address = recipient.as_ref().filter(|wanted| domain(wanted).is_none());
    let text = |text: &str| vec![Value::Text(text.to_owned())];
    let ways = [
        address.map(|wanted| Stream::new("recipients", "address = ?1", text(&turned(&wanted.to_lowercase())))),
        author.as_ref().map(|author| Stream::new("messages", "author = ?1", text(author))),
        person.map(|person| Stream::number("messages", "person = ?1", &[i64::from(person.0)])),
        team.map(|team| Stream::number("messages", "team = ?1", &[i64::from(team.0)])),
    ];
    ways.into_iter().flatten().collect()
}

/// Those for a domain stand together, but in the order of addresses: they are put in order where there are not more than `most`.
fn of_domain(connection: &Connection, (from, to): (String, String), most: usize) -> Result<Option<Vec<MessageId>>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT message FROM recipients WHERE address >= ?1 AND address < ?2 LIMIT ?3")?;
    let rows = statement.query_map((from, to, most as i64 + 1), |row| Ok(MessageId(row.get(0)?)))?;
    let ids = rows.collect::<Result<Vec<_>, _>>()?;
    Ok((ids.len() <= most).then_some(ids))
}

/// From where to where the addresses of a domain stand, where a whole one is asked for.
pub(super) fn domain(wanted: &str) -> Option<(String, String)> {
    let domain = wanted.strip_prefix('@')?.to_lowercase();
    // Behind '@' comes 'A'.
    Some((format!("{domain}@"), format!("{domain}A")))
}

fn length(connection: &Connection, stream: &Stream) -> Result<Length, StoreError> {
    let rows = count(connection, stream, AT_ONCE)?;
    Ok(if rows < AT_ONCE { Length::Known(rows as u64) } else { Length::Unknown })
}

/// The rows of a stream, up to so many.
fn count(connection: &Connection, stream: &Stream, most: usize) -> Result<usize, StoreError> {
    let sql = format!("SELECT COUNT(*) FROM (SELECT 1 FROM {} WHERE {} LIMIT {most})", stream.table, stream.condition);
    let mut statement = connection.prepare_cached(&sql)?;
    let rows: u32 = statement.query_row(params_from_iter(stream.values.iter().cloned()), |row| row.get(0))?;
    Ok(rows as usize)
}

/// What has a recipient in one of the states: on the channels, and in the lanes, on which the filter leaves any.
fn by_state(connection: &Connection, counts: &[Line], filter: &Filter) -> Result<Option<Way>, StoreError> {
    // The lines of a person do not say what else is on a channel; the person's own mail is a way, too.
    let is_whole = filter.person.is_none() || filter.channel.is_some();
    let mut states = filter.states.clone();
    states.sort_unstable_by_key(|state| state.code());
    states.dedup();
    let (mut rows, mut streams, mut in_memory, mut is_known) = (0, Vec::new(), Vec::new(), true);
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
                let is_near = is_whole && beside <= SHORT as u64 && channels.len() * LANES.len() <= MANY;
                if count <= AT_ONCE as u64 && !(is_near && state == RecipientState::Queued) {
                    rows += count;
                    in_memory.push(state);
                } else {
                    places.extend(channels.into_iter().map(|channel| (channel, true)));
                }
            }
            RecipientState::Sent | RecipientState::Captured => {
                places.extend(channels.into_iter().map(|channel| (channel, false)));
                // Of a message with others that are open.
                in_memory.push(state);
            }
            RecipientState::Failed | RecipientState::Expired | RecipientState::Cancelled | RecipientState::Suppressed => {
                // Said as the index says it, so that it is used.
                let stream = Stream::number("recipients", "state = ?1 AND state > 3 AND state < 8", &[i64::from(state.code())]);
                match length(connection, &stream)? {
                    Length::Known(count) => rows += count,
                    Length::Unknown => is_known = false,
                }
                streams.push(stream);
            }
        }
    }
    if filter.states.is_empty() || (!places.is_empty() && !is_whole) {
        return Ok(None);
    }
    let is_there = |line: &&Line| places.contains(&(line.group.channel, is_open(line.state)));
    rows += counts.iter().filter(is_there).map(|line| line.recipients).sum::<u64>();
    let lanes = lanes(filter);
    let by_lane = |(channel, open)| lanes.iter().map(move |lane| of_way(channel, *lane, i64::from(open)));
    streams.extend(places.into_iter().flat_map(by_lane));
    let length = if is_known { Length::Known(rows) } else { Length::Unknown };
    Ok((streams.len() <= MANY).then_some(Way { length, streams, ids: Vec::new(), in_memory }))
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

/// A channel's mail, or that of a lane: of each channel and lane.
fn by_channel(counts: &[Line], filter: &Filter) -> Option<Way> {
    if filter.channel.is_none() && (filter.lane.is_none() || filter.person.is_some()) {
        return None;
    }
    let channels: BTreeSet<_> = counts.iter().map(|line| line.group.channel).collect();
    let lanes = lanes(filter);
    let streams: Vec<Stream> = channels.into_iter().flat_map(|channel| both_of(channel, &lanes)).collect();
    let length = Length::Known(counts.iter().map(|line| line.recipients).sum());
    (streams.len() <= MANY).then_some(Way { length, streams, ids: Vec::new(), in_memory: Vec::new() })
}

/// What is open and what ended of a channel.
fn both_of(channel: ChannelId, lanes: &[i64]) -> Vec<Stream> {
    lanes.iter().flat_map(|lane| [of_way(channel, *lane, 0), of_way(channel, *lane, 1)]).collect()
}
