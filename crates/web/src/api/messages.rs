//! Looking at messages.

use super::{Pairs, message_id};
use crate::params::Params;
use crate::problem::Problem;
use crate::show::Glance;
use crate::surface::{Caller, Surface};
use crate::view::{Event, Message, Page};
use crate::viewer::Viewer;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use mail::{ChannelId, Directory, MessageId, PersonId, RecipientState, Timestamp};
use store::{Filter, MessageView};

/// Most messages of a page over the local socket.
const MOST: usize = 1000;
const USUAL: usize = 25;
/// Events of a page, unless asked for otherwise.
const USUAL_EVENTS: usize = 100;

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
    let filter = Filter {
        states,
        channel: params.read("channel", |name| channel(&directory, Viewer::of(caller), name)),
        person: match caller {
            Caller::Local => params.read("person", |address| person(&directory, address)),
            Caller::Token(principal) => Some(principal.person),
        },
        recipient: params.one("recipient"),
        after: params.read("created_after", time),
        before: params.read("created_before", time),
    };
    let page = page(&mut params);
    params.finish()?;
    let wanted = page.clone();
    let looked = surface.look(caller, move |glance| {
        let listing = glance.queue().list(&filter, &wanted)?;
        Ok((glance.messages(listing.messages), listing.has_more))
    });
    let (data, has_more): (Vec<Message>, bool) = looked.await?;
    let next = data.last().filter(|_| has_more || page.before.is_some()).map(|last| last.id.clone());
    let prev = data.first().filter(|_| page.after.is_some() || (page.before.is_some() && has_more)).map(|first| first.id.clone());
    Ok(Json(Page { data, has_more, next, prev }))
}

fn page(params: &mut Params) -> store::Page {
    let limit = limit(params);
    let after = params.read("after", cursor);
    let before = params.read("before", cursor);
    if after.is_some() && before.is_some() {
        params.wrong("before", "conflict", "'after' and 'before' do not go together");
    }
    store::Page { after, before, limit: limit.unwrap_or(USUAL) }
}

fn limit(params: &mut Params) -> Option<usize> {
    params.read("limit", |text| {
        let limit = text.parse::<usize>().ok().filter(|limit| (1..=MOST).contains(limit));
        limit.ok_or_else(|| format!("'limit' is a number from 1 to {MOST}"))
    })
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

fn channel(directory: &Directory, viewer: Viewer, name: &str) -> Result<ChannelId, String> {
    let known = directory.channel_named(name).filter(|channel| viewer.knows(directory, channel));
    known.map(|channel| channel.id).ok_or_else(|| format!("there is no channel '{name}'"))
}

fn person(directory: &Directory, address: &str) -> Result<PersonId, String> {
    directory.person_by_address(address).map(|person| person.id).ok_or_else(|| format!("there is no person {address}"))
}

fn time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).ok_or_else(|| format!("'{text}' is no time as 2026-11-25T08:00:00Z (RFC 3339 with offset)"))
}

/// The message, if the caller may see it.
pub(super) async fn visible(surface: &Surface, caller: &Caller, text: &str) -> Result<MessageView, Problem> {
    let id = message_id(text)?;
    let message = surface.read(move |queue| queue.message(id)).await?;
    let own = |message: &MessageView| match caller {
        Caller::Local => true,
        Caller::Token(principal) => principal.person == message.person,
    };
    message.filter(own).ok_or_else(|| Problem::no_message(text))
}

pub(crate) async fn show(
    State(surface): State<Surface>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Query(pairs): Pairs,
) -> Result<Json<Message>, Problem> {
    Params::new(pairs).finish()?;
    let message = visible(&surface, &caller, &id).await?;
    let shown = surface.look(&caller, move |glance| Ok(glance.message(message))).await?;
    shown.map(Json).ok_or_else(|| Problem::no_message(&id))
}

/// A page of what happened to a message, oldest first.
pub(crate) async fn events(
    State(surface): State<Surface>,
    Extension(caller): Extension<Caller>,
    Path(text): Path<String>,
    Query(pairs): Pairs,
) -> Result<Json<Page<Event>>, Problem> {
    let mut params = Params::new(pairs);
    let limit = limit(&mut params).unwrap_or(USUAL_EVENTS);
    let after = params.read("after", |text| text.parse().map_err(|_| format!("'{text}' is no cursor; take it from 'next'")));
    params.finish()?;
    let message = visible(&surface, &caller, &text).await?;
    let id = message.id;
    let mut events = surface.read(move |queue| queue.events_of(id, after.unwrap_or(0), limit + 1)).await?;
    let has_more = events.len() > limit;
    events.truncate(limit);
    let next = events.last().filter(|_| has_more).map(|last| last.sequence.to_string());
    let mut addresses = vec![String::new(); message.recipients.iter().map(|one| one.index as usize + 1).max().unwrap_or(0)];
    for recipient in message.recipients {
        addresses[recipient.index as usize] = recipient.address;
    }
    let glance = Glance::new(&**surface.gateway(), Viewer::of(&caller));
    let data = events.into_iter().map(|event| glance.event(event, &addresses)).collect();
    Ok(Json(Page { data, has_more, next, prev: None }))
}

pub(crate) async fn raw(
    State(surface): State<Surface>,
    Extension(caller): Extension<Caller>,
    Path(text): Path<String>,
    Query(pairs): Pairs,
) -> Result<Response, Problem> {
    Params::new(pairs).finish()?;
    let id = visible(&surface, &caller, &text).await?.id;
    let bytes = surface.read(move |queue| queue.raw(id)).await?;
    let bytes = bytes.ok_or_else(|| Problem::new(404, "body_gone", format!("the bytes of {text} are no longer kept")))?;
    let length = HeaderValue::from(bytes.len());
    let mut response = super::body::streamed(&bytes).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("message/rfc822"));
    response.headers_mut().insert(header::CONTENT_LENGTH, length);
    Ok(response)
}
