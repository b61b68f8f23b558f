//! What must hold in a directory as a whole, whatever of it was written just now.

use mail::channel::DomainPattern;
use mail::directory::AddressPattern;
use mail::{Channel, Directory, Owner, Person, Token};
use std::collections::BTreeMap;

/// Every problem, each with what to do. Only what is switched on can be one.
pub(super) fn problems(directory: &Directory) -> Vec<String> {
    let mut problems = shared_domains(directory);
    let mut people: Vec<_> = directory.people().filter(|person| !person.disabled).collect();
    people.sort_unstable_by_key(|person| person.id);
    problems.extend(people.into_iter().flat_map(|person| grants(directory, person)));
    let mut channels: Vec<_> = directory.channels().filter(|channel| !channel.disabled).collect();
    channels.sort_unstable_by_key(|channel| channel.id);
    problems.extend(channels.iter().flat_map(|channel| foreign_domains(directory, channel)));
    problems.extend(two_defaults(&channels));
    let mut tokens: Vec<_> = directory.tokens().filter(|token| !token.disabled).collect();
    tokens.sort_unstable_by_key(|token| token.id);
    problems.extend(tokens.into_iter().filter_map(|token| unusable_channel(directory, token)));
    problems
}

/// A domain is one team's at a time.
fn shared_domains(directory: &Directory) -> Vec<String> {
    let mut teams: Vec<_> = directory.teams().filter(|team| !team.disabled).collect();
    teams.sort_unstable_by_key(|team| team.id);
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    let mut problems = Vec::new();
    for team in teams {
        for domain in &team.domains {
            if let Some(other) = owners.insert(domain, &team.name) {
                let name = &team.name;
                problems.push(format!(
                    "team '{name}': {domain} is a domain of team '{other}'; a domain belongs to one team, so take it off one"
                ));
            }
        }
    }
    problems
}

fn domains_of<'a>(directory: &'a Directory, person: &Person) -> Vec<&'a str> {
    let teams = person.teams.iter().filter_map(|team| directory.team(*team)).filter(|team| !team.disabled);
    teams.flat_map(|team| &team.domains).map(String::as_str).collect()
}

/// Further addresses lie within the domains of the person's teams.
fn grants(directory: &Directory, person: &Person) -> Vec<String> {
    let domains = domains_of(directory, person);
    let mut problems = Vec::new();
    for pattern in &person.send_as {
        let (shown, domain) = match pattern {
            AddressPattern::Mailbox(own) if own.matches(&person.email) => continue,
            AddressPattern::Mailbox(mailbox) => (mailbox.to_string(), mailbox.domain().to_ascii()),
            AddressPattern::Domain(domain) => (format!("*@{domain}"), domain.clone()),
        };
        if !domains.contains(&domain.as_str()) {
            problems.push(format!(
                "person '{}': send_as '{shown}' lies outside of their teams' domains; add {domain} to a team of theirs, or take it off",
                person.email
            ));
        }
    }
    problems
}

/// A team's channel carries its team's domains, a person's none of a team that the person is not in.
fn foreign_domains(directory: &Directory, channel: &Channel) -> Vec<String> {
    let listed = channel.domains.iter().filter_map(|pattern| match pattern {
        DomainPattern::Any => None,
        DomainPattern::Domain(domain) => Some(domain),
    });
    let mut problems = Vec::new();
    for domain in listed {
        let holder = directory.team_of_domain(domain).filter(|team| !team.disabled);
        let problem = match (channel.owner, holder) {
            (Owner::Instance, _) | (Owner::Person(_), None) => continue,
            (Owner::Team(id), Some(team)) if team.id == id => continue,
            (Owner::Person(id), Some(team)) if directory.person(id).is_some_and(|person| person.teams.contains(&team.id)) => {
                continue;
            }
            (Owner::Team(_), _) => format!("{domain} is not a domain of its team; add it to the team's domains, or take it off"),
            (Owner::Person(_), Some(team)) => {
                format!("{domain} is a domain of team '{}', which its owner is not in; take it off", team.name)
            }
        };
        problems.push(format!("channel '{}': {problem}", channel.name));
    }
    problems
}

fn two_defaults(channels: &[&Channel]) -> Vec<String> {
    let mut problems = Vec::new();
    for (place, channel) in channels.iter().enumerate().filter(|(_, channel)| channel.default) {
        if let Some(other) = channels[..place].iter().find(|other| other.default && other.owner == channel.owner) {
            problems.push(format!(
                "channel '{}': its owner has a default already, '{}'; keep default = true at one",
                channel.name, other.name
            ));
        }
    }
    problems
}

/// A channel fixed on a token is one that its person may use.
fn unusable_channel(directory: &Directory, token: &Token) -> Option<String> {
    let id = token.channel?;
    let person = directory.person(token.person)?;
    let channel = directory.channel(id);
    let is_usable = channel.is_some_and(|channel| {
        let is_shared = match channel.owner {
            Owner::Person(owner) => owner == person.id,
            Owner::Team(team) => person.teams.contains(&team),
            Owner::Instance => true,
        };
        is_shared && !channel.disabled
    });
    let name = channel.map_or_else(|| id.to_string(), |channel| channel.name.clone());
    (!is_usable).then(|| {
        format!(
            "token '{}': {} may use no channel '{name}': it is another's or switched off; choose one of theirs",
            token.name, person.email
        )
    })
}
