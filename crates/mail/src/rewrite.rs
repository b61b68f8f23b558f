//! What changes in a submitted message, and nothing else does.
//!
//! Lines are added in front: Received, and Date and Message-ID where missing. Bcc, Resent-Bcc,
//! X-Sendero-* and Idempotency-Key are removed. A missing final CRLF is supplied. Every other byte
//! goes out as it came.

use crate::header::{Authors, Header, MAX_RECEIVED, Wishes, has_prefix, shown};
use crate::id::MessageId;
use crate::lane::{LaneReason, sign_of};
use crate::resolve::Refusal;
use crate::time::Timestamp;
use std::fmt::Write;

/// What the door knows about a submission.
#[derive(Clone, Debug)]
pub struct Stamp<'a> {
    /// Now.
    pub at: Timestamp,
    /// The id it gets.
    pub id: MessageId,
    /// Our name.
    pub hostname: &'a str,
    /// The name given in EHLO; empty when there was none.
    pub helo: &'a str,
    /// The peer's address, where it may be shown: never for somebody who signed in.
    pub peer: Option<&'a str>,
    /// The registered name for `with` (RFC 3848).
    pub protocol: &'a str,
    /// The recipient, when there is exactly one.
    pub recipient: Option<&'a str>,
    /// Control fields of providers may pass: the token says so.
    pub control_fields: bool,
}

/// A message as it will be kept and handed over, and what was read in it.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Who wrote it.
    pub authors: Authors,
    /// What it asks.
    pub wishes: Wishes,
    /// The field by which it shows itself written to many.
    pub bulk_sign: Option<LaneReason>,
    /// For lists.
    pub subject: String,
    /// For lists.
    pub from_line: String,
    /// Without brackets.
    pub message_id: String,
    /// It has bytes above 127: the next hop must offer 8BITMIME.
    pub eight_bit: bool,
    /// Its header has UTF-8: the next hop must offer SMTPUTF8.
    pub utf8_header: bool,
}

/// Reads a submitted message and makes the one that is kept.
///
/// Lines end with CRLF and no NUL is among the bytes: a session has made sure of it, other doors
/// check it before. The header is looked at again, the body is only copied.
///
/// # Errors
/// The header cannot be read, names no single author, or asks for what is not granted.
pub fn prepare(submitted: &[u8], stamp: &Stamp<'_>) -> Result<Prepared, Refusal> {
    let header = Header::parse(submitted)?;
    let authors = header.authors()?;
    if header.received() > MAX_RECEIVED {
        return Err(Refusal::TooManyHops);
    }
    if let Some(name) = header.control_field().filter(|_| !stamp.control_fields) {
        return Err(Refusal::ControlField(shown(name)));
    }
    let wishes = header.wishes()?;
    let message_id = header.message_id().unwrap_or_else(|| format!("{}@{}", stamp.id, stamp.hostname));
    let added = added_lines(&header, stamp, &message_id);
    let (bytes, header_end) = assemble(submitted, &header, &added);
    Ok(Prepared {
        eight_bit: !bytes.is_ascii(),
        utf8_header: !bytes[..header_end].is_ascii(),
        bulk_sign: sign_of(&header),
        subject: header.subject(),
        from_line: header.from_line(),
        bytes,
        authors,
        wishes,
        message_id,
    })
}

/// True for a field that never leaves.
#[must_use]
pub fn is_removed(name: &str) -> bool {
    ["Bcc", "Resent-Bcc", "Idempotency-Key"].iter().any(|removed| name.eq_ignore_ascii_case(removed))
        || has_prefix(name, "X-Sendero-")
}

fn added_lines(header: &Header<'_>, stamp: &Stamp<'_>, message_id: &str) -> String {
    let mut lines = String::with_capacity(320);
    let helo = if is_plain(stamp.helo) { stamp.helo } else { "local" };
    // Writing to a String cannot fail.
    let _ = write!(lines, "Received: from {helo}");
    if let Some(peer) = stamp.peer {
        let _ = write!(lines, " ({peer})");
    }
    let _ = write!(lines, "\r\n\tby {} (Sendero) with {} id {}", stamp.hostname, stamp.protocol, stamp.id);
    if let Some(recipient) = stamp.recipient {
        let _ = write!(lines, "\r\n\tfor <{recipient}>");
    }
    let date = stamp.at.to_rfc5322();
    let _ = write!(lines, ";\r\n\t{date}\r\n");
    if !header.has("Date") {
        let _ = write!(lines, "Date: {date}\r\n");
    }
    if !header.has("Message-ID") {
        let _ = write!(lines, "Message-ID: <{message_id}>\r\n");
    }
    lines
}

/// A name that cannot be mistaken for another part of the Received field.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.len() <= 255 && name.bytes().all(|byte| byte.is_ascii_graphic() && !b"()<>;,\"\\@".contains(&byte))
}

/// The bytes, in one allocation, and where their header ends.
fn assemble(submitted: &[u8], header: &Header<'_>, added: &str) -> (Vec<u8>, usize) {
    let mut bytes = Vec::with_capacity(added.len() + submitted.len() + 2);
    bytes.extend_from_slice(added.as_bytes());
    let mut kept_from = 0;
    for field in header.fields.iter().filter(|field| is_removed(field.name)) {
        bytes.extend_from_slice(&submitted[kept_from..field.start]);
        kept_from = field.end;
    }
    let header_end = bytes.len() + header.end - kept_from;
    bytes.extend_from_slice(&submitted[kept_from..]);
    if !bytes.ends_with(b"\r\n") {
        bytes.extend_from_slice(b"\r\n");
    }
    (bytes, header_end)
}

#[cfg(test)]
mod tests;
