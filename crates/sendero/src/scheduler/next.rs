//! The next message of a channel, or why there is none.

use super::Shared;
use super::pace::{Ended, Ticket};
use super::way::Way;
use mail::pace::{Choice, Head, Terms, Units};
use mail::{Channel, Lane, Timestamp};
use std::collections::BTreeSet;
use std::sync::Arc;
use store::{Head as Waiting, Lease, Skip};

/// What a worker does next.
pub(super) enum Next {
    /// Hands this over, on this place in the pace.
    Message(Box<Lease>, Ticket),
    /// This is larger than any window of the channel, of so many bytes: it would wait for ever.
    TooLarge(Box<Lease>, u64),
    /// Waits: nothing may leave before; `None` until something ends.
    Wait(Option<Timestamp>),
    /// Nothing is due.
    Nothing,
}

/// Takes the next message of a channel, and its place in the pace.
pub(super) fn next(shared: &Arc<Shared>, way: &Way, row: &Channel) -> Next {
    let queue = &shared.parts.queue;
    loop {
        let now = shared.steady();
        let skip = {
            let mut pace = way.pace();
            // A new row forgives: that must be known before anybody is passed by.
            pace.follow(row, || shared.account(row));
            pace.skip(now)
        };
        let waiting = queue.heads(way.channel, now, &skip);
        let mut pace = way.pace();
        if let Some((lane, most)) = too_large(&pace.terms, &waiting) {
            drop(pace);
            match queue.lease(way.channel, lane, now, u32::MAX, &skip) {
                Some(lease) if lease.size_bytes > most => return Next::TooLarge(Box::new(lease), most),
                // Another worker was faster.
                Some(lease) => give_back(shared, &lease),
                None => {}
            }
            continue;
        }
        let heads = Lane::ALL.map(|lane| waiting[lane as usize].as_ref().map(|head| pace.head(head, lane)));
        let mut ticket = match pace.take(&heads, now) {
            Ok(ticket) => ticket,
            Err(Choice::Wait(wait)) if pace.pass_by(&wait, &waiting, now) => continue,
            Err(Choice::Wait(wait)) => {
                way.close_gates(pace.gates(&wait, now));
                let passed = pace.skips_until(now);
                return Next::Wait(wait.until.into_iter().chain(passed).min());
            }
            Err(Choice::PassFrom { .. }) => continue,
            Err(Choice::Idle | Choice::Go(_)) => {
                return match pace.skips_until(now) {
                    Some(until) => Next::Wait(Some(until)),
                    None => Next::Nothing,
                };
            }
        };
        drop(pace);
        way.open_gates();
        let most = ticket.cost.recipients;
        let Some(lease) = queue.lease(way.channel, ticket.lane, now, most, &skip) else {
            // Another worker was faster.
            shared.end(way, &ticket, Ended::Refunded);
            continue;
        };
        let fits = way.pace().fit(&mut ticket, &lease);
        if fits {
            way.pace().tries(lease.person, now);
            return Next::Message(Box::new(lease), ticket);
        }
        give_back(shared, &lease);
        shared.end(way, &ticket, Ended::Refunded);
    }
}

/// The lane whose head fits no window, and what would fit.
fn too_large(terms: &Terms, waiting: &[Option<Waiting>; 3]) -> Option<(Lane, u64)> {
    let lanes = Lane::ALL.into_iter().map(|lane| (lane, terms.most_bytes(lane)));
    lanes.into_iter().find(|(lane, most)| waiting[*lane as usize].as_ref().is_some_and(|head| head.size_bytes > *most))
}

/// Puts a lease back that was never tried.
pub(super) fn give_back(shared: &Shared, lease: &Lease) {
    let indices: Vec<u32> = lease.recipients.iter().map(|recipient| recipient.index).collect();
    shared.parts.queue.give_back(lease.message, &indices);
}

/// What the heads of the lanes wait for at this moment.
pub(super) fn look(shared: &Shared, way: &Way, row: &Channel) -> [Option<Choice>; 3] {
    let now = shared.steady();
    let skip = {
        let mut pace = way.pace();
        pace.follow(row, || shared.account(row));
        // A large message waits, also while others go before it.
        Skip { large: BTreeSet::new(), ..pace.skip(now) }
    };
    let waiting = shared.parts.queue.heads(way.channel, now, &skip);
    let pace = way.pace();
    Lane::ALL.map(|lane| {
        let one = Head { cost: Units::transaction(1, 1), from: None };
        let head = waiting[lane as usize].as_ref().map_or(one, |head| pace.head(head, lane));
        let mut heads = [None, None, None];
        heads[lane as usize] = Some(head);
        match pace.look(&heads, now) {
            Choice::Go(_) | Choice::Idle => None,
            other => Some(other),
        }
    })
}
