//! The directory on its way from a file to the running gateway: JSON over the local socket.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use store::directory::{Action, Applied, DesiredChannel, DesiredDirectory, DesiredPerson, DesiredTeam, DesiredToken};
use store::seal::Secret;
use web::view;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    #[serde(default)]
    teams: Vec<Team>,
    #[serde(default)]
    people: Vec<Person>,
    #[serde(default)]
    channels: Vec<Channel>,
    #[serde(default)]
    tokens: Vec<Token>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Team {
    name: String,
    #[serde(default)]
    domains: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Person {
    email: String,
    name: Option<String>,
    role: Option<String>,
    #[serde(default)]
    teams: Vec<String>,
    #[serde(default)]
    send_as: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Channel {
    name: String,
    owner: String,
    transport: Option<String>,
    host: Option<String>,
    port: Option<u16>,
    tls: Option<String>,
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    scope: Option<String>,
    address: Option<String>,
    domains: Option<Vec<String>>,
    #[serde(default)]
    default: bool,
    #[serde(default)]
    limits: Vec<String>,
    messages_per_connection: Option<u32>,
    on_uncertain: Option<String>,
    return_path: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Token {
    name: String,
    person: String,
    secret: Option<String>,
    #[serde(default)]
    surfaces: Vec<String>,
    channel: Option<String>,
    send_as: Option<Vec<String>>,
}

/// A directory as JSON, secrets included: for the local socket alone.
///
/// # Errors
/// A secret that is not text.
pub fn to_json(desired: &DesiredDirectory) -> Result<Bytes, String> {
    let wire = Wire {
        teams: desired.teams.iter().map(|team| Team { name: team.name.clone(), domains: team.domains.clone() }).collect(),
        people: desired.people.iter().map(person).collect(),
        channels: desired.channels.iter().map(channel).collect::<Result<_, _>>()?,
        tokens: desired.tokens.iter().map(token).collect::<Result<_, _>>()?,
    };
    serde_json::to_vec(&wire).map(Bytes::from).map_err(|problem| problem.to_string())
}

fn person(person: &DesiredPerson) -> Person {
    Person {
        email: person.email.clone(),
        name: person.name.clone(),
        role: person.role.clone(),
        teams: person.teams.clone(),
        send_as: person.send_as.clone(),
    }
}

fn channel(channel: &DesiredChannel) -> Result<Channel, String> {
    Ok(Channel {
        name: channel.name.clone(),
        owner: channel.owner.clone(),
        transport: channel.transport.clone(),
        host: channel.host.clone(),
        port: channel.port,
        tls: channel.tls.clone(),
        auth: channel.auth.clone(),
        username: channel.username.clone(),
        password: text(channel.password.as_ref(), &format!("the password of channel '{}'", channel.name))?,
        scope: channel.scope.clone(),
        address: channel.address.clone(),
        domains: channel.domains.clone(),
        default: channel.default,
        limits: channel.limits.clone(),
        messages_per_connection: channel.messages_per_connection,
        on_uncertain: channel.on_uncertain.clone(),
        return_path: channel.return_path.clone(),
    })
}

fn token(token: &DesiredToken) -> Result<Token, String> {
    Ok(Token {
        name: token.name.clone(),
        person: token.person.clone(),
        secret: text(token.secret.as_ref(), &format!("the secret of token '{}'", token.name))?,
        surfaces: token.surfaces.clone(),
        channel: token.channel.clone(),
        send_as: token.send_as.clone(),
    })
}

fn text(secret: Option<&Secret>, what: &str) -> Result<Option<String>, String> {
    let text = secret.map(|secret| std::str::from_utf8(secret.expose()).map(str::to_owned));
    text.transpose().map_err(|_| format!("{what} is not UTF-8 text"))
}

/// The directory that a request holds.
///
/// # Errors
/// Where the JSON is not what is expected, in words, without any value of it.
pub fn from_json(value: serde_json::Value) -> Result<DesiredDirectory, String> {
    let wire: Wire =
        serde_path_to_error::deserialize(value).map_err(|error| format!("{}: not what belongs there", error.path()))?;
    Ok(DesiredDirectory {
        teams: wire.teams.into_iter().map(|team| DesiredTeam { name: team.name, domains: team.domains }).collect(),
        people: wire
            .people
            .into_iter()
            .map(|one| DesiredPerson { email: one.email, name: one.name, role: one.role, teams: one.teams, send_as: one.send_as })
            .collect(),
        channels: wire.channels.into_iter().map(desired_channel).collect(),
        tokens: wire
            .tokens
            .into_iter()
            .map(|one| DesiredToken {
                name: one.name,
                person: one.person,
                secret: one.secret.map(|secret| Secret::new(secret.into_bytes())),
                surfaces: one.surfaces,
                channel: one.channel,
                send_as: one.send_as,
            })
            .collect(),
    })
}

fn desired_channel(channel: Channel) -> DesiredChannel {
    DesiredChannel {
        name: channel.name,
        owner: channel.owner,
        transport: channel.transport,
        host: channel.host,
        port: channel.port,
        tls: channel.tls,
        auth: channel.auth,
        username: channel.username,
        password: channel.password.map(|secret| Secret::new(secret.into_bytes())),
        scope: channel.scope,
        address: channel.address,
        domains: channel.domains,
        default: channel.default,
        limits: channel.limits,
        messages_per_connection: channel.messages_per_connection,
        on_uncertain: channel.on_uncertain,
        return_path: channel.return_path,
    }
}

/// What was applied, for the answer.
#[must_use]
pub fn applied(applied: Applied, dry_run: bool) -> view::Applied {
    let mut shown = view::Applied { dry_run, ..view::Applied::default() };
    for change in applied.changes {
        let (action, fields) = match change.action {
            Action::Unchanged => {
                shown.unchanged += 1;
                continue;
            }
            Action::Added => ("added", Vec::new()),
            Action::Changed(fields) => ("changed", fields.into_iter().map(|field| field.to_string()).collect()),
            Action::Disabled => ("disabled", Vec::new()),
        };
        shown.changes.push(view::Change { kind: change.kind.to_string(), name: change.name, action: action.to_owned(), fields });
    }
    for made in applied.made_tokens {
        let secret = String::from_utf8_lossy(made.secret.expose()).into_owned();
        shown.made_tokens.push(view::MadeToken { person: made.person, name: made.name, secret });
    }
    shown
}
