//! A reply that no rule knows: its phase and its codes decide (RFC 5321 §4.2, RFC 3463).

use super::Judgement;
use super::words::{Action, Class, Fault, Permanence, Phase};
use crate::outcome::Diagnostic;
use std::time::Duration;

/// After a 421, and after trouble of the next hop's own.
const SOON: Duration = Duration::from_secs(120);
/// After a refusal of the channel that nobody knows: it is probed, as nobody knows either what would mend it.
const LATER: Duration = Duration::from_secs(900);

/// Class, scope, permanence, action; and the wait if the reply names none.
type Finding = (Class, Fault, Permanence, Action, Option<Duration>);

const RECONNECT: Finding = (Class::Other, Fault::Connection, Permanence::Temporary, Action::RetryConnection, Some(SOON));
const TROUBLE: Finding = (Class::Other, Fault::Connection, Permanence::Temporary, Action::RetryLater, Some(SOON));
const LOGIN: Finding = (Class::AuthFailed, Fault::Channel, Permanence::UntilCredentialChange, Action::PauseChannelReauth, None);
const NO_LOGINS: Finding = (Class::AuthDisabled, Fault::Channel, Permanence::UntilConfigChange, Action::PauseChannelAdmin, None);
const NO_TLS: Finding = (Class::TlsRequired, Fault::Channel, Permanence::UntilConfigChange, Action::PauseChannelAdmin, None);
const BARRED: Finding = (Class::Other, Fault::Channel, Permanence::UntilConfigChange, Action::PauseChannelUntil, Some(LATER));
const TOO_FAST: Finding = (Class::RateLimited, Fault::Channel, Permanence::Temporary, Action::SlowChannel, Some(SOON));
const AUTHOR: Finding = (Class::SenderDenied, Fault::Message, Permanence::UntilConfigChange, Action::HoldMessageFixSender, None);
const TOO_LARGE: Finding = (Class::MessageTooLarge, Fault::Message, Permanence::Permanent, Action::BounceMessage, None);
const CONTENT: Finding = (Class::ContentRejected, Fault::Message, Permanence::Permanent, Action::BounceMessage, None);
const MESSAGE: Finding = (Class::Other, Fault::Message, Permanence::Permanent, Action::BounceMessage, None);
const MESSAGE_LATER: Finding = (Class::Other, Fault::Message, Permanence::Temporary, Action::RetryLater, None);
const SPLIT: Finding = (Class::Other, Fault::Message, Permanence::Temporary, Action::SplitRecipients, None);
const UNKNOWN: Finding = (Class::RecipientUnknown, Fault::Recipient, Permanence::Permanent, Action::BounceRecipient, None);
const RECIPIENT: Finding = (Class::Other, Fault::Recipient, Permanence::Permanent, Action::BounceRecipient, None);
const RECIPIENT_LATER: Finding = (Class::Other, Fault::Recipient, Permanence::Temporary, Action::RetryRecipient, None);
const FULL: Finding = (Class::MailboxFull, Fault::Recipient, Permanence::Temporary, Action::RetryRecipient, None);

/// The judgement by the codes alone; `told` is the time that the text names.
pub(super) fn judge(phase: Phase, said: &Diagnostic, told: Option<Duration>) -> Judgement {
    let (class, scope, permanence, action, wait) = match phase {
        Phase::Connect => before_login(said),
        Phase::Auth => login(said),
        Phase::Mail | Phase::Rcpt | Phase::Data | Phase::Ndr if is_transient(said) => transient(phase, said),
        Phase::Mail => mail(said),
        Phase::Rcpt | Phase::Ndr => rcpt(said),
        Phase::Data => data(said),
        Phase::Api => api(said.code),
        Phase::Oauth => oauth(said.code),
    };
    let retry_after = if action.waits() { told.or(wait) } else { None };
    Judgement { class, scope, permanence, action, retry_after, told: told.is_some() && action.waits(), rule: None }
}

