//! What next hops announced of themselves when a session was opened last, for whoever takes mail in.

use mail::{Channel, ChannelId};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// An announcement counts for so long: while it keeps mail out, no session may be opened that would hear another.
const COUNTS_FOR: Duration = Duration::from_secs(24 * 3600);

/// The sizes that next hops announced (RFC 1870), since the start.
#[derive(Default)]
pub struct Announced(Mutex<HashMap<ChannelId, Said>>);

struct Said {
    max_size: u64,
    revision: u64,
    at: Instant,
}

impl Announced {
    /// A session of this channel is open, and its next hop takes so much; `None` when it set no limit.
    pub fn note(&self, row: &Channel, max_size: Option<u64>) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match max_size {
            Some(max_size) => drop(said.insert(row.id, Said { max_size, revision: row.revision, at: Instant::now() })),
            None => drop(said.remove(&row.id)),
        }
    }

    /// What was announced is not to be relied on: the next session is asked.
    pub fn forget(&self, channel: ChannelId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&channel);
    }
}

impl intake::NextHops for Announced {
    fn max_size(&self, channel: &Channel) -> Option<u64> {
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let said = said.get(&channel.id).filter(|said| said.revision == channel.revision && said.at.elapsed() < COUNTS_FOR)?;
        Some(said.max_size)
    }
}
