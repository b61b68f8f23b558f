//! Looking at everything that is open, and waiting until nothing is.

use super::{Ending, LOOK, Life};
use crate::book::Message;
use crate::line::FINAL_PATIENCE;
use crate::office;
use crate::plan::{HOUR, MINUTE, Plan};
use anyhow::Result;
use mail::limits::Limit;
use mail::{ChannelId, ChannelState, MessageId, Move, RecipientState, Timestamp};
use std::sync::Arc;
use store::Queue;
use store::disk::fake::Fault;
use web::gateway::LaneWait;

/// Due mail of an open channel does not lie longer than this without anything being tried.
const LIES: u64 = 3 * MINUTE;
/// From the end of all trouble until the last recipient has its fate: the longest retry and the
/// longest pause of a channel, one after the other, and some.
const SETTLES: u64 = 48 * HOUR;

impl Life {
    /// The trouble is over: everything gets its fate in time.
    pub(super) async fn settle(self: &Arc<Self>, plan: &Plan) -> Result<Ending> {
        let began = self.world.lock().now().max(plan.trouble_ends);
        loop {
            let now = self.world.lock().now();
            if now >= plan.trouble_ends {
                self.mend_everything(plan)?;
            }
            self.look();
            let done = {
                let state = self.world.lock();
                state.waiting.is_empty() && state.book.open() == 0 && now >= plan.trouble_ends
            };
            if done {
                return Ok(Ending::Finished);
            }
            if now > began + SETTLES + 3 * plan.drain {
                let unfinished = self.world.lock().book.ended().err().unwrap_or_else(|| "a submission".into());
                self.world.check(Err(format!("liveness: not finished long after all trouble has ended: {unfinished}")));
                return Ok(Ending::Failed);
            }
            self.world.pass(LOOK).await;
        }
    }

    pub(super) fn mend_everything(self: &Arc<Self>, plan: &Plan) -> Result<()> {
        self.disk.fail(Fault::None);
        for channel in &plan.channels {
            let password = self.world.lock().provider(channel.id).password;
            self.office.set_password(channel.id, password, self.world.wall())?;
            match self.scheduler.channel_state(channel.id) {
                ChannelState::Paused { .. } | ChannelState::NeedsAttention { .. } => self.resume(channel.id),
                _ if self.keeps_back(channel.id) => self.resume(channel.id),
                _ => {}
            }
        }
        let held: Vec<MessageId> = {
            let state = self.world.lock();
            let is_held = |message: &Message| {
                let mut standings = message.recipients.iter().filter_map(|recipient| recipient.standing);
                standings.any(|standing| standing.state == RecipientState::Held)
            };
            state.book.messages().filter(|(_, message)| is_held(message)).map(|(id, _)| *id).collect()
        };
        for message in held {
            tokio::spawn(Arc::clone(self).steer_one(message, Move::Release));
        }
        Ok(())
    }

    /// The channel keeps mail back until a person acts.
    pub(super) fn keeps_back(&self, channel: ChannelId) -> bool {
        let outlook = self.scheduler.outlook(channel);
        !outlook.paused_people.is_empty() || !outlook.refused_senders.is_empty()
    }

    /// What a channel is held to.
    pub(super) fn limits(&self, channel: ChannelId) -> impl Iterator<Item = Limit> + use<> {
        let directory = self.office.directory.directory();
        directory.channel(channel).map(|row| row.limits.clone()).unwrap_or_default().into_iter()
    }

    /// Looks at everything that is open.
    pub(super) fn look(&self) {
        let (steady, now) = (self.world.steady(), self.world.lock().now());
        let channels: Vec<_> = self.world.lock().providers.keys().copied().collect();
        for channel in channels {
            let health = self.scheduler.channel_state(channel);
            let quiet_since = {
                let mut state = self.world.lock();
                state.alive_since.max(state.provider(channel).spoken_to)
            };
            // A lane that was found waiting for room is looked at again when the room is there.
            let window = self.limits(channel).map(|limit| limit.window.as_millis() as u64 * 1_001 / 1_000).max().unwrap_or(0);
            let since = Timestamp(steady.0 - (LIES + window) as i64);
            if now < quiet_since + LIES + window + FINAL_PATIENCE || health.open_at(since).is_err() || self.keeps_back(channel) {
                continue;
            }
            let (lanes, overdue) = (self.scheduler.outlook(channel).lanes, self.queue.overdue(channel, since, 1));
            let waits = |lane: &LaneWait| lane.until.is_none_or(|until| until > since);
            if !overdue.is_empty() && !lanes.iter().flatten().any(waits) {
                let name = office::name(channel);
                let why = format!("liveness: {overdue:?} of {name} ({health:?}, {lanes:?}) is due and nothing is tried");
                self.world.check(Err(why));
            }
        }
        self.explain(steady);
    }

    /// P7: every open recipient waits for something that ends.
    pub(super) fn explain(&self, wall: Timestamp) {
        let open = self.queue.open_recipients();
        for (id, _) in open.iter().take(8) {
            let Ok(Some(view)) = self.queue.message(*id) else {
                self.world.check(Err(format!("{id} is open and is not found")));
                continue;
            };
            let outlook = self.scheduler.outlook(view.channel);
            let health = outlook.state.clone();
            let place = self
                .queue
                .ahead(view.channel, &[*id], wall)
                .pop()
                .map(|(_, lane, ahead)| web::waiting::Place { ahead, starts: self.scheduler.forecast(view.channel, lane, ahead) });
            let mail = web::waiting::Mail {
                person: view.person,
                author: &view.author,
                reverse_path: &view.reverse_path,
                lane: view.lane,
                place,
                scheduled_at: view.scheduled_at,
                expires_at: view.expires_at,
            };
            let clocks = web::clocks::Clocks { wall, steady: wall };
            let way = web::waiting::Way { name: office::name(view.channel), outlook, clocks, words: true };
            for recipient in view.recipients.iter().filter(|recipient| !recipient.state.is_final()) {
                let reason = web::waiting::of_recipient(recipient, &mail, &way);
                let acts = |reason: &mail::WaitingOn| {
                    reason.next_try.is_some()
                        || reason.kind == mail::WaitingKind::Person
                        || recipient.state == RecipientState::Held
                        || health.open_at(wall) == Err(None)
                };
                if !reason.as_ref().is_some_and(acts) {
                    self.world.check(Err(format!("P7: {id} recipient {} waits for {reason:?}", recipient.index)));
                }
            }
        }
    }
}
