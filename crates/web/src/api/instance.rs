//! The gateway as a whole: queue, status, directory, health, metrics.

use super::steer::LOCAL_ADMIN;
use super::{Pairs, body};
use crate::gateway::{ApplyRequest, notices_trouble};
use crate::params::Params;
use crate::problem::Problem;
use crate::show::Glance;
use crate::surface::{Caller, Surface};
use crate::view::{Applied, QueueLine, Status};
use crate::viewer::Viewer;
use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use mail::RecipientState;
use std::sync::Arc;

/// Largest directory in a request.
const MAX_DIRECTORY: u64 = 64 * 1024 * 1024;

pub(crate) async fn queue(State(surface): State<Surface>, Query(pairs): Pairs) -> Result<Json<Vec<QueueLine>>, Problem> {
    Params::new(pairs).finish()?;
    let lines = surface.look(&Caller::Local, |glance| {
        let lines = glance.queue().queue(glance.steady(), &glance.kept_back_people())?;
        Ok(lines.iter().map(|line| glance.queue_line(line)).collect::<Vec<QueueLine>>())
    });
    let mut lines = lines.await?;
    lines.sort_by(|one, other| one.channel.cmp(&other.channel));
    Ok(Json(lines))
}

pub(crate) async fn status(State(surface): State<Surface>, Query(pairs): Pairs) -> Result<Json<Status>, Problem> {
    Params::new(pairs).finish()?;
    let gateway = surface.gateway();
    let about = gateway.about();
    let queue = gateway.queue();
    let totals = queue.totals();
    Ok(Json(Status {
        version: about.version.to_owned(),
        hostname: about.hostname,
        data_dir: about.data_dir,
        started_at: about.started_at,
        now: gateway.now(),
        refusing: queue.accepting().err().map(|reason| reason.to_string()),
        listeners: about.listeners,
        notices_trouble: about.notices_channel.and_then(|name| notices_trouble(&gateway.directory(), &name)),
        notices: about.notices,
        accepted: totals.accepted,
        recipients: RecipientState::ALL
            .into_iter()
            .zip(totals.by_state)
            .map(|(state, count)| (state.name().to_owned(), count))
            .collect(),
        open_messages: totals.open_messages,
        open_bytes: totals.open_bytes,
        channels_in_trouble: Glance::new(&**gateway, Viewer::Operator).troubles(),
    }))
}

pub(crate) async fn apply(
    State(surface): State<Surface>,
    Query(pairs): Pairs,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Applied>, Problem> {
    let mut params = Params::new(pairs);
    let (dry_run, prune) = (params.flag("dry_run"), params.flag("prune"));
    params.finish()?;
    body::expect(&headers, "application/json")?;
    let bytes = body::read(&headers, body, MAX_DIRECTORY).await?;
    let directory = body::json(&bytes)?;
    let request = ApplyRequest { directory, dry_run, prune, by: LOCAL_ADMIN.to_owned() };
    Ok(Json(surface.gateway().apply(request).await?))
}

pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

pub(crate) async fn readyz(State(surface): State<Surface>) -> Result<&'static str, Problem> {
    match surface.gateway().queue().accepting() {
        Ok(()) => Ok("ready\n"),
        Err(reason) => Err(Problem::from(&reason)),
    }
}

pub(crate) async fn metrics(State(surface): State<Surface>) -> Response {
    let gateway = Arc::clone(surface.gateway());
    let Ok(text) = tokio::task::spawn_blocking(move || gateway.metrics()).await else {
        return Problem::new(500, "internal_error", "the metrics were lost; the log says why").into_response();
    };
    let mut response = text.into_response();
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
