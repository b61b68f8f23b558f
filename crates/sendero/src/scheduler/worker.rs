//! One connection of one channel: lease, hand over, settle, again.

use super::Shared;
use super::books::{Books, close_books};
use super::next::{Next, give_back, next};
use super::pace::{Ended, Ticket};
use super::report::log_attempt;
use super::reports::report;
use super::senders;
use super::verdict::Judge;
use super::way::{AHEAD, Era, Way};
use delivery::{Endpoint, OpenError, Outgoing, Session};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared as Awaited};
use mail::channel::{AuthMode, ChannelMove, Transport as Kind};
use mail::resolve::{Refusal, permitted_report};
use mail::{Cause, Channel, Diagnostic, Directory, Move, Outcome, Surface, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use store::directory::DirectoryError;
use store::seal::Secret;
use store::{AttemptRecord, Body, Commit, Intent, Lease, NewMessage, Settled, Settlement, Spend, Spending, StoreError};

/// How long a worker waits before it offers a record again that the disk had no room for.
const NO_SPACE_PAUSE: Duration = Duration::from_secs(1);

/// A record on its way to the disk, for which several wait.
type Recorded = Awaited<Commit<Result<(), StoreError>>>;

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
    if shared.stopping.is_cancelled() || way.health().open_at(shared.steady()).is_err() {
        flush(shared, desk).await;
        return Step::Leave;
    }
    let directory = shared.parts.directory.directory();
    let Some(row) = directory.channel(way.channel).filter(|row| !row.disabled) else {
        flush(shared, desk).await;
        return Step::Leave;
    };
    if desk.session.is_none() && way.is_crowded(shared.steady()) {
        flush(shared, desk).await;
        if way.leave_to_others(shared.steady()) {
            return Step::Left;
        }
    }
    shared.relax(way, row);
    let looked = shared.steady();
    let next = next(shared, way, row);
    shared.store_kept(way).await;
    let (lease, ticket) = match next {
        Next::Message(lease, ticket) => (*lease, ticket),
        Next::TooLarge(lease, most) => {
            let reason = format!("it has {} bytes, and channel '{}' takes at most {most}", lease.size_bytes, row.name);
            hold(shared, desk, &lease, &reason).await;
            return Step::Again;
        }
        Next::Wait(until) => {
            flush(shared, desk).await;
            return wait(shared, way, row, desk, (seen, looked), until).await;
        }
        Next::Nothing => {
            flush(shared, desk).await;
            return rest(shared, way, desk, (seen, looked)).await;
        }
    };
    grow(shared, way);
    if let Some(what) = shared.is_over(&lease) {
        shared.end(way, &ticket, Ended::Refunded);
        end_or_put_off(shared, desk, &lease, what).await;
        return Step::Again;
    }
    let body = match shared.parts.queue.body(lease.message) {
        Ok(body) => body,
        Err(problem) => {
            shared.end(way, &ticket, Ended::Refunded);
            hold(shared, desk, &lease, &format!("its bytes cannot be read: {problem}")).await;
            return Step::Again;
        }
    };
    if let Err(reason) = may_leave(shared, way, &directory, row, &lease, &body) {
        shared.end(way, &ticket, Ended::Refunded);
        hold(shared, desk, &lease, &reason).await;
        return Step::Again;
    }
    // While the session was opened another one may have had the channel parked.
    let ready = ensure_session(shared, way, row, desk).await.and_then(|()| way.begin(shared.steady()).ok_or(Step::Leave));
    // A session may have taken its time to open.
    if let Some(what) = shared.is_over(&lease) {
        shared.end(way, &ticket, Ended::Refunded);
        end_or_put_off(shared, desk, &lease, what).await;
        return ready.err().unwrap_or(Step::Again);
    }
    let began = match ready {
        Ok(began) => began,
        Err(instead) => {
            flush(shared, desk).await;
            shared.end(way, &ticket, Ended::Refunded);
            give_back(shared, &lease);
            return instead;
        }
    };
    hand_over(shared, way, row, desk, (lease, ticket, body), began).await;
    Step::Again
}

