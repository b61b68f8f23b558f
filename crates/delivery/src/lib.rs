//! Ways out: how a message leaves, and which hosts may be reached on the way.
//!
//! A [`Transport`] opens a [`Session`] with a channel's next hop; a session hands over one message
//! after the other and says what became of each recipient. When to open, what to send and what an
//! outcome leads to is decided elsewhere, as is everything that outlives a connection.
//!
//! A hand-over over SMTP:
//!
//! 1. [`resolve`] finds the next hop's addresses, and [`guard`] refuses those that nobody allowed.
//! 2. [`connect`] races the addresses; [`tls`] protects the connection and checks the certificate.
//! 3. [`smarthost`] greets and signs in, then sends MAIL, RCPT and DATA in one group, the body while
//!    the caller makes its intent durable, and the final dot when it is.

pub mod capture;
pub mod connect;
mod error;
pub mod guard;
pub mod host;
pub mod probe;
pub mod resolve;
#[cfg(any(test, feature = "scripted"))]
#[doc(hidden)]
pub mod scripted;
pub mod smarthost;
#[cfg(test)]
mod tests;
pub mod tls;

pub use capture::CaptureTransport;
pub use error::OpenError;
pub use smarthost::{Deadlines, SmarthostTransport};

use futures_util::future::BoxFuture;
use mail::channel::{Channel, Smarthost, Transport as Kind};
use mail::{ChannelId, Outcome};
use smtp::ReversePath;
use zeroize::Zeroizing;

/// One channel's way out, with its credential.
#[derive(Clone)]
pub struct Endpoint {
    /// The channel.
    pub channel: ChannelId,
    /// Its name, for messages to people.
    pub name: String,
    /// The revision of the channel's row that this was made from.
    pub revision: u64,
    /// Where mail goes.
    pub transport: Kind,
    /// The password, where the channel signs in.
    pub secret: Option<Zeroizing<Vec<u8>>>,
}

impl Endpoint {
    /// The endpoint of a channel as its row stands now.
    #[must_use]
    pub fn new<S: AsRef<[u8]>>(channel: &Channel, secret: Option<S>) -> Self {
        Self {
            channel: channel.id,
            name: channel.name.clone(),
            revision: channel.revision,
            transport: channel.transport.clone(),
            secret: secret.map(|secret| Zeroizing::new(secret.as_ref().to_vec())),
        }
    }

    /// The next hop, unless the channel keeps its mail here.
    #[must_use]
    pub fn smarthost(&self) -> Option<&Smarthost> {
        match &self.transport {
            Kind::Smtp(smarthost) => Some(smarthost),
            Kind::Capture => None,
        }
    }
}

/// Without the secret.
impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint")
            .field("channel", &self.channel)
            .field("name", &self.name)
            .field("revision", &self.revision)
            .field("transport", &self.transport)
            .finish_non_exhaustive()
    }
}

/// A message to be handed over to the recipients of its lease.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Which message, to whom.
    pub lease: store::Lease,
    /// Its bytes.
    pub body: store::Body,
    /// What MAIL says.
    pub reverse_path: ReversePath,
}

impl Outgoing {
    /// The same outcome for every leased recipient.
    pub(crate) fn all(&self, outcome: &Outcome) -> Vec<(u32, Outcome)> {
        self.lease.recipients.iter().map(|recipient| (recipient.index, outcome.clone())).collect()
    }
}

/// A way to reach next hops.
pub trait Transport: Send + Sync {
    /// Opens a session: connected, protected, greeted, signed in. Safe to drop at any moment.
    ///
    /// # Errors
    /// Whatever went wrong; it is about the channel, never about a message.
    fn open<'a>(&'a self, endpoint: &'a Endpoint) -> BoxFuture<'a, Result<Box<dyn Session>, OpenError>>;
}

/// A connection to a next hop.
pub trait Session: Send {
    /// Hands one message over; the answer has one outcome for each leased recipient, in their order.
    ///
    /// `go` is awaited before the final dot. False gives the message up: the next hop does not get
    /// it, and the recipients are [`Outcome::Untried`]. Dropping the future gives up the session.
    fn deliver<'a>(&'a mut self, outgoing: &'a Outgoing, go: BoxFuture<'a, bool>) -> BoxFuture<'a, Vec<(u32, Outcome)>>;

    /// What the next hop has said for certain about recipients of a transaction whose future was dropped: those it
    /// refused, or took. Whoever is not among them has no reply. To be asked right after the drop.
    fn given_up(&mut self, outgoing: &Outgoing) -> Vec<(u32, Outcome)>;

    /// True while another message may be handed over here; false after any trouble.
    fn is_reusable(&self) -> bool;

    /// Whom it speaks to: `mx.example.com[192.0.2.1]:587`.
    fn relay(&self) -> &str;

    /// True when the next hop takes wishes about delivery reports on and reports itself (RFC 3461), or is final.
    fn offers_dsn(&self) -> bool;

    /// The largest message in bytes that the next hop announced it takes (RFC 1870); `None` when it set no limit.
    fn max_size(&self) -> Option<u64> {
        None
    }

    /// For an idle session: resolves when the next hop closed it or said something, so that it is of
    /// no more use; else never. Safe to drop at any moment.
    fn gone<'a>(&'a mut self) -> BoxFuture<'a, ()>;

    /// Says goodbye, with little patience.
    fn close(self: Box<Self>) -> BoxFuture<'static, ()>;
}
