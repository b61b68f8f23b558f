//! Lists of messages, and how many there are.

use super::Pairs;
use super::messages::limit;
use crate::params::Params;
use crate::problem::Problem;
use crate::show::Glance;
use crate::surface::{Caller, Surface};
use crate::view::{Counts, Message, Page};
use crate::viewer::Viewer;
use crate::waiting::{Signs, Way};
use axum::extract::{Query, State};
use axum::{Extension, Json};
use mail::{ChannelId, Directory, Lane, MessageId, PersonId, RecipientState, TeamId, Timestamp, WaitingKind};
use smtp::Mailbox;
use std::collections::HashMap;
use store::{Counted, Filter, Waits};

const USUAL: usize = 25;

/// What a list can be asked for and what would have to be counted one by one.
const NOT_COUNTED: [&str; 11] =
    ["status", "lane", "recipient", "from", "subject", "waiting_on", "created_after", "created_before", "limit", "after", "before"];

const KINDS: [(&str, WaitingKind); 8] = [
    ("turn", WaitingKind::Turn),
    ("pace", WaitingKind::Pace),
    ("channel", WaitingKind::Channel),
    ("schedule", WaitingKind::Schedule),
    ("retry", WaitingKind::Retry),
    ("uncertain", WaitingKind::Uncertain),
    ("delivery", WaitingKind::Delivery),
    ("person", WaitingKind::Person),
];

pub(crate) async fn list(
    State(surface): State<Surface>,
    Extension(caller): Extension<Caller>,
    Query(pairs): Pairs,
) -> Result<Json<Page<Message>>, Problem> {
    listing(&surface, &caller, Params::new(pairs), None).await
}

pub(crate) async fn captured(
    State(surface): State<Surface>,
    Extension(caller): Extension<Caller>,
    Query(pairs): Pairs,
) -> Result<Json<Page<Message>>, Problem> {
    listing(&surface, &caller, Params::new(pairs), Some(RecipientState::Captured)).await
}

async fn listing(
    surface: &Surface,
    caller: &Caller,
    mut params: Params,
    only: Option<RecipientState>,
) -> Result<Json<Page<Message>>, Problem> {
    let directory = surface.gateway().directory();
    let states = match only {
        Some(state) => vec![state],
        None => params.read_all("status", state),
    };
    let Counted { channel, person, team } = whose(&directory, caller, &mut params);
    let mut filter = Filter {
        states,
        channel,
        person,
        team,
        lane: params.read("lane", |text| {
            Lane::parse(text).ok_or_else(|| format!("there is no lane '{text}'; there are: now, normal, bulk"))
        }),
        tags: params.beginning("tag.", "tag.KEY"),
        recipient: params.read("recipient", recipient),
        author: params.read("from", author),
        subject: params.read("subject", part),
        after: params.read("created_after", time),
        before: params.read("created_before", time),
        waits: None,
    };
    let kind = params.read("waiting_on", kind);
    let page = page(&mut params, caller);
    params.finish()?;
    let wanted = page.clone();
    let looked = surface.search(caller, move |glance| {
        filter.waits = kind.map(|kind| waits(glance, filter.channel, kind));
        let listing = glance.queue().list(&filter, &wanted)?;
        Ok((glance.messages(listing.messages), listing.has_more, listing.stopped))
    });
    let (data, has_more, stopped): (Vec<Message>, bool, Option<MessageId>) = looked.await?;
    let backwards = page.before.is_some();
    // Where the search stopped it goes on, whatever it found.
    let last = stopped.filter(|_| !backwards).map(|id| id.to_string()).or(data.last().map(|last| last.id.clone()));
    let first = stopped.filter(|_| backwards).map(|id| id.to_string()).or(data.first().map(|first| first.id.clone()));
    let next = last.filter(|_| has_more || backwards);
    let prev = first.filter(|_| page.after.is_some() || (backwards && has_more));
    Ok(Json(Page { data, has_more, next, prev, looked_until: stopped.map(MessageId::at) }))
}

/// Recipients by state, of what is in the lists.
pub(crate) async fn counts(
    State(surface): State<Surface>,
    Extension(caller): Extension<Caller>,
    Query(pairs): Pairs,
) -> Result<Json<Counts>, Problem> {
    let is_counted = |name: &str| !NOT_COUNTED.contains(&name) && !name.starts_with("tag.");
    let (pairs, others): (Vec<_>, Vec<_>) = pairs.into_iter().partition(|(name, _)| is_counted(name));
    let mut params = Params::new(pairs);
    for (name, _) in others {
        let why = "every message would have to be looked at; counts know channel, person and team";
        params.wrong(&name, "not_counted", format!("'{name}' is not counted by, since {why}"));
    }
    let directory = surface.gateway().directory();
    let of = whose(&directory, &caller, &mut params);
    params.finish()?;
    let by_state = surface.read(move |queue| queue.counts(&of)).await?;
    let names = RecipientState::ALL.map(|state| state.name().to_owned());
    Ok(Json(Counts { total: by_state.iter().sum(), recipients: names.into_iter().zip(by_state).collect() }))
}

