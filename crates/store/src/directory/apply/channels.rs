//! Channels and their sealed credentials.

use super::{Action, Work, action, differences, settings};
use crate::directory::desired::{DesiredChannel, DesiredDirectory};
use crate::directory::rows::owner_text;
use crate::directory::spec::ChannelSpec;
use crate::directory::{DirectoryError, secret_place};
use crate::seal::Secret;
use mail::{Owner, PersonId, TeamId};
use rusqlite::{OptionalExtension, params};
use serde_json::Value;

const FIELDS: &[&str] = &[
    "owner",
    "transport",
    "host",
    "port",
    "tls",
    "auth",
    "username",
    "scope",
    "address",
    "domains",
    "default",
    "connections",
    "messages_per_connection",
    "recipients_per_message",
    "message_size",
    "limits",
    "reserve",
    "refusals_free",
    "on_uncertain",
    "return_path",
    "provider",
    "disabled",
];

/// A channel's row as it stands.
struct Known {
    id: u32,
    owner: String,
    spec: String,
    sealed: Option<Vec<u8>>,
    disabled: bool,
}

impl Work<'_> {
    pub(super) fn channel(&mut self, channel: &DesiredChannel) -> Result<(), DirectoryError> {
        let Some(owner) = self.owner(channel)? else { return Ok(()) };
        let spec = match settings::read(channel, owner, self.rules) {
            Ok(spec) => spec,
            Err(problems) => {
                self.problems.extend(problems.into_iter().map(|problem| format!("channel '{}': {problem}", channel.name)));
                return Ok(());
            }
        };
        let (owner, text) = (owner_text(owner), serde_json::to_string(&spec).map_err(damaged)?);
        let after = shown(&owner, &spec, false)?;
        let Some(known) = self.known_channel(&channel.name)? else {
            let sql = "INSERT INTO channels (name, owner, spec, disabled, revision) VALUES (?1, ?2, ?3, 0, 1)";
            self.transaction.execute(sql, params![channel.name, owner, text])?;
            self.store_secret(self.last_id()?, channel.password.as_ref())?;
            self.done("channel", &channel.name, Action::Added, None, &after);
            return Ok(());
        };
        let stored: ChannelSpec = serde_json::from_str(&known.spec).map_err(damaged)?;
        let before = shown(&known.owner, &stored, known.disabled)?;
        let opened = known.sealed.map(|sealed| self.sealer.open_value(&secret_place(known.id), &sealed)).transpose()?;
        let mut fields = differences(&before, &after, FIELDS);
        let has_new_secret = opened != channel.password;
        if has_new_secret {
            fields.push("password");
        }
        if !fields.is_empty() {
            let sql = "UPDATE channels SET owner = ?2, spec = ?3, disabled = 0, revision = revision + 1 WHERE id = ?1";
            self.transaction.execute(sql, params![known.id, owner, text])?;
        }
        if has_new_secret {
            self.store_secret(known.id, channel.password.as_ref())?;
        }
        self.done("channel", &channel.name, action(fields), Some(&before), &after);
        Ok(())
    }

    fn known_channel(&self, name: &str) -> Result<Option<Known>, DirectoryError> {
        let sql = "SELECT id, owner, spec, secret, disabled FROM channels WHERE name = ?1";
        let row = |row: &rusqlite::Row<'_>| {
            Ok(Known { id: row.get(0)?, owner: row.get(1)?, spec: row.get(2)?, sealed: row.get(3)?, disabled: row.get(4)? })
        };
        Ok(self.transaction.query_row(sql, [name], row).optional()?)
    }

    fn owner(&mut self, channel: &DesiredChannel) -> Result<Option<Owner>, DirectoryError> {
        let (kind, name) = channel.owner.split_once(':').unwrap_or((&channel.owner, ""));
        let owner = match kind {
            "instance" if name.is_empty() => Some(Owner::Instance),
            "person" => self.person_id(name)?.map(PersonId).map(Owner::Person),
            "team" => self.team_id(name)?.map(TeamId).map(Owner::Team),
            _ => {
                let owner = channel.owner.escape_debug();
                self.problem(format!(
                    "channel '{}': owner '{owner}' must be 'person:ADDRESS', 'team:NAME' or 'instance'",
                    channel.name
                ));
                return Ok(None);
            }
        };
        if owner.is_none() {
            let name = name.escape_debug();
            self.problem(format!(
                "channel '{}': there is no {kind} '{name}' that is switched on; add it, or correct the owner",
                channel.name
            ));
        }
        Ok(owner)
    }

    fn store_secret(&self, id: u32, secret: Option<&Secret>) -> Result<(), DirectoryError> {
        let sealed = secret.map(|secret| self.sealer.seal(&secret_place(id), secret.expose())).transpose()?;
        self.transaction.execute("UPDATE channels SET secret = ?2 WHERE id = ?1", params![id, sealed])?;
        Ok(())
    }

    /// A default that is named takes over from one that is not: the channel of the first start, for
    /// one, which would keep all mail here otherwise.
    pub(super) fn one_default(&mut self, desired: &DesiredDirectory) -> Result<(), DirectoryError> {
        let named = |name: &str| desired.channels.iter().any(|channel| channel.name == name);
        let mut statement =
            self.transaction.prepare("SELECT id, name, owner, spec FROM channels WHERE disabled = 0 ORDER BY id")?;
        let columns = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
        let rows = statement.query_map([], columns)?.collect::<Result<Vec<(u32, String, String, String)>, _>>()?;
        let mut defaults = Vec::new();
        for (id, name, owner, spec) in rows {
            let spec: ChannelSpec = serde_json::from_str(&spec).map_err(damaged)?;
            if spec.default {
                defaults.push((id, name, owner, spec));
            }
        }
        for (id, name, owner, spec) in &defaults {
            let successor = defaults.iter().any(|(_, other, of, _)| of == owner && named(other));
            if named(name) || !successor {
                continue;
            }
            let before = shown(owner, spec, false)?;
            let spec = ChannelSpec { default: false, ..spec.clone() };
            let sql = "UPDATE channels SET spec = ?2, revision = revision + 1 WHERE id = ?1";
            self.transaction.execute(sql, params![id, serde_json::to_string(&spec).map_err(damaged)?])?;
            self.done("channel", name, Action::Changed(vec!["default"]), Some(&before), &shown(owner, &spec, false)?);
        }
        Ok(())
    }
}

/// A row as the record shows it, and as it is compared.
fn shown(owner: &str, spec: &ChannelSpec, disabled: bool) -> Result<Value, DirectoryError> {
    let mut value = serde_json::to_value(spec).map_err(damaged)?;
    value["owner"] = owner.into();
    value["disabled"] = disabled.into();
    Ok(value)
}

fn damaged(error: serde_json::Error) -> DirectoryError {
    DirectoryError::Damaged(error.to_string())
}
