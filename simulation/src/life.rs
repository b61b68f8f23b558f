//! One process: from opening its queue to its end, polite or not.

mod look;
mod people;

use crate::book::{Found, Unknown};
use crate::fairness::Fairness;
use crate::line::Network;
use crate::office::Office;
use crate::plan::{Event, MINUTE, Plan, Submission};
use crate::world::{State, World};
use anyhow::{Context, Result};
use mail::MessageId;
use mail::channel::ChannelMove;
use mail::classify::Rules;
use mail::retry::RetrySchedule;
use mail::steady::Calendar;
use mail::steady::Heartbeat;
use sendero::scheduler::{Parts, Scheduler};
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use store::Queue;
use store::disk::fake::{FakeDisk, Fault, Loss};
use store::embedded::Options;
use store::embedded::stepped::{MemoryIndex, Stepped};

/// Everything is looked at this often.
const LOOK: u64 = 10 * MINUTE;

/// How a process ended.
pub enum Ending {
    /// Everything has its fate.
    Finished,
    /// It was killed, or the power went, after so many steps of the disk.
    Crashed {
        /// Where the disk is cut.
        step: usize,
        /// What is there of what was not synced.
        loss: Loss,
        /// What may be there or not.
        unknown: Unknown,
        /// Milliseconds until it is started again.
        down: u64,
        /// The machine boots again.
        reboots: bool,
    },
    /// It was stopped.
    Stopped {
        /// Milliseconds until it is started again.
        down: u64,
    },
    /// Something must not be.
    Failed,
}

/// What a process is made of.
pub struct Life {
    world: Arc<World>,
    office: Arc<Office>,
    queue: Arc<Stepped>,
    scheduler: Scheduler,
    disk: FakeDisk,
    ending: Mutex<Option<Ending>>,
}

/// What a process is started with, and what it leaves to the next one.
pub struct Place<'a> {
    /// Its world.
    pub world: &'a Arc<World>,
    /// Its directory.
    pub office: &'a Arc<Office>,
    /// What the history is to be.
    pub plan: &'a Plan,
    /// The scheduler that follows the directory.
    pub scheduler: &'a Mutex<Option<Scheduler>>,
    /// The disk as it was found.
    pub disk: FakeDisk,
    /// The index as it was found.
    pub index: &'a MemoryIndex,
    /// What may be on the disk or not.
    pub unknown: &'a Unknown,
}

/// Lives until the events are over and everything has its fate, or until the process ends. In a runtime of its own.
///
/// # Errors
/// The queue does not open.
pub async fn live(place: Place<'_>, events: &mut VecDeque<(u64, Event)>) -> Result<Ending> {
    let Place { world, office, plan, disk, index, .. } = place;
    let queue = Arc::new(open(world, plan, &disk, index)?);
    recovered(world, &queue, place.unknown);
    watch(world, &queue, plan);
    let scheduler = Scheduler::start(parts(world, office, &queue))?;
    *place.scheduler.lock().unwrap_or_else(PoisonError::into_inner) = Some(scheduler.clone());
    let life = Arc::new(Life {
        world: Arc::clone(world),
        office: Arc::clone(office),
        queue: Arc::clone(&queue),
        scheduler,
        disk,
        ending: Mutex::default(),
    });
    tokio::spawn(Arc::clone(&life).write(plan.sync_takes));
    tokio::spawn(Arc::clone(&life).keep_time(plan.beats));
    let waiting: Vec<Submission> = world.lock().waiting.values().cloned().collect();
    for submission in waiting {
        tokio::spawn(Arc::clone(&life).submit(submission));
    }
    let ending = tokio::select! {
        biased;
        () = world.frozen() => life.take_ending().unwrap_or(Ending::Failed),
        ending = life.events(plan, events) => ending?,
    };
    let workers = life.scheduler.counters().workers.load(Ordering::Relaxed);
    world.note(&format!("the process ends with {workers} workers"));
    world.freeze();
    queue.abandon();
    *place.scheduler.lock().unwrap_or_else(PoisonError::into_inner) = None;
    Ok(if world.lock().failure.is_some() { Ending::Failed } else { ending })
}

