//! When something will leave: the rules of pace, run forward.

use super::ledger::{Free, Ledger, Units};
use super::terms::Terms;
use super::turn::for_one_of;
use crate::envelope::Lane;
use crate::limits::LimitScope;
use crate::time::Timestamp;
use std::time::Duration;

/// Transactions that are run one by one; the rest goes on at the pace found.
const RUN: u64 = 50_000;

/// What leaves before it, and itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ahead {
    /// Transactions, the last one being the one asked about.
    pub transactions: u64,
    /// Their recipients.
    pub recipients: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Ahead {
    /// Counts one more.
    pub fn add(&mut self, recipients: u64, bytes: u64) {
        self.transactions += 1;
        self.recipients += recipients;
        self.bytes += bytes;
    }

    /// Both together, as far as can be counted.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            transactions: self.transactions.saturating_add(other.transactions),
            recipients: self.recipients.saturating_add(other.recipients),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    /// This mail of a lane, with as much of the more urgent lanes' as goes before it: their shares end where the lane is
    /// owed one of its own.
    #[must_use]
    pub fn behind(self, urgent: Self, lane: Lane) -> Self {
        let most = self.recipients.saturating_mul(for_one_of(lane));
        let part = |of: u64| match urgent.recipients > most {
            true => u64::try_from(u128::from(of) * u128::from(most) / u128::from(urgent.recipients)).unwrap_or(u64::MAX),
            false => of,
        };
        let goes = Self { transactions: part(urgent.transactions), recipients: part(urgent.recipients), bytes: part(urgent.bytes) };
        self.plus(goes)
    }

    fn each(&self) -> Units {
        let per = |total: u64| total.div_ceil(self.transactions.max(1));
        let recipients = u32::try_from(per(self.recipients)).unwrap_or(u32::MAX).max(1);
        Units { messages: 1, recipients, bytes: per(self.bytes) }
    }
}

/// When the last of these transactions starts, each taking about `takes` on one of the channel's connections.
///
/// `ledger` is run forward, so it is given as a copy. Open transactions are counted as ending soon.
#[must_use]
pub fn forecast(terms: &Terms, mut ledger: Ledger, lane: Lane, ahead: Ahead, takes: Duration, now: Timestamp) -> Timestamp {
    let cost = ahead.each();
    let apart = if lane == Lane::Bulk { terms.spread(cost) } else { Duration::ZERO };
    let lines = if lane == Lane::Bulk { terms.bulk_connections() } else { terms.caps.connections }.max(1);
    let turn = (takes / lines).max(apart);
    let account = Terms {
        limits: terms.limits.iter().filter(|limit| limit.scope == LimitScope::Account).copied().collect(),
        ..terms.clone()
    };
    let mut at = now;
    ledger.settle_open(now.plus(takes));
    for number in 0..ahead.transactions.min(RUN) {
        while let Err((free, limit)) = account.free(&mut ledger, lane, None, cost, at) {
            match free {
                Free::At(free) if free > at => at = free,
                // It costs more than any window holds; it is counted as one whole window.
                Free::At(_) | Free::Now | Free::WhenSettled => {
                    at = at.plus(limit.window);
                    break;
                }
            }
        }
        if number + 1 == ahead.transactions {
            return at;
        }
        ledger.spend(None, cost);
        ledger.settle(None, cost, at.plus(takes));
        at = at.plus(turn);
    }
    // What is left goes on as fast as what was run.
    let share = ahead.transactions as f64 / RUN as f64;
    now.plus(Duration::try_from_secs_f64(at.since(now).as_secs_f64() * share).unwrap_or(Duration::MAX))
}
