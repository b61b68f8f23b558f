//! Lists of messages, newest first.

use super::super::record::{lane_code, tags_from};
use super::columns::turned;
use super::read::message;
use super::sources::{OpenIn, Source, Span, after, at_hand, domain, shortest};
use crate::api::{Filter, Listing, Page, StoreError, has_part};
use mail::{MessageId, Timestamp};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Messages that are looked at for one page. Few enough in tests that one of them can see it end.
const AT_MOST: usize = if cfg!(test) { 300 } else { 200_000 };
/// How long is looked for one page, from when the turn came.
const NO_LONGER: Duration = Duration::from_millis(500);
/// The clock is read once for so many messages.
const LOOK_AT_CLOCK: usize = 256;
/// Recipients of a page: one that has more ends early, but not before its first message.
const RECIPIENTS: usize = 10_000;
/// Who looks at more than these waits for a turn.
const LONG: usize = 4_096;

/// A page of messages: of all, or of those that wait as the filter says. Long searches take turns.
pub(crate) fn list(
    connection: &Connection,
    filter: &Filter,
    page: &Page,
    waiting: Option<&dyn Fn() -> Vec<MessageId>>,
    open: OpenIn<'_>,
    turns: &Mutex<()>,
) -> Result<Listing, StoreError> {
    let limit = page.limit.clamp(1, 1000);
    let span = span(filter, page);
    let mut turn = Turn { turns, taken: None, began: Instant::now() };
    let source = if let Some(waiting) = waiting {
        turn.take();
        Some(Source::of(waiting(), span))
    } else if let Some(source) = at_hand(connection, filter, span)? {
        Some(source)
    } else {
        turn.take();
        shortest(connection, filter, span, open)?
    };
    let mut found = match source {
        Some(source) => search(connection, filter, source, limit, &mut turn)?,
        None => Found::default(),
    };
    let has_more = found.ids.len() > limit || found.stopped.is_some();
    drop(turn);
    found.ids.truncate(limit);
    let mut messages = Vec::with_capacity(found.ids.len());
    let (mut recipients, mut is_full) = (0, false);
    for id in &found.ids {
        let Some(message) = message(connection, *id)? else { continue };
        recipients += message.recipients.len();
        is_full = recipients > RECIPIENTS && !messages.is_empty();
        if is_full {
            break;
        }
        messages.push(message);
    }
    // The next page begins behind what is shown.
    let (has_more, stopped) = if is_full { (true, None) } else { (has_more, found.stopped) };
    if span.oldest_first {
        messages.reverse();
    }
    Ok(Listing { messages, has_more, stopped })
}

fn span(filter: &Filter, page: &Page) -> Span {
    let at = |at: Timestamp| MessageId::new(Timestamp(at.0.max(0)), [0; 10]);
    let from = filter.after.map(at).max(page.before.map(after)).unwrap_or(MessageId([0; 16]));
    let to = filter.before.map(at).into_iter().chain(page.after).min().unwrap_or(MessageId([0xff; 16]));
    Span { from, to, oldest_first: page.before.is_some() }
}

/// The turn of those who look for long: all of them together keep one processor busy at most.
struct Turn<'a> {
    turns: &'a Mutex<()>,
    taken: Option<MutexGuard<'a, ()>>,
    began: Instant,
}

impl Turn<'_> {
    /// Waits for it, unless it is there. The time begins then.
    fn take(&mut self) {
        if self.taken.is_none() {
            self.taken = Some(self.turns.lock().unwrap_or_else(PoisonError::into_inner));
            self.began = Instant::now();
        }
    }

    fn is_over(&self) -> bool {
        self.began.elapsed() > NO_LONGER
    }
}

#[derive(Default)]
struct Found {
    ids: Vec<MessageId>,
    stopped: Option<MessageId>,
}

