//! The one way to accept a message.
//!
//! SMTP, HTTP and the command line all end here, so that the same person with the same message gets
//! the same answer and the same channel everywhere. The steps: measure it, read and stamp it, choose
//! the channel, make it durable, answer.

mod begin;
mod repeat;

pub use begin::NextHops;
pub use repeat::Repeat;

use crate::arrival::{Arrival, Submitted};
use crate::clock::Clock;
use crate::counters::IntakeCounters;
use crate::log::{Source, Told};
use crate::people::People;
use crate::refusal::AcceptRefusal;
use aws_lc_rs::digest;
use mail::header::{WishError, Wishes};
use mail::resolve::{Refusal, Request, Route, resolve};
use mail::rewrite::{Prepared, Stamp, prepare};
use mail::when::{Times, When, WhenError};
use mail::{BodyType, ChannelId, Envelope, Lane, MessageId, PersonId, Surface, Timestamp, TokenId, lane};
use std::iter;
use std::net::IpAddr;
use std::sync::Arc;
use store::{Body, Idempotency, NewMessage, Party, Queue};

/// Who submits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Whose rights are used.
    pub person: PersonId,
    /// What they signed in with; `None` behind a trusted listener and on the local socket.
    pub token: Option<TokenId>,
}

/// How a message came, for its Received line.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// The name given in EHLO or HELO; empty when there was none.
    pub helo: String,
    /// The registered name for `with` (RFC 3848): `ESMTPSA`, `HTTP`, ...
    pub protocol: &'static str,
    /// The address of the client. It is shown only for somebody who did not sign in.
    pub peer: Option<IpAddr>,
}

/// What a submitter asked for beside the message, as HTTP and the command line let them.
///
/// A wish that also stands in the message's header must be the same one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExplicitWishes {
    /// By this channel or not at all.
    pub channel: Option<String>,
    /// This urgent.
    pub lane: Option<Lane>,
    /// Further tags.
    pub tags: Vec<(String, String)>,
    /// The key under which a repeated submission is the same one.
    pub idempotency_key: Option<String>,
    /// Not before this time of the wall clock.
    pub scheduled_at: Option<Timestamp>,
    /// Not after this time of the wall clock.
    pub expires_at: Option<Timestamp>,
}

/// A message at the door.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// Who.
    pub principal: Principal,
    /// By which door.
    pub surface: Surface,
    /// How it came.
    pub trace: Trace,
    /// For whom. What the body holds is looked at here and need not be declared.
    pub envelope: Envelope,
    /// The message as it was given, CRLF line ends.
    pub submitted: Submitted,
    /// What was asked beside it.
    pub wishes: ExplicitWishes,
}

/// An accepted message: durable, and ours to deliver or report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The id it is known by; that of the first submission, when replayed.
    pub id: MessageId,
    /// The way it will take, as resolved now.
    pub channel: ChannelId,
    /// How urgent.
    pub lane: Lane,
    /// It was accepted before under its key, and nothing was stored now.
    pub replayed: bool,
    /// Length as kept, in bytes.
    pub size_bytes: u64,
}

/// What holds for every door.
#[derive(Clone, Debug)]
pub struct IntakeSettings {
    /// Our name, in Received and Message-ID.
    pub hostname: String,
    /// Largest message as submitted, in bytes.
    pub max_message_size: u64,
    /// Most recipients of one message.
    pub max_recipients: usize,
    /// Addresses in the log: whole, or hashed.
    pub hash_addresses: bool,
}

/// A message on its way to the store, whose channel is known.
struct Draft {
    id: MessageId,
    at: Timestamp,
    principal: Principal,
    surface: Surface,
    route: Route,
    lane: Lane,
    envelope: Envelope,
    body: Body,
}

/// What is told of recipients to whom nothing is sent, since their address must not be written to.
pub trait Suppressed: Send + Sync {
    /// The report to the submitter, to be accepted in the same write as the message; `None` when nobody is told.
    fn report(&self, message: &NewMessage) -> Option<NewMessage>;

    /// The message is durable: each of these recipients is told in the log.
    fn log(&self, message: &NewMessage);
}

/// The way in.
pub struct Intake {
    queue: Arc<dyn Queue>,
    people: Arc<dyn People>,
    settings: IntakeSettings,
    clock: Arc<dyn Clock>,
    counters: Arc<IntakeCounters>,
    suppressed: Option<Arc<dyn Suppressed>>,
    next_hops: Option<Arc<dyn NextHops>>,
    told: begin::Told,
}

impl Intake {
    /// A way into this queue, for these people.
    #[must_use]
    pub fn new(queue: Arc<dyn Queue>, people: Arc<dyn People>, settings: IntakeSettings, clock: Arc<dyn Clock>) -> Self {
        Self {
            queue,
            people,
            settings,
            clock,
            counters: Arc::default(),
            suppressed: None,
            next_hops: None,
            told: Default::default(),
        }
    }

