//! For tests.
use crate::resolve::{LookupError, Names};
use futures_util::future::BoxFuture;
use std::collections::HashMap;
use std::net::IpAddr;

/// Names that are known beforehand.
pub struct FixedNames(HashMap<String, Vec<IpAddr>>);

impl FixedNames {
    /// Names and their addresses.
    #[must_use]
    pub fn new(names: &[(&str, &[&str])]) -> Self {
        let address = |text: &&str| text.parse().expect("an address in a test");
        Self(names.iter().map(|(name, addresses)| ((*name).to_owned(), addresses.iter().map(address).collect())).collect())
    }
}

impl Names for FixedNames {
    fn lookup<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, LookupError>> {
        let found = self.0.get(name).cloned().ok_or(LookupError::NoAddress);
        Box::pin(async move { found })
    }
}
