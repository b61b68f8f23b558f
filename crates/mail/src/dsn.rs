//! Delivery status notifications: the report that a submitter gets about their message (RFC 3464, RFC 3461).
//!
//! A report has three parts: what happened in plain words, the same for machines, and the message it is
//! about. All words of others (replies, addresses, the message's header) are put on one line, or folded,
//! before they are written: none of them can end a field or a part. What a report is sent by, and whether
//! it is stored, is decided elsewhere.

mod encode;
mod original;
mod status;
#[cfg(test)]
mod tests;
mod words;

use crate::envelope::{Recipient, Ret};
use crate::outcome::Diagnostic;
use crate::time::Timestamp;
use smtp::{EnhancedCode, Mailbox};

/// The longest message that is returned whole, in bytes; of a longer one its header is returned.
pub const MAX_RETURNED: usize = 64 * 1024;
/// The longest report, in bytes.
pub const MAX_REPORT: usize = 128 * 1024;
/// In a report that would be longer, the longest words of a next hop, in characters.
const BRIEF: usize = 120;

/// What happened to a recipient (RFC 3464 §2.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// It was given up.
    Failed,
    /// It has not been sent yet, and is tried further.
    Delayed,
    /// It is where it was to be.
    Delivered,
    /// A next hop took it that will not report about it.
    Relayed,
    /// A next hop took it for several addresses.
    Expanded,
}

impl Action {
    /// The word of the field.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Delayed => "delayed",
            Self::Delivered => "delivered",
            Self::Relayed => "relayed",
            Self::Expanded => "expanded",
        }
    }
}

/// Whether a report of this is wanted for the recipient (RFC 3461 §4.1). Without `NOTIFY`, failures and
/// delays are reported, successes are not. Whether there is anybody to tell, the reverse-path says.
#[must_use]
pub fn wanted(recipient: &Recipient, event: Action) -> bool {
    let notify = recipient.notify;
    match event {
        Action::Failed => notify.is_none_or(|notify| notify.failure),
        Action::Delayed => notify.is_none_or(|notify| notify.delay),
        Action::Delivered | Action::Relayed | Action::Expanded => notify.is_some_and(|notify| notify.success),
    }
}

/// What happened to one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipientReport<'a> {
    /// The address that was asked for, with its `ORCPT`.
    pub recipient: &'a Recipient,
    /// What happened.
    pub action: Action,
    /// RFC 3463; its class should agree with the action.
    pub status: EnhancedCode,
    /// Whom we spoke to: `mx.example.com`, or its address. `None` when there was nobody.
    pub remote_mta: Option<&'a str>,
    /// The next hop's words, or ours (code 0).
    pub said: Option<&'a Diagnostic>,
    /// The last attempt.
    pub last_attempt: Option<Timestamp>,
    /// For `Delayed`: until when it is tried.
    pub retry_until: Option<Timestamp>,
    /// The address is on the list of addresses that are not written to: sending again is in vain.
    pub suppressed: bool,
}

/// Everything a report is made of.
#[derive(Clone, Debug)]
pub struct Report<'a> {
    /// Our name.
    pub hostname: &'a str,
    /// Who writes it.
    pub from: &'a Mailbox,
    /// Who is told: the reverse-path of the message.
    pub to: &'a Mailbox,
    /// Now.
    pub at: Timestamp,
    /// Its own Message-ID, without brackets.
    pub message_id: &'a str,
    /// When the message was accepted.
    pub arrival: Timestamp,
    /// `ENVID`, decoded.
    pub envid: Option<&'a str>,
    /// `RET`.
    pub ret: Option<Ret>,
    /// The id under which people find the message here.
    pub queue_id: &'a str,
    /// The message, as it was handed over.
    pub message: &'a [u8],
    /// What happened, at least one.
    pub recipients: &'a [RecipientReport<'a>],
    /// What the way that it leaves by takes, in bytes.
    pub most_bytes: u64,
}

/// A report, ready to be sent with the reverse-path `<>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dsn {
    /// The bytes: lines end with CRLF and have at most 998 bytes.
    pub bytes: Vec<u8>,
    /// For lists: the subject, decoded.
    pub subject: String,
    /// For lists: the From field.
    pub from_line: String,
    /// It has bytes above 127: the next hop must offer 8BITMIME.
    pub eight_bit: bool,
    /// Its header has UTF-8: the next hop must offer SMTPUTF8.
    pub utf8_header: bool,
}

/// One part of a report, header and all.
struct Part {
    bytes: Vec<u8>,
}

impl Part {
    /// A part of this type. The content must end with CRLF.
    fn new(kind: &str, encoding: Option<&str>, content: &[u8]) -> Self {
        let encoding = encoding.unwrap_or(if content.is_ascii() { "7bit" } else { "8bit" });
        let mut bytes = format!("Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n").into_bytes();
        bytes.extend_from_slice(content);
        Self { bytes }
    }
}

