//! What the outcomes of a transaction mean: for each recipient, and for the channel. Values only.

use mail::classify::{Brought, Class, Fault, ForChannel, ForRecipient, Judgement, Phase, Rules, react};
use mail::header::Header;
use mail::retry::{RetrySchedule, Standing, judge};
use mail::{Cause, Channel, Diagnostic, Move, Outcome, Stage, Timestamp};
use smtp::Mailbox;
use std::cell::LazyCell;
use std::time::Duration;
use store::{Lease, Settled};

/// Mail that a channel keeps goes behind what else is due, so that one message cannot stop all others.
const BEHIND: Duration = Duration::from_secs(1);
/// A message whose replies blame the channel comes again after other messages have been asked.
const AFTER_OTHERS: Duration = Duration::from_secs(60);

/// What a transaction led to.
pub(super) struct Verdict {
    /// What becomes of each recipient.
    pub recipients: Vec<Settled>,
    /// What becomes of the channel, with the words that led to it.
    pub channel: Option<(ForChannel, Diagnostic)>,
    /// The provider refuses the sender, at this stage and in these words.
    pub refuses_from: Option<(Stage, Diagnostic)>,
    /// What is said of the channel was said at RCPT or later, so that it may be about the message alone.
    pub may_mean_message: bool,
    /// Final refusals, for the breaker.
    pub refusals: Vec<Refusal>,
    /// The next hop took at least one recipient.
    pub accepted: bool,
}

impl Verdict {
    /// True when nothing more goes over the connection that the replies came by.
    pub(super) fn leaves_connection(&self) -> bool {
        self.channel.as_ref().is_some_and(|(reaction, _)| match reaction {
            ForChannel::Reconnect { .. } | ForChannel::FewerConnections { .. } => true,
            ForChannel::Slow { .. } | ForChannel::Throttle { .. } | ForChannel::LoginRefused | ForChannel::NeedsAttention => false,
        })
    }
}

/// A final refusal of a recipient.
pub(super) struct Refusal {
    pub class: Class,
    pub scope: Fault,
    /// The recipient's domain, lower case.
    pub domain: String,
    pub said: Diagnostic,
}

/// What is needed to judge.
pub(super) struct Judge<'a> {
    pub rules: &'a Rules,
    pub row: &'a Channel,
    pub schedule: &'a RetrySchedule,
    pub now: Timestamp,
    pub jitter: f64,
    /// The message, header and all: replies may repeat of it.
    pub message: &'a [u8],
    /// It was said of this message that the channel is at fault, and the channel took the next one.
    pub refuted: bool,
}

