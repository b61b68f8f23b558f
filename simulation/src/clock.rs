//! The machine's clocks: boots, wall-clock steps, and the steady clock that goes on over them.

use crate::random::Random;
use mail::Timestamp;
use mail::steady::{Credit, Heartbeat, Reading, SteadyClock};
use std::time::Duration;

/// The wall clock when a history begins.
const EPOCH: i64 = 1_800_000_000_000;

/// A clock is proved at most so long after the boot.
const LATE_PROOF: u64 = 3_600_000;

/// The clocks of the machine on which the gateway runs. Times are true milliseconds since the history began.
pub struct Machine {
    boot: u8,
    /// On a machine that was up already, before the history began.
    booted_at: i64,
    /// From when on the kernel calls the wall clock synchronised in this boot, while it is right.
    provable_from: u64,
    /// How wrong the wall clock is, in milliseconds.
    wrong_by: i64,
    steady: Option<SteadyClock>,
}

impl Default for Machine {
    fn default() -> Self {
        Self { boot: 1, booted_at: 0, provable_from: 0, wrong_by: 0, steady: None }
    }
}

impl Machine {
    /// It has booted at this moment. Its clock is proved before the gateway starts, later while mail leaves, or not in this
    /// boot.
    pub fn reboot(&mut self, at: u64, random: &mut Random) {
        self.boot += 1;
        self.booted_at = at as i64;
        self.provable_from = match random.below(10) {
            0..=3 => at,
            4..=7 => at + random.below(LATE_PROOF),
            _ => u64::MAX,
        };
    }

    /// The data folder is on another machine from now on, which has been up for so many milliseconds.
    pub fn moves_to(&mut self, up_for: u64, now: u64, random: &mut Random) {
        self.reboot(now, random);
        self.booted_at = now as i64 - up_for as i64;
    }

    /// In which boot it is; the first is 1.
    #[must_use]
    pub fn boot(&self) -> u8 {
        self.boot
    }

    /// Somebody sets the wall clock to so many milliseconds beside the truth.
    pub fn set_wall(&mut self, wrong_by: i64) {
        self.wrong_by = wrong_by;
    }

    /// The wall clock.
    #[must_use]
    pub fn wall(&self, now: u64) -> Timestamp {
        Timestamp(EPOCH + now as i64 + self.wrong_by)
    }

    fn reading(&self, now: u64) -> Reading {
        Reading {
            boot: [self.boot; 16],
            since_boot: Duration::from_millis((now as i64 - self.booted_at).unsigned_abs()),
            wall: self.wall(now),
            proved: self.wrong_by == 0 && now >= self.provable_from,
        }
    }

    /// The steady clock goes on from the last heartbeat; returns what it reads.
    pub fn resume(&mut self, last: Option<&Heartbeat>, now: u64) -> Timestamp {
        self.steady = Some(SteadyClock::resume(last, &self.reading(now)));
        self.steady(now)
    }

    /// The steady clock.
    #[must_use]
    pub fn steady(&self, now: u64) -> Timestamp {
        let reading = self.reading(now);
        self.steady.map_or(reading.wall, |clock| clock.at(reading.since_boot))
    }

    /// What is to be written down.
    #[must_use]
    pub fn beat(&self, now: u64) -> Option<(Heartbeat, Option<Credit>)> {
        self.steady.map(|clock| clock.beat(&self.reading(now)))
    }

    /// The heartbeat is durable.
    pub fn written(&mut self, heartbeat: &Heartbeat) {
        if let Some(clock) = self.steady.as_mut() {
            clock.written(heartbeat);
        }
    }

    /// How far the steady clock is ahead of true time, in milliseconds: it must never be.
    #[must_use]
    pub fn ahead(&self, now: u64) -> i64 {
        self.steady(now).0 - EPOCH - now as i64
    }
}
