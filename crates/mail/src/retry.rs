//! When a deferred recipient is tried again, when it is given up, and what an outcome makes of it.

use crate::channel::OnUncertain;
use crate::outcome::{Cause, Outcome};
use crate::state::Move;
use crate::time::Timestamp;
use std::time::Duration;

/// How long to wait after each attempt. The last step repeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetrySchedule {
    steps: Vec<Duration>,
    max_age: Duration,
}

/// A schedule needs at least one step, and no step of zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a retry schedule needs at least one step, each longer than zero")]
pub struct EmptySchedule;

impl RetrySchedule {
    /// A schedule of these steps; a recipient expires when the steps it has waited add up to `max_age`.
    ///
    /// # Errors
    /// No step, or a step of zero.
    pub fn new(steps: Vec<Duration>, max_age: Duration) -> Result<Self, EmptySchedule> {
        if steps.is_empty() || steps.iter().any(Duration::is_zero) {
            return Err(EmptySchedule);
        }
        Ok(Self { steps, max_age })
    }

    /// The wait after attempt number `attempt` (the first is 1), with `jitter` from -1 to 1 moving it by up to a tenth.
    #[must_use]
    pub fn delay(&self, attempt: u32, jitter: f64) -> Duration {
        let last = self.steps.len() - 1;
        let step = self.steps[last.min(attempt.saturating_sub(1) as usize)];
        step.mul_f64(1.0 + 0.1 * jitter.clamp(-1.0, 1.0))
    }

    /// The waits after `attempts` attempts, added up: what a recipient has behind it when the next attempt ends.
    ///
    /// Time spent waiting for a channel is not in it, and no clock can step over it.
    #[must_use]
    pub fn waited(&self, attempts: u32) -> Duration {
        let listed = self.steps.len().min(attempts as usize);
        let beyond = attempts.saturating_sub(self.steps.len() as u32);
        let last = self.steps[self.steps.len() - 1];
        self.steps[..listed].iter().sum::<Duration>().saturating_add(last.saturating_mul(beyond))
    }

    /// How much of the lifetime is left after so many waits.
    #[must_use]
    pub fn left(&self, attempts: u32) -> Duration {
        self.max_age.saturating_sub(self.waited(attempts))
    }

    /// True when so many waits make up the lifetime.
    #[must_use]
    pub fn is_over(&self, attempts: u32) -> bool {
        self.waited(attempts) >= self.max_age
    }
}

impl Default for RetrySchedule {
    /// 1, 5 and 15 minutes, 1, 3 and 6 hours; five days in all.
    fn default() -> Self {
        let minutes = |count: u64| Duration::from_secs(60 * count);
        Self {
            steps: vec![minutes(1), minutes(5), minutes(15), minutes(60), minutes(180), minutes(360)],
            max_age: minutes(5 * 24 * 60),
        }
    }
}

/// What a recipient has behind it when an attempt ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Own attempts before this one.
    pub attempts: u32,
    /// Uncertain outcomes before this one.
    pub doubts: u32,
}

/// What becomes of a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The move, legal from `leased`.
    pub to: Move,
    /// When it is due again, if it goes back to the queue.
    pub due: Timestamp,
    /// True when the attempt counts as the recipient's own.
    pub counts: bool,
}

/// Decides what becomes of a recipient after an attempt.
#[must_use]
pub fn judge(
    outcome: &Outcome,
    standing: Standing,
    schedule: &RetrySchedule,
    on_uncertain: OnUncertain,
    now: Timestamp,
    jitter: f64,
) -> Verdict {
    let ended = |to, counts| Verdict { to, due: now, counts };
    match outcome {
        Outcome::Sent(_) => ended(Move::Send, true),
        Outcome::Captured => ended(Move::Capture, true),
        // A person may know where to find it again.
        Outcome::Failed(Cause::Unreadable(_)) | Outcome::Deferred(Cause::Unreadable(_)) => ended(Move::Hold, false),
        Outcome::Failed(_) => ended(Move::Fail, true),
        Outcome::Untried => ended(Move::GiveBack, false),
        Outcome::Uncertain(_) => {
            if standing.doubts > 0 || on_uncertain == OnUncertain::Ask {
                return ended(Move::Hold, true);
            }
            Verdict { to: Move::Doubt, due: now.plus(schedule.delay(1, jitter)), counts: true }
        }
        Outcome::Deferred(cause) if is_about_channel(cause) => ended(Move::GiveBack, false),
        Outcome::Deferred(_) => {
            // The wait that would follow has not been waited yet.
            if schedule.is_over(standing.attempts) {
                return ended(Move::Expire, true);
            }
            let attempts = standing.attempts.saturating_add(1);
            Verdict { to: Move::Defer, due: now.plus(schedule.delay(attempts, jitter)), counts: true }
        }
    }
}