impl Judge<'_> {
    pub(super) fn verdict(&self, lease: &Lease, outcomes: &[(u32, Outcome)]) -> Verdict {
        let accepted = outcomes.iter().any(|(_, outcome)| matches!(outcome, Outcome::Sent(_) | Outcome::Captured));
        let mut verdict = Verdict {
            recipients: Vec::new(),
            channel: None,
            refuses_from: None,
            may_mean_message: false,
            refusals: Vec::new(),
            accepted,
        };
        // Most transactions are refused by nobody, or at RCPT: nothing of the message is read then.
        let brought = LazyCell::new(|| self.brought(lease));
        let mut known: Option<(Stage, Diagnostic, Judgement)> = None;
        for (index, outcome) in outcomes {
            let standing = lease.recipients.iter().find(|recipient| recipient.index == *index);
            let standing = standing
                .map_or_else(Standing::default, |recipient| Standing { attempts: recipient.attempts, doubts: recipient.doubts });
            let settled = match refusal(outcome) {
                Some((stage, said)) => {
                    let judgement = match &known {
                        // What was said of the message as a whole stands there once for each recipient.
                        Some((at, same, judgement)) if stage != Stage::Rcpt && (*at, same) == (stage, said) => judgement.clone(),
                        _ if stage == Stage::Rcpt => self.judgement(stage, said, &brought_by_one(lease, *index)),
                        _ => self.judgement(stage, said, &brought),
                    };
                    known = Some((stage, said.clone(), judgement.clone()));
                    self.refused(lease, *index, standing, (stage, said, &judgement), &mut verdict)
                }
                None => self.other(*index, standing, outcome),
            };
            verdict.recipients.push(settled);
        }
        verdict
    }

    /// What a reply to the message as a whole may repeat.
    fn brought(&self, lease: &Lease) -> Brought {
        let mut brought = Brought::default();
        lease.envelope.reverse_path.mailbox().into_iter().for_each(|mailbox| brought.address(mailbox));
        if let Ok(header) = Header::stored(self.message) {
            brought.text(&header.subject_as_repeated());
        }
        for recipient in &lease.recipients {
            mailbox_of(lease, recipient.index).into_iter().for_each(|mailbox| brought.address(mailbox));
        }
        brought
    }

    fn judgement(&self, stage: Stage, said: &Diagnostic, brought: &Brought) -> Judgement {
        let providers = self.rules.order(self.row.provider.as_deref());
        self.rules.classify_for(&providers, Phase::of(stage), said, brought)
    }

    fn other(&self, index: u32, standing: Standing, outcome: &Outcome) -> Settled {
        let after = judge(outcome, standing, self.schedule, self.row.on_uncertain, self.now, self.jitter);
        let (said, cause) = words(outcome);
        Settled { index, to: after.to, due: after.due, counts: after.counts, said, cause, suppress: None }
    }

    fn refused(
        &self,
        lease: &Lease,
        index: u32,
        standing: Standing,
        (stage, said, judgement): (Stage, &Diagnostic, &Judgement),
        verdict: &mut Verdict,
    ) -> Settled {
        let reaction = react(judgement);
        let may_mean_message = stage != Stage::Mail && reaction.channel.as_ref().is_some_and(stops);
        if may_mean_message && self.refuted {
            let words = format!("the next hop blames the channel for this message again and takes others: {said}");
            let (said, cause) = (Diagnostic::own(None, words), Some(Cause::Refused(stage, said.clone())));
            return Settled { index, to: Move::Hold, due: self.now, counts: false, said, cause, suppress: None };
        }
        if let Some(channel) = reaction.channel {
            let stronger = verdict.channel.as_ref().is_none_or(|(known, _)| strength(&channel) > strength(known));
            if stronger {
                verdict.channel = Some((channel, said.clone()));
                verdict.may_mean_message = may_mean_message;
            }
        }
        let cause = Cause::Refused(stage, said.clone());
        let settled =
            |to, due, counts| Settled { index, to, due, counts, said: said.clone(), cause: Some(cause.clone()), suppress: None };
        // A reply to the message as a whole does not say which of several recipients it means.
        let is_alone = stage == Stage::Rcpt || lease.recipients.len() == 1;
        match reaction.recipient {
            ForRecipient::Fail | ForRecipient::FailAndSuppress => {
                let domain = mailbox_of(lease, index).map_or(String::new(), |mailbox| mailbox.domain().to_string().to_lowercase());
                let (class, scope) = (judgement.class, judgement.scope);
                verdict.refusals.push(Refusal { class, scope, domain, said: said.clone() });
                let suppress = (reaction.recipient == ForRecipient::FailAndSuppress && is_alone).then(|| address(lease, index));
                Settled { suppress: suppress.flatten(), ..settled(Move::Fail, self.now, true) }
            }
            ForRecipient::Again if verdict.accepted => settled(Move::GiveBack, self.now, false),
            ForRecipient::Again => self.deferred(index, standing, cause, None),
            ForRecipient::Defer { after } => self.deferred(index, standing, cause, after),
            ForRecipient::Keep if may_mean_message => settled(Move::GiveBack, self.now.plus(AFTER_OTHERS), false),
            ForRecipient::Keep => settled(Move::GiveBack, self.now.plus(BEHIND), false),
            ForRecipient::HoldFrom => {
                verdict.refuses_from = Some((stage, said.clone()));
                settled(Move::Hold, self.now, false)
            }
        }
    }

    fn deferred(&self, index: u32, standing: Standing, cause: Cause, after: Option<Duration>) -> Settled {
        let settled = self.other(index, standing, &Outcome::Deferred(cause));
        let due = after.map_or(settled.due, |after| settled.due.max(self.now.plus(after)));
        Settled { due, ..settled }
    }
}