/// Starts another worker when there is more to do than this one has in hand.
fn grow(shared: &Arc<Shared>, way: &Arc<Way>) {
    if !way.may_grow(shared.cap(way)) {
        return;
    }
    if let Some(due) = shared.parts.queue.next_due(way.channel) {
        shared.kick(way, None, due);
    }
}

/// Mail is due and may not leave before `until`: the connection is opened ahead of that moment, and kept while
/// it is near.
async fn wait(
    shared: &Arc<Shared>,
    way: &Arc<Way>,
    row: &Channel,
    desk: &mut Desk,
    (seen, looked): (u64, Timestamp),
    until: Option<Timestamp>,
) -> Step {
    look_later(shared, way, looked);
    let now = shared.steady();
    let Some(until) = until else {
        // Whoever ends the open transaction looks again.
        return idle(shared, way, desk, seen, None).await;
    };
    if until <= now {
        return Step::Again;
    }
    let left = until.since(now);
    if left > shared.parts.keep_idle {
        close(way, desk).await;
        shared.timers.add(Timestamp(until.0 - AHEAD.as_millis() as i64), way.channel);
        return leave_or_look_again(shared, way, seen);
    }
    if desk.session.is_none() {
        let is_last = way.sessions() == 0;
        shared.timers.add(if left > AHEAD { Timestamp(until.0 - AHEAD.as_millis() as i64) } else { until }, way.channel);
        if left > AHEAD || !is_last {
            return leave_or_look_again(shared, way, seen);
        }
        if let Err(instead) = ensure_session(shared, way, row, desk).await {
            return instead;
        }
    }
    idle(shared, way, desk, seen, Some(until)).await
}

/// Sees to it that mail which is not due yet finds a worker then.
fn look_later(shared: &Shared, way: &Way, looked: Timestamp) {
    if let Some(due) = shared.parts.queue.next_due_after(way.channel, looked) {
        shared.timers.add(due, way.channel);
    }
}

/// Nothing is due: sleeps with the connection open, until woken, or leaves.
async fn rest(shared: &Arc<Shared>, way: &Arc<Way>, desk: &mut Desk, (seen, looked): (u64, Timestamp)) -> Step {
    look_later(shared, way, looked);
    idle(shared, way, desk, seen, None).await
}

/// Sleeps with the connection open until woken, or until a moment; without a connection, leaves.
async fn idle(shared: &Arc<Shared>, way: &Arc<Way>, desk: &mut Desk, seen: u64, until: Option<Timestamp>) -> Step {
    if desk.session.is_none() {
        return leave_or_look_again(shared, way, seen);
    }
    let Some(mut woken) = way.sleep(seen) else {
        return Step::Again;
    };
    let pause = until.map_or(shared.parts.keep_idle, |until| until.since(shared.steady()).max(Duration::from_millis(1)));
    let open = desk.session.as_mut().expect("checked above");
    let work = tokio::select! {
        biased;
        _ = &mut woken => true,
        () = open.session.gone() => false,
        () = tokio::time::sleep(pause) => until.is_some(),
        () = shared.stopping.cancelled() => false,
    };
    if work {
        return Step::Again;
    }
    // Whoever took this place off the list of sleepers counts on it: the wake-up must not be lost.
    woken.close();
    let counted_on = woken.try_recv().is_ok();
    close(way, desk).await;
    if counted_on || until.is_some() { Step::Again } else { leave_or_look_again(shared, way, seen) }
}

fn leave_or_look_again(shared: &Shared, way: &Way, seen: u64) -> Step {
    if way.leave(seen, shared.steady()) { Step::Left } else { Step::Again }
}

async fn close(way: &Way, desk: &mut Desk) {
    if let Some(open) = put_down(way, desk) {
        open.session.close().await;
    }
}

/// The session is this worker's no more; it is still to be closed.
fn put_down(way: &Way, desk: &mut Desk) -> Option<Open> {
    desk.session.take().inspect(|_| way.session_closed())
}

