//! Which addresses may be reached: public ones on the ports of mail, and what the operator named.
//!
//! Channels are written by people who must not reach the operator's own network by them. Every
//! address that a name has is checked, and the connection goes to an address that was checked.

use crate::host::Host;
use mail::channel::TlsMode;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::str::FromStr;

/// The ports that mail is handed over on.
pub const MAIL_PORTS: [u16; 5] = [25, 465, 587, 2525, 2587];

/// What the operator allows beyond public addresses and the ports of mail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allow(Vec<AllowEntry>);

/// One permission: `10.1.2.3:587`, `10.0.0.0/8:25-587`, `[fd00::/8]:25`, `mail.internal.example:2500`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowEntry {
    what: Network,
    ports: RangeInclusive<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Network {
    Name(String),
    /// Network address and length of its prefix.
    Block(IpAddr, u8),
}

/// Why text is no permission.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}': {problem}; write ADDR:PORT, NETWORK/BITS:PORT, NAME:PORT or with PORT-PORT, IPv6 in brackets")]
pub struct AllowError {
    /// As it was written.
    pub text: String,
    /// What is wrong.
    pub problem: String,
}

/// Why no contact was made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// Not a port of mail.
    #[error("port {0} is none of 25, 465, 587, 2525, 2587 and not in [network] allow")]
    Port(u16),
    /// One of the addresses is not public.
    #[error("{0} is or leads to an address that is not public, and is not in [network] allow")]
    Address(String),
    /// Clear text to a host that the operator did not name.
    #[error("without TLS only hosts in [network] allow may be reached, and {0} is not there")]
    Clear(String),
}

impl Allow {
    /// Reads permissions.
    ///
    /// # Errors
    /// The first that is none.
    pub fn parse<S: AsRef<str>>(entries: &[S]) -> Result<Self, AllowError> {
        entries.iter().map(|entry| entry.as_ref().parse()).collect::<Result<_, _>>().map(Self)
    }

    /// True if this name is allowed on this port, wherever it leads.
    #[must_use]
    pub fn permits_name(&self, name: &str, port: u16) -> bool {
        self.0.iter().any(|entry| entry.ports.contains(&port) && matches!(&entry.what, Network::Name(allowed) if allowed == name))
    }

    /// True if this address is allowed on this port.
    #[must_use]
    pub fn permits(&self, address: IpAddr, port: u16) -> bool {
        let covers = |entry: &AllowEntry| match &entry.what {
            Network::Name(_) => false,
            Network::Block(network, bits) => is_within(address.to_canonical(), *network, *bits),
        };
        self.0.iter().any(|entry| entry.ports.contains(&port) && covers(entry))
    }

    /// True if some entry allows the port, for whatever address or name.
    fn mentions(&self, port: u16) -> bool {
        self.0.iter().any(|entry| entry.ports.contains(&port))
    }

    /// Refuses before any look-up what no answer could allow.
    ///
    /// # Errors
    /// The port.
    pub fn check_port(&self, port: u16) -> Result<(), Forbidden> {
        if MAIL_PORTS.contains(&port) || self.mentions(port) { Ok(()) } else { Err(Forbidden::Port(port)) }
    }

    /// Checks all addresses of a host.
    ///
    /// # Errors
    /// If any of them must not be reached: then none may be.
    pub fn check(&self, host: &Host, port: u16, tls: TlsMode, addresses: &[IpAddr]) -> Result<(), Forbidden> {
        let named = matches!(host, Host::Name(name) if self.permits_name(name, port));
        let allowed = |address: &IpAddr| named || self.permits(*address, port);
        if addresses.iter().all(allowed) {
            return Ok(());
        }
        if !MAIL_PORTS.contains(&port) {
            return Err(Forbidden::Port(port));
        }
        if !addresses.iter().all(|address| allowed(address) || is_global(*address)) {
            return Err(Forbidden::Address(host.to_string()));
        }
        match tls {
            TlsMode::Implicit | TlsMode::Starttls => Ok(()),
            TlsMode::None => Err(Forbidden::Clear(host.to_string())),
        }
    }
}

impl FromStr for AllowEntry {
    type Err = AllowError;

    fn from_str(text: &str) -> Result<Self, AllowError> {
        let wrong = |problem: String| AllowError { text: text.to_owned(), problem };
        let (what, ports) = text.rsplit_once(':').ok_or_else(|| wrong("the port is missing".into()))?;
        let ports = read_ports(ports).map_err(wrong)?;
        let what = read_network(what).map_err(wrong)?;
        Ok(Self { what, ports })
    }
}

impl fmt::Display for AllowEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            Network::Name(name) => f.write_str(name)?,
            Network::Block(IpAddr::V4(ip), 32) => write!(f, "{ip}")?,
            Network::Block(IpAddr::V4(ip), bits) => write!(f, "{ip}/{bits}")?,
            Network::Block(IpAddr::V6(ip), 128) => write!(f, "[{ip}]")?,
            Network::Block(IpAddr::V6(ip), bits) => write!(f, "[{ip}/{bits}]")?,
        }
        match (self.ports.start(), self.ports.end()) {
            (first, last) if first == last => write!(f, ":{first}"),
            (first, last) => write!(f, ":{first}-{last}"),
        }
    }
}

