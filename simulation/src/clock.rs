//! The machine's clocks: boots, wall-clock steps, and the steady clock that goes on over them.

use crate::random::Random;
use mail::Timestamp;
use mail::steady::{Heartbeat, Reading, SteadyClock};
use std::time::Duration;

/// The wall clock when a history begins.
const EPOCH: i64 = 1_800_000_000_000;

/// The clocks of the machine on which the gateway runs. Times are true milliseconds since the history began.
pub struct Machine {
    boot: u8,
    booted_at: u64,
    /// The kernel calls the wall clock synchronised in this boot, while it is right.
    provable: bool,
    /// How wrong the wall clock is, in milliseconds.
    wrong_by: i64,
    steady: Option<SteadyClock>,
}

impl Default for Machine {
    fn default() -> Self {
        Self { boot: 1, booted_at: 0, provable: true, wrong_by: 0, steady: None }
    }
}

impl Machine {
    /// It has booted at this moment. Its clock is proved before the gateway starts, or not in this boot: a proof that comes
    /// while mail leaves is not simulated, since what was spent since the boot would then look older than it is.
    pub fn reboot(&mut self, at: u64, random: &mut Random) {
        self.boot += 1;
        self.booted_at = at;
        self.provable = self.wrong_by == 0 && random.percent(70);
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
            since_boot: Duration::from_millis(now - self.booted_at),
            wall: self.wall(now),
            proved: self.wrong_by == 0 && self.provable,
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

    /// What is to be written down; true when the steady clock has leapt forward.
    pub fn beat(&mut self, now: u64) -> Option<(Heartbeat, bool)> {
        let reading = self.reading(now);
        let clock = self.steady.as_mut()?;
        let leapt = clock.observe(&reading);
        Some((clock.heartbeat(&reading), leapt))
    }

    /// How far the steady clock is ahead of true time, in milliseconds: it must never be.
    #[must_use]
    pub fn ahead(&self, now: u64) -> i64 {
        self.steady(now).0 - EPOCH - now as i64
    }
}
