//! One timer for all channels.

use mail::{ChannelId, Timestamp};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// The clock is looked at again after at most this long, so that a step of the runtime's own clock, a machine that
/// sleeps or time that was credited delays nothing for more.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// When to look at which channel: one moment for each, the earliest that anybody asked for.
///
/// Whoever looks then finds out when to look again, so that later moments need not be kept.
#[derive(Default)]
pub(super) struct Timers {
    set: Mutex<Set>,
    changed: Notify,
}

#[derive(Default)]
struct Set {
    in_order: BTreeSet<(Timestamp, ChannelId)>,
    by_channel: HashMap<ChannelId, Timestamp>,
}

impl Timers {
    fn lock(&self) -> MutexGuard<'_, Set> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the channel at `at`, unless it is looked at before.
    pub(super) fn add(&self, at: Timestamp, channel: ChannelId) {
        let mut set = self.lock();
        if set.by_channel.get(&channel).is_some_and(|known| *known <= at) {
            return;
        }
        if let Some(later) = set.by_channel.insert(channel, at) {
            set.in_order.remove(&(later, channel));
        }
        set.in_order.insert((at, channel));
        if set.in_order.first() == Some(&(at, channel)) {
            self.changed.notify_one();
        }
    }

    /// Removes and returns the channels whose time has come.
    pub(super) fn take_due(&self, now: Timestamp) -> Vec<ChannelId> {
        let mut set = self.lock();
        let mut due = Vec::new();
        while let Some((_, channel)) = set.in_order.first().copied().filter(|(at, _)| *at <= now) {
            set.in_order.pop_first();
            set.by_channel.remove(&channel);
            due.push(channel);
        }
        due
    }

    /// Returns when the earliest time may have come, or an earlier one was added.
    pub(super) async fn wait(&self, now: Timestamp) {
        let next = self.lock().in_order.first().map(|(at, _)| *at);
        let pause = next.map_or(LOOK_AGAIN, |at| at.since(now).max(Duration::from_millis(1)).min(LOOK_AGAIN));
        tokio::select! {
            biased;
            () = self.changed.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_has_one_moment_and_the_earliest_wins() {
        let timers = Timers::default();
        for at in [9, 5, 7, 5, 9] {
            timers.add(Timestamp(at), ChannelId(1));
        }
        timers.add(Timestamp(6), ChannelId(2));
        let set = timers.lock();
        assert_eq!((set.in_order.len(), set.by_channel.len()), (2, 2));
        drop(set);
        assert_eq!(timers.take_due(Timestamp(4)), []);
        assert_eq!(timers.take_due(Timestamp(9)), [ChannelId(1), ChannelId(2)]);
        assert_eq!(timers.take_due(Timestamp(9)), []);
        timers.add(Timestamp(9), ChannelId(1));
        assert_eq!(timers.take_due(Timestamp(9)), [ChannelId(1)], "a moment that has passed is forgotten");
    }
}