/// Opens a session for this revision of the row, unless one is open; else what to do instead.
async fn ensure_session(shared: &Arc<Shared>, way: &Arc<Way>, row: &Channel, desk: &mut Desk) -> Result<(), Step> {
    let fits = |open: &Open| {
        let spent = row.caps.messages_per_connection.is_some_and(|most| open.handed_over >= most);
        open.revision == row.revision && open.session.is_reusable() && !spent
    };
    if desk.session.as_ref().is_some_and(fits) {
        return Ok(());
    }
    // Opening may take minutes: what the last session achieved is not left in memory for so long.
    flush(shared, desk).await;
    close(way, desk).await;
    let signs_in = matches!(&row.transport, Kind::Smtp(host) if host.auth != AuthMode::None);
    let door = if signs_in { Some(way.door.lock().await) } else { None };
    let Some(began) = way.begin(shared.steady()) else {
        return Err(Step::Leave);
    };
    // Read behind the door: whoever waited there may have the row of an hour ago in hand.
    let secret = shared.parts.directory.channel_secret(row.id, row.revision);
    if matches!(secret, Err(DirectoryError::Changed)) {
        return Err(Step::Again);
    }
    let open = match open(shared, row, secret).await {
        Ok(session) => {
            shared.parts.announced.note(row, session.max_size());
            Open { session, revision: row.revision, handed_over: 0 }
        }
        Err(error) => {
            shared.counters.open_failures.fetch_add(1, Ordering::Relaxed);
            shared.open_failed(way, row, &error, began).await;
            return Err(Step::Leave);
        }
    };
    shared.counters.opened.fetch_add(1, Ordering::Relaxed);
    way.session_opened();
    desk.session = Some(open);
    shared.move_since(way, ChannelMove::Opened, Some(began)).await;
    drop(door);
    Ok(())
}

async fn open(
    shared: &Shared,
    row: &Channel,
    secret: Result<Option<Secret>, DirectoryError>,
) -> Result<Box<dyn Session>, OpenError> {
    let endpoint = Endpoint::new(row, secret.map_err(|problem| OpenError::Misconfigured(problem.to_string()))?);
    let transport = match row.transport {
        Kind::Smtp(_) => &shared.parts.smarthosts,
        Kind::Capture => &shared.parts.capture,
    };
    tokio::select! {
        biased;
        opened = transport.open(&endpoint) => opened,
        () = shared.abandon.cancelled() => Err(OpenError::Stopped),
    }
}

/// Whether it may leave at all: its sender is not refused by the provider, and permission is checked again where the
/// directory has changed since acceptance.
fn may_leave(shared: &Shared, way: &Way, directory: &Directory, row: &Channel, lease: &Lease, body: &Body) -> Result<(), String> {
    let is_any_refused = !way.pace().kept.senders.is_empty();
    if is_any_refused {
        let senders = senders::of(lease, &mail::resolve::return_path(row, &lease.envelope, body.head()));
        let pace = way.pace();
        if let Some(refused) = senders.iter().find_map(|sender| pace.kept.senders.get(sender)) {
            return Err(format!("the provider refuses {} as sender: {}", refused.address, refused.said));
        }
    }
    if !shared.directory_changed.load(Ordering::Relaxed)
        && lease.accepted_at > shared.started_at
        && lease.accepted_at <= shared.wall()
    {
        return Ok(());
    }
    let authors = mail::header::authors_of(body.head()).map_err(|problem| problem.to_string())?;
    if lease.surface == Surface::Gateway {
        return permitted_report(directory, lease.person, row, &authors).map_err(|refusal| no_longer(&refusal, directory, lease));
    }
    mail::resolve::permitted(directory, lease.person, lease.token, row, &authors, &lease.envelope.reverse_path)
        .map_err(|refusal| no_longer(&refusal, directory, lease))
}

/// Why a message that was taken may leave no longer, for whoever has to decide about it: not its sender.
fn no_longer(refusal: &Refusal, directory: &Directory, lease: &Lease) -> String {
    let who = directory.person(lease.person).map_or_else(|| lease.person.to_string(), |person| person.email.to_string());
    match refusal {
        Refusal::PersonDisabled => format!("{who} is disabled; enable this person and release the message, or cancel it"),
        Refusal::TokenDisabled => {
            format!("the token by which {who} sent it is disabled; enable it and release the message, or cancel it")
        }
        Refusal::SenderNotAllowed(address) => {
            format!("{who} may not send as {address} any more; add it to their send_as and release the message, or cancel it")
        }
        Refusal::TokenForbids(address) => format!(
            "the token by which {who} sent it may not send as {address}; add it to the token's send_as and release the message, \
             or cancel it"
        ),
        other => other.to_string(),
    }
}

