//! How many connections are let in, in total and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts open connections and turns away those beyond the limits.
#[derive(Debug)]
pub struct Caps {
    most: usize,
    most_per_address: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// Why a connection is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Too many in all.
    Total,
    /// Too many from this address.
    Address,
}

impl Caps {
    /// At most so many connections in total, and from one address.
    #[must_use]
    pub fn new(most: usize, most_per_address: usize) -> Arc<Self> {
        Arc::new(Self { most, most_per_address, open: Mutex::default() })
    }

    /// A place for a connection, kept until it is dropped. `None` for a peer whose address is not counted.
    ///
    /// # Errors
    /// Which limit is reached.
    pub fn admit(self: &Arc<Self>, peer: Option<IpAddr>) -> Result<Seat, Full> {
        let peer = peer.map(site);
        let mut open = self.lock();
        if open.total >= self.most {
            return Err(Full::Total);
        }
        if let Some(peer) = peer {
            let count = open.by_address.get(&peer).copied().unwrap_or(0);
            if count >= self.most_per_address {
                return Err(Full::Address);
            }
            open.by_address.insert(peer, count + 1);
        }
        open.total += 1;
        Ok(Seat { caps: Arc::clone(self), peer })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place among those that are open.
#[derive(Debug)]
pub struct Seat {
    caps: Arc<Caps>,
    peer: Option<IpAddr>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = self.caps.lock();
        open.total -= 1;
        let Some(peer) = self.peer else { return };
        match open.by_address.get_mut(&peer) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(open.by_address.remove(&peer)),
        }
    }
}

/// What counts as one address: an IPv4 address, or the /64 that an IPv6 site owns whole.
#[must_use]
pub fn site(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & !u128::from(u64::MAX)).into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_connection_is_gone() {
        let caps = Caps::new(3, 2);
        let (ana, luis): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let first = caps.admit(Some(ana)).unwrap();
        let second = caps.admit(Some("::ffff:192.0.2.1".parse().unwrap())).unwrap();
        assert_eq!(caps.admit(Some(ana)).unwrap_err(), Full::Address);
        let third = caps.admit(Some(luis)).unwrap();
        assert_eq!(caps.admit(None).unwrap_err(), Full::Total);
        drop(first);
        drop(caps.admit(Some(ana)).unwrap());
        drop((second, third));
        assert_eq!(caps.lock().total, 0);
        assert!(caps.lock().by_address.is_empty());
    }

    #[test]
    fn a_site_with_many_ipv6_addresses_counts_as_one() {
        let caps = Caps::new(10, 1);
        let _first = caps.admit(Some("2001:db8::1".parse().unwrap())).unwrap();
        assert_eq!(caps.admit(Some("2001:db8::ffff:2".parse().unwrap())).unwrap_err(), Full::Address);
        assert!(caps.admit(Some("2001:db8:0:1::1".parse().unwrap())).is_ok());
    }
}
