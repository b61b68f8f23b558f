//! The machine's clocks, and the steady clock that goes on over restarts.

use intake::{Clock, random_message_id, wall_clock};
use mail::steady::{BootId, Heartbeat, Reading, SteadyClock};
use mail::{MessageId, Timestamp};
use rustix::time::{ClockId, clock_gettime};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// The clocks are written down this often.
pub const BEAT_EVERY: Duration = Duration::from_secs(30);
/// While the wall clock is not proved, it is asked for this often.
pub const PROVE_EVERY: Duration = Duration::from_secs(60);

/// The clocks of this process. Before the queue is open the steady clock stands where the wall clock does.
#[derive(Debug, Default)]
pub struct Steady {
    boot: OnceLock<BootId>,
    /// The steady clock at the boot; it only grows.
    at_boot: AtomicI64,
    clock: Mutex<Option<SteadyClock>>,
    proved: AtomicBool,
}

impl Steady {
    /// All clocks now.
    #[must_use]
    pub fn reading(&self) -> Reading {
        Reading {
            boot: *self.boot.get_or_init(boot_id),
            since_boot: since_boot(),
            wall: wall_clock(),
            proved: self.proved.load(Ordering::Relaxed),
        }
    }

    /// Goes on from the last heartbeat; returns the steady clock now.
    pub fn resume(&self, last: Option<&Heartbeat>) -> Timestamp {
        self.proved.store(is_synchronised(), Ordering::Relaxed);
        let reading = self.reading();
        let clock = SteadyClock::resume(last, &reading);
        self.at_boot.store(clock.at(Duration::ZERO).0, Ordering::Relaxed);
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = Some(clock);
        clock.at(reading.since_boot)
    }

    /// The steady clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp(self.at_boot.load(Ordering::Relaxed)).plus(since_boot())
    }

    /// What is to be written down now. Asks the kernel's time service whether the wall clock is right, which may
    /// block for a moment; true when that has moved the steady clock forward.
    pub fn beat(&self, ask: bool) -> (Option<Heartbeat>, bool) {
        if ask {
            self.proved.store(is_synchronised(), Ordering::Relaxed);
        }
        let reading = self.reading();
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(clock) = clock.as_mut() else { return (None, false) };
        let leapt = clock.observe(&reading);
        self.at_boot.store(clock.at(Duration::ZERO).0, Ordering::Relaxed);
        (Some(clock.heartbeat(&reading)), leapt)
    }

    /// True when the wall clock is known to be right.
    #[must_use]
    pub fn is_proved(&self) -> bool {
        self.proved.load(Ordering::Relaxed)
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

/// The kernel's flag, which there is no safe call for: its time services say it.
fn is_synchronised() -> bool {
    if Path::new("/run/systemd/timesync/synchronized").exists() {
        return true;
    }
    let asked = Command::new("timedatectl")
        .args(["show", "--property=NTPSynchronized", "--value"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    asked.is_ok_and(|answer| answer.stdout.starts_with(b"yes"))
}
