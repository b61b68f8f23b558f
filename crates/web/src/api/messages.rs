//! Looking at one message.

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
use store::MessageView;

/// Most of a page.
const MOST: usize = 1000;
/// Most messages of a page for somebody with a token.
const MOST_BY_TOKEN: usize = 100;
/// Events of a page, unless asked for otherwise.
const USUAL_EVENTS: usize = 100;

/// How many messages a page may have: each comes with its recipients and their last words.
pub(super) fn limit(params: &mut Params, caller: &Caller) -> Option<usize> {
    up_to(params, if matches!(caller, Caller::Local) { MOST } else { MOST_BY_TOKEN })
}

fn up_to(params: &mut Params, most: usize) -> Option<usize> {
    params.read("limit", |text| {
        let limit = text.parse::<usize>().ok().filter(|limit| (1..=most).contains(limit));
        limit.ok_or_else(|| format!("'limit' is a number from 1 to {most}"))
    })
}

/// The message, if it is the caller's own.
pub(super) async fn visible(surface: &Surface, caller: &Caller, text: &str) -> Result<MessageView, Problem> {
    let id = message_id(text)?;
    let message = surface.read(move |queue| queue.message(id)).await?;
    let own = |message: &MessageView| match caller {
        Caller::Local => true,
        Caller::Token(principal) => principal.person == message.person,
    };
    message.filter(own).ok_or_else(|| Problem::no_message(text))
}

/// The message without its body, if it is the caller's own or of a team in the caller's charge.
async fn listed(surface: &Surface, caller: &Caller, text: &str) -> Result<MessageView, Problem> {
    let id = message_id(text)?;
    let message = surface.read(move |queue| queue.message(id)).await?;
    let (directory, viewer) = (surface.gateway().directory(), Viewer::of(caller));
    let sees = |message: &MessageView| viewer == Viewer::Person(message.person) || viewer.oversees(&directory, message.team);
    message.filter(sees).ok_or_else(|| Problem::no_message(text))
}

pub(crate) async fn show(
    State(surface): State<Surface>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Query(pairs): Pairs,
) -> Result<Json<Message>, Problem> {
    Params::new(pairs).finish()?;
    let message = listed(&surface, &caller, &id).await?;
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
    let limit = up_to(&mut params, MOST).unwrap_or(USUAL_EVENTS);
    let after = params.read("after", |text| text.parse().map_err(|_| format!("'{text}' is no cursor; take it from 'next'")));
    params.finish()?;
    let message = listed(&surface, &caller, &text).await?;
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
    Ok(Json(Page { data, has_more, next, prev: None, looked_until: None }))
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
    let bytes = bytes.ok_or_else(|| Problem::new(410, "body_gone", format!("the bytes of {text} are no longer kept")))?;
    let length = HeaderValue::from(bytes.len());
    let mut response = super::body::streamed(&bytes).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("message/rfc822"));
    response.headers_mut().insert(header::CONTENT_LENGTH, length);
    Ok(response)
}
