//! One connection of one channel: lease, hand over, settle, again.

use super::Shared;
use super::report::log_attempt;
use super::reports::{Ended, report};
use super::way::Way;
use bytes::Bytes;
use delivery::{Endpoint, Outgoing, Session};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use mail::channel::{AuthMode, ChannelMove, Transport as Kind};
use mail::resolve::permitted_report;
use mail::retry::{Standing, judge};
use mail::{Cause, Channel, Diagnostic, Directory, Move, Outcome, Surface};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use store::{AttemptRecord, Commit, Intent, Lease, NewMessage, Settled, Settlement, StoreError};

/// How long a worker waits before it offers a record again that the disk had no room for.
const NO_SPACE_PAUSE: Duration = Duration::from_secs(1);

/// What a worker has in hand.
#[derive(Default)]
struct Desk {
    session: Option<Open>,
    /// Outcomes that are not durable yet.
    pending: Vec<Unsaved>,
}

/// An outcome that is not durable yet, with what is reported of it.
#[derive(Clone)]
struct Unsaved {
    settlement: Settlement,
    reports: Vec<NewMessage>,
}

impl Unsaved {
    /// The record that makes it durable, and announces the next transaction.
    fn record(unsaved: Option<Self>, intend: Option<Intent>) -> AttemptRecord {
        let (settle, reports) = unsaved.map_or((None, Vec::new()), |one| (Some(one.settlement), one.reports));
        AttemptRecord { settle, intend, reports }
    }
}

struct Open {
    session: Box<dyn Session>,
    revision: u64,
    handed_over: u32,
}

enum Step {
    Again,
    Leave,
    /// Already left: the way no longer counts this worker.
    Left,
}

/// Works until nothing is due and the connection has been idle for long enough.
pub(super) async fn run(shared: &Arc<Shared>, way: &Arc<Way>) {
    let mut desk = Desk::default();
    loop {
        let step = step(shared, way, &mut desk).await;
        match step {
            Step::Again => {}
            Step::Leave => {
                close(way, &mut desk).await;
                way.leave_now();
                return;
            }
            Step::Left => return,
        }
    }
}

async fn step(shared: &Arc<Shared>, way: &Arc<Way>, desk: &mut Desk) -> Step {
    let seen = way.generation();
    let now = (shared.parts.now)();
    if shared.stopping.is_cancelled() || way.health().open_at(now).is_err() {
        flush(shared, desk).await;
        return Step::Leave;
    }
    let Some(lease) = shared.parts.queue.lease(way.channel, now, 1).pop() else {
        flush(shared, desk).await;
        return rest(shared, way, desk, seen).await;
    };
    grow(shared, way);
    let directory = shared.parts.directory.directory();
    let Some(row) = directory.channel(way.channel).filter(|row| !row.disabled) else {
        return give_back(shared, &lease);
    };
    let body = match shared.parts.queue.body(lease.message) {
        Ok(body) => body,
        Err(problem) => {
            hold(shared, desk, &lease, &format!("its bytes cannot be read: {problem}"));
            return Step::Again;
        }
    };
    if let Err(reason) = still_permitted(shared, &directory, row, &lease, &body) {
        hold(shared, desk, &lease, &reason);
        return Step::Again;
    }
    if !ensure_session(shared, way, row, desk).await {
        flush(shared, desk).await;
        return give_back(shared, &lease);
    }
    hand_over(shared, way, row, desk, lease, body).await;
    Step::Again
}

fn give_back(shared: &Shared, lease: &Lease) -> Step {
    let indices: Vec<u32> = lease.recipients.iter().map(|recipient| recipient.index).collect();
    shared.parts.queue.give_back(lease.message, &indices);
    Step::Leave
}

/// Starts another worker when there is more to do than this one has in hand.
fn grow(shared: &Arc<Shared>, way: &Arc<Way>) {
    if !way.may_grow(shared.cap(way.channel)) {
        return;
    }
    if let Some(due) = shared.parts.queue.next_due(way.channel) {
        shared.kick(way, due);
    }
}

/// Nothing is due: sleeps with the connection open, until woken, or leaves.
async fn rest(shared: &Arc<Shared>, way: &Arc<Way>, desk: &mut Desk, seen: u64) -> Step {
    if let Some(due) = shared.parts.queue.next_due(way.channel) {
        if due <= (shared.parts.now)() {
            return Step::Again;
        }
        shared.timers.add(due, way.channel);
    }
    if desk.session.is_none() {
        return if way.leave(seen, (shared.parts.now)()) { Step::Left } else { Step::Again };
    }
    let Some(mut woken) = way.sleep(seen) else {
        return Step::Again;
    };
    let open = desk.session.as_mut().expect("checked above");
    let work = tokio::select! {
        biased;
        _ = &mut woken => true,
        () = open.session.gone() => false,
        () = tokio::time::sleep(shared.parts.keep_idle) => false,
        () = shared.stopping.cancelled() => false,
    };
    if work {
        return Step::Again;
    }
    // Whoever took this place off the list of sleepers counts on it: the wake-up must not be lost.
    woken.close();
    let counted_on = woken.try_recv().is_ok();
    close(way, desk).await;
    if counted_on { Step::Again } else { leave_or_look_again(shared, way, seen) }
}