fn open(world: &Arc<World>, plan: &Plan, disk: &FakeDisk, index: &MemoryIndex) -> Result<Stepped> {
    let asks: Vec<_> = plan.channels.iter().filter(|channel| channel.asks).map(|channel| channel.id).collect();
    let clock = Arc::clone(world);
    let steady = move |last: Option<&Heartbeat>| {
        let mut state = clock.lock();
        let now = state.now();
        state.machine.resume(last, now)
    };
    let options = Options {
        steady: Box::new(steady),
        min_free: 0,
        segment_size: plan.segment_size,
        keep_bodies: plan.keep_bodies,
        cache_bytes: plan.cache_bytes,
        ask: Box::new(move |channel| asks.contains(&channel)),
        ..Options::new("simulated", world.wall())
    };
    Stepped::open(disk.clone(), index, options).context("the queue does not open")
}

/// From now on whoever is served is held against who waits.
fn watch(world: &Arc<World>, queue: &Stepped, plan: &Plan) {
    world.lock().fairness = Fairness::new(plan.unhindered());
    let world = Arc::clone(world);
    queue.watch(move |served| {
        let mut state = world.lock();
        let result = state.fairness.served(served);
        state.check(result);
    });
}

/// Holds what recovery found against what must be there.
fn recovered(world: &World, queue: &Stepped, unknown: &Unknown) {
    let findings = queue.findings();
    let harmed = !findings.damaged.is_empty() || findings.missing_segments > 0;
    world.check(if harmed { Err(format!("P1: recovery found {findings:?}")) } else { Ok(()) });
    let found = |id: MessageId| -> Result<Option<Vec<Found>>, String> {
        let view = queue.message(id).map_err(|error| error.to_string())?;
        let row = |recipient: store::RecipientView| (recipient.state, recipient.attempts, recipient.doubts);
        Ok(view.map(|view| view.recipients.into_iter().map(row).collect()))
    };
    let mut state = world.lock();
    let forgets = state.history_lost;
    let result = state.book.restarted(unknown, forgets, found);
    match result {
        Ok(open) => state.note(&format!("the process begins; {open} messages were open")),
        Err(why) => state.check(Err(why)),
    }
    let result = state.book.compare(&queue.totals());
    state.check(result);
}

fn parts(world: &Arc<World>, office: &Office, queue: &Arc<Stepped>) -> Parts {
    let (steady, wall, calendar, chance) = (Arc::clone(world), Arc::clone(world), Arc::clone(world), Arc::clone(world));
    Parts {
        queue: Arc::clone(queue) as Arc<dyn Queue>,
        directory: Arc::clone(&office.directory),
        smarthosts: Arc::new(Network(Arc::clone(world))),
        capture: Arc::new(delivery::CaptureTransport),
        schedule: RetrySchedule::default(),
        rules: Arc::new(Rules::default()),
        steady: Arc::new(move || steady.steady()),
        wall: Arc::new(move || wall.wall()),
        calendar: Arc::new(move || Calendar::sure(calendar.wall())),
        jitter: Arc::new(move || chance.lock().random.swing()),
        confirm_login_after: Duration::from_secs(30),
        keep_idle: Duration::from_secs(20),
        hash_addresses: false,
        hostname: "gateway.example.com".into(),
        notices: None,
        announced: Arc::default(),
    }
}

