//! What the doors count, for whoever reads it.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the process began.
#[derive(Debug, Default)]
pub struct IntakeCounters {
    accepted: AtomicU64,
    replayed: AtomicU64,
    refused: AtomicU64,
    deferred: AtomicU64,
    over_cap: AtomicU64,
    connections: AtomicU64,
    connections_open: AtomicU64,
    connections_refused: AtomicU64,
    logins: AtomicU64,
    logins_failed: AtomicU64,
}

/// [`IntakeCounters`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IntakeCounts {
    /// Messages made durable.
    pub accepted: u64,
    /// Submissions that were known by their key.
    pub replayed: u64,
    /// Submissions that will never be taken as they are.
    pub refused: u64,
    /// Submissions that may be taken later.
    pub deferred: u64,
    /// Those of them that were put off because of a cap of open mail.
    pub over_cap: u64,
    /// SMTP connections that were let in.
    pub connections: u64,
    /// SMTP connections open now.
    pub connections_open: u64,
    /// SMTP connections that were turned away: too many, or from outside the trusted networks.
    pub connections_refused: u64,
    /// SMTP logins that succeeded.
    pub logins: u64,
    /// SMTP logins that failed.
    pub logins_failed: u64,
}

impl IntakeCounters {
    /// All counts; each is exact, and together they are of about the same moment.
    #[must_use]
    pub fn read(&self) -> IntakeCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        IntakeCounts {
            accepted: read(&self.accepted),
            replayed: read(&self.replayed),
            refused: read(&self.refused),
            deferred: read(&self.deferred),
            over_cap: read(&self.over_cap),
            connections: read(&self.connections),
            connections_open: read(&self.connections_open),
            connections_refused: read(&self.connections_refused),
            logins: read(&self.logins),
            logins_failed: read(&self.logins_failed),
        }
    }

    pub(crate) fn accepted(&self, replayed: bool) {
        add(if replayed { &self.replayed } else { &self.accepted });
    }

    /// A message was refused, for good or until later.
    pub(crate) fn refused(&self, for_good: bool) {
        add(if for_good { &self.refused } else { &self.deferred });
    }

    /// What was put off was so because of a cap of open mail.
    pub(crate) fn over_cap(&self) {
        add(&self.over_cap);
    }

    pub(crate) fn opened(&self) {
        add(&self.connections);
        add(&self.connections_open);
    }

    pub(crate) fn closed(&self) {
        self.connections_open.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn turned_away(&self) {
        add(&self.connections_refused);
    }

    pub(crate) fn login(&self, good: bool) {
        add(if good { &self.logins } else { &self.logins_failed });
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
