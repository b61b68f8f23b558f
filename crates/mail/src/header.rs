//! The header section of a submitted message: its fields, who wrote it, and what it wishes.
//!
//! Who wrote it is read strictly, because it decides who may send as whom: what cannot be read
//! exactly is refused, never guessed. All other fields pass as they are.

mod address_list;
mod control;
mod encoded_word;
mod wishes;

pub use address_list::AddressListError;
pub use control::{CONTROL_FIELDS, is_control};
pub use wishes::{MAX_TAGS, WishError, Wishes, idempotency_key, tag};

use memchr::{memchr, memchr2};
use smtp::{Mailbox, is_unseen};

/// Longest header section of a submission, in bytes.
pub const MAX_HEADER: usize = 256 * 1024;
/// Most fields of a submission.
pub const MAX_FIELDS: usize = 1000;
/// Most `Received` fields: more is a loop (RFC 5321 §6.3).
pub const MAX_RECEIVED: usize = 50;
/// Room for the lines that the gateway adds in front.
const ADDED: (usize, usize) = (8, 8 * 1024);
/// Longest text shown in lists, in characters.
const MAX_SHOWN: usize = 256;

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
    /// A line of white space: some readers take it for the end of the header, others do not.
    #[error("line {0} of the header holds nothing but white space")]
    Blank(usize),
    /// A bare CR, a bare LF or a NUL.
    #[error("line {0} of the header holds a bare CR, a bare LF or a NUL")]
    OddBytes(usize),
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

/// Where what follows the header section begins, behind the blank line; `None` as long as that has not come.
/// The first `looked_at` bytes have been looked at before.
#[must_use]
pub fn blank_line(message: &[u8], looked_at: usize) -> Option<usize> {
    if message.starts_with(b"\r\n") {
        return Some(2);
    }
    let from = looked_at.saturating_sub(3);
    memchr::memmem::find(message.get(from..)?, b"\r\n\r\n").map(|at| from + at + 4)
}

impl<'a> Header<'a> {
    /// Finds the fields. A message without a blank line has no body.
    ///
    /// # Errors
    /// A line that is no field, odd bytes, or too much of everything.
    pub fn parse(message: &'a [u8]) -> Result<Self, HeaderError> {
        Self::within(message, MAX_FIELDS, MAX_HEADER)
    }

    /// The fields of a stored message, which has the gateway's own lines in front.
    pub fn stored(message: &'a [u8]) -> Result<Self, HeaderError> {
        Self::within(message, MAX_FIELDS + ADDED.0, MAX_HEADER + ADDED.1)
    }

