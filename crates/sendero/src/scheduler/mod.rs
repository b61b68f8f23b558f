//! The loop between store and delivery: who is handed over when, and by which connection.
//!
//! Each channel with due mail has workers, at most as many as its cap on connections. A worker is one
//! connection: it leases a message, hands it over, and takes the outcome along in the record that
//! announces its next one. Nothing polls: the store says when mail is due, a parked channel costs one
//! timer, and an idle worker is woken by the message that needs it.

mod accounts;
mod announced;
mod books;
mod expiry;
mod health;
mod next;
mod pace;
mod report;
mod reports;
mod senders;
mod suppressed;
mod suspicion;
#[cfg(test)]
mod tests;
mod timers;
mod verdict;
mod way;
mod worker;

pub use self::announced::Announced;
pub use self::suppressed::Suppressed;

use self::accounts::{Account, Accounts};
use self::pace::{Ended, Ticket};
use self::timers::Timers;
use self::way::{Plan, Subject, Way};
use crate::settings::Notices;
use delivery::Transport;
use mail::channel::{ChannelMove, Kept};
use mail::classify::Rules;
use mail::pace::{Ahead, Choice, Lessons, forecast};
use mail::retry::RetrySchedule;
use mail::steady::{Calendar, Credit};
use mail::{Channel, ChannelId, ChannelState, Directory, Lane, MessageId, Timestamp};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use store::directory::DirectoryStore;
use store::{KeptBack, Queue, StoreError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use web::gateway::{FullFrom, LaneWait, LimitUse, Outlook};

/// About how long a transaction takes, for looking ahead.
const TRANSACTION_TAKES: Duration = Duration::from_millis(200);

/// What the scheduler works with.
pub struct Parts {
    /// The queue.
    pub queue: Arc<dyn Queue>,
    /// Who is who, and the channels' credentials.
    pub directory: Arc<DirectoryStore>,
    /// The way out to smarthosts.
    pub smarthosts: Arc<dyn Transport>,
    /// The way out that keeps mail here.
    pub capture: Arc<dyn Transport>,
    /// When deferred mail and unreachable channels are tried again.
    pub schedule: RetrySchedule,
    /// What replies mean.
    pub rules: Arc<Rules>,
    /// The steady clock, on which everything waits.
    pub steady: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// The wall clock, for what people read.
    pub wall: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// The wall clock, for what is scheduled and what expires.
    pub calendar: Arc<dyn Fn() -> Calendar + Send + Sync>,
    /// A random number from -1 to 1.
    pub jitter: Arc<dyn Fn() -> f64 + Send + Sync>,
    /// The wait before a refused login is confirmed by one more try.
    pub confirm_login_after: Duration,
    /// How long an idle connection is kept.
    pub keep_idle: Duration,
    /// Addresses in the delivery log: whole, or hashed.
    pub hash_addresses: bool,
    /// Our name, in reports to submitters.
    pub hostname: String,
    /// How they leave.
    pub notices: Option<Notices>,
    /// What next hops announce is noted here.
    pub announced: Arc<Announced>,
}

/// Hands due mail to the channels.
#[derive(Clone)]
pub struct Scheduler(Arc<Shared>);

/// What was counted since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Transactions begun.
    pub attempts: AtomicU64,
    /// Connections opened.
    pub opened: AtomicU64,
    /// Connections that could not be opened.
    pub open_failures: AtomicU64,
    /// Workers at this moment.
    pub workers: AtomicU64,
}

struct Shared {
    parts: Parts,
    ways: RwLock<BTreeMap<ChannelId, Arc<Way>>>,
    durable_states: BTreeMap<ChannelId, ChannelState>,
    /// The directory that the durable states are about.
    first_directory: Arc<Directory>,
    timers: Timers,
    durable_lessons: BTreeMap<ChannelId, Lessons>,
    durable_kept: BTreeMap<ChannelId, Kept>,
    accounts: Accounts,
    /// Mail accepted before this moment of the wall clock has its permission checked again before it leaves.
    started_at: Timestamp,
    /// The directory has changed since the start: permission is checked again for all mail.
    directory_changed: AtomicBool,
    /// How far the wall clock was ahead of the steady one, in milliseconds, when the queue was told last.
    wall_ahead: AtomicI64,
    /// What was put off while nobody could say whether its time was over, and until when.
    in_doubt: Mutex<BTreeMap<(MessageId, u32), Timestamp>>,
    /// Told when mail came, which may expire.
    mail_came: tokio::sync::Notify,
    counters: Counters,
    runtime: tokio::runtime::Handle,
    tasks: TaskTracker,
    /// No further message is taken.
    stopping: CancellationToken,
    /// Open transactions are given up.
    abandon: CancellationToken,
}

