//! What a reply only repeats: words that the message brought along are not the next hop's own.
//!
//! `550 5.1.1 <"relay access denied"@example.com>: no such user` says nothing of relaying.

use super::row::fold;
use smtp::Mailbox;
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// What a message brings along and a reply may repeat. The longest text comes first, so that an address is left out before
/// the local part that it begins with.
#[derive(Clone, Debug, Default)]
pub struct Brought(BTreeSet<(Reverse<usize>, String)>);

impl Brought {
    /// An address of the envelope: as it is written, without its quotes, and its local part alone.
    pub fn address(&mut self, mailbox: &Mailbox) {
        let (local, domain) = (mailbox.local_part(), mailbox.domain());
        for local in [local.as_str(), local.value()] {
            self.text(&format!("{local}@{domain}"));
            self.text(local);
        }
    }

    /// A text of the message, such as its subject.
    pub fn text(&mut self, text: &str) {
        let text = fold(text);
        if !text.is_empty() {
            self.0.insert((Reverse(text.len()), text));
        }
    }
}

/// The words of a reply, folded, and which of them it may only repeat.
pub(super) struct Words<'a> {
    pub text: String,
    brought: &'a Brought,
    addresses: Vec<String>,
    quoted: Vec<String>,
}

impl<'a> Words<'a> {
    pub(super) fn new(text: &str, brought: &'a Brought) -> Self {
        let text = fold(text);
        let addresses = spans(&text, '<', '>').filter(|span| span.contains('@')).map(str::to_owned).collect();
        let quoted = spans(&text, '"', '"').map(str::to_owned).collect();
        Self { text, brought, addresses, quoted }
    }

    /// True when the reply says it in words of its own. `strictly`: what stands in quotation marks is not its own either.
    pub(super) fn say(&self, fragment: &str, strictly: bool) -> bool {
        if fragment.is_empty() || !self.text.contains(fragment) {
            return fragment.is_empty();
        }
        let quoted: &[String] = if strictly { &self.quoted } else { &[] };
        self.without(quoted, |repeated| repeated.contains(fragment)).contains(fragment)
    }

    /// The reply without what stands in it as an address or in quotation marks, and without what the message brought
    /// along and `misleads`.
    pub(super) fn own(&self, misleads: impl Fn(&str) -> bool) -> String {
        let is_span = |repeated: &str| self.quoted.iter().chain(&self.addresses).any(|span| span == repeated);
        self.without(&self.quoted, |repeated| is_span(repeated) || misleads(repeated))
    }

    fn without(&self, quoted: &[String], leave_out: impl Fn(&str) -> bool) -> String {
        let repeated = self.addresses.iter().chain(self.brought.0.iter().map(|(_, text)| text)).chain(quoted);
        let repeated = repeated.filter(|repeated| leave_out(repeated));
        repeated.fold(self.text.clone(), |text, repeated| text.replace(repeated.as_str(), "\u{fffd}"))
    }
}

/// What stands between two marks, the marks included.
fn spans(text: &str, open: char, close: char) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let start = rest.find(open)?;
        let length = rest[start + 1..].find(close)? + 2;
        let span = &rest[start..start + length];
        rest = &rest[start + length..];
        Some(span)
    })
}
