//! SMTP to a next hop that we are given.
//!
//! Opening a session: look-up, connection, TLS, greeting, EHLO, login; whatever fails there is about
//! the channel. A transaction: MAIL, RCPT and DATA in one write where PIPELINING is offered; the body,
//! in the same write as the final dot if the caller's intent is durable by then; the final reply.

mod deadlines;
mod line;
mod opening;
mod outcome;
mod session;
mod stream;

#[cfg(test)]
pub(crate) use session::SmarthostSession;

pub use deadlines::Deadlines;

use crate::resolve::Resolver;
use crate::tls::Tls;
use crate::{Endpoint, OpenError, Session, Transport};
use futures_util::future::BoxFuture;

/// Opens sessions with smarthosts.
#[derive(Clone)]
pub struct SmarthostTransport {
    ehlo_name: String,
    resolver: Resolver,
    tls: Tls,
    deadlines: Deadlines,
}

impl SmarthostTransport {
    /// A transport that introduces itself as `ehlo_name`: a domain or an address literal.
    #[must_use]
    pub fn new(ehlo_name: impl Into<String>, resolver: Resolver, tls: Tls, deadlines: Deadlines) -> Self {
        Self { ehlo_name: ehlo_name.into(), resolver, tls, deadlines }
    }
}

impl Transport for SmarthostTransport {
    fn open<'a>(&'a self, endpoint: &'a Endpoint) -> BoxFuture<'a, Result<Box<dyn Session>, OpenError>> {
        Box::pin(async move {
            let session = self.open_watched(endpoint, self.deadlines, &mut |_, _| {}).await?;
            Ok(Box::new(session) as Box<dyn Session>)
        })
    }
}
