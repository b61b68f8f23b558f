//! The directory as a file: TOML in names, secrets by reference.
//!
//! A secret is written `file:PATH` (relative to the file, one trailing newline trimmed) or `env:NAME`,
//! never itself.

use anyhow::{Context, Result, anyhow, bail};
use mail::nearest::nearest;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};
use store::directory::{DesiredChannel, DesiredDirectory, DesiredPerson, DesiredTeam, DesiredToken};
use store::seal::Secret;

/// Reads a file and the secrets it refers to.
///
/// # Errors
/// What is wrong, where, and what to do; never with a secret in it.
pub fn read(path: &Path) -> Result<DesiredDirectory> {
    let text = std::fs::read_to_string(path).map_err(|problem| anyhow!("{}: cannot be read: {problem}", path.display()))?;
    let folder = path.parent().map_or_else(PathBuf::new, Path::to_path_buf);
    let read = DirectoryFile::parse(&text).and_then(|mut file| file.read_secrets(&folder).map(|()| file));
    read.map(DirectoryFile::into_desired).map_err(|problem| anyhow!("{}: {problem:#}", path.display()))
}

/// Reads the text of a file, leaving secrets as they are written.
///
/// # Errors
/// Where and what.
pub fn parse(text: &str) -> Result<DesiredDirectory> {
    DirectoryFile::parse(text).map(DirectoryFile::into_desired)
}

/// The tables of a file; as JSON they also travel from the command line to the gateway.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DirectoryFile {
    #[serde(default)]
    pub(crate) team: Vec<TeamTable>,
    #[serde(default)]
    pub(crate) person: Vec<PersonTable>,
    #[serde(default)]
    pub(crate) channel: Vec<ChannelTable>,
    #[serde(default)]
    pub(crate) token: Vec<TokenTable>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TeamTable {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) domains: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PersonTable {
    pub(crate) email: String,
    pub(crate) name: Option<String>,
    pub(crate) role: Option<String>,
    #[serde(default)]
    pub(crate) teams: Vec<String>,
    #[serde(default)]
    pub(crate) send_as: Vec<String>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChannelTable {
    pub(crate) name: String,
    pub(crate) owner: String,
    pub(crate) transport: Option<String>,
    pub(crate) host: Option<String>,
    pub(crate) port: Option<u16>,
    pub(crate) tls: Option<String>,
    pub(crate) auth: Option<String>,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) scope: Option<String>,
    pub(crate) address: Option<String>,
    pub(crate) domains: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) default: bool,
    #[serde(default)]
    pub(crate) limits: Vec<String>,
    pub(crate) reserve: Option<String>,
    #[serde(default)]
    pub(crate) refusals_free: bool,
    pub(crate) messages_per_connection: Option<u32>,
    pub(crate) on_uncertain: Option<String>,
    pub(crate) return_path: Option<String>,
    pub(crate) provider: Option<String>,
    pub(crate) preset: Option<Value>,
    pub(crate) allow_lanes: Option<Value>,
    pub(crate) headers: Option<Value>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenTable {
    pub(crate) name: String,
    pub(crate) person: String,
    pub(crate) secret: Option<String>,
    #[serde(default)]
    pub(crate) surfaces: Vec<String>,
    pub(crate) channel: Option<String>,
    pub(crate) send_as: Option<Vec<String>>,
    pub(crate) lane: Option<String>,
}

impl DirectoryFile {
    fn parse(text: &str) -> Result<Self> {
        let read = toml::Deserializer::parse(text).map_err(|error| explain(&error, "", text))?;
        let file: Self = serde_path_to_error::deserialize(read).map_err(|error| {
            let key = error.path().to_string();
            explain(error.inner(), &key, text)
        })?;
        file.refuse_later_versions()?;
        Ok(file)
    }

    pub(crate) fn refuse_later_versions(&self) -> Result<()> {
        for channel in &self.channel {
            let later = [("preset", &channel.preset), ("allow_lanes", &channel.allow_lanes), ("headers", &channel.headers)];
            if let Some((name, _)) = later.iter().find(|(_, value)| value.is_some()) {
                bail!("channel '{}': '{name}' is not in this version; leave it out", channel.name);
            }
        }
        Ok(())
    }

