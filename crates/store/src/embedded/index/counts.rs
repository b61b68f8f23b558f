//! Recipients by state, of each person's mail of a team and a channel: kept in the same transaction as what they count.

use super::super::open_set::{Effects, Group};
use crate::api::{Counted, StoreError};
use mail::{ChannelId, MessageId, PersonId, RecipientState, TeamId};
use rusqlite::{Connection, Transaction, params};
use std::collections::HashMap;

/// Instead of a team, where none is concerned.
const NO_TEAM: i64 = -1;

/// How counts change in one transaction.
#[derive(Default)]
pub(super) struct Counts(HashMap<(Group, u8), i64>);

impl Counts {
    fn add(&mut self, group: Group, state: RecipientState, count: i64) {
        *self.0.entry((group, state.code())).or_default() += count;
    }

    /// Counts what a record did.
    pub(super) fn learn(&mut self, effects: &Effects) {
        let known = |id: MessageId| effects.counted.iter().flatten().find(|(known, _)| *known == id).map(|(_, group)| *group);
        let new = effects.new.as_ref().map(|(meta, _)| {
            let group = Group { person: meta.person, team: meta.team, channel: meta.channel };
            self.add(group, RecipientState::Queued, meta.envelope.recipients.len() as i64);
            (meta.id, group)
        });
        for (change, (from, to)) in effects.changes.iter().zip(&effects.moved) {
            let of_new = new.filter(|(id, _)| *id == change.message).map(|(_, group)| group);
            let Some(group) = of_new.or_else(|| known(change.message)) else { continue };
            self.add(group, *from, -1);
            self.add(group, *to, 1);
        }
        if let Some((id, channel)) = effects.rerouted {
            // Behind its moves: a change of channel moves nobody to another state.
            for (state, group) in effects.before.iter().filter_map(|state| Some((*state, known(id)?))) {
                self.add(group, state, -1);
                self.add(Group { channel, ..group }, state, 1);
            }
        }
    }

    /// A message is forgotten.
    pub(super) fn leave(&mut self, transaction: &Transaction<'_>, id: MessageId) -> Result<(), StoreError> {
        let mut statement = transaction.prepare_cached(
            "SELECT m.person, m.team, m.channel, r.state FROM messages m JOIN recipients r ON r.message = m.id WHERE m.id = ?1",
        )?;
        let mut rows = statement.query([id.0])?;
        while let Some(row) = rows.next()? {
            let (person, channel) = (PersonId(row.get(0)?), ChannelId(row.get(2)?));
            let group = Group { person, team: row.get::<_, Option<u32>>(1)?.map(TeamId), channel };
            *self.0.entry((group, row.get(3)?)).or_default() -= 1;
        }
        Ok(())
    }

    pub(super) fn write(self, transaction: &Transaction<'_>) -> Result<(), StoreError> {
        for ((Group { person, team, channel }, state), count) in self.0.into_iter().filter(|(_, count)| *count != 0) {
            let key = (person.0, team_number(team), channel.0, state);
            transaction
                .prepare_cached(
                    "INSERT INTO counts VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT DO UPDATE SET recipients = recipients + excluded.recipients",
                )?
                .execute(params![key.0, key.1, key.2, key.3, count])?;
            if count < 0 {
                transaction
                    .prepare_cached(
                        "DELETE FROM counts WHERE person = ?1 AND team = ?2 AND channel = ?3 AND state = ?4 AND recipients = 0",
                    )?
                    .execute(key)?;
            }
        }
        Ok(())
    }
}

fn team_number(team: Option<TeamId>) -> i64 {
    team.map_or(NO_TEAM, |team| i64::from(team.0))
}

/// One line of the counts.
pub(super) struct Line {
    pub group: Group,
    pub state: u8,
    pub recipients: u64,
}

/// What there is of some mail, line by line.
pub(super) fn lines(connection: &Connection, of: &Counted) -> Result<Vec<Line>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT person, team, channel, state, recipients FROM counts
         WHERE (?1 IS NULL OR person = ?1) AND (?2 IS NULL OR team = ?2) AND (?3 IS NULL OR channel = ?3)",
    )?;
    let team = of.team.map(|team| team.0);
    let rows = statement.query_map(params![of.person.map(|one| one.0), team, of.channel.map(|one| one.0)], |row| {
        let team = row.get::<_, i64>(1)?;
        let group =
            Group { person: PersonId(row.get(0)?), team: u32::try_from(team).ok().map(TeamId), channel: ChannelId(row.get(2)?) };
        Ok(Line { group, state: row.get(3)?, recipients: row.get::<_, i64>(4)?.unsigned_abs() })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Recipients by state, as the index knows them.
pub(crate) fn counts(connection: &Connection, of: &Counted) -> Result<[u64; 9], StoreError> {
    let mut by_state = [0; 9];
    for line in lines(connection, of)? {
        if let Some(sum) = by_state.get_mut(usize::from(line.state)) {
            *sum += line.recipients;
        }
    }
    Ok(by_state)
}
