//! Senders that a next hop refuses, so that their mail is held instead of being refused again and again.

use mail::{PersonId, Stage};
use smtp::ReversePath;
use std::collections::BTreeMap;
use store::Lease;
use web::gateway::RefusedSender;

/// So many are remembered on a channel. Mail of further ones is refused before it is held.
const MOST: usize = 1000;

/// What was refused: whose mail, its author, and the reverse-path where nothing else was seen of it yet.
type Refused = (PersonId, String, Option<String>);

/// The senders refused on one channel. What is refused of one person says nothing about the mail of others: they may
/// share a From, and the refusal may be about the reverse-path, or about words in the message.
#[derive(Default)]
pub(super) struct RefusedSenders(BTreeMap<Refused, RefusedSender>);

impl RefusedSenders {
    /// The sender of a lease was refused at this stage. Before the body, only what MAIL said can be meant: mail of the
    /// same author with another reverse-path may still go.
    pub(super) fn note(&mut self, lease: &Lease, sent: &ReversePath, stage: Stage, said: String) {
        if self.0.len() >= MOST {
            return;
        }
        let saw_author = matches!(stage, Stage::Body | Stage::FinalDot);
        let path = if saw_author { None } else { Some(key(sent)) };
        let address = path.clone().filter(|path| !path.is_empty()).unwrap_or_else(|| lease.author.to_string());
        let refused = RefusedSender { person: lease.person, address, said };
        self.0.insert((lease.person, lease.author.to_string(), path), refused);
    }

    /// The refusal that holds a lease which would leave with this reverse-path.
    pub(super) fn of(&self, lease: &Lease, sent: &ReversePath) -> Option<&RefusedSender> {
        let refused = |path| self.0.get(&(lease.person, lease.author.to_string(), path));
        refused(None).or_else(|| refused(Some(key(sent))))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn all(&self) -> Vec<RefusedSender> {
        self.0.values().cloned().collect()
    }
}

fn key(path: &ReversePath) -> String {
    path.mailbox().map(smtp::Mailbox::key).unwrap_or_default()
}
