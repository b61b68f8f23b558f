//! The loop between store and delivery: who is handed over when, and by which connection.
//!
//! Each channel with due mail has workers, at most as many as its cap on connections. A worker is one
//! connection: it leases a message, hands it over, and takes the outcome along in the record that
//! announces its next one. Nothing polls: the store says when mail is due, a parked channel costs one
//! timer, and an idle worker is woken by the message that needs it.

mod health;
mod report;
mod reports;
#[cfg(test)]
mod tests;
mod timers;
mod way;
mod worker;

use self::timers::Timers;
use self::way::{Plan, Way};
use crate::settings::Notices;
use delivery::Transport;
use mail::channel::ChannelMove;
use mail::retry::RetrySchedule;
use mail::{ChannelId, ChannelState, Timestamp};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use store::Queue;
use store::directory::DirectoryStore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

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
    /// The wall clock.
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
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
    ways: RwLock<HashMap<ChannelId, Arc<Way>>>,
    durable_states: BTreeMap<ChannelId, ChannelState>,
    timers: Timers,
    /// Mail accepted before this moment has its permission checked again before it leaves.
    directory_changed: AtomicI64,
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
    #[must_use]
    pub fn start(parts: Parts) -> Self {
        let now = (parts.now)();
        let shared = Arc::new(Shared {
            durable_states: parts.queue.channel_states(),
            ways: RwLock::default(),
            timers: Timers::default(),
            directory_changed: AtomicI64::new(now.0),
            counters: Counters::default(),
            runtime: tokio::runtime::Handle::current(),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            abandon: CancellationToken::new(),
            parts,
        });
        let looping = Arc::clone(&shared);
        shared.tasks.spawn(async move { looping.run_timers().await });
        shared.parts.queue.set_waker(Arc::new(Waker(Arc::clone(&shared))));
        Self(shared)
    }

    /// The directory changed: channels with another endpoint or credential are tried afresh.
    pub fn directory_changed(&self) {
        self.0.directory_changed.store((self.0.parts.now)().0, Ordering::Relaxed);
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
        self.0.move_channel(&way, wish).await;
        self.0.kick(&way, Timestamp(0));
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
    fn due(&self, channel: ChannelId, due: Timestamp) {
        let way = self.0.way(channel);
        self.0.kick(&way, due);
    }
}

impl Shared {
    fn read_ways(&self) -> std::sync::RwLockReadGuard<'_, HashMap<ChannelId, Arc<Way>>> {
        self.ways.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn way(&self, channel: ChannelId) -> Arc<Way> {
        if let Some(way) = self.read_ways().get(&channel) {
            return Arc::clone(way);
        }
        let mut ways = self.ways.write().unwrap_or_else(PoisonError::into_inner);
        let fresh = || {
            let state = self.durable_states.get(&channel).cloned().unwrap_or_default();
            Arc::new(Way::new(channel, self.revised(channel, state)))
        };
        Arc::clone(ways.entry(channel).or_insert_with(fresh))
    }

    /// The state to begin with: what a new revision of the row has made obsolete is forgotten.
    fn revised(&self, channel: ChannelId, state: ChannelState) -> ChannelState {
        let directory = self.parts.directory.directory();
        let Some(row) = directory.channel(channel) else {
            return ChannelState::Disabled;
        };
        let moved = match &state {
            _ if row.disabled => state.after(ChannelMove::Disable),
            ChannelState::Disabled => state.after(ChannelMove::Enable),
            ChannelState::NeedsAttention { revision, .. } if *revision != row.revision => state.after(ChannelMove::Changed),
            _ => None,
        };
        moved.unwrap_or(state)
    }

    fn cap(&self, channel: ChannelId) -> u32 {
        self.parts.directory.directory().channel(channel).map_or(0, |row| row.caps.connections)
    }

    /// Sees to it that mail which is due at `due` finds a worker then.
    fn kick(self: &Arc<Self>, way: &Arc<Way>, due: Timestamp) {
        if self.stopping.is_cancelled() {
            return;
        }
        match way.plan(due, (self.parts.now)(), || self.cap(way.channel)) {
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
            let now = (self.parts.now)();
            for channel in self.timers.take_due(now) {
                let way = self.way(channel);
                way.timer_fired();
                self.kick(&way, Timestamp(0));
            }
            tokio::select! {
                () = self.timers.wait(now) => {}
                () = self.stopping.cancelled() => return,
            }
        }
    }
}
