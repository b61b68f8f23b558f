//! A next hop's name as a person wrote it: a DNS name or an address literal, and nothing that looks like one.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A host that may be looked up or connected to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A DNS name: lower case A-labels, without final dot.
    Name(String),
    /// An address, written as dotted quad or as IPv6 in brackets.
    Address(IpAddr),
}

/// Why text is no host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing there.
    #[error("the host is empty")]
    Empty,
    /// A character that no host has.
    #[error("'{0}' does not belong in a host name")]
    Character(char),
    /// A control or invisible character.
    #[error("the host holds a space, a control character or an invisible one")]
    Invisible,
    /// A port, or IPv6 without brackets.
    #[error("write the host without its port, and an IPv6 address in brackets: [2001:db8::1]")]
    Colon,
    /// Not an IPv6 address in the brackets.
    #[error("what stands in the brackets is no IPv6 address")]
    Ipv6,
    /// Numbers, but no dotted quad.
    #[error("write an IPv4 address as four decimal numbers without leading zeros: 192.0.2.1")]
    Ipv4,
    /// A label or the whole is no DNS name.
    #[error("this is no DNS name")]
    Name,
    /// Letters that only look like, or are replaced by, others.
    #[error("the name holds characters that stand for others; write it as it is registered")]
    Lookalike,
}

impl Host {
    /// Reads a host strictly: one way to write each, so that what is checked is what is meant.
    ///
    /// # Errors
    /// Octal, hexadecimal, short or integer IPv4, userinfo, percent signs, ports, full-width characters,
    /// and whatever else is neither a DNS name (IDNA 2008) nor an address literal.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        if text.is_empty() {
            return Err(HostError::Empty);
        }
        if let Some(literal) = text.strip_prefix('[') {
            let inner = literal.strip_suffix(']').ok_or(HostError::Ipv6)?;
            return inner.parse::<Ipv6Addr>().map(|ip| Self::Address(ip.into())).map_err(|_| HostError::Ipv6);
        }
        for c in text.chars() {
            match c {
                ':' => return Err(HostError::Colon),
                c if c.is_control() || c.is_whitespace() => return Err(HostError::Invisible),
                c if c.is_ascii() && !(c.is_ascii_alphanumeric() || c == '-' || c == '.') => return Err(HostError::Character(c)),
                _ => {}
            }
        }
        if ends_in_a_number(text) {
            return text.parse::<Ipv4Addr>().map(|ip| Self::Address(ip.into())).map_err(|_| HostError::Ipv4);
        }
        let ascii = if text.is_ascii() { text.to_ascii_lowercase() } else { to_a_labels(text)? };
        if ends_in_a_number(&ascii) {
            return Err(HostError::Lookalike);
        }
        if !is_dns_name(&ascii) {
            return Err(HostError::Name);
        }
        Ok(Self::Name(ascii))
    }

    /// True for `localhost` and names below it, which mean this machine whatever DNS says (RFC 6761 §6.3).
    #[must_use]
    pub fn is_localhost(&self) -> bool {
        matches!(self, Self::Name(name) if name == "localhost" || name.ends_with(".localhost"))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(ip)) => ip.fmt(f),
            Self::Address(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

/// As URL parsers see it: such a host is an IPv4 address in one of its many spellings.
fn ends_in_a_number(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let last = text.rsplit('.').next().unwrap_or_default();
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    let is_hex = hex.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    is_hex || (!last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()))
}

fn to_a_labels(text: &str) -> Result<String, HostError> {
    let lower = text.to_lowercase();
    let ascii = idna::domain_to_ascii_strict(&lower).map_err(|_| HostError::Name)?;
    let (back, valid) = idna::domain_to_unicode(&ascii);
    valid.map_err(|_| HostError::Name)?;
    // Whatever IDNA maps onto something else (full-width digits, the ideographic full stop) is refused.
    if back == lower { Ok(ascii) } else { Err(HostError::Lookalike) }
}

fn is_dns_name(ascii: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-') && is_a_label_if_it_says_so(label)
    };
    ascii.len() <= 253 && ascii.split('.').all(label)
}

