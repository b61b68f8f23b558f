//! The one resolver: from person and From to channel, for every surface.

use crate::channel::{Channel, Owner, ReturnPath, Scope, Transport};
use crate::directory::{Directory, Person, Team, Token};
use crate::header::{Authors, HeaderError, WishError};
use crate::id::{ChannelId, PersonId, TeamId, TokenId};
use smtp::{Mailbox, Reply, ReversePath};

/// Who sends what.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Who.
    pub person: PersonId,
    /// Signed in with.
    pub token: Option<TokenId>,
    /// Who stands in the message.
    pub authors: &'a Authors,
    /// Who stands in the envelope.
    pub reverse_path: &'a ReversePath,
    /// The channel asked for.
    pub channel: Option<&'a str>,
}

/// The way a message takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The channel.
    pub channel: ChannelId,
    /// The team it goes through, where one is concerned.
    pub team: Option<TeamId>,
}

/// Why a submission is refused: what happened, why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The header.
    #[error("{0}; mend the message and send it again")]
    Header(#[from] HeaderError),
    /// A wish in the header.
    #[error("{0}")]
    Wish(#[from] WishError),
    /// It goes in circles.
    #[error("the message has passed more than 50 servers: it goes in circles; look at your forwarding rules")]
    TooManyHops,
    /// Orders to a provider.
    #[error("the header field {0} gives orders to a provider and is not taken from submitters; leave it out")]
    ControlField(String),
    /// An address that is not the person's.
    #[error("{0} is not yours to send as; ask your administrator to add it to your send_as")]
    SenderNotAllowed(Mailbox),
    /// The person is switched off, or gone.
    #[error("you may not send; ask your administrator to enable your account")]
    PersonDisabled,
    /// No such channel, or none that this person may use.
    #[error("there is no channel '{0}' that you may use; 'sendero channel list' shows the names")]
    ChannelNotFound(String),
    /// A channel was asked for and another is fixed on the token.
    #[error("channel '{asked}' was asked for, and this token is fixed to '{fixed}'; use another token, or do not ask")]
    ChannelFixed {
        /// Asked for.
        asked: String,
        /// Fixed.
        fixed: String,
    },
    /// The channel may not carry this From.
    #[error("channel '{channel}' may not send as {author}; {remedy}")]
    ChannelForbids {
        /// The channel.
        channel: String,
        /// Whom it may not send as.
        author: Mailbox,
        /// What to do.
        remedy: &'static str,
    },
    /// The channel asked for is switched off.
    #[error("channel '{0}' is disabled; enable it, or use another")]
    ChannelDisabled(String),
    /// Nothing left to go by.
    #[error(
        "no channel may send as {author} for you; connect a mailbox with this address, or ask your administrator for a team channel that has its domain"
    )]
    NoChannel {
        /// For this author.
        author: Mailbox,
    },
    /// No recipient.
    #[error("the message has no recipient; name at least one")]
    NoRecipients,
    /// Too many.
    #[error("a message may have {most} recipients here, this one has {found}; send it in parts")]
    TooManyRecipients {
        /// Given.
        found: usize,
        /// Allowed.
        most: usize,
    },
    /// Too large.
    #[error("a message may have {most} bytes here, this one has {found}; make it smaller, or send a link")]
    TooLarge {
        /// Given.
        found: u64,
        /// Allowed.
        most: u64,
    },
    /// Bytes that are no legal message.
    #[error("a message's lines end with CRLF, and it holds a bare CR, a bare LF or a NUL; encode it")]
    OddBytes,
}

