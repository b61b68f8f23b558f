//! Makes the directory what an administrator wrote: one transaction, all problems at once.

use super::desired::{ChannelSpec, DesiredChannel, DesiredDirectory, DesiredPerson, DesiredTeam, DesiredToken};
use super::rows::{self, owner_text, pattern};
use super::{DirectoryError, secret_place};
use crate::seal::{SealError, Sealer, Secret};
use mail::channel::{AuthMode, OnUncertain, ReturnPath, Scope, TlsMode};
use mail::directory::{AddressPattern, Role, TokenSurface, address_key};
use mail::limits::Caps;
use mail::{Owner, PersonId, TeamId, Timestamp};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use smtp::{Domain, Mailbox};
use std::collections::{BTreeMap, HashSet};

/// A secret given from outside has at least this many characters.
const MIN_TOKEN: usize = 22;

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

/// What applying did.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// Every entry named, and every one disabled.
    pub changes: Vec<Change>,
    /// Secrets to be shown once.
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
    desired: &DesiredDirectory,
    options: &ApplyOptions,
) -> Result<Applied, DirectoryError> {
    let transaction = connection.transaction()?;
    let mut work = Work { transaction: &transaction, sealer, problems: Vec::new(), applied: Applied::default() };
    work.duplicates(desired);
    for team in &desired.teams {
        work.team(team)?;
    }
    work.shared_domains()?;
    for person in &desired.people {
        work.person(person)?;
    }
    for channel in &desired.channels {
        work.channel(channel)?;
    }
    for token in &desired.tokens {
        work.token(token)?;
    }
    if options.prune {
        work.prune(desired)?;
    }
    let Work { problems, applied, .. } = work;
    if !problems.is_empty() {
        return Err(DirectoryError::Invalid(problems));
    }
    if options.dry_run || !applied.has_changes() {
        return Ok(applied);
    }
    for change in applied.changes.iter().filter(|change| change.action != Action::Unchanged) {
        let what = format!("{} {}: {:?}", change.kind, change.name, change.action);
        transaction.execute("INSERT INTO audit (at, who, what) VALUES (?1, ?2, ?3)", params![options.now.0, options.by, what])?;
    }
    transaction.commit()?;
    Ok(applied)
}

struct Work<'a> {
    transaction: &'a Transaction<'a>,
    sealer: &'a Sealer,
    problems: Vec<String>,
    applied: Applied,
}

fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

