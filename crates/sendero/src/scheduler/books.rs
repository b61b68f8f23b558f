//! What a transaction leaves in the books: a verdict, and what becomes of its units. Values only.

use super::pace::Ended;
use super::verdict::{Judge, Verdict, is_free};
use mail::pace::Spent;
use mail::{Cause, Channel, Outcome, Timestamp};
use std::time::Duration;
use store::{Lease, Spend, Spending};

/// After a time-out the provider may still have taken the message so long.
const REPLY_MAY_TAKE: Duration = Duration::from_secs(600);

/// How a transaction is written down.
pub(super) struct Books {
    pub verdict: Verdict,
    /// What becomes of its place in the pace.
    pub ended: Ended,
    /// The same, for the log.
    pub spending: Spending,
}

/// Closes the books of a transaction that was to spend this, and whose intent was recorded, or was not.
pub(super) fn close_books(
    judge: &Judge<'_>,
    lease: &Lease,
    outcomes: &[(u32, Outcome)],
    spend: Option<Spend>,
    recorded: bool,
) -> Books {
    let ended = ended(judge.row, recorded, outcomes, judge.now);
    let spending = match (spend.filter(|_| recorded), ended) {
        (None, _) => Spending::Uncounted,
        (Some(spend), Ended::Refunded) => Spending::Refunded(spend.units),
        (Some(Spend { account, from, units }), Ended::Spent(age_from)) => Spending::Spent(Spent { account, from, units, age_from }),
    };
    Books { verdict: judge.verdict(lease, outcomes), ended, spending }
}

/// What becomes of the units.
fn ended(row: &Channel, recorded: bool, outcomes: &[(u32, Outcome)], now: Timestamp) -> Ended {
    if !recorded || (row.refusals_free && is_free(outcomes)) {
        return Ended::Refunded;
    }
    let has_no_reply = |outcome: &Outcome| match outcome {
        Outcome::Uncertain(_) | Outcome::Untried => true,
        Outcome::Deferred(cause) | Outcome::Failed(cause) => {
            matches!(cause, Cause::Broken(..) | Cause::LostAfterData(_) | Cause::Interrupted | Cause::Unreadable(_))
        }
        Outcome::Sent(_) | Outcome::Captured => false,
    };
    let is_open = outcomes.iter().any(|(_, outcome)| has_no_reply(outcome));
    // A clock of milliseconds may read up to one too early.
    Ended::Spent(now.plus(if is_open { REPLY_MAY_TAKE } else { Duration::from_millis(1) }))
}

#[cfg(test)]
mod tests {
    use super::super::reports::tests::{channel, failure};
    use super::*;
    use mail::classify::Rules;
    use mail::pace::Units;
    use mail::retry::RetrySchedule;
    use mail::{Diagnostic, Owner, Stage};

    const NOW: Timestamp = Timestamp(1_000_000);

    /// What is written down of a transaction with this outcome, where refusals are free or are not.
    fn spent(outcome: Outcome, recorded: bool, refusals_free: bool) -> (Spending, Ended) {
        let row = Channel { refusals_free, ..channel(1, "way-out", Owner::Instance) };
        let (rules, schedule) = (Rules::default(), RetrySchedule::default());
        let judge = Judge { rules: &rules, row: &row, schedule: &schedule, now: NOW, jitter: 0.0, message: b"", refuted: false };
        let spend = Spend { account: "ana".into(), from: "".into(), units: Units::transaction(1, 10) };
        let books = close_books(&judge, &failure().lease, &[(0, outcome)], Some(spend), recorded);
        (books.spending, books.ended)
    }

    #[test]
    fn units_grow_old_from_the_reply_and_without_one_from_ten_minutes_later() {
        let said = || Diagnostic { code: 550, enhanced: None, text: "no".into() };
        let refused = |stage| Outcome::Failed(Cause::Refused(stage, said()));
        let units = Units::transaction(1, 10);
        let (replied, open) = (Timestamp(NOW.0 + 1), Timestamp(NOW.0 + 600_000));
        let from = |age_from| {
            let spent = Spent { account: "ana".into(), from: "".into(), units, age_from };
            (Spending::Spent(spent), Ended::Spent(age_from))
        };
        let free = (Spending::Refunded(units), Ended::Refunded);
        let unknown = (Spending::Uncounted, Ended::Refunded);
        for (outcome, recorded, refusals_free, expected) in [
            (Outcome::Sent(said()), true, true, from(replied)),
            (refused(Stage::Mail), true, false, from(replied)),
            (refused(Stage::Mail), true, true, free.clone()),
            (refused(Stage::FinalDot), true, true, from(replied)),
            (Outcome::Uncertain(Cause::Interrupted), true, true, from(open)),
            (Outcome::Deferred(Cause::Broken(Stage::Data, "reset".into())), true, false, from(open)),
            (Outcome::Untried, true, true, free),
            (Outcome::Untried, false, false, unknown),
        ] {
            assert_eq!(spent(outcome.clone(), recorded, refusals_free), expected, "{outcome:?}");
        }
    }
}
