//! Addresses: paths and mailboxes as RFC 5321 §4.1.2 writes them, with the UTF-8 of RFC 6531.

use std::fmt;
use std::hash::{Hash, Hasher};

/// Longest local part, in bytes (RFC 5321 §4.5.3.1.1).
pub const MAX_LOCAL_PART: usize = 64;
/// Longest domain, in bytes (RFC 5321 §4.5.3.1.2).
pub const MAX_DOMAIN: usize = 255;
/// Longest path with its angle brackets, in bytes (RFC 5321 §4.5.3.1.3).
pub const MAX_PATH: usize = 256;

/// Why a text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No `@`.
    #[error("an address has the form name@domain")]
    NoDomain,
    /// The part before the `@` is empty or holds what needs quoting.
    #[error("the part before the @ is not a valid name")]
    LocalPart,
    /// The part after the `@` is no domain name.
    #[error("the part after the @ is not a valid domain name")]
    Domain,
    /// The part in brackets is no address literal.
    #[error("the part in brackets is not an IP address")]
    Literal,
    /// Longer than the protocol allows.
    #[error("the address is too long")]
    TooLong,
    /// A path without its angle brackets, or with something behind them.
    #[error("the address must stand in angle brackets")]
    Brackets,
    /// `<>` where a mailbox is needed.
    #[error("an address is needed here")]
    Empty,
    /// `<Postmaster>` without a domain: there are no mailboxes here.
    #[error("postmaster needs a domain: there are no mailboxes here")]
    BarePostmaster,
}

/// A domain name or an address literal. Compared without regard to ASCII case; printed as given.
#[derive(Clone, Debug)]
pub struct Domain(String);

impl Domain {
    /// Reads a domain name (LDH or U-labels) or `[192.0.2.1]`, `[IPv6:2001:db8::1]`.
    ///
    /// # Errors
    /// Not a domain.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.len() > MAX_DOMAIN {
            return Err(AddressError::TooLong);
        }
        if let Some(literal) = text.strip_prefix('[') {
            let inner = literal.strip_suffix(']').ok_or(AddressError::Literal)?;
            return if is_literal(inner) { Ok(Self(text.to_owned())) } else { Err(AddressError::Literal) };
        }
        if text.is_empty() || !text.split('.').all(is_label) {
            return Err(AddressError::Domain);
        }
        if !text.is_ascii() && a_labels(text).is_none() {
            return Err(AddressError::Domain);
        }
        Ok(Self(text.to_owned()))
    }

    /// As given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Lower case, in A-labels: the form in which domains are compared and looked up.
    #[must_use]
    pub fn to_ascii(&self) -> String {
        if self.0.is_ascii() {
            return self.0.to_ascii_lowercase();
        }
        a_labels(&self.0).expect("parse let no name through that has no A-labels")
    }

    /// True for `[...]`.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        self.0.starts_with('[')
    }
}

impl PartialEq for Domain {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Domain {}

impl Hash for Domain {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for byte in self.0.bytes() {
            state.write_u8(byte.to_ascii_lowercase());
        }
        state.write_u8(0xff);
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The A-labels of a name with U-labels. Refuses what IDNA would turn into characters with a meaning of
/// their own (a full-width `@` or `/`), and labels that are too long once encoded.
fn a_labels(name: &str) -> Option<String> {
    let ascii = idna::domain_to_ascii_cow(name.as_bytes(), idna::AsciiDenyList::STD3).ok()?;
    let fits = ascii.len() <= MAX_DOMAIN && ascii.split('.').all(is_label);
    fits.then(|| ascii.into_owned())
}

fn is_label(label: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' || byte >= 0x80;
    !label.is_empty()
        && label.len() <= 63 * 4
        && label.bytes().all(plain)
        && !label.starts_with('-')
        && !label.ends_with('-')
        && (label.len() <= 63 || !label.is_ascii())
        && !label.chars().any(is_unseen)
}

fn is_literal(inner: &str) -> bool {
    match inner.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => inner[5..].parse::<std::net::Ipv6Addr>().is_ok(),
        _ => inner.parse::<std::net::Ipv4Addr>().is_ok(),
    }
}

/// The part before the `@`. Compared by its meaning: `"ana"` is `ana`; case matters.
#[derive(Clone, Debug)]
pub struct LocalPart {
    written: String,
    value: Option<String>,
}

impl LocalPart {
    /// Reads a dot-string or a quoted string.
    ///
    /// # Errors
    /// Neither.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.len() > MAX_LOCAL_PART {
            return Err(AddressError::TooLong);
        }
        if text.starts_with('"') {
            let value = unquote(text).ok_or(AddressError::LocalPart)?;
            return Ok(Self { written: text.to_owned(), value: Some(value) });
        }
        if is_dot_string(text) { Ok(Self { written: text.to_owned(), value: None }) } else { Err(AddressError::LocalPart) }
    }

    /// What it means, without quotes.
    #[must_use]
    pub fn value(&self) -> &str {
        self.value.as_deref().unwrap_or(&self.written)
    }

    /// As given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.written
    }
}