impl Scheduler {
    /// Starts handing over what is due, from now on. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// What accounts have spent cannot be read: no limit could be kept.
    pub fn start(parts: Parts) -> Result<Self, StoreError> {
        let spent = parts.queue.spent()?;
        let shared = Arc::new(Shared {
            durable_states: parts.queue.channel_states(),
            first_directory: parts.directory.directory(),
            ways: RwLock::default(),
            durable_lessons: parts.queue.lessons(),
            durable_kept: parts.queue.kept(),
            accounts: Accounts::new(&parts.directory.directory(), spent),
            timers: Timers::default(),
            started_at: (parts.wall)(),
            directory_changed: AtomicBool::new(false),
            wall_ahead: AtomicI64::new(0),
            in_doubt: Mutex::default(),
            mail_came: tokio::sync::Notify::new(),
            counters: Counters::default(),
            runtime: tokio::runtime::Handle::current(),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            abandon: CancellationToken::new(),
            parts,
        });
        let looping = Arc::clone(&shared);
        shared.tasks.spawn(async move { looping.run_timers().await });
        shared.follow_wall();
        let looking = Arc::clone(&shared);
        shared.tasks.spawn(async move { looking.look_at_the_calendar().await });
        shared.parts.queue.set_waker(Arc::new(Waker(Arc::clone(&shared))));
        Ok(Self(shared))
    }

    /// A channel works: what its next hop announced before keeps no mail out any more.
    pub fn ask_size_again(&self, channel: ChannelId) {
        self.0.parts.announced.forget(channel);
    }

    /// The directory changed: channels with another endpoint or credential are tried afresh.
    pub fn directory_changed(&self) {
        self.0.directory_changed.store(true, Ordering::Relaxed);
        self.0.follow_accounts();
        let ways: Vec<Arc<Way>> = self.0.read_ways().values().map(Arc::clone).collect();
        for way in ways {
            let shared = Arc::clone(&self.0);
            self.0.runtime.spawn(async move { shared.follow_directory(&way).await });
        }
    }

    /// The state of a channel at this moment.
    #[must_use]
    pub fn channel_state(&self, channel: ChannelId) -> ChannelState {
        let known = self.0.read_ways().get(&channel).map(|way| way.health());
        known.or_else(|| self.0.durable_states.get(&channel).cloned()).unwrap_or_default()
    }

    /// A person's wish: pause, resume.
    pub async fn steer(&self, channel: ChannelId, wish: ChannelMove) {
        let way = self.0.way(channel);
        if wish == ChannelMove::Resume {
            self.0.let_go(&way, true, "somebody resumed the channel").await;
        }
        self.0.move_channel(&way, wish).await;
        way.open_gates();
        self.0.kick(&way, None, Timestamp(0));
    }

    /// A person let mail of a channel go on, durably: it has 30 more days, and where the person is in charge, what was
    /// held back there for the channel's sake is tried again.
    pub async fn released(&self, channel: ChannelId, in_charge: bool) {
        let way = self.0.way(channel);
        self.0.let_go(&way, in_charge, "somebody released mail of the channel").await;
        self.0.kick(&way, None, Timestamp(0));
    }

    /// What passed while the machine was off is credited, durably: what was spent before is older than it was thought.
    pub fn credited(&self, credit: &Credit) {
        self.0.accounts.credit(credit);
        self.0.look_again();
    }

    /// Forgets what no window holds any more, here and in the store.
    pub fn tidy(&self) {
        if self.0.follow_accounts() {
            self.0.look_again();
        }
        for (account, before) in self.0.accounts.tidy(self.0.steady()) {
            if let Err(problem) = self.0.parts.queue.forget_spent(&account, before) {
                tracing::warn!(%problem, "old spending was not forgotten");
            }
        }
    }

