//! Where the messages of a page stand in their lanes, and when they start.

use crate::gateway::Gateway;
use crate::waiting::Place;
use mail::pace::Ahead;
use mail::{ChannelId, Lane, MessageId, Timestamp};

/// Forecasts that are run for one lane; between them the line is taken to be straight.
const FORECASTS: usize = 8;

/// The places of these messages, which are queued on one channel.
pub(super) fn of(gateway: &dyn Gateway, channel: ChannelId, messages: &[MessageId]) -> Vec<(MessageId, Place)> {
    let stands = gateway.queue().ahead(channel, messages, gateway.steady());
    Lane::ALL
        .into_iter()
        .flat_map(|lane| {
            let in_lane = stands.iter().filter(|(_, other, _)| *other == lane);
            let mut line: Vec<(MessageId, Ahead)> = in_lane.map(|(id, _, ahead)| (*id, *ahead)).collect();
            line.sort_by_key(|(id, ahead)| (ahead.transactions, *id));
            starts(line, |ahead| gateway.forecast(channel, lane, ahead))
        })
        .collect()
}

fn starts(line: Vec<(MessageId, Ahead)>, forecast: impl Fn(Ahead) -> Option<Timestamp>) -> Vec<(MessageId, Place)> {
    let last = line.len().saturating_sub(1);
    let mut known: Vec<(u64, Option<Timestamp>)> = Vec::with_capacity(FORECASTS);
    for step in 0..FORECASTS.min(line.len()) {
        let (_, ahead) = line[if last < FORECASTS { step } else { step * last / (FORECASTS - 1) }];
        known.push((ahead.transactions, forecast(ahead)));
    }
    let place = |(id, ahead): (MessageId, Ahead)| (id, Place { ahead, starts: between(&known, ahead.transactions) });
    line.into_iter().map(place).collect()
}

/// The time at `transactions`, on the straight line between the forecasts around it.
fn between(known: &[(u64, Option<Timestamp>)], transactions: u64) -> Option<Timestamp> {
    let behind = known.partition_point(|(at, _)| *at < transactions);
    let (to, end) = *known.get(behind)?;
    let end = end?;
    if to == transactions || behind == 0 {
        return Some(end);
    }
    let (from, begin) = known[behind - 1];
    let share = (transactions - from) as f64 / (to - from) as f64;
    begin.map(|begin| begin.plus(end.since(begin).mul_f64(share)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn line(count: u64) -> Vec<(MessageId, Ahead)> {
        let stand = |place: u64| {
            let id = MessageId::new(Timestamp(i64::try_from(place).unwrap_or(0)), [0; 10]);
            (id, Ahead { transactions: place, recipients: place, bytes: place })
        };
        (1..=count).map(stand).collect()
    }

    fn at(ahead: Ahead) -> Option<Timestamp> {
        Some(Timestamp(1000 * i64::try_from(ahead.transactions).unwrap_or(0)))
    }

    #[test]
    fn a_long_page_runs_a_few_forecasts_and_places_the_rest_between_them() {
        for count in [1, 2, 7, 8, 9, 1000] {
            let runs = Cell::new(0);
            let places = starts(line(count), |ahead| {
                runs.set(runs.get() + 1);
                at(ahead)
            });
            assert!(runs.get() <= FORECASTS);
            assert_eq!(places.len() as u64, count);
            for (_, place) in places {
                assert_eq!(place.starts, at(place.ahead), "{count}");
            }
        }
    }

    #[test]
    fn where_nobody_can_say_when_there_is_no_time() {
        assert!(starts(line(20), |_| None).iter().all(|(_, place)| place.starts.is_none()));
    }
}
