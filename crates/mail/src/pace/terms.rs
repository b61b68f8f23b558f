//! What a channel is held to at this moment.

use super::learned::Lessons;
use super::ledger::{Free, FromId, Ledger, Units, stretched};
use crate::channel::Channel;
use crate::envelope::Lane;
use crate::limits::{Caps, Limit, LimitScope, Unit};
use crate::time::Timestamp;
use std::num::NonZeroU64;
use std::time::Duration;

/// Bulk is spread evenly over windows up to this long; longer ones are quotas, which are used as they come.
const SPREAD_UP_TO: Duration = Duration::from_secs(3600);

/// The share of each window that bulk leaves to people, in thousandths; at least one unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserve(pub u16);

impl Default for Reserve {
    fn default() -> Self {
        Self(50)
    }
}

/// What a channel is held to: its limits, what replies taught, and what bulk leaves to others.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// In sliding windows.
    pub limits: Vec<Limit>,
    /// Caps, lowered by what replies taught.
    pub caps: Caps,
    /// What bulk leaves.
    pub reserve: Reserve,
}

impl Terms {
    /// The terms of a channel after its lessons.
    #[must_use]
    pub fn new(channel: &Channel, lessons: &Lessons) -> Self {
        Self { limits: channel.limits.clone(), caps: channel.caps, reserve: channel.reserve }.after(lessons)
    }

    /// These terms, held to what replies taught as well.
    #[must_use]
    pub fn after(mut self, lessons: &Lessons) -> Self {
        self.limits.extend(lessons.limit());
        self.caps.connections = lessons.connections(self.caps.connections);
        self
    }

    /// True when nothing is counted in windows.
    #[must_use]
    pub fn is_unlimited(&self) -> bool {
        self.limits.is_empty()
    }

    /// True when a limit counts per From.
    #[must_use]
    pub fn counts_froms(&self) -> bool {
        self.limits.iter().any(|limit| limit.scope == LimitScope::From)
    }

    /// What bulk leaves free of a limit.
    #[must_use]
    pub fn kept_free(&self, limit: &Limit, lane: Lane) -> u64 {
        if lane != Lane::Bulk {
            return 0;
        }
        let share = limit.count.saturating_mul(u64::from(self.reserve.0)).div_ceil(1000);
        share.max(1).min(limit.count - 1)
    }

    /// Most recipients of one transaction: a message with more is split. At least one.
    #[must_use]
    pub fn most_recipients(&self, lane: Lane) -> u32 {
        let of_recipients = self.limits.iter().filter(|limit| limit.unit == Unit::Recipients);
        let whole = of_recipients.map(|limit| u32::try_from(limit.count - self.kept_free(limit, lane)).unwrap_or(u32::MAX));
        whole.chain(self.caps.recipients_per_message).min().unwrap_or(u32::MAX).max(1)
    }

    /// Most bytes of a message in this lane: larger ones fit no window.
    #[must_use]
    pub fn most_bytes(&self, lane: Lane) -> u64 {
        let of_bytes = self.limits.iter().filter(|limit| limit.unit == Unit::Bytes);
        of_bytes.map(|limit| limit.count - self.kept_free(limit, lane)).chain(self.caps.message_size).min().unwrap_or(u64::MAX)
    }

    /// So many bytes are as scarce as one recipient, where shares are counted; `None` where no window counts bytes.
    #[must_use]
    pub fn bytes_as_one(&self) -> Option<NonZeroU64> {
        let rate = |is_of: fn(Unit) -> bool| {
            let counted = self.limits.iter().filter(|limit| limit.scope == LimitScope::Account && is_of(limit.unit));
            counted.map(|limit| limit.count as f64 / limit.window.as_secs_f64()).min_by(f64::total_cmp)
        };
        let bytes = rate(|unit| unit == Unit::Bytes)?;
        let each = rate(|unit| unit != Unit::Bytes).map_or(1.0, |others| bytes / others);
        NonZeroU64::new(each.max(1.0) as u64)
    }

    /// When a transaction of this lane fits under every limit, and which one is the last to give way.
    pub fn free(
        &self,
        ledger: &mut Ledger,
        lane: Lane,
        from: Option<FromId>,
        cost: Units,
        now: Timestamp,
    ) -> Result<(), (Free, Limit)> {
        let mut last: Option<(Free, Limit)> = None;
        for limit in &self.limits {
            match (ledger.free(limit, from, cost, self.kept_free(limit, lane), now), &last) {
                (Free::Now, _) | (_, Some((Free::WhenSettled, _))) => {}
                (Free::At(at), Some((Free::At(known), _))) if at <= *known => {}
                (free, _) => last = Some((free, *limit)),
            }
        }
        last.map_or(Ok(()), Err)
    }

    /// How far apart two bulk transactions of this cost start, so that they are spread over their windows.
    #[must_use]
    pub fn spread(&self, cost: Units) -> Duration {
        let windows = self.limits.iter().filter(|limit| limit.window <= SPREAD_UP_TO && limit.scope == LimitScope::Account);
        let apart = windows.map(|limit| {
            let room = limit.count - self.kept_free(limit, Lane::Bulk);
            stretched(limit.window).mul_f64(cost.of(limit.unit) as f64 / room.max(1) as f64)
        });
        apart.max().unwrap_or_default()
    }

    /// Bulk transactions at the same time: the last connection is kept for others.
    #[must_use]
    pub fn bulk_connections(&self) -> u32 {
        self.caps.connections.saturating_sub(1).max(1)
    }
}
