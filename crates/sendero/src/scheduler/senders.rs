//! Senders that a next hop refuses, so that their mail is held instead of being refused again and again.
//!
//! What is refused of one person says nothing about the mail of others: they may share a From, and the refusal may be
//! about the reverse-path, or about words in the message.

use mail::Stage;
use mail::channel::{Kept, Sender, SenderRefused};
use smtp::ReversePath;
use store::Lease;
use web::gateway::RefusedSender;

/// So many are remembered on a channel. Mail of further ones is refused before it is held.
pub(super) const MOST: usize = 1000;

/// The sender of a lease that was refused at this stage. Before the body, only what MAIL said can be meant: mail of the
/// same author with another reverse-path may still go.
pub(super) fn refused(lease: &Lease, sent: &ReversePath, stage: Stage, said: String) -> (Sender, SenderRefused) {
    let saw_author = matches!(stage, Stage::Body | Stage::FinalDot);
    let path = if saw_author { None } else { Some(key(sent)) };
    let address = path.clone().filter(|path| !path.is_empty()).unwrap_or_else(|| lease.author.to_string());
    (Sender { person: lease.person, author: lease.author.to_string(), path }, SenderRefused { address, said })
}

/// The senders of a lease which would leave with this reverse-path: a refusal of either holds it.
pub(super) fn of(lease: &Lease, sent: &ReversePath) -> [Sender; 2] {
    [None, Some(key(sent))].map(|path| Sender { person: lease.person, author: lease.author.to_string(), path })
}

/// All of them, for people.
pub(super) fn all(kept: &Kept) -> Vec<RefusedSender> {
    let one = |(sender, refused): (&Sender, &SenderRefused)| RefusedSender {
        person: sender.person,
        address: refused.address.clone(),
        said: refused.said.clone(),
    };
    kept.senders.iter().map(one).collect()
}

fn key(path: &ReversePath) -> String {
    path.mailbox().map(smtp::Mailbox::key).unwrap_or_default()
}
