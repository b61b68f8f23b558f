//! The other side of a channel: its account, its sessions, and what goes wrong there.

use crate::plan::{ChannelPlan, Trouble};
use crate::random::Random;

/// A next hop with one account.
pub struct Provider {
    plan: ChannelPlan,
    /// The password that opens a session.
    pub password: u32,
    /// Logins refused since the password changed, or since a person or a crash allowed for more.
    pub refused_logins: u32,
    /// Open sessions.
    pub sessions: u32,
    /// When it was spoken to last.
    pub spoken_to: u64,
    /// What was tried and taken, by recipient.
    pub taken: u64,
}

impl Provider {
    /// A next hop that nobody has spoken to.
    #[must_use]
    pub fn new(plan: &ChannelPlan) -> Self {
        Self { plan: plan.clone(), password: 0, refused_logins: 0, sessions: 0, spoken_to: 0, taken: 0 }
    }

    /// What is going wrong at this moment.
    pub fn troubles(&self, now: u64) -> impl Iterator<Item = Trouble> + '_ {
        self.plan.troubles.iter().filter(move |(when, _)| when.contains(&now)).map(|(_, trouble)| *trouble)
    }

    /// A trouble of this sort strikes now: those with a number in so many of a hundred cases.
    pub fn strikes(&self, now: u64, random: &mut Random, percent: impl Fn(Trouble) -> Option<u64>) -> bool {
        let percent = self.troubles(now).filter_map(percent).max().unwrap_or(0);
        percent > 0 && random.percent(percent)
    }

    /// Milliseconds of a round trip.
    pub fn latency(&self, random: &mut Random) -> u64 {
        random.between(self.plan.latency.0, self.plan.latency.1)
    }

    /// No further session fits in.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.sessions >= self.plan.sessions
    }

    /// Its login.
    #[must_use]
    pub fn account(&self) -> usize {
        self.plan.account
    }

    /// It counts no transaction that it refuses before the data.
    #[must_use]
    pub fn refusals_free(&self) -> bool {
        self.plan.refusals_free
    }

    /// Whose replies it speaks.
    #[must_use]
    pub fn speaks(&self) -> Option<&'static str> {
        self.plan.provider
    }

    /// When it closes a session that is idle.
    #[must_use]
    pub fn closes_idle(&self) -> Option<u64> {
        self.plan.closes_idle
    }
}
