//! The one resolver: from person and From to channel, for every surface.

mod refusal;

pub use refusal::Refusal;

use crate::channel::{Channel, DomainPattern, Owner, ReturnPath, Scope, Transport};
use crate::directory::{Directory, Person, Team, Token};
use crate::envelope::Envelope;
use crate::header::{Authors, shown};
use crate::id::{ChannelId, PersonId, TeamId, TokenId};
use smtp::{Mailbox, ReversePath};

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

/// Chooses the channel. No I/O, and no look at health: a broken channel keeps its mail.
///
/// A channel asked for or fixed on the token is used or refused, never replaced. Otherwise the first
/// of these that may carry the message: the person's channel with the From's address; their only
/// channel; the default of the team (the one whose domain the From has, if the person is a member,
/// else their first), or its only channel where none is marked; the instance's default.
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
    let only = own().next().filter(|_| own().count() == 1);
    let of_team = team.and_then(|team| default_of(directory, Owner::Team(team.id)));
    let shared = default_of(directory, Owner::Instance);
    // The team's routing rules will stand in front of these.
    let in_order = [of_address, only, of_team, shared].into_iter().flatten();
    let chosen = in_order.into_iter().find(|channel| sender.allowed(channel, request.authors).is_ok());
    chosen.map(route).ok_or_else(|| Refusal::NoChannel { author: author.clone() })
}

/// Every channel that [`resolve`] could choose for mail of this person, whoever its authors are and whatever it asks for.
#[must_use]
pub fn within_reach(directory: &Directory, person: PersonId, token: Option<TokenId>) -> Vec<&Channel> {
    let Ok(sender) = Sender::find(directory, person, token) else { return Vec::new() };
    let usable = |channel: &&Channel| !channel.disabled && sender.shares(channel);
    if let Some(fixed) = sender.token.and_then(|token| token.channel) {
        return directory.channel(fixed).filter(usable).into_iter().collect();
    }
    let teams = sender.person.teams.iter().map(|team| Owner::Team(*team));
    let owners = [Owner::Person(person)].into_iter().chain(teams).chain([Owner::Instance]);
    owners.flat_map(|owner| directory.channels_of(owner)).filter(usable).collect()
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

/// Checks that a report about this person's mail may leave by this channel: the person may use it, and it may
/// send as the report's authors, who need not be the person's own addresses.
///
/// # Errors
/// What stands against it.
pub fn permitted_report(directory: &Directory, person: PersonId, channel: &Channel, authors: &Authors) -> Result<(), Refusal> {
    Sender::find(directory, person, None)?.allowed(channel, authors)
}

/// The reverse-path that the next hop sees.
#[must_use]
pub fn return_path(channel: &Channel, envelope: &Envelope, message: &[u8]) -> ReversePath {
    let submitted = &envelope.reverse_path;
    match (channel.return_path, submitted) {
        (_, ReversePath::Null) | (ReturnPath::Submitted, _) => submitted.clone(),
        (ReturnPath::From, ReversePath::Mailbox(_)) => match crate::header::authors_of(message) {
            Ok(authors) => ReversePath::Mailbox(authors.first().clone()),
            Err(_) => submitted.clone(),
        },
    }
}

/// The channel marked as the owner's default; for a team without one, its only channel.
fn default_of(directory: &Directory, owner: Owner) -> Option<&Channel> {
    let enabled = || directory.channels_of(owner).filter(|channel| !channel.disabled);
    let marked = enabled().find(|channel| channel.default);
    let lone = || enabled().next().filter(|_| owner != Owner::Instance && enabled().count() == 1);
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
        let own = |id| directory.token(id).filter(|token| token.person == person.id && !token.disabled);
        let token = token.map(|id| own(id).ok_or(Refusal::TokenDisabled)).transpose()?;
        Ok(Self { directory, person, token })
    }

    /// Every author and the reverse-path are the person's, and within what the token leaves of that.
    fn may_send_as(&self, authors: &Authors, reverse_path: &ReversePath) -> Result<(), Refusal> {
        for mailbox in authors.all().chain(reverse_path.mailbox()) {
            let patterns = &self.person.send_as;
            if !self.person.email.matches(mailbox) && !patterns.iter().any(|pattern| pattern.covers(mailbox)) {
                return Err(Refusal::SenderNotAllowed(mailbox.clone()));
            }
            let narrowed = self.token.and_then(|token| token.send_as.as_ref());
            if narrowed.is_some_and(|patterns| !patterns.iter().any(|pattern| pattern.covers(mailbox))) {
                return Err(Refusal::TokenForbids(mailbox.clone()));
            }
        }
        Ok(())
    }

    fn fixed_or_asked(&self, asked: Option<&str>) -> Result<Option<&'a Channel>, Refusal> {
        let Some(fixed) = self.token.and_then(|token| token.channel) else {
            return asked.map(|name| self.named(name)).transpose();
        };
        // A fixed channel that is gone is not replaced by another.
        let fixed = self.directory.channel(fixed).ok_or_else(|| Refusal::ChannelNotFound(fixed.to_string()))?;
        match asked {
            Some(asked) if asked != fixed.name => Err(Refusal::ChannelFixed { asked: shown(asked), fixed: fixed.name.clone() }),
            _ => Ok(Some(fixed)),
        }
    }

    /// Channels of others do not exist for this person.
    fn named(&self, name: &str) -> Result<&'a Channel, Refusal> {
        let found = self.directory.channel_named(name).filter(|channel| self.shares(channel));
        found.ok_or_else(|| Refusal::ChannelNotFound(shown(name)))
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
        match authors.all().find(|author| !self.carries(channel, author)) {
            None => Ok(()),
            Some(author) => Err(Refusal::ChannelForbids {
                channel: channel.name.clone(),
                author: author.clone(),
                remedy: match channel.scope {
                    Scope::Address => "its credential belongs to one address: send as that one, or use a channel of the domain",
                    Scope::Domain | Scope::Account => "add its domain to the channel, or use another",
                },
            }),
        }
    }

    /// The scope of the credential permits this author.
    fn carries(&self, channel: &Channel, author: &Mailbox) -> bool {
        let listed = || channel.domains.iter().any(|pattern| self.covers(channel, pattern, author));
        match (&channel.transport, channel.scope) {
            // Nothing leaves from there.
            (Transport::Capture, _) if channel.domains.is_empty() => true,
            (Transport::Smtp(_), Scope::Address) => channel.address.as_ref().is_some_and(|address| address.matches(author)),
            (Transport::Smtp(_), Scope::Domain | Scope::Account) | (Transport::Capture, _) => listed(),
        }
    }

    /// `*` on a team's channel stands for what is the team's: never for a domain confirmed as another's.
    fn covers(&self, channel: &Channel, pattern: &DomainPattern, author: &Mailbox) -> bool {
        match (pattern, channel.owner) {
            (DomainPattern::Any, Owner::Team(owner)) => {
                let domain = author.domain().to_ascii();
                self.directory.team_of_domain(&domain).is_none_or(|team| team.id == owner)
            }
            (DomainPattern::Any | DomainPattern::Domain(_), _) => pattern.covers(author),
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

#[cfg(test)]
mod tests;
