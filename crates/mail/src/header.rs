//! The header section of a submitted message: its fields, who wrote it, and what it wishes.
//!
//! Who wrote it is read strictly, because it decides who may send as whom: what cannot be read
//! exactly is refused, never guessed.

mod address_list;

pub use address_list::AddressListError;

use crate::envelope::Lane;
use memchr::{memchr, memmem};
use smtp::Mailbox;
use std::borrow::Cow;

/// Longest header section, in bytes.
pub const MAX_HEADER: usize = 256 * 1024;
/// Most fields.
pub const MAX_FIELDS: usize = 1000;
/// Most `Received` fields: more is a loop (RFC 5321 §6.3).
pub const MAX_RECEIVED: usize = 50;

/// Header fields by which a provider takes orders: they can add recipients or spend another's quota.
/// An entry that ends with `-` stands for all names that begin with it. Lower case.
pub const CONTROL_FIELDS: &[&str] = &[
    "x-smtpapi",
    "x-msys-api",
    "x-mailgun-",
    "x-mc-",
    "x-mandrill-",
    "x-pm-",
    "x-ses-",
    "x-sib-",
    "x-mailin-",
    "x-mj-",
    "x-mailjet-",
    "x-elastic-",
    "x-elasticemail-",
    "x-sparkpost-",
    "x-ahasend-",
    "ahasend-",
    "x-mailersend-",
    "x-tm-",
    "x-report-abuse-to-smtp2go",
    "x-smtp2go-",
    "x-postal-",
    "x-resend-",
    "resend-",
    "x-mtr-",
    "x-ms-exchange-organization-",
    "x-google-",
];

/// One field: its name, and where its lines stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// As written, without trailing space.
    pub name: &'a str,
    /// Behind the colon, folding included, final CRLF excluded.
    pub value: &'a [u8],
    /// Start of the field in the message.
    pub start: usize,
    /// End, behind its last CRLF.
    pub end: usize,
}

impl Field<'_> {
    /// The value on one line, invalid UTF-8 replaced.
    #[must_use]
    pub fn unfolded(&self) -> String {
        let text = String::from_utf8_lossy(self.value);
        text.replace("\r\n", "").trim().to_owned()
    }

    fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// The header section of a message.
#[derive(Clone, Debug)]
pub struct Header<'a> {
    /// The fields in order.
    pub fields: Vec<Field<'a>>,
    /// Where the fields end: the blank line, or the end of the message.
    pub end: usize,
    /// True when a blank line follows.
    pub has_body: bool,
}

/// Why a header section is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// A line that is neither a field nor a continuation.
    #[error("line {0} of the header is neither 'Name: value' nor the continuation of one")]
    Line(usize),
    /// Too many bytes or fields.
    #[error("the header has more than {MAX_FIELDS} fields or {MAX_HEADER} bytes")]
    TooLong,
    /// No From field.
    #[error("the message has no From field")]
    NoFrom,
    /// More than one of a field that may stand once.
    #[error("the message has more than one {0} field")]
    Twice(&'static str),
    /// An author field that cannot be read exactly.
    #[error("the {field} field cannot be read: {problem}")]
    Author {
        /// Which.
        field: &'static str,
        /// What is wrong.
        problem: AddressListError,
    },
    /// Several authors and nobody who sent it (RFC 5322 §3.6.2).
    #[error("a From field with several addresses needs a Sender field")]
    NoSender,
}

/// Everybody who stands as author or sender in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authors {
    /// From, at least one.
    pub from: Vec<Mailbox>,
    /// Sender.
    pub sender: Option<Mailbox>,
    /// Resent-From and Resent-Sender of every block.
    pub resent: Vec<Mailbox>,
}

impl Authors {
    /// Every mailbox that must be the submitter's.
    pub fn all(&self) -> impl Iterator<Item = &Mailbox> {
        self.from.iter().chain(&self.sender).chain(&self.resent)
    }

    /// The first author.
    #[must_use]
    pub fn first(&self) -> &Mailbox {
        &self.from[0]
    }
}

