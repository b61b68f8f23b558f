//! Who looks, and how much they may see of a channel.

use crate::surface::Caller;
use mail::channel::{Channel, Owner};
use mail::directory::Role;
use mail::{Directory, PersonId, TeamId};

/// Who looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Viewer {
    /// The operator, over the local socket.
    Operator,
    /// Somebody with a token.
    Person(PersonId),
}

impl Viewer {
    pub(crate) fn of(caller: &Caller) -> Self {
        match caller {
            Caller::Local => Self::Operator,
            Caller::Token(principal) => Self::Person(principal.person),
        }
    }

    /// True when mail may be sent by this channel, or it is in the viewer's charge: others do not exist for them.
    pub(crate) fn knows(self, directory: &Directory, channel: &Channel) -> bool {
        let Self::Person(id) = self else { return true };
        let shared = match channel.owner {
            Owner::Person(owner) => owner == id,
            Owner::Team(team) => is_member(directory, id, team),
            Owner::Instance => true,
        };
        shared || self.sees_words(directory, channel)
    }

    /// True when the viewer sees what the next hop said and how the channel signs in: whoever owns it, or has its
    /// team in charge. Everybody else sees the sort of trouble.
    pub(crate) fn sees_words(self, directory: &Directory, channel: &Channel) -> bool {
        let Self::Person(id) = self else { return true };
        let Some(person) = directory.person(id) else { return false };
        let admin_of = |team: &TeamId| person.role == Role::TeamAdmin && person.teams.contains(team);
        if person.role == Role::Admin {
            return true;
        }
        match channel.owner {
            Owner::Person(owner) => owner == id || directory.person(owner).is_some_and(|owner| owner.teams.iter().any(admin_of)),
            Owner::Team(team) => admin_of(&team),
            Owner::Instance => false,
        }
    }

    /// True when the viewer sees everybody's mail that was sent through this team, or through none: lists, not bodies.
    pub(crate) fn oversees(self, directory: &Directory, team: Option<TeamId>) -> bool {
        match (self, team) {
            (Self::Operator, _) => true,
            (Self::Person(_), Some(team)) => self.has_charge_of(directory, team),
            (Self::Person(id), None) => directory.person(id).is_some_and(|person| person.role == Role::Admin),
        }
    }

    /// True when the viewer is of the team, or has it in charge: others do not exist for them.
    pub(crate) fn knows_team(self, directory: &Directory, team: TeamId) -> bool {
        let is_of_it = |id| is_member(directory, id, team);
        self.has_charge_of(directory, team) || matches!(self, Self::Person(id) if is_of_it(id))
    }

    /// True when the viewer may change what belongs to the team as a whole.
    pub(crate) fn has_charge_of(self, directory: &Directory, team: TeamId) -> bool {
        let Self::Person(id) = self else { return true };
        directory.person(id).is_some_and(|person| match person.role {
            Role::Admin => true,
            Role::TeamAdmin => person.teams.contains(&team),
            Role::Member => false,
        })
    }
}

fn is_member(directory: &Directory, person: PersonId, team: TeamId) -> bool {
    directory.person(person).is_some_and(|person| person.teams.contains(&team))
}
