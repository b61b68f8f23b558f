//! The database's rows as the values that the rest of Sendero works with.

use super::DirectoryError;
use super::spec::ChannelSpec;
use mail::channel::{DomainPattern, Smarthost};
use mail::directory::{AddressPattern, TokenSurface};
use mail::limits::Caps;
use mail::pace::Reserve;
use mail::{Channel, ChannelId, Directory, Lane, Owner, Person, PersonId, Team, TeamId, Token, TokenId, Transport};
use rusqlite::{Connection, Row};
use smtp::Mailbox;
use std::collections::HashMap;

type Hashes = HashMap<[u8; 32], TokenId>;

/// The whole directory, and which token a hash belongs to.
pub(super) fn load(connection: &Connection) -> Result<(Directory, Hashes), DirectoryError> {
    // Where a domain went from one team to another, the one that is switched on comes last and has it.
    let teams = all(connection, "SELECT id, name, domains, disabled FROM teams ORDER BY disabled DESC, id", team)?;
    let people = all(connection, "SELECT id, email, name, role, teams, send_as, disabled FROM people", person)?;
    let channels = all(connection, "SELECT id, name, owner, spec, disabled, revision FROM channels", channel)?;
    let tokens = all(connection, "SELECT id, person, name, hash, surfaces, channel, send_as, disabled, lane FROM tokens", token)?;
    let hashes = tokens.iter().map(|(token, hash)| (*hash, token.id)).collect();
    let tokens = tokens.into_iter().map(|(token, _)| token).collect();
    Ok((Directory::new(teams, people, tokens, channels), hashes))
}

fn all<T>(
    connection: &Connection,
    sql: &str,
    read: impl Fn(&Row<'_>) -> Result<T, DirectoryError>,
) -> Result<Vec<T>, DirectoryError> {
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

fn list<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, DirectoryError> {
    serde_json::from_str(text).map_err(|error| DirectoryError::Damaged(error.to_string()))
}

fn mailbox(text: &str) -> Result<Mailbox, DirectoryError> {
    Mailbox::parse(text).map_err(|error| DirectoryError::Damaged(format!("{text}: {error}")))
}

/// Reads an address or `*@domain`.
pub(super) fn pattern(text: &str) -> Option<AddressPattern> {
    match text.strip_prefix("*@") {
        Some(domain) => Some(AddressPattern::Domain(smtp::Domain::parse(domain).ok()?.to_ascii())),
        None => Mailbox::parse(text).ok().map(AddressPattern::Mailbox),
    }
}

fn patterns(texts: &[String]) -> Result<Vec<AddressPattern>, DirectoryError> {
    texts.iter().map(|text| pattern(text).ok_or_else(|| DirectoryError::Damaged(format!("{text} is no address pattern")))).collect()
}

fn team(row: &Row<'_>) -> Result<Team, DirectoryError> {
    let domains: String = row.get(2)?;
    Ok(Team { id: TeamId(row.get(0)?), name: row.get(1)?, domains: list(&domains)?, disabled: row.get(3)? })
}

fn person(row: &Row<'_>) -> Result<Person, DirectoryError> {
    let (email, role, teams, send_as): (String, String, String, String) = (row.get(1)?, row.get(3)?, row.get(4)?, row.get(5)?);
    let teams: Vec<u32> = list(&teams)?;
    Ok(Person {
        id: PersonId(row.get(0)?),
        email: mailbox(&email)?,
        name: row.get(2)?,
        role: list(&format!("\"{role}\""))?,
        teams: teams.into_iter().map(TeamId).collect(),
        send_as: patterns(&list::<Vec<String>>(&send_as)?)?,
        disabled: row.get(6)?,
    })
}

fn channel(row: &Row<'_>) -> Result<Channel, DirectoryError> {
    let (owner, spec): (String, String) = (row.get(2)?, row.get(3)?);
    let spec: ChannelSpec = list(&spec)?;
    let transport = match spec.transport.as_str() {
        "capture" => Transport::Capture,
        _ => {
            Transport::Smtp(Smarthost { host: spec.host, port: spec.port, tls: spec.tls, auth: spec.auth, username: spec.username })
        }
    };
    let domain = |text: &String| if text == "*" { DomainPattern::Any } else { DomainPattern::Domain(text.clone()) };
    Ok(Channel {
        id: ChannelId(row.get(0)?),
        name: row.get(1)?,
        owner: owner_of(&owner).ok_or_else(|| DirectoryError::Damaged(format!("{owner} is no owner")))?,
        transport,
        scope: spec.scope,
        address: spec.address.as_deref().map(mailbox).transpose()?,
        domains: spec.domains.iter().map(domain).collect(),
        default: spec.default,
        disabled: row.get(4)?,
        caps: Caps {
            connections: spec.connections,
            messages_per_connection: spec.messages_per_connection,
            recipients_per_message: spec.recipients_per_message,
            message_size: spec.message_size,
        },
        limits: spec.limits,
        reserve: Reserve(spec.reserve),
        refusals_free: spec.refusals_free,
        on_uncertain: spec.on_uncertain,
        return_path: spec.return_path,
        provider: spec.provider,
        revision: row.get::<_, i64>(5)?.unsigned_abs(),
    })
}

/// How an owner stands in the database.
pub(super) fn owner_text(owner: Owner) -> String {
    match owner {
        Owner::Person(id) => format!("person:{}", id.0),
        Owner::Team(id) => format!("team:{}", id.0),
        Owner::Instance => "instance".into(),
    }
}

fn owner_of(text: &str) -> Option<Owner> {
    match text.split_once(':') {
        Some(("person", id)) => id.parse().ok().map(PersonId).map(Owner::Person),
        Some(("team", id)) => id.parse().ok().map(TeamId).map(Owner::Team),
        None if text == "instance" => Some(Owner::Instance),
        _ => None,
    }
}

fn lane(word: &str) -> Result<Lane, DirectoryError> {
    Lane::parse(word).ok_or_else(|| DirectoryError::Damaged(format!("{word} is no lane")))
}

fn token(row: &Row<'_>) -> Result<(Token, [u8; 32]), DirectoryError> {
    let (surfaces, send_as): (String, Option<String>) = (row.get(4)?, row.get(6)?);
    let surfaces: Vec<TokenSurface> = list(&surfaces)?;
    let send_as = match send_as {
        None => None,
        Some(text) => Some(patterns(&list::<Vec<String>>(&text)?)?),
    };
    let token = Token {
        id: TokenId(row.get(0)?),
        name: row.get(2)?,
        person: PersonId(row.get(1)?),
        surfaces,
        channel: row.get::<_, Option<u32>>(5)?.map(ChannelId),
        send_as,
        lane: row.get::<_, Option<String>>(8)?.as_deref().map(lane).transpose()?,
        disabled: row.get(7)?,
    };
    Ok((token, row.get(3)?))
}
