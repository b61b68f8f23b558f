//! How long a client may take. A value: `now` comes in, a deadline comes out.

use std::time::{Duration, Instant};

/// How long a client may take for what.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// From the connection to the login, where one is needed.
    pub login: Duration,
    /// From a reply to the next whole command (RFC 5321 §4.5.3.2.7: five minutes).
    pub command: Duration,
    /// Between bytes of a message.
    pub stall: Duration,
    /// For a whole message.
    pub message: Duration,
    /// Slowest rate of a message after its first `stall`, in bytes per second.
    pub slowest: u64,
    /// For a TLS handshake.
    pub handshake: Duration,
    /// For a message that is coming in when a stop is asked for.
    pub stop: Duration,
}

impl Deadlines {
    /// What suits messages up to `max_message_size` bytes: ten minutes for one, more for one that would
    /// need more than 16 KiB/s.
    #[must_use]
    pub fn for_size(max_message_size: u64) -> Self {
        Self {
            login: Duration::from_secs(60),
            command: Duration::from_secs(300),
            stall: Duration::from_secs(60),
            message: Duration::from_secs((max_message_size / 16_384).max(600)),
            slowest: 100,
            handshake: Duration::from_secs(30),
            stop: Duration::from_secs(20),
        }
    }
}

/// What a connection is doing, and by when it must have got on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    deadlines: Deadlines,
    /// By when somebody must have signed in, until somebody has.
    login: Option<Instant>,
    replied: Instant,
    message: Option<Progress>,
    stop: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Progress {
    began: Instant,
    last: Instant,
    /// By when more has to come, at the slowest rate.
    by_rate: Instant,
}

impl Patience {
    pub fn new(deadlines: Deadlines, now: Instant) -> Self {
        Self { deadlines, login: Some(now + deadlines.login), replied: now, message: None, stop: None }
    }

    /// Somebody signed in, or nobody has to.
    pub fn signed_in(&mut self) {
        self.login = None;
    }

    /// A reply was written, so that the client's turn begins.
    pub fn replied(&mut self, now: Instant) {
        self.replied = now;
    }

    /// `bytes` came in, and the session is in the middle of a message or not.
    pub fn received(&mut self, bytes: usize, in_data: bool, now: Instant) {
        if !in_data {
            self.message = None;
            return;
        }
        let Deadlines { stall, slowest, .. } = self.deadlines;
        let progress = self.message.get_or_insert(Progress { began: now, last: now, by_rate: now + stall });
        progress.last = now;
        let earned = Duration::from_secs(bytes as u64) / u32::try_from(slowest).unwrap_or(u32::MAX).max(1);
        // Whoever was fast before may not be slow for long.
        progress.by_rate = (progress.by_rate + earned).min(now + 2 * stall);
    }

    /// The session is in the middle of a message, or not any more.
    pub fn turn(&mut self, in_data: bool, now: Instant) {
        if !in_data {
            self.message = None;
        } else if self.message.is_none() {
            self.message = Some(Progress { began: now, last: now, by_rate: now + self.deadlines.stall });
        }
    }

    /// A stop was asked for.
    pub fn stop(&mut self, now: Instant) {
        self.stop.get_or_insert(now + self.deadlines.stop);
    }

    /// When patience ends, unless more comes in before.
    pub fn until(&self) -> Instant {
        let own = match self.message {
            None => self.replied + self.deadlines.command,
            Some(progress) => self.message_until(progress),
        };
        let own = self.login.map_or(own, |login| login.min(own));
        self.stop.map_or(own, |stop| stop.min(own))
    }

    fn message_until(&self, progress: Progress) -> Instant {
        let by_stall = progress.last + self.deadlines.stall;
        progress.by_rate.min(by_stall).min(progress.began + self.deadlines.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patience(now: Instant) -> Patience {
        let mut patience = Patience::new(Deadlines::for_size(10 << 20), now);
        patience.signed_in();
        patience
    }

    #[test]
    fn whoever_does_not_sign_in_within_a_minute_goes_whatever_they_say() {
        let now = Instant::now();
        let mut patience = Patience::new(Deadlines::for_size(10 << 20), now);
        patience.replied(now + seconds(50));
        assert_eq!(patience.until(), now + seconds(60));
        patience.signed_in();
        assert_eq!(patience.until(), now + seconds(350));
    }

    fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    #[test]
    fn a_command_may_take_five_minutes_however_it_trickles_in() {
        let now = Instant::now();
        let mut patience = patience(now);
        patience.received(1, false, now + seconds(200));
        assert_eq!(patience.until(), now + seconds(300));
        patience.replied(now + seconds(250));
        assert_eq!(patience.until(), now + seconds(550));
    }

    #[test]
    fn a_message_that_stops_coming_in_has_a_minute() {
        let now = Instant::now();
        let mut patience = patience(now);
        patience.turn(true, now);
        assert_eq!(patience.until(), now + seconds(60));
        patience.received(1 << 20, true, now + seconds(30));
        assert_eq!(patience.until(), now + seconds(90));
    }

    #[test]
    fn a_message_slower_than_the_slowest_rate_is_cut_off() {
        let now = Instant::now();
        let mut patience = patience(now);
        patience.turn(true, now);
        for second in 1..=60 {
            patience.received(10, true, now + seconds(second));
        }
        // 600 bytes earned six seconds beyond the first minute.
        assert_eq!(patience.until(), now + seconds(66));
    }

    #[test]
    fn whoever_was_fast_and_then_holds_a_message_open_is_cut_off_within_two_minutes() {
        let now = Instant::now();
        let mut patience = patience(now);
        patience.turn(true, now);
        patience.received(40 << 20, true, now + seconds(10));
        for round in 1..=20 {
            patience.received(78, true, now + seconds(10 + 5 * round));
        }
        assert!(patience.until() <= now + seconds(10 + 120 + 20), "78 bytes in five seconds are too slow");
    }

    #[test]
    fn however_steadily_it_comes_in_a_message_has_an_end() {
        let now = Instant::now();
        let mut patience = patience(now);
        patience.turn(true, now);
        for second in 1..=599 {
            patience.received(1000, true, now + seconds(second));
        }
        assert_eq!(patience.until(), now + seconds(640));
        assert_eq!(Deadlines::for_size(1 << 20).message, seconds(600));
        assert_eq!(Deadlines::for_size(50 << 20).message, seconds(3200));
    }

    #[test]
    fn a_stop_leaves_a_message_twenty_seconds() {
        let now = Instant::now();
        let mut patience = patience(now);
        patience.turn(true, now);
        patience.stop(now + seconds(1));
        patience.stop(now + seconds(9));
        assert_eq!(patience.until(), now + seconds(21));
    }
}
