//! Two sets of routes over the same handlers: one for the local socket, one for the network.

use crate::api;
use crate::gateway::{Gateway, Principal};
use crate::problem::Problem;
use crate::show::Glance;
use crate::turns::Turns;
use crate::viewer::Viewer;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{delete, get, post};
use mail::{MessageId, Timestamp};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The HTTP side of one gateway.
#[derive(Clone)]
pub struct Surface(Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) gateway: Arc<dyn Gateway>,
    requests: AtomicU64,
    epoch: u64,
    /// What people moved in the last hour, and when each first did.
    moves: Mutex<HashMap<MessageId, Moves>>,
    searches: Turns,
}

/// How often people moved a message, since when.
struct Moves {
    since: Timestamp,
    count: u32,
}

/// A message is held, released or cancelled by its people so often in an hour.
const MOST_MOVES: u32 = 100;
const HOUR: Duration = Duration::from_secs(3600);

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Over the local socket: our own user, or root. May do everything.
    Local,
    /// Somebody with a token.
    Token(Principal),
}

impl Surface {
    /// The HTTP side of `gateway`.
    #[must_use]
    pub fn new(gateway: Arc<dyn Gateway>) -> Self {
        let epoch = gateway.now().0.unsigned_abs();
        Self(Arc::new(Shared { gateway, requests: AtomicU64::new(0), epoch, moves: Mutex::default(), searches: Turns::default() }))
    }

    /// Everything, for the socket in the data folder. Who connects has been checked: see [`crate::serve::unix`].
    pub fn local(&self) -> Router {
        let v1 = Router::new()
            .route("/messages", get(api::lists::list))
            .route("/messages/counts", get(api::lists::counts))
            .route("/messages/raw", post(api::submit::raw))
            .route("/messages/{id}", get(api::messages::show))
            .route("/messages/{id}/events", get(api::messages::events))
            .route("/messages/{id}/raw", get(api::messages::raw))
            .route("/messages/{id}/cancel", post(api::steer::cancel))
            .route("/messages/{id}/hold", post(api::steer::hold))
            .route("/messages/{id}/release", post(api::steer::release))
            .route("/messages/{id}/retry", post(api::retry::retry))
            .route("/captured", get(api::lists::captured))
            .route("/queue", get(api::instance::queue))
            .route("/estimates", post(api::estimates::estimate))
            .route("/suppressions", get(api::suppressions::list))
            .route("/suppressions/{address}", delete(api::suppressions::remove))
            .route("/status", get(api::instance::status))
            .route("/apply", post(api::instance::apply))
            .route("/backup", get(api::backup::show).post(api::backup::begin))
            .route("/forget", post(api::forget::forget))
            .route("/restored/release", post(api::backup::release))
            .route("/channels", get(api::channels::list))
            .route("/channels/{name}", get(api::channels::show))
            .route("/channels/{name}/test", post(api::channels::test))
            .route("/channels/{name}/pause", post(api::channels::pause))
            .route("/channels/{name}/resume", post(api::channels::resume));
        let router = Router::new().nest("/api/v1", v1).route("/metrics", get(api::instance::metrics)).merge(health());
        self.finish(router.layer(axum::middleware::from_fn(as_local)))
    }

    /// What may be asked over the network with a token: submitting, looking after one's own messages, and the
    /// channels and suppressions that concern them.
    pub fn public(&self) -> Router {
        let v1 = Router::new()
            .route("/messages", get(api::lists::list))
            .route("/messages/counts", get(api::lists::counts))
            .route("/messages/raw", post(api::submit::raw))
            .route("/messages/{id}", get(api::messages::show))
            .route("/messages/{id}/events", get(api::messages::events))
            .route("/messages/{id}/raw", get(api::messages::raw))
            .route("/messages/{id}/cancel", post(api::steer::cancel))
            .route("/messages/{id}/hold", post(api::steer::hold))
            .route("/messages/{id}/release", post(api::steer::release))
            .route("/messages/{id}/retry", post(api::retry::retry))
            .route("/channels", get(api::channels::list))
            .route("/channels/{name}", get(api::channels::show))
            .route("/estimates", post(api::estimates::estimate))
            .route("/suppressions", get(api::suppressions::list))
            .route("/suppressions/{address}", delete(api::suppressions::remove))
            .layer(from_fn_with_state(self.clone(), by_token));
        self.finish(Router::new().nest("/api/v1", v1).merge(health()))
    }