    /// What the mail of a channel waits for.
    #[must_use]
    pub fn outlook(&self, channel: ChannelId) -> Outlook {
        let (directory, way) = (self.0.parts.directory.directory(), self.0.way(channel));
        let state = way.health();
        let Some(row) = directory.channel(channel) else { return Outlook { state, ..Outlook::default() } };
        let looked = next::look(&self.0, &way, row);
        let now = self.0.steady();
        let mut pace = way.pace();
        let passed = looked.iter().flatten().filter_map(|choice| match choice {
            Choice::PassFrom { from, until, limit, .. } => Some((*from, *until, *limit)),
            Choice::Wait(_) | Choice::Go(_) | Choice::Idle => None,
        });
        let full_froms = passed.chain(pace.full_froms()).map(|(from, until, limit)| FullFrom { from, until, limit }).collect();
        let lanes = looked.map(|choice| match choice {
            Some(Choice::Wait(wait)) => Some(LaneWait { until: wait.until, why: wait.why }),
            Some(Choice::PassFrom { .. } | Choice::Go(_) | Choice::Idle) | None => None,
        });
        let paused_people = pace.kept_back(now);
        let mut limits = Vec::new();
        if let Some(account) = &pace.account {
            let mut ledger = account.ledger();
            let learned = pace.lessons.limit();
            for limit in &pace.terms.limits {
                let one = mail::pace::Units::transaction(1, 1);
                let frees_at = match ledger.free(limit, None, one, 0, now) {
                    mail::pace::Free::At(at) => Some(at),
                    mail::pace::Free::Now | mail::pace::Free::WhenSettled => None,
                };
                limits.push(LimitUse {
                    limit: *limit,
                    used: ledger.used(limit, None, now),
                    frees_at,
                    learned: Some(*limit) == learned && !row.limits.contains(limit),
                });
            }
        }
        Outlook {
            state,
            lanes,
            limits,
            lessons: pace.lessons.clone(),
            connections: pace.terms.caps.connections,
            paused_people,
            full_froms,
            refused_senders: senders::all(&pace.kept),
            down_since: pace.kept.down_since,
        }
    }

    /// People whose mail is kept back, on every channel.
    #[must_use]
    pub fn kept_back(&self) -> KeptBack {
        let ways: Vec<Arc<Way>> = self.0.read_ways().values().map(Arc::clone).collect();
        let of_way = |way: Arc<Way>| way.pace().kept.people.keys().map(|person| (way.channel, *person)).collect::<Vec<_>>();
        ways.into_iter().flat_map(of_way).collect()
    }

    /// When the last of these transactions would start; `None` while the channel is parked without a time, or its
    /// login is to be confirmed first.
    #[must_use]
    pub fn forecast(&self, channel: ChannelId, lane: Lane, ahead: Ahead) -> Option<Timestamp> {
        let (directory, way) = (self.0.parts.directory.directory(), self.0.way(channel));
        let row = directory.channel(channel)?;
        let now = self.0.steady();
        let health = way.health();
        if let ChannelState::LoginRefused { .. } = health {
            // Refused again, it waits for a person.
            return None;
        }
        let begins = match health.open_at(now) {
            Ok(()) => now,
            Err(until) => until?,
        };
        let (terms, ledger) = {
            let mut pace = way.pace();
            pace.follow(row, || self.0.account(row));
            (pace.terms.clone(), pace.account.as_ref().map(|account| account.ledger().clone()).unwrap_or_default())
        };
        Some(forecast(&terms, ledger, lane, ahead, TRANSACTION_TAKES, begins))
    }

    /// What was counted.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// Takes no further message; open transactions may end within `grace`, then they are given up
    /// and what had passed its final dot is recorded as uncertain.
    pub async fn stop(&self, grace: Duration) {
        self.0.stopping.cancel();
        self.0.tasks.close();
        if tokio::time::timeout(grace, self.0.tasks.wait()).await.is_ok() {
            return;
        }
        tracing::warn!(workers = self.0.counters.workers.load(Ordering::Relaxed), "giving up transactions that are still open");
        self.0.abandon.cancel();
        self.0.tasks.wait().await;
    }
}

struct Waker(Arc<Shared>);

impl store::Wake for Waker {
    fn due(&self, channel: ChannelId, lane: Lane, due: Timestamp) {
        let way = self.0.way(channel);
        self.0.kick(&way, Some(lane), due);
        self.0.mail_came.notify_one();
    }
}

