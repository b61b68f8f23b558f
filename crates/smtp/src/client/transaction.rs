//! One transaction: its commands, and what is known of its recipients so far.

use super::{BeginError, Capabilities, SessionError, Stage, TransactionResult, Verdict};
use crate::command::{NotifyParameter, to_xtext};
use crate::reply::Reply;
use crate::{ForwardPath, ReversePath};
use bytes::BytesMut;
use std::fmt::Write as _;

/// What is handed over: the envelope, and what must be known of the message.
#[derive(Clone, Copy, Debug)]
pub struct Transaction<'a> {
    /// For MAIL.
    pub reverse_path: &'a ReversePath,
    /// For RCPT, in this order; results come in the same order.
    pub recipients: &'a [Recipient<'a>],
    /// The message's size in bytes, without dot-stuffing (RFC 1870 §3).
    pub size: u64,
    /// The message has bytes over 127.
    pub eight_bit: bool,
    /// SMTPUTF8 was asked for by the submitter or is needed by a header field. Addresses need not be considered.
    pub smtputf8: bool,
    /// `RET=` (RFC 3461): true is FULL, false is HDRS.
    pub ret_full: Option<bool>,
    /// `ENVID=` (RFC 3461), decoded.
    pub envid: Option<&'a str>,
}

/// One recipient of a transaction.
#[derive(Clone, Copy, Debug)]
pub struct Recipient<'a> {
    /// For RCPT.
    pub path: &'a ForwardPath,
    /// `NOTIFY=` (RFC 3461).
    pub notify: Option<NotifyParameter>,
    /// `ORCPT=` (RFC 3461) as `type;address`, decoded.
    pub orcpt: Option<&'a str>,
}

impl<'a> Recipient<'a> {
    /// A recipient without wishes about reports.
    #[must_use]
    pub fn new(path: &'a ForwardPath) -> Self {
        Self { path, notify: None, orcpt: None }
    }
}

impl Transaction<'_> {
    /// True if a next hop without SMTPUTF8 cannot take it.
    pub(super) fn needs_smtputf8(&self) -> bool {
        let ascii = |path: &Recipient<'_>| path.path.mailbox().is_ascii();
        self.smtputf8
            || self.reverse_path.mailbox().is_some_and(|mailbox| !mailbox.is_ascii())
            || !self.recipients.iter().all(ascii)
    }

    /// Whether a next hop with these capabilities can take it.
    pub(super) fn check(&self, offered: &Capabilities) -> Result<(), BeginError> {
        if self.recipients.is_empty() {
            return Err(BeginError::NoRecipients);
        }
        if let Some(limit) = offered.max_size.filter(|limit| self.size > *limit) {
            return Err(BeginError::TooLarge(limit));
        }
        if self.eight_bit && !offered.eight_bit_mime {
            return Err(BeginError::EightBit);
        }
        if self.needs_smtputf8() && !offered.smtputf8 {
            return Err(BeginError::SmtpUtf8);
        }
        Ok(())
    }

    pub(super) fn write_mail(&self, offered: &Capabilities, out: &mut BytesMut) {
        put(out, format_args!("MAIL FROM:<{}>", self.reverse_path));
        if offered.size {
            put(out, format_args!(" SIZE={}", self.size));
        }
        if self.eight_bit {
            put(out, format_args!(" BODY=8BITMIME"));
        }
        if self.needs_smtputf8() {
            put(out, format_args!(" SMTPUTF8"));
        }
        if offered.dsn {
            if let Some(full) = self.ret_full {
                put(out, format_args!(" RET={}", if full { "FULL" } else { "HDRS" }));
            }
            if let Some(envid) = self.envid.filter(|envid| envid.is_ascii() && !envid.is_empty()) {
                put(out, format_args!(" ENVID={}", to_xtext(envid)));
            }
        }
        out.extend_from_slice(b"\r\n");
    }

    pub(super) fn write_rcpt(&self, recipient: &Recipient<'_>, offered: &Capabilities, out: &mut BytesMut) {
        put(out, format_args!("RCPT TO:<{}>", recipient.path));
        if offered.dsn {
            if let Some(notify) = recipient.notify {
                put(out, format_args!(" NOTIFY={}", notify_words(notify)));
            }
            // UTF-8 may stand in ORCPT only where SMTPUTF8 is in force (RFC 6533 §3).
            if let Some(orcpt) = recipient.orcpt.filter(|orcpt| orcpt.is_ascii() || self.needs_smtputf8()) {
                put(out, format_args!(" ORCPT={}", to_xtext(orcpt)));
            }
        }
        out.extend_from_slice(b"\r\n");
    }
}

fn notify_words(notify: NotifyParameter) -> String {
    let chosen = [(notify.success, "SUCCESS"), (notify.failure, "FAILURE"), (notify.delay, "DELAY")];
    let words: Vec<_> = chosen.iter().filter(|(wanted, _)| *wanted).map(|(_, word)| *word).collect();
    if words.is_empty() { "NEVER".to_owned() } else { words.join(",") }
}

pub(super) fn put(out: &mut BytesMut, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a buffer in memory grows");
}

/// What is known of a transaction that is under way.
#[derive(Debug)]
pub(super) struct Open {
    /// `None`: accepted so far, or not yet asked.
    verdicts: Vec<Option<Verdict>>,
    undecided: usize,
    /// MAIL was accepted: the next hop has a transaction open.
    pub(super) mail_accepted: bool,
    pub(super) dot_sent: bool,
}

impl Open {
    pub(super) fn new(recipients: usize) -> Self {
        Self { verdicts: vec![None; recipients], undecided: recipients, mail_accepted: false, dot_sent: false }
    }

    /// Every recipient has its verdict, so there is nobody to send the message to.
    pub(super) fn is_decided(&self) -> bool {
        self.undecided == 0
    }

    pub(super) fn refuse_one(&mut self, recipient: usize, reply: Reply) {
        if let Some(verdict @ None) = self.verdicts.get_mut(recipient) {
            *verdict = Some(Verdict::Refused(Stage::Rcpt, reply));
            self.undecided -= 1;
        }
    }

    /// The verdict for all who have none yet.
    pub(super) fn decide(&mut self, verdict: &Verdict) {
        for undecided in self.verdicts.iter_mut().filter(|verdict| verdict.is_none()) {
            *undecided = Some(verdict.clone());
        }
        self.undecided = 0;
    }

    /// The session ended.
    pub(super) fn end(mut self, error: &SessionError) -> TransactionResult {
        let verdict = match self.dot_sent {
            true => Verdict::Uncertain(error.clone()),
            false => Verdict::NotSent(error.clone()),
        };
        self.decide(&verdict);
        self.into_result()
    }

    pub(super) fn into_result(self) -> TransactionResult {
        TransactionResult { verdicts: self.verdicts.into_iter().flatten().collect() }
    }
}
