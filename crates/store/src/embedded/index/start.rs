//! Where to begin after a start, and what the check compares with the log.

use super::super::open_set::{Row, SegmentUse, Standing, UNENDING, UNSCHEDULED};
use super::super::record::{channel_state_from, heartbeat_from, kept_from, lane_of, lessons_from, party_of};
use super::columns::{id_at, place_at, state_at, time_at, units_at};
use super::{Index, WITHOUT_INDEX, progress};
use crate::api::{Party, Spend, StoreError};
use crate::body::FileId;
use mail::channel::{ChannelState, Kept};
use mail::pace::{FromId, Lessons};
use mail::steady::Heartbeat;
use mail::{ChannelId, MessageId, PersonId, RecipientState, TeamId, Timestamp, TokenId};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row as SqlRow};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

impl Index {
    /// Gives every open message to `each`, channel by channel and lane by lane.
    pub(crate) fn load_open(&self, mut each: impl FnMut(Standing, Vec<Row>)) -> Result<(), StoreError> {
        let mut next_way = self
            .connection
            .prepare("SELECT channel, lane FROM messages WHERE (channel, lane) > (?1, ?2) ORDER BY channel, lane LIMIT 1")?;
        let mut way = (-1_i64, 0_i64);
        while let Some(next) = next_way.query_row(way, |row| Ok((row.get(0)?, row.get(1)?))).optional()? {
            way = next;
            self.load_open_of(way, &mut each)?;
        }
        Ok(())
    }