fn read_ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let port = |text: &str| match text.parse::<u16>() {
        Ok(port) if port > 0 && text.bytes().all(|b| b.is_ascii_digit()) => Ok(port),
        _ => Err(format!("'{text}' is no port")),
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = port(first)?..=port(last)?;
    if range.is_empty() { Err(format!("'{text}' runs backwards")) } else { Ok(range) }
}

fn read_network(text: &str) -> Result<Network, String> {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let Some((address, bits)) = inner.unwrap_or(text).split_once('/') else {
        return match Host::parse(text).map_err(|problem| problem.to_string())? {
            Host::Name(name) => Ok(Network::Name(name)),
            Host::Address(ip) => Ok(block(ip, if ip.is_ipv4() { 32 } else { 128 })),
        };
    };
    let ip: IpAddr = match inner {
        Some(_) => address.parse::<Ipv6Addr>().map(IpAddr::from).map_err(|_| format!("'{address}' is no IPv6 address"))?,
        None => address.parse::<Ipv4Addr>().map(IpAddr::from).map_err(|_| format!("'{address}' is no IPv4 address"))?,
    };
    let most = if ip.is_ipv4() { 32 } else { 128 };
    let bits = bits.parse::<u8>().ok().filter(|bits| *bits <= most).ok_or_else(|| format!("'/{bits}' is no length of a prefix"))?;
    if prefix(ip, bits) != prefix_all(ip) {
        return Err(format!("{ip}/{bits} has bits set behind its prefix"));
    }
    Ok(block(ip, bits))
}

/// An IPv4 address in IPv6 clothes is the IPv4 address.
fn block(ip: IpAddr, bits: u8) -> Network {
    match (ip, ip.to_canonical()) {
        (IpAddr::V6(_), IpAddr::V4(v4)) if bits >= 96 => Network::Block(v4.into(), bits - 96),
        _ => Network::Block(ip, bits),
    }
}

fn is_within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    address.is_ipv4() == network.is_ipv4() && prefix(address, bits) == prefix(network, bits)
}

fn prefix_all(ip: IpAddr) -> u128 {
    prefix(ip, if ip.is_ipv4() { 32 } else { 128 })
}

/// The first `bits` of an address, the rest zero.
fn prefix(ip: IpAddr, bits: u8) -> u128 {
    let (value, width) = match ip {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    let behind = u32::from(width - bits.min(width));
    value.checked_shr(behind).and_then(|kept| kept.checked_shl(behind)).unwrap_or(0)
}

/// True for an address of the public Internet that no translation leads back into a private network.
#[must_use]
pub fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_global_v4(v4),
        IpAddr::V6(v6) => is_global_v6(v6),
    }
}

