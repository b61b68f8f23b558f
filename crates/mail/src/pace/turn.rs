//! Whose turn it is.

use super::ledger::{Free, FromId, Ledger, Units};
use super::terms::Terms;
use crate::envelope::Lane;
use crate::limits::{Limit, LimitScope};
use crate::time::Timestamp;
use std::time::Duration;

/// What has left of more urgent lanes, for one unit of a lane that waits: then the lane is owed that unit.
pub(super) fn for_one_of(lane: Lane) -> u64 {
    match lane {
        Lane::Now => 0,
        Lane::Normal => 4,
        Lane::Bulk => 19,
    }
}

/// A lane stands still at most this long, until the one that is owed something may go.
pub const BOOKED: Duration = Duration::from_secs(60);

/// The message that would leave next in a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// What its transaction costs, already cut to [`Terms::most_recipients`].
    pub cost: Units,
    /// The From it is counted under where a limit counts per From.
    pub from: Option<FromId>,
}

/// What happens next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The head of this lane leaves now.
    Go(Lane),
    /// The head of this lane waits for its From alone: look at the lane without that From.
    PassFrom {
        /// The lane.
        lane: Lane,
        /// The From.
        from: FromId,
        /// When it is free; `None` when one of its transactions has ended.
        until: Option<Timestamp>,
        /// Its limit.
        limit: Limit,
    },
    /// Nothing may leave.
    Wait(Wait),
    /// Nothing is there.
    Idle,
}

/// Why nothing may leave, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// When to look again; `None` when an open transaction has ended.
    pub until: Option<Timestamp>,
    /// What for.
    pub why: Why,
    /// The most urgent lane that waits: more urgent mail may still go.
    pub lane: Lane,
}

/// What a lane waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Room under this limit.
    Limit(Limit),
    /// Bulk is spread evenly.
    Spread,
    /// Bulk leaves the last connection to others.
    Connection,
}

/// Whose turn it is on a channel: `now` before `normal` before `bulk`. While more urgent mail waits, `normal` still gets
/// one unit in five and `bulk` one in twenty.
#[derive(Clone, Debug, Default)]
pub struct Turn {
    /// What left of more urgent lanes while each waited, in recipients.
    credit: [u64; 3],
    /// Open transactions of bulk.
    bulk_open: u32,
    /// Bulk does not start before.
    bulk_next: Timestamp,
}

impl Turn {
    /// Chooses among the heads of `now`, `normal` and `bulk`.
    pub fn choose(&self, heads: &[Option<Head>; 3], terms: &Terms, ledger: &mut Ledger, now: Timestamp) -> Choice {
        let [urgent, normal, bulk] = heads;
        let bulk_ready = bulk.as_ref().map(|head| self.bulk_ready(head, terms, ledger, now));
        let owed = self.is_owed(Lane::Bulk, bulk.as_ref());
        if owed && bulk_ready == Some(Ok(())) {
            return Choice::Go(Lane::Bulk);
        }
        if let Some(head) = urgent {
            let owed = normal.as_ref().filter(|_| self.is_owed(Lane::Normal, normal.as_ref()));
            let of_normal = owed.map(|head| lane_choice(Lane::Normal, head, terms, ledger, now));
            return match of_normal {
                Some(Choice::Wait(wait)) if !is_near(&wait, now) => lane_choice(Lane::Now, head, terms, ledger, now),
                Some(choice) => choice,
                None => lane_choice(Lane::Now, head, terms, ledger, now),
            };
        }
        let books = owed && bulk_ready.is_some_and(|ready| books(ready, bulk.as_ref(), terms, ledger, now));
        let of_normal = normal.as_ref().filter(|_| !books).map(|head| lane_choice(Lane::Normal, head, terms, ledger, now));
        match (of_normal, bulk_ready) {
            (None, None) => Choice::Idle,
            (None, Some(Ok(()))) => Choice::Go(Lane::Bulk),
            (None, Some(Err((until, why)))) => waits(Lane::Bulk, bulk.as_ref().and_then(|head| head.from), until, why),
            (Some(Choice::Wait(mut wait)), Some(Err((Some(at), _)))) => {
                wait.until = Some(wait.until.map_or(at, |until| until.min(at)));
                Choice::Wait(wait)
            }
            (Some(choice), _) => choice,
        }
    }

