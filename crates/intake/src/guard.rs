//! Slows the guessing of secrets, by address and by account, without locking anybody out.
//!
//! An address that failed waits before each further try, and its tries stand in one line, so that
//! more connections do not mean more guesses. A wrong secret for an account that is being guessed is
//! answered late, wherever it comes from; the right one is answered at once, so that its owner does
//! not notice. Whether the account exists plays no part.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// The longest wait that is imposed; a longer line is refused instead.
pub const MAX_WAIT: Duration = Duration::from_secs(30);
/// Failures that cost nothing: people mistype.
const FREE: u32 = 2;
/// One failure is forgotten each time this much passes.
const FORGET: Duration = Duration::from_secs(60);
/// Addresses, and accounts, that are remembered at the same time.
const MAX_KNOWN: usize = 20_000;

/// The memory of failed logins.
#[derive(Debug, Default)]
pub struct Guard {
    addresses: HashMap<IpAddr, Record>,
    accounts: HashMap<u64, Record>,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    failures: u32,
    last: Instant,
    free_at: Instant,
}

impl Record {
    fn new(now: Instant) -> Self {
        Self { failures: 0, last: now, free_at: now }
    }

    /// Forgets what time has healed.
    fn age(&mut self, now: Instant) {
        let steps = now.saturating_duration_since(self.last).as_secs() / FORGET.as_secs();
        let steps = u32::try_from(steps).unwrap_or(u32::MAX).min(self.failures);
        self.failures -= steps;
        self.last += FORGET * steps;
        if self.failures == 0 {
            self.last = now;
        }
    }

    fn is_clean(&self, now: Instant) -> bool {
        self.failures == 0 && self.free_at <= now
    }
}

/// Too many tries of one address are waiting already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyTries;

/// A try that was given its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// How long to wait before the secret is looked at.
    pub wait: Duration,
    step: Duration,
}

impl Guard {
    /// A turn to try a secret, for a peer at this address.
    ///
    /// # Errors
    /// The line is longer than [`MAX_WAIT`].
    pub fn admit(&mut self, address: Option<IpAddr>, now: Instant) -> Result<Turn, TooManyTries> {
        let free = Turn { wait: Duration::ZERO, step: Duration::ZERO };
        let Some(record) = address.and_then(|address| self.addresses.get_mut(&address)) else { return Ok(free) };
        record.age(now);
        let wait = record.free_at.saturating_duration_since(now);
        if wait > MAX_WAIT {
            return Err(TooManyTries);
        }
        let step = delay(record.failures);
        record.free_at = record.free_at.max(now) + step;
        Ok(Turn { wait, step })
    }

    /// The secret was right: the time set aside for this try is given back.
    pub fn succeeded(&mut self, address: Option<IpAddr>, turn: Turn) {
        if let Some(record) = address.and_then(|address| self.addresses.get_mut(&address)) {
            record.free_at = record.free_at.checked_sub(turn.step).unwrap_or(record.free_at);
        }
    }

    /// The secret was wrong: how long to wait before saying so.
    ///
    /// `account` is a hash of the name given, in one case.
    pub fn failed(&mut self, address: Option<IpAddr>, account: u64, now: Instant) -> Duration {
        // The address pays with its next turn.
        if let Some(address) = address {
            fail(&mut self.addresses, address, now);
        }
        fail(&mut self.accounts, account, now)
    }
}

fn fail<K: Hash + Eq + Copy>(known: &mut HashMap<K, Record>, key: K, now: Instant) -> Duration {
    if known.len() >= MAX_KNOWN && !known.contains_key(&key) {
        make_room(known, now);
    }
    let record = known.entry(key).or_insert_with(|| Record::new(now));
    record.age(now);
    let wait = delay(record.failures);
    record.failures = record.failures.saturating_add(1).min(64);
    record.last = now;
    record.free_at = record.free_at.max(now + delay(record.failures));
    wait
}

/// Drops what is healed; when that is not enough, those who failed least.
fn make_room<K: Hash + Eq + Copy>(known: &mut HashMap<K, Record>, now: Instant) {
    known.retain(|_, record| {
        record.age(now);
        !record.is_clean(now)
    });
    if known.len() < MAX_KNOWN {
        return;
    }
    let mut failures: Vec<u32> = known.values().map(|record| record.failures).collect();
    failures.sort_unstable();
    let least = failures[failures.len() / 4];
    known.retain(|_, record| record.failures > least);
}

