//! People: who submits, steers messages, and resumes channels.

use super::Life;
use crate::book::Message;
use crate::office;
use crate::plan::Submission;
use mail::channel::{ChannelMove, OnUncertain};
use mail::{BodyType, ChannelId, Envelope, MessageId, Move, Recipient, RecipientState, Surface};
use smtp::{ForwardPath, Mailbox, ReversePath};
use std::sync::Arc;
use std::time::Duration;
use store::{AcceptError, Idempotency, NewMessage, Queue, Steer};

impl Life {
    pub(super) fn resume(self: &Arc<Self>, channel: ChannelId) {
        self.world.lock().provider(channel).refused_logins = 0;
        let life = Arc::clone(self);
        tokio::spawn(async move { life.scheduler.steer(channel, ChannelMove::Resume).await });
    }

    /// Somebody steers one of the open messages.
    pub(super) fn steer(self: &Arc<Self>, to: Move) {
        let chosen = {
            let mut state = self.world.lock();
            let is_open = |message: &Message| {
                let mut standings = message.recipients.iter().filter_map(|recipient| recipient.standing);
                standings.any(|standing| !standing.state.is_final())
            };
            let open: Vec<MessageId> = state.book.messages().filter(|(_, message)| is_open(message)).map(|(id, _)| *id).collect();
            if open.is_empty() { None } else { Some(state.random.pick(&open)) }
        };
        if let Some(message) = chosen {
            tokio::spawn(Arc::clone(self).steer_one(message, to));
        }
    }

    pub(super) async fn steer_one(self: Arc<Self>, message: MessageId, to: Move) {
        let order =
            Steer { message, recipients: Vec::new(), to, channel: None, by: "ana@example.com".into(), at: self.world.wall() };
        let answer = self.queue.steer(order).await;
        self.world.live().await;
        self.world.note(&format!("{to:?} {message}: {answer:?}"));
        let Ok(moved) = answer else { return };
        if to == Move::Release && !moved.is_empty() {
            if let Ok(Some(view)) = self.queue.message(message) {
                self.scheduler.released(view.channel, true).await;
            }
            return;
        }
        let mut state = self.world.lock();
        let known = state.book.message(message).cloned();
        for index in moved {
            let standing = known.as_ref().and_then(|known| known.recipients.get(index as usize)?.standing);
            let cancelled = standing.is_some_and(|standing| standing.state == RecipientState::Cancelled);
            if to == Move::Cancel && !cancelled {
                state.check(Err(format!("{message} recipient {index} was cancelled, and is {standing:?}")));
            }
        }
    }

    /// Submits until it is safe.
    pub(super) async fn submit(self: Arc<Self>, submission: Submission) {
        loop {
            let message = self.message(&submission);
            let id = message.id;
            let asks = self
                .office
                .directory
                .directory()
                .channel(submission.channel)
                .is_some_and(|row| row.on_uncertain == OnUncertain::Ask);
            self.world.lock().book.submitted(id, submission.recipients, asks);
            let answer = self.queue.accept(vec![message]).await;
            self.world.live().await;
            match answer {
                Ok(accepted) => {
                    let mut state = self.world.lock();
                    state.note(&format!("submission {} is {accepted:?}", submission.number));
                    state.waiting.remove(&submission.number);
                    for one in accepted {
                        let result = state.book.promised(one.id);
                        state.check(result);
                    }
                    return;
                }
                Err(AcceptError::NoSpace(_)) => self.world.pass(20_000).await,
                Err(AcceptError::Closed(_)) => return,
                Err(error @ (AcceptError::KeyReused { .. } | AcceptError::OverCap(_))) => {
                    return self.world.check(Err(error.to_string()));
                }
            }
        }
    }

    pub(super) fn message(&self, submission: &Submission) -> NewMessage {
        let (at, steady) = (self.world.wall(), self.world.steady());
        let mut random = [0; 10];
        random[..8].copy_from_slice(&self.world.lock().random.number().to_be_bytes());
        let from = office::address(submission.person);
        let recipient = |place: u32| {
            let path = ForwardPath::parse(&format!("<r{}.{place}@example.org>", submission.number));
            Recipient::new(path.expect("the addresses here are addresses"))
        };
        let text = "x".repeat(submission.size);
        NewMessage {
            id: MessageId::new(at, random),
            at,
            due: submission.delay.map_or(steady, |delay| steady.plus(Duration::from_millis(delay))),
            person: self.office.person(submission.person),
            team: self.office.team(submission.person),
            token: None,
            surface: Surface::Smtp,
            channel: submission.channel,
            lane: submission.lane,
            lane_reason: String::new(),
            retry_of: None,
            suppressed: Vec::new(),
            envelope: Envelope {
                reverse_path: ReversePath::Mailbox(Mailbox::parse(&from).expect("the addresses here are addresses")),
                recipients: (0..submission.recipients).map(recipient).collect(),
                body: BodyType::SevenBit,
                smtputf8: false,
                ret: None,
                envid: None,
            },
            author: from.clone(),
            from: from.clone(),
            subject: format!("number {}", submission.number),
            message_id: format!("{}@example.com", submission.number),
            tags: vec![],
            idempotency: submission.keyed.then(|| Idempotency {
                key: submission.number.to_string(),
                fingerprint: [submission.number as u8; 32],
                parts: submission.number.is_multiple_of(2),
            }),
            scheduled_at: None,
            expires_at: None,
            body: format!("From: {from}\r\nSubject: number {}\r\n\r\n{text}\r\n", submission.number).into_bytes().into(),
        }
    }
}