    /// Somebody tells of recipients to whom nothing is sent.
    #[must_use]
    pub fn telling(self, suppressed: Arc<dyn Suppressed>) -> Self {
        Self { suppressed: Some(suppressed), ..self }
    }

    /// Somebody knows what next hops said of themselves.
    #[must_use]
    pub fn knowing(self, next_hops: Arc<dyn NextHops>) -> Self {
        Self { next_hops: Some(next_hops), ..self }
    }

    /// What holds for every door.
    #[must_use]
    pub fn settings(&self) -> &IntakeSettings {
        &self.settings
    }

    /// The directory that decides who may send what.
    #[must_use]
    pub fn people(&self) -> &Arc<dyn People> {
        &self.people
    }

    /// What was counted so far.
    #[must_use]
    pub fn counters(&self) -> &Arc<IntakeCounters> {
        &self.counters
    }

    /// Begins to take in a message that is larger than what is kept whole.
    #[must_use]
    pub fn arrive(&self, surface: Surface, of: Option<(&Envelope, Times)>) -> Arrival {
        Arrival::new(Arc::clone(&self.queue), surface, of, self.settings.max_message_size)
    }

    /// Makes a message durable and queues it, all or nothing.
    ///
    /// After `Ok` the message survives a crash and is ours to deliver or report (RFC 5321 §6.1), so
    /// that a door may say 250 or 202. Once begun it runs to its end by itself only if it is polled:
    /// a caller that drops it does not learn what became of the message.
    ///
    /// # Errors
    /// What is wrong with the message or its sender, or why it cannot be kept now. Nothing was stored.
    pub async fn accept(&self, incoming: Incoming) -> Result<Receipt, AcceptRefusal> {
        let told = self.told(Source::from(&incoming));
        let result = self.store(incoming).await;
        self.settled(told, result.as_ref());
        result
    }

    /// A submission was refused before all of it had come: it is counted and logged as one that had.
    pub fn refused(&self, source: Source<'_>, refusal: &AcceptRefusal) {
        self.settled(self.told(source), Err(refusal));
    }

    fn told(&self, source: Source<'_>) -> Option<Told> {
        Told::of(source, &self.people.directory(), self.settings.hash_addresses)
    }

    /// Counts and logs what became of a submission.
    fn settled(&self, told: Option<Told>, result: Result<&Receipt, &AcceptRefusal>) {
        match result {
            Ok(receipt) => self.counters.accepted(receipt.replayed),
            Err(refusal) => {
                self.counters.refused(refusal.is_permanent());
                if matches!(refusal, AcceptRefusal::OverCap(_)) {
                    self.counters.over_cap();
                }
            }
        }
        match (told, result) {
            (Some(told), Ok(receipt)) => told.accepted(receipt, &self.people.directory()),
            (Some(told), Err(refusal)) => told.refused(refusal),
            (None, _) => {}
        }
    }

    async fn store(&self, incoming: Incoming) -> Result<Receipt, AcceptRefusal> {
        self.keep(self.admit(incoming)?).await
    }

    async fn keep(&self, message: NewMessage) -> Result<Receipt, AcceptRefusal> {
        let receipt = Receipt {
            id: message.id,
            channel: message.channel,
            lane: message.lane,
            replayed: false,
            size_bytes: message.body.len(),
        };
        let teller = self.suppressed.as_ref().filter(|_| !message.suppressed.is_empty());
        let listed = teller.map(|_| message.clone());
        let report = teller.and_then(|teller| teller.report(&message));
        let principal = Principal { person: message.person, token: message.token };
        let accepted = self.queue.accept(iter::once(message).chain(report).collect()).await;
        let accepted = accepted.map_err(|error| self.not_accepted(error, principal))?;
        let first = accepted.first().ok_or(AcceptRefusal::Closed)?;
        if let (Some(teller), Some(message), false) = (teller, listed, first.replayed) {
            teller.log(&message);
        }
        Ok(Receipt { id: first.id, replayed: first.replayed, ..receipt })
    }

