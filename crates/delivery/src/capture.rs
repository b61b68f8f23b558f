//! The way out that keeps mail here: nothing leaves, and every message is shown.

use crate::{Endpoint, OpenError, Outgoing, Session, Transport};
use futures_util::future::BoxFuture;
use mail::Outcome;

/// Opens sessions that go nowhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct CaptureTransport;

struct Capture;

impl Transport for CaptureTransport {
    fn open<'a>(&'a self, _endpoint: &'a Endpoint) -> BoxFuture<'a, Result<Box<dyn Session>, OpenError>> {
        Box::pin(async { Ok(Box::new(Capture) as Box<dyn Session>) })
    }
}

impl Session for Capture {
    fn deliver<'a>(&'a mut self, outgoing: &'a Outgoing, go: BoxFuture<'a, bool>) -> BoxFuture<'a, Vec<(u32, Outcome)>> {
        Box::pin(async move {
            let outcome = if go.await { Outcome::Captured } else { Outcome::Untried };
            outgoing.all(&outcome)
        })
    }

    fn given_up(&mut self, _: &Outgoing) -> Vec<(u32, Outcome)> {
        Vec::new()
    }

    fn is_reusable(&self) -> bool {
        true
    }

    fn relay(&self) -> &str {
        "capture"
    }

    /// What is kept here has arrived.
    fn offers_dsn(&self) -> bool {
        true
    }

    fn gone<'a>(&'a mut self) -> BoxFuture<'a, ()> {
        Box::pin(std::future::pending())
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}
