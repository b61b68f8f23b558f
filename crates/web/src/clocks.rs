//! From the steady clock, by which mail is due, to the wall clock that people read.

use mail::Timestamp;
use std::time::Duration;

/// Clocks closer than this are taken for one.
const SAME: Duration = Duration::from_secs(1);

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    /// The wall clock.
    pub wall: Timestamp,
    /// The steady clock.
    pub steady: Timestamp,
}

impl Clocks {
    /// A moment of the steady clock as the wall clock will show it, if nobody moves it until then.
    #[must_use]
    pub fn shown(&self, at: Timestamp) -> Timestamp {
        if self.wall.since(self.steady).max(self.steady.since(self.wall)) < SAME {
            return at;
        }
        Timestamp(self.wall.0.saturating_add(at.0.saturating_sub(self.steady.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_the_steady_clock_is_shown_as_the_wall_clock_will_read() {
        let stepped = Clocks { wall: Timestamp(10_000_000), steady: Timestamp(1_000_000) };
        assert_eq!(stepped.shown(Timestamp(1_060_000)), Timestamp(10_060_000));
        assert_eq!(stepped.shown(Timestamp(940_000)), Timestamp(9_940_000));
    }

    #[test]
    fn clocks_that_agree_leave_a_time_as_it_is() {
        for wall in [999_001, 1_000_000, 1_000_999] {
            let clocks = Clocks { wall: Timestamp(wall), steady: Timestamp(1_000_000) };
            assert_eq!(clocks.shown(Timestamp(1_060_000)), Timestamp(1_060_000));
        }
    }
}