    fn load_open_of(&self, way: (i64, i64), each: &mut impl FnMut(Standing, Vec<Row>)) -> Result<(), StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT m.id, m.segment, m.offset, m.length, m.body_at, m.channel, m.at, r.state, r.intended, r.attempts, r.doubts, r.due, r.first_attempt,
             m.lane, m.team, m.person, m.author, m.arrival, m.since, m.scheduled_at, m.expires_at, m.token
             FROM messages m INDEXED BY messages_way JOIN recipients r ON r.message = m.id
             WHERE m.channel = ?1 AND m.lane = ?2 AND m.open = 1 ORDER BY m.id, r.place",
        )?;
        let mut rows = statement.query(way)?;
        let mut open: Option<Standing> = None;
        let mut recipients = Vec::new();
        while let Some(row) = rows.next()? {
            let id = id_at(row, 0)?;
            if let Some(done) = open.take_if(|known| known.id != id) {
                each(done, std::mem::take(&mut recipients));
            }
            if open.is_none() {
                open = Some(standing_at(row, id)?);
            }
            recipients.push(row_at(row)?);
        }
        if let Some(done) = open {
            each(done, recipients);
        }
        Ok(())
    }

    fn by_channel<T>(&self, sql: &str, decode: fn(&[u8]) -> Option<T>) -> Result<BTreeMap<ChannelId, T>, StoreError> {
        let mut statement = self.connection.prepare(sql)?;
        let rows = statement.query_map([], |row| Ok((ChannelId(row.get(0)?), row.get::<_, Vec<u8>>(1)?)))?;
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        Ok(rows.into_iter().filter_map(|(channel, bytes)| Some((channel, decode(&bytes)?))).collect())
    }

    pub(crate) fn lessons(&self) -> Result<BTreeMap<ChannelId, Lessons>, StoreError> {
        self.by_channel("SELECT channel, lessons FROM lessons", lessons_from)
    }

    pub(crate) fn kept(&self) -> Result<BTreeMap<ChannelId, Kept>, StoreError> {
        self.by_channel("SELECT channel, kept FROM kept", kept_from)
    }

    pub(crate) fn heartbeat(&self) -> Result<Option<Heartbeat>, StoreError> {
        let found = self.connection.query_row("SELECT clocks FROM heartbeat", [], |row| row.get::<_, Vec<u8>>(0)).optional()?;
        Ok(found.and_then(|bytes| heartbeat_from(&bytes)))
    }

    /// What open transactions spend.
    pub(crate) fn spending(&self) -> Result<HashMap<MessageId, Spend>, StoreError> {
        let mut statement =
            self.connection.prepare("SELECT message, account, sender, messages, recipients, bytes FROM spending")?;
        let rows = statement.query_map([], |row| {
            let units = units_at(row, 3)?;
            let spend = Spend { account: row.get::<_, String>(1)?.into(), from: row.get::<_, String>(2)?.into(), units };
            Ok((id_at(row, 0)?, spend))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Everybody's suppressed addresses.
    pub(crate) fn suppressed(&self) -> Result<std::collections::BTreeSet<(Party, String)>, StoreError> {
        let mut statement = self.connection.prepare("SELECT kind, party, address FROM suppressions")?;
        let rows = statement.query_map([], |row| Ok((party_of(row.get(0)?, row.get(1)?), row.get::<_, String>(2)?)))?;
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        Ok(rows.into_iter().filter_map(|(party, address)| party.map(|party| (party, address))).collect())
    }

    pub(crate) fn channel_states(&self) -> Result<BTreeMap<ChannelId, ChannelState>, StoreError> {
        self.by_channel("SELECT channel, state FROM channels", channel_state_from)
    }

    /// The file of a large body of each open message, with its length.
    pub(crate) fn open_bodies(&self) -> Result<HashMap<MessageId, (FileId, u64)>, StoreError> {
        let mut statement = self
            .connection
            .prepare("SELECT b.message, b.file, b.length FROM bodies b JOIN messages m ON m.id = b.message WHERE m.open = 1")?;
        let rows = statement.query_map([], |row| Ok((id_at(row, 0)?, (row.get(1)?, row.get::<_, i64>(2)?.unsigned_abs()))))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Since when the file of a body rests whose message has ended, and the segment of its record; `None` for a file
    /// that nobody will ask for.
    pub(crate) fn resting(&self, file: FileId) -> Result<Option<(Timestamp, u32)>, StoreError> {
        let mut statement =
            self.connection.prepare_cached("SELECT resting, segment FROM bodies WHERE file = ?1 AND resting IS NOT NULL")?;
        Ok(statement.query_row([file], |row| Ok((Timestamp(row.get(0)?), row.get(1)?))).optional()?)
    }

    /// When mail of each segment ended, the first and the last.
    pub(crate) fn segments(&self) -> Result<BTreeMap<u32, SegmentUse>, StoreError> {
        let mut statement = self.connection.prepare("SELECT segment, first_ended, last_ended FROM segments")?;
        let rows = statement.query_map([], |row| {
            let ended = Some((Timestamp(row.get(1)?), Timestamp(row.get(2)?)));
            Ok((row.get(0)?, SegmentUse { ended, ..SegmentUse::default() }))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

/// What the index says on its own, for the check.
pub(crate) struct Learned {
    /// The last record it knows.
    pub sequence: u64,
    /// Open messages, with the states of their recipients.
    pub open: Vec<(MessageId, Vec<RecipientState>)>,
}

impl Learned {
    /// Reads an index without changing it.
    pub(crate) fn read(path: &Path) -> Result<Self, StoreError> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let damage: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if damage != "ok" {
            return Err(StoreError::Io(format!("index: {damage}; {WITHOUT_INDEX}")));
        }
        let sequence = progress(&connection)?.known.sequence;
        let mut statement = connection.prepare(
            "SELECT m.id, r.state FROM messages m JOIN recipients r ON r.message = m.id WHERE m.open = 1 ORDER BY m.id, r.place",
        )?;
        let rows = statement.query_map([], |row| Ok((id_at(row, 0)?, state_at(row, 1)?)))?;
        let mut open: Vec<(MessageId, Vec<RecipientState>)> = Vec::new();
        for row in rows {
            let (id, state) = row?;
            match open.last_mut().filter(|(last, _)| *last == id) {
                Some((_, states)) => states.push(state),
                None => open.push((id, vec![state])),
            }
        }
        Ok(Self { sequence, open })
    }
}

fn standing_at(row: &SqlRow<'_>, id: MessageId) -> rusqlite::Result<Standing> {
    Ok(Standing {
        id,
        place: place_at(row, 1)?,
        channel: ChannelId(row.get(5)?),
        accepted_at: Timestamp(row.get(6)?),
        lane: lane_of(row.get(13)?).unwrap_or_default(),
        team: row.get::<_, Option<u32>>(14)?.map(TeamId),
        person: PersonId(row.get(15)?),
        token: row.get::<_, Option<u32>>(21)?.map(TokenId),
        from: FromId::of(row.get_ref(16)?.as_str()?),
        order: row.get::<_, i64>(17)?.unsigned_abs(),
        since: Timestamp(row.get(18)?),
        scheduled_at: time_at(row, 19)?.unwrap_or(UNSCHEDULED),
        expires_at: time_at(row, 20)?.unwrap_or(UNENDING),
    })
}

fn row_at(row: &SqlRow<'_>) -> rusqlite::Result<Row> {
    Ok(Row {
        state: state_at(row, 7)?,
        intended: row.get(8)?,
        attempts: row.get(9)?,
        doubts: row.get(10)?,
        due: Timestamp(row.get(11)?),
        first_attempt: Timestamp(row.get(12)?),
    })
}
