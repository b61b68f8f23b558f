//! Addresses that must not be written to: looking at them, and taking them off the list.

use super::Pairs;
use crate::params::Params;
use crate::problem::Problem;
use crate::show::Glance;
use crate::surface::{Caller, Surface};
use crate::view::{Page, Suppression, Unsuppressed};
use crate::viewer::Viewer;
use axum::extract::{Path, Query, State};
use axum::{Extension, Json};
use mail::{Directory, TeamId};
use smtp::Mailbox;
use store::{Party, Queue, StoreError};

const MOST: usize = 1000;
const USUAL: usize = 25;

/// A page in the order of addresses. Whoever stands on the lists of several teams stands on one page with all of them.
pub(crate) async fn list(
    State(surface): State<Surface>,
    Extension(caller): Extension<Caller>,
    Query(pairs): Pairs,
) -> Result<Json<Page<Suppression>>, Problem> {
    let mut params = Params::new(pairs);
    let directory = surface.gateway().directory();
    let viewer = Viewer::of(&caller);
    let team = params.read("team", |name| team(&directory, viewer, name));
    let limit = params.read("limit", |text| {
        let limit = text.parse::<usize>().ok().filter(|limit| (1..=MOST).contains(limit));
        limit.ok_or_else(|| format!("'limit' is a number from 1 to {MOST}"))
    });
    let after = params.one("after");
    params.finish()?;
    let parties = team.map_or_else(|| parties(&directory, viewer), |team| vec![Party::Team(team)]);
    let limit = limit.unwrap_or(USUAL);
    let page = surface.look(&caller, move |glance| {
        let (listed, has_more) = whole_addresses(&*glance.queue(), &parties, after.as_deref(), limit)?;
        let next = listed.last().filter(|_| has_more).map(|last| last.address.clone());
        let data = listed.into_iter().map(|one| glance.suppression(one)).collect();
        Ok(Page { data, has_more, next, prev: None, looked_until: None })
    });
    Ok(Json(page.await?))
}

/// Takes an address off one list, or off every list that the caller has charge of and where it stands.
pub(crate) async fn remove(
    State(surface): State<Surface>,
    Extension(caller): Extension<Caller>,
    Path(address): Path<String>,
    Query(pairs): Pairs,
) -> Result<Json<Unsuppressed>, Problem> {
    let mut params = Params::new(pairs);
    let directory = surface.gateway().directory();
    let viewer = Viewer::of(&caller);
    let team = params.read("team", |name| team(&directory, viewer, name));
    params.finish()?;
    let address = key(&address);
    let lists = match team {
        Some(team) => vec![Party::Team(team)],
        None => standing(&surface, viewer, &address).await?,
    };
    let not_listed = || {
        Problem::new(404, "suppression_not_found", format!("{address} is on no such list; 'sendero suppression list' shows them"))
    };
    if lists.is_empty() {
        return Err(not_listed());
    }
    if !lists.iter().all(|party| has_charge(viewer, &directory, *party)) {
        let detail = "the list of a team is changed by its administrators; ask one of them";
        return Err(Problem::new(403, "not_in_charge", detail));
    }
    let (by, gateway) = (super::by(&surface, &caller), surface.gateway());
    let mut removed_from = Vec::new();
    for party in lists {
        if gateway.queue().unsuppress(party, &address, &by, gateway.now()).await? {
            removed_from.push(Glance::new(&**gateway, viewer).party_name(party));
        }
    }
    if removed_from.is_empty() { Err(not_listed()) } else { Ok(Json(Unsuppressed { address, removed_from })) }
}

/// An address as the lists have it, however it is written.
pub(super) fn key(address: &str) -> String {
    Mailbox::parse(address).map_or_else(|_| address.to_owned(), |mailbox| mailbox.key())
}

/// The lists on which an address stands, of those that the viewer sees.
async fn standing(surface: &Surface, viewer: Viewer, address: &str) -> Result<Vec<Party>, Problem> {
    let directory = surface.gateway().directory();
    let wanted = address.to_owned();
    let seen = parties(&directory, viewer);
    let found = surface.read(move |queue| {
        let parties = if seen.is_empty() { every_party(&directory) } else { seen };
        Ok(parties.into_iter().filter(|party| queue.is_suppressed(*party, &wanted)).collect())
    });
    found.await
}

/// The lists that the viewer sees; empty for all.
fn parties(directory: &Directory, viewer: Viewer) -> Vec<Party> {
    let Viewer::Person(id) = viewer else { return Vec::new() };
    let teams = directory.person(id).map(|person| person.teams.clone()).unwrap_or_default();
    teams.into_iter().map(Party::Team).chain([Party::Person(id)]).collect()
}

fn every_party(directory: &Directory) -> Vec<Party> {
    let teams = directory.teams().map(|team| Party::Team(team.id));
    let mut parties: Vec<Party> = teams.chain(directory.people().map(|person| Party::Person(person.id))).collect();
    parties.sort_unstable();
    parties
}

fn has_charge(viewer: Viewer, directory: &Directory, party: Party) -> bool {
    match party {
        Party::Team(team) => viewer.has_charge_of(directory, team),
        Party::Person(person) => viewer == Viewer::Operator || viewer == Viewer::Person(person),
    }
}

/// Teams of others do not exist for the viewer.
fn team(directory: &Directory, viewer: Viewer, name: &str) -> Result<TeamId, String> {
    let found = directory.team_named(name).map(|team| team.id);
    let seen = |team: &TeamId| viewer == Viewer::Operator || parties(directory, viewer).contains(&Party::Team(*team));
    found.filter(seen).ok_or_else(|| format!("there is no team '{name}'"))
}

/// Up to `limit` entries; more where the last address stands on further lists, since the next page begins behind it.
fn whole_addresses(
    queue: &dyn Queue,
    parties: &[Party],
    after: Option<&str>,
    limit: usize,
) -> Result<(Vec<store::Suppression>, bool), StoreError> {
    let mut asked = limit + 1;
    loop {
        let mut found = queue.suppressions(parties, after, asked)?;
        if found.len() <= limit {
            return Ok((found, false));
        }
        let last = &found[limit - 1].address;
        match found.iter().skip(limit).position(|one| one.address != *last) {
            Some(further) => {
                found.truncate(limit + further);
                return Ok((found, true));
            }
            None if found.len() < asked => return Ok((found, false)),
            None => asked *= 2,
        }
    }
}