/// IPv4 blocks that are not public (RFC 6890 and its registry).
const SPECIAL_V4: [(Ipv4Addr, u8); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 31, 196, 0), 24),
    (Ipv4Addr::new(192, 52, 193, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    // Multicast, reserved and broadcast.
    (Ipv4Addr::new(224, 0, 0, 0), 3),
];

fn is_global_v4(v4: Ipv4Addr) -> bool {
    !SPECIAL_V4.iter().any(|(network, bits)| is_within(v4.into(), (*network).into(), *bits))
}

fn is_global_v6(v6: Ipv6Addr) -> bool {
    let segments = v6.segments();
    let v4_at = |first: usize| Ipv4Addr::from_bits(u32::from(segments[first]) << 16 | u32::from(segments[first + 1]));
    match segments {
        // IPv4 mapped, IPv4 translated, IPv4 compatible (with :: and ::1), and NAT64 (RFC 6052).
        [0, 0, 0, 0, 0, 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] | [0, 0, 0, 0, 0, 0, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => {
            is_global_v4(v4_at(6))
        }
        // 6to4.
        [0x2002, ..] => is_global_v4(v4_at(1)),
        // Teredo: the server, and the client with its bits inverted.
        [0x2001, 0, ..] => is_global_v4(v4_at(2)) && is_global_v4(Ipv4Addr::from_bits(!v4_at(6).to_bits())),
        // Protocol assignments and documentation.
        [0x2001, second, ..] if second < 0x200 || second == 0xdb8 => false,
        [0x3fff, second, ..] if second < 0x1000 => false,
        // An interface identifier of ISATAP leads to its IPv4 address.
        [0x2000..=0x3fff, _, _, _, 0 | 0x200, 0x5efe, ..] => is_global_v4(v4_at(6)),
        // Only 2000::/3 is given out.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn public_addresses_are_told_from_all_others() {
        for text in [
            "8.8.8.8",
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2002:808:808::1",
            "2001:0:808:808::f7f7:f7f7",
            "::8.8.8.8",
            "2001:4860::8888",
        ] {
            assert!(is_global(ip(text)), "{text} is public");
        }
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::2",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:0:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::808:808",
            "100::1",
            "2001:0:808:808::80ff:fffe",
            "2001:0:a00:1::f7f7:f7f7",
            "2001:2::1",
            "2001:10::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "2002:a00:1::1",
            "2002:c0a8:101::1",
            "2606:4700::5efe:10.0.0.1",
            "2606:4700::200:5efe:10.0.0.1",
            "3fff::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "4000::1",
            "5f00::1",
        ] {
            assert!(!is_global(ip(text)), "{text} is not public");
        }
    }

    #[test]
    fn permissions_read_back_as_they_were_written() {
        for text in
            ["10.1.2.3:587", "127.0.0.1:26000-26009", "10.0.0.0/8:25", "[fd00::/8]:25", "[::1]:2525", "mail.internal.example:2500"]
        {
            assert_eq!(text.parse::<AllowEntry>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_permission_is_refused_with_its_reason() {
        for (text, word) in [
            ("10.1.2.3", "port is missing"),
            ("10.1.2.3:", "no port"),
            ("10.1.2.3:0", "no port"),
            ("10.1.2.3:+25", "no port"),
            ("10.1.2.3:70000", "no port"),
            ("10.1.2.3:30-20", "backwards"),
            ("10.1.2.3/33:25", "prefix"),
            ("10.1.2.3/8:25", "behind its prefix"),
            ("fd00::1:25", "brackets"),
            ("fd00::/8:25", "no IPv4"),
            ("[10.0.0.0/8]:25", "no IPv6"),
            (":25", "empty"),
            ("010.0.0.1:25", "leading zeros"),
            ("*:25", "does not belong"),
        ] {
            let problem = text.parse::<AllowEntry>().unwrap_err().to_string();
            assert!(problem.contains(word), "{text}: {problem}");
        }
    }

    #[test]
    fn one_forbidden_address_forbids_the_host() {
        let allow = Allow::parse(&["10.1.2.3:587", "127.0.0.1:26000-26009", "relay.internal.example:2500"]).unwrap();
        let name = Host::parse("mail.example.com").unwrap();
        let check = |host: &Host, port, tls, addresses: &[&str]| {
            let addresses: Vec<IpAddr> = addresses.iter().map(|text| ip(text)).collect();
            allow.check(host, port, tls, &addresses)
        };
        let tls = TlsMode::Starttls;
        assert_eq!(check(&name, 587, tls, &["8.8.8.8"]), Ok(()));
        assert_eq!(check(&name, 587, tls, &["8.8.8.8", "10.1.2.3"]), Ok(()));
        assert!(matches!(check(&name, 587, tls, &["8.8.8.8", "10.1.2.4"]), Err(Forbidden::Address(_))));
        assert!(matches!(check(&name, 587, tls, &["8.8.8.8", "::1"]), Err(Forbidden::Address(_))));
        assert!(matches!(check(&name, 25, tls, &["10.1.2.3"]), Err(Forbidden::Address(_))));
        assert_eq!(check(&name, 26005, tls, &["127.0.0.1"]), Ok(()));
        assert_eq!(check(&name, 26005, tls, &["::ffff:127.0.0.1"]), Ok(()));
        assert_eq!(check(&name, 26005, tls, &["8.8.8.8"]), Err(Forbidden::Port(26005)));
        assert_eq!(check(&name, 22, tls, &["8.8.8.8"]), Err(Forbidden::Port(22)));
        let relay = Host::parse("relay.internal.example").unwrap();
        assert_eq!(check(&relay, 2500, TlsMode::None, &["192.168.7.7"]), Ok(()));
        assert!(check(&relay, 25, TlsMode::None, &["192.168.7.7"]).is_err());
        assert_eq!(check(&name, 587, TlsMode::None, &["10.1.2.3"]), Ok(()));
        assert!(matches!(check(&name, 587, TlsMode::None, &["8.8.8.8"]), Err(Forbidden::Clear(_))));
    }

    proptest! {
        #[test]
        fn a_private_address_is_private_in_every_wrapping(low in any::<u32>()) {
            let v4 = Ipv4Addr::from_bits(low);
            let [a, b, c, d] = v4.octets().map(u16::from);
            let (high, tail) = (a << 8 | b, c << 8 | d);
            let expected = is_global_v4(v4);
            for wrapped in [
                Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, high, tail),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, tail),
                Ipv6Addr::new(0x2002, high, tail, 1, 2, 3, 4, 5),
                Ipv6Addr::new(0x2001, 0, 0x808, 0x808, 0, 0, !high, !tail),
                Ipv6Addr::new(0x2001, 0, high, tail, 0, 0, 0xf7f7, 0xf7f7),
                Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, tail),
            ] {
                prop_assert_eq!(is_global(wrapped.into()), expected, "{}", wrapped);
            }
        }
    }
}
