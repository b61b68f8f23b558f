//! A message from flags. The same flags make the same bytes, so that sending again with the same key
//! is the same message: the gateway adds Date and Message-ID.

use aws_lc_rs::digest;
use bytes::Bytes;
use mail_builder::MessageBuilder;
use mail_builder::headers::address::Address;
use mail_builder::headers::content_type::ContentType;
use mail_builder::mime::{BodyPart, MimePart};

/// What a message is made of.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// An address, or `Name <address>`.
    pub from: String,
    /// To.
    pub to: Vec<String>,
    /// Cc.
    pub cc: Vec<String>,
    /// Bcc: read by the gateway and removed there.
    pub bcc: Vec<String>,
    /// The subject.
    pub subject: String,
    /// The text.
    pub text: String,
    /// Files.
    pub attachments: Vec<Attachment>,
}

/// A file that goes along.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The message.
///
/// # Errors
/// An address that is none.
pub fn compose(draft: &Draft) -> Result<Bytes, String> {
    let mut builder = MessageBuilder::new().from(address(&draft.from)?).subject(draft.subject.as_str());
    if !draft.to.is_empty() {
        builder = builder.to(addresses(&draft.to)?);
    }
    if !draft.cc.is_empty() {
        builder = builder.cc(addresses(&draft.cc)?);
    }
    if !draft.bcc.is_empty() {
        builder = builder.bcc(addresses(&draft.bcc)?);
    }
    let text = MimePart::new("text/plain", BodyPart::Text(draft.text.as_str().into()));
    let body = if draft.attachments.is_empty() { text } else { mixed(text, &draft.attachments) };
    let bytes = builder.body(body).write_to_vec().map_err(|problem| problem.to_string())?;
    Ok(without_generated(&with_crlf(&bytes)))
}

fn mixed<'a>(text: MimePart<'a>, attachments: &'a [Attachment]) -> MimePart<'a> {
    let mut hash = digest::Context::new(&digest::SHA256);
    for attachment in attachments {
        hash.update(attachment.name.as_bytes());
        hash.update(&attachment.bytes);
    }
    let boundary: String = hash.finish().as_ref()[..12].iter().map(|byte| format!("{byte:02x}")).collect();
    let files = attachments.iter().map(|file| {
        let part = MimePart::new(media_type(&file.name), BodyPart::Binary(file.bytes.as_slice().into()));
        part.attachment(file.name.as_str())
    });
    let parts = std::iter::once(text).chain(files).collect();
    MimePart::new(ContentType::new("multipart/mixed").attribute("boundary", format!("=_{boundary}")), BodyPart::Multipart(parts))
}

fn media_type(name: &str) -> &'static str {
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).unwrap_or_default();
    match ending.as_str() {
        "txt" | "log" => "text/plain",
        "csv" => "text/csv",
        "html" | "htm" => "text/html",
        "pdf" => "application/pdf",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "json" => "application/json",
        "zip" => "application/zip",
        _ => "application/octet-stream",
    }
}

fn addresses(texts: &[String]) -> Result<Address<'static>, String> {
    texts.iter().map(|text| address(text)).collect::<Result<Vec<_>, _>>().map(Address::new_list)
}

/// `ana@example.com`, or `Ana <ana@example.com>`.
fn address(text: &str) -> Result<Address<'static>, String> {
    let (name, bare) = match text.trim().strip_suffix('>').and_then(|text| text.rsplit_once('<')) {
        Some((name, bare)) => (name.trim().trim_matches('"').to_owned(), bare),
        None => (String::new(), text.trim()),
    };
    let mailbox = smtp::Mailbox::parse(bare).map_err(|problem| format!("'{text}' is no address: {problem}"))?;
    if name.chars().any(char::is_control) {
        return Err(format!("'{}' has control characters", name.escape_debug()));
    }
    Ok(Address::new_address((!name.is_empty()).then_some(name), mailbox.to_string()))
}

/// Without the Date and Message-ID that the builder adds of its own: the gateway knows better ones.
fn without_generated(message: &[u8]) -> Bytes {
    let mut kept = Vec::with_capacity(message.len());
    let mut in_header = true;
    let mut dropping = false;
    for line in message.split_inclusive(|byte| *byte == b'\n') {
        if in_header {
            in_header = line != b"\r\n";
            let is_continuation = line.starts_with(b" ") || line.starts_with(b"\t");
            dropping = if is_continuation { dropping } else { is_generated(line) };
        }
        if !(in_header && dropping) {
            kept.extend_from_slice(line);
        }
    }
    Bytes::from(kept)
}

fn is_generated(line: &[u8]) -> bool {
    let starts = |name: &[u8]| line.len() > name.len() && line[..name.len()].eq_ignore_ascii_case(name);
    starts(b"date:") || starts(b"message-id:")
}

/// The same text with CRLF line ends, as mail has them; files on this system mostly have LF.
#[must_use]
pub fn with_crlf(text: &[u8]) -> Bytes {
    Crlf::default().piece(text)
}

/// The same for a text that comes piece by piece.
#[derive(Default)]
pub struct Crlf {
    before: u8,
}

impl Crlf {
    /// The next piece.
    pub fn piece(&mut self, text: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(text.len() + text.len() / 32 + 2);
        for byte in text {
            if *byte == b'\n' && self.before != b'\r' {
                out.push(b'\r');
            }
            out.push(*byte);
            self.before = *byte;
        }
        Bytes::from(out)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn draft() -> Draft {
        Draft {
            from: "Ana Müller <ana@example.com>".into(),
            to: vec!["luis@example.org".into()],
            cc: vec!["Luis <luis@example.net>".into()],
            bcc: vec!["archive@example.com".into()],
            subject: "Grüße".into(),
            text: "first line\nsecond line\n".into(),
            attachments: vec![Attachment { name: "a.pdf".into(), bytes: vec![0, 1, 2, 255] }],
        }
    }

    #[test]
    fn the_same_draft_makes_the_same_bytes() {
        assert_eq!(compose(&draft()).unwrap(), compose(&draft()).unwrap());
    }

    #[test]
    fn a_composed_message_names_author_and_recipients_and_leaves_date_and_id_to_the_gateway() {
        let message = compose(&draft()).unwrap();
        let header = mail::header::Header::parse(&message).unwrap();
        assert_eq!(header.authors().unwrap().first().to_string(), "ana@example.com");
        let named: Vec<String> = header.destinations().unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(named, ["luis@example.org", "luis@example.net", "archive@example.com"]);
        assert!(!header.has("Date") && !header.has("Message-ID"));
        assert!(!smtp::data::has_odd_bytes(&message));
    }

    #[test]
    fn an_address_cannot_bring_a_header_line_along() {
        for bad in ["ana", "Ana <ana@example.com>\r\nBcc: x@example.com", "A\r\nB <ana@example.com>", ""] {
            assert!(compose(&Draft { from: bad.into(), ..draft() }).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn line_ends_become_those_of_mail_and_right_ones_stay() {
        assert_eq!(&with_crlf(b"a\nb\r\nc\n\n")[..], b"a\r\nb\r\nc\r\n\r\n");
    }
}
