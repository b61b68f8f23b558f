//! How much open mail one token, one person and one team may have at once.
//!
//! What counts is a message with an open recipient, and its bytes as stored, the file of a large body included.

use mail::{Lane, PersonId, Surface, TeamId, TokenId};
use std::collections::HashMap;
use std::fmt;

/// The last part of each cap is not for everybody: one in so many.
const KEPT_SHARE: u64 = 20;

/// Whose open mail is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holder {
    /// What came in with a token.
    Token(TokenId),
    /// What is a person's.
    Person(PersonId),
    /// What goes through a team.
    Team(TeamId),
    /// What one person has of it. There is no cap of it.
    Member(TeamId, PersonId),
}

/// So much open mail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenMail {
    /// Messages with an open recipient.
    pub messages: u64,
    /// Their bytes, as stored.
    pub bytes: u64,
}

impl OpenMail {
    fn of(self, unit: CapUnit) -> u64 {
        match unit {
            CapUnit::Messages => self.messages,
            CapUnit::Bytes => self.bytes,
        }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self { messages: self.messages + other.messages, bytes: self.bytes + other.bytes }
    }
}

/// What a cap counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CapUnit {
    /// Messages.
    Messages,
    /// Their bytes.
    Bytes,
}

/// The most open mail of one token, of one person and of one team.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MailCaps {
    /// Of a token.
    pub token: OpenMail,
    /// Of a person.
    pub person: OpenMail,
    /// Of a team.
    pub team: OpenMail,
}

/// No cap at all.
impl Default for MailCaps {
    fn default() -> Self {
        let most = OpenMail { messages: u64::MAX, bytes: u64::MAX };
        Self { token: most, person: most, team: most }
    }
}

/// A message that wants to come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Signed in with.
    pub token: Option<TokenId>,
    /// Whose.
    pub person: PersonId,
    /// Through which team.
    pub team: Option<TeamId>,
    /// How urgent; `None` while that is not known, which counts as most urgent.
    pub lane: Option<Lane>,
    /// Its bytes, as far as they are known.
    pub bytes: u64,
}

/// Which cap a message would go over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverCap {
    /// Whose.
    pub holder: Holder,
    /// Of what.
    pub unit: CapUnit,
    /// So much is open.
    pub open: u64,
    /// So much may be.
    pub most: u64,
    /// There is room, and it is kept for urgent mail, and in a team for members who have little.
    pub is_kept: bool,
}

impl fmt::Display for OverCap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = match self.holder {
            Holder::Token(_) => "a token",
            Holder::Person(_) => "a person",
            Holder::Team(_) | Holder::Member(..) => "a team",
        };
        let unit = match self.unit {
            CapUnit::Messages => "messages",
            CapUnit::Bytes => "bytes",
        };
        write!(f, "too much open mail: {whose} has {} {unit} and may have {}", self.open, self.most)
    }
}

impl MailCaps {
    /// Whether a message may come in beside what is open.
    ///
    /// The last twentieth of each cap is kept for `now` mail, and of a team's for members who have less than that
    /// twentieth themselves: bulk of one does not shut the others out. A first message always fits, whatever its size.
    ///
    /// # Errors
    /// The first cap that it would go over: the token's, the person's, the team's.
    pub fn judge(&self, claim: &Claim, open: impl Fn(Holder) -> OpenMail) -> Result<(), OverCap> {
        let token = claim.token.map(|token| (Holder::Token(token), self.token));
        let team = claim.team.map(|team| (Holder::Team(team), self.team));
        let all = token.into_iter().chain([(Holder::Person(claim.person), self.person)]).chain(team);
        for (holder, most) in all {
            let held = open(holder);
            let own = || match holder {
                Holder::Team(team) => Some(open(Holder::Member(team, claim.person))),
                _ => None,
            };
            for (unit, more) in [(CapUnit::Messages, 1), (CapUnit::Bytes, claim.bytes)] {
                let (found, most) = (held.of(unit), most.of(unit));
                let (kept, wanted) = (most / KEPT_SHARE, found.saturating_add(more));
                if held.messages == 0 || wanted <= most - kept {
                    continue;
                }
                let is_urgent = claim.lane.is_none_or(|lane| lane == Lane::Now);
                let may_use_kept = is_urgent || own().is_some_and(|own| own.of(unit).saturating_add(more) <= kept);
                if wanted > most || !may_use_kept {
                    return Err(OverCap { holder, unit, open: found, most, is_kept: wanted <= most });
                }
            }
        }
        Ok(())
    }

    /// True when nothing is ever refused.
    pub(crate) fn are_open(&self) -> bool {
        *self == Self::default()
    }
}

