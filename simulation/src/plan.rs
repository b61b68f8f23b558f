//! What a seed means: channels and their next hops, and everything that is done from outside.

use crate::limits::{AccountPlan, limit};
use crate::random::Random;
use mail::limits::Limit;
use mail::{ChannelId, Lane};
use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

/// A minute, in milliseconds.
pub const MINUTE: u64 = 60_000;
/// An hour, in milliseconds.
pub const HOUR: u64 = 60 * MINUTE;

/// A history, before it happens.
pub struct Plan {
    /// The channels, by row number.
    pub channels: Vec<ChannelPlan>,
    /// The accounts behind them: limits, and how fast the provider's clock runs, in millionths.
    pub accounts: Vec<AccountPlan>,
    /// Milliseconds that all mail takes at the pace of the limits, about.
    pub drain: u64,
    /// Milliseconds between two heartbeats.
    pub beats: u64,
    /// How many people submit.
    pub people: u32,
    /// What is done when, in order of time.
    pub events: Vec<(u64, Event)>,
    /// From here on nobody makes trouble.
    pub trouble_ends: u64,
    /// A log segment is closed at this size.
    pub segment_size: u32,
    /// Chance of its own, for what came to the simulation later: the histories of older seeds stay what they were.
    pub apart: Random,
    /// Bodies of ended mail are kept so long.
    pub keep_bodies: Duration,
    /// Fresh bodies kept in memory, in bytes.
    pub cache_bytes: usize,
    /// Milliseconds that a sync takes, at most.
    pub sync_takes: u64,
}

/// A channel and its next hop.
#[derive(Clone, Debug)]
pub struct ChannelPlan {
    /// Its row.
    pub id: ChannelId,
    /// Its login.
    pub account: usize,
    /// What it and its provider are held to.
    pub limits: Vec<Limit>,
    /// The provider counts no transaction that it refuses before the data.
    pub refusals_free: bool,
    /// Whose replies it speaks.
    pub provider: Option<&'static str>,
    /// Our cap on recipients of a transaction.
    pub recipients_per_message: Option<u32>,
    /// Our cap on connections.
    pub connections: u32,
    /// Our cap on messages of a connection.
    pub messages_per_connection: Option<u32>,
    /// Uncertain ends wait for a person.
    pub asks: bool,
    /// Milliseconds for a round trip.
    pub latency: (u64, u64),
    /// The next hop closes idle sessions after so long.
    pub closes_idle: Option<u64>,
    /// The next hop takes so many sessions at once.
    pub sessions: u32,
    /// What goes wrong there, and when.
    pub troubles: Vec<(Range<u64>, Trouble)>,
}

/// What goes wrong at a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Connections are refused.
    Down,
    /// Connections are not answered.
    Silent,
    /// 454 at AUTH.
    LoginLater,
    /// So many percent of the transactions break before the final dot.
    Drops(u64),
    /// So many percent of the final replies are lost.
    Lost(u64),
    /// So many percent of the recipients are refused for now.
    Later(u64),
    /// So many percent of the recipients are refused for good.
    Never(u64),
    /// 421 to so many percent of the sessions, in the greeting.
    Busy(u64),
    /// So many percent of the transactions are refused for the channel's sake.
    Channel(u64),
}

/// A message to be submitted.
#[derive(Clone, Debug)]
pub struct Submission {
    /// Which one of the plan.
    pub number: u32,
    /// Whose.
    pub person: u32,
    /// By which channel.
    pub channel: ChannelId,
    /// How urgent.
    pub lane: Lane,
    /// How many recipients.
    pub recipients: u32,
    /// Bytes of text.
    pub size: usize,
    /// Repeated under the same key until it is answered.
    pub keyed: bool,
    /// Not before so many milliseconds from then.
    pub delay: Option<u64>,
}

