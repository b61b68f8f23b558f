//! Makes the directory what an administrator wrote: one transaction, all problems at once.

mod channels;
mod people;
mod prune;
mod settings;
mod tokens;
mod whole;

use super::desired::DesiredDirectory;
use super::{DirectoryError, rows};
use crate::seal::{Sealer, Secret};
use mail::Timestamp;
use mail::classify::Rules;
use mail::directory::address_key;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde_json::{Value, json};
use smtp::Mailbox;
use std::collections::HashSet;

/// How to apply.
#[derive(Clone, Debug)]
pub struct ApplyOptions {
    /// Change nothing, only say what would change.
    pub dry_run: bool,
    /// Disable what is not named.
    pub prune: bool,
    /// Who does it, for the record.
    pub by: String,
    /// Now.
    pub now: Timestamp,
}

/// What was done to one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is new.
    Added,
    /// These fields are different now.
    Changed(Vec<&'static str>),
    /// It was switched off.
    Disabled,
    /// Nothing.
    Unchanged,
}

/// One entry, and what was done to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// `team`, `person`, `channel` or `token`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// What was done.
    pub action: Action,
}

/// A token that was made, with the secret that is shown once.
#[derive(Clone, Debug)]
pub struct MadeToken {
    /// Whose.
    pub person: String,
    /// Its name.
    pub name: String,
    /// The secret.
    pub secret: Secret,
}

/// What applying did, or would do.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// Every entry named, every one disabled, and every one that lost its place as a default.
    pub changes: Vec<Change>,
    /// Secrets to be shown once. A dry run makes none.
    pub made_tokens: Vec<MadeToken>,
}

impl Applied {
    /// True when anything is different now.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        self.changes.iter().any(|change| change.action != Action::Unchanged)
    }
}

pub(super) fn apply(
    connection: &mut Connection,
    sealer: &Sealer,
    rules: &Rules,
    desired: &DesiredDirectory,
    options: &ApplyOptions,
) -> Result<Applied, DirectoryError> {
    // Dropped without commit, it leaves everything as it was.
    let transaction = connection.transaction()?;
    let mut work = Work::new(&transaction, sealer, rules);
    work.names(desired);
    if options.prune {
        work.prune(desired)?;
    }
    for team in &desired.teams {
        work.team(team)?;
    }
    for person in &desired.people {
        work.person(person)?;
    }
    for channel in &desired.channels {
        work.channel(channel)?;
    }
    work.one_default(desired)?;
    for token in &desired.tokens {
        work.token(token)?;
    }
    let (directory, _) = rows::load(&transaction)?;
    work.problems.extend(whole::problems(&directory));
    let Work { problems, mut applied, audit, .. } = work;
    if !problems.is_empty() {
        return Err(DirectoryError::Invalid(problems));
    }
    if options.dry_run {
        applied.made_tokens.clear();
        return Ok(applied);
    }
    if !applied.has_changes() {
        return Ok(applied);
    }
    for what in audit {
        transaction.execute("INSERT INTO audit (at, who, what) VALUES (?1, ?2, ?3)", params![options.now.0, options.by, what])?;
    }
    transaction.commit()?;
    Ok(applied)
}

struct Work<'a> {
    transaction: &'a Transaction<'a>,
    sealer: &'a Sealer,
    rules: &'a Rules,
    problems: Vec<String>,
    applied: Applied,
    audit: Vec<String>,
}

impl<'a> Work<'a> {
    fn new(transaction: &'a Transaction<'a>, sealer: &'a Sealer, rules: &'a Rules) -> Self {
        Self { transaction, sealer, rules, problems: Vec::new(), applied: Applied::default(), audit: Vec::new() }
    }

    fn problem(&mut self, text: impl Into<String>) {
        self.problems.push(text.into());
    }

