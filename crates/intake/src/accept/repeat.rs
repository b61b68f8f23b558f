//! Trying again what was given up: a new message with the bytes of an earlier one.

use super::{Draft, Intake, Principal, Receipt, concluded};
use crate::arrival::apart;
use crate::log::Source;
use crate::refusal::AcceptRefusal;
use aws_lc_rs::digest;
use mail::resolve::{Request, resolve};
use mail::rewrite::{Stamp, prepare};
use mail::{Envelope, Lane, MessageId, Surface};
use std::sync::Arc;
use store::{Body, Claim, Idempotency, NewMessage, Queue, StoreError};

/// Recipients of an earlier message, to be tried again.
#[derive(Clone, Debug)]
pub struct Repeat {
    /// Who wishes it: their rights are asked for, as at an acceptance.
    pub principal: Principal,
    /// By which door.
    pub surface: Surface,
    /// The earlier message.
    pub of: MessageId,
    /// Its channel: by this one or not at all.
    pub channel: String,
    /// Its lane.
    pub lane: Lane,
    /// Why it was in that lane, as it was stored.
    pub lane_reason: String,
    /// Its tags.
    pub tags: Vec<(String, String)>,
    /// From and for whom. What the body holds is looked at here and need not be declared.
    pub envelope: Envelope,
    /// Its bytes, as they are handed over.
    pub body: Body,
}

impl Intake {
    /// Makes a message durable that has the very bytes of an earlier one, all or nothing.
    ///
    /// A recipient of that message who was tried again before, not longer ago than idempotency keys are known, is
    /// not tried twice: then the receipt is that of the earlier repetition.
    ///
    /// # Errors
    /// Why its sender may not send it, or not by this channel, any more; or why it cannot be kept now. Nothing was
    /// stored.
    pub async fn repeat(&self, repeat: Repeat) -> Result<Receipt, AcceptRefusal> {
        let told = self.told(Source::from(&repeat));
        let result = match self.admit_again(repeat) {
            Ok(message) => self.keep_again(message).await,
            Err(refusal) => Err(refusal),
        };
        self.settled(told, result.as_ref());
        result
    }

    /// What was judged gets a file of its own, where the earlier message had one, and the key of a retry.
    async fn keep_again(&self, mut message: NewMessage) -> Result<Receipt, AcceptRefusal> {
        // Somebody who asks twice for the same retry gets one.
        let key = message.retry_of.map(|of| format!("retry of {of}"));
        if let Some(claim) = Claim::of(&message) {
            self.may_be_kept(&claim, key.clone()).await?;
        }
        let fingerprint;
        (message.body, fingerprint) = self.copy(message.body).await?;
        message.idempotency = key.map(|key| Idempotency { key, fingerprint, parts: true });
        self.keep(message).await
    }

    /// The same bytes in a file of their own, and their sum. Those in memory are not copied.
    async fn copy(&self, body: Body) -> Result<(Body, [u8; 32]), AcceptRefusal> {
        match body {
            Body::Inline(bytes) => {
                let mut sum = digest::Context::new(&digest::SHA256);
                sum.update(&bytes);
                Ok((Body::Inline(bytes), concluded(sum)))
            }
            Body::Spooled { .. } => {
                let queue = Arc::clone(&self.queue);
                apart(move || copied(&*queue, &body)).await
            }
        }
    }

    fn admit_again(&self, repeat: Repeat) -> Result<NewMessage, AcceptRefusal> {
        let Repeat { principal, surface, of, channel, lane, lane_reason, tags, mut envelope, body } = repeat;
        let at = self.clock.now();
        let id = self.clock.message_id(at);
        // It is only read: the lines in front were added when it was accepted first.
        let stamp = Stamp {
            at,
            id,
            hostname: &self.settings.hostname,
            helo: "",
            peer: None,
            protocol: "local",
            recipient: None,
            control_fields: true,
        };
        let mut read = prepare(body.head(), &stamp)?;
        read.eight_bit = body.is_eight_bit();
        let request = Request {
            person: principal.person,
            token: principal.token,
            authors: &read.authors,
            reverse_path: &envelope.reverse_path,
            channel: Some(&channel),
        };
        let route = resolve(&self.people.directory(), &request)?;
        envelope.smtputf8 = read.utf8_header;
        let message = self.compose(Draft { id, at, principal, surface, route, lane, envelope, body }, read)?;
        Ok(NewMessage { lane_reason, retry_of: Some(of), tags, ..message })
    }
}

/// The bytes in a new file, and their sum.
fn copied(queue: &dyn Queue, body: &Body) -> Result<(Body, [u8; 32]), AcceptRefusal> {
    let unreadable = |error: StoreError| {
        tracing::warn!(%error, "an earlier message is not tried again");
        AcceptRefusal::Closed
    };
    let mut sum = digest::Context::new(&digest::SHA256);
    let mut spool = queue.spool()?;
    for (number, piece) in body.pieces().enumerate() {
        let piece = piece.map_err(unreadable)?;
        sum.update(&piece);
        // The header section stays in memory.
        if number > 0 {
            spool.write(&piece)?;
        }
    }
    Ok((Body::Spooled { head: body.head().clone(), rest: spool.finish()? }, concluded(sum)))
}
