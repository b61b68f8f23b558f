//! From a host as it is written in a channel to addresses that may be connected to.
//!
//! Names are looked up once; all answers are checked, and the connection goes to one of these very
//! addresses, so a name that changes its mind between look-up and connection changes nothing.

use crate::OpenError;
use crate::guard::Allow;
use crate::host::Host;
use futures_util::future::BoxFuture;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use mail::Stage;
use mail::channel::Smarthost;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Why a name has no address now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// The domain does not exist, or has no addresses.
    #[error("the name has no address")]
    NoAddress,
    /// No answer, or none of use.
    #[error("{0}")]
    Failed(String),
}

/// Finds the addresses of DNS names.
pub trait Names: Send + Sync {
    /// All addresses of a name, which is in lower case A-labels without final dot.
    fn lookup<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, LookupError>>;
}

/// The name servers this machine is set up with; answers are kept as long as they allow.
#[derive(Default)]
pub struct SystemNames(Mutex<Option<Arc<TokioResolver>>>);

impl SystemNames {
    /// Made at the first use, and again at the next one while the machine has no setting.
    fn resolver(&self) -> Result<Arc<TokioResolver>, LookupError> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(resolver) = &*kept {
            return Ok(Arc::clone(resolver));
        }
        let unusable = |_| LookupError::Failed("this machine's DNS settings (/etc/resolv.conf) cannot be used".into());
        let mut builder = TokioResolver::builder_tokio().map_err(unusable)?;
        builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        let resolver = Arc::new(builder.build().map_err(unusable)?);
        *kept = Some(Arc::clone(&resolver));
        Ok(resolver)
    }
}

impl Names for SystemNames {
    fn lookup<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, LookupError>> {
        Box::pin(async move {
            let resolver = self.resolver()?;
            // The final dot keeps search domains out of it.
            match resolver.lookup_ip(format!("{name}.")).await {
                Ok(found) => Ok(found.iter().collect()),
                Err(error) if error.is_no_records_found() => Err(LookupError::NoAddress),
                Err(_) => Err(LookupError::Failed("the name servers give no answer".into())),
            }
        })
    }
}

/// Turns hosts into addresses that may be connected to.
#[derive(Clone)]
pub struct Resolver {
    names: Arc<dyn Names>,
    allow: Arc<Allow>,
}

/// A host whose addresses have all been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// What the certificate must name.
    pub host: Host,
    /// At least one.
    pub addresses: Vec<SocketAddr>,
}

impl Resolver {
    /// A resolver that asks `names` and permits what is public or in `allow`.
    #[must_use]
    pub fn new(names: Arc<dyn Names>, allow: Allow) -> Self {
        Self { names, allow: Arc::new(allow) }
    }

    /// The addresses of a smarthost, all of which may be connected to.
    ///
    /// # Errors
    /// The host is none, is not allowed, or has no address now.
    pub async fn target(&self, smarthost: &Smarthost, within: Duration) -> Result<Target, OpenError> {
        let host = Host::parse(&smarthost.host)
            .map_err(|problem| OpenError::Misconfigured(format!("host '{}': {problem}", smarthost.host)))?;
        let port = smarthost.port;
        self.allow.check_port(port).map_err(|forbidden| OpenError::NotAllowed(forbidden.to_string()))?;
        let addresses = match &host {
            Host::Address(ip) => vec![*ip],
            Host::Name(_) if host.is_localhost() => self.loopback(&host, port),
            Host::Name(name) => self.look_up(name, within).await?,
        };
        self.allow
            .check(&host, port, smarthost.tls, &addresses)
            .map_err(|forbidden| OpenError::NotAllowed(forbidden.to_string()))?;
        let addresses = addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
        Ok(Target { host, addresses })
    }

    /// DNS is not asked for `localhost`. Of its addresses those count that the operator allowed;
    /// if none is, the check that follows refuses.
    fn loopback(&self, host: &Host, port: u16) -> Vec<IpAddr> {
        let both = vec![IpAddr::from(Ipv6Addr::LOCALHOST), IpAddr::from(Ipv4Addr::LOCALHOST)];
        if self.allow.permits_name(&host.to_string(), port) {
            return both;
        }
        let allowed: Vec<IpAddr> = both.iter().copied().filter(|ip| self.allow.permits(*ip, port)).collect();
        if allowed.is_empty() { both } else { allowed }
    }

