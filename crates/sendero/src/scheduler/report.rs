//! The delivery log: one line for each recipient and attempt.

use super::Shared;
use delivery::Outgoing;
use intake::log::address;
use mail::{Channel, Move, Outcome, Timestamp};
use store::{Lease, Settlement};

/// The target of the delivery log's lines.
pub const TARGET: &str = "delivery";

/// Writes a line for each recipient of an attempt.
pub(super) fn log_attempt(
    shared: &Shared,
    row: &Channel,
    outgoing: &Outgoing,
    settlement: &Settlement,
    outcomes: &[(u32, Outcome)],
    began: Timestamp,
) {
    if !tracing::enabled!(target: TARGET, tracing::Level::INFO) {
        return;
    }
    let lease = &outgoing.lease;
    for (settled, (_, outcome)) in settlement.recipients.iter().zip(outcomes) {
        if matches!(outcome, Outcome::Untried) {
            continue;
        }
        let Some(recipient) = lease.envelope.recipients.get(settled.index as usize) else {
            continue;
        };
        let hash = shared.parts.hash_addresses;
        let to = address(hash, recipient.path.to_string());
        let from = address(hash, outgoing.reverse_path.to_string());
        let dsn = settled.said.enhanced.map(|code| code.to_string()).unwrap_or_default();
        let tries = lease.recipients.iter().find(|leased| leased.index == settled.index).map_or(0, |leased| leased.attempts);
        tracing::event!(
            target: TARGET,
            tracing::Level::INFO,
            queue.id = %lease.message,
            from = %from,
            to = %to,
            channel.name = row.name,
            relay = settlement.relay,
            status = word(settled.to),
            attempt = tries + u32::from(settled.counts),
            waited_ms = began.since(lease.accepted_at).as_millis() as u64,
            elapsed_ms = settlement.at.since(began).as_millis() as u64,
            dsn,
            reply = %settled.said,
        );
    }
}

/// Writes a line for each recipient that ends without an attempt.
pub(super) fn log_end(shared: &Shared, channel: &str, lease: &Lease, settlement: &Settlement) {
    let shown = |plain: String| address(shared.parts.hash_addresses, plain);
    let from = shown(lease.envelope.reverse_path.to_string());
    for settled in &settlement.recipients {
        let Some(recipient) = lease.envelope.recipients.get(settled.index as usize) else { continue };
        let tries = lease.recipients.iter().find(|leased| leased.index == settled.index).map_or(0, |leased| leased.attempts);
        tracing::event!(
            target: TARGET,
            tracing::Level::INFO,
            queue.id = %lease.message,
            from = %from,
            to = %shown(recipient.path.to_string()),
            channel.name = channel,
            relay = "",
            status = word(settled.to),
            attempt = tries,
            waited_ms = settlement.at.since(lease.accepted_at).as_millis() as u64,
            elapsed_ms = 0,
            dsn = settled.said.enhanced.map(|code| code.to_string()).unwrap_or_default(),
            reply = %settled.said,
        );
    }
}

/// What became of the recipient, whatever the next hop's first digit said.
fn word(to: Move) -> &'static str {
    match to {
        Move::Send => "sent",
        Move::Capture => "captured",
        Move::Defer => "deferred",
        Move::Fail => "failed",
        Move::Expire => "expired",
        Move::Doubt => "uncertain",
        Move::Hold => "held",
        Move::Suppress => "suppressed",
        // The reply was about the channel, or about others: no attempt is spent.
        Move::GiveBack | Move::Lease | Move::Release | Move::Cancel | Move::Reroute => "kept",
    }
}