/// Goes on until it has one more than the page takes, or has looked for long enough.
fn search(
    connection: &Connection,
    filter: &Filter,
    mut source: Source,
    limit: usize,
    turn: &mut Turn<'_>,
) -> Result<Found, StoreError> {
    let check = Check::new(filter);
    let (mut found, mut looked) = (Found::default(), 0);
    while let Some(id) = source.next(connection)? {
        looked += 1;
        if looked == LONG {
            turn.take();
        }
        if check.holds(connection, id)? {
            found.ids.push(id);
            if found.ids.len() > limit {
                break;
            }
        }
        if looked >= AT_MOST || (looked % LOOK_AT_CLOCK == 0 && turn.is_over()) {
            found.stopped = Some(id);
            break;
        }
    }
    Ok(found)
}

/// What has to hold of a message, whatever led to it.
struct Check<'a> {
    filter: &'a Filter,
    subject: Option<String>,
    /// Something is asked of the message itself.
    of_message: bool,
    /// What is asked of one of its recipients, with the values.
    of_recipient: Option<(String, Vec<Value>)>,
}

impl<'a> Check<'a> {
    fn new(filter: &'a Filter) -> Self {
        let Filter { channel, person, team, lane, tags, author, subject, .. } = filter;
        let of_message = channel.is_some()
            || person.is_some()
            || team.is_some()
            || lane.is_some()
            || !tags.is_empty()
            || author.is_some()
            || subject.is_some();
        let subject = subject.as_ref().map(|part| part.to_lowercase());
        Self { filter, subject, of_message, of_recipient: of_recipient(filter) }
    }

    fn holds(&self, connection: &Connection, id: MessageId) -> Result<bool, StoreError> {
        if self.of_message {
            let mut statement = connection
                .prepare_cached("SELECT channel, person, team, lane, author, subject, tags FROM messages WHERE id = ?1")?;
            if statement.query_row([id.0], |row| self.holds_of_message(row)).optional()? != Some(true) {
                return Ok(false);
            }
        }
        let Some((sql, values)) = &self.of_recipient else { return Ok(true) };
        let id = Value::Blob(id.0.to_vec());
        let mut statement = connection.prepare_cached(sql)?;
        Ok(statement.exists(params_from_iter(std::iter::once(&id).chain(values)))?)
    }

    fn holds_of_message(&self, row: &Row<'_>) -> rusqlite::Result<bool> {
        let Filter { channel, person, team, lane, tags, author, .. } = self.filter;
        let is = |at: usize, wanted: Option<u32>| match wanted {
            Some(wanted) => row.get::<_, Option<u32>>(at).map(|found| found == Some(wanted)),
            None => Ok(true),
        };
        if !(is(0, channel.map(|one| one.0))?
            && is(1, person.map(|one| one.0))?
            && is(2, team.map(|one| one.0))?
            && is(3, lane.map(|lane| u32::from(lane_code(lane))))?)
        {
            return Ok(false);
        }
        if let Some(author) = author
            && row.get_ref(4)?.as_str()? != author
        {
            return Ok(false);
        }
        if let Some(part) = &self.subject
            && !has_part(row.get_ref(5)?.as_str()?, part)
        {
            return Ok(false);
        }
        if tags.is_empty() {
            return Ok(true);
        }
        let known = tags_from(row.get_ref(6)?.as_blob()?);
        Ok(tags.iter().all(|tag| known.contains(tag)))
    }
}

/// One recipient has to be in one of the states, and to be the one that is asked for.
fn of_recipient(filter: &Filter) -> Option<(String, Vec<Value>)> {
    let (mut sql, mut values) = ("SELECT 1 FROM recipients WHERE message = ?1".to_owned(), Vec::new());
    if !filter.states.is_empty() {
        let codes: Vec<String> = filter.states.iter().map(|state| state.code().to_string()).collect();
        sql.push_str(&format!(" AND state IN ({})", codes.join(",")));
    }
    if let Some(wanted) = &filter.recipient {
        match domain(wanted) {
            Some((from, to)) => {
                sql.push_str(" AND +address >= ?2 AND +address < ?3");
                values.extend([Value::Text(from), Value::Text(to)]);
            }
            None => {
                sql.push_str(" AND +address = ?2");
                values.push(Value::Text(turned(&wanted.to_lowercase())));
            }
        }
    }
    (!filter.states.is_empty() || filter.recipient.is_some()).then_some((sql, values))
}
