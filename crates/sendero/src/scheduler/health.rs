//! Moves of a channel: made durable, then obeyed, and told in the log.

use super::Shared;
use super::way::Way;
use delivery::OpenError;
use mail::channel::ChannelMove;
use mail::{ChannelState, Timestamp};
use std::sync::Arc;

impl Shared {
    /// Applies a move and makes the new state durable before anybody acts on it again.
    pub(super) async fn move_channel(self: &Arc<Self>, way: &Arc<Way>, what: ChannelMove) {
        let Some((before, after)) = way.apply(what) else {
            return;
        };
        let name = self.channel_name(way);
        match &after {
            _ if after == before => {}
            ChannelState::NeedsAttention { .. } => {
                tracing::error!(channel.name = name, channel.state = after.name(), reason = after.reason(), "channel state");
            }
            ChannelState::Unreachable { .. } | ChannelState::LoginRefused { .. } if after.reason() != before.reason() => {
                tracing::warn!(channel.name = name, channel.state = after.name(), reason = after.reason(), "channel state");
            }
            _ if after.name() == before.name() => {}
            _ => tracing::info!(channel.name = name, channel.state = after.name(), reason = after.reason(), "channel state"),
        }
        if let Err(problem) = self.parts.queue.set_channel_state(way.channel, after.clone(), (self.parts.now)()).await {
            tracing::error!(channel.name = name, %problem, "channel state not stored");
        }
        if after.open_at(Timestamp(i64::MAX)).is_err() {
            way.wake_all();
        }
    }

    /// A session could not be opened: what that means for the channel.
    pub(super) async fn open_failed(self: &Arc<Self>, way: &Arc<Way>, revision: u64, error: &OpenError) {
        let now = (self.parts.now)();
        let jitter = (self.parts.jitter)();
        let failures = match way.health() {
            ChannelState::Unreachable { failures, .. } => failures,
            _ => 0,
        };
        let until = now.plus(self.parts.schedule.delay(failures + 1, jitter));
        let reason = error.to_string();
        if error.is_login_refusal() {
            let confirm_at = now.plus(self.parts.confirm_login_after.mul_f64(1.5 + jitter / 2.0));
            self.move_channel(way, ChannelMove::LoginRefused { confirm_at, reason, revision }).await;
        } else if way.crowded(until) {
            tracing::info!(channel.name = self.channel_name(way), reason, "no further connection beside the open ones");
        } else {
            self.move_channel(way, ChannelMove::OpenFailed { until, reason }).await;
        }
        self.kick(way, now);
    }

    /// Brings a channel's state in line with its directory row.
    pub(super) async fn follow_directory(self: &Arc<Self>, way: &Arc<Way>) {
        let directory = self.parts.directory.directory();
        let (disabled, revision) = directory.channel(way.channel).map_or((true, 0), |row| (row.disabled, row.revision));
        let changed = way.saw_revision(revision);
        match way.health() {
            ChannelState::Disabled if !disabled => self.move_channel(way, ChannelMove::Enable).await,
            ChannelState::Disabled => {}
            _ if disabled => self.move_channel(way, ChannelMove::Disable).await,
            ChannelState::NeedsAttention { revision: failed, .. } if failed == revision => {}
            _ if changed => self.move_channel(way, ChannelMove::Changed).await,
            ChannelState::NeedsAttention { .. } => self.move_channel(way, ChannelMove::Changed).await,
            _ => {}
        }
        way.wake_all();
        self.kick(way, Timestamp(0));
    }

    pub(super) fn channel_name(&self, way: &Way) -> String {
        let directory = self.parts.directory.directory();
        directory.channel(way.channel).map_or_else(|| way.channel.to_string(), |row| row.name.clone())
    }
}