fn is_a_label_if_it_says_so(label: &str) -> bool {
    !label.starts_with("xn--") || idna::domain_to_unicode(label).1.is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_host_has_one_spelling_and_tricks_have_none() {
        let name = |text: &str| Ok(Host::Name(text.to_owned()));
        let address = |text: &str| Ok(Host::Address(text.parse().unwrap()));
        let rows = [
            ("smtp.example.com", name("smtp.example.com")),
            ("SMTP.Example.COM", name("smtp.example.com")),
            ("localhost", name("localhost")),
            ("mail-1.example", name("mail-1.example")),
            ("3com.example", name("3com.example")),
            ("1.2.3.4.example", name("1.2.3.4.example")),
            ("bücher.example", name("xn--bcher-kva.example")),
            ("BÜCHER.example", name("xn--bcher-kva.example")),
            ("xn--bcher-kva.example", name("xn--bcher-kva.example")),
            ("192.0.2.1", address("192.0.2.1")),
            ("127.0.0.1", address("127.0.0.1")),
            ("[2001:db8::1]", address("2001:db8::1")),
            ("[::ffff:10.0.0.1]", address("::ffff:10.0.0.1")),
            ("", Err(HostError::Empty)),
            (".", Err(HostError::Name)),
            ("a..b", Err(HostError::Name)),
            (".a", Err(HostError::Name)),
            ("example.com.", Err(HostError::Name)),
            ("-a.example", Err(HostError::Name)),
            ("a-.example", Err(HostError::Name)),
            ("xn--zzzzzz99999.example", Err(HostError::Name)),
            ("0177.0.0.1", Err(HostError::Ipv4)),
            ("127.0.0.01", Err(HostError::Ipv4)),
            ("0x7f.0.0.1", Err(HostError::Ipv4)),
            ("0x7f000001", Err(HostError::Ipv4)),
            ("0X7F000001", Err(HostError::Ipv4)),
            ("127.0.0.0x1", Err(HostError::Ipv4)),
            ("2130706433", Err(HostError::Ipv4)),
            ("127.1", Err(HostError::Ipv4)),
            ("127.0.1", Err(HostError::Ipv4)),
            ("0", Err(HostError::Ipv4)),
            ("0x", Err(HostError::Ipv4)),
            ("127.0.0.1.", Err(HostError::Ipv4)),
            ("256.0.0.1", Err(HostError::Ipv4)),
            ("1.2.3.4.5", Err(HostError::Ipv4)),
            ("example.com:25", Err(HostError::Colon)),
            ("127.0.0.1:25", Err(HostError::Colon)),
            ("::1", Err(HostError::Colon)),
            ("[::1", Err(HostError::Ipv6)),
            ("[::1]:25", Err(HostError::Ipv6)),
            ("[fe80::1%eth0]", Err(HostError::Ipv6)),
            ("[127.0.0.1]", Err(HostError::Ipv6)),
            ("[]", Err(HostError::Ipv6)),
            ("user@example.com", Err(HostError::Character('@'))),
            ("a%2eb", Err(HostError::Character('%'))),
            ("example.com/x", Err(HostError::Character('/'))),
            ("example.com?x", Err(HostError::Character('?'))),
            ("example.com#x", Err(HostError::Character('#'))),
            ("a\\b", Err(HostError::Character('\\'))),
            ("a_b.example", Err(HostError::Character('_'))),
            ("a b", Err(HostError::Invisible)),
            (" example.com", Err(HostError::Invisible)),
            ("example.com\r\n", Err(HostError::Invisible)),
            ("a\0b", Err(HostError::Invisible)),
            ("a\u{a0}b", Err(HostError::Invisible)),
            ("１２７.0.0.1", Err(HostError::Ipv4)),
            ("127.0.0.１", Err(HostError::Lookalike)),
            ("127。0。0。1", Err(HostError::Lookalike)),
            ("ｅxample.com", Err(HostError::Lookalike)),
            ("exa\u{ad}mple.com", Err(HostError::Lookalike)),
            ("①.example", Err(HostError::Lookalike)),
        ];
        for (text, expected) in rows {
            assert_eq!(Host::parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn labels_and_names_have_a_greatest_length() {
        let label = "a".repeat(63);
        assert!(Host::parse(&format!("{label}.example")).is_ok());
        assert_eq!(Host::parse(&format!("a{label}.example")), Err(HostError::Name));
        assert_eq!(Host::parse(&[label.as_str(); 4].join(".")), Err(HostError::Name));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn what_is_read_is_written_the_same_and_read_again(text in "[a-z0-9.\\-:\\[\\]xX１ü%@]{0,20}") {
            if let Ok(host) = Host::parse(&text) {
                prop_assert_eq!(Host::parse(&host.to_string()), Ok(host));
            }
        }
    }
}
