//! The steady clock: one line of time that no step of the wall clock bends, and that goes on after a restart.
//!
//! Windows, retries and parked channels count on it. It runs with boot time, so it goes on in sleep, and it
//! is written down in heartbeats. After a restart in the same boot it continues exactly. After a reboot it is
//! certain only that the time since that boot has passed; the rest of the wall clock's difference is credited
//! when both clocks are proved, that of the heartbeat and today's. So it is never ahead of real time by more
//! than the wall clock was wrong while the kernel called it synchronised, and a window is never thought to be
//! over too early.

use crate::time::Timestamp;
use std::time::Duration;

/// Which boot of the machine: 16 random bytes of the kernel.
pub type BootId = [u8; 16];

/// All clocks, read at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Which boot.
    pub boot: BootId,
    /// Since that boot, sleep included.
    pub since_boot: Duration,
    /// The wall clock.
    pub wall: Timestamp,
    /// The wall clock is known to be right: the kernel calls it synchronised.
    pub proved: bool,
}

/// What is written down now and then, so that the steady clock can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The clocks.
    pub reading: Reading,
    /// The steady clock at that moment.
    pub steady: Timestamp,
}

/// The steady clock. Its first moment ever is the wall clock's, so that it usually reads the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SteadyClock {
    boot: BootId,
    /// The steady clock at the boot itself.
    at_boot: Timestamp,
    /// A heartbeat of an earlier boot, while what passed between the boots is not credited.
    owed: Option<Heartbeat>,
}

impl SteadyClock {
    /// Goes on from the last heartbeat.
    #[must_use]
    pub fn resume(last: Option<&Heartbeat>, now: &Reading) -> Self {
        let Some(last) = last else {
            return Self { boot: now.boot, at_boot: before(now.wall, now.since_boot), owed: None };
        };
        if last.reading.boot == now.boot {
            return Self { boot: now.boot, at_boot: before(last.steady, last.reading.since_boot), owed: None };
        }
        let mut clock = Self { boot: now.boot, at_boot: last.steady, owed: Some(*last) };
        clock.observe(now);
        clock
    }

    /// The steady clock so long after the boot.
    #[must_use]
    pub fn at(&self, since_boot: Duration) -> Timestamp {
        self.at_boot.plus(since_boot)
    }

    /// Credits what passed between two boots, once it is proved; true when the clock has leapt forward.
    pub fn observe(&mut self, now: &Reading) -> bool {
        let Some(last) = self.owed.filter(|_| now.proved && now.boot == self.boot) else {
            return false;
        };
        self.owed = None;
        if !last.reading.proved {
            return false;
        }
        let passed = now.wall.since(last.reading.wall);
        let proved = last.steady.plus(passed.saturating_sub(now.since_boot));
        let leaps = proved > self.at_boot;
        self.at_boot = self.at_boot.max(proved);
        leaps
    }

    /// What is to be written down.
    #[must_use]
    pub fn heartbeat(&self, now: &Reading) -> Heartbeat {
        Heartbeat { reading: *now, steady: self.at(now.since_boot) }
    }
}

fn before(at: Timestamp, by: Duration) -> Timestamp {
    Timestamp(at.0.saturating_sub(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Timestamp = Timestamp(1_800_000_000_000);

    fn reading(boot: u8, seconds: u64, wall: i64, proved: bool) -> Reading {
        Reading { boot: [boot; 16], since_boot: Duration::from_secs(seconds), wall: Timestamp(NOON.0 + wall * 1000), proved }
    }

    fn seconds(clock: &SteadyClock, now: &Reading) -> i64 {
        (clock.at(now.since_boot).0 - NOON.0) / 1000
    }

    #[test]
    fn it_starts_with_the_wall_clock_and_ignores_its_steps() {
        let start = reading(1, 100, 0, true);
        let clock = SteadyClock::resume(None, &start);
        assert_eq!(clock.at(start.since_boot), NOON);
        for step in [3 * 3600, -86_400, 40 * 86_400] {
            assert_eq!(seconds(&clock, &reading(1, 160, step, true)), 60);
        }
    }

    #[test]
    fn in_the_same_boot_it_goes_on_exactly() {
        let start = reading(1, 100, 0, false);
        let beat = SteadyClock::resume(None, &start).heartbeat(&reading(1, 130, 30, false));
        let later = reading(1, 190, -500, false);
        assert_eq!(seconds(&SteadyClock::resume(Some(&beat), &later), &later), 90);
    }

    #[test]
    fn after_a_reboot_only_the_new_boot_counts_until_the_clock_is_proved() {
        let beat = SteadyClock::resume(None, &reading(1, 100, 0, true)).heartbeat(&reading(1, 100, 0, true));
        let up = reading(2, 10, 7200, false);
        let mut clock = SteadyClock::resume(Some(&beat), &up);
        assert_eq!(seconds(&clock, &up), 10);
        let proved = reading(2, 70, 7260, true);
        assert!(clock.observe(&proved));
        assert_eq!(seconds(&clock, &proved), 7260);
        assert!(!clock.observe(&reading(2, 80, 99_999, true)), "credited once");
    }

    #[test]
    fn a_heartbeat_of_an_unproved_clock_credits_nothing() {
        let beat = SteadyClock::resume(None, &reading(1, 100, 0, true)).heartbeat(&reading(1, 100, -40 * 86_400, false));
        let up = reading(2, 10, 7200, true);
        assert_eq!(seconds(&SteadyClock::resume(Some(&beat), &up), &up), 10);
    }

    #[test]
    fn it_never_runs_backwards() {
        let beat = SteadyClock::resume(None, &reading(1, 100, 0, true)).heartbeat(&reading(1, 100, 0, true));
        let back = reading(2, 10, -86_400, true);
        assert_eq!(seconds(&SteadyClock::resume(Some(&beat), &back), &back), 10);
    }
}
