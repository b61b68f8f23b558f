//! What changes in a submitted message, and nothing else does.
//!
//! Lines are added in front: Received, and Date and Message-ID where missing. Bcc, Resent-Bcc,
//! X-Sendero-* and Idempotency-Key are removed. A missing final CRLF is supplied. Every other byte
//! goes out as it came.

use crate::header::{Authors, Header, MAX_RECEIVED, Wishes, has_prefix};
use crate::id::MessageId;
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
/// # Errors
/// The header cannot be read, names no single author, or asks for what is not granted.
pub fn prepare(submitted: &[u8], stamp: &Stamp<'_>) -> Result<Prepared, Refusal> {
    let header = Header::parse(submitted)?;
    let authors = header.authors()?;
    if header.received() > MAX_RECEIVED {
        return Err(Refusal::TooManyHops);
    }
    if let Some(name) = header.control_field().filter(|_| !stamp.control_fields) {
        return Err(Refusal::ControlField(name.to_owned()));
    }
    let wishes = header.wishes()?;
    let known_id = header.message_id();
    let message_id = known_id.unwrap_or_else(|| format!("{}@{}", stamp.id, stamp.hostname));
    let added = added_lines(&header, stamp, &message_id);
    let bytes = assemble(submitted, &header, &added);
    Ok(Prepared {
        eight_bit: !submitted.is_ascii(),
        utf8_header: !submitted[..header.end].is_ascii(),
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
    let helo = if stamp.helo.is_empty() { "local" } else { stamp.helo };
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

fn assemble(submitted: &[u8], header: &Header<'_>, added: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(added.len() + submitted.len() + 4);
    bytes.extend_from_slice(added.as_bytes());
    let mut kept_from = 0;
    for field in header.fields.iter().filter(|field| is_removed(field.name)) {
        bytes.extend_from_slice(&submitted[kept_from..field.start]);
        kept_from = field.end;
    }
    bytes.extend_from_slice(&submitted[kept_from..]);
    if !bytes.ends_with(b"\r\n") {
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn stamp() -> Stamp<'static> {
        Stamp {
            at: Timestamp(1_795_593_600_000),
            id: MessageId::new(Timestamp(1_795_593_600_000), [7; 10]),
            hostname: "mx.example",
            helo: "laptop",
            peer: None,
            protocol: "ESMTPSA",
            recipient: Some("luis@example.org"),
            control_fields: false,
        }
    }

    fn prepared(message: &str) -> String {
        String::from_utf8(prepare(message.as_bytes(), &stamp()).unwrap().bytes).unwrap()
    }

    const RECEIVED: &str = "Received: from laptop\r\n\tby mx.example (Sendero) with ESMTPSA id msg_06gh1j9xg01se0e1r70w3gt71q\r\n\tfor <luis@example.org>;\r\n\tWed, 25 Nov 2026 08:00:00 +0000\r\n";

    fn without_id(text: &str) -> String {
        let id = stamp().id.to_string();
        text.replace(&id, "ID").replace("msg_06gh1j9xg01se0e1r70w3gt71q", "ID")
    }

    #[test]
    fn lines_are_added_in_front_where_they_are_missing() {
        let whole = "From: ana@example.com\r\nDate: x\r\nMessage-ID: <1@example.com>\r\n\r\nhi\r\n";
        assert_eq!(without_id(&prepared(whole)), without_id(&format!("{RECEIVED}{whole}")));
        let bare = "From: ana@example.com\r\n\r\nhi\r\n";
        let expected = format!("{RECEIVED}Date: Wed, 25 Nov 2026 08:00:00 +0000\r\nMessage-ID: <ID@mx.example>\r\n{bare}");
        assert_eq!(without_id(&prepared(bare)), without_id(&expected));
    }

    #[test]
    fn blind_copies_and_our_own_fields_never_leave() {
        let message = "Bcc: eva@example.com,\r\n joe@example.com\r\nFrom: ana@example.com\r\nx-sendero-tag: a=b\r\nBCC : x@example.com\r\nSubject: s\r\nResent-Bcc: y@example.com\r\nIdempotency-Key: k\r\n\r\nBcc: in the body stays\r\n";
        let bytes = prepared(message);
        assert!(bytes.ends_with("From: ana@example.com\r\nSubject: s\r\n\r\nBcc: in the body stays\r\n"), "{bytes}");
        assert_eq!(bytes.matches("Bcc").count(), 1);
    }

    #[test]
    fn a_missing_final_line_end_is_supplied() {
        assert!(prepared("From: ana@example.com\r\n\r\nno end").ends_with("\r\n\r\nno end\r\n"));
        assert!(prepared("From: ana@example.com\r\n").ends_with("From: ana@example.com\r\n"));
        assert!(prepared("From: ana@example.com").ends_with("From: ana@example.com\r\n"));
    }

    #[test]
    fn loops_and_orders_to_a_provider_are_refused() {
        let looping = "Received: x\r\n".repeat(51) + "From: ana@example.com\r\n\r\n";
        assert_eq!(prepare(looping.as_bytes(), &stamp()).unwrap_err(), Refusal::TooManyHops);
        let order = "X-SMTPAPI: {\"to\":[\"all@example.com\"]}\r\nFrom: ana@example.com\r\n\r\n";
        assert!(matches!(prepare(order.as_bytes(), &stamp()).unwrap_err(), Refusal::ControlField(name) if name == "X-SMTPAPI"));
    }

    proptest! {
        #[test]
        fn nothing_but_the_listed_fields_changes(
            fields in prop::collection::vec("(Subject|To|Bcc|X-Sendero-Tag|X-Odd|Date|Resent-Bcc): [ -~]{0,20}(\r\n [!-~]{1,10})?", 0..8),
            body in "[ -~\r\n]{0,60}",
        ) {
            let body = body.replace(['\r', '\n'], "\r\n");
            let mut message = String::from("From: ana@example.com\r\n");
            let mut kept = message.clone();
            for field in &fields {
                message.push_str(&format!("{field}\r\n"));
                if !is_removed(field.split(':').next().unwrap()) {
                    kept.push_str(&format!("{field}\r\n"));
                }
            }
            let rest = format!("\r\n{body}");
            let end = if rest.ends_with("\r\n") { "" } else { "\r\n" };
            if let Ok(prepared) = prepare(format!("{message}{rest}").as_bytes(), &stamp()) {
                let text = String::from_utf8(prepared.bytes).unwrap();
                let expected = format!("{kept}{rest}{end}");
                prop_assert!(text.ends_with(&expected), "{text:?} / {expected:?}");
                let added = &text[..text.len() - expected.len()];
                prop_assert!(added.starts_with("Received: from laptop\r\n"));
                prop_assert!(added.lines().count() <= 6);
            }
        }
    }
}
