//! The directory on its way from a file to the running gateway: JSON over the local socket.

use crate::directory_file::{ChannelTable, DirectoryFile, PersonTable, TeamTable, TokenTable};
use bytes::Bytes;
use store::directory::{Action, Applied, DesiredChannel, DesiredDirectory, DesiredPerson, DesiredToken};
use store::seal::Secret;
use web::view;

/// A directory as JSON, secrets included: for the local socket alone.
///
/// # Errors
/// A secret that is not text.
pub fn to_json(desired: &DesiredDirectory) -> Result<Bytes, String> {
    let file = DirectoryFile {
        team: desired.teams.iter().map(|team| TeamTable { name: team.name.clone(), domains: team.domains.clone() }).collect(),
        person: desired.people.iter().map(person).collect(),
        channel: desired.channels.iter().map(channel).collect::<Result<_, _>>()?,
        token: desired.tokens.iter().map(token).collect::<Result<_, _>>()?,
    };
    serde_json::to_vec(&file).map(Bytes::from).map_err(|problem| problem.to_string())
}

fn person(person: &DesiredPerson) -> PersonTable {
    PersonTable {
        email: person.email.clone(),
        name: person.name.clone(),
        role: person.role.clone(),
        teams: person.teams.clone(),
        send_as: person.send_as.clone(),
    }
}

fn channel(channel: &DesiredChannel) -> Result<ChannelTable, String> {
    Ok(ChannelTable {
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
        reserve: channel.reserve.clone(),
        refusals_free: channel.refusals_free,
        messages_per_connection: channel.messages_per_connection,
        on_uncertain: channel.on_uncertain.clone(),
        return_path: channel.return_path.clone(),
        provider: channel.provider.clone(),
        ..ChannelTable::default()
    })
}

fn token(token: &DesiredToken) -> Result<TokenTable, String> {
    Ok(TokenTable {
        name: token.name.clone(),
        person: token.person.clone(),
        secret: text(token.secret.as_ref(), &format!("the secret of token '{}'", token.name))?,
        surfaces: token.surfaces.clone(),
        channel: token.channel.clone(),
        send_as: token.send_as.clone(),
        lane: token.lane.clone(),
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
    let file: DirectoryFile =
        serde_path_to_error::deserialize(value).map_err(|error| format!("{}: not what belongs there", error.path()))?;
    file.refuse_later_versions().map_err(|problem| problem.to_string())?;
    Ok(file.into_desired())
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const FILE: &str = r#"
[[team]]
name = "sales"
domains = ["example.com"]
[[person]]
email = "ana@example.com"
teams = ["sales"]
[[channel]]
name = "office"
owner = "team:sales"
host = "smtp.example.net"
username = "office"
limits = ["3 connections"]
provider = "sparkpost_eu"
domains = ["example.com"]
[[token]]
name = "laptop"
person = "ana@example.com"
"#;

    #[test]
    fn a_directory_arrives_as_it_was_read_secrets_included() {
        let mut desired = crate::directory_file::parse(FILE).unwrap();
        desired.channels[0].password = Some(Secret::new("pass phrase"));
        let wire = to_json(&desired).unwrap();
        let arrived = from_json(serde_json::from_slice(&wire).unwrap()).unwrap();
        assert_eq!(arrived.channels[0].password, desired.channels[0].password);
        assert_eq!(to_json(&arrived).unwrap(), wire);
    }

    #[test]
    fn what_is_no_directory_is_refused_without_its_values() {
        let json = serde_json::json!({ "channel": [{ "name": "x", "owner": "instance", "password": 7_777_777 }] });
        let problem = from_json(json).unwrap_err();
        assert!(problem.contains("channel[0].password") && !problem.contains("7777777"), "{problem}");
        assert!(from_json(serde_json::json!({ "channels": [] })).is_err());
    }
}