/// What the header asks of the gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// `X-Sendero-Channel`.
    pub channel: Option<String>,
    /// `X-Sendero-Lane`.
    pub lane: Option<Lane>,
    /// `X-Sendero-Tag`, each `name=value` or `name`.
    pub tags: Vec<(String, String)>,
    /// `Idempotency-Key`.
    pub idempotency_key: Option<String>,
}

/// A wish that cannot be granted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WishError {
    /// The value makes no sense.
    #[error("{0} has no valid value; {1}")]
    Value(&'static str, &'static str),
    /// Not in this version.
    #[error("{0} is not in this version")]
    NotInThisVersion(String),
}

impl<'a> Header<'a> {
    /// Finds the fields. Lines end with CRLF, as the wire makes sure.
    ///
    /// # Errors
    /// A line that is no field, or too much of everything.
    pub fn parse(message: &'a [u8]) -> Result<Self, HeaderError> {
        let mut fields: Vec<Field<'a>> = Vec::with_capacity(16);
        let mut at = 0;
        let mut number = 0;
        while at < message.len() {
            let end = memchr(b'\n', &message[at..]).map_or(message.len(), |found| at + found + 1);
            let line = &message[at..end];
            number += 1;
            if line == b"\r\n" || line == b"\n" {
                return Ok(Self { fields, end: at, has_body: true });
            }
            if end > MAX_HEADER || fields.len() > MAX_FIELDS {
                return Err(HeaderError::TooLong);
            }
            if matches!(line[0], b' ' | b'\t') {
                // A line of white space only looks like the end of the header to some readers.
                let blank = line.iter().all(u8::is_ascii_whitespace);
                let field = fields.last_mut().filter(|_| !blank).ok_or(HeaderError::Line(number))?;
                field.end = end;
                let start = end - line.len() - (field.value.len() + line_end(&message[..at]));
                field.value = trim_end(&message[start..end]);
            } else {
                fields.push(field(message, at, end).ok_or(HeaderError::Line(number))?);
            }
            at = end;
        }
        Ok(Self { fields, end: message.len(), has_body: false })
    }

    /// The fields of that name.
    pub fn named(&self, name: &str) -> impl Iterator<Item = &Field<'a>> {
        self.fields.iter().filter(move |field| field.is(name))
    }

    /// True when there is such a field.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.named(name).next().is_some()
    }

    /// The authors, read strictly.
    ///
    /// # Errors
    /// No From or several, a second Sender, an address that cannot be read, several authors without sender.
    pub fn authors(&self) -> Result<Authors, HeaderError> {
        let from = self.only("From")?.ok_or(HeaderError::NoFrom)?;
        let from = mailboxes("From", from.value)?;
        let sender = match self.only("Sender")? {
            None => None,
            Some(field) => Some(one("Sender", field.value)?),
        };
        if from.len() > 1 && sender.is_none() {
            return Err(HeaderError::NoSender);
        }
        let mut resent = Vec::new();
        for field in self.named("Resent-From") {
            resent.extend(mailboxes("Resent-From", field.value)?);
        }
        for field in self.named("Resent-Sender") {
            resent.push(one("Resent-Sender", field.value)?);
        }
        Ok(Authors { from, sender, resent })
    }

    /// Whom To, Cc and Bcc name, in this order, read strictly.
    ///
    /// # Errors
    /// A field that is not exactly a list of addresses; groups have no members here.
    pub fn destinations(&self) -> Result<Vec<Mailbox>, HeaderError> {
        let mut found = Vec::new();
        for name in ["To", "Cc", "Bcc"] {
            for field in self.named(name) {
                found.extend(mailboxes(name, field.value)?);
            }
        }
        Ok(found)
    }

    fn only(&self, name: &'static str) -> Result<Option<&Field<'a>>, HeaderError> {
        let mut found = self.named(name);
        let first = found.next();
        if found.next().is_some() { Err(HeaderError::Twice(name)) } else { Ok(first) }
    }

    /// The first field by which a provider takes orders.
    #[must_use]
    pub fn control_field(&self) -> Option<&str> {
        self.fields.iter().map(|field| field.name).find(|name| is_control(name))
    }

    /// How many servers it has passed.
    #[must_use]
    pub fn received(&self) -> usize {
        self.named("Received").count()
    }

    /// The subject for lists: decoded, on one line, at most 256 characters.
    #[must_use]
    pub fn subject(&self) -> String {
        self.named("Subject").next().map(for_list).unwrap_or_default()
    }

    /// The From field for lists: decoded, on one line, at most 256 characters.
    #[must_use]
    pub fn from_line(&self) -> String {
        self.named("From").next().map(for_list).unwrap_or_default()
    }

    /// The Message-ID without its brackets.
    #[must_use]
    pub fn message_id(&self) -> Option<String> {
        let value = self.named("Message-ID").next()?.unfolded();
        let inner = value.trim_start_matches('<').trim_end_matches('>');
        (!inner.is_empty()).then(|| inner.chars().take(512).collect())
    }

    /// What it asks of the gateway.
    ///
    /// # Errors
    /// A wish that is not understood or not in this version.
    pub fn wishes(&self) -> Result<Wishes, WishError> {
        let mut wishes = Wishes::default();
        for field in &self.fields {
            let is_key = field.is("Idempotency-Key");
            if is_key || has_prefix(field.name, "X-Sendero-") {
                wish(&mut wishes, field)?;
            }
        }
        Ok(wishes)
    }
}