impl Refusal {
    /// The stable code of the API.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Header(_) | Self::Wish(_) | Self::TooManyHops | Self::ControlField(_) | Self::NoRecipients | Self::OddBytes => {
                "validation_failed"
            }
            Self::SenderNotAllowed(_) | Self::ChannelForbids { .. } | Self::NoChannel { .. } | Self::PersonDisabled => {
                "sender_not_allowed"
            }
            Self::ChannelNotFound(_) | Self::ChannelDisabled(_) => "channel_not_found",
            Self::ChannelFixed { .. } => "scope_missing",
            Self::TooManyRecipients { .. } => "recipient_limit_exceeded",
            Self::TooLarge { .. } => "message_too_large",
        }
    }

    /// The status of the API.
    #[must_use]
    pub fn http_status(&self) -> u16 {
        match self.code() {
            "sender_not_allowed" | "scope_missing" => 403,
            "channel_not_found" => 404,
            "message_too_large" => 413,
            _ => 422,
        }
    }

    /// The reply of SMTP.
    #[must_use]
    pub fn reply(&self) -> Reply {
        let (code, enhanced) = match self {
            Self::Header(_) | Self::OddBytes => (550, (5, 6, 0)),
            Self::Wish(_) => (550, (5, 5, 4)),
            Self::TooManyHops => (554, (5, 4, 6)),
            Self::ControlField(_)
            | Self::SenderNotAllowed(_)
            | Self::PersonDisabled
            | Self::ChannelNotFound(_)
            | Self::ChannelFixed { .. }
            | Self::ChannelForbids { .. }
            | Self::ChannelDisabled(_)
            | Self::NoChannel { .. } => (550, (5, 7, 1)),
            Self::NoRecipients => (554, (5, 5, 1)),
            Self::TooManyRecipients { .. } => (550, (5, 5, 3)),
            Self::TooLarge { .. } => (552, (5, 3, 4)),
        };
        Reply::new(code, enhanced, self.to_string())
    }
}

/// Chooses the channel. No I/O, and no look at health: a broken channel keeps its mail.
///
/// # Errors
/// Why nothing may carry it, and what to do.
pub fn resolve(directory: &Directory, request: &Request<'_>) -> Result<Route, Refusal> {
    let sender = Sender::find(directory, request.person, request.token)?;
    sender.may_send_as(request.authors, request.reverse_path)?;
    let author = request.authors.first();
    let team = sender.team_for(author);
    let route = |channel: &Channel| Route { channel: channel.id, team: sender.team_through(channel, team) };
    if let Some(channel) = sender.fixed_or_asked(request.channel)? {
        sender.allowed(channel, request.authors)?;
        return Ok(route(channel));
    }
    let own = || directory.channels_of(Owner::Person(sender.person.id)).filter(|channel| !channel.disabled);
    let of_address = own().find(|channel| channel.address.as_ref().is_some_and(|address| address.matches(author)));
    let only = if own().count() == 1 { own().next() } else { None };
    let of_team = team.and_then(|team| default_of(directory, Owner::Team(team.id)));
    let shared = default_of(directory, Owner::Instance);
    let candidates = [of_address, only, of_team, shared];
    let chosen = candidates.into_iter().flatten().find(|channel| sender.allowed(channel, request.authors).is_ok());
    chosen.map(route).ok_or_else(|| Refusal::NoChannel { author: author.clone() })
}

/// Checks again, before mail leaves, that its sender may still use this channel.
///
/// # Errors
/// What was lost.
pub fn permitted(
    directory: &Directory,
    person: PersonId,
    token: Option<TokenId>,
    channel: &Channel,
    authors: &Authors,
    reverse_path: &ReversePath,
) -> Result<(), Refusal> {
    let sender = Sender::find(directory, person, token)?;
    sender.may_send_as(authors, reverse_path)?;
    sender.allowed(channel, authors)
}

/// The reverse-path that the next hop sees.
#[must_use]
pub fn return_path(channel: &Channel, submitted: &ReversePath, message: &[u8]) -> ReversePath {
    match (channel.return_path, submitted) {
        (_, ReversePath::Null) | (ReturnPath::Submitted, _) => submitted.clone(),
        (ReturnPath::From, ReversePath::Mailbox(_)) => match crate::header::authors_of(message) {
            Ok(authors) => ReversePath::Mailbox(authors.first().clone()),
            Err(_) => submitted.clone(),
        },
    }
}

/// A channel marked as the owner's default, else their only one.
fn default_of(directory: &Directory, owner: Owner) -> Option<&Channel> {
    let enabled = || directory.channels_of(owner).filter(|channel| !channel.disabled);
    let marked = enabled().find(|channel| channel.default);
    let lone = || if enabled().count() == 1 && owner != Owner::Instance { enabled().next() } else { None };
    marked.or_else(lone)
}

struct Sender<'a> {
    directory: &'a Directory,
    person: &'a Person,
    token: Option<&'a Token>,
}

