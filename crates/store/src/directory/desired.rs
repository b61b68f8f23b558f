//! What the directory should be, in names: as an administrator writes it.

use crate::seal::Secret;

/// Teams, people, channels and tokens as they should be.
#[derive(Clone, Debug, Default)]
pub struct DesiredDirectory {
    /// Teams.
    pub teams: Vec<DesiredTeam>,
    /// People.
    pub people: Vec<DesiredPerson>,
    /// Channels.
    pub channels: Vec<DesiredChannel>,
    /// Tokens.
    pub tokens: Vec<DesiredToken>,
}

/// A team.
#[derive(Clone, Debug, Default)]
pub struct DesiredTeam {
    /// Unique.
    pub name: String,
    /// Its domains; what an administrator writes counts as confirmed.
    pub domains: Vec<String>,
}

/// A person.
#[derive(Clone, Debug, Default)]
pub struct DesiredPerson {
    /// Unique; what they sign in with.
    pub email: String,
    /// Shown; the address when left out.
    pub name: Option<String>,
    /// `admin`, `team_admin` or `member`.
    pub role: Option<String>,
    /// Names of their teams.
    pub teams: Vec<String>,
    /// Addresses, or `*@domain`.
    pub send_as: Vec<String>,
}

/// A channel.
#[derive(Clone, Debug, Default)]
pub struct DesiredChannel {
    /// Unique.
    pub name: String,
    /// `person:ADDRESS`, `team:NAME` or `instance`.
    pub owner: String,
    /// `smtp` or `capture`.
    pub transport: Option<String>,
    /// Name or address of the next hop.
    pub host: Option<String>,
    /// TCP port; 587, or 465 with implicit TLS, when left out.
    pub port: Option<u16>,
    /// `starttls`, `implicit` or `none`.
    pub tls: Option<String>,
    /// `auto`, `plain`, `login` or `none`.
    pub auth: Option<String>,
    /// The login.
    pub username: Option<String>,
    /// Its secret.
    pub password: Option<Secret>,
    /// `address`, `domain` or `account`.
    pub scope: Option<String>,
    /// The connected address.
    pub address: Option<String>,
    /// Domains it may carry, or `*`.
    pub domains: Option<Vec<String>>,
    /// The owner's default. It takes over from a default that is not named beside it.
    pub default: bool,
    /// Limits and caps, as written.
    pub limits: Vec<String>,
    /// The share of each limit that bulk leaves to people: `5%`.
    pub reserve: Option<String>,
    /// The provider does not count what it refuses before the data.
    pub refusals_free: bool,
    /// Another way to write that cap.
    pub messages_per_connection: Option<u32>,
    /// `retry` or `ask`.
    pub on_uncertain: Option<String>,
    /// `submitted` or `from`.
    pub return_path: Option<String>,
    /// Who runs the next hop, for what its replies mean.
    pub provider: Option<String>,
}

/// A token.
#[derive(Clone, Debug, Default)]
pub struct DesiredToken {
    /// Unique for its person.
    pub name: String,
    /// The person's address.
    pub person: String,
    /// Given from outside; made and shown once when left out.
    pub secret: Option<Secret>,
    /// `smtp`, `api`; both when empty.
    pub surfaces: Vec<String>,
    /// A channel fixed on it.
    pub channel: Option<String>,
    /// When given, only these From addresses.
    pub send_as: Option<Vec<String>>,
    /// `now`, `normal` or `bulk`: the lane of mail that asks for none, and the most urgent it may ask for.
    pub lane: Option<String>,
}
