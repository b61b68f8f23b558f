//! Fresh messages in memory, so that handing them over needs no disk.

use super::{OpenSet, Standing};
use crate::body::Body;
use mail::{Envelope, Lane, MessageId, PersonId, TeamId, Timestamp};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// So many entries of messages that have left the cache are not worth a sweep.
const SPARE_ORDER: usize = 64;
/// Behind so many messages of its channel and lane, and of more urgent ones, a fresh one is not worth its memory.
const WORTH_KEEPING: usize = 1000;

/// What is kept of a fresh message, so that handing it over needs no disk.
#[derive(Clone)]
pub(crate) struct Fresh {
    pub meta: Arc<Shared>,
    pub body: Body,
}

impl Fresh {
    /// Bytes of memory, about.
    fn weight(&self) -> usize {
        self.body.head().len() + 768
    }
}

/// What a lease needs of a message.
pub(crate) struct Shared {
    pub person: PersonId,
    pub team: Option<TeamId>,
    pub token: Option<mail::TokenId>,
    pub surface: mail::Surface,
    pub lane: Lane,
    pub at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub author: Arc<str>,
    pub envelope: Arc<Envelope>,
}

/// Fresh messages, within a budget.
#[derive(Default)]
pub(super) struct Cache {
    fresh: HashMap<u32, (MessageId, Fresh)>,
    order: VecDeque<(u32, MessageId)>,
    bytes: usize,
    limit: usize,
}

impl Cache {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    pub(super) fn get(&self, slot: u32) -> Option<&Fresh> {
        self.fresh.get(&slot).map(|(_, fresh)| fresh)
    }

    /// Keeps the message of a slot; those kept for longest go when there is no room.
    fn insert(&mut self, slot: u32, id: MessageId, fresh: Fresh) {
        self.bytes += fresh.weight();
        if let Some((_, before)) = self.fresh.insert(slot, (id, fresh)) {
            self.bytes -= before.weight();
            return;
        }
        self.order.push_back((slot, id));
        while self.bytes > self.limit {
            let Some((slot, id)) = self.order.pop_front() else { break };
            if self.has(slot, id) {
                self.remove(slot);
            }
        }
    }

    /// How many it keeps, and how many entries stand in the order for more than a few.
    #[cfg(test)]
    pub(super) fn kept(&self) -> (usize, usize) {
        (self.fresh.len(), self.order.len().saturating_sub(SPARE_ORDER).max(1))
    }

    fn has(&self, slot: u32, id: MessageId) -> bool {
        self.fresh.get(&slot).is_some_and(|(known, _)| *known == id)
    }

    pub(super) fn remove(&mut self, slot: u32) {
        if let Some((_, fresh)) = self.fresh.remove(&slot) {
            self.bytes -= fresh.weight();
        }
        // Entries of messages that are gone pile up at the front.
        while self.order.front().is_some_and(|(slot, id)| !self.has(*slot, *id)) {
            self.order.pop_front();
        }
        // Behind a message that stays for days they would pile up without end.
        if self.order.len() > 2 * self.fresh.len() + SPARE_ORDER {
            let fresh = &self.fresh;
            self.order.retain(|(slot, id)| fresh.get(slot).is_some_and(|(known, _)| known == id));
        }
    }
}

impl OpenSet {
    /// Keeps a message in memory that was just accepted, within the budget, unless so many go before it that others would have more of
    /// the room.
    pub(crate) fn keep_accepted(&mut self, id: MessageId, fresh: Fresh) {
        let Some(slot) = self.slots.find(id) else { return };
        let Some(Standing { channel, lane, .. }) = self.slots.standing(slot) else { return };
        if self.lines.get(&channel).map_or(0, |lines| lines.waiting(lane)) <= WORTH_KEEPING {
            self.cache.insert(slot, id, fresh);
        }
    }

    /// Keeps a message in memory that is in somebody's hands.
    pub(crate) fn keep_leased(&mut self, id: MessageId, fresh: Fresh) {
        if let Some(slot) = self.slots.find(id) {
            self.cache.insert(slot, id, fresh);
        }
    }

    /// Keeps no fresh message any more.
    pub(crate) fn empty_cache(&mut self) {
        self.cache = Cache::new(self.cache.limit);
    }

    pub(crate) fn cached_body(&self, id: MessageId) -> Option<Body> {
        self.cache.get(self.slots.find(id)?).map(|fresh| fresh.body.clone())
    }
}