fn leave_or_look_again(shared: &Shared, way: &Way, seen: u64) -> Step {
    if way.leave(seen, (shared.parts.now)()) { Step::Left } else { Step::Again }
}

async fn close(way: &Way, desk: &mut Desk) {
    if let Some(open) = desk.session.take() {
        way.session_closed();
        open.session.close().await;
    }
}

/// Opens a session for the row's present revision, unless one is open.
async fn ensure_session(shared: &Arc<Shared>, way: &Arc<Way>, row: &Channel, desk: &mut Desk) -> bool {
    let fits = |open: &Open| {
        let spent = row.caps.messages_per_connection.is_some_and(|most| open.handed_over >= most);
        open.revision == row.revision && open.session.is_reusable() && !spent
    };
    if desk.session.as_ref().is_some_and(fits) {
        return true;
    }
    close(way, desk).await;
    let signs_in = matches!(&row.transport, Kind::Smtp(host) if host.auth != AuthMode::None);
    let door = if signs_in { Some(way.door.lock().await) } else { None };
    if way.health().open_at((shared.parts.now)()).is_err() {
        return false;
    }
    way.saw_revision(row.revision);
    let opened = open(shared, row).await;
    let open = match opened {
        Ok(session) => Open { session, revision: row.revision, handed_over: 0 },
        Err(error) => {
            shared.counters.open_failures.fetch_add(1, Ordering::Relaxed);
            shared.open_failed(way, row.revision, &error).await;
            return false;
        }
    };
    shared.counters.opened.fetch_add(1, Ordering::Relaxed);
    way.session_opened();
    desk.session = Some(open);
    shared.move_channel(way, ChannelMove::Opened).await;
    drop(door);
    true
}

async fn open(shared: &Shared, row: &Channel) -> Result<Box<dyn Session>, delivery::OpenError> {
    let secret =
        shared.parts.directory.channel_secret(row.id).map_err(|problem| delivery::OpenError::Misconfigured(problem.to_string()))?;
    let endpoint = Endpoint::new(row, secret);
    let transport = match row.transport {
        Kind::Smtp(_) => &shared.parts.smarthosts,
        Kind::Capture => &shared.parts.capture,
    };
    tokio::select! {
        opened = transport.open(&endpoint) => opened,
        () = shared.abandon.cancelled() => Err(delivery::OpenError::Stopped),
    }
}

/// Permission is checked again where the directory has changed since acceptance.
fn still_permitted(shared: &Shared, directory: &Directory, row: &Channel, lease: &Lease, body: &Bytes) -> Result<(), String> {
    if lease.accepted_at.0 > shared.directory_changed.load(Ordering::Relaxed) {
        return Ok(());
    }
    let authors = mail::header::authors_of(body).map_err(|problem| problem.to_string())?;
    if lease.surface == Surface::Gateway {
        return permitted_report(directory, lease.person, row, &authors).map_err(|refusal| refusal.to_string());
    }
    mail::resolve::permitted(directory, lease.person, lease.token, row, &authors, &lease.envelope.reverse_path)
        .map_err(|refusal| refusal.to_string())
}

fn hold(shared: &Shared, desk: &mut Desk, lease: &Lease, reason: &str) {
    let now = (shared.parts.now)();
    let recipients = lease.recipients.iter().map(|recipient| Settled {
        index: recipient.index,
        to: Move::Hold,
        due: now,
        counts: false,
        said: Diagnostic::own(None, reason),
        cause: None,
    });
    let settlement = Settlement {
        message: lease.message,
        channel: lease.channel,
        at: now,
        relay: String::new(),
        recipients: recipients.collect(),
    };
    desk.pending.push(Unsaved { settlement, reports: Vec::new() });
    tracing::warn!(queue.id = %lease.message, reason, "held");
}

