//! Looking at channels, trying them, stopping and resuming them.

use super::Pairs;
use super::steer::LOCAL_ADMIN;
use crate::params::Params;
use crate::problem::Problem;
use crate::show::Glance;
use crate::surface::{Caller, Surface};
use crate::view::{Channel, ChannelDetail, TestReport};
use crate::viewer::Viewer;
use axum::extract::{Path, Query, State};
use axum::{Extension, Json};
use mail::ChannelId;
use mail::channel::ChannelMove;
use smtp::ReversePath;

/// Events of a channel's history that are shown.
const HISTORY: usize = 20;

pub(crate) async fn list(
    State(surface): State<Surface>,
    Extension(caller): Extension<Caller>,
    Query(pairs): Pairs,
) -> Result<Json<Vec<Channel>>, Problem> {
    Params::new(pairs).finish()?;
    Ok(Json(Glance::new(&**surface.gateway(), Viewer::of(&caller)).channels()))
}

pub(crate) async fn show(
    State(surface): State<Surface>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Query(pairs): Pairs,
) -> Result<Json<ChannelDetail>, Problem> {
    Params::new(pairs).finish()?;
    let detail = surface.look(&caller, move |glance| {
        let channel = glance.known_channel(&name).ok_or_else(|| Problem::no_channel(&name))?;
        let history = glance.queue().events_of_channel(channel.id, HISTORY)?;
        Ok(glance.channel_detail(channel, history))
    });
    Ok(Json(detail.await?))
}

pub(crate) async fn test(
    State(surface): State<Surface>,
    Path(name): Path<String>,
    Query(pairs): Pairs,
) -> Result<Json<TestReport>, Problem> {
    let mut params = Params::new(pairs);
    let from =
        params.read("from", |text| ReversePath::parse(&super::submit::bracketed(text)).map_err(|error| format!("from: {error}")));
    params.finish()?;
    let id = known(&surface, &name)?;
    Ok(Json(surface.gateway().test_channel(id, from).await))
}

pub(crate) async fn pause(surface: State<Surface>, path: Path<String>, query: Pairs) -> Result<Json<Channel>, Problem> {
    steer(surface.0, path.0, query, ChannelMove::Pause { by: LOCAL_ADMIN.to_owned() }).await
}

pub(crate) async fn resume(surface: State<Surface>, path: Path<String>, query: Pairs) -> Result<Json<Channel>, Problem> {
    steer(surface.0, path.0, query, ChannelMove::Resume).await
}

async fn steer(surface: Surface, name: String, query: Pairs, wish: ChannelMove) -> Result<Json<Channel>, Problem> {
    Params::new(query.0).finish()?;
    let id = known(&surface, &name)?;
    let directory = surface.gateway().directory();
    if directory.channel(id).is_some_and(|channel| channel.disabled) {
        let detail = format!("channel '{name}' is disabled in the directory; enable it there and apply the file");
        return Err(Problem::new(409, "channel_disabled", detail));
    }
    surface.gateway().steer_channel(id, wish).await;
    view(&surface, &name)
}

fn known(surface: &Surface, name: &str) -> Result<ChannelId, Problem> {
    surface.gateway().directory().channel_named(name).map(|channel| channel.id).ok_or_else(|| Problem::no_channel(name))
}

fn view(surface: &Surface, name: &str) -> Result<Json<Channel>, Problem> {
    let directory = surface.gateway().directory();
    let channel = directory.channel_named(name).ok_or_else(|| Problem::no_channel(name))?;
    Ok(Json(Glance::new(&**surface.gateway(), Viewer::Operator).channel(channel)))
}
