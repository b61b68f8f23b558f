//! Switching off what is not named any more.

use super::{Action, Work, key_of, token_name};
use crate::directory::desired::DesiredDirectory;
use crate::directory::{BUILT_IN, DirectoryError};
use serde_json::json;
use std::collections::HashSet;

impl Work<'_> {
    /// Comes before anything is added, so that what is new is judged beside what stays: a domain may go
    /// from a team that is no longer named to another.
    pub(super) fn prune(&mut self, desired: &DesiredDirectory) -> Result<(), DirectoryError> {
        let teams = desired.teams.iter().map(|team| team.name.clone()).collect();
        self.disable(
            "team",
            "SELECT id, name FROM teams WHERE disabled = 0",
            "UPDATE teams SET disabled = 1 WHERE id = ?1",
            &teams,
        )?;
        let people = desired.people.iter().map(|person| key_of(&person.email)).collect();
        self.disable(
            "person",
            "SELECT id, key FROM people WHERE disabled = 0",
            "UPDATE people SET disabled = 1 WHERE id = ?1",
            &people,
        )?;
        // No file names the channel of the first start: without it the instance may have no default at all.
        let channels = desired.channels.iter().map(|channel| channel.name.clone()).chain([BUILT_IN.to_owned()]).collect();
        self.disable(
            "channel",
            "SELECT id, name FROM channels WHERE disabled = 0",
            "UPDATE channels SET disabled = 1, revision = revision + 1 WHERE id = ?1",
            &channels,
        )?;
        let tokens = desired.tokens.iter().map(|token| token_name(&token.name, &token.person)).collect();
        self.disable(
            "token",
            "SELECT t.id, t.name || ' of ' || p.key FROM tokens t JOIN people p ON p.id = t.person WHERE t.disabled = 0",
            "UPDATE tokens SET disabled = 1 WHERE id = ?1",
            &tokens,
        )
    }

    fn disable(&mut self, kind: &'static str, list: &str, update: &str, named: &HashSet<String>) -> Result<(), DirectoryError> {
        let mut statement = self.transaction.prepare(list)?;
        let columns = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let rows = statement.query_map([], columns)?.collect::<Result<Vec<(u32, String)>, _>>()?;
        for (id, name) in rows.into_iter().filter(|(_, name)| !named.contains(name)) {
            self.transaction.execute(update, [id])?;
            self.done(kind, &name, Action::Disabled, Some(&json!({ "disabled": false })), &json!({ "disabled": true }));
        }
        Ok(())
    }
}