    async fn look_up(&self, name: &str, within: Duration) -> Result<Vec<IpAddr>, OpenError> {
        let broken = |why: String| OpenError::Broken(Stage::Resolve, format!("{name}: {why}"));
        let found = match tokio::time::timeout(within, self.names.lookup(name)).await {
            Ok(found) => found.map_err(|error| broken(error.to_string()))?,
            Err(_) => return Err(broken("the name servers give no answer in time".into())),
        };
        if found.is_empty() { Err(broken(LookupError::NoAddress.to_string())) } else { Ok(found) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::scripted::FixedNames;
    use mail::channel::{AuthMode, TlsMode};

    fn smarthost(host: &str, port: u16) -> Smarthost {
        Smarthost { host: host.into(), port, tls: TlsMode::Starttls, auth: AuthMode::None, username: None }
    }

    async fn target(host: &str, port: u16) -> Result<Vec<String>, OpenError> {
        let names = FixedNames::new(&[
            ("public.example", &["8.8.8.8", "2606:4700::1"]),
            ("private.example", &["10.0.0.1"]),
            ("mixed.example", &["8.8.8.8", "10.0.0.1"]),
            ("mapped.example", &["::ffff:127.0.0.1"]),
            ("empty.example", &[]),
            ("named.internal.example", &["192.168.3.4"]),
            ("localhost", &["8.8.8.8"]),
        ]);
        let allow = Allow::parse(&["127.0.0.1:26000", "named.internal.example:2500"]).unwrap();
        let found = Resolver::new(Arc::new(names), allow).target(&smarthost(host, port), Duration::from_secs(5)).await?;
        Ok(found.addresses.iter().map(SocketAddr::to_string).collect())
    }

    #[tokio::test]
    async fn a_public_host_keeps_all_its_addresses() {
        assert_eq!(target("public.example", 587).await.unwrap(), ["8.8.8.8:587", "[2606:4700::1]:587"]);
        assert_eq!(target("8.8.8.8", 25).await.unwrap(), ["8.8.8.8:25"]);
    }

    #[tokio::test]
    async fn a_host_with_one_private_address_is_not_allowed() {
        for (host, port) in [
            ("private.example", 587),
            ("mixed.example", 587),
            ("mapped.example", 587),
            ("public.example", 22),
            ("public.example", 26000),
            ("10.0.0.1", 587),
            ("[::1]", 587),
            ("[::ffff:7f00:1]", 587),
            ("localhost", 587),
            ("a.localhost", 25),
            ("named.internal.example", 587),
        ] {
            let problem = target(host, port).await.unwrap_err();
            assert!(matches!(problem, OpenError::NotAllowed(_)), "{host}:{port}: {problem}");
        }
    }

    #[tokio::test]
    async fn what_the_operator_named_is_allowed() {
        assert_eq!(target("127.0.0.1", 26000).await.unwrap(), ["127.0.0.1:26000"]);
        assert_eq!(target("named.internal.example", 2500).await.unwrap(), ["192.168.3.4:2500"]);
    }

    #[tokio::test]
    async fn localhost_is_never_asked_of_dns_and_has_the_addresses_that_are_allowed() {
        assert_eq!(target("localhost", 26000).await.unwrap(), ["127.0.0.1:26000"]);
    }

    #[tokio::test]
    async fn a_name_without_address_is_trouble_of_the_channel_that_may_pass() {
        for host in ["empty.example", "unknown.example"] {
            let problem = target(host, 587).await.unwrap_err();
            assert_eq!(problem, OpenError::Broken(Stage::Resolve, format!("{host}: the name has no address")));
        }
    }

    #[tokio::test]
    async fn a_host_that_is_none_is_a_mistake_of_the_channel() {
        assert!(matches!(target("0x7f.1", 587).await, Err(OpenError::Misconfigured(_))));
    }
}