/// Nothing before MAIL is ever about a message.
fn is_about_channel(cause: &Cause) -> bool {
    match cause {
        Cause::Refused(stage, _) | Cause::Broken(stage, _) => stage.is_before_mail(),
        Cause::Unsupported(_) | Cause::LostAfterData(_) | Cause::Interrupted | Cause::Unreadable(_) => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::outcome::{Diagnostic, Stage};

    const NOW: Timestamp = Timestamp(1_000_000);

    fn refused(stage: Stage) -> Outcome {
        Outcome::Deferred(Cause::Refused(stage, Diagnostic::own(None, "later")))
    }

    fn after(outcome: &Outcome, attempts: u32, doubts: u32) -> Verdict {
        judge(outcome, Standing { attempts, doubts }, &RetrySchedule::default(), OnUncertain::Retry, NOW, 0.0)
    }

    #[test]
    fn each_deferral_waits_for_the_next_step_and_the_last_step_repeats() {
        let waits: Vec<u64> = (0..8).map(|n| after(&refused(Stage::Rcpt), n, 0).due.since(NOW).as_secs() / 60).collect();
        assert_eq!(waits, [1, 5, 15, 60, 180, 360, 360, 360]);
    }

    #[test]
    fn a_recipient_expires_when_its_own_waits_add_up_to_its_lifetime() {
        let mut attempts = 0;
        while after(&refused(Stage::Rcpt), attempts, 0).to == Move::Defer {
            attempts += 1;
        }
        assert_eq!(after(&refused(Stage::Rcpt), attempts, 0).to, Move::Expire);
        let days = RetrySchedule::default().waited(attempts).as_secs_f64() / 86_400.0;
        assert!((5.0..5.3).contains(&days), "{days}");
    }

    #[test]
    fn a_lifetime_of_one_wait_ends_with_the_attempt_after_it() {
        let day = Duration::from_secs(86_400);
        let schedule = RetrySchedule::new(vec![day], day).unwrap();
        let after = |attempts| {
            let standing = Standing { attempts, doubts: 0 };
            judge(&refused(Stage::Rcpt), standing, &schedule, OnUncertain::Retry, NOW, 0.0)
        };
        assert_eq!(after(0), Verdict { to: Move::Defer, due: NOW.plus(day), counts: true });
        assert_eq!(after(1).to, Move::Expire);
    }

    #[test]
    fn trouble_before_mail_spends_no_attempt_and_never_expires_a_message() {
        for stage in [Stage::Connect, Stage::Greeting, Stage::Ehlo, Stage::StartTls, Stage::Tls, Stage::Auth] {
            let verdict = after(&refused(stage), 10_000, 0);
            assert_eq!((verdict.to, verdict.counts), (Move::GiveBack, false), "{stage:?}");
        }
    }

    #[test]
    fn a_first_lost_reply_is_tried_once_more_and_a_second_one_waits_for_a_person() {
        let lost = Outcome::Uncertain(Cause::LostAfterData("reset".into()));
        assert_eq!(after(&lost, 0, 0).to, Move::Doubt);
        assert_eq!(after(&lost, 1, 1).to, Move::Hold);
        let asked = judge(&lost, Standing::default(), &RetrySchedule::default(), OnUncertain::Ask, NOW, 0.0);
        assert_eq!(asked.to, Move::Hold);
    }

    #[test]
    fn jitter_moves_a_wait_by_at_most_a_tenth() {
        let schedule = RetrySchedule::default();
        assert_eq!(schedule.delay(1, -9.0), Duration::from_secs(54));
        assert_eq!(schedule.delay(1, 1.0), Duration::from_secs(66));
    }

    #[test]
    fn every_verdict_is_a_legal_move_from_leased() {
        let outcomes = [
            refused(Stage::Data),
            refused(Stage::Auth),
            Outcome::Captured,
            Outcome::Untried,
            Outcome::Failed(Cause::Interrupted),
            Outcome::Uncertain(Cause::Interrupted),
            Outcome::Sent(Diagnostic::own(None, "ok")),
        ];
        for outcome in outcomes {
            let verdict = after(&outcome, 3, 0);
            assert!(crate::RecipientState::Leased.after(verdict.to).is_some(), "{outcome:?}");
        }
    }
}
