//! From what came of a transaction on the wire to what it means for its recipients.

use crate::error::stage_of;
use mail::{Cause, Diagnostic, Outcome, Stage};
use smtp::Reply;
use smtp::client::{BeginError, SessionError, Verdict};

/// The first digit decides (RFC 5321 §4.2.1); 421 is never about the message for good.
pub(super) fn outcome(verdict: Verdict, trouble: Option<&str>) -> Outcome {
    match verdict {
        Verdict::Accepted(reply) => Outcome::Sent(Diagnostic::from(&reply)),
        Verdict::Refused(stage, reply) => refused(stage_of(stage), &reply),
        Verdict::NotSent(SessionError::Closing(stage, reply)) => refused(stage_of(stage), &reply),
        Verdict::NotSent(error) => Outcome::Deferred(Cause::Broken(stage_of(error.stage()), in_words(&error, trouble))),
        Verdict::Uncertain(error) => Outcome::Uncertain(Cause::LostAfterData(in_words(&error, trouble))),
    }
}

fn refused(stage: Stage, reply: &Reply) -> Outcome {
    let cause = Cause::Refused(stage, Diagnostic::from(reply));
    if reply.is_permanent() { Outcome::Failed(cause) } else { Outcome::Deferred(cause) }
}

fn in_words(error: &SessionError, trouble: Option<&str>) -> String {
    match (error, trouble) {
        (SessionError::Lost(_), Some(trouble)) => trouble.to_owned(),
        _ => error.to_string(),
    }
}

/// True where a reply stands behind it, so that it stays true whatever becomes of the connection.
pub(super) fn is_said(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Sent(_) | Outcome::Deferred(Cause::Refused(..)) | Outcome::Failed(Cause::Refused(..)) => true,
        Outcome::Deferred(_) | Outcome::Failed(_) | Outcome::Captured | Outcome::Uncertain(_) | Outcome::Untried => false,
    }
}

/// True if the next hop closed an idle session before it had answered anything: it was told of the
/// sender at most, and the message deserves another connection rather than a mark.
pub(super) fn is_stale(verdict: &Verdict) -> bool {
    use smtp::client::Stage::{Mail, Quit};
    match verdict {
        Verdict::NotSent(SessionError::Lost(Mail | Quit) | SessionError::Closing(Mail | Quit, _) | SessionError::Unasked(Mail)) => {
            true
        }
        Verdict::Refused(Mail, reply) => reply.code() == 421,
        Verdict::Accepted(_) | Verdict::Refused(..) | Verdict::NotSent(_) | Verdict::Uncertain(_) => false,
    }
}

/// What is left of a verdict when the final dot had not left whole: nobody can have accepted the message.
pub(super) fn without_the_dot(outcome: Outcome, trouble: Option<&str>) -> Outcome {
    match outcome {
        Outcome::Sent(_) | Outcome::Uncertain(_) => {
            let why = trouble.unwrap_or("the server answered before the message had ended");
            Outcome::Deferred(Cause::Broken(Stage::Body, why.to_owned()))
        }
        other => other,
    }
}

/// The next hop cannot take such a message; nothing of it was sent.
pub(super) fn unsupported(error: BeginError) -> Outcome {
    match error {
        BeginError::NotReady => Outcome::Untried,
        BeginError::NoRecipients | BeginError::TooLarge(_) | BeginError::EightBit | BeginError::SmtpUtf8 => {
            Outcome::Failed(Cause::Unsupported(Diagnostic::own(error.enhanced(), error.to_string())))
        }
    }
}
