//! The machine's clocks, and the steady clock that goes on over restarts.

use intake::{Clock, random_message_id, wall_clock};
use mail::steady::{BootId, Calendar, Credit, Heartbeat, Reading, SteadyClock, Watch};
use mail::{MessageId, Timestamp};
use rustix::time::{ClockId, clock_gettime};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// The clocks are written down this often.
pub const BEAT_EVERY: Duration = Duration::from_secs(30);
/// It is asked this often whether the wall clock is right, and whenever it was set.
const PROVE_EVERY: Duration = Duration::from_secs(300);
/// A wall clock that has moved by more against the steady one was set.
const SET: Duration = Duration::from_secs(1);
/// A time service that has not answered by then is not waited for: the clock is not proved.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// It is looked for the answer this often.
const LOOK_EVERY: Duration = Duration::from_millis(20);

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
    watch: Option<Watch>,
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
        let reading = self.reading();
        let mut inner = self.lock();
        let clock = SteadyClock::resume(last, &reading);
        self.at_boot.store(clock.at(Duration::ZERO).0, Ordering::Relaxed);
        inner.clock = Some(clock);
        let steady = clock.at(reading.since_boot);
        inner.watch = Some(Watch::resume(last, &reading, steady));
        steady
    }

    /// The steady clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp(self.at_boot.load(Ordering::Relaxed)).plus(since_boot())
    }

    /// What is to be written down now. May ask the system's time service, which blocks for some seconds at most.
    pub fn beat(&self) -> Option<(Heartbeat, Option<Credit>)> {
        let reading = self.reading();
        let mut inner = self.lock();
        let (heartbeat, credit) = inner.clock.map(|clock| clock.beat(&reading))?;
        let doubted = inner.watch.as_mut().is_some_and(|watch| {
            watch.look(reading.wall, heartbeat.steady);
            if reading.proved {
                watch.prove();
            }
            watch.doubts()
        });
        Some((Heartbeat { doubted, ..heartbeat }, credit))
    }

    /// What the wall clock says, and whether mail may end by it. Asks nobody, so that it answers at once.
    pub fn calendar(&self) -> Calendar {
        let (wall, steady) = (wall_clock(), self.now());
        let mut inner = self.lock();
        let Some(watch) = inner.watch.as_mut() else { return Calendar::sure(wall) };
        let doubted = watch.doubts();
        let calendar = watch.look(wall, steady);
        if watch.doubts() && !doubted {
            tracing::warn!(%wall, "the clock was set by more than a minute: no mail expires until it is known to be right");
        }
        calendar
    }

    /// The heartbeat is durable.
    pub fn written(&self, heartbeat: &Heartbeat) {
        if let Some(clock) = self.lock().clock.as_mut() {
            clock.written(heartbeat);
        }
    }

    /// All clocks now. Nothing is locked while the time service is asked.
    fn reading(&self) -> Reading {
        let known = self.lock().proof;
        let (since_boot, wall) = (since_boot(), wall_clock());
        let apart = wall.0 - i64::try_from(since_boot.as_millis()).unwrap_or(i64::MAX);
        let holds = |proof: &Proof| {
            since_boot.saturating_sub(proof.asked_at) < PROVE_EVERY && apart.abs_diff(proof.apart) <= SET.as_millis() as u64
        };
        let proof = known.filter(holds);
        let proof = proof.unwrap_or_else(|| Proof { right: is_synchronised(), apart, asked_at: since_boot });
        self.lock().proof = Some(proof);
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
    let mut question = Command::new("timedatectl");
    question.args(["show", "--property=NTPSynchronized", "--value"]);
    answer(&mut question).is_some_and(|answer| answer.starts_with(b"yes"))
}

/// What a program says within [`ANSWERS_WITHIN`]: a line or two. It is killed when it has not ended by then.
fn answer(question: &mut Command) -> Option<Vec<u8>> {
    let asked = question.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = asked.ok()?;
    if has_ended(&mut child) {
        return child.wait_with_output().ok().map(|output| output.stdout);
    }
    tracing::debug!(program = ?question.get_program(), "no answer of the time service: the clock is not proved");
    // It may have ended just now.
    let _ = child.kill();
    let _ = child.wait();
    None
}

/// True when it ended in time.
fn has_ended(child: &mut Child) -> bool {
    let asked_at = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(_)) => return true,
            Ok(None) if asked_at.elapsed() < ANSWERS_WITHIN => std::thread::sleep(LOOK_EVERY),
            Ok(None) | Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_time_service_that_is_stuck_is_not_waited_for() {
        let asked_at = Instant::now();
        assert_eq!(answer(Command::new("sleep").arg("60")), None);
        assert!(asked_at.elapsed() < Duration::from_secs(20));
        assert_eq!(answer(Command::new("echo").arg("yes")).as_deref(), Some(&b"yes\n"[..]));
        assert_eq!(answer(&mut Command::new("no-such-program")), None);
    }

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
