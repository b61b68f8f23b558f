//! When mail that is not sent yet would be through.

use super::Glance;
use super::queue::through;
use crate::problem::Problem;
use crate::view::{Estimate, EstimateRequest};
use crate::waiting::Way;
use mail::pace::{Ahead, Terms};
use mail::{ChannelId, ChannelState, PersonId, Timestamp};
use std::time::Duration;

/// Further away nothing is said but that.
const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

impl Glance<'_> {
    /// Behind what waits on the channel already, in this lane and the more urgent ones.
    ///
    /// `person` is who would send, where that is known: their mail may be kept back.
    pub(crate) fn estimate(&self, id: ChannelId, person: Option<PersonId>, asked: &EstimateRequest) -> Result<Estimate, Problem> {
        let way = self.way(id);
        let row = self.directory.channel(id).ok_or_else(|| Problem::no_channel(&way.name))?;
        let terms = Terms::new(row, &way.outlook.lessons);
        let each = asked.recipients_each().div_ceil(u64::from(terms.most_recipients(asked.lane)));
        let transactions = asked.messages.saturating_mul(each);
        let wanted = Ahead {
            transactions,
            recipients: asked.messages.saturating_mul(asked.recipients_each()),
            bytes: transactions.saturating_mul(asked.bytes_each()),
        };
        let kept_back = self.gateway.kept_back();
        let is_kept_back = person.is_some_and(|person| kept_back.contains(&(id, person)));
        let queues = self.queue().queue(self.clocks.steady, &kept_back)?;
        let line = queues.iter().find(|line| line.channel == id);
        let behind = |more| line.map_or(more, |line| through(&line.lanes, asked.lane, more));
        let one = Ahead { transactions: 1, recipients: wanted.recipients.div_ceil(transactions), bytes: asked.bytes_each() };
        let forecast = |ahead| if is_kept_back { None } else { self.gateway.forecast(id, asked.lane, ahead) };
        let when = |ahead| forecast(ahead).map(|at| self.clocks.shown(at));
        let (starts_at, finishes_at) = (when(behind(one)), when(behind(wanted)));
        Ok(Estimate {
            text: words(&way, asked.messages, finishes_at, is_kept_back),
            channel: way.name,
            lane: asked.lane,
            messages: asked.messages,
            transactions,
            ahead: behind(one).transactions.saturating_sub(1),
            starts_at,
            finishes_at,
        })
    }
}

fn words(way: &Way, messages: u64, finishes_at: Option<Timestamp>, is_kept_back: bool) -> String {
    let (channel, state, now) = (&way.name, &way.outlook.state, way.clocks.wall);
    let what = if messages == 1 { "the message".to_owned() } else { format!("the last of {messages} messages") };
    match finishes_at {
        Some(at) if at.since(now) > CENTURY => {
            format!("{what} would not leave by channel '{channel}' within a hundred years, as things stand now")
        }
        Some(at) => format!("{what} would leave by channel '{channel}' at about {at}, as things stand now"),
        None => {
            let why = match state {
                ChannelState::LoginRefused { .. } => "had its login refused, and it is tried once more".to_owned(),
                _ if is_kept_back => {
                    "keeps the mail of its sender back until a message of it that is tried is accepted, or a person lets it go on"
                        .to_owned()
                }
                _ => format!("is {} and waits for a person", state.name()),
            };
            format!("nobody can say when {what} would leave: channel '{channel}' {why}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clocks::Clocks;
    use crate::gateway::Outlook;

    #[test]
    fn a_time_beyond_a_hundred_years_is_not_told_as_a_date() {
        let way = Way { name: "office".into(), outlook: Outlook::default(), clocks: Clocks::default(), words: true };
        let text = |at| words(&way, 10, Some(Timestamp(at)), false);
        assert!(text(1000).contains("at about 1970-01-01T00:00:01"));
        assert!(text(i64::MAX).contains("within a hundred years"));
    }
}
