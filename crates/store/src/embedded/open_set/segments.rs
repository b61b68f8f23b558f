//! What each segment of the log is still needed for.

use super::{OpenSet, Place, Standing};
use mail::{MessageId, Timestamp};

/// Slots that are looked at without letting others in between.
const SLOTS_AT_ONCE: usize = 16_384;

/// What a segment of the log is still needed for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SegmentUse {
    /// Open messages whose record it has.
    pub open: u32,
    /// Bytes of their records.
    pub live_bytes: u64,
    /// When the first and the last message of it ended, by the heartbeat before.
    pub ended: Option<(Timestamp, Timestamp)>,
}

impl SegmentUse {
    pub(super) fn end(&mut self, at: Timestamp) {
        let (first, last) = self.ended.unwrap_or((at, at));
        self.ended = Some((first.min(at), last.max(at)));
    }
}

impl OpenSet {
    pub(super) fn occupy(&mut self, place: Place) {
        let used = self.segments.entry(place.position.segment).or_default();
        used.open += 1;
        used.live_bytes += u64::from(place.payload_length);
    }

    pub(super) fn vacate(&mut self, place: Place) {
        let used = self.segments.entry(place.position.segment).or_default();
        used.open = used.open.saturating_sub(1);
        used.live_bytes = used.live_bytes.saturating_sub(u64::from(place.payload_length));
    }

    /// Up to `limit` open messages whose record a segment has, from a slot on; and the slot to go on from, if any.
    pub(crate) fn of_segment(&self, segment: u32, from: usize, limit: usize) -> (Vec<(MessageId, Place)>, Option<usize>) {
        let mut found = Vec::new();
        let slots = self.slots.from(from).take(SLOTS_AT_ONCE);
        for (slot, open) in (from..).zip(slots) {
            let Some((Standing { id, place, .. }, _)) = open.filter(|(one, _)| one.place.position.segment == segment) else {
                continue;
            };
            found.push((id, place));
            if found.len() == limit {
                return (found, Some(slot + 1));
            }
        }
        let next = from + SLOTS_AT_ONCE;
        (found, (next < self.slots.len()).then_some(next))
    }
}
