//! A person's wishes for a message: cancel, hold, release.

use super::Pairs;
use super::messages::visible;
use crate::params::Params;
use crate::problem::Problem;
use crate::surface::{Caller, Surface};
use crate::view::Steered;
use crate::viewer::Viewer;
use axum::extract::{Path, Query, State};
use axum::{Extension, Json};
use mail::{Move, RecipientState};
use store::{MessageView, Steer};

/// Who asks.
type By = Extension<Caller>;

/// Who wishes it, for the record: the local socket lets only our own user and root in.
pub(crate) const LOCAL_ADMIN: &str = "local administrator";

pub(crate) async fn cancel(
    surface: State<Surface>,
    caller: By,
    path: Path<String>,
    query: Pairs,
) -> Result<Json<Steered>, Problem> {
    steer(surface.0, caller.0, path.0, query, Move::Cancel, "message_not_cancellable").await
}

pub(crate) async fn hold(surface: State<Surface>, caller: By, path: Path<String>, query: Pairs) -> Result<Json<Steered>, Problem> {
    steer(surface.0, caller.0, path.0, query, Move::Hold, "message_not_holdable").await
}

pub(crate) async fn release(
    surface: State<Surface>,
    caller: By,
    path: Path<String>,
    query: Pairs,
) -> Result<Json<Steered>, Problem> {
    steer(surface.0, caller.0, path.0, query, Move::Release, "message_not_releasable").await
}

async fn steer(
    surface: Surface,
    caller: Caller,
    text: String,
    query: Pairs,
    to: Move,
    code: &'static str,
) -> Result<Json<Steered>, Problem> {
    let Query(pairs) = query;
    let mut params = Params::new(pairs);
    let before = visible(&surface, &caller, &text).await?;
    let id = before.id;
    let recipients = named(&mut params, &before);
    params.finish()?;
    if caller != Caller::Local {
        surface.count_move(id)?;
    }
    let gateway = surface.gateway();
    let by = super::by(&surface, &caller);
    let order = Steer { message: id, recipients: recipients.clone(), to, channel: None, by, at: gateway.now() };
    let moved = gateway.queue().steer(order).await?;
    // What a channel keeps back protects it: only who has charge of it lets that go on.
    let directory = gateway.directory();
    let in_charge = directory.channel(before.channel).is_none_or(|channel| Viewer::of(&caller).sees_words(&directory, channel));
    let let_go = if to == Move::Release && in_charge { kept_back(&surface, &before, &recipients) } else { Vec::new() };
    let done: Vec<u32> = moved.into_iter().chain(let_go).collect();
    if to == Move::Release && !done.is_empty() {
        gateway.released(before.channel, in_charge).await;
    }
    let after = surface.read(move |queue| queue.message(id)).await?.ok_or_else(|| Problem::no_message(&text))?;
    if done.is_empty() {
        let states: Vec<String> = after.recipients.iter().map(|one| format!("{} is {}", one.address, one.state.name())).collect();
        return Err(Problem::new(409, code, format!("no recipient is in a state that allows it: {}", states.join(", "))));
    }
    let (gone, left): (Vec<_>, Vec<_>) = after.recipients.into_iter().partition(|one| done.contains(&one.index));
    Ok(Json(Steered {
        id: text,
        moved: gone.into_iter().map(|one| one.address).collect(),
        left: left.into_iter().map(|one| (one.address, one.state)).collect(),
    }))
}

/// The queued recipients, of those asked for or of all, that wait since the channel keeps their sender's mail back.
fn kept_back(surface: &Surface, message: &MessageView, asked: &[u32]) -> Vec<u32> {
    if !surface.gateway().kept_back().contains(&(message.channel, message.person)) {
        return Vec::new();
    }
    let queued = message.recipients.iter().filter(|one| one.state == RecipientState::Queued);
    queued.map(|one| one.index).filter(|index| asked.is_empty() || asked.contains(index)).collect()
}

/// The places of the recipients that the request names; none named means all.
pub(super) fn named(params: &mut Params, message: &MessageView) -> Vec<u32> {
    let wanted = params.all("recipient");
    let places: Vec<u32> = wanted.iter().filter_map(|address| place(message, address)).collect();
    if places.len() != wanted.len() {
        params.wrong("recipient", "unknown", "not a recipient of this message");
    }
    places
}

fn place(message: &MessageView, address: &str) -> Option<u32> {
    message.recipients.iter().find(|recipient| recipient.address.eq_ignore_ascii_case(address)).map(|recipient| recipient.index)
}