impl PartialEq for LocalPart {
    fn eq(&self, other: &Self) -> bool {
        self.value() == other.value()
    }
}

impl Eq for LocalPart {}

impl Hash for LocalPart {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.value().hash(state);
    }
}

impl fmt::Display for LocalPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || (!c.is_ascii() && !is_unseen(c))
}

/// Controls, line separators, and what no eye sees, such as what turns the direction of writing (Unicode's categories
/// Cc, Cf, Zl and Zp): they make a list, a log or a terminal show something else than it holds. The two joiners, without
/// which some scripts cannot be written, are not among them.
#[must_use]
pub fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}' | '\u{891}' | '\u{8e2}')
        || matches!(c, '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
        || matches!(c, '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}')
        || matches!(c, '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0001}' | '\u{e0020}'..='\u{e007f}')
}

fn is_dot_string(text: &str) -> bool {
    text.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_atext))
}

fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

fn unquote(text: &str) -> Option<String> {
    let inner = text.strip_prefix('"')?;
    let mut value = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    loop {
        match chars.next()? {
            '"' => return if chars.next().is_none() { Some(value) } else { None },
            '\\' => value.push(chars.next().filter(|c| matches!(c, ' '..='~'))?),
            c if is_unseen(c) => return None,
            c => value.push(c),
        }
    }
}

/// A mailbox: local part and domain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mailbox {
    local_part: LocalPart,
    domain: Domain,
}

impl Mailbox {
    /// Reads `local-part@domain`, without brackets.
    ///
    /// # Errors
    /// Not a mailbox.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.len() > MAX_PATH - 2 {
            return Err(AddressError::TooLong);
        }
        let at = end_of_local_part(text).ok_or(AddressError::NoDomain)?;
        let local_part = LocalPart::parse(&text[..at])?;
        let domain = Domain::parse(&text[at + 1..])?;
        Ok(Self { local_part, domain })
    }

    /// The part before the `@`.
    #[must_use]
    pub fn local_part(&self) -> &LocalPart {
        &self.local_part
    }

    /// The part after the `@`.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// False when SMTPUTF8 is needed to carry it (RFC 6531).
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        self.local_part.written.is_ascii() && self.domain.0.is_ascii()
    }

    /// The one spelling under which lists and limits know this address, however it is written: ASCII lower case,
    /// quoted only where the local part needs it, the domain in A-labels.
    #[must_use]
    pub fn key(&self) -> String {
        let (name, domain) = (self.local_part.value().to_ascii_lowercase(), self.domain.to_ascii());
        if is_dot_string(&name) { format!("{name}@{domain}") } else { format!("{}@{domain}", quoted(&name)) }
    }

    /// Equal without regard to ASCII case, and to how the domain is written: the comparison for permissions.
    ///
    /// Only ASCII: by Unicode's rules the Kelvin sign is a `k`, and a permission for one would cover the other.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        self.local_part.value().eq_ignore_ascii_case(other.local_part.value())
            && (self.domain == other.domain || self.domain.to_ascii() == other.domain.to_ascii())
    }
}