    /// Everything up to the store: nothing has happened yet when it refuses.
    fn admit(&self, incoming: Incoming) -> Result<NewMessage, AcceptRefusal> {
        let Incoming { principal, surface, trace, mut envelope, submitted, wishes } = incoming;
        self.measure(surface, &envelope, &submitted)?;
        let at = self.clock.now();
        let id = self.clock.message_id(at);
        let recipient = match &envelope.recipients[..] {
            [only] => Some(only.path.to_string()),
            _ => None,
        };
        let peer = trace.peer.filter(|_| principal.token.is_none()).map(literal);
        let stamp = Stamp {
            at,
            id,
            hostname: &self.settings.hostname,
            helo: shown_helo(&trace.helo, principal),
            peer: peer.as_deref(),
            protocol: trace.protocol,
            recipient: recipient.as_deref(),
            control_fields: false,
        };
        let mut prepared = prepare(submitted.head(), &stamp)?;
        // A span in the header is among the bytes, and names another moment each time.
        let beside = Times { scheduled_at: wishes.scheduled_at, expires_at: wishes.expires_at };
        let wishes = agree(std::mem::take(&mut prepared.wishes), wishes, at).map_err(Refusal::Wish)?;
        let times = Times::new(wishes.scheduled_at, wishes.expires_at, at).map_err(|problem| Refusal::Wish(problem.into()))?;
        let route = resolve(
            &self.people.directory(),
            &Request {
                person: principal.person,
                token: principal.token,
                authors: &prepared.authors,
                reverse_path: &envelope.reverse_path,
                channel: wishes.channel.as_deref(),
            },
        )?;
        let (lane, lane_reason) =
            lane::decide(wishes.lane, self.token_lane(principal), envelope.recipients.len(), prepared.bulk_sign.take());
        let idempotency = wishes.idempotency_key.map(|key| identify(key, surface, &envelope, &submitted, beside));
        envelope.smtputf8 |= prepared.utf8_header;
        let head = std::mem::take(&mut prepared.bytes).into();
        let body = match submitted {
            Submitted::Whole(_) => Body::Inline(head),
            Submitted::Large(large) => {
                prepared.eight_bit |= large.rest.is_eight_bit();
                Body::Spooled { head, rest: large.rest }
            }
        };
        let draft = Draft { id, at, principal, surface, route, lane, envelope, body };
        let message = self.compose(draft, prepared)?;
        Ok(NewMessage {
            lane_reason: lane_reason.as_text(),
            tags: wishes.tags,
            idempotency,
            scheduled_at: times.scheduled_at,
            expires_at: times.expires_at,
            ..message
        })
    }

    /// A message as the store takes it, without what only its submitter or its first acceptance knows.
    ///
    /// Every message comes by here: what its channel can never take is refused, and who must not be written to is found.
    fn compose(&self, draft: Draft, read: Prepared) -> Result<NewMessage, AcceptRefusal> {
        let Draft { id, at, principal, surface, route, lane, mut envelope, body } = draft;
        if let Some(channel) = self.people.directory().channel(route.channel) {
            self.fits_channel(channel, lane, body.len())?;
        }
        let suppressed = self.suppressed(Party::of(route.team, principal.person), &envelope);
        if read.eight_bit {
            envelope.body = BodyType::EightBitMime;
        }
        envelope.smtputf8 |= has_utf8_address(&envelope);
        Ok(NewMessage {
            id,
            at,
            due: self.clock.steady(),
            person: principal.person,
            team: route.team,
            token: principal.token,
            surface,
            channel: route.channel,
            lane,
            lane_reason: String::new(),
            retry_of: None,
            envelope,
            suppressed,
            author: read.authors.first().key(),
            from: read.from_line,
            subject: read.subject,
            message_id: read.message_id,
            tags: Vec::new(),
            idempotency: None,
            scheduled_at: None,
            expires_at: None,
            body,
        })
    }

    fn token_lane(&self, principal: Principal) -> Option<Lane> {
        self.people.directory().token(principal.token?)?.lane
    }

    /// Places in the envelope that must not be written to: they are accepted, shown, and go no further.
    fn suppressed(&self, party: Party, envelope: &Envelope) -> Vec<u32> {
        let recipients = envelope.recipients.iter().enumerate();
        let listed = recipients.filter(|(_, recipient)| self.queue.is_suppressed(party, &recipient.path.mailbox().key()));
        listed.map(|(place, _)| place as u32).collect()
    }

    fn measure(&self, surface: Surface, envelope: &Envelope, submitted: &Submitted) -> Result<(), Refusal> {
        let (found, most) = (submitted.len(), self.settings.max_message_size);
        if found > most {
            return Err(Refusal::TooLarge { found, most });
        }
        if envelope.recipients.is_empty() {
            return Err(Refusal::NoRecipients);
        }
        let (found, most) = (envelope.recipients.len(), self.settings.max_recipients);
        if found > most {
            return Err(Refusal::TooManyRecipients { found, most });
        }
        match submitted {
            // An SMTP session has looked at every byte already, and so has an arrival.
            Submitted::Whole(bytes) if surface != Surface::Smtp && smtp::data::has_odd_bytes(bytes) => Err(Refusal::OddBytes),
            Submitted::Whole(_) | Submitted::Large(_) => Ok(()),
        }
    }
}

