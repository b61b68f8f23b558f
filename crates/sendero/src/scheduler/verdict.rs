//! What the outcomes of a transaction mean: for each recipient, and for the channel. Values only.

use mail::classify::{Class, ForChannel, ForRecipient, Judgement, Phase, Rules, react};
use mail::retry::{RetrySchedule, Standing, judge};
use mail::{Cause, Channel, Diagnostic, Move, Outcome, Stage, Timestamp};
use std::time::Duration;
use store::{Lease, Settled};

/// Mail that a channel keeps goes behind what else is due, so that one message cannot stop all others.
const BEHIND: Duration = Duration::from_secs(1);

/// What a transaction led to.
pub(super) struct Verdict {
    /// What becomes of each recipient.
    pub recipients: Vec<Settled>,
    /// What becomes of the channel, with the words that led to it.
    pub channel: Option<(ForChannel, Diagnostic)>,
    /// The provider refuses the sender, at this stage and in these words.
    pub refuses_from: Option<(Stage, Diagnostic)>,
    /// Final refusals, for the breaker.
    pub refusals: Vec<(Class, Diagnostic)>,
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

/// What is needed to judge.
pub(super) struct Judge<'a> {
    pub rules: &'a Rules,
    pub row: &'a Channel,
    pub schedule: &'a RetrySchedule,
    pub now: Timestamp,
    pub jitter: f64,
}

impl Judge<'_> {
    pub(super) fn verdict(&self, lease: &Lease, outcomes: &[(u32, Outcome)]) -> Verdict {
        let accepted = outcomes.iter().any(|(_, outcome)| matches!(outcome, Outcome::Sent(_) | Outcome::Captured));
        let mut verdict = Verdict { recipients: Vec::new(), channel: None, refuses_from: None, refusals: Vec::new(), accepted };
        for (index, outcome) in outcomes {
            let standing = lease.recipients.iter().find(|recipient| recipient.index == *index);
            let standing = standing
                .map_or_else(Standing::default, |recipient| Standing { attempts: recipient.attempts, doubts: recipient.doubts });
            let settled = match refusal(outcome) {
                Some((stage, said)) => self.refused(lease, *index, standing, stage, said, &mut verdict),
                None => self.other(*index, standing, outcome),
            };
            verdict.recipients.push(settled);
        }
        verdict
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
        stage: Stage,
        said: &Diagnostic,
        verdict: &mut Verdict,
    ) -> Settled {
        let providers = self.rules.order(self.row.provider.as_deref());
        let judgement = self.rules.classify(&providers, Phase::of(stage), said);
        let reaction = react(&judgement);
        if let Some(channel) = reaction.channel {
            let stronger = verdict.channel.as_ref().is_none_or(|(known, _)| strength(&channel) > strength(known));
            if stronger {
                verdict.channel = Some((channel, said.clone()));
            }
        }
        let cause = Cause::Refused(stage, said.clone());
        let settled =
            |to, due, counts| Settled { index, to, due, counts, said: said.clone(), cause: Some(cause.clone()), suppress: None };
        // A reply to the message as a whole does not say which of several recipients it means.
        let is_alone = stage == Stage::Rcpt || lease.recipients.len() == 1;
        match reaction.recipient {
            ForRecipient::Fail | ForRecipient::FailAndSuppress => {
                verdict.refusals.push((judgement.class, said.clone()));
                let suppress = (reaction.recipient == ForRecipient::FailAndSuppress && is_alone).then(|| address(lease, index));
                Settled { suppress: suppress.flatten(), ..settled(Move::Fail, self.now, true) }
            }
            ForRecipient::Again if verdict.accepted => settled(Move::GiveBack, self.now, false),
            ForRecipient::Again => self.deferred(index, standing, cause, None),
            ForRecipient::Defer { after } => self.deferred(index, standing, cause, after),
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

fn address(lease: &Lease, index: u32) -> Option<String> {
    lease.envelope.recipients.get(index as usize).map(|recipient| recipient.path.mailbox().key())
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