    fn read_secrets(&mut self, folder: &Path) -> Result<()> {
        for channel in &mut self.channel {
            read_secret(&mut channel.password, folder).with_context(|| format!("channel '{}': password", channel.name))?;
        }
        for token in &mut self.token {
            read_secret(&mut token.secret, folder).with_context(|| format!("token '{}': secret", token.name))?;
        }
        Ok(())
    }

    /// What the store is asked for.
    pub(crate) fn into_desired(self) -> DesiredDirectory {
        DesiredDirectory {
            teams: self.team.into_iter().map(|team| DesiredTeam { name: team.name, domains: team.domains }).collect(),
            people: self.person.into_iter().map(person).collect(),
            channels: self.channel.into_iter().map(channel).collect(),
            tokens: self.token.into_iter().map(token).collect(),
        }
    }
}

fn person(table: PersonTable) -> DesiredPerson {
    DesiredPerson { email: table.email, name: table.name, role: table.role, teams: table.teams, send_as: table.send_as }
}

fn channel(table: ChannelTable) -> DesiredChannel {
    DesiredChannel {
        name: table.name,
        owner: table.owner,
        transport: table.transport,
        host: table.host,
        port: table.port,
        tls: table.tls,
        auth: table.auth,
        username: table.username,
        password: table.password.map(Secret::new),
        scope: table.scope,
        address: table.address,
        domains: table.domains,
        default: table.default,
        limits: table.limits,
        reserve: table.reserve,
        refusals_free: table.refusals_free,
        messages_per_connection: table.messages_per_connection,
        on_uncertain: table.on_uncertain,
        return_path: table.return_path,
        provider: table.provider,
    }
}

fn token(table: TokenTable) -> DesiredToken {
    DesiredToken {
        name: table.name,
        person: table.person,
        secret: table.secret.map(Secret::new),
        surfaces: table.surfaces,
        channel: table.channel,
        send_as: table.send_as,
        lane: table.lane,
    }
}

/// Puts a secret where its reference stands.
fn read_secret(written: &mut Option<String>, folder: &Path) -> Result<()> {
    let Some(reference) = written.as_deref() else { return Ok(()) };
    let secret = match reference.split_once(':') {
        Some(("file", path)) => {
            let path = folder.join(path);
            let text = std::fs::read_to_string(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
            text.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text).to_owned()).unwrap_or(text)
        }
        Some(("env", name)) => std::env::var(name).map_err(|_| anyhow!("the environment has no {name}"))?,
        _ => bail!("a secret does not stand in the file itself; write 'file:PATH' or 'env:NAME'"),
    };
    if secret.is_empty() {
        bail!("it is empty");
    }
    *written = Some(secret);
    Ok(())
}

/// Says where, and names the nearest key. The line itself is not shown: it may hold a secret.
fn explain(error: &toml::de::Error, path: &str, text: &str) -> anyhow::Error {
    let message = error.message();
    let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
    let Some((unknown, known)) = unknown_field(message) else {
        return anyhow!("{place}{}", in_words(message, path));
    };
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    match nearest(&unknown, &known) {
        Some(near) => anyhow!("{place}unknown key '{unknown}'; did you mean '{near}'?"),
        None => anyhow!("{place}unknown key '{unknown}'; known here: {}", known.join(", ")),
    }
}

/// The key and the form it wants, whatever the reader's words for a kind of value are.
///
/// A value of the wrong kind is not shown: it may be a password that was written as a number.
fn in_words(message: &str, path: &str) -> String {
    if let Some(key) = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        return format!("'{key}' is missing");
    }
    let is_about_value = message.starts_with("invalid type") || message.starts_with("invalid value");
    let Some((_, expected)) = message.rsplit_once(", expected ").filter(|_| is_about_value) else {
        return message.to_owned();
    };
    let key = path.rsplit('.').next().and_then(|last| last.split('[').next()).unwrap_or_default();
    match expected {
        _ if TABLES.contains(&path) => format!("'{key}' is a table of which there may be several; write [[{key}]]"),
        "a sequence" => format!("'{key}' is a list in brackets, as {key} = [{}]", example(key)),
        "a string" if path.ends_with(']') => format!("'{key}' is a list of texts in quotes, as {key} = [{}]", example(key)),
        "a string" => format!("'{key}' is a text in quotes, as {key} = {}", example(key)),
        "a boolean" => format!("'{key}' is true or false, without quotes"),
        "u16" => format!("'{key}' is a whole number from 1 to 65535, without quotes"),
        "u32" => format!("'{key}' is a whole number from 1 to 4294967295, without quotes"),
        other => format!("'{key}' is {other}"),
    }
}