/// Mail clients greet with their own address, which is nobody's business once they signed in.
fn shown_helo(helo: &str, principal: Principal) -> &str {
    let is_address = helo.starts_with('[') || helo.parse::<IpAddr>().is_ok();
    if principal.token.is_some() && is_address { "" } else { helo }
}

/// An address as RFC 5321 §4.1.3 writes it.
fn literal(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => format!("[{address}]"),
        IpAddr::V6(address) => format!("[IPv6:{address}]"),
    }
}

/// Wishes in the header and beside the message, as one. Spans count from `at`.
fn agree(header: Wishes, explicit: ExplicitWishes, at: Timestamp) -> Result<ExplicitWishes, WishError> {
    let mut tags = header.tags;
    tags.extend(explicit.tags);
    if tags.len() > mail::header::MAX_TAGS {
        return Err(WishError::Value("X-Sendero-Tag", "write at most ten, each name=value"));
    }
    Ok(ExplicitWishes {
        channel: same("X-Sendero-Channel", header.channel, explicit.channel)?,
        lane: same("X-Sendero-Lane", header.lane, explicit.lane)?,
        tags,
        idempotency_key: same("Idempotency-Key", header.idempotency_key, explicit.idempotency_key)?,
        scheduled_at: same_time("X-Sendero-Schedule", header.schedule, explicit.scheduled_at, at)?,
        expires_at: same_time("X-Sendero-Expires", header.expires, explicit.expires_at, at)?,
    })
}

fn same<T: PartialEq>(field: &'static str, header: Option<T>, explicit: Option<T>) -> Result<Option<T>, WishError> {
    match (header, explicit) {
        (Some(header), Some(explicit)) if header != explicit => {
            Err(WishError::Value(field, "something else is asked for beside the message; ask once"))
        }
        (header, explicit) => Ok(header.or(explicit)),
    }
}

fn same_time(
    field: &'static str,
    header: Option<When>,
    explicit: Option<Timestamp>,
    at: Timestamp,
) -> Result<Option<Timestamp>, WishError> {
    let header = header.map(|when| when.from(at));
    same(field, header, explicit).map_err(|_| WhenError::Twice(field).into())
}

/// What must be equal for a submission to be the same one.
///
/// A client of SMTP may send a message's further recipients in a further transaction, so that there
/// only the message itself counts; an HTTP request is repeated whole.
fn identify(key: String, surface: Surface, envelope: &Envelope, submitted: &Submitted, beside: Times) -> Idempotency {
    let fingerprint = match submitted {
        Submitted::Large(large) => large.fingerprint,
        Submitted::Whole(bytes) => {
            let mut sum = fingerprint(surface, Some((envelope, beside)));
            sum.update(bytes);
            concluded(sum)
        }
    };
    Idempotency { key, fingerprint, parts: is_in_parts(surface) }
}

/// A fingerprint as it begins; the message as submitted follows.
pub(crate) fn fingerprint(surface: Surface, of: Option<(&Envelope, Times)>) -> digest::Context {
    let mut sum = digest::Context::new(&digest::SHA256);
    if let Some((envelope, beside)) = of.filter(|_| !is_in_parts(surface)) {
        let mut recipients: Vec<String> = envelope.recipients.iter().map(|recipient| recipient.path.to_string()).collect();
        recipients.sort_unstable();
        sum.update(format!("<{}>\n{}\n\n", envelope.reverse_path, recipients.join("\n")).as_bytes());
        for (name, at) in [("schedule", beside.scheduled_at), ("expires", beside.expires_at)] {
            sum.update(at.map(|at| format!("{name} {at}\n")).unwrap_or_default().as_bytes());
        }
    }
    sum
}

/// The sum of all that was added to it.
pub(crate) fn concluded(sum: digest::Context) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(sum.finish().as_ref());
    bytes
}

fn is_in_parts(surface: Surface) -> bool {
    matches!(surface, Surface::Smtp | Surface::Cli)
}

fn has_utf8_address(envelope: &Envelope) -> bool {
    let reverse = envelope.reverse_path.mailbox().into_iter();
    let all = reverse.chain(envelope.recipients.iter().map(|recipient| recipient.path.mailbox()));
    !all.into_iter().all(smtp::Mailbox::is_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_header_and_request_are_counted_together() {
        let tags = |count: usize| vec![("job".to_owned(), "42".to_owned()); count];
        let asked = |header, beside| {
            let wishes = Wishes { tags: tags(header), ..Wishes::default() };
            agree(wishes, ExplicitWishes { tags: tags(beside), ..ExplicitWishes::default() }, Timestamp(0))
        };
        assert!(asked(4, 6).is_ok());
        assert!(asked(5, 6).is_err());
    }
}
