//! Who is handed over before whom: lanes by their order, and inside a lane teams, then people, in fair shares.
//!
//! Inside a lane the queue serves whoever was served least (start-time fair queueing). Everybody has a mark, which
//! grows by the recipients handed over to them (or by bytes, where a window counts those); the lowest mark goes next, and the clock of the lane is the mark of the one
//! served last. Whoever has mail has a mark between the clock and the clock plus their own last share. While two of them
//! wait without a break, the clock moves equally far for both, so what they are served differs by at most **the largest share
//! of the one and the largest share of the other**. A share is counted when it is leased, not when it ends, and the largest
//! one is what was leased at once, after a message was split. So neither the number of connections nor the time a next hop
//! takes is in the bound. Who has been served nothing yet owes nothing: **each of the others goes at most once before
//! a first message**.
//!
//! Between lanes: `now` before `normal` before `bulk`. Normal goes before now only for each four recipients of its that it
//! has waited for, bulk before others for each nineteen of theirs, and no more than the next message needs of them is
//! remembered. Where nothing else keeps bulk back, it does go then: a transaction or two on the other connections
//! later, at most.

use mail::{ChannelId, Lane, MessageId, PersonId, TeamId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::num::NonZeroU64;
use store::embedded::stepped::{Served, Waiting};

/// What `now` is served for one recipient of normal.
const FOR_ONE_OF_NORMAL: u64 = 4;
/// What others are served for one recipient of bulk.
const FOR_ONE_OF_BULK: u64 = 19;
/// No channel has more connections.
const CONNECTIONS: u64 = 4;

/// What was handed over in the present life of the process.
#[derive(Default)]
pub struct Fairness {
    lines: BTreeMap<(ChannelId, Lane), Line>,
    lanes: BTreeMap<ChannelId, Lanes>,
    /// Whose the messages were that were handed over.
    known: BTreeMap<MessageId, (Whose, u64)>,
    /// In which unit shares are counted.
    units: BTreeMap<ChannelId, Option<NonZeroU64>>,
    /// Channels on which nothing but the other lanes keeps bulk back.
    free: BTreeSet<ChannelId>,
}

#[derive(Clone, Copy)]
struct Whose {
    line: (ChannelId, Lane),
    team: Option<TeamId>,
    person: PersonId,
}

impl Fairness {
    /// Nothing was handed over yet; on these channels nothing but the other lanes keeps bulk back.
    pub fn new(free: BTreeSet<ChannelId>) -> Self {
        Self { free, ..Self::default() }
    }

    /// Somebody is served, or was not after all.
    ///
    /// # Errors
    /// It was not their turn.
    pub fn served(&mut self, served: &Served<'_>) -> Result<(), String> {
        match served {
            Served::Leased { lease, waiting, share: (share, unit), bulk_is_open } => {
                let whose = Whose { line: (lease.channel, lease.lane), team: lease.team, person: lease.person };
                self.known.insert(lease.message, (whose, *share));
                if self.units.insert(lease.channel, *unit).flatten() != *unit {
                    self.lines.retain(|(channel, _), _| *channel != lease.channel);
                }
                let count = lease.recipients.len() as u64;
                let free = self.free.contains(&lease.channel) && !bulk_is_open;
                let in_lanes = self.lanes.entry(lease.channel).or_default().served(lease.lane, count, waiting, free);
                let in_line = self.lines.entry(whose.line).or_default().served(&whose, *share, waiting);
                in_lanes.and(in_line).map_err(|why| format!("fairness: {} on {:?}: {why}", lease.message, lease.channel))
            }
            Served::GivenBack(message, count) => {
                if let Some((whose, share)) = self.known.get(message)
                    && let Some(line) = self.lines.get_mut(&whose.line)
                    && *count > 0
                {
                    line.given_back(whose, *share);
                }
                Ok(())
            }
        }
    }
}

/// One lane of a channel.
#[derive(Default)]
struct Line {
    teams: Shares<Option<TeamId>>,
    people: BTreeMap<Option<TeamId>, Shares<PersonId>>,
}

impl Line {
    fn served(&mut self, whose: &Whose, count: u64, waiting: &[Waiting]) -> Result<(), String> {
        let here = || waiting.iter().filter(|one| one.lane == whose.line.1);
        self.teams.served(whose.team, count, &here().map(|one| one.team).collect())?;
        let people = here().filter(|one| one.team == whose.team).map(|one| one.person).collect();
        self.people.entry(whose.team).or_default().served(whose.person, count, &people)
    }

    fn given_back(&mut self, whose: &Whose, count: u64) {
        self.teams.given_back(whose.team, count);
        self.people.entry(whose.team).or_default().given_back(whose.person, count);
    }
}

/// Those who share.
struct Shares<K> {
    /// Recipients handed over: all, and the most at once.
    taken: BTreeMap<K, (u64, u64)>,
    /// Two who have both waited without a break.
    pairs: BTreeMap<(K, K), Pair>,
}

/// How far the first of two is ahead of the second: now, at least and at most; and how often each was served.
#[derive(Default)]
struct Pair {
    ahead: i64,
    least: i64,
    most: i64,
    turns: [u32; 2],
}

impl<K> Default for Shares<K> {
    fn default() -> Self {
        Self { taken: BTreeMap::new(), pairs: BTreeMap::new() }
    }
}

impl<K: Copy + Ord + Debug> Shares<K> {
    fn served(&mut self, who: K, count: u64, waiting: &BTreeSet<K>) -> Result<(), String> {
        self.pairs.retain(|(one, other), _| waiting.contains(one) && waiting.contains(other));
        let (all, largest) = self.taken.entry(who).or_default();
        (*all, *largest) = (*all + count, (*largest).max(count));
        let largest = *largest;
        for other in waiting.iter().copied().filter(|other| *other != who) {
            let (others, others_largest) = self.taken.get(&other).copied().unwrap_or_default();
            let (names, sign, place) = if who < other { ((who, other), 1, 0) } else { ((other, who), -1, 1) };
            let pair = self.pairs.entry(names).or_default();
            pair.ahead += sign * count as i64;
            (pair.least, pair.most) = (pair.least.min(pair.ahead), pair.most.max(pair.ahead));
            pair.turns[place] += 1;
            if others == 0 && pair.turns[place] > 1 {
                return Err(format!("{who:?} goes again before the first of {other:?}"));
            }
            if pair.most - pair.least > (largest + others_largest) as i64 {
                let apart = pair.most - pair.least;
                return Err(format!(
                    "{who:?} and {other:?} both wait and are {apart} apart, with {largest} and {others_largest} at once"
                ));
            }
        }
        Ok(())
    }

    fn given_back(&mut self, who: K, count: u64) {
        let (all, largest) = self.taken.entry(who).or_default();
        *all = all.saturating_sub(count);
        if *all == 0 {
            *largest = 0;
        }
        self.pairs.retain(|(one, other), _| *one != who && *other != who);
    }
}

/// The three lanes of a channel.
#[derive(Default)]
struct Lanes {
    /// What `now` was served while normal waited, as far as it is still normal's to use.
    owed_to_normal: u64,
    /// What others were served while bulk waited, as far as it is still bulk's to use.
    owed: u64,
    /// What others were served since bulk might have gone.
    waited: u64,
    /// The largest bulk message and the largest share of others in that time.
    largest: (u64, u64),
}

impl Lanes {
    fn served(&mut self, lane: Lane, count: u64, waiting: &[Waiting], free: bool) -> Result<(), String> {
        let waits = |lane: Lane| waiting.iter().any(|one| one.lane == lane);
        let largest =
            |lane: Lane| waiting.iter().filter(|one| one.lane == lane).map(|one| u64::from(one.recipients)).max().unwrap_or(0);
        let (normal, bulk) = (largest(Lane::Normal), largest(Lane::Bulk));
        if lane == Lane::Bulk {
            let (owed, needed) = (self.owed, count * FOR_ONE_OF_BULK);
            self.owed = owed.saturating_sub(needed);
            self.waited = 0;
            if owed < needed && (waits(Lane::Now) || waits(Lane::Normal)) {
                return Err(format!("{count} of bulk go before others, who had {owed} before it"));
            }
            return Ok(());
        }
        let for_normal = self.owed_to_normal;
        match lane {
            Lane::Now if normal > 0 => self.owed_to_normal = (for_normal + count).min(normal * FOR_ONE_OF_NORMAL),
            Lane::Normal => self.owed_to_normal = for_normal.saturating_sub(count * FOR_ONE_OF_NORMAL),
            Lane::Now | Lane::Bulk => {}
        }
        if lane == Lane::Normal && for_normal < count * FOR_ONE_OF_NORMAL && waits(Lane::Now) {
            return Err(format!("{count} of normal go before now, which had {for_normal} before it"));
        }
        self.owed = if bulk > 0 { (self.owed + count).min(bulk * FOR_ONE_OF_BULK) } else { self.owed };
        if bulk == 0 || !free {
            (self.waited, self.largest) = (0, (0, 0));
            return Ok(());
        }
        self.waited += count;
        self.largest = (self.largest.0.max(bulk), self.largest.1.max(count));
        let bound = self.largest.0 * FOR_ONE_OF_BULK + self.largest.1 * (CONNECTIONS + 1);
        if self.waited > bound {
            return Err(format!("others had {} while bulk waits, which may be at most {bound}", self.waited));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(lane: Lane) -> Waiting {
        Waiting { lane, team: None, person: PersonId(1), recipients: 1 }
    }

    /// Who is served how much, one after the other, while both of them wait.
    fn check(turns: &[(u32, u64)]) -> Result<(), String> {
        let mut shares = Shares::default();
        turns.iter().try_for_each(|(who, count)| shares.served(*who, *count, &BTreeSet::from([1, 2])))
    }

    #[test]
    fn two_who_wait_are_never_further_apart_than_the_largest_share_of_each() {
        assert_eq!(check(&[(1, 5), (2, 1), (2, 1), (2, 1), (2, 1), (2, 1), (1, 5)]), Ok(()));
        assert!(check(&[(1, 5), (2, 1), (1, 5), (1, 5)]).is_err());
    }

    #[test]
    fn before_a_first_message_each_of_the_others_goes_once() {
        assert_eq!(check(&[(1, 1), (2, 1)]), Ok(()));
        assert!(check(&[(1, 3), (1, 1)]).is_err());
    }

    #[test]
    fn who_gave_back_all_they_had_is_first_again() {
        let both = BTreeSet::from([1, 2]);
        let mut shares = Shares::default();
        shares.served(1, 1, &both).and_then(|()| shares.served(2, 3, &both)).expect("each in their turn");
        shares.given_back(2, 3);
        shares.served(1, 1, &both).expect("once");
        assert!(shares.served(1, 1, &both).is_err());
    }

    #[test]
    fn bulk_gets_one_in_twenty_no_more_and_no_less() {
        let waiting = [one(Lane::Normal), one(Lane::Bulk)];
        let mut lanes = Lanes::default();
        assert!(lanes.served(Lane::Bulk, 1, &waiting, true).is_err());
        let served = (0..19).try_for_each(|_| lanes.served(Lane::Normal, 1, &waiting, true));
        assert_eq!(served.and_then(|()| lanes.served(Lane::Bulk, 1, &waiting, true)), Ok(()));
        let served = (0..30).try_for_each(|_| lanes.served(Lane::Normal, 1, &waiting, true));
        assert!(served.is_err_and(|why| why.contains("while bulk waits")));
    }

    #[test]
    fn normal_goes_before_now_once_for_each_four() {
        let waiting = [one(Lane::Now), one(Lane::Normal)];
        let mut lanes = Lanes::default();
        assert!(lanes.served(Lane::Normal, 1, &waiting, true).is_err());
        let served = (0..4).try_for_each(|_| lanes.served(Lane::Now, 1, &waiting, true));
        assert_eq!(served.and_then(|()| lanes.served(Lane::Normal, 1, &waiting, true)), Ok(()));
        assert!(lanes.served(Lane::Normal, 1, &waiting, true).is_err());
    }
}
