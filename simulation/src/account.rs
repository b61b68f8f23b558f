//! What a provider counts, in sliding windows of its own.

use mail::Lane;
use mail::limits::{Limit, Unit};

/// The account behind one login.
#[derive(Default)]
pub struct Account {
    limits: Vec<Limit>,
    /// How fast the provider's clock runs: so many millionths of a second more in a second.
    drift: i64,
    transactions: Vec<Transaction>,
}

/// One transaction: the provider counts it at a moment between its start and its end that only it knows.
struct Transaction {
    lane: Lane,
    began: u64,
    ended: Option<u64>,
    messages: u64,
    recipients: u64,
    bytes: u64,
}

impl Account {
    /// An account with these limits.
    #[must_use]
    pub fn new(limits: Vec<Limit>, drift: i64) -> Self {
        Self { limits, drift, transactions: Vec::new() }
    }

    /// A transaction begins; its number.
    ///
    /// # Errors
    /// P3: a window of the provider may now hold more than its limit, or more bulk than the reserve leaves.
    pub fn begin(&mut self, now: u64, lane: Lane, recipients: u32, bytes: u64) -> (usize, Result<(), String>) {
        let transaction = Transaction { lane, began: now, ended: None, messages: 1, recipients: u64::from(recipients), bytes };
        self.transactions.push(transaction);
        let over = self.limits.iter().find_map(|limit| {
            let (held, bulk) = (self.held(limit, now, None), self.held(limit, now, Some(Lane::Bulk)));
            let for_bulk = limit.count - limit.count.div_ceil(20).max(1).min(limit.count - 1);
            if held > limit.count {
                return Some(Err(format!("P3: {held} of '{limit}' at the provider")));
            }
            (bulk > for_bulk).then(|| Err(format!("P3: {bulk} of bulk at the provider, which leaves a reserve of '{limit}'")))
        });
        (self.transactions.len() - 1, over.unwrap_or(Ok(())))
    }

    /// What the window that ends now may hold at the provider, whenever between start and end it counts.
    fn held(&self, limit: &Limit, now: u64, lane: Option<Lane>) -> u64 {
        let window = limit.window.as_millis() as i64;
        let begins = now as i64 - window - window * self.drift / 1_000_000;
        let inside = |transaction: &&Transaction| {
            lane.is_none_or(|lane| lane == transaction.lane) && transaction.ended.is_none_or(|ended| ended as i64 > begins)
        };
        let of = |transaction: &Transaction| match limit.unit {
            Unit::Messages => transaction.messages,
            Unit::Recipients => transaction.recipients,
            Unit::Bytes => transaction.bytes,
        };
        self.transactions.iter().filter(inside).map(of).sum()
    }

    /// A transaction is over at this moment, or will be.
    pub fn end(&mut self, number: usize, at: u64) {
        if let Some(transaction) = self.transactions.get_mut(number) {
            transaction.ended = Some(at.max(transaction.began));
        }
    }
}
