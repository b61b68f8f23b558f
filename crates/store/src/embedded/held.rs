//! What is held because its queue was restored, for who lets it go on.

use super::RESTORED;
use crate::api::{Filter, MessageView, Page, Queue, StoreError};
use mail::{ChannelId, MessageId, RecipientState};

/// Messages that are looked at in one search.
const AT_ONCE: usize = 1000;

/// A message with recipients that are held because it was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldRestored {
    /// The message.
    pub message: MessageId,
    /// The channel on which it is.
    pub channel: ChannelId,
    /// Places of those recipients.
    pub recipients: Vec<u32>,
}

/// Everything that is held because it was restored, or what of it is on one channel; the oldest first. Blocks, in pieces
/// that let others in between.
///
/// # Errors
/// The store's.
pub fn held_restored(queue: &dyn Queue, channel: Option<ChannelId>) -> Result<Vec<HeldRestored>, StoreError> {
    let filter = Filter { states: vec![RecipientState::Held], channel, ..Filter::default() };
    let (mut held, mut after) = (Vec::new(), None);
    loop {
        let listing = queue.list(&filter, &Page { after, before: None, limit: AT_ONCE })?;
        held.extend(listing.messages.iter().map(of).filter(|one| !one.recipients.is_empty()));
        // A search that stopped may have found nothing: it goes on from where it was.
        after = listing.stopped.or(listing.messages.last().map(|last| last.id));
        if !listing.has_more || after.is_none() {
            held.reverse();
            return Ok(held);
        }
    }
}

fn of(view: &MessageView) -> HeldRestored {
    let restored = view.recipients.iter().filter(|one| one.state == RecipientState::Held && one.said.starts_with(RESTORED));
    HeldRestored { message: view.id, channel: view.channel, recipients: restored.map(|one| one.index).collect() }
}
