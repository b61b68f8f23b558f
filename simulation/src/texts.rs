//! What next hops say when they do not take a message, in the words of real ones.

use mail::{Diagnostic, Stage};
use smtp::EnhancedCode;

/// A reply that refuses.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    /// Where in a transaction.
    pub stage: Stage,
    code: u16,
    enhanced: (u8, u16, u16),
    text: &'static str,
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
        Diagnostic { code: self.code, enhanced: Some(EnhancedCode::new(class, subject, detail)), text: self.text.into() }
    }
}

const fn message(stage: Stage, code: u16, enhanced: (u8, u16, u16), text: &'static str) -> Refusal {
    Refusal { stage, code, enhanced, text }
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
