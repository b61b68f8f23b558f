//! What a provider's replies taught about its limits, and how that is unlearned.

use crate::limits::{Limit, LimitScope, Unit};
use crate::time::Timestamp;
use std::time::Duration;

/// A lesson is relaxed by a step after so long without another one.
const STEP: Duration = Duration::from_secs(600);
/// What a lesson leaves of the pace.
const LEFT: f64 = 0.5;
/// What a step gives back.
const REGAINED: f64 = 1.25;
/// The window in which the pace is lowered.
const WINDOW: Duration = Duration::from_secs(60);

/// A pace that a limit reply taught.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LearnedPace {
    /// Messages a minute from here on.
    pub per_minute: u32,
    /// Messages a minute when the first reply came: there the lesson ends.
    pub before: u32,
    /// When the last reply came.
    pub taught_at: Timestamp,
    /// When it was lowered or relaxed last.
    pub step_at: Timestamp,
    /// The reply.
    pub said: String,
}

/// A cap on connections that a reply taught.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LearnedCap {
    /// Connections from here on.
    pub connections: u32,
    /// Connections before: there the lesson ends.
    pub before: u32,
    /// When the last reply came.
    pub taught_at: Timestamp,
    /// When it was lowered or relaxed last.
    pub step_at: Timestamp,
    /// The reply.
    pub said: String,
}

/// All that was learned about a channel. Durable, and shown beside the limits as set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lessons {
    /// About its pace.
    pub pace: Option<LearnedPace>,
    /// About its connections.
    pub cap: Option<LearnedCap>,
}

impl Lessons {
    /// The limit that the pace makes.
    #[must_use]
    pub fn limit(&self) -> Option<Limit> {
        let pace = self.pace.as_ref()?;
        Some(Limit { count: u64::from(pace.per_minute), unit: Unit::Messages, window: WINDOW, scope: LimitScope::Account })
    }

    /// The connections allowed out of `set`.
    #[must_use]
    pub fn connections(&self, set: u32) -> u32 {
        self.cap.as_ref().map_or(set, |cap| cap.connections.min(set)).max(1)
    }

    /// A limit reply came while `last_minute` messages had left in the last minute.
    pub fn slower(&mut self, last_minute: u32, said: &str, now: Timestamp) {
        let (pace, before) = match &self.pace {
            Some(known) => (known.per_minute, known.before),
            None => (last_minute.max(2), last_minute.max(2)),
        };
        let per_minute = ((f64::from(pace) * LEFT) as u32).max(1);
        self.pace = Some(LearnedPace { per_minute, before, taught_at: now, step_at: now, said: said.to_owned() });
    }

    /// The provider wants fewer connections than `open`.
    pub fn fewer(&mut self, open: u32, said: &str, now: Timestamp) {
        let before = self.cap.as_ref().map_or(open, |cap| cap.before).max(open);
        let connections = self.cap.as_ref().map_or(open, |cap| cap.connections.min(open)).saturating_sub(1).max(1);
        self.cap = Some(LearnedCap { connections, before, taught_at: now, step_at: now, said: said.to_owned() });
    }

    /// Relaxes what has not been taught again for a while, by every step that has passed: nobody needs to have looked
    /// meanwhile. True when something changed.
    pub fn relax(&mut self, now: Timestamp) -> bool {
        let due = |step_at: Timestamp| now >= step_at.plus(STEP);
        let mut changed = false;
        while let Some(pace) = self.pace.as_mut().filter(|pace| due(pace.step_at)) {
            changed = true;
            pace.per_minute = ((f64::from(pace.per_minute) * REGAINED).ceil() as u32).max(pace.per_minute + 1);
            pace.step_at = pace.step_at.plus(STEP);
            if pace.per_minute > pace.before {
                self.pace = None;
            }
        }
        while let Some(cap) = self.cap.as_mut().filter(|cap| due(cap.step_at)) {
            changed = true;
            cap.connections += 1;
            cap.step_at = cap.step_at.plus(STEP);
            if cap.connections >= cap.before {
                self.cap = None;
            }
        }
        changed
    }

    /// When there will be something to relax.
    #[must_use]
    pub fn relaxes_at(&self) -> Option<Timestamp> {
        let pace = self.pace.as_ref().map(|pace| pace.step_at);
        let cap = self.cap.as_ref().map(|cap| cap.step_at);
        pace.into_iter().chain(cap).min().map(|at| at.plus(STEP))
    }
}