impl Life {
    fn take_ending(&self) -> Option<Ending> {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn end(&self, ending: Ending) {
        *self.ending.lock().unwrap_or_else(PoisonError::into_inner) = Some(ending);
        self.world.freeze();
    }

    /// The writer: what waits becomes a batch, after as long as a sync takes.
    async fn write(self: Arc<Self>, sync_takes: u64) {
        loop {
            if self.queue.owes() {
                let _ = tokio::time::timeout(Duration::from_secs(1), self.queue.submitted()).await;
            } else {
                self.queue.submitted().await;
            }
            let takes = {
                let mut state = self.world.lock();
                state.random.below(sync_takes + 1)
            };
            self.world.pass(takes).await;
            if !self.write_batch() {
                return std::future::pending().await;
            }
        }
    }

    /// Writes what waits; false when the process ends here.
    fn write_batch(&self) -> bool {
        let Some(batch) = self.queue.step() else { return true };
        let mut state = self.world.lock();
        state.note(&format!("batch of {}", batch.durable.len()));
        if let Some((down, reboots)) = dies(&mut state) {
            let (from, to) = (*batch.disk_steps.start() as u64, *batch.disk_steps.end() as u64);
            let step = state.random.between(from, to) as usize;
            let loss = loss(&mut state);
            state.note(&format!("the process dies at step {step} of {from} to {to}, {loss:?}"));
            drop(state);
            let unknown = if batch.failed { Unknown::Anything } else { Unknown::Batch(batch.durable) };
            self.end(Ending::Crashed { step, loss, unknown, down, reboots });
            return false;
        }
        let result = state.book.apply(&batch.durable).and_then(|()| state.book.compare(&self.queue.totals()));
        state.check(result);
        drop(state);
        if !self.queue.answer(batch) {
            let step = self.disk.steps();
            let loss = loss(&mut self.world.lock());
            self.world.note("the disk has failed, and the process ends");
            self.end(Ending::Crashed { step, loss, unknown: Unknown::Anything, down: 1_000, reboots: false });
            return false;
        }
        self.follow();
        true
    }

    /// Writes the clocks down, and forgets old spending now and then.
    async fn keep_time(self: Arc<Self>, beats: u64) {
        loop {
            let (beat, tidies) = {
                let mut state = self.world.lock();
                let now = state.now();
                let ahead = state.machine.ahead(now);
                state.check(if ahead > 0 { Err(format!("the steady clock is {ahead} ms ahead")) } else { Ok(()) });
                (state.machine.beat(now), state.random.percent(5))
            };
            if let Some((heartbeat, credit)) = beat {
                // A full disk is tried again with the next one.
                if self.queue.beat(heartbeat, credit).await.is_ok() {
                    self.world.lock().machine.written(&heartbeat);
                    if let Some(credit) = credit {
                        self.world.note(&format!("{credit:?}"));
                        self.scheduler.credited(&credit);
                    }
                }
                self.world.live().await;
            }
            if tidies {
                self.scheduler.tidy();
            }
            self.world.pass(beats).await;
        }
    }

    /// The index follows when it has time.
    fn follow(&self) {
        let (follows, tidies) = {
            let mut state = self.world.lock();
            (state.random.percent(20), state.random.percent(2))
        };
        let result = if follows { self.queue.follow() } else { Ok(()) };
        self.world.check(result.map_err(|error| error.to_string()));
        if tidies && self.queue.tidy() {
            let mut state = self.world.lock();
            state.note("a segment was removed");
            state.segment_removed = true;
        }
    }

    async fn events(self: &Arc<Self>, plan: &Plan, events: &mut VecDeque<(u64, Event)>) -> Result<Ending> {
        let mut looked = self.world.lock().now();
        while let Some((at, event)) = events.front().cloned() {
            let now = self.world.lock().now();
            if at > now {
                self.world.pass((at - now).min(LOOK)).await;
                self.look_again(&mut looked);
                continue;
            }
            events.pop_front();
            if let Some(ending) = self.happens(event).await? {
                return Ok(ending);
            }
        }
        self.settle(plan).await
    }

    fn look_again(&self, looked: &mut u64) {
        let now = self.world.lock().now();
        if now >= *looked + LOOK {
            *looked = now;
            self.look();
        }
    }

    async fn happens(self: &Arc<Self>, event: Event) -> Result<Option<Ending>> {
        let wall = self.world.wall();
        if !matches!(event, Event::Submit(_)) {
            self.world.note(&format!("{event:?}"));
        }
        match event {
            Event::Submit(submission) => {
                self.world.lock().waiting.insert(submission.number, submission.clone());
                tokio::spawn(Arc::clone(self).submit(submission));
            }
            Event::Crash { batches, down, reboots } => return Ok(self.crash(batches, down, reboots)),
            Event::SetWall(wrong_by) => self.world.lock().machine.set_wall(wrong_by),
            Event::Stop { grace, down } => {
                self.world.note("the process is stopped");
                self.scheduler.stop(Duration::from_millis(grace)).await;
                return Ok(Some(self.close(down)));
            }
            Event::DiskFull => self.disk.fail(Fault::NoSpace),
            Event::DiskRoom => self.disk.fail(Fault::None),
            Event::DiskBroken { at_sync } => self.disk.fail(if at_sync { Fault::Sync } else { Fault::Write }),
            Event::Pause(channel) => {
                let (life, by) = (Arc::clone(self), "ana@example.com".to_owned());
                tokio::spawn(async move { life.scheduler.steer(channel, ChannelMove::Pause { by }).await });
            }
            Event::Resume(channel) => self.resume(channel),
            Event::Password(channel) => {
                let mut state = self.world.lock();
                let provider = state.provider(channel);
                provider.password += 1;
                provider.refused_logins = 0;
            }
            Event::Mend(channel) => {
                let password = self.tried_afresh(channel);
                self.office.set_password(channel, password, wall)?;
            }
            Event::Connections(channel, count) => {
                self.tried_afresh(channel);
                self.office.set_connections(channel, count, wall)?;
            }
            Event::Steer(to) => self.steer(to),
        }
        Ok(None)
    }

    /// Whoever changes the row may have mended it: from this moment on it is tried afresh. Its present password.
    fn tried_afresh(&self, channel: mail::ChannelId) -> u32 {
        let mut state = self.world.lock();
        let now = state.now();
        let provider = state.provider(channel);
        provider.refused_logins = 0;
        provider.spoken_to = now;
        provider.password
    }

    /// Writes what still waits, and closes.
    fn close(&self, down: u64) -> Ending {
        while let Some(batch) = self.queue.step() {
            let mut state = self.world.lock();
            let result = state.book.apply(&batch.durable);
            state.check(result);
            drop(state);
            if !self.queue.answer(batch) {
                let loss = loss(&mut self.world.lock());
                return Ending::Crashed { step: self.disk.steps(), loss, unknown: Unknown::Anything, down, reboots: false };
            }
        }
        Ending::Stopped { down }
    }

    fn crash(&self, batches: u64, down: u64, reboots: bool) -> Option<Ending> {
        let mut state = self.world.lock();
        if batches > 0 {
            state.ends_at_batch = Some((batches, down, reboots));
            return None;
        }
        let loss = loss(&mut state);
        state.note(&format!("the process dies between batches, {loss:?}"));
        Some(Ending::Crashed { step: self.disk.steps(), loss, unknown: Unknown::Nothing, down, reboots })
    }
}

/// Milliseconds until it is started again, when the process ends at this batch, and whether in a new boot.
fn dies(state: &mut State) -> Option<(u64, bool)> {
    let (left, down, reboots) = state.ends_at_batch.as_mut()?;
    *left = left.saturating_sub(1);
    (*left == 0).then_some((*down, *reboots))
}

fn loss(state: &mut State) -> Loss {
    match state.random.below(3) {
        0 => Loss::Random(state.random.number()),
        1 => Loss::Nothing,
        _ => {
            let losses = Loss::ALL;
            state.random.pick(&losses)
        }
    }
}