/// What is done from outside.
#[derive(Clone, Debug)]
pub enum Event {
    /// Somebody submits a message.
    Submit(Submission),
    /// The process is killed at the so-manieth batch from now, or the power goes.
    Crash {
        /// Batches until then.
        batches: u64,
        /// Milliseconds until it is started again.
        down: u64,
        /// The machine boots again.
        reboots: bool,
    },
    /// Somebody sets the wall clock to so many milliseconds beside the truth.
    SetWall(i64),
    /// The process is stopped politely, and started again.
    Stop {
        /// Milliseconds for open transactions.
        grace: u64,
        /// Milliseconds until it is started again.
        down: u64,
    },
    /// The disk is full from here on.
    DiskFull,
    /// The disk has room again.
    DiskRoom,
    /// The disk fails; the process has to end.
    DiskBroken {
        /// The sync fails, else the write.
        at_sync: bool,
    },
    /// Somebody pauses a channel.
    Pause(ChannelId),
    /// Somebody resumes it.
    Resume(ChannelId),
    /// The password at the next hop changes.
    Password(ChannelId),
    /// Somebody gives us the new one.
    Mend(ChannelId),
    /// Another cap on connections.
    Connections(ChannelId, u32),
    /// Somebody cancels, holds or releases a message.
    Steer(mail::Move),
}

impl Plan {
    /// The history that a seed stands for.
    #[must_use]
    pub fn new(random: &mut Random) -> Self {
        let mut apart = Random::new(random.clone().number());
        let span = random.pick(&[5 * MINUTE, 40 * MINUTE, 6 * HOUR, 30 * HOUR]);
        let count = random.pick(&[1, 1, 2, 2, 3, 5]);
        let mut channels: Vec<ChannelPlan> = (1..=count).map(|id| channel(ChannelId(id), span, random)).collect();
        let people = random.between(2, 4) as u32;
        let mut events = Vec::new();
        let messages = random.between(20, 150) as u32;
        submissions(messages, span, people, &channels, &mut events, random);
        disturbances(span, &channels, &mut events, random);
        let (accounts, drain) = limit(span, &mut channels, &events, random);
        events.sort_by_key(|(at, _)| *at);
        let trouble_ends = events.last().map_or(0, |(at, _)| *at).max(span) + MINUTE;
        Self {
            channels,
            accounts,
            drain,
            beats: if span > HOUR { 10 * MINUTE } else { 30_000 },
            people,
            events,
            trouble_ends,
            segment_size: random.pick(&[4_000, 20_000, 100_000]),
            apart: apart.clone(),
            keep_bodies: apart.pick(&[Duration::ZERO, Duration::from_secs(600), Duration::from_secs(7 * 24 * 3600)]),
            cache_bytes: random.pick(&[0, 5_000, 1_000_000]),
            sync_takes: random.pick(&[0, 3, 12, 80]),
        }
    }

    /// The channels without limits, where no reply teaches one either: bulk is kept back by the other lanes alone.
    #[must_use]
    pub fn unhindered(&self) -> BTreeSet<ChannelId> {
        let teaches = |channel: &ChannelPlan| channel.troubles.iter().any(|(_, trouble)| matches!(trouble, Trouble::Channel(_)));
        let free = self.channels.iter().filter(|channel| channel.limits.is_empty() && !teaches(channel));
        free.map(|channel| channel.id).collect()
    }
}

