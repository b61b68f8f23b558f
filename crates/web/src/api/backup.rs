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
use mail::{ChannelId, Move};
use std::collections::BTreeSet;
use store::embedded::{HeldRestored, held_restored};
use store::{Steer, StoreError};

const MAX_REQUEST: u64 = 16 * 1024;
/// Messages that are released at once.
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

/// Lets go on what is held because it was restored: everything, or what is on one channel; the oldest first. Who asked may
/// go away meanwhile: what was begun is done.
pub(crate) async fn release(State(surface): State<Surface>, Query(pairs): Pairs) -> Result<Json<Released>, Problem> {
    let mut params = Params::new(pairs);
    let name = params.one("channel");
    params.finish()?;
    let directory = surface.gateway().directory();
    let channel = match &name {
        Some(name) => Some(directory.channel_named(name).ok_or_else(|| Problem::no_channel(name))?.id),
        None => None,
    };
    let release = tokio::spawn(async move {
        let held = surface.read(move |queue| held_restored(queue, channel)).await?;
        release_all(&surface, &held).await
    });
    let lost = |_| Problem::new(500, "internal_error", "the answer of the release was lost; the log says why");
    Ok(Json(release.await.map_err(lost)??))
}

async fn release_all(surface: &Surface, held: &[HeldRestored]) -> Result<Released, Problem> {
    let mut released = Released::default();
    for piece in held.chunks(AT_ONCE) {
        let mut channels = BTreeSet::new();
        let piece = release_piece(surface, piece, &mut released, &mut channels).await;
        // Whatever became of the others: nobody finds the released ones again to try their channels.
        for channel in channels {
            surface.gateway().released(channel, true).await;
        }
        piece.map_err(|error| {
            let mut problem = Problem::from(error);
            problem.detail =
                format!("{}; {} messages were released before that: ask again for the others", problem.detail, released.messages);
            problem
        })?;
    }
    Ok(released)
}

/// Releases some, and says which channels they are on; the first problem, when all were tried.
async fn release_piece(
    surface: &Surface,
    piece: &[HeldRestored],
    released: &mut Released,
    channels: &mut BTreeSet<ChannelId>,
) -> Result<(), StoreError> {
    let at = surface.gateway().now();
    let order = |one: &HeldRestored| {
        let (message, recipients, by) = (one.message, one.recipients.clone(), LOCAL_ADMIN.to_owned());
        let order = Steer { message, recipients, to: Move::Release, channel: None, by, at };
        (one.channel, surface.gateway().queue().steer(order))
    };
    let mut result = Ok(());
    for (channel, order) in piece.iter().map(order).collect::<Vec<_>>() {
        match order.await {
            Ok(moved) if !moved.is_empty() => {
                released.messages += 1;
                released.recipients += moved.len() as u64;
                channels.insert(channel);
            }
            // Somebody else has cancelled or released it meanwhile.
            Ok(_) | Err(StoreError::Unknown(_)) => {}
            Err(error) => result = result.and(Err(error)),
        }
    }
    result
}
