//! Who is who: teams, people, tokens and channels, as one immutable value.

use crate::channel::{Channel, DomainPattern, Owner};
use crate::envelope::{Lane, Surface};
use crate::id::{ChannelId, PersonId, TeamId, TokenId};
use smtp::Mailbox;
use std::collections::HashMap;

/// The whole directory at one moment. Secrets are not in it.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    teams: HashMap<TeamId, Team>,
    people: HashMap<PersonId, Person>,
    tokens: HashMap<TokenId, Token>,
    channels: HashMap<ChannelId, Channel>,
    teams_by_domain: HashMap<String, TeamId>,
    people_by_address: HashMap<String, PersonId>,
    channels_by_owner: HashMap<Owner, Vec<ChannelId>>,
    channels_by_name: HashMap<String, ChannelId>,
}

/// A group with its channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Team {
    /// Its row.
    pub id: TeamId,
    /// Its name, unique.
    pub name: String,
    /// Domains confirmed as this team's, lower case A-labels.
    pub domains: Vec<String>,
    /// Switched off.
    pub disabled: bool,
}

/// Somebody who signs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Its row.
    pub id: PersonId,
    /// The address they sign in with, and their first identity.
    pub email: Mailbox,
    /// The name shown.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// Their teams, in the order listed.
    pub teams: Vec<TeamId>,
    /// Further addresses they may send as.
    pub send_as: Vec<AddressPattern>,
    /// Switched off.
    pub disabled: bool,
}

/// What a person may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything.
    Admin,
    /// Their team's people, channels and messages.
    TeamAdmin,
    /// Their own.
    #[default]
    Member,
}

/// An address, or all addresses of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressPattern {
    /// One address.
    Mailbox(Mailbox),
    /// `*@domain`, lower case A-labels.
    Domain(String),
}

impl AddressPattern {
    /// True when the pattern covers `mailbox`.
    #[must_use]
    pub fn covers(&self, mailbox: &Mailbox) -> bool {
        match self {
            Self::Mailbox(own) => own.matches(mailbox),
            Self::Domain(domain) => mailbox.domain().to_ascii().eq_ignore_ascii_case(domain),
        }
    }
}

impl DomainPattern {
    /// True when the pattern covers `mailbox`'s domain.
    #[must_use]
    pub fn covers(&self, mailbox: &Mailbox) -> bool {
        match self {
            Self::Any => true,
            Self::Domain(domain) => mailbox.domain().to_ascii().eq_ignore_ascii_case(domain),
        }
    }
}

/// What a client signs in with. The secret is not here; only its keyed hash is kept, elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its row.
    pub id: TokenId,
    /// Its name, unique for its person.
    pub name: String,
    /// Whose rights it carries.
    pub person: PersonId,
    /// Where it may be used.
    pub surfaces: Vec<TokenSurface>,
    /// A channel fixed on it.
    pub channel: Option<ChannelId>,
    /// When set, only these From addresses.
    pub send_as: Option<Vec<AddressPattern>>,
    /// The lane of mail that asks for none, and the most urgent that may be asked for.
    pub lane: Option<Lane>,
    /// Switched off.
    pub disabled: bool,
}

/// Where a token may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenSurface {
    /// SMTP submission.
    Smtp,
    /// The HTTP API.
    Api,
}

impl Token {
    /// True when the token may be used at this door.
    #[must_use]
    pub fn allows(&self, surface: Surface) -> bool {
        let wanted = match surface {
            Surface::Smtp => TokenSurface::Smtp,
            Surface::Http | Surface::Web => TokenSurface::Api,
            Surface::Cli | Surface::Gateway => return false,
        };
        self.surfaces.contains(&wanted)
    }
}

impl Directory {
    /// A directory of these rows. Rows that name an unknown one are the caller's to refuse before.
    #[must_use]
    pub fn new(teams: Vec<Team>, people: Vec<Person>, tokens: Vec<Token>, channels: Vec<Channel>) -> Self {
        let owned = |team: &Team| team.domains.iter().map(|domain| (domain.clone(), team.id)).collect::<Vec<_>>();
        let teams_by_domain = teams.iter().flat_map(owned).collect();
        let people_by_address = people.iter().map(|person| (address_key(&person.email), person.id)).collect();
        let channels_by_name = channels.iter().map(|channel| (channel.name.clone(), channel.id)).collect();
        let mut channels_by_owner: HashMap<Owner, Vec<ChannelId>> = HashMap::new();
        for channel in &channels {
            channels_by_owner.entry(channel.owner).or_default().push(channel.id);
        }
        channels_by_owner.values_mut().for_each(|ids| ids.sort_unstable());
        Self {
            teams: teams.into_iter().map(|team| (team.id, team)).collect(),
            people: people.into_iter().map(|person| (person.id, person)).collect(),
            tokens: tokens.into_iter().map(|token| (token.id, token)).collect(),
            channels: channels.into_iter().map(|channel| (channel.id, channel)).collect(),
            teams_by_domain,
            people_by_address,
            channels_by_owner,
            channels_by_name,
        }
    }

    /// The team of that row.
    #[must_use]
    pub fn team(&self, id: TeamId) -> Option<&Team> {
        self.teams.get(&id)
    }

    /// The team of that name.
    #[must_use]
    pub fn team_named(&self, name: &str) -> Option<&Team> {
        self.teams.values().find(|team| team.name == name)
    }

    /// The team whose domain it is; lower case A-labels.
    #[must_use]
    pub fn team_of_domain(&self, domain: &str) -> Option<&Team> {
        self.teams.get(self.teams_by_domain.get(domain)?)
    }

    /// The person of that row.
    #[must_use]
    pub fn person(&self, id: PersonId) -> Option<&Person> {
        self.people.get(&id)
    }

    /// The person who signs in with that address, ASCII case ignored.
    #[must_use]
    pub fn person_by_address(&self, address: &str) -> Option<&Person> {
        let mailbox = Mailbox::parse(address).ok()?;
        self.people.get(self.people_by_address.get(&address_key(&mailbox))?)
    }

    /// The token of that row.
    #[must_use]
    pub fn token(&self, id: TokenId) -> Option<&Token> {
        self.tokens.get(&id)
    }

    /// The channel of that row.
    #[must_use]
    pub fn channel(&self, id: ChannelId) -> Option<&Channel> {
        self.channels.get(&id)
    }

    /// The channel of that name.
    #[must_use]
    pub fn channel_named(&self, name: &str) -> Option<&Channel> {
        self.channels.get(self.channels_by_name.get(name)?)
    }

    /// The channels of an owner, oldest first.
    pub fn channels_of(&self, owner: Owner) -> impl Iterator<Item = &Channel> {
        self.channels_by_owner.get(&owner).into_iter().flatten().filter_map(|id| self.channels.get(id))
    }

    /// All teams, in no order.
    pub fn teams(&self) -> impl Iterator<Item = &Team> {
        self.teams.values()
    }

    /// All people, in no order.
    pub fn people(&self) -> impl Iterator<Item = &Person> {
        self.people.values()
    }

    /// All tokens, in no order.
    pub fn tokens(&self) -> impl Iterator<Item = &Token> {
        self.tokens.values()
    }

    /// All channels, in no order.
    pub fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.channels.values()
    }
}

/// The form of an address under which people are found: lower case, domain in A-labels.
#[must_use]
pub fn address_key(mailbox: &Mailbox) -> String {
    format!("{}@{}", mailbox.local_part().value(), mailbox.domain().to_ascii()).to_lowercase()
}
