//! Open mail by channel: how much, what it waits for, and when it will be through.

use super::Glance;
use crate::gateway::LaneWait;
use crate::view::{QueueCause, QueueLane, QueueLine};
use crate::waiting::Way;
use mail::pace::Ahead;
use mail::{Lane, WaitingKind};
use store::ChannelQueue;

const LANES: [Lane; 3] = [Lane::Now, Lane::Normal, Lane::Bulk];

impl Glance<'_> {
    /// The open mail of one channel.
    pub(crate) fn queue_line(&self, line: &ChannelQueue) -> QueueLine {
        let way = self.way(line.channel);
        let lanes: Vec<QueueLane> = LANES.into_iter().filter_map(|lane| self.lane(line, lane, &way)).collect();
        let parked = way.outlook.state.open_at(self.clocks.steady).is_err();
        QueueLine {
            channel: way.name.clone(),
            state: way.outlook.state.name().to_owned(),
            queued: line.queued,
            leased: line.leased,
            held: line.held,
            bytes: line.bytes,
            next_due: line.next_due.map(|due| self.clocks.shown(due.max(self.clocks.steady))),
            oldest: line.oldest,
            reason: way.outlook.state.reason().to_owned(),
            causes: causes(line, parked, &way.outlook.lanes),
            finishes_at: lanes.iter().try_fold(None, |latest, lane| Some(latest.max(Some(lane.finishes_at?)))).flatten(),
            lanes,
        }
    }

    fn lane(&self, line: &ChannelQueue, lane: Lane, way: &Way) -> Option<QueueLane> {
        let waiting = line.waiting[lane as usize];
        if waiting.transactions == 0 {
            return None;
        }
        let wait = way.outlook.lanes[lane as usize].as_ref();
        let parked = way.outlook.state.open_at(self.clocks.steady).err();
        let slot = match (parked, wait) {
            (Some(until), _) => until,
            (None, Some(wait)) => wait.until,
            (None, None) => Some(self.clocks.steady),
        };
        let finish = self.gateway.forecast(line.channel, lane, through(&line.waiting, lane));
        Some(QueueLane {
            lane,
            messages: waiting.transactions,
            recipients: waiting.recipients,
            bytes: waiting.bytes,
            later: line.later[lane as usize],
            next_slot: slot.map(|at| self.clocks.shown(at)),
            finishes_at: finish.map(|at| self.clocks.shown(at)),
        })
    }
}

/// What leaves until the last message of a lane has left: the more urgent lanes go first.
pub(crate) fn through(waiting: &[Ahead; 3], lane: Lane) -> Ahead {
    waiting.iter().take(lane as usize + 1).fold(Ahead::default(), |sum, one| sum.plus(*one))
}

/// What the open mail of a channel waits for, summed: messages that are queued, recipients that are not.
fn causes(line: &ChannelQueue, parked: bool, waits: &[Option<LaneWait>; 3]) -> Vec<QueueCause> {
    let mut sums = [(WaitingKind::Channel, 0), (WaitingKind::Pace, 0), (WaitingKind::Turn, 0), (WaitingKind::Retry, 0)];
    let mut add = |kind, count| sums.iter_mut().filter(|(known, _)| *known == kind).for_each(|(_, sum)| *sum += count);
    for (place, wait) in waits.iter().enumerate() {
        let (all, later) = (line.waiting[place].transactions, line.later[place]);
        let kind = if wait.is_some() { WaitingKind::Pace } else { WaitingKind::Turn };
        match parked {
            true => add(WaitingKind::Channel, all),
            false => {
                add(kind, all.saturating_sub(later));
                add(WaitingKind::Retry, later);
            }
        }
    }
    let others = [(WaitingKind::Delivery, line.leased), (WaitingKind::Person, line.held)];
    sums.into_iter().chain(others).filter(|(_, count)| *count > 0).map(|(kind, count)| QueueCause { kind, count }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail::ChannelId;
    use mail::pace::Why;

    fn line() -> ChannelQueue {
        let waiting = |count| Ahead { transactions: count, recipients: count, bytes: 1000 * count };
        ChannelQueue {
            channel: ChannelId(1),
            queued: 20,
            leased: 1,
            held: 2,
            bytes: 0,
            next_due: None,
            oldest: None,
            waiting: [waiting(0), waiting(5), waiting(15)],
            later: [0, 2, 3],
        }
    }

    fn shown(parked: bool, bulk: Option<LaneWait>) -> Vec<(WaitingKind, u64)> {
        causes(&line(), parked, &[None, None, bulk]).into_iter().map(|cause| (cause.kind, cause.count)).collect()
    }

    #[test]
    fn causes_add_up_to_what_is_open() {
        let spread = Some(LaneWait { until: None, why: Why::Spread });
        let rest = [(WaitingKind::Delivery, 1), (WaitingKind::Person, 2)];
        let with_rest = |first: &[(WaitingKind, u64)]| [first, &rest].concat();
        let paced = [(WaitingKind::Pace, 12), (WaitingKind::Turn, 3), (WaitingKind::Retry, 5)];
        assert_eq!(shown(false, spread), with_rest(&paced));
        assert_eq!(shown(false, None), with_rest(&[(WaitingKind::Turn, 15), (WaitingKind::Retry, 5)]));
        assert_eq!(shown(true, None), with_rest(&[(WaitingKind::Channel, 20)]));
    }

    #[test]
    fn a_lane_is_through_when_the_more_urgent_ones_are() {
        let count = |lane| through(&line().waiting, lane).transactions;
        assert_eq!([count(Lane::Now), count(Lane::Normal), count(Lane::Bulk)], [0, 5, 20]);
    }
}
