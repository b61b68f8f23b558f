//! How an address stands behind an idempotency key once it is forgotten.

use super::record::CarriedKey;
use aws_lc_rs::digest::{Context, SHA256};
use std::fmt::Write;

/// An address as a hash under the fingerprint of what was sent with the key: who repeats that is recognised, and nobody
/// reads the address. What is hidden already stays as it is.
pub(crate) fn hidden(fingerprint: &[u8; 32], address: &str) -> String {
    if address.starts_with('#') && !address.contains('@') {
        return address.to_owned();
    }
    let mut context = Context::new(&SHA256);
    context.update(fingerprint);
    context.update(address.to_lowercase().as_bytes());
    context.finish().as_ref().iter().fold("#".to_owned(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl CarriedKey {
    /// Hides everybody who was accepted under it.
    pub(crate) fn hide(&mut self) {
        for address in &mut self.recipients {
            *address = hidden(&self.fingerprint, address);
        }
    }
}
