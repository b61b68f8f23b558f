//! What time alone does to mail: its scheduled time comes, its time is over, or it has waited in vain for too long.

use super::Shared;
use super::next::give_back;
use super::report::log_end;
use super::way::Way;
use super::worker::reports;
use bytes::Bytes;
use mail::{Diagnostic, Move, Timestamp};
use smtp::EnhancedCode;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use store::{AttemptRecord, Lease, NewMessage, PutOff, Settled, Settlement, Spending, Steer, StoreError};

/// The calendar is looked at this often, so that a clock step delays nothing for more.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// However much mail comes, it is asked no more often than this what expires first: so late mail may expire.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Scheduled mail follows the wall clock when it has moved by this many milliseconds, and is due so much later.
const SLACK_MS: i64 = 50;
/// Mail whose channel has not worked for so long is held.
const PATIENCE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Such mail is looked for this often,
const HOLD_EVERY: Duration = Duration::from_secs(3600);
/// and held by so many messages at once.
const HOLD_AT_ONCE: usize = 1000;
/// Mail of which nobody can say whether its time is over is looked at again after this, or once the clock is proved.
const IN_DOUBT: Duration = Duration::from_secs(3600);

impl Shared {
    /// Lets scheduled mail become due and mail expire, until the stop.
    pub(super) async fn look_at_the_calendar(self: Arc<Self>) {
        let mut looked_for_patience = Timestamp(0);
        loop {
            self.follow_wall();
            let left_over = self.expire_all().await;
            self.resume_what_was_in_doubt();
            self.store_what_had_no_room().await;
            if self.steady().since(looked_for_patience) >= HOLD_EVERY {
                looked_for_patience = self.steady();
                self.hold_what_waits_in_vain().await;
            }
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => return,
                () = self.next_look(left_over) => {}
            }
        }
    }

    /// Returns when the next message may expire, and in any case after a while. What was left over cannot end now.
    async fn next_look(&self, left_over: Option<Timestamp>) {
        let latest = self.steady().plus(LOOK_AGAIN);
        loop {
            let now = (self.parts.calendar)().wall;
            let left = latest.since(self.steady());
            let next = self.parts.queue.next_expiry().filter(|at| Some(*at) != left_over);
            let pause = next.map_or(left, |at| at.since(now).min(left)).max(Duration::from_millis(1));
            tokio::select! {
                biased;
                () = tokio::time::sleep(pause) => return,
                // It may expire sooner than what is there.
                () = self.mail_came.notified() => tokio::time::sleep(pause.min(ASK_AGAIN)).await,
            }
        }
    }

    async fn store_what_had_no_room(&self) {
        let ways: Vec<Arc<Way>> = self.read_ways().values().map(Arc::clone).collect();
        for way in ways {
            self.store_kept(&way).await;
        }
    }

    /// Holds what has waited for so long on a channel that has not worked for so long: a person decides.
    async fn hold_what_waits_in_vain(&self) {
        let before = Timestamp(self.steady().0.saturating_sub(PATIENCE.as_millis() as i64));
        let ways: Vec<Arc<Way>> = self.read_ways().values().map(Arc::clone).collect();
        for way in ways {
            if is_down_since(&way, before) && !self.hold_late(&way, before).await {
                return;
            }
        }
    }

    /// Holds what could have left a channel before a moment; false when that cannot be written now.
    async fn hold_late(&self, way: &Way, before: Timestamp) -> bool {
        let by = format!("the gateway, because channel '{}' has not worked for 30 days", self.channel_name(way));
        // Asked once: each time the queue looks at all that is open.
        let late = self.parts.queue.waiting_since(way.channel, before, usize::MAX);
        let mut held = 0;
        for late in late.chunks(HOLD_AT_ONCE) {
            // It may work again, or a person have looked after it.
            if self.stopping.is_cancelled() || !is_down_since(way, before) {
                break;
            }
            let order = |message| {
                let (recipients, by, at) = (Vec::new(), by.clone(), self.wall());
                self.parts.queue.steer(Steer { message, recipients, to: Move::Hold, channel: None, by, at })
            };
            let orders: Vec<_> = late.iter().copied().map(order).collect();
            for order in orders {
                match order.await {
                    Ok(moved) => held += moved.len(),
                    // It has ended meanwhile.
                    Err(StoreError::Unknown(_)) => {}
                    Err(problem) => {
                        tracing::warn!(%problem, "mail that has waited for too long is not held yet");
                        return false;
                    }
                }
            }
        }
        if held > 0 {
            tracing::warn!(channel.name = self.channel_name(way), recipients = held, "held: no working channel for 30 days");
        }
        true
    }

    /// Tells the queue how far the wall clock is ahead.
    pub(super) fn follow_wall(&self) {
        let ahead = self.wall().0.saturating_sub(self.steady().0).saturating_sub(SLACK_MS);
        let before = self.wall_ahead.load(Ordering::Relaxed);
        if ahead.abs_diff(before) >= SLACK_MS as u64 {
            self.wall_ahead.store(ahead, Ordering::Relaxed);
            self.parts.queue.follow_wall(ahead);
        }
    }

    /// Ends what may not be sent any more, whatever it waits for; returns when what is over and could not end was to.
    async fn expire_all(&self) -> Option<Timestamp> {
        let calendar = (self.parts.calendar)();
        let may_end = |at: Timestamp| calendar.has_passed(at) == Some(true);
        while self.parts.queue.next_expiry().is_some_and(may_end) && !self.stopping.is_cancelled() {
            let Some(lease) = self.parts.queue.lease_expired(calendar.wall) else { break };
            if !self.expire(&lease).await {
                break;
            }
        }
        self.parts.queue.next_expiry().filter(|at| *at <= calendar.wall)
    }

    /// The clock is proved: what was put off until then need not wait for its hour.
    fn resume_what_was_in_doubt(&self) {
        let now = self.steady();
        let mut in_doubt = self.in_doubt.lock().unwrap_or_else(PoisonError::into_inner);
        // Its hour is over: it was looked at again, or has ended.
        in_doubt.retain(|_, until| *until > now);
        if in_doubt.is_empty() || (self.parts.calendar)().unset.is_some() {
            return;
        }
        let put_off = std::mem::take(&mut *in_doubt).into_iter();
        drop(in_doubt);
        let put_off: Vec<PutOff> = put_off.map(|((message, recipient), until)| PutOff { message, recipient, until }).collect();
        self.parts.queue.bring_forward(&put_off, now);
    }

    /// It was durably put off.
    pub(super) fn is_in_doubt(&self, put_off: &Settlement) {
        let mut in_doubt = self.in_doubt.lock().unwrap_or_else(PoisonError::into_inner);
        in_doubt.extend(put_off.recipients.iter().map(|settled| ((put_off.message, settled.index), settled.due)));
    }

    /// Where a message in hand may not be sent any more, what becomes of it instead; `None` where it may.
    pub(super) fn is_over(&self, lease: &Lease) -> Option<Move> {
        let expires_at = lease.expires_at?;
        match (self.parts.calendar)().has_passed(expires_at) {
            Some(false) => None,
            Some(true) => Some(Move::Expire),
            None => Some(Move::GiveBack),
        }
    }

    /// What is written down of that, with what is reported of it: `expired`, or put off while nobody can say.
    pub(super) fn ended_or_put_off(&self, lease: &Lease, what: Move) -> (Settlement, Vec<NewMessage>) {
        if what != Move::Expire {
            let said = "the clock was set, so it is not known whether its time is over";
            return (settlement(self, lease, what, Diagnostic::own(None, said)), Vec::new());
        }
        let settlement = settlement(self, lease, what, over(lease));
        let body = self.parts.queue.body(lease.message).unwrap_or_else(|problem| {
            tracing::warn!(queue.id = %lease.message, %problem, "it is reported without its bytes");
            Bytes::new().into()
        });
        let directory = self.parts.directory.directory();
        let row = directory.channel(lease.channel);
        let reports = row.map(|row| reports(self, row, lease, &body, &settlement, false)).unwrap_or_default();
        (settlement, reports)
    }

    /// The delivery log tells of what has ended so.
    pub(super) fn log_over(&self, lease: &Lease, settlement: &Settlement) {
        let has_ended = settlement.recipients.iter().any(|settled| settled.to == Move::Expire);
        if has_ended {
            let directory = self.parts.directory.directory();
            log_end(self, directory.channel(lease.channel).map_or("", |row| &row.name), lease, settlement);
        }
    }

    /// True when that is durable; else the message is back in the queue.
    async fn expire(&self, lease: &Lease) -> bool {
        let (settlement, reports) = self.ended_or_put_off(lease, Move::Expire);
        let done = self.settle(lease, AttemptRecord { settle: Some(settlement.clone()), intend: None, reports }).await;
        if done {
            self.log_over(lease, &settlement);
        } else {
            give_back(self, lease);
        }
        done
    }

    async fn settle(&self, lease: &Lease, record: AttemptRecord) -> bool {
        match self.parts.queue.record(record).await {
            Ok(()) => true,
            Err(StoreError::NoSpace(reason)) => {
                tracing::warn!(queue.id = %lease.message, reason, "what has expired waits for room on the disk");
                false
            }
            Err(problem) => {
                tracing::error!(queue.id = %lease.message, %problem, "what has expired is not recorded");
                false
            }
        }
    }
}

/// True where a channel has not worked since then, or for longer.
fn is_down_since(way: &Way, then: Timestamp) -> bool {
    way.pace().kept.down_since.is_some_and(|since| since <= then)
}

/// The end is that its time was over (RFC 3463 §3.5).
fn over(lease: &Lease) -> Diagnostic {
    let at = lease.expires_at.map(|at| format!(", {at}")).unwrap_or_default();
    let said = format!("the time after which it was not to be sent{at}, has passed");
    Diagnostic::own(Some(EnhancedCode::new(4, 4, 7)), said)
}

fn settlement(shared: &Shared, lease: &Lease, to: Move, said: Diagnostic) -> Settlement {
    let due = shared.steady().plus(IN_DOUBT);
    let settled = |index| Settled { index, to, due, counts: false, said: said.clone(), cause: None, suppress: None };
    Settlement {
        message: lease.message,
        channel: lease.channel,
        at: shared.wall(),
        relay: String::new(),
        spending: Spending::Uncounted,
        recipients: lease.recipients.iter().map(|recipient| settled(recipient.index)).collect(),
    }
}
