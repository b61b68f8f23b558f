//! What next hops say when they do not take a message, in the words of real ones.

use mail::{Diagnostic, Stage};
use smtp::EnhancedCode;

/// What a reply is about, as a postmaster judges it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// This recipient, or this message.
    Message,
    /// The channel as a whole.
    Channel,
}

/// A reply that refuses.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    /// Where in a transaction.
    pub stage: Stage,
    code: u16,
    enhanced: (u8, u16, u16),
    text: &'static str,
    /// What it is about.
    pub about: About,
    provider: Option<&'static str>,
}

impl Refusal {
    /// True for 5xx.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        self.code >= 500
    }

    /// As it is reported.
    #[must_use]
    pub fn said(&self) -> Diagnostic {
        let (class, subject, detail) = self.enhanced;
        Diagnostic {
            code: self.code,
            enhanced: (class > 0).then(|| EnhancedCode::new(class, subject, detail)),
            text: self.text.into(),
        }
    }
}

const fn message(stage: Stage, code: u16, enhanced: (u8, u16, u16), text: &'static str) -> Refusal {
    Refusal { stage, code, enhanced, text, about: About::Message, provider: None }
}

/// Transient ones about a recipient or a message.
pub const LATER: [Refusal; 5] = [
    message(Stage::Rcpt, 450, (4, 2, 0), "mailbox busy, try again"),
    message(Stage::Rcpt, 452, (4, 2, 2), "the recipient's mailbox is over quota"),
    message(Stage::Rcpt, 451, (4, 7, 1), "greylisted, please try again in 300 seconds"),
    message(Stage::Mail, 451, (4, 3, 0), "temporary lookup failure"),
    message(Stage::FinalDot, 451, (4, 3, 0), "queue file write error"),
];

/// Permanent ones about a recipient or a message.
pub const NEVER: [Refusal; 4] = [
    message(Stage::Rcpt, 550, (5, 1, 1), "the email account that you tried to reach does not exist"),
    message(Stage::Rcpt, 550, (5, 2, 1), "the email account that you tried to reach is disabled"),
    message(Stage::FinalDot, 552, (5, 3, 4), "message size exceeds fixed limit"),
    message(Stage::FinalDot, 554, (5, 6, 0), "message rejected: content not acceptable"),
];

const fn channel(provider: &'static str, stage: Stage, code: u16, enhanced: (u8, u16, u16), text: &'static str) -> Refusal {
    Refusal { stage, code, enhanced, text, about: About::Channel, provider: Some(provider) }
}

/// Those about a channel, by who says them.
const CHANNEL: [Refusal; 13] = [
    channel(
        "gmail",
        Stage::Rcpt,
        550,
        (5, 4, 5),
        "Daily user sending limit exceeded. For more information on Gmail sending limits",
    ),
    channel("gmail", Stage::FinalDot, 550, (5, 4, 5), "Daily sending quota exceeded."),
    channel("gmail", Stage::Mail, 530, (5, 7, 0), "Authentication Required."),
    channel(
        "microsoft365",
        Stage::Mail,
        421,
        (4, 4, 2),
        "Message submission rate for this client has exceeded the configured limit",
    ),
    channel("microsoft365", Stage::FinalDot, 554, (5, 2, 0), "STOREDRV.Submission.Exception:SubmissionQuotaExceededException"),
    channel("microsoft365", Stage::FinalDot, 550, (5, 1, 8), "Access denied, bad outbound sender"),
    channel("microsoft365", Stage::Rcpt, 550, (5, 7, 705), "Access denied, tenant has exceeded threshold"),
    channel("amazon_ses", Stage::FinalDot, 454, (0, 0, 0), "Throttling failure: Maximum sending rate exceeded."),
    channel("amazon_ses", Stage::FinalDot, 454, (0, 0, 0), "Throttling failure: Daily message quota exceeded."),
    channel("amazon_ses", Stage::FinalDot, 554, (0, 0, 0), "Sending paused for this account."),
    channel("postfix", Stage::Rcpt, 554, (5, 7, 1), "Relay access denied"),
    channel("postfix", Stage::Mail, 450, (4, 7, 1), "Error: Number messages per hour exceeded"),
    channel("postfix", Stage::Rcpt, 450, (4, 7, 1), "Error: Number messages per hour exceeded"),
];

/// What this provider says about a channel.
pub fn about_channel(provider: Option<&'static str>) -> impl Iterator<Item = Refusal> {
    CHANNEL.into_iter().filter(move |text| text.provider == provider)
}
