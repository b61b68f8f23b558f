//! What is said before a message has come: that there is no room for it, or no channel that takes so much.
//!
//! It saves the bytes. The same is judged again, and for certain, when the message is accepted.

use super::{Intake, Principal};
use crate::arrival::apart;
use crate::refusal::{AcceptRefusal, Reached};
use mail::pace::{Lessons, Terms};
use mail::resolve::{Refusal, within_reach};
use mail::{Channel, Directory, Lane, TeamId, Timestamp};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use store::{AcceptError, CapUnit, Claim, Holder, OverCap};

/// So often the log says of a cap that it is reached.
const TELL_EVERY: Duration = Duration::from_secs(3600);

/// What next hops have said of themselves.
pub trait NextHops: Send + Sync {
    /// The largest message in bytes that this channel's next hop takes, as it announced last (RFC 1870).
    fn max_size(&self, channel: &Channel) -> Option<u64>;
}

/// When the log said last of a cap that it is reached.
#[derive(Default)]
pub(super) struct Told(Mutex<HashMap<(Holder, CapUnit), Timestamp>>);

impl Told {
    /// True when it is to be said again.
    fn is_due(&self, over: &OverCap, now: Timestamp) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|_, at| now < at.plus(TELL_EVERY));
        match told.entry((over.holder, over.unit)) {
            Entry::Occupied(_) => false,
            Entry::Vacant(entry) => {
                entry.insert(now);
                true
            }
        }
    }
}

impl Intake {
    /// Whether somebody may begin to send a message, of so many bytes where that is known.
    ///
    /// Nothing is refused here that could be accepted: by some channel, or because it was accepted before under its key,
    /// which nobody knows yet.
    ///
    /// # Errors
    /// Which cap is reached, or that every channel of theirs refuses the size.
    pub async fn begin(&self, principal: Principal, size: Option<u64>) -> Result<(), AcceptRefusal> {
        let directory = self.people.directory();
        self.fits_any(&directory, principal, size.unwrap_or(0))?;
        let claim = Claim {
            token: principal.token,
            person: principal.person,
            team: only_team(&directory, principal),
            // More urgent than its token lets it be it is not.
            lane: self.token_lane(principal),
            bytes: size.unwrap_or(0),
        };
        self.may_be_kept(&claim, None).await
    }

    /// Whether a message goes over no cap, or may have been accepted before, under this key where it is known.
    pub(super) async fn may_be_kept(&self, claim: &Claim, key: Option<String>) -> Result<(), AcceptRefusal> {
        let Err(over) = self.queue.caps().judge(claim, |holder| self.queue.open_mail(holder)) else { return Ok(()) };
        let (queue, person) = (Arc::clone(&self.queue), claim.person);
        // Where keys cannot be read the acceptance decides.
        if apart(move || Ok(queue.knows_keys(person, key.as_deref()).unwrap_or(true))).await? {
            return Ok(());
        }
        Err(self.over_cap(over, Principal { person, token: claim.token }))
    }

    fn fits_any(&self, directory: &Directory, principal: Principal, found: u64) -> Result<(), Refusal> {
        let mut largest: Option<Refusal> = None;
        for channel in within_reach(directory, principal.person, principal.token) {
            // In no lane it takes more.
            match (self.fits_channel(channel, Lane::Normal, found), &largest) {
                (Ok(()), _) => return Ok(()),
                (Err(refusal), Some(other)) if most(&refusal) <= most(other) => {}
                (Err(refusal), _) => largest = Some(refusal),
            }
        }
        largest.map_or(Ok(()), Err)
    }

    /// What fits into no window of the channel would wait for ever, and what its next hop does not take would come back.
    pub(super) fn fits_channel(&self, channel: &Channel, lane: Lane, found: u64) -> Result<(), Refusal> {
        let own = Terms::new(channel, &Lessons::default()).most_bytes(lane);
        let next_hop = self.next_hops.as_ref().and_then(|hops| hops.max_size(channel)).unwrap_or(u64::MAX);
        let most = own.min(next_hop);
        if found <= most {
            return Ok(());
        }
        Err(Refusal::TooLargeForChannel { channel: channel.name.clone(), found, most, by_next_hop: next_hop < own })
    }

    /// What the store said, with the names that are behind it.
    pub(super) fn not_accepted(&self, error: AcceptError, principal: Principal) -> AcceptRefusal {
        match error {
            AcceptError::OverCap(over) => self.over_cap(over, principal),
            other => other.into(),
        }
    }

    fn over_cap(&self, over: OverCap, principal: Principal) -> AcceptRefusal {
        let reached = Reached::new(over, principal, &self.people.directory());
        if self.told.is_due(&over, self.clock.steady()) {
            let whose = crate::log::address(self.settings.hash_addresses, reached.whose.clone());
            let setting = reached.setting();
            tracing::warn!(whose = %whose, open = over.open, most = over.most, setting, "as much open mail as may be: more is put off");
        }
        AcceptRefusal::OverCap(Box::new(reached))
    }
}

fn most(refusal: &Refusal) -> u64 {
    match refusal {
        Refusal::TooLargeForChannel { most, .. } => *most,
        _ => 0,
    }
}

/// The team that all mail of a person goes through, where there is but one.
fn only_team(directory: &Directory, principal: Principal) -> Option<TeamId> {
    let person = directory.person(principal.person)?;
    let mut teams = person.teams.iter().filter(|id| directory.team(**id).is_some_and(|team| !team.disabled));
    teams.next().copied().filter(|_| teams.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail::PersonId;

    #[test]
    fn the_log_says_once_an_hour_that_a_cap_is_reached_and_of_each_cap() {
        let told = Told::default();
        let of = |unit| OverCap { holder: Holder::Person(PersonId(1)), unit, open: 1, most: 1, is_kept: false };
        let said = |unit, minute: i64| told.is_due(&of(unit), Timestamp(minute * 60_000));
        let (messages, bytes) = (CapUnit::Messages, CapUnit::Bytes);
        let all = [(messages, 0), (messages, 1), (bytes, 2), (messages, 59), (messages, 60), (bytes, 61), (bytes, 62)];
        assert_eq!(all.map(|(unit, minute)| said(unit, minute)), [true, false, true, false, true, false, true]);
    }
}
