//! What is reported to a submitter about an attempt, as a message of the gateway's own (RFC 3464).
//!
//! A decision: values in, the message out. It is accepted in the same write as the outcome it reports, so
//! that neither is ever without the other.

use crate::settings::Notices;
use aws_lc_rs::digest;
use mail::dsn::{self, Action, RecipientReport, Report};
use mail::envelope::{Notify, Ret};
use mail::header::Authors;
use mail::pace::{Lessons, Terms};
use mail::resolve::{Refusal, permitted_report};
use mail::retry::RetrySchedule;
use mail::{BodyType, Channel, Directory, Envelope, Lane, LaneReason, MessageId, Move, Recipient, Surface, Timestamp};
use smtp::{EnhancedCode, ForwardPath, Mailbox, ReversePath};
use std::time::Duration;
use store::{Body, Lease, NewMessage, Settled, Settlement};

/// A recipient that has waited this long for its retries is reported as delayed, once.
const DELAYED_AFTER: Duration = Duration::from_secs(4 * 3600);

/// The lane of reports.
const REPORTS: Lane = Lane::Normal;

/// An attempt that has ended, and what is known around it.
pub(super) struct Ended<'a> {
    /// Our name.
    pub hostname: &'a str,
    /// How reports leave.
    pub notices: Option<&'a Notices>,
    /// Who is who.
    pub directory: &'a Directory,
    /// When it is tried again.
    pub schedule: &'a RetrySchedule,
    /// The channel of the attempt.
    pub row: &'a Channel,
    /// What was tried.
    pub lease: &'a Lease,
    /// Its bytes.
    pub body: &'a Body,
    /// What becomes of each recipient.
    pub settlement: &'a Settlement,
    /// Now, by the clock on which mail becomes due.
    pub due: Timestamp,
    /// The next hop reports successes by itself.
    pub offers_dsn: bool,
}

/// Why nobody is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// Nothing happened that is wanted to be known.
    NothingToTell,
    /// The reverse-path is null: a report makes no report.
    Nobody,
    /// `[notices]` is not set.
    Unset,
    /// There is no such channel.
    NoChannel(String),
    /// The notices' channel is the one that this mail failed on.
    SameChannel,
    /// The notices' channel does not take it.
    Forbidden(Refusal),
    /// It fits no window of the notices' channel, or is over its size: its bytes, and what that takes.
    TooLarge(u64, u64),
}

impl Silence {
    /// What an operator should know of it; `None` where silence is as it should be.
    pub(super) fn reason(&self) -> Option<String> {
        match self {
            Self::NothingToTell | Self::Nobody | Self::Unset => None,
            Self::NoChannel(name) => Some(format!("[notices] names channel '{name}', and there is none; add it, or name another")),
            Self::SameChannel => Some("[notices] names the channel that this mail failed on; give reports another".into()),
            Self::Forbidden(refusal) => Some(format!("the channel of [notices] does not take it: {refusal}")),
            Self::TooLarge(bytes, most) => Some(format!(
                "the channel of [notices] takes messages of at most {most} bytes, and the report has {bytes}; raise its limits"
            )),
        }
    }
}

/// The report of an attempt, to be accepted with its outcome.
///
/// # Errors
/// Nobody is told, and why.
pub(super) fn report(ended: &Ended<'_>) -> Result<NewMessage, Silence> {
    let told = told(ended);
    if told.is_empty() {
        return Err(Silence::NothingToTell);
    }
    let to = ended.lease.envelope.reverse_path.mailbox().ok_or(Silence::Nobody)?;
    let notices = ended.notices.ok_or(Silence::Unset)?;
    let channel = ended.directory.channel_named(&notices.channel).ok_or_else(|| Silence::NoChannel(notices.channel.clone()))?;
    let success = |action: &Action| matches!(action, Action::Delivered | Action::Relayed | Action::Expanded);
    // Of the channel, an address that is not written to says nothing.
    let tells_of_channel = |(settled, action): &(&Settled, Action)| !success(action) && settled.to != Move::Suppress;
    if channel.id == ended.row.id && told.iter().any(tells_of_channel) {
        return Err(Silence::SameChannel);
    }
    permitted_report(ended.directory, ended.lease.person, channel, &only(&notices.from)).map_err(Silence::Forbidden)?;
    let most = Terms::new(channel, &Lessons::default()).most_bytes(REPORTS);
    let report = message(ended, &told, notices, (channel, most), to);
    let bytes = report.body.len();
    if bytes > most { Err(Silence::TooLarge(bytes, most)) } else { Ok(report) }
}

fn only(from: &Mailbox) -> Authors {
    Authors { from: vec![from.clone()], sender: None, resent: Vec::new() }
}

/// Whose fate is reported, and as what.
fn told<'a>(ended: &Ended<'a>) -> Vec<(&'a Settled, Action)> {
    let each = ended.settlement.recipients.iter().filter_map(|settled| {
        let action = action(ended, settled)?;
        let recipient = ended.lease.envelope.recipients.get(settled.index as usize)?;
        dsn::wanted(recipient, action).then_some((settled, action))
    });
    each.collect()
}

