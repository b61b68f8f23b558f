//! One process: from opening its queue to its end, polite or not.

use crate::book::{Found, Unknown};
use crate::line::{FINAL_PATIENCE, Network};
use crate::office::{self, Office};
use crate::plan::{Event, HOUR, MINUTE, Plan, Submission};
use crate::world::{State, World};
use anyhow::{Context, Result};
use bytes::Bytes;
use mail::channel::ChannelMove;
use mail::classify::Rules;
use mail::limits::Limit;
use mail::retry::RetrySchedule;
use mail::steady::Heartbeat;
use mail::{BodyType, ChannelId, ChannelState, Envelope, MessageId, Move, Recipient, RecipientState, Surface, Timestamp};
use sendero::scheduler::{Parts, Scheduler};
use smtp::{ForwardPath, Mailbox, ReversePath};
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use store::disk::fake::{FakeDisk, Fault, Loss};
use store::embedded::Options;
use store::embedded::stepped::{MemoryIndex, Stepped};
use store::{AcceptError, Idempotency, NewMessage, Queue, Steer};
use web::gateway::LaneWait;

/// Everything is looked at this often.
const LOOK: u64 = 10 * MINUTE;
/// Due mail of an open channel does not lie longer than this without anything being tried.
const LIES: u64 = 3 * MINUTE;
/// From the end of all trouble until the last recipient has its fate: the longest retry and the
/// longest pause of a channel, one after the other, and some.
const SETTLES: u64 = 48 * HOUR;

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
    let scheduler = Scheduler::start(parts(world, office, &queue));
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
        cache_bytes: plan.cache_bytes,
        ask: Box::new(move |channel| asks.contains(&channel)),
        ..Options::new("simulated", world.wall())
    };
    Stepped::open(disk.clone(), index, options).context("the queue does not open")
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
    let result = state.book.restarted(unknown, found);
    match result {
        Ok(open) => state.note(&format!("the process begins; {open} messages were open")),
        Err(why) => state.check(Err(why)),
    }
    let result = state.book.compare(&queue.totals());
    state.check(result);
}

