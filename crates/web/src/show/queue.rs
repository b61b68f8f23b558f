//! Open mail by channel: how much, what it waits for, and when it will be through.

use super::Glance;
use crate::gateway::LaneWait;
use crate::view::{QueueCause, QueueLane, QueueLine};
use crate::waiting::Way;
use mail::pace::Ahead;
use mail::{Lane, Timestamp, WaitingKind};
use store::{ChannelQueue, LaneQueue};

impl Glance<'_> {
    /// The open mail of one channel.
    pub(crate) fn queue_line(&self, line: &ChannelQueue) -> QueueLine {
        let way = self.way(line.channel);
        let lanes: Vec<QueueLane> = Lane::ALL.into_iter().filter_map(|lane| self.lane(line, lane, &way)).collect();
        let parked = way.outlook.state.open_at(self.clocks.steady);
        QueueLine {
            channel: way.name.clone(),
            state: way.outlook.state.name().to_owned(),
            queued: line.queued,
            leased: line.leased,
            held: line.held,
            bytes: line.bytes,
            next_due: lanes.iter().filter_map(|lane| lane.next_slot).min(),
            oldest: line.oldest,
            reason: self.reason(&way),
            causes: causes(line, parked, &way.outlook.lanes),
            finishes_at: through_at(&lanes),
            lanes,
        }
    }

    fn lane(&self, line: &ChannelQueue, lane: Lane, way: &Way) -> Option<QueueLane> {
        let queued = &line.lanes[lane as usize];
        let moves = queued.due.plus(queued.later);
        let waiting = moves.plus(queued.kept_back);
        if waiting.transactions == 0 {
            return None;
        }
        let ahead = through(&line.lanes, lane, queued.later);
        let finish = if moves.transactions == 0 { None } else { self.gateway.forecast(line.channel, lane, ahead) };
        Some(QueueLane {
            lane,
            messages: waiting.transactions,
            recipients: waiting.recipients,
            bytes: waiting.bytes,
            later: queued.later.transactions,
            scheduled: queued.scheduled,
            kept_back: queued.kept_back.transactions,
            next_slot: next_slot(queued, lane, way).map(|at| self.clocks.shown(at)),
            // Whatever its place in line, nothing leaves before it is due.
            finishes_at: finish.map(|at| self.clocks.shown(queued.last_due.map_or(at, |due| due.max(at)))),
        })
    }
}

/// When the next message of a lane may start: it is due, its channel is open, and its limits have room.
fn next_slot(queued: &LaneQueue, lane: Lane, way: &Way) -> Option<Timestamp> {
    let now = way.clocks.steady;
    let due = queued.first_due?.max(now);
    match (way.outlook.state.open_at(now), way.outlook.lanes[lane as usize].as_ref()) {
        (Err(until), _) => until.map(|until| until.max(due)),
        (Ok(()), Some(wait)) => wait.until.map(|until| until.max(due)),
        (Ok(()), None) => Some(due),
    }
}

/// When all lanes are through, as far as they wait for no person.
fn through_at(lanes: &[QueueLane]) -> Option<Timestamp> {
    let moving = lanes.iter().filter(|lane| lane.messages > lane.kept_back);
    moving.map(|lane| lane.finishes_at).reduce(|latest, at| Some(latest?.max(at?))).flatten()
}

/// What leaves until what is due of a lane, and more behind it, has left: the more urgent lanes go first, but for its share.
pub(crate) fn through(lanes: &[LaneQueue; 3], lane: Lane, more: Ahead) -> Ahead {
    let urgent = lanes.iter().take(lane as usize).fold(Ahead::default(), |sum, one| sum.plus(one.due));
    lanes[lane as usize].due.plus(more).behind(urgent, lane)
}

/// What the open mail of a channel waits for, summed: messages that are queued, recipients that are not.
///
/// Whoever waits for a person is counted as such, unless the channel as a whole does.
fn causes(line: &ChannelQueue, parked: Result<(), Option<Timestamp>>, waits: &[Option<LaneWait>; 3]) -> Vec<QueueCause> {
    let kinds = [WaitingKind::Channel, WaitingKind::Pace, WaitingKind::Turn, WaitingKind::Retry, WaitingKind::Schedule];
    let mut sums = kinds.map(|kind| (kind, 0));
    let mut add = |kind, count| sums.iter_mut().filter(|(known, _)| *known == kind).for_each(|(_, sum)| *sum += count);
    let mut for_a_person = line.held;
    for (lane, wait) in line.lanes.iter().zip(waits) {
        let (due, later) = (lane.due.transactions, lane.later.transactions.saturating_sub(lane.scheduled));
        add(WaitingKind::Schedule, lane.scheduled);
        match parked {
            Err(None) => add(WaitingKind::Channel, due + later + lane.kept_back.transactions),
            Err(Some(_)) => add(WaitingKind::Channel, due + later),
            Ok(()) => {
                add(if wait.is_some() { WaitingKind::Pace } else { WaitingKind::Turn }, due);
                add(WaitingKind::Retry, later);
            }
        }
        if parked != Err(None) {
            for_a_person += lane.kept_back.recipients;
        }
    }
    let others = [(WaitingKind::Delivery, line.leased), (WaitingKind::Person, for_a_person)];
    sums.into_iter().chain(others).filter(|(_, count)| *count > 0).map(|(kind, count)| QueueCause { kind, count }).collect()
}

#[cfg(test)]
mod tests;