/// The code says it; where the gateway itself speaks (code 0), the enhanced code. Nonsense may pass.
fn is_transient(said: &Diagnostic) -> bool {
    match said.code {
        0 => said.enhanced.is_none_or(|code| code.class != 5),
        code => code / 100 != 5,
    }
}

/// Subject and detail of the enhanced code; zeros, "other or undefined", without one.
fn about(said: &Diagnostic) -> (u16, u16) {
    said.enhanced.map_or((0, 0), |code| (code.subject, code.detail))
}

fn before_login(said: &Diagnostic) -> Finding {
    if is_transient(said) { RECONNECT } else { BARRED }
}

fn login(said: &Diagnostic) -> Finding {
    match said.code {
        421 => RECONNECT,
        _ if is_transient(said) => TROUBLE,
        500 | 502 | 504 => NO_LOGINS,
        538 => NO_TLS,
        _ if about(said) == (7, 11) => NO_TLS,
        _ => LOGIN,
    }
}

fn transient(phase: Phase, said: &Diagnostic) -> Finding {
    match (said.code, about(said)) {
        (421, _) => RECONNECT,
        (_, (2, 2)) if phase != Phase::Mail => FULL,
        (_, (5, 3)) if phase == Phase::Rcpt => SPLIT,
        // Mail system full, not accepting: the next hop has trouble of its own (RFC 3463 §3.4).
        (_, (3, 1 | 2)) => TROUBLE,
        _ if matches!(phase, Phase::Rcpt | Phase::Ndr) => RECIPIENT_LATER,
        _ => MESSAGE_LATER,
    }
}

fn mail(said: &Diagnostic) -> Finding {
    match (said.code, about(said)) {
        (_, (7, 8)) => LOGIN,
        (530, _) => LOGIN,
        (503, _) => RECONNECT,
        (552, _) | (_, (3, 4) | (2, 3)) => TOO_LARGE,
        (_, (3, 1 | 2)) => BARRED,
        (_, (7, 10 | 11)) => NO_TLS,
        (550 | 551 | 553 | 554, _) | (_, (1, 7 | 8) | (7, _)) => AUTHOR,
        _ => MESSAGE,
    }
}

fn rcpt(said: &Diagnostic) -> Finding {
    match (said.code, about(said)) {
        (530, _) | (_, (7, 8)) => LOGIN,
        (503, _) => RECONNECT,
        (_, (1, 7 | 8)) => AUTHOR,
        (_, (1, 1..=6 | 10) | (2, 1)) => UNKNOWN,
        (_, (2, 2)) => FULL,
        (_, (5, 3)) => SPLIT,
        (_, (3, 1 | 2)) => BARRED,
        (_, (7, 10 | 11)) => NO_TLS,
        _ => RECIPIENT,
    }
}

fn data(said: &Diagnostic) -> Finding {
    match (said.code, about(said)) {
        (530, _) | (_, (7, 8)) => LOGIN,
        (503, _) => RECONNECT,
        (_, (1, 7 | 8)) => AUTHOR,
        (_, (1, 1..=6 | 10) | (2, 1)) => UNKNOWN,
        (_, (2, 2)) => FULL,
        (552, _) | (_, (3, 4) | (2, 3)) => TOO_LARGE,
        (_, (3, 1 | 2)) => BARRED,
        (_, (6 | 7, _)) => CONTENT,
        _ => MESSAGE,
    }
}

/// HTTP status codes (RFC 9110 §15, RFC 6585).
fn api(status: u16) -> Finding {
    match status {
        401..=403 => LOGIN,
        413 => TOO_LARGE,
        429 => TOO_FAST,
        408 | 425 => TROUBLE,
        400..500 => MESSAGE,
        _ => TROUBLE,
    }
}

fn oauth(status: u16) -> Finding {
    match status {
        408 | 425 | 429 => TROUBLE,
        400..500 => LOGIN,
        _ => TROUBLE,
    }
}