/// Holds a message. One after the other: of many, none waits in memory for the last one, and others get their turn.
async fn hold(shared: &Arc<Shared>, desk: &mut Desk, lease: &Lease, reason: &str) {
    let recipients = lease.recipients.iter().map(|recipient| Settled {
        index: recipient.index,
        to: Move::Hold,
        due: shared.steady(),
        counts: false,
        said: Diagnostic::own(None, reason),
        cause: None,
        suppress: None,
    });
    let settlement = Settlement {
        message: lease.message,
        channel: lease.channel,
        at: shared.wall(),
        relay: String::new(),
        spending: Spending::Uncounted,
        recipients: recipients.collect(),
    };
    desk.pending.push(Unsaved { settlement, reports: Vec::new() });
    tracing::warn!(queue.id = %lease.message, reason, "held");
    flush(shared, desk).await;
}

/// Ends a message whose time is over, or puts it off while nobody can say. The worker waits until that is written down: as
/// long as the disk has no room, the queue would give it the same message at once.
async fn end_or_put_off(shared: &Arc<Shared>, desk: &mut Desk, lease: &Lease, what: Move) {
    let (settlement, reports) = shared.ended_or_put_off(lease, what);
    desk.pending.push(Unsaved { settlement: settlement.clone(), reports });
    let is_written = flush(shared, desk).await;
    match what {
        _ if !is_written => {}
        Move::Expire => shared.log_over(lease, &settlement),
        _ => shared.is_in_doubt(&settlement),
    }
}

/// One transaction: the intent is recorded while MAIL, RCPT and the body flow, and the final dot waits for it. Where
/// the provider counts refusals too, MAIL itself waits.
async fn hand_over(
    shared: &Arc<Shared>,
    way: &Arc<Way>,
    row: &Channel,
    desk: &mut Desk,
    (lease, ticket, body): (Lease, Ticket, Body),
    began: Era,
) {
    let began_at = shared.wall();
    let reverse_path = mail::resolve::return_path(row, &lease.envelope, body.head());
    let spend = spend(&lease, &ticket);
    let intent = Intent {
        message: lease.message,
        channel: lease.channel,
        recipients: lease.recipients.iter().map(|recipient| recipient.index).collect(),
        at: began_at,
        spend: spend.clone(),
    };
    let carried = desk.pending.pop();
    let commit = shared.parts.queue.record(Unsaved::record(carried.clone(), Some(intent))).shared();
    shared.counters.attempts.fetch_add(1, Ordering::Relaxed);
    let open = desk.session.as_mut().expect("a session was ensured");
    let outgoing = Outgoing { lease, body, reverse_path };
    let waits = ticket.account.is_some() && !row.refusals_free;
    let outcomes = if waits && commit.clone().await.is_err() {
        all(&outgoing.lease, &Outcome::Untried)
    } else {
        deliver(shared, open, &outgoing, commit.clone()).await
    };
    open.handed_over += 1;
    let (relay, offers_dsn) = (open.session.relay().to_owned(), open.session.offers_dsn());
    if !open.session.is_reusable() || shared.abandon.is_cancelled() {
        close(way, desk).await;
    }
    let recorded = commit.await;
    let now = shared.steady();
    let judge = Judge {
        rules: &shared.parts.rules,
        row,
        schedule: &shared.parts.schedule,
        now,
        jitter: (shared.parts.jitter)(),
        message: outgoing.body.head(),
        refuted: way.pace().is_refuted(outgoing.lease.message),
    };
    let Books { verdict, ended, spending } = close_books(&judge, &outgoing.lease, &outcomes, spend, recorded.is_ok());
    let settlement = Settlement {
        message: outgoing.lease.message,
        channel: outgoing.lease.channel,
        at: shared.wall(),
        relay,
        spending,
        recipients: verdict.recipients.clone(),
    };
    log_attempt(shared, row, &outgoing, &settlement, &outcomes, began_at);
    let reports = reports(shared, row, &outgoing.lease, &outgoing.body, &settlement, offers_dsn);
    if let Err(problem) = recorded {
        // Neither the intent nor what it carried is on the disk; the dot has not left.
        tracing::warn!(%problem, "attempt not recorded");
        desk.pending.extend(carried);
    }
    desk.pending.push(Unsaved { settlement, reports });
    if desk.pending.len() > 1 || !verdict.accepted {
        flush(shared, desk).await;
    }
    shared.end(way, &ticket, ended);
    // The reply says so of this very connection: it does not count among those that work.
    let parting = if verdict.leaves_connection() { put_down(way, desk) } else { None };
    shared.heed(way, row, &outgoing, &verdict, began).await;
    if let Some(open) = parting {
        open.session.close().await;
    }
}

