//! The message that a report is about: what is said of it, and what is returned of it.

use super::encode::one_line;
use super::{Action, MAX_RETURNED, Part, Report};
use crate::envelope::Ret;
use crate::header::Header;
use memchr::memmem;

/// Longest line of a message, in bytes, without its CRLF (RFC 5322 §2.1.1).
const MAX_LINE: usize = 998;

/// What a report says of the message.
pub(super) struct About {
    /// Decoded, on one line.
    pub subject: String,
    /// The Date field as it was written.
    pub date: String,
    /// Without brackets; `None` when there is none that may stand in a field.
    pub message_id: Option<String>,
}

impl About {
    pub(super) fn of(message: &[u8]) -> Self {
        let Ok(header) = Header::stored(header_of(message)) else {
            return Self { subject: String::new(), date: String::new(), message_id: None };
        };
        let fits = |id: &String| id.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>".contains(&byte));
        Self {
            subject: one_line(&header.subject()),
            date: header.named("Date").next().map(|field| one_line(&field.unfolded())).unwrap_or_default(),
            message_id: header.message_id().filter(fits),
        }
    }
}

/// The header section, without the blank line.
fn header_of(message: &[u8]) -> &[u8] {
    if message.starts_with(b"\r\n") {
        return &[];
    }
    memmem::find(message, b"\r\n\r\n").map_or(message, |end| &message[..end + 2])
}

/// The whole message where RET asks for it and something failed, else its header (RFC 3461 §4.3).
pub(super) fn part(report: &Report<'_>) -> Part {
    let failed = report.recipients.iter().any(|recipient| recipient.action == Action::Failed);
    let (message, header) = (report.message, header_of(report.message));
    let utf8 = !header.is_ascii() && std::str::from_utf8(header).is_ok();
    if failed && report.ret == Some(Ret::Full) && may_be_returned(message) {
        return Part::new(if utf8 { "message/global" } else { "message/rfc822" }, None, message);
    }
    let kind = if utf8 { "message/global-headers" } else { "text/rfc822-headers" };
    Part::new(kind, None, &tamed(header))
}

fn may_be_returned(message: &[u8]) -> bool {
    let lines = || message.split(|byte| *byte == b'\n');
    message.len() <= MAX_RETURNED
        && message.ends_with(b"\r\n")
        && !smtp::data::has_odd_bytes(message)
        && lines().all(|line| line.len() <= MAX_LINE + 1)
}

/// The header with its longest lines cut, and cut itself where it is very long.
fn tamed(header: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(header.len().min(MAX_RETURNED));
    for line in header.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || kept.len() + line.len() > MAX_RETURNED {
            break;
        }
        let mut end = line.len().min(MAX_LINE);
        while end < line.len() && end > 0 && line[end] & 0xc0 == 0x80 {
            end -= 1;
        }
        kept.extend(line[..end].iter().map(|byte| if matches!(byte, 0 | b'\r') { b'?' } else { *byte }));
        kept.extend_from_slice(b"\r\n");
    }
    kept
}
