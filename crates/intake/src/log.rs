//! What the log says at the door: a line for each submission that was taken or refused, and for each refused login.

use crate::accept::{Incoming, Intake, Principal, Receipt, Repeat};
use crate::refusal::AcceptRefusal;
use aws_lc_rs::digest;
use mail::{Directory, Envelope, Surface};
use std::borrow::Cow;
use std::net::IpAddr;

/// The target of these lines, by which `[log] level` turns them off or on.
pub const TARGET: &str = "submission";

/// Of a name that was tried, so much is shown: a path is no longer (RFC 5321 §4.5.3.1.3).
const LONGEST_NAME: usize = 256;

/// An address as the log shows it: whole, or as the beginning of its SHA-256.
#[must_use]
pub fn address(hash: bool, plain: String) -> Cow<'static, str> {
    if !hash {
        return Cow::Owned(plain);
    }
    let hash = digest::digest(&digest::SHA256, plain.to_lowercase().as_bytes());
    Cow::Owned(hash.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Whose a submission is, and where it comes from.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Who.
    pub principal: Principal,
    /// By which door.
    pub surface: Surface,
    /// From where, if it came over a network.
    pub peer: Option<IpAddr>,
    /// From and for whom, where that is known already.
    pub envelope: Option<&'a Envelope>,
}

impl<'a> From<&'a Incoming> for Source<'a> {
    fn from(incoming: &'a Incoming) -> Self {
        let Incoming { principal, surface, trace, envelope, .. } = incoming;
        Self { principal: *principal, surface: *surface, peer: trace.peer, envelope: Some(envelope) }
    }
}

impl<'a> From<&'a Repeat> for Source<'a> {
    fn from(repeat: &'a Repeat) -> Self {
        let Repeat { principal, surface, envelope, .. } = repeat;
        Self { principal: *principal, surface: *surface, peer: None, envelope: Some(envelope) }
    }
}

/// What is told of a submission, taken before it goes on its way.
pub(crate) struct Told {
    surface: Surface,
    peer: Option<IpAddr>,
    person: String,
    token: String,
    from: Option<Cow<'static, str>>,
    recipients: Option<usize>,
    hash: bool,
}

impl Told {
    pub(crate) fn of(source: Source<'_>, directory: &Directory, hash: bool) -> Option<Self> {
        if !tracing::enabled!(target: TARGET, tracing::Level::INFO) {
            return None;
        }
        let Source { principal, surface, peer, envelope } = source;
        let person = directory.person(principal.person).map(|person| person.email.to_string());
        let token = principal.token.and_then(|id| directory.token(id));
        Some(Self {
            surface,
            peer,
            person: address(hash, person.unwrap_or_else(|| principal.person.to_string())).into_owned(),
            token: token.map(|token| token.name.clone()).unwrap_or_default(),
            from: envelope.map(|envelope| address(hash, envelope.reverse_path.to_string())),
            recipients: envelope.map(|envelope| envelope.recipients.len()),
            hash,
        })
    }

    pub(crate) fn accepted(&self, receipt: &Receipt, directory: &Directory) {
        tracing::event!(
            target: TARGET,
            tracing::Level::INFO,
            queue.id = %receipt.id,
            surface = ?self.surface,
            peer.address = self.peer.map(tracing::field::display),
            person = %self.person,
            token.name = %self.token,
            from = self.from.as_deref().map(tracing::field::display),
            recipients = self.recipients,
            size = receipt.size_bytes,
            channel.name = directory.channel(receipt.channel).map_or("", |channel| &channel.name),
            replayed = receipt.replayed,
            "submission accepted"
        );
    }

    pub(crate) fn refused(&self, refusal: &AcceptRefusal) {
        // Its words may name addresses.
        let reason = if self.hash { String::new() } else { refusal.to_string() };
        tracing::event!(
            target: TARGET,
            tracing::Level::INFO,
            surface = ?self.surface,
            peer.address = self.peer.map(tracing::field::display),
            person = %self.person,
            token.name = %self.token,
            from = self.from.as_deref().map(tracing::field::display),
            recipients = self.recipients,
            code = refusal.code(),
            reason = %reason,
            "submission refused"
        );
    }
}

/// Somebody was not let in under this name.
pub(crate) fn login_refused(intake: &Intake, user: &str, peer: Option<IpAddr>, reason: &str) {
    let user = address(intake.settings().hash_addresses, user.chars().take(LONGEST_NAME).collect());
    let peer = peer.map(tracing::field::display);
    tracing::event!(target: TARGET, tracing::Level::INFO, peer.address = peer, user = %user, reason, "login refused");
}
