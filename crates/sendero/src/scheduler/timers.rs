//! One timer for all channels.

use mail::{ChannelId, Timestamp};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// The wall clock is looked at again after at most this long, so that a clock step delays nothing for more.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// When to look at which channel.
#[derive(Default)]
pub(super) struct Timers {
    heap: Mutex<BinaryHeap<Reverse<(Timestamp, ChannelId)>>>,
    changed: Notify,
}

impl Timers {
    pub(super) fn add(&self, at: Timestamp, channel: ChannelId) {
        let mut heap = self.heap.lock().unwrap_or_else(PoisonError::into_inner);
        let first = heap.peek().is_none_or(|Reverse((earliest, _))| at < *earliest);
        heap.push(Reverse((at, channel)));
        if first {
            self.changed.notify_one();
        }
    }

    /// Removes and returns the channels whose time has come.
    pub(super) fn take_due(&self, now: Timestamp) -> Vec<ChannelId> {
        let mut heap = self.heap.lock().unwrap_or_else(PoisonError::into_inner);
        let mut due = Vec::new();
        while heap.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            due.extend(heap.pop().map(|Reverse((_, channel))| channel));
        }
        due
    }

    /// Returns when the earliest time may have come, or an earlier one was added.
    pub(super) async fn wait(&self, now: Timestamp) {
        let next = self.heap.lock().unwrap_or_else(PoisonError::into_inner).peek().map(|Reverse((at, _))| *at);
        let pause = next.map_or(LOOK_AGAIN, |at| at.since(now).max(Duration::from_millis(1)).min(LOOK_AGAIN));
        tokio::select! {
            biased;
            () = self.changed.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}
