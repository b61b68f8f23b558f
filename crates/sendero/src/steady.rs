//! The machine's clocks, and the steady clock that goes on over restarts.

use intake::{Clock, random_message_id, wall_clock};
use mail::steady::{BootId, Credit, Heartbeat, Reading, SteadyClock};
use mail::{MessageId, Timestamp};
use rustix::time::{ClockId, clock_gettime};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// The clocks are written down this often.
pub const BEAT_EVERY: Duration = Duration::from_secs(30);
/// It is asked this often whether the wall clock is right, and whenever it was set.
const PROVE_EVERY: Duration = Duration::from_secs(300);
/// A wall clock that has moved by more against the steady one was set.
const SET: Duration = Duration::from_secs(1);

/// The clocks of this process. Before [`Steady::resume`] the steady clock stands at the boot.
#[derive(Debug, Default)]
pub struct Steady {
    boot: OnceLock<BootId>,
    /// The steady clock at the boot.
    at_boot: AtomicI64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    clock: Option<SteadyClock>,
    proof: Option<Proof>,
}

/// What was said of the wall clock last.
#[derive(Clone, Copy, Debug)]
struct Proof {
    right: bool,
    /// How far the wall clock was from boot time, in milliseconds.
    apart: i64,
    /// Since the boot.
    asked_at: Duration,
}

impl Steady {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on from the last heartbeat; returns the steady clock now.
    pub fn resume(&self, last: Option<&Heartbeat>) -> Timestamp {
        let mut inner = self.lock();
        let reading = self.reading(&mut inner);
        let clock = SteadyClock::resume(last, &reading);
        self.at_boot.store(clock.at(Duration::ZERO).0, Ordering::Relaxed);
        inner.clock = Some(clock);
        clock.at(reading.since_boot)
    }

    /// The steady clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp(self.at_boot.load(Ordering::Relaxed)).plus(since_boot())
    }

    /// What is to be written down now. May ask the system's time service, which blocks for a moment.
    pub fn beat(&self) -> Option<(Heartbeat, Option<Credit>)> {
        let mut inner = self.lock();
        let reading = self.reading(&mut inner);
        inner.clock.map(|clock| clock.beat(&reading))
    }

    /// The heartbeat is durable.
    pub fn written(&self, heartbeat: &Heartbeat) {
        if let Some(clock) = self.lock().clock.as_mut() {
            clock.written(heartbeat);
        }
    }

    /// All clocks now.
    fn reading(&self, inner: &mut Inner) -> Reading {
        let (since_boot, wall) = (since_boot(), wall_clock());
        let apart = wall.0 - i64::try_from(since_boot.as_millis()).unwrap_or(i64::MAX);
        let holds = |proof: &Proof| {
            since_boot.saturating_sub(proof.asked_at) < PROVE_EVERY && apart.abs_diff(proof.apart) <= SET.as_millis() as u64
        };
        let proof = inner.proof.filter(holds);
        let proof = proof.unwrap_or_else(|| Proof { right: is_synchronised(), apart, asked_at: since_boot });
        inner.proof = Some(proof);
        Reading { boot: *self.boot.get_or_init(boot_id), since_boot, wall, proved: proof.right }
    }
}

impl Clock for Steady {
    fn now(&self) -> Timestamp {
        wall_clock()
    }

    fn steady(&self) -> Timestamp {
        Self::now(self)
    }

    fn message_id(&self, at: Timestamp) -> MessageId {
        random_message_id(at)
    }
}

/// Boot time goes on in sleep, and no clock step moves it.
fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn boot_id() -> BootId {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let id = text.trim().parse::<uuid::Uuid>().map(uuid::Uuid::into_bytes);
    // A boot that cannot be told from others is a new one each time: then nothing is credited wrongly.
    id.unwrap_or_else(|_| *uuid::Uuid::now_v7().as_bytes())
}

/// The kernel's flag, which there is no safe call for: systemd's time service says it. It falls when somebody sets the
/// clock, and where nobody says it, the clock is not proved.
fn is_synchronised() -> bool {
    let asked = Command::new("timedatectl")
        .args(["show", "--property=NTPSynchronized", "--value"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    asked.is_ok_and(|answer| answer.stdout.starts_with(b"yes"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn it_goes_on_with_boot_time_from_where_the_last_process_left_it() {
        let first = Steady::default();
        let began = first.resume(None);
        assert!(wall_clock().0 - began.0 < 1000);
        let (heartbeat, credit) = first.beat().unwrap();
        assert_eq!(credit, None);
        let earlier = Heartbeat { steady: Timestamp(heartbeat.steady.0 - 86_400_000), ..heartbeat };
        let second = Steady::default();
        let resumed = second.resume(Some(&earlier));
        assert!((0..1000).contains(&(resumed.0 - earlier.steady.0)), "a wall clock a day ahead changes nothing");
        assert!(second.now() >= resumed);
    }
}