impl Work<'_> {
    fn problem(&mut self, text: impl Into<String>) {
        self.problems.push(text.into());
    }

    fn done(&mut self, kind: &'static str, name: &str, action: Action) {
        self.applied.changes.push(Change { kind, name: name.to_owned(), action });
    }

    fn duplicates(&mut self, desired: &DesiredDirectory) {
        let named: Vec<(&str, String)> = desired
            .teams
            .iter()
            .map(|team| ("team", team.name.clone()))
            .chain(desired.people.iter().map(|person| ("person", person.email.to_lowercase())))
            .chain(desired.channels.iter().map(|channel| ("channel", channel.name.clone())))
            .chain(desired.tokens.iter().map(|token| ("token", format!("{} of {}", token.name, token.person.to_lowercase()))))
            .collect();
        let mut seen = HashSet::new();
        for (kind, name) in named {
            if name.trim().is_empty() || name.len() > 255 || name.chars().any(char::is_control) {
                self.problem(format!("{kind} '{}': give it a name of 1 to 255 characters", name.escape_debug()));
            }
            if !seen.insert((kind, name.clone())) {
                self.problem(format!("{kind} '{name}' stands twice; keep one"));
            }
        }
    }

    fn team(&mut self, team: &DesiredTeam) -> Result<(), DirectoryError> {
        let mut domains = Vec::new();
        for domain in &team.domains {
            match Domain::parse(domain) {
                Ok(parsed) if !parsed.is_literal() => domains.push(parsed.to_ascii()),
                _ => self.problem(format!("team '{}': '{domain}' is not a domain", team.name)),
            }
        }
        let domains = json(&domains);
        let known: Option<(u32, String, bool)> = self
            .transaction
            .query_row("SELECT id, domains, disabled FROM teams WHERE name = ?1", [&team.name], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()?;
        let action = match known {
            None => {
                self.transaction
                    .execute("INSERT INTO teams (name, domains, disabled) VALUES (?1, ?2, 0)", params![team.name, domains])?;
                Action::Added
            }
            Some((id, before, disabled)) => {
                let fields = changed(&[("domains", before != domains), ("disabled", disabled)]);
                if !fields.is_empty() {
                    self.transaction.execute("UPDATE teams SET domains = ?2, disabled = 0 WHERE id = ?1", params![id, domains])?;
                }
                action(fields)
            }
        };
        self.done("team", &team.name, action);
        Ok(())
    }

    /// A domain is one team's at a time.
    fn shared_domains(&mut self) -> Result<(), DirectoryError> {
        let mut owners: BTreeMap<String, String> = BTreeMap::new();
        for (name, domains) in self.team_domains()?.into_values() {
            for domain in domains {
                if let Some(other) = owners.insert(domain.clone(), name.clone()) {
                    self.problem(format!(
                        "team '{name}': the domain {domain} is team '{other}''s already; a domain belongs to one team"
                    ));
                }
            }
        }
        Ok(())
    }

    fn team_domains(&self) -> Result<BTreeMap<u32, (String, Vec<String>)>, DirectoryError> {
        let mut statement = self.transaction.prepare("SELECT id, name, domains FROM teams WHERE disabled = 0")?;
        let rows =
            statement.query_map([], |row| Ok((row.get::<_, u32>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?)))?;
        let mut teams = BTreeMap::new();
        for row in rows {
            let (id, name, domains) = row?;
            teams.insert(id, (name, serde_json::from_str(&domains).unwrap_or_default()));
        }
        Ok(teams)
    }

    fn team_id(&self, name: &str) -> Result<Option<u32>, DirectoryError> {
        Ok(self.transaction.query_row("SELECT id FROM teams WHERE name = ?1", [name], |row| row.get(0)).optional()?)
    }

    fn person_id(&self, email: &str) -> Result<Option<u32>, DirectoryError> {
        let Ok(mailbox) = Mailbox::parse(email) else { return Ok(None) };
        let key = address_key(&mailbox);
        Ok(self.transaction.query_row("SELECT id FROM people WHERE key = ?1", [key], |row| row.get(0)).optional()?)
    }

    fn person(&mut self, person: &DesiredPerson) -> Result<(), DirectoryError> {
        let Ok(mailbox) = Mailbox::parse(&person.email) else {
            self.problem(format!("person '{}': not an e-mail address", person.email));
            return Ok(());
        };
        let role = match person.role.as_deref() {
            None | Some("member") => Role::Member,
            Some("team_admin") => Role::TeamAdmin,
            Some("admin") => Role::Admin,
            Some(other) => {
                self.problem(format!("person '{}': role '{other}' is unknown; write member, team_admin or admin", person.email));
                Role::Member
            }
        };
        let mut teams = Vec::new();
        for name in &person.teams {
            match self.team_id(name)? {
                Some(id) => teams.push(id),
                None => self.problem(format!(
                    "person '{}': there is no team '{name}'; add [[team]] name = \"{name}\", or correct it",
                    person.email
                )),
            }
        }
        self.check_grants(person, &teams)?;
        let role = json(&role).trim_matches('"').to_owned();
        let name = person.name.clone().unwrap_or_else(|| person.email.clone());
        let (teams, send_as, key) = (json(&teams), json(&person.send_as), address_key(&mailbox));
        type Known = (u32, String, String, String, String, String, bool);
        let known: Option<Known> = self
            .transaction
            .query_row("SELECT id, email, name, role, teams, send_as, disabled FROM people WHERE key = ?1", [&key], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?))
            })
            .optional()?;
        let action = match known {
            None => {
                self.transaction.execute(
                    "INSERT INTO people (key, email, name, role, teams, send_as, disabled) VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0)",
                    params![key, person.email, name, role, teams, send_as],
                )?;
                Action::Added
            }
            Some((id, e, n, r, t, s, disabled)) => {
                let fields = changed(&[
                    ("email", e != person.email),
                    ("name", n != name),
                    ("role", r != role),
                    ("teams", t != teams),
                    ("send_as", s != send_as),
                    ("disabled", disabled),
                ]);
                if !fields.is_empty() {
                    self.transaction.execute(
                        "UPDATE people SET email = ?2, name = ?3, role = ?4, teams = ?5, send_as = ?6, disabled = 0 WHERE id = ?1",
                        params![id, person.email, name, role, teams, send_as],
                    )?;
                }
                action(fields)
            }
        };
        self.done("person", &person.email, action);
        Ok(())
    }

    /// Further addresses lie within the domains of the person's teams.
    fn check_grants(&mut self, person: &DesiredPerson, teams: &[u32]) -> Result<(), DirectoryError> {
        let domains: Vec<String> =
            self.team_domains()?.into_iter().filter(|(id, _)| teams.contains(id)).flat_map(|(_, (_, domains))| domains).collect();
        for text in &person.send_as {
            let domain = match pattern(text) {
                None => {
                    self.problem(format!("person '{}': send_as '{text}' is neither an address nor '*@domain'", person.email));
                    continue;
                }
                Some(AddressPattern::Domain(domain)) => domain,
                Some(AddressPattern::Mailbox(mailbox)) => mailbox.domain().to_ascii(),
            };
            if !domains.contains(&domain) {
                self.problem(format!(
                    "person '{}': send_as '{text}' lies outside of their teams' domains; add {domain} to a team of theirs",
                    person.email
                ));
            }
        }
        Ok(())
    }

    fn owner(&mut self, channel: &DesiredChannel) -> Result<Option<Owner>, DirectoryError> {
        let owner = match channel.owner.split_once(':') {
            None if channel.owner == "instance" => Some(Owner::Instance),
            Some(("person", email)) => self.person_id(email)?.map(PersonId).map(Owner::Person),
            Some(("team", name)) => self.team_id(name)?.map(TeamId).map(Owner::Team),
            _ => {
                self.problem(format!(
                    "channel '{}': owner '{}' must be 'person:ADDRESS', 'team:NAME' or 'instance'",
                    channel.name, channel.owner
                ));
                return Ok(None);
            }
        };
        if owner.is_none() {
            self.problem(format!(
                "channel '{}': there is no {}; add it, or correct the owner",
                channel.name,
                channel.owner.replacen(':', " '", 1) + "'"
            ));
        }
        Ok(owner)
    }

    fn channel(&mut self, channel: &DesiredChannel) -> Result<(), DirectoryError> {
        let Some(owner) = self.owner(channel)? else { return Ok(()) };
        let Some(spec) = self.spec(channel, owner)? else { return Ok(()) };
        let (owner, spec) = (owner_text(owner), json(&spec));
        type Known = (u32, String, String, Option<Vec<u8>>, bool);
        let known: Option<Known> = self
            .transaction
            .query_row("SELECT id, owner, spec, secret, disabled FROM channels WHERE name = ?1", [&channel.name], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
            })
            .optional()?;
        let action = match known {
            None => {
                self.transaction.execute(
                    "INSERT INTO channels (name, owner, spec, disabled, revision) VALUES (?1, ?2, ?3, 0, 1)",
                    params![channel.name, owner, spec],
                )?;
                let id = self.transaction.last_insert_rowid() as u32;
                self.store_secret(id, channel.password.as_ref())?;
                Action::Added
            }
            Some((id, before_owner, before, sealed, disabled)) => {
                let opened = sealed.map(|sealed| self.sealer.open_value(&secret_place(id), &sealed)).transpose()?;
                let fields = changed(&[
                    ("owner", before_owner != owner),
                    ("settings", before != spec),
                    ("password", opened != channel.password),
                    ("disabled", disabled),
                ]);
                if !fields.is_empty() {
                    self.transaction.execute(
                        "UPDATE channels SET owner = ?2, spec = ?3, disabled = 0, revision = revision + 1 WHERE id = ?1",
                        params![id, owner, spec],
                    )?;
                    self.store_secret(id, channel.password.as_ref())?;
                }
                action(fields)
            }
        };
        self.done("channel", &channel.name, action);
        Ok(())
    }

    fn store_secret(&self, id: u32, secret: Option<&Secret>) -> Result<(), DirectoryError> {
        let sealed = secret.map(|secret| self.sealer.seal(&secret_place(id), secret.expose())).transpose()?;
        self.transaction.execute("UPDATE channels SET secret = ?2 WHERE id = ?1", params![id, sealed])?;
        Ok(())
    }

    fn spec(&mut self, channel: &DesiredChannel, owner: Owner) -> Result<Option<ChannelSpec>, DirectoryError> {
        let before = self.problems.len();
        let transport = match channel.transport.as_deref() {
            None | Some("smtp") => "smtp",
            Some("capture") => "capture",
            Some(other) => {
                self.problem(format!(
                    "channel '{}': transport '{other}' is not in this version; write smtp or capture",
                    channel.name
                ));
                return Ok(None);
            }
        };
        let (tls, auth) = if transport == "capture" { (TlsMode::None, AuthMode::None) } else { self.security(channel) };
        if transport == "smtp" && channel.host.as_deref().unwrap_or_default().is_empty() {
            self.problem(format!("channel '{}': an smtp channel needs a host", channel.name));
        }
        if channel.port == Some(0) {
            self.problem(format!("channel '{}': port 0 is none", channel.name));
        }
        let address = self.address(channel)?;
        let domains = self.domains(channel, owner)?;
        let scope = self.scope(channel, owner, address.is_some(), transport);
        let mut caps = match Caps::parse(&channel.limits) {
            Ok(caps) => caps,
            Err(error) => {
                self.problem(format!("channel '{}': limits: {error}", channel.name));
                Caps::default()
            }
        };
        if let Some(most) = channel.messages_per_connection {
            if most == 0 {
                self.problem(format!("channel '{}': messages_per_connection must be at least 1", channel.name));
            }
            caps.messages_per_connection = Some(most);
        }
        let on_uncertain = match channel.on_uncertain.as_deref() {
            None | Some("retry") => OnUncertain::Retry,
            Some("ask") => OnUncertain::Ask,
            Some(other) => {
                self.problem(format!(
                    "channel '{}': on_uncertain '{other}' is not in this version; write retry or ask",
                    channel.name
                ));
                OnUncertain::Retry
            }
        };
        let return_path = match channel.return_path.as_deref() {
            None if scope == Scope::Address => ReturnPath::From,
            None | Some("submitted") => ReturnPath::Submitted,
            Some("from") => ReturnPath::From,
            Some(other) => {
                self.problem(format!(
                    "channel '{}': return_path '{other}' is not in this version; write submitted or from",
                    channel.name
                ));
                ReturnPath::Submitted
            }
        };
        let default_port = if tls == TlsMode::Implicit { 465 } else { 587 };
        let spec = ChannelSpec {
            transport: transport.to_owned(),
            host: channel.host.clone().unwrap_or_default(),
            port: channel.port.unwrap_or(default_port),
            tls,
            auth,
            username: channel.username.clone(),
            scope,
            address,
            domains,
            default: channel.default,
            connections: caps.connections,
            messages_per_connection: caps.messages_per_connection,
            on_uncertain,
            return_path,
        };
        Ok((self.problems.len() == before).then_some(spec))
    }

    fn security(&mut self, channel: &DesiredChannel) -> (TlsMode, AuthMode) {
        let tls = match channel.tls.as_deref() {
            Some("implicit") => TlsMode::Implicit,
            Some("starttls") => TlsMode::Starttls,
            Some("none") => TlsMode::None,
            None if channel.port == Some(465) => TlsMode::Implicit,
            None => TlsMode::Starttls,
            Some(other) => {
                self.problem(format!("channel '{}': tls '{other}' is unknown; write starttls, implicit or none", channel.name));
                TlsMode::Starttls
            }
        };
        let has_login = channel.username.is_some() || channel.password.is_some();
        let auth = match channel.auth.as_deref() {
            Some("auto") => AuthMode::Auto,
            Some("plain") => AuthMode::Plain,
            Some("login") => AuthMode::Login,
            Some("none") => AuthMode::None,
            None if has_login => AuthMode::Auto,
            None => {
                self.problem(format!("channel '{}': give username and password, or auth = \"none\"", channel.name));
                AuthMode::None
            }
            Some(other) => {
                self.problem(format!(
                    "channel '{}': auth '{other}' is not in this version; write auto, plain, login or none",
                    channel.name
                ));
                AuthMode::None
            }
        };
        if auth != AuthMode::None && (channel.username.is_none() || channel.password.is_none()) {
            self.problem(format!("channel '{}': a login needs username and password", channel.name));
        }
        if auth == AuthMode::None && channel.auth.is_some() && has_login {
            self.problem(format!("channel '{}': auth = \"none\" and a login exclude each other; leave one out", channel.name));
        }
        if tls == TlsMode::None && auth != AuthMode::None {
            self.problem(format!(
                "channel '{}': a login never travels in clear text; use tls = \"starttls\" or \"implicit\"",
                channel.name
            ));
        }
        (tls, auth)
    }

    /// The connected address: as given, else the user name, if that is one.
    fn address(&mut self, channel: &DesiredChannel) -> Result<Option<String>, DirectoryError> {
        match &channel.address {
            Some(text) if Mailbox::parse(text).is_err() => {
                self.problem(format!("channel '{}': address '{text}' is not an e-mail address", channel.name));
                Ok(None)
            }
            Some(text) => Ok(Some(text.clone())),
            None => Ok(channel.username.clone().filter(|name| Mailbox::parse(name).is_ok())),
        }
    }

    fn domains(&mut self, channel: &DesiredChannel, owner: Owner) -> Result<Vec<String>, DirectoryError> {
        let mut domains = Vec::new();
        let teams = self.team_domains()?;
        for text in channel.domains.iter().flatten() {
            if text == "*" {
                domains.push("*".to_owned());
                continue;
            }
            let Ok(domain) = Domain::parse(text) else {
                self.problem(format!("channel '{}': '{text}' is not a domain", channel.name));
                continue;
            };
            let domain = domain.to_ascii();
            let foreign = match owner {
                Owner::Team(id) => teams.get(&id.0).is_none_or(|(_, own)| !own.contains(&domain)),
                Owner::Person(_) | Owner::Instance => false,
            };
            if foreign {
                self.problem(format!(
                    "channel '{}': {domain} is not a domain of its team; add it to the team's domains",
                    channel.name
                ));
            }
            domains.push(domain);
        }
        Ok(domains)
    }

    fn scope(&mut self, channel: &DesiredChannel, owner: Owner, has_address: bool, transport: &str) -> Scope {
        let scope = match channel.scope.as_deref() {
            Some("address") => Scope::Address,
            Some("domain") => Scope::Domain,
            Some("account") => Scope::Account,
            None if channel.domains.is_some() => Scope::Domain,
            None if matches!(owner, Owner::Person(_)) => Scope::Address,
            None => Scope::Account,
            Some(other) => {
                self.problem(format!(
                    "channel '{}': scope '{other}' is not in this version; write address, domain or account",
                    channel.name
                ));
                Scope::Address
            }
        };
        if transport == "capture" {
            return scope;
        }
        if scope == Scope::Address && !matches!(owner, Owner::Person(_)) {
            self.problem(format!(
                "channel '{}': a credential that belongs to one address is not shared; make it person:ADDRESS, or use a service of the domain",
                channel.name
            ));
        }
        if scope == Scope::Address && !has_address {
            self.problem(format!("channel '{}': say which address it is: address = \"name@example.com\"", channel.name));
        }
        if scope != Scope::Address && channel.domains.as_ref().is_none_or(Vec::is_empty) {
            self.problem(format!("channel '{}': say for which domains it may send: domains = [\"example.com\"]", channel.name));
        }
        scope
    }

    fn token(&mut self, token: &DesiredToken) -> Result<(), DirectoryError> {
        let Some(person) = self.person_id(&token.person)? else {
            self.problem(format!("token '{}': there is no person '{}'; add them, or correct it", token.name, token.person));
            return Ok(());
        };
        let mut surfaces = Vec::new();
        for surface in &token.surfaces {
            match surface.as_str() {
                "smtp" => surfaces.push(TokenSurface::Smtp),
                "api" => surfaces.push(TokenSurface::Api),
                other => self.problem(format!("token '{}': surface '{other}' is unknown; write smtp or api", token.name)),
            }
        }
        if token.surfaces.is_empty() {
            surfaces = vec![TokenSurface::Smtp, TokenSurface::Api];
        }
        let channel = self.token_channel(token, person)?;
        for text in token.send_as.iter().flatten() {
            if pattern(text).is_none() {
                self.problem(format!("token '{}': send_as '{text}' is neither an address nor '*@domain'", token.name));
            }
        }
        if token.secret.as_ref().is_some_and(|secret| secret.expose().len() < MIN_TOKEN) {
            self.problem(format!(
                "token '{}': its secret needs {MIN_TOKEN} characters or more; leave it out to have one made",
                token.name
            ));
        }
        self.write_token(token, person, &json(&surfaces), channel)
    }

    fn token_channel(&mut self, token: &DesiredToken, person: u32) -> Result<Option<u32>, DirectoryError> {
        let Some(name) = &token.channel else { return Ok(None) };
        let (directory, _) = rows::load(self.transaction)?;
        let usable = directory.channel_named(name).filter(|channel| match channel.owner {
            Owner::Person(id) => id.0 == person,
            Owner::Team(team) => directory.person(PersonId(person)).is_some_and(|person| person.teams.contains(&team)),
            Owner::Instance => true,
        });
        if usable.is_none() {
            self.problem(format!("token '{}': {} may use no channel '{name}'", token.name, token.person));
        }
        Ok(usable.map(|channel| channel.id.0))
    }

    fn write_token(
        &mut self,
        token: &DesiredToken,
        person: u32,
        surfaces: &str,
        channel: Option<u32>,
    ) -> Result<(), DirectoryError> {
        let send_as = token.send_as.as_ref().map(json);
        type Known = (u32, Vec<u8>, String, Option<u32>, Option<String>, bool);
        let known: Option<Known> = self
            .transaction
            .query_row(
                "SELECT id, hash, surfaces, channel, send_as, disabled FROM tokens WHERE person = ?1 AND name = ?2",
                params![person, token.name],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?)),
            )
            .optional()?;
        let given = token.secret.as_ref().map(|secret| self.sealer.token_hash(secret.expose()).to_vec());
        let own = known.as_ref().map(|known| known.0);
        if let Some(hash) = &given
            && self.is_taken(hash, own)?
        {
            self.problem(format!("token '{}': its secret is another token's already; every token has its own", token.name));
            return Ok(());
        }
        let action = match known {
            None => {
                let hash = match given {
                    Some(hash) => hash,
                    None => self.make_token(token)?,
                };
                self.transaction.execute(
                    "INSERT INTO tokens (person, name, hash, surfaces, channel, send_as, disabled) VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0)",
                    params![person, token.name, hash, surfaces, channel, send_as],
                )?;
                Action::Added
            }
            Some((id, hash, s, c, a, disabled)) => {
                let new_hash = given.unwrap_or_else(|| hash.clone());
                let fields = changed(&[
                    ("secret", hash != new_hash),
                    ("surfaces", s != surfaces),
                    ("channel", c != channel),
                    ("send_as", a != send_as),
                    ("disabled", disabled),
                ]);
                if !fields.is_empty() {
                    self.transaction.execute(
                        "UPDATE tokens SET hash = ?2, surfaces = ?3, channel = ?4, send_as = ?5, disabled = 0 WHERE id = ?1",
                        params![id, new_hash, surfaces, channel, send_as],
                    )?;
                }
                action(fields)
            }
        };
        self.done("token", &format!("{} of {}", token.name, token.person), action);
        Ok(())
    }

    fn is_taken(&self, hash: &[u8], own: Option<u32>) -> Result<bool, DirectoryError> {
        let owner: Option<u32> =
            self.transaction.query_row("SELECT id FROM tokens WHERE hash = ?1", [hash], |row| row.get(0)).optional()?;
        Ok(owner.is_some_and(|owner| Some(owner) != own))
    }

    fn make_token(&mut self, token: &DesiredToken) -> Result<Vec<u8>, SealError> {
        let (id, key): ([u8; 5], [u8; 32]) = (self.sealer.random()?, self.sealer.random()?);
        let secret = Secret::new(format!("sdr_{}_{}", base32(&id), base32(&key)));
        let hash = self.sealer.token_hash(secret.expose()).to_vec();
        self.applied.made_tokens.push(MadeToken { person: token.person.clone(), name: token.name.clone(), secret });
        Ok(hash)
    }

    fn prune(&mut self, desired: &DesiredDirectory) -> Result<(), DirectoryError> {
        let teams: HashSet<String> = desired.teams.iter().map(|team| team.name.clone()).collect();
        self.disable(
            "team",
            "SELECT id, name FROM teams WHERE disabled = 0",
            "UPDATE teams SET disabled = 1 WHERE id = ?1",
            &teams,
        )?;
        let people: HashSet<String> = desired
            .people
            .iter()
            .filter_map(|person| Mailbox::parse(&person.email).ok())
            .map(|mailbox| address_key(&mailbox))
            .collect();
        self.disable(
            "person",
            "SELECT id, key FROM people WHERE disabled = 0",
            "UPDATE people SET disabled = 1 WHERE id = ?1",
            &people,
        )?;
        let channels: HashSet<String> = desired.channels.iter().map(|channel| channel.name.clone()).collect();
        self.disable(
            "channel",
            "SELECT id, name FROM channels WHERE disabled = 0",
            "UPDATE channels SET disabled = 1, revision = revision + 1 WHERE id = ?1",
            &channels,
        )?;
        let tokens: HashSet<String> = desired
            .tokens
            .iter()
            .filter_map(|token| Some(format!("{} of {}", token.name, address_key(&Mailbox::parse(&token.person).ok()?))))
            .collect();
        self.disable(
            "token",
            "SELECT t.id, t.name || ' of ' || p.key FROM tokens t JOIN people p ON p.id = t.person WHERE t.disabled = 0",
            "UPDATE tokens SET disabled = 1 WHERE id = ?1",
            &tokens,
        )
    }

    fn disable(&mut self, kind: &'static str, list: &str, update: &str, named: &HashSet<String>) -> Result<(), DirectoryError> {
        let mut statement = self.transaction.prepare(list)?;
        let rows =
            statement.query_map([], |row| Ok((row.get::<_, u32>(0)?, row.get::<_, String>(1)?)))?.collect::<Result<Vec<_>, _>>()?;
        for (id, name) in rows {
            if !named.contains(&name) {
                self.transaction.execute(update, [id])?;
                self.done(kind, &name, Action::Disabled);
            }
        }
        Ok(())
    }
}

fn changed(fields: &[(&'static str, bool)]) -> Vec<&'static str> {
    fields.iter().filter(|(_, changed)| *changed).map(|(name, _)| *name).collect()
}

fn action(fields: Vec<&'static str>) -> Action {
    if fields.is_empty() { Action::Unchanged } else { Action::Changed(fields) }
}

/// Crockford base32, lower case.
fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let mut text = String::with_capacity(bytes.len() * 8 / 5 + 1);
    let (mut value, mut bits) = (0u32, 0);
    for byte in bytes {
        value = value << 8 | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(ALPHABET[(value >> bits & 31) as usize]));
        }
        value &= (1 << bits) - 1;
    }
    if bits > 0 {
        text.push(char::from(ALPHABET[(value << (5 - bits) & 31) as usize]));
    }
    text
}