    /// Notes what was done to a row, for the answer and for the record. No secret is in either value.
    fn done(&mut self, kind: &'static str, name: &str, action: Action, before: Option<&Value>, after: &Value) {
        if action != Action::Unchanged {
            let (word, fields) = match &action {
                Action::Added => ("added", Vec::new()),
                Action::Changed(fields) => ("changed", fields.clone()),
                Action::Disabled => ("disabled", Vec::new()),
                Action::Unchanged => ("unchanged", Vec::new()),
            };
            let what = json!({
                "kind": kind, "name": name, "action": word, "fields": fields, "before": before, "after": after
            });
            self.audit.push(what.to_string());
        }
        self.applied.changes.push(Change { kind, name: name.to_owned(), action });
    }

    /// Names stand once, and can be shown.
    fn names(&mut self, desired: &DesiredDirectory) {
        let teams = desired.teams.iter().map(|team| ("team", team.name.clone()));
        let people = desired.people.iter().map(|person| ("person", key_of(&person.email)));
        let channels = desired.channels.iter().map(|channel| ("channel", channel.name.clone()));
        let tokens = desired.tokens.iter().map(|token| ("token", token_name(&token.name, &token.person)));
        let mut seen = HashSet::new();
        for (kind, name) in teams.chain(people).chain(channels).chain(tokens) {
            if !seen.insert((kind, name.clone())) {
                self.problem(format!("{kind} '{}' stands twice; keep one", name.escape_debug()));
            }
        }
        let teams = desired.teams.iter().map(|team| ("team", &team.name));
        let channels = desired.channels.iter().map(|channel| ("channel", &channel.name));
        let tokens = desired.tokens.iter().map(|token| ("token", &token.name));
        for (kind, name) in teams.chain(channels).chain(tokens) {
            if name.trim().is_empty() || name.len() > 255 || name.chars().any(char::is_control) {
                self.problem(format!(
                    "{kind} '{}': give it a name of 1 to 255 bytes without control characters",
                    name.escape_debug()
                ));
            }
        }
    }

    /// The row of a team that is switched on.
    fn team_id(&self, name: &str) -> Result<Option<u32>, DirectoryError> {
        let sql = "SELECT id FROM teams WHERE name = ?1 AND disabled = 0";
        Ok(self.transaction.query_row(sql, [name], |row| row.get(0)).optional()?)
    }

    /// The row of a person who is switched on.
    fn person_id(&self, email: &str) -> Result<Option<u32>, DirectoryError> {
        let Ok(mailbox) = Mailbox::parse(email) else { return Ok(None) };
        let sql = "SELECT id FROM people WHERE key = ?1 AND disabled = 0";
        Ok(self.transaction.query_row(sql, [address_key(&mailbox)], |row| row.get(0)).optional()?)
    }

    fn last_id(&self) -> Result<u32, DirectoryError> {
        u32::try_from(self.transaction.last_insert_rowid()).map_err(|_| DirectoryError::Damaged("there are no more ids".to_owned()))
    }
}

/// Two spellings of one address are one person.
fn key_of(email: &str) -> String {
    Mailbox::parse(email).map_or_else(|_| email.to_lowercase(), |mailbox| address_key(&mailbox))
}

/// How a token is named: it is unique for its person.
fn token_name(name: &str, person: &str) -> String {
    format!("{name} of {}", key_of(person))
}

/// Which of `fields` differ.
fn differences(before: &Value, after: &Value, fields: &[&'static str]) -> Vec<&'static str> {
    fields.iter().copied().filter(|field| before.get(field) != after.get(field)).collect()
}

fn action(fields: Vec<&'static str>) -> Action {
    if fields.is_empty() {
        return Action::Unchanged;
    }
    // Whatever is named is switched on: a change of that field can only be this one.
    Action::Changed(fields.into_iter().map(|field| if field == "disabled" { "enabled" } else { field }).collect())
}

/// A column that holds JSON.
fn parsed(column: &str) -> Value {
    serde_json::from_str(column).unwrap_or_default()
}

/// A secret is one line of text: what stands in it goes into a login.
fn has_control_characters(secret: &Secret) -> bool {
    secret.expose().iter().any(u8::is_ascii_control)
}