impl Shared {
    fn read_ways(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<ChannelId, Arc<Way>>> {
        self.ways.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn way(&self, channel: ChannelId) -> Arc<Way> {
        if let Some(way) = self.read_ways().get(&channel) {
            return Arc::clone(way);
        }
        let mut ways = self.ways.write().unwrap_or_else(PoisonError::into_inner);
        let fresh = || {
            let state = self.durable_states.get(&channel).cloned().unwrap_or_default();
            let lessons = self.durable_lessons.get(&channel).cloned().unwrap_or_default();
            let (state, subject) = self.revised(channel, state);
            let kept = self.durable_kept.get(&channel).cloned().unwrap_or_default();
            let way = Way::new(channel, state.clone(), subject, lessons, kept);
            way.pace().follow_state(&state, self.steady());
            Arc::new(way)
        };
        Arc::clone(ways.entry(channel).or_insert_with(fresh))
    }

    /// The state to begin with, and the row that it is about: what a new one has made obsolete is
    /// forgotten.
    fn revised(&self, channel: ChannelId, state: ChannelState) -> (ChannelState, Subject) {
        let directory = self.parts.directory.directory();
        let Some(row) = directory.channel(channel) else {
            return (ChannelState::Disabled, Subject::default());
        };
        let first = self.first_directory.channel(channel);
        let changed = first.is_some_and(|first| first.revision != row.revision);
        let change = ChannelMove::Changed { other_account: first.is_some_and(|first| first.account() != row.account()) };
        let moved = match &state {
            _ if row.disabled => state.after(ChannelMove::Disable),
            ChannelState::Disabled => state.after(ChannelMove::Enable),
            ChannelState::NeedsAttention { revision, .. } if *revision != row.revision => state.after(change),
            ChannelState::NeedsAttention { .. } => None,
            _ if changed => state.after(change),
            _ => None,
        };
        (moved.unwrap_or(state), Subject::of(row))
    }

    fn steady(&self) -> Timestamp {
        (self.parts.steady)()
    }

    fn wall(&self) -> Timestamp {
        (self.parts.wall)()
    }

    fn account(&self, row: &Channel) -> Arc<Account> {
        self.accounts.of(row, &self.parts.directory.directory())
    }

    /// True when more is kept than before.
    fn follow_accounts(&self) -> bool {
        let (directory, queue) = (self.parts.directory.directory(), &self.parts.queue);
        let followed = self.accounts.follow(&directory, &*self.parts.steady, || queue.spent());
        followed.unwrap_or_else(|problem| {
            tracing::error!(%problem, "what was spent cannot be read: under a longer limit nothing leaves until it can");
            false
        })
    }

    /// Everybody looks again: what was spent, or what is kept of it, is another sum.
    fn look_again(self: &Arc<Self>) {
        let ways: Vec<Arc<Way>> = self.read_ways().values().map(Arc::clone).collect();
        for way in ways {
            way.pace().pass_nobody_by();
            way.open_gates();
            self.kick(&way, None, Timestamp(0));
        }
    }

    fn cap(&self, way: &Way) -> u32 {
        let directory = self.parts.directory.directory();
        directory.channel(way.channel).map_or(0, |row| way.pace().lessons.connections(row.caps.connections))
    }

    /// A transaction is over: its place in the pace is free or grows old, and whoever waited for it looks again.
    fn end(self: &Arc<Self>, way: &Way, ticket: &Ticket, ended: Ended) {
        way.pace().end(ticket, ended);
        way.open_gates();
        for other in ticket.account.as_ref().map(|account| account.others(way.channel)).unwrap_or_default() {
            let other = self.way(other);
            other.pace().account_settled();
            other.open_gates();
            self.kick(&other, None, Timestamp(0));
        }
    }

    /// Sees to it that mail which is due at `due` finds a worker then.
    fn kick(self: &Arc<Self>, way: &Arc<Way>, lane: Option<Lane>, due: Timestamp) {
        if self.stopping.is_cancelled() {
            return;
        }
        match way.plan(due, lane, self.steady(), self.cap(way)) {
            Plan::Nothing => {}
            Plan::Later(at) => self.timers.add(at, way.channel),
            Plan::Spawn => self.spawn_worker(Arc::clone(way)),
        }
    }

    fn spawn_worker(self: &Arc<Self>, way: Arc<Way>) {
        self.counters.workers.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::clone(self);
        self.tasks.spawn_on(
            async move {
                worker::run(&shared, &way).await;
                shared.counters.workers.fetch_sub(1, Ordering::Relaxed);
            },
            &self.runtime,
        );
    }

    async fn run_timers(self: Arc<Self>) {
        loop {
            let now = self.steady();
            for channel in self.timers.take_due(now) {
                let way = self.way(channel);
                self.kick(&way, None, Timestamp(0));
            }
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => return,
                () = self.timers.wait(now) => {}
            }
        }
    }
}