fn wish(wishes: &mut Wishes, field: &Field<'_>) -> Result<(), WishError> {
    let value = field.unfolded();
    match field.name.to_ascii_lowercase().as_str() {
        "idempotency-key" => {
            let key =
                idempotency_key(&value).ok_or(WishError::Value("Idempotency-Key", "write 1 to 255 visible characters, once"))?;
            if wishes.idempotency_key.replace(key).is_some() {
                return Err(WishError::Value("Idempotency-Key", "write it once"));
            }
        }
        "x-sendero-channel" => {
            if value.is_empty() || wishes.channel.replace(value).is_some() {
                return Err(WishError::Value("X-Sendero-Channel", "write the name of one channel"));
            }
        }
        "x-sendero-lane" => {
            wishes.lane = Some(lane(&value).ok_or(WishError::Value("X-Sendero-Lane", "write now, normal or bulk"))?)
        }
        "x-sendero-tag" => {
            let (name, value) = value.split_once('=').unwrap_or((&value, ""));
            if name.is_empty() || name.len() > 64 || value.len() > 256 || wishes.tags.len() >= 10 {
                return Err(WishError::Value("X-Sendero-Tag", "write at most ten, each name=value"));
            }
            wishes.tags.push((name.trim().to_owned(), value.trim().to_owned()));
        }
        _ => return Err(WishError::NotInThisVersion(field.name.to_owned())),
    }
    Ok(())
}

/// A key as the header field or HTTP gives it: bare, or as a quoted string.
#[must_use]
pub fn idempotency_key(value: &str) -> Option<String> {
    let inner = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
    let valid = (1..=255).contains(&inner.len()) && inner.bytes().all(|byte| (0x20..0x7f).contains(&byte) && byte != b'"');
    valid.then(|| inner.to_owned())
}

fn lane(value: &str) -> Option<Lane> {
    match value.to_ascii_lowercase().as_str() {
        "now" => Some(Lane::Now),
        "normal" => Some(Lane::Normal),
        "bulk" => Some(Lane::Bulk),
        _ => None,
    }
}

/// The authors of a stored message.
///
/// # Errors
/// As [`Header::parse`] and [`Header::authors`].
pub fn authors_of(message: &[u8]) -> Result<Authors, HeaderError> {
    Header::parse(message)?.authors()
}

fn field(message: &[u8], start: usize, end: usize) -> Option<Field<'_>> {
    let line = &message[start..end];
    let colon = memchr(b':', line)?;
    let name = std::str::from_utf8(&line[..colon]).ok()?;
    // White space before the colon is obsolete syntax (RFC 5322 §4.5): the field counts under its name.
    let name = name.trim_end_matches([' ', '\t']);
    if name.is_empty() || !name.bytes().all(|byte| (33..=126).contains(&byte)) {
        return None;
    }
    Some(Field { name, value: trim_end(&line[colon + 1..]), start, end })
}

