//! A TCP connection to the first of several addresses that answers (RFC 8305, "happy eyeballs").

use futures_util::stream::{FuturesUnordered, StreamExt};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;

/// How long an attempt has the field to itself before the next address is tried beside it (RFC 8305 §5).
pub const STAGGER: Duration = Duration::from_millis(250);

/// Why no address answered, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreachable(pub String);

/// Connects to one of `addresses`: IPv6 and IPv4 in turns, IPv6 first, the next one after
/// `stagger` or as soon as one fails. The others are dropped when one has answered.
///
/// # Errors
/// None answered `within` this time.
pub async fn connect(
    addresses: &[SocketAddr],
    stagger: Duration,
    within: Duration,
) -> Result<(TcpStream, SocketAddr), Unreachable> {
    let race = race(in_turns(addresses), stagger);
    let (stream, address) = match tokio::time::timeout(within, race).await {
        Ok(Ok(first)) => first,
        Ok(Err(error)) => return Err(Unreachable(in_words(&error))),
        Err(_) => return Err(Unreachable(format!("no connection within {}", seconds(within)))),
    };
    // Replies and commands are waited for in turns: nothing is gained by holding small packets back.
    stream.set_nodelay(true).map_err(|error| Unreachable(in_words(&error)))?;
    Ok((stream, address))
}

/// IPv6 and IPv4 in turns, each family in the order given.
fn in_turns(addresses: &[SocketAddr]) -> VecDeque<SocketAddr> {
    let (v6, v4): (Vec<_>, Vec<_>) = addresses.iter().partition(|address| address.is_ipv6());
    let longer = v6.len().max(v4.len());
    (0..longer).flat_map(|at| [v6.get(at), v4.get(at)]).flatten().copied().collect()
}

async fn race(mut left: VecDeque<SocketAddr>, stagger: Duration) -> io::Result<(TcpStream, SocketAddr)> {
    let mut attempts = FuturesUnordered::new();
    let mut last_error = io::Error::new(io::ErrorKind::AddrNotAvailable, "no address");
    loop {
        if let Some(address) = left.pop_front() {
            attempts.push(async move { (TcpStream::connect(address).await, address) });
        }
        let ended = match left.is_empty() {
            true => attempts.next().await,
            false => match tokio::time::timeout(stagger, attempts.next()).await {
                Ok(ended) => ended,
                Err(_) => continue,
            },
        };
        match ended {
            Some((Ok(stream), address)) => return Ok((stream, address)),
            Some((Err(error), _)) => last_error = error,
            None if left.is_empty() => return Err(last_error),
            None => {}
        }
    }
}

/// A class of error; what the other side sent, if anything, is not in it.
pub(crate) fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".into(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
            "the server broke the connection off".into()
        }
        io::ErrorKind::UnexpectedEof => "the server closed the connection".into(),
        io::ErrorKind::TimedOut => "no answer from the network".into(),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "no route to the server".into(),
        io::ErrorKind::AddrNotAvailable => "no usable address".into(),
        kind => kind.to_string(),
    }
}

/// A time as people say it.
pub(crate) fn seconds(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        1 => "1 second".into(),
        many if many < 120 => format!("{many} seconds"),
        many => format!("{} minutes", many / 60),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::net::TcpListener;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn families_take_turns_and_ipv6_begins() {
        let given = ["192.0.2.1:25", "192.0.2.2:25", "[2001:db8::1]:25", "192.0.2.3:25"].map(address);
        let expected = ["[2001:db8::1]:25", "192.0.2.1:25", "192.0.2.2:25", "192.0.2.3:25"].map(address);
        assert_eq!(in_turns(&given), expected);
    }

    #[tokio::test]
    async fn a_refused_address_gives_way_to_the_next_at_once() {
        let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let alive = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = alive.local_addr().unwrap();
        // With this stagger the test ends only if a refusal is not waited out.
        let (_, chosen) = connect(&[dead, good], Duration::from_secs(3600), Duration::from_secs(20)).await.unwrap();
        assert_eq!(chosen, good);
    }

    #[tokio::test]
    async fn when_all_refuse_it_says_so() {
        let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let problem = connect(&[dead], STAGGER, Duration::from_secs(20)).await.unwrap_err();
        assert_eq!(problem.to_string(), "connection refused");
    }

    #[tokio::test]
    async fn without_addresses_nothing_is_reached() {
        assert_eq!(connect(&[], STAGGER, Duration::from_secs(1)).await.unwrap_err().0, "no usable address");
    }
}
