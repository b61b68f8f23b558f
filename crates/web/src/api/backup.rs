//! Backups, and what was held because it was restored. For the local socket only.

use super::steer::LOCAL_ADMIN;
use super::{Pairs, body};
use crate::params::Params;
use crate::problem::Problem;
use crate::surface::Surface;
use crate::view::{Backup, BackupRequest, Released};
use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use mail::{ChannelId, MessageId, Move, RecipientState};
use std::collections::BTreeSet;
use store::embedded::RESTORED;
use store::{Filter, MessageView, Page, Queue, Steer, StoreError};

const MAX_REQUEST: u64 = 16 * 1024;
/// Messages that are looked at, and released, at once.
const AT_ONCE: usize = 1000;

/// Begins a backup; how it goes on is asked with GET.
pub(crate) async fn begin(
    State(surface): State<Surface>,
    Query(pairs): Pairs,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Backup>), Problem> {
    Params::new(pairs).finish()?;
    body::expect(&headers, "application/json")?;
    let asked: BackupRequest = body::json(&body::read(&headers, body, MAX_REQUEST).await?)?;
    if !asked.folder.is_absolute() {
        return Err(Problem::new(422, "validation_failed", "'folder' is an absolute path on the gateway's machine"));
    }
    Ok((StatusCode::ACCEPTED, Json(surface.gateway().begin_backup(asked.folder)?)))
}

/// The backup that is being taken, or the last one since the start.
pub(crate) async fn show(State(surface): State<Surface>, Query(pairs): Pairs) -> Result<Json<Backup>, Problem> {
    Params::new(pairs).finish()?;
    let none = || Problem::new(404, "no_backup", "no backup was taken since the gateway started");
    surface.gateway().backup().map(Json).ok_or_else(none)
}

/// Lets go on what is held because it was restored: everything, or what is on one channel; the oldest first.
pub(crate) async fn release(State(surface): State<Surface>, Query(pairs): Pairs) -> Result<Json<Released>, Problem> {
    let mut params = Params::new(pairs);
    let name = params.one("channel");
    params.finish()?;
    let directory = surface.gateway().directory();
    let channel = match &name {
        Some(name) => Some(directory.channel_named(name).ok_or_else(|| Problem::no_channel(name))?.id),
        None => None,
    };
    let held = surface.read(move |queue| restored(queue, channel)).await?;
    let (mut released, mut channels) = (Released::default(), BTreeSet::new());
    let at = surface.gateway().now();
    for piece in held.chunks(AT_ONCE) {
        let orders: Vec<_> = piece
            .iter()
            .map(|one| {
                let by = LOCAL_ADMIN.to_owned();
                let (message, recipients) = (one.message, one.recipients.clone());
                let order = Steer { message, recipients, to: Move::Release, channel: None, by, at };
                (one.channel, surface.gateway().queue().steer(order))
            })
            .collect();
        for (channel, order) in orders {
            match order.await {
                Ok(moved) if !moved.is_empty() => {
                    released.messages += 1;
                    released.recipients += moved.len() as u64;
                    channels.insert(channel);
                }
                // Somebody else has cancelled or released it meanwhile.
                Ok(_) | Err(StoreError::Unknown(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    for channel in channels {
        surface.gateway().released(channel, true).await;
    }
    Ok(Json(released))
}

/// A message with recipients that are held because it was restored.
struct Held {
    message: MessageId,
    channel: ChannelId,
    recipients: Vec<u32>,
}

fn restored(queue: &dyn Queue, channel: Option<ChannelId>) -> Result<Vec<Held>, StoreError> {
    let filter = Filter { states: vec![RecipientState::Held], channel, ..Filter::default() };
    let (mut held, mut after) = (Vec::new(), None);
    loop {
        let listing = queue.list(&filter, &Page { after, before: None, limit: AT_ONCE })?;
        after = listing.stopped.or(listing.messages.last().map(|last| last.id));
        held.extend(listing.messages.iter().map(of).filter(|one| !one.recipients.is_empty()));
        if !listing.has_more {
            held.reverse();
            return Ok(held);
        }
    }
}

fn of(view: &MessageView) -> Held {
    let restored = view.recipients.iter().filter(|one| one.state == RecipientState::Held && one.said.starts_with(RESTORED));
    Held { message: view.id, channel: view.channel, recipients: restored.map(|one| one.index).collect() }
}
