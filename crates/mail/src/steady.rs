//! The steady clock: one line of time that no step of the wall clock bends, and that goes on after a restart.
//!
//! Windows, retries and parked channels count on it. It runs with boot time, so it goes on in sleep, and is written down
//! in heartbeats. In another boot it goes on from the last heartbeat: it stands still from there until the process starts,
//! for this boot may have begun long before that heartbeat, on another machine. So it is never ahead of real time.
//!
//! What passed meanwhile is a [`Credit`]: what was spent before grows older by it, once both clocks are proved, that of
//! the last heartbeat before and today's. The clock itself does not leap, since what was spent after the start would then
//! look older than it is.

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
    /// Since when time between boots is not credited.
    pub owed: Option<Owed>,
    /// Nothing may end by this wall clock: see [`Watch`].
    pub doubted: bool,
}

/// The last proved moment of an earlier boot: what the steady clock has missed since is still to be credited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owed {
    /// The wall clock.
    pub wall: Timestamp,
    /// The steady clock.
    pub steady: Timestamp,
}

/// Time that passed from the last heartbeat of a boot to the first start in the next: what was spent before a moment is older by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credit {
    /// The moment, by the steady clock.
    pub before: Timestamp,
    /// How much older.
    pub by: Duration,
}

/// The steady clock. Its first moment ever is the wall clock's, so that it usually reads the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SteadyClock {
    boot: BootId,
    /// The steady clock at the boot itself: in a boot that was not seen from its beginning, so that it reads right now.
    at_boot: Timestamp,
    owed: Option<Owed>,
}

impl SteadyClock {
    /// Goes on from the last heartbeat.
    #[must_use]
    pub fn resume(last: Option<&Heartbeat>, now: &Reading) -> Self {
        let Some(last) = last else {
            return Self { boot: now.boot, at_boot: before(now.wall, now.since_boot), owed: None };
        };
        if last.reading.boot == now.boot {
            return Self { boot: now.boot, at_boot: before(last.steady, last.reading.since_boot), owed: last.owed };
        }
        let last_proved = last.reading.proved.then_some(Owed { wall: last.reading.wall, steady: last.steady });
        Self { boot: now.boot, at_boot: before(last.steady, now.since_boot), owed: last.owed.or(last_proved) }
    }

    /// The steady clock so long after the boot.
    #[must_use]
    pub fn at(&self, since_boot: Duration) -> Timestamp {
        self.at_boot.plus(since_boot)
    }

    /// What is to be written down, and what is to be credited with it: in one record, so that it is credited once.
    #[must_use]
    pub fn beat(&self, now: &Reading) -> (Heartbeat, Option<Credit>) {
        let steady = self.at(now.since_boot);
        let credit = self
            .owed
            .filter(|_| now.proved && now.boot == self.boot)
            .map(|owed| Credit { before: owed.steady, by: now.wall.since(owed.wall).saturating_sub(steady.since(owed.steady)) });
        let owed = if credit.is_some() { None } else { self.owed };
        (Heartbeat { reading: *now, steady, owed, doubted: false }, credit)
    }

    /// The heartbeat is durable, and with it what it credits.
    pub fn written(&mut self, heartbeat: &Heartbeat) {
        self.owed = heartbeat.owed;
    }
}

/// A wall clock that moves by more at once was set.
const STEP: Duration = Duration::from_secs(60);

/// Watches the wall clock by the steady one, so that nothing ends by a wall clock that may be wrong.
///
/// After a step of more than a minute, and after a boot, it is in doubt until somebody proves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// How far the wall clock is ahead of the steady one, in milliseconds.
    ahead: i64,
    /// How far it was before it was set, while nobody has proved it since.
    before: Option<i64>,
}

/// What the wall clock says, and what that is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calendar {
    /// The wall clock.
    pub wall: Timestamp,
    /// What it would read if nobody had set it, while it is in doubt.
    pub unset: Option<Timestamp>,
}

impl Calendar {
    /// A wall clock that is not in doubt.
    #[must_use]
    pub fn sure(wall: Timestamp) -> Self {
        Self { wall, unset: None }
    }

    /// Whether a moment has passed; `None` where nobody can say.
    #[must_use]
    pub fn has_passed(&self, moment: Timestamp) -> Option<bool> {
        let passed = self.wall >= moment;
        match self.unset {
            None => Some(passed),
            Some(unset) if !passed && unset < moment => Some(false),
            Some(_) => None,
        }
    }
}

impl Watch {
    /// Goes on from the last heartbeat. `steady` is the steady clock at the reading.
    #[must_use]
    pub fn resume(last: Option<&Heartbeat>, now: &Reading, steady: Timestamp) -> Self {
        let ahead = |wall: Timestamp, steady: Timestamp| wall.0.saturating_sub(steady.0);
        let Some(last) = last else { return Self { ahead: ahead(now.wall, steady), before: None } };
        let was = ahead(last.reading.wall, last.steady);
        let in_doubt = last.doubted || last.reading.boot != now.boot;
        let mut watch = Self { ahead: was, before: in_doubt.then_some(was) };
        watch.look(now.wall, steady);
        if now.proved {
            watch.prove();
        }
        watch
    }

    /// Looks at both clocks.
    pub fn look(&mut self, wall: Timestamp, steady: Timestamp) -> Calendar {
        let ahead = wall.0.saturating_sub(steady.0);
        if ahead.abs_diff(self.ahead) > STEP.as_millis() as u64 {
            self.before = self.before.or(Some(self.ahead));
        }
        self.ahead = ahead;
        Calendar { wall, unset: self.before.map(|before| Timestamp(steady.0.saturating_add(before))) }
    }

    /// The wall clock, as it was looked at last, is right.
    pub fn prove(&mut self) {
        self.before = None;
    }

