//! When mail that is not sent yet would be through.

use super::Glance;
use super::queue::through;
use crate::problem::Problem;
use crate::view::{Estimate, EstimateRequest};
use mail::pace::{Ahead, Terms};
use mail::{ChannelId, Timestamp};
use std::time::Duration;

/// Further away nothing is said but that.
const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

impl Glance<'_> {
    /// Behind what waits on the channel already, in this lane and the more urgent ones.
    pub(crate) fn estimate(&self, id: ChannelId, asked: &EstimateRequest) -> Result<Estimate, Problem> {
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
        let queues = self.queue().queue(self.clocks.steady)?;
        let waiting =
            queues.iter().find(|line| line.channel == id).map(|line| through(&line.waiting, asked.lane)).unwrap_or_default();
        let one = Ahead { transactions: 1, recipients: wanted.recipients.div_ceil(transactions), bytes: asked.bytes_each() };
        let when = |ahead| self.gateway.forecast(id, asked.lane, ahead).map(|at| self.clocks.shown(at));
        let (starts_at, finishes_at) = (when(waiting.plus(one)), when(waiting.plus(wanted)));
        Ok(Estimate {
            text: words(&way.name, asked.messages, finishes_at, self.clocks.wall, way.outlook.state.name()),
            channel: way.name,
            lane: asked.lane,
            messages: asked.messages,
            transactions,
            ahead: waiting.transactions,
            starts_at,
            finishes_at,
        })
    }
}

fn words(channel: &str, messages: u64, finishes_at: Option<Timestamp>, now: Timestamp, state: &str) -> String {
    let what = if messages == 1 { "the message".to_owned() } else { format!("the last of {messages} messages") };
    match finishes_at {
        Some(at) if at.since(now) > CENTURY => {
            format!("{what} would not leave by channel '{channel}' within a hundred years, as things stand now")
        }
        Some(at) => format!("{what} would leave by channel '{channel}' at about {at}, as things stand now"),
        None => format!("nobody can say when {what} would leave: channel '{channel}' is {state} and waits for a person"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_beyond_a_hundred_years_is_not_told_as_a_date() {
        let text = |at| words("office", 10, Some(Timestamp(at)), Timestamp(0), "active");
        assert!(text(1000).contains("at about 1970-01-01T00:00:01"));
        assert!(text(i64::MAX).contains("within a hundred years"));
    }
}