fn parts(world: &Arc<World>, office: &Office, queue: &Arc<Stepped>) -> Parts {
    let (steady, wall, chance) = (Arc::clone(world), Arc::clone(world), Arc::clone(world));
    Parts {
        queue: Arc::clone(queue) as Arc<dyn Queue>,
        directory: Arc::clone(&office.directory),
        smarthosts: Arc::new(Network(Arc::clone(world))),
        capture: Arc::new(delivery::CaptureTransport),
        schedule: RetrySchedule::default(),
        rules: Arc::new(Rules::default()),
        steady: Arc::new(move || steady.steady()),
        wall: Arc::new(move || wall.wall()),
        jitter: Arc::new(move || chance.lock().random.swing()),
        confirm_login_after: Duration::from_secs(30),
        keep_idle: Duration::from_secs(20),
        hash_addresses: false,
        hostname: "gateway.example.com".into(),
        notices: None,
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
            if let Some((heartbeat, leapt)) = beat {
                if leapt {
                    self.world.note("the steady clock has leapt");
                    self.scheduler.clock_leapt();
                }
                // A full disk is tried again with the next one.
                let _ = self.queue.beat(heartbeat).await;
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
                while let Some(batch) = self.queue.step() {
                    let mut state = self.world.lock();
                    let result = state.book.apply(&batch.durable);
                    state.check(result);
                    drop(state);
                    self.queue.answer(batch);
                }
                return Ok(Some(Ending::Stopped { down }));
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
                let password = {
                    let mut state = self.world.lock();
                    state.provider(channel).refused_logins = 0;
                    state.provider(channel).password
                };
                self.office.set_password(channel, password, wall)?;
            }
            Event::Connections(channel, count) => {
                // Whoever changes the row may have mended it: it is tried afresh.
                self.world.lock().provider(channel).refused_logins = 0;
                self.office.set_connections(channel, count, wall)?;
            }
            Event::Steer(to) => self.steer(to),
        }
        Ok(None)
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

    fn resume(self: &Arc<Self>, channel: ChannelId) {
        self.world.lock().provider(channel).refused_logins = 0;
        let life = Arc::clone(self);
        tokio::spawn(async move { life.scheduler.steer(channel, ChannelMove::Resume).await });
    }

    /// Somebody steers one of the open messages.
    fn steer(self: &Arc<Self>, to: Move) {
        let chosen = {
            let mut state = self.world.lock();
            let is_open = |message: &crate::book::Message| {
                let mut standings = message.recipients.iter().filter_map(|recipient| recipient.standing);
                standings.any(|standing| !standing.state.is_final())
            };
            let open: Vec<MessageId> = state.book.messages().filter(|(_, message)| is_open(message)).map(|(id, _)| *id).collect();
            if open.is_empty() { None } else { Some(state.random.pick(&open)) }
        };
        if let Some(message) = chosen {
            tokio::spawn(Arc::clone(self).steer_one(message, to));
        }
    }

    async fn steer_one(self: Arc<Self>, message: MessageId, to: Move) {
        let order =
            Steer { message, recipients: Vec::new(), to, channel: None, by: "ana@example.com".into(), at: self.world.wall() };
        let answer = self.queue.steer(order).await;
        self.world.live().await;
        let mut state = self.world.lock();
        state.note(&format!("{to:?} {message}: {answer:?}"));
        let Ok(moved) = answer else { return };
        if to == Move::Release && !moved.is_empty() {
            drop(state);
            if let Ok(Some(view)) = self.queue.message(message) {
                self.scheduler.released(view.channel);
            }
            return;
        }
        let known = state.book.message(message).cloned();
        for index in moved {
            let standing = known.as_ref().and_then(|known| known.recipients.get(index as usize)?.standing);
            let cancelled = standing.is_some_and(|standing| standing.state == RecipientState::Cancelled);
            if to == Move::Cancel && !cancelled {
                state.check(Err(format!("{message} recipient {index} was cancelled, and is {standing:?}")));
            }
        }
    }

    /// Submits until it is safe.
    async fn submit(self: Arc<Self>, submission: Submission) {
        loop {
            let message = self.message(&submission);
            let id = message.id;
            let asks = self
                .office
                .directory
                .directory()
                .channel(submission.channel)
                .is_some_and(|row| row.on_uncertain == mail::channel::OnUncertain::Ask);
            self.world.lock().book.submitted(id, submission.recipients, asks);
            let answer = self.queue.accept(vec![message]).await;
            self.world.live().await;
            match answer {
                Ok(accepted) => {
                    let mut state = self.world.lock();
                    state.note(&format!("submission {} is {accepted:?}", submission.number));
                    state.waiting.remove(&submission.number);
                    for one in accepted {
                        let result = state.book.promised(one.id);
                        state.check(result);
                    }
                    return;
                }
                Err(AcceptError::NoSpace(_)) => self.world.pass(20_000).await,
                Err(AcceptError::Closed(_)) => return,
                Err(error @ AcceptError::KeyReused { .. }) => return self.world.check(Err(error.to_string())),
            }
        }
    }

    fn message(&self, submission: &Submission) -> NewMessage {
        let (at, steady) = (self.world.wall(), self.world.steady());
        let mut random = [0; 10];
        random[..8].copy_from_slice(&self.world.lock().random.number().to_be_bytes());
        let from = office::address(submission.person);
        let recipient = |place: u32| {
            let path = ForwardPath::parse(&format!("<r{}.{place}@example.org>", submission.number));
            Recipient::new(path.expect("the addresses here are addresses"))
        };
        let text = "x".repeat(submission.size);
        NewMessage {
            id: MessageId::new(at, random),
            at,
            due: submission.delay.map_or(steady, |delay| steady.plus(Duration::from_millis(delay))),
            person: self.office.person(submission.person),
            team: None,
            token: None,
            surface: Surface::Smtp,
            channel: submission.channel,
            lane: submission.lane,
            lane_reason: String::new(),
            retry_of: None,
            suppressed: Vec::new(),
            envelope: Envelope {
                reverse_path: ReversePath::Mailbox(Mailbox::parse(&from).expect("the addresses here are addresses")),
                recipients: (0..submission.recipients).map(recipient).collect(),
                body: BodyType::SevenBit,
                smtputf8: false,
                ret: None,
                envid: None,
            },
            from: from.clone(),
            subject: format!("number {}", submission.number),
            message_id: format!("{}@example.com", submission.number),
            tags: vec![],
            idempotency: submission.keyed.then(|| Idempotency {
                key: submission.number.to_string(),
                fingerprint: [submission.number as u8; 32],
                parts: submission.number.is_multiple_of(2),
            }),
            scheduled_at: submission.delay.map(|delay| at.plus(Duration::from_millis(delay))),
            expires_at: None,
            body: Bytes::from(format!("From: {from}\r\nSubject: number {}\r\n\r\n{text}\r\n", submission.number)),
        }
    }

    /// The trouble is over: everything gets its fate in time.
    async fn settle(self: &Arc<Self>, plan: &Plan) -> Result<Ending> {
        let began = self.world.lock().now().max(plan.trouble_ends);
        loop {
            let now = self.world.lock().now();
            if now >= plan.trouble_ends {
                self.mend_everything(plan)?;
            }
            self.look();
            let done = {
                let state = self.world.lock();
                state.waiting.is_empty() && state.book.open() == 0 && now >= plan.trouble_ends
            };
            if done {
                return Ok(Ending::Finished);
            }
            if now > began + SETTLES + 3 * plan.drain {
                let unfinished = self.world.lock().book.ended().err().unwrap_or_else(|| "a submission".into());
                self.world.check(Err(format!("liveness: not finished long after all trouble has ended: {unfinished}")));
                return Ok(Ending::Failed);
            }
            self.world.pass(LOOK).await;
        }
    }

    fn mend_everything(self: &Arc<Self>, plan: &Plan) -> Result<()> {
        self.disk.fail(Fault::None);
        for channel in &plan.channels {
            let password = self.world.lock().provider(channel.id).password;
            self.office.set_password(channel.id, password, self.world.wall())?;
            match self.scheduler.channel_state(channel.id) {
                ChannelState::Paused { .. } | ChannelState::NeedsAttention { .. } => self.resume(channel.id),
                _ if self.keeps_back(channel.id) => self.resume(channel.id),
                _ => {}
            }
        }
        let held: Vec<MessageId> = {
            let state = self.world.lock();
            let is_held = |message: &crate::book::Message| {
                let mut standings = message.recipients.iter().filter_map(|recipient| recipient.standing);
                standings.any(|standing| standing.state == RecipientState::Held)
            };
            state.book.messages().filter(|(_, message)| is_held(message)).map(|(id, _)| *id).collect()
        };
        for message in held {
            tokio::spawn(Arc::clone(self).steer_one(message, Move::Release));
        }
        Ok(())
    }

    /// The channel keeps mail back until a person acts.
    fn keeps_back(&self, channel: ChannelId) -> bool {
        let outlook = self.scheduler.outlook(channel);
        !outlook.paused_people.is_empty() || !outlook.refused_froms.is_empty()
    }

    /// What a channel is held to.
    fn limits(&self, channel: ChannelId) -> impl Iterator<Item = Limit> + use<> {
        let directory = self.office.directory.directory();
        directory.channel(channel).map(|row| row.limits.clone()).unwrap_or_default().into_iter()
    }

    /// Looks at everything that is open.
    fn look(&self) {
        let (steady, now) = (self.world.steady(), self.world.lock().now());
        let channels: Vec<_> = self.world.lock().providers.keys().copied().collect();
        for channel in channels {
            let health = self.scheduler.channel_state(channel);
            let quiet_since = {
                let mut state = self.world.lock();
                state.alive_since.max(state.provider(channel).spoken_to)
            };
            // A lane that was found waiting for room is looked at again when the room is there.
            let window = self.limits(channel).map(|limit| limit.window.as_millis() as u64 * 1_001 / 1_000).max().unwrap_or(0);
            let since = Timestamp(steady.0 - (LIES + window) as i64);
            if now < quiet_since + LIES + window + FINAL_PATIENCE || health.open_at(since).is_err() || self.keeps_back(channel) {
                continue;
            }
            let (lanes, overdue) = (self.scheduler.outlook(channel).lanes, self.queue.overdue(channel, since, 1));
            let waits = |lane: &LaneWait| lane.until.is_none_or(|until| until > since);
            if !overdue.is_empty() && !lanes.iter().flatten().any(waits) {
                let name = office::name(channel);
                let why = format!("liveness: {overdue:?} of {name} ({health:?}, {lanes:?}) is due and nothing is tried");
                self.world.check(Err(why));
            }
        }
        self.explain(steady);
    }

    /// P7: every open recipient waits for something that ends.
    fn explain(&self, wall: Timestamp) {
        let open = self.queue.open_recipients();
        for (id, _) in open.iter().take(8) {
            let Ok(Some(view)) = self.queue.message(*id) else {
                self.world.check(Err(format!("{id} is open and is not found")));
                continue;
            };
            let outlook = self.scheduler.outlook(view.channel);
            let health = outlook.state.clone();
            let place = self
                .queue
                .ahead(view.channel, &[*id])
                .pop()
                .map(|(_, lane, ahead)| web::waiting::Place { ahead, starts: self.scheduler.forecast(view.channel, lane, ahead) });
            let mail = web::waiting::Mail { person: view.person, from: &view.from, lane: view.lane, place };
            let clocks = web::clocks::Clocks { wall, steady: wall };
            let way = web::waiting::Way { name: office::name(view.channel), outlook, clocks, words: true };
            for recipient in view.recipients.iter().filter(|recipient| !recipient.state.is_final()) {
                let reason = web::waiting::of_recipient(recipient, &mail, &way);
                let acts = |reason: &mail::WaitingOn| {
                    reason.next_try.is_some()
                        || reason.kind == mail::WaitingKind::Person
                        || recipient.state == RecipientState::Held
                        || health.open_at(wall) == Err(None)
                };
                if !reason.as_ref().is_some_and(acts) {
                    self.world.check(Err(format!("P7: {id} recipient {} waits for {reason:?}", recipient.index)));
                }
            }
        }
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
