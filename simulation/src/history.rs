//! A whole history: one process after the other on the same disk, until everything has its fate.

use crate::book::Unknown;
use crate::life::{self, Ending, Place};
use crate::office::Office;
use crate::plan::Plan;
use crate::random::Random;
use crate::world::World;
use anyhow::{Result, anyhow};
use mail::RecipientState;
use sendero::scheduler::Scheduler;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use store::disk::fake::{FakeDisk, Loss};
use store::embedded::stepped::MemoryIndex;

/// What came of a history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The same for the same seed.
    pub digest: u64,
    /// Milliseconds of virtual time.
    pub lasted: u64,
    /// Processes.
    pub lives: u64,
    /// Recipients accepted.
    pub accepted: u64,
    /// Recipients sent.
    pub sent: u64,
    /// Recipients that a next hop has twice, each with its excuse.
    pub doubles: u64,
}

/// A history in which something happened that must not.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// What happened.
    pub why: String,
    /// The last lines of its trace.
    pub tail: Vec<String>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for line in &self.tail {
            writeln!(f, "  {line}")?;
        }
        write!(f, "seed {}: {}", self.seed, self.why)
    }
}

/// Runs the history of a seed; `print` shows its trace. On a thread of its own: a runtime is made for each process.
///
/// # Errors
/// Something happened that must not.
pub fn run(seed: u64, print: bool) -> Result<Report, Failure> {
    let mut random = Random::new(seed);
    let plan = Plan::new(&mut random);
    let world = Arc::new(World::new(random, &plan, print));
    for channel in &plan.channels {
        world.note(&format!("{channel:?}"));
    }
    let lived = History::new(&world, &plan).and_then(|mut history| history.run());
    let mut state = world.lock();
    let why = lived.as_ref().err().map(|error| format!("{error:#}")).or_else(|| state.failure.clone());
    let why = why.or_else(|| state.book.ended().err());
    if let Some(why) = why {
        return Err(Failure { seed, why, tail: state.trace.tail() });
    }
    state.note("the end");
    Ok(Report {
        digest: state.trace.digest(),
        lasted: state.now(),
        lives: lived.unwrap_or_default(),
        accepted: state.book.accepted(),
        sent: state.book.count(RecipientState::Sent),
        doubles: state.book.doubles,
    })
}

struct History<'a> {
    world: Arc<World>,
    plan: &'a Plan,
    office: Arc<Office>,
    /// The scheduler that follows the directory at this moment.
    scheduler: Arc<Mutex<Option<Scheduler>>>,
    disk: FakeDisk,
    index: MemoryIndex,
    /// An index from before.
    older: Option<MemoryIndex>,
    /// As [`Plan::apart`].
    apart: Random,
    unknown: Unknown,
}

impl<'a> History<'a> {
    fn new(world: &Arc<World>, plan: &'a Plan) -> Result<Self> {
        let office = Arc::new(Office::open(plan, world.wall())?);
        let scheduler: Arc<Mutex<Option<Scheduler>>> = Arc::default();
        let follower = Arc::clone(&scheduler);
        office.directory.on_change(move || {
            let scheduler = follower.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(scheduler) = scheduler {
                scheduler.directory_changed();
            }
        });
        Ok(Self {
            world: Arc::clone(world),
            plan,
            office,
            scheduler,
            disk: FakeDisk::default(),
            index: MemoryIndex::default(),
            older: Some(MemoryIndex::default()),
            apart: plan.apart.clone(),
            unknown: Unknown::Nothing,
        })
    }

    /// Returns how many processes it took.
    fn run(&mut self) -> Result<u64> {
        let mut events: VecDeque<_> = self.plan.events.iter().cloned().collect();
        let (mut lives, mut pause, mut boots) = (0, 0, false);
        loop {
            lives += 1;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
            let life = async {
                self.world.begin(pause, boots);
                let place = Place {
                    world: &self.world,
                    office: &self.office,
                    plan: self.plan,
                    scheduler: &self.scheduler,
                    disk: self.disk.clone(),
                    index: &self.index,
                    unknown: &self.unknown,
                };
                life::live(place, &mut events).await
            };
            let ending = runtime.block_on(life)?;
            drop(runtime);
            match ending {
                Ending::Finished | Ending::Failed => return Ok(lives),
                Ending::Stopped { down } => {
                    (pause, boots) = (down, false);
                    self.unknown = Unknown::Nothing;
                    self.disk = self.disk.after_crash(self.disk.steps(), Loss::Nothing);
                }
                Ending::Crashed { step, loss, unknown, down, reboots } => {
                    (pause, boots) = (down, reboots);
                    self.unknown = unknown;
                    self.disk = self.disk.after_crash(step, loss);
                }
            }
            self.lose_index()?;
            if lives > 100 {
                return Err(anyhow!("a hundred processes are enough"));
            }
        }
    }

    /// The index is found as it was at an earlier moment, as long as no segment was removed, or not at all.
    fn lose_index(&mut self) -> Result<()> {
        let (whole, older, keeps) = {
            let mut state = self.world.lock();
            (!state.segment_removed, state.random.percent(30), state.random.percent(50))
        };
        if !whole {
            self.older = None;
        }
        if older && let Some(index) = self.older.take() {
            self.world.note("the index is an older one");
            self.index = index;
        }
        if keeps && self.older.is_none() && whole {
            self.older = Some(self.index.copy()?);
        }
        let lost = {
            let mut state = self.world.lock();
            let lost = self.apart.percent(10);
            state.history_lost |= lost && state.segment_removed;
            lost
        };
        if lost {
            self.world.note("the index is gone");
            self.index = MemoryIndex::default();
        }
        Ok(())
    }
}