/// The `@` that ends the local part: the first one outside of quotes.
fn end_of_local_part(text: &str) -> Option<usize> {
    if !text.starts_with('"') {
        return text.find('@');
    }
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return (text.as_bytes().get(at + 1) == Some(&b'@')).then_some(at + 1),
            _ => {}
        }
    }
    None
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local_part, self.domain)
    }
}

impl std::str::FromStr for Mailbox {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

/// Where delivery problems are reported (RFC 5321 §4.5.5).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ReversePath {
    /// `<>`, as DSNs use: a failure is recorded, and nobody is mailed about it.
    Null,
    /// A mailbox.
    Mailbox(Mailbox),
}

impl ReversePath {
    /// Reads `<>` or `<mailbox>`; a source route is dropped.
    ///
    /// # Errors
    /// Not a path.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        match inner_of(text)? {
            "" => Ok(Self::Null),
            inner => Mailbox::parse(without_route(inner)?).map(Self::Mailbox),
        }
    }

    /// The mailbox, if there is one.
    #[must_use]
    pub fn mailbox(&self) -> Option<&Mailbox> {
        match self {
            Self::Null => None,
            Self::Mailbox(mailbox) => Some(mailbox),
        }
    }
}

impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => Ok(()),
            Self::Mailbox(mailbox) => mailbox.fmt(f),
        }
    }
}

/// A recipient. Printed without its brackets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ForwardPath(Mailbox);

impl ForwardPath {
    /// Reads `<mailbox>`; a source route is dropped (RFC 5321 appendix C).
    ///
    /// # Errors
    /// Not a path, or a postmaster without domain.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let inner = without_route(inner_of(text)?)?;
        if inner.is_empty() {
            return Err(AddressError::Empty);
        }
        if inner.eq_ignore_ascii_case("postmaster") {
            return Err(AddressError::BarePostmaster);
        }
        Mailbox::parse(inner).map(Self)
    }

    /// The mailbox.
    #[must_use]
    pub fn mailbox(&self) -> &Mailbox {
        &self.0
    }
}

impl From<Mailbox> for ForwardPath {
    fn from(mailbox: Mailbox) -> Self {
        Self(mailbox)
    }
}

impl fmt::Display for ForwardPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn inner_of(path: &str) -> Result<&str, AddressError> {
    if path.len() > MAX_PATH + 512 {
        return Err(AddressError::TooLong);
    }
    path.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).ok_or(AddressError::Brackets)
}