impl Claim {
    /// What a message that is complete claims; `None` for what the gateway itself says, which is never refused.
    #[must_use]
    pub fn of(message: &crate::NewMessage) -> Option<Self> {
        (message.surface != Surface::Gateway).then_some(Self {
            token: message.token,
            person: message.person,
            team: message.team,
            lane: Some(message.lane),
            bytes: message.body.len(),
        })
    }
}

/// Open mail by whose it is.
#[derive(Default)]
pub(crate) struct Tally(HashMap<Holder, OpenMail>);

/// Whose a message is.
type Whose = (Option<TokenId>, PersonId, Option<TeamId>);

fn holders((token, person, team): Whose) -> impl Iterator<Item = Holder> {
    let team = team.into_iter().flat_map(move |team| [Holder::Team(team), Holder::Member(team, person)]);
    token.map(Holder::Token).into_iter().chain([Holder::Person(person)]).chain(team)
}

impl Tally {
    /// A message more.
    pub(crate) fn add(&mut self, whose: Whose, bytes: u64) {
        for holder in holders(whose) {
            let held = self.0.entry(holder).or_default();
            *held = held.plus(OpenMail { messages: 1, bytes });
        }
    }

    /// A message less, of which nothing is open any more.
    pub(crate) fn take(&mut self, whose: Whose, bytes: u64) {
        for holder in holders(whose) {
            let Some(held) = self.0.get_mut(&holder) else { continue };
            held.messages -= 1;
            held.bytes -= bytes;
            if held.messages == 0 {
                self.0.remove(&holder);
            }
        }
    }

    /// What somebody has.
    pub(crate) fn of(&self, holder: Holder) -> OpenMail {
        self.0.get(&holder).copied().unwrap_or_default()
    }

    /// What somebody has here and there.
    pub(crate) fn with(&self, other: &Self, holder: Holder) -> OpenMail {
        self.of(holder).plus(other.of(holder))
    }

    /// Nobody has anything.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANA: PersonId = PersonId(1);
    const LUIS: PersonId = PersonId(2);
    const SALES: TeamId = TeamId(1);

    fn cap(messages: u64, bytes: u64) -> OpenMail {
        OpenMail { messages, bytes }
    }

    fn claim(person: PersonId, lane: Lane, bytes: u64) -> Claim {
        Claim { token: None, person, team: Some(SALES), lane: Some(lane), bytes }
    }

    /// So many messages of this person, of a hundred bytes.
    fn has(tally: &mut Tally, person: PersonId, messages: u64) {
        (0..messages).for_each(|_| tally.add((Some(TokenId(person.0)), person, Some(SALES)), 100));
    }

    #[test]
    fn bulk_of_one_member_leaves_room_for_urgent_mail_and_for_the_others() {
        let caps = MailCaps { team: cap(100, u64::MAX), ..MailCaps::default() };
        let mut tally = Tally::default();
        has(&mut tally, ANA, 95);
        let judged = |tally: &Tally, claim: Claim| caps.judge(&claim, |holder| tally.of(holder));
        let refused = judged(&tally, claim(ANA, Lane::Bulk, 100)).unwrap_err();
        assert_eq!((refused.holder, refused.open, refused.most, refused.is_kept), (Holder::Team(SALES), 95, 100, true));
        assert!(judged(&tally, claim(ANA, Lane::Now, 100)).is_ok());
        assert!(judged(&tally, claim(LUIS, Lane::Bulk, 100)).is_ok());
        has(&mut tally, LUIS, 5);
        assert!(!judged(&tally, claim(LUIS, Lane::Now, 100)).unwrap_err().is_kept, "the whole cap is used");
    }

    #[test]
    fn bytes_are_capped_as_messages_are_and_a_first_message_always_fits() {
        let caps = MailCaps { person: cap(10, 1000), ..MailCaps::default() };
        let mut tally = Tally::default();
        assert!(caps.judge(&claim(ANA, Lane::Bulk, 5000), |holder| tally.of(holder)).is_ok());
        has(&mut tally, ANA, 8);
        let refused = caps.judge(&claim(ANA, Lane::Now, 201), |holder| tally.of(holder)).unwrap_err();
        assert_eq!((refused.holder, refused.unit, refused.open), (Holder::Person(ANA), CapUnit::Bytes, 800));
        assert!(caps.judge(&claim(ANA, Lane::Now, 200), |holder| tally.of(holder)).is_ok());
        assert!(caps.judge(&claim(LUIS, Lane::Bulk, 5000), |holder| tally.of(holder)).is_ok());
    }

    #[test]
    fn what_has_ended_leaves_nothing_behind() {
        let mut tally = Tally::default();
        has(&mut tally, ANA, 3);
        assert_eq!(tally.of(Holder::Member(SALES, ANA)), cap(3, 300));
        (0..3).for_each(|_| tally.take((Some(TokenId(1)), ANA, Some(SALES)), 100));
        assert!(tally.0.is_empty());
    }
}