fn action(ended: &Ended<'_>, settled: &Settled) -> Option<Action> {
    match settled.to {
        Move::Fail | Move::Expire | Move::Suppress => Some(Action::Failed),
        Move::Send => (!ended.offers_dsn).then_some(Action::Relayed),
        Move::Capture => Some(Action::Delivered),
        Move::Defer => is_late(ended, settled).then_some(Action::Delayed),
        Move::Lease | Move::Hold | Move::GiveBack | Move::Doubt | Move::Release | Move::Cancel | Move::Reroute => None,
    }
}

/// True for the first attempt after four hours of its own waits: told by its number, so that it is told once.
fn is_late(ended: &Ended<'_>, settled: &Settled) -> bool {
    let attempts = attempts(ended, settled);
    let waited = |attempts| ended.schedule.waited(attempts);
    attempts > 0 && waited(attempts) >= DELAYED_AFTER && waited(attempts - 1) < DELAYED_AFTER
}

/// Own attempts before this one.
fn attempts(ended: &Ended<'_>, settled: &Settled) -> u32 {
    let leased = ended.lease.recipients.iter().find(|leased| leased.index == settled.index);
    leased.map_or(0, |leased| leased.attempts)
}

fn status(settled: &Settled, action: Action) -> EnhancedCode {
    let said = |classes: &[u8]| settled.said.enhanced.filter(|code| classes.contains(&code.class));
    match action {
        // The last words are beside it; the end is that its time was over (RFC 3463 §3.5).
        Action::Failed if settled.to == Move::Expire => EnhancedCode::new(4, 4, 7),
        Action::Failed => said(&[5, 4]).unwrap_or(EnhancedCode::new(5, 0, 0)),
        Action::Delayed => said(&[4]).unwrap_or(EnhancedCode::new(4, 0, 0)),
        Action::Delivered | Action::Relayed | Action::Expanded => said(&[2]).unwrap_or(EnhancedCode::new(2, 0, 0)),
    }
}

fn message(
    ended: &Ended<'_>,
    told: &[(&Settled, Action)],
    notices: &Notices,
    (channel, most_bytes): (&Channel, u64),
    to: &Mailbox,
) -> NewMessage {
    let (lease, at) = (ended.lease, ended.settlement.at);
    let id = id(ended, told);
    let message_id = format!("{id}@{}", ended.hostname);
    let recipients: Vec<RecipientReport<'_>> = told.iter().filter_map(|told| recipient_report(ended, *told)).collect();
    let written = Report {
        hostname: ended.hostname,
        from: &notices.from,
        to,
        at,
        message_id: &message_id,
        arrival: lease.accepted_at,
        envid: lease.envelope.envid.as_deref(),
        // A large message is not returned, but for its header.
        ret: if ended.body.is_whole() { lease.envelope.ret } else { Some(Ret::Headers) },
        queue_id: &lease.message.to_string(),
        message: ended.body.head(),
        recipients: &recipients,
        most_bytes,
    }
    .write();
    // A report about a report is asked for by nobody (RFC 3461 §6.1).
    let recipient = Recipient { notify: Some(Notify::default()), ..Recipient::new(ForwardPath::from(to.clone())) };
    NewMessage {
        id,
        at,
        due: ended.due,
        person: lease.person,
        team: lease.team,
        token: None,
        surface: Surface::Gateway,
        channel: channel.id,
        lane: REPORTS,
        lane_reason: LaneReason::Default.as_text(),
        retry_of: None,
        envelope: Envelope {
            reverse_path: ReversePath::Null,
            recipients: vec![recipient],
            body: if written.eight_bit { BodyType::EightBitMime } else { BodyType::SevenBit },
            smtputf8: written.utf8_header,
            ret: None,
            envid: None,
        },
        suppressed: Vec::new(),
        author: notices.from.key(),
        from: written.from_line,
        subject: written.subject,
        message_id,
        tags: Vec::new(),
        idempotency: None,
        scheduled_at: None,
        expires_at: None,
        body: written.bytes.into(),
    }
}

fn recipient_report<'a>(ended: &Ended<'a>, (settled, action): (&'a Settled, Action)) -> Option<RecipientReport<'a>> {
    let at = ended.settlement.at;
    let left = || at.plus(ended.schedule.left(attempts(ended, settled)));
    Some(RecipientReport {
        recipient: ended.lease.envelope.recipients.get(settled.index as usize)?,
        action,
        status: status(settled, action),
        remote_mta: remote_mta(&ended.settlement.relay).filter(|_| action != Action::Delivered),
        said: Some(&settled.said),
        last_attempt: Some(at),
        retry_until: (action == Action::Delayed).then(left),
        suppressed: settled.suppress.is_some() || settled.to == Move::Suppress,
    })
}

/// The name in `mx.example.com[192.0.2.1]:587`.
fn remote_mta(relay: &str) -> Option<&str> {
    relay.split('[').next().filter(|name| !name.is_empty())
}

/// The report's id follows from what it reports: the same attempt makes the same report.
fn id(ended: &Ended<'_>, told: &[(&Settled, Action)]) -> MessageId {
    let at: Timestamp = ended.settlement.at;
    let mut sum = digest::Context::new(&digest::SHA256);
    sum.update(&ended.lease.message.0);
    sum.update(&at.0.to_be_bytes());
    for (settled, _) in told {
        sum.update(&settled.index.to_be_bytes());
    }
    let mut random = [0; 10];
    random.copy_from_slice(&sum.finish().as_ref()[..10]);
    MessageId::new(at, random)
}

#[cfg(test)]
pub(super) mod tests;