/// `@a.example,@b.example:ana@c.example` names only `ana@c.example`.
fn without_route(inner: &str) -> Result<&str, AddressError> {
    if !inner.starts_with('@') {
        return Ok(inner);
    }
    let (route, mailbox) = inner.split_once(':').ok_or(AddressError::NoDomain)?;
    let hop = |text: &str| text.strip_prefix('@').is_some_and(|domain| Domain::parse(domain).is_ok());
    if route.split(',').all(hop) { Ok(mailbox) } else { Err(AddressError::Domain) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_rfc_5321_allows_is_read_and_printed_as_given() {
        for text in [
            "ana@example.com",
            "Ana.Maria+tag@EXAMPLE.com",
            "\"ana maria\"@example.com",
            "\"a\\\"b@c\"@example.com",
            "ana@[192.0.2.1]",
            "ana@[IPv6:2001:db8::1]",
            "!#$%&'*+-/=?^_`{|}~@example.com",
            "añá@éxample.es",
            "x@xn--exmple-cua.com",
        ] {
            let mailbox = Mailbox::parse(text).unwrap();
            assert_eq!(mailbox.to_string(), text);
        }
    }

    #[test]
    fn every_spelling_of_an_address_has_one_key() {
        for (key, spellings) in [
            ("ana@example.com", ["ana@example.com", "Ana@EXAMPLE.com", "\"ana\"@example.com", "\"a\\na\"@example.com"].as_slice()),
            ("\"ana maria\"@example.com", &["\"ana maria\"@example.com", "\"ana\\ Maria\"@example.com"]),
            ("\"a\\\"\\\\b@c\"@example.com", &["\"a\\\"\\\\\\b@c\"@example.com"]),
            ("\"\"@example.com", &["\"\"@example.com"]),
            ("x@xn--exmple-qta.com", &["x@ex\u{e1}mple.com", "X@XN--EXMPLE-QTA.com"]),
        ] {
            for text in spellings {
                let mailbox = Mailbox::parse(text).unwrap();
                assert_eq!(mailbox.key(), key, "{text}");
                assert_eq!(Mailbox::parse(key).unwrap().key(), key);
            }
        }
    }

    #[test]
    fn what_is_no_mailbox_is_refused() {
        let long = format!("{}@example.com", "a".repeat(65));
        for text in [
            "",
            "ana",
            "@example.com",
            "ana@",
            "a b@example.com",
            ".ana@example.com",
            "ana.@example.com",
            "a..b@example.com",
            "ana@-example.com",
            "ana@example-.com",
            "ana@exa mple.com",
            "ana@[300.0.0.1]",
            "ana@[IPv6:zz]",
            "ana@[192.0.2.1",
            "\"ana@example.com",
            "\"ana\"x@example.com",
            "ana@exam\u{0}ple.com",
            "ana\r\n@example.com",
            "\"a\r\nb\"@example.com",
            "ana@example..com",
            "ana@b@example.com",
            "ana@example.com.",
            "ana@exam\u{ff0f}ple.com",
            "ana@b\u{ff20}exämple.com",
            "ana\u{202e}@example.com",
            "\"ana\u{2028}\"@example.com",
            &format!("ana@{}.example", "é".repeat(60)),
            &long,
        ] {
            assert!(Mailbox::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn quotes_change_nothing_about_who_is_meant() {
        let plain = Mailbox::parse("ana@example.com").unwrap();
        let quoted = Mailbox::parse("\"ana\"@Example.COM").unwrap();
        assert_eq!(plain, quoted);
        assert!(plain.matches(&Mailbox::parse("ANA@example.com").unwrap()));
        assert_ne!(plain, Mailbox::parse("ANA@example.com").unwrap());
    }

    #[test]
    fn a_character_that_lowers_to_an_ascii_letter_is_not_that_letter() {
        let own = Mailbox::parse("k@example.com").unwrap();
        assert!(own.matches(&Mailbox::parse("K@example.com").unwrap()));
        assert!(!own.matches(&Mailbox::parse("\u{212a}@example.com").unwrap()));
    }

    #[test]
    fn paths_stand_in_brackets_and_lose_their_routes() {
        assert_eq!(ReversePath::parse("<>"), Ok(ReversePath::Null));
        assert_eq!(ForwardPath::parse("<@a.example,@b.example:ana@example.com>").unwrap().to_string(), "ana@example.com");
        assert_eq!(ForwardPath::parse("<>"), Err(AddressError::Empty));
        assert_eq!(ForwardPath::parse("<PostMaster>"), Err(AddressError::BarePostmaster));
        for bad in
            ["ana@example.com", "<ana@example.com", "<ana@example.com>x", "<@a.example ana@example.com>", "< ana@example.com>"]
        {
            assert!(ForwardPath::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_domain_is_compared_in_a_labels() {
        let domain = Domain::parse("ÉXAMPLE.es").unwrap();
        assert_eq!(domain.to_ascii(), "xn--xample-9ua.es");
        assert!(Mailbox::parse("a@éxample.es").unwrap().matches(&Mailbox::parse("a@xn--xample-9ua.es").unwrap()));
    }

    proptest! {
        #[test]
        fn whatever_is_read_reads_back_the_same(text in ".{0,80}") {
            if let Ok(mailbox) = Mailbox::parse(&text) {
                prop_assert_eq!(mailbox.to_string(), text.clone());
                prop_assert!(!text.chars().any(char::is_control));
                prop_assert_eq!(Mailbox::parse(&mailbox.to_string()).unwrap(), mailbox);
            }
        }
    }
}