fn channel(id: ChannelId, span: u64, random: &mut Random) -> ChannelPlan {
    let connections = random.between(1, 4) as u32;
    let mut troubles = Vec::new();
    for _ in 0..random.below(5) {
        let from = random.below(span);
        let long = random.pick(&[MINUTE, 10 * MINUTE, span / 3 + 1, span]);
        let percent = random.pick(&[5, 20, 60]);
        let trouble = random.pick(&[
            Trouble::Down,
            Trouble::Silent,
            Trouble::LoginLater,
            Trouble::Drops(percent),
            Trouble::Lost(percent),
            Trouble::Later(percent),
            Trouble::Never(percent),
            Trouble::Busy(percent),
            Trouble::Channel(percent),
        ]);
        troubles.push((from..(from + long).min(span), trouble));
    }
    ChannelPlan {
        id,
        account: 0,
        limits: Vec::new(),
        refusals_free: random.percent(25),
        provider: random.pick(&[None, Some("gmail"), Some("microsoft365"), Some("amazon_ses"), Some("postfix")]),
        recipients_per_message: random.percent(20).then(|| random.between(1, 10) as u32),
        connections,
        messages_per_connection: random.percent(40).then(|| random.between(1, 6) as u32),
        asks: random.percent(15),
        latency: random.pick(&[(1, 5), (20, 80), (100, 5_000)]),
        closes_idle: random.percent(40).then(|| random.between(1, 30) * 1_000),
        sessions: if random.percent(25) { random.between(1, u64::from(connections)) as u32 } else { 100 },
        troubles,
    }
}

fn submissions(count: u32, span: u64, people: u32, channels: &[ChannelPlan], events: &mut Vec<(u64, Event)>, random: &mut Random) {
    let mut number = 0;
    while number < count {
        // Mail comes in bursts, as it does.
        let (at, burst) = (random.below(span), random.pick(&[1, 1, 3, 10, 30]));
        for _ in 0..burst.min(u64::from(count - number)) {
            number += 1;
            let submission = Submission {
                number,
                person: random.below(u64::from(people)) as u32,
                channel: channels[random.below(channels.len() as u64) as usize].id,
                lane: random.pick(&[Lane::Now, Lane::Normal, Lane::Normal, Lane::Bulk]),
                recipients: if random.percent(70) { 1 } else { random.between(2, 20) as u32 },
                size: random.pick(&[0, 50, 300, 3_000]),
                keyed: random.percent(40),
                delay: random.percent(5).then(|| random.below(HOUR)),
            };
            events.push((at + random.below(2_000), Event::Submit(submission)));
        }
    }
}

fn disturbances(span: u64, channels: &[ChannelPlan], events: &mut Vec<(u64, Event)>, random: &mut Random) {
    let some = |random: &mut Random| channels[random.below(channels.len() as u64) as usize].id;
    for _ in 0..random.below(4) {
        let down = random.pick(&[0, 500, 20_000, HOUR]);
        let batches = random.below(12);
        let reboots = down > 0 && random.percent(40);
        events.push((random.below(span), Event::Crash { batches, down, reboots }));
    }
    if random.percent(25) {
        let grace = random.pick(&[0, 1_000, 25_000]);
        events.push((random.below(span), Event::Stop { grace, down: random.below(30_000) }));
    }
    if random.percent(30) {
        let (at, hours) = (random.below(span), random.pick(&[3, -24, 40 * 24]));
        events.push((at, Event::SetWall(hours * HOUR as i64)));
        events.push((at + random.below(span), Event::SetWall(0)));
    }
    if random.percent(20) {
        let at = random.below(span);
        events.push((at, Event::DiskFull));
        events.push((at + random.below(10 * MINUTE), Event::DiskRoom));
    }
    if random.percent(10) {
        events.push((random.below(span), Event::DiskBroken { at_sync: random.percent(50) }));
    }
    for _ in 0..random.below(3) {
        let (at, channel) = (random.below(span), some(random));
        let long = random.below(2 * HOUR);
        match random.below(3) {
            0 => events.extend([(at, Event::Pause(channel)), (at + long, Event::Resume(channel))]),
            1 => events.extend([(at, Event::Password(channel)), (at + long, Event::Mend(channel))]),
            _ => events.push((at, Event::Connections(channel, random.between(1, 4) as u32))),
        }
    }
    for _ in 0..random.below(8) {
        let to = random.pick(&[mail::Move::Cancel, mail::Move::Hold, mail::Move::Release]);
        events.push((random.below(span), Event::Steer(to)));
    }
}