/// One transaction: the intent is recorded while MAIL, RCPT and the body flow; the final dot waits for it.
async fn hand_over(shared: &Arc<Shared>, way: &Arc<Way>, row: &Channel, desk: &mut Desk, lease: Lease, body: Bytes) {
    let began = (shared.parts.now)();
    let reverse_path = mail::resolve::return_path(row, &lease.envelope, &body);
    let intent = Intent {
        message: lease.message,
        channel: lease.channel,
        recipients: lease.recipients.iter().map(|recipient| recipient.index).collect(),
        at: began,
    };
    let carried = desk.pending.pop();
    let commit: Commit<Result<(), StoreError>> = shared.parts.queue.record(Unsaved::record(carried.clone(), Some(intent)));
    let commit = commit.shared();
    let passed = Arc::new(AtomicBool::new(false));
    let go: BoxFuture<'static, bool> = {
        let (commit, passed) = (commit.clone(), Arc::clone(&passed));
        Box::pin(async move {
            let durable = commit.await.is_ok();
            passed.store(durable, Ordering::Relaxed);
            durable
        })
    };
    shared.counters.attempts.fetch_add(1, Ordering::Relaxed);
    let open = desk.session.as_mut().expect("a session was ensured");
    let outgoing = Outgoing { lease, body, reverse_path };
    let outcomes = tokio::select! {
        outcomes = open.session.deliver(&outgoing, go) => outcomes,
        () = shared.abandon.cancelled() => abandoned(&outgoing.lease, passed.load(Ordering::Relaxed)),
    };
    open.handed_over += 1;
    let (relay, offers_dsn) = (open.session.relay().to_owned(), open.session.offers_dsn());
    if !open.session.is_reusable() || shared.abandon.is_cancelled() {
        close(way, desk).await;
    }
    let settlement = settle(shared, row, &outgoing.lease, relay, &outcomes);
    log_attempt(shared, row, &outgoing, &settlement, &outcomes, began);
    let reports = reports(shared, row, &outgoing, &settlement, offers_dsn);
    if let Err(problem) = commit.await {
        // Neither the intent nor what it carried is on the disk; the dot has not left.
        tracing::warn!(%problem, "attempt not recorded");
        desk.pending.extend(carried);
    }
    desk.pending.push(Unsaved { settlement, reports });
    if desk.pending.len() > 1 {
        flush(shared, desk).await;
    }
}

/// What the submitter is told of the attempt.
fn reports(shared: &Shared, row: &Channel, outgoing: &Outgoing, settlement: &Settlement, offers_dsn: bool) -> Vec<NewMessage> {
    let made = report(&Ended {
        hostname: &shared.parts.hostname,
        notices: shared.parts.notices.as_ref(),
        directory: &shared.parts.directory.directory(),
        schedule: &shared.parts.schedule,
        row,
        lease: &outgoing.lease,
        body: &outgoing.body,
        settlement,
        due: (shared.parts.now)(),
        offers_dsn,
    });
    match made {
        Ok(report) => vec![report],
        Err(silence) => {
            if let Some(reason) = silence.reason() {
                tracing::warn!(queue.id = %settlement.message, reason, "no report to the submitter");
            }
            Vec::new()
        }
    }
}

/// The stop's grace is over: what passed its final dot may have arrived.
fn abandoned(lease: &Lease, passed: bool) -> Vec<(u32, Outcome)> {
    let outcome = || if passed { Outcome::Uncertain(Cause::Interrupted) } else { Outcome::Untried };
    lease.recipients.iter().map(|recipient| (recipient.index, outcome())).collect()
}

fn settle(shared: &Shared, row: &Channel, lease: &Lease, relay: String, outcomes: &[(u32, Outcome)]) -> Settlement {
    let now = (shared.parts.now)();
    let settled = outcomes.iter().map(|(index, outcome)| {
        let standing = lease
            .recipients
            .iter()
            .find(|recipient| recipient.index == *index)
            .map_or_else(Standing::default, |recipient| Standing { attempts: recipient.attempts, doubts: recipient.doubts });
        let verdict = judge(outcome, standing, &shared.parts.schedule, row.on_uncertain, now, (shared.parts.jitter)());
        let (said, cause) = words(outcome);
        Settled { index: *index, to: verdict.to, due: verdict.due, counts: verdict.counts, said, cause }
    });
    Settlement { message: lease.message, channel: lease.channel, at: now, relay, recipients: settled.collect() }
}

fn words(outcome: &Outcome) -> (Diagnostic, Option<Cause>) {
    match outcome {
        Outcome::Sent(said) => (said.clone(), None),
        Outcome::Captured => (Diagnostic::own(None, "kept by the capture channel"), None),
        Outcome::Untried => (Diagnostic::own(None, "not tried"), None),
        Outcome::Deferred(cause) | Outcome::Failed(cause) | Outcome::Uncertain(cause) => match cause {
            Cause::Refused(_, said) | Cause::Unsupported(said) => (said.clone(), Some(cause.clone())),
            Cause::Broken(..) | Cause::LostAfterData(_) | Cause::Interrupted => {
                (Diagnostic::own(None, cause.to_string()), Some(cause.clone()))
            }
        },
    }
}

/// Makes outcomes durable that no next transaction takes along.
async fn flush(shared: &Arc<Shared>, desk: &mut Desk) {
    while let Some(unsaved) = desk.pending.pop() {
        let record = Unsaved::record(Some(unsaved.clone()), None);
        match shared.parts.queue.record(record).await {
            Ok(()) => {}
            Err(StoreError::NoSpace(reason)) if !shared.abandon.is_cancelled() => {
                tracing::warn!(reason, "outcome waits for room on the disk");
                desk.pending.push(unsaved);
                tokio::time::sleep(NO_SPACE_PAUSE).await;
            }
            Err(problem) => {
                // At the next start the open intent is found and treated as uncertain.
                tracing::error!(queue.id = %unsaved.settlement.message, %problem, "outcome not recorded");
                if !matches!(problem, StoreError::Illegal(_) | StoreError::Unknown(_)) {
                    desk.pending.clear();
                }
            }
        }
    }
}