/// What the rules say of a refusal that came before any message.
pub(super) fn of_opening(rules: &Rules, row: &Channel, stage: Stage, said: &Diagnostic) -> Judgement {
    rules.classify(&rules.order(row.provider.as_deref()), Phase::of(stage), said)
}

fn refusal(outcome: &Outcome) -> Option<(Stage, &Diagnostic)> {
    match outcome {
        Outcome::Deferred(Cause::Refused(stage, said)) | Outcome::Failed(Cause::Refused(stage, said)) => Some((*stage, said)),
        Outcome::Deferred(_)
        | Outcome::Failed(_)
        | Outcome::Sent(_)
        | Outcome::Captured
        | Outcome::Uncertain(_)
        | Outcome::Untried => None,
    }
}

/// What a reply to one RCPT may repeat.
fn brought_by_one(lease: &Lease, index: u32) -> Brought {
    let mut brought = Brought::default();
    let mailboxes = lease.envelope.reverse_path.mailbox().into_iter().chain(mailbox_of(lease, index));
    mailboxes.for_each(|mailbox| brought.address(mailbox));
    brought
}

fn mailbox_of(lease: &Lease, index: u32) -> Option<&Mailbox> {
    lease.envelope.recipients.get(index as usize).map(|recipient| recipient.path.mailbox())
}

fn address(lease: &Lease, index: u32) -> Option<String> {
    lease.envelope.recipients.get(index as usize).map(|recipient| recipient.path.mailbox().key())
}

/// True for what stops the whole channel for long, or until a person acts.
fn stops(reaction: &ForChannel) -> bool {
    match reaction {
        ForChannel::NeedsAttention | ForChannel::LoginRefused | ForChannel::Throttle { .. } => true,
        ForChannel::Slow { .. } | ForChannel::FewerConnections { .. } | ForChannel::Reconnect { .. } => false,
    }
}

/// Of several things that replies say about a channel, the gravest counts.
fn strength(reaction: &ForChannel) -> u8 {
    match reaction {
        ForChannel::Reconnect { .. } => 0,
        ForChannel::FewerConnections { .. } => 1,
        ForChannel::Slow { .. } => 2,
        ForChannel::Throttle { .. } => 3,
        ForChannel::LoginRefused => 4,
        ForChannel::NeedsAttention => 5,
    }
}

fn words(outcome: &Outcome) -> (Diagnostic, Option<Cause>) {
    match outcome {
        Outcome::Sent(said) => (said.clone(), None),
        Outcome::Captured => (Diagnostic::own(None, "kept by the capture channel"), None),
        Outcome::Untried => (Diagnostic::own(None, "not tried"), None),
        Outcome::Deferred(cause) | Outcome::Failed(cause) | Outcome::Uncertain(cause) => match cause {
            Cause::Refused(_, said) | Cause::Unsupported(said) => (said.clone(), Some(cause.clone())),
            Cause::Broken(..) | Cause::LostAfterData(_) | Cause::Interrupted | Cause::Unreadable(_) => {
                (Diagnostic::own(None, cause.to_string()), Some(cause.clone()))
            }
        },
    }
}

/// True when nothing of the transaction is counted by a provider that does not count refusals before the data.
pub(super) fn is_free(outcomes: &[(u32, Outcome)]) -> bool {
    let free = |outcome: &Outcome| match outcome {
        Outcome::Untried => true,
        Outcome::Deferred(cause) | Outcome::Failed(cause) => match cause {
            Cause::Refused(stage, _) => matches!(stage, Stage::Mail | Stage::Rcpt),
            Cause::Unsupported(_) => true,
            Cause::Broken(..) | Cause::LostAfterData(_) | Cause::Interrupted | Cause::Unreadable(_) => false,
        },
        Outcome::Sent(_) | Outcome::Captured | Outcome::Uncertain(_) => false,
    };
    outcomes.iter().all(|(_, outcome)| free(outcome))
}
