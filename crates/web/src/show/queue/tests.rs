#![allow(clippy::unwrap_used)]
use super::*;
use crate::clocks::Clocks;
use crate::gateway::Outlook;
use mail::pace::Why;
use mail::{ChannelId, ChannelState};

const NOW: Timestamp = Timestamp(1_000_000);

fn some(count: u64) -> Ahead {
    Ahead { transactions: count, recipients: count, bytes: 1000 * count }
}

/// Five normal messages, two of them not due; seventeen bulk ones, of which three wait for a retry and two for the time
/// they are scheduled for; four of somebody kept back.
fn line() -> ChannelQueue {
    let lane = |due, later| LaneQueue { due: some(due), later: some(later), ..LaneQueue::default() };
    ChannelQueue {
        channel: ChannelId(1),
        queued: 26,
        leased: 1,
        held: 2,
        bytes: 0,
        oldest: None,
        lanes: [LaneQueue::default(), LaneQueue { kept_back: some(4), ..lane(3, 2) }, LaneQueue { scheduled: 2, ..lane(12, 5) }],
    }
}

fn shown(parked: Result<(), Option<Timestamp>>, bulk: Option<LaneWait>) -> Vec<(WaitingKind, u64)> {
    causes(&line(), parked, &[None, None, bulk]).into_iter().map(|cause| (cause.kind, cause.count)).collect()
}

#[test]
fn causes_add_up_to_what_is_open_and_who_is_kept_back_waits_for_a_person() {
    let spread = Some(LaneWait { until: None, why: Why::Spread });
    let (delivery, person) = ((WaitingKind::Delivery, 1), (WaitingKind::Person, 6));
    let (pace, turn) = ((WaitingKind::Pace, 12), (WaitingKind::Turn, 3));
    let (retry, schedule) = ((WaitingKind::Retry, 5), (WaitingKind::Schedule, 2));
    assert_eq!(shown(Ok(()), spread), [pace, turn, retry, schedule, delivery, person]);
    assert_eq!(shown(Ok(()), None), [(WaitingKind::Turn, 15), retry, schedule, delivery, person]);
    assert_eq!(shown(Err(Some(NOW)), None), [(WaitingKind::Channel, 20), schedule, delivery, person]);
    assert_eq!(shown(Err(None), None), [(WaitingKind::Channel, 24), schedule, delivery, (WaitingKind::Person, 2)]);
}

#[test]
fn a_lane_is_through_when_what_is_due_in_it_and_in_the_more_urgent_ones_has_left() {
    let count = |lane| through(&line().lanes, lane, Ahead::default()).transactions;
    assert_eq!([count(Lane::Now), count(Lane::Normal), count(Lane::Bulk)], [0, 3, 15]);
    // Of a flood of urgent mail, four go for each one of normal.
    let due = |count| LaneQueue { due: some(count), ..LaneQueue::default() };
    let lanes = [due(1000), due(3), due(0)];
    assert_eq!(through(&lanes, Lane::Normal, Ahead::default()).transactions, 15);
}

fn slot(first_due: Option<i64>, state: ChannelState, limit: Option<i64>) -> Option<i64> {
    let queued = LaneQueue { first_due: first_due.map(Timestamp), ..LaneQueue::default() };
    let wait = limit.map(|until| LaneWait { until: Some(Timestamp(until)), why: Why::Spread });
    let outlook = Outlook { state, lanes: [None, wait, None], ..Outlook::default() };
    let way = Way { name: "sales".into(), outlook, clocks: Clocks { wall: NOW, steady: NOW }, words: true };
    next_slot(&queued, Lane::Normal, &way).map(|at| at.0)
}

#[test]
fn the_next_slot_is_the_latest_of_what_it_waits_for() {
    let parked = || ChannelState::Throttled { until: Timestamp(1_500_000), reason: "450 quota".into(), replies: 1 };
    assert_eq!(slot(Some(5), ChannelState::Active, None), Some(NOW.0));
    assert_eq!(slot(Some(2_000_000), ChannelState::Active, None), Some(2_000_000), "a retry that is not due");
    assert_eq!(slot(Some(5), parked(), None), Some(1_500_000));
    assert_eq!(slot(Some(2_000_000), parked(), None), Some(2_000_000));
    assert_eq!(slot(Some(5), ChannelState::Active, Some(1_200_000)), Some(1_200_000));
    assert_eq!(slot(Some(2_000_000), ChannelState::Active, Some(1_200_000)), Some(2_000_000));
    assert_eq!(slot(None, ChannelState::Active, None), None, "all of it is kept back");
    assert_eq!(slot(Some(5), ChannelState::Paused { by: "ana".into() }, None), None);
}

fn lane(messages: u64, kept_back: u64, finishes_at: Option<i64>) -> QueueLane {
    let (recipients, bytes, later, next_slot) = (messages, 0, 0, None);
    let finishes_at = finishes_at.map(Timestamp);
    let scheduled = 0;
    QueueLane { lane: Lane::Normal, messages, recipients, bytes, later, scheduled, kept_back, next_slot, finishes_at }
}

#[test]
fn a_channel_is_through_when_all_lanes_are_that_wait_for_no_person() {
    assert_eq!(through_at(&[lane(3, 0, Some(5)), lane(3, 1, Some(9))]), Some(Timestamp(9)));
    assert_eq!(through_at(&[lane(3, 0, Some(5)), lane(3, 3, None)]), Some(Timestamp(5)));
    assert_eq!(through_at(&[lane(3, 0, Some(5)), lane(3, 0, None)]), None);
    assert_eq!(through_at(&[lane(3, 3, None)]), None);
}