/// Hands over what is recorded by `commit`; the final dot waits for that. Given up when the stop's grace is over.
async fn deliver(shared: &Shared, open: &mut Open, outgoing: &Outgoing, commit: Recorded) -> Vec<(u32, Outcome)> {
    let passed = AtomicBool::new(false);
    let go: BoxFuture<'_, bool> = Box::pin(async {
        let durable = commit.await.is_ok();
        passed.store(durable, Ordering::Relaxed);
        durable
    });
    let delivered = tokio::select! {
        biased;
        outcomes = open.session.deliver(outgoing, go) => Some(outcomes),
        () = shared.abandon.cancelled() => None,
    };
    delivered.unwrap_or_else(|| {
        let known = open.session.given_up(outgoing);
        abandoned(&outgoing.lease, passed.load(Ordering::Relaxed), known)
    })
}

/// What a transaction spends, as it is written down.
fn spend(lease: &Lease, ticket: &Ticket) -> Option<Spend> {
    let account = Arc::clone(&ticket.account.as_ref()?.name);
    let from = if ticket.from.is_some() { Arc::clone(&lease.author) } else { "".into() };
    Some(Spend { account, from, units: ticket.cost })
}

fn all(lease: &Lease, outcome: &Outcome) -> Vec<(u32, Outcome)> {
    lease.recipients.iter().map(|recipient| (recipient.index, outcome.clone())).collect()
}

/// What the submitter is told of the attempt.
pub(super) fn reports(
    shared: &Shared,
    row: &Channel,
    lease: &Lease,
    body: &Body,
    settlement: &Settlement,
    offers_dsn: bool,
) -> Vec<NewMessage> {
    let made = report(&super::reports::Ended {
        hostname: &shared.parts.hostname,
        notices: shared.parts.notices.as_ref(),
        directory: &shared.parts.directory.directory(),
        schedule: &shared.parts.schedule,
        row,
        lease,
        body,
        settlement,
        due: shared.steady(),
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

/// The stop's grace is over: what passed its final dot may have arrived, except where the next hop has said what
/// became of it.
fn abandoned(lease: &Lease, passed: bool, known: Vec<(u32, Outcome)>) -> Vec<(u32, Outcome)> {
    let mut outcomes = all(lease, &if passed { Outcome::Uncertain(Cause::Interrupted) } else { Outcome::Untried });
    for (index, said) in known {
        if let Some((_, outcome)) = outcomes.iter_mut().find(|(of, _)| *of == index) {
            *outcome = said;
        }
    }
    outcomes
}

/// Makes outcomes durable that no next transaction takes along; true when all are.
async fn flush(shared: &Arc<Shared>, desk: &mut Desk) -> bool {
    let mut all = true;
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
                all = false;
                // At the next start the open intent is found and treated as uncertain.
                tracing::error!(queue.id = %unsaved.settlement.message, %problem, "outcome not recorded");
                if !matches!(problem, StoreError::Illegal(_) | StoreError::Unknown(_)) {
                    desk.pending.clear();
                }
            }
        }
    }
    all
}