    fn is_owed(&self, lane: Lane, head: Option<&Head>) -> bool {
        head.is_some_and(|head| self.credit[lane as usize] >= owed(lane, head.cost))
    }

    fn bulk_ready(&self, head: &Head, terms: &Terms, ledger: &mut Ledger, now: Timestamp) -> Result<(), (Option<Timestamp>, Why)> {
        if self.bulk_open >= terms.bulk_connections() {
            return Err((None, Why::Connection));
        }
        if let Err((free, limit)) = terms.free(ledger, Lane::Bulk, head.from, head.cost, now) {
            return Err((at(free), Why::Limit(limit)));
        }
        if self.bulk_next > now {
            return Err((Some(self.bulk_next), Why::Spread));
        }
        Ok(())
    }

    /// A transaction of this lane starts, chosen among these heads.
    pub fn started(&mut self, lane: Lane, cost: Units, heads: &[Option<Head>; 3], terms: &Terms, now: Timestamp) {
        self.credit[lane as usize] = self.credit[lane as usize].saturating_sub(owed(lane, cost));
        for waits in [Lane::Normal, Lane::Bulk].into_iter().filter(|waits| *waits > lane) {
            if let Some(head) = &heads[waits as usize] {
                let credit = &mut self.credit[waits as usize];
                *credit = (*credit + u64::from(cost.recipients)).min(owed(waits, head.cost));
            }
        }
        if lane == Lane::Bulk {
            let apart = terms.spread(cost);
            self.bulk_open += 1;
            // A start that was a little late does not move the ones after it; after a pause nothing is caught up.
            let is_late = self.bulk_next.plus(apart) >= now;
            self.bulk_next = if is_late { self.bulk_next } else { now }.plus(apart);
        }
    }

    /// A transaction of this lane has ended.
    pub fn ended(&mut self, lane: Lane) {
        if lane == Lane::Bulk {
            self.bulk_open = self.bulk_open.saturating_sub(1);
        }
    }
}

/// The chosen head books units as they free, so that normal mail does not overtake it; but normal mail does not stand
/// still for long while the reserve alone keeps bulk back.
fn books(
    ready: Result<(), (Option<Timestamp>, Why)>,
    bulk: Option<&Head>,
    terms: &Terms,
    ledger: &mut Ledger,
    now: Timestamp,
) -> bool {
    let Err((until, Why::Limit(limit))) = ready else { return false };
    let is_short = until.is_none_or(|until| until.since(now) <= BOOKED);
    let is_full = |head: &Head| terms.free(ledger, Lane::Normal, head.from, head.cost, now).is_err();
    limit.scope == LimitScope::Account && (is_short || bulk.is_some_and(is_full))
}

/// What must have left of more urgent lanes before a transaction of this cost.
fn owed(lane: Lane, cost: Units) -> u64 {
    u64::from(cost.recipients) * for_one_of(lane)
}

/// Normal mail that is owed its share books units as they free, so that small urgent mail does not take each of them.
fn is_near(wait: &Wait, now: Timestamp) -> bool {
    wait.until.is_some_and(|until| until.since(now) <= BOOKED)
}

fn lane_choice(lane: Lane, head: &Head, terms: &Terms, ledger: &mut Ledger, now: Timestamp) -> Choice {
    match terms.free(ledger, lane, head.from, head.cost, now) {
        Ok(()) => Choice::Go(lane),
        Err((free, limit)) => waits(lane, head.from, at(free), Why::Limit(limit)),
    }
}

/// A lane whose head cannot go; where its From alone is at a limit, others of the lane may.
fn waits(lane: Lane, from: Option<FromId>, until: Option<Timestamp>, why: Why) -> Choice {
    match (why, from) {
        (Why::Limit(limit), Some(from)) if limit.scope == LimitScope::From => Choice::PassFrom { lane, from, until, limit },
        (Why::Limit(_) | Why::Spread | Why::Connection, _) => Choice::Wait(Wait { until, why, lane }),
    }
}

fn at(free: Free) -> Option<Timestamp> {
    match free {
        Free::At(at) => Some(at),
        Free::Now | Free::WhenSettled => None,
    }
}