/// The tables of a file.
const TABLES: &[&str] = &["team", "person", "channel", "token"];

fn example(key: &str) -> &'static str {
    match key {
        "limits" => "\"30 messages / 1 minute\"",
        "reserve" => "\"5%\"",
        "password" | "secret" => "\"file:PATH\"",
        "domains" => "\"example.com\"",
        "send_as" => "\"ana@example.com\"",
        _ => "\"...\"",
    }
}

fn unknown_field(message: &str) -> Option<(String, Vec<String>)> {
    let rest = message.strip_prefix("unknown field `")?;
    let (unknown, expected) = rest.split_once('`')?;
    let known = expected.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    Some((unknown.to_owned(), known))
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
name = "ana-mailbox"
owner = "person:ana@example.com"
host = "smtp.example.net"
username = "ana@example.com"
password = "file:ana.pw"
limits = ["3 connections"]
"#;

    fn read_text(text: &str) -> Result<DesiredDirectory> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ana.pw"), "hunter2hunter2\n").unwrap();
        let path = folder.path().join("directory.toml");
        std::fs::write(&path, text).unwrap();
        read(&path)
    }

    #[test]
    fn secrets_are_read_from_where_the_file_points() {
        let desired = read_text(FILE).unwrap();
        assert_eq!(desired.channels[0].password.as_ref().unwrap().expose(), b"hunter2hunter2");
    }

    #[test]
    fn a_file_that_cannot_be_read_says_why() {
        let error = read(Path::new("nowhere/directory.toml")).err().unwrap().to_string();
        assert!(error.contains("nowhere/directory.toml: cannot be read: No such file"), "{error}");
    }

    #[test]
    fn mistakes_are_named_with_their_line_and_never_with_a_secret() {
        for (text, words) in [
            (FILE.replace("hos", "hots"), "line 11: unknown key 'hotst'"),
            (FILE.replace("limits", "limit"), "did you mean 'limits'?"),
            (FILE.replace("file:ana.pw", "hunter2"), "does not stand in the file itself"),
            (FILE.replace("file:ana.pw", "file:nowhere"), "cannot be read"),
            (FILE.replace("file:ana.pw", "env:SENDERO_TEST_NOTHING"), "the environment has no"),
            (format!("{FILE}preset = \"gmail\"\n"), "'preset' is not in this version"),
            (format!("{FILE}reserve = 5\n"), "line 15: 'reserve' is a text in quotes, as reserve = \"5%\""),
            (format!("{FILE}port = 99999\n"), "line 15: 'port' is a whole number from 1 to 65535"),
            (format!("{FILE}port = \"587\"\n"), "'port' is a whole number"),
            (format!("{FILE}default = \"yes\"\n"), "'default' is true or false"),
            (
                FILE.replace("[\"3 connections\"]", "\"3 connections\""),
                "'limits' is a list in brackets, as limits = [\"30 messages",
            ),
            (FILE.replace("[\"3 connections\"]", "[3]"), "'limits' is a list of texts in quotes"),
            (FILE.replace("[[team]]", "[team]"), "write [[team]]"),
            (FILE.replace("[[team]]", "[[tema]]"), "did you mean 'team'?"),
            (FILE.replace("name = \"sales\"\n", ""), "'name' is missing"),
            (FILE.replace("email =", "email"), "line 6"),
            (FILE.replace("\"file:ana.pw\"", "[\"hunter2\"]"), "'password' is a text in quotes, as password = \"file:PATH\""),
            (FILE.replace("[[team]]", "team = \"hunter2\"\n[[x]]"), "write [[team]]"),
        ] {
            let error = format!("{:#}", read_text(&text).err().unwrap());
            assert!(error.contains(words), "wanted '{words}' in: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