/// 0, 0, then 1, 2, 4, ... seconds up to [`MAX_WAIT`].
fn delay(failures: u32) -> Duration {
    match failures.checked_sub(FREE) {
        None => Duration::ZERO,
        Some(more) => Duration::from_secs(1 << more.min(5)).min(MAX_WAIT),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ANA: u64 = 1;

    fn address(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, last]))
    }

    fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    #[test]
    fn each_further_failure_of_an_address_waits_longer_up_to_half_a_minute() {
        let (mut guard, mut now) = (Guard::default(), Instant::now());
        let mut waits = Vec::new();
        for account in 0..9 {
            let turn = guard.admit(address(1), now).unwrap();
            now += turn.wait;
            guard.failed(address(1), account, now);
            waits.push(turn.wait.as_secs());
        }
        assert_eq!(waits, [0, 0, 1, 2, 4, 8, 16, 30, 30]);
    }

    #[test]
    fn more_connections_do_not_mean_more_guesses() {
        let (mut guard, start) = (Guard::default(), Instant::now());
        // Four connections try as fast as they are let, and come back when they are told to wait.
        let mut free = [start; 4];
        let mut answers = 0;
        for _ in 0..1000 {
            let (place, now) = free.iter().copied().enumerate().min_by_key(|(_, at)| *at).unwrap();
            if now > start + seconds(10) {
                break;
            }
            match guard.admit(address(1), now) {
                Err(TooManyTries) => free[place] = now + seconds(1),
                Ok(turn) => {
                    let tried = now + turn.wait;
                    free[place] = tried + guard.failed(address(1), ANA, tried);
                    answers += u32::from(free[place] <= start + seconds(10));
                }
            }
        }
        assert!((3..=12).contains(&answers), "{answers} answers in ten seconds");
    }

    #[test]
    fn the_owner_of_a_guessed_account_signs_in_at_once_from_elsewhere() {
        let (mut guard, now) = (Guard::default(), Instant::now());
        for last in 0..200 {
            guard.failed(address(last), ANA, now);
        }
        let turn = guard.admit(address(201), now).unwrap();
        assert_eq!(turn.wait, Duration::ZERO);
        guard.succeeded(address(201), turn);
        assert_eq!(guard.admit(address(201), now).unwrap().wait, Duration::ZERO);
    }

    #[test]
    fn an_account_that_is_guessed_from_many_addresses_answers_late() {
        let (mut guard, now) = (Guard::default(), Instant::now());
        let waits: Vec<u64> = (0..8).map(|last| guard.failed(address(last), ANA, now).as_secs()).collect();
        assert_eq!(waits, [0, 0, 1, 2, 4, 8, 16, 30]);
    }

    #[test]
    fn a_right_secret_gives_its_time_back() {
        let (mut guard, now) = (Guard::default(), Instant::now());
        for _ in 0..4 {
            guard.failed(address(1), ANA, now);
        }
        let later = now + seconds(10);
        for _ in 0..20 {
            let turn = guard.admit(address(1), later).unwrap();
            assert_eq!(turn.wait, Duration::ZERO);
            guard.succeeded(address(1), turn);
        }
    }

    #[test]
    fn failures_are_forgotten_in_time() {
        let (mut guard, now) = (Guard::default(), Instant::now());
        for _ in 0..5 {
            guard.failed(address(1), ANA, now);
        }
        let later = now + seconds(5 * 60);
        assert_eq!(guard.failed(address(1), ANA, later), Duration::ZERO);
        assert_eq!(guard.admit(address(1), later).unwrap().wait, Duration::ZERO);
    }

    #[test]
    fn the_memory_is_bounded_and_keeps_the_worst() {
        let (mut guard, now) = (Guard::default(), Instant::now());
        for _ in 0..6 {
            guard.failed(None, 7, now);
        }
        for account in 100..100 + 2 * MAX_KNOWN as u64 {
            guard.failed(None, account, now);
        }
        assert!(guard.accounts.len() <= MAX_KNOWN);
        assert_eq!(guard.failed(None, 7, now), seconds(16));
    }
}