impl<'a> Sender<'a> {
    fn find(directory: &'a Directory, person: PersonId, token: Option<TokenId>) -> Result<Self, Refusal> {
        let person = directory.person(person).filter(|person| !person.disabled).ok_or(Refusal::PersonDisabled)?;
        let token = match token {
            None => None,
            Some(id) => {
                let own = |token: &&Token| token.person == person.id && !token.disabled;
                Some(directory.token(id).filter(own).ok_or(Refusal::PersonDisabled)?)
            }
        };
        Ok(Self { directory, person, token })
    }

    fn may_send_as(&self, authors: &Authors, reverse_path: &ReversePath) -> Result<(), Refusal> {
        let mut all = authors.all().chain(reverse_path.mailbox());
        match all.find(|mailbox| !self.is_own(mailbox)) {
            None => Ok(()),
            Some(foreign) => Err(Refusal::SenderNotAllowed(foreign.clone())),
        }
    }

    fn is_own(&self, mailbox: &Mailbox) -> bool {
        let person = self.person.email.matches(mailbox) || self.person.send_as.iter().any(|pattern| pattern.covers(mailbox));
        let narrowed = self.token.and_then(|token| token.send_as.as_ref());
        person && narrowed.is_none_or(|patterns| patterns.iter().any(|pattern| pattern.covers(mailbox)))
    }

    fn fixed_or_asked(&self, asked: Option<&str>) -> Result<Option<&'a Channel>, Refusal> {
        let fixed = self.token.and_then(|token| token.channel).and_then(|id| self.directory.channel(id));
        match (fixed, asked) {
            (None, None) => Ok(None),
            (Some(fixed), Some(asked)) if fixed.name != asked => {
                Err(Refusal::ChannelFixed { asked: asked.to_owned(), fixed: fixed.name.clone() })
            }
            (Some(fixed), _) => Ok(Some(fixed)),
            (None, Some(asked)) => {
                let usable = |channel: &&Channel| self.shares(channel);
                let found = self.directory.channel_named(asked).filter(usable);
                found.map(Some).ok_or_else(|| Refusal::ChannelNotFound(asked.to_owned()))
            }
        }
    }

    /// The person owns the channel, or their team or the instance shares it.
    fn shares(&self, channel: &Channel) -> bool {
        match channel.owner {
            Owner::Person(owner) => owner == self.person.id,
            Owner::Team(team) => self.is_member(team),
            Owner::Instance => true,
        }
    }

    fn is_member(&self, team: TeamId) -> bool {
        self.person.teams.contains(&team) && self.directory.team(team).is_some_and(|team| !team.disabled)
    }

    fn allowed(&self, channel: &Channel, authors: &Authors) -> Result<(), Refusal> {
        if !self.shares(channel) {
            return Err(Refusal::ChannelNotFound(channel.name.clone()));
        }
        if channel.disabled {
            return Err(Refusal::ChannelDisabled(channel.name.clone()));
        }
        match authors.all().find(|author| !carries(channel, author)) {
            None => Ok(()),
            Some(author) => {
                let remedy = match channel.scope {
                    Scope::Address => "its credential belongs to one address: send as that one, or use a channel of the domain",
                    Scope::Domain | Scope::Account => "add its domain to the channel, or use another",
                };
                Err(Refusal::ChannelForbids { channel: channel.name.clone(), author: author.clone(), remedy })
            }
        }
    }

    /// The team whose domain the From has, if the person is a member, else the first listed.
    fn team_for(&self, author: &Mailbox) -> Option<&'a Team> {
        let teams = || self.person.teams.iter().filter_map(|id| self.directory.team(*id)).filter(|team| !team.disabled);
        let domain = author.domain().to_ascii();
        teams().find(|team| team.domains.contains(&domain)).or_else(|| teams().next())
    }

    fn team_through(&self, channel: &Channel, team: Option<&Team>) -> Option<TeamId> {
        match channel.owner {
            Owner::Team(id) => Some(id),
            Owner::Person(_) | Owner::Instance => team.map(|team| team.id),
        }
    }
}

/// The scope of the credential permits this author.
fn carries(channel: &Channel, author: &Mailbox) -> bool {
    if channel.transport == Transport::Capture {
        return channel.domains.is_empty() || channel.domains.iter().any(|pattern| pattern.covers(author));
    }
    match channel.scope {
        Scope::Address => channel.address.as_ref().is_some_and(|address| address.matches(author)),
        Scope::Domain | Scope::Account => channel.domains.iter().any(|pattern| pattern.covers(author)),
    }
}

#[cfg(test)]
mod tests;