fn trim_end(value: &[u8]) -> &[u8] {
    let value = value.strip_suffix(b"\n").unwrap_or(value);
    value.strip_suffix(b"\r").unwrap_or(value)
}

fn line_end(before: &[u8]) -> usize {
    if before.ends_with(b"\r\n") { 2 } else { usize::from(before.ends_with(b"\n")) }
}

fn mailboxes(field: &'static str, value: &[u8]) -> Result<Vec<Mailbox>, HeaderError> {
    address_list::parse(value).map_err(|problem| HeaderError::Author { field, problem })
}

fn one(field: &'static str, value: &[u8]) -> Result<Mailbox, HeaderError> {
    let mut all = mailboxes(field, value)?;
    if all.len() > 1 {
        return Err(HeaderError::Author { field, problem: AddressListError::Several });
    }
    all.pop().ok_or(HeaderError::Author { field, problem: AddressListError::Empty })
}

/// True for a field by which a provider takes orders.
#[must_use]
pub fn is_control(name: &str) -> bool {
    CONTROL_FIELDS.iter().any(|known| if known.ends_with('-') { has_prefix(name, known) } else { name.eq_ignore_ascii_case(known) })
}

pub(crate) fn has_prefix(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix))
}

fn for_list(field: &Field<'_>) -> String {
    let text = field.unfolded();
    let decoded: Cow<'_, str> =
        if memmem::find(text.as_bytes(), b"=?").is_some() { decode_words(&text).into() } else { text.into() };
    decoded.chars().map(|c| if c.is_control() { ' ' } else { c }).take(256).collect()
}

/// Decodes RFC 2047 encoded words in UTF-8, US-ASCII and Latin-1; leaves others as they are.
fn decode_words(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("=?") {
        let (before, from) = rest.split_at(at);
        match encoded_word(from) {
            Some((decoded, length)) => {
                // White space between two encoded words is not part of the text.
                if !(out.ends_with('\u{0}') && before.trim().is_empty()) {
                    out.push_str(before);
                }
                out = out.replace('\u{0}', "");
                out.push_str(&decoded);
                out.push('\u{0}');
                rest = &from[length..];
            }
            None => {
                out.push_str(before);
                out.push_str("=?");
                rest = &from[2..];
            }
        }
    }
    out.push_str(rest);
    out.replace('\u{0}', "")
}

fn encoded_word(text: &str) -> Option<(String, usize)> {
    let inner = text.strip_prefix("=?")?;
    let mut parts = inner.splitn(3, '?');
    let (charset, encoding, rest) = (parts.next()?, parts.next()?, parts.next()?);
    let end = rest.find("?=")?;
    let payload = &rest[..end];
    if payload.contains(' ') || charset.contains(' ') {
        return None;
    }
    let bytes = match encoding {
        "B" | "b" => base64_bytes(payload)?,
        "Q" | "q" => q_bytes(payload)?,
        _ => return None,
    };
    let charset = charset.split('*').next().unwrap_or_default().to_ascii_lowercase();
    let decoded = match charset.as_str() {
        "utf-8" | "us-ascii" | "utf8" => String::from_utf8_lossy(&bytes).into_owned(),
        "iso-8859-1" | "windows-1252" | "iso-8859-15" => bytes.iter().map(|byte| char::from(*byte)).collect(),
        _ => return None,
    };
    Some((decoded, 2 + charset_length(inner, rest) + end + 2))
}

fn charset_length(inner: &str, rest: &str) -> usize {
    inner.len() - rest.len()
}

fn base64_bytes(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut value, mut bits) = (0u32, 0);
    for c in text.trim_end_matches('=').bytes() {
        let digit = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        value = value << 6 | u32::from(digit);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((value >> bits & 0xff) as u8);
        }
    }
    Some(bytes)
}

fn q_bytes(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match first {
            b'_' => bytes.push(b' '),
            b'=' => {
                let hex = std::str::from_utf8(tail.get(..2)?).ok()?;
                bytes.push(u8::from_str_radix(hex, 16).ok()?);
                rest = &tail[2..];
            }
            other => bytes.push(*other),
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests;
