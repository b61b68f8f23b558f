//! Which limits the accounts of a plan have.

use crate::plan::{ChannelPlan, Event, HOUR, MINUTE};
use crate::random::Random;
use mail::limits::{Limit, LimitScope, Unit};
use std::collections::BTreeMap;
use std::time::Duration;

/// Limits, and how fast the provider's clock runs, in millionths.
pub type AccountPlan = (Vec<Limit>, i64);

/// Gives the channels accounts, and limits under which their mail fits within some days; also how many milliseconds
/// that takes, about.
pub fn limit(span: u64, channels: &mut [ChannelPlan], events: &[(u64, Event)], random: &mut Random) -> (Vec<AccountPlan>, u64) {
    let mut accounts: Vec<AccountPlan> = Vec::new();
    let mut wanted: BTreeMap<usize, [u64; 4]> = BTreeMap::new();
    for channel in channels.iter_mut() {
        let shared = !accounts.is_empty() && random.percent(20);
        if !shared {
            accounts.push((Vec::new(), random.between(0, 1_000) as i64 - 500));
        }
        channel.account = accounts.len() - 1;
        let sent = wanted.entry(channel.account).or_default();
        sent.iter_mut().zip(units(channel, events)).for_each(|(sum, one)| *sum += one);
    }
    let mut drain = 0;
    for (number, (limits, _)) in accounts.iter_mut().enumerate() {
        for _ in 0..random.pick(&[0, 1, 1, 2]) {
            let place = random.below(3) as usize;
            let (unit, least) = [(Unit::Messages, 1), (Unit::Recipients, 1), (Unit::Bytes, 20_000)][place];
            let window = random.pick(&[1_000, 10_000, MINUTE, 10 * MINUTE, HOUR, 24 * HOUR]);
            let all = wanted.get(&number).map_or(0, |sent| sent[place]);
            let takes = random.pick(&[span / 4, span, 2 * span, 40 * HOUR]).min(40 * HOUR).max(window / 4);
            let count = (all * window / takes).max(least) + random.below(3);
            let limit = Limit { count, unit, window: Duration::from_millis(window), scope: LimitScope::Account };
            if limits.iter().all(|known: &Limit| (known.unit, known.window) != (limit.unit, limit.window)) {
                // A limit on recipients may split a message into one transaction for each, with all its bytes.
                let most = wanted.get(&number).map_or(0, |sent| if unit == Unit::Bytes { sent[3] } else { sent[1] });
                drain = drain.max((most / count + 2) * window);
                limits.push(limit);
            }
        }
    }
    for channel in channels {
        channel.limits.clone_from(&accounts[channel.account].0);
    }
    (accounts, drain)
}

/// What a channel's mail costs: messages, recipients, bytes; and bytes with a transaction for each recipient.
fn units(channel: &ChannelPlan, events: &[(u64, Event)]) -> [u64; 4] {
    let mut sum = [0; 4];
    for (_, event) in events {
        if let Event::Submit(one) = event
            && one.channel == channel.id
        {
            let parts = u64::from(channel.recipients_per_message.map_or(1, |most| one.recipients.div_ceil(most)));
            let (recipients, bytes) = (u64::from(one.recipients), one.size as u64 + 100);
            let all = [parts, recipients, bytes * parts, bytes * recipients];
            sum.iter_mut().zip(all).for_each(|(sum, one)| *sum += one);
        }
    }
    sum
}
