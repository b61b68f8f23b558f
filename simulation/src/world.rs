//! One history's clock, chance, next hops and book, shared by everything that acts in it.

use crate::account::Account;
use crate::book::Book;
use crate::clock::Machine;
use crate::fairness::Fairness;
use crate::plan::{HOUR, Plan, Submission};
use crate::provider::Provider;
use crate::random::Random;
use crate::trace::Trace;
use mail::{ChannelId, Timestamp};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// What acts in a history shares this.
pub struct World {
    state: Mutex<State>,
    ended: Notify,
}

/// Everything that changes.
pub struct State {
    /// The seed's numbers.
    pub random: Random,
    /// What happened.
    pub trace: Trace,
    /// What must be true.
    pub book: Book,
    /// Who was served in the present process.
    pub fairness: Fairness,
    /// The next hops.
    pub providers: BTreeMap<ChannelId, Provider>,
    /// Their accounts, by number.
    pub accounts: Vec<Account>,
    /// The clocks of the machine.
    pub machine: Machine,
    /// What was submitted and not yet answered with yes.
    pub waiting: BTreeMap<u32, Submission>,
    /// At which of the next batches the process ends, after how many milliseconds it is started again, and
    /// whether the machine boots again.
    pub ends_at_batch: Option<(u64, u64, bool)>,
    /// When the present process began.
    pub alive_since: u64,
    /// A segment of the log was removed: no index from before belongs to it.
    pub segment_removed: bool,
    /// What has ended before the log begins need not be known any more.
    pub history_lost: bool,
    /// The first thing that must not be.
    pub failure: Option<String>,
    /// Milliseconds since the history began, when the present process began or the last one ended.
    base: u64,
    began: Option<Instant>,
    /// The process has ended: nothing it still does counts.
    frozen: bool,
}

impl State {
    /// Milliseconds since the history began.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.base + self.began.map_or(0, |began| began.elapsed().as_millis() as u64)
    }

    /// Something happened.
    pub fn note(&mut self, what: &str) {
        let now = self.now();
        self.trace.note(now, what);
    }

    /// Holds on to the first thing that must not be.
    pub fn check(&mut self, result: Result<(), String>) {
        if let Err(why) = result
            && self.failure.is_none()
        {
            self.note(&format!("FAILED {why}"));
            self.failure = Some(why);
        }
    }

    /// The next hop of a channel.
    ///
    /// # Panics
    /// There is no such channel.
    pub fn provider(&mut self, channel: ChannelId) -> &mut Provider {
        self.providers.get_mut(&channel).expect("every channel of the plan has a next hop")
    }
}

impl World {
    /// A world in which nothing has happened yet.
    #[must_use]
    pub fn new(random: Random, plan: &Plan, print: bool) -> Self {
        let state = State {
            random,
            trace: Trace::new(print),
            book: Book::default(),
            fairness: Fairness::default(),
            providers: plan.channels.iter().map(|channel| (channel.id, Provider::new(channel))).collect(),
            accounts: plan.accounts.iter().map(|(limits, drift)| Account::new(limits.clone(), *drift)).collect(),
            machine: Machine::default(),
            waiting: BTreeMap::new(),
            ends_at_batch: None,
            alive_since: 0,
            segment_removed: false,
            history_lost: false,
            failure: None,
            base: 0,
            began: None,
            frozen: false,
        };
        Self { state: Mutex::new(state), ended: Notify::new() }
    }

    /// Everything that changes.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The wall clock.
    #[must_use]
    pub fn wall(&self) -> Timestamp {
        let state = self.lock();
        state.machine.wall(state.now())
    }

    /// The steady clock.
    #[must_use]
    pub fn steady(&self) -> Timestamp {
        let state = self.lock();
        state.machine.steady(state.now())
    }

    /// A process begins, so many milliseconds after the last one ended, in a new boot or not. Inside its runtime.
    pub fn begin(&self, pause: u64, reboots: bool) {
        let mut state = self.lock();
        state.base += pause;
        if reboots {
            // The machine was up for some seconds before we were.
            let (now, booted_at) = (state.base, state.base - pause.min(15_000));
            let State { machine, random, .. } = &mut *state;
            // Every second time it is another machine, long up.
            if machine.boot().is_multiple_of(2) {
                machine.moves_to(u64::from(machine.boot()) * 50 * 24 * HOUR, now, random);
            } else {
                machine.reboot(booted_at, random);
            }
        }
        state.alive_since = state.base;
        state.began = Some(Instant::now());
        state.frozen = false;
        state.ends_at_batch = None;
        for provider in state.providers.values_mut() {
            // A refusal that was not durable yet is forgotten with the process.
            provider.refused_logins = provider.refused_logins.saturating_sub(1);
        }
    }

    /// The process ends here: what its tasks still do changes nothing.
    pub fn freeze(&self) {
        let mut state = self.lock();
        state.base = state.now();
        state.began = None;
        state.frozen = true;
        self.ended.notify_one();
    }

    /// Resolves when the process has ended, or the history has failed.
    pub async fn frozen(&self) {
        while !self.is_over() {
            self.ended.notified().await;
        }
    }

    fn is_over(&self) -> bool {
        let state = self.lock();
        state.frozen || state.failure.is_some()
    }

    /// Lets time pass; never returns in a process that has ended meanwhile.
    pub async fn pass(&self, milliseconds: u64) {
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        self.live().await;
    }

    /// Never returns in a process that has ended, or in a history that has failed.
    pub async fn live(&self) {
        if self.is_over() {
            self.ended.notify_one();
            std::future::pending::<()>().await;
        }
    }

    /// Holds on to the first thing that must not be.
    pub fn check(&self, result: Result<(), String>) {
        self.lock().check(result);
    }

    /// Something happened.
    pub fn note(&self, what: &str) {
        self.lock().note(what);
    }
}