    fn within(message: &'a [u8], most_fields: usize, most_bytes: usize) -> Result<Self, HeaderError> {
        let mut fields: Vec<Field<'a>> = Vec::with_capacity(16);
        let (mut at, mut number, mut value_at) = (0, 0, 0);
        while at < message.len() {
            let end = memchr(b'\n', &message[at..]).map_or(message.len(), |found| at + found + 1);
            number += 1;
            let line = without_line_end(&message[at..end]).ok_or(HeaderError::OddBytes(number))?;
            let Some(first) = line.first() else {
                return Ok(Self { fields, end: at, has_body: true });
            };
            if end > most_bytes {
                return Err(HeaderError::TooLong);
            }
            if matches!(first, b' ' | b'\t') {
                if line.iter().all(|byte| *byte <= b' ' || *byte == 0x7f) {
                    return Err(HeaderError::Blank(number));
                }
                let field = fields.last_mut().ok_or(HeaderError::Line(number))?;
                field.value = &message[value_at..at + line.len()];
                field.end = end;
            } else {
                if fields.len() == most_fields {
                    return Err(HeaderError::TooLong);
                }
                let (name, value) = name_and_value(line).ok_or(HeaderError::Line(number))?;
                value_at = at + line.len() - value.len();
                fields.push(Field { name, value, start: at, end });
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

    /// Whom To, Cc and Bcc name, in this order, the members of groups included.
    ///
    /// # Errors
    /// A field that cannot be read, named with the reason.
    pub fn destinations(&self) -> Result<Vec<Mailbox>, HeaderError> {
        let mut found = Vec::new();
        for name in ["To", "Cc", "Bcc"] {
            for field in self.named(name) {
                // An empty Bcc field says that there was one.
                if field.value.iter().any(|byte| !byte.is_ascii_whitespace()) {
                    let members = address_list::members(field.value);
                    found.extend(members.map_err(|problem| HeaderError::Author { field: name, problem })?);
                }
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

    /// The subject as replies repeat it: decoded, and without what no eye sees, which is dropped from replies too.
    #[must_use]
    pub fn subject_as_repeated(&self) -> String {
        let is_kept = |c: &char| *c == '\t' || !is_unseen(*c);
        self.named("Subject").next().map(|field| decoded(field).chars().filter(is_kept).collect()).unwrap_or_default()
    }

    /// The From field for lists: decoded, on one line, at most 256 characters.
    #[must_use]
    pub fn from_line(&self) -> String {
        self.named("From").next().map(for_list).unwrap_or_default()
    }

    /// The Message-ID without its brackets, at most 512 characters.
    #[must_use]
    pub fn message_id(&self) -> Option<String> {
        let value = self.named("Message-ID").next()?.unfolded();
        let inner = value.split_once('<').map_or(value.as_str(), |(_, inner)| inner.split('>').next().unwrap_or_default());
        let id: String = inner.chars().filter(|c| !is_unseen(*c) && !c.is_whitespace()).take(512).collect();
        (!id.is_empty()).then_some(id)
    }
}

/// The authors of a stored message, which has the gateway's own lines in front.
///
/// # Errors
/// As [`Header::parse`] and [`Header::authors`].
pub fn authors_of(message: &[u8]) -> Result<Authors, HeaderError> {
    Header::stored(message)?.authors()
}

/// The line without its CRLF, or `None` where it holds a bare CR, a bare LF or a NUL.
fn without_line_end(line: &[u8]) -> Option<&[u8]> {
    let line = match line {
        [line @ .., b'\r', b'\n'] => line,
        [.., b'\n'] => return None,
        unfinished => unfinished,
    };
    memchr2(b'\r', 0, line).is_none().then_some(line)
}

fn name_and_value(line: &[u8]) -> Option<(&str, &[u8])> {
    let colon = memchr(b':', line)?;
    let name = std::str::from_utf8(&line[..colon]).ok()?;
    // White space before the colon is obsolete syntax (RFC 5322 §4.5): the field counts under its name.
    let name = name.trim_end_matches([' ', '\t']);
    let valid = !name.is_empty() && name.bytes().all(|byte| (33..=126).contains(&byte));
    valid.then_some((name, &line[colon + 1..]))
}

fn mailboxes(field: &'static str, value: &[u8]) -> Result<Vec<Mailbox>, HeaderError> {
    address_list::mailboxes(value).map_err(|problem| HeaderError::Author { field, problem })
}

fn one(field: &'static str, value: &[u8]) -> Result<Mailbox, HeaderError> {
    let mut all = mailboxes(field, value)?;
    if all.len() > 1 {
        return Err(HeaderError::Author { field, problem: AddressListError::Several });
    }
    all.pop().ok_or(HeaderError::Author { field, problem: AddressListError::Empty })
}

pub(crate) fn has_prefix(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix))
}

/// As much of a name as a reply has room for.
pub(crate) fn shown(name: &str) -> String {
    name.chars().take(64).collect()
}

fn decoded(field: &Field<'_>) -> String {
    // Nobody reads more of a subject than this, however long it is.
    let start = &field.value[..field.value.len().min(8 * 1024)];
    encoded_word::decode(&Field { value: start, ..*field }.unfolded()).into_owned()
}

fn for_list(field: &Field<'_>) -> String {
    decoded(field).chars().map(|c| if is_unseen(c) { ' ' } else { c }).take(MAX_SHOWN).collect()
}

#[cfg(test)]
mod tests;