/// Whose mail it is about: with a token one's own, or a team's that one has in charge, and nobody else's.
fn whose(directory: &Directory, caller: &Caller, params: &mut Params) -> Counted {
    let viewer = Viewer::of(caller);
    let channel = params.read("channel", |name| channel(directory, viewer, name));
    let team = params.read("team", |name| team(directory, viewer, name));
    let oversees = viewer.oversees(directory, team);
    let person = params.read("person", |address| person(directory, viewer, oversees, address));
    let own = match viewer {
        Viewer::Person(id) if !(team.is_some() && oversees) => Some(id),
        _ => None,
    };
    Counted { channel, team, person: person.or(own) }
}

/// The open recipients that wait for this, as things stand now.
fn waits(glance: &Glance<'_>, channel: Option<ChannelId>, kind: WaitingKind) -> Waits {
    let directory = glance.directory();
    let ids = directory.channels().map(|row| row.id).filter(|id| channel.is_none_or(|channel| channel == *id));
    let ways: HashMap<ChannelId, Signs> = ids.map(|id| (id, Signs::of(&glance.way(id)))).collect();
    // What is on a channel that is gone waits as on one that is disabled.
    let gone = Way {
        outlook: crate::gateway::Outlook { state: mail::ChannelState::Disabled, ..Default::default() },
        ..glance.way(ChannelId(0))
    };
    let gone = Signs::of(&gone);
    Waits::new(move |one| ways.get(&one.channel).unwrap_or(&gone).kind(one) == kind)
}

fn page(params: &mut Params, caller: &Caller) -> store::Page {
    let limit = limit(params, caller);
    let after = params.read("after", cursor);
    let before = params.read("before", cursor);
    if after.is_some() && before.is_some() {
        params.wrong("before", "conflict", "'after' and 'before' do not go together");
    }
    store::Page { after, before, limit: limit.unwrap_or(USUAL) }
}

fn cursor(text: &str) -> Result<MessageId, String> {
    text.parse().map_err(|_| format!("'{text}' is no cursor; take it from 'next' or 'prev'"))
}

fn state(text: &str) -> Result<RecipientState, String> {
    let names = || RecipientState::ALL.map(RecipientState::name).join(", ");
    RecipientState::ALL
        .into_iter()
        .find(|state| state.name() == text)
        .ok_or_else(|| format!("there is no status '{text}'; there are: {}", names()))
}

fn kind(text: &str) -> Result<WaitingKind, String> {
    let known = KINDS.into_iter().find(|(name, _)| *name == text).map(|(_, kind)| kind);
    known.ok_or_else(|| format!("nothing waits on '{text}'; there are: {}", KINDS.map(|(name, _)| name).join(", ")))
}

fn recipient(text: &str) -> Result<String, String> {
    let is_one = text.rsplit_once('@').map_or(!text.is_empty(), |(_, domain)| !domain.is_empty());
    if is_one { Ok(text.to_owned()) } else { Err(format!("'{text}' is no address; a whole domain is written @example.org")) }
}

fn author(text: &str) -> Result<String, String> {
    Mailbox::parse(text).map(|mailbox| mailbox.key()).map_err(|_| format!("'{text}' is no address as ana@example.com"))
}

fn part(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("'subject' is a part of the subject, at least one letter".to_owned()) } else { Ok(text.to_owned()) }
}

fn channel(directory: &Directory, viewer: Viewer, name: &str) -> Result<ChannelId, String> {
    let known = directory.channel_named(name).filter(|channel| viewer.knows(directory, channel));
    known.map(|channel| channel.id).ok_or_else(|| format!("there is no channel '{name}'"))
}

fn team(directory: &Directory, viewer: Viewer, name: &str) -> Result<TeamId, String> {
    let known = directory.team_named(name).filter(|team| viewer.knows_team(directory, team.id));
    known.map(|team| team.id).ok_or_else(|| format!("there is no team '{name}'"))
}

fn person(directory: &Directory, viewer: Viewer, oversees: bool, address: &str) -> Result<PersonId, String> {
    let known = directory.person_by_address(address).map(|person| person.id);
    let shown = known.filter(|id| oversees || viewer == Viewer::Person(*id));
    shown.ok_or_else(|| match viewer {
        Viewer::Operator => format!("there is no person {address}"),
        Viewer::Person(_) => {
            format!("there is no person {address} whose mail you see; administrators of a team name it, too: team=NAME")
        }
    })
}

fn time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).ok_or_else(|| format!("'{text}' is no time as 2026-11-25T08:00:00Z (RFC 3339 with offset)"))
}
