//! What a judgement means for a recipient and for its channel.

use super::Judgement;
use super::words::{Action, Class, Fault, Permanence};
use std::time::Duration;

/// What follows from a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reaction {
    /// For each recipient that the reply was about.
    pub recipient: ForRecipient,
    /// For the channel; `None`: nothing.
    pub channel: Option<ForChannel>,
}

/// What becomes of a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForRecipient {
    /// Final.
    Fail,
    /// Final, and the address is not to be written to again.
    FailAndSuppress,
    /// An attempt of its own is spent, and the retry schedule decides.
    Defer {
        /// No sooner than this.
        after: Option<Duration>,
    },
    /// No attempt is spent: due again when the channel goes.
    Keep,
    /// It waits for a person, as does the same person's further mail with this sender; the channel's other mail goes on.
    HoldFrom,
    /// At once, in a new transaction.
    Again,
}

/// What becomes of the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForChannel {
    /// A person must act.
    NeedsAttention,
    /// The login was refused: one more try confirms it, then the owner must act.
    LoginRefused,
    /// Parked.
    Throttle {
        /// For this long.
        after: Option<Duration>,
        /// The reply itself said for how long.
        told: bool,
        /// False where attempts prolong the block: nothing is tried before the time is over.
        probes: bool,
    },
    /// Its pace goes down.
    Slow {
        /// On after this.
        after: Option<Duration>,
    },
    /// Fewer connections.
    FewerConnections {
        /// On after this.
        after: Option<Duration>,
    },
    /// Another connection.
    Reconnect {
        /// After this.
        after: Option<Duration>,
    },
}

/// What a judgement means.
///
/// Through a smarthost there is one next hop, so the pause of a destination (`pause_direct_delivery`,
/// `pause_from_domain`, a remote throttle) is a deferral of the recipient, not of the channel: the smarthost hands
/// on what a remote server said, and mail for others may flow.
///
/// A reply to the message as a whole speaks for every recipient of its transaction: where there are several, nobody
/// knows whom it means, and the caller takes `FailAndSuppress` for `Fail`.
///
/// A suppression needs a rule that knows the reply: the codes alone never write one.
#[must_use]
pub fn react(judgement: &Judgement) -> Reaction {
    let after = judgement.retry_after;
    let alone = |recipient| Reaction { recipient, channel: None };
    let parked = |channel| Reaction { recipient: ForRecipient::Keep, channel: Some(channel) };
    match judgement.action {
        Action::BounceRecipient if suppresses(judgement) => alone(ForRecipient::FailAndSuppress),
        Action::BounceRecipient | Action::BounceMessage => alone(ForRecipient::Fail),
        Action::RetryRecipient | Action::PauseFromDomain | Action::PauseDirectDelivery => alone(ForRecipient::Defer { after }),
        Action::RetryLater if judgement.scope == Fault::Connection => parked(ForChannel::Reconnect { after }),
        Action::RetryLater => alone(ForRecipient::Defer { after }),
        Action::HoldMessageFixSender => alone(ForRecipient::HoldFrom),
        Action::SplitRecipients => alone(ForRecipient::Again),
        Action::PauseChannelReauth | Action::RefreshTokenOnce => parked(ForChannel::LoginRefused),
        Action::PauseChannelAdmin => parked(ForChannel::NeedsAttention),
        Action::PauseChannelUntil => {
            let probes = judgement.rule.as_ref().is_none_or(|rule| rule.probe);
            parked(ForChannel::Throttle { after, told: judgement.told, probes })
        }
        Action::SlowChannel => parked(ForChannel::Slow { after }),
        Action::ReduceConcurrency => parked(ForChannel::FewerConnections { after }),
        Action::RetryConnection => parked(ForChannel::Reconnect { after }),
    }
}

fn suppresses(judgement: &Judgement) -> bool {
    judgement.class == Class::RecipientUnknown && judgement.permanence == Permanence::Permanent && judgement.rule.is_some()
}
