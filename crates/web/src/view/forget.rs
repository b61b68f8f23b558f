//! An address that is forgotten.

use serde::{Deserialize, Serialize};

/// Asks for an address to be forgotten in mail that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForgetRequest {
    /// The address.
    pub address: String,
    /// Take it off the lists of addresses that are not written to, too.
    #[serde(default)]
    pub with_suppressions: bool,
    /// Only look.
    #[serde(default)]
    pub dry_run: bool,
}

/// What was forgotten, or would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    /// Nothing was forgotten yet.
    pub dry_run: bool,
    /// What stands in the place of the address.
    pub pseudonym: String,
    /// Messages to or from it.
    pub messages: u64,
    /// Those of them that were from it.
    pub sent: u64,
    /// Files of bodies that were removed, or would be.
    pub files: u64,
    /// Lists of addresses that are not written to on which it stands, or stood.
    pub suppressions: u64,
    /// It was taken off them.
    pub suppressions_removed: bool,
    /// Copies of the index as an earlier version had it, which were removed, or would be.
    pub index_copies: u64,
    /// Nothing of it is in the log, in the journal of the index or in files of bodies any more. Asked again, the gateway says whether it is so by then.
    pub log_is_clean: bool,
}
