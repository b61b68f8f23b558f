//! Connections: who may connect, how many, for how long.

use axum::Router;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Time for a request's header section.
const HEADER_TIME: Duration = Duration::from_secs(5);
/// Pause after a failed accept, as when file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the connections of all listeners share.
#[derive(Clone)]
pub struct Connections {
    places: Arc<Semaphore>,
    open: Arc<AtomicU64>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Connections {
    /// At most `most` connections at once, until `stop` is cancelled.
    #[must_use]
    pub fn new(most: usize, stop: CancellationToken) -> Self {
        Self { places: Arc::new(Semaphore::new(most)), open: Arc::default(), tasks: TaskTracker::new(), stop }
    }

    /// Connections open at this moment.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// Waits until every connection has ended; call it after the stop.
    pub async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.places).acquire_owned();
        tokio::select! {
            permit = permit => permit.ok(),
            () = self.stop.cancelled() => None,
        }
    }

    fn spawn<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(&self, stream: S, router: Router, place: OwnedSemaphorePermit) {
        let stop = self.stop.clone();
        let open = Arc::clone(&self.open);
        self.tasks.spawn(async move {
            open.fetch_add(1, Ordering::Relaxed);
            converse(stream, router, stop).await;
            open.fetch_sub(1, Ordering::Relaxed);
            drop(place);
        });
    }
}

/// Serves TCP until the stop.
pub async fn tcp(listener: TcpListener, router: Router, connections: Connections) {
    while let Some(place) = connections.place().await {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = connections.stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                // Without it answers wait for the peer's acknowledgement; a failure costs only time.
                let _ = stream.set_nodelay(true);
                connections.spawn(stream, router.clone(), place);
            }
            Err(problem) => {
                tracing::warn!(%problem, "no connection could be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves a Unix socket until the stop, for our own user and root alone.
pub async fn unix(listener: UnixListener, router: Router, connections: Connections) {
    while let Some(place) = connections.place().await {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = connections.stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) if is_admin(&stream) => connections.spawn(stream, router.clone(), place),
            Ok(_) => tracing::warn!("a connection of another user to the local socket was closed"),
            Err(problem) => {
                tracing::warn!(%problem, "no connection could be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// True for a peer of our own user, or root.
fn is_admin(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, router: Router, stop: CancellationToken) {
    let service = TowerToHyperService::new(tower::util::MapRequest::new(router, |request: hyper::Request<Incoming>| {
        request.map(axum::body::Body::new)
    }));
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIME).max_buf_size(64 * 1024);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = stop.cancelled() => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(problem) = ended {
        tracing::debug!(%problem, "an HTTP connection ended early");
    }
}