    /// True while nothing may end by the wall clock.
    #[must_use]
    pub fn doubts(&self) -> bool {
        self.before.is_some()
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

    /// The last heartbeat of a machine that began at noon.
    fn last(now: &Reading) -> Heartbeat {
        SteadyClock::resume(None, &reading(1, 100, 0, true)).beat(now).0
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
        let later = reading(1, 190, -500, false);
        assert_eq!(seconds(&SteadyClock::resume(Some(&last(&reading(1, 130, 30, false))), &later), &later), 90);
    }

    #[test]
    fn a_boot_that_began_before_the_last_heartbeat_moves_it_no_further() {
        // The data folder moves to a machine that has been up for 100 days; or no boot can be told from others.
        for up_for in [0, 10, 100 * 86_400] {
            let start = reading(2, up_for, 60, false);
            let clock = SteadyClock::resume(Some(&last(&reading(1, 100, 0, true))), &start);
            assert_eq!(seconds(&clock, &start), 0, "up for {up_for} s");
            assert_eq!(seconds(&clock, &reading(2, up_for + 30, 90, false)), 30);
            let credit = clock.beat(&reading(2, up_for + 30, 90, true)).1;
            assert_eq!(credit, Some(Credit { before: NOON, by: Duration::from_secs(60) }));
        }
    }

    #[test]
    fn it_stands_still_until_the_start_and_what_was_spent_before_is_credited_once_the_clock_is_proved() {
        let up = reading(2, 10, 7200, false);
        let mut clock = SteadyClock::resume(Some(&last(&reading(1, 100, 0, true))), &up);
        let (unproved, nothing) = clock.beat(&up);
        assert_eq!((seconds(&clock, &up), nothing), (0, None));
        clock.written(&unproved);
        // The process starts again before the clock is proved.
        let mut clock = SteadyClock::resume(Some(&unproved), &reading(2, 60, 7250, false));
        let (heartbeat, credit) = clock.beat(&reading(2, 70, 7260, true));
        assert_eq!(credit, Some(Credit { before: NOON, by: Duration::from_secs(7260 - 60) }));
        assert_eq!(clock.beat(&reading(2, 71, 7261, true)).1, credit, "it is owed until it is durable");
        clock.written(&heartbeat);
        assert_eq!((clock.beat(&reading(2, 80, 99_999, true)).1, heartbeat.owed), (None, None), "credited once");
        assert_eq!(seconds(&clock, &reading(2, 80, 99_999, true)), 70, "the clock itself does not leap");
    }

    #[test]
    fn a_second_reboot_before_the_proof_forgets_nothing() {
        let second = SteadyClock::resume(Some(&last(&reading(1, 100, 0, true))), &reading(2, 10, 500, false));
        let third = SteadyClock::resume(Some(&second.beat(&reading(2, 20, 510, false)).0), &reading(3, 5, 1005, true));
        assert_eq!(third.beat(&reading(3, 5, 1005, true)).1, Some(Credit { before: NOON, by: Duration::from_secs(1005 - 10) }));
    }

    #[test]
    fn a_heartbeat_of_an_unproved_clock_credits_nothing() {
        let up = reading(2, 10, 7200, true);
        assert_eq!(SteadyClock::resume(Some(&last(&reading(1, 100, -40 * 86_400, false))), &up).beat(&up).1, None);
    }

    #[test]
    fn nothing_ends_by_a_wall_clock_that_was_set_until_it_is_proved() {
        let minutes = |count: i64| Timestamp(NOON.0 + count * 60_000);
        let mut watch = Watch::resume(None, &reading(1, 0, 0, false), NOON);
        assert_eq!(
            watch.look(Timestamp(minutes(5).0 + 30_000), minutes(5)).has_passed(minutes(5)),
            Some(true),
            "half a minute is no step"
        );
        let set = watch.look(minutes(120), minutes(6));
        assert_eq!([set.has_passed(minutes(60)), set.has_passed(minutes(130))], [None, Some(false)]);
        let back = watch.look(minutes(-60), minutes(7));
        assert_eq!([back.has_passed(minutes(0)), back.has_passed(minutes(9))], [None, Some(false)], "it may have passed before");
        watch.prove();
        assert_eq!(watch.look(minutes(-59), minutes(8)).has_passed(minutes(0)), Some(false));
    }

    #[test]
    fn the_doubt_outlives_the_process_and_a_boot_begins_one() {
        let written = Heartbeat { doubted: true, ..last(&reading(1, 100, 0, false)) };
        assert!(Watch::resume(Some(&written), &reading(1, 130, 30, false), Timestamp(NOON.0 + 30_000)).doubts());
        assert!(!Watch::resume(Some(&written), &reading(1, 130, 30, true), Timestamp(NOON.0 + 30_000)).doubts());
        let calm = last(&reading(1, 100, 0, true));
        assert!(!Watch::resume(Some(&calm), &reading(1, 130, 30, false), Timestamp(NOON.0 + 30_000)).doubts());
        assert!(Watch::resume(Some(&calm), &reading(1, 130, 300, false), Timestamp(NOON.0 + 30_000)).doubts(), "set meanwhile");
        assert!(Watch::resume(Some(&calm), &reading(2, 10, 40, false), NOON).doubts());
    }

    #[test]
    fn a_wall_clock_that_is_behind_credits_nothing_and_it_never_runs_backwards() {
        let back = reading(2, 10, -86_400, true);
        let clock = SteadyClock::resume(Some(&last(&reading(1, 100, 0, true))), &back);
        assert_eq!((seconds(&clock, &back), clock.beat(&back).1.map(|credit| credit.by)), (0, Some(Duration::ZERO)));
    }
}