/// How much a report says.
#[derive(Clone, Copy)]
struct Extent {
    /// It returns the message, or its header.
    returns: bool,
    /// So many recipients are only counted.
    unnamed: usize,
}

/// The beginning of long words.
fn brief(said: &Diagnostic) -> Diagnostic {
    let text = match said.text.char_indices().nth(BRIEF) {
        Some((end, _)) => format!("{} ...", &said.text[..end]),
        None => said.text.clone(),
    };
    Diagnostic { text, ..said.clone() }
}

/// A cut address would be another one, so a long `ORCPT` is left out.
fn without_long_orcpt(recipient: &Recipient) -> Recipient {
    let orcpt = recipient.orcpt.clone().filter(|orcpt| orcpt.len() <= BRIEF);
    Recipient { orcpt, ..recipient.clone() }
}

impl Report<'_> {
    /// Writes the report, in no more than [`MAX_REPORT`] and `most_bytes` where that can be.
    ///
    /// Where all of it would be longer, the header is returned instead of the message; where that is not enough, nothing
    /// is, words are cut, and of the recipients as many are named as there is room for; the others are counted.
    #[must_use]
    pub fn write(&self) -> Dsn {
        for ret in [self.ret, Some(Ret::Headers)] {
            let dsn = Report { ret, ..self.clone() }.written(Extent { returns: true, unnamed: 0 });
            if self.has_room(&dsn) {
                return dsn;
            }
        }
        let words: Vec<Option<Diagnostic>> = self.recipients.iter().map(|one| one.said.map(brief)).collect();
        let addresses: Vec<Recipient> = self.recipients.iter().map(|one| without_long_orcpt(one.recipient)).collect();
        let each = self.recipients.iter().zip(&words).zip(&addresses);
        let named: Vec<RecipientReport<'_>> =
            each.map(|((one, said), recipient)| RecipientReport { recipient, said: said.as_ref(), ..one.clone() }).collect();
        let mut count = named.len();
        loop {
            let extent = Extent { returns: false, unnamed: named.len() - count };
            let dsn = Report { recipients: &named[..count], ..self.clone() }.written(extent);
            if count <= 1 || self.has_room(&dsn) {
                return dsn;
            }
            count /= 2;
        }
    }

    fn has_room(&self, dsn: &Dsn) -> bool {
        dsn.bytes.len() <= MAX_REPORT && dsn.bytes.len() as u64 <= self.most_bytes
    }

    fn written(&self, extent: Extent) -> Dsn {
        let about = original::About::of(self.message);
        let mut parts = vec![words::part(self, &about, extent.unnamed), status::part(self)];
        if extent.returns {
            parts.push(original::part(self));
        }
        let boundary = boundary(self.message_id, &parts);
        let subject = words::subject(self, &about);
        let from_line = format!("Mail delivery reports <{}>", self.from);
        let mut bytes = self.header(&about, &subject, &from_line, &boundary, &parts).into_bytes();
        let utf8_header = !bytes.is_ascii();
        for part in &parts {
            bytes.extend_from_slice(format!("--{boundary}\r\n").as_bytes());
            bytes.extend_from_slice(&part.bytes);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
        Dsn { eight_bit: !bytes.is_ascii(), utf8_header, subject, from_line, bytes }
    }

    fn header(&self, about: &original::About, subject: &str, from_line: &str, boundary: &str, parts: &[Part]) -> String {
        let mut header = format!("Date: {}\r\nFrom: {from_line}\r\nTo: <{}>\r\n", self.at.to_rfc5322(), self.to);
        header.push_str(&format!("Subject: {}\r\n", encode::header_text(subject)));
        header.push_str(&format!("Message-ID: <{}>\r\n", self.message_id));
        if let Some(original) = &about.message_id {
            header.push_str(&format!("In-Reply-To: <{original}>\r\nReferences: <{original}>\r\n"));
        }
        header.push_str("Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n");
        header.push_str(&format!("Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"{boundary}\"\r\n"));
        if parts.iter().any(|part| !part.bytes.is_ascii()) {
            header.push_str("Content-Transfer-Encoding: 8bit\r\n");
        }
        header.push_str("\r\n");
        header
    }
}

/// A line that stands in none of the parts.
fn boundary(message_id: &str, parts: &[Part]) -> String {
    let plain: String = message_id.chars().filter(char::is_ascii_alphanumeric).take(32).collect();
    let mut number = 0u32;
    loop {
        let boundary = format!("=_report_{number}_{plain}");
        if !parts.iter().any(|part| memchr::memmem::find(&part.bytes, boundary.as_bytes()).is_some()) {
            return boundary;
        }
        number += 1;
    }
}