    fn finish(&self, router: Router<Surface>) -> Router {
        router
            .fallback(async || Problem::new(404, "not_found", "there is nothing at this path"))
            .method_not_allowed_fallback(async || Problem::new(405, "method_not_allowed", "this path knows other methods"))
            .layer(axum::extract::DefaultBodyLimit::disable())
            .layer(from_fn_with_state(self.clone(), with_request_id))
            .with_state(self.clone())
    }

    pub(crate) fn gateway(&self) -> &Arc<dyn Gateway> {
        &self.0.gateway
    }

    /// Counts that people move a message: each move is written down for good.
    ///
    /// # Errors
    /// They did so too often within the hour; the problem says when it may go on.
    pub(crate) fn count_move(&self, message: MessageId) -> Result<(), Problem> {
        let now = self.gateway().steady();
        let mut moves = self.0.moves.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |one: &Moves| now.since(one.since) >= HOUR;
        if moves.len() == moves.capacity() {
            // Before it grows: whoever is over is not remembered.
            moves.retain(|_, one| !is_over(one));
        }
        let one = moves.entry(message).or_insert(Moves { since: now, count: 0 });
        if is_over(one) {
            *one = Moves { since: now, count: 0 };
        }
        if one.count >= MOST_MOVES {
            let left = HOUR.saturating_sub(now.since(one.since)).as_secs() + 1;
            let detail = format!("this message was moved {MOST_MOVES} times within an hour; it may be moved again in {left} s");
            return Err(Problem::new(429, "too_many_moves", detail).retry_after(u32::try_from(left).unwrap_or(u32::MAX)));
        }
        one.count += 1;
        Ok(())
    }

    /// Runs a reading call of the queue on a thread that may block.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        call: impl FnOnce(&dyn store::Queue) -> Result<T, store::StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        let queue = self.gateway().queue();
        match tokio::task::spawn_blocking(move || call(&*queue)).await {
            Ok(answer) => answer.map_err(Problem::from),
            Err(_) => Err(Problem::new(500, "internal_error", "the store's answer was lost; the log says why")),
        }
    }

    /// Looks at the gateway with the eyes of `caller`, on a thread that may block.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        caller: &Caller,
        look: impl FnOnce(&Glance<'_>) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let (gateway, viewer) = (Arc::clone(self.gateway()), Viewer::of(caller));
        match tokio::task::spawn_blocking(move || look(&Glance::new(&*gateway, viewer))).await {
            Ok(answer) => answer,
            Err(_) => Err(Problem::new(500, "internal_error", "the store's answer was lost; the log says why")),
        }
    }

    /// The same for what may take long: it waits for its turn before it takes a thread, so that a client that goes away
    /// leaves nothing behind but the search that runs.
    pub(crate) async fn search<T: Send + 'static>(
        &self,
        caller: &Caller,
        look: impl FnOnce(&Glance<'_>) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let turn = self.0.searches.next(Viewer::of(caller)).await?;
        let search = move |glance: &Glance<'_>| {
            let found = look(glance);
            drop(turn);
            found
        };
        self.look(caller, search).await
    }

    fn next_request_id(&self) -> String {
        format!("req_{:x}_{}", self.0.epoch, self.0.requests.fetch_add(1, Ordering::Relaxed))
    }
}

fn health() -> Router<Surface> {
    Router::new().route("/healthz", get(api::instance::healthz)).route("/readyz", get(api::instance::readyz))
}

async fn as_local(mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(Caller::Local);
    next.run(request).await
}

async fn by_token(State(surface): State<Surface>, mut request: Request, next: Next) -> Result<Response, Problem> {
    let header = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let token = token.map(|(_, token)| token.trim().to_owned()).ok_or_else(Problem::unauthenticated)?;
    let principal = surface.gateway().sign_in(&token).await.ok_or_else(|| {
        tracing::info!("an API token was refused");
        Problem::new(401, "unauthenticated", "this token is unknown, switched off, or not for the API")
    })?;
    request.extensions_mut().insert(Caller::Token(principal));
    Ok(next.run(request).await)
}

/// Gives each request its id, and writes problems out.
async fn with_request_id(State(surface): State<Surface>, request: Request, next: Next) -> Response {
    let id = surface.next_request_id();
    let path = request.uri().path().to_owned();
    let mut response = next.run(request).await;
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        tracing::debug!(request.id = id, http.path = path, code = problem.code, detail = problem.detail, "request refused");
        response = problem.render(&path, &id);
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(HeaderName::from_static("x-request-id"), value);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
